"""One client's link over datagrams: the base moves on acks, and a delta goes in parts.

    acked 12, head 15   next_transmit → part 0 of 2 of (12, 15], then part 1     unreliably, each in one datagram
    acked 12, head 16   next_transmit → (12, 16]                                 whatever became of the other
    acked 16, head 16   nothing

A delta of more than `DELTA_PARTS_MAX` parts, and one from the empty world, would hardly arrive whole. It goes by the
lane, in one frame or in chunks, and until it is acked nothing else is cut: its base is on its way. And since what is in
the lane is never taken back, it is cut only for a replica that answers: after a partition nobody wants to be sent the
world of when it began.

What can be lost at rest is the last delta, or its ack. Both are mended by saying it again: the delta, or for one that
went by the lane a *probe*, which is the empty delta `(v, v]` that a replica can only answer by what it holds.

Event rows go by the lane, before the first part of the delta that leads to their version: which of the two comes first
is the replica's matter.

Invariants: the base never moves by sending; parts of one delta are cut from one version, and equal bases share them;
nothing unreliable is sent while a sync runs.
"""

from typing import Any

from ecsnet.authority.acked import AckedBase
from ecsnet.authority.blocks import NO_DIGEST, Blocks, Cut, Digest
from ecsnet.authority.link import Link, Transmit
from ecsnet.ids import EMPTY_VERSION, Version
from ecsnet.limits import DATAGRAM_SILENCE_NS_MAX
from ecsnet.session.server import ServerSession
from ecsnet.wire.messages import PARTIAL, Kind

__all__ = ["DatagramLink"]


class _Parts:
    """A delta on its way in parts."""

    __slots__ = ("base", "cuts", "digest", "flags", "next", "version", "window")

    def __init__(
        self,
        base: Version,
        version: Version,
        cuts: tuple[Cut, ...],
        digest: Digest,
        window: int | None,
        flags: int,
    ):
        self.base = base
        self.version = version
        self.cuts = cuts
        self.digest = digest
        self.window = window
        self.flags = flags
        self.next = 0


