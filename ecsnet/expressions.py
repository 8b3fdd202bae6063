"""Expressions as data: which column, how it is compared, in which order, what is counted over it.

`(Health.hp < 20) & (col("transform.x") > 0.0)` is a small immutable tree of names and values. It prints as what was
written, compares equal to an equal one, travels as a dict or as text, and knows nothing of stores: evaluating it over
columns is the store's own business (`ecsnet.store.conditions`).

    column  <  value or column  ──►  Comparison ─┐
    column.is_in(values)        ──►  Membership ─┼─  & | ~  ──►  Both, Either, Not

Invariants:
- an expression holds names and plain values only (None, bool, int, float, str, bytes), so that one may be kept, reused
  against any view, and sent elsewhere later;
- a condition has no truth of its own: `and`, `or`, `not` and chained comparisons would silently drop a part, so they
  raise. The one exception is a column compared with itself, without which a column could be no key of a dict;
- `a & b & c` is one condition of three parts, however it was bracketed, so that a long one is not a deep one.

Comparing follows IEEE 754: NaN is unequal to everything, itself included, and neither less nor greater.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ecsnet.errors import ArgumentError

__all__ = [
    "DEPTH_MAX",
    "KEYWORDS",
    "OPERATORS",
    "Aggregate",
    "Both",
    "Column",
    "Comparison",
    "Condition",
    "Either",
    "Membership",
    "Not",
    "Order",
    "Path",
    "asc",
    "col",
    "column_path",
    "count",
    "desc",
    "max_",
    "mean",
    "min_",
    "spell",
    "sum_",
]

OPERATORS: Final = ("<", "<=", "==", "!=", ">", ">=", "startswith")

DEPTH_MAX: Final = 64
"""How deep a condition from outside may be nested: deeper than people write, far above what Python's stack minds."""

# fmt: off
KEYWORDS: Final = frozenset({
    "all", "and", "as", "asc", "between", "by", "desc", "false", "from", "group", "in", "inf", "is", "join", "left",
    "limit", "maybe", "nan", "not", "null", "offset", "on", "or", "order", "select", "startswith", "true", "where",
    "without",
})
# fmt: on
"""Words of the language of queries, which as names stand in backticks."""

_PLAIN_NAME: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_FUNCTION: Final = re.compile(r"[a-z]+\([^()]*\)")

Value = None | bool | int | float | str | bytes


# --- columns ----------------------------------------------------------------------------------------------------------


def col(path: str) -> "Column":
    """Name a column for a condition, such as `col("health.hp") < 20`. Within one table `col("hp")` will do.

    Raises:
        ArgumentError: not a string, or empty. Whether the schema has it is asked where it is used.
    """
    return Column(path)


class Column:
    """A column's name, waiting to be compared. Made by `col`, or the field of a table's class.

    `path` is the table's name and the field's, such as `health.hp`. Columns of equal paths have equal hashes and find
    each other as keys of a dict; `==` gives a condition, `same` says whether two columns are one.
    """

    __slots__ = ("path",)

    path: str

    def __init__(self, path: str):
        if not isinstance(path, str) or not path:
            raise ArgumentError(f"expected a path such as 'health.hp', found {path!r}")
        self.path = path

    def __repr__(self) -> str:
        return f"col({self.path!r})"

    def __hash__(self) -> int:
        # Not the hash of the path itself: a dict with both would compare a column with a string, which raises.
        return hash((Column, self.path))

    def same(self, other: object) -> bool:
        """Whether `other` is a column of the same path."""
        return isinstance(other, Column) and other.path == self.path

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
        """True where the column has one of `values`: any iterable of values, numpy arrays of one dimension included.

        Raises:
            ArgumentError: no iterable, or one of something else than values.
        """
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise ArgumentError(f"is_in takes several values, found {values!r}")
        try:
            each = list(values)
        except TypeError:
            # An array of no dimension says of itself that it can be iterated.
            raise ArgumentError(f"is_in takes several values, found {values!r}") from None
        return Membership(self.path, tuple([_value(value) for value in each]))

    def between(self, low: object, high: object) -> "Condition":
        """True where the column is at least `low` and at most `high`, both included."""
        return Both((Comparison(self.path, ">=", _operand(low)), Comparison(self.path, "<=", _operand(high))))

    def startswith(self, prefix: str | bytes) -> "Condition":
        """True where a column of strings or bytes begins with `prefix`."""
        if not isinstance(prefix, str | bytes):
            raise ArgumentError(f"startswith takes a str or bytes, found {prefix!r}")
        return Comparison(self.path, "startswith", _value(prefix))

    def __bool__(self) -> NoReturn:
        raise ArgumentError(f"{self!r} alone is no condition: compare it, as in {self!r} == True")

    if not TYPE_CHECKING:  # a type checker shall go on refusing them

        def __and__(self, other: object) -> NoReturn:
            # `&` binds tighter than a comparison: `a > 1 & b < 3` asks for `1 & b`.
            raise ArgumentError(
                f"& and | join conditions: put parentheses around each, as in ({self.path} > 1) & (...)"
            )

        __rand__ = __or__ = __ror__ = __and__


