"""A DeltaSync taken in by one call: it does exactly what the ordinary way does, or nothing at all."""

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecsnet._kernel import frames
from ecsnet._kernel.kernel import KernelStore, Pin, TakenDelta
from ecsnet.errors import RemoteProtocolError
from ecsnet.wire import codec
from ecsnet.wire.messages import DeltaSync
from tests.kernel.model import Driver, assert_equal, new_store

SESSION, EPOCH = 0xFEED << 40 | 7, 3


def payload_of(driver: Driver, pin: Pin, since: int, **other: Any) -> bytes:
    """A DeltaSync of `(since, pin.version]`, as a node sends it; `other` changes its record."""
    digest = pin.digest()
    fields = {
        "session": SESSION,
        "epoch": EPOCH,
        "base": since,
        "version": pin.version,
        "tick": 100 + pin.version,
        "digest_low": int.from_bytes(digest[:8], "little"),
        "digest_high": int.from_bytes(digest[8:], "little"),
        "entity": 1 << 32 | 5,
        "command_ack": 9,
        "block": driver.kernel.delta(pin, since).block,
        **other,
    }
    frame = codec.encode(DeltaSync(**fields))
    return frame[8:]


def world(seed: int = 5) -> tuple[Driver, KernelStore, int]:
    """An authority, and a replica that holds a version some steps behind."""
    driver = Driver(seed, replicas=0, hold_share=0.0)
    driver.kernel.take_baton()
    driver.run(8)
    replica = new_store()
    replica.apply([driver.kernel.delta(driver.kernel.acquire(), 0).block], 0, driver.version, 0)
    held = driver.version
    driver.run(6)
    assert driver.version > held
    return driver, replica, held


def advance(driver: Driver) -> Pin:
    """The next version that has rows: an empty world's digest is what a frame without one has."""
    before = driver.version
    while driver.version == before or not driver.model.rows[0]:
        driver.run(1)
    return driver.kernel.acquire()


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_what_is_taken_in_is_what_the_ordinary_way_applies(seed: int, keeps: bool) -> None:
    """Given a replica that follows, when deltas from what it holds or from before come, then each makes the version."""
    driver, replica, held = world(seed)
    replica.keep_digest(keeps)
    r = random.Random(seed)
    for _ in range(25):
        driver.run(r.choice([0, 0, 2]))
        pin = advance(driver)
        base = held if r.random() < 0.6 else r.randint(max(1, held - 20), held)

        taken = replica.take_delta(payload_of(driver, pin, base), SESSION, EPOCH, held)

        assert taken == TakenDelta(base, pin.version, 100 + pin.version, 1 << 32 | 5, 9, 1, pin.version)
        theirs = replica.acquire()
        assert (theirs.version, theirs.tick) == (pin.version, 100 + pin.version)
        assert replica.head_version == replica.published_version == pin.version
        assert_equal(theirs, driver.history[pin.version])
        assert theirs.kept_digest() == theirs.digest()
        held = pin.version


def test_a_digest_is_kept_where_it_is_compared_and_nowhere_else() -> None:
    """Given a store that does not keep all, when some deltas are compared and others not, then each is right."""
    driver, replica, held = world()
    replica.keep_digest(False)
    for step in range(12):
        pin = advance(driver)
        compared = step % 4 != 0
        taken = replica.take_delta(payload_of(driver, pin, held), SESSION, EPOCH, held, compared)
        assert taken is not None
        held = taken.version
        assert taken.digest_state == int(compared)
        assert replica.acquire().kept_digest() == (pin.digest() if compared else None)


def test_a_digest_that_differs_is_told_and_one_that_is_not_wanted_or_not_there_is_not_compared() -> None:
    driver, replica, held = world()
    states = []
    for other, check in (({"digest_low": 1}, True), ({"digest_high": 1}, True), ({"digest_low": 1}, False)):
        pin = advance(driver)
        taken = replica.take_delta(payload_of(driver, pin, held, **other), SESSION, EPOCH, held, check)
        assert taken is not None
        states.append(taken.digest_state)
        held = taken.version
    pin = advance(driver)
    none = payload_of(driver, pin, held, digest_low=0, digest_high=0)
    taken = replica.take_delta(none, SESSION, EPOCH, held)
    assert taken is not None
    assert [*states, taken.digest_state] == [2, 2, 0, 0]
    assert replica.acquire().digest() == pin.digest()


