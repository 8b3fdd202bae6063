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

import ctypes
import os
import threading
import time
import weakref
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Final, Self

from ecsnet._kernel import abi, library, redo
from ecsnet._kernel.kernel import KernelStore
from ecsnet._kernel.storage import Storage
from ecsnet.errors import (
    ArgumentError,
    BusyError,
    ClosedError,
    DataCorruptError,
    DataForeignError,
    EcsnetError,
    LimitExceededError,
    SchemaMismatchError,
)
from ecsnet.schema.model import Schema

__all__ = [
    "MEMORY",
    "PARANOID",
    "RELAXED",
    "SEGMENT_BYTES",
    "STRICT",
    "Damage",
    "Disk",
    "DiskStatistics",
    "Recovery",
    "SnapshotInfo",
    "Storage",
    "checksum",
    "checksum_path",
    "finish",
    "load_snapshot",
    "replay",
    "stored_schema",
]

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
SEGMENT_BYTES_MIN: Final = 64 << 10
SEGMENT_BYTES_MAX: Final = 1 << 30

POINT_BYTES_MAX: Final = 200
"""Bytes of a restore point's name: what still names a file."""

# Flags of `DiskIn` and `RecoveryOut`, and what `ecs_disk_mark` is asked for (`abi_disk.zig`).
_READ_ONLY: Final = 1
_CREATE: Final = 2
_ARCHIVE: Final = 4
_CREATED: Final = 1
_NEW_EPOCH: Final = 2
_IS_READ_ONLY: Final = 4
_WRITTEN, _DURABLE, _HORIZON, _FAILED = range(4)
_SNAPSHOT_DONE: Final = 1
_SNAPSHOT_WAITS: Final = 2
_PATHS: Final = ("portable", "aes")
_COMPACT_MAX: Final = 4096
"""Segments that one `compact` names at most."""
_OF_STORE: Final = frozenset(
    abi.STATUS[name] for name in ("Busy", "NoBaton", "InTransaction", "BadArgument", "ReadOnly")
)
"""What the store refused, not the disk."""
_BEGIN_TRIES: Final = 2000
_BEGIN_WAIT_S: Final = 0.001
"""How often, and how long in between, a snapshot looks for a moment between two versions."""


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
            seed: 32 random bytes, of which ids and salts are made.
            read_only: write nothing, and open what is intact of a damaged log. It locks the directory all the same.
            segment_bytes: 64 KiB at least, a multiple of 4096.
            archive: `compact` hands segments over instead of removing them.
            create: whether an empty place becomes a new database.

        Raises (all is closed then, and nothing was changed):
            DataLockedError, DataMissingError, DataForeignError, DataCorruptError, DiskFullError, DataError;
            SchemaMismatchError: the data is of another schema.
        """
        if not MEMORY <= level <= PARANOID:
            raise ArgumentError(f"expected a level from {MEMORY} to {PARANOID}, found {level}")
        if len(seed) < 32:
            raise ArgumentError(f"expected 32 random bytes, found {len(seed)}")
        if segment_bytes % 4096 or not SEGMENT_BYTES_MIN <= segment_bytes <= SEGMENT_BYTES_MAX:
            raise ArgumentError(
                f"expected segments of {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX} bytes, a multiple of 4096, found "
                f"{segment_bytes}"
            )
        self._library = library.load()
        self._fast = kernel._fast
        self._kernel = kernel
        self._storage = storage
        self._pointer = ctypes.c_void_p()
        # Who flushes, and who goes on with the snapshot that is being taken, or tidies. Closing waits for both.
        self._lock = threading.Lock()
        self._stepping = threading.Lock()
        self._taking: ctypes.c_void_p | None = None
        self._version, self._published = ctypes.c_uint64(), ctypes.c_uint64()
        text = schema.canonical.encode()
        given = abi.DiskIn(
            now_ns=now_ns,
            schema=ctypes.cast(ctypes.c_char_p(text), ctypes.c_void_p).value,
            schema_bytes=len(text),
            segment_bytes=segment_bytes,
            level=level,
            flags=_READ_ONLY * read_only | _CREATE * create | _ARCHIVE * archive,
        )
        given.seed[:] = seed[:32]
        given.fingerprint[:] = schema.fingerprint
        out = abi.RecoveryOut()
        kernel.take_baton()
        try:
            status = self._library.ecs_disk_open(kernel._pointer, storage.pointer, given, out, self._pointer)
        finally:
            kernel.release_baton()
        if status != 0:
            raise self._open_error(status, out, schema)
        self.recovery = _recovery(out)
        # Not by a reference to this disk: the store would be in a cycle, and freed late.
        kernel._failures.of_disk = partial(_refusal, weakref.ref(self), storage)
        kernel.head_version = kernel.published_version = self.recovery.version

    def _open_error(self, status: int, out: abi.RecoveryOut, schema: Schema) -> EcsnetError:
        codes = abi.STATUS
        storage = self._storage
        damages = _damages(out)
        if status == codes["Corrupt"] and damages:
            at = damages[-1]
            return DataCorruptError(storage.name, at.file, at.offset, at.version, at.durable, at.what)
        if status == codes["Foreign"] and damages:
            at = damages[-1]
            return DataForeignError(storage.name, at.file, at.what)
        if status == codes["SchemaDiffers"]:
            theirs = bytes(out.fingerprint).hex()
            return SchemaMismatchError(schema.fingerprint_hex, theirs, f"{storage.name} holds data of another schema")
        return storage.error(status)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()

    def __del__(self) -> None:
        # After an error in the constructor there may be no attribute at all.
        if getattr(self, "_pointer", None):
            self.abandon()

    def _open(self) -> ctypes.c_void_p:
        if self._pointer.value is None:
            raise ClosedError("this disk was closed")
        return self._pointer

    def _check(self, status: int) -> None:
        if status < 0:
            raise self._error(status)

    def _error(self, status: int) -> EcsnetError:
        if status in _OF_STORE:
            return self._kernel.failed(status)
        return self._storage.error(status, self.durable)

    def publish(self, tick: int, now_ns: int, level: int) -> int | None:
        """Make a version of what was committed since the last, and queue its record; in place of `kernel.publish`.

        With the baton. Below STRICT it is shown at once; else `release` shows it once it is durable. Nothing is written
        here: `flush` does that. None when there was nothing to make a version of.
        """
        made = self._fast.ecs_disk_publish(self._open(), tick, now_ns, level, self._version, self._published)
        if made < 0:
            raise self._error(made)
        kernel = self._kernel
        kernel.head_version, kernel.published_version = self._version.value, self._published.value
        if made:
            kernel.tell_version()
        return kernel.head_version if made else None

    def release(self) -> int:
        """Show what is durable, and make up for what was put off. With the baton. Returns what readers see."""
        self._check(self._fast.ecs_disk_release(self._open(), self._published))
        kernel = self._kernel
        kernel.published_version = self._published.value
        # Who follows changes is told of a version when it is safe.
        kernel.tell_version()
        return kernel.published_version

    def flush(self, level: int, now_ns: int) -> None:
        """Write all that is queued, and sync it where `level` or any of it asks for that. Blocks; with or without the
        baton. `release` then shows what became durable.

        Raises:
            DataFailedError: a write or sync failed, now or before.
        """
        with self._lock:
            self._check(self._library.ecs_disk_flush(self._open(), level, now_ns))

    def tend(self, now_ns: int) -> None:
        """Housekeeping: the HORIZON, the next segment. Every 10 ms or so while there is work; like `flush`."""
        with self._lock:
            self._check(self._library.ecs_disk_tend(self._open(), now_ns))

    @property
    def written(self) -> int:
        """The newest version that the operating system has: it survives the death of the process."""
        version: int = self._fast.ecs_disk_mark(self._open(), _WRITTEN)
        return version

    @property
    def durable(self) -> int:
        """The newest version that was synced: it survives a loss of power."""
        version: int = self._fast.ecs_disk_mark(self._open(), _DURABLE)
        return version

    @property
    def horizon(self) -> int:
        """The newest version that the HORIZON, synced, says to be durable."""
        version: int = self._fast.ecs_disk_mark(self._open(), _HORIZON)
        return version

    @property
    def failed(self) -> bool:
        """A write or sync failed: the store is read-only."""
        return bool(self._fast.ecs_disk_mark(self._open(), _FAILED))

    def statistics(self) -> DiskStatistics:
        """Counts as of now. From any thread."""
        out = abi.DiskStatistics()
        self._fast.ecs_disk_statistics(self._open(), out)
        counts = {name: getattr(out, name) for name, *_ in abi.DiskStatistics._fields_}
        return DiskStatistics(**counts, checksum_path=checksum_path())

    def point(self, name: str, now_ns: int) -> None:
        """Queue a restore point: a name for the newest version. With the baton; `flush` makes it durable."""
        raw = name.encode()
        if not 0 < len(raw) <= POINT_BYTES_MAX:
            raise LimitExceededError("bytes of a restore point's name", POINT_BYTES_MAX, len(raw))
        self._check(self._library.ecs_disk_point(self._open(), raw, len(raw), now_ns))

    def note_digest(self, version: int, digest: bytes, now_ns: int) -> None:
        """Queue a note of a published version's digest (16 bytes), which `ecsnet verify` compares. With the baton."""
        if len(digest) != 16:
            raise ArgumentError(f"expected a digest of 16 bytes, found {len(digest)}")
        self._check(self._library.ecs_disk_note_digest(self._open(), version, digest, now_ns))

    def snapshot(self, now_ns: int) -> Generator[tuple[int, int], None, SnapshotInfo]:
        """Write a snapshot of the newest version, step by step: yields bytes done and in total, and returns what was
        made. From any thread, while commits go on; it takes the baton for a moment when it begins, and waits for it.
        A generator that is closed early leaves nothing behind.

        Raises:
            BusyError: views that somebody holds put publication off, or somebody writes without a pause.
            DiskFullError, DataFailedError, DataError: nothing refers to what was written of it; older snapshots are as
                they were.
        """
        self._begin_snapshot(now_ns)
        try:
            out = abi.SnapshotOut()
            while True:
                with self._stepping:
                    if self._taking is None:
                        raise ClosedError("this disk was closed, and the snapshot was given up")
                    status = self._library.ecs_snapshot_step(self._taking, out)
                    self._check(status)
                    if status == _SNAPSHOT_DONE:
                        return _snapshot_info(out)
                if status == _SNAPSHOT_WAITS:
                    # It may have begun with a version that only memory has: the log has to know it first.
                    self.flush(STRICT, now_ns)
                yield out.done, out.total
        finally:
            self._end_snapshot()

    def _end_snapshot(self) -> None:
        with self._stepping:
            self._give_up_snapshot()

    def _give_up_snapshot(self) -> None:
        taking, self._taking = self._taking, None
        if taking is not None:
            self._library.ecs_snapshot_end(taking)

    def _begin_snapshot(self, now_ns: int) -> None:
        for attempt in range(_BEGIN_TRIES):
            if attempt > 0:
                time.sleep(_BEGIN_WAIT_S)
                # A version that is held keeps those after it waiting: once it is durable, the newest has its turn.
                self.flush(STRICT, now_ns)
            try:
                self._kernel.take_baton()
            except BusyError:
                continue
            try:
                if attempt > 0:
                    self.release()
                if self._began_snapshot(now_ns):
                    return
            finally:
                self._kernel.release_baton()
        raise BusyError(
            "a snapshot begins between two versions, and there was no such moment: somebody writes without a pause, or "
            "views that are held put publication off; nothing changed, try again"
        )

    def _began_snapshot(self, now_ns: int) -> bool:
        """Whether this is a moment between two versions, and so the snapshot began."""
        with self._stepping:
            if self._taking is not None:
                raise BusyError("a snapshot is being taken already; nothing changed")
            taking = ctypes.c_void_p()
            status = self._fast.ecs_snapshot_begin(self._open(), now_ns, taking)
            if status == abi.STATUS["Busy"]:
                return False
            self._check(status)
            self._taking = taking
            return True

    def compact(self) -> tuple[int, ...]:
        """Remove the segments of the log that the older of the two newest snapshots has made needless, and older
        snapshots. With `archive` no segment is removed: the numbers of those to archive are returned, oldest first, and
        `archived` removes each."""
        numbers = (ctypes.c_uint64 * _COMPACT_MAX)()
        with self._stepping:
            count = self._library.ecs_disk_compact(self._open(), numbers, _COMPACT_MAX)
            self._check(count)
        return tuple(numbers[:count])

    def archived(self, number: int) -> None:
        """Remove a segment that `compact` named, whose archived copy was verified."""
        with self._stepping:
            self._check(self._library.ecs_disk_archived(self._open(), number))

    def close(self, now_ns: int) -> None:
        """Flush, close the log cleanly, unlock. Held versions are shown by `release` before. Again is harmless.

        Raises:
            DataFailedError: it could not be flushed; all is closed and unlocked nevertheless.
        """
        with self._lock:
            if self._pointer.value is None:
                return
            status = self._library.ecs_disk_close(self._pointer, now_ns)
            error = self._error(status) if status < 0 else None
            self._drop()
        if error is not None:
            raise error

    def abandon(self) -> None:
        """Let go of everything without writing, as a crash would. Again is harmless, and after `close` too."""
        with self._lock:
            if self._pointer.value is not None:
                self._drop()

    def _drop(self) -> None:
        # Until it is gone: no snapshot may begin between.
        with self._stepping:
            self._give_up_snapshot()
            # In a cycle that is collected the store may have gone first. Nobody is to find it while it goes.
            pointer, self._pointer = self._pointer, ctypes.c_void_p()
            self._library.ecs_disk_destroy(pointer, self._kernel.gone)


