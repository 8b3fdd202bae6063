"""A kernel store on a disk: a log of versions, snapshots, and what is recovered from them.

Numbers in, typed errors out, as `kernel.py` does for memory. The kernel does the work (`kernel/zig/database.zig`); it
starts no thread and reads no clock, so times (unix nanoseconds) and random seeds come from above.

Who may call what: `publish`, `release` and `point` with the store's baton. `flush` and `tend` from one thread at a
time, while others commit: they block on the disk. `snapshot` and `compact` from one thread at a time, which may be
another. `written`, `durable`, `horizon` and `failed` from any thread.

Invariants:
- a version that `durable` covers survives a loss of power, one that `written` covers the death of the process;
- a version of level strict or above is shown to nobody, by `release`, before it is durable;
- after a failed write or sync nothing is acknowledged any more: `failed` is true, every call that would raises
  DataFailedError, and what is shown can still be read.
"""

import os
from collections.abc import Generator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from ecsnet._kernel.kernel import KernelStore
from ecsnet.errors import NotBuiltError
from ecsnet.schema.model import Schema

MEMORY: Final = 0
"""Answered at once, written behind: the death of the process may cost what was not flushed."""
RELAXED: Final = 1
"""Answered when written: survives the death of the process. A loss of power may cost what was not synced."""
STRICT: Final = 2
"""Answered, and shown to anybody, when synced: survives a loss of power."""
PARANOID: Final = 3
"""Answered when the HORIZON is synced too: a later loss of the log's end is told from a torn tail for certain."""

SEGMENT_BYTES: Final = 16 << 20
"""Bytes of a segment of the log, unless a directory is opened with others."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A damaged place: a file relative to the directory, a byte offset in it, the version expected there (0 where it is
    about none), the newest version that was certainly durable (0 where unknown), and what is wrong."""

    file: str
    offset: int
    version: int
    durable: int
    what: str


@dataclass(frozen=True, slots=True)
class Recovery:
    """What opening a directory found.

    `created`: there was nothing, and a new database was made. `database`: its id, 16 bytes. `new_epoch`: versions that
    somebody saw may be gone, so `epoch` is another than before; `ancestors` are the epochs before it, each with its
    last version, oldest first. `version` and `tick` are where the store goes on; `snapshot_version` is where it began
    to replay `records` of the log. `torn_bytes`: an end of the log that was never acknowledged; it stays as it is until
    the first commit, which copies it to quarantine. `damage`: what was found damaged and could be done without.
    """

    created: bool
    database: bytes
    epoch: int
    new_epoch: bool
    ancestors: tuple[tuple[int, int], ...]
    version: int
    tick: int
    snapshot_version: int
    records: int
    torn_bytes: int
    read_only: bool
    damage: tuple[Damage, ...]
    wal_bytes: int


