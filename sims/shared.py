"""Seeds of nodes that write the same tables, until one fails: `python sims/shared.py [--seeds N] [--seed N]`.

This is `ecsnet sim --nodes N --swarm`, with two to four nodes in turn, one run after the other in one process, for the
hunt of mutants. It says `FAILED` and exits with 1 at the first run that is not as it must be.
"""

import argparse
import logging
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
    parser.add_argument("--seconds", type=float, default=20.0, help="of virtual time, each")
    given = parser.parse_args(arguments)
    logging.getLogger("ecsnet").setLevel(logging.CRITICAL)
    for seed in range(given.seed, given.seed + given.seeds):
        scenario = Scenario(swarm=True, nodes=2 + seed % 3, seed=seed, seconds=given.seconds)
        outcome = run_scenario(scenario, game_of(scenario), wall_limit_s=WALL_LIMIT_S)
        if not outcome.ok:
            ways = ", ".join(sorted(outcome.signature))
            print(f"FAILED seed {seed} [{ways}]: {outcome.reasons()[0]}; {outcome.replay}")
            return 1
    print(f"{given.seeds} seeds, from {given.seed} on: no violation")
    return 0


if __name__ == "__main__":
    sys.exit(main())
