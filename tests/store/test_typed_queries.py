"""Queries by classes and their columns: the same as by names."""

from enum import IntEnum

import numpy as np
import pytest

import ecsnet
from ecsnet import Component, Store, Table, auto, count, desc, enum, f32, field, maybe, ref, string, sum_, u16, u64
from ecsnet.errors import ArgumentError, UnknownNameError


class Place(Component):
    x: f32 = field(default=0.0)
    y: f32 = field(default=0.0)


class Life(Component):
    hp: u16 = field(default=100)


class Kind(IntEnum):
    SWORD, POTION = 1, 2


class Chest(Table):
    id: u64 = auto()
    label: string = field(length=16, default="")


class Thing(Table):
    id: u64 = auto()
    kind: enum[Kind]
    holder: ref = field(to="entities.id", on_delete="set_null", optional=True)
    chest: ref = field(to="chest.id", on_delete="set_null", optional=True)


class Stranger(Component):
    z: f32 = field(default=0.0)


SCHEMA = ecsnet.Schema("typed", "1.0.0", Place, Life, Chest, Thing)


@pytest.fixture
def store() -> Store:
    store = Store(SCHEMA)
    with store.transaction() as tx:
        ada = tx.spawn(Place(x=1.0), Life(hp=10))
        bob = tx.spawn(Place(x=2.0))
        tx.insert(Chest(label="oak"))
        tx.insert(Chest(label="iron"))
        tx.insert(Thing(kind=Kind.SWORD, holder=ada, chest=2))
        tx.insert(Thing(kind=Kind.POTION, holder=bob, chest=1))
        tx.insert(Thing(kind=Kind.POTION, holder=0, chest=2))
    return store


def test_classes_and_columns_name_what_strings_name(store: Store) -> None:
    with store.view() as view:
        thing, place = view.query(Thing).join(Place, on=Thing.holder).order_by(desc(Place.x))
        assert (thing.kind.tolist(), place.x.tolist()) == ([2, 1], [2.0, 1.0])
        place, life = view.query(Place, maybe(Life)).where((Place.x > 1.0) | (Life.hp < 20))
        assert life.present.tolist() == [True, False]
        assert view.query(Place, without=[Life]).count() == 1
        assert view.query(Thing).where(Thing.kind == Kind.POTION).count() == 2
        assert view.query(Thing).group_by(Thing.kind).aggregate(n=count(), all=sum_(Thing.id)).rows() == [
            {"thing.kind": 1, "n": 1, "all": 1},
            {"thing.kind": 2, "n": 2, "all": 5},
        ]
        assert view.query(Place).select(Place.x, height=Place.y).names == ("place.x", "height")


def test_references_to_keyed_tables_lead_by_value_in_both_directions(store: Store) -> None:
    with store.view() as view:
        thing, chest = view.query(Thing).join(Chest, on=Thing.chest).order_by(Thing.id)
        assert chest.label.tolist() == ["iron", "oak", "iron"]
        assert chest.id.tolist() == thing.chest.tolist()
        chest, thing = view.query(Chest).join(Thing, on=Thing.chest).where(Chest.label == "iron").order_by(Thing.id)
        assert thing.id.tolist() == [1, 3]
        assert view.query(Thing).join(Chest, left=True, on=Thing.chest).group_by(Chest.label).count().rows() == [
            {"chest.label": "iron", "count": 2},
            {"chest.label": "oak", "count": 1},
        ]
        assert view.query(Chest).order_by(desc(Chest.label))[0].label.tolist() == ["oak", "iron"]
        assert view.query(Chest).max(Chest.label) == "oak"
        with pytest.raises(ArgumentError, match="holds strings"):
            view.query(Chest).sum(Chest.label)
    with store.transaction() as tx:
        tx.insert(Thing(kind=Kind.SWORD, holder=0, chest=1))
        chest, _ = tx.query(Chest).join(Thing, on=Thing.chest)
        assert sorted(chest.label.tolist()) == ["iron", "iron", "oak", "oak"]


def test_texts_ask_the_same(store: Store) -> None:
    found = store.query(
        "from thing join chest on thing.chest where chest.label = 'iron' select thing.id order by thing.id"
    )
    assert found["thing.id"].tolist() == [1, 3]
    labels = store.query("from chest where label startswith 'o' or label in ('iron') select label order by label")
    assert labels["label"].tolist() == ["iron", "oak"]
    assert labels.to_numpy()["label"].tolist() == ["iron", "oak"]


def test_a_class_of_another_schema_is_no_table_of_this_one(store: Store) -> None:
    with store.view() as view:
        with pytest.raises(UnknownNameError, match="stranger"):
            view.query(Stranger)
        with pytest.raises(UnknownNameError):
            view.query(Place).where(Stranger.z > 0)
        with pytest.raises(UnknownNameError):
            view.query(Place, maybe(Stranger))
        with pytest.raises(ArgumentError, match="name of a table"):
            view.query(int)  # type: ignore[type-var]


def test_columns_of_a_query_are_numpy(store: Store) -> None:
    with store.view() as view:
        (place,) = view.query(Place)
        assert isinstance(place.x, np.ndarray)
