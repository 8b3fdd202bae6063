"""The store as a whole: opening, closing, tables as handles, what is not built yet, and memory."""

import gc
import random
import threading
from pathlib import Path

import numpy as np
import pytest

from ecsnet.errors import (
    ArgumentError,
    BusyError,
    ClosedError,
    ConstraintError,
    SchemaError,
    UnknownNameError,
)
from ecsnet.schema import Schema, loads
from ecsnet.store import Store, col


def test_a_store_opens_from_a_file(tmp_path: Path, schema: Schema) -> None:
    path = tmp_path / "arena.toml"
    path.write_text(schema.canonical)
    with Store(path) as store, Store(str(path)) as other:
        assert store.schema.fingerprint == other.schema.fingerprint == schema.fingerprint
        assert store.version == 0
    with pytest.raises(SchemaError):
        Store(tmp_path / "missing.toml")


def test_a_closed_store_refuses_everything_and_its_views_live_on(schema: Schema) -> None:
    store = Store(schema)
    with store.transaction() as tx:
        ship = tx.spawn(health={})
    view = store.view()
    waiting = store.transaction()
    store.close()
    store.close()
    assert store.closed
    assert "closed" in repr(store)
    for attempt in (
        lambda: store.view(),
        lambda: store.transaction(),
        lambda: store["health"],
        lambda: store.tick(1),  # type: ignore[arg-type]
        lambda: store.statistics(),
        lambda: waiting.spawn(),
        lambda: store.__enter__(),
    ):
        with pytest.raises(ClosedError):
            attempt()
    assert view[ship, "health.hp"] == 100


def test_a_store_is_not_closed_under_an_open_transaction(schema: Schema) -> None:
    store = Store(schema)
    with store.transaction() as tx:
        tx.spawn()
        with pytest.raises(BusyError):
            store.close()
    store.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_whatever_is_garbage_together_is_finalised_in_any_order(schema: Schema) -> None:
    """The collector calls finalisers of a cycle in no order that we choose: a store may go before its transaction."""

    def make(order: int) -> None:
        store = Store(schema)
        with store.transaction() as tx:
            tx.spawn_many(10, transform={})
        tx = store.transaction()
        (body,) = tx.query("transform")
        parts: list[object] = [store, tx, store.view(), body.x, store.view()["transform.x"], store.kernel]
        random.Random(order).shuffle(parts)
        for part, following in zip(parts, [*parts[1:], parts], strict=True):
            cycle: list[object] = [part, following]
            cycle.append(cycle)
        parts.append(parts)

    for order in range(20):
        make(order)
        gc.collect()


def test_many_stores_live_beside_each_other(schema: Schema) -> None:
    with Store(schema) as one, Store(schema) as other, one.transaction() as tx, other.transaction() as ty:
        assert tx.spawn(health={}) == ty.spawn(health={})


def test_a_table_handle_makes_a_transaction_of_each_call(store: Store) -> None:
    with store.transaction() as tx:
        ship = tx.spawn()
    health = store["health"]
    version = store.version

    assert health.insert(ship, hp=90) == ship
    health.update(ship, hp=80)
    assert store.version == version + 2
    assert health.get(ship) == {"hp": 80, "entity_id": ship}
    assert ship in health
    assert len(health) == health.count() == 1
    with pytest.raises(ConstraintError):
        health.update(ship, hp=1000)
    health.delete(ship)
    assert ship not in health

    items = store["item"]
    sword = items.insert(kind="SWORD", holder=ship)
    assert items.get(sword)["holder"] == ship
    with pytest.raises(ArgumentError, match="keys of its own"):
        items.insert(ship, kind="SWORD")
    with pytest.raises(ArgumentError, match="give the entity first"):
        health.insert(hp=3)
    with pytest.raises(UnknownNameError, match="did you mean 'health'"):
        store["helth"]


def test_a_filter_counts_changes_and_deletes(store: Store) -> None:
    with store.transaction() as tx:
        tx.spawn_many(health={"hp": [10, 20, 30, 40]})
    health = store["health"]
    hurt = health.filter(col("hp") < 35)
    assert hurt.count() == 3
    assert hurt.filter(col("health.hp") > 10).count() == 2
    assert health.filter().count() == 4
    assert hurt.update(hp=50) == 3
    assert hurt.count() == 0
    assert hurt.update(hp=1) == 0
    assert health.filter(col("hp") == 50).delete() == 3
    assert len(health) == 1
    with pytest.raises(UnknownNameError):
        health.filter(col("hpp") < 3)


