"""What clients are told is what they may see: random worlds, rules, clients and links, beside a model in Python."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ecsnet._kernel.audiences import Audiences, HistoryGone, Profile, Rule
from ecsnet._kernel.kernel import KernelStore
from ecsnet._kernel.pin import Pin
from ecsnet.errors import ArgumentError, LimitExceededError, NoRowError, StaleEntityError
from ecsnet.schema import Schema, loads
from tests.kernel.interest_model import InterestModel, ModelAudience

TEXT = """
[database]
name = "sight"
version = "1.0.0"

[tables.place]
parent_table = "entities"
spatial = ["x", "y"]
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "x", type = "f32" }, { name = "y", type = "f32", quantize = 0.01 }]

[tables.health]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "hp", type = "u16", minimum = 1 },
          { name = "plan", type = "u32", minimum = 1, visible_to = ["admin"] },
          { name = "note", type = "string[20]", default = "", visible_to = ["admin"] }]

[tables.score]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "points", type = "u32", default = 0 }]

[tables.trap]
parent_table = "entities"
visible_to = ["admin"]
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "prey", type = "u64", foreign_key = "entities.id", optional = true }]

[tables.guild]
fields = [{ name = "id", type = "u32", auto_increment = true }, { name = "colour", type = "u8" }]
primary_key = "id"

[tables.item]
fields = [{ name = "id", type = "u32", auto_increment = true },
          { name = "holder", type = "u64", foreign_key = "entities.id", optional = true },
          { name = "guild", type = "u32", foreign_key = "guild.id", optional = true, on_delete = "set_null" },
          { name = "inside", type = "u32", foreign_key = "item.id", optional = true, on_delete = "set_null" }]
