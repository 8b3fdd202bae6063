"""Is a directory whole? Every file that counts, read to its last byte, against every checksum, seal and digest.

What is checked, in this order: manifests and HORIZON, snapshots chunk by chunk, the log with what was archived of it,
and then, unless it is left out, that the log *means* what it says: it is replayed, and digests are compared, those of
snapshots and those that the log notes.

A directory that somebody has open is written to meanwhile. What looks damaged there is looked at again before it is
believed: a record may have been half written when it was read.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from ecsnet.data import layouts
from ecsnet.data.directory import ARCHIVE, HORIZON, LOG, QUARANTINE, SNAPSHOTS, TEMPORARY, Directory
from ecsnet.data.findings import Note, Problem, Progress, no_progress
from ecsnet.data.layouts import Unreadable
from ecsnet.data.replaying import Rebuilt, rebuild, schema_of, usable_snapshots
from ecsnet.data.snapshots import read_snapshot, verify_chunks
from ecsnet.data.wal import Log, Record
from ecsnet.errors import DataError, SchemaError

_TRIES: Final = 3
_AGAIN_S: Final = 0.05


@dataclass(slots=True)
class Verified:
    """What was found. `problems` is empty exactly when all is well.

    `version`, `tick` and `epoch` are where the directory opens (with problems: what is intact), `digest` that of the
    replicated tables there, or of the newest snapshot where nothing was replayed; None where there is neither.
    """

    directory: Directory
    epoch: int = 0
    version: int = 0
    tick: int = 0
    time_ns: int = 0
    digest: bytes | None = None
    digest_version: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    records: int = 0
    digests_compared: int = 0
    files: int = 0
    size: int = 0
    log: Log | None = None
    problems: list[Problem] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """As the commands print it."""
        return {
            "epoch": self.epoch,
            "version": self.version,
            "tick": self.tick,
            "digest": self.digest.hex() if self.digest is not None else None,
            "digest_version": self.digest_version,
            "bytes": self.size,
            "files": self.files,
            "problems": [problem.as_json() for problem in self.problems],
            "notes": [str(note) for note in self.notes],
        }


def verify(path: str, *, replay: bool = True, progress: Progress = no_progress) -> Verified:
    """Read everything in a data directory and say what is wrong with it. Nothing is changed.

    Args:
        replay: bring the newest version into memory too, and compare digests: it takes as much memory as the store.

    Raises:
        DataMissingError, DataForeignError, DataCorruptError: there is no manifest to begin with.
        DataError: the operating system refuses.
    """
    for attempt in range(1, _TRIES + 1):
        directory = Directory(path)
        found = _verify(directory, replay, progress)
        if not found.problems or attempt == _TRIES or directory.locked_by() is None:
            return found
        time.sleep(_AGAIN_S)
    raise AssertionError


def survey(directory: Directory, *, replay: bool = True, progress: Progress = no_progress) -> Verified:
    """What is in a directory, without reading what the newest version does not need. Nothing is changed."""
    found = _begin(directory)
    snapshots = usable_snapshots(directory)
    newest = snapshots[0][0].header if snapshots else None
    log = Log(directory, after=newest.version if newest else None, progress=progress)
    _read_log(found, log)
    if newest is not None and not log.segments:
        found.tick, found.time_ns = newest.tick, newest.time_ns
    _digest(found, replay and not found.problems, progress)
    return found


def _begin(directory: Directory) -> Verified:
    files = directory.files()
    found = Verified(directory, files=len(files), size=sum(size for _, size in files))
    found.problems += directory.problems
    found.notes += directory.notes
    return found


def _verify(directory: Directory, replay: bool, progress: Progress) -> Verified:
    found = _begin(directory)
    found.problems += _older_manifests(directory)
    found.problems += _snapshots(directory, found.notes, progress)
    found.problems += _copies(directory)
    log = Log(directory, progress=progress)
    _read_log(found, log)
    found.problems += _bases(directory, log)
    _strangers(found)
    if replay:
        found.problems += _older_digests(found, log, progress)
    _digest(found, replay, progress)
    return found


def _older_manifests(directory: Directory) -> Iterator[Problem]:
    newest = directory.manifest
    for name, manifest in directory.manifests[1:]:
        if manifest.database != newest.database:
            yield Problem(name, 16, (), "the manifest is of another database than the newest one")


def _snapshots(directory: Directory, notes: list[Note], progress: Progress) -> Iterator[Problem]:
    """Those that the manifest names, to the last byte; others are told of."""
    manifest = directory.manifest
    named = {one.version: one for one in manifest.snapshots}
    there = dict(directory.snapshot_files())
    for version, one in named.items():
        name = layouts.snapshot_name(version)
        if version not in there:
            yield Problem(name, 0, (version,), "the snapshot is missing")
            continue
        try:
            snapshot = read_snapshot(directory.path / there[version])
            header = snapshot.header
            if snapshot.size != one.size or snapshot.root.sum != one.root_sum or header.version != version:
                raise Unreadable(0, "it is not the snapshot that the manifest names")
            if header.database != manifest.database or header.fingerprint != manifest.fingerprint:
                raise Unreadable(16, "the snapshot is of another database, or of another schema")
            for done in verify_chunks(snapshot):
                progress("snapshot", done, snapshot.size)
        except Unreadable as error:
            yield Problem(name, error.offset, (version,), error.what, error.newer)
    for version, name in there.items():
        if version not in named:
            notes.append(Note(name, 0, "a snapshot that no manifest names any more"))


def _copies(directory: Directory) -> Iterator[Problem]:
    """Archived segments whose originals are still in the log; the others are read as part of the log."""
    from ecsnet.data.archive import read_archived

    originals = {file.number for file in directory.log_files() if not file.archived}
    for number in sorted(originals):
        name = layouts.archived_name(number)
        if directory.has(name):
            try:
                copied = read_archived(directory.read(name)).data
                if not directory.read(layouts.segment_name(number)).startswith(copied):
                    raise Unreadable(0, "the archived segment is not the segment that is still in the log")
            except Unreadable as error:
                yield Problem(name, error.offset, (), error.what, error.newer)


def _read_log(found: Verified, log: Log) -> None:
    """Read the log to its end; what it found is noted."""
    found.log = log
    for record in log.records():
        head = record.head
        if head.kind == layouts.VERSION:
            found.tick, found.time_ns = head.tick, head.time_ns
        found.records += 1
    found.version = log.version
    found.epoch = log.epoch
    found.problems += log.problems
    found.notes += log.torn


def _bases(directory: Directory, log: Log) -> Iterator[Problem]:
    """Whether the log goes on from the oldest snapshot that is named, or from the beginning."""
    manifest = directory.manifest
    base = min((one.version for one in manifest.snapshots), default=manifest.origin)
    if log.segments and log.first > base + 1:
        yield Problem(log.segments[0].name, 48, (base + 1, log.first - 1), "versions before this segment are missing")
    numbers = [file.number for file in directory.log_files()]
    for before, after in pairwise(numbers):
        if after != before + 1 and after <= manifest.oldest_segment:
            name = layouts.archived_name(before + 1)
            yield Problem(name, 0, (), f"the archive lacks {after - before - 1} segments from here on")


def _strangers(found: Verified) -> None:
    """Files that are none of a store's, and what a crash left behind."""
    known = (f"{LOG}/", f"{SNAPSHOTS}/", f"{ARCHIVE}/", f"{QUARANTINE}/", "MANIFEST-", "LOCK", HORIZON)
    for name, size in found.directory.files():
        if name.endswith(TEMPORARY):
            found.notes.append(Note(name, 0, f"{size} bytes that were not finished; the next opening removes them"))
        elif name.startswith(f"{QUARANTINE}/"):
            found.notes.append(Note(name, 0, f"{size} bytes of an end that was never acknowledged, kept aside"))
        elif not name.startswith(known):
            found.notes.append(Note(name, 0, "not a file of a store"))


