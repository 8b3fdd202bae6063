"""What a moved entity costs on the wire, and what it costs to encode and decode: beside raw columns and deflated JSON.

Entities in 1000 × 1000 × 50 m, 60 ticks a second. Those that are active, a share of all of which one in fifty is
replaced in each tick, turn and walk at up to 8 m/s; one in fifty of them loses hit points. `n` is that share in
percent. Blocks go from one store to another as on a stream that keeps up, and the other's digest says that it took them
in. Every side's bytes are divided by the entities that moved; rows that are named, and the hit points, are in them.

Of the rounded and relative side the coordinates are also told alone, beside the entropy of the very differences that
were packed: what a coder of one value after the other, by how often each occurs in its column, takes at the least, when
it knows that for nothing. No adaptive coder without a context beats it, so it says what one could gain.
"""

import json
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecsnet._kernel.kernel import KernelStore
from ecsnet.bench.figures import Figure
from ecsnet.bench.goals import GOALS
from ecsnet.errors import InternalError
from ecsnet.schema import Schema, loads
from ecsnet.wire.compression import Compressor

__all__ = ["ENTITIES_DEFAULT", "METRICS", "SHARES", "run"]

ENTITIES_DEFAULT: Final = 10_000
SHARES: Final = (1, 10, 100)
"""Percent of the entities that move in a tick."""

STEP_M: Final = 0.002
_HZ: Final = 60
_TICKS: Final = 40
_WARM: Final = 5
METRICS: Final = ("lossless", "lossless, zstd", "2 mm", "2 mm, from the base alone", "2 mm, zstd")
"""Bytes per moved entity; then `encode` and `decode` of each but zstd's, in microseconds a tick."""

COORDINATES: Final = "2 mm, coordinates"
ENTROPY: Final = "their order-0 entropy"


