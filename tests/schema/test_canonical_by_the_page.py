"""The canonical text, written a second time: by the five rules of `schema/README.md`, from what `--json` prints.

Whoever writes a client in another language has that page and nothing else; if the two writers differ, the page is wrong
or unclear, and so is every fingerprint computed from it.
"""

import json
import re
import struct
from pathlib import Path
from typing import Any

import mmh3
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecsnet.schema import Schema, load, loads
from tests.schema.toml_texts import interest_declarations, schema_declarations, schema_text

EXAMPLES = Path(__file__).parents[2] / "schema" / "examples"
ENTITIES_MAX = 4194304


def string(value: str) -> str:
    def one(character: str) -> str:
        if character in '"\\':
            return "\\" + character
        control = ord(character) < 0x20 or ord(character) == 0x7F
        return f"\\u{ord(character):04x}" if control else character

    return '"' + "".join(map(one, value)) + '"'


def strings(values: list[str]) -> str:
    return f"[{', '.join(map(string, values))}]"


def number(value: Any, element: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if element == "f32":
        # numpy, as a second opinion: an overflow is infinite there, and equal to no value.
        with np.errstate(over="ignore"):
            shortest = next(s for d in range(1, 10) if np.float32(s := f"{value:.{d}g}") == np.float32(value))
        return repr(float(shortest))
    return repr(float(value)) if element == "f64" else str(value)


def default(field: dict[str, Any], element: str) -> str:
    value = field["default"]
    if "values" in field:
        return string({n: name for name, n in field["values"].items()}[value])
    if element == "bytes":
        raw = bytes.fromhex(value).rstrip(b"\0")
        try:
            return string(raw.decode())
        except UnicodeDecodeError:
            return str(list(raw))
    if element == "string":
        return string(value)
    if isinstance(value, list):
        elements = [number(one, element) for one in value]
        if elements.count(elements[0]) == len(elements):
            return elements[0]
        lengths = [int(length) for length in re.findall(r"; (\d+)", field["type"])]
        return nested(elements, lengths[::-1])
    return number(value, element)


def nested(elements: list[str], lengths: list[int]) -> str:
    """`lengths` from the outermost array to the innermost."""
    size = len(elements) // lengths[0]
    rows = [elements[start : start + size] for start in range(0, len(elements), size)]
    return "[" + ", ".join(row[0] if len(lengths) == 1 else nested(row, lengths[1:]) for row in rows) + "]"


def field_line(field: dict[str, Any], table: dict[str, Any]) -> str:
    element = field["type"].lstrip("[").split(";")[0].split("[")[0]
    parts = [f"id = {field['id']}", f"name = {string(field['name'])}", f"type = {string(field['type'])}"]
    if field.get("storage", "u8") != "u8":
        parts.append(f"storage = {string(field['storage'])}")
    if "values" in field:
        members = sorted(field["values"].items(), key=lambda member: member[1])
        parts.append("values = { " + ", ".join(f"{name} = {n}" for name, n in members) + " }")
    if "default" in field and "foreign_key" not in field:
        parts.append(f"default = {default(field, element)}")
    if field.get("unique") and not (table["kind"] == "keyed" and field["name"] == table["key"]):
        parts.append('constraint = "unique"')
    parts += [f"{key} = {number(field[key], element)}" for key in ("minimum", "maximum") if key in field]
    if "foreign_key" in field:
        parts.append(f"foreign_key = {string(field['foreign_key'])}")
        if field.get("optional"):
            parts.append("optional = true")
        if table["kind"] != "event":
            parts.append(f"on_delete = {string(field['on_delete'])}")
    if field.get("auto_increment"):
        parts.append("auto_increment = true")
    if "quantize" in field:
        parts.append(f"quantize = {number(field['quantize'], 'f64')}")
    if field.get("rotation"):
        parts.append("rotation = true")
    if "visible_to" in field:
        parts.append(f"visible_to = {strings(sorted(field['visible_to']))}")
    return "  { " + ", ".join(parts) + " },"


def by_the_page(summary: dict[str, Any]) -> str:
    lines = ["[database]", f"name = {string(summary['name'])}", f"version = {string(summary['version'])}"]
    for table in sorted(summary["tables"], key=lambda table: table["id"]):
        if table["kind"] == "entities":
            if table["rows_max"] != ENTITIES_MAX:
                lines += ["", "[tables.entities]", f"rows_max = {table['rows_max']}"]
            continue
        lines += ["", f"[tables.{table['name']}]", f"id = {table['id']}"]
        is_component = table["kind"] == "component"
        kind = "event = true" if table["kind"] == "event" else f"primary_key = {string(table['key'] or '')}"
        lines.append('parent_table = "entities"' if is_component else kind)
        if not table["replicated"]:
            lines.append("replicated = false")
        if table["rows_max"]:
            lines.append(f"rows_max = {table['rows_max']}")
        if "group" in table:
            lines.append(f"group = {string(table['group'])}")
        if "spatial" in table:
            cell = number(table["spatial"]["cell"], "f64")
            lines.append(f"spatial = {{ fields = {strings(table['spatial']['fields'])}, cell = {cell} }}")
        if "unique" in table:
            ids = {field["name"]: field["id"] for field in table["fields"]}
            sets = sorted((sorted(names, key=ids.get) for names in table["unique"]), key=lambda n: [*map(ids.get, n)])
            lines.append(f"unique = [{', '.join(map(strings, sets))}]")
        lines += [f"{key} = {string(table[key])}" for key in ("with", "owner") if key in table]
        if "visible_to" in table:
            lines.append(f"visible_to = {strings(sorted(table['visible_to']))}")
        if "writers" in table:
            lines.append(f"writers = [{', '.join(writer(one, table) for one in table['writers'])}]")
        if "conflict" in table:
            lines.append(f"conflict = {string(table['conflict'])}")
        lines.append("fields = [")
        if is_component:
            lines.append(f'  {{ name = {string(table["key"])}, type = "u64", foreign_key = "entities.id" }},')
        lines += [field_line(field, table) for field in sorted(table["fields"], key=lambda field: field["id"])]
        lines.append("]")
    for rule in summary["interest"]:
        lines += ["", "[[interest]]", f"kind = {string(rule['kind'])}"]
        if "tables" in rule:
            lines.append(f"tables = {strings(sorted(rule['tables']))}")
        lines += [f"table = {string(rule['table'])}"] if "table" in rule else []
        lines += [f"{key} = {number(rule[key], 'f64')}" for key in ("radius", "leave_radius") if key in rule]
        lines += [f"{key} = {string(rule[key])}" for key in ("field", "see", "where") if key in rule]
        lines += [f"every = {rule['every']}"] if "every" in rule else []
        lines += [f"roles = {strings(sorted(rule['roles']))}"] if "roles" in rule else []
    return "".join(line + "\n" for line in lines)


def writer(one: dict[str, Any], table: dict[str, Any]) -> str:
    operations = sorted(one["operations"], key=["insert", "update", "delete"].index)
    parts = [f"role = {string(one['role'])}", f"operations = {strings(operations)}", f"rows = {string(one['rows'])}"]
    if "fields" in one:
        ids = {field["name"]: field["id"] for field in table["fields"]}
        parts.append(f"fields = {strings(sorted(one['fields'], key=ids.__getitem__))}")
    return "{ " + ", ".join(parts) + " }"


def assert_both_writers_agree(schema: Schema) -> None:
    text = by_the_page(json.loads(json.dumps(schema.summary())))
    assert text == schema.canonical
    low, high = mmh3.mmh3_x64_128_utupledigest(text.encode(), 0)
    assert struct.pack("<QQ", low, high) == schema.fingerprint


@pytest.mark.parametrize("name", ["game_db", "arena"])
def test_the_page_gives_the_examples_their_fingerprint(name: str) -> None:
    """The two that everybody will try first."""
    assert_both_writers_agree(load(EXAMPLES / f"{name}.toml"))


@given(schema_declarations(), st.data())
def test_the_page_gives_any_schema_its_canonical_text(tables: dict[str, Any], data: st.DataObject) -> None:
    """Odd floats, odd texts, ids with gaps: nothing of the writer that the page does not say."""
    interest = data.draw(interest_declarations(tables))
    assert_both_writers_agree(loads(schema_text(tables, interest=interest)))


def test_a_bound_on_entities_is_written() -> None:
    """The one thing that a schema can say about the registry and that two nodes must agree on."""
    text = '[database]\nname = "few"\nversion = "1.0.0"\n[tables.entities]\nrows_max = 10\n'
    assert_both_writers_agree(loads(text))
