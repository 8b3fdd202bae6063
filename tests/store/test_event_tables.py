"""Event tables in a store: rows that are inserted, seen in their version, and gone with the next."""

from collections.abc import Iterator

import numpy as np
import pytest

from ecsnet.errors import ArgumentError, ConstraintError, StorageError
from ecsnet.ids import Tick
from ecsnet.schema import loads
from ecsnet.store import Store

SCHEMA = loads(
    """
[database]
name = "events"
version = "1.0.0"

[tables.health]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "hp", type = "u16", default = 100 }]

[tables.hit]
event = true
fields = [{ name = "target", type = "u64", foreign_key = "entities.id" },
          { name = "damage", type = "u16", maximum = 100 }]

[tables.noise]
event = true
fields = [{ name = "loudness", type = "f32", default = 0.5 }]
"""
)


@pytest.fixture
def store() -> Iterator[Store]:
    with Store(SCHEMA) as made:
        yield made


def shown(store: Store) -> list[int]:
    with store.view() as view:
        return [int(damage) for damage in view["hit.damage"]]


def spawn(store: Store) -> int:
    with store.transaction() as tx:
        return int(tx.spawn(health={}))


def test_an_event_is_in_the_view_of_its_version_and_not_in_the_next(store: Store) -> None:
    ship = spawn(store)
    with store.transaction() as tx:
        key = tx.insert("hit", {"target": ship, "damage": 10})
        assert tx[key, "hit.damage"] == 10
    held = store.view()

    with store.transaction() as tx:
        assert tx.query("hit").count() == 0, "it was of the version before"
        tx.update(ship, "health", hp=1)

    assert shown(store) == []
    assert held["hit.damage"].tolist() == [10] and held["hit.target"].tolist() == [ship]
    held.close()


def test_later_transactions_of_a_tick_see_it(store: Store) -> None:
    ship = spawn(store)
    with store.tick(Tick(1)) as scope:
        with scope.transaction("first") as tx:
            tx.insert("hit", {"target": ship, "damage": 1})
        with scope.transaction("second") as tx:
            (hits,) = tx.query("hit")
            assert hits.damage.tolist() == [1]
            tx.insert_many("hit", {"target": ship, "damage": np.arange(2, 5)})
        with scope.transaction("third") as tx:
            assert tx.query("hit").count() == 4
        scope.publish()
    with store.tick(Tick(2)) as scope, scope.transaction("first") as tx:
        assert tx.query("hit").count() == 0


def test_a_version_of_nothing_but_events_is_a_version_and_their_going_is_none(store: Store) -> None:
    before = store.version
    with store.transaction() as tx:
        tx.insert("noise", {})
    assert store.version == before + 1
    with store.transaction() as tx:
        assert tx.query("noise").count() == 0
    assert store.version == before + 1, "nothing was changed"
    with store.view() as view:
        assert view["noise.loudness"].tolist() == [0.5], "and so its version still shows it"


def test_a_rollback_takes_events_back(store: Store) -> None:
    ship = spawn(store)
    told: list[bytes] = []
    store.follow_events(lambda version, tick, blocks: told.extend(blocks[0]))
    with store.transaction() as tx:
        tx.insert("hit", {"target": ship, "damage": 1})
        tx.rollback()
    with store.transaction() as tx:
        tx.insert("hit", {"target": ship, "damage": 2})
        tx.insert("noise", {})
    assert shown(store) == [2] and len(told) == 1


@pytest.mark.parametrize("lending", [False, True])
def test_an_event_cannot_be_changed_or_deleted(store: Store, lending: bool) -> None:
    ship = spawn(store)
    with store.transaction() as tx:
        key = tx.insert("hit", {"target": ship, "damage": 10})
        if lending:
            (bodies,) = tx.query("health")
            bodies.hp[:] = 7
        for refused in (
            lambda: tx.update(key, "hit", damage=1),
            lambda: tx.update_many([key], "hit", damage=1),
            lambda: tx.delete(key, "hit"),
            lambda: tx.delete_many([key], "hit"),
            lambda: tx.__setitem__((key, "hit.damage"), 1),
        ):
            with pytest.raises(ArgumentError, match="hit is an event table"):
                refused()
        (hits,) = tx.query("hit")
        assert not hits.damage.flags.writeable
        with pytest.raises(ArgumentError):
            hits.damage = 3
    assert shown(store) == [10]


