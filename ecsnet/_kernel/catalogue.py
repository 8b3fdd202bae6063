"""A schema as the kernel's catalogue: the description that `ecs_store_create` copies."""

import ctypes
import struct
from typing import Any

from ecsnet._kernel import abi
from ecsnet.schema.model import MISSING, VIRTUAL_KEY_ID, Field, Schema, Table


def describe(schema: Schema, entities_max: int) -> tuple[abi.CatalogueIn, list[Any]]:
    """The catalogue of a schema, and what must be kept alive until the kernel has copied it.

    Raises:
        NotBuiltError: the schema uses what this kernel cannot hold yet.
    """
    keep: list[Any] = []
    tables = (abi.TableIn * len(schema.tables))()
    groups = sorted({table.group for table in schema.tables if table.group is not None})
    for into, table in zip(tables, schema.tables, strict=True):
        fields = (abi.FieldIn * max(1, len(table.fields)))()
        keep.append(fields)
        for to, field in zip(fields, table.fields, strict=False):
            _field(to, field, schema, keep)
        into.id = table.id
        into.kind = abi.KINDS.index(table.kind)
        into.replicated = table.replicated
        into.field_count = len(table.fields)
        into.rows_max = table.rows_max
        # Numbered from 1; 0 is none.
        into.group = 0 if table.group is None else 1 + groups.index(table.group)
        into.conflict = abi.CONFLICTS.index(table.conflict)
        into.fields = ctypes.addressof(fields)
        _uniques(into, table, keep)
    keep.append(tables)
    catalogue = abi.CatalogueIn(ctypes.addressof(tables), len(schema.tables), entities_max)
    return catalogue, keep


def _uniques(into: abi.TableIn, table: Table, keep: list[Any]) -> None:
    uniques = (abi.UniqueIn * max(1, len(table.uniques)))()
    keep.append(uniques)
    for unique, names in zip(uniques, table.uniques, strict=False):
        ids = (ctypes.c_uint16 * len(names))(*sorted(table.field(name).id for name in names))
        keep.append(ids)
        unique.field_count = len(names)
        unique.fields = ctypes.addressof(ids)
    into.unique_count = len(table.uniques)
    into.uniques = ctypes.addressof(uniques)


def _field(to: abi.FieldIn, field: Field, schema: Schema, keep: list[Any]) -> None:
    flags = 0
    to.id = field.id
    to.type = abi.TYPES.index(field.type)
    to.count = field.count
    if field.foreign_key is not None:
        flags |= abi.FOREIGN_KEY
        to.on_delete = abi.ON_DELETE.index(field.foreign_key.on_delete)
        target = schema.table(field.foreign_key.table)
        to.target_table = target.id
        to.target_field = VIRTUAL_KEY_ID if target.virtual else target.field(field.foreign_key.field).id
    flags |= abi.UNIQUE * field.unique | abi.OPTIONAL * field.optional | abi.AUTO * field.auto_increment
    flags |= abi.ROTATION * field.rotation
    to.quantize = field.quantize
    if field.minimum is not None:
        flags |= abi.MINIMUM
        to.minimum = _bits(field, field.minimum)
    if field.maximum is not None:
        flags |= abi.MAXIMUM
        to.maximum = _bits(field, field.maximum)
    if field.enum is not None:
        values = (ctypes.c_int64 * len(field.enum))(*sorted(field.enum.values()))
        keep.append(values)
        to.enum_values = ctypes.addressof(values)
        to.enum_count = len(field.enum)
    if field.default is not MISSING:
        cell = pack_cell(field, field.default)
        memory = ctypes.create_string_buffer(cell, len(cell))
        keep.append(memory)
        flags |= abi.DEFAULT
        to.default = ctypes.addressof(memory)
    to.flags = flags


def _bits(field: Field, bound: float) -> int:
    """A bound as the bits of an f64, i64 or u64, by the class of the field's type."""
    code = "d" if field.type in ("f32", "f64") else "q" if field.type.startswith("i") else "Q"
    bits: int = struct.unpack("<Q", struct.pack(f"<{code}", bound))[0]
    return bits


def pack_cell(field: Field, value: Any) -> bytes:
    """One cell as the kernel takes it: of a string its length and its UTF-8."""
    import numpy as np

    if field.type == "bytes":
        return bytes(value).ljust(field.count, b"\0")
    if field.type == "string":
        assert isinstance(value, str)
        raw = value.encode()
        return struct.pack("<I", len(raw)) + raw
    return np.array(value, field.dtype).tobytes()
