"""Histories of a store on a disk that fails in every way: some pass, and a store that forgets is noticed."""

import json
from typing import Any

import pytest

from sims import disk, isolation
from sims.disk_world import Known, LostError


def test_a_store_keeps_what_it_said_whatever_its_disk_does() -> None:
    """Some seeds; `sims/disk.py --seeds 10000` runs more."""
    failures = [why for seed in range(1, 11) if (why := disk.play(seed))]

    assert not failures, failures[0]


def test_a_durable_store_is_strictly_serializable_before_and_after_its_end() -> None:
    """Some seeds; `sims/isolation.py --durable --seeds 1000` runs more."""
    for seed in range(1, 4):
        transactions, found = isolation.play(seed, steps=60, durable=True)

        assert found == []
        assert transactions > 300


def test_a_store_that_forgets_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the power fails instead of the process dying, less is left than is asked for."""
    check = Known.check

    def strict(known: Known, found: Any, recovery: Any, *, survives: int) -> None:
        check(known, found, recovery, survives=0)

    monkeypatch.setattr(Known, "check", strict)

    failures = [why for seed in range(1, 21) if (why := disk.play(seed))]

    assert any(LostError.__name__ in why and "is lost" in why for why in failures), failures


def test_a_failure_tells_how_to_see_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def forgetful(*_: Any, **__: Any) -> None:
        raise LostError("what was there is gone")

    monkeypatch.setattr(Known, "check", forgetful)

    assert disk.main(["--first-seed", "7", "--seeds", "1", "--steps", "3"]) == 1
    told = capsys.readouterr().err
    assert "FAILED seed 7: LostError: what was there is gone" in told
    assert "replay: python sims/disk.py --first-seed 7 --seeds 1 --steps 3" in told


def test_a_run_says_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    assert disk.main(["--seeds", "1", "--steps", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"first_seed": 1, "seeds": 1, "failed": 0}
