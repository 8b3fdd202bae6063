"""The store from Python, beside numpy (columns without a database: the limit), esper (objects in dictionaries), SQLite
in memory and LMDB without syncing.

What the sides hold: `n` entities with position (3 × f32), velocity (3 × f32) and health (2 × u32), 32 bytes of data an
entity. ecsnet's figures contain their share of a commit that readers see; a point write's share is that of a
transaction of `ROWS_PER_TRANSACTION` rows.

Invariant: each work leaves the side as it found it, so that runs are alike, but for the order in which the indices of
dead entities are handed out again. So the bulk works come first, as they do in a game that loads its world.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from time import thread_time
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecsnet.bench.figures import Figure
from ecsnet.bench.goals import GOALS
from ecsnet.bench.peers_in_process import EsperSide, NumpySide
from ecsnet.bench.peers_rows import LmdbSide, SqliteRowSide
from ecsnet.bench.timing import Work, by_turns
from ecsnet.ids import Tick
from ecsnet.schema import Schema, loads
from ecsnet.store import Store

__all__ = ["BODY", "METRICS", "N_DEFAULT", "RUNS_DEFAULT", "bench_schema", "run"]

N_DEFAULT: Final = (10_000, 100_000)
RUNS_DEFAULT: Final = 5
ROWS_PER_TRANSACTION: Final = 1000
POINT_OPERATIONS_MAX: Final = 20_000
"""Point operations in one run: enough for a steady figure, few enough to end soon."""

_ROW_BYTES: Final = 32
_KEY: Final = '{ name = "entity_id", type = "u64", foreign_key = "entities.id" }'


def _component(name: str, fields: Sequence[str], cell: str) -> str:
    cells = "".join(f'  {{ name = "{field}", type = "{cell}", default = 0 }},\n' for field in fields)
    return f'[tables.{name}]\nparent_table = "entities"\nfields = [\n  {_KEY},\n{cells}]\n'


BODY: Final = ("px", "py", "pz", "vx", "vy", "vz", "hp", "max_hp")


def bench_schema() -> Schema:
    """Position, velocity and health of the three-component world, and `body`: all of it as one row of 32 bytes."""
    body = "".join(
        f'  {{ name = "{field}", type = "{"u32" if "hp" in field else "f32"}", default = 0 }},\n' for field in BODY
    )
    return loads(
        '[database]\nname = "bench"\nversion = "1.0.0"\n'
        + _component("position", "xyz", "f32").replace("default = 0", "default = 0.0")
        + _component("velocity", "xyz", "f32").replace("default = 0", "default = 0.0")
        + _component("health", ("hp", "max_hp"), "u32")
        + f'[tables.body]\nparent_table = "entities"\nfields = [\n  {_KEY},\n'
        + body.replace('"f32", default = 0', '"f32", default = 0.0')
        + "]\n"
    )


METRICS: Final = (
    "kernel_spawn_bulk",
    "spawn_bulk",
    "kernel_update_random",
    "bulk_insert",
    "bulk_update",
    "bulk_read",
    "iterate_committed",
    "writer_row",
    "insert_row",
    "update_row",
    "delete_row",
    "update_row_own_transaction",
    "spawn_entity",
    "despawn_entity",
    "reader_cell",
    "read_cell",
    "read_cell_by_row",
    "spawn_bulk_in_gaps",
)
"""Nanoseconds per row, cell or entity, lower is better; and after these `memory`, in bytes for each row of 32, and
`memory_overhead`, in per cent."""


class EcsnetSide:
    """A store with `n` entities, and the works on it by metric."""

    name = "ecsnet"

    def __init__(self, n: int) -> None:
        self.n = n
        self.store = Store(bench_schema())
        ramp = np.arange(n, dtype=np.float32)
        self._vectors = {"x": ramp, "y": ramp + 1, "z": ramp + 2}
        self._health = {"hp": np.full(n, 100, np.uint32), "max_hp": np.full(n, 100, np.uint32)}
        self._body = {name: np.zeros(n, np.uint32 if "hp" in name else np.float32) for name in BODY}
        with self.store.transaction() as tx:
            self.keys = tx.spawn_many(position=self._vectors, velocity=self._vectors, health=self._health)
        order = list(range(n))
        random.Random(7).shuffle(order)
        self._order: NDArray[np.intp] = np.array(order)
        self._shuffled = self.keys[self._order]
        self._rows = order[:POINT_OPERATIONS_MAX]
        self._some: list[int] = self._shuffled[:POINT_OPERATIONS_MAX].tolist()
        self._some_array = self._shuffled[:POINT_OPERATIONS_MAX]
        self._chunks = [
            self._some[i : i + ROWS_PER_TRANSACTION] for i in range(0, len(self._some), ROWS_PER_TRANSACTION)
        ]
        self._values = np.arange(n, dtype=np.uint32)
        self._product = np.empty(n, np.float32)
        self._tick = 0
        self._value = 100
        self.works: dict[str, Work] = {name: getattr(self, name) for name in METRICS}

    def _next_value(self) -> int:
        """Another value in each run: a cell that is written as it was is no change, and costs less."""
        self._value += 1
        return self._value

    def _next_values(self) -> NDArray[np.uint32]:
        self._values += 1
        return self._values

    # --- point writes ------------------------------------------------------------------------------------------------

    def insert_row(self) -> float:
        with self.store.transaction() as tx:
            tx.delete_many(self._some_array, "health")
        started = thread_time()
        for chunk in self._chunks:
            with self.store.transaction() as tx:
                for entity in chunk:
                    tx.insert(entity, health={"hp": 5, "max_hp": 100})
        return (thread_time() - started) / len(self._some)

    def writer_row(self) -> float:
        """Two fields, prepared: what a system that goes entity by entity would use."""
        hp = self._next_value()
        started = thread_time()
        for chunk in self._chunks:
            with self.store.transaction() as tx:
                write = tx.writer("health.hp", "health.max_hp")
                for entity in chunk:
                    write(entity, hp, 100)
        return (thread_time() - started) / len(self._some)

    def update_row(self) -> float:
        hp = self._next_value()
        started = thread_time()
        for chunk in self._chunks:
            with self.store.transaction() as tx:
                for entity in chunk:
                    tx.update(entity, "health", hp=hp)
        return (thread_time() - started) / len(self._some)

    def delete_row(self) -> float:
        started = thread_time()
        for chunk in self._chunks:
            with self.store.transaction() as tx:
                for entity in chunk:
                    tx.delete(entity, "health")
        seconds = thread_time() - started
        with self.store.transaction() as tx:
            tx.insert_many(self._some_array, health={"hp": 100, "max_hp": 100})
        return seconds / len(self._some)

    def update_row_own_transaction(self) -> float:
        store, some = self.store, self._some[: max(1, len(self._some) // 10)]
        hp = self._next_value()
        started = thread_time()
        for entity in some:
            with store.transaction() as tx:
                tx.update(entity, "health", hp=hp)
        return (thread_time() - started) / len(some)

    def spawn_entity(self) -> float:
        made: list[int] = []
        started = thread_time()
        for chunk in self._chunks:
            with self.store.transaction() as tx:
                for _ in chunk:
                    made.append(
                        tx.spawn(
                            position={"x": 1.0, "y": 2.0, "z": 3.0},
                            velocity={"x": 1.0, "y": 2.0, "z": 3.0},
                            health={"hp": 100, "max_hp": 100},
                        )
                    )
        seconds = thread_time() - started
        with self.store.transaction() as tx:
            tx.despawn(np.array(made, np.uint64))
        return seconds / len(made)

    def despawn_entity(self) -> float:
        count = len(self._some)
        with self.store.transaction() as tx:
            made = tx.spawn_many(count, position={}, velocity={}, health={})
        # Random order: the last-made first is the easiest there is for dense tables.
        doomed: list[int] = made[np.random.default_rng(7).permutation(count)].tolist()
        started = thread_time()
        for at in range(0, count, ROWS_PER_TRANSACTION):
            with self.store.transaction() as tx:
                for entity in doomed[at : at + ROWS_PER_TRANSACTION]:
                    tx.despawn(entity)
        return (thread_time() - started) / count

    # --- reads -------------------------------------------------------------------------------------------------------

    def reader_cell(self) -> float:
        with self.store.view() as view:
            read = view.reader("health.hp")
            started = thread_time()
            for entity in self._some:
                read(entity)
            return (thread_time() - started) / len(self._some)

    def read_cell(self) -> float:
        with self.store.view() as view:
            started = thread_time()
            for entity in self._some:
                view[entity, "health.hp"]
            return (thread_time() - started) / len(self._some)

    def read_cell_by_row(self) -> float:
        with self.store.view() as view:
            started = thread_time()
            for row in self._rows:
                view["health.hp"][row]
            return (thread_time() - started) / len(self._rows)

    # --- bulk --------------------------------------------------------------------------------------------------------

    def bulk_insert(self) -> float:
        started = thread_time()
        with self.store.transaction() as tx:
            tx.insert_many(self.keys, body=self._body)
        seconds = thread_time() - started
        with self.store.transaction() as tx:
            tx.delete_many(self.keys, "body")
        return seconds / self.n

    def bulk_update(self) -> float:
        values = self._next_values()
        started = thread_time()
        with self.store.transaction() as tx:
            tx.update_many(self._shuffled, "health", hp=values)
        return (thread_time() - started) / self.n

    def bulk_read(self) -> float:
        started = thread_time()
        with self.store.view() as view:
            view["health.hp"][self._order]
        return (thread_time() - started) / self.n

    def iterate_committed(self) -> float:
        times = max(5, 1_000_000 // self.n)
        product = self._product
        started = thread_time()
        for _ in range(times):
            self._tick += 1
            with self.store.tick(Tick(self._tick)) as tick:
                with tick.transaction("move", dt=1 / 60) as tx:
                    body, speed = tx.query("position", "velocity")
                    dt = np.float32(tx.dt)
                    body.x += np.multiply(speed.x, dt, out=product)
                    body.y += np.multiply(speed.y, dt, out=product)
                    body.z += np.multiply(speed.z, dt, out=product)
                tick.publish()
        return (thread_time() - started) / times / self.n

    def spawn_bulk(self) -> float:
        started = thread_time()
        with self.store.transaction() as tx:
            made = tx.spawn_many(position=self._vectors, velocity=self._vectors, health=self._health)
        seconds = thread_time() - started
        with self.store.transaction() as tx:
            tx.despawn(made)
        return seconds / self.n

    def spawn_bulk_in_gaps(self) -> float:
        """After entities were despawned one by one, here and there: their indices are handed out again."""
        self.despawn_entity()
        return self.spawn_bulk()

    # --- the kernel alone --------------------------------------------------------------------------------------------

    def _kernel_transaction(self, work: Callable[[], None]) -> float:
        kernel = self.store.kernel
        started = thread_time()
        kernel.take_baton()
        kernel.begin()
        work()
        kernel.commit()
        kernel.publish(self._tick)
        kernel.release_baton()
        return thread_time() - started

    def kernel_spawn_bulk(self) -> float:
        kernel, schema = self.store.kernel, self.store.schema
        registry, position, velocity, health = (
            schema.table(name) for name in ("entities", "position", "velocity", "health")
        )
        made: list[NDArray[np.uint64]] = []
        vector = {field.id: self._vectors[field.name] for field in position.fields}
        cells = {field.id: self._health[field.name] for field in health.fields}
        owner = {registry.fields[0].id: np.zeros(1, np.uint64)[0]}

        def spawn() -> None:
            keys = kernel.reserve(registry.id, self.n)
            kernel.insert_many(registry.id, keys, owner)
            kernel.insert_many(position.id, keys, vector)
            kernel.insert_many(velocity.id, keys, vector)
            kernel.insert_many(health.id, keys, cells)
            made.append(keys)

        seconds = self._kernel_transaction(spawn)
        self._kernel_transaction(lambda: kernel.despawn_many(made[0]))
        return seconds / self.n

    def kernel_update_random(self) -> float:
        health = self.store.schema.table("health")
        values = self._next_values()
        cells = {field.id: values for field in health.fields if field.name == "hp"}
        kernel = self.store.kernel
        return self._kernel_transaction(lambda: kernel.update_many(health.id, self._shuffled, cells)) / self.n


def run(
    sizes: Sequence[int] = N_DEFAULT,
    *,
    runs: int = RUNS_DEFAULT,
    note: Callable[[str], None] = lambda text: None,
    progress: Callable[[str], None] = lambda text: None,
) -> Iterator[Figure]:
    """The figures, each as soon as it is measured.

    Args:
        sizes: numbers of entities.
        runs: of which the median is taken.
        note: called with what a reader must know, a peer that is not installed for one.
        progress: called with the name of what is measured next.
    """
    for peer_side, peer_name in ((EsperSide, "esper"), (LmdbSide, "lmdb")):
        if not peer_side.installed():
            note(f"{peer_name} is not installed: no figures beside it (pip install 'ecsnet[bench]')")
    note("cell reads by an optional builtin are not built: no figures")
    goals = GOALS["store"]
    for n in sizes:
        ours = EcsnetSide(n)
        peers: list[Any] = [NumpySide(n)]
        if EsperSide.installed():
            peers.append(EsperSide(n, POINT_OPERATIONS_MAX))
        databases: list[Any] = [SqliteRowSide(n, POINT_OPERATIONS_MAX, ROWS_PER_TRANSACTION)]
        if LmdbSide.installed():
            databases.append(LmdbSide(n, POINT_OPERATIONS_MAX, ROWS_PER_TRANSACTION))
        peers += databases
        for metric in METRICS:
            progress(f"{metric}, n = {n:,}")
            works = {side.name: side.works[metric] for side in (ours, *peers) if metric in side.works}
            taken = by_turns(works, runs)
            value = taken.pop("ecsnet")
            for peer, peer_value in taken.items() or ((None, None),):
                yield Figure("store", metric, n, value, "ns", "lower", peer, peer_value, goals.get(metric))
        ours.store.close()
        for database in databases:
            database.close()
        del ours, peers, databases
        progress(f"memory, n = {n:,}")
        allocated = _allocated(n)
        yield Figure("store", "memory", n, allocated / n, "B", "lower")
        overhead = 100 * (allocated - 3 * _ROW_BYTES * n) / (_ROW_BYTES * n)
        yield Figure("store", "memory_overhead", n, overhead, "%", "lower", goal=goals["memory_overhead"])


def _allocated(n: int) -> int:
    """What the kernel has allocated for `n` entities with a `body` after every cell has changed twice. Three buffers of
    its columns (the writer's, and two for views) are no overhead; the rest is."""
    with Store(bench_schema()) as store:
        empty = store.statistics().bytes_allocated
        with store.transaction() as tx:
            keys = tx.spawn_many(n, body={})
        for value in (1, 2):
            with store.transaction() as tx:
                tx.update_many(keys, "body", **dict.fromkeys(BODY, value))
        return store.statistics().bytes_allocated - empty
