"""A node with a disk in the simulator: what was promised is there after crashes, and a node that breaks its word is
found out."""

from collections.abc import Callable
from typing import Any

import pytest

from ecsnet.authority import Authority
from ecsnet.demo.simulated import game
from ecsnet.errors import ArgumentError
from ecsnet.session.ledger import CommandLedger
from ecsnet.sim.cluster import Cluster
from ecsnet.sim.faults import Fault
from ecsnet.sim.node_disk import DURABILITIES
from ecsnet.store.durability import Durable
from ecsnet.store.levels import RELAXED, STRICT

CRASHES = (
    Fault("node_crash", 1.5, 0.3),
    Fault("power_loss", 3.0, 0.3),
    Fault("node_crash", 4.5, 0.3),
    Fault("power_loss", 6.0, 0.3),
)


def failing(kind: str) -> tuple[Fault, ...]:
    """A disk that fails once a second."""
    return tuple(Fault("disk_fault", at_s, value=kind) for at_s in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0))


def played(durability: str | None, *, faults: tuple[Fault, ...] = CRASHES, seed: int = 3, **given: Any) -> Cluster:
    """A run with crashes, brought to rest and closed."""
    arena = game(entities=20, moving=1.0, seed=seed, hz=None)
    assert arena.model is not None and arena.play is not None
    cluster = Cluster(
        arena.world,
        clients=3,
        seed=seed,
        setup=arena.setup,
        model=arena.model(),
        on_error="log",
        durability=durability,
        faults=faults,
        **given,
    )
    with cluster:
        cluster.each_tick(arena.play)
        cluster.run(8)
        cluster.rest()
    return cluster


def checkers(cluster: Cluster) -> set[str]:
    return {violation.checker for violation in cluster.violations}


@pytest.mark.parametrize("transport", ["stream", "datagram"])
@pytest.mark.parametrize("durability", DURABILITIES)
def test_players_go_on_where_they_were_after_every_crash(durability: str, transport: str) -> None:
    cluster = played(durability, transport=transport)
    assert cluster.violations == []
    assert cluster.node.incarnation == 5
    for player in cluster.players:
        assert player.replica.statistics().resumes >= (4 if durability in ("strict", "paranoid") else 1)


@pytest.mark.parametrize("durability", ["relaxed", "strict", "paranoid"])
def test_who_was_let_in_is_known_after_a_crash_whenever_it_comes(durability: str) -> None:
    """A player that sees the world sends commands. Were its session lost, they would be, and nobody would say so."""
    arena = game(entities=5, moving=1.0, seed=2, hz=None)
    with Cluster(arena.world, clients=1, seed=2, setup=arena.setup, durability=durability, on_error="log") as run:
        run.run(1)
        for ticks in range(1, 8):
            for _ in range(2):
                run.join()
            run.step(ticks)
            run.crash_node(0.2)
            run.run(1)
        assert run.rest()
    assert run.violations == []
    assert run.node.incarnation == 8


def test_a_strict_node_keeps_its_epoch_and_a_relaxed_one_begins_another() -> None:
    """The rule: an epoch is a history that nobody saw taken back, and only a strict node knows that of itself."""
    epochs: dict[str, set[int]] = {}
    for durability in ("strict", "relaxed"):
        arena = game(entities=5, moving=1.0, seed=1, hz=None)
        seen = epochs[durability] = set()
        with Cluster(arena.world, clients=1, seed=1, setup=arena.setup, durability=durability, on_error="log") as run:
            for _ in range(3):
                run.run(1)
                seen.add(run.node.epoch)
                run.crash_node(0.1)
                run.run(0.5)
            seen.add(run.node.epoch)
    assert len(epochs["strict"]) == 1
    assert len(epochs["relaxed"]) == 4


def test_a_run_with_a_disk_goes_the_same_way_twice() -> None:
    first, second = (played("relaxed", seed=11) for _ in range(2))
    assert first.trace_hash == second.trace_hash
    assert first.trace_hash != played("strict", seed=11).trace_hash


