"""One field of a schema file: its keys checked against each other, without a look at other tables."""

import keyword
import re
from collections.abc import Mapping
from typing import Literal, get_args

from ecsnet.errors import did_you_mean
from ecsnet.limits import NAME_BYTES_MAX, SCHEMA_ID_MAX
from ecsnet.schema.declared import Declared, Types, expand
from ecsnet.schema.enums import read_enum
from ecsnet.schema.language import (
    DOTTED_NAME,
    FIELD_KEYS,
    FIELD_PLANNED,
    MEMBER_KEYS,
    NAME,
    RESERVED_FIELDS,
    STRUCT_FIELD_KEYS,
)
from ecsnet.schema.model import MISSING, Missing, OnDelete, Value
from ecsnet.schema.permissions import read_roles
from ecsnet.schema.source import Node, shorten
from ecsnet.schema.types import SCALARS, CellType, TypeFault, parse_type
from ecsnet.schema.values import check_bounds, read_default, read_number

_AUTO_TYPES = ("u32", "u64")
_QUANTIZE_MIN = 2.0**-64
_QUANTIZE_MAX = 2.0**64


def read_name(node: Node, what: str, name: str, key: str | None, pattern: re.Pattern[str] = NAME) -> None:
    """Check a name against the pattern of all names, or another.

    Raises:
        SchemaError: "bad-name", or "reserved-name" for a word of Python: it could not be written as an attribute.
    """
    at = node.source.error
    path = node.path if key is None else (*node.path, key)
    place: Literal["key", "value"] = "key" if key is None else "value"
    if len(name.encode()) > NAME_BYTES_MAX:
        reason = f"a name of {len(name.encode())} bytes is above the limit of {NAME_BYTES_MAX}"
        raise at("bad-name", path, reason, at=place)
    if not pattern.fullmatch(name):
        better = spelled(name)
        hint = f'write "{better}"' if NAME.fullmatch(better) else "begin with a letter"
        reason = f'"{shorten(name)}" is no name for a {what}: lower-case letters, digits and _ only'
        raise at("bad-name", path, reason, hint, at=place)
    for part in name.split("."):
        if keyword.iskeyword(part):
            hint = f'choose another name, e.g. "{part}_"'
            raise at("reserved-name", path, f'"{part}" is a word of Python', hint, at=place)


def spelled(name: str) -> str:
    """`MaxHP` → `max_hp`, `PlayerShip` → `player_ship`."""
    out = ""
    for index, character in enumerate(name):
        if character.isupper() and index and (name[index - 1].islower() or name[index + 1 : index + 2].islower()):
            out += "_"
        out += character.lower() if character.isascii() and character.isalnum() else "_"
    return "_".join(part for part in out.split("_") if part)


def read_field(node: Node, types: Types, *, member: bool = False) -> list[Declared]:
    """Read one element of `fields`: one field, or one for each member where its type is a struct. `member` says that
    this is a struct's own, which knows fewer keys.

    Raises:
        SchemaError: any key is unknown, missing, of the wrong type, or at odds with another.
    """
    if member:
        node.check_keys("a member of a struct", MEMBER_KEYS, FIELD_PLANNED)
    else:
        node.check_keys("a field", FIELD_KEYS, FIELD_PLANNED)
    name = node.text("name")
    read_name(node, "field", name, "name", NAME if member else DOTTED_NAME)
    for part in name.split("."):
        if part in RESERVED_FIELDS:
            reason = f'"{part}" is taken: {RESERVED_FIELDS[part]}'
            raise node.error("reserved-name", "name", reason, "choose another name")
    cell = _cell(node, types)
    if cell.element in types.structs:
        for key in node.data:
            if key not in STRUCT_FIELD_KEYS:
                reason = f'"{key}" belongs to a member: {cell.element} is a struct'
                raise node.error("key-conflict", key, reason, f"write it in [structs.{cell.element}]", at="key")
        return expand(node, name, node.text("doc", ""), cell.element, types.structs[cell.element], cell)
    return [_field(node, name, cell, types)]


def _field(node: Node, name: str, cell: CellType, types: Types) -> Declared:
    enum = None
    if cell.element in types.enums:
        if cell.shape:
            raise node.error("unknown-type", "type", "arrays hold numbers and bools, not enum")
        shared, (cell, enum) = cell.element, types.enums[cell.element]
        for key in ("values", "storage"):
            if key in node:
                raise node.error("key-conflict", key, f'"{key}" belongs to [enums.{shared}]', at="key")
    elif cell.enum:
        cell, enum = read_enum(node)
    else:
        for key in ("values", "storage"):
            if key in node:
                raise node.error("key-conflict", key, f'"{key}" belongs to type "enum"', at="key")

    foreign_key, on_delete = _reference(node, cell, enum)
    minimum, maximum = _bounds(node, cell, enum, foreign_key is not None)
    auto_increment = node.flag("auto_increment")
    if auto_increment and (cell.shape or enum is not None or foreign_key or cell.element not in _AUTO_TYPES):
        reason = f"auto_increment counts in {' or '.join(_AUTO_TYPES)}, not in {_shown(cell)}"
        raise node.error("key-conflict", "auto_increment", reason, at="key")
    unique = _unique(node, cell, enum)

    default: Value | Missing = MISSING
    if "default" in node:
        if foreign_key is not None:
            reason = "a reference has no default but null"
            raise node.error("key-conflict", "default", reason, "write optional = true instead", at="key")
        if auto_increment:
            raise node.error("key-conflict", "default", "auto_increment gives the value", at="key")
        if unique:
            reason = "a default for a unique field fits one row only"
            raise node.error("key-conflict", "default", reason, "leave it out, or use auto_increment", at="key")
        default = read_default(node, cell, enum)
        check_bounds(node, default, minimum, maximum)

    return Declared(
        node=node,
        name=name,
        id=node.integer("id", 0, SCHEMA_ID_MAX) if "id" in node else None,
        cell=cell,
        enum=enum,
        default=default,
        minimum=minimum,
        maximum=maximum,
        unique=unique,
        optional=node.flag("optional"),
        auto_increment=auto_increment,
        foreign_key=foreign_key,
        on_delete=on_delete,
        doc=node.text("doc", ""),
        quantize=_quantize(node, cell),
        rotation=_rotation(node, cell, default),
        visible_to=read_roles(node, "visible_to"),
    )


