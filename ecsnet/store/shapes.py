"""Packing recipes for point writes, remembered by (table, names of the fields given).

A game writes the same few fields in the same way millions of times. What a write needs to know (the kernel's shape,
which values must be checked one by one) is worked out once; after that a write is a dictionary look-up and one call.

Invariants:
- where a recipe is `plain`, Python's values go to the kernel's packing as they are, which refuses wrong types and
  numbers out of range; `explain` then finds out which field it was;
- the values of a recipe are in the order of its shape's fields; an array field is one flat run of its cells, a
  string its length and its UTF-8.
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ecsnet._kernel.prepared import DELETE, INSERT, READ, UPDATE, Prepared
from ecsnet.errors import ArgumentError, EcsnetError
from ecsnet.store.fields import FieldName
from ecsnet.store.names import Names, TableName
from ecsnet.store.strings import StringField
from ecsnet.store.typed import Selector

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore, Shape
    from ecsnet.store.writers import WriterRecipe

__all__ = ["PACKING_ERRORS", "InsertRecipe", "Recipes", "UpdateRecipe", "flat_values"]

# What packing raises for a value of a wrong type or out of range.
PACKING_ERRORS: Final = (struct.error, TypeError, OverflowError, ValueError)

# How a memoryview shows a cell of each dtype.
_VIEWS: Final[dict[str, Any]] = {code: code for code in "BHIQbhiqfd?"} | {"L": "Q", "l": "q"}

Put = Callable[[int, Mapping[str, Any]], int]
Run = Callable[[int], int]


class UpdateRecipe:
    """How to write the named fields of one row."""

    __slots__ = ("fields", "plain", "put", "table")

    def __init__(self, kernel: "KernelStore", table: TableName, names: tuple[str, ...]):
        if not names:
            raise ArgumentError(f"update of {table.name} names no field")
        self.table = table
        self.fields = tuple([table.stored_field(name) for name in names])
        self.plain = all(field.plain for field in self.fields)
        ids = tuple([field.id for field in self.fields])
        self.put = _put(Prepared(kernel, UPDATE, table.id, kernel.schema_fields(table.id, ids)), self)

    def values(self, given: Iterable[Any]) -> tuple[Any, ...]:
        """The values to pack. Raises ArgumentError for one that is wrong."""
        return flat_values([field.cell(value) for field, value in zip(self.fields, given, strict=True)], self.fields)

    def explain(self, given: Iterable[Any], error: Exception) -> EcsnetError:
        """The typed error for values that packing refused."""
        try:
            self.values(given)
        except EcsnetError as typed:
            return typed
        return ArgumentError(f"{self.table.name}: {error}")


class InsertRecipe:
    """How to make a row of which the named fields are given; the kernel knows the defaults of the others."""

    __slots__ = ("component", "fields", "plain", "put", "shape", "table")

    def __init__(self, kernel: "KernelStore", table: TableName, names: tuple[str, ...]):
        table.demand_required(names)
        self.table = table
        self.component = table.component
        self.fields = tuple([table.stored_field(name) for name in names])
        self.plain = all(field.plain for field in self.fields)
        ids = tuple([field.id for field in self.fields])
        self.shape: Shape = kernel.shape(table.id, ids)
        self.put = _put(Prepared(kernel, INSERT, table.id, kernel.schema_fields(table.id, ids)), self)

    def values(self, given: Iterable[Any]) -> tuple[Any, ...]:
        """The values to pack. Raises ArgumentError for one that is wrong and not left to packing to refuse."""
        if self.plain:
            return tuple(given)
        return flat_values([field.cell(value) for field, value in zip(self.fields, given, strict=True)], self.fields)

    def cells(self, given: Iterable[Any]) -> dict[str, Any]:
        """The checked values by the names of their fields. Raises ArgumentError."""
        return {field.name: field.cell(value) for field, value in zip(self.fields, given, strict=True)}

    def explain(self, given: Iterable[Any], error: Exception) -> EcsnetError:
        """The typed error for values that packing refused."""
        try:
            self.cells(given)
        except EcsnetError as typed:
            return typed
        return ArgumentError(f"{self.table.name}: {error}")


class Recipes:
    """The remembered recipes of one store. Bounded by the combinations of fields that the game's source names."""

    __slots__ = ("_kernel", "_names", "cells", "deletes", "inserts", "reads", "updates", "writers")

    def __init__(self, kernel: "KernelStore", names: Names):
        self._kernel = kernel
        self._names = names
        self.cells: dict[str, tuple[Put, str]] = {}
        """How to write a cell of each path, and the name of its field."""
        self.updates: dict[Selector, dict[tuple[str, ...], UpdateRecipe]] = {}
        self.inserts: dict[Selector, dict[tuple[str, ...], InsertRecipe]] = {}
        self.writers: dict[tuple[int, TableName, tuple[FieldName, ...]], WriterRecipe] = {}
        """What prepared writers of the same fields share."""
        self.deletes: dict[Selector, Run] = {}
        """Functions of a key that remove its row, or its entity with all rows."""
        self.reads: dict[str, tuple[Run, memoryview]] = {}
        """For each path of a number: a function of a key that reads its cell, and where item 0 then is that cell."""

    def update(self, table: Selector, names: tuple[str, ...]) -> UpdateRecipe:
        """Look up or make. Raises UnknownNameError, ArgumentError."""
        known = self.updates.get(table)
        recipe = None if known is None else known.get(names)
        if recipe is None:
            recipe = UpdateRecipe(self._kernel, changeable(self._names.table(table)), names)
            self.updates.setdefault(table, {})[names] = recipe
        return recipe

    def insert(self, table: Selector, given: Mapping[str, Any]) -> InsertRecipe:
        """Look up or make. Raises UnknownNameError, ArgumentError, ConstraintError (a field without a default)."""
        names = tuple(given)
        known = self.inserts.get(table)
        recipe = None if known is None else known.get(names)
        if recipe is None:
            recipe = InsertRecipe(self._kernel, writable(self._names.table(table)), names)
            self.inserts.setdefault(table, {})[names] = recipe
        return recipe

    def delete(self, table: TableName, selector: Selector) -> Run:
        """Make, for a table that the game may write."""
        run, _ = Prepared(self._kernel, DELETE, table.id, ()).by_key()
        self.deletes[selector] = run
        return run

    def read(self, field: FieldName) -> tuple[Run, memoryview] | None:
        """Make; None for a field that is not one number in memory."""
        code = _VIEWS.get(field.dtype.char)
        if field.kind != "stored" or field.shape or field.field is None or code is None:
            return None
        run, cell = Prepared(self._kernel, READ, field.table.id, (field.field,)).by_key()
        made = self.reads[field.path] = (run, cell.cast(code))
        return made


