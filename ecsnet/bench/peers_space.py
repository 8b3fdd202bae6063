"""Peers of the spatial index: numpy looking at everybody, SQLite's R*Tree, and scipy's k-d tree where it is installed.

What they answer is what ecsnet answers: the numbers of all points within a radius, in a box, and of the k nearest with
the nearest first. `refresh` is the work after everybody has moved a little, as in each tick of a game.
"""

import sqlite3
from importlib import import_module
from importlib.util import find_spec
from time import thread_time
from typing import Any, Final

import numpy as np

from ecsnet.bench.crowd import Crowd
from ecsnet.bench.timing import Work

__all__ = ["BOX", "CENTRES", "RADIUS", "K", "NumpySpace", "RTreeSide", "ScipySide", "centres_of"]

CENTRES: Final = 200
RADIUS: Final = 4.0
"""About 50 points of a crowd with one in each unit of area."""
BOX: Final = 7.0
"""The side of the box: about 50 points, too."""
K: Final = 10
_BRUTE_CENTRES: Final = 10
_RTREE_ROWS_MAX: Final = 200_000
"""Loading more takes SQLite longer than anybody waits for a benchmark."""


def centres_of(crowd: Crowd) -> list[tuple[float, float]]:
    """Where the single queries ask."""
    return [(float(crowd.x[i]), float(crowd.y[i])) for i in crowd.some(CENTRES)]


class NumpySpace:
    """Distances to all points, then the mask: what one writes without an index."""

    name = "numpy"

    def __init__(self, crowd: Crowd) -> None:
        self._x, self._y = crowd.x, crowd.y
        self._centres = centres_of(crowd)[:_BRUTE_CENTRES]
        self.works: dict[str, Work] = {"radius": self.radius, "box": self.box, "nearest": self.nearest}

    def _squares(self, x: float, y: float) -> Any:
        dx, dy = self._x - np.float32(x), self._y - np.float32(y)
        return dx * dx + dy * dy

    def radius(self) -> float:
        started = thread_time()
        for x, y in self._centres:
            np.flatnonzero(self._squares(x, y) <= RADIUS * RADIUS)
        return (thread_time() - started) / len(self._centres)

    def box(self) -> float:
        half = BOX / 2
        started = thread_time()
        for x, y in self._centres:
            inside = (self._x >= x - half) & (self._x <= x + half) & (self._y >= y - half) & (self._y <= y + half)
            np.flatnonzero(inside)
        return (thread_time() - started) / len(self._centres)

    def nearest(self) -> float:
        started = thread_time()
        for x, y in self._centres:
            squares = self._squares(x, y)
            some = np.argpartition(squares, K)[:K]
            some[np.argsort(squares[some])]
        return (thread_time() - started) / len(self._centres)


class RTreeSide:
    """SQLite's R*Tree module; it is in most builds of SQLite, and in none that must be."""

    name = "SQLite R*Tree"

    @staticmethod
    def usable(n: int) -> bool:
        """Whether this Python's SQLite has the module, and `n` rows are loaded in time."""
        if n > _RTREE_ROWS_MAX:
            return False
        with sqlite3.connect(":memory:") as connection:
            try:
                connection.execute("create virtual table probe using rtree(id, a, b)")
            except sqlite3.OperationalError:
                return False
        return True

    def __init__(self, crowd: Crowd) -> None:
        self._connection = connection = sqlite3.connect(":memory:", isolation_level=None)
        connection.execute("create virtual table place using rtree(id, low_x, high_x, low_y, high_y)")
        points = zip(range(crowd.n), crowd.x.tolist(), crowd.y.tolist(), strict=True)
        connection.execute("begin")
        connection.executemany("insert into place values (?1, ?2, ?2, ?3, ?3)", points)
        connection.execute("commit")
        self._centres = centres_of(crowd)
        self.works: dict[str, Work] = {"radius": self.radius, "box": self.box}

    def close(self) -> None:
        self._connection.close()

    def _inside(self, x: float, y: float, half: float, tail: str = "", more: tuple[float, ...] = ()) -> None:
        text = "select id from place where low_x >= ? and high_x <= ? and low_y >= ? and high_y <= ?" + tail
        self._connection.execute(text, (x - half, x + half, y - half, y + half, *more)).fetchall()

    def radius(self) -> float:
        circle = " and (low_x - ?) * (low_x - ?) + (low_y - ?) * (low_y - ?) <= ?"
        started = thread_time()
        for x, y in self._centres:
            self._inside(x, y, RADIUS, circle, (x, x, y, y, RADIUS * RADIUS))
        return (thread_time() - started) / len(self._centres)

    def box(self) -> float:
        started = thread_time()
        for x, y in self._centres:
            self._inside(x, y, BOX / 2)
        return (thread_time() - started) / len(self._centres)


class ScipySide:
    """scipy's cKDTree: in C, made anew whenever anything moves."""

    name = "scipy k-d tree"

    @staticmethod
    def installed() -> bool:
        """Whether it can be imported."""
        return find_spec("scipy") is not None

    def __init__(self, crowd: Crowd) -> None:
        self._make: Any = import_module("scipy.spatial").cKDTree
        self._points = np.stack([crowd.x, crowd.y], axis=1)
        self._centres = centres_of(crowd)
        self._tree = self._make(self._points)
        self.works: dict[str, Work] = {
            "radius": self.radius,
            "nearest": self.nearest,
            "nearest_many": self.nearest_many,
            "refresh_all": self.refresh,
            "refresh_some": self.refresh,
        }

    def radius(self) -> float:
        started = thread_time()
        for centre in self._centres:
            self._tree.query_ball_point(centre, RADIUS)
        return (thread_time() - started) / len(self._centres)

    def nearest(self) -> float:
        started = thread_time()
        for centre in self._centres:
            self._tree.query(centre, K)
        return (thread_time() - started) / len(self._centres)

    def nearest_many(self) -> float:
        started = thread_time()
        self._tree.query(self._centres, K)
        return (thread_time() - started) / len(self._centres)

    def refresh(self) -> float:
        started = thread_time()
        self._tree = self._make(self._points)
        return thread_time() - started
