"""A replica holds what the authority has: joined late, behind a slow line, cut off and back, and never by halves."""

import ctypes
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from ecsnet.errors import DivergedError, Reject, SchemaMismatchError
from ecsnet.ids import Entity
from ecsnet.limits import FRAME_HEADER_BYTES, FULL_SYNC_BYTES_MIN
from ecsnet.replica import Diverged, StateChanged
from ecsnet.schema import loads
from ecsnet.store import Transaction
from ecsnet.wire.codec import decode_untrusted, encode
from ecsnet.wire.messages import DeltaSync, Kind, Reason
from ecsnet.world import World
from tests.arena import arena, arena_schema
from tests.helpers import Pair, frames_of


def populated(entities: int, moving_share: float, *, hz: int = 30) -> World:
    """A world in which a share of the rows changes in each tick, always the same number and never the same ones."""
    world = World(arena_schema(), hz=hz, on_error="raise")
    moving = int(entities * moving_share)
    ids: list[Any] = []

    @world.system
    def churn(tx: Transaction) -> None:
        if not ids:
            ids.append(tx.spawn_many(entities, transform={"x": np.arange(entities, dtype=np.float32)}, health={}))
            return
        (body,) = tx.query("transform")
        chosen = tx.random.choice(entities, moving, replace=False)
        body.x[chosen] += 1.0

    return world


def test_a_change_reaches_the_replica_in_the_tick_that_made_it() -> None:
    """Over a wire without latency: nothing in the cores waits for a second round."""
    with Pair(arena()) as pair:
        pair.run_until_live()
        ship = pair.replica.entity

        pair.replica.send("steer", dx=1.0, dy=0.0)
        pair.step(2)

        with pair.replica.view() as view:
            assert view[ship, "transform.x"] > 0.0
            assert view.version == pair.authority.version
        assert len(pair.digests()) == 1


def test_a_client_that_joins_late_gets_the_whole_world_and_then_only_changes() -> None:
    """A full sync is a delta from version 0, and there is one of it."""
    with Pair(arena()) as pair:
        pair.run_until_live()
        pair.replica.send("steer", dx=0.0, dy=1.0)
        pair.step(20)
        late = pair.connect(name="late")
        pair.run_until_live()
        pair.step(20)

        assert late.statistics().full_syncs_applied == 1
        assert late.statistics().versions_applied > 10
        assert len(pair.digests()) == 1
        with late.view() as view:
            assert pair.replica.entity in view
            assert late.entity in view
            assert late.entity != pair.replica.entity


def test_a_fault_in_memory_is_found_though_digests_follow_the_changes() -> None:
    """What no change ever names is in no digest that follows them: now and then all is scanned."""
    with Pair(populated(200, 0.05)) as pair:
        pair.run_until_live()
        pair.step(10)
        with pair.replica.view() as view:
            hp = view["health.hp"]
            ctypes.memset(hp.ctypes.data, 0x3F, hp.itemsize)
        assert len(pair.digests()) == 2

        pair.step(65)

        assert isinstance(pair.replica.error, DivergedError)


def test_tables_that_are_not_replicated_stay_at_home() -> None:
    """Nor do the sessions, which name every client."""
    world = arena()

    @world.system
    def note(tx: Transaction) -> None:
        for ship in tx.query("transform").entity:
            if (int(ship), "secret") not in tx:
                tx.insert(Entity(int(ship)), secret={"seen": 5})

    with Pair(world) as pair:
        pair.run_until_live()
        pair.step(5)
        with pair.authority.store.view() as view:
            assert len(view["secret"]) == 1
            assert len(view["sessions"]) == 1
        with pair.replica.view() as view:
            assert len(view["secret"]) == 0
            assert len(view["sessions"]) == 0


