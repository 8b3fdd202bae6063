"""Rules of interest from code, and what a game says of a client's sight."""

from typing import Any

import pytest

import ecsnet
from ecsnet import (
    Client,
    Component,
    Entity,
    Event,
    Reject,
    Schema,
    Table,
    Transaction,
    World,
    auto,
    f32,
    field,
    ref,
    u64,
)
from ecsnet.errors import ArgumentError, LimitExceededError, QueryError, SchemaError
from ecsnet.ids import ClientId, SessionId
from ecsnet.interest import always, near, owned, query_of, related, where
from ecsnet.limits import BUDGET_BYTES_S_MIN, FOCUS_ENTITIES_MAX
from ecsnet.schema import InterestRule
from tests.helpers import Pair


class Body(Component, spatial=["x", "y"]):
    x: f32 = field(default=0.0)
    y: f32 = field(default=0.0)


class Item(Table):
    id: u64 = auto()
    holder: ref = field(to="entities.id", on_delete="set_null", optional=True)


class Bang(Event):
    x: f32


SCHEMA = Schema("ground", "1.0.0", Body, Item, Bang)


def test_rules_from_code_are_those_of_a_file() -> None:
    """One language, however it is written: what follows from a rule must not depend on where it stands."""
    world = World(
        SCHEMA,
        interest=[
            owned(),
            near(Body, radius=60, every=2),
            related(Item.holder),
            where(Body, Body.x > 100, roles=["admin"]),
            always(Item, roles=["admin", "referee"]),
        ],
    )
    text = """
    [[interest]]
    kind = "owned"
    [[interest]]
    kind = "near"
    table = "body"
    radius = 60.0
    every = 2
    [[interest]]
    kind = "related"
    field = "item.holder"
    [[interest]]
    kind = "query"
    table = "body"
    where = "body.x > 100"
    roles = ["admin"]
    [[interest]]
    kind = "always"
    tables = ["item"]
    roles = ["referee", "admin"]
    """

    assert world.interest == ecsnet.schema.loads(SCHEMA.canonical + text).interest


def test_rules_from_code_come_after_the_schemas_and_leave_its_fingerprint() -> None:
    """Clients need not know the rules: two nodes with other rules speak with the same client."""
    schema = Schema("ground", "1.0.0", Body, Item, Bang, interest=[owned()])

    world = World(schema, interest=[near("body", radius=5.0)])

    assert [rule.kind for rule in world.interest] == ["owned", "near"]
    assert world.schema.fingerprint == schema.fingerprint
    assert World(SCHEMA).interest == ()


def test_a_plain_rule_gets_the_hysteresis_that_a_file_would_give_it() -> None:
    world = World(SCHEMA, interest=[InterestRule("near", table="body", radius=10.0)])

    assert world.interest[0].leave_radius == pytest.approx(11.0)


