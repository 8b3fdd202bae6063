"""A store on a disk: what it acknowledged it keeps, and nobody sees what it could still lose. The disk is memory that
can lose power, unless a test says otherwise."""

import gc
import itertools
import threading
import time
import warnings
from contextlib import closing
from pathlib import Path

import pytest
import trio

import ecsnet
from ecsnet._kernel.disk import Storage
from ecsnet.errors import (
    ArgumentError,
    BusyError,
    ClosedError,
    ConstraintError,
    DataError,
    DataFailedError,
    DataLockedError,
    DataMissingError,
    EcsnetError,
    HistoryGoneError,
    LimitExceededError,
    SchemaMismatchError,
    StaleEntityError,
)
from ecsnet.ids import Tick
from ecsnet.schema import Schema, loads
from ecsnet.store import Store, Ticket
from ecsnet.store.opening import Driven
from tests.store.conftest import ARENA

SEGMENT = 64 << 10


@pytest.fixture
def storage() -> Storage:
    # Never closed: a store that a failing test leaves behind still has it.
    return Storage.memory()


def opened(schema: Schema | None, storage: Storage, durability: str = "strict", **options: object) -> Store:
    return Store(schema, storage=storage, durability=durability, segment_bytes=SEGMENT, **options)  # type: ignore[arg-type]


def driven(schema: Schema, storage: Storage, durability: str, **options: object) -> Store:
    """A store whose disk does nothing unless it is told to. Whenever somebody looks at its clock it is a millisecond
    later."""
    clock = itertools.count(1_800_000_000_000_000_000, 1_000_000)
    return opened(schema, storage, durability, driven=Driven(lambda: next(clock), bytes(range(32))), **options)


@pytest.mark.parametrize("durability", ["memory", "relaxed", "strict", "paranoid"])
def test_what_was_closed_is_there_when_it_is_opened_again(schema: Schema, tmp_path: Path, durability: str) -> None:
    with Store(schema, data=tmp_path / "data", durability=durability, segment_bytes=SEGMENT) as store:
        assert store.recovery is not None
        assert store.recovery.created
        epoch = store.epoch
        with store.transaction() as tx:
            ship = tx.spawn(transform={"x": 1.5}, health={"hp": 40})
            gone = tx.spawn()
        store["entities"].count()
        with store.transaction() as tx:
            tx.despawn(gone)
            sword = tx.insert("item", {"kind": "SWORD", "holder": ship})
        version = store.version
    with Store.open(tmp_path / "data") as store:
        assert (store.version, store.epoch, store.durability) == (version, epoch, "strict")
        assert store.recovery is not None
        assert not store.recovery.created
        assert not store.recovery.new_epoch
        view = store.view()
        assert (view[ship, "transform.x"], view[ship, "health.hp"]) == (1.5, 40)
        assert view[sword, "item.holder"] == ship
        with pytest.raises(StaleEntityError):
            view[gone, "health.hp"]
        with store.transaction() as tx:
            assert tx.spawn() not in (ship, gone), "a key never comes back"
        assert store.version == version + 1


def test_a_strict_commit_returns_when_a_loss_of_power_cannot_take_it(schema: Schema, storage: Storage) -> None:
    store = opened(schema, storage)
    with store.transaction() as tx:
        ship = tx.spawn(health={})
    for hp in range(20):
        store["health"].update(ship, hp=hp)
        assert store.durable_version == store.version == 2 + hp
        with closing(storage.crash(hp)) as left, opened(schema, left) as after:
            assert after.version == store.version
            assert after.view()[ship, "health.hp"] == hp
    store.close()


def test_a_relaxed_commit_returns_when_the_death_of_the_process_cannot_take_it(
    schema: Schema, storage: Storage
) -> None:
    store = driven(schema, storage, "relaxed")
    with store.transaction() as tx:
        ship = tx.spawn(health={})
    for hp in range(10):
        store["health"].update(ship, hp=hp)
        assert store.written_version == store.version
        assert store.durable_version == 0, "nothing was synced: nobody asked, and there is no thread"
        with closing(storage.kill()) as left, opened(schema, left) as after:
            assert after.view()[ship, "health.hp"] == hp
    store.close()


