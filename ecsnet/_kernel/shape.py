"""How a point write is packed into the operation buffer (`kernel/zig/operations.zig`)."""

import struct
from typing import Final

from ecsnet.schema.model import Field, Table

SPAWN, INSERT, UPDATE, DELETE = 1, 2, 3, 4
HEADER_BYTES: Final = 16
CODES: Final = {
    "u8": "B",
    "u16": "H",
    "u32": "I",
    "u64": "Q",
    "i8": "b",
    "i16": "h",
    "i32": "i",
    "i64": "q",
    "f32": "f",
    "f64": "d",
    "bool": "?",
    "bytes": "s",
}
"""Codes of `struct` by the name of the type."""


class Shape:
    """How a point write to some fields of one table is packed: made by `KernelStore.shape`."""

    __slots__ = ("bytes", "fields", "ids", "insert", "pack", "spawn", "table", "update")

    def __init__(self, table: Table, fields: tuple[Field, ...]) -> None:
        self.table = table
        self.fields = fields
        cells = "".join(
            f"{field.count}{CODES[field.type]}" if field.shape or field.type == "bytes" else CODES[field.type]
            for field in fields
        )
        packer = struct.Struct(f"<8sQ{2 + 2 * len(fields)}s{cells}")
        self.bytes = packer.size
        self.pack = packer.pack_into
        self.ids = struct.pack(f"<{1 + len(fields)}H", len(fields), *(field.id for field in fields))
        self.spawn, self.insert, self.update = (
            struct.pack("<BBHI", kind, 0, table.id, packer.size) for kind in (SPAWN, INSERT, UPDATE)
        )
