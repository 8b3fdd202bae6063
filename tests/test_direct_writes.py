"""What clients write without a command: taken where the schema's writers say so, refused in one word elsewhere."""

from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np
import pytest

from ecsnet import Component, Event, Schema, Table, Writer, auto, enum, f32, field, ref, string, u8, u16, u64
from ecsnet.auth import Account, Login
from ecsnet.errors import ArgumentError, ConstraintError, LimitExceededError, LocalProtocolError, UnknownNameError
from ecsnet.ids import Entity
from ecsnet.limits import NS_PER_S, WRITE_ROWS_MAX, WRITES_WAITING_MAX
from ecsnet.replica import Replica, Ticket
from ecsnet.schema import loads
from ecsnet.store import Transaction
from ecsnet.wire.messages import Command, Reason
from ecsnet.wire.writes import encode_write
from ecsnet.world import Client, World
from tests.helpers import Pair


class Weapon(IntEnum):
    NONE, SWORD = 0, 1


class Controls(Component, writers=[Writer("player", ["update"], fields=["x", "y", "weapon", "mood"])]):
    x: f32 = field(default=0.0, minimum=-1.0, maximum=1.0)
    y: f32 = field(default=0.0)
    weapon: enum[Weapon] = field(default=Weapon.NONE)
    mood: string = field(length=8, default="")
    seed: u64 = field(default=0)


class Health(Component):
    hp: u16 = field(default=100)


class Shield(Component, writers=[Writer("player", ["insert", "delete"])]):
    strength: u8 = field(default=5)


class Mark(
    Table,
    owner="author",
    writers=[
        Writer("player", ["insert", "update", "delete"]),
        Writer("admin", ["update"], rows="all", fields=["note"]),
        Writer("admin", ["delete"], rows="all"),
    ],
):
    id: u64 = auto()
    author: u64
    note: string = field(length=16, default="")
    place: u16 = field(default=0, maximum=9)


class Item(Table, owner="holder", writers=[Writer(operations=["update"], fields=["charge"])]):
    id: u64 = auto()
    holder: ref = field(default=None)
    charge: u8 = field(default=0)


class Said(Event, writers=[Writer(operations=["insert"], rows="all")]):
    who: ref
    line: string = field(length=40)


SCHEMA = Schema("writing", "1.0.0", Controls, Health, Shield, Mark, Item, Said)


def a_world() -> World:
    """A player has an entity with controls and health; the token is the role."""
    world = World(SCHEMA, hz=20, on_error="raise")
    numbers = iter(range(1000, 2000))

    @world.authenticate
    def account(login: Login) -> Account:
        return Account(next(numbers), login.name, login.token.decode() or "player")

    @world.on_join
    def join(tx: Transaction, client: Client) -> Entity:
        return tx.spawn(Controls(), Health(), owner=client)

    @world.command
    def rest(tx: Transaction, client: Client) -> None:
        tx.update(client.entity, Health, hp=100)

    return world


class Two:
    """Two clients of one world, live."""

    def __init__(self, roles: tuple[str, str] = ("player", "player"), **given: Any) -> None:
        self.pair = Pair(a_world(), clients=0, **given)
        self.ann, self.bob = (
            self.pair.connect(name=name, token=role, reconnects=True) for name, role in zip("ab", roles, strict=True)
        )
        self.pair.run_until_live()

    def __enter__(self) -> "Two":
        return self

    def __exit__(self, *_: object) -> None:
        self.pair.close()

    def settle(self) -> None:
        self.pair.step(4)

    def __getitem__(self, what: tuple[int, str]) -> Any:
        with self.pair.authority.store.view() as view:
            return view[what]

    def make(self, function: Callable[[Transaction], Any]) -> Any:
        with self.pair.authority.store.transaction() as tx:
            made = function(tx)
        self.settle()
        return made

    def say(self, replica: Replica, table: int, data: bytes) -> Ticket:
        """The bytes of a write, as a client sends them that was written by somebody else."""
        session = replica._session
        number = session.send_write(table, data, latest=None, tick=0, now_ns=self.pair.now_ns)
        return replica._ticket("raw", number)


def code_of(ticket: Ticket) -> Reason | str:
    return ticket.code if ticket.status == "rejected" else ticket.status


# --- what is allowed --------------------------------------------------------------------------------------------------


