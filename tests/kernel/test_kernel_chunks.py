"""Chunked syncs while the authority goes on: each chunk is cut from a newer view than the one before it."""

import random

import pytest

from ecsnet._kernel.kernel import HistoryGone, KernelStore
from tests.kernel.model import Driver, assert_equal, new_store


def sync(driver: Driver, replica: KernelStore, base: int, budget: int, versions: int) -> int:
    """Chunks over some versions, then the delta that closes them. Returns how many chunks."""
    kernel = driver.kernel
    first, cursor, blocks = None, None, []
    while True:
        pin = kernel.acquire()
        first = pin.version if first is None else first
        part = kernel.delta(pin, base, cursor, budget)
        blocks.append(part.block)
        pin.release()
        cursor = part.cursor
        if cursor is None:
            break
        # The world grows, so a sync of small chunks would never come to its end.
        if len(blocks) <= versions:
            driver.transaction()
            driver.publish()
    driver.transaction()
    driver.publish()
    closing = kernel.acquire()
    blocks.append(kernel.delta(closing, first).block)
    if base == closing.version:
        return 0  # every transaction was refused: there is nothing to say
    replica.apply(blocks, base, closing.version, 0)
    theirs = replica.acquire()
    assert_equal(theirs, driver.history[closing.version])
    assert theirs.digest() == closing.digest()
    return len(blocks) - 1


@pytest.mark.parametrize("seed", range(12))
def test_chunks_of_newer_and_newer_views_and_their_closing_delta_make_one_version(seed: int) -> None:
    """Entities come, go and are replaced at their indices between one chunk and the next, and so do their rows."""
    driver = Driver(seed, replicas=0)
    driver.kernel.take_baton()
    driver.run(8)
    r = random.Random(seed)
    replica, held = new_store(), 0
    chunks = 0
    for _ in range(4):
        base = r.choice([0, held])
        chunks += sync(driver, replica, base, r.choice([40, 90, 400]), r.choice([2, 10, 25]))
        held = driver.version
        driver.run(r.choice([0, 4]))
    assert chunks > 4


def test_a_sync_that_takes_longer_than_the_history_says_so() -> None:
    """A view that is held keeps the change sets it was published with; a newer one no longer has them."""
    kernel = new_store()
    kernel.take_baton()
    shape = kernel.shape(0, (0,))
    kernel.begin()
    key = kernel.spawn(0, [])
    kernel.commit()
    kernel.publish(0)
    old = None
    for owner in range(1, 320):
        kernel.begin()
        kernel.update(shape, key, (owner,))
        kernel.commit()
        kernel.publish(0)
        if owner == 9:
            old = kernel.acquire()
            before = kernel.delta(old, 5).block

    assert old is not None
    assert kernel.delta(old, 5).block == before
    newest = kernel.acquire()
    assert kernel.delta(newest, newest.version - 256).rows == 1
    with pytest.raises(HistoryGone):
        kernel.delta(newest, newest.version - 257)
