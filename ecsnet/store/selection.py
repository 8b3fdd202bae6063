"""Resolved rows: what a query found, table by table, in one order.

Row i of each table belongs to row i of the selection. Where a table's rows lie together in that order they are a slice,
which needs no copy; otherwise they are row numbers to gather by. A table that not every row has (`maybe`, a left join)
says which have it.

Invariants: a selection is never changed; its arrays are read-only; `rows` of a place that is not present name nothing
and must not be read.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecsnet.schema.model import MISSING
from ecsnet.store.fields import FieldName
from ecsnet.store.names import TableName

__all__ = ["Beside", "RowSet", "Selection", "as_row_set", "cells_at"]

# A whole slice of a column where the rows lie together in the order of the keys, else the rows one by one.
RowSet = slice | NDArray[np.intp]


class Beside:
    """What a table has of its own beside the rows of a query: `keys` (u64, 0 where there is no row), `present` (a bool
    per row, None where all are there), and whether it was joined over a reference, so that several rows of the
    query may be one of its own."""

    __slots__ = ("joined", "keys", "present")

    def __init__(self, keys: NDArray[np.uint64], present: NDArray[np.bool_] | None, joined: bool):
        self.keys = keys
        self.present = present
        self.joined = joined

    def take(self, chosen: RowSet) -> "Beside":
        """The same for fewer rows, or for rows in another order."""
        present = None if self.present is None else _fixed(self.present[chosen])
        return Beside(_fixed(self.keys[chosen]), present, self.joined)


class Selection:
    """Resolved rows: `rows[t]` are those of `tables[t]`, aligned with `keys` (u64, read-only). Never changed.

    `structure` is the source's own mark of when the rows stood where they are said to stand here. `repeated`: a row of
    the query's own tables may be there more than once.
    """

    __slots__ = ("beside", "keys", "repeated", "rows", "structure", "tables")

    def __init__(
        self,
        tables: tuple[TableName, ...],
        rows: tuple[RowSet, ...],
        keys: NDArray[np.uint64],
        structure: object,
        beside: tuple[Beside | None, ...] = (),
        repeated: bool = False,
    ):
        self.tables = tables
        self.rows = rows
        self.keys = keys
        self.structure = structure
        self.beside = beside or (None,) * len(tables)
        self.repeated = repeated

    @property
    def count(self) -> int:
        """How many rows."""
        return len(self.keys)

    def keys_of(self, position: int) -> NDArray[np.uint64]:
        """The keys of one table's rows; 0 where there is none."""
        beside = self.beside[position]
        return self.keys if beside is None else beside.keys

    def present(self, position: int) -> NDArray[np.bool_] | None:
        """Which rows have a row in that table; None where all have."""
        beside = self.beside[position]
        return None if beside is None else beside.present

    def read_only(self, position: int) -> bool:
        """Whether one cell of the table may stand in several rows, so that nobody could say which one to write back."""
        beside = self.beside[position]
        return self.repeated or (beside is not None and beside.joined)

    def take(self, chosen: RowSet, *, repeated: bool = False) -> "Selection":
        """Fewer rows, or the same in another order."""
        rows = tuple([_take_rows(row_set, chosen) for row_set in self.rows])
        beside = tuple([one if one is None else one.take(chosen) for one in self.beside])
        keys = _fixed(self.keys[chosen])
        return Selection(self.tables, rows, keys, self.structure, beside, self.repeated or repeated)

    def adding(self, table: TableName, rows: RowSet, beside: Beside | None) -> "Selection":
        """One table more."""
        return Selection(
            (*self.tables, table),
            (*self.rows, rows),
            self.keys,
            self.structure,
            (*self.beside, beside),
            self.repeated,
        )

    def in_order(self, positions: list[int]) -> "Selection":
        """The tables in another order."""
        if positions == list(range(len(self.tables))):
            return self
        return Selection(
            tuple([self.tables[p] for p in positions]),
            tuple([self.rows[p] for p in positions]),
            self.keys,
            self.structure,
            tuple([self.beside[p] for p in positions]),
            self.repeated,
        )


def as_row_set(numbers: NDArray[Any]) -> RowSet:
    """Row numbers; those that lie together in order become a slice, which needs no copy."""
    count = len(numbers)
    if count == 0:
        return slice(0, 0)
    first = int(numbers[0])
    if int(numbers[-1]) - first == count - 1 and bool((np.diff(numbers.astype(np.int64)) == 1).all()):
        return slice(first, first + count)
    rows = numbers.astype(np.intp)
    rows.flags.writeable = False
    return rows


def cells_at(column: NDArray[Any], selection: Selection, position: int, field: FieldName) -> NDArray[Any]:
    """The cells of a stored field, aligned with the selection: a slice of `column`, or a copy. Where there is no row
    they are the field's default, zero without one."""
    rows, present = selection.rows[position], selection.present(position)
    if present is None:
        if not isinstance(rows, slice):
            return column.take(rows, axis=0)
        # The very array where it is all of it: a view hands out one per column.
        return column if rows.stop - rows.start == len(column) else column[rows]
    cells = np.empty((len(present), *column.shape[1:]), column.dtype)
    cells[...] = _absent(field, column.dtype)
    cells[present] = column[rows][present] if isinstance(rows, slice) else column[rows[present]]
    return cells


def _absent(field: FieldName, dtype: np.dtype[Any]) -> Any:
    """What a cell is where there is no row."""
    assert field.field is not None, "virtual fields follow from the key"
    default = field.field.default
    if default is MISSING:
        return "" if dtype.kind == "O" else np.zeros((), dtype)
    if dtype.kind == "O":
        return default
    if field.text:
        return np.frombuffer(field.cell(default), np.uint8)
    return np.array(default, dtype).reshape(field.shape)


def _take_rows(rows: RowSet, chosen: RowSet) -> RowSet:
    if not isinstance(rows, slice):
        return _fixed(rows[chosen])
    if not isinstance(chosen, slice):
        return _fixed(chosen + rows.start) if rows.start else chosen
    start, stop, step = chosen.indices(rows.stop - rows.start)
    assert step == 1, "rows are taken in their order"
    return slice(rows.start + start, rows.start + max(start, stop))


def _fixed(cells: NDArray[Any]) -> NDArray[Any]:
    if cells.flags.writeable:
        cells.flags.writeable = False
    return cells
