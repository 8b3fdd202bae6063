"""What a thousand clients may see, and the deltas of just that, beside numpy doing it client by client.

A crowd of one point in each unit of area moves, everybody or one in ten a tick. Each client looks around the entity
that it owns, as far as 50 others are, and is sent what changed of what it sees: 2 floats a row, lossless. A tick is
the CPU time of the thread for all clients together, to find and to encode; commit and sending are not in it.

numpy's client compares its distance to everybody, remembers who it saw, and packs the rows that came, went and moved:
equal work with the means of a Python game. It is timed for some clients and reckoned up to all of them.

Beside it a fifth as many clients see all rows of the table, by a rule that finds the same for everybody, and own one
entity each: what they share is found and encoded once, so a tick is little more than copying what each is sent.
"""

from collections.abc import Callable, Iterator, Sequence
from time import thread_time
from typing import Any, Final

import numpy as np

from ecsnet._kernel.audiences import Audiences, Profile, Rule
from ecsnet._kernel.kernel import KernelStore
from ecsnet.bench.figures import Figure
from ecsnet.bench.goals import GOALS
from ecsnet.schema import loads

__all__ = ["CLIENTS_DEFAULT", "METRICS", "N_DEFAULT", "run"]

N_DEFAULT: Final = (10_000,)
CLIENTS_DEFAULT: Final = 1000
TICKS_DEFAULT: Final = 60

METRICS: Final = ("find", "encode", "tick", "tick_some", "tick_shared", "bytes")
"""Milliseconds a tick for all clients, and bytes a tick for one of them: lower is better."""

SEEN: Final = 50
_NUMPY_CLIENTS: Final = 20
_STEP: Final = 0.05
_LEAVE: Final = 1.1

_SCHEMA: Final = """
[database]
name = "crowd"
version = "1.0.0"

[tables.place]
parent_table = "entities"
spatial = ["x", "y"]
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "x", type = "f32" }, { name = "y", type = "f32" }]
"""


class _Moving:
    """A crowd in a store, one point in each unit of area."""

    def __init__(self, n: int, clients: int) -> None:
        self.schema = loads(_SCHEMA)
        self.kernel = KernelStore(self.schema)
        self.kernel.take_baton()
        self.kernel.publish(0, genesis=True)
        self.place = self.schema.table("place").id
        self.random = np.random.default_rng(1)
        self.cells = [self.random.uniform(0, n**0.5, n).astype(np.float32) for _ in range(2)]
        self.tick = 0
        self.kernel.begin()
        self.keys = self.kernel.reserve(0, n)
        owners = np.zeros(n, np.uint64)
        owners[:clients] = np.arange(1, clients + 1)
        self.kernel.insert_many(0, self.keys, {0: owners})
        self.kernel.insert_many(self.place, self.keys, dict(enumerate(self.cells)))
        self.kernel.commit()
        self.publish()

    def publish(self) -> None:
        self.tick += 1
        self.kernel.publish(self.tick)

    def move(self, share: float) -> Any:
        """A share of them takes a step. Returns who."""
        n = len(self.keys)
        rows = np.arange(n) if share == 1 else np.sort(self.random.choice(n, max(1, int(n * share)), replace=False))
        for cells in self.cells:
            cells[rows] += self.random.normal(0, _STEP, len(rows)).astype(np.float32)
        self.kernel.begin()
        columns = {axis: cells[rows] for axis, cells in enumerate(self.cells)}
        self.kernel.update_many(self.place, self.keys[rows], columns)
        self.kernel.commit()
        self.publish()
        return rows


class _NumpyClient:
    """One client's sight, kept by numpy."""

    def __init__(self, crowd: _Moving, row: int, radius: float) -> None:
        self._crowd, self._row, self._radius = crowd, row, radius
        self._seen = np.zeros(len(crowd.keys), np.bool_)

    def turn(self, changed: Any) -> list[bytes]:
        x, y = self._crowd.cells
        square = (x - x[self._row]) ** 2 + (y - y[self._row]) ** 2
        now = (square <= self._radius**2) | self._seen & (square <= (self._radius * _LEAVE) ** 2)
        came, went, stayed = now & ~self._seen, self._seen & ~now, now & self._seen & changed
        self._seen = now
        parts = []
        for rows in (np.flatnonzero(came), np.flatnonzero(stayed)):
            parts += [rows.astype("<u4").tobytes(), x[rows].tobytes(), y[rows].tobytes()]
        return [np.flatnonzero(went).astype("<u4").tobytes(), *parts]


