"""A snapshot of `n` rows of 32 bytes, while nothing else happens and while commits go on.

- `snapshot_written`: milliseconds until it is written and synced.
- `snapshot_verified`: until it was read back as well, renamed and named by a manifest: what `store.snapshot()` takes.
- `commit_p99_meanwhile`: the slowest but one in a hundred of strict one-row commits of another thread while snapshots
  are taken one after the other, beside the same commits without.

The limit is writing and syncing as many bytes as the snapshot has, in the same run.
"""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

import numpy as np

from ecsnet.bench.disk import RawDisk, bench_folder
from ecsnet.bench.figures import Figure
from ecsnet.bench.goals import GOALS
from ecsnet.bench.peers_disk import LmdbDisk, SqliteDisk
from ecsnet.bench.store import BODY, bench_schema
from ecsnet.bench.timing import quantile
from ecsnet.store import Store

__all__ = ["METRICS", "N_DEFAULT", "RUNS_DEFAULT", "run"]

N_DEFAULT: Final = (1_000_000,)
RUNS_DEFAULT: Final = 5
METRICS: Final = ("snapshot_written", "snapshot_verified", "commit_p99_meanwhile")
_LIMIT: Final = "write + fdatasync"


def _commits(store: Store, keys: Sequence[int], values: Iterator[int], until: Callable[[int], bool]) -> list[float]:
    """Seconds of each. No value comes twice: what changes nothing makes no version."""
    taken: list[float] = []
    while not until(len(taken)):
        key, value = keys[len(taken) * 7919 % len(keys)], next(values)
        started = perf_counter()
        with store.transaction() as tx:
            tx.update(key, "body", hp=value)
        taken.append(perf_counter() - started)
    return taken


def _snapshot(store: Store) -> tuple[float, float, int]:
    """Seconds until it was written and synced, and until it was read back too; and its bytes."""
    read_since: list[float] = []

    def progress(done: int, total: int) -> None:
        # The second half is reading it back.
        if done > total // 2:
            read_since.append(perf_counter())

    started = perf_counter()
    made = store.snapshot(progress)
    ended = perf_counter()
    return (read_since[0] if read_since else ended) - started, ended - started, made.size_bytes


@contextmanager
def _snapshots_of(store: Store) -> Iterator[threading.Event]:
    """Three of them on a thread of its own; set when they are done."""
    ended = threading.Event()

    def take() -> None:
        try:
            for _ in range(3):
                store.snapshot()
        finally:
            ended.set()

    thread = threading.Thread(target=take, name="bench snapshots")
    thread.start()
    try:
        yield ended
    finally:
        thread.join()


def _commits_beside_snapshots(store: Store, keys: Sequence[int], values: Iterator[int]) -> list[float]:
    with _snapshots_of(store) as ended:
        return _commits(store, keys, values, lambda _: ended.is_set())


def run(
    sizes: Sequence[int] = N_DEFAULT,
    where: Path | None = None,
    *,
    runs: int = RUNS_DEFAULT,
    commits: int = 1000,
    note: Callable[[str], None] = lambda text: None,
    progress: Callable[[str], None] = lambda text: None,
) -> Iterator[Figure]:
    """The figures, each as soon as it is measured. Raises ArgumentError: a folder that is none, or is in memory."""
    goals = GOALS["snapshot"]
    if not LmdbDisk.installed():
        note("lmdb is not installed: no figures of it (pip install lmdb)")
    for n in sizes:
        progress(f"snapshots of {n:,}")
        with bench_folder(where) as folder:
            columns = {name: np.arange(n, dtype=np.uint32 if "hp" in name else np.float32) for name in BODY}
            store = Store(bench_schema(), data=folder / "ecsnet", durability="strict")
            with store.transaction() as tx:
                keys = tx.spawn_many(body=columns).tolist()
            values = itertools.count(n)
            raw, sqlite = RawDisk(folder), SqliteDisk(folder, n)
            lmdb = LmdbDisk(folder, n) if LmdbDisk.installed() else None
            times: dict[str, list[float]] = {name: [] for name in ("written", "verified", _LIMIT, "SQLite", "LMDB")}
            for number in range(runs):
                with store.transaction() as tx:
                    tx.update(keys[number], "body", hp=next(values))
                written_s, verified_s, size_bytes = _snapshot(store)
                times["written"].append(written_s)
                times["verified"].append(verified_s)
                times[_LIMIT].append(raw.write(np.random.default_rng(number).bytes(size_bytes)))
                times["SQLite"].append(sqlite.snapshot())
                if lmdb is not None:
                    times["LMDB"].append(lmdb.snapshot())
            milliseconds = {name: median(samples) * 1e3 for name, samples in times.items() if samples}
            for metric in ("snapshot_written", "snapshot_verified"):
                value = milliseconds[metric.removeprefix("snapshot_")]
                for peer in (_LIMIT, "SQLite", "LMDB"):
                    if peer in milliseconds:
                        yield Figure(
                            "snapshot", metric, n, value, "ms", "lower", peer, milliseconds[peer], goals[metric]
                        )

            progress(f"commits beside snapshots of {n:,}")
            alone, meanwhile = [], []
            for _ in range(runs):
                alone.append(quantile(_commits(store, keys, values, lambda done: done >= commits), 0.99))
                meanwhile.append(quantile(_commits_beside_snapshots(store, keys, values), 0.99))
            value, without = median(meanwhile) * 1e6, median(alone) * 1e6
            metric = "commit_p99_meanwhile"
            yield Figure("snapshot", metric, n, value, "us", "lower", "without a snapshot", without, goals[metric])
            store.close()
            raw.close()
            sqlite.close()
            if lmdb is not None:
                lmdb.close()
