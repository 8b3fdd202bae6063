"""The same schema in the other spelling: TOML to classes, classes to TOML, and back, one fingerprint all along."""

import ast
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ecsnet.schema import Schema, load, loads
from ecsnet.schema.write_python import to_python
from ecsnet.schema.write_toml import to_toml
from tests.schema.test_classes import SAME
from tests.schema.toml_texts import interest_declarations, schema_declarations, schema_text

EXAMPLES = Path(__file__).parents[2] / "schema" / "examples"


def of_classes(text: str) -> Schema:
    """The schema that a module's text defines."""
    ast.parse(text)
    names: dict[str, Any] = {"__name__": "game"}
    exec(compile(text, "game.py", "exec", dont_inherit=True), names)
    schema: Schema = names["schema"]
    return schema


@settings(max_examples=60, deadline=None)
@given(schema_declarations(), st.data())
def test_any_schema_is_the_same_in_either_spelling(tables: dict[str, Any], data: st.DataObject) -> None:
    """Whatever the language can say: names like Python's own, odd floats, ids with gaps, structs, notes, rules."""
    schema = loads(schema_text(tables, interest=data.draw(interest_declarations(tables))))
    again = of_classes(to_python(schema))
    assert again.fingerprint == schema.fingerprint
    assert again.interest == schema.interest
    assert again.tables == schema.tables, "notes too"
    assert loads(to_toml(schema)).tables == loads(to_toml(again)).tables == schema.tables


def test_what_no_random_schema_has_is_kept() -> None:
    """Structs in structs and in arrays, a bound on entities, keys and ids of one's own."""
    for schema in (loads(SAME), *(load(path) for path in EXAMPLES.glob("*.toml"))):
        assert of_classes(to_python(schema)) == schema
        assert loads(to_toml(schema)) == schema


def test_equal_structs_and_enums_are_one_class() -> None:
    """Nobody wants Position2 to Position9, but two structs that differ must not become one."""
    text = to_python(loads(SAME))
    assert text.count("(IntEnum)") == 1
    assert "kind: enum[Kind] = field(default=Kind.POTION)" in text
    assert [line for line in text.splitlines() if line.endswith("(Struct):")] == [
        "class Path(Struct):",
        "class Place(Struct):",
        "class Pose(Struct):",
    ]


def test_names_that_python_or_ecsnet_has_taken_are_written_differently() -> None:
    """A table may be called none, and a field f32."""
    schema = loads(
        '[database]\nname = "odd"\nversion = "1.0.0"\n'
        "[tables.none]\nevent = true\n"
        'fields = [{ name = "f32", type = "f32", default = 1 }, { name = "x", type = "f32" }]\n'
        "[tables.event]\nevent = true\n"
        'fields = [{ name = "k", type = "enum", values = { None = 1 }, default = "None" }]\n'
        '[tables.k]\nevent = true\n[tables.a_1]\nevent = true\n[tables.a1]\nevent = true\ndoc = """a "doc" \\\\ """\n'
    )
    text = to_python(schema)
    assert of_classes(text).tables == schema.tables
    assert 'class None_2(_ecsnet.Event, name="none")' in text


def test_long_lines_are_broken() -> None:
    """What is printed is where a game's own module begins."""
    text = to_python(loads(SAME))
    assert max(map(len, text.splitlines())) <= 120
