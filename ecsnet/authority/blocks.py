"""The encoded deltas up to the newest published version: each cut once, whoever needs it.

Clients that keep up have equal bases, so a tick costs one encoding and not one for each of them; what differs between
two clients is the 112 bytes in front of the block. A client that is behind costs one more encoding, once for all that
are behind by as much.

Who is sent the same view of the world shares one `Blocks`; a session with a view of its own has its own.

Where the schema rounds what it sends, the versions before the newest stay pinned, too (`head`): what a link that loses
nothing is sent is the difference to the one that it was handed last, which takes less than half of what the values do.

Invariants:
- everything here belongs to the head's version, and all of it goes when that is a newer one;
- nothing is kept for anybody's sake: a client that comes back later gets a delta that is cut then.
"""

from typing import Any, NamedTuple, Protocol

from ecsnet._kernel.kernel import Delta, KernelStore, Pin
from ecsnet.authority.head import Head
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


class Cut(NamedTuple):
    """One encoded block with the bytes that follow it in a frame. `cursor` is where the next part begins, None at the
    end."""

    block: bytes
    padding: bytes
    length: int
    cursor: tuple[int, int] | None

    @property
    def says_nothing(self) -> bool:
        """Whether it is a block of no table: nothing has changed, or not for this view."""
        return self.block[2:4] == b"\0\0"


class Source(Protocol):
    """Where blocks are cut: the whole store, or one view of it."""

    relative: bool
    """Whether its deltas may be differences to a reference."""

    def delta(self, pin: Pin, base: int, cursor: Any, budget_bytes: int, reference: Pin | None, planes: bool) -> Delta:
        """As `KernelStore.delta`."""
        ...

    def digest(self, pin: Pin) -> bytes:
        """The 16 bytes that a replica has which holds all of it."""
        ...

    def waiting(self) -> int:
        """How many rows a budget left out of the delta that was cut last."""
        ...


class WholeStore:
    """Every replicated table, as those are sent it from whom nothing is hidden."""

    __slots__ = ("_kernel", "relative")

    def __init__(self, kernel: KernelStore) -> None:
        self._kernel = kernel
        self.relative = True

    def delta(self, pin: Pin, base: int, cursor: Any, budget_bytes: int, reference: Pin | None, planes: bool) -> Delta:
        return self._kernel.delta(pin, base, cursor, budget_bytes, reference, planes)

    def digest(self, pin: Pin) -> bytes:
        return pin.digest(wire=True)

    def waiting(self) -> int:
        return 0