def test_a_replica_that_has_diverged_finds_it_by_the_kept_digest() -> None:
    """Given a replica with one cell that is not the authority's, when a later delta comes, then the digests differ."""
    driver, replica, held = world()
    replica.take_baton()
    replica.begin()
    row = replica.head_table(0).keys.tolist()[0]
    replica.update(replica.shape(0, (0,)), row, (replica.read_cell(0, 0, row) + 1000,))
    replica.commit()
    replica.release_baton()
    pin = advance(driver)

    taken = replica.take_delta(payload_of(driver, pin, held), SESSION, EPOCH, held)

    assert taken is not None
    assert taken.digest_state == (1 if replica.acquire().digest() == pin.digest() else 2)
    assert replica.acquire().kept_digest() == replica.acquire().digest()


@pytest.mark.parametrize(
    "other",
    [
        {"session": SESSION + 1},
        {"epoch": EPOCH + 1},
        {"parts": 2},
        {"parts": 2, "part": 1},
        {"flags": 1},
        {"clock": ((1, 2),)},
    ],
)
def test_what_is_not_plain_is_left_to_the_ordinary_way(other: dict[str, Any]) -> None:
    driver, replica, held = world()
    pin = driver.kernel.acquire()
    assert_left_alone(replica, lambda: replica.take_delta(payload_of(driver, pin, held, **other), SESSION, EPOCH, held))
    assert replica.take_delta(payload_of(driver, pin, held), SESSION, EPOCH, held) is not None


def test_full_syncs_duplicates_and_what_is_from_ahead_are_left_to_the_ordinary_way() -> None:
    driver, replica, held = world()
    pin = driver.kernel.acquire()
    whole, next_one = payload_of(driver, pin, 0), payload_of(driver, pin, held)
    assert_left_alone(replica, lambda: replica.take_delta(whole, SESSION, EPOCH, held))
    ahead = payload_of(driver, pin, held, base=held + 1, version=held + 2)
    assert_left_alone(replica, lambda: replica.take_delta(ahead, SESSION, EPOCH, held))
    # A caller that is wrong about what is held is not believed.
    assert_left_alone(replica, lambda: replica.take_delta(next_one, SESSION, EPOCH, held - 1))
    assert_left_alone(replica, lambda: replica.take_delta(next_one, SESSION, EPOCH, pin.version))

    assert replica.take_delta(next_one, SESSION, EPOCH, held) is not None
    assert_left_alone(replica, lambda: replica.take_delta(next_one, SESSION, EPOCH, pin.version))


def test_while_somebody_writes_and_after_closing_nothing_is_taken() -> None:
    driver, replica, held = world()
    payload = payload_of(driver, driver.kernel.acquire(), held)
    replica.take_baton()
    assert_left_alone(replica, lambda: replica.take_delta(payload, SESSION, EPOCH, held))
    replica.release_baton()
    pin = replica.acquire()
    replica.close()
    assert replica.take_delta(payload, SESSION, EPOCH, held) is None
    assert pin.version == held


def test_held_views_put_the_publication_off_and_the_digest_is_not_compared() -> None:
    """Given as many held versions as there may be, when one more is taken in, then it counts and is seen later."""
    driver, replica, held = world()
    pins = []
    while True:
        pin = advance(driver)
        taken = replica.take_delta(payload_of(driver, pin, held), SESSION, EPOCH, held)
        assert taken is not None
        held = taken.version
        pins.append(replica.acquire())
        if replica.published_version < held:
            break
        assert taken.digest_state == 1
    assert taken.digest_state == 0

    for pin in pins:
        pin.release()
    replica.take_baton()
    replica.catch_up()
    replica.release_baton()

    late = replica.acquire()
    assert late.version == held
    assert late.kept_digest() == late.digest() == driver.kernel.acquire().digest()


