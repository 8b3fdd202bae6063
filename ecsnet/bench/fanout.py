"""A thousand clients, a small frame for each in every tick: what that costs a node, and how late the last of them is.

Four servers run one after the other, each in a process of its own, with the same clients in two more: the node; the
kernel's loop of `send` alone, which is the limit; the same with the reading of the acks, which a node cannot leave out;
and a Trio task for each client and direction, as one would write it first.

Lag is the last client's: from the beginning of a tick to the moment when the last of those who were sent its version
had it. `frames_min` is what the client that got least got, beside what there were ticks: nobody is to starve.

Invariant: what a side cannot hold is printed with its other figures: fewer ticks than asked, or frames that clients
were not sent because they had not taken those before (`delivered_share`).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Final

from ecsnet.bench.figures import Better, Figure
from ecsnet.bench.goals import GOALS
from ecsnet.bench.timing import quantile
from ecsnet.bench.workers import Counts, Worker, WorkerError

__all__ = ["CLIENTS_DEFAULT", "Plan", "run"]

CLIENTS_DEFAULT: Final = (1_000,)
_CLIENT_PROCESSES: Final = 2
_MS_PER_NS: Final = 1e-6
_NODE: Final = "ecsnet.bench.node_process"
_PROCESS: Final = "ecsnet.bench.fanout_process"
_JOIN_WAIT_S: Final = 120.0
_PEERS: Final = (("sends", "bare sends"), ("sends and reads", "bare sends and reads"), ("tasks", "Trio tasks"))


@dataclass(frozen=True, slots=True)
class Plan:
    """How it is run. `entities` all move in each tick, and are what the frame is made of."""

    hz: int = 60
    entities: int = 40
    warm_up_s: float = 1.0
    windows: int = 5
    window_s: float = 1.2

    @property
    def goals_hold(self) -> bool:
        """Whether this is what the goals are for."""
        return self.hz == 60 and self.entities == 40


@dataclass(frozen=True, slots=True)
class Measured:
    """One side's figures for one number of clients."""

    side: str
    server_cpu: float
    lag_last_p50: float | None
    lag_last_p99: float | None
    ticks_per_s: float
    delivered_share: float
    frames_min: float
    frame_bytes: float


_METRICS: Final[tuple[tuple[str, str, Better], ...]] = (
    ("server_cpu", "cores", "lower"),
    ("lag_last_p50", "ms", "lower"),
    ("lag_last_p99", "ms", "lower"),
    ("ticks_per_s", "1/s", "higher"),
    ("delivered_share", "share", "higher"),
    ("frames_min", "share", "higher"),
    ("frame_bytes", "B", "lower"),
)


def run(
    clients: Sequence[int] = CLIENTS_DEFAULT,
    plan: Plan | None = None,
    *,
    note: Callable[[str], None] = lambda text: None,
    progress: Callable[[str], None] = lambda text: None,
) -> Iterator[Figure]:
    """The figures, one number of clients after the other.

    Args:
        clients: how many.
        plan: how it is run; the goals' protocol unless it says otherwise.
        note: called with what a reader must know.
        progress: called with what is measured next.

    Raises:
        WorkerError: one of our processes failed. One of a peer is a note, and no figures beside it.
    """
    plan = plan or Plan()
    for n in clients:
        progress(f"ecsnet, {n:,} clients")
        ours = _side("ecsnet", n, plan, (_NODE, plan.entities, plan.hz))
        peers = []
        for kind, name in _PEERS:
            progress(f"{name}, {n:,} clients")
            try:
                peers.append(_side(name, n, plan, (_PROCESS, "serve", kind, plan.hz, round(ours.frame_bytes))))
            except WorkerError as error:
                note(f"{name}, {n} clients: no figures beside it: {error}")
        yield from _figures(n, plan, ours, peers)


def _figures(n: int, plan: Plan, ours: Measured, peers: Sequence[Measured]) -> Iterator[Figure]:
    goals = GOALS["fanout"] if plan.goals_hold and n == 1_000 else {}
    for metric, unit, better in _METRICS:
        value = getattr(ours, metric)
        if value is None:
            continue
        beside: list[tuple[str | None, float | None]] = [(peer.side, getattr(peer, metric)) for peer in peers]
        measured = [one for one in beside if one[1] is not None]
        for name, peer_value in measured or [(None, None)]:
            yield Figure("fanout", metric, n, value, unit, better, name, peer_value, goals.get(metric))


def _side(side: str, n: int, plan: Plan, server: tuple[object, ...]) -> Measured:
    with ExitStack() as stack:
        module, *arguments = server
        serving = stack.enter_context(Worker(str(module), *arguments))
        url = serving.answer()["url"]
        clients = []
        left = n
        for number in range(min(n, _CLIENT_PROCESSES)):
            count = left // (_CLIENT_PROCESSES - number)
            left -= count
            clients.append(stack.enter_context(Worker(_PROCESS, "clients", url, count, wait_s=_JOIN_WAIT_S)))
        for one in clients:
            one.answer()
        time.sleep(plan.warm_up_s)
        everybody = [serving, *clients]
        windows: list[list[Counts]] = []
        for number in range(plan.windows + 1):
            if number:
                time.sleep(plan.window_s)
            for one in everybody:
                one.ask()
            windows.append([one.answer() for one in everybody])
    return _measured(side, n, windows[1:])


def _measured(side: str, n: int, windows: Sequence[Sequence[Counts]]) -> Measured:
    def rate(name: str) -> float:
        return median(float(server[name] / server["wall_s"]) for server, *_ in windows)

    began: dict[int, int] = {}
    last_ns: dict[int, int] = {}
    frames = [0] * n
    ticks = size = 0
    for server, *clients in windows:
        began.update(server["began"])
        ticks += server["ticks"]
        size += sum(one["bytes"] for one in clients)
        counted = [count for one in clients for count in one["frames"]]
        frames = [total + count for total, count in zip(frames, counted, strict=True)]
        for one in clients:
            for version, _, at_ns in one["arrived"]:
                last_ns[version] = max(last_ns.get(version, 0), at_ns)
    lags = [at_ns - began[version] for version, at_ns in last_ns.items() if version in began]
    return Measured(
        side,
        server_cpu=rate("cpu_s"),
        lag_last_p50=quantile(lags, 0.5) * _MS_PER_NS if lags else None,
        lag_last_p99=quantile(lags, 0.99) * _MS_PER_NS if lags else None,
        ticks_per_s=rate("ticks"),
        delivered_share=sum(frames) / max(1, ticks * n),
        frames_min=min(frames) / max(1, ticks),
        frame_bytes=size / max(1, sum(frames)),
    )
