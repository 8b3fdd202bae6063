"""The real node and real clients in virtual time: from one seed one run, whatever process it is in."""

import functools
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trio
import trio._core._run as scheduler

from ecsnet.errors import ArgumentError, BusyError, ConfigError, InternalError, NotBuiltError, UnknownNameError
from ecsnet.node.connection import Connection
from ecsnet.node.connections import Connections
from ecsnet.replica import CommandAnswered
from ecsnet.sim import trio_seeding
from ecsnet.sim.faults import KINDS, Fault, swarm
from ecsnet.sim.profile import Direction, Profile
from ecsnet.sim.trio_mode import (
    FAULT_KINDS,
    SeedingError,
    TrioCluster,
    TrioPlayer,
    check_seeding,
    deterministic_trio,
    run_in_trio,
)
from ecsnet.store import Store, Transaction
from ecsnet.world import Client, World
from tests.arena import arena, arena_schema

ROOT = Path(__file__).parent.parent.parent


def bodies(store: Store) -> None:
    """Some that move, so that every tick makes a version."""
    with store.transaction() as tx:
        for number in range(40):
            tx.spawn(transform={"x": float(number)}, velocity={"x": 1.0, "y": -0.5})


def wander(player: TrioPlayer) -> None:
    player.send("steer", dx=player.random.uniform(-0.7, 0.7), dy=player.random.uniform(-0.7, 0.7))


play = functools.partial(run_in_trio, clients=3, seconds=3.0, setup=bodies, play=wander)


# --- one seed, one run -----------------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_runs_in_any_process() -> None:
    """Neither Python's hash seed nor the descriptors, addresses or tasks of a process may decide anything."""
    code = (
        "from tests.sim.test_trio_mode import play, arena, faults\n"
        "outcome = play(arena(), profile='bad-wifi', seed=7, script=faults)\n"
        "print(outcome.trace_hash, outcome.digest, outcome.lag)"
    )
    runs = []
    for hash_seed in ("1", "2"):
        environment = dict(os.environ, PYTHONHASHSEED=hash_seed)
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        runs.append(done.stdout)

    # Here, with other descriptors open and with holes among them.
    open_files = [os.open(os.devnull, os.O_RDONLY) for _ in range(40)]
    for descriptor in open_files[::3]:
        os.close(descriptor)
    outcome = play(arena(), profile="bad-wifi", seed=7, script=faults)
    for number, descriptor in enumerate(open_files):
        if number % 3:
            os.close(descriptor)

    assert runs[0] == runs[1] == f"{outcome.trace_hash} {outcome.digest} {outcome.lag}\n"


async def faults(cluster: TrioCluster) -> None:
    """Something of everything."""
    await trio.sleep(0.7)
    cluster.drop(cluster.players[0])
    await trio.sleep(0.3)
    cluster.cut(cluster.players[1], up=False)
    cluster.pause_node(0.2)
    await trio.sleep(0.5)
    cluster.heal()
    cluster.crash_node(0.3)


def test_another_seed_is_another_run() -> None:
    traces = {play(arena(), profile="bad-wifi", seed=seed).trace_hash for seed in range(4)}

    assert len(traces) == 4


def test_the_seed_decides_what_the_scheduler_does_even_where_the_network_decides_nothing() -> None:
    """On a perfect line nothing is drawn: what is left is the order of tasks."""
    orders = {_order_of_joins(seed) for seed in range(6)}

    assert len(orders) > 1
    assert _order_of_joins(3) == _order_of_joins(3)


def _order_of_joins(seed: int) -> tuple[str, ...]:
    names: list[str] = []
    world = World(arena_schema(), hz=30)

    @world.on_join
    def enter(tx: Transaction, client: Client) -> None:
        names.append(client.name)

    run_in_trio(world, clients=6, profile="perfect", seed=seed, seconds=0.5)
    return tuple(names)


# --- the self-test of the seeding ------------------------------------------------------------------------------------


def test_the_seeding_governs_the_trio_that_is_installed() -> None:
    check_seeding()


def test_a_trio_that_ignores_the_switch_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks would run in the order in which they became ready, which a seed does not fix: an epoll reports sockets in
    the order it likes, and deadlines of one moment are kept by address."""
    monkeypatch.setattr(trio_seeding, "_SWITCH", "_ANOTHER_SWITCH")
    monkeypatch.setattr(scheduler, "_ANOTHER_SWITCH", False, raising=False)
    monkeypatch.setattr(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING", False)

    with pytest.raises(SeedingError, match="became ready"):
        check_seeding()


def test_a_trio_that_ignores_the_generators_seed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stubborn(random.Random):
        def seed(self, *arguments: object, **more: object) -> None:
            super().seed()

    monkeypatch.setattr(scheduler, "_r", Stubborn())

    with pytest.raises(SeedingError, match="with the same seed"):
        check_seeding()


def test_a_trio_that_stopped_shuffling_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All seeds would be one."""

    class Orderly(random.Random):
        def shuffle(self, x: object) -> None:
            pass

    monkeypatch.setattr(scheduler, "_r", Orderly())

    with pytest.raises(SeedingError, match="another seed"):
        check_seeding()


