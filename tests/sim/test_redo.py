"""The smoke of `sims/redo.py`, and that it sees what is wrong."""

import pytest

from ecsnet._kernel import redo
from sims import redo as sim


def test_a_log_gives_back_every_version_and_nobody_sees_what_waits(capsys: pytest.CaptureFixture[str]) -> None:
    assert sim.main(["--seeds", "4", "--steps", "60", "--json"]) == 0
    assert '"failed": 0' in capsys.readouterr().out


def test_a_store_that_loses_a_body_is_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = bytes.fromhex("08000000 01000000 00000000 0000")
    encode = redo.encode
    monkeypatch.setattr(redo, "encode", lambda kernel: empty if kernel.head_version == 20 else encode(kernel))

    assert sim.main(["--seeds", "1", "--steps", "60"]) == 1
    assert "FAILED seed 1" in capsys.readouterr().err
