"""The authority runs the game's functions one by one, answers its clients, and survives what strangers send."""

import logging
import random
from typing import Any

import pytest

from ecsnet.authority import Authority
from ecsnet.errors import (
    ArgumentError,
    BusyError,
    ClosedError,
    LimitExceededError,
    LocalProtocolError,
    RemoteProtocolError,
    UnknownNameError,
)
from ecsnet.ids import Entity
from ecsnet.limits import (
    BLOCKED_NS_MAX,
    FRAME_HEADER_BYTES,
    HANDSHAKE_DEADLINE_NS,
    HANDSHAKES_AT_ONCE_MAX,
    NS_PER_S,
    SILENCE_NS_MAX,
)
from ecsnet.replica import CommandAnswered, Replica
from ecsnet.store import Store, Transaction
from ecsnet.wire.codec import encode
from ecsnet.wire.messages import Ack, Command, Kind, Reason
from ecsnet.world import Client, World
from tests.arena import Stance, arena, arena_schema
from tests.helpers import Pair


def hp_of(pair: Pair, entity: Entity) -> int:
    with pair.authority.store.view() as view:
        return int(view[entity, "health.hp"])


def session_row(pair: Pair, number: int = 0) -> dict[str, Any]:
    with pair.authority.store.view() as view:
        return {name: column[number] for name, column in view["sessions"].to_dict().items()}


# --- the tick ---------------------------------------------------------------------------------------------------------


def test_a_tick_makes_one_version_of_all_its_transactions() -> None:
    """Commands and systems each commit on their own, and are published together."""
    with Pair(arena(), clients=3) as pair:
        pair.run_until_live()
        for replica in pair.replicas:
            replica.send("steer", dx=1.0, dy=0.0)
            replica.send("hit", target=pair.replica.entity)
        pair.step()
        before = pair.authority.version
        pair.step()

        assert pair.report is not None
        assert pair.report.version == before + 1
        assert pair.authority.version == before + 1


def test_a_tick_in_which_nothing_changes_makes_no_version() -> None:
    with Pair(arena(moving=False)) as pair:
        pair.run_until_live()
        pair.step()
        before = pair.authority.version
        pair.step(10)
        assert pair.authority.version == before
        assert pair.report is not None and pair.report.version is None
        assert pair.authority.tick_number > before


def test_a_system_that_raises_loses_nothing_of_the_same_ticks_commands(caplog: pytest.LogCaptureFixture) -> None:
    """Its own transaction is undone; what ran before and after it stays."""
    world = arena(on_error="log", moving=False)

    @world.system
    def breaks(tx: Transaction) -> None:
        (health,) = tx.query("health")
        health.hp[:] = 1
        raise RuntimeError("a bug in the game")

    @world.system
    def heals(tx: Transaction) -> None:
        (body,) = tx.query("transform")
        body.y[:] = 5.0

    with Pair(world) as pair:
        pair.run_until_live()
        ticket = pair.replica.send("hit", target=pair.replica.entity)
        pair.step(3)

        assert ticket.status == "accepted"
        assert hp_of(pair, pair.replica.entity) == 90, "the command's effect stayed, the system's did not"
        with pair.replica.view() as view:
            assert view[pair.replica.entity, "transform.y"] == 5.0, "a later system ran"
        assert pair.authority.statistics().systems_failed == pair.authority.tick_number
        assert len(pair.digests()) == 1
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert 1 <= len(errors) <= 1 + pair.authority.tick_number // world.hz, "once a second, not in each tick"
    assert errors[0].exc_info is not None, "with its traceback"


