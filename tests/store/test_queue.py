"""The queue of producers: transactions written down anywhere, committed by whoever writes, answered by tickets."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import trio
import trio.testing

from ecsnet.errors import (
    ArgumentError,
    BusyError,
    ClosedError,
    ConstraintError,
    LimitExceededError,
    NoRowError,
    QueueFullError,
    RowExistsError,
    StaleEntityError,
    UnknownNameError,
)
from ecsnet.ids import Tick
from ecsnet.schema import Schema, loads
from ecsnet.store import Store, Transaction
from ecsnet.store import producers as producers_file
from tests.store.test_changes import NOTES


@pytest.fixture
def store(schema: Schema) -> Iterator[Store]:
    with Store(schema) as made:
        yield made


# --- by itself --------------------------------------------------------------------------------------------------------


def test_a_queued_transaction_is_committed_at_once_while_nobody_writes(store: Store) -> None:
    ticket = store.queue().spawn(health={"hp": 7}, transform={"x": 1.5}).insert("item", {"kind": "SWORD"}).commit()

    assert ticket.state == "committed" and ticket.done
    assert ticket.version == ticket.wait() == store.version == 1
    ship, sword = ticket.keys
    with store.view() as view:
        assert (view[ship, "health.hp"], view[ship, "transform.x"], view[sword, "item.kind"]) == (7, 1.5, 1)


def test_every_verb_writes_what_its_twin_in_a_transaction_writes(store: Store, schema: Schema) -> None:
    """The same calls on two stores: one transaction, and one that is queued."""

    def first(tx: Any) -> None:
        tx.spawn(health={"hp": 1}, everything={"an_array": [1, 2, 3], "some_bytes": b"ab", "an_enum": "GREEN"}, owner=5)
        tx.spawn_many(70, health={"hp": np.arange(70)}, transform={"y": 2.0})
        tx.spawn_many(2, everything={"an_array": [[1, 2, 3], [4, 5, 6]], "a_bool": [True, False]}, owner=[8, 9])
        tx.insert("item", {"kind": "POTION"})
        tx.insert_many("item", {"kind": ["SWORD", "POTION"]})

    def second(tx: Any, ships: Any, items: Any) -> None:
        tx.insert(ships[0], transform={"x": 1.0}, velocity={})
        tx.insert_many(ships[1:4], velocity={"x": [1.0, 2.0, 3.0]})
        tx.update(ships[1], "health", hp=50)
        tx[ships[2], "health.hp"] = 51
        tx.update_many(ships[3:60], "health", hp=np.arange(57))
        tx.delete(ships[5], "transform")
        tx.delete_many(ships[6:9], "health")
        tx.delete_many(items[:1], "item")
        tx.despawn(ships[10])
        tx.despawn(ships[11:20])

    with Store(schema) as other:
        with other.transaction() as tx:
            first(tx)
        with other.view() as view:
            ships, items = view["entities"].key.copy(), view["item"].key.copy()
        with other.transaction() as tx:
            second(tx, ships, items)

        with store.queue() as queued:
            first(queued)
        assert queued.ticket is not None
        assert sorted(queued.ticket.keys) == sorted([*ships.tolist(), *items.tolist()])
        with store.queue() as queued:
            second(queued, ships, items)
        assert queued.ticket is not None and queued.ticket.wait() == 2
        assert store.view().digest() == other.view().digest()


def test_strings_are_queued_row_by_row_and_in_bulk() -> None:
    with Store(loads(NOTES)) as store:
        ticket = store.queue().spawn(label={"text": "höher"}).spawn_many(label={"text": ["", "ab", "ç" * 12]}).commit()
        one, *many = ticket.keys
        store.queue().update_many(many[:2], "label", text="same").update(one, "label", text="lower").commit().wait()
        with store.view() as view:
            assert view["label.text"].tolist() == ["lower", "same", "same", "ç" * 12]
        with pytest.raises(ArgumentError, match="24 bytes"):
            store.queue().update(one, "label", text="ç" * 13)


def test_nothing_written_down_is_nothing_to_commit(store: Store) -> None:
    assert store.queue().commit().wait() == store.version == 0
    with pytest.raises(RuntimeError), store.queue() as queued:
        queued.spawn()
        raise RuntimeError
    assert queued.ticket is None
    assert store.version == 0
    with pytest.raises(ClosedError, match="mine"):
        queued = store.queue("mine")
        queued.commit()
        queued.spawn()


def test_a_commit_that_is_not_waited_for_gives_a_ticket(store: Store) -> None:
    """In memory it is done at once; what refuses it is raised, since it is known."""
    tx = store.transaction()
    ship = tx.spawn(health={})
    ticket = tx.commit(wait=False)
    assert (ticket.state, ticket.version, ticket.wait()) == ("committed", 1, 1)
    assert store.transaction().commit(wait=False).wait() == 1
    with store.tick(Tick(1)) as tick:
        with tick.transaction("system") as inside, pytest.raises(ArgumentError, match="the tick makes the version"):
            inside.update(ship, "health", hp=1).commit(wait=False)
        tick.publish()
    assert inside.version == 2


# --- while somebody writes --------------------------------------------------------------------------------------------


def test_what_waits_behind_a_transaction_is_one_version_after_it(store: Store) -> None:
    with store.transaction() as tx:
        ship = tx.spawn(health={"hp": 1})
        tickets = [store.queue().update(ship, "health", hp=hp).commit() for hp in (10, 20, 30)]
        tickets.append(store.queue().spawn().commit())
        assert [ticket.state for ticket in tickets] == ["pending"] * 4
        assert [ticket.version for ticket in tickets] == [None] * 4
    assert tx.version == 1
    assert [ticket.version for ticket in tickets] == [2] * 4
    with store.view() as view:
        assert view[ship, "health.hp"] == 30


def test_what_waits_behind_a_tick_is_not_in_its_version(store: Store) -> None:
    with store.tick(Tick(1)) as tick:
        with tick.transaction("system") as tx:
            ship = tx.spawn(health={"hp": 1})
        ticket = store.queue().update(ship, "health", hp=2).commit()
        tick.publish()
        with store.view() as view:
            assert view[ship, "health.hp"] == 1
        assert not ticket.done
    assert ticket.version == store.version == 2


def test_it_is_committed_after_a_rollback_too(store: Store) -> None:
    with pytest.raises(RuntimeError), store.transaction() as tx:
        ship = tx.spawn()
        stale, good = store.queue().despawn(ship).commit(), store.queue().spawn().commit()
        raise RuntimeError
    assert good.version == 1
    assert isinstance(stale.error, StaleEntityError)


def test_a_refused_one_names_what_refused_it_and_the_others_do_not_notice(store: Store) -> None:
    with store.transaction() as tx:
        ship = tx.spawn(health={"hp": 1})
        rock = tx.spawn()
        tickets = [
            store.queue().update(ship, "health", hp=5).update(ship, "health", hp=101).commit(),
            store.queue().spawn(health={}).update(rock, "health", hp=5).commit(),
            store.queue().insert(ship, health={}).commit(),
            store.queue().update(ship, "health", hp=6).commit(),
        ]
    for ticket, error, key in zip(
        tickets, (ConstraintError, NoRowError, RowExistsError), (ship, rock, ship), strict=False
    ):
        assert ticket.state == "failed" and ticket.version is None and ticket.keys == ()
        with pytest.raises(error) as caught:
            ticket.wait()
        assert caught.value.key == key
        assert caught.value.table == "health"
    assert tickets[3].wait() == 2
    with store.view() as view:
        assert view[ship, "health.hp"] == 6
        assert len(view["entities"]) == 2


def test_a_ticket_calls_back_once_when_it_is_done(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    called: list[Any] = []

    def broken(ticket: object) -> None:
        raise RuntimeError("in the game's own code")

    with store.transaction() as tx:
        tx.spawn()
        ticket = store.queue("mine").spawn().commit()
        ticket.then(broken)
        ticket.then(called.append)
        assert called == []
    assert called == [ticket]
    assert "mine" in caplog.text
    ticket.then(called.append)
    assert called == [ticket, ticket]


def test_waiting_for_oneself_is_refused_at_once(store: Store) -> None:
    with store.transaction() as tx:
        tx.spawn()
        ticket = store.queue().spawn().commit()
        with pytest.raises(BusyError, match="this thread's own"):
            ticket.wait()
        with pytest.raises(BusyError, match="this thread"):
            store.transaction().spawn()
    assert ticket.wait() == 2


def test_a_thread_waits_for_its_ticket(store: Store) -> None:
    tx = store.transaction()
    tx.spawn()
    found: list[object] = []

    def elsewhere() -> None:
        ticket = store.queue().spawn().commit()
        try:
            ticket.wait(0.01)
        except BusyError as error:
            found.append(error)
        began.set()
        found.append(ticket.wait(10))

    began = threading.Event()
    thread = threading.Thread(target=elsewhere)
    thread.start()
    assert began.wait(10)
    tx.commit()
    thread.join(10)
    assert "pending" in str(found[0])
    assert found[1] == 2


# --- bounds -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(schema: Schema, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(producers_file, "QUEUE_TRANSACTIONS_MAX", 3)
    monkeypatch.setattr(producers_file, "QUEUE_BYTES_MAX", 2000)
    with Store(schema) as made:
        yield made


def test_a_full_queue_says_so_and_has_taken_nothing(small: Store) -> None:
    with small.transaction() as tx:
        tx.spawn()
        tickets = [small.queue().spawn().commit() for _ in range(3)]
        late = small.queue().spawn()
        with pytest.raises(QueueFullError, match="transactions") as caught:
            late.commit()
        assert caught.value.value == 3
        with pytest.raises(BusyError):
            late.commit(wait=True)
    tickets.append(late.commit())
    assert len({ticket.keys for ticket in tickets}) == 4
    with small.view() as view:
        assert len(view["entities"]) == 5

    with small.transaction() as tx:
        tx.spawn()
        small.queue().spawn_many(40).commit()
        with pytest.raises(QueueFullError, match="bytes"):
            small.queue().spawn_many(40).commit()
    with pytest.raises(LimitExceededError, match="one queued transaction"):
        small.queue().spawn_many(100).commit()


def test_who_wants_to_waits_for_room(small: Store) -> None:
    tx = small.transaction()
    tx.spawn()
    done: list[object] = []

    def produce() -> None:
        for _ in range(10):
            done.append(small.queue().spawn().commit(wait=True, timeout_s=10))

    thread = threading.Thread(target=produce)
    thread.start()
    until = time.monotonic() + 10
    while len(done) < 3 and time.monotonic() < until:
        time.sleep(0.001)
    assert len(done) == 3
    with pytest.raises(BusyError):
        small.queue().spawn().commit(wait=True, timeout_s=0.01)
    tx.commit()
    thread.join(10)
    assert len(done) == 10
    with small.view() as view:
        assert len(view["entities"]) == 11


# --- batches ----------------------------------------------------------------------------------------------------------


def test_a_batch_is_one_version_when_it_is_large_enough(schema: Schema) -> None:
    with Store(schema, batch_size=3) as store:
        first, second = store.queue().spawn().commit(), store.queue().spawn().commit()
        with store.transaction() as tx:
            tx.spawn()
        assert not first.done
        third = store.queue().spawn().commit()
        assert [ticket.version for ticket in (first, second, third)] == [2, 2, 2]

        fourth = store.queue().spawn().commit()
        assert not fourth.done
        store.flush()
        assert fourth.version == 3
        assert store.queue().spawn().commit().wait() == 4, "whoever waits for it does not wait for a batch"


def test_a_batch_is_committed_when_its_time_has_come(schema: Schema) -> None:
    with Store(schema, batch_ms=20) as store:
        tickets = [store.queue().spawn().commit() for _ in range(5)]
        assert not tickets[0].done
        assert {ticket.wait(10) for ticket in tickets} == {1}
        slow = store.queue().spawn().commit()
        until = time.monotonic() + 10
        while not slow.done and time.monotonic() < until:
            time.sleep(0.001)
        assert slow.version == 2, "nobody has to come for it"


def test_what_a_closing_store_holds_is_committed_first(schema: Schema) -> None:
    store = Store(schema, batch_size=100, changes_bytes=1 << 16)
    followed = store.subscribe("entities")
    ticket = store.queue().spawn().commit()
    late = store.queue().spawn()
    store.close()
    assert ticket.version == 1
    assert len(followed.poll()) == 1
    with pytest.raises(ClosedError):
        late.commit()
    with pytest.raises(ClosedError):
        store.queue()


# --- under Trio -------------------------------------------------------------------------------------------------------


async def test_under_trio_a_transaction_waits_for_another_task(store: Store) -> None:
    order: list[str] = []

    async def writer(name: str) -> None:
        async with store.transaction() as tx:
            order.append(f"{name} in")
            tx.spawn()
            await trio.sleep(0)
            order.append(f"{name} out")

    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(writer, name)
    assert [entry[0] for entry in order[::2]] == [entry[0] for entry in order[1::2]]
    assert store.version == 3
    with pytest.raises(RuntimeError):
        async with store.transaction() as tx:
            tx.spawn()
            with pytest.raises(BusyError, match="this task"):
                async with store.transaction() as inner:
                    inner.spawn()
            raise RuntimeError
    assert store.version == 3


async def test_under_trio_a_transaction_waits_for_another_thread_and_not_for_ever(store: Store) -> None:
    tx = await trio.to_thread.run_sync(begun, store)
    with pytest.raises(BusyError, match=r"0\.01 s"):
        async with store.transaction(wait_s=0.01):
            pass
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def elsewhere() -> None:
            await trio.sleep(0.01)
            await trio.to_thread.run_sync(tx.commit)

        async with store.transaction() as mine:
            mine.spawn()
    assert mine.version == 2


def begun(store: Store) -> Transaction:
    tx = store.transaction()
    tx.spawn()
    return tx


async def test_under_trio_a_ticket_is_awaited(store: Store) -> None:
    async with store.transaction() as tx:
        ship = tx.spawn(health={})
        ticket = store.queue().update(ship, "health", hp=5).commit()
        refused = store.queue().update(ship, "health", hp=500).commit()
        versions: list[int] = []

        async def wait_for_it() -> None:
            versions.append(await ticket)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, ticket.then, versions.append)
            await trio.sleep(0)
    assert await ticket == 2
    with pytest.raises(ConstraintError):
        await refused
    assert await store.queue().spawn().committed() == 3


async def test_under_trio_back_pressure_is_waited_for(small: Store) -> None:
    tx = await trio.to_thread.run_sync(begun, small)
    versions: list[int] = []

    async def produce() -> None:
        versions.append(await small.queue().spawn().committed())

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(produce)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert versions == []
        await trio.to_thread.run_sync(tx.commit)
    assert len(versions) == 8
    async with small as same:
        assert same is small
    assert small.closed


# --- threads ----------------------------------------------------------------------------------------------------------


def test_producers_readers_and_held_views_on_many_threads(schema: Schema) -> None:
    """Each producer moves its own pair of counters together and in steps of one: no reader ever sees them apart, no
    version takes a step back, and in the end every step was made."""
    steps, workers = 150, 4
    with Store(schema) as store:
        with store.transaction() as tx:
            keys = tx.spawn_many(workers, everything={}, transform={}).tolist()
        followed = store.subscribe("everything")
        wrong: list[object] = []
        stop = threading.Event()

        def produce(key: int) -> None:
            for step in range(1, steps + 1):
                with store.queue() as queued:
                    queued.update(key, "everything", a_u64=step).update(key, "transform", x=float(step))
                if step % 10 == 0:
                    assert queued.ticket is not None
                    queued.ticket.wait(30)
                if step % 25 == 0:
                    with store.transaction(wait_s=30) as tx:
                        tx.update(key, "velocity", x=1.0) if (key, "velocity") in tx else tx.insert(key, velocity={})

        def read() -> None:
            held: list[tuple[Any, list[int]]] = []
            newest = dict.fromkeys(keys, 0)
            while not stop.is_set():
                view = store.view()
                for key in keys:
                    count = view[key, "everything.a_u64"]
                    if count != view[key, "transform.x"] or count < newest[key]:
                        wrong.append((key, count, newest[key]))
                    newest[key] = count
                held.append((view["everything.a_u64"], view["everything.a_u64"].tolist()))
                if len(held) > 8:
                    column, before = held.pop(0)
                    if column.tolist() != before:
                        wrong.append("a held view changed")

        readers = [threading.Thread(target=read) for _ in range(2)]
        producers = [threading.Thread(target=produce, args=(key,)) for key in keys]
        for thread in readers + producers:
            thread.start()
        for thread in producers:
            thread.join(120)
        stop.set()
        for thread in readers:
            thread.join(30)
        assert wrong == []
        changes = followed.poll()
        for key in keys:
            assert [change.fields["a_u64"] for change in changes if change.key == key] == list(range(1, steps + 1))


# --- bad input --------------------------------------------------------------------------------------------------------


def test_what_needs_no_rows_to_be_wrong_is_refused_where_it_is_written(store: Store) -> None:
    queued = store.queue()
    for attempt, error in (
        (lambda: queued.spawn(helth={}), UnknownNameError),
        (lambda: queued.spawn(health={"hp": "many"}), ArgumentError),
        (lambda: queued.spawn(health={"hp": 1 << 20}), ArgumentError),
        (lambda: queued.insert("item", {}), ConstraintError),
        (lambda: queued.insert("health", {}), ArgumentError),
        (lambda: queued.insert(0, health={}), ArgumentError),
        (lambda: queued.insert_many([1, 0], health={}), ArgumentError),
        (lambda: queued.update(1, "health", xp=1), UnknownNameError),
        (lambda: queued.update(-1, "health", hp=1), ArgumentError),
        (lambda: queued.update(1, "health"), ArgumentError),
        (lambda: queued.update(1, "schema_tables", name=b"x"), ArgumentError),
        (lambda: queued.update_many([1, 2], "health", hp=[1]), ArgumentError),
        (lambda: queued.delete(1, "entities"), ArgumentError),
        (lambda: queued.spawn_many(health={}), ArgumentError),
        (lambda: queued.commit(timeout_s=-1.0), ArgumentError),
        (lambda: Store(store.schema, batch_ms=0), ArgumentError),
        (lambda: Store(store.schema, batch_size=0), ArgumentError),
        (lambda: Store(store.schema, wait_s=-1), ArgumentError),
        (lambda: store.transaction(wait_s="long"), ArgumentError),  # type: ignore[arg-type]
    ):
        with pytest.raises(error):
            attempt()
    assert queued.commit().wait() == 0, "nothing of it was written down"
