"""Tokens that were used, for as long as they could be used again.

Invariants:
- one that was used is refused until it has expired, and by then for that;
- at most `limit` are remembered. When so many are, a new one is refused, not an old one forgotten: only tokens that
  were proven good come here, so that no stranger can fill it.

It lives in memory: a node that is started again has forgotten what was used. A token's short life is what bounds that.
"""

import heapq
import threading

from ecsnet.errors import TokenError
from ecsnet.limits import TOKENS_USED_MAX

__all__ = ["UsedTokens"]


class UsedTokens:
    """See the file. Of any thread.

    Args:
        limit: how many are remembered.
    """

    def __init__(self, limit: int = TOKENS_USED_MAX) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._known: set[bytes] = set()
        self._by_end: list[tuple[float, bytes]] = []

    def __len__(self) -> int:
        return len(self._known)

    def use(self, token: bytes, end_s: float, now_s: float) -> None:
        """Note that a token is used up.

        Args:
            token: what names it, the same however it is spelled.
            end_s: from then on nobody takes it anyway. Seconds since 1970, like `now_s`.

        Raises:
            TokenError: it was used before, or too many are remembered. Nothing was noted.
        """
        with self._lock:
            while self._by_end and self._by_end[0][0] <= now_s:
                self._known.discard(heapq.heappop(self._by_end)[1])
            if token in self._known:
                raise TokenError("the token was used before; get a new one for each session")
            if len(self._known) >= self._limit:
                raise TokenError("too many logins; try again in a moment")
            self._known.add(token)
            heapq.heappush(self._by_end, (end_s, token))