def test_deleting_settles_references_as_the_schema_declares() -> None:
    declared = loads(
        """
        [database]
        name = "references"
        version = "1.0.0"
        [tables.pet]
        parent_table = "entities"
        fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
                  { name = "of", type = "u64", foreign_key = "entities.id", on_delete = "cascade" }]
        [tables.guard]
        parent_table = "entities"
        fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
                  { name = "of", type = "u64", foreign_key = "entities.id", on_delete = "restrict" }]
        [tables.flag]
        parent_table = "entities"
        fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" }]
        """
    )
    with Store(declared) as store:
        with store.transaction() as tx:
            owner = tx.spawn(flag={})
            pet = tx.spawn(pet={"of": owner})
            guarded = tx.spawn()
            guard = tx.spawn(guard={"of": guarded})
            flags = tx.spawn_many(3, flag={})
            with pytest.raises(ConstraintError, match="required"):
                tx.spawn(pet={})

        store.transaction().despawn(owner).commit()
        with pytest.raises(ConstraintError) as caught:
            store.transaction().despawn(guarded).commit()
        assert (caught.value.table, caught.value.rule) == ("guard", "restrict")
        with store.view() as view:
            assert (pet, "pet") not in view, "cascade removes the row that refers"
            assert guarded in view
            assert len(view["flag"]) == 3, "a component without fields is a flag"

        store.transaction().despawn(guard).despawn(guarded).delete_many(flags[:2], "flag").commit()
        with store.view() as view:
            assert guarded not in view
            assert view.query("flag").entity.tolist() == [int(flags[2])]


def test_readers_on_other_threads_always_see_whole_versions(store: Store) -> None:
    """The writer keeps x, y and hp equal in every row of every version; nobody may ever see them differ."""
    with store.transaction() as tx:
        tx.spawn_many(500, transform={"x": 0.0, "y": 0.0}, health={"hp": 0})
    stop = threading.Event()
    seen: list[int] = []
    wrong: list[object] = []

    def read() -> None:
        last = 0
        try:
            while not stop.is_set():
                with store.view() as view:
                    body, health = view.query("transform", "health")
                    if view.version < last or not ((body.x == body.y).all() and (body.x == health.hp).all()):
                        wrong.append(view.version)
                    last = view.version
            seen.append(last)
        except Exception as error:  # noqa: BLE001  (a thread's error must reach the test)
            wrong.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for count in range(150):
        with store.transaction() as tx:
            body, health = tx.query("transform", "health")
            body.x = body.y = count % 100
            health.hp = count % 100
            if count % 10 == 0:
                tx.despawn(int(body.key[count]))
                tx.spawn(transform={"x": count % 100, "y": count % 100}, health={"hp": count % 100})
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(seen) == 3


def test_a_batch_is_one_transaction(store: Store) -> None:
    with store.transaction() as tx:
        one, other = tx.spawn(health={}), tx.spawn()
    version = store.version
    with store["health"].batch() as batch:
        batch.update(one, hp=70).update(one, hp=60)
        batch.insert(other, hp=5)
    assert store.version == version + 1
    with pytest.raises(ConstraintError), store["health"].batch() as batch:
        batch.delete(one)
        batch.update(other, hp=500)
    assert store["health"].count() == 2
    store["health"].batch().delete(one).commit()
    batch = store["health"].batch().delete(other)
    batch.rollback()
    assert store["health"].count() == 1


def test_a_store_in_memory_keeps_nothing_and_says_so(schema: Schema, store: Store) -> None:
    for durability in ("strict", "relaxed", "paranoid"):
        with pytest.raises(ArgumentError, match=f"{durability}.*needs a disk"):
            Store(schema, durability=durability)
        with pytest.raises(ArgumentError, match=f"{durability}.*needs a disk"):
            store.transaction(durability=durability)
        with pytest.raises(ArgumentError, match=f"{durability}.*needs a disk"):
            store.queue(durability=durability)
    for durability in ("perhaps", ""):
        with pytest.raises(ArgumentError, match="durability"):
            Store(schema, durability=durability)
    with pytest.raises(ArgumentError, match="disk"):
        Store(None)
    for need in (store.snapshot, lambda: store.restore_point("before"), store.work):
        with pytest.raises(ArgumentError, match=r"disk|driven"):
            need()
    with store.transaction(durability="memory") as tx:
        tx.spawn()
    assert store.sync() == store.version
    assert (store.durable_version, store.written_version, store.durability, store.epoch) == (0, 0, "memory", 0)
    assert store.recovery is None
    assert store.disk_statistics() is None
    assert store.promise(store.version).wait() == store.version


def test_100000_spawn_despawn_cycles_leave_memory_flat(schema: Schema) -> None:
    """Places are reused, columns shrink and grow in place, change sets leave the ring (which is full once warm)."""

    def cycles(store: Store, count: int) -> None:
        for _ in range(count // 500):
            with store.transaction() as tx:
                ships = [tx.spawn(transform={"x": 1.0}, health={}) for _ in range(250)]
                more = tx.spawn_many(250, transform={}, velocity={})
            with store.transaction() as tx:
                for ship in ships:
                    tx.despawn(ship)
                tx.despawn(more)

    with Store(schema) as store:
        cycles(store, 80_000)
        gc.collect()
        warm = store.statistics().bytes_allocated
        cycles(store, 100_000)
        gc.collect()
        after = store.statistics().bytes_allocated
        assert after <= warm + 65_536, (warm, after)
        with store.view() as view:
            assert len(view["entities"]) == len(view["transform"]) == 0


def test_a_large_world_is_read_without_a_copy(store: Store) -> None:
    with store.transaction() as tx:
        tx.spawn_many(transform={"x": np.arange(100_000.0)}, velocity={"x": 1.0})
    view = store.view()
    body, speed = view.query("transform", "velocity")
    assert not body.copied
    assert not speed.copied
    assert body.x is view["transform.x"]
