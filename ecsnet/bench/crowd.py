"""The world that queries are measured on, as plain columns: each side loads the same rows.

`n` entities stand in a square with one entity per unit of area, and have hit points and a team; `n` items are each held
by some entity. Numbers come from one seed, so all sides and all runs have the same rows.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["HP_MAX", "KINDS", "TEAMS", "Crowd", "make_crowd"]

TEAMS: Final = 8
KINDS: Final = 10
HP_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Crowd:
    """Columns by entity (`x`, `y`: f32; `hp`: u16; `team`: u8) and by item (`kind`: u8; `price`: u32; `holder`: the
    number of an entity, 0 to n - 1, as i64). `side` is the length of the square."""

    n: int
    side: float
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    hp: NDArray[np.uint16]
    team: NDArray[np.uint8]
    kind: NDArray[np.uint8]
    price: NDArray[np.uint32]
    holder: NDArray[np.int64]

    def some(self, count: int) -> list[int]:
        """Numbers of entities, all different where there are enough: those that single look-ups ask for."""
        chosen: Any = np.random.default_rng(11).permutation(self.n)[:count]
        return [int(number) for number in chosen]


def make_crowd(n: int) -> Crowd:
    """The crowd of `n` entities and `n` items."""
    random = np.random.default_rng(7)
    side = math.sqrt(n)
    return Crowd(
        n=n,
        side=side,
        x=random.uniform(0, side, n).astype(np.float32),
        y=random.uniform(0, side, n).astype(np.float32),
        hp=random.integers(0, HP_MAX, n, dtype=np.uint16),
        team=random.integers(0, TEAMS, n, dtype=np.uint8),
        kind=random.integers(0, KINDS, n, dtype=np.uint8),
        price=random.permutation(n).astype(np.uint32),
        holder=random.integers(0, n, n, dtype=np.int64),
    )