def test_a_memory_commit_waits_for_nothing_and_is_written_behind(schema: Schema, storage: Storage) -> None:
    store = driven(schema, storage, "memory")
    with store.transaction() as tx:
        ship = tx.spawn(health={})
    assert (store.version, store.written_version) == (1, 0)
    assert store.view()[ship, "health.hp"] == 100
    store.work()
    assert store.written_version == 1
    store.close()


def test_nobody_sees_a_strict_version_before_it_is_durable(schema: Schema, storage: Storage) -> None:
    store = driven(schema, storage, "strict")
    told: list[int] = []
    with store.subscribe("health") as following:
        tx = store.transaction()
        ship = tx.spawn(health={"hp": 5})
        ticket = tx.commit(wait=False)
        ticket.then(lambda done: told.append(done.version or -1))
        assert (ticket.state, ticket.durable, tx.version) == ("pending", False, 1)
        assert store.version == store.view().version == 0
        assert following.poll() == []
        # One that comes after is not seen either, whatever it demands: versions are shown in order.
        after = store.queue().spawn().commit()
        assert (after.done, store.version, told) == (False, 0, [])
        while store.work():
            pass
        assert (ticket.state, ticket.durable, told) == ("committed", True, [1])
        assert after.version == store.version == 2
        assert store.view()[ship, "health.hp"] == 5
        assert [change.key for change in following.poll()] == [ship]
    store.close()


def test_event_rows_of_a_version_are_told_when_it_is_shown(storage: Storage) -> None:
    schema = loads(
        ARENA
        + """
[tables.noise]
event = true
fields = [{ name = "loudness", type = "f32" }]
"""
    )
    store = driven(schema, storage, "strict")
    told: list[int] = []
    store.follow_events(lambda version, tick, blocks: told.append(version))
    for _ in range(2):
        tx = store.transaction()
        tx.spawn()
        tx.insert("noise", {"loudness": 1.0})
        tx.commit(wait=False)
    assert told == []
    while store.work():
        pass
    assert told == [1, 2]
    store.close()


def test_a_refusal_waits_for_what_it_was_judged_against(schema: Schema, storage: Storage) -> None:
    store = driven(schema, storage, "strict")
    tx = store.transaction()
    ship = tx.spawn(health={"hp": 5})
    tx.commit(wait=False)
    refused = store.queue().add(ship, "health", hp=-6).commit()
    assert not refused.done, "that it is too little is known from a version that a crash could undo"
    while store.work():
        pass
    assert isinstance(refused.error, ConstraintError)
    # Who blocks waits for it by itself.
    store.transaction().update(ship, "health", hp=3).commit(wait=False)
    with pytest.raises(ConstraintError), store.transaction() as tx:
        tx.update(ship, "health", hp=101)
    assert store.durable_version == store.version == 2
    store.transaction().update(ship, "health", hp=2).commit(wait=False)
    with store.transaction() as tx:
        assert tx[ship, "health.hp"] == 2
        tx.rollback()
    assert store.durable_version == 3, "what it has read, somebody knows"
    store.close()


def test_a_transaction_may_demand_more_than_its_store(schema: Schema, storage: Storage) -> None:
    store = driven(schema, storage, "memory")
    with store.transaction() as tx:
        ship = tx.spawn(health={})
    with store.transaction(durability="strict") as tx:
        tx.update(ship, "health", hp=1)
    assert store.durable_version == 2
    ticket = store.queue(durability="paranoid").update(ship, "health", hp=2).commit()
    each = store.queue_each(durability="strict").update([ship], "health", hp=[3]).commit()
    assert ticket.wait() == 3
    assert each.wait() == 4
    assert store.durable_version == 4
    with store.tick(Tick(9)) as tick:
        with tick.transaction("strictly", durability="strict") as tx:
            tx.update(ship, "health", hp=4)
        version = tick.publish()
        assert version == 5
        promise = store.promise(version)
        assert store.version == 4
    assert promise.wait() == 5, "of level memory, but in its place behind what is held"
    assert store.version == store.durable_version == 5
    with store.transaction() as tx:
        tx.update(ship, "health", hp=5)
    assert (store.version, store.written_version) == (6, 5), "the next is the store's own level again"
    store.close()


