"""Columns lent to a transaction: what is done to the arrays is what happens to the world, and nothing else is."""

import warnings
from typing import Any

import numpy as np
import pytest

from ecsnet.errors import (
    ArgumentError,
    BorrowError,
    ClosedError,
    ConstraintError,
    NoRowError,
    StaleEntityError,
    UnknownNameError,
)
from ecsnet.store import Store, col


@pytest.fixture
def fleet(store: Store) -> np.ndarray[Any, Any]:
    """Six ships that move; the third and fifth of them, and two that stand, are hurt."""
    with store.transaction() as tx:
        moving = tx.spawn_many(transform={"x": np.arange(6.0)}, velocity={"x": 1.0})
        tx.insert_many(moving[[2, 4]], health={"hp": 10})
        tx.spawn_many(2, health={"hp": 20})
    return moving


def xs(store: Store) -> list[float]:
    with store.view() as view:
        order = np.argsort(view["transform"].key)
        return list(view["transform.x"][order].tolist())


def test_whole_columns_are_written_in_place(store: Store, fleet: np.ndarray[Any, Any]) -> None:
    with store.transaction() as tx:
        body, speed = tx.query("transform", "velocity")
        assert not body.copied
        body.x += speed.x * 0.5
        body.y[:2] = 7
        a = body.x
        a *= 2
        del a
    assert xs(store) == [1.0, 3.0, 5.0, 7.0, 9.0, 11.0]
    with store.view() as view:
        assert sorted(view["transform.y"].tolist()) == [0, 0, 0, 0, 7, 7]


def test_gathered_columns_are_scattered_at_commit(store: Store, fleet: np.ndarray[Any, Any]) -> None:
    with store.transaction() as tx:
        body, health = tx.query("transform", "health")
        assert body.copied
        body.x += 100
        body.x[health.hp == 10] += 1
        a = body.x
        a *= 2
        del a
    assert xs(store) == [0.0, 1.0, 206.0, 3.0, 210.0, 5.0]


def test_a_condition_gathers_too(store: Store, fleet: np.ndarray[Any, Any]) -> None:
    with store.transaction() as tx:
        (body,) = tx.query("transform").where(col("transform.x") > 3.5)
        body.x = 0.0
    assert xs(store) == [0.0, 1.0, 2.0, 3.0, 0.0, 0.0]


def test_assigning_copies_into_the_lent_cells(store: Store, fleet: np.ndarray[Any, Any]) -> None:
    with store.transaction() as tx:
        body, speed = tx.query("transform", "velocity")
        lent = body.x
        body.x = speed.x + 1
        assert body.x is lent, "rebinding never detaches"
        body.y = [1, 2, 3, 4, 5, 6]
        body["y"] += 1
        del lent
    assert xs(store) == [2.0] * 6
    with store.view() as view:
        assert sorted(view["transform.y"].tolist()) == [2, 3, 4, 5, 6, 7]


def test_rows_are_columns(store: Store, fleet: np.ndarray[Any, Any]) -> None:
    with store.transaction() as tx:
        (body,) = tx.query("transform")
        assert len(body) == 6
        assert body.fields == ("x", "y", "entity_id")
        assert {"x", "y", "copied", "key"} <= set(dir(body))
        assert repr(body) == "<6 rows of transform, whole: x, y, entity_id>"
        with pytest.raises(ArgumentError, match="columns"):
            body[0]  # type: ignore[index]
        with pytest.raises(ArgumentError, match="columns"):
            body[0] = 1  # type: ignore[index]
        with pytest.raises(TypeError, match="not iterable"):
            list(body)  # type: ignore[call-overload]
        with pytest.raises(UnknownNameError):
            body.z
        with pytest.raises(UnknownNameError):
            body.z = 1


