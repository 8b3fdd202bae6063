"""Searches by place: whatever happened to the rows, what is found is what a look at every row finds."""

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from ecsnet.errors import ArgumentError, EcsnetError
from ecsnet.schema import loads
from ecsnet.store import Store
from ecsnet.store.spatial import Search, scan, search_near, search_nearest, search_within

SKY = """
[database]
name = "sky"
version = "1.0.0"

[tables.body]
parent_table = "entities"
spatial = { fields = ["x", "y"], cell = 3.0 }
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "x", type = "f32", default = 0.0 },
          { name = "mass", type = "f32", default = 1.0 },
          { name = "y", type = "f32", default = 0.0 }]

[tables.star]
primary_key = "id"
spatial = ["x", "y", "z"]
fields = [{ name = "id", type = "u64", constraint = "unique", auto_increment = true },
          { name = "x", type = "f64", default = 0.0 },
          { name = "y", type = "f64", default = 0.0 },
          { name = "z", type = "f64", default = 0.0 }]

[tables.tag]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" }]
"""

Columns = tuple[list[NDArray[Any]], NDArray[np.uint64]]


@pytest.fixture
def sky() -> Iterator[Store]:
    with Store(loads(SKY)) as store:
        yield store


def searches(store: Store, random: np.random.Generator, table: str, width: float) -> list[Search]:
    """One of each kind, at places that repeat, some of them far away."""
    name = store.names.table(table)
    axes = 3 if table == "star" else 2
    places = np.round((random.random((3, axes)) - 0.5) * width * 1.4)
    sizes = np.round(random.random((3, axes)) * width * 0.4)
    return [
        search_near(name, places, sizes[:, 0]),
        search_near(name, places[0], float("inf")),
        search_within(name, places - sizes, places + sizes),
        search_nearest(name, places, int(random.integers(0, 12))),
    ]


def expect_equal(search: Search, found: Any, columns: Columns, allowed: NDArray[np.bool_] | None = None) -> None:
    rows, ends = found
    expected_rows, expected_ends = scan(search, columns[0], columns[1], allowed)
    assert rows.tolist() == expected_rows.tolist(), search
    assert ends.tolist() == expected_ends.tolist(), search


def body_of(view: Any, table: str = "body") -> Columns:
    fields = ("x", "y") if table == "body" else ("x", "y", "z")
    return [view[f"{table}.{field}"] for field in fields], view.keys_of(view.names.table(table))


def change(store: Store, random: np.random.Generator, alive: list[int], width: float) -> None:
    """A transaction of a few changes of any kind; one in four is undone."""
    tx = store.transaction()
    before = list(alive)

    def place(n: int) -> NDArray[np.float32]:
        return np.round((random.random(n) - 0.5) * width).astype(np.float32)

    for _ in range(random.integers(1, 5)):
        what = random.integers(0, 6)
        if what == 0 or not alive:
            n = int(random.integers(1, 40))
            alive.extend(tx.spawn_many(n, body={"x": place(n), "y": place(n)}).tolist())
        elif what == 1:
            gone = alive.pop(int(random.integers(0, len(alive))))
            tx.despawn(gone)
        elif what == 2:
            tx.update(alive[int(random.integers(0, len(alive)))], "body", x=float(place(1)[0]))
        elif what == 3:
            some = np.array(alive[:: int(random.integers(1, 4))], np.uint64)
            tx.update_many(some, "body", x=place(len(some)), y=place(len(some)))
        elif what == 4:
            tx.update(alive[0], "body", y=float(random.choice([np.nan, np.inf, 1e30, -7.0])), mass=2.0)
        else:
            tx.delete(alive[-1], "body")
            tx.insert(alive[-1], body={"x": float(place(1)[0])})
    if random.random() < 0.3:
        (body,) = tx.query("body")
        body.x += place(len(body.x))
        body.y[::3] = 1.5
    if random.random() < 0.25:
        tx.rollback()
        alive[:] = before
    else:
        tx.commit()