def test_with_on_error_raise_the_tick_stops_with_the_games_own_exception() -> None:
    """Which is what a test wants; everything else of the tick is done and published all the same."""
    world = arena(on_error="raise", moving=False)

    @world.system(every=5)
    def breaks(tx: Transaction) -> None:
        (body,) = tx.query("transform")
        body.y[:] = 1.0
        raise ZeroDivisionError

    @world.system(every=5)
    def marks(tx: Transaction) -> None:
        (body,) = tx.query("transform")
        body.x[:] = 2.0

    with Pair(world) as pair:
        with pytest.raises(ZeroDivisionError):
            pair.step(5)
        with pair.authority.store.view() as view:
            assert view["transform.y"].tolist() == [0.0]
            assert view["transform.x"].tolist() == [2.0]
        pair.step(1)
        assert pair.authority.tick_number == 6


def test_systems_run_in_order_every_so_many_ticks_with_exact_time_and_repeatable_randomness() -> None:
    def run(seed: int) -> list[tuple[str, int, float, float]]:
        world = arena(hz=20, seed=seed, moving=False)
        calls: list[tuple[str, int, float, float]] = []

        @world.system(every=2)
        def slow(tx: Transaction) -> None:
            calls.append(("slow", tx.tick, tx.dt, float(tx.random.random())))

        @world.system
        def fast(tx: Transaction) -> None:
            calls.append(("fast", tx.tick, tx.dt, float(tx.random.random())))

        with Pair(world, clients=0) as pair:
            pair.step(4)
        return calls

    first = run(1)
    assert [(name, tick, dt) for name, tick, dt, _ in first] == [
        ("fast", 1, 1 / 20),
        ("slow", 2, 2 / 20),
        ("fast", 2, 1 / 20),
        ("fast", 3, 1 / 20),
        ("slow", 4, 2 / 20),
        ("fast", 4, 1 / 20),
    ]
    assert len({value for *_, value in first}) == len(first), "by tick and by function"
    assert first == run(1)
    assert first != run(2)


def test_nothing_is_registered_while_the_world_runs() -> None:
    """Clients were told the commands in their handshake; one more would be there for some of them."""
    world = arena()
    with Pair(world, clients=0):
        for register in (world.command, world.system, world.on_join, world.on_leave):
            with pytest.raises(LocalProtocolError, match="while the world runs"):
                register(test_nothing_is_registered_while_the_world_runs)


def test_a_transaction_from_elsewhere_goes_between_ticks_and_reaches_the_clients() -> None:
    with Pair(arena(moving=False)) as pair:
        pair.run_until_live()
        rock = pair.authority.store.transaction()
        ship = rock.spawn(transform={"x": 4.0})
        with pytest.raises(BusyError):
            pair.authority.tick(pair.now_ns)
        tick_number = pair.authority.tick_number
        rock.commit()
        pair.step(2)

        assert pair.authority.tick_number == tick_number + 2
        with pair.replica.view() as view:
            assert view[ship, "transform.x"] == 4.0


# --- commands ---------------------------------------------------------------------------------------------------------


def test_a_command_has_its_effect_once_and_its_ticket_says_in_which_version() -> None:
    with Pair(arena(moving=False), latency_ticks=2) as pair:
        pair.run_until_live()
        ticket = pair.replica.send("hit", target=pair.replica.entity)
        assert ticket.status == "pending"
        pair.run_until(lambda: ticket.status != "pending")

        assert ticket.status == "accepted"
        assert ticket.version is not None
        assert ticket.version <= pair.replica.version, "accepted means: the effect can be seen here"
        with pair.replica.view() as view:
            assert view[pair.replica.entity, "health.hp"] == 90
        pair.step(10)
        assert hp_of(pair, pair.replica.entity) == 90
        row = session_row(pair)
        assert (row["last_command"], row["last_status"]) == (1, 1)
        events = []
        while (event := pair.replica.next_event()) is not None:
            events.append(event)
        assert CommandAnswered(ticket) in events


