"""Rows of one table in one version, copied out of a view, to be compared with those of another.

Invariant: keys ascend, and cells are in their order.
"""

from collections.abc import Set
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecsnet.schema import Table
from ecsnet.store import View

__all__ = ["Keys", "Rows", "copied", "equal_cells", "names", "ordered", "unequal"]

Keys = NDArray[np.uint64]


class Rows(NamedTuple):
    """See the file."""

    keys: Keys
    cells: dict[str, NDArray[Any]]

    def at(self, keys: Keys) -> NDArray[np.intp]:
        """Where these are, all of which are here."""
        return np.searchsorted(self.keys, keys)

    def has(self, keys: Keys) -> NDArray[np.bool_]:
        """Which of these are here."""
        if np.array_equal(keys, self.keys):
            return np.ones(len(keys), np.bool_)
        if not len(self.keys):
            return np.zeros(len(keys), np.bool_)
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.asarray(self.keys[places] == keys)


def copied(view: View, table: Table) -> tuple[Keys, dict[str, NDArray[Any]]]:
    """A table of a view, in the view's own order."""
    of_view = view[table.name]
    return np.array(of_view.key), {field.name: np.array(of_view[field.name]) for field in table}


def ordered(keys: Keys, cells: dict[str, NDArray[Any]]) -> Rows:
    """The rows in the order of their keys."""
    order = np.argsort(keys, kind="stable")
    return Rows(keys[order], {name: column[order] for name, column in cells.items()})


def equal_cells(ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether cells are equal, row by row. Whether a zero has a sign is the digest's matter."""
    if ours.dtype.kind == "f":
        equal = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    else:
        equal = ours == theirs
    return np.asarray(np.asarray(equal).reshape(len(ours), -1).all(axis=1)) if len(ours) else np.zeros(0, np.bool_)


def unequal(one: Rows, at: NDArray[np.intp], other: Rows, there: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Whether rows of one differ from those of the other in any cell that both have."""
    differ = np.zeros(len(at), np.bool_)
    for name in one.cells.keys() & other.cells.keys():
        differ |= ~equal_cells(one.cells[name][at], other.cells[name][there])
    return differ


def names(keys: "Keys | Set[int]") -> str:
    """How many, and the first of them."""
    some = sorted(map(int, keys))[:3]
    shown = ", ".join(f"{key:#x}" for key in some)
    return f"{len(keys)} ({shown}{', …' if len(keys) > 3 else ''})"
