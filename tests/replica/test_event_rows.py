"""Rows of event tables at the clients: each once, in order, with its version; and what a stranger sends instead."""

import contextlib
import random
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecsnet import limits
from ecsnet.authority import Authority
from ecsnet.errors import BusyError, LimitExceededError, RemoteProtocolError
from ecsnet.ids import Entity, Tick, Version
from ecsnet.replica import EventRow, EventRowsLost, Replica
from ecsnet.replica.event_rows import EventReader
from ecsnet.schema import loads
from ecsnet.store import Store, Transaction
from ecsnet.store.names import Names
from ecsnet.wire.codec import decode_untrusted, encode
from ecsnet.wire.messages import Event, Goodbye, Kind, Reason
from ecsnet.world import Client, World
from tests.helpers import Pair, frames_of

SCHEMA = loads(
    """
[database]
name = "events"
version = "1.0.0"

[tables.body]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "x", type = "u32", default = 0 },
          { name = "much", type = "bytes[4000]", default = "" }]

[tables.hit]
event = true
fields = [{ name = "number", type = "u32", maximum = 1000000 },
          { name = "target", type = "u64", foreign_key = "entities.id", optional = true },
          { name = "hard", type = "bool", default = false },
          { name = "part", type = "enum", values = { HEAD = 0, TAIL = -1 }, storage = "i8", default = "HEAD" },
          { name = "at", type = "[f32; 2]", default = [0.5, 1.5] }]

[tables.noise]
event = true
fields = [{ name = "number", type = "u32" }]

[tables.pulse]
event = true
fields = []

[tables.secret]
event = true
replicated = false
fields = [{ name = "number", type = "u32" }]
"""
)


class Game:
    """A world that counts its events, in the order in which they are inserted; as many a tick as `events` says."""

    def __init__(self) -> None:
        self.world = World(SCHEMA, hz=30, on_error="raise")
        self.made: list[tuple[int, int, str]] = []
        """(tick, number, table)"""
        self.rest = False
        self.random = random.Random(5)
        self.grows = 0

        @self.world.on_join
        def enter(tx: Transaction, client: Client) -> Entity:
            return tx.spawn(body={}, owner=client)

        @self.world.system
        def happen(tx: Transaction) -> None:
            if self.rest:
                return
            for _ in range(self.random.randrange(4)):
                table = self.random.choice(["hit", "noise", "secret"])
                number = len(self.made)
                self.made.append((tx.tick, number, table))
                tx.insert(table, {"number": number})

        @self.world.system
        def move(tx: Transaction) -> None:
            if not self.rest:
                (bodies,) = tx.query("body")
                bodies.x += 1
            if self.grows:
                much = np.frombuffer(self.random.randbytes(4000 * self.grows), np.uint8)
                tx.spawn_many(self.grows, body={"much": much.reshape(self.grows, 4000)})

    def after(self, tick: int) -> list[tuple[int, str]]:
        """What a client is told of whose first version was of that tick."""
        return [(number, table) for when, number, table in self.made if when > tick and table != "secret"]


