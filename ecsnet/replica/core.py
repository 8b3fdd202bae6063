"""The replica: applies what the authority sends, acks it, and carries the client's commands the other way.

Invariants:
- what becomes visible is a whole version, checked against the schema, applied whole or not at all; versions only grow;
- an ack names a version that is applied, never one that was merely received;
- nothing that the authority sends raises out of `receive_frame`: what breaks the protocol ends the session, `error`
  says why, and the last good version stays readable;
- a session whose link is lost goes on over the next, if that was asked for: the same player, and every command that was
  unanswered has its effect once. Where the node does not know the session any more another one begins;
- where the node still has what changed since the version that is held, the session goes on from there, with what was
  missed alone: in the same store, and `live` at once. Else its world begins from the empty one, in a store of its own:
  `view`, `version`, `tick`, `entity` and `epoch` stay what they were until its first whole version takes their place,
  all at once. So between links, and only there, a version may be lower than the one before: in another epoch.
"""

import heapq
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from msgspec import structs

from ecsnet.auth.account import Token, token_bytes
from ecsnet.errors import (
    AuthenticationError,
    ClosedError,
    DivergedError,
    EcsnetError,
    LocalProtocolError,
    Reject,
    RemoteProtocolError,
    SchemaMismatchError,
)
from ecsnet.ids import EMPTY_VERSION, NULL_ENTITY, ClientId, CommandSeq, Entity, Epoch, SessionId, Tick, Version
from ecsnet.limits import (
    ACK_INTERVAL_NS,
    ACK_VERSIONS_MAX,
    EVENT_ROWS_UNREAD_MAX,
    FRAME_HEADER_BYTES,
    SIGHT_EVENTS_UNREAD_MAX,
)
from ecsnet.replica.event_rows import AnyRow, EventReader, EventRows
from ecsnet.replica.events import (
    CommandAnswered,
    Diverged,
    Entered,
    EpochChanged,
    Event,
    EventRowsLost,
    Left,
    ReplicaState,
    StateChanged,
    Ticket,
    is_event_row,
)
from ecsnet.replica.parts import Parts
from ecsnet.replica.staging import Block, Staging
from ecsnet.replica.writes import PreparedWrite, prepare_delete, prepare_insert, prepare_update
from ecsnet.schema import Schema, loads
from ecsnet.session import client as session_client
from ecsnet.session.client import ClientSession, PeerLeft
from ecsnet.session.states import MAY_PASS
from ecsnet.store import Store, View
from ecsnet.store.names import Names
from ecsnet.store.typed import Selector
from ecsnet.wire.codec import decode_untrusted
from ecsnet.wire.compression import plain_untrusted
from ecsnet.wire.messages import (
    PARTIAL,
    CommandStatus,
    DeltaSync,
    Error,
    Kind,
    Reason,
    Resumed,
    SyncBegin,
    SyncChunk,
    Welcome,
)
from ecsnet.wire.messages import Event as EventMessage
from ecsnet.wire.messages import Schema as SchemaMessage
from ecsnet.world import World

if TYPE_CHECKING:
    from ecsnet.world import Command, Given

log = logging.getLogger("ecsnet.replica")

_NEVER_NS = 1 << 63
_DELTA_SYNC = int(Kind.DELTA_SYNC)
_DIGEST_EQUAL = 1
_SCAN_EVERY = 64

_ANSWER_LOST = "the answer was lost: the session ended before it came"
_ANSWER_FORGOTTEN = "the answer was lost: the node was started again, and remembers the newest only"


@dataclass(frozen=True, slots=True)
class ReplicaStatistics:
    """Counts since the start. `rtt_ns` is smoothed over pings, None before the first; bytes are of whole frames, those
    of deltas apart from those of full syncs. `reconnects` counts the links after the first, `resumes` those of them
    on which the session of before went on, `resumed_in_place` those of these on which only what was missed came.
    Event rows are dropped that a game did not ask for when `EVENT_ROWS_UNREAD_MAX` waited: the oldest.
    `duplicates` and `gaps` are deltas that could not be used: to a version that was held, or from one that was not.
    `versions_partial` are those versions of which a byte budget left rows waiting."""

    version: Version
    tick: Tick
    reconnects: int
    resumes: int
    resumed_in_place: int
    versions_applied: int
    versions_partial: int
    full_syncs_applied: int
    chunks_staged: int
    duplicates: int
    gaps: int
    digests_verified: int
    event_rows_told: int
    event_rows_dropped: int
    rtt_ns: int | None
    frames_received: int
    bytes_received: int
    delta_bytes_received: int
    sync_bytes_received: int
    frames_sent: int
    bytes_sent: int


