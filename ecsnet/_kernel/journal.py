"""What transactions changed, as the kernel records it: chunks of records, one chunk per version.

The kernel owns a chunk until it is taken and copied here; from then on it is Python's `bytes`, and numpy arrays over it
cost nothing. The layout of a record is described at the head of `kernel/zig/journal.zig`.

Invariant: chunks come in the order of their versions, each once, whichever thread takes them.
"""

import ctypes
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ecsnet._kernel import abi
from ecsnet._kernel.texts import objects, unpack
from ecsnet.schema.model import Field

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore

__all__ = ["Chunk", "TableChanges", "records", "take", "watch"]

_RECORD: Final = struct.Struct("<QII")
_TABLE: Final = struct.Struct("<HHIII")
_FIELD: Final = struct.Struct("<HHI")


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one version's transactions changed; `lost` says that not all of it could be kept."""

    version: int
    tick: int
    records: bytes
    lost: bool


@dataclass(frozen=True, slots=True)
class TableChanges:
    """What one transaction came to in one table: inserted rows first, then updated, then deleted ones.

    `columns` has by field id a cell of each row: as the transaction left it, for a deleted row as it was before.
    `changed` has by field id one bool for each updated row. Arrays are read-only, over the chunk's bytes; those of
    strings are of `str`, and their own.
    """

    table_id: int
    inserted: int
    updated: int
    deleted: int
    keys: NDArray[np.uint64]
    columns: dict[int, NDArray[Any]]
    changed: dict[int, NDArray[np.bool_]]


def watch(kernel: "KernelStore", table_ids: Sequence[int], bytes_max: int) -> None:
    """Record exactly these tables from the next transaction on. Needs the baton, outside a transaction."""
    ids = np.array([*table_ids, 0], np.uint16)
    kernel._check(kernel._fast.ecs_journal_watch(kernel._pointer, ids.ctypes.data, len(table_ids), bytes_max))


def take(kernel: "KernelStore") -> list[Chunk]:
    """The chunks of all versions made since the last call, oldest first. From any thread, one at a time."""
    out = abi.ChunkOut()
    library, chunks = kernel._fast, []
    chunk = library.ecs_journal_take(kernel._pointer, out)
    while chunk is not None:
        chunks.append(Chunk(out.version, out.tick, ctypes.string_at(out.records, out.length), bool(out.lost)))
        chunk = library.ecs_journal_next(chunk, out)
    return chunks


def records(chunk: Chunk, fields: dict[int, dict[int, Field]]) -> Iterator[TableChanges]:
    """The changes in a chunk, by transaction in commit order, and within one by table id.

    Args:
        fields: by table id and field id. Tables that are not in it are passed over.
    """
    data, at = chunk.records, 0
    while at < len(data):
        length, tables, _ = _RECORD.unpack_from(data, at)
        inside = at + _RECORD.size
        for _ in range(tables):
            changes, inside = _table(data, inside, fields)
            if changes is not None:
                yield changes
        at += length


def _table(data: bytes, at: int, fields: dict[int, dict[int, Field]]) -> tuple[TableChanges | None, int]:
    table_id, field_count, inserted, updated, deleted = _TABLE.unpack_from(data, at)
    at += _TABLE.size
    rows = inserted + updated + deleted
    wanted = fields.get(table_id)
    keys = np.frombuffer(data, np.uint64, rows, at)
    at += rows * 8
    words = (updated + 63) // 64
    columns: dict[int, NDArray[Any]] = {}
    changed: dict[int, NDArray[np.bool_]] = {}
    for _ in range(field_count):
        field_id, _, width = _FIELD.unpack_from(data, at)
        at += _FIELD.size
        field = None if wanted is None else wanted[field_id]
        if width == 0:
            ends = np.frombuffer(data, np.uint64, rows, at)
            at += rows * 8
            bytes_ = int(ends[-1])
            if field is not None:
                columns[field_id] = objects(unpack(data[at : at + bytes_], ends))
        else:
            bytes_ = rows * width
            if field is not None:
                cells = np.frombuffer(data, field.dtype, bytes_ // field.dtype.itemsize, at)
                columns[field_id] = cells.reshape((rows, *field.shape))
        at += -(-bytes_ // 8) * 8
        if field is not None:
            bits = np.frombuffer(data, np.uint8, words * 8, at)
            changed[field_id] = np.unpackbits(bits, count=updated, bitorder="little").view(np.bool_)
        at += words * 8
    if wanted is None:
        return None, at
    return TableChanges(table_id, inserted, updated, deleted, keys, columns, changed), at
