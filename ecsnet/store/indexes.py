"""The rows of a column by its value, for lookups and for joins over references.

An index is the column's values in ascending order and the rows they came from. It is made for the contents of one
column in one version and shared by all views in which the column has these contents. Making one costs a sort, so
whoever could do with a scan gets one only after it has scanned often enough.

Invariants: an index owns its memory (it pins no version); rows of equal values are in ascending order.
"""

from bisect import bisect_left
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecsnet.store.fields import FieldName
from ecsnet.store.sorting import stable_order

__all__ = ["Index", "Indexes", "flat", "indexable"]

_INDICES_PER_COLUMN: Final = 2
_SCANS_BEFORE_INDEX: Final = 16
"""A scan reads memory at its full speed, a sort takes some fifty times as long; lookups come in bursts or hardly ever.
A column that stands in order needs no sort, which is asked at the second lookup."""


def indexable(field: FieldName) -> bool:
    """Whether values of this field are looked up by an index: unique fields and references."""
    declared = field.field
    if declared is None or field.shape or declared.type == "string":
        return False
    return declared.unique or declared.foreign_key is not None


def flat(field: FieldName, cells: NDArray[Any]) -> NDArray[Any]:
    """A column with one value per row, so that it can be sorted: `bytes[N]` cells as wholes, others as they are."""
    if not field.text:
        return cells
    return np.ascontiguousarray(cells).view(f"S{field.shape[0]}").reshape(len(cells))


class Index:
    """One column's values in order. `order` has the row of each, or is None where the rows stand in that order."""

    __slots__ = ("_quick", "_runs", "order", "values")

    def __init__(self, cells: NDArray[Any]):
        if in_order(cells):
            self.order: NDArray[np.intp] | None = None
            self.values = cells.copy()
        else:
            self.order = stable_order(cells)
            self.values = cells[self.order]
        # Made when they are first asked for: a memoryview gives Python scalars, which `bisect` compares at a fraction
        # of what a call of numpy costs.
        self._quick: memoryview | None = None
        self._runs: NDArray[np.intp] | None = None

    def first(self, value: int | float) -> int | None:
        """The first of the rows that have this value; None where none has. For columns of numbers."""
        quick = self._quick
        if quick is None:
            quick = self._quick = memoryview(self.values.data)
        place = bisect_left(quick, value)
        if place == len(quick) or quick[place] != value:
            return None
        return place if self.order is None else int(self.order[place])

    def equal(self, value: Any) -> NDArray[np.intp]:
        """The rows that have this value, ascending."""
        first = int(np.searchsorted(self.values, value, "left"))
        last = int(np.searchsorted(self.values, value, "right"))
        return np.arange(first, last) if self.order is None else self.order[first:last]

    def ranges(self, values: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """For each of `values`, where its rows begin in this index and how many there are."""
        first = np.searchsorted(self.values, values, "left")
        if len(self.values) == 0:
            return first, np.zeros(len(values), np.intp)
        runs = self._runs
        if runs is None:
            # How many rows have the value that begins at a place.
            begins = np.flatnonzero(np.concatenate(([True], self.values[1:] != self.values[:-1])))
            runs = np.zeros(len(self.values), np.intp)
            runs[begins] = np.diff(begins, append=len(self.values))
            self._runs = runs
        np.minimum(first, len(self.values) - 1, out=first)
        return first, np.where(self.values[first] == values, runs[first], 0)

    def rows_at(self, places: NDArray[np.intp]) -> NDArray[np.intp]:
        """The rows at places of this index."""
        return places if self.order is None else self.order[places]

    def only(self, values: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """For each of `values` the row that has it, of a unique column, and whether there is one."""
        if len(self.values) == 0:
            return np.zeros(len(values), np.intp), np.zeros(len(values), np.bool_)
        places = np.searchsorted(self.values, values, "left")
        np.minimum(places, len(self.values) - 1, out=places)
        return self.rows_at(places), self.values[places] == values


def in_order(cells: NDArray[Any]) -> bool:
    """Whether the values ascend already, as counted keys do until a row is deleted."""
    return bool((cells[1:] >= cells[:-1]).all())


class Indexes:
    """The indices of one store's views."""

    __slots__ = ("_asked", "_known")

    def __init__(self) -> None:
        self._known: dict[FieldName, dict[tuple[int, int], Index]] = {}
        self._asked: dict[FieldName, tuple[tuple[int, int], int]] = {}

    def of(self, field: FieldName, contents: tuple[int, int], cells: NDArray[Any], must: bool) -> Index | None:
        """The index for a column whose contents have this number, made if it pays or `must` be; None otherwise."""
        known = self._known.setdefault(field, {})
        index = known.get(contents)
        if index is None:
            before, scans = self._asked.get(field, (contents, 0))
            scans = scans + 1 if before == contents else 1
            self._asked[field] = contents, scans
            if not (must or scans > _SCANS_BEFORE_INDEX or (scans == 2 and in_order(cells))):
                return None
            index = Index(cells)
            if len(known) >= _INDICES_PER_COLUMN:
                # The oldest. Readers on other threads get here too: a step at a time, none of which can fail.
                known.pop(min(known), None)
            known[contents] = index
        return index
