"""`ecsnet schema check`, and what holds for every command: errors, help, exit status."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ecsnet.cli import COMMANDS, main

EXAMPLE = Path(__file__).parent.parent / "schema" / "examples" / "game_db.toml"


def run_ecsnet(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """`ecsnet ARGUMENTS` in this process; its exit status."""
    monkeypatch.setattr(sys, "argv", ["ecsnet", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    code = left.value.code
    return code if isinstance(code, int) else 0


@pytest.fixture
def bad_schema(tmp_path: Path) -> Path:
    path = tmp_path / "bad.toml"
    path.write_text(
        '[database]\nname = "bad"\nversion = "1.0.0"\n\n'
        "[tables.health]\n"
        'parent_table = "entities"\n'
        'fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },\n'
        '          { name = "hp", type = "u33" }]\n',
        encoding="utf-8",
    )
    return path


def test_a_good_schema_is_printed_table_by_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_ecsnet(monkeypatch, "schema", "check", str(EXAMPLE)) == 0

    printed = capsys.readouterr().out
    assert "game_db 1.0.0" in printed
    assert "health" in printed and "transform" in printed
    assert "\nsessions " not in printed


def test_the_built_in_tables_are_shown_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_ecsnet(monkeypatch, "schema", "check", str(EXAMPLE), "--system") == 0

    assert "\nsessions " in capsys.readouterr().out


def test_with_json_the_last_line_is_one_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_ecsnet(monkeypatch, "schema", "check", str(EXAMPLE), "--json") == 0

    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["ok"] is True
    assert len(bytes.fromhex(summary["fingerprint"])) == 16
    transform = next(table for table in summary["tables"] if table["name"] == "transform")
    assert transform["row_bytes"] == 12
    assert [field["type"] for field in transform["fields"]] == ["f32", "f32", "f32"]


def test_a_bad_schema_is_one_message_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bad_schema: Path
) -> None:
    assert run_ecsnet(monkeypatch, "schema", "check", str(bad_schema)) == 1

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {bad_schema}:8:")
    assert "u33" in captured.err
    assert "Traceback" not in captured.err


def test_a_bad_schema_as_json_has_the_place_of_the_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bad_schema: Path
) -> None:
    assert run_ecsnet(monkeypatch, "schema", "check", str(bad_schema), "--json") == 1

    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["ok"] is False
    assert summary["errors"][0]["line"] == 8
    assert summary["errors"][0]["code"]


def test_a_missing_file_is_an_error_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run_ecsnet(monkeypatch, "schema", "check", str(tmp_path / "none.toml")) == 1

    assert "none.toml" in capsys.readouterr().err


def test_a_misspelt_command_is_answered_with_what_was_meant(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_ecsnet(monkeypatch, "shema") == 2

    assert "did you mean 'schema'" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert run_ecsnet(monkeypatch, name, "--help") == 0

    assert len(capsys.readouterr().out) > 300


def test_the_help_lists_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_ecsnet(monkeypatch, "--help") == 0

    printed = capsys.readouterr().out
    assert all(f" {name} " in printed for name in COMMANDS)


def test_the_module_runs_as_a_program_and_knows_its_version() -> None:
    done = subprocess.run([sys.executable, "-m", "ecsnet", "--version"], capture_output=True, text=True, check=True)

    assert done.stdout.startswith("ecsnet ")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A game's module with a schema of classes, in the working directory."""
    (tmp_path / "cli_game.py").write_text(
        "import ecsnet\nfrom ecsnet import Component, f32, field\n\n\n"
        'class PlayerShip(Component):\n    """What flies."""\n\n    x: f32 = field(default=0.5)\n\n\n'
        'schema = ecsnet.Schema("game", "1.0.0", PlayerShip)\nworld = ecsnet.World(schema)\n',
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "cli_game", raising=False)
    return "cli_game:schema"


def test_a_schema_of_classes_is_written_as_toml_and_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: str, tmp_path: Path
) -> None:
    """Whoever begins in one spelling may go on in the other, without a client noticing."""
    assert run_ecsnet(monkeypatch, "schema", "toml", module) == 0
    written = capsys.readouterr().out
    assert '[tables.player_ship]\nparent_table = "entities"\ndoc = "What flies."' in written
    (tmp_path / "game.toml").write_text(written, encoding="utf-8")

    assert run_ecsnet(monkeypatch, "schema", "python", "game.toml") == 0
    assert 'class PlayerShip(Component):\n    """What flies."""\n' in capsys.readouterr().out

    printed = []
    for target in (module, "cli_game:world", "game.toml"):
        assert run_ecsnet(monkeypatch, "schema", "toml", target, "--canonical") == 0
        printed.append(capsys.readouterr().out)
        assert run_ecsnet(monkeypatch, "schema", "check", target) == 0
        capsys.readouterr()
    assert len(set(printed)) == 1 and "id = 16" in printed[0]


def test_a_module_without_a_schema_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: str
) -> None:
    """A mistake in the command line, and no traceback."""
    for target, says in (
        ("cli_game:shcema", "schema"),
        ("cli_game:PlayerShip", "not a Schema"),
        ("cli_gmae:schema", "no module named"),
    ):
        assert run_ecsnet(monkeypatch, "schema", "python", target) == 1
        error = capsys.readouterr().err
        assert says in error and "Traceback" not in error
