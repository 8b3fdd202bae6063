"""The replica: applies what the authority sends, acks it, and carries the client's commands the other way.

Invariants:
- what becomes visible is a whole version, checked against the schema, applied whole or not at all; versions only grow;
- an ack names a version that is applied, never one that was merely received;
- nothing that the authority sends raises out of `receive_frame`: what breaks the protocol ends the session, `error`
  says why, and the last good version stays readable.
"""

import heapq
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecsnet.errors import (
    ClosedError,
    DivergedError,
    EcsnetError,
    LocalProtocolError,
    Reject,
    RemoteProtocolError,
    SchemaMismatchError,
)
from ecsnet.ids import EMPTY_VERSION, NULL_ENTITY, ClientId, CommandSeq, Entity, Epoch, SessionId, Tick, Version
from ecsnet.limits import FRAME_HEADER_BYTES
from ecsnet.replica.events import CommandAnswered, Diverged, Event, ReplicaState, StateChanged, Ticket
from ecsnet.replica.staging import Staging
from ecsnet.schema import Schema, loads
from ecsnet.session import client as session_client
from ecsnet.session.client import ClientSession, PeerLeft
from ecsnet.store import Store, View
from ecsnet.wire.messages import CommandStatus, DeltaSync, Error, Reason, SyncBegin, SyncChunk, Welcome
from ecsnet.wire.messages import Schema as SchemaMessage
from ecsnet.world import World

log = logging.getLogger("ecsnet.replica")


