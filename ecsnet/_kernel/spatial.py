"""The kernel's spatial index, as an object: made for some columns of a table, brought to a version, searched in.

Invariants:
- nobody follows with an index while somebody else uses it: `store.spatial` sees to that;
- an index owns its memory, so it may outlive the store; what it is searched for, a pin or the baton keeps in place.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ecsnet._kernel import abi
from ecsnet.errors import InternalError, StorageError

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore
    from ecsnet._kernel.pin import Pin

__all__ = ["Kind", "SpatialIndex", "SpatialStatistics"]

_HEAD = -1


class Kind(IntEnum):
    """What a search asks for."""

    NEAR = 0
    WITHIN = 1
    NEAREST = 2


@dataclass(frozen=True, slots=True)
class SpatialStatistics:
    """Of one index: `cells` are those that have rows, `moves` the rows that came, went or changed cells since it was
    last filled anew, `fills` how often it was."""

    rows: int
    cells: int
    moves: int
    fills: int
    bytes: int


class SpatialIndex:
    """A grid over two or three float columns of one table. Serves nothing until `follow`."""

    __slots__ = ("__weakref__", "_library", "_pointer", "_quick", "_store")

    def __init__(
        self, store: "KernelStore", table_id: int, field_ids: Sequence[int], cell: float, *, pointer: int | None = None
    ) -> None:
        self._pointer = ctypes.c_void_p(pointer)
        self._store = store
        self._library = store._library
        # With the GIL kept, for what takes less time than giving it up.
        self._quick = store._fast
        if pointer is None:
            fields = (ctypes.c_uint16 * 3)(*field_ids)
            what = abi.SpatialIn(cell, table_id, len(field_ids), fields)
            status = self._library.ecs_spatial_create(store._pointer, what, self._pointer)
            if status == abi.STATUS["OutOfMemory"]:
                raise StorageError("out of memory while making a spatial index")
            if status < 0:
                raise InternalError(
                    f"the kernel refused a spatial index over fields {list(field_ids)} of table {table_id} with cells "
                    f"of {cell} (status {status})"
                )

    def __del__(self) -> None:
        # Absent where the constructor failed.
        if getattr(self, "_pointer", None):
            self._library.ecs_spatial_destroy(self._pointer)

    def copy(self) -> "SpatialIndex":
        """Another one of the same, to follow elsewhere. Nobody may be following with this one."""
        pointer = ctypes.c_void_p()
        self._check(self._library.ecs_spatial_copy(self._pointer, pointer))
        return SpatialIndex(self._store, 0, (), 0.0, pointer=pointer.value)

    def fits(self, pin: "Pin | None") -> bool:
        """Whether a search in this version, or (None) in the head, may use the index as it is."""
        return bool(self._quick.ecs_spatial_fits(self._pointer, self._store._pointer, _slot(pin)) == 1)

    def follow(self, pin: "Pin | None") -> None:
        """Bring the index to a version, or to the head. Raises StorageError: no memory; it then fits nothing."""
        self._check(self._library.ecs_spatial_follow(self._pointer, self._store._pointer, _slot(pin)))

    def search(
        self,
        pin: "Pin | None",
        kind: Kind,
        points: NDArray[np.float64],
        others: NDArray[np.float64] | None,
        k: int,
        allowed: NDArray[np.bool_] | None,
    ) -> tuple[NDArray[np.intp], NDArray[np.uint64]]:
        """Rows of one search after the other, and how many the searches up to each have found. The index must fit.

        Args:
            points: float64, C order, shape (searches, axes): centres, or lowest corners.
            others: float64, C order: a radius for each, or highest corners; None for the nearest.
            k: how many of the nearest.
            allowed: a bool for each row of the table, C order; None for all.
        """
        ends = np.empty(len(points), np.uint64)
        what = abi.SearchIn(
            kind,
            min(k, 0xFFFF_FFFF),
            len(points),
            points.ctypes.data,
            0 if others is None else others.ctypes.data,
            0 if allowed is None else allowed.ctypes.data,
            ends.ctypes.data,
        )
        out = abi.FoundOut()
        self._check(self._library.ecs_spatial_search(self._pointer, self._store._pointer, _slot(pin), what, out))
        if out.bytes == 0:
            return np.empty(0, np.intp), ends
        try:
            rows = np.ctypeslib.as_array((ctypes.c_uint32 * out.count).from_address(out.address)).astype(np.intp)
        finally:
            self._quick.ecs_memory_free(out.address, out.bytes)
        return rows, ends

    def statistics(self) -> SpatialStatistics:
        """Counts as of now. Nobody may be following with it."""
        out = abi.SpatialOut()
        self._quick.ecs_spatial_statistics(self._pointer, out)
        return SpatialStatistics(out.rows, out.cells, out.moves, out.fills, out.bytes)

    def _check(self, status: int) -> None:
        if status == abi.STATUS["OutOfMemory"]:
            raise StorageError(
                "out of memory in a spatial index; nothing was changed but the index, which is made anew"
            )
        if status < 0:
            raise InternalError(f"the kernel refused a spatial search (status {status})")


def _slot(pin: "Pin | None") -> int:
    return _HEAD if pin is None else pin.slot
