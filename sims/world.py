"""A market: a world made to be checked, with rules between rows that hold in every version anybody may see.

| rule | what breaks it |
|---|---|
| the coins of all purses are `COINS` | half a transaction, a delta applied twice or in part, a removal forgotten |
| the clock's tick is the version's | a row of another version, a cell that was not written |
| whoever has a spark has its glow; the clock counts them | a despawn or spawn in part, an index reused |
| the numbers that an honest client counts by only grow | a command run twice, or out of order |
| an item's holder has a purse | a reference that outlived what it names |
| the clock counts the deals that were done | an event row that outlived its version, or its transaction |

`Market` is the same game without a store. `play` is what players do in it; they check on the way that they can read
what they were told was done, and that it was done as often as they were told.

Invariants: all that a system does follows from the rows and the tick; nothing here asks for the time or the wall.
"""

import enum
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ecsnet.errors import EcsnetError, LimitExceededError, Reject
from ecsnet.ids import NULL_ENTITY, Entity
from ecsnet.replica import CommandAnswered
from ecsnet.sim.hostile import NAME as HOSTILE
from ecsnet.sim.model import GameModel, RowsOf
from ecsnet.sim.player import Player
from ecsnet.store import Store, Transaction, View
from ecsnet.world import Client, World
from sims.second_digest import digest

HZ = 30
COINS = 1_000_000
GIFT = 100
"""What a player gets from the bank, and gives back when it leaves."""

HERD = 80
"""Bodies that are nobody's and move: a delta that does not fit one datagram is an ordinary one."""

HERD_MOVING_MAX = 400
"""Of a larger herd the others stand: it is there to be sent whole, not to be computed in plain Python."""

ITEMS_KEPT = 24
SPEED_MAX = 4.0


class Kind(enum.IntEnum):
    COIN = -1
    SWORD = 1
    POTION = 2


class Team(enum.IntEnum):
    RED = 0
    BLUE = 1
    GREEN = 7


world = World(Path(__file__).with_name("market.toml"), hz=HZ)


