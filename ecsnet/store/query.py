"""Queries: which rows, of which tables, in one order; and what iterating one hands out.

A query is made by a view or a transaction (its *source*), which alone knows where cells lie. It is a description
(`terms`) until somebody asks for rows; then it is resolved (`resolve`) into a `Selection`: for each table the rows,
aligned with one array of keys.

Comparing, here and everywhere in queries, follows IEEE 754: NaN is unequal to everything, itself included. Sorting puts
NaN last in either direction, grouping puts all NaN into one group.

Invariants:
- the tables of a query share one key space, but for those joined over a reference; row i of each table belongs to row i
  of the selection;
- a query is never changed: each verb gives another;
- a query resolves once and keeps its selection while the rows stand still, so that `body, health = weak` and
  `weak.entity` are aligned even when the cells that the condition asked about were changed in between.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeAlias, TypeVar, TypeVarTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecsnet.errors import ArgumentError
from ecsnet.expressions import Aggregate, Column, Condition, Order, column_path, max_, mean, min_, sum_
from ecsnet.store.aggregate import Grouped, aggregate_rows, check_aggregate
from ecsnet.store.conditions import evaluate
from ecsnet.store.explain import Explanation
from ecsnet.store.fields import FieldName
from ecsnet.store.names import Names, TableName
from ecsnet.store.placing import Placed, near, nearest, within
from ecsnet.store.resolve import Resolver
from ecsnet.store.result import Result, demand_column, result_of
from ecsnet.store.rows import Rows
from ecsnet.store.selection import RowSet, Selection
from ecsnet.store.spatial import Axes, Found, Search
from ecsnet.store.terms import Terms, join_term, maybe, terms_of
from ecsnet.store.typed import Selector

if TYPE_CHECKING:
    from ecsnet._kernel.texts import Texts
    from ecsnet.schema.python import Row
    from ecsnet.store.indexes import Index

__all__ = ["AnyQuery", "Query", "RowSet", "Selection", "Source", "maybe", "query_of"]


class Source(Protocol):
    """What a query needs of the view or transaction that made it."""

    @property
    def names(self) -> Names:
        """The schema's names."""

    def join(self, tables: tuple[TableName, ...], without: tuple[TableName, ...]) -> Selection:
        """The rows of keys that have all of `tables` and none of `without`."""

    def rows_of(self, table: TableName, keys: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """The row of each key in one table, `resolve.NO_ROW` where it has none."""

    def index_of(self, field: FieldName, *, must: bool) -> "Index | None":
        """The rows of a stored field by its value; None where none `must` be made and it would not pay."""

    def holds(self, selection: Selection) -> bool:
        """Whether the rows still stand where `selection` says."""

    def read(self, selection: Selection, position: int, field: FieldName) -> NDArray[Any]:
        """The cells of one field of table `position`, for reading only, aligned with the selection's keys."""

    def rows_with(self, field: FieldName, texts: list[str]) -> NDArray[np.intp] | None:
        """The rows in which a field of strings has one of `texts`, ascending; None where no index would pay."""

    def texts(self, selection: Selection, position: int, field: FieldName) -> "Texts":
        """The cells of a field of strings that all rows have, which are asked without being decoded."""

    def search(self, search: Search, allowed: NDArray[np.bool_] | None) -> Found:
        """The rows of a table that lie where `search` asks and are `allowed` (None: all)."""

    def search_indexed(self, axes: Axes) -> bool:
        """Whether such a search would go through the spatial index now, or look at every row."""

    def column(self, selection: Selection, position: int, field: FieldName) -> NDArray[Any]:
        """As `read`, to be handed to the game: writable where the source and the field are."""

    def assign(self, selection: Selection, position: int, field: FieldName, value: object) -> None:
        """Put `value` into those cells."""


Tables = TypeVarTuple("Tables")
Joined = TypeVar("Joined", bound="Row")

if TYPE_CHECKING:

    class Aligned(tuple[*Tables]):
        """What a type checker takes a query for: it unpacks into one table's columns after the other."""

else:

    class Aligned(Generic[*Tables]):
        """A query unpacks like a tuple, and is none: rows are looked for when somebody asks."""

        __slots__ = ()


class Query(Aligned[*Tables]):
    """Rows of one or more tables, aligned. Unpacks into one `Rows` per table: `body, speed = tx.query(...)`.

    Made by `view.query` and `tx.query`. Its verbs may be called in any order and mean the same: tables are joined, rows
    chosen by every `where`, then sorted, then counted off. Nothing is looked for before somebody asks for rows.
    """

    __slots__ = ("_selection", "_source", "_terms")

    def __init__(self, source: Source, terms: Terms):
        self._source = source
        self._terms = terms
        self._selection: Selection | None = None

    if not TYPE_CHECKING:  # a type checker knows what a query has

        def __getattr__(self, name: str) -> object:
            hint = "" if name.startswith("_") else ": unpack it first, (body,) = query, and columns are body.x"
            raise AttributeError(f"a query has no attribute {name!r}{hint}")

    # --- which rows --------------------------------------------------------------------------------------------------

    def where(self, condition: Condition) -> Self:
        """The same query over fewer rows: those for which `condition` is true as well. It may be called repeatedly.

        Raises:
            ArgumentError: not a condition, or it reads a table that is not in the query.
            UnknownNameError: a path of the condition names nothing.
        """
        if not isinstance(condition, Condition):
            raise ArgumentError(f"expected a condition such as col('health.hp') < 20, found {condition!r}")
        for path in condition.paths():
            self._locate(path)
        before = self._terms.condition
        return self._with(condition=condition if before is None else before & condition)

    def near(self, centre: ArrayLike, radius: float, *, of: object = None) -> Self:
        """Only the rows at most `radius` from `centre`, by the spatial index: `query("transform").near((x, y), 20.0)`.

        A distance is Euclidean, computed in f64. A row with a coordinate that is NaN or infinite lies nowhere and is
        never found. May be called repeatedly, and with `within`: each narrows the rows.

        Args:
            centre: a finite number for each of the table's `spatial` fields, in their order.
            radius: at least 0; infinity for every row that lies somewhere.
            of: the table whose rows' places are meant (its name in this query, or its class), where several have one.

        Raises:
            ArgumentError: not such numbers, no table of the query declares `spatial`, or several do.
        """
        return self._placed(near(self._source.names, self._terms, centre, radius, of))

    def within(self, low: ArrayLike, high: ArrayLike, *, of: object = None) -> Self:
        """Only the rows in a box: from `low` to `high` on every axis, both included. `of` and places are as in `near`;
        corners may be infinite.

        Raises:
            ArgumentError: as `near`.
        """
        return self._placed(within(self._source.names, self._terms, low, high, of))

    def nearest(self, centre: ArrayLike, k: int, *, of: object = None) -> Self:
        """Only the `k` rows nearest to `centre`, the nearest first, equally near ones by their keys; fewer where there
        are fewer. It is asked last, of the rows that are left by every other clause but `order_by` and `limit`,
        which act on what it gives. `of` and places are as in `near`.

        Where a join repeats rows, `k` counts those of the table, and each comes as often as it is there.

        Raises:
            ArgumentError: as `near`; `k` is no number of rows.
        """
        return self._placed(nearest(self._source.names, self._terms, centre, k, of))

    @overload
    def join(
        self, table: type[Joined], /, *, on: Column | str | None = None, left: bool = False, name: str | None = None
    ) -> "Query[*Tables, Joined]": ...
    @overload
    def join(
        self, table: str, /, *, on: Column | str | None = None, left: bool = False, name: str | None = None
    ) -> "Query[*tuple[Any, ...]]": ...
    def join(
        self, table: Any, /, *, on: Column | str | None = None, left: bool = False, name: str | None = None
    ) -> Any:
        """One table more, over a reference: `view.query("item").join("transform", on="item.holder")`.

        The reference leads from a table of the query to this one (each row gets the one row that it refers to), or
        from this one to a table of the query (each row is repeated for every row that refers to it). Rows without a
        partner are left out. In a transaction, columns of joined tables are read-only, and so are all columns
        where rows are repeated: which of them to write back nobody could say.

        Args:
            table: a component, for references to entities; a table with keys of its own; or `entities` itself.
            on: the field with the foreign key. It may be left out where only one reference fits.
            left: keep rows without a partner: `present` says which, as for `maybe`.
            name: what the table is called in this query, where it is in it twice: `join("item", on="item.inside",
                name="box")` is reached as "box.kind".

        Raises:
            UnknownNameError: no such table or field.
            ArgumentError: no reference, or not between these tables; several fit; the name is taken.
        """
        names = self._source.names
        found = names.table(table)
        path = None if on is None else column_path(on)
        return self._with(tables=(*self._terms.tables, join_term(names, self._terms, found, path, left, name)))

    def order_by(self, *columns: Order | Column | str) -> Self:
        """The same rows sorted by these columns, the first counting most: `order_by("health.hp", desc("transform.x"))`.
        It replaces an earlier order. Rows that are equal in all of them stay in the order they had; NaN comes last.

        Raises:
            ArgumentError, UnknownNameError: no column, one of arrays, or of a table that is not in the query.
        """
        orders = tuple([Order.of(column) for column in columns])
        for order in orders:
            field = self._locate(order.path)
            if field.shape and not field.text:
                raise ArgumentError(f"{field.path} holds arrays, which have no order")
        return self._with(order=orders)

    def limit(self, rows: int | None, offset: int = 0) -> Self:
        """Only the first `rows` rows (None: all) after the first `offset`, counted when they are sorted. Without
        `order_by` which rows are first is not defined. It replaces an earlier limit.

        Raises:
            ArgumentError: not an integer, or below zero.
        """
        for number in (rows, offset):
            if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 0):
                raise ArgumentError(
                    f"limit takes a number of rows, and an offset: integers from 0 on, found {number!r}"
                )
        return self._with(limit=rows, offset=offset)

    # --- the rows ----------------------------------------------------------------------------------------------------

    @property
    def entity(self) -> NDArray[np.uint64]:
        """The entities, u64, in the order of the rows.

        Raises:
            ArgumentError: the table has keys of its own; `.key` gives them.
        """
        if self._terms.tables[0].table.keyed:
            raise ArgumentError(f"rows of {self._terms.tables[0].name} belong to no entity: use .key")
        return self.resolve().keys

    @property
    def key(self) -> NDArray[np.uint64]:
        """The keys, u64, in the order of the rows: entities, or a table's own keys."""
        return self.resolve().keys

    def __len__(self) -> int:
        """How many tables, as for the tuple that it unpacks into; `count()` counts rows."""
        return len(self._terms.tables)

    if not TYPE_CHECKING:  # a type checker has them from the tuple

        def __iter__(self) -> Iterator[Rows]:
            selection = self.resolve()
            return iter([Rows(self._source, selection, position) for position in range(len(self._terms.tables))])

        def __getitem__(self, position: int) -> Rows:
            tables = len(self._terms.tables)
            if not isinstance(position, int) or not -tables <= position < tables:
                raise ArgumentError(
                    f"expected the number of a table, from 0 to {tables - 1} here, found {position!r}: columns are "
                    f"fields of what the query unpacks into"
                )
            return Rows(self._source, self.resolve(), position % tables)

    def select(self, /, *columns: Column | str, **named: Column | str) -> Result:
        """The cells of these columns, copied out of the view or transaction, under their paths or the names given:
        `select("health.hp", x="transform.x")`. Without any: all columns of all tables, and "key".

        Raises:
            ArgumentError, UnknownNameError: no column, of a table that is not in the query, or a name twice.
        """
        return result_of(self._source, self._terms, self.resolve(), columns, named)

    # --- numbers over the rows ---------------------------------------------------------------------------------------

    def count(self) -> int:  # type: ignore[override]  # a tuple would count a value
        """How many rows."""
        return self.resolve().count

    def sum(self, column: Column | str) -> int | float:
        """The sum over all rows: of integers exact modulo 2**64, of floats in f64; 0 of none."""
        found: int | float = self._aggregate(sum_(column))
        return found

    def min(self, column: Column | str) -> Any:
        """The least value, as its Python value; None of no rows, NaN where one of them is."""
        return self._aggregate(min_(column))

    def max(self, column: Column | str) -> Any:
        """The greatest value, as its Python value; None of no rows, NaN where one of them is."""
        return self._aggregate(max_(column))

    def mean(self, column: Column | str) -> float | None:
        """The arithmetic mean, in f64; None of no rows."""
        found: float | None = self._aggregate(mean(column))
        return found

    def aggregate(self, /, **wanted: Aggregate) -> dict[str, Any]:
        """Several at once: `aggregate(n=count(), total=sum_("health.hp"))` gives a dict of Python values.

        Raises:
            ArgumentError, UnknownNameError: not an aggregate, or of a column that is not in the query or has none.
        """
        return aggregate_rows(self._source, self._terms, self.resolve(), wanted)

    def group_by(self, *columns: Column | str) -> Grouped:
        """The rows put together by equal values of these columns: `.group_by("item.holder").aggregate(n=count())`.

        Raises:
            ArgumentError, UnknownNameError: none, no column, one of arrays, or of a table that is not in the query.
        """
        return Grouped(self._source, self._terms, self.resolve, columns)

    # --- about it ----------------------------------------------------------------------------------------------------

    def explain(self) -> Explanation:
        """How the rows are found: it resolves the query anew and tells what was done, over how many rows, which index
        was used, and which tables' columns are copied."""
        resolver = Resolver(self._source, self._terms, told=True)
        selection = resolver.run()
        copied = {
            term.name: not isinstance(selection.rows[position], slice) or selection.present(position) is not None
            for position, term in enumerate(self._terms.tables)
        }
        return Explanation(self.text(), tuple(resolver.steps), copied, selection.count)

    def check(self, what: Condition | Aggregate | Column | str) -> None:
        """Look at a condition, an aggregate or a column as if it were asked of this query, without looking for rows.

        Raises:
            ArgumentError, UnknownNameError: what asking would raise.
        """
        if isinstance(what, Condition):
            evaluate(what, self._nothing)
        elif isinstance(what, Aggregate):
            check_aggregate(self._source.names, self._terms, what)
        else:
            demand_column(self._source.names, self._terms, column_path(what))

    def text(self) -> str:
        """The query in the language of `view.query_text` and `ecsnet query`, which reads it back."""
        return self._terms.text()

    def __repr__(self) -> str:
        return f"<query {self.text()}>"

    # --- inside ------------------------------------------------------------------------------------------------------

    def resolve(self) -> Selection:
        """Find the rows, once for as long as they stand still."""
        selection = self._selection
        if selection is None or not self._source.holds(selection):
            terms = self._terms
            if terms.plain:
                selection = self._source.join(tuple([term.table for term in terms.tables]), terms.without)
            else:
                selection = Resolver(self._source, terms).run()
            self._selection = selection
        return selection

    def _aggregate(self, wanted: Aggregate) -> Any:
        return self.aggregate(it=wanted)["it"]

    def _locate(self, path: str) -> FieldName:
        return self._terms.locate(self._source.names, path)[1]

    def _nothing(self, path: str) -> tuple[FieldName, NDArray[Any]]:
        """A column without rows."""
        field = self._locate(path)
        return field, np.empty((0, *field.shape), field.dtype)

    def _placed(self, place: Placed) -> Self:
        return self._with(places=(*self._terms.places, place))

    def _with(self, **changes: Any) -> Self:
        return type(self)(self._source, replace(self._terms, **changes))


AnyQuery: TypeAlias = Query[*tuple[Any, ...]]
"""A query of tables that are known by name only."""


def query_of(source: Source, tables: Sequence[Selector], without: Sequence[Selector]) -> AnyQuery:
    """Check the names of a query and make it.

    Raises:
        UnknownNameError, ArgumentError: no such table, none that every row has, the same one twice, or tables that do
            not share their keys.
    """
    return Query(source, terms_of(source.names, tables, without))
