"""Tables named by their classes, rows given as objects, columns named by data: what strings and dicts say as well."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ecsnet.errors import ArgumentError, ClosedError, ConstraintError, RowExistsError, UnknownNameError
from ecsnet.expressions import Column
from ecsnet.ids import Entity
from ecsnet.schema import loads
from ecsnet.store import Store
from tests.store.conftest import ARENA


class Row:
    """The least that a class of a table says."""

    ecsnet_table: str

    def __init__(self, **values: Any):
        self.ecsnet_values = values


class Transform(Row):
    ecsnet_table = "transform"
    x = Column("transform.x")
    y = Column("transform.y")


class Health(Row):
    ecsnet_table = "health"
    hp = Column("health.hp")


class Item(Row):
    ecsnet_table = "item"
    id = Column("item.id")
    kind = Column("item.kind")
    holder = Column("item.holder")


class Shield(Row):
    ecsnet_table = "shield"
    strength = Column("shield.strength")


class OtherHealth(Row):
    ecsnet_table = "health"
    points = Column("health.points")


class Point(Row):
    """A struct, of which some members are given."""


@pytest.fixture
def ship(store: Store) -> Entity:
    with store.transaction() as tx:
        return tx.spawn(Transform(x=1.0, y=2.0), Health())


def test_a_class_names_its_table_in_every_verb(store: Store, ship: Entity) -> None:
    with store.transaction() as tx:
        tx.update(ship, Health, hp=90).insert(ship, velocity={"x": 3.0})
        tx[ship, Transform.x] = 5.0
        assert (tx[ship, Transform.x], tx[ship, Health.hp]) == (5.0, 90)
        assert (ship, Transform) in tx
        sword = tx.insert(Item(kind="SWORD", holder=ship))
        potion = tx.insert(Item, {"kind": "POTION"})
        assert tx.key(Item.id, tx[sword, Item.id]) == sword
        tx.delete(potion, Item)
        (body,) = tx.query(Transform, without=[Item, "target"][1:])
        assert body.x.tolist() == [5.0]
        tx.delete_many([ship], Health)
        tx.insert_many([ship], Health(hp=[7]))
    with store.view() as view:
        assert view[ship, Health.hp] == view[Health.hp][0] == view[Health]["hp"][0] == 7
        assert view.query(Transform, Health).where(Health.hp == 7).count() == 1
        assert view.find(Item.kind, "SWORD") == sword
        assert (sword, Item) in view
        assert str(view[Item]).startswith("item: 1 rows")


def test_a_table_handle_is_had_by_class(store: Store, ship: Entity) -> None:
    health = store[Health]
    health.update(ship, hp=80)
    assert health.get(ship)["hp"] == 80
    assert health.filter(Health.hp < 100).count() == 1
    with health.batch() as batch:
        batch.update(ship, hp=70)
    assert health.filter(Health.hp < 80).update(hp=60) == 1
    assert health.filter(Health.hp == 60).delete() == 1
    assert len(health) == 0


def test_rows_with_arrays_are_bulk(store: Store) -> None:
    with store.transaction() as tx:
        fleet = tx.spawn_many(Transform(x=np.arange(4.0), y=1.0), Health())
        tx.update_many(fleet, Health, hp=[1, 2, 3, 4])
        tx.update_many(fleet[:2], Transform, {"x": [8.0, 9.0]})
        items = tx.insert_many(Item(kind=["SWORD", "POTION"], holder=fleet[:2]))
        more = tx.insert_many([Item(kind=1), Item(kind=2), Item(kind=1)])
        few = tx.spawn_many(3, Transform())
        tx.update_many(tx.query(Item), Item, holder=fleet[3])
    with store.view() as view:
        assert view[Transform.x].tolist()[:4] == [8.0, 9.0, 2.0, 3.0]
        assert view[Health.hp].tolist() == [1, 2, 3, 4]
        assert [view[key, Item.kind] for key in (*items.tolist(), *more.tolist())] == [1, 2, 1, 2, 1]
        assert set(view[Item.holder].tolist()) == {int(fleet[3])}
        assert len(few) == 3


def test_structured_arrays_and_lists_of_rows_are_columns(store: Store) -> None:
    table = np.zeros(3, [("x", "f4"), ("y", "f4")])
    table["x"], table["y"] = [1, 2, 3], [4, 5, 6]
    with store.transaction() as tx:
        fleet = tx.spawn_many(transform=table, health=[{"hp": 1}, {"hp": 2}, {"hp": 3}])
        tx.update_many(fleet, Transform, table[::-1])
        assert tx.insert_many("item", [{"kind": "SWORD"}, {"kind": 2}]).shape == (2,)
        with pytest.raises(ArgumentError, match="row 1 has kind, holder"):
            tx.insert_many("item", [{"kind": 1}, {"kind": 1, "holder": 0}])
        with pytest.raises(ArgumentError, match="empty list"):
            tx.insert_many("item", [])
        with pytest.raises(ArgumentError, match="by name, not both"):
            tx.update_many(fleet, Transform, table, x=1.0)
    with store.view() as view:
        assert view[Transform.y].tolist() == [6.0, 5.0, 4.0]
        assert view[Health.hp].tolist() == [1, 2, 3]
        assert len(view[Item]) == 2


def test_rows_wait_like_names_while_columns_are_lent(store: Store, ship: Entity) -> None:
    with store.transaction() as tx:
        (body,) = tx.query(Transform)
        body.x += 1
        other = tx.spawn(Transform(x=7.0), Health(hp=3))
        sword = tx.insert(Item(kind=1, holder=other))
        tx.insert(other, velocity={"x": 1.0}).update(other, Health, hp=4)
        assert (tx[other, Health.hp], tx[sword, Item.holder]) == (4, other)
        with pytest.raises(RowExistsError):
            tx.insert(ship, Health())
        del body
    with store.view() as view:
        assert view[ship, Transform.x] == 2.0
        assert view[other, Health.hp] == 4


def test_what_is_no_table_of_the_schema_is_refused_by_name(store: Store, ship: Entity) -> None:
    with store.transaction() as tx:
        with pytest.raises(UnknownNameError, match="shield"):
            tx.insert(ship, Shield(strength=1))
        with pytest.raises(ArgumentError, match="OtherHealth is not the table health.*hp, points"):
            tx.update(ship, OtherHealth, points=1)
        with pytest.raises(UnknownNameError, match="points"):
            tx[ship, OtherHealth.points]
        with pytest.raises(ArgumentError, match="its class"):
            tx.query(int)
        with pytest.raises(ArgumentError, match="such as Health"):
            tx.spawn(object())  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="the class Health itself"):
            tx.spawn(Health)  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="not a component"):
            tx.spawn(Item(kind=1))
        with pytest.raises(ConstraintError, match="required"):
            tx.insert(Item())
        with pytest.raises(ArgumentError, match="one row with a key of its own"):
            tx.insert(Item(kind=1), Item(kind=2))  # type: ignore[call-overload]
        with pytest.raises(ArgumentError, match="keys of its own"):
            tx.insert(Health())
        with pytest.raises(ArgumentError, match="health.hp"):
            tx.spawn(Health(hp=[1, 2]))
        with pytest.raises(ArgumentError, match="expected the name of a table or its class"):
            tx.update(ship, ["health"], hp=1)  # type: ignore[arg-type]
        with store.view() as view:
            for wrong in (["health.hp"], 3, None, Health):
                with pytest.raises(ArgumentError, match="expected a path"):
                    tx[ship, wrong]  # type: ignore[index]
                with pytest.raises(ArgumentError, match="expected a path"):
                    tx[ship, wrong] = 1  # type: ignore[index]
                with pytest.raises(ArgumentError, match="expected a path"):
                    view[ship, wrong]
        with pytest.raises(RowExistsError):
            tx.spawn(Health(), Health())
        assert tx[ship, Health.hp] == 100


STRUCTS = (
    ARENA
    + """
