"""Writing and reading row by row.

Invariants:
- an operation that raises has changed nothing, and the transaction may go on;
- an id that `spawn` or `insert` returned is final, also while the operation waits for lent columns to come back.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Self, overload

import numpy as np

from ecsnet.errors import ArgumentError, ConflictError, EcsnetError
from ecsnet.ids import INDEX_BITS, Entity
from ecsnet.schema.handles import Cell, Field
from ecsnet.store.bulk import row_cells
from ecsnet.store.lifecycle import DIRECT, LENDING, Lifecycle
from ecsnet.store.names import TableName, as_key, as_keys, key_and_table
from ecsnet.store.query import Query
from ecsnet.store.shapes import PACKING_ERRORS, InsertRecipe, changeable
from ecsnet.store.typed import RowLike, Selector, given_by, row_parts, selects

if TYPE_CHECKING:
    from ecsnet.schema.python import Component, Event, Table

__all__ = ["Cells", "PointWrites", "client_id"]

Cells = Mapping[str, Any]

ENTITIES: Final = "entities"


class PointWrites(Lifecycle):
    """The verbs for one row or one cell."""

    __slots__ = ()

    # --- rows of entities --------------------------------------------------------------------------------------------

    def spawn(self, /, *rows: "Component", owner: Any = 0, **components: Cells | RowLike | None) -> Entity:
        """Make an entity with these components: `tx.spawn(Transform(x=1.0), Health(), owner=client)`, or by name
        `tx.spawn(transform={"x": 1.0}, health={})`.

        Fields not given get their defaults. The id is final at once; after a rollback it is stale.

        Args:
            owner: the client that may write the cells which a schema leaves to owners, or its id; 0 is nobody.

        Raises:
            UnknownNameError, ArgumentError: a name, or the type, length or range of a value.
            ConstraintError: a field without a default was not given, or a value breaks a rule of the schema.
            LimitExceededError: the table or the store is full.
        """
        if self._state != DIRECT:
            self._enter()
            if self._state == LENDING:
                return self._spawn_later(owner, given_by(rows, components))
        given_rows: Iterable[tuple[Selector, Any]] = given_by(rows, components) if rows else components.items()
        parts = []
        for table, given in given_rows:
            try:
                recipe = self._inserts[table][tuple(given)]
                if not recipe.component:
                    # Known from insert: the long way says that it is no component.
                    raise KeyError(table)
                values = given.values()
            except (AttributeError, KeyError, TypeError):
                recipe, given = self._component_recipe(table, given)
                values = given.values()
            parts.append((recipe.shape, tuple(values) if recipe.plain else recipe.values(values)))
        try:
            entity = self._kernel.spawn(owner if owner.__class__ is int else client_id(owner), parts)
        except EcsnetError:
            raise
        except PACKING_ERRORS as error:
            client_id(owner)
            for table, given in given_by(rows, components):
                recipe, given = self._component_recipe(table, given)
                recipe.cells(given.values())
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
            if self._state == DIRECT:
                drop = self._deletes.get(ENTITIES) or self._recipes.delete(self._names.by_id[0], ENTITIES)
                status = drop(as_key(entities))
                if status < 0:
                    raise self._kernel.failed(status)
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
    def insert(self, row: "Table | Event", /) -> int: ...
    @overload
    def insert(self, table: Selector, row: Cells | None = None, /) -> int: ...
    @overload
    def insert(self, entity: int, /, *rows: "Component", **components: Cells | RowLike | None) -> Self: ...

    def insert(self, what: Any, /, *rows: Any, **components: Any) -> Self | int:
        """Give an entity components, or make a row of a table with keys of its own.

        `tx.insert(ship, Shield(strength=3))` and `tx.insert(ship, shield={"strength": 3})` return the transaction;
        `tx.insert(Item(kind=Kind.SWORD, holder=ship))` and `tx.insert("item", {"kind": "SWORD", "holder": ship})`
        return the new key, which is final at once.

        A row of an event table, `tx.insert(Hit(target=ship, damage=10))`, is of this version alone: seen by what comes
        later in the tick and in views of that version, told once to every client, and never updated or deleted. Whom
        it names must be there now, or when the transaction is committed.

        Raises:
            UnknownNameError, ArgumentError, ConstraintError, LimitExceededError: as `spawn`.
            StaleEntityError: the entity is not alive. RowExistsError: it has that component. Of several components,
            none is given then.
        """
        if self._state == DIRECT and what.__class__ is int and len(components) + len(rows) == 1:
            # What games do most, without the questions that only the other cases need.
            name: Any
            given: Any
            if rows:
                name, given = rows[0].__class__, getattr(rows[0], "ecsnet_values", None)
            else:
                name, given = components.popitem()
            try:
                recipe = self._inserts[name][tuple(given)]
                # No fields at all are a dict too: an empty list would do as well.
                status = recipe.put(what, given) if recipe.component and (given or isinstance(given, Mapping)) else None
            except (IndexError, KeyError, *PACKING_ERRORS):
                # The first of its kind, or refused before it reached the kernel: the long way says why.
                status = None
            if status == 0:
                self._structure += 1
                return self
            if status is not None:
                raise self._kernel.failed(status)
            if not rows:
                components[name] = given
        self._enter()
        if selects(what):
            if components or len(rows) > 1:
                raise ArgumentError(f"insert({what!r}, {{...}}) takes one row; components go with an entity")
            return self._insert_keyed(what, row_cells(what, rows[0] if rows else {}))
        if not isinstance(what, int | np.integer):
            declared, cells = row_parts(what)
            if rows or components:
                raise ArgumentError("insert(row) takes one row with a key of its own; components go with an entity")
            return self._insert_keyed(declared, cells)
        if not rows and not components:
            raise ArgumentError("insert(entity, ...) takes components by name or as rows")
        entity = as_key(what)
        recipes = [self._component_recipe(table, given) for table, given in given_by(rows, components)]
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

    def _component_recipe(self, table: Selector, given: Any) -> tuple[InsertRecipe, Cells]:
        """How to make a row of a component, and its values with the members of structs under their own names."""
        component = self._names.component(table)
        given = component.flat(row_cells(table, {} if given is None else given))
        return self._recipes.insert(table, given), given

    def _insert_row(self, recipe: InsertRecipe, entity: int, cells: Cells) -> None:
        try:
            status = recipe.put(entity, cells)
        except EcsnetError:
            raise
        except PACKING_ERRORS as error:
            as_key(entity)
            raise recipe.explain(cells.values(), error) from error
        if status < 0:
            raise self._kernel.failed(status)

    def _insert_keyed(self, selector: Selector, given: Cells) -> int:
        table = self._names.keyed(selector, "insert", "entity")
        given = table.flat(given)
        recipe = self._recipes.insert(selector, given)
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

    def update(self, key: int, table: Selector, /, **fields: Any) -> Self:
        """Change the named fields of one row, and no others: `tx.update(ship, Velocity, x=1.0, y=0.0)`. The members of
        a struct may be given as a dict: `tx.update(ship, Transform, position={"x": 1.0})`.

        Raises:
            UnknownNameError, ArgumentError: a name, or the type, length or range of a value.
            StaleEntityError, NoRowError: the key is not alive, or has no such row.
            ConstraintError: a value breaks a rule of the schema.
        """
        if self._state != DIRECT:
            self._enter()
            if self._state == LENDING:
                return self._update_lent(key, table, fields)
        try:
            status = self._updates[table][tuple(fields)].put(key, fields)
        except (KeyError, *PACKING_ERRORS) as error:
            return self._update_anew(key, table, fields, error)
        if status < 0:
            raise self._kernel.failed(status)
        return self

    def _update_anew(self, key: int, selector: Selector, given: Mapping[str, Any], error: Exception) -> Self:
        """An update that is the first of its kind, or that `error` refused before it reached the kernel."""
        if isinstance(error, EcsnetError):
            raise error
        fields = self._names.table(selector).flat(given)
        recipe = self._recipes.update(selector, tuple(fields))
        try:
            status = recipe.put(key, fields)
        except EcsnetError:
            raise
        except PACKING_ERRORS as wrong:
            as_key(key)
            raise recipe.explain(fields.values(), wrong) from wrong
        if status < 0:
            raise self._kernel.failed(status)
        return self

    def delete(self, key: int, table: Selector, /) -> Self:
        """Remove one row: `tx.delete(ship, Shield)`. An entity's component goes, the entity stays.

        Raises:
            StaleEntityError, NoRowError: the key is not alive, or has no such row. UnknownNameError.
        """
        if self._state != DIRECT:
            self._enter()
        try:
            drop = self._deletes[table]
        except (KeyError, TypeError, ValueError):
            drop = self._recipes.delete(self._deletable(table), table)
        if self._state == LENDING:
            name = self._names.table(table)
            self._demand(name, as_key(key))
            self._queue.delete(name, as_keys([key]))
            return self
        try:
            status = drop(key)
        except PACKING_ERRORS:
            status = drop(as_key(key))
        if status < 0:
            raise self._kernel.failed(status)
        self._structure += 1
        return self

    # --- expectations ------------------------------------------------------------------------------------------------

    def expect(self, key: int, table: Selector, /, *, since: Any) -> Self:
        """Go on only if a row is still what it was in a version that a decision was made on:
        `tx.expect(ship, Health, since=view).update(ship, Health, hp=hp - 10)`. Nobody else writes before the commit, so
        asking once is enough; ask before writing the row yourself, which counts as a change too.

        While that version is in memory (a view of it is held, say) the answer is exact: other cells, or the row was
        inserted or deleted. Without it, a row that only moved in memory may count as changed as well.

        Args:
            since: a view, or the number of a version.

        Raises:
            ConflictError: it changed, or that cannot be told any more. Nothing is changed by the call.
            StaleEntityError, NoRowError: there is no such row, and there was none then.
            UnknownNameError, ArgumentError: no such table; no key, no version, or one that is yet to come.
        """
        self._enter()
        name, key = self._names.table(table), as_key(key)
        version = getattr(since, "version", since)
        if not isinstance(version, int) or isinstance(version, bool):
            raise ArgumentError(f"since: expected a view or the number of a version, found {since!r}")
        changed = self._kernel.changed_since(name.id, key, version)
        if changed is None:
            reason = "that version and what changed since are no longer in memory (hold a view of it)"
        elif changed:
            reason = "it was changed since" if self._has(name, key) else "it was deleted since"
        else:
            self._demand(name, key)
            return self
        raise ConflictError(key, name.name, version, self._kernel.head_version, reason)

    # --- cells -------------------------------------------------------------------------------------------------------

    @overload
    def __getitem__(self, what: tuple[int, Field[Cell, Any]]) -> Cell: ...
    @overload
    def __getitem__(self, what: tuple[int, str]) -> Any: ...

    def __getitem__(self, what: Any) -> Any:
        """`tx[key, Health.hp]` or `tx[key, "health.hp"]`: one cell as this transaction sees it. An int, float, bool,
        `str`, `bytes`, or an array of its own for `[T; N]`.

        Raises:
            StaleEntityError, NoRowError: the key is not alive, or has no such row. UnknownNameError.
        """
        if what.__class__ is not tuple or len(what) != 2:
            raise _not_a_cell(what)
        key, path = what
        if path.__class__ is not str:
            path = self._names.written(path)
        if self._state == DIRECT:
            try:
                read, cell = self._reads[path]
                status = read(key)
            except (KeyError, *PACKING_ERRORS):
                # The first of its path, or no key: the long way says which.
                pass
            else:
                if status < 0:
                    raise self._kernel.failed(status)
                return cell[0]
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
        if path not in self._reads:
            self._recipes.read(field)
        return self._kernel.read_cell(table.id, field.id, key)

    @overload
    def __setitem__(self, what: tuple[int, Field[Cell, Any]], value: Cell) -> None: ...
    @overload
    def __setitem__(self, what: tuple[int, str], value: Any) -> None: ...

    def __setitem__(self, what: Any, value: Any) -> None:
        """`tx[key, Health.hp] = 10` or `tx[key, "health.hp"] = 10`: as `update` with one field."""
        if what.__class__ is not tuple or len(what) != 2:
            raise _not_a_cell(what)
        key, path = what
        if path.__class__ is not str:
            path = self._names.written(path)
        if self._state == DIRECT:
            try:
                put, name = self._cells[path]
                status = put(key, {name: value})
            except (KeyError, *PACKING_ERRORS):
                # The first of its path, or refused before it reached the kernel: the long way says why.
                status = None
            if status == 0:
                return
            if status is not None:
                raise self._kernel.failed(status)
        field = self._names.path(path)
        self.update(key, field.table.name, **{field.name: value})
        self._cells[path] = (self._recipes.update(field.table.name, (field.name,)).put, field.name)

    def __contains__(self, what: object) -> bool:
        """`entity in tx`, or `(key, Health) in tx`: whether it is alive, whether it has the row."""
        self._enter()
        if isinstance(what, tuple):
            key, table = key_and_table(what)
            return self._has(self._names.table(table), as_key(key))
        return self._has(self._names.by_id[0], as_key(what))

    # --- inside ------------------------------------------------------------------------------------------------------

    def _deletable(self, selector: Selector) -> TableName:
        table = self._names.table(selector)
        if table.id == 0:
            raise ArgumentError("an entity is removed by despawn(entity)")
        return changeable(table)

    def _spawn_later(self, owner: Any, components: Iterable[tuple[Selector, Cells]]) -> Entity:
        rows = []
        for selector, given in components:
            recipe, cells = self._component_recipe(selector, given)
            rows.append((recipe.table, recipe.cells(cells.values())))
        registry = self._names.by_id[0]
        owned = {"owner": registry.fields["owner"].cell(client_id(owner))}
        entity = int(self._reserve(registry, 1)[0])
        self._queue.insert(registry, entity, owned)
        for table, cells in rows:
            self._queue.insert(table, entity, cells)
        return Entity(entity)

    def _update_lent(self, key: int, selector: Selector, given: Mapping[str, Any]) -> Self:
        fields = self._names.table(selector).flat(given)
        recipe = self._recipes.update(selector, tuple(fields))
        table = recipe.table
        noted = self._queue.exists(table, as_key(key))
        if noted is not None:
            self._demand(table, key)
            self._queue.update(table, key, {field.name: field.cell(fields[field.name]) for field in recipe.fields})
            return self
        # Gathered copies first, so that they are not taken for older than this write. The kernel writes to the scratch
        # of a lent column and to the head of any other.
        self._lending.scatter(table)
        try:
            status = recipe.put(key, fields)
        except EcsnetError:
            raise
        except PACKING_ERRORS as error:
            raise recipe.explain(fields.values(), error) from error
        if status < 0:
            raise self._kernel.failed(status)
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