def test_many_that_wait_share_a_sync(schema: Schema, storage: Storage) -> None:
    store = driven(schema, storage, "strict")
    with store.transaction() as tx:
        ship = tx.spawn(health={})
    counts = store.disk_statistics()
    assert counts is not None
    tickets = [store.transaction().update(ship, "health", hp=hp).commit(wait=False) for hp in range(10)]
    assert tickets[-1].wait() == 11
    assert all(ticket.done for ticket in tickets)
    after = store.disk_statistics()
    assert after is not None
    assert (after.records - counts.records, after.syncs - counts.syncs) == (10, 1)
    store.close()


def test_threads_that_block_do_not_hold_up_each_other(schema: Schema, tmp_path: Path) -> None:
    """Each commit is durable when it returns, nothing is lost, and they share syncs: the baton is free meanwhile."""
    store = Store(schema, data=tmp_path, segment_bytes=SEGMENT)
    failures: list[Exception] = []

    def work() -> None:
        try:
            for _ in range(40):
                with store.transaction(wait_s=60) as tx:
                    tx.spawn(health={})
                assert tx.version is not None
                assert store.durable_version >= tx.version
                assert store.version >= tx.version
        except (EcsnetError, AssertionError) as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store["health"].count() == 160
    store.close()


def test_a_tick_goes_on_while_others_wait_for_the_disk(schema: Schema, storage: Storage) -> None:
    """The baton is not held while somebody waits: here nobody would ever give it back."""
    store = driven(schema, storage, "strict")
    assert store.disk is not None
    flushed = threading.Event()
    go_on = threading.Event()
    flush = store.disk.disk.flush

    class Slow:
        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        def flush(self, level: int, now_ns: int) -> None:
            flushed.set()
            assert go_on.wait(10)
            flush(level, now_ns)

    real = store.disk.disk
    store.disk.disk = Slow()  # type: ignore[assignment]

    def commit() -> None:
        with store.transaction() as tx:
            tx.spawn()

    thread = threading.Thread(target=commit)
    thread.start()
    assert flushed.wait(10)
    with store.tick(Tick(1)) as tick:
        with tick.transaction("system") as tx:
            tx.spawn()
        assert tick.publish() == 2
    assert store.version == 0
    go_on.set()
    thread.join(10)
    assert store.version >= 1
    store.close()


def test_the_thread_flushes_what_nobody_waits_for(schema: Schema, storage: Storage) -> None:
    for durability in ("memory", "relaxed"):
        with opened(schema, storage, durability) as store:
            with store.transaction() as tx:
                tx.spawn()
            until = time.monotonic() + 10
            while store.durable_version < store.version:
                assert time.monotonic() < until, "20 ms are declared"
                time.sleep(0.001)


def test_the_thread_rests_and_wakes(schema: Schema, storage: Storage) -> None:
    with opened(schema, storage, "memory") as store:
        assert store.disk is not None
        thread = store.disk.thread
        assert thread is not None
        assert thread.resting, "a store that nobody writes to costs nothing"
        for version in range(1, 4):
            with store.transaction() as tx:
                tx.spawn()
            until = time.monotonic() + 10
            while not thread.resting:
                assert time.monotonic() < until
                time.sleep(0.001)
            assert store.durable_version == version