class Told:
    """What the replicas of a pair were told, step by step."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.rows: dict[str, list[EventRow]] = {replica.name: [] for replica in pair.replicas}
        self.lost: list[EventRowsLost] = []
        self.first: dict[str, int] = {}
        for replica in pair.replicas:
            replica.on_applied = partial(self._applied, replica.name)

    def _applied(self, name: str, version: Version, tick: Tick) -> None:
        self.first.setdefault(name, tick)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.pair.step()
            for replica in self.pair.replicas:
                for row in rows_of(replica, self.lost):
                    assert row.version <= replica.version, "told before what it is about can be seen"
                    self.rows[replica.name].append(row)

    def numbers(self, name: str) -> list[tuple[int, str]]:
        return [(row.number, row.table) for row in self.rows[name]]


def rows_of(replica: Replica, lost: list[EventRowsLost] | None = None) -> list[EventRow]:
    rows = []
    while (event := replica.next_event()) is not None:
        if isinstance(event, EventRow):
            rows.append(event)
        elif isinstance(event, EventRowsLost) and lost is not None:
            lost.append(event)
    return rows


def settle(game: Game, told: Told) -> None:
    game.rest = True
    told.run(60)
    assert told.pair.has_converged()


@pytest.mark.parametrize("datagrams", [False, True])
def test_each_client_is_told_each_row_since_its_first_version_once_and_in_order(datagrams: bool) -> None:
    game = Game()
    with Pair(game.world, clients=3, latency_ticks=3, datagrams=datagrams) as pair:
        told = Told(pair)
        told.run(100)
        settle(game, told)
        for name in told.rows:
            assert told.numbers(name) == game.after(told.first[name]) != []


@pytest.mark.parametrize("datagrams", [False, True])
def test_rows_of_versions_that_a_client_skips_are_told_too(datagrams: bool) -> None:
    """A delta covers many versions; what happened in between is told all the same, with its own version."""
    game = Game()
    with Pair(game.world, clients=2, latency_ticks=2, datagrams=datagrams) as pair:
        told = Told(pair)
        told.run(30)
        pair.wire.cut()
        told.run(60)
        pair.wire.heal()
        told.run(30)
        settle(game, told)
        for name in told.rows:
            assert told.numbers(name) == game.after(told.first[name])
            ticks = {number: tick for tick, number, _ in game.made}
            assert [row.tick for row in told.rows[name]] == [ticks[row.number] for row in told.rows[name]]
        skipped, seen = (replica.statistics().versions_applied for replica in pair.replicas)
        assert skipped < seen - 30, "or this shows nothing"


def test_loss_doubles_delay_and_disorder_change_nothing() -> None:
    def fate(number: int, data: bytes) -> Sequence[int]:
        if chance.random() < 0.25:
            return ()
        return [chance.choice([0, 0, 1, 4]) for _ in range(1 + (chance.random() < 0.15))]

    for seed in range(6):
        game, chance = Game(), random.Random(seed)
        with Pair(game.world, clients=2, latency_ticks=2, datagrams=True, fate_down=fate, fate_up=fate) as pair:
            told = Told(pair)
            told.run(200)
            game.rest = True
            told.run(300)
            for name in told.rows:
                assert told.numbers(name) == game.after(told.first[name]) != []


def test_a_delta_in_chunks_is_no_reason_to_miss_any() -> None:
    """In mid-session a big delta goes as a sync; only the first of a session has no events."""
    game = Game()
    with Pair(game.world, clients=2, latency_ticks=2) as pair:
        told = Told(pair)
        told.run(20)
        chunks = pair.replica.statistics().chunks_staged
        game.grows = 150
        told.run(5)
        game.grows = 0
        told.run(40)
        settle(game, told)
        assert pair.replica.statistics().chunks_staged > chunks, "or this shows nothing"
        for name in told.rows:
            assert told.numbers(name) == game.after(told.first[name])


@pytest.mark.parametrize("datagrams", [False, True])
def test_a_client_that_comes_back_is_told_what_happened_meanwhile(datagrams: bool) -> None:
    game = Game()
    with Pair(game.world, latency_ticks=2, reconnects=True, datagrams=datagrams) as pair:
        told = Told(pair)
        told.run(30)
        for away in (1, 10, 40):
            pair.wire.lose(pair.now_ns)
            told.run(away)
            pair.reconnect()
            told.run(20)
        settle(game, told)
        assert told.numbers("client-0") == game.after(told.first["client-0"]) != []
        # Over datagrams more rows of the newest version may have been on their way: there were none, but who knows.
        assert [one.until - one.after for one in told.lost] == ([1, 1, 1] if datagrams else [])
        assert pair.replica.statistics().full_syncs_applied == 1


def test_rows_that_are_not_kept_so_long_are_said_to_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly from which version to which: all others are told, each once."""
    monkeypatch.setattr("ecsnet.authority.event_log.EVENT_LOG_BYTES_MAX", 4000)
    game = Game()
    with Pair(game.world, reconnects=True) as pair:
        told = Told(pair)
        told.run(30)
        held = pair.replica.version
        pair.wire.lose(pair.now_ns)
        told.run(60)
        pair.reconnect()
        told.run(5)
        # Versions and ticks of this world go together.
        apart = pair.authority.tick_number - pair.authority.version
        settle(game, told)
        [lost] = told.lost
        assert lost.after == held < lost.until < pair.replica.version
        ticks = {number: tick for tick, number, _ in game.made}
        first = told.first["client-0"]
        kept = [row for row in game.after(first) if not lost.after + apart < ticks[row[0]] <= lost.until + apart]
        assert told.numbers("client-0") == kept != game.after(first)


