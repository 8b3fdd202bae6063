"""Prepared verbs do what the plain ones do, in the order of the calls; only their errors come late."""

import gc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecsnet.errors import (
    ArgumentError,
    ClosedError,
    ConstraintError,
    EcsnetError,
    NoRowError,
    StaleEntityError,
    UnknownNameError,
)
from ecsnet.expressions import col
from ecsnet.schema import Schema
from ecsnet.store import Store


@pytest.fixture
def ships(store: Store) -> list[int]:
    with store.transaction() as tx:
        keys: list[int] = tx.spawn_many(20, transform={}, health={}, everything={}).tolist()
    return keys


def test_what_a_writer_wrote_is_committed(store: Store, ships: list[int]) -> None:
    with store.transaction() as tx:
        move = tx.writer("transform")
        hurt = tx.writer("health.hp")
        for place, ship in enumerate(ships):
            move(ship, place, place + 0.5)
            hurt(ship, place)
    with store.view() as view:
        assert view["transform.x"].tolist() == [float(place) for place in range(20)]
        assert view["transform.y"].tolist() == [place + 0.5 for place in range(20)]
        assert view["health.hp"].tolist() == list(range(20))


def test_more_than_a_writer_holds_back_is_handed_over_in_between(store: Store, ships: list[int]) -> None:
    with store.transaction() as tx:
        hurt = tx.writer("health.hp")
        for call in range(2500):
            hurt(ships[call % 20], call % 100)
        assert tx[ships[3], "health.hp"] == 2483 % 100
        assert [tx[ship, "health.hp"] for ship in ships] == [(2480 + place) % 100 for place in range(20)]


def test_everything_else_sees_what_was_held_back(store: Store, ships: list[int]) -> None:
    ship = ships[4]
    with store.transaction() as tx:
        hurt, give, drop = tx.writer("health.hp"), tx.inserter("velocity"), tx.deleter("velocity")
        hurt(ship, 1)
        assert tx[ship, "health.hp"] == 1
        hurt(ship, 2)
        assert tx.query("health").where(col("hp") == 2).count() == 1
        fast = tx.query("velocity")
        assert fast.count() == 0
        give(ship, 1.0, 2.0)
        assert fast.count() == 1
        drop(ship)
        assert fast.count() == 0
        hurt(ship, 3)
        (health,) = tx.query("health")
        assert health.hp[4] == 3
        del health
        give(ship, 1.0, 2.0)
        assert (ship, "velocity") in tx
        drop(ship)
        assert (ship, "velocity") not in tx
        give(ship, 1.0, 2.0)
        tx.despawn(ship)
        assert ship not in tx
    assert store["velocity"].count() == 0


def test_writers_whose_order_matters_keep_it(store: Store, ships: list[int]) -> None:
    """The same cells through two writers, rows that come and go, and what refers to an entity that goes."""
    first, second = ships[:2]
    with store.transaction() as tx:
        both, x = tx.writer("transform.x", "transform.y"), tx.writer("transform.x")
        both(first, 1.0, 1.0)
        x(first, 2.0)
        both(second, 3.0, 3.0)
        x(second, 4.0)
        both(second, 5.0, 5.0)
        assert (tx[first, "transform.x"], tx[second, "transform.x"]) == (2.0, 5.0)
        give, drop, move = tx.inserter("velocity", "x"), tx.deleter("velocity"), tx.writer("velocity.x")
        give(first, 1.0)
        move(first, 2.0)
        drop(first)
        give(first, 3.0)
        move(first, 4.0)
        assert tx[first, "velocity.x"] == 4.0


def test_while_columns_are_lent_a_writer_writes_at_once(store: Store, ships: list[int]) -> None:
    with store.transaction() as tx:
        hurt, give, drop = tx.writer("health.hp"), tx.inserter("velocity", "x"), tx.deleter("everything")
        hurt(ships[0], 7)
        (health,) = tx.query("health")
        hp = health.hp
        assert hp[0] == 7
        hurt(ships[1], 8)
        assert hp[1] == 8
        hp[2] = 9
        give(ships[3], 2.0)
        drop(ships[3])
        assert tx[ships[3], "velocity.x"] == 2.0
        with pytest.raises(NoRowError):
            drop(ships[3])
        with pytest.raises(ArgumentError, match="health.hp"):
            hurt(ships[0], "much")
        del hp, health
    with store.view() as view:
        assert view["health.hp"].tolist()[:3] == [7, 8, 9]
        assert view["velocity.x"].tolist() == [2.0]
        assert (ships[3], "everything") not in view


