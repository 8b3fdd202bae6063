"""A transaction: all or nothing, its own writes readable, one writer at a time."""

import gc
import sys
import threading
import warnings
from typing import Any

import numpy as np
import pytest

from ecsnet.errors import (
    ArgumentError,
    BusyError,
    ClosedError,
    ConstraintError,
    NoRowError,
    RowExistsError,
    StaleEntityError,
    UnknownNameError,
)
from ecsnet.ids import Tick
from ecsnet.store import Store, col


def test_a_committed_transaction_is_one_version(store: Store) -> None:
    before = store.version

    with store.transaction() as tx:
        ship = tx.spawn(transform={"x": 1.0, "y": 2.0}, health={})
        tx.update(ship, "health", hp=90)

    assert tx.version == store.version == before + 1
    with store.view() as view:
        assert view[ship, "transform.x"] == 1.0
        assert view[ship, "health.hp"] == 90


def test_nobody_sees_a_transaction_before_its_commit(store: Store) -> None:
    with store.transaction() as tx:
        ship = tx.spawn(health={})
        assert tx[ship, "health.hp"] == 100
        assert ship in tx
        with store.view() as view:
            assert ship not in view


def test_an_exception_undoes_all_of_it(store: Store) -> None:
    with store.transaction() as tx:
        ship = tx.spawn(health={})
    version = store.version

    with pytest.raises(RuntimeError, match="bug"), store.transaction() as tx:
        tx.update(ship, "health", hp=1)
        tx.delete(ship, "health")
        other = tx.spawn(health={})
        raise RuntimeError("a bug in the game")

    assert store.version == version
    with store.view() as view:
        assert view[ship, "health.hp"] == 100
        assert other not in view
    with store.transaction() as tx, pytest.raises(StaleEntityError):
        tx.update(other, "health", hp=1)


def test_a_transaction_that_changes_nothing_makes_no_version(store: Store) -> None:
    version = store.version
    with store.transaction():
        pass
    with store.transaction() as tx:
        tx.query("health").count()
    assert store.version == version


def test_calls_chain_and_commit(store: Store) -> None:
    with store.transaction() as tx:
        ship = tx.spawn(health={}, velocity={})

    version = store.transaction().update(ship, "health", hp=90).delete(ship, "velocity").commit()

    assert version == store.version
    with store.view() as view:
        assert view[ship, "health.hp"] == 90
        assert (ship, "velocity") not in view


def test_a_failed_operation_changes_nothing_and_the_transaction_goes_on(store: Store) -> None:
    with store.transaction() as tx:
        ship = tx.spawn(health={})
        with pytest.raises(ConstraintError) as caught:
            tx.update(ship, "health", hp=101)
        assert (caught.value.table, caught.value.field, caught.value.rule) == ("health", "hp", "range")
        with pytest.raises(ConstraintError):
            tx.spawn_many(2, transform={}, health={"hp": np.array([50, 200])})
        tx.update(ship, "health", hp=99)

    with store.view() as view:
        assert view[ship, "health.hp"] == 99
        assert len(view["transform"]) == 0
        assert len(view["entities"]) == 1


def test_a_failed_commit_changes_nothing(store: Store) -> None:
    with store.transaction() as tx:
        tx.insert("item", {"id": 7, "kind": "SWORD"})
    version = store.version

    tx = store.transaction()
    tx.spawn(health={})
    tx.insert("item", {"id": 7, "kind": "POTION"})
    with pytest.raises(ConstraintError) as caught:
        tx.commit()

    assert caught.value.rule == "unique"
    assert tx.closed
    assert store.version == version
    with store.view() as view:
        assert len(view["item"]) == 1
        assert len(view["health"]) == 0


def test_a_reference_to_nothing_is_refused_at_commit(store: Store) -> None:
    with pytest.raises(ConstraintError) as caught, store.transaction() as tx:
        tx.spawn(target={"whom": 12345})
    assert caught.value.rule == "foreign_key"