def test_a_client_whose_world_begins_anew_is_told_what_happens_from_then_on() -> None:
    """Nobody knows its session any more. What was made up to the new world's first version is said to be lost."""
    game = Game()
    with Pair(game.world, latency_ticks=2, reconnects=True, linger_s=0) as pair:
        told = Told(pair)
        told.run(30)
        before, held = len(told.rows["client-0"]), pair.replica.version
        pair.wire.lose(pair.now_ns)
        told.run(10)
        told.first.clear()
        pair.reconnect()
        told.run(30)
        settle(game, told)
        assert told.numbers("client-0")[before:] == game.after(told.first["client-0"]) != []
        [lost] = told.lost
        assert lost.after == held < lost.until < pair.replica.version


def test_a_node_that_is_started_again_knows_no_rows_of_before() -> None:
    game = Game()
    with Store(SCHEMA) as store, Pair(game.world, reconnects=True, store=store) as pair:
        told = Told(pair)
        told.run(30)
        held = pair.replica.version
        pair.wire.lose(pair.now_ns)
        told.run(10)
        head = pair.authority.version
        pair.restart(seed=3)
        pair.reconnect()
        told.run(20)
        settle(game, told)
        assert told.lost == [EventRowsLost(held, head)]
        assert pair.replica.statistics().full_syncs_applied == 1


def test_who_cannot_be_told_all_of_it_is_parted_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecsnet.authority.event_log.EVENT_LOG_BYTES_MAX", 4000)
    game = Game()
    with Pair(game.world, clients=2) as pair:
        told = Told(pair)
        told.run(10)
        pair.wire.down.record = True
        pair.wire.cut()
        told.run(60)
        pair.wire.heal()
        told.run(40)
        assert pair.replica.farewell is not None and pair.replica.farewell[0] == Reason.TOO_SLOW
        kinds = [kind for kind, _ in frames_of(pair.wire.down.written)]
        assert Kind.DELTA_SYNC not in kinds, "a version whose events are gone is not shown either"
        settle(game, told)
        assert told.numbers("client-1") == game.after(told.first["client-1"])


def test_what_another_thread_commits_is_told_as_well() -> None:
    """Whoever commits adds to what is told, while the node's thread serves its links."""
    game = Game()
    game.rest = True
    numbers = 400
    with Pair(game.world, clients=2, latency_ticks=1) as pair:
        told = Told(pair)
        pair.run_until_live()
        store = pair.authority.store

        def work() -> None:
            for number in range(numbers):
                with store.transaction(wait_s=20) as tx:
                    tx.insert("noise", {"number": number})

        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive():
            with contextlib.suppress(BusyError):  # a tick that comes in between is nobody's fault
                told.run(1)
        thread.join()
        told.run(5)
        for name in told.rows:
            assert [row.number for row in told.rows[name]] == list(range(numbers))


