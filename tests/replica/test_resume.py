"""A session goes on over another link, and over another node on the same store: one player, every command once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from ecsnet.errors import LocalProtocolError
from ecsnet.limits import COMMAND_STATUSES_KEPT, FRAME_HEADER_BYTES
from ecsnet.replica import CommandAnswered, EpochChanged, Event, Replica, StateChanged
from ecsnet.store import Store, Transaction
from ecsnet.wire.codec import decode_untrusted, encode
from ecsnet.wire.messages import Error, Goodbye, Reason, Resume, Resumed
from ecsnet.world import Client
from tests.arena import arena
from tests.helpers import Pair

NOBODY = 1 << 32 | 99


def events_of(replica: Replica) -> list[Event]:
    events = []
    while (event := replica.next_event()) is not None:
        events.append(event)
    return events


@contextmanager
def playing(**given: Any) -> Iterator[Pair]:
    """A live pair on a store that outlives its authority."""
    world = arena(moving=False)
    with Store(world.schema) as store, Pair(world, reconnects=True, store=store, **given) as pair:
        pair.run_until_live()
        pair.step(3)
        events_of(pair.replica)
        yield pair


def hp(pair: Pair, entity: int) -> int:
    with pair.authority.store.view() as view:
        return int(view[entity, "health.hp"])


def come_back(pair: Pair) -> None:
    pair.reconnect()
    pair.run_until_live()
    pair.step(3)


def test_a_lost_player_comes_back_as_the_same_one() -> None:
    with playing() as pair:
        replica = pair.replica
        session, entity = replica.session, replica.entity
        pair.wire.lose(pair.now_ns)
        pair.step(20)
        come_back(pair)

        assert (replica.session, replica.entity) == (session, entity)
        totals = pair.authority.statistics()
        assert (totals.joins, totals.resumes, totals.leaves, totals.sessions, totals.away) == (1, 1, 0, 1, 0)
        assert (replica.statistics().reconnects, replica.statistics().resumes) == (1, 1)
        assert [event for event in events_of(replica) if isinstance(event, StateChanged)] == [
            StateChanged("live", "resuming", "the connection was lost"),
            StateChanged("resuming", "live"),
        ]
        assert len(pair.digests()) == 1


def test_a_player_comes_back_to_another_node_on_the_same_store() -> None:
    with playing() as pair:
        replica = pair.replica
        session, entity, epoch = replica.session, replica.entity, replica.epoch
        pair.restart(seed=99)
        come_back(pair)

        assert (replica.session, replica.entity, replica.epoch) == (session, entity, epoch)
        assert pair.authority.statistics().joins == 0
        assert not any(isinstance(event, EpochChanged) for event in events_of(replica))
        assert pair.authority.clients[0].name == "client-0", "the row has the name"


def test_who_does_not_come_back_leaves_when_the_time_is_over_and_not_before() -> None:
    with playing(linger_s=1.0) as pair:
        entity = pair.replica.entity
        pair.wire.lose(pair.now_ns)
        pair.step(30)
        with pair.authority.store.view() as view:
            assert entity in view
            assert view["sessions.expires_tick"].tolist() == [pair.authority.tick_number + 1]
        pair.step(1)
        with pair.authority.store.view() as view:
            assert entity not in view
            assert len(view["sessions"]) == 0
        session = pair.replica.session
        come_back(pair)
        assert pair.replica.session != session, "too late: another player"
        assert pair.replica.statistics().resumes == 0


def test_the_time_away_begins_anew_with_a_node_that_is_started_again() -> None:
    """Nobody could come back while there was no node."""
    with playing(linger_s=1.0) as pair:
        pair.wire.lose(pair.now_ns)
        pair.step(25)
        pair.restart(seed=3)
        pair.step(25)
        assert pair.authority.statistics().sessions == 1
        pair.step(10)
        assert pair.authority.statistics().sessions == 0


def test_who_is_back_is_not_sent_away() -> None:
    with playing(linger_s=1.0) as pair:
        pair.wire.lose(pair.now_ns)
        pair.step(10)
        come_back(pair)
        pair.step(60)
        with pair.authority.store.view() as view:
            assert view["sessions.expires_tick"].tolist() == [0]
        assert pair.authority.statistics().leaves == 0


def test_commands_that_never_arrived_are_sent_again_and_run_once() -> None:
    with playing(latency_ticks=2) as pair:
        replica = pair.replica
        tickets = [replica.send("hit", target=replica.entity) for _ in range(3)]
        replica.frames_to_send(pair.now_ns)  # into the void
        pair.wire.lose(pair.now_ns)
        assert [ticket.status for ticket in tickets] == ["pending"] * 3
        come_back(pair)
        pair.step(10)

        assert [ticket.status for ticket in tickets] == ["accepted"] * 3
        assert [ticket.sequence for ticket in tickets] == [1, 2, 3]
        assert hp(pair, replica.entity) == 70


def test_commands_whose_answers_were_lost_are_answered_again_and_ran_once() -> None:
    with playing(latency_ticks=2) as pair:
        replica = pair.replica
        tickets = [replica.send("hit", target=replica.entity), replica.send("hit", target=NOBODY)]
        pair.step(4)
        assert hp(pair, replica.entity) == 90, "they have run"
        assert [ticket.status for ticket in tickets] == ["pending"] * 2
        pair.wire.lose(pair.now_ns)
        come_back(pair)
        pair.step(5)

        assert [ticket.status for ticket in tickets] == ["accepted", "rejected"]
        assert tickets[1].reason == "stale entity: target"
        assert hp(pair, replica.entity) == 90


def test_a_node_that_is_started_again_still_knows_what_it_decided() -> None:
    """Out of the session's row: what was said about each, though not in the same words."""
    with playing(latency_ticks=2) as pair:
        replica = pair.replica
        tickets = [replica.send("hit", target=replica.entity), replica.send("hit", target=NOBODY)]
        tickets.append(replica.send("hit", target=replica.entity))
        pair.step(4)
        assert hp(pair, replica.entity) == 80
        pair.restart(seed=9)
        come_back(pair)
        pair.step(5)

        assert [ticket.status for ticket in tickets] == ["accepted", "rejected", "accepted"]
        assert "started again" in tickets[1].reason
        assert hp(pair, replica.entity) == 80
        told = [event.ticket for event in events_of(replica) if isinstance(event, CommandAnswered)]
        assert sorted(ticket.number for ticket in told) == [1, 2, 3], "once each"


