"""What coming back costs: the bytes that a client is sent after some time away, and the time until its world is there.

Both cores in one process without sockets, in virtual time: bytes do not depend on the line, and time is the CPU that
both sides need together. In each tick another `changed` share of the entities moves, drawn anew, so that the longer the
client is away, the more it has missed. Beside it stand a full sync, which is what it would be sent without resuming,
and the missed rows alone, cut from a store that knows exactly which those are. Nothing is compressed, on either side.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecsnet.authority import Authority, Link
from ecsnet.bench.figures import Figure
from ecsnet.bench.goals import GOALS
from ecsnet.bench.node_process import moving_schema
from ecsnet.errors import EcsnetError
from ecsnet.limits import FRAME_HEADER_BYTES, NS_PER_S
from ecsnet.replica import Replica
from ecsnet.store import Store
from ecsnet.world import World

__all__ = ["AWAY_DEFAULT", "Plan", "run"]

AWAY_DEFAULT: Final = (0.5, 2.0, 10.0)

_FULL: Final = "full sync"
_EXACT: Final = "the missed rows alone"


@dataclass(frozen=True, slots=True)
class Plan:
    """How it is run. `changed` is the share of the entities that move in a tick."""

    hz: int = 60
    changed: float = 0.0005
    runs: int = 3


class _Line:
    """One client at its node, with nothing in between."""

    def __init__(self, n: int, plan: Plan) -> None:
        self.plan = plan
        self.world = World(moving_schema(), hz=plan.hz)
        self.store = Store(self.world.schema)
        self.authority = Authority(self.world, self.store, seed=1, linger_s=1000.0, compress=False)
        self.replica = Replica(self.world, reconnects=True)
        self.now_ns = NS_PER_S
        i = np.arange(n, dtype=np.float32)
        with self.store.transaction() as tx:
            made = tx.spawn_many(
                position={"x": i % 1000, "y": i / 7, "z": np.full(n, 5, np.float32)},
                velocity={"x": np.sin(i) + 2, "y": np.cos(i) + 2, "z": i * 0},
            )
        self.keys = np.array(made, np.uint64)
        self._random = np.random.default_rng(5)
        self._link: Link | None = None

    def connect(self) -> None:
        self._link = self.authority.open_link(self.now_ns)
        self.replica.connect(self.now_ns)

    def lose(self) -> None:
        link, self._link = self._link, None
        assert link is not None
        self.replica.disconnected(self.now_ns)
        self.authority.close_link(link, self.now_ns)

    def tick(self) -> NDArray[np.int64]:
        """Some move. Which."""
        self.now_ns += NS_PER_S // self.plan.hz
        count = max(1, round(len(self.keys) * self.plan.changed))
        rows = self._random.choice(len(self.keys), count, replace=False)
        x, y, z = self._random.random((3, count)).astype(np.float32)
        with self.store.transaction() as tx:
            tx.update_many(self.keys[rows], "position", x=x, y=y, z=z)
        self.authority.tick(self.now_ns)
        return rows

    def exchange(self) -> int:
        """Until nobody has anything to say: the bytes that the client was sent."""
        link, sent = self._link, 0
        assert link is not None
        before = -1
        while sent != before:
            before = sent
            for frame in self.replica.frames_to_send(self.now_ns):
                self.authority.receive_frame(link, frame[4], frame[FRAME_HEADER_BYTES:], self.now_ns)
            while (transmit := self.authority.next_transmit(link, self.now_ns)) is not None:
                data = b"".join(transmit.parts)
                self.authority.record_sent(link, transmit, self.now_ns)
                self.replica.receive_frame(data[4], data[FRAME_HEADER_BYTES:], self.now_ns)
                sent += len(data)
        return sent

    def close(self) -> None:
        self.replica.release()
        self.authority.close()
        self.store.close()


def run(
    sizes: Sequence[int],
    plan: Plan | None = None,
    *,
    away: Sequence[float] = AWAY_DEFAULT,
    progress: Callable[[str], None] = lambda text: None,
) -> Iterator[Figure]:
    """The figures, by number of entities and seconds away.

    Raises:
        EcsnetError: the client did not come to hold what the node holds, or was sent a whole world.
    """
    plan = plan or Plan()
    for n in sizes:
        for seconds in away:
            progress(f"n = {n:,}, {seconds:g} s away")
            yield from _figures(n, plan, seconds)


def _figures(n: int, plan: Plan, seconds: float) -> Iterator[Figure]:
    measured = [_come_back(n, plan, seconds) for _ in range(plan.runs)]
    resumed, full, exact = (median(one[place][0] for one in measured) for place in range(3))
    cpu, full_cpu = (median(one[place][1] for one in measured) * 1e3 for place in range(2))
    goals = GOALS["resume"]
    name = f"after_{seconds:g}s"
    yield Figure("resume", f"bytes_{name}", n, resumed, "B", "lower", _EXACT, exact, goals["bytes"])
    yield Figure("resume", f"bytes_{name}", n, resumed, "B", "lower", _FULL, full, goals["bytes"])
    yield Figure("resume", f"cpu_{name}", n, cpu, "ms", "lower", _FULL, full_cpu)


def _come_back(n: int, plan: Plan, seconds: float) -> list[tuple[int, float]]:
    """Bytes and CPU seconds of a resume and of a full sync, and the bytes of the missed rows alone."""
    line = _Line(n, plan)
    try:
        line.connect()
        line.exchange()
        for _ in range(30):
            line.tick()
            line.exchange()
        with line.store.view() as view:
            held = Store(line.world.schema)
            _same(view.version, line, held)
        line.lose()
        missed = np.unique(np.concatenate([line.tick() for _ in range(max(1, round(seconds * plan.hz)))]))
        full_before = line.replica.statistics().full_syncs_applied
        began = time.process_time()
        line.connect()
        resumed = line.exchange()
        cpu = time.process_time() - began
        with line.store.view() as ours, line.replica.view() as theirs:
            if ours.digest() != theirs.digest() or line.replica.statistics().full_syncs_applied != full_before:
                raise EcsnetError("the client came back to another world, or was sent all of it")
        full = _full_sync(line)
        exact = _exact(line, held, missed)
        held.close()
        return [(resumed, cpu), full, (exact, 0.0)]
    finally:
        line.close()


def _same(version: int, line: _Line, into: Store) -> None:
    """Bring an empty store to what the line's store holds."""
    pin = line.store.kernel.acquire()
    into.kernel.apply([line.store.kernel.delta(pin, 0).block], 0, version, 0)
    pin.release()


def _exact(line: _Line, held: Store, missed: NDArray[np.int64]) -> int:
    """What a delta takes that names the missed rows and no other: of one version that changes just those."""
    pin = line.store.kernel.acquire()
    with held.transaction() as tx:
        of = {name: line.store.view()["position"][name] for name in ("x", "y", "z")}
        rows = [int(pin.row(line.world.schema.table("position").id, int(key))) for key in line.keys[missed]]
        tx.update_many(line.keys[missed], "position", **{name: cells[rows] for name, cells in of.items()})
    pin.release()
    newest = held.kernel.acquire()
    size = len(held.kernel.delta(newest, newest.version - 1).block)
    newest.release()
    return size


def _full_sync(line: _Line) -> tuple[int, float]:
    """What another client is sent that comes for the first time."""
    other = Replica(line.world)
    link = line.authority.open_link(line.now_ns)
    began = time.process_time()
    other.connect(line.now_ns)
    first, line._link = line._link, link
    mine, line.replica = line.replica, other
    line.exchange()
    line.authority.tick(line.now_ns)
    sent = line.exchange()
    cpu = time.process_time() - began
    line._link, line.replica = first, mine
    line.authority.close_link(link, line.now_ns)
    other.release()
    return sent, cpu