def test_a_refused_write_is_refused_alone_and_says_which_it_was(store: Store, ships: list[int]) -> None:
    with store.transaction() as tx:
        hurt = tx.writer("health.hp")
        for place, ship in enumerate(ships):
            hurt(ship, 101 if place in (5, 11) else place)
        with pytest.raises(ConstraintError) as first:
            tx[ships[0], "health.hp"]
        assert "call 6 of 20" in first.value.__notes__[0]
        assert first.value.key == ships[5]
        with pytest.raises(ConstraintError) as second:
            tx.update(ships[0], "health", hp=50)
        assert second.value.key == ships[11]
        assert [tx[ship, "health.hp"] for ship in ships] == [100 if place in (5, 11) else place for place in range(20)]
    assert store["health"].get(ships[19])["hp"] == 19


def test_the_first_refusal_is_named_whatever_the_kernel_found_first(store: Store, ships: list[int]) -> None:
    """The kernel goes column by column, and finds a key that is stale before it looks at any value."""
    with store.transaction() as tx:
        hurt = tx.writer("health.hp")
        hurt(ships[0], 1)
        hurt(ships[1], 101)
        hurt(ships[2], 2)
        hurt(12345, 3)
        hurt(ships[3], 4)
        with pytest.raises(ConstraintError) as refused:
            tx.query("health")
        assert refused.value.key == ships[1]
        with pytest.raises(StaleEntityError):
            tx.query("health")
        assert [tx[ship, "health.hp"] for ship in ships[:4]] == [1, 100, 2, 4]


def test_a_refused_write_fails_the_commit_as_a_whole(store: Store, ships: list[int]) -> None:
    with pytest.raises(ConstraintError), store.transaction() as tx:
        hurt = tx.writer("health.hp")
        hurt(ships[0], 1)
        hurt(ships[1], 101)
    assert tx.closed
    assert store["health"].get(ships[0])["hp"] == 100


def test_an_exception_forgets_what_was_held_back(store: Store, ships: list[int]) -> None:
    with pytest.raises(ZeroDivisionError), store.transaction() as tx:
        hurt = tx.writer("health.hp")
        hurt(ships[0], 1)
        raise ZeroDivisionError
    with pytest.raises(ClosedError, match=r"writer\(health.hp\)"):
        hurt(ships[0], 1)
    with store.transaction() as tx:
        other = tx.writer("health.hp")
        other(ships[1], 2)
        with pytest.raises(ClosedError):
            hurt(ships[0], 1)
    assert store["health"].get(ships[0])["hp"] == 100
    with pytest.raises(ClosedError):
        other(ships[1], 3)
    with pytest.raises(ClosedError):
        tx.writer("health.hp")


def test_a_writer_does_not_keep_its_transaction(store: Store, ships: list[int]) -> None:
    tx = store.transaction()
    hurt = tx.writer("health.hp")
    hurt(ships[0], 1)
    with pytest.warns(ResourceWarning, match="rolled back"):
        del tx
        gc.collect()
    with pytest.raises(ClosedError):
        hurt(ships[0], 1)
    assert store["health"].get(ships[0])["hp"] == 100


