"""Pinned versions, and the handle that every pin keeps alive.

Invariant: an array over a version's memory holds the pin, a pin holds the handle, and the store's memory is freed by
whichever of them goes last, on whatever thread and in whatever order.
"""

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecsnet._kernel import abi
from ecsnet._kernel.memory import array
from ecsnet._kernel.records import HistoryGone
from ecsnet._kernel.texts import TextCells, Texts
from ecsnet.errors import ArgumentError, ClosedError

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore


class Handle:
    """The store itself. Whoever can still reach its memory holds this; the last one frees it.

    In a garbage cycle finalisers run in any order, this one before those of pins and transactions too. So it frees
    nothing while pins are out, and the last of those asks again; `pointer` is null once the memory is gone.
    """

    __slots__ = ("_library", "dropped", "pointer")

    def __init__(self, pointer: ctypes.c_void_p, library: ctypes.CDLL) -> None:
        self.pointer = pointer
        self._library = library
        self.dropped = False

    def __del__(self) -> None:
        self.dropped = True
        self.free()

    def free(self) -> None:
        if self.pointer.value is not None and self._library.ecs_store_destroy(self.pointer) == 0:
            self.pointer.value = None


class _Hold:
    """One pin on one slot, released when nobody holds this any more."""

    __slots__ = ("_release", "handle", "slot")

    def __init__(self, store: "KernelStore") -> None:
        self.handle = store._handle
        self._release = store._fast.ecs_view_release
        self.slot: int = store._fast.ecs_view_acquire(self.handle.pointer)

    def __del__(self) -> None:
        self._release(self.handle.pointer, self.slot)
        if self.handle.dropped:
            self.handle.free()


class Pin:
    """One published version, held. Arrays taken from it keep the version alive by themselves."""

    __slots__ = ("_hold", "_store", "_tables", "tick", "version")

    def __init__(self, store: "KernelStore") -> None:
        self._store = store
        self._hold: _Hold | None = _Hold(store)
        out = abi.ViewOut()
        store._fast.ecs_view_info(self._hold.handle.pointer, self._hold.slot, out)
        self.version: int = out.version
        self.tick: int = out.tick
        self._tables: dict[int, tuple[int, int, int, list[int]]] = {}

    def again(self) -> "Pin":
        """The same version, held for itself: it stays when this one is released."""
        pin = Pin.__new__(Pin)
        pin._store, pin._hold, pin._tables = self._store, self._hold, dict(self._tables)
        pin.version, pin.tick = self.version, self.tick
        return pin

    @property
    def slot(self) -> int:
        if self._hold is None:
            raise ClosedError("this view was closed")
        return self._hold.slot

    def _table(self, table_id: int) -> tuple[int, int, int, list[int]]:
        """Rows, structure number, address of the keys, addresses of the columns."""
        known = self._tables.get(table_id)
        if known is None:
            slot = self.slot
            store = self._store
            out = abi.TableOut()
            addresses = (ctypes.c_uint64 * max(1, len(store._fields[table_id])))()
            store._check(
                store._fast.ecs_view_table(store._handle.pointer, slot, table_id, out, ctypes.addressof(addresses))
            )
            known = (out.rows, out.struct_seq, out.keys, list(addresses))
            self._tables[table_id] = known
        return known

    def rows(self, table_id: int) -> int:
        """Rows of the table in this version."""
        return self._table(table_id)[0]

    def struct_seq(self, table_id: int) -> int:
        """Equal numbers mean the same keys in the same rows."""
        return self._table(table_id)[1]

    def keys(self, table_id: int) -> NDArray[np.uint64]:
        """The key of each row: read-only, without a copy, valid as long as it is held."""
        rows, _, keys, _ = self._table(table_id)
        assert self._hold is not None
        return array(keys, "<u8", (rows,), self._hold)

    def column(self, table_id: int, field_id: int) -> NDArray[Any]:
        """All cells of a field, shape `(rows, *cell shape)`: read-only, without a copy, valid as long as it is held."""
        rows, _, _, columns = self._table(table_id)
        position, field = self._store._fields[table_id][field_id]
        if self._hold is None:
            raise ClosedError("this view was closed")
        return array(columns[position], field.dtype.str, (rows, *field.shape), self._hold)

    def texts(self, table_id: int, field_id: int) -> Texts:
        """The strings of a field, whose cells `column` gives as references."""
        return Texts(self._store, self.column(table_id, field_id))

    def text_cells(self, table_id: int, field_id: int) -> TextCells:
        """The strings of a field by row, decoded as they are asked for."""
        return TextCells(self.column(table_id, field_id), self._store.text)

    def text(self, table_id: int, field_id: int, row: int) -> str:
        """One string of a field."""
        return self._store.text(int(self.column(table_id, field_id)[row]))

    def row(self, table_id: int, key: int) -> int:
        """The row of a key.

        Raises:
            StaleEntityError: it is not alive in this version. NoRowError: it is, and has no row here.
        """
        slot = self.slot
        if not 0 <= key < 1 << 64:
            raise ArgumentError(f"a key is a u64, found {key}")
        row: int = self._store._fast.ecs_view_row(self._store._handle.pointer, slot, table_id, key)
        if row < 0:
            raise self._store._failures.missing(row, table_id, key)
        return row

    def digest(self, *, wire: bool = False) -> bytes:
        """16 bytes that equal another store's exactly when the replicated tables hold the same bits. Scans them.

        Args:
            wire: of the cells as they travel, rounded as the schema says: what a replica's own digest is. The same
                where the schema rounds nothing.
        """
        out = (ctypes.c_uint64 * 2)()
        store = self._store
        scan = store._library.ecs_view_digest_wire if wire else store._library.ecs_view_digest
        scan(store._handle.pointer, self.slot, ctypes.addressof(out))
        return bytes(out)

    def touched(self, base: int) -> tuple[int, ...]:
        """The ids of the tables with changes in `(base, version]`, ascending. A table whose changes came to nothing may
        be among them.

        Raises:
            HistoryGone: the change sets do not reach back to `base`. ArgumentError: it is after this version.
        """
        slot = self.slot
        if not 0 <= base <= self.version:
            raise ArgumentError(f"expected a base in [0, {self.version}], found {base}")
        store = self._store
        out = (ctypes.c_uint16 * len(store._tables))()
        n = store._fast.ecs_view_touched(store._handle.pointer, slot, base, ctypes.addressof(out))
        if n == abi.STATUS["HistoryGone"]:
            raise HistoryGone(base)
        store._check(n)
        return tuple(out[:n])

    def kept_digest(self) -> bytes | None:
        """The same 16 bytes without a scan, if the store kept them when it published this version (`keep_digest`)."""
        out = (ctypes.c_uint64 * 2)()
        store = self._store
        kept = store._fast.ecs_view_digest_kept(store._handle.pointer, self.slot, ctypes.addressof(out))
        return bytes(out) if kept == 1 else None

    def release(self) -> None:
        """Let go. Arrays that somebody still holds keep the version until they go too. Again is harmless."""
        self._hold = None
        self._tables.clear()
