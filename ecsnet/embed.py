"""A client inside any game loop: `ecsnet.connect`.

The network runs in a thread of its own, so that a long frame of the game keeps nobody waiting; or, with
`threaded=False`, in `poll`, for programs that want one thread. Neither needs Trio.

Invariants:
- the game's thread never waits for the network after `connect` has returned, but in `close`, for a moment;
- the thread knows the link and not the client: a client that is forgotten without `close` still ends;
- looking for a node that was lost waits for nothing either: the thread, or `poll`, only looks after the attempt.
"""

import selectors
import socket
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from ecsnet.auth.account import Token
from ecsnet.errors import InternalError
from ecsnet.limits import NS_PER_MS, NS_PER_S, RECEIVE_CHUNK_BYTES
from ecsnet.node.client_base import BaseClient, no_world_in_time, raise_why_not_live
from ecsnet.node.in_process import Connectable
from ecsnet.node.reconnect import Reconnector, same_way
from ecsnet.node.replica_link import OnVersion, ReplicaLink
from ecsnet.node.tcp import connect as connect_tcp
from ecsnet.node.tcp import context_for
from ecsnet.node.wakeup import Wakeup
from ecsnet.replica import Event, Replica
from ecsnet.schema import Schema
from ecsnet.world import World

POLL_BUDGET_MS = 4.0
"""What `poll` spends on the network in a program of one thread: a quarter of a frame at 60 frames a second."""

_RECEIVE_BUDGET_NS = 5 * NS_PER_MS
_LINGER_S = 0.5
_JOIN_S = 5.0


class Client(BaseClient):
    """A live replica inside a game, and a context manager that closes it. Made by `ecsnet.connect`.

    It belongs to one thread of the game, the one that polls it.
    """

    def __init__(self, network: "_Network", *, threaded: bool) -> None:
        super().__init__(network.link)
        self._network = network
        self._thread: threading.Thread | None = None
        if threaded:
            self._thread = threading.Thread(target=network.run, name="ecsnet client", daemon=True)
            self._thread.start()
        self._start()

    def poll(self, *, budget_ms: float = POLL_BUDGET_MS) -> list[Event]:
        """Swap in the newest whole version, and return what happened since the last time: answers to commands
        (`CommandAnswered`), changes of state (`StateChanged`), who came into sight or went out of it (`Entered`,
        `Left`), rows of event tables (`EventRow`, or instances of the schema's own classes where it has some): each
        once, in order. Never waits for the network.

        With `threaded=False` this is also where the network runs, for about `budget_ms` at most.
        """
        if self._thread is None:
            self._network.step_nowait(budget_ms)
        elif self._network.failure is not None:
            raise InternalError("the client's network thread failed; please report it") from self._network.failure
        return self._swap()

    def close(self) -> None:
        """Say goodbye and end. Views and arrays that are held stay valid. Idempotent."""
        if self._view is None:
            return
        self._link.say_goodbye()
        if self._thread is not None:
            self._network.wakeup.set()
            self._thread.join(_JOIN_S)
        else:
            self._network.run()
        self._network.close()
        self._let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # `_view` is missing when the constructor failed.
        if getattr(self, "_view", None) is not None:
            message = "a client was not closed; use `with ecsnet.connect(...)`"
            warnings.warn(message, ResourceWarning, stacklevel=2, source=self)
            self._network.abandon(threaded=self._thread is not None)

    def _sent(self) -> None:
        if self._thread is not None:
            self._network.wakeup.set()
        else:
            self._link.flush()


