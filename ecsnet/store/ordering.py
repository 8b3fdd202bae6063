"""Sorting rows by columns, and telling which rows have equal values.

Invariants: sorting keeps the order of what is equal; NaN comes last in either direction and equals itself here, since
rows must have some order and some group.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import ArgumentError
from ecsnet.store.fields import FieldName
from ecsnet.store.indexes import flat
from ecsnet.store.sorting import stable_order

__all__ = ["Groups", "groups_of", "sort_key", "sorted_rows", "values_of"]


def sorted_rows(keys: Sequence[NDArray[Any]], stop: int | None) -> NDArray[np.intp]:
    """The rows in order of these keys (`sort_key`), the first of them first; of no more than the first `stop` rows the
    order is right, and others may be missing."""
    count = len(keys[0])
    if len(keys) > 1:
        return np.lexsort(keys[::-1])
    key = keys[0]
    if stop is not None and 0 < stop < count // 8:
        # Only what can be among the first is worth sorting.
        bound = np.partition(key, stop - 1)[stop - 1]
        if bound == bound:
            candidates = np.flatnonzero(key <= bound)
            return candidates[stable_order(key[candidates])]
    return stable_order(key)


class Groups:
    """Rows by equal values: `order` has them group by group, `starts` where each group begins in it. Groups ascend by
    their values; the rows within one are in the order they had."""

    __slots__ = ("order", "starts")

    def __init__(self, order: NDArray[np.intp], starts: NDArray[np.intp]):
        self.order = order
        self.starts = starts

    @property
    def first(self) -> NDArray[np.intp]:
        """The first row of each group."""
        return self.order[self.starts]


def groups_of(columns: Sequence[tuple[FieldName, NDArray[Any]]]) -> Groups:
    """Put rows together that have equal values in all of these columns."""
    keys = [sort_key(field.path, values_of(field, cells), False) for field, cells in columns]
    count = len(keys[0])
    order = stable_order(keys[0]) if len(keys) == 1 else np.lexsort(keys[::-1])
    begins = np.zeros(count, np.bool_)
    begins[:1] = True
    for key in keys:
        ordered = key[order]
        differ = ordered[1:] != ordered[:-1]
        if key.dtype.kind == "f":
            differ &= ~(np.isnan(ordered[1:]) & np.isnan(ordered[:-1]))
        begins[1:] |= differ
    return Groups(order, np.flatnonzero(begins))


def values_of(field: FieldName, cells: NDArray[Any]) -> NDArray[Any]:
    """One value per row, of a column that has an order: numbers, `bytes` as numpy's own, or strings."""
    if field.shape and not field.text:
        raise ArgumentError(f"{field.path} holds arrays, which have no order")
    return flat(field, cells)


def sort_key(name: str, cells: NDArray[Any], descending: bool) -> NDArray[Any]:
    """A column as numbers that ascend as its values shall be sorted.

    Raises:
        ArgumentError: its cells are arrays.
    """
    if cells.ndim > 1:
        raise ArgumentError(f"{name} holds arrays, which have no order")
    if cells.dtype.kind in "SO":
        cells = np.unique(cells, return_inverse=True)[1].reshape(len(cells))
    if not descending:
        return cells
    return -cells if cells.dtype.kind == "f" else ~cells