def test_wrong_values_are_refused_at_the_call_and_hold_nothing_back(store: Store, ships: list[int]) -> None:
    ship = ships[0]
    with store.transaction() as tx:
        hurt, move = tx.writer("health.hp"), tx.writer("transform")
        every = tx.writer("everything")
        hurt(ship, 5)
        for wrong in ("much", 3.5, -1, 1 << 16, None):
            with pytest.raises(ArgumentError, match="health.hp"):
                hurt(ship, wrong)
        for key in (-1, "ship", 1 << 64, None):
            with pytest.raises(ArgumentError, match="key"):
                hurt(key, 5)
        with pytest.raises(ArgumentError, match="transform.y"):
            move(ship, 1.0, 1e300)
        with pytest.raises(TypeError, match=r"writer\(transform.x, transform.y\)"):
            move(ship, 1.0)
        with pytest.raises(ArgumentError, match="10 values, not 2"):
            every(ship, 1)
        every(ship, True, 2, 1, [1.0, 2.0, 3.0], "GREEN", 5.0, 3, 4, b"ab")
        with pytest.raises(ArgumentError, match="a_bool"):
            every(ship, 1, 2, 9, [1.0, 2.0, 3.0], "GREEN", 5.0, 3, 4, b"ab")
        assert tx[ship, "health.hp"] == 5
        assert tx[ship, "transform.x"] == 0.0
        assert [tx[ship, f"everything.{name}"] for name in ("a_u8", "a_bool", "an_enum", "some_bytes")] == [
            1,
            True,
            2,
            b"ab\0\0",
        ]
        assert tx[ship, "everything.an_array"].tolist() == [1.0, 2.0, 3.0]


def test_what_cannot_be_prepared_is_said_at_once(store: Store, ships: list[int]) -> None:
    with store.transaction() as tx, store.view() as view:
        for prepare in (tx.writer, tx.reader, view.reader):
            with pytest.raises(ArgumentError, match="different tables"):
                prepare("health.hp", "transform.x")
            with pytest.raises(ArgumentError, match="twice"):
                prepare("health.hp", "health.hp")
            with pytest.raises(ArgumentError, match="one table"):
                prepare("health", "transform")
            with pytest.raises(ArgumentError, match="name a table"):
                prepare()
            with pytest.raises(UnknownNameError, match="health"):
                prepare("helth")
            with pytest.raises(UnknownNameError, match="hp"):
                prepare("health.hq")
        with pytest.raises(ArgumentError, match="follows from the row's key"):
            tx.writer("health.entity_id")
        with pytest.raises(ArgumentError, match="read-only"):
            tx.writer("schema_tables")
        with pytest.raises(ArgumentError, match="not a component"):
            tx.inserter("item")
        with pytest.raises(ArgumentError, match="despawn"):
            tx.deleter("entities")
        with pytest.raises(UnknownNameError, match="z"):
            tx.inserter("velocity", "z")
        assert tx.writer("health.hp") is tx.writer("health")
        assert "(key, hp)" in str(tx.writer("health").__doc__)


def test_a_reader_reads_what_the_view_shows(store: Store, ships: list[int]) -> None:
    with store.transaction() as tx:
        tx.update_many(ships, "health", hp=list(range(20)))
        tx.update_many(ships, "transform", x=list(range(20)), y=2.0)
        lone = tx.spawn(transform={})
    view = store.view()
    hp, place, entity = view.reader("health.hp"), view.reader("transform"), view.reader("health.entity_id")
    three = view.reader("everything.a_u8", "everything.a_bool", "everything.an_enum")
    four = view.reader("everything.a_u8", "everything.a_bool", "everything.an_enum", "everything.an_i64")
    mixed = view.reader("everything.some_bytes", "everything.a_u8")
    assert [hp(ship) for ship in ships] == list(range(20))
    assert place(ships[3]) == (3.0, 2.0)
    assert entity(ships[3]) == ships[3]
    assert three(ships[3]) == (0, False, 1)
    assert four(ships[3]) == (0, False, 1, 0)
    assert mixed(ships[3]) == (b"\0\0\0\0", 0)
    with pytest.raises(NoRowError):
        hp(lone)
    with pytest.raises(StaleEntityError):
        hp(ships[3] + (1 << 32))
    with pytest.raises(ArgumentError, match="key"):
        hp("ship")  # type: ignore[arg-type]
    view.close()
    with store.transaction() as tx:
        tx.despawn(ships[3])
    assert hp(ships[3]) == 3, "a reader holds its version"
    with pytest.raises(NoRowError):
        hp(lone)
    with pytest.raises(ClosedError):
        view.reader("health.hp")


def test_a_reader_of_an_empty_or_sparse_table_asks_the_kernel(store: Store) -> None:
    with store.transaction() as tx:
        last = tx.spawn_many(10_000)[-1]
        tx.insert(int(last), health={"hp": 3})
    with store.view() as view:
        assert view.reader("health.hp")(int(last)) == 3
        with pytest.raises(NoRowError):
            view.reader("velocity.x")(int(last))


