"""Frames on a byte stream: an 8-byte header, then one message of as many bytes as the header says.

    0   u32  payload length in bytes, header not counted; a multiple of 8
    4   u8   kind
    5   u8   flags
    6   u16  wire version

Invariants:
- a length is checked against the limit when the header is there, before anything is kept for it, so a stranger makes
  the reader hold one payload of the limit and what was fed at once, never more;
- a reader that has refused a header refuses everything after it: there is no way to find the next frame;
- Hello, Error and Goodbye are read whatever wire version their header names, or two builds with none in common could
  not tell each other.
"""

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

from ecsnet.errors import RemoteProtocolError
from ecsnet.limits import FRAME_HEADER_BYTES
from ecsnet.wire.messages import WIRE_VERSION, Kind, Reason

CHECKSUM: Final = 1 << 0
"""Header flag: 8 bytes of checksum follow the payload. Not built, so refused; a datagram has one of its own."""

LAST_OF_BATCH: Final = 1 << 1
"""Header flag: nothing more of this tick follows, so a reader may stop waiting and apply."""

_KNOWN_FLAGS: Final = CHECKSUM | LAST_OF_BATCH
_ANY_VERSION: Final = frozenset({Kind.HELLO, Kind.ERROR, Kind.GOODBYE})
_HEADER: Final = Struct("<IBBH")
assert _HEADER.size == FRAME_HEADER_BYTES

# Consumed bytes are dropped from the front of the buffer only once there are this many: each drop moves what is left.
_COMPACT_BYTES: Final = 64 * 1024


class Frame(NamedTuple):
    """One whole frame: `payload` is the reader's own copy, and the receiver's to keep."""

    kind: int
    flags: int
    payload: bytes


def header(kind: int, payload_bytes: int, flags: int = 0) -> bytes:
    """The 8 bytes before a payload."""
    assert payload_bytes % 8 == 0, payload_bytes
    return _HEADER.pack(payload_bytes, kind, flags, WIRE_VERSION)


def parse_header_untrusted(
    data: bytes | bytearray | memoryview, offset: int, payload_bytes_max: int
) -> tuple[int, int, int]:
    """(payload bytes, kind, flags) of the header at `offset`, of which all 8 bytes are there.

    Raises:
        RemoteProtocolError: too long, not whole words, an unknown flag, a checksum, or another wire version.
    """
    payload_bytes, kind, flags, wire = _HEADER.unpack_from(data, offset)
    # A stranger that speaks something else altogether (HTTP, TLS) fails here: "GET " read as a length is half a
    # GiB.
    if payload_bytes > payload_bytes_max:
        raise RemoteProtocolError(
            f"a frame of kind {kind} announces {payload_bytes} bytes; the limit is {payload_bytes_max}",
            Reason.TOO_LARGE,
        )
    if payload_bytes % 8:
        raise RemoteProtocolError(
            f"a frame of kind {kind} announces {payload_bytes} bytes, which are no whole 8-byte words", Reason.BAD_FRAME
        )
    if wire != WIRE_VERSION and kind not in _ANY_VERSION:
        raise RemoteProtocolError(
            f"a frame of kind {kind} is of wire version {wire}; this side speaks {WIRE_VERSION}", Reason.WIRE_MISMATCH
        )
    if flags & ~_KNOWN_FLAGS:
        raise RemoteProtocolError(f"a frame of kind {kind} has unknown flags {flags:#04x}", Reason.BAD_FRAME)
    if flags & CHECKSUM:
        raise RemoteProtocolError("a frame with a checksum: planned and not built; send it without", Reason.NOT_BUILT)
    return payload_bytes, kind, flags


class FrameReader:
    """Cuts a byte stream into frames. Feed what arrived, then take frames until there is none."""

    __slots__ = ("_broken", "_buffer", "_offset", "_payload_bytes_max")

    def __init__(self, payload_bytes_max: int) -> None:
        self._payload_bytes_max = payload_bytes_max
        self._buffer = bytearray()
        self._offset = 0
        self._broken: RemoteProtocolError | None = None

    @property
    def buffered_bytes(self) -> int:
        """Fed and not yet taken: 0 means that the stream may end here."""
        return len(self._buffer) - self._offset

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take in bytes of the stream, copied."""
        if self._broken is None:
            self._buffer += data

    def next_frame(self) -> Frame | None:
        """The next whole frame, or None until more is fed.

        Raises:
            RemoteProtocolError: a header that cannot be followed; from then on every call raises it.
        """
        if self._broken is not None:
            raise self._broken
        buffer, start = self._buffer, self._offset
        available = len(buffer) - start
        if available < FRAME_HEADER_BYTES:
            self._compact()
            return None
        try:
            payload_bytes, kind, flags = parse_header_untrusted(buffer, start, self._payload_bytes_max)
        except RemoteProtocolError as error:
            self._broken = error
            self._buffer = bytearray()
            self._offset = 0
            raise
        end = start + FRAME_HEADER_BYTES + payload_bytes
        if len(buffer) < end:
            self._compact()
            return None
        with memoryview(buffer) as view:
            payload = bytes(view[start + FRAME_HEADER_BYTES : end])
        self._offset = end
        if end == len(buffer):
            buffer.clear()
            self._offset = 0
        elif end >= _COMPACT_BYTES:
            self._compact()
        return Frame(kind, flags, payload)

    def __iter__(self) -> Iterator[Frame]:
        """All whole frames that are there now."""
        while (frame := self.next_frame()) is not None:
            yield frame

    def _compact(self) -> None:
        if self._offset:
            del self._buffer[: self._offset]
            self._offset = 0


def split_frames_untrusted(data: bytes | bytearray | memoryview, payload_bytes_max: int) -> list[Frame]:
    """The frames of a batch that must be whole: a WebSocket message, what an in-process link carries.

    Raises:
        RemoteProtocolError: as `FrameReader.next_frame`, or the batch ends inside a frame.
    """
    reader = FrameReader(payload_bytes_max)
    reader.feed(data)
    frames = list(reader)
    if reader.buffered_bytes:
        raise RemoteProtocolError(
            f"a batch of {len(data)} bytes ends inside a frame ({reader.buffered_bytes} bytes left)", Reason.BAD_FRAME
        )
    return frames
