"""The disk side of a store: when a version may be shown, and when its transaction is answered.

    publish ──► queued ──flush──► written ──sync──► durable ──HORIZON──► sealed
                 memory            relaxed           strict               paranoid      answered here

A version of level strict or above is *held*: nobody sees it, nor any that came after, before it is durable. Whoever
waits for its own version flushes all that is queued, so many wait for one sync; whoever waits for nothing leaves it to
the store's thread (`disk_thread`). Showing needs the baton: who cannot have it says `to_show`, and whoever gives the
baton back does it.

Invariants:
- an answer is given when the version is as durable as demanded *and* shown, or when the disk has failed;
- once the disk has failed only what is durable counts as written: a sync that failed may have taken the rest with it,
  and the next opening reads what the disk has;
- what a transaction has read of a held version leaves it, by commit, refusal or rollback, only when that is durable;
- nobody flushes with the baton: while one waits for the disk, others write;
- a finaliser, which may run anywhere, takes no lock here that it would wait for.
"""

import logging
import threading
import warnings
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ecsnet.errors import BusyError, ClosedError, DataError, EcsnetError
from ecsnet.store.baton import Baton
from ecsnet.store.levels import LEVELS, MEMORY, PARANOID, RELAXED, STRICT

if TYPE_CHECKING:
    from ecsnet._kernel.disk import Disk, Storage
    from ecsnet._kernel.kernel import KernelStore
    from ecsnet.store.digests import Digests
    from ecsnet.store.disk_thread import DiskThread
    from ecsnet.store.snapshots import Snapshots

__all__ = ["Durable", "DurableBaton"]

log = logging.getLogger("ecsnet.store")

_NEVER: Final = 1 << 64
"""Above every version."""

_SYNC_AFTER_S: Final = 0.005
"""How long what was only written waits for more before it is synced. With the time until the thread looks
(`disk_thread.ROUND_S`) that is half of the 20 ms that are declared; the other half is the disk's."""

_TEND_EVERY_S: Final = 0.012
"""How often the HORIZON is looked after, by the next round: a sync of its own, which commits wait for. Within the 20 ms
that are declared for it."""

_SHOW_AGAIN_S: Final = 0.010
"""How soon a waiting thread looks again where the baton is in hands that do not say when they give it back: a snapshot
that begins."""
_Answer = Callable[[EcsnetError | None], object]