DRIVER, _, HELD = world()
PAYLOAD = payload_of(DRIVER, DRIVER.kernel.acquire(), HELD)
FULL = DRIVER.kernel.delta(DRIVER.kernel.acquire(), 0).block
BEHIND = Driver(5, replicas=0, hold_share=0.0)
BEHIND.kernel.take_baton()
BEHIND.run(8)
START = BEHIND.kernel.delta(BEHIND.kernel.acquire(), 0).block


def ordinary(replica: KernelStore, payload: bytes) -> None:
    """What a replica's session does with a payload, in Python."""
    delta = codec.decode_untrusted(frames.DELTA_SYNC, payload)
    assert isinstance(delta, DeltaSync)
    if (delta.session, delta.epoch) != (SESSION, EPOCH) or delta.part or delta.parts > 1 or delta.flags or delta.clock:
        raise RemoteProtocolError("not plain")
    if delta.base == 0 or not delta.base <= HELD < delta.version:
        raise RemoteProtocolError("not the next")
    replica.apply([delta.block], delta.base, delta.version, delta.tick)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_mutated_frame_is_taken_exactly_when_the_ordinary_way_takes_it(data: st.DataObject) -> None:
    payload = bytearray(PAYLOAD)
    for _ in range(data.draw(st.integers(0, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.integers(0, 9)) == 0:
        del payload[data.draw(st.integers(0, len(payload))) :]
    fused, plain = new_store(), new_store()
    for store in (fused, plain):
        store.apply([START], 0, HELD, 0)
    try:
        ordinary(plain, bytes(payload))
        takes = True
    except RemoteProtocolError:
        takes = False

    if takes:
        taken = fused.take_delta(bytes(payload), SESSION, EPOCH, HELD)
        assert taken is not None
        ours = fused.acquire()
        assert ours.digest() == ours.kept_digest() == plain.acquire().digest()
        assert (ours.version, ours.tick) == (plain.acquire().version, plain.acquire().tick)
    else:
        assert_left_alone(fused, lambda: fused.take_delta(bytes(payload), SESSION, EPOCH, HELD))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_no_delta(noise: bytes) -> None:
    replica = new_store()
    assert replica.take_delta(noise, SESSION, EPOCH, 0) is None


def test_replicas_on_two_threads_take_in_at_the_same_time() -> None:
    """Given a replica for each thread, when both follow, then neither gets the other's numbers."""
    driver, first, held = world()
    second = new_store()
    second.apply([driver.kernel.delta(driver.kernel.acquire(), 0).block], 0, driver.version, 0)
    middle = driver.version
    payloads: dict[str, list[bytes]] = {"first": [], "second": []}
    at, other = held, middle
    for _ in range(40):
        pin = advance(driver)
        payloads["first"].append(payload_of(driver, pin, at, entity=1))
        payloads["second"].append(payload_of(driver, pin, other, entity=2))
        at = other = pin.version
    wrong: list[object] = []

    def follow(store: KernelStore, name: str, start: int, entity: int) -> None:
        version = start
        for payload in payloads[name]:
            taken = store.take_delta(payload, SESSION, EPOCH, version)
            if taken is None or taken.entity != entity or taken.digest_state != 1:
                wrong.append((name, taken))
                return
            version = taken.version

    threads = [
        threading.Thread(target=follow, args=(first, "first", held, 1)),
        threading.Thread(target=follow, args=(second, "second", middle, 2)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert first.acquire().digest() == second.acquire().digest() == driver.kernel.acquire().digest()


def assert_left_alone(replica: KernelStore, call: Callable[[], TakenDelta | None]) -> None:
    """It gives None and leaves rows, version and digest as they were."""
    before = replica.acquire()
    digest, version = before.digest(), before.version
    assert call() is None
    after = replica.acquire()
    assert (after.version, after.digest(), after.kept_digest()) == (version, digest, before.kept_digest())
    assert replica.head_version == version
