"""Replication over datagrams: lost, late, doubled or out of order, a replica holds whole versions and nothing else."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ecsnet.authority.blocks import PART_BYTES_MAX, Blocks, WholeStore
from ecsnet.authority.head import Head
from ecsnet.errors import DivergedError, Reject, RemoteProtocolError
from ecsnet.ids import Version
from ecsnet.limits import (
    DATAGRAM_BYTES_MAX,
    DATAGRAM_SILENCE_NS_MAX,
    DELTA_PARTS_MAX,
    FRAME_HEADER_BYTES,
    NS_PER_S,
    REPEAT_NS_MAX,
    UNACKED_VERSIONS_MAX,
)
from ecsnet.replica import Replica
from ecsnet.store import Store, Transaction
from ecsnet.wire.codec import decode_untrusted, encode
from ecsnet.wire.datagrams import unpack_untrusted
from ecsnet.wire.messages import Ack, DeltaSync, Kind, Ping, SyncBegin, SyncChunk
from ecsnet.world import World
from tests.arena import arena, arena_schema
from tests.helpers import Fate, Pair, in_time

NOTHING = bytes([2] + [0] * 15)
"""A block without changes."""


def crowd(entities: int, moving: int, *, hz: int = 30) -> World:
    """A world in which `moving` rows change in each tick."""
    world = World(arena_schema(), hz=hz, on_error="raise")
    ids: list[Any] = []

    @world.system
    def churn(tx: Transaction) -> None:
        if not ids:
            ids.append(tx.spawn_many(entities, transform={"x": np.arange(entities, dtype=np.float32)}, health={}))
            return
        if world_rests[0]:
            return
        (body,) = tx.query("transform")
        chosen = tx.random.choice(entities, moving, replace=False)
        body.x[chosen] += 1.0

    world_rests = [False]
    world.rests = world_rests  # type: ignore[attr-defined]
    return world


def rest(pair: Pair) -> None:
    pair.world.rests[0] = True  # type: ignore[attr-defined]


def lossy(seed: int, loss: float, late: int = 3, twice: float = 0.1) -> Fate:
    chance = random.Random(seed)

    def fate(number: int, data: bytes) -> Sequence[int]:
        if chance.random() < loss:
            return ()
        copies = [chance.choice([0, 0, 0, chance.randrange(late + 1)])]
        if chance.random() < twice:
            copies.append(chance.randrange(2 * late + 1))
        return copies

    return fate


def deltas_in(written: Sequence[bytes]) -> list[DeltaSync]:
    """Those outside of the lane."""
    found = []
    for data in written:
        for kind, payload in unpack_untrusted(data).frames:
            message = decode_untrusted(kind, payload) if kind < 240 else None
            if isinstance(message, DeltaSync):
                found.append(message)
    return found


def watch(replica: Replica) -> list[int]:
    versions: list[int] = []
    replica.on_applied = lambda version, tick: versions.append(version)
    return versions


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_everybody_ends_with_what_the_authority_has(seed: int, loss: float) -> None:
    """Every applied version is compared by its digest on the way."""
    with Pair(
        crowd(300, 40),
        clients=3,
        datagrams=True,
        latency_ticks=2,
        fate_down=lossy(seed, loss),
        fate_up=lossy(seed + 100, loss),
    ) as pair:
        seen = [watch(replica) for replica in pair.replicas]
        pair.run_until(lambda: all(replica.state == "live" for replica in pair.replicas), steps_max=900)
        pair.step(100)
        rest(pair)
        pair.run_until(pair.has_converged, steps_max=400)

        assert len(pair.digests()) == 1
        for replica, versions in zip(pair.replicas, seen, strict=True):
            assert replica.error is None
            assert versions == sorted(set(versions))
            assert replica.statistics().digests_verified > 10


def test_on_a_good_line_every_version_arrives_and_acks_move_the_base() -> None:
    with Pair(crowd(300, 40), datagrams=True, latency_ticks=3) as pair:
        pair.run_until_live()
        pair.step(20)
        before, made = pair.replica.statistics().versions_applied, pair.authority.version
        pair.wire.down.record = True
        pair.step(100)
        assert pair.replica.statistics().versions_applied - before == pair.authority.version - made == 100
        assert pair.replica.statistics().gaps == 0
        for message in deltas_in(pair.wire.down.written):
            assert 6 <= message.version - message.base <= 8, "a round trip of changes rides along"


def test_the_base_does_not_move_by_sending() -> None:
    """Or after one loss every later delta would start from a version that the replica never had."""
    with Pair(crowd(50, 10), datagrams=True) as pair:
        pair.run_until_live()
        pair.step(10)
        held = pair.replica.version
        pair.wire.down.is_cut = True
        pair.wire.down.record = True
        pair.step(10)
        assert pair.link.base <= held
        assert {message.base for message in deltas_in(pair.wire.down.written)} <= {held - 1, held}
        pair.wire.down.is_cut = False
        pair.step(3)
        assert pair.replica.version > held + 10
        assert pair.replica.statistics().gaps == 0


def test_a_delta_from_beyond_what_is_held_is_dropped_and_the_ack_says_what_is_held() -> None:
    with Pair(crowd(50, 10), datagrams=True) as pair:
        pair.run_until_live()
        pair.step(5)
        replica = pair.replica
        held = replica.version
        replica.frames_to_send(pair.now_ns)
        beside(pair, delta(pair, held + 1, held + 2))
        assert (replica.state, replica.version, replica.statistics().gaps) == ("live", held, 1)
        assert acks_of(replica, pair.now_ns) == [held]


def delta(pair: Pair, base: int, version: int, **given: Any) -> DeltaSync:
    return DeltaSync(
        session=pair.replica.session, epoch=pair.replica.epoch, base=base, version=version, tick=1, **given
    )


def beside(pair: Pair, message: Any) -> None:
    """A frame outside of the lane."""
    frame = encode(message)
    pair.replica.receive_frame(frame[4], frame[FRAME_HEADER_BYTES:], pair.now_ns, reliable=False)


def by_lane(pair: Pair, message: Any) -> None:
    frame = encode(message)
    pair.replica.receive_frame(frame[4], frame[FRAME_HEADER_BYTES:], pair.now_ns)


def acks_of(replica: Replica, now_ns: int) -> list[int]:
    messages = [decode_untrusted(frame[4], frame[8:]) for frame in replica.frames_to_send(now_ns)]
    return [message.version for message in messages if isinstance(message, Ack)]


def test_the_last_ack_that_is_lost_at_rest_is_mended_by_a_repeat() -> None:
    lost = []

    def thrice(number: int, data: bytes) -> Sequence[int]:
        if lossy[0] and len(lost) < 3:
            lost.append(data)
            return ()
        return (0,)

    lossy = [False]
    with Pair(crowd(50, 5), datagrams=True, fate_up=thrice) as pair:
        pair.run_until_live()
        pair.step(20)
        lossy[0] = True
        pair.step()
        rest(pair)
        pair.step(2)
        assert pair.replica.version == pair.authority.version
        assert pair.link.acked < pair.authority.version
        pair.run_until(pair.has_converged, steps_max=4 * REPEAT_NS_MAX // NS_PER_S * pair.world.hz)
        assert len(lost) == 3
        sent = pair.wire.down.sent
        pair.step(3 * pair.world.hz)
        assert pair.wire.down.sent - sent <= 8, "at rest nothing goes but pongs and their acks"


def test_the_last_delta_that_is_lost_at_rest_is_repeated() -> None:
    with Pair(crowd(50, 5), datagrams=True) as pair:
        pair.run_until_live()
        pair.step(20)
        pair.wire.down.is_cut = True
        pair.step(2)
        rest(pair)
        pair.step(2)
        pair.wire.down.is_cut = False
        assert pair.replica.version < pair.authority.version
        pair.run_until(pair.has_converged, steps_max=2 * pair.world.hz)


def test_a_first_version_whose_ack_is_lost_is_asked_for_by_a_probe() -> None:
    """It went by the lane, whole, and need not go again."""
    with Pair(crowd(50, 0), datagrams=True) as pair:
        pair.wire.down.record = True
        pair.wire.up.fate = lambda number, data: () if number else (0,)
        pair.step(5)
        pair.wire.up.is_cut = True
        assert pair.replica.state == "live"
        assert pair.link.acked == 0
        pair.step(20)
        probes = deltas_in(pair.wire.down.written)
        assert probes and all(one.base == one.version and not one.block for one in probes)
        pair.wire.up.is_cut = False
        pair.wire.up.fate = in_time
        pair.run_until(pair.has_converged, steps_max=2 * pair.world.hz)
        assert pair.replica.statistics().full_syncs_applied == 1


def test_a_partition_of_half_a_minute_is_mended_by_one_delta_where_the_history_reaches_so_far() -> None:
    with Pair(crowd(100, 5, hz=5), datagrams=True) as pair:
        pair.run_until_live()
        pair.step(10)
        pair.wire.cut()
        sent = pair.wire.down.sent
        pair.step(30 * 5)
        assert pair.wire.down.sent - sent < 30 * 5, "fewer than one a tick"
        pair.wire.heal()
        pair.step(REPEAT_NS_MAX // NS_PER_S * 5 + 3)
        assert pair.authority.version - pair.replica.version <= 1
        assert pair.replica.statistics().full_syncs_applied == 1
        assert pair.replica.statistics().reconnects == 0
        assert len(pair.authority.links) == 1


def test_a_partition_longer_than_the_history_is_mended_from_the_empty_world_in_the_same_session() -> None:
    world = crowd(100, 5, hz=30)
    # Retaining little: the history of an ordinary node is longer than anybody waits.
    store = Store(world.schema, retain_versions=256, retain_bytes=1 << 20)
    with store, Pair(world, datagrams=True, store=store) as pair:
        pair.run_until_live()
        pair.step(10)
        session = pair.replica.session
        pair.wire.cut()
        pair.step(30 * 30)
        assert pair.link.window.unacked <= UNACKED_VERSIONS_MAX
        pair.wire.heal()
        pair.step(3 * 30)
        assert pair.authority.version - pair.replica.version <= 2
        assert pair.replica.statistics().full_syncs_applied == 2
        assert pair.replica.session == session
        rest(pair)
        pair.run_until_converged()
        assert len(pair.digests()) == 1


def test_a_partition_longer_than_anybody_waits_ends_the_session_at_both_ends() -> None:
    with Pair(arena(), datagrams=True, reconnects=True) as pair:
        pair.run_until_live()
        pair.wire.cut()
        pair.step((DATAGRAM_SILENCE_NS_MAX // NS_PER_S + 3) * 30)
        assert pair.replica.reconnecting
        assert pair.authority.links == ()
        pair.reconnect()
        pair.run_until_live()


def test_a_link_that_the_node_has_forgotten_is_reset_and_another_one_is_opened() -> None:
    with Pair(arena(), datagrams=True, reconnects=True) as pair:
        pair.run_until_live()
        pair.step(5)
        pair.authority.close_link(pair.link, pair.now_ns)
        pair.wire.link = pair.wire.node_channel = None
        pair.run_until(lambda: pair.replica.reconnecting, steps_max=2 * pair.world.hz)
        pair.reconnect()
        pair.run_until_live()


def test_a_goodbye_arrives_although_it_is_lost_at_first() -> None:
    lost = []

    def twice(number: int, data: bytes) -> Sequence[int]:
        if goodbye[0] and len(lost) < 2:
            lost.append(data)
            return ()
        return (0,)

    goodbye = [False]
    with Pair(arena(), datagrams=True, fate_down=twice) as pair:
        pair.run_until_live()
        goodbye[0] = True
        pair.authority.kick(pair.link, "enough", pair.now_ns)
        pair.run_until(lambda: pair.replica.state == "closed", steps_max=5 * pair.world.hz)
        assert pair.replica.farewell is not None and pair.replica.farewell[1] == "enough"
        pair.step(2)
        assert pair.wire.node_channel is None, "all of it arrived, so it is forgotten"


def test_a_command_has_its_effect_once_whatever_the_line_does() -> None:
    world = arena()
    with Pair(
        world, datagrams=True, fate_down=lossy(5, 0.3, twice=0.5), fate_up=lossy(6, 0.3, twice=0.5), latency_ticks=1
    ) as pair:
        pair.run_until(lambda: pair.replica.state == "live", steps_max=600)
        target = pair.replica.entity
        tickets = []
        for _ in range(8):
            tickets.append(pair.replica.send("hit", target=target))
            pair.step(3)
        pair.run_until(lambda: all(ticket.status == "accepted" for ticket in tickets), steps_max=900)
        assert [ticket.sequence for ticket in tickets] == list(range(1, 9))
        with pair.authority.store.view() as view:
            assert view[target, "health.hp"] == 100 - 8 * 10


# --- parts ------------------------------------------------------------------------------------------------------------


def test_a_delta_that_does_not_fit_a_datagram_goes_in_parts_of_one_each() -> None:
    with Pair(crowd(1000, 300), datagrams=True, latency_ticks=1) as pair:
        pair.run_until_live()
        pair.step(5)
        pair.wire.down.record = True
        before = pair.replica.statistics().versions_applied
        pair.step(20)
        messages = deltas_in(pair.wire.down.written)
        assert {message.parts for message in messages} & set(range(2, DELTA_PARTS_MAX + 1))
        assert max(map(len, pair.wire.down.written)) <= DATAGRAM_BYTES_MAX
        assert pair.replica.statistics().versions_applied - before >= 18
        assert len([1 for message in messages if message.part == 0]) == 20, "the parts of one go together"


def test_parts_are_well_filled() -> None:
    """The kernel's budget is for the worst; what rows need in truth is learned."""
    with Pair(crowd(1000, 300), datagrams=True, latency_ticks=1) as pair:
        pair.run_until_live()
        pair.step(20)
        pair.wire.down.record = True
        pair.step(20)
        sizes = [len(m.block) for m in deltas_in(pair.wire.down.written) if m.part + 1 < m.parts]
        assert sum(sizes) / len(sizes) > 0.7 * PART_BYTES_MAX


