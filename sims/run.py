"""Run scenarios of `sims/scenarios` on the market: `python sims/run.py NAME|FILE [--seed N] [--seeds N] [--json]`.

The exit status is 0 if every run converged and no checker found anything. One line for each failed run replays it.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Run as a program, from any folder: of this clone, whatever else is installed.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from ecsnet.errors import EcsnetError, UnknownNameError  # noqa: E402
from ecsnet.sim.run import Game, Outcome, run_many, run_scenario  # noqa: E402
from ecsnet.sim.scenario import Scenario, read_scenario  # noqa: E402
from sims.world import HERD, Market, play, setup, world  # noqa: E402

SCENARIOS = Path(__file__).resolve().parent / "scenarios"
WALL_LIMIT_S = 120.0
"""Of one run: a hundred times what one takes."""


def names() -> list[str]:
    """The scenarios there are."""
    return sorted(path.stem for path in SCENARIOS.glob("*.toml"))


def scenario(name: str, seed: int | None = None, seconds: float | None = None) -> Scenario:
    """A scenario by name, or by the path of a file, with another seed than its own, and for another time.

    Raises:
        UnknownNameError: there is none of this name. ConfigError: the file makes no run.
    """
    path = Path(name)
    if path.suffix not in (".toml", ".json"):
        if name not in names():
            raise UnknownNameError("scenario", name, names())
        path = SCENARIOS / f"{name}.toml"
    found = read_scenario(path)
    return found.with_(seed=found.seed if seed is None else seed, seconds=found.seconds if seconds is None else seconds)


def game_of(given: Scenario) -> Game:
    """Every scenario here is played on the market; `entities` is the size of its herd."""
    herd = HERD if given.entities is None else given.entities
    return Game(world, lambda store: setup(store, herd), play, Market)


def runs(scenarios: Sequence[Scenario], *, jobs: int = 1) -> Iterator[Outcome]:
    """Run scenarios: here, one after the other, or in so many processes, in any order."""
    if jobs == 1:
        for one in scenarios:
            yield run_scenario(one, game_of(one), wall_limit_s=WALL_LIMIT_S)
    else:
        for _, outcome in run_many(scenarios, game_of, jobs=jobs, wall_limit_s=WALL_LIMIT_S):
            yield outcome


def replay(name: str, seed: int, seconds: float | None = None) -> str:
    """The command that runs one seed again, for as long as it ran."""
    return f"python sims/run.py {shlex.quote(name)} --seed {seed}" + (f" --seconds {seconds!r}" if seconds else "")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("name", help=f"a scenario ({', '.join(names())}) or a file")
    parser.add_argument("--seed", type=int, default=None, help="the first seed (the scenario's own, or 1)")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--seconds", type=float, default=None, help="virtual time, in place of the scenario's own")
    parser.add_argument("--jobs", type=int, default=None, help="processes (one for each core, if there are many seeds)")
    parser.add_argument("--stop", action="store_true", help="end with the first run that fails; one process")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each run")
    given = parser.parse_args(arguments)
    if given.seeds < 1:
        parser.error(f"--seeds is {given.seeds}; at least one")
    jobs = given.jobs or (1 if given.seeds == 1 or given.stop else os.cpu_count() or 1)
    failed = 0
    try:
        first = (scenario(given.name).seed or 1) if given.seed is None else given.seed
        chosen = [scenario(given.name, seed, given.seconds) for seed in range(first, first + given.seeds)]
        for outcome in runs(chosen, jobs=jobs):
            failed += not outcome.ok
            if given.json:
                print(json.dumps(_as_json(outcome)), flush=True)
            else:
                _print(given.name, outcome, given.seconds)
            if given.stop and failed:
                break
    except EcsnetError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return 1 if failed else 0


def _as_json(outcome: Outcome) -> dict[str, object]:
    return {
        "seed": outcome.seed,
        "ok": outcome.ok,
        "converged": outcome.converged,
        "reasons": outcome.reasons() if not outcome.ok else [],
        "checkers": sorted(outcome.signature),
        "faults": outcome.faults,
        "virtual_s": outcome.virtual_s,
        "wall_s": outcome.wall_s,
        "trace_hash": outcome.trace_hash,
        "traceback": outcome.traceback,
    }


def _print(name: str, outcome: Outcome, seconds: float | None) -> None:
    word = "ok    " if outcome.ok else "FAILED"
    print(
        f"{word} {name} seed {outcome.seed}: {outcome.profile}, {outcome.transport}, {outcome.clients} clients, "
        f"{sum(outcome.faults.values())} faults, {outcome.virtual_s:.1f} s in {outcome.wall_s:.2f} s"
    )
    if not outcome.ok:
        for reason in outcome.reasons()[:5]:
            print(f"       {reason}")
        if outcome.traceback:
            print(outcome.traceback)
        print(f"       replay: {replay(name, outcome.seed, seconds)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
