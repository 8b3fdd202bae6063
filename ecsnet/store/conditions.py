"""Conditions as data: `(col("health.hp") < 20) & (col("transform.x") > 0.0)`.

A condition is a small immutable tree. It prints as what was written, compares equal to an equal one, and is evaluated
over whole columns by numpy; it never sees a row, and it knows nothing of tables, views or transactions.

Invariants:
- a condition holds names and values only, so one may be kept, reused against any view, and sent elsewhere later;
- it has no truth of its own: `and`, `or`, `not` and chained comparisons would silently drop a part, so they raise;
- evaluating gives one bool per row and changes nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import ArgumentError, UnknownNameError
from ecsnet.store.fields import FieldName

__all__ = ["Column", "Condition", "col"]

_Mask = NDArray[np.bool_]

# What evaluating asks for: the field that a path means, and its column.
Fetch = Callable[[str], tuple[FieldName, NDArray[Any]]]

_COMPARE: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "<": np.less,
    "<=": np.less_equal,
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


def col(path: str) -> "Column":
    """Name a column for a condition, such as `col("health.hp") < 20`. Within one table `col("hp")` will do."""
    if not isinstance(path, str) or not path:
        raise ArgumentError(f"expected a path such as 'health.hp', found {path!r}")
    return Column(path)


class Column:
    """A column's name, waiting to be compared. Made by `col`."""

    __slots__ = ("path",)
    __hash__ = None  # type: ignore[assignment]  # comparing gives a condition, so it can be no key of a dict

    def __init__(self, path: str):
        self.path = path

    def __repr__(self) -> str:
        return f"col({self.path!r})"

    def __lt__(self, value: object) -> "Condition":
        return Comparison(self.path, "<", _operand(value))

    def __le__(self, value: object) -> "Condition":
        return Comparison(self.path, "<=", _operand(value))

    def __eq__(self, value: object) -> "Condition":  # type: ignore[override]
        return Comparison(self.path, "==", _operand(value))

    def __ne__(self, value: object) -> "Condition":  # type: ignore[override]
        return Comparison(self.path, "!=", _operand(value))

    def __gt__(self, value: object) -> "Condition":
        return Comparison(self.path, ">", _operand(value))

    def __ge__(self, value: object) -> "Condition":
        return Comparison(self.path, ">=", _operand(value))

    def is_in(self, values: Iterable[object]) -> "Condition":
        """True where the column has one of `values`."""
        return Membership(self.path, tuple(values))

    def __bool__(self) -> NoReturn:
        raise ArgumentError(f"{self!r} alone is no condition: compare it, as in {self!r} == True")


