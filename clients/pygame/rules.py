"""Skirmish: the world of a small arena game. The node, the players, the bots and the tests import it.

Ships move, shoot, pick up what lies around, carry it (an `Item` refers to its holder) and use it. All that decides runs
here, on the node; a client asks by commands and draws what it is sent.
"""

import math
from enum import IntEnum
from typing import Final

import numpy as np

import ecsnet
from ecsnet import (
    Client,
    Component,
    Entity,
    Event,
    Reject,
    Table,
    Transaction,
    auto,
    enum,
    f32,
    field,
    ref,
    string,
    u16,
    u64,
)  # fmt: skip
from ecsnet.interest import always, near, owned, related

ARENA: Final = 1800.0
"""Edge of the square that the game is played in; its corner is (0, 0)."""
SHIP_RADIUS: Final = 18.0
SPEED: Final = 260.0
SHOT_SPEED: Final = 640.0
SHOT_S: Final = 1.1
RELOAD_S: Final = 0.22
DAMAGE: Final = 12
LOOT_COUNT: Final = 26
CARRIED_MAX: Final = 6
MEDKIT_HP: Final = 45
OVERDRIVE_S: Final = 6.0
FULL_HP: Final = 100


class Kind(IntEnum):
    MEDKIT, OVERDRIVE = 1, 2


class Body(Component, spatial=["x", "y"]):
    x: f32 = field(default=0.0, quantize=0.05)
    y: f32 = field(default=0.0, quantize=0.05)
    facing: f32 = field(default=0.0, quantize=0.005)  # radians


class Motion(Component):
    x: f32 = field(default=0.0, quantize=0.5)  # a second
    y: f32 = field(default=0.0, quantize=0.5)


class Helm(Component):
    """What the player wants."""

    x: f32 = field(default=0.0, minimum=-1.0, maximum=1.0)
    y: f32 = field(default=0.0, minimum=-1.0, maximum=1.0)
    fire: u16 = field(default=0, maximum=1)


class Ship(Component):
    name: string = field(length=24, default="")
    hue: u16 = field(default=0, maximum=359)


class Health(Component):
    hp: u16 = field(default=FULL_HP, maximum=FULL_HP)


class Gun(Component):
    heat: f32 = field(default=0.0)  # seconds until it fires again
    overdrive: f32 = field(default=0.0)  # seconds left


class Shot(Component):
    shooter: ref = field(to="entities.id", on_delete="cascade")
    left: f32 = field(default=SHOT_S)  # seconds


class Loot(Component):
    kind: enum[Kind]


class Item(Table):
    id: u64 = auto()
    kind: enum[Kind]
    holder: ref = field(to="entities.id", on_delete="cascade")


class Blip(Table):
    """What everybody is told of every ship, however far away: who, how good, and roughly where."""

    id: u64 = auto()
    ship: ref = field(to="entities.id", on_delete="cascade")
    name: string = field(length=24, default="")
    hue: u16 = field(default=0, maximum=359)
    score: u16 = field(default=0)
    x: f32 = field(default=0.0, quantize=10.0)
    y: f32 = field(default=0.0, quantize=10.0)


class Hit(Event):
    target: ref = field(to="entities.id")
    x: f32
    y: f32


class Blast(Event):
    x: f32
    y: f32
    hue: u16


class Taken(Event):
    who: ref = field(to="entities.id")
    kind: enum[Kind]


components = (Body, Motion, Helm, Ship, Health, Gun, Shot, Loot)
schema = ecsnet.Schema("skirmish", "1.0.0", *components, Item, Blip, Hit, Blast, Taken)

SIGHT: Final = 820.0
"""How far a player sees: the window's half diagonal and some."""

# What each player is sent: the own ship, what is near it, what those carry, and a blip of everybody.
world = ecsnet.World(
    schema,
    hz=30,
    interest=[owned(), near(Body, radius=SIGHT), related(Item.holder), always(Blip)],
)


@world.on_join
def enter(tx: Transaction, client: Client) -> Entity:
    x, y = somewhere(tx)
    name, hue = client.name[:24], int(tx.random.integers(360))
    ship = tx.spawn(Body(x=x, y=y), Motion(), Helm(), Ship(name=name, hue=hue), Health(), Gun(), owner=client)
    tx.insert(Blip(ship=ship, name=name, hue=hue, x=x, y=y))
    return ship


@world.on_leave
def leave(tx: Transaction, client: Client) -> None:
    if client.entity:
        tx.despawn(client.entity)  # with its shots and what it carried


@world.command(latest=True)
def steer(tx: Transaction, client: Client, dx: float, dy: float, facing: float, fire: bool) -> None:
    length = math.hypot(dx, dy)
    if length > 1.01:
        raise Reject("faster than a ship can fly")
    tx.update(client.entity, Helm, x=dx, y=dy, fire=int(fire))
    tx.update(client.entity, Body, facing=math.remainder(facing, math.tau))


@world.command
def use(tx: Transaction, client: Client, kind: Kind) -> None:
    """Use up one of what the ship carries."""
    me = client.entity
    carried = tx.query(Item).where((Item.holder == me) & (Item.kind == kind)).key
    if len(carried) == 0:
        raise Reject(f"you carry no {kind.name.lower()}")
    if kind is Kind.MEDKIT:
        if tx[me, Health.hp] == FULL_HP:
            raise Reject("you are unhurt")
        tx[me, Health.hp] = min(FULL_HP, tx[me, Health.hp] + MEDKIT_HP)
    else:
        tx.update(me, Gun, overdrive=OVERDRIVE_S)
    tx.delete(int(carried[0]), Item)


