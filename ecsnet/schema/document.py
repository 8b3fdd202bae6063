"""A whole schema: what its own tables say, put together. From TOML or from classes, by then it is one tree of keys.

The order of checks is the order in which a reader understands a file: is it a database, which types and tables are
there, what does each field say, how do tables refer to each other. The first fault found is raised.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ecsnet.errors import SchemaError
from ecsnet.limits import SCHEMA_TEXT_BYTES_MAX, SYSTEM_TABLE_IDS_MAX, TABLES_MAX
from ecsnet.schema.build import assign_ids, build_schema
from ecsnet.schema.builtin import SYSTEM_TABLES
from ecsnet.schema.fields import read_name
from ecsnet.schema.interests import read_interest
from ecsnet.schema.language import (
    DATABASE_KEYS,
    DATABASE_PLANNED,
    TOP_KEYS,
    TOP_PLANNED,
    VERSION,
    VERSION_PART_MAX,
)
from ecsnet.schema.model import ENTITIES, Schema
from ecsnet.schema.references import check_reference
from ecsnet.schema.source import Node, shorten
from ecsnet.schema.structs import read_types
from ecsnet.schema.tables import USER_TABLE_ID_MIN, Draft, finish, read_entities, read_table

_USER_TABLES_MAX = TABLES_MAX - USER_TABLE_ID_MIN


def read_schema(root: Node, classes: Mapping[str, type[Any]] = MappingProxyType({})) -> Schema:
    """The schema that a tree of keys means; `classes` are those that it was made of, by table.

    Raises:
        SchemaError: it is no valid schema.
    """
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
    finished = [finish(draft, ids[draft.name]) for draft in drafts]
    interest = read_interest(root, by_name)
    schema = build_schema(name, version, database.text("doc", ""), entities, finished, interest, classes)
    if (size := len(schema.canonical.encode())) > SCHEMA_TEXT_BYTES_MAX:
        reason = f"the canonical text of {size} bytes is above {SCHEMA_TEXT_BYTES_MAX}"
        hint = "it is sent to clients in one message: fewer tables, or shorter defaults for arrays"
        raise SchemaError("too-large", root.source.file, None, None, "", reason, hint)
    return schema


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
