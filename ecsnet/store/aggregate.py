"""Numbers over many rows: of a whole query, or of each group of it.

Invariants: integers are added exactly modulo 2**64, in i64 or u64; floats are added in f64; least and greatest are in
the column's own type. NaN in a column makes its sum, mean, least and greatest NaN.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import ArgumentError
from ecsnet.expressions import Aggregate, Column, column_path
from ecsnet.store.fields import FieldName
from ecsnet.store.names import Names
from ecsnet.store.ordering import Groups, groups_of, values_of
from ecsnet.store.result import Result, ResultColumn
from ecsnet.store.selection import Selection
from ecsnet.store.terms import Terms

if TYPE_CHECKING:
    from ecsnet.store.query import Source

__all__ = ["Grouped", "aggregate_rows", "check_aggregate"]


def aggregate_rows(
    source: "Source", terms: Terms, selection: Selection, wanted: Mapping[str, Aggregate]
) -> dict[str, Any]:
    """Each aggregate over all rows, as Python values. See `Query.aggregate`."""
    found: dict[str, Any] = {}
    for name, aggregate in _checked(wanted).items():
        if aggregate.path is None:
            found[name] = selection.count
            continue
        position, field = _number_field(source.names, terms, aggregate)
        cells = _cells(source, selection, position, field)
        found[name] = _over_all(aggregate.function, cells)
    return found


class Grouped:
    """The rows of a query, put together by equal values. Made by `Query.group_by`."""

    __slots__ = ("_by", "_resolve", "_source", "_terms")

    def __init__(
        self, source: "Source", terms: Terms, resolve: Callable[[], Selection], columns: Sequence[Column | str]
    ):
        if not columns:
            raise ArgumentError("group_by names at least one column; aggregate() alone is over all rows")
        self._source = source
        self._terms = terms
        self._resolve = resolve
        self._by: dict[str, tuple[int, FieldName]] = {}
        for column in columns:
            path = column_path(column)
            position, field = terms.locate(source.names, path)
            if field.shape and not field.text:
                raise ArgumentError(f"{field.path} holds arrays, which cannot be grouped by")
            self._by[path] = position, field

    def aggregate(self, /, **wanted: Aggregate) -> Result:
        """One row per group: the columns that were grouped by, under their paths, then each aggregate under its name.
        Groups ascend by their values; there is none without rows.

        Raises:
            ArgumentError, UnknownNameError: not an aggregate, of a column that is not in the query or has none, or a
                name twice.
        """
        for name in _checked(wanted):
            if name in self._by:
                raise ArgumentError(f"{name!r} is a column that was grouped by: give the aggregate another name")
        source, selection = self._source, self._resolve()
        keys = [(field, source.read(selection, position, field)) for position, field in self._by.values()]
        groups = groups_of(keys)
        found = [
            ResultColumn(name, cells.take(groups.first, axis=0), field)
            for name, (field, cells) in zip(self._by, keys, strict=True)
        ]
        for name, aggregate in wanted.items():
            if aggregate.path is None:
                sizes = np.diff(groups.starts, append=selection.count).astype(np.int64)
                found.append(ResultColumn(name, sizes, None))
                continue
            position, field = _number_field(source.names, self._terms, aggregate)
            cells = _cells(source, selection, position, field)
            kept = field if aggregate.function in ("min", "max") else None
            values = _over_groups(aggregate.function, cells, groups)
            if field.text and not field.string:
                # As the column itself has them.
                values = values.view(np.uint8).reshape(len(values), *field.shape)
            found.append(ResultColumn(name, values, kept))
        return Result(found)

    def count(self) -> Result:
        """How many rows each group has, as a column "count"."""
        return self.aggregate(count=Aggregate("count"))

    def __repr__(self) -> str:
        return f"<query {self._terms.text()} group by {', '.join(self._by)}>"


def _checked(wanted: Mapping[str, Aggregate]) -> Mapping[str, Aggregate]:
    if not wanted:
        raise ArgumentError("aggregate takes at least one, as in aggregate(n=count())")
    for name, aggregate in wanted.items():
        if not isinstance(aggregate, Aggregate):
            raise ArgumentError(
                f"{name}: expected an aggregate such as count() or sum_('health.hp'), found {aggregate!r}"
            )
    return wanted


def check_aggregate(names: Names, terms: Terms, aggregate: Aggregate) -> None:
    """Check that an aggregate can be asked of a query.

    Raises:
        ArgumentError, UnknownNameError: no such column, or one that has no sum, mean, least or greatest value.
    """
    if aggregate.path is not None:
        _number_field(names, terms, aggregate)


def _number_field(names: Names, terms: Terms, aggregate: Aggregate) -> tuple[int, FieldName]:
    assert aggregate.path is not None
    position, field = terms.locate(names, aggregate.path)
    held = "strings" if field.string else "bytes" if field.text else "arrays" if field.shape else ""
    if held == "arrays" or (held and aggregate.function in ("sum", "mean")):
        raise ArgumentError(f"{aggregate!r}: {field.path} holds {held}")
    return position, field


def _cells(source: "Source", selection: Selection, position: int, field: FieldName) -> NDArray[Any]:
    return values_of(field, source.read(selection, position, field))


def _wide(cells: NDArray[Any]) -> np.dtype[Any]:
    """What cells are added up in."""
    return np.dtype({"f": np.float64, "u": np.uint64}.get(cells.dtype.kind, np.int64))


def _over_all(function: str, cells: NDArray[Any]) -> Any:
    if function == "sum":
        return cells.sum(dtype=_wide(cells)).item()
    if len(cells) == 0:
        return None
    if function == "mean":
        return cells.mean(dtype=np.float64).item()
    if cells.dtype.kind in "SO":
        ordered = np.unique(cells)
        best = ordered[0 if function == "min" else -1]
        # numpy leaves out the zeros at the end of bytes, which a cell has.
        return best.ljust(cells.dtype.itemsize, b"\0") if isinstance(best, bytes) else best
    return (cells.min() if function == "min" else cells.max()).item()


def _over_groups(function: str, cells: NDArray[Any], groups: Groups) -> NDArray[Any]:
    if len(groups.starts) == 0:
        return np.empty(0, {"sum": _wide(cells), "mean": np.dtype(np.float64)}.get(function, cells.dtype))
    ordered = cells[groups.order]
    if function == "sum":
        return np.add.reduceat(ordered, groups.starts, dtype=_wide(cells))
    if function == "mean":
        sizes = np.diff(groups.starts, append=len(cells))
        return np.asarray(np.add.reduceat(ordered, groups.starts, dtype=np.float64) / sizes)
    if cells.dtype.kind in "SO":
        # Texts have no minimum of their own in numpy: by their rank.
        values, ranks = np.unique(ordered, return_inverse=True)
        best: NDArray[Any] = values[_over_groups(function, ranks, Groups(np.arange(len(ranks)), groups.starts))]
        return best
    return (np.minimum if function == "min" else np.maximum).reduceat(ordered, groups.starts)