def test_a_reference_to_something_that_comes_later_in_the_transaction_is_fine(store: Store) -> None:
    with store.transaction() as tx:
        hunter = tx.spawn(target={})
        prey = tx.spawn()
        tx.update(hunter, "target", whom=prey)
    with store.view() as view:
        assert view[hunter, "target.whom"] == prey


def test_despawning_settles_references(store: Store) -> None:
    with store.transaction() as tx:
        prey = tx.spawn(health={})
        hunter = tx.spawn(target={"whom": prey})
        sword = tx.insert("item", {"kind": "SWORD", "holder": prey})

    store.transaction().despawn(prey).commit()

    with store.view() as view:
        assert prey not in view
        assert view[hunter, "target.whom"] == 0
        assert view[sword, "item.holder"] == 0


def test_a_dead_entity_is_stale_even_when_its_place_is_taken(store: Store) -> None:
    with store.transaction() as tx:
        first = tx.spawn(health={})
    store.transaction().despawn(first).commit()
    with store.transaction() as tx:
        second = tx.spawn(health={})

    assert first != second
    with store.transaction() as tx:
        with pytest.raises(StaleEntityError):
            tx.update(first, "health", hp=1)
        with pytest.raises(StaleEntityError):
            tx.despawn(first)
        with pytest.raises(StaleEntityError):
            tx[first, "health.hp"]


def test_rows_that_are_missing_or_there_already_are_told_apart(store: Store) -> None:
    with store.transaction() as tx:
        ship = tx.spawn(health={})
        with pytest.raises(NoRowError):
            tx.update(ship, "velocity", x=1.0)
        with pytest.raises(NoRowError):
            tx.delete(ship, "velocity")
        with pytest.raises(NoRowError):
            tx[ship, "velocity.x"]
        with pytest.raises(RowExistsError):
            tx.insert(ship, health={})
        with pytest.raises(RowExistsError):
            tx.insert(ship, velocity={}, health={})
        assert (ship, "velocity") not in tx, "an insert of two components is whole or nothing"
        assert (ship, "health") in tx


def test_cells_are_read_and_written_by_key_and_path(store: Store) -> None:
    with store.transaction() as tx:
        ship = tx.spawn(health={}, everything={})
        tx[ship, "health.hp"] -= 30
        assert tx[ship, "health.hp"] == 70
        tx[ship, "everything.an_array"] = [1.0, 2.0, 3.0]
        tx[ship, "everything.some_bytes"] = b"ab"
        tx[ship, "everything.an_enum"] = "GREEN"
        tx[ship, "everything.a_bool"] = True
        assert tx[ship, "entities.id"] == ship
        assert tx[ship, "entities.version"] == ship >> 32

    with store.view() as view:
        assert view[ship, "everything.an_array"].tolist() == [1.0, 2.0, 3.0]
        assert view[ship, "everything.some_bytes"] == b"ab\0\0"
        assert view[ship, "everything.an_enum"] == 2
        assert view[ship, "everything.a_bool"] is True
        assert view[ship, "entities.id"] == ship


