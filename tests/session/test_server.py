"""The node's end: who is let in, and what each command, ack and silence comes to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecsnet.errors import LimitExceededError, LocalProtocolError, RemoteProtocolError
from ecsnet.limits import (
    COMMAND_ANSWERS_KEPT,
    COMMANDS_PER_S_MAX,
    HANDSHAKE_DEADLINE_NS,
    NS_PER_S,
    REASON_BYTES_MAX,
    SILENCE_NS_MAX,
    TOKEN_BYTES_MAX,
)
from ecsnet.session.bucket import TokenBucket
from ecsnet.session.client import ClientSession
from ecsnet.session.commands import signatures_text
from ecsnet.session.server import AckReceived, Offer, Outcome, PeerLeft, clip_text
from ecsnet.session.states import State
from ecsnet.wire import codec
from ecsnet.wire import messages as m
from tests.session.pair import COMMANDS, EPOCH, OFFER, SESSION, TARGET, Pair
from tests.wire.strategies import signatures


def command(sequence: int, *, number: int = 0, arguments: bytes | None = None, session: int = SESSION) -> m.Command:
    data = TARGET.to_bytes(8, "little") if arguments is None else arguments
    return m.Command(session=session, sequence=sequence, tick=5, command=number, arguments=data)


def test_a_client_with_the_nodes_schema_and_commands_is_live_after_one_round_trip() -> None:
    pair = Pair()
    pair.client.connect(0)
    pair.step()
    pair.server.welcome(session=SESSION, client_id=7, epoch=EPOCH, version=10, tick=20)
    assert pair.server.live
    pair.step()
    assert pair.client.live
    [welcome] = pair.client_events
    assert isinstance(welcome, m.Welcome)
    assert (welcome.version, welcome.tick, welcome.hz, welcome.name) == (10, 20, 30, "arena")
    assert welcome.commands == (), "equal hashes spare the list"
    assert pair.client.commands == {signature.name: signature for signature in COMMANDS}


def test_a_client_without_schema_and_commands_is_sent_both() -> None:
    """A client without the game's code sends by name and is checked too."""
    pair = Pair(ClientSession(name="tool")).shake_hands()
    welcome, schema = pair.client_events
    assert isinstance(welcome, m.Welcome) and welcome.commands == COMMANDS
    assert isinstance(schema, m.Schema) and schema.canonical == "the schema"
    assert pair.client.state is pair.server.state is State.LIVE
    assert pair.client.send_command("attack", {"target": TARGET}, tick=1, now_ns=pair.now_ns) == 1


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (m.Hello(fingerprint=bytes(16)), m.Reason.SCHEMA_MISMATCH),
        (m.Hello(wire_min=2, wire_max=9), m.Reason.WIRE_MISMATCH),
        (m.Hello(token=bytes(TOKEN_BYTES_MAX + 1)), m.Reason.TOO_LARGE),
        (m.Hello(message_bytes_max=1000), m.Reason.TOO_LARGE),
    ],
    ids=["another schema", "a future wire", "a long token", "a small limit"],
)
def test_a_hello_that_cannot_be_served_is_told_why(hello: m.Hello, reason: m.Reason) -> None:
    pair = Pair()
    with pytest.raises(RemoteProtocolError) as caught:
        pair.give_server_message(hello)
    assert pair.server_events == []
    pair.server.fail(caught.value)
    error, goodbye = pair.said()
    assert isinstance(error, m.Error) and error.fatal and error.code == reason and error.message
    assert isinstance(goodbye, m.Goodbye) and goodbye.reason == reason
    assert pair.server.closed


def test_a_refused_client_learns_the_games_reason() -> None:
    pair = Pair()
    pair.client.connect(0)
    pair.step()
    pair.server.refuse(m.Reason.FULL, "the arena is full", reconnect_after_ms=500)
    pair.step()
    [left] = pair.client_events
    assert left == (m.Reason.FULL, "the arena is full", 500)
    assert pair.client.closed


def test_a_welcome_needs_a_hello() -> None:
    pair = Pair()
    with pytest.raises(LocalProtocolError):
        pair.server.welcome(session=SESSION, client_id=7, epoch=EPOCH, version=0, tick=0)


@pytest.mark.parametrize("shaken", [False, True])
def test_what_is_not_built_is_refused_with_what_to_do_instead(shaken: bool) -> None:
    """Never ignored, and the session goes on."""
    pair = Pair().shake_hands() if shaken else Pair()
    state = pair.server.state
    pair.give_server_message(m.Auth())
    [error] = pair.said()
    assert isinstance(error, m.Error)
    assert error.code == m.Reason.NOT_BUILT and not error.fatal
    assert error.kind == m.Kind.AUTH
    assert "planned" in error.message and ";" in error.message
    assert pair.server.state is state