def column_path(column: object) -> str:
    """The path of a column that is named by a string or by a `Column`.

    Raises:
        ArgumentError: neither, or empty.
    """
    if isinstance(column, Column):
        return column.path
    if not isinstance(column, str) or not column:
        raise ArgumentError(f"expected a column such as 'health.hp' or Health.hp, found {column!r}")
    return column


# --- conditions -------------------------------------------------------------------------------------------------------


class Condition:
    """The base of all conditions. Combine with `&`, `|` and `~`, each side in parentheses.

    `repr` is Python, `text()` is the language of queries, `to_dict()` is for JSON; each can be read back.
    """

    __slots__ = ()

    def __and__(self, other: "Condition") -> "Condition":
        return Both(_parts(Both, self) + _parts(Both, _condition(other)))

    def __or__(self, other: "Condition") -> "Condition":
        return Either(_parts(Either, self) + _parts(Either, _condition(other)))

    def __invert__(self) -> "Condition":
        return Not(self)

    def __bool__(self) -> bool:
        raise ArgumentError(
            "a condition is neither true nor false: write & | ~ instead of `and`, `or`, `not`, with parentheses around "
            "each side, and two comparisons instead of a chained one"
        )

    def same(self, other: object) -> bool:
        """Whether `other` is an equal condition: the same columns, operators and values in the same order."""
        return self == other

    def paths(self) -> frozenset[str]:
        """Every column that the condition reads."""
        raise NotImplementedError

    def text(self) -> str:
        """As the language of queries writes it, e.g. `health.hp < 20 and not (transform.x == 0.0)`."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """As JSON's own types; bytes and numbers that JSON lacks are written as `{"hex": ...}`, `{"float": ...}`."""
        raise NotImplementedError

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "Condition":
        """The condition that `to_dict` gave.

        Raises:
            ArgumentError: anything else, or nested deeper than `DEPTH_MAX`. Safe on data from outside.
        """
        return _from_dict(data, DEPTH_MAX)


@dataclass(frozen=True, slots=True, repr=False)
class Comparison(Condition):
    """A column against a value, or against another column (then `value` is a `Path`)."""

    path: str
    operator: str
    value: "Value | Path"

    def __bool__(self) -> bool:
        if self.operator == "==" and isinstance(self.value, Path) and self.value.path == self.path:
            # What a dict asks when it looks a column up.
            return True
        return Condition.__bool__(self)

    def paths(self) -> frozenset[str]:
        other = {self.value.path} if isinstance(self.value, Path) else set()
        return frozenset({self.path} | other)

    def text(self) -> str:
        right = spell(self.value.path) if isinstance(self.value, Path) else literal(self.value)
        return f"{spell(self.path)} {self.operator} {right}"

    def to_dict(self) -> dict[str, Any]:
        if isinstance(self.value, Path):
            return {"op": self.operator, "column": self.path, "other": self.value.path}
        return {"op": self.operator, "column": self.path, "value": _json(self.value)}

    def __repr__(self) -> str:
        if self.operator == "startswith":
            return f"col({self.path!r}).startswith({self.value!r})"
        return f"col({self.path!r}) {self.operator} {self.value!r}"


