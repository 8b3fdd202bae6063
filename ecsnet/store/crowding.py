"""The part of a store that speaks of views that crowd it: how many versions may be held, and what is told of it.

Views cost nothing until they are many, each of another version: then there is no room to show the next one in. It is
made all the same (commits go on, and so does the log of a store on a disk), and readers see it once somebody lets go.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ecsnet._kernel.pressure import Pressure
from ecsnet.errors import ArgumentError

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore
    from ecsnet.store.baton import Baton

__all__ = ["Crowding", "Pressure"]

VERSIONS_MAX = 64
BUFFERS_DEFAULT = 24
LIMIT_MIN = 3
"""One that is read, one that is made, and one that a reader has just come to."""


class Crowding:
    """What a store says of held views."""

    __slots__ = ()

    kernel: "KernelStore"
    baton: "Baton"

    @property
    def staleness(self) -> int:
        """How many versions were made that no reader sees yet: held views leave no room for them, or they wait for the
        disk. 0 when `view()` shows the newest."""
        return self.kernel.staleness

    @property
    def on_pressure(self) -> Callable[[Pressure], object] | None:
        """Called when held views leave no room to show a new version, whenever that has become twice as bad, and when
        it is over (`Pressure.staleness` is 0 then): a game lets go of views it can do without, or tells somebody.

        It is called on the thread that commits, or takes a view, while nobody can write: it must not commit itself.
        What it raises goes to `sys.unraisablehook`. None: nobody is told.
        """
        return self.kernel.on_pressure

    @on_pressure.setter
    def on_pressure(self, tell: Callable[[Pressure], object] | None) -> None:
        self.kernel.on_pressure = tell

    def limit_views(self, *, versions: int = VERSIONS_MAX, buffers: int = BUFFERS_DEFAULT) -> None:
        """Say how much memory held views may keep.

        Args:
            versions: how many may be held, shown or made at once, 3 to 64.
            buffers: how many buffers a column may have for them, 3 or more: one that changes in each version takes one
                for each version that is held.

        Raises:
            ArgumentError: a number out of range. BusyError: somebody is writing. Nothing was changed.
        """
        if not LIMIT_MIN <= versions <= VERSIONS_MAX:
            raise ArgumentError(f"expected {LIMIT_MIN} to {VERSIONS_MAX} versions, found {versions}")
        if not LIMIT_MIN <= buffers < 1 << 31:
            raise ArgumentError(f"expected {LIMIT_MIN} buffers or more, found {buffers}")
        self.baton.take()
        try:
            self.kernel.limit_views(versions, buffers)
        finally:
            self.baton.give()