@pytest.mark.parametrize("datagrams", [False, True])
def test_rows_of_a_version_that_held_views_put_off_come_with_it(datagrams: bool) -> None:
    game = Game()
    with Pair(game.world, latency_ticks=1, datagrams=datagrams) as pair:
        told = Told(pair)
        told.run(20)
        held = []
        while pair.authority.statistics().staleness < 8:
            held.append(pair.authority.store.view())
            told.run(1)
        for view in held:
            view.close()
        told.run(10)
        settle(game, told)
        assert told.numbers("client-0") == game.after(told.first["client-0"]) != []


def test_a_row_too_large_for_a_message_is_refused_when_the_world_is_made() -> None:
    fields = ",".join(f'{{ name = "f{number}", type = "bytes[4096]" }}' for number in range(65))
    schema = loads(f'[database]\nname = "a"\nversion = "1.0.0"\n[tables.big]\nevent = true\nfields = [{fields}]\n')
    with pytest.raises(LimitExceededError, match="event table big"):
        Authority(World(schema))


def test_more_rows_than_fit_one_message_go_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecsnet.store.store.EVENT_BLOCK_BYTES", 40)
    game = Game()
    with Pair(game.world, latency_ticks=1) as pair:
        told = Told(pair)
        pair.wire.down.record = True
        told.run(60)
        settle(game, told)
        assert told.numbers("client-0") == game.after(told.first["client-0"])
        messages = [decode_untrusted(kind, payload) for kind, payload in frames_of(pair.wire.down.written)]
        events = [message for message in messages if isinstance(message, Event)]
        assert len({event.version for event in events}) < len(events)
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))


def test_a_game_that_does_not_ask_keeps_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecsnet.replica.core.EVENT_ROWS_UNREAD_MAX", 20)
    game = Game()
    with Pair(game.world) as pair:
        pair.run_until_live()
        first = pair.replica.tick
        pair.step(100)
        statistics = pair.replica.statistics()
        rows = rows_of(pair.replica)
        assert 10 <= len(rows) <= 20
        assert [(row.number, row.table) for row in rows] == game.after(first)[-len(rows) :]
        assert statistics.event_rows_told == statistics.event_rows_dropped + len(rows)


def test_a_row_has_its_cells_by_name() -> None:
    world = World(SCHEMA, hz=30, on_error="raise")

    @world.system
    def happen(tx: Transaction) -> None:
        if tx.tick == 3:
            someone = tx.spawn(body={})
            tx.insert("hit", {"number": 7, "target": someone, "part": "TAIL", "hard": True, "at": [1.0, 2.0]})
            tx.insert("pulse")

    with Pair(world) as pair:
        pair.step(10)
        hit, pulse = rows_of(pair.replica)
        assert (hit.table, hit.number, hit["hard"], hit.part, hit.at.tolist()) == ("hit", 7, True, -1, [1.0, 2.0])
        assert hit.tick == 3 and hit.target in pair.replica.view()
        assert (pulse.table, pulse.to_dict()) == ("pulse", {})
        with pytest.raises(AttributeError, match="hit has no field 'damage'; it has"):
            _ = hit.damage


# --- what a stranger sends --------------------------------------------------------------------------------------------


def block_of(*rows: tuple[str, dict[str, Any]]) -> bytes:
    """The block that a node would send."""
    blocks: list[bytes] = []
    with Store(SCHEMA) as store:
        store.follow_events(lambda version, tick, made: blocks.extend(made[0]))
        with store.transaction() as tx:
            for table, cells in rows:
                tx.insert(table, cells)
    (block,) = blocks
    return block


READER = EventReader(Names(SCHEMA))
GOOD = block_of(
    ("hit", {"number": 1}), ("noise", {"number": 2}), ("hit", {"number": 3, "hard": True}), ("noise", {"number": 4})
)


def read(block: bytes) -> list[EventRow]:
    return [row for row in READER.read_untrusted(message(block)) if isinstance(row, EventRow)]