def test_assigning_checks_type_range_and_shape(store: Store, fleet: np.ndarray[Any, Any]) -> None:
    with store.transaction() as tx:
        (health,) = tx.query("health")
        with pytest.raises(ArgumentError, match=r"health\.hp \(u16\): expected an integer"):
            health.hp = health.hp * 0.5
        with pytest.raises(ArgumentError, match="65536"):
            health.hp = np.full(4, 65536)
        with pytest.raises(ArgumentError, match="-1"):
            health.hp = -1
        with pytest.raises(ArgumentError, match="4 rows"):
            health.hp = np.arange(3)
        health.hp = np.arange(4, dtype=np.int64)
        health.hp = np.arange(4, dtype=np.int8)
    with store.view() as view:
        assert sorted(view["health.hp"].tolist()) == [0, 1, 2, 3]


def test_a_range_of_the_schema_is_checked_when_lent_cells_come_back(store: Store, fleet: np.ndarray[Any, Any]) -> None:
    before = store.version
    with pytest.raises(ConstraintError) as caught, store.transaction() as tx:
        _, body = tx.query("health", "transform")
        body.x = 0
        (all_health,) = tx.query("health")
        all_health.hp += 95
    assert (caught.value.table, caught.value.field, caught.value.rule) == ("health", "hp", "range")
    assert store.version == before
    assert xs(store) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_keys_references_and_unique_fields_are_lent_read_only(store: Store, fleet: np.ndarray[Any, Any]) -> None:
    with store.transaction() as tx:
        tx.insert(int(fleet[0]), target={"whom": int(fleet[1])})
        tx.insert("item", {"kind": "SWORD"})
    with store.transaction() as tx:
        (target,) = tx.query("target")
        (item,) = tx.query("item")
        for column in (target.entity_id, target.whom, item.id, item.key):
            with pytest.raises(ValueError, match="read-only"):
                column[:] = 0
        with pytest.raises(ArgumentError, match="read-only as a column"):
            target.whom = 0
        with pytest.raises(ArgumentError, match="read-only as a column"):
            target.entity_id = 0
        item.kind = "POTION"
    with store.view() as view:
        assert view["item.kind"].tolist() == [2]


def test_the_same_cells_handed_out_twice_are_the_same_array(store: Store, fleet: np.ndarray[Any, Any]) -> None:
    with store.transaction() as tx:
        body, _ = tx.query("transform", "velocity")
        (again,) = tx.query("transform")
        assert body.x is again.x
        hurt, _ = tx.query("transform", "health")
        hurt_again, _ = tx.query("transform", "health")
        assert hurt.y is hurt_again.y
        (far,) = tx.query("transform").where(col("transform.x") > 3)
        (far_again,) = tx.query("transform").where(col("transform.x") > 3)
        assert far.y is far_again.y


def test_a_later_read_in_the_transaction_sees_what_was_written_to_a_gathered_copy(
    store: Store, fleet: np.ndarray[Any, Any]
) -> None:
    with store.transaction() as tx:
        hurt, _ = tx.query("transform", "health")
        hurt.x += 100
        assert tx[int(fleet[2]), "transform.x"] == 102
        assert tx.query("transform").where(col("transform.x") > 100).count() == 2
        (body,) = tx.query("transform")
        assert sorted(body.x.tolist()) == [0, 1, 3, 5, 102, 104]
        body.x += 1
        assert sorted(hurt.x.tolist()) == [103, 105], "taking the column again brings the copy up to date"
        hurt.x += 1
    assert xs(store) == [1, 2, 104, 4, 106, 6]


def test_one_cell_changed_through_two_arrays_is_refused(store: Store, fleet: np.ndarray[Any, Any]) -> None:
    before = store.version
    tx = store.transaction("two arrays")
    hurt, _ = tx.query("transform", "health")
    (far,) = tx.query("transform").where(col("transform.x") >= 3)
    a, b = hurt.x, far.x
    a += 1
    b += 1
    with pytest.raises(BorrowError, match=r"transform\.x of 0x.* two arrays of 'two arrays'"):
        tx.commit()
    assert tx.closed
    assert store.version == before
    assert xs(store) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_overlapping_copies_may_change_different_cells(store: Store, fleet: np.ndarray[Any, Any]) -> None:
    with store.transaction() as tx:
        hurt, _ = tx.query("transform", "health")
        (far,) = tx.query("transform").where(col("transform.x") >= 3)
        a, b = hurt.x, far.x
        a[hurt.key == fleet[4]] = 50
        b[far.key == fleet[5]] = 60
        del a, b
    assert xs(store) == [0, 1, 2, 3, 50, 60]