def test_a_repeated_command_runs_once_and_is_answered_again() -> None:
    pair = Pair().shake_hands()
    pair.give_server_message(command(1))
    pair.give_server_message(command(1))
    assert pair.said() == [], "not answered yet: the answer is coming"
    assert pair.run_commands(version=11) == [1]
    [first] = pair.said()

    pair.give_server_message(command(1))
    assert pair.run_commands() == []
    assert pair.said() == [first]
    assert pair.server.command_ack == 1
    assert pair.server.statistics().commands_repeated == 2


def test_a_gap_in_the_sequence_ends_the_session() -> None:
    """On an ordered stream none can be lost: the peer is broken or lying."""
    pair = Pair().shake_hands()
    pair.give_server_message(command(1))
    with pytest.raises(RemoteProtocolError, match="command 3 came after command 1"):
        pair.give_server_message(command(3))
    assert pair.run_commands() == [1], "what came before still counts"


@given(st.lists(st.integers(1, 30), max_size=60))
def test_any_order_of_sequences_runs_each_once_and_in_order(order: list[int]) -> None:
    pair = Pair().shake_hands()
    ran: list[int] = []
    for sequence in order:
        try:
            pair.give_server_message(command(sequence))
        except RemoteProtocolError:
            assert sequence > len(ran) + 1
            continue
        ran += pair.run_commands()
    assert ran == list(range(1, len(ran) + 1))


def test_answers_are_forgotten_after_a_while_but_no_command_runs_twice() -> None:
    pair = Pair().shake_hands()
    total = COMMAND_ANSWERS_KEPT + 10
    for sequence in range(1, total + 1):
        pair.now_ns += NS_PER_S // COMMANDS_PER_S_MAX
        pair.give_server_message(command(sequence))
        assert pair.run_commands() == [sequence]
    pair.said()
    for old in (1, 10):
        pair.give_server_message(command(old))
    pair.give_server_message(command(11))
    [again] = pair.said()
    assert isinstance(again, m.CommandResult) and again.sequence == 11
    assert pair.run_commands() == []


def test_of_latest_commands_in_one_tick_only_the_newest_runs() -> None:
    pair = Pair().shake_hands()
    steer = bytes(8)
    for sequence, number in ((1, 1), (2, 0), (3, 1), (4, 1), (5, 0)):
        pair.give_server_message(command(sequence, number=number, arguments=steer if number else None))
    assert pair.run_commands() == [2, 4, 5]
    statuses = {answer.sequence: answer.status for answer in pair.said() if isinstance(answer, m.CommandResult)}
    assert statuses == {
        1: m.CommandStatus.SUPERSEDED,
        2: m.CommandStatus.ACCEPTED,
        3: m.CommandStatus.SUPERSEDED,
        4: m.CommandStatus.ACCEPTED,
        5: m.CommandStatus.ACCEPTED,
    }
    pair.give_server_message(command(6, number=1, arguments=steer))
    assert pair.run_commands() == [6], "another tick, another newest"


def test_a_latest_command_that_is_refused_supersedes_nothing() -> None:
    pair = Pair().shake_hands()
    pair.give_server_message(command(1, number=1, arguments=bytes(8)))
    pair.give_server_message(command(2, number=1, arguments=b"nonsense!"))
    assert pair.run_commands() == [1]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (command(1, number=9), m.Reason.UNKNOWN_COMMAND),
        (command(1, arguments=b""), m.Reason.BAD_ARGUMENTS),
        (command(1, number=1, arguments=bytes.fromhex("000000000000f87f")), m.Reason.BAD_ARGUMENTS),
    ],
    ids=["unknown", "cut off", "NaN"],
)
def test_a_bad_command_is_rejected_and_uses_up_its_number(bad: m.Command, code: m.Reason) -> None:
    """Or the client's clock entry would wait for it for ever."""
    pair = Pair().shake_hands()
    pair.give_server_message(bad)
    pair.give_server_message(command(2))
    assert pair.run_commands() == [2]
    rejected, accepted = pair.said()
    assert isinstance(rejected, m.CommandResult) and isinstance(accepted, m.CommandResult)
    assert (rejected.sequence, rejected.status, rejected.code) == (1, m.CommandStatus.REJECTED, code)
    assert rejected.message
    assert accepted.status is m.CommandStatus.ACCEPTED
    assert pair.server.command_ack == 2


