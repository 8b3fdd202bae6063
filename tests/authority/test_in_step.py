"""Links in step: whatever happens to them, they are what they would have been out of step."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecsnet._kernel.hub import ACK, ARRIVED
from ecsnet._kernel.in_step import Tick
from ecsnet.authority import Batch, Link
from ecsnet.authority.in_step import InStep
from ecsnet.errors import RemoteProtocolError
from ecsnet.ids import Entity, Epoch, Version
from ecsnet.ids import Tick as TickNumber
from ecsnet.limits import NS_PER_MS, NS_PER_S, UNACKED_VERSIONS_MAX
from ecsnet.session.server import Offer, ServerSession
from ecsnet.sim.player import Player
from ecsnet.sim.run import Game, run_scenario
from ecsnet.sim.scenario import Scenario
from tests.arena import arena
from tests.helpers import Pair
from tests.sim import games

OFFER = Offer(fingerprint=b"f" * 32, canonical="", commands=(), hz=60, name="game")


def link_at(place: int, base: int = 1) -> Link:
    """A link whose client holds `base`."""
    server = ServerSession(OFFER, now_ns=0)
    server.session = (place + 1000) % (1 << 64)
    link = Link(place, "peer", server)
    link.place, link.entity, link.base = place, Entity(place), Version(base)
    link.window.go_on_from(Version(base))
    return link


def known_of(link: Link) -> dict[str, Any]:
    """All that a row could have got wrong."""
    window, sent = link.window.to_row()
    return {
        "window": window,
        "sent": sent,
        **{name: getattr(link, name) for name in ("base", "blocked_since_ns", "digest_window")},
        **{name: getattr(link, name) for name in ("deltas_sent", "bytes_sent", "acked")},
    }


class Twins:
    """A link in step and one that never is, to which the same happens."""

    def __init__(self) -> None:
        self.in_step = InStep()
        self.one, self.other = link_at(7), link_at(7)
        self.session = 1007
        self.version, self.now_ns = 1, NS_PER_S
        self.in_step.take(self.one)

    def tick(self, wait_ms: int, kind: str, length: int, window: int) -> None:
        """A version that both are offered, where they have room."""
        self.now_ns += wait_ms * NS_PER_MS
        self.version += 1
        batch = Batch(Epoch(0), Version(self.version), TickNumber(self.version))
        block = batch.add_block(bytes(length))
        digest = (1, 2)
        tick = Tick(self.version, self.now_ns, window, 0)
        self.in_step.add_to(batch, tick, lambda kind: (block, length, digest if kind.wants_digest else (0, 0)))
        other = self.other
        assert bool(batch) == other.window.has_room_for_delta(self.now_ns)
        if not batch:
            return
        whole = batch.length(0)
        taken = {"whole": whole, "part": 5, "nothing": 0, "gone": -32}[kind]
        assert self.in_step.record(batch, np.array([taken], np.int32)) == 1
        if taken > 0:
            told = window if other.digest_window != window else None
            other.record_delta(Version(self.version), whole, self.now_ns, told)
        elif taken == 0:
            other.record_blocked(self.now_ns)

    def ack(self, wait_ms: int, behind: int, chunks: int) -> None:
        """An ack of the `behind`-newest version, sent or not; both take it or neither does."""
        self.now_ns += wait_ms * NS_PER_MS
        version = max(0, self.version - behind)
        ack = np.array([(7, self.session, version, 0, chunks, 0, 0, ACK, 0)], ARRIVED)
        refused = len(self.in_step.take_acks(ack, self.now_ns))
        if refused:
            # Whatever it is, it is dealt with out of step.
            if self.one.row is not None:
                self.one.leave_step()
            for link in (self.one, self.other):
                try:
                    link.window.ack_untrusted(version, chunks, self.now_ns)
                except RemoteProtocolError:
                    pass
            self.in_step.take(self.one)
        else:
            self.other.window.ack_untrusted(version, chunks, self.now_ns)

    def look(self) -> None:
        """Both are found too slow, or neither is."""
        self.one.server.acks_taken(0, self.now_ns + NS_PER_S)
        self.in_step.take(self.one)
        self.in_step.look(self.now_ns)
        assert (self.one.row is None) == self.other.is_too_slow(self.now_ns)
        if self.one.row is None:
            self.in_step.take(self.one)


HAPPENINGS = st.one_of(
    st.tuples(
        st.just("tick"),
        st.integers(1, 700),
        st.sampled_from(["whole", "whole", "whole", "part", "nothing", "gone"]),
        st.integers(0, 60_000),
        st.integers(0, 3),
    ),
    st.tuples(st.just("ack"), st.integers(1, 900), st.integers(-1, 6), st.integers(0, 1)),
    st.tuples(st.just("look")),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(HAPPENINGS, max_size=60))
def test_a_link_in_step_is_what_it_would_be_out_of_step(happenings: list[tuple[Any, ...]]) -> None:
    twins = Twins()
    for what, *arguments in happenings:
        getattr(twins, what)(*arguments)

    assert known_of(twins.one) == known_of(twins.other)
    assert twins.one.row is None, "whoever looks gets it out"


def test_no_more_is_under_way_than_a_window_holds() -> None:
    twins = Twins()
    for _ in range(UNACKED_VERSIONS_MAX + 5):
        twins.tick(1, "whole", 8, 0)
    assert twins.one.window.unacked == UNACKED_VERSIONS_MAX
    assert known_of(twins.one) == known_of(twins.other)


@pytest.mark.parametrize("change", ["cut", "live", "place", "entity"])
def test_what_is_changed_of_a_link_gets_it_out_of_step(change: str) -> None:
    in_step, link = InStep(), link_at(3)
    in_step.take(link)
    setattr(link, change, {"cut": True, "live": True, "place": 9, "entity": Entity(4)}[change])
    assert link.row is None and len(in_step) == 0
    assert link.base == 1


def test_a_link_that_left_between_batch_and_record_has_what_it_was_sent() -> None:
    in_step, links = InStep(), [link_at(1), link_at(2), link_at(3)]
    for link in links:
        in_step.take(link)
    batch = Batch(Epoch(0), Version(2), TickNumber(2))
    block = batch.add_block(bytes(16))
    in_step.add_to(batch, Tick(2, 10, 0, 0), lambda kind: (block, 16, (0, 0)))
    left = links[1]
    left.leave_step()
    newcomer = link_at(9)
    in_step.take(newcomer)
    assert newcomer.row is not None, "in the row of the one that left"

    in_step.record(batch, np.array([batch.length(n) for n in range(3)], np.int32))

    assert [link.base for link in (*links, newcomer)] == [2, 2, 2, 1]
    assert left.window.unacked == 1


def test_hundreds_of_links_come_and_go() -> None:
    in_step = InStep()
    links = [link_at(place) for place in range(1, 400)]
    for link in links:
        in_step.take(link)
    for link in links[::3]:
        link.leave_step()
    for version in range(2, 6):
        batch = Batch(Epoch(0), Version(version), TickNumber(version))
        block = batch.add_block(bytes(version))
        in_step.add_to(batch, Tick(version, version, 0, 0), lambda kind, block=block, n=version: (block, n, (0, 0)))
        assert {link.number for link in batch.links} == {link.number for link in links if link.row is not None}
        in_step.record(batch, batch.lengths().astype(np.int32))
    for number, link in enumerate(links):
        assert link.base == (1 if number % 3 == 0 else 5), number
        assert link.entity == link.number


@pytest.mark.parametrize("first", [1, 1 << 62, (1 << 64) - 101])
def test_acks_find_their_rows_wherever_the_places_are(first: int) -> None:
    """Places of a second hub are great numbers, which differ in their last bits alone."""
    in_step = InStep()
    links = [link_at(place) for place in range(first, first + 100)]
    for link in random.Random(1).sample(links, len(links)):
        in_step.take(link)
    for link in links[::3]:
        link.leave_step()
    batch = Batch(Epoch(0), Version(2), TickNumber(2))
    block = batch.add_block(b"block")
    in_step.add_to(batch, Tick(2, 1, 0, 0), lambda kind: (block, 5, (0, 0)))
    in_step.record(batch, batch.lengths().astype(np.int32))
    acks = np.array(
        [(link.place, (link.number + 1000) % (1 << 64), 2, 0, 0, 0, 0, ACK, 0) for link in batch.links], ARRIVED
    )

    assert len(in_step.take_acks(acks, 2)) == 0

    assert [link.acked for link in links] == [1 if number % 3 == 0 else 2 for number in range(100)]


def test_what_is_odd_goes_on_out_of_step() -> None:
    """A base from which there is no ordinary delta, and one kind of deltas more than there is room for."""
    in_step = InStep()
    links = [link_at(place, base=place) for place in range(1, 101)]
    for link in links:
        in_step.take(link)
    batch = Batch(Epoch(0), Version(200), TickNumber(200))
    block = batch.add_block(b"block")
    in_step.add_to(batch, Tick(200, 1, 0, 0), lambda kind: None if kind.base == 5 else (block, 5, (0, 0)))

    out = [link for link in links if link.row is None]
    assert links[4] in out
    assert len(batch) + len(out) == len(links)
    assert len(batch) >= 60


def test_the_sessions_of_a_game_get_in_step_and_are_told_the_same() -> None:
    """With a hub's places the deltas of a pair go by batches."""
    pair = Pair(arena(), clients=2)
    pair.run_until_live()
    with pair.authority.store.transaction() as tx:
        for replica in pair.replicas:
            tx.update(replica.entity, "velocity", x=1.0)
    for number, wire in enumerate(pair.wires):
        wire.link.place = number + 1
    authority, rows = pair.authority, 0
    for _ in range(120):
        pair.steps += 1
        pair.now_ns += NS_PER_S // 30
        for wire in pair.wires:
            wire.to_node(pair.steps, pair.now_ns)
        authority.tick(pair.now_ns)
        batch = authority.deltas_to_send(pair.now_ns)
        rows = max(rows, sum(link.row is not None for link in batch.links))
        taken = []
        for number, link in enumerate(batch.links):
            wire = pair.wires[link.number - 1]
            assert wire.down.write(batch.frame(number), pair.steps)
            taken.append(len(batch.frame(number)))
        authority.record_batch(batch, np.array(taken, np.int32), pair.now_ns)
        for link in batch.rest:
            pair.wires[link.number - 1].serve(pair.steps, pair.now_ns)
        for wire in pair.wires:
            wire.to_client(pair.steps, pair.now_ns)

    assert rows == 2
    assert {replica.version for replica in pair.replicas} == {authority.version}
    assert len(pair.digests()) == 1
    assert authority.statistics().full_syncs == 2


