"""What changed is known beyond the newest versions: coarser the older it is, and over a restart since the snapshot."""

import random
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecsnet._kernel.kernel import HistoryGone
from ecsnet.authority import Authority
from ecsnet.errors import ArgumentError
from ecsnet.limits import RETAIN_BYTES_DEFAULT, RETAIN_VERSIONS_DEFAULT
from ecsnet.schema import Schema
from ecsnet.store import Store
from tests.arena import arena, arena_schema

RING = 256
"""Versions of which the changes are always known."""


class Follower:
    """A replica that holds some version, and catches up by one delta."""

    def __init__(self, schema: Schema) -> None:
        self.store = Store(schema)
        self.version = 0

    def catch_up(self, store: Store) -> None:
        """By what changed since the version that is held: equal then, to the bit.

        Raises:
            HistoryGone: the store does not know any more. Nothing has happened.
        """
        pin = store.kernel.acquire()
        try:
            delta = store.kernel.delta(pin, self.version)
            if pin.version > self.version:
                self.store.kernel.apply([delta.block], self.version, pin.version, pin.tick)
            self.version = pin.version
            with self.store.view() as ours:
                assert ours.digest() == pin.digest().hex()
        finally:
            pin.release()


class Churn:
    """Entities that come, move and go."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.random = random.Random(seed)
        with store.view() as view:
            self.alive = view["transform"].key.tolist()

    def step(self, versions: int = 1) -> None:
        for _ in range(versions):
            with self.store.transaction() as tx:
                for _ in range(self.random.randrange(3)):
                    self.alive.append(tx.spawn(transform={"x": self.random.random()}, health={}))
                if self.alive:
                    tx[self.random.choice(self.alive), "transform.y"] = self.random.random()
                if len(self.alive) > 30:
                    tx.despawn(self.alive.pop(self.random.randrange(len(self.alive))))


def test_a_store_that_is_told_to_remembers_far_more_than_the_ring() -> None:
    with Store(arena_schema(), retain_versions=1000) as store:
        churn = Churn(store, 1)
        churn.step(20)
        follower = Follower(store.schema)
        for lag in (1, RING - 1, RING + 1, 400, 990):
            follower.catch_up(store)
            churn.step(lag)
        follower.catch_up(store)
        statistics = store.statistics()
        assert statistics.history_sets > 10
        assert 0 < statistics.history_bytes < RETAIN_BYTES_DEFAULT
        assert statistics.oldest_base <= store.version - 1000


def test_one_that_is_not_told_remembers_the_ring_alone() -> None:
    with Store(arena_schema()) as store:
        churn = Churn(store, 1)
        churn.step(20)
        follower = Follower(store.schema)
        follower.catch_up(store)
        churn.step(RING)
        follower.catch_up(store)
        churn.step(RING + 1)
        with pytest.raises(HistoryGone):
            follower.catch_up(store)
        assert store.statistics().history_sets == 0
        assert store.statistics().oldest_base == store.version - RING


def test_an_authority_has_its_store_remember_unless_that_was_told_otherwise() -> None:
    world = arena()
    for told, kept in (({}, True), ({"retain_versions": 0}, False), ({"retain_bytes": 0}, False)):
        with Store(world.schema, **told) as store:
            authority = Authority(world, store)
            Churn(store, 3).step(2 * RING)
            assert (store.statistics().history_sets > 0) == kept
            authority.close()
    assert RETAIN_VERSIONS_DEFAULT > 10 * RING


@pytest.mark.parametrize("bad", [-1, True, 1.5, "many", 1 << 63])
@pytest.mark.parametrize("name", ["retain_versions", "retain_bytes"])
def test_bounds_are_numbers(name: str, bad: object) -> None:
    arguments: dict[str, Any] = {name: bad}
    with pytest.raises(ArgumentError, match=name):
        Store(arena_schema(), **arguments)


def test_views_that_are_held_on_other_threads_cut_right_deltas_while_sets_are_merged() -> None:
    """Each reader keeps followers of its own, and cuts from views that grow old while the writer goes on."""
    with Store(arena_schema(), retain_versions=400) as store:
        churn = Churn(store, 2)
        churn.step(RING + 100)
        failures: list[BaseException] = []
        caught_up: list[int] = []
        stop = threading.Event()
        encoding = threading.Lock()  # a store has one encoder

        def read(seed: int) -> None:
            chance = random.Random(seed)
            follower = Follower(store.schema)
            try:
                while not stop.is_set():
                    pin = store.kernel.acquire()
                    base = max(0, pin.version - chance.randrange(1, 600))
                    try:
                        pin.touched(base)
                    except HistoryGone:
                        assert base < pin.version - 400 or base == 0
                    pin.release()
                    if chance.random() < 0.1:
                        try:
                            with encoding:
                                follower.catch_up(store)
                        except HistoryGone:
                            follower = Follower(store.schema)
                        else:
                            caught_up.append(follower.version)
            except BaseException as error:  # noqa: BLE001  (shown by the main thread)
                failures.append(error)

        readers = [threading.Thread(target=read, args=(seed,)) for seed in range(2)]
        for reader in readers:
            reader.start()
        churn.step(1500)
        stop.set()
        for reader in readers:
            reader.join()
        assert failures == []
        assert caught_up


@pytest.mark.parametrize("snapshot_at", [None, 12])
@pytest.mark.parametrize("closed", [True, False])
def test_a_store_that_is_opened_again_knows_what_changed_since_its_snapshot(
    tmp_path: Path, snapshot_at: int | None, closed: bool
) -> None:
    schema = arena_schema()
    followers: dict[int, Follower] = {}
    with Store(schema, data=tmp_path / "db", durability="relaxed") as store:
        churn = Churn(store, 5)
        for version in range(1, 31):
            churn.step()
            assert store.version == version
            followers[version] = Follower(schema)
            followers[version].catch_up(store)
            if version == snapshot_at:
                store.snapshot()
        store.sync()
        if not closed:
            # As a process that is killed leaves it.
            copied = tmp_path / "copy"
            copied.mkdir()
            _copy(tmp_path / "db", copied)
    with Store(schema, data=tmp_path / ("db" if closed else "copy")) as store:
        assert store.version == 30
        Churn(store, 6).step(3)
        oldest = store.statistics().oldest_base
        # A store that is closed makes a snapshot only where that pays; then nothing before it is known.
        assert oldest in (0, snapshot_at, 30)
        for version, follower in followers.items():
            if version < oldest:
                with pytest.raises(HistoryGone):
                    follower.catch_up(store)
            else:
                follower.catch_up(store)


def _copy(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        if path.name in ("LOCK", "control"):
            continue
        into = target / path.relative_to(source)
        if path.is_dir():
            into.mkdir(parents=True, exist_ok=True)
        elif path.is_file():
            into.parent.mkdir(parents=True, exist_ok=True)
            into.write_bytes(path.read_bytes())


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    retain=st.integers(0, 1500),
    lags=st.lists(st.integers(1, 900), min_size=1, max_size=4),
)
def test_whatever_is_served_is_right_and_what_was_promised_is_served(seed: int, retain: int, lags: list[int]) -> None:
    with Store(arena_schema(), retain_versions=retain) as store:
        churn = Churn(store, seed)
        churn.step(3)
        follower = Follower(store.schema)
        follower.catch_up(store)
        for lag in lags:
            churn.step(lag)
            try:
                follower.catch_up(store)
            except HistoryGone:
                assert lag > max(retain, RING)
                follower = Follower(store.schema)
                follower.catch_up(store)
