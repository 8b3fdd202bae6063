"""The sockets of a node's links to other nodes: who dials whom, what is read, and what is written after each tick.

One task for each address that is dialled, one for each listening socket, and two for each connection. All the rest is
`ecsnet.authority.Peering`: this only ever feeds, drains, sends and dials again.

Invariants:
- everything here belongs to Trio's thread; what a tick calls (`begin_tick`, `end_tick`) never waits;
- whatever happens to a link ends that link and nothing else; an address that was dialled is dialled again, for as long
  as the node lives, in growing pauses;
- however a connection ends, its socket is closed and `Peering` told.
"""

import logging
import random
import socket
from collections.abc import Callable, Sequence

import trio

from ecsnet.authority import Peering, PeerLink
from ecsnet.authority.peer_link import LinkState
from ecsnet.errors import LimitExceededError, NotBuiltError, RemoteProtocolError
from ecsnet.limits import MESSAGE_TO_CLIENT_BYTES_MAX, RECEIVE_CHUNK_BYTES
from ecsnet.node.tcp import address_of, is_connected, listen, parse_url, peer_of, start_connect, tune, why_not_connected
from ecsnet.node.waiting import linger
from ecsnet.wire.framing import FrameReader
from ecsnet.wire.messages import Reason

log = logging.getLogger("ecsnet.node")

_CONNECT_S = 5.0
_PAUSE_S_MIN, _PAUSE_S_MAX = 0.25, 10.0
"""Between two attempts: at once enough after a restart of the other, seldom enough while it is gone."""

_LINGER_S = 1.0
_NS_PER_MS = 1_000_000


class _Connection:
    __slots__ = ("link", "reader", "scope", "socket", "work")

    def __init__(self, connected: socket.socket, link: PeerLink) -> None:
        self.socket = connected
        self.link = link
        self.reader = FrameReader(MESSAGE_TO_CLIENT_BYTES_MAX)
        self.scope = trio.CancelScope()
        self.work = trio.Event()
        """Set when there may be something to write; the writer replaces it."""
        self.work.set()


