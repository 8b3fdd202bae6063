"""The checker of event rows notices what it is there for, and nothing else."""

import pytest

from ecsnet import Client, Component, Entity, Event, Schema, Transaction, f32, field, string, u32
from ecsnet._kernel.events import EventsSeen
from ecsnet.auth import Account
from ecsnet.cli.sim import game_of
from ecsnet.ids import Tick, Version
from ecsnet.replica import EventRow
from ecsnet.schema import loads
from ecsnet.sim.cluster import Cluster
from ecsnet.sim.event_rows import EventsMade, EventsTold
from ecsnet.sim.run import run_scenario
from ecsnet.sim.scenario import Scenario
from ecsnet.store import Store
from ecsnet.world import World

SCHEMA = loads(
    """
[database]
name = "events"
version = "1.0.0"

[tables.hit]
event = true
fields = [{ name = "number", type = "u32" }, { name = "word", type = "bytes[2]", default = "" }]

[tables.noise]
event = true
fields = [{ name = "number", type = "u32" }]
"""
)
EPOCH = 3


class Run:
    """Three versions with events, 2, 3 and 5 (4 has none), and a player whose session began with version 1."""

    def __init__(self) -> None:
        made = EventsMade(World(SCHEMA))
        with Store(SCHEMA) as store:
            for rows in ([], ["hit", "noise", "hit"], ["hit"], None, ["noise"]):
                with store.transaction() as tx:
                    if not rows:
                        tx.spawn()
                    for number, table in enumerate(rows or []):
                        tx.insert(table, {"number": number})
                with store.view() as view:
                    made.note(EPOCH, view)
        self.found: list[str] = []
        self.told = EventsTold(made, self.found.append)
        self.told.begin(EPOCH, 1)

    def tell(self, *rows: tuple[int, str, int], held: int = 9) -> "Run":
        for version, table, number in rows:
            cells = {"number": number} | ({"word": bytes(2)} if table == "hit" else {})
            self.told.row(EventRow(table, Version(version), Tick(version), cells), held)
        return self


ALL = [(2, "hit", 0), (2, "noise", 1), (2, "hit", 2), (3, "hit", 0), (5, "noise", 0)]


def test_all_of_it_once_and_in_order_is_no_violation() -> None:
    run = Run().tell(*ALL)
    run.told.settled(9)
    assert run.found == []


def test_what_is_not_due_yet_is_not_missing() -> None:
    run = Run().tell(*ALL[:3])
    run.told.settled(2)
    assert run.found == []


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (ALL[:1] + ALL[3:], "1 of 2 rows of hit of version 2"),
        (ALL[:3] + ALL[4:], "0 of 1 rows of hit of version 3"),
        (ALL[:4], "0 of 1 rows of noise of version 5"),
        ([*ALL, ALL[4]], "noise"),
        ([*ALL[:4], ALL[3], ALL[4]], "hit"),
        ([ALL[0], ALL[0], *ALL[1:]], "where"),
        ([ALL[2], ALL[1], ALL[0], *ALL[3:]], "where"),
        ([*ALL[3:4], *ALL[:3], ALL[4]], "told again, or too late"),
        ([(2, "hit", 7), *ALL[1:]], "where"),
        ([*ALL[:4], (4, "hit", 0), ALL[4]], "nothing that happened"),
        ([(1, "hit", 0), *ALL], "its session began with 1"),
    ],
)
def test_what_is_missing_or_comes_twice_or_too_late_or_never_was_is_found(
    rows: list[tuple[int, str, int]], words: str
) -> None:
    run = Run().tell(*rows)
    run.told.settled(9)
    assert any(words in what for what in run.found), run.found


def test_what_is_told_before_its_version_is_held_is_found() -> None:
    run = Run().tell(ALL[0], held=1)
    assert run.found == ["was told of version 2 and holds 1"]


def test_a_session_that_goes_on_is_told_the_rest_and_nothing_again() -> None:
    run = Run().tell(*ALL[:3], held=2)
    run.told.go_on(EPOCH, 2)
    run.tell(*ALL[3:])
    run.told.settled(9)
    assert run.found == []

    run = Run().tell(*ALL[:3], held=2)
    run.told.go_on(EPOCH, 2)
    run.tell(ALL[2])
    assert len(run.found) == 1, "what was told on the link before"

    run = Run().tell(*ALL[:2], held=2)
    run.told.go_on(EPOCH, 2)
    assert len(run.found) == 1, "a row of a version that is held was not told"


def test_what_a_player_is_told_that_it_will_not_be_told_is_not_missing() -> None:
    run = Run().tell(*ALL[:3], held=2)
    run.told.go_on(EPOCH, 2)
    run.told.lost(4)
    run.tell(ALL[4])
    run.told.settled(9)
    assert run.found == []


def test_rows_that_were_on_their_way_when_a_link_was_lost_are_told_or_said_to_be_lost() -> None:
    """Over datagrams rows come behind their versions. Where a node was killed, and a player goes on from the version it
    holds, nobody can tell the rows that were on their way; they were passed over in silence."""
    scenario = Scenario(swarm=True, seed=8, seconds=6.0).settled().with_(interest=None, quantized=None)
    assert scenario.transport == "datagram" and any(fault.kind == "node_crash" for fault in scenario.faults)

    outcome = run_scenario(scenario, game_of(scenario))

    assert outcome.ok, outcome.reasons()
    assert outcome.resumes_in_place > 0


class Body(Component):
    x: f32 = field(default=0.0)


class Bang(Event):
    number: u32


class Foul(Event, visible_to=["referee"]):
    number: u32


class Card(Event):
    number: u32
    why: string = field(length=20, visible_to=["referee"])


def match() -> World:
    """The first to come is the referee; something happens in every third tick."""
    world = World(Schema("match", "1.0.0", Body, Bang, Foul, Card), hz=30, on_error="raise")
    numbers = iter(range(1, 100))

    @world.authenticate
    def who(_login: object) -> Account:
        number = next(numbers)
        return Account(client_id=number, name=f"client-{number}", role="referee" if number == 1 else "player")

    @world.on_join
    def join(tx: Transaction, client: Client) -> Entity:
        return tx.spawn(Body(), owner=client)

    @world.system(every=3)
    def happen(tx: Transaction) -> None:
        tx.insert(Bang(number=int(tx.tick)))
        tx.insert(Foul(number=int(tx.tick)))
        tx.insert(Card(number=int(tx.tick), why="so"))

    return world


def test_players_of_every_role_are_told_what_theirs_may_see() -> None:
    with Cluster(match(), clients=3, profile="bad-wifi", seed=2) as cluster:
        cluster.run(seconds=4)
        cluster.assert_converged()
        assert not cluster.checkers.violations


def test_a_row_that_a_role_may_not_see_is_found_when_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecsnet.authority.event_logs._seen", lambda schema, profile: EventsSeen())
    with Cluster(match(), clients=3, profile="lan", seed=2) as cluster:
        cluster.run(seconds=1)
        found = {str(violation) for violation in cluster.checkers.violations}
        assert any("Foul" in one for one in found) and any("Card" in one for one in found), found
