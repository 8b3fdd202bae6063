"""The processes of the fan-out benchmark: servers that send as many bytes as a node, and clients, hundreds of them in
one process.

A server: "serve", kind, hz, bytes of a frame. `sends` hands out one frame a tick from the kernel's loop of `send` and
does nothing else; `sends and reads` also reads the acks, as a node must, and throws them away: what no node can do with
less. `tasks` is the usual program: for each client a Trio task that sends and another that reads.

Clients: "clients", URL, how many. At a node (`tcp://`) they join for real; at the others (`raw://`) they connect. All
take whole deltas and ack as often as a replica does, and note when the last of them had each version.

Invariant: the servers send ordinary frames of deltas, so that the clients' work is the same beside all of them.
"""

import select
import socket
import sys
import time
from struct import Struct
from typing import Any, Final

import trio

from ecsnet._kernel.hub import KernelHub
from ecsnet.authority.batch import ENTRY
from ecsnet.bench.client_process import Sink
from ecsnet.bench.workers import Counts, allow_descriptors, answer_marks
from ecsnet.ids import Version
from ecsnet.limits import ACK_INTERVAL_NS, MESSAGE_TO_CLIENT_BYTES_MAX, NS_PER_S
from ecsnet.node.hub import Acks, Hub
from ecsnet.node.native_hub import NativeHub, best_hub
from ecsnet.node.tcp import tune
from ecsnet.wire.codec import DELTA_HEAD_BYTES, DeltaFrames, ack_frame, decode_untrusted
from ecsnet.wire.framing import FrameReader
from ecsnet.wire.messages import Kind

__all__ = ["main"]

_EPOCH: Final = 1
_FRONT: Final = Struct("<IBBH")
_VERSION: Final = Struct("<Q")
_VERSION_AT: Final = 40
"""Of a delta's frame (`kernel/zig/frame.zig`)."""
_DELTA: Final = int(Kind.DELTA_SYNC)
_JOINING_AT_ONCE: Final = 50


# --- servers ----------------------------------------------------------------------------------------------------------


class _Ticks:
    """When each version was begun, and which is next."""

    def __init__(self) -> None:
        self.version = 0
        self._began: list[tuple[int, int]] = []

    def begin(self) -> int:
        self.version += 1
        self._began.append((self.version, time.monotonic_ns()))
        return self.version

    def take(self) -> Counts:
        began, self._began = self._began, []
        return {"ticks": len(began), "began": began}


def serve_sends(hz: int, frame_bytes: int, *, reads: bool) -> None:
    """Send from one loop in the kernel, and read what comes if asked to."""
    listener = _listener()
    hub, ticks = KernelHub(), _Ticks()
    block = bytes(frame_bytes - DELTA_HEAD_BYTES)
    sockets: list[socket.socket] = []
    entries = bytearray()
    answer_marks({"url": _url(listener)}, ticks.take)
    due_ns = time.monotonic_ns()
    while True:
        due_ns += NS_PER_S // hz
        time.sleep(max(0, due_ns - time.monotonic_ns()) / NS_PER_S)
        due_ns = max(due_ns, time.monotonic_ns() - NS_PER_S // hz)
        while (connected := _accepted(listener)) is not None:
            sockets.append(connected)
            place = hub.add(connected.fileno())
            entries += ENTRY.pack(place, place, 0, 1, 0, 0, 0, 0, 0, 0, len(block), 0)
        version = ticks.begin()
        if reads:
            hub.poll()
            while len(hub.receive()):
                pass
        taken = hub.send_deltas(version, version, _EPOCH, entries, [block])
        if ((taken > 0) & (taken < frame_bytes)).any():
            raise ConnectionError("a socket took a part of a frame: these clients are too slow for the bare sends")


async def serve_tasks(hz: int, frame_bytes: int) -> None:
    """A task that sends and a task that reads for each client."""
    ticks, block = _Ticks(), bytes(frame_bytes - DELTA_HEAD_BYTES)
    lot = trio.lowlevel.ParkingLot()
    frames: list[DeltaFrames] = []
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1024)

    async def send(stream: trio.SocketStream, session: int) -> None:
        while True:
            await lot.park()
            await stream.send_all(frames[-1].frame(session, 0, 0))

    async def read(stream: trio.SocketStream) -> None:
        while await stream.receive_some(4096):
            pass

    async def accept(tasks: trio.Nursery) -> None:
        session = 0
        while True:
            stream = await listener.accept()
            session += 1
            tasks.start_soon(send, stream, session)
            tasks.start_soon(read, stream)

    async with trio.open_nursery() as tasks:
        tasks.start_soon(accept, tasks)
        answer_marks({"url": f"raw://127.0.0.1:{listener.socket.getsockname()[1]}"}, ticks.take)
        start, due = trio.current_time(), 0
        while True:
            due = max(due + 1, int((trio.current_time() - start) * hz))
            await trio.sleep_until(start + due / hz)
            version = ticks.begin()
            frames[:] = [DeltaFrames(epoch=_EPOCH, base=1, version=version, tick=version, digest=(0, 0), block=block)]
            lot.unpark_all()


def _listener() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setblocking(False)
    return listener


def _url(listener: socket.socket) -> str:
    return f"raw://127.0.0.1:{listener.getsockname()[1]}"


def _accepted(listener: socket.socket) -> socket.socket | None:
    try:
        connected, _ = listener.accept()
    except BlockingIOError:
        return None
    tune(connected)
    return connected


# --- clients ----------------------------------------------------------------------------------------------------------


