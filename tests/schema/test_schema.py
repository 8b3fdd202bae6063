"""What a schema means: ids, defaults, canonical text, fingerprint, metadata."""

import pickle
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ecsnet.errors import ArgumentError, SchemaError, UnknownNameError
from ecsnet.schema import MISSING, Schema, load, loads
from ecsnet.schema.builtin import FIELD_TYPES
from ecsnet.schema.types import SCALARS
from tests.schema.toml_texts import documents, schema_declarations, schema_text

EXAMPLES = Path(__file__).parents[2] / "schema" / "examples"
HEAD = '[database]\nname = "game"\nversion = "1.0.0"\n'
KEY = '{ name = "entity_id", type = "u64", foreign_key = "entities.id" }'


def component(*fields: str, extra: str = "") -> Schema:
    """A schema of one component `thing` with these fields."""
    return loads(f'{HEAD}[tables.thing]\nparent_table = "entities"\n{extra}fields = [{", ".join((KEY, *fields))}]\n')


def without_notes(schema: Schema) -> tuple[object, ...]:
    """All that it consists of, but for what is not part of the fingerprint."""
    tables = tuple(
        replace(
            table,
            doc="",
            rows_expected=0,
            fields=tuple(replace(field, doc="") for field in table.fields),
        )
        for table in schema.tables
    )
    return schema.name, schema.version, tables, schema.canonical, schema.fingerprint


# --- the examples -----------------------------------------------------------------------------------------------------


def test_the_smallest_schema_loads_as_it_is() -> None:
    """`game_db.toml` is the format's promise: nothing in it may ever need a change."""
    schema = load(EXAMPLES / "game_db.toml")
    assert (schema.name, schema.version) == ("game_db", "1.0.0")
    assert [table.name for table in schema.user_tables] == ["health", "transform"]
    entities, health, transform = (schema.table(name) for name in ("entities", "health", "transform"))
    assert (entities.id, entities.kind, dict(entities.virtual)) == (
        0,
        "entities",
        {"id": "key", "version": "generation"},
    )
    assert [field.name for field in entities.fields] == ["owner"]
    assert (health.id, health.kind, health.key) == (16, "component", "entity_id")
    assert [(f.id, f.name, f.type, f.required) for f in transform.fields] == [
        (0, "position_x", "f32", True),
        (1, "position_y", "f32", True),
        (2, "position_z", "f32", True),
    ]


def test_the_fingerprints_of_the_examples_stay() -> None:
    """A changed fingerprint locks every older client out: it may change when the language does, and not by accident.

    They are also what another implementation of the canonical text compares itself with.
    """
    assert load(EXAMPLES / "game_db.toml").fingerprint_hex == "25fe1cb34f48582b47d095554df23618"
    assert load(EXAMPLES / "arena.toml").fingerprint_hex == "5eeb223a9fd0aff01fca5af360547ca9"


def test_the_arena_has_what_the_readme_says() -> None:
    """The demo, the README and many tests stand on this schema."""
    schema = load(EXAMPLES / "arena.toml")
    hp = schema["health.hp"]
    assert (hp.type, hp.default, hp.maximum, hp.minimum) == ("u16", 100, 100, None)
    item = schema["item"]
    assert (item.kind, item.primary_key, item.key) == ("keyed", "id", "id")
    assert item.field("id").auto_increment and item.field("id").unique and not item.field("id").required
    holder = item.field("holder")
    assert holder.foreign_key is not None and holder.foreign_key.on_delete == "set_null"
    assert holder.optional and holder.default == 0
    assert dict(item.field("kind").enum or {}) == {"SWORD": 1, "POTION": 2}


# --- ids --------------------------------------------------------------------------------------------------------------


def test_ids_follow_names_and_never_the_order_in_the_file() -> None:
    """Two people who write the same tables in another order have the same database."""
    one = loads(
        f'{HEAD}[tables.b]\nparent_table = "entities"\n'
        f'fields = [{KEY}, {{name="y", type="u8"}}, {{name="x", type="i8"}}]\n'
        f'[tables.a]\nparent_table = "entities"\nfields = [{KEY}]\n'
    )
    other = loads(
        f'{HEAD}[tables.a]\nparent_table = "entities"\nfields = [{KEY}]\n'
        f'[tables.b]\nparent_table = "entities"\nfields = [{KEY}, {{name="x", type="i8"}}, {{name="y", type="u8"}}]\n'
    )
    assert one == other
    assert [(table.id, table.name) for table in one.user_tables] == [(16, "a"), (17, "b")]
    assert [(field.id, field.name) for field in one["b"].fields] == [(0, "x"), (1, "y")]