def message(block: bytes, **given: Any) -> Event:
    return Event(
        **{"session": 1, "sequence": 1, "version": 1, "tick": 1, "key": 0, "epoch": 1, "block": block, **given}
    )


def test_a_block_is_read_in_the_order_in_which_its_rows_came() -> None:
    assert [(row.table, row.number) for row in read(GOOD)] == [
        ("hit", 1), ("noise", 2), ("hit", 3), ("noise", 4),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "block"),
    [
        ("nothing", b""),
        ("no table", bytes.fromhex("01000000 00000000".replace(" ", ""))),
        ("another version", b"\2" + GOOD[1:]),
        ("bytes behind it", GOOD + b"\0"),
        ("bytes missing", GOOD[:-1]),
        ("a table of no events", GOOD[:8] + b"\x10\0" + GOOD[10:]),
        ("a table that is not replicated", block_of(("noise", {"number": 1})).replace(b"\x12\0", b"\x14\0", 1)),
        ("no rows", GOOD[:10] + b"\0\0\0\0" + GOOD[14:]),
        ("too many rows", GOOD[:10] + b"\xff\xff\xff\xff" + GOOD[14:]),
        ("an encoding of tomorrow", GOOD[:14] + b"\2" + GOOD[15:]),
        ("an order beyond the tables", GOOD[:-2] + b"\2\1"),
        ("an order of too many rows", GOOD[:-1] + b"\2"),
        ("a number beyond its maximum", block_of(("hit", {"number": 1})).replace(b"\1\0\0\0", b"\xff\xff\xff\x7f", 3)),
    ],
)
def test_what_is_no_block_of_events_is_refused(what: str, block: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        READER.read_untrusted(message(block))


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255), st.binary(max_size=6))
def test_any_bytes_are_refused_or_read(at: int, byte: int, more: bytes) -> None:
    for block in (GOOD[:at] + bytes([byte]) + GOOD[at + 1 :], GOOD[:at] + more + GOOD[at:], more + GOOD[at:]):
        try:
            rows = read(block)
        except RemoteProtocolError:
            continue
        assert all(row.number <= 1_000_000 for row in rows if row.table == "hit")


def give(pair: Pair, event: Event) -> None:
    frame = encode(event)
    pair.replica.receive_frame(frame[4], frame[limits.FRAME_HEADER_BYTES :], pair.now_ns)


@pytest.mark.parametrize(
    ("sequence", "version", "words"),
    [(2, 9, "came after 0"), (0, 9, "came after 0"), (1, 9, None)],
)
def test_what_is_missing_or_comes_twice_ends_the_session(sequence: int, version: int, words: str | None) -> None:
    with Pair(SCHEMA) as pair:
        pair.run_until_live()
        epoch = pair.replica.epoch
        give(pair, message(GOOD, session=pair.replica.session, epoch=epoch, sequence=sequence, version=version))
        if words is None:
            assert pair.replica.error is None
            give(pair, message(GOOD, session=pair.replica.session, epoch=epoch, sequence=2, version=version - 1))
            words = "of version 8 came after those of 9"
        assert words in str(pair.replica.error)
        assert rows_of(pair.replica) == [], "the version never came"


def test_a_node_that_sends_events_of_versions_that_never_come_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecsnet.replica.event_rows.EVENT_ROWS_EARLY_BYTES_MAX", 10 * len(GOOD))
    with Pair(SCHEMA) as pair:
        pair.run_until_live()
        for sequence in range(1, 12):
            give(
                pair,
                message(
                    GOOD,
                    session=pair.replica.session,
                    epoch=pair.replica.epoch,
                    sequence=sequence,
                    version=1000,
                ),
            )
        assert "EVENT_ROWS_EARLY_BYTES_MAX" in str(pair.replica.error)
        assert any(isinstance(decode_untrusted(f[4], f[8:]), Goodbye) for f in pair.replica.frames_to_send(pair.now_ns))