def test_numbers_of_commands_go_on_over_links_and_restarts() -> None:
    with playing() as pair:
        replica = pair.replica
        for turn in range(1, 7):
            ticket = replica.send("hit", target=replica.entity)
            pair.step(2)
            assert (ticket.status, ticket.sequence, ticket.number) == ("accepted", turn, turn)
            if turn % 2:
                pair.wire.lose(pair.now_ns)
            else:
                pair.restart(seed=turn)
            come_back(pair)
        assert hp(pair, replica.entity) == 40


def test_a_command_is_done_that_was_on_its_way_when_the_line_broke() -> None:
    """It came before the end of the line; its sender is told when it is back."""
    with playing() as pair:
        replica = pair.replica
        ticket = replica.send("hit", target=replica.entity)
        for frame in replica.frames_to_send(pair.now_ns):
            pair.authority.receive_frame(pair.link, frame[4], frame[FRAME_HEADER_BYTES:], pair.now_ns)
        pair.wire.lose(pair.now_ns)
        pair.step(2)
        assert hp(pair, replica.entity) == 90
        come_back(pair)
        assert ticket.status == "accepted"
        assert hp(pair, replica.entity) == 90


def test_a_client_that_was_answered_more_than_its_node_remembers_goes_on_after_its_last_answer() -> None:
    """A node that lost its newest commands in a crash must not run new ones under old numbers."""
    with playing() as pair:
        replica = pair.replica
        for _ in range(3):
            replica.send("hit", target=replica.entity)
            pair.step(2)
        # As if the last two had never reached the disk.
        with pair.authority.store.transaction() as tx:
            key = tx.key("sessions.session", replica.session)
            tx.update(key, "sessions", last_command=1, statuses=b"\1" + bytes(31))
            tx[replica.entity, "health.hp"] = 90
        pair.restart(seed=5)
        come_back(pair)
        ticket = replica.send("hit", target=replica.entity)
        pair.step(2)
        assert (ticket.status, ticket.sequence) == ("accepted", 4)
        assert hp(pair, replica.entity) == 80


