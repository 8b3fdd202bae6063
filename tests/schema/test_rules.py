"""Who sees, who writes, what is rounded and what a client is sent: one meaning in TOML and in classes."""

import pickle

import pytest

from ecsnet import Component, Event, InterestRule, Schema, Struct, Table, Writer, array, auto, f32, field, ref, u8, u64
from ecsnet.errors import SchemaError
from ecsnet.schema import loads


class Vec(Struct):
    x: f32 = field(default=0.0, quantize=0.5)
    y: f32 = field(default=0.0, quantize=0.5, visible_to=["admin"])


class Body(
    Component,
    spatial=["place.x", "place.y"],
    tied="leader",
    writers=[Writer("player", ["update", "insert"], fields=["place", "turn"]), Writer(operations=["delete"])],
):
    place: Vec
    turn: array[f32] = field(shape=4, default=[0.0, 0.0, 0.0, 1.0], rotation=True)
    leader: ref = field(default=None)
    secret: u8 = field(default=0, visible_to=["referee", "admin"])


class Mark(Table, owner="author", visible_to=["player"], writers=[Writer(operations=["insert"])]):
    id: u64 = auto()
    author: u64


class Choice(Table, primary_key="name", conflict="lww"):
    name: u64
    value: u8 = field(default=0)


class Seen(Event, writers=[Writer(operations=["insert"], rows="all")]):
    at: Vec


RULES = [
    InterestRule("near", table="body", radius=60, roles=("player",)),
    InterestRule("owned"),
    InterestRule("related", field="body.leader", see="referred"),
    InterestRule("query", table="mark", where="mark.author == 0", every=5),
    InterestRule("always", tables=("mark", "choice")),
]

TEXT = """
[database]
name = "game"
version = "1.0.0"

[[interest]]
kind = "near"
table = "body"
radius = 60
roles = ["player"]

[[interest]]
kind = "owned"

[[interest]]
kind = "related"
field = "body.leader"
see = "referred"

[[interest]]
kind = "query"
table = "mark"
where = "mark.author == 0"
every = 5

[[interest]]
kind = "always"
tables = ["mark", "choice"]

[structs.vec]
fields = [
  { name = "x", type = "f32", default = 0.0, quantize = 0.5 },
  { name = "y", type = "f32", default = 0.0, quantize = 0.5, visible_to = ["admin"] },
]

[tables.body]
parent_table = "entities"
spatial = ["place.x", "place.y"]
with = "leader"
writers = [
  { role = "player", operations = ["insert", "update"], fields = ["turn", "place"] },
  { operations = ["delete"] },
]
fields = [
  { name = "entity_id", type = "u64", foreign_key = "entities.id" },
  { name = "place", type = "vec" },
  { name = "turn", type = "[f32; 4]", default = [0.0, 0.0, 0.0, 1.0], rotation = true },
  { name = "leader", type = "u64", foreign_key = "entities.id", optional = true },
  { name = "secret", type = "u8", default = 0, visible_to = ["admin", "referee"] },
]

[tables.mark]
primary_key = "id"
owner = "author"
visible_to = ["player"]
writers = [{ operations = ["insert"] }]
fields = [{ name = "id", type = "u64", auto_increment = true }, { name = "author", type = "u64" }]

[tables.choice]
primary_key = "name"
conflict = "lww"
fields = [{ name = "name", type = "u64" }, { name = "value", type = "u8", default = 0 }]

[tables.seen]
event = true
writers = [{ operations = ["insert"], rows = "all" }]
fields = [{ name = "at", type = "vec" }]
"""


@pytest.fixture(scope="module")
def schema() -> Schema:
    return Schema("game", "1.0.0", Body, Mark, Choice, Seen, interest=RULES)


def test_both_spellings_are_one_schema(schema: Schema) -> None:
    same = loads(TEXT)
    assert same.canonical == schema.canonical
    assert same.tables == schema.tables and same.interest == schema.interest
    assert loads(schema.canonical).fingerprint == schema.fingerprint
    assert pickle.loads(pickle.dumps(schema)).interest == schema.interest


