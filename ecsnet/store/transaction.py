"""A transaction: everything a game does to its world, all or nothing.

It is applied to the kernel's private head as it goes, so that it reads its own writes; nobody else sees any of it
before the commit, and an exception undoes all of it. The writer's baton is taken at the first operation and given back
at the end, so an unused transaction costs nothing and holds nobody up.

    idle ──first operation──► direct ──first lent array──► lending
      │                          │                            │
      └──────────────────────────┴───commit or rollback───────┴──► closed

Invariants:
- an operation that raises has changed nothing, and the transaction may go on;
- a commit that raises has changed nothing, and the transaction is closed;
- an id that `spawn` or `insert` returned is final, also while the operation waits for lent columns to come back;
- while *lending*, rows stand still: structural operations are noted down (`queued`) and done at commit, in call order.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecsnet.errors import (
    ArgumentError,
    BorrowError,
    ClosedError,
    EcsnetError,
    NoRowError,
    NotBuiltError,
    RowExistsError,
    StaleEntityError,
)
from ecsnet.ids import INDEX_BITS, Entity, Tick, Version
from ecsnet.store.bulk import by_id, checked_columns, is_array, length_of, own_columns, row_cells
from ecsnet.store.fields import FieldName
from ecsnet.store.lending import Lending
from ecsnet.store.lookup import Lookup
from ecsnet.store.names import Names, TableName, as_key, as_keys, typed_not_built
from ecsnet.store.query import Query, Selection, query_of
from ecsnet.store.queued import Queue
from ecsnet.store.shapes import PACKING_ERRORS, InsertRecipe, writable

if TYPE_CHECKING:
    from ecsnet.store.store import Writer

__all__ = ["Randomness", "Transaction"]

_IDLE: Final = 0
_DIRECT: Final = 1
_LENDING: Final = 2
_CLOSED: Final = 3

Cells = Mapping[str, Any]
Randomness = np.random.Generator | Callable[[], np.random.Generator] | None


class Transaction(Lookup):
    """All or nothing. Made by `Store.transaction()`, or by the authority for each command and system.

    As a context manager it commits at the end and rolls back on an exception. Calls that give no id or key return the
    transaction, so they chain: `store.transaction().update(ship, "health", hp=90).delete(ship, "shield").commit()`.
    """

    __slots__ = (
        "__weakref__",
        "_cells",
        "_inserts",
        "_kernel",
        "_lending",
        "_names",
        "_queue",
        "_random",
        "_recipes",
        "_state",
        "_structure",
        "_update",
        "_updates",
        "_writer",
        "dt",
        "label",
        "tick",
        "version",
    )

    def __init__(self, writer: "Writer", label: str, tick: Tick, dt: float, random: Randomness):
        self._writer = writer
        self._names: Names = writer.names
        self._kernel = writer.kernel
        self._recipes = writer.recipes
        self._inserts = writer.recipes.inserts
        self._updates = writer.recipes.updates
        self._cells = writer.recipes.cells
        self._update = writer.kernel.update
        self._state = _IDLE
        self._structure = 0
        self._queue = Queue(writer.kernel)
        self._lending = Lending(writer.kernel, label)
        self._random = random
        self.label = label
        """What warnings about this transaction call it: the name of a system or command."""
        self.dt = dt
        """Seconds of game time in this step, exactly `every / hz`; 0.0 outside a tick."""
        self.tick = tick
        """The tick that it runs in; outside one, the newest published."""
        self.version: Version | None = None
        """After the commit, the version that contains it; inside a tick, None until that is published."""

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def random(self) -> np.random.Generator:
        """Randomness that a replay repeats: seeded by (world seed, tick, function).

        Raises:
            ArgumentError: outside a tick there is no such seed.
        """
        if self._random is None:
            raise ArgumentError("tx.random exists inside a tick; elsewhere use numpy.random.default_rng(seed)")
        if not isinstance(self._random, np.random.Generator):
            # Making one costs more than most commands, and most never ask.
            self._random = self._random()
        return self._random

    @property
    def names(self) -> Names:
        """The schema's names."""
        return self._names

    @property
    def closed(self) -> bool:
        """Whether it was committed or rolled back."""
        return self._state == _CLOSED

    # --- rows of entities --------------------------------------------------------------------------------------------

    def spawn(self, /, *typed: object, owner: Any = 0, **components: Cells | None) -> Entity:
        """Make an entity with these components: `tx.spawn(transform={"x": 1.0}, health={}, owner=client)`.

        Fields not given get their defaults. The id is final at once; after a rollback it is stale.

        Raises:
            UnknownNameError, ArgumentError: a name, or the type, length or range of a value.
            ConstraintError: a field without a default was not given, or a value breaks a rule of the schema.
            LimitExceededError: the table or the store is full.
            NotBuiltError: components as Python objects.
        """
        if typed:
            raise typed_not_built()
        if self._state != _DIRECT:
            self._enter()
            if self._state == _LENDING:
                return self._spawn_later(owner, components)
        parts = []
        for table, given in components.items():
            if given.__class__ is not dict:
                given = row_cells(table, {} if given is None else given)
            recipe = self._inserts.get((table, tuple(given)))
            if recipe is None:
                self._names.component(table)
                recipe = self._recipes.insert(table, given)
            values = given.values()
            parts.append((recipe.shape, tuple(values) if recipe.plain else recipe.values(values)))
        try:
            entity = self._kernel.spawn(owner if owner.__class__ is int else _client_id(owner), parts)
        except EcsnetError:
            raise
        except PACKING_ERRORS as error:
            _client_id(owner)
            for table, given in components.items():
                if given:
                    self._recipes.insert(table, given).cells(given.values())
            raise ArgumentError(f"spawn: {error}") from error
        self._structure += 1
        return Entity(entity)

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
        owners = registry.fields["owner"].column(owner if is_array(owner) else _client_id(owner), rows)
        columns = [(table, checked_columns(table, given, rows)) for table, given in tables]
        keys = self._reserve(registry, rows)
        if self._state == _LENDING:
            self._queue.insert_many(registry, keys, {"owner": owners})
            for table, cells in columns:
                self._queue.insert_many(table, keys, own_columns(cells))
            return keys.copy()
        self._insert_whole(keys, [(registry, {"owner": owners}), *columns])
        return keys

    def despawn(self, entities: Any, /) -> Self:
        """Remove an entity, an array of them, or those of a query, with all their rows. References to them are settled
        as the schema declares (`on_delete`).

        Raises:
            StaleEntityError: one is not alive (the first is named). Nothing is changed then.
        """
        if self._state != _DIRECT:
            self._enter()
        if isinstance(entities, int | np.integer):
            entities = int(entities)
            if self._state == _DIRECT:
                self._kernel.despawn(entities)
                self._structure += 1
                return self
            keys = as_keys([entities])
        else:
            keys = entities.entity if isinstance(entities, Query) else as_keys(entities)
        if self._state == _LENDING:
            registry = self._names.by_id[0]
            for key in keys.tolist():
                self._demand(registry, key)
            self._queue.despawn(keys.copy(), [table for table in self._names.tables.values() if table.component])
        else:
            self._whole(lambda: self._kernel.despawn_many(keys))
        return self

    # --- rows --------------------------------------------------------------------------------------------------------

    @overload
    def insert(self, table: str, row: Cells | None = None, /) -> int: ...
    @overload
    def insert(self, entity: int, /, **components: Cells | None) -> Self: ...

    def insert(self, what: str | int, row: Cells | None = None, /, **components: Cells | None) -> Self | int:
        """Give an entity components, `tx.insert(ship, shield={"strength": 3})`, or make a row of a table with keys of
        its own, `tx.insert("item", {"kind": "SWORD", "holder": ship})`, which returns its key.

        Raises:
            UnknownNameError, ArgumentError, ConstraintError, LimitExceededError: as `spawn`.
            StaleEntityError: the entity is not alive. RowExistsError: it has that component.
        """
        if self._state == _DIRECT and len(components) == 1 and what.__class__ is int and row is None:
            # What games do most, without the questions that only the other cases need.
            ((name, given),) = components.items()
            recipe = self._inserts.get((name, tuple(given))) if given.__class__ is dict else None
            if recipe is not None and given is not None and recipe.table.component:
                values = given.values()
                try:
                    self._kernel.insert(recipe.shape, what, tuple(values) if recipe.plain else recipe.values(values))
                except EcsnetError:
                    raise
                except PACKING_ERRORS as error:
                    as_key(what)
                    raise recipe.explain(values, error) from error
                self._structure += 1
                return self
        self._enter()
        if isinstance(what, str):
            if components:
                raise ArgumentError(f"insert({what!r}, {{...}}) takes one row; components go with an entity")
            return self._insert_keyed(what, {} if row is None else row_cells(what, row))
        if row is not None or not components:
            raise ArgumentError("insert(entity, ...) takes components by name: insert(ship, shield={'strength': 3})")
        entity = as_key(what)
        recipes = []
        for name, given in components.items():
            self._names.component(name)
            cells = row_cells(name, {} if given is None else given)
            recipes.append((self._recipes.insert(name, cells), cells))
        if self._state == _LENDING:
            for recipe, _ in recipes:
                self._demand_none(recipe.table, entity)
            for recipe, cells in recipes:
                self._queue.insert(recipe.table, entity, recipe.cells(cells.values()))
            return self

        def insert_each() -> None:
            for recipe, cells in recipes:
                self._insert_row(recipe, entity, cells)

        self._whole(insert_each)
        return self

    def _insert_row(self, recipe: InsertRecipe, entity: int, cells: Cells) -> None:
        try:
            self._kernel.insert(recipe.shape, entity, recipe.values(cells.values()))
        except EcsnetError:
            raise
        except PACKING_ERRORS as error:
            as_key(entity)
            raise recipe.explain(cells.values(), error) from error

    def _insert_keyed(self, name: str, given: Cells) -> int:
        table = self._names.table(name)
        if not table.keyed:
            raise ArgumentError(f"{name} has no keys of its own: insert(entity, {name}={{...}})")
        recipe = self._recipes.insert(name, given)
        if self._state == _LENDING:
            cells = recipe.cells(given.values())
            key = int(self._reserve(table, 1)[0])
            self._queue.insert(table, key, cells)
            return key
        try:
            key = self._kernel.insert_keyed(recipe.shape, recipe.values(given.values()))
        except EcsnetError:
            raise
        except PACKING_ERRORS as error:
            raise recipe.explain(given.values(), error) from error
        self._structure += 1
        return key

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
        if self._state == _LENDING:
            if not isinstance(what, str):
                for table, _ in columns:
                    for key in keys.tolist():
                        self._demand_none(table, key)
            for table, cells in columns:
                self._queue.insert_many(table, keys.copy(), own_columns(cells))
        else:
            self._insert_whole(keys, columns)
        return keys if isinstance(what, str) else self

    def update(self, key: int, table: str, /, **fields: Any) -> Self:
        """Change the named fields of one row, and no others: `tx.update(ship, "velocity", x=1.0, y=0.0)`.

        Raises:
            UnknownNameError, ArgumentError: a name, or the type, length or range of a value.
            StaleEntityError, NoRowError: the key is not alive, or has no such row.
            ConstraintError: a value breaks a rule of the schema.
        """
        if self._state != _DIRECT:
            self._enter()
            if self._state == _LENDING:
                return self._update_lent(key, table, fields)
        recipe = self._updates.get((table, tuple(fields)))
        if recipe is None:
            recipe = self._recipes.update(table, tuple(fields))
        try:
            if recipe.plain:
                self._update(recipe.shape, key, tuple(fields.values()))
            else:
                self._update(recipe.shape, key, recipe.values(fields.values()))
        except EcsnetError:
            raise
        except PACKING_ERRORS as error:
            as_key(key)
            raise recipe.explain(fields.values(), error) from error
        return self

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
        if self._state == _LENDING:
            self._update_many_lent(name, array, columns)
        else:
            self._kernel.update_many(name.id, array, by_id(name, columns))
        return self

    def delete(self, key: int, table: str, /) -> Self:
        """Remove one row. An entity's component goes, the entity stays.

        Raises:
            StaleEntityError, NoRowError: the key is not alive, or has no such row. UnknownNameError.
        """
        if self._state != _DIRECT:
            self._enter()
        name = self._names.tables.get(table)
        if name is None or name.id == 0 or name.read_only:
            name = self._deletable(table)
        if key.__class__ is not int:
            key = as_key(key)
        if self._state == _LENDING:
            self._demand(name, key)
            self._queue.delete(name, as_keys([key]))
        else:
            self._kernel.delete(name.id, key)
            self._structure += 1
        return self

    def delete_many(self, keys: Any, table: str, /) -> Self:
        """Remove many rows.

        Raises:
            as `delete` (the first key is named). Nothing is changed then.
        """
        self._enter()
        name = self._deletable(table)
        array = keys.key if isinstance(keys, Query) else as_keys(keys)
        if self._state == _LENDING:
            for key in array.tolist():
                self._demand(name, key)
            self._queue.delete(name, array.copy())
        else:
            self._whole(lambda: self._kernel.delete_many(name.id, array))
        return self

    # --- cells -------------------------------------------------------------------------------------------------------

    def __getitem__(self, what: tuple[int, str]) -> Any:
        """`tx[key, "health.hp"]`: one cell as this transaction sees it. An int, float, bool, `bytes`, or an array of
        its own for `[T; N]`.

        Raises:
            StaleEntityError, NoRowError: the key is not alive, or has no such row. UnknownNameError.
        """
        if what.__class__ is not tuple or len(what) != 2:
            raise _not_a_cell(what)
        key, path = what
        if key.__class__ is not int:
            key = as_key(key)
        if self._state != _DIRECT:
            self._enter()
        field = self._names.paths.get(path) or self._names.path(path)
        table = field.table
        if self._state == _LENDING:
            noted = self._queue.exists(table, key)
            if noted is not None:
                self._demand(table, key)
                if field.kind == "stored":
                    return field.python(self._queue.cell(field, key))
            self._lending.scatter(table)
        if field.kind != "stored":
            self._demand(table, key)
            return key if field.kind == "key" else key >> INDEX_BITS
        return self._kernel.read_cell(table.id, field.id, key)

    def __setitem__(self, what: tuple[int, str], value: Any) -> None:
        """`tx[key, "health.hp"] = 10`: as `update` with one field."""
        if what.__class__ is not tuple or len(what) != 2:
            raise _not_a_cell(what)
        key, path = what
        target = self._cells.get(path)
        if target is None:
            field = self._names.path(path)
            target = self._cells[path] = (field.table.name, field.name)
        self.update(key, target[0], **{target[1]: value})

    def __contains__(self, what: object) -> bool:
        """`entity in tx`, or `(key, "health") in tx`: whether it is alive, whether it has the row."""
        self._enter()
        if isinstance(what, tuple):
            return self._has(self._names.table(what[1]), as_key(what[0]))
        return self._has(self._names.by_id[0], as_key(what))

    # --- queries -----------------------------------------------------------------------------------------------------

    def query(self, *tables: str, without: Sequence[str] = ()) -> Query:
        """The rows of entities that have all of `tables` and none of `without`, aligned, with writable columns.

        From the first column taken, rows stand still until the commit: what is spawned, inserted or removed after that
        is not in any query of this transaction.

        Raises:
            UnknownNameError, ArgumentError: no such table, or the same one twice.
            NotBuiltError: tables with keys of their own beside others.
        """
        self._enter()
        return query_of(self, tables, without)

    # --- ending ------------------------------------------------------------------------------------------------------

    def commit(self, *, wait: bool = True) -> Version | None:
        """Make it so: lent cells come back, waiting operations are done, everything is checked, then all of it counts.

        Returns:
            the version that contains it; None inside a tick, whose transactions become one version when it ends. Where
            nothing was changed, the newest version.

        Raises:
            ConstraintError, BorrowError, LimitExceededError: refused. Nothing has changed; the transaction is closed.
            ClosedError: it was ended before. NotBuiltError: `wait=False`; nothing has happened.

        Warns:
            ResourceWarning: somebody still holds a lent array; it is theirs now and changes nothing. The commit stands,
            also where warnings are made errors.
        """
        if self._state == _CLOSED:
            raise self._closed_error()
        if not wait:
            raise NotBuiltError(
                "commit(wait=False)", "commit() returns at once: nothing in memory has to be waited for"
            )
        if self._state == _IDLE:
            self._state = _CLOSED
            self.version = self._writer.version
            return self.version
        kept: list[str] = []
        try:
            if self._state == _LENDING:
                kept = self._lending.finish()
                if self._queue:
                    # Lent cells come before what waited behind them.
                    self._kernel.settle()
                    self._queue.run()
            self._kernel.commit()
        except BaseException:
            self.rollback()
            raise
        self._state = _CLOSED
        kept += self._kernel.kept
        self._writer.committed(self)
        for path in kept:
            warnings.warn(
                f"{self.label!r} kept an array of {path} past its commit: it is private memory now, and writing to it "
                f"changes nothing",
                ResourceWarning,
                stacklevel=3,
            )
        return self.version

    def rollback(self) -> None:
        """Undo everything. Ids that it handed out are stale, arrays that it lent are their holder's own memory. Again,
        or after a commit, is harmless."""
        if self._state == _CLOSED:
            return
        begun = self._state != _IDLE
        self._state = _CLOSED
        if begun:
            self._lending.forget()
            try:
                self._kernel.rollback()
            finally:
                self._writer.rolled_back(self)

    def savepoint(self) -> Any:
        """Planned."""
        raise NotBuiltError("a savepoint", "split the work into two transactions, or check before writing")

    def __enter__(self) -> Self:
        if self._state == _CLOSED:
            raise self._closed_error()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is not None:
            self.rollback()
        elif self._state != _CLOSED:
            self.commit()

    async def __aenter__(self) -> Self:
        """Planned."""
        raise NotBuiltError("`async with` a transaction", "use `with`: nothing in memory blocks")

    async def __aexit__(self, *failure: object) -> None:
        """Planned."""

    def __del__(self) -> None:
        # `_state` is missing where the constructor itself failed.
        if getattr(self, "_state", _CLOSED) in (_DIRECT, _LENDING):
            if self._kernel.gone:
                # Store and transaction were garbage together, and the store was finalised first.
                self._state = _CLOSED
            else:
                self.rollback()
            # Last: made an error, a warning would leave the baton taken for ever.
            warnings.warn(
                f"{self.label!r} was let go without commit or rollback: rolled back", ResourceWarning, stacklevel=2
            )

    def __repr__(self) -> str:
        state = ("idle", "open", "open, lending", "closed")[self._state]
        return f"<transaction {self.label!r}, {state}>"

    # --- as the source of queries ------------------------------------------------------------------------------------

    def join(self, tables: tuple[TableName, ...], without: tuple[TableName, ...]) -> Selection:
        """Resolve a query without its condition."""
        self._enter()
        plan = self._writer.joins.of_head(tables, without)
        return Selection(plan.tables, plan.rows, plan.keys, self._structure)

    def holds(self, selection: Selection) -> bool:
        """Whether no structural operation was done since."""
        return selection.structure == self._structure

    def read(self, selection: Selection, position: int, field: FieldName) -> NDArray[Any]:
        """The cells of one field, for reading at once."""
        self._enter()
        if field.kind != "stored":
            return _virtual(field, selection.keys)
        return self._lending.read(selection, position, field)

    def column(self, selection: Selection, position: int, field: FieldName) -> NDArray[Any]:
        """The cells of one field for the game: writable unless they are keys, foreign keys or unique."""
        if self._state == _IDLE or self._state == _CLOSED:
            self._enter()
        if selection.structure != self._structure:
            raise BorrowError(
                f"rows of {field.table.name} moved since this query was made ({self.label!r} spawned, inserted or "
                f"removed something): take the columns first, or query again"
            )
        if field.kind != "stored":
            return _virtual(field, selection.keys)
        if field.lendable and self._state == _DIRECT:
            self._state = _LENDING
        return self._lending.column(selection, position, field)

    def assign(self, selection: Selection, position: int, field: FieldName, value: object) -> None:
        """Copy `value` into those cells: floats to floats, integers to integers with the range checked."""
        if not field.lendable:
            writable(field.table)
            why = "follows from the key" if field.kind != "stored" else "is a foreign key or unique"
            raise ArgumentError(f"{field.path} {why} and is read-only as a column: use tx.update(key, ...)")
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

    # --- inside ------------------------------------------------------------------------------------------------------

    def _enter(self) -> None:
        """Be open: take the baton and begin at the first operation."""
        if self._state == _IDLE:
            self._writer.begin(self)
            self._state = _DIRECT
        elif self._state == _CLOSED:
            raise self._closed_error()

    def _closed_error(self) -> ClosedError:
        return ClosedError(f"{self.label!r} was committed or rolled back; begin another transaction")

    def _whole(self, work: Callable[[], object]) -> None:
        """Do several kernel operations as one: all of them, or none."""
        mark = self._kernel.mark()
        try:
            work()
        except BaseException:
            self._kernel.rollback_to(mark)
            raise
        finally:
            self._structure += 1

    def _insert_whole(
        self, keys: NDArray[np.uint64], columns: Sequence[tuple[TableName, Mapping[str, NDArray[Any]]]]
    ) -> None:
        """Insert rows into several tables, all or none."""

        def insert() -> None:
            for table, cells in columns:
                self._kernel.insert_many(table.id, keys, by_id(table, cells))

        self._whole(insert)

    def _reserve(self, table: TableName, rows: int) -> NDArray[np.uint64]:
        return self._kernel.reserve(table.id, rows)

    def _deletable(self, name: str) -> TableName:
        table = self._names.tables.get(name) or self._names.table(name)
        if table.id == 0:
            raise ArgumentError("an entity is removed by despawn(entity)")
        return writable(table)

    def _has(self, table: TableName, key: int) -> bool:
        noted = self._queue.exists(table, key) if self._queue else None
        if noted is not None:
            return noted
        try:
            self._kernel.row(table.id, key)
        except (StaleEntityError, NoRowError):
            return False
        return True

    def _demand(self, table: TableName, key: int) -> None:
        """Raise unless the row is there, counting what waits to be done."""
        noted = self._queue.exists(table, key) if self._queue else None
        if noted is None:
            self._kernel.row(table.id, key)
        elif not noted:
            if table.component and self._has(self._names.by_id[0], key):
                raise NoRowError(key, table.name)
            raise StaleEntityError(key, table.name)

    def _demand_none(self, table: TableName, entity: int) -> None:
        """Raise unless the entity is alive and has no row in the component."""
        self._demand(self._names.by_id[0], entity)
        if self._has(table, entity):
            raise RowExistsError(entity, table.name)

    def _spawn_later(self, owner: Any, components: Mapping[str, Cells | None]) -> Entity:
        rows = []
        for name, given in components.items():
            table = self._names.component(name)
            cells = row_cells(name, given or {})
            rows.append((table, self._recipes.insert(name, cells).cells(cells.values())))
        registry = self._names.by_id[0]
        owned = {"owner": registry.fields["owner"].cell(_client_id(owner))}
        entity = int(self._reserve(registry, 1)[0])
        self._queue.insert(registry, entity, owned)
        for table, cells in rows:
            self._queue.insert(table, entity, cells)
        return Entity(entity)

    def _update_lent(self, key: int, name: str, fields: Mapping[str, Any]) -> Self:
        recipe = self._recipes.update(name, tuple(fields))
        table = recipe.table
        noted = self._queue.exists(table, as_key(key))
        if noted is not None:
            self._demand(table, key)
            self._queue.update(table, key, {field.name: field.cell(fields[field.name]) for field in recipe.fields})
            return self
        # Gathered copies first, so that they are not taken for older than this write. The kernel writes to the scratch
        # of a lent column and to the head of any other.
        self._lending.scatter(table)
        self._update(recipe.shape, key, recipe.values(fields.values()))
        for field in recipe.fields:
            self._lending.touch(field)
        return self

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


def _client_id(owner: Any) -> int:
    """The client id of whoever shall own an entity: a client, or the id itself (0 is the authority)."""
    try:
        return as_key(getattr(owner, "client_id", owner))
    except ArgumentError:
        raise ArgumentError(
            f"owner: expected a client, or a client id (an integer of 64 bits), found {owner!r}"
        ) from None


def _not_a_cell(what: object) -> ArgumentError:
    return ArgumentError(f"expected tx[key, 'health.hp'], found tx[{what!r}]: tx.query('health') gives columns")


def _virtual(field: FieldName, keys: NDArray[np.uint64]) -> NDArray[Any]:
    if field.kind == "key":
        return keys
    generations = (keys >> np.uint64(INDEX_BITS)).astype(np.uint32)
    generations.flags.writeable = False
    return generations
