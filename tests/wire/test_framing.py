"""Frames on a byte stream, however the stream is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecsnet.errors import RemoteProtocolError
from ecsnet.limits import FRAME_HEADER_BYTES, MESSAGE_TO_NODE_BYTES_MAX
from ecsnet.wire import framing
from ecsnet.wire.messages import Kind, Reason

payloads = st.integers(0, 40).flatmap(lambda words: st.binary(min_size=words * 8, max_size=words * 8))
frames = st.lists(st.tuples(st.integers(0, 255), payloads), max_size=10)


def stream_of(parts: list[tuple[int, bytes]]) -> bytes:
    return b"".join(framing.header(kind, len(payload)) + payload for kind, payload in parts)


@given(frames, st.lists(st.integers(1, 50), min_size=1, max_size=200))
def test_a_stream_gives_its_frames_however_it_is_cut(parts: list[tuple[int, bytes]], cuts: list[int]) -> None:
    stream = stream_of(parts)
    reader = framing.FrameReader(MESSAGE_TO_NODE_BYTES_MAX)
    found = []
    at = 0
    while at < len(stream):
        step = cuts[at % len(cuts)]
        reader.feed(stream[at : at + step])
        at += step
        found += [(frame.kind, frame.payload) for frame in reader]
    assert found == parts
    assert reader.buffered_bytes == 0


@given(frames, st.data())
def test_a_batch_must_end_with_a_whole_frame(parts: list[tuple[int, bytes]], draw: st.DataObject) -> None:
    stream = stream_of(parts)
    assert len(framing.split_frames_untrusted(stream, MESSAGE_TO_NODE_BYTES_MAX)) == len(parts)
    ends = {0}
    for kind, payload in parts:
        ends.add(max(ends) + len(stream_of([(kind, payload)])))
    cut = draw.draw(st.integers(0, len(stream)))
    if cut not in ends:
        with pytest.raises(RemoteProtocolError):
            framing.split_frames_untrusted(stream[:cut], MESSAGE_TO_NODE_BYTES_MAX)


@given(st.binary(max_size=300))
def test_any_bytes_are_frames_or_refused(stream: bytes) -> None:
    reader = framing.FrameReader(4096)
    reader.feed(stream)
    try:
        for frame in reader:
            assert len(frame.payload) <= 4096
    except RemoteProtocolError as error:
        assert error.reason in (Reason.TOO_LARGE, Reason.BAD_FRAME, Reason.WIRE_MISMATCH, Reason.NOT_BUILT)


def test_a_length_above_the_limit_is_refused_before_its_payload_comes() -> None:
    """A stranger's eight bytes must not make the reader wait for, or keep, half a GiB."""
    reader = framing.FrameReader(1024)
    reader.feed(framing.header(Kind.ACK, 1032))
    with pytest.raises(RemoteProtocolError) as caught:
        reader.next_frame()
    assert caught.value.reason == Reason.TOO_LARGE
    assert "1032" in str(caught.value) and "1024" in str(caught.value)


def test_after_a_bad_header_nothing_more_is_read_or_kept() -> None:
    reader = framing.FrameReader(1024)
    reader.feed(b"GET / HTTP/1.1\r\n")
    with pytest.raises(RemoteProtocolError):
        reader.next_frame()
    reader.feed(stream_of([(Kind.ACK, bytes(24))]))
    assert reader.buffered_bytes == 0
    with pytest.raises(RemoteProtocolError):
        reader.next_frame()


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"\x04\0\0\0\x08\0\x01\0", Reason.BAD_FRAME),
        (b"\x08\0\0\0\x08\x04\x01\0", Reason.BAD_FRAME),
        (b"\x08\0\0\0\x08\x01\x01\0", Reason.NOT_BUILT),
        (b"\x08\0\0\0\x08\0\x02\0", Reason.WIRE_MISMATCH),
    ],
    ids=["half a word", "an unknown flag", "a checksum", "another version"],
)
def test_a_header_that_cannot_be_followed_says_why(header: bytes, reason: Reason) -> None:
    reader = framing.FrameReader(1024)
    reader.feed(header)
    with pytest.raises(RemoteProtocolError) as caught:
        reader.next_frame()
    assert caught.value.reason == reason


@pytest.mark.parametrize("kind", [Kind.HELLO, Kind.ERROR, Kind.GOODBYE])
def test_hello_error_and_goodbye_are_read_in_any_version(kind: Kind) -> None:
    """Or two builds with no version in common could not tell each other."""
    reader = framing.FrameReader(1024)
    reader.feed(b"\x08\0\0\0" + bytes([kind]) + b"\0\x63\0" + bytes(8))
    frame = reader.next_frame()
    assert frame is not None and frame.kind == kind


def test_the_last_of_a_batch_is_told() -> None:
    reader = framing.FrameReader(1024)
    reader.feed(framing.header(Kind.ACK, 0, framing.LAST_OF_BATCH))
    frame = reader.next_frame()
    assert frame is not None and frame.flags == framing.LAST_OF_BATCH


def test_a_long_stream_keeps_only_what_is_not_taken() -> None:
    """The reader's memory is one payload, however long the link lives."""
    reader = framing.FrameReader(MESSAGE_TO_NODE_BYTES_MAX)
    frame = stream_of([(Kind.COMMAND, bytes(1000))])
    pending = b""
    for _ in range(2000):
        pending += frame
        piece, pending = pending[:1500], pending[1500:]
        reader.feed(piece)
        for _frame in reader:
            pass
        assert len(reader._buffer) <= 64 * 1024 + 2 * len(frame) + FRAME_HEADER_BYTES
