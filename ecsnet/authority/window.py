"""What was handed to one link and is not acked yet: how much more may be handed to it, and how late it is.

On a stream an ack moves no base; that happened when the frame was handed over. It says what the replica has *applied*,
and so how many frames the link, the socket's buffer and the client hold between them:

    sent      12 -- 13 -- 14 -- 15
    acked     12 -------- 14              one ack covers all up to its version
    open                        15

Why there is a limit: the system's socket buffer takes megabytes. A client behind a thin line would read deltas that
are seconds old, in order, for ever. With the limit its base stays behind instead, and the next delta is cut from the
newest version and covers what was skipped.

How many bytes are too many depends on the line, so it is found out: an ack that takes much longer than the fastest did
means a queue, and the next time fewer are allowed; acks that come as ever allow more again.

Invariants: versions in the window grow strictly; `acked` never moves backwards and is a version that was sent, or
`EMPTY_VERSION`; the window is bounded by `UNACKED_VERSIONS_MAX` frames.
"""

from collections import deque
from collections.abc import Sequence

from ecsnet._kernel.in_step import NONE
from ecsnet.errors import RemoteProtocolError
from ecsnet.ids import EMPTY_VERSION, Version
from ecsnet.limits import (
    BLOCKED_NS_MAX,
    SYNC_WINDOW_BYTES,
    SYNC_WINDOW_BYTES_MAX,
    UNACKED_BYTES_MAX,
    UNACKED_BYTES_MIN,
    UNACKED_FASTEST_FOR_NS,
    UNACKED_NS_MAX,
    UNACKED_QUEUE_NS,
    UNACKED_VERSIONS_MAX,
)
from ecsnet.wire.messages import Reason


