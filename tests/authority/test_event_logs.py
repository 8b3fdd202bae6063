"""Who is told of which event rows: `visible_to` of event tables and their fields, by role."""

from enum import IntEnum
from typing import Any

import pytest

from ecsnet import Client, Component, Entity, Event, Schema, Transaction, World, enum, f32, field, string, u16
from ecsnet.auth import Account
from ecsnet.interest import owned
from ecsnet.replica import Replica
from tests.helpers import Pair


class Kind(IntEnum):
    DIVE, SHIRT = 1, 2


class Body(Component):
    x: f32 = field(default=0.0)


class Bang(Event):
    x: f32 = field(default=0.0)


class Foul(Event, visible_to=["referee"]):
    number: u16


class Card(Event):
    number: u16
    kind: enum[Kind] = field(visible_to=["referee"])
    points: u16 = field(visible_to=["referee"], minimum=1)
    why: string = field(length=40, default="", visible_to=["referee"])


SCHEMA = Schema("match", "1.0.0", Body, Bang, Foul, Card)
ROLES = ["referee", "player", "player"]


def world_of(roles: list[str], **options: Any) -> World:
    """A world whose clients get these roles, one after another."""
    world = World(SCHEMA, hz=60, on_error="raise", **options)
    given = iter(range(len(roles)))

    @world.authenticate
    def who(_login: object) -> Account:
        number = next(given)
        return Account(client_id=number + 1, name=f"client-{number}", role=roles[number])

    @world.on_join
    def join(tx: Transaction, client: Client) -> Entity:
        return tx.spawn(Body(), owner=client)

    return world


def told(replica: Replica) -> list[tuple[Any, ...]]:
    rows = []
    while (event := replica.next_event()) is not None:
        if isinstance(event, Event):
            rows.append((event.ecsnet_table, *dict(event.ecsnet_values).values()))
    return rows


def happen(pair: Pair, number: int) -> None:
    with pair.authority.store.transaction() as tx:
        tx.insert(Bang(x=float(number)))
        tx.insert(Foul(number=number))
        tx.insert(Card(number=number, kind=Kind.SHIRT, points=3, why="off"))
        tx.insert(Bang(x=number + 0.5))


def live(pair: Pair) -> None:
    pair.run_until_live()
    pair.step(40)
    for replica in pair.replicas:
        told(replica)


@pytest.mark.parametrize("datagrams", [False, True])
def test_each_role_is_told_of_what_it_may_see_in_the_order_in_which_it_happened(datagrams: bool) -> None:
    with Pair(world_of(ROLES), clients=3, datagrams=datagrams) as pair:
        live(pair)
        for number in (1, 2):
            happen(pair, number)
            pair.step(5)

        referee, *players = (told(replica) for replica in pair.replicas)
        assert referee == [
            row
            for n in (1, 2)
            for row in (("bang", n), ("foul", n), ("card", Kind.SHIRT, n, 3, "off"), ("bang", n + 0.5))
        ]
        for player in players:
            assert player == [row for n in (1, 2) for row in (("bang", n), ("card", 0, n, 0, ""), ("bang", n + 0.5))], (
                "zeros stand for what is hidden, whatever the rules of the field"
            )


def test_what_is_hidden_is_in_no_byte_that_is_sent() -> None:
    with Pair(world_of(["player"]), compress=False) as pair:
        live(pair)
        pair.wire.down.record = True
        with pair.authority.store.transaction() as tx:
            tx.insert(Foul(number=0xBEEF))
            tx.insert(Card(number=7, kind=Kind.DIVE, points=0xCAFE, why="nobody knows"))
        pair.step(5)

        sent = b"".join(pair.wire.down.written)
        assert told(pair.replica) == [("card", 0, 7, 0, "")]
        assert b"nobody" not in sent and b"\xef\xbe" not in sent and b"\xfe\xca" not in sent


def test_who_may_see_none_of_what_happened_is_told_nothing_and_keeps_up() -> None:
    with Pair(world_of(ROLES), clients=3) as pair:
        live(pair)
        for number in range(30):
            with pair.authority.store.transaction() as tx:
                tx.insert(Foul(number=number))
            pair.step(2)

        assert [row[1] for row in told(pair.replicas[0])] == list(range(30))
        for player in pair.replicas[1:]:
            assert told(player) == []
            assert player.version == pair.authority.version
            assert player.statistics().reconnects == 0


def test_a_session_that_comes_back_goes_on_with_what_its_role_may_see() -> None:
    with Pair(world_of(ROLES), clients=3, reconnects=True) as pair:
        live(pair)
        happen(pair, 1)
        pair.step(3)
        for number in range(3):
            pair.wires[number].drop(pair.now_ns)
        happen(pair, 2)
        pair.step(3)
        for number in range(3):
            pair.reconnect(number)
        pair.step(60)

        referee, *players = (told(replica) for replica in pair.replicas)
        assert [row[0] for row in referee] == ["bang", "foul", "card", "bang"] * 2
        for player in players:
            assert [row[0] for row in player] == ["bang", "card", "bang"] * 2
        assert all(replica.statistics().resumes == 1 for replica in pair.replicas)


def test_a_role_that_no_rule_of_interest_names_is_told_of_no_event_either() -> None:
    """Nobody has said what it is sent."""
    with Pair(world_of(ROLES, interest=[owned(roles=["referee"])]), clients=3) as pair:
        live(pair)
        happen(pair, 1)
        pair.step(5)

        referee, *players = (told(replica) for replica in pair.replicas)
        assert len(referee) == 4
        assert players == [[], []]