def test_commands_above_the_rate_are_rejected_and_come_back_with_time() -> None:
    pair = Pair().shake_hands()
    for sequence in range(1, COMMANDS_PER_S_MAX + 11):
        pair.give_server_message(command(sequence))
    assert len(pair.run_commands()) == COMMANDS_PER_S_MAX
    codes = [answer.code for answer in pair.said() if isinstance(answer, m.CommandResult)]
    assert codes.count(m.Reason.RATE_LIMITED) == 10
    pair.now_ns += NS_PER_S // 2
    for sequence in range(COMMANDS_PER_S_MAX + 11, COMMANDS_PER_S_MAX + 111):
        pair.give_server_message(command(sequence))
    assert len(pair.run_commands()) == COMMANDS_PER_S_MAX // 2


def test_bytes_above_the_rate_end_the_session() -> None:
    pair = Pair().shake_hands()
    ping = codec.encode(m.Ping(nonce=1, sent_ns=2))
    with pytest.raises(RemoteProtocolError) as caught:
        for _ in range(10_000):
            pair.give_server(ping)
            pair.said()
    assert caught.value.reason == m.Reason.RATE_LIMITED


def test_an_ack_is_handed_on_and_one_of_another_epoch_is_not() -> None:
    pair = Pair().shake_hands()
    pair.server_events.clear()
    pair.give_server_message(m.Ack(session=SESSION, epoch=EPOCH, version=12, chunks=3))
    pair.give_server_message(m.Ack(session=SESSION, epoch=EPOCH - 1, version=99))
    assert pair.server_events == [AckReceived(12, 3)]


@pytest.mark.parametrize(
    "message", [m.Ack(session=1, epoch=EPOCH, version=1), command(1, session=1)], ids=["ack", "command"]
)
def test_a_frame_of_another_session_is_refused(message: m.Message) -> None:
    pair = Pair().shake_hands()
    with pytest.raises(RemoteProtocolError, match="session"):
        pair.give_server_message(message)


def test_nothing_but_a_greeting_is_taken_before_the_welcome() -> None:
    pair = Pair()
    with pytest.raises(RemoteProtocolError):
        pair.give_server_message(m.Ack(session=0, epoch=0, version=0))
    with pytest.raises(RemoteProtocolError):
        pair.give_server_message(command(1, session=0))
    pair.give_server_message(m.Hello())
    with pytest.raises(RemoteProtocolError):
        pair.give_server_message(m.Hello())


def test_a_stranger_that_says_nothing_is_sent_away_in_time() -> None:
    pair = Pair()
    assert pair.server.next_timeout_ns() == HANDSHAKE_DEADLINE_NS
    pair.server.handle_timeout(HANDSHAKE_DEADLINE_NS - 1)
    assert not pair.server.closed
    pair.server.handle_timeout(HANDSHAKE_DEADLINE_NS)
    event = pair.server.next_event()
    assert isinstance(event, PeerLeft) and event.reason is m.Reason.TIMEOUT
    [goodbye] = pair.said()
    assert isinstance(goodbye, m.Goodbye)
    assert pair.server.next_timeout_ns() is None


def test_a_client_that_falls_silent_is_given_up_and_one_that_only_pings_is_not() -> None:
    pair = Pair().shake_hands()
    for _ in range(30):
        pair.step(NS_PER_S)
    assert not pair.server.closed
    pair.server.handle_timeout(pair.now_ns + SILENCE_NS_MAX + 1)
    assert pair.server.closed


def test_a_closed_session_ignores_what_still_arrives() -> None:
    pair = Pair().shake_hands()
    pair.server.goodbye(m.Reason.SHUTDOWN, "back soon")
    pair.give_server_message(command(1))
    pair.give_server_message(command(7))
    pair.server.goodbye(m.Reason.KICKED, "twice")
    pair.server.fail(RemoteProtocolError("late"))
    assert pair.server.take_commands() == []
    [goodbye] = pair.said()
    assert isinstance(goodbye, m.Goodbye) and goodbye.reason is m.Reason.SHUTDOWN


def test_an_unknown_kind_is_skipped_and_counted() -> None:
    pair = Pair().shake_hands()
    pair.server.receive_frame(200, b"tomorrow", pair.now_ns)
    assert pair.said() == []
    assert pair.server.statistics().frames_skipped == 1


