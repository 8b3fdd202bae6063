"""Which version may the next delta be cut from, on a link that loses datagrams?

A delta is readable only by a replica that holds its base or something newer. So what was sent moves nothing; the base
is the newest version of which the replica said that it *applied* it:

    sent      12 -- 13 -- 14 -- 15
    acked     12 -------- 14              13 was lost, 15 is still on its way
    base                  14              the next delta covers (14, head]

What was lost is never sent again: the next delta covers it. Only at rest, when no next one comes, or with so many on
their way that something must be wrong, is one repeated after a while, until an ack comes.

Invariants: `acked` never moves backwards, and is a version that was sent or `EMPTY_VERSION`; what is remembered of
versions on their way is bounded by `UNACKED_VERSIONS_MAX`.
"""

from ecsnet.authority.window import Window
from ecsnet.errors import RemoteProtocolError
from ecsnet.ids import Version
from ecsnet.limits import DATAGRAM_SILENCE_NS_MAX, REPEAT_NS_MAX, REPEAT_NS_MIN, UNACKED_VERSIONS_MAX
from ecsnet.wire.messages import Reason


class AckedBase(Window):
    """The versions on their way to one replica, and the newest that it is known to hold: `acked`. Chunks are not
    counted: they go by the lane, which has a window of its own."""

    __slots__ = ("_chunks_staged", "_repeats", "_spoke_ns", "is_answered")

    def __init__(self) -> None:
        super().__init__()
        self._repeats = 0
        self._spoke_ns = 0
        self._chunks_staged = 0
        self.is_answered = True
        """Whether an ack came, of whatever version, since something was last sent."""

    @property
    def newest(self) -> Version:
        """The newest version that was sent."""
        return self._newest

    def has_room_for_delta(self, now_ns: int) -> bool:
        """Whether a newer version may be sent now. With too many on their way only one now and then, to find out
        whether anybody is there."""
        return len(self._sent) < UNACKED_VERSIONS_MAX or self.is_due(now_ns)

    def has_room_for_chunk(self) -> bool:
        return True

    def is_due(self, now_ns: int) -> bool:
        """Whether an ack is overdue, so that something is to be said again."""
        return bool(self._sent) and now_ns - self._spoke_ns >= self._patience_ns()

    def is_stuck(self, now_ns: int) -> bool:
        return self.unacked > 0 and now_ns - self._progress_ns > DATAGRAM_SILENCE_NS_MAX

    def record_delta(self, version: Version, length: int, now_ns: int) -> None:
        """All of a delta to `version` was sent, for the first time or again."""
        assert version > self.acked, (version, self.acked)
        assert version >= self._newest, (version, self._newest)
        if not self._sent:
            self._progress_ns = now_ns
        self._spoke_ns = now_ns
        self.is_answered = False
        if version == self._newest:
            self._repeats += 1
            return
        self._newest = version
        self._sent.append((version, now_ns, length))
        self._bytes += length
        if len(self._sent) > UNACKED_VERSIONS_MAX:
            self._repeats += 1
            self._bytes -= self._sent.popleft()[2]

    def record_chunk(self, length: int, now_ns: int) -> None:
        self._progress_ns = now_ns

    def record_probe(self, now_ns: int) -> None:
        """The replica was asked what it holds."""
        self._spoke_ns = now_ns
        self.is_answered = False
        self._repeats += 1

    def ack_untrusted(self, version: int, chunks: int, now_ns: int) -> bool:
        """Take the replica's word that it applied `version`, as read off the wire.

        Returns:
            True if the base advanced. False if the ack was repeated, overtaken on its way, or older than our memory:
            all normal on datagrams, and none of them changes anything.

        Raises:
            RemoteProtocolError: `version` was never sent. Nothing is changed.
        """
        if version > self._newest:
            raise RemoteProtocolError(
                f"ack of version {version}, which was not sent on this link "
                f"(acked {self.acked}, on their way {[sent for sent, _, _ in self._sent]})",
                reason=Reason.BAD_STATE,
            )
        self.is_answered = True
        if chunks != self._chunks_staged:
            self._chunks_staged = chunks
            self._progress_ns = now_ns
        if version <= self.acked or not self._sent or version < self._sent[0][0]:
            return False
        if not any(sent == version for sent, _, _ in self._sent):
            raise RemoteProtocolError(
                f"ack of version {version}, which was skipped on this link "
                f"(acked {self.acked}, on their way {[sent for sent, _, _ in self._sent]})",
                reason=Reason.BAD_STATE,
            )
        while self._sent and self._sent[0][0] <= version:
            _, sent_ns, length = self._sent.popleft()
            self._bytes -= length
            self.lag_ns = now_ns - sent_ns
        self.acked = Version(version)
        self._repeats = 0
        self._progress_ns = now_ns
        return True

    def _patience_ns(self) -> int:
        lag_ns = self.lag_ns if self.lag_ns is not None else REPEAT_NS_MIN
        return min(max(2 * lag_ns, REPEAT_NS_MIN) << min(self._repeats, 8), REPEAT_NS_MAX)
