"""Clients of the replication benchmark, many to a process.

Arguments: "probe", "sinks" or "slow", URL, how many, the step that positions are quantised to. A probe is one embedded
client as a game has it: it applies every version and notes when each became visible. Sinks join for real, ack as often
as a replica does, and throw the rows away, so that 50 clients do not take the cores that the node needs. A slow one is
a sink behind a thin line: it reads `SLOW_BYTES_PER_S`.
"""

import selectors
import socket
import sys
import time
from struct import Struct

import ecsnet
from ecsnet.bench.node_process import moving_schema
from ecsnet.bench.workers import Counts, answer_marks
from ecsnet.limits import ACK_INTERVAL_NS, FRAME_HEADER_BYTES, MESSAGE_TO_CLIENT_BYTES_MAX
from ecsnet.node.tcp import connect
from ecsnet.session.client import ClientSession
from ecsnet.session.states import State
from ecsnet.wire.codec import delta_head
from ecsnet.wire.framing import parse_header_untrusted
from ecsnet.wire.messages import DeltaSync, Kind, SyncBegin, SyncChunk

__all__ = ["SLOW_BYTES_PER_S", "main"]

_VERSION = Struct("<Q")


def _version_offset() -> int:
    """Where the version is in the frame of a delta: found by writing one."""
    marked = 0x1122_3344_5566_7788
    head = delta_head(session=1, epoch=1, base=1, version=marked, tick=1, entity=0, command_ack=0, block_bytes=8)
    return bytes(head).index(_VERSION.pack(marked))


_VERSION_AT = _version_offset()
_DELTA_HEAD_BYTES = _VERSION_AT + _VERSION.size
_RECEIVE_BYTES = 256 * 1024

SLOW_BYTES_PER_S = 40_000
"""What a slow client reads."""


class Sink:
    """A session without a replica. Until its full sync is whole it reads every frame; after that, of each delta the
    version alone.

    `compression`: it says that it reads compressed blocks, as a client with a replica does.
    """

    def __init__(self, url: str, step: float = 0.0, *, compression: bool = True) -> None:
        connected = connect(url, 5.0)
        assert isinstance(connected, socket.socket), "a sink speaks tcp://"
        self.socket = connected
        self.deltas = 0
        self.delta_bytes = 0
        fingerprint = moving_schema(step).fingerprint
        self._session = ClientSession(name="sink", fingerprint=fingerprint, compression=compression)
        self._session.connect(time.monotonic_ns())
        self._held = 0
        self._chunks = 0
        self._start = bytearray()  # of a frame of which not all that is needed is there
        self._needed = FRAME_HEADER_BYTES
        self._skip = 0
        self._frame_bytes = 0
        self._version = 0
        self._ack_due = False
        self._ack_now = False
        self._acked_ns = 0

    @property
    def joined(self) -> bool:
        return self._held > 0

    @property
    def session(self) -> tuple[int, int]:
        """Number and epoch, as acks name them."""
        return self._session.session, self._session.epoch

    @property
    def at_frame(self) -> bool:
        """Whether what comes next begins a frame."""
        return not self._start and not self._skip

    def receive(self, buffer: memoryview) -> None:
        """Take in what has arrived, then answer it."""
        while True:
            try:
                got = self.socket.recv_into(buffer)
            except BlockingIOError:
                break
            if not got:
                raise ConnectionError("the node ended the connection")
            self.take(buffer[:got])
            if got < len(buffer):
                break
        self.flush()

    def flush(self) -> None:
        """Send what there is to send; a sink's few bytes always have room."""
        now_ns = time.monotonic_ns()
        # As a replica does: a first version and chunks at once, versions every so often.
        if self._ack_now or (self._ack_due and now_ns - self._acked_ns >= ACK_INTERVAL_NS):
            self._session.ack(self._held, chunks=self._chunks)
            self._ack_due = self._ack_now = False
            self._acked_ns = now_ns
        frames = self._session.frames_to_send(now_ns)
        if frames:
            self.socket.sendall(b"".join(frames))

    def take(self, data: memoryview) -> None:
        """Bytes of the stream."""
        at = 0
        while at < len(data):
            if self._skip:
                skipped = min(self._skip, len(data) - at)
                at += skipped
                self._skip -= skipped
                if not self._skip:
                    self._delta_is_whole()
                continue
            piece = data[at : at + self._needed - len(self._start)]
            self._start += piece
            at += len(piece)
            if len(self._start) == self._needed:
                self._step()

    def _step(self) -> None:
        """All bytes that were needed are there: a header, the head of a delta, or a frame."""
        start = self._start
        payload_bytes, kind, _ = parse_header_untrusted(start, 0, MESSAGE_TO_CLIENT_BYTES_MAX)
        frame_bytes = FRAME_HEADER_BYTES + payload_bytes
        to_skip = kind == Kind.DELTA_SYNC and self._session.state is State.LIVE
        needed = _DELTA_HEAD_BYTES if to_skip else frame_bytes
        if len(start) < needed:
            self._needed = needed
            return
        if to_skip:
            (self._version,) = _VERSION.unpack_from(start, _VERSION_AT)
            self._frame_bytes = frame_bytes
            self._skip = frame_bytes - len(start)
            assert self._skip, "a delta has a block"
        else:
            self._session.receive_frame(kind, bytes(start[FRAME_HEADER_BYTES:]), time.monotonic_ns())
            self._note_events()
        start.clear()
        self._needed = FRAME_HEADER_BYTES

    def _delta_is_whole(self) -> None:
        self._held = self._version
        self.deltas += 1
        self.delta_bytes += self._frame_bytes
        self._ack_due = True

    def _note_events(self) -> None:
        while (event := self._session.next_event()) is not None:
            if isinstance(event, SyncBegin):
                self._chunks = 0
            elif isinstance(event, SyncChunk):
                self._chunks += 1
                self._ack_now = True
            elif isinstance(event, DeltaSync):
                self._held, self._chunks = event.version, 0
                self._ack_now = True