def test_a_delta_of_too_many_parts_goes_by_the_lane_and_nothing_else_until_it_is_acked() -> None:
    with Pair(crowd(6000, 6000), datagrams=True, latency_ticks=2) as pair:
        pair.run_until_live()
        pair.wire.down.record = True
        pair.step(60)
        statistics = pair.replica.statistics()
        assert statistics.versions_applied >= 4
        assert statistics.full_syncs_applied == 1
        assert all(one.base == one.version for one in deltas_in(pair.wire.down.written)), "probes at most"
        rest(pair)
        pair.run_until_converged()
        assert len(pair.digests()) == 1


def test_a_world_too_big_for_a_frame_is_synced_in_chunks_by_the_lane() -> None:
    with Pair(crowd(30_000, 100), datagrams=True, fate_down=lossy(3, 0.05), fate_up=lossy(4, 0.05)) as pair:
        pair.run_until(lambda: pair.replica.state == "live", steps_max=900)
        assert pair.replica.statistics().chunks_staged >= 2
        rest(pair)
        pair.run_until(pair.has_converged, steps_max=300)
        assert len(pair.digests()) == 1


def test_a_sync_that_outlives_the_history_begins_anew_whatever_is_acked_meanwhile() -> None:
    """The base that a late ack names is as much gone as the one that the sync began with."""
    world = crowd(100_000, 100_000, hz=60)
    with Pair(world, datagrams=True, digest_every_version=False) as pair:
        pair.run_until(lambda: pair.replica.state == "live", steps_max=900)
        rest(pair)
        pair.run_until_converged()
        link, replica = pair.link, pair.replica
        acked = link.acked
        pair.wire.up.is_cut = True
        for _ in range(3):  # three versions, of one row each, that go beside the lane
            with pair.authority.store.transaction() as tx:
                tx.spawn(transform={})
            pair.step()
        assert replica.version == acked + 3 and link.acked == acked
        world.rests[0] = False  # type: ignore[attr-defined]
        to_node(pair, Ack(session=replica.session, epoch=replica.epoch, version=acked), reliable=False)
        pair.step()
        pair.wire.down.is_cut = True
        to_node(pair, Ack(session=replica.session, epoch=replica.epoch, version=acked), reliable=False)
        pair.step(100)
        to_node(pair, Ack(session=replica.session, epoch=replica.epoch, version=acked + 2), reliable=False)
        pair.step(200)
        assert link.acked == acked + 2
        pair.wire.heal()
        pair.step(120)
        rest(pair)
        pair.run_until_converged(steps_max=600)
        assert len(pair.digests()) == 1
        assert replica.error is None


