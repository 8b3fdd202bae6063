"""The one text of a schema: what is hashed into the fingerprint, and what a client without a schema file is sent.

Two files that mean the same have one canonical text, whatever their order, spelling, spacing and comments: every id is
written out, every key stands at its fixed place, defaults of the language are left out. It is ordinary TOML of the same
language, so the loader that reads a game's schema reads it too, and `load(canonical)` has the same fingerprint.

Left out, because two nodes need not agree on them: `doc`, `rows_expected`, and the built-in tables (of `entities` only
a bound on its rows is kept, where a schema sets one).
"""

from collections.abc import Iterable

from ecsnet.limits import ENTITIES_MAX_DEFAULT
from ecsnet.schema.model import MISSING, Field, Table, Value
from ecsnet.schema.rules import InterestRule, Writer
from ecsnet.schema.types import SCALARS, to_f32


def canonical_text(name: str, version: str, tables: Iterable[Table], interest: Iterable[InterestRule] = ()) -> str:
    """The canonical text; `tables` sorted by id, rules of interest in their order."""
    lines = ["[database]", f"name = {text(name)}", f"version = {text(version)}"]
    for table in tables:
        if table.system:
            continue
        if table.kind == "entities":
            if table.rows_max != ENTITIES_MAX_DEFAULT:
                lines += ["", f"[tables.{table.name}]", f"rows_max = {table.rows_max}"]
            continue
        lines += ["", f"[tables.{table.name}]", f"id = {table.id}"]
        lines += table_keys(table)
        lines.append("fields = [")
        if table.kind == "component":
            lines.append(f'  {{ name = {text(table.key)}, type = "u64", foreign_key = "entities.id" }},')
        lines += [f"  {{ {', '.join([f'id = {field.id}', *field_keys(field, table)])} }}," for field in table.fields]
        lines.append("]")
    lines += interest_lines(interest)
    return "\n".join(lines) + "\n"


def interest_lines(rules: Iterable[InterestRule]) -> list[str]:
    """The rules, each below an empty line and its header."""
    lines: list[str] = []
    for rule in rules:
        lines += ["", "[[interest]]", f"kind = {text(rule.kind)}"]
        if rule.tables:
            lines.append(f"tables = {_names(rule.tables)}")
        if rule.table:
            lines.append(f"table = {text(rule.table)}")
        if rule.kind == "near":
            lines += [f"radius = {rule.radius!r}", f"leave_radius = {rule.leave_radius!r}"]
        if rule.field:
            lines += [f"field = {text(rule.field)}", f"see = {text(rule.see)}"]
        if rule.where:
            lines.append(f"where = {text(rule.where)}")
        if rule.every != 1:
            lines.append(f"every = {rule.every}")
        if rule.roles is not None:
            lines.append(f"roles = {_names(rule.roles)}")
    return lines


def table_keys(table: Table) -> list[str]:
    """The keys of a table, a line each: all but its id, its fields and its notes."""
    lines: list[str] = []
    if table.kind == "component":
        lines.append('parent_table = "entities"')
    elif table.kind == "event":
        lines.append("event = true")
    else:
        assert table.primary_key is not None
        lines.append(f"primary_key = {text(table.primary_key)}")
    if not table.replicated:
        lines.append("replicated = false")
    if table.rows_max:
        lines.append(f"rows_max = {table.rows_max}")
    if table.group is not None:
        lines.append(f"group = {text(table.group)}")
    if table.spatial is not None:
        cell = f"cell = {table.spatial.cell!r}"
        lines.append(f"spatial = {{ fields = {_names(table.spatial.fields)}, {cell} }}")
    if table.uniques:
        lines.append(f"unique = [{', '.join(_names(names) for names in table.uniques)}]")
    if table.tied:
        lines.append(f"with = {text(table.tied)}")
    if table.owner:
        lines.append(f"owner = {text(table.owner)}")
    if table.visible_to is not None:
        lines.append(f"visible_to = {_names(table.visible_to)}")
    if table.writers:
        lines.append(f"writers = [{', '.join(writer_text(writer) for writer in table.writers)}]")
    if table.conflict != "authority":
        lines.append(f"conflict = {text(table.conflict)}")
    return lines


