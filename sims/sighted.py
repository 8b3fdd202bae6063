"""Seeds of the arena's swarm, in which players see a part of the world and write some of it, until one fails:
`python sims/sighted.py [--seeds N] [--seed N] [--seconds S]`.

The market of the other scenarios is a world of which everybody is sent all. This is `ecsnet sim --swarm`, one run after
the other in one process, for the hunt of mutants. It says `FAILED` and exits with 1 at the first run that is not as it
must be.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from ecsnet.sim.scenario import Scenario  # noqa: E402
from sims.hunt import hunt  # noqa: E402


def scenario_of(seed: int, seconds: float) -> Scenario:
    return Scenario(swarm=True, seed=seed, seconds=seconds)


def main(arguments: list[str] | None = None) -> int:
    return hunt(scenario_of, arguments, about=__doc__ or "", seconds=8.0)


if __name__ == "__main__":
    sys.exit(main())