def writable(table: TableName) -> TableName:
    """The table itself, unless the game may not write it.

    Raises:
        ArgumentError: a metadata table, which describes the schema.
    """
    if table.read_only:
        raise ArgumentError(f"{table.name} describes the schema and is read-only")
    return table


def _put(prepared: Prepared, recipe: UpdateRecipe | InsertRecipe) -> Put:
    """A function of a key and the values by name that checks and writes them; it returns 0 or a status below it."""
    names = tuple([field.name for field in recipe.fields])
    if recipe.plain:
        return prepared.put(names)
    write, checked = prepared.put_values(), recipe.values
    return lambda key, given: write(key, checked([given[name] for name in names]))


def changeable(table: TableName) -> TableName:
    """The table itself, unless rows that it has cannot be changed or deleted.

    Raises:
        ArgumentError: a metadata table, or an event table.
    """
    if table.event:
        raise ArgumentError(
            f"{table.name} is an event table: its rows are inserted, never changed or deleted, and are gone with the "
            f"next version"
        )
    return writable(table)


def flat_values(cells: list[Any], fields: tuple[FieldName, ...]) -> tuple[Any, ...]:
    """Checked cells as they are packed: the cells of an array one after the other."""
    if not any(field.string or (field.shape and not field.text) for field in fields):
        return tuple(cells)
    flat: list[Any] = []
    for cell, field in zip(cells, fields, strict=True):
        if isinstance(field, StringField):
            flat.extend(field.packed(cell))
        elif field.shape and not field.text:
            flat.extend(cell)
        else:
            flat.append(cell)
    return tuple(flat)
