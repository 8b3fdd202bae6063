"""The rows of event tables as a client is told of them: from the bytes of a message to one object each.

A message has the rows of one version, or of a part of it, by table and column, and the order in which they were
inserted (`schema/wire.md`, "Event rows"). It may come before its version does: then its rows wait, and the game is told
when what they are about can be seen.

Invariants:
- bytes are a stranger's: `read_untrusted` gives rows whose cells keep the schema's rules, or raises
  RemoteProtocolError;
- rows are told once, in order, and only when a version is held that is theirs or newer.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from struct import Struct
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import RemoteProtocolError
from ecsnet.ids import Tick, Version
from ecsnet.limits import EVENT_BLOCK_BYTES, EVENT_ROWS_EARLY_BYTES_MAX
from ecsnet.schema import python
from ecsnet.schema.columns import enum
from ecsnet.schema.model import Field
from ecsnet.store.fields import FieldName
from ecsnet.store.names import Names, TableName
from ecsnet.wire.messages import Event, Reason

__all__ = ["AnyRow", "EventReader", "EventRow", "EventRows", "TypedRow", "row_parts"]

_HEAD: Final = Struct("<BBHI")
_TABLE: Final = Struct("<HI")
_RAW: Final = 0
_CONSTANT: Final = 1
_HIDDEN: Final = 15


class EventRow:
    """One row of an event table: `row.damage` and `row["damage"]` are its cells, as a view gives them.

    A member of a struct is `row.position.x` and `row["position.x"]`. `table` is the table's name, `version` the version
    that the row was made in, `tick` that version's tick. Where a field has one of these names, `row["table"]` is it.
    """

    __slots__ = ("_cells", "table", "tick", "version")

    def __init__(self, table: str, version: Version, tick: Tick, cells: dict[str, Any]) -> None:
        self.table = table
        self.version = version
        self.tick = tick
        self._cells = cells

    def __getitem__(self, name: str) -> Any:
        return self._cells[name]

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            if name in self._cells:
                return self._cells[name]
            members = {key[len(name) + 1 :]: cell for key, cell in self._cells.items() if key.startswith(f"{name}.")}
            if members:
                return _struct(members)
        raise AttributeError(f"{self.table} has no field {name!r}; it has {', '.join(self._cells) or 'none'}")

    def to_dict(self) -> dict[str, Any]:
        """The cells by field, members of structs by their dotted names."""
        return dict(self._cells)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EventRow):
            return NotImplemented
        return (self.table, self.version) == (other.table, other.version) and _equal(self._cells, other._cells)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        cells = ", ".join(f"{name}={cell!r}" for name, cell in self._cells.items())
        return f"EventRow({self.table!r}, version={self.version}, {cells})"


def _struct(members: dict[str, Any]) -> SimpleNamespace:
    made = SimpleNamespace()
    for name, cell in members.items():
        *path, last = name.split(".")
        inner = made
        for part in path:
            inner.__dict__.setdefault(part, SimpleNamespace())
            inner = getattr(inner, part)
        setattr(inner, last, cell)
    return made


def _equal(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)


TypedRow = python.Event
"""A row of a schema that was made of Python classes: an instance of the table's own."""

AnyRow = EventRow | TypedRow


def row_parts(row: AnyRow) -> tuple[str, Version, dict[str, Any]]:
    """Table, version and cells of a row of either kind; members of structs by their dotted names."""
    if isinstance(row, EventRow):
        return row.table, row.version, row.to_dict()
    assert row.ecsnet_version is not None, "told, not made to be inserted"
    return row.ecsnet_table, row.ecsnet_version, dict(row.ecsnet_values)


class EventReader:
    """Reads the messages of one schema's event rows, as instances of the schema's own classes where it has some."""

    __slots__ = ("_classes", "_tables")

    def __init__(self, names: Names) -> None:
        self._tables = {table.id: table for table in names.tables.values() if table.event and table.table.replicated}
        classes = ((table.id, names.schema.classes.get(table.name)) for table in self._tables.values())
        self._classes = {number: cls for number, cls in classes if cls is not None and issubclass(cls, TypedRow)}

    def read_untrusted(self, message: Event) -> Sequence[AnyRow]:
        """The rows of a message, in the order in which they were inserted.

        Raises:
            RemoteProtocolError: no block of event rows of this schema, or a cell that breaks a rule of it.
        """
        cursor = _Cursor(message.block)
        version, zero, tables, length = cursor.take(_HEAD)
        if version != 1 or zero != 0 or length != cursor.left:
            raise _malformed(f"a head of version {version}, {length} bytes to follow and {cursor.left} there")
        made: list[Iterator[AnyRow]] = []
        counts: list[int] = []
        before = -1
        for _ in range(tables):
            number, rows = cursor.take(_TABLE)
            table = self._tables.get(number)
            if table is None or number <= before:
                raise _malformed(f"table {number} is no event table that is told of, or out of order")
            before = number
            if not 0 < rows <= EVENT_BLOCK_BYTES - sum(counts):
                raise _malformed(f"{rows} rows of {table.name}")
            counts.append(rows)
            made.append(self._rows(table, rows, cursor, Version(message.version), Tick(message.tick)))
        if not tables:
            raise _malformed("no table")
        told: list[AnyRow] = []
        if tables == 1:
            told += made[0]
        else:
            while any(counts):
                place, rows = cursor.varint(), cursor.varint()
                if place >= tables or not 0 < rows <= counts[place]:
                    raise _malformed(f"{rows} rows of the table in place {place}")
                counts[place] -= rows
                told += [next(made[place]) for _ in range(rows)]
        if cursor.left:
            raise _malformed(f"{cursor.left} bytes behind the rows")
        return told

    def _rows(self, table: TableName, rows: int, cursor: "_Cursor", version: Version, tick: Tick) -> Iterator[AnyRow]:
        cls = self._classes.get(table.id)
        members = {} if cls is None else _enums(cls)
        columns = []
        for field in table.stored:
            cells = _cells(field, rows, cursor)
            member = members.get(field.name)
            columns.append(cells if member is None else [member.get(cell, cell) for cell in cells])
        names = [field.name for field in table.stored]
        whole = zip(*columns, strict=True) if columns else repeat((), rows)
        told = (dict(zip(names, cells, strict=True)) for cells in whole)
        if cls is None:
            return (EventRow(table.name, version, tick, cells) for cells in told)
        return (cls.ecsnet_told(cells, version, tick) for cells in told)


