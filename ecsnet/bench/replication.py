"""Replication over real TCP, beside a JSON broadcast, the bare sends of the same bytes and, where they are installed,
programs that a game would take instead.

All entities move in each tick. The node is a process of its own; one probe, in another, applies everything and takes
the lag; the other clients, in four more at most, join for real and only count. After a warm-up come the windows: rates
are medians over them, lag quantiles are over all of them. The probe joins first, as at the peers.

Lag: CLOCK_MONOTONIC just before the tick's first transaction → the probe has that version visible.

Positions travel twice: as the exact f32, and quantised to 2 mm (`quantised_...`), which is what a game would declare.

Invariant: all sides run one after the other with the same number of clients and entities and the same rate, and
what a side cannot hold is printed with its other figures: fewer ticks than asked, or frames that clients were not sent
because they had not taken those before (`delivered_share`, over all clients).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Final

from ecsnet.bench.broadcast_process import json_name
from ecsnet.bench.figures import Better, Figure
from ecsnet.bench.goals import GOALS, Goal
from ecsnet.bench.peers_network import NETWORK_PEERS, NetworkPeers
from ecsnet.bench.timing import quantile
from ecsnet.bench.windows import Clients, Window, join, lags_of, take_windows
from ecsnet.bench.workers import Worker, WorkerError

__all__ = ["PRECISIONS", "SIZES_DEFAULT", "Plan", "run"]

SIZES_DEFAULT: Final = (1_000, 10_000)
PRECISIONS: Final[Mapping[str, float]] = {"lossless": 0.0, "quantised": 0.002}
"""The step of a position's axes, in metres; 0 is exact."""

_MS_PER_NS: Final = 1e-6
_NODE: Final = "ecsnet.bench.node_process"
_CLIENTS: Final = "ecsnet.bench.client_process"
_BROADCAST: Final = "ecsnet.bench.broadcast_process"


@dataclass(frozen=True, slots=True)
class Plan:
    """How it is run."""

    hz: int = 60
    clients: int = 50
    warm_up_s: float = 1.0
    windows: int = 5
    window_s: float = 1.2

    @property
    def goals_hold(self) -> bool:
        """Whether this is what the goals are for."""
        return self.hz == 60 and self.clients == 50


@dataclass(frozen=True, slots=True)
class Measured:
    """One side's figures for one number of entities."""

    side: str
    ticks_per_s: float
    bytes_per_moved_entity: float
    server_cpu: float
    delivered_share: float
    lag_p50: float | None
    lag_p99: float | None
    frame_bytes: float

    def metrics(self) -> dict[str, float]:
        """Those that were measured, by their names."""
        return {name: value for name, _, _ in _METRICS if (value := getattr(self, name)) is not None}


_METRICS: Final[tuple[tuple[str, str, Better], ...]] = (
    ("bytes_per_moved_entity", "B", "lower"),
    ("server_cpu", "cores", "lower"),
    ("lag_p50", "ms", "lower"),
    ("lag_p99", "ms", "lower"),
    ("ticks_per_s", "1/s", "higher"),
    ("delivered_share", "share", "higher"),
)


def run(
    sizes: Sequence[int] = SIZES_DEFAULT,
    plan: Plan | None = None,
    *,
    precisions: Sequence[str] = tuple(PRECISIONS),
    others: NetworkPeers | None = None,
    note: Callable[[str], None] = lambda text: None,
    progress: Callable[[str], None] = lambda text: None,
) -> Iterator[Figure]:
    """The figures, size after size.

    Args:
        sizes: numbers of entities.
        plan: how it is run; the peers' protocol unless it says otherwise.
        precisions: which of `PRECISIONS`, in that order.
        others: where the peers are that are programs of their own; None measures without them.
        note: called with what a reader must know.
        progress: called with what is measured next.

    Raises:
        WorkerError: one of our processes failed. One of a peer is a note, and no figures beside it.
    """
    plan = plan or Plan()
    if json_name() == "json":
        note("orjson is not installed: the JSON peer uses the standard library's (pip install 'ecsnet[bench]')")
    if others is None:
        note("without --peers there are no figures of Colyseus beside ours")
    for n in sizes:
        beside: dict[str, Mapping[str, float]] = {}

        def beside_us(name: str, measure: Callable[[], Mapping[str, float]], n: int = n) -> Mapping[str, float] | None:
            progress(f"{name}, n = {n:,}")
            try:
                return measure()
            except WorkerError as error:
                note(f"{name}, n = {n}: no figures beside it: {error}")
                return None

        def broadcast(side: str, name: str, frame_bytes: float, n: int = n) -> Callable[[], Mapping[str, float]]:
            return lambda: _broadcast(side, name, n, plan, round(frame_bytes)).metrics()

        def other(kind: str, others: NetworkPeers, n: int = n) -> Callable[[], Mapping[str, float]]:
            return lambda: others.measure(kind, n, plan.hz, plan.clients)

        for number, precision in enumerate(precisions):
            progress(f"ecsnet, {precision}, n = {n:,}")
            ours = _ecsnet(n, plan, PRECISIONS[precision])
            if number == 0:
                peers = [(f"{json_name()} broadcast", broadcast("json", "json", ours.frame_bytes))]
                peers += [(NETWORK_PEERS[kind], other(kind, others)) for kind in NETWORK_PEERS if others is not None]
                measured = {name: beside_us(name, measure) for name, measure in peers}
                beside = {name: metrics for name, metrics in measured.items() if metrics is not None}
            # As many bytes as ours: another number for each precision.
            bare = beside_us("bare sends", broadcast("bare", "bare sends", ours.frame_bytes))
            yield from _figures(n, plan, precision, ours, beside | ({} if bare is None else {"bare sends": bare}))