def test_a_promise_is_of_the_stores_own_durability_at_least(schema: Schema, storage: Storage) -> None:
    store = driven(schema, storage, "relaxed")
    with store.tick(Tick(1)) as tick:
        with tick.transaction("system") as tx:
            tx.spawn()
        version = tick.publish()
    assert version == store.version == 1, "shown at once"
    promises = [store.promise(version), store.promise(version, "memory"), store.promise(version, "strict")]
    assert not any(promise.done for promise in promises), "and answered when it is written"
    assert promises[0].wait() == 1
    assert [promise.done for promise in promises] == [True, True, False]
    assert promises[2].wait() == store.durable_version == 1
    store.close()


def test_sync_makes_everything_durable(schema: Schema, storage: Storage) -> None:
    store = driven(schema, storage, "memory")
    for _ in range(3):
        store.queue().spawn().commit()
    assert store.written_version == 0
    assert store.sync() == store.durable_version == 3
    store.close()
    with pytest.raises(ClosedError):
        store.sync()


# --- what goes wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "nth"), [("io", 1), ("short", 1), ("full", 1), ("sync", 2)])
def test_after_a_failed_write_or_sync_nothing_is_acknowledged_any_more(
    schema: Schema, storage: Storage, kind: str, nth: int
) -> None:
    store = driven(schema, storage, "strict")
    with store.transaction() as tx:
        ship = tx.spawn(health={"hp": 1})
    store["health"].update(ship, hp=2)
    waiting = [
        store.queue().update(ship, "health", hp=3).commit(),
        store.transaction().update(ship, "health", hp=4).commit(wait=False),
        store.queue_each().update([ship, ship], "health", hp=[5, 200]).commit(),
    ]
    storage.fail(nth, kind)
    with pytest.raises(DataFailedError) as failed:
        store["health"].update(ship, hp=6)
    assert failed.value.durable == 2
    for ticket in waiting:
        assert ticket.state == "failed", "whoever waits is told, once"
        with pytest.raises(DataFailedError):
            ticket.wait()
    for attempt in (
        lambda: store.transaction().update(ship, "health", hp=7).commit(),
        lambda: store.queue().update(ship, "health", hp=7).commit(),
        lambda: store.queue_each().update([ship], "health", hp=[7]).commit(),
        lambda: store.tick(Tick(2)).__enter__(),
        store.sync,
        store.snapshot,
        lambda: store.restore_point("too late"),
    ):
        with pytest.raises(DataFailedError):
            attempt()
    assert store.view()[ship, "health.hp"] == 2, "the last version that is certain is what is shown"
    assert store.version == store.durable_version == 2
    with pytest.raises(DataFailedError):
        store.close()
    assert store.closed
    with closing(storage.crash(1)) as left, opened(schema, left) as after:
        assert after.version >= 2
        assert after.view()[ship, "health.hp"] in range(2, 7)


@pytest.mark.parametrize("kind", ["io", "full", "sync"])
def test_what_was_only_written_is_not_acknowledged_once_a_sync_has_failed(
    schema: Schema, storage: Storage, kind: str
) -> None:
    """The same round writes and syncs: what it has written is gone with the pages that the sync gave up."""
    store = driven(schema, storage, "relaxed")
    with store.transaction() as tx:
        ship = tx.spawn(health={"hp": 1})
    store.sync()
    written = store.transaction().update(ship, "health", hp=2).commit(wait=False)
    synced = store.transaction(durability="strict").update(ship, "health", hp=3).commit(wait=False)
    storage.fail(2, kind)
    store.work()
    for ticket in (written, synced):
        assert ticket.state == "failed", "nobody is told what the next opening may not find"
        with pytest.raises(DataFailedError):
            ticket.wait()
    assert store.written_version == store.durable_version == 1
    with pytest.raises(DataFailedError):
        store.close()
    with closing(storage.kill()) as left, opened(schema, left) as after:
        assert after.version >= 1
        assert after.view()[ship, "health.hp"] in range(1, 4)


