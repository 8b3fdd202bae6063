"""Frames of event rows, written and read at fixed offsets: in a game there is one for each client in nearly every tick.

An Event is an ordinary message; this is how this build lays one out, with its root directly behind the pointer and its
block last, so that one block serves many sessions. Whatever is laid out otherwise, pycapnp reads.

    header 8 | segment table 8 | root 8 | 7 words: session, sequence, ... | pointer 8 | block | zeros to a whole word

Invariant: what is written here is, byte for byte, what pycapnp writes (the golden vectors say so).
"""

from struct import Struct
from typing import Final

from ecsnet.limits import FRAME_HEADER_BYTES
from ecsnet.wire import framing
from ecsnet.wire.messages import Event, Kind

__all__ = ["EVENT_HEAD_BYTES", "EventFrames", "read_event", "write_event"]

_ZEROS: Final = tuple(bytes(n) for n in range(8))
_FRONT: Final = Struct("<IIQ")
_RECORD: Final = Struct("<5Q2I2HI")
_POINTER: Final = Struct("<II")
_OWN: Final = Struct("<2Q")  # session and sequence: what differs from one session to another
_WORDS: Final = _RECORD.size // 8
_ROOT: Final = _WORDS << 32 | 1 << 48
_RECORD_AT: Final = _FRONT.size
_POINTER_AT: Final = _RECORD_AT + _RECORD.size
_BLOCK_AT: Final = _POINTER_AT + 8

EVENT_HEAD_BYTES: Final = FRAME_HEADER_BYTES + _BLOCK_AT
"""Of a frame, before its block."""


def write_event(message: Event) -> bytes:
    """The whole frame of one message."""
    m = message
    record = _RECORD.pack(m.session, m.sequence, m.version, m.tick, m.key, m.epoch, m.subscription, m.table, m.flags, 0)
    return b"".join((_head(len(m.block)), record, _tail(m.block)))


def read_event(payload: bytes) -> Event | None:
    """The message of a payload that is laid out as here; None for any other, which may be one nevertheless."""
    size = len(payload)
    if size < _BLOCK_AT or _FRONT.unpack_from(payload) != (0, size // 8 - 1, _ROOT) or size % 8:
        return None
    where, count = _POINTER.unpack_from(payload, _POINTER_AT)
    length = count >> 3
    if where != 1 or count & 7 != 2 or _BLOCK_AT + length + -length % 8 != size:
        return None
    record = _RECORD.unpack_from(payload, _RECORD_AT)
    session, sequence, version, tick, key, epoch, subscription, table, flags, _ = record
    return Event(
        session=session,
        sequence=sequence,
        version=version,
        tick=tick,
        key=key,
        epoch=epoch,
        subscription=subscription,
        table=table,
        flags=flags,
        block=payload[_BLOCK_AT : _BLOCK_AT + length],
    )


class EventFrames:
    """Frames of the same event rows for many sessions: all but session and sequence is written once."""

    __slots__ = ("_front", "_tail", "length")

    def __init__(self, *, epoch: int, version: int, tick: int, block: bytes) -> None:
        record = _RECORD.pack(0, 0, version, tick, 0, epoch, 0, 0, 0, 0)
        self._front = _head(len(block))
        self._tail = record[_OWN.size :] + _tail(block)
        self.length = len(self._front) + _OWN.size + len(self._tail)
        """Bytes of each frame."""

    def frame(self, session: int, sequence: int) -> bytes:
        """The whole frame for one session."""
        return b"".join((self._front, _OWN.pack(session, sequence), self._tail))


def _head(block_bytes: int) -> bytes:
    size = _BLOCK_AT + block_bytes + -block_bytes % 8
    return framing.header(Kind.EVENT, size) + _FRONT.pack(0, size // 8 - 1, _ROOT)


def _tail(block: bytes) -> bytes:
    return b"".join((_POINTER.pack(1, len(block) << 3 | 2), block, _ZEROS[-len(block) % 8]))