def test_the_model_says_it(schema: Schema) -> None:
    body, mark = schema["body"], schema["mark"]
    assert (schema["body.place.x"].quantize, schema["body.turn"].rotation) == (0.5, True)
    assert schema["body.secret"].visible_to == ("admin", "referee")
    assert body.writers[0].fields == ("place.x", "place.y", "turn"), "of a struct all members, by id"
    assert body.writers[0].operations == ("insert", "update")
    assert (body.tied, mark.owner, mark.visible_to, schema["choice"].conflict) == (
        "leader",
        "author",
        ("player",),
        "lww",
    )
    assert (body.visible_to, body.conflict, mark.tied, body.owner) == (None, "authority", "", "")
    near = schema.interest[0]
    assert (near.radius, near.leave_radius, near.every, near.roles) == (60.0, 66.0, 1, ("player",))


def test_events_travel_exactly(schema: Schema) -> None:
    """A struct may be used in both; what it says of rounding means nothing in an event, and leaves no trace there."""
    assert schema["seen.at.x"].quantize == 0.0
    assert schema["seen.at.y"].visible_to == ("admin",)


def test_the_metadata_tables_tell_permissions(schema: Schema) -> None:
    """Who may write what is to be asked like any row."""
    rules = schema["schema_constraints"].field("rule").enum
    assert rules is not None
    rows = schema.metadata_rows()["schema_constraints"]

    def told(rule: str) -> list[tuple[str, int, str, str]]:
        return [
            (
                schema.table_by_id(int(row["table_id"])).name,
                int(row["field_id"]),
                bytes(row["name"]).rstrip(b"\0").decode(),
                bytes(row["value"]).rstrip(b"\0").decode(),
            )
            for row in rows
            if row["rule"] == rules[rule]
        ]

    place = [schema["body.place.x"].id, schema["body.place.y"].id, schema["body.turn"].id]
    assert told("writer")[:4] == [
        *(("body", number, "player", "insert update of owned") for number in place),
        ("body", 0xFFFF, "*", "delete of owned"),
    ]
    assert ("mark", 0xFFFF, "player", "") in told("visible_to")
    assert told("conflict") == [("choice", 0xFFFF, "lww", "")]
    assert told("with") == [("body", schema["body.leader"].id, "", "")]
    assert told("owner") == [("mark", schema["mark.author"].id, "", "")]
    assert told("rotation") == [("body", schema["body.turn"].id, "", "")]
    assert [(name, value) for _, _, name, value in told("interest")] == [
        ("near", "60.0 66.0"),
        ("owned", ""),
        ("related", "referred"),
        ("query", "mark.author == 0"),
        ("always", "choice, mark"),
    ]


def test_a_schema_without_rules_has_the_fingerprint_it_had() -> None:
    """What is not said leaves no trace in the canonical text."""
    canonical = Schema("game", "1.0.0", Choice).canonical.replace('conflict = "lww"\n', "")
    assert not {"interest", "writers", "quantize", "visible_to", "with", "owner"} & set(canonical.split())


def test_it_is_described_for_people(schema: Schema) -> None:
    text = schema.describe()
    for said in (
        "travels with leader",
        "written by player: insert, update of owned rows, only place.x, place.y, turn",
        "written by every role: delete of owned rows",
        "owned by author, visible to player",
        "the last write of a cell wins",
        "rounded to 0.5 on the wire",
        "a rotation",
        "visible to admin, referee",
        "what is near by body, within 60.0 and until 66.0  (only player)",
        "of mark those where mark.author == 0, each 5 ticks",
    ):
        assert said in text


def test_a_class_is_told_where_its_mistake_is() -> None:
    class Wrong(Component, writers=[Writer("player", ["update"], fields=["y"])]):
        x: u8

    with pytest.raises(SchemaError) as caught:
        Schema("game", "1.0.0", Wrong)
    assert (caught.value.code, caught.value.key) == ("unknown-field", "Wrong.writers.0.fields.0")
    with pytest.raises(SchemaError) as caught:
        Schema("game", "1.0.0", Choice, interest=[InterestRule("near", table="choice", radius=1.0)])
    assert (caught.value.code, caught.value.key) == ("key-conflict", "interest[0].table")
    with pytest.raises(SchemaError, match="rules of interest"):
        Schema("game", "1.0.0", Choice, interest=["owned"])  # type: ignore[list-item]  # the word for a rule is none


def test_a_writer_is_a_value() -> None:
    one = Writer("player", ["update"], fields=["x"])
    assert one == pickle.loads(pickle.dumps(one)) == Writer("player", ("update",), fields=("x",))
    assert one != Writer("player", ["update"]) and len({one, one}) == 1
