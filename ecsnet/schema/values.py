"""A default or a bound, from what TOML says to what the model holds: of the field's own type and range.

f32 values are rounded to f32 here, bounds too: `maximum = 0.1` must admit the f32 nearest to 0.1, which is a little
more.
"""

import math
from collections.abc import Mapping

from ecsnet.errors import did_you_mean
from ecsnet.schema.model import Value
from ecsnet.schema.source import Node, shorten, type_name
from ecsnet.schema.types import SCALARS, CellType, to_f32


def read_default(node: Node, cell: CellType, enum: Mapping[str, int] | None) -> Value:
    """The value of `default`, which must be there.

    Raises:
        SchemaError: it is of another type or length, or out of the type's range.
    """
    raw = node.data["default"]
    if enum is not None:
        return _member(node, raw, enum)
    if cell.element == "bytes":
        return _bytes(node, raw, cell.count)
    if not cell.shape:
        return read_number(node, "default", cell.element)
    if not isinstance(raw, list):
        return (_element(node, raw, cell.element, None),) * cell.count
    if len(raw) != cell.count:
        reason = f"{len(raw)} elements for a cell of {cell.count}"
        raise node.error("bad-default", "default", reason, "one element alone stands for all")
    return tuple(_element(node, element, cell.element, index) for index, element in enumerate(raw))


def read_number(node: Node, key: str, element: str) -> bool | int | float:
    """The value of `key`, which must be there, as one element of that type.

    Raises:
        SchemaError: it is of another type or out of the type's range.
    """
    return _element(node, node.data[key], element, None, key)


def _element(node: Node, raw: object, element: str, index: int | None, key: str = "default") -> bool | int | float:
    path = (*node.path, key) if index is None else (*node.path, key, index)
    scalar = SCALARS[element]
    if scalar.kind == "bool":
        if isinstance(raw, bool):
            return raw
        raise node.source.error("wrong-type", path, f"expected true or false, found {type_name(raw)}")
    if isinstance(raw, bool) or not isinstance(raw, (int, float)):
        raise node.source.error("wrong-type", path, f"expected a number for {element}, found {type_name(raw)}")
    if scalar.kind == "int":
        if isinstance(raw, float):
            hint = f"write {int(raw)}" if raw.is_integer() and abs(raw) < 2**53 else "use f32 or f64 for fractions"
            raise node.source.error("wrong-type", path, f"expected an integer for {element}, found {raw!r}", hint)
        if not scalar.minimum <= raw <= scalar.maximum:
            reason = f"{shorten(str(raw))} does not fit {element}, which holds {scalar.minimum} to {scalar.maximum}"
            raise node.source.error("out-of-range", path, reason)
        return raw
    try:
        number = float(raw)
    except OverflowError:
        number = math.inf
    if isinstance(raw, float) and not math.isfinite(raw):
        reason = f"{raw!r} is no value for a schema"
        raise node.source.error("not-finite", path, reason, "leave it out, or give a number")
    if element == "f32":
        number = to_f32(number)
    if not math.isfinite(number):
        raise node.source.error("out-of-range", path, f"{shorten(str(raw))} does not fit {element}")
    return number


def _member(node: Node, raw: object, enum: Mapping[str, int]) -> int:
    if not isinstance(raw, str):
        raise node.wrong_type("default", "the name of a member", raw, f"members: {_some(enum)}")
    if raw not in enum:
        close = did_you_mean(raw, enum)
        hint = f'did you mean "{close}"?' if close else f"members: {_some(enum)}"
        raise node.error("bad-default", "default", f'"{shorten(raw)}" is no member of this enum', hint)
    return enum[raw]


def _some(enum: Mapping[str, int]) -> str:
    names = list(enum)
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def _bytes(node: Node, raw: object, count: int) -> bytes:
    if isinstance(raw, str):
        value = raw.encode()
    elif isinstance(raw, list):
        value = bytes(int(_element(node, element, "u8", index)) for index, element in enumerate(raw))
    else:
        raise node.wrong_type("default", "a string or an array of bytes", raw)
    if len(value) > count:
        raise node.error("bad-default", "default", f"{len(value)} bytes do not fit bytes[{count}]")
    return value.ljust(count, b"\0")