@dataclass(frozen=True, slots=True, repr=False)
class Membership(Condition):
    """A column against a set of values."""

    path: str
    values: tuple[Value, ...]

    def paths(self) -> frozenset[str]:
        return frozenset({self.path})

    def text(self) -> str:
        return f"{spell(self.path)} in ({', '.join([literal(value) for value in self.values])})"

    def to_dict(self) -> dict[str, Any]:
        return {"op": "in", "column": self.path, "values": [_json(value) for value in self.values]}

    def __repr__(self) -> str:
        return f"col({self.path!r}).is_in({list(self.values)!r})"


@dataclass(frozen=True, slots=True, repr=False)
class Both(Condition):
    """True where all of its parts are."""

    parts: tuple[Condition, ...]

    def paths(self) -> frozenset[str]:
        return frozenset().union(*[part.paths() for part in self.parts])

    def text(self) -> str:
        return " and ".join([f"({part.text()})" if isinstance(part, Either) else part.text() for part in self.parts])

    def to_dict(self) -> dict[str, Any]:
        return {"op": "and", "of": [part.to_dict() for part in self.parts]}

    def __repr__(self) -> str:
        return " & ".join([f"({part!r})" for part in self.parts])


@dataclass(frozen=True, slots=True, repr=False)
class Either(Condition):
    """True where at least one of its parts is."""

    parts: tuple[Condition, ...]

    def paths(self) -> frozenset[str]:
        return frozenset().union(*[part.paths() for part in self.parts])

    def text(self) -> str:
        return " or ".join([part.text() for part in self.parts])

    def to_dict(self) -> dict[str, Any]:
        return {"op": "or", "of": [part.to_dict() for part in self.parts]}

    def __repr__(self) -> str:
        return " | ".join([f"({part!r})" for part in self.parts])


@dataclass(frozen=True, slots=True, repr=False)
class Not(Condition):
    """True where its part is false."""

    inner: Condition

    def paths(self) -> frozenset[str]:
        return self.inner.paths()

    def text(self) -> str:
        return f"not ({self.inner.text()})"

    def to_dict(self) -> dict[str, Any]:
        return {"op": "not", "of": [self.inner.to_dict()]}

    def __repr__(self) -> str:
        return f"~({self.inner!r})"


@dataclass(frozen=True, slots=True, repr=False)
class Path:
    """Another column as the right side of a comparison: what `Column` is there, with an ordinary equality."""

    path: str

    def __repr__(self) -> str:
        return f"col({self.path!r})"


# --- order and aggregates ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class Order:
    """One column to sort by. Rows that it leaves equal keep the order they had; NaN comes last in either direction."""

    path: str
    descending: bool = False

    @staticmethod
    def of(column: "Order | Column | str") -> "Order":
        """What `order_by` was given: an order, or a column to sort by upwards."""
        return column if isinstance(column, Order) else Order(column_path(column))

    def text(self) -> str:
        """As the language of queries writes it."""
        return f"{spell(self.path)} desc" if self.descending else spell(self.path)

    def __repr__(self) -> str:
        return f"desc({self.path!r})" if self.descending else f"asc({self.path!r})"


def asc(column: Column | str) -> Order:
    """Sort by this column upwards, which is what a column alone means too."""
    return Order(column_path(column))


def desc(column: Column | str) -> Order:
    """Sort by this column downwards."""
    return Order(column_path(column), True)


@dataclass(frozen=True, slots=True, repr=False)
class Aggregate:
    """One number over many rows. `function` is "count", "sum", "min", "max" or "mean"; `path` is None for a count."""

    function: str
    path: str | None = None

    def text(self) -> str:
        """As the language of queries writes it."""
        return f"{self.function}({'' if self.path is None else spell(self.path)})"

    def __repr__(self) -> str:
        return "count()" if self.path is None else f"{_FUNCTIONS[self.function].__name__}({self.path!r})"


