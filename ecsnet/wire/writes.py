"""What a client writes itself, as bytes: the arguments of a Command with the flag `WRITE`, whose `command` is a table.

    u8 operation: 1 insert, 2 update, 3 delete | u8 columns | u16 rows
    | u16 field id * columns, ascending | u64 key * rows, none in an insert into a table with keys of its own
    | for each column its cells, one behind the other

little-endian and packed; a cell of a string is u16 bytes of UTF-8 and then those, any other has the width of its type.

Invariants:
- decoding raises RemoteProtocolError or returns what the schema's types can hold: every float is finite, every bool 0
  or 1, every text is UTF-8 and not too long. What the schema *demands* (ranges, enums, references, permissions) is
  asked where the row is;
- two updates of the same cells begin with the same bytes (`cells_of`), so a newer one can take an older one's place.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite
from struct import Struct
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import LimitExceededError, RemoteProtocolError
from ecsnet.limits import WRITE_BYTES_MAX, WRITE_ROWS_MAX
from ecsnet.schema.model import Field, Table
from ecsnet.schema.rules import OPERATIONS, Operation
from ecsnet.wire.messages import Reason

__all__ = ["DirectWrite", "PlainUpdate", "cells_of", "decode_write_untrusted", "encode_write", "head_of"]

_HEAD: Final = Struct("<BBH")
_UPDATE: Final = 1 + OPERATIONS.index("update")


class DirectWrite(NamedTuple):
    """One write of a client: some columns of some rows of a table.

    `keys` is None for an insert into a table with keys of its own. `columns` have a cell for each row: an array of the
    field's dtype and shape, or a list of str.
    """

    table: Table
    operation: Operation
    keys: NDArray[np.uint64] | None
    rows: int
    columns: dict[str, NDArray[Any] | list[str]]


def encode_write(
    table: Table,
    operation: Operation,
    keys: NDArray[np.uint64] | None,
    rows: int,
    columns: Mapping[str, NDArray[Any] | Sequence[str]],
) -> bytes:
    """A write as bytes.

    Args:
        keys: None for an insert into a table with keys of its own, else one for each row.
        columns: by the names of fields, checked: of the field's dtype and shape, or of str.

    Raises:
        LimitExceededError: too many rows, or too many bytes.
    """
    assert keys is None or len(keys) == rows
    if rows > WRITE_ROWS_MAX:
        raise LimitExceededError("WRITE_ROWS_MAX", WRITE_ROWS_MAX, rows)
    fields = sorted((table.field(name) for name in columns), key=lambda field: field.id)
    parts = [_HEAD.pack(1 + OPERATIONS.index(operation), len(fields), rows)]
    parts.append(np.array([field.id for field in fields], "<u2").tobytes())
    if keys is not None:
        parts.append(keys.astype("<u8", copy=False).tobytes())
    for field in fields:
        cells = columns[field.name]
        if field.type == "string":
            for text in cells:
                utf8 = str(text).encode()
                parts += [len(utf8).to_bytes(2, "little"), utf8]
        else:
            parts.append(np.ascontiguousarray(cells, field.dtype).tobytes())
    data = b"".join(parts)
    if len(data) > WRITE_BYTES_MAX:
        raise LimitExceededError("WRITE_BYTES_MAX", WRITE_BYTES_MAX, len(data))
    return data


def cells_of(table: int, data: bytes) -> bytes | None:
    """What names the cells of an update, for whatever bytes: equal for two that write the same ones. None for anything
    but an update."""
    if len(data) < _HEAD.size or data[0] != _UPDATE:
        return None
    _, columns, rows = _HEAD.unpack_from(data)
    return table.to_bytes(2, "little") + data[: _HEAD.size + 2 * columns + 8 * rows]


class PlainUpdate:
    """How an update of one row reads, of numbers and arrays of them: what most writes are, many times in a tick. Made
    once for the table and the bytes before the key, `head_of`; what it reads `decode_write_untrusted` would read."""

    __slots__ = ("_cells", "_floats", "_packed", "names")

    def __init__(self, fields: Sequence[Field]) -> None:
        self.names = tuple(field.name for field in fields)
        codes = [f"{field.count}{_CODES[field.type]}" for field in fields]
        self._packed = Struct("<Q" + "".join(codes))
        self._cells: list[tuple[str, int, int | None]] = []
        self._floats: list[int] = []
        at = 1
        for field in fields:
            if field.dtype.kind == "f":
                self._floats += range(at, at + field.count)
            self._cells.append((field.name, at, at + field.count if field.shape else None))
            at += field.count

    @classmethod
    def of(cls, table: Table, head: bytes) -> "PlainUpdate | None":
        """None where the columns are others, or the bytes name none."""
        ids = [int.from_bytes(head[at : at + 2], "little") for at in range(_HEAD.size, len(head), 2)]
        fields = [field for field in table.fields if field.id in ids]
        ascending = ids == [field.id for field in fields] and len(head) == _HEAD.size + 2 * head[1]
        plain = all(field.dtype.kind in "iuf" and field.type not in _TEXTS and len(field.shape) < 2 for field in fields)
        return cls(fields) if fields and ascending and plain else None

    def read_untrusted(self, data: bytes, at: int) -> tuple[int, dict[str, Any]] | None:
        """The key and the cells by name; None for what another reader is to refuse with a reason."""
        if len(data) - at != self._packed.size:
            return None
        values = self._packed.unpack_from(data, at)
        for number in self._floats:
            if not isfinite(values[number]):
                return None
        cells = {name: values[low] if high is None else values[low:high] for name, low, high in self._cells}
        return values[0], cells


_TEXTS: Final = ("bytes", "string")
_CODES: Final = {
    "u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i8": "b", "i16": "h", "i32": "i", "i64": "q",
    "f32": "f", "f64": "d",
}  # fmt: skip


def head_of(data: bytes) -> bytes | None:
    """The bytes before the key of an update of one row, for whatever bytes; None for anything else."""
    if len(data) > _HEAD.size and data[0] == _UPDATE and data[2] == 1 and not data[3]:
        return data[: _HEAD.size + 2 * data[1]]
    return None


def decode_write_untrusted(table: Table, data: bytes) -> DirectWrite:
    """What a client's bytes say of a table.

    Raises:
        RemoteProtocolError: they say nothing that the table's types can hold. Nothing else, for any bytes.
    """
    if len(data) > WRITE_BYTES_MAX:
        raise _bad(table, f"{len(data)} bytes; the limit is {WRITE_BYTES_MAX}")
    if len(data) < _HEAD.size:
        raise _bad(table, f"{len(data)} bytes are no write")
    number, count, rows = _HEAD.unpack_from(data)
    if not 1 <= number <= len(OPERATIONS):
        raise _bad(table, f"operation {number} is none")
    operation = OPERATIONS[number - 1]
    if not 1 <= rows <= WRITE_ROWS_MAX:
        raise _bad(table, f"{rows} rows; a write has 1 to {WRITE_ROWS_MAX}")
    if (operation == "delete" and count) or (operation == "update" and not count):
        raise _bad(table, f"{operation} of {count} columns")
    at = _HEAD.size
    ids = _slice(table, data, at, "<u2", count).tolist()
    at += 2 * count
    if any(one >= other for one, other in pairwise(ids)):
        raise _bad(table, f"columns {ids} are not ascending")
    by_id = {field.id: field for field in table.fields}
    for one in ids:
        if one not in by_id:
            raise _bad(table, f"no field has the number {one}")
    keys = None
    if operation != "insert" or table.kind == "component":
        keys = _slice(table, data, at, "<u8", rows)
        at += 8 * rows
    columns: dict[str, NDArray[Any] | list[str]] = {}
    for one in ids:
        field = by_id[one]
        if field.type == "string":
            columns[field.name], at = _texts(table, field, data, at, rows)
        else:
            columns[field.name] = _cells(table, field, data, at, rows)
            at += field.width * rows
    if at != len(data):
        raise _bad(table, f"{len(data) - at} bytes follow the last column")
    return DirectWrite(table, operation, keys, rows, columns)


def _slice(table: Table, data: bytes, at: int, dtype: str, count: int) -> NDArray[Any]:
    width = int(dtype[2:])
    if len(data) - at < width * count:
        raise _bad(table, f"it is cut off: {len(data)} bytes")
    # A copy: where it lies in the message no number need be aligned.
    return np.frombuffer(data, dtype, count, at).copy()


def _cells(table: Table, field: Field, data: bytes, at: int, rows: int) -> NDArray[Any]:
    if len(data) - at < field.width * rows:
        raise _bad(table, f'it is cut off in the column "{field.name}": {len(data)} bytes')
    if field.type == "bool":
        raw = np.frombuffer(data, np.uint8, field.count * rows, at)
        if raw.max(initial=0) > 1:
            raise _bad(table, f'"{field.name}" is neither 0 nor 1')
    cells = np.frombuffer(data, field.dtype, field.count * rows, at)
    if cells.dtype.kind == "f" and not np.isfinite(cells).all():
        raise _bad(table, f'"{field.name}" is not finite')
    return cells.reshape(rows, *field.shape).copy()


def _texts(table: Table, field: Field, data: bytes, at: int, rows: int) -> tuple[list[str], int]:
    texts = []
    for _ in range(rows):
        size = int.from_bytes(data[at : at + 2], "little")
        end = at + 2 + size
        if end > len(data):
            raise _bad(table, f'it is cut off in the column "{field.name}": {len(data)} bytes')
        if size > field.count:
            raise _bad(table, f'"{field.name}" has {size} bytes; it holds {field.count}')
        try:
            texts.append(data[at + 2 : end].decode())
        except UnicodeDecodeError:
            raise _bad(table, f'"{field.name}" is no UTF-8') from None
        at = end
    return texts, at


def _bad(table: Table, what: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"a write of {table.name}: {what}", Reason.BAD_ARGUMENTS)
