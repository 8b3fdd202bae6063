"""Archived segments: a segment without its padding, compressed, and whole again byte for byte up to where it ended.

    0 "ECSWALZ1" | 8 u32 format | 12 u32 zero | 16 [16] database | 32 u64 number | 40 u64 end | 48 u64 file bytes |
    56 u64 first version | 64 u64 last version | 72 u32 epoch | 76 u32 stripped bytes | 80 u32 compressed bytes |
    84 zeros | 96 [16] checksum of the compressed bytes | 112 [16] checksum of 0..112 | 128 one zstd frame

`end` is where the segment's last record ends, `file bytes` how large the file was. Stripped: the first 4096 bytes (the
header), then each record's head and body, one after another. The zeros between them are put back from the lengths that
the heads give, so checksums, parents and seals stay true.

Invariants:
- an archived segment is written beside, synced, read back and compared before it has its name; only then may the
  original go, and that is the caller's doing;
- only a segment that its successor seals is archived: its end is known, and durable.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zstandard

from ecsnet._kernel.disk import checksum
from ecsnet.data import layouts
from ecsnet.data.layouts import Unreadable
from ecsnet.data.writing import replace_file
from ecsnet.errors import DataCorruptError

_MAGIC: Final = b"ECSWALZ1"
_HEAD = struct.Struct("<8sII16sQQQQQIII12s16s16s")
_LEVEL: Final = 1
_STRIPPED_BYTES_MAX: Final = (1 << 31) - 1
assert _HEAD.size == 128


@dataclass(frozen=True, slots=True)
class Archived:
    """A segment out of the archive. `data` is what it was up to its end."""

    database: bytes
    number: int
    file_bytes: int
    first_version: int
    last_version: int
    epoch: int
    data: bytes


def strip(data: bytes, end: int) -> tuple[bytes, int]:
    """A segment that is valid up to `end` without padding, and its last version.

    Raises:
        Unreadable: it is not valid up to there.
    """
    header = layouts.read_segment_header(data)
    if header is None:
        raise Unreadable(0, "the segment was never begun")
    parts = [data[: layouts.BLOCK_BYTES]]
    version, at = header.first_version - 1, layouts.RECORDS_AT
    while at < end:
        head = layouts.read_record_header(data, at)
        layouts.read_body(data, at, head)
        parts.append(data[at : at + layouts.RECORD_HEADER_BYTES + head.body_bytes])
        version = head.version
        at += head.span
    if at != end:
        raise Unreadable(at, f"the segment's last record does not end at byte {end}")
    return b"".join(parts), version


def restore_padding(stripped: bytes) -> bytes:
    """The segment up to its end.

    Raises:
        Unreadable: it is not what `strip` makes.
    """
    parts = [stripped[: layouts.BLOCK_BYTES]]
    at = layouts.BLOCK_BYTES
    while at < len(stripped):
        head = layouts.read_record_header(stripped, at)
        length = layouts.RECORD_HEADER_BYTES + head.body_bytes
        parts += (stripped[at : at + length], bytes(head.span - length))
        at += length
    if at != len(stripped):
        raise Unreadable(at, "the archived segment is cut off")
    return b"".join(parts)


def encode_archived(data: bytes, end: int) -> bytes:
    """The file of an archived segment that is valid up to `end`.

    Raises:
        Unreadable: it is not valid up to there.
    """
    stripped, version = strip(data, end)
    header = layouts.read_segment_header(data)
    assert header is not None
    packed = zstandard.ZstdCompressor(level=_LEVEL).compress(stripped)
    fields = (header.database, header.number, end, len(data), header.first_version, version, header.epoch)
    head = _HEAD.pack(
        _MAGIC, layouts.FORMAT, 0, *fields, len(stripped), len(packed), bytes(12), checksum(packed), bytes(16)
    )
    return head[:-16] + checksum(head[:-16]) + packed


def read_archived(file: bytes) -> Archived:
    """A segment from the bytes of its file in the archive.

    Raises:
        Unreadable: it is damaged, or newer.
    """
    if len(file) < _HEAD.size or file[:8] != _MAGIC:
        raise Unreadable(0, "it is no archived segment")
    (
        _,
        form,
        _,
        database,
        number,
        end,
        size,
        first,
        last,
        epoch,
        stripped_bytes,
        packed_bytes,
        _,
        packed_sum,
        stored,
    ) = _HEAD.unpack_from(file)
    if stored != checksum(file[: _HEAD.size - 16]):
        raise Unreadable(0, "the archived segment's head fails its checksum")
    if form != layouts.FORMAT:
        raise Unreadable(8, f"the archived segment is of format {form}", newer=True)
    packed = file[_HEAD.size :]
    if len(packed) != packed_bytes or packed_sum != checksum(packed):
        raise Unreadable(_HEAD.size, "the archived segment fails its checksum")
    if stripped_bytes > _STRIPPED_BYTES_MAX:
        raise Unreadable(76, f"the archived segment says that it has {stripped_bytes} bytes")
    try:
        stripped = zstandard.ZstdDecompressor().decompress(packed, max_output_size=stripped_bytes)
    except zstandard.ZstdError as error:
        raise Unreadable(_HEAD.size, f"the archived segment cannot be decompressed: {error}") from None
    data = restore_padding(stripped)
    if len(stripped) != stripped_bytes or len(data) != end:
        raise Unreadable(40, f"the archived segment has {len(data)} bytes and says {end}")
    return Archived(database, number, size, first, last, epoch, data)


def archive_segment(directory: str | os.PathLike[str], number: int) -> Path:
    """Copy a segment of the log into the archive: written, synced, read back, compared, and named. The original stays.

    It takes the next segment to know where this one ended. Repeated after a crash it writes the copy again.

    Raises:
        DataCorruptError: the segment is damaged, or nothing seals it.
        DiskFullError, DataError: it could not be written; nothing was archived.
    """
    root = Path(directory)
    name = layouts.segment_name(number)
    try:
        data = (root / name).read_bytes()
        with (root / layouts.segment_name(number + 1)).open("rb") as following:
            next_header = layouts.read_segment_header(following.read(layouts.BLOCK_BYTES))
        if next_header is None or next_header.seal is None or next_header.seal.number != number:
            raise Unreadable(0, "the next segment does not say where this one ended")
        end = next_header.seal.end
        file = encode_archived(data, end)
    except Unreadable as error:
        raise DataCorruptError(os.fspath(directory), name, error.offset, 0, 0, error.what) from None
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name
        raise DataCorruptError(os.fspath(directory), name, 0, 0, 0, f"wal/{missing} is missing") from None
    target = root / layouts.archived_name(number)

    def verify(written: bytes) -> None:
        back = read_archived(written).data
        if back != data[: len(back)] or len(back) != end:
            raise Unreadable(0, "the archived segment is not the segment")

    replace_file(target, file, verify=verify)
    return target
