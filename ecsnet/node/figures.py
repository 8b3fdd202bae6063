"""What a node can say about itself in numbers, gathered at one moment between two ticks.

Invariants:
- nothing is counted for the sake of this: the tick keeps a histogram of its own times, and all else is looked up when
  somebody asks;
- what is gathered is plain values: whoever makes text of them does it on another thread.
"""

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ecsnet._kernel.disk import DiskStatistics
from ecsnet._kernel.records import Statistics
from ecsnet.errors import EcsnetError
from ecsnet.limits import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from ecsnet.node.server import AuthoritativeNode, NodeStatistics

__all__ = ["ClientFigures", "Figures", "Histogram", "gather"]

TICK_BUCKETS_NS: Final = tuple(
    round(ms * NS_PER_MS) for ms in (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 33, 66, 125, 250, 500, 1000)
)
LAG_BUCKETS_NS: Final = tuple(round(ms * NS_PER_MS) for ms in (5, 10, 20, 40, 60, 100, 150, 250, 500, 1000, 2000, 5000))
BEHIND_BUCKETS: Final = (0, 1, 2, 4, 8, 16, 32, 64, 256, 1024)


class Histogram:
    """How often something was how big: whole numbers, in buckets by their upper bounds."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: tuple[int, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0
        """The sum of all of them."""

    def add(self, value: int) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def cumulated(self) -> list[tuple[float, int]]:
        """(upper bound, how many were at most that), the last with infinity."""
        found: list[tuple[float, int]] = []
        count = 0
        for bound, more in zip((*self._bounds, float("inf")), self._counts, strict=True):
            count += more
            found.append((bound, count))
        return found


@dataclass(frozen=True, slots=True)
class ClientFigures:
    """One of the clients that are furthest behind."""

    session: int
    lag_s: float
    versions_behind: int
    unacked_bytes: int
    queued_bytes: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one moment."""

    node: "NodeStatistics"
    store: Statistics
    disk: DiskStatistics | None
    tick_ns: list[tuple[float, int]]
    """How long ticks took, from the drain to the end of the fan-out: see `Histogram.cumulated`."""
    tick_total_ns: int
    lag_ns: list[tuple[float, int]]
    """Of the clients that are here now: from handing over the newest version that each has acked to its ack."""
    lag_total_ns: int
    behind: list[tuple[float, int]]
    """Likewise: how many versions each has not acked."""
    behind_total: int
    slowest: list[ClientFigures]
    unacked_bytes: int
    queued_bytes: int
    commands_waiting: int
    event_bytes: int
    delta_bytes: dict[str, int]
    """Bytes of each table in the newest ordinary delta."""


def gather(node: "AuthoritativeNode", tick_times: Histogram, *, slowest: int) -> Figures:
    """All of it; on Trio's thread. `slowest` is how many clients are named one by one."""
    authority, store = node.authority, node.store
    lag, behind = Histogram(LAG_BUCKETS_NS), Histogram(BEHIND_BUCKETS)
    unacked = queued = waiting = 0
    clients: list[ClientFigures] = []
    version = authority.version
    for link in authority.links:
        if not link.joined:
            continue
        link_queued = sum(map(len, link.server.frames))
        link_behind = max(0, version - link.acked)
        lag_ns = link.window.lag_ns or 0
        lag.add(lag_ns)
        behind.add(link_behind)
        unacked += link.window.unacked_bytes
        queued += link_queued
        waiting += len(link.server.ledger.waiting)
        clients.append(
            ClientFigures(link.session, lag_ns / NS_PER_S, link_behind, link.window.unacked_bytes, link_queued)
        )
    clients.sort(key=lambda one: (one.versions_behind, one.lag_s), reverse=True)
    return Figures(
        node=node.statistics(),
        store=store.statistics(),
        disk=None if store.disk is None else store.disk.disk.statistics(),
        tick_ns=tick_times.cumulated(),
        tick_total_ns=tick_times.total,
        lag_ns=lag.cumulated(),
        lag_total_ns=lag.total,
        behind=behind.cumulated(),
        behind_total=behind.total,
        slowest=clients[:slowest],
        unacked_bytes=unacked,
        queued_bytes=queued,
        commands_waiting=waiting,
        event_bytes=authority.event_log_bytes,
        delta_bytes=_delta_bytes(node),
    )


def _delta_bytes(node: "AuthoritativeNode") -> dict[str, int]:
    block = node.authority.newest_block
    if block is None:
        return {}
    try:
        tables = node.store.kernel.block_tables(block)
    except EcsnetError:
        return {}  # a figure less
    names = {table.id: table.name for table in node.world.schema.tables}
    return {names[number]: length for number, length in tables if number in names}
