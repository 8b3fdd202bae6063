"""A hub over real sockets: the one in Python, the native one, and two behind one face."""

import socket
import sys
from collections.abc import Callable, Iterator

import pytest

from ecsnet.authority import Batch, Link
from ecsnet.ids import Entity, Epoch, Tick, Version
from ecsnet.limits import RECEIVE_CHUNK_BYTES
from ecsnet.node.hub import Acks, Ended, Hub, Outgoing, PythonHub
from ecsnet.node.in_process import open_pair
from ecsnet.node.native_hub import NativeHub, best_hub
from ecsnet.node.two_hubs import SECURED_FROM, TwoHubs
from ecsnet.session.server import Offer, ServerSession
from ecsnet.wire.codec import ack_frame

OFFER = Offer(fingerprint=b"f" * 32, canonical=b"", commands=(), hz=60, name="game")


def two_hubs() -> Hub:
    """As of a node with a certificate."""
    return TwoHubs(best_hub(), PythonHub(SECURED_FROM))


HUBS: list[Callable[[], Hub]] = [PythonHub, two_hubs]
if sys.platform == "linux":
    HUBS.append(NativeHub)


@pytest.fixture(params=HUBS)
def hub(request: pytest.FixtureRequest) -> Iterator[Hub]:
    hub: Hub = request.param()
    yield hub
    hub.close()