def test_whom_an_event_names_must_be_there_and_may_go_in_the_very_transaction(store: Store) -> None:
    ship = spawn(store)
    with store.tick(Tick(1)) as scope:
        with scope.transaction("hit") as tx:
            tx.insert("hit", {"target": ship, "damage": 10})
        with scope.transaction("bury") as tx:
            tx.insert_many("hit", {"target": [ship], "damage": 11})
            tx.despawn(ship)
        scope.publish()
    assert shown(store) == [10, 11], "an event holds nobody back"
    with pytest.raises(ConstraintError) as refused, store.transaction() as tx:
        tx.insert("hit", {"target": ship, "damage": 10})
    assert (refused.value.table, refused.value.field, refused.value.rule) == ("hit", "target", "foreign_key")
    assert shown(store) == [10, 11]


def test_a_cell_of_an_event_keeps_its_rules(store: Store) -> None:
    ship = spawn(store)
    with store.transaction() as tx:
        with pytest.raises(ConstraintError, match="damage"):
            tx.insert("hit", {"target": ship, "damage": 101})
        with pytest.raises(ConstraintError, match="damage"):
            tx.insert("hit", {"target": ship})


def test_events_are_no_part_of_a_digest(store: Store) -> None:
    ship = spawn(store)
    with store.view() as view:
        before = view.digest()
    with store.transaction() as tx:
        tx.insert("hit", {"target": ship, "damage": 10})
    with store.view() as view:
        assert view.digest() == before


def test_their_keys_are_never_used_twice_and_do_not_pile_up(store: Store) -> None:
    seen: set[int] = set()
    for _ in range(50):
        with store.transaction() as tx:
            keys = tx.insert_many("noise", {"loudness": np.zeros(100, np.float32)}).tolist()
        assert seen.isdisjoint(keys)
        seen.update(keys)
    assert max(key & 0xFFFF_FFFF for key in seen) < 300, "places come back"


def test_a_version_that_could_not_be_made_is_told_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, bytes]] = []
    store.follow_events(lambda version, tick, blocks: told.append((version, blocks[0][0])))

    def fail(tick: int) -> None:
        raise StorageError("out of memory; nothing changed")

    tx = store.transaction()
    tx.insert("noise", {"loudness": 1.0})
    with monkeypatch.context() as patched:
        patched.setattr(store.kernel, "publish", fail)
        with pytest.raises(StorageError):
            tx.commit()
    with store.transaction() as later:
        later.insert("noise", {"loudness": 2.0})
    (first, few), (again, all_of_it) = told
    assert first == again == store.version, "the same number"
    assert len(all_of_it) > len(few), "with all rows of it"
    with store.tick(Tick(7)) as scope:
        assert scope.publish() is None
    assert len(told) == 2, "rows of the version before are nobody's news"


def test_who_follows_is_told_each_version_once_even_where_held_views_put_it_off(store: Store) -> None:
    told: list[tuple[int, int]] = []
    store.follow_events(lambda version, tick, blocks: told.append((version, len(blocks[0]))))
    held = []
    for number in range(80):
        with store.transaction() as tx:
            tx.insert("noise", {"loudness": number})
        held.append(store.view())
    assert store.kernel.staleness > 0, "or this shows nothing"
    assert [version for version, _ in told] == list(range(told[0][0], told[0][0] + 80))
    for view in held:
        view.close()
    store.follow_events(None)
    with store.transaction() as tx:
        tx.insert("noise", {})
    assert len(told) == 80
