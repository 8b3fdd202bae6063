"""Players with a budget of bytes: what is right passes, and each thing that can be wrong is found."""

from typing import Any

import numpy as np
import pytest

from ecsnet.cli.sim import game_of
from ecsnet.errors import ArgumentError
from ecsnet.sight import Sight
from ecsnet.sim.budget import Bound, Waiting
from ecsnet.sim.cluster import Cluster
from ecsnet.sim.faults import Fault
from ecsnet.sim.rows import Rows
from ecsnet.sim.run import Outcome, run_scenario
from ecsnet.sim.scenario import BOUNDS, Scenario

TIGHT = Scenario(budget=3000, staleness=0.5, clients=2, entities=40, seconds=4.0, seed=3)


def run(scenario: Scenario) -> Outcome:
    return run_scenario(scenario, game_of(scenario))


@pytest.mark.parametrize("transport", ["stream", "datagram"])
@pytest.mark.parametrize("interest", [True, None])
def test_a_budget_on_a_bad_line_is_no_violation(transport: Any, interest: bool | None) -> None:
    outcome = run(TIGHT.with_(transport=transport, interest=interest, quantized=True, profile="bad-wifi"))

    assert outcome.ok, outcome.reasons()
    assert "--budget 3000 --staleness 0.5" in outcome.replay


def test_what_waits_is_there_for_who_comes_back_to_a_node_that_was_started_again() -> None:
    """The store has what changed since a client's version, and not what a budget had left out before it."""
    outcome = run(TIGHT.with_(durability="strict", faults=(Fault("node_crash", at_s=2.0, for_s=0.5),)))

    assert outcome.ok, outcome.reasons()
    assert outcome.reconnects == 2


def test_rows_really_wait_and_are_looked_at() -> None:
    """Or nothing would be checked."""
    game = game_of(TIGHT)
    with Cluster(game.world, clients=2, seed=3, setup=game.setup, model=game.model(), on_error="log") as cluster:  # type: ignore[misc]
        cluster.run(4)
        cluster.assert_converged()
        assert all(player.seen.waiting is not None and player.seen.waiting.late > 100 for player in cluster.players)


def test_a_swarm_draws_bounds_and_a_world_of_ones_own_has_none() -> None:
    drawn = [Scenario(swarm=True, seed=seed).settled() for seed in range(1, 41)]
    for name in BOUNDS:
        assert None in {getattr(one, name) for one in drawn} and len({getattr(one, name) for one in drawn}) > 3
    assert Scenario(swarm=True, seed=1, budget=0).settled().budget == 0
    with pytest.raises(ArgumentError, match="are of the default world"):
        Scenario(world="game:world", budget=3000)
    with pytest.raises(ArgumentError, match="budget_bytes_s is None"):
        Scenario(budget=3)


# --- the checker, by hand ---------------------------------------------------------------------------------------------


def rows(**cells: list[int]) -> dict[str, Rows]:
    n = len(next(iter(cells.values())))
    return {"body": Rows(np.arange(n, dtype=np.uint64), {name: np.array(column) for name, column in cells.items()})}


class Looked:
    """A node whose two rows change in each version, and what is found of a player."""

    def __init__(self, staleness: int = 3, delta_bytes: int = 100) -> None:
        self.found: list[str] = []
        self.waiting = Waiting(Bound(delta_bytes, staleness), self.found.append)

    def applied(self, version: int, held: dict[str, Rows], delta_bytes: int | None = None) -> None:
        self.waiting.applied(version, held, node(version), lambda one, table: node(one)[table], delta_bytes)


def node(version: int) -> dict[str, Rows]:
    return rows(x=[version, version], y=[10 * version, 10 * version])


def test_a_row_that_waits_is_no_violation_until_it_is_too_old() -> None:
    looked = Looked()
    looked.applied(1, node(1))
    looked.applied(2, rows(x=[2, 1], y=[20, 10]))
    looked.applied(3, rows(x=[3, 1], y=[30, 10]))
    assert looked.found == []
    assert looked.waiting.late == 2
    looked.applied(4, rows(x=[4, 1], y=[40, 10]))
    assert [what.partition(" as they")[0] for what in looked.found] == ["has 1 (0x1) of body in version 4"]


def test_half_a_row_and_one_that_goes_back_are_found() -> None:
    looked = Looked(staleness=9)
    looked.applied(1, node(1))
    looked.applied(2, rows(x=[2, 2], y=[20, 10]))
    assert len(looked.found) == 1 and "neither as the node, nor as it had before" in looked.found[0]
    looked.found.clear()
    looked.applied(3, node(3))
    looked.applied(4, rows(x=[4, 1], y=[40, 10]))
    assert len(looked.found) == 1 and "neither as the node, nor as it had before" in looked.found[0]


def test_a_row_that_came_is_whole() -> None:
    looked = Looked(staleness=9)
    looked.applied(1, {"body": Rows(np.zeros(0, np.uint64), {"x": np.zeros(0), "y": np.zeros(0)})})
    looked.applied(2, rows(x=[1, 2], y=[20, 20]))
    assert len(looked.found) == 1 and "1 (0x0)" in looked.found[0]


@pytest.mark.parametrize(("delta_bytes", "found"), [(400, 0), (600, 1)])
def test_deltas_that_are_too_big_on_the_whole_are_found(delta_bytes: int, found: int) -> None:
    looked = Looked()
    for version in range(1, 40):
        looked.applied(version, node(version), delta_bytes)
    looked.waiting.settled()
    assert len(looked.found) == found


def test_a_node_that_does_not_keep_to_the_budget_is_found() -> None:
    """The checker goes by the budget that it was told; the node here by none to speak of."""
    game = game_of(TIGHT.with_(entities=500))
    with Cluster(game.world, clients=2, seed=3, setup=game.setup, on_error="log") as cluster:
        cluster.node.running()._first_sight = Sight(budget_bytes_s=10**8)
        cluster.run(4)
        cluster.rest()
        assert {one.checker for one in cluster.violations} == {"budget"}
        assert all("of which nothing had to go" in one.what for one in cluster.violations)
