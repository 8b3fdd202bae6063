"""A slow client among others, over real TCP: what the others notice of it, and what the node keeps for it.

All entities move in each tick, and one of the clients reads a fraction of what it is sent. By turns it is there and it
is not, on one node, so that both are measured under the same conditions. It joins for real and stays within what a
client may: the node coalesces for it, and does not throw it out.

Invariant: the windows of the two sides are equally long, equally many, and alternate.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from ecsnet.bench.client_process import SLOW_BYTES_PER_S
from ecsnet.bench.figures import Figure
from ecsnet.bench.goals import GOALS
from ecsnet.bench.timing import quantile
from ecsnet.bench.windows import Window, join, lags_of, take_windows
from ecsnet.bench.workers import Worker

__all__ = ["METRICS", "SlowPlan", "run"]

METRICS: Final = ("others_lag_p50", "others_lag_p99", "node_memory", "slow_versions_per_s")

_NODE: Final = "ecsnet.bench.node_process"
_CLIENTS: Final = "ecsnet.bench.client_process"
_MS_PER_NS: Final = 1e-6
_WITHOUT: Final = "without it"


@dataclass(frozen=True, slots=True)
class SlowPlan:
    """How it is run. `clients` are the others."""

    entities: int = 1000
    hz: int = 60
    clients: int = 63
    rounds: int = 3
    window_s: float = 2.0
    settle_s: float = 1.0


def run(plan: SlowPlan | None = None, *, progress: Callable[[str], None] = lambda text: None) -> Iterator[Figure]:
    """The figures.

    Raises:
        WorkerError: a process failed; also where the node ended the slow client's connection.
    """
    plan = plan or SlowPlan()
    without: list[Window] = []
    beside: list[Window] = []
    memory: list[tuple[int, int]] = []
    slow_deltas = 0
    with ExitStack() as stack:
        node = stack.enter_context(Worker(_NODE, plan.entities, plan.hz, 0.0))
        url = node.answer()["url"]

        def clients(kind: str, count: int) -> Worker:
            return stack.enter_context(Worker(_CLIENTS, kind, url, count, 0.0))

        everybody = [node, *join(clients, plan.clients)]
        time.sleep(plan.settle_s)
        for number in range(plan.rounds):
            progress(f"without a slow client, {number + 1} of {plan.rounds}")
            without += take_windows(everybody, 1, plan.window_s)
            progress(f"with one that reads {SLOW_BYTES_PER_S // 1000} kB/s, {number + 1} of {plan.rounds}")
            with Worker(_CLIENTS, "slow", url, 1, 0.0) as slow:
                slow.answer()
                time.sleep(plan.settle_s)
                beside += take_windows(everybody, 1, plan.window_s)
                slow.ask()
                slow_deltas += slow.answer()["deltas"]
            time.sleep(plan.settle_s)
        memory = [(w.server["rss_bytes"], b.server["rss_bytes"]) for w, b in zip(without, beside, strict=True)]
    goals = GOALS["slow"]
    lags, lags_without = lags_of(beside), lags_of(without)
    for metric, share in (("others_lag_p50", 0.5), ("others_lag_p99", 0.99)):
        value, peer = (quantile(some, share) * _MS_PER_NS for some in (lags, lags_without))
        yield Figure("slow", metric, plan.clients + 1, value, "ms", "lower", _WITHOUT, peer, goals.get(metric))
    grown = max(after - before for before, after in memory) / (1 << 20)
    yield Figure("slow", "node_memory", plan.clients + 1, max(0.0, grown), "MiB", "lower", goal=goals["node_memory"])
    rate = slow_deltas / (plan.rounds * (plan.window_s + plan.settle_s))
    yield Figure("slow", "slow_versions_per_s", plan.clients + 1, rate, "1/s", "higher")
