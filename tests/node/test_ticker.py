"""The pace of a node, in virtual time."""

import pytest
import trio
import trio.testing

from ecsnet.node.ticker import SleepTicker


async def test_ticks_are_due_at_multiples_of_the_period_from_the_start(autojump_clock: trio.testing.MockClock) -> None:
    """Deadlines are absolute: the time that a tick takes does not move the ones after it."""
    start = trio.current_time()
    ticker = SleepTicker(10)

    ran = []
    for _ in range(5):
        assert await ticker.wait_next() == 0
        ran.append(trio.current_time() - start)
        await trio.sleep(0.07)

    assert ran == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


async def test_a_tick_that_is_late_by_less_than_its_period_still_runs(autojump_clock: trio.testing.MockClock) -> None:
    """One hiccup costs lateness, not a tick."""
    start = trio.current_time()
    ticker = SleepTicker(10)

    await ticker.wait_next()
    await trio.sleep(0.15)
    dropped = await ticker.wait_next()

    assert dropped == 0
    assert trio.current_time() - start == pytest.approx(0.25)
    assert await ticker.wait_next() == 0
    assert trio.current_time() - start == pytest.approx(0.3), "and the next one is in time again"


async def test_ticks_whose_period_is_over_are_dropped_whole_and_counted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Making up for them would make an overloaded node slower still."""
    start = trio.current_time()
    ticker = SleepTicker(10)

    await ticker.wait_next()
    await trio.sleep(0.47)
    dropped = await ticker.wait_next()

    assert dropped == 3, "those due at 0.2, 0.3 and 0.4; the one of 0.5 is late and runs"
    assert trio.current_time() - start == pytest.approx(0.57)


async def test_an_overloaded_node_still_lets_other_tasks_run() -> None:
    """`wait_next` is a checkpoint even when the tick is due already."""
    ticker = SleepTicker(1000)
    ran = trio.Event()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_set, ran)
        while not ran.is_set():
            await ticker.wait_next()
        await ticker.wait_next()


async def _set(event: trio.Event) -> None:
    event.set()