[tables.body]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "mass", type = "f32", default = 1.0 },
          { name = "place_x", type = "f32", default = 0.0 },
          { name = "place_y", type = "f32", default = 0.0 }]
"""
)


@pytest.fixture
def jointed() -> Iterator[Store]:
    """`body.place` as a struct: the kernel knows its members as columns with dotted names."""
    schema = loads(STRUCTS)
    table = schema.table("body")
    for field in table.fields:
        if field.name.startswith("place_"):
            # A schema never changes, but this one is ours alone.
            object.__setattr__(field, "name", field.name.replace("_", "."))
    with Store(schema) as store:
        yield store


def test_members_of_a_struct_are_given_as_a_dict_or_an_object(jointed: Store) -> None:
    with jointed.transaction() as tx:
        ship = tx.spawn(body={"mass": 2.0, "place": {"x": 1.0}})
        tx.update(ship, "body", place={"y": 5.0})
        assert (tx[ship, "body.place.x"], tx[ship, "body.place.y"]) == (1.0, 5.0)
        tx.update(ship, "body", place=Point(x=3.0, y=4.0), mass=7.0)
        assert (tx[ship, "body.place.x"], tx[ship, "body.mass"]) == (3.0, 7.0)
        fleet = tx.spawn_many(body={"place": {"x": [1.0, 2.0], "y": 0.5}})
        tx.update_many(fleet, "body", place={"y": [8.0, 9.0]})
        assert [tx[key, "body.place.y"] for key in fleet.tolist()] == [8.0, 9.0]
        with pytest.raises(UnknownNameError, match=r"place\.z"):
            tx.update(ship, "body", place={"z": 1.0})
        with pytest.raises(ArgumentError, match="dict of its members"):
            tx.update(ship, "body", place=3.0)
        with pytest.raises(ArgumentError, match="given twice"):
            tx.update(ship, "body", **{"place": {"x": 1.0}, "place.x": 2.0})


def test_a_table_handle_takes_rows_and_arrays(store: Store, ship: Entity) -> None:
    items, health = store[Item], store[Health]
    sword = items.insert(Item(kind="SWORD", holder=ship))
    potion = items.insert(kind="POTION")
    more = items.insert_many(kind=["SWORD", "SWORD"])
    rows = items.insert_many([Item(kind=1), Item(kind=2)])
    items.update_many([sword, potion], holder=ship)
    items.update_many(more, {"kind": [2, 2]})
    items.delete_many(rows)
    items.delete(sword)
    with store.transaction() as tx:
        fleet = tx.spawn_many(2)
    assert health.insert_many(fleet, hp=[3, 4]).tolist() == fleet.tolist()
    with health.batch() as batch:
        batch.update_many(fleet, hp=[5, 6]).delete_many(fleet[:1]).update(ship, hp=9)
        assert batch.insert(int(fleet[0]), Health(hp=8)) == fleet[0]
        batch.delete(int(fleet[1])).insert_many(fleet[1:], Health(hp=[1]))
    with store.view() as view:
        assert set(view[Item].key.tolist()) == {potion, *more.tolist()}
        assert [view[key, Health.hp] for key in (ship, *fleet.tolist())] == [9, 8, 1]
    for wrong, told in (
        (lambda: health.insert(hp=3), "give the entity first"),
        (lambda: items.insert(ship, kind=1), "keys of its own"),
        (lambda: items.insert(Item(kind=1), kind=1), "not both"),
        (lambda: items.insert(Health()), "a row of item, found one of health"),
        (lambda: health.insert(ship, Health(), Health()), "found 3 objects"),
        (lambda: items.insert([1, 2]), "dict of fields"),
    ):
        with pytest.raises(ArgumentError, match=told):
            wrong()


def test_a_column_of_an_ended_transaction_is_refused(store: Store, ship: Entity) -> None:
    for end in (lambda tx: tx.commit(), lambda tx: tx.rollback()):
        tx = store.transaction()
        query = tx.query(Health)
        (health,) = query
        end(tx)
        with pytest.raises(ClosedError):
            health.hp
        with pytest.raises(ClosedError):
            health.hp = 3
        with pytest.raises(ClosedError):
            health["entity_id"]
        with pytest.raises(ClosedError):
            next(iter(query)).hp
        with pytest.raises(ClosedError):
            tx[ship, Health.hp]
