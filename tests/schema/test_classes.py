"""Tables as Python classes: the same schema as TOML, the same errors, and rows that say what they were given."""

from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ecsnet
from ecsnet import (  # fmt: skip
    Component,
    Event,
    Schema,
    Struct,
    Table,
    array,
    auto,
    bool_,
    bytes_,
    enum,
    f32,
    f64,
    field,
    i16,
    ref,
    string,
    u8,
    u16,
    u32,
    u64,
)
from ecsnet.errors import SchemaError, UnknownNameError
from ecsnet.expressions import col
from ecsnet.schema import load, loads

EXAMPLES = Path(__file__).parents[2] / "schema" / "examples"


class Kind(IntEnum):
    POTION = 2
    SWORD = 1


class Transform(Component):
    x: f32 = field(default=0.0)
    y: f32 = field(default=0.0)


class Velocity(Component):
    x: f32 = field(default=0.0)
    y: f32 = field(default=0.0)


class Health(Component):
    hp: u16 = field(default=100, maximum=100)


class Shield(Component):
    strength: u16


class Item(Table, rows_expected=500):
    """What lies about."""

    id: u64 = auto()
    kind: enum[Kind]
    holder: ref = field(to="entities.id", on_delete="set_null", optional=True)


class Vec3(Struct):
    x: f32 = field(default=0.0)
    y: f32 = field(default=0.0)
    z: f32 = field(default=0.0, maximum=9.0)


class Pose(Struct):
    place: Vec3 = field(default={"z": 1.0})
    kind: enum[Kind] = field(default=Kind.SWORD)


class PlayerShip(
    Component,
    key="entity",
    group="body",
    spatial=ecsnet.Spatial(("pose.place.x", "pose.place.y"), 8.0),
    replicated=False,
):
    pose: Pose = field(default={"place": {"x": 2.0}, "kind": Kind.POTION}, id={"place": {"x": 7}})
    path: array[Vec3] = field(shape=(2, 2))
    bones: array[f32] = field(shape=(4, 3), default=0.5)
    mask: array[bool_] = field(shape=2, default=(True, False))
    on: bool_ = field(default=False)
    title: string = field(length=20, default="größe")
    tag: bytes_ = field(length=4, default=b"\xffa")
    far: f64 = field(default=np.float64(2.5), minimum=-3, doc="how far")
    parent: ref = field(default=None)


class Seat(Table, name="chair", primary_key="code", unique=[("number", "line")], rows_max=9, id=99):
    code: bytes_ = field(length=3)
    line: i16 = field(unique=True)
    number: enum[Kind] = field(storage="u16")
    neighbour: ref = field(to="chair.code", default=None)
    part: ref = field(to=Item, on_delete="cascade")


class Hit(Event, rows_max=100):
    target: ref = field(to="entities.id")
    seat: ref = field(to="chair")
    damage: u16 = field(default=1)


SAME = """
[database]
name = "game"
version = "1.2.3"

[enums.kind]
values = { SWORD = 1, POTION = 2 }

[structs.vec3]
fields = [{ name = "x", type = "f32", default = 0 }, { name = "y", type = "f32", default = 0 },
          { name = "z", type = "f32", default = 0, maximum = 9 }]

[structs.pose]
fields = [{ name = "place", type = "vec3", default = { z = 1 } }, { name = "kind", type = "kind", default = "SWORD" }]

[tables.entities]
rows_max = 1000

[tables.item]
primary_key = "id"
fields = [{ name = "id", type = "u64", auto_increment = true }, { name = "kind", type = "kind" },
          { name = "holder", type = "u64", foreign_key = "entities.id", optional = true, on_delete = "set_null" }]

[tables.player_ship]
parent_table = "entities"
replicated = false
group = "body"
spatial = { fields = ["pose.place.x", "pose.place.y"], cell = 8.0 }
fields = [
  { name = "entity", type = "u64", foreign_key = "entities.id" },
  { name = "pose", type = "pose", default = { place.x = 2.0, kind = "POTION" }, id = { place.x = 7 } },
  { name = "path", type = "[[vec3; 2]; 2]" },
  { name = "bones", type = "[[f32; 3]; 4]", default = 0.5 },
  { name = "mask", type = "[bool; 2]", default = [true, false] },
  { name = "on", type = "bool", default = false },
  { name = "title", type = "string[20]", default = "größe" },
  { name = "tag", type = "bytes[4]", default = [255, 97] },
  { name = "far", type = "f64", default = 2.5, minimum = -3 },
  { name = "parent", type = "u64", foreign_key = "entities.id", optional = true },
]

[tables.chair]
id = 99
primary_key = "code"
unique = [["line", "number"]]
rows_max = 9
fields = [
  { name = "code", type = "bytes[3]" },
  { name = "line", type = "i16", constraint = "unique" },
  { name = "number", type = "enum", storage = "u16", values = { SWORD = 1, POTION = 2 } },
  { name = "neighbour", type = "bytes[3]", foreign_key = "chair.code", optional = true },
  { name = "part", type = "u64", foreign_key = "item.id", on_delete = "cascade" },
]

[tables.hit]
event = true
rows_max = 100
fields = [
  { name = "target", type = "u64", foreign_key = "entities.id" },
  { name = "seat", type = "bytes[3]", foreign_key = "chair.code" },
  { name = "damage", type = "u16", default = 1 },
]
"""


