"""Both cores are handed anything at all: well-formed messages with wild contents, and bytes that are nothing.

What is promised: no exception, no effect on another client, nothing half-applied; the link is closed or goes on.
"""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from ecsnet.authority import Authority, Link
from ecsnet.errors import EcsnetError
from ecsnet.limits import FRAME_HEADER_BYTES
from ecsnet.replica import Replica
from ecsnet.wire import messages
from ecsnet.wire.codec import encode
from ecsnet.wire.messages import Kind, Message
from tests.arena import arena
from tests.helpers import Pair

U16 = st.integers(0, (1 << 16) - 1)
U32 = st.one_of(st.integers(0, 4), st.integers(0, (1 << 32) - 1))
U64 = st.one_of(st.integers(0, 4), st.integers(0, (1 << 64) - 1))

JUNK = st.tuples(st.integers(0, 255), st.binary(max_size=300))
TO_NODE = st.one_of(
    st.builds(
        messages.Hello, wire_min=U16, wire_max=U16, fingerprint=st.binary(max_size=16), name=st.text(max_size=20)
    ),
    st.builds(messages.Ack, session=U64, epoch=U32, version=U64, chunks=U32),
    st.builds(messages.Command, session=U64, sequence=U32, tick=U64, command=U16, arguments=st.binary(max_size=64)),
    st.builds(messages.Ping, nonce=U32, sent_ns=st.integers(0, 1 << 62)),
    st.builds(messages.Goodbye, reason=st.sampled_from(messages.Reason), message=st.text(max_size=20)),
)
TO_CLIENT = st.one_of(
    st.builds(
        messages.DeltaSync,
        session=U64,
        epoch=U32,
        base=U64,
        version=U64,
        tick=U64,
        entity=U64,
        command_ack=U32,
        digest_low=U64,
        block=st.binary(max_size=200),
    ),
    st.builds(messages.SyncBegin, session=U64, epoch=U32, base=U64, first_version=U64, tick=U64),
    st.builds(
        messages.SyncChunk,
        session=U64,
        epoch=U32,
        sequence=U32,
        base=U64,
        version=U64,
        block=st.binary(max_size=200),
    ),
    st.builds(
        messages.CommandResult, sequence=U32, status=st.sampled_from(messages.CommandStatus), version=U64, tick=U64
    ),
    st.builds(messages.Ping, nonce=U32, sent_ns=st.integers(0, 1 << 62)),
)


def framed(message: Message, session: int, epoch: int, known: bool) -> tuple[int, bytes]:
    """Kind and payload; with the right session and epoch where that is asked for, or nothing else would be reached."""
    given: dict[str, Any] = {}
    if known and hasattr(message, "session"):
        given["session"] = session
    if known and hasattr(message, "epoch"):
        given["epoch"] = epoch
    frame = encode(msgspec.structs.replace(message, **given))
    return frame[4], frame[FRAME_HEADER_BYTES:]


ANY_TO_NODE = st.one_of(JUNK, st.tuples(TO_NODE, st.booleans()))
ANY_TO_CLIENT = st.one_of(JUNK, st.tuples(TO_CLIENT, st.booleans()))


@settings(max_examples=150)
@given(st.lists(ANY_TO_NODE, max_size=12), st.booleans())
def test_a_client_can_send_anything_and_hurts_itself_at_the_worst(sent: list[Any], live: bool) -> None:
    with Pair(arena(on_error="log"), clients=2) as pair:
        pair.run_until_live()
        bad, good = pair.wires
        link: Link | None = bad.link if live else pair.authority.open_link(pair.now_ns)
        assert link is not None
        for first, second in sent:
            if isinstance(first, int):
                kind, payload = first, second
            else:
                kind, payload = framed(first, bad.replica.session, bad.replica.epoch, second)
            pair.authority.receive_frame(link, kind, payload, pair.now_ns)
        ticket = good.replica.send("hit", target=good.replica.entity)
        pair.step(3)

        assert ticket.status == "accepted"
        assert good.replica.state == "live"
        assert good.replica.version == pair.authority.version
        with good.replica.view() as ours, pair.authority.store.view() as theirs:
            assert ours.digest() == theirs.digest()


@settings(max_examples=150)
@given(st.lists(ANY_TO_CLIENT, max_size=12))
def test_a_node_can_send_anything_and_a_replica_keeps_what_it_had(sent: list[Any]) -> None:
    with Pair(arena()) as pair:
        pair.run_until_live()
        replica = pair.replica
        with replica.view() as view:
            version, digest = view.version, view.digest()
        for first, second in sent:
            if isinstance(first, int):
                kind, payload = first, second
            else:
                kind, payload = framed(first, replica.session, replica.epoch, second)
            replica.receive_frame(kind, payload, pair.now_ns)
            replica.frames_to_send(pair.now_ns)
        with replica.view() as view:
            # An empty delta to another version is legal, and changes nothing but that.
            assert view.version >= version
            assert view.digest() == digest
        assert replica.state == "live" or replica.error is not None or replica.farewell is not None


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(list(Kind)), st.binary(max_size=64)), min_size=1, max_size=8))
def test_before_any_handshake_both_ends_take_no_nonsense(sent: list[tuple[Kind, bytes]]) -> None:
    authority, replica = Authority(arena()), Replica(arena_world := arena())
    assert replica.world is arena_world
    link = authority.open_link(0)
    replica.connect(0)
    for kind, payload in sent:
        authority.receive_frame(link, kind, payload, 0)
        replica.receive_frame(kind, payload, 0)
    authority.tick(1)
    while (transmit := authority.next_transmit(link, 1)) is not None:
        authority.record_sent(link, transmit, 1)
    assert link.state in ("handshake", "closing")
    assert replica.error is None or isinstance(replica.error, EcsnetError)
    authority.close()
    replica.release()
