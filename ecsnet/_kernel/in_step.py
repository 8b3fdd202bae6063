"""The kernel's side of links that keep up (`kernel/zig/in_step.zig`): rows in memory of ours, gone through in one call.

Numbers in, numbers out; what a row means is `ecsnet.authority.in_step`'s matter, and what it does is `Window`'s.

Invariant: what a call gives lies in memory of these rows, and is valid until the next call.
"""

import ctypes
from collections.abc import Sequence
from functools import cache
from struct import Struct
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecsnet._kernel.hub import ARRIVED, ENTRY
from ecsnet._kernel.library import load
from ecsnet.errors import InternalError
from ecsnet.limits import (
    BLOCKED_NS_MAX,
    CLIENTS_MAX,
    UNACKED_BYTES_MAX,
    UNACKED_BYTES_MIN,
    UNACKED_FASTEST_FOR_NS,
    UNACKED_NS_MAX,
    UNACKED_QUEUE_NS,
    UNACKED_VERSIONS_MAX,
)

__all__ = ["NONE", "ROW", "SENT", "Chosen", "Kind", "Rows", "Tick"]

NONE: Final = -1
"""In a row: no ack yet; not blocked."""

ROW: Final = Struct("<7Q15q3Q5II")
"""A row before its deltas that are under way: place, session, entity, base, acked, newest, shrunk at; lag, bytes,
fullest, bytes allowed, overdue, fastest, next fastest and since when, progress, blocked since, digest window, next
event, deadline, silence, last heard; deltas sent, bytes sent, acks; epoch, command ack, group, and where in the ring of
`SENT` those under way begin and how many there are."""
SENT: Final = Struct("<Qqq")
"""A delta under way: version, when it was handed over, its bytes."""

_ROW_BYTES: Final = ROW.size + UNACKED_VERSIONS_MAX * SENT.size
_LIMITS: Final = Struct("<6q").pack(
    UNACKED_BYTES_MAX, UNACKED_BYTES_MIN, UNACKED_NS_MAX, UNACKED_QUEUE_NS, UNACKED_FASTEST_FOR_NS, BLOCKED_NS_MAX
)
_TICK: Final = Struct("<Qqqq")
_KINDS_MAX: Final = 64
_KIND: Final = np.dtype([("base", "<u8"), ("group", "<u4"), ("wants_digest", "<u4")])
_OUT: Final = Struct("<4Q4I")
_INDEX: Final = np.dtype([("place", "<u8"), ("row", "<u8")])
_ROWS_FIRST: Final = 64


class Tick(NamedTuple):
    """What rows are gone through for: the version that deltas lead to, the time, and up to where digests and messages
    of event rows are."""

    version: int
    now_ns: int
    digest_window: int
    events_end: int


class Kind(NamedTuple):
    """Deltas that have all but their head in common."""

    base: int
    group: int
    wants_digest: bool


class Chosen(NamedTuple):
    """Entries whose `block` is the number of one of `kinds`, the rows they are for, and the rows that want something
    else than a delta."""

    entries: NDArray[np.void]
    rows: NDArray[np.uint32]
    kinds: list[Kind]
    odd: list[int]


@cache
def _functions() -> Any:
    # No call takes longer than giving the GIL up and taking it back.
    loaded = load()
    library = ctypes.PyDLL(loaded._name, handle=loaded._handle)
    pointer, u32, i64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int64
    library.ecs_in_step_layout.restype = u32
    library.ecs_in_step_choose.argtypes = (pointer, u32, pointer, pointer, pointer)
    library.ecs_in_step_choose.restype = None
    library.ecs_in_step_record.argtypes = (pointer, u32, pointer, pointer, pointer, pointer, u32)
    library.ecs_in_step_record.restype = None
    library.ecs_in_step_acks.argtypes = (pointer, u32, pointer, u32, pointer, u32, i64, pointer, pointer)
    library.ecs_in_step_acks.restype = u32
    library.ecs_in_step_slow.argtypes = (pointer, u32, i64, pointer, pointer)
    library.ecs_in_step_slow.restype = u32
    expected, found = _ROW_BYTES | ROW.size << 16, library.ecs_in_step_layout()
    if found != expected:
        raise InternalError(f"the kernel's rows of links have {found:#x} bytes, not {expected:#x}")
    return library