@pytest.mark.parametrize("name", ["_ALLOW_DETERMINISTIC_SCHEDULING", "_r"])
def test_a_trio_without_the_names_is_told_as_that(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delattr(scheduler, name)

    with pytest.raises(SeedingError, match=name):
        check_seeding()


def test_no_run_begins_under_a_scheduler_that_is_not_the_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(scheduler, "_r")
    set_up: list[Store] = []

    with pytest.raises(SeedingError, match=trio.__version__):
        run_in_trio(arena(), setup=set_up.append)

    assert set_up == []


def test_trio_is_as_it_was_after_a_run() -> None:
    before = scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r.getstate()

    run_in_trio(arena(), clients=1, seconds=0.1)

    assert (scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r.getstate()) == before


def test_two_seeded_runs_at_once_would_share_their_dice() -> None:
    raised: list[Exception] = []

    def another() -> None:
        try:
            run_in_trio(arena(), clients=0, seconds=0.1)
        except BusyError as error:
            raised.append(error)

    with deterministic_trio(1):
        thread = threading.Thread(target=another)
        thread.start()
        thread.join()

    assert len(raised) == 1
    check_seeding()


# --- what runs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["perfect", "bad-wifi", "satellite", "train"])
def test_everybody_ends_up_with_the_same_world(profile: str) -> None:
    outcome = play(arena(), profile=profile, seed=11)

    assert outcome.reasons == ()
    assert outcome.converged
    assert outcome.version > 80, "the world went on all along"
    assert outcome.lag.n > 200


def test_lag_is_that_of_the_line() -> None:
    """The node's tick, the fan-out, the line, the client: nothing else takes virtual time."""
    line = Profile(name="50", source="a test", down=Direction(latency_ms=50.0), up=Direction(latency_ms=20.0))

    outcome = play(arena(), profile=line, seed=1)

    assert outcome.lag.p50_ms == pytest.approx(50.0, abs=0.001)
    assert outcome.profile == "50"


def test_a_node_that_shuts_down_says_goodbye_to_everybody() -> None:
    outcome = play(arena(), profile="bad-wifi", seed=5)

    assert outcome.goodbyes == outcome.clients == 3


def test_ticks_that_come_too_late_are_dropped_and_not_made_up_for() -> None:
    """A node that stands still for a second at 30 Hz loses 29 of its ticks: the thirtieth is late, and runs."""

    async def script(cluster: TrioCluster) -> None:
        await trio.sleep(1.0)
        cluster.pause_node(1.0)

    outcome = play(arena(hz=30), seed=2, seconds=4.0, script=script)

    assert outcome.converged
    assert outcome.ticks_dropped == 29
    undisturbed = play(arena(hz=30), seed=2, seconds=4.0)
    assert undisturbed.ticks_dropped == 0
    assert abs(undisturbed.ticks - outcome.ticks - 29) <= 2


def test_a_player_whose_connection_breaks_comes_back_and_sees_the_world_go_on() -> None:
    seen: dict[str, int] = {}

    async def script(cluster: TrioCluster) -> None:
        await trio.sleep(1.0)
        player, other = cluster.players[:2]
        seen["session"], seen["epoch"], version = player.session, player.epoch, player.version
        cluster.drop(player)
        with trio.fail_after(5.0):
            while player.state == "live":
                await trio.sleep(0.001)
        assert player.version >= version, "the last world stays readable"
        assert player.view["transform.x"].size
        assert other.is_live
        with trio.fail_after(5.0):
            while not player.is_live:
                await trio.sleep(0.01)
        seen["again"], seen["epoch again"] = player.session, player.epoch

    outcome = play(arena(), profile="wifi", seed=3, script=script)

    assert outcome.converged and outcome.reconnects == 1
    assert seen["again"] == seen["session"], "the session goes on"
    assert seen["epoch again"] == seen["epoch"], "of the same history"


def test_players_notice_that_the_node_began_anew() -> None:
    """Its store was in memory: what they saw is gone, and versions count from the beginning in another epoch."""
    epochs: list[set[int]] = []

    async def script(cluster: TrioCluster) -> None:
        for _ in range(3):
            await trio.sleep(1.6)
            epochs.append({player.epoch for player in cluster.players if player.is_live})
            cluster.crash_node(down_s=0.4)

    outcome = play(arena(), profile="wifi", seed=4, seconds=7.0, script=script)

    assert outcome.converged, outcome.reasons
    assert outcome.reconnects == 9
    assert all(len(once) == 1 for once in epochs)
    assert len(set.union(*epochs)) == 3


def test_a_player_behind_a_line_that_is_cut_catches_up_after_it_is_healed() -> None:
    async def script(cluster: TrioCluster) -> None:
        player = cluster.players[0]
        await trio.sleep(1.0)
        cluster.cut(player)
        await trio.sleep(0.1)
        version = player.version
        await trio.sleep(1.5)
        assert player.version == version
        assert player.is_live, "too short to be told from a slow line"
        cluster.heal(player)

    outcome = play(arena(), profile="wifi", seed=6, seconds=5.0, script=script)

    assert outcome.converged, outcome.reasons
    assert outcome.reconnects == 0
    assert outcome.lag.max_ms > 1400


def test_a_player_behind_a_line_that_is_cut_for_long_begins_anew() -> None:
    """The node gives a silent session up, and so does the player; what was under way does not disturb the next one."""

    async def script(cluster: TrioCluster) -> None:
        await trio.sleep(1.0)
        cluster.cut(cluster.players[0])
        await trio.sleep(30.0)
        assert cluster.players[0].state == "resuming"
        assert [player.is_live for player in cluster.players[1:]] == [True, True]
        cluster.heal()
        await trio.sleep(10.0)

    outcome = play(arena(), profile="wifi", seed=8, seconds=45.0, script=script)

    assert outcome.converged, outcome.reasons
    assert outcome.reconnects >= 1


def test_a_line_that_turns_bad_is_felt() -> None:
    slow = Profile(
        name="slow",
        source="a test",
        down=Direction(latency_ms=20.0, bandwidth_kbit_s=64.0),
        up=Direction(latency_ms=20.0, bandwidth_kbit_s=64.0),
    )

    async def script(cluster: TrioCluster) -> None:
        await trio.sleep(1.0)
        cluster.change_profile(None, slow)
        await trio.sleep(4.0)
        cluster.change_profile(None, "lan")

    outcome = play(arena(), profile="lan", seed=9, seconds=8.0, setup=many, script=script)

    assert outcome.converged, outcome.reasons
    assert outcome.lag.p50_ms < 100 < 1000 < outcome.lag.max_ms
    assert outcome.ticks_dropped == 0, "a slow client waits for itself"


def many(store: Store) -> None:
    """More than a slow line carries: 300 bodies that all move."""
    with store.transaction() as tx:
        for number in range(300):
            tx.spawn(transform={"x": float(number)}, velocity={"x": 1.0, "y": number * 0.01})


def test_a_big_world_joins_over_a_bad_line_while_it_changes() -> None:
    """Its full sync has many chunks; they are cut when the line is ready for them, and between them ticks go on."""

    def big(store: Store) -> None:
        with store.transaction() as tx:
            for number in range(12_000):
                speed = {"x": 1.0} if number < 300 else {}
                tx.spawn(transform={"x": number * 1.37, "y": number * 0.77}, velocity=speed, health={})

    outcome = play(
        arena(),
        profile="bad-wifi",
        seed=14,
        seconds=7.0,
        setup=big,
        faults=[Fault("drop", at_s=2.0), Fault("partition", at_s=4.0, for_s=0.7)],
    )

    assert outcome.converged, outcome.reasons
    assert outcome.reconnects == 3, "all joined twice"
    assert outcome.ticks_dropped == 0


def test_a_bug_in_the_node_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node closes the connection in which it found the bug, and the client comes back: all would look well."""
    written = 0
    write = Connections._write

    async def second_fails(self: Connections, connection: Connection) -> None:
        nonlocal written
        written += 1
        if written == 2:
            raise ZeroDivisionError("a bug in the node")
        await write(self, connection)

    monkeypatch.setattr(Connections, "_write", second_fails)

    outcome = play(arena(), profile="wifi", seed=15)

    assert not outcome.converged
    assert outcome.reasons == ("node 1 found 1 bugs of its own; the log has them",)


def test_commands_and_their_answers_go_through_the_real_drivers() -> None:
    answered: set[tuple[str, str]] = set()

    def game(player: TrioPlayer) -> None:
        for event in player.poll():
            if isinstance(event, CommandAnswered):
                answered.add((event.ticket.name, event.ticket.status))
        if player.random.random() < 0.1:
            if player.number == 1:
                player.send("refuse")
            else:
                player.send("pose", stance=1, note="hello")

    outcome = play(arena(), profile="bad-wifi", seed=10, play=game)

    assert outcome.converged
    assert answered == {("refuse", "rejected"), ("pose", "accepted")}


# --- with faults -----------------------------------------------------------------------------------------------------


def of_a_swarm(seed: int, seconds: float, clients: int) -> list[Fault]:
    """What a seed of the swarm draws, as far as it can be done under Trio."""
    return [fault for fault in swarm(seed, seconds=seconds, clients=clients) if fault.kind in FAULT_KINDS]


@pytest.mark.parametrize("seed", range(6))
def test_the_drivers_survive_a_swarm_of_faults(seed: int) -> None:
    """Everything that goes wrong for the cores goes wrong for the real node, its hub and its tasks, too."""
    outcome = run_in_trio(
        arena(on_error="log"),
        clients=4,
        profile=("wifi", "4g", "bad-wifi", "lan")[seed % 4],
        seed=seed,
        seconds=12.0,
        setup=bodies,
        play=wander,
        faults=of_a_swarm(seed, 12.0, 4),
    )

    assert outcome.reasons == ()
    assert outcome.converged


def test_every_kind_of_fault_that_there_is_here_is_done() -> None:
    lasts = {kind: 0.4 if KINDS[kind].lasts else 0.0 for kind in FAULT_KINDS}
    faults = [Fault(kind, at_s=1.0 + number * 0.5, for_s=lasts[kind]) for number, kind in enumerate(FAULT_KINDS)]

    outcome = play(arena(on_error="log"), profile="wifi", seed=12, seconds=9.0, faults=faults)

    assert outcome.converged, outcome.reasons
    assert outcome.fault_counts == dict.fromkeys(FAULT_KINDS, 1)
    assert outcome.clients == 3 + 3 + 5, "those who left were followed by others, and five came for a while"
    assert outcome.ticks_dropped == 0, "the node that was paused is not the one that ran last"


@pytest.mark.parametrize("kind", ["stall", "clock_jump"])
def test_faults_that_cannot_be_done_here_are_refused(kind: str) -> None:
    """All players share one thread and one clock."""
    with pytest.raises(NotBuiltError, match=kind):
        play(arena(), faults=[Fault(kind, at_s=1.0, for_s=0.5 if KINDS[kind].lasts else 0.0)])


def test_a_fault_of_a_player_who_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="client-7"):
        play(arena(), faults=[Fault("drop", at_s=1.0, who="client-7")])


def test_clients_that_send_whatever_they_like_hurt_nobody() -> None:
    outcome = play(arena(on_error="log"), profile="wifi", seed=13, seconds=8.0, hostile=4)

    assert outcome.converged, outcome.reasons
    assert outcome.reconnects == 0
    assert outcome.lag.p50_ms < 30


# --- what makes no run -----------------------------------------------------------------------------------------------


def test_what_the_games_code_raises_comes_out() -> None:
    def game(player: TrioPlayer) -> None:
        raise ZeroDivisionError("a bug in the game")

    with pytest.raises(ZeroDivisionError, match="a bug in the game"):
        play(arena(), play=game)

    check_seeding()


def test_what_a_system_raises_ends_the_run() -> None:
    world = arena()

    @world.system
    def broken(tx: Transaction) -> None:
        if tx.tick == 20:
            raise ZeroDivisionError("a bug in a system")

    with pytest.raises(ZeroDivisionError, match="a bug in a system"):
        play(world)


def test_a_run_in_which_time_does_not_go_on_is_ended() -> None:
    """A driver that asks for a time, finds nothing to do then and asks again, keeps a core busy; in virtual time it
    would keep the run for ever."""

    async def script(cluster: TrioCluster) -> None:
        await trio.sleep(1.5)
        while True:
            await trio.sleep(0)

    with pytest.raises(InternalError, match="1.5 s"):
        play(arena(), script=script)

    check_seeding()


@pytest.mark.parametrize("clients", [-1, 1_000_000, 2.5, True])
def test_impossible_numbers_of_clients_are_refused(clients: object) -> None:
    with pytest.raises(ArgumentError, match="clients"):
        run_in_trio(arena(), clients=clients)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_impossible_times_are_refused(seconds: float) -> None:
    with pytest.raises(ArgumentError, match="seconds"):
        run_in_trio(arena(), seconds=seconds)


def test_a_profile_that_there_is_not_is_named() -> None:
    with pytest.raises(UnknownNameError, match="bad-wifi"):
        run_in_trio(arena(), profile="bad-wify")


def test_windows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")

    with pytest.raises(NotBuiltError, match="Windows"):
        run_in_trio(arena())
