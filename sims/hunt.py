"""Seed after seed in one process, until one fails: what programs of this folder share that mutants are hunted with."""

import argparse
from collections.abc import Callable, Sequence

from ecsnet.cli.sim import game_of, quiet
from ecsnet.sim.run import run_scenario
from ecsnet.sim.scenario import Scenario

WALL_LIMIT_S = 120.0

ScenarioOf = Callable[[int, float], Scenario]
"""Makes the scenario of a seed, and of so many seconds of virtual time."""


def hunt(scenario_of: ScenarioOf, arguments: Sequence[str] | None, *, about: str, seconds: float) -> int:
    """Run what the arguments say (`--seed`, `--seeds`, `--seconds`).

    Says `FAILED` of the first run that is not as it must be, and returns 1; 0 if there is none.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--seeds", type=int, default=12, help="how many")
    parser.add_argument("--seconds", type=float, default=seconds, help="of virtual time, each")
    given = parser.parse_args(arguments)
    with quiet():
        for seed in range(given.seed, given.seed + given.seeds):
            scenario = scenario_of(seed, given.seconds)
            outcome = run_scenario(scenario, game_of(scenario), wall_limit_s=WALL_LIMIT_S)
            if not outcome.ok:
                ways = ", ".join(sorted(outcome.signature))
                print(f"FAILED seed {seed} [{ways}]: {outcome.reasons()[0]}; {outcome.replay}")
                return 1
    print(f"{given.seeds} seeds, from {given.seed} on: no violation")
    return 0
