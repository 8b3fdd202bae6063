"""Interest over the wire: what each client is sent of the world, and that it is all of that and nothing else."""

import math
from random import Random
from typing import Any

import numpy as np
import pytest

from ecsnet import Client, Component, Entity, Schema, Table, Transaction, World, auto, f32, field, ref, u16, u64
from ecsnet.interest import always, near, owned, related, where
from ecsnet.limits import QUIET_NS_MAX
from ecsnet.replica import Entered, Left, Replica
from tests.helpers import Pair

HZ = 60
RADIUS, LEAVE = 10.0, 12.0


class Body(Component, spatial=["x", "y"]):
    x: f32 = field(default=0.0)
    y: f32 = field(default=0.0)


class Health(Component):
    hp: u16 = field(default=100)


class Item(Table):
    id: u64 = auto()
    holder: ref = field(to="entities.id", on_delete="set_null", optional=True)


class Clan(Table):
    id: u64 = auto()
    score: u16 = field(default=0)


class Secret(Component, visible_to=["admin"]):
    code: u64


SCHEMA = Schema("ground", "1.0.0", Body, Health, Item, Clan, Secret)
RULES = [owned(), near(Body, radius=RADIUS, leave_radius=LEAVE), related(Item.holder)]


def world_of(*rules: Any, **options: Any) -> tuple[World, list[Client]]:
    """A world whose clients have a body each, and can be moved."""
    world = World(SCHEMA, hz=HZ, interest=rules or RULES, on_error="raise", **options)
    clients: list[Client] = []

    @world.on_join
    def join(tx: Transaction, client: Client) -> Entity:
        clients.append(client)
        return tx.spawn(Body(), Health(), owner=client)

    @world.on_leave
    def leave(tx: Transaction, client: Client) -> None:
        tx.despawn(client.entity)

    @world.command
    def jump(tx: Transaction, client: Client, x: float, y: float) -> None:
        tx.update(client.entity, Body, x=x, y=y)

    @world.command
    def wave(tx: Transaction, client: Client) -> None:
        """Has no effect at all."""

    return world, clients


def place(pair: Pair, entity: int, x: float, y: float = 0.0) -> None:
    with pair.authority.store.transaction() as tx:
        tx.update(entity, Body, x=x, y=y)


def settle(pair: Pair) -> None:
    """What was committed is published, and everybody has what they are to have of it."""
    pair.step()
    pair.run_until_converged()


def spawn(pair: Pair, x: float, y: float = 0.0, **more: Any) -> int:
    with pair.authority.store.transaction() as tx:
        return tx.spawn(Body(x=x, y=y), Health(), **more)


def bodies(replica: Replica) -> dict[int, float]:
    """What a replica has: the x of each body."""
    with replica.view() as view:
        return dict(zip(view["body"].key.tolist(), view["body.x"].tolist(), strict=True))


def entities(replica: Replica) -> set[int]:
    with replica.view() as view:
        return set(view["entities"].key.tolist())


def agrees(pair: Pair) -> None:
    """Each replica holds, bit for bit, what the authority says that it may see."""
    for wire in pair.wires:
        if wire.link is not None and wire.replica.state == "live":
            with wire.replica.view() as view:
                assert view.digest() == pair.authority.digest_for(wire.link), wire.replica.name


def test_a_client_has_what_is_near_and_what_it_owns_and_nothing_else() -> None:
    world, clients = world_of()
    with Pair(world) as pair:
        close, far = spawn(pair, 5.0), spawn(pair, 500.0)
        settle(pair)

        mine = clients[0].entity
        assert entities(pair.replica) == {mine, close}
        with pair.replica.view() as view:
            assert set(view["health"].key.tolist()) == {mine, close}
        agrees(pair)

        place(pair, far, 8.0)
        settle(pair)
        assert bodies(pair.replica) == {mine: 0.0, close: 5.0, far: 8.0}

        place(pair, mine, 1000.0)
        settle(pair)
        assert bodies(pair.replica) == {mine: 1000.0}
        agrees(pair)


def test_who_walks_along_the_edge_does_not_come_and_go() -> None:
    world, _clients = world_of()
    with Pair(world) as pair:
        other = spawn(pair, 11.0)
        settle(pair)
        assert other not in entities(pair.replica), "within the second radius, but never within the first"

        for x, there in ((9.0, True), (11.5, True), (10.5, True), (12.5, False), (11.0, False), (9.9, True)):
            place(pair, other, x)
            settle(pair)
            assert (other in entities(pair.replica)) == there, x
            agrees(pair)


