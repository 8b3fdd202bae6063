"""Conditions are data: they print, compare and combine without a world."""

from typing import Any

import numpy as np
import pytest

from ecsnet.errors import ArgumentError, UnknownNameError
from ecsnet.expressions import max_, min_
from ecsnet.store import Store, col


def test_a_condition_prints_as_what_was_written() -> None:
    condition = (col("health.hp") < 20) & ~(col("transform.x") == 0.0) | col("item.kind").is_in(["SWORD", 2])
    assert repr(condition) == (
        "((col('health.hp') < 20) & (~(col('transform.x') == 0.0))) | (col('item.kind').is_in(['SWORD', 2]))"
    )
    assert repr(col("a.x") >= col("b.y")) == "col('a.x') >= col('b.y')"
    assert condition.paths() == {"health.hp", "transform.x", "item.kind"}


def test_equal_conditions_are_equal_and_hash_alike() -> None:
    assert (col("a.x") < 1) == (col("a.x") < 1)
    assert hash(col("a.x") < 1) == hash(col("a.x") < 1)
    assert len({col("a.x") < 1, col("a.x") < 1, col("a.x") <= 1}) == 2


def test_what_python_would_silently_drop_is_refused() -> None:
    low, high = col("a.x") > 1, col("a.x") < 5
    with pytest.raises(ArgumentError, match="& |"):
        _ = low and high
    with pytest.raises(ArgumentError, match="chained"):
        _ = 1 < col("a.x") < 5
    with pytest.raises(ArgumentError, match="compare it"):
        _ = not col("a.x")
    with pytest.raises(ArgumentError, match="expected a condition"):
        _ = low & True  # type: ignore[operator]
    with pytest.raises(ArgumentError, match="one value"):
        _ = col("a.x") == np.arange(3)
    with pytest.raises(ArgumentError):
        col("")


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (col("a_u8") < 2, [0, 1]),
        (col("a_u8") <= 2, [0, 1, 2]),
        (col("a_u8") == 2, [2]),
        (col("a_u8") != 2, [0, 1, 3]),
        (col("a_u8") > 2, [3]),
        (col("a_u8") >= 2.5, [3]),
        (col("a_u8") < 100_000, [0, 1, 2, 3]),
        (col("a_u8") > -1, [0, 1, 2, 3]),
        (col("a_u8") < 2, [0, 1]),
        (col("a_u8") == np.uint8(3), [3]),
        (col("a_u8").is_in([0, 3, 77]), [0, 3]),
        (~(col("a_u8") == 2) & (col("a_u8") > 0), [1, 3]),
        ((col("a_u8") == 2) | (col("a_u8") == 0), [0, 2]),
        (col("an_enum") == "GREEN", [1, 3]),
        (col("an_enum") == 1, [0, 2]),
        (col("some_bytes") == b"b1", [1]),
        (col("some_bytes") != b"b1", [0, 2, 3]),
        (col("a_bool") == True, [2, 3]),  # noqa: E712
        (col("an_f64") < col("a_u8"), [2, 3]),
        (col("everything.an_f64") == 1.0, [0, 1, 2, 3]),
        (col("an_f64") < 10**400, [0, 1, 2, 3]),
        (col("an_f64") > -(10**400), [0, 1, 2, 3]),
        (col("a_u8").is_in([]), []),
        (col("a_u8").is_in([-1, 1.5, 256, 2**70, float("inf")]), []),
        (col("a_u8").is_in(np.arange(1, 3)), [1, 2]),
        (col("an_enum").is_in(["GREEN", 1]), [0, 1, 2, 3]),
        (col("an_f64").is_in([1, 2.0]), [0, 1, 2, 3]),
        (col("a_u8").between(1, 2), [1, 2]),
        (col("some_bytes").startswith(b"b"), [0, 1, 2, 3]),
        (col("some_bytes").startswith(b"b2"), [2]),
    ],
)
def test_conditions_are_evaluated_over_columns(store: Store, condition: Any, expected: list[int]) -> None:
    with store.transaction() as tx:
        tx.spawn_many(
            everything={
                "a_u8": np.arange(4),
                "an_enum": [1, 2, 1, 2],
                "some_bytes": [b"b0", b"b1", b"b2", b"b3"],
                "a_bool": [False, False, True, True],
                "an_f64": 1.0,
            }
        )
    with store.view() as view:
        (rows,) = view.query("everything").where(condition)
        assert sorted(rows.a_u8.tolist()) == expected
    with store.transaction() as tx:
        assert tx.query("everything").where(condition).count() == len(expected)


def test_a_float_column_is_compared_in_its_own_type(store: Store) -> None:
    """0.1 is not the f32 nearest to it; whoever stored 0.1 finds it all the same. A number that no f32 can hold is not
    rounded to infinity, which it would then equal."""
    with store.transaction() as tx:
        tx.spawn_many(transform={"x": [0.1, np.inf, np.nan]})
    with store.view() as view:
        query = view.query("transform")
        assert query.where(col("x") == 0.1).count() == 1
        assert query.where(col("x") == 1e300).count() == 0
        assert query.where(col("x") > 1e300).count() == 1
        assert query.where(col("x") == float("inf")).count() == 1
        assert query.where(col("x") == float("nan")).count() == 0
        assert query.where(col("x") != 0.5).count() == 3, "NaN is unequal to everything"


def test_a_reference_to_nothing_is_none(store: Store) -> None:
    with store.transaction() as tx:
        ship = tx.spawn()
        tx.insert("item", {"kind": "SWORD"})
        tx.insert("item", {"kind": "SWORD", "holder": ship})
    with store.view() as view:
        assert view.query("item").where(col("holder") == None).count() == 1  # noqa: E711
        assert view.query("item").where(col("holder") != None).count() == 1  # noqa: E711


def test_a_value_that_a_column_can_never_have_is_refused(store: Store) -> None:
    with store.view() as view:
        query = view.query("everything")
        for condition in (
            col("a_u8") == "1",
            col("a_u8") == None,  # noqa: E711
            col("some_bytes") < b"a",
            col("some_bytes") == "a",
            col("some_bytes").startswith("a"),
            col("some_bytes").startswith(b"12345"),
            col("a_u8").startswith("1"),
            col("a_u8").is_in(["1"]),
            col("an_array") == 1.0,
            col("an_array") == col("an_f64"),
        ):
            with pytest.raises(ArgumentError):
                query.where(condition).count()
        with pytest.raises(UnknownNameError, match="did you mean 'GREEN'"):
            query.where(col("an_enum") == "GREN").count()


def test_the_least_and_greatest_bytes_are_cells_of_their_column(store: Store) -> None:
    """Of their full length, zeros at the end included, in a transaction's own values and by group."""
    with store.transaction() as tx:
        for cell in (b"b\0\0\0", b"a\0c\0", b"\0\0\0\0"):
            tx.spawn(everything={"some_bytes": cell})
        query = tx.query("everything")
        path = "everything.some_bytes"
        assert (query.min(path), query.max(path)) == (bytes(4), b"b\0\0\0")
        grouped = query.group_by("everything.a_u8").aggregate(least=min_(path), most=max_(path))
        assert grouped.rows() == [{"everything.a_u8": 0, "least": bytes(4), "most": b"b\0\0\0"}]
        assert grouped["most"].shape == (1, 4)
        none = query.where(col("everything.a_u8") == 9).group_by("everything.a_u8").aggregate(least=min_(path))
        assert none["least"].shape == (0, 4)
