"""Hunt builds that are broken on purpose: `python sims/mutants.py [--json] [--only NAME] [--seeds N]`.

A mutant (`mutants.toml`) is a small change of one source. The clone is copied to a temporary folder, the change is made
there, the kernel is compiled where it is the kernel's, and seeds of the swarm are run until one fails or there are no
more. So the code of a mutant is in no product. A seed that the unchanged build fails, too, catches nothing.

A mutant whose promise the swarm knows nothing of names another `proof`: one of our programs, and how it is called. It
is caught where that program says that something failed (exit status 1), which it must not of the unchanged build.

The text that a mutant replaces must be found exactly once: whoever changes such a line is told which mutant has it.

The exit status is 0 if every mutant was caught.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import tomli

ROOT = Path(__file__).resolve().parent.parent
LIST = Path(__file__).resolve().parent / "mutants.toml"

SEEDS = 60
"""Of the swarm, at most, for each mutant."""

RUN_LIMIT_S = 1800.0
"""Real time for all seeds of one mutant. One that hangs is caught, too, but must not hang us."""

COPIED = ("ecsnet", "kernel", "schema", "sims", "tests", "hatch_build.py", "pyproject.toml")
NOT_COPIED = shutil.ignore_patterns("__pycache__", "failures", ".zig-cache", "zig-out")


class Mutant(NamedTuple):
    """In `file`, `old` becomes `new`. `breaks` is a promise that does not hold then, for people. It is hunted by
    `scenario`, or where there is a `proof`, by that: the arguments of a Python, such as "sims/disk.py --seeds 50", with
    a file among them."""

    name: str
    breaks: str
    file: str
    old: str
    new: str
    scenario: str = "swarm"
    proof: str = ""


class BrokenMutantError(Exception):
    """A mutant that cannot be made, or a copy that does not run: nothing is known of the checkers then."""


class Verdict(NamedTuple):
    """What became of one mutant. `seeds` is how many were run, the one that caught it included; `by` names checkers."""

    name: str
    caught: bool
    seeds: int
    by: list[str]
    why: str
    wall_s: float


def read() -> list[Mutant]:
    """All mutants there are, in the order of the file."""
    return [Mutant(**one) for one in tomli.loads(LIST.read_text(encoding="utf-8"))["mutants"]]


def check(mutant: Mutant, root: Path = ROOT) -> None:
    """Raise BrokenMutantError unless the mutant can be made of the sources at `root`."""
    path = root / mutant.file
    found = path.read_text(encoding="utf-8").count(mutant.old) if path.exists() else 0
    if found != 1:
        raise BrokenMutantError(
            f"{mutant.name}: {mutant.file} has the text to replace {found} times, not once; if the code was changed, "
            f"change the mutant in sims/mutants.toml, too:\n{mutant.old}"
        )


def make(mutant: Mutant, root: Path) -> None:
    """Change the sources at `root`, and compile its kernel if they are among them.

    Raises:
        BrokenMutantError: the text is not there, or what it becomes does not compile.
    """
    check(mutant, root)
    path = root / mutant.file
    path.write_text(path.read_text(encoding="utf-8").replace(mutant.old, mutant.new), encoding="utf-8")
    if path.suffix == ".zig":
        built = subprocess.run([sys.executable, "hatch_build.py"], cwd=root, capture_output=True, text=True)
        if built.returncode != 0:
            raise BrokenMutantError(f"{mutant.name} does not compile:\n{built.stderr[-3000:]}")


@contextmanager
def copied() -> Any:
    """A copy of the clone, with its compiled kernel, in a temporary folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="ecsnet-mutant-") as folder:
        root = Path(folder)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, root / name, ignore=NOT_COPIED)
            else:
                shutil.copy2(source, root / name)
        # What was compiled before need not be compiled again.
        (ROOT / ".zig-cache").mkdir(exist_ok=True)
        os.symlink(ROOT / ".zig-cache", root / ".zig-cache")
        yield root


def hunt(root: Path, scenario: str, *, first: int, seeds: int) -> tuple[int, list[str], str]:
    """Run seeds of a scenario, from `first` on, in the copy at `root` until one fails.

    Returns:
        How many ran, which checkers found something (none: all passed), and the first reason.

    Raises:
        BrokenMutantError: the copy does not run at all.
    """
    command = [sys.executable, "sims/run.py", scenario, "--seed", str(first), "--seeds", str(seeds)]
    try:
        result = subprocess.run(
            [*command, "--stop", "--json"],
            cwd=root,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=RUN_LIMIT_S,
        )
    except subprocess.TimeoutExpired as expired:
        output = expired.stdout or b""
        ran = len(output.splitlines() if isinstance(output, bytes) else output.encode().splitlines())
        return ran + 1, ["hangs"], f"seed {first + ran} did not end within {RUN_LIMIT_S:g} s"
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    failed = [line for line in lines if not line["ok"]]
    if failed:
        return len(lines), failed[0]["checkers"], (failed[0]["reasons"] or ["?"])[0]
    if result.returncode < 0:
        return len(lines) + 1, ["dies"], f"its process ended by signal {-result.returncode}"
    if result.returncode != 0 or len(lines) != seeds:
        raise BrokenMutantError(f"the copy does not run (exit status {result.returncode}):\n{result.stderr[-3000:]}")
    return len(lines), [], ""


