"""Strings between Python and the kernel's heap.

A cell of a string is a reference; equal references are equal texts. So whatever is asked of a column is asked of its
distinct references, and a text is decoded once however many rows say it.

Invariant: references are used while what holds them is held: the array of a pinned version, or an open transaction.
"""

import ctypes
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import InternalError

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore

__all__ = ["TextCells", "Texts", "intern", "objects", "text_at", "unpack"]

Question = Literal["in", "<", "<=", "startswith"]

# `Test` of `abi_text.zig`.
_QUESTIONS: Final[dict[Question, int]] = {"in": 0, "<": 1, "<=": 2, "startswith": 3}

# Room to begin with, for each text that is decoded: most are shorter; where they are not, the kernel is asked twice.
_ROOM_BYTES: Final = 32


class Texts:
    """A column of strings: the references of its cells, u64, and what they stand for."""

    __slots__ = ("_store", "references")

    def __init__(self, store: "KernelStore", references: NDArray[np.uint64]):
        self._store = store
        self.references = np.ascontiguousarray(references)

    def __len__(self) -> int:
        return len(self.references)

    def take(self, rows: slice | NDArray[np.intp]) -> "Texts":
        """The strings of these rows."""
        return Texts(self._store, self.references[rows])

    def decode(self) -> NDArray[np.object_]:
        """The texts: Python strings, shape `(rows,)`, equal ones the same object. The array is the caller's own."""
        if len(self.references) == 1:
            return objects([self._store.text(int(self.references[0]))])
        codes, texts = self.codes()
        return objects(texts).take(codes)

    def codes(self) -> tuple[NDArray[np.uint32], list[str]]:
        """A number for each cell, equal for equal texts, and the texts by that number, in the order of first rows."""
        n = len(self.references)
        codes, distinct = np.empty(n, np.uint32), np.empty(n, np.uint64)
        count = self._store._library.ecs_text_distinct(
            n, self.references.ctypes.data, codes.ctypes.data, distinct.ctypes.data
        )
        self._store._check(count)
        return codes, _gather(self._store, distinct[:count])

    def hashes(self) -> NDArray[np.uint64]:
        """A hash for each cell, equal for equal texts of this store."""
        n = len(self.references)
        hashes = np.empty(n, np.uint64)
        store = self._store
        status = store._library.ecs_text_hash(store._pointer, n, self.references.ctypes.data, hashes.ctypes.data)
        store._check(status)
        return hashes

    def hashes_of(self, texts: Sequence[str]) -> NDArray[np.uint64]:
        """What `hashes` gives for cells of these texts."""
        raw, ends = _pack(texts)
        hashes = np.empty(len(ends), np.uint64)
        store = self._store
        store._check(store._fast.ecs_text_hash_of(store._pointer, len(ends), ends.ctypes.data, raw, hashes.ctypes.data))
        return hashes

    def ask(self, question: Question, texts: Sequence[str]) -> NDArray[np.bool_]:
        """A bool for each cell: whether it is one of `texts` ("in"), less or at most the first, or starts with one of
        them. Order is by code point, as Python's."""
        answers = np.empty(len(self.references), np.bool_)
        raw, ends = _pack(texts)
        status = self._store._library.ecs_text_test(
            self._store._pointer,
            len(self.references),
            self.references.ctypes.data,
            _QUESTIONS[question],
            len(texts),
            ends.ctypes.data,
            raw,
            answers.ctypes.data,
        )
        self._store._check(status)
        return answers


class TextCells:
    """The texts of a pinned column by row, for those who read cell by cell: a text is decoded once."""

    __slots__ = ("_known", "_references", "_text")

    def __init__(self, references: NDArray[np.uint64], text: Callable[[int], str]):
        # It holds the array, and so the pin.
        self._references = memoryview(references.data)
        self._text = text
        self._known: dict[int, str] = {}

    def __getitem__(self, row: int) -> str:
        reference = self._references[row]
        text = self._known.get(reference)
        if text is None:
            text = self._known[reference] = self._text(reference)
        return text


def text_at(library: ctypes.PyDLL, pointer: ctypes.c_void_p, reference: int) -> str:
    """What one reference of the store at `pointer` stands for."""
    if reference == 0:
        return ""
    address, length = ctypes.c_uint64(), ctypes.c_uint64()
    status = library.ecs_text_at(pointer, reference, address, length)
    if status < 0:
        raise InternalError(f"{reference:#x} is the reference of no text")
    return ctypes.string_at(address.value, length.value).decode()


def intern(store: "KernelStore", cells: NDArray[Any]) -> NDArray[np.uint64]:
    """The references of an array of strings, in its shape. They are good until the open transaction ends.

    Raises:
        LimitExceededError: the heap is full. Nothing has changed that could be seen.
    """
    raw, ends = _pack(cells.ravel().tolist())
    references = np.empty(cells.shape, np.uint64)
    store._check(
        store._library.ecs_text_intern(store._pointer, len(ends), ends.ctypes.data, raw, references.ctypes.data)
    )
    return references


def _gather(store: "KernelStore", references: NDArray[np.uint64]) -> list[str]:
    n = len(references)
    ends = np.empty(n, np.uint64)
    buffer = np.empty(n * _ROOM_BYTES, np.uint8)
    while True:
        total = store._library.ecs_text_gather(
            store._pointer, n, references.ctypes.data, ends.ctypes.data, buffer.ctypes.data, len(buffer)
        )
        store._check(total)
        if total <= len(buffer):
            break
        buffer = np.empty(total, np.uint8)
    return unpack(buffer[:total].tobytes(), ends)


def unpack(raw: bytes, ends: NDArray[np.uint64]) -> list[str]:
    """The texts of one run of UTF-8, of which it is said where each ends."""
    text = raw.decode()
    stops = [0, *ends.tolist()]
    if len(text) == len(raw):
        # ASCII: places in the bytes are places in the text.
        return [text[start:stop] for start, stop in pairwise(stops)]
    return [raw[start:stop].decode() for start, stop in pairwise(stops)]


def objects(texts: list[str]) -> NDArray[np.object_]:
    """An array of these very strings."""
    array = np.empty(len(texts), np.object_)
    array[:] = texts
    return array


def _pack(texts: Sequence[str]) -> tuple[bytes, NDArray[np.uint64]]:
    """Texts as one run of UTF-8, and where each ends."""
    joined = "".join(texts)
    raw = joined.encode()
    lengths = map(len, texts) if len(raw) == len(joined) else (len(text.encode()) for text in texts)
    return raw, np.cumsum(np.fromiter(lengths, np.uint64, len(texts)), dtype=np.uint64)
