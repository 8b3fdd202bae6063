"""The model of the arena agrees with the arena, bit for bit, and notices when it does not."""

from typing import Any

import numpy as np
import pytest

from ecsnet.demo import arena as demo
from ecsnet.demo.model import ArenaModel
from ecsnet.sim.cluster import Cluster
from ecsnet.sim.model import GameModel, differences_of
from ecsnet.sim.player import Player
from ecsnet.store import Store
from ecsnet.world import World


@pytest.fixture
def world() -> World:
    """The demo's arena, in a world of its own: a world that has run is sealed, and others run the demo's."""
    world = World(demo.world.schema, hz=30)
    world.on_join(demo.enter)
    world.on_leave(demo.leave)
    world.command(latest=True)(demo.steer)
    world.command(demo.attack)
    world.system(demo.move)
    return world


def fill(store: Store) -> None:
    random = np.random.default_rng(3)
    with store.transaction() as tx:
        tx.spawn_many(
            70,
            transform={"x": random.uniform(-9, 9, 70), "y": random.uniform(-9, 9, 70)},
            velocity={"x": random.uniform(-5, 5, 70), "y": random.uniform(-5, 5, 70)},
            health=None,
        )


def fight(player: Player) -> None:
    """Steer anywhere, sometimes faster than one may, and hit whoever is there, or was."""
    random = player.random
    player.send("steer", dx=random.uniform(-1.2, 1.2), dy=random.uniform(-0.5, 0.5))
    if random.random() < 0.3:
        with player.view as view:
            player.send("attack", target=int(random.choice(view["health"].key.tolist())))


def differences(model: GameModel, cluster: Cluster) -> list[str]:
    store = cluster.node.store
    assert store is not None
    with store.view() as view:
        return list(model.differences(view))


@pytest.mark.parametrize("transport", ["stream", "datagram"])
def test_the_arena_and_its_model_agree_bit_for_bit(world: World, transport: Any) -> None:
    """f32 sums of many ticks, with players who come and go: one rounding that differs would show."""
    model = ArenaModel(world.hz)
    with Cluster(world, clients=3, profile="bad-wifi", transport=transport, seed=7, setup=fill, model=model) as cluster:
        cluster.each_tick(fight)
        cluster.run(4)
        cluster.leave(cluster.players[0])
        cluster.join("late")
        cluster.run(4)

        assert differences(model, cluster) == []
        cluster.assert_converged()


def test_the_model_begins_anew_with_a_node_that_begins_anew(world: World) -> None:
    with Cluster(world, clients=2, profile="lan", seed=7, setup=fill, model=ArenaModel(world.hz)) as cluster:
        cluster.each_tick(fight)
        cluster.run(2)
        cluster.crash_node(0.3)
        cluster.run(3)

        cluster.assert_converged()


def next_f32(value: float) -> float:
    """The next greater number that an f32 holds."""
    return float(np.nextafter(np.float32(value), np.float32(99)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda tx, key: tx.update(key, "health", hp=17), "health.hp"),
        (lambda tx, key: tx.update(key, "velocity", y=0.125), "velocity.y"),
        (lambda tx, key: tx.update(key, "transform", x=next_f32(tx[key, "transform.x"])), "transform.x"),
        (lambda tx, key: tx.despawn(key), "transform has 69 rows, the model 70"),
        (lambda tx, key: tx.spawn(transform={}, velocity={}, health={}), "transform has 71 rows"),
        (lambda tx, key: tx.delete(key, "health"), "health has 69 rows"),
    ],
)
def test_the_smallest_difference_is_told(world: World, change: Any, says: str) -> None:
    """What nobody told the model of: it must not be able to agree with that."""
    model = ArenaModel(world.hz)
    with Store(world.schema) as store:
        fill(store)
        with store.view() as view:
            model.started(view)
            assert list(model.differences(view)) == []

        with store.transaction() as tx:
            change(tx, int(tx.query("health").key[3]))

        with store.view() as view:
            assert says in " ".join(model.differences(view))


def test_a_body_in_part_is_found_in_any_version(world: World) -> None:
    model = ArenaModel(world.hz)
    with Store(world.schema) as store:
        fill(store)
        with store.view() as view:
            assert model.check(view) is None

        with store.transaction() as tx:
            tx.delete(int(tx.query("health").key[3]), "health")

        with store.view() as view:
            assert "70 entities have a transform and 69 a health" in str(model.check(view))


def test_a_violation_of_the_model_fails_a_run(world: World) -> None:
    """The checker itself: a model that has another game must disagree."""
    with Cluster(world, clients=2, profile="lan", seed=7, setup=fill, model=ArenaModel(60)) as cluster:
        cluster.run(1)

        assert {one.checker for one in cluster.violations} == {"model"}


def test_rows_are_compared_field_by_field(world: World) -> None:
    with Store(world.schema) as store:
        with store.transaction() as tx:
            ships = [tx.spawn(health={"hp": hp}, transform={}) for hp in (10, 20)]
        with store.view() as view:
            right = {ships[0]: {"hp": 10}, ships[1]: {"hp": 20}}
            assert differences_of({"health": right}, view) == []
            assert differences_of({"health": {}}, view) == [
                f"health has row {int(ship):#x}, the model does not" for ship in ships
            ]
            lacking = differences_of({"health": {**right, 99: {"hp": 1}}}, view)
            assert lacking == ["health lacks row 0x63, which the model has"]
            assert "health.hp of row" in differences_of({"health": {**right, ships[1]: {"hp": 21}}}, view)[0]
            zeros = {ship: {"x": np.float32(-0.0), "y": np.float32(0.0)} for ship in ships}
            assert len(differences_of({"transform": zeros}, view)) == 2, "-0.0 is not 0.0: bits are compared"


def test_a_long_list_of_differences_is_cut(world: World) -> None:
    with Store(world.schema) as store:
        fill(store)
        with store.view() as view:
            found = differences_of({"health": {}}, view)

    assert len(found) == 9
    assert found[-1] == "and 62 more differences"


def test_a_model_without_rows_says_so(world: World) -> None:
    with Store(world.schema) as store, store.view() as view, pytest.raises(NotImplementedError, match="has no rows"):
        GameModel().differences(view)
