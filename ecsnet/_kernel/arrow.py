"""numpy columns as an Arrow C stream, which pyarrow, polars, pandas and DuckDB read: one batch, without a dependency.

https://arrow.apache.org/docs/format/CDataInterface.html and CStreamInterface.html say what the structures mean.

    number           its own format, over the column's own memory
    bool             bits, packed (a copy)
    bytes[N]         (rows, N) u8 stays a list of N; numpy's "S" is fixed-size binary
    [T; N], nested   fixed-size lists
    strings, None    UTF-8 with offsets, and a validity bitmap where something is None (a copy)

Invariants:
- what a consumer was given keeps the columns alive until it calls `release`, on whatever thread and however late; until
  then it is found in `_alive` under the number in `private_data`;
- an array or schema that was released has a null `release`, and is released once;
- callbacks raise nothing: the consumer is C.
"""

import ctypes
from collections.abc import Mapping
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_int, c_int64, c_void_p, cast, py_object
from itertools import count
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import ArgumentError

__all__ = ["stream"]

_FORMATS: Final = {
    "u1": b"C",
    "u2": b"S",
    "u4": b"I",
    "u8": b"L",
    "i1": b"c",
    "i2": b"s",
    "i4": b"i",
    "i8": b"l",
    "f4": b"f",
    "f8": b"g",
}
_NULLABLE: Final = 2
_STREAM_NAME: Final = b"arrow_array_stream"
_EINVAL: Final = 22


class _Schema(Structure):
    __slots__ = ()


class _Array(Structure):
    __slots__ = ()


class _Stream(Structure):
    __slots__ = ()


_SchemaRelease = CFUNCTYPE(None, POINTER(_Schema))
_ArrayRelease = CFUNCTYPE(None, POINTER(_Array))
_StreamRelease = CFUNCTYPE(None, POINTER(_Stream))
_GetSchema = CFUNCTYPE(c_int, POINTER(_Stream), POINTER(_Schema))
_GetNext = CFUNCTYPE(c_int, POINTER(_Stream), POINTER(_Array))
_GetError = CFUNCTYPE(c_void_p, POINTER(_Stream))

_Schema._fields_ = (
    ("format", c_char_p),
    ("name", c_char_p),
    ("metadata", c_char_p),
    ("flags", c_int64),
    ("n_children", c_int64),
    ("children", POINTER(POINTER(_Schema))),
    ("dictionary", POINTER(_Schema)),
    ("release", _SchemaRelease),
    ("private_data", c_void_p),
)
_Array._fields_ = (
    ("length", c_int64),
    ("null_count", c_int64),
    ("offset", c_int64),
    ("n_buffers", c_int64),
    ("n_children", c_int64),
    ("buffers", POINTER(c_void_p)),
    ("children", POINTER(POINTER(_Array))),
    ("dictionary", POINTER(_Array)),
    ("release", _ArrayRelease),
    ("private_data", c_void_p),
)
_Stream._fields_ = (
    ("get_schema", _GetSchema),
    ("get_next", _GetNext),
    ("get_last_error", _GetError),
    ("release", _StreamRelease),
    ("private_data", c_void_p),
)

# What consumers hold, by the number in `private_data`: whatever must live until they release it.
_alive: dict[int, Any] = {}
_numbers = count(1)


class _Column:
    """One column, or one level of a nested one: its format, buffers and children."""

    __slots__ = ("buffers", "children", "format", "keep", "length", "name", "nulls")

    def __init__(self, name: str, cells: NDArray[Any]):
        self.name = name.encode()
        self.length = len(cells)
        self.nulls = 0
        self.children: list[_Column] = []
        # Null, or the address of a bitmap of what is not None; then the cells.
        self.buffers: list[int | None] = [None]
        self.keep: list[NDArray[Any]] = []
        if cells.ndim > 1:
            self.format = b"+w:%d" % cells.shape[1]
            inner = np.ascontiguousarray(cells).reshape(len(cells) * cells.shape[1], *cells.shape[2:])
            self.children.append(_Column("item", inner))
            return
        kind = cells.dtype.kind
        if kind == "b":
            self.format = b"b"
            self._buffer(np.packbits(cells, bitorder="little"))
        elif kind == "S":
            self.format = b"w:%d" % cells.dtype.itemsize
            self._buffer(np.ascontiguousarray(cells))
        elif kind == "O":
            self._objects(cells)
        elif cells.dtype.str[1:] in _FORMATS:
            self.format = _FORMATS[cells.dtype.str[1:]]
            self._buffer(np.ascontiguousarray(cells))
        else:
            raise ArgumentError(f"column {name!r} of {cells.dtype} has no Arrow type")

    def _buffer(self, cells: NDArray[Any]) -> None:
        self.keep.append(cells)
        self.buffers.append(cells.ctypes.data)

    def _objects(self, cells: NDArray[Any]) -> None:
        given = np.array([cell is not None for cell in cells.tolist()], np.bool_)
        self.nulls = len(given) - int(np.count_nonzero(given))
        if self.nulls:
            bitmap = np.packbits(given, bitorder="little")
            self.keep.append(bitmap)
            self.buffers[0] = bitmap.ctypes.data
        values = cells[given].tolist()
        if values and all(isinstance(value, int | float) for value in values):
            # What an aggregate over nothing leaves beside numbers.
            numbers = np.zeros(len(cells), np.array(values).dtype)
            numbers[given] = values
            self.format = _FORMATS[numbers.dtype.str[1:]]
            self._buffer(numbers)
            return
        texts = [b"" if cell is None else str(cell).encode() for cell in cells.tolist()]
        offsets = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(text) for text in texts], out=offsets[1:])
        self.format = b"U"
        self._buffer(offsets)
        self._buffer(np.frombuffer(b"".join(texts) or b"\0", np.uint8))

    def fill_schema(self, out: _Schema) -> None:
        """Describe the column; what was made for it lives until it is released."""
        children = [_Schema() for _ in self.children]
        for schema, column in zip(children, self.children, strict=True):
            column.fill_schema(schema)
        pointers = (POINTER(_Schema) * max(1, len(children)))(*[ctypes.pointer(child) for child in children])
        out.format, out.name, out.metadata = self.format, self.name, None
        out.flags = _NULLABLE
        out.n_children, out.children = len(children), pointers if children else None
        out.dictionary = None
        out.private_data = _hold((self, children, pointers))
        out.release = _release_schema

    def fill_array(self, out: _Array) -> None:
        """Hand out the cells; the same."""
        children = [_Array() for _ in self.children]
        for array, column in zip(children, self.children, strict=True):
            column.fill_array(array)
        pointers = (POINTER(_Array) * max(1, len(children)))(*[ctypes.pointer(child) for child in children])
        buffers = (c_void_p * len(self.buffers))(*self.buffers)
        out.length, out.null_count, out.offset = self.length, self.nulls, 0
        out.n_buffers, out.buffers = len(self.buffers), buffers
        out.n_children, out.children = len(children), pointers if children else None
        out.dictionary = None
        out.private_data = _hold((self, children, pointers, buffers))
        out.release = _release_array


