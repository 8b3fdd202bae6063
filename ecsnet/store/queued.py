"""Structural operations that wait while columns are lent.

Rows must stand still while a game holds arrays over them. So spawn, insert, delete and despawn are noted down, with
their ids already final, and done after the lent cells are back, in the order of the calls.

Until then the transaction still answers for them: `exists` and `cell` know what has been noted.

Invariants: what is noted was checked for type, names and row existence at the call; what can still fail when it is done
(a limit, a constraint between rows) fails the commit as a whole.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import BorrowError
from ecsnet.store.fields import FieldName
from ecsnet.store.names import TableName

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore

__all__ = ["Queue"]

# One row of a bulk insert: its columns, and which row of them.
_Row = tuple[dict[str, Any], int | None]


class Queue:
    """What one transaction has noted down."""

    __slots__ = ("_bulk_keys", "_kernel", "_operations", "_rows")

    def __init__(self, kernel: "KernelStore"):
        self._kernel = kernel
        self._operations: list[Callable[[], object]] = []
        # (table id, key) -> the noted row; None when it was noted as removed.
        self._rows: dict[tuple[int, int], _Row | None] = {}
        # The keys of a bulk insert, by the identity of its columns.
        self._bulk_keys: dict[int, NDArray[np.uint64]] = {}

    def __bool__(self) -> bool:
        return bool(self._operations)

    # --- noting ------------------------------------------------------------------------------------------------------

    def insert(self, table: TableName, key: int, cells: dict[str, Any]) -> None:
        """Note one row; `cells` has the checked values of the fields given."""
        self._rows[table.id, key] = (cells, None)
        kernel, keys = self._kernel, np.array([key], np.uint64)
        # `cells` is read when the operation runs, so a later update of the noted row needs no operation of its own.
        self._operations.append(
            lambda: kernel.insert_many(
                table.id,
                keys,
                {table.fields[name].id: table.fields[name].one(cell) for name, cell in cells.items()},
            )
        )

    def insert_many(self, table: TableName, keys: NDArray[np.uint64], columns: dict[str, NDArray[Any]]) -> None:
        """Note rows; `columns` has the checked columns of the fields given. The arrays are ours from now on."""
        for place, key in enumerate(keys.tolist()):
            self._rows[table.id, key] = (columns, place)
        self._bulk_keys[id(columns)] = keys
        kernel = self._kernel
        self._operations.append(
            lambda: kernel.insert_many(
                table.id, keys, {table.fields[name].id: cells for name, cells in columns.items()}
            )
        )

    def delete(self, table: TableName, keys: NDArray[np.uint64]) -> None:
        """Note that rows go."""
        for key in keys.tolist():
            self._rows[table.id, key] = None
        self._operations.append(lambda: self._kernel.delete_many(table.id, keys))

    def despawn(self, keys: NDArray[np.uint64], components: Iterable[TableName]) -> None:
        """Note that entities go, with their rows."""
        tables = [table.id for table in components]
        for key in keys.tolist():
            self._rows[0, key] = None
            for table in tables:
                self._rows[table, key] = None
        self._operations.append(lambda: self._kernel.despawn_many(keys))

    # --- answering ---------------------------------------------------------------------------------------------------

    def exists(self, table: TableName, key: int) -> bool | None:
        """Whether the row will be there; None when nothing was noted about it."""
        if (table.id, key) not in self._rows:
            return None
        return self._rows[table.id, key] is not None

    def cell(self, field: FieldName, key: int) -> Any:
        """The noted value of a row that `exists`.

        Raises:
            BorrowError: the kernel counts it on when the row is made, so nobody knows it yet.
        """
        row = self._rows[field.table.id, key]
        assert row is not None, "asked for the cell of a row noted as removed"
        cells, place = row
        if field.name in cells:
            return field.one(cells[field.name] if place is None else cells[field.name][place])[0]
        default = field.default()
        if default is None:
            raise BorrowError(
                f"{field.path} of {key:#x} is counted on when the row is made, which waits until the lent columns are "
                f"back: insert before taking a column, or give the value"
            )
        return field.one(default)[0]

    def update(self, table: TableName, key: int, cells: dict[str, Any]) -> None:
        """Change the noted values of a row that `exists`; `cells` is checked."""
        row = self._rows[table.id, key]
        assert row is not None, "asked to change a row noted as removed"
        noted, place = row
        if place is None:
            noted.update(cells)
            return
        for name, cell in cells.items():
            field = table.fields[name]
            column = noted.get(name)
            if column is None:
                default = field.default()
                if default is None:
                    raise BorrowError(
                        f"{field.path} is counted on when its row is made: give it in insert_many instead"
                    )
                rows = len(self._bulk_keys[id(noted)])
                column = noted[name] = np.repeat(field.one(default), rows, axis=0)
            column[place] = field.one(cell)[0]

    def forget(self) -> None:
        """What was noted is not to be done."""
        self._operations, self._rows, self._bulk_keys = [], {}, {}

    # --- doing -------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Do everything, in order. An error leaves the rest undone: the caller rolls back."""
        operations, self._operations = self._operations, []
        self._rows, self._bulk_keys = {}, {}
        for operation in operations:
            operation()
