"""Where a benchmark writes, and what that disk does by itself: the limit that everything durable is measured against.

Invariant: a folder in memory is refused, since a sync that costs nothing says nothing.
"""

import mmap
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Final

from ecsnet.errors import ArgumentError

__all__ = ["RawDisk", "bench_folder", "synced"]

_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_RAW_BYTES: Final = 16 << 20


def synced(file: int) -> None:
    """The cheapest call of this system that makes a file's content durable."""
    if sys.platform == "darwin":
        import fcntl

        # `fsync` leaves the bytes in the drive's own memory there.
        fcntl.fcntl(file, fcntl.F_FULLFSYNC)
    elif sys.platform == "win32":
        os.fsync(file)
    else:
        os.fdatasync(file)


@contextmanager
def bench_folder(where: Path | None) -> Iterator[Path]:
    """A fresh folder in `where` (default: the working directory), removed at the end.

    Raises:
        ArgumentError: no such folder, or one in memory.
    """
    parent = (Path.cwd() if where is None else where).resolve()
    if not parent.is_dir():
        raise ArgumentError(f"--dir {parent}: there is no such folder")
    kind = _file_system(parent)
    if kind in _IN_MEMORY:
        raise ArgumentError(f"--dir {parent} is on a {kind}, in memory: name a folder on the disk to be measured")
    folder = Path(tempfile.mkdtemp(prefix="ecsnet-bench-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _file_system(path: Path) -> str | None:
    """The type of the file system; None where the system does not say."""
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    best, kind = -1, None
    for line in lines:
        _, mount, found, *_ = line.split(" ")
        at = Path(mount.replace("\\040", " "))
        if (path == at or at in path.parents) and len(at.parts) > best:
            best, kind = len(at.parts), found
    return kind


class RawDisk:
    """Bytes written and synced, with nothing around them."""

    name = "fdatasync"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Written before it is measured, as a log prepares its segments: a sync has no new blocks to note down then.
        self._file = os.open(folder / "raw", os.O_RDWR | os.O_CREAT, 0o600)
        os.pwrite(self._file, bytes(_RAW_BYTES), 0)
        os.fsync(self._file)
        self._at = 0
        self._page = os.urandom(mmap.PAGESIZE)

    def close(self) -> None:
        os.close(self._file)

    def commit(self) -> float:
        """Seconds for one page, written and synced."""
        if self._at >= _RAW_BYTES:
            self._at = 0
        started = perf_counter()
        os.pwrite(self._file, self._page, self._at)
        synced(self._file)
        seconds = perf_counter() - started
        self._at += len(self._page)
        return seconds

    def write(self, content: "bytes | memoryview") -> float:
        """Seconds for so many bytes in one new file, written in runs of 1 MiB and synced."""
        path = self._folder / "raw-sequential"
        view = memoryview(content)
        started = perf_counter()
        file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            for at in range(0, len(view), 1 << 20):
                os.write(file, view[at : at + (1 << 20)])
            synced(file)
        finally:
            os.close(file)
        seconds = perf_counter() - started
        path.unlink()
        return seconds