class Peer:
    """A place in a hub, and the other end of its socket."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.ours, self.theirs = open_pair()
        self.place = hub.add(self.ours)

    def read(self) -> bytes:
        """Everything that has arrived."""
        parts = []
        while True:
            try:
                part = self.theirs.recv(1 << 20)
            except BlockingIOError:
                return b"".join(parts)
            if not part:
                return b"".join(parts)
            parts.append(part)

    def leave(self) -> None:
        self.hub.remove(self.place)
        self.ours.close()
        self.theirs.close()


def batch_for(places: list[int], block: bytes = b"a block", before: tuple[bytes, ...] = ()) -> Batch:
    """Deltas for sessions 1, 2, … at these places."""
    batch = Batch(Epoch(9), Version(12), Tick(30))
    number = batch.add_block(b"not this" + block + b"nor this")
    for session, place in enumerate(places, 1):
        server = ServerSession(OFFER, now_ns=0)
        server.session = session
        link = Link(session, "peer", server)
        link.place, link.entity = place, Entity(100 + session)
        batch.add(
            link,
            base=Version(11),
            digest=(3, 4),
            window=1,
            block=number,
            offset=8,
            length=len(block),
            before=before,
        )
    return batch


def _drain(hub: Hub, *, at_frame: bool = True) -> tuple[dict[int, bytes], list[Ended]]:
    """What came, acks as the bytes that they were."""
    arrived: dict[int, bytes] = {}

    def deliver(place: int, data: memoryview) -> bool:
        arrived[place] = arrived.get(place, b"") + bytes(data)
        return at_frame

    def take_acks(acks: Acks) -> None:
        for place, session, version, epoch, chunks, *_ in acks.tolist():
            arrived[place] = arrived.get(place, b"") + ack_frame(session, version, epoch, chunks)

    return arrived, hub.drain(deliver, take_acks)


def test_a_frame_arrives_whole_and_its_parts_in_order(hub: Hub) -> None:
    peers = [Peer(hub) for _ in range(3)]
    block = b"block" * 100

    taken = hub.send([Outgoing(peer.place, (b"head %d " % n, block, b"pad")) for n, peer in enumerate(peers)])

    for n, peer in enumerate(peers):
        expected = b"head %d " % n + block + b"pad"
        assert taken[n] == len(expected)
        assert peer.read() == expected
        peer.leave()


def test_a_batch_of_deltas_goes_to_the_places_that_its_entries_name(hub: Hub) -> None:
    peers = [Peer(hub) for _ in range(3)]
    gone = Peer(hub)
    gone.theirs.close()
    batch = batch_for([peers[2].place, peers[0].place, gone.place])

    taken = hub.send_deltas(batch)

    assert list(taken[:2]) == [batch.length(0), batch.length(1)]
    assert taken[2] < 0
    assert peers[2].read() == batch.frame(0)
    assert peers[0].read() == batch.frame(1) != batch.frame(0)
    assert peers[1].read() == b""
    for peer in (*peers, gone):
        peer.leave()


def test_what_goes_before_a_delta_goes_out_with_it(hub: Hub) -> None:
    peer = Peer(hub)
    batch = batch_for([peer.place], before=(b"e" * 64, b"f" * 72))

    assert list(hub.send_deltas(batch)) == [batch.length(0)]

    assert peer.read() == b"e" * 64 + b"f" * 72 + batch.frames(0)[2]
    peer.leave()


def test_what_arrived_is_handed_over_by_place(hub: Hub) -> None:
    first, second, silent = Peer(hub), Peer(hub), Peer(hub)
    first.theirs.send(b"one")
    second.theirs.send(b"two")

    arrived, ended = _drain(hub)

    assert arrived == {first.place: b"one", second.place: b"two"}
    assert ended == []
    assert _drain(hub) == ({}, []), "and only once"
    for peer in (first, second, silent):
        peer.leave()


def test_a_flood_from_one_costs_the_others_a_bounded_read(hub: Hub) -> None:
    """A stranger that sends without end must not hold up the tick."""
    flood, other = Peer(hub), Peer(hub)
    sent = 0
    while sent < 2 * RECEIVE_CHUNK_BYTES:
        sent += flood.theirs.send(b"x" * (2 * RECEIVE_CHUNK_BYTES - sent))
    other.theirs.send(b"y")

    arrived, _ = _drain(hub)

    assert 0 < len(arrived[flood.place]) <= RECEIVE_CHUNK_BYTES
    assert arrived[other.place] == b"y"
    received = len(arrived[flood.place])
    while received < sent:
        received += len(_drain(hub)[0][flood.place])
    assert received == sent, "what was left came later"
    flood.leave()
    other.leave()


def test_a_peer_that_hangs_up_is_reported_until_it_is_removed(hub: Hub) -> None:
    peer = Peer(hub)
    peer.theirs.send(b"last")
    peer.theirs.close()

    assert _drain(hub) == ({peer.place: b"last"}, [])
    assert _drain(hub) == ({}, [Ended(peer.place, 0)])
    assert _drain(hub) == ({}, [Ended(peer.place, 0)])

    peer.leave()
    assert _drain(hub) == ({}, [])


def test_sending_to_a_peer_that_is_gone_gives_the_errno_and_disturbs_nobody(hub: Hub) -> None:
    gone, there = Peer(hub), Peer(hub)
    gone.theirs.close()

    taken = hub.send([Outgoing(gone.place, (b"a" * 8,)), Outgoing(there.place, (b"b" * 8,))])

    assert taken[0] < 0
    assert taken[1] == 8
    assert there.read() == b"b" * 8
    gone.leave()
    there.leave()


def test_a_full_socket_takes_a_part_and_then_nothing_while_others_go_on(hub: Hub) -> None:
    """The three answers that the one-writer rule is about: whole, in part, nothing."""
    slow, quick = Peer(hub), Peer(hub)
    frame = b"f" * (1 << 20)

    taken = hub.send([Outgoing(slow.place, (frame, frame))])[0]
    assert 0 < taken < 2 * len(frame), "a part"
    while hub.send([Outgoing(slow.place, (frame,))])[0]:
        pass
    again = hub.send([Outgoing(slow.place, (frame,)), Outgoing(quick.place, (b"q" * 8,))])

    assert again == [0, 8]
    assert slow.read().startswith(b"fff")
    assert quick.read() == b"q" * 8
    slow.leave()
    quick.leave()


def test_a_disarmed_place_is_read_and_not_written(hub: Hub) -> None:
    """While its own task sends the rest of a frame, the hub must not begin another in the middle of it."""
    peer = Peer(hub)
    hub.disarm(peer.place)
    peer.theirs.send(b"ack")

    assert _drain(hub)[0] == {peer.place: b"ack"}
    with pytest.raises(AssertionError, match="two writers"):
        hub.send([Outgoing(peer.place, (b"x" * 8,))])

    hub.arm(peer.place)
    assert hub.send([Outgoing(peer.place, (b"x" * 8,))]) == [8]
    peer.leave()


def test_a_socket_may_not_be_closed_before_it_left(hub: Hub) -> None:
    """Its descriptor's next owner would be sent somebody else's world."""
    peer = Peer(hub)
    place, connected = peer.place, peer.ours
    duplicate = connected.dup()
    connected.close()

    with pytest.raises(AssertionError, match="closed before it left"):
        hub.remove(place)

    duplicate.close()
    peer.theirs.close()


def test_who_was_there_first_is_heard_first(hub: Hub) -> None:
    """The system reports sockets in the order in which they became readable, and gives descriptors out again: neither
    may decide whose command runs first, or equal seeds would not give equal runs."""
    gone, first = Peer(hub), Peer(hub)
    gone.leave()
    second = Peer(hub)
    assert second.ours.fileno() < first.ours.fileno(), "it has the descriptor of the one that is gone"
    second.theirs.send(b"2")
    first.theirs.send(b"1")

    arrived, _ = _drain(hub)

    assert list(arrived) == [first.place, second.place]
    first.leave()
    second.leave()


def test_acks_come_as_numbers_only_where_a_frame_may_begin(hub: Hub) -> None:
    """Forty-eight bytes in the middle of another frame may look like an ack and be none."""
    peer = Peer(hub)
    ack = ack_frame(5, 6, 7, 8)
    as_bytes: list[bytes] = []
    as_numbers: list[tuple[int, ...]] = []
    whole = True

    def deliver(place: int, data: memoryview) -> bool:
        as_bytes.append(bytes(data))
        return whole

    def take_acks(acks: Acks) -> None:
        as_numbers.extend(tuple(one)[:5] for one in acks.tolist())

    peer.theirs.send(2 * ack)
    hub.drain(deliver, take_acks)
    assert as_numbers == 2 * [(peer.place, 5, 6, 7, 8)] and as_bytes == []

    whole = False
    peer.theirs.send(b"the beginning of a frame")
    hub.drain(deliver, take_acks)
    whole = True
    peer.theirs.send(ack)
    hub.drain(deliver, take_acks)
    assert as_bytes == [b"the beginning of a frame", ack] and len(as_numbers) == 2

    hub.disarm(peer.place)
    hub.arm(peer.place)
    peer.theirs.send(ack)
    hub.drain(deliver, take_acks)
    assert len(as_numbers) == 3, "its frame has ended, so it may be an ack again"
    peer.leave()


@pytest.mark.parametrize("spoilt", [(0, 1), (4, 1), (8, 1), (23, 1), (48, 1), (71, 0x80)])
def test_what_is_an_ack_but_for_a_bit_comes_as_bytes(hub: Hub, spoilt: tuple[int, int]) -> None:
    """Whoever reads messages says what is wrong with it."""
    peer = Peer(hub)
    data = bytearray(2 * ack_frame(5, 6, 7, 8))
    at, bit = spoilt
    data[at] ^= bit
    as_bytes: list[bytes] = []

    def deliver(place: int, arrived: memoryview) -> bool:
        as_bytes.append(bytes(arrived))
        return True

    peer.theirs.send(data)
    hub.drain(deliver, lambda acks: pytest.fail("they are no acks"))

    assert as_bytes == [data]
    peer.leave()


def test_who_is_sent_to_first_is_another_one_each_time(hub: Hub) -> None:
    """Whoever is last waits for all others; nobody is to be last each time. Seen by what fits one pipe: the frames of
    two places over the same stream."""
    ours, theirs = open_pair()
    doubles = [ours.dup() for _ in range(16)]
    places = [hub.add(double) for double in doubles]
    batch = batch_for(places, block=b"x")
    first = set()
    for _ in range(64):
        taken = list(hub.send_deltas(batch))
        assert taken == [batch.length(number) for number in range(len(batch))]
        arrived = theirs.recv(1 << 20)
        frames = [arrived[at : at + taken[0]] for at in range(0, len(arrived), taken[0])]
        order = [frames.index(batch.frame(number)) for number in range(len(batch))]
        assert sorted(order) == list(range(16))
        first.add(order.index(0))
    assert len(first) == 16
    for place, double in zip(places, doubles, strict=True):
        hub.remove(place)
        double.close()
    ours.close()
    theirs.close()


def test_more_sockets_than_one_call_reports_by_default_are_all_heard(hub: Hub) -> None:
    """epoll gives 1023 descriptors a call unless it is asked for more."""
    resource = pytest.importorskip("resource")
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2400:
        pytest.skip("needs 2400 descriptors")
    ends = [socket.socketpair() for _ in range(1100)]
    places = [hub.add(ours) for ours, _ in ends]
    for _, theirs in ends:
        theirs.send(b"x")

    arrived, _ = _drain(hub)

    assert sorted(arrived) == sorted(places)
    for place, (ours, theirs) in zip(places, ends, strict=True):
        hub.remove(place)
        ours.close()
        theirs.close()
