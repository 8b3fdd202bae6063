"""The arena for the simulator in its other varieties: with rules of interest, with places that are sent rounded, with
players that write their own speeds, with admins who see more than others.

    interest     players are sent what they own, what is near, and the items that those hold
    quantized    places are rounded to 2 mm on their way
    writes       a player's speed is its own to write; now and then it writes what is not, which must be refused
    roles        every third player is an admin, who alone sees codes and shields, and with rules of interest all items
    budget       players are sent so many bytes a second, and what does not fit waits. Each ship then has a mark, a rank
                 and a crew, which count its ticks together and travel together; a rank is given anew now and then

Beside the arena's own there are drones, which are launched and wrecked, and items, which go from hand to hand: so rows
come and go inside of everybody's sight and outside of it.

Invariant: what a player does is drawn from its own generator, so that a seed decides it.
"""

import math
import zlib
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final, NamedTuple, Protocol

import ecsnet
from ecsnet import (
    Client,
    Component,
    Entity,
    Reject,
    Table,
    Transaction,
    Writer,
    auto,
    enum,
    f32,
    field,
    ref,
    u16,
    u32,
    u64,
)
from ecsnet.auth.account import Account, Login
from ecsnet.demo.arena import Hit, Kind
from ecsnet.demo.model import ArenaModel
from ecsnet.demo.node_process import populate
from ecsnet.demo.options import Options
from ecsnet.demo.simulated import Plays
from ecsnet.demo.simulated import play as play_arena
from ecsnet.errors import LimitExceededError
from ecsnet.interest import always, near, owned, related
from ecsnet.sim.run import Game
from ecsnet.store import Store, View
from ecsnet.wire.writes import DirectWrite

__all__ = ["VariedModel", "Variety", "game", "world_of"]

RADIUS: Final = 25.0
LEAVE_RADIUS: Final = 32.0
"""At five units a second a ship is between the two for a second or more."""

STEP: Final = 0.002
LAUNCHES_PER_S: Final = 1.0
WRECKS_PER_S: Final = 0.8
ITEMS_PER_S: Final = 1.5
PROMOTIONS_PER_S: Final = 1.0
WRITES_PER_S: Final = 6.0
FOREIGN_SHARE: Final = 0.15
"""Of a player's writes, those that it has no right to."""

ITEMS_MAX: Final = 64
DRONES_MAX: Final = 128


class Variety(NamedTuple):
    """See the file."""

    interest: bool = False
    quantized: bool = False
    writes: bool = False
    roles: bool = False
    budget: bool = False


class Bounds(NamedTuple):
    """What a variety with a budget keeps to: bytes of rows a second, and how long a row waits."""

    budget_bytes_s: int | None = None
    staleness_max_s: float = 1.0