@dataclass(frozen=True, slots=True)
class DiskStatistics:
    """Counts since the directory was opened, as of the call. `queued_bytes` waits to be written; `wal_bytes` is what
    the segments that are still needed hold; `since_snapshot_bytes` what was appended since the newest snapshot began.
    """

    written: int
    durable: int
    horizon: int
    records: int
    record_bytes: int
    written_bytes: int
    queued_bytes: int
    writes: int
    syncs: int
    segments: int
    wal_bytes: int
    since_snapshot_bytes: int
    snapshots: int
    snapshot_bytes: int
    checksum_path: str


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A snapshot that is on the disk, verified and named by a manifest. `file` is relative to the directory; `digest`
    that of the replicated tables, 16 bytes."""

    version: int
    tick: int
    time_ns: int
    size_bytes: int
    file: str
    digest: bytes


class Storage:
    """Where the files are: a directory of the operating system, or memory that can lose power.

    A storage is closed after the `Disk` that uses it.
    """

    @classmethod
    def os(cls, root: str | os.PathLike[str]) -> Self:
        """A directory, which is made with the first file. Nothing is touched yet."""
        raise NotBuiltError("a storage in the file system")

    @classmethod
    def memory(cls, seed: int = 0) -> Self:
        """Empty memory. `seed` decides what is left in `crash`."""
        raise NotBuiltError("a storage in memory")

    @property
    def name(self) -> str:
        """What messages call it: the directory as it was given, or "memory"."""
        raise NotBuiltError("a storage")

    def close(self) -> None:
        """Give its memory and files back. Again is harmless."""
        raise NotBuiltError("a storage")

    def crash(self, variant_seed: int) -> "Storage":
        """What a loss of power right now leaves, in one of the ways it may go: each unsynced sector old, new, torn or
        garbage, each unsynced change of a directory done or not. Of a storage in memory only; it stays as it is."""
        raise NotBuiltError("a loss of power")

    def kill(self) -> "Storage":
        """What the death of the process right now leaves: all that was written. Of a storage in memory only."""
        raise NotBuiltError("a copy of a storage")

    def fail(self, nth: int, kind: str) -> None:
        """Let the n-th operation from now (1 is the next) go wrong, in memory only: "io", "full", "short" (half of a
        write is done, then EIO) or "sync" (a sync fails, and what was unsynced is lost though later ones succeed)."""
        raise NotBuiltError("faults of a storage")

    def files(self) -> dict[str, bytes]:
        """Every file and its bytes, of a storage in memory."""
        raise NotBuiltError("the files of a storage")

    def put(self, path: str, data: bytes) -> None:
        """Replace a file, synced, of a storage in memory: how a test damages one."""
        raise NotBuiltError("the files of a storage")


class Disk:
    """The disk side of one kernel store, from opening to closing."""

    recovery: Recovery
    """What opening found."""

    def __init__(
        self,
        kernel: KernelStore,
        storage: Storage,
        *,
        schema: Schema,
        level: int,
        seed: bytes,
        now_ns: int,
        read_only: bool = False,
        segment_bytes: int = SEGMENT_BYTES,
        archive: bool = False,
        create: bool = True,
    ) -> None:
        """Open what is in `storage`, or create it, lock it, and recover it into `kernel`.

        Args:
            kernel: nothing was committed to it but its version 0, which is published. Afterwards it is at
                `recovery.version`, published; after an error it is not to be used any more.
            level: the least durability of every version (MEMORY to PARANOID).
            seed: 32 random bytes or more, of which ids and salts are made.
            read_only: write nothing, and open what is intact of a damaged log. It locks the directory all the same.
            segment_bytes: 64 KiB at least, a multiple of 4096.
            archive: `compact` hands segments over instead of removing them.
            create: whether an empty place becomes a new database.

        Raises (all is closed then, and nothing was changed):
            DataLockedError, DataMissingError, DataForeignError, DataCorruptError, DiskFullError, DataError;
            SchemaMismatchError: the data is of another schema.
        """
        raise NotBuiltError("a store on a disk")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()

    def publish(self, tick: int, now_ns: int, level: int) -> int | None:
        """Make a version of what was committed since the last, and queue its record; in place of `kernel.publish`.

        With the baton. Below STRICT it is shown at once; else `release` shows it once it is durable. Nothing is written
        here: `flush` does that. None when there was nothing to make a version of.
        """
        raise NotBuiltError("a store on a disk")

    def release(self) -> int:
        """Show what is durable, and make up for what was put off. With the baton. Returns what readers see."""
        raise NotBuiltError("a store on a disk")

    def flush(self, level: int, now_ns: int) -> None:
        """Write all that is queued, and sync it where `level` or any of it asks for that. Blocks; with or without the
        baton. `release` then shows what became durable.

        Raises:
            DataFailedError: a write or sync failed, now or before.
        """
        raise NotBuiltError("a store on a disk")

    def tend(self, now_ns: int) -> None:
        """Housekeeping: the HORIZON, the next segment. Every 10 ms or so while there is work; like `flush`."""
        raise NotBuiltError("a store on a disk")

    @property
    def written(self) -> int:
        """The newest version that the operating system has: it survives the death of the process."""
        raise NotBuiltError("a store on a disk")

    @property
    def durable(self) -> int:
        """The newest version that was synced: it survives a loss of power."""
        raise NotBuiltError("a store on a disk")

    @property
    def horizon(self) -> int:
        """The newest version that the HORIZON, synced, says to be durable."""
        raise NotBuiltError("a store on a disk")

    @property
    def failed(self) -> bool:
        """A write or sync failed: the store is read-only."""
        raise NotBuiltError("a store on a disk")

    def statistics(self) -> DiskStatistics:
        """Counts as of now. From any thread."""
        raise NotBuiltError("a store on a disk")

    def point(self, name: str, now_ns: int) -> None:
        """Queue a restore point: a name for the newest version. With the baton; `flush` makes it durable."""
        raise NotBuiltError("restore points")

    def note_digest(self, version: int, digest: bytes, now_ns: int) -> None:
        """Queue a note of a published version's digest (16 bytes), which `ecsnet verify` compares. With the baton."""
        raise NotBuiltError("digest notes")

    def snapshot(self, now_ns: int) -> Generator[tuple[int, int], None, SnapshotInfo]:
        """Write a snapshot of the newest published version, step by step: yields bytes done and in total, and returns
        what was made. From any thread, while commits go on; it takes the baton for a moment when it begins, and waits
        for it. A generator that is closed early leaves nothing behind.

        Raises:
            DiskFullError, DataError: nothing refers to what was written of it; older snapshots are as they were.
        """
        raise NotBuiltError("snapshots")

    def compact(self, now_ns: int) -> tuple[int, ...]:
        """Remove the segments of the log that the older of the two newest snapshots has made needless, and older
        snapshots. With `archive` none is removed: the numbers of those to archive are returned, oldest first, and
        `archived` removes each."""
        raise NotBuiltError("compaction")

    def archived(self, number: int) -> None:
        """Remove a segment that `compact` named, whose archived copy was verified."""
        raise NotBuiltError("compaction")

    def close(self, now_ns: int) -> None:
        """Flush, close the log cleanly, unlock. Held versions are shown by `release` before. Again is harmless.

        Raises:
            DataFailedError: it could not be flushed; all is closed and unlocked nevertheless.
        """
        raise NotBuiltError("a store on a disk")

    def abandon(self) -> None:
        """Let go of everything without writing, as a crash would. Again is harmless, and after `close` too."""
        raise NotBuiltError("a store on a disk")


