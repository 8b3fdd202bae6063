"""When a driver is to wake up: for an ack whose time has come, and for none that waits for room."""

import socket
from collections.abc import Iterator

import pytest

from ecsnet.authority import Authority
from ecsnet.limits import ACK_INTERVAL_NS, ACK_VERSIONS_MAX, MESSAGE_TO_NODE_BYTES_MAX, NS_PER_MS, NS_PER_S
from ecsnet.node.in_process import open_pair
from ecsnet.node.replica_link import ReplicaLink
from ecsnet.replica import Replica
from ecsnet.store import Transaction
from ecsnet.wire.framing import FrameReader
from tests.arena import arena

TICK_NS = 10 * NS_PER_MS


class Line:
    """An authority and a `ReplicaLink` at the ends of a socket, by a clock of the test's."""

    def __init__(self) -> None:
        self.now_ns = NS_PER_S
        self.moves = True
        world = arena()

        @world.system
        def wander(tx: Transaction) -> None:
            if self.moves:
                tx.spawn(transform={})

        self.authority = Authority(world, seed=3)
        self.node, theirs = open_pair()
        self.reader = FrameReader(MESSAGE_TO_NODE_BYTES_MAX)
        self.client = ReplicaLink(Replica(world), theirs, clock=lambda: self.now_ns)
        self.link = self.authority.open_link(self.now_ns)
        self.client.flush()
        while self.client.replica.state != "live":
            self.to_node()
            self.tick()

    def to_node(self) -> None:
        try:
            self.reader.feed(self.node.recv(1 << 20))
        except BlockingIOError:
            return
        while (frame := self.reader.next_frame()) is not None:
            self.authority.receive_frame(self.link, frame.kind, frame.payload, self.now_ns)

    def tick(self) -> None:
        """A tick of the node, and what it sends arrives."""
        self.now_ns += TICK_NS
        self.authority.tick(self.now_ns)
        while (transmit := self.authority.next_transmit(self.link, self.now_ns)) is not None:
            self.node.sendall(b"".join(transmit.parts))
            self.authority.record_sent(self.link, transmit, self.now_ns)
        self.wake()

    def wake(self) -> None:
        """What a driver does whenever it wakes up."""
        self.client.receive()
        self.client.handle_timeout()
        self.client.flush()

    def close(self) -> None:
        self.node.close()
        self.client.socket.close()
        self.client.replica.release()
        self.authority.close()


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.close()


def test_at_rest_the_driver_wakes_up_for_the_last_ack(line: Line) -> None:
    """Nothing else would wake it before the next ping, and until then the node would take the client for slow."""
    line.to_node()
    line.tick()
    line.moves = False
    assert line.client.replica.version == line.authority.version

    while (wait_s := line.client.timeout_s()) < 0.2:
        assert wait_s > 0.0
        line.now_ns += round(wait_s * NS_PER_S)
        line.wake()
        line.to_node()

    assert line.link.acked == line.authority.version
    assert line.link.window.lag_ns is not None and line.link.window.lag_ns <= ACK_INTERVAL_NS + TICK_NS


def test_acks_are_few_and_never_so_few_that_the_window_shuts(line: Line) -> None:
    """One in 50 ms where versions come slowly, one in eight where they come fast."""
    for period_ns, seconds, acks_max in ((16 * NS_PER_MS, 1, 22), (NS_PER_MS, 1, 1000 // ACK_VERSIONS_MAX + 25)):
        before, received = line.authority.version, line.link.frames_received
        for _ in range(seconds * NS_PER_S // period_ns):
            line.now_ns += period_ns - TICK_NS
            line.tick()
            line.to_node()
            assert line.link.window.unacked <= ACK_VERSIONS_MAX
        assert line.client.replica.version == line.authority.version
        assert line.authority.version - before == seconds * NS_PER_S // period_ns
        assert line.link.frames_received - received <= acks_max + 2 * seconds, "acks and pings"


def test_an_ack_that_waits_for_room_wakes_nobody(line: Line) -> None:
    """It is the socket that says when; a time that is over would have the driver run round and round."""
    socket_ = line.client.socket
    line.to_node()
    socket_.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    filling = 0
    try:
        while True:
            filling += socket_.send(bytes(4096))
    except BlockingIOError:
        pass
    line.client.replica.send("steer", dx=1.0, dy=0.0)
    line.client.flush()
    assert line.client.wants_room

    for _ in range(20):
        line.tick()
        assert line.client.timeout_s() > 0.0

    while filling:
        filling -= len(line.node.recv(filling))
    line.client.flush()
    line.to_node()
    assert line.link.acked == line.authority.version
