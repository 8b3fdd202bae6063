"""The spatial index, beside numpy looking at everybody, SQLite's R*Tree and scipy's k-d tree (where installed).

The crowd of `crowd.py`: one point in each unit of area. A query's figure is the mean over some hundred centres, each at
a point that is there. The first queries of a version pay for bringing the index up to date: that is `refresh_all`
(everybody has moved) and `refresh_some` (one in a hundred has), measured apart, commit included.
"""

from collections.abc import Callable, Iterator, Sequence
from time import thread_time
from typing import Any, Final

import numpy as np

from ecsnet.bench.crowd import Crowd, make_crowd
from ecsnet.bench.figures import Figure
from ecsnet.bench.peers_space import BOX, RADIUS, K, NumpySpace, RTreeSide, ScipySide, centres_of
from ecsnet.bench.query import crowd_store
from ecsnet.bench.timing import Work, by_turns

__all__ = ["METRICS", "N_DEFAULT", "RUNS_DEFAULT", "run"]

N_DEFAULT: Final = (10_000, 100_000)
RUNS_DEFAULT: Final = 5

METRICS: Final = ("radius", "box", "nearest", "nearest_many", "refresh_all", "refresh_some")
"""Microseconds for one answer or one refresh, lower is better."""


class EcsnetSide:
    """The store; each work takes one view and asks it about all centres."""

    name = "ecsnet"

    def __init__(self, crowd: Crowd) -> None:
        self.store, self._keys = crowd_store(crowd)
        self._centres = centres_of(crowd)
        self._x, self._y = crowd.x.copy(), crowd.y.copy()
        self._few = np.array(crowd.some(max(1, crowd.n // 100)))
        self.works: dict[str, Work] = {metric: getattr(self, metric) for metric in METRICS}

    def _each(self, search: Callable[[Any, float, float], object]) -> float:
        with self.store.view() as view:
            places = view.query("place")
            # The version's index is there: bringing it up to date is measured by itself.
            search(places, *self._centres[0])
            started = thread_time()
            for x, y in self._centres:
                search(places, x, y)
            return (thread_time() - started) / len(self._centres)

    def radius(self) -> float:
        return self._each(lambda places, x, y: places.near((x, y), RADIUS).key)

    def box(self) -> float:
        half = BOX / 2
        return self._each(lambda places, x, y: places.within((x - half, y - half), (x + half, y + half)).key)

    def nearest(self) -> float:
        return self._each(lambda places, x, y: places.nearest((x, y), K).key)

    def nearest_many(self) -> float:
        """All centres in one call."""
        with self.store.view() as view:
            view.neighbours("place", self._centres[:1], k=1)
            started = thread_time()
            view.neighbours("place", self._centres, k=K)
            return (thread_time() - started) / len(self._centres)

    def _moved(self, keys: Any, rows: Any) -> float:
        """Commit that they moved, and ask once."""
        self._x[rows] += np.float32(0.25)
        started = thread_time()
        with self.store.transaction() as tx:
            tx.update_many(keys, "place", x=self._x[rows])
        with self.store.view() as view:
            view.query("place").nearest(self._centres[0], 1).key  # noqa: B018
        return thread_time() - started

    def refresh_all(self) -> float:
        return self._moved(self._keys, slice(None))

    def refresh_some(self) -> float:
        return self._moved(self._keys[self._few], self._few)


def run(
    sizes: Sequence[int] = N_DEFAULT,
    *,
    runs: int = RUNS_DEFAULT,
    note: Callable[[str], None] = lambda text: None,
    progress: Callable[[str], None] = lambda text: None,
) -> Iterator[Figure]:
    """The figures, each as soon as it is measured; arguments as those of `query.run`."""
    if not ScipySide.installed():
        note("scipy is not installed: no figures beside its k-d tree (pip install scipy)")
    for n in sizes:
        progress(f"loading, n = {n:,}")
        crowd = make_crowd(n)
        ours = EcsnetSide(crowd)
        sides: list[Any] = [ours, NumpySpace(crowd)]
        trees: list[RTreeSide] = []
        if RTreeSide.usable(n):
            trees.append(RTreeSide(crowd))
        else:
            note(f"n = {n:,}: no figures beside SQLite's R*Tree, which is missing here or takes too long to load")
        sides += trees
        if ScipySide.installed():
            sides.append(ScipySide(crowd))
        for metric in METRICS:
            progress(f"{metric}, n = {n:,}")
            taken = by_turns({side.name: side.works[metric] for side in sides if metric in side.works}, runs)
            value = taken.pop("ecsnet") / 1000
            for peer, peer_value in taken.items() or ((None, None),):
                figure = None if peer_value is None else peer_value / 1000
                yield Figure("spatial", metric, n, value, "us", "lower", peer, figure)
        ours.store.close()
        for tree in trees:
            tree.close()
