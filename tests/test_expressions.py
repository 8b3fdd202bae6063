"""Expressions are data: they print, compare, combine, travel and come back, without a store."""

import enum
import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecsnet.errors import ArgumentError
from ecsnet.expressions import (
    DEPTH_MAX,
    Aggregate,
    Column,
    Condition,
    Order,
    asc,
    col,
    column_path,
    count,
    desc,
    max_,
    mean,
    min_,
    sum_,
)


class Kind(enum.IntEnum):
    SWORD = 1


class Colour(str, enum.Enum):  # noqa: UP042  (its str() is not its value, which is the case to cover)
    RED = "RED"


values = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8)
)
columns = st.sampled_from(["a.x", "b.y", "hp", "transform.position.x"]).map(col)
comparisons = st.builds(
    lambda column, operator, value: getattr(column, operator)(value),
    columns,
    st.sampled_from(["__lt__", "__le__", "__eq__", "__ne__", "__gt__", "__ge__"]),
    values | columns,
)
leaves = (
    comparisons
    | st.builds(Column.is_in, columns, st.lists(values, max_size=4))
    | st.builds(Column.startswith, columns, st.text(max_size=4) | st.binary(max_size=4))
)
conditions = st.recursive(
    leaves,
    lambda inner: (
        st.builds(lambda a, b: a & b, inner, inner)
        | st.builds(lambda a, b: a | b, inner, inner)
        | inner.map(lambda a: ~a)
    ),
    max_leaves=8,
)


@given(conditions)
def test_a_condition_comes_back_from_its_dict(condition: Condition) -> None:
    """Through JSON, so that nothing but its own types is in the dict."""
    again = Condition.from_dict(json.loads(json.dumps(condition.to_dict(), allow_nan=False)))
    assert again == condition
    assert again.same(condition)
    assert repr(again) == repr(condition)
    assert hash(again) == hash(condition)


@given(conditions)
def test_a_condition_prints_as_python_that_makes_it(condition: Condition) -> None:
    assert eval(repr(condition), {"col": col, "inf": math.inf, "nan": math.nan}) == condition


@given(conditions)
def test_a_condition_survives_pickling(condition: Condition) -> None:
    assert pickle.loads(pickle.dumps(condition)) == condition


def test_nan_travels_too() -> None:
    condition = Condition.from_dict(json.loads(json.dumps((col("a.x") < math.nan).to_dict(), allow_nan=False)))
    assert repr(condition) == "col('a.x') < nan"


def test_a_column_is_a_key_of_a_dict_beside_its_own_path() -> None:
    """Typed columns and strings name the same things, and may lie in one dict."""
    table: dict[Any, int] = {col("a.x"): 1, "a.x": 2, col("b.x"): 3}
    assert table[col("a.x")] == 1
    assert table["a.x"] == 2
    assert col("a.y") not in table
    assert col("a.x").same(col("a.x"))
    assert not col("a.x").same(col("a.y"))
    assert not col("a.x").same("a.x")


def test_only_a_column_compared_with_itself_has_a_truth() -> None:
    assert col("a.x") == col("a.x")
    for condition in (col("a.x") == col("a.y"), col("a.x") != col("a.x"), col("a.x") == "a.x"):
        with pytest.raises(ArgumentError, match="neither true nor false"):
            bool(condition)


def test_bracketing_does_not_matter_for_one_operator_and_does_for_two() -> None:
    a, b, c = col("a") < 1, col("b") < 2, col("c") < 3
    assert (a & b) & c == a & (b & c)
    assert (a | b) | c == a | (b | c)
    assert a & (b | c) != (a & b) | c
    assert (a & (b | c)).text() == "a < 1 and (b < 2 or c < 3)"
    assert ((a & b) | c).text() == "a < 1 and b < 2 or c < 3"
    assert (~(a & b)).text() == "not (a < 1 and b < 2)"