def test_few_changed_cells_of_many_rows_come_back_by_their_keys(store: Store) -> None:
    """Below one changed cell in 32 rows no scratch of the column is made; the rules are the same."""
    with store.transaction() as tx:
        tx.spawn_many(transform={"x": np.arange(500.0)})
        tx.spawn_many(500, transform={"x": -1.0}, everything={"a_u8": np.arange(500) % 250})
    before = store.version
    with store.transaction() as tx:
        body, rows = tx.query("transform", "everything").where(col("everything.a_u8") == 7)
        assert body.copied
        body.x += 10
        body.y[0] = 1
        rows.an_array = [1, 2, 3]
        rows.some_bytes = b"ab"
        assert tx[int(body.key[1]), "transform.x"] == 9
        tx.spawn()
    with store.view() as view:
        assert (view["transform.x"] == 9).sum() == 2 + 1
        assert view["transform.y"].sum() == 1
        assert (view["everything.an_array"] == [1, 2, 3]).all(axis=1).sum() == 2
    with pytest.raises(ConstraintError), store.transaction() as tx:
        (health,) = tx.query("everything").where(col("a_u8") == 7)
        health.an_enum[0] = 77
    with pytest.raises(BorrowError), store.transaction() as tx:
        (first,) = tx.query("transform").where(col("x") == 9)
        (second,) = tx.query("transform").where(col("x") >= 498)
        (third,) = tx.query("transform").where((col("x") == 9) | (col("x") == 499))
        a, b, c = first.x, second.x, third.x
        a += 1
        c += 1
        b += 0
    assert store.version == before + 1


def test_a_point_write_and_an_old_copy_of_the_same_cell_are_refused(store: Store, fleet: np.ndarray[Any, Any]) -> None:
    with pytest.raises(BorrowError), store.transaction() as tx:
        hurt, _ = tx.query("transform", "health")
        a = hurt.x
        tx.update(int(fleet[2]), "transform", x=9.0)
        a += 1


def test_point_writes_go_to_lent_columns(store: Store, fleet: np.ndarray[Any, Any]) -> None:
    with store.transaction() as tx:
        (body,) = tx.query("transform")
        x = body.x
        x += 10
        ship = int(fleet[0])
        assert tx[ship, "transform.x"] == 10
        tx.update(ship, "transform", x=50.0, y=1.0)
        assert x[body.key == ship].tolist() == [50.0]
        tx.update_many(fleet[4:], "transform", x=[60.0, 70.0])
        assert sorted(x.tolist()) == [11, 12, 13, 50, 60, 70]
        del x
    assert xs(store) == [50, 11, 12, 13, 60, 70]


