"""Views: one version, all of it, for as long as somebody looks."""

import gc
from typing import Any

import numpy as np
import pytest

from ecsnet.errors import (
    ArgumentError,
    ClosedError,
    NoRowError,
    StaleEntityError,
    UnknownNameError,
)
from ecsnet.schema import Schema
from ecsnet.store import Store, col


@pytest.fixture
def world(store: Store) -> dict[str, int]:
    with store.transaction() as tx:
        ships = {
            "ada": tx.spawn(transform={"x": 1.0}, velocity={"x": 0.5}, health={"hp": 10}),
            "bob": tx.spawn(transform={"x": 2.0}, health={"hp": 20}),
            "rock": tx.spawn(transform={"x": 3.0}),
        }
    return dict(ships)


def test_a_column_is_the_kernels_memory_and_read_only(store: Store, world: dict[str, int]) -> None:
    view = store.view()
    x = view["transform.x"]
    assert x.dtype == np.float32
    assert not x.flags.owndata
    assert view["transform.x"] is x
    with pytest.raises(ValueError, match="read-only"):
        x[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        x.flags.writeable = True


def test_cells_come_as_python_values(store: Store, world: dict[str, int]) -> None:
    with store.view() as view:
        assert type(view[world["ada"], "transform.x"]) is float
        assert type(view[world["ada"], "health.hp"]) is int
        with pytest.raises(NoRowError):
            view[world["rock"], "health.hp"]
        with pytest.raises(StaleEntityError):
            view[12345, "health.hp"]
        with pytest.raises(UnknownNameError, match="known: hp"):
            view[world["ada"], "health.hq"]
        with pytest.raises(ArgumentError):
            view[3]
        with pytest.raises(ArgumentError):
            view["ada", "health.hp"]


def test_reading_cell_by_cell_goes_on_right_when_an_index_takes_over(store: Store) -> None:
    """After some reads an array from entity index to row answers instead of the kernel."""
    with store.transaction() as tx:
        ships = tx.spawn_many(300, transform={"x": np.arange(300.0)}, everything={"an_array": [1.0, 2.0, 3.0]})
        lone = tx.spawn(health={"hp": 7})
    gone = int(ships[5])
    store.transaction().despawn(gone).commit()
    with store.transaction() as tx:
        reborn = tx.spawn(transform={"x": -1.0})
    assert reborn & 0xFFFF_FFFF == gone & 0xFFFF_FFFF, "the place is reused"

    for _ in range(2):
        view = store.view()
        for number, ship in enumerate(ships.tolist()):
            if ship == gone:
                with pytest.raises(StaleEntityError):
                    view[ship, "transform.x"]
                continue
            assert view[ship, "transform.x"] == number
            assert view[ship, "everything.an_array"].tolist() == [1, 2, 3]
        for _ in range(100):
            assert view[lone, "health.hp"] == 7, "a lone row far out pays for no index"
            with pytest.raises(NoRowError):
                view[lone, "transform.x"]
            with pytest.raises(NoRowError):
                view[reborn, "everything.a_u8"]
            with pytest.raises(StaleEntityError):
                view[2**40 + 3, "transform.x"]
            with pytest.raises(StaleEntityError):
                view[2**64 - 1, "transform.x"]
            with pytest.raises(ArgumentError):
                view[-1, "transform.x"]
            with pytest.raises(StaleEntityError):
                view[lone, "item.kind"]
        assert view[reborn, "transform.x"] == -1
        view.close()
        with pytest.raises(ClosedError):
            view[lone, "health.hp"]


def test_a_held_view_never_changes_while_the_world_does(store: Store, world: dict[str, int]) -> None:
    """Twice as many versions as the kernel has slots, in every way a world can change."""
    held = store.view()
    before = {name: held[name].to_dict() for name in ("entities", "transform", "velocity", "health")}
    copies = {name: {field: column.copy() for field, column in table.items()} for name, table in before.items()}
    digest = held.digest()

    generator = np.random.default_rng(1)
    for step in range(40):
        with store.transaction() as tx:
            (body,) = tx.query("transform")
            body.x += 1
            fresh = tx.spawn(transform={}, velocity={}, health={})
        with store.transaction() as tx:
            tx.update(fresh, "health", hp=int(generator.integers(100)))
            victims = tx.query("transform").entity
            tx.despawn(int(generator.choice(victims)))
            if step == 20:
                tx.despawn(tx.query("entities").entity)

    assert held.digest() == digest
    for name, table in before.items():
        for field, column in table.items():
            assert np.array_equal(column, copies[name][field]), (name, field)
            assert np.array_equal(held[name].to_dict()[field], copies[name][field])
    assert held[world["ada"], "health.hp"] == 10


def test_views_of_very_many_versions_defer_publishing_until_some_are_let_go(
    store: Store, world: dict[str, int]
) -> None:
    """Memory for versions is bounded. The writer never waits for readers: what it commits is shown later."""
    views: list[Any] = []
    for count in range(100):
        views.append(store.view())
        with store.transaction() as tx:
            (body,) = tx.query("transform")
            body.x += 1
        assert tx.version == 2 + count
    behind = store.version
    assert behind < 101
    assert [view[world["ada"], "transform.x"] for view in views[:5]] == [1, 2, 3, 4, 5]

    for view in views:
        view.close()
    with store.view() as view:
        assert view.version == store.version == 101
        assert view[world["ada"], "transform.x"] == 101


def test_an_array_outlives_its_view_and_its_store(schema: Schema) -> None:
    store = Store(schema)
    with store.transaction() as tx:
        tx.spawn_many(transform={"x": np.arange(100.0)})
    view = store.view()
    tail = view["transform.x"][50:]
    view.close()
    for _ in range(10):
        with store.transaction() as tx:
            (body,) = tx.query("transform")
            body.x += 1
    store.close()
    del store, view
    gc.collect()
    assert tail.tolist() == list(range(50, 100))


def test_a_closed_view_still_says_which_version_it_was(store: Store) -> None:
    """It is what `changes(since=...)` goes on from."""
    with store.view() as view:
        pass

    assert (view.version, view.tick) == (store.version, 0)


def test_a_closed_view_says_so(store: Store, world: dict[str, int]) -> None:
    view = store.view()
    assert view[world["ada"], "health.hp"] == 10
    query = view.query("health")
    view.close()
    view.close()
    assert view.closed
    for attempt in (
        lambda: view[world["ada"], "health.hp"],
        lambda: view["health.hp"],
        lambda: view.query("health"),
        lambda: query.count(),
        lambda: world["ada"] in view,
        lambda: view.digest(),
        lambda: view.__enter__(),
    ):
        with pytest.raises(ClosedError):
            attempt()


def test_membership(store: Store, world: dict[str, int]) -> None:
    with store.view() as view:
        assert world["rock"] in view
        assert 999 not in view
        assert (world["ada"], "velocity") in view
        assert (world["rock"], "velocity") not in view
        with pytest.raises(UnknownNameError):
            _ = (world["ada"], "velosity") in view


def test_a_join_is_aligned_with_its_entities(store: Store, world: dict[str, int]) -> None:
    with store.view() as view:
        query = view.query("transform", "health")
        body, health = query
        assert len(query) == 2
        assert query.count() == len(body) == len(health) == 2
        found = dict(zip(query.entity.tolist(), zip(body.x.tolist(), health.hp.tolist(), strict=True), strict=True))
        assert found == {world["ada"]: (1.0, 10), world["bob"]: (2.0, 20)}
        assert body.entity_id.tolist() == health.entity_id.tolist() == query.key.tolist() == body.key.tolist()
        without = view.query("transform", without=["health"])
        assert without.entity.tolist() == [world["rock"]]
        assert query[1].hp.tolist() == health.hp.tolist()
        with pytest.raises(ArgumentError, match="read-only"):
            body.x = 1
        with pytest.raises(ValueError, match="read-only"):
            body.x[:] = 1


def test_a_join_is_right_after_a_delete_in_one_of_two_tables(store: Store) -> None:
    """A delete moves the last row into the hole, in one table and not in the other: equal rows are equal no more."""
    with store.transaction() as tx:
        ships = tx.spawn_many(transform={"x": np.arange(8.0)}, velocity={"x": np.arange(8.0) * 10})
    with store.view() as view:
        body, speed = view.query("transform", "velocity")
        assert not body.copied
        assert (body.x * 10 == speed.x).all()

    with store.transaction() as tx:
        body, speed = tx.query("transform", "velocity")
        tx.delete(int(ships[2]), "velocity")
        tx.delete(int(ships[5]), "velocity")
        query = tx.query("transform", "velocity")
        body, speed = query
        assert body.copied or speed.copied
        assert (body.x * 10 == speed.x).all()
        assert sorted(query.entity.tolist()) == sorted(np.delete(ships, [2, 5]).tolist())
        body.x += 1
        speed.x += 10

    with store.view() as view:
        query = view.query("transform", "velocity")
        body, speed = query
        assert (body.x * 10 == speed.x).all()
        assert sorted(body.x.tolist()) == [1, 2, 4, 5, 7, 8]
        assert view[int(ships[2]), "transform.x"] == 2
        assert view[int(ships[7]), "velocity.x"] == 80


def test_conditions_choose_rows(store: Store, world: dict[str, int]) -> None:
    with store.view() as view:
        weak = view.query("transform", "health").where((col("health.hp") < 20) & (col("transform.x") > 0.0))
        body, health = weak
        assert weak.entity.tolist() == [world["ada"]]
        assert body.copied
        assert (body.x.tolist(), health.hp.tolist()) == ([1.0], [10])
        assert weak.where(col("health.hp") > 10).count() == 0
        assert view.query("health").where(col("hp") >= 10).count() == 2
        assert view.query("health").where(col("health.entity_id") == world["bob"]).entity.tolist() == [world["bob"]]
        with pytest.raises(ArgumentError, match="add 'velocity'"):
            view.query("health").where(col("velocity.x") > 1)
        with pytest.raises(UnknownNameError):
            view.query("health").where(col("health.hq") > 1)
        with pytest.raises(UnknownNameError):
            view.query("health", "transform").where(col("hp") > 1)
        with pytest.raises(ArgumentError, match="condition"):
            view.query("health").where(True)  # type: ignore[arg-type]


def test_a_query_of_nonsense_is_refused(store: Store) -> None:
    with store.view() as view:
        with pytest.raises(ArgumentError, match="at least one"):
            view.query()
        with pytest.raises(ArgumentError, match="twice"):
            view.query("health", "health")
        with pytest.raises(ArgumentError, match="list"):
            view.query("health", without="transform")  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="different keys"):
            view.query("item", "transform")
        with pytest.raises(ArgumentError, match="use .key"):
            view.query("item").entity
        with pytest.raises(UnknownNameError, match="did you mean"):
            view.query("helth")


