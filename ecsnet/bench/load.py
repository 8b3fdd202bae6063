"""A world of `n` rows of 32 bytes made durable in one transaction, beside LMDB, SQLite and the bare bytes.

`bulk_load`: rows a second, from arrays to the answer that all of it is on the disk.
"""

from collections.abc import Callable, Iterator, Sequence
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
from ecsnet.store import Store

__all__ = ["N_DEFAULT", "RUNS_DEFAULT", "run"]

N_DEFAULT: Final = (100_000, 1_000_000)
RUNS_DEFAULT: Final = 3
_ROW_BYTES: Final = 32


def _load(folder: Path, n: int) -> float:
    columns = {name: np.arange(n, dtype=np.uint32 if "hp" in name else np.float32) for name in BODY}
    store = Store(bench_schema(), data=folder / f"ecsnet-{perf_counter():f}", durability="strict")
    try:
        started = perf_counter()
        with store.transaction() as tx:
            tx.spawn_many(body=columns)
        return perf_counter() - started
    finally:
        store.close()


def run(
    sizes: Sequence[int] = N_DEFAULT,
    where: Path | None = None,
    *,
    runs: int = RUNS_DEFAULT,
    note: Callable[[str], None] = lambda text: None,
    progress: Callable[[str], None] = lambda text: None,
) -> Iterator[Figure]:
    """The figures, each as soon as it is measured. Raises ArgumentError: a folder that is none, or is in memory."""
    goal = GOALS["load"]["bulk_load"]
    if not LmdbDisk.installed():
        note("lmdb is not installed: no figures of it (pip install lmdb)")
    for n in sizes:
        progress(f"bulk_load of {n:,}")
        with bench_folder(where) as folder:
            raw, sqlite = RawDisk(folder), SqliteDisk(folder, n)
            lmdb = LmdbDisk(folder, n) if LmdbDisk.installed() else None
            content = np.random.default_rng(1).bytes(n * _ROW_BYTES)
            times: dict[str, list[float]] = {"ecsnet": [], "write + fdatasync": [], "SQLite": [], "LMDB": []}
            for _ in range(runs):
                times["ecsnet"].append(_load(folder, n))
                times["write + fdatasync"].append(raw.write(content))
                times["SQLite"].append(sqlite.load())
                if lmdb is not None:
                    times["LMDB"].append(lmdb.load())
            raw.close()
            sqlite.close()
            if lmdb is not None:
                lmdb.close()
        rates = {name: n / median(samples) for name, samples in times.items() if samples}
        value = rates.pop("ecsnet")
        for peer, rate in rates.items():
            yield Figure("load", "bulk_load", n, value, "1/s", "higher", peer, rate, goal)
