"""The batch of a tick: the same bytes as link by link, and what has happened when only a part of them was taken."""

import numpy as np
import pytest

from ecsnet import Event
from ecsnet.authority import Batch
from ecsnet.authority.batch import ENTRY
from ecsnet.ids import Version
from ecsnet.wire.framing import parse_header_untrusted
from ecsnet.wire.messages import Kind
from tests.arena import arena
from tests.helpers import Pair
from tests.test_typed_events import Hit, Said
from tests.test_typed_events import world as world_with_events


def with_places(pair: Pair) -> Pair:
    pair.run_until_live()
    pair.step(3)
    if "velocity" in pair.world.schema:
        with pair.authority.store.transaction() as tx:
            for replica in pair.replicas:
                tx.update(replica.entity, "velocity", x=1.0)
        pair.step()
    for number, wire in enumerate(pair.wires):
        wire.link.place = 100 + number
    return pair


def ticked(pair: Pair) -> Batch:
    """A tick of which nothing has been sent yet."""
    pair.now_ns += 10_000_000
    pair.authority.tick(pair.now_ns)
    return pair.authority.deltas_to_send(pair.now_ns)


def deliver(pair: Pair, number: int, data: bytes) -> None:
    assert pair.wires[number].down.write(data, pair.steps)
    pair.wires[number].to_client(pair.steps, pair.now_ns)


def test_a_batch_has_the_bytes_that_each_link_would_be_given_alone() -> None:
    pair = with_places(Pair(arena(), clients=3, latency_ticks=0))

    batch = ticked(pair)
    alone = [pair.authority.next_transmit(wire.link, pair.now_ns) for wire in pair.wires]

    assert [batch.place(number) for number in range(len(batch))] == [100, 101, 102]
    assert batch.rest == []
    assert len(batch.blocks) == 1, "clients that hold the same share their block"
    for number, transmit in enumerate(alone):
        assert transmit is not None
        assert batch.frame(number) == b"".join(transmit.parts)
        assert batch.length(number) == len(batch.frame(number))
    assert len(batch.entries) == 3 * ENTRY.size


def test_a_part_of_a_batch_has_the_frames_of_the_whole() -> None:
    with with_places(Pair(arena(), clients=3)) as pair:
        batch = ticked(pair)
        part = batch.part(np.array([2, 0]))

        assert [part.place(number) for number in range(2)] == [batch.place(2), batch.place(0)]
        assert [part.frame(number) for number in range(2)] == [batch.frame(2), batch.frame(0)]
        assert list(part.lengths()) == [batch.length(2), batch.length(0)]
    pair, batch = with_events()
    with pair:
        assert batch.part(np.array([0])).frames(0) == batch.frames(0)
        assert len(batch.frames(0)) > 1


def test_what_was_taken_has_happened_and_what_was_refused_is_cut_anew() -> None:
    pair = with_places(Pair(arena(), clients=3))
    base = pair.link.base

    batch = ticked(pair)
    deliver(pair, 0, batch.frame(0))
    # In part: its rest follows, so it has happened too. Nothing: it has not. Gone: the driver sees to that.
    pair.authority.record_batch(batch, np.array([batch.length(0), 5, 0], np.int32), pair.now_ns)

    assert [wire.link.base for wire in pair.wires] == [batch.version, batch.version, base]
    assert batch.begun(1, 5) == batch.length(1)
    assert pair.wires[2].link.blocked_since_ns == pair.now_ns
    again = ticked(pair)
    assert [ENTRY.unpack_from(again.entries, ENTRY.size * number)[3] for number in range(3)] == [
        batch.version,
        batch.version,
        base,
    ]
    deliver(pair, 2, again.frame(2))
    assert pair.wires[2].replica.version == again.version


def test_a_place_that_is_gone_changes_nothing() -> None:
    pair = with_places(Pair(arena()))
    base = pair.link.base

    batch = ticked(pair)
    pair.authority.record_batch(batch, np.array([-32], np.int32), pair.now_ns)

    assert pair.link.base == base
    assert pair.link.blocked_since_ns is None


def test_a_link_without_a_place_or_with_something_else_to_say_is_served_by_itself() -> None:
    pair = with_places(Pair(arena(), clients=2))
    pair.wires[0].link.place = None
    pair.authority.kick(pair.wires[1].link, "enough", pair.now_ns)

    batch = ticked(pair)

    assert len(batch) == 0
    assert set(batch.rest) == {pair.wires[0].link, pair.wires[1].link}


def with_events() -> tuple[Pair, Batch]:
    """The batch of a tick in which rows of events were made, two messages of them."""
    pair = with_places(Pair(world_with_events()))
    while pair.replica.next_event() is not None:
        pass
    with pair.authority.store.transaction() as tx:
        tx.insert(Hit(target=pair.replica.entity, damage=10))
    ticked(pair)
    with pair.authority.store.transaction() as tx:
        tx.insert(Said(words="ouch"))
    batch = ticked(pair)
    assert [len(frames) for frames in batch.before.values()] == [2]
    return pair, batch


def test_rows_of_events_go_before_the_delta_in_frames_of_their_own() -> None:
    pair, batch = with_events()

    frames = batch.frames(0)

    assert b"".join(frames) == batch.frame(0)
    assert [frame[4] for frame in frames] == [Kind.EVENT, Kind.EVENT, Kind.DELTA_SYNC], (
        "two messages of events, then the delta"
    )
    for frame in frames:
        assert parse_header_untrusted(frame, 0, 1 << 20)[0] + 8 == len(frame)
    deliver(pair, 0, batch.frame(0))
    pair.authority.record_batch(batch, np.array([batch.length(0)], np.int32), pair.now_ns)
    assert pair.replica.version == batch.version
    pair.step(3)
    assert pair.replica.version == pair.authority.version
    assert len(pair.digests()) == 1


@pytest.mark.parametrize("frames_begun", [0, 1, 2, 3])
@pytest.mark.parametrize("whole", [True, False])
def test_of_frames_in_one_piece_those_that_were_begun_have_happened(frames_begun: int, whole: bool) -> None:
    """Wherever the system stops taking, the peer gets each message once and whole."""
    pair, batch = with_events()
    ends = [0]
    for frame in batch.frames(0):
        ends.append(ends[-1] + len(frame))
    taken = ends[frames_begun] if whole else ends[frames_begun] - 3
    if taken <= 0:
        taken = 0

    begun = batch.begun(0, taken)
    assert begun == ends[frames_begun]
    if begun:
        deliver(pair, 0, batch.frame(0)[:begun])
    pair.authority.record_batch(batch, np.array([taken], np.int32), pair.now_ns)
    if frames_begun < 3:
        assert pair.link.blocked_since_ns == pair.now_ns
        assert pair.link.base < batch.version
    else:
        assert pair.link.base == batch.version
    pair.step(4)

    events: list[object] = []
    while (event := pair.replica.next_event()) is not None:
        events.append(event)
    assert [type(event) for event in events if isinstance(event, Event)] == [Hit, Said], "each is told once"
    assert pair.replica.version == pair.authority.version
    assert len(pair.digests()) == 1


def test_a_version_that_is_not_a_step_makes_no_batch() -> None:
    pair = with_places(Pair(arena(moving=False)))
    pair.step(2)

    batch = ticked(pair)

    assert not batch
    assert batch.version == Version(pair.authority.version)