def _refusal(disk: "weakref.ref[Disk]", storage: Storage, status: int) -> EcsnetError:
    """Why the disk refused a commit."""
    there = disk()
    if there is None or there._pointer.value is None:
        return ClosedError("the disk of this store was closed; nothing changed")
    return there._error(status)


def _damages(out: abi.RecoveryOut) -> tuple[Damage, ...]:
    found = (abi.DamageOut * out.damage_count).from_address(out.damages) if out.damage_count else ()
    return tuple(Damage(_text(at.file), at.offset, at.version, at.durable, _text(at.what)) for at in found)


def _recovery(out: abi.RecoveryOut) -> Recovery:
    ancestors = (abi.AncestorOut * out.ancestor_count).from_address(out.ancestors) if out.ancestor_count else ()
    return Recovery(
        created=bool(out.flags & _CREATED),
        database=bytes(out.database),
        epoch=out.epoch,
        new_epoch=bool(out.flags & _NEW_EPOCH),
        ancestors=tuple((one.epoch, one.version) for one in ancestors),
        version=out.version,
        tick=out.tick,
        snapshot_version=out.snapshot_version,
        records=out.records,
        torn_bytes=out.torn_bytes,
        read_only=bool(out.flags & _IS_READ_ONLY),
        damage=_damages(out),
        wal_bytes=out.wal_bytes,
    )


