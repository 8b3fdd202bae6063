"""Runs: equal seeds, every way to end, and many at once."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from ecsnet.errors import ArgumentError, ConfigError, NotBuiltError, UnknownNameError
from ecsnet.sim.faults import KINDS, Fault
from ecsnet.sim.run import Game, Outcome, Tally, run_many, run_recorded, run_scenario, run_scenario_in_trio
from ecsnet.sim.scenario import Scenario
from tests.arena import arena
from tests.sim import games

ROOT = Path(__file__).parent.parent.parent

BAD_WIFI = Scenario(seed=7, profile="bad-wifi", clients=3, seconds=3.0, faults=(Fault("drop", 1.0, 0.0, "client-1"),))


def comparable(outcome: Outcome) -> Outcome:
    """Without what the wall clock decides."""
    return msgspec.structs.replace(outcome, wall_s=0.0, speed=0.0)


def test_equal_seeds_give_equal_outcomes_and_others_do_not() -> None:
    """The world is one object, used by one run after the other: nothing of a run may be left in it."""
    first = run_scenario(BAD_WIFI, games.arena_game(BAD_WIFI))
    other = run_scenario(BAD_WIFI.with_(seed=8), games.arena_game(BAD_WIFI))
    again = run_scenario(BAD_WIFI, games.arena_game(BAD_WIFI))

    assert first.ok, first.reasons()
    assert comparable(first) == comparable(again)
    assert first.trace_hash != other.trace_hash
    assert first.faults == {"drop": 1}
    assert first.reconnects == 1


def test_a_seed_gives_the_same_run_in_a_process_that_hashes_otherwise() -> None:
    """Python orders a set of texts by hashes that differ from process to process."""
    code = (
        "from tests.sim.test_run import *\n"
        "scenario = Scenario(seed=5, swarm=True, seconds=4.0)\n"
        "outcome = run_scenario(scenario, games.arena_game(scenario))\n"
        "print(outcome.trace_hash, outcome.digest)"
    )

    def run(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
        ).stdout

    runs = {run("0"), run("1"), run("4242")}

    assert len(runs) == 1
    assert len(runs.pop().split()) == 2


def test_a_run_that_takes_too_long_is_stopped_with_what_it_reached() -> None:
    scenario = Scenario(clients=2, seconds=80_000.0)

    outcome = run_scenario(scenario, games.arena_game(scenario), wall_limit_s=0.3)

    assert not outcome.ok
    assert outcome.stopped is not None
    assert "0.3 s of real time" in outcome.stopped
    assert "of 80000 s" in outcome.stopped
    assert 0 < outcome.virtual_s < 80_000
    assert outcome.versions > 0
    assert outcome.signature == {"stopped"}


def test_what_the_game_raises_ends_the_run_and_is_kept() -> None:
    scenario = Scenario(clients=2, seconds=3.0)

    outcome = run_scenario(scenario, games.raising_game(scenario))

    assert not outcome.ok
    assert outcome.error == "ZeroDivisionError: half of nobody"
    assert "in fall" in outcome.traceback
    assert outcome.failed_at_s == pytest.approx(20 / 30)
    assert outcome.signature == {"error ZeroDivisionError"}


def test_a_world_is_given_back_as_it_was() -> None:
    world = arena(on_error="log")
    scenario = Scenario(clients=1, seconds=0.5)

    run_scenario(scenario, Game(world))

    assert world.on_error == "log"


def test_the_recording_says_how_to_run_it_again() -> None:
    outcome, recording = run_recorded(BAD_WIFI, games.arena_game(BAD_WIFI))

    assert recording.notes["replay"] == outcome.replay == BAD_WIFI.command()
    assert len(recording.players) == 3
    assert recording.converged


def test_progress_is_told_in_virtual_seconds() -> None:
    told: list[float] = []
    scenario = Scenario(clients=1, seconds=2.0)

    run_scenario(scenario, games.arena_game(scenario), on_progress=told.append)

    assert told
    assert told == sorted(told)
    assert all(0 <= at_s < 2.0 for at_s in told)


@pytest.mark.parametrize(
    ("scenario", "error", "message"),
    [
        (Scenario(profile="bad-wfi"), UnknownNameError, "bad-wifi"),
        (Scenario(profile="/nowhere/lines.toml"), ConfigError, "lines.toml"),
        (Scenario(clients=1, faults=(Fault("drop", 1.0, 0.0, "client-4"),)), ConfigError, "client-4"),
    ],
)
def test_what_cannot_run_is_refused_before_it_does(scenario: Scenario, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run_scenario(scenario, games.arena_game(scenario))


@pytest.mark.parametrize("limit_s", [0.0, -1.0, float("nan")])
def test_a_limit_of_nothing_is_refused(limit_s: float) -> None:
    with pytest.raises(ArgumentError, match="wall limit"):
        run_scenario(Scenario(), games.arena_game(Scenario()), wall_limit_s=limit_s)


# --- many -------------------------------------------------------------------------------------------------------------


def test_many_runs_in_processes_are_the_runs_that_one_makes_here() -> None:
    scenarios = [Scenario(seed=seed, clients=2, seconds=1.0, profile="wifi") for seed in range(5)]

    there = {scenario.seed: outcome for scenario, outcome in run_many(scenarios, games.arena_game, jobs=2)}

    here = {one.seed: run_scenario(one, games.arena_game(one)) for one in scenarios}
    assert {seed: comparable(outcome) for seed, outcome in there.items()} == {
        seed: comparable(outcome) for seed, outcome in here.items()
    }


def test_a_process_that_dies_is_one_failed_run() -> None:
    scenarios = [Scenario(seed=seed, clients=1, seconds=0.5) for seed in range(1, 5)]

    outcomes = {scenario.seed: outcome for scenario, outcome in run_many(scenarios, games.dying_game, jobs=1)}

    assert [outcomes[seed].ok for seed in (1, 2, 3, 4)] == [True, False, True, True]
    assert outcomes[2].error == "ProcessDied: its process ended with exit status 7"
    assert outcomes[2].replay == "ecsnet sim --seed 2 --clients 1 --seconds 0.5"


def test_a_tick_that_never_ends_is_one_failed_run() -> None:
    scenarios = [Scenario(seed=seed, clients=1, seconds=0.5) for seed in (1, 2, 3)]

    runs = run_many(scenarios, games.hanging_game, jobs=1, wall_limit_s=1.0, kill_after_s=1.0)

    outcomes = {scenario.seed: outcome for scenario, outcome in runs}
    assert [outcomes[seed].ok for seed in (1, 2, 3)] == [True, False, True]
    assert outcomes[2].stopped == "killed after 2 s of real time: a tick did not end"


def test_a_game_that_cannot_be_set_up_is_a_failed_run_with_its_reason() -> None:
    ((_, outcome),) = run_many([Scenario()], games.unfit_game)

    assert not outcome.ok
    assert outcome.reasons() == ["it raised LookupError: there is no such game"]


def test_leaving_many_runs_early_ends_their_processes() -> None:
    runs = run_many([Scenario(seed=seed, clients=1, seconds=0.2) for seed in range(100)], games.arena_game, jobs=1)

    first = next(runs)
    runs.close()

    assert first[1].ok
    assert list(runs) == []


@pytest.mark.parametrize("jobs", [0, -1, 1000])
def test_an_impossible_number_of_processes_is_refused(jobs: int) -> None:
    with pytest.raises(ArgumentError, match=f"jobs is {jobs}"):
        list(run_many([Scenario()], games.arena_game, jobs=jobs))


def test_a_tally_adds_up_what_runs_came_to() -> None:
    good = run_scenario(BAD_WIFI, games.arena_game(BAD_WIFI))
    bad_scenario = Scenario(seed=3, clients=1, seconds=2.0)
    bad = run_scenario(bad_scenario, games.raising_game(bad_scenario))
    tally = Tally()

    assert tally.add(good) is None
    failure = tally.add(bad)

    summary = tally.summary(first_seed=3, wall_s=2.0, jobs=1)
    assert failure is not None
    assert failure.replay == bad.replay
    assert summary.failed_seeds == [3]
    assert summary.seeds == 2
    assert summary.fault_share.keys() == KINDS.keys()
    assert summary.fault_share["drop"] == 0.5
    assert summary.fault_share["churn"] == 0.0
    assert summary.virtual_s == pytest.approx(good.virtual_s + bad.virtual_s, abs=0.001)


# --- under Trio -------------------------------------------------------------------------------------------------------


def test_the_real_node_runs_a_scenario_too() -> None:
    scenario = Scenario(seed=3, clients=2, seconds=2.0, profile="wifi")

    outcome = run_scenario_in_trio(scenario, games.arena_game(scenario))

    assert outcome.ok, outcome.reasons()
    assert outcome.replay == "ecsnet sim --seed 3 --profile wifi --clients 2 --seconds 2 --trio"
    assert outcome.trace_hash == run_scenario_in_trio(scenario, games.arena_game(scenario)).trace_hash


def test_the_real_node_meets_the_faults_of_a_swarm() -> None:
    scenario = Scenario(swarm=True, seed=1, seconds=6.0, hostile=1)

    # Hostile clients find the command that the game fails in.
    outcome = run_scenario_in_trio(scenario, dataclasses.replace(games.arena_game(scenario), on_error="log"))

    assert outcome.ok, outcome.reasons()
    assert outcome.faults
    assert not outcome.faults.keys() & {"stall", "clock_jump"}
    assert outcome.replay == "ecsnet sim --swarm --seed 1 --seconds 6 --hostile 1 --trio"


@pytest.mark.parametrize(
    ("scenario", "error"),
    [
        (Scenario(transport="datagram"), ArgumentError),
        (Scenario(swarm=True, transport="mixed"), ArgumentError),
        (Scenario(faults=(Fault("clock_jump", 1.0),)), NotBuiltError),
    ],
)
def test_what_trio_does_not_do_is_refused(scenario: Scenario, error: type[Exception]) -> None:
    with pytest.raises(error, match="under Trio"):
        run_scenario_in_trio(scenario, games.arena_game(scenario))
