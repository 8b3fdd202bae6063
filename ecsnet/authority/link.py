"""One client's link as the authority keeps it: what was handed over, what comes next. This is the link of a stream;
`datagram_link` has the other.

The base of a stream is the version last handed over *whole*. It moves in `record_sent`, and nowhere else: a frame that
the driver could not place has not happened, and the next one is cut from the same base to whatever is newest by then.

    base 12, head 15    next_transmit → delta (12, 15]    the socket is full: record_blocked
    base 12, head 17    next_transmit → delta (12, 17]    taken: record_sent
    base 17

A delta too big for one frame travels in chunks. Each is cut from the newest version at the moment the link has room,
so nothing is kept for a joining client however slow it is; rows that change after their chunk went by are in the
closing delta, which covers everything after the version in which the first chunk was cut.

Event rows go before the delta that leads to their version, each message of them once (`event_log`). A full sync has
none, so those of a session begin after its first.

Invariants: the base never moves backwards except to `EMPTY_VERSION`, when the changes since it are not kept any more;
no delta goes out while a sync runs but the one that closes it; control frames go before both.
"""

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from ecsnet._kernel.in_step import NONE
from ecsnet._kernel.kernel import HistoryGone
from ecsnet.auth.account import Login
from ecsnet.authority.audiences import Audience
from ecsnet.authority.blocks import NO_DIGEST, Blocks, Cut
from ecsnet.authority.event_log import EventLog
from ecsnet.authority.in_step import STEADY_DELTAS
from ecsnet.authority.sessions import Session
from ecsnet.authority.window import Window
from ecsnet.ids import EMPTY_VERSION, NULL_ENTITY, ClientId, Entity, SessionId, Version
from ecsnet.limits import BLOCKED_NS_MAX, FRAME_HEADER_BYTES, QUIET_NS_MAX, QUIET_VERSIONS_MAX
from ecsnet.session.server import ServerSession
from ecsnet.wire.codec import ACK_BYTES
from ecsnet.wire.datagrams import is_reliable
from ecsnet.wire.messages import COMPRESSION, PARTIAL, Kind
from ecsnet.world import Client

if TYPE_CHECKING:
    from ecsnet.authority.in_step import InStep

__all__ = ["Link", "LinkState", "LinkStatistics", "Transmit"]

_IN_STEP: Final = (
    "server",
    "window",
    "base",
    "blocked_since_ns",
    "digest_window",
    "deltas_sent",
    "bytes_sent",
    "frames_received",
    "bytes_received",
)
"""What a link in step does not have."""

_NO_EVENTS: Final = 1 << 62

LinkState = Literal["handshake", "joining", "live", "closing", "closed"]


class Transmit(NamedTuple):
    """One whole frame for one link, to be written in the order of its parts."""

    parts: tuple[bytes | memoryview, ...]
    length: int
    kind: int
    version: Version | None
    """What the replica holds once it has applied this frame; None if the frame carries no data or is part of a sync."""
    close_after: bool
    """Nothing comes after this frame: flush it, then cut the link."""
    cursor: Any = None
    digest_window: int | None = None
    reliable: bool = True
    """On a datagram link: it goes by the lane. A stream carries all alike."""


@dataclass(frozen=True, slots=True)
class LinkStatistics:
    """What one link has carried. Bytes are of whole frames; `sync_bytes_sent` those of full syncs among them."""

    peer: str
    state: LinkState
    session: SessionId
    base: Version
    acked: Version
    unacked: int
    lag_ns: int | None
    deltas_sent: int
    full_syncs: int
    bytes_sent: int
    sync_bytes_sent: int
    frames_received: int
    bytes_received: int


class _Sync:
    """A delta on its way in chunks."""

    __slots__ = ("base", "cursor", "done", "first_version", "origin", "sequence")

    def __init__(self, base: Version, first_version: Version, origin: Version) -> None:
        self.base = base
        self.origin = origin
        """The base of the whole sync: another than `base` where a closing delta was itself too big."""
        self.first_version = first_version
        self.cursor: Any = None
        self.sequence = 0
        self.done = False


