"""What a query asks for, as data: its tables, how each comes in, which rows, in which order, how many.

    query(A, maybe(B), without=[C])     tables of one key space, and the ones that must not be there
    .join(D, on=A.ref)                  rows that a reference leads to, or that refer to a row
    .where(...) .near(...) .within(...) .nearest(...) .order_by(...) .limit(n, offset)

The clauses mean the same in whatever order they are called: tables are joined, rows chosen, then sorted, then counted
off.

Invariants: terms are never changed; term i is table i of the selection; every name in a query was looked up when it was
written, so that a wrong one is reported there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, overload

from ecsnet.errors import ArgumentError, UnknownNameError
from ecsnet.expressions import Condition, Order, spell
from ecsnet.store.fields import FieldName
from ecsnet.store.names import Names, TableName

if TYPE_CHECKING:
    from ecsnet.schema.python import Row
    from ecsnet.store.placing import Placed

__all__ = ["Maybe", "Term", "Terms", "join_term", "maybe", "terms_of"]


_REMEMBERED: Final = 256
"""Combinations of tables: more than a game's own code asks for, few enough for memory not to matter."""


class Maybe:
    """A table that not every row of a query has. Made by `maybe`."""

    __slots__ = ("table",)

    def __init__(self, table: Any):
        self.table = table

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Maybe) and other.table == self.table

    def __hash__(self) -> int:
        return hash((Maybe, self.table))

    def __repr__(self) -> str:
        return f"maybe({self.table!r})"


Table = TypeVar("Table", bound="Row")


@overload
def maybe(table: type[Table], /) -> type[Table]: ...
@overload
def maybe(table: str, /) -> str: ...
def maybe(table: Any, /) -> Any:
    """A table of a query that not every row has: `body, shield = view.query("transform", maybe("shield"))`.

    `shield.present` is a bool per row. Where it is False the cells are the field's default, or zero where it has none;
    in a transaction writing to them is an error at the commit.
    """
    return Maybe(table)


@dataclass(frozen=True, slots=True)
class Term:
    """One table of a query.

    `name` is what paths call it: the table's own, unless a join gave another. `how` says how it comes in: "with" (every
    row has it), "maybe", or "join" over the reference `on` (`path` in this query): from the term at `source` to this
    table, or from this table to that term where it is `reverse`; `left` keeps rows for which there is none.
    """

    table: TableName
    name: str
    how: Literal["with", "maybe", "join"] = "with"
    on: FieldName | None = None
    path: str = ""
    source: int = 0
    reverse: bool = False
    left: bool = False

    def text(self) -> str:
        """As the language of queries writes it."""
        if self.how != "join":
            return f"maybe {spell(self.name)}" if self.how == "maybe" else spell(self.name)
        assert self.on is not None
        named = "" if self.name == self.table.name else f" as {spell(self.name)}"
        return f"{'left ' if self.left else ''}join {spell(self.table.name)}{named} on {spell(self.path)}"


@dataclass(frozen=True, slots=True)
class Terms:
    """All that a query asks for. See the module."""

    tables: tuple[Term, ...]
    without: tuple[TableName, ...] = ()
    condition: Condition | None = None
    order: tuple[Order, ...] = ()
    limit: int | None = None
    offset: int = 0
    places: "tuple[Placed, ...]" = ()

    @property
    def plain(self) -> bool:
        """Whether it is nothing but a join of tables on their keys, as most queries of a game's systems are."""
        return (
            self.condition is None
            and not self.places
            and not self.order
            and self.limit is None
            and not self.offset
            and all(term.how == "with" for term in self.tables)
        )

    def locate(self, names: Names, path: str) -> tuple[int, FieldName]:
        """The term that a path names, and the field.

        Raises:
            UnknownNameError: there is no such field. ArgumentError: it is of a table that is not in the query.
        """
        first, dot, rest = path.partition(".")
        if dot:
            for position, term in enumerate(self.tables):
                if term.name == first:
                    return position, term.table.field(rest)
        if len(self.tables) == 1 and (not dot or first not in names.tables):
            return 0, self.tables[0].table.field(path)
        if not dot:
            known = [f"{term.name}.{name}" for term in self.tables for name in term.table.fields]
            raise UnknownNameError("field", path, known)
        field = names.path(path)
        raise ArgumentError(
            f"{path} is asked for, and the query has only {', '.join([term.name for term in self.tables])}: "
            f"add {field.table.name!r} to the query"
        )

    def text(self) -> str:
        """As the language of queries writes it."""
        clauses = ["from " + ", ".join([term.text() for term in self.tables if term.how != "join"])]
        if self.without:
            clauses.append("without " + ", ".join([spell(table.name) for table in self.without]))
        clauses += [term.text() for term in self.tables if term.how == "join"]
        if self.condition is not None:
            clauses.append(f"where {self.condition.text()}")
        clauses += [place.text() for place in self.places]
        if self.order:
            clauses.append("order by " + ", ".join([order.text() for order in self.order]))
        if self.limit is not None or self.offset:
            clauses.append(f"limit {'all' if self.limit is None else self.limit}")
            if self.offset:
                clauses.append(f"offset {self.offset}")
        return " ".join(clauses)


