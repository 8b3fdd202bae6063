"""What several nodes write comes out the same on each: `kernel/zig/stamps.zig` against the rule in plain Python."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecsnet._kernel import redo
from ecsnet._kernel.kernel import KernelStore
from ecsnet._kernel.stamps import Stamps, Whose, hlc_of
from ecsnet.errors import ArgumentError, ConstraintError, RemoteProtocolError, StampAheadError
from ecsnet.schema import loads
from tests.kernel.lww_model import MARK, NOTE, PLAIN, SCHEMA, Node, pinned

VALUES = {
    "note": st.fixed_dictionaries(
        {}, optional={"text": st.sampled_from(["", "-", "α", "long enough to be"[:16]]), "count": st.integers(-5, 9)}
    ),
    "mark": st.fixed_dictionaries({}, optional={"place": st.sampled_from([(0.5, 0.25), (1.0, 2.0), (-3.0, 0.0)])}),
}
KEYS = {"note": ["a", "b", "eightchr"], "mark": [0, 1, 2]}
NODES = 3


@st.composite
def writes(draw: st.DrawFn) -> tuple[Any, ...]:
    table = draw(st.sampled_from(["note", "mark"]))
    keys = draw(st.lists(st.sampled_from(KEYS[table]), min_size=1, max_size=3, unique=True))
    operation = draw(st.sampled_from(["put", "put", "put", "insert", "delete", "replace"]))
    return ("write", draw(st.integers(0, NODES - 1)), operation, table, keys, draw(VALUES[table]))


ACTIONS = st.one_of(
    writes(),
    writes(),
    writes(),
    st.tuples(st.just("cut"), st.integers(0, NODES - 1), st.integers(0, NODES - 1), st.booleans()),
    st.tuples(st.just("take"), st.integers(0, 99)),
    st.tuples(st.just("time"), st.integers(0, NODES - 1), st.integers(0, 40)),
)


@pytest.fixture
def nodes() -> Iterator[list[Node]]:
    made = three_nodes()
    yield made
    for node in made:
        node.close()


def three_nodes() -> list[Node]:
    made = [Node(number + 1) for number in range(NODES)]
    for node in made:
        node.tell_time(1_000)
    return made


def write(
    node: Node, operation: str, table: str, keys: list[Any], values: dict[str, Any], *, keep: bool = True
) -> None:
    """One transaction over those of the rows that the operation is for; "put" is two, to insert or to change."""
    if operation == "put":
        write(node, "update", table, keys, values, keep=keep)
        write(node, "insert", table, keys, values, keep=keep)
        return
    model, own = node.model, SCHEMA.table(table)
    there = [key for key in keys if model.alive(table, key) == (operation != "insert")]
    if not there:
        return
    numbers = {key: node.key(table, key) for key in there if operation != "insert"}
    node.kernel.begin()
    if operation == "insert":
        node.insert(table, dict.fromkeys(there, values))
    elif operation == "update":
        columns = {
            own.field(name).id: np.array([value] * len(there), object if isinstance(value, str) else None)
            for name, value in values.items()
        }
        node.kernel.update_many(own.id, np.array([*numbers.values()], np.uint64), columns)
    else:
        node.kernel.delete_many(own.id, np.array([*numbers.values()], np.uint64))
        if operation == "replace":
            node.insert(table, dict.fromkeys(there, values))
    if not keep:
        node.kernel.rollback()
        return
    node.publish()
    before = model.content()
    changes = operation != "update" or any(
        before[table, key][name][1] != value for key in there for name, value in values.items()
    )
    if not changes:
        return
    stamp = model.stamp()
    for key in there:
        if operation == "update":
            model.update(table, key, values, stamp)
        elif operation == "delete":
            model.delete(table, key, stamp)
        else:
            model.insert(table, key, values, stamp)


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTIONS, min_size=8, max_size=40), st.randoms(use_true_random=False))
def test_every_node_comes_to_hold_the_same_whatever_came_when_and_how_often(actions: list[Any], random: Any) -> None:
    """Each step is compared with the rule; at the end all that was ever told is told again, to all, in any order."""
    nodes = three_nodes()
    held: dict[tuple[int, int], int] = {}
    told: list[tuple[int, int, int, int, bytes, Any]] = []

    def take(message: tuple[int, int, int, int, bytes, Any]) -> None:
        sender, to, base, version, block, rows = message
        if held.get((sender, to), 0) < base:
            return  # not readable by one that does not hold the base
        nodes[to].merge(block)
        nodes[to].model.join(rows)
        held[sender, to] = max(held.get((sender, to), 0), version)
        nodes[to].check()

    for action in actions:
        if action[0] == "write":
            write(nodes[action[1]], *action[2:], keep=random.random() < 0.9)
            nodes[action[1]].check()
        elif action[0] == "time":
            nodes[action[1]].tell_time(1_000 + action[2])
        elif action[0] == "take" and told:
            take(told[action[1] % len(told)])
        elif action[0] == "cut" and action[1] != action[2]:
            sender, to, whole = action[1:]
            base = 0 if whole else held.get((sender, to), 0)
            block = nodes[sender].cut(base)
            told.append((sender, to, base, nodes[sender].version, block, nodes[sender].model.copy()))
    for sender in range(NODES):
        told += [(sender, to, 0, 0, nodes[sender].cut(0), nodes[sender].model.copy()) for to in range(NODES)]
    told *= 2
    random.shuffle(told)
    for message in told:
        take(message)
    assert len({node.digest() for node in nodes}) == 1
    assert nodes[0].content() == nodes[1].content() == nodes[2].content()
    for node in nodes:
        node.close()


def test_what_others_wrote_is_left_out_where_it_is_not_asked_for(nodes: list[Node]) -> None:
    """Of one's own writes, and of all but the other's, for links that relay nothing or do not echo."""
    a, b, c = nodes
    write(a, "insert", "note", ["a"], {"count": 1})
    write(b, "insert", "note", ["b"], {"count": 2})
    b.merge(a.cut(0))
    assert c.merge(b.cut(0, Whose.OWN)) is not None
    assert {key for _, key in c.content()} == {"b"}
    before = a.content()
    a.merge(b.cut(0, Whose.NOT_THEIRS, a.stamps.node))
    assert set(a.content()) == {*before, ("note", "b")}
    assert b.cut(b.version, Whose.ALL) == b""


def test_parts_come_to_what_the_whole_comes_to(nodes: list[Node]) -> None:
    a, b, c = nodes
    write(a, "insert", "note", ["a", "b", "eightchr"], {"text": "α", "count": 3})
    write(a, "insert", "mark", [1, 2, 3, 4, 5], {})
    write(a, "delete", "mark", [1, 2, 3], {})
    write(a, "delete", "note", ["a"], {})
    parts = a.cut_in_parts(0, 100)
    assert len(parts) >= 3
    for part in reversed(parts):
        b.merge(part)
    c.merge(a.cut(0))
    assert a.digest() == b.digest() == c.digest()
    assert a.buried() == b.buried() == c.buried()


def test_a_stamp_from_the_future_is_refused_and_nothing_changes(nodes: list[Node]) -> None:
    """Believed, it would win over everything that is written until then."""
    a, b, _ = nodes
    a.tell_time(1_000 + 60_001)
    write(a, "insert", "note", ["a"], {"count": 1})
    before, clock = b.content(), b.stamps.clock
    with pytest.raises(StampAheadError, match="set the clocks|Set the clocks") as raised:
        b.merge(a.cut(0))
    assert (raised.value.node, raised.value.found_ms, raised.value.most_ms) == (1, 61_001, 61_000)
    assert b.content() == before and b.stamps.clock == clock
    b.tell_time(1_001)
    assert b.merge(a.cut(0)) is not None
    assert b.stamps.clock == hlc_of(61_001), "the clock is not behind what was seen"


def test_a_clock_that_is_set_back_goes_on_from_where_it_was(nodes: list[Node]) -> None:
    a = nodes[0]
    write(a, "insert", "mark", [1], {})
    a.tell_time(10)
    write(a, "update", "mark", [1], {"place": (9.0, 9.0)})
    assert a.content()["mark", 1]["place"][0] == (hlc_of(1_000) + 1, 1)


def test_a_primary_key_is_never_changed(nodes: list[Node]) -> None:
    """It names the row on other nodes: changed, the old row would live on there."""
    a = nodes[0]
    write(a, "insert", "note", ["a"], {})
    before = a.content()
    a.kernel.begin()
    a.kernel.update_many(
        NOTE.id, np.array([a.key("note", "a")], np.uint64), {NOTE.field("name").id: np.array(["z"], object)}
    )
    with pytest.raises(ArgumentError, match="names the row on every node"):
        a.kernel.commit()
    a.kernel.rollback()
    assert a.content() == before


def test_columns_are_lent_for_reading_only(nodes: list[Node]) -> None:
    a = nodes[0]
    write(a, "insert", "mark", [1], {})
    a.kernel.begin()
    with pytest.raises(ArgumentError, match="several nodes write it"):
        a.kernel.lend(MARK.id, MARK.field("place").id, True)
    assert a.kernel.lend(MARK.id, MARK.field("place").id, False).tolist() == [[0.5, 0.25]]
    a.kernel.rollback()


def test_a_row_that_another_node_deletes_takes_references_to_it_along(nodes: list[Node]) -> None:
    a, b, _ = nodes
    write(a, "insert", "note", ["a"], {})
    b.merge(a.cut(0))
    b.kernel.begin()
    keys = b.kernel.reserve(PLAIN.id, 1)
    b.kernel.insert_many(PLAIN.id, keys, {PLAIN.field("id").id: 1, PLAIN.field("note").id: np.array(["a"], object)})
    b.publish()
    write(a, "delete", "note", ["a"], {})
    b.merge(a.cut(0))
    with pinned(b.kernel) as pin:
        assert pin.text(PLAIN.id, PLAIN.field("note").id, 0) == ""


def test_stamps_are_in_no_delta_and_no_digest(nodes: list[Node]) -> None:
    """Clients see values: two stores with other stamps and equal keys are equal to them."""
    a, b, _ = nodes
    b.tell_time(1_017)
    for node in (a, b):
        write(node, "insert", "note", ["a", "b"], {"text": "α"})
        write(node, "update", "note", ["a"], {"count": 2})
    deltas = []
    for node in (a, b):
        with pinned(node.kernel) as pin:
            deltas.append((pin.digest(), node.kernel.delta(pin, 0).block, node.kernel.delta(pin, 1).block))
    assert deltas[0] == deltas[1]
    replica = KernelStore(SCHEMA, entities_max=64)
    replica.apply([deltas[0][1]], 0, a.version, 1)
    with pinned(replica) as pin:
        assert pin.digest() == deltas[0][0]
    assert a.digest() != b.digest()
    replica.close()


def test_old_deletions_are_forgotten_when_asked(nodes: list[Node]) -> None:
    a, b, _ = nodes
    write(a, "insert", "mark", [1, 2], {})
    b.merge(a.cut(0))
    write(a, "delete", "mark", [1], {})
    a.tell_time(5_000)
    write(a, "delete", "mark", [2], {})
    a.kernel.begin()
    assert a.stamps.forget(hlc_of(5_000)) == 1
    a.publish()
    assert set(a.buried()) == {("mark", 2)}
    a.merge(b.cut(0))
    assert set(a.content()) == {("mark", 1)}, "what is forgotten may come back"


def test_two_nodes_with_one_number_still_agree(nodes: list[Node]) -> None:
    """A mistake of whoever runs them; equal stamps of two writes must not split the nodes for ever."""
    a, b = Node(9), Node(9)
    for node, text in ((a, "x"), (b, "y")):
        node.tell_time(1_000)
        write(node, "insert", "note", ["a"], {"text": text})
    a.merge(b.cut(0))
    b.merge(a.cut(0))
    assert a.digest() == b.digest()
    assert a.content()["note", "a"]["text"][1] == "y"
    a.close()
    b.close()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_hostile_blocks_are_refused_whole(data: st.DataObject) -> None:
    """Any bytes, and good ones with some of them changed: taken in whole, or refused with nothing changed."""
    a, b = Node(1), Node(2)
    for node in (a, b):
        node.tell_time(1_000)
    write(a, "insert", "note", ["a", "b"], {"text": "α", "count": 3})
    write(a, "insert", "mark", [1], {})
    write(a, "delete", "note", ["a"], {})
    write(b, "insert", "note", ["b"], {"count": 1})
    block = bytearray(a.cut(0))
    if data.draw(st.booleans()):
        block = bytearray(data.draw(st.binary(max_size=64)))
    for _ in range(data.draw(st.integers(1, 3))):
        if not block:
            break
        place = data.draw(st.integers(0, len(block) - 1))
        if data.draw(st.booleans()):
            block[place] = data.draw(st.integers(0, 255))
        else:
            del block[place:]
    before, clock = b.content(), b.stamps.clock
    try:
        b.merge(bytes(block))
    except (RemoteProtocolError, ConstraintError, ArgumentError):
        assert b.content() == before and b.stamps.clock == clock
    for cells in (row for (table, _), row in b.content().items() if table == "note"):
        assert -5 <= cells["count"][1] <= 1000 and len(cells["text"][1].encode()) <= 16
    assert b.stamps.clock <= hlc_of(61_001)
    a.close()
    b.close()


def recovered(bodies: list[bytes], number: int) -> Node:
    kernel = KernelStore(SCHEMA, entities_max=64)
    kernel.take_baton()
    kernel.publish(0, genesis=True)
    for version, body in enumerate(bodies, 1):
        redo.replay(kernel, version, version, body)
    redo.finish(kernel)
    kernel.release_baton()
    return Node(number, kernel)


@settings(max_examples=40, deadline=None)
@given(st.lists(writes(), min_size=3, max_size=20))
def test_a_store_that_is_made_from_its_log_has_the_stamps_too(actions: list[Any]) -> None:
    """Or it would take old writes for newer ones after a crash, and its own new ones would lose."""
    source, logged = Node(2), recovered([], 1)
    for node in (source, logged):
        node.tell_time(1_000)
    bodies: list[bytes] = []

    def publish() -> None:
        logged.kernel.commit()
        body = redo.encode(logged.kernel)
        if redo.seal(logged.kernel, logged.version, False) is not None:
            bodies.append(body)

    logged.publish = publish  # type: ignore[method-assign]  # and keep its log
    for action in actions:
        if action[1] == 2:
            write(source, *action[2:])
            logged.merge(source.cut(0))
            logged.model.join(source.model.copy())
        else:
            write(logged, *action[2:])
        logged.check()
    again = recovered(bodies, 1)
    assert again.content() == logged.content()
    assert again.buried() == logged.buried()
    newest = max((stamp for row in again.content().values() for (stamp, _), _ in row.values()), default=0)
    assert again.stamps.clock == max(newest, *(hlc for hlc, _ in again.buried().values()), 0)
    for node in (source, logged, again):
        node.close()


def test_a_store_without_such_a_table_has_no_stamps() -> None:
    kernel = KernelStore(loads('[database]\nname = "own"\nversion = "1.0.0"\n'), entities_max=64)
    with pytest.raises(ArgumentError, match="nothing that several nodes write"):
        Stamps(kernel, 1)
    kernel.close()
    with pytest.raises(ArgumentError, match="a node is a number"):
        Stamps(kernel, 0)