class DatagramLink(Link):
    """A `Link` that loses what is sent. Its `base` is the newest version that was acked."""

    __slots__ = ("_acks", "_awaited", "_based_on", "_parts")

    def __init__(self, number: int, peer: str, server: ServerSession, *, local: bool = False) -> None:
        super().__init__(number, peer, server, local=local)
        self._acks = AckedBase()
        self.window = self._acks
        self._awaited = EMPTY_VERSION
        """What went by the lane: nothing is cut before it is acked."""
        self._based_on = EMPTY_VERSION
        """The newest ack that has moved the base. Where the changes since it are not kept any more the base is the
        empty world, until another ack comes."""
        self._parts: _Parts | None = None

    @property
    def is_plain(self) -> bool:
        return False

    @property
    def in_parts(self) -> bool:
        return self._parts is not None and self._parts.next > 0

    def go_on_from(self, base: Version, events_from: Version) -> None:
        super().go_on_from(base, events_from)
        self._based_on = base

    # --- what goes out -----------------------------------------------------------------------------------------------

    def record_sent(self, transmit: Transmit, now_ns: int) -> None:
        if transmit.kind != Kind.DELTA_SYNC:
            super().record_sent(transmit, now_ns)
            return
        self.blocked_since_ns = None
        self.bytes_sent += transmit.length
        if transmit.reliable:
            assert transmit.version is not None
            origin = self.base if self._sync is None else self._sync.origin
            if origin == EMPTY_VERSION:
                self.full_syncs += 1
                self.sync_bytes_sent += transmit.length
            self._sync = None
            if self.event_next is None:
                self.begin_events(transmit.version)
            self._awaited = transmit.version
            self._record_delta(transmit, transmit.version, now_ns)
        elif transmit.cursor is None:
            self._acks.record_probe(now_ns)
        else:
            assert self._parts is not None and self._parts.next == transmit.cursor
            self._parts.next += 1
            if transmit.version is not None:
                self._parts = None
                self._record_delta(transmit, transmit.version, now_ns)

    def wants(self, now_ns: int) -> bool:
        if self._control or self.server.frames:
            return True
        if not self.live or self.server.closed:
            return False
        acks = self._acks
        if self._sync is not None:
            return True
        if acks.acked < self._awaited or acks.newest >= self.audience.blocks.version:
            return acks.acked < acks.newest and acks.is_due(now_ns)
        return acks.has_room_for_delta(now_ns)

    def is_too_slow(self, now_ns: int) -> bool:
        if self.blocked_since_ns is not None and now_ns - self.blocked_since_ns > DATAGRAM_SILENCE_NS_MAX:
            return True
        return self.window.is_stuck(now_ns) or self.misses_events

    # --- inside ------------------------------------------------------------------------------------------------------

    def _record_delta(self, transmit: Transmit, version: Version, now_ns: int) -> None:
        self._acks.record_delta(version, transmit.length + self.event_bytes, now_ns)
        self.event_bytes = 0
        self.deltas_sent += 1
        if transmit.digest_window is not None:
            self.digest_window = transmit.digest_window

    def _next_data(self, blocks: Blocks, now_ns: int, digest_window: int) -> Transmit | None:
        acks, head = self._acks, blocks.version
        # Before anything is cut, also of a sync: if its history turns out to be gone, that of a base acked meanwhile
        # may be gone, too, and the next try must not come back to it.
        if acks.acked > self._based_on:
            self.base = self._based_on = acks.acked
        if self._sync is not None:
            return self._next_of_sync(blocks, digest_window)
        if acks.acked < self._awaited:
            return self._probe(blocks, now_ns)
        base = self.base
        if base >= head:
            return None
        if self._parts is not None and self._parts.version == head:
            return self._next_part(blocks, self._parts)
        self._parts = None
        may = acks.is_due(now_ns) if acks.newest >= head else acks.has_room_for_delta(now_ns)
        if not may or self.misses_events:
            return None
        if (event := self._next_event(blocks)) is not None:
            return event
        cuts = blocks.parts(base) if base != EMPTY_VERSION else None
        if cuts is None:
            if not acks.is_answered:
                return self._probe(blocks, now_ns)
            # Deltas beside the lane that are under way may come first.
            whole = blocks.delta(base, held=False)
            if whole is None:
                return self._begin_sync(blocks, base)
            return self._delta(blocks, base, whole, digest_window)
        flags = PARTIAL if blocks.waiting() else 0
        digest, window = (NO_DIGEST, None) if flags else self._digest(blocks, digest_window)
        self._parts = _Parts(base, head, cuts, digest, window, flags)
        return self._next_part(blocks, self._parts)

    def _digest(self, blocks: Blocks, digest_window: int) -> tuple[Digest, int | None]:
        # One that is known costs nothing, and the one before may have been lost.
        if digest_window == self.digest_window and not blocks.knows_digest:
            return NO_DIGEST, None
        digest = blocks.digest_in(digest_window)
        return digest, digest_window if digest != NO_DIGEST else None

    def _next_part(self, blocks: Blocks, parts: _Parts) -> Transmit:
        number, count = parts.next, len(parts.cuts)
        cut = parts.cuts[number]
        head = self.server.delta_head(
            parts.base,
            parts.version,
            blocks.tick,
            self.entity,
            parts.digest,
            len(cut.block),
            flags=parts.flags,
            part=number,
            parts=count,
        )
        version = parts.version if number + 1 == count else None
        return _unreliable(head, cut.block, cut.padding, version, number, parts.window)

    def _probe(self, blocks: Blocks, now_ns: int) -> Transmit | None:
        if not self._acks.is_due(now_ns):
            return None
        version = self._acks.newest
        head = self.server.delta_head(version, version, blocks.tick, self.entity, NO_DIGEST, 0)
        return _unreliable(head, b"", b"", None, None, None)


def _unreliable(
    head: bytes, block: bytes, padding: bytes, version: Version | None, cursor: Any, window: int | None
) -> Transmit:
    length = len(head) + len(block) + len(padding)
    return Transmit((head, block, padding), length, Kind.DELTA_SYNC, version, False, cursor, window, False)
