"""The authoritative node: sockets, clock and loop around one `Authority`, under Trio.

Once a tick: drain what arrived, step the authority, fan out, cut who is to be cut. Between ticks each connection that
is still joining, or that took a part of a frame, is served by its own task, so that a slow client waits for itself.

Invariants:
- the authority is touched by Trio's thread alone; other threads leave a note and wake it (`stop`,
  `connect_in_process`);
- a tick never waits: nothing between the drain and the end of the fan-out is a checkpoint;
- nothing that one connection does ends another, or the node;
- whichever way the node ends, every client that takes it is sent a Goodbye first, within `SHUTDOWN_NS_MAX`.
"""

import contextlib
import errno
import logging
import math
import secrets
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import trio

from ecsnet.authority import Authority, AuthorityStatistics, TickReport
from ecsnet.config import LimitSettings
from ecsnet.errors import BusyError, ClosedError, LimitExceededError, NotBuiltError, RemoteProtocolError
from ecsnet.limits import BLOCKED_NS_MAX, HANDSHAKES_AT_ONCE_MAX, NS_PER_S, RECEIVE_CHUNK_BYTES, SHUTDOWN_NS_MAX
from ecsnet.node.connection import Connection
from ecsnet.node.hub import Outgoing, PythonHub
from ecsnet.node.in_process import open_pair
from ecsnet.node.tcp import address_of, listen, peer_of, send_parts, tune
from ecsnet.node.ticker import SleepTicker
from ecsnet.node.waiting import linger, unwrapping
from ecsnet.node.wakeup import Wakeup
from ecsnet.store import Store
from ecsnet.wire.codec import encode
from ecsnet.wire.messages import Goodbye, Kind, Reason
from ecsnet.world import World

log = logging.getLogger("ecsnet.node")

OnTick = Callable[[TickReport, int], None]
"""Called after each tick's fan-out with its report, and with what CLOCK_MONOTONIC said, in nanoseconds, just before the
tick's first transaction. It runs between ticks on the node's own thread: keep it short."""

LINGER_S = 1.0
"""How long a connection is kept half open after its last frame, for the peer to read it and close."""

_SYNC_KINDS = frozenset({Kind.SYNC_BEGIN, Kind.SYNC_CHUNK})
_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@dataclass(frozen=True, slots=True)
class NodeStatistics:
    """Counts since the start, but for `connections`, `handshakes` and `joining`, which are of now."""

    connections: int
    handshakes: int
    joining: int
    accepted: int
    refused: int
    handshakes_failed: int
    ticks: int
    ticks_dropped: int
    ticks_busy: int
    frames_sent: int
    sends_partial: int
    sends_blocked: int
    bytes_received: int
    connections_failed: int
    authority: AuthorityStatistics


