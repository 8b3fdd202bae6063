"""Messages to bytes and back, for any message and for any bytes."""

import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecsnet._kernel import frames
from ecsnet.errors import RemoteProtocolError
from ecsnet.limits import MESSAGE_TO_CLIENT_BYTES_MAX
from ecsnet.wire import codec, framing
from ecsnet.wire.messages import DeltaSync, Kind, Message, Reason, SyncChunk, Unknown
from tests.wire.mutate import mutated
from tests.wire.page_reader import PageReader, Refused
from tests.wire.strategies import data, hot, messages, rare
from tests.wire.test_vectors import generate

PAGE_READER = PageReader()


@settings(max_examples=300)
@given(messages)
def test_what_is_written_is_read(message: Message) -> None:
    frame = codec.encode(message)
    [(kind, flags, payload)] = framing.split_frames_untrusted(frame, MESSAGE_TO_CLIENT_BYTES_MAX)
    assert flags == 0
    assert codec.decode_untrusted(kind, payload) == message
    name, _ = PAGE_READER.message(kind, payload)
    assert name == type(message).__name__


@given(*(st.integers(0, 2**bits - 1) for bits in (64, 64, 32, 32)))
def test_an_ack_is_what_the_kernel_writes(session: int, version: int, epoch: int, chunks: int) -> None:
    """Its front is written once and kept, so nothing of one ack may be left in it for the next."""
    frame = codec.ack_frame(session, version, epoch, chunks)
    assert frame == frames.write_head(frames.ACK, (session, version, epoch, chunks))
    assert codec.read_ack_untrusted(frame[8:]) == frames.read_untrusted(frames.ACK, frame[8:])


@settings(max_examples=100)
@given(messages, st.data())
def test_a_message_that_is_cut_off_is_refused(message: Message, draw: st.DataObject) -> None:
    payload = codec.encode(message)[8:]
    length = draw.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(RemoteProtocolError):
        codec.decode_untrusted(codec.encode(message)[4], payload[:length])


@settings(max_examples=400)
@given(messages, st.integers(0, 2**32))
def test_changed_bytes_are_refused_or_are_another_message(message: Message, seed: int) -> None:
    """RemoteProtocolError or a message that can be written again; nothing else, for any bytes."""
    frame = codec.encode(message)
    kind = frame[4]
    payload = mutated(frame[8:], random.Random(seed))
    try:
        found = codec.decode_untrusted(kind, payload)
    except RemoteProtocolError:
        return
    if getattr(found, "code", None) is Reason.OTHER or getattr(found, "reason", None) is Reason.OTHER:
        return  # a number we do not know is read as "other" and never written
    again = codec.encode(found)
    assert codec.decode_untrusted(kind, again[8:]) == found


@settings(max_examples=400)
@given(hot, st.integers(0, 2**32))
def test_the_kernel_takes_nothing_that_the_page_refuses(message: Message, seed: int) -> None:
    """The kernel against a reader that follows only the page, on bytes neither expected."""
    frame = codec.encode(message)
    payload = mutated(frame[8:], random.Random(seed))
    try:
        found = codec.decode_untrusted(frame[4], payload)
    except RemoteProtocolError:
        return
    assert PAGE_READER.message(frame[4], payload)[1] == generate.meaning(found)


@settings(max_examples=400)
@given(rare, st.integers(0, 2**32))
def test_two_readers_that_take_the_same_bytes_see_the_same(message: Message, seed: int) -> None:
    """Cap'n Proto's library takes a little more than the page: structs of no words anywhere, and lists of plain
    numbers for lists of structs. Where both read, both read the same."""
    frame = codec.encode(message)
    payload = mutated(frame[8:], random.Random(seed))
    try:
        found = codec.decode_untrusted(frame[4], payload)
        _, fields = PAGE_READER.message(frame[4], payload)
    except (RemoteProtocolError, Refused):
        return
    if "flags" not in str(fields):  # a signature's flags of tomorrow are dropped
        assert fields == generate.meaning(found)


@given(st.integers(0, 255), data)
def test_any_bytes_of_any_kind_are_refused_or_read(kind: int, payload: bytes) -> None:
    try:
        codec.decode_untrusted(kind, payload)
    except RemoteProtocolError as error:
        assert str(error)


def test_an_unknown_kind_is_not_looked_at() -> None:
    """A newer peer may send what we do not know: skipped by its length, whatever is in it."""
    assert codec.decode_untrusted(200, b"anything") == Unknown(kind=200, payload_bytes=8)


def test_a_block_is_read_where_it_lies() -> None:
    """Zero copy: the block of a decoded frame is a window on the payload."""
    frame = codec.encode(SyncChunk(session=1, epoch=1, sequence=0, base=0, version=1, block=b"x" * 1000))
    payload = frame[8:]
    chunk = codec.decode_untrusted(Kind.SYNC_CHUNK, payload)
    assert isinstance(chunk, SyncChunk)
    assert isinstance(chunk.block, memoryview)
    assert chunk.block.obj is payload


@given(data)
def test_a_head_and_a_shared_block_are_the_frame(block: bytes) -> None:
    """What goes out as an iovec is byte for byte what `encode` writes."""
    head = codec.delta_head(
        session=1, epoch=2, base=3, version=4, tick=5, entity=6, command_ack=7, digest=(8, 9), block_bytes=len(block)
    )
    whole = codec.encode(
        DeltaSync(
            session=1,
            epoch=2,
            base=3,
            version=4,
            tick=5,
            entity=6,
            command_ack=7,
            digest_low=8,
            digest_high=9,
            block=block,
        )
    )
    assert head + block + codec.padding(len(block)) == whole
    assert len(whole) % 8 == 0


def test_importing_the_codec_does_not_load_pycapnp() -> None:
    """Only the first rare message does: the import of the package must stay fast."""
    code = "import sys, ecsnet.wire.codec, ecsnet.session.client; sys.exit('capnp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_codec_takes_back_pycapnps_import_hook() -> None:
    """It would look for *.capnp files at every later import of anything, in a program that never asked for it."""
    code = (
        "import sys; from ecsnet.wire import codec, messages; codec.encode(messages.Ping(nonce=1, sent_ns=2));"
        "sys.exit(any('capnp' in type(finder).__module__ for finder in sys.meta_path))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
