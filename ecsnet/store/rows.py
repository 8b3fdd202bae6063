"""The rows of one table in a query: a column per field, as an attribute.

`body.x` is a numpy array aligned with the query's keys. In a transaction `body.x += v` changes the array in place and
then assigns it to itself, which does nothing; `body.x = expr` copies into the same cells. Rebinding never detaches.
The members of a struct are reached through it: `body.position.x`.

Invariants:
- `Rows` owns no array: each access asks the source, so nothing is kept alive past a commit by holding `Rows`;
- a field whose name is also a method's (`key`, `copied`, `fields`, `present`) is reached as `body["key"]`.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import ArgumentError
from ecsnet.expressions import Column

if TYPE_CHECKING:
    from ecsnet.store.names import TableName
    from ecsnet.store.query import Source
    from ecsnet.store.selection import Selection

__all__ = ["Members", "Rows"]


class Rows:
    """One table's rows in a query. See the module."""

    __slots__ = ("_position", "_selection", "_source", "_table")
    _position: int
    _selection: "Selection"
    _source: "Source"
    _table: "TableName"

    def __init__(self, source: "Source", selection: "Selection", position: int):
        put = object.__setattr__
        put(self, "_source", source)
        put(self, "_selection", selection)
        put(self, "_position", position)
        put(self, "_table", selection.tables[position])

    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__":
            # Asked for by copy, pickle, numpy and the like: protocols that rows do not have.
            raise AttributeError(name)
        field = self._table.fields.get(name)
        if field is None:
            if _is_struct(self._table, name):
                return Members(self, name)
            if name.startswith("ecsnet_"):
                # What rows to be written are known by: these are none.
                raise AttributeError(name)
            field = self._table.field(name)
        return self._source.column(self._selection, self._position, field)

    def __setattr__(self, name: str, value: object) -> None:
        field = self._table.fields.get(name) or self._table.field(name)
        self._source.assign(self._selection, self._position, field, value)

    def __getitem__(self, name: "str | Column") -> Any:
        return self.__getattr__(self._name(name, ""))

    def __setitem__(self, name: "str | Column", value: object) -> None:
        self.__setattr__(self._name(name, " = ..."), value)

    # Without this, Python would iterate by asking for item 0, 1, ...
    __iter__ = None

    @property
    def copied(self) -> bool:
        """Whether the columns are gathered copies; False where they are the cells themselves."""
        selection, position = self._selection, self._position
        return not isinstance(selection.rows[position], slice) or selection.present(position) is not None

    @property
    def key(self) -> NDArray[np.uint64]:
        """The keys of the rows, u64, read-only; 0 where there is none."""
        return self._selection.keys_of(self._position)

    @property
    def present(self) -> NDArray[np.bool_]:
        """Whether there is a row: a bool each, read-only. All are true but for `maybe` and left joins. Where it is
        False the cells are the field's default, or zero where it has none."""
        present = self._selection.present(self._position)
        if present is None:
            present = np.ones(len(self), np.bool_)
            present.flags.writeable = False
        return present

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields."""
        return tuple(self._table.fields)

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Every column by its name, and "key": copies, aligned, which pandas and polars make a frame of."""
        source, selection, position = self._source, self._selection, self._position
        columns = {"key": self.key.copy()} if "key" not in self._table.fields else {}
        for name, field in self._table.fields.items():
            columns[name] = np.array(source.read(selection, position, field))
        return columns

    def __len__(self) -> int:
        return self._selection.count

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *{name.partition(".")[0] for name in self._table.fields}]

    def __repr__(self) -> str:
        kind = "copied" if self.copied else "whole"
        return f"<{len(self)} rows of {self._table.name}, {kind}: {', '.join(self._table.fields)}>"

    def _name(self, name: "str | Column", assigned: str) -> str:
        if isinstance(name, Column):
            name = name.path.removeprefix(f"{self._table.name}.")
        if not isinstance(name, str):
            raise ArgumentError(
                f"rows are columns: body.x[{name!r}]{assigned} or body['x'], not body[{name!r}]{assigned}"
            )
        return name


class Members:
    """The members of a struct: `body.position` in `body.position.x`. It owns nothing either."""

    __slots__ = ("_path", "_rows")
    _path: str
    _rows: Rows

    def __init__(self, rows: Rows, path: str):
        object.__setattr__(self, "_rows", rows)
        object.__setattr__(self, "_path", path)

    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__":
            raise AttributeError(name)
        return getattr(self._rows, f"{self._path}.{name}")

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._rows, f"{self._path}.{name}", value)

    def __repr__(self) -> str:
        return f"<{self._path} of {self._rows!r}>"


def _is_struct(table: "TableName", name: str) -> bool:
    prefix = f"{name}."
    return any(field.startswith(prefix) for field in table.fields)
