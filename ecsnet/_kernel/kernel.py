"""A store in the kernel, as the rest of ecsnet uses it: numbers and numpy arrays in, typed errors out.

Names of tables and fields stay above; here everything goes by table id and field id. Schema knowledge is used only to
describe the catalogue and to say in an error which table and field it was.

Invariants:
- a call that raises has changed nothing;
- an array handed out by a `Pin` is read-only and keeps its version alive; an array handed out by `lend` is private to
  the open transaction, and becomes its holder's own memory if it is kept beyond;
- the store's memory is freed when the last of handle, pins and arrays is gone.
"""

import ctypes
import os
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from ecsnet._kernel import abi, library
from ecsnet._kernel.catalogue import describe
from ecsnet._kernel.failures import Failures
from ecsnet._kernel.memory import array, owner
from ecsnet._kernel.pin import Handle, Pin
from ecsnet._kernel.pressure import Pressure, PressureWatch
from ecsnet._kernel.records import Delta, HistoryGone, JoinRows, Statistics, TableInfo, TakenDelta
from ecsnet._kernel.shape import DELETE, HEADER_BYTES, Shape
from ecsnet._kernel.texts import Texts, intern, text_at
from ecsnet.errors import (
    ArgumentError,
    ClosedError,
    EcsnetError,
    InternalError,
    LimitExceededError,
    RemoteProtocolError,
    StaleEntityError,
    StorageError,
)
from ecsnet.schema.model import Field, Schema, Table

__all__ = ["Delta", "HistoryGone", "JoinRows", "KernelStore", "Pin", "Shape", "Statistics", "TableInfo", "TakenDelta"]

_SCALARS: Final[dict[str, Any]] = {
    "u8": ctypes.c_uint8,
    "u16": ctypes.c_uint16,
    "u32": ctypes.c_uint32,
    "u64": ctypes.c_uint64,
    "i8": ctypes.c_int8,
    "i16": ctypes.c_int16,
    "i32": ctypes.c_int32,
    "i64": ctypes.c_int64,
    "f32": ctypes.c_float,
    "f64": ctypes.c_double,
    "bool": ctypes.c_bool,
}
_APPLY_TRIES: Final = 100
_APPLY_WAIT_S: Final = 0.001
"""How often, and how long in between, changes that came are tried to be applied while somebody writes."""

_BRIEF_BYTES: Final = 16 << 10
"""Deltas up to this size are taken in with the GIL kept: they take less time than others would wait for anyway."""

# Of `Taken`: what goes in, and what comes out behind it.
_TAKE_IN: Final = struct.Struct("<QQII")
_TAKE_OUT: Final = struct.Struct("<QQQQIIQ")


# Past the constructor of named tuples, which is Python.
_taken_delta = cast("Callable[[tuple[int, ...]], TakenDelta]", partial(tuple.__new__, TakenDelta))


class _TakenMemory(threading.local):
    """One for each thread, since replicas on two threads may take in at the same time."""

    def __init__(self) -> None:
        self.memory = ctypes.create_string_buffer(ctypes.sizeof(abi.Taken))


_taken = _TakenMemory()

ENTITIES_MAX: Final = 1 << 22
"""Entities of a store unless it is made for more: 4 million, of the 16 that the kernel allows."""