def test_explicit_ids_win_and_the_others_fill_the_gaps() -> None:
    """A table that was there before keeps its number whatever is added around it."""
    schema = component(
        '{ name = "c", type = "u8" }',
        '{ id = 1, name = "z", type = "u8" }',
        '{ name = "a", type = "u8" }',
        extra="id = 700\n",
    )
    assert schema["thing"].id == 700
    assert [(field.id, field.name) for field in schema["thing"].fields] == [(0, "a"), (1, "z"), (2, "c")]
    assert schema.table_by_id(700) is schema["thing"]


# --- values -----------------------------------------------------------------------------------------------------------


def test_f32_bounds_and_defaults_are_f32_values() -> None:
    """The f32 nearest to 0.1 is above the double 0.1: an unrounded maximum would refuse its own value."""
    field = component('{ name = "x", type = "f32", default = 0.1, maximum = 0.1 }')["thing.x"]
    assert field.default == field.maximum == float(np.float32(0.1))
    assert (
        "default = 0.1, maximum = 0.1"
        in component('{ name = "x", type = "f32", default = 0.1, maximum = 0.1 }').canonical
    )


def test_a_bound_of_negative_zero_is_a_bound_of_zero() -> None:
    """They admit the same values, so they are one schema."""
    assert component('{ name = "x", type = "f64", minimum = -0.0 }') == component(
        '{ name = "x", type = "f64", minimum = 0 }'
    )


def test_the_greatest_f32_is_written_and_read() -> None:
    """Its shorter decimals are above the range: looking for the shortest must step over them."""
    greatest = float(np.finfo(np.float32).max)
    schema = component(f'{{ name = "x", type = "f32", maximum = {greatest!r} }}')
    assert loads(schema.canonical)["thing.x"].maximum == greatest


def test_one_default_stands_for_every_element_of_an_array() -> None:
    """Nobody wants to write sixteen zeros; both spellings are one schema."""
    short = component('{ name = "m", type = "[i16; 3]", default = -1 }')
    long = component('{ name = "m", type = "[i16;3]", default = [-1, -1, -1] }')
    assert short == long
    assert short["thing.m"].default == (-1, -1, -1)
    assert (short["thing.m"].shape, short["thing.m"].count, short["thing.m"].width) == ((3,), 3, 6)


def test_bytes_are_filled_up_with_zeros() -> None:
    """A cell has one width; text and numbers are two spellings of the same bytes."""
    text = component('{ name = "tag", type = "bytes[4]", default = "ab" }')
    numbers = component('{ name = "tag", type = "bytes[4]", default = [97, 98, 0] }')
    assert text == numbers
    assert text["thing.tag"].default == b"ab\0\0"
    odd = component('{ name = "tag", type = "bytes[2]", default = [255, 0] }')
    assert loads(odd.canonical)["thing.tag"].default == b"\xff\0"


def test_an_enum_is_its_discriminant_in_the_storage_it_names() -> None:
    """The order of members in a file is not state; numbers are."""
    one = component('{ name = "k", type = "enum", storage = "i16", values = { B = -2, A = 300 }, default = "A" }')
    other = component('{ name = "k", type = "enum", storage = "i16", values = { A = 300, B = -2 }, default = "A" }')
    assert one == other
    field = one["thing.k"]
    assert (field.type, field.default, list((field.enum or {}).items())) == ("i16", 300, [("B", -2), ("A", 300)])


def test_numbers_at_the_ends_of_their_types_are_kept() -> None:
    """u64 is wider than TOML promises and than a double holds: it must arrive exactly."""
    schema = component(
        '{ name = "a", type = "u64", default = 18446744073709551615 }',
        '{ name = "b", type = "i64", default = -9223372036854775808 }',
        '{ name = "c", type = "f64", default = 5e-324 }',
        '{ name = "d", type = "f32", default = -0.0 }',
    )
    again = loads(schema.canonical)
    assert again["thing.a"].default == 2**64 - 1
    assert again["thing.b"].default == -(2**63)
    assert again["thing.c"].default == 5e-324
    assert np.signbit(again["thing.d"].default)


