"""Who is near each of many places, in one call: what a game asks for all its players, or a tool for all its points.

A query asks for one place and can be filtered, joined and sorted; what it costs is mostly the asking. Here the kernel
goes from place to place by itself, and a place costs a microsecond or two.

Invariant: rows of place `i` are `key[ends[i - 1]:ends[i]]`, in the order of the search: by row for a radius, by
distance and then by key for the nearest.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecsnet.errors import ArgumentError
from ecsnet.store.names import TableName
from ecsnet.store.spatial import search_near, search_nearest

if TYPE_CHECKING:
    from ecsnet.store.view import View

__all__ = ["Neighbours", "neighbours"]


class Neighbours:
    """The rows near each of some places: `found[3]` are the keys of those near place 3, and iterating gives them place
    by place.

    `key` has the keys of all, u64, one place after the other; `ends` (u64) says where each place's end. Both are copies
    of the caller's own.
    """

    __slots__ = ("ends", "key")

    def __init__(self, key: NDArray[np.uint64], ends: NDArray[np.uint64]):
        self.key = key
        self.ends = ends

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, place: int) -> NDArray[np.uint64]:
        place = range(len(self.ends))[place]
        return self.key[int(self.ends[place - 1]) if place else 0 : int(self.ends[place])]

    def __iter__(self) -> Iterator[NDArray[np.uint64]]:
        return (self[place] for place in range(len(self)))

    def __repr__(self) -> str:
        return f"<{len(self.key)} neighbours of {len(self)} places>"


def neighbours(
    view: "View", table: TableName, places: ArrayLike, radius: ArrayLike | None, k: int | None
) -> Neighbours:
    """What `View.neighbours` gives."""
    if (radius is None) == (k is None):
        raise ArgumentError("neighbours(table, places, radius=...) or neighbours(table, places, k=...): one of the two")
    found = np.asarray(places, np.float64)
    if found.ndim != 2:
        raise ArgumentError(f"places: expected an array of shape (places, axes), found {found.shape}")
    search = search_nearest(table, found, k) if k is not None else search_near(table, found, radius)  # type: ignore[arg-type]
    rows, ends = view.search(search, None)
    return Neighbours(view.keys_of(table)[rows], ends)
