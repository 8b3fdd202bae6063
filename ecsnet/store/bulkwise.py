"""Writing many rows in one call.

Invariant: a call that raises has changed nothing, however many rows it was given.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecsnet.errors import ArgumentError
from ecsnet.store.bulk import by_id, checked_columns, is_array, length_of, own_columns
from ecsnet.store.lifecycle import LENDING
from ecsnet.store.names import TableName, as_keys
from ecsnet.store.pointwise import PointWrites, client_id
from ecsnet.store.query import Query
from ecsnet.store.shapes import writable

__all__ = ["BulkWrites"]


class BulkWrites(PointWrites):
    """The verbs for arrays of rows."""

    __slots__ = ()

    def spawn_many(
        self, n: int | None = None, /, *, owner: Any = 0, **components: Mapping[str, ArrayLike] | None
    ) -> NDArray[np.uint64]:
        """Make many entities in one call: `tx.spawn_many(transform={"x": np.arange(1000.0), "y": 0.0}, health={})`.

        A value is an array with one cell per entity, or one value for all. `n` is needed where no array says how many.

        Returns:
            their ids, u64.

        Raises:
            as `spawn`; ArgumentError too where lengths differ. Nothing is changed then.
        """
        self._enter()
        tables = [(self._names.component(name), given or {}) for name, given in components.items()]
        rows = length_of(n, [(table, given) for table, given in tables], owner)
        registry = self._names.by_id[0]
        owners = registry.fields["owner"].column(owner if is_array(owner) else client_id(owner), rows)
        columns = [(table, checked_columns(table, given, rows)) for table, given in tables]
        keys = self._reserve(registry, rows)
        if self._state == LENDING:
            self._queue.insert_many(registry, keys, {"owner": owners})
            for table, cells in columns:
                self._queue.insert_many(table, keys, own_columns(cells))
            return keys.copy()
        self._insert_whole(keys, [(registry, {"owner": owners}), *columns])
        return keys

    @overload
    def insert_many(self, table: str, row: Mapping[str, ArrayLike], n: int | None = None, /) -> NDArray[np.uint64]: ...
    @overload
    def insert_many(self, entities: ArrayLike, /, **components: Mapping[str, ArrayLike] | None) -> Self: ...

    def insert_many(
        self,
        what: Any,
        row: Mapping[str, ArrayLike] | None = None,
        n: int | None = None,
        /,
        **components: Mapping[str, ArrayLike] | None,
    ) -> Self | NDArray[np.uint64]:
        """The bulk form of `insert`: arrays with one cell per row, or one value for all.

        `tx.insert_many(fleet, shield={"strength": strengths})` returns the transaction,
        `tx.insert_many("item", {"kind": kinds})` the new keys, u64.

        Raises:
            as `insert`; ArgumentError too where lengths differ. Nothing is changed then.
        """
        self._enter()
        if isinstance(what, str):
            table = self._names.table(what)
            if not table.keyed:
                raise ArgumentError(f"{what} has no keys of its own: insert_many(entities, {what}={{...}})")
            given = row or {}
            rows = length_of(n, [(table, given)], 0)
            columns = [(table, checked_columns(writable(table), given, rows))]
            keys = self._reserve(table, rows)
        else:
            if row is not None or not components:
                raise ArgumentError("insert_many(entities, ...) takes components by name")
            keys = as_keys(what)
            columns = [
                (component, checked_columns(component, cells or {}, len(keys)))
                for component, cells in [(self._names.component(name), cells) for name, cells in components.items()]
            ]
        if self._state == LENDING:
            if not isinstance(what, str):
                for table, _ in columns:
                    for key in keys.tolist():
                        self._demand_none(table, key)
            for table, cells in columns:
                self._queue.insert_many(table, keys.copy(), own_columns(cells))
        else:
            self._insert_whole(keys, columns)
        return keys if isinstance(what, str) else self

    def update_many(self, keys: Any, table: str, /, **fields: ArrayLike) -> Self:
        """Change the named fields of many rows: arrays with one cell per key, or one value for all.

        Raises:
            as `update` (the first key or cell that is wrong is named); ArgumentError too where lengths differ. Nothing
            is changed then. Where a key comes twice, the last counts.
        """
        self._enter()
        name = writable(self._names.table(table))
        array = keys.key if isinstance(keys, Query) else as_keys(keys)
        columns = {field: name.stored_field(field).column(cells, len(array)) for field, cells in fields.items()}
        if not columns:
            raise ArgumentError(f"update of {table} names no field")
        if self._state == LENDING:
            self._update_many_lent(name, array, columns)
        else:
            self._kernel.update_many(name.id, array, by_id(name, columns))
        return self

    def delete_many(self, keys: Any, table: str, /) -> Self:
        """Remove many rows.

        Raises:
            as `delete` (the first key is named). Nothing is changed then.
        """
        self._enter()
        name = self._deletable(table)
        array = keys.key if isinstance(keys, Query) else as_keys(keys)
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
