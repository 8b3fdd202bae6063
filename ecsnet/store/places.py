"""Where the row of a key is, for those who read cell by cell.

Asking the kernel costs a foreign call per cell. Once somebody has read a few dozen cells of a table from one view, an
array from entity index to row is cheaper; it is made from the table's keys and shared by all views in which the
rows stand the same.

Invariants: an index owns its memory (it pins no version); a row found in it counts only if that row's key is the very
key asked for, generation included.
"""

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import Pin

__all__ = ["INDEX_MASK", "READS_BEFORE_PLACES", "Places", "PlacesCache"]

INDEX_MASK: Final = 0xFFFF_FFFF
READS_BEFORE_PLACES: Final = 32
"""Cells read through the kernel before an index is made: below that it would not pay."""

# An index has a place for every entity up to the highest; where few of those are in the table, it would only be large.
_PLACES_PER_ROW_MAX: Final = 32
_INDICES_PER_TABLE: Final = 2


class Places:
    """One table's index. `rows[key & INDEX_MASK]` is a row, `keys[row]` its key; both are memoryviews."""

    __slots__ = ("keys", "rows")

    def __init__(self, keys: "np.ndarray[tuple[int], np.dtype[np.uint64]]"):
        indices = keys & np.uint64(INDEX_MASK)
        rows = np.zeros(int(indices.max()) + 1, np.uint32)
        rows[indices] = np.arange(len(keys), dtype=np.uint32)
        self.rows = memoryview(rows.data)
        self.keys = memoryview(keys.copy().data)


class PlacesCache:
    """The indices of one store, by table and structure."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[int, dict[int, Places]] = {}

    def of(self, pin: "Pin", table_id: int) -> Places | None:
        """The index for a table of a version; None where it would not pay."""
        sequence = pin.struct_seq(table_id)
        known = self._known.setdefault(table_id, {})
        places = known.get(sequence)
        if places is None:
            keys = pin.keys(table_id)
            if len(keys) == 0 or int((keys & np.uint64(INDEX_MASK)).max()) >= _PLACES_PER_ROW_MAX * (len(keys) + 128):
                return None
            places = Places(keys)
            if len(known) >= _INDICES_PER_TABLE:
                # The oldest. Readers on other threads get here too: a step at a time, none of which can fail.
                known.pop(min(known), None)
            known[sequence] = places
        return places
