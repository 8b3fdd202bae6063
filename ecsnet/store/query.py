"""Queries: which rows, of which tables, in one order; and what iterating one hands out.

A query is made by a view or a transaction (its *source*), which alone knows where cells lie. Resolving it joins the
tables on their keys, asks the condition, and gives a `Selection`: for each table the rows, aligned with one array of
keys.

Invariants:
- the tables of a query share one key space; row i of each table belongs to key i of the selection;
- a query resolves once and keeps its selection while the rows stand still, so that `body, health = weak` and
  `weak.entity` are aligned even when the cells that the condition asked about were changed in between.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import ArgumentError, NotBuiltError, UnknownNameError
from ecsnet.expressions import Condition
from ecsnet.store.conditions import evaluate
from ecsnet.store.fields import FieldName
from ecsnet.store.names import Names, TableName
from ecsnet.store.rows import Rows
from ecsnet.store.typed import Selector

__all__ = ["Query", "Selection", "Source", "maybe", "query_of"]

# A whole slice of a column where the rows lie together in the order of the keys, else the rows one by one.
RowSet = slice | NDArray[np.intp]


class Selection:
    """Resolved rows: `rows[t]` are those of `tables[t]`, aligned with `keys` (u64, read-only). Never changed.

    `structure` is the source's own mark of when the rows stood where they are said to stand here.
    """

    __slots__ = ("keys", "rows", "structure", "tables")

    def __init__(
        self, tables: tuple[TableName, ...], rows: tuple[RowSet, ...], keys: NDArray[np.uint64], structure: object
    ):
        self.tables = tables
        self.rows = rows
        self.keys = keys
        self.structure = structure

    @property
    def count(self) -> int:
        """How many rows."""
        return len(self.keys)


class Source(Protocol):
    """What a query needs of the view or transaction that made it."""

    @property
    def names(self) -> Names:
        """The schema's names."""

    def join(self, tables: tuple[TableName, ...], without: tuple[TableName, ...]) -> Selection:
        """Resolve a query without its condition."""

    def holds(self, selection: Selection) -> bool:
        """Whether the rows still stand where `selection` says."""

    def read(self, selection: Selection, position: int, field: FieldName) -> NDArray[Any]:
        """The cells of one field of table `position`, for reading only, aligned with the selection's keys."""

    def column(self, selection: Selection, position: int, field: FieldName) -> NDArray[Any]:
        """As `read`, to be handed to the game: writable where the source and the field are."""

    def assign(self, selection: Selection, position: int, field: FieldName, value: object) -> None:
        """Put `value` into those cells."""