def test_clients_with_equal_bases_share_the_parts() -> None:
    with Pair(crowd(1000, 300), clients=4, datagrams=True, digest_every_version=False) as pair:
        pair.run_until_live()
        pair.step(10)
        before = pair.authority.statistics()
        pair.step(20)
        after = pair.authority.statistics()
        assert after.deltas_shared - before.deltas_shared >= 3 * 20


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 16), entities=st.integers(1, 1500), moving=st.floats(0, 1), width=st.integers(1, 4))
def test_all_parts_fit_and_together_are_the_delta(seed: int, entities: int, moving: float, width: int) -> None:
    """Whatever moves: applied as one they give what the whole gives."""
    world = crowd(entities, int(entities * moving))
    with Pair(world, seed=seed) as pair:
        pair.run_until_live()
        kernel = pair.authority.store.kernel
        head = Head(kernel)
        blocks = Blocks(head, WholeStore(kernel))
        base = Version(pair.authority.version)
        pair.wire.down.is_cut = True
        pair.step(width)
        head.refresh()
        parts = blocks.parts(base)
        whole = blocks.delta(base)
        assert whole is not None
        if parts is None:
            assert whole.length > DELTA_PARTS_MAX * PART_BYTES_MAX // 2
        else:
            assert all(part.length <= PART_BYTES_MAX for part in parts)
            assert len(parts) <= DELTA_PARTS_MAX
            assert blocks.parts(base) is parts, "the same again"
            if base < blocks.version:
                kernel = pair.replica.store.kernel  # type: ignore[union-attr]
                kernel.apply([part.block for part in parts], base, blocks.version, 0)
                with pair.replica.view() as ours, pair.authority.store.view() as theirs:
                    assert ours.digest() == theirs.digest()
        head.close()