def _older_digests(found: Verified, log: Log, progress: Progress) -> Iterator[Problem]:
    """Replay up to every version whose digest is on the disk and compare, the newest of them last.

    One pass each: a store is compared where it was published. Snapshots are few and notes are one a second at most, so
    of the notes only the newest is taken.
    """
    directory = found.directory
    expected: dict[int, tuple[bytes, str, int]] = {}
    note = _newest_note(directory, log)
    if note is not None:
        version, digest, record = note
        expected[version] = (digest, record.file, record.offset + layouts.RECORD_HEADER_BYTES)
    snapshots = usable_snapshots(directory)
    for snapshot, name in snapshots:
        expected.setdefault(snapshot.header.version, (snapshot.header.digest, name, 80))
    for version, (digest, name, offset) in sorted(expected.items()):
        if version > found.version or _damaged(found, name):
            continue
        try:
            rebuilt = rebuild(directory, version=version, progress=progress)
        except (DataError, SchemaError) as error:
            yield Problem(name, offset, (version,), f"version {version} cannot be had back: {error}")
            continue
        try:
            if rebuilt.version != version:
                continue
            found.digests_compared += 1
            if rebuilt.digest() != digest:
                what = f"version {version} has digest {rebuilt.digest().hex()}, and {digest.hex()} was noted"
                yield Problem(name, offset, (version,), what)
        finally:
            rebuilt.close()


def _newest_note(directory: Directory, log: Log) -> tuple[int, bytes, Record] | None:
    again = Log(directory, after=log.first - 1)
    newest = None
    for record in again.records():
        if record.head.kind == layouts.DIGEST and len(record.body) == 24:
            newest = (int.from_bytes(record.body[:8], "little"), record.body[8:], record)
    return newest


def _damaged(found: Verified, name: str) -> bool:
    return any(problem.file == name for problem in found.problems)


def _digest(found: Verified, replay: bool, progress: Progress) -> None:
    """The digest and the rows of the newest version, or of the newest snapshot without replaying."""
    directory = found.directory
    snapshots = usable_snapshots(directory)
    if not replay:
        if snapshots:
            header = snapshots[0][0].header
            found.digest, found.digest_version = header.digest, header.version
            names = {table.id: table.name for table in schema_of(directory).tables}
            found.rows = {names.get(number, str(number)): n for number, n in snapshots[0][0].rows().items()}
        return
    try:
        rebuilt: Rebuilt = rebuild(directory, version=found.version, progress=progress)
    except (DataError, SchemaError) as error:
        if not found.problems:
            found.problems.append(Problem(directory.manifests[0][0], 0, (), f"it cannot be replayed: {error}"))
        return
    try:
        found.digest, found.digest_version, found.rows = rebuilt.digest(), rebuilt.version, rebuilt.rows()
        known = {(one.file, one.offset) for one in found.problems}
        found.problems += [one for one in rebuilt.problems if (one.file, one.offset) not in known]
    finally:
        rebuilt.close()