class Condition:
    """The base of all conditions. Combine with `&`, `|` and `~`, each side in parentheses."""

    __slots__ = ()

    def __and__(self, other: "Condition") -> "Condition":
        return Both(self, _condition(other))

    def __or__(self, other: "Condition") -> "Condition":
        return Either(self, _condition(other))

    def __invert__(self) -> "Condition":
        return Not(self)

    def __bool__(self) -> NoReturn:
        raise ArgumentError(
            "a condition is neither true nor false: write & | ~ instead of `and`, `or`, `not`, with parentheses around "
            "each side, and two comparisons instead of a chained one"
        )

    def paths(self) -> frozenset[str]:
        """Every column that the condition reads."""
        raise NotImplementedError

    def evaluate(self, fetch: Fetch) -> _Mask:
        """One bool per row.

        Raises:
            ArgumentError: a value that a column of its type can never be compared with.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True, repr=False)
class Comparison(Condition):
    """A column against a value, or against another column (then `value` is a `Path`)."""

    path: str
    operator: str
    value: object

    def paths(self) -> frozenset[str]:
        other = {self.value.path} if isinstance(self.value, Path) else set()
        return frozenset({self.path} | other)

    def evaluate(self, fetch: Fetch) -> _Mask:
        field, cells = fetch(self.path)
        if isinstance(self.value, Path):
            other, others = fetch(self.value.path)
            if field.shape or other.shape:
                raise ArgumentError(f"{self!r}: columns of arrays or bytes cannot be compared with each other")
            return np.asarray(_COMPARE[self.operator](cells, others), np.bool_)
        return _compare(field, cells, self.operator, self.value)

    def __repr__(self) -> str:
        return f"col({self.path!r}) {self.operator} {self.value!r}"


@dataclass(frozen=True, slots=True, repr=False)
class Membership(Condition):
    """A column against a set of values."""

    path: str
    values: tuple[object, ...]

    def paths(self) -> frozenset[str]:
        return frozenset({self.path})

    def evaluate(self, fetch: Fetch) -> _Mask:
        field, cells = fetch(self.path)
        found = np.zeros(len(cells), np.bool_)
        for value in self.values:
            found |= _compare(field, cells, "==", value)
        return found

    def __repr__(self) -> str:
        return f"col({self.path!r}).is_in({list(self.values)!r})"


@dataclass(frozen=True, slots=True, repr=False)
class Both(Condition):
    left: Condition
    right: Condition

    def paths(self) -> frozenset[str]:
        return self.left.paths() | self.right.paths()

    def evaluate(self, fetch: Fetch) -> _Mask:
        return self.left.evaluate(fetch) & self.right.evaluate(fetch)

    def __repr__(self) -> str:
        return f"({self.left!r}) & ({self.right!r})"


@dataclass(frozen=True, slots=True, repr=False)
class Either(Condition):
    left: Condition
    right: Condition

    def paths(self) -> frozenset[str]:
        return self.left.paths() | self.right.paths()

    def evaluate(self, fetch: Fetch) -> _Mask:
        return self.left.evaluate(fetch) | self.right.evaluate(fetch)

    def __repr__(self) -> str:
        return f"({self.left!r}) | ({self.right!r})"


@dataclass(frozen=True, slots=True, repr=False)
class Not(Condition):
    inner: Condition

    def paths(self) -> frozenset[str]:
        return self.inner.paths()

    def evaluate(self, fetch: Fetch) -> _Mask:
        return ~self.inner.evaluate(fetch)

    def __repr__(self) -> str:
        return f"~({self.inner!r})"


@dataclass(frozen=True, slots=True, repr=False)
class Path:
    """Another column as the right side of a comparison: what `Column` is there, with an ordinary equality."""

    path: str

    def __repr__(self) -> str:
        return f"col({self.path!r})"


def _operand(value: object) -> object:
    if isinstance(value, Column):
        return Path(value.path)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Condition | np.ndarray | list | dict | set):
        raise ArgumentError(f"a column is compared with one value or another column, not with {type(value).__name__}")
    return value


def _condition(value: object) -> Condition:
    if not isinstance(value, Condition):
        raise ArgumentError(f"expected a condition such as col('health.hp') < 20, found {value!r}")
    return value


def _compare(field: FieldName, cells: NDArray[Any], operator: str, value: object) -> _Mask:
    if field.text:
        if operator not in ("==", "!="):
            raise ArgumentError(f"{field.path} holds bytes, which compare by == and != only")
        wanted = np.frombuffer(field.cell(value), np.uint8)
        equal: _Mask = (cells == wanted).all(axis=1)
        return equal if operator == "==" else ~equal
    if field.shape:
        raise ArgumentError(f"{field.path} holds arrays: compare its column with numpy and use the mask")
    if field.enum is not None and isinstance(value, str):
        number = field.enum.get(value)
        if number is None:
            raise UnknownNameError(f"value of {field.path}", value, field.enum)
        value = number
    # A number out of the dtype's range is a fair question (`hp < 100000` is true everywhere); numpy answers it.
    if not isinstance(value, int | float):
        field.refuse(value)
    return np.asarray(_COMPARE[operator](cells, value), np.bool_)
