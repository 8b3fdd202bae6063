"""The layers of the package hold: import-linter's contracts in pyproject.toml."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_every_import_goes_down_the_layers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A core that opens a socket, or a leaf that imports the store, breaks what the simulator and the tools rely on."""
    from importlinter.cli import lint_imports

    monkeypatch.chdir(ROOT)

    status = lint_imports(no_cache=True)

    assert status == 0, capsys.readouterr().out
