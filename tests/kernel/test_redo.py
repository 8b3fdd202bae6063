"""The log's end of the kernel against a store in plain Python: bodies, held versions, stores made from a log."""

import pytest

from ecsnet._kernel import redo
from ecsnet._kernel.kernel import KernelStore
from ecsnet.errors import ConstraintError, EcsnetError
from tests.kernel.model import SCHEMA, Driver, Model, assert_equal, new_store


class LoggedDriver(Driver):
    """Keeps each version's body; versions are held by choice, and become safe some time later."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.kernel.take_baton()
        redo.finish(self.kernel)
        self.bodies: list[bytes] = []
        self.bounds = 0
        self.safe = 0
        self.demanded = 0
        self.held_back = 0
        self.keys: dict[int, int] = {}

    def transaction(self) -> None:
        commit = self.kernel.commit

        def bounded() -> None:
            self.bounds += redo.bound(self.kernel)
            commit()
            assert len(redo.encode(self.kernel)) <= self.bounds

        self.kernel.commit = bounded  # type: ignore[method-assign]
        super().transaction()
        self.kernel.commit = commit  # type: ignore[method-assign]
        for key in self.model.rows[0]:
            self.keys.setdefault(key, self.version + 1)

    def publish(self) -> None:
        kernel = self.kernel
        body = redo.encode(kernel)
        hold = self.random.random() < 0.5
        made = redo.seal(kernel, self.version, hold)
        if made is not None:
            self.version = made
            self.bodies.append(body)
            self.bounds = 0
            if hold:
                self.demanded = made
        self.history[self.version] = self.model.copy()
        if self.random.random() < 0.4:
            self.safe = self.random.randint(self.safe, self.version)
            redo.release(kernel, self.safe)
        self.held_back = max(self.held_back, kernel.staleness)
        with self.kernel_pin() as pin:
            assert pin.version <= self.safe or not self.safe < self.demanded <= pin.version
            assert_equal(pin, self.history[pin.version])
            assert pin.kept_digest() in (None, pin.digest())

    def recovered(self, versions: int) -> KernelStore:
        other = new_store()
        other.take_baton()
        for version, body in enumerate(self.bodies[:versions], 1):
            redo.replay(other, version, 0, body)
        redo.finish(other)
        pin = other.acquire()
        assert pin.version == versions
        assert_equal(pin, self.history[versions])
        return other


@pytest.mark.parametrize("seed", range(6))
def test_every_prefix_of_the_log_is_the_version_it_ends_with(seed: int) -> None:
    driver = LoggedDriver(seed)
    driver.run(50)
    redo.release(driver.kernel, driver.version)
    driver.kernel.catch_up()

    assert driver.held_back > 2, "some versions waited for others"
    assert driver.kernel.published_version == driver.version
    for versions in (0, 1, driver.version // 2, driver.version):
        other = driver.recovered(versions)
        other.begin()
        fresh = other.reserve(0, 400).tolist()
        other.rollback()
        assert not [key for key in fresh if driver.keys.get(key, versions + 1) <= versions], "a key came back"


def test_a_body_is_no_longer_than_was_said_of_its_transactions() -> None:
    """Room for a version is promised before its transactions are kept, so a full disk can refuse them in time."""
    driver = LoggedDriver(40)
    for _ in range(150):
        driver.transaction()
        if driver.random.random() < 0.4:
            driver.publish()
    assert driver.version > 30


def test_a_log_goes_on_in_the_store_that_was_made_from_it() -> None:
    driver = LoggedDriver(7)
    driver.run(20)
    driver.kernel.release_baton()
    driver.kernel, driver.replicas = driver.recovered(driver.version), []
    driver.safe = driver.demanded = driver.version
    driver.run(20)

    driver.recovered(driver.version)


def test_a_damaged_body_is_refused_and_the_right_one_is_still_taken() -> None:
    driver = LoggedDriver(2)
    driver.run(12)
    other = new_store()
    other.take_baton()
    *before, body = driver.bodies
    for version, earlier in enumerate(before, 1):
        redo.replay(other, version, 0, earlier)
    for wrong in (b"", body[:-1], body + b"\0", b"\xff" * len(body)):
        with pytest.raises(EcsnetError):
            redo.replay(other, driver.version, 0, wrong)
    with pytest.raises(EcsnetError):
        redo.replay(other, driver.version + 1, 0, body)
    redo.replay(other, driver.version, 0, body)
    redo.finish(other)

    assert_equal(other.acquire(), driver.history[driver.version])


def test_readers_see_nothing_that_waits_and_followers_are_told_nothing_of_it() -> None:
    kernel = new_store()
    kernel.take_baton()
    redo.finish(kernel)
    told: list[int] = []
    kernel.on_version = lambda store: told.append(store.published_version)
    model = Model()
    driver = Driver(1, replicas=0)
    driver.kernel, driver.model = kernel, model
    for version in range(1, 5):
        while True:
            try:
                driver.transaction()
            except ConstraintError:
                continue
            if redo.seal(kernel, 0, version < 3) == version:
                break
    assert kernel.published_version == 0

    assert redo.release(kernel, 1) == 1, "what was made after it waits in turn: one of it has to be safe"
    assert kernel.head_version == 4
    assert redo.release(kernel, 2) == 4
    assert_equal(kernel.acquire(), driver.model)


def test_a_logged_store_makes_no_version_that_the_log_does_not_know() -> None:
    kernel = new_store()
    kernel.take_baton()
    redo.finish(kernel)
    kernel.begin()
    shape = kernel.shape(SCHEMA.table("frozen").id, ())
    kernel.spawn(0, [(shape, ())])
    kernel.commit()

    with pytest.raises(EcsnetError):
        kernel.publish(0)
    assert redo.seal(kernel, 0, False) == 1
