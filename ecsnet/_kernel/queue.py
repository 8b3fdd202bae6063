"""The kernel's queue of producers: transactions handed in on any thread, committed by whoever has the baton.

Invariant: what `pump` gives was copied from the kernel before anybody else can pump.
"""

import ctypes
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from ecsnet._kernel import abi
from ecsnet.errors import EcsnetError

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore

__all__ = ["Done", "limit", "pump", "put", "waiting"]

_RESULT: Final = struct.Struct("<QiI")
_RESULT_BYTES: Final = ctypes.sizeof(abi.Result)
_FULL: Final = (None, "orders", "bytes")


class Done(NamedTuple):
    """What became of one order: the keys it was handed out, in order, or why it was refused."""

    ticket: int
    keys: tuple[int, ...]
    error: EcsnetError | None


def limit(kernel: "KernelStore", orders_max: int, bytes_max: int) -> None:
    """How many orders may wait, and how many bytes they may take."""
    kernel._fast.ecs_queue_limit(kernel._pointer, orders_max, bytes_max)


def put(kernel: "KernelStore", ticket: int, keys: int, operations: bytes) -> str | None:
    """Hand in a transaction, from any thread; `keys` is how many of its operations make a key. Returns None, or what
    the queue is full of ("orders", "bytes"): then nothing was handed in."""
    status = kernel._fast.ecs_queue_put(kernel._pointer, ticket, keys, operations, len(operations))
    kernel._check(status)
    return _FULL[status]


def waiting(kernel: "KernelStore") -> int:
    """How many orders wait."""
    count: int = kernel._fast.ecs_queue_waiting(kernel._pointer)
    return count


def pump(kernel: "KernelStore") -> list[Done]:
    """Commit everything that waits, each order by itself. Needs the baton; publishing is the caller's."""
    out = abi.PumpOut()
    kernel._check(kernel._library.ecs_queue_pump(kernel._pointer, out))
    memory = ctypes.string_at(out.results, out.count * _RESULT_BYTES)
    keys = memoryview(ctypes.string_at(out.keys, out.key_count * 8)).cast("Q")
    done, used = [], 0
    for at in range(0, len(memory), _RESULT_BYTES):
        ticket, status, count = _RESULT.unpack_from(memory, at)
        if status < 0:
            kernel._failures.recall(memory[at + _RESULT.size : at + _RESULT_BYTES])
            done.append(Done(ticket, (), kernel._failures.error(status)))
        else:
            done.append(Done(ticket, tuple(keys[used : used + count]), None))
            used += count
    return done
