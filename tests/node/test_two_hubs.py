"""Links with TLS and without in one batch."""

import socket
from collections.abc import Iterator

import pytest

from ecsnet.demo.certificate import Certificate, make_certificate
from ecsnet.limits import RECEIVE_CHUNK_BYTES
from ecsnet.node.hub import Acks, Hub, Outgoing
from ecsnet.node.tls import TlsSocket, Transport, client_context, server_context
from ecsnet.wire.codec import ack_frame
from tests.node.test_hub import batch_for, two_hubs


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


class End:
    """A place in a hub, and the client at its other end."""

    def __init__(self, hub: Hub, made: Certificate | None, *, buffer_bytes: int = 0) -> None:
        self.hub = hub
        ours, theirs = socket.socketpair()
        for raw in (ours, theirs):
            raw.setblocking(False)
            if buffer_bytes:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        self.ours: Transport = ours
        self.theirs: Transport = theirs
        if made is not None:
            self.ours = node = TlsSocket(ours, server_context(made.certificate))
            self.theirs = client = TlsSocket(theirs, client_context(made.ca), "localhost")
            while not all([client.shake_hands(), node.shake_hands()]):
                pass
        self.place = hub.add(self.ours)

    def read(self) -> bytes:
        """Everything that has arrived."""
        parts = []
        while True:
            try:
                parts.append(self.theirs.recv(RECEIVE_CHUNK_BYTES))
            except BlockingIOError:
                return b"".join(parts)

    def leave(self) -> None:
        self.hub.remove(self.place)
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = two_hubs()
    yield hub
    hub.close()


def test_one_batch_reaches_both_each_in_its_own_way(hub: Hub, made: Certificate) -> None:
    ends = [End(hub, made if number % 2 else None) for number in range(5)]
    batch = batch_for([end.place for end in ends], block=b"block" * 300, before=(b"e" * 64,))

    taken = hub.send_deltas(batch)

    assert list(taken) == [batch.length(number) for number in range(5)]
    assert [end.read() for end in ends] == [batch.frame(number) for number in range(5)]
    for end in ends:
        end.leave()


def test_of_a_batch_what_a_full_socket_did_not_take_is_said_where_it_belongs(hub: Hub, made: Certificate) -> None:
    """The rest is handed in again by whoever has that connection, and comes out whole."""
    full, plain, free = End(hub, made, buffer_bytes=4096), End(hub, None), End(hub, made)
    batch = batch_for([full.place, plain.place, free.place], block=bytes(range(256)) * 256)

    taken = hub.send_deltas(batch)

    assert 0 < taken[0] < batch.length(0)
    assert list(taken[1:]) == [batch.length(1), batch.length(2)]
    assert hub.send_deltas(batch_for([full.place]))[0] == 0, "what was begun comes first"
    hub.disarm(full.place)
    arrived, rest = full.read(), batch.frame(0)[taken[0] :]
    for _ in range(1000):
        try:
            rest = rest[full.ours.send(rest) :] if rest else rest
        except BlockingIOError:
            pass
        arrived += full.read()
    assert arrived == batch.frame(0) and not rest
    hub.arm(full.place)
    assert hub.send([Outgoing(full.place, (b"and ", b"on"))]) == [6]
    assert full.read() == b"and on"
    for end in (full, plain, free):
        end.leave()


def test_what_clients_say_comes_from_both_and_acks_as_numbers(hub: Hub, made: Certificate) -> None:
    ends = [End(hub, made), End(hub, None), End(hub, made)]
    ends[0].theirs.send(ack_frame(1, 2, 3, 4))
    ends[1].theirs.send(ack_frame(5, 6, 7, 8))
    ends[2].theirs.send(b"a command")
    acks: list[tuple[int, ...]] = []
    others: list[tuple[int, bytes]] = []

    def take_acks(arrived: Acks) -> None:
        acks.extend(tuple(one)[:5] for one in arrived.tolist())

    def deliver(place: int, data: memoryview) -> bool:
        others.append((place, bytes(data)))
        return True

    assert hub.drain(deliver, take_acks) == []

    assert sorted(acks) == sorted([(ends[0].place, 1, 2, 3, 4), (ends[1].place, 5, 6, 7, 8)])
    assert others == [(ends[2].place, b"a command")]
    for end in ends:
        end.theirs.close()
    assert sorted(one.place for one in hub.drain(deliver, take_acks)) == sorted(end.place for end in ends)
    for end in ends:
        hub.remove(end.place)
        end.ours.close()