def test_structure_changes_behind_lent_columns_in_the_order_of_the_calls(
    store: Store, fleet: np.ndarray[Any, Any]
) -> None:
    first, second = int(fleet[0]), int(fleet[1])
    with store.transaction() as tx:
        (body,) = tx.query("transform")
        x = body.x
        fresh = tx.spawn(transform={"x": 100.0}, owner=5)
        several = tx.spawn_many(transform={"x": [200.0, 300.0]}, health={})
        sword = tx.insert("item", {"kind": "SWORD", "holder": fresh})
        tx.despawn(first)
        tx.delete(second, "transform")
        tx.insert(second, transform={"x": -1.0})
        tx.insert_many(fleet[[3, 5]], health={})
        x += 10
        assert len(x) == 6, "rows stand still while they are lent"
        assert fresh in tx
        assert first not in tx
        assert tx[fresh, "transform.x"] == 100
        assert tx[fresh, "transform.y"] == 0, "a default is answered for"
        assert tx[fresh, "entities.owner"] == 5
        assert tx[int(several[1]), "transform.x"] == 300
        tx[fresh, "transform.x"] += 1
        tx.update(int(several[1]), "transform", x=301.0, y=4.0)
        tx.update_many([fresh, int(fleet[3])], "transform", y=8.0)
        with pytest.raises(StaleEntityError):
            tx.update(first, "transform", x=1.0)
        with pytest.raises(StaleEntityError):
            tx.insert(first, health={})
        with pytest.raises(StaleEntityError):
            tx.despawn(first)
        with pytest.raises(NoRowError):
            tx.update(fresh, "health", hp=1)
        with pytest.raises(ArgumentError):
            tx.spawn(transform={"x": "far"})
        with pytest.raises(BorrowError, match="counted on"):
            tx[sword, "item.id"]
        del x

    with store.view() as view:
        assert first not in view
        assert view[second, "transform.x"] == -1
        assert view[int(fleet[2]), "transform.x"] == 12
        assert (view[fresh, "transform.x"], view[fresh, "transform.y"]) == (101, 8)
        assert (view[int(several[1]), "transform.x"], view[int(several[1]), "transform.y"]) == (301, 4)
        assert view[int(several[0]), "health.hp"] == 100
        assert view[int(fleet[3]), "transform.y"] == 8
        assert view[int(fleet[5]), "health.hp"] == 100
        assert view[sword, "item.holder"] == fresh
        assert view[fresh, "entities.owner"] == 5


def test_what_was_waiting_is_undone_with_the_rest(store: Store, fleet: np.ndarray[Any, Any]) -> None:
    tx = store.transaction()
    (body,) = tx.query("transform")
    body.x += 10
    fresh = tx.spawn(transform={})
    tx.insert("item", {"id": 7, "kind": 1})
    tx.insert("item", {"id": 7, "kind": 1})
    with pytest.raises(ConstraintError):
        tx.commit()
    assert xs(store) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    with store.view() as view:
        assert fresh not in view
        assert len(view["item"]) == 0


def test_rows_of_an_older_query_are_refused_once_rows_moved(store: Store, fleet: np.ndarray[Any, Any]) -> None:
    with store.transaction() as tx:
        query = tx.query("transform")
        (body,) = query
        tx.despawn(int(fleet[0]))
        with pytest.raises(BorrowError, match="query again"):
            body.x
        (body,) = query
        assert len(body.x) == 5


