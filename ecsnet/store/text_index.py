"""The rows of a column of strings by the text they have, for lookups in views.

An index has the hashes of a column's texts in ascending order; what has the hash of a text is compared with it. It is
made for the contents of one column in one version, shared by all views in which the column has these contents, and only
after so many scans that it pays: a scan compares references, and costs a fraction of hashing and sorting.

Invariant: an index owns its memory; it pins no version.
"""

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ecsnet._kernel.rows import column_cuts
from ecsnet.store.fields import FieldName
from ecsnet.store.indexes import Index

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import Pin

__all__ = ["TextIndexes"]

_SCANS_BEFORE_INDEX: Final = 16
_INDICES_PER_COLUMN: Final = 2

Contents = tuple[int, int]


class TextIndexes:
    """The indices of one store's views."""

    __slots__ = ("_asked", "_known")

    def __init__(self) -> None:
        self._known: dict[FieldName, dict[Contents, Index]] = {}
        self._asked: dict[FieldName, tuple[Contents, int]] = {}

    def rows(self, pin: "Pin", field: FieldName, wanted: list[str]) -> NDArray[np.intp] | None:
        """The rows that have one of the texts, ascending; None where an index does not pay yet."""
        texts = pin.texts(field.table.id, field.id)
        contents = column_cuts(pin, field.table.id)[field.table.stored.index(field)], len(texts)
        index = self._known.get(field, {}).get(contents)
        if index is None:
            before, scans = self._asked.get(field, (contents, 0))
            scans = scans + 1 if before == contents else 1
            self._asked[field] = contents, scans
            if scans <= _SCANS_BEFORE_INDEX:
                return None
            index = Index(texts.hashes())
            known = self._known.setdefault(field, {})
            if len(known) >= _INDICES_PER_COLUMN:
                # The oldest. Readers on other threads get here too: a step at a time, none of which can fail.
                known.pop(min(known), None)
            known[contents] = index
        found = [index.equal(value) for value in texts.hashes_of(wanted)]
        rows = np.unique(np.concatenate(found)) if found else np.empty(0, np.intp)
        return rows[texts.take(rows).ask("in", wanted)] if len(rows) else rows
