"""The world of the README, rule by rule; a test compares the two."""

from pathlib import Path

import ecsnet
from ecsnet import Client, Entity, Reject, Transaction

world = ecsnet.World(Path(__file__).with_name("arena.toml"), hz=30)


@world.on_join
def enter(tx: Transaction, client: Client) -> Entity:
    return tx.spawn(transform={}, velocity={}, health={}, owner=client)  # becomes client.entity


@world.on_leave
def leave(tx: Transaction, client: Client) -> None:
    tx.despawn(client.entity)


@world.command(latest=True)  # an input: the newest of a tick counts
def steer(tx: Transaction, client: Client, dx: float, dy: float) -> None:
    if dx * dx + dy * dy > 1.01:
        raise Reject("faster than a player can run")  # the player is told; nothing has changed
    tx.update(client.entity, "velocity", x=5 * dx, y=5 * dy)


@world.command
def attack(tx: Transaction, client: Client, target: Entity) -> None:
    tx[target, "health.hp"] = max(0, tx[target, "health.hp"] - 10)


@world.system
def move(tx: Transaction) -> None:
    body, speed = tx.query("transform", "velocity")  # entities that have both, aligned
    body.x += speed.x * tx.dt  # whole columns, numpy
    body.y += speed.y * tx.dt