def _quantize(node: Node, cell: CellType) -> float:
    if "quantize" not in node:
        return 0.0
    if SCALARS[cell.element].kind != "float":
        raise node.error(
            "key-conflict", "quantize", f"quantize belongs to f32 and f64, not to {_shown(cell)}", at="key"
        )
    raw = node.data["quantize"]
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise node.wrong_type("quantize", "a number", raw)
    # Far outside of any game; inside, no step and no quotient by one is 0, infinite or denormal.
    if not _QUANTIZE_MIN <= raw <= _QUANTIZE_MAX:
        reason = f"{shorten(str(raw))} is no step to round to"
        raise node.error("out-of-range", "quantize", reason, "a positive number in the field's own unit, e.g. 0.01")
    return float(raw)


def _rotation(node: Node, cell: CellType, default: Value | Missing) -> bool:
    if not node.flag("rotation"):
        return False
    if cell.element != "f32" or cell.shape != (4,):
        reason = f"a rotation is a [f32; 4], a unit quaternion, not {_shown(cell)}"
        raise node.error("key-conflict", "rotation", reason, at="key")
    for key in ("minimum", "maximum"):
        if key in node:
            reason = "a rotation is of length one, which is its only bound"
            raise node.error("key-conflict", key, reason, "leave it out", at="key")
    if isinstance(default, tuple) and not any(default):
        reason = "a quaternion of length zero is no rotation"
        raise node.error("bad-default", "default", reason, "no rotation at all is [0.0, 0.0, 0.0, 1.0]")
    return True


def _cell(node: Node, types: Types) -> CellType:
    written = node.text("type")
    try:
        return parse_type(written, types.names)
    except TypeFault as fault:
        raise node.error(fault.code, "type", fault.reason, fault.hint) from None


def _shown(cell: CellType) -> str:
    return "an enum" if cell.enum else cell.text


def _reference(
    node: Node, cell: CellType, enum: Mapping[str, int] | None
) -> tuple[tuple[str, str] | None, OnDelete | None]:
    optional = node.flag("optional")
    if "foreign_key" not in node:
        if "on_delete" in node:
            raise node.error("key-conflict", "on_delete", '"on_delete" belongs to a foreign_key', at="key")
        if optional:
            reason = "only a reference can be null"
            raise node.error("key-conflict", "optional", reason, "give a default instead", at="key")
        return None, None
    written = node.text("foreign_key")
    table, dot, field = written.partition(".")
    if not (dot and NAME.fullmatch(table) and NAME.fullmatch(field)):
        reason = f'"{shorten(written)}" does not name a field'
        raise node.error("bad-reference", "foreign_key", reason, 'write "table.field", e.g. "entities.id"')
    choices: tuple[OnDelete, ...] = get_args(OnDelete)
    on_delete: OnDelete = "set_null" if optional else "restrict"
    if "on_delete" in node:
        chosen = node.text("on_delete")
        if chosen not in choices:
            close = did_you_mean(chosen, choices)
            hint = f'did you mean "{close}"?' if close else f"one of {', '.join(choices)}"
            raise node.error("unknown-value", "on_delete", f'"{shorten(chosen)}" is not known', hint)
        on_delete = chosen
    if on_delete == "set_null" and not optional:
        reason = "set_null would leave a null in a reference that must not be null"
        hint = "add optional = true, or use cascade or restrict"
        raise node.error("key-conflict", "on_delete", reason, hint, at="key")
    return (table, field), on_delete


def _bounds(
    node: Node, cell: CellType, enum: Mapping[str, int] | None, reference: bool
) -> tuple[int | float | None, int | float | None]:
    bounds: dict[str, int | float | None] = {"minimum": None, "maximum": None}
    for key in bounds:
        if key not in node:
            continue
        if enum is not None or reference or SCALARS[cell.element].kind not in ("int", "float"):
            what = "a reference" if reference else _shown(cell)
            raise node.error("key-conflict", key, f'"{key}" belongs to numbers, not to {what}', at="key")
        bound = read_number(node, key, cell.element)
        # A bound of -0.0 is one of 0.0: one meaning, one canonical text.
        bounds[key] = abs(bound) if bound == 0 else bound
    low, high = bounds["minimum"], bounds["maximum"]
    if low is not None and high is not None and low > high:
        raise node.error("empty-range", "minimum", f"minimum {low} is above maximum {high}: no value would do")
    return low, high


def _unique(node: Node, cell: CellType, enum: Mapping[str, int] | None) -> bool:
    if "constraint" not in node:
        return False
    written = node.text("constraint")
    if written != "unique":
        close = did_you_mean(written, ("unique",))
        hint = f'did you mean "{close}"?' if close else 'the one constraint is "unique"; ranges are minimum and maximum'
        raise node.error("unknown-value", "constraint", f'"{shorten(written)}" is not known', hint)
    if cell.element not in ("bytes", "string") and (cell.shape or SCALARS[cell.element].kind != "int"):
        reason = f"unique belongs to integers, enums, bytes[N] and string[N], not to {_shown(cell)}"
        raise node.error("key-conflict", "constraint", reason, at="key")
    return True
