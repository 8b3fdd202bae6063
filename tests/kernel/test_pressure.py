"""Views under pressure: limits, what is told of it, and that everything goes on meanwhile."""

import itertools
import sys

import pytest

from ecsnet._kernel import redo
from ecsnet._kernel.kernel import KernelStore
from ecsnet._kernel.pin import Pin
from ecsnet._kernel.pressure import Pressure
from ecsnet.errors import EcsnetError
from tests.kernel.model import SCHEMA, new_store

BODY = SCHEMA.table("body")
X = BODY.field("x").id


@pytest.fixture
def kernel() -> KernelStore:
    store = new_store()
    store.take_baton()
    store.begin()
    store.spawn(0, [(store.shape(BODY.id, (X,)), (0.0,))])
    store.commit()
    store.publish(0)
    return store


def write(kernel: KernelStore, x: float) -> None:
    kernel.begin()
    kernel.update(kernel.shape(BODY.id, (X,)), int(kernel.head_table(BODY.id).keys[0]), (x,))
    kernel.commit()


def fill(kernel: KernelStore, versions: int) -> list[Pin]:
    """Make versions that somebody holds, all of them."""
    held = []
    for x in range(versions):
        held.append(kernel.acquire())
        write(kernel, x + 1.0)
        kernel.publish(0)
    return held


@pytest.mark.parametrize(("slots", "buffers", "reason"), [(4, 24, "versions"), (64, 5, "buffers")])
def test_who_watches_is_told_when_it_begins_gets_twice_as_bad_and_is_over(
    kernel: KernelStore, slots: int, buffers: int, reason: str
) -> None:
    told: list[Pressure] = []
    kernel.on_pressure = told.append
    kernel.limit_views(slots, buffers)

    held = fill(kernel, 13)
    newest = max(pin.version for pin in held)
    while held:
        held.pop().release()
    kernel.catch_up()

    behind = kernel.head_version - newest
    assert [pressure.staleness for pressure in told[:-1]] == [2**n for n in range(len(told) - 1)]
    assert len(told) > 3
    assert told[-2].staleness <= behind < 2 * told[-2].staleness
    assert {pressure.reason for pressure in told[:-1]} == {reason}
    assert (told[-1].staleness, told[-1].reason) == (0, "")
    assert all(a.since_s <= b.since_s for a, b in itertools.pairwise(told))
    assert told[0].versions <= slots
    assert kernel.staleness == 0
    assert kernel.acquire().column(BODY.id, X).tolist() == [13.0]


def test_a_version_that_waits_for_the_disk_is_no_pressure(kernel: KernelStore) -> None:
    store = new_store()
    store.take_baton()
    redo.finish(store)
    told: list[Pressure] = []
    store.on_pressure = told.append
    for owner in range(1, 20):
        store.begin()
        store.spawn(owner, [(store.shape(BODY.id, (X,)), (0.0,))])
        store.commit()
        redo.seal(store, 0, True)
    assert store.staleness == 19
    redo.release(store, 19)

    assert told == []
    assert store.statistics().deferred == 0


def test_what_a_watcher_raises_undoes_nothing(kernel: KernelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: said.append(f"{what.err_msg}: {what.exc_value}"))

    def fail(_: Pressure) -> None:
        raise ValueError("too much")

    kernel.on_pressure = fail
    kernel.limit_views(3, 24)
    held = fill(kernel, 4)

    assert said[0] == "Exception ignored in on_pressure: too much"
    assert kernel.statistics().version == 5
    assert held


@pytest.mark.parametrize(("slots", "buffers"), [(2, 24), (65, 24), (64, 2)])
def test_limits_that_leave_no_room_to_publish_are_refused(kernel: KernelStore, slots: int, buffers: int) -> None:
    with pytest.raises(EcsnetError):
        kernel.limit_views(slots, buffers)
    held = fill(kernel, 20)

    assert kernel.staleness == 0
    assert len(held) == 20
