"""A schema as TOML for people: what `ecsnet schema toml` prints, notes included.

It says what the canonical text says and reads back as the same schema, but leaves out the ids that every reader gives
in the same way. A struct's members stand under dotted names, which is what a struct means.
"""

from ecsnet.limits import ENTITIES_MAX_DEFAULT
from ecsnet.schema.build import assign_ids
from ecsnet.schema.builtin import ENTITIES_TABLE
from ecsnet.schema.canonical import field_keys, interest_lines, table_keys, text
from ecsnet.schema.model import Schema, Table
from ecsnet.schema.tables import USER_TABLE_ID_MIN


def to_toml(schema: Schema) -> str:
    """The schema as TOML, ending in a line feed; of the same fingerprint when it is read."""
    lines = ["[database]", f"name = {text(schema.name)}", f"version = {text(schema.version)}"]
    if schema.doc:
        lines.append(f"doc = {text(schema.doc)}")
    lines += _entities(schema.table("entities"))
    plain = given_alike({table.name: table.id for table in schema.user_tables}, USER_TABLE_ID_MIN)
    for table in schema.user_tables:
        lines += ["", f"[tables.{table.name}]"]
        if not plain:
            lines.append(f"id = {table.id}")
        lines += table_keys(table)
        if table.rows_expected:
            lines.append(f"rows_expected = {table.rows_expected}")
        if table.doc:
            lines.append(f"doc = {text(table.doc)}")
        lines += ["fields = [", *_fields(table), "]"]
    lines += interest_lines(schema.interest)
    return "\n".join(lines) + "\n"


def given_alike(ids: dict[str, int], first: int) -> bool:
    """Whether whoever reads these names without ids gives them the same."""
    return assign_ids(dict.fromkeys(ids), first) == ids


def _entities(table: Table) -> list[str]:
    lines = []
    if table.rows_max != ENTITIES_MAX_DEFAULT:
        lines.append(f"rows_max = {table.rows_max}")
    if table.rows_expected:
        lines.append(f"rows_expected = {table.rows_expected}")
    if table.doc != ENTITIES_TABLE.doc:
        lines.append(f"doc = {text(table.doc)}")
    return ["", "[tables.entities]", *lines] if lines else []


def _fields(table: Table) -> list[str]:
    plain = given_alike({field.name: field.id for field in table.fields}, 0)
    lines = []
    if table.kind == "component":
        lines.append(f'  {{ name = {text(table.key)}, type = "u64", foreign_key = "entities.id" }},')
    for field in table.fields:
        keys = field_keys(field, table)
        if not plain:
            keys.append(f"id = {field.id}")
        if field.doc:
            keys.append(f"doc = {text(field.doc)}")
        lines.append(f"  {{ {', '.join(keys)} }},")
    return lines
