"""How a point write is packed into the operation buffer (`kernel/zig/operations.zig`)."""

import struct
from typing import Final

from ecsnet.schema.model import Field, Table

SPAWN, INSERT, UPDATE, DELETE, ADD = 1, 2, 3, 4, 5
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
    "string": "s",
}
"""Codes of `struct` by the name of the type."""


def cell_codes(field: Field) -> str:
    """How `struct` packs one cell of a field."""
    if field.type == "string":
        # How long it is, and its UTF-8, filled up to what the field may hold.
        return f"I{field.count}s"
    return f"{field.count}{CODES[field.type]}" if field.shape else CODES[field.type]


def value_count(field: Field) -> int:
    """From how many values one cell of a field is packed."""
    return {"bytes": 1, "string": 2}.get(field.type, field.count)


class Shape:
    """How a point write to some fields of one table is packed: made by `KernelStore.shape`."""

    __slots__ = ("bytes", "fields", "ids", "insert", "pack", "spawn", "table", "update")

    def __init__(self, table: Table, fields: tuple[Field, ...]) -> None:
        self.table = table
        self.fields = fields
        packer = struct.Struct(f"<8sQ{2 + 2 * len(fields)}s{''.join(map(cell_codes, fields))}")
        self.bytes = packer.size
        self.pack = packer.pack_into
        self.ids = struct.pack(f"<{1 + len(fields)}H", len(fields), *(field.id for field in fields))
        self.spawn, self.insert, self.update = (
            struct.pack("<BBHI", kind, 0, table.id, packer.size) for kind in (SPAWN, INSERT, UPDATE)
        )
