"""A transaction as the source of queries: rows of the head as it is now, columns that may be written.

Invariants: from the first writable column on rows stand still; a selection is good for as long as no structural
operation was done.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import ArgumentError, BorrowError
from ecsnet.ids import INDEX_BITS
from ecsnet.store.fields import FieldName
from ecsnet.store.indexes import Index, flat
from ecsnet.store.lifecycle import BUFFERED, DIRECT, LENDING, Lifecycle
from ecsnet.store.names import TableName
from ecsnet.store.query import Selection
from ecsnet.store.shapes import changeable
from ecsnet.store.spatial import Axes, Found, Search, scan

if TYPE_CHECKING:
    from ecsnet._kernel.texts import Texts

__all__ = ["QuerySource"]


class QuerySource(Lifecycle):
    """Queries over the head."""

    __slots__ = ()

    # --- queries -----------------------------------------------------------------------------------------------------

    def _begin_query(self) -> None:
        self._enter()

    # --- as the source of queries ------------------------------------------------------------------------------------

    def join(self, tables: tuple[TableName, ...], without: tuple[TableName, ...]) -> Selection:
        """Resolve a query without its condition."""
        self._enter()
        plan = self._writer.joins.of_head(tables, without)
        return Selection(plan.tables, plan.rows, plan.keys, self._structure)

    def rows_of(self, table: TableName, keys: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """The row of each key in one table, `resolve.NO_ROW` where it has none."""
        self._enter()
        return self._writer.joins.rows_of(None, table, keys)

    def index_of(self, field: FieldName, *, must: bool) -> Index | None:
        """An index over the head's column as it is now, made only where it `must` be: it is good for one question."""
        if not must:
            return None
        whole = self.join((field.table,), ())
        return Index(flat(field, self.read(whole, 0, field)))

    def rows_with(self, field: FieldName, texts: list[str]) -> NDArray[np.intp] | None:
        """None: the head's column changes under an index, so it is scanned."""
        return None

    def holds(self, selection: Selection) -> bool:
        """Whether no structural operation was done since."""
        if self._state == BUFFERED:
            self._enter()
        return selection.structure == self._structure

    def read(self, selection: Selection, position: int, field: FieldName) -> NDArray[Any]:
        """The cells of one field, for reading at once."""
        self._enter()
        if field.kind != "stored":
            return _virtual(field, selection.keys_of(position))
        return self._lending.read(selection, position, field)

    def texts(self, selection: Selection, position: int, field: FieldName) -> "Texts":
        """The cells of a field of strings that all rows have, for asking at once."""
        self._enter()
        return self._lending.texts(selection, position, field)

    def column(self, selection: Selection, position: int, field: FieldName) -> NDArray[Any]:
        """The cells of one field for the game: writable unless they are keys, foreign keys, unique or strings."""
        if self._state != DIRECT and self._state != LENDING:
            self._enter()
        if selection.structure != self._structure:
            raise BorrowError(
                f"rows of {field.table.name} moved since this query was made ({self.label!r} spawned, inserted or "
                f"removed something): take the columns first, or query again"
            )
        if field.kind != "stored":
            return _virtual(field, selection.keys_of(position))
        if selection.read_only(position):
            fixed = self._lending.read(selection, position, field).copy()
            fixed.flags.writeable = False
            return fixed
        if field.lendable and self._state == DIRECT:
            self._state = LENDING
        return self._lending.column(selection, position, field)

    def search(self, search: Search, allowed: NDArray[np.bool_] | None) -> Found:
        """The rows that lie where `search` asks, as the transaction sees them."""
        self._enter()
        axes = search.axes
        lent = self._lending.columns_if_lent(axes.table, axes.fields)
        if lent is None:
            return self._writer.joins.spatial.in_head(search, allowed)
        return scan(search, lent, self._kernel.head_table(axes.table.id).keys, allowed)

    def search_indexed(self, axes: Axes) -> bool:
        """Whether a search would go through the spatial index: none of the columns it reads is lent."""
        return self._lending.columns_if_lent(axes.table, axes.fields) is None

    def assign(self, selection: Selection, position: int, field: FieldName, value: object) -> None:
        """Copy `value` into those cells: floats to floats, integers to integers with the range checked."""
        if not field.lendable:
            changeable(field.table)
            why = "follows from the key" if field.kind != "stored" else "is a foreign key or unique"
            if field.string:
                why = "holds strings"
            raise ArgumentError(f"{field.path} {why} and is read-only as a column: use tx.update(key, ...)")
        if selection.read_only(position):
            raise ArgumentError(
                f"{field.path} is read-only in a join, where one row may stand in several places: use "
                f"tx.update_many(rows.key, ...)"
            )
        cells = self.column(selection, position, field)
        if value is cells:
            # `body.x += v` has changed the array already, and assigns it to itself.
            return
        wanted = field.cast(value)
        if wanted.shape != cells.shape:
            try:
                wanted = np.broadcast_to(wanted, cells.shape)
            except ValueError:
                field.refuse(value, f"{len(cells)} rows, or one value for all")
        np.copyto(cells, wanted)


def _virtual(field: FieldName, keys: NDArray[np.uint64]) -> NDArray[Any]:
    if field.kind == "key":
        return keys
    generations = (keys >> np.uint64(INDEX_BITS)).astype(np.uint32)
    generations.flags.writeable = False
    return generations