class Query:
    """Rows of one or more tables, aligned. Unpacks into one `Rows` per table: `body, speed = tx.query(...)`."""

    __slots__ = ("_condition", "_selection", "_source", "_tables", "_without")

    def __init__(
        self,
        source: Source,
        tables: tuple[TableName, ...],
        without: tuple[TableName, ...],
        condition: Condition | None = None,
    ):
        self._source = source
        self._tables = tables
        self._without = without
        self._condition = condition
        self._selection: Selection | None = None

    def where(self, condition: Condition) -> "Query":
        """The same query over fewer rows: those for which `condition` is true as well.

        Raises:
            ArgumentError: not a condition, or it reads a table that is not in the query.
            UnknownNameError: a path of the condition names nothing.
        """
        if not isinstance(condition, Condition):
            raise ArgumentError(f"expected a condition such as col('health.hp') < 20, found {condition!r}")
        for path in condition.paths():
            self._locate(path)
        joined = condition if self._condition is None else self._condition & condition
        return Query(self._source, self._tables, self._without, joined)

    def join(self, table: str, /, *, on: object = None) -> Any:
        """Planned."""
        raise NotBuiltError("joining over a foreign key", "query each table by itself and match the column with numpy")

    @property
    def entity(self) -> NDArray[np.uint64]:
        """The entities, u64, in the order of the rows.

        Raises:
            ArgumentError: the table has keys of its own; `.key` gives them.
        """
        if self._tables[0].keyed:
            raise ArgumentError(f"rows of {self._tables[0].name} belong to no entity: use .key")
        return self.resolve().keys

    @property
    def key(self) -> NDArray[np.uint64]:
        """The keys, u64, in the order of the rows: entities, or a table's own keys."""
        return self.resolve().keys

    def count(self) -> int:
        """How many rows."""
        return self.resolve().count

    def __len__(self) -> int:
        """How many tables, as for the tuple that it unpacks into; `count()` counts rows."""
        return len(self._tables)

    def __iter__(self) -> Iterator[Rows]:
        selection = self.resolve()
        return iter([Rows(self._source, selection, position) for position in range(len(self._tables))])

    def __getitem__(self, position: int) -> Rows:
        return Rows(self._source, self.resolve(), range(len(self._tables))[position])

    def __repr__(self) -> str:
        text = ", ".join(repr(table.name) for table in self._tables)
        if self._without:
            text += f", without={[table.name for table in self._without]!r}"
        return f"query({text})" + (f".where({self._condition!r})" if self._condition is not None else "")

    def resolve(self) -> Selection:
        """Find the rows, once for as long as they stand still."""
        selection = self._selection
        if selection is None or not self._source.holds(selection):
            selection = self._source.join(self._tables, self._without)
            if self._condition is not None:
                selection = self._narrow(selection, self._condition)
            self._selection = selection
        return selection

    def _narrow(self, selection: Selection, condition: Condition) -> Selection:
        source = self._source

        def fetch(path: str) -> tuple[FieldName, NDArray[Any]]:
            position, field = self._locate(path)
            return field, source.read(selection, position, field)

        chosen = np.flatnonzero(evaluate(condition, fetch))
        if len(chosen) == selection.count:
            return selection
        rows: list[RowSet] = []
        for row_set in selection.rows:
            if isinstance(row_set, slice):
                rows.append(chosen + row_set.start if row_set.start else chosen)
            else:
                rows.append(row_set[chosen])
        keys = selection.keys[chosen]
        keys.flags.writeable = False
        return Selection(selection.tables, tuple(rows), keys, selection.structure)

    def _locate(self, path: str) -> tuple[int, FieldName]:
        """The table's position in this query, and the field."""
        if "." not in path:
            if len(self._tables) == 1:
                return 0, self._tables[0].field(path)
            known = [field.path for table in self._tables for field in table.fields.values()]
            raise UnknownNameError("field", path, known)
        field = self._source.names.path(path)
        for position, table in enumerate(self._tables):
            if table is field.table:
                return position, field
        raise ArgumentError(
            f"the condition reads {path}, and the query has only {', '.join(table.name for table in self._tables)}: "
            f"add {field.table.name!r} to the query"
        )


def maybe(table: str) -> Any:
    """Planned: a table that not all entities of a query have."""
    raise NotBuiltError("maybe(table) in a query", "query with and without it: query(..., without=[table])")


def query_of(source: Source, tables: Sequence[Selector], without: Sequence[Selector]) -> Query:
    """Check the names of a query and make it.

    Raises:
        UnknownNameError, ArgumentError: no such table, none at all, or the same one twice.
        NotBuiltError: tables that do not share a key space.
    """
    if not tables:
        raise ArgumentError("a query names at least one table")
    if isinstance(without, str | type):
        raise ArgumentError(f"without takes a list of tables: without=[{without!r}]")
    names = source.names
    wanted = tuple(names.table(name) for name in tables)
    unwanted = tuple(names.table(name) for name in without)
    if len(set(wanted + unwanted)) < len(wanted) + len(unwanted):
        raise ArgumentError(
            f"the same table twice in one query: {', '.join(table.name for table in wanted + unwanted)}"
        )
    spaces = {table.key_space for table in wanted + unwanted}
    if len(spaces) > 1:
        raise NotBuiltError(
            f"joining tables with different keys ({', '.join(sorted(spaces))})",
            "query each by itself and match a foreign key's column with numpy",
        )
    return Query(source, wanted, unwanted)
