"""Joining tables on their keys, and remembering the result while the rows stand still.

The kernel joins; it numbers every table's structure, so that equal numbers mean the same keys in the same rows. A
game asks for the same few joins each tick, and between two structural changes the answer is the same.

Invariants: a remembered join is used only when the structure number of every table in it, without-tables included, is
what it was; a plan owns its arrays, and they are read-only.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ecsnet.store.names import TableName
from ecsnet.store.query import RowSet, Selection
from ecsnet.store.spatial import SpatialIndexes

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import JoinRows, KernelStore, Pin

__all__ = ["Joins"]

# The head and the newest view may take turns; more than that would only keep memory.
_PLANS_PER_JOIN: Final = 2

Tables = tuple[TableName, ...]


class Joins:
    """The remembered joins of one store."""

    __slots__ = ("_kernel", "_plans", "spatial")

    def __init__(self, kernel: "KernelStore"):
        self._kernel = kernel
        self._plans: dict[tuple[Tables, Tables], dict[tuple[int, ...], Selection]] = {}
        self.spatial = SpatialIndexes(kernel)

    def of_pin(self, pin: "Pin", tables: Tables, without: Tables) -> Selection:
        """Join in a pinned version."""
        if len(tables) == 1 and not without:
            keys = pin.keys(tables[0].id)
            return Selection(tables, (slice(0, len(keys)),), keys, None)
        return self._remembered(
            tables,
            without,
            tuple([pin.struct_seq(table.id) for table in tables + without]),
            lambda: _plan(tables, self._kernel.join([t.id for t in tables], [t.id for t in without], pin)),
        )

    def of_head(self, tables: Tables, without: Tables) -> Selection:
        """Join in the head, inside a transaction."""
        kernel = self._kernel
        heads = [kernel.head_table(table.id) for table in tables + without]
        sequence = tuple([head.struct_seq for head in heads])

        def join() -> Selection:
            if len(tables) == 1 and not without:
                keys = _own(heads[0].keys)
                return Selection(tables, (slice(0, len(keys)),), keys, None)
            return _plan(tables, kernel.join([t.id for t in tables], [t.id for t in without], None))

        return self._remembered(tables, without, sequence, join)

    def _remembered(
        self, tables: Tables, without: Tables, sequence: tuple[int, ...], join: Callable[[], Selection]
    ) -> Selection:
        plans = self._plans.setdefault((tables, without), {})
        plan = plans.get(sequence)
        if plan is None:
            plan = join()
            if len(plans) >= _PLANS_PER_JOIN:
                # The oldest. Readers on other threads get here too: a step at a time, none of which can fail.
                plans.pop(min(plans), None)
            plans[sequence] = plan
        return plan


def _plan(tables: Tables, joined: "JoinRows") -> Selection:
    keys = _own(joined.keys)
    rows: tuple[RowSet, ...]
    if joined.rows is None:
        assert joined.aligned, "a join that is not aligned names its rows"
        rows = (slice(0, joined.count),) * len(tables)
    else:
        rows = tuple([_row_set(numbers) for numbers in joined.rows])
    return Selection(tables, rows, keys, None)


def _row_set(numbers: NDArray[np.uint32]) -> RowSet:
    """Rows that lie together in order become a slice, which needs no copy."""
    count = len(numbers)
    if count == 0:
        return slice(0, 0)
    first = int(numbers[0])
    if int(numbers[-1]) - first == count - 1 and bool((np.diff(numbers.astype(np.int64)) == 1).all()):
        return slice(first, first + count)
    rows = numbers.astype(np.intp)
    rows.flags.writeable = False
    return rows


def _own(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A read-only copy: what the kernel shows of its head moves with the next structural operation."""
    copied = keys.copy()
    copied.flags.writeable = False
    return copied