def writer_text(writer: Writer) -> str:
    """One permission as the language writes it, with all its keys."""
    parts = [f"role = {text(writer.role)}", f"operations = {_names(writer.operations)}", f"rows = {text(writer.rows)}"]
    if writer.fields is not None:
        parts.append(f"fields = {_names(writer.fields)}")
    return f"{{ {', '.join(parts)} }}"


def field_keys(field: Field, table: Table) -> list[str]:
    """The keys of a field, as `key = value`: all but its id and its note."""
    parts = [f"name = {text(field.name)}", f"type = {text(field.type_text)}"]
    if field.enum is not None:
        if field.type != "u8":
            parts.append(f"storage = {text(field.type)}")
        members = sorted(field.enum.items(), key=lambda member: member[1])
        parts.append("values = { " + ", ".join(f"{name} = {number}" for name, number in members) + " }")
    if field.default is not MISSING and field.foreign_key is None:
        parts.append(f"default = {value_text(field, field.default)}")
    # A primary key is unique without saying so.
    if field.unique and field.name != table.primary_key:
        parts.append('constraint = "unique"')
    if field.minimum is not None:
        parts.append(f"minimum = {number_text(field, field.minimum)}")
    if field.maximum is not None:
        parts.append(f"maximum = {number_text(field, field.maximum)}")
    if field.foreign_key is not None:
        target = field.foreign_key
        parts.append(f"foreign_key = {text(f'{target.table}.{target.field}')}")
        if field.optional:
            parts.append("optional = true")
        if table.kind != "event":
            parts.append(f"on_delete = {text(target.on_delete)}")
    if field.auto_increment:
        parts.append("auto_increment = true")
    if field.quantize:
        parts.append(f"quantize = {field.quantize!r}")
    if field.rotation:
        parts.append("rotation = true")
    if field.visible_to is not None:
        parts.append(f"visible_to = {_names(field.visible_to)}")
    return parts


def value_text(field: Field, value: Value) -> str:
    """A default as the language writes it: an enum's by its name, an array of equal elements as one of them."""
    if field.enum is not None:
        return text(next(name for name, number in field.enum.items() if number == value))
    if isinstance(value, bytes):
        return _bytes(value)
    if isinstance(value, str):
        return text(value)
    if isinstance(value, tuple):
        elements = [number_text(field, element) for element in value]
        # By text: 0.0 and -0.0 are equal as numbers and different as defaults.
        if len(set(elements)) == 1:
            return elements[0]
        for length in reversed(field.shape):
            rows = range(0, len(elements), length)
            elements = ["[" + ", ".join(elements[row : row + length]) + "]" for row in rows]
        return elements[0]
    return number_text(field, value)


def number_text(field: Field, value: bool | int | float) -> str:
    """One element: the shortest text that reads back as the same bits."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if SCALARS[field.type].kind != "float":
        return str(int(value))
    number = float(value)
    if field.type == "f32":
        for digits in range(1, 10):
            short = float(f"{number:.{digits}g}")
            if to_f32(short) == number:
                return repr(short)
    return repr(number)


def _names(names: Iterable[str]) -> str:
    return "[" + ", ".join(text(name) for name in names) + "]"


def text(value: str) -> str:
    """A TOML basic string."""
    out = ['"']
    for character in value:
        if character in '"\\':
            out.append("\\" + character)
        elif character < " " or character == "\x7f":
            out.append(f"\\u{ord(character):04x}")
        else:
            out.append(character)
    out.append('"')
    return "".join(out)


def _bytes(value: bytes) -> str:
    """Text where it is text, without the zeros that fill it up; numbers otherwise."""
    stripped = value.rstrip(b"\0")
    try:
        return text(stripped.decode())
    except UnicodeDecodeError:
        return "[" + ", ".join(str(byte) for byte in stripped) + "]"
