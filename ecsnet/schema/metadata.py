"""The rows of the metadata tables: the schema, readable through the same queries as any table.

They are written once, when a store is created, and describe every table of the schema, the built-in ones included.
Names are UTF-8 in `bytes[64]` and end in zeros.
"""

from collections.abc import Iterator

from ecsnet.schema.builtin import FIELD_TYPES, MIGRATION_KINDS, RULES, TABLE_KINDS, TEXT_BYTES
from ecsnet.schema.canonical import number_text, value_text
from ecsnet.schema.model import (
    ENTITIES,
    MISSING,
    VIRTUAL_GENERATION_ID,
    VIRTUAL_KEY_ID,
    WHOLE_TABLE_ID,
    Field,
    Schema,
    Table,
)
from ecsnet.schema.rules import InterestRule

Row = dict[str, int | bool | bytes]


def metadata_rows(schema: Schema) -> dict[str, list[Row]]:
    """The rows by table name, in the order of their ids."""
    constraints = [row for table in schema.tables for row in _constraints(table)]
    constraints += [_interest(schema, rule) for rule in schema.interest]
    return {
        "schema_tables": [_table(table) for table in schema.tables],
        "schema_fields": [row for table in schema.tables for row in _fields(table)],
        "schema_constraints": [{"id": number, **row} for number, row in enumerate(constraints, 1)],
        "schema_migrations": [
            {
                "id": 1,
                "kind": MIGRATION_KINDS["created"],
                "name": _text(schema.name),
                "version": _text(schema.version),
                "fingerprint": schema.fingerprint,
            }
        ],
    }


def _table(table: Table) -> Row:
    return {
        "table_id": table.id,
        "name": _text(table.name),
        "kind": TABLE_KINDS[table.kind],
        "replicated": table.replicated,
        "system": table.system,
        "field_count": len(table.fields),
        "row_bytes": table.width,
        "rows_max": table.rows_max,
        "rows_expected": table.rows_expected,
    }


def _virtual_id(kind: str) -> int:
    return VIRTUAL_KEY_ID if kind == "key" else VIRTUAL_GENERATION_ID


def _fields(table: Table) -> Iterator[Row]:
    for field in table.fields:
        yield _field(table, field.id, field.name, field.type, field.count, field.optional, False)
    for name, kind in table.virtual.items():
        yield _field(table, _virtual_id(kind), name, "u64" if kind == "key" else "u32", 1, False, True)


def _field(table: Table, number: int, name: str, kind: str, count: int, optional: bool, virtual: bool) -> Row:
    return {
        "id": table.id << 16 | number,
        "table_id": table.id,
        "field_id": number,
        "name": _text(name),
        "type": FIELD_TYPES[kind],
        "count": count,
        "optional": optional,
        "virtual": virtual,
    }


def _constraints(table: Table) -> Iterator[Row]:
    for field in table.fields:
        for rule, name, value in _rules(table, field):
            yield _rule(table, field.id, rule, name, value)
    for kind in table.virtual.values():
        yield _rule(table, _virtual_id(kind), kind)
    for number, names in enumerate(table.uniques, 1):
        for name in names:
            yield _rule(table, table.field(name).id, "unique_together", str(number), ", ".join(names))
    if table.spatial is not None:
        for axis, name in zip("xyz", table.spatial.fields, strict=False):
            yield _rule(table, table.field(name).id, "spatial", axis, repr(table.spatial.cell))
    if table.group is not None:
        yield _rule(table, VIRTUAL_KEY_ID, "group", table.group)
    for writer in table.writers:
        # One for each field that it names, so that a query finds who may write a column.
        said = f"{' '.join(writer.operations)} of {writer.rows}"
        numbers = [WHOLE_TABLE_ID] if writer.fields is None else [table.field(name).id for name in writer.fields]
        for number in numbers:
            yield _rule(table, number, "writer", writer.role, said)
    for role in _roles(table.visible_to):
        yield _rule(table, WHOLE_TABLE_ID, "visible_to", role)
    if table.conflict != "authority":
        yield _rule(table, WHOLE_TABLE_ID, "conflict", table.conflict)
    for rule, name in (("with", table.tied), ("owner", table.owner)):
        if name:
            yield _rule(table, table.field(name).id, rule)


def _roles(roles: tuple[str, ...] | None) -> tuple[str, ...]:
    # A row without a name says that no client sees it.
    return () if roles is None else roles or ("",)


def _interest(schema: Schema, rule: InterestRule) -> Row:
    """A rule of interest, at the table and the field that it names first."""
    table, number = schema.table(rule.table or (rule.tables[0] if rule.tables else ENTITIES)), WHOLE_TABLE_ID
    if rule.field:
        table, field = schema.field(rule.field)
        number = field.id
    value = {
        "always": ", ".join(rule.tables), "owned": "", "near": f"{rule.radius!r} {rule.leave_radius!r}",
        "related": rule.see, "query": rule.where,
    }[rule.kind]  # fmt: skip
    return _rule(table, number, "interest", rule.kind, value)


def _rule(table: Table, number: int, rule: str, name: str = "", value: str = "") -> Row:
    return {
        "table_id": table.id,
        "field_id": number,
        "rule": RULES[rule],
        "name": _text(name),
        "value": _text(value),
    }


def _rules(table: Table, field: Field) -> Iterator[tuple[str, str, str]]:
    if field.name == table.primary_key:
        yield "primary_key", "", ""
    if field.unique:
        yield "unique", "", ""
    if field.minimum is not None:
        yield "minimum", "", number_text(field, field.minimum)
    if field.maximum is not None:
        yield "maximum", "", number_text(field, field.maximum)
    for name, number in (field.enum or {}).items():
        yield "enum", name, str(number)
    if field.foreign_key is not None:
        target = field.foreign_key
        yield "foreign_key", target.on_delete, f"{target.table}.{target.field}"
    if field.default is not MISSING:
        yield "default", "", value_text(field, field.default)
    if field.auto_increment:
        yield "auto_increment", "", ""
    if field.quantize:
        yield "quantize", "", repr(field.quantize)
    if field.rotation:
        yield "rotation", "", ""
    for role in _roles(field.visible_to):
        yield "visible_to", role, ""


def _text(value: str) -> bytes:
    # Cut on a character's edge; the last byte stays 0.
    raw = value.encode()[: TEXT_BYTES - 1]
    return raw.decode(errors="ignore").encode().ljust(TEXT_BYTES, b"\0")
