"""A token bucket: so many a second on average, and a burst of as many as it holds. Time is an argument.

Invariant: never more than the capacity in it, and never less than nothing; whole arithmetic, so the same calls give the
same answers on every machine.
"""

from ecsnet.limits import NS_PER_S


class TokenBucket:
    """Filled at `per_s`, full at first."""

    __slots__ = ("_capacity", "_filled_ns", "_level", "_per_s")

    def __init__(self, per_s: int, capacity: int, now_ns: int) -> None:
        assert per_s > 0 and capacity > 0
        self._per_s = per_s
        # Levels in tokens x ns/s, so that filling for any number of ns is a whole number.
        self._capacity = capacity * NS_PER_S
        self._level = self._capacity
        self._filled_ns = now_ns

    def take(self, tokens: int, now_ns: int) -> bool:
        """Take `tokens`, or nothing if there are fewer."""
        self._fill(now_ns)
        wanted = tokens * NS_PER_S
        if wanted > self._level:
            return False
        self._level -= wanted
        return True

    def ready_ns(self, tokens: int, now_ns: int) -> int:
        """When `tokens` will be there: `now_ns` if they are."""
        self._fill(now_ns)
        missing = tokens * NS_PER_S - self._level
        # What is missing is missing as of the last filling, also for who asks about a moment before that.
        return now_ns if missing <= 0 else max(now_ns, self._filled_ns) - (-missing // self._per_s)

    def _fill(self, now_ns: int) -> None:
        # A clock that steps back fills nothing; it must not empty the bucket either.
        if now_ns > self._filled_ns:
            self._level = min(self._capacity, self._level + (now_ns - self._filled_ns) * self._per_s)
            self._filled_ns = now_ns