@world.system
def drive(tx: Transaction) -> None:
    helm, motion = tx.query(Helm, Motion)
    grip = min(1.0, 7.0 * tx.dt)
    motion.x += (helm.x * SPEED - motion.x) * grip
    motion.y += (helm.y * SPEED - motion.y) * grip


@world.system
def move(tx: Transaction) -> None:
    body, motion = tx.query(Body, Motion)
    body.x = np.clip(body.x + motion.x * tx.dt, 0.0, ARENA)
    body.y = np.clip(body.y + motion.y * tx.dt, 0.0, ARENA)


@world.system
def shoot(tx: Transaction) -> None:
    guns = tx.query(Gun, Helm, Body, Motion)
    gun, helm, body, motion = guns
    gun.heat = np.maximum(gun.heat - tx.dt, 0.0)
    gun.overdrive = np.maximum(gun.overdrive - tx.dt, 0.0)
    firing = (helm.fire == 1) & (gun.heat <= 0.0)
    if not firing.any():
        return
    gun.heat[firing] = np.where(gun.overdrive[firing] > 0.0, RELOAD_S / 2, RELOAD_S)
    ahead = np.stack([np.cos(body.facing[firing]), np.sin(body.facing[firing])])
    tx.spawn_many(
        Body(
            x=body.x[firing] + ahead[0] * SHIP_RADIUS,
            y=body.y[firing] + ahead[1] * SHIP_RADIUS,
            facing=body.facing[firing],
        ),
        Motion(x=ahead[0] * SHOT_SPEED + motion.x[firing], y=ahead[1] * SHOT_SPEED + motion.y[firing]),
        Shot(shooter=guns.entity[firing], left=SHOT_S),
    )


@world.system
def strike(tx: Transaction) -> None:
    shots = tx.query(Shot, Body)
    shot, at = shots
    shot.left -= np.float32(tx.dt)
    over = (shot.left <= 0.0) | (at.x <= 0.0) | (at.x >= ARENA) | (at.y <= 0.0) | (at.y >= ARENA)
    ships = tx.query(Ship, Body, Health)
    ship, body, health = ships
    hits: list[tuple[int, int]] = []
    if len(shots.entity) and len(ships.entity):
        near = (at.x[:, None] - body.x) ** 2 + (at.y[:, None] - body.y) ** 2 < SHIP_RADIUS**2
        near &= shot.shooter[:, None] != ships.entity
        for number, target in zip(*np.nonzero(near & ~over[:, None]), strict=True):
            if not over[number]:  # it hits one ship, the first
                over[number] = True
                hits.append((int(number), int(target)))
    scorers = []
    for number, target in hits:
        tx.insert(Hit(target=int(ships.entity[target]), x=float(at.x[number]), y=float(at.y[number])))
        if health.hp[target] > DAMAGE:
            health.hp[target] -= DAMAGE
            continue
        tx.insert(Blast(x=float(body.x[target]), y=float(body.y[target]), hue=int(ship.hue[target])))
        scorers.append(int(shot.shooter[number]))
        body.x[target], body.y[target] = somewhere(tx)
        health.hp[target] = FULL_HP
    gone = shots.entity[over].copy()
    for shooter in scorers:
        for blip in tx.query(Blip).where(Blip.ship == shooter).key.tolist():
            tx[blip, Blip.score] = min(0xFFFF, tx[blip, Blip.score] + 1)
    tx.despawn(gone)


@world.system
def pick_up(tx: Transaction) -> None:
    loot = tx.query(Loot, Body)
    ships = tx.query(Ship, Body)
    if len(loot.entity) == 0 or len(ships.entity) == 0:
        return
    (what, lies), (_, body) = loot, ships
    near = (lies.x[:, None] - body.x) ** 2 + (lies.y[:, None] - body.y) ** 2 < (1.8 * SHIP_RADIUS) ** 2
    taken = []
    for number, who in zip(*np.nonzero(near), strict=True):
        holder, kind = int(ships.entity[who]), Kind(int(what.kind[number]))
        lying = int(loot.entity[number])
        if lying in taken or tx.query(Item).where(Item.holder == holder).count() >= CARRIED_MAX:
            continue
        taken.append(lying)
        tx.insert(Item(kind=kind, holder=holder))
        tx.insert(Taken(who=holder, kind=kind))
    for lying in taken:
        tx.despawn(lying)


@world.system(every=10)
def blink(tx: Transaction) -> None:
    (blip,) = tx.query(Blip)
    ships = tx.query(Ship, Body)
    _, body = ships
    order = np.argsort(ships.entity)
    rows = order[np.searchsorted(ships.entity, blip.ship, sorter=order)]
    blip.x, blip.y = body.x[rows], body.y[rows]


@world.system(every=15)
def scatter(tx: Transaction) -> None:
    missing = LOOT_COUNT - tx.query(Loot).count()
    for _ in range(missing):
        x, y = somewhere(tx)
        tx.spawn(Body(x=x, y=y), Loot(kind=Kind.MEDKIT if tx.random.random() < 0.6 else Kind.OVERDRIVE))


def somewhere(tx: Transaction) -> tuple[float, float]:
    """A place in the arena, not at its very edge."""
    x, y = tx.random.uniform(0.06 * ARENA, 0.94 * ARENA, 2)
    return float(x), float(y)
