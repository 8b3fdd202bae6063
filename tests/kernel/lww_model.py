"""Stores with tables that several nodes write, and what they must hold, in plain Python.

The model is the rule and nothing else: of a row the greatest stamp of deletion, and per field the greatest stamp with
its value, as long as that is above the deletion. Merging takes the greater of each.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ecsnet._kernel.kernel import KernelStore, Pin
from ecsnet._kernel.stamps import TOMBSTONES_TABLE, Merged, Stamps, Told, Whose, hlc_of
from ecsnet.schema import loads

SCHEMA = loads("""
[database]
name = "shared"
version = "1.0.0"

[tables.note]
primary_key = "name"
conflict = "lww"
fields = [
  { name = "name", type = "string[8]" },
  { name = "text", type = "string[16]", default = "-" },
  { name = "count", type = "i32", default = 7, minimum = -5, maximum = 1000 },
]

[tables.mark]
primary_key = "id"
conflict = "lww"
fields = [{ name = "id", type = "u32" }, { name = "place", type = "[f32; 2]", default = [0.5, 0.25] }]

[tables.plain]
primary_key = "id"
fields = [
  { name = "id", type = "u32" },
  { name = "note", type = "string[8]", foreign_key = "note.name", on_delete = "set_null", optional = true },
]
""")
NOTE, MARK, PLAIN = (SCHEMA.table(name) for name in ("note", "mark", "plain"))
TABLES = {table.name: table for table in (NOTE, MARK)}


@contextmanager
def pinned(kernel: KernelStore) -> Iterator[Pin]:
    """The newest version, held for as long as this lasts."""
    pin = kernel.acquire()
    try:
        yield pin
    finally:
        pin.release()


Stamp = tuple[int, int]
NEVER: Stamp = (0, 0)


def default_of(table: str, name: str) -> Any:
    value = TABLES[table].field(name).default
    return tuple(value) if isinstance(value, tuple) else value


@dataclass
class Row:
    """What is known of one row: when it was deleted last, and per field when it was written last, and what."""

    dead: Stamp = NEVER
    cells: dict[str, tuple[Stamp, Any]] = field(default_factory=dict)

    def joined(self, other: "Row") -> "Row":
        dead = max(self.dead, other.dead)
        both = [*self.cells.items(), *other.cells.items()]
        cells: dict[str, tuple[Stamp, Any]] = {}
        for name, cell in both:
            if cell[0] > dead and (name not in cells or cell > cells[name]):
                cells[name] = cell
        return Row(dead, cells)


class Model:
    """What one node must hold."""

    def __init__(self, node: int) -> None:
        self.node, self.last, self.now_ms = node, 0, 0
        self.rows: dict[tuple[str, Any], Row] = {}

    def stamp(self) -> Stamp:
        self.last = max(self.last + 1, hlc_of(self.now_ms))
        return self.last, self.node

    def alive(self, table: str, key: Any) -> bool:
        row = self.rows.get((table, key))
        return row is not None and bool(row.cells)

    def value(self, table: str, key: Any, name: str) -> Any:
        cell = self.rows[table, key].cells.get(name)
        return default_of(table, name) if cell is None else cell[1]

    def insert(self, table: str, key: Any, values: dict[str, Any], stamp: Stamp) -> None:
        own = TABLES[table]
        row = self.rows.setdefault((table, key), Row())
        for one in own:
            value = key if one.name == own.primary_key else values.get(one.name, default_of(table, one.name))
            row.cells[one.name] = (stamp, value)

    def update(self, table: str, key: Any, values: dict[str, Any], stamp: Stamp) -> None:
        for name, value in values.items():
            if self.value(table, key, name) != value:
                self.rows[table, key].cells[name] = (stamp, value)

    def delete(self, table: str, key: Any, stamp: Stamp) -> None:
        self.rows[table, key] = Row(stamp)

    def copy(self) -> dict[tuple[str, Any], Row]:
        return {name: Row(row.dead, dict(row.cells)) for name, row in self.rows.items()}

    def join(self, rows: dict[tuple[str, Any], Row]) -> None:
        for name, row in rows.items():
            self.rows[name] = self.rows.get(name, Row()).joined(row)
            self.last = max(self.last, row.dead[0], *(cell[0][0] for cell in row.cells.values()), 0)

    def content(self) -> dict[tuple[str, Any], dict[str, tuple[Stamp, Any]]]:
        """Living rows: of each field who wrote it and when, and what."""
        return {
            (table, key): {
                one.name: row.cells.get(
                    one.name,
                    (NEVER, key if one.name == TABLES[table].primary_key else default_of(table, one.name)),
                )
                for one in TABLES[table]
            }
            for (table, key), row in self.rows.items()
            if row.cells
        }

    def buried(self) -> dict[tuple[str, Any], Stamp]:
        """Deletions that are still needed: some cell of the row is not above them."""
        return {
            name: row.dead
            for name, row in self.rows.items()
            if row.dead != NEVER and len(row.cells) < len(TABLES[name[0]].fields)
        }


class Node:
    """A store that writes as one of several nodes, and its model."""

    def __init__(self, number: int, kernel: KernelStore | None = None) -> None:
        self.model = Model(number)
        self.kernel = KernelStore(SCHEMA, entities_max=64) if kernel is None else kernel
        self.kernel.take_baton()
        if kernel is None:
            self.kernel.publish(0, genesis=True)
        self.stamps = Stamps(self.kernel, number)

    def close(self) -> None:
        self.stamps.close()
        self.kernel.close()

    def tell_time(self, unix_ms: int) -> None:
        self.model.now_ms = unix_ms
        self.stamps.tell_time(unix_ms)

    @property
    def version(self) -> int:
        return self.kernel.published_version

    def key(self, table: str, key: Any) -> int:
        """The kernel's key of a row that is there."""
        with pinned(self.kernel) as pin:
            own = TABLES[table]
            names = self._cells(pin, table, own.primary_key or "")
            return int(pin.keys(own.id)[names.index(key)])

    def publish(self) -> None:
        self.kernel.commit()
        self.kernel.publish(self.version + 1)

    def insert(self, table: str, rows: dict[Any, dict[str, Any]]) -> None:
        own = TABLES[table]
        keys = self.kernel.reserve(own.id, len(rows))
        columns = {own.field(own.primary_key or "").id: list(rows)}
        given = {name for values in rows.values() for name in values}
        for name in given:
            columns[own.field(name).id] = [values.get(name, default_of(table, name)) for values in rows.values()]
        self.kernel.insert_many(
            own.id, keys, {f: np.array(c, object if isinstance(c[0], str) else None) for f, c in columns.items()}
        )

    def cut(self, base: int, whose: Whose = Whose.ALL, other: int = 0) -> bytes:
        with pinned(self.kernel) as pin:
            return self.stamps.cut(pin, base, whose, other).block

    def cut_in_parts(self, base: int, budget_bytes: int) -> list[bytes]:
        parts, told = [], Told(b"", None)
        with pinned(self.kernel) as pin:
            while True:
                told = self.stamps.cut(pin, base, Whose.ALL, 0, told.cursor, budget_bytes)
                parts.append(told.block)
                if told.cursor is None:
                    return [part for part in parts if part]

    def merge(self, block: bytes) -> Merged | None:
        if not block:
            return None
        self.kernel.begin()
        try:
            merged = self.stamps.merge(block)
        except BaseException:
            self.kernel.rollback()
            raise
        self.publish()
        return merged

    def digest(self) -> bytes:
        with pinned(self.kernel) as pin:
            return self.stamps.digest(pin)

    def _cells(self, pin: Any, table: str, name: str) -> list[Any]:
        own = TABLES[table]
        one = own.field(name)
        if one.type == "string":
            return [pin.text(own.id, one.id, row) for row in range(pin.rows(own.id))]
        cells = pin.column(own.id, one.id).tolist()
        return [tuple(cell) for cell in cells] if one.shape else cells

    def content(self) -> dict[tuple[str, Any], dict[str, tuple[Stamp, Any]]]:
        found: dict[tuple[str, Any], dict[str, tuple[Stamp, Any]]] = {}
        with pinned(self.kernel) as pin:
            for table, own in TABLES.items():
                keys = self._cells(pin, table, own.primary_key or "")
                columns = {
                    one.name: list(
                        zip(
                            map(tuple, self.stamps.column(pin, own.id, one.id).tolist()),
                            self._cells(pin, table, one.name),
                            strict=True,
                        )
                    )
                    for one in own
                }
                for row, key in enumerate(keys):
                    found[table, key] = {name: cells[row] for name, cells in columns.items()}
        return found

    def buried(self) -> dict[tuple[str, Any], Stamp]:
        found: dict[tuple[str, Any], Stamp] = {}
        with pinned(self.kernel) as pin:
            times, nodes = pin.column(TOMBSTONES_TABLE, 0).tolist(), pin.column(TOMBSTONES_TABLE, 1).tolist()
            for time, node, raw in zip(times, nodes, pin.column(TOMBSTONES_TABLE, 2), strict=True):
                name = raw.tobytes()
                table = SCHEMA.table_by_id(int.from_bytes(name[:2], "little"))
                key = name[3 : 3 + name[2]]
                found[table.name, key.decode() if table is NOTE else int.from_bytes(key, "little")] = (time, node)
        return found

    def check(self) -> None:
        """The store holds what the model says."""
        assert self.content() == self.model.content()
        assert self.buried() == self.model.buried()
        assert self.stamps.clock == self.model.last
