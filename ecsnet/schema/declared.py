"""What a schema file declares, checked by itself: fields before their table gives them ids, and the types that fields
share.

A struct is a way of writing: a field of its type is as many fields as it has members, under dotted names, and nothing
after this file knows that it was one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ecsnet.errors import did_you_mean
from ecsnet.limits import NAME_BYTES_MAX, SCHEMA_ID_MAX
from ecsnet.schema.model import MISSING, Field, ForeignKey, Missing, OnDelete, Value
from ecsnet.schema.source import Node, shorten, type_name
from ecsnet.schema.types import CellType, TypeFault, array_of
from ecsnet.schema.values import check_bounds, read_default


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
    quantize: float = 0.0
    rotation: bool = False
    visible_to: tuple[str, ...] | None = None

    def _null(self) -> Value:
        """A reference that leads nowhere: zero bytes, whatever the type."""
        if self.cell.element == "bytes":
            return bytes(self.cell.count)
        return "" if self.cell.element == "string" else 0

    def finish(self, number: int, *, primary: bool, event: bool) -> Field:
        """The model's field; `primary` for a primary key, which is unique without saying so. What a struct's member
        says about rounding means nothing in an `event`, whose rows travel exactly."""
        reference = None
        default = self.default
        if self.foreign_key is not None:
            assert self.on_delete is not None
            reference = ForeignKey(*self.foreign_key, self.on_delete)
            default = self._null() if self.optional else MISSING
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
            quantize=0.0 if event else self.quantize,
            rotation=self.rotation and not event,
            visible_to=self.visible_to,
        )


@dataclass(frozen=True, slots=True)
class Types:
    """The types that a schema gives names to: enums, and structs as the members that they come to in the end."""

    enums: Mapping[str, tuple[CellType, Mapping[str, int]]] = field(default_factory=dict)
    structs: Mapping[str, tuple[Declared, ...]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """What a type may be called besides the language's own types."""
        return (*self.enums, *self.structs)


def expand(
    node: Node, name: str, doc: str, struct: str, members: tuple[Declared, ...], cell: CellType
) -> list[Declared]:
    """The fields that a field of a struct's type comes to; `cell` has the shape of an array of structs, `()` for one.

    Raises:
        SchemaError: `default` or `id` name what is no member, a default breaks a member's rules, a member cannot stand
            in an array, or a name grows too long.
    """
    defaults = dict(_by_member(node, "default", struct, members))
    ids = dict(_by_member(node, "id", struct, members))
    fields: list[Declared] = []
    for member in members:
        path = f"{name}.{member.name}"
        if len(path) > NAME_BYTES_MAX:
            reason = f'the member "{shorten(path)}" has {len(path)} bytes, above the limit of {NAME_BYTES_MAX}'
            raise node.error("bad-name", "name", reason)
        try:
            each = array_of(member.cell, cell.shape)
        except TypeFault as fault:
            reason = f'"{shorten(member.name)}" of {struct}: {fault.reason}'
            raise node.error(fault.code, "type", reason, fault.hint) from None
        if cell.shape and (member.foreign_key is not None or member.unique):
            what = "a reference" if member.foreign_key is not None else "unique"
            reason = f'"{shorten(member.name)}" of {struct} is {what}, which stands in no array'
            raise node.error("key-conflict", "type", reason)
        default = member.default
        if member.name in defaults:
            at, key = defaults[member.name]
            if member.foreign_key is not None or member.unique:
                what = "a reference" if member.foreign_key is not None else "a unique field"
                raise at.error("key-conflict", key, f"{what} has no default", at="key")
            default = read_default(at, each, member.enum, key)
            check_bounds(at, default, member.minimum, member.maximum, key)
        elif cell.shape and default is not MISSING:
            elements = default if isinstance(default, tuple) else (default,)
            default = elements * (each.count // len(elements))  # type: ignore[assignment]  # of one type, all of them
        number = None
        if member.name in ids:
            at, key = ids[member.name]
            number = at.integer(key, 0, SCHEMA_ID_MAX)
        fields.append(
            replace(member, node=node, name=path, id=number, cell=each, default=default, doc=member.doc or doc)
        )
    return fields


def _by_member(
    node: Node, key: str, struct: str, members: tuple[Declared, ...]
) -> Iterator[tuple[str, tuple[Node, str]]]:
    """Where `key = { x = ..., inner = { y = ... } }` says something: the member, the table that says it, its key."""
    if key not in node:
        return
    known = {member.name for member in members}
    raw: Any = node.data[key]
    if not isinstance(raw, dict):
        first = members[0].name.partition(".")[0] if members else "x"
        raise node.wrong_type(key, f"a table of members of {struct}", raw, f"write {key} = {{ {first} = ... }}")
    waiting = [(node.child(key), "")]
    while waiting:
        table, prefix = waiting.pop()
        for name, value in table.data.items():
            path = prefix + name
            if path in known:
                yield path, (table, name)
            elif any(other.startswith(path + ".") for other in known):
                if not isinstance(value, dict):
                    raise table.error("wrong-type", name, f"expected a table of members, found {type_name(value)}")
                waiting.append((table.child(name), path + "."))
            else:
                close = did_you_mean(path, known)
                hint = f'did you mean "{close}"?' if close else f"members: {', '.join(sorted(known)[:8])}"
                raise table.error("unknown-field", name, f'{struct} has no member "{shorten(path)}"', hint, at="key")
