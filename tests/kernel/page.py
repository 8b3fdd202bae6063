"""A reader of blocks that was written from `schema/wire.md` and nothing else: what the page leaves out fails here."""

import math
from typing import Any

import numpy as np

from ecsnet.schema.model import Field, Schema, Table

_HALF = 1 / math.sqrt(2)


class Bytes:
    """What a block's rules read one behind the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, n: int) -> bytes:
        assert self.at + n <= len(self.data)
        self.at += n
        return self.data[self.at - n : self.at]

    def number(self, n: int) -> int:
        return int.from_bytes(self.take(n), "little")

    def leb(self) -> int:
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def zigzag(self) -> int:
        return unzigzag(self.leb())

    def bits(self, n: int, width: int) -> list[int]:
        whole = int.from_bytes(self.take((n * width + 7) // 8), "little")
        return [whole >> (i * width) & ((1 << width) - 1) for i in range(n)]


def unzigzag(bits: int) -> int:
    return bits >> 1 ^ -(bits & 1)


def lane(data: Bytes, encoding: int, n: int) -> list[int]:
    if encoding == 3:
        minimum, width = data.zigzag(), data.number(1)
        return [minimum + value for value in data.bits(n, width)]
    if encoding == 4:
        centre, small, minimum, large = data.zigzag(), data.number(1), data.zigzag(), data.number(1)
        marks = data.bits(n, 1)
        smalls = iter(data.bits(n - sum(marks), small))
        larges = iter(data.bits(sum(marks), large))
        return [minimum + next(larges) if mark else centre + unzigzag(next(smalls)) for mark in marks]
    values: list[int] = []
    before = 0
    for _ in range(data.leb()):
        length = data.leb() + 1
        before += data.zigzag()
        values += [before] * length
    assert len(values) == n
    return values


def turned(field: Field, value: int) -> list[float]:
    bits = 10
    if field.quantize:
        bits = next(b for b in range(2, 21) if _HALF / (2 ** (b - 1) - 1) <= field.quantize or b == 20)
    most = 2 ** (bits - 1) - 1
    others = [((value >> (2 + i * bits) & (2**bits - 1)) - most) * (_HALF / most) for i in range(3)]
    rest = 1.0
    for other in others:
        rest -= other * other
    others.insert(value & 3, math.sqrt(max(rest, 0.0)))
    return [float(np.float32(other)) for other in others]


class Reader:
    """The rows of each table by index, and of each its generation and its cells by name."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.tables: dict[str, dict[int, dict[str, Any]]] = {table.name: {} for table in schema.tables}
        self.held = 0

    def apply(self, block: bytes, base: int, version: int) -> set[int]:
        """Returns the encodings that it found."""
        assert base <= self.held < version
        data = Bytes(block)
        assert (data.number(1), data.number(1)) == (2, 0)
        tables, length, reference = data.number(2), data.number(4), data.number(8)
        assert length == len(block) - 16 and reference in (0, self.held)
        seen: set[int] = set()
        by_id = {table.id: table for table in self.schema.tables}
        for _ in range(tables):
            self._table(data, by_id[data.number(2)], seen)
        assert data.at == len(block)
        self.held = version
        return seen

    def _table(self, data: Bytes, table: Table, seen: set[int]) -> None:
        rows = self.tables[table.name]
        fields = sorted(table.fields, key=lambda field: field.id)
        columns, flags = data.leb(), data.number(1)
        for flag in (1, 2):
            if flags & flag:
                n = data.leb()
                for index in self._names(data, data.number(1), n):
                    rows.pop(index, None)
        fresh: list[int] = []
        if flags & 4:
            n = data.leb()
            fresh = self._names(data, data.number(1), n)
            if flags & 8:
                data.bits(n, 1)
            once = data.number(1)
            seen.add(once)
            generations = [data.number(4) for _ in range(1 if once else n)] * (n if once else 1)
            for index, generation in zip(fresh, generations, strict=True):
                rows[index] = {"": generation}
            for field in fields:
                for index, cell in zip(fresh, self._cells(data, field, n, seen, []), strict=True):
                    rows[index][field.name] = cell
        names: list[int] = []
        for _ in range(columns):
            number, form, at = data.number(2), data.number(1), data.at
            data.at += 1
            field = next(field for field in fields if field.id == number)
            if form != 4:
                n = data.leb()
                names = sorted(rows.keys() - set(fresh)) if form == 0 else self._names(data, form, n)
                assert len(names) == n
            after = Bytes(data.data[at : at + 1] + data.data[data.at :])
            held = [rows[index][field.name] for index in names]
            cells = self._cells(after, field, len(names), seen, held)
            data.at += after.at - 1
            for index, cell in zip(names, cells, strict=True):
                rows[index][field.name] = cell

    def _names(self, data: Bytes, form: int, n: int) -> list[int]:
        found: list[int] = []
        after = 0
        if form == 1:
            for _ in range(n):
                found.append(after + data.leb())
                after = found[-1] + 1
        elif form == 2:
            first, bits = data.leb(), data.leb()
            found = [first + i for i, bit in enumerate(data.bits(bits, 1)) if bit]
        else:
            assert form == 3
            for _ in range(data.leb()):
                first = after + data.leb()
                after = first + data.leb() + 1
                found += range(first, after)
        assert len(found) == n
        return found

    def _cells(self, data: Bytes, field: Field, n: int, seen: set[int], held: list[Any]) -> list[Any]:
        encoding = data.number(1)
        seen.add(encoding)
        if encoding in (0, 1):
            cells = np.frombuffer(data.take(field.width * (n if encoding == 0 else 1)), field.dtype.base)
            return self._shaped(field, np.tile(cells, n if encoding else 1), n)
        if encoding == 2:
            planes = np.frombuffer(data.take(field.width * n), np.uint8).reshape(field.width, n)
            return self._shaped(field, np.frombuffer(planes.T.tobytes(), field.dtype.base), n)
        kind, relative = encoding & 0x7F, encoding & 0x80
        if field.rotation:
            return [turned(field, value) for value in lane(data, kind, n)]
        lanes = []
        for number in range(field.count):
            values = lane(data, kind, n)
            if relative:
                own = [cell[number] if field.shape else cell for cell in held]
                step = field.quantize
                values = [v + (round(c * (1 / step)) if step else c) for v, c in zip(values, own, strict=True)]
            lanes.append(values)
        if field.quantize:
            cells = np.array(lanes, np.float64).T * field.quantize
        else:
            cells = np.array([[value & (2**64 - 1) for value in values] for values in lanes], np.uint64).T
        return self._shaped(field, cells.astype(field.dtype.base).reshape(-1), n)

    def _shaped(self, field: Field, cells: Any, n: int) -> list[Any]:
        shaped: list[Any] = cells.reshape((n, *field.shape)).tolist()
        return shaped
