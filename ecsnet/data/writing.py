"""Files that are there whole or not at all, also after a loss of power."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

from ecsnet.data.layouts import Unreadable
from ecsnet.errors import DataCorruptError, DataError, DiskFullError

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def failed(path: str | os.PathLike[str], error: OSError, doing: str) -> DataError:
    """What an error of the operating system means here."""
    if error.errno in _FULL:
        return DiskFullError(os.fspath(path))
    return DataError(os.fspath(path), f"{doing}: {error.strerror or error}")


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable, where the system knows that."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Make a directory and those above it; fine if it is there.

    Raises:
        DiskFullError, DataError: it could not be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise failed(path, error, "the directory cannot be made") from None


def replace_file(target: Path, data: bytes, *, verify: Callable[[bytes], None] | None = None) -> None:
    """Write `data` beside `target`, sync it, read it back, give it its name, and sync that.

    `verify` is given what was read back, and raises `Unreadable` where it does not like it.

    Raises:
        DiskFullError, DataError: `target` is as it was, and nothing else is left.
    """
    make_directory(target.parent)
    temporary = target.with_name(f"{target.name}.tmp")
    try:
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            back = temporary.read_bytes()
            if back != data:
                raise Unreadable(0, "what was read back is not what was written")
            if verify is not None:
                verify(back)
            temporary.replace(target)
            sync_directory(target.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise failed(target, error, "it cannot be written") from None
    except Unreadable as error:
        raise DataCorruptError(os.fspath(target.parent), target.name, error.offset, 0, 0, error.what) from None
