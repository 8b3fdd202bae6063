"""Blocks that came from anywhere: a replica applies them whole, or changes nothing."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecsnet._kernel.kernel import KernelStore
from ecsnet.errors import RemoteProtocolError
from tests.kernel.model import Driver, new_store


def world() -> tuple[Driver, KernelStore, int, bytes]:
    """An authority, a replica some versions behind, and the delta between them."""
    driver = Driver(5, replicas=0)
    driver.kernel.take_baton()
    driver.run(8)
    replica = new_store()
    replica.apply([driver.kernel.delta(driver.kernel.acquire(), 0).block], 0, driver.version, 0)
    base = driver.version
    driver.run(6)
    return driver, replica, base, driver.kernel.delta(driver.kernel.acquire(), base).block


DRIVER, REPLICA, BASE, BLOCK = world()
UNCHANGED = REPLICA.acquire().digest()


def offer(replica: KernelStore, block: bytes) -> bool:
    """Whether the replica took it. If not, it must be as it was, and still take the true block."""
    before = replica.acquire().digest()
    try:
        replica.apply([block], BASE, DRIVER.version, 0)
    except RemoteProtocolError:
        assert replica.acquire().digest() == before
        return False
    # What was undone and what was applied since the last version are both in the marks that the digest follows.
    after = replica.acquire()
    assert after.kept_digest() == after.digest()
    return True


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 20, len(BLOCK) // 2, len(BLOCK) - 1])
def test_a_truncated_block_changes_nothing(cut: int) -> None:
    assert not offer(REPLICA, BLOCK[:cut])
    assert REPLICA.acquire().digest() == UNCHANGED


def test_bytes_after_a_block_are_refused() -> None:
    assert not offer(REPLICA, BLOCK + b"\0")


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_mutated_block_is_applied_whole_or_changes_nothing(data: st.DataObject) -> None:
    block = bytearray(BLOCK)
    for _ in range(data.draw(st.integers(1, 4))):
        block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    replica = new_store()
    replica.apply([DRIVER.kernel.delta(DRIVER.kernel.acquire(), 0).block], 0, BASE, 0)
    offer(replica, bytes(block))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_no_block(noise: bytes) -> None:
    assert not offer(REPLICA, b"\x02\x00" + noise)
    assert not offer(REPLICA, noise)


def test_the_true_block_still_applies_after_all_that_was_refused() -> None:
    noise = random.Random(1)
    for _ in range(200):
        offer(REPLICA, noise.randbytes(64))
    REPLICA.apply([BLOCK], BASE, DRIVER.version, 0)
    theirs = REPLICA.acquire()
    assert theirs.digest() == theirs.kept_digest() == DRIVER.kernel.acquire().digest()


def test_a_block_that_was_applied_is_a_duplicate_and_one_from_ahead_is_refused() -> None:
    replica = new_store()
    full = DRIVER.kernel.delta(DRIVER.kernel.acquire(), 0).block
    replica.apply([full], 0, DRIVER.version, 0)
    with pytest.raises(RemoteProtocolError, match="held already"):
        replica.apply([BLOCK], BASE, DRIVER.version, 0)
    with pytest.raises(RemoteProtocolError, match="ahead"):
        new_store().apply([BLOCK], BASE, DRIVER.version, 0)
