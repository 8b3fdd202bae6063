"""A copy of a directory that opens by itself, also of one that a node writes to meanwhile.

The files are copied in the order that keeps the copy true: HORIZON as it was read first, then what never changes
(snapshots, archive), then the log, segment by segment and each only up to its last valid record, and at last the
manifest. So the copy's HORIZON never promises more than its log has, and half a copy has no manifest: nobody takes it
for a store.
"""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from ecsnet.data import layouts
from ecsnet.data.directory import ARCHIVE, HORIZON, LOG, Directory
from ecsnet.data.findings import Progress, no_progress
from ecsnet.data.verification import Verified, verify
from ecsnet.data.wal import Log
from ecsnet.data.writing import failed, make_directory, sync_directory
from ecsnet.errors import ArgumentError, DataError

_TRIES: Final = 3
_AGAIN_S: Final = 0.05
_COPY_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What was copied, and what verifying the copy found: no problem, or it would not have been returned."""

    path: str
    verified: Verified

    def as_json(self) -> dict[str, object]:
        """As the commands print it."""
        return {"path": self.path, **self.verified.as_json()}


class _Changed(Exception):
    """The source changed under the copy: a segment that was compacted away, a snapshot that was replaced."""


def back_up(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    archive: bool = True,
    replay: bool = True,
    progress: Progress = no_progress,
) -> BackedUp:
    """Copy what is needed to open `source`, and what was archived, to `target`, and verify the copy.

    Args:
        target: not there yet, or empty.
        archive: copy the archive too, so that the copy can give back the past.
        replay: verify by bringing the copy into memory; without, by checksums only.

    Raises (`target` is removed again):
        ArgumentError: `target` is not empty. DataCorruptError: the source is damaged. DiskFullError: no room.
        DataMissingError, DataForeignError, DataError.
    """
    into = Path(target)
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise ArgumentError(f"{into} is not empty; a backup makes a new directory, and changes none that is there")
    try:
        if into.resolve().is_relative_to(Path(source).resolve()):
            raise ArgumentError(f"{into} is inside of {os.fspath(source)}; a store's directory has its own files only")
        for attempt in range(1, _TRIES + 1):
            try:
                _copy(Directory(source), into, archive, progress)
                break
            except _Changed as error:
                _clear(into)
                if attempt == _TRIES:
                    raise DataError(os.fspath(source), f"it changes too fast to be copied: {error}") from None
                time.sleep(_AGAIN_S)
        verified = verify(os.fspath(into), replay=replay, progress=progress)
        if verified.problems:
            raise verified.problems[0].error(os.fspath(target))
    except OSError as error:
        _clear(into)
        raise failed(into, error, "the copy cannot be written") from None
    except BaseException:
        _clear(into)
        raise
    return BackedUp(os.fspath(target), verified)


def _clear(into: Path) -> None:
    """Take back what was copied; the directory itself too, as it is empty then."""
    shutil.rmtree(into, ignore_errors=True)


def _copy(directory: Directory, into: Path, archive: bool, progress: Progress) -> None:
    manifest_name, manifest = directory.manifests[0]
    total = sum(size for name, size in directory.files() if archive or not name.startswith(f"{ARCHIVE}/"))
    done = 0
    make_directory(into / LOG)
    # Before the log is read: what it calls durable is in the log then.
    if directory.has(HORIZON):
        _write(into / HORIZON, directory.read(HORIZON))
    for one in manifest.snapshots:
        name = layouts.snapshot_name(one.version)
        done += _copy_file(directory.path / name, into / name)
        progress("copying", done, total)
    if archive and (directory.path / ARCHIVE).is_dir():
        for path in sorted((directory.path / ARCHIVE).iterdir()):
            if path.suffix in (".walz", ".snap"):
                done += _copy_file(path, into / ARCHIVE / path.name)
                progress("copying", done, total)
    log = Log(directory)
    log.drain()
    if log.problems:
        if directory.locked_by() is not None:
            raise _Changed(str(log.problems[0]))
        raise log.problems[0].error(directory.name)
    for segment in log.segments:
        if not segment.archived:
            with _opened(directory.path / segment.name) as file:
                data = file.read(segment.end)
            _write(into / segment.name, data, size=max(segment.size, segment.end))
            done += segment.size
            progress("copying", done, total)
    _write(into / manifest_name, directory.read(manifest_name))
    for folder in {path.parent for path in into.rglob("*")}:
        sync_directory(folder)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise _Changed(f"{path.name} is gone") from None


def _copy_file(source: Path, target: Path) -> int:
    make_directory(target.parent)
    with _opened(source) as reading, target.open("wb") as writing:
        shutil.copyfileobj(reading, writing, _COPY_BYTES)
        writing.flush()
        os.fsync(writing.fileno())
        return writing.tell()


def _write(target: Path, data: bytes, *, size: int = 0) -> None:
    make_directory(target.parent)
    with target.open("wb") as file:
        file.write(data)
        if size > len(data):
            file.truncate(size)
        file.flush()
        os.fsync(file.fileno())
