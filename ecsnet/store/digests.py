"""Notes of digests in the log: what the replicated tables were at a version, so that `ecsnet verify`, which replays the
log, can tell that it comes to the same.

A digest is a scan of a pinned version. It runs beside the store's thread, which has commits to flush; a store that is
closed or driven does it where it is.

Invariant: a note is of a version that readers see, and is never waited for.
"""

import logging
import threading
import weakref
from typing import TYPE_CHECKING, Final

from ecsnet.errors import BusyError, ClosedError, EcsnetError

if TYPE_CHECKING:
    from ecsnet.store.durability import Durable

__all__ = ["Digests"]

log = logging.getLogger("ecsnet.store")

_EVERY_S: Final = 1.0
_BATON_S: Final = 0.1
"""How long a note waits for whoever is writing: the next one comes in a second."""


class Digests:
    """The notes of one store."""

    __slots__ = ("_next_s", "_noted", "_side", "_thread")

    def __init__(self, side: "Durable"):
        self._side = weakref.ref(side)
        self._next_s = 0.0
        self._noted = side.recovery.version
        self._thread: threading.Thread | None = None

    def look(self, now_s: float, *, threads: bool) -> None:
        """Note the newest version's if it is time."""
        side = self._side()
        if side is None or now_s < self._next_s or side.kernel.published_version == self._noted:
            return
        self._next_s = now_s + _EVERY_S
        if not threads:
            self._note(side)
        elif self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._note, args=(side,), name="ecsnet digest", daemon=True)
            thread.start()
            # Only now: what was not started cannot be waited for.
            self._thread = thread

    def note_last(self, side: "Durable") -> None:
        """With the baton: note the newest version's, before the log is closed."""
        if side.kernel.published_version != self._noted:
            self._write(side, *self._scanned(side))

    def stop(self) -> None:
        """Wait for one that is under way."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _note(self, side: "Durable") -> None:
        try:
            version, digest = self._scanned(side)
            side.baton.take(_BATON_S)
            try:
                self._write(side, version, digest)
            finally:
                side.baton.give()
        except (BusyError, ClosedError):
            pass
        except EcsnetError as error:
            # A disk that is full or failed is told by commits.
            log.debug("no digest was noted: %s", error)

    def _scanned(self, side: "Durable") -> tuple[int, bytes]:
        pin = side.kernel.acquire()
        try:
            return pin.version, pin.kept_digest() or pin.digest()
        finally:
            pin.release()

    def _write(self, side: "Durable", version: int, digest: bytes) -> None:
        if not side.closed:
            side.disk.note_digest(version, digest, side.clock_ns())
            self._noted = version