@pytest.mark.parametrize("seed", range(6))
def test_a_search_finds_what_a_look_at_every_row_finds(sky: Store, seed: int) -> None:
    """In every version, through views held across others, and in transactions in the middle of their changes."""
    random = np.random.default_rng(seed)
    width = (10.0, 60.0, 5000.0)[seed % 3]
    alive: list[int] = []
    held: list[Any] = []
    for _ in range(60):
        change(sky, random, alive, width)
        if random.random() < 0.5:
            held.append(sky.view())
        if len(held) > 3:
            held.pop(int(random.integers(0, len(held)))).close()
        for view in held[-1:] if random.random() < 0.5 else held:
            for search in searches(sky, random, "body", width):
                expect_equal(search, view.search(search, None), body_of(view))
                allowed = random.random(len(view["body.x"])) < 0.6
                expect_equal(search, view.search(search, allowed), body_of(view), allowed)
        if random.random() < 0.5:
            with sky.transaction() as tx:
                for step in range(3):
                    query = tx.query("body")
                    if not query.count():
                        break
                    tx.update(int(query.key[0]), "body", x=float(step))
                    if step == 1:
                        tx.spawn(body={"x": 2.5})
                    for search in searches(sky, random, "body", width):
                        (body,) = tx.query("body") if step == 2 else (None,)
                        kernel = sky._writer.kernel
                        table = sky.names.table("body")
                        ids = [table.fields[name].id for name in ("x", "y")]
                        cells = [kernel.lend(table.id, field, False).copy() for field in ids]
                        if body is not None:
                            body.x[0] += 1.0
                            cells = [body.x, body.y]
                        keys = kernel.head_table(table.id).keys.copy()
                        expect_equal(search, tx.search(search, None), (cells, keys))
                tx.rollback()


def test_stars_are_found_in_three_dimensions(sky: Store) -> None:
    """f64, keys of their own, the default size of cells."""
    random = np.random.default_rng(3)
    with sky.transaction() as tx:
        tx.insert_many("star", {axis: random.normal(size=500) * 40 for axis in "xyz"})
    with sky.view() as view:
        for _ in range(30):
            for search in searches(sky, random, "star", 100.0):
                expect_equal(search, view.search(search, None), body_of(view, "star"))


def test_what_lies_nowhere_is_never_found(sky: Store) -> None:
    with sky.transaction() as tx:
        tx.spawn_many(4, body={"x": np.array([np.nan, np.inf, 0.0, 1.0]), "y": np.array([0.0, 0.0, -np.inf, 0.0])})
    table = sky.names.table("body")
    with sky.view() as view:
        everything = search_within(table, (-np.inf, -np.inf), (np.inf, np.inf))
        assert view.search(everything, None)[0].tolist() == [3]
        assert view.search(search_near(table, (0, 0), np.inf), None)[0].tolist() == [3]
        assert view.search(search_nearest(table, (0, 0), 9), None)[0].tolist() == [3]


def test_following_costs_the_rows_that_changed_cells(sky: Store) -> None:
    """A version later the index is the same one, brought along: it is filled once in all."""
    with sky.transaction() as tx:
        ids = tx.spawn_many(5000, body={"x": np.arange(5000.0), "y": 0.0})
    table = sky.names.table("body")
    search = search_near(table, (100.0, 0.0), 4.0)
    indexes = sky._writer.joins.spatial
    with sky.view() as view:
        view.search(search, None)
    moves = []
    for step in range(10):
        with sky.transaction() as tx:
            (body,) = tx.query("body")
            body.x += np.float32(0.3)
            tx.update(int(ids[step]), "body", mass=3.0)
        with sky.view() as view:
            expect_equal(search, view.search(search, None), body_of(view))
        (one,) = indexes.statistics(table.id)
        assert one.fills == 1
        moves.append(one.moves)
    # A tenth of a cell each: every row changes cells in one version of ten.
    steps = [after - before for before, after in pairwise(moves)]
    assert sum(steps) < 5000 and max(steps) <= 2000, steps
    with sky.transaction() as tx:
        tx.update_many(ids, "body", mass=np.arange(5000.0))
    with sky.view() as view:
        view.search(search, None)
    assert indexes.statistics(table.id)[0].moves == moves[-1], "mass says nothing of places"


def test_a_held_view_keeps_its_index_and_newer_views_get_another(sky: Store) -> None:
    with sky.transaction() as tx:
        ids = tx.spawn_many(100, body={"x": np.arange(100.0)})
    table = sky.names.table("body")
    search = search_near(table, (0.0, 0.0), 10.0)
    old = sky.view()
    assert len(old.search(search, None)[0]) == 11
    for step in range(5):
        with sky.transaction() as tx:
            tx.update(int(ids[step]), "body", x=500.0)
        with sky.view() as view:
            assert len(view.search(search, None)[0]) == 10 - step
        assert len(old.search(search, None)[0]) == 11
    found = sky._writer.joins.spatial.statistics(table.id)
    assert [one.fills for one in found] == [1, 1], "the second is a copy of the first, and followed"
    assert sky.view().search(search, None)[0].tolist() == sky.view().search(search, None)[0].tolist()