class AuthoritativeNode:
    """Serves one world to clients. `open_node` and `run` make one and run it.

    Args:
        world: what runs.
        listen: the URLs to listen on, such as "tcp://0.0.0.0:7777"; port 0 is any that is free, and none at all
            serves in-process links alone.
        store: where the world lives; None is one in memory that is closed with the node.
        limits: limits against strangers.
        on_tick: see `OnTick`.
    """

    def __init__(
        self,
        world: World,
        *,
        listen: str | Sequence[str] = (),
        store: Store | None = None,
        limits: LimitSettings | None = None,
        on_tick: OnTick | None = None,
    ) -> None:
        self._limits = LimitSettings() if limits is None else limits
        self._listen = (listen,) if isinstance(listen, str) else tuple(listen)
        self._on_tick = on_tick
        # Nobody may guess a session's number, or the epoch of a history that is gone.
        self.authority = Authority(world, store, seed=secrets.randbits(256))
        self.addresses: tuple[str, ...] = ()
        """The URLs under which clients reach the node, once it runs."""
        self._hub = PythonHub()
        self._wakeup = Wakeup()
        self._accepting = _Bucket(self._limits.accepts_per_s)
        self._connections: dict[int, Connection] = {}
        self._by_place: dict[int, Connection] = {}
        # Those before their Welcome, oldest first.
        self._half_open: dict[int, Connection] = {}
        self._all_gone = trio.Event()
        self._nursery: trio.Nursery | None = None
        # What other threads ask for. A deque's append and popleft are atomic.
        self._handed_in: deque[socket.socket] = deque()
        self._state_lock = threading.Lock()
        self._stop_reason: str | None = None
        self._failed = False
        self._ended = False
        self._stop_seen = trio.Event()
        self._stopped = trio.Event()
        self._accepted = 0
        self._refused = 0
        self._handshakes_failed = 0
        self._ticks = 0
        self._ticks_dropped = 0
        self._ticks_busy = 0
        self._frames_sent = 0
        self._sends_partial = 0
        self._sends_blocked = 0
        self._bytes_received = 0
        self._connections_failed = 0
        self._lateness = _OncePerSecond()

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def world(self) -> World:
        return self.authority.world

    @property
    def store(self) -> Store:
        """The world's store. Another transaction waits for the gap between ticks: from Trio's own thread any
        will find one."""
        return self.authority.store

    def statistics(self) -> NodeStatistics:
        """What the node has done; on Trio's thread."""
        return NodeStatistics(
            connections=len(self._connections),
            handshakes=len(self._half_open),
            joining=sum(c.place is None and not c.finishing for c in self._connections.values()) - len(self._half_open),
            accepted=self._accepted,
            refused=self._refused,
            handshakes_failed=self._handshakes_failed,
            ticks=self._ticks,
            ticks_dropped=self._ticks_dropped,
            ticks_busy=self._ticks_busy,
            frames_sent=self._frames_sent,
            sends_partial=self._sends_partial,
            sends_blocked=self._sends_blocked,
            bytes_received=self._bytes_received,
            connections_failed=self._connections_failed,
            authority=self.authority.statistics(),
        )

    # --- from any thread ---------------------------------------------------------------------------------------------

    def stop(self, reason: str = "the node shuts down") -> None:
        """Ask the node to say goodbye to everybody and end. Returns at once; idempotent; from any thread."""
        with self._state_lock:
            if self._stop_reason is None:
                self._stop_reason = reason
        self._wakeup.set()

    def connect_in_process(self) -> socket.socket:
        """The client's end of a new link within this process, for `ecsnet.connect(node)` or `open_client(node)`. From
        any thread.

        Raises:
            ClosedError: the node has ended, or was asked to.
        """
        with self._state_lock:
            if self._ended or self._stop_reason is not None:
                raise ClosedError("the node has ended; it takes no new links")
            ours, theirs = open_pair()
            self._handed_in.append(ours)
        self._wakeup.set()
        return theirs

    # --- the life of the node ----------------------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen, tick and serve until `stop` or cancellation, then say goodbye. Once per node.

        Raises:
            ListenError: an address cannot be listened on. Nothing was started.
            Exception: what the game raised, in a world with `on_error="raise"`.
        """
        listeners: list[socket.socket] = []
        try:
            for url in self._listen:
                listeners += listen(url)
            self.addresses = tuple(address_of(listener) for listener in listeners)
            with unwrapping():
                await self._run(listeners, task_status)
        finally:
            self._close(listeners)

    async def _run(self, listeners: list[socket.socket], task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as all_tasks:
            self._nursery = await all_tasks.start(self._hold_connections)
            try:
                async with trio.open_nursery() as services:
                    services.start_soon(self._watch_wakeup)
                    for listener in listeners:
                        services.start_soon(self._accept, listener)
                    services.start_soon(self._tick_for_ever)
                    task_status.started()
                    await self._stop_seen.wait()
                    services.cancel_scope.cancel()
            finally:
                for listener in listeners:
                    trio.lowlevel.notify_closing(listener)
                    listener.close()
                unasked = "the node failed" if self._failed else "the node shuts down"
                await self._say_goodbye(self._stop_reason or unasked)
                self._nursery.cancel_scope.cancel()

    @staticmethod
    async def _hold_connections(task_status: trio.TaskStatus[trio.Nursery]) -> None:
        """The nursery of the connections. A cancellation from outside must not reach them before their goodbyes are
        said."""
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.shield = True
            task_status.started(nursery)
            await trio.sleep_forever()

    def cut(self) -> None:
        """End without waiting for anybody. On Trio's thread, while the node runs."""
        self.stop()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    async def wait_stopped(self) -> None:
        """Wait until the node has ended and every descriptor is closed."""
        await self._stopped.wait()

    async def _say_goodbye(self, reason: str) -> None:
        self.authority.shutdown(self._now_ns(), reason)
        for connection in self._connections.values():
            if connection.hub_writes:
                self._hand_to_task(connection)
            connection.work.set()
        with trio.CancelScope(shield=True), trio.move_on_after(SHUTDOWN_NS_MAX / NS_PER_S):
            while self._connections:
                self._all_gone = trio.Event()
                await self._all_gone.wait()

    def _close(self, listeners: list[socket.socket]) -> None:
        with self._state_lock:
            self._ended = True
        for listener in listeners:
            listener.close()
        while self._handed_in:
            self._handed_in.popleft().close()
        assert not self._connections
        self._hub.close()
        self._wakeup.close()
        self.authority.close()
        self._stopped.set()

    async def _watch_wakeup(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._wakeup.socket)
            self._wakeup.clear()
            while self._handed_in:
                self._admit(self._handed_in.popleft())
            if self._stop_reason is not None:
                self._stop_seen.set()
                return

    @staticmethod
    def _now_ns() -> int:
        return time.monotonic_ns()

    # --- the tick ----------------------------------------------------------------------------------------------------

    async def _tick_for_ever(self) -> None:
        ticker = SleepTicker(self.world.hz)
        while True:
            dropped = await ticker.wait_next()
            if dropped:
                self._ticks_dropped += dropped
                if (late := self._lateness.add(dropped)) is not None:
                    period_ms = 1e3 / self.world.hz
                    log.warning("%d ticks came too late and were dropped; a tick has %.1f ms", late, period_ms)
            try:
                self._tick()
            except Exception:
                self._failed = True
                raise

    def _tick(self) -> None:
        """One tick from the drain to the fan-out. Never a coroutine: nothing else runs in between."""
        for ended in self._hub.drain(self._deliver):
            self._by_place[ended.place].scope.cancel()
        started_ns = self._now_ns()
        try:
            report = self.authority.tick(started_ns)
        except BusyError:
            # A transaction on another thread holds the baton. The tick has not happened; what arrived waits.
            self._ticks_busy += 1
            return
        self._ticks += 1
        self._fan_out()
        for link in self.authority.links_to_close():
            connection = self._connections[link.number]
            if not connection.finishing:
                connection.scope.cancel()
        if self._on_tick is not None:
            self._on_tick(report, started_ns)

    def _fan_out(self) -> None:
        """Offer one frame to each socket of the hub, and again to those that have more, until nobody has."""
        now_ns = self._now_ns()
        serving = []
        for link in self.authority.links_to_serve(now_ns):
            connection = self._connections[link.number]
            if connection.hub_writes:
                serving.append(connection)
            else:
                connection.work.set()
        while serving:
            offered, batch = [], []
            for connection in serving:
                transmit = self.authority.next_transmit(connection.link, now_ns)
                if transmit is None:
                    continue
                if transmit.kind in _SYNC_KINDS:
                    # A sync is sent as fast as the link takes it, not a chunk a tick.
                    self._hand_to_task(connection)
                    continue
                assert connection.place is not None
                offered.append((connection, transmit))
                batch.append(Outgoing(connection.place, transmit.parts))
            serving = []
            for (connection, transmit), taken in zip(offered, self._hub.send(batch), strict=True):
                if taken < 0:
                    connection.scope.cancel()
                    continue
                if taken == 0:
                    self._sends_blocked += 1
                    self.authority.record_blocked(connection.link, now_ns)
                    continue
                self._frames_sent += 1
                self.authority.record_sent(connection.link, transmit, now_ns)
                connection.finishing = transmit.close_after
                if taken < transmit.length:
                    self._sends_partial += 1
                    connection.record_partial(transmit, taken)
                if taken < transmit.length or transmit.close_after:
                    self._hand_to_task(connection)
                elif transmit.kind != Kind.DELTA_SYNC:
                    serving.append(connection)

    def _hand_to_task(self, connection: Connection) -> None:
        """The connection's own task writes from now on, until it finds nothing more to write."""
        assert connection.hub_writes and connection.place is not None
        self._hub.disarm(connection.place)
        connection.hub_writes = False
        connection.work.set()

    def _deliver(self, place: int, data: memoryview) -> None:
        self._take_in(self._by_place[place], data)

    def _take_in(self, connection: Connection, data: memoryview) -> None:
        """Bytes from a client, cut into frames and handed to the authority."""
        self._bytes_received += len(data)
        if connection.broken:
            return
        now_ns = self._now_ns()
        try:
            connection.reader.feed(data)
            while (frame := connection.reader.next_frame()) is not None:
                self.authority.receive_frame(connection.link, frame.kind, frame.payload, now_ns)
        except RemoteProtocolError as error:
            connection.broken = True
            self.authority.receive_error(connection.link, error, now_ns)

    # --- accepting ---------------------------------------------------------------------------------------------------

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            await trio.lowlevel.wait_readable(listener)
            await self._accepting.wait_take()
            try:
                accepted, _ = listener.accept()
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:
                    # The waiting connection stays readable, so without a pause this would be a busy loop.
                    log.error("cannot accept a connection: %s; raise the limit of open files (ulimit -n)", error)
                    await trio.sleep(0.1)
                continue  # anything else is about the one that gave up while it waited
            self._admit(accepted)

    def _admit(self, accepted: socket.socket) -> None:
        """Begin to serve a socket, or refuse it."""
        assert self._nursery is not None
        self._accepted += 1
        tune(accepted)
        if len(self._half_open) >= HANDSHAKES_AT_ONCE_MAX:
            # Under a flood the oldest is the one least likely to be a client: an honest handshake takes a round trip.
            oldest = next(iter(self._half_open.values()))
            self._handshakes_failed += 1
            self._forget_handshake(oldest)
            oldest.scope.cancel()
            self.authority.close_link(oldest.link, self._now_ns())
        try:
            if len(self._connections) >= self._limits.clients_max:
                raise LimitExceededError("clients_max", self._limits.clients_max, len(self._connections) + 1)
            link = self.authority.open_link(self._now_ns(), peer=peer_of(accepted))
        except (LimitExceededError, ClosedError) as error:
            self._refused += 1
            self._nursery.start_soon(self._refuse, accepted, str(error))
            return
        connection = Connection(accepted, link)
        self._connections[link.number] = connection
        self._half_open[link.number] = connection
        self._nursery.start_soon(self._serve, connection)

    async def _refuse(self, accepted: socket.socket, message: str) -> None:
        try:
            accepted.send(encode(Goodbye(reason=Reason.FULL, message=message, reconnect_after_ms=1000)))
            await linger(accepted, LINGER_S)
        except OSError:
            pass
        finally:
            trio.lowlevel.notify_closing(accepted)
            accepted.close()

    # --- one connection ----------------------------------------------------------------------------------------------

    async def _serve(self, connection: Connection) -> None:
        try:
            with connection.scope:
                async with trio.open_nursery() as tasks:
                    tasks.start_soon(self._receive_until_joined, connection)
                    await self._write(connection)
                    tasks.cancel_scope.cancel()
                self._leave_hub(connection)
                await linger(connection.socket, LINGER_S)
        except Exception:  # the last line: a bug in here must cost a connection, not the node
            self._connections_failed += 1
            log.exception("serving %s found a bug; its connection is closed", connection.link.peer)
        finally:
            self._release(connection)

    def _release(self, connection: Connection) -> None:
        """The end of a connection, whatever ended it. It leaves the hub before its descriptor is closed."""
        self._leave_hub(connection)
        self._forget_handshake(connection)
        trio.lowlevel.notify_closing(connection.socket)
        connection.socket.close()
        self.authority.close_link(connection.link, self._now_ns())
        del self._connections[connection.link.number]
        if not self._connections:
            self._all_gone.set()

    async def _receive_until_joined(self, connection: Connection) -> None:
        """Read a connection's input until its client holds a whole world; from then on the hub does."""
        with trio.move_on_after(self._limits.handshake_deadline_s) as deadline:
            while connection.link.state == "handshake" and await self._receive(connection):
                pass
        if deadline.cancelled_caught:
            self._handshakes_failed += 1
            late = RemoteProtocolError(
                f"no handshake within {self._limits.handshake_deadline_s:g} s", reason=Reason.TIMEOUT
            )
            self.authority.receive_error(connection.link, late, self._now_ns())
            connection.work.set()
        self._forget_handshake(connection)
        while connection.link.base == 0 and await self._receive(connection):
            pass
        if connection.link.base == 0 or connection.finishing:
            return
        connection.place = self._hub.add(connection.socket)
        self._hub.disarm(connection.place)
        self._by_place[connection.place] = connection
        connection.work.set()

    async def _receive(self, connection: Connection) -> bool:
        """Wait for bytes and take them in; False when no more are wanted, because the link is closing or gone."""
        await trio.lowlevel.wait_readable(connection.socket)
        try:
            data = connection.socket.recv(RECEIVE_CHUNK_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            connection.scope.cancel()
            return False
        self._take_in(connection, memoryview(data))
        # An answer, or room for the next chunk of a sync.
        connection.work.set()
        return connection.link.state not in ("closing", "closed")

    async def _write(self, connection: Connection) -> None:
        """Write what the hub does not, until the last frame is out."""
        while not connection.finishing or connection.rest is not None:
            await connection.work.wait()
            connection.work = trio.Event()
            if connection.hub_writes:
                continue
            try:
                await self._flush(connection)
            except OSError:
                connection.scope.cancel()
                await trio.lowlevel.checkpoint()
            if connection.place is not None and not connection.finishing:
                self._hub.arm(connection.place)
                connection.hub_writes = True

    async def _flush(self, connection: Connection) -> None:
        """Write until there is nothing more to say, waiting for room where needed.

        Raises:
            OSError: the connection is gone.
        """
        while True:
            if connection.rest is not None:
                await self._flush_rest(connection)
            if connection.finishing:
                return
            now_ns = self._now_ns()
            transmit = self.authority.next_transmit(connection.link, now_ns)
            if transmit is None:
                return
            try:
                taken = send_parts(connection.socket, transmit.parts)
            except BlockingIOError:
                self._sends_blocked += 1
                # The authority counts how long. What is sent when there is room is cut anew.
                self.authority.record_blocked(connection.link, now_ns)
            else:
                self._frames_sent += 1
                self.authority.record_sent(connection.link, transmit, now_ns)
                connection.finishing = transmit.close_after
                if taken < transmit.length:
                    self._sends_partial += 1
                    connection.record_partial(transmit, taken)
                    continue
            # With TCP_NOTSENT_LOWAT, writable means that nearly all was sent on: each chunk of a sync is cut when the
            # link is ready for it, and ticks run in between.
            await trio.lowlevel.wait_writable(connection.socket)

    async def _flush_rest(self, connection: Connection) -> None:
        # A peer that takes nothing of it for so long will not take a goodbye either, which could only come after it.
        stalled_s = (BLOCKED_NS_MAX + SHUTDOWN_NS_MAX) / NS_PER_S
        while connection.rest is not None:
            with trio.move_on_after(stalled_s) as stalled:
                await trio.lowlevel.wait_writable(connection.socket)
            if stalled.cancelled_caught:
                log.info("%s took nothing for %g s in the middle of a frame; cut", connection.link.peer, stalled_s)
                raise TimeoutError
            try:
                taken = connection.socket.send(connection.rest)
            except BlockingIOError:
                continue
            connection.rest = connection.rest[taken:] if taken < len(connection.rest) else None

    def _leave_hub(self, connection: Connection) -> None:
        if connection.place is not None:
            self._hub.remove(connection.place)
            del self._by_place[connection.place]
            connection.place = None
            connection.hub_writes = False

    def _forget_handshake(self, connection: Connection) -> None:
        self._half_open.pop(connection.link.number, None)


class _Bucket:
    """A rate with a reserve of one second: `rate` at once, then `rate` a second."""

    __slots__ = ("_level", "_rate", "_then")

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._level = float(rate)
        self._then = -math.inf

    async def wait_take(self) -> None:
        """Take one, waiting until there is one. For one waiter, or several that do not mind their order."""
        while True:
            now = trio.current_time()
            self._level = min(float(self._rate), self._level + (now - self._then) * self._rate)
            self._then = now
            if self._level >= 1.0:
                self._level -= 1.0
                return
            await trio.sleep((1.0 - self._level) / self._rate)


class _OncePerSecond:
    """Sums what is to be logged, and gives the sum at most once a second."""

    __slots__ = ("_sum", "_then")

    def __init__(self) -> None:
        self._sum = 0
        self._then = -math.inf

    def add(self, count: int) -> int | None:
        self._sum += count
        now = trio.current_time()
        if now - self._then < 1.0:
            return None
        self._then = now
        total, self._sum = self._sum, 0
        return total


@contextlib.asynccontextmanager
async def open_node(
    world: World,
    *,
    listen: str | Sequence[str] = "tcp://127.0.0.1:0",
    store: Store | None = None,
    limits: LimitSettings | None = None,
    on_tick: OnTick | None = None,
) -> AsyncIterator[AuthoritativeNode]:
    """Run a node beside the body of an `async with`, under Trio. Leaving it says goodbye to every client.

    Arguments are those of `AuthoritativeNode`. `node.addresses` has the ports that were free.

    Raises:
        ListenError: an address cannot be listened on. Nothing was started.
    """
    node = AuthoritativeNode(world, listen=listen, store=store, limits=limits, on_tick=on_tick)
    with unwrapping():
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            try:
                yield node
            finally:
                node.stop()
                with trio.CancelScope(shield=True):
                    await node.wait_stopped()


def run(
    world: World,
    *,
    listen: str | Sequence[str] = "tcp://127.0.0.1:7777",
    data: str | None = None,
    limits: LimitSettings | None = None,
    on_tick: OnTick | None = None,
    on_start: Callable[[AuthoritativeNode], None] | None = None,
) -> None:
    """Run a node until SIGTERM or SIGINT (Ctrl-C): then every client is told goodbye, and it returns. A second signal
    does not wait for them.

    Blocks; signals are heeded on the main thread only, where alone Python delivers them. `on_start` is called with the
    node once it listens.

    Raises:
        ListenError: an address cannot be listened on. Nothing was started.
        NotBuiltError: `data`; a world lives in memory.
    """
    if data is not None:
        raise NotBuiltError(f"a world on disk (data={data!r})", "leave it out: the world lives in memory")

    async def main() -> None:
        with unwrapping():
            async with trio.open_nursery() as nursery:
                if threading.current_thread() is threading.main_thread():
                    nursery.start_soon(stop_at_signal)
                node = AuthoritativeNode(world, listen=listen, limits=limits, on_tick=on_tick)
                started.append(node)
                await nursery.start(node.run)
                if on_start is not None:
                    on_start(node)
                await node.wait_stopped()
                nursery.cancel_scope.cancel()

    async def stop_at_signal() -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            count = 0
            async for number in signals:
                count += 1
                for node in started:
                    log.info("%s: saying goodbye to every client", signal.Signals(number).name)
                    node.stop()
                if count > 1:
                    for node in started:
                        node.cut()

    started: list[AuthoritativeNode] = []
    trio.run(main)
