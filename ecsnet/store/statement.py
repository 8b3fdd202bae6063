"""Queries as text: `from transform, health where health.hp < 20 order by transform.x limit 10 select health.hp`.

    query      = "from" table ("," table)* ["without" name ("," name)*] join*
                 ["where" condition] place*
                 ["order" "by" order ("," order)*] ["limit" (number | "all")] ["offset" number]
                 ["group" "by" path ("," path)*]
                 ["select" item ("," item)* ["order" "by" order ("," order)*] ["limit" ...] ["offset" number]]
    table      = ["maybe"] name
    join       = ["left"] "join" name ["as" name] ["on" path]
    condition  = both ("or" both)*
    both       = negation ("and" negation)*
    negation   = "not" negation | "(" condition ")" | comparison
    comparison = path ("<" | "<=" | "==" | "=" | "!=" | "<>" | ">" | ">=" | "startswith") (value | path)
               | path ["not"] "in" "(" value ("," value)* ")"
               | path "between" value "and" value
               | path "is" ["not"] "null"
    place      = ("near" point "radius" value | "within" point "to" point | "nearest" number "to" point) ["of" name]
    point      = "(" value "," value ["," value] ")"
    order      = (path | name) ["asc" | "desc"]
    item       = "*" | path ["as" name] | function "(" [path] ")" ["as" name]
    function   = "count" | "sum" | "min" | "max" | "mean"
    value      = 20 | -0.5 | 1e9 | 0xff | inf | nan | true | false | null | "text" | 'text' | x"00ff"

Words of the language are written in any case, names as the schema has them; a name that is a word of the language
stands in backticks; those of places (near, radius, ...) are names everywhere else. Clauses act in the order in which
they stand: what comes before `select` chooses and sorts rows, what comes after it sorts the selected columns, by the
names that they have there. With `group by`, or where all items are functions, there is one row per group, or one.

A text becomes a `Statement`, and a statement becomes a query by the same verbs that a program calls; so text and
program mean the same, and `Query.text()` is read back.

Invariants: parsing looks no name up and evaluates nothing; every error says where in the text.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ecsnet.errors import EcsnetError, QueryError, UnknownNameError
from ecsnet.expressions import Aggregate, Comparison, Condition, Order, Path, literal, spell
from ecsnet.store.query import AnyQuery
from ecsnet.store.result import Result
from ecsnet.store.terms import maybe

if TYPE_CHECKING:
    from ecsnet.store.explain import Explanation
    from ecsnet.store.query import Source

__all__ = ["Cut", "Item", "Join", "Place", "Statement", "Word"]


@dataclass(frozen=True, slots=True)
class Word:
    """A name or path, and where it stands in the text, which is no part of what it means."""

    text: str
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Join:
    """`left join table as name on path`."""

    table: Word
    name: str | None = None
    on: Word | None = None
    left: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """`near (1.0, 2.0) radius 5.0 of name`: which verb of a query, its arguments, and the table that is meant."""

    verb: Literal["near", "within", "nearest"]
    point: tuple[object, ...]
    other: object
    of: Word | None = None
    position: int = field(default=0, compare=False)

    def asked(self, query: "AnyQuery") -> "AnyQuery":
        """The query with it."""
        of = None if self.of is None else self.of.text
        asked: AnyQuery = getattr(query, self.verb)(self.point, self.other, of=of)
        return asked

    def text(self) -> str:
        """As the language writes it."""
        of = "" if self.of is None else f" of {spell(self.of.text)}"
        match self.verb:
            case "near":
                return f"near {_point(self.point)} radius {_literal(self.other)}{of}"
            case "within":
                assert isinstance(self.other, tuple), "the other corner"
                return f"within {_point(self.point)} to {_point(self.other)}{of}"
            case "nearest":
                return f"nearest {self.other} to {_point(self.point)}{of}"


def _point(values: tuple[object, ...]) -> str:
    return f"({', '.join([_literal(value) for value in values])})"


def _literal(value: object) -> str:
    assert isinstance(value, bool | int | float | str | bytes | None), "what `value` reads"
    return literal(value)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing selected: a column, or an aggregate; `name` is what it is called."""

    what: Word | Aggregate
    name: str | None = None
    position: int = field(default=0, compare=False)

    @property
    def called(self) -> str:
        """The name in the result."""
        if self.name is not None:
            return self.name
        return self.what.text() if isinstance(self.what, Aggregate) else self.what.text