@pytest.mark.parametrize(
    ("field", "value", "back"),
    [
        ("a_u8", 255, 255),
        ("a_u64", 2**64 - 1, 2**64 - 1),
        ("an_i8", -128, -128),
        ("an_i64", -(2**63), -(2**63)),
        ("an_f64", 1e300, 1e300),
        ("an_f64", 3, 3.0),
        ("a_bool", np.True_, True),
        ("a_u8", np.int64(7), 7),
        ("an_enum", 2, 2),
        ("some_bytes", b"abcd", b"abcd"),
    ],
)
def test_a_value_of_every_type_comes_back_as_it_was(store: Store, field: str, value: object, back: object) -> None:
    with store.transaction() as tx:
        one = tx.spawn(everything={field: value})
        other = tx.spawn(everything={})
        tx.update(other, "everything", **{field: value})
        assert tx[one, f"everything.{field}"] == back
    with store.view() as view:
        assert view[one, f"everything.{field}"] == view[other, f"everything.{field}"] == back
        assert type(view[one, f"everything.{field}"]) is type(back)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("a_u8", 256),
        ("a_u8", -1),
        ("a_u8", 1.0),
        ("a_u8", "1"),
        ("a_u64", 2**64),
        ("an_f64", "1.0"),
        ("an_f64", None),
        ("a_bool", 1),
        ("an_array", [1.0, 2.0]),
        ("an_array", 1.0),
        ("an_array", ["a", "b", "c"]),
        ("some_bytes", b"abcde"),
        ("some_bytes", "ab"),
        ("some_bytes", 3),
        ("an_f64", 10**400),
        ("an_array", [1e39, 0.0, 0.0]),
        ("an_enum", [["RED"], ["GREEN"]]),
    ],
)
def test_a_value_of_the_wrong_type_length_or_range_names_the_field(store: Store, field: str, value: Any) -> None:
    with store.transaction() as tx:
        one = tx.spawn(everything={})
        for attempt in (
            lambda: tx.update(one, "everything", **{field: value}),
            lambda: tx.spawn(everything={field: value}),
            lambda: tx.spawn_many(2, everything={field: value}),
            lambda: tx.update_many([one], "everything", **{field: value}),
        ):
            with pytest.raises(ArgumentError, match=rf"everything\.{field} .*expected .*found"):
                attempt()
    with store.view() as view:
        assert len(view["everything"]) == 1


def test_a_wrong_name_says_what_was_probably_meant(store: Store) -> None:
    with store.transaction() as tx:
        ship = tx.spawn(health={})
        with pytest.raises(UnknownNameError, match="did you mean 'health'"):
            tx.update(ship, "helth", hp=1)
        with pytest.raises(UnknownNameError, match="did you mean 'hp'"):
            tx.update(ship, "health", hpp=1)
        with pytest.raises(UnknownNameError, match="did you mean 'transform'"):
            tx.spawn(transfrom={})
        with pytest.raises(UnknownNameError, match="did you mean 'GREEN'"):
            tx.spawn(everything={"an_enum": "GRENE"})
        with pytest.raises(UnknownNameError):
            tx.query("helth")
        with pytest.raises(UnknownNameError):
            tx[ship, "health.hpp"]


def test_an_enum_takes_its_own_numbers_only(store: Store) -> None:
    with store.transaction() as tx, pytest.raises(ConstraintError) as caught:
        tx.spawn(everything={"an_enum": 3})
    assert caught.value.rule == "enum"


def test_a_field_without_a_default_must_be_given(store: Store) -> None:
    with store.transaction() as tx:
        with pytest.raises(ConstraintError) as caught:
            tx.insert("item", {})
        assert (caught.value.rule, caught.value.field) == ("required", "kind")
        with pytest.raises(ConstraintError):
            tx.insert_many("item", {"holder": np.zeros(2, np.uint64)})


def test_keys_cannot_be_written(store: Store) -> None:
    with store.transaction() as tx:
        ship = tx.spawn(health={})
        with pytest.raises(ArgumentError, match="follows from the row's key"):
            tx.update(ship, "health", entity_id=3)
        with pytest.raises(ArgumentError, match="follows from the row's key"):
            tx.spawn(health={"entity_id": 3})


