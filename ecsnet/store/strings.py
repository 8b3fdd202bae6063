"""Fields of strings: `string[N]` holds a `str` of at most N bytes of UTF-8.

To a game a cell is a `str` and a column an array of them (dtype object); references into the kernel's heap are not seen
above `ecsnet._kernel`. Every text that UTF-8 can carry may be stored, U+0000 like any other character; half of a
surrogate pair cannot.

Invariant: a checked column is an array of `str` objects, dtype object, each of which fits its field.
"""

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, Final, NoReturn, Union

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import ArgumentError
from ecsnet.store.fields import FieldName

if TYPE_CHECKING:
    from ecsnet._kernel.texts import Texts
    from ecsnet.schema.model import Field
    from ecsnet.store.names import TableName

__all__ = ["StringField", "checked_texts", "compare_columns", "compare_texts", "field_name", "member_texts"]

_OBJECT: Final = np.dtype(np.object_)

_COMPARE: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "<": np.less,
    "<=": np.less_equal,
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}

Asked = Union["Texts", NDArray[Any]]

# More texts than this are looked for among the distinct texts of the column instead of one by one.
_ASKED_TOGETHER_MAX: Final = 16


class StringField(FieldName):
    """A field whose cells are strings."""

    __slots__ = ("bytes_max",)

    def __init__(self, table: "TableName", field: "Field"):
        super().__init__(table, field.name, "stored", field)
        self.dtype = _OBJECT
        self.bytes_max = field.count
        self.string = True
        self.plain = False
        # A cell is written by its text: an array of references would let one name what is not there.
        self.lendable = False

    @property
    def expected(self) -> str:
        """What a cell of this field may be, in words for an error."""
        return f"a str, at most {self.bytes_max} bytes of UTF-8"

    def cell(self, value: object) -> str:
        """Check one value. Raises ArgumentError: no str, too long, or not to be written as UTF-8."""
        if not isinstance(value, str):
            self.refuse(value)
        # A character takes 4 bytes at most, and in ASCII one: short texts are known to fit without being encoded.
        length = len(value)
        if not value.isascii():
            length = len(self.utf8(value))
        if length > self.bytes_max:
            self.refuse(value, f"at most {self.bytes_max} bytes of UTF-8, not {length}")
        return str(value)

    def utf8(self, value: str) -> bytes:
        """A text as UTF-8. Raises ArgumentError: it has half of a surrogate pair."""
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            self._refuse_surrogate(value, error)

    def packed(self, cell: str) -> tuple[int, bytes]:
        """A checked cell as a point write carries it: its length, and its UTF-8."""
        raw = cell.encode()
        return len(raw), raw

    def python(self, cell: Any) -> Any:
        """A cell of a column: the `str` itself."""
        return cell

    def cast(self, value: object) -> NDArray[Any]:
        """`value` as an array of `str`, checked, of whatever shape it has. Raises ArgumentError."""
        if isinstance(value, str):
            return np.array(self.cell(value), _OBJECT)
        if not isinstance(value, Iterable) or isinstance(value, bytes | bytearray | memoryview):
            self.refuse(value)
        if isinstance(value, np.ndarray) and value.dtype.kind not in "OUT":
            self.refuse(value)
        texts = value.ravel().tolist() if isinstance(value, np.ndarray) else list(value)
        self._check_all(texts)
        array = np.empty(len(texts), _OBJECT)
        array[:] = texts
        return array.reshape(value.shape) if isinstance(value, np.ndarray) else array

    def _check_all(self, texts: list[Any]) -> None:
        """Check many at the price of one encoding of all, where they fit at a glance."""
        try:
            joined = "".join(texts)
        except TypeError:
            self.refuse(next(text for text in texts if not isinstance(text, str)))
        if joined.isascii() and max(map(len, texts), default=0) <= self.bytes_max:
            return
        for text in texts:
            self.cell(text)

    def _refuse_surrogate(self, value: str, error: UnicodeEncodeError) -> NoReturn:
        self.refuse(value, f"text that UTF-8 can carry (character {error.start} is half of a surrogate pair)")


def field_name(table: "TableName", field: "Field") -> FieldName:
    """The stored field of a table under its name."""
    return StringField(table, field) if field.type == "string" else FieldName(table, field.name, "stored", field)


def compare_texts(field: FieldName, cells: Asked, operator: str, value: object) -> NDArray[np.bool_]:
    """A column of strings against one text, in the order of code points.

    Raises:
        ArgumentError: `value` is no text that UTF-8 can carry.
    """
    text = _text(field, value)
    if isinstance(cells, np.ndarray):
        if operator == "startswith":
            return np.fromiter((cell.startswith(text) for cell in cells), np.bool_, len(cells))
        return np.asarray(_COMPARE[operator](cells, text), np.bool_)
    match operator:
        case "==":
            return cells.ask("in", [text])
        case "!=":
            return ~cells.ask("in", [text])
        case "<":
            return cells.ask("<", [text])
        case "<=":
            return cells.ask("<=", [text])
        case ">":
            return ~cells.ask("<=", [text])
        case ">=":
            return ~cells.ask("<", [text])
    assert operator == "startswith", operator
    return cells.ask("startswith", [text])


def compare_columns(field: FieldName, cells: Any, operator: str, other: FieldName, others: Any) -> NDArray[np.bool_]:
    """Two columns of strings against each other. Raises ArgumentError: only one holds strings."""
    if not (field.string and other.string):
        raise ArgumentError(f"{field.path} and {other.path} cannot be compared: one holds strings, the other does not")
    if operator not in _COMPARE:
        raise ArgumentError(f"{field.path} {operator} {other.path}: {operator} takes a text, not a column")
    arrays = isinstance(cells, np.ndarray) or isinstance(others, np.ndarray)
    if operator in ("==", "!=") and not arrays:
        # Equal texts have equal references.
        return np.asarray(_COMPARE[operator](cells.references, others.references), np.bool_)
    left, right = (one if isinstance(one, np.ndarray) else one.decode() for one in (cells, others))
    return np.asarray(_COMPARE[operator](left, right), np.bool_)


def member_texts(field: FieldName, cells: Asked, values: Collection[object]) -> NDArray[np.bool_]:
    """Where a column of strings has one of `values`. Raises ArgumentError: one is no text that UTF-8 can carry."""
    wanted = set(checked_texts(field, values))
    if isinstance(cells, np.ndarray):
        return np.fromiter((cell in wanted for cell in cells), np.bool_, len(cells))
    if len(wanted) <= _ASKED_TOGETHER_MAX:
        return cells.ask("in", sorted(wanted))
    codes, texts = cells.codes()
    return np.fromiter((text in wanted for text in texts), np.bool_, len(texts)).take(codes)


def checked_texts(field: FieldName, values: Collection[object]) -> list[str]:
    """The texts that a field of strings is looked up by. Raises ArgumentError: one is none that UTF-8 can carry."""
    return [_text(field, value) for value in values]


def _text(field: FieldName, value: object) -> str:
    if value is None and field.field is not None and field.field.foreign_key is not None:
        # A reference to nothing is stored as "".
        return ""
    if not isinstance(value, str):
        field.refuse(value, "a str")
    assert isinstance(field, StringField)
    field.utf8(value)
    return value
