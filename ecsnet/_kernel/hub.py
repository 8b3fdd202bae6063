"""The kernel's hub: sockets by their descriptors, deltas sent and input read by one call each (`kernel/zig/hub.zig`).

Numbers in, numbers out; who owns a socket, and what the bytes mean, is `ecsnet.node`'s matter. All calls on one thread
at a time. Those that go through every socket release the GIL.

Invariants:
- what `receive` gives lies in the hub's own buffer, and is valid until the next call;
- a batch is refused whole, before a byte is sent, where an entry names what is not there.
"""

import ctypes
import os
from collections.abc import Sequence
from functools import cache
from struct import Struct
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecsnet._kernel.library import load
from ecsnet.errors import InternalError
from ecsnet.limits import RECEIVE_CHUNK_BYTES

__all__ = ["ACK", "ARRIVED", "BYTES", "ENDED", "ENTRY", "KernelHub", "compose"]

ENTRY: Final = np.dtype(
    [
        ("place", "<u8"),
        ("session", "<u8"),
        ("entity", "<u8"),
        ("base", "<u8"),
        ("digest_low", "<u8"),
        ("digest_high", "<u8"),
        ("command_ack", "<u4"),
        ("flags", "<u4"),
        ("block", "<u4"),
        ("offset", "<u4"),
        ("length", "<u4"),
        ("before", "<u4"),
    ]
)
"""One delta for one place (`ecsnet.authority.batch` says what each means)."""
ENTRY_BYTES: Final = ENTRY.itemsize
_BLOCK_BYTES: Final = 16
_HEAD: Final = Struct("<QQII")

ARRIVED: Final = np.dtype(
    [
        ("place", "<u8"),
        ("session", "<u8"),
        ("version", "<u8"),
        ("epoch", "<u4"),
        ("chunks", "<u4"),
        ("offset", "<u4"),
        ("length", "<u4"),
        ("kind", "<u4"),
        ("reserved", "<u4"),
    ]
)
"""What `receive` tells of: `BYTES` lie at `offset` in the buffer, `length` of them; an `ACK` is session, version, epoch
and chunks; `ENDED` has an errno as its length, 0 where the peer ended its stream."""

BYTES: Final = 0
ACK: Final = 1
ENDED: Final = 2

