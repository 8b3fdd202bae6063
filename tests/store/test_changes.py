"""Following changes: what is told of each transaction, to whom, and for how long."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

import ecsnet
from ecsnet import Component, field, u16
from ecsnet.errors import ArgumentError, BusyError, ClosedError, ConstraintError, HistoryGoneError, UnknownNameError
from ecsnet.ids import Tick, Version
from ecsnet.schema import Schema, loads
from ecsnet.store import Store, Transaction, col
from ecsnet.store.changes import Change
from tests.arena import arena
from tests.helpers import Pair
from tests.store.conftest import ARENA

SCHEMA = loads(ARENA)
Rows = dict[tuple[str, int], dict[str, Any]]


@pytest.fixture
def store(schema: Schema) -> Iterator[Store]:
    with Store(schema) as made:
        yield made


def told(changes: Any) -> list[tuple[str, str, int, dict[str, Any]]]:
    return [(change.kind, change.table, change.key, change.fields) for change in changes]


# --- what is told -----------------------------------------------------------------------------------------------------


def test_an_insert_an_update_and_a_delete_are_told_with_their_values(store: Store) -> None:
    followed = store.subscribe("health", "transform")
    with store.transaction() as tx:
        ship = tx.spawn(health={"hp": 50}, transform={"x": 1.0})
    store["transform"].update(ship, y=2.5)
    store["health"].delete(ship)

    assert told(followed.poll()) == [
        ("insert", "health", ship, {"hp": 50}),
        ("insert", "transform", ship, {"x": 1.0, "y": 0.0}),
        ("update", "transform", ship, {"y": 2.5}),
        ("delete", "health", ship, {"hp": 50}),
    ]
    assert followed.poll() == []
    assert followed.version == store.version


def test_a_change_is_what_its_transaction_comes_to(store: Store) -> None:
    """What was undone on the way is nothing, and two updates are one."""
    with store.transaction() as tx:
        ship, rock = tx.spawn(health={"hp": 50}, transform={}), tx.spawn(health={"hp": 7})
    followed = store.subscribe("health")
    with store.transaction() as tx:
        tx.update(ship, "health", hp=1).update(ship, "health", hp=2)
        tx.update(rock, "health", hp=1).update(rock, "health", hp=7)
        tx.despawn(tx.spawn(health={}))
    assert told(followed.poll()) == [("update", "health", ship, {"hp": 2})]

    with store.transaction() as tx:
        tx.delete(ship, "health").insert(ship, health={"hp": 3})
        tx.update(rock, "health", hp=1).delete(rock, "health")
    assert told(followed.poll()) == [("update", "health", ship, {"hp": 3}), ("delete", "health", rock, {"hp": 7})]

    with pytest.raises(ConstraintError), store.transaction() as tx:
        tx.update(ship, "health", hp=9)
        tx.update(ship, "health", hp=101)
    store.transaction().update(ship, "health", hp=3).commit()
    assert followed.poll() == []


def test_columns_written_by_a_system_are_told_cell_by_cell(store: Store) -> None:
    with store.transaction() as tx:
        fleet = tx.spawn_many(100, transform={"x": np.arange(100.0)}, health={}).tolist()
    followed = store.subscribe("transform", "health")
    with store.tick(Tick(3)) as tick:
        with tick.transaction("move") as tx:
            (body,) = tx.query("transform")
            body.x[10:12] = -1.0
            tx.delete(fleet[99], "health")
        with tick.transaction("again") as tx:
            tx.update_many(fleet[10:12], "transform", y=5.0)
        assert followed.poll() == [], "the tick has not been published"
        tick.publish()

    changes = followed.poll()
    assert told(changes) == [
        ("delete", "health", fleet[99], {"hp": 100}),
        ("update", "transform", fleet[10], {"x": -1.0}),
        ("update", "transform", fleet[11], {"x": -1.0}),
        ("update", "transform", fleet[10], {"y": 5.0}),
        ("update", "transform", fleet[11], {"y": 5.0}),
    ]
    assert {change.version for change in changes} == {store.version}


def test_every_type_arrives_as_a_view_gives_it(store: Store) -> None:
    followed = store.subscribe("everything")
    given = {"a_u8": 200, "a_u64": 2**64 - 1, "an_i8": -5, "an_f64": 0.1, "a_bool": True, "some_bytes": b"ab"}
    with store.transaction() as tx:
        one = tx.spawn(everything=given | {"an_array": [1.0, 2.0, 3.0], "an_enum": "GREEN"})
    store["everything"].update(one, an_array=[1.0, 2.0, 4.0])

    inserted, updated = followed.poll()
    assert {name: inserted.fields[name] for name in given} == given | {"some_bytes": b"ab\0\0"}
    assert inserted.fields["an_enum"] == 2
    assert inserted.fields["an_array"].tolist() == [1.0, 2.0, 3.0]
    assert list(updated.fields) == ["an_array"]
    assert updated.fields["an_array"].tolist() == [1.0, 2.0, 4.0]


def test_what_the_schema_does_by_itself_is_told_too(store: Store) -> None:
    with store.transaction() as tx:
        ship = tx.spawn(health={})
        sword = tx.insert("item", {"kind": "SWORD", "holder": ship})
    followed = store.subscribe()
    with store.transaction() as tx:
        tx.despawn(ship)
    assert told(followed.poll()) == [
        ("delete", "entities", ship, {"owner": 0}),
        ("delete", "health", ship, {"hp": 100}),
        ("update", "item", sword, {"holder": 0}),
    ]


def test_a_condition_is_asked_of_the_row_as_it_is_left_or_of_a_deleted_one_as_it_was(store: Store) -> None:
    with store.transaction() as tx:
        a, b = (tx.spawn(health={"hp": hp}, transform={"x": float(hp)}) for hp in (1, 2))
    dead = store.subscribe("health", where=col("health.hp") == 0)
    right = store.subscribe("transform", where=(col("x") > 1.5) & (col("entity_id") != 0))
    with store.transaction() as tx:
        tx.update(a, "health", hp=0).update(b, "health", hp=1)
        tx.update(a, "transform", y=9.0).update(b, "transform", y=9.0)
    with store.transaction() as tx:
        tx.despawn(a).despawn(b)

    assert told(dead.poll()) == [("update", "health", a, {"hp": 0}), ("delete", "health", a, {"hp": 0})]
    assert told(right.poll()) == [
        ("update", "transform", b, {"y": 9.0}),
        ("delete", "transform", b, {"x": 2.0, "y": 9.0}),
    ]


operation = st.sampled_from(
    ("spawn", "spawn_many", "despawn", "update", "update_many", "lend", "insert", "delete", "item", "drop", "hold")
)


GROUPED = loads(
    ARENA.replace('parent_table = "entities"', 'parent_table = "entities"\ngroup = "body"', 3).replace(
        'on_delete = "set_null"', 'on_delete = "cascade"'
    )
)
"""Rows of grouped tables move when others come and go; deletions take others with them."""


@pytest.mark.parametrize("schema", [SCHEMA, GROUPED], ids=["plain", "grouped"])
@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.lists(operation, max_size=8), st.booleans()), max_size=8), st.randoms(use_true_random=False)
)
def test_changes_turn_the_rows_of_one_version_into_those_of_the_next(schema: Schema, steps: Any, random: Any) -> None:
    """Whatever the transactions did, in whatever order, committed or not: told once each, none missing, none empty."""
    with Store(schema) as store:
        followed = store.subscribe()
        rows: Rows = {}
        for operations, keep in steps:
            tx = store.transaction()
            for verb in operations:
                play(tx, verb, random)
            tx.commit() if keep else tx.rollback()
            apply(rows, followed.poll())
            assert rows == world(store)
        assert len(list(store.changes())) == len(list(store.changes(since=Version(0))))


def play(tx: Transaction, verb: str, random: Any) -> None:
    """One operation on rows that there are, or nothing."""
    entities = tx.query("entities").key.tolist() if tx._state != 2 else []
    hurt = [entity for entity in entities if (entity, "health") in tx]
    if verb == "spawn":
        tx.spawn(health={"hp": random.randrange(5)}, transform={"x": float(random.randrange(3))})
    elif verb == "spawn_many":
        tx.spawn_many(random.randrange(1, 70), health={}, transform={"y": 1.0})
    elif verb == "item":
        tx.insert("item", {"kind": "POTION", "holder": random.choice([0, *entities])})
    elif verb == "despawn" and entities:
        tx.despawn(random.sample(entities, random.randrange(1, len(entities) + 1)))
    elif verb == "update" and hurt:
        tx.update(random.choice(hurt), "health", hp=random.randrange(5))
    elif verb == "update_many" and hurt:
        some = [random.choice(hurt) for _ in range(10)]
        tx.update_many(some, "health", hp=[random.randrange(5) for _ in some])
    elif verb == "delete" and hurt:
        tx.delete(random.choice(hurt), "health")
    elif verb == "insert" and (bare := [entity for entity in entities if entity not in hurt]):
        tx.insert(random.choice(bare), health={"hp": 4})
    elif verb == "drop" and entities and (items := tx.query("item").key.tolist()):
        tx.delete(random.choice(items), "item")
    elif verb == "hold" and entities and (items := tx.query("item").key.tolist()):
        tx.update(random.choice(items), "item", holder=random.choice(entities))
    elif verb == "lend" and entities:
        (health,) = tx.query("health")
        health.hp[random.randrange(1, 5) :: 3] = random.randrange(5)


def apply(rows: Rows, changes: list[Change]) -> None:
    for change in changes:
        at = (change.table, change.key)
        if change.kind == "insert":
            assert at not in rows
            rows[at] = change.fields
        elif change.kind == "update":
            assert change.fields and all(rows[at][name] != value for name, value in change.fields.items())
            rows[at] = rows[at] | change.fields
        else:
            assert rows.pop(at).keys() == change.fields.keys()


def world(store: Store) -> Rows:
    rows: Rows = {}
    with store.view() as view:
        for table in store.names.tables.values():
            if table.read_only:
                continue
            for key in view[table.name].key.tolist():
                rows[table.name, key] = {field.name: view[key, field.path] for field in table.stored}
    return rows


# --- from where, and for how long -------------------------------------------------------------------------------------


def test_changes_end_at_head_and_a_subscription_goes_on(store: Store) -> None:
    with store.transaction() as tx:
        ship = tx.spawn(health={})
    followed = store.subscribe("health", timeout_s=0)
    since = store.version
    for hp in (1, 2, 3):
        store["health"].update(ship, hp=hp)
    changes = store.changes("health", since=since)
    store["health"].update(ship, hp=4)

    assert [change.fields["hp"] for change in changes] == [1, 2, 3]
    assert [change.fields["hp"] for change in followed] == [1, 2, 3, 4]
    assert [change.version for change in store.changes("health", since=Version(since + 2))] == [since + 3, since + 4]
    assert list(store.changes("health", since=store.version)) == []


def test_a_subscription_is_gone_on_with_from_its_version(store: Store) -> None:
    """A version that was handed out in part is handed out again: never is a change passed over."""
    followed = store.subscribe("health")
    with store.transaction() as tx:
        first = tx.spawn_many(3, health={"hp": 1}).tolist()
    with store.transaction() as tx:
        second = tx.spawn_many(2, health={"hp": 2}).tolist()
    for _ in range(4):
        assert followed.wait(0) is not None
    resumed = store.subscribe("health", since=followed.version)

    assert followed.version == store.version - 1
    assert [change.key for change in resumed.poll()] == second
    assert [change.key for change in followed.poll()] == second[1:]
    assert [change.key for change in store.changes("health")] == first + second


def test_history_begins_with_the_first_question_or_with_the_store(store: Store, schema: Schema) -> None:
    with store.transaction() as tx:
        tx.spawn(health={})
    with pytest.raises(HistoryGoneError) as caught:
        store.changes("health", since=Version(0))
    assert (caught.value.asked, caught.value.oldest) == (0, 1)

    with Store(schema, changes_bytes=1 << 20) as recorded:
        with recorded.transaction() as tx:
            tx.spawn(health={})
        assert len(list(recorded.changes(since=Version(0)))) == 2


def test_a_slow_follower_loses_its_place_and_is_told(schema: Schema) -> None:
    with Store(schema, changes_bytes=4096) as store:
        slow = store.subscribe("health")
        quick = store.subscribe("health")
        with store.transaction() as tx:
            ship = tx.spawn(health={"hp": 0})
        for hp in range(1, 100):
            store["health"].update(ship, hp=hp)
            assert [change.fields["hp"] for change in quick.poll()][-1] == hp
        for _ in range(2):
            with pytest.raises(HistoryGoneError, match="changes_bytes") as caught:
                slow.poll()
        assert caught.value.asked == 0
        oldest = Version(caught.value.oldest)
        assert 1 < oldest < store.version

        again = store.subscribe("health", since=oldest)
        assert [change.fields["hp"] for change in again.poll()] == list(range(int(oldest), 100))


def test_a_version_that_is_too_much_to_keep_is_a_gap_and_not_a_failure(schema: Schema) -> None:
    with Store(schema, changes_bytes=2048) as store:
        followed = store.subscribe("health")
        with store.transaction() as tx:
            tx.spawn_many(1000, health={})
        assert len(store.view()["health"]) == 1000
        with pytest.raises(HistoryGoneError):
            followed.poll()
        assert list(store.changes("health", since=store.version)) == []


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_a_thread_waits_for_changes_of_another(store: Store) -> None:
    followed = store.subscribe("health")
    found: list[int] = []

    def follow() -> None:
        for change in followed:
            found.append(change.fields["hp"])

    follower = threading.Thread(target=follow)
    follower.start()
    for hp in range(20):
        with store.transaction() as tx:
            tx.spawn(health={"hp": hp})
    store.close()
    follower.join(10)
    assert found == list(range(20))


def test_a_subscription_that_is_closed_ends_whoever_waits_on_it(store: Store) -> None:
    followed = store.subscribe("health")
    ended = threading.Event()

    def follow() -> None:
        assert list(followed) == []
        ended.set()

    threading.Thread(target=follow, daemon=True).start()
    followed.close()
    assert ended.wait(10)
    with pytest.raises(ClosedError):
        followed.poll()


def test_waiting_for_a_change_ends_with_the_time_given(store: Store) -> None:
    followed = store.subscribe("health", timeout_s=0.01)
    assert followed.wait(0.01) is None
    assert list(followed) == []
    with pytest.raises(ArgumentError, match="seconds"):
        followed.wait(-1.0)


async def test_under_trio_other_tasks_run_while_one_follows(store: Store) -> None:
    found: list[int] = []

    async def follow() -> None:
        async for change in store.subscribe("health", timeout_s=5):
            found.append(change.fields["hp"])
            if len(found) == 3:
                return

    def elsewhere() -> None:
        with store.transaction() as tx:
            tx.spawn(health={"hp": 3})

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            for hp in (1, 2):
                with store.transaction() as tx:
                    tx.spawn(health={"hp": hp})
                await trio.lowlevel.checkpoint()
            await trio.to_thread.run_sync(elsewhere)
    assert found == [1, 2, 3]
    assert [change async for change in store.subscribe("health", timeout_s=0.01)] == []


# --- replicas ---------------------------------------------------------------------------------------------------------


def test_a_replica_tells_what_its_deltas_change() -> None:
    with Pair(arena()) as pair:
        pair.run_until_live()
        followed = pair.replica.store.subscribe("health")
        ours = pair.authority.store.subscribe("health")
        with pair.authority.store.transaction() as tx:
            rock = tx.spawn(health={"hp": 30}, transform={})
        pair.step(3)
        pair.authority.store["health"].update(rock, hp=29)
        pair.step(3)
        with pair.authority.store.transaction() as tx:
            tx.despawn(rock)
        pair.step(3)
        assert (
            told(followed.poll())
            == told(ours.poll())
            == [
                ("insert", "health", rock, {"hp": 30}),
                ("update", "health", rock, {"hp": 29}),
                ("delete", "health", rock, {"hp": 29}),
            ]
        )


# --- bad input --------------------------------------------------------------------------------------------------------


def test_a_question_that_makes_no_sense_is_refused_when_it_is_asked(store: Store) -> None:
    with pytest.raises(UnknownNameError, match="health"):
        store.changes("helth")
    with pytest.raises(ArgumentError, match="never changes"):
        store.subscribe("schema_tables")
    with pytest.raises(ArgumentError, match="exactly one table"):
        store.subscribe("health", "transform", where=col("health.hp") == 0)
    with pytest.raises(ArgumentError, match="not of health"):
        store.subscribe("health", where=col("transform.x") == 0)
    with pytest.raises(UnknownNameError):
        store.subscribe("health", where=col("health.xp") == 0)
    with pytest.raises(ArgumentError, match="expected a condition"):
        store.subscribe("health", where=True)  # type: ignore[arg-type]
    for since in (-1, 1, 0.0, True):
        with pytest.raises(ArgumentError, match="since"):
            store.subscribe("health", since=since)  # type: ignore[arg-type]
    for size in (0, "1 MiB", True):
        with pytest.raises(ArgumentError, match="changes_bytes"):
            Store(SCHEMA, changes_bytes=size)  # type: ignore[arg-type]


def test_the_first_question_about_a_table_is_asked_between_transactions(store: Store) -> None:
    with store.transaction() as tx:
        tx.spawn(health={})
        with pytest.raises(BusyError):
            store.subscribe("health")
    followed = store.subscribe("health")
    with store.transaction() as tx:
        tx.spawn(health={})
        assert store.subscribe("health").poll() == []
    assert len(followed.poll()) == 1
    store.close()
    with pytest.raises(ClosedError):
        store.changes("health")


# --- strings ----------------------------------------------------------------------------------------------------------

NOTES = """
[database]
name = "notes"
version = "1.0.0"