def _enums(cls: type[TypedRow]) -> dict[str, dict[Any, Any]]:
    """By field the members of its enum, which a typed row has in place of their numbers. Zero stands for what is
    hidden, and may be none of them."""
    return {
        name: {member.value: member for member in column.inner}
        for name, column in cls.ecsnet_columns.items()
        if column.kind is enum and column.inner is not None
    }


def _cells(field: FieldName, rows: int, cursor: "_Cursor") -> Sequence[Any]:
    """A column's cells as Python has them."""
    of = field.field
    assert of is not None
    encoding = cursor.byte()
    if encoding not in (_RAW, _CONSTANT, _HIDDEN):
        raise _malformed(f"encoding {encoding} of {field.path}")
    hidden = encoding == _HIDDEN
    told = rows if encoding == _RAW else 1
    if of.type == "string":
        texts = [""] if hidden else [_text(field, of.count, cursor) for _ in range(told)]
        return texts * (rows // told)
    if hidden:
        # Zeros stand for it, and no rule is asked of them.
        column = np.zeros((1, *of.shape), of.dtype)
    else:
        column = np.frombuffer(cursor.bytes(told * of.width), of.dtype).reshape(told, *of.shape)
        broken = _broken_rule(of, column)
        if broken:
            raise _malformed(f"{field.path} has a cell that is {broken}")
    cells = column.tolist() if not of.shape else [field.python(cell) for cell in column]
    return cells * (rows // told)


def _text(field: FieldName, bytes_max: int, cursor: "_Cursor") -> str:
    length = cursor.varint()
    if length > bytes_max:
        raise _malformed(f"{field.path} has a text of {length} bytes, of {bytes_max} at most")
    try:
        return cursor.bytes(length).decode()
    except UnicodeDecodeError:
        raise _malformed(f"{field.path} has a text that is no UTF-8") from None


def _broken_rule(field: Field, column: NDArray[Any]) -> str:
    """What rule of the schema a cell breaks, "" if none does. A reference is not looked up: it may name who is gone."""
    if field.type == "bool" and (column.view(np.uint8) > 1).any():
        return "no bool"
    if field.enum is not None and not np.isin(column, np.array(list(field.enum.values()), column.dtype)).all():
        return "none of its enum"
    # NaN is neither.
    if field.minimum is not None and not (column >= field.minimum).all():
        return f"below {field.minimum}"
    if field.maximum is not None and not (column <= field.maximum).all():
        return f"above {field.maximum}"
    return ""


class _Cursor:
    """A place in a stranger's bytes."""

    __slots__ = ("_at", "_bytes")

    def __init__(self, data: bytes) -> None:
        self._bytes = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._bytes) - self._at

    def bytes(self, size: int) -> bytes:
        if size > self.left:
            raise _malformed(f"{self.left} bytes where {size} are due")
        self._at += size
        return self._bytes[self._at - size : self._at]

    def take(self, record: Struct) -> tuple[int, ...]:
        return record.unpack(self.bytes(record.size))

    def byte(self) -> int:
        return self.bytes(1)[0]

    def varint(self) -> int:
        number = 0
        for shift in range(0, 35, 7):
            byte = self.byte()
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
        raise _malformed("a number of more than 5 bytes")


class EventRows:
    """The rows of one session that have come, until the game may be told."""

    __slots__ = ("_bytes", "_early", "_reader", "told")

    def __init__(self, reader: EventReader, told: Callable[[AnyRow], None]) -> None:
        self._reader = reader
        self._early: deque[tuple[int, int, Sequence[AnyRow]]] = deque()
        self._bytes = 0
        self.told = told

    def add_untrusted(self, message: Event) -> None:
        """Take a message in; `tell` decides when its rows are told.

        Raises:
            RemoteProtocolError: it is malformed, or more waits for versions that do not come than may. Nothing changes.
        """
        size = len(message.block)
        if self._bytes + size > EVENT_ROWS_EARLY_BYTES_MAX:
            raise RemoteProtocolError(
                f"more than EVENT_ROWS_EARLY_BYTES_MAX = {EVENT_ROWS_EARLY_BYTES_MAX} bytes of event rows of versions "
                f"that are not held",
                reason=Reason.TOO_LARGE,
            )
        self._early.append((message.version, size, self._reader.read_untrusted(message)))
        self._bytes += size

    def tell(self, held: Version) -> None:
        """Version `held` can be seen: tell the rows of it and those before."""
        early = self._early
        while early and early[0][0] <= held:
            _, size, rows = early.popleft()
            self._bytes -= size
            for row in rows:
                self.told(row)

    @property
    def waiting(self) -> bool:
        """Whether rows wait for their version."""
        return bool(self._early)


def _malformed(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"malformed event rows: {what}", Reason.BAD_FRAME)
