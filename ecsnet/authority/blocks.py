"""The encoded deltas up to the newest published version: each cut once, whoever needs it.

Clients that keep up have equal bases, so a tick costs one encoding and not one for each of them; what differs between
two clients is the 112 bytes in front of the block. A client that is behind costs one more encoding, once for all that
are behind by as much.

Where the schema rounds what it sends, the versions before the newest stay pinned, too: what a link that loses nothing
is sent is the difference to the one that it was handed last, which takes less than half of what the values do.

Invariants:
- everything here belongs to one pinned version, and all of it goes when a newer one is taken;
- nothing is kept for anybody's sake: a client that comes back later gets a delta that is cut then;
- no publication waits for what is pinned here: `yield_pins` lets go of all but the newest.
"""

from collections import deque
from typing import Any, NamedTuple

from ecsnet._kernel.kernel import KernelStore, Pin
from ecsnet.ids import EMPTY_VERSION, Tick, Version
from ecsnet.limits import CLOSING_DELTA_BYTES_MAX, DELTA_PARTS_MAX, FULL_SYNC_BYTES_MIN, SYNC_CHUNK_BYTES
from ecsnet.wire.codec import DELTA_HEAD_BYTES, padding
from ecsnet.wire.datagrams import FRAMES_BYTES_MAX

Digest = tuple[int, int]
"""Low and high half of a digest; (0, 0) on the wire is none."""

NO_DIGEST: Digest = (0, 0)

NOT_A_VERSION = -1

_DIGESTS_IN_WINDOW_MAX = 4
"""Clients that get each version share the first of a window; three more are for those that missed it."""


PART_BYTES_MAX = FRAMES_BYTES_MAX - DELTA_HEAD_BYTES
"""What a datagram has for the block of a delta's part, with its padding."""

_BUDGET_BYTES_MIN = 64