def test_a_client_writes_its_own_controls_and_everybody_sees_them() -> None:
    with Two() as two:
        ticket = two.ann.write(two.ann.entity, Controls, x=0.5, weapon=Weapon.SWORD, mood="grim")
        two.settle()

        assert (ticket.status, ticket.code) == ("accepted", Reason.NONE)
        assert ticket.version is not None and ticket.version <= two.ann.version
        for replica in (two.ann, two.bob):
            with replica.view() as view:
                assert view[two.ann.entity, "controls.x"] == 0.5
                assert view[two.ann.entity, "controls.weapon"] == Weapon.SWORD
                assert view[two.ann.entity, "controls.mood"] == "grim"
        assert len(two.pair.digests()) == 1


def test_of_several_writes_of_the_same_cells_the_newest_counts() -> None:
    """A stick that is read three times in a frame is one message."""
    with Two() as two:
        tickets = [two.ann.write(two.ann.entity, Controls, x=x) for x in (0.1, 0.2, 0.3)]
        two.settle()
        assert [ticket.status for ticket in tickets] == ["superseded", "superseded", "accepted"]
        assert two[two.ann.entity, "controls.x"] == np.float32(0.3)


def test_writes_of_other_cells_do_not_overtake_each_other() -> None:
    """What was called last is there at the end, whichever cells the calls between them named."""
    with Two() as two:
        me = two.ann.entity
        two.ann.write(me, Controls, x=0.1)
        two.ann.write(me, Controls, x=0.2, y=2.0)
        two.ann.write(me, Controls, x=0.3)
        two.settle()
        assert (two[me, "controls.x"], two[me, "controls.y"]) == (np.float32(0.3), 2.0)


def test_updates_of_the_same_cells_in_one_tick_of_the_node_are_one() -> None:
    """A line that stood still hands over several at once."""
    with Two() as two:
        two.pair.wires[0].up.is_cut = True
        tickets = []
        for x in (0.1, 0.2, 0.3):
            tickets.append(two.ann.write(two.ann.entity, Controls, x=x))
            two.pair.step(2)
        two.pair.wires[0].up.is_cut = False
        two.settle()
        assert [ticket.status for ticket in tickets][-1] == "accepted"
        assert {ticket.status for ticket in tickets[:-1]} == {"superseded"}


def test_rows_are_inserted_and_deleted() -> None:
    with Two() as two:
        me = two.ann.entity
        two.ann.insert(me, Shield(strength=9))
        mark = two.ann.insert(Mark(author=two.ann.client_id, note="here"))
        two.settle()
        assert mark.status == "accepted"
        assert two[me, "shield.strength"] == 9
        with two.ann.view() as view:
            (key,) = view["mark"].key.tolist()
            assert view[key, "mark.note"] == "here"
        two.ann.write(key, Mark, place=3)
        two.settle()
        assert two[key, "mark.place"] == 3
        two.ann.delete(me, Shield)
        two.ann.delete(key, "mark")
        two.settle()
        with two.bob.view() as view:
            assert (me, "shield") not in view
            assert len(view["mark"].key) == 0


def test_many_rows_are_one_write() -> None:
    with Two() as two:
        two.ann.insert("mark", {"author": two.ann.client_id, "place": np.arange(5)})
        two.settle()
        with two.ann.view() as view:
            keys = view["mark"].key
            assert view["mark.place"].tolist() == [0, 1, 2, 3, 4]
        two.ann.write(keys, Mark, place=np.arange(5, 10), note="all")
        two.settle()
        with two.bob.view() as view:
            assert view["mark.place"].tolist() == [5, 6, 7, 8, 9]
            assert two.ann.delete(keys[:2], Mark).status == "pending"
        two.settle()
        with two.bob.view() as view:
            assert len(view["mark"].key) == 3


def test_an_event_is_inserted_and_told() -> None:
    with Two() as two:
        two.ann.insert(Said(who=two.ann.entity, line="hello"))
        two.settle()
        told = []
        while (event := two.bob.next_event()) is not None:
            told.append(event)
        (said,) = [event for event in told if isinstance(event, Said)]
        assert said.line == "hello"


