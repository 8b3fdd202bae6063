"""A client for Trio programs: bots, tools, bridges, tests. A game's own loop wants `ecsnet.connect`.

Invariant: everything runs on Trio's thread, between two checkpoints of the program at the earliest; a version that was
polled stays as it is until the next poll.
"""

import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random

import trio

from ecsnet.auth.account import Token
from ecsnet.errors import ConnectError
from ecsnet.limits import NS_PER_MS
from ecsnet.node.client_base import BaseClient, no_world_in_time, raise_why_not_live
from ecsnet.node.in_process import Connectable
from ecsnet.node.reconnect import Reconnector, same_way
from ecsnet.node.replica_link import OnVersion, ReplicaLink
from ecsnet.node.tcp import context_for, parse_url, securing, tune, why_not_connected
from ecsnet.node.tls import TlsSocket, Transport
from ecsnet.node.waiting import linger, unwrapping
from ecsnet.replica import Event, Replica
from ecsnet.schema import Schema
from ecsnet.world import World

# Applying a flood of frames lets other tasks run at least this often.
_RECEIVE_BUDGET_NS = 5 * NS_PER_MS
_LINGER_S = 0.5


class AsyncClient(BaseClient):
    """A client whose network runs in tasks beside the program's own. Made by `open_client`."""

    def __init__(self, link: ReplicaLink, reconnector: Reconnector) -> None:
        super().__init__(link)
        self._reconnector = reconnector
        # Cancelled when the client leaves while it has no connection; each time without one has its own.
        self._away = trio.CancelScope()
        self._work = trio.Event()
        self._happened = trio.Event()
        self._ended = trio.Event()

    def poll(self) -> list[Event]:
        """Swap in the newest whole version and return what happened since the last time. Does not wait."""
        return self._swap()

    async def wait_poll(self) -> list[Event]:
        """Wait until there is a newer version, an event, or the session is over; then `poll`."""
        await trio.lowlevel.checkpoint()
        while True:
            happened = self._happened
            before = self._view
            events = self._swap()
            if events or self.state == "closed" or self._view is not before:
                return events
            await happened.wait()

    def _sent(self) -> None:
        self._work.set()

    # --- the network -------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Until the last session is over. Its socket is left to the caller."""
        try:
            while True:
                self._work.set()
                async with trio.open_nursery() as tasks:
                    tasks.start_soon(self._receive, tasks.cancel_scope)
                    await self._send()
                    tasks.cancel_scope.cancel()
                self._note()
                if not self._replica.reconnecting:
                    return
                self._link.socket.close()
                with trio.CancelScope() as self._away:
                    await self._reconnect()
                self._note()
                if self._replica.closing:
                    return
        finally:
            self._ended.set()

    async def _reconnect(self) -> None:
        """Try until there is a connection again, or none is wanted any more."""
        again = self._reconnector
        again.begin()
        try:
            while not again.step():
                with trio.move_on_after(again.timeout_s()):
                    if again.socket is None:
                        await trio.sleep_forever()
                    await (
                        trio.lowlevel.wait_readable(again.socket)
                        if again.wants_input
                        else trio.lowlevel.wait_writable(again.socket)
                    )
        finally:
            again.close()

    async def _receive(self, connection: trio.CancelScope) -> None:
        link = self._link
        while not self._replica.closing:
            with trio.move_on_after(link.timeout_s()):
                await trio.lowlevel.wait_readable(link.socket)
            while link.receive(link.clock() + _RECEIVE_BUDGET_NS):
                self._note()
                await trio.lowlevel.checkpoint()
            link.handle_timeout()
            self._note()
        if link.is_over:
            # Who waits for room would wait for nothing.
            connection.cancel()

    async def _leave(self) -> None:
        """Say goodbye and let it arrive, for a moment at most."""
        self._link.say_goodbye()
        self._away.cancel()
        # Here and not in a task, which may have been cancelled together with the caller.
        self._link.flush()
        self._work.set()
        with trio.CancelScope(shield=True), trio.move_on_after(_LINGER_S):
            await self._ended.wait()
            await linger(self._link.socket, _LINGER_S)

    def _note(self) -> None:
        """Something may have happened, and something may want to be sent."""
        self._work.set()
        self._happened.set()
        self._happened = trio.Event()

    async def _send(self) -> None:
        link = self._link
        while True:
            await self._work.wait()
            self._work = trio.Event()
            link.flush()
            while link.wants_room:
                await trio.lowlevel.wait_writable(link.socket)
                link.flush()
            if link.is_over:
                return