_REFERENCES_MAX = 2
"""Versions before the newest that deltas may be relative to. Who keeps up is one behind; each costs the buffers of the
columns that changed since."""


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
        "_last_base",
        "_last_delta",
        "_parts",
        "_parts_budget_bytes",
        "_pin",
        "_references",
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
        self._references: deque[Pin] | None = deque() if _rounds(kernel) else None
        """Oldest first. None where no schema's field is rounded: integers alone gain too little by it."""
        self._cut: dict[tuple[Version, Any, int, bool], Cut] = {}
        self._parts: dict[Version, tuple[Cut, ...] | None] = {}
        self._parts_budget_bytes = 4 * PART_BYTES_MAX
        self._last_base: int = NOT_A_VERSION
        self._last_delta: Cut | None = None
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
        if self._references is None or old.version == EMPTY_VERSION:
            old.release()
        else:
            self._references.append(old)
            if len(self._references) > _REFERENCES_MAX:
                self._references.popleft().release()
        self.version, self.tick = Version(self._pin.version), Tick(self._pin.tick)
        self._cut.clear()
        self._parts.clear()
        self._last_base = NOT_A_VERSION
        self._digest = NO_DIGEST
        return True

    def yield_pins(self) -> None:
        """Let go of all versions but the newest, if a publication was put off for what is pinned. Where it only waits
        for the disk they stay."""
        if self._references and self._kernel.statistics().pressure:
            self._drop_references()

    def _drop_references(self) -> None:
        while self._references:
            self._references.popleft().release()

    def delta(self, base: Version, *, held: bool = True) -> Cut | None:
        """Everything that changed in `(base, version]`, or None if that is too big for one frame.

        Args:
            held: whoever gets it will hold `base` when it comes, and nothing newer. So it is on a link that loses
                nothing, and keeps the order.

        Raises:
            HistoryGone: what changed since `base` is not kept any more; cut from 0.
        """
        if base == self._last_base and held:
            self.shared += 1
            return self._last_delta
        if base == EMPTY_VERSION:
            delta = self._cut_once(base, None, FULL_SYNC_BYTES_MIN)
            return delta if delta.cursor is None else None
        delta = self._cut_once(base, None, 0, held)
        found = delta if delta.length <= FULL_SYNC_BYTES_MIN else None
        if held:
            # The next client most likely wants the same.
            self._last_base, self._last_delta = base, found
        return found

    def closing_delta(self, base: Version) -> Cut | None:
        """The same for the delta that closes a sync, which may be larger: what does not fit costs another round, and a
        world that changes faster than the rounds go would never be seen.

        Raises:
            HistoryGone: what changed since `base` is not kept any more; cut from 0.
        """
        delta = self.whole(base)
        return delta if delta.length <= CLOSING_DELTA_BYTES_MAX else None

    def parts(self, base: Version) -> tuple[Cut, ...] | None:
        """The same cut by rows into parts that fit a datagram each, or None if there would be too many of them. Asked
        again for the same base and version it gives the same parts: those of two sendings may be mixed.

        Raises:
            HistoryGone: what changed since `base` is not kept any more; cut from 0.
        """
        if base in self._parts:
            self.shared += 1
            return self._parts[base]
        whole = self.whole(base)
        if whole.length <= PART_BYTES_MAX:
            parts: tuple[Cut, ...] | None = (whole,)
        elif whole.length > DELTA_PARTS_MAX * PART_BYTES_MAX:
            parts = None
        else:
            parts = self._cut_in_parts(base)
        self._parts[base] = parts
        return parts

    def chunk(self, base: Version, cursor: Any) -> Cut:
        """The next part of `(base, version]`, from `cursor` on (None: from the beginning).

        The cursor names a place in the order of keys and outlives this version: the next chunk may be cut from a newer.

        Raises:
            HistoryGone: what changed since `base` is not kept any more; begin again, from 0.
        """
        # The join that turned out too big for one frame is the first chunk of the sync that it became.
        return self._cut_once(base, cursor, FULL_SYNC_BYTES_MIN if cursor is None else SYNC_CHUNK_BYTES)

    @property
    def knows_digest(self) -> bool:
        """Whether `digest_in` costs nothing, since this version's digest was asked for before."""
        return self._digest != NO_DIGEST

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
            digest = self._pin.digest(wire=True)
            self._digest = (int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little"))
            self.digests_computed += 1
        return self._digest

    def whole(self, base: Version) -> Cut:
        """Everything that changed in `(base, version]`, however big it is.

        Raises:
            HistoryGone: what changed since `base` is not kept any more; cut from 0.
        """
        # Without a budget: the kernel reckons with what a row may need at worst, several times what a moved row needs,
        # and would cut in two what is far below the limit. What is above it costs one copy, once for all who need it.
        return self._cut_once(base, None, 0)

    def close(self) -> None:
        self._drop_references()
        self._cut.clear()
        self._pin.release()

    def _reference(self, base: Version) -> Pin | None:
        for pin in self._references or ():
            if pin.version == base:
                return pin
        return None

    def _cut_once(self, base: Version, cursor: Any, budget_bytes: int, held: bool = False) -> Cut:
        assert base <= self.version, (base, self.version)
        reference = self._reference(base) if held else None
        key = (base, cursor, budget_bytes, reference is not None)
        cut = self._cut.get(key)
        if cut is not None:
            self.shared += 1
            return cut
        cut = self._cut[key] = self._cut_anew(base, cursor, budget_bytes, reference)
        return cut

    def _cut_in_parts(self, base: Version) -> tuple[Cut, ...] | None:
        """The kernel's budget reckons with what a row may need at worst. How much less it needs is learned from part to
        part, and from delta to delta."""
        cuts: list[Cut] = []
        cursor, budget_bytes = None, self._parts_budget_bytes
        while len(cuts) < DELTA_PARTS_MAX:
            cut = self._cut_anew(base, cursor, budget_bytes)
            fitting = budget_bytes * PART_BYTES_MAX * 9 // (10 * cut.length)
            if cut.length > PART_BYTES_MAX:
                if budget_bytes <= _BUDGET_BYTES_MIN:
                    return None  # one row alone is too big
                budget_bytes = max(_BUDGET_BYTES_MIN, min(fitting, budget_bytes // 2 if cuts else fitting))
                continue
            cuts.append(cut)
            cursor = cut.cursor
            if cursor is None:
                return tuple(cuts)
            budget_bytes = self._parts_budget_bytes = max(_BUDGET_BYTES_MIN, fitting)
        return None

    def _cut_anew(self, base: Version, cursor: Any, budget_bytes: int, reference: Pin | None = None) -> Cut:
        delta = self._kernel.delta(self._pin, base, cursor, budget_bytes, reference)
        tail = padding(len(delta.block))
        self.encoded += 1
        self.encoded_bytes += len(delta.block)
        return Cut(delta.block, tail, len(delta.block) + len(tail), delta.cursor)


def _rounds(kernel: KernelStore) -> bool:
    return any(field.quantize for table in kernel.schema.tables for field in table.fields)
