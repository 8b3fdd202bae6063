"""Places in a query: which of its rows lie where it asks, by the spatial index of one of its tables.

Within a distance or a box narrows the rows, wherever it stands; so a query may begin with it. Nearest is asked last,
of the rows that are left, and sorts them: `k` rows of the table, the nearest first.

Invariants: a place is of one table of the query and asks for one place; where a table has no row in a row of the
query, that lies nowhere.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecsnet._kernel.spatial import Kind
from ecsnet.errors import ArgumentError
from ecsnet.expressions import spell
from ecsnet.store.selection import Selection
from ecsnet.store.spatial import Search, search_near, search_nearest, search_within

if TYPE_CHECKING:
    from ecsnet.store.names import Names, TableName
    from ecsnet.store.query import Source
    from ecsnet.store.terms import Terms

__all__ = ["Placed", "choose", "near", "nearest", "within"]


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """One search of a query, in the table of the term at `term`; `of` is that term's name where it must be said."""

    term: int
    search: Search
    of: str | None

    @property
    def last(self) -> bool:
        """Whether it depends on which rows are left."""
        return self.search.kind is Kind.NEAREST

    def told(self, source: "Source") -> tuple[str, str]:
        """What is done to find its rows now, for `explain`."""
        axes = self.search.axes
        if source.search_indexed(axes):
            return "index", f"{self.text()}, by the spatial index of {axes.table.name}"
        fields = " and ".join([field.name for field in axes.fields])
        return "scan", f"{self.text()}, by every row of {axes.table.name} (its {fields} are lent)"

    def text(self) -> str:
        """As the language of queries writes it."""
        return f"{self.search}{'' if self.of is None else f' of {spell(self.of)}'}"


def near(names: "Names", terms: "Terms", centre: ArrayLike, radius: float, of: object) -> Placed:
    """Rows within a distance. Raises ArgumentError, UnknownNameError."""
    term, named = _term(names, terms, of)
    return _one(term, search_near(terms.tables[term].table, centre, radius), named)


def within(names: "Names", terms: "Terms", low: ArrayLike, high: ArrayLike, of: object) -> Placed:
    """Rows within a box. Raises ArgumentError, UnknownNameError."""
    term, named = _term(names, terms, of)
    return _one(term, search_within(terms.tables[term].table, low, high), named)


def nearest(names: "Names", terms: "Terms", centre: ArrayLike, k: int, of: object) -> Placed:
    """The nearest rows. Raises ArgumentError, UnknownNameError."""
    term, named = _term(names, terms, of)
    return _one(term, search_nearest(terms.tables[term].table, centre, k), named)


def _one(term: int, search: Search, named: str | None) -> Placed:
    if not search.single:
        raise ArgumentError("a query asks for one place: expected a number for each axis")
    return Placed(term, search, named)


def _term(names: "Names", terms: "Terms", of: object) -> tuple[int, str | None]:
    """The term whose rows' places are meant, and its name where there are several terms."""
    if of is None:
        found = [position for position, term in enumerate(terms.tables) if _has_place(term.table)]
        if len(found) > 1:
            known = ", ".join([repr(terms.tables[position].name) for position in found])
            raise ArgumentError(f"rows of several tables lie somewhere: say which are meant, of=... one of {known}")
        # Of a table without a place the search itself says what to declare.
        position = found[0] if found else 0
    else:
        called = [term.name for term in terms.tables]
        name = of if isinstance(of, str) and of in called else names.table(of).name
        if name not in called:
            raise ArgumentError(f"of={name!r} is not in the query, which has {', '.join(called)}")
        position = called.index(name)
    return position, terms.tables[position].name if len(terms.tables) > 1 else None


def _has_place(table: "TableName") -> bool:
    return table.table.spatial is not None


def choose(source: "Source", selection: Selection, place: int, search: Search) -> NDArray[np.intp]:
    """Which rows of a selection lie where `search` asks, of the table at `place`: in their order, or the nearest
    first."""
    table = selection.tables[place]
    rows, present = selection.rows[place], selection.present(place)
    size = len(source.join((table,), ()).keys)
    if isinstance(rows, slice) and present is None:
        # They stand for themselves: what is found is where it is, counted from the first of them.
        if search.kind is not Kind.NEAREST:
            found, _ = source.search(search, None)
            chosen: NDArray[np.intp] = found[(found >= rows.start) & (found < rows.stop)] - rows.start
            return chosen
        allowed = None
        if rows.start > 0 or rows.stop < size:
            allowed = np.zeros(size, np.bool_)
            allowed[rows] = True
        chosen = source.search(search, allowed)[0] - rows.start
        return chosen
    here: NDArray[Any] = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
    if present is not None:
        # Where there is no row its number means nothing.
        here = np.where(present, here, 0)
    allowed = None
    if search.kind is Kind.NEAREST:
        allowed = np.zeros(size, np.bool_)
        allowed[here if present is None else here[present]] = True
    found, _ = source.search(search, allowed)
    # By row: where among those found it comes, or behind them all.
    rank = np.full(max(size, 1), len(found), np.intp)
    rank[found] = np.arange(len(found))
    ranks = rank[here]
    if present is not None:
        ranks[~present] = len(found)
    chosen = np.flatnonzero(ranks < len(found))
    if search.kind is Kind.NEAREST:
        chosen = chosen[np.argsort(ranks[chosen], kind="stable")]
    return chosen
