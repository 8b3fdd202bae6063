"""Rows by what they hold: the kernel's indexes of unique fields, and its graph of references."""

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ecsnet._kernel import abi
from ecsnet._kernel.pin import Pin
from ecsnet.errors import InternalError, StorageError

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore

__all__ = ["Step", "find", "related"]

Step = tuple[int, int, bool]
"""Table id, field id, and whether the step goes from the row that is referred to to those that refer."""


def find(kernel: "KernelStore", table_id: int, field_id: int, cell: bytes) -> int | None:
    """The key of the head's row whose cell of a unique field is this, by the index. Needs the baton."""
    key = ctypes.c_uint64()
    found = kernel._fast.ecs_tx_find(kernel._pointer, table_id, field_id, cell, key)
    if found < 0:
        raise _refused(found)
    return key.value if found else None


def related(
    where: "KernelStore | Pin", walks: Sequence[Sequence[Step]], start: int, depth: int | None, loops: bool
) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """The rows that walks of one length lead to, breadth first and by key, with the round that found each.

    Args:
        where: a version, or the head of a store, which needs the baton.
        depth: rounds at most; None for as many as lead to anything new.
        loops: walks end in the table they begin in. Without it there is one walk and one round.
    """
    flat = [step for walk in walks for step in walk]
    steps = (abi.StepIn * len(flat))(*(abi.StepIn(*step) for step in flat))
    given = abi.WalkIn(ctypes.addressof(steps), start, len(walks[0]), len(walks), 0xFFFF_FFFF, loops)
    if depth is not None:
        given.depth = min(depth, 0xFFFF_FFFF)
    out = abi.RelatedOut()
    kernel, slot = (where._store, where.slot) if isinstance(where, Pin) else (where, -1)
    status = kernel._library.ecs_related(kernel._pointer, slot, given, out)
    if status < 0:
        raise _refused(status)
    try:
        found = ctypes.string_at(out.address, out.count * 12)
    finally:
        kernel._library.ecs_memory_free(out.address, out.bytes)
    keys = np.frombuffer(found, np.uint64, out.count)
    return keys, np.frombuffer(found, np.uint32, out.count, out.count * 8)


def _refused(status: int) -> Exception:
    if status == abi.STATUS["OutOfMemory"]:
        return StorageError("out of memory; nothing changed")
    names = {number: name for name, number in abi.STATUS.items()}
    return InternalError(f"the kernel refused to look for rows ({names.get(status, status)})")