def test_what_refers_to_somebody_who_is_seen_is_seen() -> None:
    world, _clients = world_of()
    with Pair(world) as pair:
        other = spawn(pair, 5.0)
        with pair.authority.store.transaction() as tx:
            item = tx.insert(Item(holder=other))
            tx.insert(Item())
        settle(pair)
        with pair.replica.view() as view:
            assert view["item"].key.tolist() == [item]

        place(pair, other, 50.0)
        settle(pair)
        with pair.replica.view() as view:
            assert len(view["item"]) == 0
        agrees(pair)


def test_a_query_finds_for_everybody_whose_role_it_is_for() -> None:
    world, clients = world_of(owned(), where(Health, Health.hp < 20, every=2), always(Clan, roles=["admin"]))
    with Pair(world) as pair:
        weak = spawn(pair, 900.0)
        with pair.authority.store.transaction() as tx:
            tx.insert(Clan())
            tx.update(weak, Health, hp=5)
        settle(pair)
        assert entities(pair.replica) == {clients[0].entity, weak}
        with pair.replica.view() as view:
            assert len(view["clan"]) == 0

        with pair.authority.store.transaction() as tx:
            tx.update(weak, Health, hp=50)
        pair.step(4, each=lambda: place(pair, clients[0].entity, float(pair.steps)))
        settle(pair)
        assert entities(pair.replica) == {clients[0].entity}
        agrees(pair)


def test_what_the_game_says_of_a_sight_is_served_though_the_world_stands_still() -> None:
    """What a client sees is found out with a version, so one is made where nothing else would make it, and no more."""
    world, clients = world_of()
    with Pair(world) as pair:
        tower, flag = spawn(pair, 300.0), spawn(pair, 700.0)
        settle(pair)
        (client,) = clients

        client.focus(tower)
        pair.step()
        pair.step()
        assert entities(pair.replica) == {client.entity, tower}
        agrees(pair)
        client.reveal(flag)
        pair.step()
        pair.step()
        assert entities(pair.replica) == {client.entity, tower, flag}
        agrees(pair)

        version = pair.authority.version
        client.focus(tower)
        client.reveal(flag)
        for _ in range(4):
            pair.step()
        assert pair.authority.version == version, "that is what was said before"


def test_focus_and_reveal_show_what_the_rules_would_not() -> None:
    world, clients = world_of()
    with Pair(world) as pair:
        tower, beside, flag = spawn(pair, 300.0), spawn(pair, 305.0), spawn(pair, 700.0)
        settle(pair)
        (client,) = clients
        assert entities(pair.replica) == {client.entity}

        def tick() -> None:
            place(pair, client.entity, float(pair.steps % 7 + 1))
            settle(pair)
            agrees(pair)

        client.focus(tower, client.entity)
        client.reveal(flag)
        tick()
        assert entities(pair.replica) == {client.entity, tower, beside, flag}

        client.focus()
        tick()
        assert entities(pair.replica) == {client.entity, flag}

        client.conceal(flag)
        tick()
        assert entities(pair.replica) == {client.entity}


def test_two_clients_see_each_other_only_while_they_are_near() -> None:
    world, clients = world_of()
    with Pair(world, clients=2) as pair:
        settle(pair)
        one, two = (client.entity for client in clients)
        assert all(entities(replica) == {one, two} for replica in pair.replicas)

        pair.replicas[0].send("jump", x=100.0, y=0.0)
        pair.step(3)
        settle(pair)

        assert [entities(replica) for replica in pair.replicas] == [{one}, {two}]
        agrees(pair)


def test_leaving_sight_is_not_the_end_of_the_world() -> None:
    """A despawn is told as one, and out of sight is told as that; both are gone from the replica."""
    world, clients = world_of()
    with Pair(world) as pair:
        walks, dies = spawn(pair, 5.0), spawn(pair, 6.0)
        settle(pair)

        with pair.authority.store.transaction() as tx:
            tx.update(walks, Body, x=400.0)
            tx.despawn(dies)
        settle(pair)
        assert entities(pair.replica) == {clients[0].entity}

        place(pair, walks, 5.0)
        settle(pair)
        assert walks in entities(pair.replica)
        agrees(pair)


def test_a_table_is_hidden_from_those_whose_role_may_not_see_it() -> None:
    """Without any rule of interest: what `visible_to` hides is hidden from everybody else."""
    world = World(SCHEMA, hz=HZ, on_error="raise")
    with Pair(world) as pair:
        with pair.authority.store.transaction() as tx:
            entity = tx.spawn(Body(x=1.0), Secret(code=7))
        settle(pair)

        with pair.replica.view() as view:
            assert view["body"].key.tolist() == [entity]
            assert len(view["secret"]) == 0
        agrees(pair)


def test_a_role_without_a_rule_is_sent_nothing() -> None:
    """Nobody has said what it is sent: what a game forgets must not be shown to everybody."""
    world, _clients = world_of(always(Body, roles=["admin"]))
    with Pair(world) as pair:
        spawn(pair, 0.0)
        settle(pair)

        assert entities(pair.replica) == set()
        agrees(pair)


