"""Waiting for a store under Trio: whatever blocks a thread elsewhere lets other tasks run here.

The one module of the store that knows Trio, imported when somebody first waits. What is waited for happens on any
thread; it is told to Trio through its token, which is made for that.
"""

import threading
from collections.abc import Callable

import trio

from ecsnet.errors import BusyError, LocalProtocolError
from ecsnet.store.baton import Baton

__all__ = ["done_by_thread", "taken", "woken"]


async def done_by_thread(work: Callable[[], None]) -> None:
    """Do what blocks on a disk on another thread, while other tasks run."""
    _token()
    await trio.to_thread.run_sync(work)


async def woken(register: Callable[[Callable[[], None]], Callable[[], None]], timeout_s: float | None) -> bool:
    """Wait until it is woken, for `timeout_s` at most (None: without end). Returns whether it was.

    Args:
        register: takes the function that wakes, which may be called at once, on any thread, often and late; returns how
            to end it, which is called in any case.
    """
    token = _token()
    event = trio.Event()

    def wake() -> None:
        try:
            token.run_sync_soon(event.set, idempotent=True)
        except trio.RunFinishedError:
            pass

    forget = register(wake)
    try:
        with trio.move_on_after(float("inf") if timeout_s is None else timeout_s):
            await event.wait()
    finally:
        forget()
    return event.is_set()


async def taken(baton: Baton, wait_s: float) -> None:
    """Take the baton, waiting so long for whoever has it: another thread, or another task of this one.

    Raises:
        BusyError: still taken then, or taken by this very task (at once).
    """
    _token()
    await trio.lowlevel.checkpoint()
    task = trio.lowlevel.current_task()
    until = trio.current_time() + wait_s
    while True:
        try:
            baton.take()
            baton.task = task
            return
        except BusyError:
            if baton.task is task and baton.owner == threading.get_ident():
                raise BusyError(
                    "this task has a transaction open already: end it, then begin another; nothing changed"
                ) from None
            left = until - trio.current_time()
            if left <= 0:
                raise BusyError(
                    f"somebody else's transaction or tick is still open after {wait_s:g} s; nothing changed: try "
                    f"again, wait longer (wait_s=), or hand the work to store.queue()"
                ) from None

            def register(wake: Callable[[], None]) -> Callable[[], None]:
                forget = baton.register(wake)
                if baton.owner == 0:
                    # Given back before we were registered.
                    wake()
                return forget

            await woken(register, left)


def _token() -> trio.lowlevel.TrioToken:
    try:
        return trio.lowlevel.current_trio_token()
    except RuntimeError:
        raise LocalProtocolError(
            "a store is waited for under Trio only, and no task of Trio runs here; nothing changed. Run this by "
            "trio.run(...), or use what blocks: `with` and `for` instead of `async with` and `async for`, .wait()"
        ) from None
