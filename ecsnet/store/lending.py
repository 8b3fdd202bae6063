"""Cells lent to a transaction as writable arrays, and how they come back.

Two kinds of array are handed out:

- where a query's rows lie together in order, a slice of the kernel's *scratch* of the whole column: writing is all
  there is to it, the commit compares scratch and head;
- where the rows had to be gathered, a private copy. We remember it as it was gathered; the cells that differ are
  scattered back at commit, or before the next read or point write of that table, so later reads see them.

A gathered copy may be kept and changed again after it was scattered, and two copies may overlap. So scattering is a
compare-and-set per cell: a changed cell goes back only where the transaction still has what the copy was gathered from.
Anything else means that the cell was changed through something else in between, and which change should win nobody can
say: `BorrowError`, and the transaction can only be rolled back.

Invariants:
- the same cells handed out twice are the same array, brought up to date;
- rows stand still from the first array on: structural operations wait until the arrays are back (`queued`);
- keys, foreign keys, unique fields and strings are handed out read-only and never come back.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import ArgumentError, BorrowError
from ecsnet.store.fields import FieldName
from ecsnet.store.names import TableName
from ecsnet.store.selection import Selection, cells_at

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore
    from ecsnet._kernel.texts import Texts

__all__ = ["Lending"]

# From one changed cell in so many rows on, a scratch of the whole column costs less than naming each row by its key.
_SCRATCH_SHARE: Final = 32


class Gathered:
    """One private copy: `array` is what the game has, `before` what it was gathered from. `present` says where there is
    a row to write back to; None where all are there."""

    __slots__ = ("array", "before", "field", "fresh", "keys", "present", "rows")

    def __init__(
        self,
        field: FieldName,
        rows: NDArray[np.intp],
        keys: NDArray[np.uint64],
        present: NDArray[np.bool_] | None,
        cells: NDArray[Any],
    ):
        self.field = field
        self.rows = rows
        self.keys = keys
        self.present = present
        self.array = cells
        self.before = cells.copy()
        # Nothing else has changed these cells since they were gathered.
        self.fresh = True

    def changed(self) -> NDArray[np.intp]:
        """Which places of the copy differ from what was gathered, bit by bit: NaN equals itself, -0.0 is not 0.0."""
        now, before = _bits(self.array), _bits(self.before)
        different = now != before
        if different.ndim > 1:
            different = different.reshape(len(different), -1).any(axis=1)
        return np.flatnonzero(different)


class Lending:
    """What one transaction has lent out."""

    __slots__ = ("_gathered", "_kernel", "_label", "_lent", "_slices", "_whole")

    def __init__(self, kernel: "KernelStore", label: str):
        self._kernel = kernel
        self._label = label
        # The kernel's scratch of whole columns, and those of them that the game has (a part of).
        self._lent: dict[FieldName, NDArray[Any]] = {}
        self._whole: set[FieldName] = set()
        self._slices: dict[tuple[FieldName, int, int], NDArray[Any]] = {}
        self._gathered: dict[TableName, list[Gathered]] = {}

    # --- handing out -------------------------------------------------------------------------------------------------

    def column(self, selection: Selection, position: int, field: FieldName) -> NDArray[Any]:
        """The cells of a stored field for the game: writable unless the field is not `lendable`."""
        rows = selection.rows[position]
        if not field.lendable:
            # A copy: what the kernel shows of its head is not ours to hand out.
            fixed = self.read(selection, position, field).copy()
            fixed.flags.writeable = False
            return fixed
        if isinstance(rows, slice):
            self._scatter_if_any(field.table)
            return self._slice(field, rows.start, rows.stop)
        return self._gather(field, rows, selection, position)

    def read(self, selection: Selection, position: int, field: FieldName) -> NDArray[Any]:
        """The cells of a stored field, for reading at once: a copy or a slice that must not be kept."""
        if field.string:
            if selection.present(position) is None:
                return self.texts(selection, position, field).decode()
            return cells_at(self._kernel.texts(self._cells(field)).decode(), selection, position, field)
        self._scatter_if_any(field.table)
        return cells_at(self._cells(field), selection, position, field)

    def columns_if_lent(self, table: TableName, fields: Sequence[FieldName]) -> list[NDArray[Any]] | None:
        """These whole columns as the transaction sees them, for reading at once, if any of them is lent. None: the
        head has them all."""
        self._scatter_if_any(table)
        if not any(field in self._lent for field in fields):
            return None
        return [self._cells(field) for field in fields]

    def texts(self, selection: Selection, position: int, field: FieldName) -> "Texts":
        """The cells of a field of strings that all rows have, for asking at once."""
        return self._kernel.texts(self._cells(field)[selection.rows[position]])

    def _slice(self, field: FieldName, start: int, stop: int) -> NDArray[Any]:
        known = self._slices.get((field, start, stop))
        if known is not None:
            return known
        whole = self._scratch(field)
        self._whole.add(field)
        part = whole if start == 0 and stop == len(whole) else whole[start:stop]
        self._slices[field, start, stop] = part
        return part

    def _gather(self, field: FieldName, rows: NDArray[np.intp], selection: Selection, position: int) -> NDArray[Any]:
        copies = self._gathered.setdefault(field.table, [])
        known = None
        for copy in copies:
            if copy.field is field and (copy.rows is rows or np.array_equal(copy.rows, rows)):
                known = copy
                break
        if known is not None and known.fresh and field not in self._whole:
            return known.array
        self.scatter(field.table)
        cells = cells_at(self._cells(field), selection, position, field)
        if known is None:
            known = Gathered(field, rows, selection.keys_of(position), selection.present(position), cells)
            copies.append(known)
        else:
            # Handed out before: bring it up to date in place, since the game may still hold it.
            np.copyto(known.array, cells)
            np.copyto(known.before, cells)
            known.fresh = True
        return known.array

    def _scratch(self, field: FieldName) -> NDArray[Any]:
        scratch = self._lent.get(field)
        if scratch is None:
            scratch = self._lent[field] = self._kernel.lend(field.table.id, field.id, True)
        return scratch

    def _cells(self, field: FieldName) -> NDArray[Any]:
        """The whole column as this transaction sees it, for reading at once."""
        lent = self._lent.get(field)
        return lent if lent is not None else self._kernel.lend(field.table.id, field.id, False)

    # --- taking back -------------------------------------------------------------------------------------------------

    def _scatter_if_any(self, table: TableName) -> None:
        if self._gathered and table in self._gathered:
            self.scatter(table)

    def scatter(self, table: TableName) -> None:
        """Write the changed cells of gathered copies of `table` back.

        Raises:
            ArgumentError: a cell was written where a `maybe` table has no row.
            BorrowError: a cell was changed through two arrays, or through an array and otherwise.
            ConstraintError: a cell breaks a rule of the schema.
        """
        for copy in self._gathered.get(table, ()):
            places = copy.changed()
            if len(places) == 0:
                continue
            field = copy.field
            if copy.present is not None and not copy.present[places].all():
                raise ArgumentError(
                    f"{field.path} was written where there is no row ({self._label!r}): write where `present` is true, "
                    f"as in shield.strength[shield.present] = 1. Nothing is committed"
                )
            everything = len(places) == len(copy.rows)
            rows = copy.rows if everything else copy.rows[places]
            cells = copy.array if everything else copy.array[places]
            if not copy.fresh or field in self._whole:
                self._demand_unchanged(copy, places, rows)
            if field in self._lent or len(rows) * _SCRATCH_SHARE > self._kernel.head_table(table.id).rows:
                self._scratch(field)[rows] = cells
            else:
                keys = copy.keys if everything else copy.keys[places]
                self._kernel.update_many(table.id, keys, {field.id: np.ascontiguousarray(cells)})
            copy.before[places] = cells
            self.touch(field, copy)

    def _demand_unchanged(self, copy: Gathered, places: NDArray[np.intp], rows: NDArray[np.intp]) -> None:
        """Raise BorrowError unless the transaction still has, at `rows`, what the copy was gathered from."""
        conflicts = _bits(self._cells(copy.field)[rows]) != _bits(copy.before[places])
        if conflicts.any():
            first = int(np.flatnonzero(conflicts.reshape(len(places), -1).any(axis=1))[0])
            raise BorrowError(
                f"{copy.field.path} of {int(copy.keys[places[first]]):#x} was changed through two arrays of "
                f"{self._label!r} ({len(places)} cells changed in this one): which change should win is not known. "
                f"Nothing is committed; take the column again after the other change, or use one query for both"
            )

    def touch(self, field: FieldName, by: Gathered | None = None) -> None:
        """Cells of `field` changed: other gathered copies of it may be out of date."""
        for copy in self._gathered.get(field.table, ()):
            if copy.field is field and copy is not by:
                copy.fresh = False

    def finish(self) -> list[str]:
        """Take gathered copies back at commit, and let go of lent columns, which the kernel takes back itself.

        Returns:
            the columns of which somebody still holds a gathered copy: what they do with it from now on changes nothing.
            (The kernel counts those who hold its own arrays.)

        Raises:
            BorrowError, ConstraintError: as `scatter`; the caller rolls back.
        """
        for table in self._gathered:
            self.scatter(table)
        # Held by: `copy.array`, and the argument of getrefcount.
        kept = [
            copy.field.path for copies in self._gathered.values() for copy in copies if sys.getrefcount(copy.array) > 2
        ]
        self.forget()
        return kept

    def forget(self) -> None:
        """Drop every reference of ours, so that only what the game kept is still held."""
        self._slices.clear()
        self._whole.clear()
        self._lent.clear()
        self._gathered.clear()


def _bits(cells: NDArray[Any]) -> NDArray[Any]:
    """The same memory as unsigned integers, so that comparing compares bits."""
    return cells.view(f"u{cells.dtype.itemsize}") if cells.dtype.kind == "f" else cells