def test_a_client_of_whose_view_nothing_changes_is_left_alone() -> None:
    """But not for ever, and not while it waits for the effect of a command."""
    world, _clients = world_of()
    with Pair(world, digest_every_version=False) as pair:
        far = spawn(pair, 900.0)
        settle(pair)
        link = pair.link
        before = link.deltas_sent

        pair.step(HZ, each=lambda: place(pair, far, 900.0 + pair.steps))

        told = link.deltas_sent - before
        longest = math.ceil(QUIET_NS_MAX * HZ / 1e9)
        assert HZ // longest - 1 <= told <= HZ // longest + 2, "now and then, and for a digest"

        ticket = pair.replica.send("wave")
        pair.step(4, each=lambda: place(pair, far, pair.steps))
        assert ticket.status == "accepted"


@pytest.mark.parametrize("datagrams", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_crowd_that_wanders_spawns_and_dies_is_seen_by_each_as_the_authority_says(seed: int, datagrams: bool) -> None:
    """At every version, bit for bit: the digest of each delta is compared by the replica itself."""
    random = Random(seed)
    world, clients = world_of()
    with Pair(world, clients=3, datagrams=datagrams, latency_ticks=seed) as pair:
        crowd = [spawn(pair, random.uniform(-40, 40), random.uniform(-40, 40)) for _ in range(60)]
        items = []

        def stir() -> None:
            with pair.authority.store.transaction() as tx:
                for _ in range(20):
                    kind, one = random.random(), random.choice(crowd)
                    if kind < 0.8:
                        tx.update(one, Body, x=random.uniform(-40, 40), y=random.uniform(-40, 40))
                    elif kind < 0.87:
                        crowd.append(tx.spawn(Body(x=random.uniform(-40, 40)), Health()))
                    elif kind < 0.93:
                        tx.despawn(one)
                        crowd.remove(one)
                    else:
                        items.append(tx.insert(Item(holder=one)))

        pair.run_until_live()
        pair.step(80, each=stir)
        settle(pair)

        agrees(pair)
        for replica, client in zip(pair.replicas, clients, strict=True):
            assert replica.error is None
            with pair.authority.store.view() as view:
                keys, x, y = view["body"].key, view["body.x"], view["body.y"]
                at = int(np.flatnonzero(keys == client.entity)[0])
                distance = np.hypot(x - x[at], y - y[at])
                must, may = set(keys[distance <= RADIUS].tolist()), set(keys[distance <= LEAVE].tolist())
            assert must <= entities(replica) <= may | {client.entity}
            assert replica.statistics().digests_verified > 40


def test_a_client_that_was_away_is_sent_what_it_missed_of_its_view() -> None:
    world, clients = world_of()
    with Pair(world, reconnects=True) as pair:
        stays, goes, comes = spawn(pair, 5.0), spawn(pair, 6.0), spawn(pair, 600.0)
        settle(pair)
        pair.wire.lose(pair.now_ns)
        pair.step(3)
        place(pair, goes, 600.0)
        place(pair, comes, 7.0)
        pair.step(10)

        pair.reconnect()
        settle(pair)

        assert entities(pair.replica) == {clients[0].entity, stays, comes}
        assert pair.replica.statistics().resumed_in_place == 1
        assert pair.link.full_syncs == 0
        agrees(pair)


def test_a_session_of_before_a_restart_begins_its_view_anew() -> None:
    """What it has seen is not in the store: it is sent all that it sees, and its old rows go."""
    from ecsnet.store import Store

    world, clients = world_of()
    with Store(SCHEMA) as store, Pair(world, reconnects=True, store=store) as pair:
        near_by = spawn(pair, 5.0)
        settle(pair)
        mine = clients[0].entity
        pair.restart(seed=8)
        place(pair, near_by, 600.0)

        pair.reconnect()
        settle(pair)

        assert entities(pair.replica) == {mine}
        assert pair.replica.entity == mine
        agrees(pair)


def test_a_session_of_before_a_restart_begins_anew_though_it_holds_the_newest_version() -> None:
    """Who is at the edge stays for those only who had it near: that is not in the store."""
    from ecsnet.store import Store

    world, clients = world_of()
    with Store(SCHEMA) as store, Pair(world, reconnects=True, store=store) as pair:
        edge = spawn(pair, 5.0)
        settle(pair)
        place(pair, edge, (RADIUS + LEAVE) / 2)
        settle(pair)
        mine = clients[0].entity
        assert entities(pair.replica) == {mine, edge}
        held = pair.authority.version
        pair.restart(seed=8)
        assert pair.authority.version == held

        pair.reconnect()
        for _ in range(4):
            pair.authority.digest_for(pair.link)  # looks for what it sees before the next version is made
            pair.step()
        place(pair, edge, (RADIUS + LEAVE) / 2 + 0.1)
        settle(pair)

        assert entities(pair.replica) == {mine}
        agrees(pair)


def test_a_big_view_is_sent_in_chunks_while_it_changes() -> None:
    world, _clients = world_of(near(Body, radius=1e6), owned())
    with Pair(world) as pair:
        with pair.authority.store.transaction() as tx:
            keys = tx.spawn_many(20_000, body={"x": np.arange(20_000.0), "y": 0.0}, health=None)
        pair.run_until(lambda: pair.link.client is not None)

        def stir() -> None:
            with pair.authority.store.transaction() as tx:
                tx.update(int(keys[pair.steps]), Body, x=-5.0)
                tx.update(int(keys[-pair.steps]), Body, x=3e6)

        pair.step(30, each=stir)
        settle(pair)

        assert pair.replica.statistics().chunks_staged > 1
        assert len(entities(pair.replica)) == 20_001 - 30
        agrees(pair)


def test_audiences_are_closed_with_their_sessions() -> None:
    world, _clients = world_of()
    with Pair(world, clients=3, linger_s=0.0) as pair:
        settle(pair)
        assert pair.authority._audiences.own == 3

        for wire in pair.wires[:2]:
            wire.lose(pair.now_ns)
        pair.step(3)

        assert pair.authority._audiences.own == 1


def sights(replica: Replica) -> list[tuple[str, set[int], int]]:
    """What a replica was told of comings and goings since the last call."""
    found = []
    while (event := replica.next_event()) is not None:
        if isinstance(event, Entered | Left):
            found.append((type(event).__name__, set(event.entities.tolist()), event.version))
    return found


def test_a_client_is_told_who_came_and_went_and_not_who_was_born_or_died() -> None:
    world, clients = world_of()
    with Pair(world) as pair:
        stays, walks = spawn(pair, 1.0), spawn(pair, 100.0)
        settle(pair)
        assert sights(pair.replica) == [], "what a client finds when it joins is no news"

        place(pair, walks, 5.0)
        settle(pair)
        assert sights(pair.replica) == [("Entered", {walks}, pair.replica.version)]

        born = spawn(pair, 6.0)
        settle(pair)
        assert born in entities(pair.replica) and sights(pair.replica) == []

        with pair.authority.store.transaction() as tx:
            tx.despawn(born)
        place(pair, walks, 100.0)
        settle(pair)
        assert [(kind, who) for kind, who, _ in sights(pair.replica)] == [("Left", {walks})]
        assert entities(pair.replica) == {stays, clients[0].entity}


def test_comings_that_nobody_asks_for_are_dropped_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that never polls must not grow."""
    monkeypatch.setattr("ecsnet.replica.core.SIGHT_EVENTS_UNREAD_MAX", 8)
    world, _clients = world_of()
    with Pair(world) as pair:
        other = spawn(pair, 100.0)
        settle(pair)
        for turn in range(30):
            place(pair, other, 100.0 if turn % 2 else 5.0)
            settle(pair)

        told = sights(pair.replica)

        assert 4 <= len(told) <= 8
        assert told[-1][:2] == ("Left", {other})
        assert sights(pair.replica) == []


class Spot(Component, spatial=["x", "y"]):
    x: f32 = field(default=0.0, quantize=0.01)
    y: f32 = field(default=0.0, quantize=0.01)
    hint: u16 = field(default=7, visible_to=["admin"])


def test_rounded_values_and_hidden_fields_keep_digests_equal() -> None:
    """What travels is rounded and relative to what is held; what is hidden is zero on both sides."""
    random = Random(5)
    world = World(
        Schema("coarse", "1.0.0", Spot), hz=HZ, on_error="raise", interest=[owned(), near(Spot, radius=RADIUS)]
    )

    @world.on_join
    def join(tx: Transaction, client: Client) -> Entity:
        return tx.spawn(Spot(), owner=client)

    @world.system
    def drift(tx: Transaction) -> None:
        (spot,) = tx.query(Spot)
        spot.x += np.float32(0.0137)

    with Pair(world, clients=2) as pair:
        with pair.authority.store.transaction() as tx:
            for _ in range(100):
                tx.spawn(Spot(x=random.uniform(-15, 15), y=random.uniform(-15, 15)))
        pair.run_until_live()
        pair.step(60)

        agrees(pair)
        for replica in pair.replicas:
            with replica.view() as view:
                assert len(view["spot"]) > 10
                assert not view["spot.hint"].any()
            assert replica.error is None and replica.statistics().digests_verified > 50
