"""What a type checker says about programs as people write them: nothing of good ones, the right thing of each mistake.

The programs run, too: a type that is right and a program that fails would help nobody.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
GOOD = ["arena", "tools", "play"]


@pytest.fixture(scope="module")
def complaints() -> dict[str, list[tuple[int, str]]]:
    """The errors of `mypy --strict`, by program, as line and message."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context", "--no-pretty"]
    environment = os.environ | {"MYPYPATH": str(PROGRAMS)}
    files = [str(PROGRAMS / f"{name}.py") for name in [*GOOD, "refused"]]
    done = subprocess.run([*command, *files], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[str, list[tuple[int, str]]] = {}
    for line in done.stdout.splitlines():
        match = re.fullmatch(r".*?(\w+)\.py:(\d+): error: (.*)", line)
        if match:
            found.setdefault(match[1], []).append((int(match[2]), match[3]))
    return found


@pytest.mark.parametrize("name", GOOD)
def test_a_program_as_it_should_be_written_has_no_errors(name: str, complaints: dict) -> None:
    """Names, columns, cells, rows and command arguments all have types, and nothing needs an `ignore`."""
    assert complaints.get(name, []) == []


def test_every_mistake_is_found_and_nothing_else(complaints: dict) -> None:
    """A checker that knows too little says nothing; one that is told wrong complains of what is right."""
    lines = (PROGRAMS / "refused.py").read_text(encoding="utf-8").splitlines()
    expected = {number: line.split("# E: ")[1] for number, line in enumerate(lines, 1) if "# E: " in line}
    found: dict[int, str] = {}
    for number, message in complaints["refused"]:
        found.setdefault(number, message)
    assert len(expected) > 30
    assert sorted(found) == sorted(expected)
    for number, message in expected.items():
        assert message in found[number], f"line {number}: {found[number]}"
    assert set(complaints) == {"refused"}


@pytest.mark.parametrize(("name", "says"), [("tools", "whole"), ("arena", ""), ("play", "")])
def test_the_programs_run(name: str, says: str) -> None:
    """The client's is only imported here: it wants a node, and its calls are those of `tests/test_embed.py`."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(PROGRAMS), str(ROOT)])}
    command = [sys.executable, str(PROGRAMS / f"{name}.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert says in done.stdout