def test_a_reference_without_on_delete_restricts_or_becomes_null() -> None:
    """Nothing is deleted or changed behind a game's back unless the schema says so."""
    schema = component(
        '{ name = "must", type = "u64", foreign_key = "entities.id" }',
        '{ name = "may", type = "u64", foreign_key = "entities.id", optional = true }',
    )
    must, may = schema["thing.must"], schema["thing.may"]
    assert must.foreign_key is not None and must.foreign_key.on_delete == "restrict" and must.default is MISSING
    assert may.foreign_key is not None and may.foreign_key.on_delete == "set_null" and may.default == 0


def test_a_component_may_be_a_mark_without_fields() -> None:
    """ "is frozen" is a component too."""
    table = component()["thing"]
    assert table.fields == () and table.key == "entity_id" and table.width == 0


@pytest.mark.parametrize("name", sorted(SCALARS))
def test_a_dtype_has_the_width_and_range_of_its_type(name: str) -> None:
    """Ranges are written down once, here; numpy is the witness."""
    scalar = SCALARS[name]
    dtype = np.dtype(scalar.numpy)
    assert dtype.itemsize == scalar.width
    if scalar.kind == "int":
        assert (np.iinfo(dtype).min, np.iinfo(dtype).max) == (scalar.minimum, scalar.maximum)
    elif scalar.kind == "float":
        assert (np.finfo(dtype).min, np.finfo(dtype).max) == (scalar.minimum, scalar.maximum)


# --- canonical text and fingerprint -----------------------------------------------------------------------------------


def test_notes_are_not_part_of_the_fingerprint() -> None:
    """A better comment must not lock older clients out."""
    plain = component('{ name = "x", type = "u8" }')
    noted = component('{ name = "x", type = "u8", doc = "how many" }', extra='doc = "a thing"\nrows_expected = 50\n')
    assert plain.fingerprint == noted.fingerprint
    assert (noted["thing"].rows_expected, noted["thing.x"].doc) == (50, "how many")


@pytest.mark.parametrize(
    "change",
    [
        'type = "u32"',
        'type = "u16", default = 1',
        'type = "u16", maximum = 9',
        'type = "u16", minimum = 9',
        'id = 3, type = "u16"',
        'type = "u16", constraint = "unique"',
        'type = "[u16; 1]"',
    ],
)
def test_everything_that_two_nodes_must_agree_on_is_in_the_fingerprint(change: str) -> None:
    """If it changed what a value means and not the fingerprint, a client would apply what it misunderstands."""
    assert component(f'{{ name = "x", {change} }}').fingerprint != component('{ name = "x", type = "u16" }').fingerprint


def test_declaring_entities_says_nothing_new() -> None:
    """The registry is built in; a bound on it is a difference."""
    plain = component()
    declared = loads(plain.canonical + '\n[tables.entities]\nprimary_key = "id"\n')
    bounded = loads(plain.canonical + "\n[tables.entities]\nrows_max = 1000\n")
    assert declared.fingerprint == plain.fingerprint != bounded.fingerprint
    assert loads(bounded.canonical) == bounded
    assert bounded["entities"].rows_max == 1000


@given(schema_declarations(), st.randoms(use_true_random=False))
def test_the_canonical_text_is_the_schema(tables: dict, shuffle: random.Random) -> None:
    """A client that was sent the text has exactly the tables of the node, however the node's file was written."""
    schema = loads(schema_text(tables))
    again = loads(schema.canonical)
    assert again.canonical == schema.canonical
    assert without_notes(again) == without_notes(schema)

    names = list(tables)
    shuffle.shuffle(names)
    shuffled = {}
    for name in names:
        keys, fields = tables[name]
        first = 1 if "parent_table" in keys else 0
        rest = fields[first:]
        shuffle.shuffle(rest)
        shuffled[name] = (dict(shuffle.sample(sorted(keys.items(), key=str), len(keys))), fields[:first] + rest)
    assert loads(schema_text(shuffled, inline=True)).fingerprint == schema.fingerprint
    assert pickle.loads(pickle.dumps(schema)) == again
    assert str(schema.version) in schema.describe(system=True)
    schema.metadata_rows()


@given(schema_declarations())
def test_defaults_keep_their_own_rules(tables: dict) -> None:
    """What the loader lets through, the kernel must be able to store as it is."""
    for table in loads(schema_text(tables)).tables:
        for field in table.fields:
            if field.default is MISSING:
                continue
            if isinstance(field.default, str):
                assert len(field.default.encode()) <= field.count
                continue
            cell = np.zeros((), np.dtype((field.dtype, field.shape)))
            value = list(field.default) if isinstance(field.default, bytes) else field.default
            cell[...] = np.reshape(np.array(value, field.dtype), field.shape)
            assert cell.nbytes == field.width
            assert field.minimum is None or np.all(cell >= field.minimum)
            assert field.maximum is None or np.all(cell <= field.maximum)
            assert field.enum is None or value in field.enum.values()


