"""One table of a schema file: its kind, its key, its fields, checked without a look at other tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import get_args

from ecsnet.errors import did_you_mean
from ecsnet.limits import FIELDS_MAX, ROWS_MAX, SCHEMA_ID_MAX, SYSTEM_TABLE_IDS_MAX
from ecsnet.schema.build import assign_ids
from ecsnet.schema.builtin import BUILTIN_NAMES, ENTITIES_TABLE
from ecsnet.schema.conflict import check_mergeable
from ecsnet.schema.declared import Declared, Types
from ecsnet.schema.fields import read_field, read_name
from ecsnet.schema.indexes import read_group, read_spatial, read_uniques
from ecsnet.schema.language import RESERVED_TABLE_PREFIXES, RESERVED_TABLES, TABLE_KEYS, TABLE_PLANNED
from ecsnet.schema.model import ENTITIES, Field, Spatial, Table, TableKind
from ecsnet.schema.permissions import check_key_is_visible, read_owner, read_table_roles, read_writers
from ecsnet.schema.rules import Conflict, Writer
from ecsnet.schema.source import Node, shorten
from ecsnet.schema.structs import check_names

USER_TABLE_ID_MIN = SYSTEM_TABLE_IDS_MAX + 1


@dataclass(frozen=True, slots=True)
class Draft:
    """A table whose own keys are checked; `key` is the virtual key field of a component."""

    node: Node
    name: str
    id: int | None
    kind: TableKind
    fields: tuple[Declared, ...]
    key: Declared | None = None
    primary_key: str | None = None
    uniques: tuple[frozenset[str], ...] = ()
    group: str | None = None
    spatial: Spatial | None = None
    visible_to: tuple[str, ...] | None = None
    writers: tuple[Writer, ...] = ()
    conflict: Conflict = "authority"
    tied: str = ""
    owner: str = ""

    def field(self, name: str) -> Declared | None:
        """The stored field of that name."""
        return next((field for field in self.fields if field.name == name), None)


def read_table(node: Node, name: str, types: Types) -> Draft:
    """Read `[tables.NAME]`.

    Raises:
        SchemaError: any key of the table or of its fields is wrong by itself or beside another.
    """
    read_name(node, "table", name, None)
    _check_reserved(node, name)
    node.check_keys("a table", TABLE_KEYS, TABLE_PLANNED)
    children = node.children("fields")
    fields: list[Declared] = []
    for child in children:
        fields += read_field(child, types)
        if max(len(fields), len(children)) > FIELDS_MAX:
            found = f"{len(children)}" if len(children) > FIELDS_MAX else f"more than {FIELDS_MAX}"
            raise node.error("too-many", "fields", f"{found} fields are above the limit of {FIELDS_MAX}", at="key")
    check_names(fields, "table")
    number = node.integer("id", USER_TABLE_ID_MIN, SCHEMA_ID_MAX) if "id" in node else None
    if node.flag("event"):
        _check_event(node, fields)
        draft = Draft(node, name, number, "event", tuple(fields))
    elif "parent_table" in node:
        key = _component_key(node, name, fields)
        draft = Draft(node, name, number, "component", tuple(field for field in fields if field is not key), key)
    else:
        draft = Draft(node, name, number, "keyed", tuple(fields), primary_key=_primary_key(node, name, fields))
    draft = replace(
        draft,
        uniques=read_uniques(node, draft.fields),
        group=read_group(node),
        spatial=read_spatial(node, draft.fields),
        visible_to=read_table_roles(node),
        tied=_tied(node, draft),
        owner=(owner := read_owner(node, draft.fields)),
        writers=read_writers(node, draft.fields, draft.kind, draft.primary_key, owner),
    )
    draft = replace(draft, conflict=_conflict(node, draft))
    if draft.primary_key is not None and (primary := draft.field(draft.primary_key)) is not None:
        check_key_is_visible(primary)
    _check_field_ids(draft)
    for field in draft.fields:
        if field.auto_increment and field.name != draft.primary_key:
            reason = "only a primary key counts by itself"
            raise field.node.error("key-conflict", "auto_increment", reason, at="key")
    # Values of keys that the model takes as they are.
    node.flag("replicated", True)
    for bound in ("rows_max", "rows_expected"):
        node.integer(bound, 1, ROWS_MAX, 1)
    node.text("doc", "")
    return draft


def _check_reserved(node: Node, name: str) -> None:
    if name in RESERVED_TABLES:
        reason = f'"{name}" is taken: {RESERVED_TABLES[name]}'
        raise node.error("reserved-name", None, reason, "choose another name", at="key")
    if name in BUILTIN_NAMES:
        raise node.error("reserved-name", None, f'"{name}" is a system table', "choose another name", at="key")
    for prefix, owner in RESERVED_TABLE_PREFIXES.items():
        if name.startswith(prefix):
            reason = f'names that begin with "{prefix}" are kept for {owner}'
            raise node.error("reserved-name", None, reason, "choose another name", at="key")


def _check_event(node: Node, fields: Sequence[Declared]) -> None:
    for key in ("parent_table", "primary_key", "unique", "group", "spatial", "with", "conflict"):
        if key in node:
            reason = f'"{key}" does not go with an event: nothing names its rows, and they live for one tick'
            raise node.error("key-conflict", key, reason, at="key")
    for field in fields:
        if field.unique or field.auto_increment:
            key = "constraint" if field.unique else "auto_increment"
            reason = "the rows of an event live for one tick, so there is nothing to tell them apart from"
            raise field.node.error("key-conflict", key, reason, at="key")
        for key in ("quantize", "rotation"):
            if key in field.node:
                raise field.node.error(
                    "key-conflict", key, "the rows of an event travel exactly", "leave it out", at="key"
                )
        if "on_delete" in field.node:
            reason = "the references of an event hold nobody back, and its rows are gone before one could matter"
            raise field.node.error("key-conflict", "on_delete", reason, "leave it out", at="key")


def _component_key(node: Node, name: str, fields: Sequence[Declared]) -> Declared:
    parent = node.text("parent_table")
    if parent != ENTITIES:
        close = did_you_mean(parent, (ENTITIES,))
        hint = f'did you mean "{close}"?' if close else 'a component belongs to entities: parent_table = "entities"'
        raise node.error("unknown-table", "parent_table", f'"{shorten(parent)}" has no components', hint)
    key = next((field for field in fields if field.foreign_key == (ENTITIES, "id") and "." not in field.name), None)
    if key is None:
        hint = 'add { name = "entity_id", type = "u64", foreign_key = "entities.id" } as the first field'
        raise node.error("no-key", None, f'the component "{name}" has no field that names its entity', hint, at="key")
    if "primary_key" in node and node.text("primary_key") != key.name:
        reason = f'the key of a component is the entity that it belongs to ("{key.name}")'
        raise node.error("key-conflict", "primary_key", reason, "leave primary_key out", at="key")
    for unwanted in ("id", "default", "optional", "auto_increment"):
        if unwanted in key.node:
            reason = f'"{key.name}" is the key, which names the row and is not stored: "{unwanted}" means nothing here'
            hint = "the first field that references entities.id is the key; a further one is an ordinary reference"
            raise key.node.error("key-conflict", unwanted, reason, hint, at="key")
    check_key_is_visible(key)
    if "on_delete" in key.node and key.on_delete != "cascade":
        reason = f'"{key.name}" is the key: a component goes with its entity'
        raise key.node.error("key-conflict", "on_delete", reason, 'leave it out, or write "cascade"')
    demand_entity_type(key)
    return key


def _conflict(node: Node, draft: Draft) -> Conflict:
    written = node.text("conflict", "authority")
    choices: tuple[Conflict, ...] = get_args(Conflict)
    chosen = next((choice for choice in choices if choice == written), None)
    if chosen is None:
        close = did_you_mean(written, choices)
        hint = f'did you mean "{close}"?' if close else f"one of {', '.join(choices)}"
        raise node.error("unknown-value", "conflict", f'"{shorten(written)}" is not known', hint)
    if chosen == "authority":
        return chosen
    check_mergeable(node, draft.fields, draft.primary_key, combined=bool(draft.uniques))
    return chosen


def _tied(node: Node, draft: Draft) -> str:
    if "with" not in node:
        return ""
    written = node.text("with")
    field = draft.field(written)
    if field is None or field.foreign_key is None:
        known = [other.name for other in draft.fields if other.foreign_key is not None]
        close = did_you_mean(written, known)
        hint = f'did you mean "{close}"?' if close else f"references here: {', '.join(known[:8]) or 'none'}"
        raise node.error("unknown-field", "with", f'the table stores no reference "{shorten(written)}"', hint)
    return written


def demand_entity_type(field: Declared) -> None:
    """Check that a reference to an entity can hold one.

    Raises:
        SchemaError: it is no u64.
    """
    if (field.cell.element, field.cell.shape, field.enum) != ("u64", (), None):
        raise field.node.error("bad-reference", "type", "a reference to entities.id is a u64", 'write type = "u64"')


def _primary_key(node: Node, name: str, fields: Sequence[Declared]) -> str:
    if "primary_key" not in node:
        hint = 'a component says parent_table = "entities"; a table with keys of its own primary_key = "id"'
        reason = f'"{name}" says neither parent_table nor primary_key'
        raise node.error("no-key", None, reason, hint, at="key")
    written = node.text("primary_key")
    field = next((field for field in fields if field.name == written), None)
    if field is None:
        close = did_you_mean(written, (field.name for field in fields))
        # "id" is what keys are called: whoever writes it means it.
        guess = close is not None and written != "id"
        hint = f'did you mean "{close}"?' if guess else f'add a field {{ name = "{shorten(written)}", type = "u64" }}'
        raise node.error("unknown-field", "primary_key", f'"{name}" has no field "{shorten(written)}"', hint)
    if "." in written:
        reason = "a primary key is no member of a struct"
        raise node.error("bad-name", "primary_key", reason, 'add a field of its own: { name = "id", type = "u64" }')
    is_key = field.cell.element == "bytes" or (field.cell.element != "bool" and not field.cell.shape)
    if not is_key or field.cell.element in ("f32", "f64") or field.foreign_key is not None:
        reason = "a primary key is an integer, an enum, bytes[N] or string[N]"
        hint = 'add a field of its own: { name = "id", type = "u64", auto_increment = true }'
        raise field.node.error("key-conflict", "type", reason, hint)
    if "default" in field.node:
        reason = "a primary key is unique, and a default fits one row only"
        raise field.node.error("key-conflict", "default", reason, "leave it out, or use auto_increment", at="key")
    return written


def read_entities(node: Node, types: Types) -> Table:
    """The registry is built in: a schema may declare it, to be complete, or to bound it, and may not change it.

    Raises:
        SchemaError: it says anything else.
    """
    node.check_keys("the table entities", ("primary_key", "fields", "rows_max", "rows_expected", "doc"), TABLE_PLANNED)
    if node.text("primary_key", "id") != "id":
        raise node.error("entities-shape", "primary_key", 'the primary key of entities is "id"')
    own = {"id": "u64", "version": "u32"}
    fields = [field for child in node.children("fields")[:FIELDS_MAX] for field in read_field(child, types)]
    check_names(fields, "table")
    for field in fields:
        if field.name not in own:
            hint = "it has id and version (and owner, by itself): give more in a component"
            raise field.node.error("entities-shape", "name", "entities has no fields of a schema's own", hint)
        if (field.cell.element, field.cell.shape) != (own[field.name], ()):
            raise field.node.error("entities-shape", "type", f"{field.name} of entities is a {own[field.name]}")
        allowed = ("name", "type", "constraint", "auto_increment", "doc")
        for key in field.node.data:
            if key not in allowed:
                reason = f'{field.name} of entities is built in: "{key}" does not apply'
                raise field.node.error("entities-shape", key, reason, at="key")
    return replace(
        ENTITIES_TABLE,
        rows_max=node.integer("rows_max", 1, ROWS_MAX, ENTITIES_TABLE.rows_max),
        rows_expected=node.integer("rows_expected", 1, ROWS_MAX, 0),
        doc=node.text("doc", ENTITIES_TABLE.doc),
    )


def _check_field_ids(draft: Draft) -> None:
    seen: dict[int, Declared] = {}
    for field in draft.fields:
        if field.id is None:
            continue
        if field.id in seen:
            reason = f'id {field.id} belongs to the field "{seen[field.id].name}" already'
            raise field.node.error("duplicate-id", "id", reason, "an id is given once and never again")
        seen[field.id] = field


def finish(draft: Draft, number: int) -> Table:
    """The model's table, with its id and those of its fields."""
    ids = assign_ids({field.name: field.id for field in draft.fields}, 0)
    fields: list[Field] = [
        field.finish(ids[field.name], primary=field.name == draft.primary_key, event=draft.kind == "event")
        for field in draft.fields
    ]
    node = draft.node
    return Table(
        id=number,
        name=draft.name,
        kind=draft.kind,
        fields=tuple(sorted(fields, key=lambda field: field.id)),
        virtual=MappingProxyType({draft.key.name: "key"} if draft.key is not None else {}),
        primary_key=draft.primary_key,
        replicated=node.flag("replicated", True),
        rows_max=node.integer("rows_max", 1, ROWS_MAX, 0),
        rows_expected=node.integer("rows_expected", 1, ROWS_MAX, 0),
        doc=node.text("doc", ""),
        uniques=tuple(
            tuple(sorted(names, key=ids.__getitem__))
            for names in sorted(draft.uniques, key=lambda names: sorted(ids[name] for name in names))
        ),
        group=draft.group,
        spatial=draft.spatial,
        visible_to=draft.visible_to,
        writers=tuple(_by_id(writer, ids) for writer in draft.writers),
        conflict=draft.conflict,
        tied=draft.tied,
        owner=draft.owner,
    )


def _by_id(writer: Writer, ids: Mapping[str, int]) -> Writer:
    """The same with its fields in the order of their ids."""
    names = None if writer.fields is None else sorted(writer.fields, key=ids.__getitem__)
    return Writer(writer.role, writer.operations, rows=writer.rows, fields=names)
