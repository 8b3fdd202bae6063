"""Bulk questions about rows: where those of many keys are, and which contents a version's columns have.

Invariant: nothing here changes the store; on a pin it may be asked from any thread.
"""

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore
    from ecsnet._kernel.pin import Pin

__all__ = ["NO_ROW", "column_cuts", "rows_of"]

NO_ROW: Final = 0xFFFF_FFFF
"""In place of a row's number: the table has no row for that key."""


def rows_of(kernel: "KernelStore", pin: "Pin | None", table_id: int, keys: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """The row of each key in a version, or (None) in the head; `NO_ROW` where the table has none for exactly that key.

    The head is for whoever has the baton.
    """
    keys = np.ascontiguousarray(keys, np.uint64)
    rows = np.empty(len(keys), np.uint32)
    slot = -1 if pin is None else pin.slot
    kernel._check(
        kernel._library.ecs_rows(kernel._pointer, slot, table_id, keys.ctypes.data, len(keys), rows.ctypes.data)
    )
    return rows


def column_cuts(pin: "Pin", table_id: int) -> list[int]:
    """For each stored field of a table, a number that says which contents its column has: while it and the count of
    rows stay the same, so do the cells."""
    kernel = pin._store
    cuts = np.zeros(max(1, len(kernel._fields[table_id])), np.uint64)
    kernel._check(kernel._fast.ecs_view_cuts(kernel._pointer, pin.slot, table_id, cuts.ctypes.data))
    return cuts.tolist()
