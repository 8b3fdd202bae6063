"""The kernel's queue of producers: transactions handed in on any thread, committed by whoever has the baton.

Invariant: what `pump` gives was copied from the kernel before anybody else can pump.
"""

import ctypes
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecsnet._kernel import abi
from ecsnet.errors import EcsnetError

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore

__all__ = ["Done", "DoneEach", "limit", "pump", "put", "waiting"]

_RESULT: Final = struct.Struct("<QiI")
_RESULT_BYTES: Final = ctypes.sizeof(abi.Result)
_RESULTS: Final = np.dtype(
    [("ticket", "<u8"), ("status", "<i4"), ("keys", "<u4"), ("info", f"V{_RESULT_BYTES - _RESULT.size}")]
)
_FULL: Final = (None, "orders", "bytes")


class Done(NamedTuple):
    """What became of one order: the keys it was handed out, in order, or why it was refused."""

    ticket: int
    keys: tuple[int, ...]
    error: EcsnetError | None


class DoneEach(NamedTuple):
    """What became of an order of many transactions: the keys they were handed out, u64, in order, and by its number why
    one was refused."""

    ticket: int
    keys: NDArray[np.uint64]
    refused: dict[int, EcsnetError]


def limit(kernel: "KernelStore", orders_max: int, bytes_max: int) -> None:
    """How many orders may wait, and how many bytes they may take."""
    kernel._fast.ecs_queue_limit(kernel._pointer, orders_max, bytes_max)


def put(kernel: "KernelStore", ticket: int, keys: int, operations: bytes, transactions: int = 1) -> str | None:
    """Hand in a transaction, from any thread, or so many of equally many bytes, each of which is kept or refused by
    itself; `keys` is how many of all operations make a key. Returns None, or what the queue is full of ("orders",
    "bytes"): then nothing was handed in."""
    status = kernel._fast.ecs_queue_put(kernel._pointer, ticket, keys, transactions, operations, len(operations))
    kernel._check(status)
    return _FULL[status]


def waiting(kernel: "KernelStore") -> int:
    """How many orders wait."""
    count: int = kernel._fast.ecs_queue_waiting(kernel._pointer)
    return count


def pump(kernel: "KernelStore", each: Mapping[int, int]) -> "list[Done | DoneEach]":
    """Commit everything that waits, each order by itself. Needs the baton; publishing is the caller's.

    Args:
        each: of the tickets of orders of many transactions, how many those are.
    """
    out = abi.PumpOut()
    kernel._check(kernel._library.ecs_queue_pump(kernel._pointer, out))
    memory = ctypes.string_at(out.results, out.count * _RESULT_BYTES)
    key_bytes = ctypes.string_at(out.keys, out.key_count * 8)
    all_keys, keys = np.frombuffer(key_bytes, np.uint64), memoryview(key_bytes).cast("Q")
    done: list[Done | DoneEach] = []
    at = used = 0
    while at < len(memory):
        ticket, status, count = _RESULT.unpack_from(memory, at)
        if ticket in each:
            results = np.frombuffer(memory, _RESULTS, each[ticket], at)
            count = int(results["keys"].sum())
            refused = {
                int(i): _error(kernel, memory, at + int(i) * _RESULT_BYTES) for i in results["status"].nonzero()[0]
            }
            done.append(DoneEach(ticket, all_keys[used : used + count], refused))
            at += len(results) * _RESULT_BYTES
        else:
            error = _error(kernel, memory, at) if status < 0 else None
            done.append(Done(ticket, tuple(keys[used : used + count]), error))
            at += _RESULT_BYTES
        used += count
    return done


def _error(kernel: "KernelStore", memory: bytes, at: int) -> EcsnetError:
    _, status, _ = _RESULT.unpack_from(memory, at)
    kernel._failures.recall(memory[at + _RESULT.size : at + _RESULT_BYTES])
    return kernel._failures.error(status)
