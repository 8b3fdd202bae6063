"""The authoritative node: sockets, clock and loop around one `Authority`, under Trio.

Once a tick: drain what arrived, step the authority, fan out, cut who is to be cut. Between ticks each connection that
is still joining, or that took a part of a frame, is served by its own task (`connections`), so that a slow client waits
for itself.

Invariants:
- the authority is touched by Trio's thread alone; other threads leave a note and wake it (`stop`,
  `connect_in_process`);
- a tick never waits: nothing between the drain and the end of the fan-out is a checkpoint;
- whichever way the node ends, every client that takes it is sent a Goodbye first, within `SHUTDOWN_NS_MAX`, and a store
  on disk that the node opened is closed cleanly.
"""

import contextlib
import errno
import logging
import secrets
import signal
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, TypedDict, Unpack

import trio

from ecsnet.auth.account import Authenticate
from ecsnet.authority import Authority, AuthorityStatistics, PeeringSettings, TickReport
from ecsnet.config import LimitSettings
from ecsnet.errors import ArgumentError, BusyError, ClosedError, ListenError
from ecsnet.limits import LINGER_S_DEFAULT, METRICS_CLIENTS_NAMED, REFUSALS_PER_ACCEPT
from ecsnet.node.connections import Connections
from ecsnet.node.control import Control
from ecsnet.node.figures import TICK_BUCKETS_NS, Figures, Histogram, gather
from ecsnet.node.hub import Hub, PythonHub
from ecsnet.node.in_process import open_pair
from ecsnet.node.metrics import Metrics
from ecsnet.node.native_hub import best_hub
from ecsnet.node.peers import PeerSockets
from ecsnet.node.rates import Bucket, OncePerSecond
from ecsnet.node.tcp import address_of, listen, parse_url
from ecsnet.node.ticker import SleepTicker
from ecsnet.node.tls import server_context
from ecsnet.node.two_hubs import SECURED_FROM, TwoHubs
from ecsnet.node.waiting import unwrapping
from ecsnet.node.wakeup import Wakeup
from ecsnet.store import Store
from ecsnet.world import World

log = logging.getLogger("ecsnet.node")

OnTick = Callable[[TickReport, int], None]
"""Called after each tick's fan-out with its report, and with what the node's clock (CLOCK_MONOTONIC outside of
simulations) said, in nanoseconds, just before the tick's first transaction. It runs between ticks on the node's own
thread: keep it short."""

_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@dataclass(frozen=True, slots=True)
class NodeStatistics:
    """Counts since the start, but for `connections` and `handshakes` (those of them without a Welcome), which are of
    now."""

    connections: int
    handshakes: int
    accepted: int
    refused: int
    """Turned away at once: the node was full."""
    refused_address: int
    """Likewise: one address had too many links, or too many unfinished handshakes."""
    handshakes_failed: int
    """Not finished in time, or pushed out by newer ones."""
    ticks: int
    ticks_dropped: int
    """Not run, because they came too late."""
    ticks_busy: int
    """Not run, because a transaction on another thread was under way."""
    frames_sent: int
    sends_partial: int
    """Of which a socket took a part at first."""
    sends_blocked: int
    """Of which a socket took nothing; something newer went out in their place."""
    bytes_received: int
    connections_failed: int
    """Ended by a bug in the node."""
    authority: AuthorityStatistics


class RunOptions(TypedDict, total=False):
    """What `run` hands on to the node that it makes: `AuthoritativeNode` says what each is, and is if left out."""

    data: str | Path | None
    durability: str
    linger_s: float
    compress: str
    authenticate: Authenticate | None
    certificate: str | Path | None
    key: str | Path | None
    peering: PeeringSettings | None
    peers: Sequence[str]
    listen_peers: str | Sequence[str]
    metrics: str | None
    limits: LimitSettings | None
    on_tick: OnTick | None


class NodeOptions(RunOptions, total=False):
    """The same of `open_node`."""

    store: Store | None
    clock: Callable[[], int]
    seed: int | None


