"""One player of a simulated run: a replica, its game loop, its clock, and the connection it has at the moment.

A player's program does once per tick, at a moment of its own: look after its connection, hand the game what happened,
let the game send, and do what is due by the clock. Frames are taken in, and acked, when they arrive, as a client's
network thread does it.

Invariant: whatever happens to a player happens at a virtual time inside the window that is being stepped, in the order
of those times.
"""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, overload

from ecsnet.ids import Entity, Tick, Version
from ecsnet.limits import LINGER_S_DEFAULT, NS_PER_S, SILENCE_NS_MAX
from ecsnet.replica import CommandAnswered, Diverged, Event, EventRow, EventRowsLost, Replica, StateChanged, Ticket
from ecsnet.replica.event_rows import TypedRow
from ecsnet.replica.events import ReplicaState
from ecsnet.sim.checkers import Checkers
from ecsnet.sim.clock import PlayerClock
from ecsnet.sim.datagram_connection import DatagramConnection
from ecsnet.sim.event_rows import EventsTold
from ecsnet.sim.link import Outages
from ecsnet.sim.node_side import Connection, NodeSide
from ecsnet.sim.profile import Profile
from ecsnet.sim.sight import Seen
from ecsnet.store import View
from ecsnet.wire.messages import Kind
from ecsnet.world import World

if TYPE_CHECKING:
    from ecsnet.store.typed import Selector
    from ecsnet.world import Command, Given

EVENTS_KEPT = 1000
"""Of a game that does not ask for its events."""

RETRY_NS = NS_PER_S // 10
RETRY_NS_MAX = 2 * NS_PER_S
"""Between two attempts to connect: doubles from the one to the other, times 0.5 to 1.5."""

_LOOK_NS = NS_PER_S // 10

_DELTA_SYNC = int(Kind.DELTA_SYNC)

Connect = Callable[["Player", int], Connection]