def test_history_that_is_gone_costs_one_filling(sky: Store) -> None:
    """Change sets reach back a few hundred versions: an index older than that is made anew, and is right."""
    with sky.transaction() as tx:
        ids = tx.spawn_many(50, body={"x": np.arange(50.0)})
    table = sky.names.table("body")
    search = search_near(table, (0.0, 0.0), 20.0)
    with sky.view() as view:
        view.search(search, None)
    for step in range(400):
        with sky.transaction() as tx:
            tx.update(int(ids[step % 50]), "body", x=float(step % 37))
    with sky.view() as view:
        expect_equal(search, view.search(search, None), body_of(view))
    (one,) = sky._writer.joins.spatial.statistics(table.id)
    assert one.fills == 2


def test_threads_search_while_the_writer_goes_on(sky: Store) -> None:
    with sky.transaction() as tx:
        tx.spawn_many(800, body={"x": np.arange(800.0) % 30, "y": np.arange(800.0) % 27})
    wrong: list[Exception] = []
    stop = threading.Event()
    done = [0] * 4

    def look(number: int) -> None:
        random = np.random.default_rng(number)
        try:
            while not stop.is_set():
                with sky.view() as view:
                    for search in searches(sky, random, "body", 30.0):
                        expect_equal(search, view.search(search, None), body_of(view))
                done[number] += 1
        except (AssertionError, EcsnetError) as error:
            wrong.append(error)

    threads = [threading.Thread(target=look, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    random = np.random.default_rng(9)
    while not wrong and min(done) < 15 and all(thread.is_alive() for thread in threads):
        with sky.transaction() as tx:
            (body,) = tx.query("body")
            body.x[:] = np.float32(30) * random.random(800, np.float32)
        with sky.transaction() as tx:
            gone = tx.query("body").key[:3].copy()
            tx.despawn(gone)
            tx.spawn_many(3, body={"x": 4.0})
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong and min(done) >= 15, wrong


def test_a_transaction_finds_what_its_lent_columns_say(sky: Store) -> None:
    with sky.transaction() as tx:
        tx.spawn_many(10, body={"x": np.arange(10.0)})
    table = sky.names.table("body")
    search = search_near(table, (100.0, 0.0), 5.0)
    with sky.transaction() as tx:
        assert tx.search_indexed(search.axes)
        (body,) = tx.query("body")
        body.x += 95.5
        assert not tx.search_indexed(search.axes)
        assert tx.search(search, None)[0].tolist() == list(range(10))
        body.x[3] = np.nan
        assert tx.search(search, None)[0].tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_what_a_transaction_undid_is_not_found(sky: Store) -> None:
    """An index of the head that saw the undone rows must not keep them."""
    with sky.transaction() as tx:
        ids = tx.spawn_many(10, body={"x": np.arange(10.0)})
    table = sky.names.table("body")
    search = search_near(table, (0.0, 0.0), 3.0)
    tx = sky.transaction()
    tx.update(int(ids[7]), "body", x=1.0)
    tx.despawn(int(ids[0]))
    tx.spawn_many(5, body={"x": 2.0})
    assert len(tx.search(search, None)[0]) == 9
    tx.rollback()
    with sky.transaction() as tx:
        assert len(tx.search(search, None)[0]) == 4
        tx.update(int(ids[9]), "body", x=0.5)
        assert len(tx.search(search, None)[0]) == 5
    with sky.view() as view:
        assert len(view.search(search, None)[0]) == 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda body: search_near(body, (1.0,), 2.0), r"the centre: expected \(x, y\), or an array of shape"),
        (lambda body: search_near(body, (1.0, 2.0, 3.0), 2.0), "expected"),
        (lambda body: search_near(body, (1.0, float("nan")), 2.0), "NaN"),
        (lambda body: search_near(body, (1.0, float("inf")), 2.0), "infinity"),
        (lambda body: search_near(body, "here", 2.0), "expected numbers"),
        (lambda body: search_near(body, (1.0, 2.0), -1.0), "at least 0, found -1.0"),
        (lambda body: search_near(body, (1.0, 2.0), [1.0, 2.0]), "one for each of 1 centres"),
        (lambda body: search_within(body, (1.0, 2.0), [[1.0, 2.0]] * 2), "as many low as high"),
        (lambda body: search_nearest(body, (1.0, 2.0), -1), "found -1"),
        (lambda body: search_nearest(body, (1.0, 2.0), cast("Any", 1.5)), "found 1.5"),
        (lambda body: search_nearest(body, (1.0, 2.0), True), "found True"),
    ],
)
def test_a_search_that_means_nothing_is_refused(sky: Store, make: Callable[[Any], Search], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make(sky.names.table("body"))


def test_a_table_that_lies_nowhere_says_what_to_declare(sky: Store) -> None:
    with pytest.raises(ArgumentError, match=r'tag does not say where its rows lie: declare spatial = \["x", "y"\]'):
        search_near(sky.names.table("tag"), (0, 0), 1)