class AuthoritativeNode:
    """Serves one world to clients. `open_node` and `run` make one and run it.

    Args:
        world: what runs.
        listen: the URLs to listen on, such as "tcp://0.0.0.0:7777"; port 0 is any that is free, and none at all
            serves in-process links alone.
        store: where the world lives; None is one of the node's own, which is closed with it.
        data: the directory of the node's own store; None is a store in memory.
        durability: of the node's own store on disk: when a command is answered. "memory": at once; "relaxed": when it
            is written, so that it survives the death of the process; "strict" and "paranoid": when it is synced, so
            that it survives the loss of power, and nobody sees it before.
        linger_s: how long a session waits for a client that lost its connection; 0 ends it with that.
        compress: "auto": blocks are compressed for clients that read that, where it makes them smaller; "off": never.
        authenticate: who strangers are, in place of the world's own: see `World.authenticate`.
        certificate: a file in PEM that the node proves itself with to clients of `tls://`, and after it those that
            signed it; key: one with its private key, where that is not in the same file.
        peering: who this node is among several that write the same tables (`conflict = "lww"`).
        peers: URLs of those nodes, which are dialled for as long as the node runs; of two one need know the other.
        listen_peers: URLs to listen on for them.
        metrics: host:port to serve figures for Prometheus at, as "127.0.0.1:9464"; to whoever asks there.
        limits: limits against strangers.
        on_tick: see `OnTick`.
        clock: nanoseconds that never run backwards, in step with Trio's clock.
        seed: of session ids, of the keys that resume them, and of the epoch. None draws one that nobody can guess, as
            it must be where strangers are.

    Raises:
        ArgumentError: `store` and `data` together, peers without `peering`, a certificate and no tls:// to show it at,
        or a number out of range. CertificateError: the certificate or its key cannot be used. DataError,
        SchemaMismatchError: `data` cannot be opened; nothing there was changed.
    """

    def __init__(
        self,
        world: World,
        *,
        listen: str | Sequence[str] = (),
        store: Store | None = None,
        data: str | Path | None = None,
        durability: str = "relaxed",
        linger_s: float = LINGER_S_DEFAULT,
        compress: str = "auto",
        authenticate: Authenticate | None = None,
        certificate: str | Path | None = None,
        key: str | Path | None = None,
        peering: PeeringSettings | None = None,
        peers: Sequence[str] = (),
        listen_peers: str | Sequence[str] = (),
        metrics: str | None = None,
        limits: LimitSettings | None = None,
        on_tick: OnTick | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        seed: int | None = None,
    ) -> None:
        if compress not in ("auto", "off"):
            raise ArgumentError(f'compress is {compress!r}; it must be "auto" or "off"')
        if store is not None and data is not None:
            raise ArgumentError("store and data are two places for one world; give one of them")
        if peering is None and (peers or listen_peers):
            raise ArgumentError("who has peers is one of several nodes: give peering=PeeringSettings(node=...) too")
        self._limits = LimitSettings() if limits is None else limits
        self._listen = (listen,) if isinstance(listen, str) else tuple(listen)
        if certificate is None and key is not None:
            raise ArgumentError("key is given, and no certificate that it is of")
        if certificate is not None and self._listen and not any(url.startswith("tls:") for url in self._listen):
            where = ", ".join(self._listen)
            raise ArgumentError(f"a certificate is given, and {where} proves and hides nothing; write tls:// there")
        self._tls = None if certificate is None else server_context(certificate, key)
        self._on_tick = on_tick
        self._clock = clock
        self._own_store = Store(world.schema, data=data, durability=durability) if data is not None else None
        try:
            # Nobody may guess a session's number, its key, or the epoch of a history that is gone.
            self.authority = Authority(
                world,
                store if self._own_store is None else self._own_store,
                seed=secrets.randbits(256) if seed is None else seed,
                linger_s=linger_s,
                authenticate=authenticate,
                peering=peering,
                compress=compress == "auto",
            )
            self._peers = None
            if self.authority.peering is not None:
                self._peers = PeerSockets(
                    self.authority.peering,
                    listen=(listen_peers,) if isinstance(listen_peers, str) else listen_peers,
                    dial=peers,
                    clock=clock,
                    wall_clock=time.time_ns,
                )
        except BaseException:
            if self._own_store is not None:
                self._own_store.close()
            raise
        self._control: Control | None = None
        if self._own_store is not None and data is not None:
            self._control = Control(data, self._own_store, lambda: len(self._connections))
        self.authority.on_durable = self._on_durable
        self._is_durable = False
        self.addresses: tuple[str, ...] = ()
        """The URLs under which clients reach the node, once it runs."""
        self.metrics_url: str | None = None
        """Where figures can be read, once it runs; None where they are not served."""
        self._hub: Hub = best_hub() if self._tls is None else TwoHubs(best_hub(), PythonHub(SECURED_FROM))
        self._wakeup = Wakeup()
        self._accepting = Bucket(self._limits.accepts_per_s)
        self._connections = Connections(self.authority, self._hub, self._limits, clock)
        # What other threads ask for. A deque's append and popleft are atomic.
        self._handed_in: deque[socket.socket] = deque()
        self._state_lock = threading.Lock()
        self._stop_reason: str | None = None
        self._failed = False
        self._ended = False
        self._stop_seen = trio.Event()
        self._stopped = trio.Event()
        self._ticks = 0
        self._ticks_dropped = 0
        self._ticks_busy = 0
        self._lateness = OncePerSecond()
        self._tick_times = Histogram(TICK_BUCKETS_NS)
        self._metrics_at = metrics
        self._metrics: Metrics | None = None

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def world(self) -> World:
        return self.authority.world

    @property
    def peer_addresses(self) -> tuple[str, ...]:
        """The URLs under which other nodes reach this one, once it runs."""
        return () if self._peers is None else self._peers.addresses

    @property
    def store(self) -> Store:
        """The world's store. Another transaction waits for the gap between ticks: from Trio's own thread any
        will find one."""
        return self.authority.store

    def statistics(self) -> NodeStatistics:
        """What the node has done; on Trio's thread."""
        return NodeStatistics(
            connections=len(self._connections),
            handshakes=self._connections.handshakes,
            ticks=self._ticks,
            ticks_dropped=self._ticks_dropped,
            ticks_busy=self._ticks_busy,
            authority=self.authority.statistics(),
            **asdict(self._connections.counts),
        )

    def figures(self, *, slowest: int = METRICS_CLIENTS_NAMED) -> Figures:
        """What the node says of itself to a monitoring system, gathered now; on Trio's thread. A pass over the clients,
        of whom the `slowest` are named one by one."""
        return gather(self, self._tick_times, slowest=slowest)

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
            ListenError: an address cannot be listened on. MissingExtraError: metrics need a package. Nothing was
            started.
            Exception: what the game raised, in a world with `on_error="raise"`.
        """
        listeners: list[Listener] = []
        try:
            for url in self._listen:
                secured = parse_url(url).scheme == "tls"
                if secured and self._tls is None:
                    raise ListenError(
                        url, "a node proves itself with a certificate: give certificate=FILE (--certificate FILE)"
                    )
                listeners += [Listener(one, self._tls if secured else None) for one in listen(url)]
            self.addresses = tuple(one.address for one in listeners)
            if self._peers is not None:
                self._peers.open()
            if self._metrics_at is not None:
                self._metrics = Metrics(self._metrics_at, self.figures)
                self.metrics_url = self._metrics.url
            with unwrapping():
                await self._run(listeners, task_status)
        finally:
            try:
                self._close(listeners)
            finally:
                self._stopped.set()

    async def _run(self, listeners: "list[Listener]", task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as all_tasks:
            await all_tasks.start(self._connections.hold)
            try:
                async with trio.open_nursery() as services:
                    services.start_soon(self._watch_wakeup)
                    for listener in listeners:
                        services.start_soon(self._accept, listener)
                    services.start_soon(self._tick_for_ever)
                    if self._control is not None:
                        services.start_soon(self._control.run)
                    if self._peers is not None:
                        services.start_soon(self._peers.run)
                    if self._metrics is not None:
                        services.start_soon(self._metrics.run)
                    task_status.started()
                    await self._stop_seen.wait()
                    services.cancel_scope.cancel()
            finally:
                for listener in listeners:
                    trio.lowlevel.notify_closing(listener.socket)
                    listener.socket.close()
                unasked = "the node failed" if self._failed else "the node shuts down"
                await self._connections.say_goodbye(self._stop_reason or unasked)
                self._connections.cut_all()

    def cut(self) -> None:
        """End without waiting for anybody. On Trio's thread."""
        self.stop()
        self._connections.cut_all()

    async def wait_stopped(self) -> None:
        """Wait until the node has ended and every descriptor is closed."""
        await self._stopped.wait()

    def _close(self, listeners: "list[Listener]") -> None:
        with self._state_lock:
            self._ended = True
        for listener in listeners:
            listener.socket.close()
        if self._metrics is not None:
            self._metrics.close()
        while self._handed_in:
            self._handed_in.popleft().close()
        if self._peers is not None:
            self._peers.close()
        assert not self._connections
        self._hub.close()
        self._wakeup.close()
        self.authority.close()
        if self._own_store is not None:
            self._own_store.close()

    async def _watch_wakeup(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._wakeup.socket)
            self._wakeup.clear()
            self._serve_durable()
            while self._handed_in:
                self._connections.admit(self._handed_in.popleft())
            if self._stop_reason is not None:
                self._stop_seen.set()
                return

    def _serve_durable(self) -> None:
        """Of a world on disk: what became durable since the tick is told at once, not in the next."""
        if self._is_durable:
            self._is_durable = False
            self.authority.handle_durable()
            self._connections.fan_out()

    def _on_durable(self) -> None:
        """On the store's own thread."""
        self._is_durable = True
        self._wakeup.set()

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
                await self._tick()
            except Exception:  # passed on; who is told goodbye on the way out learns that it was the node's fault
                self._failed = True
                raise

    async def _tick(self) -> None:
        """One tick from the drain to the fan-out. Nothing else runs in between, but while a thread encodes what each
        of many clients sees: then what arrives is taken in, and the world stands still."""
        began_ns = self._clock()
        self._connections.drain()
        if self._peers is not None:
            self._peers.begin_tick()
        before = self.authority.tick_number
        started_ns = self._clock()
        try:
            report = self.authority.tick(started_ns)
        except BusyError:
            if self.authority.tick_number != before:
                raise  # from the game's own code
            # A transaction on another thread holds the baton. The tick has not happened; what arrived waits.
            self._ticks_busy += 1
            return
        self._ticks += 1
        if self._peers is not None:
            self._peers.end_tick()
        work = self.authority.work_before_sending(self._clock())
        if work is not None:
            await trio.to_thread.run_sync(work)
        self._connections.fan_out()
        self._connections.cut()
        self._tick_times.add(self._clock() - began_ns)
        if self._on_tick is not None:
            self._on_tick(report, started_ns)

    # --- accepting ---------------------------------------------------------------------------------------------------

    async def _accept(self, listener: "Listener") -> None:
        while True:
            await trio.lowlevel.wait_readable(listener.socket)
            await self._accepting.wait_take()
            try:
                accepted, _ = listener.socket.accept()
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:
                    # The waiting connection stays readable, so without a pause this would be a busy loop.
                    log.error("cannot accept a connection: %s; raise the limit of open files (ulimit -n)", error)
                    await trio.sleep(0.1)
                continue  # anything else is about the one that gave up while it waited
            if not self._connections.admit(accepted, listener.context):
                self._accepting.give_back(1 - 1 / REFUSALS_PER_ACCEPT)


