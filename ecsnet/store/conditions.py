"""Evaluating conditions (`ecsnet.expressions`) over whole columns, by numpy.

It never sees a row, and it knows nothing of tables, views or transactions: whoever asks hands in a function that gives
the column of a path.

Invariants: evaluating gives one bool per row and changes nothing; what a column of its type can never be compared with
is an error, also where there are no rows.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import ArgumentError, InternalError, UnknownNameError
from ecsnet.expressions import Both, Comparison, Condition, Either, Membership, Not, Path
from ecsnet.store.fields import FieldName
from ecsnet.store.strings import compare_columns, compare_texts, member_texts

__all__ = ["Fetch", "compare", "evaluate", "lookup_values"]

Mask = NDArray[np.bool_]

# What evaluating asks for: the field that a path means, and its column; of a field of strings
# its `Texts`, or an array of `str` where that is at hand.
Fetch = Callable[[str], tuple[FieldName, Any]]

_COMPARE: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "<": np.less,
    "<=": np.less_equal,
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


def evaluate(condition: Condition, fetch: Fetch) -> Mask:
    """One bool per row.

    Raises:
        ArgumentError: a value that a column of its type can never be compared with.
        UnknownNameError: no such value of an enum.
    """
    match condition:
        case Comparison(path, operator, Path(other_path)):
            field, cells = fetch(path)
            other, others = fetch(other_path)
            if field.string or other.string:
                return compare_columns(field, cells, operator, other, others)
            if field.shape or other.shape:
                raise ArgumentError(f"{condition!r}: columns of arrays or bytes cannot be compared with each other")
            return np.asarray(_COMPARE[operator](cells, others), np.bool_)
        case Comparison(path, operator, value):
            field, cells = fetch(path)
            return compare(field, cells, operator, value)
        case Membership(path, values):
            field, cells = fetch(path)
            return _member(field, cells, values)
        case Both(parts):
            found = evaluate(parts[0], fetch)
            for part in parts[1:]:
                found = found & evaluate(part, fetch)
            return found
        case Either(parts):
            found = evaluate(parts[0], fetch)
            for part in parts[1:]:
                found = found | evaluate(part, fetch)
            return found
        case Not(inner):
            return ~evaluate(inner, fetch)
    raise InternalError(f"a condition that cannot be evaluated: {condition!r}")


def compare(field: FieldName, cells: Any, operator: str, value: Any) -> Mask:
    """One column against one value."""
    if field.string:
        return compare_texts(field, cells, operator, value)
    if field.text:
        return _compare_bytes(field, cells, operator, value)
    if operator == "startswith":
        raise ArgumentError(f"{field.path} holds no text: startswith is for strings and bytes")
    if field.shape:
        raise ArgumentError(f"{field.path} holds arrays: compare its column with numpy and use the mask")
    return np.asarray(_COMPARE[operator](cells, _comparable(field, _number(field, value))), np.bool_)


def _comparable(field: FieldName, number: int | float) -> Any:
    """A number as numpy shall compare it. One out of the dtype's range is a fair question (`hp < 100000` is true
    everywhere). numpy answers it for integers; a float column rounds it to its own type, unless that would make it
    infinite."""
    if field.dtype.kind != "f":
        return number
    try:
        real = float(number)
    except OverflowError:
        return np.float64(math.inf if number > 0 else -math.inf)
    beyond = math.isfinite(real) and abs(real) > float(np.finfo(field.dtype).max)
    return np.float64(real) if beyond else real


def _number(field: FieldName, value: Any) -> int | float:
    if field.enum is not None and isinstance(value, str):
        number = field.enum.get(value)
        if number is None:
            raise UnknownNameError(f"value of {field.path}", value, field.enum)
        return number
    if value is None and field.field is not None and field.field.foreign_key is not None:
        # A reference to nothing is stored as 0.
        return 0
    if not isinstance(value, int | float):
        field.refuse(value)
    return value


def _compare_bytes(field: FieldName, cells: NDArray[Any], operator: str, value: Any) -> Mask:
    equal: Mask
    if operator == "startswith":
        if not isinstance(value, bytes) or len(value) > field.shape[0]:
            field.refuse(value)
        equal = (cells[:, : len(value)] == np.frombuffer(value, np.uint8)).all(axis=1)
        return equal
    if operator not in ("==", "!="):
        raise ArgumentError(f"{field.path} holds bytes, which compare by ==, != and startswith only")
    equal = (cells == np.frombuffer(field.cell(value), np.uint8)).all(axis=1)
    return equal if operator == "==" else ~equal


def _member(field: FieldName, cells: Any, values: tuple[Any, ...]) -> Mask:
    if field.string:
        return member_texts(field, cells, values)
    found = np.zeros(len(cells), np.bool_)
    if field.text or field.shape or field.dtype.kind not in "iu":
        for value in values:
            found |= compare(field, cells, "==", value)
        return found
    wanted = lookup_values(field, values)
    return np.isin(cells, np.array(wanted, field.dtype)) if wanted else found


def lookup_values(field: FieldName, values: Iterable[Any]) -> list[int | float]:
    """Those of the values that a column of single numbers can have; the others equal none of its cells.

    Raises:
        ArgumentError, UnknownNameError: as comparing with them would.
    """
    numbers = {_number(field, value) for value in values}
    if field.dtype.kind in "iu":
        # numpy would turn a list that mixes signs into floats.
        limits = np.iinfo(field.dtype)
        return [int(number) for number in numbers if limits.min <= number <= limits.max and number == int(number)]
    comparable = [_comparable(field, number) for number in numbers]
    return [number for number in comparable if not isinstance(number, np.float64) and number == number]
