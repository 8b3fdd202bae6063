"""Strings on their way to replicas: by stream and datagram, late and in chunks, whatever their lengths."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecsnet.schema import loads
from ecsnet.store import Transaction
from ecsnet.world import World
from tests.helpers import Pair

TEXT = """
[database]
name = "chat"
version = "1.0.0"

[tables.line]
primary_key = "id"
fields = [{ name = "id", type = "u64", auto_increment = true },
          { name = "author", type = "string[24]" },
          { name = "text", type = "string[400]", default = "" }]

[tables.name]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "name", type = "string[32]", constraint = "unique" },
          { name = "title", type = "string[200]", default = "of nowhere" }]
"""

WORDS = ("", "a", "höher", "\N{SNOWMAN}", "x" * 150, "\0", "the same text for many")


def chatty(seed: int, *, ticks: int, rows: int = 40) -> World:
    """A world in which lines and names come, change and go for some ticks, and then no more."""
    world = World(loads(TEXT), hz=30, on_error="raise", seed=seed)
    chance = random.Random(seed)

    def text(longest: int) -> str:
        return (chance.choice(WORDS) * chance.randrange(4))[: longest // 4]

    @world.system
    def chat(tx: Transaction) -> None:
        if tx.tick > ticks:
            return
        for _ in range(chance.randrange(rows)):
            tx.insert("line", {"author": text(24), "text": text(400)})
            tx.spawn(name={"name": f"{tx.tick}.{chance.random()}", "title": text(200)})
        lines, names = tx.query("line").key.tolist(), tx.query("name").key.tolist()
        for key in chance.sample(lines, len(lines) // 3):
            tx.update(key, "line", text=text(400))
        for key in chance.sample(names, len(names) // 5):
            tx.update(key, "name", title=text(200), name=f"{tx.tick}.{chance.random()}")
        for key in chance.sample(lines, len(lines) // 6):
            tx.delete(key, "line")
        for key in chance.sample(names, len(names) // 8):
            tx.despawn(key)

    return world


def demand_equal(pair: Pair) -> None:
    assert len(pair.digests()) == 1
    with pair.authority.store.view() as view:
        expected = {table: sorted(zip(*view[table].to_dict().values(), strict=True)) for table in ("line", "name")}
    for replica in pair.replicas:
        with replica.view() as view:
            for table, rows in expected.items():
                assert sorted(zip(*view[table].to_dict().values(), strict=True)) == rows


@pytest.mark.parametrize("datagrams", [False, True])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_replica_has_the_texts_of_its_authority(seed: int, datagrams: bool) -> None:
    chance = random.Random(seed)

    def fate(number: int, data: bytes) -> tuple[int, ...]:
        return () if chance.random() < 0.2 else (0,) if chance.random() < 0.8 else (0, 2)

    world = chatty(seed, ticks=40)
    with Pair(world, clients=2, latency_ticks=1, datagrams=datagrams, fate_down=fate, fate_up=fate) as pair:
        pair.run_until_live()
        pair.step(20)
        pair.connect(name="late")
        pair.step(40)
        pair.run_until_converged()
        demand_equal(pair)


def test_a_world_of_long_texts_is_learnt_in_chunks_that_keep_their_size() -> None:
    world = World(loads(TEXT), hz=30, on_error="raise")

    @world.system
    def fill(tx: Transaction) -> None:
        if tx.tick == 1:
            tx.insert_many("line", {"author": "one", "text": [f"{n}" * (n % 80) for n in range(4000)]})

    with Pair(world, clients=0) as pair:
        pair.step(3)
        pair.connect(name="late")
        pair.run_until_converged()
        assert pair.replica.statistics().chunks_staged > 1
        demand_equal(pair)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 7), st.text(max_size=99)), max_size=12), min_size=1, max_size=12))
def test_any_text_arrives_as_it_was_written(ticks: list[list[tuple[int, str]]]) -> None:
    world = World(loads(TEXT), hz=30, on_error="raise")
    left = list(ticks)

    @world.system
    def write(tx: Transaction) -> None:
        for number, text in left.pop(0) if left else ():
            lines = tx.query("line").key.tolist()
            if number < len(lines):
                tx.update(lines[number], "line", text=text)
            else:
                tx.insert("line", {"author": text[:6], "text": text})

    with Pair(world) as pair:
        pair.run_until_live()
        pair.step(len(ticks))
        pair.run_until_converged()
        demand_equal(pair)
