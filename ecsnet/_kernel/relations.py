"""Finding rows of the head by value, in the indexes that the kernel keeps of unique fields."""

import ctypes
from typing import TYPE_CHECKING

from ecsnet._kernel import abi
from ecsnet.errors import InternalError

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore

__all__ = ["find"]


def find(kernel: "KernelStore", table_id: int, field_id: int, cell: bytes) -> int | None:
    """The key of the head's row whose cell of a unique field is this, by the index. Needs the baton."""
    key = ctypes.c_uint64()
    found = kernel._fast.ecs_tx_find(kernel._pointer, table_id, field_id, cell, key)
    if found < 0:
        names = {number: name for name, number in abi.STATUS.items()}
        raise InternalError(f"the kernel refused to look for a row ({names.get(found, found)})")
    return key.value if found else None
