"""A data directory made by hand from the page of the formats, byte by byte: what the readers are tried on.

It shares nothing with the readers but the checksum, so that a misread offset does not pass by being misread twice.
"""

import struct
from dataclasses import dataclass, field
from pathlib import Path

from ecsnet._kernel.disk import checksum

DATABASE = bytes(range(16))
EPOCH = 0x5EED
SCHEMA = """
[database]
name = "small"
version = "1"

[tables.health]
id = 20
parent_table = "entities"
fields = [
  { name = "entity_id", type = "u64", foreign_key = "entities.id" },
  { id = 1, name = "hp", type = "u16" },
]
"""
SEGMENT_BYTES = 64 << 10


def sealed(block: bytes) -> bytes:
    """A block of 4096 bytes that ends in the checksum of the rest."""
    block = block.ljust(4080, b"\0")
    assert len(block) == 4080
    return block + checksum(block)


@dataclass
class ByHand:
    """Writes a directory. `root` need not exist."""

    root: Path
    level: int = 2
    durable: int = 0
    version: int = 0
    number: int = 0
    epoch: int = EPOCH
    data: bytearray = field(default_factory=bytearray)
    parent: bytes = b""
    salt: int = 0

    def write(self, name: str, data: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def manifest(
        self,
        number: int = 1,
        *,
        schema: str = SCHEMA,
        fingerprint: bytes = bytes(16),
        snapshots: tuple[tuple[int, int, bytes], ...] = (),
        ancestors: tuple[tuple[int, int], ...] = (),
        oldest: int = 1,
        origin: int = 0,
        form: int = 1,
    ) -> None:
        text = schema.encode()
        rest = b"".join(struct.pack("<QQ16s", *one) for one in snapshots)
        rest += b"".join(struct.pack("<IIQ", epoch, 0, last) for epoch, last in ancestors) + text
        head = b"ECSMANI1" + struct.pack("<II", form, 96 + len(rest) + 16) + DATABASE
        head += struct.pack("<QII", number, self.epoch, len(ancestors)) + struct.pack("<q", 1_700_000_000_000_000_000)
        head += fingerprint + struct.pack("<QIIQ", oldest, len(snapshots), len(text), origin)
        assert len(head) == 96
        self.write(f"MANIFEST-{number:016d}", head + rest + checksum(head + rest))

    def horizon(self, durable: int, sequence: int = 0, database: bytes = DATABASE) -> None:
        sector = b"ECSHORZ1" + database + struct.pack("<IIQQ", self.epoch, 0, durable, sequence)
        sector += checksum(sector)
        data = bytearray(8192)
        at = 4096 * (sequence & 1)
        data[at : at + len(sector)] = sector
        self.write("HORIZON", bytes(data))

    def segment(
        self, *, run: bool = True, ancestor: int | None = None, epoch: int | None = None, form: int = 1
    ) -> None:
        """Begin the next segment; what the last one held is written, sealed by this one."""
        before = (self.number, len(self.data), self.parent, self.epoch)
        self.flush()
        self.epoch = epoch or self.epoch
        self.number += 1
        self.salt = 0xABC0 + self.number
        head = b"ECSWAL01" + DATABASE + struct.pack("<II", self.epoch, form)
        head += struct.pack("<QQQQ", self.number, self.salt, self.version + 1, SEGMENT_BYTES)
        head += struct.pack("<QQ16sI", *before) if before[0] else bytes(36)
        flags = int(run) | 2 * (ancestor is not None)
        head += struct.pack("<IqIQ", self.level, 1_700_000_000_000_000_000, flags, ancestor or 0)
        assert len(head) == 124
        block = sealed(head)
        self.data = bytearray(block)
        self.parent = block[4080:]

    def record(self, body: bytes = b"body", *, kind: int = 1, durable: int | None = None, salt: int = 0) -> int:
        """Append a record; where it begins. Version n is of tick 10 n, made n seconds after 1970."""
        if kind == 1:
            self.version += 1
        version = self.version
        rest = checksum(body) + self.parent
        rest += struct.pack("<QQQII", salt or self.salt, version, 0, 1, len(body))
        known = self.durable if durable is None else durable
        rest += struct.pack("<QqQ", known, version * 1_000_000_000, version * 10)
        rest += struct.pack("<BBBBIIQ", kind, 0, self.level, 0, 1, self.epoch, 0) + b"ECR1"
        assert len(rest) == 112
        head = checksum(rest) + rest
        at = len(self.data)
        whole = head + body
        self.data += whole + bytes(-len(whole) % 4096)
        self.parent = head[:16]
        return at

    def flush(self) -> None:
        """Write the segment that was begun."""
        if self.number:
            self.write(f"wal/{self.number:016d}.wal", bytes(self.data).ljust(SEGMENT_BYTES, b"\0"))

    def damage(self, name: str, at: int) -> None:
        """Flip a bit; the same again mends it."""
        path = self.root / name
        data = bytearray(path.read_bytes())
        data[at] ^= 0x40
        path.write_bytes(data)


def three_segments(root: Path, closed: bool = True) -> ByHand:
    """Six versions in three segments: two, three, one, and what a clean close leaves behind it."""
    made = ByHand(root)
    made.manifest()
    made.segment()
    made.record(b"one")
    made.record(b"two" * 3000)
    made.segment(run=False)
    for body in (b"three", b"", b"five"):
        made.record(body)
    made.record(b"harbour", kind=3)
    made.segment(run=False)
    made.durable = 5
    made.record(b"six")
    made.durable = 6
    if closed:
        made.record(b"", kind=2)
    made.flush()
    made.horizon(6 if closed else 5)
    return made
