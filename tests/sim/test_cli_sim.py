"""`ecsnet sim` as people and programs meet it."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ecsnet.sim.faults import KINDS
from ecsnet.sim.scenario import Scenario

ROOT = Path(__file__).parent.parent.parent

GAME = """
from ecsnet.demo.arena import world
from ecsnet.sim import GameModel

def setup(store):
    with store.transaction("setup") as tx:
        tx.spawn(transform={"x": 1.0}, velocity={}, health={"hp": 7})

def play(player):
    assert 7 in player.view["health"]["hp"].tolist(), "setup was not called"
    player.send("steer", dx=1.0, dy=0.0)

def bad_setup(store):
    raise LookupError("no map")

def bad_play(player):
    play(player)
    if player.name == "client-1" and player.version > 20:
        raise ZeroDivisionError("half of nobody")
"""


def ecsnet(
    *arguments: str, cwd: Path = ROOT, hash_seed: str = "0", terminal: bool = False
) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    if terminal:
        environment |= {"FORCE_COLOR": "1", "TERM": "xterm"}
    return subprocess.run(
        [sys.executable, "-m", "ecsnet", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def figures(*arguments: str, **more: Any) -> dict[str, Any]:
    """What `ecsnet sim ARGUMENTS --json` prints, once it succeeded."""
    result = ecsnet("sim", *arguments, "--json", **more)
    assert result.returncode == 0, result.stdout + result.stderr
    (line,) = result.stdout.splitlines()
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def game(tmp_path: Path) -> Path:
    (tmp_path / "mygame.py").write_text(GAME)
    return tmp_path


def test_one_seed_is_one_run_in_every_process() -> None:
    arguments = ["--profile", "bad-wifi", "--clients", "4", "--entities", "100", "--seconds", "5", "--seed", "7"]

    first, again = (figures(*arguments, hash_seed=hash_seed) for hash_seed in ("1", "2"))

    assert first["converged"]
    assert first["violations"] == []
    assert first["trace_hash"] == again["trace_hash"]
    assert first["digest"] == again["digest"]
    assert {"seed", "lag_ms", "virtual_s", "wall_s", "speed", "faults"} <= first.keys()
    assert first["lag_ms"].keys() == {"p50", "p99", "max"}
    assert first["bytes_per_client_s"] > 0


def test_the_replay_command_replays_and_so_does_the_settled_one() -> None:
    """What a failing seed prints must be that run, or it proves nothing."""
    first = figures("--swarm", "--seed", "5", "--seconds", "4", "--transport", "stream")

    assert first["replay"] == "ecsnet sim --swarm --seed 5 --transport stream --seconds 4"
    settled = Scenario(swarm=True, seed=5, seconds=4.0, transport="stream").settled()
    assert settled.faults
    for command in (first["replay"], settled.command()):
        again = figures(*shlex.split(command)[2:])
        assert again["trace_hash"] == first["trace_hash"]


def test_a_scenario_in_a_file_is_that_run_and_options_go_first(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(Scenario(seed=9, clients=2, seconds=1.0, profile="wifi").to_json())

    from_file = figures("--scenario", str(kept))
    other_seed = figures("--scenario", str(kept), "--seed", "10")

    assert (from_file["seed"], from_file["clients"], from_file["profile"]) == (9, 2, "wifi")
    assert (other_seed["seed"], other_seed["clients"], other_seed["profile"]) == (10, 2, "wifi")
    assert from_file["trace_hash"] != other_seed["trace_hash"]


def test_many_seeds_say_which_failed_and_how_often_each_fault_came() -> None:
    found = figures(
        *("--swarm", "--seeds", "6", "--first-seed", "11", "--seconds", "2", "--clients", "2", "--jobs", "2"),
        *("--entities", "10", "--transport", "stream"),
    )

    assert found["seeds"] == 6
    assert found["first_seed"] == 11
    assert found["failed_seeds"] == found["violations"] == []
    assert found["fault_share"].keys() == KINDS.keys()
    assert all(0 <= share <= 1 for share in found["fault_share"].values())
    assert found["virtual_s"] >= 12


def test_a_person_reads_a_table_and_a_verdict() -> None:
    result = ecsnet("sim", "--clients", "2", "--seconds", "1", "--entities", "5")

    assert result.returncode == 0
    assert "Converged: all 2 clients hold what the node holds, bit for bit" in result.stdout
    assert "lag p99" in result.stdout
    assert result.stderr == ""


def test_progress_goes_to_the_terminal_and_not_into_the_result() -> None:
    one = ecsnet("sim", "--clients", "2", "--seconds", "3", terminal=True)
    many = ecsnet("sim", "--clients", "2", "--seconds", "1", "--seeds", "2", "--swarm", terminal=True)

    assert "seed 0, lan, 2 clients" in one.stderr
    assert "seed 0, lan, 2 clients" not in one.stdout
    assert "2/2" in many.stderr
    assert "2/2" not in many.stdout
    for kind in KINDS:
        assert kind in many.stdout


def test_two_lines_stand_side_by_side() -> None:
    result = ecsnet("sim", "--clients", "2", "--seconds", "1", "--profile", "wifi", "--compare", "satellite")

    assert result.returncode == 0
    head = result.stdout.splitlines()[0].split()
    assert head == ["wifi", "satellite"]
    assert "satellite: Converged" in result.stdout


def test_a_folder_gets_the_page_and_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `report` is not installed")

    result = ecsnet("sim", "--clients", "2", "--seconds", "1", "--report", str(tmp_path / "out"))

    assert result.returncode == 0
    assert "pictures beside it" in result.stdout
    assert {"report.html", "overview.png", "overview-dark.png"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_a_game_of_ones_own_is_set_up_and_played(game: Path) -> None:
    found = figures(
        "--world", "mygame:world", "--setup", "mygame:setup", "--play", "mygame:play", "--seconds", "2", cwd=game
    )

    assert found["converged"]
    assert found["versions"] > 30


def test_what_a_game_raises_is_shown_with_the_way_back_to_it(game: Path) -> None:
    arguments = ["sim", "--world", "mygame:world", "--play", "mygame:bad_play", "--clients", "3", "--seconds", "4"]
    arguments += ["--setup", "mygame:setup"]

    result = ecsnet(*arguments, cwd=game)

    assert result.returncode == 1
    assert "it raised ZeroDivisionError: half of nobody" in result.stdout
    assert "in bad_play" in result.stdout
    assert "replay      ecsnet sim --seed 0 --clients 3 --seconds 4 --world mygame:world" in result.stdout
    assert "also fails with 2 clients, no faults, " in result.stdout
    smaller = result.stdout.strip().splitlines()[-1].strip()
    again = ecsnet(*shlex.split(smaller)[1:], "--no-shrink", cwd=game)
    assert again.returncode == 1
    assert "it raised ZeroDivisionError: half of nobody" in again.stdout, again.stderr


def test_a_game_that_cannot_be_set_up_is_a_failed_run(game: Path) -> None:
    arguments = ["sim", "--world", "mygame:world", "--setup", "mygame:bad_setup", "--clients", "2", "--seconds", "1"]

    one = ecsnet(*arguments, "--json", "--report", "page.html", cwd=game)
    shown = ecsnet(*arguments, cwd=game)
    many = ecsnet(*arguments, "--seeds", "2", "--json", cwd=game)

    assert one.returncode == shown.returncode == many.returncode == 1
    assert json.loads(one.stdout)["error"] == "LookupError: no map"
    assert not (game / "page.html").exists()
    assert "it raised LookupError: no map" in shown.stdout
    assert "in bad_setup" in shown.stdout
    assert "replay      ecsnet sim --seed 0 --clients 2 --seconds 1 --world mygame:world" in shown.stdout
    assert json.loads(many.stdout)["failed_seeds"] == [1, 2]
    assert shown.stderr == ""


def test_a_report_that_cannot_be_written_is_told_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    (tmp_path / "file").write_text("")
    for report in ("page.html", "file/page.html"):
        result = ecsnet("sim", "--clients", "1", "--seconds", "1", "--report", report, cwd=tmp_path)

        assert result.returncode == 1
        assert result.stderr.startswith(f"error: {report}: the report cannot be written: ")
        assert result.stderr.count("\n") == 1
        assert result.stdout == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full is a file of Linux")
def test_a_report_that_was_not_written_does_not_hide_the_run(tmp_path: Path) -> None:
    (tmp_path / "page.html").symlink_to("/dev/full")

    result = ecsnet("sim", "--clients", "1", "--seconds", "1", "--report", "page.html", cwd=tmp_path)

    assert result.returncode == 1
    assert "Converged" in result.stdout
    assert "error: page.html: the report cannot be written: No space left on device" in result.stderr
    assert "Traceback" not in result.stderr


def test_failed_seeds_are_listed_with_their_commands(game: Path) -> None:
    arguments = ["sim", "--world", "mygame:world", "--setup", "mygame:setup", "--play", "mygame:bad_play"]
    arguments += ["--seeds", "2", "--clients", "3", "--seconds", "2"]

    result = ecsnet(*arguments, "--json", cwd=game)
    shown = ecsnet(*arguments, "--no-shrink", cwd=game)

    assert result.returncode == shown.returncode == 1
    found = json.loads(result.stdout)
    assert found["failed_seeds"] == [1, 2]
    assert found["failures"][0]["why"] == ["it raised ZeroDivisionError: half of nobody"]
    assert found["failures"][0]["shrunk"].startswith("2 clients, no faults, ")
    assert "seed 2 failed: it raised ZeroDivisionError" in shown.stderr
    assert "Failed: 2 runs, seeds 1, 2" in shown.stdout
    assert shown.stdout.count("  replay      ecsnet sim --seed") == 2


def test_a_run_that_takes_too_long_is_stopped_and_says_where(tmp_path: Path) -> None:
    result = ecsnet("sim", "--seconds", "80000", "--wall-limit", "0.5", "--clients", "2", "--json")

    assert result.returncode == 1
    found = json.loads(result.stdout)
    assert "stopped after 0.5 s of real time" in found["stopped"]
    assert found["versions"] > 0


def test_a_report_of_two_runs_is_one_page(tmp_path: Path) -> None:
    page = tmp_path / "page.html"

    found = figures(
        *("--profile", "wifi", "--compare", "satellite", "--seconds", "2", "--clients", "2", "--entities", "5"),
        *("--report", str(page)),
    )

    assert found["profile"] == "wifi"
    assert found["compared"]["profile"] == "satellite"
    assert found["report"] == [str(page)]
    text = page.read_text(encoding="utf-8")
    assert "wifi" in text
    assert "satellite" in text


def test_the_real_node_runs_by_the_same_seed_twice() -> None:
    arguments = ["--trio", "--clients", "2", "--seconds", "2", "--seed", "3", "--entities", "10"]

    first, again = (figures(*arguments, hash_seed=hash_seed) for hash_seed in ("1", "2"))

    assert first["converged"]
    assert first["trace_hash"] == again["trace_hash"]
    assert first["replay"].endswith(" --trio")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "bad-wfi"], "did you mean 'bad-wifi'?"),
        (["--transport", "pigeon"], "transport is 'pigeon'"),
        (["--clients", "-1"], "clients is -1"),
        (["--seconds", "nan"], "seconds is nan"),
        (["--seeds", "0"], "--seeds is 0"),
        (["--first-seed", "3"], "--first-seed and --jobs are for many runs"),
        (["--seeds", "3", "--seed", "3"], "are for one run"),
        (["--seeds", "3", "--trio"], "are for one run"),
        (["--seeds", "3", "--jobs", "0"], "jobs is 0"),
        (["--seeds", "3", "--profile", "bad-wfi"], "did you mean 'bad-wifi'?"),
        (["--trio", "--transport", "datagram"], "under Trio"),
        (["--trio", "--report", "x.html"], "--trio records nothing to draw"),
        (["--report", "page.pdf"], "page.pdf: a report is an .html file, or a folder"),
        (["--faults", "nowhere.toml"], "nowhere.toml"),
        (["--faults", '[{"kind": "dorp", "at_s": 1}]'], "did you mean 'drop'?"),
        (["--faults", "[{"], "--faults: is not JSON"),
        (["--scenario", "nowhere.json"], "nowhere.json"),
        (["--setup", "a:b"], "setup and play belong to a world"),
        (["--world", "ecsnet.demo.arena:world", "--entities", "3"], "--entities and --moving are of the demo's world"),
        (["--world", "ecsnet.demo.arena:wrold"], "no world in module ecsnet.demo.arena named 'wrold'"),
        (["--world", "ecsnet.demo.arena:world", "--play", "ecsnet.demo.arena:mvoe"], "no function in module"),
        (["--world", "ecsnet.demo.arena:world", "--play", "ecsnet.demo.arena"], "names no function"),
        (["--world", "ecsnet.demo.arena:world", "--play", "ecsnet.demo.arena:world"], "not a function"),
        (["--wall-limit", "0"], "--wall-limit is 0"),
        (["--seeds", "2", "--wall-limit", "nan"], "--wall-limit is nan"),
        (["--trio", "--wall-limit", "9"], "leave --wall-limit out"),
    ],
)
def test_what_cannot_be_run_is_one_line_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    import logging

    from ecsnet.cli import main

    level = logging.getLogger("ecsnet").level
    monkeypatch.setattr(sys, "argv", ["ecsnet", "sim", *arguments])
    with pytest.raises(SystemExit) as left:
        main()

    assert logging.getLogger("ecsnet").level == level, "whoever ran it in its own process still hears of bugs"

    assert left.value.code == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("error: ")
    assert "Traceback" not in captured.err
    assert captured.out == ""
