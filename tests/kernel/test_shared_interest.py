"""What rules find for everybody is found once, and each client is told as if it had been found for it alone."""

import random

import numpy as np
import pytest

from ecsnet._kernel.audiences import Audiences, HistoryGone, Profile, Rule
from ecsnet._kernel.kernel import KernelStore
from ecsnet.schema import Schema
from tests.kernel import test_interest as whole
from tests.kernel.test_interest import IDS, SCHEMA, Game, new_store


class Crowd(Game):
    """A game whose clients have one of two sets of rules, which both find something for everybody."""

    def choose_rules(self, schema: Schema) -> list[Rule]:
        r = self.r
        place, item = schema.table("place"), schema.table("item")
        references = {name: item.field(name).id for name in ("holder", "guild", "inside")}
        shared = [
            Rule("always", (IDS["score"],)),
            Rule("always", (IDS["trap"],)),
            Rule("always", (0,)),
            Rule("always", (item.id,)),
            Rule("query", (IDS["health"],)),
            Rule("query", (item.id,)),
        ]
        related = [
            Rule("related", (item.id,), (references["holder"],)),
            Rule("related", (item.id,), (references["inside"],)),
            Rule("related", (item.id,), (references["holder"],), referred=True),
            Rule("related", (IDS["trap"],), (schema.table("trap").field("prey").id,), referred=True),
        ]
        own = [
            Rule("owned"),
            Rule("near", (place.id,), tuple(place.field(name).id for name in ("x", "y")), 15.0, 20.0),
        ]
        return [*own, *r.sample(shared, r.randrange(1, 4)), *r.sample(related, r.randrange(3))]

    def mask(self) -> int:
        whole = (1 << len(self.rules)) - 1
        return self.r.choice([whole, whole, whole & ~1])


@pytest.mark.parametrize("seed", range(24))
def test_each_of_many_with_the_same_rules_holds_what_it_may_see(seed: int) -> None:
    """They come and go, sleep for some versions, and own or are near to what all of them see."""
    whole.test_each_client_holds_what_it_may_see_in_every_version(Crowd(seed, 7))


@pytest.mark.parametrize("seed", range(12))
def test_what_many_are_told_in_one_call_is_what_each_is_told(seed: int) -> None:
    whole.test_all_deltas_in_one_call_are_those_of_one_call_each(Crowd(seed, 7))


@pytest.mark.parametrize("seed", range(8))
def test_a_sync_in_chunks_has_what_is_shared(seed: int) -> None:
    whole.test_chunks_of_newer_and_newer_versions_make_one(Crowd(seed, 4))


@pytest.mark.parametrize("seed", range(8))
def test_rows_that_are_shared_wait_for_a_budget_like_others(seed: int) -> None:
    whole.test_with_a_budget_rows_wait_whole_and_not_too_long(Crowd(seed, 4))


class Pair:
    """Two clients, who see what a query finds, and what each owns."""

    def __init__(self, entities: int, owned: int = 0) -> None:
        self.kernel: KernelStore = new_store()
        self.kernel.begin()
        self.keys = self.kernel.reserve(0, entities)
        owners = np.zeros(entities, np.uint64)
        owners[:owned] = 1
        self.kernel.insert_many(0, self.keys, {0: owners})
        self.kernel.commit()
        self.tick = 0
        self.publish()
        rules = [Rule("query", (IDS["place"],)), Rule("owned")]
        self.audiences = Audiences(self.kernel, [Profile.of_role(SCHEMA, "player")], rules)
        self.handles = [self.audiences.open(0, owner=owner) for owner in (1, 2)]

    def publish(self) -> None:
        self.tick += 1
        self.kernel.publish(self.tick)

    def own(self, key: int, owner: int) -> None:
        self.kernel.begin()
        self.kernel.update(self.kernel.shape(0, (0,)), key, (owner,))
        self.kernel.commit()
        self.publish()

    def touch(self) -> None:
        """A version in which nothing is seen differently."""
        self.kernel.begin()
        self.kernel.spawn(0, [])
        self.kernel.commit()
        self.publish()

    def told(self, handle: int, base: int) -> int:
        """How many rows it is told of, since a base."""
        return self.audiences.delta(self.kernel.acquire(), handle, base).rows

    def seen(self, handle: int) -> list[int]:
        return [int(key) for key in self.audiences.visible(self.kernel.acquire(), handle, 0)]


