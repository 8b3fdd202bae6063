"""The bytes of every file of a data directory, as plain Python reads them.

All integers are little-endian; a checksum is the 16 bytes of `ecsnet._kernel.disk.checksum`. A `read_*` function takes
any bytes: it returns what they say, or raises `Unreadable`, which tells damage from a newer format.
"""

import re
import struct
from dataclasses import dataclass
from typing import Final

from ecsnet._kernel.disk import checksum

BLOCK_BYTES: Final = 4096
RECORDS_AT: Final = BLOCK_BYTES
"""Where a segment's first record is."""
RECORD_HEADER_BYTES: Final = 128
SUM_BYTES: Final = 16
FORMAT: Final = 1

VERSION, CLOSE, POINT, DIGEST = 1, 2, 3, 4
"""Kinds of records."""
KINDS: Final = {VERSION: "version", CLOSE: "close", POINT: "point", DIGEST: "digest"}
LEVELS: Final = ("memory", "relaxed", "strict", "paranoid")

KEYS, CELLS, STRINGS, PLACES, COUNTER = 1, 2, 3, 4, 5
"""Kinds of a snapshot's chunks."""
_CHUNK_ALIGNMENT: Final = 64
_CHUNK_BYTES_MAX: Final = 1 << 20

_FIRST_SEGMENT_OF_RUN: Final = 1
_NEW_EPOCH: Final = 2

# No padding: "<" packs.
_SEGMENT = struct.Struct("<8s16sIIQQQQQQ16sIIqIQ")
_RECORD = struct.Struct("<16s16s16sQQQIIQqQBBBBIIQ4s")
_MARK = struct.Struct("<8s16sIIQQ16s")
_MANIFEST = struct.Struct("<8sII16sQIIq16sQIIQ")
_NAMED = struct.Struct("<QQ16s")
_ANCESTOR = struct.Struct("<IIQ")
_SNAPSHOT = struct.Struct("<8sII16sIIQQq16s16s")
_ENTRY = struct.Struct("<HHHHQQQII16s")
_ROOT = struct.Struct("<8sQII16s16sQ")
assert (_SEGMENT.size, _RECORD.size, _MARK.size, _MANIFEST.size) == (124, RECORD_HEADER_BYTES, 64, 96)
assert (_SNAPSHOT.size, _ENTRY.size, _ROOT.size) == (96, 56, 64)


class Unreadable(Exception):
    """Bytes are not what they should be. `offset` counts from the beginning of what was read; `newer`: they are whole,
    and of a format that this program does not know."""

    def __init__(self, offset: int, what: str, newer: bool = False) -> None:
        super().__init__(what)
        self.offset = offset
        self.what = what
        self.newer = newer


@dataclass(frozen=True, slots=True)
class Seal:
    """What a segment says of the one before: it validly ended at `end`, with a record (or header) of that checksum."""

    number: int
    end: int
    sum: bytes
    epoch: int


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """The first block of a segment. `sum` is its checksum, the first record's parent."""

    sum: bytes
    database: bytes
    epoch: int
    number: int
    salt: int
    first_version: int
    file_bytes: int
    seal: Seal | None
    floor: int
    time_ns: int
    begins_run: bool
    ancestor_version: int | None


@dataclass(frozen=True, slots=True)
class RecordHeader:
    """The head of a record. `sum` is its checksum, the next record's parent."""

    sum: bytes
    body_sum: bytes
    parent: bytes
    salt: int
    version: int
    first_transaction: int
    transactions: int
    body_bytes: int
    durable: int
    time_ns: int
    tick: int
    kind: int
    level: int
    catalogue: int
    epoch: int

    @property
    def span(self) -> int:
        """Bytes that the record takes, with its padding."""
        return padded(RECORD_HEADER_BYTES + self.body_bytes)


@dataclass(frozen=True, slots=True)
class Mark:
    """One sector of HORIZON."""

    database: bytes
    epoch: int
    durable: int
    sequence: int


@dataclass(frozen=True, slots=True)
class NamedSnapshot:
    """A snapshot as a manifest names it."""

    version: int
    size: int
    root_sum: bytes


@dataclass(frozen=True, slots=True)
class Ancestor:
    """An epoch that ended, and its last version."""

    epoch: int
    version: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest: newest snapshot first, oldest ancestor first."""

    database: bytes
    number: int
    epoch: int
    time_ns: int
    fingerprint: bytes
    oldest_segment: int
    origin: int
    snapshots: tuple[NamedSnapshot, ...]
    ancestors: tuple[Ancestor, ...]
    schema: str

    def epoch_of(self, version: int) -> int:
        """The epoch that `version` belongs to, as far as this manifest knows."""
        return next((one.epoch for one in self.ancestors if version <= one.version), self.epoch)


@dataclass(frozen=True, slots=True)
class SnapshotHeader:
    """The first block of a snapshot. `sum` is its checksum."""

    sum: bytes
    database: bytes
    epoch: int
    version: int
    tick: int
    time_ns: int
    fingerprint: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One chunk of a snapshot, as its index names it."""

    kind: int
    table: int
    field: int
    first: int
    rows: int
    offset: int
    size: int
    sum: bytes


