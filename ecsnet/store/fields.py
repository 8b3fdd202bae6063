"""One field under its name, and the one place that checks values given by the game.

A value is checked here against the type of its field before the kernel sees it; what the *schema* demands (ranges,
enums, unique, foreign keys) the kernel checks.

Invariants:
- a checked cell is exactly what the kernel packs (an int, a float, a bool, `bytes` of full length, a tuple for an
  array, flat for arrays of arrays), a checked column is C-contiguous and has the dtype and shape of the field's column:
  `(rows,)`, `(rows, N)`, `(rows, M, N)`;
- numbers are never cut or bent silently: floats go to float fields, integers go to integer fields with the range
  checked and to float fields, nothing else converts.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import ArgumentError, UnknownNameError
from ecsnet.schema.model import MISSING, Field

if TYPE_CHECKING:
    from ecsnet.store.names import TableName

__all__ = ["FieldName", "show"]


class FieldName:
    """One field under its path, such as `health.hp`, with what checking a value needs.

    `kind` says where the value lives: "stored" in a column; "key" is the row's own key (an entity's id, a
    component's entity); "generation" is the high half of that key. `lendable` is False where a transaction hands the
    column out read-only: virtual fields, the tables that describe the schema, and foreign keys and unique fields, whose
    indexes the kernel keeps per operation.
    """

    __slots__ = (
        "_high",
        "_low",
        "dtype",
        "enum",
        "field",
        "id",
        "kind",
        "lendable",
        "name",
        "path",
        "plain",
        "shape",
        "string",
        "table",
        "text",
    )

    def __init__(
        self, table: "TableName", name: str, kind: Literal["stored", "key", "generation"], field: Field | None
    ):
        self.table = table
        self.name = name
        self.path = f"{table.name}.{name}"
        self.string = False
        self.kind: Final = kind
        self.field = field
        if field is None:
            self.id = -1
            self.dtype: np.dtype[Any] = np.dtype(np.uint64 if kind == "key" else np.uint32)
            self.shape: tuple[int, ...] = ()
            self.text = False
            self.enum: Mapping[str, int] | None = None
            self.lendable = False
        else:
            self.id = int(field.id)
            self.text = field.type == "bytes"
            self.dtype = field.dtype
            self.shape = field.shape
            self.enum = field.enum
            together = any(field.name in names for names in table.table.uniques)
            self.lendable = not (
                field.unique
                or field.foreign_key is not None
                or together
                or table.read_only
                or table.event
                or table.table.conflict == "lww"
            )
        # A plain field's Python value goes to `struct.pack` as it is: that checks type and range well enough. A bool
        # would take anything for true, the others need converting.
        self.plain = not self.shape and self.enum is None and self.dtype.kind in "iuf"
        if self.dtype.kind in "iu":
            limits = np.iinfo(self.dtype)
            self._low, self._high = int(limits.min), int(limits.max)
        else:
            self._low = self._high = 0

    def __repr__(self) -> str:
        return f"<field {self.path}>"

    @property
    def expected(self) -> str:
        """What a cell of this field may be, in words for an error."""
        if self.text:
            return f"bytes, at most {self.shape[0]} of them"
        if self.enum is not None:
            return f"one of {', '.join(self.enum)} or its number"
        word = {"f": "a number", "b": "a bool"}.get(self.dtype.kind)
        if word is None:
            word = f"an integer from {self._low} to {self._high}"
        return f"{self._counts()} of {word}" if self.shape else word

    @property
    def number(self) -> bool:
        """Whether a cell is one number or bool in memory, which a memoryview gives as Python does."""
        return not self.text and not self.shape and self.dtype.kind in "iufb"

    def _counts(self) -> str:
        """How many cells, in words: "3", or "4 times 3" for arrays of arrays."""
        return " times ".join(map(str, self.shape))

    def refuse(self, found: object, expected: str | None = None) -> NoReturn:
        """Raise the `ArgumentError` for this field."""
        raise ArgumentError(f"{self.path} ({self._type()}): expected {expected or self.expected}, found {show(found)}")

    def _type(self) -> str:
        return "u64" if self.field is None else self.field.type_text

    def default(self) -> Any:
        """The checked value that a new row has when none is given; None where the kernel counts it on."""
        assert self.field is not None, "a virtual field has no default"
        assert not self.field.required, "a field without a default was given when its row was made"
        if self.field.default is MISSING:
            return None
        # A schema holds the default of an array flat, whatever its shape is.
        return self.field.default if len(self.shape) > 1 else self.cell(self.field.default)

    # --- cells -------------------------------------------------------------------------------------------------------

    def cell(self, value: object) -> Any:
        """Check one value: an int, float, bool, full-length bytes, or a flat tuple of scalars for an array field.

        Raises:
            ArgumentError: wrong type, length or range.
        """
        if self.text:
            return self._bytes(value)
        if self.shape:
            return tuple(self._elements(value, value, self.shape))
        return self._scalar(value)

    def one(self, cell: Any) -> NDArray[Any]:
        """A checked cell as the column of a single row."""
        return self.column(np.array(cell, self.dtype).reshape(self.shape) if len(self.shape) > 1 else cell, 1)

    def _elements(self, whole: object, value: object, shape: tuple[int, ...]) -> Iterator[Any]:
        """The checked elements of an array, or of an array within it, in order."""
        if isinstance(value, str | bytes) or not isinstance(value, Sequence | np.ndarray):
            self.refuse(whole)
        if isinstance(value, np.ndarray) and value.ndim == 0:
            self.refuse(whole)
        if len(value) != shape[0]:
            self.refuse(whole, f"{self._counts()} cells, not {len(value)}")
        for part in value:
            if len(shape) > 1:
                yield from self._elements(whole, part, shape[1:])
            else:
                yield self._scalar(part)

    def _scalar(self, value: object) -> Any:
        kind = self.dtype.kind
        if self.enum is not None and isinstance(value, str):
            number = self.enum.get(value)
            if number is None:
                raise UnknownNameError(f"value of {self.path}", value, self.enum)
            return number
        if isinstance(value, np.ndarray) and value.shape == ():
            value = value.item()
        if kind == "b":
            if isinstance(value, bool | np.bool_):
                return bool(value)
        elif kind == "f":
            if isinstance(value, int | float | np.integer | np.floating):
                try:
                    real = float(value)
                except OverflowError:
                    self.refuse(value, f"a number that fits {self._type()}")
                if self.dtype.itemsize == 4 and np.isfinite(real):
                    with np.errstate(over="ignore"):
                        if not np.isfinite(np.float32(real)):
                            self.refuse(value, "a number that fits f32")
                return real
        elif isinstance(value, int | np.integer):
            if not self._low <= int(value) <= self._high:
                self.refuse(value)
            return int(value)
        self.refuse(value)

    def _bytes(self, value: object) -> bytes:
        if isinstance(value, np.ndarray) and value.dtype == np.uint8:
            value = value.tobytes()
        if not isinstance(value, bytes | bytearray | memoryview):
            self.refuse(value)
        raw = bytes(value)
        if len(raw) > self.shape[0]:
            self.refuse(raw, f"at most {self.shape[0]} bytes, not {len(raw)}")
        return raw.ljust(self.shape[0], b"\0")

    def python(self, cell: Any) -> Any:
        """A numpy cell as its Python value: an int, float, bool, `bytes`, or an array of its own for `[T; N]`."""
        if self.text:
            return cell.tobytes()
        if self.shape:
            return cell.copy()
        return cell.item()

    # --- columns -----------------------------------------------------------------------------------------------------

    def column(self, value: object, rows: int) -> NDArray[Any]:
        """Check an array of one value per row, or one value for all of them.

        Returns:
            a C-contiguous array of the field's dtype, shape `(rows,)` or `(rows, N)`; `value` itself when it already
            is one.

        Raises:
            ArgumentError: wrong dtype, shape, length or range.
        """
        array = self.cast(value)
        shape = (rows, *self.shape)
        if array.shape == shape:
            return np.ascontiguousarray(array)
        if array.shape != self.shape:
            expected = f"{rows} rows" if not self.shape else f"{rows} rows of {self._counts()}"
            self.refuse(value, f"{expected}, or one value for all")
        filled = np.empty(shape, self.dtype)
        filled[...] = array
        return filled

    def cast(self, value: object) -> NDArray[Any]:
        """`value` as an array of this field's dtype, of whatever shape it has.

        Raises:
            ArgumentError: floats or strings for an integer field, values out of the dtype's range, and the like.
        """
        if self.text:
            return self._bytes_array(value)
        if isinstance(value, np.ndarray) and value.dtype == self.dtype:
            return value
        array = self._array(value)
        source, target = array.dtype.kind, self.dtype.kind
        if target == "f" and source in "fiu":
            return self._to_float(array)
        if target in "iu" and source in "iub":
            if array.size and not np.can_cast(array.dtype, self.dtype, "safe"):
                low, high = array.min(), array.max()
                if int(low) < self._low or int(high) > self._high:
                    self.refuse(low if int(low) < self._low else high)
            return array.astype(self.dtype)
        if target == "b" and source == "b":
            return array
        if array.size == 0 and isinstance(value, Sequence):
            return np.empty(array.shape, self.dtype)
        self.refuse(value)

    def _array(self, value: object) -> NDArray[Any]:
        try:
            array = np.asarray(value)
        except (ValueError, TypeError, OverflowError):
            self.refuse(value)
        if self.enum is not None and array.dtype.kind in "UO":
            if not isinstance(value, np.ndarray):
                # Names beside numbers: numpy has made them all strings.
                array = np.asarray(value, object)
            try:
                return np.array([self._scalar(item) for item in array.ravel().tolist()], self.dtype).reshape(
                    array.shape
                )
            except TypeError:
                self.refuse(value)
        if array.dtype.kind == "O":
            # Integers beyond i64, or a mixture: a cell at a time says what is wrong with which.
            return np.array([self._scalar(item) for item in array.ravel().tolist()], self.dtype).reshape(array.shape)
        return array

    def _to_float(self, array: NDArray[Any]) -> NDArray[Any]:
        try:
            with np.errstate(over="raise"):
                return array.astype(self.dtype)
        except FloatingPointError:
            self.refuse(array, f"numbers that fit {self._type()}")

    def _bytes_array(self, value: object) -> NDArray[Any]:
        if isinstance(value, np.ndarray) and value.dtype == np.uint8:
            if value.shape[-1:] != self.shape:
                self.refuse(value, f"rows of {self.shape[0]} bytes")
            return value
        if isinstance(value, bytes | bytearray | memoryview):
            return np.frombuffer(self._bytes(value), np.uint8)
        if isinstance(value, np.ndarray) and value.dtype.kind == "S":
            value = value.tolist()
        if isinstance(value, Iterable) and not isinstance(value, str):
            joined = b"".join(self._bytes(item) for item in value)
            return np.frombuffer(joined, np.uint8).reshape(-1, self.shape[0])
        self.refuse(value)


def show(value: object) -> str:
    """A value as an error shows it: short, with its type."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}, shape {value.shape}"
    shown = repr(value)
    if len(shown) > 60:
        shown = shown[:57] + "..."
    return f"{shown} ({type(value).__name__})"
