"""A client that loses its connection goes on from another, and shows nothing but whole versions meanwhile."""

from typing import Any

import pytest
from msgspec.structs import replace

from ecsnet.errors import ClosedError, LocalProtocolError, RemoteProtocolError, SchemaMismatchError
from ecsnet.limits import FRAME_HEADER_BYTES, NS_PER_S, SILENCE_NS_MAX
from ecsnet.replica import Diverged, EpochChanged, Event, Replica, StateChanged
from ecsnet.wire.codec import decode_untrusted, encode
from ecsnet.wire.messages import DeltaSync, Error, Goodbye, Kind, Reason
from tests.arena import arena
from tests.helpers import Pair


def events_of(replica: Replica) -> list[Event]:
    events = []
    while (event := replica.next_event()) is not None:
        events.append(event)
    return events


def give(pair: Pair, message: Any) -> None:
    frame = encode(message)
    pair.replica.receive_frame(frame[4], frame[FRAME_HEADER_BYTES:], pair.now_ns)


def live_pair(**given: Any) -> Pair:
    pair = Pair(arena(), reconnects=True, **given)
    pair.run_until_live()
    pair.replica.send("steer", dx=1.0, dy=0.0)
    pair.step(10)
    return pair


def test_a_lost_client_shows_what_it_had_until_a_whole_version_of_the_next_session_is_there() -> None:
    with live_pair(linger_s=0) as pair:
        replica = pair.replica
        events_of(replica)
        before = (replica.version, replica.tick, replica.entity)
        with replica.view() as view:
            digest = view.digest()

        pair.wire.lose(pair.now_ns)

        assert (replica.state, replica.reconnecting, replica.closing) == ("resuming", True, True)
        pair.step(5)
        pair.reconnect()
        assert (replica.state, replica.reconnecting, replica.closing) == ("resuming", False, False)
        assert (replica.version, replica.tick, replica.entity) == before[:3]
        with replica.view() as view:
            assert view.digest() == digest

        pair.run_until_live()
        pair.step(5)
        assert len(pair.digests()) == 1
        assert replica.statistics().full_syncs_applied == 2
        assert replica.statistics().reconnects == 1
        assert events_of(replica) == [
            StateChanged("live", "resuming", "the connection was lost"),
            StateChanged("resuming", "live"),
        ]


def test_a_view_of_before_stays_valid_after_the_new_world_has_taken_its_place() -> None:
    with live_pair(linger_s=0) as pair:
        old = pair.replica.view()
        digest = old.digest()
        pair.wire.lose(pair.now_ns)
        pair.reconnect()
        pair.run_until_live()
        pair.step(10)

        assert old.digest() == digest
        with pair.replica.view() as new:
            assert new.version > old.version
        old.close()


def test_a_node_that_began_anew_is_noticed_and_its_lower_versions_are_shown() -> None:
    with live_pair() as pair:
        replica = pair.replica
        pair.step(50)
        epoch, version = replica.epoch, replica.version
        events_of(replica)

        pair.restart(seed=99)
        pair.reconnect()
        assert replica.epoch == epoch, "of what is shown"
        pair.run_until_live()

        assert replica.epoch == pair.authority.epoch != epoch
        assert replica.version < version
        assert len(pair.digests()) == 1
        assert events_of(replica)[1:] == [EpochChanged(epoch, replica.epoch), StateChanged("resuming", "live")]


def test_commands_wait_for_nothing_while_the_connection_is_lost() -> None:
    """Where no session goes on, what was unanswered stays pending, and says why; nothing new is taken before there is
    somebody to ask."""
    with live_pair(latency_ticks=3, linger_s=0) as pair:
        replica = pair.replica
        lost = replica.send("hit", target=replica.entity)
        pair.wire.lose(pair.now_ns)
        assert (lost.status, lost.version) == ("pending", None)
        assert "lost" in lost.reason
        with pytest.raises(LocalProtocolError):
            replica.send("hit", target=replica.entity)

        pair.reconnect()
        pair.wire.reads = False
        pair.step(6)
        pair.wire.client_reader.feed(pair.wire.down.read(pair.steps))
        welcome = pair.wire.client_reader.next_frame()
        assert welcome is not None
        replica.receive_frame(welcome.kind, welcome.payload, pair.now_ns)
        assert replica.session, "the Welcome is there, the first version is not"
        assert replica.state == "resuming"
        with pytest.raises(LocalProtocolError):
            replica.send("hit", target=replica.entity)

        pair.wire.reads = True
        pair.run_until_live()
        again = replica.send("hit", target=replica.entity)
        pair.step(10)
        assert again.status == "accepted"
        assert again.number == lost.number + 1, "numbers go on"
        assert lost.status == "pending"


@pytest.mark.parametrize("reason", [Reason.SHUTDOWN, Reason.TOO_SLOW, Reason.FULL, Reason.TIMEOUT, Reason.INTERNAL])
def test_a_goodbye_that_may_pass_is_a_loss(reason: Reason) -> None:
    with live_pair() as pair:
        give(pair, Goodbye(reason=reason, message="come back"))
        assert (pair.replica.state, pair.replica.reconnecting, pair.replica.error) == ("resuming", True, None)
        assert pair.replica.farewell == (reason, "come back")
        pair.wire.lose(pair.now_ns)
        pair.reconnect()
        pair.run_until_live()
        assert pair.replica.farewell is None


