"""A whole cluster in virtual time: it converges, it repeats itself, and it notices what must never happen."""

import math
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ecsnet.demo import arena as classes
from ecsnet.errors import ArgumentError, ClosedError, UnknownNameError
from ecsnet.limits import LINGER_S_DEFAULT
from ecsnet.replica import StateChanged
from ecsnet.replica.events import EpochChanged
from ecsnet.sim.cluster import Cluster, NotConvergedError
from ecsnet.sim.player import Player
from ecsnet.store import Store, Transaction
from ecsnet.world import World
from tests.arena import arena


def fleet(count: int = 40) -> Any:
    """A setup that spawns ships which fly in a line."""

    def setup(store: Store) -> None:
        with store.transaction() as tx:
            tx.spawn_many(
                count,
                transform={"x": np.arange(count), "y": 0.0},
                velocity={"x": np.where(np.arange(count) % 10 == 0, 1.0, 0.0), "y": 0.0},
                health=None,
            )

    return setup


def wander(player: Player) -> None:
    """What a player does who cannot stand still."""
    angle = player.random.uniform(0.0, 2 * math.pi)
    player.send("steer", dx=math.cos(angle), dy=math.sin(angle))


@pytest.fixture
def world() -> Iterator[World]:
    yield arena()


@pytest.mark.parametrize("transport", ["stream", "datagram", "mixed"])
@pytest.mark.parametrize("profile", ["perfect", "lan", "bad-wifi", "satellite"])
def test_players_agree_on_every_network(world: World, profile: str, transport: Any) -> None:
    with Cluster(world, clients=5, profile=profile, transport=transport, seed=7, setup=fleet()) as cluster:
        cluster.each_tick(wander)
        cluster.run(6)

        cluster.assert_converged()

        assert len(cluster.live_players) == 5
        assert cluster.lag().n > 100
        assert cluster.digest() == cluster.players[0].view.digest()


def test_a_seed_is_a_run_and_another_seed_is_another(world: World) -> None:
    def trace(seed: int) -> str:
        with Cluster(world, clients=4, profile="bad-wifi", transport="mixed", seed=seed, setup=fleet()) as cluster:
            cluster.each_tick(wander)
            cluster.run(3)
            cluster.rest()
            return cluster.trace_hash + cluster.digest()

    first = trace(7)

    assert trace(7) == first
    assert trace(8) != first


def test_a_seed_is_the_same_run_in_every_process() -> None:
    """Python's hashes differ from process to process; nothing of a run may depend on them."""
    program = """
import math
from ecsnet.sim.cluster import Cluster
from tests.arena import arena
from tests.sim.test_cluster import fleet, wander
with Cluster(arena(), clients=4, profile="bad-wifi", transport="mixed", seed=3, setup=fleet()) as cluster:
    cluster.each_tick(wander)
    cluster.run(3)
    cluster.rest()
    print(cluster.trace_hash, cluster.digest())
"""
    runs = [
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."}, capture_output=True
        )
        for seed in ("1", "2")
    ]

    assert [run.returncode for run in runs] == [0, 0], runs[0].stderr.decode()
    assert runs[0].stdout == runs[1].stdout


@pytest.mark.parametrize("transport", ["stream", "datagram"])
def test_after_a_crash_of_the_node_players_come_back_to_another_history(world: World, transport: Any) -> None:
    """A store in memory starts over. What the players saw before is of an epoch that nobody continues."""
    with Cluster(world, clients=3, profile="broadband", transport=transport, seed=5, setup=fleet()) as cluster:
        cluster.run(2)
        before = cluster.node.epoch
        assert len(cluster.live_players) == 3
        entities = [player.entity for player in cluster.players]

        cluster.crash_node(down_s=0.5)
        assert not cluster.node.is_up
        cluster.run(20 if transport == "datagram" else 8)

        assert cluster.node.epoch != before
        assert all(player.replica.epoch == cluster.node.epoch for player in cluster.players)
        for player in cluster.players:
            events = player.poll()
            states = [(event.old, event.new) for event in events if isinstance(event, StateChanged)]
            assert states == [("joining", "live"), ("live", "resuming"), ("resuming", "live")]
            assert [event for event in events if isinstance(event, EpochChanged)]
            assert player.reconnects == 1
        assert all(player.entity for player in cluster.players)
        assert len(entities) == 3
        cluster.assert_converged()