def test_a_thread_that_meets_a_failure_tells_whoever_waits(schema: Schema, storage: Storage) -> None:
    store = opened(schema, storage, "relaxed")
    with store.transaction() as tx:
        tx.spawn()
    store.sync()
    storage.fail(1, "io")
    told: list[object] = []
    answered = threading.Event()

    def tell(ticket: Ticket) -> None:
        told.append(ticket.error)
        answered.set()

    store.queue().spawn().commit().then(tell)
    assert answered.wait(10)
    # Housekeeping may have met it before the write did: either way nothing goes on.
    assert told == [None] or isinstance(told[0], DataFailedError)
    until = time.monotonic() + 10
    while store.disk is not None and store.disk.failure is None:
        assert time.monotonic() < until
        time.sleep(0.001)
    with pytest.raises(DataFailedError):
        store.transaction().spawn()
    with pytest.raises(DataFailedError):
        store.close()


def test_a_full_disk_refuses_before_anything_changes(schema: Schema, storage: Storage) -> None:
    store = opened(schema, storage)
    with store.transaction() as tx:
        ship = tx.spawn(health={"hp": 1})
    big = [bytes([n % 256]) * 4 for n in range(20_000)]
    refused = 0
    for nth in range(1, 4):
        storage.fail(nth, "full")
    try:
        with store.transaction() as tx:
            tx.spawn_many(everything={"some_bytes": big, "a_u64": range(20_000)})
    except DataError as error:
        refused += 1
        assert "nothing changed" in str(error)
    assert refused == 1, "a record of a megabyte needs a segment of its own"
    assert store.version == 1
    assert store["everything"].count() == 0
    with store.transaction() as tx:
        tx.update(ship, "health", hp=2)
    assert store.durable_version == 2, "the store goes on"
    store.close()


def test_a_second_open_is_refused(schema: Schema, tmp_path: Path) -> None:
    with Store(schema, data=tmp_path), pytest.raises(DataLockedError, match="open already by pid"):
        Store(schema, data=tmp_path)
    Store(schema, data=tmp_path).close()


def test_a_schema_that_is_not_the_datas_is_told_by_what_differs(schema: Schema, tmp_path: Path) -> None:
    with Store(schema, data=tmp_path) as store, store.transaction() as tx:
        tx.spawn(health={})
    other = loads(
        ARENA.replace('"u16", default = 100', '"u32", default = 100')
        .replace("[tables.target]", "[tables.aim]")
        .replace('"1.0.0"', '"1.1.0"')
    )
    before = sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())
    with pytest.raises(SchemaMismatchError) as told:
        Store(other, data=tmp_path)
    text = str(told.value)
    assert "health.hp is u32, in the data u16" in text
    assert "table aim is only in the schema given" in text
    assert "table target is only in the data" in text
    assert "1.1.0" in text
    assert before == sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())
    Store.open(tmp_path).close()


def test_what_is_not_there_is_not_made_where_that_is_not_asked(schema: Schema, tmp_path: Path) -> None:
    for attempt in (
        lambda: Store.open(tmp_path / "none"),
        lambda: Store(schema, data=tmp_path / "none", create=False),
        lambda: Store(None, data=tmp_path / "none"),
        lambda: Store(schema, data=tmp_path / "none", read_only=True),
    ):
        with pytest.raises(DataMissingError):
            attempt()
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_read_only_is_read_and_not_written(schema: Schema, tmp_path: Path) -> None:
    with Store(schema, data=tmp_path) as store, store.transaction() as tx:
        ship = tx.spawn(health={"hp": 7})
    before = sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file() and path.name != "LOCK")
    with Store.open(tmp_path, read_only=True) as store:
        assert store.view()[ship, "health.hp"] == 7
        for attempt in (
            lambda: store.transaction().spawn(),
            lambda: store.queue().spawn().commit(),
            lambda: store.tick(Tick(1)).__enter__(),
            store.snapshot,
            lambda: store.restore_point("none"),
            store.sync,
        ):
            with pytest.raises(DataError, match="read only"):
                attempt()
    after = sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file() and path.name != "LOCK")
    assert after == before


