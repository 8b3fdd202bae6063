"""What bulk calls are given: for each field an array with one cell per row, or one value for all rows.

It comes as a dict of columns, a structured array, a row object whose values are arrays, or a list of rows or dicts.

Invariant: nothing here touches the kernel; what comes out is checked, and says how many rows there are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import ArgumentError, LimitExceededError
from ecsnet.limits import ROWS_MAX
from ecsnet.store.fields import show
from ecsnet.store.names import TableName, as_keys
from ecsnet.store.query import Query
from ecsnet.store.shapes import writable
from ecsnet.store.typed import RowLike, Selector, row_parts

__all__ = [
    "Columns",
    "by_id",
    "checked_columns",
    "columns_of",
    "given_to",
    "is_array",
    "keys_of",
    "length_of",
    "own_columns",
    "row_cells",
]

Columns = Mapping[str, Any] | NDArray[np.void] | RowLike | Sequence[Mapping[str, Any]] | Sequence[RowLike]
"""Columns by field, in any of the forms that bulk calls take."""


def row_cells(table: object, given: object) -> Mapping[str, Any]:
    """`given` itself, which must be a dict of fields. Raises ArgumentError."""
    if not isinstance(given, Mapping):
        raise ArgumentError(f"{table}: expected a dict of fields such as {{'x': 1.0}}, found {show(given)}")
    return given


def given_to(rows: Sequence[Any], named: Mapping[str, Any]) -> list[tuple[Selector, Any]]:
    """The tables of a bulk call with what each was given. Raises ArgumentError: an object is no row."""
    return [(row_parts(row)[0], row) for row in rows] + list(named.items())


def columns_of(table: TableName, given: object) -> Mapping[str, Any]:
    """Columns by field, whatever they came as; the members of structs under their own names.

    Raises:
        ArgumentError: neither columns nor rows, or rows that do not all name the same fields. UnknownNameError.
    """
    if given is None:
        return {}
    if isinstance(given, np.ndarray) and given.dtype.names is not None:
        return table.flat(_structured(given))
    if isinstance(given, list | tuple):
        return table.flat(_transposed(table, given))
    return table.flat(_cells_of(table, given))


def _cells_of(table: TableName, given: object) -> Mapping[str, Any]:
    values = getattr(given, "ecsnet_values", given)
    return row_cells(table.name, values)


def _structured(array: NDArray[np.void]) -> dict[str, Any]:
    assert array.dtype.names is not None
    columns = {name: array[name] for name in array.dtype.names}
    return {name: column if column.dtype.names is None else _structured(column) for name, column in columns.items()}


def _transposed(table: TableName, rows: Sequence[Any]) -> dict[str, list[Any]]:
    """One list per field, of rows that all name the same fields."""
    cells = [table.flat(_cells_of(table, row)) for row in rows]
    if not cells:
        raise ArgumentError(f"{table.name}: an empty list of rows names no fields; give a dict of columns")
    names = cells[0].keys()
    for place, row in enumerate(cells):
        if row.keys() != names:
            raise ArgumentError(
                f"{table.name}: rows of one call name the same fields; row 0 has {', '.join(names)}, row {place} has "
                f"{', '.join(row)}"
            )
    return {name: [row[name] for row in cells] for name in names}


def keys_of(keys: object) -> NDArray[np.uint64]:
    """The keys that a bulk call is given: an array, or the rows of a query. Raises ArgumentError."""
    return keys.key if isinstance(keys, Query) else as_keys(keys)


def is_array(value: object) -> bool:
    """Whether `value` is one cell per row rather than one for all."""
    return isinstance(value, np.ndarray | list | tuple)


def length_of(n: int | None, tables: Sequence[tuple[TableName, Mapping[str, Any]]], owner: Any) -> int:
    """How many rows a bulk call makes: `n`, or what its arrays say. Raises ArgumentError where they disagree."""
    found: dict[int, str] = {}
    if is_array(owner):
        found[len(owner)] = "owner"
    for table, given in tables:
        for name, value in row_cells(table.name, given).items():
            field = table.stored_field(name)
            if isinstance(value, bytes | bytearray | str) or not hasattr(value, "__len__"):
                continue
            if isinstance(value, np.ndarray) and value.ndim == 0:
                # One value, whatever of.
                continue
            # One value of `[T; N]` for all rows says nothing about how many there are.
            plain = isinstance(value, np.ndarray) and not field.text
            if np.ndim(value if plain else field.cast(value)) == len(field.shape):
                continue
            found.setdefault(len(value), field.path)
    if n is not None:
        if not isinstance(n, int) or isinstance(n, bool) or n < 0:
            raise ArgumentError(f"expected how many rows to make, found {n!r}")
        if n > ROWS_MAX:
            # Before anybody asks for the memory.
            raise LimitExceededError("ROWS_MAX", ROWS_MAX, n)
        found.setdefault(n, "n")
    if len(found) > 1:
        lengths = ", ".join(f"{where} has {length}" for length, where in found.items())
        raise ArgumentError(f"arrays of different lengths: {lengths}")
    if not found:
        raise ArgumentError("how many? Give one array, or the number first")
    return next(iter(found))


def checked_columns(table: TableName, given: Mapping[str, Any], rows: int) -> dict[str, NDArray[Any]]:
    """The checked columns of the fields given; the kernel knows the defaults of the others."""
    writable(table).demand_required(row_cells(table.name, given))
    return {name: table.fields[name].column(value, rows) for name, value in given.items()}


def by_id(table: TableName, columns: Mapping[str, NDArray[Any]]) -> dict[int, NDArray[Any]]:
    return {table.fields[name].id: column for name, column in columns.items()}


def own_columns(columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Copies, for an operation that runs later: the caller may change its arrays until then."""
    return {name: column.copy() for name, column in columns.items()}