@contextlib.asynccontextmanager
async def open_client(
    node: str | Connectable,
    world: World | Schema | str | Path | None = None,
    *,
    name: str = "",
    token: Token | None = None,
    ca: str | Path | None = None,
    wait_s: float = 5.0,
    reconnect: bool = True,
    on_version: OnVersion | None = None,
    clock: Callable[[], int] = time.monotonic_ns,
    seed: int | None = None,
) -> AsyncIterator[AsyncClient]:
    """Join a node and run the client beside the body of an `async with`, which begins with a whole world. Leaving it
    says goodbye.

    Args:
        node: a URL such as "tcp://localhost:7777", or a node of this process.
        world: the game's world or schema, or the path of one; None takes the schema and the commands from the node.
        name: what the client calls itself; not a proof of anything.
        token: what proves who the client is, to a node that asks: text, bytes, or a function that gets a new one for
            each session that begins.
        ca: of tls://, a file in PEM of the authorities to believe in, in place of those that the system believes.
        wait_s: seconds for all of it.
        reconnect: when the connection is lost, or the node ends it for a reason that may pass (it is restarted, it is
            full), go on trying to reach it, at whatever its name stands for by then, not before it has asked for.
            Meanwhile the state is `resuming`: the last version stays in view, and commands cannot be sent; those that
            were unanswered have their effect once. The session goes on where it was, with what it has missed; only
            where the node does not know it any more another one begins. False: the client is closed then.
        on_version: see `OnVersion`.
        clock: nanoseconds that never run backwards, in step with Trio's clock.
        seed: of the pauses between attempts; None draws one.

    Raises:
        ConnectError: nobody answers there, or the node did not let us in. AuthenticationError: it does not believe who
        we say we are. UntrustedNodeError: it cannot prove who it is. CertificateError: `ca` is no file of certificates.
        SchemaMismatchError: it has another schema. RemoteProtocolError: it does not speak our protocol. Nothing is left
        open.
    """
    address = node if isinstance(node, str) else "in-process"
    context = context_for(node, ca) if isinstance(node, str) else None
    replica = Replica(world, name=name, token=token, reconnects=reconnect)
    deadline = trio.current_time() + wait_s
    connected = await _connect(node, deadline, context) if isinstance(node, str) else node.connect_in_process()
    try:
        link = ReplicaLink(replica, connected, on_version, clock=clock)
    except BaseException:
        connected.close()
        replica.release()
        raise
    client = AsyncClient(link, Reconnector(link, same_way(node, connected, context), Random(seed)))
    try:
        with unwrapping():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client._run)
                try:
                    with trio.move_on_at(deadline) as waiting:
                        while replica.state == "joining":
                            await client._happened.wait()
                    if waiting.cancelled_caught:
                        raise no_world_in_time(address, wait_s)
                    if replica.state != "live":
                        raise_why_not_live(replica, address)
                    client._start()
                    yield client
                finally:
                    await client._leave()
                    nursery.cancel_scope.cancel()
    finally:
        link.socket.close()
        client._let_go()


async def _connect(url: str, deadline: float, context: ssl.SSLContext | None) -> Transport:
    address = parse_url(url)
    with trio.move_on_at(deadline):
        try:
            stream = await trio.open_tcp_stream(address.host, address.port)
        except (OSError, UnicodeError) as error:
            raise ConnectError(url, why_not_connected(error)) from error
        connected = socket.socket(fileno=stream.socket.detach())
        tune(connected)
        if context is None:
            return connected
        return await _secure(url, TlsSocket(connected, context, address.host), deadline)
    raise ConnectError(url, why_not_connected(TimeoutError()))


async def _secure(url: str, secured: TlsSocket, deadline: float) -> TlsSocket:
    """The handshake of TLS, in time."""
    with securing(url, secured):
        with trio.move_on_at(deadline):
            while not secured.shake_hands():
                if secured.wants_room:
                    await trio.lowlevel.wait_writable(secured)
                else:
                    await trio.lowlevel.wait_readable(secured)
            return secured
        raise TimeoutError
