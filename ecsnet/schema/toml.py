"""A schema from TOML: file or text → `Schema`, or one `SchemaError` that says where and why.

The order of checks is the order in which a reader understands a file: is it TOML, is it a database, which tables are
there, what does each field say, how do tables refer to each other. The first fault found is raised.

Invariant: on any text whatsoever, `loads` returns a Schema or raises SchemaError (tests throw arbitrary text at it).
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any

import tomli

from ecsnet.errors import SchemaError, did_you_mean
from ecsnet.limits import (
    FIELDS_MAX,
    ROWS_MAX,
    SCHEMA_ID_MAX,
    SCHEMA_NESTING_MAX,
    SCHEMA_TEXT_BYTES_MAX,
    SYSTEM_TABLE_IDS_MAX,
    TABLES_MAX,
)
from ecsnet.schema.build import assign_ids, build_schema
from ecsnet.schema.builtin import BUILTIN_NAMES, ENTITIES_TABLE, SYSTEM_TABLES
from ecsnet.schema.fields import Declared, read_field, read_name
from ecsnet.schema.language import (
    DATABASE_KEYS,
    DATABASE_PLANNED,
    RESERVED_TABLE_PREFIXES,
    RESERVED_TABLES,
    TABLE_KEYS,
    TABLE_PLANNED,
    TOP_KEYS,
    TOP_PLANNED,
    VERSION,
    VERSION_PART_MAX,
)
from ecsnet.schema.model import ENTITIES, Field, Schema, Table
from ecsnet.schema.positions import NestingFault, scan
from ecsnet.schema.source import Node, Source, shorten

_USER_TABLE_ID_MIN = SYSTEM_TABLE_IDS_MAX + 1
_USER_TABLES_MAX = TABLES_MAX - _USER_TABLE_ID_MIN


def load(path: "str | os.PathLike[str]") -> Schema:
    """The schema in a TOML file.

    Raises:
        SchemaError: the file cannot be read ("unreadable") or is no valid schema.
    """
    file = os.fspath(path)
    try:
        raw = FilePath(file).read_bytes()
    except OSError as error:
        reason = f"the file cannot be read: {error.strerror or error}"
        raise SchemaError("unreadable", file, None, None, "", reason) from None
    except ValueError as error:
        raise SchemaError("unreadable", shorten(file), None, None, "", f"no path: {error}") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        good = raw[: error.start].decode()
        line = good.count("\n") + 1
        column = len(good) - (good.rfind("\n") + 1) + 1
        reason = f"byte 0x{raw[error.start]:02x} is not UTF-8"
        raise SchemaError("not-utf8", file, line, column, "", reason, "TOML is UTF-8: save the file as such") from None
    return loads(text, file)


def loads(text: str, file: str = "<string>") -> Schema:
    """The schema in a TOML text; `file` is what errors call it.

    Raises:
        SchemaError: it is no valid schema.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise SchemaError("not-utf8", file, None, None, "", "the text holds half of a surrogate pair") from None
    if size > SCHEMA_TEXT_BYTES_MAX:
        reason = f"a text of {size} bytes is above the limit of {SCHEMA_TEXT_BYTES_MAX}"
        raise SchemaError("too-large", file, None, None, "", reason)
    source, data = _parse(text, file)
    schema = _schema(Node(source, (), data))
    if len(schema.canonical.encode()) > SCHEMA_TEXT_BYTES_MAX:
        reason = f"the canonical text of {len(schema.canonical.encode())} bytes is above {SCHEMA_TEXT_BYTES_MAX}"
        hint = "it is sent to clients in one message: fewer tables, or shorter defaults for arrays"
        raise SchemaError("too-large", file, None, None, "", reason, hint)
    return schema


# --- TOML -------------------------------------------------------------------------------------------------------------