def test_parts_of_different_cuts_never_mix() -> None:
    """Half of one and half of another would be a version that never was."""
    with Pair(crowd(1000, 300), datagrams=True, latency_ticks=1) as pair:
        pair.run_until_live()
        pair.step(5)
        pair.wire.reads = False
        pair.wire.down.record = True
        pair.step(2)
        held = pair.replica.version
        found = [m for m in deltas_in(pair.wire.down.written) if m.parts > 1 and m.base <= held]
        cut = [m for m in found if m.version == found[-1].version]
        assert len(cut) > 1
        other_base = [replace(m, base=m.base - 1) for m in cut]
        other_parts = [replace(m, parts=m.parts + 1) for m in cut]
        other_version = [replace(m, version=m.version + 5) for m in cut]
        for m in [cut[0], *other_base[1:], *other_parts[:-1], *other_version[1:], cut[0], cut[0]]:
            beside(pair, m)
        assert pair.replica.version == held
        for m in reversed(cut):
            beside(pair, m)
        assert pair.replica.version == cut[0].version
        assert pair.replica.statistics().digests_verified == pair.replica.statistics().versions_applied


def test_what_is_staged_is_bounded() -> None:
    with Pair(crowd(50, 5), datagrams=True) as pair:
        pair.run_until_live()
        held = pair.replica.version
        for version in range(held + 1, held + 2000):
            beside(pair, delta(pair, held, version, parts=16, part=version % 16, block=bytes(64)))
        assert len(pair.replica._parts) <= 8
        assert (pair.replica.state, pair.replica.version) == ("live", held)