class KernelStore:
    """One store. Writing calls need the baton; `acquire` and everything on a `Pin` may be called from any thread."""

    def __init__(self, schema: Schema, *, entities_max: int = ENTITIES_MAX, guarded: bool | None = None) -> None:
        """Make an empty store, of which nothing is published yet.

        Args:
            guarded: keep published cells in pages that nobody can write to, and compare each buffer with the head when
                it was caught up (`kernel/zig/guard.zig`): a wild write or a lost change stops the process where it
                happens. By default as the environment says: `ECSNET_DEBUG_VIEWS=1`.
        """
        self.schema = schema
        self._library = library.load()
        self._fast = library.load_fast()
        self._tables: dict[int, Table] = {table.id: table for table in schema.tables}
        self._fields: dict[int, dict[int, tuple[int, Field]]] = {
            table.id: {field.id: (position, field) for position, field in enumerate(table.fields)}
            for table in schema.tables
        }
        pointer = ctypes.c_void_p()
        catalogue, keep = describe(schema, entities_max)
        status = self._library.ecs_store_create(catalogue, pointer)
        del keep
        if status != 0:
            raise self._create_error(status)
        self._handle = Handle(pointer, self._library)
        self._pointer = pointer
        info: abi.Info = self._library.ecs_store_failure(pointer).contents
        # Bound to the library, not to `self`: a store in a cycle would be freed late.
        self.text: Callable[[int], str] = partial(text_at, self._fast, pointer)
        self._failures = Failures(schema, info, entities_max, self.text)
        length = ctypes.c_uint64()
        address = self._library.ecs_tx_operations(pointer, length)
        self._buffer = (ctypes.c_char * length.value).from_address(address)
        self._buffer_bytes = length.value
        # The hot calls, without declared types: converting three arguments costs three times the call. What they
        # take is made once (the pointer, references to results) or is an int below 2**31.
        hot = ctypes.PyDLL(self._library._name, handle=self._library._handle)
        self._apply_now, self._begin_now, self._lend_now = hot.ecs_tx_apply, hot.ecs_tx_begin, hot.ecs_tx_lend
        self._column_now, self._table_now = hot.ecs_tx_column, hot.ecs_tx_table
        self._row_now, self._cell_now = hot.ecs_tx_row, hot.ecs_tx_cell
        self.run_prepared = hot.ecs_prepared_run
        """For `Prepared`: takes a reference to its description."""
        self._row_now.restype = ctypes.c_int64
        long = ctypes.CDLL(self._library._name, handle=self._library._handle)
        self._commit_now, self._publish_now = long.ecs_tx_commit, long.ecs_publish
        self._take_now, self._take_long = hot.ecs_take_delta, long.ecs_take_delta
        # A key is above 2**31 and goes by value in an object of its own.
        self._key_in = ctypes.c_uint64()
        self._key = ctypes.c_uint64()
        self._key_ref = ctypes.byref(self._key)
        self._lent_out = abi.LentOut()
        self._lent_ref = ctypes.byref(self._lent_out)
        self._table_out = abi.TableOut()
        self._table_ref = ctypes.byref(self._table_out)
        self._tick, self._version, self._published = ctypes.c_uint64(), ctypes.c_uint64(), ctypes.c_uint64()
        self._version_ref, self._published_ref = ctypes.byref(self._version), ctypes.byref(self._published)
        self._shapes: dict[tuple[int, tuple[int, ...]], Shape] = {}
        self._lent: dict[tuple[int, int], NDArray[Any]] = {}
        self._spare: dict[tuple[int, int], tuple[int, int, NDArray[Any]]] = {}
        self._encoder: ctypes.c_void_p | None = None
        self._entity_shape = self.shape(0, (schema.tables[0].fields[0].id,))
        self._closed = False
        self.kept: list[str] = []
        """Columns whose lent arrays somebody still holds, of the transaction that ended last. Whoever ended it says so,
        once nothing can be left half done by a warning that is made an error."""
        self.head_version = 0
        self.published_version = 0
        self.on_version: Callable[[KernelStore], None] | None = None
        """Called when a version was made, by whoever made it: whoever follows the changes takes them then."""
        self._pressure: PressureWatch | None = None
        if os.environ.get("ECSNET_DEBUG_VIEWS", "0") not in ("", "0") if guarded is None else guarded:
            self.take_baton()
            try:
                self._check(self._library.ecs_view_guard(self._pointer))
            finally:
                self.release_baton()

    def _create_error(self, status: int) -> EcsnetError:
        if status == abi.STATUS["OutOfMemory"]:
            return StorageError("out of memory while making a store")
        return InternalError(f"the kernel refused the catalogue of schema {self.schema.name!r} (status {status})")

    def close(self) -> None:
        """No further writing. Memory stays for as long as pins and arrays need it. Again is harmless."""
        self._closed = True
        if self._encoder is not None:
            self._library.ecs_encoder_destroy(self._encoder)
            self._encoder = None
        self._lent.clear()
        self._spare.clear()

    @property
    def gone(self) -> bool:
        """Whether the memory was freed: only a finaliser in the same garbage cycle can still ask."""
        return self._pointer.value is None

    # --- errors -------------------------------------------------------------------------------------------------------

    def _check(self, status: int) -> None:
        if status < 0:
            raise self._failures.error(status)

    def failed(self, status: int) -> EcsnetError:
        """What a status below zero means, of the call that returned it last."""
        return self._failures.error(status)

    @property
    def failed_at(self) -> int:
        """Which record of several was refused."""
        return int(self._failures.info.offset)

    @property
    def address(self) -> int:
        """Where the store is, for descriptions that name it."""
        assert self._pointer.value is not None
        return self._pointer.value

    def schema_fields(self, table_id: int, field_ids: tuple[int, ...]) -> tuple[Field, ...]:
        """Fields by their ids."""
        return tuple([self._fields[table_id][field_id][1] for field_id in field_ids])

    # --- the baton and transactions -----------------------------------------------------------------------------------

    def take_baton(self) -> None:
        """Become the writer. Raises BusyError: somebody else is."""
        if self._closed:
            raise ClosedError("this store was closed")
        self._check(self._fast.ecs_baton_take(self._pointer))

    def release_baton(self) -> bool:
        """Give the role back. Returns whether transactions wait in the queue, which somebody should see to."""
        waits: int = self._fast.ecs_baton_give(self._pointer)
        return waits == 1

    def begin(self) -> None:
        """Begin a transaction."""
        status = self._begin_now(self._pointer)
        if status < 0:
            raise self._failures.error(status)
        if self.kept:
            self.kept = []

    def commit(self) -> None:
        """Check the transaction as a whole, apply what was lent, keep it.

        Raises:
            ConstraintError: refused; it is still open, and `rollback` undoes it.
        """
        status = self._commit_now(self._pointer)
        if status < 0:
            raise self._failures.error(status)
        if self._lent:
            self._take_back()

    def rollback(self) -> None:
        """Undo everything since `begin`."""
        self._check(self._library.ecs_tx_rollback(self._pointer))
        self._take_back()

    def mark(self) -> int:
        """A point in the transaction to go back to."""
        mark: int = self._fast.ecs_tx_mark(self._pointer)
        return mark

    def rollback_to(self, mark: int) -> None:
        """Undo what was done since `mark` was taken. Columns must not be lent."""
        self._check(self._library.ecs_tx_undo_to(self._pointer, mark))

    def discard_lent(self) -> None:
        """Take back what was lent as if nobody had written to it. Arrays that somebody still holds become theirs."""
        if self._lent:
            self._check(self._fast.ecs_tx_discard(self._pointer))
            self._take_back()
            # Nothing of them counts, so there is nothing to warn of.
            self.kept.clear()

    def changed_since(self, table_id: int, key: int, version: int) -> bool | None:
        """Whether a row is another than in a version, this transaction's own writes included; None where that cannot be
        told any more. A row that neither has is no other; True may be wrong where the version is no longer in memory.
        """
        if not (0 <= key < 1 << 64 and 0 <= version <= self.head_version):
            raise ArgumentError(f"expected a key and a version up to {self.head_version}, found {key} and {version}")
        changed: int = self._fast.ecs_tx_changed_since(self._pointer, table_id, key, version)
        if changed == abi.STATUS["HistoryGone"]:
            return None
        self._check(changed)
        return bool(changed)

    # --- point writes -------------------------------------------------------------------------------------------------

    def shape(self, table_id: int, field_ids: tuple[int, ...]) -> Shape:
        """The packing recipe for these fields, made once."""
        shape = self._shapes.get((table_id, field_ids))
        if shape is None:
            fields = tuple(self._fields[table_id][field_id][1] for field_id in field_ids)
            shape = Shape(self._tables[table_id], fields)
            if shape.bytes > self._buffer_bytes // 4:
                raise LimitExceededError("bytes of one write", self._buffer_bytes // 4, shape.bytes)
            self._shapes[table_id, field_ids] = shape
        return shape

    def spawn(self, owner: int, parts: Sequence[tuple[Shape, tuple[Any, ...]]]) -> int:
        """An entity with its rows, in one call. Returns its id.

        Raises:
            struct.error, OverflowError: a value does not fit its cell. ConstraintError, LimitExceededError.
        """
        buffer = self._buffer
        own = self._entity_shape
        own.pack(buffer, 0, own.spawn, 0, own.ids, owner)
        at = own.bytes
        for shape, values in parts:
            if at + shape.bytes > self._buffer_bytes:
                raise LimitExceededError("bytes of one spawn", self._buffer_bytes, at + shape.bytes)
            shape.pack(buffer, at, shape.insert, 0, shape.ids, *values)
            at += shape.bytes
        status = self._apply_now(self._pointer, at, self._key_ref)
        if status < 0:
            raise self._failures.error(status)
        return self._key.value

    def insert_keyed(self, shape: Shape, values: tuple[Any, ...]) -> int:
        """A row of a table with keys of its own. Returns its key."""
        shape.pack(self._buffer, 0, shape.spawn, 0, shape.ids, *values)
        status = self._apply_now(self._pointer, shape.bytes, self._key_ref)
        if status < 0:
            raise self._failures.error(status)
        return self._key.value

    def insert(self, shape: Shape, key: int, values: tuple[Any, ...]) -> None:
        """A row for a living key. Raises StaleEntityError, RowExistsError, ConstraintError, LimitExceededError."""
        if key == 0:
            raise StaleEntityError(0, shape.table.name)
        shape.pack(self._buffer, 0, shape.insert, key, shape.ids, *values)
        status = self._apply_now(self._pointer, shape.bytes, self._key_ref)
        if status < 0:
            raise self._failures.error(status)

    def update(self, shape: Shape, key: int, values: tuple[Any, ...]) -> None:
        """Change the shape's fields of one row. Raises StaleEntityError, NoRowError, ConstraintError."""
        shape.pack(self._buffer, 0, shape.update, key, shape.ids, *values)
        status = self._apply_now(self._pointer, shape.bytes, self._key_ref)
        if status < 0:
            raise self._failures.error(status)

    def delete(self, table_id: int, key: int) -> None:
        """Remove one row. Raises StaleEntityError, NoRowError."""
        if not 0 <= key < 1 << 64:
            raise ArgumentError(f"a key is a u64, found {key}")
        struct.pack_into("<BBHIQ", self._buffer, 0, DELETE, 0, table_id, HEADER_BYTES, key)
        status = self._apply_now(self._pointer, HEADER_BYTES, self._key_ref)
        if status < 0:
            raise self._failures.error(status)

    def despawn(self, key: int) -> None:
        """Remove an entity with its components; references to it are settled as the schema declares."""
        self.delete(0, key)

    # --- bulk writes --------------------------------------------------------------------------------------------------

    def reserve(self, table_id: int, n: int) -> NDArray[np.uint64]:
        """`n` fresh keys, final at once; their rows are inserted later."""
        keys = np.empty(n, np.uint64)
        self._check(self._library.ecs_tx_reserve(self._pointer, table_id, n, keys.ctypes.data))
        return keys

    def insert_many(self, table_id: int, keys: NDArray[np.uint64], columns: Mapping[int, Any]) -> None:
        """Rows for living keys; `columns` maps a field id to an array of n cells, or to one cell for all."""
        self._bulk(self._library.ecs_tx_insert_many, table_id, keys, columns)

    def update_many(self, table_id: int, keys: NDArray[np.uint64], columns: Mapping[int, Any]) -> None:
        """Change some fields of many rows."""
        self._bulk(self._library.ecs_tx_update_many, table_id, keys, columns)

    def _bulk(self, call: Any, table_id: int, keys: NDArray[np.uint64], columns: Mapping[int, Any]) -> None:
        keys = np.ascontiguousarray(keys, np.uint64)
        descriptions = (abi.ColumnIn * max(1, len(columns)))()
        keep = []
        for description, (field_id, given) in zip(descriptions, columns.items(), strict=False):
            field = self._fields[table_id][field_id][1]
            if field.type == "string":
                cells = intern(self, np.asarray(given, np.object_))
            else:
                cells = np.asarray(given, field.dtype, order="C")
            single = cells.shape == field.shape
            if not single and cells.shape != (len(keys), *field.shape):
                raise ArgumentError(
                    f"{self._tables[table_id].name}.{field.name}: expected shape {(len(keys), *field.shape)} or one "
                    f"cell {field.shape}, found {cells.shape}"
                )
            keep.append(cells)
            description.cells = cells.ctypes.data
            description.stride = 0 if single else field.width
            description.field = field_id
        self._check(
            call(self._pointer, table_id, len(keys), keys.ctypes.data, ctypes.addressof(descriptions), len(columns))
        )

    def delete_many(self, table_id: int, keys: NDArray[np.uint64]) -> None:
        """Remove many rows, all or none."""
        keys = np.ascontiguousarray(keys, np.uint64)
        self._check(self._library.ecs_tx_delete_many(self._pointer, table_id, len(keys), keys.ctypes.data))

    def despawn_many(self, keys: NDArray[np.uint64]) -> None:
        """Remove many entities, all or none."""
        self.delete_many(0, keys)

    # --- reading inside a transaction ---------------------------------------------------------------------------------

    def row(self, table_id: int, key: int) -> int:
        """The head's row of a key. Raises StaleEntityError, NoRowError."""
        if not 0 <= key < 1 << 64:
            raise ArgumentError(f"a key is a u64, found {key}")
        self._key_in.value = key
        row: int = self._row_now(self._pointer, table_id, self._key_in)
        if row < 0:
            raise self._failures.missing(row, table_id, key)
        return row

    def read_cell(self, table_id: int, field_id: int, key: int) -> Any:
        """A cell as this transaction sees it: a Python scalar, bytes, or an array of its own."""
        if not 0 <= key < 1 << 64:
            raise ArgumentError(f"a key is a u64, found {key}")
        self._key_in.value = key
        status = self._cell_now(self._pointer, table_id, field_id, self._key_in, self._key_ref)
        if status < 0:
            raise self._failures.error(status)
        field = self._fields[table_id][field_id][1]
        if field.type == "string":
            return self.text(ctypes.c_uint64.from_address(self._key.value).value)
        if not field.shape:
            return _SCALARS[field.type].from_address(self._key.value).value
        cell = ctypes.string_at(self._key.value, field.width)
        return cell if field.type == "bytes" else np.frombuffer(cell, field.dtype).reshape(field.shape).copy()

    def texts(self, references: NDArray[np.uint64]) -> Texts:
        """The strings of these cells: of a column that this transaction reads, or of a version that is pinned."""
        return Texts(self, references)

    def head_table(self, table_id: int) -> TableInfo:
        """A table of the head as it is now."""
        out = self._table_out
        status = self._table_now(self._pointer, table_id, self._table_ref)
        if status < 0:
            raise self._failures.error(status)
        return TableInfo(out.rows, out.struct_seq, array(out.keys, "<u8", (out.rows,), self._handle))

    def lend(self, table_id: int, field_id: int, writable: bool) -> NDArray[Any]:
        """A whole column, rows in the head's order.

        Writable: private memory that the commit compares with the head; the same array for the same column within
        a transaction. Otherwise: the cells as the transaction sees them, read-only, valid until its next operation.
        """
        known = self._lent.get((table_id, field_id))
        if known is not None:
            return known
        field = self._fields[table_id][field_id][1]
        out = self._lent_out
        status = (self._lend_now if writable else self._column_now)(self._pointer, table_id, field_id, self._lent_ref)
        if status < 0:
            raise self._failures.error(status)
        address, rows = out.address, out.rows
        if not writable:
            return array(address, field.dtype.str, (rows, *field.shape), self._handle)
        spare = self._spare.pop((table_id, field_id), None)
        if spare is not None and spare[0] == address and spare[1] == rows:
            lent = spare[2]
        else:
            lent = array(address, field.dtype.str, (rows, *field.shape), self._handle, writable=True)
        self._lent[table_id, field_id] = lent
        return lent

    def settle(self) -> None:
        """Apply what was lent now; operations that waited for it may follow. Raises ConstraintError."""
        if not self._lent:
            return
        self._check(self._library.ecs_tx_settle(self._pointer))
        self._take_back()

    def _take_back(self) -> None:
        """The lent columns are settled or discarded: find the arrays that somebody still holds, and let them have the
        memory, which nobody else will read again."""
        if not self._lent:
            return
        lent, self._lent = self._lent, {}
        while lent:
            (table_id, field_id), column = lent.popitem()
            # Held by: the local name, and the argument of getrefcount.
            if sys.getrefcount(column) <= 2:
                self._spare[table_id, field_id] = (owner(column).address, len(column), column)
                continue
            address, size = ctypes.c_uint64(), ctypes.c_uint64()
            self._check(self._library.ecs_tx_orphan(self._pointer, table_id, field_id, address, size))
            owner(column).own(partial(self._library.ecs_memory_free, address.value, size.value))
            table = self._tables[table_id]
            self.kept.append(f"{table.name}.{self._fields[table_id][field_id][1].name}")

    def join(self, tables: Sequence[int], without: Sequence[int], pin: Pin | None) -> JoinRows:
        """The keys that have a row in all of `tables` and in none of `without`, in a version or (None) in the head."""
        first: NDArray[np.uint64] | None = None
        smallest: int | None = None
        for table_id in tables:
            keys = self.head_table(table_id).keys if pin is None else pin.keys(table_id)
            if smallest is None or len(keys) < smallest:
                first, smallest = keys, len(keys)
        assert first is not None and smallest is not None
        rows = [np.empty(smallest, np.uint32) for _ in tables]
        slot = -1 if pin is None else pin.slot
        with_ids, without_ids = np.array(tables, np.uint16), np.array([*without, 0], np.uint16)
        addresses = np.array([one.ctypes.data for one in rows], np.uint64)
        count, aligned = ctypes.c_uint32(), ctypes.c_uint32()
        self._check(
            self._library.ecs_join(
                self._pointer,
                slot,
                with_ids.ctypes.data,
                len(tables),
                without_ids.ctypes.data,
                len(without),
                addresses.ctypes.data,
                count,
                aligned,
            )
        )
        if aligned.value:
            return JoinRows(count.value, True, None, first[: count.value])
        found = [one[: count.value] for one in rows]
        sized = [len(self.head_table(t).keys if pin is None else pin.keys(t)) for t in tables]
        driver = sized.index(smallest)
        return JoinRows(count.value, False, found, first[found[driver]])

    # --- versions -----------------------------------------------------------------------------------------------------

    def publish(self, tick: int, *, genesis: bool = False) -> int | None:
        """Make a version of what was committed since the last; None when nothing was. Held views may defer that readers
        see it: `published_version` is then behind `head_version`."""
        self._tick.value = tick
        made = self._publish_now(self._pointer, self._tick, int(genesis), self._version_ref, self._published_ref)
        if made < 0:
            raise self._failures.error(made)
        self.head_version, self.published_version = self._version.value, self._published.value
        if made:
            self.tell_version()
        return self.head_version if made else None

    def tell_version(self) -> None:
        """A version was made, or shown late: tell those who follow. Needs the baton."""
        if self.on_version is not None:
            self.on_version(self)
        if self._pressure is not None:
            self._pressure.look(self)

    def limit_views(self, slots: int, buffers: int) -> None:
        """How many versions may be pinned, current or held at once (3 to 64), and how many buffers a column may have
        for them (3 or more). Beyond either publication is put off. Needs the baton."""
        self._check(self._library.ecs_view_limits(self._pointer, slots, buffers))

    def retain(self, versions: int, bytes: int) -> None:
        """Keep what changed in the newest `versions`, the older it is the more coarsely, for deltas from old bases; of
        at most so many bytes beside what is kept for the newest 256. Needs the baton."""
        self._check(self._library.ecs_view_retain(self._pointer, versions, bytes))

    @property
    def on_pressure(self) -> Callable[[Pressure], object] | None:
        """Called with the baton when held views put publication off, whenever that has become twice as bad, and when it
        is over; see `Pressure`."""
        return None if self._pressure is None else self._pressure.tell

    @on_pressure.setter
    def on_pressure(self, tell: Callable[[Pressure], object] | None) -> None:
        self._pressure = None if tell is None else PressureWatch(tell)

    def catch_up(self) -> None:
        """Publish what was deferred, if views were released since. Needs the baton."""
        published = ctypes.c_uint64()
        self._check(self._library.ecs_catch_up(self._pointer, published))
        self.published_version = published.value
        if self._pressure is not None:
            self._pressure.look(self)

    @property
    def staleness(self) -> int:
        """Versions that readers cannot see yet, because views that somebody holds defer publication."""
        return self.head_version - self.published_version

    def acquire(self) -> Pin:
        """Pin the newest published version. From any thread; never waits."""
        if self._closed:
            raise ClosedError("this store was closed")
        return Pin(self)

    # --- replication --------------------------------------------------------------------------------------------------

    def delta(
        self,
        pin: Pin,
        base: int,
        cursor: tuple[int, int] | None = None,
        budget_bytes: int | None = None,
        reference: Pin | None = None,
        planes: bool = False,
    ) -> Delta:
        """Cut `(base, pin.version]` into one block; with a budget, into about that many bytes from `cursor` on.

        Args:
            reference: a version that everybody who gets the block holds, just that one, when it comes: values may be
                differences to it then. Only for a link that loses nothing.
            planes: lay what is not packed in byte planes, since somebody is going to compress the block.

        Raises:
            HistoryGone: the change sets do not reach back to `base`; cut from 0.
        """
        if self._encoder is None:
            self._encoder = ctypes.c_void_p(self._library.ecs_encoder_create())
        where = abi.Cursor(*(cursor or (0, 0)), 0, 0)
        address, length = ctypes.c_uint64(), ctypes.c_uint64()
        relative_to = -1 if reference is None else reference.slot
        status = self._library.ecs_delta(
            self._pointer,
            pin.slot,
            base,
            where,
            budget_bytes or 0,
            relative_to,
            planes,
            self._encoder,
            address,
            length,
        )
        if status == abi.STATUS["HistoryGone"]:
            raise HistoryGone(base)
        self._check(status)
        block = ctypes.string_at(address.value, length.value)
        return Delta(block, None if where.done else (where.table, where.index), where.rows)

    def apply(self, blocks: Sequence[bytes | memoryview], base: int, version: int, tick: int) -> None:
        """Apply somebody else's changes `(base, version]`, whole or not at all, and publish. Takes the baton itself.

        Raises:
            RemoteProtocolError: the blocks are malformed, break a rule of the schema, or do not follow what is held.
            BusyError: somebody else is writing, and still was after a tenth of a second.
        """
        descriptions = (abi.BlockIn * max(1, len(blocks)))()
        keep: list[Any] = []
        for description, block in zip(descriptions, blocks, strict=False):
            if type(block) is bytes:
                # Where bytes lie is asked for at a third of what it costs through an array.
                pointer = ctypes.c_char_p(block)
                keep.append(pointer)
                description.bytes, description.length = ctypes.c_void_p.from_buffer(pointer).value, len(block)
            else:
                view = np.frombuffer(block, np.uint8)
                keep.append(view)
                description.bytes, description.length = view.ctypes.data, view.nbytes
        for _ in range(_APPLY_TRIES):
            status = self._library.ecs_apply(
                self._pointer, base, version, tick, ctypes.addressof(descriptions), len(blocks)
            )
            if status != abi.STATUS["Busy"]:
                break
            # Another thread begins to follow changes, or shows a version that views had put off: microseconds.
            time.sleep(_APPLY_WAIT_S)
        if status < 0:
            raise self._failures.refused_changes(status, base, version, self.head_version)
        self.head_version = version
        if status:
            self.published_version = version
        self.tell_version()

    def keep_digest(self, on: bool) -> None:
        """Make each version's digest as it is published, from the one before and what changed: then `Pin.kept_digest`
        has it without a scan. `take_delta` does so by itself where it compares. Raises BusyError: somebody writes."""
        self.take_baton()
        try:
            self._check(self._fast.ecs_digest_keep(self._pointer, int(on)))
        finally:
            self.release_baton()

    def take_delta(
        self, payload: bytes, session: int, epoch: int, held: int, check_digest: bool = True
    ) -> TakenDelta | None:
        """Take in a whole DeltaSync's payload and publish it, in one call, where that is all there is to do: it is of
        this session and epoch, has one part, no flags and no clock, its base is above 0, and base <= held < version.

        None: there is more to it, or something is wrong with it, or somebody is writing. Nothing has changed then; go
        the ordinary way (`wire.codec`, then `apply`), which knows what to do or says what is wrong.

        Args:
            check_digest: compare the frame's digest, if it has one, with that of the version it made. Where the version
                before was compared too, that costs what changed; else a scan.
        """
        memory = _taken.memory
        _TAKE_IN.pack_into(memory, 0, session, held, epoch, check_digest)
        length = len(payload)
        call = self._take_now if length <= _BRIEF_BYTES else self._take_long
        if self._closed or call(self._pointer, payload, length, memory) != 0:
            return None
        taken = _taken_delta(_TAKE_OUT.unpack_from(memory, _TAKE_IN.size))
        self.head_version, self.published_version = taken.version, taken.published
        self.tell_version()
        return taken

    def sight(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """The entities that came into sight and those that went out of it with what was applied last: neither spawned
        nor removed. One that came in was not held before. Copies; needs that nobody applies meanwhile."""
        came, gone = (self._keys_in_sight(which) for which in (0, 1))
        return came, gone

    def _keys_in_sight(self, which: int) -> NDArray[np.uint64]:
        address = ctypes.c_uint64()
        n = self._fast.ecs_sight(self._pointer, which, address)
        if n == 0:
            return np.empty(0, np.uint64)
        return np.ctypeslib.as_array((ctypes.c_uint64 * n).from_address(address.value)).copy()

    def block_tables(self, block: bytes) -> list[tuple[int, int]]:
        """How many bytes of a block each of its tables takes, by table id; the block's own head (16) is nobody's.

        Raises:
            RemoteProtocolError: it is no block of this schema.
        """
        out = (ctypes.c_uint32 * (2 * len(self._tables)))()
        n = self._fast.ecs_block_weigh(self._pointer, block, len(block), ctypes.addressof(out))
        if n < 0:
            raise RemoteProtocolError(f"{len(block)} bytes are no block of schema {self.schema.name!r}")
        return list(zip(out[0 : 2 * n : 2], out[1 : 2 * n : 2], strict=True))

    def encoded_bytes(self) -> list[tuple[int, int | None, int]]:
        """How many bytes of blocks were encoded since the store was made: table id, field id, bytes; the field is None
        for what a table takes beside cells, which is the names of its rows, and heads. Each block counts once, however
        many it goes to, before anybody compresses it; full syncs and event rows count, too. From any thread.
        """
        n = self._fast.ecs_store_encoded(self._pointer, None, 0)
        out = (ctypes.c_uint64 * (2 * n))()
        self._fast.ecs_store_encoded(self._pointer, ctypes.addressof(out), n)
        places = ((name & 0xFFFF_FFFF, name >> 32) for name in out[0::2])
        return [
            (table, None if field == 0xFFFF_FFFF else field, length)
            for (table, field), length in zip(places, out[1::2], strict=True)
        ]

    def statistics(self) -> Statistics:
        """Counts and bytes as of now."""
        out = abi.Statistics()
        self._fast.ecs_store_statistics(self._pointer, out)
        return Statistics(*(getattr(out, name) for name in Statistics.__slots__))
