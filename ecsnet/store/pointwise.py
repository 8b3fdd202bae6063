"""Writing and reading row by row.

Invariants:
- an operation that raises has changed nothing, and the transaction may go on;
- an id that `spawn` or `insert` returned is final, also while the operation waits for lent columns to come back.
"""

from collections.abc import Mapping
from typing import Any, Self, overload

import numpy as np

from ecsnet.errors import ArgumentError, EcsnetError
from ecsnet.ids import INDEX_BITS, Entity
from ecsnet.store.bulk import row_cells
from ecsnet.store.lifecycle import DIRECT, LENDING, Lifecycle
from ecsnet.store.names import TableName, as_key, as_keys, typed_not_built
from ecsnet.store.query import Query
from ecsnet.store.shapes import PACKING_ERRORS, InsertRecipe, writable

__all__ = ["Cells", "PointWrites", "client_id"]

Cells = Mapping[str, Any]


class PointWrites(Lifecycle):
    """The verbs for one row or one cell."""

    __slots__ = ()

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
        if self._state != DIRECT:
            self._enter()
            if self._state == LENDING:
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
            entity = self._kernel.spawn(owner if owner.__class__ is int else client_id(owner), parts)
        except EcsnetError:
            raise
        except PACKING_ERRORS as error:
            client_id(owner)
            for table, given in components.items():
                if given:
                    self._recipes.insert(table, given).cells(given.values())
            raise ArgumentError(f"spawn: {error}") from error
        self._structure += 1
        return Entity(entity)

    def despawn(self, entities: Any, /) -> Self:
        """Remove an entity, an array of them, or those of a query, with all their rows. References to them are settled
        as the schema declares (`on_delete`).

        Raises:
            StaleEntityError: one is not alive (the first is named). Nothing is changed then.
        """
        if self._state != DIRECT:
            self._enter()
        if isinstance(entities, int | np.integer):
            entities = int(entities)
            if self._state == DIRECT:
                self._kernel.despawn(entities)
                self._structure += 1
                return self
            keys = as_keys([entities])
        else:
            keys = entities.entity if isinstance(entities, Query) else as_keys(entities)
        if self._state == LENDING:
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
        if self._state == DIRECT and len(components) == 1 and what.__class__ is int and row is None:
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
        if self._state == LENDING:
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
        if self._state == LENDING:
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

    def update(self, key: int, table: str, /, **fields: Any) -> Self:
        """Change the named fields of one row, and no others: `tx.update(ship, "velocity", x=1.0, y=0.0)`.

        Raises:
            UnknownNameError, ArgumentError: a name, or the type, length or range of a value.
            StaleEntityError, NoRowError: the key is not alive, or has no such row.
            ConstraintError: a value breaks a rule of the schema.
        """
        if self._state != DIRECT:
            self._enter()
            if self._state == LENDING:
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

    def delete(self, key: int, table: str, /) -> Self:
        """Remove one row. An entity's component goes, the entity stays.

        Raises:
            StaleEntityError, NoRowError: the key is not alive, or has no such row. UnknownNameError.
        """
        if self._state != DIRECT:
            self._enter()
        name = self._names.tables.get(table)
        if name is None or name.id == 0 or name.read_only:
            name = self._deletable(table)
        if key.__class__ is not int:
            key = as_key(key)
        if self._state == LENDING:
            self._demand(name, key)
            self._queue.delete(name, as_keys([key]))
        else:
            self._kernel.delete(name.id, key)
            self._structure += 1
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
        if self._state != DIRECT:
            self._enter()
        field = self._names.paths.get(path) or self._names.path(path)
        table = field.table
        if self._state == LENDING:
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

    # --- inside ------------------------------------------------------------------------------------------------------

    def _deletable(self, name: str) -> TableName:
        table = self._names.tables.get(name) or self._names.table(name)
        if table.id == 0:
            raise ArgumentError("an entity is removed by despawn(entity)")
        return writable(table)

    def _spawn_later(self, owner: Any, components: Mapping[str, Cells | None]) -> Entity:
        rows = []
        for name, given in components.items():
            table = self._names.component(name)
            cells = row_cells(name, given or {})
            rows.append((table, self._recipes.insert(name, cells).cells(cells.values())))
        registry = self._names.by_id[0]
        owned = {"owner": registry.fields["owner"].cell(client_id(owner))}
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


def client_id(owner: Any) -> int:
    """The client id of whoever shall own an entity: a client, or the id itself (0 is the authority)."""
    try:
        return as_key(getattr(owner, "client_id", owner))
    except ArgumentError:
        raise ArgumentError(
            f"owner: expected a client, or a client id (an integer of 64 bits), found {owner!r}"
        ) from None


def _not_a_cell(what: object) -> ArgumentError:
    return ArgumentError(f"expected tx[key, 'health.hp'], found tx[{what!r}]: tx.query('health') gives columns")
