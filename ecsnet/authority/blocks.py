"""The encoded deltas up to the newest published version: each cut once, whoever needs it.

Clients that keep up have equal bases, so a tick costs one encoding and not one for each of them; what differs between
two clients is the 112 bytes in front of the block. A client that is behind costs one more encoding, once for all that
are behind by as much.

Invariants:
- everything here belongs to one pinned version, and all of it goes when a newer one is taken;
- nothing is kept for anybody's sake: a client that comes back later gets a delta that is cut then.
"""

from typing import Any, NamedTuple

from ecsnet._kernel.kernel import KernelStore, Pin
from ecsnet.ids import EMPTY_VERSION, Tick, Version
from ecsnet.limits import CLOSING_DELTA_BYTES_MAX, FULL_SYNC_BYTES_MIN, SYNC_CHUNK_BYTES
from ecsnet.wire.codec import padding

Digest = tuple[int, int]
"""Low and high half of a digest; (0, 0) on the wire is none."""

NO_DIGEST: Digest = (0, 0)

_DIGESTS_IN_WINDOW_MAX = 4
"""Clients that get each version share the first of a window; three more are for those that missed it."""


class Cut(NamedTuple):
    """One encoded block with the bytes that follow it in a frame. `cursor` is where the next part begins, None at the
    end."""

    block: bytes
    padding: bytes
    length: int
    cursor: tuple[int, int] | None


class Blocks:
    """Deltas from any base to the newest published version of one store."""

    __slots__ = (
        "_cut",
        "_digest",
        "_in_window",
        "_kernel",
        "_pin",
        "_window",
        "digests_computed",
        "encoded",
        "encoded_bytes",
        "shared",
        "tick",
        "version",
    )

    def __init__(self, kernel: KernelStore) -> None:
        self._kernel = kernel
        self._pin: Pin = kernel.acquire()
        self.version = Version(self._pin.version)
        """The version that everything handed out leads to."""
        self.tick = Tick(self._pin.tick)
        self._cut: dict[tuple[Version, Any, int], Cut] = {}
        self._digest = NO_DIGEST
        self._window = -1
        self._in_window = 0
        self.encoded = 0
        self.encoded_bytes = 0
        self.shared = 0
        self.digests_computed = 0

    @property
    def pin(self) -> Pin:
        return self._pin

    def refresh(self) -> bool:
        """Take the newest published version. True if it is another one than before."""
        if self._kernel.published_version == self.version:
            return False
        old = self._pin
        self._pin = self._kernel.acquire()
        old.release()
        self.version, self.tick = Version(self._pin.version), Tick(self._pin.tick)
        self._cut.clear()
        self._digest = NO_DIGEST
        return True

    def delta(self, base: Version) -> Cut | None:
        """Everything that changed in `(base, version]`, or None if that is too big for one frame.

        Raises:
            HistoryGone: what changed since `base` is not kept any more; cut from 0.
        """
        if base == EMPTY_VERSION:
            delta = self._cut_once(base, None, FULL_SYNC_BYTES_MIN)
            return delta if delta.cursor is None else None
        delta = self._whole(base)
        return delta if delta.length <= FULL_SYNC_BYTES_MIN else None

    def closing_delta(self, base: Version) -> Cut | None:
        """The same for the delta that closes a sync, which may be larger: what does not fit costs another round, and a
        world that changes faster than the rounds go would never be seen.

        Raises:
            HistoryGone: what changed since `base` is not kept any more; cut from 0.
        """
        delta = self._whole(base)
        return delta if delta.length <= CLOSING_DELTA_BYTES_MAX else None

    def chunk(self, base: Version, cursor: Any) -> Cut:
        """The next part of `(base, version]`, from `cursor` on (None: from the beginning).

        The cursor names a place in the order of keys and outlives this version: the next chunk may be cut from a newer.

        Raises:
            HistoryGone: what changed since `base` is not kept any more; begin again, from 0.
        """
        # The join that turned out too big for one frame is the first chunk of the sync that it became.
        return self._cut_once(base, cursor, FULL_SYNC_BYTES_MIN if cursor is None else SYNC_CHUNK_BYTES)

    def digest_in(self, window: int) -> Digest:
        """The digest of the replicated tables in this version, or `NO_DIGEST` where enough versions of this window have
        one: it costs a scan of everything, and clients that joined at different times must not each have their own."""
        if self._digest == NO_DIGEST:
            if window != self._window:
                self._window = window
                self._in_window = 0
            if self._in_window >= _DIGESTS_IN_WINDOW_MAX:
                return NO_DIGEST
            self._in_window += 1
            digest = self._pin.digest()
            self._digest = (int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little"))
            self.digests_computed += 1
        return self._digest

    def close(self) -> None:
        self._cut.clear()
        self._pin.release()

    def _whole(self, base: Version) -> Cut:
        # Without a budget: the kernel reckons with what a row may need at worst, several times what a moved row needs,
        # and would cut in two what is far below the limit. What is above it costs one copy, once for all who need it.
        return self._cut_once(base, None, 0)

    def _cut_once(self, base: Version, cursor: Any, budget_bytes: int) -> Cut:
        assert base <= self.version, (base, self.version)
        key = (base, cursor, budget_bytes)
        cut = self._cut.get(key)
        if cut is not None:
            self.shared += 1
            return cut
        delta = self._kernel.delta(self._pin, base, cursor, budget_bytes)
        tail = padding(len(delta.block))
        cut = Cut(delta.block, tail, len(delta.block) + len(tail), delta.cursor)
        self._cut[key] = cut
        self.encoded += 1
        self.encoded_bytes += len(delta.block)
        return cut
