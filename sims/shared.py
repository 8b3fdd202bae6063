"""Seeds of nodes that write the same tables, until one fails: `python sims/shared.py [--seeds N] [--seed N]`.

This is `ecsnet sim --nodes N --swarm`, with two to four nodes in turn, one run after the other in one process, for the
hunt of mutants. It says `FAILED` and exits with 1 at the first run that is not as it must be.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from ecsnet.sim.scenario import Scenario  # noqa: E402
from sims.hunt import hunt  # noqa: E402


def scenario_of(seed: int, seconds: float) -> Scenario:
    return Scenario(swarm=True, nodes=2 + seed % 3, seed=seed, seconds=seconds)


def main(arguments: list[str] | None = None) -> int:
    return hunt(scenario_of, arguments, about=__doc__ or "", seconds=20.0)


if __name__ == "__main__":
    sys.exit(main())
