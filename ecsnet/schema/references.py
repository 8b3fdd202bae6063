"""What one table says about another: foreign keys, checked when every table has been read."""

from ecsnet.errors import did_you_mean
from ecsnet.schema.builtin import BUILTIN_NAMES
from ecsnet.schema.declared import Declared
from ecsnet.schema.model import ENTITIES
from ecsnet.schema.source import shorten
from ecsnet.schema.tables import Draft, demand_entity_type


def check_reference(field: Declared, tables: dict[str, Draft]) -> None:
    """Check that a foreign key names the key of a table, and can hold it.

    Raises:
        SchemaError: there is no such table or field, it is not the table's key, or of another type.
    """
    if field.foreign_key is None:
        return
    table, target = field.foreign_key
    node = field.node
    if table == ENTITIES:
        if target != "id":
            reason = f'entities is referenced by its id, not by "{shorten(target)}"'
            raise node.error("unknown-field", "foreign_key", reason, 'write foreign_key = "entities.id"')
        demand_entity_type(field)
        return
    draft = tables.get(table)
    if draft is None:
        if table in BUILTIN_NAMES:
            raise node.error("bad-reference", "foreign_key", f'"{table}" is a system table, which nothing references')
        close = did_you_mean(table, (*tables, ENTITIES))
        better = f"{close}.id" if close == ENTITIES else f"{close}.{target}"
        hint = f'did you mean "{shorten(better)}"?' if close else "tables are declared as [tables.NAME]"
        raise node.error("unknown-table", "foreign_key", f'there is no table "{shorten(table)}"', hint)
    names = [other.name for other in draft.fields if "." not in other.name] + (
        [draft.key.name] if draft.key is not None else []
    )
    if target not in names:
        close = did_you_mean(target, names)
        hint = f'did you mean "{table}.{close}"?' if close else f'fields of "{table}": {", ".join(names[:8])}'
        raise node.error("unknown-field", "foreign_key", f'"{table}" has no field "{shorten(target)}"', hint)
    if draft.kind != "keyed":
        if draft.kind == "event":
            reason = f'"{table}" is an event: its rows live for one tick, and nothing refers to them'
            raise node.error("bad-reference", "foreign_key", reason, "refer to what the event is about")
        reason = f'"{table}" is a component: its entity names the row'
        raise node.error("bad-reference", "foreign_key", reason, 'write foreign_key = "entities.id"')
    if target != draft.primary_key:
        reason = f'"{table}" is referenced by its primary key, not by "{shorten(target)}"'
        raise node.error("bad-reference", "foreign_key", reason, f'write foreign_key = "{table}.{draft.primary_key}"')
    if draft.conflict == "lww" and field.on_delete == "restrict":
        reason = f'another node may delete a row of "{table}" without asking who refers to it'
        raise node.error("key-conflict", "on_delete", reason, 'write "set_null" or "cascade"')
    key = draft.field(target)
    assert key is not None
    if key.enum is not None:
        reason = f'the key of "{table}" is an enum, and null would be no member of it'
        raise node.error(
            "bad-reference", "foreign_key", reason, f'hold the enum itself, or give "{table}" an integer key'
        )
    if (field.cell.element, field.cell.shape, field.enum) != (key.cell.element, key.cell.shape, None):
        reason = f"a reference to {table}.{target} is a {key.cell.text}"
        raise node.error("bad-reference", "type", reason, f'write type = "{key.cell.text}"')
