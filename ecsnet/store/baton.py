"""The baton: who may write, and how others wait for it.

The kernel has one atomic word for it and never waits. Here whoever comes second may wait until it is given back: a
thread sleeps, a Trio task lets others run (`waiting.py`). A thread that holds it already would wait for itself, so it
is told at once.

Invariants:
- whoever gives it back wakes everybody who waits, after it was given back, so that nobody sleeps beside a free baton;
- nobody who waits holds it up: a wait that ends in an error has changed nothing.
"""

import math
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ecsnet.errors import ArgumentError, BusyError

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore

__all__ = ["Baton", "checked_wait"]


def checked_wait(wait_s: float) -> float:
    """Seconds to wait, as given by a game.

    Raises:
        ArgumentError: not a number from 0 on. (`math.inf` waits for ever.)
    """
    if isinstance(wait_s, bool) or not isinstance(wait_s, int | float) or not wait_s >= 0:
        raise ArgumentError(f"expected seconds to wait, 0 or more, found {wait_s!r}")
    try:
        return float(wait_s)
    except OverflowError:
        return math.inf


class Baton:
    """The right to be the writer of one store."""

    __slots__ = ("_kernel", "_wakers", "owner", "pump", "task")

    def __init__(self, kernel: "KernelStore"):
        self._kernel = kernel
        self._wakers: dict[object, Callable[[], None]] = {}
        self.owner = 0
        """The thread that took it; 0 while it is free, or in the hands of a frame that is being applied."""
        self.task: object = None
        """The Trio task that waited for it and has it."""
        self.pump: Callable[[], None] | None = None
        """Commits what waits in the queue: called when the baton was given back and something waits."""

    def take(self, wait_s: float = 0.0) -> None:
        """Become the writer; where somebody on another thread is, wait so long for it.

        Raises:
            BusyError: still taken then, or taken by this very thread (at once). ClosedError.
        """
        try:
            self._kernel.take_baton()
        except BusyError:
            if wait_s <= 0:
                raise
            self._wait(wait_s)
        self.owner = threading.get_ident()

    def give(self) -> None:
        """Give it back, wake who waits for it, and see to the queue."""
        if self.hand_over() and self.pump is not None:
            self.pump()

    def hand_over(self) -> bool:
        """Give it back and wake who waits for it. Returns whether transactions wait in the queue."""
        self.owner, self.task = 0, None
        waits = self._kernel.release_baton()
        if self._wakers:
            for wake in tuple(self._wakers.values()):
                wake()
        return waits

    def register(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have `wake` called whenever the baton was given back, on that thread. Returns how to end it."""
        key = object()
        self._wakers[key] = wake

        def forget() -> None:
            self._wakers.pop(key, None)

        return forget

    def _wait(self, wait_s: float) -> None:
        if self.owner == threading.get_ident():
            raise BusyError(
                "this thread has a transaction or a tick open already: commit it or roll it back, then begin another "
                "(waiting for itself would never end); nothing changed"
            )
        given = threading.Event()
        forget = self.register(given.set)
        until = time.monotonic() + wait_s
        try:
            while True:
                given.clear()
                try:
                    return self._kernel.take_baton()
                except BusyError:
                    left = until - time.monotonic()
                    if left <= 0 or not given.wait(min(left, threading.TIMEOUT_MAX)):
                        raise BusyError(
                            f"another thread's transaction or tick is still open after {wait_s:g} s; nothing changed: "
                            f"try again, wait longer (wait_s=), or hand the work to store.queue()"
                        ) from None
        finally:
            forget()
