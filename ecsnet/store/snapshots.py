"""When a store's snapshots are made, and what is let go of then.

One is due when the log since the last has grown by a number of bytes, and by as much as the last one took: so what
snapshots write is at most as much as what commits wrote, and opening reads at most about twice the store.

It is made beside the store's thread, so commits are written and answered meanwhile; a driven store goes on with it step
by step.

Invariants:
- one at a time, whoever asks;
- the log is let go of only behind a snapshot that was read back and is named by a manifest;
- a failed one changes nothing but when the next is tried.
"""

import logging
import threading
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ecsnet.errors import BusyError, ClosedError, EcsnetError

if TYPE_CHECKING:
    from ecsnet._kernel.disk import SnapshotInfo
    from ecsnet.store.durability import Durable

__all__ = ["Snapshots"]

log = logging.getLogger("ecsnet.store")

_TRY_AGAIN_S: Final = 30.0
"""After a failure in the background: a disk that is full stays so for a while."""

_LOOK_EVERY_S: Final = 0.1
"""How often it is asked whether one is due."""

_Steps = Generator[tuple[int, int], None, "SnapshotInfo"]
_Archiver = Callable[[int], object]


class Snapshots:
    """The snapshots of one store."""

    __slots__ = ("_again_s", "_ending", "_every_bytes", "_one", "_side", "_steps", "_thread", "archiver")

    def __init__(self, side: "Durable", every_bytes: int | None, archiver: _Archiver | None):
        # The store's disk has this one: a reference back would keep both for the garbage collector.
        self._side = weakref.ref(side)
        self._every_bytes = every_bytes
        self._one = threading.Lock()
        self._thread: threading.Thread | None = None
        self._steps: _Steps | None = None
        self._ending = False
        self._again_s = 0.0
        self.archiver = archiver
        """Copies and verifies a segment of this number, where segments are archived and not removed."""

    def take(self, progress: Callable[[int, int], object] | None) -> "SnapshotInfo":
        """Make one now, on this thread. Raises as `Store.snapshot`."""
        side = self._open()
        side.demand_writable()
        with self._one:
            if self._steps is not None:
                # A driven store was about to make one: this one is newer.
                self._steps.close()
                self._steps = None
            steps = self._make(side)
            try:
                while True:
                    done, total = next(steps)
                    if self._ending:
                        raise ClosedError(
                            "the store was closed before the snapshot was done; older ones are as they were"
                        )
                    if progress is not None:
                        progress(done, total)
            except StopIteration as end:
                made: SnapshotInfo = end.value
                return made
            finally:
                steps.close()

    @contextmanager
    def none_meanwhile(self) -> Iterator[None]:
        """Within, no snapshot is made and nothing of the log let go of."""
        with self._one:
            yield

    def look(self, now_s: float, *, threads: bool) -> bool:
        """Begin one if it is due; of a driven store, go on with it. Returns whether one is under way."""
        if self._steps is not None:
            self._step(now_s)
            return self._steps is not None
        if self._every_bytes is None or now_s < self._again_s:
            return False
        self._again_s = now_s + _LOOK_EVERY_S
        side = self._open()
        counts = side.disk.statistics()
        # The disk counts from its opening: what was there before is part of what the next opening has to read.
        before = side.disk.recovery.wal_bytes if counts.snapshots == 0 else 0
        if before + counts.since_snapshot_bytes <= max(self._every_bytes, counts.snapshot_bytes):
            return False
        if not threads:
            self._steps = self._make(side)
        elif self._thread is None or not self._thread.is_alive():
            self._again_s = now_s + _TRY_AGAIN_S
            thread = threading.Thread(target=self._behind, name="ecsnet snapshot", daemon=True)
            thread.start()
            # Only now: what was not started cannot be waited for.
            self._thread = thread
        return True

    def stop(self, *, wait: bool = True) -> None:
        """End one that is under way; nothing is left of it."""
        self._ending = True
        if self._steps is not None:
            self._steps.close()
            self._steps = None
        thread = self._thread
        if wait and thread is not None and thread is not threading.current_thread():
            thread.join()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _open(self) -> "Durable":
        side = self._side()
        if side is None or side.closed:
            raise ClosedError("the store is closed")
        return side

    def _make(self, side: "Durable") -> _Steps:
        made = yield from side.disk.snapshot(side.clock_ns())
        for number in side.disk.compact():
            if self.archiver is not None:
                self.archiver(number)
                side.disk.archived(number)
        return made

    def _behind(self) -> None:
        try:
            self.take(None)
            self._again_s = 0.0
        except ClosedError:
            pass
        except EcsnetError as error:
            log.warning("no snapshot was made; the next try is in %g s: %s", _TRY_AGAIN_S, error)

    def _step(self, now_s: float) -> None:
        assert self._steps is not None
        try:
            next(self._steps)
        except StopIteration:
            self._steps = None
        except BusyError:
            self._steps, self._again_s = None, now_s + _LOOK_EVERY_S
        except EcsnetError as error:
            self._steps, self._again_s = None, now_s + _TRY_AGAIN_S
            log.warning("no snapshot was made; the next try is in %g s: %s", _TRY_AGAIN_S, error)
