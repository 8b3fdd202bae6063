"""A default or a bound, from what TOML says to what the model holds: of the field's own type and range.

f32 values are rounded to f32 here, bounds too: `maximum = 0.1` must admit the f32 nearest to 0.1, which is a little
more.
"""

import math
from collections.abc import Iterator, Mapping

from ecsnet.errors import did_you_mean
from ecsnet.schema.model import Value
from ecsnet.schema.positions import Path
from ecsnet.schema.source import Node, shorten, type_name
from ecsnet.schema.types import SCALARS, CellType, to_f32


def read_default(node: Node, cell: CellType, enum: Mapping[str, int] | None, key: str = "default") -> Value:
    """The value of `key`, which must be there, as a default of that type.

    Raises:
        SchemaError: it is of another type, shape or length, or out of the type's range.
    """
    raw = node.data[key]
    if enum is not None:
        return _member(node, key, raw, enum)
    if cell.element == "bytes":
        return _bytes(node, key, raw, cell.count)
    if cell.element == "string":
        return _string(node, key, raw, cell.count)
    if not cell.shape:
        return read_number(node, key, cell.element)
    path = (*node.path, key)
    if not isinstance(raw, list):
        return (_element(node, raw, cell.element, path),) * cell.count
    return tuple(_elements(node, raw, cell, cell.shape, path))


def read_number(node: Node, key: str, element: str) -> bool | int | float:
    """The value of `key`, which must be there, as one element of that type.

    Raises:
        SchemaError: it is of another type or out of the type's range.
    """
    return _element(node, node.data[key], element, (*node.path, key))


def check_bounds(
    node: Node, default: Value, low: int | float | None, high: int | float | None, key: str = "default"
) -> None:
    """Check a default against the bounds of its field.

    Raises:
        SchemaError: an element is below or above them.
    """
    if isinstance(default, bytes | str):
        return
    for element in default if isinstance(default, tuple) else (default,):
        if low is not None and element < low:
            raise node.error("bad-default", key, f"{element} is below the minimum of {low}")
        if high is not None and element > high:
            raise node.error("bad-default", key, f"{element} is above the maximum of {high}")


def _elements(
    node: Node, raw: list[object], cell: CellType, shape: tuple[int, ...], path: Path
) -> Iterator[bool | int | float]:
    """The elements of an array, of arrays in an array row by row."""
    if len(raw) != shape[0]:
        expected = cell.count if len(cell.shape) == 1 else shape[0]
        reason = f"{len(raw)} elements for a cell of {expected}"
        if len(cell.shape) > 1:
            reason = f"{len(raw)} elements where {cell.text} has {expected}"
        raise node.source.error("bad-default", path, reason, "one element alone stands for all")
    for index, element in enumerate(raw):
        if len(shape) == 1:
            yield _element(node, element, cell.element, (*path, index))
        elif isinstance(element, list):
            yield from _elements(node, element, cell, shape[1:], (*path, index))
        else:
            reason = f"expected an array of {shape[1]} in {cell.text}, found {type_name(element)}"
            raise node.source.error("wrong-type", (*path, index), reason, "one element alone stands for all")


def _element(node: Node, raw: object, element: str, path: Path) -> bool | int | float:
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


def _member(node: Node, key: str, raw: object, enum: Mapping[str, int]) -> int:
    if not isinstance(raw, str):
        raise node.wrong_type(key, "the name of a member", raw, f"members: {_some(enum)}")
    if raw not in enum:
        close = did_you_mean(raw, enum)
        hint = f'did you mean "{close}"?' if close else f"members: {_some(enum)}"
        raise node.error("bad-default", key, f'"{shorten(raw)}" is no member of this enum', hint)
    return enum[raw]


def _some(enum: Mapping[str, int]) -> str:
    names = list(enum)
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def _bytes(node: Node, key: str, raw: object, count: int) -> bytes:
    if isinstance(raw, str):
        value = raw.encode()
    elif isinstance(raw, list):
        path = (*node.path, key)
        value = bytes(int(_element(node, element, "u8", (*path, index))) for index, element in enumerate(raw))
    else:
        raise node.wrong_type(key, "a string or an array of bytes", raw)
    if len(value) > count:
        raise node.error("bad-default", key, f"{len(value)} bytes do not fit bytes[{count}]")
    return value.ljust(count, b"\0")


def _string(node: Node, key: str, raw: object, count: int) -> str:
    if not isinstance(raw, str):
        raise node.wrong_type(key, "a string", raw)
    if (size := len(raw.encode())) > count:
        raise node.error("bad-default", key, f"{size} bytes of UTF-8 do not fit string[{count}]")
    return raw
