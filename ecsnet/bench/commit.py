"""Commits that survive: how long one takes, and how many a second, beside SQLite, LMDB and the bare sync.

- `strict_commit_p50`, `strict_commit_p99`: one caller, one row, a transaction that returns when it is on the disk.
- `paranoid_commit_p50`, `relaxed_commit_p50`: the same in the other modes; relaxed survives the death of the process.
- `strict_pipelined`: one-row transactions a second that have nothing to do with each other, handed in as arrays of
  `BATCH` by producers that each keep two such batches under way and await a ticket for each. Each transaction is
  kept or refused by itself; how many share a sync is the store's affair. SQLite and LMDB have one writer and one sync
  for each, so theirs is what one caller gets.
- `strict_rows`: rows a second in transactions of 1000 rows, one caller.

Everything is wall time: what is measured is waiting.
"""

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

import numpy as np

from ecsnet.bench.disk import RawDisk, bench_folder
from ecsnet.bench.figures import Figure
from ecsnet.bench.goals import GOALS
from ecsnet.bench.peers_disk import LmdbDisk, SqliteDisk
from ecsnet.bench.store import bench_schema
from ecsnet.bench.timing import quantile, quiet, together
from ecsnet.store import Store
from ecsnet.store.tickets import EachTicket

__all__ = ["METRICS", "N_DEFAULT", "RUNS_DEFAULT", "run"]

N_DEFAULT: Final = 10_000
RUNS_DEFAULT: Final = 5
BATCH: Final = 1000
_PRODUCERS: Final = 2
_ROWS: Final = 1000

METRICS: Final = (
    "strict_commit_p50",
    "strict_commit_p99",
    "paranoid_commit_p50",
    "relaxed_commit_p50",
    "strict_pipelined",
    "strict_rows",
)


class _EcsnetDisk:
    def __init__(self, folder: Path, n: int) -> None:
        self.store = Store(bench_schema(), data=folder / "ecsnet", durability="relaxed")
        with self.store.transaction() as tx:
            self.keys = tx.spawn_many(n, body={})
        self._list: list[int] = self.keys.tolist()
        self._value = 100

    def close(self) -> None:
        self.store.close()

    def commit(self, number: int, durability: str) -> float:
        self._value += 1
        key, value = self._list[number], self._value
        started = perf_counter()
        with self.store.transaction(durability=durability) as tx:
            tx.update(key, "body", hp=value)
        return perf_counter() - started

    def commit_rows(self, first: int) -> float:
        self._value += 1
        some = self.keys[first : first + _ROWS]
        started = perf_counter()
        with self.store.transaction(durability="strict") as tx:
            tx.update_many(some, "body", hp=self._value)
        return perf_counter() - started

    def pipelined(self, batches: int) -> float:
        """Transactions a second of all producers together."""
        values = np.arange(BATCH, dtype=np.uint32)

        def produce(number: int) -> None:
            random = np.random.default_rng(number)
            under_way: deque[EachTicket] = deque()
            for batch in range(batches):
                some = random.choice(self.keys, BATCH)
                queued = self.store.queue_each(durability="strict").update(some, "body", hp=values + batch)
                under_way.append(queued.commit())
                if len(under_way) > 1:
                    under_way.popleft().wait()
            for ticket in under_way:
                ticket.wait()

        return batches * BATCH * _PRODUCERS / together(_PRODUCERS, produce)


def run(
    where: Path | None = None,
    *,
    n: int = N_DEFAULT,
    runs: int = RUNS_DEFAULT,
    commits: int = 100,
    note: Callable[[str], None] = lambda text: None,
    progress: Callable[[str], None] = lambda text: None,
) -> Iterator[Figure]:
    """The figures, each as soon as it is measured.

    Args:
        where: a folder on the disk to be measured; the working directory by default.
        n: rows that there are.
        runs: rounds, in each of which all take a turn; quantiles are over all of them.
        commits: of each side in a round.

    Raises:
        ArgumentError: a folder that is none, or is in memory.
    """
    with bench_folder(where) as folder:
        ours, raw, sqlite = _EcsnetDisk(folder, n), RawDisk(folder), SqliteDisk(folder, n)
        lmdb = LmdbDisk(folder, n) if LmdbDisk.installed() else None
        if lmdb is None:
            note("lmdb is not installed: no figures of it (pip install lmdb)")
        sides: dict[str, Callable[[int], float]] = {
            "strict": lambda i: ours.commit(i, "strict"),
            "fdatasync": lambda _: raw.commit(),
            "SQLite": sqlite.commit,
            "paranoid": lambda i: ours.commit(i, "paranoid"),
            "relaxed": lambda i: ours.commit(i, "relaxed"),
        }
        if lmdb is not None:
            sides["LMDB"] = lmdb.commit
        try:
            progress("one commit after the other")
            taken: dict[str, list[float]] = {name: [] for name in sides}
            with quiet():
                for number in range(runs + 1):
                    for name, commit in sides.items():
                        samples = [commit((number * commits + i) % n) for i in range(commits)]
                        if number:
                            taken[name] += samples
            peers = ["fdatasync", "SQLite", *(["LMDB"] if lmdb is not None else [])]
            goals = GOALS["commit"]
            for metric, side, share in (
                ("strict_commit_p50", "strict", 0.5),
                ("strict_commit_p99", "strict", 0.99),
                ("paranoid_commit_p50", "paranoid", 0.5),
                ("relaxed_commit_p50", "relaxed", 0.5),
            ):
                value = quantile(taken[side], share) * 1e6
                for peer in peers:
                    theirs = quantile(taken[peer], share) * 1e6
                    yield Figure("commit", metric, n, value, "us", "lower", peer, theirs, goals.get(metric))
            progress("pipelined producers")
            ours.pipelined(2)
            value = median(ours.pipelined(max(2, commits // 2)) for _ in range(runs))
            for peer in peers[1:]:
                theirs = 1 / median(taken[peer])
                yield Figure(
                    "commit", "strict_pipelined", n, value, "1/s", "higher", peer, theirs, goals["strict_pipelined"]
                )
            progress("rows in transactions of 1000")
            rows = min(_ROWS, n)
            times: dict[str, list[float]] = {"ecsnet": [], "SQLite": [], "LMDB": []}
            for number in range(runs * 4 + 1):
                first = number * rows % max(1, n - rows + 1)
                numbers = range(first, first + rows)
                times["ecsnet"].append(ours.commit_rows(first))
                times["SQLite"].append(sqlite.commit_rows(numbers))
                if lmdb is not None:
                    times["LMDB"].append(lmdb.commit_rows(numbers))
            rates = {name: rows / median(samples[1:]) for name, samples in times.items() if samples}
            for peer in peers[1:]:
                yield Figure(
                    "commit",
                    "strict_rows",
                    n,
                    rates["ecsnet"],
                    "1/s",
                    "higher",
                    peer,
                    rates[peer],
                    goals["strict_rows"],
                )
        finally:
            ours.close()
            raw.close()
            sqlite.close()
            if lmdb is not None:
                lmdb.close()