def test_a_kept_lent_array_changes_no_view(store: Store, fleet: np.ndarray[Any, Any]) -> None:
    """The worst a game can do with an array it kept is to write into it: that reaches nobody."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with store.transaction("careless system") as tx:
            (body,) = tx.query("transform")
            kept = body.x
            kept += 1
    assert [w.category for w in caught] == [ResourceWarning]
    assert "careless system" in str(caught[0].message)
    assert "transform.x" in str(caught[0].message)

    held = store.view()
    kept += 1000
    with store.transaction() as tx:
        (body,) = tx.query("transform")
        body.x += 1
    kept[:] = -5
    later = store.view()

    assert sorted(held["transform.x"].tolist()) == [1, 2, 3, 4, 5, 6]
    assert sorted(later["transform.x"].tolist()) == [2, 3, 4, 5, 6, 7]
    assert kept.tolist() == [-5] * 6


def test_a_kept_gathered_copy_changes_nothing_and_warns(store: Store, fleet: np.ndarray[Any, Any]) -> None:
    with pytest.warns(ResourceWarning, match=r"careless.*transform\.x"), store.transaction("careless") as tx:
        body, _ = tx.query("transform", "health")
        kept = body.x
        kept += 1
    kept += 1000
    assert xs(store) == [0, 1, 3, 3, 5, 5]


@pytest.mark.parametrize("tables", [("transform",), ("transform", "health")])
def test_a_commit_stands_where_warnings_are_errors(
    store: Store, fleet: np.ndarray[Any, Any], tables: tuple[str, ...]
) -> None:
    """Many a test suite runs so. Whatever the warning does, the store must not be left in between."""
    before = store.version
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ResourceWarning), store.transaction() as tx:
            body = tx.query(*tables)[0]
            kept, also_kept = body.x, body.y
            kept += 1
            also_kept += 1
        assert tx.closed
        assert store.version == tx.version == before + 1
        with store.transaction() as tx:
            tx.query("transform")[0].x += 1
            kept[:] = also_kept[:] = 99
    with store.view() as view:
        assert view["transform.x"].sum() == 15 + len(kept) + 6
        assert view["transform.y"].sum() == len(also_kept)


def test_an_exception_is_not_hidden_by_a_warning(store: Store, fleet: np.ndarray[Any, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ZeroDivisionError), store.transaction() as tx:
            (body,) = tx.query("transform")
            kept = body.x
            kept /= 1 / 0


def test_an_array_kept_past_a_rollback_changes_nothing(store: Store, fleet: np.ndarray[Any, Any]) -> None:
    tx = store.transaction()
    (body,) = tx.query("transform")
    kept = body.x
    kept += 1
    tx.rollback()
    with store.transaction() as tx:
        (body,) = tx.query("transform")
        kept[:] = 77
        body.x += 1
    assert xs(store) == [1, 2, 3, 4, 5, 6]
    with pytest.raises(ClosedError):
        body.x


def test_a_lent_slice_that_was_kept_counts_as_the_array(store: Store, fleet: np.ndarray[Any, Any]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with store.transaction() as tx:
            (body,) = tx.query("transform")
            part = body.x[:2]
    assert [w.category for w in caught] == [ResourceWarning]
    with store.transaction() as tx:
        (body,) = tx.query("transform")
        part[:] = 9
        body.y += 1
    assert xs(store) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_holding_rows_is_no_holding_of_arrays(store: Store, fleet: np.ndarray[Any, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with store.transaction() as tx:
            body, speed = tx.query("transform", "velocity")
            body.x += speed.x
            hurt, health = tx.query("transform", "health")
            hurt.y += health.hp


def test_nan_and_minus_zero_are_changes_like_any_other(store: Store, fleet: np.ndarray[Any, Any]) -> None:
    with store.transaction() as tx:
        body, _ = tx.query("transform", "health")
        body.x = np.nan
        body.y = -0.0
    version = store.version
    with store.view() as view:
        assert np.isnan(view[int(fleet[2]), "transform.x"])
        assert np.signbit(view[int(fleet[2]), "transform.y"])
    with store.transaction() as tx:
        body, _ = tx.query("transform", "health")
        body.x *= 1
    assert store.version == version, "a NaN that stays the same NaN is no change"


def test_arrays_of_every_shape_are_lent(store: Store) -> None:
    with store.transaction() as tx:
        ships = tx.spawn_many(5, everything={})
        tx.insert_many(ships[[1, 4]], health={})
    with store.transaction() as tx:
        (rows,) = tx.query("everything")
        rows.an_array[:, 1] = 5
        rows.some_bytes = b"ab"
        rows.a_bool[0] = True
        rows.an_enum = ["GREEN", "RED", "GREEN", "RED", "GREEN"]
        hurt, _ = tx.query("everything", "health")
        hurt.an_array = [7, 8, 9]
        hurt.some_bytes[:, 0] = ord("z")
    with store.view() as view:
        assert view[int(ships[0]), "everything.an_array"].tolist() == [0, 5, 0]
        assert view["everything.an_array"][[1, 4]].tolist() == [[7, 8, 9]] * 2
        found = [view[ship, "everything.some_bytes"] for ship in ships.tolist()]
        assert found == [b"ab\0\0", b"zb\0\0", b"ab\0\0", b"ab\0\0", b"zb\0\0"]
        assert view["everything.a_bool"].tolist() == [True, False, False, False, False]
        assert view["everything.an_enum"].tolist() == [2, 1, 2, 1, 2]
