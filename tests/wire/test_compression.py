"""Compressed blocks: what was put in comes out, and nobody is made to hold more than the limit."""

import random
import struct

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ecsnet.errors import RemoteProtocolError
from ecsnet.limits import COMPRESS_BYTES_MIN, PLAIN_BLOCK_BYTES_MAX
from ecsnet.wire.compression import BLOCK_HEAD_BYTES, Compressor, plain_untrusted


def block(body: bytes) -> bytes:
    return struct.pack("<BBHIQ", 2, 0, 3, len(body), 77) + body


def compressed(body: bytes, *, claims: int | None = None, frame: bytes | None = None) -> bytes:
    frame = zstandard.ZstdCompressor(level=1).compress(body) if frame is None else frame
    return struct.pack("<BBHIQ", 2, 1, 3, len(body) if claims is None else claims, 77) + frame


@given(st.binary(max_size=3000), st.integers(1, 20))
def test_a_block_comes_out_as_it_went_in(body: bytes, times: int) -> None:
    whole = block(body * times)
    sent = Compressor().compress(whole)
    assert len(sent) <= len(whole)
    assert bytes(plain_untrusted(sent)) == whole
    assert bytes(plain_untrusted(memoryview(sent))) == whole


def test_what_gains_nothing_goes_as_it_is_and_is_seldom_tried() -> None:
    """Given dense blocks, then after a few of them only one in a while costs the attempt."""
    compressor = Compressor()
    dense = block(random.Random(1).randbytes(4000))
    for _ in range(200):
        assert compressor.compress(dense) is dense
    assert compressor.tried < 12
    small = block(bytes(COMPRESS_BYTES_MIN - BLOCK_HEAD_BYTES - 1))
    assert compressor.compress(small) is small


def test_planes_of_floats_shrink() -> None:
    cells = np.cumsum(np.random.default_rng(3).normal(0, 0.01, 3000)).astype("<f4").view(np.uint8).reshape(-1, 4)
    plain, planes = (Compressor().compress(block(layout.tobytes())) for layout in (cells, cells.T))
    assert len(planes) < len(plain) * 0.95


BODY = bytes(range(200)) * 30


@pytest.mark.parametrize(
    "bad",
    [
        compressed(BODY)[:-1],
        compressed(BODY) + b"\0",
        compressed(BODY) + compressed(BODY)[16:],
        compressed(BODY, claims=len(BODY) - 1),
        compressed(BODY, claims=len(BODY) + 1),
        compressed(BODY, claims=PLAIN_BLOCK_BYTES_MAX + 1),
        compressed(BODY, claims=0, frame=b""),
        compressed(BODY, frame=zstandard.ZstdCompressor(write_content_size=False).compress(BODY)),
        compressed(BODY, frame=BODY),
        b"\x02\x02" + compressed(BODY)[2:],
        b"\x02\xff" + bytes(14),
    ],
)
def test_what_is_not_one_whole_frame_of_what_it_claims_is_refused(bad: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        plain_untrusted(bad)


@pytest.mark.parametrize("claims", [100, PLAIN_BLOCK_BYTES_MAX, 1 << 30])
def test_a_bomb_is_refused_before_it_is_decompressed(claims: int) -> None:
    """32 kB that become a gigabyte: the library would heed the frame's own size and no limit."""
    bomb = zstandard.ZstdCompressor(level=1).compressobj(size=1 << 30)
    piece = bytes(1 << 20)
    frame = b"".join([bomb.compress(piece) for _ in range(1 << 10)] + [bomb.flush()])
    with pytest.raises(RemoteProtocolError, match="frame of 1073741824|PLAIN_BLOCK_BYTES_MAX"):
        plain_untrusted(compressed(b"", claims=claims, frame=frame))


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_bytes_are_a_block_within_the_limit_or_refused(data: st.DataObject) -> None:
    noise = bytearray(data.draw(st.sampled_from([compressed(BODY), compressed(b""), bytes([2, 1]) + bytes(40)])))
    for _ in range(data.draw(st.integers(1, 5))):
        noise[data.draw(st.integers(2, len(noise) - 1))] = data.draw(st.integers(0, 255))
    try:
        plain = plain_untrusted(bytes(noise[: data.draw(st.integers(2, len(noise)))]))
    except RemoteProtocolError:
        return
    assert len(plain) <= PLAIN_BLOCK_BYTES_MAX + BLOCK_HEAD_BYTES


def test_what_is_not_compressed_is_not_looked_at() -> None:
    for data in (b"", b"\x02", block(b"abc"), b"\x02\x00"):
        assert plain_untrusted(data) is data
