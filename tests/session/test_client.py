"""The client's end: tickets, pacing, and what a node may not say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecsnet.errors import (
    ArgumentError,
    ClosedError,
    LimitExceededError,
    LocalProtocolError,
    RemoteProtocolError,
    UnknownNameError,
)
from ecsnet.limits import COMMANDS_IN_FLIGHT_MAX, HANDSHAKE_DEADLINE_NS, NS_PER_S, PING_INTERVAL_NS, SILENCE_NS_MAX
from ecsnet.session.client import ClientSession, CommandAnswered, PeerLeft
from ecsnet.session.commands import signatures_hash
from ecsnet.session.states import State
from ecsnet.wire import messages as m
from tests.session.pair import CLIENT_ID, COMMANDS, EPOCH, FINGERPRINT, MS, SESSION, TARGET, Pair


def welcome(**changes: object) -> m.Welcome:
    fields: dict[str, object] = {
        "hz": 30,
        "epoch": EPOCH,
        "session": SESSION,
        "client_id": 7,
        "version": 10,
        "tick": 20,
        "message_bytes_max": 65536,
        "bytes_per_s": 65536,
        "commands_per_s": 120,
        "fingerprint": FINGERPRINT,
        "commands_hash": signatures_hash(COMMANDS),
    }
    return m.Welcome(**{**fields, **changes})  # type: ignore[arg-type]


def delta(base: int, version: int, **changes: object) -> m.DeltaSync:
    return m.DeltaSync(
        **{"session": SESSION, "epoch": EPOCH, "base": base, "version": version, "tick": 1, **changes}  # type: ignore[arg-type]
    )


def begin(base: int, first_version: int) -> m.SyncBegin:
    return m.SyncBegin(session=SESSION, epoch=EPOCH, base=base, first_version=first_version, tick=1)


def chunk(sequence: int, base: int, version: int) -> m.SyncChunk:
    return m.SyncChunk(session=SESSION, epoch=EPOCH, sequence=sequence, base=base, version=version, block=b"x")


def greeted() -> Pair:
    pair = Pair()
    pair.client.connect(0)
    pair.step()
    return pair


@pytest.mark.parametrize(
    "changes",
    [
        {"wire": 2},
        {"fingerprint": bytes(16)},
        {"session": 0},
        {"client_id": 0},
        {"hz": 0},
        {"hz": 2000},
        {"commands_per_s": 0},
        {"features": 1},
        {"command_next": 5},
        {"commands_hash": 1},
        {"commands_hash": 1, "commands": COMMANDS},
        {"commands_hash": signatures_hash(COMMANDS[:1] * 2), "commands": COMMANDS[:1] * 2},
    ],
    ids=repr,
)
def test_a_welcome_that_makes_no_sense_is_refused_and_changes_nothing(changes: dict[str, object]) -> None:
    pair = greeted()
    with pytest.raises(RemoteProtocolError):
        pair.give_client_message(welcome(**changes))
    assert pair.client.state is State.GREETED
    assert pair.client.session == 0
    pair.give_client_message(welcome())
    assert pair.client.live


def test_the_nodes_signatures_count_and_not_the_clients_own() -> None:
    """Two builds of a game may differ: what is sent must fit where it is run."""
    own = (m.CommandSignature(0, "steer", (m.Parameter("dx", m.ParameterKind.INT),)),)
    pair = Pair(ClientSession(fingerprint=FINGERPRINT, commands=own)).shake_hands()
    assert pair.client.commands["steer"] == COMMANDS[1]
    pair.client.send_command("steer", {"dx": 0.5}, tick=1, now_ns=pair.now_ns)


def test_a_schema_of_another_fingerprint_than_the_welcomes_is_refused() -> None:
    pair = Pair(ClientSession())
    pair.client.connect(0)
    pair.step()
    pair.give_client_message(welcome(commands=COMMANDS))
    assert pair.client.state is State.LEARNING
    with pytest.raises(RemoteProtocolError):
        pair.give_client_message(m.Schema(fingerprint=bytes(16), canonical="x"))
    with pytest.raises(LocalProtocolError):
        pair.client.send_command("attack", {"target": TARGET}, tick=1, now_ns=0)


def test_every_ticket_is_answered_with_its_version_or_its_reason() -> None:
    pair = Pair().shake_hands()
    first = pair.client.send_command("attack", {"target": TARGET}, tick=1, now_ns=pair.now_ns)
    second = pair.client.send_command("attack", {"target": 0}, tick=1, now_ns=pair.now_ns)
    pair.step()
    assert pair.client.commands_in_flight == 2
    pair.run_commands(version=11)
    pair.step()
    answers = [event for event in pair.client_events if isinstance(event, CommandAnswered)]
    assert [(a.ticket, a.sequence, a.status, a.version) for a in answers] == [
        (first, 1, m.CommandStatus.ACCEPTED, 11),
        (second, 2, m.CommandStatus.ACCEPTED, 11),
    ]
    assert pair.client.commands_in_flight == 0


def test_an_answer_that_comes_twice_is_told_once() -> None:
    pair = Pair().shake_hands()
    pair.client.send_command("attack", {"target": TARGET}, tick=1, now_ns=pair.now_ns)
    answer = m.CommandResult(sequence=1, status=m.CommandStatus.ACCEPTED, version=11, tick=21)
    pair.give_client_message(answer)
    pair.give_client_message(answer)
    pair.give_client_message(m.CommandResult(sequence=99, status=m.CommandStatus.ACCEPTED, version=11, tick=21))
    assert sum(isinstance(event, CommandAnswered) for event in pair.client_events) == 1


def test_a_latest_command_goes_out_once_a_tick_however_often_it_is_called() -> None:
    """A game loop calls it each frame; 60 frames a second must not become 60 commands at 30 ticks a second."""
    pair = Pair().shake_hands()
    tickets = []
    for _ in range(600):  # ten seconds of frames
        tickets.append(pair.client.send_command("steer", {"dx": 1.0}, tick=1, now_ns=pair.now_ns))
        pair.step(NS_PER_S // 60)
        pair.run_commands()
    pair.step()
    pair.run_commands()
    pair.step()
    sent = pair.server.statistics().commands_received
    assert 295 <= sent <= 302
    answers = [event for event in pair.client_events if isinstance(event, CommandAnswered)]
    superseded = {a.ticket for a in answers if a.status is m.CommandStatus.SUPERSEDED}
    accepted = {a.ticket for a in answers if a.status is m.CommandStatus.ACCEPTED}
    assert not superseded & accepted
    assert set(tickets[:-2]) <= superseded | accepted, "no ticket is left without an answer"
    assert len(accepted) == sent


def test_the_newest_call_of_a_latest_command_is_the_one_that_is_sent() -> None:
    pair = Pair().shake_hands()
    for dx in (1.0, 2.0, 3.0):
        pair.client.send_command("steer", {"dx": dx}, tick=int(dx), now_ns=pair.now_ns)
    pair.step()
    [command] = pair.server.take_commands()
    assert command.values == (3.0,) and command.tick == 3


def test_a_client_that_was_away_does_not_catch_up_in_a_burst() -> None:
    pair = Pair().shake_hands()
    pair.client.send_command("steer", {"dx": 1.0}, tick=1, now_ns=pair.now_ns)
    pair.step()
    pair.now_ns += 5 * NS_PER_S
    for _ in range(10):
        pair.client.send_command("steer", {"dx": 1.0}, tick=1, now_ns=pair.now_ns)
        pair.step(1 * MS)
    assert pair.server.statistics().commands_received == 2


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("atack", {}, UnknownNameError),
        ("attack", {}, ArgumentError),
        ("attack", {"target": "you"}, ArgumentError),
        ("attack", {"target": TARGET, "damage": 1}, UnknownNameError),
        ("steer", {"dx": float("nan")}, ArgumentError),
    ],
)
def test_a_command_that_cannot_be_is_refused_before_it_is_sent(
    name: str, arguments: dict[str, object], error: type[Exception]
) -> None:
    pair = Pair().shake_hands()
    with pytest.raises(error):
        pair.client.send_command(name, arguments, tick=1, now_ns=pair.now_ns)
    pair.step()
    assert pair.server.statistics().commands_received == 0
    assert pair.client.send_command("attack", {"target": TARGET}, tick=1, now_ns=pair.now_ns) == 1


def test_an_honest_client_never_overruns_the_nodes_rate() -> None:
    """It is told here, by an exception, before the node would reject its commands."""
    pair = Pair().shake_hands()
    refused = 0
    for _ in range(3000):
        try:
            pair.client.send_command("attack", {"target": TARGET}, tick=1, now_ns=pair.now_ns)
        except LimitExceededError:
            refused += 1
        pair.step(1 * MS)
        pair.run_commands()
    assert refused > 0
    answers = [event for event in pair.client_events if isinstance(event, CommandAnswered)]
    assert len(answers) > 350
    assert all(answer.status is m.CommandStatus.ACCEPTED for answer in answers)


def test_a_sync_is_followed_chunk_by_chunk() -> None:
    pair = Pair().shake_hands()
    pair.client_events.clear()
    sent = [begin(0, 10), chunk(0, 0, 10), chunk(1, 0, 11), delta(10, 12), delta(12, 13)]
    for message in sent:
        pair.give_client_message(message)
    assert pair.client_events == sent
    pair.client.ack(13)
    pair.step()
    assert pair.server_events[-1] == (13, 0)


@pytest.mark.parametrize(
    "messages",
    [
        [chunk(0, 0, 10)],
        [begin(0, 10), chunk(1, 0, 10)],
        [begin(0, 10), chunk(0, 0, 10), chunk(0, 0, 10)],
        [begin(0, 10), chunk(0, 1, 10)],
        [begin(0, 10), chunk(0, 0, 9)],
        [begin(0, 10), delta(11, 12)],
        [begin(0, 10), begin(9, 12)],
        [delta(1, 2, session=1)],
        [delta(1, 2, epoch=EPOCH + 1)],
        [delta(1, 2, clock=((1, 2),))],
        [delta(1, 2, part=0, parts=2)],
        [delta(1, 2, flags=m.PARTIAL, digest_low=7)],
        [welcome()],
        [m.Schema(fingerprint=FINGERPRINT, canonical="x")],
        [m.Ack(session=SESSION, epoch=EPOCH, version=1)],
        [m.Command(session=SESSION, sequence=1, tick=1, command=0)],
        [m.Hello()],
    ],
    ids=[
        "a chunk without a sync",
        "a chunk too far",
        "a chunk twice",
        "a chunk of another base",
        "a chunk before the first version",
        "a closing delta after the first version",
        "a sync that goes on elsewhere",
        "another session",
        "another epoch",
        "a clock",
        "a part",
        "a digest of a part of what changed",
        "a second welcome",
        "a schema nobody asked for",
        "a client's ack",
        "a client's command",
        "a client's hello",
    ],
)
def test_what_a_node_may_not_say_is_refused(messages: list[m.Message]) -> None:
    pair = Pair().shake_hands()
    for message in messages[:-1]:
        pair.give_client_message(message)
    state, events = pair.client.state, list(pair.client_events)
    with pytest.raises(RemoteProtocolError) as caught:
        pair.give_client_message(messages[-1])
    assert pair.client.state is state and pair.client_events == events, "nothing of the frame counts"
    pair.client.fail(caught.value)
    pair.step()
    left = pair.server_events[-1]
    assert pair.client.closed and pair.server.closed and left[0] == caught.value.reason


def test_a_sync_can_go_on_from_where_it_was_or_start_anew() -> None:
    pair = Pair().shake_hands()
    for message in (begin(0, 10), chunk(0, 0, 10), begin(10, 20), chunk(0, 10, 20), begin(0, 30), chunk(0, 0, 30)):
        pair.give_client_message(message)
    pair.give_client_message(delta(30, 31))
    assert pair.client.state is State.LIVE


def test_a_client_without_an_answer_gives_up() -> None:
    client = ClientSession()
    assert client.next_timeout_ns() is None
    client.connect(0)
    assert client.next_timeout_ns() == HANDSHAKE_DEADLINE_NS
    client.handle_timeout(HANDSHAKE_DEADLINE_NS)
    event = client.next_event()
    assert isinstance(event, PeerLeft) and event.reason is m.Reason.TIMEOUT
    assert client.closed
    with pytest.raises(ClosedError):
        client.send_command("attack", {}, tick=0, now_ns=0)


def test_a_client_that_still_lacks_the_schema_names_no_time_that_is_past() -> None:
    """A driver sleeps until the named time, does what is due and asks again: if nothing was, it never sleeps."""
    pair = Pair(ClientSession())
    pair.client.connect(0)
    pair.step()
    pair.server.welcome(session=SESSION, client_id=CLIENT_ID, epoch=EPOCH, version=10, tick=20)
    pair.collect()
    [welcome_frame, schema_frame] = pair.to_client
    pair.give_client(welcome_frame)

    pair.client.handle_timeout(pair.now_ns)

    due = pair.client.next_timeout_ns()
    assert due is not None and due > pair.now_ns
    pair.give_client(schema_frame)
    assert any(frame[4] == m.Kind.PING for frame in pair.client.frames_to_send(pair.now_ns))


def test_a_client_with_too_much_unanswered_names_no_time_that_is_past() -> None:
    """What waits then waits for an answer, not for a time."""
    pair = Pair().shake_hands()
    for _ in range(COMMANDS_IN_FLIGHT_MAX):
        pair.now_ns += NS_PER_S // 50
        pair.client.heard(pair.now_ns)
        pair.client.send_command("attack", {"target": TARGET}, tick=20, now_ns=pair.now_ns)
    pair.client.send_command("steer", {"dx": 1.0}, tick=20, now_ns=pair.now_ns)
    pair.collect()
    pair.now_ns += 100 * MS
    pair.client.heard(pair.now_ns)

    pair.client.handle_timeout(pair.now_ns)

    due = pair.client.next_timeout_ns()
    assert due is not None and due > pair.now_ns
    assert not [frame for frame in pair.client.frames_to_send(pair.now_ns) if frame[4] == m.Kind.COMMAND]


def test_pings_measure_the_round_trip_and_the_nodes_clock() -> None:
    pair = Pair().shake_hands()
    ahead_ns = 7 * NS_PER_S
    for _ in range(20):
        pair.now_ns += PING_INTERVAL_NS
        pings = pair.client.frames_to_send(pair.now_ns)
        pair.now_ns += 20 * MS + ahead_ns  # the node's clock, when they arrive
        for frame in pings:
            pair.give_server(frame)
        pair.now_ns += 20 * MS - ahead_ns
        for message in pair.said():
            pair.give_client_message(message)
    assert pair.client.rtt_ns == 40 * MS
    assert pair.client.clock_offset_ns == ahead_ns


def test_a_node_that_falls_silent_is_given_up() -> None:
    pair = Pair().shake_hands()
    due = pair.client.next_timeout_ns()
    assert due is not None and due <= pair.now_ns + PING_INTERVAL_NS, "a silent node is asked"
    pair.client.handle_timeout(pair.now_ns + SILENCE_NS_MAX + NS_PER_S)
    assert isinstance(pair.client.next_event(), PeerLeft)


def test_a_pong_that_was_made_up_moves_no_clock() -> None:
    pair = Pair().shake_hands()
    pair.give_client_message(m.Pong(nonce=999, sent_ns=0, received_ns=1 << 60))
    pair.give_client_message(m.Pong(nonce=0, sent_ns=1 << 62, received_ns=1 << 60))
    assert pair.client.clock_offset_ns is None or abs(pair.client.clock_offset_ns) < NS_PER_S


def test_a_pings_answer_comes_from_either_side() -> None:
    pair = Pair().shake_hands()
    pair.give_client_message(m.Ping(nonce=5, sent_ns=6))
    [frame] = [frame for frame in pair.client.frames_to_send(pair.now_ns) if frame[4] == m.Kind.PONG]
    pair.give_server(frame)


def test_a_goodbye_ends_both_sides_and_says_why() -> None:
    pair = Pair().shake_hands()
    pair.client.goodbye(message="dinner")
    pair.step()
    assert pair.server.closed
    assert pair.server_events[-1] == (m.Reason.LEFT, "dinner")
    pair.client.goodbye()
    assert pair.client.frames_to_send(pair.now_ns) == []


def test_an_error_that_ends_nothing_is_for_the_log() -> None:
    pair = Pair().shake_hands()
    pair.client_events.clear()
    pair.give_client_message(m.Error(code=m.Reason.NOT_BUILT, kind=10, message="planned"))
    pair.give_client_message(m.Error(code=m.Reason.KICKED, fatal=True, message="the Goodbye says it"))
    [error] = pair.client_events
    assert isinstance(error, m.Error) and not error.fatal
    assert pair.client.live


@pytest.mark.parametrize(
    "message", [m.Auth(), m.Event(session=1, sequence=1, version=1, tick=1, key=1, epoch=1, subscription=1)]
)
def test_a_client_refuses_what_it_cannot_do_yet(message: m.Message) -> None:
    pair = Pair().shake_hands()
    pair.give_client_message(message)
    frames = pair.client.frames_to_send(pair.now_ns)
    assert m.Kind.ERROR in [frame[4] for frame in frames]
    assert pair.client.live


@pytest.mark.parametrize("name", ["x" * 64, "two\nlines", "\x1b[2J"])
def test_a_name_that_a_node_would_refuse_is_refused_here(name: str) -> None:
    with pytest.raises(ArgumentError):
        ClientSession(name=name)


kinds = st.integers(0, 20)


@given(st.lists(st.tuples(st.booleans(), kinds, st.binary(max_size=64)), max_size=20))
def test_any_frames_at_any_time_end_the_session_or_are_taken(frames: list[tuple[bool, int, bytes]]) -> None:
    """Neither end ever raises anything but RemoteProtocolError for what the other one says."""
    pair = Pair().shake_hands()
    for to_client, kind, content in frames:
        payload = bytes(4) + (len(content) // 8).to_bytes(4, "little") + content[: len(content) // 8 * 8]
        end = pair.client if to_client else pair.server
        try:
            end.receive_frame(kind, payload, pair.now_ns)
        except RemoteProtocolError as error:
            end.fail(error)
            assert end.closed
        pair.collect()
        pair.to_client.clear()
        pair.to_server.clear()
