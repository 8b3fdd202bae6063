"""The digest of a version computed a second way: in numpy, from what a view reads, as `kernel/zig/digest.zig` says it.

Node and players have one kernel. If its digest did not look at a column, all of them would agree on it, and no checker
that compares digests would ever see what is wrong in there.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecsnet.schema import Schema
from ecsnet.store import View

Words = NDArray[np.uint64]

_STEP = np.uint64(0x9E37_79B9_7F4A_7C15)
_HIGH = np.uint64(0xD6E8_FEB8_6659_FD93)
_ROW = 0xFFFF
"""The field id that a row itself counts under."""


def digest(view: View, schema: Schema) -> str:
    """32 hex digits, as `View.digest`."""
    low = high = np.uint64(0)
    with np.errstate(over="ignore"):
        for table in schema.tables:
            if not table.replicated or table.kind == "event":
                continue
            of_view = view[table.name]
            columns = [(_ROW, None), *((field.id, of_view[field.name]) for field in table.fields)]
            for number, column in columns:
                h = _mix(_mix(np.array([(table.id << 16 | number) + 1], np.uint64)) ^ of_view.key)
                if column is not None and len(column):
                    for word in _words(column).T:
                        h = _mix(h + word + _STEP)
                low += h.sum(dtype=np.uint64)
                high += _mix(h ^ _HIGH).sum(dtype=np.uint64)
    return (int(low).to_bytes(8, "little") + int(high).to_bytes(8, "little")).hex()


def _mix(h: Words) -> Words:
    """The finalizer of MurmurHash3."""
    h = h ^ (h >> np.uint64(33))
    h = h * np.uint64(0xFF51_AFD7_ED55_8CCD)
    h = h ^ (h >> np.uint64(33))
    h = h * np.uint64(0xC4CE_B9FE_1A85_EC53)
    return h ^ (h >> np.uint64(33))


def _words(column: NDArray[Any]) -> Words:
    """Cells as whole words, filled up with zeros."""
    cells = np.ascontiguousarray(column).view(np.uint8).reshape(len(column), -1)
    padded = np.zeros((len(cells), -(-cells.shape[1] // 8) * 8), np.uint8)
    padded[:, : cells.shape[1]] = cells
    return padded.view(np.uint64)