def test_waiting_for_a_held_version_with_the_baton_is_told(schema: Schema, storage: Storage) -> None:
    store = driven(schema, storage, "strict")
    ticket = store.queue().spawn().commit()
    with store.tick(Tick(1)), pytest.raises(BusyError):
        ticket.wait()
    assert ticket.wait() == 1
    store.close()


def test_a_store_that_is_let_go_says_so_and_loses_nothing_that_was_answered(schema: Schema, storage: Storage) -> None:
    store = opened(schema, storage)
    with store.transaction() as tx:
        ship = tx.spawn(health={"hp": 3})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        del store, tx
        gc.collect()
    assert any("without close()" in str(one.message) for one in caught)
    until = time.monotonic() + 10
    while True:
        try:
            store = opened(schema, storage)
            break
        except DataLockedError:
            # Its thread has not let go of the disk yet.
            assert time.monotonic() < until
            time.sleep(0.01)
    with store:
        assert store.view()[ship, "health.hp"] == 3


def test_closing_answers_everybody(schema: Schema, storage: Storage) -> None:
    store = opened(schema, storage, "memory", batch_ms=60_000)
    queued = store.queue().spawn().commit()
    assert not queued.done
    store.close()
    assert queued.wait() == 1
    assert queued.durable
    with opened(schema, storage) as after:
        assert after["entities"].count() == 1


# --- snapshots, restore points, Trio ----------------------------------------------------------------------------------


def test_a_snapshot_is_what_opening_begins_with(schema: Schema, storage: Storage) -> None:
    store = opened(schema, storage)
    with store.transaction() as tx:
        ships = tx.spawn_many(1000, health={"hp": 9})
    seen: list[tuple[int, int]] = []
    made = store.snapshot(lambda done, total: seen.append((done, total)))
    assert made.version == 1
    assert made.digest.hex() == store.view().digest()
    assert seen
    assert seen[-1][0] <= seen[-1][1]
    store["health"].update(int(ships[0]), hp=3)
    store.close()
    with opened(schema, storage) as store:
        assert store.recovery is not None
        assert (store.recovery.snapshot_version, store.recovery.records) == (1, 1)
        assert store.view()[int(ships[0]), "health.hp"] == 3
        assert store["health"].count() == 1000


def test_snapshots_are_made_when_the_log_has_grown(schema: Schema, storage: Storage) -> None:
    store = driven(schema, storage, "relaxed", snapshot_every_bytes=1 << 20)
    with store.transaction() as tx:
        ship = tx.spawn(health={})
    for version in range(2, 800):
        store["health"].update(ship, hp=version % 100)
        store.work()
    while store.work():
        pass
    counts = store.disk_statistics()
    assert counts is not None
    assert counts.snapshots >= 2
    names = list(storage.files())
    assert sum(name.endswith(".snap") for name in names) == 2
    segments = sum(name.endswith(".wal") for name in names)
    assert segments * SEGMENT < 3 << 20 < counts.record_bytes, "what is before the older of two is let go of"
    store.close()
    with opened(schema, storage) as after:
        assert after.version == 799
        assert after.recovery is not None
        assert after.recovery.snapshot_version > 400


def test_a_snapshot_in_the_background_holds_nobody_up(schema: Schema, tmp_path: Path) -> None:
    with Store(
        schema, data=tmp_path, durability="relaxed", segment_bytes=SEGMENT, snapshot_every_bytes=SEGMENT
    ) as store:
        with store.transaction() as tx:
            ship = tx.spawn(health={})
        until = time.monotonic() + 20
        while (counts := store.disk_statistics()) is None or counts.snapshots < 2:
            assert time.monotonic() < until
            store["health"].update(ship, hp=1)
            store["health"].update(ship, hp=2)
        version = store.version
    with Store.open(tmp_path) as store:
        assert store.version == version
        assert store.view()[ship, "health.hp"] == 2