primary_key = "id"
"""

SCHEMA = loads(TEXT)
IDS = {table.name: table.id for table in SCHEMA.tables}
COMPONENTS = ("place", "health", "score", "trap")


def new_store() -> KernelStore:
    kernel = KernelStore(SCHEMA, entities_max=1 << 14)
    kernel.take_baton()
    kernel.publish(0, genesis=True)
    return kernel


def rules_of(r: random.Random, schema: Schema) -> list[Rule]:
    """Some of each kind, as a schema may have them."""
    place, item = schema.table("place"), schema.table("item")
    fields = tuple(place.field(name).id for name in ("x", "y"))
    references = {name: item.field(name).id for name in ("holder", "guild", "inside")}
    pool = [
        Rule("owned"),
        Rule("near", (place.id,), fields, 15.0, 20.0),
        Rule("near", (place.id,), fields, 6.0, 6.0, every=r.choice([2, 3])),
        Rule("related", (item.id,), (references["holder"],)),
        Rule("related", (item.id,), (references["inside"],)),
        Rule("related", (item.id,), (references["guild"],), referred=True),
        Rule("related", (item.id,), (references["holder"],), referred=True),
        Rule("related", (IDS["trap"],), (schema.table("trap").field("prey").id,), referred=r.random() < 0.5),
        Rule("query", (IDS["health"],)),
        Rule("query", (item.id,)),
        Rule("always", (IDS["guild"],)),
        Rule("always", (IDS["score"],)),
        Rule("always", (0,)),
    ]
    r.shuffle(pool)
    return pool[: r.randrange(1, len(pool))]


class Game:
    """A world that changes, clients that look at it, and the model that knows what they may see."""

    def __init__(self, seed: int, clients: int = 5) -> None:
        self.r = random.Random(seed)
        self.kernel = new_store()
        self.tick = 0
        self.alive: list[int] = []
        self.items: list[int] = []
        self.guilds: list[int] = []
        self.waited = 0
        self.spawn_some(12)
        self.publish()
        self.rules = self.choose_rules(SCHEMA)
        self.profiles = [Profile.of_role(SCHEMA, "player"), Profile.of_role(SCHEMA, "admin")]
        self.audiences = Audiences(self.kernel, self.profiles, self.rules)
        self.model = InterestModel(SCHEMA, self.rules)
        self.clients: list[Client] = [Client(self) for _ in range(clients)]

    def choose_rules(self, schema: Schema) -> list[Rule]:
        return rules_of(self.r, schema)

    def mask(self) -> int:
        """Which of the rules hold for a client, a bit each."""
        return 0 if self.r.random() < 0.15 else self.r.randrange(1, 1 << len(self.rules))

    # --- the world ---

    def change(self) -> None:
        """One transaction of a few operations, and a version of it."""
        r, before = self.r, self.kernel.head_version
        while self.kernel.head_version == before:
            self.kernel.begin()
            for _ in range(r.choice([1, 3, 10])):
                r.choices(
                    [self._spawn, self._despawn, self._move, self._component, self._keyed, self._refer],
                    [3, 2, 12, 3, 3, 4],
                )[0]()
            self.kernel.commit()
            self.publish()

    def spawn_some(self, n: int) -> None:
        self.kernel.begin()
        for _ in range(n):
            self._spawn()
        self.kernel.commit()

    def publish(self) -> None:
        self.tick += self.r.choice([1, 1, 2])
        self.kernel.publish(self.tick)

    def cells(self, name: str) -> tuple[Any, ...]:
        r = self.r
        if name == "place":
            x = float("nan") if r.random() < 0.03 else r.uniform(-30, 30)
            return np.float32(x), np.float32(r.uniform(-30, 30))
        if name == "health":
            text = r.choice([b"", b"ein", b"zwei"])
            return r.randrange(1, 100), len(text), text, r.randrange(1, 9)
        if name == "score":
            return (r.randrange(100),)
        return (self.somebody(),)

    def somebody(self) -> int:
        return self.r.choice([0, *self.alive])

    def shape(self, name: str) -> Any:
        return self.kernel.shape(IDS[name], tuple(field.id for field in SCHEMA.table(name).fields))

    def has(self, name: str, key: int) -> bool:
        try:
            self.kernel.row(IDS[name], key)
        except (StaleEntityError, NoRowError):
            return False
        return True

    def _spawn(self) -> None:
        parts = [(self.shape(name), self.cells(name)) for name in COMPONENTS if self.r.random() < 0.7]
        self.alive.append(self.kernel.spawn(self.r.choice([0, 0, 1, 2]), parts))

    def _despawn(self) -> None:
        if len(self.alive) > 4:
            self.kernel.despawn(self.alive.pop(self.r.randrange(len(self.alive))))
            # Cascades may have taken others along.
            self.alive = [key for key in self.alive if self.has("entities", key)]
            self.items = [key for key in self.items if self.has("item", key)]

    def _move(self) -> None:
        key = self.r.choice(self.alive)
        if self.has("place", key):
            self.kernel.update(self.shape("place"), key, self.cells("place"))

    def _component(self) -> None:
        name, key = self.r.choice(COMPONENTS), self.r.choice(self.alive)
        if not self.has(name, key):
            self.kernel.insert(self.shape(name), key, self.cells(name))
        elif self.r.random() < 0.4:
            self.kernel.delete(IDS[name], key)
        else:
            self.kernel.update(self.shape(name), key, self.cells(name))

    def _keyed(self) -> None:
        r = self.r
        if r.random() < 0.3:
            colour = self.kernel.shape(IDS["guild"], (SCHEMA.table("guild").field("colour").id,))
            self.guilds.append(self.kernel.insert_keyed(colour, (r.randrange(9),)))
        elif r.random() < 0.2 and self.items:
            self.kernel.delete(IDS["item"], self.items.pop(r.randrange(len(self.items))))
            self.items = [key for key in self.items if self.has("item", key)]
        else:
            holder = self.kernel.shape(IDS["item"], (SCHEMA.table("item").field("holder").id,))
            self.items.append(self.kernel.insert_keyed(holder, (self.somebody(),)))

    def _refer(self) -> None:
        if not self.items:
            return
        item, key = SCHEMA.table("item"), self.r.choice(self.items)
        if not self.has("item", key):
            return
        name = self.r.choice(["holder", "guild", "inside"])
        value: int = self.somebody()
        if name != "holder":
            table, keys = ("guild", self.guilds) if name == "guild" else ("item", self.items)
            keys = [one for one in keys if self.has(table, one)]
            value = 0
            if keys and self.r.random() < 0.8:
                id_field = SCHEMA.table(table).field("id").id
                value = int(self.kernel.read_cell(IDS[table], id_field, self.r.choice(keys)))
        self.kernel.update(self.kernel.shape(item.id, (item.field(name).id,)), key, (value,))

    # --- looking at it ---

    def tell(self) -> None:
        """Focus, what is shown by hand, what queries find: any of it may change, stale keys among it."""
        r = self.r
        some = [*self.alive, 5 << 32 | 3, 1 << 40]
        for client in self.clients:
            if r.random() < 0.3:
                client.model.focus = r.sample(some, min(len(some), r.choice([0, 1, 1, 3])))
                client.model.due = True
                self.audiences.focus(client.handle, np.array(client.model.focus, np.uint64))
            if r.random() < 0.2:
                client.model.revealed = r.sample(some, r.choice([0, 1, 2]))
                client.model.due = True
                self.audiences.reveal(client.handle, np.array(client.model.revealed, np.uint64))
        for n in self.model.found:
            keys = self.items if SCHEMA.table_by_id(self.rules[n].tables[0]).kind == "keyed" else self.alive
            self.model.found[n] = r.sample(keys, min(len(keys), r.choice([0, 2, 5])))
            self.audiences.found(n, np.array(self.model.found[n], np.uint64))

    def look(self, pin: Pin, clients: "list[Client]") -> None:
        self.audiences.update(pin, np.array([client.handle for client in clients], np.uint32))
        for client in clients:
            self.model.update(pin, client.model)
            for table, keys in client.model.sees.items():
                found = self.audiences.visible(pin, client.handle, table)
                assert set(found.tolist()) == keys, (table, self.rules, client.model)
                assert len(found) == len(keys)
            client.seen[pin.version] = {table: set(keys) for table, keys in client.model.sees.items()}


class Client:
    """A client with a replica, which holds any of the versions that it was sent."""

    def __init__(self, game: Game) -> None:
        r = game.r
        profile = r.randrange(2)
        rules = game.mask()
        owner = r.choice([0, 1, 2])
        self.game = game
        self.handle = game.audiences.open(profile, owner=owner, rules=rules)
        numbers = tuple(n for n in range(len(game.rules)) if rules >> n & 1)
        self.model = ModelAudience(self.handle, game.profiles[profile], owner, numbers)
        self.replica = KernelStore(SCHEMA, entities_max=1 << 14)
        self.held = 0
        self.acked = 0
        self.pin: Pin | None = None
        self.seen: dict[int, dict[int, set[int]]] = {}

    def take(self, blocks: list[Any], base: int, pin: Pin) -> None:
        before = self.rows() if self.held else {}
        self.replica.apply(blocks, base, pin.version, pin.tick)
        was, self.held, self.pin = self.held, pin.version, pin.again()
        self.check(pin)
        if len(blocks) == 1 and base > 0:
            self.check_sight(pin, before, was)

    def rows(self) -> dict[int, set[int]]:
        pin = self.replica.acquire()
        return {table: set(pin.keys(table).tolist()) for table in self.model.profile.tables if SCHEMA_REPLICATED[table]}

    def check(self, pin: Pin) -> None:
        """It holds exactly what it may see, and of that every cell."""
        mine = self.replica.acquire()
        for table in SCHEMA.tables:
            if not SCHEMA_REPLICATED[table.id]:
                continue
            keys = self.model.sees.get(table.id, set())
            assert set(mine.keys(table.id).tolist()) == keys, (table.name, self.game.rules, self.model)
            for field in table.fields:
                if field.type == "string":
                    theirs: Any = pin.texts(table.id, field.id).decode()
                    ours: Any = mine.texts(table.id, field.id).decode()
                else:
                    theirs, ours = pin.column(table.id, field.id), mine.column(table.id, field.id)
                hidden = (table.id, field.id) in self.model.profile.hidden
                for key in keys:
                    found = ours[mine.row(table.id, key)]
                    if hidden:
                        assert not found, (table.name, field.name)
                    else:
                        wanted = theirs[pin.row(table.id, key)]
                        near = bool(field.quantize) and abs(found - wanted) <= field.quantize * 0.51
                        assert found == wanted or near or found != found, (table.name, field.name)
        assert mine.digest() == self.game.audiences.digest(pin, self.handle)

    def check_sight(self, pin: Pin, before: dict[int, set[int]], was: int) -> None:
        """Who came into sight and is older than that, and who went out of it and lives."""
        entered, left = (set(keys.tolist()) for keys in self.replica.sight())
        living = set(pin.keys(0).tolist())
        now = self.model.sees.get(0, set())
        assert left <= before[0] - now
        assert entered <= now - before[0]
        # Who lives and is not seen any more has left; what a gap of several versions hides may be either.
        if was == self.last_seen(pin.version):
            assert {key for key in before[0] - now if key in living} == left

    def last_seen(self, version: int) -> int:
        return max((one for one in self.seen if one < version), default=0)


SCHEMA_REPLICATED = {table.id: table.replicated and table.kind != "event" for table in SCHEMA.tables}


@pytest.fixture(params=range(30))
def game(request: pytest.FixtureRequest) -> Iterator[Game]:
    yield Game(request.param)


def test_each_client_holds_what_it_may_see_in_every_version(game: Game) -> None:
    """Bases are the last version, an older one that was acked, or nothing; a client may sleep for some versions."""
    r = game.r
    for step in range(25):
        game.tell()
        game.change()
        pin = game.kernel.acquire()
        awake = [client for client in game.clients if r.random() < 0.8]
        game.look(pin, awake)
        for client in awake:
            base = 0 if client.held == 0 or r.random() < 0.03 else r.choice([client.held, client.acked])
            reference = client.pin if base == client.held and base > 0 and r.random() < 0.5 else None
            cut = game.audiences.delta(pin, client.handle, base, reference=reference)
            assert cut.cursor is None
            if r.random() < 0.3:
                continue  # lost, on the way
            client.take([cut.block], base, pin)
            if r.random() < 0.5:
                client.acked = client.held
                game.audiences.settle(client.handle, client.acked)
        pin.release()
        if step % 8 == 7:
            gone = game.clients.pop(r.randrange(len(game.clients)))
            game.audiences.close(gone.handle)
            game.clients.append(Client(game))


def test_all_deltas_in_one_call_are_those_of_one_call_each(game: Game) -> None:
    r = game.r
    for _ in range(12):
        game.tell()
        game.change()
        pin = game.kernel.acquire()
        game.look(pin, game.clients)
        clients = r.sample(game.clients, len(game.clients))
        bases = [client.held for client in clients]
        pins = {client.held: client.pin for client in clients if client.pin is not None and r.random() < 0.7}
        handles = np.array([client.handle for client in clients], np.uint32)
        each = [
            game.audiences.delta(pin, client.handle, base, reference=pins.get(base))
            for client, base in zip(clients, bases, strict=True)
        ]
        found = game.audiences.deltas(pin, handles, np.array(bases, np.uint64), pins)
        for n, (client, base) in enumerate(zip(clients, bases, strict=True)):
            assert bytes(found[n]) == (each[n].block if each[n].rows else b"")
            if found.lengths[n] == 0:
                continue
            client.take([bytes(found[n])], base, pin)
        limited = game.audiences.deltas(pin, handles, np.array(bases, np.uint64), pins, bytes_max=40)
        assert all(
            (length == -2) == (len(cut.block) > 40 and cut.rows > 0)
            for length, cut in zip(limited.lengths, each, strict=True)
        )


def test_chunks_of_newer_and_newer_versions_make_one(game: Game) -> None:
    """Between two chunks the world changes, and so does what the client sees of it."""
    r = game.r
    for client in game.clients:
        for _ in range(2):
            base, first, cursor, blocks = r.choice([0, client.held]), None, None, []
            while True:
                pin = game.kernel.acquire()
                game.look(pin, [client])
                first = pin.version if first is None else first
                part = game.audiences.delta(pin, client.handle, base, cursor, r.choice([40, 100]))
                blocks.append(part.block)
                cursor = part.cursor
                if cursor is None:
                    break
                if len(blocks) < 20:
                    game.tell()
                    game.change()
            game.tell()
            game.change()
            pin = game.kernel.acquire()
            game.look(pin, [client])
            blocks.append(game.audiences.delta(pin, client.handle, first).block)
            client.take(blocks, base, pin)


class Told:
    """A client with a budget: which version of each row it may hold."""

    def __init__(self, game: Game, client: Client, staleness: int) -> None:
        self.game, self.client, self.staleness = game, client, staleness
        self.versions: dict[tuple[int, int], int] = {}
        self.pins: dict[int, Pin] = {}

    def cells(self, pin: Pin, table: Any, key: int) -> tuple[Any, ...] | None:
        try:
            row = pin.row(table.id, key)
        except (StaleEntityError, NoRowError):
            return None
        hidden = self.client.model.profile.hidden
        return tuple(
            (pin.text(table.id, one.id, row) if one.type == "string" else pin.column(table.id, one.id)[row].item())
            for one in table.fields
            if (table.id, one.id) not in hidden
        )

    def check(self, pin: Pin) -> None:
        """Exactly the rows that are in sight; each as it was in one version, none before the last known; those of one
        entity of the same."""
        self.pins[pin.version] = pin.again()
        mine = self.client.replica.acquire()
        sees = self.client.model.sees
        groups: dict[tuple[int, int], list[tuple[Any, int]]] = {}
        for table in SCHEMA.tables:
            if not SCHEMA_REPLICATED[table.id]:
                continue
            keys = sees.get(table.id, set())
            assert set(mine.keys(table.id).tolist()) == keys
            for key in keys:
                groups.setdefault((0 if table.kind != "keyed" else table.id, key), []).append((table, key))
        before, self.versions = self.versions, {}
        for group, rows in groups.items():
            fit = [
                version
                for version, then in self.pins.items()
                if all(alike(self.cells(mine, table, key), self.cells(then, table, key)) for table, key in rows)
            ]
            since = [version for version in fit if version >= before.get(group, 0)]
            assert since, (group, fit, before.get(group))
            self.versions[group] = min(since)
            assert max(since) >= pin.version - self.staleness, (group, since, pin.version)


def alike(ours: Any, theirs: Any) -> bool:
    """Equal, but for what the wire rounds."""
    if ours is None or theirs is None:
        return ours is theirs
    return all(
        a == b or (a != a and b != b) or (isinstance(a, float) and abs(a - b) <= 0.0051)
        for a, b in zip(ours, theirs, strict=True)
    )


def test_with_a_budget_rows_wait_whole_and_not_too_long(game: Game) -> None:
    """Whatever is lost on the way: each row is as it was in one version, never an older one than before."""
    r = game.r
    waited = 0
    tolds = [Told(game, client, r.choice([3, 6])) for client in game.clients]
    for step in range(20):
        if step % 4 == 0:
            game.tell()
        game.change()
        pin = game.kernel.acquire()
        game.look(pin, game.clients)
        for told in tolds:
            client = told.client
            told.pins[pin.version] = pin.again()
            game.audiences.budget(client.handle, r.choice([1, 40, 90]), told.staleness)
            held = told.pins.get(client.acked) if client.acked == client.held else None
            cut = game.audiences.delta(pin, client.handle, client.acked, reference=held)
            waited += game.audiences.pending(client.handle)
            if r.random() < 0.25:
                continue
            client.replica.apply([cut.block], client.acked, pin.version, pin.tick)
            client.held = pin.version
            told.check(pin)
            if r.random() < 0.6:
                client.acked = client.held
                game.audiences.settle(client.handle, client.acked)
    game.change()
    pin = game.kernel.acquire()
    game.look(pin, game.clients)
    for told in tolds:
        client = told.client
        game.audiences.budget(client.handle, 0, 1)
        cut = game.audiences.delta(pin, client.handle, client.acked)
        client.take([cut.block], client.acked, pin)
        assert game.audiences.pending(client.handle) == 0
    game.waited = waited


def test_budgets_made_rows_wait_in_those_worlds() -> None:
    """The test above says nothing where everything fits."""
    waited = 0
    for seed in range(6):
        game = Game(seed)
        test_with_a_budget_rows_wait_whole_and_not_too_long(game)
        waited += game.waited
    assert waited > 50


def one_seen() -> tuple[KernelStore, Audiences, int, int]:
    """A store with one entity, and an audience that is shown it."""
    kernel = new_store()
    kernel.begin()
    key = kernel.spawn(1, [])
    kernel.commit()
    kernel.publish(1)
    audiences = Audiences(kernel, [Profile.of_role(SCHEMA, "player")], [Rule("owned")])
    return kernel, audiences, audiences.open(0, owner=1), key


def test_what_came_and_went_is_remembered_until_it_is_settled() -> None:
    kernel, audiences, handle, key = one_seen()
    audiences.update(kernel.acquire())
    owner = kernel.shape(0, (0,))
    for version in range(2, 6):
        kernel.begin()
        kernel.update(owner, key, (version % 2,))
        kernel.commit()
        kernel.publish(version)
        audiences.update(kernel.acquire())
    pin = kernel.acquire()
    assert audiences.statistics(handle).entries == 4
    before = audiences.delta(pin, handle, 2)

    audiences.settle(handle, 3)

    assert audiences.statistics(handle).entries == 2
    assert audiences.delta(pin, handle, 3).rows == before.rows == 1
    with pytest.raises(HistoryGone):
        audiences.delta(pin, handle, 2)
    told = audiences.deltas(pin, np.array([handle] * 2, np.uint32), np.array([2, 3], np.uint64))
    assert told.lengths[0] == -1
    assert told.lengths[1] == len(audiences.delta(pin, handle, 3).block)


def test_an_audience_that_did_not_see_a_version_is_told_nothing_of_it() -> None:
    kernel, audiences, handle, key = one_seen()
    early = kernel.acquire()
    with pytest.raises(ArgumentError):
        audiences.delta(early, handle, 0)
    audiences.update(early)
    kernel.begin()
    kernel.update(kernel.shape(0, (0,)), key, (2,))
    kernel.commit()
    kernel.publish(2)
    pin = kernel.acquire()

    for refused in (audiences.delta, lambda pin, handle, base: audiences.digest(pin, handle)):
        with pytest.raises(ArgumentError):
            refused(pin, handle, 1)
    audiences.update(pin)
    with pytest.raises(ArgumentError):
        audiences.update(early)
    with pytest.raises(ArgumentError):
        audiences.delta(pin, handle, 3)
    assert audiences.delta(pin, handle, 1).rows == 1


def test_a_handle_that_was_closed_names_nobody() -> None:
    _, audiences, handle, _ = one_seen()
    audiences.close(handle)

    for refused in (audiences.close, audiences.pending, audiences.statistics):
        with pytest.raises(ArgumentError, match="not open"):
            refused(handle)
    assert audiences.open(0) == handle


@pytest.mark.parametrize(
    "rule",
    [
        Rule("always"),
        Rule("always", (999,)),
        Rule("near", (IDS["place"],), (0, 1), 0.0, 1.0),
        Rule("near", (IDS["place"],), (0, 1), 2.0, 1.0),
        Rule("near", (IDS["place"],), (0, 1), 1.0, float("inf")),
        Rule("near", (IDS["place"],), (0,), 1.0, 1.0),
        Rule("near", (IDS["place"],), (0, 9), 1.0, 1.0),
        Rule("near", (IDS["health"],), (0, 1), 1.0, 1.0),
        Rule("near", (IDS["item"],), (0, 1), 1.0, 1.0),
        Rule("related", (IDS["place"],), (0,)),
        Rule("related", (), ()),
        Rule("query", ()),
    ],
)
def test_a_rule_that_does_not_fit_the_schema_is_refused(rule: Rule) -> None:
    with pytest.raises(ArgumentError):
        Audiences(new_store(), [Profile.of_role(SCHEMA, "player")], [rule])


def test_what_one_client_may_look_at_is_bounded() -> None:
    _, audiences, handle, _ = one_seen()
    for call in (audiences.focus, audiences.reveal):
        with pytest.raises(LimitExceededError):
            call(handle, np.zeros(5000, np.uint64))
    with pytest.raises(ArgumentError):
        audiences.found(0, [1])
    with pytest.raises(ArgumentError):
        audiences.budget(handle, 100, 0)
    with pytest.raises(LimitExceededError):
        Audiences(new_store(), [Profile(frozenset({0}))], [Rule("owned")] * 33)
    with pytest.raises(ArgumentError):
        Audiences(new_store(), [], [])
