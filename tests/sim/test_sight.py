"""Players that see a part of the world: what is right passes, and each thing that can be wrong is found."""

from typing import Any

import numpy as np
import pytest

from ecsnet._kernel.audiences import Profile
from ecsnet.cli.sim import game_of
from ecsnet.demo.varied import Variety, world_of
from ecsnet.errors import ArgumentError
from ecsnet.ids import ClientId, SessionId
from ecsnet.replica import Entered, Left, Replica
from ecsnet.sim.cluster import Cluster
from ecsnet.sim.owner import Owners
from ecsnet.sim.run import Outcome, run_scenario
from ecsnet.sim.scenario import VARIETIES, Scenario
from ecsnet.store import Store
from ecsnet.wire.writes import DirectWrite
from ecsnet.world import Client

ALL = Scenario(interest=True, quantized=True, writes=True, roles=True, clients=3, entities=60, seconds=6.0, seed=3)


def run(scenario: Scenario = ALL) -> Outcome:
    return run_scenario(scenario, game_of(scenario))


def checkers_of(outcome: Outcome) -> set[str]:
    return {one.checker for one in outcome.violations}


@pytest.mark.parametrize("transport", ["stream", "datagram"])
def test_all_of_it_at_once_is_no_violation(transport: Any) -> None:
    outcome = run(ALL.with_(transport=transport, profile="bad-wifi"))

    assert outcome.ok, outcome.reasons()


@pytest.mark.parametrize("name", VARIETIES)
def test_each_variety_by_itself_is_no_violation(name: str) -> None:
    outcome = run(Scenario(clients=2, entities=30, seconds=3.0, seed=5, **{name: True}))

    assert outcome.ok, outcome.reasons()
    assert f"--{name}" in outcome.replay.split()


def test_players_really_come_and_go_and_are_looked_at() -> None:
    """Or nothing would be checked."""
    settled = ALL.settled()
    game = game_of(settled)
    told: list[Any] = []
    assert game.model is not None
    with Cluster(game.world, clients=3, seed=3, setup=game.setup, model=game.model(), on_error="log") as cluster:
        assert game.play is not None
        cluster.each_tick(game.play)
        cluster.each_tick(lambda player: told.extend(player.poll()))
        cluster.run(6)
        cluster.assert_converged()
        assert cluster.node.owners.looked_at > 20
        assert all(player.seen.looked_at > 10 for player in cluster.players)
        assert any(isinstance(event, Entered) for event in told)
        assert any(isinstance(event, Left) for event in told)
        assert all(len(player.view["entities"]) < 60 for player in cluster.players), "each sees a part"
        assert any(len(player.view["code"]) for player in cluster.players), "an admin does"
        assert not all(len(player.view["code"]) for player in cluster.players), "and a player does not"


def test_a_player_that_is_not_told_who_left_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    tell = Replica._tell_sight

    def forget(replica: Replica, store: Any, version: Any) -> None:
        tell(replica, store, version)
        kept = [event for event in replica.events if not isinstance(event, Left)]
        replica.events.clear()
        replica.events.extend(kept)

    monkeypatch.setattr(Replica, "_tell_sight", forget)
    outcome = run()

    assert checkers_of(outcome) == {"sight"}
    assert "was not told that" in outcome.violations[0].what


def test_what_a_role_may_not_see_is_found_where_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Node and player agree on it, and so do their digests."""

    def of_role(schema: Any, role: str) -> Profile:
        return Profile(frozenset(table.id for table in schema.tables))

    monkeypatch.setattr(Profile, "of_role", staticmethod(of_role))
    outcome = run()

    assert checkers_of(outcome) == {"sight"}
    assert any("of code, which a player may not see" in one.what for one in outcome.violations)
    assert any("health.shield" in one.what for one in outcome.violations)


@pytest.mark.parametrize(("factor", "what"), [(0.8, "lacks"), (1.3, "holds")])
def test_rules_that_find_too_few_or_too_many_are_found(factor: float, what: str) -> None:
    """The checker goes by the rules that it was told; the node here by others."""
    settled = ALL.settled()
    game = game_of(settled)
    with Cluster(game.world, clients=2, seed=3, setup=game.setup, on_error="log") as cluster:
        from dataclasses import replace

        cluster.node.made.rules = tuple(
            replace(rule, radius=rule.radius / factor, leave_radius=rule.leave_radius / factor)
            for rule in game.world.interest
        )
        cluster.run(2)
        assert {one.checker for one in cluster.violations} == {"sight"}
        assert any(what in one.what for one in cluster.violations)


def written(owners: Owners, client: Client, key: int, table: str, **cells: float) -> None:
    of = world_of(Variety(writes=True, roles=True)).schema.table(table)
    columns = {name: np.array([cell], of.field(name).dtype) for name, cell in cells.items()}
    owners.written(client, DirectWrite(of, "update", np.array([key], np.uint64), 1, columns))


def test_writes_that_nobody_has_a_right_to_are_found() -> None:
    found: list[str] = []
    schema = world_of(Variety(writes=True, roles=True)).schema
    owners = Owners(schema, found.append)
    ada, admin = Client(SessionId(1), ClientId(7), "ada"), Client(SessionId(2), ClientId(8), "eve", "admin")
    with Store(schema) as store:
        with store.transaction() as tx:
            hers, theirs = (tx.spawn(velocity=None, health=None, owner=owner) for owner in (7, 8))
        with store.view() as view:
            owners.note(view)
            written(owners, ada, hers, "velocity", x=1.0)
            written(owners, admin, theirs, "health", shield=1)
            owners.note(view)
            assert found == []

            written(owners, ada, hers, "velocity", limit=1.0)
            written(owners, ada, hers, "health", shield=1)
            written(owners, ada, hers, "transform", x=1.0)
            assert [what.partition("was let ")[2] for what in found] == [
                "update velocity: limit",
                "update health",
                "update transform",
            ]
            found.clear()
            written(owners, ada, theirs, "velocity", x=1.0)
            assert found == [], "it may be hers in the version that this makes"
            owners.note(view)
            assert len(found) == 1 and "which it does not own" in found[0]


def test_a_world_of_ones_own_has_no_varieties_and_trio_no_views() -> None:
    with pytest.raises(ArgumentError, match="are of the default world"):
        Scenario(world="game:world", interest=True)
    settled = Scenario(swarm=True, world="game:world", seed=4).settled()
    assert all(getattr(settled, name) is None for name in VARIETIES)


def test_a_swarm_draws_its_varieties_and_is_told_by_its_command() -> None:
    drawn = [Scenario(swarm=True, seed=seed).settled() for seed in range(1, 41)]
    for name in VARIETIES:
        assert {getattr(one, name) for one in drawn} == {True, None}, name
    assert drawn[0].settled() == drawn[0]
    assert Scenario(swarm=True, seed=1, interest=False).settled().interest is False
    assert "--no-interest" in Scenario(swarm=True, seed=1, interest=False).command()
