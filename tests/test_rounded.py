"""A world whose schema rounds what it sends: every replica holds what the wire says it should, in every version."""

import random

import pytest

from ecsnet.authority import blocks
from ecsnet.schema import loads
from ecsnet.store import Transaction
from ecsnet.world import World
from tests.helpers import Pair

SCHEMA = loads("""[database]
name = "rounded"
version = "1.0.0"

[tables.body]
parent_table = "entities"
fields = [{ name = "entity", type = "u64", foreign_key = "entities.id" },
          { name = "x", type = "f32", quantize = 0.002, default = 0.0 },
          { name = "y", type = "f32", quantize = 0.002, default = 0.0 },
          { name = "turned", type = "[f32; 4]", rotation = true, default = [0.0, 0.0, 0.0, 1.0] },
          { name = "hp", type = "i16", default = 100 }]
""")


def crowd(rng: random.Random) -> World:
    """Everybody moves a little, each tick; some come, some go, and now and then one is beyond all steps."""
    world = World(SCHEMA, hz=60, on_error="raise")

    @world.system
    def move(tx: Transaction) -> None:
        if tx.tick % 25 == 1:
            tx.spawn_many(40, body={"x": rng.uniform(-500, 500)})
        (body,) = tx.query("body")
        body.x += 0.1
        body.y -= 0.013
        if tx.tick % 9 == 0 and len(body.y):
            body.y[rng.randrange(len(body.y))] = rng.choice([float("inf"), 1e30, 8388.608, 0.0])
            body.turned[0] = [rng.gauss(0, 1) for _ in range(4)]
        if tx.tick % 30 == 0:
            tx.despawn(int(body.entity[0]))

    return world


@pytest.mark.parametrize("datagrams", [False, True], ids=["stream", "datagrams"])
@pytest.mark.parametrize("small", [False, True], ids=["deltas", "chunks"])
def test_every_version_of_a_rounded_world_converges(
    datagrams: bool, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given lines that are cut and clients that join late, then each version's digest is the authority's."""
    if small:
        monkeypatch.setattr(blocks, "FULL_SYNC_BYTES_MIN", 700)
        monkeypatch.setattr(blocks, "SYNC_CHUNK_BYTES", 300)
    pair = Pair(crowd(random.Random(4)), clients=2, latency_ticks=1, datagrams=datagrams)
    with pair:
        pair.run_until_live()
        for number in range(3):
            pair.step(40)
            pair.wire.cut()
            pair.step(7)
            pair.wire.heal()
            pair.connect(name=f"late-{number}")
        pair.step(20)
        pair.world.systems.clear()
        pair.run_until(pair.has_converged)
        assert all(replica.error is None and replica.state == "live" for replica in pair.replicas)
        assert len(pair.digests()) == 1
        assert all(replica.statistics().digests_verified > 10 for replica in pair.replicas)
        # With what the authority itself holds, they would differ.
        with pair.authority.store.view() as view:
            assert view.digest() != view.digest(wire=True)


def test_who_keeps_up_is_sent_differences_and_who_was_away_is_not() -> None:
    with Pair(crowd(random.Random(4))) as pair:
        pair.run_until_live()
        pair.step(30)
        cut = pair.authority.block(pair.authority.version)
        assert cut[8:16] == bytes(8)
        made = pair.authority._audiences.everybody.blocks
        base = made.version
        pair.step(1)
        near = made.delta(base)
        assert near is not None and int.from_bytes(near.block[8:16], "little") == base
        lost = made.delta(base, held=False)
        assert lost is not None and lost.block[8:16] == bytes(8) and len(near.block) < len(lost.block)
        pair.step(5)
        behind = made.delta(base)
        assert behind is not None and behind.block[8:16] == bytes(8)