def refused(*classes: Any, **options: Any) -> SchemaError:
    """What making a schema of these complains about."""
    with pytest.raises(SchemaError) as caught:
        Schema("game", "1.0.0", *classes, **options)
    return caught.value


# --- the schema -------------------------------------------------------------------------------------------------------


def test_the_arena_is_the_arena_in_either_spelling() -> None:
    """A client with the TOML file and a node with the classes must know each other."""
    same = Schema("arena", "1.0.0", Transform, Velocity, Health, Shield, Item)
    assert same.fingerprint == load(EXAMPLES / "arena.toml").fingerprint
    assert same.canonical == load(EXAMPLES / "arena.toml").canonical
    assert (same["item"].doc, same["item"].rows_expected) == ("What lies about.", 500)


def test_everything_that_toml_can_say_classes_can_say() -> None:
    """Types, structs, references by name, by class and to themselves, keys of tables, ids, defaults of every kind."""
    same = Schema("game", "1.2.3", Hit, Seat, PlayerShip, Item, entities_max=1000)
    assert same.canonical == loads(SAME).canonical
    assert same == Schema("game", "1.2.3", PlayerShip, Item, Hit, Seat, entities_max=1000), "the order means nothing"
    assert same["player_ship.far"].doc == "how far"
    assert dict(same.classes) == {"hit": Hit, "chair": Seat, "player_ship": PlayerShip, "item": Item}
    assert not loads(SAME).classes


def test_annotations_may_be_strings_and_names_of_a_function() -> None:
    """`from __future__ import annotations` makes all of them strings."""

    class Inner(Struct):
        a: "u8"

    class Outer(Component):
        inner: "Inner"
        kind: "enum[Kind]"

    assert Schema("game", "1.0.0", Outer)["outer.inner.a"].type == "u8"


def test_what_is_no_field_is_left_alone() -> None:
    """A class may have methods, constants and attributes of its own."""
    from typing import ClassVar

    class Plain(Component):
        x: u8
        limit: ClassVar[int] = 3
        _cache: int = 4

        def double(self) -> int:
            return 2 * self.limit

    assert [f.name for f in Schema("game", "1.0.0", Plain)["plain"].fields] == ["x"]
    assert Plain(x=1).double() == 6


# --- columns and rows -------------------------------------------------------------------------------------------------


def test_a_field_of_a_class_names_a_column() -> None:
    """It is what `col` gives, so queries know one thing only."""
    assert (Health.hp.path, Health.hp.table, Health.hp.name) == ("health.hp", "health", "hp")
    assert (Health.hp < 20).same(col("health.hp") < 20)
    assert Seat.line.path == "chair.line"
    assert {Health.hp: 1}[Health.hp] == 1
    assert repr(Health.hp) == "<field health.hp>"


def test_a_struct_of_a_class_names_its_members() -> None:
    """Each is a column with a dotted name."""
    assert PlayerShip.pose.place.x.path == "player_ship.pose.place.x"
    assert PlayerShip.path.z.name == "path.z"
    names = [column.name for column in PlayerShip.pose]  # type: ignore[attr-defined]
    assert names == ["pose.place.x", "pose.place.y", "pose.place.z", "pose.kind"]
    assert dir(PlayerShip.pose) == ["kind", "place"]
    with pytest.raises(AttributeError, match="player_ship.pose has no member 'plaec'; did you mean 'place'"):
        PlayerShip.pose.plaec  # type: ignore[attr-defined]


