"""What a table keeps beside its rows: uniques over several fields, the group that it shares an order with, its grid.

Each is checked against the table's own stored fields; none looks at other tables.
"""

import math
from typing import Final

from ecsnet.errors import did_you_mean
from ecsnet.limits import UNIQUE_FIELDS_MAX, UNIQUES_MAX
from ecsnet.schema.declared import Declared
from ecsnet.schema.language import NAME
from ecsnet.schema.model import Spatial
from ecsnet.schema.source import Node, shorten, type_name
from ecsnet.schema.types import SCALARS

SPATIAL_CELL_DEFAULT: Final = 16.0
"""Edge of a cell of the grid where the schema names none: a few dozen of a game's metres."""

_SPATIAL_KEYS: Final = ("fields", "cell")


def read_uniques(node: Node, fields: tuple[Declared, ...]) -> tuple[frozenset[str], ...]:
    """The sets of fields of `unique = [["holder", "slot"]]`.

    Raises:
        SchemaError: no such field, a field or a set twice, one field alone, or a type that is not compared exactly.
    """
    if "unique" not in node:
        return ()
    raw = node.data["unique"]
    path = (*node.path, "unique")
    hint = 'an array of arrays of names: unique = [["holder", "slot"]]'
    if not isinstance(raw, list):
        raise node.wrong_type("unique", "an array", raw, hint)
    if len(raw) > UNIQUES_MAX:
        reason = f"{len(raw)} uniques are above the limit of {UNIQUES_MAX}"
        raise node.error("too-many", "unique", reason, at="key")
    found: list[frozenset[str]] = []
    for index, names in enumerate(raw):
        if not isinstance(names, list):
            reason = f"expected an array of names, found {type_name(names)}"
            raise node.source.error("wrong-type", (*path, index), reason, hint)
        members = _names(node, (*path, index), names, fields)
        if len(members) < 2:
            reason = f"{len(members)} fields; a unique over several has at least two"
            single = 'for one field alone write constraint = "unique" beside it'
            raise node.source.error("key-conflict", (*path, index), reason, single)
        if len(members) > UNIQUE_FIELDS_MAX:
            reason = f"{len(members)} fields are above the limit of {UNIQUE_FIELDS_MAX}"
            raise node.source.error("too-many", (*path, index), reason)
        for place, field in enumerate(members):
            cell = field.cell
            exact = SCALARS[cell.element].kind != "float" and (cell.element == "bytes" or not cell.shape)
            if not exact:
                reason = f'unique belongs to integers, bools, enums, bytes[N] and string[N], not to "{field.name}"'
                raise node.source.error("key-conflict", (*path, index, place), f"{reason} ({cell.text})")
        one = frozenset(field.name for field in members)
        if one in found:
            raise node.source.error("key-conflict", (*path, index), "these fields are unique together already")
        found.append(one)
    return tuple(found)


def read_group(node: Node) -> str | None:
    """The name of `group`, which only components may have.

    Raises:
        SchemaError: it is no name, or the table no component.
    """
    if "group" not in node:
        return None
    name = node.text("group")
    if not NAME.fullmatch(name):
        reason = f'"{shorten(name)}" is no name for a group: lower-case letters, digits and _ only'
        raise node.error("bad-name", "group", reason)
    if "parent_table" not in node:
        reason = "a group orders the rows of one entity's components"
        raise node.error(
            "key-conflict", "group", reason, "leave it out: the rows of this table belong to no entity", at="key"
        )
    return name


def read_spatial(node: Node, fields: tuple[Declared, ...]) -> Spatial | None:
    """The fields and the cell of `spatial = ["x", "y"]` or `spatial = { fields = ["x", "y"], cell = 16.0 }`.

    Raises:
        SchemaError: not two or three float fields of one type, or a cell that is no length.
    """
    if "spatial" not in node:
        return None
    raw = node.data["spatial"]
    path = (*node.path, "spatial")
    cell = SPATIAL_CELL_DEFAULT
    if isinstance(raw, dict):
        inner = node.child("spatial")
        inner.check_keys("spatial", _SPATIAL_KEYS, {})
        if "fields" not in inner:
            raise inner.missing("fields", 'two or three float fields: fields = ["x", "y"]')
        raw = inner.data["fields"]
        path = (*path, "fields")
        if "cell" in inner:
            size = inner.data["cell"]
            if isinstance(size, bool) or not isinstance(size, int | float):
                raise inner.wrong_type("cell", "a number", size)
            if not (math.isfinite(size) and 0 < size <= _CELL_MAX):
                raise inner.error("out-of-range", "cell", f"{shorten(str(size))} is no edge of a cell")
            cell = float(size)
    if not isinstance(raw, list):
        reason = f"expected an array of names, found {type_name(raw)}"
        raise node.source.error("wrong-type", path, reason, 'write spatial = ["x", "y"]')
    place = _names(node, path, raw, fields)
    if len(place) not in (2, 3):
        raise node.source.error("key-conflict", path, f"{len(place)} fields; a place has two or three")
    for index, field in enumerate(place):
        if field.cell.shape or SCALARS[field.cell.element].kind != "float":
            reason = f'"{field.name}" is {field.cell.text}; a place is made of f32 or f64'
            raise node.source.error("key-conflict", (*path, index), reason)
        if field.cell.element != place[0].cell.element:
            reason = f'"{field.name}" is {field.cell.element} and "{place[0].name}" {place[0].cell.element}'
            raise node.source.error("key-conflict", (*path, index), f"{reason}; a place is of one type")
    return Spatial(tuple(field.name for field in place), cell)


_CELL_MAX: Final = 2.0**100


def _names(node: Node, path: tuple[str | int, ...], raw: list[object], fields: tuple[Declared, ...]) -> list[Declared]:
    by_name = {field.name: field for field in fields}
    found: list[Declared] = []
    for index, name in enumerate(raw):
        if not isinstance(name, str):
            reason = f"expected the name of a field, found {type_name(name)}"
            raise node.source.error("wrong-type", (*path, index), reason)
        field = by_name.get(name)
        if field is None:
            close = did_you_mean(name, by_name)
            hint = (
                f'did you mean "{close}"?' if close else f"stored fields here: {', '.join(list(by_name)[:8]) or 'none'}"
            )
            reason = f'the table stores no field "{shorten(name)}"'
            raise node.source.error("unknown-field", (*path, index), reason, hint)
        if field in found:
            raise node.source.error("key-conflict", (*path, index), f'"{name}" is named twice')
        found.append(field)
    return found
