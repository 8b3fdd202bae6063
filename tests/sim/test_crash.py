"""The smoke of `sims/crash.py`: disks after crashes, faults and rot, for a few seconds."""

import json

import pytest

from sims import crash


def test_nothing_acknowledged_is_lost_in_a_smoke_of_crashes_faults_and_rot(capsys: pytest.CaptureFixture[str]) -> None:
    """The numbers say that it was not for want of trying."""
    status = crash.main(["--size", "smoke", "--json"])

    told = capsys.readouterr()
    summary = json.loads(told.out.splitlines()[-1])
    assert (status, summary["violations"], told.err) == (0, 0, "")
    assert summary["crashes"]["killed"] > 1000
    assert summary["crashes"]["lost_power"] > 1000
    assert summary["crashes"]["lived_on"] > 10
    assert summary["faults"]["stopped"] > 100
    assert summary["rot"]["refused"] > 100


def test_a_mode_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        crash.main(["floods"])
    assert "unknown mode 'floods'" in capsys.readouterr().err
