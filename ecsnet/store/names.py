"""The schema's names, resolved once per store.

Every verb of the store names tables by a string or a class, and fields by a path or a column. Looking one up costs a
dictionary access; a wrong one is an `UnknownNameError` with "did you mean".

Invariants: a class names a table only once it was found to have that table's columns; virtual fields (an entity's id
and generation, a component's entity) are read-only and have no stored field.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import ArgumentError, ConstraintError, NoRowError, UnknownNameError
from ecsnet.expressions import Column
from ecsnet.schema.model import Schema, Table
from ecsnet.store.fields import FieldName, show
from ecsnet.store.strings import field_name
from ecsnet.store.typed import demand_fits

if TYPE_CHECKING:
    from ecsnet.store.terms import Terms

__all__ = ["Names", "TableName", "as_key", "as_keys", "key_and_table", "no_such_row"]

_KEY_MAX: Final = 2**64 - 1


class TableName:
    """One table: its fields by name, and what a new row needs."""

    __slots__ = (
        "component",
        "event",
        "fields",
        "id",
        "keyed",
        "name",
        "read_only",
        "required",
        "stored",
        "structs",
        "table",
    )

    def __init__(self, table: Table):
        self.table = table
        self.id = int(table.id)
        self.name = table.name
        self.component = table.kind == "component"
        self.keyed = table.kind in ("keyed", "event")
        # Its rows have keys of their own while they last; nothing but inserting them is possible.
        self.event = table.kind == "event"
        # The schema describes itself in these; a game that could write them could make them lie.
        self.read_only = table.system and table.name.startswith("schema_")
        self.stored = tuple(field_name(self, field) for field in table.fields)
        self.fields = {field.name: field for field in self.stored}
        for name, kind in table.virtual.items():
            self.fields[name] = FieldName(self, name, kind, None)
        self.required = tuple([field.name for field in table.fields if field.required])
        # What the members of structs are named under: `body`, and `body.arm` of `body.arm.x`.
        self.structs = frozenset(name[:dot] for name in self.fields for dot in range(len(name)) if name[dot] == ".")

    def __repr__(self) -> str:
        return f"<table {self.name}>"

    @property
    def key_space(self) -> str:
        """Tables of one key space can be joined on their keys."""
        return self.name if self.keyed else "entities"

    def field(self, name: str) -> FieldName:
        """Look a field up by its own name.

        Raises:
            UnknownNameError: with the name that was probably meant. ArgumentError: no name at all.
        """
        try:
            found = self.fields.get(name)
        except (TypeError, ValueError):
            # It has no hash.
            found = None
        if found is None:
            if not isinstance(name, str):
                raise ArgumentError(f"expected the name of a field of {self.name}, found {show(name)}")
            raise UnknownNameError(f"field of {self.name}", name, self.fields)
        return found

    def stored_field(self, name: str) -> FieldName:
        """Look up a field that can be written.

        Raises:
            UnknownNameError: no such field. ArgumentError: the field is virtual, so it follows from the key.
        """
        found = self.field(name)
        if found.kind != "stored":
            raise ArgumentError(f"{found.path} follows from the row's key and cannot be written")
        return found

    def flat(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """`given` with the members of structs under their own names: `{"position": {"x": 1.0}}` becomes
        `{"position.x": 1.0}`. A struct comes as a dict or as an instance of its class.

        Raises:
            UnknownNameError: the struct has no such member. ArgumentError: neither a dict nor a struct, or a member
            that is given twice.
        """
        if not self.structs or self.structs.isdisjoint(given):
            return given
        flat: dict[str, Any] = {}
        for name, value in given.items():
            for member, cell in self._members(name, value):
                if member in flat:
                    raise ArgumentError(f"{self.name}.{member} is given twice")
                flat[member] = cell
        return flat

    def _members(self, name: str, value: Any) -> Iterator[tuple[str, Any]]:
        if name not in self.structs:
            self.field(name)
            yield name, value
            return
        members = value if isinstance(value, Mapping) else getattr(value, "ecsnet_values", None)
        if not isinstance(members, Mapping):
            raise ArgumentError(f"{self.name}.{name}: expected a dict of its members, found {show(value)}")
        for member, cell in members.items():
            yield from self._members(f"{name}.{member}", cell)

    def demand_required(self, given: Collection[str]) -> None:
        """Check the names that a new row is given; the kernel fills in the defaults of the others.

        Raises:
            UnknownNameError, ArgumentError: a name that cannot be given.
            ConstraintError: a field without a default is not among them.
        """
        for name in given:
            self.stored_field(name)
        for name in self.required:
            if name not in given:
                raise ConstraintError(self.name, None, name, "required", "a value (it has no default)", "none")


class Names:
    """Tables by name, fields by path."""

    __slots__ = ("_selectors", "by_id", "paths", "schema", "tables", "terms")

    def __init__(self, schema: Schema):
        self.schema = schema
        self.tables = {table.name: TableName(table) for table in schema.tables}
        self.by_id = {table.id: table for table in self.tables.values()}
        self.paths = {field.path: field for table in self.tables.values() for field in table.fields.values()}
        # By name, and by each class that was found to be the table's.
        self._selectors: dict[object, TableName] = {}
        self._selectors.update(self.tables.items())
        # The tables of queries that were asked before: a game asks for the same few each tick.
        self.terms: dict[object, Terms] = {}

    def table(self, selector: object) -> TableName:
        """Look a table up by its name or its class.

        Raises:
            UnknownNameError: with the name that was probably meant. ArgumentError: neither a name nor a class, or a
            class with other columns than the table has.
        """
        try:
            found = self._selectors.get(selector)
        except (TypeError, ValueError):
            # It has no hash: numpy's own scalars raise the one or the other.
            found = None
        return self._declared(selector) if found is None else found

    def _declared(self, selector: object) -> TableName:
        if isinstance(selector, str):
            raise UnknownNameError("table", selector, self.tables)
        name = getattr(selector, "ecsnet_table", None)
        if not isinstance(selector, type) or not isinstance(name, str):
            raise ArgumentError(f"expected the name of a table or its class, found {show(selector)}")
        found = self.tables.get(name)
        if found is None:
            raise UnknownNameError("table", name, self.tables)
        demand_fits(selector, found)
        self._selectors[selector] = found
        return found

    def component(self, name: object) -> TableName:
        """Look up a table whose rows belong to entities.

        Raises:
            UnknownNameError, ArgumentError: as `table`, and for `entities` itself and tables with keys of their own.
        """
        table = self.table(name)
        if not table.component:
            row = f"{name.__name__}(...)" if isinstance(name, type) else f'"{table.name}", {{...}}'
            instead = f"insert({row}) makes a row of it" if table.keyed else "spawn makes its rows"
            raise ArgumentError(f"{table.name} is not a component: {instead}")
        return table

    def keyed(self, name: object, verb: str, key: str) -> TableName:
        """Look up a table whose rows have keys of their own. `verb` and what it takes as `key` are for the error.

        Raises:
            UnknownNameError, ArgumentError: as `table`, and for components.
        """
        table = self.table(name)
        if not table.keyed:
            row = f"{name.__name__}(...)" if isinstance(name, type) else f"{table.name}={{...}}"
            raise ArgumentError(f"{table.name} has no keys of its own: {verb}({key}, {row})")
        return table

    def written(self, column: Any) -> str:
        """The path of a column as it is written down, such as "health.hp". For who is in a hurry: whether the schema
        has it is asked when it is looked up.

        Raises:
            ArgumentError: neither a path nor a column.
        """
        try:
            path = column.path
        except AttributeError:
            path = column
        return path if path.__class__ is str else self.path(column).path

    def path(self, path: object) -> FieldName:
        """Look a field up by its path, such as `health.hp`, or its column, such as `Health.hp`.

        Raises:
            UnknownNameError: with the path that was probably meant. ArgumentError: neither a path nor a column.
        """
        if isinstance(path, Column):
            path = path.path
        if not isinstance(path, str):
            raise ArgumentError(f"expected a path such as 'health.hp', or a column, found {show(path)}")
        found = self.paths.get(path)
        if found is not None:
            return found
        table, dot, field = path.partition(".")
        if not dot:
            raise UnknownNameError("field", path, self.paths)
        return self.table(table).field(field)


def no_such_row(field: FieldName, value: object) -> NoRowError:
    """The error for a row that was looked for by the value of a field."""
    error = NoRowError(0, field.table.name)
    error.args = (f"no row of {field.table.name} has {field.name} == {value!r}",)
    return error


def as_keys(keys: object) -> NDArray[np.uint64]:
    """An array of keys, however it came.

    Raises:
        ArgumentError: not integers, negative, or not one-dimensional.
    """
    if isinstance(keys, np.ndarray) and keys.dtype == np.uint64 and keys.ndim == 1:
        return np.ascontiguousarray(keys)
    try:
        array = np.asarray(keys)
    except (ValueError, TypeError, OverflowError):
        raise ArgumentError(f"expected an array of u64 keys, found {show(keys)}") from None
    if array.size == 0 and array.ndim <= 1:
        return np.empty(0, np.uint64)
    if array.dtype.kind not in "iu" or array.ndim != 1 or (array.dtype.kind == "i" and int(array.min()) < 0):
        raise ArgumentError(f"expected an array of u64 keys, found {show(keys)}")
    return array.astype(np.uint64)


def key_and_table(what: tuple[Any, ...]) -> tuple[Any, Any]:
    """The two parts of what `in` asks of one row.

    Raises:
        ArgumentError: not two.
    """
    if len(what) != 2:
        raise ArgumentError(f"expected `entity in ...` or `(key, Health) in ...`, found {show(what)}")
    return what[0], what[1]


def as_key(key: object) -> int:
    """One key.

    Raises:
        ArgumentError: not an integer from 0 to 2**64 - 1.
    """
    if isinstance(key, int | np.integer) and not isinstance(key, bool) and 0 <= int(key) <= _KEY_MAX:
        return int(key)
    raise ArgumentError(f"expected a key (an integer of 64 bits), found {show(key)}")