@cache
def world_of(variety: Variety) -> ecsnet.World:
    """The world of a variety: one object per process, so use one game of it after the other."""
    step = STEP if variety.quantized else None
    admins = ["admin"] if variety.roles else None

    class Transform(Component, spatial=["x", "y"]):
        x: f32 = field(default=0.0, quantize=step)
        y: f32 = field(default=0.0, quantize=step)

    class Velocity(Component, writers=[Writer(fields=["x", "y"])] if variety.writes else []):
        x: f32 = field(default=0.0)
        y: f32 = field(default=0.0)
        limit: f32 = field(default=5.0)

    class Health(Component, writers=[Writer("admin", fields=["shield"])] if variety.writes else []):
        hp: u16 = field(default=100, maximum=100)
        shield: u16 = field(default=50, visible_to=admins)

    class Code(Component, visible_to=admins):
        code: u32 = field(default=0xC0DE)

    class Drone(Component):
        hull: u16 = field(default=1)

    class Item(Table):
        id: u64 = auto()
        kind: enum[Kind]
        holder: ref = field(to="entities.id", on_delete="set_null", optional=True)

    class Mark(Component):
        ticks: u32 = field(default=0)

    class Rank(Component):
        ticks: u32 = field(default=0)

    class Crew(Table, tied="ship"):
        id: u64 = auto()
        ship: ref = field(to="entities.id", on_delete="cascade")
        ticks: u32 = field(default=0)

    bound = [Mark, Rank, Crew] if variety.budget else []
    schema = ecsnet.Schema("arena", "1.0.0", Transform, Velocity, Health, Code, Drone, Item, Hit, *bound)
    rules = [owned(), near(Transform, radius=RADIUS, leave_radius=LEAVE_RADIUS), related(Item.holder)]
    if variety.budget:
        rules.append(related(Crew.ship))
    if variety.roles:
        rules.append(always(Item, roles=["admin"]))
    world = ecsnet.World(schema, hz=30, interest=rules if variety.interest else [])

    if variety.roles:

        @world.authenticate
        def who(login: Login) -> Account:
            """An account for each name. Every third player is an admin."""
            digits = login.name.rpartition("-")[2]
            role = "admin" if digits.isdecimal() and int(digits) % 3 == 2 else "player"
            return Account(1 + zlib.crc32(login.name.encode()), role=role)

    def manned(tx: Transaction, ship: Entity) -> Entity:
        if variety.budget:
            tx.insert(ship, Mark(), Rank())
            tx.insert(Crew(ship=ship))
        return ship

    @world.on_join
    def enter(tx: Transaction, client: Client) -> Entity:
        return manned(tx, tx.spawn(Transform(), Velocity(), Health(), Code(), owner=client))

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

    @world.command
    def launch(tx: Transaction, client: Client, x: float, y: float) -> None:
        if len(tx.query(Drone)) >= DRONES_MAX:
            raise Reject("enough of them fly")
        manned(tx, tx.spawn(Transform(x=x, y=y), Velocity(), Health(), Drone(), Code(code=7)))

    @world.command
    def wreck(tx: Transaction, client: Client, target: Entity) -> None:
        if tx[target, Drone.hull]:
            tx.despawn(target)

    @world.command
    def take(tx: Transaction, client: Client) -> None:
        if len(tx.query(Item)) >= ITEMS_MAX:
            raise Reject("there are enough")
        tx.insert(Item(kind=Kind.SWORD, holder=client.entity))

    @world.command
    def give(tx: Transaction, client: Client, item: int, target: Entity) -> None:
        tx.update(item, Item, holder=target)

    @world.command
    def lose(tx: Transaction, client: Client, item: int) -> None:
        tx.delete(item, Item)

    @world.system
    def move(tx: Transaction) -> None:
        body, speed = tx.query(Transform, Velocity)
        body.x += speed.x * tx.dt
        body.y += speed.y * tx.dt

    if variety.budget:

        @world.command
        def promote(tx: Transaction, client: Client, target: Entity) -> None:
            ticks = tx[target, Mark.ticks]
            tx.delete(target, Rank).insert(target, Rank(ticks=ticks))

        @world.system
        def count(tx: Transaction) -> None:
            mark, rank = tx.query(Mark, Rank)
            (crew,) = tx.query(Crew)
            mark.ticks += 1
            rank.ticks += 1
            crew.ticks += 1

    return world


class Writes(Plays, Protocol):
    """What this needs of a player, of either simulation."""

    @property
    def entity(self) -> Entity: ...
    def write(self, keys: Any, table: Any, /, **fields: Any) -> object: ...


class VariedModel(ArenaModel):
    """The arena's, with what is written, wrecked and launched. Whose key a drone has, the node says: the model takes it
    from the view in which it sees it first, and looks at it from then on."""

    def __init__(self, hz: int) -> None:
        super().__init__(hz)
        self._launched = 0

    def command(self, client: Client, name: str, arguments: Mapping[str, Any]) -> None:
        if name == "launch":
            self._launched += 1
        elif name == "wreck" and arguments["target"] not in self._places:
            self._launched -= 1  # before the model was shown it
        elif name == "wreck":
            self._remove(arguments["target"])
        elif name != "attack" or arguments["target"] in self._places:
            super().command(client, name, arguments)

    def written(self, client: Client, write: DirectWrite) -> None:
        assert write.keys is not None
        if write.table.name == "health" and client.role == "admin" and set(write.columns) == {"shield"}:
            return
        if write.table.name != "velocity" or write.keys.tolist() != [client.entity] or "limit" in write.columns:
            self._wrong.append(f"{client.name} was let {write.operation} {write.table.name} of {write.keys.tolist()}")
            return
        for name, cells in write.columns.items():
            self._moving["xy".index(name) + 2, self._places[client.entity]] = cells[0]

    def differences(self, view: View) -> Iterable[str]:
        new = [key for key in view["drone"].key.tolist() if key not in self._places]
        if len(new) > self._launched:
            return [f"there are {len(new)} new drones, and {self._launched} were launched", *super().differences(view)]
        for key in new:
            self._adopt(key, view)
        self._launched = 0
        return super().differences(view)

    def check(self, view: View) -> str | None:
        wrong = super().check(view)
        if wrong is not None or "crew" not in view.names.tables:
            return wrong
        keys = {"mark": "entity_id", "rank": "entity_id", "crew": "ship"}
        ticks = [
            dict(zip(view[f"{name}.{key}"].tolist(), view[f"{name}.ticks"].tolist(), strict=True))
            for name, key in keys.items()
        ]
        if ticks[0] == ticks[1] == ticks[2]:
            return None
        odd = next(key for key in {*ticks[0], *ticks[1], *ticks[2]} if len({one.get(key) for one in ticks}) > 1)
        return f"mark, rank and crew of ship {odd:#x} do not travel together: {[one.get(odd) for one in ticks]}"

    def _adopt(self, key: int, view: View) -> None:
        self._spawn(key)
        place = self._places[key]
        self._moving[:, place] = [view[key, f"{table}.{axis}"] for table in ("transform", "velocity") for axis in "xy"]
        self._hp[place] = view[key, "health.hp"]


