"""What changes a directory or must not meet who does, and so is asked of the node that has it open: snapshots, backups.

Where nobody has it open, it is done here, with the directory's own lock held.
"""

import os
import time
from pathlib import Path
from typing import Any

from ecsnet._kernel import disk
from ecsnet._kernel.disk import STRICT, Disk, Storage
from ecsnet.data import backup, control
from ecsnet.data.archive import archive_segment
from ecsnet.data.directory import ARCHIVE, LOCK, Directory
from ecsnet.data.findings import Progress, no_progress
from ecsnet.data.locks import held
from ecsnet.data.replaying import fresh, schema_of
from ecsnet.errors import DataLockedError


def back_up(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    archive: bool = True,
    replay: bool = True,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """`backup.back_up`, by the node that has the directory open where there is one: it flushes before, and drops
    nothing meanwhile. The answer is that of `ecsnet backup --json`.

    Raises:
        DataLockedError: somebody has it open who cannot be asked. What `backup.back_up` raises.
    """
    directory = Directory(source)
    if directory.locked_by() is not None:
        _need_answer(directory)
        path = os.fspath(Path(target).absolute())
        request = {"do": "backup", "path": path, "archive": archive, "replay": replay}
        return control.ask(source, request, progress)
    with held(directory.path / LOCK, directory.name):
        return backup.back_up(source, target, archive=archive, replay=replay, progress=progress).as_json()


def take_snapshot(source: str | os.PathLike[str], *, progress: Progress = no_progress) -> dict[str, Any]:
    """Write a snapshot of the newest version and compact, in the node that has the directory open or here.

    Raises:
        DataLockedError: somebody has it open who cannot be asked. DataMissingError, DataForeignError, DataCorruptError,
        DiskFullError, DataError: the snapshots that are there stay.
    """
    directory = Directory(source)
    if directory.locked_by() is not None:
        _need_answer(directory)
        return control.ask(source, {"do": "snapshot"}, progress)
    schema = schema_of(directory)
    kernel = fresh(schema)
    archived = (directory.path / ARCHIVE).is_dir()
    with Storage.os(directory.path) as storage:
        try:
            opened = Disk(
                kernel,
                storage,
                schema=schema,
                level=STRICT,
                seed=os.urandom(32),
                now_ns=time.time_ns(),
                archive=archived,
                create=False,
            )
            try:
                info = _finish(opened.snapshot(time.time_ns()), progress)
                for number in opened.compact():
                    archive_segment(directory.path, number)
                    opened.archived(number)
                epoch = opened.recovery.epoch
                opened.close(time.time_ns())
            finally:
                opened.abandon()
        finally:
            kernel.close()
    return snapshot_json(info, epoch)


def snapshot_json(info: disk.SnapshotInfo, epoch: int) -> dict[str, Any]:
    """The answer of `ecsnet snapshot --json`."""
    return {
        "epoch": epoch,
        "version": info.version,
        "tick": info.tick,
        "digest": info.digest.hex(),
        "bytes": info.size_bytes,
        "files": 1,
        "file": info.file,
    }


def _finish(run: Any, progress: Progress) -> disk.SnapshotInfo:
    while True:
        try:
            done, total = next(run)
        except StopIteration as end:
            info: disk.SnapshotInfo = end.value
            return info
        progress("snapshot", done, total)


def _need_answer(directory: Directory) -> None:
    if not control.is_answered(directory.path):
        raise DataLockedError(directory.name, directory.locked_by() or "")
