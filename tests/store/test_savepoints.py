"""Savepoints undo what was done since they began and nothing else; expectations notice every change of a row."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecsnet.errors import (
    ArgumentError,
    BorrowError,
    ClosedError,
    ConflictError,
    ConstraintError,
    EcsnetError,
    NoRowError,
    StaleEntityError,
)
from ecsnet.ids import Entity
from ecsnet.schema import Schema
from ecsnet.store import Store, Transaction


@pytest.fixture
def ship(store: Store) -> Entity:
    with store.transaction() as tx:
        return tx.spawn(transform={"x": 1.0}, health={})


def test_an_exception_undoes_the_savepoint_and_goes_on(store: Store, ship: Entity) -> None:
    with store.transaction() as tx:
        tx[ship, "health.hp"] = 90
        with pytest.raises(ZeroDivisionError), tx.savepoint():
            tx[ship, "health.hp"] = 10
            other = tx.spawn(health={})
            tx.delete(ship, "transform").insert(ship, velocity={})
            raise ZeroDivisionError
        assert tx[ship, "health.hp"] == 90
        assert other not in tx
        assert (ship, "transform") in tx
        assert (ship, "velocity") not in tx
        with tx.savepoint():
            tx[ship, "transform.x"] = 5.0
    with store.view() as view:
        assert (view[ship, "health.hp"], view[ship, "transform.x"]) == (90, 5.0)
        assert other not in view


def test_savepoints_nest(store: Store, ship: Entity) -> None:
    with store.transaction() as tx:
        with tx.savepoint() as outer:
            tx[ship, "health.hp"] = 90
            with pytest.raises(ZeroDivisionError), tx.savepoint():
                tx[ship, "health.hp"] = 80
                with tx.savepoint():
                    tx[ship, "health.hp"] = 70
                raise ZeroDivisionError
            assert tx[ship, "health.hp"] == 90
            with tx.savepoint() as inner:
                tx[ship, "health.hp"] = 60
                outer.rollback()
                assert not inner.open
                with pytest.raises(ClosedError, match="ended"):
                    inner.rollback()
            assert tx[ship, "health.hp"] == 100
            tx[ship, "transform.x"] = 4.0
        with pytest.raises(ClosedError):
            outer.rollback()
        with pytest.raises(ClosedError, match="one block"), outer:
            pass
    assert store["transform"].get(ship)["x"] == 4.0


def test_what_a_writer_held_back_before_stays_and_after_goes(store: Store, ship: Entity) -> None:
    with store.transaction() as tx:
        hurt = tx.writer("health.hp")
        hurt(ship, 50)
        with pytest.raises(ZeroDivisionError), tx.savepoint():
            hurt(ship, 40)
            raise ZeroDivisionError
        assert tx[ship, "health.hp"] == 50
        with tx.savepoint():
            hurt(ship, 30)
        hurt(ship, 20)
    assert store["health"].get(ship)["hp"] == 20


def test_columns_lent_within_a_savepoint_are_taken_back_as_they_were(store: Store, ship: Entity) -> None:
    with store.transaction() as tx:
        other = tx.spawn(transform={"x": 7.0}, velocity={})
        with pytest.raises(ZeroDivisionError), tx.savepoint():
            (body,) = tx.query("transform")
            (gathered, _) = tx.query("transform", "velocity")
            kept = body.x
            kept += 100
            gathered.y = 3.0
            tx.despawn(other)
            late = tx.spawn(transform={})
            assert other not in tx
            raise ZeroDivisionError
        assert tx[ship, "transform.x"] == 1.0
        assert other in tx
        assert late not in tx
        (body,) = tx.query("transform")
        assert body.x.tolist() == [1.0, 7.0]
        body.x += 1
        kept[:] = -1
        del body
    with store.view() as view:
        assert view["transform.x"].tolist() == [2.0, 8.0]
        assert view["transform.y"].tolist() == [0.0, 0.0]


def test_a_savepoint_is_refused_while_columns_are_lent(store: Store, ship: Entity) -> None:
    with store.transaction() as tx:
        (body,) = tx.query("transform")
        body.x += 1
        with pytest.raises(BorrowError, match="columns lent"), tx.savepoint():
            pass
        del body
    assert store["transform"].get(ship)["x"] == 2.0


def test_a_savepoint_of_an_ended_transaction_is_refused_and_one_within_it_ends_with_it(
    store: Store, ship: Entity
) -> None:
    tx = store.transaction()
    with tx.savepoint() as savepoint:
        tx[ship, "health.hp"] = 5
        tx.commit()
        assert not savepoint.open
    with pytest.raises(ClosedError), tx.savepoint():
        pass
    with pytest.raises(ZeroDivisionError), store.transaction() as tx, tx.savepoint():
        tx[ship, "health.hp"] = 6
        tx.rollback()
        raise ZeroDivisionError
    assert store["health"].get(ship)["hp"] == 5


def test_what_is_undone_is_not_checked_at_the_commit(store: Store, ship: Entity) -> None:
    """A reference to nobody, an entity that others refer to, a value twice: all of it gone with the savepoint."""
    with store.transaction() as tx:
        tx.insert("item", {"kind": 1, "id": 5})
        with pytest.raises(ZeroDivisionError), tx.savepoint():
            tx.insert("item", {"kind": 1, "holder": 12345})
            tx.insert("item", {"kind": 2, "id": 5})
            tx.despawn(ship)
            raise ZeroDivisionError
        with pytest.raises(ConstraintError), tx.savepoint():
            tx.update(ship, "health", hp=101)
    assert store["item"].count() == 1
    assert ship in store.view()


_steps = st.recursive(
    st.tuples(st.sampled_from(["hp", "x", "spawn", "despawn", "give", "drop"]), st.integers(0, 5)),
    lambda steps: st.tuples(st.sampled_from(["keep", "undo"]), st.lists(steps, max_size=6)),
    max_leaves=25,
)


@given(st.lists(_steps, max_size=8))
def test_undone_parts_leave_no_trace(schema: Schema, steps: list[tuple[str, object]]) -> None:
    """A store in which undone parts were done and undone ends as one in which they were never done."""

    class Undo(Exception):
        pass

    def play(store: Store, *, undone: bool) -> list[object]:
        with store.transaction() as tx:
            ships = [int(key) for key in tx.spawn_many(6, transform={}, health={})]

            def step(verb: str, which: object) -> None:
                if verb == "undo" and not undone:
                    return
                if verb in ("keep", "undo"):
                    assert isinstance(which, list)
                    try:
                        with tx.savepoint():
                            for inner in which:
                                step(*inner)
                            if verb == "undo":
                                raise Undo
                    except (Undo, BorrowError):
                        pass
                    return
                assert isinstance(which, int)
                ship = ships[which]
                try:
                    if verb == "hp":
                        tx.update(ship, "health", hp=tx[ship, "health.hp"] - 1)
                    elif verb == "x":
                        tx[ship, "transform.x"] = tx[ship, "transform.x"] + 1
                    elif verb == "spawn":
                        tx.spawn(transform={"x": which})
                    elif verb == "despawn":
                        tx.despawn(ship)
                    elif verb == "give":
                        tx.insert(ship, velocity={"x": which})
                    elif verb == "drop":
                        tx.delete(ship, "velocity")
                except EcsnetError:
                    pass

            for verb, which in steps:
                step(verb, which)
        with store.view() as view:
            return [
                sorted(view["transform.x"].tolist()),
                {int(key): hp for key, hp in zip(view["health"].key, view["health.hp"].tolist(), strict=True)},
                {int(key): x for key, x in zip(view["velocity"].key, view["velocity.x"].tolist(), strict=True)},
            ]

    with Store(schema) as one, Store(schema) as other:
        assert play(one, undone=True) == play(other, undone=False)


# --- expectations -----------------------------------------------------------------------------------------------------


def _hurt(tx: Transaction, ship: Entity) -> None:
    tx[ship, "health.hp"] = 50


CHANGES: dict[str, Callable[[Transaction, Entity], object]] = {
    "a cell": _hurt,
    "the row is gone": lambda tx, ship: tx.delete(ship, "health"),
    "the entity is gone": lambda tx, ship: tx.despawn(ship),
    "the row is another": lambda tx, ship: tx.delete(ship, "health").insert(ship, health={"hp": 3}),
}


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_an_expectation_notices_a_change(store: Store, ship: Entity, change: str, held: bool) -> None:
    view = store.view()
    since = view.version
    if not held:
        view.close()
    with store.transaction() as tx:
        CHANGES[change](tx, ship)
    for _ in range(3):
        with store.transaction() as tx:
            tx.spawn(health={})
    with store.transaction() as tx:
        with pytest.raises(ConflictError, match=f"as in version {since}") as conflict:
            tx.expect(ship, "health", since=view if held else since)
        assert (conflict.value.key, conflict.value.table, conflict.value.since) == (ship, "health", since)
        assert conflict.value.version == store.version
        tx.spawn()
    view.close()


@pytest.mark.parametrize("held", [True, False])
def test_an_expectation_does_not_mind_other_rows_and_fields(store: Store, ship: Entity, held: bool) -> None:
    view = store.view()
    if not held:
        view.close()
    since = store.version
    with store.transaction() as tx:
        fleet = tx.spawn_many(100, health={})
        tx.update(ship, "transform", x=9.0)
    with store.transaction() as tx:
        tx.update_many(fleet, "health", hp=7)
        tx.despawn(fleet[10:20])
    with store.transaction() as tx:
        assert tx.expect(ship, "health", since=since) is tx
        with pytest.raises(ConflictError):
            tx.expect(ship, "transform", since=since)
        with pytest.raises(ConflictError):
            tx.expect(int(fleet[0]), "health", since=since)
        tx.expect(int(fleet[0]), "health", since=store.version)
        tx.update(ship, "health", hp=3)
    view.close()


def test_while_its_version_is_held_an_expectation_is_exact(store: Store) -> None:
    """A row that another's deletion moved is as it was, and so is one that was changed there and back."""
    with store.transaction() as tx:
        first, last = tx.spawn(health={"hp": 1}), tx.spawn(health={"hp": 2})
    view = store.view()
    with store.transaction() as tx:
        tx.despawn(first).update(last, "health", hp=9)
    with store.transaction() as tx:
        tx.update(last, "health", hp=2)
    with store.transaction() as tx:
        tx.expect(last, "health", since=view)
        tx.update(last, "health", hp=3)
        with pytest.raises(ConflictError, match="changed"):
            tx.expect(last, "health", since=view)


def test_an_expectation_of_a_version_out_of_memory_is_refused(store: Store, ship: Entity) -> None:
    since = store.version
    for _ in range(300):
        with store.transaction() as tx:
            tx.spawn()
    with store.transaction() as tx, pytest.raises(ConflictError, match="no longer in memory"):
        tx.expect(ship, "health", since=since)


def test_an_expectation_of_nothing_says_so(store: Store, ship: Entity) -> None:
    with store.transaction() as tx:
        with pytest.raises(NoRowError):
            tx.expect(ship, "velocity", since=store.version)
        with pytest.raises(StaleEntityError):
            tx.expect(12345, "health", since=store.version)
        with pytest.raises(ArgumentError, match="version up to"):
            tx.expect(ship, "health", since=store.version + 1)
        for wrong in (True, "now", None, -1, np.float64(1)):
            with pytest.raises(ArgumentError):
                tx.expect(ship, "health", since=wrong)
        with pytest.raises(ConflictError, match="deleted"):
            tx.delete(ship, "health").expect(ship, "health", since=store.version)
