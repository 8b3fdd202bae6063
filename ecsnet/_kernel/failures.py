"""A status of the kernel as a typed error that names table, field and row.

The kernel knows numbers; the schema knows names. `failure.zig` says what happened, here it is put into words.
"""

import ctypes
import struct
from collections.abc import Callable
from typing import Final

from ecsnet._kernel import abi
from ecsnet._kernel.shape import CODES
from ecsnet.errors import (
    ArgumentError,
    BusyError,
    ConstraintError,
    EcsnetError,
    InternalError,
    LimitExceededError,
    NoRowError,
    RemoteProtocolError,
    RowExistsError,
    StaleEntityError,
    StampAheadError,
    StorageError,
)
from ecsnet.limits import CELL_BYTES_MAX
from ecsnet.schema.model import ENTITIES, Field, Schema, Table

_RULES: Final = {
    abi.STATUS["Range"]: "range",
    abi.STATUS["Enum"]: "enum",
    abi.STATUS["Unique"]: "unique",
    abi.STATUS["ForeignKey"]: "foreign_key",
    abi.STATUS["Required"]: "required",
    abi.STATUS["Restrict"]: "restrict",
    abi.STATUS["Reference"]: "reference",
}


TEXT_BYTES_MAX: Final = 4 << 30
"""What the heap's directory has places for (`heap.zig`)."""