class Link:
    """A path that carries frames to one client. Made by `Authority.open_link`; its attributes are for reading."""

    __slots__ = (
        "_control",
        "_cut",
        "_entity",
        "_held",
        "_in_step",
        "_live",
        "_place",
        "_sync",
        "_told_ack",
        "_told_entity",
        "_told_ns",
        "audience",
        "base",
        "blocked_since_ns",
        "bytes_received",
        "bytes_sent",
        "client",
        "close_by_ns",
        "deltas_sent",
        "digest_window",
        "event_bytes",
        "event_next",
        "event_origin",
        "events",
        "frames_received",
        "full_syncs",
        "joined",
        "local",
        "login",
        "number",
        "peer",
        "row",
        "server",
        "session_of",
        "steady",
        "sync_bytes_sent",
        "transport_open",
        "window",
    )

    def __init__(self, number: int, peer: str, server: ServerSession, *, local: bool = False) -> None:
        self.number = number
        self.peer = peer
        self.local = local
        """The client is on this machine: a world is handed over faster than it is compressed."""
        self._in_step: InStep | None = None
        self.row: int | None = None
        """In step (`in_step`): where the rest of it lies meanwhile."""
        self.steady = 0
        """Deltas since it was sent anything else, or was not in step."""
        self._entity = NULL_ENTITY
        self._live = self._cut = False
        self._place: int | None = None
        self.server = server
        self.login: Login | None = None
        """Of a stranger whose account the driver is to find out: see `Authority.log_in`."""
        self.client: Client | None = None
        self.session_of: Session | None = None
        """Whose link this is, or was: `session_of.link` is another one after a resume."""
        self.audience: Audience
        """What its session sees of the world, once it has joined; said by the authority."""
        self.base = EMPTY_VERSION
        self.window = Window()
        self.joined = False
        """`on_join` was committed, so `on_leave` is due some day."""
        self.transport_open = True
        self.close_by_ns: int | None = None
        self.blocked_since_ns: int | None = None
        self.deltas_sent = 0
        self.full_syncs = 0
        self.bytes_sent = 0
        self.sync_bytes_sent = 0
        self.frames_received = 0
        self.bytes_received = 0
        self._control: deque[bytes] = deque()
        self._sync: _Sync | None = None
        self.digest_window = -1
        self.events: EventLog | None = None
        """None where the world has no event rows to tell of."""
        self.event_next: int | None = None
        """The next message of event rows; None before the first full sync."""
        self.event_origin = 0
        self.event_bytes = 0
        """Of messages that were handed over since the last delta."""
        self._told_ack = 0
        self._told_entity = NULL_ENTITY
        self._told_ns = 0

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def entity(self) -> Entity:
        """The client's, as its session's row says."""
        return self._entity

    @entity.setter
    def entity(self, entity: Entity) -> None:
        if entity != self._entity:
            self.leave_step()
            self._entity = entity

    @property
    def live(self) -> bool:
        """The version that contains the join is published: deltas may flow."""
        return self._live

    @live.setter
    def live(self, live: bool) -> None:
        self.leave_step()
        self._live = live

    @property
    def cut(self) -> bool:
        """The driver is to cut this link now, whatever is still unsent."""
        return self._cut

    @cut.setter
    def cut(self, cut: bool) -> None:
        self.leave_step()
        self._cut = cut

    @property
    def place(self) -> int | None:
        """Where a hub reaches it, which the driver says, above 0: its deltas go by the batch. None: by `next_transmit`
        alone."""
        return self._place

    @place.setter
    def place(self, place: int | None) -> None:
        self.leave_step()
        self._place = place

    @property
    def state(self) -> LinkState:
        if not self.transport_open:
            return "closed"
        if self.server.closed:
            return "closing"
        if self.live:
            return "live"
        return "handshake" if self.client is None else "joining"

    @property
    def name(self) -> str:
        """The name that the client gave itself; anybody can give any."""
        return self.client.name if self.client is not None else ""

    @property
    def session(self) -> SessionId:
        return self.client.session if self.client is not None else SessionId(0)

    @property
    def client_id(self) -> ClientId:
        return self.client.client_id if self.client is not None else ClientId(0)

    @property
    def is_plain(self) -> bool:
        """A stream in which no sync runs, and nothing of what the session said before is unsent."""
        return self._sync is None and not self._control

    @property
    def in_parts(self) -> bool:
        """A delta was begun and is not all handed over: without the rest the first parts are of no use, so go on even
        where there is little room. Never on a stream."""
        return False

    @property
    def acked(self) -> Version:
        """The newest version that the client said it applied."""
        return self.window.acked

    def statistics(self) -> LinkStatistics:
        return LinkStatistics(
            peer=self.peer,
            state=self.state,
            session=self.session,
            base=self.base,
            acked=self.acked,
            unacked=self.window.unacked,
            lag_ns=self.window.lag_ns,
            deltas_sent=self.deltas_sent,
            full_syncs=self.full_syncs,
            bytes_sent=self.bytes_sent,
            sync_bytes_sent=self.sync_bytes_sent,
            frames_received=self.frames_received,
            bytes_received=self.bytes_received,
        )

    # --- in step ------------------------------------------------------------------------------------------------------

    @property
    def keeps_up(self) -> bool:
        """Whether nothing but deltas has happened to it for a while, and nothing else is to be expected."""
        return (
            self.steady >= STEADY_DELTAS
            and self._place is not None
            and self._live
            and not self._cut
            and self.is_plain
            and self.server.live
            and not self.server.frames
            and self.event_bytes == 0
            and self.window.has_deltas_only
        )

    def to_row(self, group: int) -> tuple[tuple[int, ...], list[tuple[int, int, int]]]:
        """What `in_step` has of it (`ROW`), and what is under way."""
        server, place = self.server, self._place
        assert place is not None
        (acked, newest, shrunk_at, *window), sent = self.window.to_row()
        told = _NO_EVENTS if self.events is None or self.event_next is None else self.event_next
        blocked_since_ns = NONE if self.blocked_since_ns is None else self.blocked_since_ns
        return (
            *(place, server.session, self._entity, self.base, acked, newest, shrunk_at),
            *(*window, blocked_since_ns, self.digest_window, told),
            *(server.deadline_ns, server.silence_ns_max, NONE, self.deltas_sent, self.bytes_sent, 0),
            *(server.epoch, server.ledger.answered, group),
        ), sent

    def enter_step(self, in_step: "InStep", row: int) -> None:
        """From now on the row says what comes of it."""
        self._in_step, self.row = in_step, row
        self._held = (self.server, self.window, self.frames_received, self.bytes_received)
        for name in _IN_STEP:
            delattr(self, name)

    def leave_step(self) -> None:
        """Go on with what the row has come to. Nothing happens to a link that is not in step."""
        self.steady = 0
        in_step, row = self._in_step, self.row
        if in_step is None or row is None:
            return
        self._in_step = self.row = None
        self.server, self.window, self.frames_received, self.bytes_received = self._held
        del self._held
        (_, _, _, base, acked, newest, shrunk_at, *known), sent = in_step.leave(row)
        *window, blocked_since_ns, digest_window, _, deadline_ns, _, _, deltas, size, acks, _, _, _ = known
        self.window.from_row((acked, newest, shrunk_at, *window), sent)
        self.base = Version(base)
        self.blocked_since_ns = None if blocked_since_ns == NONE else blocked_since_ns
        self.digest_window = digest_window
        self.deltas_sent, self.bytes_sent = deltas, size
        self.frames_received += acks
        self.bytes_received += acks * (ACK_BYTES - FRAME_HEADER_BYTES)
        self.server.acks_taken(acks, deadline_ns)
        self.server.tick = in_step.tick_of(base, self.server.tick)

    def __getattr__(self, name: str) -> Any:
        # Of a link in step what changes is not here: whoever looks for it brings it back.
        if name in _IN_STEP and self.row is not None:
            self.leave_step()
            return getattr(self, name)
        raise AttributeError(f"a link has no {name!r}")

    # --- what a session brings ----------------------------------------------------------------------------------------

    def go_on_from(self, base: Version, events_from: Version) -> None:
        """The client of a session that was resumed holds `base`, and is to be told event rows of versions after
        `events_from`. Before anything was sent."""
        assert self.base == EMPTY_VERSION < base, (self.base, base)
        self.base = base
        self.window.go_on_from(base)
        if self.events is not None:
            self.event_next = self.event_origin = self.events.end_of(events_from)

    # --- what goes out -----------------------------------------------------------------------------------------------

    def next_transmit(self, now_ns: int, digest_window: int) -> Transmit | None:
        """The next frame, or None: nothing to say, or nothing more until an ack.

        Asking again without `record_sent` gives the next frame again, cut anew.
        """
        if self._control or self.server.frames:
            frame = self._next_control()
            assert frame is not None
            close_after = self.server.closed and len(self._control) == 1
            return Transmit((frame,), len(frame), frame[4], None, close_after, reliable=is_reliable(frame[4]))
        if not self.live or self.server.closed:
            return None
        blocks = self.audience.blocks
        try:
            return self._next_data(blocks, now_ns, digest_window)
        except HistoryGone:
            # Too far behind for what is kept. From the empty world everything can be cut, and what the client holds or
            # has staged is replaced.
            self._sync = None
            self.base = EMPTY_VERSION
            return self._next_data(blocks, now_ns, digest_window)

    def record_sent(self, transmit: Transmit, now_ns: int) -> None:
        """The driver took the frame, whole: only now has it happened."""
        self.blocked_since_ns = None
        self.bytes_sent += transmit.length
        if transmit.version is not None:
            assert transmit.version > self.base or self._sync is not None
            origin = self.base if self._sync is None else self._sync.origin
            if origin == EMPTY_VERSION:
                self.full_syncs += 1
                self.sync_bytes_sent += transmit.length
            self._sync = None
            self.bytes_sent -= transmit.length  # counted there
            self.record_delta(transmit.version, transmit.length, now_ns, transmit.digest_window)
        elif transmit.kind == Kind.SYNC_CHUNK:
            assert self._sync is not None
            self.window.record_chunk(transmit.length, now_ns)
            if self._sync.origin == EMPTY_VERSION:
                self.sync_bytes_sent += transmit.length
            self._sync.sequence += 1
            self._sync.cursor = transmit.cursor
            self._sync.done = transmit.cursor is None
        elif transmit.kind == Kind.EVENT:
            self.bytes_sent -= transmit.length  # counted there
            self.record_event(transmit.length)
        else:
            self._control.popleft()
        if transmit.close_after:
            self.cut = True

    def record_delta(self, version: Version, length: int, now_ns: int, digest_window: int | None) -> None:
        """A whole delta was handed over: the base of a stream moves."""
        self.blocked_since_ns = None
        self.bytes_sent += length
        self.deltas_sent += 1
        self.base = version
        self.window.record_delta(version, length + self.event_bytes, now_ns)
        self.event_bytes = 0
        if self.event_next is None:
            self.begin_events(version)
        self._told_ns = now_ns
        self._told_ack, self._told_entity = self.server.ledger.answered, self.entity
        if digest_window is not None:
            self.digest_window = digest_window

    def may_stay_quiet(self, version: Version, now_ns: int) -> bool:
        """Whether a client whose view has not changed need not hear of `version` now. One that waits for the effect of
        a command, or was told of event rows, must: those are told when the version is held."""
        return (
            self.audience.own
            and self.server.ledger.answered == self._told_ack
            and self.entity == self._told_entity
            and not self.event_bytes
            and version - self.base < QUIET_VERSIONS_MAX
            and now_ns - self._told_ns < QUIET_NS_MAX
        )

    def begin_events(self, version: Version) -> None:
        """The first full sync was handed over: event rows of later versions are to be told."""
        if self.events is not None:
            self.event_next = self.event_origin = self.events.end_of(version)

    def record_event(self, length: int) -> None:
        """A message of event rows was handed over."""
        assert self.event_next is not None
        self.event_next += 1
        self.event_bytes += length
        self.bytes_sent += length
        self.blocked_since_ns = None

    def record_blocked(self, now_ns: int) -> None:
        """Nothing of the frame was taken. It is forgotten, and cut anew when there is room."""
        if self.blocked_since_ns is None:
            self.blocked_since_ns = now_ns

    def wants(self, now_ns: int) -> bool:
        """Whether `next_transmit` would find something, told without encoding anything: it may still be that nothing
        of what the client sees has changed."""
        if self._control or self.server.frames:
            return True
        if not self.live or self.server.closed:
            return False
        if self._sync is not None:
            return self._sync.done or self.window.has_room_for_chunk()
        return self.base < self.audience.blocks.version and self.window.has_room_for_delta(now_ns)

    def control_bytes(self) -> int:
        self._next_control()
        return sum(map(len, self._control))

    def is_too_slow(self, now_ns: int) -> bool:
        """Whether the link took nothing, or the client acked nothing, for longer than a client may."""
        if self.blocked_since_ns is not None and now_ns - self.blocked_since_ns > BLOCKED_NS_MAX:
            return True
        return self.window.is_stuck(now_ns) or self.misses_events

    @property
    def misses_events(self) -> bool:
        """Whether event rows are gone that were to be told: then no later version is, either."""
        return self.events is not None and self.event_next is not None and self.event_next < self.events.first

    def forgive(self, now_ns: int) -> None:
        """Begin again to wait for the client: the time up to now was not its fault."""
        if self.blocked_since_ns is not None:
            self.blocked_since_ns = now_ns
        self.window.forgive(now_ns)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _next_control(self) -> bytes | None:
        while (frame := self.server.next_frame()) is not None:
            self._control.append(frame)
        return self._control[0] if self._control else None

    def _next_data(self, blocks: Blocks, now_ns: int, digest_window: int) -> Transmit | None:
        if self._sync is None:
            if self.base >= blocks.version or not self.window.has_room_for_delta(now_ns) or self.misses_events:
                return None
            if (event := self._next_event(blocks)) is not None:
                return event
            plain = self._stays_plain(self.base)
            delta = blocks.delta(self.base, plain=plain)
            if delta is not None:
                if (
                    delta.says_nothing
                    and digest_window == self.digest_window
                    and self.may_stay_quiet(blocks.version, now_ns)
                ):
                    return None
                if not plain and self.server.features & COMPRESSION:
                    delta = blocks.compressed(delta)
                return self._delta(blocks, self.base, delta, digest_window)
            return self._begin_sync(blocks, self.base)
        return self._next_of_sync(blocks, digest_window)

    def _next_of_sync(self, blocks: Blocks, digest_window: int) -> Transmit | None:
        sync = self._sync
        assert sync is not None
        if not sync.done:
            if not self.window.has_room_for_chunk():
                return None
            plain = self._stays_plain(sync.base)
            chunk = blocks.chunk(sync.base, sync.cursor, plain=plain)
            if not plain and self.server.features & COMPRESSION:
                chunk = blocks.compressed(chunk)
            head = self.server.sync_chunk_head(sync.sequence, sync.base, blocks.version, len(chunk.block))
            parts = (head, chunk.block, chunk.padding)
            return Transmit(parts, len(head) + chunk.length, Kind.SYNC_CHUNK, None, False, chunk.cursor)
        if self.misses_events:
            return None
        if (event := self._next_event(blocks)) is not None:
            return event
        closing = blocks.closing_delta(sync.first_version)
        if closing is not None:
            if self.server.features & COMPRESSION:
                closing = blocks.compressed(closing)
            return self._delta(blocks, sync.first_version, closing, digest_window)
        # So much changed while the chunks went out that the closing delta is itself too big: the client stages on.
        return self._begin_sync(blocks, sync.first_version)

    def _digest_can_wait(self, blocks: Blocks, digest_window: int) -> bool:
        """Whether the delta that closes a big world's sync goes without a digest: to scan it takes each side as long as
        the rest of joining does, and the next delta can have one. Where each version has a digest, its window is the
        version."""
        sync = self._sync
        if sync is None or sync.origin != EMPTY_VERSION or digest_window == blocks.version:
            return False
        return not blocks.knows_digest

    def _stays_plain(self, base: Version) -> bool:
        """Whether what is cut from `base` is not compressed, whatever the client reads: a whole world, to this machine.
        Of what comes with every tick each byte is sent to many, and compressed once for all of them."""
        return self.local and base == EMPTY_VERSION

    def _next_event(self, blocks: Blocks) -> Transmit | None:
        """The next message of event rows of versions up to the one that a delta would lead to now."""
        log, number = self.events, self.event_next
        if log is None or number is None or number >= log.end or number >= log.end_of(blocks.version):
            return None
        frames = log.frames(number)
        frame = self.server.event_frame(frames, number - self.event_origin + 1)
        return Transmit((frame,), frames.length, Kind.EVENT, None, False)

    def _begin_sync(self, blocks: Blocks, base: Version) -> Transmit:
        origin = base if self._sync is None else self._sync.origin
        self._sync = _Sync(base, blocks.version, origin)
        self.server.sync_begin(base, blocks.version, blocks.tick)
        frame = self._next_control()
        assert frame is not None
        return Transmit((frame,), len(frame), frame[4], None, False)

    def _delta(self, blocks: Blocks, base: Version, cut: Cut, digest_window: int) -> Transmit:
        digest, window = NO_DIGEST, None
        flags = PARTIAL if blocks.waiting() else 0
        if digest_window != self.digest_window and not flags and not self._digest_can_wait(blocks, digest_window):
            digest = blocks.digest_in(digest_window)
            window = digest_window if digest != NO_DIGEST else None
        head = self.server.delta_head(base, blocks.version, blocks.tick, self.entity, digest, len(cut.block), flags)
        parts = (head, cut.block, cut.padding)
        return Transmit(parts, len(head) + cut.length, Kind.DELTA_SYNC, blocks.version, False, None, window)