def _text(out: abi.TextOut) -> str:
    return ctypes.string_at(out.address, out.length).decode() if out.length else ""


def _snapshot_info(out: abi.SnapshotOut) -> SnapshotInfo:
    return SnapshotInfo(out.version, out.tick, out.time_ns, out.bytes, _text(out.name), bytes(out.digest))


def stored_schema(storage: Storage) -> str:
    """The canonical text of the schema of the data in `storage`, whether or not somebody has it open.

    Raises:
        DataMissingError, DataForeignError, DataCorruptError, DataError
    """
    out = abi.TextOut()
    status = library.load().ecs_disk_schema(storage.pointer, out)
    if status == abi.STATUS["Corrupt"]:
        raise DataCorruptError(storage.name, "MANIFEST-*", 0, 0, 0, "no manifest is intact")
    if status < 0:
        raise storage.error(status)
    return _text(out)


def checksum(data: bytes) -> bytes:
    """The checksum of the disk formats: 16 bytes."""
    out = ctypes.create_string_buffer(16)
    library.load().ecs_checksum(data, len(data), out)
    return out.raw


def checksum_path() -> str:
    """How it is computed on this machine: "aes" or "portable"."""
    return _PATHS[library.load().ecs_checksum_path()]


def load_snapshot(kernel: KernelStore, path: str | os.PathLike[str]) -> SnapshotInfo:
    """Load a snapshot's file into a fresh store (as `Disk` takes it), for `replay` to go on from and `finish` to end.

    Raises:
        DataCorruptError, DataForeignError, DataError: the store is not to be used any more.
    """
    folder, name = os.path.split(os.fspath(path))
    storage = Storage.os(folder or ".")
    out, problem = abi.SnapshotOut(), abi.DamageOut()
    raw = os.fsencode(name)
    kernel.take_baton()
    try:
        status = kernel._library.ecs_snapshot_load(kernel._pointer, storage.pointer, raw, len(raw), out, problem)
        if status == abi.STATUS["Corrupt"]:
            raise DataCorruptError(folder, name, problem.offset, 0, 0, _text(problem.what))
        if status == abi.STATUS["Foreign"]:
            raise DataForeignError(folder, name, _text(problem.what))
        if status < 0:
            raise storage.error(status)
        info = _snapshot_info(out)
    finally:
        kernel.release_baton()
        storage.close()
    kernel.head_version = info.version
    return info


