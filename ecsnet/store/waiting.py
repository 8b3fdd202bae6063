"""Waiting for a store under Trio: whatever blocks a thread elsewhere lets other tasks run here.

The one module of the store that knows Trio, imported when somebody first waits. What is waited for happens on any
thread; it is told to Trio through its token, which is made for that.
"""

from collections.abc import Callable

import trio

__all__ = ["woken"]


async def woken(register: Callable[[Callable[[], None]], Callable[[], None]], timeout_s: float | None) -> bool:
    """Wait until it is woken, for `timeout_s` at most (None: without end). Returns whether it was.

    Args:
        register: takes the function that wakes, which may be called at once, on any thread, often and late; returns how
            to end it, which is called in any case.
    """
    event = trio.Event()
    token = trio.lowlevel.current_trio_token()

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
