"""A data directory as files: which are there, and what the newest manifest that is whole says of them.

The order of reading is that of `kernel.md`'s proof turned round, so that a directory that somebody writes to meanwhile
is read as some state that it had: HORIZON first, the log after it. What HORIZON calls durable is then in the log.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ecsnet.data import layouts
from ecsnet.data.findings import Note, Problem
from ecsnet.data.layouts import Manifest, Mark, Unreadable
from ecsnet.data.locks import holder_of
from ecsnet.errors import DataCorruptError, DataError, DataForeignError, DataMissingError

LOG: Final = "wal"
SNAPSHOTS: Final = "snap"
ARCHIVE: Final = "archive"
QUARANTINE: Final = "quarantine"
HORIZON: Final = "HORIZON"
LOCK: Final = "LOCK"
CONTROL: Final = "control"
TEMPORARY: Final = ".tmp"


@dataclass(frozen=True, slots=True)
class FileOfLog:
    """A segment's file: in the log, or in the archive."""

    number: int
    name: str
    archived: bool


class Directory:
    """A data directory that is read. Nothing in it is changed.

    `manifest` is the newest that is whole; `problems` and `notes` say what was found on the way to it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the manifests and HORIZON.

        Raises:
            DataMissingError: there is no directory, or no store in it. DataForeignError: its manifest is of a newer
            format. DataCorruptError: there are manifests, and none is whole. DataError: it cannot be read.
        """
        self.path = Path(path)
        self.name = os.fspath(path)
        self.problems: list[Problem] = []
        self.notes: list[Note] = []
        if not self.path.exists():
            raise DataMissingError(self.name, "there is no such directory")
        if not self.path.is_dir():
            raise DataMissingError(self.name, "it is a file; give the directory that holds the store")
        self.manifests: list[tuple[str, Manifest]] = []
        self.manifest = self._newest_manifest()
        self.marks: tuple[Mark, ...] = self._read_horizon()

    def _newest_manifest(self) -> Manifest:
        numbers = sorted(self._numbers("", "MANIFEST-", ""), reverse=True)
        damaged: Unreadable | None = None
        for number in numbers:
            name = layouts.manifest_name(number)
            try:
                manifest = layouts.read_manifest(self.read(name))
                if manifest.number != number:
                    raise Unreadable(32, f"the file is named {number}, and its manifest is number {manifest.number}")
                self.manifests.append((name, manifest))
            except Unreadable as error:
                if error.newer and not self.manifests:
                    raise DataForeignError(self.name, name, error.what) from None
                self.problems.append(Problem(name, error.offset, (), error.what, error.newer))
                damaged = damaged or error
        if self.manifests:
            return self.manifests[0][1]
        if damaged is not None:
            raise DataCorruptError(self.name, self.problems[0].file, damaged.offset, 0, 0, damaged.what)
        strangers = [entry for entry in self._entries("") if entry not in (LOCK, HORIZON, f"{HORIZON}.tmp")]
        if any((self.path / kind).is_dir() and self._entries(kind) for kind in (LOG, SNAPSHOTS, ARCHIVE)):
            raise DataCorruptError(self.name, "MANIFEST-*", 0, 0, 0, "the manifests are missing, the rest is there")
        if strangers:
            raise DataMissingError(self.name, f"there is no store in it, but {strangers[0]!r} and the like")
        raise DataMissingError(self.name, "the directory is empty")

    def _read_horizon(self) -> tuple[Mark, ...]:
        if not self.has(HORIZON):
            self.problems.append(Problem(HORIZON, 0, (), "the file is missing"))
            return ()
        data = self.read(HORIZON)
        found = layouts.read_horizon(data)
        marks = []
        for at, mark in zip((0, layouts.BLOCK_BYTES), found, strict=True):
            if mark is None:
                if any(data[at : at + 512]):
                    self.notes.append(Note(HORIZON, at, "this sector is torn or damaged; the other one counts"))
            elif mark.database != self.manifest.database:
                self.problems.append(Problem(HORIZON, at, (), "this sector is of another database"))
            else:
                marks.append(mark)
        if not any(found):
            self.problems.append(Problem(HORIZON, 0, (), "neither sector is whole"))
        return tuple(marks)

    @property
    def horizon(self) -> int:
        """The newest version that HORIZON says was durable; 0 where it says nothing."""
        return max((mark.durable for mark in self.marks), default=0)

    def locked_by(self) -> str | None:
        """What the LOCK file says of who has the directory open ("" where it says nothing); None when nobody has."""
        return holder_of(self.path / LOCK)

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.path / name).is_file()

    def read(self, name: str) -> bytes:
        """All bytes of a file.

        Raises:
            DataError: the operating system refuses.
        """
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise DataError(self.name, f"{name} cannot be read: {error.strerror or error}") from None

    def size(self, name: str) -> int:
        """Bytes of a file; 0 where there is none."""
        try:
            return (self.path / name).stat().st_size
        except OSError:
            return 0

    def files(self) -> list[tuple[str, int]]:
        """Every file under the directory and its size, by name, but the socket."""
        found = []
        for folder, _, names in os.walk(self.path):
            for name in names:
                full = Path(folder, name)
                if full.is_file():
                    found.append((full.relative_to(self.path).as_posix(), full.stat().st_size))
        return sorted(found)

    def log_files(self) -> list[FileOfLog]:
        """Segments by number: of the log, and those of the archive that the log does not have any more."""
        found = {
            number: FileOfLog(number, layouts.archived_name(number), True)
            for number in self._numbers(ARCHIVE, "", ".walz")
        }
        for number in self._numbers(LOG, "", ".wal"):
            found[number] = FileOfLog(number, layouts.segment_name(number), False)
        return [found[number] for number in sorted(found)]

    def snapshot_files(self) -> list[tuple[int, str]]:
        """Versions and names of the files that look like snapshots, newest first: also what no manifest names."""
        found = {}
        for folder in (ARCHIVE, SNAPSHOTS):
            for version in self._numbers(folder, "", ".snap"):
                found[version] = f"{folder}/{version:020}.snap"
        return sorted(found.items(), reverse=True)

    def _entries(self, folder: str) -> list[str]:
        try:
            return sorted(os.listdir(self.path / folder))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DataError(self.name, f"{folder or 'it'} cannot be read: {error.strerror or error}") from None

    def _numbers(self, folder: str, before: str, behind: str) -> list[int]:
        found = (layouts.number_of(name, before, behind) for name in self._entries(folder))
        return [number for number in found if number is not None]
