"""What strangers and clients do wrong, told to whoever runs the node: each kind of it once a second at most, or one of
them could fill the disk with log. How often it happened is counted elsewhere, in full.
"""

import logging

from ecsnet.limits import NS_PER_S

__all__ = ["Noted"]

_Kept = tuple[int, int]


class Noted:
    """See the file. A kind is its text, before anything is put into it."""

    __slots__ = ("_kinds", "_log")

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._kinds: dict[str, _Kept] = {}
        """When it was told last, and how often it has happened since."""

    def tell(self, now_ns: int, level: int, text: str, *about: object, error: BaseException | None = None) -> None:
        """It happened; with `error` the traceback goes with it."""
        told_ns, more = self._kinds.get(text, (now_ns - NS_PER_S, 0))
        if 0 <= now_ns - told_ns < NS_PER_S:
            self._kinds[text] = told_ns, more + 1
            return
        self._kinds[text] = now_ns, 0
        tail = f" ({more} more since the last)" if more else ""
        self._log.log(level, text + "%s", *about, tail, exc_info=error)
