"""Games for tests of runs, in a module of their own so that other processes find them."""

import os
import time

from ecsnet.sim.run import Game
from ecsnet.sim.scenario import Scenario
from ecsnet.store import Transaction
from ecsnet.world import World
from tests.arena import arena

world = arena()


def steer(player) -> None:
    player.send("steer", dx=player.random.uniform(-0.7, 0.7), dy=0.5)


def arena_game(scenario: Scenario) -> Game:
    """The arena of the tests, with players that steer in every tick. One world for all runs of a process."""
    return Game(world, play=steer)


def broken_world(at_tick: int, happens) -> World:
    """A world in which `happens()` in one tick."""
    broken = arena(moving=False)

    @broken.system
    def fall(tx: Transaction) -> None:
        if tx.tick == at_tick:
            happens()

    return broken


def _raise() -> None:
    raise ZeroDivisionError("half of nobody")


def raising_game(scenario: Scenario) -> Game:
    return Game(broken_world(20, _raise))


def dying_game(scenario: Scenario) -> Game:
    """With seed 2 the process ends in the middle of a tick."""
    return Game(broken_world(5, lambda: os._exit(7))) if scenario.seed == 2 else arena_game(scenario)


def hanging_game(scenario: Scenario) -> Game:
    """With seed 2 a tick never ends."""
    return Game(broken_world(5, lambda: time.sleep(3600))) if scenario.seed == 2 else arena_game(scenario)


def unfit_game(scenario: Scenario) -> Game:
    raise LookupError("there is no such game")