def test_who_reads_no_compressed_blocks_is_in_step_all_the_same() -> None:
    """With those who are sent the same as it is."""
    pair = Pair(arena(), clients=3)
    pair.run_until_live()
    for number, wire in enumerate(pair.wires):
        wire.link.place = number + 1
    pair.wires[1].link.server.features = 0
    kinds: set[int] = set()
    authority = pair.authority
    with authority.store.transaction() as tx:
        things = [tx.spawn(transform={"x": 0.0}) for _ in range(200)]
    for step in range(40):
        with authority.store.transaction() as tx:
            for number, thing in enumerate(things):
                tx.update(thing, "transform", x=float(step + number))
        pair.steps += 1
        pair.now_ns += NS_PER_S // 30
        for wire in pair.wires:
            wire.to_node(pair.steps, pair.now_ns)
        authority.tick(pair.now_ns)
        batch = authority.deltas_to_send(pair.now_ns)
        in_step = [number for number, link in enumerate(batch.links) if link.row is not None]
        if len(in_step) == 3:
            kinds = {len(batch.frame(number)) for number in in_step}
        for number, link in enumerate(batch.links):
            assert pair.wires[link.number - 1].down.write(batch.frame(number), pair.steps)
        authority.record_batch(batch, batch.lengths().astype(np.int32), pair.now_ns)
        for link in batch.rest:
            pair.wires[link.number - 1].serve(pair.steps, pair.now_ns)
        for wire in pair.wires:
            wire.to_client(pair.steps, pair.now_ns)

    assert len(kinds) == 2, "compressed for two of them, and not for the third"
    assert len(pair.digests()) == 1


