"""The one thread of a store on a disk: it flushes what nobody waits for, and keeps house.

It is started by the first version, looks every few milliseconds while there is something to do, and then rests until it
is woken, so a store that nobody writes to costs nothing.

Invariants:
- a store that is let go without being closed ends it, and it lets go of the disk then, where nobody waits for that;
- whoever makes a version looks whether it rests after making it, and it looks for a version after saying that it rests:
  nothing is left lying.
"""

import threading
import time
import weakref
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ecsnet.store.durability import Durable

__all__ = ["ROUND_S", "DiskThread"]

ROUND_S: Final = 0.005
"""How often it looks while there is something to do."""

_STOP_S: Final = 60.0
"""How long stopping it waits for a disk that does not answer, before it is left behind: it is a daemon."""


class DiskThread:
    """Rounds of `Durable.work`, on a thread of its own."""

    __slots__ = ("_end", "_side", "_signal", "_start", "_thread", "resting")

    def __init__(self, side: "Durable"):
        # Woken by releasing it: nothing cheaper wakes a thread.
        self._signal = threading.Lock()
        self._signal.acquire()
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None
        self._end = False
        self.resting = True
        """It does not look until it is woken."""
        # It is the side that has the thread, and `opening` that keeps both while the store is open.
        self._side = weakref.ref(side)

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self._thread is not None and self._thread.is_alive()

    def wake(self) -> None:
        """Have it look now."""
        self.resting = False
        if self._thread is None:
            self._begin()
        try:
            self._signal.release()
        except RuntimeError:
            # Woken already.
            pass

    def stop(self, *, wait: bool = True) -> None:
        """End it, after the round that it is in. Again is harmless; so is doing it from a callback on this thread."""
        self._end = True
        thread = self._thread
        if thread is None:
            return
        self.wake()
        if wait and thread is not threading.current_thread():
            thread.join(_STOP_S)

    def _begin(self) -> None:
        with self._start:
            if self._thread is None and not self._end and self._side() is not None:
                self._thread = threading.Thread(target=self._run, name="ecsnet disk", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            self._signal.acquire(timeout=-1 if self.resting else ROUND_S)
            if self._end:
                return
            side = self._side()
            if side is None or side.closed:
                return
            if side.forsaken:
                side.abandon()
                return
            if not side.work(time.monotonic()):
                self.resting = True
                # Whoever made a version just before saw us awake.
                self.resting = not side.unfinished
            del side
