"""Whether somebody has a data directory open, without taking it from them for longer than the question."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ecsnet.errors import DataLockedError

if sys.platform != "win32":
    import fcntl


def holder_of(lock: Path) -> str | None:
    """What the file says of who holds it ("" where it says nothing); None when nobody does. `lock` need not exist.

    For a moment the lock is taken, shared, to find out: an opening at that very moment is refused, and can be tried
    again. On Windows, where the standard library has no such question, the answer is always None.
    """
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return os.read(descriptor, 256).decode(errors="replace").strip()
    else:
        return None
    finally:
        os.close(descriptor)


@contextmanager
def held(lock: Path, name: str) -> Iterator[None]:
    """Keep everybody from opening the directory meanwhile. Nothing is written: whoever is refused is told the last
    holder's number. On Windows nobody is kept out.

    Raises:
        DataLockedError: somebody has it open.
    """
    if sys.platform == "win32":
        yield
        return
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        # Never opened, as a copy is: there is nobody to keep out who would not make the file first.
        yield
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataLockedError(name, os.read(descriptor, 256).decode(errors="replace").strip()) from None
        yield
    finally:
        os.close(descriptor)