def test_a_long_condition_is_not_a_deep_one() -> None:
    condition = col("a.x") == 0
    for number in range(1, 5000):
        condition = condition | (col("a.x") == number)
    assert len(condition.paths()) == 1
    assert Condition.from_dict(condition.to_dict()) == condition


def test_values_become_plain_ones() -> None:
    """What was a member of an enum or a numpy scalar is data in the condition."""
    assert repr(col("item.kind") == Kind.SWORD) == "col('item.kind') == 1"
    assert repr(col("c") == Colour.RED) == "col('c') == 'RED'"
    assert repr(col("hp") < np.uint16(5)) == "col('hp') < 5"
    assert repr(col("hp").is_in(np.arange(3))) == "col('hp').is_in([0, 1, 2])"
    assert repr(col("tag") == bytearray(b"a")) == "col('tag') == b'a'"
    assert col("hp").between(1, 5) == (col("hp") >= 1) & (col("hp") <= 5)


@pytest.mark.parametrize("value", [[1], (1, 2), {1}, {}, np.arange(3), object(), 1j])
def test_what_is_no_single_value_is_refused(value: object) -> None:
    with pytest.raises(ArgumentError, match="one value"):
        _ = col("a.x") == value
    with pytest.raises(ArgumentError, match="one value"):
        col("a.x").is_in([value])


def test_is_in_and_startswith_refuse_what_python_would_take_apart() -> None:
    with pytest.raises(ArgumentError, match="several values"):
        col("a.x").is_in("SWORD")
    with pytest.raises(ArgumentError, match="several values"):
        col("a.x").is_in(5)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="startswith takes"):
        col("a.x").startswith(5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"op": "<"},
        {"op": "<", "column": "a"},
        {"op": "<", "column": "", "value": 1},
        {"op": "<>", "column": "a", "value": 1},
        {"op": "<", "column": "a", "value": 1, "more": 2},
        {"op": "<", "column": "a", "value": [1]},
        {"op": "<", "column": "a", "value": {"hex": "0g"}},
        {"op": "<", "column": "a", "value": {"float": "one"}},
        {"op": "startswith", "column": "a", "other": "b"},
        {"op": "and", "of": []},
        {"op": "and", "of": [{"op": "<", "column": "a", "value": 1}]},
        {"op": "not", "of": []},
        {"op": "in", "column": "a", "values": 5},
    ],
)
def test_a_dict_that_is_no_condition_is_refused(data: Any) -> None:
    with pytest.raises(ArgumentError):
        Condition.from_dict(data)


def test_a_dict_nested_without_end_is_refused() -> None:
    data: dict[str, Any] = {"op": "<", "column": "a", "value": 1}
    for _ in range(DEPTH_MAX - 1):
        data = {"op": "not", "of": [data]}
    Condition.from_dict(data)
    with pytest.raises(ArgumentError, match="nested deeper"):
        Condition.from_dict({"op": "not", "of": [data]})


def test_orders_and_aggregates_print_as_what_makes_them() -> None:
    for made in (asc("a.x"), desc(col("a.x")), count(), sum_("a.x"), min_("a.x"), max_(col("a.x")), mean("a.x")):
        names = {"asc": asc, "desc": desc, "count": count, "sum_": sum_, "min_": min_, "max_": max_, "mean": mean}
        assert eval(repr(made), names) == made
    assert Order.of("a.x") == Order.of(col("a.x")) == Order.of(asc("a.x")) == Order("a.x")
    assert (desc("a.x").text(), asc("a.x").text()) == ("a.x desc", "a.x")
    assert (count().text(), sum_("a.x").text()) == ("count()", "sum(a.x)")
    assert Aggregate("count") == count()
    assert column_path("a.x") == column_path(col("a.x")) == "a.x"
    for wrong in (None, 5, ""):
        with pytest.raises(ArgumentError, match="expected a column"):
            column_path(wrong)
