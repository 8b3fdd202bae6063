"""A player of the second simulation: a real client under Trio, and the game loop around it.

What a game uses of it is what it uses of a `Player` of the cluster of cores, so the same `play` runs in both.

Invariants: the game moves once per tick of its own, at a phase of its own; what it draws comes from `random`, which
nothing else draws from.
"""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, overload

import trio

from ecsnet.errors import ConnectError
from ecsnet.ids import Entity, Epoch, SessionId, Version
from ecsnet.node import AsyncClient, open_client
from ecsnet.replica import Diverged, Event, StateChanged, Ticket
from ecsnet.replica.events import ReplicaState
from ecsnet.sim.trio_link import SimulatedWay, now_ns
from ecsnet.store import View
from ecsnet.world import World

if TYPE_CHECKING:
    from ecsnet.store.typed import Selector
    from ecsnet.world import Command, Given

GOODBYE = "the run is over"
"""What the node says when it shuts down at the end."""

EVENTS_KEPT = 1000
"""Of a game that does not ask for its events."""

_JOIN_S = 10.0
_TRY_AGAIN_S = 1.0

Play = Callable[["TrioPlayer"], None]
"""Called for each live player, once per tick of its own."""


class TrioPlayer:
    """See the file. Made by `TrioCluster.join`."""

    def __init__(self, number: int, name: str, seed: str, way: SimulatedWay) -> None:
        self.number = number
        self.name = name
        self.random = Random(f"{seed}/{name}/player")
        """The player's own generator, for what its game does."""
        self.way = way
        """How it reaches the node."""
        self.leaving = False
        self.gone = False
        """Has left; nothing of it goes on."""
        self.reconnects = 0
        self.was_told_goodbye = False
        self.violation = ""
        """What happened to it that must never happen; empty if nothing did."""
        self.applied: list[tuple[int, int, int]] = []
        """(when, incarnation of the node, version), as versions became visible."""
        self._newest = (0, 0)
        self._client: AsyncClient | None = None
        self._own = Random(f"{seed}/{name}")
        self._joining = trio.CancelScope()
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)

    @property
    def client(self) -> AsyncClient:
        """The driver itself.

        Raises:
            ConnectError: it has not joined yet.
        """
        if self._client is None:
            raise ConnectError(self.name, "this player has not joined yet; wait for is_live")
        return self._client

    @property
    def state(self) -> ReplicaState:
        return "joining" if self._client is None else self._client.state

    @property
    def is_live(self) -> bool:
        """It has a whole world, and commands may be sent."""
        return self.state == "live"

    @property
    def view(self) -> View:
        """The version of the last poll. Raises ConnectError before the player has joined."""
        return self.client.view

    @property
    def version(self) -> Version:
        return Version(0) if self._client is None else self._client.version

    @property
    def epoch(self) -> Epoch:
        return Epoch(0) if self._client is None else self._client.epoch

    @property
    def session(self) -> SessionId:
        return SessionId(0) if self._client is None else self._client.session

    @property
    def entity(self) -> Entity:
        return Entity(0) if self._client is None else self._client.entity

    @overload
    def send(self, command: "Command[Given]", /, *nothing: "Given.args", **arguments: "Given.kwargs") -> Ticket: ...
    @overload
    def send(self, command: str, /, **arguments: Any) -> Ticket: ...

    # Arguments go by name; that they may not go by position is more than a ParamSpec can say.
    def send(self, command: str | Callable[..., Any], /, **arguments: Any) -> Ticket:  # type: ignore[misc]
        """Ask the authority to run a command; as a client's `send`, with its errors."""
        return self.client.send(command, **arguments)

    def write(self, keys: Any, table: "Selector", /, **fields: Any) -> Ticket:
        """Write cells without a command; as a client's `write`, with its errors."""
        return self.client.write(keys, table, **fields)

    def insert(self, what: Any, /, *rows: Any, **components: Any) -> Ticket:
        """Insert a row without a command; as a client's `insert`, with its errors."""
        return self.client.insert(what, *rows, **components)

    def delete(self, keys: Any, table: "Selector", /) -> Ticket:
        """Delete rows without a command; as a client's `delete`, with its errors."""
        return self.client.delete(keys, table)

    def poll(self) -> list[Event]:
        """What happened since the last call, oldest first; the last `EVENTS_KEPT` if nobody called for long."""
        events = list(self._events)
        self._events.clear()
        return events

    def __repr__(self) -> str:
        return f"TrioPlayer({self.name!r}, {self.state!r}, version {self.version})"

    # --- by the cluster ----------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Say goodbye at the next tick, or give joining up."""
        self.leaving = True
        if self._client is None:
            self._joining.cancel()

    async def live(self, knows: World | None, period_s: float, play: Play) -> None:
        """Join, and then do once per tick what a game's loop does, until it is over."""
        with self._joining:
            while not await self._live_once(knows, period_s, play):
                # The way there was too bad, or there was no node: a player tries again.
                await trio.sleep(_TRY_AGAIN_S)
        self.gone = self.leaving

    async def _live_once(self, knows: World | None, period_s: float, play: Play) -> bool:
        """False if it could not join."""
        try:
            async with open_client(
                self.way,
                knows,
                name=self.name,
                wait_s=_JOIN_S,
                reconnect=True,
                on_version=self._applied,
                clock=now_ns,
                seed=self._own.getrandbits(64),
            ) as self._client:
                start = trio.current_time() + self._own.random() * period_s
                turn = 0
                while self._client.state != "closed" and not self.leaving:
                    await trio.sleep_until(start + turn * period_s)
                    turn += 1
                    self._take(self._client.poll())
                    if self._client.state == "live" and not self.leaving:
                        play(self)
            return True
        except ConnectError:
            return False

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Diverged):
                self.violation = f"diverged: version {event.version} has digest {event.ours}, not {event.theirs}"
            if isinstance(event, StateChanged) and event.new == "live" and event.old == "resuming":
                self.reconnects += 1
            if isinstance(event, StateChanged) and event.new in ("resuming", "closed"):
                self.was_told_goodbye = GOODBYE in event.reason
        self._events += events

    def _applied(self, version: Version, when_ns: int) -> None:
        connection, before = self._newest
        if connection == self.way.connections and version <= before:
            self.violation = f"was shown version {version} after {before}"
        self._newest = (self.way.connections, version)
        self.applied.append((when_ns, self.way.incarnation, version))
