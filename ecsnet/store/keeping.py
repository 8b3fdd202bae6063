"""What a store on a disk has beyond one in memory: what is durable, waiting for it, snapshots, restore points.

Invariant: in a store in memory every question has an answer, and what needs a disk says so.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from ecsnet.errors import ArgumentError
from ecsnet.ids import Version
from ecsnet.store.levels import LEVELS, MEMORY, level_of
from ecsnet.store.tickets import Ticket

if TYPE_CHECKING:
    from ecsnet._kernel.disk import DiskStatistics, Recovery, SnapshotInfo
    from ecsnet.data.backup import BackedUp
    from ecsnet.store.baton import Baton
    from ecsnet.store.durability import Durable
    from ecsnet.store.store import Writer

__all__ = ["Keeping"]


class Keeping:
    """The part of `Store` that speaks of its disk."""

    __slots__ = ()

    disk: "Durable | None"
    baton: "Baton"
    wait_s: float
    _writer: "Writer"

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def durable_version(self) -> Version:
        """The newest version that survives a loss of power; 0 for a store in memory."""
        return Version(0 if self.disk is None else self.disk.durable_version)

    @property
    def written_version(self) -> Version:
        """The newest version that survives the death of the process; 0 for a store in memory."""
        return Version(0 if self.disk is None else self.disk.written_version)

    @property
    def durability(self) -> str:
        """What a commit waits for, unless it asks for more: "memory", "relaxed", "strict" or "paranoid"."""
        return LEVELS[MEMORY if self.disk is None else self.disk.level]

    @property
    def recovery(self) -> "Recovery | None":
        """What opening found on the disk; None for a store in memory."""
        return None if self.disk is None else self.disk.recovery

    def disk_statistics(self) -> "DiskStatistics | None":
        """What the disk side counts: versions, records, bytes, syncs. A frozen dataclass; None for a store in memory.

        Raises:
            ClosedError.
        """
        self.demand_open()
        return None if self.disk is None else self.disk.disk.statistics()

    # --- waiting for it ----------------------------------------------------------------------------------------------

    def sync(self) -> Version:
        """Wait until all that is committed is synced to the disk and shown, whatever it demanded. In memory there is
        nothing to wait for.

        Returns:
            the newest version of it.

        Raises:
            DataFailedError: the disk failed. BusyError: this thread has a transaction or a tick open, before whose end
            a version that is held cannot be shown. ClosedError.
        """
        self.demand_open()
        if self.disk is None:
            return self._writer.version
        self.disk.demand_writable()
        return Version(self.disk.sync())

    def promise(self, version: Version, durability: str | None = None) -> Ticket:
        """A ticket that is done when `version` is as durable as asked, and shown: `promise(v).then(tell)`, `await
        promise(v)`. In memory it is done.

        Args:
            version: one that was made.
            durability: None means the store's own.

        Raises:
            ArgumentError, ClosedError.
        """
        self.demand_open()
        level = MEMORY if durability is None else self._level_of(durability)
        return self._writer.promise(version, level)

    def work(self) -> bool:
        """For a store that is `driven`: one round of what a thread does otherwise. It writes and syncs what nobody has
        waited for, shows it, answers tickets, and goes on with a snapshot that is due.

        Returns:
            whether there is more to do soon.

        Raises:
            ArgumentError: the store has a thread for that, or no disk. ClosedError.
        """
        self.demand_open()
        disk = self.disk
        if disk is None or disk.thread is not None:
            raise ArgumentError("work() is for a store that was opened with driven=")
        now_ns = disk.clock_ns()
        return disk.work(now_ns / 1e9)

    # --- snapshots and restore points ---------------------------------------------------------------------------------

    def snapshot(self, progress: Callable[[int, int], object] | None = None) -> "SnapshotInfo":
        """Write a snapshot of the newest version, verify it, and let go of the log before the snapshot before it. It
        blocks, while others commit; under Trio: `await trio.to_thread.run_sync(store.snapshot)`.

        Args:
            progress: called with the bytes that are done, and all.

        Returns:
            what was made: its version, file, bytes, digest. A frozen dataclass.

        Raises:
            DiskFullError, DataError: no snapshot was made; older ones and the log are as they were. BusyError: views
            that somebody holds put publishing off, or somebody writes without a pause. ArgumentError: there is no disk.
            ClosedError.
        """
        return self._on_disk("a snapshot").snapshots.take(progress)

    def backup(
        self,
        directory: str | os.PathLike[str],
        progress: Callable[[int, int], object] | None = None,
        *,
        archive: bool = True,
        replay: bool = True,
    ) -> "BackedUp":
        """Copy the store into a new directory, while others commit, and verify the copy: it opens by itself, with all
        that was committed when this was called, or more.

        Args:
            directory: not there yet, or empty.
            progress: called with the bytes that are done, and all, of each step.
            archive: copy what was archived too, so that the copy can give back the past.
            replay: verify the copy by bringing it into memory too, which takes as much as the store has; without, by
                checksums only.

        Raises (`directory` is as it was):
            ArgumentError: it is not empty; or there is no disk. DiskFullError, DataError: it was not copied.
            ClosedError.
        """
        disk = self._on_disk("a backup")
        if disk.directory is None:
            raise ArgumentError("a backup is of a directory, and this store's storage is in memory: use its files()")
        # Imported here: most stores are never copied by their own process.
        from ecsnet.data.backup import back_up

        if not disk.read_only and disk.failure is None:
            disk.sync()

        def tell(_: str, done: int, total: int) -> None:
            if progress is not None:
                progress(done, total)

        with disk.snapshots.none_meanwhile():
            return back_up(disk.directory, directory, archive=archive, replay=replay, progress=tell)

    def restore_point(self, name: str) -> Version:
        """Give the newest version a name, which `ecsnet restore --to-point` knows it by. Waits until that is durable.

        Raises:
            ArgumentError: there is no disk. LimitExceededError: the name is empty or too long. BusyError: somebody else
            is writing, and still is after `wait_s`. DataError, DiskFullError: it was not noted. ClosedError.
        """
        disk = self._on_disk("a restore point")
        disk.demand_writable()
        self.baton.take(self.wait_s)
        try:
            disk.disk.point(name, disk.clock_ns())
            version = Version(disk.kernel.head_version)
        finally:
            self.baton.give()
        disk.sync()
        return version

    # --- inside ------------------------------------------------------------------------------------------------------

    def _on_disk(self, what: str) -> "Durable":
        self.demand_open()
        if self.disk is None:
            raise ArgumentError(f"{what} needs a disk, and this store is in memory: Store(schema, data='DIRECTORY')")
        return self.disk

    def _level_of(self, durability: str) -> int:
        level = level_of(durability)
        if self.disk is None and level > MEMORY:
            raise ArgumentError(
                f"durability={durability!r} needs a disk, and this store is in memory: Store(schema, data='DIRECTORY')"
            )
        return level

    def demand_open(self) -> None:
        """Raise ClosedError after `close`."""
        raise NotImplementedError