class Durable:
    """A store's disk, and who waits for it."""

    __slots__ = (
        "__weakref__",
        "_again",
        "_answering",
        "_demand",
        "_events",
        "_flushing",
        "_held",
        "_held_from",
        "_held_to",
        "_last",
        "_raised",
        "_tended_s",
        "_unsynced_s",
        "_waiting",
        "baton",
        "clock_ns",
        "closed",
        "digests",
        "directory",
        "disk",
        "failure",
        "forsaken",
        "kernel",
        "level",
        "levels",
        "on_end",
        "read_only",
        "recovery",
        "snapshots",
        "storage",
        "thread",
        "to_show",
    )

    snapshots: "Snapshots"
    digests: "Digests"

    def __init__(
        self,
        kernel: "KernelStore",
        disk: "Disk",
        storage: "Storage",
        level: int,
        clock_ns: Callable[[], int],
        *,
        directory: "str | None",
    ):
        self.kernel = kernel
        self.disk = disk
        self.storage = storage
        self.directory = directory
        """Where the files are; None for a storage that somebody else brought."""
        self.recovery = disk.recovery
        self.level = level
        """The least level of every version."""
        self.clock_ns = clock_ns
        self.baton: Baton = DurableBaton(kernel, self)
        self.read_only = disk.recovery.read_only
        self.failure: EcsnetError | None = None
        """Why nothing is acknowledged any more."""
        self.closed = False
        self.forsaken = False
        """Nobody has the store any more."""
        self.to_show = False
        """Something is durable that is not shown yet: for whoever gives the baton back."""
        self.levels: dict[int, int] = {}
        """Of what waits in the queue and demands more than the store does, the levels."""
        self._raised = MEMORY
        self._held: deque[int] = deque()
        # The first version that nobody sees, the first that is not durable of those that wait for it, the last of them.
        self._held_from = self._demand = _NEVER
        self._held_to = 0
        self._events: deque[tuple[int, Callable[[], object]]] = deque()
        self._flushing = threading.Lock()
        self._answering = threading.Lock()
        self._again = False
        self._last = (0, 0, 0, 0)
        self._waiting: tuple[deque[tuple[int, _Answer]], ...] = tuple(deque() for _ in LEVELS)
        self._unsynced_s: float | None = None
        self._tended_s = 0.0
        self.on_end: Callable[[], object] | None = None
        self.thread: DiskThread | None = None
        """Flushes what nobody waits for; None where a driver does that (`work`)."""

    # --- with the baton ----------------------------------------------------------------------------------------------

    def demand_writable(self) -> None:
        """Raise unless the store may be written to."""
        if self.read_only:
            raise DataError(self.storage.name, "it was opened to be read only; nothing changed")
        if self.failure is not None:
            raise self.failure

    def raise_to(self, level: int) -> None:
        """Have the next version be of this level at least."""
        self._raised = max(self._raised, level)

    def publish(self, tick: int) -> int | None:
        """Make a version of what was committed, and leave it for `wait`, `expect` or the thread to flush."""
        level = self._next_level()
        made = self.disk.publish(tick, self.clock_ns(), level)
        self._raised = MEMORY
        if made is None:
            return None
        if level >= STRICT:
            self._held.append(made)
            self._held_to = made
            if self._held_from == _NEVER:
                self._held_from = self._demand = made
        if self.thread is not None and self.thread.resting:
            self.thread.wake()
        return made

    def keep_back(self, version: int, tell: Callable[[], object]) -> bool:
        """Whether the next version, of this number, is to be held: then `tell` is called when it is shown."""
        if self._next_level() < STRICT and not self._held:
            return False
        # Where making it failed, this number was told to us before.
        while self._events and self._events[-1][0] >= version:
            self._events.pop()
        self._events.append((version, tell))
        return True

    @property
    def next_level(self) -> int:
        """What the next version is going to be of, at least."""
        return self._next_level()

    def _next_level(self) -> int:
        level = max(self.level, self._raised)
        # Also what is handed in right now and not judged yet: more than was demanded is never wrong.
        return max(level, *self.levels.values()) if self.levels else level

    def release(self) -> None:
        """Show what is durable."""
        self.to_show = False
        if self.closed:
            return
        durable, held = self.disk.durable, self._held
        later = next((version for version in held if version > durable), _NEVER)
        while self._events and self._events[0][0] < later:
            # Before: who sees the version is to find its events told.
            self._events.popleft()[1]()
        shown = self.disk.release()
        while held and held[0] <= durable:
            held.popleft()
        # What readers get next has the newest in it, so with that still to come what is durable waits for it too.
        self._held_from, self._demand = (shown + 1, held[0]) if held else (_NEVER, _NEVER)

    # --- what is there ----------------------------------------------------------------------------------------------

    @property
    def written_version(self) -> int:
        """The newest version that survives the death of the process: after the disk has failed, the newest durable."""
        return self._mark(RELAXED)

    @property
    def durable_version(self) -> int:
        """The newest version that survives a loss of power."""
        return self._mark(STRICT)

    # --- waiting -----------------------------------------------------------------------------------------------------

    def reached(self, version: int, level: int) -> bool:
        """Whether a version is as durable as `level` says, and not held."""
        return self._held_from > version and (level == MEMORY or self._mark(level) >= version)

    def wait(self, version: int, level: int) -> None:
        """Block until `reached`, flushing where nobody else does. Without the baton.

        Raises:
            DataFailedError: the disk failed before. BusyError: this thread has the baton, which showing needs.
        """
        while not self.reached(version, level):
            if self._held_from > version:
                self._flush(version, level)
            else:
                self._flush(self._held_to, max(level, STRICT))
                self._show(version)

    def sync(self) -> int:
        """Make all that is committed durable, restore points too. Returns the newest version of it."""
        version = self.kernel.head_version
        with self._flushing:
            self._flush_now(STRICT)
        self.wait(version, STRICT)
        self.answer()
        return version

    def expect(self, version: int, level: int, answer: _Answer) -> None:
        """Have `answer(None)` called when the version is reached, or `answer(error)` when it never will be; on whatever
        thread, now where it is."""
        if self.reached(version, level):
            answer(None)
            return
        self._waiting[level].append((version, answer))
        if self.failure is not None or self.closed:
            self.answer()
        else:
            self.hurry()

    def hurry(self) -> None:
        """Somebody waits: flush now, not when it is convenient."""
        if self.thread is not None:
            self.thread.wake()

    def answer(self) -> None:
        """Answer whoever waits for what is reached by now."""
        self._again = True
        while self._again and self._answering.acquire(blocking=False):
            # Whoever comes meanwhile says so and leaves it to us.
            ready: list[tuple[_Answer, EcsnetError | None]] = []
            try:
                self._again = False
                for level, waiting in enumerate(self._waiting):
                    while waiting and not self.closed and self.reached(waiting[0][0], level):
                        ready.append((waiting.popleft()[1], None))
                    while waiting and (self.failure is not None or self.closed):
                        ready.append((waiting.popleft()[1], self.failure or _closed()))
            finally:
                self._answering.release()
            for answer, error in ready:
                answer(error)

    def _mark(self, level: int) -> int:
        disk = self.disk
        if self.failure is not None:
            # What the system still has in memory is not on the disk, and nobody will put it there.
            level = max(level, STRICT)
        try:
            return disk.written if level <= RELAXED else disk.durable if level == STRICT else disk.horizon
        except ClosedError:
            return self._last[level]

    def _flush(self, version: int, level: int) -> None:
        with self._flushing:
            # Whoever had the lock before may have done it for us.
            if level == MEMORY or self._mark(level) < version:
                self._flush_now(level)

    def _flush_now(self, level: int) -> None:
        if self.closed:
            raise _closed()
        try:
            self.disk.flush(level, self.clock_ns())
        except EcsnetError as error:
            self._fail(error)
            raise

    def _fail(self, error: EcsnetError) -> None:
        """Nothing more is acknowledged."""
        if self.failure is None:
            log.error("%s", error)
            self.failure = error
        self.answer()

    def show(self) -> None:
        """Show what is durable; where somebody is writing, they will when they have ended."""
        self.to_show = True
        while self.to_show:
            try:
                self.baton.take()
            except (BusyError, ClosedError):
                return
            # Which shows it.
            self.baton.give()

    def catch_up(self) -> None:
        """For whoever wants to see the newest: show what can be shown, if nobody is writing."""
        if self._demand == _NEVER or self._demand <= self.durable_version:
            self.show()

    def _show(self, version: int) -> None:
        self.show()
        if not self.to_show:
            return
        if self.baton.owner == threading.get_ident():
            raise BusyError(
                f"version {version} is shown when this thread's own transaction or tick has ended: wait for it then"
            )
        given = threading.Event()
        forget = self.baton.register(given.set)
        try:
            while self.to_show:
                given.wait(_SHOW_AGAIN_S)
                given.clear()
                if self.to_show:
                    self.show()
        finally:
            forget()

    # --- working behind ----------------------------------------------------------------------------------------------

    def work(self, now_s: float) -> bool:
        """What nobody waits for: write and sync what is queued, show it, answer, housekeeping. One round.

        Args:
            now_s: of any clock that never goes back.

        Returns:
            whether there is more to do soon.
        """
        if self.closed or self.failure is not None or self.read_only:
            self.answer()
            return False
        disk = self.disk
        try:
            with self._flushing:
                if self._over():
                    return False
                head = self.kernel.head_version
                level = self._asked()
                if self._unsynced_s is not None and now_s - self._unsynced_s >= _SYNC_AFTER_S:
                    level = max(level, STRICT)
                if disk.written < head or level > MEMORY:
                    disk.flush(level, self.clock_ns())
                if disk.durable >= head:
                    self._unsynced_s = None
                elif self._unsynced_s is None:
                    self._unsynced_s = now_s
                if now_s - self._tended_s >= _TEND_EVERY_S:
                    self._tended_s = now_s
                    disk.tend(self.clock_ns())
        except EcsnetError as error:
            self._fail(error)
            return False
        if self._demand <= self.durable_version:
            self.show()
        self.answer()
        try:
            self.digests.look(now_s, threads=self.thread is not None)
            busy = self.snapshots.look(now_s, threads=self.thread is not None)
        except ClosedError:
            # By another thread, just now.
            return False
        return busy or self.unfinished

    @property
    def unfinished(self) -> bool:
        """Whether `work` has more to do soon."""
        if self.closed or self.failure is not None:
            return False
        return self._mark(PARANOID) < self.kernel.head_version or self._held_from != _NEVER or any(self._waiting)

    def _over(self) -> bool:
        """Whether it is closed by now: another thread may have."""
        return self.closed

    def _asked(self) -> int:
        """The highest level that somebody waits for and does not have."""
        for level in (PARANOID, STRICT, RELAXED):
            try:
                version = self._waiting[level][-1][0]
            except IndexError:
                continue
            if self._mark(level) < version:
                return level
        return MEMORY

    # --- ending ------------------------------------------------------------------------------------------------------

    def close(self, wait_s: float) -> None:
        """Flush, show, answer, and close the log cleanly. Again is harmless.

        Raises:
            DataFailedError: not everything could be made durable; it is closed nevertheless. BusyError: somebody is
            writing, and still is after `wait_s`; it is open.
        """
        if self.closed:
            return
        failure: EcsnetError | None = self.failure
        self.snapshots.stop()
        self.digests.stop()
        try:
            if not self.read_only and failure is None:
                self.sync()
        except DataError as error:
            failure = error
        # So that nobody appends meanwhile, or shows from what is closed.
        self.baton.take(wait_s)
        try:
            with self._flushing:
                try:
                    if failure is None:
                        # What was committed since.
                        self.disk.flush(STRICT, self.clock_ns())
                        self.release()
                        self.answer()
                        if not self.read_only:
                            self.digests.note_last(self)
                finally:
                    self._end()
                    self.disk.close(self.clock_ns())
        except DataError as error:
            failure = failure or error
        finally:
            self.baton.hand_over()
            self._let_go()
            self.answer()
        if failure is not None:
            raise failure

    def abandon(self) -> None:
        """Let go of the disk as a crash would: nothing more is written, who waits is told. Again is harmless."""
        if self.closed:
            return
        self.snapshots.stop()
        with self._flushing:
            self._end()
            self.disk.abandon()
        self._let_go()
        self.answer()

    def _end(self) -> None:
        self._last = (self.disk.written, self.disk.written, self.disk.durable, self.disk.horizon)
        self.closed = True

    def _let_go(self) -> None:
        if self.thread is not None:
            self.thread.stop()
        if self.directory is not None:
            self.storage.close()
        if self.on_end is not None:
            self.on_end()

    def forsake(self) -> None:
        """The store was let go without `close`, as a finaliser says: end like a crash, and wait for nobody here."""
        if self.closed:
            return
        self.forsaken = True
        if self.thread is not None and self.thread.runs:
            # It may hold what we would have to wait for, in this very thread.
            self.thread.wake()
        else:
            self.abandon()
        warnings.warn(
            f"the store in {self.storage.name} was let go without close(): what was not yet as durable as demanded is "
            f"lost, as in a crash",
            ResourceWarning,
            stacklevel=2,
        )


class DurableBaton(Baton):
    """The baton of a store on a disk: whoever gives it back shows what became durable meanwhile."""

    __slots__ = ("_side",)

    def __init__(self, kernel: "KernelStore", side: Durable):
        super().__init__(kernel)
        self._side = side

    def hand_over(self) -> bool:
        """Show what is durable, give the baton back and wake who waits for it."""
        side = self._side
        shown = side.to_show
        try:
            if shown:
                side.release()
        finally:
            waits = super().hand_over()
        if side.to_show:
            # It became durable while we had the baton, so whoever made it could not show it.
            side.show()
        if shown:
            side.answer()
        return waits


def _closed() -> ClosedError:
    return ClosedError("the store was closed before the answer")