class Walk:
    """The movements; the same for all sides."""

    def __init__(self, n: int, percent: int, seed: int = 1) -> None:
        self._random = np.random.default_rng(seed)
        self.n, self._active_count = n, max(1, n * percent // 100)
        uniform = self._random.uniform
        self.at = np.stack([uniform(0, 1000, n), uniform(0, 1000, n), uniform(0, 50, n)]).astype(np.float32)
        self.hp = np.full(n, 100, np.int32)
        self._heading, self._speed = uniform(0, 2 * np.pi, n), uniform(1, 8, n)
        self._active = np.sort(self._random.permutation(n)[: self._active_count])

    def step(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Who moved, and who lost hit points."""
        random, active = self._random, self._active
        if len(active) < self.n:
            some = max(1, len(active) // 50)
            idle = np.setdiff1d(np.arange(self.n), active, assume_unique=True)
            stay = np.delete(active, random.choice(len(active), some, replace=False))
            active = self._active = np.sort(np.concatenate([stay, random.choice(idle, some, replace=False)]))
        self._heading[active] += random.normal(0, 0.05, len(active))
        speed = self._speed[active]
        by = [np.cos(self._heading[active]) * speed, np.sin(self._heading[active]) * speed]
        by.append(random.normal(0, 0.2, len(active)))
        for axis, limit in enumerate((1000, 1000, 50)):
            self.at[axis, active] = np.clip(self.at[axis, active] + by[axis] / _HZ, 0, limit)
        hit = active[random.random(len(active)) < 0.02]
        self.hp[hit] -= random.integers(1, 20, len(hit)).astype(np.int32)
        self.hp[self.hp <= 0] = 100
        return active, hit


def _schema(rounded: bool) -> Schema:
    quantize = f", quantize = {STEP_M}" if rounded else ""
    axes = ", ".join(f'{{ name = "{axis}", type = "f32"{quantize} }}' for axis in "xyz")
    return loads(f"""[database]
name = "walk"
version = "1.0.0"

[tables.place]
parent_table = "entities"
fields = [{{ name = "entity", type = "u64", foreign_key = "entities.id" }}, {axes}]

[tables.health]
parent_table = "entities"
fields = [{{ name = "entity", type = "u64", foreign_key = "entities.id" }}, {{ name = "hp", type = "i32" }}]
""")


class Side:
    """An authority, and a replica that holds what it was handed last."""

    def __init__(self, walk: Walk, *, rounded: bool, relative: bool = False, zstd: bool = False) -> None:
        self._walk, self._relative = walk, relative
        self._compressor = Compressor() if zstd else None
        schema = _schema(rounded)
        self._place, self._health = schema.table("place"), schema.table("health")
        self._axes = tuple(self._place.field(axis).id for axis in "xyz")
        self._hp = self._health.field("hp").id
        self._store, self._replica = _empty(schema, walk.n), _empty(schema, walk.n)
        self._replica.release_baton()
        store = self._store
        store.begin()
        self._keys = store.reserve(0, walk.n)
        store.insert_many(0, self._keys, {0: np.zeros(walk.n)})
        store.insert_many(self._place.id, self._keys, dict(zip(self._axes, walk.at, strict=True)))
        store.insert_many(self._health.id, self._keys, {self._hp: walk.hp})
        store.commit()
        store.publish(1)
        self._before = store.acquire()
        self._replica.apply([store.delta(self._before, 0).block], 0, self._before.version, 1)
        self.bytes = 0
        self.encode_ns: list[int] = []
        self.decode_ns: list[int] = []

    def take(self, moved: NDArray[np.int64], hit: NDArray[np.int64]) -> None:
        """Commit what the walk did, and bring it to the replica."""
        store, walk, before = self._store, self._walk, self._before
        store.begin()
        columns = dict(zip(self._axes, walk.at[:, moved], strict=True))
        store.update_many(self._place.id, self._keys[moved], columns)
        if len(hit):
            store.update_many(self._health.id, self._keys[hit], {self._hp: walk.hp[hit]})
        store.commit()
        store.publish(1)
        pin = store.acquire()
        reference = before if self._relative else None
        started = time.perf_counter_ns()
        block = store.delta(pin, before.version, None, 0, reference, self._compressor is not None).block
        encoded = time.perf_counter_ns()
        self._replica.apply([block], before.version, pin.version, 1)
        decoded = time.perf_counter_ns()
        self.bytes += len(block if self._compressor is None else self._compressor.compress(block))
        self.encode_ns.append(encoded - started)
        self.decode_ns.append(decoded - encoded)
        before.release()
        self._before = pin

    def coordinate_bytes(self) -> int:
        """What the cells of places took so far, the first block's too."""
        counted = self._store.encoded_bytes()
        return sum(length for table, field, length in counted if table == self._place.id and field in self._axes)

    def check(self) -> None:
        if self._replica.acquire().digest() != self._before.digest(wire=True):
            raise InternalError("the replica of a benchmark holds something else than its authority")


def _empty(schema: Schema, n: int) -> KernelStore:
    store = KernelStore(schema, entities_max=max(1000, n))
    store.take_baton()
    store.begin()
    store.commit()
    store.publish(0, genesis=True)
    return store


def _names(rows: NDArray[np.int64], n: int) -> int:
    """Bytes that say which rows, in the shorter of two simple ways; none where it is all of them."""
    return 0 if len(rows) == n else min((n + 7) // 8, 2 * len(rows))


def _quanta(walk: Walk) -> NDArray[np.float64]:
    """Where all are, in steps."""
    quanta: NDArray[np.float64] = np.rint(walk.at.astype(np.float64) * (1 / STEP_M))
    return quanta


def _entropy_bytes(column: NDArray[np.float64]) -> float:
    """Bytes that values take at the least by how often each of them occurs."""
    _, counts = np.unique(column, return_counts=True)
    return float(np.sum(counts * np.log2(len(column) / counts))) / 8


def _raw(walk: Walk, moved: NDArray[np.int64], hit: NDArray[np.int64]) -> int:
    return _names(moved, walk.n) + 12 * len(moved) + _names(hit, walk.n) + 4 * len(hit)


def _json(walk: Walk, moved: NDArray[np.int64], hit: NDArray[np.int64]) -> int:
    """Objects by id, coordinates rounded to a millimetre, deflated as a WebSocket would."""
    x, y, z = np.round(walk.at[:, moved].astype(np.float64), 3).tolist()
    changed: dict[int, dict[str, Any]] = {
        key: {"x": a, "y": b, "z": c} for key, a, b, c in zip(moved.tolist(), x, y, z, strict=True)
    }
    for key, hp in zip(hit.tolist(), walk.hp[hit].tolist(), strict=True):
        changed[key]["hp"] = hp
    return len(zlib.compress(json.dumps(changed, separators=(",", ":")).encode(), 6))


def run(
    entities: int = ENTITIES_DEFAULT,
    *,
    shares: Sequence[int] = SHARES,
    ticks: int = _TICKS,
    progress: Callable[[str], None] = lambda text: None,
) -> Iterator[Figure]:
    """The figures, each as soon as it is measured: `n` is the percentage of entities that move. Where few move the goal
    is what @colyseus/schema 5 took for such movements when it was measured.

    Raises:
        InternalError: a replica does not hold what its authority does.
    """
    for percent in shares:
        progress(f"{percent} % of {entities:,} entities")
        walk = Walk(entities, percent)
        sides = {
            "lossless": Side(walk, rounded=False),
            "lossless, zstd": Side(walk, rounded=False, zstd=True),
            "2 mm": Side(walk, rounded=True, relative=True),
            "2 mm, from the base alone": Side(walk, rounded=True),
            "2 mm, zstd": Side(walk, rounded=True, relative=True, zstd=True),
        }
        count = raw = deflated = coordinates = 0
        entropy = 0.0
        for tick in range(_WARM + ticks):
            if tick == _WARM:
                count = raw = deflated = 0
                entropy, coordinates = 0.0, sides["2 mm"].coordinate_bytes()
                for side in sides.values():
                    side.bytes = 0
            before = _quanta(walk)
            moved, hit = walk.step()
            entropy += sum(map(_entropy_bytes, (_quanta(walk) - before)[:, moved]))
            count += len(moved)
            raw += _raw(walk, moved, hit)
            deflated += _json(walk, moved, hit)
            for side in sides.values():
                side.take(moved, hit)
        peers = {
            "raw f32 columns": raw / count,
            "JSON + deflate": deflated / count,
        }
        goals = {**GOALS["bytes"], **GOALS.get(f"bytes {percent}", {})}
        for metric in METRICS:
            side = sides[metric]
            side.check()
            for peer, value in peers.items():
                goal = goals.get(metric) if peer == "raw f32 columns" else None
                yield Figure("bytes", metric, percent, side.bytes / count, "B", "lower", peer, value, goal)
        took = (sides["2 mm"].coordinate_bytes() - coordinates) / count
        yield Figure("bytes", COORDINATES, percent, took, "B", "lower", ENTROPY, entropy / count)
        for metric in ("lossless", "2 mm", "2 mm, from the base alone"):
            side = sides[metric]
            encode, decode = (float(np.median(ns[_WARM:])) / 1000 for ns in (side.encode_ns, side.decode_ns))
            yield Figure(
                "bytes", f"encode {metric}", percent, encode, "us", "lower", goal=goals.get(f"encode {metric}")
            )
            yield Figure("bytes", f"decode {metric}", percent, decode, "us", "lower")