class Failures:
    """The errors of one store."""

    __slots__ = ("_entities_max", "_fields", "_info", "_tables", "_text", "of_disk")

    def __init__(self, schema: Schema, info: abi.Info, entities_max: int, text: Callable[[int], str]) -> None:
        # What a string's reference stands for.
        self._text = text
        self.of_disk: Callable[[int], EcsnetError] | None = None
        """What a status of the disk's means, of a store that has one."""
        self._info = info
        self._entities_max = entities_max
        self._tables = {table.id: table for table in schema.tables}
        self._fields = {table.id: {field.id: field for field in table.fields} for table in schema.tables}

    @property
    def info(self) -> abi.Info:
        """Where the last call went wrong."""
        return self._info

    def recall(self, info: bytes) -> None:
        """Have `error` speak of an earlier failure, whose `Info` was kept. Needs the baton."""
        ctypes.memmove(ctypes.addressof(self._info), info, ctypes.sizeof(abi.Info))

    def missing(self, status: int, table_id: int, key: int) -> EcsnetError:
        table = self._tables[table_id]
        if status == abi.STATUS["NoRow"]:
            return NoRowError(key, table.name)
        return StaleEntityError(key, table.name)

    def error(self, status: int) -> EcsnetError:
        info = self._info
        table = self._tables.get(info.table)
        table_name = table.name if table else f"table {info.table}"
        field = self._fields.get(info.table, {}).get(info.field)
        field_name = field.name if field else ""
        key = info.key
        codes = abi.STATUS
        if status in _RULES:
            return self._constraint(_RULES[status], table_name, table, field)
        if status == codes["StaleKey"]:
            return StaleEntityError(key, table_name)
        if status == codes["NoRow"]:
            return NoRowError(key, table_name)
        if status == codes["RowExists"]:
            return RowExistsError(key, table_name)
        if status == codes["Busy"]:
            return BusyError(
                "another transaction is writing to this store; nothing changed, try again when it has ended"
            )
        if status == codes["OutOfMemory"]:
            return StorageError("out of memory; nothing changed")
        if status == codes["Limit"]:
            limit = table.rows_max if table and table.rows_max else self._entities_max
            return LimitExceededError(f"{table_name}.rows_max", limit)
        if status == codes["ReadOnly"] and table is None:
            return ArgumentError("this store was opened for reading only; nothing changed")
        if status == codes["ReadOnly"] and info.reason == 1:
            return ArgumentError(
                f"{table_name}.{field_name} names the row on every node and is never changed: delete the row, and "
                f"insert another; nothing changed"
            )
        if status == codes["ReadOnly"]:
            why = "its cells are strings" if field and field.type == "string" else "it is unique or a reference"
            if table is not None and table.conflict == "lww":
                why = "several nodes write it, cell by cell"
            return ArgumentError(f"{table_name}.{field_name} is read-only as a column: {why}")
        if status == codes["EventRow"]:
            return ArgumentError(
                f"{table_name} is an event table: its rows are inserted, never changed or deleted, and are gone with "
                f"the next version; nothing changed"
            )
        if status == codes["Text"]:
            kind = field.type_text if field else f"string[{CELL_BYTES_MAX}]"
            return ArgumentError(
                f"{table_name}.{field_name} ({kind}): {info.found} bytes are too many, or are no UTF-8"
            )
        if status == codes["HeapFull"]:
            return LimitExceededError("bytes of distinct strings", TEXT_BYTES_MAX)
        if status == codes["StampAhead"]:
            return StampAheadError(table_name, info.key, info.found, info.expected)
        if codes["Unreachable"] <= status <= codes["Io"] and self.of_disk is not None:
            return self.of_disk(status)
        return InternalError(
            f"the kernel refused a call (status {status}, table {table_name}, field {field_name!r}, key {key:#x}, "
            f"offset {info.offset})"
        )

    def _constraint(self, rule: str, table_name: str, table: Table | None, field: Field | None) -> ConstraintError:
        info = self._info
        key = info.key or None
        expected: object = None
        found: object = None
        names = field.name if field else ""
        if field is not None and rule in ("range", "enum"):
            # A sum may be below zero where the field cannot (`operations.zig`, `add`).
            signed = field.type[0] == "i" or info.reason == 1
            kind = "f64" if field.type in ("f32", "f64") else "i64" if signed else "u64"
            found = struct.unpack(f"<{CODES[kind]}", struct.pack("<Q", info.found))[0]
            if rule == "enum":
                expected = f"one of {sorted((field.enum or {}).values())}"
            else:
                low = "" if field.minimum is None else f"at least {field.minimum}"
                high = "" if field.maximum is None else f"at most {field.maximum}"
                expected = " and ".join(part for part in (low, high) if part) or f"a {field.type_text}"
        elif rule == "unique" and info.reason and table is not None:
            names = ", ".join(table.uniques[info.reason - 1])
            expected = f"values that row {info.expected:#x} does not have together"
        elif rule == "unique":
            expected = f"a value that row {info.expected:#x} does not have"
            found = self._value(field, info.found)
        elif rule == "foreign_key":
            target = _target(field)
            expected = "a living entity, or null" if target is None else f"a value that a row of {target} has, or null"
            found = self._value(field, info.found)
        elif rule == "required":
            expected = "a value: it has no default and is not optional"
        elif rule == "restrict":
            target = _target(field)
            what = "entity" if target is None else f"{target} row"
            gone = "despawned" if target is None else "deleted"
            expected = f"no reference to {what} {self._value(field, info.found)}, which is {gone}"
        elif rule == "reference":
            expected, found = "a value that others can refer to", "zero, which is the null reference"
        return ConstraintError(table_name, key, names, rule, expected, found)

    def _value(self, field: Field | None, word: int) -> object:
        """A cell by its first eight bytes, as messages show it: keys in hexadecimal, like everywhere; None where eight
        bytes do not tell."""
        if field is None or (field.foreign_key is not None and _target(field) is None):
            return f"{word:#x}"
        if field.type == "string":
            return self._text(word)
        if field.shape or field.type == "bytes":
            return None
        return struct.unpack_from(f"<{CODES[field.type]}", struct.pack("<Q", word))[0]

    def refused_changes(self, status: int, base: int, version: int, held: int) -> EcsnetError:
        codes = abi.STATUS
        if status in (codes["Busy"], codes["OutOfMemory"]):
            return self.error(status)
        what = f"the changes ({base}, {version}] were refused, and nothing of them was applied: "
        if status == codes["BadBlock"]:
            info = self._info
            table = self._tables.get(info.table)
            name = f", table {table.name}" if table else ""
            reason = abi.REASONS[info.reason] if info.reason < len(abi.REASONS) else str(info.reason)
            return RemoteProtocolError(f"{what}malformed block at byte {info.offset}{name}: {reason}")
        if status == codes["BaseAhead"]:
            return RemoteProtocolError(f"{what}their base is ahead of version {held}, which is held")
        if status == codes["StaleVersion"]:
            return RemoteProtocolError(f"{what}version {held} is held already")
        return RemoteProtocolError(f"{what}{self.error(status)}")


def _target(field: Field | None) -> str | None:
    """The table of keys of its own that a field refers to; None for entities."""
    if field is None or field.foreign_key is None or field.foreign_key.table == ENTITIES:
        return None
    return field.foreign_key.table