@pytest.mark.parametrize("transport", ["stream", "datagram"])
def test_a_player_whose_connection_breaks_comes_back_by_itself(world: World, transport: Any) -> None:
    with Cluster(world, clients=2, profile="broadband", transport=transport, seed=2, setup=fleet()) as cluster:
        cluster.each_tick(wander)
        cluster.run(2)
        player = cluster.players[0]
        seen = player.version

        cluster.drop(player)
        cluster.step()
        assert player.state == "resuming"
        assert player.version == seen, "the last good version stays readable"
        with player.view as view:
            assert view.version == seen
        cluster.run(5)

        assert player.is_live
        assert player.version > seen
        cluster.assert_converged()


@pytest.mark.parametrize("transport", ["stream", "datagram"])
def test_a_partition_heals_without_a_second_full_sync(world: World, transport: Any) -> None:
    """Nothing is queued for resend: what was missed is covered by what comes after."""
    with Cluster(world, clients=2, profile="broadband", transport=transport, seed=2, setup=fleet()) as cluster:
        cluster.each_tick(wander)
        cluster.run(2)
        player = cluster.players[0]

        cluster.cut(player)
        cluster.run(3)
        stuck_at = player.version
        assert cluster.node.version - stuck_at > 80
        cluster.heal(player)
        cluster.run(4)

        assert player.is_live
        assert player.version > stuck_at + 80
        assert player.replica.statistics().full_syncs_applied == 1
        assert player.reconnects == 0
        cluster.assert_converged()


@pytest.mark.parametrize(("cut_s", "in_place"), [(LINGER_S_DEFAULT - 10, True), (LINGER_S_DEFAULT + 30, False)])
def test_after_a_partition_a_player_goes_on_while_its_session_waits_and_else_joins_anew(
    world: World, cut_s: float, in_place: bool
) -> None:
    with Cluster(world, clients=2, profile="lan", seed=2, setup=fleet()) as cluster:
        cluster.run(1)
        player = cluster.players[0]

        cluster.cut(player)
        cluster.run(cut_s)
        assert player.state == "resuming"
        cluster.heal()
        cluster.run(8)

        assert player.is_live
        told = player.replica.statistics()
        assert (told.resumed_in_place > 0) == in_place
        assert told.full_syncs_applied == (1 if in_place else 2)
        cluster.assert_converged()


def test_a_stalled_player_takes_in_what_waited_when_it_goes_on(world: World) -> None:
    with Cluster(world, clients=2, profile="lan", seed=2, setup=fleet()) as cluster:
        cluster.run(1)
        player = cluster.players[0]

        cluster.stall(player, 2.0)
        cluster.run(1.9)
        stalled_at = player.version
        cluster.run(1)

        assert stalled_at < 40
        assert player.version > 80
        cluster.assert_converged()


def test_a_paused_node_drops_its_ticks_and_goes_on(world: World) -> None:
    with Cluster(world, clients=2, profile="lan", seed=2, setup=fleet()) as cluster:
        cluster.run(1)

        cluster.pause_node(0.5)
        cluster.run(1)

        assert cluster.node.ticks_dropped == pytest.approx(15, abs=1)
        assert cluster.node.ticks + cluster.node.ticks_dropped == cluster.ticks
        cluster.assert_converged()


def test_players_leave_and_others_join(world: World) -> None:
    with Cluster(world, clients=3, profile="lan", seed=2, setup=fleet(0)) as cluster:
        cluster.run(1)

        cluster.leave(cluster.players[0])
        late = cluster.join("late")
        cluster.run(1)

        assert cluster.players[0].gone
        assert late.is_live
        with cluster.players[1].view as view:
            assert len(view["transform"].key) == 3
        cluster.assert_converged()