def _parse(text: str, file: str) -> tuple[Source, dict[str, Any]]:
    try:
        data = tomli.loads(text)
        positions = scan(text)
    except tomli.TOMLDecodeError as error:
        raise _syntax(text, file, error) from None
    except (RecursionError, NestingFault) as error:
        offset = error.offset if isinstance(error, NestingFault) else None
        reason = f"arrays and tables nest deeper than {SCHEMA_NESTING_MAX} levels"
        raise SchemaError("toml-syntax", file, *_place(text, offset), "", reason) from None
    except ValueError:
        # Python's own bound on the digits of an integer, which tomli lets through.
        match = _MANY_DIGITS.search(text)
        place = _place(text, None if match is None else match.start())
        raise SchemaError("toml-syntax", file, *place, "", "a number has too many digits") from None
    return Source(file, positions), data


_MANY_DIGITS = re.compile(r"[0-9_]{640,}")


def _place(text: str, offset: int | None) -> tuple[int | None, int | None]:
    if offset is None:
        return None, None
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def _syntax(text: str, file: str, error: tomli.TOMLDecodeError) -> SchemaError:
    """tomli's message with a place; what was written twice has a code of its own."""
    message = error.msg
    line, column = error.lineno, error.colno
    lines = text.split("\n")
    written = lines[line - 1] if line <= len(lines) else ""
    if match := re.fullmatch(r"Cannot declare \(('.*'),?\) twice", message, re.DOTALL):
        name = ".".join(re.findall(r"'((?:[^'\\]|\\.)*)'", match[1]))
        first = next((n for n, other in enumerate(lines, 1) if other.strip() == written.strip()), line)
        hint = f"it is declared first in line {first}" if first < line else None
        # tomli stops behind the header; its beginning is what a person looks for.
        column = len(written) - len(written.lstrip()) + 1
        is_table = re.fullmatch(r"tables\.[^.]+", name) is not None
        code, what = ("duplicate-table", "table") if is_table else ("duplicate-key", "key")
        return SchemaError(code, file, line, column, shorten(name), f"this {what} is declared twice", hint)
    if message == "Cannot overwrite a value":
        key = written.split("=")[0].strip()
        column = len(written) - len(written.lstrip()) + 1
        return SchemaError("duplicate-key", file, line, column, shorten(key), "this key has a value already")
    if match := re.fullmatch(r"Duplicate inline table key '(.*)'", message):
        return SchemaError("duplicate-key", file, line, column, shorten(match[1]), "this key has a value already")
    reason = message[0].lower() + message[1:]
    return SchemaError("toml-syntax", file, line, column, "", shorten(reason, 120))


# --- the whole --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Draft:
    """A table whose own keys are checked; `key` is the virtual key field of a component."""

    node: Node
    name: str
    id: int | None
    fields: tuple[Declared, ...]
    key: Declared | None
    primary_key: str | None


def _schema(root: Node) -> Schema:
    root.check_keys("a schema", TOP_KEYS, TOP_PLANNED)
    if "database" not in root:
        raise SchemaError(
            "missing-key", root.source.file, None, None, "database", "the table [database] is missing",
            'begin with [database], name = "my_game" and version = "1.0.0"',
        )  # fmt: skip
    database = root.child("database")
    database.check_keys("[database]", DATABASE_KEYS, DATABASE_PLANNED)
    name = database.text("name")
    read_name(database, "database", name, "name")
    version = _version(database)

    tables = root.child("tables") if "tables" in root else Node(root.source, ("tables",), {})
    if len(tables.data) > _USER_TABLES_MAX:
        reason = f"{len(tables.data)} tables are above the limit of {_USER_TABLES_MAX}"
        raise tables.error("too-many", None, reason, at="key")
    entities = None
    drafts: list[_Draft] = []
    for table_name in tables.data:
        node = tables.child(table_name)
        if table_name == ENTITIES:
            entities = _entities(node)
        else:
            drafts.append(_table(node, table_name))
    by_name = {draft.name: draft for draft in drafts}
    for draft in drafts:
        for field in draft.fields:
            _check_reference(field, by_name)
    _check_ids(drafts)
    ids = assign_ids({draft.name: draft.id for draft in drafts}, _USER_TABLE_ID_MIN)
    return build_schema(
        name, version, database.text("doc", ""), entities, [_finish(draft, ids[draft.name]) for draft in drafts]
    )