def test_a_table_prints_its_first_rows(store: Store, world: dict[str, int]) -> None:
    with store.transaction() as tx:
        tx.insert("item", {"kind": "SWORD", "holder": world["ada"]})
        tx.spawn_many(20, everything={"some_bytes": b"ab", "an_array": [1.0, 2.0, 3.0]})
    with store.view() as view:
        text = str(view["item"]).splitlines()
        assert text[0] == f"item: 1 rows at version {store.version}"
        assert text[1].split() == ["key", "holder", "id", "kind"]
        assert text[2].split()[2:] == ["1", "SWORD"]
        many = str(view["everything"])
        assert "'ab'" in many
        assert "[1 2 3]" in many
        assert many.endswith("... 10 more")
        assert str(view["velocity"]).count("\n") == 2
        assert "20 rows of everything" in repr(view["everything"])


def test_a_table_becomes_a_dict_of_columns(store: Store, world: dict[str, int]) -> None:
    with store.view() as view:
        columns = view["health"].to_dict()
        assert set(columns) == {"key", "entity_id", "hp"}
        assert columns["hp"] is view["health.hp"]
        assert len(view["health"]) == 2
        assert view["health"].fields == ("hp", "entity_id")
        records = view["health"].to_numpy()
        assert records.dtype.names == ("key", "hp", "entity_id")
        assert records["hp"].tolist() == view["health.hp"].tolist()


