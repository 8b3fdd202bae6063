"""A schema from TOML: file or text → `Schema`, or one `SchemaError` that says where and why.

The order of checks is the order in which a reader understands a file: is it TOML, is it a database, which tables are
there, what does each field say, how do tables refer to each other. The first fault found is raised.

Invariant: on any text whatsoever, `loads` returns a Schema or raises SchemaError (tests throw arbitrary text at it).
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path as FilePath
from typing import Any

import tomli

from ecsnet.errors import SchemaError
from ecsnet.limits import SCHEMA_NESTING_MAX, SCHEMA_TEXT_BYTES_MAX, SYSTEM_TABLE_IDS_MAX, TABLES_MAX
from ecsnet.schema.build import assign_ids, build_schema
from ecsnet.schema.builtin import SYSTEM_TABLES
from ecsnet.schema.fields import read_name
from ecsnet.schema.language import (
    DATABASE_KEYS,
    DATABASE_PLANNED,
    TOP_KEYS,
    TOP_PLANNED,
    VERSION,
    VERSION_PART_MAX,
)
from ecsnet.schema.model import ENTITIES, Schema
from ecsnet.schema.positions import NestingFault, scan
from ecsnet.schema.references import check_reference
from ecsnet.schema.source import Node, Source, shorten
from ecsnet.schema.structs import read_types
from ecsnet.schema.tables import USER_TABLE_ID_MIN, Draft, finish, read_entities, read_table

_USER_TABLES_MAX = TABLES_MAX - USER_TABLE_ID_MIN


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

    types = read_types(root)
    tables = root.child("tables") if "tables" in root else Node(root.source, ("tables",), {})
    if len(tables.data) > _USER_TABLES_MAX:
        reason = f"{len(tables.data)} tables are above the limit of {_USER_TABLES_MAX}"
        raise tables.error("too-many", None, reason, at="key")
    entities = None
    drafts: list[Draft] = []
    for table_name in tables.data:
        node = tables.child(table_name)
        if table_name == ENTITIES:
            entities = read_entities(node, types)
        else:
            drafts.append(read_table(node, table_name, types))
    by_name = {draft.name: draft for draft in drafts}
    for draft in drafts:
        for field in draft.fields:
            check_reference(field, by_name)
    _check_ids(drafts)
    ids = assign_ids({draft.name: draft.id for draft in drafts}, USER_TABLE_ID_MIN)
    return build_schema(
        name, version, database.text("doc", ""), entities, [finish(draft, ids[draft.name]) for draft in drafts]
    )


def _version(database: Node) -> str:
    version = database.text("version")
    hint = 'three numbers, e.g. version = "1.0.0"'
    if not VERSION.fullmatch(version):
        raise database.error("bad-version", "version", f'"{shorten(version)}" is no version', hint)
    if any(int(part) > VERSION_PART_MAX for part in version.split(".")):
        raise database.error("bad-version", "version", f'a number in "{version}" is above {VERSION_PART_MAX}', hint)
    return version


def _check_ids(drafts: Sequence[Draft]) -> None:
    seen: dict[int, Draft] = {}
    for draft in drafts:
        if draft.id is None:
            continue
        if draft.id in seen:
            reason = f'id {draft.id} belongs to the table "{seen[draft.id].name}" already'
            raise draft.node.error("duplicate-id", "id", reason, "an id is given once and never again")
        seen[draft.id] = draft


assert all(table.id <= SYSTEM_TABLE_IDS_MAX for table in SYSTEM_TABLES)