def steer_seldom(player: Player) -> None:
    if player.random.random() < 0.05:
        games.steer(player)


def test_a_run_is_the_same_whoever_is_in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit of what was sent, and when, over a bad line, with links that go in whenever they may."""
    scenario = Scenario(seed=11, profile="bad-wifi", clients=3, seconds=4.0)
    without = run_scenario(scenario, Game(games.world, play=steer_seldom))
    deltas = 0
    record = InStep.record

    def counted(self: InStep, batch: Batch, taken: Any) -> int:
        nonlocal deltas
        count = record(self, batch, taken)
        deltas += count
        return count

    monkeypatch.setattr(InStep, "record", counted)
    monkeypatch.setattr("ecsnet.authority.link.STEADY_DELTAS", 1)
    monkeypatch.setattr("ecsnet.authority.fan_out.STEADY_DELTAS", 1)
    with_it = run_scenario(scenario, Game(games.world, play=steer_seldom))

    assert deltas > 50
    assert with_it.ok, with_it.reasons()
    assert (with_it.trace_hash, with_it.digest) == (without.trace_hash, without.digest)


def test_links_out_of_step_are_gone_through_in_the_order_in_which_they_were_opened() -> None:
    """Whoever was in step meanwhile has lost no place, and who has ended is gone wherever it was."""
    in_step = InStep()
    links = [link_at(place) for place in range(1, 9)]
    for link in links:
        in_step.opened(link)
    for link in links[:6]:
        in_step.take(link)
    assert in_step.others == tuple(links[6:])

    for number in (4, 1, 3):
        links[number].leave_step()
    in_step.closed(links[0])
    in_step.closed(links[7])

    assert in_step.others == (links[1], links[3], links[4], links[6])
    assert len(in_step) == 2
    newcomer = link_at(9)
    in_step.opened(newcomer)
    links[5].leave_step()
    assert in_step.others == (*(links[number] for number in (1, 3, 4, 5, 6)), newcomer)
