"""Clients that mean harm: what they do is repeatable, and no trick of theirs hurts anybody but themselves."""

from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Any

import pytest

from ecsnet.authority import Authority
from ecsnet.sim import hostile
from ecsnet.sim.cluster import Cluster
from ecsnet.sim.hostile import TRICKS_INSIDE, TRICKS_ON_DATAGRAMS, TRICKS_OUTSIDE, HostilePlayer, mutated
from ecsnet.sim.player import Player
from ecsnet.wire.framing import FrameReader
from ecsnet.world import World
from tests.arena import arena

PLACES = [("stream", {}), ("datagram", TRICKS_ON_DATAGRAMS)]
ALL = [
    (transport, inside, trick)
    for transport, more in PLACES
    for inside, tricks in ((False, TRICKS_OUTSIDE), (True, TRICKS_INSIDE))
    for trick in {**tricks, **more}
]


@pytest.fixture
def world() -> Iterator[World]:
    yield arena()


def speaker(world: World, transport: Any, inside: bool, trick: str) -> HostilePlayer:
    """The one with this trick: the first of all seeds that draws it."""
    for seed in range(10_000):
        player = HostilePlayer(Random(f"{seed}"), transport, world)
        if player.trick == trick and player.needs_session == inside:
            return player
    raise AssertionError(f"no seed has {trick}")


def wander(player: Player) -> None:
    player.send("steer", dx=player.random.uniform(-0.7, 0.7), dy=0.0)


@pytest.mark.parametrize(("transport", "inside", "trick"), ALL)
def test_no_trick_hurts_anybody_else(
    world: World, transport: Any, inside: bool, trick: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It plays the same trick again and again, each time it is thrown out. Players see nothing of it."""
    with (
        monkeypatch.context() as patch,
        Cluster(world, clients=2, profile="lan", transport=transport, seed=4, on_error="log") as cluster,
    ):
        cluster.each_tick(wander)
        chosen = partial(speaker, world, transport, inside, trick)
        patch.setattr(hostile, "HostilePlayer", lambda *_: chosen())
        side = cluster.join_hostile()
        cluster.run(2.5)

        assert len(cluster.live_players) == 2
        assert all(player.reconnects == 0 for player in cluster.players)
        if trick != "says nothing":
            assert side.bytes_sent > 0
        cluster.assert_converged()


def test_a_speaker_is_its_seed(world: World) -> None:
    def said(seed: int) -> list[bytes]:
        player = HostilePlayer(Random(f"{seed}"), "stream", world)
        return [data for tick in range(20) for data in player.bytes_to_send(tick * 16_000_000, [])]

    assert said(3) == said(3)
    assert len({tuple(said(seed)) for seed in range(60)}) > 5


def test_a_speaker_survives_whatever_it_is_answered(world: World) -> None:
    """It meets a node that is as hostile as itself."""
    random = Random("answers")
    for seed in range(200):
        for transport in ("stream", "datagram"):
            player = HostilePlayer(Random(f"{seed}"), transport, world)  # type: ignore[arg-type]
            for tick in range(5):
                received = [random.randbytes(random.randrange(100)) for _ in range(random.randrange(3))]
                player.bytes_to_send(tick * 16_000_000, received)


def test_those_inside_are_let_in_before_they_turn(world: World) -> None:
    """A trick inside a session would prove nothing if the session never came about."""
    authority = Authority(world, seed=1)
    player = speaker(world, "stream", True, "speaks as the node")
    link = authority.open_link(0, peer="hostile")
    reader = FrameReader(1 << 16)
    received: list[bytes] = []
    for tick in range(100):
        now_ns = tick * 33_000_000
        for data in player.bytes_to_send(now_ns, received):
            reader.feed(data)
            for frame in reader:
                authority.receive_frame(link, frame.kind, frame.payload, now_ns)
        authority.tick(now_ns)
        received = []
        while (transmit := authority.next_transmit(link, now_ns)) is not None:
            received.append(b"".join(transmit.parts))
            authority.record_sent(link, transmit, now_ns)
        if link.cut:
            break

    statistics = authority.statistics()
    authority.close()
    assert statistics.joins == 1
    assert statistics.links_failed == 1, "and it was thrown out for what it said then"
    assert player.version() > 0


def test_mutations_change_bytes_near_the_head_most() -> None:
    random = Random("mutations")
    data = bytes(range(256)) * 4
    changed = [mutated(data, random) for _ in range(300)]

    assert sum(one != data for one in changed) > 270
    early = sum(one[:64] != data[:64] for one in changed)
    assert early > 100
    assert mutated(b"", random) == b""
