"""Players who write without commands, over bad lines, beside a model of what they may and a client that means harm."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from ecsnet import Component, Schema, Table, Writer, auto, f32, field, u8, u64
from ecsnet.ids import Entity
from ecsnet.sim.cluster import Cluster
from ecsnet.sim.model import GameModel
from ecsnet.sim.player import Player
from ecsnet.store import Transaction
from ecsnet.wire.messages import Reason
from ecsnet.wire.writes import DirectWrite
from ecsnet.world import Client, World


class Stick(Component, writers=[Writer("player", ["update"], fields=["x", "y"])]):
    x: f32 = field(default=0.0, minimum=-1.0, maximum=1.0)
    y: f32 = field(default=0.0)
    score: u64 = field(default=0)


class Mark(Table, owner="author", writers=[Writer(operations=["insert", "delete"])]):
    id: u64 = auto()
    author: u64
    kind: u8 = field(default=0)


def written_world() -> World:
    world = World(Schema("written", "1.0.0", Stick, Mark), hz=30)

    @world.on_join
    def arrive(tx: Transaction, client: Client) -> Entity:
        return tx.spawn(Stick(), owner=client)

    @world.on_leave
    def go(tx: Transaction, client: Client) -> None:
        if client.entity:
            tx.despawn(client.entity)

    return world


class Sticks(GameModel):
    """A stick is what its own player wrote last, and nobody's score ever changes."""

    def __init__(self) -> None:
        self.sticks: dict[int, dict[str, Any]] = {}

    def joined(self, client: Client) -> None:
        self.sticks[client.entity] = {"x": np.float32(0), "y": np.float32(0), "score": 0}

    def left(self, client: Client) -> None:
        self.sticks.pop(client.entity, None)

    def written(self, client: Client, write: DirectWrite) -> None:
        if write.table.name == "mark":
            return
        assert write.operation == "update" and write.keys is not None
        assert write.keys.tolist() == [client.entity], "nobody else's was ever taken"
        for name, cells in write.columns.items():
            self.sticks[client.entity][name] = cells[0]

    def rows(self) -> Mapping[str, Mapping[int, Mapping[str, Any]]]:
        return {"stick": self.sticks}


def play(player: Player) -> None:
    random = player.random
    player.write(player.entity, Stick, x=random.uniform(-1.1, 1.1))
    if random.random() < 0.5:
        player.write(player.entity, Stick, y=random.uniform(-9.0, 9.0), x=0.5)
    if random.random() < 0.3:
        with player.view as view:
            player.write(int(random.choice(view["stick"].key.tolist())), Stick, y=-100.0)
    if random.random() < 0.1:
        player.insert(Mark(author=player.replica.client_id, kind=random.randrange(200)))
        with player.view as view:
            keys = view["mark"].key.tolist()
        if keys:
            player.delete(random.choice(keys), Mark)


@pytest.mark.parametrize("transport", ["stream", "datagram"])
@pytest.mark.parametrize("seed", [3, 4])
def test_players_who_write_agree_with_the_model_over_a_bad_line(transport: Any, seed: int) -> None:
    """Lost, repeated and late, cut off and resumed: each write has its effect once, on what is its player's alone."""
    with Cluster(
        written_world(),
        clients=3,
        profile="bad-wifi",
        transport=transport,
        seed=seed,
        model=Sticks(),
        hostile=1,
        on_error="log",
    ) as cluster:
        cluster.each_tick(play)
        cluster.run(6.0)
        cluster.players[0].lose_connection(cluster.now_ns)
        cluster.run(6.0)
        codes = {
            event.ticket.code
            for player in cluster.players
            for event in player.poll()
            if hasattr(event, "ticket") and event.ticket.status == "rejected"
        }
        assert Reason.NOT_ALLOWED in codes
        assert Reason.BAD_ARGUMENTS in codes, "a stick beyond its bounds"
        assert cluster.node.store is not None
        with cluster.node.store.view() as view:
            assert not view["stick.score"].any()
