"""Event tables that are Python classes, and everything that a row may hold: from a transaction to a client's poll."""

from enum import IntEnum

import numpy as np
import pytest

import ecsnet
from ecsnet import (
    Component,
    Entity,
    Event,
    Store,
    Struct,
    Table,
    Transaction,
    auto,
    enum,
    f32,
    field,
    ref,
    string,
    u16,
    u64,
)
from ecsnet.errors import ArgumentError, ConstraintError
from ecsnet.replica import EventRow
from ecsnet.world import Client
from tests.helpers import Pair


class Kind(IntEnum):
    SWORD, POTION = 1, 2


class Vec(Struct):
    x: f32 = field(default=0.0)
    y: f32 = field(default=0.0)


class Health(Component):
    hp: u16 = field(default=100, maximum=100)


class Item(Table):
    id: u64 = auto()
    kind: enum[Kind]


class Hit(Event):
    target: ref = field(to="entities.id")
    damage: u16
    place: Vec = field(default={})


class Said(Event):
    who: ref = field(to="entities.id", default=None)
    words: string = field(length=200, default="")


class Used(Event):
    item: ref = field(to="item.id")
    by: ref = field(to="entities.id", default=None)
    kind: enum[Kind] = field(default=Kind.POTION)


SCHEMA = ecsnet.Schema("arena", "1.0.0", Health, Item, Hit, Said, Used)


def world() -> ecsnet.World:
    made = ecsnet.World(SCHEMA, hz=30, on_error="raise")

    @made.on_join
    def enter(tx: Transaction, client: Client) -> Entity:
        return tx.spawn(Health(), owner=client)

    @made.command
    def attack(tx: Transaction, client: Client, target: Entity) -> None:
        tx.insert(Hit(target=target, damage=10, place=Vec(x=1.0, y=2.0)))
        tx.insert(Said(who=client.entity, words="héllo \N{CROSSED SWORDS}"))
        tx.insert(Said(words=""))
        tx.insert(Said(words="x" * 200))

    return made


def poll(pair: Pair) -> list[object]:
    events: list[object] = []
    while (event := pair.replica.next_event()) is not None:
        events.append(event)
    return events


def joined() -> Pair:
    pair = Pair(world(), latency_ticks=1)
    pair.run_until_live()
    poll(pair)
    return pair


def test_a_client_with_the_classes_is_told_instances_of_them() -> None:
    with joined() as pair:
        me = pair.replica.entity
        pair.replica.send("attack", target=me)
        pair.step(6)
        hit, *said = [event for event in poll(pair) if isinstance(event, Event)]
        assert isinstance(hit, Hit)
        assert (hit.target, hit.damage, float(hit.place.x), float(hit.place.y)) == (me, 10, 1.0, 2.0)
        assert hit == Hit(target=me, damage=10, place=Vec(x=1.0, y=2.0))
        assert hit.ecsnet_version is not None and hit.ecsnet_version <= pair.replica.version
        assert [(one.who, one.words) for one in said if isinstance(one, Said)] == [
            (me, "héllo \N{CROSSED SWORDS}"), (0, ""), (0, "x" * 200),
        ]  # fmt: skip
        assert Hit(target=me, damage=1).ecsnet_version is None, "it was told to nobody"


def test_a_client_without_them_is_told_rows_with_the_same_cells() -> None:
    with Pair(world(), knows=None) as pair:
        pair.run_until_live()
        poll(pair)
        me = pair.replica.entity
        pair.replica.send("attack", target=me)
        pair.step(6)
        hit, said, *_ = [event for event in poll(pair) if isinstance(event, EventRow)]
        assert (hit.table, hit.target, hit.damage, hit.place.x, hit["place.y"]) == ("hit", me, 10, 1.0, 2.0)
        assert (said.table, said.words) == ("said", "héllo \N{CROSSED SWORDS}")


def test_an_enum_is_told_as_its_member_and_a_row_that_went_as_its_key() -> None:
    world_ = world()

    @world_.system
    def mend(tx: Transaction) -> None:
        if tx.tick == 1:
            tx.insert(Item(kind=Kind.POTION))
        if tx.tick == 5:
            found = tx.query(Item)
            (items,) = found
            tx.insert(Used(item=int(items.id[0]), kind=Kind.SWORD))
            tx.delete(int(found.key[0]), Item)

    with Pair(world_) as pair:
        pair.step(8)
        (used,) = [event for event in poll(pair) if isinstance(event, Used)]
        assert used.kind is Kind.SWORD and used.item == 1
        with pair.replica.view() as view:
            assert len(view[Item]) == 0


def test_verbs_of_a_store_take_the_class() -> None:
    with Store(SCHEMA) as store:
        with store.transaction() as tx:
            ship = tx.spawn(Health())
            key = tx.insert(Hit(target=ship, damage=3))
            tx.insert_many(Hit(target=ship, damage=np.arange(4, 6)))
            (hits,) = tx.query(Hit).where(Hit.damage > 3)
            assert hits.damage.tolist() == [4, 5]
            for refused in (
                lambda: tx.update(key, Hit, damage=1),
                lambda: tx.delete(key, Hit),
                lambda: tx.__setitem__((key, Hit.damage), 1),
                lambda: tx.writer(Hit)(key, ship, 1, 0.0, 0.0),
                lambda: tx.writer(Hit.damage)(key, 1),
                lambda: tx.deleter(Hit)(key),
            ):
                with pytest.raises(ArgumentError, match="hit is an event table"):
                    refused()
        with store.view() as view:
            assert view[Hit.damage].tolist() == [3, 4, 5]
        assert store[Hit].insert(target=ship, damage=9)
        with store.view() as view:
            assert view[Hit.damage].tolist() == [9]
        with pytest.raises(ConstraintError), store.transaction() as tx:
            tx.despawn(ship)
            tx.insert(Hit(target=ship, damage=1))


def test_changes_tell_of_insertions_and_of_no_removal() -> None:
    with Store(SCHEMA, changes_bytes=1 << 16) as store:
        since = store.version
        for damage in (1, 2):
            with store.transaction() as tx:
                tx.insert(Hit(target=tx.spawn(Health()), damage=damage))
        changes = list(store.changes(Hit, since=since))
        assert [(change.kind, change.fields["damage"]) for change in changes] == [("insert", 1), ("insert", 2)]
        assert changes[0].version < changes[1].version


def test_a_replica_has_no_event_rows_in_its_views() -> None:
    """They would be those of one version of several, and gone before a game looks: `poll` has all of them."""
    with joined() as pair:
        pair.replica.send("attack", target=pair.replica.entity)
        for _ in range(6):
            pair.step()
            with pair.replica.view() as view:
                assert len(view[Hit]) == 0