@pytest.mark.parametrize("reason", [Reason.KICKED, Reason.REJECTED, Reason.SCHEMA_MISMATCH, Reason.BAD_FRAME])
def test_a_goodbye_that_would_come_again_closes(reason: Reason) -> None:
    with live_pair() as pair:
        give(pair, Goodbye(reason=reason, message="no"))
        assert (pair.replica.state, pair.replica.reconnecting) == ("closed", False)
        with pytest.raises(ClosedError):
            pair.replica.send("hit", target=pair.replica.entity)
        with pytest.raises(LocalProtocolError):
            pair.replica.connect(pair.now_ns)


def test_without_being_asked_to_a_replica_closes_as_ever() -> None:
    with Pair(arena()) as pair:
        pair.run_until_live()
        pair.wire.lose(pair.now_ns)
        assert (pair.replica.state, pair.replica.reconnecting) == ("closed", False)


def test_silence_is_a_loss_and_says_goodbye_on_the_old_line() -> None:
    with live_pair() as pair:
        pair.wire.cut()
        now_ns = pair.now_ns + SILENCE_NS_MAX + NS_PER_S
        pair.replica.handle_timeout(now_ns)
        assert pair.replica.reconnecting
        assert pair.replica.next_timeout_ns() is None
        frames = pair.replica.frames_to_send(now_ns)
        assert frames[-1][4] == Kind.GOODBYE
        assert pair.replica.frames_to_send(now_ns) == []


def test_a_broken_protocol_is_not_tried_again() -> None:
    with live_pair() as pair:
        pair.replica.receive_frame(Kind.DELTA_SYNC, b"nonsense", pair.now_ns)
        assert pair.replica.state == "closed"
        assert isinstance(pair.replica.error, RemoteProtocolError)


def test_what_still_arrives_on_a_lost_line_is_nobodys() -> None:
    with live_pair() as pair:
        pair.wire.down.record = True
        pair.step(2)
        pair.wire.lose(pair.now_ns)
        before = pair.replica.statistics()
        for frame in pair.wire.down.written:
            pair.replica.receive_frame(frame[4], frame[FRAME_HEADER_BYTES:], pair.now_ns)
        give(pair, Error(code=Reason.OTHER, message="?"))
        pair.replica.handle_timeout(pair.now_ns + 100 * NS_PER_S)
        pair.replica.receive_error(RemoteProtocolError("garbage"), pair.now_ns)
        pair.replica.disconnected(pair.now_ns)
        assert pair.replica.statistics() == before
        assert pair.replica.reconnecting


def test_a_first_version_that_cannot_be_trusted_leaves_what_is_shown() -> None:
    """The store of the next session is filled on the side, and looked at before it is shown."""
    with live_pair(linger_s=0) as pair:
        replica = pair.replica
        version, entity = replica.version, replica.entity
        with replica.view() as view:
            digest = view.digest()
        pair.wire.lose(pair.now_ns)
        pair.reconnect()
        wire = pair.wire
        wire.reads = False
        pair.step()
        wire.client_reader.feed(wire.down.read(pair.steps))
        for frame in iter(wire.client_reader.next_frame, None):
            message = decode_untrusted(frame.kind, frame.payload)
            if isinstance(message, DeltaSync):
                message = replace(message, digest_low=message.digest_low ^ 1)
            give(pair, message)

        assert replica.state == "closed"
        assert any(isinstance(event, Diverged) for event in events_of(replica))
        assert (replica.version, replica.entity) == (version, entity)
        with replica.view() as view:
            assert view.digest() == digest


def test_closing_while_the_connection_is_lost_is_for_good_and_says_nothing() -> None:
    with live_pair() as pair:
        pair.wire.lose(pair.now_ns)
        pair.replica.close(pair.now_ns)
        assert (pair.replica.state, pair.replica.reconnecting) == ("closed", False)
        assert pair.replica.frames_to_send(pair.now_ns) == []
        with pytest.raises(LocalProtocolError):
            pair.replica.connect(pair.now_ns)


def test_a_transport_is_taken_once() -> None:
    with live_pair() as pair:
        pair.wire.lose(pair.now_ns)
        pair.replica.connect(pair.now_ns)
        with pytest.raises(LocalProtocolError):
            pair.replica.connect(pair.now_ns)


def test_a_line_that_is_lost_again_before_the_first_version_is_replaced_again() -> None:
    with live_pair(latency_ticks=2) as pair:
        version = pair.replica.version
        for _ in range(3):
            pair.wire.lose(pair.now_ns)
            pair.reconnect()
            pair.step(3)
            assert (pair.replica.state, pair.replica.version) == ("resuming", version)
        pair.run_until_live()
        pair.step(10)
        assert pair.replica.version > version
        assert pair.replica.statistics().reconnects == 3


def test_a_client_that_never_was_live_tries_again_too() -> None:
    with Pair(arena(), reconnects=True, latency_ticks=2) as pair:
        pair.wire.lose(pair.now_ns)
        assert (pair.replica.state, pair.replica.reconnecting) == ("resuming", True)
        pair.reconnect()
        pair.run_until_live()


def test_a_client_that_learned_the_schema_keeps_it_and_refuses_another() -> None:
    with Pair(arena(), reconnects=True, knows=None) as pair:
        pair.run_until_live()
        pair.wire.lose(pair.now_ns)
        pair.reconnect()
        pair.run_until_live()
        assert len(pair.digests()) == 1
        give(pair, Goodbye(reason=Reason.SCHEMA_MISMATCH, message="another"))
        assert isinstance(pair.replica.error, SchemaMismatchError)
