"""Queries compared with loops: random worlds, random queries, in a view and in a transaction that has written."""

import math
import operator
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ecsnet.expressions import Aggregate, Comparison, Condition, Order, asc, col, desc
from ecsnet.schema import loads
from ecsnet.store import Store, maybe
from ecsnet.store.parser import parse

SCHEMA = loads("""
[database]
name = "model"
version = "1.0.0"

[tables.a]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "n", type = "i16", default = 3 },
          { name = "f", type = "f64", default = 0.5 }]

[tables.b]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "n", type = "u8", default = 7 },
          { name = "to", type = "u64", foreign_key = "entities.id", optional = true, on_delete = "set_null" }]

[tables.box]
primary_key = "id"
fields = [{ name = "id", type = "u32", constraint = "unique", auto_increment = true },
          { name = "size", type = "u8", default = 0 }]

[tables.thing]
primary_key = "id"
fields = [{ name = "id", type = "u64", constraint = "unique", auto_increment = true },
          { name = "n", type = "i8", default = 0 },
          { name = "owner", type = "u64", foreign_key = "entities.id", optional = true, on_delete = "set_null" },
          { name = "inside", type = "u32", foreign_key = "box.id", optional = true, on_delete = "set_null" }]
""")

ABSENT: dict[str, dict[str, Any]] = {"a": {"n": 3, "f": 0.5}, "b": {"n": 7, "to": 0}, "box": {"id": 0, "size": 0},
          "thing": {"id": 0, "n": 0, "owner": 0, "inside": 0}}  # fmt: skip

Row = dict[str, Any]