def replay(kernel: KernelStore, version: int, tick: int, body: bytes) -> None:
    """Replay the body of one version's record: the one after what the store has. Takes the baton for the call.

    Raises:
        EcsnetError: the body is malformed, does not fit, or is not the next version's; nothing of it was applied.
    """
    kernel.take_baton()
    try:
        redo.replay(kernel, version, tick, body)
    finally:
        kernel.release_baton()
    kernel.head_version = version


def finish(kernel: KernelStore) -> None:
    """After the last `replay`: publish what is there as its version. Takes the baton for the call."""
    kernel.take_baton()
    try:
        redo.finish(kernel)
    finally:
        kernel.release_baton()


def found(
    kernel: KernelStore,
    storage: Storage,
    *,
    database: bytes,
    epoch: int,
    ancestors: Sequence[tuple[int, int]],
    now_ns: int,
) -> int:
    """Begin a database in `storage` with what `kernel` has published: where a restore ends. Returns the bytes of its
    first snapshot.

    Args:
        kernel: as `finish` leaves it, nothing committed since.
        database: the id of the database it goes on from.
        epoch: new, above 0.
        ancestors: the epochs before it with their last versions, oldest first; the last ends with this version.

    Raises (there is no database in `storage` then):
        ArgumentError: it has one already. DataLockedError, DiskFullError, DataError.
    """
    schema = kernel.schema
    text = schema.canonical.encode()
    pairs = (ctypes.c_uint64 * (2 * len(ancestors)))(*(number for one in ancestors for number in one))
    size = ctypes.c_uint64()
    kernel.take_baton()
    try:
        status = kernel._library.ecs_disk_found(
            *(kernel._pointer, storage.pointer, database, epoch, ctypes.addressof(pairs), len(ancestors)),
            *(schema.fingerprint, text, len(text), now_ns, size),
        )
    finally:
        kernel.release_baton()
    if status == abi.STATUS["Exists"]:
        raise ArgumentError(f"{storage.name} has a database already; nothing was changed")
    if status in _OF_STORE:
        raise kernel.failed(status)
    if status < 0:
        raise storage.error(status)
    return size.value
