"""What waits for want of bytes, looked at from outside: a player's rows, version after version, against the node's.

    version        20    21    22    23         of a row that changes in each, with a bound of three versions
    the node       a     b     c     d
    the player     a     a     a     d          two behind in 22, and in 23 it had to go

| looked at | what must hold |
|---|---|
| whole | a row is as the node had it in this version, in all its cells, or as the player had it before |
| old | what a player has not of a row has changed in the last `staleness` versions |
| came, went | which rows there are is of this version, whatever waits: `sight.py` looks at that |
| rate | deltas of which nothing had to go are of the size that the budget gives a version, on the whole |

Rows of one entity, and those tied to it, are of one version: a game's model knows which those are, and looks at that.

Invariant: this reads what it is given and draws no random number.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecsnet.sim.rows import Keys, Rows, names, unequal

__all__ = ["Bound", "Waiting"]

RATE_FACTOR = 2
HEAD_BYTES = 256
"""Of a delta: its frame, its block, and the heads of tables and columns. Rows are reckoned before they are packed, by
what they took in the deltas before, so that one delta may be beyond what it should be; many together are not."""

RATED_MIN = 20
"""Deltas of which something can be said on the whole."""


Past = Callable[[int, str], Rows | None]


class Bound(NamedTuple):
    """What a world promises: bytes of a delta, and versions that a row waits."""

    delta_bytes: int
    staleness: int


class Waiting:
    """What one player's rows wait for."""

    def __init__(self, bound: Bound, violated: Callable[[str], None]) -> None:
        self._bound = bound
        self._violated = violated
        self._held: Mapping[str, Rows] = {}
        self._as_of: dict[str, NDArray[np.int64]] = {}
        """Of each row that is held, the newest version in which it was seen to be the node's."""
        self._version = 0
        self.late = 0
        """Rows that were seen to wait, version by version."""
        self._rated = 0
        self._rated_bytes = 0

    def begin(self) -> None:
        """What was held is gone, or nobody looked."""
        self._held, self._as_of, self._version = {}, {}, 0

    def applied(
        self,
        version: int,
        theirs: Mapping[str, Rows],
        ours: Mapping[str, Rows],
        past: Past,
        delta_bytes: int | None,
    ) -> None:
        """A player made a version visible.

        Args:
            theirs: the rows that it holds, by table; `ours` those of the node, as the player would have them.
            past: the node's rows of a table in an older version of this history; None where that is not known.
            delta_bytes: of the delta that came; None where that is not to be looked at.
        """
        before, as_of_before, self._as_of = self._held, self._as_of, {}
        same_rows, waited_longest, changed = bool(before), 0, False
        for table, held in theirs.items():
            node = ours[table]
            as_of = self._as_of[table] = np.full(len(held.keys), -1, np.int64)
            there = node.has(held.keys)
            fresh = there.copy()
            fresh[there] = ~unequal(held, held.at(held.keys[there]), node, node.at(held.keys[there]))
            as_of[fresh] = version
            known = before.get(table)
            if known is None:
                same_rows = False
            else:
                same_rows = same_rows and np.array_equal(known.keys, held.keys)
                had = known.has(held.keys)
                at, was = np.flatnonzero(had), known.at(held.keys[had])
                moved = unequal(held, at, known, was)
                self._look_at_halves(version, table, held.keys[at[moved & ~fresh[at]]])
                self._look_at_halves(version, table, held.keys[~had & ~fresh])
                late = ~fresh[at]
                as_of[at[late]] = as_of_before[table][was[late]]
                sent = as_of_before[table][was[moved]]
                changed = changed or len(sent) > 0
                waited_longest = max(waited_longest, *(version - sent).tolist(), 0)
            waits = there & ~fresh
            self.late += int(waits.sum())
            self._look_at_age(version, table, held, waits & (as_of < version - self._bound.staleness + 1), past)
        if (
            delta_bytes is not None
            and same_rows
            and changed
            and version == self._version + 1
            and waited_longest <= self._bound.staleness // 2
        ):
            self._rated += 1
            self._rated_bytes += delta_bytes
        self._held, self._version = theirs, version

    def settled(self) -> None:
        """Nothing more comes."""
        allowed = RATE_FACTOR * self._bound.delta_bytes + HEAD_BYTES
        if self._rated >= RATED_MIN and self._rated_bytes > self._rated * allowed:
            self._violated(
                f"was sent {self._rated_bytes / self._rated:.0f} bytes a delta in {self._rated} of which nothing had "
                f"to go; its budget is {self._bound.delta_bytes}"
            )

    def _look_at_halves(self, version: int, table: str, keys: Keys) -> None:
        if len(keys):
            self._violated(
                f"has {names(keys)} of {table} in version {version} neither as the node, nor as it had before"
            )

    def _look_at_age(
        self,
        version: int,
        table: str,
        held: Rows,
        suspects: NDArray[np.bool_],
        past: Past,
    ) -> None:
        """Who was not seen to be as the node for so long may have been so all along: if nothing of it changed."""
        keys = held.keys[suspects]
        for one in range(version - self._bound.staleness + 1, version):
            if not len(keys):
                return
            there = past(one, table)
            if there is None:
                return
            # What was spawned since is not old.
            keys = keys[there.has(keys)]
            keys = keys[unequal(held, held.at(keys), there, there.at(keys))]
        if len(keys):
            self._violated(
                f"has {names(keys)} of {table} in version {version} as they were more than {self._bound.staleness} "
                "versions ago"
            )
