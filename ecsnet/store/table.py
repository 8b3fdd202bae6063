"""One table of a store, each call a transaction of its own: `store[Health].update(ship, hp=80)`.

Convenient for tools and tests. Anything that must happen together, or often, belongs in one transaction: `batch()`
gives one with the same verbs.

Invariant: nothing is read from one version and written in another without being said: a filter's `update` and `delete`
find their rows inside the very transaction that changes them.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecsnet.errors import ArgumentError
from ecsnet.expressions import Condition
from ecsnet.ids import Version
from ecsnet.store.bulk import Columns, keys_of, row_cells
from ecsnet.store.names import TableName, as_key
from ecsnet.store.transaction import Transaction

if TYPE_CHECKING:
    from ecsnet.schema.python import Row
    from ecsnet.store.store import Store

__all__ = ["Batch", "Filter", "TableHandle"]


class TableHandle:
    """A table by name. Each call begins and commits a transaction, and raises what that would raise."""

    __slots__ = ("_store", "_table")

    def __init__(self, store: "Store", table: TableName):
        self._store = store
        self._table = table

    @property
    def name(self) -> str:
        """The table's name."""
        return self._table.name

    def insert(self, /, *what: "int | Row", **fields: Any) -> int:
        """Give an entity this component, `store[Shield].insert(ship, strength=3)`, or make a row of a table with keys
        of its own, `store[Item].insert(kind=Kind.SWORD)`. The fields may come as a row: `insert(Item(kind=1))`.

        Returns:
            the row's key.

        Raises:
            as `Transaction.insert`, and BusyError: somebody else is writing. Nothing has changed then.
        """
        with self._store.transaction(f"insert into {self.name}") as tx:
            return _insert(tx, self._table, what, fields)

    def insert_many(self, /, *what: Any, **columns: ArrayLike) -> NDArray[np.uint64]:
        """As `insert` for arrays: `store[Shield].insert_many(fleet, strength=strengths)`,
        `store[Item].insert_many(kind=kinds)`; columns may come in any form that `Transaction.insert_many` takes.

        Returns:
            the rows' keys, u64.
        """
        with self._store.transaction(f"insert into {self.name}") as tx:
            return _insert_many(tx, self._table, what, columns)

    def update(self, key: int, /, **fields: Any) -> None:
        """Change the named fields of one row. Raises as `Transaction.update`, and BusyError."""
        with self._store.transaction(f"update of {self.name}") as tx:
            tx.update(key, self.name, **fields)

    def update_many(self, keys: Any, columns: Columns | None = None, /, **fields: ArrayLike) -> None:
        """Change the named fields of many rows. Raises as `Transaction.update_many`, and BusyError."""
        with self._store.transaction(f"update of {self.name}") as tx:
            tx.update_many(keys, self.name, columns, **fields)

    def delete(self, key: int, /) -> None:
        """Remove one row. Raises as `Transaction.delete`, and BusyError."""
        with self._store.transaction(f"delete from {self.name}") as tx:
            tx.delete(key, self.name)

    def delete_many(self, keys: Any, /) -> None:
        """Remove many rows. Raises as `Transaction.delete_many`, and BusyError."""
        with self._store.transaction(f"delete from {self.name}") as tx:
            tx.delete_many(keys, self.name)

    def get(self, key: int, /) -> dict[str, Any]:
        """One row of the newest version, as a dict."""
        with self._store.view() as view:
            return {name: view[key, f"{self.name}.{name}"] for name in self._table.fields}

    def filter(self, condition: Condition | None = None) -> "Filter":
        """The rows for which `condition` is true, found anew by each call made on the result."""
        return Filter(self._store, self._table, condition)

    def count(self) -> int:
        """How many rows the newest version has."""
        return self.filter().count()

    def batch(self) -> "Batch":
        """One transaction with this table's verbs: `with health.batch() as batch: batch.update(ship, hp=70)`."""
        return Batch(self._store.transaction(f"batch of {self.name}"), self._table)

    def __len__(self) -> int:
        return self.count()

    def __contains__(self, key: object) -> bool:
        with self._store.view() as view:
            return (key, self.name) in view

    def __repr__(self) -> str:
        return f"<table {self.name} of {self._store!r}>"


