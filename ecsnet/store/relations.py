"""Rows by what they hold: a transaction finds them in the indexes that the kernel keeps of unique fields.

Invariant: the head's own indexes are exact at any moment, also for what the transaction itself has written.
"""

from ecsnet._kernel.catalogue import pack_cell
from ecsnet._kernel.relations import find
from ecsnet.errors import ArgumentError
from ecsnet.store.lifecycle import Lifecycle
from ecsnet.store.lookup import Lookup
from ecsnet.store.typed import Path

__all__ = ["HeadLookup"]


class HeadLookup(Lifecycle, Lookup):
    """Looking up in the head."""

    __slots__ = ()

    def find(self, path: Path, value: object) -> int | None:
        """As `key`, with None where there is no such row. At once for a unique field; else it scans the column."""
        field = self._names.path(path)
        stored = field.field
        if stored is None or not stored.unique or stored.type == "string":
            return super().find(path, value)
        try:
            cell = field.cell(value)
        except ArgumentError:
            # No row can have it; the query knows whether it was a mistake to ask.
            return super().find(path, value)
        self._enter()
        return find(self._kernel, field.table.id, field.id, pack_cell(stored, cell))
