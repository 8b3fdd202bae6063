"""A schema for people, and the same for programs: what `ecsnet schema check` prints."""

from typing import Any

from ecsnet.schema.canonical import number_text, value_text
from ecsnet.schema.model import MISSING, Field, Schema, Table
from ecsnet.schema.rules import EVERY_ROLE, InterestRule, Writer
from ecsnet.schema.source import shorten


def summary(schema: Schema, *, system: bool = False) -> dict[str, Any]:
    """Name, version, fingerprint and tables, in JSON's own types; `system` adds the built-in tables."""
    return {
        "name": schema.name,
        "version": schema.version,
        "fingerprint": schema.fingerprint_hex,
        "tables": [_table(table) for table in _shown(schema, system)],
        "interest": [_rule(rule) for rule in schema.interest],
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
        lines += [f"  written by {_writer_text(writer)}" for writer in table.writers]
    if schema.interest:
        lines += ["", "clients are sent"]
        lines += [f"  {_rule_text(rule)}" for rule in schema.interest]
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
    if table.tied:
        parts.append(f"travels with {table.tied}")
    if table.owner:
        parts.append(f"owned by {table.owner}")
    if table.visible_to is not None:
        parts.append(f"visible to {_roles(table.visible_to)}")
    if table.conflict == "lww":
        parts.append("the last write of a cell wins")
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
    if field.quantize:
        notes.append(f"rounded to {field.quantize!r} on the wire")
    if field.rotation:
        notes.append("a rotation")
    if field.visible_to is not None:
        notes.append(f"visible to {_roles(field.visible_to)}")
    if note := _first_line(field.doc):
        notes.append(note)
    return notes


def _roles(roles: tuple[str, ...]) -> str:
    return ", ".join(roles) or "no client"


def _writer_text(writer: Writer) -> str:
    who = "every role" if writer.role == EVERY_ROLE else writer.role
    fields = "" if writer.fields is None else f", only {', '.join(writer.fields)}"
    return f"{who}: {', '.join(writer.operations)} of {writer.rows} rows{fields}"


def _rule_text(rule: InterestRule) -> str:
    every = "" if rule.every == 1 else f", each {rule.every} ticks"
    match rule.kind:
        case "always":
            said = f"always all of {', '.join(rule.tables)}"
        case "owned":
            said = "what they own"
        case "near":
            said = f"what is near by {rule.table}, within {rule.radius!r} and until {rule.leave_radius!r}{every}"
        case "related":
            said = f"along {rule.field} what is {rule.see}"
        case "query":
            said = f"of {rule.table} those where {shorten(rule.where, 80)}{every}"
    return said if rule.roles is None else f"{said}  (only {_roles(rule.roles)})"


def _rule(rule: InterestRule) -> dict[str, Any]:
    out: dict[str, Any] = {"kind": rule.kind}
    if rule.tables:
        out["tables"] = list(rule.tables)
    for key, value in (("table", rule.table), ("field", rule.field), ("where", rule.where)):
        if value:
            out[key] = value
    if rule.kind == "near":
        out |= {"radius": rule.radius, "leave_radius": rule.leave_radius}
    if rule.kind == "related":
        out["see"] = rule.see
    if rule.every != 1:
        out["every"] = rule.every
    if rule.roles is not None:
        out["roles"] = list(rule.roles)
    return out


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
    if table.tied:
        out["with"] = table.tied
    if table.owner:
        out["owner"] = table.owner
    if table.visible_to is not None:
        out["visible_to"] = list(table.visible_to)
    if table.writers:
        out["writers"] = [_writer(writer) for writer in table.writers]
    if table.conflict != "authority":
        out["conflict"] = table.conflict
    return out


def _writer(writer: Writer) -> dict[str, Any]:
    out: dict[str, Any] = {"role": writer.role, "operations": list(writer.operations), "rows": writer.rows}
    if writer.fields is not None:
        out["fields"] = list(writer.fields)
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
    if field.quantize:
        out["quantize"] = field.quantize
    if field.rotation:
        out["rotation"] = True
    if field.visible_to is not None:
        out["visible_to"] = list(field.visible_to)
    if field.doc:
        out["doc"] = field.doc
    return out
