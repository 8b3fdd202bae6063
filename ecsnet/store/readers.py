"""Prepared reads of a view: `hp = view.reader(Health.hp)`, then `hp(ship)` as often as need be.

A view never changes, so what a read needs (where the row of a key is, and the cells by row) is looked up once; a call
is then three looks into memory, and no call of the kernel.

Invariants:
- a row counts only if its key is the very key asked for, generation included;
- a reader holds its version as an array does: it goes on reading it after the view is closed.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ecsnet.ids import INDEX_BITS
from ecsnet.store.fields import FieldName
from ecsnet.store.names import TableName, as_key
from ecsnet.store.places import INDEX_MASK, Places

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import Pin
    from ecsnet._kernel.texts import TextCells

__all__ = ["reader_of"]

# Not in the index, or no key at all.
_MISSED = (IndexError, TypeError)


def reader_of(
    pin: "Pin", places: Places | None, table: TableName, fields: tuple[FieldName, ...], single: bool
) -> Callable[[int], Any]:
    """A function of a key: the cell of a single field, else a tuple of cells.

    Args:
        places: where the rows are; None where the table is so sparse that the kernel is asked each time.
    """
    cells_by_row = [_cell_by_row(pin, field) for field in fields]

    def slowly(key: int) -> Any:
        row = pin.row(table.id, as_key(key))
        cells = tuple([cell(row) for cell in cells_by_row])
        return cells[0] if single else cells

    if places is None or not all(field.number or field.string for field in fields):
        return slowly
    # Memoryviews: they give Python scalars, at half the price of numpy's.
    views = [
        pin.text_cells(table.id, field.id) if field.string else memoryview(_column(pin, field).data) for field in fields
    ]
    return _written_out(places.rows, places.keys, views, single, slowly)


def _written_out(
    rows: memoryview,
    keys: memoryview,
    views: list["memoryview | TextCells"],
    single: bool,
    slowly: Callable[[int], Any],
) -> Callable[[int], Any]:
    """The common numbers of fields by themselves, since a loop in a reader costs more than the reading."""
    if single:
        (cells,) = views

        def read(key: int) -> Any:
            try:
                row = rows[key & INDEX_MASK]
                if keys[row] == key:
                    return cells[row]
            except _MISSED:
                pass
            return slowly(key)

    elif len(views) == 2:
        first, second = views

        def read(key: int) -> Any:
            try:
                row = rows[key & INDEX_MASK]
                if keys[row] == key:
                    return first[row], second[row]
            except _MISSED:
                pass
            return slowly(key)

    elif len(views) == 3:
        first, second, third = views

        def read(key: int) -> Any:
            try:
                row = rows[key & INDEX_MASK]
                if keys[row] == key:
                    return first[row], second[row], third[row]
            except _MISSED:
                pass
            return slowly(key)

    else:

        def read(key: int) -> Any:
            try:
                row = rows[key & INDEX_MASK]
                if keys[row] == key:
                    return tuple([view[row] for view in views])
            except _MISSED:
                pass
            return slowly(key)

    return read


def _cell_by_row(pin: "Pin", field: FieldName) -> Callable[[int], Any]:
    if field.string:
        return lambda row: pin.text(field.table.id, field.id, row)
    column = _column(pin, field)
    return lambda row: field.python(column[row])


def _column(pin: "Pin", field: FieldName) -> "np.ndarray[Any, np.dtype[Any]]":
    if field.kind == "stored":
        return pin.column(field.table.id, field.id)
    keys = pin.keys(field.table.id)
    return keys if field.kind == "key" else (keys >> np.uint64(INDEX_BITS)).astype(np.uint32)
