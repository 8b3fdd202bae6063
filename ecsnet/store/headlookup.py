"""A transaction finds rows by what they hold: in the indexes that the kernel keeps of unique fields and references.

Invariant: the head's indexes are exact at any moment, also for what the transaction itself has written.
"""

from ecsnet._kernel.catalogue import pack_cell
from ecsnet._kernel.relations import find
from ecsnet.errors import ArgumentError
from ecsnet.store.lifecycle import Lifecycle
from ecsnet.store.lookup import Lookup
from ecsnet.store.relations import Direction, Related, related_rows
from ecsnet.store.typed import Path

__all__ = ["HeadLookup"]


class HeadLookup(Lifecycle, Lookup):
    """Looking up in the head."""

    __slots__ = ()

    def find(self, path: Path, value: object) -> int | None:
        """As `key`, with None where there is no such row. At once for a unique field; else it scans the column."""
        field = self._names.path(path)
        stored = field.field
        if stored is None or not stored.unique or stored.type == "string" or field.table.event:
            return super().find(path, value)
        try:
            cell = field.cell(value)
        except ArgumentError:
            # No row can have it; the query knows whether it was a mistake to ask.
            return super().find(path, value)
        self._enter()
        return find(self._kernel, field.table.id, field.id, pack_cell(stored, cell))

    def related(self, key: int, /, *fields: Path, depth: int | None = 1, direction: Direction = "incoming") -> Related:
        """The rows that references lead to from a row, as this transaction sees them: see `View.related`."""
        self._enter()
        return related_rows(self._names, self._kernel, key, fields, depth, direction)