def test_with_a_round_trip_of_five_ticks_nearly_every_version_is_applied_at_the_same_cost() -> None:
    """The rule of the base: cut from what was last *sent*, a delta does not carry a round trip of changes again. Cut
    from what was acked it would cost five times as much, and applied only on an exact base it would run at a fifth."""

    def run(latency_ticks: int, back_ticks: int) -> tuple[float, int]:
        with Pair(
            populated(1000, 0.05), latency_ticks=latency_ticks, back_ticks=back_ticks, digest_every_version=False
        ) as pair:
            pair.run_until_live()
            pair.step(10)
            first_version = pair.authority.version
            applied = pair.replica.statistics().versions_applied
            received = pair.replica.statistics().delta_bytes_received
            pair.step(100)
            made = pair.authority.version - first_version
            statistics = pair.replica.statistics()
            return (statistics.versions_applied - applied) / made, statistics.delta_bytes_received - received

    share_near, bytes_near = run(0, 0)
    share_far, bytes_far = run(3, 2)

    assert share_near == 1.0
    assert share_far >= 0.95
    assert bytes_far <= 1.1 * bytes_near


def test_the_same_seed_twice_gives_equal_bytes() -> None:
    """A run is its arguments: no clock, no address in memory, no order of a dictionary gets into a frame."""

    def run(seed: int) -> list[bytes]:
        with Pair(arena(seed=3), clients=3, seed=seed, latency_ticks=1) as pair:
            for wire in pair.wires:
                wire.down.record = True
            pair.run_until_live()
            for number, replica in enumerate(pair.replicas):
                replica.send("steer", dx=0.5, dy=0.1 * number)
                replica.send("hit", target=pair.replicas[number - 1].entity)
            pair.step(30)
            return [b"".join(wire.down.written) for wire in pair.wires]

    first = run(5)
    assert first == run(5)
    assert first != run(6), "sessions and the epoch follow from the seed"