@dataclass(frozen=True, slots=True)
class SnapshotRoot:
    """The last block of a snapshot. `sum` is its checksum, which the manifest names."""

    sum: bytes
    index_offset: int
    entries: int
    index_sum: bytes
    header_sum: bytes
    version: int


def padded(size: int) -> int:
    """`size` up to the end of its last block."""
    return -size % BLOCK_BYTES + size


def used(data: bytes) -> int:
    """Where the last byte that is not zero ends."""
    return len(data.rstrip(b"\0"))


def _sealed(data: bytes, what: str, magic: bytes) -> bytes:
    """The checksum at the end of a whole block that begins with `magic`."""
    if len(data) < BLOCK_BYTES:
        raise Unreadable(0, f"{what} is cut off after {len(data)} bytes")
    if data[:8] != magic:
        raise Unreadable(0, f"{what} does not begin with {magic.decode()}")
    stored = bytes(data[BLOCK_BYTES - SUM_BYTES : BLOCK_BYTES])
    if stored != checksum(bytes(data[: BLOCK_BYTES - SUM_BYTES])):
        raise Unreadable(0, f"{what} fails its checksum")
    return stored


def _known(found: int, at: int, what: str) -> None:
    if found != FORMAT:
        raise Unreadable(at, f"{what} is of format {found}, and this program knows format {FORMAT}", newer=True)


def read_segment_header(data: bytes) -> SegmentHeader | None:
    """The header in the first block of a segment; None for zeros: not begun."""
    if len(data) >= BLOCK_BYTES and not any(data[:BLOCK_BYTES]):
        return None
    stored = _sealed(data, "the segment's header", b"ECSWAL01")
    (
        _,
        database,
        epoch,
        form,
        number,
        salt,
        first,
        size,
        before,
        end,
        before_sum,
        before_epoch,
        floor,
        time_ns,
        flags,
        last,
    ) = _SEGMENT.unpack_from(data)
    _known(form, 28, "the segment")
    if flags & ~(_FIRST_SEGMENT_OF_RUN | _NEW_EPOCH) or floor >= len(LEVELS):
        raise Unreadable(100, "the segment's header says what this program does not know", newer=True)
    seal = Seal(before, end, before_sum, before_epoch) if before else None
    ancestor = last if flags & _NEW_EPOCH else None
    run = bool(flags & _FIRST_SEGMENT_OF_RUN)
    return SegmentHeader(stored, database, epoch, number, salt, first, size, seal, floor, time_ns, run, ancestor)


def read_record_header(data: bytes, at: int = 0) -> RecordHeader:
    """The head of the record at `at`, whose body is not looked at."""
    raw = data[at : at + RECORD_HEADER_BYTES]
    if len(raw) < RECORD_HEADER_BYTES or raw[124:] != b"ECR1":
        raise Unreadable(at, "there is no record")
    if raw[:SUM_BYTES] != checksum(bytes(raw[SUM_BYTES:])):
        raise Unreadable(at, "the record's head fails its checksum")
    (
        stored,
        body,
        parent,
        salt,
        version,
        first,
        count,
        size,
        durable,
        time_ns,
        tick,
        kind,
        codec,
        level,
        flags,
        catalogue,
        epoch,
        zero,
        _,
    ) = _RECORD.unpack(raw)
    if kind not in KINDS or level >= len(LEVELS) or codec or flags or zero:
        raise Unreadable(
            at, f"the record is of kind {kind}, codec {codec}, level {level}: newer than this program", newer=True
        )
    return RecordHeader(
        stored, body, parent, salt, version, first, count, size, durable, time_ns, tick, kind, level, catalogue, epoch
    )


def read_body(data: bytes, at: int, head: RecordHeader) -> bytes:
    """The body of the record at `at`."""
    start = at + RECORD_HEADER_BYTES
    body = bytes(data[start : start + head.body_bytes])
    if len(body) < head.body_bytes:
        raise Unreadable(at, f"record {head.version} is cut off")
    if checksum(body) != head.body_sum:
        raise Unreadable(at, f"the body of record {head.version} fails its checksum")
    return body


def read_horizon(data: bytes) -> tuple[Mark | None, Mark | None]:
    """The marks of both sectors, None for one that is not whole: a crash may leave one of them so."""
    return _mark(data[:512]), _mark(data[BLOCK_BYTES : BLOCK_BYTES + 512])