[tables.label]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "size", type = "u8", default = 1 },
          { name = "text", type = "string[24]", default = "" },
          { name = "last", type = "u16", default = 7 }]
"""


def test_strings_are_told_as_text_long_after_nobody_refers_to_them() -> None:
    """The kernel forgets texts; what was recorded of them are their bytes."""
    with Store(loads(NOTES)) as store:
        followed = store.subscribe("label")
        short = store.subscribe("label", where=col("label.text").startswith("n") & (col("size") < 3))
        with store.transaction() as tx:
            one, two = tx.spawn(label={"text": "höher"}), tx.spawn(label={"text": "n 0"})
        for n in range(1, 200):
            with store.transaction() as tx:
                tx.update(two, "label", text=f"n {n}").update(one, "label", size=n)
        with store.transaction() as tx:
            tx.despawn(one)

        changes = followed.poll()
        assert told(changes[:2]) == [
            ("insert", "label", one, {"size": 1, "text": "höher", "last": 7}),
            ("insert", "label", two, {"size": 1, "text": "n 0", "last": 7}),
        ]
        texts = [change.fields for change in changes if change.key == two]
        assert texts[1:] == [{"text": f"n {n}"} for n in range(1, 200)]
        assert told(changes[-1:]) == [("delete", "label", one, {"size": 199, "text": "höher", "last": 7})]
        assert [change.fields.get("text") for change in short.poll()] == [f"n {n}" for n in range(200)]


# --- tables as classes ------------------------------------------------------------------------------------------------


def test_a_table_may_be_its_class_and_a_condition_be_written_with_it() -> None:
    class Health(Component):
        hp: u16 = field(default=100)

    with Store(ecsnet.Schema("typed", "1.0.0", Health), batch_size=2) as store:
        dead = store.subscribe(Health, where=Health.hp == 0)
        with store.transaction() as tx:
            ship = tx.spawn(Health(hp=1))
        first = store.queue().update(ship, Health, hp=0).commit()
        second = store.queue().spawn(Health(hp=0)).commit()
        assert (first.wait(), second.wait()) == (2, 2)
        assert told(dead.poll()) == [
            ("update", "health", ship, {"hp": 0}),
            ("insert", "health", second.keys[0], {"hp": 0}),
        ]
        assert len(list(store.changes(Health, since=Version(1)))) == 2
