"""Following references: both ways, as far as they lead, in any version and inside a transaction."""

from collections.abc import Iterator

import numpy as np
import pytest

from ecsnet.errors import ArgumentError, StaleEntityError, UnknownNameError
from ecsnet.ids import Entity
from ecsnet.schema import loads
from ecsnet.store import Store
from tests.store.test_references import TOML

FRIENDS = """
[tables.friend]
primary_key = "id"
fields = [{ name = "id", type = "u64", auto_increment = true },
          { name = "a", type = "u64", foreign_key = "entities.id", on_delete = "cascade" },
          { name = "b", type = "u64", foreign_key = "entities.id", on_delete = "cascade" }]
"""


@pytest.fixture
def store() -> Iterator[Store]:
    with Store(loads(TOML + FRIENDS)) as store:
        yield store


def family(store: Store, mentors: list[int]) -> list[int]:
    """Members 1, 2, ... with these mentors: their keys."""
    columns = {"id": np.arange(1, len(mentors) + 1), "mentor": np.array(mentors), "seat": np.arange(len(mentors))}
    with store.transaction() as tx:
        keys = tx.insert_many("member", columns)
    return [int(key) for key in keys]


def circle(store: Store, pairs: list[tuple[int, int]]) -> list[Entity]:
    with store.transaction() as tx:
        people = [tx.spawn() for _ in range(1 + max(max(pair) for pair in pairs))]
        for one, other in pairs:
            tx.insert("friend", {"a": people[one], "b": people[other]})
    return people


def test_rows_come_breadth_first_and_then_by_key_with_their_depth(store: Store) -> None:
    keys = family(store, [0, 1, 1, 3, 2, 5])

    with store.view() as view:
        below = view.related(keys[0], "member.mentor", depth=None)
        assert below.key.tolist() == [keys[1], keys[2], keys[3], keys[4], keys[5]]
        assert below.depth.tolist() == [1, 1, 2, 2, 3]
        assert (below.table, len(below)) == ("member", 5)
        assert view.related(keys[0], "member.mentor").key.tolist() == keys[1:3]
        assert view.related(keys[5], "member.mentor", depth=2, direction="outgoing").key.tolist() == [keys[4], keys[1]]
        assert view.related(keys[2], "member.mentor", direction="both").key.tolist() == [keys[0], keys[3]]


def test_a_ring_ends_where_it_closes(store: Store) -> None:
    keys = family(store, [3, 1, 2])

    with store.view() as view:
        found = view.related(keys[0], "member.mentor", depth=None)

    assert (found.key.tolist(), found.depth.tolist()) == ([keys[1], keys[2]], [1, 2])


def test_a_walk_goes_through_the_rows_of_a_table_between(store: Store) -> None:
    people = circle(store, [(0, 1), (1, 2), (2, 3), (4, 0)])

    with store.view() as view:
        assert view.related(people[0], "friend.a", "friend.b").key.tolist() == [people[1]]
        far = view.related(people[0], "friend.a", "friend.b", depth=2)
        assert (far.key.tolist(), far.depth.tolist()) == ([people[1], people[2]], [1, 2])
        both = view.related(people[0], "friend.a", "friend.b", depth=2, direction="both")
        assert dict(zip(both.key.tolist(), both.depth.tolist(), strict=True)) == {
            people[1]: 1,
            people[4]: 1,
            people[2]: 2,
        }


def test_a_version_keeps_its_relations_whatever_comes_after(store: Store) -> None:
    keys = family(store, [0, 1, 1])
    with store.view() as before:
        store.transaction().delete(keys[1], "member").update(keys[2], "member", mentor=0).commit()
        with store.view() as after:
            assert len(after.related(keys[0], "member.mentor")) == 0
        assert before.related(keys[0], "member.mentor").key.tolist() == keys[1:]


def test_a_transaction_follows_what_it_has_written_and_what_it_undid_was_never_there(store: Store) -> None:
    keys = family(store, [0, 0])
    tx = store.transaction()
    tx.update(keys[1], "member", mentor=1)
    assert tx.related(keys[0], "member.mentor").key.tolist() == [keys[1]]
    assert tx.related(keys[1], "member.mentor", direction="outgoing").key.tolist() == [keys[0]]
    tx.rollback()

    store.transaction().update(keys[0], "member", seat=9).commit()
    with store.view() as view:
        assert len(view.related(keys[0], "member.mentor")) == 0


def test_whoever_takes_a_value_takes_those_who_refer_to_it(store: Store) -> None:
    """Two rows swap their keys: references stay with the values, also those that nobody wrote."""
    keys = family(store, [0, 0, 1, 1, 2])
    with store.transaction() as tx:
        tx.update(keys[0], "member", id=2)
        tx.update(keys[1], "member", id=1)
        tx.update(keys[3], "member", mentor=2)

    with store.view() as view:
        assert view.related(keys[0], "member.mentor").key.tolist() == [keys[3], keys[4]]
        assert view.related(keys[1], "member.mentor").key.tolist() == [keys[2]]


def test_components_refer_as_their_entities(store: Store) -> None:
    with store.transaction() as tx:
        badge = tx.insert("badge", {"code": b"gold"})
        ship = tx.spawn(wears={"badge": b"gold"})
        other = tx.spawn(wears={"badge": b"gold"})
        bare = tx.spawn()

    with store.view() as view:
        worn = view.related(badge, "wears.badge")
        assert (worn.table, worn.key.tolist()) == ("entities", [ship, other])
        assert view.related(ship, "wears.badge", direction="outgoing").key.tolist() == [badge]
        assert len(view.related(bare, "wears.badge", direction="outgoing")) == 0


def test_what_is_found_can_be_asked_for_as_rows(store: Store) -> None:
    keys = family(store, [0, 1, 1])

    with store.view() as view:
        assert [view[int(key), "member.seat"] for key in view.related(keys[0], "member.mentor").key] == [1, 2]
        assert not view.related(keys[0], "member.mentor").key.flags.writeable


def test_questions_that_make_no_sense_are_refused_in_words(store: Store) -> None:
    people = circle(store, [(0, 1)])
    with store.view() as view:
        ship = people[0]
        with pytest.raises(ArgumentError, match="no foreign key"):
            view.related(ship, "member.seat")
        with pytest.raises(ArgumentError, match="needs the foreign keys to follow"):
            view.related(ship)
        with pytest.raises(ArgumentError, match="depth is a number of rounds"):
            view.related(ship, "friend.a", depth=0)
        with pytest.raises(ArgumentError, match="direction is"):
            view.related(ship, "friend.a", direction="up")  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="name fields that lead back to entities"):
            view.related(ship, "friend.a", depth=2)
        with pytest.raises(ArgumentError, match="name fields that lead back to entities"):
            view.related(ship, "friend.a", direction="both")
        with pytest.raises(ArgumentError, match="leads from member to clan"):
            view.related(ship, "friend.a", "member.clan")
        with pytest.raises(UnknownNameError):
            view.related(ship, "friend.c")
        with pytest.raises(StaleEntityError):
            view.related(1 << 40, "friend.a", "friend.b")


def test_a_long_chain_is_followed_to_its_end(store: Store) -> None:
    n = 20_000
    first = family(store, list(range(n)))[0]

    with store.view() as view:
        below = view.related(first, "member.mentor", depth=None)

    assert below.depth.tolist() == list(range(1, n))
