"""A schema for people, and the same for programs: what `ecsnet schema check` prints."""

from typing import Any

from ecsnet.schema.canonical import number_text, value_text
from ecsnet.schema.model import MISSING, Field, Schema, Table
from ecsnet.schema.source import shorten


def summary(schema: Schema, *, system: bool = False) -> dict[str, Any]:
    """Name, version, fingerprint and tables, in JSON's own types; `system` adds the built-in tables."""
    return {
        "name": schema.name,
        "version": schema.version,
        "fingerprint": schema.fingerprint_hex,
        "tables": [_table(table) for table in _shown(schema, system)],
    }


def describe(schema: Schema, *, system: bool = False) -> str:
    """Plain text in columns, without a line end at the end; `system` adds the built-in tables."""
    shown = _shown(schema, system)
    hidden = len(schema.tables) - len(shown)
    lines = [f"{schema.name} {schema.version}", f"fingerprint {schema.fingerprint_hex}"]
    if schema.doc.strip():
        lines += ["", *(shorten(line, 120) for line in schema.doc.strip().splitlines())]
    for table in shown:
        lines += ["", _headline(table)]
        rows: list[tuple[str, str, str, str]] = []
        rows += [("-", name, _virtual_type(kind), kind) for name, kind in table.virtual.items()]
        rows += [(str(f.id), f.name, f.type_text, ", ".join(_notes(table, f))) for f in table.fields]
        widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
        for number, name, kind, notes in rows:
            line = f"  {number:>{widths[0]}}  {name:<{widths[1]}}  {kind:<{widths[2]}}  {notes}"
            lines.append(line.rstrip())
    if hidden:
        lines += ["", f"and {hidden} system tables"]
    return "\n".join(lines)


def _shown(schema: Schema, system: bool) -> list[Table]:
    return [table for table in schema.tables if system or not table.system]


def _virtual_type(kind: str) -> str:
    return "u64" if kind == "key" else "u32"


def _headline(table: Table) -> str:
    parts = [f"table {table.id}", table.kind, f"{table.width} B a row"]
    if not table.replicated:
        parts.append("not replicated")
    if table.rows_max:
        parts.append(f"at most {table.rows_max} rows")
    if table.group is not None:
        parts.append(f"in group {table.group}")
    if table.spatial is not None:
        parts.append(f"a place in {', '.join(table.spatial.fields)}, cells of {table.spatial.cell!r}")
    parts += [f"unique {' + '.join(names)}" for names in table.uniques]
    if table.rows_expected:
        parts.append(f"about {table.rows_expected} rows")
    line = f"{table.name}  ({', '.join(parts)})"
    note = _first_line(table.doc)
    return f"{line}  {note}" if note else line


def _notes(table: Table, field: Field) -> list[str]:
    notes = []
    if field.name == table.primary_key:
        notes.append("primary key")
    elif field.unique:
        notes.append("unique")
    if field.auto_increment:
        notes.append("counts by itself")
    if field.enum is not None:
        members = [f"{name} = {number}" for name, number in field.enum.items()]
        notes.append("{ " + ", ".join(members[:6]) + (", ..." if len(members) > 6 else "") + f" }} in {field.type}")
    if field.default is not MISSING:
        default = "null" if field.foreign_key is not None else value_text(field, field.default)
        notes.append(f"default {shorten(default)}")
    if field.minimum is not None:
        notes.append(f"minimum {number_text(field, field.minimum)}")
    if field.maximum is not None:
        notes.append(f"maximum {number_text(field, field.maximum)}")
    if field.foreign_key is not None:
        target = field.foreign_key
        ends = "" if table.kind == "event" else f", on delete {target.on_delete}"
        notes.append(f"references {target.table}.{target.field}{ends}")
    if note := _first_line(field.doc):
        notes.append(note)
    return notes


def _first_line(doc: str) -> str:
    # A schema may come from a stranger: nothing that steers a terminal gets through `shorten`.
    lines = doc.strip().splitlines()
    return shorten(lines[0], 80) if lines else ""


def _table(table: Table) -> dict[str, Any]:
    out: dict[str, Any] = {
        "id": table.id,
        "name": table.name,
        "kind": table.kind,
        "replicated": table.replicated,
        "system": table.system,
        "key": table.key or None,
        "virtual": dict(table.virtual),
        "row_bytes": table.width,
        "rows_max": table.rows_max,
        "rows_expected": table.rows_expected,
        "doc": table.doc,
        "fields": [_field(table, field) for field in table.fields],
    }
    if table.group is not None:
        out["group"] = table.group
    if table.spatial is not None:
        out["spatial"] = {"fields": list(table.spatial.fields), "cell": table.spatial.cell}
    if table.uniques:
        out["unique"] = [list(names) for names in table.uniques]
    return out


def _field(table: Table, field: Field) -> dict[str, Any]:
    out: dict[str, Any] = {
        "id": field.id,
        "name": field.name,
        "type": field.type_text,
        "bytes": field.width,
        "required": field.required,
    }
    if field.enum is not None:
        out["storage"] = field.type
        out["values"] = dict(field.enum)
    if field.default is not MISSING:
        out["default"] = field.default.hex() if isinstance(field.default, bytes) else field.default
    if field.minimum is not None:
        out["minimum"] = field.minimum
    if field.maximum is not None:
        out["maximum"] = field.maximum
    if field.unique:
        out["unique"] = True
    if field.optional:
        out["optional"] = True
    if field.auto_increment:
        out["auto_increment"] = True
    if field.foreign_key is not None:
        target = field.foreign_key
        out["foreign_key"] = f"{target.table}.{target.field}"
        if table.kind != "event":
            out["on_delete"] = target.on_delete
    if field.doc:
        out["doc"] = field.doc
    return out