def test_a_row_is_what_it_was_given() -> None:
    """The store checks values and fills in defaults; a row carries no more than was said."""
    row = Item(kind=Kind.SWORD, holder=3)
    assert (row.ecsnet_table, row.ecsnet_values) == ("item", {"kind": Kind.SWORD, "holder": 3})
    assert row == Item(kind=1, holder=3) != Item(kind=2, holder=3)
    assert row != Transform() and row != 3
    assert repr(Transform(x=1.0)) == "Transform(x=1.0)"
    assert Transform(x=np.arange(3.0)) == Transform(x=np.arange(3.0)) != Transform(x=np.zeros(3))
    with pytest.raises(UnknownNameError, match=r"holdr.*did you mean.*holder"):
        Item(holdr=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unhashable"):
        hash(row)


def test_a_row_can_be_read_and_changed_before_it_is_written() -> None:
    """What was not given is the default, or an error."""
    row: Any = Health()
    assert row.hp == 100
    row.hp = 7
    assert (row.hp, row.ecsnet_values) == (7, {"hp": 7})
    with pytest.raises(AttributeError, match="item.kind.*was not given"):
        Item(holder=3).kind  # type: ignore[call-arg]


def test_a_struct_in_a_row_is_its_members() -> None:
    """As an instance or a dict, and within another; the store knows columns only."""
    row: Any = PlayerShip(pose=Pose(place={"x": 1.0}, kind=2), path={"x": 0.0, "y": np.zeros((2, 2)), "z": 1})
    assert list(row.ecsnet_values) == ["pose.place.x", "pose.kind", "path.x", "path.y", "path.z"]
    assert row.pose == Pose(place=Vec3(x=1.0), kind=2)
    assert row.pose.place.x == 1.0
    row.pose = {"place": Vec3(y=5.0)}
    assert row.ecsnet_values["pose.place.y"] == 5.0
    assert PlayerShip.ecsnet_given({"pose.kind": 1}).pose == Pose(kind=1)
    with pytest.raises(UnknownNameError, match="w"):
        row.pose = {"w": 1}


# --- faults -----------------------------------------------------------------------------------------------------------


def test_a_fault_is_placed_where_it_was_written() -> None:
    """The line of the field, in the file of the class."""

    class Broken(Component):
        x: u8
        y: u8 = field(default=300)

    error = refused(Broken)
    assert (error.code, error.key, Path(error.file).name) == ("out-of-range", "Broken.y.default", "test_classes.py")
    line = Path(__file__).read_text(encoding="utf-8").splitlines()[(error.line or 0) - 1]
    assert line.strip() == "y: u8 = field(default=300)" and error.column == 9


def test_a_fault_of_a_table_is_placed_at_its_class() -> None:
    class Lonely(Table):
        x: u8

    class Twice(Component, unique=[("x", "x")]):
        x: u8

    assert (refused(Lonely).code, refused(Lonely).key) == ("no-key", "Lonely")
    assert refused(Lonely).line is not None
    assert (refused(Twice).code, refused(Twice).key) == ("key-conflict", "Twice.unique.0.1")
    assert refused(name_of_another("health"), Health).code == "duplicate-table"
    assert refused(3).code == refused(Component).code == "wrong-type"
    error = refused(Seat)
    assert (error.code, error.key) == ("unknown-table", "Seat.part.foreign_key")
    with pytest.raises(SchemaError) as caught:
        Schema("Game", "1.0.0")
    assert (caught.value.code, caught.value.key) == ("bad-name", "name")


def name_of_another(table: str) -> type[Component]:
    class Other(Component, name=table):
        x: u8

    return Other


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ("x: float", "unknown-type", "float is no type of a field.*write f32 or f64"),
        ("x: bool = field(default=True)", "unknown-type", "write bool_"),
        ("x: str", "unknown-type", "string with field"),
        ("x: 'f23'", "unknown-type", "f23"),
        ("x: list", "unknown-type", "types: u8 to i64"),
        ("x: u8 = 3", "wrong-type", r"write x: u8 = field\(default=3\)"),
        ("x = field()", "missing-key", "has no type"),
        ("x: array[f32]", "missing-key", "must say its shape"),
        ("x: array[string] = field(shape=3)", "unknown-type", "arrays hold numbers"),
        ("x: array[array[f32]] = field(shape=3)", "unknown-type", r"shape=\(4, 3\)"),
        ("x: array = field(shape=3)", "unknown-type", "array must say of what"),
        ("x: string", "missing-key", "must say its length"),
        ("x: u8 = field(length=3)", "key-conflict", "length belongs to string and bytes_"),
        ("x: u8 = field(shape=3)", "key-conflict", "shape belongs to array"),
        ("x: enum", "unknown-type", "of which members"),
        ("x: enum[u8]", "bad-enum", "no enum of whole numbers"),
        ("x: enum[Kind] = field(default=5)", "wrong-type", "members: SWORD, POTION"),
        ("x: u8 = field(to='entities.id')", "bad-reference", "u64"),
        ("x: ref = field(default=3)", "key-conflict", "optional = true"),
        ("x: f32 = field(interpolate='none')", "not-built", "planned"),
        ("X: f32", "bad-name", "lower-case"),
        ("present: f32", "reserved-name", "taken"),
        ("x: array[f32] = field(shape=(100, 100))", "array-length", "above the limit"),
    ],
)
def test_a_class_that_says_something_wrong_is_refused(body: str, code: str, says: str) -> None:
    """At the class statement where it cannot even be read, else when a schema is made of it; the codes are TOML's."""
    with pytest.raises(SchemaError, match=f"(?s){says}") as caught:
        exec(f"class Broken(Component):\n    {body}\nSchema('game', '1.0.0', Broken)", dict(globals()))
    assert caught.value.code == code


@pytest.mark.parametrize("written", ["string[64]", "bytes_[16]", "array[f32, 3]", "u8[3]"])
def test_a_number_between_brackets_says_where_it_belongs(written: str) -> None:
    """It would be the obvious spelling, and no type checker takes it."""
    with pytest.raises(TypeError, match="lengths stand in field"):
        eval(written)


def test_tables_and_structs_have_no_subclasses() -> None:
    """Two tables with one field would have to share its path."""
    with pytest.raises(SchemaError, match="Health is a table already"):

        class Armour(Health):
            more: u32

    with pytest.raises(SchemaError, match="does not extend another"):

        class Vec4(Vec3):
            w: f32

    with pytest.raises(TypeError, match="gruop"):

        class Grouped(Component, gruop="x"):  # type: ignore[call-arg]
            a: u8