def _ticks_shared(crowd: _Moving, clients: int, ticks: int) -> list[float]:
    """Seconds a tick of clients that see every row, of which one in ten moves."""
    rules = [Rule("always", (crowd.place,)), Rule("owned")]
    audiences = Audiences(crowd.kernel, [Profile.of_role(crowd.schema, "player")], rules)
    handles = np.array([audiences.open(0, owner=owner) for owner in range(1, clients + 1)], np.uint32)
    pin = crowd.kernel.acquire()
    audiences.update(pin)
    taken = []
    for _ in range(ticks):
        crowd.move(0.1)
        base = pin.version
        pin = crowd.kernel.acquire()
        started = thread_time()
        audiences.update(pin, handles)
        audiences.deltas(pin, handles, np.full(clients, base, np.uint64))
        taken.append(thread_time() - started)
        for handle in handles.tolist():
            audiences.settle(handle, pin.version)
    return taken


def run(
    sizes: Sequence[int] = N_DEFAULT,
    *,
    clients: int = CLIENTS_DEFAULT,
    ticks: int = TICKS_DEFAULT,
    progress: Callable[[str], None] = lambda text: None,
) -> Iterator[Figure]:
    """The figures, each size's as soon as it is measured."""
    for n in sizes:
        progress(f"loading, n = {n:,}")
        few = min(clients, n)
        crowd = _Moving(n, few)
        radius = (SEEN / np.pi) ** 0.5
        rules = [Rule("near", (crowd.place,), (0, 1), radius, radius * _LEAVE), Rule("owned")]
        audiences = Audiences(crowd.kernel, [Profile.of_role(crowd.schema, "player")], rules)
        handles = np.array([audiences.open(0, owner=owner) for owner in range(1, few + 1)], np.uint32)
        for handle, key in zip(handles.tolist(), crowd.keys[:few], strict=True):
            audiences.focus(handle, [key])
        sides = [_NumpyClient(crowd, row, radius) for row in range(0, few, max(1, few // _NUMPY_CLIENTS))]
        changed = np.zeros(n, np.bool_)
        for side in sides:
            side.turn(changed)
        pin = crowd.kernel.acquire()
        audiences.update(pin)
        taken: dict[str, list[float]] = {metric: [] for metric in (*METRICS, "numpy", "numpy_some")}
        for metric, share in (("tick", 1.0), ("tick_some", 0.1)):
            progress(f"{metric}, n = {n:,}")
            for _ in range(ticks):
                changed[:] = False
                changed[crowd.move(share)] = True
                base = pin.version
                pin = crowd.kernel.acquire()
                started = thread_time()
                audiences.update(pin, handles)
                found = thread_time()
                deltas = audiences.deltas(pin, handles, np.full(few, base, np.uint64))
                ended = thread_time()
                for handle in handles.tolist():
                    audiences.settle(handle, pin.version)
                taken[metric].append(ended - started)
                if share == 1:
                    taken["find"].append(found - started)
                    taken["encode"].append(ended - found)
                    taken["bytes"].append(float(deltas.lengths.clip(0).mean()) / 1000)
                started = thread_time()
                for side in sides:
                    side.turn(changed)
                name = "numpy" if share == 1 else "numpy_some"
                taken[name].append((thread_time() - started) * few / len(sides))
        progress(f"tick_shared, n = {n:,}")
        taken["tick_shared"] = _ticks_shared(crowd, max(1, few // 5), ticks)
        # A median each: a tick that the machine took away from us says nothing.
        value = {metric: float(np.median(of)) * 1000 for metric, of in taken.items() if of}
        for metric in METRICS:
            peer = {"tick": "numpy", "tick_some": "numpy_some"}.get(metric)
            goal = GOALS.get("interest", {}).get(metric) if few == CLIENTS_DEFAULT and n == N_DEFAULT[0] else None
            unit = "B" if metric == "bytes" else "ms"
            yield Figure(
                "interest", metric, n, value[metric], unit, "lower", "numpy" if peer else None,
                value[peer] if peer else None, goal,
            )  # fmt: skip
        crowd.kernel.close()