def test_two_processes_with_one_seed_send_equal_bytes() -> None:
    """Python orders its sets and hashes its strings differently in each process; none of that may show."""
    code = """
        import hashlib
        from tests.arena import arena
        from tests.helpers import Pair
        with Pair(arena(seed=3), clients=3, seed=5, latency_ticks=1) as pair:
            for wire in pair.wires:
                wire.down.record = wire.up.record = True
            pair.run_until_live()
            for number, replica in enumerate(pair.replicas):
                replica.send("steer", dx=0.5, dy=0.1 * number)
                replica.send("hit", target=pair.replicas[number - 1].entity)
            pair.step(20)
            sent = b"".join(b"".join(wire.down.written + wire.up.written) for wire in pair.wires)
            print(hashlib.sha256(sent).hexdigest(), len(sent))
    """
    root = Path(__file__).parent.parent
    printed = {
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            cwd=root,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
    assert int(printed.pop().split()[1]) > 10_000


def test_a_cut_client_catches_up_without_a_second_full_sync() -> None:
    """Nothing is queued for it: its base stays behind, and one delta covers what it missed."""
    with Pair(arena(), latency_ticks=2) as pair:
        pair.run_until_live()
        pair.replica.send("steer", dx=1.0, dy=0.0)
        pair.step(10)

        pair.wire.cut()
        pair.step(40)
        pair.wire.heal()
        pair.step(10)

        statistics = pair.replica.statistics()
        assert statistics.full_syncs_applied == 1, "only the join may be a full sync"
        assert pair.authority.version - pair.replica.version <= 3
        assert statistics.versions_applied < pair.authority.version - 30


def test_a_client_that_was_away_too_long_starts_from_the_empty_world_again() -> None:
    """What changed since its base is not kept for ever; then everything is replaced, and nothing stale survives."""
    with Pair(arena(moving=False, hz=100)) as pair:
        pair.run_until_live()
        ids: list[Entity] = []

        def change() -> None:
            with pair.authority.store.transaction() as tx:
                if ids:
                    tx.despawn(ids.pop())
                ids.append(tx.spawn(transform={"x": float(pair.steps)}))

        pair.step(3, change)
        pair.wire.cut()
        pair.step(300, change)
        pair.wire.heal()
        pair.step(3)

        with pair.replica.view() as view:
            assert len(view["entities"]) == 2
            assert ids[0] in view
        assert len(pair.digests()) == 1


def test_a_big_world_arrives_in_chunks_and_becomes_visible_at_once() -> None:
    """Nothing of it is seen before the delta that closes the sync, though the world moves on meanwhile."""
    entities = 40_000
    with Pair(populated(entities, 0.05), latency_ticks=1) as pair:
        pair.wire.down.record = True
        seen: list[int] = []

        def look() -> None:
            with pair.replica.view() as view:
                seen.append(len(view["transform"]))

        pair.step(3, look)
        for _ in range(200):
            if pair.replica.state == "live" and pair.replica.version > 5:
                break
            pair.step(1, look)
        pair.step(5, look)

        assert set(seen) == {0, entities}
        statistics = pair.replica.statistics()
        assert statistics.full_syncs_applied == 1
        assert statistics.chunks_staged > 4
        kinds = [kind for kind, _ in frames_of(pair.wire.down.written)]
        begin, close = kinds.index(Kind.SYNC_BEGIN), kinds.index(Kind.DELTA_SYNC)
        assert set(kinds[begin + 1 : close]) <= {Kind.SYNC_CHUNK, Kind.PONG}
        assert max(len(payload) for _, payload in frames_of(pair.wire.down.written)) < 2 * FULL_SYNC_BYTES_MIN
        assert len(pair.digests()) <= 2
        pair.wire.down.record = False


def test_ten_thousand_rows_that_all_change_are_one_delta_a_tick() -> None:
    """40 kB of cells are no full sync, whatever a row might need at worst: several frames a tick cost the node twice
    the work, and the client its lag."""
    with Pair(populated(10_000, 1.0), digest_every_version=False) as pair:
        pair.run_until_live()
        pair.step(5)

        pair.wire.down.record = True
        first = pair.authority.version
        pair.step(10)

        kinds = [kind for kind, _ in frames_of(pair.wire.down.written)]
        assert Kind.SYNC_BEGIN not in kinds
        assert kinds.count(Kind.DELTA_SYNC) == pair.authority.version - first


@pytest.mark.parametrize("latency_ticks", [0, 2])
def test_a_world_that_changes_whole_in_each_tick_is_still_seen(latency_ticks: int) -> None:
    """Each tick changes more than one frame carries. A sync that is overtaken by the next tick begins another round, so
    the rounds must get faster than the ticks, or nobody would ever see anything."""
    world = populated(150_000, 1.0)
    with Pair(world, latency_ticks=latency_ticks, digest_every_version=False, compress=False) as pair:
        pair.run_until_live()
        pair.step(30)
        before, first = pair.replica.statistics(), pair.authority.version
        pair.step(10)
        after = pair.replica.statistics()

        assert after.versions_applied - before.versions_applied == pair.authority.version - first
        assert after.full_syncs_applied == 1
        assert after.sync_bytes_received == before.sync_bytes_received
        assert after.delta_bytes_received - before.delta_bytes_received > 10 * 150_000 * 4


def test_clients_with_equal_bases_share_one_encoding() -> None:
    """A tick costs one encoding, not one for each client."""
    with Pair(arena(), clients=20) as pair:
        pair.run_until_live()
        for replica in pair.replicas:
            replica.send("steer", dx=1.0, dy=0.0)
        pair.step(5)
        before = pair.authority.statistics()
        pair.step(50)
        after = pair.authority.statistics()

        assert after.deltas_encoded - before.deltas_encoded == 50
        assert after.deltas_shared - before.deltas_shared == 50 * 19


def test_a_wrong_schema_is_refused_with_both_fingerprints() -> None:
    """A client with another idea of the tables would read one field as another."""
    other = loads(arena_schema().canonical.replace('"velocity"', '"velocity"').replace("velocity", "speed"))
    with Pair(arena(), knows=other) as pair:
        pair.step(5)

        replica = pair.replica
        assert replica.state == "closed"
        assert isinstance(replica.error, SchemaMismatchError)
        assert replica.error.ours == other.fingerprint.hex()
        assert replica.farewell is not None and replica.farewell[0] == Reason.SCHEMA_MISMATCH
        assert pair.authority.links == ()


def test_a_client_without_a_schema_learns_it() -> None:
    """And may then send commands by name, checked against the signatures of the Welcome."""
    with Pair(arena(), knows=None) as pair:
        with pytest.raises(Exception, match="schema"):
            pair.replica.view()
        pair.run_until_live()

        assert pair.replica.schema is not None
        assert pair.replica.schema.fingerprint == arena_schema().fingerprint
        ticket = pair.replica.send("steer", dx=0.0, dy=1.0)
        pair.step(3)
        assert ticket.status == "accepted"
        assert len(pair.digests()) == 1


def test_a_replica_that_came_apart_says_so_and_closes() -> None:
    """The digest is there for bugs and bad memory. Here a bit of it flips, which looks the same from inside."""
    with Pair(arena()) as pair:
        pair.run_until_live()
        pair.replica.send("steer", dx=1.0, dy=0.0)
        pair.step(2)
        pair.wire.reads = False
        pair.step()
        for kind, payload in frames_of([pair.wire.down.read(pair.steps)]):
            message = decode_untrusted(kind, payload)
            if isinstance(message, DeltaSync):
                assert message.digest_low or message.digest_high
                payload = encode(replace(message, digest_low=message.digest_low ^ 1))[FRAME_HEADER_BYTES:]
            pair.replica.receive_frame(kind, payload, pair.now_ns)
        pair.wire.reads = True
        pair.step(3)

        assert pair.replica.state == "closed"
        assert isinstance(pair.replica.error, DivergedError)
        assert pair.replica.error.ours != pair.replica.error.theirs
        events = []
        while (event := pair.replica.next_event()) is not None:
            events.append(type(event))
        assert events.count(Diverged) == 1
        assert events[-1] is StateChanged
        assert pair.authority.links == (), "its link is closed"


def test_digests_ride_once_a_second_unless_asked_for() -> None:
    """They cost a scan of the world."""
    with Pair(arena(hz=10), digest_every_version=False) as pair:
        pair.run_until_live()
        pair.replica.send("steer", dx=1.0, dy=0.0)
        pair.step(50)
        assert 4 <= pair.replica.statistics().digests_verified <= 7
        assert pair.authority.statistics().digests_computed <= 7


def test_a_held_view_of_a_replica_never_changes_while_deltas_are_applied() -> None:
    """A game draws from it while the network thread goes on."""
    with Pair(arena()) as pair:
        pair.run_until_live()
        pair.replica.send("steer", dx=1.0, dy=0.0)
        pair.step(3)
        view = pair.replica.view()
        before = view["transform.x"].copy()
        column = view["transform.x"]

        pair.step(30)

        assert np.array_equal(column, before)
        with pair.replica.view() as newer:
            assert not np.array_equal(newer["transform.x"], before)
        view.close()


def test_a_rejected_client_is_told_the_reason_and_leaves_nothing_behind() -> None:
    with Pair(arena(), clients=0) as pair:
        banned = pair.connect(name="banned")
        pair.step(3)

        assert banned.state == "closed"
        assert isinstance(banned.error, Reject)
        assert "banned" in str(banned.error)
        with pair.authority.store.view() as view:
            assert len(view["sessions"]) == 0
            assert len(view["entities"]) == 0


def test_a_goodbye_ends_the_session_and_the_others_see_the_ship_go() -> None:
    with Pair(arena(), clients=2) as pair:
        pair.run_until_live()
        ship = pair.replicas[1].entity
        with pair.replicas[0].view() as view:
            assert ship in view

        pair.replicas[1].close(pair.now_ns)
        pair.step(3)

        assert pair.replicas[1].state == "closed"
        with pair.replicas[0].view() as view:
            assert ship not in view
        assert pair.authority.statistics().leaves == 1
        assert pair.authority.statistics().sessions == 1


def test_removed_and_reused_places_never_show_an_old_tenant() -> None:
    """Ids are recycled with a new generation, within one delta too."""
    world = arena(moving=False)
    with Pair(world, latency_ticks=2) as pair:
        pair.run_until_live()
        rng = np.random.default_rng(4)
        alive: list[Entity] = []

        def churn() -> None:
            with pair.authority.store.transaction() as tx:
                for _ in range(10):
                    if alive and rng.random() < 0.5:
                        tx.despawn(alive.pop(int(rng.integers(len(alive)))))
                    else:
                        alive.append(tx.spawn(transform={"x": float(rng.random())}, health={}))

        pair.step(60, churn)
        pair.run_until(lambda: pair.replica.version == pair.authority.version)
        assert len(pair.digests()) == 1
        with pair.replica.view() as view:
            assert all(entity in view for entity in alive)
            assert len(view["entities"]) == len(alive) + 1
