"""How a whole world is handed over: what it costs those who are there already, and what is compressed for whom."""

from typing import Any

import numpy as np

from ecsnet.store import Transaction
from ecsnet.wire.messages import Kind
from ecsnet.world import World
from tests.arena import arena_schema
from tests.helpers import Pair, frames_of

HZ = 30
ENTITIES = 40_000


def crowd(entities: int = ENTITIES) -> World:
    """Many who stand somewhere, and one of them moves."""
    world = World(arena_schema(), hz=HZ, on_error="raise")
    ids: list[Any] = []

    @world.system
    def move(tx: Transaction) -> None:
        if not ids:
            places = np.arange(entities, dtype=np.float32)
            ids.append(tx.spawn_many(entities, transform={"x": places, "y": places % 7}, health={}))
            return
        tx[ids[0][0], "transform.x"] += 1.0

    return world


def sync_bytes(pair: Pair, number: int) -> int:
    return pair.replicas[number].statistics().sync_bytes_received


def test_a_world_goes_uncompressed_to_this_machine_and_compressed_to_others() -> None:
    with Pair(crowd(), clients=2, digest_every_version=False) as pair:
        pair.wires[0].link.local = True
        pair.run_until(lambda: all(replica.state == "live" for replica in pair.replicas))
        pair.step(2)

        cells = ENTITIES * (4 + 4 + 2)
        # Health is one number for all.
        assert sync_bytes(pair, 0) > ENTITIES * 8
        assert sync_bytes(pair, 1) < cells / 2
        assert len(pair.digests()) == 1


def test_a_small_world_goes_uncompressed_to_this_machine_too() -> None:
    with Pair(crowd(2_000), clients=2) as pair:
        pair.wires[0].link.local = True
        pair.run_until(lambda: all(replica.state == "live" for replica in pair.replicas))

        assert sync_bytes(pair, 0) > 2_000 * 8 > 2 * sync_bytes(pair, 1)
        assert len(pair.digests()) == 1


def test_who_joins_a_big_world_is_told_the_digest_of_the_next_version() -> None:
    """Nobody waits for a scan before the world is there; and once a second one is made for all."""
    with Pair(crowd(), clients=1, digest_every_version=False) as pair:
        pair.wire.down.record = True
        pair.run_until(lambda: pair.replica.state == "live")
        kinds = [kind for kind, _ in frames_of(pair.wire.down.written)]
        assert Kind.SYNC_CHUNK in kinds, "else it is not a big world"
        pair.wire.down.record = False
        assert pair.authority.statistics().digests_computed == pair.replica.statistics().digests_verified == 0

        pair.step(2)
        assert pair.authority.statistics().digests_computed == pair.replica.statistics().digests_verified == 1

        pair.connect()
        pair.run_until(lambda: pair.replicas[1].state == "live")
        pair.run_until(lambda: pair.authority.tick_number % HZ == 2)
        verified = [replica.statistics().digests_verified for replica in pair.replicas]
        computed = pair.authority.statistics().digests_computed
        pair.step(HZ)
        assert [replica.statistics().digests_verified for replica in pair.replicas] == [one + 1 for one in verified]
        assert pair.authority.statistics().digests_computed == computed + 1


def test_a_scan_for_one_who_has_just_joined_keeps_nobody_elses_delta_waiting() -> None:
    """Who is there already is in the batch that goes out first."""
    with Pair(crowd(), clients=2, digest_every_version=False) as pair:
        old, new = (wire.link for wire in pair.wires)
        pair.run_until(lambda: all(replica.state == "live" for replica in pair.replicas))
        pair.step(3)
        old.place, new.place = 1, 2
        new.digest_window = -1
        authority = pair.authority
        pair.now_ns += 1
        authority.tick(pair.now_ns)
        computed = authority.statistics().digests_computed

        batch = authority.deltas_to_send(pair.now_ns)
        assert batch.links == [old] and batch.rest == [new]
        assert authority.statistics().digests_computed == computed

        transmit = authority.next_transmit(new, pair.now_ns)
        assert transmit is not None and transmit.digest_window is not None
        assert authority.statistics().digests_computed == computed + 1


def test_where_each_version_has_a_digest_a_big_world_comes_with_its_own() -> None:
    with Pair(crowd(), digest_every_version=True) as pair:
        pair.run_until(lambda: pair.replica.state == "live")

        assert pair.replica.statistics().digests_verified == pair.replica.statistics().versions_applied > 0
