"""Snapshots from outside: what is in one, and whether every byte that counts is as it was written."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ecsnet._kernel.disk import checksum
from ecsnet.data import layouts
from ecsnet.data.layouts import Entry, SnapshotHeader, SnapshotRoot, Unreadable


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot whose header, root and index are whole and belong together."""

    path: Path
    size: int
    header: SnapshotHeader
    root: SnapshotRoot
    entries: tuple[Entry, ...]

    def rows(self) -> dict[int, int]:
        """Rows of each table that has any, by table id."""
        found: dict[int, int] = {}
        for entry in self.entries:
            if entry.kind == layouts.KEYS:
                found[entry.table] = found.get(entry.table, 0) + entry.rows
        return found


def read_snapshot(path: Path) -> Snapshot:
    """Read what a snapshot says of itself, without its chunks.

    Raises:
        Unreadable: it is damaged, or newer.
    """
    try:
        with path.open("rb") as file:
            return _read(path, file)
    except OSError as error:
        raise Unreadable(0, f"it cannot be read: {error.strerror or error}") from None


def _read(path: Path, file: BinaryIO) -> Snapshot:
    size = file.seek(0, 2)
    if size < 2 * layouts.BLOCK_BYTES:
        raise Unreadable(0, f"the snapshot is cut off after {size} bytes")
    file.seek(0)
    header = layouts.read_snapshot_header(file.read(layouts.BLOCK_BYTES))
    root_at = size - layouts.BLOCK_BYTES
    file.seek(root_at)
    try:
        root = layouts.read_snapshot_root(file.read(layouts.BLOCK_BYTES))
    except Unreadable as error:
        raise Unreadable(root_at + error.offset, error.what, error.newer) from None
    if root.header_sum != header.sum or root.version != header.version:
        raise Unreadable(root_at, "the snapshot's root is of another header")
    if not layouts.BLOCK_BYTES <= root.index_offset <= root_at:
        raise Unreadable(root_at + 8, "the snapshot's index cannot be where its root says")
    file.seek(root.index_offset)
    entries = layouts.read_index(file.read(min(root.entries * 56, root_at - root.index_offset)), root)
    return Snapshot(path, size, header, root, entries)


def verify_chunks(snapshot: Snapshot) -> Iterator[int]:
    """Read every chunk against its checksum; yields the bytes that are done.

    Raises:
        Unreadable: a chunk is damaged, or rows are missing between two of them.
    """
    counted: dict[tuple[int, int, int], int] = {}
    done = 0
    try:
        with snapshot.path.open("rb") as file:
            for entry in snapshot.entries:
                file.seek(entry.offset)
                content = file.read(entry.size)
                if len(content) < entry.size or checksum(content) != entry.sum:
                    raise Unreadable(entry.offset, f"a chunk of table {entry.table} fails its checksum")
                column = (entry.kind, entry.table, entry.field)
                if counted.get(column, 0) != entry.first:
                    raise Unreadable(entry.offset, f"rows of table {entry.table} are missing before this chunk")
                counted[column] = entry.first + entry.rows
                done += entry.size
                yield done
    except OSError as error:
        raise Unreadable(0, f"it cannot be read: {error.strerror or error}") from None
    rows = snapshot.rows()
    for (kind, table, field), n in counted.items():
        if kind in (layouts.CELLS, layouts.STRINGS) and n != rows.get(table, 0):
            raise Unreadable(
                snapshot.root.index_offset,
                f"field {field} of table {table} has {n} cells for {rows.get(table, 0)} rows",
            )
