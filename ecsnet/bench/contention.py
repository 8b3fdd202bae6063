"""Many threads on one store: producers that hand in transactions, readers that take views, and a writer in between.

Beside SQLite in memory with one lock around its connection, which is how Python's own module is shared among threads,
and (for the hand-over alone) Python's `queue.SimpleQueue`. With one interpreter lock threads take turns, so a figure
per operation is the wall time of the whole divided by the operations of all threads: what more threads cost is
contention.

- `queued_row`: a transaction of one update, handed in with `store.queue()`; each producer waits for its last ticket.
- `view_beside_writer`: a view and one column of it, while another thread commits changes of 1000 rows without pause.
- `view_p99_beside_writer`: the slowest but one in a hundred of these.
"""

import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from time import perf_counter_ns
from typing import Final

import numpy as np

from ecsnet.bench.figures import Figure
from ecsnet.bench.store import bench_schema
from ecsnet.bench.timing import quantile, together
from ecsnet.store import Store

__all__ = ["METRICS", "N_DEFAULT", "RUNS_DEFAULT", "run"]

N_DEFAULT: Final = (1, 2, 4, 8)
"""Threads."""
RUNS_DEFAULT: Final = 5
_ROWS: Final = 10_000
_OPERATIONS: Final = 8_000
_WRITTEN_ROWS: Final = 1_000

METRICS: Final = ("queued_row", "view_beside_writer", "view_p99_beside_writer")
"""Microseconds per operation, lower is better."""


class _EcsnetSide:
    def __init__(self, operations: int) -> None:
        self._operations = operations
        self.store = Store(bench_schema())
        with self.store.transaction() as tx:
            self.keys = tx.spawn_many(_ROWS, health={"hp": 100, "max_hp": 100})
        self._list: list[int] = self.keys.tolist()
        self._value = 100

    def queued_row(self, threads: int) -> float:
        each = max(1, self._operations // threads)
        self._value += 1

        def produce(number: int) -> None:
            store, keys, value = self.store, self._list, self._value
            ticket = None
            for i in range(each):
                key = keys[(number * each + i) % len(keys)]
                ticket = store.queue().update(key, "health", hp=value).commit(wait=True)
            assert ticket is not None
            ticket.wait(30)

        return together(threads, produce) / (each * threads)

    def views(self, threads: int) -> tuple[float, float]:
        """Mean and p99, in seconds."""
        each = max(1, self._operations // threads)
        taken: list[list[int]] = [[] for _ in range(threads)]
        ended = threading.Event()

        def write() -> None:
            value = 0
            while not ended.is_set():
                value += 1
                with self.store.transaction() as tx:
                    tx.update_many(self.keys[:_WRITTEN_ROWS], "health", hp=value % 1000)

        def read(number: int) -> None:
            mine, store = taken[number], self.store
            for _ in range(each):
                started = perf_counter_ns()
                with store.view() as view:
                    view["health.hp"]
                mine.append(perf_counter_ns() - started)

        writer = threading.Thread(target=write, name="bench writer")
        writer.start()
        try:
            seconds = together(threads, read) / (each * threads)
        finally:
            ended.set()
            writer.join()
        return seconds, quantile([one for mine in taken for one in mine], 0.99) / 1e9


class _SqliteSide:
    name = "SQLite, one lock"

    def __init__(self, operations: int) -> None:
        self._operations = operations
        self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._connection.execute("create table health(id integer primary key, hp integer, max_hp integer)")
        self._connection.executemany("insert into health values (?, 100, 100)", ((i,) for i in range(_ROWS)))
        self._lock = threading.Lock()
        self._value = 100

    def queued_row(self, threads: int) -> float:
        each = max(1, self._operations // threads)
        self._value += 1

        def produce(number: int) -> None:
            for i in range(each):
                with self._lock:
                    self._connection.execute(
                        "update health set hp = ? where id = ?", (self._value, (number * each + i) % _ROWS)
                    )

        return together(threads, produce) / (each * threads)

    def close(self) -> None:
        self._connection.close()


def _simple_queue(threads: int, operations: int) -> float:
    """Producers put a small tuple, one consumer takes them all: the hand-over and nothing else."""
    each = max(1, operations // threads)
    waiting: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()

    def consume() -> None:
        for _ in range(each * threads):
            waiting.get()

    consumer = threading.Thread(target=consume, name="bench consumer")
    consumer.start()

    def produce(number: int) -> None:
        for i in range(each):
            waiting.put((number, i))

    seconds = together(threads, produce)
    consumer.join()
    return seconds / (each * threads)


def run(
    threads: Sequence[int] = N_DEFAULT,
    *,
    runs: int = RUNS_DEFAULT,
    operations: int = _OPERATIONS,
    progress: Callable[[str], None] = lambda text: None,
) -> Iterator[Figure]:
    """The figures, each as soon as it is measured.

    Args:
        threads: numbers of producers, and of readers.
        runs: of which the median is taken.
        operations: of all threads together, in one run.
        progress: called with the name of what is measured next.
    """
    for n in threads:
        ours, sqlite = _EcsnetSide(operations), _SqliteSide(operations)
        progress(f"queued_row, {n} threads")
        taken = np.array(
            [(ours.queued_row(n), sqlite.queued_row(n), _simple_queue(n, operations)) for _ in range(runs + 1)]
        )[1:]
        value, locked, handed = (float(one) * 1e6 for one in np.median(taken, axis=0))
        yield Figure("contention", "queued_row", n, value, "us", "lower", _SqliteSide.name, locked)
        yield Figure("contention", "queued_row", n, value, "us", "lower", "queue.SimpleQueue", handed)
        progress(f"view_beside_writer, {n} threads")
        views = [ours.views(n) for _ in range(runs + 1)][1:]
        yield Figure("contention", "view_beside_writer", n, median(mean for mean, _ in views) * 1e6, "us", "lower")
        yield Figure("contention", "view_p99_beside_writer", n, median(p99 for _, p99 in views) * 1e6, "us", "lower")
        ours.store.close()
        sqlite.close()
