"""A client for Trio programs: bots, tools, bridges, tests. A game's own loop wants `ecsnet.connect`.

Invariant: everything runs on Trio's thread, between two checkpoints of the program at the earliest; a version that was
polled stays as it is until the next poll.
"""

import contextlib
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from ecsnet.errors import ConnectError
from ecsnet.limits import NS_PER_MS
from ecsnet.node.client_base import BaseClient, no_world_in_time, raise_why_not_live
from ecsnet.node.replica_link import OnVersion, ReplicaLink
from ecsnet.node.tcp import parse_url, tune, why_not_connected
from ecsnet.node.waiting import linger, unwrapping
from ecsnet.replica import Event, Replica
from ecsnet.schema import Schema
from ecsnet.world import World

if TYPE_CHECKING:
    from ecsnet.node.server import AuthoritativeNode

# Applying a flood of frames lets other tasks run at least this often.
_RECEIVE_BUDGET_NS = 5 * NS_PER_MS
_LINGER_S = 0.5


class AsyncClient(BaseClient):
    """A client whose network runs in tasks beside the program's own. Made by `open_client`."""

    def __init__(self, link: ReplicaLink) -> None:
        super().__init__(link)
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
            held = self._view.version if self._view is not None else 0
            events = self._swap()
            if events or self.state == "closed" or (self._view is not None and self._view.version > held):
                return events
            await happened.wait()

    def _sent(self) -> None:
        self._work.set()

    # --- the network -------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Until the session is over. The socket is left to the caller."""
        self._work.set()
        try:
            async with trio.open_nursery() as tasks:
                tasks.start_soon(self._receive)
                await self._send()
                tasks.cancel_scope.cancel()
        finally:
            self._ended.set()

    async def _receive(self) -> None:
        link = self._link
        while not self._replica.closing:
            with trio.move_on_after(link.timeout_s()):
                await trio.lowlevel.wait_readable(link.socket)
            while link.receive(time.monotonic_ns() + _RECEIVE_BUDGET_NS):
                self._note()
                await trio.lowlevel.checkpoint()
            link.handle_timeout()
            self._note()

    async def _leave(self) -> None:
        """Say goodbye and let it arrive, for a moment at most."""
        self._link.say_goodbye()
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
                self._note()
                return


@contextlib.asynccontextmanager
async def open_client(
    node: "str | AuthoritativeNode",
    world: World | Schema | str | Path | None = None,
    *,
    name: str = "",
    wait_s: float = 5.0,
    on_version: OnVersion | None = None,
) -> AsyncIterator[AsyncClient]:
    """Join a node and run the client beside the body of an `async with`, which begins with a whole world. Leaving it
    says goodbye.

    Args:
        node: a URL such as "tcp://localhost:7777", or a node of this process.
        world: the game's world or schema, or the path of one; None takes the schema and the commands from the node.
        name: what the client calls itself; not a proof of anything.
        wait_s: seconds for all of it.
        on_version: see `OnVersion`.

    Raises:
        ConnectError: nobody answers there, or the node did not let us in. SchemaMismatchError: it has another schema.
        RemoteProtocolError: it does not speak our protocol. Nothing is left open.
    """
    address = node if isinstance(node, str) else "in-process"
    replica = Replica(world, name=name)
    deadline = trio.current_time() + wait_s
    connected = await _connect(node, deadline) if isinstance(node, str) else node.connect_in_process()
    client = AsyncClient(ReplicaLink(replica, connected, on_version))
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
                    client._swap()
                    yield client
                finally:
                    await client._leave()
                    nursery.cancel_scope.cancel()
    finally:
        connected.close()
        client._let_go()


async def _connect(url: str, deadline: float) -> socket.socket:
    address = parse_url(url)
    with trio.move_on_at(deadline):
        try:
            stream = await trio.open_tcp_stream(address.host, address.port)
        except (OSError, UnicodeError) as error:
            raise ConnectError(url, why_not_connected(error)) from error
        connected = socket.socket(fileno=stream.socket.detach())
        tune(connected)
        return connected
    raise ConnectError(url, why_not_connected(TimeoutError()))
