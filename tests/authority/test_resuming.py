"""From where a session goes on: a version of this history, and one whose changes are kept."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecsnet._kernel.pin import Pin
from ecsnet.authority.event_log import EventLog
from ecsnet.authority.resuming import going_on
from ecsnet.ids import Epoch, Tick, Version
from ecsnet.store import Store
from tests.arena import arena_schema

EPOCH = 7


@pytest.fixture
def head() -> Iterator[Pin]:
    """Version 10 of a store."""
    with Store(arena_schema()) as store:
        for _ in range(10):
            with store.transaction() as tx:
                tx.spawn(transform={})
        assert store.version == 10
        pin = store.kernel.acquire()
        yield pin
        pin.release()


def test_a_version_of_this_history_is_gone_on_from(head: Pin) -> None:
    for version in range(1, 11):
        assert going_on((EPOCH, version), EPOCH, (), head, None) == (version, version)


@pytest.mark.parametrize("held", [(EPOCH, 0), (EPOCH, 11), (EPOCH, 1 << 63), (8, 5), (0, 5), (0, 0)])
def test_any_other_begins_anew(head: Pin, held: tuple[int, int]) -> None:
    assert going_on(held, EPOCH, (), head, None) == (0, 0)


def test_rows_of_events_are_told_from_where_all_of_them_are_kept(head: Pin) -> None:
    log = EventLog(Epoch(EPOCH), Version(4))
    log.add(Version(6), Tick(6), [b"x"])
    log.take_in()
    assert going_on((EPOCH, 3), EPOCH, (), head, log) == (3, 4)
    assert going_on((EPOCH, 4), EPOCH, (), head, log) == (4, 4)
    assert going_on((EPOCH, 9), EPOCH, (), head, log) == (9, 9)
    assert log.end_of(Version(4)) == 0


# Each life of a node makes some versions, and loses some of the newest.
LIVES = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), max_size=4)


@given(lives=LIVES, held=st.tuples(st.integers(1, 6), st.integers(0, 12)))
def test_what_is_gone_on_from_is_what_both_histories_have(lives: list[tuple[int, int]], held: tuple[int, int]) -> None:
    """A history is told by who made each of its versions; the ancestors are noted as a store on disk does."""
    history: list[int] = []
    seen: dict[tuple[int, int], list[int]] = {}
    ancestors: list[tuple[int, int]] = []
    epoch = 1
    for made, lost in lives:
        history += [epoch] * made
        for version in range(len(history) + 1):
            seen.setdefault((epoch, version), history[:version])
        history = history[: max(0, len(history) - lost)]
        ancestors.append((epoch, len(history)))
        epoch += 1
    with Store(arena_schema()) as store:
        for _ in range(len(history)):
            with store.transaction() as tx:
                tx.spawn(transform={})
        pin = store.kernel.acquire()
        base = going_on(held, epoch, ancestors, pin, None).base
        pin.release()
    theirs = seen.get(held)
    if held[0] == epoch:
        theirs = history[: held[1]] if held[1] <= len(history) else None
    is_shared = theirs is not None and history[: len(theirs)] == theirs
    assert base == (held[1] if is_shared else 0)
