"""Places in queries: `.near`, `.within` and `.nearest` beside every other clause."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ecsnet.errors import ArgumentError, QueryError
from ecsnet.expressions import col
from ecsnet.schema import loads
from ecsnet.store import Store
from ecsnet.store.parser import parse
from ecsnet.store.terms import maybe

TOWN = """
[database]
name = "town"
version = "1.0.0"

[tables.place]
parent_table = "entities"
spatial = { fields = ["x", "y"], cell = 4.0 }
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "x", type = "f32", default = 0.0 },
          { name = "y", type = "f32", default = 0.0 }]

[tables.health]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "hp", type = "u16", default = 100 }]

[tables.ghost]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" }]

[tables.item]
primary_key = "id"
fields = [{ name = "id", type = "u64", constraint = "unique", auto_increment = true },
          { name = "holder", type = "u64", foreign_key = "entities.id", optional = true, on_delete = "set_null" }]

[tables.mark]
primary_key = "id"
spatial = ["x", "y"]
fields = [{ name = "id", type = "u64", constraint = "unique", auto_increment = true },
          { name = "whom", type = "u64", foreign_key = "entities.id", optional = true, on_delete = "set_null" },
          { name = "x", type = "f64", default = 0.0 },
          { name = "y", type = "f64", default = 0.0 }]
"""


@pytest.fixture
def town() -> Iterator[Store]:
    """Forty people on a line, x = 0, 1, ...; every second has health, every fifth is a ghost; ten have an item."""
    with Store(loads(TOWN)) as store:
        with store.transaction() as tx:
            tx.spawn_many(7, health={"hp": 1})
            people = tx.spawn_many(40, place={"x": np.arange(40.0)})
            tx.insert_many(people[::2], health={"hp": np.arange(20) * 5})
            tx.insert_many(people[::5], ghost={})
            tx.insert_many("item", {"holder": people[10:20]})
            tx.insert_many("item", {"holder": people[10:12]})
            tx.insert("item", {})
            tx.insert_many("mark", {"x": np.arange(5.0), "whom": people[:5]})
        yield store


def xs(query: Any) -> list[int]:
    return [int(x) for x in query.select("place.x")["place.x"].tolist()]


@pytest.fixture(params=["view", "transaction", "lent"])
def source(town: Store, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The same answers from a version, from the head, and from columns that are lent."""
    if request.param == "view":
        with town.view() as view:
            yield view
        return
    with town.transaction() as tx:
        if request.param == "lent":
            (place,) = tx.query("place")
            place.x += 0.0
        yield tx


def test_near_and_within_narrow_the_rows_in_their_order(source: Any) -> None:
    assert xs(source.query("place").near((10, 0), 2)) == [8, 9, 10, 11, 12]
    assert xs(source.query("place").within((3, -1), (6, 1))) == [3, 4, 5, 6]
    assert xs(source.query("place").near((10, 0), 2).within((11, -9), (99, 9))) == [11, 12]
    assert xs(source.query("place").near((10, 5), 2)) == []
    assert source.query("place").near((0, 0), float("inf")).count() == 40


def test_nearest_gives_the_nearest_first(source: Any) -> None:
    assert xs(source.query("place").nearest((10.2, 0), 3)) == [10, 11, 9]
    assert xs(source.query("place").nearest((10, 0), 3)) == [10, 9, 11], "equally near ones by their keys"
    assert xs(source.query("place").nearest((10, 0), 0)) == []
    assert len(xs(source.query("place").nearest((10, 0), 99))) == 40


def test_places_are_asked_beside_every_other_clause(source: Any) -> None:
    """Nearest is of the rows that the query has, in whatever order its clauses were called."""
    assert xs(source.query("place", "health").near((10, 0), 3)) == [8, 10, 12]
    assert xs(source.query("health", "place", without=["ghost"]).near((10, 0), 3)) == [8, 12]
    assert xs(source.query("place", "health").nearest((11, 0), 4)) == [10, 12, 8, 14]
    assert xs(source.query("place", "health").nearest((11, 0), 2).where(col("health.hp") > 25)) == [12, 14]
    assert xs(source.query("place", "health").where(col("health.hp") > 25).nearest((11, 0), 2)) == [12, 14]
    assert xs(source.query("place").where(col("place.x") > 20).near((20, 0), 2)) == [21, 22]
    assert xs(source.query("place").near((20, 0), 2).nearest((30, 0), 2)) == [22, 21]
    assert xs(source.query("place").nearest((20, 0), 5).order_by("place.x")) == [18, 19, 20, 21, 22]
    assert xs(source.query("place").nearest((20.1, 0), 5).limit(2, 1)) == [21, 19]
    assert source.query("place").near((10, 0), 2).sum("place.x") == 50


