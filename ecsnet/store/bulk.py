"""What bulk calls are given: for each field an array with one cell per row, or one value for all rows.

Invariant: nothing here touches the kernel; what comes out is checked, and says how many rows there are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import ArgumentError
from ecsnet.store.names import TableName
from ecsnet.store.shapes import writable

__all__ = ["by_id", "checked_columns", "is_array", "length_of", "own_columns", "row_cells"]


def row_cells(table: str, given: object) -> Mapping[str, Any]:
    """`given` itself, which must be a dict of fields. Raises ArgumentError."""
    if not isinstance(given, Mapping):
        raise ArgumentError(f"{table}: expected a dict of fields such as {{'x': 1.0}}, found {given!r}")
    return given


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
            # One value of `[T; N]` for all rows says nothing about how many there are.
            plain = isinstance(value, np.ndarray) and not field.text
            if np.ndim(value if plain else field.cast(value)) == len(field.shape):
                continue
            found.setdefault(len(value), field.path)
    if n is not None:
        if not isinstance(n, int) or isinstance(n, bool) or n < 0:
            raise ArgumentError(f"expected how many rows to make, found {n!r}")
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