def run_sinks(url: str, count: int, step_m: float) -> None:
    """Join one after the other, then count until standard input ends."""
    selector = selectors.DefaultSelector()
    buffer = memoryview(bytearray(_RECEIVE_BYTES))
    sinks: list[Sink] = []

    def step() -> None:
        for key, _ in selector.select(0.2):
            key.data.receive(buffer)

    for _ in range(count):
        sink = Sink(url, step_m)
        sinks.append(sink)
        selector.register(sink.socket, selectors.EVENT_READ, sink)
        sink.flush()
        while not sink.joined:
            step()

    def counts() -> Counts:
        taken = {"deltas": sum(s.deltas for s in sinks), "delta_bytes": sum(s.delta_bytes for s in sinks)}
        new = {name: value - before[name] for name, value in taken.items()}
        before.update(taken)
        return new

    before = {"deltas": 0, "delta_bytes": 0}
    answer_marks({"joined": count}, counts)
    due = time.monotonic()
    while True:
        step()
        if time.monotonic() >= due:
            # Pings, for one.
            for sink in sinks:
                sink.flush()
            due = time.monotonic() + 0.2


def run_slow(url: str, step_m: float) -> None:
    """One client that takes little, for as long as it is let."""
    sink = Sink(url, step_m)
    # Or the system would take megabytes in its place, and it would be late without being slow.
    sink.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BYTES_PER_S)
    sink.flush()
    buffer = memoryview(bytearray(SLOW_BYTES_PER_S // 20))

    def counts() -> Counts:
        return {"deltas": sink.deltas, "delta_bytes": sink.delta_bytes, "held": sink.joined}

    answer_marks({"joined": 1}, counts)
    while True:
        time.sleep(0.05)
        try:
            got = sink.socket.recv_into(buffer)
        except BlockingIOError:
            got = -1
        if got == 0:
            raise ConnectionError("the node ended the slow client's connection")
        if got > 0:
            sink.take(buffer[:got])
        sink.flush()


def run_probe(url: str, step_m: float) -> None:
    """One client with its replica, in a thread of its own as in a game."""
    applied: list[tuple[int, int]] = []

    def counts() -> Counts:
        nonlocal applied
        taken, applied = applied, []
        statistics = client.statistics()
        new = statistics.delta_bytes_received - before[0]
        before[0] = statistics.delta_bytes_received
        return {"deltas": len(taken), "delta_bytes": new, "applied": taken}

    before = [0]
    with ecsnet.connect(
        url, moving_schema(step_m), name="probe", reconnect=False, on_version=lambda *seen: applied.append(seen)
    ) as client:
        answer_marks({"joined": 1}, counts)
        while client.state == "live":
            time.sleep(1 / 60)
            client.poll()
        raise ConnectionError(f"the probe's session ended: {client.reason or client.error}")


def main(kind: str, url: str, count: int, step_m: float) -> None:
    """Join and count until standard input ends."""
    if kind == "probe":
        run_probe(url, step_m)
    elif kind == "slow":
        run_slow(url, step_m)
    else:
        run_sinks(url, count, step_m)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]) if sys.argv[4:] else 0.0)