class Filter:
    """Some rows of one table. It holds no version: each call asks the newest."""

    __slots__ = ("_condition", "_store", "_table")

    def __init__(self, store: "Store", table: TableName, condition: Condition | None):
        self._store = store
        self._table = table
        self._condition = condition
        if condition is not None:
            # Asked here so that a wrong name is reported where it was written.
            with store.view() as view:
                view.query(table.name).where(condition)

    def filter(self, condition: Condition) -> "Filter":
        """Fewer rows: those for which `condition` is true as well."""
        both = condition if self._condition is None else self._condition & condition
        return Filter(self._store, self._table, both)

    @property
    def key(self) -> NDArray[np.uint64]:
        """The keys of the rows, u64, read-only."""
        with self._store.view() as view:
            query = view.query(self._table.name)
            return (query if self._condition is None else query.where(self._condition)).key

    def count(self) -> int:
        """How many rows."""
        return len(self.key)

    def update(self, **fields: ArrayLike) -> int:
        """Change the named fields of all the rows to one value each, in one transaction. Returns how many rows."""
        with self._store.transaction(f"update of {self._table.name}") as tx:
            keys = self._within(tx)
            # Also of none: a wrong name is wrong then, too.
            tx.update_many(keys, self._table.name, **fields)
            return len(keys)

    def delete(self) -> int:
        """Remove the rows, in one transaction. Returns how many."""
        with self._store.transaction(f"delete from {self._table.name}") as tx:
            keys = self._within(tx)
            tx.delete_many(keys, self._table.name)
            return len(keys)

    def _within(self, tx: Transaction) -> NDArray[np.uint64]:
        query = tx.query(self._table.name)
        return (query if self._condition is None else query.where(self._condition)).key

    def __repr__(self) -> str:
        return f"<rows of {self._table.name} where {self._condition!r}>"


class Batch:
    """One transaction over one table. Commits at the end of `with`, rolls back on an exception."""

    __slots__ = ("_table", "transaction")

    def __init__(self, transaction: Transaction, table: TableName):
        self.transaction = transaction
        """The transaction itself, for whatever else belongs into it."""
        self._table = table

    def __repr__(self) -> str:
        return f"<batch in {self.transaction!r}>"

    def insert(self, /, *what: "int | Row", **fields: Any) -> int:
        """As `TableHandle.insert`."""
        return _insert(self.transaction, self._table, what, fields)

    def insert_many(self, /, *what: Any, **columns: ArrayLike) -> NDArray[np.uint64]:
        """As `TableHandle.insert_many`."""
        return _insert_many(self.transaction, self._table, what, columns)

    def update(self, key: int, /, **fields: Any) -> Self:
        """As `TableHandle.update`."""
        self.transaction.update(key, self._table.name, **fields)
        return self

    def update_many(self, keys: Any, columns: Columns | None = None, /, **fields: ArrayLike) -> Self:
        """As `TableHandle.update_many`."""
        self.transaction.update_many(keys, self._table.name, columns, **fields)
        return self

    def delete(self, key: int, /) -> Self:
        """As `TableHandle.delete`."""
        self.transaction.delete(key, self._table.name)
        return self

    def delete_many(self, keys: Any, /) -> Self:
        """As `TableHandle.delete_many`."""
        self.transaction.delete_many(keys, self._table.name)
        return self

    def commit(self) -> Version | None:
        """As `Transaction.commit`."""
        return self.transaction.commit()

    def rollback(self) -> None:
        """As `Transaction.rollback`."""
        self.transaction.rollback()

    def __enter__(self) -> Self:
        self.transaction.__enter__()
        return self

    def __exit__(self, *failure: Any) -> None:
        self.transaction.__exit__(*failure)


def _insert(tx: Transaction, table: TableName, what: tuple[Any, ...], fields: Mapping[str, Any]) -> int:
    entity, given = _parts(table, what, fields)
    if not table.component:
        return tx.insert(table.name, row_cells(table.name, getattr(given, "ecsnet_values", given)))
    tx.insert(entity, **{table.name: given})
    return as_key(entity)


def _insert_many(
    tx: Transaction, table: TableName, what: tuple[Any, ...], columns: Mapping[str, Any]
) -> NDArray[np.uint64]:
    entities, given = _parts(table, what, columns)
    if not table.component:
        return tx.insert_many(table.name, given)
    keys = keys_of(entities)
    tx.insert_many(keys, **{table.name: given})
    return keys


def _parts(table: TableName, what: tuple[Any, ...], fields: Mapping[str, Any]) -> tuple[Any, Any]:
    """The keys and what the rows are given, of a call that may have either by place.

    Raises:
        ArgumentError: a component without its entity, keys for a table that has its own, or fields given twice.
    """
    wanted = 1 if table.component else 0
    if len(what) < wanted:
        raise ArgumentError(f"{table.name} is a component: give the entity first")
    if len(what) > wanted + 1:
        raise ArgumentError(f"{table.name}: expected {'an entity and ' * wanted}one row, found {len(what)} objects")
    key, rest = (what[0], what[1:]) if wanted else (None, what)
    if not wanted and rest and isinstance(rest[0], int | np.integer):
        raise ArgumentError(f"{table.name} has keys of its own: insert(**fields) returns the new one")
    if rest and fields:
        raise ArgumentError(f"{table.name}: give the fields as one row or by name, not both")
    given = rest[0] if rest else dict(fields)
    named = getattr(given[0] if isinstance(given, list | tuple) and given else given, "ecsnet_table", table.name)
    if named != table.name:
        raise ArgumentError(f"expected a row of {table.name}, found one of {named}")
    return key, given
