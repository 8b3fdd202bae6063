"""Views under pressure: who holds so many versions that new ones cannot be shown is told so.

A version that no buffer is left for is made all the same, and logged; readers go on seeing the one before, until
somebody lets go of a view. Whoever wants to know watches: he is told when it begins, whenever it has become twice as
bad, and when it is over. A version that only waits for the disk is no pressure.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore

__all__ = ["Pressure", "PressureWatch"]

_REASONS: Final = ("", "versions", "buffers", "memory")


@dataclass(frozen=True, slots=True)
class Pressure:
    """What stands between readers and the newest version.

    Attributes:
        staleness: versions that readers do not see yet. 0: it is over, they see the newest.
        since_s: for how many seconds it has been so.
        reason: what there was no room for: "versions" (as many as may be held are), "buffers" (a table that changes
            has as many as it may in versions that are held) or "memory". "" when it is over.
        versions: how many versions are held or shown.
        buffers: how many buffers all columns have.
        bytes_allocated: what the store holds in memory.
    """

    staleness: int
    since_s: float
    reason: str
    versions: int
    buffers: int
    bytes_allocated: int


class PressureWatch:
    """Tells of one store's pressure, to `tell`. Looked at whenever a version was made or made up for."""

    __slots__ = ("_began_s", "_told", "tell")

    def __init__(self, tell: Callable[[Pressure], object]) -> None:
        self.tell = tell
        self._began_s = 0.0
        # The staleness that was told last; 0 when there is none.
        self._told = 0

    def look(self, kernel: "KernelStore") -> None:
        """Needs the baton. What `tell` raises goes to `sys.unraisablehook`: the version is made, and stays."""
        staleness = kernel.head_version - kernel.published_version
        if staleness == 0 and self._told == 0:
            return
        statistics = kernel.statistics()
        if staleness and not statistics.pressure and not self._told:
            return  # It waits for the disk.
        if staleness and staleness < 2 * self._told:
            return
        now_s = time.monotonic()
        if self._told == 0:
            self._began_s = now_s
        self._told = staleness
        found = Pressure(
            staleness=staleness,
            since_s=now_s - self._began_s,
            reason=_REASONS[statistics.pressure] if staleness else "",
            versions=statistics.slots_used,
            buffers=statistics.buffers,
            bytes_allocated=statistics.bytes_allocated,
        )
        try:
            self.tell(found)
        except Exception as error:  # noqa: BLE001  (whatever it raises: the version is made)
            sys.unraisablehook(
                SimpleNamespace(
                    exc_type=type(error),
                    exc_value=error,
                    exc_traceback=error.__traceback__,
                    err_msg="Exception ignored in on_pressure",
                    object=self.tell,
                )
            )
