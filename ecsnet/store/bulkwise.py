"""Writing many rows in one call.

Invariant: a call that raises has changed nothing, however many rows it was given.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecsnet.errors import ArgumentError
from ecsnet.store.bulk import (
    Columns,
    by_id,
    checked_columns,
    columns_of,
    given_to,
    is_array,
    keys_of,
    length_of,
    own_columns,
)
from ecsnet.store.lifecycle import LENDING
from ecsnet.store.names import TableName
from ecsnet.store.pointwise import PointWrites, client_id
from ecsnet.store.query import AnyQuery
from ecsnet.store.shapes import changeable, writable
from ecsnet.store.typed import Selector, selects

if TYPE_CHECKING:
    from ecsnet.schema.python import Component, Event, Table

__all__ = ["BulkWrites"]


class BulkWrites(PointWrites):
    """The verbs for arrays of rows."""

    __slots__ = ()

    @overload
    def spawn_many(
        self, n: int, /, *rows: "Component", owner: Any = 0, **components: Columns | None
    ) -> NDArray[np.uint64]: ...
    @overload
    def spawn_many(self, /, *rows: "Component", owner: Any = 0, **components: Columns | None) -> NDArray[np.uint64]: ...

    def spawn_many(self, /, *rows: Any, owner: Any = 0, **components: Any) -> NDArray[np.uint64]:
        """Make many entities in one call: `tx.spawn_many(Transform(x=np.arange(1000.0), y=0.0), Health())`, or by name
        `tx.spawn_many(transform={"x": np.arange(1000.0), "y": 0.0}, health={})`.

        A value is an array with one cell per entity, or one value for all. By name a component may also be a structured
        array, or a list of dicts with the same names. Where no array says how many, the number comes first:
        `tx.spawn_many(1000, Transform())`.

        Args:
            owner: one client (or its id) for all, or an array of ids, u64.

        Returns:
            their ids, u64.

        Raises:
            as `spawn`; ArgumentError too where lengths differ. Nothing is changed then.
        """
        self._enter()
        n = None
        if rows and not hasattr(rows[0], "ecsnet_values"):
            n, rows = rows[0], rows[1:]
        tables = [
            (component, columns_of(component, given))
            for component, given in [
                (self._names.component(table), given) for table, given in given_to(rows, components)
            ]
        ]
        count = length_of(n, tables, owner)
        registry = self._names.by_id[0]
        owners = registry.fields["owner"].column(owner if is_array(owner) else client_id(owner), count)
        columns = [(table, checked_columns(table, given, count)) for table, given in tables]
        keys = self._reserve(registry, count)
        if self._state == LENDING:
            self._queue.insert_many(registry, keys, {"owner": owners})
            for table, cells in columns:
                self._queue.insert_many(table, keys, own_columns(cells))
            return keys.copy()
        self._insert_whole(keys, [(registry, {"owner": owners}), *columns])
        return keys

    @overload
    def insert_many(self, rows: "Table | Event | Sequence[Table] | Sequence[Event]", /) -> NDArray[np.uint64]: ...
    @overload
    def insert_many(self, table: Selector, columns: Columns, n: int | None = None, /) -> NDArray[np.uint64]: ...
    @overload
    def insert_many(
        self,
        entities: NDArray[Any] | Sequence[int] | AnyQuery,
        /,
        *rows: "Component",
        **components: Columns | None,
    ) -> Self: ...

    def insert_many(self, what: Any, /, *rows: Any, **components: Any) -> Self | NDArray[np.uint64]:
        """The bulk form of `insert`: arrays with one cell per row, or one value for all.

        `tx.insert_many(fleet, Shield(strength=strengths))` and `tx.insert_many(fleet, shield={"strength": strengths})`
        return the transaction. A table with keys of its own gives the new keys, u64:
        `tx.insert_many(Item(kind=kinds))`, `tx.insert_many("item", {"kind": kinds})`. Instead of a dict of columns
        there may be a structured array, or a list of rows or dicts with the same names;
        `tx.insert_many("item", {}, 10)` makes ten rows of defaults.

        Raises:
            as `insert`; ArgumentError too where lengths differ. Nothing is changed then.
        """
        self._enter()
        keyed = self._keyed_rows(what, rows, components)
        if keyed is not None:
            table, given, n = keyed
            count = length_of(n, [(table, given)], 0)
            columns = [(table, checked_columns(table, given, count))]
            keys = self._reserve(table, count)
        else:
            if not rows and not components:
                raise ArgumentError("insert_many(entities, ...) takes components by name or as rows")
            keys = keys_of(what)
            columns = []
            for selector, raw in given_to(rows, components):
                component = self._names.component(selector)
                columns.append((component, checked_columns(component, columns_of(component, raw), len(keys))))
        if self._state == LENDING:
            if keyed is None:
                for table, _ in columns:
                    for key in keys.tolist():
                        self._demand_none(table, key)
            for table, cells in columns:
                self._queue.insert_many(table, keys.copy(), own_columns(cells))
        else:
            self._insert_whole(keys, columns)
        return self if keyed is None else keys

    def _keyed_rows(
        self, what: Any, rows: tuple[Any, ...], components: Mapping[str, Any]
    ) -> tuple[TableName, Mapping[str, Any], int | None] | None:
        """Table, columns and number of an `insert_many` that makes keys of its own; None where it is given entities."""
        n: int | None = None
        if selects(what):
            if components or len(rows) not in (1, 2):
                raise ArgumentError(
                    f"insert_many({what!r}, {{...}}) takes one dict of columns, and how many rows if need be"
                )
            selector, raw = what, rows[0]
            n = rows[1] if len(rows) == 2 else None
        else:
            first = what[0] if isinstance(what, list | tuple) and what else what
            if not hasattr(first, "ecsnet_values"):
                return None
            if rows or components:
                raise ArgumentError("insert_many(rows) takes rows with keys of their own; components go with entities")
            selector, raw = type(first), what
        table = self._names.keyed(selector, "insert_many", "entities")
        return writable(table), columns_of(table, raw), n

    def update_many(self, keys: Any, table: Selector, columns: Columns | None = None, /, **fields: ArrayLike) -> Self:
        """Change the named fields of many rows: arrays with one cell per key, or one value for all.

        `tx.update_many(fleet, Health, hp=np.full(1000, 50))`; instead of keywords there may be a dict of columns, a
        structured array, or a list of dicts with the same names.

        Args:
            keys: u64, in any order, or a query of the table.

        Raises:
            as `update` (the first key or cell that is wrong is named); ArgumentError too where lengths differ. Nothing
            is changed then. Where a key comes twice, the last counts.
        """
        self._enter()
        name = changeable(self._names.table(table))
        array = keys_of(keys)
        if columns is not None and fields:
            raise ArgumentError(f"update_many of {name.name}: give the columns as one object or by name, not both")
        given = columns_of(name, fields if columns is None else columns)
        checked = {field: name.stored_field(field).column(cells, len(array)) for field, cells in given.items()}
        if not checked:
            raise ArgumentError(f"update of {name.name} names no field")
        if self._state == LENDING:
            self._update_many_lent(name, array, checked)
        else:
            self._kernel.update_many(name.id, array, by_id(name, checked))
        return self

    def delete_many(self, keys: Any, table: Selector, /) -> Self:
        """Remove many rows, named by keys (u64) or by a query of the table.

        Raises:
            as `delete` (the first key is named). Nothing is changed then.
        """
        self._enter()
        name = self._deletable(table)
        array = keys_of(keys)
        if self._state == LENDING:
            for key in array.tolist():
                self._demand(name, key)
            self._queue.delete(name, array.copy())
        else:
            self._whole(lambda: self._kernel.delete_many(name.id, array))
        return self

    # --- inside ------------------------------------------------------------------------------------------------------

    def _insert_whole(
        self, keys: NDArray[np.uint64], columns: Sequence[tuple[TableName, Mapping[str, NDArray[Any]]]]
    ) -> None:
        """Insert rows into several tables, all or none."""

        def insert() -> None:
            for table, cells in columns:
                self._kernel.insert_many(table.id, keys, by_id(table, cells))

        self._whole(insert)

    def _update_many_lent(self, table: TableName, keys: NDArray[np.uint64], columns: dict[str, NDArray[Any]]) -> None:
        listed = keys.tolist()
        if any(self._queue.exists(table, key) is not None for key in listed):
            for key in listed:
                self._demand(table, key)
            for place, key in enumerate(listed):
                cells = {name: table.fields[name].python(column[place]) for name, column in columns.items()}
                self._update_lent(key, table.name, cells)
            return
        self._lending.scatter(table)
        self._kernel.update_many(table.id, keys, by_id(table, columns))
        for name in columns:
            self._lending.touch(table.fields[name])
