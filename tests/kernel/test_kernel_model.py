"""The kernel against a store in plain Python: random transactions, held views, replicas that lag."""

import pytest

from tests.kernel.model import Driver, assert_equal


@pytest.mark.parametrize("seed", range(12))
def test_the_kernel_equals_a_model_through_commits_rollbacks_views_and_replicas(seed: int) -> None:
    driver = Driver(seed)
    driver.kernel.take_baton()
    driver.run(60)
    assert driver.version > 20
    assert any(held > 0 for _, held in driver.replicas)


def test_held_views_defer_publication_and_commits_go_on() -> None:
    """Readers never stop the writer: what cannot be published yet is published with a later version."""
    driver = Driver(3, hold_share=1.0)
    kernel = driver.kernel
    kernel.take_baton()
    for _ in range(90):
        driver.transaction()
        driver.publish()
        driver.hold()
    assert kernel.staleness > 0
    assert kernel.statistics().deferred > 0

    for pin, model in driver.held:
        assert_equal(pin, model)
        pin.release()
    driver.held.clear()
    kernel.catch_up()

    assert kernel.staleness == 0
    assert_equal(kernel.acquire(), driver.model)
    driver.run(30)
