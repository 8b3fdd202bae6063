"""Histories: some pass, a seed is one history, and a model that is wrong on purpose is caught."""

import json

import pytest

from sims import histories, histories_model
from sims.histories_model import Model, Reference


def test_the_store_agrees_with_its_model() -> None:
    """Some seeds; `sims/histories.py --seeds 10000` runs more."""
    failures = [failure for seed in range(1, 121) if (failure := histories.play(seed))]

    assert not failures, failures[0]


def test_a_seed_is_one_history() -> None:
    traces = []
    for _ in range(2):
        history = histories.History(7)
        history.run(histories.STEPS)
        history.close()
        traces.append(history.trace)

    assert len(traces[0]) > 50
    assert traces[0] == traces[1]


class _Careless(Model):
    """It knows no rules."""

    def broken(self) -> str | None:
        return None


def test_a_rule_that_the_model_lacks_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories, "Model", _Careless)

    errors = [failure.error for seed in range(1, 11) if (failure := histories.play(seed))]

    assert any(error.startswith("ConstraintError") for error in errors), errors


def test_a_cascade_that_the_model_takes_for_another_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Reference("item", "holder", "entities", None, "set_null")
    references = tuple(wrong if r[:2] == wrong[:2] else r for r in histories_model.REFERENCES)
    monkeypatch.setattr(histories_model, "REFERENCES", references)

    errors = [failure.error for seed in range(1, 21) if (failure := histories.play(seed))]

    assert any(error.startswith("Disagreement: item") for error in errors), errors


def test_a_failure_tells_how_to_see_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(histories, "Model", _Careless)
    seed = next(seed for seed in range(1, 11) if histories.play(seed))
    command = ["--first-seed", str(seed), "--seeds", "1", "--steps", str(histories.STEPS)]

    assert histories.main(command) == 1
    told = capsys.readouterr().out
    assert f"FAILED seed {seed}, step " in told and f"replay: python sims/histories.py {' '.join(command)}" in told
    assert "('commit',)" in told

    assert histories.main([*command, "--json"]) == 1
    failure, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert failure["seed"] == seed and failure["last"] and failure["error"].startswith("ConstraintError")
    assert summary == {"first_seed": seed, "seeds": 1, "failed": 1}


def test_a_run_without_failures_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert histories.main(["--seeds", "2", "--steps", "20"]) == 0
    assert "2 histories from seed 1: 0 failed" in capsys.readouterr().out

    assert histories.main(["--seconds", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"first_seed": 1, "seeds": 0, "failed": 0}

    with pytest.raises(SystemExit):
        histories.main(["--seeds", "0"])
    assert "--seeds is 0; at least one" in capsys.readouterr().err
