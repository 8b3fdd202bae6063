"""Joining tables on their keys, and remembering the result while the rows stand still.

The kernel joins; it numbers every table's structure, so that equal numbers mean the same keys in the same rows. A
game asks for the same few joins each tick, and between two structural changes the answer is the same.

Invariants: a remembered join is used only when the structure number of every table in it, without-tables included, is
what it was; a plan owns its arrays, and they are read-only.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ecsnet._kernel.rows import column_cuts, rows_of
from ecsnet.store.fields import FieldName
from ecsnet.store.indexes import Index, Indexes, flat
from ecsnet.store.names import TableName
from ecsnet.store.selection import RowSet, Selection, as_row_set
from ecsnet.store.spatial import SpatialIndexes
from ecsnet.store.text_index import TextIndexes

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import JoinRows, KernelStore, Pin

__all__ = ["Joins"]

# The head and the newest view may take turns; more than that would only keep memory.
_PLANS_PER_JOIN: Final = 2

Tables = tuple[TableName, ...]


class Joins:
    """The remembered joins of one store."""

    __slots__ = ("_kernel", "_plans", "indexes", "spatial", "text_indexes")

    def __init__(self, kernel: "KernelStore"):
        self._kernel = kernel
        self.indexes = Indexes()
        self.text_indexes = TextIndexes()
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

    def rows_of(self, pin: "Pin | None", table: TableName, keys: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """The row of each key in a pinned version, or (None) in the head; `resolve.NO_ROW` where there is none."""
        return rows_of(self._kernel, pin, table.id, keys)

    def index_of_pin(self, pin: "Pin", field: FieldName, cells: NDArray[Any], must: bool) -> Index | None:
        """The index of a column of a pinned version; None where none must be made and it would not pay."""
        position = field.table.stored.index(field)
        contents = column_cuts(pin, field.table.id)[position], len(cells)
        return self.indexes.of(field, contents, flat(field, cells), must)

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
        rows = tuple([as_row_set(numbers) for numbers in joined.rows])
    return Selection(tables, rows, keys, None)


def _own(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A read-only copy: what the kernel shows of its head moves with the next structural operation."""
    copied = keys.copy()
    copied.flags.writeable = False
    return copied
