"""Groups: entities that have all components of one lie in the first rows of each, so their queries are slices."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ecsnet.schema import loads
from ecsnet.store import Store

FLEET = """
[database]
name = "fleet"
version = "1.0.0"

[tables.place]
parent_table = "entities"
group = "moving"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "x", type = "f32", default = 0.0 }]

[tables.speed]
parent_table = "entities"
group = "moving"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "x", type = "f32", default = 1.0 }]

[tables.engine]
parent_table = "entities"
group = "moving"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "heat", type = "f64", default = 0.0 }]

[tables.cargo]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "tons", type = "u16", default = 0 }]
"""

MOVING = ("place", "speed", "engine")


@pytest.fixture
def fleet() -> Iterator[Store]:
    with Store(loads(FLEET)) as store:
        yield store


def moving(source: Any) -> list[int]:
    """The members, by the rows of each table, which must be the first of each and lie together."""
    query = source.query(*MOVING)
    keys: list[int] = query.key.tolist()
    for rows in query.resolve().rows:
        assert rows == slice(0, len(keys))
    return keys


def test_a_query_of_a_group_is_slices_of_the_columns(fleet: Store) -> None:
    """Also where others have some of the components, before and after the members."""
    with fleet.transaction() as tx:
        tx.spawn_many(3, place={"x": 9.0})
        members = tx.spawn_many(5, place={"x": np.arange(5.0)}, speed={}, engine={"heat": np.arange(5.0)})
        tx.spawn_many(2, speed={}, engine={})
    with fleet.view() as view:
        assert sorted(moving(view)) == sorted(members.tolist())
        place, _, engine = view.query(*MOVING)
        assert not place.copied
        assert not engine.copied
        assert np.shares_memory(place.x, view["place.x"])
        assert np.shares_memory(engine.heat, view["engine.heat"])
        assert np.array_equal(place.x, engine.heat)
    with fleet.transaction() as tx:
        place, speed, _ = tx.query(*MOVING)
        place.x += speed.x
        assert len(place.x) == 5
        assert not place.copied
    with fleet.view() as view:
        assert sorted(view["place.x"].tolist()) == [1.0, 2.0, 3.0, 4.0, 5.0, 9.0, 9.0, 9.0]


def test_whoever_comes_last_makes_a_member_that_every_table_knows_of(fleet: Store) -> None:
    """Nobody moves where the rows are in place already: views must be told all the same, in each of the tables."""
    with fleet.transaction() as tx:
        ship = tx.spawn(place={}, speed={})
    with fleet.view() as view:
        assert moving(view) == []
    with fleet.transaction() as tx:
        # Not asked for here: the store would remember the answer.
        tx.insert(ship, engine={})
    with fleet.view() as view:
        assert moving(view) == [ship]
        assert view.query("engine", "place", "speed").key.tolist() == [ship]
    with fleet.transaction() as tx:
        tx.delete(ship, "place")
    with fleet.view() as view:
        assert moving(view) == []
        assert view.query("speed", "engine").key.tolist() == [ship]


def test_members_stay_the_first_through_whatever_happens(fleet: Store) -> None:
    random = np.random.default_rng(4)
    has: dict[int, set[str]] = {}
    everything = (*MOVING, "cargo")
    for _ in range(200):
        tx = fleet.transaction()
        before = {key: set(names) for key, names in has.items()}
        for _ in range(random.integers(1, 8)):
            alive = list(has)
            what = random.integers(0, 5)
            if what == 0 or not alive:
                names = [name for name in everything if random.random() < 0.7] or ["cargo"]
                random.shuffle(names)
                for key in tx.spawn_many(int(random.integers(1, 9)), **{name: {} for name in names}).tolist():
                    has[key] = set(names)
                continue
            key = alive[int(random.integers(0, len(alive)))]
            name = everything[int(random.integers(0, 4))]
            if what == 1:
                tx.despawn(key)
                del has[key]
            elif name in has[key]:
                tx.delete(key, name)
                has[key].remove(name)
            else:
                tx.insert(key, **{name: {}})
                has[key].add(name)
        members = {key for key, names in has.items() if names.issuperset(MOVING)}
        assert set(moving(tx)) == members
        if random.random() < 0.3:
            tx.rollback()
            has = before
        else:
            tx.commit()
        with fleet.view() as view:
            members = {key for key, names in has.items() if names.issuperset(MOVING)}
            assert set(moving(view)) == members
            loaded = {key for key in members if "cargo" in has[key]}
            assert set(view.query("cargo", *MOVING).key.tolist()) == loaded
            assert set(view.query(*MOVING, without=["cargo"]).key.tolist()) == members - loaded
            assert set(view.query("place", "engine").key.tolist()) == {
                key for key, names in has.items() if names.issuperset({"place", "engine"})
            }


def test_a_held_view_keeps_its_members(fleet: Store) -> None:
    with fleet.transaction() as tx:
        ships = tx.spawn_many(10, place={"x": np.arange(10.0)}, speed={}, engine={}).tolist()
    with fleet.view() as old:
        with fleet.transaction() as tx:
            tx.despawn(ships[0])
            tx.delete(ships[5], "speed")
        assert moving(old) == ships
        assert old.query(*MOVING)[0].x.tolist() == list(np.arange(10.0))
        with fleet.view() as new:
            assert set(moving(new)) == set(ships) - {ships[0], ships[5]}