def test_an_item_is_its_holders() -> None:
    """The owner of a row may be an entity, and then it is that entity's owner."""
    with Two() as two:
        item = two.make(lambda tx: tx.insert(Item(holder=two.ann.entity)))
        mine = two.ann.write(item, Item, charge=7)
        theirs = two.bob.write(item, Item, charge=8)
        two.settle()
        assert (mine.status, code_of(theirs)) == ("accepted", Reason.NOT_ALLOWED)
        assert two[item, "item.charge"] == 7


def test_a_role_may_write_what_another_may_not() -> None:
    with Two(("player", "admin")) as two:
        two.ann.insert(Mark(author=two.ann.client_id, note="rude"))
        two.settle()
        with two.bob.view() as view:
            (key,) = view["mark"].key.tolist()
        tickets = [two.bob.write(key, Mark, note="gone"), two.bob.write(key, Mark, place=1)]
        two.settle()
        assert [code_of(ticket) for ticket in tickets] == ["accepted", Reason.NOT_ALLOWED]
        assert (two[key, "mark.note"], two[key, "mark.place"]) == ("gone", 0)
        assert two.bob.write(two.bob.entity, Controls, x=1.0).status == "pending"
        two.settle()
        assert two[two.bob.entity, "controls.x"] == 0.0, "an admin is no player"


# --- what is not ------------------------------------------------------------------------------------------------------


def test_what_is_another_clients_is_not_written() -> None:
    with Two() as two:
        ann, bob = two.ann.entity, two.bob.entity
        tickets = [
            two.ann.write(bob, Controls, x=1.0),
            two.ann.write([ann, bob], Controls, y=1.0),
            two.ann.insert(bob, Shield()),
            two.ann.insert(Mark(author=two.bob.client_id)),
            two.ann.insert(Mark(author=0)),
        ]
        two.settle()
        assert {code_of(ticket) for ticket in tickets} == {Reason.NOT_ALLOWED}
        assert {ticket.reason for ticket in tickets[:2]} == {"controls: a row is not yours, or is gone"}
        assert two[bob, "controls.x"] == 0.0
        assert two[ann, "controls.y"] == 0.0, "all of a write or nothing"
        with two.bob.view() as view:
            assert (bob, "shield") not in view and len(view["mark"].key) == 0


def test_a_row_is_not_given_away() -> None:
    with Two() as two:
        two.ann.insert(Mark(author=two.ann.client_id))
        two.settle()
        with two.ann.view() as view:
            (key,) = view["mark"].key.tolist()
        ticket = two.ann.write(key, Mark, author=two.bob.client_id)
        two.settle()
        assert code_of(ticket) == Reason.NOT_ALLOWED
        assert two[key, "mark.author"] == two.ann.client_id


def test_a_row_that_changed_hands_in_the_tick_is_its_new_owners() -> None:
    with Two() as two:
        ann = two.ann.entity
        ticket = two.ann.write(ann, Controls, x=1.0)
        with two.pair.authority.store.transaction() as tx:
            tx.update(ann, "entities", owner=two.bob.client_id)
        two.settle()
        assert code_of(ticket) == Reason.NOT_ALLOWED
        assert two[ann, "controls.x"] == 0.0


def test_what_no_writer_names_is_refused_by_the_authority() -> None:
    """A client of somebody else's making asks for everything."""
    with Two() as two:
        me, session = two.ann.entity, int(two.pair.authority.store.view()["sessions"].key[0])
        keys = np.array([me], np.uint64)
        controls, health = SCHEMA["controls"], SCHEMA["health"]
        cases = {
            "a field": (controls.id, encode_write(controls, "update", keys, 1, {"seed": np.array([1])})),
            "an operation": (controls.id, encode_write(controls, "delete", keys, 1, {})),
            "a table": (health.id, encode_write(health, "update", keys, 1, {"hp": np.array([65535])})),
            "the registry": (0, encode_write(SCHEMA["entities"], "update", keys, 1, {"owner": np.array([1])})),
            "the registry's row": (0, encode_write(SCHEMA["entities"], "delete", keys, 1, {})),
            "a session": (
                1,
                encode_write(SCHEMA["sessions"], "delete", np.array([session], np.uint64), 1, {}),
            ),
            "nothing": (4711, b"\x02\x00\x01\x00"),
        }
        tickets = {what: two.say(two.ann, table, data) for what, (table, data) in cases.items()}
        two.settle()
        assert {what: code_of(ticket) for what, ticket in tickets.items()} == dict.fromkeys(cases, Reason.NOT_ALLOWED)
        assert two.ann.state == "live"
        assert (two[me, "controls.seed"], two[me, "health.hp"]) == (0, 100)


