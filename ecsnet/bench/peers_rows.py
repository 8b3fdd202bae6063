"""Databases as peers of the store's point and bulk writes: SQLite in memory, and LMDB without syncing.

Both hold one row of 32 bytes for each entity under an integer key, as `body` here does, and write in transactions of as
many rows as ecsnet's. SQLite checks types and one key; LMDB stores bytes. Neither has a version that readers of another
thread see without copying it out.
"""

import random
import shutil
import sqlite3
import struct
import tempfile
from importlib import import_module
from importlib.util import find_spec
from time import thread_time
from typing import Any, Final

from ecsnet.bench.timing import Work

__all__ = ["LmdbSide", "SqliteRowSide"]

_INSERT: Final = "insert into body values (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ROW: Final = (1.0, 2.0, 3.0, 0.5, 0.25, 0.125, 100, 100)
_LMDB_BYTES: Final = 1 << 30


def _some_of(n: int, most: int) -> list[int]:
    order = list(range(n))
    random.Random(7).shuffle(order)
    return order[:most]


class SqliteRowSide:
    """Python's sqlite3, `:memory:`; statements are cached by the module itself."""

    name = "SQLite"

    def __init__(self, n: int, point_operations_max: int, rows_per_transaction: int) -> None:
        self.n = n
        self._some = _some_of(n, point_operations_max)
        self._step = rows_per_transaction
        self._value = 100
        self._connection = connection = sqlite3.connect(":memory:", isolation_level=None)
        names = "px real, py real, pz real, vx real, vy real, vz real, hp integer, max_hp integer"
        connection.execute(f"create table body(id integer primary key, {names})")
        self._rows = [(number, *_ROW) for number in range(n)]
        self._write(_INSERT, self._rows)
        self.works: dict[str, Work] = {
            "insert_row": self.insert_row,
            "update_row": self.update_row,
            "delete_row": self.delete_row,
            "update_row_own_transaction": self.update_row_own_transaction,
            "read_cell": self.read_cell,
            "bulk_insert": self.bulk_insert,
            "bulk_update": self.bulk_update,
        }

    def close(self) -> None:
        self._connection.close()

    def _write(self, statement: str, rows: Any) -> float:
        started = thread_time()
        self._connection.execute("begin")
        self._connection.executemany(statement, rows)
        self._connection.execute("commit")
        return thread_time() - started

    def _each(self, statement: str, rows: list[tuple[Any, ...]]) -> float:
        execute = self._connection.execute
        started = thread_time()
        for at in range(0, len(rows), self._step):
            execute("begin")
            for row in rows[at : at + self._step]:
                execute(statement, row)
            execute("commit")
        return (thread_time() - started) / len(rows)

    def insert_row(self) -> float:
        rows = [(self.n + number, *_ROW) for number in self._some]
        seconds = self._each(_INSERT, rows)
        self._write("delete from body where id = ?", [(row[0],) for row in rows])
        return seconds

    def update_row(self) -> float:
        self._value += 1
        return self._each("update body set hp = ? where id = ?", [(self._value, number) for number in self._some])

    def delete_row(self) -> float:
        seconds = self._each("delete from body where id = ?", [(number,) for number in self._some])
        self._write(_INSERT, [(number, *_ROW) for number in self._some])
        return seconds

    def update_row_own_transaction(self) -> float:
        self._value += 1
        execute = self._connection.execute
        some = self._some[: max(1, len(self._some) // 10)]
        started = thread_time()
        for number in some:
            execute("update body set hp = ? where id = ?", (self._value, number))
        return (thread_time() - started) / len(some)

    def read_cell(self) -> float:
        execute = self._connection.execute
        started = thread_time()
        for number in self._some:
            execute("select hp from body where id = ?", (number,)).fetchone()
        return (thread_time() - started) / len(self._some)

    def bulk_insert(self) -> float:
        self._connection.execute("delete from body")
        return self._write(_INSERT, self._rows) / self.n

    def bulk_update(self) -> float:
        self._value += 1
        rows = [(self._value, number) for number in range(self.n)]
        return self._write("update body set hp = ? where id = ?", rows) / self.n


class LmdbSide:
    """LMDB with `sync=False`, in a temporary folder that goes with the side."""

    name = "LMDB"

    @staticmethod
    def installed() -> bool:
        """Whether it can be imported."""
        return find_spec("lmdb") is not None

    def __init__(self, n: int, point_operations_max: int, rows_per_transaction: int) -> None:
        self.n = n
        self._some = _some_of(n, point_operations_max)
        self._step = rows_per_transaction
        self._value = 100
        self._key = struct.Struct(">I").pack
        self._row = struct.Struct("<6f2I").pack
        self._hp = struct.Struct("<I")
        self._folder = tempfile.mkdtemp(prefix="ecsnet-bench-")
        self._environment: Any = import_module("lmdb").open(
            self._folder, map_size=_LMDB_BYTES, sync=False, metasync=False, writemap=True, map_async=True
        )
        self._rows = [(self._key(number), self._row(*_ROW)) for number in range(n)]
        self._put(self._rows)
        self.works: dict[str, Work] = {
            "insert_row": self.insert_row,
            "update_row": self.update_row,
            "delete_row": self.delete_row,
            "update_row_own_transaction": self.update_row_own_transaction,
            "read_cell": self.read_cell,
            "bulk_insert": self.bulk_insert,
        }

    def close(self) -> None:
        self._environment.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _put(self, rows: Any) -> float:
        started = thread_time()
        with self._environment.begin(write=True) as transaction:
            transaction.cursor().putmulti(rows)
        return thread_time() - started

    def insert_row(self) -> float:
        keys = [self.n + number for number in self._some]
        started = thread_time()
        for at in range(0, len(keys), self._step):
            with self._environment.begin(write=True) as transaction:
                for number in keys[at : at + self._step]:
                    transaction.put(self._key(number), self._row(*_ROW))
        seconds = (thread_time() - started) / len(keys)
        with self._environment.begin(write=True) as transaction:
            for number in keys:
                transaction.delete(self._key(number))
        return seconds

    def update_row(self) -> float:
        started = thread_time()
        self._update(self._some, self._step)
        return (thread_time() - started) / len(self._some)

    def _update(self, numbers: list[int], step: int) -> None:
        self._value += 1
        for at in range(0, len(numbers), step):
            with self._environment.begin(write=True) as transaction:
                for number in numbers[at : at + step]:
                    key = self._key(number)
                    row = bytearray(transaction.get(key))
                    self._hp.pack_into(row, 24, self._value)
                    transaction.put(key, bytes(row))

    def delete_row(self) -> float:
        started = thread_time()
        for at in range(0, len(self._some), self._step):
            with self._environment.begin(write=True) as transaction:
                for number in self._some[at : at + self._step]:
                    transaction.delete(self._key(number))
        seconds = (thread_time() - started) / len(self._some)
        self._put([(self._key(number), self._row(*_ROW)) for number in self._some])
        return seconds

    def update_row_own_transaction(self) -> float:
        some = self._some[: max(1, len(self._some) // 10)]
        started = thread_time()
        self._update(some, 1)
        return (thread_time() - started) / len(some)

    def read_cell(self) -> float:
        with self._environment.begin(buffers=True) as transaction:
            started = thread_time()
            for number in self._some:
                self._hp.unpack_from(transaction.get(self._key(number)), 24)[0]
            return (thread_time() - started) / len(self._some)

    def bulk_insert(self) -> float:
        with self._environment.begin(write=True) as transaction:
            transaction.drop(self._environment.open_db(txn=transaction), delete=False)
        return self._put(self._rows) / self.n