def test_lag_is_what_the_network_adds(world: World) -> None:
    """One way of the line, and nothing else: a simulator adds no time of its own."""
    from ecsnet.sim.profile import Direction, Profile

    line = Profile(name="line", source="a test", down=Direction(latency_ms=40.0), up=Direction(latency_ms=10.0))
    with Cluster(world, clients=2, profile=line, seed=2, setup=fleet()) as cluster:
        cluster.run(3)

        figures = cluster.lag()

        assert figures.p50_ms == pytest.approx(40.0, abs=0.1)
        assert figures.max_ms == pytest.approx(40.0, abs=0.5)
        assert cluster.lag(player=cluster.players[0]).n < figures.n


def test_lag_can_be_asked_for_a_table(world: World) -> None:
    with Cluster(world, clients=2, profile="lan", seed=2, setup=fleet()) as cluster:
        cluster.run(2)

        assert cluster.lag("transform").n > 50, "ships fly in every version"
        assert cluster.lag("health").n < 10, "nobody was hit; only those who joined have one"
        with pytest.raises(UnknownNameError, match="did you mean 'transform'"):
            cluster.lag("transfrom")


def test_lag_can_be_asked_for_a_table_by_its_class() -> None:
    with Cluster(classes.world, clients=2, profile="lan", seed=2) as cluster:
        cluster.run(2)
        assert cluster.lag(classes.Transform).n == cluster.lag("transform").n


def test_wrong_clocks_hurt_nobody(world: World) -> None:
    """Every deadline is relative: a clock that is off by a day or runs too fast is the player's own matter."""
    with Cluster(world, clients=3, profile="lan", seed=2, setup=fleet()) as cluster:
        cluster.run(1)

        cluster.shift_clock(cluster.players[0], 86_400_000.0)
        cluster.shift_clock(cluster.players[1], -500.0)
        cluster.run(3)

        cluster.assert_converged()


def test_a_game_that_raises_stops_the_run(world: World) -> None:
    def crash(player: Player) -> None:
        player.send("crash")

    with Cluster(world, clients=1, profile="lan", seed=2) as cluster:
        cluster.each_tick(crash)

        with pytest.raises(RuntimeError, match="a bug in the game"):
            cluster.run(2)


def test_a_cell_that_differs_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checker itself: let one player lie about what it holds."""
    with Cluster(world, clients=2, profile="lan", seed=2, setup=fleet()) as cluster:
        cluster.run(1)
        store = cluster.players[0].replica.store
        assert store is not None
        with store.view() as view:
            key = int(view["health"].key[0])
        store["health"].update(key, hp=1)
        cluster.run(1)

        assert {one.checker for one in cluster.violations} & {"digest", "protocol"}
        with pytest.raises(NotConvergedError, match="client-0"):
            cluster.assert_converged()


def test_what_makes_no_run_is_refused(world: World) -> None:
    with pytest.raises(ArgumentError, match="clients"):
        Cluster(world, clients=-1)
    with pytest.raises(ArgumentError, match="transport"):
        Cluster(world, transport="pigeon")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="did you mean 'bad-wifi'"):
        Cluster(world, profile="bad-wify")
    cluster = Cluster(world, clients=0)
    with pytest.raises(ArgumentError, match="seconds"):
        cluster.run(float("nan"))
    cluster.close()
    with pytest.raises(ClosedError):
        cluster.run(1)


def test_a_world_is_as_it_was_when_the_cluster_is_closed() -> None:
    world = arena(on_error="log", seed=5)
    with Cluster(world, clients=1, profile="lan", seed=9) as cluster:
        assert (world.on_error, world.seed) == ("raise", 9)
        cluster.run(0.5)
    assert (world.on_error, world.seed) == ("log", 5)


def test_the_dice_of_a_game_are_the_seeds() -> None:
    """A game that rolls dice in a system repeats itself with the seed of the run, and not without."""

    def rolled(seed: int) -> list[float]:
        world = arena(moving=False)

        @world.system
        def drift(tx: Transaction) -> None:
            (body,) = tx.query("transform")
            body.x += tx.random.uniform(-1.0, 1.0, len(body.x))

        with Cluster(world, clients=1, profile="lan", seed=seed, setup=fleet(3)) as cluster:
            cluster.run(1)
            with cluster.players[0].view as view:
                return list(view["transform.x"].tolist())

    assert rolled(1) == rolled(1)
    assert rolled(1) != rolled(2)