_BUFFER_BYTES: Final = 4 * RECEIVE_CHUNK_BYTES
_ACK_BYTES: Final = 48
_ARRIVALS_MAX: Final = 2 * (RECEIVE_CHUNK_BYTES // _ACK_BYTES + 1)


@cache
def _libraries() -> tuple[Any, Any]:
    """The same library twice: calls that are short keep the GIL."""
    loaded = load()
    releasing = ctypes.CDLL(loaded._name, handle=loaded._handle)
    keeping = ctypes.PyDLL(loaded._name, handle=loaded._handle)
    pointer, u32, u64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64
    keeping.ecs_hub_create.argtypes = (ctypes.POINTER(pointer),)
    keeping.ecs_hub_destroy.argtypes = (pointer,)
    keeping.ecs_hub_destroy.restype = None
    keeping.ecs_hub_descriptor.argtypes = (pointer,)
    keeping.ecs_hub_add.argtypes = (pointer, ctypes.c_int32, ctypes.POINTER(u64))
    keeping.ecs_hub_remove.argtypes = (pointer, u64)
    keeping.ecs_hub_mark.argtypes = (pointer, u64, u32, u32)
    keeping.ecs_hub_poll.argtypes = (pointer,)
    releasing.ecs_hub_receive.argtypes = (pointer, pointer, u32, u32, pointer, u32)
    releasing.ecs_hub_receive.restype = u32
    releasing.ecs_hub_send_deltas.argtypes = (pointer, pointer, pointer, u32, pointer, u32, pointer)
    releasing.ecs_hub_send_deltas.restype = u32
    keeping.ecs_deltas_compose.argtypes = (pointer, pointer, u32, pointer, u32, pointer, u64)
    keeping.ecs_deltas_compose.restype = u32
    keeping.ecs_hub_layout.restype = u32
    expected = ENTRY_BYTES | _BLOCK_BYTES << 8 | _HEAD.size << 16 | ARRIVED.itemsize << 24
    found = keeping.ecs_hub_layout()
    if found != expected:
        raise InternalError(f"the kernel's hub has structures of {found:#x} bytes, not {expected:#x}")
    return keeping, releasing


class KernelHub:
    """See the file.

    Raises:
        OSError: this system has no epoll (ENOSYS), no memory, or no descriptor left.
    """

    __slots__ = ("_arrived", "_arrived_at", "_buffer", "_buffer_at", "_keeping", "_pointer", "_releasing")

    def __init__(self) -> None:
        self._keeping, self._releasing = _libraries()
        self._pointer = ctypes.c_void_p()
        _check(self._keeping.ecs_hub_create(self._pointer))
        self._buffer = np.empty(_BUFFER_BYTES, np.uint8)
        self._buffer_at = self._buffer.ctypes.data
        self._arrived = np.zeros(_ARRIVALS_MAX, ARRIVED)
        self._arrived_at = self._arrived.ctypes.data

    @property
    def descriptor(self) -> int:
        """Can be read while one of the sockets can."""
        number: int = self._keeping.ecs_hub_descriptor(self._pointer)
        return number

    @property
    def buffer(self) -> memoryview:
        """What the `BYTES` of the last `receive` lie in."""
        return self._buffer.data

    def add(self, descriptor: int) -> int:
        """Take a connected, non-blocking socket in, armed and at the beginning of a frame. Its place, which is never
        given again.

        Raises:
            OSError: it cannot be waited for. Nothing changed.
        """
        place = ctypes.c_uint64()
        _check(self._keeping.ecs_hub_add(self._pointer, descriptor, place))
        return place.value

    def remove(self, place: int) -> None:
        """Let a socket go, before it is closed.

        Raises:
            OSError: it is no member (ENOENT), or was closed before (EBADF): gone it is in any case.
        """
        _check(self._keeping.ecs_hub_remove(self._pointer, place))

    def mark(self, place: int, *, armed: bool, at_frame: bool) -> None:
        """Whether a member may be sent deltas, and whether what it sends next begins a frame.

        Raises:
            OSError: it is no member (ENOENT).
        """
        _check(self._keeping.ecs_hub_mark(self._pointer, place, armed, at_frame))

    def send_deltas(
        self, version: int, tick: int, epoch: int, entries: bytearray, blocks: Sequence[bytes | memoryview]
    ) -> NDArray[np.int32]:
        """Offer each entry's delta to its place, once. By entry: how many bytes were taken (0: nothing now), or minus
        an errno.

        Raises:
            InternalError: an entry names a place that is not armed, or bytes that are not there. Nothing was sent.
        """
        count = len(entries) // ENTRY_BYTES
        taken = np.empty(count, np.int32)
        if count == 0:
            return taken
        rows = _rows(blocks)
        wrong = self._releasing.ecs_hub_send_deltas(
            self._pointer,
            _HEAD.pack(version, tick, epoch, 0),
            (ctypes.c_char * len(entries)).from_buffer(entries),
            count,
            rows.ctypes.data,
            len(rows),
            taken.ctypes.data,
        )
        if wrong:
            raise InternalError(
                f"entry {wrong - 1} of a batch of {count} names a place that has another writer, or bytes that are not "
                f"there; nothing was sent"
            )
        return taken

    def poll(self) -> None:
        """Ask which sockets have something to read; `receive` then reads each of them once."""
        _check(self._keeping.ecs_hub_poll(self._pointer))

    def receive(self) -> NDArray[np.void]:
        """The next `ARRIVED` of those that `poll` found, in the order in which the places were given; none when all
        were read."""
        count = self._releasing.ecs_hub_receive(
            self._pointer, self._buffer_at, _BUFFER_BYTES, RECEIVE_CHUNK_BYTES, self._arrived_at, _ARRIVALS_MAX
        )
        return self._arrived[:count]

    def close(self) -> None:
        """Give the hub's own descriptor and memory back; every socket has been removed. Idempotent."""
        if self._pointer:
            self._keeping.ecs_hub_destroy(self._pointer)
            self._pointer = ctypes.c_void_p()


def compose(
    version: int, tick: int, epoch: int, entries: bytearray, blocks: Sequence[bytes | memoryview], length: int
) -> memoryview:
    """What `KernelHub.send_deltas` would send, one entry's bytes after the other's: for sockets that are none of a
    hub's. A copy, the caller's own.

    Args:
        length: of all together.

    Raises:
        InternalError: an entry names bytes that are not there, or `length` is too little.
    """
    keeping, _ = _libraries()
    out = np.empty(length, np.uint8)
    rows = _rows(blocks)
    count = len(entries) // ENTRY_BYTES
    wrong = keeping.ecs_deltas_compose(
        _HEAD.pack(version, tick, epoch, 0),
        (ctypes.c_char * len(entries)).from_buffer(entries),
        count,
        rows.ctypes.data,
        len(rows),
        out.ctypes.data,
        length,
    )
    if wrong:
        raise InternalError(f"entry {wrong - 1} of a batch of {count} names bytes that are not there, or has no room")
    return out.data


def _rows(blocks: Sequence[bytes | memoryview]) -> NDArray[np.uint64]:
    return np.array([_span(block) for block in blocks], np.uint64)


def _span(block: bytes | memoryview) -> tuple[int, int]:
    return (np.frombuffer(block, np.uint8).ctypes.data if len(block) else 0), len(block)


def _check(status: int) -> None:
    if status < 0:
        raise OSError(-status, os.strerror(-status))