def test_sync_frames_carry_the_session_and_follow_the_table() -> None:
    pair = Pair().shake_hands()
    with pytest.raises(LocalProtocolError):
        pair.server.sync_chunk_head(0, 0, 10, 8)
    pair.server.sync_begin(0, 10, 20, rows=5)
    pair.give_server_message(command(1))
    pair.run_commands(version=11)
    begin, _answer = pair.said()
    assert begin == m.SyncBegin(session=SESSION, epoch=EPOCH, base=0, first_version=10, tick=20, rows=5)

    chunk = codec.decode_untrusted(m.Kind.SYNC_CHUNK, pair.server.sync_chunk_head(0, 0, 10, 8)[8:] + bytes(8))
    assert chunk == m.SyncChunk(session=SESSION, epoch=EPOCH, sequence=0, base=0, version=10, block=bytes(8))
    delta = codec.decode_untrusted(m.Kind.DELTA_SYNC, pair.server.delta_head(10, 11, 21, TARGET, (1, 2), 0)[8:])
    assert isinstance(delta, m.DeltaSync)
    assert (delta.command_ack, delta.entity, delta.digest_low, delta.digest_high) == (1, TARGET, 1, 2)
    assert pair.server.state is State.LIVE


def test_a_games_long_reason_is_cut_between_characters() -> None:
    pair = Pair().shake_hands()
    pair.give_server_message(command(1))
    [taken] = pair.server.take_commands()
    outcome = Outcome(m.CommandStatus.REJECTED, m.Reason.REJECTED, "größe" * 1000)
    pair.server.answer(taken.sequence, outcome, version=1, tick=1)
    [answer] = pair.said()
    assert isinstance(answer, m.CommandResult)
    assert len(answer.message.encode()) <= REASON_BYTES_MAX and answer.message.endswith("…")


@given(st.text(max_size=50), st.integers(3, 60))
def test_clipped_text_is_short_and_can_be_sent(text: str, limit: int) -> None:
    clipped = clip_text(text, limit)
    data = clipped.encode()
    assert len(data) <= limit
    assert clipped == text or clipped.endswith("…") or "?" in clipped


@given(st.lists(st.tuples(st.integers(0, 3 * NS_PER_S), st.integers(1, 40)), max_size=50), st.integers(1, 100))
def test_a_bucket_gives_no_more_than_its_rate_and_its_burst(calls: list[tuple[int, int]], per_s: int) -> None:
    bucket = TokenBucket(per_s, 40, 0)
    now, taken = 0, 0
    for wait, tokens in calls:
        now += wait
        ready = bucket.ready_ns(tokens, now)
        got = bucket.take(tokens, now)
        assert got == (ready == now)
        taken += tokens * got
        assert taken * NS_PER_S <= 40 * NS_PER_S + now * per_s
        if not got:
            assert TokenBucket.take(bucket, tokens, ready), "ready means ready"
            taken += tokens
            now = ready


def test_a_repeated_command_cannot_be_made_to_draw_answers_without_end() -> None:
    pair = Pair().shake_hands()
    pair.give_server_message(command(1))
    pair.run_commands()
    for _ in range(500):
        pair.give_server_message(command(1))
    assert len(pair.said()) <= COMMANDS_PER_S_MAX


def test_what_is_not_built_is_not_refused_for_ever() -> None:
    pair = Pair().shake_hands()
    with pytest.raises(RemoteProtocolError) as caught:
        for _ in range(500):
            pair.give_server_message(m.Auth())
    assert caught.value.reason == m.Reason.RATE_LIMITED


def test_more_commands_than_a_welcome_can_carry_are_refused_when_the_node_starts() -> None:
    """And not when the first client comes."""
    values = tuple((f"{'x' * 50}{number}", number) for number in range(200))
    many = tuple(
        m.CommandSignature(number, f"c{number}", (m.Parameter("p", m.ParameterKind.ENUM, values),) * 4)
        for number in range(10)
    )
    with pytest.raises(LimitExceededError):
        Offer(fingerprint=bytes(16), canonical="", commands=many, hz=30)


@given(st.lists(signatures, max_size=6))
def test_the_size_of_signatures_is_never_underestimated(found: list[m.CommandSignature]) -> None:
    """What `Offer` accepts must fit the Welcome that carries it."""
    offer = Offer(fingerprint=bytes(16), canonical="", commands=tuple(found), hz=30)
    pair = Pair(ClientSession(), offer)
    pair.give_server_message(m.Hello(commands_hash=1))
    pair.server.welcome(session=1, client_id=1, epoch=1, version=0, tick=0)
    frame = pair.server.next_frame()
    assert frame is not None
    words = sum(5 + 3 * len(s.parameters) + 3 * sum(len(p.values) for p in s.parameters) for s in found)
    assert len(frame) <= 256 + 8 * words + 2 * len(signatures_text(found).encode())


def test_the_offer_is_the_same_for_every_session() -> None:
    """Hashing the signatures once per node, not once per client."""
    assert Pair().server._offer is OFFER
    assert OFFER.by_id == {0: COMMANDS[0], 1: COMMANDS[1]}