def setup(store: Store, herd: int = HERD) -> None:
    """The bank, which has all coins, the clock, and a herd."""
    with store.transaction("setup") as tx:
        bank = tx.spawn(purse={"coins": COINS})
        tx.insert("clock", {"id": 1, "bank": bank})
        number = np.arange(herd)
        speed = np.stack([number % 100 / 7, 1.0 - number % 100 / 11], axis=1)
        speed[number % max(1, herd // HERD_MOVING_MAX) != 0] = 0.0
        tx.spawn_many(herd, body={"x": number, "speed": speed, "team": int(Team.GREEN)})


def _bank(tx: Transaction) -> int:
    return int(tx[tx.key("clock.id", 1), "clock.bank"])


@world.on_join
def enter(tx: Transaction, client: Client) -> Entity:
    bank = _bank(tx)
    tx[bank, "purse.coins"] = tx[bank, "purse.coins"] - GIFT
    return tx.spawn(purse={"coins": GIFT}, counter={"honest": client.name != HOSTILE}, body={})


@world.on_leave
def leave(tx: Transaction, client: Client) -> None:
    bank = _bank(tx)
    tx[bank, "purse.coins"] = tx[bank, "purse.coins"] + tx[client.entity, "purse.coins"]
    tx.despawn(client.entity)


@world.command
def count(tx: Transaction, client: Client, number: int) -> None:
    """Adds one. A client names a greater number each time."""
    if number < 0:
        raise Reject("numbers count up")
    me = client.entity
    again = int(tx[me, "counter.again"]) + (number <= int(tx[me, "counter.last"]))
    tx.update(me, "counter", done=int(tx[me, "counter.done"]) + 1, last=number, again=again)


@world.command
def give(tx: Transaction, client: Client, target: Entity, amount: int) -> None:
    """Half of it is done before it is known whether it may be: what is refused must leave nothing behind."""
    coins = int(tx[client.entity, "purse.coins"])
    if not 0 < amount <= coins:
        raise Reject("not that much")
    tx[client.entity, "purse.coins"] = coins - amount
    if target in tx:
        tx.insert("deal", {"giver": client.entity, "taker": target, "amount": amount})
    if (target, "purse") not in tx:
        raise Reject("has no purse")
    tx[target, "purse.coins"] = int(tx[target, "purse.coins"]) + amount


@world.command(latest=True)
def push(tx: Transaction, client: Client, dx: float, dy: float) -> None:
    if not (abs(dx) <= 1.0 and abs(dy) <= 1.0):
        raise Reject("too hard")
    tx.update(client.entity, "body", speed=[SPEED_MAX * dx, SPEED_MAX * dy])


@world.command
def join_team(tx: Transaction, client: Client, team: Team) -> None:
    tx.update(client.entity, "body", team=team)


@world.command
def say(tx: Transaction, client: Client, word: str) -> None:
    if len(word.encode()) > 12 or not word.isprintable():
        raise Reject("too long")
    tx.update(client.entity, "counter", word=word.encode())


@world.command
def make(tx: Transaction, client: Client, kind: Kind) -> None:
    clock = tx.key("clock.id", 1)
    made = int(tx[clock, "clock.made"]) + 1
    tx[clock, "clock.made"] = made
    tx.insert("item", {"id": made, "kind": kind, "holder": client.entity})


@world.command
def take(tx: Transaction, client: Client, item: int) -> None:
    key = tx.find("item.id", item) if 0 <= item < 2**64 else None
    if key is None:
        raise Reject("no such item")
    tx.update(key, "item", holder=client.entity, uses=int(tx[key, "item.uses"]) + 1)


def born_in(tick: int) -> int:
    """How many sparks begin in a tick."""
    return (tick * 2_654_435_761 >> 9) % 3


def dies_in(serial: int, born: int) -> int:
    return born + 5 + serial * 7 % 40


@world.system
def quench(tx: Transaction) -> None:
    (sparks,) = tx.query("spark")
    ends = sparks.born.astype(np.int64) + 5 + sparks.serial.astype(np.int64) * 7 % 40
    due = sparks.key[ends <= tx.tick]
    if len(due):
        tx.insert_many("crack", {"spark": due, "serial": sparks.serial[ends <= tx.tick]})
        tx.despawn(due)


@world.system
def kindle(tx: Transaction) -> None:
    for number in range(born_in(tx.tick)):
        serial = 4 * tx.tick + number
        tx.spawn(spark={"serial": serial, "born": tx.tick}, glow={"pair": serial})


@world.system(every=2)
def heat(tx: Transaction) -> None:
    (sparks,) = tx.query("spark")
    sparks.heat += (sparks.serial % np.uint64(3) == 0).astype(np.uint16)


@world.system
def drift(tx: Transaction) -> None:
    (bodies,) = tx.query("body")
    bodies.x += bodies.speed[:, 0] * tx.dt
    bodies.y += bodies.speed[:, 1] * tx.dt


@world.system(every=7)
def tax(tx: Transaction) -> None:
    """The richest gives a coin to the poorest; of equals the one with the lowest number."""
    (purses,) = tx.query("purse")
    order = np.lexsort((purses.key, purses.coins))
    poorest, richest = int(purses.key[order[0]]), int(_richest(purses.key, purses.coins))
    tx[richest, "purse.coins"] = int(tx[richest, "purse.coins"]) - 1
    tx[poorest, "purse.coins"] = int(tx[poorest, "purse.coins"]) + 1


def _richest(keys: Any, coins: Any) -> Any:
    return keys[coins == coins.max()].min()


@world.system(every=3)
def wear(tx: Transaction) -> None:
    """Old items fall apart."""
    (items,) = tx.query("item")
    old = items.key[items.id.astype(np.int64) <= int(tx[tx.key("clock.id", 1), "clock.made"]) - ITEMS_KEPT]
    if len(old):
        tx.delete_many(old, "item")


@world.system
def stamp(tx: Transaction) -> None:
    clock = tx.key("clock.id", 1)
    deals = int(tx[clock, "clock.deals"]) + tx.query("deal").count()
    tx.update(clock, "clock", tick=tx.tick, sparks=tx.query("spark").count(), deals=deals)


SYSTEMS = {"quench": 1, "kindle": 1, "heat": 2, "drift": 1, "tax": 7, "wear": 3, "stamp": 1}
"""In the order in which they run, and in every how many ticks: said again, for the model."""

# --- the same, without a store ----------------------------------------------------------------------------------------


class Market(GameModel):
    """See the file."""

    def __init__(self) -> None:
        self.bank = 0
        self.tick = 0
        self.made = 0
        self.deals = 0
        self.coins: dict[int, int] = {}
        self.counters: dict[int, dict[str, Any]] = {}
        self.bodies: dict[int, dict[str, Any]] = {}
        self.sparks: dict[int, dict[str, int]] = {}
        """By serial: which entity the store makes of one is its own matter."""
        self.items: dict[int, dict[str, int]] = {}
        self.seen: dict[int, int] = {}
        """Which spark an entity was."""
        self.ran: list[str] = []
        """Systems, since the clock was stamped."""
        self.wrong: list[str] = []

    def started(self, view: View) -> None:
        self.__init__()  # type: ignore[misc]
        # A world that was just set up, or one that a node before this one has left on its disk.
        clock, body, counter, item, spark = (view[name] for name in ("clock", "body", "counter", "item", "spark"))
        self.bank = int(clock["bank"][0])
        self.tick, self.made, self.deals = (int(clock[name][0]) for name in ("tick", "made", "deals"))
        self.coins = dict(zip(view["purse"].key.tolist(), view["purse.coins"].tolist(), strict=True))
        for row, entity in enumerate(body.key.tolist()):
            dx, dy = body["speed"][row]
            team = Team(int(body["team"][row]))
            self.bodies[entity] = {"x": body["x"][row], "y": body["y"][row], "dx": dx, "dy": dy, "team": team}
        for row, entity in enumerate(counter.key.tolist()):
            numbers = {name: int(counter[name][row]) for name in ("done", "last", "again")}
            word = bytes(counter["word"][row])
            self.counters[entity] = {**numbers, "honest": bool(counter["honest"][row]), "word": word}
        for row, number in enumerate(item["id"].tolist()):
            self.items[number] = {name: int(item[name][row]) for name in ("kind", "holder", "uses")}
        for row, serial in enumerate(spark["serial"].tolist()):
            self.sparks[serial] = {name: int(spark[name][row]) for name in ("born", "heat")}

    def joined(self, client: Client) -> None:
        me = client.entity
        self.coins[self.bank] -= GIFT
        self.coins[me] = GIFT
        self.counters[me] = {"done": 0, "last": 0, "again": 0, "honest": client.name != HOSTILE, "word": b""}
        zero = np.float32(0.0)
        self.bodies[me] = {"x": zero, "y": zero, "dx": zero, "dy": zero, "team": Team.RED}

    def left(self, client: Client) -> None:
        me = client.entity
        self.coins[self.bank] += self.coins.pop(me)
        del self.counters[me], self.bodies[me]
        for item in self.items.values():
            if item["holder"] == me:
                item["holder"] = NULL_ENTITY

    def command(self, client: Client, name: str, arguments: Mapping[str, Any]) -> None:
        me = client.entity
        match name:
            case "count":
                self.counters[me]["done"] += 1
                self.counters[me]["again"] += arguments["number"] <= self.counters[me]["last"]
                self.counters[me]["last"] = arguments["number"]
            case "give":
                self.deals += 1
                self.coins[me] -= arguments["amount"]
                self.coins[arguments["target"]] += arguments["amount"]
            case "push":
                self.bodies[me]["dx"] = np.float32(SPEED_MAX * arguments["dx"])
                self.bodies[me]["dy"] = np.float32(SPEED_MAX * arguments["dy"])
            case "join_team":
                self.bodies[me]["team"] = arguments["team"]
            case "say":
                self.counters[me]["word"] = arguments["word"].encode()
            case "make":
                self.made += 1
                self.items[self.made] = {"kind": int(arguments["kind"]), "holder": me, "uses": 0}
            case "take":
                self.items[arguments["item"]]["holder"] = me
                self.items[arguments["item"]]["uses"] += 1

    def system(self, name: str, tick: int) -> None:
        self.ran.append(name)
        match name:
            case "quench":
                for serial in [one for one, spark in self.sparks.items() if dies_in(one, spark["born"]) <= tick]:
                    del self.sparks[serial]
            case "kindle":
                for number in range(born_in(tick)):
                    self.sparks[4 * tick + number] = {"born": tick, "heat": 0}
            case "heat":
                for serial, spark in self.sparks.items():
                    spark["heat"] += serial % 3 == 0
            case "drift":
                dt = np.float32(1 / HZ)
                for body in self.bodies.values():
                    if body["dx"] or body["dy"]:
                        body["x"] += body["dx"] * dt
                        body["y"] += body["dy"] * dt
            case "tax":
                poorest = min(self.coins, key=lambda one: (self.coins[one], one))
                richest = min(self.coins, key=lambda one: (-self.coins[one], one))
                self.coins[richest] -= 1
                self.coins[poorest] += 1
            case "wear":
                for number in [one for one in self.items if one <= self.made - ITEMS_KEPT]:
                    del self.items[number]
            case "stamp":
                self.tick = tick
                due = [system for system, every in SYSTEMS.items() if tick % every == 0]
                if self.ran != due:
                    self.wrong.append(f"in tick {tick} there ran {self.ran}, and {due} were due")
                self.ran = []

    def rows(self) -> RowsOf:
        return {
            "purse": {entity: {"coins": coins} for entity, coins in self.coins.items()},
            "counter": self.counters,
            "body": {
                entity: {
                    "x": body["x"],
                    "y": body["y"],
                    "speed": np.array([body["dx"], body["dy"]], np.float32),
                    "team": body["team"],
                }
                for entity, body in self.bodies.items()
            },
        }

    def differences(self, view: View) -> list[str]:
        found, self.wrong = [*self.wrong, *super().differences(view)], []
        spark, item = view["spark"].to_dict(), view["item"].to_dict()
        sparks = {
            int(serial): {"born": int(born), "heat": int(heat)}
            for serial, born, heat in zip(spark["serial"], spark["born"], spark["heat"], strict=True)
        }
        items = {
            int(number): {"kind": int(kind), "holder": int(holder), "uses": int(uses)}
            for number, kind, holder, uses in zip(item["id"], item["kind"], item["holder"], item["uses"], strict=True)
        }
        for what, theirs, ours in (("spark", sparks, self.sparks), ("item", items, self.items)):
            for number in sorted(theirs.keys() | ours.keys()):
                if theirs.get(number) != ours.get(number):
                    found.append(f"{what} {number} is {theirs.get(number)}, the model has {ours.get(number)}")
        clock = {name: int(view["clock"][name][0]) for name in ("tick", "sparks", "made", "deals")}
        ours_now = {"tick": self.tick, "sparks": len(self.sparks), "made": self.made, "deals": self.deals}
        if clock != ours_now:
            found.append(f"the clock shows {clock}, the model has {ours_now}")
        for key, serial in zip(view["spark"].key.tolist(), spark["serial"].tolist(), strict=True):
            if self.seen.setdefault(key, serial) != serial:
                found.append(f"entity {key:#x} is spark {serial}, and was spark {self.seen[key]}")
        if view.digest() != digest(view, world.schema):
            found.append(f"the digest is {view.digest()}, and {digest(view, world.schema)} computed another way")
        return found

    def check(self, view: View) -> str | None:
        """The rules between rows; see the file."""
        coins = int(view["purse.coins"].sum())
        if coins != COINS:
            return f"there are {coins} coins, not {COINS}"
        clock = view["clock"]
        if len(clock) != 1 or (view.tick and int(clock["tick"][0]) != view.tick):
            return f"the clock shows tick {clock['tick'].tolist()} in a version of tick {view.tick}"
        sparks, glows = view["spark"], view["glow"]
        serials = dict(zip(sparks.key.tolist(), sparks["serial"].tolist(), strict=True))
        pairs = dict(zip(glows.key.tolist(), glows["pair"].tolist(), strict=True))
        if serials != pairs:
            odd = sorted(serials.items() ^ pairs.items())
            return f"sparks and glows are not the same: {[(hex(key), number) for key, number in odd[:4]]}"
        if len(serials) != int(clock["sparks"][0]):
            return f"there are {len(serials)} sparks, the clock counts {int(clock['sparks'][0])}"
        counters = view["counter"]
        wrong = counters["honest"] & (counters["again"] > 0)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            return f"{int(counters.key[row]):#x} counted by numbers that did not grow, {counters['again'][row]} times"
        holders = set(view["item.holder"].tolist()) - {NULL_ENTITY}
        if gone := holders - set(view["purse"].key.tolist()):
            return f"items are held by {sorted(map(hex, gone))}, who have no purse"
        return None


# --- what players do --------------------------------------------------------------------------------------------------


class BrokenPromiseError(EcsnetError):
    """A player could not read what it had been told was done."""


class _Memory:
    """Of one player, in one session: numbers begin anew with a new entity."""

    __slots__ = ("accepted", "counted", "epoch", "forgotten", "pending", "session")

    def __init__(self, session: int, epoch: int) -> None:
        self.session = session
        self.epoch = epoch
        self.counted = 0
        self.accepted = 0
        self.pending: set[int] = set()
        """Tickets that were not answered."""
        self.forgotten = 0
        """Tickets that were not when another epoch began: which of them are done already, nobody here knows."""

    def begin_epoch(self, epoch: int, done: int) -> None:
        """A node may have lost some of what it had said was done: another epoch says so."""
        self.epoch = epoch
        # What was lost the client may say again, as long as it has not acked the version that had it.
        self.forgotten += len(self.pending) + max(0, self.accepted - done)
        self.accepted = done
        self.pending.clear()


def play(player: Player) -> None:
    """One tick of a player: look at what was answered, then do something, more or less often."""
    memory: _Memory | None = getattr(player, "memory", None)
    if memory is None or memory.session != player.session:
        memory = _Memory(player.session, player.replica.epoch)
        player.memory = memory  # type: ignore[attr-defined]
    random = player.random
    with player.view as view:
        _read_back(player, memory, view)
        try:
            for _ in range(random.choice((0, 0, 1, 1, 2))):
                _act(player, memory, view)
        except LimitExceededError:
            pass  # a line that is down answers nothing; then a player waits
    if random.random() < 0.3:
        player.send("push", dx=random.uniform(-1, 1), dy=random.uniform(-1, 1))


def _act(player: Player, memory: _Memory, view: View) -> None:
    random = player.random
    purses, items = view["purse"].key, view["item.id"]
    match random.randrange(8):
        case 0 | 1 | 2:
            ticket = player.send("count", number=memory.counted + 1)
            memory.counted += 1
            memory.pending.add(ticket.number)
        case 3 | 4:
            target = Entity(int(random.choice(purses.tolist())))
            player.send("give", target=target, amount=random.choice((0, 1, 5, 40, 10_000)))
        case 5:
            player.send("make", kind=random.choice(list(Kind)))
        case 6:
            player.send("take", item=random.choice([*items.tolist(), 0]))
        case 7:
            if random.random() < 0.5:
                player.send("say", word="word"[: random.randrange(5)])
            else:
                player.send("join_team", team=random.choice(list(Team)))


def _read_back(player: Player, memory: _Memory, view: View) -> None:
    """What was said to be done can be read from then on, and was done once."""
    for event in player.poll():
        if isinstance(event, CommandAnswered) and event.ticket.number in memory.pending:
            memory.pending.remove(event.ticket.number)
            if event.ticket.status == "accepted":
                memory.accepted += 1
            elif event.ticket.status != "rejected" or event.ticket.reason.startswith("numbers"):
                raise BrokenPromiseError(f"{player.name}: {event.ticket}; a node may refuse it for its rate only")
    done = int(view[player.entity, "counter.done"])
    if memory.epoch != player.replica.epoch:
        memory.begin_epoch(player.replica.epoch, done)
    if not memory.accepted <= done <= memory.accepted + len(memory.pending) + memory.forgotten:
        raise BrokenPromiseError(
            f"{player.name} reads that it counted {done} times; it was told so {memory.accepted} times and waits for "
            f"{len(memory.pending)} answers"
        )
