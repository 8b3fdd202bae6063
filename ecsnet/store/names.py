"""The schema's names, resolved once per store, and the one place that checks values given by the game.

Every verb of the store names tables and fields by strings. Looking a name up costs a dictionary access; a wrong one is
an `UnknownNameError` with "did you mean". What a caller gives as a value is checked here against the type of the field
before the kernel sees it; what the *schema* demands (ranges, enums, unique, foreign keys) the kernel checks.

Invariants:
- a checked cell is exactly what the kernel packs (an int, a float, a bool, `bytes` of full length, a tuple for an
  array), a checked column is C-contiguous and has the dtype and shape of the field's column: `(rows,)` or `(rows, N)`;
- numbers are never cut or bent silently: floats go to float fields, integers go to integer fields with the range
  checked and to float fields, nothing else converts;
- virtual fields (an entity's id and generation, a component's entity) are read-only and have no stored field.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import ArgumentError, ConstraintError, NoRowError, NotBuiltError, UnknownNameError
from ecsnet.schema.model import MISSING, Field, Schema, Table

__all__ = ["FieldName", "Names", "TableName", "as_key", "as_keys", "no_such_row", "typed_not_built"]

_KEY_MAX: Final = 2**64 - 1


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
        "table",
        "text",
    )

    def __init__(
        self, table: "TableName", name: str, kind: Literal["stored", "key", "generation"], field: Field | None
    ):
        self.table = table
        self.name = name
        self.path = f"{table.name}.{name}"
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
            self.lendable = not (field.unique or field.foreign_key is not None or table.read_only)
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
        return f"{self.shape[0]} of {word}" if self.shape else word

    def refuse(self, found: object, expected: str | None = None) -> NoReturn:
        """Raise the `ArgumentError` for this field."""
        raise ArgumentError(f"{self.path} ({self._type()}): expected {expected or self.expected}, found {_show(found)}")

    def _type(self) -> str:
        return "u64" if self.field is None else self.field.type_text

    def default(self) -> Any:
        """The checked value that a new row has when none is given; None where the kernel counts it on."""
        assert self.field is not None, "a virtual field has no default"
        assert not self.field.required, "a field without a default was given when its row was made"
        return None if self.field.default is MISSING else self.cell(self.field.default)

    # --- cells -------------------------------------------------------------------------------------------------------

    def cell(self, value: object) -> Any:
        """Check one value: an int, float, bool, full-length bytes, or a tuple of scalars for an array field.

        Raises:
            ArgumentError: wrong type, length or range.
        """
        if self.text:
            return self._bytes(value)
        if self.shape:
            if isinstance(value, str | bytes) or not isinstance(value, Sequence | np.ndarray):
                self.refuse(value)
            if len(value) != self.shape[0]:
                self.refuse(value, f"{self.shape[0]} cells, not {len(value)}")
            return tuple(self._scalar(part) for part in value)
        return self._scalar(value)

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
            expected = f"{rows} rows" if not self.shape else f"{rows} rows of {self.shape[0]}"
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


class TableName:
    """One table: its fields by name, and what a new row needs."""

    __slots__ = ("component", "fields", "id", "keyed", "name", "read_only", "required", "stored", "table")

    def __init__(self, table: Table):
        self.table = table
        self.id = int(table.id)
        self.name = table.name
        self.component = table.kind == "component"
        self.keyed = table.kind == "keyed"
        # The schema describes itself in these; a game that could write them could make them lie.
        self.read_only = table.system and table.name.startswith("schema_")
        self.stored = tuple(FieldName(self, field.name, "stored", field) for field in table.fields)
        self.fields = {field.name: field for field in self.stored}
        for name, kind in table.virtual.items():
            self.fields[name] = FieldName(self, name, kind, None)
        self.required = tuple([field.name for field in table.fields if field.required])

    def __repr__(self) -> str:
        return f"<table {self.name}>"

    @property
    def key_space(self) -> str:
        """Tables of one key space can be joined on their keys."""
        return self.name if self.keyed else "entities"

    def field(self, name: str) -> FieldName:
        """Look a field up by its own name.

        Raises:
            UnknownNameError: with the name that was probably meant.
        """
        found = self.fields.get(name)
        if found is None:
            raise UnknownNameError(f"field of {self.name}", name, self.fields)
        return found

    def stored_field(self, name: str) -> FieldName:
        """Look up a field that can be written.

        Raises:
            UnknownNameError: no such field. ArgumentError: the field is virtual, so it follows from the key.
        """
        found = self.field(name)
        if found.kind != "stored":
            raise ArgumentError(f"{found.path} follows from the row's key and cannot be written")
        return found

    def demand_required(self, given: Collection[str]) -> None:
        """Check the names that a new row is given; the kernel fills in the defaults of the others.

        Raises:
            UnknownNameError, ArgumentError: a name that cannot be given.
            ConstraintError: a field without a default is not among them.
        """
        for name in given:
            self.stored_field(name)
        for name in self.required:
            if name not in given:
                raise ConstraintError(self.name, None, name, "required", "a value (it has no default)", "none")


class Names:
    """Tables by name, fields by path."""

    __slots__ = ("_paths", "by_id", "schema", "tables")

    def __init__(self, schema: Schema):
        self.schema = schema
        self.tables = {table.name: TableName(table) for table in schema.tables}
        self.by_id = {table.id: table for table in self.tables.values()}
        self._paths = {field.path: field for table in self.tables.values() for field in table.fields.values()}

    def table(self, name: object) -> TableName:
        """Look a table up.

        Raises:
            UnknownNameError: with the name that was probably meant. ArgumentError: not a string.
        """
        found = self.tables.get(name) if isinstance(name, str) else None
        if found is None:
            if isinstance(name, type):
                raise typed_not_built()
            if not isinstance(name, str):
                raise ArgumentError(f"expected the name of a table, found {_show(name)}")
            raise UnknownNameError("table", name, self.tables)
        return found

    def component(self, name: object) -> TableName:
        """Look up a table whose rows belong to entities.

        Raises:
            UnknownNameError, ArgumentError: as `table`, and for `entities` itself and tables with keys of their own.
        """
        table = self.table(name)
        if not table.component:
            instead = "insert(name, {...}) makes a row of it" if table.keyed else "spawn makes its rows"
            raise ArgumentError(f"{name} is not a component: {instead}")
        return table

    def path(self, path: str) -> FieldName:
        """Look a field up by its path, such as `health.hp`.

        Raises:
            UnknownNameError: with the path that was probably meant. ArgumentError: not a string.
        """
        found = self._paths.get(path) if isinstance(path, str) else None
        if found is not None:
            return found
        if not isinstance(path, str):
            raise ArgumentError(f"expected a path such as 'health.hp', found {_show(path)}")
        table, dot, field = path.partition(".")
        if not dot:
            raise UnknownNameError("field", path, self._paths)
        return self.table(table).field(field)


def typed_not_built() -> NotBuiltError:
    """What tables written as Python classes say for now."""
    return NotBuiltError("a schema of Python classes", "name tables and fields by strings, as in query('transform')")


def no_such_row(field: FieldName, value: object) -> NoRowError:
    """The error for a row that was looked for by the value of a field."""
    error = NoRowError(0, field.table.name)
    error.args = (f"no row of {field.table.name} has {field.name} == {value!r}",)
    return error


def as_keys(keys: object) -> NDArray[np.uint64]:
    """An array of keys, however it came.

    Raises:
        ArgumentError: not integers, negative, or not one-dimensional.
    """
    if isinstance(keys, np.ndarray) and keys.dtype == np.uint64 and keys.ndim == 1:
        return np.ascontiguousarray(keys)
    try:
        array = np.asarray(keys)
    except (ValueError, TypeError, OverflowError):
        raise ArgumentError(f"expected an array of u64 keys, found {_show(keys)}") from None
    if array.size == 0 and array.ndim <= 1:
        return np.empty(0, np.uint64)
    if array.dtype.kind not in "iu" or array.ndim != 1 or (array.dtype.kind == "i" and int(array.min()) < 0):
        raise ArgumentError(f"expected an array of u64 keys, found {_show(keys)}")
    return array.astype(np.uint64)


def as_key(key: object) -> int:
    """One key.

    Raises:
        ArgumentError: not an integer from 0 to 2**64 - 1.
    """
    if isinstance(key, int | np.integer) and not isinstance(key, bool) and 0 <= int(key) <= _KEY_MAX:
        return int(key)
    raise ArgumentError(f"expected a key (an integer of 64 bits), found {_show(key)}")


def _show(value: object) -> str:
    """A value as an error shows it: short, with its type."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}, shape {value.shape}"
    shown = repr(value)
    if len(shown) > 60:
        shown = shown[:57] + "..."
    return f"{shown} ({type(value).__name__})"
