"""How often something may happen, or be said. By Trio's clock."""

import math

import trio


class Bucket:
    """A rate with a reserve of one second: `rate` at once, then `rate` a second."""

    __slots__ = ("_level", "_rate", "_then")

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._level = float(rate)
        self._then = -math.inf

    async def wait_take(self) -> None:
        """Take one, waiting until there is one. For one waiter, or several that do not mind their order."""
        while True:
            now = trio.current_time()
            self._level = min(float(self._rate), self._level + (now - self._then) * self._rate)
            self._then = now
            if self._level >= 1.0:
                self._level -= 1.0
                return
            await trio.sleep((1.0 - self._level) / self._rate)

    def give_back(self, share: float) -> None:
        """A part of what was taken was not needed."""
        self._level = min(float(self._rate), self._level + share)


class OncePerSecond:
    """Sums what is to be logged, and gives the sum at most once a second."""

    __slots__ = ("_sum", "_then")

    def __init__(self) -> None:
        self._sum = 0
        self._then = -math.inf

    def add(self, count: int) -> int | None:
        self._sum += count
        now = trio.current_time()
        if now - self._then < 1.0:
            return None
        self._then = now
        total, self._sum = self._sum, 0
        return total
