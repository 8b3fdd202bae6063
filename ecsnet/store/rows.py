"""The rows of one table in a query: a column per field, as an attribute.

`body.x` is a numpy array aligned with the query's keys. In a transaction `body.x += v` changes the array in place and
then assigns it to itself, which does nothing; `body.x = expr` copies into the same cells. Rebinding never detaches.

Invariants:
- `Rows` owns no array: each access asks the source, so nothing is kept alive past a commit by holding `Rows`;
- a field whose name is also a method's (`key`, `copied`, `fields`) is reached as `body["key"]`.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import ArgumentError

if TYPE_CHECKING:
    from ecsnet.store.names import TableName
    from ecsnet.store.query import Selection, Source

__all__ = ["Rows"]


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

    def __getattr__(self, name: str) -> NDArray[Any]:
        if name[:2] == "__":
            # Asked for by copy, pickle, numpy and the like: protocols that rows do not have.
            raise AttributeError(name)
        field = self._table.fields.get(name) or self._table.field(name)
        column: NDArray[Any] = self._source.column(self._selection, self._position, field)
        return column

    def __setattr__(self, name: str, value: object) -> None:
        field = self._table.fields.get(name) or self._table.field(name)
        self._source.assign(self._selection, self._position, field, value)

    def __getitem__(self, name: str) -> NDArray[Any]:
        if not isinstance(name, str):
            raise ArgumentError(f"rows are columns: body.x[{name!r}] or body['x'], not body[{name!r}]")
        return self.__getattr__(name)

    def __setitem__(self, name: str, value: object) -> None:
        if not isinstance(name, str):
            raise ArgumentError(f"rows are columns: body.x[{name!r}] = ..., not body[{name!r}] = ...")
        self.__setattr__(name, value)

    # Without this, Python would iterate by asking for item 0, 1, ...
    __iter__ = None

    @property
    def copied(self) -> bool:
        """Whether the columns are gathered copies; False where they are the cells themselves."""
        return not isinstance(self._selection.rows[self._position], slice)

    @property
    def key(self) -> NDArray[np.uint64]:
        """The keys of the rows, u64, read-only."""
        return self._selection.keys

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields."""
        return tuple(self._table.fields)

    def __len__(self) -> int:
        return self._selection.count

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._table.fields]

    def __repr__(self) -> str:
        kind = "copied" if self.copied else "whole"
        return f"<{len(self)} rows of {self._table.name}, {kind}: {', '.join(self._table.fields)}>"
