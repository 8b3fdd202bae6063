"""The arena in plain Python: what `ecsnet.sim` compares the real one with.

Positions and speeds are f32, and are computed as numpy computes them: `x += vx * dt` in f32, with `dt` rounded to f32
first. Rows lie in arrays of the model's own, found by entity in a plain dict, in the order in which it heard of them.

Invariant: a place that no entity has holds no speed, so that it may be moved with the rest.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ecsnet.sim.model import DIFFERENCES_MAX, GameModel
from ecsnet.store import View
from ecsnet.world import Client

__all__ = ["ArenaModel"]

_COLUMNS = (("transform", "x"), ("transform", "y"), ("velocity", "x"), ("velocity", "y"), ("health", "hp"))
_HP, _DAMAGE = 100, 10


class ArenaModel(GameModel):
    """See the file. `hz` is the world's."""

    def __init__(self, hz: int) -> None:
        self._hz = hz
        self._dt = np.float32(1 / hz)
        self._places: dict[int, int] = {}
        self._free: list[int] = []
        self._moving = np.zeros((4, 64), np.float32)
        """x, y, and the speeds of both, by place."""
        self._hp = np.zeros(64, np.uint16)
        self._wrong: list[str] = []

    def started(self, view: View) -> None:
        self.__init__(self._hz)  # type: ignore[misc]
        for entity in view["transform"].key.tolist():
            self._spawn(entity)
        for number, (table, field) in enumerate(_COLUMNS):
            of_view = view[table]
            places = [self._places[key] for key in of_view.key.tolist()]
            column = self._hp if table == "health" else self._moving[number]
            column[places] = of_view[field]

    def joined(self, client: Client) -> None:
        self._spawn(client.entity)

    def left(self, client: Client) -> None:
        self._remove(client.entity)

    def _remove(self, entity: int) -> None:
        place = self._places.pop(entity)
        self._moving[:, place] = 0.0
        self._free.append(place)

    def command(self, client: Client, name: str, arguments: Mapping[str, Any]) -> None:
        if name == "steer":
            dx, dy = arguments["dx"], arguments["dy"]
            if dx * dx + dy * dy > 1.01:
                self._wrong.append(f"{client.name} was let steer by {dx}, {dy}, which is too fast")
            self._moving[2:, self._places[client.entity]] = 5 * dx, 5 * dy
        elif name == "attack":
            place = self._places[arguments["target"]]
            self._hp[place] = max(0, int(self._hp[place]) - _DAMAGE)

    def system(self, name: str, tick: int) -> None:
        if name == "move":
            self._moving[:2] += self._moving[2:] * self._dt

    def check(self, view: View) -> str | None:
        bodies = view["transform"].key
        for table in ("velocity", "health"):
            # Spawned and despawned in one transaction: whoever has one of them has all. The rows of two tables may come
            # in another order.
            there = view[table].key
            if not np.array_equal(there, bodies) and not np.array_equal(np.sort(there), np.sort(bodies)):
                return f"{len(bodies)} entities have a transform and {len(there)} a {table}, or they are not the same"
        return None

    def differences(self, view: View) -> Iterable[str]:
        found, self._wrong = self._wrong, []
        for number, (table, field) in enumerate(_COLUMNS):
            of_view = view[table]
            keys = of_view.key.tolist()
            if len(keys) != len(self._places) or not all(key in self._places for key in keys):
                odd = sorted(set(keys) ^ self._places.keys())
                found.append(
                    f"{table} has {len(keys)} rows, the model {len(self._places)}; first of one only: {odd[0]:#x}"
                )
                break
            places = [self._places[key] for key in keys]
            ours = (self._hp if table == "health" else self._moving[number])[places]
            theirs = of_view[field]
            for row in np.flatnonzero(_bits(ours) != _bits(theirs))[:DIFFERENCES_MAX].tolist():
                found.append(f"{table}.{field} of {keys[row]:#x} is {theirs[row]!r}, the model has {ours[row]!r}")
        return found

    def _spawn(self, entity: int) -> None:
        if entity in self._places:
            self._wrong.append(f"entity {entity:#x} was spawned twice")
            return
        if self._free:
            place = self._free.pop()
        else:
            place = len(self._places)
            if place == len(self._hp):
                self._moving = np.concatenate([self._moving, np.zeros_like(self._moving)], axis=1)
                self._hp = np.concatenate([self._hp, np.zeros_like(self._hp)])
        self._places[entity] = place
        self._moving[:, place] = 0.0
        self._hp[place] = _HP


def _bits(cells: Any) -> Any:
    return np.ascontiguousarray(cells).view(f"u{cells.dtype.itemsize}")