def _version(database: Node) -> str:
    version = database.text("version")
    hint = 'three numbers, e.g. version = "1.0.0"'
    if not VERSION.fullmatch(version):
        raise database.error("bad-version", "version", f'"{shorten(version)}" is no version', hint)
    if any(int(part) > VERSION_PART_MAX for part in version.split(".")):
        raise database.error("bad-version", "version", f'a number in "{version}" is above {VERSION_PART_MAX}', hint)
    return version


# --- one table --------------------------------------------------------------------------------------------------------


def _table(node: Node, name: str) -> _Draft:
    read_name(node, "table", name, None)
    _check_reserved(node, name)
    node.check_keys("a table", TABLE_KEYS, TABLE_PLANNED)
    fields = tuple(read_field(child) for child in node.children("fields"))
    if len(fields) > FIELDS_MAX:
        raise node.error("too-many", "fields", f"{len(fields)} fields are above the limit of {FIELDS_MAX}", at="key")
    _check_names(fields)
    number = node.integer("id", _USER_TABLE_ID_MIN, SCHEMA_ID_MAX) if "id" in node else None
    if "parent_table" in node:
        key = _component_key(node, name, fields)
        stored = tuple(field for field in fields if field is not key)
        draft = _Draft(node, name, number, stored, key, None)
    else:
        draft = _Draft(node, name, number, fields, None, _primary_key(node, name, fields))
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


def _check_names(fields: Sequence[Declared]) -> None:
    seen: dict[str, Declared] = {}
    for field in fields:
        if field.name in seen:
            line = field.node.source.line((*seen[field.name].node.path, "name"))
            raise field.node.error(
                "duplicate-field", "name", f'the table has a field "{field.name}" already', f"it is in line {line}"
            )
        seen[field.name] = field


def _component_key(node: Node, name: str, fields: Sequence[Declared]) -> Declared:
    parent = node.text("parent_table")
    if parent != ENTITIES:
        close = did_you_mean(parent, (ENTITIES,))
        hint = f'did you mean "{close}"?' if close else 'a component belongs to entities: parent_table = "entities"'
        raise node.error("unknown-table", "parent_table", f'"{shorten(parent)}" has no components', hint)
    key = next((field for field in fields if field.foreign_key == (ENTITIES, "id")), None)
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
    if "on_delete" in key.node and key.on_delete != "cascade":
        reason = f'"{key.name}" is the key: a component goes with its entity'
        raise key.node.error("key-conflict", "on_delete", reason, 'leave it out, or write "cascade"')
    _check_target_type(key)
    return key


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
    is_key = field.cell.element == "bytes" or (field.cell.element != "bool" and not field.cell.shape)
    if not is_key or field.cell.element in ("f32", "f64") or field.foreign_key is not None:
        reason = "a primary key is an integer, an enum or bytes[N]"
        hint = 'add a field of its own: { name = "id", type = "u64", auto_increment = true }'
        raise field.node.error("key-conflict", "type", reason, hint)
    if "default" in field.node:
        reason = "a primary key is unique, and a default fits one row only"
        raise field.node.error("key-conflict", "default", reason, "leave it out, or use auto_increment", at="key")
    return written


def _entities(node: Node) -> Table:
    """The registry is built in: a schema may declare it, to be complete, or to bound it, and may not change it."""
    node.check_keys("the table entities", ("primary_key", "fields", "rows_max", "rows_expected", "doc"), TABLE_PLANNED)
    if node.text("primary_key", "id") != "id":
        raise node.error("entities-shape", "primary_key", 'the primary key of entities is "id"')
    types = {"id": "u64", "version": "u32"}
    fields = tuple(read_field(child) for child in node.children("fields"))
    _check_names(fields)
    for field in fields:
        if field.name not in types:
            hint = "it has id and version (and owner, by itself): give more in a component"
            raise field.node.error("entities-shape", "name", "entities has no fields of a schema's own", hint)
        if (field.cell.element, field.cell.shape) != (types[field.name], ()):
            raise field.node.error("entities-shape", "type", f"{field.name} of entities is a {types[field.name]}")
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