def game(variety: Variety, bounds: Bounds, *, entities: int, moving: float, seed: int, hz: int | None) -> Game:
    """A variety of the arena, with so many ships beside the players' own, of which the share `moving` moves.

    Raises:
        ArgumentError: a number is out of range.
    """
    options = Options(entities=entities, moving=moving, seed=seed, hz=Options().hz if hz is None else hz)
    world = world_of(variety)
    world.hz, world.seed = options.hz, options.seed
    world.budget_bytes_s, world.staleness_max_s = bounds

    def setup(store: Store) -> None:
        populate(store, options)

    def play(player: Writes) -> None:
        play_arena(player)
        try:
            _play(player, variety, world.hz)
        except LimitExceededError:
            # As in the arena: nobody answers at the moment.
            pass

    return Game(world, setup=setup, play=play, model=lambda: VariedModel(options.hz), on_error="log")


def _play(player: Writes, variety: Variety, hz: int) -> None:
    random = player.random
    if random.random() < LAUNCHES_PER_S / hz:
        x, y = _beside(player)
        player.send("launch", x=x + random.uniform(-40.0, 40.0), y=y + random.uniform(-40.0, 40.0))
    if random.random() < WRECKS_PER_S / hz and (drone := _any(player, "drone")):
        player.send("wreck", target=drone)
    if random.random() < ITEMS_PER_S / hz:
        item, kind = _any(player, "item"), random.random()
        if not item or kind < 0.4:
            player.send("take")
        elif kind < 0.8 and (target := _any(player, "health")):
            player.send("give", item=item, target=target)
        else:
            player.send("lose", item=item)
    if variety.budget and random.random() < PROMOTIONS_PER_S / hz and (ship := _any(player, "mark")):
        player.send("promote", target=ship)
    if variety.writes and random.random() < WRITES_PER_S / hz:
        angle = random.uniform(0.0, 2 * math.pi)
        if random.random() >= FOREIGN_SHARE:
            player.write(player.entity, "velocity", x=5 * math.cos(angle), y=5 * math.sin(angle))
        elif target := _any(player, "velocity"):
            what, cells = random.choice(_FOREIGN)
            player.write(player.entity if what != "velocity" or "limit" in cells else target, what, **cells)


_FOREIGN: Final[tuple[tuple[str, dict[str, float]], ...]] = (
    ("velocity", {"x": 99.0}),
    ("velocity", {"y": 1.0, "limit": 99.0}),
    ("health", {"hp": 100}),
    ("health", {"shield": 7}),
)
"""Somebody else's speed (or one's own, where nobody else is in sight), fields that are nobody's, and one of admins."""


def _any(player: Writes, table: str) -> int:
    """A row that the player sees; 0 if there is none."""
    with player.view as view:
        keys = view[table].key
        return int(keys[player.random.randrange(len(keys))]) if len(keys) else 0


def _beside(player: Writes) -> tuple[float, float]:
    with player.view as view:
        if player.entity not in view:
            return 0.0, 0.0
        return float(view[player.entity, "transform.x"]), float(view[player.entity, "transform.y"])
