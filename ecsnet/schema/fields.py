"""One field of a schema file: its keys checked against each other, without a look at other tables."""

import keyword
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from ecsnet.errors import did_you_mean
from ecsnet.limits import ENUM_VALUES_MAX, NAME_BYTES_MAX, SCHEMA_ID_MAX
from ecsnet.schema.language import ENUM_NAME, FIELD_KEYS, FIELD_PLANNED, NAME, RESERVED_FIELDS
from ecsnet.schema.model import MISSING, Field, ForeignKey, Missing, OnDelete, Value
from ecsnet.schema.source import Node, shorten, type_name
from ecsnet.schema.types import SCALARS, CellType, TypeFault, parse_type
from ecsnet.schema.values import read_default, read_number

_INTEGERS = tuple(name for name, scalar in SCALARS.items() if scalar.kind == "int")
_AUTO_TYPES = ("u32", "u64")


@dataclass(frozen=True, slots=True)
class Declared:
    """A field as its own keys say, before its table gives it an id."""

    node: Node
    name: str
    id: int | None
    cell: CellType
    enum: Mapping[str, int] | None
    default: Value | Missing
    minimum: int | float | None
    maximum: int | float | None
    unique: bool
    optional: bool
    auto_increment: bool
    foreign_key: tuple[str, str] | None
    on_delete: OnDelete | None
    doc: str

    def finish(self, number: int, *, primary: bool) -> Field:
        """The model's field; `primary` for a primary key, which is unique without saying so."""
        reference = None
        default = self.default
        if self.foreign_key is not None:
            assert self.on_delete is not None
            reference = ForeignKey(*self.foreign_key, self.on_delete)
            default = 0 if self.optional else MISSING
        return Field(
            id=number,
            name=self.name,
            type=self.cell.element,
            count=self.cell.count,
            shape=self.cell.shape,
            default=default,
            minimum=self.minimum,
            maximum=self.maximum,
            unique=self.unique or primary,
            optional=self.optional,
            auto_increment=self.auto_increment,
            foreign_key=reference,
            enum=self.enum,
            doc=self.doc,
        )


def read_name(node: Node, what: str, name: str, key: str | None) -> None:
    """Check a name against the pattern of all names.

    Raises:
        SchemaError: "bad-name", or "reserved-name" for a word of Python: it could not be written as an attribute.
    """
    at = node.source.error
    path = node.path if key is None else (*node.path, key)
    place: Literal["key", "value"] = "key" if key is None else "value"
    if len(name.encode()) > NAME_BYTES_MAX:
        reason = f"a name of {len(name.encode())} bytes is above the limit of {NAME_BYTES_MAX}"
        raise at("bad-name", path, reason, at=place)
    if not NAME.fullmatch(name):
        better = _spelled(name)
        hint = f'write "{better}"' if NAME.fullmatch(better) else "begin with a letter"
        reason = f'"{shorten(name)}" is no name for a {what}: lower-case letters, digits and _ only'
        raise at("bad-name", path, reason, hint, at=place)
    if keyword.iskeyword(name):
        hint = f'choose another name, e.g. "{name}_"'
        raise at("reserved-name", path, f'"{name}" is a word of Python', hint, at=place)


def _spelled(name: str) -> str:
    """`MaxHP` → `max_hp`, as a suggestion."""
    out = ""
    for index, character in enumerate(name):
        if character.isupper() and index and (name[index - 1].islower() or name[index + 1 : index + 2].islower()):
            out += "_"
        out += character.lower() if character.isascii() and character.isalnum() else "_"
    return "_".join(part for part in out.split("_") if part)


def read_field(node: Node) -> Declared:
    """Read one element of `fields`.

    Raises:
        SchemaError: any key is unknown, missing, of the wrong type, or at odds with another.
    """
    node.check_keys("a field", FIELD_KEYS, FIELD_PLANNED)
    name = node.text("name")
    read_name(node, "field", name, "name")
    if name in RESERVED_FIELDS:
        raise node.error("reserved-name", "name", f'"{name}" is taken: {RESERVED_FIELDS[name]}', "choose another name")
    cell = _cell(node)
    enum = None
    if cell.enum:
        cell, enum = _enum(node)
    else:
        for key in ("values", "storage"):
            if key in node:
                raise node.error("key-conflict", key, f'"{key}" belongs to type "enum"', at="key")

    foreign_key, on_delete = _reference(node, cell, enum)
    minimum, maximum = _bounds(node, cell, enum, foreign_key is not None)
    auto_increment = node.flag("auto_increment")
    if auto_increment and (cell.shape or enum is not None or foreign_key or cell.element not in _AUTO_TYPES):
        reason = f"auto_increment counts in {' or '.join(_AUTO_TYPES)}, not in {_shown(cell, enum)}"
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
        _check_bounds(node, cell, default, minimum, maximum)

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
    )


