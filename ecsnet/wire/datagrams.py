"""One datagram as bytes: numbers in front, whole frames, a checksum behind.

    0    u32  sequence: counts what this end sends, from 1
    4    u32  ack: the newest sequence that came from the other end, 0 for none
    8    u32  ack bits: bit i is set if ack − 1 − i came, too
    12        frames, one behind the other
    −4   u32  MurmurHash3 x86-32 (seed 0) of all before

A datagram says nothing that needs another one to be understood, but for frames of kind `LANE`: they carry pieces of one
byte stream, in which all frames travel that must arrive, each once and in order. Only what is soon said again, newer,
travels outside of it.

A datagram of sequence 0 is a *reset*: "I have no such link". It has no frames, and its ack names the sequence that it
answers, so that only somebody who saw that can make one.

Invariants:
- what is read has a right checksum, and frames that end with it; nothing else is raised than RemoteProtocolError;
- a datagram that answers a stranger is not longer than what it answers.
"""

from struct import Struct
from typing import Final, NamedTuple

import mmh3

from ecsnet.errors import RemoteProtocolError
from ecsnet.limits import (
    DATAGRAM_BYTES_MAX,
    DATAGRAM_CHECKSUM_BYTES,
    DATAGRAM_HEADER_BYTES,
    FRAME_HEADER_BYTES,
)
from ecsnet.wire.framing import header, parse_header_untrusted
from ecsnet.wire.messages import WIRE_VERSION, Kind, Reason

LANE: Final = 240
"""The kind of a frame that carries a piece of the lane: u64 offset, then bytes."""

LINK_KINDS: Final = 240
"""Kinds from here on are the link's own and never reach a session."""

FRAMES_BYTES_MAX: Final = DATAGRAM_BYTES_MAX - DATAGRAM_HEADER_BYTES - DATAGRAM_CHECKSUM_BYTES
"""What a datagram has for frames."""

FRAGMENT_HEAD_BYTES: Final = FRAME_HEADER_BYTES + 8
"""Of a lane's frame, before its bytes."""

UNRELIABLE: Final = frozenset({Kind.DELTA_SYNC, Kind.ACK, Kind.PING, Kind.PONG})
"""Kinds that may travel outside of the lane: one that is lost is replaced by the next."""

_HEADER: Final = Struct("<III")
_FRAME: Final = Struct("<IBBH")
_U32: Final = Struct("<I")
_OFFSET: Final = Struct("<Q")
assert _HEADER.size == DATAGRAM_HEADER_BYTES
_BYTES_MIN: Final = DATAGRAM_HEADER_BYTES + DATAGRAM_CHECKSUM_BYTES

SEQUENCE_MAX: Final = (1 << 32) - 1


class Datagram(NamedTuple):
    """What a datagram says. `frames` are (kind, payload)."""

    sequence: int
    ack: int
    ack_bits: int
    frames: list[tuple[int, bytes]]


def is_reliable(kind: int) -> bool:
    """Whether a frame of this kind, as a session gives it out, goes by the lane. A DeltaSync goes by either way, as the
    authority says; from a client's session there is none."""
    return kind not in UNRELIABLE


def pack(sequence: int, ack: int, ack_bits: int, frames: bytes) -> bytes:
    """A datagram around whole frames."""
    assert len(frames) <= FRAMES_BYTES_MAX, len(frames)
    data = _HEADER.pack(sequence, ack, ack_bits) + frames
    return data + _U32.pack(mmh3.hash(data, 0, signed=False))


def unpack_untrusted(data: bytes) -> Datagram:
    """What a datagram says. Kinds and payloads of its frames are not looked at.

    Raises:
        RemoteProtocolError: too short or too long, damaged on its way, or its frames do not end with it.
    """
    size = len(data)
    if not _BYTES_MIN <= size <= DATAGRAM_BYTES_MAX:
        raise RemoteProtocolError(
            f"a datagram of {size} bytes; it has {_BYTES_MIN} to {DATAGRAM_BYTES_MAX}", Reason.BAD_FRAME
        )
    end = size - DATAGRAM_CHECKSUM_BYTES
    found = mmh3.hash(data[:end], 0, signed=False)
    if found != _U32.unpack_from(data, end)[0]:
        raise RemoteProtocolError(f"a datagram of {size} bytes fails its checksum", Reason.BAD_FRAME)
    sequence, ack, ack_bits = _HEADER.unpack_from(data)
    frames = []
    at = DATAGRAM_HEADER_BYTES
    while at < end:
        start = at + FRAME_HEADER_BYTES
        if start > end:
            raise RemoteProtocolError("a datagram that ends inside of a frame", Reason.BAD_FRAME)
        length, kind, flags, wire = _FRAME.unpack_from(data, at)
        if flags or wire != WIRE_VERSION or length % 8:
            length, kind, _ = parse_header_untrusted(data, at, FRAMES_BYTES_MAX)  # which knows what is wrong, if it is
        at = start + length
        if at > end:
            raise RemoteProtocolError("a datagram that ends inside of a frame", Reason.BAD_FRAME)
        frames.append((kind, data[start:at]))
    return Datagram(sequence, ack, ack_bits, frames)


def fragment(offset: int, piece: bytes | bytearray) -> bytes:
    """The frame that carries the lane's bytes from `offset` on. A number of whole words."""
    return header(LANE, 8 + len(piece)) + _OFFSET.pack(offset) + piece


def fragment_offset(payload: bytes) -> int:
    """Where in the lane the bytes of such a frame belong: all behind the first eight."""
    offset: int = _OFFSET.unpack_from(payload)[0]
    return offset


def reset(sequence: int) -> bytes:
    """The answer to a datagram of a link that this end does not have (any more)."""
    return pack(0, sequence, 0, b"")


def opens_link_untrusted(data: bytes) -> bool:
    """Whether a datagram of nobody's link is the beginning of one: it has the first bytes of the lane, and acks
    nothing. One that does is of a link with a node before this one, which may go on to say its first bytes again: what
    this node would answer has numbers that the other end has heard already, and is never believed. For that, and any
    other, there is `reset_for_untrusted`."""
    try:
        datagram = unpack_untrusted(data)
    except RemoteProtocolError:
        return False
    return (
        datagram.sequence > 0
        and datagram.ack == 0
        and any(
            kind == LANE and len(payload) > 8 and fragment_offset(payload) == 0 for kind, payload in datagram.frames
        )
    )


def reset_for_untrusted(data: bytes) -> bytes | None:
    """What to send back for a datagram of nobody's link; None for what deserves no answer."""
    try:
        sequence = unpack_untrusted(data).sequence
    except RemoteProtocolError:
        return None
    return reset(sequence) if sequence else None