@pytest.mark.parametrize("kind", ["io", "short", "sync"])
def test_a_node_whose_disk_fails_is_started_again_and_has_kept_its_word(kind: str) -> None:
    faults = tuple(Fault("disk_fault", at_s, value=kind) for at_s in (1.0, 2.5, 4.0))
    cluster = played("strict", faults=faults)
    assert cluster.violations == []
    assert cluster.node.incarnation > 1


@pytest.mark.parametrize(("kind", "seed"), [("full", 1), ("sync", 7), ("sync", 12)])
def test_a_sync_that_fails_costs_a_relaxed_node_what_a_loss_of_power_does(kind: str, seed: int) -> None:
    """It was answered when it was written, some milliseconds before: no more than that may be gone, and nobody is
    answered once the disk has failed. Seed 7 makes a version again whose number the node before had given already; in
    seed 12 a player whose commands are gone comes when another node has been and gone since."""
    cluster = played("relaxed", faults=failing(kind), seed=seed)
    assert cluster.violations == []
    assert cluster.node.incarnation > 4


@pytest.mark.parametrize("seed", [1, 3, 11])
def test_a_node_that_promises_nothing_may_answer_what_a_failed_sync_takes(seed: int) -> None:
    """In memory it is answered at once, before anything is written."""
    assert played("memory", faults=failing("sync"), seed=seed).violations == []


def test_a_full_disk_refuses_and_the_node_stays_up() -> None:
    cluster = played("relaxed", faults=tuple(Fault("disk_fault", at_s, value="full") for at_s in (1.0, 2.5, 4.0)))
    assert cluster.violations == []


def test_without_a_disk_a_loss_of_power_is_a_crash() -> None:
    cluster = played(None)
    assert cluster.violations == []
    assert all(player.replica.statistics().resumes == 0 for player in cluster.players)


def test_a_durability_that_there_is_not_is_refused() -> None:
    with pytest.raises(ArgumentError, match="durability is 'eternal'"):
        played("eternal")


# --- nodes that break their word --------------------------------------------------------------------------------------


def test_an_answer_before_its_version_is_durable_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node that answers as soon as it has committed, whatever the disk says."""
    monkeypatch.setattr(Durable, "reached", lambda self, version, level: True)
    found = set()
    for seed in range(1, 7):
        found |= checkers(played("relaxed", seed=seed))
    assert "durable" in found


def test_an_answer_after_a_sync_that_failed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node that takes what it has handed to the system for safe, though the system has given it up."""

    def written(self: Durable, level: int) -> int:
        disk = self.disk
        return disk.written if level <= RELAXED else disk.durable if level == STRICT else disk.horizon

    monkeypatch.setattr(Durable, "_mark", written)
    found = []
    for seed in (3, 11):
        found += played("relaxed", faults=failing("sync"), seed=seed).violations
    assert any("when its sync had failed" in violation.what for violation in found)


def test_a_session_that_is_not_recovered_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Authority, "_resume", _refuse_all)
    assert "session" in checkers(played("strict"))


def _refuse_all(self: Authority, link: Any, resume: Any) -> None:
    from ecsnet.wire.messages import Reason

    link.server.refuse_resume(resume, Reason.AUTH_FAILED)


def test_commands_that_run_twice_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that forgets which numbers it has decided runs them again."""
    true: Callable[..., CommandLedger] = CommandLedger.recovered

    def forgetful(last: int, statuses: bytes, *, version: int, tick: int) -> CommandLedger:
        return true(max(0, last - 3), statuses, version=version, tick=tick)

    monkeypatch.setattr(CommandLedger, "recovered", forgetful)
    found = set()
    for seed in range(1, 7):
        found |= checkers(played("strict", seed=seed, profile="4g"))
    assert "command" in found