def test_the_schema_describes_itself_in_tables(store: Store, schema: Schema) -> None:
    with store.view() as view:
        assert view.version == 0
        names = {bytes(row).rstrip(b"\0").decode() for row in view["schema_tables.name"]}
        assert {"transform", "health", "item"} <= names
        assert view.query("schema_fields").count() == len(view["schema_fields"]) > 10


def test_equal_worlds_have_equal_digests(schema: Schema) -> None:
    digests = []
    for order in (1, -1):
        with Store(schema) as store:
            with store.transaction() as tx:
                ships = [tx.spawn() for _ in range(5)]
            with store.transaction() as tx:
                for ship in ships[::order]:
                    tx.insert(ship, transform={"x": float(ship & 7)})
            with store.view() as view:
                digests.append(view.digest())
    assert len(digests[0]) == 32
    assert digests[0] == digests[1]


def test_reading_costs_no_version_and_blocks_nobody(store: Store, world: dict[str, int]) -> None:
    views: list[Any] = [store.view() for _ in range(3)]
    version = store.version
    with store.transaction() as tx:
        tx.update(world["ada"], "health", hp=1)
    views.append(store.view())
    assert [view.version for view in views] == [version, version, version, version + 1]
    assert [view[world["ada"], "health.hp"] for view in views] == [10, 10, 10, 1]
    assert repr(views[0]) == f"<view of version {version}>"
