"""Where the files of a store lie: a directory of the operating system, or memory that can lose power.

The kernel reads and writes them (`kernel/zig/storage.zig`); here they are made, and what went wrong is put into words.
"""

import ctypes
import os as system
from types import TracebackType
from typing import Final, Self

from ecsnet._kernel import abi, library
from ecsnet.errors import (
    ArgumentError,
    DataError,
    DataFailedError,
    DataForeignError,
    DataLockedError,
    DataMissingError,
    DiskFullError,
    EcsnetError,
    InternalError,
    StorageError,
)

__all__ = ["Storage"]

_OPERATIONS: Final = (
    "",
    "opening",
    "asking for the size of",
    "reading",
    "writing",
    "syncing",
    "making room for",
    "renaming",
    "removing",
    "making the directory",
    "syncing the directory",
    "listing",
    "locking",
)
"""What failed, by `storage.Operation`."""

_FAULTS: Final = ("io", "full", "short", "sync")


class Storage:
    """Where the files are: a directory of the operating system, or memory that can lose power.

    A storage is closed after the `Disk` that uses it.
    """

    def __init__(self, pointer: ctypes.c_void_p, name: str) -> None:
        self._library = library.load()
        self._pointer = pointer
        self.name = name
        """What messages call it: the directory as it was given, or "memory"."""

    @classmethod
    def os(cls, root: "str | system.PathLike[str]") -> Self:
        """A directory, which is made with the first file. Nothing is touched yet."""
        name = system.fspath(root)
        path = system.fsencode(name)
        if not path or b"\0" in path:
            raise ArgumentError(f"{name!r} names no directory")
        pointer = ctypes.c_void_p()
        status = library.load().ecs_storage_os(path, len(path), system.getpid(), pointer)
        if status != 0:
            raise DataError(name, "it names no directory, or the current directory is gone")
        return cls(pointer, name)

    @classmethod
    def memory(cls) -> Self:
        """Empty memory."""
        pointer = ctypes.c_void_p()
        status = library.load().ecs_storage_memory(pointer)
        if status != 0:
            raise StorageError("out of memory")
        return cls(pointer, "memory")

    @property
    def pointer(self) -> ctypes.c_void_p:
        """The kernel's storage."""
        assert self._pointer.value is not None, "this storage was closed"
        return self._pointer

    def close(self) -> None:
        """Give its memory and files back. Again is harmless."""
        if self._pointer.value is not None:
            self._library.ecs_storage_destroy(self._pointer)
            self._pointer = ctypes.c_void_p()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def crash(self, variant_seed: int) -> "Storage":
        """What a loss of power right now leaves, in one of the ways it may go: each unsynced sector old, new, torn or
        garbage, each unsynced change of a directory done or not. Of a storage in memory only; it stays as it is."""
        return self._image(variant_seed & (1 << 64) - 1, False)

    def kill(self) -> "Storage":
        """What the death of the process right now leaves: all that was written. Of a storage in memory only."""
        return self._image(0, True)

    def _image(self, variant: int, killed: bool) -> "Storage":
        pointer = ctypes.c_void_p()
        self._check(self._library.ecs_storage_image(self.pointer, variant, killed, pointer))
        return Storage(pointer, "memory")

    def fail(self, nth: int, kind: str) -> None:
        """Let the n-th operation from now (1 is the next) go wrong, in memory only: "io", "full", "short" (half of a
        write is done, then EIO) or "sync" (a sync fails, and what was unsynced is lost though later ones succeed)."""
        if kind not in _FAULTS:
            raise ArgumentError(f"expected one of {_FAULTS}, found {kind!r}")
        self._check(self._library.ecs_storage_fail(self.pointer, nth, _FAULTS.index(kind)))

    def files(self) -> dict[str, bytes]:
        """Every file and its bytes, of a storage in memory."""
        out = abi.TextOut()
        self._check(self._library.ecs_storage_list(self.pointer, out))
        names = ctypes.string_at(out.address, out.length).decode().split("\n")[:-1]
        return {name: self.read(name) for name in names}

    def read(self, path: str) -> bytes:
        """The bytes of one file. Raises DataMissingError: there is none of this name."""
        out = abi.TextOut()
        raw = path.encode()
        self._check(self._library.ecs_storage_read(self.pointer, raw, len(raw), out))
        return ctypes.string_at(out.address, out.length)

    def put(self, path: str, data: bytes) -> None:
        """Replace a file, synced, of a storage in memory: how a test damages one."""
        raw = path.encode()
        self._check(self._library.ecs_storage_put(self.pointer, raw, len(raw), data, len(data)))

    # --- errors -------------------------------------------------------------------------------------------------------

    def _check(self, status: int) -> None:
        if status < 0:
            raise self.error(status)

    def cause(self) -> str:
        """What the last operation that failed was, for a message."""
        out = abi.FailureOut()
        self._library.ecs_storage_failure(self.pointer, out)
        if out.operation == 0:
            return ""
        what = _OPERATIONS[out.operation] if out.operation < len(_OPERATIONS) else "an operation on"
        path = system.fsdecode(ctypes.string_at(out.path.address, out.path.length))
        why = f": {system.strerror(out.errno)}" if out.errno else ""
        return f"{what} {path or 'the directory'} failed{why}"

    def error(self, status: int, durable: int = 0) -> EcsnetError:
        """What a status below zero means, of a call on this storage or on a database in it."""
        codes = abi.STATUS
        if status == codes["OutOfMemory"]:
            return StorageError("out of memory; nothing changed")
        if status == codes["DiskFull"]:
            return DiskFullError(self.name)
        if status == codes["NotFound"]:
            return DataMissingError(self.name, self.cause() or "there is nothing")
        if status == codes["Locked"]:
            return DataLockedError(self.name, self._holder())
        if status == codes["Failed"]:
            return DataFailedError(self.name, durable, self.cause())
        if status == codes["Foreign"]:
            return DataForeignError(self.name, "", "it is not of this database")
        if status in (codes["Io"], codes["Denied"], codes["Exists"]):
            return DataError(self.name, self.cause() or "the operating system refused")
        return InternalError(f"the kernel refused a call on {self.name} (status {status})")

    def _holder(self) -> str:
        """Who has the lock, as its file says."""
        try:
            return self.read("LOCK").decode("ascii", "replace").strip()
        except EcsnetError:
            return ""
