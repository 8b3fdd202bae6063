"""Transactions written down as bytes: operations as the kernel's queue takes them, one by one and from arrays.

Invariant: what is made here is a copy, in the layout of `kernel/zig/operations.zig`; the arrays may change afterwards.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ecsnet._kernel.shape import ADD, DELETE, HEADER_BYTES
from ecsnet.errors import ArgumentError, EcsnetError
from ecsnet.store.fields import FieldName, show
from ecsnet.store.names import TableName
from ecsnet.store.shapes import PACKING_ERRORS, InsertRecipe, UpdateRecipe, changeable

if TYPE_CHECKING:
    from ecsnet._kernel.shape import Shape

__all__ = ["additions", "bulk", "deletions", "interleaved", "packed", "records"]

_HEAD_AND_KEY: Final = [("head", "V8"), ("key", "<u8")]


def packed(
    recipe: InsertRecipe | UpdateRecipe, shape: "Shape", head: bytes, key: int, given: Mapping[str, Any]
) -> bytearray:
    """One operation."""
    packed = bytearray(shape.bytes)
    try:
        shape.pack(packed, 0, head, key, shape.ids, *recipe.values(given.values()))
    except EcsnetError:
        raise
    except PACKING_ERRORS as error:
        raise recipe.explain(given.values(), error) from error
    return packed


def bulk(recipe: InsertRecipe | UpdateRecipe, columns: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """The columns in the order of the recipe's fields, as operations carry them."""
    return [
        _packed_strings(field, columns[field.name]) if field.string else columns[field.name] for field in recipe.fields
    ]


def _packed_strings(field: FieldName, column: NDArray[Any]) -> NDArray[Any]:
    """Strings with their lengths, filled up to what the field may hold."""
    assert field.field is not None
    utf8 = [text.encode() for text in column]
    packed = np.zeros(len(utf8), np.dtype([("length", "<u4"), ("utf8", f"S{field.field.count}")]))
    packed["length"] = [len(text) for text in utf8]
    packed["utf8"] = utf8
    return packed


def records(
    shape: "Shape", head: bytes, keys: NDArray[np.uint64] | None, columns: Sequence[NDArray[Any]], count: int
) -> NDArray[np.void]:
    """One operation for each row, as a structured array that lies in memory as the kernel reads it."""
    names = [f"cell{place}" for place in range(len(columns))]
    layout: list[Any] = [("head", "V8"), ("key", "<u8"), ("ids", f"V{len(shape.ids)}")]
    layout += [(name, column.dtype, column.shape[1:]) for name, column in zip(names, columns, strict=True)]
    records = np.empty(count, np.dtype(layout))
    assert records.dtype.itemsize == shape.bytes, "an operation lies in memory as it is packed"
    records["head"], records["ids"] = np.void(head), np.void(shape.ids)
    records["key"] = 0 if keys is None else keys
    for name, column in zip(names, columns, strict=True):
        records[name] = column
    return records


def interleaved(records: Sequence[NDArray[np.void]], count: int) -> bytes:
    """Row by row, the operations of each."""
    if len(records) == 1:
        return records[0].tobytes()
    widths = [part.dtype.itemsize for part in records]
    whole = np.empty((count, sum(widths)), np.uint8)
    at = 0
    for part, width in zip(records, widths, strict=True):
        whole[:, at : at + width] = part.view(np.uint8).reshape(count, width)
        at += width
    return whole.tobytes()


def additions(table: TableName, keys: NDArray[np.uint64], amounts: Mapping[str, Any]) -> NDArray[np.void]:
    """An operation for each key that adds to fields of its row.

    Raises:
        ArgumentError: no amount, a field that is no single number, an amount that is none or not finite.
        UnknownNameError.
    """
    flat = changeable(table).flat(amounts)
    if not flat:
        raise ArgumentError(f"add to {table.name} names no field")
    fields = [table.stored_field(name) for name in flat]
    layout: list[Any] = [*_HEAD_AND_KEY, ("ids", f"V{2 + 2 * len(fields)}")]
    layout += [(f"amount{place}", "<f8" if _floats(field) else "<i8") for place, field in enumerate(fields)]
    operations = np.empty(len(keys), np.dtype(layout))
    ids = np.array([len(fields), *(field.id for field in fields)], "<u2")
    operations["head"] = _head(ADD, table, operations.dtype.itemsize)
    operations["key"], operations["ids"] = keys, np.void(ids.tobytes())
    for place, (field, amount) in enumerate(zip(fields, flat.values(), strict=True)):
        operations[f"amount{place}"] = _amounts(field, amount)
    return operations


def deletions(table: TableName, keys: NDArray[np.uint64]) -> NDArray[np.void]:
    """An operation for each key that removes its row."""
    operations = np.empty(len(keys), np.dtype(_HEAD_AND_KEY))
    operations["head"], operations["key"] = _head(DELETE, table, HEADER_BYTES), keys
    return operations


def _head(kind: int, table: TableName, length: int) -> np.void:
    return np.void(kind.to_bytes(2, "little") + table.id.to_bytes(2, "little") + length.to_bytes(4, "little"))


def _floats(field: FieldName) -> bool:
    """Whether amounts of it are floats. Raises ArgumentError: it is not one number that may be added to."""
    known = field.field
    if known is None or field.shape or field.dtype.kind not in "iuf" or known.enum is not None or field.string:
        raise ArgumentError(f"{field.path} is not a number that can be added to; it is {field.expected}")
    return bool(field.dtype.kind == "f")


def _amounts(field: FieldName, given: Any) -> NDArray[Any]:
    amounts = np.asarray(given)
    floats = field.dtype.kind == "f"
    if amounts.ndim > 1 or amounts.dtype.kind not in ("iuf" if floats else "iu"):
        raise ArgumentError(f"{field.path}: expected {'numbers' if floats else 'integers'} to add, found {show(given)}")
    if floats and not np.isfinite(amounts).all():
        raise ArgumentError(f"{field.path}: what is added must be finite, found {show(given)}")
    if not floats and amounts.dtype == np.uint64 and amounts.size and amounts.max() > np.iinfo(np.int64).max:
        raise ArgumentError(f"{field.path}: amounts are at most {np.iinfo(np.int64).max}, found {amounts.max()}")
    return amounts
