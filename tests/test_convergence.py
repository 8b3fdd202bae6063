"""Whatever happens on the way, a replica that is let catch up holds exactly what the authority has.

Random worlds, random lines, from a seed each: spawns, despawns, updates and rows that come and go; clients that join,
leave, are cut off and come back; limits made small, so that nearly every delta is a chunked sync. Every version carries
its digest, so a replica that differs for a single version ends the test.
"""

import random
from typing import Any

import pytest

from ecsnet.authority import blocks, window
from ecsnet.ids import Entity
from ecsnet.store import Transaction
from ecsnet.world import World
from tests.arena import arena, arena_schema
from tests.helpers import Pair


def churning(rng: random.Random, *, hz: int = 60) -> World:
    """A world whose one system does a random thing many times a tick."""
    world = World(arena_schema(), hz=hz, on_error="raise")
    alive: list[Entity] = []

    @world.system
    def churn(tx: Transaction) -> None:
        for _ in range(rng.randrange(30)):
            what = rng.random()
            if what < 0.35 or not alive:
                parts: dict[str, Any] = {"transform": {"x": rng.random()}}
                if rng.random() < 0.5:
                    parts["health"] = {"hp": rng.randrange(101)}
                alive.append(tx.spawn(**parts))
            elif what < 0.55:
                tx.despawn(alive.pop(rng.randrange(len(alive))))
            elif what < 0.8:
                tx[rng.choice(alive), "transform.x"] = rng.random()
            else:
                entity = rng.choice(alive)
                if (entity, "health") in tx:
                    tx.delete(entity, "health")
                else:
                    tx.insert(entity, health={"hp": rng.randrange(101)})
        if tx.tick % 7 == 0:
            (body,) = tx.query("transform")
            body.y += 0.5

    @world.system(every=41)
    def flood(tx: Transaction) -> None:
        alive.extend(Entity(int(key)) for key in tx.spawn_many(200, transform={"x": 1.0}))

    return world


@pytest.mark.parametrize("small", [False, True], ids=["deltas", "chunks"])
@pytest.mark.parametrize("seed", range(6))
def test_replicas_converge_whatever_happens_on_the_way(seed: int, small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if small:
        monkeypatch.setattr(blocks, "FULL_SYNC_BYTES_MIN", 1500)
        monkeypatch.setattr(blocks, "SYNC_CHUNK_BYTES", 300)
        # A few chunks a round trip, so that each is cut from another version.
        monkeypatch.setattr(window, "SYNC_WINDOW_BYTES", 1800)
        monkeypatch.setattr(window, "SYNC_WINDOW_BYTES_MAX", 1800)
        monkeypatch.setattr(blocks, "CLOSING_DELTA_BYTES_MAX", 2500)
    rng = random.Random(seed)
    with Pair(churning(rng), clients=2, latency_ticks=rng.randrange(4), back_ticks=rng.randrange(4)) as pair:
        for _ in range(40):
            what = rng.random()
            wire = rng.choice(pair.wires)
            if what < 0.2:
                wire.cut()
            elif what < 0.5:
                wire.heal()
            elif what < 0.6 and len(pair.wires) < 6:
                pair.connect(name=f"late-{len(pair.wires)}")
            elif what < 0.65 and len(pair.wires) > 2:
                wire.heal()
                wire.replica.close(pair.now_ns)
            pair.step(rng.randrange(1, 12))
            assert all(replica.error is None for replica in pair.replicas), pair.replicas[0].error
        for wire in pair.wires:
            wire.heal()
        pair.world.systems.clear()
        live = [replica for replica in pair.replicas if replica.state != "closed"]
        pair.run_until(pair.has_converged, steps_max=2000)

        assert live and all(replica.state == "live" for replica in live)
        assert len(pair.digests()) == 1
        assert all(replica.statistics().digests_verified > 0 for replica in live)
        if small:
            assert sum(replica.statistics().chunks_staged for replica in live) > 20


def test_views_that_are_held_defer_publication_and_nothing_is_told_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that keeps every version in memory must not make the node answer for what nobody can see yet."""
    with Pair(arena()) as pair:
        pair.run_until_live()
        pair.replica.send("steer", dx=1.0, dy=0.0)
        held = []
        for _ in range(40):
            held.append(pair.authority.store.view())
            held[-1]["transform.x"]
            pair.step()
        published = pair.authority.version
        pair.step(3)
        assert pair.authority.version == published, "publication is deferred"
        ticket = pair.replica.send("hit", target=pair.replica.entity)
        pair.step(5)
        assert ticket.status == "pending"

        for view in held:
            view.close()
        held.clear()
        pair.step(3)
        assert ticket.status == "accepted"
        assert pair.authority.version > published
        assert pair.replica.version == pair.authority.version
        assert len(pair.digests()) == 1
