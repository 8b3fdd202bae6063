"""A transaction that is written down now and committed by somebody else: what `Store.queue` makes.

It takes the verbs that write, on any thread, at any time, also while a tick runs. Names, types and lengths are checked
where they are written; what depends on rows (whether they are there, constraints) is checked when it is committed, and
the ticket says so.

Invariants:
- nothing here touches the head; an operation that raises has written nothing down;
- what was written down is bytes: arrays and rows that it came from may change afterwards.
"""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecsnet._kernel.shape import Shape
from ecsnet.errors import ArgumentError, ClosedError, QueueFullError
from ecsnet.expressions import Column
from ecsnet.ids import Version
from ecsnet.store import packing
from ecsnet.store.baton import checked_wait
from ecsnet.store.bulk import (
    Columns,
    checked_columns,
    columns_of,
    given_to,
    is_array,
    keys_of,
    length_of,
    row_cells,
)
from ecsnet.store.levels import MEMORY
from ecsnet.store.names import TableName, as_key
from ecsnet.store.pointwise import client_id
from ecsnet.store.shapes import InsertRecipe, UpdateRecipe, writable
from ecsnet.store.tickets import Ticket
from ecsnet.store.typed import Path, RowLike, Selector, given_by, row_parts, selects

if TYPE_CHECKING:
    from ecsnet.store.store import Store

__all__ = ["QueuedTransaction"]