class PeerSockets:
    """The transports of one `Peering`.

    Args:
        peering: the authority's.
        listen: URLs on which other nodes are accepted. Not those of the clients: a node that listens there is one of
            us, and a firewall can tell them apart.
        dial: URLs of other nodes. Of two nodes one need know the other.
        clock: nanoseconds that never run backwards, in step with Trio's clock.
        wall_clock: nanoseconds since 1970 (UTC).
    """

    def __init__(
        self,
        peering: Peering,
        *,
        listen: Sequence[str],
        dial: Sequence[str],
        clock: Callable[[], int],
        wall_clock: Callable[[], int],
    ) -> None:
        self.addresses: tuple[str, ...] = ()
        """The URLs under which other nodes reach this one, once `open` was called."""
        for url in (*listen, *dial):
            if parse_url(url).scheme != "tcp":
                raise NotBuiltError(f"TLS between nodes ({url})", "use tcp:// in a network of your own, or a tunnel")
        self._peering = peering
        self._listen = tuple(listen)
        self._dial = tuple(dial)
        self._clock = clock
        self._wall_clock = wall_clock
        self._listeners: list[socket.socket] = []
        self._connections: dict[int, _Connection] = {}
        self._known: dict[str, int] = {}
        """By address that is dialled, the number of the node that answered."""

    def open(self) -> None:
        """Listen. Raises ListenError: an address cannot be listened on; nothing is left listening."""
        try:
            for url in self._listen:
                self._listeners += listen(url)
        except BaseException:
            self.close()
            raise
        self.addresses = tuple(address_of(listener) for listener in self._listeners)

    def close(self) -> None:
        """Listen no more. Again is harmless."""
        while self._listeners:
            self._listeners.pop().close()

    # --- in a tick ----------------------------------------------------------------------------------------------------

    def begin_tick(self) -> None:
        """Before the authority's tick."""
        self._peering.tell_time(self._wall_clock() // _NS_PER_MS)

    def end_tick(self) -> None:
        """After it: what it made to say is written by each connection's own task."""
        due_ns = self._peering.next_timeout_ns()
        now_ns = self._clock()
        if due_ns is not None and due_ns <= now_ns:
            self._peering.handle_timeout(now_ns)
        for connection in self._connections.values():
            connection.work.set()

    # --- the tasks ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled; then say goodbye, as far as the sockets take it at once."""
        try:
            async with trio.open_nursery() as nursery:
                for listener in self._listeners:
                    nursery.start_soon(self._accept, listener, nursery)
                for url in self._dial:
                    nursery.start_soon(self._dial_for_ever, url)
                await trio.sleep_forever()
        finally:
            for listener in self._listeners:
                trio.lowlevel.notify_closing(listener)
            self.close()

    async def _accept(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(listener)
            try:
                accepted, _ = listener.accept()
            except BlockingIOError:
                continue
            except OSError:
                log.exception("a node could not be accepted")
                await trio.sleep(_PAUSE_S_MIN)
                continue
            tune(accepted)
            nursery.start_soon(self._serve, accepted, peer_of(accepted), False)

    async def _dial_for_ever(self, url: str) -> None:
        pause_s = _PAUSE_S_MIN
        while True:
            if not self._is_linked(self._known.get(url, 0)):
                try:
                    connected = await _connect(url)
                except OSError as error:
                    log.debug("node at %s: %s", url, why_not_connected(error))
                else:
                    link = await self._serve(connected, url, True)
                    if link is not None and link.them is not None:
                        self._known[url] = link.node
                        pause_s = _PAUSE_S_MIN
            # All nodes of a cluster that lost one must not come to it in the same moment.
            await trio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(_PAUSE_S_MAX, 2 * pause_s)

    def _is_linked(self, node: int) -> bool:
        return any(link.node == node and link.state is LinkState.LIVE for link in self._peering.links) and node != 0

    async def _serve(self, connected: socket.socket, address: str, dialled: bool) -> PeerLink | None:
        """Serve one connection until it ends."""
        try:
            link = self._peering.open_link(self._clock(), address=address, dialled=dialled)
        except LimitExceededError as error:
            log.warning("a link with %s was refused: %s", address, error)
            connected.close()
            return None
        connection = self._connections[link.number] = _Connection(connected, link)
        try:
            with connection.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._receive, connection)
                    await self._write(connection)
                    nursery.cancel_scope.cancel()
                await linger(connected, _LINGER_S)
        finally:
            self._part_at_once(connection)
            del self._connections[link.number]
            self._peering.close_link(link)
            trio.lowlevel.notify_closing(connected)
            connected.close()
        return link

    def _part_at_once(self, connection: _Connection) -> None:
        """Where it was not done yet, and as far as the socket takes it."""
        connection.link.part(Reason.SHUTDOWN)
        try:
            for frame in self._peering.frames_to_send(connection.link, self._clock()):
                connection.socket.send(frame)
        except OSError:
            pass

    async def _receive(self, connection: _Connection) -> None:
        link, reader = connection.link, connection.reader
        while link.state is not LinkState.CLOSED:
            await trio.lowlevel.wait_readable(connection.socket)
            try:
                data = connection.socket.recv(RECEIVE_CHUNK_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                connection.scope.cancel()
                return
            now_ns = self._clock()
            try:
                reader.feed(data)
                while (frame := reader.next_frame()) is not None:
                    self._peering.receive_frame(link, frame.kind, frame.payload, now_ns)
            except RemoteProtocolError as error:
                self._peering.receive_error(link, error)
            connection.work.set()

    async def _write(self, connection: _Connection) -> None:
        """Write until the link is over and its goodbye is out."""
        link = connection.link
        while True:
            await connection.work.wait()
            connection.work = trio.Event()
            for frame in self._peering.frames_to_send(link, self._clock()):
                with trio.move_on_after(_CONNECT_S) as stalled:
                    rest = memoryview(frame)
                    while rest:
                        try:
                            rest = rest[connection.socket.send(rest) :]
                        except BlockingIOError:
                            await trio.lowlevel.wait_writable(connection.socket)
                        except OSError:
                            stalled.cancel()
                            break
                if stalled.cancel_called:
                    connection.scope.cancel()
                    await trio.lowlevel.checkpoint()
            if link.state is LinkState.CLOSED:
                return


async def _connect(url: str) -> socket.socket:
    """A connection to a node.

    Raises:
        OSError: nobody answers there.
    """
    address = parse_url(url)
    failure: OSError = TimeoutError()
    with trio.move_on_after(_CONNECT_S):
        found = await trio.socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        for family, _, _, _, where in found:
            connecting: socket.socket | None = None
            try:
                connecting = start_connect(family, where)
                await trio.lowlevel.wait_writable(connecting)
                if is_connected(connecting):
                    connected, connecting = connecting, None
                    return connected
            except OSError as error:
                failure = error
            finally:
                if connecting is not None:
                    trio.lowlevel.notify_closing(connecting)
                    connecting.close()
    raise failure