class Player:
    """See the file. Made by `Cluster.join`."""

    def __init__(
        self,
        number: int,
        name: str,
        knows: World | None,
        *,
        profile: Profile,
        node: NodeSide,
        checkers: Checkers,
        connect: Connect,
        seed: str,
        datagrams: bool,
        period_ns: int,
        check: "Callable[[View], str | None] | None" = None,
    ) -> None:
        self.number = number
        self.name = name
        self.profile = profile
        self.datagrams = datagrams
        self.random = Random(f"{seed}/{name}/player")
        """The player's own generator, for what its game does."""
        self.replica = Replica(knows, name=name, reconnects=True, datagrams=datagrams)
        self.replica.on_applied = self._on_applied
        self.connection: Connection | None = None
        self.is_cut = (False, False)
        """Whether the way down, and the way up, is cut: this connection's, and any later one's."""
        self.outages = Outages(Random(f"{seed}/{name}/outages"))
        """The tunnels it goes through, on whatever connection."""
        self.leaving = False
        self.gone = False
        """Has left; nothing of it goes on."""
        self.applied: list[tuple[int, int, int, int]] = []
        """(when, incarnation of the node, version shown before or 0, version), in ns of virtual time."""
        self.behind: list[tuple[int, int]] = []
        self.queued: list[tuple[int, int]] = []
        self.stays: list[list[int]] = []
        """[from, to] in which it was live; to is 0 while it still is."""
        self.bytes_down: list[int] = []
        self.bytes_up: list[int] = []
        self.reconnects = 0
        self.same_session = False
        self._node = node
        self._checkers = checkers
        self._connect = connect
        self._check = check
        own = Random(f"{seed}/{name}")
        self.clock = PlayerClock.drawn(own, profile.clock_offset_ms, profile.clock_drift_ppm)
        self._phase_ns = own.randrange(period_ns)
        self._random = own
        self._stalled_until_ns = 0
        self._retry_ns = RETRY_NS
        self._connect_at_ns = 0
        self._now_ns = 0
        self._deadline_ns = 0
        self._looked_ns = 0
        self._shown: tuple[int, int] = (0, 0)
        self._shown_epoch = 0
        self._was: tuple[int, int, int] | None = None
        """Session, entity and the node's incarnation when it was live last."""
        self._tickets: dict[int, int] = {}
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._told = EventsTold(node.events, lambda what: checkers.event(self, what))
        self.seen = Seen(
            node.made,
            lambda what: checkers.violated("sight", f"{name} {what}"),
            lambda what: checkers.violated("budget", f"{name} {what}"),
            datagrams=datagrams,
            turn=number,
        )
        self._syncs = 0
        self._held = 0
        """The newest version that it has applied."""
        self.resumes_in_place = 0
        """Links over which its session went on from the version that it held."""

    # --- what a game uses --------------------------------------------------------------------------------------------

    @property
    def state(self) -> ReplicaState:
        return self.replica.state

    @property
    def is_live(self) -> bool:
        """It has a whole world, and commands may be sent."""
        return self.replica.state == "live"

    @property
    def version(self) -> Version:
        return self.replica.version

    @property
    def session(self) -> int:
        return self.replica.session

    @property
    def entity(self) -> Entity:
        return self.replica.entity

    @property
    def view(self) -> View:
        """The newest whole version. Close it, or let it go, before the run goes on: views that are held cost memory.

        Raises:
            LocalProtocolError: nothing came from the node yet.
        """
        return self.replica.view()

    @overload
    def send(self, command: "Command[Given]", /, *nothing: "Given.args", **arguments: "Given.kwargs") -> Ticket: ...
    @overload
    def send(self, command: str, /, **arguments: Any) -> Ticket: ...

    # Arguments go by name; that they may not go by position is more than a ParamSpec can say.
    def send(self, command: str | Callable[..., Any], /, **arguments: Any) -> Ticket:  # type: ignore[misc]
        """Ask the authority to run a command; as `Replica.send`, with its errors."""
        return self.replica.send(command, **arguments)

    def write(self, keys: Any, table: "Selector", /, **fields: Any) -> Ticket:
        """Write cells without a command; as `Replica.write`, with its errors."""
        return self.replica.write(keys, table, **fields)

    def insert(self, what: Any, /, *rows: Any, **components: Any) -> Ticket:
        """Insert a row without a command; as `Replica.insert`, with its errors."""
        return self.replica.insert(what, *rows, **components)

    def delete(self, keys: Any, table: "Selector", /) -> Ticket:
        """Delete rows without a command; as `Replica.delete`, with its errors."""
        return self.replica.delete(keys, table)

    def poll(self) -> list[Event]:
        """What happened since the last call, oldest first; the last `EVENTS_KEPT` if nobody called for long."""
        events = list(self._events)
        self._events.clear()
        return events

    def __repr__(self) -> str:
        return f"Player({self.name!r}, {self.state!r}, version {self.version})"

    # --- faults, by the cluster --------------------------------------------------------------------------------------

    def stall(self, until_ns: int) -> None:
        """The player's program stands still: a loading screen, a debugger, a phone in a pocket."""
        self._stalled_until_ns = max(self._stalled_until_ns, until_ns)

    def wake(self) -> None:
        self._stalled_until_ns = 0

    def lose_connection(self, now_ns: int) -> None:
        """The transport breaks at both ends."""
        if self.connection is not None:
            self.connection.abort()
            self._lost(now_ns, "the connection was reset")

    # --- the course of a tick ----------------------------------------------------------------------------------------

    def advance(self, from_ns: int, until_ns: int, game: Callable[["Player"], None] | None) -> None:
        """Everything that happens at this player in `(from, until]`."""
        if self.gone or self._stalled_until_ns > until_ns:
            return
        moment_ns = from_ns + self._phase_ns
        connection = self.connection
        if connection is None:
            self._play(moment_ns, game)
            return
        played = False
        arrivals = connection.player_receive(until_ns)
        if arrivals:
            replica, local = self.replica, self.clock.local
            awake_ns = max(self._stalled_until_ns, from_ns)
        for when_ns, kind, payload, reliable in arrivals:
            if when_ns > moment_ns and not played:
                self._play(moment_ns, game)
                played = True
            # What came while the program stood still is taken in when it goes on.
            now_ns = self._now_ns = when_ns if when_ns > awake_ns else awake_ns
            local_ns = local(now_ns)
            replica.receive_frame(kind, payload, local_ns, reliable=reliable)
            # Most deltas want no answer yet.
            if kind != _DELTA_SYNC or connection.datagrams or local_ns >= replica.next_ack_ns:
                self._flush(connection, local_ns, now_ns)
        if not played:
            self._play(moment_ns, game)
        if connection.node_gone and self.connection is connection and connection.player_lost(until_ns):
            self._lost(until_ns, "the node ended the connection without a goodbye")

    def _play(self, now_ns: int, game: Callable[["Player"], None] | None) -> None:
        """The player's own moment in a tick."""
        self._now_ns = now_ns
        replica, connection = self.replica, self.connection
        if connection is None:
            if replica.closing and not replica.reconnecting:
                self.gone = True
            elif now_ns >= self._connect_at_ns:
                self._open(now_ns)
            self._take_events()
            return
        local_ns = self.clock.local(now_ns)
        if local_ns >= self._deadline_ns or local_ns < self._looked_ns:
            self._look_at_deadlines(local_ns)
        if replica.events:
            self._take_events()
        if game is not None and not self.leaving and replica.state == "live":
            game(self)
        self._flush(connection, local_ns, now_ns)
        if replica.state != "live" and replica.closing:
            # It said goodbye, or was told; the last frames are on their way.
            connection.player_close(now_ns)
            self._lost(now_ns, "the session ended")

    def _flush(self, connection: Connection, local_ns: int, now_ns: int) -> None:
        """Send what there is to send, as far as there is room."""
        if not isinstance(connection, DatagramConnection):
            if connection.waiting:
                connection.player_flush(now_ns)
                if connection.waiting:
                    return
            frames = self.replica.frames_to_send(local_ns)
            if frames:
                connection.player_send(frames, now_ns)
            return
        connection.player_timeout(now_ns)
        frames = self.replica.frames_to_send(local_ns) if connection.has_room else []
        connection.player_send(frames, now_ns)

    def _look_at_deadlines(self, local_ns: int) -> None:
        """Acks, inputs and pings go out whenever frames are asked for. What else is due by the clock is a matter of
        seconds, so it is looked at ten times in one, and when the clock was set back."""
        self._looked_ns, self._deadline_ns = local_ns, local_ns + _LOOK_NS
        self.replica.handle_timeout(local_ns)

    def leave(self, now_ns: int) -> None:
        """Say goodbye."""
        self.leaving = True
        self.replica.reconnects = False
        self.replica.close(self.clock.local(now_ns))

    def _open(self, now_ns: int) -> None:
        self.same_session = False
        self.connection = connection = self._connect(self, now_ns)
        local_ns = self.clock.local(now_ns)
        self.replica.connect(local_ns)
        connection.player_send(self.replica.frames_to_send(local_ns), now_ns)

    def _lost(self, now_ns: int, reason: str) -> None:
        """The connection is over. Unless the session is, too, another one will be tried after a while."""
        self.connection = None
        self.replica.disconnected(self.clock.local(now_ns), reason)
        self._take_events()
        self._connect_at_ns = now_ns + round(self._retry_ns * self._random.uniform(0.5, 1.5))
        self._retry_ns = min(2 * self._retry_ns, RETRY_NS_MAX)

    def _on_applied(self, version: Version, tick: Tick) -> None:
        if not self.same_session:
            self._note_resume()
        self._held = version
        node = self._node
        incarnation, before = self._shown
        of_this_node = self.replica.epoch == node.epoch
        if self._shown_epoch != self.replica.epoch or not of_this_node:
            # Of another history, or the first of this one: there is nothing to compare with.
            before = 0
        elif not (self.same_session and before < version <= node.version):
            self._checkers.applied(self, before, version, node.version)
        if not self.same_session:
            self._told.begin(self.replica.epoch, version, self.session)
            self._syncs = -1
        self.same_session = True
        if node.made.is_partial and of_this_node:
            self._look_at_sight()
        self._retry_ns = RETRY_NS
        if node.disk is not None and self.replica.epoch == node.last_epoch:
            node.disk.asked.seen = max(node.disk.asked.seen, version)
        if self._check is not None:
            with self.replica.view() as view:
                wrong = self._check(view)
            if wrong is not None:
                self._checkers.violated("model", f"{self.name}, version {version}: {wrong}")
        if of_this_node:
            incarnation = node.incarnation
            self._shown, self._shown_epoch = (incarnation, version), self.replica.epoch
            self.applied.append((self._now_ns, incarnation, before, version))

    def _look_at_sight(self) -> None:
        """Whether it sees what it may."""
        counts = self.replica.statistics()
        syncs = counts.full_syncs_applied
        anew, self._syncs = syncs != self._syncs, syncs
        told, delta_bytes = self.replica.events, counts.delta_bytes_received
        with self.replica.view() as view:
            self.seen.applied(self.replica.epoch, self.session, view, told, delta_bytes, anew=anew)

    def _take_events(self) -> None:
        """Look at what happened, and keep it for the game."""
        while (event := self.replica.next_event()) is not None:
            match event:
                case StateChanged():
                    self._note_state(event)
                case CommandAnswered():
                    number = event.ticket.number
                    times = self._tickets[number] = self._tickets.get(number, 0) + 1
                    self._checkers.answered(self, event.ticket, times)
                    self._note_answer(event.ticket)
                case Diverged():
                    self._checkers.diverged(self, event)
                case EventRowsLost():
                    self._note_resume(event.until)
                    self._told.lost(event.until)
                case EventRow() | TypedRow():
                    self._told.row(event, self.replica.version)
            self._events.append(event)

    def _note_answer(self, ticket: Ticket) -> None:
        """What was answered is promised, as far as the node's durability goes."""
        node = self._node
        if node.disk is None or ticket.sequence is None or self.replica.epoch != node.last_epoch:
            return
        asked = node.disk.asked
        if ticket.version is not None:
            asked.told = max(asked.told, ticket.version)
        asked.answered[self.session] = max(asked.answered.get(self.session, 0), ticket.sequence)

    def settled(self) -> None:
        """The world stands still: what was to be told was told."""
        if self.replica.state == "live":
            self._take_events()
            self._told.settled(self.replica.version)
        if self.seen.waiting is not None:
            self.seen.waiting.settled()

    def _note_state(self, event: StateChanged) -> None:
        if event.new == "live":
            node = self._node
            if node.disk is not None and self.replica.epoch == node.last_epoch:
                # It was let in, which is an answer before that of its first command.
                node.disk.asked.answered.setdefault(self.session, 0)
            if event.old == "resuming":
                self.reconnects += 1
                self._note_resume()
                if self._was is not None:
                    session, entity, incarnation = self._was
                    # The node may have known of the loss for as long before the player did as either is patient.
                    waited_ns = self._now_ns - self.stays[-1][1]
                    ended = waited_ns > LINGER_S_DEFAULT * NS_PER_S - SILENCE_NS_MAX
                    may_lose = ended or self._node.may_lose(incarnation)
                    self._checkers.came_back(self, session, entity, may_lose=may_lose)
            self.stays.append([self._now_ns, 0])
        elif event.old == "live":
            self._was = (self.session, self.entity, self._shown[0])
            if self.stays:
                self.stays[-1][1] = self._now_ns
        if event.new == "closed" and not self.leaving and self.replica.error is not None:
            self._checkers.ended(self)

    def _note_resume(self, lost_until: int = 0) -> None:
        """Where the session goes on from the version that is held, nothing begins anew. Whatever of it is seen first
        calls this: that the player is live again, a version, or that rows are lost."""
        in_place = self.replica.statistics().resumed_in_place
        if in_place > self.resumes_in_place:
            self.same_session = True
            # What it is told to be lost may be of versions that it holds, where rows came behind their versions.
            told = [event.until for event in self.replica.events if isinstance(event, EventRowsLost)]
            self._told.lost(max([lost_until, *told]))
            self._told.go_on(self.replica.epoch, self._held)
        self.resumes_in_place = in_place

    def sample(self, now_ns: int, second: int) -> None:
        """Once a tick: how far behind, how much is queued, how many bytes went by."""
        connection = self.connection
        while len(self.bytes_down) <= second:
            self.bytes_down.append(0)
            self.bytes_up.append(0)
        if connection is not None:
            self.bytes_down[second] += connection.bytes_down
            self.bytes_up[second] += connection.bytes_up
            connection.bytes_down = connection.bytes_up = 0
            self.queued.append((now_ns, connection.queued_bytes(now_ns)))
        if self.replica.state == "live":
            incarnation, version = self._shown
            if incarnation == self._node.incarnation:
                self.behind.append((now_ns, self._node.version - version))