def test_what_a_verb_cannot_do_it_says(store: Store) -> None:
    with store.transaction() as tx:
        ship = tx.spawn(health={})
        with pytest.raises(ArgumentError, match="not a component"):
            tx.insert(ship, item={"kind": 1})
        with pytest.raises(ArgumentError, match="not a component"):
            tx.spawn(entities={})
        with pytest.raises(ArgumentError, match="no keys of its own"):
            tx.insert("health", {})
        with pytest.raises(ArgumentError, match="despawn"):
            tx.delete(ship, "entities")
        with pytest.raises(ArgumentError, match="names no field"):
            tx.update(ship, "health")
        with pytest.raises(ArgumentError, match="expected a dict"):
            tx.spawn(health=3)  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="tx.query"):
            tx["health.hp"]  # type: ignore[index]
        with pytest.raises(ArgumentError):
            tx.update("ship", "health", hp=1)  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="key"):
            tx["ship", "health.hp"]  # type: ignore[index]
        with pytest.raises(ArgumentError, match="key"):
            tx.delete("ship", "health")  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="key"):
            tx.update(-1, "health", hp=1)
        with pytest.raises(ArgumentError, match="read-only"):
            tx.insert("schema_tables", {})
        with pytest.raises(ArgumentError, match="one row"):
            tx.insert("item", {"kind": 1}, health={})  # type: ignore[call-overload]
        with pytest.raises(ArgumentError, match="components by name"):
            tx.insert(ship)
        with pytest.raises(ArgumentError, match="components by name"):
            tx.insert_many([ship])
        with pytest.raises(ArgumentError, match="keys of its own"):
            tx.insert_many("health", {"hp": [1]})
        with pytest.raises(ArgumentError, match="names no field"):
            tx.update_many([ship], "health")
        with pytest.raises(ArgumentError, match="how many rows"):
            tx.spawn_many(-1)
        with pytest.raises(ArgumentError, match="how many rows"):
            tx.spawn_many(True, health={})
        with pytest.raises(ArgumentError, match="name of a table"):
            tx.query(3)  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="expected a path"):
            tx[ship, 3]  # type: ignore[index]
        with pytest.raises(UnknownNameError, match="'health'"):
            tx[ship, "health"]
        for hp in (1.5, "1", None, 70_000):
            with pytest.raises(ArgumentError, match=r"health\.hp \(u16\)"):
                tx.spawn(health={"hp": hp})
            with pytest.raises(ArgumentError, match=r"transform\.x"):
                tx.insert(ship, transform={"x": "x" * 100})
            with pytest.raises(ArgumentError, match=r"item\.id"):
                tx.insert("item", {"kind": 1, "id": hp if hp != 70_000 else -1})
        (tables,) = tx.query("schema_tables")
        with pytest.raises(ValueError, match="read-only"):
            tables.name[:] = 0
        with pytest.raises(ArgumentError, match="describes the schema"):
            tables.name = b""
        assert repr(tx) == "<transaction 'transaction', open>"
        assert repr(tx.query("health", without=["velocity"])) == "<query from health without velocity>"
        with pytest.raises(ArgumentError, match="inside a tick"):
            tx.random.random()


def test_bulk_calls_take_one_value_for_all_or_one_each(store: Store) -> None:
    with store.transaction() as tx:
        fleet = tx.spawn_many(transform={"x": np.arange(1000.0), "y": 5.0}, health={})
        assert fleet.dtype == np.uint64
        assert len(set(fleet.tolist())) == 1000
        tx.update_many(fleet, "health", hp=np.arange(1000) % 100)
        tx.insert_many(fleet[:10], velocity={"x": list(range(10))}, everything={"an_array": np.ones(3)})
        tx.delete_many(fleet[10:20], "health")
        tx.despawn(fleet[20:30])

    with store.view() as view:
        assert view[int(fleet[999]), "transform.x"] == 999.0
        assert view[int(fleet[999]), "transform.y"] == 5.0
        assert view[int(fleet[150]), "health.hp"] == 50
        assert view[int(fleet[9]), "velocity.x"] == 9.0
        assert view[int(fleet[9]), "everything.an_array"].tolist() == [1.0, 1.0, 1.0]
        assert len(view["health"]) == 980
        assert len(view["entities"]) == 990