def test_answers_beyond_what_a_row_remembers_are_said_to_be_lost() -> None:
    with playing(latency_ticks=2) as pair:
        replica = pair.replica
        more = 5
        tickets = []
        pair.wire.reads = False  # nothing is heard of the answers, while all that is sent arrives
        for _ in range((COMMAND_STATUSES_KEPT + more) // 3 + 1):
            for _ in range(3):
                tickets.append(replica.send("hit", target=replica.entity))
            for frame in replica.frames_to_send(pair.now_ns):
                pair.wire.up.write(frame, pair.steps)
            pair.step()
        pair.step(3)
        pair.wire.reads = True
        pair.restart(seed=9)
        come_back(pair)
        pair.step(5)
        lost = len(tickets) - COMMAND_STATUSES_KEPT
        assert [ticket.status for ticket in tickets] == ["pending"] * lost + ["accepted"] * COMMAND_STATUSES_KEPT
        assert all("lost" in ticket.reason for ticket in tickets[:lost])
        assert replica.send("hit", target=replica.entity).number == len(tickets) + 1


def test_a_resumed_link_takes_the_place_of_one_that_the_node_still_believes_in() -> None:
    with playing() as pair:
        replica = pair.replica
        old, entity = pair.link, replica.entity
        replica.disconnected(pair.now_ns)
        pair.reconnect()
        pair.step(3)
        assert replica.state == "live"
        assert old not in pair.authority.links_to_close() or old.cut
        assert old.cut
        pair.authority.close_link(old, pair.now_ns)
        pair.step(60)
        assert replica.entity == entity
        totals = pair.authority.statistics()
        assert (totals.links, totals.sessions, totals.leaves, totals.away) == (1, 1, 0, 0)
        ticket = replica.send("hit", target=entity)
        pair.step(2)
        assert ticket.status == "accepted"


def test_a_goodbye_ends_the_session_for_good() -> None:
    with playing() as pair:
        session = pair.replica.session
        pair.replica.close(pair.now_ns)
        pair.step(3)
        assert pair.authority.statistics().sessions == 0
        assert session


def test_a_kicked_player_has_no_session_to_come_back_to() -> None:
    with playing() as pair:
        pair.authority.kick(pair.link, "enough", pair.now_ns)
        pair.step(3)
        assert pair.replica.state == "closed"
        assert pair.authority.statistics().sessions == 0


def test_a_node_that_says_goodbye_because_it_ends_keeps_the_session() -> None:
    with playing() as pair:
        entity = pair.replica.entity
        pair.authority.shutdown(pair.now_ns)
        pair.step(2)
        assert pair.replica.reconnecting
        pair.restart(seed=4)
        come_back(pair)
        assert pair.replica.entity == entity


def resume(pair: Pair, **changes: Any) -> Resumed | Error:
    """What the node says on a link of its own to a Resume as the client would say it, but for the changes."""
    standing = pair.replica._session.standing()
    assert standing is not None
    said = Resume(
        session=standing.welcome.session,
        version=0,
        epoch=0,
        command_next=standing.sequence + 1,
        command_oldest=standing.sequence + 1,
        commands_hash=standing.commands_hash,
        fingerprint=standing.welcome.fingerprint,
        resume_key=standing.welcome.resume_key,
    )
    link = pair.authority.open_link(pair.now_ns)
    frame = encode(msgspec.structs.replace(said, **changes))
    pair.authority.receive_frame(link, frame[4], frame[FRAME_HEADER_BYTES:], pair.now_ns)
    transmit = pair.authority.next_transmit(link, pair.now_ns)
    assert transmit is not None
    answer = bytes(transmit.parts[0])
    message = decode_untrusted(answer[4], answer[FRAME_HEADER_BYTES:])
    assert isinstance(message, Resumed | Error)
    return message


@pytest.mark.parametrize(
    "changes",
    [
        {"resume_key": bytes(16)},
        {"resume_key": b""},
        {"session": 1},
        {"session": 1, "resume_key": b""},
        {"fingerprint": bytes(16)},
        {"fingerprint": b""},
        {"commands_hash": 1},
        {"command_oldest": 0},
        {"command_oldest": 9},
        {"command_next": 5000},
        {"command_next": 1, "command_oldest": 1},
        {"command_next": 1 << 31, "command_oldest": 1 << 31},
    ],
    ids=str,
)
def test_whoever_cannot_prove_a_session_does_not_get_it(changes: dict[str, Any]) -> None:
    with playing() as pair:
        pair.replica.send("hit", target=pair.replica.entity)
        pair.step(2)
        answer = resume(pair, **changes)
        assert isinstance(answer, Resumed)
        assert not answer.accepted and not answer.resume_key
        assert pair.authority.statistics().resumes == 0
        assert not pair.link.cut, "who is there stays"
        ticket = pair.replica.send("hit", target=pair.replica.entity)
        pair.step(2)
        assert ticket.status == "accepted"


@pytest.mark.parametrize("changes", [{"wire_min": 7, "wire_max": 9}, {"message_bytes_max": 1000}], ids=str)
def test_a_build_that_cannot_be_served_is_not_served_by_resuming(changes: dict[str, Any]) -> None:
    with playing() as pair:
        answer = resume(pair, **changes)
        assert isinstance(answer, Error) and answer.fatal


def test_the_store_has_nothing_to_resume_a_session_by() -> None:
    """Who reads the database, or a copy of it, must not be able to take a player's place."""
    with playing() as pair:
        standing = pair.replica._session.standing()
        assert standing is not None
        key = standing.welcome.resume_key
        assert len(key) == 16
        with pair.authority.store.view() as view:
            row = view["sessions"].to_dict()
        assert bytes(row["key_hash"][0]) not in (key, bytes(16))


def test_a_link_takes_one_resume() -> None:
    """Who tries keys has to bring a connection for each."""
    with playing() as pair:
        link = pair.authority.open_link(pair.now_ns)
        frame = encode(Resume(session=5, version=0, epoch=0, fingerprint=pair.world.schema.fingerprint))
        for _ in range(2):
            pair.authority.receive_frame(link, frame[4], frame[FRAME_HEADER_BYTES:], pair.now_ns)
        assert link.state == "closing"


def test_a_refused_resume_says_hello_on_the_same_link() -> None:
    """A node that has never heard of the session: in memory, and started again."""
    world = arena(moving=False)
    with Pair(world, reconnects=True) as pair:
        pair.run_until_live()
        pair.step(3)
        session = pair.replica.session
        waiting = pair.replica.send("hit", target=pair.replica.entity)
        pair.restart(seed=77)
        come_back(pair)
        assert pair.replica.session != session
        assert pair.replica.statistics().resumes == 0
        assert waiting.status == "pending" and "lost" in waiting.reason
        again = pair.replica.send("hit", target=pair.replica.entity)
        pair.step(2)
        assert (again.status, again.number, again.sequence) == ("accepted", waiting.number + 1, 1)


def test_a_resume_is_lost_with_its_link_and_said_again() -> None:
    with playing(latency_ticks=3) as pair:
        replica = pair.replica
        session = replica.session
        ticket = replica.send("hit", target=replica.entity)
        for _ in range(3):
            pair.wire.lose(pair.now_ns)
            pair.reconnect()
            pair.step(2)
        pair.run_until_live()
        pair.step(8)
        assert replica.session == session
        assert ticket.status == "accepted"
        assert hp(pair, replica.entity) == 90


def test_a_game_is_asked_to_join_once_and_to_leave_once() -> None:
    world = arena(moving=False)
    heard: list[str] = []
    enter, leave = world.join_hook, world.leave_hook
    assert enter is not None and leave is not None

    def entered(tx: Transaction, client: Client) -> object:
        heard.append(f"join {client.name}")
        return enter(tx, client)

    def left(tx: Transaction, client: Client) -> None:
        heard.append(f"leave {client.name}")
        leave(tx, client)

    world.join_hook, world.leave_hook = entered, left
    with Store(world.schema) as store, Pair(world, reconnects=True, store=store, linger_s=1.0) as pair:
        pair.run_until_live()
        for seed in range(3):
            pair.wire.lose(pair.now_ns)
            come_back(pair)
            pair.restart(seed=seed)
            come_back(pair)
        assert heard == ["join client-0"]
        pair.restart(seed=9)
        pair.step(40)
        assert heard == ["join client-0", "leave client-0"]


def test_nothing_can_be_sent_before_the_world_is_back() -> None:
    with playing(latency_ticks=2) as pair:
        pair.wire.lose(pair.now_ns)
        pair.reconnect()
        with pytest.raises(LocalProtocolError):
            pair.replica.send("hit", target=pair.replica.entity)


def test_over_datagrams_a_session_goes_on_as_well() -> None:
    with playing(datagrams=True, latency_ticks=1) as pair:
        replica = pair.replica
        session, entity = replica.session, replica.entity
        ticket = replica.send("hit", target=entity)
        replica.frames_to_send(pair.now_ns)
        pair.wire.lose(pair.now_ns)
        come_back(pair)
        pair.step(10)
        assert (replica.session, replica.entity, ticket.status) == (session, entity, "accepted")
        assert hp(pair, entity) == 90


def test_a_goodbye_for_slowness_is_no_end() -> None:
    with playing() as pair:
        entity = pair.replica.entity
        frame = encode(Goodbye(reason=Reason.TOO_SLOW))
        pair.replica.receive_frame(frame[4], frame[FRAME_HEADER_BYTES:], pair.now_ns)
        assert pair.replica.reconnecting
        pair.wire.lose(pair.now_ns)
        come_back(pair)
        assert pair.replica.entity == entity


def test_the_node_names_the_next_command_and_the_version_that_it_goes_on_from() -> None:
    with playing() as pair:
        pair.replica.send("hit", target=pair.replica.entity)
        pair.step(2)
        held = pair.replica.version
        pair.wire.lose(pair.now_ns)
        pair.reconnect()
        pair.wire.down.record = True
        pair.step()
        first = pair.wire.down.written[0]
        resumed = decode_untrusted(first[4], first[FRAME_HEADER_BYTES:])
        assert isinstance(resumed, Resumed)
        assert (resumed.accepted, resumed.version, resumed.command_next, resumed.hz) == (True, held, 2, 30)
        assert resumed.events_from == held
        assert pair.replica.statistics().full_syncs_applied == 1
