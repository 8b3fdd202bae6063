"""The small game that tests of the cores play: bodies that move, health, commands that succeed, refuse and fail."""

from enum import IntEnum

from ecsnet.errors import Reject
from ecsnet.ids import Entity
from ecsnet.schema import Schema, loads
from ecsnet.store import Transaction
from ecsnet.world import Client, World

TEXT = """
[database]
name = "arena"
version = "1.0.0"

[tables.transform]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "x", type = "f32", default = 0.0 },
          { name = "y", type = "f32", default = 0.0 }]

[tables.velocity]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "x", type = "f32", default = 0.0 },
          { name = "y", type = "f32", default = 0.0 }]

[tables.health]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "hp", type = "u16", default = 100, maximum = 100 }]

[tables.secret]
parent_table = "entities"
replicated = false
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "seen", type = "u32", default = 0 }]
"""


class Stance(IntEnum):
    STAND = 0
    CROUCH = 1


def arena_schema() -> Schema:
    return loads(TEXT)


def arena(*, hz: int = 30, seed: int = 0, on_error: str = "raise", moving: bool = True) -> World:
    """A fresh world; tests may register more before they use it."""
    world = World(arena_schema(), hz=hz, seed=seed, on_error=on_error)  # type: ignore[arg-type]

    @world.on_join
    def enter(tx: Transaction, client: Client) -> Entity:
        if client.name == "banned":
            raise Reject("you are banned")
        return tx.spawn(transform={}, velocity={}, health={}, owner=client)

    @world.on_leave
    def leave(tx: Transaction, client: Client) -> None:
        if client.entity:
            tx.despawn(client.entity)

    @world.command(latest=True)
    def steer(tx: Transaction, client: Client, dx: float, dy: float) -> None:
        if dx * dx + dy * dy > 1.01:
            raise Reject("faster than a player can run")
        tx.update(client.entity, "velocity", x=5 * dx, y=5 * dy)

    @world.command
    def hit(tx: Transaction, client: Client, target: Entity) -> None:
        tx[target, "health.hp"] = max(0, tx[target, "health.hp"] - 10)

    @world.command
    def pose(tx: Transaction, client: Client, stance: Stance, note: str) -> None:
        assert isinstance(stance, Stance)
        tx[client.entity, "health.hp"] = int(stance) + len(note)

    @world.command
    def refuse(tx: Transaction, client: Client) -> None:
        tx[client.entity, "health.hp"] = 1
        raise Reject("not today")

    @world.command
    def crash(tx: Transaction, client: Client) -> None:
        tx[client.entity, "health.hp"] = 2
        raise RuntimeError("a bug in the game")

    if moving:

        @world.system
        def move(tx: Transaction) -> None:
            body, speed = tx.query("transform", "velocity")
            body.x += speed.x * tx.dt
            body.y += speed.y * tx.dt

    return world