def test_what_earlier_runs_left_in_the_log_counts_towards_a_snapshot(schema: Schema, storage: Storage) -> None:
    """A node that is killed again and again would otherwise find a longer log to read at each restart."""
    snapshots = []
    for _ in range(8):
        store = driven(schema, storage, "relaxed", snapshot_every_bytes=4 * SEGMENT)
        with store.transaction() as tx:
            tx.spawn(health={})
        for _ in range(400):
            store.work()
        counts = store.disk_statistics()
        assert counts is not None and counts.record_bytes < SEGMENT, "a run by itself writes far too little"
        snapshots.append(counts.snapshots)
        storage = storage.kill()
        store.abandon()

    assert sum(snapshots) == 2, "then the log before the older of two is let go of, and it is short again"
    with opened(schema, storage) as after:
        assert after.recovery is not None and after.recovery.snapshot_version > 0


def test_closing_ends_a_snapshot_that_is_under_way(schema: Schema, storage: Storage) -> None:
    store = opened(schema, storage)
    with store.transaction() as tx:
        tx.spawn_many(200_000, transform={})
    told: list[object] = []

    def work() -> None:
        try:
            store.snapshot(lambda done, total: begun.set())
        except EcsnetError as error:
            told.append(error)

    begun = threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    begun.wait(10)
    store.close()
    thread.join(10)
    assert not thread.is_alive()
    assert told == [] or isinstance(told[0], ClosedError)
    with opened(schema, storage) as after:
        assert after["transform"].count() == 200_000


def test_digests_are_noted_once_a_second_and_at_the_end(schema: Schema, tmp_path: Path) -> None:
    with Store(schema, data=tmp_path, durability="relaxed") as store:
        with store.transaction() as tx:
            ship = tx.spawn(health={"hp": 5})
        until = time.monotonic() + 10
        while (counts := store.disk_statistics()) is None or counts.records <= store.version:
            store["health"].update(ship, hp=6)
            assert time.monotonic() < until
            time.sleep(0.02)
        store["health"].update(ship, hp=7)
    text = b"".join(path.read_bytes() for path in sorted((tmp_path / "wal").iterdir()))
    notes = [at for at in range(0, len(text), 4096) if text[at + 124 : at + 128] == b"ECR1" and text[at + 104] == 4]
    assert len(notes) >= 2, "one while it ran, and one when it was closed"
    with Store.open(tmp_path) as store:
        last = text[notes[-1] + 128 :]
        assert int.from_bytes(last[:8], "little") == store.version
        assert last[8:24].hex() == store.view().digest()


def test_a_restore_point_names_the_newest_version_durably(schema: Schema, storage: Storage) -> None:
    store = opened(schema, storage, "relaxed")
    with store.transaction() as tx:
        tx.spawn()
    assert store.restore_point("before the boss") == 1
    assert store.durable_version == 1
    with pytest.raises(LimitExceededError):
        store.restore_point("")
    with closing(storage.crash(3)) as left, opened(schema, left) as after:
        assert after.version == 1
        assert any(b"before the boss" in data for name, data in left.files().items() if name.endswith(".wal"))
    store.close()


def test_what_snapshots_make_needless_is_archived_and_comes_back(schema: Schema, tmp_path: Path) -> None:
    data, old = tmp_path / "data", tmp_path / "old"
    with Store(schema, data=data, durability="relaxed", segment_bytes=SEGMENT, archive=True) as store:
        with store.transaction() as tx:
            ship = tx.spawn(health={})
        digests = {}
        for version in range(2, 120):
            store["health"].update(ship, hp=version % 100)
            digests[version] = store.view().digest()
            if version % 40 == 0:
                store.snapshot()
        store.restore_point("here")
        store["health"].update(ship, hp=77)
    assert list((data / "archive").iterdir()), "what a snapshot made needless"
    assert not (data / "wal" / f"{1:016d}.wal").exists()
    made = ecsnet.restore(data, old, version=20)
    with Store.open(old) as store:
        assert store.version == made.version == 20
        assert store.view().digest() == digests[20]
        assert store.recovery is not None
        assert store.epoch == made.epoch != store.recovery.ancestors[-1][0]
    made = ecsnet.restore(data, tmp_path / "point", point="here")
    assert made.version == 119
    # That it keeps an archive is remembered.
    with Store.open(data, durability="relaxed", segment_bytes=SEGMENT) as store:
        before = len(list((data / "archive").iterdir()))
        for version in range(60):
            store["health"].update(ship, hp=version)
        store.snapshot()
        store["health"].update(ship, hp=1)
        store.snapshot()
        assert len(list((data / "archive").iterdir())) > before


