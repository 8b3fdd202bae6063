"""How fast virtual time goes: one node and its players, real cores, frames and stores, all checkers on.

The peer is the simulation stripped of everything but its events: the same number of frames of the same length through
the same kind of links, taken off and answered, with no core, no store and no checker behind them. It is what a
simulator in Python costs at least, and the ratio says how much of the time is the work itself.

Invariant: both sides run in this process, one after the other, on one core.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import Final

import numpy as np

from ecsnet.bench.figures import Figure
from ecsnet.bench.goals import GOALS
from ecsnet.ids import Tick
from ecsnet.limits import NS_PER_S
from ecsnet.schema import Schema, load
from ecsnet.sim.clock import START_NS
from ecsnet.sim.cluster import Cluster
from ecsnet.sim.link import StreamPath
from ecsnet.sim.profile import profile
from ecsnet.store import Store, Transaction
from ecsnet.world import World

__all__ = ["METRICS", "Plan", "run"]

METRICS: Final = ("speed",)
_ACK_BYTES: Final = 48
_ACKS_PER_S: Final = 20
"""A client acks every 50 ms at most."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How it is run: `moving` of the entities move in each tick."""

    hz: int = 60
    clients: int = 50
    moving: float = 0.1
    profile: str = "broadband"
    virtual_s: float = 5.0
    runs: int = 3

    @property
    def goals_hold(self) -> bool:
        """Whether this is what the goal is for."""
        return (self.hz, self.clients, self.moving) == (60, 50, 0.1)


def _world(schema: Schema, plan: Plan, entities: int) -> tuple[World, Callable[[Store], None]]:
    """A world in which a share of the entities moves each tick, each time another."""
    world = World(schema, hz=plan.hz)
    movers = round(entities * plan.moving)
    ships = np.zeros(0, np.uint64)

    def setup(store: Store) -> None:
        nonlocal ships
        with store.transaction() as tx:
            ships = tx.spawn_many(entities, transform={"x": np.arange(entities), "y": 0.0}, velocity=None, health=None)

    @world.system
    def drift(tx: Transaction) -> None:
        if movers:
            first = int(tx.tick) * movers % entities
            chosen = np.take(ships, range(first, first + movers), mode="wrap")
            tx.update_many(chosen, "transform", x=np.full(movers, float(tx.tick)), y=np.arange(movers))

    return world, setup


def _speed(plan: Plan, entities: int) -> tuple[float, float]:
    """(virtual seconds per second of CPU, bytes to a client per frame)."""
    schema = load(Path(__file__).with_name("arena.toml"))
    world, setup = _world(schema, plan, entities)
    with Cluster(world, clients=plan.clients, profile=plan.profile, seed=1, setup=setup) as cluster:
        cluster.run(1.0)
        speeds = []
        for _ in range(plan.runs):
            began = time.process_time()
            cluster.run(plan.virtual_s)
            speeds.append(plan.virtual_s / (time.process_time() - began))
        cluster.assert_converged()
        frame_bytes = cluster.bytes_per_client_s / plan.hz
    return median(speeds), frame_bytes


def _bare_speed(plan: Plan, frame_bytes: int) -> float:
    """The same events through the same links, with nothing behind them."""
    line = profile(plan.profile)
    frame, ack = bytes(frame_bytes), bytes(_ACK_BYTES)
    paths = [
        (StreamPath(line.down, Random(f"{number}/down")), StreamPath(line.up, Random(f"{number}/up")))
        for number in range(plan.clients)
    ]
    every = max(1, plan.hz // _ACKS_PER_S)
    ticks = round(plan.virtual_s * plan.hz)
    now_ns = START_NS
    taken = 0
    began = time.process_time()
    for tick in range(Tick(1), ticks + 1):
        now_ns = START_NS + tick * NS_PER_S // plan.hz
        for down, up in paths:
            taken += len(up.receive(now_ns))
            for when_ns, _ in down.receive(now_ns):
                taken += 1
                if tick % every == 0:
                    up.send(ack, when_ns)
            down.send(frame, now_ns)
    spent = time.process_time() - began
    assert taken > 0
    return plan.virtual_s / spent


def run(sizes: list[int], plan: Plan, *, progress: Callable[[str], None]) -> Iterator[Figure]:
    """Figures for each number of entities."""
    for entities in sizes:
        progress(f"{plan.clients} clients, {entities:,} entities")
        speed, frame_bytes = _speed(plan, entities)
        progress("the bare events")
        bare = _bare_speed(plan, max(1, round(frame_bytes)))
        goal = GOALS["simulation"]["speed"] if plan.goals_hold and entities == 1000 else None
        yield Figure("simulation", "speed", entities, speed, "× real time", "higher", "bare events", bare, goal)
