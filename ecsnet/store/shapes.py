"""Packing recipes for point writes, remembered by (table, names of the fields given).

A game writes the same few fields in the same way millions of times. What a write needs to know (the kernel's shape,
which values must be checked one by one) is worked out once; after that a write is a dictionary look-up and one call.

Invariants:
- where a recipe is `plain`, Python's values go to the kernel's packing as they are, which refuses wrong types and
  numbers out of range; `explain` then finds out which field it was;
- the values of a recipe are in the order of its shape's fields; an array field is one flat run of its cells.
"""

import struct
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ecsnet.errors import ArgumentError, EcsnetError
from ecsnet.store.fields import FieldName
from ecsnet.store.names import Names, TableName
from ecsnet.store.typed import Selector

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore, Shape

__all__ = ["PACKING_ERRORS", "InsertRecipe", "Recipes", "UpdateRecipe"]

# What packing raises for a value of a wrong type or out of range.
PACKING_ERRORS: Final = (struct.error, TypeError, OverflowError, ValueError)


class UpdateRecipe:
    """How to write the named fields of one row."""

    __slots__ = ("fields", "plain", "shape", "table")

    def __init__(self, kernel: "KernelStore", table: TableName, names: tuple[str, ...]):
        if not names:
            raise ArgumentError(f"update of {table.name} names no field")
        self.table = table
        self.fields = tuple([table.stored_field(name) for name in names])
        self.plain = all(field.plain for field in self.fields)
        self.shape: Shape = kernel.shape(table.id, tuple([field.id for field in self.fields]))

    def values(self, given: Iterable[Any]) -> tuple[Any, ...]:
        """The values to pack. Raises ArgumentError for one that is wrong."""
        return _flat([field.cell(value) for field, value in zip(self.fields, given, strict=True)], self.fields)

    def explain(self, given: Iterable[Any], error: Exception) -> EcsnetError:
        """The typed error for values that packing refused."""
        try:
            self.values(given)
        except EcsnetError as typed:
            return typed
        return ArgumentError(f"{self.table.name}: {error}")


class InsertRecipe:
    """How to make a row of which the named fields are given; the kernel knows the defaults of the others."""

    __slots__ = ("fields", "plain", "shape", "table")

    def __init__(self, kernel: "KernelStore", table: TableName, names: tuple[str, ...]):
        table.demand_required(names)
        self.table = table
        self.fields = tuple([table.stored_field(name) for name in names])
        self.plain = all(field.plain for field in self.fields)
        self.shape: Shape = kernel.shape(table.id, tuple([field.id for field in self.fields]))

    def values(self, given: Iterable[Any]) -> tuple[Any, ...]:
        """The values to pack. Raises ArgumentError for one that is wrong and not left to packing to refuse."""
        if self.plain:
            return tuple(given)
        return _flat([field.cell(value) for field, value in zip(self.fields, given, strict=True)], self.fields)

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

    __slots__ = ("_kernel", "_names", "cells", "inserts", "updates")

    def __init__(self, kernel: "KernelStore", names: Names):
        self._kernel = kernel
        self._names = names
        self.cells: dict[str, tuple[str, str]] = {}
        """Table and field of each path that a cell was written by."""
        self.updates: dict[tuple[Selector, tuple[str, ...]], UpdateRecipe] = {}
        self.inserts: dict[tuple[Selector, tuple[str, ...]], InsertRecipe] = {}

    def update(self, table: Selector, names: tuple[str, ...]) -> UpdateRecipe:
        """Look up or make. Raises UnknownNameError, ArgumentError."""
        recipe = self.updates.get((table, names))
        if recipe is None:
            recipe = UpdateRecipe(self._kernel, writable(self._names.table(table)), names)
            self.updates[table, names] = recipe
        return recipe

    def insert(self, table: Selector, given: Mapping[str, Any]) -> InsertRecipe:
        """Look up or make. Raises UnknownNameError, ArgumentError, ConstraintError (a field without a default)."""
        names = tuple(given)
        recipe = self.inserts.get((table, names))
        if recipe is None:
            recipe = InsertRecipe(self._kernel, writable(self._names.table(table)), names)
            self.inserts[table, names] = recipe
        return recipe


def writable(table: TableName) -> TableName:
    """The table itself, unless the game may not write it.

    Raises:
        ArgumentError: a metadata table, which describes the schema.
    """
    if table.read_only:
        raise ArgumentError(f"{table.name} describes the schema and is read-only")
    return table


def _flat(cells: list[Any], fields: tuple[FieldName, ...]) -> tuple[Any, ...]:
    if not any(field.shape and not field.text for field in fields):
        return tuple(cells)
    flat: list[Any] = []
    for cell, field in zip(cells, fields, strict=True):
        if field.shape and not field.text:
            flat.extend(cell)
        else:
            flat.append(cell)
    return tuple(flat)
