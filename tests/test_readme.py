"""The README's programs run just as they stand there; its commands and its tables agree with the project."""

import ast
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecsnet.config import SETTINGS, Settings, resolve

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

# Every promise of the product; each has a line in the README with an honest state.
REQUIREMENTS = {"D": 8, "T": 8, "R": 9, "P": 3, "E": 9}


def files_in_readme() -> dict[str, str]:
    """The fenced blocks that begin with a comment naming a file, by that name."""
    blocks = re.findall(r"^```(?:python|toml)\n(# (\S+\.(?:py|toml))\n.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return {name: text for text, name in blocks}


def definitions_of(text: str) -> dict[str, str]:
    """Each class and function of a module, and its schema: without layout and comments."""
    return {
        ast.unparse(node).partition("(")[0]: ast.dump(node)
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Assign)
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The README's files as a reader would have typed them, at a port that is free on this machine."""
    port = str(free_port())
    for name, text in files_in_readme().items():
        (tmp_path / name).write_text(text.replace("7777", port), encoding="utf-8")
    return tmp_path


def printed_by(folder: Path, name: str) -> str:
    done = subprocess.run([sys.executable, name], cwd=folder, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def server(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """`python arena.py`, taking connections."""
    process = subprocess.Popen(
        [sys.executable, "arena.py"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    address = re.search(r"tcp://0\.0\.0\.0:(\d+)", (folder / "arena.py").read_text(encoding="utf-8"))
    assert address is not None
    deadline = time.monotonic() + 15
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", int(address[1]))) == 0:
                break
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"arena.py does not listen: {process.communicate()}")
        time.sleep(0.05)
    yield process
    process.terminate()
    process.communicate(timeout=10)


def test_the_readme_has_the_files_it_explains() -> None:
    assert set(files_in_readme()) == {
        "arena.py", "play.py", "wide.py", "test_arena.py", "tools.py", "keep.py", "ecsnet.toml"
    }  # fmt: skip


def test_the_settings_of_the_readme_are_all_there_are(folder: Path) -> None:
    resolved, default = resolve(file=folder / "ecsnet.toml", environ={}), Settings()

    for key in SETTINGS:
        section, name = key.split(".")
        chosen, usual = (getattr(getattr(settings, section), name) for settings in (resolved, default))
        assert chosen != usual, f"{key} is not shown, or with its default"


def test_a_player_of_the_readme_moves_in_the_world_of_the_readme(folder: Path, server: "subprocess.Popen[str]") -> None:
    lines = printed_by(folder, "play.py").splitlines()
    assert lines.count("hit for 10") == 1, "an event row comes once"
    places = [float(line) for line in lines if not line.startswith("hit")]
    assert len(places) == 60
    assert places == sorted(places), "steering to the right, nobody goes left"
    assert places[-1] > 4.0, "two seconds at five a second"


def test_the_wide_world_of_the_readme_shows_and_allows_what_the_readme_says(folder: Path) -> None:
    (folder / "look.py").write_text(LOOK, encoding="utf-8")
    assert printed_by(folder, "look.py").splitlines() == ["1 0", "accepted", "rejected", "2"]


LOOK = """
import ecsnet, trio
from wide import Body, world

async def look():
    async with ecsnet.open_node(world, listen="tcp://127.0.0.1:0") as node:
        with node.store.transaction() as tx:
            far = tx.spawn(Body(x=400.0))
        async with ecsnet.open_client(node.addresses[0], world, name="ada") as client:
            print(len(client.view["body"]), len(client.view["secret"]))
            mine, other = client.write(client.entity, Body, x=1.0), client.write(far, Body, x=2.0)
            while "pending" in (mine.status, other.status):
                await client.wait_poll()
            print(mine.status, other.status, sep="\\n")
            client.write(client.entity, Body, x=390.0)
            while len(client.view["body"]) < 2:
                await client.wait_poll()
            print(len(client.view["body"]))

trio.run(look)
"""


def test_the_server_of_the_readme_ends_quietly_when_told_to(folder: Path, server: "subprocess.Popen[str]") -> None:
    server.terminate()

    _, complaints = server.communicate(timeout=10)
    assert "Traceback" not in complaints


@pytest.mark.parametrize(("name", "lines"), [("tools.py", 2), ("keep.py", 3)])
def test_the_stores_of_the_readme_print_what_the_readme_says(folder: Path, name: str, lines: int) -> None:
    printed = printed_by(folder, name)

    promised = re.findall(r"print\(.*\)\s+# (.*)$", files_in_readme()[name], re.MULTILINE)
    assert len(promised) == lines
    assert printed.splitlines() == promised


def lag_test_of(folder: Path) -> "subprocess.CompletedProcess[str]":
    """The lag test run as its reader would, in a folder without our own configuration."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), "test_arena.py"],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_lag_test_of_the_readme_passes(folder: Path) -> None:
    done = lag_test_of(folder)

    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_the_lag_test_of_the_readme_fails_as_the_readme_shows(folder: Path) -> None:
    """What the page shows is what is printed, but for the figures of the day."""
    test = (folder / "test_arena.py").read_text(encoding="utf-8")
    (folder / "test_arena.py").write_text(test.replace("< 400", "< 150"), encoding="utf-8")

    done = lag_test_of(folder)

    shown = re.search(r"^```text\n(.*ecsnet-seed.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert done.returncode == 1 and shown is not None
    shape = re.compile(r"[\d.]+")
    printed = {shape.sub("#", line) for line in done.stdout.splitlines()}
    for line in shown[1].splitlines():
        assert shape.sub("#", line) in printed, line


def test_the_world_of_the_readme_is_the_demos(folder: Path) -> None:
    """Who has seen the demo has read the README's rules, and the other way about."""
    ours, theirs = files_in_readme()["arena.py"], (ROOT / "ecsnet" / "demo" / "arena.py").read_text(encoding="utf-8")

    assert definitions_of(ours) == definitions_of(theirs)
    assert len(definitions_of(ours)) == 13


def test_the_programs_of_the_readme_pass_a_strict_type_checker(folder: Path) -> None:
    """Names, commands and transactions complete in an editor: what a checker sees is what there is."""
    cache = str(ROOT / ".mypy_cache")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", cache, "arena.py", "play.py", "tools.py"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout


def test_a_misspelt_public_name_is_found_by_a_type_checker(folder: Path) -> None:
    (folder / "typo.py").write_text("import ecsnet\n\necsnet.Wrold\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache"), "typo.py"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert 'Module has no attribute "Wrold"' in done.stdout


def test_the_readme_has_a_state_for_every_requirement() -> None:
    rows = re.findall(r"^\| ([DTRPE]\d) \| .* \| (built|partly|planned) \| (.*)\|$", README, re.MULTILINE)

    assert [row[0] for row in rows] == [
        f"{letter}{number}" for letter, count in REQUIREMENTS.items() for number in range(1, count + 1)
    ]
    for requirement, state, note in rows:
        assert state != "partly" or note.strip(), f"{requirement}: partly needs to say which part"


def test_the_test_command_of_the_readme_is_the_one_that_ci_runs() -> None:
    command = "python3 -m venv .venv && .venv/bin/pip install -e '.[dev]' && .venv/bin/pytest"

    assert command in README
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_map_of_the_readme_names_only_what_is_there() -> None:
    table = README.split("## Map of the code")[1].split("## License")[0]
    named = [
        path for line in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for path in re.findall(r"`(.*?)`", line)
    ]

    assert named
    for path in named:
        inside = re.fullmatch(r"(.*)\{(.*)\}(.*)", path)
        paths = [inside[1] + part + inside[3] for part in inside[2].split(",")] if inside else [path]
        for one in paths:
            assert (ROOT / one).exists(), one
