"""The types a cell may have: the scalars' facts, and how a type is written in a schema.

Everything about numbers that the schema needs is here, so that a range is written down once: the loader checks
defaults against it, the API values, and the kernel's own table of widths is compared by a test.
"""

import math
import re
import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from ecsnet.errors import did_you_mean
from ecsnet.limits import ARRAY_DIMENSIONS_MAX, ARRAY_LENGTH_MAX, CELL_BYTES_MAX

ScalarClass = Literal["int", "float", "bool", "bytes", "string"]


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
        # The cell of a `string[N]`: a reference into the store's heap, 0 for "". Not a type that may be named alone.
        Scalar("string", "string", 8, 0, (1 << 64) - 1, "<u8"),
    )
}

_ARRAY: Final = re.compile(r"\[(.*);\s*(\d{1,9})\s*\]", re.DOTALL)
_BYTES: Final = re.compile(r"bytes\s*\[\s*(\d{1,9})\s*\]")
_STRING: Final = re.compile(r"string\s*\[\s*(\d{1,9})\s*\]")
_NAMES: Final = tuple(name for name, scalar in SCALARS.items() if scalar.kind not in ("bytes", "string"))

TYPE_WORDS: Final = frozenset({*SCALARS, "enum"})
"""What a struct or an enum cannot be called."""

# What people write from other languages' habits, and what they mean here.
_MEANT: Final = {
    "int": "i32", "integer": "i32", "uint": "u32", "long": "i64", "short": "i16", "byte": "u8", "char": "u8",
    "float": "f32", "double": "f64", "number": "f64", "boolean": "bool", "str": "string[N]", "text": "string[N]",
    "bytes": "bytes[N]", "string": "string[N]", "vec2": "[f32; 2]", "vec3": "[f32; 3]", "vec4": "[f32; 4]",
    "quat": "[f32; 4]",
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
    """What a type text says: the element's type, how many of them, and the shape of a cell. A string's `count` is its
    greatest length in bytes, and its shape `()`."""

    element: str
    count: int = 1
    shape: tuple[int, ...] = ()
    enum: bool = False

    @property
    def text(self) -> str:
        """The type as the language writes it; an enum is "enum"."""
        if self.enum:
            return "enum"
        return type_text(self.element, self.count, self.shape)


def type_text(element: str, count: int, shape: tuple[int, ...]) -> str:
    """A type as the language writes it: "f32", "[[f32; 3]; 4]", "bytes[16]", "string[64]"."""
    if element in ("bytes", "string"):
        return f"{element}[{count}]"
    text = element
    for length in reversed(shape):
        text = f"[{text}; {length}]"
    return text


def parse_type(text: str, declared: Collection[str] = ()) -> CellType:
    """Read "u16", "[[f32; 3]; 4]", "bytes[16]", "string[64]", "enum" (whose element type the caller sets from
    `storage`) or one of the `declared` names of structs and enums, which is the element then, alone or in an array.

    Raises:
        TypeFault: anything else.
    """
    inner = text.strip()
    if inner in _NAMES or inner in declared:
        return CellType(inner)
    if inner == "enum":
        return CellType("u8", enum=True)
    if match := _STRING.fullmatch(inner):
        return CellType("string", _length(int(match[1]), "bytes"))
    if match := _BYTES.fullmatch(inner):
        count = _length(int(match[1]), "bytes")
        return CellType("bytes", count, (count,))
    shape: list[int] = []
    while match := _ARRAY.fullmatch(inner):
        inner = match[1].strip()
        shape.append(int(match[2]))
        if len(shape) > ARRAY_DIMENSIONS_MAX:
            raise TypeFault("array-length", f"arrays nest deeper than {ARRAY_DIMENSIONS_MAX} levels")
    if not shape:
        raise _unknown(inner, declared)
    if inner not in _NAMES and inner not in declared:
        if inner == "enum" or _BYTES.fullmatch(inner) or _STRING.fullmatch(inner) or inner in ("bytes", "string"):
            raise TypeFault("unknown-type", f"arrays hold numbers and bools, not {inner.partition('[')[0].rstrip()}")
        raise _unknown(inner, declared)
    return array_of(CellType(inner), tuple(shape))


def array_of(cell: CellType, shape: tuple[int, ...]) -> CellType:
    """An array of that shape of cells of that type.

    Raises:
        TypeFault: a cell would be too wide, or the elements are no numbers or bools.
    """
    if not shape:
        return cell
    if cell.enum or cell.element in ("bytes", "string"):
        what = "enum" if cell.enum else cell.element
        raise TypeFault("unknown-type", f"arrays hold numbers and bools, not {what}")
    count = cell.count
    for length in reversed(shape):
        _length(length, cell.element)
        count = _length(count * length, cell.element)
    shape = (*shape, *cell.shape)
    if len(shape) > ARRAY_DIMENSIONS_MAX:
        raise TypeFault("array-length", f"arrays nest deeper than {ARRAY_DIMENSIONS_MAX} levels")
    return CellType(cell.element, count, shape)


def _length(count: int, element: str) -> int:
    """The length, if a cell of so many elements is allowed; of a struct or enum only the number is known yet."""
    if count == 0:
        raise TypeFault("array-length", "a length of 0 holds nothing", "lengths begin at 1")
    if count > ARRAY_LENGTH_MAX:
        raise TypeFault(
            "array-length",
            f"a length of {count} is above the limit of {ARRAY_LENGTH_MAX}",
            "a cell is copied and sent whole when it changes: give such data rows of its own",
        )
    width = SCALARS[element].width * count if element in SCALARS else count
    if width > CELL_BYTES_MAX:
        raise TypeFault(
            "array-length",
            f"a cell of {width} bytes is above the limit of {CELL_BYTES_MAX}",
            "a cell is copied and sent whole when it changes: give such data rows of its own",
        )
    return count


def _unknown(name: str, declared: Collection[str]) -> TypeFault:
    shown = name if len(name) <= 40 else name[:37] + "..."
    meant = did_you_mean(name, (*_NAMES, "enum", *declared, *_MEANT))
    meant = _MEANT.get(name.lower()) or _MEANT.get(meant or "", meant)
    if meant is not None:
        hint = f'did you mean "{meant}"?'
    else:
        hint = 'types: u8 to u64, i8 to i64, f32, f64, bool, enum, "[T; N]", "bytes[N]" and "string[N]"'
    return TypeFault("unknown-type", f'"{shown}" is no type', hint)


def to_f32(value: float) -> float:
    """The f32 nearest to `value`, infinite where it does not fit."""
    try:
        rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)
    return rounded
