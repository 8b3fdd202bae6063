"""Nodes that write the same tables, simulated: what is right passes, and each thing that can be wrong is found."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from ecsnet.authority import Peering, PeerLink
from ecsnet.cli import app
from ecsnet.errors import ArgumentError
from ecsnet.sim.nodes import HZ, SharedRun
from ecsnet.sim.nodes_checker import NodesChecker
from ecsnet.sim.profile import profile
from ecsnet.sim.scenario import NODES_MAX, Scenario


def run(seed: int, *, nodes: int = 3, seconds: float = 8.0) -> SharedRun:
    shared = SharedRun(nodes, profile("wifi"), seed, faults=True)
    try:
        for _ in range(round(seconds * HZ)):
            shared.step()
        shared.rest()
    finally:
        shared.close()
    return shared


def found(shared: SharedRun) -> set[str]:
    return {one.checker for one in shared.violations}


@pytest.mark.parametrize("seed", [1, 2])
def test_nodes_that_are_cut_off_and_killed_come_to_hold_the_same(seed: int) -> None:
    shared = run(seed)

    assert shared.violations == []
    assert sum(shared.faults.values()) > 0
    assert shared.checker.causes_looked_at > 1000


def test_equal_seeds_are_equal_runs() -> None:
    assert run(5, seconds=2.0).trace_hash == run(5, seconds=2.0).trace_hash != run(6, seconds=2.0).trace_hash


def test_an_effect_without_its_cause_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Peering, "_missing", lambda *_: False)

    assert any("cause" in found(run(seed, nodes=4)) for seed in (1, 2, 3))


def test_a_frame_that_waits_for_ever_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for what does not come, and nobody asks for everything."""
    monkeypatch.setattr(Peering, "_missing", lambda *_: True)
    monkeypatch.setattr(PeerLink, "ask_for_everything", lambda *_: None)

    assert "waiting" in found(run(1, seconds=8.0))


def test_a_write_that_knew_of_another_and_lost_is_found() -> None:
    """By hand: the first write knows of none, the second of the first, the third of neither."""
    told: list[str] = []
    checker = NodesChecker(NODES_MAX, lambda *what: told.append(what[0]))
    first = checker.wrote(1, 0, ("text",), (5, 0, 0, 0, 0, 0, 0, 0))
    second = checker.wrote(2, 0, ("text",), (5, 3, 0, 0, 0, 0, 0, 0))
    third = checker.wrote(3, 0, ("text",), (4, 2, 9, 0, 0, 0, 0, 0))
    last = [checker._is_last(number, (first, second, third)) for number in (first, second, third)]

    assert last == [False, True, True]


def test_the_command_line_runs_nodes_and_refuses_what_is_of_players(capsys: Any) -> None:
    result = CliRunner().invoke(app, ["sim", "--nodes", "2", "--seconds", "2", "--json"])
    outcome = json.loads(result.output.splitlines()[-1])

    assert result.exit_code == 0
    assert (outcome["nodes"], outcome["converged"], outcome["replay"]) == (
        2, True, "ecsnet sim --seed 0 --seconds 2 --nodes 2",
    )  # fmt: skip
    with pytest.raises(ArgumentError, match="clients: of one node and its players"):
        Scenario(nodes=2, clients=3)
    with pytest.raises(ArgumentError, match="nodes is 1"):
        Scenario(nodes=1)
