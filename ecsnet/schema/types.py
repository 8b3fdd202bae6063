"""The types a cell may have: the scalars' facts, and how a type is written in a schema.

Everything about numbers that the schema needs is here, so that a range is written down once: the loader checks
defaults against it, the API values, and the kernel's own table of widths is compared by a test.
"""

import math
import re
import struct
from dataclasses import dataclass
from typing import Final, Literal

from ecsnet.errors import did_you_mean
from ecsnet.limits import ARRAY_LENGTH_MAX, CELL_BYTES_MAX

ScalarClass = Literal["int", "float", "bool", "bytes"]


@dataclass(frozen=True, slots=True)
class Scalar:
    """One element type: its width in bytes, the ends of its range, and its little-endian numpy name."""

    name: str
    kind: ScalarClass
    width: int
    minimum: int | float
    maximum: int | float
    numpy: str


_F32_MAX: Final = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]
_F64_MAX: Final = struct.unpack("<d", b"\xff\xff\xff\xff\xff\xff\xef\x7f")[0]

SCALARS: Final[dict[str, Scalar]] = {
    scalar.name: scalar
    for scalar in (
        *(Scalar(f"u{8 * w}", "int", w, 0, (1 << 8 * w) - 1, f"<u{w}") for w in (1, 2, 4, 8)),
        *(Scalar(f"i{8 * w}", "int", w, -(1 << 8 * w - 1), (1 << 8 * w - 1) - 1, f"<i{w}") for w in (1, 2, 4, 8)),
        Scalar("f32", "float", 4, -_F32_MAX, _F32_MAX, "<f4"),
        Scalar("f64", "float", 8, -_F64_MAX, _F64_MAX, "<f8"),
        Scalar("bool", "bool", 1, 0, 1, "?"),
        # A byte of `bytes[N]`; not a type that a schema may name alone.
        Scalar("bytes", "bytes", 1, 0, 255, "<u1"),
    )
}

_ARRAY: Final = re.compile(r"\[\s*(\w+)\s*;\s*(\d{1,9})\s*\]")
_BYTES: Final = re.compile(r"bytes\s*\[\s*(\d{1,9})\s*\]")
_NAMES: Final = tuple(name for name in SCALARS if name != "bytes")

# What people write from other languages' habits, and what they mean here.
_MEANT: Final = {
    "int": "i32", "integer": "i32", "uint": "u32", "long": "i64", "short": "i16", "byte": "u8", "char": "u8",
    "float": "f32", "double": "f64", "number": "f64", "boolean": "bool", "str": "bytes[N]", "text": "bytes[N]",
    "bytes": "bytes[N]", "vec2": "[f32; 2]", "vec3": "[f32; 3]", "vec4": "[f32; 4]", "quat": "[f32; 4]",
    "entity": 'u64" with foreign_key = "entities.id', "ref": 'u64" with foreign_key = "entities.id',
}  # fmt: skip


class TypeFault(Exception):
    """A type text is wrong; the caller knows the place and turns this into a SchemaError."""

    def __init__(self, code: str, reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True, slots=True)
class CellType:
    """What a type text says: the element's type, how many of them, and the shape of a cell."""

    element: str
    count: int = 1
    shape: tuple[int, ...] = ()
    enum: bool = False


def parse_type(text: str) -> CellType:
    """Read "u16", "[f32; 3]", "bytes[16]" or "enum" (whose element type the caller sets from `storage`).

    Raises:
        TypeFault: anything else.
    """
    stripped = text.strip()
    if stripped in _NAMES:
        return CellType(stripped)
    if stripped == "enum":
        return CellType("u8", enum=True)
    if stripped == "string" or stripped.startswith("string"):
        raise TypeFault("not-built", 'the type "string" is planned and not built yet', 'use "bytes[N]": N bytes inline')
    if match := _BYTES.fullmatch(stripped):
        count = _length(int(match[1]), "bytes")
        return CellType("bytes", count, (count,))
    if match := _ARRAY.fullmatch(stripped):
        element = match[1]
        if element not in _NAMES:
            if element in ("bytes", "enum", "string"):
                raise TypeFault("unknown-type", f"arrays hold numbers and bools, not {element}")
            raise _unknown(element)
        count = _length(int(match[2]), element)
        return CellType(element, count, (count,))
    raise _unknown(stripped)


def _length(count: int, element: str) -> int:
    if count == 0:
        raise TypeFault("array-length", "a length of 0 holds nothing", "lengths begin at 1")
    if count > ARRAY_LENGTH_MAX:
        raise TypeFault(
            "array-length",
            f"a length of {count} is above the limit of {ARRAY_LENGTH_MAX}",
            "a cell is copied and sent whole when it changes: give such data rows of its own",
        )
    width = SCALARS[element].width * count
    if width > CELL_BYTES_MAX:
        raise TypeFault(
            "array-length",
            f"a cell of {width} bytes is above the limit of {CELL_BYTES_MAX}",
            "a cell is copied and sent whole when it changes: give such data rows of its own",
        )
    return count


def _unknown(name: str) -> TypeFault:
    shown = name if len(name) <= 40 else name[:37] + "..."
    meant = did_you_mean(name, (*_NAMES, "enum", *_MEANT))
    meant = _MEANT.get(name.lower()) or _MEANT.get(meant or "", meant)
    if meant is not None:
        hint = f'did you mean "{meant}"?'
    else:
        hint = 'types: u8 to u64, i8 to i64, f32, f64, bool, enum, "[T; N]" and "bytes[N]"'
    return TypeFault("unknown-type", f'"{shown}" is no type', hint)


def to_f32(value: float) -> float:
    """The f32 nearest to `value`, infinite where it does not fit."""
    try:
        rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)
    return rounded