# --- the lane and what goes beside it ---------------------------------------------------------------------------------


def test_an_old_delta_that_comes_late_never_closes_a_sync() -> None:
    """It knows nothing of the chunks, and would show the world without what they left out."""
    with Pair(crowd(100, 10), datagrams=True) as pair:
        pair.run_until_live()
        pair.step(5)
        pair.wire.reads = False
        pair.wire.down.record = True
        pair.step(1)
        late = deltas_in(pair.wire.down.written)[-1]
        replica, held = pair.replica, pair.replica.version
        head = pair.authority.version
        common = {"session": replica.session, "epoch": replica.epoch}
        by_lane(pair, SyncBegin(**common, base=held, first_version=head + 3, tick=1))
        by_lane(pair, SyncChunk(**common, sequence=0, base=held, version=head + 3, block=NOTHING))
        beside(pair, late)
        assert (replica.state, replica.version) == ("live", late.version), "it is a delta like any other"
        by_lane(pair, SyncChunk(**common, sequence=1, base=held, version=head + 4, block=NOTHING))
        assert replica.error is None, "the sync goes on"
        by_lane(pair, delta(pair, head + 3, head + 5, block=NOTHING))
        assert (replica.error, replica.version) == (None, head + 5)


@pytest.mark.parametrize("message", [Ping(nonce=1, sent_ns=1), Ack(session=1, epoch=1, version=1)])
def test_what_comes_beside_the_lane_before_its_time_is_passed_over(message: Any) -> None:
    replica = Replica(arena(), datagrams=True)
    replica.connect(0)
    frame = encode(message)
    replica.receive_frame(frame[4], frame[8:], 0, reliable=False)
    assert (replica.state, replica.error) == ("joining", None)
    replica.release()