class QueuedTransaction:
    """All or nothing, committed by whoever writes next. Made by `Store.queue()`.

    ```python
    ticket = store.queue().update(ship, Health, hp=90).delete(ship, Shield).commit()
    ticket.wait()                                      # or `await ticket`; ticket.state, ticket.version, ticket.error
    with store.queue() as queued:                      # commits at the end; an exception throws it away
        queued.spawn(Transform(x=1.0), Health())
    queued.ticket.keys                                 # of what was made, once it is committed
    ```

    Every verb returns the transaction. For one thread at a time.
    """

    __slots__ = (
        "_closed",
        "_entity_shape",
        "_keys",
        "_level",
        "_names",
        "_parts",
        "_recipes",
        "_store",
        "label",
        "ticket",
    )

    def __init__(self, store: "Store", label: str, level: int = MEMORY):
        self._store = store
        self._level = level
        self._names = store.names
        self._recipes = store.recipes
        registry = store.names.by_id[0]
        self._entity_shape: Shape = store.kernel.shape(0, (registry.fields["owner"].id,))
        self._parts: list[bytes | bytearray] = []
        self._keys = 0
        self._closed = False
        self.label = label
        """What errors call it."""
        self.ticket: Ticket | None = None
        """After the commit, what became of it."""

    # --- row by row --------------------------------------------------------------------------------------------------

    def spawn(self, /, *rows: RowLike, owner: Any = 0, **components: Any) -> Self:
        """Make an entity with these components; `ticket.keys` will have its id.

        Raises:
            UnknownNameError, ArgumentError, ConstraintError: as `Transaction.spawn`, where it needs no rows to know.
        """
        self._demand_open()
        own = self._entity_shape
        entity = bytearray(own.bytes)
        own.pack(entity, 0, own.spawn, 0, own.ids, client_id(owner))
        parts = [entity] + [self._component(table, 0, given) for table, given in given_by(rows, components)]
        self._parts += parts
        self._keys += 1
        return self

    def despawn(self, entities: Any, /) -> Self:
        """Remove an entity, or an array of them, with all their rows."""
        self._demand_open()
        keys = np.array([as_key(entities)], np.uint64) if isinstance(entities, int | np.integer) else keys_of(entities)
        self._delete(self._names.by_id[0], keys)
        return self

    def insert(self, what: Any, /, *rows: Any, **components: Any) -> Self:
        """Give an entity components, or make a row of a table with keys of its own, whose key `ticket.keys` will have;
        in the forms of `Transaction.insert`."""
        self._demand_open()
        if selects(what):
            if components or len(rows) > 1:
                raise ArgumentError(f"insert({what!r}, {{...}}) takes one row; components go with an entity")
            return self._keyed(what, row_cells(what, rows[0] if rows else {}))
        if not isinstance(what, int | np.integer):
            if rows or components:
                raise ArgumentError("insert(row) takes one row with a key of its own; components go with an entity")
            return self._keyed(*row_parts(what))
        if not rows and not components:
            raise ArgumentError("insert(entity, ...) takes components by name or as rows")
        entity = self._living(what)
        self._parts += [self._component(table, entity, given) for table, given in given_by(rows, components)]
        return self

    def update(self, key: int, table: Selector, /, **fields: Any) -> Self:
        """Change the named fields of one row."""
        self._demand_open()
        flat = self._names.table(table).flat(fields)
        recipe = self._recipes.update(table, tuple(flat))
        shape = self._shape(recipe)
        self._parts.append(packing.packed(recipe, shape, shape.update, as_key(key), flat))
        return self

    def add(self, key: int, table: Selector, /, **amounts: Any) -> Self:
        """Add to numbers of one row, whatever they are when this is committed: `queue().add(payer, Account, coins=-5)`.
        For integers and floats that are no arrays; integers may be taken away by a negative amount.

        Where the sum breaks a minimum or maximum, or leaves the field's type, the transaction is refused by a
        ConstraintError in its ticket: so a schema's `minimum = 0` is what keeps an account from being overdrawn.

        Raises:
            ArgumentError: a field that is no number, or an amount that is none.
        """
        self._demand_open()
        self._parts.append(
            packing.additions(self._names.table(table), np.array([as_key(key)], np.uint64), amounts).tobytes()
        )
        return self

    def add_many(self, keys: Any, table: Selector, /, **amounts: ArrayLike) -> Self:
        """Add to numbers of many rows; where a key comes twice, both count."""
        self._demand_open()
        self._parts.append(packing.additions(self._names.table(table), keys_of(keys), amounts).tobytes())
        return self

    def delete(self, key: int, table: Selector, /) -> Self:
        """Remove one row."""
        self._demand_open()
        self._delete(self._deletable(table), np.array([as_key(key)], np.uint64))
        return self

    def __setitem__(self, what: tuple[int, Path], value: Any) -> None:
        """`queued[key, Health.hp] = 10`: as `update` with one field."""
        if what.__class__ is not tuple or len(what) != 2:
            raise ArgumentError(f"expected queued[key, 'health.hp'] = value, found queued[{what!r}]")
        key, path = what
        field = self._names.path(path.path if isinstance(path, Column) else path)
        self.update(key, field.table.name, **{field.name: value})

    # --- many rows ---------------------------------------------------------------------------------------------------

    def spawn_many(self, /, *rows: Any, owner: Any = 0, **components: Any) -> Self:
        """Make many entities in one call, as `Transaction.spawn_many`; `ticket.keys` will have their ids."""
        self._demand_open()
        n = None
        if rows and not hasattr(rows[0], "ecsnet_values"):
            n, rows = rows[0], rows[1:]
        tables = [
            (component, columns_of(component, given))
            for component, given in [(self._names.component(table), raw) for table, raw in given_to(rows, components)]
        ]
        count = length_of(n, tables, owner)
        registry = self._names.by_id[0]
        owners = registry.fields["owner"].column(owner if is_array(owner) else client_id(owner), count)
        own = self._entity_shape
        records = [packing.records(own, own.spawn, None, [owners], count)]
        for table, given in tables:
            recipe = self._recipes.insert(table.name, given)
            columns = checked_columns(table, given, count)
            shape = self._shape(recipe)
            records.append(packing.records(shape, shape.insert, None, packing.bulk(recipe, columns), count))
        self._parts.append(packing.interleaved(records, count))
        self._keys += count
        return self

    def insert_many(self, what: Any, /, *rows: Any, **components: Any) -> Self:
        """The bulk form of `insert`: `insert_many(fleet, shield={...})`, or `insert_many("item", {...}, n)` and
        `insert_many(Item(...))` for a table with keys of its own."""
        self._demand_open()
        if isinstance(what, np.ndarray | list | tuple) or hasattr(what, "key"):
            if not rows and not components:
                raise ArgumentError("insert_many(entities, ...) takes components by name or as rows")
            keys = keys_of(what)
            if not keys.all():
                self._living(0)
            parts = []
            for selector, raw in given_to(rows, components):
                table = self._names.component(selector)
                given = columns_of(table, raw)
                recipe = self._recipes.insert(table.name, given)
                columns = checked_columns(table, given, len(keys))
                shape = self._shape(recipe)
                records = packing.records(shape, shape.insert, keys, packing.bulk(recipe, columns), len(keys))
                parts.append(records.tobytes())
            self._parts += parts
            return self
        n = None
        if selects(what):
            if components or len(rows) not in (1, 2):
                raise ArgumentError(f"insert_many({what!r}, {{...}}) takes one dict of columns, and how many rows")
            selector, raw = what, rows[0]
            n = rows[1] if len(rows) == 2 else None
        else:
            if rows or components:
                raise ArgumentError("insert_many(rows) takes rows with keys of their own; components go with entities")
            selector, raw = row_parts(what)[0], what
        table = self._own_keys(selector)
        given = columns_of(table, raw)
        count = length_of(n, [(table, given)], 0)
        recipe = self._recipes.insert(table.name, given)
        columns = checked_columns(table, given, count)
        shape = self._shape(recipe)
        self._parts.append(packing.records(shape, shape.spawn, None, packing.bulk(recipe, columns), count).tobytes())
        self._keys += count
        return self

    def update_many(self, keys: Any, table: Selector, columns: Columns | None = None, /, **fields: ArrayLike) -> Self:
        """Change the named fields of many rows; where a key comes twice, the last counts."""
        self._demand_open()
        name = writable(self._names.table(table))
        array = keys_of(keys)
        if columns is not None and fields:
            raise ArgumentError(f"update_many of {name.name}: give the columns as one object or by name, not both")
        given = columns_of(name, fields if columns is None else columns)
        recipe = self._recipes.update(name.name, tuple(given))
        checked = {field: name.stored_field(field).column(cells, len(array)) for field, cells in given.items()}
        shape = self._shape(recipe)
        records = packing.records(shape, shape.update, array, packing.bulk(recipe, checked), len(array))
        self._parts.append(records.tobytes())
        return self

    def delete_many(self, keys: Any, table: Selector, /) -> Self:
        """Remove many rows."""
        self._demand_open()
        self._delete(self._deletable(table), keys_of(keys))
        return self

    # --- ending ------------------------------------------------------------------------------------------------------

    def commit(self, *, wait: bool = False, timeout_s: float | None = None) -> Ticket:
        """Hand it in. Where nobody is writing it is committed before this returns.

        Args:
            wait: where the queue is full, wait for room instead of raising.
            timeout_s: at most so long; None waits without end.

        Returns:
            its ticket. What refuses the transaction is told there, and not raised here.

        Raises:
            QueueFullError: too much waits; it may be committed again later. BusyError: there was no room in time, or
            this very thread has a transaction or a tick open, so there never will be.
            LimitExceededError: it is too long to ever fit. ClosedError: it was handed in before, or the store closed.
        """
        self._demand_open()
        until = None if timeout_s is None else time.monotonic() + checked_wait(timeout_s)
        while True:
            try:
                return self._hand_in()
            except QueueFullError:
                if not wait:
                    raise
            self._store.producers.wait_for_room(until)

    async def committed(self) -> Version:
        """Under Trio: hand it in, waiting for room if need be, and wait until it is committed.

        Returns:
            the version that contains it.

        Raises:
            what refused it, as `Ticket.wait`. LimitExceededError, ClosedError: as `commit`.
        """
        from ecsnet.store.waiting import woken

        self._demand_open()
        while True:
            try:
                ticket = self._hand_in()
                break
            except QueueFullError:
                await woken(self._store.producers.register, 0.1)
        return await ticket

    def discard(self) -> None:
        """Throw it away. Again, or after a commit, is harmless."""
        self._closed = True
        self._parts = []

    def __enter__(self) -> Self:
        self._demand_open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is not None:
            self.discard()
        elif not self._closed:
            self.commit()

    def __repr__(self) -> str:
        return f"<queued transaction {self.label!r}, {'handed in' if self.ticket else 'open'}>"

    # --- inside ------------------------------------------------------------------------------------------------------

    def _demand_open(self) -> None:
        if self._closed:
            raise ClosedError(f"{self.label!r} was handed in or thrown away; begin another with store.queue()")

    def _hand_in(self) -> Ticket:
        ticket = self._store.producers.put(self.label, b"".join(self._parts), self._keys, self._level)
        self._closed = True
        self._parts = []
        self.ticket = ticket
        return ticket

    def _shape(self, recipe: InsertRecipe | UpdateRecipe) -> Shape:
        return self._store.kernel.shape(recipe.table.id, tuple([field.id for field in recipe.fields]))

    def _living(self, key: object) -> int:
        entity = as_key(key)
        if entity == 0:
            # In the kernel's form it would mean the entity that was spawned last.
            raise ArgumentError("0 is no entity")
        return entity

    def _component(self, selector: Selector, key: int, given: Any) -> bytearray:
        table = self._names.component(selector)
        flat = table.flat(row_cells(selector, {} if given is None else given))
        recipe = self._recipes.insert(selector, flat)
        shape = self._shape(recipe)
        return packing.packed(recipe, shape, shape.insert, key, flat)

    def _keyed(self, selector: Selector, given: Mapping[str, Any]) -> Self:
        flat = self._own_keys(selector).flat(given)
        recipe = self._recipes.insert(selector, flat)
        shape = self._shape(recipe)
        self._parts.append(packing.packed(recipe, shape, shape.spawn, 0, flat))
        self._keys += 1
        return self

    def _own_keys(self, selector: Selector) -> TableName:
        table = self._names.keyed(selector, "insert", "entity")
        return writable(table)

    def _deletable(self, selector: Selector) -> TableName:
        table = self._names.table(selector)
        if table.id == 0:
            raise ArgumentError("an entity is removed by despawn(entity)")
        return writable(table)

    def _delete(self, table: TableName, keys: NDArray[np.uint64]) -> None:
        self._parts.append(packing.deletions(table, keys).tobytes())