def environment() -> dict[str, str]:
    """Ours, without what would have a copy use code that is not its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}


def prove(root: Path, proof: str) -> str:
    """Run a proof in the copy at `root`.

    Returns:
        What it found to be wrong; nothing if all is well.

    Raises:
        BrokenMutantError: it does not run at all.
    """
    command = [sys.executable, *shlex.split(proof)]
    try:
        result = subprocess.run(
            command, cwd=root, env=environment(), capture_output=True, text=True, timeout=RUN_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {RUN_LIMIT_S:g} s"
    if result.returncode < 0:
        return f"its process ended by signal {-result.returncode}"
    if result.returncode == 1:
        told = [line for line in (result.stderr + result.stdout).splitlines() if line.startswith("FAILED")]
        if not told:
            raise BrokenMutantError(f"{proof} fails and does not say what at:\n{result.stderr[-3000:]}")
        return told[0]
    if result.returncode != 0:
        raise BrokenMutantError(f"{proof} does not run ({result.returncode}):\n{result.stderr[-3000:]}")
    return ""


def program(proof: str) -> str:
    """What a proof is called: its file."""
    return next(Path(word).stem for word in shlex.split(proof) if word.endswith(".py"))


def judge(mutant: Mutant, unchanged: Path, *, seeds: int) -> Verdict:
    """Make a mutant and hunt it; `unchanged` is a copy as it should be."""
    began = time.monotonic()
    ran, by, why = 0, [], ""
    with copied() as root:
        make(mutant, root)
        if mutant.proof:
            why = prove(root, mutant.proof)
            ran, by = 1, [program(mutant.proof)] if why else []
        while not mutant.proof and ran < seeds and not by:
            more, by, why = hunt(root, mutant.scenario, first=ran + 1, seeds=seeds - ran)
            ran += more
            if by and hunt(unchanged, mutant.scenario, first=ran, seeds=1)[1]:
                print(f"seed {ran} of {mutant.scenario} fails without {mutant.name}, too", file=sys.stderr, flush=True)
                by = []
    return Verdict(mutant.name, bool(by), ran, by, why, round(time.monotonic() - began, 1))


def chosen(names: Sequence[str]) -> list[Mutant]:
    """The mutants of these names, or all.

    Raises:
        BrokenMutantError: there is none of a name.
    """
    known = {mutant.name: mutant for mutant in read()}
    for name in names:
        if name not in known:
            raise BrokenMutantError(f"no mutant is called {name!r}; there are: {', '.join(known)}")
    return [known[name] for name in names] or list(known.values())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this mutant; may be given again")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"of the swarm, at most, for each (default {SEEDS})")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants at a time")
    parser.add_argument("--check", action="store_true", help="only look whether all can be made")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    given = parser.parse_args(arguments)
    try:
        mutants = chosen(given.only)
        for mutant in mutants:
            check(mutant)
        if given.check:
            print(f"all {len(mutants)} mutants can be made")
            return 0
        verdicts = []
        with copied() as unchanged, ThreadPoolExecutor(given.jobs) as pool:
            for proof in sorted({mutant.proof for mutant in mutants if mutant.proof}):
                if why := prove(unchanged, proof):
                    raise BrokenMutantError(f"the unchanged build fails {proof}: {why}")
            for scenario in sorted({mutant.scenario for mutant in mutants if not mutant.proof}):
                _, by, why = hunt(unchanged, scenario, first=1, seeds=1)
                if by:
                    raise BrokenMutantError(f"the unchanged build fails {scenario}, by {', '.join(by)}: {why}")
            for verdict in pool.map(lambda mutant: judge(mutant, unchanged, seeds=given.seeds), mutants):
                verdicts.append(verdict)
                word = "caught" if verdict.caught else "ALIVE "
                tail = f" by {', '.join(verdict.by)}: {verdict.why}" if verdict.caught else ""
                print(f"{word} {verdict.name} after {verdict.seeds} seeds{tail[:160]}", file=sys.stderr, flush=True)
    except BrokenMutantError as error:
        print(error, file=sys.stderr)
        return 2
    if given.json:
        print(
            json.dumps(
                {
                    verdict.name: {"caught": verdict.caught, "seeds": verdict.seeds, "by": verdict.by}
                    for verdict in verdicts
                }
            )
        )
    return 0 if all(verdict.caught for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