def count() -> Aggregate:
    """How many rows."""
    return Aggregate("count")


def sum_(column: Column | str) -> Aggregate:
    """The sum: of integers exact modulo 2**64 (as i64 or u64), of floats and in f64. Of no rows it is 0."""
    return Aggregate("sum", column_path(column))


def min_(column: Column | str) -> Aggregate:
    """The least value, in the column's own type. NaN where one of them is; None of no rows."""
    return Aggregate("min", column_path(column))


def max_(column: Column | str) -> Aggregate:
    """The greatest value, in the column's own type. NaN where one of them is; None of no rows."""
    return Aggregate("max", column_path(column))


def mean(column: Column | str) -> Aggregate:
    """The arithmetic mean, in f64. None of no rows."""
    return Aggregate("mean", column_path(column))


_FUNCTIONS: Final = {"count": count, "sum": sum_, "min": min_, "max": max_, "mean": mean}


# --- values -----------------------------------------------------------------------------------------------------------


def spell(name: str) -> str:
    """A name or path as the language of queries writes it."""
    if (_PLAIN_NAME.fullmatch(name) and name.lower() not in KEYWORDS) or _FUNCTION.fullmatch(name):
        return name
    return f"`{name}`"


def literal(value: Value) -> str:
    """A value as the language of queries writes it: `20`, `0.5`, `"SWORD"`, `true`, `null`, `x"00ff"`."""
    if isinstance(value, bytes):
        return f'x"{value.hex()}"'
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)


def _operand(value: object) -> "Value | Path":
    return Path(value.path) if isinstance(value, Column) else _value(value)


def _value(value: object) -> Value:
    if value is None or isinstance(value, bool):
        return value
    # By the plain type: the members of an enum are data here, not members.
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return _value(value.item())
    raise ArgumentError(f"a column is compared with one value or another column, not with {type(value).__name__}")


def _condition(value: object) -> Condition:
    if not isinstance(value, Condition):
        raise ArgumentError(f"expected a condition such as col('health.hp') < 20, found {value!r}")
    return value


def _parts(kind: type[Both] | type[Either], condition: Condition) -> tuple[Condition, ...]:
    return condition.parts if isinstance(condition, kind) else (condition,)


def _json(value: Value) -> Any:
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    return value


def _from_json(value: Any) -> Value:
    try:
        match value:
            case {"hex": str(text), **rest} if not rest:
                return bytes.fromhex(text)
            case {"float": str(text), **rest} if not rest:
                return float(text)
            case None | bool() | int() | float() | str():
                return _value(value)
    except ValueError:
        pass
    raise ArgumentError(f"no value of a condition: {value!r}")


def _from_dict(data: Any, depth: int) -> Condition:
    if depth == 0:
        raise ArgumentError(f"a condition is nested deeper than {DEPTH_MAX}")
    match data:
        case {"op": "and" | "or" as op, "of": [_, _, *_] as parts, **rest} if not rest:
            inner = tuple([_from_dict(part, depth - 1) for part in parts])
            return Both(inner) if op == "and" else Either(inner)
        case {"op": "not", "of": [part], **rest} if not rest:
            return Not(_from_dict(part, depth - 1))
        case {"op": "in", "column": str(path), "values": list(values), **rest} if path and not rest:
            return Membership(path, tuple([_from_json(value) for value in values]))
        case {"op": str(op), "column": str(path), "other": str(other), **rest} if path and other and not rest:
            if op in OPERATORS and op != "startswith":
                return Comparison(path, op, Path(other))
        case {"op": str(op), "column": str(path), "value": value, **rest} if path and not rest:
            if op in OPERATORS:
                return Comparison(path, op, _from_json(value))
    raise ArgumentError(f"no condition: {data!r}")