# --- faults -----------------------------------------------------------------------------------------------------------


@given(st.one_of(st.text(max_size=60), documents()))
def test_any_text_is_a_schema_or_a_schema_error(text: str) -> None:
    """A schema comes off the wire too: nothing in it may do more than be refused."""
    try:
        loads(text)
    except SchemaError as error:
        assert error.code and error.reason


@given(st.data())
def test_a_damaged_schema_is_a_schema_or_a_schema_error(data: st.DataObject) -> None:
    """Near misses of valid schemas reach the checks that random text never does."""
    text = (EXAMPLES / data.draw(st.sampled_from(["arena.toml", "game_db.toml"]))).read_text(encoding="utf-8")
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text) - 1))
        end = min(len(text), start + data.draw(st.integers(0, 6)))
        text = text[:start] + data.draw(st.text('abu1930.-"=[]{}, \n', max_size=4)) + text[end:]
        assume(text)
    try:
        schema = loads(text)
    except SchemaError as error:
        lines = text.split("\n")
        assert error.line is None or 1 <= error.line <= len(lines) + 1
    else:
        assert loads(schema.canonical).fingerprint == schema.fingerprint


def test_a_file_that_cannot_be_read_is_a_schema_error(tmp_path: Path) -> None:
    """The caller has one error to catch, and it names the file."""
    with pytest.raises(SchemaError, match="No such file") as caught:
        load(tmp_path / "none.toml")
    assert caught.value.code == "unreadable" and caught.value.file.endswith("none.toml")
    with pytest.raises(SchemaError, match="no path"):
        load("a\0b")


def test_bytes_that_are_not_utf8_are_placed(tmp_path: Path) -> None:
    """An editor's Latin-1 is the usual reason, and the line is what helps."""
    path = tmp_path / "latin.toml"
    path.write_bytes(b'[database]\nname = "caf\xe9"\n')
    with pytest.raises(SchemaError) as caught:
        load(path)
    assert (caught.value.code, caught.value.line, caught.value.column) == ("not-utf8", 2, 12)
    with pytest.raises(SchemaError, match="surrogate"):
        loads("# \ud800")


def test_a_byte_order_mark_is_forgiven(tmp_path: Path) -> None:
    """Some editors write one, and TOML does not want it."""
    path = tmp_path / "mark.toml"
    path.write_bytes(b"\xef\xbb\xbf" + HEAD.encode())
    assert load(path).name == "game"


def test_texts_and_schemas_that_no_message_could_carry_are_refused() -> None:
    """The canonical text goes to clients in one message; a short file can have a long one."""
    with pytest.raises(SchemaError, match="above the limit") as caught:
        loads(HEAD + "#" * 600_000)
    assert caught.value.code == "too-large"
    # "1,2,3" is written "1, 2, 3".
    elements = "[" + ",".join(str(n % 10) for n in range(1100)) + "]"
    fields = [f'{{ name = "f{n}", type = "[u8; 1100]", default = {elements} }}' for n in range(200)]
    with pytest.raises(SchemaError, match="canonical text") as caught:
        component(*fields)
    assert caught.value.code == "too-large"


def test_too_many_tables_are_refused() -> None:
    """The kernel's catalogue has a bound, and the loader says it first."""
    text = HEAD + "".join(f'[tables.t{n}]\nparent_table = "entities"\nfields = [{KEY}]\n' for n in range(1009))
    with pytest.raises(SchemaError, match="above the limit of 1008") as caught:
        loads(text)
    assert caught.value.code == "too-many"


def test_ids_at_the_end_of_their_range_cannot_run_out_silently() -> None:
    """A gap always remains for a name without an id."""
    schema = component('{ id = 65519, name = "a", type = "u8" }', '{ name = "b", type = "u8" }', extra="id = 65519\n")
    assert [(field.id, field.name) for field in schema["thing"].fields] == [(0, "b"), (65519, "a")]
    with pytest.raises(SchemaError, match="65520 is not between 0 and 65519"):
        component('{ id = 65520, name = "a", type = "u8" }')


# --- looking things up ------------------------------------------------------------------------------------------------


