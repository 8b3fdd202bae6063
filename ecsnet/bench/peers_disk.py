"""Databases as peers of what is durable: SQLite with a log that is synced at each commit, and LMDB, which syncs too.

Both hold one row of 32 bytes for each entity under an integer key, as `body` here does.
"""

import shutil
import sqlite3
import struct
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from ecsnet.bench.disk import synced

__all__ = ["LmdbDisk", "SqliteDisk"]

_ROW: Final = (1.0, 2.0, 3.0, 0.5, 0.25, 0.125, 100, 100)
_INSERT: Final = "insert into body values (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_UPDATE: Final = "update body set hp = ? where id = ?"


class SqliteDisk:
    """Python's sqlite3: `journal_mode = wal`, `synchronous = full`."""

    name = "SQLite"

    def __init__(self, folder: Path, n: int) -> None:
        self.n = n
        self.path = folder / "sqlite.db"
        self._folder = folder
        self._value = 100
        self._connection = self._open()
        names = "px real, py real, pz real, vx real, vy real, vz real, hp integer, max_hp integer"
        self._connection.execute(f"create table body(id integer primary key, {names})")
        self.load()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        return connection

    def close(self) -> None:
        self._connection.close()

    def load(self) -> float:
        """Seconds for all rows in one transaction."""
        execute, many = self._connection.execute, self._connection.executemany
        execute("delete from body")
        rows = [(number, *_ROW) for number in range(self.n)]
        started = perf_counter()
        execute("begin")
        many(_INSERT, rows)
        execute("commit")
        return perf_counter() - started

    def commit(self, number: int) -> float:
        """Seconds for a row in a transaction of its own."""
        self._value += 1
        started = perf_counter()
        self._connection.execute(_UPDATE, (self._value, number))
        return perf_counter() - started

    def commit_rows(self, numbers: Sequence[int]) -> float:
        """Seconds for these rows in one transaction."""
        self._value += 1
        rows = [(self._value, number) for number in numbers]
        started = perf_counter()
        self._connection.execute("begin")
        self._connection.executemany(_UPDATE, rows)
        self._connection.execute("commit")
        return perf_counter() - started

    def transfer(self, payer: int, payee: int, amount: int) -> None:
        """Part of a transaction: read two, check, write two."""
        execute = self._connection.execute
        (has,) = execute("select hp from body where id = ?", (payer,)).fetchone()
        (other,) = execute("select hp from body where id = ?", (payee,)).fetchone()
        if has >= amount and payer != payee:
            execute(_UPDATE, (has - amount, payer))
            execute(_UPDATE, (other + amount, payee))

    def transfers(self, transfers: Sequence[tuple[int, int, int]]) -> float:
        """Seconds for all of them as one transaction: SQLite has one sync for each, so they share one."""
        started = perf_counter()
        self._connection.execute("begin")
        for payer, payee, amount in transfers:
            self.transfer(payer, payee, amount)
        self._connection.execute("commit")
        return perf_counter() - started

    def snapshot(self) -> float:
        """Seconds for a copy by the backup interface, synced."""
        path = self._folder / "backup.db"
        started = perf_counter()
        copy = sqlite3.connect(path)
        self._connection.backup(copy)
        copy.close()
        with path.open("rb+") as file:
            synced(file.fileno())
        seconds = perf_counter() - started
        path.unlink()
        return seconds


class LmdbDisk:
    """LMDB, synced at each commit."""

    name = "LMDB"

    @staticmethod
    def installed() -> bool:
        """Whether it can be imported."""
        return find_spec("lmdb") is not None

    def __init__(self, folder: Path, n: int) -> None:
        self.n = n
        self._folder = folder
        self._value = 100
        self._key = struct.Struct(">I").pack
        self._row = struct.Struct("<6f2I").pack
        self._hp = struct.Struct("<I")
        self._environment: Any = import_module("lmdb").open(str(folder / "lmdb"), map_size=1 << 30)
        self._rows = [(self._key(number), self._row(*_ROW)) for number in range(n)]
        self.load()

    def close(self) -> None:
        self._environment.close()

    def load(self) -> float:
        """Seconds for all rows in one transaction."""
        with self._environment.begin(write=True) as transaction:
            transaction.drop(self._environment.open_db(txn=transaction), delete=False)
        started = perf_counter()
        with self._environment.begin(write=True) as transaction:
            transaction.cursor().putmulti(self._rows, append=True)
        return perf_counter() - started

    def commit(self, number: int) -> float:
        """Seconds for a row in a transaction of its own."""
        return self.commit_rows((number,))

    def commit_rows(self, numbers: Sequence[int]) -> float:
        """Seconds for these rows in one transaction."""
        self._value += 1
        started = perf_counter()
        with self._environment.begin(write=True) as transaction:
            for number in numbers:
                key = self._key(number)
                row = bytearray(transaction.get(key))
                self._hp.pack_into(row, 24, self._value)
                transaction.put(key, bytes(row))
        return perf_counter() - started

    def snapshot(self) -> float:
        """Seconds for a copy, synced."""
        path = self._folder / "lmdb-copy"
        path.mkdir()
        started = perf_counter()
        self._environment.copy(str(path))
        with (path / "data.mdb").open("rb+") as file:
            synced(file.fileno())
        seconds = perf_counter() - started
        shutil.rmtree(path)
        return seconds