class Blocks:
    """Deltas from any base to the newest published version, of one view of a store."""

    __slots__ = (
        "_cut",
        "_digest",
        "_head",
        "_in_window",
        "_last_base",
        "_last_delta",
        "_number",
        "_parts",
        "_parts_budget_bytes",
        "_small",
        "_source",
        "_window",
    )

    def __init__(self, head: Head, source: Source) -> None:
        self._head = head
        self._source = source
        self._number = head.number
        """Of the head that what is kept here is of."""
        self._cut: dict[tuple[Version, Any, int, bool, bool], Cut] = {}
        self._small: dict[int, tuple[Cut, Cut]] = {}
        """By the address of a cut: the cut, and what it became."""
        self._parts: dict[Version, tuple[Cut, ...] | None] = {}
        self._parts_budget_bytes = 4 * PART_BYTES_MAX
        self._last_base: int = NOT_A_VERSION
        self._last_delta: Cut | None = None
        self._digest = NO_DIGEST
        self._window = -1
        self._in_window = 0

    @property
    def version(self) -> Version:
        """The version that everything handed out leads to."""
        return self._head.version

    @property
    def newest(self) -> bytes | None:
        """The block of the newest delta that fitted one frame; it may lead to an older version than this one."""
        return None if self._last_delta is None else self._last_delta.block

    @property
    def tick(self) -> Tick:
        """The tick that made it."""
        return self._head.tick

    def forget(self) -> None:
        """What was cut is no longer what would be cut."""
        self._number = self._head.number
        self._cut.clear()
        self._small.clear()
        self._parts.clear()
        self._last_base = NOT_A_VERSION
        self._digest = NO_DIGEST

    def _follow(self) -> None:
        if self._number != self._head.number:
            self.forget()

    def delta(self, base: Version, *, held: bool = True, plain: bool = False) -> Cut | None:
        """Everything that changed in `(base, version]`, or None if that is too big for one frame.

        Args:
            held: whoever gets it will hold `base` when it comes, and nothing newer. So it is on a link that loses
                nothing, and keeps the order.
            plain: of a full sync: nobody will compress it.

        Raises:
            HistoryGone: what changed since `base` is not kept any more; cut from 0.
        """
        self._follow()
        if base == self._last_base and held:
            self._head.shared += 1
            return self._last_delta
        if base == EMPTY_VERSION:
            delta = self._cut_once(base, None, FULL_SYNC_BYTES_MIN, plain=plain)
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
        self._follow()
        if base in self._parts:
            self._head.shared += 1
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

    def chunk(self, base: Version, cursor: Any, *, plain: bool = False) -> Cut:
        """The next part of `(base, version]`, from `cursor` on (None: from the beginning); not compressed if `plain`.

        The cursor names a place in the order of keys and outlives this version: the next chunk may be cut from a newer.

        Raises:
            HistoryGone: what changed since `base` is not kept any more; begin again, from 0.
        """
        # The join that turned out too big for one frame is the first chunk of the sync that it became.
        budget_bytes = FULL_SYNC_BYTES_MIN if cursor is None else SYNC_CHUNK_BYTES
        return self._cut_once(base, cursor, budget_bytes, plain=plain)

    def compressed(self, cut: Cut) -> Cut:
        """The same for those who read compressed blocks; once for all of them."""
        known = self._small.get(id(cut))
        if known is not None:
            return known[1]
        block = self._head.compressor.compress(cut.block)
        tail = padding(len(block))
        small = cut if block is cut.block else Cut(block, tail, len(block) + len(tail), cut.cursor)
        self._small[id(cut)] = (cut, small)
        return small

    @property
    def knows_digest(self) -> bool:
        """Whether `digest_in` costs nothing, since this version's digest was asked for before."""
        self._follow()
        return self._digest != NO_DIGEST

    def is_late_for_digest(self, window: int) -> bool:
        """Whether this version's digest would be a scan for somebody who was not there when the window's was told."""
        return not self.knows_digest and window == self._window and self._in_window > 0

    def digest_in(self, window: int) -> Digest:
        """The digest of the replicated tables in this version, or `NO_DIGEST` where enough versions of this window have
        one: it costs a scan of everything, and clients that joined at different times must not each have their own."""
        self._follow()
        if self._digest == NO_DIGEST:
            if window != self._window:
                self._window = window
                self._in_window = 0
            if self._in_window >= _DIGESTS_IN_WINDOW_MAX:
                return NO_DIGEST
            self._in_window += 1
            digest = self._source.digest(self._head.pin)
            self._digest = (int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little"))
            self._head.digests_computed += 1
        return self._digest

    def digest(self) -> bytes:
        """The digest of this version, whatever it costs."""
        return self._source.digest(self._head.pin)

    def waiting(self) -> int:
        """How many rows a budget left out of the delta that was cut last: then it is partial, and has no digest."""
        return self._source.waiting()

    def whole(self, base: Version) -> Cut:
        """Everything that changed in `(base, version]`, however big it is.

        Raises:
            HistoryGone: what changed since `base` is not kept any more; cut from 0.
        """
        # Without a budget: the kernel reckons with what a row may need at worst, several times what a moved row needs,
        # and would cut in two what is far below the limit. What is above it costs one copy, once for all who need it.
        return self._cut_once(base, None, 0)

    def _cut_once(self, base: Version, cursor: Any, budget_bytes: int, held: bool = False, plain: bool = False) -> Cut:
        assert base <= self.version, (base, self.version)
        self._follow()
        reference = self._head.reference(base) if held and self._source.relative else None
        planes = self._head.compresses and not plain
        key = (base, cursor, budget_bytes, reference is not None, planes)
        cut = self._cut.get(key)
        if cut is not None:
            self._head.shared += 1
            return cut
        cut = self._cut[key] = self._cut_anew(base, cursor, budget_bytes, planes, reference)
        return cut

    def _cut_in_parts(self, base: Version) -> tuple[Cut, ...] | None:
        """The kernel's budget reckons with what a row may need at worst. How much less it needs is learned from part to
        part, and from delta to delta."""
        cuts: list[Cut] = []
        cursor, budget_bytes = None, self._parts_budget_bytes
        while len(cuts) < DELTA_PARTS_MAX:
            cut = self._cut_anew(base, cursor, budget_bytes, self._head.compresses)
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

    def _cut_anew(
        self, base: Version, cursor: Any, budget_bytes: int, planes: bool, reference: Pin | None = None
    ) -> Cut:
        head = self._head
        delta = self._source.delta(head.pin, base, cursor, budget_bytes, reference, planes)
        tail = padding(len(delta.block))
        head.encoded += 1
        head.encoded_bytes += len(delta.block)
        return Cut(delta.block, tail, len(delta.block) + len(tail), delta.cursor)
