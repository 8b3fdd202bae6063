"""Byte budgets: what does not fit waits, row by row, and for so long at most."""

from collections.abc import Callable

import numpy as np
import pytest

from ecsnet import Client, Component, Entity, Schema, Transaction, World, f32, field
from ecsnet.interest import near, owned
from ecsnet.limits import BUDGET_BYTES_S_MIN
from tests.helpers import Pair

HZ = 60
CROWD = 400


class Body(Component, spatial=["x", "y"]):
    x: f32 = field(default=0.0)
    y: f32 = field(default=0.0)


SCHEMA = Schema("ground", "1.0.0", Body)


def crowd(
    budget_bytes_s: int | None,
    staleness_max_s: float = 0.5,
    *,
    rules: bool = True,
    datagrams: bool = False,
    moves: Callable[[], bool] = lambda: True,
) -> Pair:
    """A client in the middle of a crowd that moves in each tick in which `moves` says so."""
    world = World(
        SCHEMA,
        hz=HZ,
        on_error="raise",
        interest=[owned(), near(Body, radius=1000.0)] if rules else [],
        budget_bytes_s=budget_bytes_s,
        staleness_max_s=staleness_max_s,
    )

    @world.on_join
    def join(tx: Transaction, client: Client) -> Entity:
        return tx.spawn(Body(), owner=client)

    @world.command
    def bound(tx: Transaction, client: Client, budget: int) -> None:
        client.budget_bytes_s = budget or None

    @world.system
    def move(tx: Transaction) -> None:
        if moves():
            (body,) = tx.query(Body)
            body.x += 0.25

    pair = Pair(world, datagrams=datagrams)
    with pair.authority.store.transaction() as tx:
        # Places of which none is like another, so that each takes its four bytes.
        x = np.random.default_rng(3).permutation(CROWD) * 0.5
        tx.spawn_many(CROWD, body={"x": x, "y": 0.0})
    pair.run_until_live()
    return pair


def delta_bytes(pair: Pair, ticks: int) -> float:
    """Bytes of deltas a tick."""
    before = pair.replica.statistics().delta_bytes_received
    pair.step(ticks)
    return (pair.replica.statistics().delta_bytes_received - before) / ticks


def behind(pair: Pair) -> list[int]:
    """By how many versions each row of the replica is behind what it holds, as its place tells."""
    pair.step()
    with pair.replica.view() as theirs, pair.authority.store.view() as ours:
        assert theirs.version == ours.version
        there = dict(zip(ours["body"].key.tolist(), ours["body.x"].tolist(), strict=True))
        keys, x = theirs["body"].key.tolist(), theirs["body.x"].tolist()
        return [round((there[key] - at) / 0.25) for key, at in zip(keys, x, strict=True)]


@pytest.mark.parametrize("rules", [True, False])
def test_a_budget_bounds_what_a_client_is_sent_and_how_old_it_is(rules: bool) -> None:
    """Whether rules say what it sees, or it sees everything."""
    with crowd(None, rules=rules) as free:
        unbounded = delta_bytes(free, 30)
    with crowd(60 * HZ * 8, rules=rules) as pair:
        pair.step(40)
        bounded = delta_bytes(pair, 60)

        assert bounded < unbounded / 2
        late = behind(pair)
        assert len(late) == CROWD + 1
        assert max(late) > 1, "else nothing waits, and this shows nothing"
        assert max(late) <= HZ // 2 + 1
        assert pair.replica.error is None


def test_what_is_ones_own_goes_before_the_crowd() -> None:
    with crowd(60 * HZ * 8) as pair:
        pair.step(60)
        own, others = [], []
        for _ in range(20):
            others.append(max(behind(pair)))
            with pair.authority.store.view() as ours, pair.replica.view() as theirs:
                mine = pair.replica.entity
                own.append(round((ours[mine, Body.x] - theirs[mine, Body.x]) / 0.25))

        assert max(own) < min(others)


def test_a_budget_that_is_given_and_taken_back_while_playing_loses_nothing() -> None:
    with crowd(None, rules=False) as pair:
        pair.replica.send("bound", budget=60 * HZ * 8)
        pair.step(60)
        assert max(behind(pair)) > 1

        pair.replica.send("bound", budget=0)
        pair.step(60)

        assert max(behind(pair)) == 0
        before = pair.replica.statistics().digests_verified
        pair.step(3)
        assert pair.replica.statistics().digests_verified > before, "nothing is pending: digests go again"
        assert pair.link.full_syncs == 1


def test_over_datagrams_nothing_is_lost_that_waits() -> None:
    """The least budget there is, so that nearly everything waits for its turn."""
    with crowd(BUDGET_BYTES_S_MIN, staleness_max_s=0.2, datagrams=True) as pair:
        pair.step(120)
        assert max(behind(pair)) <= HZ // 5 + 1


@pytest.mark.parametrize("datagrams", [False, True])
@pytest.mark.parametrize("rules", [True, False])
def test_what_waits_goes_though_the_world_stands_still(rules: bool, datagrams: bool) -> None:
    """A world that nobody changes makes no version, and what waits goes with versions: for its sake some are made."""
    moves = [True]
    with crowd(BUDGET_BYTES_S_MIN, 0.5, rules=rules, datagrams=datagrams, moves=lambda: moves[0]) as pair:
        pair.step(10)
        assert max(behind(pair)) > 1
        moves[0] = False
        pair.step(HZ // 2 + 4)
        assert max(behind(pair)) == 0
        assert pair.replica.view().digest() == pair.authority.digest_for(pair.link)
        version = pair.authority.version
        pair.step(10)
        assert pair.authority.version == version, "and when nothing waits, none are"


def test_what_has_waited_longest_goes_first() -> None:
    """A budget for about a fifth of the crowd in each version: everybody has its turn, long before it had to go."""
    with crowd(100 * HZ * 8, staleness_max_s=10.0) as pair:
        pair.step(60)
        latest = [max(behind(pair)) for _ in range(20)]

        assert min(latest) > 1, "else nothing waits, and this shows nothing"
        assert max(latest) < 20
