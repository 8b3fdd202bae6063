"""SQLite (in memory) and DuckDB as peers: the crowd of `crowd.py` in two tables, indexed as their users would.

Each work answers the same question as ecsnet's of the same name and takes the whole answer into Python: SQLite as rows,
DuckDB as numpy columns, which is the cheapest that each offers. DuckDB runs on one thread, as everybody here does.
"""

import sqlite3
from importlib import import_module
from importlib.util import find_spec
from time import process_time, thread_time
from typing import Any, Final

import numpy as np

from ecsnet.bench.crowd import Crowd
from ecsnet.bench.timing import Work

__all__ = ["DuckDbSide", "SqliteSide"]

_LOOK_UPS: Final = 200
_TABLES: Final = (
    "create table entity(id integer primary key, x real, y real, hp integer, team integer)",
    "create table item(id integer primary key, kind integer, price integer, holder integer)",
)
QUERIES: Final = {
    "filter": "select id from entity where hp < 10 and x > {half}",
    "aggregate": "select count(*), sum(hp), min(hp), max(hp) from entity where team = 3",
    "group_by": "select team, count(*), avg(hp) from entity group by team",
    "join": "select item.id, price, x from item join entity on entity.id = item.holder where kind = 3",
    "order_limit": "select id, price from item order by price desc limit 10",
}
"""By metric; the columns that ecsnet's query of the same name returns."""


class SqliteSide:
    """Python's own sqlite3, `:memory:`, one connection."""

    name = "SQLite"

    def __init__(self, crowd: Crowd) -> None:
        self._connection = connection = sqlite3.connect(":memory:", isolation_level=None)
        for statement in _TABLES:
            connection.execute(statement)
        numbers = range(crowd.n)
        entities = zip(numbers, *(column.tolist() for column in (crowd.x, crowd.y, crowd.hp, crowd.team)), strict=True)
        items = zip(numbers, *(column.tolist() for column in (crowd.kind, crowd.price, crowd.holder)), strict=True)
        connection.execute("begin")
        connection.executemany("insert into entity values (?, ?, ?, ?, ?)", entities)
        connection.executemany("insert into item values (?, ?, ?, ?)", items)
        connection.execute("commit")
        connection.execute("create index item_holder on item(holder)")
        self._some = crowd.some(_LOOK_UPS)
        self._half = crowd.side / 2
        self.works: dict[str, Work] = {metric: self._query(metric) for metric in QUERIES}
        self.works["related"] = self.related
        self.works["find"] = self.find

    def close(self) -> None:
        self._connection.close()

    def rows(self, metric: str) -> list[tuple[Any, ...]]:
        """The answer."""
        return self._connection.execute(QUERIES[metric].format(half=self._half)).fetchall()

    def _query(self, metric: str) -> Work:
        def work() -> float:
            started = thread_time()
            self.rows(metric)
            return thread_time() - started

        return work

    def related(self) -> float:
        execute = self._connection.execute
        started = thread_time()
        for number in self._some:
            execute("select id from item where holder = ?", (number,)).fetchall()
        return (thread_time() - started) / len(self._some)

    def find(self) -> float:
        execute = self._connection.execute
        started = thread_time()
        for number in self._some:
            execute("select price from item where id = ?", (number,)).fetchone()
        return (thread_time() - started) / len(self._some)


class DuckDbSide:
    """DuckDB in memory, on one thread: columns, as here, and no point look-ups that it would be fair to time."""

    name = "DuckDB"

    @staticmethod
    def installed() -> bool:
        """Whether it can be imported."""
        return find_spec("duckdb") is not None

    def __init__(self, crowd: Crowd) -> None:
        self._connection: Any = import_module("duckdb").connect(":memory:")
        self._connection.execute("set threads = 1")
        for statement in _TABLES:
            self._connection.execute(statement)
        numbers = np.arange(crowd.n)
        entities = {"id": numbers, "x": crowd.x, "y": crowd.y, "hp": crowd.hp, "team": crowd.team}
        items = {"id": numbers, "kind": crowd.kind, "price": crowd.price, "holder": crowd.holder}
        for table, columns in (("entity", entities), ("item", items)):
            self._connection.register("given", columns)
            self._connection.execute(f"insert into {table} select * from given")
            self._connection.unregister("given")
        half = crowd.side / 2
        self.works: dict[str, Work] = {metric: self._query(text.format(half=half)) for metric, text in QUERIES.items()}

    def close(self) -> None:
        self._connection.close()

    def _query(self, text: str) -> Work:
        def work() -> float:
            # Of the process: it may have threads of its own for what it calls one.
            started = process_time()
            self._connection.execute(text).fetchnumpy()
            return process_time() - started

        return work