def test_a_maybe_table_lies_nowhere_where_it_is_missing(source: Any) -> None:
    query = source.query("health", maybe("place"))
    assert query.count() == 27
    assert xs(query.near((0, 0), 5)) == [0, 2, 4]
    assert xs(query.nearest((0, 0), 3)) == [0, 2, 4]
    assert len(xs(query.nearest((0, 0), 99))) == 20


def test_rows_are_found_by_where_a_joined_row_lies(source: Any) -> None:
    """Each item by its holder's place; a holder of two items brings both."""
    items = source.query("item").join("place", on="item.holder")
    assert sorted(xs(items.near((11, 0), 1))) == [10, 10, 11, 11, 12]
    assert xs(items.nearest((11.1, 0), 2)) == [11, 11, 12]
    loose = source.query("item").join("place", on="item.holder", left=True)
    assert loose.count() == 13
    assert sorted(xs(loose.within((18, 0), (99, 0)))) == [18, 19]


def test_where_several_tables_lie_somewhere_the_query_says_which(source: Any) -> None:
    query = source.query("mark").join("place", on="mark.whom")
    with pytest.raises(ArgumentError, match=r"say which are meant, of=... one of 'mark', 'place'"):
        query.near((0, 0), 1)
    assert xs(query.near((0, 0), 1, of="place")) == [0, 1]
    assert xs(query.near((3, 0), 1, of="mark").near((2, 0), 0, of="place")) == [2]
    with pytest.raises(ArgumentError, match="of='health' is not in the query, which has mark, place"):
        query.near((0, 0), 1, of="health")


def test_a_query_asks_for_one_place_in_a_table_that_has_one(source: Any) -> None:
    with pytest.raises(ArgumentError, match="a query asks for one place"):
        source.query("place").near([[0, 0], [1, 1]], 1)
    with pytest.raises(ArgumentError, match="health does not say where its rows lie"):
        source.query("health").near((0, 0), 1)


def test_explain_says_which_index_found_the_rows(town: Store) -> None:
    with town.view() as view:
        near = view.query("place", "health").near((10, 0), 3).explain()
        assert near.indexes == ("near (10.0, 0.0) radius 3.0 of place, by the spatial index of place",)
        assert [step.action for step in near.steps] == ["index", "look up keys"]
        assert near.steps[0].found == 7
        nearest = view.query("place").where(col("place.x") > 5).nearest((1, 0), 3).explain()
        assert [step.action for step in nearest.steps] == ["scan", "filter", "nearest"]
    with town.transaction() as tx:
        (place,) = tx.query("place")
        place.x += 1.0
        explained = tx.query("place").near((10, 0), 3).explain()
        assert explained.steps[0].action == "scan"
        assert explained.steps[0].what == "near (10.0, 0.0) radius 3.0, by every row of place (its x and y are lent)"


@pytest.mark.parametrize(
    "text",
    [
        "from place near (10.0, 0.0) radius 2.0",
        "from place where place.x > 3 within (-inf, -1.0) to (6.0, inf) limit 2",
        "from place, health nearest 3 to (11.0, -0.5) of place order by health.hp",
        "from mark join place on mark.whom near (0.0, 0.0) radius 1e+30 of place near (2.0, 0.0) radius inf of mark",
    ],
)
def test_a_place_is_the_same_as_text(source: Any, text: str) -> None:
    """What a query writes of itself it reads back, and a program's query says what a text says."""
    query = parse(text).query(source)
    assert query.text() == text
    assert parse(text).text() == text
    assert parse(query.text()) == parse(text)
    assert query.count() > 0


def test_text_and_program_find_the_same_rows(source: Any) -> None:
    found = parse("FROM place, health NEAREST 3 TO (11, 0) OF place").query(source)
    assert xs(found) == xs(source.query("place", "health").nearest((11, 0), 3))
    assert parse("from item where id == 1 select id as near").run(source).to_dict()["near"].tolist() == [1]


@pytest.mark.parametrize(
    ("text", "at", "message"),
    [
        ("from place near (1, 2)", "", "expected 'radius', found the end"),
        ("from place near (1, 2 radius 3", "radius", r"expected '\)'"),
        ("from place near 1 radius 3", "1", r"expected '\('"),
        ("from place near (1, 2) radius -3", "near", "at least 0"),
        ("from place near (1, 2, 3) radius 3", "near", r"expected \(x, y\)"),
        ('from place near (1, "a") radius 3', "near", "expected numbers"),
        ("from place within (1, 2) to 3", "3", r"expected '\('"),
        ("from place nearest two to (1, 2)", "two", "expected a number of rows"),
        ("from place near (1, 2) radius 3 of plaec", "plaec", "did you mean 'place'"),
        ("from health near (1, 2) radius 3", "near", "declare spatial"),
        ("from place limit 3 near (1, 2) radius 3", "near", "'near' or the end"),
    ],
)
def test_a_text_that_asks_for_no_place_says_where(source: Any, text: str, at: str, message: str) -> None:
    with pytest.raises(QueryError, match=message) as caught:
        parse(text).query(source)
    assert text[caught.value.position :].startswith(at)
