"""What becomes of a database when disks and processes die? `python sims/crash.py [MODE ...] [--size SIZE] [--json]`.

Builds `kernel/zig/crash.zig` and runs it, one process for each processor, with seeds of its own. Modes (all of them
unless some are named): `crashes` recovers images of every moment of a life, `faults` lets each operation of the disk
fail in each way, `rot` damages what a life left. What must hold is said in the kernel's `crash_moments.zig`,
`crash_faults.zig` and `crash_rot.zig`. A seed is run again, exactly, by `--first-seed N --seeds 1 --jobs 1`;
`--keep DIR` leaves the files of the first violation there.

The exit status is 0 if there was no violation.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parent.parent
# Run as a program, from any folder: of this clone, whatever else is installed.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from ecsnet._kernel.source import source_digest  # noqa: E402

MODES: Final = ("crashes", "faults", "rot")

SECONDS: Final = {
    "smoke": {"crashes": 4, "faults": 3, "rot": 2},
    "ci": {"crashes": 240, "faults": 120, "rot": 60},
    "night": {"crashes": 7200, "faults": 3600, "rot": 1200},
}
"""How long each mode runs, by size. The smallest is in the tests."""

SEEDS_APART: Final = 1_000_000_000
"""Between the first seeds of two processes: more than one runs."""


def build(root: Path = ROOT) -> Path:
    """The program, compiled from the clone's sources unless it was before."""
    cache = root / ".zig-cache"
    program = cache / f"crash-{source_digest(root)}"
    if program.exists():
        return program
    cache.mkdir(exist_ok=True)
    made = cache / f"crash-{os.getpid()}"
    command = [
        sys.executable,
        "-m",
        "ziglang",
        "build-exe",
        "-lc",
        "-O",
        "ReleaseSafe",
        "-fstrip",
        f"-femit-bin={made}",
    ]
    command += ["--cache-dir", str(cache), "--global-cache-dir", str(cache / "global")]
    if sys.platform == "linux" and platform.machine() == "x86_64":
        # As the library is compiled, and for the same reason (`hatch_build.py`).
        command += ["-fno-compiler-rt", "-fno-stack-check"]
    subprocess.run([*command, str(Path("kernel") / "zig" / "crash.zig")], cwd=root, check=True)
    for older in cache.glob("crash-*"):
        if older != made:
            older.unlink(missing_ok=True)
    made.replace(program)
    return program


def run(
    program: Path, mode: str, *, first_seed: int, seeds: int, seconds: int, jobs: int, keep: Path | None = None
) -> tuple[dict[str, int], list[dict[str, object]]]:
    """One mode, in `jobs` processes. Returns the sums of what they did, and the violations that they told.

    Raises:
        RuntimeError: a process ended without saying what it did. The message has its output.
    """
    processes = []
    for number in range(jobs):
        command = [str(program), mode, str(first_seed + number * SEEDS_APART), str(seeds), str(seconds)]
        if keep is not None:
            command.append(str(keep / f"{mode}-{number}"))
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    sums: dict[str, int] = {}
    violations: list[dict[str, object]] = []
    for process in processes:
        output, _ = process.communicate()
        lines: list[dict[str, object]] = [
            json.loads(line) if line.startswith("{") else {"error": line} for line in output.splitlines()
        ]
        if not lines or "ns" not in lines[-1]:
            raise RuntimeError(f"{' '.join(map(str, process.args))} ended with status {process.returncode}: {output}")  # type: ignore[arg-type]
        violations += lines[:-1]
        for name, count in lines[-1].items():
            if isinstance(count, int):
                sums[name] = max(sums.get(name, 0), count) if name == "ns" else sums.get(name, 0) + count
    return sums, violations


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("modes", nargs="*", metavar="MODE", help=f"of {', '.join(MODES)} (default: all)")
    parser.add_argument("--size", choices=tuple(SECONDS), default="smoke", help="how long (default smoke)")
    parser.add_argument("--seconds", type=int, default=None, help="of each mode, in place of the size's")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=SEEDS_APART, help="at most so many lives in each process")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one each processor)")
    parser.add_argument("--keep", type=Path, default=None, help="a folder for the files of the first violation")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    given = parser.parse_args(arguments)
    for mode in given.modes:
        if mode not in MODES:
            parser.error(f"unknown mode {mode!r}; there are {', '.join(MODES)}")
    program = build()
    if given.keep is not None:
        given.keep.mkdir(parents=True, exist_ok=True)
    summary: dict[str, dict[str, object]] = {}
    failed = 0
    for mode in given.modes or MODES:
        seconds = SECONDS[given.size][mode] if given.seconds is None else given.seconds
        sums, violations = run(
            program,
            mode,
            first_seed=given.first_seed,
            seeds=given.seeds,
            seconds=seconds,
            jobs=given.jobs,
            keep=given.keep,
        )
        for violation in violations:
            print(f"FAILED {mode}: {json.dumps(violation)}", file=sys.stderr, flush=True)
        failed += sums["violations"]
        disks = sums["images"] + sums["rotten"]
        wall_s = sums.pop("ns") / 1e9
        speed = round(disks / wall_s)
        summary[mode] = {**sums, "wall_s": round(wall_s, 3), "disks_per_s": speed}
        if not given.json:
            lives, found = sums["lives"], sums["violations"]
            print(f"{mode}: {disks} disks of {lives} lives, {speed} a second, {found} violations")
    if given.json:
        print(json.dumps({**summary, "violations": failed}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