def test_deltas_of_another_session_or_epoch_are_late_and_nothing_more() -> None:
    with Pair(crowd(50, 5), datagrams=True) as pair:
        pair.run_until_live()
        held = pair.replica.version
        beside(pair, replace(delta(pair, held, held + 1), session=1))
        beside(pair, replace(delta(pair, held, held + 1), epoch=1))
        assert (pair.replica.state, pair.replica.version) == ("live", held)


@pytest.mark.parametrize("reliable", [True, False])
def test_no_parts_are_one_whichever_way_a_delta_comes(reliable: bool) -> None:
    """What the short way takes the ordinary way takes, too: here a payload of another type leads to that."""
    with Pair(crowd(50, 10), datagrams=True) as pair:
        pair.run_until_live()
        pair.step(5)
        replica, kernel = pair.replica, pair.authority.store.kernel
        held = replica.version
        pair.authority.tick(pair.now_ns)
        pin = kernel.acquire()
        frame = encode(delta(pair, held, pin.version, parts=0, block=kernel.delta(pin, held).block))
        pin.release()
        replica.receive_frame(frame[4], bytearray(frame[FRAME_HEADER_BYTES:]), pair.now_ns, reliable=reliable)
        assert (replica.state, replica.version) == ("live", pair.authority.version)
        assert replica.version > held


def test_a_delta_in_parts_by_the_lane_is_refused() -> None:
    with Pair(crowd(50, 5), datagrams=True) as pair:
        pair.run_until_live()
        by_lane(pair, delta(pair, pair.replica.version, pair.replica.version + 1, parts=2))
        assert isinstance(pair.replica.error, RemoteProtocolError)


def test_on_a_stream_the_base_beyond_what_is_held_stays_an_error() -> None:
    with Pair(crowd(50, 5)) as pair:
        pair.run_until_live()
        by_lane(pair, delta(pair, pair.replica.version + 1, pair.replica.version + 2))
        assert isinstance(pair.replica.error, RemoteProtocolError)


def to_node(pair: Pair, message: Any, *, reliable: bool) -> None:
    frame = encode(message)
    pair.authority.receive_frame(pair.link, frame[4], frame[8:], pair.now_ns, reliable=reliable)


def test_an_ack_of_what_was_never_sent_ends_its_own_link_and_no_other() -> None:
    with Pair(crowd(50, 5), clients=2, datagrams=True) as pair:
        pair.run_until_live()
        pair.step(3)
        replica = pair.replica
        to_node(
            pair,
            Ack(session=replica.session, epoch=replica.epoch, version=pair.authority.version + 9),
            reliable=False,
        )
        pair.step(5)
        assert replica.state == "closed"
        assert pair.replicas[1].state == "live"
        assert len(pair.authority.links) == 1


