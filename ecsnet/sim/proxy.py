"""A bad line in front of anything that speaks TCP: what comes in at one address goes out to another, as late and as
bunched up as a link profile makes it.

    client ──► listener ── up ──► target           each connection has its own two paths, with generators of their own
           ◄────────────── down ◄──

Works in real time on real sockets, and on Trio's mock clock, whose time it uses.

Invariants:
- bytes are neither lost, changed nor reordered, in either direction;
- a side is read no faster than its path takes: the other end's slowness reaches it as its own system's full buffer;
- the end of one direction is carried over in its place behind the bytes, and the other direction goes on; an error is
  carried over as an error (a reset), after which neither direction goes on.
"""

import contextlib
import errno
import logging
import math
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable

import msgspec
import trio

from ecsnet.errors import ArgumentError
from ecsnet.limits import NS_PER_S, TCP_NOTSENT_LOWAT_BYTES
from ecsnet.node.tcp import address_of, listen, parse_url, why_not_connected
from ecsnet.node.waiting import unwrapping
from ecsnet.sim.link import NEVER, StreamPath, stream_paths
from ecsnet.sim.profile import Profile

log = logging.getLogger(__name__)

CHUNK_BYTES = 16 * 1024
"""Read at once. They arrive together, so a whole buffer's worth would come in steps."""

BUFFER_BYTES = TCP_NOTSENT_LOWAT_BYTES
"""Of a path: what a node's own system would hold unsent, since a node tunes its sockets so. The more the proxy took in,
the older would be what it hands out, and the later would the node learn that a line is too thin."""

UNREAD_BYTES = 64 * 1024
"""Of a socket: what a system holds that we have not read comes on top, and would grow to megabytes by itself."""

ACCEPT_AGAIN_S = 0.1
"""When there are no descriptors left."""


class WayStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """One direction of all connections so far. Delay is from reading a chunk of bytes to writing it."""

    bytes: int
    chunks: int
    segments_lost: int
    delay_ms_mean: float | None
    delay_ms_max: float | None


class ProxyStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """All connections so far; `failed` never reached the target, `reset` ended by an error of either side."""

    connections: int
    open: int
    failed: int
    reset: int
    down: WayStatistics
    up: WayStatistics


class Way:
    """One direction of one connection: a path, and the tasks at its two ends."""

    def __init__(self, path: StreamPath) -> None:
        self.path = path
        self.broken = False
        """It ends with an error, which is told to its reader in the same place."""
        self.is_over = False
        self.back = self
        """The other direction of the connection."""
        self.delay_ns_sum = 0
        self.delay_ns_max = 0
        self._taken_ns: deque[int] = deque()
        self._changed = trio.Event()

    async def carry(self, source: trio.abc.ReceiveStream, sink: trio.abc.HalfCloseableStream) -> None:
        """Until the end of `source` has come out at `sink`, which is told so.

        Raises:
            trio.BrokenResourceError: `source` broke, as `sink` is to learn now; or `sink` did, and there is nobody left
            to carry that over.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take_in, source)
            try:
                await self._hand_out(sink)
            except trio.BrokenResourceError:
                if self.broken or self.back.is_over:
                    raise
                # The other direction reads from the same socket, and carries it over in its place.
                self.back.broken = True
            self.is_over = True
            nursery.cancel_scope.cancel()

    async def _take_in(self, source: trio.abc.ReceiveStream) -> None:
        path = self.path
        try:
            while data := bytes(await source.receive_some(CHUNK_BYTES)):
                now_ns = _now_ns()
                while not path.send(data, now_ns):
                    # Somebody may read in the meantime, which makes room as well.
                    await self._wait_until(path.room_ns(now_ns))
                    now_ns = _now_ns()
                self._taken_ns.append(now_ns)
                self._change()
        except trio.BrokenResourceError:
            self.broken = True
        path.close(_now_ns())
        self._change()

    async def _hand_out(self, sink: trio.abc.HalfCloseableStream) -> None:
        path = self.path
        while True:
            now_ns = _now_ns()
            arrived = path.receive(now_ns)
            if arrived:
                for _ in arrived:
                    delay_ns = now_ns - self._taken_ns.popleft()
                    self.delay_ns_sum += delay_ns
                    self.delay_ns_max = max(self.delay_ns_max, delay_ns)
                self._change()
                await sink.send_all(b"".join([data for _, data in arrived]))
            elif path.ended(now_ns):
                break
            else:
                await self._wait_until(path.next_ns)
        if self.broken:
            raise trio.BrokenResourceError
        with contextlib.suppress(trio.BrokenResourceError):
            # That nothing follows is no news to one that has closed.
            await sink.send_eof()

    def _change(self) -> None:
        """Wake the task at the other end."""
        self._changed.set()
        self._changed = trio.Event()

    async def _wait_until(self, when_ns: int) -> None:
        """For a change, until then."""
        with trio.move_on_at(math.inf if when_ns == NEVER else when_ns / NS_PER_S):
            await self._changed.wait()


class Proxy:
    """Listens, and carries each connection to the target.

    Args:
        listen, target: URLs such as "tcp://127.0.0.1:7000".
        seed: of all chance; connection number n, from 1, has the same line in every run.
        on_note: is told of what happens to connections, a line each.

    Raises:
        NotBuiltError: a transport that is planned. ArgumentError: no such address.
    """

    def __init__(
        self,
        listen: str,
        target: str,
        profile: Profile,
        *,
        seed: int | str = 0,
        on_note: Callable[[str], None] = log.info,
    ) -> None:
        for url in (listen, target):
            if parse_url(url).scheme != "tcp":
                raise ArgumentError(f"{url!r}: a line carries bytes, of TLS too; write tcp:// here, tls:// at its ends")
        self._target = parse_url(target)
        if parse_url(listen) == self._target:
            # Its first connection would be its second, and so on, until there are no files left.
            raise ArgumentError(f"{target}: the proxy cannot be in front of itself; give the node's own address")
        self._listen = listen
        self.target = target
        self.profile = profile
        self.addresses: tuple[str, ...] = ()
        """Where it listens, once it does."""
        self._seed = seed
        self._note = on_note
        self._open: set[_Carried] = set()
        self._counts = {"connections": 0, "failed": 0, "reset": 0}
        self._over = {"down": _Sums(), "up": _Sums()}

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled; connections are cut then.

        Raises:
            ListenError: the address cannot be listened on.
        """
        listeners = listen(self._listen)
        self.addresses = tuple(address_of(listener) for listener in listeners)
        for listener in listeners:
            # What it accepts inherits this.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UNREAD_BYTES)
        try:
            with unwrapping():
                async with trio.open_nursery() as nursery:
                    for listener in listeners:
                        nursery.start_soon(self._accept, trio.socket.from_stdlib_socket(listener), nursery)
                    task_status.started()
        finally:
            for listener in listeners:
                listener.close()

    def statistics(self) -> ProxyStatistics:
        down, up = _Sums(), _Sums()
        for sums, way in ((down, "down"), (up, "up")):
            sums.add(self._over[way])
            for carried in self._open:
                sums.add_way(carried.down if way == "down" else carried.up)
        return ProxyStatistics(
            connections=self._counts["connections"],
            open=len(self._open),
            failed=self._counts["failed"],
            reset=self._counts["reset"],
            down=down.statistics(),
            up=up.statistics(),
        )

    async def _accept(self, listener: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        while True:
            try:
                accepted, _ = await listener.accept()
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ECONNABORTED):
                    raise
                self._note(f"cannot accept: {error.strerror}")
                await trio.sleep(ACCEPT_AGAIN_S)
                continue
            self._counts["connections"] += 1
            nursery.start_soon(self._carry, trio.SocketStream(accepted), self._counts["connections"])

    async def _carry(self, client: trio.SocketStream, number: int) -> None:
        profile = self.profile
        async with client:
            # Its handshake goes there and back before the first byte may follow; the system has answered it at once.
            await trio.sleep((profile.up.latency_ms + profile.down.latency_ms) / 1e3)
            try:
                target = await trio.open_tcp_stream(self._target.host, self._target.port)
            except (OSError, UnicodeError) as error:
                self._counts["failed"] += 1
                self._note(f"connection {number}: {self.target}: {why_not_connected(_cause(error))}")
                _reset(client)
                return
            with contextlib.suppress(OSError):
                target.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UNREAD_BYTES)
            carried = _Carried(profile, f"{self._seed}/{number}")
            self._open.add(carried)
            self._note(f"connection {number}: opened")
            how = "cut"
            try:
                async with target:
                    how = await carried.run(client, target)
            finally:
                self._open.remove(carried)
                self._over["down"].add_way(carried.down)
                self._over["up"].add_way(carried.up)
                self._counts["reset"] += how == "reset"
                down, up = carried.down.path.counts, carried.up.path.counts
                self._note(
                    f"connection {number}: {how}, {down.bytes_delivered} bytes down, {up.bytes_delivered} bytes up, "
                    f"{down.lost + up.lost} segments lost"
                )