def _figures(
    n: int, plan: Plan, precision: str, ours: Measured, peers: Mapping[str, Mapping[str, float]]
) -> Iterator[Figure]:
    goals: dict[str, Goal] = {}
    if plan.goals_hold:
        goals = {**GOALS["replication"], **GOALS.get(f"replication {n}", {})}
    for metric, unit, better in _METRICS:
        value = getattr(ours, metric)
        if value is None:
            continue
        told = metric if precision == "lossless" else f"{precision}_{metric}"
        measured: list[tuple[str | None, float | None]]
        measured = [(name, metrics[metric]) for name, metrics in peers.items() if metric in metrics]
        for name, peer_value in measured or [(None, None)]:
            yield Figure("replication", told, n, value, unit, better, name, peer_value, goals.get(told))


def _ecsnet(n: int, plan: Plan, step: float) -> Measured:
    with ExitStack() as stack:
        node = stack.enter_context(Worker(_NODE, n, plan.hz, step))
        url = node.answer()["url"]

        def clients(kind: str, count: int) -> Worker:
            return stack.enter_context(Worker(_CLIENTS, kind, url, count, step))

        windows = _windows(node, clients, plan)
    return _measured("ecsnet", n, plan.clients, windows, lags_of(windows))


def _broadcast(side: str, name: str, n: int, plan: Plan, frame_bytes: int) -> Measured:
    with ExitStack() as stack:
        server = stack.enter_context(Worker(_BROADCAST, "serve", side, n, plan.hz, frame_bytes))
        port = server.answer()["port"]

        def clients(kind: str, count: int) -> Worker:
            return stack.enter_context(Worker(_BROADCAST, kind, side, port, count))

        windows = _windows(server, clients, plan)
    lags = [lag for window in windows for lag in window.probe["lags_ns"]]
    return _measured(name, n, plan.clients, windows, lags)


def _windows(server: Worker, clients: Clients, plan: Plan) -> list[Window]:
    everybody = [server, *join(clients, plan.clients)]
    time.sleep(plan.warm_up_s)
    return take_windows(everybody, plan.windows, plan.window_s)


def _measured(side: str, n: int, clients: int, windows: Sequence[Window], lags_ns: Sequence[int]) -> Measured:
    def rate(name: str) -> float:
        return median(float(window.server[name] / window.server["wall_s"]) for window in windows)

    deltas = sum(window.probe["deltas"] for window in windows)
    ticks = sum(window.server["ticks"] for window in windows)
    probe_bytes = sum(window.probe["delta_bytes"] for window in windows)
    frame_bytes = probe_bytes / max(1, deltas)
    all_bytes = probe_bytes + sum(sink["delta_bytes"] for window in windows for sink in window.sinks)
    return Measured(
        side,
        ticks_per_s=rate("ticks"),
        bytes_per_moved_entity=frame_bytes / n,
        server_cpu=rate("cpu_s"),
        delivered_share=all_bytes / max(1.0, frame_bytes * ticks * clients),
        lag_p50=quantile(lags_ns, 0.5) * _MS_PER_NS if lags_ns else None,
        lag_p99=quantile(lags_ns, 0.99) * _MS_PER_NS if lags_ns else None,
        frame_bytes=frame_bytes,
    )