def test_a_backup_is_a_store_while_others_commit(schema: Schema, tmp_path: Path) -> None:
    with Store(schema, data=tmp_path / "data", durability="relaxed", segment_bytes=SEGMENT) as store:
        with store.transaction() as tx:
            ship = tx.spawn(health={})
        ended = threading.Event()

        def commit() -> None:
            while not ended.is_set():
                store["health"].update(ship, hp=5)
                time.sleep(0.001)

        thread = threading.Thread(target=commit)
        thread.start()
        try:
            seen: list[tuple[int, int]] = []
            at_least = store.version
            copy = store.backup(tmp_path / "copy", lambda done, total: seen.append((done, total)))
        finally:
            ended.set()
            thread.join()
        assert seen
        with pytest.raises(ArgumentError, match="not empty"):
            store.backup(tmp_path / "copy")
    with Store.open(tmp_path / "copy") as store:
        assert store.version >= max(at_least, 1)
        assert store.view()[ship, "health.hp"] in (5, 100)
    assert not copy.verified.problems


def test_changes_are_followed_from_where_the_data_goes_on(schema: Schema, storage: Storage) -> None:
    with opened(schema, storage) as store, store.transaction() as tx:
        ship = tx.spawn(health={})
    with opened(schema, storage, changes_bytes=1 << 20) as store:
        with pytest.raises(HistoryGoneError):
            list(store.changes("health", since=store.recovery.version - 1 if store.recovery else None))
        store["health"].update(ship, hp=5)
        assert [change.fields for change in store.changes("health", since=1)] == [{"hp": 5}]


async def test_under_trio_other_tasks_run_while_the_disk_syncs(schema: Schema, tmp_path: Path) -> None:
    async with Store(schema, data=tmp_path) as store:
        async with store.transaction() as tx:
            ship = tx.spawn(health={})
        assert store.version == store.durable_version == 1
        tx = store.transaction().update(ship, "health", hp=5)
        assert await tx.durable() == 2
        assert store.view()[ship, "health.hp"] == 5
        assert await store.queue().update(ship, "health", hp=6).commit() == 3
        assert await store.queue().update(ship, "health", hp=7).committed() == store.durable_version == 4
        with pytest.raises(ConstraintError):
            async with store.transaction() as tx:
                tx.update(ship, "health", hp=101)
        with pytest.raises(ZeroDivisionError):
            async with store.transaction() as tx:
                tx.update(ship, "health", hp=8)
                1 / 0
        assert await store.promise(store.version, "paranoid") == 4
        async with trio.open_nursery() as nursery:

            async def commit() -> None:
                async with store.transaction(wait_s=60) as tx:
                    tx[ship, "health.hp"] += 1
                assert tx.version is not None
                assert store.durable_version >= tx.version

            for _ in range(8):
                nursery.start_soon(commit)
        assert store.view()[ship, "health.hp"] == 15
    with Store.open(tmp_path) as store:
        assert store.view()[ship, "health.hp"] == 15


async def test_a_relaxed_transaction_is_waited_for_until_it_is_durable(schema: Schema, tmp_path: Path) -> None:
    async with Store(schema, data=tmp_path, durability="memory") as store:
        async with store.transaction() as tx:
            tx.spawn()
        assert await tx.durable() == 1
        assert store.durable_version == 1


def test_settings_of_a_disk_need_one(schema: Schema) -> None:
    for options in ({"read_only": True}, {"archive": True}, {"create": False}):
        with pytest.raises(ArgumentError, match="disk"):
            Store(schema, **options)  # type: ignore[arg-type]