# --- between tables ---------------------------------------------------------------------------------------------------


def _check_reference(field: Declared, tables: dict[str, _Draft]) -> None:
    if field.foreign_key is None:
        return
    table, target = field.foreign_key
    node = field.node
    if table == ENTITIES:
        if target != "id":
            reason = f'entities is referenced by its id, not by "{shorten(target)}"'
            raise node.error("unknown-field", "foreign_key", reason, 'write foreign_key = "entities.id"')
        _check_target_type(field)
        return
    draft = tables.get(table)
    if draft is None:
        if table in BUILTIN_NAMES:
            raise node.error("bad-reference", "foreign_key", f'"{table}" is a system table, which nothing references')
        close = did_you_mean(table, (*tables, ENTITIES))
        better = f"{close}.id" if close == ENTITIES else f"{close}.{target}"
        hint = f'did you mean "{shorten(better)}"?' if close else "tables are declared as [tables.NAME]"
        raise node.error("unknown-table", "foreign_key", f'there is no table "{shorten(table)}"', hint)
    names = [other.name for other in draft.fields] + ([draft.key.name] if draft.key is not None else [])
    if target not in names:
        close = did_you_mean(target, names)
        hint = f'did you mean "{table}.{close}"?' if close else f'fields of "{table}": {", ".join(names[:8])}'
        raise node.error("unknown-field", "foreign_key", f'"{table}" has no field "{shorten(target)}"', hint)
    raise node.error(
        "not-built", "foreign_key", f'references to another table ("{table}") are planned and not built yet',
        'reference "entities.id", or keep the number in a plain u64 and look it up',
    )  # fmt: skip


def _check_target_type(field: Declared) -> None:
    if (field.cell.element, field.cell.shape, field.enum) != ("u64", (), None):
        raise field.node.error("bad-reference", "type", "a reference to entities.id is a u64", 'write type = "u64"')


def _check_ids(drafts: Sequence[_Draft]) -> None:
    seen: dict[int, _Draft] = {}
    for draft in drafts:
        if draft.id is None:
            continue
        if draft.id in seen:
            reason = f'id {draft.id} belongs to the table "{seen[draft.id].name}" already'
            raise draft.node.error("duplicate-id", "id", reason, "an id is given once and never again")
        seen[draft.id] = draft


def _check_field_ids(draft: _Draft) -> None:
    seen: dict[int, Declared] = {}
    for field in draft.fields:
        if field.id is None:
            continue
        if field.id in seen:
            reason = f'id {field.id} belongs to the field "{seen[field.id].name}" already'
            raise field.node.error("duplicate-id", "id", reason, "an id is given once and never again")
        seen[field.id] = field


def _finish(draft: _Draft, number: int) -> Table:
    ids = assign_ids({field.name: field.id for field in draft.fields}, 0)
    fields: list[Field] = [
        field.finish(ids[field.name], primary=field.name == draft.primary_key) for field in draft.fields
    ]
    node = draft.node
    return Table(
        id=number,
        name=draft.name,
        kind="component" if draft.key is not None else "keyed",
        fields=tuple(sorted(fields, key=lambda field: field.id)),
        virtual=MappingProxyType({draft.key.name: "key"} if draft.key is not None else {}),
        primary_key=draft.primary_key,
        replicated=node.flag("replicated", True),
        rows_max=node.integer("rows_max", 1, ROWS_MAX, 0),
        rows_expected=node.integer("rows_expected", 1, ROWS_MAX, 0),
        doc=node.text("doc", ""),
    )


assert all(table.id <= SYSTEM_TABLE_IDS_MAX for table in SYSTEM_TABLES)
