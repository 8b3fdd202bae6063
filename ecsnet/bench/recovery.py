"""Opening a store whose process was killed: a snapshot of `n` rows of 32 bytes, and 64 MiB of log after it.

`recovery`: seconds from `Store(data=...)` to a store that was written to.

SQLite has the same rows, and a write-ahead log of as many bytes, of a process that was killed too; its time is until a
row was read and one was written.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

import numpy as np

from ecsnet.bench.disk import bench_folder
from ecsnet.bench.figures import Figure
from ecsnet.bench.goals import GOALS
from ecsnet.bench.store import BODY, bench_schema
from ecsnet.store import Store

__all__ = ["N_DEFAULT", "RUNS_DEFAULT", "WAL_BYTES", "prepare", "run"]

N_DEFAULT: Final = (1_000_000,)
RUNS_DEFAULT: Final = 3
WAL_BYTES: Final = 64 << 20
_ROWS: Final = 1000


def prepare(what: str, folder: Path, n: int, wal_bytes: int) -> None:
    """Write it, and die without closing anything. For a process of its own."""
    if what == "ecsnet":
        store = Store(bench_schema(), data=folder, durability="relaxed", snapshot_every_bytes=None)
        columns = {name: np.arange(n, dtype=np.uint32 if "hp" in name else np.float32) for name in BODY}
        with store.transaction() as tx:
            keys = tx.spawn_many(body=columns)
        store.snapshot()
        begun, number = _log_bytes(store), 0
        while _log_bytes(store) - begun < wal_bytes:
            first = number * _ROWS % max(1, n - _ROWS + 1)
            some = keys[first : first + _ROWS]
            with store.transaction() as tx:
                tx.update_many(some, "body", px=np.full(len(some), number), py=np.full(len(some), 1.5), hp=number)
            number += 1
        store.sync()
    else:
        connection = sqlite3.connect(folder, isolation_level=None)
        connection.execute("pragma journal_mode = wal")
        names = "px real, py real, pz real, vx real, vy real, vz real, hp integer, max_hp integer"
        connection.execute(f"create table body(id integer primary key, {names})")
        connection.execute("begin")
        rows = ((number, *(1.0,) * 6, 100, 100) for number in range(n))
        connection.executemany("insert into body values (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        connection.execute("commit")
        connection.execute("pragma wal_checkpoint(truncate)")
        connection.execute("pragma wal_autocheckpoint = 0")
        wal, number = folder.with_name(folder.name + "-wal"), 0
        while not wal.exists() or wal.stat().st_size < wal_bytes:
            first = number * _ROWS % max(1, n - _ROWS + 1)
            connection.execute("begin")
            connection.executemany(
                "update body set px = ?, py = 1.5, hp = ? where id = ?",
                ((number, number, row) for row in range(first, min(n, first + _ROWS))),
            )
            connection.execute("commit")
            number += 1
    os._exit(0)


def _log_bytes(store: Store) -> int:
    counts = store.disk_statistics()
    assert counts is not None, "it is on a disk"
    return counts.since_snapshot_bytes


def _prepared(what: str, folder: Path, n: int, wal_bytes: int) -> None:
    script = (
        "import sys; from pathlib import Path; from ecsnet.bench.recovery import prepare; "
        "prepare(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))"
    )
    subprocess.run([sys.executable, "-c", script, what, str(folder), str(n), str(wal_bytes)], check=True)


def _read(folder: Path) -> float:
    started = perf_counter()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            path.read_bytes()
    return perf_counter() - started


def _open_sqlite(path: Path, n: int) -> float:
    started = perf_counter()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("select hp from body where id = ?", (n - 1,)).fetchone()
    connection.execute("update body set hp = 1 where id = 0")
    seconds = perf_counter() - started
    connection.close()
    return seconds


def run(
    sizes: Sequence[int] = N_DEFAULT,
    where: Path | None = None,
    *,
    runs: int = RUNS_DEFAULT,
    wal_bytes: int = WAL_BYTES,
    progress: Callable[[str], None] = lambda text: None,
) -> Iterator[Figure]:
    """The figures, each as soon as it is measured. Raises ArgumentError: a folder that is none, or is in memory."""
    for n in sizes:
        progress(f"a world of {n:,} rows, killed")
        with bench_folder(where) as folder:
            _prepared("ecsnet", folder / "ecsnet", n, wal_bytes)
            _prepared("SQLite", folder / "sqlite.db", n, wal_bytes)
            times: dict[str, list[float]] = {"ecsnet": [], "reading": [], "SQLite": []}
            for number in range(runs):
                copy = folder / f"copy-{number}"
                shutil.copytree(folder / "ecsnet", copy / "ecsnet")
                for path in folder.glob("sqlite.db*"):
                    shutil.copy(path, copy / path.name)
                os.sync()
                progress(f"opening {n:,} rows")
                times["reading"].append(_read(copy / "ecsnet"))
                started = perf_counter()
                store = Store(bench_schema(), data=copy / "ecsnet", durability="relaxed")
                with store.transaction() as tx:
                    tx.spawn(body={})
                times["ecsnet"].append(perf_counter() - started)
                store.close()
                times["SQLite"].append(_open_sqlite(copy / "sqlite.db", n))
                shutil.rmtree(copy)
        value = median(times["ecsnet"])
        for peer in ("SQLite", "reading"):
            named = "reading the files" if peer == "reading" else peer
            goal = GOALS["recovery"]["recovery"]
            yield Figure("recovery", "recovery", n, value, "s", "lower", named, median(times[peer]), goal)