def terms_of(names: Names, tables: Sequence[Any], without: Sequence[Any]) -> Terms:
    """Check the names of a query.

    Raises:
        UnknownNameError, ArgumentError: no such table, none that every row has, the same one twice, or tables that do
            not share their keys.
    """
    asked = (tables, tuple(without)) if isinstance(without, list | tuple) and type(tables) is tuple else None
    try:
        known = names.terms.get(asked)
    except (TypeError, ValueError):
        # A table that is no name; said below.
        known = asked = None
    if known is not None:
        return known
    terms = _terms_of(names, tables, without)
    if asked is not None:
        if len(names.terms) >= _REMEMBERED:
            names.terms.clear()
        names.terms[asked] = terms
    return terms


def _terms_of(names: Names, tables: Sequence[Any], without: Sequence[Any]) -> Terms:
    if isinstance(without, str | type) or not isinstance(without, Sequence):
        raise ArgumentError(f"without takes a list of tables: without=[{without!r}]")
    terms = []
    for given in tables:
        inner = given.table if isinstance(given, Maybe) else given
        table = names.table(inner)
        terms.append(Term(table, table.name, "maybe" if isinstance(given, Maybe) else "with"))
    if all(term.how == "maybe" for term in terms):
        raise ArgumentError("a query names at least one table that every row has")
    unwanted = tuple([names.table(table) for table in without])
    named = [term.name for term in terms] + [table.name for table in unwanted]
    if len(set(named)) < len(named):
        raise ArgumentError(f"the same table twice in one query: {', '.join(named)}")
    spaces = {term.table.key_space for term in terms} | {table.key_space for table in unwanted}
    if len(spaces) > 1:
        raise ArgumentError(
            f"tables with different keys ({', '.join(sorted(spaces))}) do not share rows: join one to the other over a "
            f"reference, as in query('item').join('transform', on='item.holder')"
        )
    return Terms(tuple(terms), unwanted)


def join_term(names: Names, terms: Terms, table: TableName, path: str | None, left: bool, name: str | None) -> Term:
    """Which reference joins `table` to the tables so far.

    Raises:
        UnknownNameError: no such field. ArgumentError: no reference, or none between these tables; several, of which
            none was named; a name that is taken.
    """
    called = table.name if name is None else name
    if not isinstance(called, str) or not called.isidentifier():
        raise ArgumentError(f"a joined table's name is a word, found {name!r}")
    if called in {term.name for term in terms.tables}:
        raise ArgumentError(f"{called!r} is in the query already: give the second one a name of its own, name='other'")
    if called != table.name and called in names.tables:
        raise ArgumentError(f"{called!r} is another table's name")
    ways = _ways(terms, table, called)
    if path is None:
        if len(ways) != 1:
            if ways:
                raise ArgumentError(f"which reference joins {table.name}? Say on=...; there are {', '.join(ways)}")
            tables = ", ".join([term.name for term in terms.tables])
            beside = "; components of one entity stand side by side, without join" if table.component else ""
            raise ArgumentError(f"a join of {table.name} to {tables} needs a reference, and there is none{beside}")
        path = next(iter(ways))
    elif path not in ways and path.startswith(f"{table.name}."):
        # The table's own name for it will do, unless that names a table of the query.
        path = called + path[len(table.name) :]
    if path not in ways:
        field = names.path(path)
        target = _target(field)
        if target is None:
            raise ArgumentError(f"{path} is no reference: on= names a field with a foreign key")
        raise ArgumentError(
            f"{path} refers to {target}: it does not join {table.name} to "
            f"{', '.join([term.name for term in terms.tables])}"
        )
    source, reverse, field = ways[path]
    return Term(table, called, "join", field, path, source, reverse, left)


def _ways(terms: Terms, table: TableName, called: str) -> dict[str, tuple[int, bool, FieldName]]:
    """Every reference between the query and `table`, by its path in the query: which term is at its other end, and
    whether it is `table` that refers."""
    found: dict[str, tuple[int, bool, FieldName]] = {}
    for position, term in enumerate(terms.tables):
        for field in term.table.stored:
            if _target(field) == table.key_space:
                found[f"{term.name}.{field.name}"] = position, False, field
    for field in table.stored:
        for position, term in enumerate(terms.tables):
            if _target(field) == term.table.key_space:
                # The first will do: components of one entity share its key.
                found[f"{called}.{field.name}"] = position, True, field
                break
    return found


def _target(field: FieldName) -> str | None:
    """The key space that a reference leads to."""
    declared = field.field
    return None if declared is None or declared.foreign_key is None else declared.foreign_key.table
