"""All accepted sockets, from admission to close: the hub's side of a tick, and the task of each connection.

    accepted ─► handshake, join ─► hub ◄──► the rest of a frame, or a sync ─► goodbye ─► closed
                own task            ▲ armed   own task, disarmed               own task

Invariants:
- what a tick does here (`drain`, `fan_out`, `cut`) never waits;
- nothing that one connection does ends another, or the node;
- however a connection ends, it leaves the hub, then its socket is closed, then the authority is told.
"""

import logging
import math
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import trio

from ecsnet.authority import Authority, Batch
from ecsnet.config import LimitSettings
from ecsnet.errors import ClosedError, LimitExceededError, RemoteProtocolError
from ecsnet.limits import (
    BLOCKED_NS_MAX,
    HANDSHAKES_AT_ONCE_MAX,
    HANDSHAKES_PER_ADDRESS_MAX,
    NS_PER_S,
    RECEIVE_CHUNK_BYTES,
    SHUTDOWN_NS_MAX,
)
from ecsnet.node.admission import Addresses, network_of
from ecsnet.node.connection import Connection
from ecsnet.node.hub import Acks, Hub, Outgoing
from ecsnet.node.rates import OncePerSecond
from ecsnet.node.tcp import is_local, peer_of, send_parts, tune
from ecsnet.node.tls import TlsSocket
from ecsnet.node.waiting import linger
from ecsnet.wire.codec import ACK_BYTES, encode
from ecsnet.wire.messages import Goodbye, Kind, Reason

log = logging.getLogger("ecsnet.node")

LINGER_S = 1.0
"""How long a connection is kept half open after its last frame, for the peer to read it and close."""

# As plain numbers, which hash faster than members of an enum: looked up once per frame.
_SYNC_KINDS = frozenset({int(Kind.SYNC_BEGIN), int(Kind.SYNC_CHUNK)})

_SYNC_BYTES_AT_ONCE = 1024
"""A part of a sync up to this is followed by the next at once: of rows without cells thousands are a few bytes."""


@dataclass(slots=True)
class Counts:
    """Since the start; what each means is said where statistics are handed out."""

    accepted: int = 0
    refused: int = 0
    refused_address: int = 0
    handshakes_failed: int = 0
    frames_sent: int = 0
    sends_partial: int = 0
    sends_blocked: int = 0
    bytes_received: int = 0
    connections_failed: int = 0


