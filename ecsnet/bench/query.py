"""Queries of the store, beside SQLite (in memory), DuckDB and plain numpy columns: filter, aggregate, group, join,
order, relations and look-ups, each with its whole answer in Python.

What the sides hold is the crowd of `crowd.py`. A view is taken for each question, as a tool that wants the newest
version does; nothing is written in between, so what a store may remember from one question to the next it may remember
here.
"""

from collections.abc import Callable, Iterator, Sequence
from time import thread_time
from typing import Any, Final

from ecsnet.bench.crowd import Crowd, make_crowd
from ecsnet.bench.figures import Figure
from ecsnet.bench.peers_columns import ColumnsSide
from ecsnet.bench.peers_sql import DuckDbSide, SqliteSide
from ecsnet.bench.timing import Work, by_turns
from ecsnet.expressions import col, count, desc, max_, mean, min_, sum_
from ecsnet.schema import Schema, loads
from ecsnet.store import Store, View

__all__ = ["METRICS", "N_DEFAULT", "RUNS_DEFAULT", "crowd_store", "run"]

N_DEFAULT: Final = (10_000, 100_000)
RUNS_DEFAULT: Final = 5
_LOOK_UPS: Final = 200

METRICS: Final = ("filter", "aggregate", "group_by", "join", "order_limit", "related", "find")
"""Microseconds for one answer, lower is better. The last two ask about one row by its key or by a unique value."""

_KEY: Final = '{ name = "entity_id", type = "u64", foreign_key = "entities.id" }'


def crowd_schema() -> Schema:
    """The crowd's tables: two components, and items that refer to entities."""
    return loads(f"""
[database]
name = "crowd"
version = "1.0.0"

[tables.place]
parent_table = "entities"
spatial = {{ fields = ["x", "y"], cell = 4.0 }}
fields = [{_KEY}, {{ name = "x", type = "f32", default = 0.0 }}, {{ name = "y", type = "f32", default = 0.0 }}]

[tables.life]
parent_table = "entities"
fields = [{_KEY}, {{ name = "hp", type = "u16", default = 100 }}, {{ name = "team", type = "u8", default = 0 }}]

[tables.item]
primary_key = "id"
fields = [
  {{ name = "id", type = "u64", auto_increment = true }},
  {{ name = "kind", type = "u8" }},
  {{ name = "price", type = "u32" }},
  {{ name = "holder", type = "u64", foreign_key = "entities.id", on_delete = "cascade" }},
]
""")


def crowd_store(crowd: Crowd) -> tuple[Store, Any]:
    """A store with the crowd in it, and the keys of its entities by number."""
    store = Store(crowd_schema())
    with store.transaction() as tx:
        keys = tx.spawn_many(place={"x": crowd.x, "y": crowd.y}, life={"hp": crowd.hp, "team": crowd.team})
        tx.insert_many("item", {"kind": crowd.kind, "price": crowd.price, "holder": keys[crowd.holder]})
    return store, keys


class EcsnetSide:
    """The store; each question takes a view of its own."""

    name = "ecsnet"

    def __init__(self, crowd: Crowd) -> None:
        self.store, self.keys = crowd_store(crowd)
        self._half = crowd.side / 2
        some = crowd.some(_LOOK_UPS)
        self._some: list[int] = self.keys[some].tolist()
        with self.store.view() as view:
            self._ids: list[int] = view["item.id"][some].tolist()
        self.works: dict[str, Work] = {
            "filter": self._timed(self.filter),
            "aggregate": self._timed(self.aggregate),
            "group_by": self._timed(self.group_by),
            "join": self._timed(self.join),
            "order_limit": self._timed(self.order_limit),
            "related": self.related,
            "find": self.find,
        }

    def _timed(self, question: Callable[[View], object]) -> Work:
        def work() -> float:
            started = thread_time()
            with self.store.view() as view:
                question(view)
            return thread_time() - started

        return work

    def filter(self, view: View) -> Any:
        return view.query("life", "place").where((col("life.hp") < 10) & (col("place.x") > self._half)).key

    def aggregate(self, view: View) -> Any:
        hp = "life.hp"
        team = view.query("life").where(col("life.team") == 3)
        return team.aggregate(count=count(), sum=sum_(hp), min=min_(hp), max=max_(hp))

    def group_by(self, view: View) -> Any:
        return view.query("life").group_by("life.team").aggregate(count=count(), hp=mean("life.hp"))

    def join(self, view: View) -> Any:
        held = view.query("item").join("place", on="item.holder").where(col("item.kind") == 3)
        return held.select("item.id", "item.price", "place.x")

    def order_limit(self, view: View) -> Any:
        return view.query("item").order_by(desc("item.price")).limit(10).select("item.id", "item.price")

    def related(self) -> float:
        with self.store.view() as view:
            started = thread_time()
            for entity in self._some:
                view.related(entity, "item.holder").key  # noqa: B018
            return (thread_time() - started) / len(self._some)

    def find(self) -> float:
        with self.store.view() as view:
            started = thread_time()
            for number in self._ids:
                view[view.key("item.id", number), "item.price"]
            return (thread_time() - started) / len(self._ids)


def run(
    sizes: Sequence[int] = N_DEFAULT,
    *,
    runs: int = RUNS_DEFAULT,
    note: Callable[[str], None] = lambda text: None,
    progress: Callable[[str], None] = lambda text: None,
) -> Iterator[Figure]:
    """The figures, each as soon as it is measured.

    Args:
        sizes: numbers of entities, and of items.
        runs: of which the median is taken.
        note: called with what a reader must know, a peer that is not installed for one.
        progress: called with the name of what is measured next.
    """
    if not DuckDbSide.installed():
        note("duckdb is not installed: no figures beside it (pip install 'ecsnet[bench]')")
    for n in sizes:
        progress(f"loading, n = {n:,}")
        crowd = make_crowd(n)
        ours = EcsnetSide(crowd)
        databases: list[Any] = [SqliteSide(crowd)]
        if DuckDbSide.installed():
            databases.append(DuckDbSide(crowd))
        sides = (ours, ColumnsSide(crowd), *databases)
        for metric in METRICS:
            progress(f"{metric}, n = {n:,}")
            taken = by_turns({side.name: side.works[metric] for side in sides if metric in side.works}, runs)
            value = taken.pop("ecsnet") / 1000
            for peer, peer_value in taken.items():
                yield Figure("query", metric, n, value, "us", "lower", peer, peer_value / 1000)
        ours.store.close()
        for database in databases:
            database.close()