class Rows:
    """Rows by number. A free one has place 0."""

    __slots__ = ("_at", "_entries", "_free", "_index", "_kinds", "_library", "_memory", "_numbers", "_odd", "count")

    def __init__(self) -> None:
        self._library = _functions()
        self.count = 0
        """Rows that are in use."""
        self._free: list[int] = []
        self._index = np.empty(0, _INDEX)
        self._kinds = np.zeros(_KINDS_MAX, _KIND)
        self._memory = bytearray()
        self._make_room(_ROWS_FIRST)

    def _make_room(self, rows: int) -> None:
        had = len(self._memory) // _ROW_BYTES
        assert rows <= max(CLIENTS_MAX, _ROWS_FIRST), rows
        # A new array: the old one may be lent out.
        self._memory = self._memory + bytearray((rows - had) * _ROW_BYTES)
        self._at = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._free += range(rows - 1, had - 1, -1)
        self._entries = np.zeros(rows, ENTRY)
        self._numbers = np.zeros(rows, np.uint32)
        self._odd = np.zeros(rows, np.uint32)

    def put(self, head: Sequence[int], sent: Sequence[tuple[int, int, int]]) -> int:
        """Fill a free row with what `ROW` has, up to `group`, and its deltas under way, oldest first; its number."""
        assert head[0] > 0 and len(sent) <= UNACKED_VERSIONS_MAX
        if not self._free:
            had = len(self._memory) // _ROW_BYTES
            self._make_room(min(2 * had, max(CLIENTS_MAX, had + 1)))
        row = self._free.pop()
        at = row * _ROW_BYTES
        ROW.pack_into(self._memory, at, *head, 0, len(sent), 0)
        for number, one in enumerate(sent):
            SENT.pack_into(self._memory, at + ROW.size + number * SENT.size, *one)
        place = head[0]
        # Not as a signed number: numpy would compare as floats, in which great places are all alike.
        where = int(np.searchsorted(self._index["place"], np.uint64(place)))
        self._index = np.insert(self._index, where, np.array([(place, row)], _INDEX))
        self.count += 1
        return row

    def take(self, row: int) -> tuple[tuple[int, ...], list[tuple[int, int, int]]]:
        """What a row has come to, as it was `put`; it is free from then on."""
        at = row * _ROW_BYTES
        *head, first, count, _ = ROW.unpack_from(self._memory, at)
        sent = [
            SENT.unpack_from(self._memory, at + ROW.size + (first + number) % UNACKED_VERSIONS_MAX * SENT.size)
            for number in range(count)
        ]
        where = int(np.searchsorted(self._index["place"], np.uint64(head[0])))
        self._index = np.delete(self._index, where)
        self._memory[at : at + 8] = bytes(8)
        self._free.append(row)
        self.count -= 1
        return tuple(head), sent

    def choose(self, tick: Tick) -> Chosen:
        """A delta for each row that holds less than the tick's version and has room."""
        rows = len(self._memory) // _ROW_BYTES
        out = bytearray(
            _OUT.pack(
                self._entries.ctypes.data,
                self._numbers.ctypes.data,
                self._kinds.ctypes.data,
                self._odd.ctypes.data,
                _KINDS_MAX,
                0,
                0,
                0,
            )
        )
        lent = ctypes.c_char.from_buffer(out)
        self._library.ecs_in_step_choose(self._at, rows, _TICK.pack(*tick), _LIMITS, ctypes.addressof(lent))
        *_, kinds, count, odd = _OUT.unpack(out)
        return Chosen(
            self._entries[:count],
            self._numbers[:count],
            [Kind(base, group, bool(wants)) for base, group, wants in self._kinds[:kinds].tolist()],
            self._odd[:odd].tolist(),
        )

    def record(self, tick: Tick, entries: NDArray[np.void], rows: NDArray[np.uint32], taken: NDArray[np.int32]) -> None:
        """What came of entries, by how many bytes of each were taken."""
        assert len(entries) == len(rows) == len(taken)
        self._library.ecs_in_step_record(
            self._at,
            len(self._memory) // _ROW_BYTES,
            _TICK.pack(*tick),
            entries.ctypes.data,
            rows.ctypes.data,
            taken.ctypes.data,
            len(rows),
        )

    def take_acks(self, acks: NDArray[np.void], now_ns: int) -> NDArray[np.void]:
        """Take those that are ordinary, and are for a row; the others are given back as they came."""
        assert acks.dtype == ARRIVED and acks.flags.c_contiguous
        odd = np.empty(len(acks), np.uint32)
        count = self._library.ecs_in_step_acks(
            self._at,
            len(self._memory) // _ROW_BYTES,
            self._index.ctypes.data,
            len(self._index),
            acks.ctypes.data,
            len(acks),
            now_ns,
            _LIMITS,
            odd.ctypes.data,
        )
        return acks[odd[:count]]

    def slow(self, now_ns: int) -> list[int]:
        """Rows of clients that have been silent, took nothing or acked nothing for too long."""
        rows = len(self._memory) // _ROW_BYTES
        count = self._library.ecs_in_step_slow(self._at, rows, now_ns, _LIMITS, self._odd.ctypes.data)
        numbers: list[int] = self._odd[:count].tolist()
        return numbers
