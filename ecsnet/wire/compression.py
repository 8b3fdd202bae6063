"""Blocks in fewer bytes: what follows a block's head is one zstd frame.

    u8 version | u8 compression | u16 tables | u32 bytes that follow, uncompressed | u64 reference | one zstd frame

Level 1, since 3 buys nothing over it, and a frame for itself, since a context for each client would be hundreds of KiB.
A block is compressed once for everybody who is sent it, and only where that makes it smaller: what is packed is dense
already, so after a few blocks that would not shrink only every now and then one is tried again.

A reader asks before it believes: the length that a block claims is compared with the limit *and* with the frame's own
before anything is decompressed, since the library heeds no limit where a frame carries its size.
"""

import threading
from struct import Struct
from typing import Final

import zstandard

from ecsnet.errors import RemoteProtocolError
from ecsnet.limits import COMPRESS_BYTES_MIN, PLAIN_BLOCK_BYTES_MAX
from ecsnet.wire.messages import Reason

__all__ = ["BLOCK_HEAD_BYTES", "Compressor", "plain_untrusted"]

BLOCK_HEAD_BYTES: Final = 16
"""Of any block of changes; never compressed."""

_HEAD: Final = Struct("<BBHIQ")
_NONE: Final = 0
_ZSTD: Final = 1
_LEVEL: Final = 1

_WORTH: Final = 0.97
"""What a block must shrink to: less is not worth the reader's work."""

_FAILED_MAX: Final = 4
_REST_BLOCKS: Final = 60
"""After so many blocks in a row that were not worth it, so many are let pass untried: about a second's."""


class Compressor:
    """Compresses blocks on one thread. It keeps one context, however many clients there are."""

    __slots__ = ("_context", "_failed", "_rest", "bytes_in", "bytes_out", "compressed", "tried")

    def __init__(self) -> None:
        self._context = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True, write_checksum=False)
        self._failed = 0
        self._rest = 0
        self.tried = 0
        self.compressed = 0
        self.bytes_in = 0
        """Of what was tried, and of what came of it."""
        self.bytes_out = 0

    def compress(self, block: bytes) -> bytes:
        """The block compressed, or the block itself where that is no shorter, or was not tried."""
        if len(block) < COMPRESS_BYTES_MIN:
            return block
        if self._rest:
            self._rest -= 1
            return block
        version, _, tables, length, reference = _HEAD.unpack_from(block)
        body = self._context.compress(memoryview(block)[BLOCK_HEAD_BYTES:])
        self.tried += 1
        self.bytes_in += len(block)
        if BLOCK_HEAD_BYTES + len(body) > len(block) * _WORTH:
            self.bytes_out += len(block)
            self._failed += 1
            if self._failed >= _FAILED_MAX:
                self._rest = _REST_BLOCKS
            return block
        self._failed = 0
        self.compressed += 1
        self.bytes_out += BLOCK_HEAD_BYTES + len(body)
        return _HEAD.pack(version, _ZSTD, tables, length, reference) + body


class _Context(threading.local):
    """One for each thread: replicas on two may take in at the same time."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=PLAIN_BLOCK_BYTES_MAX)


_context = _Context()


def plain_untrusted(block: bytes | memoryview) -> bytes | memoryview:
    """The block as it was before it was compressed; the block itself where it is not.

    Raises:
        RemoteProtocolError: it is not one whole zstd frame of just as many bytes as it claims, or claims more than
            `PLAIN_BLOCK_BYTES_MAX`. Nothing of it was decompressed where the claim alone is wrong.
    """
    if len(block) < BLOCK_HEAD_BYTES or block[1] == _NONE:
        return block  # whether it is a block at all is the kernel's to say
    version, how, tables, length, reference = _HEAD.unpack_from(block)
    if how != _ZSTD:
        raise _refused(f"a block of compression {how}; 0 (none) and {_ZSTD} (zstd) are known")
    if length > PLAIN_BLOCK_BYTES_MAX:
        raise _refused(
            f"a block of {length} bytes in {len(block)}; PLAIN_BLOCK_BYTES_MAX is {PLAIN_BLOCK_BYTES_MAX}",
            Reason.TOO_LARGE,
        )
    body = memoryview(block)[BLOCK_HEAD_BYTES:]
    try:
        found = zstandard.get_frame_parameters(body)
        if found.content_size != length or found.dict_id != 0:
            raise _refused(f"a block of {length} bytes around a frame of {found.content_size}")
        # A frame of nothing says neither what it is nor whether it ends.
        plain = _context.decompressor.decompress(body, max_output_size=max(1, length), allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise _refused(f"a block that is no zstd frame: {error}") from error
    if len(plain) != length:
        raise _refused(f"a block of {length} bytes that has {len(plain)}")
    return _HEAD.pack(version, _NONE, tables, length, reference) + plain


def _refused(what: str, reason: Reason = Reason.BAD_FRAME) -> RemoteProtocolError:
    return RemoteProtocolError(what, reason)
