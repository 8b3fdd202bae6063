"""Joining a big world over real TCP: how long it takes beside a bare copy of its bytes, and what the others notice.

Node, a client that is there all the time, those who join one after the other, and the bare copy are processes of their
own. Joins and bare copies are measured by turns. Others' lag is that of the client that is there, from just before a
tick's first transaction until it has applied the tick's version: in windows with joins, and in as many without.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Final

from ecsnet.bench.figures import Figure
from ecsnet.bench.goals import GOALS
from ecsnet.bench.join_process import ROW_BYTES
from ecsnet.bench.timing import quantile
from ecsnet.bench.workers import Worker

__all__ = ["SIZES_DEFAULT", "Plan", "run"]

SIZES_DEFAULT: Final = (100_000,)
_MODULE: Final = "ecsnet.bench.join_process"
_MS: Final = 1e3
_MS_PER_NS: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Plan:
    """How it is run: so many windows with joins and as many without, each of `window_s`."""

    hz: int = 60
    rounds: int = 5
    window_s: float = 2.0


def run(
    sizes: Sequence[int] = SIZES_DEFAULT,
    plan: Plan | None = None,
    *,
    progress: Callable[[str], None] = lambda text: None,
) -> Iterator[Figure]:
    """The figures, by number of rows of 32 bytes.

    Raises:
        WorkerError: a process failed.
    """
    plan = plan or Plan()
    for n in sizes:
        yield from _figures(n, plan, progress)


def _figures(n: int, plan: Plan, progress: Callable[[str], None]) -> Iterator[Figure]:
    began: dict[int, int] = {}
    joins: list[float] = []
    copies: list[float] = []
    sizes: list[float] = []
    alone: list[tuple[int, int]] = []
    beside: list[tuple[int, int]] = []
    with ExitStack() as stack:
        node = stack.enter_context(Worker(_MODULE, "node", n, plan.hz))
        url = node.answer()["url"]
        probe = stack.enter_context(Worker(_MODULE, "probe", url, wait_s=90.0))
        probe.answer()
        joiner = stack.enter_context(Worker(_MODULE, "joiner", url, wait_s=90.0))
        joiner.answer()
        bare = stack.enter_context(Worker(_MODULE, "bare", n * ROW_BYTES))
        bare.answer()

        def ask(worker: Worker) -> float:
            worker.ask()
            answer = worker.answer()
            if worker is joiner:
                sizes.append(answer["bytes"] / answer["rows"])
            return float(answer["seconds"])

        def mark(into: list[tuple[int, int]] | None) -> None:
            for one in (node, probe):
                one.ask()
            began.update(node.answer()["began"])
            applied = probe.answer()["applied"]
            if into is not None:
                into.extend(applied)

        ask(joiner)
        ask(bare)
        mark(None)
        for number in range(plan.rounds):
            progress(f"n = {n:,}, round {number + 1} of {plan.rounds}")
            time.sleep(plan.window_s)
            mark(alone)
            ends = time.monotonic() + plan.window_s
            while time.monotonic() < ends:
                joins.append(ask(joiner))
            mark(beside)
            copies += [ask(bare) for _ in range(5)]
            mark(None)
    goals = GOALS["join"]
    copy = f"bare copy of {ROW_BYTES} B a row"
    yield Figure("join", "join", n, median(joins) * _MS, "ms", "lower", copy, median(copies) * _MS, goals["join"])
    yield Figure("join", "bytes_per_row", n, median(sizes), "B", "lower", copy, ROW_BYTES)
    for metric, share in (("others_lag_p50", 0.5), ("others_lag_p99", 0.99)):
        value, peer = (
            quantile([at - began[version] for version, at in some if version in began], share) * _MS_PER_NS
            for some in (beside, alone)
        )
        yield Figure("join", metric, n, value, "ms", "lower", "nobody joins", peer, goals.get(metric))