def test_bulk_rows_of_a_table_with_its_own_keys(store: Store) -> None:
    with store.transaction() as tx:
        keys = tx.insert_many("item", {"kind": ["SWORD", "POTION", "SWORD"]})
        more = tx.insert_many("item", {"kind": "POTION"}, 2)
        tx.update_many(keys, "item", kind=2)
    with store.view() as view:
        assert view["item.kind"].tolist() == [2] * 5
        assert sorted(view["item.id"].tolist()) == [1, 2, 3, 4, 5]
        assert view["item"].key.tolist() == [*keys.tolist(), *more.tolist()]


def test_bulk_calls_refuse_what_does_not_fit(store: Store) -> None:
    with store.transaction() as tx:
        ships = tx.spawn_many(3, health={})
        with pytest.raises(ArgumentError, match="different lengths"):
            tx.spawn_many(transform={"x": [1.0, 2.0], "y": [1.0]})
        with pytest.raises(ArgumentError, match="how many"):
            tx.spawn_many(transform={"x": 1.0})
        with pytest.raises(ArgumentError, match="3 rows"):
            tx.update_many(ships, "health", hp=[1, 2])
        with pytest.raises(ArgumentError, match="expected an integer"):
            tx.update_many(ships, "health", hp=np.array([1.0, 2.0, 3.0]))
        with pytest.raises(ArgumentError, match=r"70000"):
            tx.update_many(ships, "health", hp=np.array([1, 2, 70000]))
        with pytest.raises(StaleEntityError):
            tx.update_many([*ships.tolist(), 999], "health", hp=1)
        with pytest.raises(StaleEntityError):
            tx.despawn([int(ships[0]), 999])
        with pytest.raises(ArgumentError, match="keys"):
            tx.despawn([-1])
        assert tx.query("health").count() == 3


def test_bulk_despawn_of_a_query(store: Store) -> None:
    with store.transaction() as tx:
        tx.spawn_many(health={"hp": [0, 50, 0, 10]})
    with store.transaction() as tx:
        tx.despawn(tx.query("health").where(col("health.hp") == 0).entity)
    with store.view() as view:
        assert sorted(view["health.hp"].tolist()) == [10, 50]


def test_rows_are_found_by_a_field(store: Store) -> None:
    with store.transaction() as tx:
        sword = tx.insert("item", {"id": 7, "kind": "SWORD"})
        assert tx.key("item.id", 7) == sword
        assert tx.find("item.id", 8) is None
        with pytest.raises(NoRowError, match="no row of item has id == 8"):
            tx.key("item.id", 8)
    with store.view() as view:
        assert view.key("item.id", 7) == sword
        assert view.find("item.id", 9) is None
        with pytest.raises(NoRowError, match="no row of item has id == 9"):
            view.key("item.id", 9)


def test_a_key_may_be_a_numpy_scalar(store: Store) -> None:
    with store.transaction() as tx:
        for ship in tx.spawn_many(3, health={}):
            tx.update(ship, "health", hp=1)
            tx[ship, "health.hp"] += 1
            tx.insert(ship, velocity={})
            tx.delete(ship, "velocity")
            assert ship in tx
            assert (ship, "velocity") not in tx
        tx.despawn(ship)
        (health,) = tx.query("health")
        health.hp += 1
        for ship in health.key:
            assert tx[ship, "health.hp"] == 3
            tx.update(ship, "health", hp=4)
            tx.insert(ship, velocity={})
    with store.view() as view:
        assert [view[ship, "health.hp"] for ship in view["health"].key] == [4, 4]
        assert len(view["velocity"]) == 2


def test_an_owner_is_stored_with_its_entity(store: Store) -> None:
    class Client:
        client_id = 42

    with store.transaction() as tx:
        mine = tx.spawn(owner=Client())
        several = tx.spawn_many(2, owner=np.array([1, 2], np.uint64))
        nobodys = tx.spawn()
        assert tx[mine, "entities.owner"] == 42
        for nobody in ("ada", -1, 2**64, 1.5):
            with pytest.raises(ArgumentError, match="owner: expected a client"):
                tx.spawn(owner=nobody)
        with pytest.raises(ArgumentError, match="different lengths"):
            tx.spawn_many(3, owner=[1, 2])
    with store.view() as view:
        assert view[nobodys, "entities.owner"] == 0
        assert [view[entity, "entities.owner"] for entity in several.tolist()] == [1, 2]


