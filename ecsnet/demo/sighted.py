"""The arena of a demo with interest: each player is sent what is near it, what it owns, and what those hold.

It is the README's world, but that places are found by a grid and that players begin somewhere in it and not all in one
point. The radius is such that about `SEEN` of the entities that fly lie within it, however many there are.

Invariant: `astray` goes by plain distances in numpy, and by nothing that the kernel found.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecsnet import Component, Entity, Transaction, f32, field
from ecsnet.demo import arena
from ecsnet.demo.options import Options
from ecsnet.interest import near, owned, related
from ecsnet.schema import InterestRule
from ecsnet.store import View
from ecsnet.world import Client

__all__ = ["Place", "astray", "enter", "radius_of", "rules_of"]

SEEN: Final = 50
"""Entities around a player: a fight, not a fleet."""

HALF: Final = 50.0
"""The world begins as a square of twice this."""

STEP: Final = 0.002
"""What places are rounded to on their way, in metres: a player is told of what moves near it by how far it moved."""

LEAVE_FACTOR: Final = 1.1
CLOSE: Final = 1e-3
"""Distances of f32 that are nearer to a limit than this may count as either side of it."""


class Place(Component, name="transform", spatial=["x", "y"]):
    """Where something is; the README's `Transform`, but found by where it is, and sent to two millimetres."""

    x: f32 = field(default=0.0, quantize=STEP)
    y: f32 = field(default=0.0, quantize=STEP)


def radius_of(options: Options) -> float:
    """How far a player sees."""
    share = min(1.0, SEEN / max(1, options.entities))
    return 2 * HALF * math.sqrt(share / math.pi)


def rules_of(options: Options) -> list[InterestRule]:
    """What a player is sent."""
    radius = radius_of(options)
    return [owned(), near(Place, radius=radius, leave_radius=LEAVE_FACTOR * radius), related(arena.Item.holder)]


def enter(tx: Transaction, client: Client) -> Entity:
    """A ship somewhere in the square."""
    x, y = tx.random.uniform(-HALF, HALF, 2).tolist()
    return tx.spawn(Place(x=x, y=y), arena.Velocity(), arena.Health(), owner=client)


def astray(view: View, client: int, seen: NDArray[np.uint64], radius: float) -> int:
    """How many entities a player has that it should not, or lacks that it should have.

    Args:
        client: the entity that it flies.
        seen: the entities that it is sent.
    """
    keys, x, y = view["transform"].key, view["transform.x"], view["transform.y"]
    me = np.flatnonzero(keys == client)
    if not len(me):
        return len(seen)
    distance = np.hypot(x - x[me[0]], y - y[me[0]])
    must = keys[distance <= radius - CLOSE]
    may = keys[distance <= LEAVE_FACTOR * radius + CLOSE]
    return len(np.setdiff1d(must, seen)) + len(np.setdiff1d(seen, may))