class _Struct(_Column):
    """The batch itself: a struct of all columns."""

    __slots__ = ()

    def __init__(self, columns: Mapping[str, NDArray[Any]]):
        self.name = b""
        self.format = b"+s"
        self.length = next((len(cells) for cells in columns.values()), 0)
        self.nulls = 0
        self.buffers = [None]
        self.keep = []
        self.children = [_Column(name, cells) for name, cells in columns.items()]


class _State:
    """One stream: what it gives, and whether it has."""

    __slots__ = ("batch", "given")

    def __init__(self, batch: _Struct):
        self.batch = batch
        self.given = False


def _hold(what: Any) -> int:
    number = next(_numbers)
    _alive[number] = what
    return number


def _schema_released(schema: Any) -> None:
    for place in range(schema.contents.n_children):
        child = schema.contents.children[place]
        if child.contents.release:
            child.contents.release(child)
    _let_go(schema, _SchemaRelease)


def _array_released(array: Any) -> None:
    for place in range(array.contents.n_children):
        child = array.contents.children[place]
        if child.contents.release:
            child.contents.release(child)
    _let_go(array, _ArrayRelease)


def _stream_released(stream: Any) -> None:
    _let_go(stream, _StreamRelease)


def _let_go(pointer: Any, release: Any) -> None:
    # First what the structure says, then the memory: some of it may be the structure's own.
    number = pointer.contents.private_data
    pointer.contents.private_data = None
    pointer.contents.release = release()
    _alive.pop(number, None)


def _give_schema(stream: Any, out: Any) -> int:
    state = _alive.get(stream.contents.private_data)
    if state is None:
        return _EINVAL
    state.batch.fill_schema(out.contents)
    return 0


def _give_next(stream: Any, out: Any) -> int:
    state = _alive.get(stream.contents.private_data)
    if state is None:
        return _EINVAL
    if state.given:
        out.contents.release = _ArrayRelease()
        return 0
    state.given = True
    state.batch.fill_array(out.contents)
    return 0


def _give_error(stream: Any) -> None:
    return None


# Kept here for ever: a consumer may call them as long as the process lives.
_release_schema, _release_array = _SchemaRelease(_schema_released), _ArrayRelease(_array_released)
_release_stream = _StreamRelease(_stream_released)
_get_schema, _get_next, _get_error = _GetSchema(_give_schema), _GetNext(_give_next), _GetError(_give_error)

_api = ctypes.pythonapi
_Destructor = CFUNCTYPE(None, c_void_p)
_new_capsule = _api.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = py_object, (c_void_p, c_char_p, _Destructor)
_capsule_pointer = _api.PyCapsule_GetPointer
_capsule_pointer.restype, _capsule_pointer.argtypes = c_void_p, (c_void_p, c_char_p)

# The streams in capsules, by address: a consumer moves the contents out, the memory stays the capsule's.
_in_capsules: dict[int, _Stream] = {}


def _capsule_dropped(capsule: int) -> None:
    address = _capsule_pointer(capsule, _STREAM_NAME)
    given = _in_capsules.pop(address, None)
    if given is not None and given.release:
        # Nobody took it.
        given.release(byref(given))


_drop_capsule = _Destructor(_capsule_dropped)


def stream(columns: Mapping[str, NDArray[Any]]) -> object:
    """A capsule named "arrow_array_stream" with one batch of these columns, which must be of one length and not change
    while somebody has them.

    Raises:
        ArgumentError: a dtype that Arrow has no type for.
    """
    made = _Stream()
    made.get_schema, made.get_next, made.get_last_error = _get_schema, _get_next, _get_error
    made.private_data = _hold(_State(_Struct(columns)))
    made.release = _release_stream
    address = ctypes.addressof(made)
    _in_capsules[address] = made
    return _new_capsule(cast(address, c_void_p), _STREAM_NAME, _drop_capsule)