def test_a_rejected_command_changes_nothing_but_its_number_and_is_told_the_reason() -> None:
    with Pair(arena(moving=False)) as pair:
        pair.run_until_live()
        ticket = pair.replica.send("refuse")
        pair.step(3)

        assert (ticket.status, ticket.reason) == ("rejected", "not today")
        assert hp_of(pair, pair.replica.entity) == 100
        row = session_row(pair)
        assert (row["last_command"], row["last_status"]) == (1, 2)
        assert pair.authority.statistics().commands_rejected == 1


def test_a_command_that_crashes_is_rejected_as_internal_and_tells_nothing_of_the_inside(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Pair(arena(on_error="log", moving=False), clients=2) as pair:
        pair.run_until_live()
        bad = pair.replica.send("crash")
        good = pair.replicas[1].send("hit", target=pair.replica.entity)
        pair.step(3)

        assert (bad.status, bad.reason) == ("rejected", "internal")
        assert good.status == "accepted"
        assert hp_of(pair, pair.replica.entity) == 90
        assert pair.authority.statistics().commands_failed == 1
    assert "a bug in the game" in caplog.text


def test_arguments_arrive_as_the_types_they_are_annotated_with() -> None:
    with Pair(arena(moving=False)) as pair:
        pair.run_until_live()
        ticket = pair.replica.send("pose", stance=Stance.CROUCH, note="grüße")
        pair.step(3)
        assert ticket.status == "accepted"
        assert hp_of(pair, pair.replica.entity) == 6


def test_wrong_arguments_and_names_are_refused_before_anything_is_sent() -> None:
    with Pair(arena(moving=False)) as pair:
        with pytest.raises(LocalProtocolError):
            pair.replica.send("hit", target=Entity(1))
        pair.run_until_live()
        send = pair.replica.send
        with pytest.raises(UnknownNameError):
            send("hti", target=Entity(1))
        for arguments in (
            {"dx": "east", "dy": 0.0},
            {"dx": float("nan"), "dy": 0.0},
            {"dx": 1.0},
            {"dx": 1.0, "dz": 0.0},
        ):
            with pytest.raises((ArgumentError, UnknownNameError)):
                send("steer", **arguments)
        pair.step(3)
        assert session_row(pair)["last_command"] == 0


def test_a_command_about_somebody_who_is_gone_is_rejected_without_a_fuss(caplog: pytest.LogCaptureFixture) -> None:
    """The target was alive when the player aimed: that is nobody's bug."""
    with Pair(arena(moving=False), clients=2, latency_ticks=3) as pair:
        pair.run_until_live()
        pair.step(5)
        target = pair.replicas[1].entity
        pair.replicas[1].close(pair.now_ns)
        pair.step(2)
        ticket = pair.replica.send("hit", target=target)
        pair.step(10)

        assert ticket.status == "rejected"
        assert "stale entity" in ticket.reason
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_of_an_input_only_the_newest_of_a_tick_counts() -> None:
    """`latest`: where the stick points now is what matters, and each older one is answered as superseded."""
    ran: list[float] = []
    world = arena(moving=False)

    @world.command(latest=True)
    def aim(tx: Transaction, client: Client, angle: float) -> None:
        ran.append(angle)

    with Pair(world) as pair:
        pair.run_until_live()
        tickets = [pair.replica.send("aim", angle=float(angle)) for angle in range(3)]
        pair.step(4)
        assert [ticket.status for ticket in tickets] == ["superseded", "superseded", "accepted"]
        assert ran == [2.0]


def test_inputs_that_arrive_bunched_up_are_superseded_by_the_newest() -> None:
    """A line that stopped for a moment must not make a player live through its old inputs."""
    with Pair(arena(moving=False), latency_ticks=1) as pair:
        pair.run_until_live()
        pair.step(3)
        pair.wire.up.is_cut = True
        tickets = []
        for angle in range(6):
            tickets.append(pair.replica.send("steer", dx=angle / 10, dy=0.0))
            pair.step()
        pair.wire.up.is_cut = False
        pair.step(6)

        statuses = [ticket.status for ticket in tickets]
        assert statuses[-1] == "accepted"
        assert statuses.count("superseded") >= 3
        assert pair.authority.statistics().commands_superseded >= 3
        with pair.replica.view() as view:
            assert view[pair.replica.entity, "velocity.x"] == pytest.approx(2.5)
        row = session_row(pair)
        assert (row["last_command"], row["last_status"]) == (tickets[-1].sequence, 1)


def test_a_superseded_or_refused_command_at_the_end_of_a_tick_is_recorded_too() -> None:
    """Or a node that was restarted would wait for its number for ever."""
    with Pair(arena(moving=False)) as pair:
        pair.run_until_live()
        message = Command(session=pair.replica.session, sequence=1, tick=0, command=60_000, arguments=b"")
        pair.wire.up.write(encode(message), pair.steps)
        pair.step(2)
        row = session_row(pair)
        assert (row["last_command"], row["last_status"]) == (1, 2)
        assert pair.authority.statistics().commands_rejected == 1


def test_a_client_keeps_its_entity_in_its_sessions_row_and_loses_it_when_it_dies() -> None:
    """So it is there again after a crash; a despawned entity becomes 0, on both sides."""
    world = arena(moving=False)

    @world.command
    def sink(tx: Transaction, client: Client) -> None:
        tx.despawn(client.entity)

    @world.command
    def board(tx: Transaction, client: Client) -> None:
        client.entity = tx.spawn(transform={}, owner=client)
        if client.entity == 0:
            raise AssertionError("a client reads its own write")

    with Pair(world) as pair:
        pair.run_until_live()
        (client,) = pair.authority.clients
        first = pair.replica.entity
        assert first == client.entity == session_row(pair)["entity"]

        pair.replica.send("sink")
        pair.step(3)
        assert pair.replica.entity == client.entity == 0

        pair.replica.send("board")
        pair.step(3)
        assert pair.replica.entity == client.entity != 0
        with pair.authority.store.view() as view:
            assert view[pair.replica.entity, "entities.owner"] == client.client_id


def test_a_flood_of_commands_is_limited_to_the_rate() -> None:
    """A bucket, not a cliff: what is over the rate is refused, and the others play on."""
    world = arena(moving=False)
    counted: list[int] = []

    @world.command
    def count(tx: Transaction, client: Client) -> None:
        counted.append(1)

    with Pair(world, clients=2) as pair:
        pair.run_until_live()
        pair.step()
        wire = pair.wire
        assert wire.link is not None
        number = next(signature.id for signature in world.signatures if signature.name == "count")
        for sequence in range(1, 1001):
            message = Command(session=pair.replica.session, sequence=sequence, tick=0, command=number, arguments=b"")
            wire.up.write(encode(message), pair.steps)
        pair.step(5)

        assert len(counted) < 300
        ticket = pair.replicas[1].send("hit", target=pair.replicas[1].entity)
        pair.step(3)
        assert ticket.status == "accepted"


# --- hooks ------------------------------------------------------------------------------------------------------------


def test_a_join_that_fails_lets_nobody_in_and_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    world = World(arena_schema(), on_error="log")

    @world.on_join
    def enter(tx: Transaction, client: Client) -> Entity:
        tx.spawn(transform={})
        raise KeyError("a bug in the game")

    with Pair(world) as pair:
        pair.step(3)
        assert pair.replica.state == "closed"
        assert pair.replica.farewell == (Reason.INTERNAL, "internal")
        assert pair.authority.statistics().hooks_failed == 1
        with pair.authority.store.view() as view:
            assert len(view["entities"]) == len(view["sessions"]) == 0
    assert "a bug in the game" in caplog.text


def test_a_leave_that_fails_still_ends_the_session(caplog: pytest.LogCaptureFixture) -> None:
    """Or a ghost would hold its place for ever. Only what the hook did is undone."""
    world = arena(on_error="log", moving=False)
    world.leave_hook = None

    @world.on_leave
    def leave(tx: Transaction, client: Client) -> None:
        tx.despawn(client.entity)
        raise KeyError("a bug in the game")

    with Pair(world) as pair:
        pair.run_until_live()
        ship = pair.replica.entity
        pair.replica.close(pair.now_ns)
        pair.step(3)
        assert pair.authority.statistics().sessions == 0
        with pair.authority.store.view() as view:
            assert len(view["sessions"]) == 0
            assert ship in view
    assert "a bug in the game" in caplog.text


def test_a_command_that_ends_its_transaction_itself_is_a_bug_that_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = arena(on_error="log", moving=False)

    @world.command
    def early(tx: Transaction, client: Client) -> None:
        tx[client.entity, "health.hp"] = 5
        tx.rollback()

    with Pair(world) as pair:
        pair.run_until_live()
        ticket = pair.replica.send("early")
        pair.step(3)
        assert ticket.status == "rejected"
        assert hp_of(pair, pair.replica.entity) == 100
        assert session_row(pair)["last_command"] == 1
    assert "ended its transaction itself" in caplog.text


def test_a_game_that_deletes_a_sessions_row_hurts_that_session_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing keeps it from doing so; the tick must go on for everybody else."""
    world = arena(on_error="log", moving=False)

    @world.command
    def forget(tx: Transaction, client: Client) -> None:
        tx.delete(client._key, "sessions")

    with Pair(world, clients=2) as pair:
        pair.run_until_live()
        pair.replica.send("forget")
        pair.step(2)
        broken = pair.replica.send("hit", target=pair.replica.entity)
        fine = pair.replicas[1].send("hit", target=pair.replicas[1].entity)
        pair.step(2)
        assert (broken.status, fine.status) == ("rejected", "accepted")
        pair.replica.close(pair.now_ns)
        pair.step(3)
        assert pair.authority.statistics().sessions == 1
    assert "NoRowError" in caplog.text or "StaleEntityError" in caplog.text


def test_the_last_word_of_a_client_that_leaves_is_heard() -> None:
    """A command sent just before the goodbye arrives before it, so it runs before `on_leave`."""
    with Pair(arena(moving=False), clients=2) as pair:
        pair.run_until_live()
        pair.replica.send("hit", target=pair.replicas[1].entity)
        pair.replica.close(pair.now_ns)
        pair.step(3)
        assert hp_of(pair, pair.replicas[1].entity) == 90


def test_where_sessions_do_not_linger_those_that_a_store_has_from_before_leave_in_the_first_tick() -> None:
    """Nobody can come back to them; their ships must not stay as ghosts."""
    world = arena(moving=False)
    store = Store(world.schema)
    first = Authority(world, store, linger_s=0)
    link = first.open_link(0)
    replica = Replica(world)
    replica.connect(0)
    for frame in replica.frames_to_send(0):
        first.receive_frame(link, frame[4], frame[FRAME_HEADER_BYTES:], 0)
    first.tick(1)
    first.close()
    with store.view() as view:
        assert len(view["sessions"]) == len(view["entities"]) == 1

    second = Authority(world, store, seed=2, linger_s=0)
    second.tick(2)
    with store.view() as view:
        assert len(view["sessions"]) == len(view["entities"]) == 0
    second.close()
    assert not store.closed
    replica.release()
    store.close()


# --- strangers --------------------------------------------------------------------------------------------------------


def test_an_ack_of_what_was_never_sent_ends_that_link_alone() -> None:
    with Pair(arena(), clients=2) as pair:
        pair.run_until_live()
        replica = pair.replica
        pair.wire.up.write(encode(Ack(session=replica.session, epoch=replica.epoch, version=999_999)), pair.steps)
        pair.step(3)

        assert replica.state == "closed"
        assert replica.farewell is not None
        assert isinstance(replica.error, RemoteProtocolError)
        assert pair.replicas[1].state == "live"
        assert len(pair.authority.links) == 1
        assert pair.authority.statistics().links_failed == 1


@pytest.mark.parametrize("seed", range(6))
def test_mangled_frames_of_one_client_disturb_no_other(seed: int) -> None:
    """Truncated, oversized, mutated, replayed and reordered bytes: an Error and a closed link at the worst."""
    rng = random.Random(seed)
    with Pair(arena(), clients=3, seed=seed) as pair:
        pair.run_until_live()
        victims = {0, 1}
        for number in victims:
            pair.wires[number].up.record = True
        pair.step(5, lambda: [pair.wires[n].replica.send("steer", dx=1.0, dy=0.0) for n in (0, 1, 2)])
        frames = [frame for number in victims for frame in pair.wires[number].up.written]

        def mangle() -> None:
            for number in victims:
                data = bytearray(rng.choice(frames))
                kind = rng.randrange(5)
                if kind == 0:
                    data = data[: rng.randrange(len(data))]
                elif kind == 1:
                    data[0:4] = rng.randrange(1 << 32).to_bytes(4, "little")
                elif kind == 2:
                    for _ in range(3):
                        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                elif kind == 3:
                    data += rng.choice(frames)
                else:
                    data = bytearray(rng.randbytes(rng.randrange(64)))
                pair.wires[number].up.write(bytes(data), pair.steps)

        pair.step(40, mangle)
        ticket = pair.replicas[2].send("hit", target=pair.replicas[2].entity)
        pair.step(5)

        assert ticket.status == "accepted"
        assert pair.replicas[2].state == "live"
        assert pair.replicas[2].version == pair.authority.version
        assert len(pair.digests()) == 1


def test_replayed_commands_have_no_second_effect() -> None:
    with Pair(arena(moving=False)) as pair:
        pair.run_until_live()
        pair.wire.up.record = True
        pair.replica.send("hit", target=pair.replica.entity)
        pair.step(2)
        frames = [frame for frame in pair.wire.up.written if frame[4] == Kind.COMMAND]
        assert len(frames) == 1

        for _ in range(5):
            pair.wire.up.write(frames[0], pair.steps)
        pair.step(3)

        assert hp_of(pair, pair.replica.entity) == 90
        assert session_row(pair)["last_command"] == 1


@pytest.mark.parametrize("seed", range(6))
def test_a_replica_survives_whatever_its_node_sends(seed: int) -> None:
    """It closes with an error, and what it held stays readable: never half of something."""
    rng = random.Random(seed)
    with Pair(arena(), latency_ticks=1) as pair:
        pair.run_until_live()
        pair.wire.down.record = True
        pair.replica.send("steer", dx=1.0, dy=0.0)
        pair.step(10)
        replica = pair.replica
        frames = [frame for frame in pair.wire.down.written if frame[4] in (Kind.DELTA_SYNC, Kind.COMMAND_RESULT)]
        with replica.view() as view:
            before, digest = view.version, view.digest()
        for _ in range(200):
            frame = bytearray(rng.choice(frames))
            # Somewhere in the payload: the header is the frame reader's.
            for _ in range(rng.randrange(1, 4)):
                frame[rng.randrange(FRAME_HEADER_BYTES, len(frame))] ^= 1 << rng.randrange(8)
            replica.receive_frame(frame[4], bytes(frame[FRAME_HEADER_BYTES:]), pair.now_ns)
            if replica.state == "closed":
                break
        with replica.view() as view:
            if view.version == before:
                assert view.digest() == digest
        assert replica.state == "live" or replica.error is not None


def test_a_replayed_or_older_delta_changes_nothing() -> None:
    """The version is the sequence number of a sync."""
    with Pair(arena()) as pair:
        pair.run_until_live()
        pair.wire.down.record = True
        pair.replica.send("steer", dx=1.0, dy=0.0)
        pair.step(10)
        replica = pair.replica
        frames = [frame for frame in pair.wire.down.written if frame[4] == Kind.DELTA_SYNC]
        with replica.view() as view:
            digest = view.digest()

        for frame in [*frames, *reversed(frames)]:
            replica.receive_frame(frame[4], frame[FRAME_HEADER_BYTES:], pair.now_ns)

        assert replica.state == "live"
        assert replica.statistics().duplicates == 2 * len(frames)
        with replica.view() as view:
            assert view.digest() == digest
        pair.step(5)
        assert replica.state == "live"
        assert len(pair.digests()) == 1


def test_a_delta_whose_base_is_not_held_breaks_the_protocol_of_a_stream() -> None:
    with Pair(arena()) as pair:
        pair.run_until_live()
        pair.wire.down.record = True
        pair.replica.send("steer", dx=1.0, dy=0.0)
        pair.step(3)
        lost = pair.connect(name="lost")
        pair.run_until_live()
        frame = next(frame for frame in pair.wire.down.written if frame[4] == Kind.DELTA_SYNC)
        fresh = Replica(pair.world, name="fresh")
        fresh.connect(pair.now_ns)
        fresh.receive_frame(frame[4], frame[FRAME_HEADER_BYTES:], pair.now_ns)
        assert fresh.state == "closed", "a delta before the Welcome"
        assert isinstance(fresh.error, RemoteProtocolError)
        assert lost.state == "live"
        fresh.release()


def test_a_stranger_who_never_says_hello_is_cut_at_the_deadline() -> None:
    authority = Authority(arena())
    link = authority.open_link(0, peer="stranger")
    deadline_ns = authority.next_timeout_ns()
    assert deadline_ns is not None and deadline_ns <= HANDSHAKE_DEADLINE_NS

    now_ns = 0
    while authority.links_to_close() != [link]:
        deadline = authority.next_timeout_ns()
        assert deadline is not None and deadline <= 3 * HANDSHAKE_DEADLINE_NS
        now_ns = max(now_ns + 1, deadline)
        authority.handle_timeout(now_ns)
        while (transmit := authority.next_transmit(link, now_ns)) is not None:
            authority.record_sent(link, transmit, now_ns)
    authority.close_link(link, now_ns)
    authority.close_link(link, now_ns)
    assert authority.links == ()
    authority.close()


def test_strangers_without_a_session_are_bounded() -> None:
    authority = Authority(arena())
    for _ in range(HANDSHAKES_AT_ONCE_MAX):
        authority.open_link(0)
    with pytest.raises(LimitExceededError):
        authority.open_link(0)
    authority.close()


def test_a_client_that_stops_reading_is_told_goodbye_and_holds_nobody_up() -> None:
    """First its base stays behind; after five seconds without a byte taken it goes."""
    with Pair(arena(), clients=2, linger_s=0) as pair:
        pair.run_until_live()
        pair.replica.send("steer", dx=1.0, dy=0.0)
        pair.step(5)
        pair.wire.cut()
        seconds = BLOCKED_NS_MAX // NS_PER_S
        pair.step(pair.world.hz * (seconds + 3))

        assert len(pair.authority.links) == 1
        assert pair.authority.statistics().links_too_slow == 1
        assert pair.replicas[1].version == pair.authority.version
        assert pair.authority.statistics().sessions == 1


def test_a_client_that_reads_and_never_acks_is_told_goodbye() -> None:
    """Its socket takes everything, so only the missing acks show that nothing arrives in the game."""
    with Pair(arena(), clients=2) as pair:
        pair.run_until_live()
        pair.replica.send("steer", dx=1.0, dy=0.0)
        pair.step(5)
        pair.wire.reads = False
        pair.step(pair.world.hz * 8)
        assert len(pair.authority.links) == 1
        assert pair.authority.statistics().links_too_slow == 1


def test_a_link_that_has_gone_silent_is_closed() -> None:
    with Pair(arena(moving=False), linger_s=0) as pair:
        pair.run_until_live()
        pair.step(5)
        pair.wire.reads = False
        pair.step(pair.world.hz * (SILENCE_NS_MAX // NS_PER_S + 3))
        assert pair.authority.links == ()
        assert pair.authority.statistics().leaves == 1


def test_a_node_that_was_suspended_does_not_blame_its_clients() -> None:
    """What they said meanwhile lies unread; only a silence that was listened to counts."""
    with Pair(arena(), clients=2, latency_ticks=1) as pair:
        pair.run_until_live()
        pair.replica.send("steer", dx=1.0, dy=0.0)
        pair.step(5)
        pair.now_ns += 3600 * NS_PER_S
        pair.authority.handle_timeout(pair.now_ns)
        for replica in pair.replicas:
            assert replica.state == "live"
        assert len(pair.authority.links) == 2
        assert pair.authority.statistics().links_too_slow == 0
        assert not pair.authority.links_to_close()


def test_a_quiet_client_stays_and_knows_its_round_trip() -> None:
    """Pings keep a link alive in a world in which nothing happens."""
    with Pair(arena(moving=False), latency_ticks=2) as pair:
        pair.run_until_live()
        pair.step(pair.world.hz * 15)
        assert pair.replica.state == "live"
        rtt_ns = pair.replica.statistics().rtt_ns
        assert rtt_ns is not None
        assert 3 * NS_PER_S // 30 <= rtt_ns <= 7 * NS_PER_S // 30


# --- the end ----------------------------------------------------------------------------------------------------------


def test_a_shutdown_tells_everybody_and_takes_no_new_links() -> None:
    with Pair(arena(), clients=3, latency_ticks=1, linger_s=0) as pair:
        pair.run_until_live()
        pair.authority.shutdown(pair.now_ns, "maintenance")
        pair.step(4)

        assert pair.authority.links == ()
        for replica in pair.replicas:
            assert replica.state == "closed"
            assert replica.error is None
            assert replica.farewell == (Reason.SHUTDOWN, "maintenance")
        with pytest.raises(ClosedError):
            pair.authority.open_link(pair.now_ns)
        with pair.authority.store.view() as view:
            assert len(view["sessions"]) == 0


def test_a_kicked_client_is_told_why() -> None:
    with Pair(arena(), clients=2) as pair:
        pair.run_until_live()
        pair.authority.kick(pair.link, "enough", pair.now_ns)
        pair.step(2)
        assert pair.replica.farewell == (Reason.KICKED, "enough")
        assert pair.replicas[1].state == "live"
        with pytest.raises(ClosedError):
            pair.replica.send("refuse")


def test_where_sessions_do_not_linger_a_lost_connection_ends_one_in_the_next_tick() -> None:
    with Pair(arena(), clients=2, linger_s=0) as pair:
        pair.run_until_live()
        ticket = pair.replica.send("hit", target=pair.replica.entity)
        pair.wire.drop(pair.now_ns)
        pair.step(2)
        assert pair.replica.state == "closed"
        assert ticket.status == "pending"
        assert pair.authority.statistics().leaves == 1


def test_statistics_add_up() -> None:
    with Pair(arena(), clients=2) as pair:
        pair.run_until_live()
        pair.step(10)
        pair.replicas[1].close(pair.now_ns)
        pair.step(3)
        totals = pair.authority.statistics()
        assert (totals.joins, totals.leaves, totals.sessions, totals.links) == (2, 1, 1, 1)
        assert totals.bytes_sent == sum(replica.statistics().bytes_received for replica in pair.replicas)
        assert totals.full_syncs == 2
        link = pair.link.statistics()
        assert link.state == "live"
        assert link.acked <= link.base == pair.authority.version
        assert link.deltas_sent == pair.replica.statistics().versions_applied
        assert link.lag_ns is not None
