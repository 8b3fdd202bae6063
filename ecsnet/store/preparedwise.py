"""Verbs that are prepared once and called often: `tx.writer`, `tx.inserter`, `tx.deleter`, `tx.reader`.

For hot loops over rows that no array expression covers. See `writers` for what is held back, and until when.
"""

import struct
from collections.abc import Callable
from typing import Any

from ecsnet._kernel.prepared import DELETE, INSERT, READ, UPDATE, Prepared
from ecsnet._kernel.shape import cell_codes
from ecsnet.store.fields import FieldName
from ecsnet.store.lifecycle import DIRECT
from ecsnet.store.names import TableName, as_key
from ecsnet.store.pointwise import PointWrites
from ecsnet.store.shapes import PACKING_ERRORS, changeable, writable
from ecsnet.store.typed import Path, Selector, named_fields, names_table
from ecsnet.store.writers import HeldBack, Write, WriterRecipe

__all__ = ["PreparedVerbs"]


class PreparedVerbs(PointWrites):
    """Prepared writers and readers of a transaction."""

    __slots__ = ()

    def writer(self, /, *what: Selector | Path) -> Write:
        """Prepare an update: `w = tx.writer(Velocity)`, then `w(ship, dx, dy)`; or `tx.writer(Velocity.x, Health.hp)`
        for some fields of one table, in that order.

        A call checks the types of its values and is then held back until the transaction does anything else, or 512
        calls later, or at the commit; nobody can tell, but that what a row or a rule of the schema refuses is refused
        then. What is refused is that one write alone; outside of the commit the transaction may go on.

        Returns:
            a function of a key and one value per field. Asked for twice, it is the same one.

        Raises:
            UnknownNameError, ArgumentError: no such table or field, fields of different tables, or not to be written.
            The function raises ArgumentError (nothing is held back then), ClosedError after the transaction, and
            StaleEntityError, NoRowError, ConstraintError for a call before it.
        """
        table, fields = named_fields(self._names, what)
        changeable(table)
        if names_table(what[0]):
            fields = tuple([field for field in fields if not (field.field and field.field.auto_increment)])
        for field in fields:
            table.stored_field(field.name)
        return self._prepared_write(UPDATE, table, fields)

    def inserter(self, table: Selector, /, *names: str) -> Write:
        """Prepare an insertion of components: `give = tx.inserter(Shield)`, then `give(ship, 3)`; with names, of those
        fields only, and the others get their defaults. It is held back as `writer` says.

        Raises:
            as `writer`; ConstraintError: a field without a default is not among the names. The function's late errors
            are StaleEntityError, RowExistsError, ConstraintError, LimitExceededError.
        """
        component = writable(self._names.component(table))
        component.demand_required(names or component.required)
        fields = tuple([component.stored_field(name) for name in names]) if names else component.stored
        return self._prepared_write(INSERT, component, fields)

    def deleter(self, table: Selector, /) -> Write:
        """Prepare a deletion: `drop = tx.deleter(Shield)`, then `drop(ship)`. It is held back as `writer` says.

        Raises:
            as `writer`; the function's late errors are StaleEntityError, NoRowError.
        """
        return self._prepared_write(DELETE, self._deletable(table), ())

    def reader(self, /, *what: Selector | Path) -> Callable[[int], Any]:
        """Prepare a read: `hp = tx.reader(Health.hp)`, then `hp(ship)` is what `tx[ship, Health.hp]` is. Of a table, or
        of several fields of one, it is a tuple.

        Raises:
            UnknownNameError, ArgumentError: no such table or field, or fields of different tables. The function raises
            StaleEntityError, NoRowError, ClosedError.
        """
        _, fields = named_fields(self._names, what)
        paths = tuple([field.path for field in fields])
        single = len(fields) == 1 and not names_table(what[0])

        def slowly(key: int) -> Any:
            return self[key, paths[0]] if single else tuple([self[key, path] for path in paths])

        if not all(field.kind == "stored" and field.number for field in fields):
            return slowly
        stored = tuple([field.field for field in fields if field.field is not None])
        prepared = Prepared(self._kernel, READ, fields[0].table.id, stored)
        run, cells = prepared.by_key()
        unpack, failed = struct.Struct("<" + "".join(map(cell_codes, stored))).unpack_from, self._kernel.failed

        def read(key: int) -> Any:
            if self._state != DIRECT:
                return slowly(key)
            try:
                status = run(key)
            except PACKING_ERRORS:
                status = run(as_key(key))
            if status < 0:
                raise failed(status)
            values = unpack(cells)
            return values[0] if single else values

        return read

    def _prepared_write(self, kind: int, table: TableName, fields: tuple[FieldName, ...]) -> Write:
        self._demand_not_closed()
        recipes = self._recipes.writers
        recipe = recipes.get((kind, table, fields))
        if recipe is None:
            recipe = recipes[kind, table, fields] = WriterRecipe(self._kernel, kind, table, fields)
        if self._held is None:
            self._held = HeldBack(self)
        return self._held.writer(recipe)