def test_cells_that_break_a_rule_change_nothing() -> None:
    with Two() as two:
        me = two.ann.entity
        table = SCHEMA["controls"]
        keys = np.array([me], np.uint64)
        tickets = [
            two.ann.write(me, Controls, x=1.5, mood=""),
            two.say(two.ann, table.id, encode_write(table, "update", keys, 1, {"x": np.array([np.nan], np.float32)})),
            two.say(two.ann, table.id, encode_write(table, "update", keys, 1, {"y": np.array([np.inf], np.float32)})),
            two.say(two.ann, table.id, encode_write(table, "update", keys, 1, {"weapon": np.array([9])})),
            two.say(two.ann, table.id, encode_write(table, "update", keys, 1, {"mood": ["far too long for it"]})),
        ]
        two.settle()
        assert {code_of(ticket) for ticket in tickets} == {Reason.BAD_ARGUMENTS}
        assert tickets[0].reason == "controls.x: range"
        assert (two[me, "controls.x"], two[me, "controls.y"], two[me, "controls.weapon"]) == (0.0, 0.0, 0)


def test_rows_that_are_gone_or_there_already_are_no_mistake_of_the_node() -> None:
    with Two(("player", "admin")) as two:
        me = two.ann.entity
        two.ann.insert(me, Shield())
        again = two.ann.insert(me, Shield())
        missing = two.bob.delete(12345 << 32, Mark)
        two.settle()
        assert (code_of(again), again.reason) == (Reason.REJECTED, "shield: the row is there already")
        assert (code_of(missing), missing.reason) == (Reason.REJECTED, "the row is gone")
        statistics = two.pair.authority.statistics()
        assert (statistics.commands_failed, statistics.commands_rejected) == (0, 2)


def test_a_row_that_another_refers_to_stays() -> None:
    """The schema's `on_delete` holds for whoever deletes."""
    schema = loads(
        """
        [database]
        name = "held"
        version = "1.0.0"
        [tables.peg]
        primary_key = "id"
        writers = [{ operations = ["delete"], rows = "all" }]
        fields = [{ name = "id", type = "u64", auto_increment = true }]
        [tables.coat]
        primary_key = "id"
        fields = [{ name = "id", type = "u64", auto_increment = true },
                  { name = "peg", type = "u64", foreign_key = "peg.id" }]
        """
    )
    with Pair(schema) as pair:
        pair.run_until_live()
        with pair.authority.store.transaction() as tx:
            key = tx.insert("peg", {})
            tx.insert("coat", {"peg": 1})
        ticket = pair.replica.delete(key, "peg")
        pair.step(4)
        assert (code_of(ticket), ticket.reason) == (Reason.REJECTED, "another row refers to it")


def test_whether_a_strangers_row_is_there_is_not_told() -> None:
    with Two() as two:
        theirs = two.ann.write(two.bob.entity, Controls, x=1.0)
        gone = two.ann.write(99 << 32 | 7, Controls, x=1.0)
        without = two.ann.delete(two.bob.entity, Shield)
        two.settle()
        assert theirs.reason == gone.reason
        assert code_of(without) == Reason.NOT_ALLOWED


# --- at the client ----------------------------------------------------------------------------------------------------


def test_a_game_hears_of_its_mistakes_at_once() -> None:
    with Two() as two:
        me = two.ann.entity
        cases: dict[str, Callable[[], Ticket]] = {
            "no client the right to update rows of health": lambda: two.ann.write(me, Health, hp=1),
            "no client the right to delete rows of controls": lambda: two.ann.delete(me, Controls),
            "names no field": lambda: two.ann.write(me, Controls),
            "finite": lambda: two.ann.write(me, Controls, x=float("nan")),
            "no key": lambda: two.ann.write([], Controls, x=1.0),
            "an event table": lambda: two.ann.write(me, Said, line="x"),
            "one component at a time": lambda: two.ann.insert(me, Shield(), Controls()),
            "despawns it": lambda: two.ann.delete(me, "entities"),
            "controls.x": lambda: two.ann.write(me, Controls, x="far"),
        }
        for wrong, call in cases.items():
            with pytest.raises(ArgumentError, match=wrong):
                call()
        with pytest.raises(UnknownNameError):
            two.ann.write(me, Controls, speed=1.0)
        with pytest.raises(ConstraintError, match="required"):
            two.ann.insert("mark", {"note": "whose?"})
        with pytest.raises(LimitExceededError, match="WRITE_ROWS_MAX"):
            two.ann.write(np.arange(WRITE_ROWS_MAX + 1), Controls, x=1.0)
        two.settle()
        assert two.pair.authority.statistics().commands_rejected == 0


