"""Who is near each of many places, in one call."""

import numpy as np
import pytest

from ecsnet.errors import ArgumentError, ClosedError
from ecsnet.schema import loads
from ecsnet.store import Store

_KEY = '{ name = "entity_id", type = "u64", foreign_key = "entities.id" }'
SCHEMA = loads(f"""
[database]
name = "field"
version = "1.0.0"
[tables.place]
parent_table = "entities"
spatial = ["x", "y"]
fields = [{_KEY}, {{ name = "x", type = "f32" }}, {{ name = "y", type = "f32" }}]
[tables.mark]
parent_table = "entities"
fields = [{_KEY}]
""")


def crowd(store: Store, n: int = 300) -> "np.typing.NDArray[np.uint64]":
    random = np.random.default_rng(3)
    with store.transaction() as tx:
        return tx.spawn_many(place={"x": random.uniform(0, 60, n), "y": random.uniform(0, 60, n)})


def test_many_places_find_what_each_alone_would() -> None:
    with Store(SCHEMA) as store:
        crowd(store)
        places = np.random.default_rng(4).uniform(-5, 65, (40, 2))
        with store.view() as view:
            near = view.neighbours("place", places, radius=7.5)
            closest = view.neighbours("place", places, k=4)

            assert len(near) == len(closest) == 40
            for place, close, four in zip(places, near, closest, strict=True):
                alone = view.query("place").near(place, 7.5)
                assert sorted(close.tolist()) == sorted(alone.key.tolist())
                assert four.tolist() == view.query("place").nearest(place, 4).key.tolist()
            assert near[-1].tolist() == list(near)[-1].tolist()


def test_each_place_may_have_a_radius_of_its_own() -> None:
    with Store(SCHEMA) as store:
        everybody = crowd(store)
        with store.view() as view:
            found = view.neighbours("place", [(30, 30), (30, 30)], radius=[0.0, 1000.0])

    assert (len(found[0]), len(found[1])) == (0, len(everybody))


def test_no_places_have_no_neighbours() -> None:
    with Store(SCHEMA) as store, store.view() as view:
        assert len(view.neighbours("place", np.empty((0, 2)), radius=1.0)) == 0


@pytest.mark.parametrize(
    ("table", "places", "arguments", "says"),
    [
        ("place", [(1, 2)], {}, "one of the two"),
        ("place", [(1, 2)], {"radius": 1, "k": 1}, "one of the two"),
        ("place", (1, 2), {"k": 1}, "shape"),
        ("place", [(1, 2, 3)], {"k": 1}, "axes|x, y"),
        ("place", [(1, float("nan"))], {"k": 1}, "NaN"),
        ("mark", [(1, 2)], {"k": 1}, "does not say where"),
    ],
)
def test_what_cannot_be_asked_is_refused(table: str, places: object, arguments: dict[str, int], says: str) -> None:
    with Store(SCHEMA) as store, store.view() as view, pytest.raises(ArgumentError, match=says):
        view.neighbours(table, places, **arguments)  # type: ignore[arg-type]


def test_a_closed_view_has_no_neighbours() -> None:
    with Store(SCHEMA) as store:
        view = store.view()
        view.close()
        with pytest.raises(ClosedError):
            view.neighbours("place", [(1, 2)], k=1)