class _Client:
    __slots__ = ("acked_ns", "frames", "reader", "session", "socket")

    def __init__(self, connected: socket.socket, session: tuple[int, int]) -> None:
        self.socket = connected
        self.session = session
        self.reader = FrameReader(MESSAGE_TO_CLIENT_BYTES_MAX)
        self.acked_ns = 0
        self.frames = 0


class Clients:
    """Those of one process."""

    def __init__(self) -> None:
        self.hub: Hub = best_hub()
        self.clients: dict[int, _Client] = {}
        self._arrived: dict[int, list[int]] = {}
        self._bytes = 0
        self._unacked: dict[_Client, int] = {}
        """Versions that are not acked yet, since something was a moment ago."""

    def add(self, connected: socket.socket, session: tuple[int, int]) -> None:
        self.clients[self.hub.add(connected)] = _Client(connected, session)

    def step(self, wait_s: float = 0.2) -> None:
        """Wait a moment for something to come, and take all of it in."""
        if isinstance(self.hub, NativeHub):
            select.select([self.hub.descriptor], [], [], wait_s)
        else:
            time.sleep(min(wait_s, 0.001))
        for ended in self.hub.drain(self._deliver, _no_acks):
            raise ConnectionError(f"the server ended a connection (errno {ended.error})")
        # Nothing more may come until it is acked.
        now_ns = time.monotonic_ns()
        for client, version in list(self._unacked.items()):
            if now_ns - client.acked_ns >= ACK_INTERVAL_NS:
                self._ack(client, version, now_ns)

    def take(self) -> Counts:
        """What came since the last time: by version how many clients had it, and when the last of them did."""
        arrived, self._arrived = self._arrived, {}
        frames = [client.frames for client in self.clients.values()]
        for client in self.clients.values():
            client.frames = 0
        size, self._bytes = self._bytes, 0
        return {"arrived": [(version, *one) for version, one in arrived.items()], "frames": frames, "bytes": size}

    def _deliver(self, place: int, data: memoryview) -> bool:
        client = self.clients[place]
        self._bytes += len(data)
        if not client.reader.buffered_bytes:
            payload_bytes, kind, _, _ = _FRONT.unpack_from(data)
            if kind == _DELTA and payload_bytes + _FRONT.size == len(data):
                self._take(client, _VERSION.unpack_from(data, _VERSION_AT)[0])
                return True
        client.reader.feed(data)
        for frame in client.reader:
            if frame.kind == _DELTA:
                self._take(client, _VERSION.unpack_from(frame.payload, _VERSION_AT - _FRONT.size)[0])
            elif frame.kind in (Kind.GOODBYE, Kind.ERROR):
                raise ConnectionError(f"the server ended a session: {decode_untrusted(frame.kind, frame.payload)}")
        return False

    def _take(self, client: _Client, version: int) -> None:
        now_ns = time.monotonic_ns()
        client.frames += 1
        seen = self._arrived.get(version)
        if seen is None:
            self._arrived[version] = [1, now_ns]
        else:
            seen[0] += 1
            seen[1] = now_ns
        if now_ns - client.acked_ns >= ACK_INTERVAL_NS:
            self._ack(client, version, now_ns)
        else:
            self._unacked[client] = version

    def _ack(self, client: _Client, version: int, now_ns: int) -> None:
        self._unacked.pop(client, None)
        client.acked_ns = now_ns
        session, epoch = client.session
        client.socket.send(ack_frame(session, Version(version), epoch, 0))


def _no_acks(acks: Acks) -> None:
    raise ConnectionError("a server does not ack")


def run_clients(url: str, count: int) -> None:
    """Join or connect, then take what comes until standard input ends."""
    clients = Clients()
    while len(clients.clients) < count:
        some = min(_JOINING_AT_ONCE, count - len(clients.clients))
        if url.startswith("tcp:"):
            for sink in _joined(url, some, clients):
                clients.add(sink.socket, sink.session)
        else:
            host, _, port = url.removeprefix("raw://").rpartition(":")
            for _ in range(some):
                connected = socket.create_connection((host, int(port)), timeout=10.0)
                tune(connected)
                clients.add(connected, (1, _EPOCH))
    answer_marks({"joined": count}, clients.take)
    while True:
        clients.step()


def _joined(url: str, count: int, others: Clients) -> list[Sink]:
    """Clients that have joined; the others go on meanwhile."""
    # Their frames are to be of the length that is sent beside them.
    sinks = [Sink(url, compression=False) for _ in range(count)]
    buffer: Any = memoryview(bytearray(256 * 1024))
    for sink in sinks:
        sink.flush()
    waiting = select.poll()
    by_descriptor = {sink.socket.fileno(): sink for sink in sinks}
    for descriptor in by_descriptor:
        waiting.register(descriptor, select.POLLIN)
    while any(not sink.joined or not sink.at_frame for sink in sinks):
        for descriptor, _ in waiting.poll(5):
            by_descriptor[descriptor].receive(buffer)
        others.step(0)
    return sinks


def main(role: str, *arguments: str) -> None:
    """Serve or read until standard input ends."""
    allow_descriptors()
    if role == "clients":
        run_clients(arguments[0], int(arguments[1]))
    elif arguments[0] == "tasks":
        trio.run(serve_tasks, int(arguments[1]), int(arguments[2]))
    else:
        serve_sends(int(arguments[1]), int(arguments[2]), reads=arguments[0] == "sends and reads")


if __name__ == "__main__":
    main(*sys.argv[1:])
