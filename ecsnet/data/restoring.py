"""A moment back from the past: another directory, in an epoch of its own, begins with it. The source is only read."""

import os
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ecsnet._kernel import disk
from ecsnet._kernel.disk import Storage
from ecsnet.data.directory import Directory
from ecsnet.data.findings import Progress, no_progress
from ecsnet.data.replaying import rebuild
from ecsnet.data.timeline import Moment, Timeline, timeline
from ecsnet.errors import ArgumentError, DataUnreachableError

_TRIES: Final = 3
_AGAIN_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Restored:
    """What was made: `digest` is that of the replicated tables at `version`, `lost` how many acknowledged versions
    after it were given up because the source is damaged."""

    path: str
    version: int
    tick: int
    time_ns: int
    epoch: int
    digest: bytes
    size: int
    files: int
    lost: int

    def as_json(self) -> dict[str, object]:
        """As the commands print it."""
        return {
            "path": self.path,
            "epoch": self.epoch,
            "version": self.version,
            "tick": self.tick,
            "digest": self.digest.hex(),
            "bytes": self.size,
            "files": self.files,
            "lost": self.lost,
            "problems": [],
        }


def restore(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    version: int | None = None,
    tick: int | None = None,
    time_ns: int | None = None,
    point: str | None = None,
    accept_loss: bool = False,
    progress: Progress = no_progress,
) -> Restored:
    """Make `target` a store that begins with a moment of `source`: a directory, a backup, or one that a node has open.

    Of `version`, `tick` (the last version of it or before it), `time_ns` (unix; likewise) and `point` (a restore point)
    one may be given; without, it is the newest version.

    Args:
        target: not there yet, or empty.
        accept_loss: go on although acknowledged versions of the source are damaged; those after the moment are not in
            `target`. The source keeps what it has.

    Raises (there is no store in `target` then):
        ArgumentError: more than one moment, or `target` is not empty. UnknownNameError: no such restore point.
        DataUnreachableError: the moment cannot be had.
        DataCorruptError: acknowledged versions are damaged, and `accept_loss` was not given.
        DataMissingError, DataForeignError, DiskFullError, DataError.
    """
    if sum(one is not None for one in (version, tick, time_ns, point)) > 1:
        raise ArgumentError("give one of version, tick, time and point")
    into = Path(target)
    _need_empty(into)
    directory, known = _look(source, progress)
    lost = _lost(known)
    if lost and not accept_loss:
        raise next(one for one in known.problems if one.versions).error(directory.name)
    moment = _moment(known, version, tick, time_ns, point)
    rebuilt = rebuild(directory, version=moment.version, progress=progress)
    try:
        if rebuilt.version != moment.version:
            why = str(rebuilt.problems[0]) if rebuilt.problems else "the log ends before it"
            wanted = f"version {moment.version}"
            raise DataUnreachableError(directory.name, wanted, known.oldest, rebuilt.version, why)
        ancestors = [(one.epoch, one.version) for one in known.ancestors if one.version < moment.version]
        ancestors.append((known.epoch_of(moment.version), moment.version))
        epoch = _new_epoch(known)
        made = not into.exists()
        try:
            with Storage.os(into) as storage:
                disk.found(
                    rebuilt.kernel,
                    storage,
                    database=directory.manifest.database,
                    epoch=epoch,
                    ancestors=ancestors,
                    now_ns=time.time_ns(),
                )
        except BaseException:
            if made:
                shutil.rmtree(into, ignore_errors=True)
            raise
        digest = rebuilt.digest()
    finally:
        rebuilt.close()
    sizes = [size for _, size in Directory(into).files()]
    return Restored(
        os.fspath(target), moment.version, rebuilt.tick, rebuilt.time_ns, epoch, digest, sum(sizes), len(sizes), lost
    )


def _need_empty(into: Path) -> None:
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise ArgumentError(f"{into} is not empty; a restore makes a new directory, and changes none that is there")


def _look(source: str | os.PathLike[str], progress: Progress) -> tuple[Directory, Timeline]:
    """The moments of the source. One that somebody writes to is looked at again before damage is believed."""
    for attempt in range(1, _TRIES + 1):
        directory = Directory(source)
        known = timeline(directory, progress)
        if not known.problems or attempt == _TRIES or directory.locked_by() is None:
            return directory, known
        time.sleep(_AGAIN_S)
    raise AssertionError


def _lost(known: Timeline) -> int:
    """How many versions were acknowledged and cannot be had, after the newest that can."""
    newest = max((one.versions[-1] for one in known.problems if one.versions), default=0)
    return max(0, newest - known.newest)


def _moment(known: Timeline, version: int | None, tick: int | None, time_ns: int | None, point: str | None) -> Moment:
    if version is not None:
        return known.at_version(version)
    if tick is not None:
        return known.at_tick(tick)
    if time_ns is not None:
        if time_ns > time.time_ns():
            raise DataUnreachableError(
                known.directory.name, "that time", known.oldest, known.newest, "it is in the future"
            )
        return known.at_time(time_ns)
    if point is not None:
        return known.at_point(point)
    if not known.moments:
        why = known.problems[0].what if known.problems else "there is no snapshot and no log"
        raise DataUnreachableError(known.directory.name, "the newest version", 0, 0, why)
    return known.moments[-1]


def _new_epoch(known: Timeline) -> int:
    taken = {0, known.epoch, *(one.epoch for one in known.ancestors)}
    while True:
        epoch = secrets.randbits(32)
        if epoch not in taken:
            return epoch
