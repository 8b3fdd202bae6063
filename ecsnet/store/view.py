"""A view: one version of the whole world, pinned, read-only, the same across all tables for as long as it is held.

Reading costs nobody anything: a column is the kernel's own memory as a numpy array, without a copy; the writer goes on
beside it. Arrays taken from a view hold the pin by themselves, so they outlive `close()` and the store.

Invariants:
- everything read through one view belongs to its one version;
- no array of a view can be made writable.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecsnet.errors import ArgumentError, ClosedError, NoRowError, StaleEntityError
from ecsnet.expressions import Column
from ecsnet.ids import INDEX_BITS, Tick, Version
from ecsnet.schema.handles import Cell, Element, Field
from ecsnet.store.fields import FieldName
from ecsnet.store.lookup import Lookup
from ecsnet.store.names import Names, TableName, as_key, key_and_table
from ecsnet.store.neighbours import Neighbours, neighbours
from ecsnet.store.places import INDEX_MASK, READS_BEFORE_PLACES
from ecsnet.store.query import Selection
from ecsnet.store.readers import reader_of
from ecsnet.store.relations import Direction, Related, related_rows
from ecsnet.store.result import structured, text_of, text_table
from ecsnet.store.selection import cells_at
from ecsnet.store.spatial import Axes, Found, Search
from ecsnet.store.typed import Path, Selector, named_fields, names_table

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import Pin
    from ecsnet._kernel.texts import TextCells, Texts
    from ecsnet.schema.python import Row
    from ecsnet.store.indexes import Index
    from ecsnet.store.joins import Joins
    from ecsnet.store.places import PlacesCache

__all__ = ["View", "ViewTable"]

_PRINTED_ROWS = 10


class View(Lookup):
    """One version. Made by `Store.view()`; a context manager, though letting it go does as well."""

    __slots__ = (
        "__weakref__",
        "_columns",
        "_indexes",
        "_joins",
        "_names",
        "_pin",
        "_places",
        "_quick",
        "_reads",
        "tick",
        "version",
    )

    def __init__(self, names: Names, pin: "Pin", joins: "Joins", places: "PlacesCache"):
        self.version = Version(pin.version)
        """The version that this view shows, or showed before it was closed."""
        self.tick = Tick(pin.tick)
        """The tick in which that version was made."""
        self._names = names
        self._pin: Pin | None = pin
        self._joins = joins
        self._places = places
        # path -> its cells by row, and where the row of a key is, once asking for them has paid.
        self._quick: dict[str, tuple[memoryview | TextCells, memoryview, memoryview]] = {}
        self._reads: dict[str, int] = {}
        self._columns: dict[str, NDArray[Any]] = {}
        self._indexes: dict[FieldName, Index] = {}

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def names(self) -> Names:
        """The schema's names."""
        return self._names

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._pin is None

    def digest(self, *, wire: bool = False) -> str:
        """The digest of the replicated tables, 32 hex digits: equal worlds have equal digests, whatever order their
        rows lie in. It scans every cell.

        Args:
            wire: of the cells as they travel, rounded as the schema says: what a replica of this version has.
        """
        return bytes(self._open().digest(wire=wire)).hex()

    # --- reading -----------------------------------------------------------------------------------------------------

    @overload
    def __getitem__(self, what: tuple[int, Field[Cell, Any]]) -> Cell: ...
    @overload
    def __getitem__(self, what: tuple[int, str]) -> Any: ...
    @overload
    def __getitem__(self, what: Field[Any, Element]) -> NDArray[Element]: ...
    @overload
    def __getitem__(self, what: "type[Row]") -> "ViewTable": ...
    @overload
    def __getitem__(self, what: str) -> Any: ...

    def __getitem__(self, what: Any) -> Any:
        """`view[key, Health.hp]` is a cell, `view[Health.hp]` a column, `view[Health]` a table; or by name
        `view[key, "health.hp"]`, `view["health.hp"]`, `view["health"]`.

        A cell comes as int (an enum's too), float, bool, `str`, `bytes`, or an array of its own for `[T; N]`. A column
        is a read-only array of shape `(rows,)` or `(rows, N)` over the kernel's memory, in the order of
        `view["health"].key`; of strings it is an array of `str`, decoded.

        Raises:
            StaleEntityError, NoRowError: the key is not alive, or has no such row.
            UnknownNameError: no such table or field. ClosedError: after `close()`.
        """
        if what.__class__ is tuple:
            try:
                key, path = what
            except ValueError:
                raise _nothing_of_a_view(what) from None
            if path.__class__ is not str:
                path = self._names.written(path)
            quick = self._quick.get(path)
            if quick is not None:
                cells, rows, keys = quick
                try:
                    row = rows[key & INDEX_MASK]
                    if keys[row] == key:
                        return cells[row]
                except (IndexError, TypeError):
                    # Not there, or no key at all: the long way says which.
                    pass
            return self._cell(key, path)
        if isinstance(what, Column) or (isinstance(what, str) and "." in what):
            return self._column(self._names.path(what))
        if isinstance(what, str | type):
            return ViewTable(self, self._names.table(what))
        raise _nothing_of_a_view(what)

    def __contains__(self, what: object) -> bool:
        """`entity in view`, or `(key, Health) in view`: whether it is alive, whether it has the row."""
        if isinstance(what, tuple):
            key, selector = key_and_table(what)
            table = self._names.table(selector)
        else:
            key, table = what, self._names.by_id[0]
        try:
            self._open().row(table.id, as_key(key))
        except (StaleEntityError, NoRowError):
            return False
        return True

    def _begin_query(self) -> None:
        self._open()

    def related(self, key: int, /, *fields: Path, depth: int | None = 1, direction: Direction = "incoming") -> Related:
        """The rows that references lead to from a row: `view.related(ship, Item.holder)` are the items that the ship
        holds. It costs what is found, in any version, however large its tables.

        Args:
            key: where to begin; it is not in the result.
            fields: the foreign keys to follow, one after another: `related(ada, Friend.a, Friend.b)` goes through the
                rows of a table between. Each field's step goes the way that leads on from the rows before it.
            depth: how often to go on from what was found, where the fields lead back to the table they begin in. None
                for as long as there is anything new; a ring ends where it closes.
            direction: "incoming" begins with who refers to `key`; "outgoing" with whom it refers to, so `key` is then
                one of the first field's table; "both" follows the fields forwards and backwards in every round.

        Returns:
            their keys, breadth first and by key, with the depth of each.

        Raises:
            StaleEntityError: `key` is not in this version. UnknownNameError: no such field.
            ArgumentError: a field is no foreign key, or leads on from other rows than it is given; a depth above 1, or
                both directions, of fields that do not lead back.
        """
        return related_rows(self._names, self._open(), key, fields, depth, direction)

    @overload
    def reader(self, field: Field[Cell, Any], /) -> Callable[[int], Cell]: ...
    @overload
    def reader(self, /, *what: Selector | Path) -> Callable[[int], Any]: ...

    def reader(self, /, *what: Selector | Path) -> Callable[[int], Any]:
        """Prepare a read: `hp = view.reader(Health.hp)`, then `hp(ship)` is what `view[ship, Health.hp]` is, for less.
        Of a table, or of several fields of one, it is a tuple: `place = view.reader(Transform.x, Transform.y)`.

        The reader holds the version like an array: it goes on after `close()`.

        Raises:
            UnknownNameError, ArgumentError: no such table or field, or fields of different tables. The function raises
            StaleEntityError, NoRowError, ArgumentError (no key).
        """
        pin = self._open()
        table, fields = named_fields(self._names, what)
        single = len(fields) == 1 and not names_table(what[0])
        return reader_of(pin.again(), self._places.of(pin, table.id), table, fields, single)

    def close(self) -> None:
        """Let go of the version. Arrays taken from the view stay valid while they are held. Again is harmless."""
        if self._pin is not None:
            self._pin.release()
            self._pin = None
            self._quick = {}
            self._columns = {}
            self._indexes = {}

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return "<closed view>" if self._pin is None else f"<view of version {self._pin.version}>"

    # --- as the source of queries ------------------------------------------------------------------------------------

    def join(self, tables: tuple[TableName, ...], without: tuple[TableName, ...]) -> Selection:
        """Resolve a query without its condition."""
        return self._joins.of_pin(self._open(), tables, without)

    def holds(self, selection: Selection) -> bool:
        """Always: a version never changes."""
        return True

    def rows_of(self, table: TableName, keys: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """The row of each key in one table, `resolve.NO_ROW` where it has none."""
        return self._joins.rows_of(self._open(), table, keys)

    def index_of(self, field: FieldName, *, must: bool) -> "Index | None":
        """The rows of a stored field by its value; None where none `must` be made and it would not pay."""
        known = self._indexes.get(field)
        if known is None:
            known = self._joins.index_of_pin(self._open(), field, self._column(field), must)
            if known is not None:
                self._indexes[field] = known
        return known

    def rows_with(self, field: FieldName, texts: list[str]) -> NDArray[np.intp] | None:
        """The rows in which a field of strings has one of `texts`, by an index; None where that would not pay."""
        return self._joins.text_indexes.rows(self._open(), field, texts)

    def read(self, selection: Selection, position: int, field: FieldName) -> NDArray[Any]:
        """The cells of one field, aligned with the selection, read-only."""
        if field.kind != "stored":
            keys = selection.keys_of(position)
            cells = keys if field.kind == "key" else _generations(keys)
        else:
            cells = cells_at(self._column(field), selection, position, field)
        cells.flags.writeable = False
        return cells

    column = read

    def neighbours(
        self, table: Selector, places: ArrayLike, *, radius: ArrayLike | None = None, k: int | None = None
    ) -> Neighbours:
        """The rows of a spatial table near each of many places, in one call: those within `radius` of it, or the `k`
        nearest.

        ```python
        for entity, close in zip(players, view.neighbours(Transform, places, radius=50.0)):
            ...                                 # close: the keys of those near this player, u64
        ```

        Args:
            table: a table that declares `spatial`.
            places: shape (places, 2) or (places, 3), as many numbers as it has axes.
            radius: one for all, or one for each place.
            k: how many.

        Raises:
            UnknownNameError, ArgumentError: no such table, or one without axes; wrong shapes, NaN; both of radius and
            k, or neither. ClosedError.
        """
        return neighbours(self, self._names.table(table), places, radius, k)

    def search(self, search: Search, allowed: NDArray[np.bool_] | None) -> Found:
        """The rows that lie where `search` asks, through the spatial index of this version."""
        return self._joins.spatial.in_view(self, self._open(), search, allowed)

    def search_indexed(self, axes: Axes) -> bool:
        """Whether a search would go through the spatial index: always."""
        return True

    def texts(self, selection: Selection, position: int, field: FieldName) -> "Texts":
        """The cells of a field of strings that all rows have, aligned with the selection, for asking."""
        return self._open().texts(field.table.id, field.id).take(selection.rows[position])

    def assign(self, selection: Selection, position: int, field: FieldName, value: object) -> None:
        """Refused: a view is read-only."""
        raise ArgumentError(f"{field.path} belongs to a view, which is read-only: write in a transaction")

    # --- inside ------------------------------------------------------------------------------------------------------

    def _open(self) -> "Pin":
        if self._pin is None:
            raise ClosedError("the view is closed; take a new one with store.view()")
        return self._pin

    def keys_of(self, table: TableName) -> NDArray[np.uint64]:
        """The keys of a table's rows, u64, read-only, in the order of its columns."""
        return self._open().keys(table.id)

    def _column(self, field: FieldName) -> NDArray[Any]:
        column = self._columns.get(field.path)
        if column is None:
            pin = self._open()
            if field.string:
                column = pin.texts(field.table.id, field.id).decode()
                column.flags.writeable = False
            elif field.kind == "stored":
                column = pin.column(field.table.id, field.id)
            else:
                column = pin.keys(field.table.id)
                if field.kind == "generation":
                    column = _generations(column)
                    column.flags.writeable = False
            self._columns[field.path] = column
        return column

    def _cell(self, key: Any, path: str) -> Any:
        """Read a cell through the kernel; after some of them, do without it."""
        field = self._names.path(path)
        if field.string:
            return self._cell_of_text(key, field)
        column, table_id = self._column(field), field.table.id
        row = self._open().row(table_id, as_key(key))
        reads = self._reads[path] = self._reads.get(path, 0) + 1
        if reads == READS_BEFORE_PLACES and not field.shape:
            places = self._places.of(self._open(), table_id)
            if places is not None:
                # Memoryviews: they give Python scalars, at half the price of numpy's.
                self._quick[path] = memoryview(column.data), places.rows, places.keys
        return field.python(column[row])

    def _cell_of_text(self, key: Any, field: FieldName) -> str:
        """As `_cell`, without decoding the column for the sake of a cell."""
        pin, table_id, path = self._open(), field.table.id, field.path
        text = pin.text(table_id, field.id, pin.row(table_id, as_key(key)))
        reads = self._reads[path] = self._reads.get(path, 0) + 1
        if reads == READS_BEFORE_PLACES:
            places = self._places.of(pin, table_id)
            if places is not None:
                self._quick[path] = pin.text_cells(table_id, field.id), places.rows, places.keys
        return text


class ViewTable:
    """One table of a view. `print` shows its first rows as text."""

    __slots__ = ("_table", "_view")

    def __init__(self, view: View, table: TableName):
        self._view = view
        self._table = table

    @property
    def key(self) -> NDArray[np.uint64]:
        """The keys of the rows, u64, read-only."""
        return self._view.keys_of(self._table)

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields."""
        return tuple(self._table.fields)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._view._column(self._table.field(name))

    def __len__(self) -> int:
        return len(self.key)

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Every column by its name, and "key": read-only arrays in one order, over the view's memory."""
        columns = {"key": self.key} if "key" not in self._table.fields else {}
        return columns | {name: self[name] for name in self._table.fields}

    def to_numpy(self) -> NDArray[Any]:
        """One structured array, a record per row, of what `to_dict` has."""
        return structured(self.to_dict())

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The columns for pyarrow, polars, pandas and DuckDB, by the Arrow C stream interface. Numbers are not copied,
        and hold this version for as long as the other side has them."""
        from ecsnet._kernel.arrow import stream

        return stream(self.to_dict())

    def __str__(self) -> str:
        rows = min(len(self), _PRINTED_ROWS)
        shown = [("key", [f"{key:#x}" for key in self.key[:rows].tolist()])]
        for field in self._table.fields.values():
            if field.kind != "key":
                shown.append((field.name, [text_of(field, cell) for cell in self[field.name][:rows]]))
        title = f"{self._table.name}: {len(self)} rows at version {self._view.version}"
        return text_table(title, shown, len(self))

    def __repr__(self) -> str:
        return f"<{len(self)} rows of {self._table.name} at version {self._view.version}>"


def _generations(keys: NDArray[np.uint64]) -> NDArray[np.uint32]:
    return (keys >> np.uint64(INDEX_BITS)).astype(np.uint32)


def _nothing_of_a_view(what: object) -> ArgumentError:
    return ArgumentError(
        f"expected view[key, Health.hp], view[Health.hp] or view[Health], or their names, found view[{what!r}]"
    )
