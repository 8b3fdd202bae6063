"""Prepared writes and reads: the description of one stands ready in memory, and a call says which row and what cells.

A foreign call costs what its arguments cost to convert, and packing costs what each value costs to hand over. So the
description (`PreparedIn` of `kernel/zig/prepared.zig`) is made once, a record has nothing but the key and the cells,
and a call has a single argument.

Invariants:
- the memory is used by whoever holds the baton of its store, and by nobody else;
- how many values a record takes is fixed: functions of exactly as many parameters are several times as fast as one that
  takes any number, so the common ones are written out.
"""

import ctypes
import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ecsnet._kernel import abi
from ecsnet._kernel.shape import cell_codes, value_count
from ecsnet.schema.model import Field

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore

__all__ = ["DELETE", "INSERT", "KEY_BYTES", "READ", "UPDATE", "Prepared"]

INSERT: Final = 2
UPDATE: Final = 3
DELETE: Final = 4
READ: Final = 5

KEY_BYTES: Final = 8

Put = Callable[[int, Mapping[str, Any]], int]


class Prepared:
    """One write or read of some fields of one table, with room for `capacity` records."""

    __slots__ = ("capacity", "description", "memory", "now", "pack_into", "reference", "stride", "values")

    def __init__(
        self, kernel: "KernelStore", kind: int, table_id: int, fields: tuple[Field, ...], capacity: int = 1
    ) -> None:
        packer = struct.Struct("<Q" + "".join(map(cell_codes, fields)))
        self.pack_into = packer.pack_into
        self.stride = packer.size
        self.values = sum(map(value_count, fields))
        """How many values a record is packed from."""
        self.capacity = capacity
        ids = struct.pack(f"<{len(fields)}H", *(field.id for field in fields))
        # The ids lie behind the records: who holds the one holds the other.
        memory = ctypes.create_string_buffer(bytes(packer.size * capacity) + ids)
        # A memoryview: `struct` packs into it at four fifths of what ctypes' own array costs.
        self.memory = memoryview(memory).cast("B")
        self.description = abi.PreparedIn(
            store=kernel.address,
            records=ctypes.addressof(memory),
            ids=ctypes.addressof(memory) + packer.size * capacity,
            count=1,
            stride=packer.size,
            table=table_id,
            fields=len(fields),
            kind=kind,
        )
        self.now: Callable[[Any], int] = kernel.run_prepared
        self.reference = ctypes.byref(self.description)

    def run(self, count: int) -> int:
        """Do it for the first `count` records, all or none. Returns 0, or a status below it."""
        self.description.count = count
        return self.now(self.reference)

    def drop(self, first: int, count: int) -> None:
        """Forget the first `first` of `count` records: those behind them come to the front."""
        kept = bytes(self.memory[first * self.stride : count * self.stride])
        self.memory[: len(kept)] = kept

    def key(self, place: int) -> int:
        """The key of a record."""
        key: int = struct.unpack_from("<Q", self.memory, place * self.stride)[0]
        return key

    # --- one record at a time ----------------------------------------------------------------------------------------

    def put(self, names: tuple[str, ...]) -> Put:
        """A function of a key and a mapping that does it at once with the values under `names`, one for each field.

        It returns 0 or a status below it, and raises struct.error, TypeError, OverflowError or ValueError for values
        that do not fit their cells. Nothing has happened then.
        """
        pack, memory, now, reference = self.pack_into, self.memory, self.now, self.reference
        assert len(names) == self.values, "one value for each field"

        if len(names) == 1:
            (first,) = names

            def put(key: int, given: Mapping[str, Any]) -> int:
                pack(memory, 0, key, given[first])
                return now(reference)

        elif len(names) == 2:
            first, second = names

            def put(key: int, given: Mapping[str, Any]) -> int:
                pack(memory, 0, key, given[first], given[second])
                return now(reference)

        elif len(names) == 3:
            first, second, third = names

            def put(key: int, given: Mapping[str, Any]) -> int:
                pack(memory, 0, key, given[first], given[second], given[third])
                return now(reference)

        else:

            def put(key: int, given: Mapping[str, Any]) -> int:
                pack(memory, 0, key, *[given[name] for name in names])
                return now(reference)

        return put

    def put_values(self) -> Callable[[int, tuple[Any, ...]], int]:
        """As `put`, of a key and the values as they are packed: a flat tuple."""
        pack, memory, now, reference = self.pack_into, self.memory, self.now, self.reference

        def put_values(key: int, values: tuple[Any, ...]) -> int:
            pack(memory, 0, key, *values)
            return now(reference)

        return put_values

    def by_key(self) -> tuple[Callable[[int], int], memoryview]:
        """A function of a key alone that does it at once, and the bytes behind the key, where what is read comes.

        The function returns 0 or a status below it, and raises ValueError or TypeError for what is no key: nothing has
        happened then.
        """
        key_in, now, reference = self.memory[:KEY_BYTES].cast("Q"), self.now, self.reference

        def run(key: int) -> int:
            key_in[0] = key
            return now(reference)

        return run, self.memory[KEY_BYTES : self.stride]