class Window:
    """The unacked frames of one link: deltas by version, and chunks by their count since the newest delta."""

    __slots__ = (
        "_bytes",
        "_chunk_bytes",
        "_chunk_total",
        "_chunk_window",
        "_chunks_acked",
        "_chunks_sent",
        "_fastest_next_ns",
        "_fastest_ns",
        "_fastest_since_ns",
        "_fullest",
        "_newest",
        "_overdue_ns",
        "_progress_ns",
        "_sent",
        "_shrunk_at",
        "acked",
        "bytes_max",
        "lag_ns",
    )

    def __init__(self) -> None:
        self.acked = EMPTY_VERSION
        self.lag_ns: int | None = None
        """From handing over the newest acked version to its ack: a round trip, the client's tick and its apply."""
        self._newest = EMPTY_VERSION
        self._sent: deque[tuple[Version, int, int]] = deque()
        self._bytes = 0
        self._fullest = 0
        """The most bytes that were under way since `bytes_max` grew: what was not used has shown nothing."""
        self.bytes_max = UNACKED_BYTES_MAX
        """How much may be under way, as far as this line is known."""
        self._overdue_ns = UNACKED_NS_MAX
        self._fastest_ns = self._fastest_next_ns = BLOCKED_NS_MAX
        self._fastest_since_ns = 0
        self._shrunk_at = EMPTY_VERSION
        self._chunk_bytes: deque[int] = deque()
        self._chunk_total = 0
        self._chunk_window = SYNC_WINDOW_BYTES
        self._chunks_sent = 0
        self._chunks_acked = 0
        self._progress_ns = 0

    def go_on_from(self, version: Version) -> None:
        """The client holds `version` from before this link."""
        self.acked = self._newest = version

    @property
    def unacked(self) -> int:
        """Frames on their way: deltas and chunks."""
        return len(self._sent) + len(self._chunk_bytes)

    @property
    def unacked_bytes(self) -> int:
        return self._bytes + self._chunk_total

    @property
    def has_deltas_only(self) -> bool:
        """Whether nothing of a sync is under way, or was since the newest delta."""
        return not self._chunk_bytes and not self._chunks_sent

    def to_row(self) -> tuple[tuple[int, ...], list[tuple[int, int, int]]]:
        """What `in_step` has of a window with deltas only, in its order, and what is under way, oldest first."""
        assert self.has_deltas_only
        known = (
            *(self.acked, self._newest, self._shrunk_at, NONE if self.lag_ns is None else self.lag_ns),
            *(self._bytes, self._fullest, self.bytes_max, self._overdue_ns),
            *(self._fastest_ns, self._fastest_next_ns, self._fastest_since_ns, self._progress_ns),
        )
        return known, list(self._sent)

    def from_row(self, known: Sequence[int], sent: Sequence[tuple[int, int, int]]) -> None:
        """The reverse: go on with what those numbers have come to."""
        acked, newest, shrunk_at, lag_ns, self._bytes, self._fullest, self.bytes_max, self._overdue_ns, *rest = known
        self._fastest_ns, self._fastest_next_ns, self._fastest_since_ns, self._progress_ns = rest
        self.acked, self._newest, self._shrunk_at = Version(acked), Version(newest), Version(shrunk_at)
        self.lag_ns = None if lag_ns == NONE else lag_ns
        self._sent = deque((Version(version), at_ns, length) for version, at_ns, length in sent)

    def has_room_for_delta(self, now_ns: int) -> bool:
        """Whether another delta may be handed over, or is better coalesced into a later one.

        Many bytes alone are no reason to hold back: a fast line with a long round trip holds them without being late.
        Many bytes *and* an ack that is overdue are, and so is each byte beyond what a line has shown to be too many.
        """
        if len(self._sent) >= UNACKED_VERSIONS_MAX:
            return False
        if self._bytes <= self.bytes_max:
            return True
        return self.bytes_max == UNACKED_BYTES_MAX and now_ns - self._sent[0][1] <= self._overdue_ns

    def has_room_for_chunk(self) -> bool:
        return self._chunk_total < self._chunk_window

    def is_stuck(self, now_ns: int) -> bool:
        """Whether the client let everything lie for longer than a client may."""
        return self.unacked > 0 and now_ns - self._progress_ns > BLOCKED_NS_MAX

    def forgive(self, now_ns: int) -> None:
        """Begin again to wait for an ack."""
        self._progress_ns = now_ns

    def record_delta(self, version: Version, length: int, now_ns: int) -> None:
        assert version > self.acked, (version, self.acked)
        assert not self._sent or version > self._sent[-1][0]
        if not self._sent and not self._chunk_bytes:
            self._progress_ns = now_ns
        if self._chunks_sent:
            # A closing delta ends its sync: its ack is the ack of all chunks, and the next sync counts from zero.
            length += self._chunk_total
            self._chunk_bytes.clear()
            self._chunk_total = self._chunks_sent = self._chunks_acked = 0
        self._newest = version
        self._sent.append((version, now_ns, length))
        self._bytes = under_way = self._bytes + length
        if under_way > self._fullest:
            self._fullest = under_way

    def record_chunk(self, length: int, now_ns: int) -> None:
        if self.unacked == 0:
            self._progress_ns = now_ns
        self._chunk_bytes.append(length)
        self._chunk_total += length
        self._chunks_sent += 1

    def ack_untrusted(self, version: int, chunks: int, now_ns: int) -> bool:
        """Take the replica's word that it applied `version` and has since staged `chunks` chunks of a sync.

        Returns:
            True if something new was acked. False if the ack was repeated or overtaken by a newer one.

        Raises:
            RemoteProtocolError: `version` or that many chunks were never sent. The window is unchanged.
        """
        new_version = version > self.acked
        if new_version and version not in [sent for sent, _, _ in self._sent]:
            raise RemoteProtocolError(
                f"ack of version {version}, which was not sent on this link "
                f"(acked {self.acked}, on their way {[sent for sent, _, _ in self._sent]})",
                reason=Reason.BAD_STATE,
            )
        # A chunk was staged over the newest delta before it, since the stream is ordered. Under an older version the
        # count belongs to a sync that is closed already.
        if version != self._newest:
            chunks = 0
        if chunks > self._chunks_sent:
            raise RemoteProtocolError(
                f"ack of {chunks} chunks of a sync of which {self._chunks_sent} were sent", reason=Reason.BAD_STATE
            )

        progress = False
        if new_version:
            while self._sent and self._sent[0][0] <= version:
                _, sent_ns, length = self._sent.popleft()
                self._bytes -= length
                self.lag_ns = now_ns - sent_ns
            self.acked = Version(version)
            self._learn(now_ns)
            progress = True
        while self._chunk_bytes and self._chunks_acked < chunks:
            self._chunk_total -= self._chunk_bytes.popleft()
            self._chunks_acked += 1
            progress = True
            if not self._chunk_bytes:
                # All of it was staged before there was more: the window, not the line, is what holds the sync up.
                self._chunk_window = min(2 * self._chunk_window, SYNC_WINDOW_BYTES_MAX)
        if progress:
            self._progress_ns = now_ns
        return progress

    def _learn(self, now_ns: int) -> None:
        """What an ack tells of the line."""
        lag_ns = self.lag_ns
        assert lag_ns is not None
        if now_ns - self._fastest_since_ns > UNACKED_FASTEST_FOR_NS:
            self._fastest_ns, self._fastest_next_ns = self._fastest_next_ns, BLOCKED_NS_MAX
            self._fastest_since_ns = now_ns
        self._fastest_next_ns = min(self._fastest_next_ns, lag_ns)
        self._fastest_ns = min(self._fastest_ns, lag_ns)
        # Twice the fastest and some; of half a second and more, half as much again: there it would be too long a queue.
        fastest_ns = self._fastest_ns
        queued_ns = min(2 * fastest_ns, max(UNACKED_NS_MAX, fastest_ns * 3 // 2)) + UNACKED_QUEUE_NS
        self._overdue_ns = min(UNACKED_NS_MAX, queued_ns)
        if lag_ns <= queued_ns:
            if self._fullest * 2 > self.bytes_max:
                self.bytes_max = min(UNACKED_BYTES_MAX, self.bytes_max + self.bytes_max // 8)
                self._fullest = self._bytes
        elif self.acked > self._shrunk_at:
            # Once a round trip: what is on its way now has the same queue before it.
            self.bytes_max = max(UNACKED_BYTES_MIN, self.bytes_max * 3 // 4)
            self._shrunk_at = self._newest