def _mark(sector: bytes) -> Mark | None:
    if len(sector) < _MARK.size:
        return None
    magic, database, epoch, _, durable, sequence, stored = _MARK.unpack_from(sector)
    if magic != b"ECSHORZ1" or stored != checksum(bytes(sector[: _MARK.size - SUM_BYTES])):
        return None
    return Mark(database, epoch, durable, sequence)


def read_manifest(data: bytes) -> Manifest:
    """A whole manifest."""
    if len(data) < _MANIFEST.size + SUM_BYTES or data[:8] != b"ECSMANI1":
        raise Unreadable(0, "it is no manifest")
    end = len(data) - SUM_BYTES
    (
        _,
        form,
        total,
        database,
        number,
        epoch,
        ancestor_count,
        time_ns,
        fingerprint,
        oldest,
        snapshot_count,
        schema_bytes,
        origin,
    ) = _MANIFEST.unpack_from(data)
    if total != len(data):
        raise Unreadable(12, f"the manifest has {len(data)} bytes and says {total}")
    if data[end:] != checksum(bytes(data[:end])):
        raise Unreadable(0, "the manifest fails its checksum")
    _known(form, 8, "the manifest")
    names_at = _MANIFEST.size
    ancestors_at = names_at + snapshot_count * _NAMED.size
    schema_at = ancestors_at + ancestor_count * _ANCESTOR.size
    if schema_at + schema_bytes != end:
        raise Unreadable(44, "the manifest's lists do not fill it")
    snapshots = tuple(NamedSnapshot(*one) for one in _NAMED.iter_unpack(data[names_at:ancestors_at]))
    ancestors = tuple(Ancestor(one[0], one[2]) for one in _ANCESTOR.iter_unpack(data[ancestors_at:schema_at]))
    schema = bytes(data[schema_at:end]).decode(errors="replace")
    return Manifest(database, number, epoch, time_ns, fingerprint, oldest, origin, snapshots, ancestors, schema)


def read_snapshot_header(data: bytes) -> SnapshotHeader:
    """The first block of a snapshot."""
    stored = _sealed(data, "the snapshot's header", b"ECSSNAP1")
    _, form, _, database, epoch, _, version, tick, time_ns, fingerprint, digest = _SNAPSHOT.unpack_from(data)
    _known(form, 8, "the snapshot")
    return SnapshotHeader(stored, database, epoch, version, tick, time_ns, fingerprint, digest)


def read_snapshot_root(data: bytes) -> SnapshotRoot:
    """The last block of a snapshot."""
    stored = _sealed(data, "the snapshot's root", b"ECSROOT1")
    _, index, entries, _, index_sum, header_sum, version = _ROOT.unpack_from(data)
    return SnapshotRoot(stored, index, entries, index_sum, header_sum, version)


def read_index(data: bytes, root: SnapshotRoot) -> tuple[Entry, ...]:
    """The entries of a snapshot's index, which `root` speaks of."""
    if len(data) != root.entries * _ENTRY.size or checksum(bytes(data)) != root.index_sum:
        raise Unreadable(root.index_offset, "the snapshot's index fails its checksum")
    found = []
    for number, one in enumerate(_ENTRY.iter_unpack(data)):
        kind, table, field, _, first, rows, offset, size, _, stored = one
        at = root.index_offset + number * _ENTRY.size
        if not KEYS <= kind <= COUNTER:
            raise Unreadable(at, f"the snapshot has a chunk of kind {kind}", newer=True)
        if offset % _CHUNK_ALIGNMENT or size > _CHUNK_BYTES_MAX or offset + size > root.index_offset:
            raise Unreadable(at, "the snapshot's index names a chunk that cannot be")
        found.append(Entry(kind, table, field, first, rows, offset, size, stored))
    return tuple(found)


_NUMBERED = re.compile(r"(?P<before>[A-Za-z]*-?)(?P<number>\d{16}|\d{20})(?P<behind>\.\w+)?")


def number_of(name: str, before: str, behind: str) -> int | None:
    """The number in a file's name, with `before` and `behind` around it; None for another kind of file."""
    found = _NUMBERED.fullmatch(name)
    if found is None or found["before"] != before or (found["behind"] or "") != behind:
        return None
    digits = 20 if behind == ".snap" else 16
    return int(found["number"]) if len(found["number"]) == digits else None


def segment_name(number: int) -> str:
    """Relative to the data directory."""
    return f"wal/{number:016}.wal"


def archived_name(number: int) -> str:
    """Relative to the data directory."""
    return f"archive/{number:016}.walz"


def snapshot_name(version: int) -> str:
    """Relative to the data directory."""
    return f"snap/{version:020}.snap"


def manifest_name(number: int) -> str:
    """Relative to the data directory."""
    return f"MANIFEST-{number:016}"
