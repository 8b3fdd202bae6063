"""Run scenarios with new seeds for as long as there is time: `python sims/night.py --minutes N`.

Seeds that failed before come first, since who mends something wants to know. Then all scenarios in turn, the swarm as
often as all others together, each with seeds that nobody has tried. What fails is kept in `sims/failures/`, a file that
`sims/run.py` takes, and beside it why; one line says how to run it again.

The exit status is 0 if nothing failed. It stops in time: no run begins after the deadline, and none takes long.
"""

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from ecsnet.sim.run import Outcome, run_many  # noqa: E402
from ecsnet.sim.scenario import Scenario, read_scenario  # noqa: E402
from sims.run import WALL_LIMIT_S, game_of, names, replay, scenario  # noqa: E402

FAILURES = Path(__file__).resolve().parent / "failures"
SWARM = "swarm"


def seeds(first: int) -> Iterator[tuple[str, Scenario]]:
    """Scenarios without end: one of the swarm, one of another, and so on."""
    others = itertools.cycle([name for name in names() if name != SWARM])
    for seed in itertools.count(first):
        yield SWARM, scenario(SWARM, seed)
        other = next(others)
        yield other, scenario(other, seed)


def keep(name: str, one: Scenario, outcome: Outcome, folder: Path) -> Path:
    """Write a failed run down: the scenario as it is, and beside it why."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{one.seed}.json"
    path.write_text(one.to_json() + "\n", encoding="utf-8")
    why = {"reasons": outcome.reasons(), "traceback": outcome.traceback, "trace_hash": outcome.trace_hash}
    path.with_suffix(".why").write_text(json.dumps(why, indent=2) + "\n", encoding="utf-8")
    return path


def kept(folder: Path) -> list[tuple[str, Scenario]]:
    """What failed before."""
    return [(path.stem.rpartition("-")[0], read_scenario(path)) for path in sorted(folder.glob("*.json"))]


def night(*, deadline: float, first: int, jobs: int, folder: Path) -> tuple[int, int]:
    """Run until the deadline (of `time.monotonic`). Returns how many ran, and how many of them failed."""
    ran = failed = 0
    source = itertools.chain(kept(folder), seeds(first))
    while time.monotonic() < deadline:
        # In portions: what runs when the time is over is waited for.
        portion = [next(source) for _ in range(4 * jobs)]
        called = {one.to_json(): name for name, one in portion}
        for one, outcome in run_many([one for _, one in portion], game_of, jobs=jobs, wall_limit_s=WALL_LIMIT_S):
            ran += 1
            name = called[one.to_json()]
            path = folder / f"{name}-{one.seed}.json"
            if not outcome.ok:
                failed += 1
                keep(name, one, outcome, folder)
                print(f"FAILED {name} seed {one.seed}: {outcome.reasons()[0][:200]}")
                print(f"       replay: {replay(name, one.seed)}, kept in {path}", flush=True)
            elif path.exists():
                print(f"mended {name} seed {one.seed}: move {path} to sims/museum", flush=True)
    return ran, failed


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, required=True, help="for how long")
    parser.add_argument("--first-seed", type=int, default=None, help="where to begin (default: the time, in seconds)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--failures", type=Path, default=FAILURES, help="where failed runs are kept")
    given = parser.parse_args(arguments)
    first = int(time.time()) if given.first_seed is None else given.first_seed
    began = time.monotonic()
    ran, failed = night(deadline=began + 60 * given.minutes, first=first, jobs=given.jobs, folder=given.failures)
    print(f"{ran} runs from seed {first}, {failed} failed, {(time.monotonic() - began) / 60:.1f} minutes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