class _Network:
    """The loop around one link: waits for its socket, its deadline, or a wake-up from the game's thread; and, while it
    has no connection and wants one, for the next attempt."""

    def __init__(self, link: ReplicaLink, reconnector: Reconnector) -> None:
        self.link = link
        self._reconnector = reconnector
        self._away = False
        self.wakeup = Wakeup()
        self.failure: Exception | None = None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.wakeup.socket, selectors.EVENT_READ)
        self._selector.register(link.socket, selectors.EVENT_READ)
        self._for_room = False
        self._abandoned = False

    def run(self) -> None:
        """Until the last session is over and its last frame is out; then part from the node."""
        try:
            self.run_while(lambda: not self._abandoned)
            if self._abandoned:
                self.link.say_goodbye()
                self.link.flush()
            if not self._away:
                self._linger()
            if self._abandoned:
                self.close()
        except Exception as error:  # noqa: BLE001  (handed to the game's thread by `poll`)
            self.failure = error

    def run_while(self, going_on: Callable[[], bool], deadline_ns: int | None = None) -> None:
        """Run until the last session is over, `going_on` says no, or the clock says `deadline_ns`."""
        self.link.flush()
        more = False
        while not self._is_over and going_on():
            wait_s = 0.0 if more else self._timeout_s()
            if deadline_ns is not None:
                left_s = (deadline_ns - time.monotonic_ns()) / NS_PER_S
                if left_s <= 0:
                    return
                wait_s = min(wait_s, left_s)
            self._wait(wait_s)
            # Not all of a flood at once: acks and commands go out in between.
            more = self._step(_RECEIVE_BUDGET_NS)

    def step_nowait(self, budget_ms: float) -> None:
        """What can be done without waiting, within the budget. Frames left over come with the next call."""
        self._step(int(budget_ms * NS_PER_MS))

    def _step(self, budget_ns: int) -> bool:
        """Whatever is to be done now; True if there is more of it."""
        link = self.link
        if not self._away:
            more = link.receive(time.monotonic_ns() + budget_ns)
            link.handle_timeout()
            link.flush()
            if link.is_over and link.replica.reconnecting:
                self._part()
            return more
        if self._reconnector.step() and link.replica.state != "closed":
            self._away = self._for_room = False
            self._selector.register(link.socket, selectors.EVENT_READ)
            link.flush()
        return False

    def _part(self) -> None:
        """Let go of a connection that is over; another is to be had."""
        self._away = True
        self._selector.unregister(self.link.socket)
        self.link.socket.close()
        self._reconnector.begin()

    @property
    def _is_over(self) -> bool:
        if self._away:
            return self.link.replica.state == "closed"
        return self.link.is_over and not self.link.replica.reconnecting

    def _timeout_s(self) -> float:
        return self._reconnector.timeout_s() if self._away else self.link.timeout_s()

    def abandon(self, *, threaded: bool) -> None:
        """Nobody polls any more. Called by a finaliser, which may run at any point of any thread: it takes no lock
        that somebody could be holding, and leaves what remains to be done to the network's thread where there is one.
        """
        self._abandoned = True
        if threaded:
            self.wakeup.set()
        else:
            self.close()

    def close(self) -> None:
        """Give every descriptor back. Idempotent."""
        self._selector.close()
        self.wakeup.close()
        self.link.socket.close()
        self._reconnector.close()

    def _wait(self, wait_s: float) -> None:
        if self._away:
            self._wait_away(wait_s)
            return
        if self.link.wants_room != self._for_room:
            self._for_room = self.link.wants_room
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._for_room else 0)
            self._selector.modify(self.link.socket, events)
        self._selector.select(wait_s)
        self.wakeup.clear()

    def _wait_away(self, wait_s: float) -> None:
        attempt = self._reconnector.socket
        if attempt is not None:
            wants_input = self._reconnector.wants_input
            self._selector.register(attempt, selectors.EVENT_READ if wants_input else selectors.EVENT_WRITE)
        self._selector.select(wait_s)
        if attempt is not None:
            self._selector.unregister(attempt)
        self.wakeup.clear()

    def _linger(self) -> None:
        """Let the goodbye arrive: closing while something is unread would reset the connection and lose it."""
        deadline_ns = time.monotonic_ns() + int(_LINGER_S * NS_PER_S)
        connected = self.link.socket
        try:
            connected.shutdown(socket.SHUT_WR)
            self._selector.modify(connected, selectors.EVENT_READ)
            while (left_ns := deadline_ns - time.monotonic_ns()) > 0:
                self._selector.select(left_ns / NS_PER_S)
                self.wakeup.clear()
                try:
                    if not connected.recv(RECEIVE_CHUNK_BYTES):
                        return
                except BlockingIOError:
                    pass
        except OSError:
            pass


def connect(
    node: str | Connectable,
    world: World | Schema | str | Path | None = None,
    *,
    name: str = "",
    token: Token | None = None,
    ca: str | Path | None = None,
    wait_s: float = 5.0,
    threaded: bool = True,
    reconnect: bool = True,
    on_version: OnVersion | None = None,
) -> Client:
    """Join a node. Returns with a whole world, within `wait_s` seconds, or raises.

    Args:
        node: a URL such as "tcp://localhost:7777"; or, for a game that hosts its own world, a node that runs in another
            thread of this process.
        world: the game's world or schema, or the path of one; None takes the schema and the commands from the node.
        name: what the client calls itself; not a proof of anything.
        token: what proves who the client is, to a node that asks: text, bytes, or a function that gets a new one for
            each session that begins.
        ca: of tls://, a file in PEM of the authorities to believe in, in place of those that the system believes.
        wait_s: seconds for all of it.
        threaded: whether the network has a thread of its own. Without, it runs in `poll`, and a game that does not poll
            for some seconds is taken for dead by the node.
        reconnect: when the connection is lost, or the node ends it for a reason that may pass (it is restarted, it is
            full), go on trying to reach it, at whatever its name stands for by then, not before it has asked for.
            Meanwhile the state is `resuming`: the last version stays in view, and commands cannot be sent; those that
            were unanswered have their effect once. The session goes on where it was, with what it has missed; only
            where the node does not know it any more another one begins. False: the client is closed then.
        on_version: see `OnVersion`.

    Raises:
        ConnectError: nobody answers there, or the node did not let us in. AuthenticationError: it does not believe who
        we say we are. UntrustedNodeError: it cannot prove who it is. CertificateError: `ca` is no file of certificates.
        SchemaMismatchError: it has another schema. RemoteProtocolError: it does not speak our protocol.
        NotBuiltError: a transport other than tcp:// and tls://. Nothing is left open.
    """
    address = node if isinstance(node, str) else "in-process"
    deadline_ns = time.monotonic_ns() + int(wait_s * NS_PER_S)
    replica = Replica(world, name=name, token=token, reconnects=reconnect)
    try:
        context = context_for(node, ca) if isinstance(node, str) else None
        connected = connect_tcp(node, wait_s, context) if isinstance(node, str) else node.connect_in_process()
    except BaseException:
        replica.release()
        raise
    try:
        link = ReplicaLink(replica, connected, on_version)
    except BaseException:
        connected.close()
        replica.release()
        raise
    network = _Network(link, Reconnector(link, same_way(node, connected, context), Random()))
    try:
        network.run_while(lambda: replica.state == "joining", deadline_ns)
        if replica.state == "joining":
            raise no_world_in_time(address, wait_s)
        if replica.state != "live":
            raise_why_not_live(replica, address)
        return Client(network, threaded=threaded)
    except BaseException:
        network.close()
        replica.release()
        raise