def test_a_finished_transaction_refuses_everything(store: Store) -> None:
    tx = store.transaction("my system")
    ship = tx.spawn(health={})
    query = tx.query("health")
    (rows,) = query
    tx.commit()

    for attempt in (
        lambda: tx.spawn(),
        lambda: tx.update(ship, "health", hp=1),
        lambda: tx.despawn(ship),
        lambda: tx[ship, "health.hp"],
        lambda: tx.query("health"),
        lambda: rows.hp,
        lambda: tx.commit(),
        lambda: tx.__enter__(),
    ):
        with pytest.raises(ClosedError, match="my system"):
            attempt()
    tx.rollback()
    with store.view() as view:
        assert view[ship, "health.hp"] == 100


def test_a_second_writer_is_busy(store: Store) -> None:
    """Who will not wait is told at once, and so is who would wait for itself: nothing of theirs has happened."""
    with store.transaction() as tx:
        tx.spawn()
        inner = store.transaction()
        with pytest.raises(BusyError):
            inner.spawn()
        found: list[object] = []

        def elsewhere() -> None:
            try:
                store.transaction(wait_s=0).spawn()
            except BusyError as error:
                found.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert len(found) == 1

    inner.spawn()
    inner.commit()
    with store.view() as view:
        assert len(view["entities"]) == 2


def test_a_transaction_takes_the_baton_at_its_first_operation(store: Store) -> None:
    idle = store.transaction()
    with store.transaction() as tx:
        tx.spawn()
    with idle:
        idle.spawn()
    with store.view() as view:
        assert len(view["entities"]) == 2


def test_a_forgotten_transaction_is_rolled_back_with_a_warning(store: Store) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        store.transaction("forgetful").spawn(health={})
        gc.collect()

    assert [w.category for w in caught] == [ResourceWarning]
    assert "forgetful" in str(caught[0].message)
    with store.transaction() as tx:
        tx.spawn(health={})
    with store.view() as view:
        assert len(view["health"]) == 1


def test_a_forgotten_transaction_gives_the_baton_back_where_warnings_are_errors(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.transaction().spawn()
        gc.collect()
    assert len(unraisable) == 1
    with store.transaction() as tx:
        tx.spawn()


def test_a_tick_makes_one_version_of_its_transactions(store: Store) -> None:
    before = store.version
    with store.tick(Tick(7)) as tick:
        with tick.transaction("first", dt=0.5, random=lambda: np.random.default_rng(1)) as first:
            ship = first.spawn(health={})
            assert (first.dt, first.tick) == (0.5, 7)
            assert first.random is first.random
        with pytest.raises(RuntimeError), tick.transaction("second") as second:
            second.update(ship, "health", hp=1)
            raise RuntimeError
        with tick.transaction("third") as third:
            third.update(ship, "health", hp=50)
            with pytest.raises(BusyError, match="third"):
                tick.transaction("fourth").spawn()
            with pytest.raises(BusyError, match="third"):
                tick.publish()
        with pytest.raises(BusyError):
            store.transaction().spawn()
        assert store.version == before
        assert tick.publish() == before + 1
        assert tick.publish() is None

    assert first.version == third.version == store.version == before + 1
    assert store.tick_number == 7
    with store.view() as view:
        assert view.tick == 7
        assert view[ship, "health.hp"] == 50
    with pytest.raises(ClosedError):
        tick.transaction("late")


def test_a_tick_left_open_in_the_middle_gives_the_baton_back(store: Store) -> None:
    with pytest.raises(RuntimeError), store.tick(Tick(1)) as tick:
        tick.transaction("half").spawn()
        raise RuntimeError
    with store.transaction() as tx:
        tx.spawn()
    with store.view() as view:
        assert len(view["entities"]) == 1
