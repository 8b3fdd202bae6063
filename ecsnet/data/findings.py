"""What reading a data directory finds: where something is damaged, and what is worth saying besides."""

from collections.abc import Callable
from dataclasses import dataclass

from ecsnet.errors import DataCorruptError, DataError, DataForeignError

Progress = Callable[[str, int, int], None]
"""Told during long work: what is being done, bytes done, bytes in total. On the thread that does it."""


def no_progress(doing: str, done: int, total: int) -> None:
    """For who does not want to know."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it was written.

    `file` is relative to the directory. `versions` are the first and the last version that are lost or in doubt by it;
    empty where it is about none. `newer`: whole, and of a format that this program does not know.
    """

    file: str
    offset: int
    versions: tuple[int, ...]
    what: str
    newer: bool = False

    def as_json(self) -> dict[str, object]:
        """As the commands print it."""
        return {"file": self.file, "offset": self.offset, "versions": list(self.versions), "what": self.what}

    def __str__(self) -> str:
        return f"{self.file}, byte {self.offset}: {self.what}"

    def error(self, path: str) -> DataError:
        """The same as an error about the directory `path`."""
        if self.newer:
            return DataForeignError(path, self.file, self.what)
        first, last = (self.versions[0], self.versions[-1]) if self.versions else (0, 0)
        return DataCorruptError(path, self.file, self.offset, first, last, self.what)


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is well, and worth a line."""

    file: str
    offset: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}, byte {self.offset}: {self.what}"