def test_old_and_repeated_acks_change_nothing() -> None:
    with Pair(crowd(50, 5), datagrams=True, latency_ticks=1) as pair:
        pair.run_until_live()
        pair.step(10)
        acked = pair.link.acked
        for version in (acked, acked - 1, 0, 1):
            to_node(pair, Ack(session=pair.replica.session, epoch=pair.replica.epoch, version=version), reliable=False)
        assert pair.link.acked == acked
        pair.step(5)
        assert pair.replica.state == "live"


def test_a_client_that_never_acks_costs_little_and_is_told_goodbye() -> None:
    """It pings, so it is there: but what it is sent must be of use to somebody."""

    def only_small_things(number: int, data: bytes) -> Sequence[int]:
        return (0,) if not muted[0] else ((0,) if not is_ack(data) else ())

    def is_ack(data: bytes) -> bool:
        return any(kind == Kind.ACK for kind, _ in unpack_untrusted(data).frames)

    muted = [False]
    with Pair(crowd(100, 5, hz=10), datagrams=True, fate_up=only_small_things) as pair:
        pair.run_until_live()
        pair.step(5)
        muted[0] = True
        before = pair.wire.down.sent
        pair.step((DATAGRAM_SILENCE_NS_MAX // NS_PER_S + 3) * 10)
        assert pair.authority.statistics().links_too_slow == 1
        assert pair.wire.down.sent - before < 43 * 10 * 2


def test_random_datagrams_to_both_ends_change_nothing_for_others() -> None:
    chance = random.Random(11)
    with Pair(crowd(100, 10), clients=2, datagrams=True) as pair:
        pair.run_until_live()
        recorded: list[bytes] = []
        pair.wire.up.record = pair.wire.down.record = True
        for _ in range(150):
            pair.step()
            recorded = (pair.wire.up.written + pair.wire.down.written)[-40:]
            data = bytearray(chance.choice(recorded) or b"?")
            for _ in range(chance.randrange(4)):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            pair.wire.up.write(bytes(data), pair.steps)
            pair.wire.down.write(bytes(data[: chance.randrange(len(data) + 1)]), pair.steps)
        other = pair.replicas[1]
        assert (other.state, other.error) == ("live", None)
        assert pair.authority.version - other.version <= 1


def test_the_same_script_twice_gives_equal_datagrams() -> None:
    def run() -> list[bytes]:
        with Pair(
            crowd(300, 100), clients=2, datagrams=True, latency_ticks=1, fate_down=lossy(1, 0.2), fate_up=lossy(2, 0.2)
        ) as pair:
            for wire in pair.wires:
                wire.down.record = wire.up.record = True
            pair.step(120)
            return [data for wire in pair.wires for data in wire.down.written + wire.up.written]

    assert run() == run()


def test_a_client_that_is_not_let_in_is_told_so_over_datagrams() -> None:
    world = arena()
    with Pair(world, datagrams=True, clients=0, fate_down=lossy(9, 0.3)) as pair:
        replica = pair.connect(name="banned")
        pair.run_until(lambda: replica.state == "closed", steps_max=300)
        assert isinstance(replica.error, Reject)


def test_a_replica_may_fall_back_to_a_stream() -> None:
    """The next transport is another kind; the sessions are the same."""
    with Pair(arena(), datagrams=True, reconnects=True) as pair:
        pair.run_until_live()
        pair.wire.lose(pair.now_ns)
        pair.datagrams = pair.replica.datagrams = False
        pair.reconnect()
        pair.run_until_live()
        assert len(pair.digests()) == 1


def test_digests_of_deltas_in_parts_are_compared_one_by_one_and_a_wrong_one_is_seen() -> None:
    """They follow from the last by what changed, and now and then all is looked at."""
    with Pair(crowd(1000, 300), datagrams=True, latency_ticks=1) as pair:
        pair.run_until_live()
        pair.step(150)
        statistics = pair.replica.statistics()
        assert statistics.digests_verified == statistics.versions_applied > 140
        pair.wire.reads = False
        pair.wire.down.record = True
        pair.step(2)
        held = pair.replica.version
        found = [m for m in deltas_in(pair.wire.down.written) if m.base <= held < m.version and m.parts > 1]
        for m in found:
            if m.version == found[0].version:
                beside(pair, replace(m, digest_low=m.digest_low ^ 4))
        assert isinstance(pair.replica.error, DivergedError)
