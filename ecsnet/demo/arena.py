"""The world of the README, rule by rule; a test compares the two."""

from enum import IntEnum

import ecsnet
from ecsnet import Client, Component, Entity, Event, Reject, Table, Transaction, auto, enum, f32, field, ref, u16, u64


class Transform(Component):
    x: f32 = field(default=0.0)
    y: f32 = field(default=0.0)


class Velocity(Component):
    x: f32 = field(default=0.0)
    y: f32 = field(default=0.0)


class Health(Component):
    hp: u16 = field(default=100, maximum=100)


class Kind(IntEnum):
    SWORD, POTION = 1, 2


class Item(Table):  # rows of their own, with keys of their own
    id: u64 = auto()
    kind: enum[Kind]
    holder: ref = field(to="entities.id", on_delete="set_null", optional=True)


class Hit(Event):  # a row that lives for one tick, and that every player is told once
    target: ref = field(to="entities.id")
    damage: u16


schema = ecsnet.Schema("arena", "1.0.0", Transform, Velocity, Health, Item, Hit)
world = ecsnet.World(schema, hz=30)


@world.on_join
def enter(tx: Transaction, client: Client) -> Entity:
    return tx.spawn(Transform(), Velocity(), Health(), owner=client)  # becomes client.entity


@world.on_leave
def leave(tx: Transaction, client: Client) -> None:
    tx.despawn(client.entity)


@world.command(latest=True)  # an input: the newest of a tick counts
def steer(tx: Transaction, client: Client, dx: float, dy: float) -> None:
    if dx * dx + dy * dy > 1.01:
        raise Reject("faster than a player can run")  # the player is told; nothing has changed
    tx.update(client.entity, Velocity, x=5 * dx, y=5 * dy)


@world.command
def attack(tx: Transaction, client: Client, target: Entity) -> None:
    tx[target, Health.hp] = max(0, tx[target, Health.hp] - 10)
    tx.insert(Hit(target=target, damage=10))


@world.system
def move(tx: Transaction) -> None:
    body, speed = tx.query(Transform, Velocity)  # entities that have both, aligned
    body.x += speed.x * tx.dt  # whole columns, numpy
    body.y += speed.y * tx.dt