def stored_schema(storage: Storage) -> str:
    """The canonical text of the schema of the data in `storage`, whether or not somebody has it open.

    Raises:
        DataMissingError, DataForeignError, DataCorruptError, DataError
    """
    raise NotBuiltError("the schema of a directory")


def checksum(data: bytes) -> bytes:
    """The checksum of the disk formats: 16 bytes."""
    raise NotBuiltError("the checksum")


def checksum_path() -> str:
    """How it is computed on this machine: "aes" or "portable"."""
    raise NotBuiltError("the checksum")


def load_snapshot(kernel: KernelStore, path: str | os.PathLike[str]) -> SnapshotInfo:
    """Load a snapshot's file into a fresh store (as `Disk` takes it), for `replay` to go on from and `finish` to end.

    Raises:
        DataCorruptError, DataForeignError, DataError: the store is not to be used any more.
    """
    raise NotBuiltError("snapshots")


def replay(kernel: KernelStore, version: int, tick: int, body: bytes) -> None:
    """Replay the body of one version's record: the one after what the store has. Takes the baton for the call.

    Raises:
        RemoteProtocolError: the body is malformed or does not fit; nothing of it was applied.
    """
    raise NotBuiltError("replaying the log")


def finish(kernel: KernelStore) -> None:
    """After the last `replay`: publish what is there as its version, and let the store be written to."""
    raise NotBuiltError("replaying the log")
