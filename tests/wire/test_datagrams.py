"""Datagrams as bytes: what is packed is read, by a reader of the page, too, and anything else is refused."""

import json
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecsnet.errors import RemoteProtocolError
from ecsnet.limits import DATAGRAM_BYTES_MAX, MESSAGE_TO_NODE_BYTES_MAX
from ecsnet.session.channel import Channel
from ecsnet.wire.datagrams import (
    FRAMES_BYTES_MAX,
    LANE,
    LINK_KINDS,
    UNRELIABLE,
    Datagram,
    fragment,
    is_reliable,
    opens_link_untrusted,
    pack,
    reset,
    reset_for_untrusted,
    unpack_untrusted,
)
from ecsnet.wire.framing import header
from ecsnet.wire.messages import Kind
from tests.wire.mutate import mutated
from tests.wire.page_reader import PageReader, Refused

VECTORS = json.loads(
    (Path(__file__).resolve().parents[2] / "schema" / "vectors" / "datagrams.json").read_text(encoding="utf-8")
)

u32 = st.integers(0, (1 << 32) - 1)
frames = st.lists(
    st.tuples(
        st.integers(0, 255), st.integers(0, 30).flatmap(lambda words: st.binary(min_size=8 * words, max_size=8 * words))
    ),
    max_size=4,
)


def bytes_of(frames: list[tuple[int, bytes]]) -> bytes:
    return b"".join(header(kind, len(payload)) + payload for kind, payload in frames)


@given(u32, u32, u32, frames)
def test_what_is_packed_is_read(sequence: int, ack: int, bits: int, frames: list[tuple[int, bytes]]) -> None:
    data = pack(sequence, ack, bits, bytes_of(frames))
    assert unpack_untrusted(data) == Datagram(sequence, ack, bits, frames)
    assert len(data) <= DATAGRAM_BYTES_MAX


@pytest.mark.parametrize("case", VECTORS["taken"], ids=lambda case: case["what"])
def test_the_vectors_mean_what_they_say_to_both_readers(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["bytes"])
    expected = (
        case["sequence"],
        case["ack"],
        case["ackBits"],
        [(frame["kind"], bytes.fromhex(frame["payload"])) for frame in case["frames"]],
    )
    assert tuple(unpack_untrusted(data)) == expected
    assert PageReader().datagram(data) == expected
    assert pack(*expected[:3], bytes_of(expected[3])) == data


@pytest.mark.parametrize("case", VECTORS["dropped"], ids=lambda case: case["what"])
def test_what_must_be_dropped_is_dropped(case: dict[str, Any]) -> None:
    channel = Channel(payload_bytes_max=MESSAGE_TO_NODE_BYTES_MAX, now_ns=0)
    assert channel.receive_untrusted(bytes.fromhex(case["bytes"]), 0) == []
    assert channel.statistics().refused + channel.statistics().early == 1
    assert channel.datagrams_to_send(1 << 40) == [], "nothing of it is acked"


def test_the_second_reader_drops_what_is_wrong_in_form() -> None:
    dropped = []
    for case in VECTORS["dropped"]:
        try:
            PageReader().datagram(bytes.fromhex(case["bytes"]))
        except Refused:
            dropped.append(case["what"])
    assert len(dropped) >= len(VECTORS["dropped"]) - 2, "the window and the acks need a link"


@given(st.binary(max_size=1300))
def test_no_bytes_raise_anything_but_a_protocol_error(data: bytes) -> None:
    for one in (data, pack(1, 0, 0, data[:FRAMES_BYTES_MAX])):
        try:
            unpack_untrusted(one)
        except RemoteProtocolError:
            continue
        opens_link_untrusted(one)
        reset_for_untrusted(one)


def test_damage_is_found() -> None:
    """Up to three bits of a datagram, as a bad line turns them; of what is cut or overwritten all but one in 2^32."""
    source = random.Random(3)
    whole = pack(7, 6, 5, bytes_of([(Kind.ACK, bytes(40)), (Kind.PING, bytes(range(24)))]))
    for _ in range(5000):
        data = bytearray(whole)
        for at in source.sample(range(8 * len(whole)), source.randrange(1, 4)):
            data[at // 8] ^= 1 << at % 8
        with pytest.raises(RemoteProtocolError):
            unpack_untrusted(bytes(data))
    for _ in range(2000):
        changed = mutated(whole, source)
        if changed != whole:
            with pytest.raises(RemoteProtocolError):
                unpack_untrusted(changed)


def test_a_link_begins_with_the_first_byte_of_a_lane_and_with_nothing_else() -> None:
    first = fragment(0, bytes(16))
    assert opens_link_untrusted(pack(1, 0, 0, first))
    assert opens_link_untrusted(pack(3, 0, 0, bytes_of([(Kind.PING, bytes(24))]) + first))
    for data in (
        pack(0, 0, 0, first),
        pack(1, 0, 0, fragment(8, bytes(8))),
        pack(1, 0, 0, bytes_of([(Kind.PING, bytes(24))])),
        pack(1, 0, 0, header(LANE, 8) + bytes(8)),
        pack(1, 0, 0, header(LANE, 0)),
        pack(1, 0, 0, b""),
        b"hello",
    ):
        assert not opens_link_untrusted(data)


def test_a_stranger_gets_a_reset_no_longer_than_what_it_sent_and_a_reset_gets_none() -> None:
    """Or two nodes could be made to talk to each other for ever, and anybody could be flooded by our hand."""
    data = pack(77, 0, 0, b"")
    answer = reset_for_untrusted(data)
    assert answer == reset(77)
    assert len(answer) <= len(data)
    assert reset_for_untrusted(answer) is None
    assert reset_for_untrusted(b"garbage") is None


def test_the_links_own_kinds_are_no_kinds_of_messages() -> None:
    assert max(Kind) < LINK_KINDS <= LANE
    assert {kind for kind in Kind if not is_reliable(kind)} == UNRELIABLE == {
        Kind.DELTA_SYNC, Kind.ACK, Kind.PING, Kind.PONG
    }  # fmt: skip
    assert is_reliable(250)


def test_numbers_outside_of_their_types_are_our_own_mistake() -> None:
    with pytest.raises(struct.error):
        pack(1 << 32, 0, 0, b"")
    with pytest.raises(AssertionError):
        pack(1, 0, 0, bytes(FRAMES_BYTES_MAX + 8))
