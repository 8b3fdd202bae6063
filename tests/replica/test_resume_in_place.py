"""A session that comes back goes on from what it holds: it is sent what it has missed, and no more."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ecsnet._kernel.kernel import Delta, HistoryGone, KernelStore, Pin
from ecsnet.errors import RemoteProtocolError
from ecsnet.limits import FRAME_HEADER_BYTES
from ecsnet.replica import EpochChanged, Event, Replica, StateChanged
from ecsnet.store import Store, Transaction
from ecsnet.wire.codec import decode_untrusted, encode
from ecsnet.wire.messages import Kind, Resumed
from ecsnet.world import World
from tests.arena import arena
from tests.helpers import Pair, frames_of

CROWD = 500


def events_of(replica: Replica) -> list[Event]:
    events = []
    while (event := replica.next_event()) is not None:
        events.append(event)
    return events


def crowded(*, moving: bool = False) -> World:
    """Many that stand still, and, if asked for, a few that are written to in every tick before 200."""
    world = arena(moving=moving)

    @world.system
    def fill(tx: Transaction) -> None:
        if tx.tick == 1:
            # Each somewhere else, or all of them would be a few bytes.
            x, y = np.random.default_rng(1).random((2, CROWD))
            tx.spawn_many(CROWD, transform={"x": x, "y": y}, health={})

    if moving:

        @world.system
        def stir(tx: Transaction) -> None:
            if tx.tick < 200:
                rows = tx.query("transform")
                rows[0].x[: 1 + tx.tick % 7] += 1

    return world


@contextmanager
def playing(*, moving: bool = False, **given: Any) -> Iterator[Pair]:
    """A live pair on a store that outlives its authority."""
    world = crowded(moving=moving)
    with Store(world.schema) as store, Pair(world, reconnects=True, store=store, **given) as pair:
        pair.run_until_live()
        pair.step(3)
        events_of(pair.replica)
        yield pair


def come_back(pair: Pair) -> None:
    pair.reconnect()
    pair.run_until_live()
    pair.step(5)


@pytest.mark.parametrize("datagrams", [False, True])
def test_only_what_was_missed_is_sent(datagrams: bool) -> None:
    with playing(datagrams=datagrams) as pair:
        replica = pair.replica
        whole = replica.statistics().sync_bytes_received
        store = replica.store
        pair.wire.lose(pair.now_ns)
        with pair.authority.store.transaction() as tx:
            tx[replica.entity, "health.hp"] = 7
        pair.step(5)
        before = replica.statistics()
        come_back(pair)

        after = replica.statistics()
        assert (after.resumes, after.resumed_in_place, after.full_syncs_applied) == (1, 1, 1)
        assert after.sync_bytes_received == whole
        assert after.delta_bytes_received - before.delta_bytes_received < whole / 20
        assert replica.store is store
        with replica.view() as view:
            assert view[replica.entity, "health.hp"] == 7
        assert len(pair.digests()) == 1
        totals = pair.authority.statistics()
        assert (totals.full_syncs, totals.joins, totals.resumes, totals.resumes_in_place) == (1, 1, 1, 1)


def test_who_has_missed_nothing_is_live_without_a_new_version() -> None:
    with playing() as pair:
        replica = pair.replica
        version = replica.version
        pair.wire.lose(pair.now_ns)
        pair.reconnect()
        pair.step(2)
        assert (replica.state, replica.version) == ("live", version)
        assert events_of(replica) == [
            StateChanged("live", "resuming", "the connection was lost"),
            StateChanged("resuming", "live"),
        ]
        ticket = replica.send("hit", target=replica.entity)
        pair.step(2)
        assert (ticket.status, replica.version > version) == ("accepted", True)


def test_what_came_and_went_meanwhile_was_never_there() -> None:
    with playing() as pair:
        replica = pair.replica
        with pair.authority.store.transaction() as tx:
            gone = tx.spawn(transform={}, health={})
        pair.step(2)
        pair.wire.lose(pair.now_ns)
        with pair.authority.store.transaction() as tx:
            brief = tx.spawn(transform={})
            tx.despawn(gone)
        pair.step(2)
        with pair.authority.store.transaction() as tx:
            tx.despawn(brief)
            stays = tx.spawn(transform={"x": 3.0})
        come_back(pair)
        with replica.view() as view:
            assert (gone in view, brief in view, stays in view) == (False, False, True)
        assert len(pair.digests()) == 1
        assert replica.statistics().full_syncs_applied == 1


def test_a_subscription_goes_on_and_is_told_what_was_missed() -> None:
    with playing() as pair:
        replica = pair.replica
        assert replica.store is not None
        changes = replica.store.subscribe("health")
        pair.wire.lose(pair.now_ns)
        with pair.authority.store.transaction() as tx:
            tx[replica.entity, "health.hp"] = 7
        come_back(pair)
        assert [(change.kind, change.key, change.fields) for change in changes.poll()] == [
            ("update", replica.entity, {"hp": 7})
        ]


@pytest.mark.parametrize("datagrams", [False, True])
def test_lines_that_break_again_and_again_cost_one_full_sync(datagrams: bool) -> None:
    with playing(moving=True, latency_ticks=2, datagrams=datagrams) as pair:
        replica = pair.replica
        tickets = []
        for away in range(12):
            tickets.append(replica.send("hit", target=replica.entity))
            pair.step(away % 5)
            pair.wire.lose(pair.now_ns)
            pair.step(away % 3)
            come_back(pair)
        pair.step(10)
        assert [ticket.status for ticket in tickets] == ["accepted"] * 12
        with pair.authority.store.view() as view:
            assert view[replica.entity, "health.hp"] == 0
        assert pair.authority.statistics().full_syncs == 1


def test_who_looks_for_its_node_knows_who_it_is() -> None:
    with playing() as pair:
        replica = pair.replica
        known = (replica.session, replica.client_id, replica.hz)
        assert all(known)
        pair.wire.lose(pair.now_ns)
        assert (replica.session, replica.client_id, replica.hz) == known
        pair.wires[0] = pair._wire(replica)
        assert replica.state == "resuming"
        assert (replica.session, replica.client_id, replica.hz) == known


def test_a_command_that_was_accepted_in_a_version_that_did_not_come_is_told_of_with_that_version() -> None:
    """Its answer overtook the version, one that refuses another came behind it, and then the line broke."""
    with playing(latency_ticks=1) as pair:
        replica = pair.replica
        accepted = replica.send("hit", target=replica.entity)
        refused = replica.send("hit", target=1 << 32 | 9999)
        pair.wire.down.record = True
        pair.step(2)
        answers = [frame for frame in frames_of(pair.wire.down.written) if frame[0] == Kind.COMMAND_RESULT]
        assert len(answers) == 2
        for kind, payload in answers:
            replica.receive_frame(kind, payload, pair.now_ns)
        assert (accepted.status, refused.status) == ("pending", "rejected")
        pair.wire.lose(pair.now_ns)
        come_back(pair)
        pair.step(3)
        assert (accepted.status, refused.status) == ("accepted", "rejected")
        assert accepted.version is not None and accepted.version <= replica.version


def test_a_line_that_breaks_before_the_answer_changes_nothing() -> None:
    with playing(moving=True, latency_ticks=3) as pair:
        version = pair.replica.version
        for _ in range(4):
            pair.wire.lose(pair.now_ns)
            pair.reconnect()
            pair.step(2)
            assert (pair.replica.state, pair.replica.version) == ("resuming", version)
        pair.run_until_live()
        pair.step(8)
        assert pair.replica.version > version
        assert pair.replica.statistics().full_syncs_applied == 1


def test_another_node_on_the_same_store_goes_on_too() -> None:
    with playing() as pair:
        pair.wire.lose(pair.now_ns)
        pair.step(3)
        pair.restart(seed=5)
        come_back(pair)
        assert pair.replica.statistics().full_syncs_applied == 1
        assert len(pair.digests()) == 1


def history(pair: Pair, *, epoch: int, ancestors: tuple[tuple[int, int], ...]) -> None:
    """The node is started again, and its store says that its history is another one."""
    store = pair.authority.store
    for wire in pair.wires:
        wire.lose(pair.now_ns)
    store.epoch, store.ancestors = epoch, ancestors
    pair.restart(seed=8)


def test_a_version_of_an_ancestor_is_gone_on_from_in_the_new_epoch() -> None:
    with playing() as pair:
        replica = pair.replica
        epoch, held = replica.epoch, replica.version
        history(pair, epoch=99, ancestors=((epoch, pair.authority.version),))
        come_back(pair)
        assert (replica.epoch, replica.version >= held) == (99, True)
        assert replica.statistics().full_syncs_applied == 1
        assert events_of(replica)[1:] == [EpochChanged(epoch, replica.epoch), StateChanged("resuming", "live")]
        assert len(pair.digests()) == 1


def test_a_version_that_was_lost_is_not_gone_on_from() -> None:
    """The node went down with its newest versions, and has made others of the same numbers since."""
    with playing(moving=True) as pair:
        replica = pair.replica
        epoch, held = replica.epoch, replica.version
        history(pair, epoch=99, ancestors=((epoch, held - 1),))
        pair.step(5)
        assert pair.authority.version > held
        come_back(pair)
        assert replica.epoch == 99
        statistics = replica.statistics()
        assert (statistics.resumes, statistics.resumed_in_place, statistics.full_syncs_applied) == (1, 0, 2)
        assert len(pair.digests()) == 1


def test_a_history_that_is_nobodys_ancestor_is_not_gone_on_from() -> None:
    with playing() as pair:
        history(pair, epoch=99, ancestors=((12345, 1 << 40),))
        come_back(pair)
        assert pair.replica.statistics().full_syncs_applied == 2


def test_a_version_that_the_node_does_not_have_is_not_gone_on_from() -> None:
    with playing() as pair:
        pair.wire.lose(pair.now_ns)
        pair.replica._shown += 1000  # type: ignore[assignment]  # as of another history
        come_back(pair)
        assert pair.replica.statistics().full_syncs_applied == 2
        assert len(pair.digests()) == 1


def _without_history(delta: Callable[..., Delta]) -> Callable[..., Delta]:
    def cut(kernel: KernelStore, pin: Pin, base: int, *rest: Any) -> Delta:
        if base:
            raise HistoryGone(base)
        return delta(kernel, pin, base, *rest)

    return cut


def test_history_that_goes_between_the_answer_and_the_delta_is_a_full_sync_after_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with playing(moving=True) as pair:
        replica = pair.replica
        pair.wire.lose(pair.now_ns)
        pair.reconnect()
        pair.wire.to_node(pair.steps, pair.now_ns)
        assert pair.link.base == replica.version
        with monkeypatch.context() as patch:
            # As if so much had happened before there was room.
            patch.setattr(KernelStore, "delta", _without_history(KernelStore.delta))
            pair.step()
        pair.step(5)
        assert replica.state == "live"
        assert replica.statistics().full_syncs_applied == 2
        assert len(pair.digests()) == 1


@pytest.mark.parametrize("changes", [{"version": 77}, {"version": 1 << 60}, {"events_from": 0}], ids=str)
def test_a_node_that_goes_on_from_what_is_not_held_is_not_believed(changes: dict[str, int]) -> None:
    with playing() as pair:
        replica = pair.replica
        pair.wire.lose(pair.now_ns)
        pair.reconnect()
        wire = pair.wire
        wire.reads = False
        pair.step()
        wire.client_reader.feed(wire.down.read(pair.steps))
        frame = wire.client_reader.next_frame()
        resumed = decode_untrusted(frame.kind, frame.payload)
        assert isinstance(resumed, Resumed) and resumed.version == replica.version
        false = encode(replace(resumed, **changes))
        replica.receive_frame(false[4], false[FRAME_HEADER_BYTES:], pair.now_ns)
        assert replica.state == "closed"
        assert isinstance(replica.error, RemoteProtocolError)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["step", "lose", "restart", "spawn", "kill", "hit"]), st.integers(0, 6))))
def test_whatever_happens_meanwhile_both_hold_the_same_in_the_end(script: list[tuple[str, int]]) -> None:
    with playing(moving=True, latency_ticks=1) as pair:
        replica, hits = pair.replica, 0
        spawned: list[int] = []
        for what, number in script:
            if what == "step":
                pair.step(number)
            elif what == "lose" and not replica.reconnecting:
                pair.wire.lose(pair.now_ns)
            elif what == "restart":
                pair.restart(seed=number)
            elif what == "spawn":
                with pair.authority.store.transaction() as tx:
                    spawned.append(tx.spawn(transform={"x": float(number)}))
            elif what == "kill" and spawned:
                with pair.authority.store.transaction() as tx:
                    tx.despawn(spawned.pop(number % len(spawned)))
            elif what == "hit" and replica.state == "live":
                replica.send("hit", target=replica.entity)
                hits += 1
            if number % 2 and replica.reconnecting:
                pair.reconnect()
        if replica.reconnecting:
            pair.reconnect()
        pair.run_until_live()
        pair.step(max(12, 210 - pair.authority.tick_number))
        with pair.authority.store.view() as view:
            assert view[replica.entity, "health.hp"] == max(0, 100 - 10 * hits)
        assert len(pair.digests()) == 1
        assert replica.statistics().full_syncs_applied == 1
