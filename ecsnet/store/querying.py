"""`query`, as a view and a transaction have it, and what a type checker knows of it.

A query's type names its tables in order, `Query[Transform, Velocity]`, so that a type checker gives each name in
`body, speed = tx.query(Transform, Velocity)` the columns of its own table.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ecsnet.store.query import AnyQuery, Query, query_of

if TYPE_CHECKING:
    from ecsnet.schema.python import Row
    from ecsnet.store.typed import Selector

__all__ = ["Querying"]

A = TypeVar("A", bound="Row")
B = TypeVar("B", bound="Row")
C = TypeVar("C", bound="Row")
D = TypeVar("D", bound="Row")
E = TypeVar("E", bound="Row")
F = TypeVar("F", bound="Row")


class Querying:
    """What asks queries. Whoever has it is a source of them."""

    __slots__ = ()

    # One for each number of tables: there is no type for "the instances of each of these classes".
    @overload
    def query(self, a: type[A], /, *, without: "Sequence[Selector]" = ()) -> Query[A]: ...
    @overload
    def query(self, a: type[A], b: type[B], /, *, without: "Sequence[Selector]" = ()) -> Query[A, B]: ...
    @overload
    def query(self, a: type[A], b: type[B], c: type[C], /, *, without: "Sequence[Selector]" = ()) -> Query[A, B, C]: ...
    @overload
    def query(
        self, a: type[A], b: type[B], c: type[C], d: type[D], /, *, without: "Sequence[Selector]" = ()
    ) -> Query[A, B, C, D]: ...
    @overload
    def query(
        self, a: type[A], b: type[B], c: type[C], d: type[D], e: type[E], /, *, without: "Sequence[Selector]" = ()
    ) -> Query[A, B, C, D, E]: ...
    @overload
    def query(
        self, a: type[A], b: type[B], c: type[C], d: type[D], e: type[E], f: type[F], /,
        *, without: "Sequence[Selector]" = (),
    ) -> Query[A, B, C, D, E, F]: ...  # fmt: skip
    @overload
    def query(self, *tables: "Selector", without: "Sequence[Selector]" = ()) -> AnyQuery: ...

    def query(self, *tables: Any, without: Any = ()) -> Any:
        """The rows of entities that have all of `tables` and none of `without`, aligned:
        `body, speed = tx.query(Transform, Velocity)`, or by name `view.query("transform", "velocity")`.

        A table that not every row has is `maybe(table)`; a table with keys of its own is queried by itself, and joined
        to others over a reference. See `Query`.

        A view's columns are read-only. A transaction's may be written, and from the first one taken rows stand still
        until the commit: what is spawned, inserted or removed after that is in none of its queries.

        Raises:
            UnknownNameError, ArgumentError: no such table, none that every row has, the same one twice, or tables that
                do not share their keys.
        """
        self._begin_query()
        source: Any = self
        return query_of(source, tables, without)

    def _begin_query(self) -> None:
        """Raise where nothing can be asked any more."""
        raise NotImplementedError
