"""A whole game, as the API is meant to be written: schema, rules, commands."""

from enum import IntEnum

import ecsnet
from ecsnet import (
    Client,
    Component,
    Entity,
    Event,
    Reject,
    Struct,
    Table,
    Transaction,
    array,
    auto,
    bool_,
    bytes_,
    enum,
    f32,
    field,
    ref,
    string,
    u16,
    u64,
)


class Transform(Component):
    x: f32 = field(default=0.0)
    y: f32 = field(default=0.0)


class Velocity(Component):
    x: f32 = field(default=0.0)
    y: f32 = field(default=0.0)


class Health(Component):
    hp: u16 = field(default=100, maximum=100)


class Shield(Component):
    strength: u16


class Kind(IntEnum):
    SWORD, POTION = 1, 2


class Item(Table):
    id: u64 = auto()
    kind: enum[Kind]
    holder: ref = field(to="entities.id", on_delete="set_null", optional=True)


class Hit(Event):
    target: ref = field(to="entities.id")
    damage: u16


class Vec3(Struct):
    x: f32 = field(default=0.0)
    y: f32 = field(default=0.0)
    z: f32 = field(default=0.0)


class Pose(Component):
    place: Vec3 = field(default=Vec3(z=1.0))
    path: array[Vec3] = field(shape=4, default={})
    rotation: array[f32] = field(shape=4, default=(0.0, 0.0, 0.0, 1.0))
    title: string = field(length=32, default="nobody")
    tag: bytes_ = field(length=4, default=b"")
    awake: bool_ = field(default=True)


schema = ecsnet.Schema("arena", "1.0.0", Transform, Velocity, Health, Shield, Item, Hit, Pose)
world = ecsnet.World(schema, hz=30)


@world.on_join
def enter(tx: Transaction, client: Client) -> Entity:
    return tx.spawn(Transform(), Velocity(), Health(), owner=client)


@world.on_leave
def leave(tx: Transaction, client: Client) -> None:
    tx.despawn(client.entity)


@world.command(latest=True)
def steer(tx: Transaction, client: Client, dx: float, dy: float) -> None:
    if dx * dx + dy * dy > 1.01:
        raise Reject("faster than a player can run")
    tx.update(client.entity, Velocity, x=5 * dx, y=5 * dy)


@world.command
def attack(tx: Transaction, client: Client, target: Entity) -> None:
    tx[target, Health.hp] = max(0, tx[target, Health.hp] - 10)
    tx.insert(Hit(target=target, damage=10))


@world.system
def move(tx: Transaction) -> None:
    body, speed = tx.query(Transform, Velocity)
    body.x += speed.x * tx.dt
    body.y += speed.y * tx.dt


@world.system(every=30)
def bury(tx: Transaction) -> None:
    tx.despawn(tx.query(Health).where(Health.hp == 0).entity)