class _Carried:
    """One connection."""

    def __init__(self, profile: Profile, seed: str) -> None:
        down, up = stream_paths(profile, seed, buffer_bytes=BUFFER_BYTES)
        self.down, self.up = Way(down), Way(up)
        self.down.back, self.up.back = self.up, self.down

    async def run(self, client: trio.SocketStream, target: trio.SocketStream) -> str:
        """Until both directions have ended, or one of them broke; how it ended."""
        how = "closed"
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.up.carry, client, target)
                nursery.start_soon(self.down.carry, target, client)
        except* trio.BrokenResourceError:
            _reset(client)
            _reset(target)
            how = "reset"
        return how


class _Sums:
    """What is summed up over connections."""

    def __init__(self) -> None:
        self.bytes = 0
        self.chunks = 0
        self.lost = 0
        self.delay_ns_sum = 0
        self.delay_ns_max = 0

    def add(self, other: "_Sums") -> None:
        self.bytes += other.bytes
        self.chunks += other.chunks
        self.lost += other.lost
        self.delay_ns_sum += other.delay_ns_sum
        self.delay_ns_max = max(self.delay_ns_max, other.delay_ns_max)

    def add_way(self, way: Way) -> None:
        counts = way.path.counts
        self.bytes += counts.bytes_delivered
        self.chunks += counts.delivered
        self.lost += counts.lost
        self.delay_ns_sum += way.delay_ns_sum
        self.delay_ns_max = max(self.delay_ns_max, way.delay_ns_max)

    def statistics(self) -> WayStatistics:
        return WayStatistics(
            bytes=self.bytes,
            chunks=self.chunks,
            segments_lost=self.lost,
            delay_ms_mean=round(self.delay_ns_sum / self.chunks / 1e6, 3) if self.chunks else None,
            delay_ms_max=round(self.delay_ns_max / 1e6, 3) if self.chunks else None,
        )


def _cause(error: Exception) -> Exception:
    """Trio tries every address of a host, and raises one error about all: what happened at the last one."""
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[-1]
    return cause if isinstance(cause, OSError) else error


def _now_ns() -> int:
    return round(trio.current_time() * NS_PER_S)


def _reset(stream: trio.SocketStream) -> None:
    """Let the other side see an error, not an end, when it is closed."""
    try:
        stream.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
        )
    except OSError:
        pass