@dataclass(frozen=True, slots=True)
class ReplicaStatistics:
    """Counts since the start. `rtt_ns` is smoothed over pings, None before the first; bytes are of whole frames, those
    of deltas apart from those of full syncs."""

    version: Version
    tick: Tick
    versions_applied: int
    full_syncs_applied: int
    chunks_staged: int
    duplicates: int
    digests_verified: int
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
    """

    def __init__(self, world: World | Schema | str | Path | None = None, *, name: str = "") -> None:
        self.world = world if isinstance(world, World) else None
        schema: Schema | None
        if isinstance(world, World):
            schema = world.schema
        else:
            schema = None if world is None else Schema.resolve(world)
        self.schema = schema
        self.store: Store | None = None if schema is None else Store(schema)
        self.name = name
        self.error: EcsnetError | None = None
        """What ended the session, when it was not an ordinary goodbye."""
        self.farewell: tuple[Reason, str] | None = None
        """Why the node ended the session, in its words; None if it did not."""
        self.on_applied: Callable[[Version, Tick], None] | None = None
        """Called right after a version became visible, from within `receive_frame`."""
        self._session = ClientSession(
            name=name,
            fingerprint=b"" if schema is None else schema.fingerprint,
            commands=() if self.world is None else self.world.signatures,
        )
        self._state: ReplicaState = "joining"
        self._staging = Staging()
        self._held = EMPTY_VERSION
        self._tick = Tick(0)
        self._entity = NULL_ENTITY
        self._events: deque[Event] = deque()
        self._tickets: dict[int, Ticket] = {}
        # Accepted in a version that is not held yet: (version, ticket number, ticket).
        self._early: list[tuple[int, int, Ticket]] = []
        self._ack_due = False
        self._now_ns = 0
        self._versions_applied = 0
        self._full_syncs_applied = 0
        self._chunks_staged = 0
        self._duplicates = 0
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
        """`joining` until the first whole version is there, `live`, then `closed`. `resuming` comes with resume."""
        return self._state

    @property
    def version(self) -> Version:
        """The version that is held: what `view` shows; 0 before the first."""
        return self._held

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
        return SessionId(self._session.session)

    @property
    def client_id(self) -> ClientId:
        return ClientId(self._session.client_id)

    @property
    def epoch(self) -> Epoch:
        return Epoch(self._session.epoch)

    @property
    def hz(self) -> int:
        """Ticks a second of the node; 0 before its Welcome."""
        return self._session.hz

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
            version=self._held,
            tick=self._tick,
            versions_applied=self._versions_applied,
            full_syncs_applied=self._full_syncs_applied,
            chunks_staged=self._chunks_staged,
            duplicates=self._duplicates,
            digests_verified=self._digests_verified,
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
        """The transport is there: say hello."""
        self._now_ns = now_ns
        self._session.connect(now_ns)

    def receive_frame(self, kind: int, payload: bytes | bytearray | memoryview, now_ns: int) -> None:
        """One whole frame from the node. The payload must stay as it is afterwards: chunks are kept without a copy."""
        self._now_ns = now_ns
        if self._state == "closed":
            return
        self._frames_received += 1
        self._bytes_received += len(payload) + FRAME_HEADER_BYTES
        try:
            self._session.receive_frame(kind, payload, now_ns)
            self._drain(now_ns, len(payload) + FRAME_HEADER_BYTES)
        except EcsnetError as error:
            self.receive_error(error, now_ns)

    def receive_error(self, error: EcsnetError, now_ns: int) -> None:
        """What arrived cannot be gone on from: tell the node, and close."""
        self._now_ns = now_ns
        if self._state == "closed":
            return
        self.error = error
        if isinstance(error, RemoteProtocolError):
            self._session.fail(error)
        else:
            self._session.goodbye(Reason.BAD_STATE, str(error))
        self._close(str(error))

    def disconnected(self, now_ns: int, reason: str = "the connection was lost") -> None:
        """The transport is gone."""
        self._now_ns = now_ns
        self._close(reason)

    def next_timeout_ns(self) -> int | None:
        """When `handle_timeout` wants to be called, at the latest."""
        return None if self._state == "closed" else self._session.next_timeout_ns()

    def handle_timeout(self, now_ns: int) -> None:
        """Deadlines, pings, and `latest` commands whose moment has come. May be called at any time."""
        self._now_ns = now_ns
        if self._state == "closed":
            return
        self._session.handle_timeout(now_ns)
        try:
            self._drain(now_ns, 0)
        except EcsnetError as error:
            self.receive_error(error, now_ns)

    # --- commands ----------------------------------------------------------------------------------------------------

    def send(self, command: str | Callable[..., Any], /, **arguments: Any) -> Ticket:
        """Ask the authority to run a command, given by its function or its name.

        A `latest` command goes out at most once a tick, the newest call counts; the others count against the rate.

        Raises:
            UnknownNameError: no such command. ArgumentError: an argument is missing, unknown, or of a wrong type.
            LimitExceededError: too many in a second, or too many unanswered. LocalProtocolError: not live yet.
            ClosedError: the session is over. In each case nothing was sent.
        """
        if self._state == "closed":
            raise ClosedError("the session is over; nothing can be sent")
        if isinstance(command, str):
            name = command
        elif self.world is not None:
            name = self.world.command_name(command)
        else:
            name = command.__name__
        number = self._session.send_command(name, arguments, tick=self._tick, now_ns=self._now_ns)
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
        self._session.goodbye(Reason.LEFT, reason)
        self._close(reason or "closed here")

    def release(self) -> None:
        """Close the store. Views that somebody holds stay valid."""
        if self.store is not None:
            self.store.close()

    # --- what must go out --------------------------------------------------------------------------------------------

    def frames_to_send(self, now_ns: int) -> list[bytes]:
        """Whole frames, in order. They are the caller's: nothing is sent again."""
        self._now_ns = now_ns
        if self._ack_due and self._state != "closed":
            # One ack covers all that was applied or staged since the last; the node counts our bytes.
            self._session.ack(self._held, chunks=self._staging.chunks)
        self._ack_due = False
        frames = self._session.frames_to_send(now_ns)
        self._frames_sent += len(frames)
        self._bytes_sent += sum(map(len, frames))
        return frames

    @property
    def closing(self) -> bool:
        """The session is over: send what `frames_to_send` has, then cut the transport."""
        return self._state == "closed"

    def next_event(self) -> Event | None:
        """The oldest event that nobody has taken yet."""
        return self._events.popleft() if self._events else None

    # --- inside ------------------------------------------------------------------------------------------------------

    def _drain(self, now_ns: int, length: int) -> None:
        while (event := self._session.next_event()) is not None:
            match event:
                case DeltaSync():
                    base = event.base if self._staging.origin is None else self._staging.origin
                    self._count_bytes(base, length)
                    self._take_delta(event)
                case SyncChunk():
                    self._count_bytes(self._staging.origin, length)
                    self._staging.add_untrusted(event)
                    self._chunks_staged += 1
                    self._ack_due = True
                case SyncBegin():
                    self._staging.begin_untrusted(event, self._held)
                case session_client.CommandAnswered():
                    self._take_answer(event)
                case Welcome():
                    self._take_welcome(event)
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

    def _take_welcome(self, message: Welcome) -> None:
        if self.schema is not None and message.fingerprint != self.schema.fingerprint:
            raise self._mismatch(message.fingerprint)

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

    def _take_delta(self, message: DeltaSync) -> None:
        """The rule of apply, and what follows from applying."""
        if self.store is None:
            raise RemoteProtocolError("a delta before the schema", reason=Reason.BAD_STATE)
        to_apply = self._staging.close_untrusted(message, self._held)
        if to_apply is None:
            self._duplicates += 1
            self._ack_due = True
            return
        base, blocks = to_apply
        version, tick = Version(message.version), Tick(message.tick)
        self.store.kernel.apply(blocks, base, version, tick)
        self._staging.applied()
        self._held, self._tick, self._entity = version, tick, Entity(message.entity)
        self._versions_applied += 1
        if base == EMPTY_VERSION:
            self._full_syncs_applied += 1
        self._ack_due = True
        if message.digest_low or message.digest_high:
            self._verify(version, message.digest_low, message.digest_high)
        if self._state == "joining":
            self._change_state("live")
        while self._early and self._early[0][0] <= version:
            _, _, ticket = heapq.heappop(self._early)
            self._answer(ticket, "accepted")
        if self.on_applied is not None:
            self.on_applied(version, tick)

    def _verify(self, version: Version, low: int, high: int) -> None:
        assert self.store is not None
        theirs = (low.to_bytes(8, "little") + high.to_bytes(8, "little")).hex()
        with self.store.view() as view:
            if view.version != version:
                return  # many held views defer publication: what can be scanned is an older version
            ours = view.digest()
        if ours == theirs:
            self._digests_verified += 1
            return
        log.error("version %d differs from the authority's: digest %s, theirs %s", version, ours, theirs)
        self._events.append(Diverged(version, ours, theirs))
        raise DivergedError(version, ours, theirs)

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
            ticket.reason = event.message or Reason(event.code).words
            self._answer(ticket, "rejected")

    def _answer(self, ticket: Ticket, status: Any) -> None:
        ticket.status = status
        self._events.append(CommandAnswered(ticket))

    def _take_farewell(self, event: PeerLeft) -> None:
        self.farewell = (Reason(event.reason), event.message)
        words = self.farewell[0].words
        if event.reason == Reason.SCHEMA_MISMATCH and self.schema is not None:
            self.error = SchemaMismatchError(self.schema.fingerprint_hex, "another", event.message)
        elif event.reason == Reason.REJECTED:
            self.error = Reject(event.message)
        elif event.reason not in (Reason.NONE, Reason.SHUTDOWN, Reason.LEFT, Reason.KICKED) and self.error is None:
            self.error = RemoteProtocolError(f"the node ended the session: {words}: {event.message}", event.reason)
        self._close(f"{words}: {event.message}" if event.message else words)

    def _change_state(self, state: ReplicaState, reason: str = "") -> None:
        if state != self._state:
            self._events.append(StateChanged(self._state, state, reason))
            self._state = state

    def _close(self, reason: str) -> None:
        for ticket in [*self._tickets.values(), *(ticket for _, _, ticket in self._early)]:
            ticket.reason = "the session ended before the answer came"
        self._change_state("closed", reason)