class Listener(NamedTuple):
    """A listening socket, and what the node proves itself with to those who come there."""

    socket: socket.socket
    context: ssl.SSLContext | None

    @property
    def address(self) -> str:
        """The URL for clients."""
        return address_of(self.socket, "tcp" if self.context is None else "tls")


@contextlib.asynccontextmanager
async def open_node(
    world: World,
    *,
    listen: str | Sequence[str] = "tcp://127.0.0.1:0",
    **options: Unpack[NodeOptions],
) -> AsyncIterator[AuthoritativeNode]:
    """Run a node beside the body of an `async with`, under Trio. Leaving it says goodbye to every client.

    Arguments and errors are those of `AuthoritativeNode`. `node.addresses` has the ports that were free.

    Raises:
        ListenError: an address cannot be listened on. Nothing was started.
    """
    node = AuthoritativeNode(world, listen=listen, **options)
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
    on_start: Callable[[AuthoritativeNode], None] | None = None,
    **options: Unpack[RunOptions],
) -> None:
    """Run a node until SIGTERM or SIGINT (Ctrl-C): then every client is told goodbye, and it returns. A second signal
    does not wait for them.

    Blocks; signals are heeded on the main thread only, where alone Python delivers them. `on_start` is called with the
    node once it listens. Other arguments, and errors, are those of `AuthoritativeNode`.

    Raises:
        ListenError: an address cannot be listened on. Nothing was started.
    """

    async def main() -> None:
        with unwrapping():
            async with trio.open_nursery() as nursery:
                if threading.current_thread() is threading.main_thread():
                    nursery.start_soon(stop_at_signal)
                node = AuthoritativeNode(world, listen=listen, **options)
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