def test_what_waits_for_the_next_tick_is_bounded() -> None:
    with Two() as two:
        for number in range(WRITES_WAITING_MAX):
            two.ann.write(number << 32, Controls, x=0.0)
        with pytest.raises(LimitExceededError, match="WRITES_WAITING_MAX"):
            two.ann.write(2**40, Controls, x=0.0)
        two.ann.write(0, Controls, x=0.5)  # takes the place of the first


def test_more_than_a_client_may_send_waits_and_ends_no_session() -> None:
    """A bulk of writes is spread over time: the node's limits never hit an honest client."""
    with Two() as two:
        rows = np.arange(1, 1001, dtype=np.uint64) << np.uint64(32)
        tickets = [two.ann.write(rows + np.uint64(number), Controls, x=0.0) for number in range(12)]
        two.pair.step(1)
        assert any(ticket.status == "pending" for ticket in tickets)
        two.pair.step(20 * 6)
        assert {code_of(ticket) for ticket in tickets} == {Reason.NOT_ALLOWED}
        assert two.ann.state == "live"


def test_an_insert_goes_behind_the_updates_before_it() -> None:
    with Two() as two:
        two.ann.insert(Mark(author=two.ann.client_id))
        two.settle()
        with two.ann.view() as view:
            (key,) = view["mark"].key.tolist()
        update = two.ann.write(key, Mark, place=1)
        delete = two.ann.delete(key, Mark)
        two.settle()
        assert (update.status, delete.status) == ("accepted", "accepted")


def test_a_write_before_there_is_a_world_is_an_error_of_the_call() -> None:
    replica = Replica(SCHEMA)
    with pytest.raises(LocalProtocolError, match="once the session is live"):
        replica.write(1 << 32, Controls, x=1.0)
    blank = Replica()
    with pytest.raises(LocalProtocolError, match="schema"):
        blank.delete(1 << 32, Controls)


# --- over bad lines ---------------------------------------------------------------------------------------------------


def test_a_write_has_its_effect_once_over_a_lost_line() -> None:
    """It is a numbered command like any other: repeated after a drop, and done once."""
    with Two() as two:
        for number in range(3):
            two.ann.insert(Mark(author=two.ann.client_id, place=number))
        waiting = two.ann.write(two.ann.entity, Controls, x=0.25)
        two.pair.wires[0].lose(two.pair.now_ns)
        with pytest.raises(LocalProtocolError, match="connection was lost"):
            two.ann.write(two.ann.entity, Controls, x=0.5)
        two.pair.reconnect()
        two.pair.run_until_live()
        two.settle()
        assert waiting.status == "accepted"
        assert two[two.ann.entity, "controls.x"] == 0.25
        with two.bob.view() as view:
            assert sorted(view["mark.place"].tolist()) == [0, 1, 2]


def test_commands_and_writes_are_one_sequence() -> None:
    with Two() as two:
        first = two.ann.insert(two.ann.entity, Shield())
        second = two.ann.send("rest")
        third = two.ann.insert(Mark(author=two.ann.client_id))
        two.settle()
        assert [ticket.sequence for ticket in (first, second, third)] == [1, 2, 3]


def test_too_many_in_a_second_are_refused_one_by_one() -> None:
    """Of a client that does not hold back; its session goes on."""
    with Two() as two:
        table = SCHEMA["controls"]
        data = encode_write(table, "update", np.array([two.ann.entity], np.uint64), 1, {"x": np.array([0.5], "<f4")})
        link = two.pair.authority.links[0]
        for number in range(1, 200):
            link.server._on_command(
                Command(session=two.ann.session, sequence=number, tick=0, command=table.id, flags=1, arguments=data),
                two.pair.now_ns,
            )
        codes = [pending.verdict.code for pending in link.server.ledger.waiting if pending.verdict is not None]
        assert codes and set(codes) == {Reason.RATE_LIMITED}
        assert two.pair.now_ns >= NS_PER_S