class World:
    """The same rows as dicts: table → key → cells."""

    def __init__(self) -> None:
        self.store = Store(SCHEMA)
        self.tables: dict[str, dict[int, Row]] = {name: {} for name in ABSENT}

    def fill(self, tx: Any, seed: int, rows: int) -> None:
        random = np.random.default_rng(seed)
        floats = [0.0, -0.0, 1.5, math.nan, math.inf, -2.0]

        def one(values: Any) -> Any:
            return values[int(random.integers(len(values)))]

        ships = [int(tx.spawn()) for _ in range(rows)]
        for ship in ships:
            if random.random() < 0.7:
                self.tables["a"][ship] = {"n": int(random.integers(-3, 4)), "f": one(floats)}
                tx.insert(ship, a=self.tables["a"][ship])
            if random.random() < 0.5:
                self.tables["b"][ship] = {"n": int(random.integers(4)), "to": one([*ships, 0])}
                tx.insert(ship, b=self.tables["b"][ship])
        boxes = [0]
        for _ in range(rows // 2):
            row = {"size": int(random.integers(3))}
            key = int(tx.insert("box", row))
            row["id"] = int(tx[key, "box.id"])
            boxes.append(row["id"])
            self.tables["box"][key] = row
        for _ in range(rows):
            row = {"n": int(random.integers(-2, 3)), "owner": one([*ships, 0]), "inside": one(boxes)}
            key = int(tx.insert("thing", row))
            self.tables["thing"][key] = row | {"id": int(tx[key, "thing.id"])}
        # Gaps, so that rows do not stand in the order of their keys.
        for ship in ships[:: max(2, rows // 2)]:
            if ship in self.tables["a"]:
                tx.delete(ship, "a")
                del self.tables["a"][ship]


OPERATORS = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
}


def holds(condition: Any, row: Row) -> bool:
    kind = type(condition).__name__
    if kind == "Both":
        return all(holds(part, row) for part in condition.parts)
    if kind == "Either":
        return any(holds(part, row) for part in condition.parts)
    if kind == "Not":
        return not holds(condition.inner, row)
    if kind == "Membership":
        return any(row[condition.path] == value for value in condition.values)
    right = row[condition.value.path] if hasattr(condition.value, "path") else condition.value
    return bool(OPERATORS[condition.operator](row[condition.path], right))


class Asked:
    """One random query: as verbs, and as the model answers it."""

    def __init__(self, draw: Any, world: World):
        self.world = world
        shape = draw(st.sampled_from(["a", "b", "ab", "a?b", "?ab", "a-b", "thing", "box"]))
        self.with_: list[str] = [name for name in ("thing", "box") if name == shape]
        self.maybe: list[str] = []
        self.without: list[str] = []
        if not self.with_:
            for place, name in enumerate(shape):
                if name in "ab":
                    mark = shape[place - 1 : place]
                    {"?": self.maybe, "-": self.without}.get(mark, self.with_).append(name)
        names = [*self.with_, *self.maybe]
        self.joins: list[tuple[str, str, str, bool]] = []
        ways = [("b.to", "a", "b"), ("thing.owner", "a", "thing"), ("thing.owner", "b", "thing"),
                ("thing.inside", "box", "thing")]  # fmt: skip
        for _ in range(draw(st.integers(0, 2))):
            fitting = [
                (path, far if near in names else near) for path, far, near in ways if (far in names) != (near in names)
            ]
            if "b" in names:
                fitting.append(("b.to", "a"))
            if not fitting:
                break
            path, table = draw(st.sampled_from(fitting))
            called = f"{table}{len(names)}" if table in names else table
            self.joins.append((path, table, called, draw(st.booleans())))
            names.append(called)
        self.names = names
        self.paths = [f"{name}.{field}" for name in names for field in ABSENT[name.rstrip("0123456789")]]
        path = st.sampled_from(self.paths)
        sign = st.sampled_from(sorted(OPERATORS))
        leaf: st.SearchStrategy[Condition] = st.builds(Comparison, path, sign, st.integers(-2, 4) | st.just(1.5))
        leaf |= st.builds(lambda path, values: col(path).is_in(values), path, st.lists(st.integers(-2, 4), max_size=3))
        leaf |= st.builds(lambda one, other: col(one) < col(other), path, path)
        tree = st.recursive(
            leaf,
            lambda inner: (
                st.builds(lambda x, y: x & y, inner, inner)
                | st.builds(lambda x, y: x | y, inner, inner)
                | inner.map(lambda x: ~x)
            ),
            max_leaves=4,
        )
        self.condition: Condition | None = draw(st.none() | tree)
        order = st.builds(lambda down, path: (desc if down else asc)(path), st.booleans(), path)
        self.order: list[Order] = draw(st.lists(order, max_size=2))
        self.limit: int | None = draw(st.none() | st.integers(0, 6))
        self.offset: int = draw(st.integers(0, 3)) if self.limit is not None else 0
        self.group: list[str] = draw(st.lists(path, min_size=1, max_size=2, unique=True))
        self.measure: str = draw(path)

    def query(self, source: Any) -> Any:
        query = source.query(*self.with_, *[maybe(name) for name in self.maybe], without=self.without)
        for path, table, called, left in self.joins:
            query = query.join(table, on=path, left=left, name=called)
        if self.condition is not None:
            query = query.where(self.condition)
        return query.order_by(*self.order).limit(self.limit, self.offset)

    def answer(self) -> list[Row]:
        """Every row as a dict of paths, "#name" for keys; unsorted and uncut."""
        tables = self.world.tables
        rows = []
        for key in tables[self.with_[0]]:
            if any(key not in tables[name] for name in self.with_) or any(key in tables[name] for name in self.without):
                continue
            row: Row = {}
            for name in [*self.with_, *self.maybe]:
                self.put(row, name, name, key if key in tables[name] else 0)
            rows.append(row)
        for path, table, called, left in self.joins:
            joined = []
            for row in rows:
                partners = self.partners(row, path, table)
                for key in partners or ([0] if left else []):
                    wider = dict(row)
                    self.put(wider, called, table, key)
                    joined.append(wider)
            rows = joined
        return [row for row in rows if self.condition is None or holds(self.condition, row)]

    def put(self, row: Row, called: str, table: str, key: int) -> None:
        row[f"#{called}"] = key
        for field, cell in (self.world.tables[table][key] if key else ABSENT[table]).items():
            row[f"{called}.{field}"] = cell

    def partners(self, row: Row, path: str, table: str) -> list[int]:
        near, _, field = path.partition(".")
        tables = self.world.tables
        if f"#{near}" in row:
            # From a row of the query to what it refers to.
            value = row[path] if row[f"#{near}"] else 0
            if not value:
                return []
            if table == "box":
                return [key for key, box in tables["box"].items() if box["id"] == value]
            return [value] if value in tables[table] else []
        # From the first of what is in the query that it refers to, to all that refer to that.
        targets = ("box",) if field == "inside" else ("a", "b")
        ours = next(row[f"#{name}"] for name in self.names if name.rstrip("0123456789") in targets)
        if not ours:
            return []
        value = tables["box"][ours]["id"] if field == "inside" else ours
        return [key for key, one in tables[near].items() if one[field] == value]


def bits(value: Any) -> Any:
    """NaN equals itself here; 0.0 and -0.0 are what they are."""
    return "nan" if isinstance(value, float) and math.isnan(value) else value


def found(query: Any, asked: Asked) -> list[tuple[Any, ...]]:
    parts = list(query)
    columns = []
    for name, part in zip(asked.names, parts, strict=True):
        columns.append(part.key.tolist())
        columns += [part[field].tolist() for field in ABSENT[name.rstrip("0123456789")]]
    return [tuple(map(bits, cells)) for cells in zip(*columns, strict=True)]


def expected(rows: list[Row], asked: Asked) -> list[tuple[Any, ...]]:
    names = []
    for name in asked.names:
        names.append(f"#{name}")
        names += [f"{name}.{field}" for field in ABSENT[name.rstrip("0123456789")]]
    return [tuple(bits(row[name]) for name in names) for row in rows]


def rank(value: Any, descending: bool) -> tuple[bool, Any]:
    if isinstance(value, float) and math.isnan(value):
        return True, 0
    return False, -value if descending else value


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(0, 1000), st.integers(0, 12), st.booleans())
def test_a_query_finds_what_loops_find(data: Any, seed: int, rows: int, inside: bool) -> None:
    world = World()
    tx = world.store.transaction()
    world.fill(tx, seed, rows)
    asked = Asked(data.draw, world)
    if inside:
        source: Any = tx
    else:
        tx.commit()
        source = world.store.view()
    answer = asked.answer()
    sorted_answer = sorted(answer, key=lambda row: [rank(row[o.path], o.descending) for o in asked.order])
    stop = None if asked.limit is None else asked.offset + asked.limit

    query = asked.query(source)
    got = found(query, asked)
    everything = found(query.limit(None), asked)
    assert sorted(everything, key=repr) == sorted(expected(answer, asked), key=repr)
    assert got == everything[asked.offset : stop]
    keys = [[rank(row[o.path], o.descending) for o in asked.order] for row in sorted_answer[asked.offset : stop]]
    result = query.select(**{o.path: o.path for o in asked.order}) if asked.order else None
    if result is not None:
        assert keys == [[rank(row[o.path], o.descending) for o in asked.order] for row in result.rows()]
    assert query.count() == len(got) == query.explain().rows
    assert parse(query.text()).query(source).key.tolist() == query.key.tolist()

    # Numbers over what there is.
    cells = [row[asked.measure] for row in answer]
    whole = query.limit(None)
    assert math.isclose(whole.sum(asked.measure), sum(cells), rel_tol=1e-9) or math.isnan(sum(cells))
    if cells and not any(isinstance(cell, float) and math.isnan(cell) for cell in cells):
        assert whole.min(asked.measure) == min(cells)
        assert whole.max(asked.measure) == max(cells)
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for row in answer:
        groups.setdefault(tuple(bits(row[path] + 0) for path in asked.group), []).append(row[asked.measure])
    grouped = whole.group_by(*asked.group).aggregate(n=Aggregate("count"), s=Aggregate("sum", asked.measure))
    mine = {tuple(bits(row[path] + 0) for path in asked.group): (row["n"], row["s"]) for row in grouped.rows()}
    assert mine.keys() == groups.keys()
    for key, (count, total) in mine.items():
        assert count == len(groups[key])
        assert bits(float(total)) == bits(float(sum(groups[key])))
    if inside:
        tx.rollback()
