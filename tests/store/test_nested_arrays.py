"""Arrays of arrays: a cell has the declared shape wherever it is written or read, and any other is refused."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ecsnet.errors import ArgumentError
from ecsnet.schema import loads
from ecsnet.store import Store
from tests.store.conftest import ARENA

SKIN = """
[tables.skin]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "grid", type = "[[f32; 3]; 2]", default = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]] },
          { name = "bits", type = "[[u8; 2]; 2]", default = 0 },
          { name = "weight", type = "f32", default = 0.0 }]
"""

DEFAULT = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
OTHER = [[9, 8, 7], [6, 5, 4.5]]


@pytest.fixture
def store() -> Iterator[Store]:
    with Store(loads(ARENA + SKIN)) as store:
        yield store


def equal(found: Any, expected: Any) -> bool:
    array: NDArray[Any] = np.asarray(expected)
    assert found.shape == array.shape
    return bool((found == array).all())


def test_a_cell_has_its_shape_however_it_came_and_is_read(store: Store) -> None:
    with store.transaction() as tx:
        plain = tx.spawn(skin={})
        given = tx.spawn(skin={"grid": OTHER, "bits": np.array([[1, 2], [3, 4]], np.uint8)})
        assert equal(tx[plain, "skin.grid"], DEFAULT)
        assert equal(tx[given, "skin.grid"], OTHER)
        tx.update(plain, "skin", grid=OTHER)
        tx[given, "skin.bits"] = [(5, 6), (7, 8)]
        write, read = tx.writer("skin.grid", "skin.weight"), tx.reader("skin.grid")
        write(given, np.zeros((2, 3)), 1.5)
        assert equal(read(given), np.zeros((2, 3)))
    with store.view() as view:
        assert view["skin.grid"].shape == (2, 2, 3)
        assert equal(view[plain, "skin.grid"], OTHER)
        assert equal(view.reader("skin.bits")(given), [[5, 6], [7, 8]])
        assert "[[9 8 7] [6 5 4.5]]" in str(view["skin"])


def test_bulk_calls_take_a_shape_per_row_or_one_for_all(store: Store) -> None:
    with store.transaction() as tx:
        fleet = tx.spawn_many(3, skin={"grid": OTHER})
        more = tx.spawn_many(skin={"grid": np.arange(24.0).reshape(4, 2, 3)})
        tx.update_many(fleet[:2], "skin", bits=[[[1, 1], [1, 1]], [[2, 2], [2, 2]]])
    with store.view() as view:
        assert all(equal(view[int(key), "skin.grid"], OTHER) for key in fleet)
        assert equal(view[int(more[3]), "skin.grid"], np.arange(18.0, 24.0).reshape(2, 3))
        assert [int(view[int(key), "skin.bits"].sum()) for key in fleet] == [4, 8, 0]


def test_lent_cells_and_what_waits_behind_them_have_their_shape(store: Store) -> None:
    with store.transaction() as tx:
        first, second = tx.spawn(skin={}, health={}), tx.spawn(skin={})
        (skin,) = tx.query("skin")
        skin.grid[:, 0, 0] = 50.0
        late = tx.spawn(skin={"bits": [[1, 2], [3, 4]]})
        assert equal(tx[late, "skin.grid"], DEFAULT)
        assert equal(tx[late, "skin.bits"], [[1, 2], [3, 4]])
        tx.update(late, "skin", grid=OTHER)
        many = tx.spawn_many(2, skin={"weight": 2.0})
        tx.update(int(many[1]), "skin", grid=OTHER)
        assert equal(tx[int(many[0]), "skin.grid"], DEFAULT)
    with store.transaction() as tx:
        (skin, _) = tx.query("skin", "health")
        skin.bits[0, 1, 1] = 77
    with store.view() as view:
        assert view[second, "skin.grid"].tolist() == [[50, 2, 3], [4, 5, 6]]
        assert view[first, "skin.bits"].tolist() == [[0, 0], [0, 77]]
        assert equal(view[late, "skin.grid"], OTHER)
        assert equal(view[int(many[0]), "skin.grid"], DEFAULT)
        assert equal(view[int(many[1]), "skin.grid"], OTHER)


@pytest.mark.parametrize(
    "wrong",
    [1.0, [1, 2, 3], [[1, 2, 3]], [[1, 2], [3, 4]], [[1, 2, 3], [4, 5]], [1, 2, 3, 4, 5, 6], "grid", [[1, 2, 3], "abc"],
     [[1, 2, 3], [4, 5, None]], np.zeros((3, 2)), np.zeros(6), np.zeros(())],
    ids=repr,
)  # fmt: skip
def test_any_other_shape_is_refused(store: Store, wrong: Any) -> None:
    with store.transaction() as tx:
        ship = tx.spawn(skin={})
        with pytest.raises(ArgumentError, match=r"skin\.grid"):
            tx.update(ship, "skin", grid=wrong)
        with pytest.raises(ArgumentError, match=r"skin\.grid"):
            tx.spawn(skin={"grid": wrong})
        with pytest.raises(ArgumentError, match=r"skin\.grid"):
            tx.writer("skin.grid")(ship, wrong)
        with pytest.raises(ArgumentError, match=r"skin\.grid"):
            tx.update_many([ship], "skin", grid=wrong)
        assert equal(tx[ship, "skin.grid"], DEFAULT)


def test_a_followed_change_has_its_shape(store: Store) -> None:
    with store.transaction() as tx:
        ship = tx.spawn(skin={})
    since = store.version
    list(store.changes("skin", since=since))
    with store.transaction() as tx:
        tx.update(ship, "skin", grid=OTHER)
    (change,) = store.changes("skin", since=since)
    assert equal(change.fields["grid"], OTHER)