@pytest.mark.parametrize(
    ("rule", "error", "says"),
    [
        (near(Item, radius=1.0), SchemaError, "no component with a place"),
        (near("bdy", radius=1.0), SchemaError, 'did you mean "body"'),
        (near(Body, radius=-1.0), SchemaError, "no distance"),
        (near(Body, radius=2.0, leave_radius=1.0), SchemaError, "below the radius"),
        (always(Bang, "entities", "bang"), SchemaError, "named twice"),
        (related("item.id"), SchemaError, "is no reference"),
        (where(Bang, "bang.x > 1"), SchemaError, "is an event"),
        (where(Body, "body.x >"), QueryError, "body.x >"),
        (where(Body, "body.z > 1"), QueryError, "body.z"),
        (where(Body, "item.id > 1"), QueryError, "item"),
        (where(Body, "body.x > 1 limit 3"), ArgumentError, "expected a condition"),
        ("owned", ArgumentError, "owned()"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_with_the_world(rule: InterestRule, error: type[Exception], says: str) -> None:
    """Not in the first tick that needs it."""
    with pytest.raises(error) as refused:
        World(SCHEMA, interest=[rule])

    assert says in str(refused.value)


def test_one_rule_is_given_as_a_list_too() -> None:
    with pytest.raises(ArgumentError, match="give a list"):
        World(SCHEMA, interest=owned())  # type: ignore[arg-type]  # a rule is not a list of them


def test_names_of_roles_and_tables_are_told_apart_from_texts() -> None:
    with pytest.raises(ArgumentError, match="as a list"):
        owned(roles="admin")
    with pytest.raises(ArgumentError, match="class or the name of a table"):
        always(7)  # type: ignore[arg-type]  # neither


def test_a_condition_is_a_query_of_its_table() -> None:
    rule = World(SCHEMA, interest=[where(Body, Body.x > 2)]).interest[0]

    assert query_of(rule).text() == "from body where body.x > 2"


@pytest.mark.parametrize("budget", [0, -1, BUDGET_BYTES_S_MIN - 1, 1e9, True, "8k"])
def test_a_budget_is_a_number_of_bytes_that_something_fits_in(budget: Any) -> None:
    with pytest.raises(ArgumentError, match="budget_bytes_s"):
        World(SCHEMA, budget_bytes_s=budget)
    client = Client(SessionId(1), ClientId(1), "ada")
    with pytest.raises(ArgumentError, match="budget_bytes_s"):
        client.budget_bytes_s = budget
    assert client.budget_bytes_s is None


@pytest.mark.parametrize("staleness", [0, -1.0, float("nan"), float("inf"), 61, True])
def test_rows_wait_for_some_time_and_not_for_ever(staleness: float) -> None:
    with pytest.raises(ArgumentError, match="staleness_max_s"):
        World(SCHEMA, staleness_max_s=staleness)


def test_focus_and_what_is_revealed_are_replaced_whole() -> None:
    client = Client(SessionId(1), ClientId(1), "ada")
    before = client._sight

    client.focus(5, 6)
    client.reveal(7, 8, 7)
    client.conceal(7, 9)

    assert client._sight.focus == (5, 6)
    assert client._sight.revealed == (8,)
    assert before == ((None, (), None)), "what somebody has compared with stays as it is"
    client.focus()
    assert client._sight.focus is None


def test_nonsense_is_no_entity_and_changes_nothing() -> None:
    client = Client(SessionId(1), ClientId(1), "ada")
    client.focus(5)

    nonsense: Any
    for nonsense in (0, -1, 1 << 64, True, "5", None):
        with pytest.raises(ArgumentError, match="expected an entity"):
            client.focus(6, nonsense)
    with pytest.raises(LimitExceededError, match="FOCUS_ENTITIES_MAX"):
        client.focus(*range(1, FOCUS_ENTITIES_MAX + 2))

    assert client._sight.focus == (5,)


def test_a_command_that_is_undone_takes_back_what_it_said_of_sight() -> None:
    """Else a refused command could show its player what it must not see."""
    world = World(SCHEMA)
    clients: list[Client] = []

    @world.on_join
    def join(tx: Transaction, client: Client) -> Entity:
        clients.append(client)
        return tx.spawn(Body(), owner=client)

    @world.command
    def scry(tx: Transaction, client: Client, target: Entity, fails: bool) -> None:
        client.reveal(target)
        client.focus(target)
        if fails:
            raise Reject("no")

    with Pair(world) as pair:
        pair.run_until_converged()
        (client,) = clients

        refused = pair.replica.send("scry", target=client.entity, fails=True)
        pair.run_until(lambda: refused.status != "pending")
        assert (refused.status, client._sight.focus, client._sight.revealed) == ("rejected", None, ())

        kept = pair.replica.send("scry", target=client.entity, fails=False)
        pair.run_until(lambda: kept.status != "pending")
        assert (client._sight.focus, client._sight.revealed) == ((client.entity,), (client.entity,))