def test_a_reader_of_a_transaction_sees_what_it_wrote(store: Store, ships: list[int]) -> None:
    ship = ships[2]
    with store.transaction() as tx:
        hp, both, array = tx.reader("health.hp"), tx.reader("transform"), tx.reader("everything.an_array")
        hurt = tx.writer("health.hp")
        assert hp(ship) == 100
        hurt(ship, 4)
        assert (hp(ship), both(ship), array(ship).tolist()) == (4, (0.0, 0.0), [0.0, 0.0, 0.0])
        (health,) = tx.query("health")
        health.hp[:] = 6
        assert hp(ship) == 6
        with pytest.raises(StaleEntityError):
            hp(99)
        del health
    with pytest.raises(ClosedError):
        hp(ship)


_calls = st.lists(
    st.tuples(
        st.sampled_from(["both", "x", "hp", "give", "drop", "update", "insert", "delete", "read", "despawn"]),
        st.integers(0, 3),
        st.integers(0, 120),
    ),
    max_size=40,
)


@given(_calls)
def test_prepared_verbs_do_what_plain_ones_do(schema: Schema, calls: list[tuple[str, int, int]]) -> None:
    """Two stores, one written by prepared verbs and plain ones mixed, one by plain ones alone. A write that the plain
    store refuses is refused later by the other, and changes as little."""

    def run(prepared: bool) -> tuple[list[Any], list[type]]:
        refusals: list[type] = []
        with Store(schema) as store:
            with store.transaction() as tx:
                ships: list[int] = tx.spawn_many(4, transform={}, health={}).tolist()
                writers = {
                    "both": tx.writer("transform"),
                    "x": tx.writer("transform.x"),
                    "hp": tx.writer("health.hp"),
                    "give": tx.inserter("velocity", "x"),
                    "drop": tx.deleter("velocity"),
                }
                plain = {
                    "both": lambda ship, value: tx.update(ship, "transform", x=value, y=-value),
                    "x": lambda ship, value: tx.update(ship, "transform", x=value),
                    "hp": lambda ship, value: tx.update(ship, "health", hp=value),
                    "give": lambda ship, value: tx.insert(ship, velocity={"x": value}),
                    "drop": lambda ship, _: tx.delete(ship, "velocity"),
                    "update": lambda ship, value: tx.update(ship, "transform", x=value),
                    "insert": lambda ship, value: tx.insert(ship, velocity={"x": value}),
                    "delete": lambda ship, _: tx.delete(ship, "velocity"),
                    "read": lambda ship, _: tx[ship, "transform.x"],
                    "despawn": lambda ship, _: tx.despawn(ship),
                }
                arguments = {"both": lambda v: (v, -v), "drop": lambda v: ()}

                def attempt(verb: str, ship: int, value: int) -> None:
                    while True:
                        try:
                            if prepared and verb in writers:
                                writers[verb](ship, *arguments.get(verb, lambda v: (v,))(value))
                            else:
                                plain[verb](ship, value)
                        except EcsnetError as error:
                            refusals.append(type(error))
                            if getattr(error, "__notes__", None):
                                # It was about an earlier call; this one was not done.
                                continue
                        return

                for verb, which, value in calls:
                    attempt(verb, ships[which], value)
                while True:
                    try:
                        tx.query("health")
                        break
                    except EcsnetError as error:
                        refusals.append(type(error))
            with store.view() as view:
                state = [
                    (ship, ship in view, [view[ship, path] for path in ("transform.x", "transform.y", "health.hp")])
                    for ship in ships
                    if ship in view
                ]
                speeds = {int(key): float(x) for key, x in zip(view["velocity"].key, view["velocity.x"], strict=True)}
        return [state, speeds], refusals

    expected, refused = run(False)
    found, refused_late = run(True)
    assert found == expected
    assert sorted(map(str, refused)) == sorted(map(str, refused_late))


def test_ended_transactions_leave_nothing_to_collect(store: Store, ships: list[int]) -> None:
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            with store.transaction() as tx:
                tx.writer("health.hp")(ships[0], 5)
                tx.inserter("velocity")
            store.transaction().writer("health.hp")
        del tx
        assert gc.collect() < 20
    finally:
        gc.enable()
