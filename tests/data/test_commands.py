"""`ecsnet inspect|verify|snapshot|backup|restore`: what they print and how they exit."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ecsnet.cli import app
from ecsnet.cli.data_screen import print_table
from ecsnet.errors import ArgumentError, DataCorruptError, DataMissingError, DataUnreachableError
from tests.data.by_hand import three_segments
from tests.data.test_restore import History

KEYS = {"epoch", "version", "tick", "digest", "bytes", "files", "problems"}


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "data", runs=2)


def run(*arguments: object, status: int = 0) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result.stdout


def as_json(*arguments: object, status: int = 0) -> dict[str, Any]:
    found = json.loads(run(*arguments, "--json", status=status).splitlines()[-1])
    assert found.keys() >= KEYS
    return found


def test_every_command_says_the_same_of_a_version(history: History, tmp_path: Path) -> None:
    newest, digest = history.newest, history.digests[history.newest].hex()
    data, copy, again = history.path, tmp_path / "copy", tmp_path / "again"

    found = [
        as_json("inspect", data),
        as_json("verify", data),
        as_json("backup", data, copy),
        as_json("restore", copy, again),
        as_json("snapshot", again),
        as_json("verify", again),
    ]

    assert {(one["version"], one["digest"], len(one["problems"])) for one in found} == {(newest, digest, 0)}
    assert found[0]["tables"]["entities"] == found[0]["tables"].get("entities", 0)
    assert found[4]["epoch"] == found[3]["epoch"] != found[0]["epoch"]


def test_people_read_tables(history: History) -> None:
    text = run("inspect", history.path)

    for word in ("run 1", "entities", "snapshots named by", "cleanly", history.digests[history.newest].hex()):
        assert word in text.replace("\n", " "), word
    assert "ok;" in run("verify", history.path)


def test_in_a_pipe_a_row_is_a_line_however_wide(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    row: list[object] = ["wal/0000000000000001.wal", "x" * 60, "2026-11-21T12:00:00.000Z", 12345]

    print_table("log", ["file", "what", "time", "version"], [row])

    assert [line.split() for line in capsys.readouterr().out.splitlines()][2] == [str(cell) for cell in row]


def test_a_damaged_directory_is_a_list_of_problems_and_exit_status_1(tmp_path: Path) -> None:
    made = three_segments(tmp_path)
    made.damage("wal/0000000000000002.wal", 4096 + 128)

    found = as_json("verify", tmp_path, "--no-replay", status=1)

    assert [(one["file"], one["offset"], one["versions"]) for one in found["problems"]] == [
        ("wal/0000000000000002.wal", 4096, [3, 6])
    ]
    assert found["version"] == 2


def test_a_moment_on_the_command_line(history: History, tmp_path: Path) -> None:
    point = as_json("restore", history.path, tmp_path / "point", "--to-point", "run 0")
    assert point["version"] == history.points["run 0"]
    by_time = as_json("restore", history.path, tmp_path / "time", "--to-time", "2020-01-01T00:00:00Z")
    assert by_time["version"] == history.newest
    seconds = as_json("restore", history.path, tmp_path / "seconds", "--to-time", "0.005")
    assert 0 < seconds["version"] <= history.newest

    with pytest.raises(ArgumentError, match="yesterday"):
        run("restore", history.path, tmp_path / "no", "--to-time", "yesterday")
    with pytest.raises(DataUnreachableError):
        run("restore", history.path, tmp_path / "no", "--to-version", history.newest + 1)
    with pytest.raises(DataMissingError):
        run("verify", tmp_path / "nothing")
    assert not (tmp_path / "no").exists()


def test_what_a_message_proposes_can_be_typed(tmp_path: Path) -> None:
    """The hint of DataCorruptError names this very command."""
    history = History(tmp_path / "data", runs=1)
    segments = sorted((history.path / "wal").iterdir())
    begun = [path for path in segments if any(path.read_bytes()[:8])][-1]
    data = bytearray(begun.read_bytes())
    data[4096 + 130] ^= 1
    begun.write_bytes(data)

    with pytest.raises(DataCorruptError) as caught:
        run("restore", history.path, tmp_path / "new")
    command = str(caught.value).split("`")[1].replace("NEW", str(tmp_path / "new")).split()
    assert command[:2] == ["ecsnet", "restore"]
    run(*command[1:])

    assert as_json("verify", tmp_path / "new")["version"] == caught.value.intact
