"""What the store asks of tables and rows that are written as Python classes.

A table's class says its name (`Class.ecsnet_table`), its columns are data with a path (`Class.field.path`), and an
instance is a row to be written (`row.ecsnet_table`, `row.ecsnet_values`: the values given, by field). Nothing else is
asked, so the store knows tables by what they say and not by where they were made.

Invariant: everywhere a table may be named by a string it may be named by its class, and a path by a column.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from ecsnet.errors import ArgumentError
from ecsnet.expressions import Column

if TYPE_CHECKING:
    from ecsnet.schema.python import Row
    from ecsnet.store.fields import FieldName
    from ecsnet.store.names import Names, TableName

__all__ = [
    "Path",
    "RowLike",
    "Selector",
    "demand_fits",
    "given_by",
    "named_fields",
    "names_table",
    "row_parts",
    "selects",
]


class RowLike(Protocol):
    """A row to be written: an instance of a table's class."""

    @property
    def ecsnet_table(self) -> str:
        """The table's name."""

    @property
    def ecsnet_values(self) -> Mapping[str, Any]:
        """The values given, by field."""


if TYPE_CHECKING:
    Selector: TypeAlias = str | type[Row]
else:
    Selector = str | type
"""What names a table: its name, or its class."""

Path = str | Column
"""What names a field: `"health.hp"`, or `Health.hp`."""


def selects(what: object) -> bool:
    """Whether `what` is of the kind that names a table (it need not be one)."""
    return isinstance(what, str | type)


def row_parts(row: object) -> tuple[type[Any], Mapping[str, Any]]:
    """The class and the values of a row.

    Raises:
        ArgumentError: not an instance of a table's class.
    """
    values = None if isinstance(row, type) else getattr(row, "ecsnet_values", None)
    if not isinstance(values, Mapping):
        if isinstance(row, type):
            raise ArgumentError(f"expected a row such as {row.__name__}(...), found the class {row.__name__} itself")
        raise ArgumentError(f"expected a row such as Health(hp=90), found {row!r}")
    return type(row), values


def given_by(rows: tuple[object, ...], named: Mapping[str, Any]) -> list[tuple[Selector, Mapping[str, Any]]]:
    """Rows given as objects and by name, as one list of table and values.

    Raises:
        ArgumentError: an object is no row, or what a name was given is no dict.
    """
    parts: list[tuple[Selector, Mapping[str, Any]]] = [row_parts(row) for row in rows]
    for table, given in named.items():
        if given is None:
            given = {}
        elif not isinstance(given, Mapping):
            values = getattr(given, "ecsnet_values", None)
            if not isinstance(values, Mapping) or isinstance(given, type):
                raise ArgumentError(f"{table}: expected a dict of fields such as {{'x': 1.0}}, found {given!r}")
            given = values
        parts.append((table, given))
    return parts


def demand_fits(declared: type[Any], table: "TableName") -> None:
    """Check that a class has the very columns of the schema's table.

    Raises:
        ArgumentError: it has others; the message names them.
    """
    theirs = {name for name in dir(declared) if isinstance(_attribute(declared, name), Column)}
    # Members of a struct are columns of their own, which the class may keep under the struct's name.
    plain = {name for name, field in table.fields.items() if field.kind == "stored" and "." not in name}
    odd = {name for name in theirs if name not in table.fields} | (plain - theirs)
    if theirs and odd:
        raise ArgumentError(
            f"class {declared.__qualname__} is not the table {table.name} of this store's schema: they differ in "
            f"{', '.join(sorted(odd))}. Use the class that the schema was made of"
        )


def _attribute(declared: type[Any], name: str) -> object:
    # A class attribute may be a property of its metaclass, or anything else that raises when it is asked for.
    try:
        return getattr(declared, name)
    except AttributeError:
        return None


def names_table(what: Selector | Path) -> bool:
    """Whether it names a table rather than a field."""
    return isinstance(what, type) or (isinstance(what, str) and "." not in what)


def named_fields(names: "Names", what: tuple[Selector | Path, ...]) -> tuple["TableName", tuple["FieldName", ...]]:
    """One table with all its stored fields, or the fields that are named, all of one table.

    The fields of a class come in the order of the class; of a table that is named by a string, in the order of their
    names, since a schema keeps no other.

    Raises:
        UnknownNameError, ArgumentError: nothing named, no such name, or fields of different tables.
    """
    if not what:
        raise ArgumentError("name a table, or fields of one: Velocity, or Velocity.x, Velocity.y")
    if names_table(what[0]):
        if len(what) > 1:
            raise ArgumentError("name one table, or fields of one")
        table = names.table(what[0])
        if not isinstance(what[0], type):
            return table, table.stored
        declared = [names.path(column) for column in _declared_columns(what[0])]
        return table, tuple([field for field in declared if field.kind == "stored"]) or table.stored
    fields = tuple([names.path(path) for named in what for path in _columns_in(named)])
    if not fields:
        raise ArgumentError(f"expected a table, or fields of one, such as Velocity.x, found {what[0]!r}")
    if any(field.table is not fields[0].table for field in fields):
        raise ArgumentError(f"fields of different tables: {', '.join(field.path for field in fields)}")
    if len(set(fields)) < len(fields):
        raise ArgumentError(f"a field twice: {', '.join(field.path for field in fields)}")
    return fields[0].table, fields


def _declared_columns(declared: type[Any]) -> list[Column]:
    """The columns of a class in its own order, those of structs within it too."""
    names = getattr(declared, "ecsnet_columns", vars(declared))
    found = [_attribute(declared, name) for name in names]
    return [column for named in found for column in _columns_in(named) if isinstance(column, Column)]


def _columns_in(named: object) -> Iterable[object]:
    """The columns of a struct such as `Transform.place`, else what is named itself."""
    is_struct = isinstance(named, Iterable) and not isinstance(
        named, str | bytes | type | Column | Mapping | np.ndarray
    )
    return list(named) if is_struct and isinstance(named, Iterable) else (named,)
