"""Finding the rows of a query.

    an index, or a place, or the join of the tables on their keys
      └─► maybe tables ─► joins over references ─► other places ─► nearest ─► order ─► limit
    each part of the condition is asked as soon as its tables are there

so that what comes later has fewer rows to look at. A part that asks a unique field or a reference for a value goes
first, by an index, where the source has one.

Invariants: everything is done over whole columns; what was done, and over how many rows, is noted as it is done, so
`explain` tells no story of its own.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecsnet.expressions import Both, Comparison, Condition, Membership, Path
from ecsnet.store.conditions import evaluate, lookup_values
from ecsnet.store.explain import Step
from ecsnet.store.fields import FieldName
from ecsnet.store.indexes import flat, indexable
from ecsnet.store.ordering import sort_key, sorted_rows, values_of
from ecsnet.store.placing import choose
from ecsnet.store.selection import Beside, Selection, as_row_set
from ecsnet.store.strings import checked_texts
from ecsnet.store.terms import Term, Terms

if TYPE_CHECKING:
    from ecsnet.store.query import Source

__all__ = ["NO_ROW", "Resolver"]

NO_ROW = np.uint32(0xFFFF_FFFF)
"""What `Source.rows_of` gives in place of a row's number."""


class Resolver:
    """One resolution of one query. `steps` says what was done, where that is `told`."""

    def __init__(self, source: "Source", terms: Terms, *, told: bool = False):
        self._source = source
        self._terms = terms
        # Where each term is in the selection that is being made; it is put into the terms' order in the end.
        self._places: dict[int, int] = {}
        condition = terms.condition
        self._open = [] if condition is None else list(condition.parts if isinstance(condition, Both) else [condition])
        self._told = told
        self._to_place = list(terms.places)
        self.steps: list[Step] = []

    def run(self) -> Selection:
        """Find the rows."""
        terms = self._terms
        base = [position for position, term in enumerate(terms.tables) if term.how == "with"]
        self._places = {position: place for place, position in enumerate(base)}
        selection = self._by_index(base) or self._by_place(base)
        if selection is None:
            selection = self._source.join(tuple([terms.tables[p].table for p in base]), terms.without)
            if self._told:
                named = ", ".join([terms.tables[p].name for p in base])
                how = "scan" if len(base) == 1 and not terms.without else "join on keys"
                self._note(how, named + self._without_text(), None, selection.count)
        selection = self._narrow(selection)
        for position, term in enumerate(terms.tables):
            if term.how == "maybe":
                selection = self._maybe(selection, position, term)
                selection = self._narrow(selection)
        for position, term in enumerate(terms.tables):
            if term.how == "join":
                selection = self._join(selection, position, term)
                selection = self._narrow(selection)
        assert not self._open, "a condition reads only tables of its query"
        selection = selection.in_order([self._places[position] for position in range(len(terms.tables))])
        self._places = {position: position for position in range(len(terms.tables))}
        return self._cut(self._place(selection))

    # --- the tables --------------------------------------------------------------------------------------------------

    def _by_index(self, base: list[int]) -> Selection | None:
        """Begin with the rows that an index gives for one part of the condition."""
        for part in self._open:
            if isinstance(part, Comparison):
                if part.operator != "==" or isinstance(part.value, Path):
                    continue
                asked: tuple[Any, ...] = (part.value,)
            elif isinstance(part, Membership):
                asked = part.values
            else:
                continue
            position, field = self._locate(part.path)
            if self._terms.tables[position].how != "with":
                continue
            rows = self._rows_with(field, asked)
            if rows is not None:
                self._open.remove(part)
                if self._told:
                    self._note("index", f"{part.text()}, by the index of {field.path}", None, len(rows))
                return self._start_from(base, position, rows)
        return None

    def _rows_with(self, field: FieldName, asked: tuple[Any, ...]) -> NDArray[np.intp] | None:
        """The rows that have one of the values, ascending; None where there is no index to ask."""
        if field.kind == "key":
            keys = np.unique(np.array(lookup_values(field, asked), np.uint64))
            rows = self._source.rows_of(field.table, keys)
            return np.sort(rows[rows != NO_ROW].astype(np.intp))
        declared = field.field
        if field.string and declared is not None and (declared.unique or declared.foreign_key is not None):
            return self._source.rows_with(field, checked_texts(field, asked))
        if not indexable(field):
            return None
        values = lookup_values(field, asked)
        index = self._source.index_of(field, must=False)
        if index is None:
            return None
        found = [index.equal(field.dtype.type(value)) for value in set(values)]
        if len(found) == 1:
            return found[0]
        return np.sort(np.concatenate(found)) if found else np.empty(0, np.intp)

    def _by_place(self, base: list[int]) -> Selection | None:
        """Begin with the rows that lie where the query asks."""
        for placed in self._to_place:
            if placed.last or placed.term not in base:
                continue
            self._to_place.remove(placed)
            rows, _ = self._source.search(placed.search, None)
            if self._told:
                action, how = placed.told(self._source)
                self._note(action, how, None, len(rows))
            return self._start_from(base, placed.term, rows)
        return None

    def _place(self, selection: Selection) -> Selection:
        """Ask for the places that it did not begin with; the nearest last, of what is left."""
        for placed in sorted(self._to_place, key=lambda placed: placed.last):
            chosen = choose(self._source, selection, self._places[placed.term], placed.search)
            if self._told:
                _, how = placed.told(self._source)
                self._note("nearest" if placed.last else "place", how, selection.count, len(chosen))
            selection = selection.take(chosen)
        self._to_place.clear()
        return selection

    def _start_from(self, base: list[int], position: int, rows: NDArray[np.intp]) -> Selection:
        """The rows of one table, and those of the others with the same keys."""
        terms, source = self._terms, self._source
        whole = source.join((terms.tables[position].table,), ())
        keys = whole.keys[rows]
        found: dict[int, NDArray[Any]] = {position: rows}
        if len(base) > 1 or terms.without:
            kept = np.ones(len(keys), np.bool_)
            for other in base:
                if other != position:
                    found[other] = source.rows_of(terms.tables[other].table, keys)
                    kept &= found[other] != NO_ROW
            for table in terms.without:
                kept &= source.rows_of(table, keys) == NO_ROW
            if not kept.all():
                keys = keys[kept]
                found = {place: numbers[kept] for place, numbers in found.items()}
            if self._told:
                named = ", ".join([terms.tables[p].name for p in base if p != position])
                self._note("look up keys", named + self._without_text(), len(rows), len(keys))
        keys.flags.writeable = False
        tables = tuple([terms.tables[p].table for p in base])
        # Not slices, even of one row: a transaction would lend the whole column for it.
        return Selection(tables, tuple([found[p].astype(np.intp) for p in base]), keys, whole.structure)

    def _maybe(self, selection: Selection, position: int, term: Term) -> Selection:
        rows = self._source.rows_of(term.table, selection.keys)
        present = rows != NO_ROW
        self._places[position] = len(selection.tables)
        if self._told:
            self._note("look up keys", f"maybe {term.name}", selection.count, int(np.count_nonzero(present)))
        if present.all():
            few = not isinstance(selection.rows[0], slice)
            row_set = rows.astype(np.intp) if few else as_row_set(rows)
            return selection.adding(term.table, row_set, Beside(selection.keys, None, False))
        keys = np.where(present, selection.keys, np.uint64(0))
        return selection.adding(term.table, rows.astype(np.intp), Beside(keys, _fixed(present), False))

    def _join(self, selection: Selection, position: int, term: Term) -> Selection:
        assert term.on is not None
        before = selection.count
        joined = self._join_back(selection, term) if term.reverse else self._join_on(selection, term)
        self._places[position] = len(joined.tables) - 1
        if self._told:
            self._note("left join" if term.left else "join", f"{term.name} on {term.path}", before, joined.count)
        return joined

    def _join_on(self, selection: Selection, term: Term) -> Selection:
        """Each row with the one that its reference leads to."""
        assert term.on is not None
        values = flat(term.on, self._source.read(selection, self._places[term.source], term.on))
        rows, present = self._targets(term, values)
        # A reference to nothing is zero bytes, which is nobody's key.
        here = selection.present(self._places[term.source])
        if here is not None:
            present &= here
        if not term.left and not present.all():
            chosen = np.flatnonzero(present)
            selection, rows = selection.take(chosen), rows[chosen]
            present = np.ones(len(chosen), np.bool_)
        return self._with_rows(selection, term, rows, present)

    def _targets(self, term: Term, values: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """The rows of the term's table that references of these values lead to, and whether there is one."""
        if not term.table.keyed:
            rows = self._source.rows_of(term.table, values)
            return rows.astype(np.intp), rows != NO_ROW
        index = self._source.index_of(self._primary(term), must=True)
        assert index is not None, "it was demanded"
        return index.only(values)

    def _join_back(self, selection: Selection, term: Term) -> Selection:
        """Each row with all that refer to it."""
        assert term.on is not None
        place = self._places[term.source]
        source = self._terms.tables[term.source]
        if source.table.keyed:
            values = flat(self._primary(source), self._source.read(selection, place, self._primary(source)))
        else:
            values = selection.keys_of(place)
        index = self._source.index_of(term.on, must=True)
        assert index is not None, "it was demanded"
        first, counts = index.ranges(values)
        here = selection.present(place)
        if here is not None:
            counts[~here] = 0
        each = np.maximum(counts, 1) if term.left else counts
        chosen = np.repeat(np.arange(selection.count), each)
        # Row n of those that belong to one row of ours: its place among all of ours, less where they began.
        nth = np.arange(len(chosen)) - np.repeat(np.cumsum(each) - each, each)
        present = counts[chosen] > 0
        rows = np.zeros(len(chosen), np.intp)
        rows[present] = index.rows_at(first[chosen][present] + nth[present])
        wider = selection.take(chosen, repeated=bool((each > 1).any()))
        return self._with_rows(wider, term, rows, present)

    def _with_rows(
        self, selection: Selection, term: Term, rows: NDArray[np.intp], present: NDArray[np.bool_]
    ) -> Selection:
        whole = self._source.join((term.table,), ())
        keys = np.zeros(len(rows), np.uint64)
        keys[present] = whole.keys[rows[present]]
        if present.all():
            return selection.adding(term.table, as_row_set(rows), Beside(_fixed(keys), None, True))
        return selection.adding(term.table, rows, Beside(_fixed(keys), _fixed(present), True))

    def _primary(self, term: Term) -> FieldName:
        name = term.table.table.primary_key
        assert name is not None, "a keyed table has one"
        return term.table.fields[name]

    # --- the rows ----------------------------------------------------------------------------------------------------

    def _narrow(self, selection: Selection) -> Selection:
        """Ask the parts of the condition whose tables are there."""
        for part in list(self._open):
            if not all(self._locate(path)[0] in self._places for path in part.paths()):
                continue
            self._open.remove(part)
            before, mask = selection.count, self._ask(selection, part)
            if not mask.all():
                selection = selection.take(np.flatnonzero(mask))
            if self._told:
                self._note("filter", part.text(), before, selection.count)
        return selection

    def _ask(self, selection: Selection, part: Condition) -> NDArray[np.bool_]:
        def fetch(path: str) -> tuple[FieldName, Any]:
            position, field = self._locate(path)
            place = self._places[position]
            everywhere = selection.present(place) is None
            read = self._source.texts if field.string and everywhere else self._source.read
            return field, read(selection, place, field)

        return evaluate(part, fetch)

    def _cut(self, selection: Selection) -> Selection:
        """Sort, and count off."""
        terms = self._terms
        stop = None if terms.limit is None else terms.offset + terms.limit
        if terms.order:
            keys = []
            for order in terms.order:
                position, field = self._locate(order.path)
                cells = values_of(field, self._source.read(selection, position, field))
                keys.append(sort_key(field.path, cells, order.descending))
            chosen = sorted_rows(keys, stop)[terms.offset : stop]
            if self._told:
                named = ", ".join([order.text() for order in terms.order])
                self._note("sort", named, selection.count, len(chosen))
            return selection.take(chosen)
        if stop is not None or terms.offset:
            before = selection.count
            selection = selection.take(slice(terms.offset, before if stop is None else stop))
            if self._told:
                self._note("limit", f"{terms.limit} from {terms.offset}", before, selection.count)
        return selection

    # --- inside ------------------------------------------------------------------------------------------------------

    def _locate(self, path: str) -> tuple[int, FieldName]:
        return self._terms.locate(self._source.names, path)

    def _without_text(self) -> str:
        return f" without {', '.join([table.name for table in self._terms.without])}" if self._terms.without else ""

    def _note(self, action: str, what: str, considered: int | None, found: int) -> None:
        self.steps.append(Step(action, what, found if considered is None else considered, found))


def _fixed(cells: NDArray[Any]) -> NDArray[Any]:
    cells.flags.writeable = False
    return cells