class Replica:
    """One client's copy of a world.

    Args:
        world: the game's `World` or schema, or a path to one; None learns the schema from the node.
        name: what the client calls itself; not a proof of anything.
        token: what proves who the client is, to a node that asks; see `ecsnet.auth.Token`.
        reconnects: when the transport is lost, or the node ends it for a reason that may pass, wait for another one
            instead of closing, and go on with the session over that.
        datagrams: the next transport carries datagrams. May be set between transports.
        compression: take compressed blocks, from nodes that send them.
    """

    def __init__(
        self,
        world: World | Schema | str | Path | None = None,
        *,
        name: str = "",
        token: Token | None = None,
        reconnects: bool = False,
        datagrams: bool = False,
        compression: bool = True,
    ) -> None:
        self._compression = compression
        self.world = world if isinstance(world, World) else None
        schema: Schema | None
        if isinstance(world, World):
            schema = world.schema
        else:
            schema = None if world is None else Schema.resolve(world)
        self.schema = schema
        self.store: Store | None = None if schema is None else Store(schema)
        """What `view` shows; replaced by another one with the first version after a reconnect."""
        self.name = name
        self._token = token
        self.reconnects = reconnects
        self.datagrams = datagrams
        self.error: EcsnetError | None = None
        """What ended the session, when it was not an ordinary goodbye."""
        self.farewell: tuple[Reason, str] | None = None
        """Why the node ended the session, in its words; None if it did not."""
        self.reconnect_after_ms = 0
        """How long the node's goodbye has asked us to wait before we come back; 0 where it did not."""
        self.on_applied: Callable[[Version, Tick], None] | None = None
        """Called right after a version became visible, from within `receive_frame`."""
        self._session = self._new_session()
        self._known = self._session
        """The newest that the node has answered: between two links the one of before."""
        self._waits_for_transport = False
        self._reconnects = 0
        self._resumes = 0
        self._resumed_in_place = 0
        self._state: ReplicaState = "joining"
        self._staging = Staging()
        self._parts = Parts()
        self._event_rows: EventRows | None = None
        """None before the first of a session came."""
        self._event_rows_told = 0
        self._event_rows_read = 0
        self._event_rows_dropped = 0
        self._sights_unread = 0
        self._rows_until = EMPTY_VERSION
        """Event rows of versions up to this one have come, or were said to be lost."""
        self._rows_may_lag = False
        """The transport that was lost carried datagrams: rows may come later than their version."""
        self._had_digest = False
        self._keeps_digest = False
        """Where each version is compared the store makes its digest from the last and what changed, or each would cost
        a scan."""
        self._held = EMPTY_VERSION
        """What this session holds. Until its first version, what is shown is of the session before."""
        self._next_store: Store | None = None
        """Where the first version of this session goes, while `store` shows what the session before has left."""
        self._shown = EMPTY_VERSION
        self._tick = Tick(0)
        self._entity = NULL_ENTITY
        self._waiting = False
        """Rows of the version that is held are still to come."""
        self._epoch = Epoch(0)
        self.events: deque[Event] = deque()
        """What waits for `next_event`; to be looked at only."""
        self._tickets: dict[int, Ticket] = {}
        # Accepted in a version that is not held yet: (version, ticket number, ticket).
        self._early: list[tuple[int, int, Ticket]] = []
        self.next_ack_ns = _NEVER_NS
        """When the next ack wants to be sent, in the past if it does now; far away if none does. `next_timeout_ns`
        counts it in; this is for a driver that asks after each frame."""
        self._acked_ns = 0
        self._acked_applied = 0
        self._now_ns = 0
        self._versions_applied = 0
        self._versions_partial = 0
        self._full_syncs_applied = 0
        self._chunks_staged = 0
        self._duplicates = 0
        self._gaps = 0
        self._digests_verified = 0
        self._frames_received = 0
        self._bytes_received = 0
        self._delta_bytes_received = 0
        self._sync_bytes_received = 0
        self._frames_sent = 0
        self._bytes_sent = 0

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def state(self) -> ReplicaState:
        """`joining` until the first whole version is there, `live`, then `closed`. `resuming` from the loss of a link
        until the session goes on from what is held, or the first whole version of the next is there: what is shown
        grows old meanwhile."""
        return self._state

    @property
    def reconnecting(self) -> bool:
        """The session is lost and another is wanted: open a transport, whenever you like, and call `connect`."""
        return self._waits_for_transport

    @property
    def connections_before(self) -> int:
        """Transports that this replica had before the newest."""
        return self._reconnects

    @property
    def version(self) -> Version:
        """The version that is held: what `view` shows; 0 before the first."""
        return self._shown

    @property
    def tick(self) -> Tick:
        """The tick that made the held version."""
        return self._tick

    @property
    def entity(self) -> Entity:
        """The client's own entity in the held version, 0 for none."""
        return self._entity

    @property
    def session(self) -> SessionId:
        """0 before the first Welcome. Between two links it is the one that is to go on."""
        return SessionId(self._known.session)

    @property
    def client_id(self) -> ClientId:
        return ClientId(self._known.client_id)

    @property
    def epoch(self) -> Epoch:
        """The history that `version` belongs to; 0 before the first Welcome."""
        return self._epoch

    @property
    def hz(self) -> int:
        """Ticks a second of the node; 0 before its Welcome."""
        return self._known.hz

    @property
    def rtt_ns(self) -> int | None:
        return self._session.rtt_ns

    def view(self) -> View:
        """The held version, pinned.

        Raises:
            LocalProtocolError: no schema yet: nothing came from the node.
        """
        if self.store is None:
            raise LocalProtocolError("there is no view before the node has sent its schema; wait for state 'live'")
        return self.store.view()

    def statistics(self) -> ReplicaStatistics:
        return ReplicaStatistics(
            version=self._shown,
            tick=self._tick,
            reconnects=self._reconnects,
            resumes=self._resumes,
            resumed_in_place=self._resumed_in_place,
            versions_applied=self._versions_applied,
            versions_partial=self._versions_partial,
            full_syncs_applied=self._full_syncs_applied,
            chunks_staged=self._chunks_staged,
            duplicates=self._duplicates,
            gaps=self._gaps,
            digests_verified=self._digests_verified,
            event_rows_told=self._event_rows_told,
            event_rows_dropped=self._event_rows_dropped,
            rtt_ns=self._session.rtt_ns,
            frames_received=self._frames_received,
            bytes_received=self._bytes_received,
            delta_bytes_received=self._delta_bytes_received,
            sync_bytes_received=self._sync_bytes_received,
            frames_sent=self._frames_sent,
            bytes_sent=self._bytes_sent,
        )

    # --- what arrives ------------------------------------------------------------------------------------------------

    def connect(self, now_ns: int) -> None:
        """The transport is there: say hello, or after a loss resume.

        Raises:
            LocalProtocolError: connected already, or closed for good. AuthenticationError: there is no token to be had.
            After a loss that is not raised: the replica is closed then, and `error` is it.
        """
        self._now_ns = now_ns
        if self._waits_for_transport:
            self._begin_again()
        try:
            held = (self._epoch, self._shown)
            self._session.connect(now_ns, datagrams=self.datagrams, held=held, waiting=self._waiting)
        except AuthenticationError as error:
            if not self._reconnects:
                raise
            self.receive_error(error, now_ns)

    def receive_frame(
        self, kind: int, payload: bytes | bytearray | memoryview, now_ns: int, *, reliable: bool = True
    ) -> None:
        """One whole frame from the node. The payload must stay as it is afterwards: chunks are kept without a copy. Not
        `reliable`: a datagram brought it outside of the lane."""
        self._now_ns = now_ns
        live = self._state == "live"
        if not live and self.closing:
            return
        self._frames_received += 1
        self._bytes_received += len(payload) + FRAME_HEADER_BYTES
        if live and kind == _DELTA_SYNC and type(payload) is bytes and self._take_delta_at_once(payload, now_ns):
            return
        try:
            self._session.receive_frame(kind, payload, now_ns, reliable=reliable)
            self._drain(now_ns, len(payload) + FRAME_HEADER_BYTES, reliable)
        except EcsnetError as error:
            self.receive_error(error, now_ns)

    def receive_error(self, error: EcsnetError, now_ns: int) -> None:
        """What arrived cannot be gone on from: tell the node, and close."""
        self._now_ns = now_ns
        if self.closing:
            return
        self.error = error
        if isinstance(error, RemoteProtocolError):
            self._session.fail(error)
        else:
            self._session.goodbye(Reason.BAD_STATE, str(error))
        self._close(str(error))

    def disconnected(self, now_ns: int, reason: str = "the connection was lost") -> None:
        """The transport is gone."""
        self._rows_may_lag = self.datagrams
        self._now_ns = now_ns
        if not self.closing:
            self._lose(reason)

    def next_timeout_ns(self, *, may_send: bool = True) -> int | None:
        """When `handle_timeout` wants to be called, and `frames_to_send` after it, at the latest. Not `may_send`: the
        transport has no room, so that an ack waits for that and not for a time."""
        if self.closing:
            return None
        due_ns = self._session.next_timeout_ns()
        if self.next_ack_ns == _NEVER_NS or not may_send:
            return due_ns
        return self.next_ack_ns if due_ns is None else min(due_ns, self.next_ack_ns)

    def handle_timeout(self, now_ns: int) -> None:
        """Deadlines, pings, and `latest` commands whose moment has come. May be called at any time."""
        self._now_ns = now_ns
        if self.closing:
            return
        self._session.handle_timeout(now_ns)
        try:
            self._drain(now_ns, 0)
        except EcsnetError as error:
            self.receive_error(error, now_ns)

    # --- commands ----------------------------------------------------------------------------------------------------

    @overload
    def send(self, command: "Command[Given]", /, *nothing: "Given.args", **arguments: "Given.kwargs") -> Ticket: ...
    @overload
    def send(self, command: str, /, **arguments: Any) -> Ticket: ...

    # Arguments go by name; that they may not go by position is more than a ParamSpec can say.
    def send(self, command: str | Callable[..., Any], /, **arguments: Any) -> Ticket:  # type: ignore[misc]
        """Ask the authority to run a command, given by its function or its name.

        A `latest` command goes out at most once a tick, the newest call counts; the others count against the rate.

        Raises:
            UnknownNameError: no such command. ArgumentError: an argument is missing, unknown, or of a wrong type.
            LimitExceededError: too many in a second, or too many unanswered. LocalProtocolError: not live yet, or not
            again. ClosedError: the session is over. In each case nothing was sent.
        """
        self._demand_link()
        if isinstance(command, str):
            name = command
        elif self.world is not None:
            name = self.world.command_name(command)
        else:
            name = command.__name__
        number = self._session.send_command(name, arguments, tick=self._tick, now_ns=self._now_ns)
        return self._ticket(name, number)

    def write(self, keys: Any, table: Selector, /, **fields: Any) -> Ticket:
        """Write cells of a row, or of several, without a command: what the schema's `writers` leave to this client.

        It goes out with the next tick's; of two writes of the same cells before that, only the newer one does.

        Args:
            keys: a key, an array of them, or a query.
            fields: a value for all rows, or an array with one for each.

        Raises:
            UnknownNameError, ArgumentError: no such name, not its type, or not finite; a table that clients do not
            write. LimitExceededError, LocalProtocolError, ClosedError: as `send`. In each case nothing was sent.
        """
        return self._write(prepare_update(self._names(), keys, table, fields))

    def insert(self, what: Any, /, *rows: Any, **components: Any) -> Ticket:
        """Insert a component, `insert(entity, Shield(strength=3))`, or a row of a table with keys of its own,
        `insert(Mark(x=1.0))` and `insert("mark", {"x": 1.0})`, without a command. The key is in the world then, and not
        in the answer.

        Raises:
            ConstraintError: a field without a default is not given. Otherwise as `write`.
        """
        return self._write(prepare_insert(self._names(), what, rows, components))

    def delete(self, keys: Any, table: Selector, /) -> Ticket:
        """Delete a row, or several, without a command.

        Raises:
            as `write`.
        """
        return self._write(prepare_delete(self._names(), keys, table))

    def _names(self) -> Names:
        self._demand_link()
        if self.store is None:
            raise LocalProtocolError("there are no tables before the node has sent its schema; wait for state 'live'")
        return self.store.names

    def _write(self, write: PreparedWrite) -> Ticket:
        number = self._session.send_write(
            write.table, write.data, latest=write.latest, tick=self._tick, now_ns=self._now_ns
        )
        return self._ticket(write.name, number)

    def _demand_link(self) -> None:
        if self._state == "closed":
            raise ClosedError("the session is over; nothing can be sent")
        if self._state == "resuming":
            raise LocalProtocolError("the connection was lost; commands can be sent once the state is 'live' again")

    def _ticket(self, name: str, number: int) -> Ticket:
        ticket = Ticket(name, number)
        self._tickets[number] = ticket
        # One that this call overtook before it was sent is answered by the session itself.
        self._drain(self._now_ns, 0)
        return ticket

    def close(self, now_ns: int, reason: str = "") -> None:
        """Say goodbye. What `frames_to_send` still has is to be sent; the store stays open, for views that are held."""
        self._now_ns = now_ns
        if self._state == "closed":
            return
        if not self.closing:
            self._session.goodbye(Reason.LEFT, reason)
        self._close(reason or "closed here")

    def release(self) -> None:
        """Close the store. Views that somebody holds stay valid."""
        for store in (self.store, self._next_store):
            if store is not None:
                store.close()

    # --- what must go out --------------------------------------------------------------------------------------------

    def frames_to_send(self, now_ns: int) -> list[bytes]:
        """Whole frames, in order. They are the caller's: nothing is sent again."""
        self._now_ns = now_ns
        session, ack_ns = self._session, self.next_ack_ns
        # A clock that was set back is no reason to be silent.
        if ack_ns <= now_ns or (ack_ns != _NEVER_NS and now_ns < self._acked_ns):
            if not self.closing:
                # One ack covers all that was applied or staged since the last; the node counts our bytes.
                session.ack(self._held, chunks=self._staging.chunks)
                self._acked_ns, self._acked_applied = now_ns, self._versions_applied
            self.next_ack_ns = _NEVER_NS
        elif not session.frames and not session.latest_waiting and now_ns < session.ping_due_ns:
            return []
        frames = session.frames_to_send(now_ns)
        if not frames:
            return frames
        self._frames_sent += len(frames)
        self._bytes_sent += sum(map(len, frames))
        return frames

    @property
    def closing(self) -> bool:
        """The session is over: send what `frames_to_send` has, then cut the transport. If `reconnecting`, open another
        one some time later."""
        return self._waits_for_transport or self._state == "closed"

    def _owe_ack(self, *, at_once: bool) -> None:
        """Something was applied or staged that the authority is to hear of, now or when the time has come."""
        if at_once or self.datagrams or self._versions_applied - self._acked_applied >= ACK_VERSIONS_MAX:
            self.next_ack_ns = 0
        elif self.next_ack_ns == _NEVER_NS:
            self.next_ack_ns = self._acked_ns + ACK_INTERVAL_NS

    def next_event(self) -> Event | None:
        """The oldest event that nobody has taken yet.

        Event rows come after the version that they are of is applied, once each and in the order in which they were
        inserted: all that were made from the first version of the session on, also of versions that were skipped.
        """
        if not self.events:
            return None
        event = self.events.popleft()
        if is_event_row(event):
            self._event_rows_read += 1
        elif isinstance(event, Entered | Left):
            self._sights_unread -= 1
        return event

    # --- inside ------------------------------------------------------------------------------------------------------

    def _drain(self, now_ns: int, length: int, reliable: bool = True) -> None:
        while (event := self._session.next_event()) is not None:
            match event:
                case DeltaSync():
                    base = event.base if self._staging.origin is None or not reliable else self._staging.origin
                    self._count_bytes(base, length)
                    self._take_delta(_plain(event), reliable)
                case SyncChunk():
                    self._count_bytes(self._staging.origin, length)
                    self._staging.add_untrusted(_plain(event))
                    self._chunks_staged += 1
                    self._owe_ack(at_once=True)
                case EventMessage():
                    self._take_event_rows(event)
                case SyncBegin():
                    self._staging.begin_untrusted(event, self._held)
                case session_client.CommandAnswered():
                    self._take_answer(event)
                case session_client.AnswerLost():
                    self._lose_answer(event.ticket)
                case Welcome():
                    self._take_welcome(event)
                case Resumed():
                    self._take_resumed(event)
                case SchemaMessage():
                    self._take_schema(event)
                case PeerLeft():
                    self._take_farewell(event)
                case Error():
                    log.warning("the node reports: %s", event.message)

    def _count_bytes(self, base: int | None, length: int) -> None:
        """A big delta that came in chunks is a delta; a full sync is one from the empty world."""
        if base == EMPTY_VERSION:
            self._sync_bytes_received += length
        else:
            self._delta_bytes_received += length

    def _new_session(self, before: ClientSession | None = None) -> ClientSession:
        # Without a schema there is nothing to go on with: the node tells it to those who say hello.
        standing = None if before is None or self.schema is None else before.standing()
        return ClientSession(
            name=self.name,
            token=lambda: token_bytes(self._token),
            fingerprint=b"" if self.schema is None else self.schema.fingerprint,
            commands=() if self.world is None else self.world.signatures,
            standing=standing,
            tickets=0 if before is None else before.tickets,
            compression=self._compression,
        )

    def _begin_again(self) -> None:
        """Another link; what the last one has left stays visible."""
        self._waits_for_transport = False
        self._reconnects += 1
        self.farewell = None
        self.reconnect_after_ms = 0
        self._session = self._new_session(self._session)
        self._staging = Staging()
        self._parts = Parts()
        self._event_rows = None
        self._held = EMPTY_VERSION
        self.next_ack_ns = _NEVER_NS

    def _take_welcome(self, message: Welcome) -> None:
        if self.schema is not None and message.fingerprint != self.schema.fingerprint:
            raise self._mismatch(message.fingerprint)
        self._known = self._session
        if self._shown == EMPTY_VERSION:
            self._epoch = Epoch(message.epoch)

    def _take_resumed(self, message: Resumed) -> None:
        if message.accepted:
            self._resumes += 1
            self._known = self._session
            self._sort_tickets()
            if message.version != EMPTY_VERSION:
                self._go_on(Version(message.events_from))
        else:
            # Another session begins on this link. What the one before was to answer, nobody will.
            self._forget_tickets()

    def _sort_tickets(self) -> None:
        """The session goes on: what is still to be answered, and what was accepted in a version that did not come."""
        asked = self._session.pending_tickets()
        for number in self._tickets.keys() - asked:
            self._lose_answer(number)
        early, self._early = self._early, []
        for version, number, ticket in early:
            if number in asked:
                # The node is asked again whether it was.
                ticket.sequence = ticket.version = None
                self._tickets[number] = ticket
            elif self._session.epoch == self._epoch:
                # Nothing that was answered vanishes in an epoch: the version comes yet.
                heapq.heappush(self._early, (version, number, ticket))
            else:
                ticket.reason = _ANSWER_FORGOTTEN

    def _go_on(self, events_from: Version) -> None:
        """The session goes on from what is shown: what follows is what was missed, and no more."""
        assert self._next_store is None, "made and shown, or in a session that failed"
        self._resumed_in_place += 1
        self._held = self._shown
        self._change_epoch()
        self._lose_event_rows(events_from)
        self._rows_until = events_from
        self._change_state("live")

    def _lose_event_rows(self, until: Version) -> None:
        """Rows of versions up to `until` that have not come will not be told: those after the one that is shown. Over
        datagrams rows come behind their versions, and what of them was under way with the link is gone, too."""
        after = min(self._rows_until, self._shown) if self._rows_may_lag else self._shown
        if until != after and self._tells_of_events:
            self.events.append(EventRowsLost(after, until))

    def _change_epoch(self) -> None:
        epoch = Epoch(self._session.epoch)
        if epoch != self._epoch:
            self.events.append(EpochChanged(self._epoch, epoch))
            self._epoch = epoch

    @property
    def _tells_of_events(self) -> bool:
        schema = self.schema
        return schema is not None and any(table.kind == "event" and table.replicated for table in schema.tables)

    def _take_schema(self, message: SchemaMessage) -> None:
        if self.schema is not None:
            return
        try:
            schema = loads(message.canonical, file="<the node's schema>")
        except EcsnetError as error:
            raise RemoteProtocolError(
                f"the node's schema cannot be used: {error}", reason=Reason.SCHEMA_MISMATCH
            ) from error
        if schema.fingerprint != message.fingerprint:
            self.schema = schema
            raise self._mismatch(message.fingerprint)
        self.schema = schema
        self.store = Store(schema)

    def _mismatch(self, theirs: bytes) -> SchemaMismatchError:
        assert self.schema is not None
        return SchemaMismatchError(self.schema.fingerprint.hex(), theirs.hex(), "both sides need the same schema file")

    def _take_delta_at_once(self, payload: bytes, now_ns: int) -> bool:
        """The ordinary case of a live session, which is nearly all there is: a whole delta, nothing staged. One call of
        the kernel reads the frame, checks and applies it and compares the digest.

        False: it is another case, or something is wrong with it. Nothing has happened then, and the ordinary way finds
        out what it is.
        """
        session = self._session
        if self._staging.origin is not None or not session.is_live_only:
            return False
        # Of a digest that follows the changes, a mark that was forgotten takes no notice: now and then all is scanned.
        applied = self._versions_applied
        if self._next_store is not None or applied % _SCAN_EVERY == 0:
            return False
        store = self.store
        assert store is not None
        taken = store.kernel.take_delta(payload, session.session, session.epoch, self._held)
        if taken is None:
            return False
        _, version, tick, entity, _, digest_state, _ = taken
        session.heard(now_ns)
        self._delta_bytes_received += len(payload) + FRAME_HEADER_BYTES
        self._held = version
        self._versions_applied = applied + 1
        if self.next_ack_ns == _NEVER_NS or applied - self._acked_applied >= ACK_VERSIONS_MAX - 1:
            self._owe_ack(at_once=False)
        if digest_state == _DIGEST_EQUAL:
            self._digests_verified += 1
        elif digest_state:
            message = decode_untrusted(_DELTA_SYNC, payload)
            assert isinstance(message, DeltaSync)
            try:
                self._verify(store, version, message.digest_low, message.digest_high)
            except DivergedError as error:
                self.receive_error(error, now_ns)
                return True
        self._shown, self._tick, self._entity = version, tick, entity
        self._waiting = False
        self._tell_sight(store, version)
        if self._early:
            self._answer_early(version)
        if self._event_rows is not None and self._event_rows.waiting:
            self._event_rows.tell(version)
        if self.on_applied is not None:
            self.on_applied(version, tick)
        return True

    def _take_delta(self, message: DeltaSync, reliable: bool) -> None:
        """The rule of apply, and what follows from applying."""
        if self.store is None or self.schema is None:
            raise RemoteProtocolError("a delta before the schema", reason=Reason.BAD_STATE)
        base: Version
        blocks: Sequence[Block]
        if reliable:
            to_apply = self._staging.close_untrusted(message, self._held)
            if to_apply is None:
                self._duplicates += 1
                self._owe_ack(at_once=True)
                return
            base, blocks = to_apply
        else:
            if not message.base <= self._held < message.version:
                # Late, repeated, a probe, or from what never came: the ack says what we have.
                self._duplicates += message.version <= self._held
                self._gaps += message.base > self._held
                self._owe_ack(at_once=True)
                return
            parts = self._parts.add_untrusted(message)
            if parts is None:
                return
            base, blocks = Version(message.base), parts
        version, tick = Version(message.version), Tick(message.tick)
        store = self.store
        if self._held == EMPTY_VERSION and self._shown != EMPTY_VERSION:
            # The first of a session after another: beside what is shown, which a bad one must leave as it is.
            if self._next_store is None:
                self._next_store = Store(self.schema)
            store = self._next_store
        has_digest = bool(message.digest_low or message.digest_high)
        if (has_digest and self._had_digest) != self._keeps_digest:
            self._keeps_digest = not self._keeps_digest
            store.kernel.keep_digest(self._keeps_digest)
        self._had_digest = has_digest
        store.kernel.apply(blocks, base, version, tick)
        if reliable:
            self._staging.applied()
        self._held = version
        self._versions_applied += 1
        self._waiting = bool(message.flags & PARTIAL)
        self._versions_partial += self._waiting
        if base == EMPTY_VERSION:
            self._full_syncs_applied += 1
        self._owe_ack(at_once=base == EMPTY_VERSION)
        if has_digest:
            self._verify(store, version, message.digest_low, message.digest_high)
        if store is not self.store:
            self._show_next_store()
            self._lose_event_rows(version)
        if base == EMPTY_VERSION:
            self._rows_until = version
        if base != EMPTY_VERSION:
            self._tell_sight(store, version)
        self._show(version, tick, Entity(message.entity))

    def _show(self, version: Version, tick: Tick, entity: Entity) -> None:
        """A version became visible: say so, and answer who waited for it."""
        self._shown, self._tick, self._entity = version, tick, entity
        if self._state != "live":
            self._change_state("live")
        self._answer_early(version)
        if self._event_rows is not None:
            self._event_rows.tell(version)
        if self.on_applied is not None:
            self.on_applied(version, tick)

    def _tell_sight(self, store: Store, version: Version) -> None:
        """Who came into sight and who went out of it with the delta that was just applied."""
        came, gone = store.kernel.sight()
        for kind, entities in ((Entered, came), (Left, gone)):
            if len(entities):
                self.events.append(kind(entities, version))
                self._sights_unread += 1
        if self._sights_unread > SIGHT_EVENTS_UNREAD_MAX:
            self._drop_sights(self._sights_unread // 2)

    def _drop_sights(self, count: int) -> None:
        """Nobody asks: the oldest go."""
        log.warning("who came and went was never asked for, and is dropped %d times; call `poll` in each frame", count)
        self._sights_unread -= count
        kept: deque[Event] = deque()
        for event in self.events:
            if count and isinstance(event, Entered | Left):
                count -= 1
            else:
                kept.append(event)
        self.events = kept

    def _take_event_rows(self, message: EventMessage) -> None:
        if self.store is None:
            raise RemoteProtocolError("event rows before the schema", reason=Reason.BAD_STATE)
        rows = self._event_rows
        if rows is None:
            rows = self._event_rows = EventRows(EventReader(self.store.names), self._tell)
        rows.add_untrusted(message)
        # More of the same version may follow, and nothing of those before.
        self._rows_until = max(self._rows_until, Version(message.version - 1))
        # Over datagrams their version may be here before them.
        rows.tell(self._held)

    def _tell(self, row: AnyRow) -> None:
        self.events.append(row)
        self._event_rows_told += 1
        unread = self._event_rows_told - self._event_rows_read - self._event_rows_dropped
        if unread > EVENT_ROWS_UNREAD_MAX:
            self._drop_unread(unread // 2)

    def _drop_unread(self, rows: int) -> None:
        """Nobody asks: what is oldest goes, but only of rows."""
        log.warning("%d event rows were never asked for and are dropped; call `poll` in each frame", rows)
        self._event_rows_dropped += rows
        kept: deque[Event] = deque()
        for event in self.events:
            if rows and is_event_row(event):
                rows -= 1
            else:
                kept.append(event)
        self.events = kept

    def _answer_early(self, version: Version) -> None:
        """Tell of commands that were accepted in a version that is here only now."""
        while self._early and self._early[0][0] <= version:
            _, _, ticket = heapq.heappop(self._early)
            self._answer(ticket, "accepted")

    def _show_next_store(self) -> None:
        assert self.store is not None and self._next_store is not None
        self.store.close()
        self.store, self._next_store = self._next_store, None
        self._keeps_digest = self._had_digest = False
        self._change_epoch()

    def _verify(self, store: Store, version: Version, low: int, high: int) -> None:
        theirs = (low.to_bytes(8, "little") + high.to_bytes(8, "little")).hex()
        # The turn of a scan is told by what was held before, here as in `_take_delta_at_once`, which leaves it to us.
        follows = self._keeps_digest and (self._versions_applied - 1) % _SCAN_EVERY != 0
        if follows and self._kept_digest(store, version) == theirs:
            self._digests_verified += 1
            return
        with store.view() as view:
            if view.version != version:
                return  # many held views defer publication: what can be scanned is an older version
            ours = view.digest()
        if ours == theirs:
            self._digests_verified += 1
            return
        log.error("version %d differs from the authority's: digest %s, theirs %s", version, ours, theirs)
        self.events.append(Diverged(version, ours, theirs))
        raise DivergedError(version, ours, theirs)

    def _kept_digest(self, store: Store, version: Version) -> str:
        pin = store.kernel.acquire()
        try:
            kept = pin.kept_digest() if pin.version == version else None
        finally:
            pin.release()
        return kept.hex() if kept is not None else ""

    def _take_answer(self, event: session_client.CommandAnswered) -> None:
        ticket = self._tickets.pop(event.ticket, None)
        if ticket is None:
            return
        ticket.sequence = CommandSeq(event.sequence) if event.sequence else None
        if event.status == CommandStatus.ACCEPTED:
            ticket.version = Version(event.version)
            if event.version > self._held:
                # The answer came before its version: it is told when the effect can be seen.
                heapq.heappush(self._early, (event.version, ticket.number, ticket))
                return
            self._answer(ticket, "accepted")
        elif event.status == CommandStatus.SUPERSEDED:
            self._answer(ticket, "superseded")
        else:
            ticket.code = Reason(event.code)
            ticket.reason = event.message or ticket.code.words
            self._answer(ticket, "rejected")

    def _lose_answer(self, number: int) -> None:
        ticket = self._tickets.pop(number, None)
        if ticket is not None:
            ticket.reason = _ANSWER_FORGOTTEN

    def _answer(self, ticket: Ticket, status: Any) -> None:
        ticket.status = status
        self.events.append(CommandAnswered(ticket))

    def _take_farewell(self, event: PeerLeft) -> None:
        self.farewell = (Reason(event.reason), event.message)
        self.reconnect_after_ms = event.reconnect_after_ms
        words = self.farewell[0].words
        reason = f"{words}: {event.message}" if event.message else words
        if self.reconnects and event.reason in MAY_PASS:
            self._lose(reason)
            return
        if event.reason == Reason.SCHEMA_MISMATCH and self.schema is not None:
            self.error = SchemaMismatchError(self.schema.fingerprint_hex, "another", event.message)
        elif event.reason == Reason.AUTH_FAILED:
            self.error = AuthenticationError("", f"the node did not let us in: {event.message or words}")
        elif event.reason == Reason.REJECTED:
            self.error = Reject(event.message)
        elif event.reason not in (Reason.NONE, Reason.SHUTDOWN, Reason.LEFT, Reason.KICKED) and self.error is None:
            self.error = RemoteProtocolError(f"the node ended the session: {words}: {event.message}", event.reason)
        self._close(reason)

    def _change_state(self, state: ReplicaState, reason: str = "") -> None:
        if state != self._state:
            self.events.append(StateChanged(self._state, state, reason))
            self._state = state

    def _lose(self, reason: str) -> None:
        """This link is over; another one may be had."""
        if not self.reconnects:
            self._close(reason)
            return
        if self._session.standing() is None:
            self._forget_tickets()
        self._waits_for_transport = True
        self._change_state("resuming", reason)

    def _close(self, reason: str) -> None:
        self._forget_tickets()
        self._waits_for_transport = False
        self._change_state("closed", reason)

    def _forget_tickets(self) -> None:
        for ticket in [*self._tickets.values(), *(ticket for _, _, ticket in self._early)]:
            ticket.reason = _ANSWER_LOST
        self._tickets.clear()
        self._early.clear()


_Carrier = TypeVar("_Carrier", DeltaSync, SyncChunk)


def _plain(message: _Carrier) -> _Carrier:
    """The message with its block as it was before it was compressed."""
    block = plain_untrusted(message.block)
    return message if block is message.block else structs.replace(message, block=block)
