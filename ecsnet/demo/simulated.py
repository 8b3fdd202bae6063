"""The demo's arena for the simulator: the same world and ships, and players that steer and attack as the bots do.

Invariant: what a player does is drawn from its own generator, so that a seed decides it.
"""

import math
from random import Random
from typing import Any, Protocol

from ecsnet.demo.arena import world
from ecsnet.demo.model import ArenaModel
from ecsnet.demo.node_process import populate
from ecsnet.demo.options import Options
from ecsnet.errors import LimitExceededError
from ecsnet.sim.run import Game
from ecsnet.store import Store, View

STEERS_PER_S = 10.0
ATTACKS_PER_S = 1.5
"""Of each player, on average, as the demo's bots do it."""


class Plays(Protocol):
    """What this needs of a player, of either simulation."""

    random: Random

    @property
    def view(self) -> View: ...
    def send(self, command: str, /, **arguments: Any) -> object: ...


def game(*, entities: int, moving: float, seed: int, hz: int | None) -> Game:
    """The arena with so many ships beside the players' own, of which the share `moving` moves.

    The world is one object per process: use one such game after the other.

    Raises:
        ArgumentError: a number is out of range.
    """
    options = Options(entities=entities, moving=moving, seed=seed, hz=Options().hz if hz is None else hz)
    world.hz, world.seed = options.hz, options.seed

    def setup(store: Store) -> None:
        populate(store, options)

    # Whom a player attacks may be gone when the command arrives; the real node refuses and goes on.
    return Game(world, setup=setup, play=play, model=lambda: ArenaModel(options.hz), on_error="log")


def play(player: Plays) -> None:
    """What a player does in one tick: now and then it turns, and now and then it attacks somebody."""
    random = player.random
    try:
        if random.random() < STEERS_PER_S / world.hz:
            angle = random.uniform(0.0, 2 * math.pi)
            player.send("steer", dx=math.cos(angle), dy=math.sin(angle))
        if random.random() < ATTACKS_PER_S / world.hz:
            targets = player.view["health"].key
            if len(targets):
                player.send("attack", target=int(targets[random.randrange(len(targets))]))
    except LimitExceededError:
        # Nobody answers at the moment. A person would not notice that a key did nothing, either.
        pass