def test_an_unknown_name_suggests_the_one_that_was_meant() -> None:
    """Names are typed by hand wherever there is no Python class for a table."""
    schema = load(EXAMPLES / "arena.toml")
    with pytest.raises(UnknownNameError, match="did you mean 'health'"):
        schema["helth"]
    with pytest.raises(UnknownNameError, match=r"did you mean 'health\.hp'"):
        schema["health.hq"]
    with pytest.raises(UnknownNameError):
        schema.field("health")
    with pytest.raises(UnknownNameError):
        schema.table_by_id(9999)
    assert "health" in schema and "helth" not in schema
    assert "hp" in schema["health"] and "entity_id" not in schema["health"]


def test_resolve_takes_a_schema_or_a_path() -> None:
    """So that every door of the API takes both."""
    path = EXAMPLES / "arena.toml"
    schema = Schema.resolve(path)
    assert Schema.resolve(schema) is schema
    assert Schema.resolve(str(path)) == schema
    with pytest.raises(ArgumentError):
        Schema.resolve(7)  # type: ignore[arg-type]


# --- metadata and printing --------------------------------------------------------------------------------------------


def test_metadata_rows_fit_their_own_tables() -> None:
    """They are inserted like any rows, so they obey the same schema."""
    schema = load(EXAMPLES / "arena.toml")
    rows = schema.metadata_rows()
    for name, table_rows in rows.items():
        table = schema[name]
        assert table.system and not table.replicated
        keys = [row[table.key] for row in table_rows]
        assert len(set(keys)) == len(keys) > 0
        for row in table_rows:
            assert set(row) == {field.name for field in table.fields}
            for field in table.fields:
                value = row[field.name]
                if field.type == "bytes":
                    assert isinstance(value, bytes) and len(value) == field.count
                else:
                    scalar = SCALARS[field.type]
                    assert scalar.minimum <= value <= scalar.maximum
                    assert field.enum is None or value in field.enum.values()


def test_metadata_describes_every_field_and_rule() -> None:
    """D4: what the schema says can be queried."""
    schema = load(EXAMPLES / "arena.toml")
    rows = schema.metadata_rows()

    def text(raw: object) -> str:
        assert isinstance(raw, bytes)
        return raw.rstrip(b"\0").decode()

    tables = {row["table_id"]: text(row["name"]) for row in rows["schema_tables"]}
    assert tables == {table.id: table.name for table in schema.tables}
    fields = {(row["table_id"], row["field_id"]): row for row in rows["schema_fields"]}
    hp = fields[schema["health"].id, schema["health.hp"].id]
    assert (text(hp["name"]), hp["type"], hp["virtual"]) == ("hp", FIELD_TYPES["u16"], False)
    assert fields[schema["health"].id, 0xFFF0]["virtual"] is True
    rules = [
        (text(row["name"]), text(row["value"]))
        for row in rows["schema_constraints"]
        if row["table_id"] == schema["item"].id
    ]
    assert ("set_null", "entities.id") in rules and ("SWORD", "1") in rules
    assert rows["schema_migrations"][0]["fingerprint"] == schema.fingerprint


def test_a_description_names_everything_once() -> None:
    """What `ecsnet schema check` prints."""
    schema = load(EXAMPLES / "arena.toml")
    plain = schema.describe()
    assert plain.splitlines()[:2] == ["arena 1.0.0", f"fingerprint {schema.fingerprint_hex}"]
    assert "health  (table 16, component, 2 B a row)" in plain
    assert "default 100, maximum 100" in plain
    assert "sessions" not in plain and plain.endswith("and 5 system tables")
    assert "sessions" in schema.describe(system=True)


def test_a_description_survives_any_note() -> None:
    """Notes are free text, a stranger's too: blank ones are left out, and none reaches a terminal's escapes."""
    schema = component(
        r'{ name = "x", type = "u8", doc = "\r" }',
        r'{ name = "y", type = "u8", doc = "\u001b[2Jgone" }',
        extra=r'doc = "  \n"' + "\n",
    )
    assert schema.describe().isprintable() is False, "line ends are not printable"
    assert all(line.isprintable() for line in schema.describe().split("\n"))


def test_a_summary_is_json() -> None:
    """For programs: `--json`."""
    import json

    schema = component(
        '{ name = "tag", type = "bytes[2]", default = "a" }', '{ name = "v", type = "[f32; 2]", default = 1.0 }'
    )
    out = json.loads(json.dumps(schema.summary()))
    assert out["fingerprint"] == schema.fingerprint_hex
    thing = next(table for table in out["tables"] if table["name"] == "thing")
    assert [field["default"] for field in thing["fields"]] == ["6100", [1.0, 1.0]]
