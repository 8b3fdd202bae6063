"""One replica joined to a connected socket, and to another one after a loss: takes in, applies, answers, and never
waits.

Whoever drives it waits: a thread, a game's own loop, a Trio task. The driver's part is to call `receive` when the
socket is readable, `flush` when there is something to send or the socket has room again, `handle_timeout` when
`timeout_s` is over, and to close the socket once `is_over`; then, if the replica is `reconnecting`, to `attach` another
(see `reconnect`).

Invariants:
- the replica is touched under `lock` alone, for one frame at a time, so that another thread may look at it or send a
  command in between;
- frames are taken from the replica only when those before them are out: what a slow link holds up stays in the
  session, where a newer ack or input replaces an older one;
- nothing of one connection reaches the next: neither half a frame that arrived nor the rest of one that was sent.
"""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable

from ecsnet.errors import RemoteProtocolError
from ecsnet.ids import Tick, Version
from ecsnet.limits import MESSAGE_TO_CLIENT_BYTES_MAX, NS_PER_S, RECEIVE_CHUNK_BYTES
from ecsnet.node.tls import TlsSocket, Transport
from ecsnet.replica import Replica
from ecsnet.wire.framing import FrameReader

OnVersion = Callable[[Version, int], None]
"""Called right after a version became visible, with it and what the client's clock (CLOCK_MONOTONIC outside of
simulations) said then, in nanoseconds. It runs on the thread that drives the network, inside of it: keep it short, and
do not call the client from it."""

_TIMEOUT_S_MAX = 1.0


class ReplicaLink:
    """See the file. The socket is non-blocking, and this object's from now on."""

    __slots__ = ("_out", "_reader", "_transport_open", "clock", "lock", "replica", "socket")

    def __init__(
        self,
        replica: Replica,
        connected: Transport,
        on_version: OnVersion | None = None,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.replica = replica
        self.lock = threading.Lock()
        self.clock = clock
        if on_version is not None:
            report = on_version

            def on_applied(version: Version, tick: Tick) -> None:
                report(version, clock())

            replica.on_applied = on_applied
        self._begin(connected)

    def _begin(self, connected: Transport) -> None:
        self.socket = connected
        self._reader = FrameReader(MESSAGE_TO_CLIENT_BYTES_MAX)
        self._out: memoryview | None = None
        self._transport_open = True
        self.replica.connect(self.clock())

    @property
    def is_over(self) -> bool:
        """Nothing more can come or go: close the socket. Where another session is wanted, nobody waits for a node that
        has stopped reading to take the end of this one."""
        if not self._transport_open:
            return True
        return self.replica.closing and (self._out is None or self.replica.reconnecting)

    @property
    def wants_room(self) -> bool:
        """Whether `flush` waits for the socket to have room."""
        return self._out is not None

    def attach(self, connected: Transport) -> bool:
        """Begin another session over `connected`, which is this object's then; the socket before it was closed. False
        if the replica wants none any more: it stays the caller's."""
        with self.lock:
            if not self.replica.reconnecting:
                return False
            self._begin(connected)
        return True

    def receive(self, until_ns: int | None = None) -> bool:
        """Take in what has arrived, all of it or until the clock says `until_ns`; True if there may be more."""
        while self._transport_open and not self.replica.closing:
            try:
                frame = self._reader.next_frame()
            except RemoteProtocolError as error:
                with self.lock:
                    self.replica.receive_error(error, self.clock())
                return False
            if frame is not None:
                with self.lock:
                    self.replica.receive_frame(frame.kind, frame.payload, self.clock())
                if until_ns is not None and self.clock() >= until_ns:
                    return True
                continue
            try:
                data = self.socket.recv(RECEIVE_CHUNK_BYTES)
            except BlockingIOError:
                return False
            except OSError as error:
                self._lost(f"the connection was lost: {error.strerror or error}")
                return False
            if not data:
                self._lost("the node ended the connection without a goodbye")
                return False
            self._reader.feed(data)
        return False

    def flush(self) -> None:
        """Send what there is to send, as far as the socket has room."""
        while self._transport_open:
            if self._out is None:
                with self.lock:
                    frames = self.replica.frames_to_send(self.clock())
                if not frames:
                    return
                self._out = memoryview(b"".join(frames))
            try:
                taken = self.socket.send(self._out)
            except BlockingIOError:
                return
            except OSError as error:
                # What the node said last may still lie in the receive buffer: why it hung up, for one.
                self.receive()
                self._lost(f"the connection was lost: {error.strerror or error}")
                return
            self._out = self._out[taken:] if taken < len(self._out) else None

    def timeout_s(self) -> float:
        """Seconds until `handle_timeout` is due, one at most."""
        with self.lock:
            due_ns = self.replica.next_timeout_ns(may_send=not self.wants_room)
        if due_ns is None:
            return _TIMEOUT_S_MAX
        return min(_TIMEOUT_S_MAX, max(0.0, (due_ns - self.clock()) / NS_PER_S))

    def handle_timeout(self) -> None:
        """What is due by the clock, if anything is."""
        now_ns = self.clock()
        with self.lock:
            due_ns = self.replica.next_timeout_ns()
            if due_ns is not None and due_ns <= now_ns:
                self.replica.handle_timeout(now_ns)

    def say_goodbye(self, reason: str = "") -> None:
        """End the session from our side; `flush` then sends the goodbye. Idempotent."""
        with self.lock:
            self.replica.close(self.clock(), reason)

    def cut(self) -> None:
        """End the connection as a bad line does: neither side says anything, what was on its way is gone. Whoever
        drives the link finds out by reading."""
        raw = self.socket.raw if isinstance(self.socket, TlsSocket) else self.socket
        with contextlib.suppress(OSError):  # there is none
            # Closed with unsent data the system drops those, and tells the other side by a reset.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with contextlib.suppress(OSError):
            raw.shutdown(socket.SHUT_RDWR)

    def _lost(self, reason: str) -> None:
        self._transport_open = False
        self._out = None
        with self.lock:
            self.replica.disconnected(self.clock(), reason)