@dataclass(frozen=True, slots=True)
class Cut:
    """`order by ... limit ... offset ...`; `limit` None means all."""

    order: tuple[tuple[Word, bool], ...] = ()
    limit: int | None = None
    offset: int = 0

    @property
    def orders(self) -> list[Order]:
        """What to sort by."""
        return [Order(word.text, descending) for word, descending in self.order]


@dataclass(frozen=True, slots=True)
class Statement:
    """One query as text says it. Made by `parse`."""

    tables: tuple[tuple[Word, bool], ...]
    without: tuple[Word, ...] = ()
    joins: tuple[Join, ...] = ()
    condition: Condition | None = None
    cut: Cut = Cut()
    group: tuple[Word, ...] = ()
    items: tuple[Item, ...] = ()
    then: Cut = Cut()
    places: tuple[Place, ...] = ()
    source: str = field(default="", compare=False)
    """The text, for errors."""
    where: tuple[tuple[int, Condition], ...] = field(default=(), compare=False)
    """The parts of the condition, and where each stands."""

    def query(self, source: "Source") -> AnyQuery:
        """The rows it asks for, of a view or transaction: all of it but grouping and selecting.

        Raises:
            QueryError: a name that the schema does not have, or does not have there; a value that a column can never
                be compared with.
        """
        from ecsnet.store.query import query_of

        names = source.names
        for word in (*[word for word, _ in self.tables], *self.without):
            with self._at(word):
                names.table(word.text)
        with self._at(self.tables[0][0]):
            tables = [maybe(word.text) if optional else word.text for word, optional in self.tables]
            query = query_of(source, tables, [word.text for word in self.without])
        for join in self.joins:
            with self._at(join.table):
                names.table(join.table.text)
            with self._at(join.on or join.table):
                on = None if join.on is None else join.on.text
                query = query.join(join.table.text, on=on, left=join.left, name=join.name)
        for position, part in self.where:
            try:
                with self._at(Word("", position)):
                    query.check(part)
            except QueryError as error:
                if isinstance(part, Comparison) and _named_in(error.__cause__, part.value):
                    reason = f"{error.__cause__}; a text, or the name of an enum's value, stands in quotes"
                    raise QueryError(self.source, position, reason) from error.__cause__
                raise
        if self.condition is not None:
            query = query.where(self.condition)
        for place in self.places:
            with self._at(place.of or Word("", place.position)):
                query = place.asked(query)
        for word, _ in self.cut.order:
            with self._at(word):
                query.order_by(word.text)
        return query.order_by(*self.cut.orders).limit(self.cut.limit, self.cut.offset)

    def run(self, source: "Source") -> Result:
        """What it finds in a view or transaction, as columns of their own.

        Raises:
            QueryError: as `query`; an item that is neither grouped by nor an aggregate of a grouped query.
        """
        query = self.query(source)
        result = self._grouped(query) if self.aggregates else self._selected(query)
        for word, descending in self.then.order:
            with self._at(word):
                result.order_by(Order(word.text, descending))
        if self.then.order:
            result = result.order_by(*self.then.orders)
        return result.limit(self.then.limit, self.then.offset)

    def explain(self, source: "Source") -> "Explanation":
        """How its rows are found."""
        return self.query(source).explain()

    @property
    def aggregates(self) -> bool:
        """Whether it gives one row per group, or one in all."""
        return bool(self.group) or any(isinstance(item.what, Aggregate) for item in self.items)

    def _selected(self, query: AnyQuery) -> Result:
        chosen: dict[str, str] = {}
        for item in self.items:
            assert isinstance(item.what, Word), "aggregates are grouped"
            with self._at(item.what):
                query.check(item.what.text)
            self._demand_new(item, chosen)
            chosen[item.called] = item.what.text
        return query.select(**chosen)

    def _grouped(self, query: AnyQuery) -> Result:
        for word in self.group:
            with self._at(word):
                query.group_by(word.text)
        paths = [word.text for word in self.group]
        items = self.items or (*[Item(word) for word in self.group], Item(Aggregate("count")))
        wanted: dict[str, Aggregate] = {}
        names: dict[str, str] = {}
        for number, item in enumerate(items):
            self._demand_new(item, names)
            if isinstance(item.what, Aggregate):
                with self._at(Word("", item.position)):
                    query.check(item.what)
                # Under a name that no column has, so that none clashes.
                names[item.called] = f"\0{number}"
                wanted[f"\0{number}"] = item.what
            elif item.what.text in paths:
                names[item.called] = item.what.text
            else:
                raise QueryError(
                    self.source,
                    item.what.position,
                    f"{item.what.text} is neither grouped by nor in a function such as max({item.what.text})",
                )
        if not self.group:
            return Result.of_values(query.aggregate(**wanted)).renamed(names)
        # A group is there for its rows, whether or not anything is asked of them.
        return query.group_by(*paths).aggregate(**(wanted or {"\0": Aggregate("count")})).renamed(names)

    def _demand_new(self, item: Item, names: dict[str, str]) -> None:
        if item.called in names:
            raise QueryError(
                self.source, item.position, f"{item.called!r} is selected twice: name one, as in `as other`"
            )

    @contextmanager
    def _at(self, word: Word) -> Iterator[None]:
        """Say where in the text an error came from."""
        try:
            yield
        except QueryError:
            raise
        except EcsnetError as error:
            raise QueryError(self.source, word.position, str(error)) from error

    def text(self) -> str:
        """As the language writes it."""
        clauses = ["from " + ", ".join([("maybe " if optional else "") + spell(w.text) for w, optional in self.tables])]
        if self.without:
            clauses.append("without " + _listed(self.without))
        for join in self.joins:
            named = "" if join.name is None else f" as {spell(join.name)}"
            on = "" if join.on is None else f" on {spell(join.on.text)}"
            clauses.append(f"{'left ' if join.left else ''}join {spell(join.table.text)}{named}{on}")
        if self.condition is not None:
            clauses.append(f"where {self.condition.text()}")
        clauses += [place.text() for place in self.places]
        clauses += _cut_text(self.cut)
        if self.group:
            clauses.append("group by " + _listed(self.group))
        if self.items:
            clauses.append("select " + ", ".join([_item_text(item) for item in self.items]))
        elif not self.group and self.then != Cut():
            clauses.append("select *")
        return " ".join(clauses + _cut_text(self.then))


def _named_in(error: BaseException | None, operand: object) -> bool:
    """Whether the name that is unknown is the whole operand of a comparison."""
    return isinstance(error, UnknownNameError) and isinstance(operand, Path) and operand.path == error.name


def _listed(words: tuple[Word, ...]) -> str:
    return ", ".join([spell(word.text) for word in words])


def _item_text(item: Item) -> str:
    what = item.what.text() if isinstance(item.what, Aggregate) else spell(item.what.text)
    return what if item.name is None else f"{what} as {spell(item.name)}"


def _cut_text(cut: Cut) -> list[str]:
    clauses = []
    if cut.order:
        clauses.append("order by " + ", ".join([order.text() for order in cut.orders]))
    if cut.limit is not None:
        clauses.append(f"limit {cut.limit}")
    if cut.offset:
        clauses.append(f"offset {cut.offset}")
    return clauses
