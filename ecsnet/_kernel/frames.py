"""The hot frames' side of the kernel: heads written, payloads read, at the fixed offsets of `kernel/zig/frame.zig`.

Plain numbers in, plain numbers out; what they mean, and which of them a peer may send, is `ecsnet.wire.codec`'s matter.

Invariants:
- a payload is read where it lies: what comes back about a block is where it is, never a copy;
- the scratch memory that the kernel fills is one per thread, since a node and a client may share a process.
"""

import ctypes
import threading
from functools import cache
from struct import Struct
from typing import Any, Final

from ecsnet.errors import InternalError, RemoteProtocolError

SYNC_BEGIN: Final = 5
SYNC_CHUNK: Final = 6
DELTA_SYNC: Final = 7
ACK: Final = 8
COMMAND: Final = 9
COMMAND_RESULT: Final = 10

# The records of frame.zig, field for field.
_RECORDS: Final = {
    SYNC_BEGIN: Struct("<5Q2I"),
    SYNC_CHUNK: Struct("<3Q2I"),
    DELTA_SYNC: Struct("<7Q2I2HI"),
    ACK: Struct("<2Q2I"),
    COMMAND: Struct("<2QI2H"),
    COMMAND_RESULT: Struct("<2QI2H"),
}
# What `ecs_frame_read` fills: the record, the block's offset and length, the clock's offset, count, stride, data bytes.
_RECEIVED: Final = {
    SYNC_BEGIN: Struct("<5Q2I"),
    SYNC_CHUNK: Struct("<3Q2I 2I"),
    DELTA_SYNC: Struct("<7Q2I2HI 2I 4I"),
    ACK: Struct("<2Q2I"),
    COMMAND: Struct("<2QI2H 2I"),
    COMMAND_RESULT: Struct("<2QI2H 2I"),
}
HEAD_BYTES: Final = {SYNC_BEGIN: 72, SYNC_CHUNK: 64, DELTA_SYNC: 112, ACK: 48, COMMAND: 56, COMMAND_RESULT: 56}
"""Bytes of a frame before its block, or of the whole frame where the message has none."""

_FAULTS: Final = {
    1: "is too short, or no whole number of words",
    2: "is not exactly one segment",
    3: "has no root struct inside its segment",
    4: "has a block that is no list of bytes inside its segment",
    5: "has a clock that is no list of structs inside its segment",
}


class _Scratch(threading.local):
    def __init__(self) -> None:
        self.buffer: Any = ctypes.create_string_buffer(max(HEAD_BYTES.values()))


_scratch = _Scratch()


@cache
def _functions() -> tuple[Any, Any]:
    from ecsnet._kernel.library import load

    loaded = load()
    # The same library, called with the GIL kept: these calls take less than giving it up and taking it back.
    library = ctypes.PyDLL(loaded._name, handle=loaded._handle)
    for kind, head_bytes in HEAD_BYTES.items():
        expected = (head_bytes, _RECEIVED[kind].size)
        found = (library.ecs_frame_head_bytes(kind), library.ecs_frame_read_bytes(kind))
        if found != expected:
            raise InternalError(
                f"frames of kind {kind}: the kernel's head and record have {found} bytes, not {expected}"
            )
    # No argtypes: arguments are bytes objects, our own buffer and ints below 2**31, which ctypes passes as they are;
    # converting five of them by declared types costs three times the call.
    return library.ecs_frame_write_head, library.ecs_frame_read


def write_head(kind: int, fields: tuple[int, ...], block_bytes: int = 0) -> bytes:
    """Everything of a frame before its block: header, segment table, root, data, pointers.

    Args:
        kind: one of the hot kinds.
        fields: the record of `frame.zig`, in its order; each in the range of its type (`struct.error` otherwise).
        block_bytes: length of the block that the caller sends behind the head, with zeros up to a whole word.
    """
    write, _ = _functions()
    record = _RECORDS[kind].pack(*fields)
    head_bytes = HEAD_BYTES[kind]
    assert 0 <= block_bytes < 1 << 29, block_bytes
    buffer = _scratch.buffer
    status = write(kind, record, len(record), block_bytes, buffer, head_bytes)
    if status:
        raise InternalError(f"the kernel refused to write a frame of kind {kind} (status {status})")
    head: bytes = buffer[:head_bytes]
    return head


def read_untrusted(kind: int, payload: bytes) -> tuple[int, ...]:
    """The fields of one payload: the record, then where its block lies (offset, bytes) where the message has one, then,
    of a DeltaSync, where its clock lies (offset, count, bytes from entry to entry, bytes of data in an entry).

    Raises:
        RemoteProtocolError: the payload is no message of this kind.
    """
    _, read = _functions()
    if len(payload) >= 1 << 31:
        raise RemoteProtocolError(f"a message of kind {kind} has {len(payload)} bytes")
    received = _RECEIVED[kind]
    buffer = _scratch.buffer
    status = read(kind, payload, len(payload), buffer, received.size)
    if status:
        if status not in _FAULTS:
            raise InternalError(f"the kernel could not read a frame of kind {kind} (status {status})")
        raise RemoteProtocolError(f"a message of kind {kind} and {len(payload)} bytes {_FAULTS[status]}")
    fields: tuple[int, ...] = received.unpack_from(buffer)
    return fields