class Connections:
    """The connections of one node; on Trio's thread alone."""

    def __init__(self, authority: Authority, hub: Hub, limits: LimitSettings, clock: Callable[[], int]) -> None:
        self.counts = Counts()
        self._clock = clock
        self._authority = authority
        self._hub = hub
        self._limits = limits
        self._by_link: dict[int, Connection] = {}
        self._by_place: dict[int, Connection] = {}
        # Those before their Welcome, oldest first.
        self._half_open: dict[int, Connection] = {}
        self._addresses = Addresses(limits.links_per_address_max, HANDSHAKES_PER_ADDRESS_MAX)
        self._noted = OncePerSecond()
        self._all_gone = trio.Event()
        self._nursery: trio.Nursery | None = None

    def __len__(self) -> int:
        return len(self._by_link)

    @property
    def handshakes(self) -> int:
        """How many have no Welcome yet."""
        return len(self._half_open)

    # --- their life ---------------------------------------------------------------------------------------------------

    async def hold(self, task_status: trio.TaskStatus[None]) -> None:
        """The nursery of all connections, until `cut_all`. Shielded: a cancellation from outside must not reach them
        before their goodbyes are said."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.cancel_scope.shield = True
            task_status.started()
            await trio.sleep_forever()

    def admit(self, accepted: socket.socket, context: ssl.SSLContext | None = None) -> bool:
        """Begin to serve a socket, or refuse it. False if it was its address that spoke against it.

        Args:
            context: what the node proves itself with; None is a link without TLS.
        """
        assert self._nursery is not None
        self.counts.accepted += 1
        tune(accepted)
        peer = peer_of(accepted)
        network = network_of(peer)
        if not self._addresses.has_room(network):
            self.counts.refused_address += 1
            self._note("%s has too many links (links_per_address_max is %d)", peer, self._addresses.links_max)
            accepted.close()
            return False
        if len(self._half_open) >= HANDSHAKES_AT_ONCE_MAX:
            # Under a flood the oldest is the one least likely to be a client: an honest handshake takes a round trip.
            oldest = next(iter(self._half_open.values()))
            self.counts.handshakes_failed += 1
            self._note("%s is pushed out of its handshake: there are too many", oldest.link.peer)
            self._forget_handshake(oldest)
            oldest.scope.cancel()
            self._authority.close_link(oldest.link, self._clock())
        try:
            if len(self._by_link) >= self._limits.clients_max:
                raise LimitExceededError("clients_max", self._limits.clients_max, len(self._by_link) + 1)
            link = self._authority.open_link(self._clock(), peer=peer, local=is_local(accepted))
        except (LimitExceededError, ClosedError) as error:
            self.counts.refused += 1
            self._note("%s is refused: %s", peer, error)
            if context is not None:
                accepted.close()  # to tell it why would take the handshake, which is the dear part
            else:
                self._nursery.start_soon(self._refuse, accepted, str(error))
            return True
        transport = accepted if context is None else TlsSocket(accepted, context)
        connection = Connection(transport, link, network)
        self._addresses.opened(network)
        self._by_link[link.number] = connection
        self._half_open[link.number] = connection
        self._nursery.start_soon(self._serve, connection)
        return True

    def _note(self, text: str, *about: object) -> None:
        """Say what strangers do, once a second at most; all of it is counted."""
        if (times := self._noted.add(1)) is not None:
            log.info(text + " (%d such events since the last)", *about, times)

    async def _refuse(self, accepted: socket.socket, message: str) -> None:
        try:
            accepted.send(encode(Goodbye(reason=Reason.FULL, message=message, reconnect_after_ms=1000)))
            await linger(accepted, LINGER_S)
        except OSError:
            pass
        finally:
            trio.lowlevel.notify_closing(accepted)
            accepted.close()

    async def say_goodbye(self, reason: str) -> None:
        """Tell everybody, and wait until they have parted: `SHUTDOWN_NS_MAX` at most, whoever cancels."""
        self._authority.shutdown(self._clock(), reason)
        for connection in self._by_link.values():
            if connection.hub_writes:
                self._hand_to_task(connection)
            if isinstance(connection.socket, TlsSocket) and not connection.socket.is_done:
                connection.scope.cancel()  # it could not be told
            connection.work.set()
        with trio.CancelScope(shield=True), trio.move_on_after(SHUTDOWN_NS_MAX / NS_PER_S):
            while self._by_link:
                self._all_gone = trio.Event()
                await self._all_gone.wait()

    def cut_all(self) -> None:
        """End every connection at once."""
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    # --- in a tick ----------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Take in what has arrived at the hub."""
        for ended in self._hub.drain(self._deliver, self._take_acks):
            self._by_place[ended.place].scope.cancel()

    def fan_out(self) -> None:
        """Offer one frame to each socket of the hub, and again to those that have more, until nobody has."""
        now_ns = self._clock()
        batch = self._authority.deltas_to_send(now_ns)
        if batch:
            self._send_deltas(batch, now_ns)
        serving = []
        for link in batch.rest:
            connection = self._by_link[link.number]
            if connection.hub_writes:
                serving.append(connection)
            else:
                connection.work.set()
        while serving:
            offered, frames = [], []
            for connection in serving:
                transmit = self._authority.next_transmit(connection.link, now_ns)
                if transmit is None:
                    continue
                if transmit.kind in _SYNC_KINDS:
                    # A sync is sent as fast as the link takes it, not a chunk a tick.
                    self._hand_to_task(connection)
                    continue
                assert connection.place is not None
                offered.append((connection, transmit))
                frames.append(Outgoing(connection.place, transmit.parts))
            serving = []
            for (connection, transmit), taken in zip(offered, self._hub.send(frames), strict=True):
                if taken < 0:
                    connection.scope.cancel()
                    continue
                if taken == 0:
                    self.counts.sends_blocked += 1
                    self._authority.record_blocked(connection.link, now_ns)
                    continue
                self.counts.frames_sent += 1
                self._authority.record_sent(connection.link, transmit, now_ns)
                connection.finishing = transmit.close_after
                if taken < transmit.length:
                    self.counts.sends_partial += 1
                    connection.record_partial(transmit.parts, taken)
                if taken < transmit.length or transmit.close_after:
                    self._hand_to_task(connection)
                elif transmit.kind != Kind.DELTA_SYNC:
                    serving.append(connection)

    def _send_deltas(self, batch: Batch, now_ns: int) -> None:
        """The deltas of a tick, in one go."""
        taken = self._hub.send_deltas(batch)
        self._authority.record_batch(batch, taken, now_ns)
        self.counts.frames_sent += int(np.count_nonzero(taken > 0))
        self.counts.sends_blocked += int(np.count_nonzero(taken == 0))
        for number in np.flatnonzero((taken != 0) & (taken != batch.lengths())).tolist():
            connection, count = self._by_link[batch.links[number].number], int(taken[number])
            if count < 0:
                connection.scope.cancel()
            elif count < (begun := batch.begun(number, count)):
                self.counts.sends_partial += 1
                connection.record_partial((batch.frame(number)[:begun],), count)
                self._hand_to_task(connection)

    def cut(self) -> None:
        """End the connections that the authority has given up."""
        for link in self._authority.links_to_close():
            connection = self._by_link[link.number]
            if not connection.finishing:
                connection.scope.cancel()

    def _hand_to_task(self, connection: Connection) -> None:
        """The connection's own task writes from now on, until it finds nothing more to write."""
        assert connection.hub_writes and connection.place is not None
        self._hub.disarm(connection.place)
        connection.hub_writes = False
        connection.link.place = None
        connection.work.set()

    def _deliver(self, place: int, data: memoryview) -> bool:
        connection = self._by_place[place]
        self._take_in(connection, data)
        return not connection.broken and connection.reader.buffered_bytes == 0

    def _take_acks(self, acks: Acks) -> None:
        self.counts.bytes_received += len(acks) * ACK_BYTES
        now_ns, by_place, receive_ack = self._clock(), self._by_place, self._authority.receive_ack
        for place, session, version, epoch, chunks, *_ in self._authority.receive_acks(acks, now_ns).tolist():
            receive_ack(by_place[place].link, session, version, epoch, chunks, now_ns)

    def _take_in(self, connection: Connection, data: memoryview) -> None:
        """Bytes from a client, cut into frames and handed to the authority."""
        self.counts.bytes_received += len(data)
        if connection.broken:
            return
        now_ns = self._clock()
        try:
            connection.reader.feed(data)
            while (frame := connection.reader.next_frame()) is not None:
                self._authority.receive_frame(connection.link, frame.kind, frame.payload, now_ns)
        except RemoteProtocolError as error:
            connection.broken = True
            self._authority.receive_error(connection.link, error, now_ns)

    # --- one connection -----------------------------------------------------------------------------------------------

    async def _serve(self, connection: Connection) -> None:
        try:
            with connection.scope:
                if isinstance(connection.socket, TlsSocket):
                    await self._secure(connection, connection.socket)
                async with trio.open_nursery() as tasks:
                    tasks.start_soon(self._receive_until_joined, connection)
                    await self._write(connection)
                    tasks.cancel_scope.cancel()
                self._leave_hub(connection)
                await linger(connection.socket, LINGER_S)
        except Exception:  # the last line: a bug in here must cost a connection, not the node
            self.counts.connections_failed += 1
            log.exception("serving %s found a bug; its connection is closed", connection.link.peer)
        finally:
            self._release(connection)

    def _release(self, connection: Connection) -> None:
        """The end of a connection, whatever ended it. It leaves the hub before its descriptor is closed."""
        self._leave_hub(connection)
        self._forget_handshake(connection)
        trio.lowlevel.notify_closing(connection.socket)
        connection.socket.close()
        self._authority.close_link(connection.link, self._clock())
        del self._by_link[connection.link.number]
        self._addresses.closed(connection.network)
        if not self._by_link:
            self._all_gone.set()

    async def _secure(self, connection: Connection, secured: TlsSocket) -> None:
        """The handshake of TLS; a connection that fails in it ends without a word, as nobody could read one."""
        with trio.move_on_after(self._limits.handshake_deadline_s) as deadline:
            try:
                while not secured.shake_hands():
                    if secured.wants_room:
                        await trio.lowlevel.wait_writable(secured)
                    else:
                        await trio.lowlevel.wait_readable(secured)
                if early := secured.read_decrypted(RECEIVE_CHUNK_BYTES):
                    # The first frames may have come with the end of the handshake; the socket has no more to say.
                    self._take_in(connection, memoryview(early))
                    connection.work.set()
                return
            except OSError as error:
                self._note("the TLS handshake of %s failed: %s", connection.link.peer, _words(error))
        if deadline.cancelled_caught:
            self._note("the TLS handshake of %s took too long", connection.link.peer)
        self.counts.handshakes_failed += 1
        connection.scope.cancel()
        await trio.lowlevel.checkpoint()

    async def _receive_until_joined(self, connection: Connection) -> None:
        """Read a connection's input until its client holds a whole world; from then on the hub does."""
        with trio.move_on_after(self._limits.handshake_deadline_s) as deadline:
            while connection.link.state == "handshake":
                if (login := connection.link.login) is not None:
                    said = await self._authority.log_in(login)
                    self._authority.settle_login(connection.link, said, self._clock())
                    connection.work.set()
                elif not await self._receive(connection):
                    break
        if deadline.cancelled_caught:
            self.counts.handshakes_failed += 1
            late = RemoteProtocolError(
                f"no handshake within {self._limits.handshake_deadline_s:g} s", reason=Reason.TIMEOUT
            )
            self._authority.receive_error(connection.link, late, self._clock())
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
                connection.link.place = connection.place

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
            now_ns = self._clock()
            transmit = self._authority.next_transmit(connection.link, now_ns)
            if transmit is None:
                return
            try:
                taken = send_parts(connection.socket, transmit.parts)
            except BlockingIOError:
                self.counts.sends_blocked += 1
                # The authority counts how long. What is sent when there is room is cut anew.
                self._authority.record_blocked(connection.link, now_ns)
            else:
                self.counts.frames_sent += 1
                self._authority.record_sent(connection.link, transmit, now_ns)
                connection.finishing = transmit.close_after
                if taken < transmit.length:
                    self.counts.sends_partial += 1
                    connection.record_partial(transmit.parts, taken)
                    continue
                if transmit.kind in _SYNC_KINDS and transmit.length <= _SYNC_BYTES_AT_ONCE:
                    continue
            # With TCP_NOTSENT_LOWAT, writable means that nearly all was sent on: each chunk of a sync is cut when the
            # link is ready for it, and ticks run in between.
            await trio.lowlevel.wait_writable(connection.socket)

    async def _flush_rest(self, connection: Connection) -> None:
        # A peer that takes nothing for so long will not take a goodbye either, which could only come after this.
        stalled_s = (BLOCKED_NS_MAX + SHUTDOWN_NS_MAX) / NS_PER_S
        # And nobody is waited for beyond the last frame by taking it a byte at a time.
        last_s = SHUTDOWN_NS_MAX / NS_PER_S if connection.finishing else math.inf
        deadline = trio.current_time() + last_s
        while connection.rest is not None:
            with trio.move_on_at(min(deadline, trio.current_time() + stalled_s)) as stalled:
                await trio.lowlevel.wait_writable(connection.socket)
            if stalled.cancelled_caught:
                self._note("%s did not take the rest of a frame; cut", connection.link.peer)
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
            connection.place = connection.link.place = None
            connection.hub_writes = False

    def _forget_handshake(self, connection: Connection) -> None:
        if self._half_open.pop(connection.link.number, None) is not None:
            self._addresses.shook_hands(connection.network)


def _words(error: OSError) -> str:
    """What a person may make of an error of TLS."""
    return (error.reason if isinstance(error, ssl.SSLError) else error.strerror) or str(error)
