"""numpy as the peer of queries: the crowd as bare columns, and what an experienced user would write over them.

No index, no versions, no checks; the answers are those of ecsnet's queries of the same names.
"""

from time import thread_time
from typing import Any

import numpy as np

from ecsnet.bench.crowd import TEAMS, Crowd
from ecsnet.bench.timing import Work

__all__ = ["ColumnsSide"]

_SCANS = 20
"""Look-ups in one run where each is a scan."""


class ColumnsSide:
    """Plain columns."""

    name = "numpy"

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._ids = np.arange(crowd.n, dtype=np.uint64)
        self._some = crowd.some(_SCANS)
        self._half = np.float32(crowd.side / 2)
        self.works: dict[str, Work] = {
            "filter": self._timed(self.filter),
            "aggregate": self._timed(self.aggregate),
            "group_by": self._timed(self.group_by),
            "join": self._timed(self.join),
            "order_limit": self._timed(self.order_limit),
            "related": self.related,
        }

    @staticmethod
    def _timed(question: Any) -> Work:
        def work() -> float:
            started = thread_time()
            question()
            return thread_time() - started

        return work

    def filter(self) -> Any:
        crowd = self._crowd
        return self._ids[(crowd.hp < 10) & (crowd.x > self._half)]

    def aggregate(self) -> Any:
        hp = self._crowd.hp[self._crowd.team == 3]
        return len(hp), hp.sum(), hp.min(), hp.max()

    def group_by(self) -> Any:
        crowd = self._crowd
        count = np.bincount(crowd.team, minlength=TEAMS)
        return count, np.bincount(crowd.team, crowd.hp, TEAMS) / count

    def join(self) -> Any:
        crowd = self._crowd
        rows = np.flatnonzero(crowd.kind == 3)
        return self._ids[rows], crowd.price[rows], crowd.x[crowd.holder[rows]]

    def order_limit(self) -> Any:
        price = self._crowd.price
        some = np.argpartition(price, len(price) - 10)[-10:]
        rows = some[np.argsort(price[some])[::-1]]
        return self._ids[rows], price[rows]

    def related(self) -> float:
        holder = self._crowd.holder
        started = thread_time()
        for number in self._some:
            np.flatnonzero(holder == number)
        return (thread_time() - started) / len(self._some)
