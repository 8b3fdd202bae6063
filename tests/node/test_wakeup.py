"""Waking a loop from other threads."""

import select
import threading

import pytest
import trio

from ecsnet.node.wakeup import Wakeup


def _is_readable(wakeup: Wakeup) -> bool:
    return bool(select.select([wakeup.socket], [], [], 0)[0])


def test_a_set_is_seen_until_it_is_cleared() -> None:
    wakeup = Wakeup()
    assert not _is_readable(wakeup)

    wakeup.set()
    assert _is_readable(wakeup)

    wakeup.clear()
    assert not _is_readable(wakeup)
    wakeup.close()


def test_any_number_of_sets_neither_blocks_nor_is_seen_twice() -> None:
    """A game that sends a thousand commands between two looks of the network must not stall."""
    wakeup = Wakeup()

    for _ in range(200_000):
        wakeup.set()
    wakeup.clear()

    assert not _is_readable(wakeup)
    wakeup.close()


def test_a_set_after_close_does_nothing() -> None:
    """The loop may end while another thread is about to wake it."""
    wakeup = Wakeup()
    wakeup.close()

    wakeup.set()
    wakeup.close()


@pytest.mark.parametrize("count", [1, 4])
async def test_threads_wake_a_trio_task(count: int) -> None:
    wakeup = Wakeup()
    threads = [threading.Thread(target=wakeup.set) for _ in range(count)]
    for thread in threads:
        thread.start()

    with trio.fail_after(30):
        await trio.lowlevel.wait_readable(wakeup.socket)
    for thread in threads:
        thread.join()
    wakeup.clear()

    assert not _is_readable(wakeup)
    wakeup.close()
