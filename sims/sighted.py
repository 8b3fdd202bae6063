"""Seeds of the arena's swarm, in which players see a part of the world and write some of it, until one fails:
`python sims/sighted.py [--seeds N] [--seed N] [--seconds S]`.

The market of the other scenarios is a world of which everybody is sent all. This is `ecsnet sim --swarm`, one run after
the other in one process, for the hunt of mutants. It says `FAILED` and exits with 1 at the first run that is not as it
must be.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from ecsnet.cli.sim import game_of  # noqa: E402
from ecsnet.sim.run import run_scenario  # noqa: E402
from ecsnet.sim.scenario import Scenario  # noqa: E402

WALL_LIMIT_S = 120.0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--seeds", type=int, default=12, help="how many")
    parser.add_argument("--seconds", type=float, default=8.0, help="of virtual time, each")
    given = parser.parse_args(arguments)
    for seed in range(given.seed, given.seed + given.seeds):
        scenario = Scenario(swarm=True, seed=seed, seconds=given.seconds)
        outcome = run_scenario(scenario, game_of(scenario), wall_limit_s=WALL_LIMIT_S)
        if not outcome.ok:
            ways = ", ".join(sorted(outcome.signature))
            print(f"FAILED seed {seed} [{ways}]: {outcome.reasons()[0]}; {outcome.replay}")
            return 1
    print(f"{given.seeds} seeds, from {given.seed} on: no violation")
    return 0


if __name__ == "__main__":
    sys.exit(main())