def _cell(node: Node) -> CellType:
    written = node.text("type")
    try:
        return parse_type(written)
    except TypeFault as fault:
        raise node.error(fault.code, "type", fault.reason, fault.hint) from None


def _shown(cell: CellType, enum: Mapping[str, int] | None) -> str:
    if enum is not None:
        return "an enum"
    if cell.element == "bytes":
        return f"bytes[{cell.count}]"
    return f"[{cell.element}; {cell.count}]" if cell.shape else cell.element


def _enum(node: Node) -> tuple[CellType, Mapping[str, int]]:
    storage = node.text("storage", "u8")
    if storage not in _INTEGERS:
        close = did_you_mean(storage, _INTEGERS)
        hint = f'did you mean "{close}"?' if close else f"storage: {', '.join(_INTEGERS)}"
        raise node.error("unknown-type", "storage", f'"{shorten(storage)}" is no integer type', hint)
    if "values" not in node:
        raise node.missing("values", "an enum names its members: values = { SWORD = 1, POTION = 2 }")
    raw = node.data["values"]
    if isinstance(raw, list):
        reason = "members without numbers"
        raise node.error("bad-enum", "values", reason, "numbers outlive the order of a list: { SWORD = 1, POTION = 2 }")
    if not isinstance(raw, dict):
        raise node.wrong_type("values", "a table of members", raw)
    if not 1 <= len(raw) <= ENUM_VALUES_MAX:
        raise node.error("bad-enum", "values", f"{len(raw)} members; an enum has 1 to {ENUM_VALUES_MAX}")
    scalar = SCALARS[storage]
    names: dict[int, str] = {}
    for name, number in raw.items():
        path = (*node.path, "values", name)
        if not ENUM_NAME.fullmatch(name) or len(name) > NAME_BYTES_MAX:
            reason = f'"{shorten(name)}" is no name for a member: letters, digits and _, up to {NAME_BYTES_MAX}'
            raise node.source.error("bad-name", path, reason, at="key")
        if isinstance(number, bool) or not isinstance(number, int):
            raise node.source.error("wrong-type", path, f"expected an integer, found {type_name(number)}")
        if not scalar.minimum <= number <= scalar.maximum:
            reason = f"{shorten(str(number))} does not fit {storage}, which holds {scalar.minimum} to {scalar.maximum}"
            raise node.source.error("out-of-range", path, reason, 'choose a wider `storage`, e.g. storage = "u16"')
        if number > 0x7FFF_FFFF_FFFF_FFFF:
            raise node.source.error("out-of-range", path, f"{number} is above {0x7FFF_FFFF_FFFF_FFFF}")
        if number in names:
            raise node.source.error("bad-enum", path, f"{name} and {names[number]} are both {number}")
        names[number] = name
    # By number: the order of members in a file is not state.
    return CellType(storage, enum=True), MappingProxyType({names[number]: number for number in sorted(names)})


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
            what = "a reference" if reference else _shown(cell, enum)
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
    if cell.element != "bytes" and (cell.shape or SCALARS[cell.element].kind != "int"):
        reason = f"unique belongs to integers, enums and bytes[N], not to {_shown(cell, enum)}"
        raise node.error("key-conflict", "constraint", reason, at="key")
    return True


def _check_bounds(
    node: Node, cell: CellType, default: Value, low: int | float | None, high: int | float | None
) -> None:
    if isinstance(default, bytes):
        return
    for element in default if isinstance(default, tuple) else (default,):
        if low is not None and element < low:
            raise node.error("bad-default", "default", f"{element} is below the minimum of {low}")
        if high is not None and element > high:
            raise node.error("bad-default", "default", f"{element} is above the maximum of {high}")