def test_what_a_client_owns_stays_when_it_is_not_shared_any_more() -> None:
    """It was in sight all the time, so nothing is said of it; to others it has left."""
    pair = Pair(3, owned=1)
    mine, other = pair.handles
    first, second, third = (int(key) for key in pair.keys)
    pair.audiences.found(0, [first, second])
    pair.audiences.update(pair.kernel.acquire())
    base = pair.kernel.acquire().version
    assert pair.seen(mine) == pair.seen(other) == [first, second]

    pair.audiences.found(0, [second, third])
    pair.touch()
    pair.audiences.update(pair.kernel.acquire())

    assert pair.seen(mine) == [first, second, third]
    assert pair.seen(other) == [second, third]
    assert pair.told(mine, base) == 1, "who came"
    assert pair.told(other, base) == 2, "who came and who left"


def test_what_is_shared_stays_when_a_client_does_not_own_it_any_more() -> None:
    pair = Pair(2, owned=2)
    mine, other = pair.handles
    first, second = (int(key) for key in pair.keys)
    pair.audiences.found(0, [first])
    pair.audiences.update(pair.kernel.acquire())
    base = pair.kernel.acquire().version

    for key in (first, second):
        pair.own(key, 0)
    pair.audiences.update(pair.kernel.acquire())

    assert pair.seen(mine) == pair.seen(other) == [first]
    # The owner is a cell of its row: changed for whoever sees it.
    assert pair.told(mine, base) == 2
    assert pair.told(other, base) == 1


def test_a_client_may_be_asked_of_the_version_that_it_was_updated_to_while_others_go_on() -> None:
    """What they share is of a later version by then."""
    pair = Pair(4)
    slow, fast = pair.handles
    keys = [int(key) for key in pair.keys]
    pair.audiences.found(0, keys[:2])
    early = pair.kernel.acquire()
    pair.audiences.update(early)
    pair.audiences.found(0, keys[1:])
    pair.touch()
    pin = pair.kernel.acquire()

    pair.audiences.update(pin, np.array([fast], np.uint32))

    assert pair.audiences.visible(early, slow, 0).tolist() == keys[:2]
    assert pair.audiences.delta(early, slow, 0).rows == 2
    assert pair.audiences.visible(pin, fast, 0).tolist() == keys[1:]
    late = pair.audiences.open(0)
    pair.audiences.update(early, np.array([late], np.uint32))
    # What a query found is what it found last, whichever version is asked.
    assert pair.audiences.visible(early, late, 0).tolist() == keys[1:]
    pair.touch()
    pair.audiences.update(pair.kernel.acquire())
    assert pair.seen(slow) == pair.seen(fast) == pair.seen(late) == keys[1:]
    assert pair.told(slow, early.version) == 3, "one left, two came"
    assert pair.told(fast, pin.version) == pair.told(late, early.version) == 0


def test_too_much_that_came_and_went_is_forgotten_for_those_who_are_behind() -> None:
    """The log of what is shared is bounded: who needs what it has lost is told so, and the others are not."""
    pair = Pair(8000)
    behind, ahead = pair.handles
    pair.audiences.update(pair.kernel.acquire())
    base = pair.kernel.acquire().version
    for turn in range(4):
        pair.audiences.found(0, pair.keys if turn % 2 == 0 else [])
        pair.touch()
        last = pair.kernel.acquire().version
        pair.audiences.update(pair.kernel.acquire())
        assert pair.told(ahead, last - 1) == 8000
        pair.audiences.settle(ahead, last)

    with pytest.raises(HistoryGone):
        pair.told(behind, base)
    assert pair.told(behind, 0) == 0
    assert pair.told(ahead, last) == 0
    told = pair.audiences.deltas(
        pair.kernel.acquire(), np.array(pair.handles, np.uint32), np.array([base, last], np.uint64)
    )
    assert told.lengths.tolist() == [-1, 0]


def test_who_closes_takes_nothing_from_those_who_share_with_it() -> None:
    pair = Pair(20)
    gone, stays = pair.handles
    r = random.Random(3)
    keys = [int(key) for key in pair.keys]
    pair.audiences.update(pair.kernel.acquire())
    for _ in range(30):
        found = sorted(r.sample(keys, r.randrange(len(keys))))
        pair.audiences.found(0, found)
        pair.touch()
        if r.random() < 0.5:
            pair.audiences.close(gone)
            gone = pair.audiences.open(0)
        pair.audiences.update(pair.kernel.acquire())
        assert pair.seen(gone) == pair.seen(stays) == found
