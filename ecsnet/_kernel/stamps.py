"""Tables that several nodes write (`conflict = "lww"`), as the rest of ecsnet uses them: cells that say who wrote them
and when, what one node tells another of them, and how that is merged. `kernel/zig/stamps.zig` says by which rule.

Invariant: whatever is merged, in whatever order and however often, two stores that took in the same hold the same.
"""

import ctypes
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecsnet._kernel import abi
from ecsnet._kernel.memory import array
from ecsnet._kernel.pin import Pin
from ecsnet._kernel.records import HistoryGone
from ecsnet.errors import ArgumentError, RemoteProtocolError

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore

CLOCKS_TABLE: Final = 14
TOMBSTONES_TABLE: Final = 15
UNIX_MS_MAX: Final = (1 << 47) - 1
_MS_SHIFT: Final = 16


class Whose(IntEnum):
    """Whose writes are told."""

    OWN = 0
    NOT_THEIRS = 1
    """All but those of the node that is told."""
    ALL = 2


class Told(NamedTuple):
    """A block of what was written, b"" where that is nothing, and where the next part begins: None at the end."""

    block: bytes
    cursor: tuple[int, int, int] | None


class Merged(NamedTuple):
    """What a block came to: cells in it, those that were newer than what was here, rows that came to be and that went,
    deletions that were told, and the greatest time among them."""

    cells: int
    taken: int
    inserted: int
    deleted: int
    tombstones: int
    newest: int


def hlc_of(unix_ms: int) -> int:
    """The first time of the hybrid logical clock in that millisecond."""
    return unix_ms << _MS_SHIFT


class Stamps:
    """The stamps of one store, which writes as one node from here on.

    Args:
        kernel: the store. Its baton must be had.
        node: a number that no other node has, of which there are copies of these tables.

    Raises:
        ArgumentError: `node` is not in [1, 2**64), or no table of the schema has `conflict = "lww"`.
    """

    __slots__ = ("_encoder", "_kernel", "_library", "node")

    def __init__(self, kernel: "KernelStore", node: int) -> None:
        if not 1 <= node < 1 << 64:
            raise ArgumentError(f"a node is a number from 1 to 2**64 - 1, found {node}")
        if not any(table.conflict == "lww" for table in kernel.schema.tables):
            name = kernel.schema.name
            raise ArgumentError(f'no table of schema {name!r} has conflict = "lww": nothing that several nodes write')
        self._kernel = kernel
        self._library = kernel._library
        self.node = node
        kernel._check(self._library.ecs_stamps_node(kernel._pointer, node))
        self._encoder: ctypes.c_void_p | None = ctypes.c_void_p(self._library.ecs_encoder_create())

    def close(self) -> None:
        """Give memory back. Again is harmless; nothing else may be called after."""
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            self._library.ecs_encoder_destroy(encoder)

    def tell_time(self, unix_ms: int) -> None:
        """It is so many milliseconds since 1970 (UTC). Needs the baton. Told an earlier time than before, the clock
        counts on from where it is; without ever being told it counts from 0, which is an order too, but nothing of
        others is taken in then: all of it would be in the future."""
        if not 0 <= unix_ms <= UNIX_MS_MAX:
            raise ArgumentError(f"unix_ms is {unix_ms}; it must be in [0, 2**47)")
        self._kernel._check(self._library.ecs_stamps_now(self._kernel._pointer, unix_ms))

    @property
    def clock(self) -> int:
        """The newest time of the hybrid logical clock: unix ms * 65536 + a count."""
        clock: int = self._library.ecs_stamps_clock(self._kernel._pointer)
        return clock

    def cut(
        self,
        pin: Pin,
        base: int,
        whose: Whose,
        other: int = 0,
        cursor: tuple[int, int, int] | None = None,
        budget_bytes: int = 0,
    ) -> Told:
        """What was written in `(base, pin.version]`; with a budget, at most about so many bytes, from `cursor` on.

        Args:
            other: the node that is told, for `Whose.NOT_THEIRS`.

        Raises:
            HistoryGone: the change sets do not reach back to `base`; cut from 0.
        """
        where = abi.StampsCursor(*(cursor or (0, 0, 0)), 0)
        address, length = ctypes.c_uint64(), ctypes.c_uint64()
        status = self._library.ecs_stamps_cut(
            self._kernel._pointer, pin.slot, base, whose, other, where, budget_bytes, self._encoder, address, length
        )
        if status == abi.STATUS["HistoryGone"]:
            raise HistoryGone(base)
        self._kernel._check(status)
        block = ctypes.string_at(address.value, length.value) if length.value else b""
        return Told(block, None if where.done else (where.table, where.row, where.grave))

    def merge(self, block: bytes) -> Merged:
        """Take in what another node told, in an open transaction that has nothing else. All or nothing.

        Raises:
            StampAheadError: a stamp is further in the future than clocks may differ.
            RemoteProtocolError: the block is malformed, or a value of it breaks a rule of the schema.
            LimitExceededError: a table has no room for a row of it.
        """
        out = abi.Merged()
        status = self._library.ecs_stamps_merge(self._kernel._pointer, block, len(block), out)
        if status < 0:
            error = self._kernel.failed(status)
            if status == abi.STATUS["BadBlock"]:
                info = self._kernel._failures.info
                what = abi.REASONS[info.reason] if info.reason < len(abi.REASONS) else str(info.reason)
                raise RemoteProtocolError(f"what another node told is malformed at byte {info.offset}: {what}")
            if status in (abi.STATUS["Range"], abi.STATUS["Enum"], abi.STATUS["Text"], abi.STATUS["BadArgument"]):
                raise RemoteProtocolError(f"what another node told was refused: {error}")
            raise error
        return Merged(*(getattr(out, name) for name in Merged._fields))

    def forget(self, before: int) -> int:
        """Forget deletions that are older than this time of the clock, in an open transaction; how many they were. A
        node that was away for longer may bring back what was deleted."""
        keys, times = self._kernel.head_table(TOMBSTONES_TABLE).keys, self._kernel.lend(TOMBSTONES_TABLE, 0, False)
        old = keys[times < before].copy()
        if len(old):
            self._kernel.delete_many(TOMBSTONES_TABLE, old)
        return len(old)

    def digest(self, pin: Pin) -> bytes:
        """16 bytes that two nodes share exactly when they hold the same rows, values and stamps (but for chance)."""
        out = (ctypes.c_uint64 * 2)()
        self._kernel._check(self._library.ecs_stamps_digest(self._kernel._pointer, pin.slot, out))
        return bytes(out)

    def column(self, pin: Pin, table_id: int, field_id: int) -> NDArray[Any]:
        """Who wrote each cell of a field, and when: shape (rows, 2), u64; the time of the clock, and the node.
        Read-only; (0, 0) is a default that nobody wrote. The version is held for as long as the array is."""
        address = self._library.ecs_stamps_column(self._kernel._pointer, pin.slot, table_id, field_id)
        if address == 0:
            raise ArgumentError(f"field {field_id} of table {table_id} has no stamps")
        stamps: NDArray[np.uint64] = array(address, "<u8", (pin.rows(table_id), 2), pin._hold)
        return stamps
