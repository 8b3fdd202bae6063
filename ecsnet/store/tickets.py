"""Tickets: what became of a transaction that somebody else commits.

    pending ──► committed (version, keys)
           └──► failed (error)

Those of a store on a disk are in `durable_tickets`.

Invariants: a ticket leaves *pending* once, and never changes after; whoever waits learns of it, whatever came first.
"""

import logging
import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Literal

from ecsnet.errors import BusyError, EcsnetError
from ecsnet.ids import Version
from ecsnet.store.baton import checked_wait

if TYPE_CHECKING:
    from ecsnet.store.producers import Producers

__all__ = ["EachTicket", "Ticket"]

log = logging.getLogger("ecsnet.store")


class Ticket:
    """The answer to a transaction that was handed in: `ticket.wait()`, or `await ticket` under Trio.

    `version` is None while it is pending and where it failed. `keys` are the entities and rows that the transaction
    made, in the order of its calls; `error` says why it was refused.
    """

    __slots__ = ("_callbacks", "_producers", "_woken", "error", "keys", "label", "state", "version")

    def __init__(self, producers: "Producers | None", label: str):
        self._producers = producers
        self._callbacks: list[Callable[[Ticket], object]] = []
        self._woken: threading.Event | None = None
        self.label = label
        self.state: Literal["pending", "committed", "failed"] = "pending"
        self.version: Version | None = None
        self.keys: tuple[int, ...] = ()
        self.error: EcsnetError | None = None

    @property
    def done(self) -> bool:
        """Whether it is not pending any more: on a disk, whether it is as durable as was demanded, and shown."""
        return self.state != "pending"

    @property
    def durable(self) -> bool:
        """Whether a loss of power would not take it any more; False in a store in memory."""
        return False

    def wait(self, timeout_s: float | None = None) -> Version:
        """Block until it is done.

        Args:
            timeout_s: at most so long; None waits without end.

        Returns:
            the version that contains the transaction.

        Raises:
            what refused it: ConstraintError, StaleEntityError, NoRowError, RowExistsError, LimitExceededError, ...;
            none of it has happened then. ClosedError: the store was closed first. DataFailedError: the disk failed, and
            opening it again says whether it has happened.
            BusyError: pending still; or this very thread has a transaction or a tick open, for which it waits.
        """
        if not self.done:
            self._block(None if timeout_s is None else checked_wait(timeout_s))
        return self._answer()

    def __await__(self) -> Generator[Any, None, Version]:
        """As `wait()`, under Trio: other tasks run meanwhile."""
        return self._wait_async().__await__()

    def then(self, callback: "Callable[[Ticket], object]") -> None:
        """Call `callback(ticket)` when it is done, on the thread that committed it; now where it is. What it raises is
        logged and changes nothing. It must not wait for the store."""
        self._callbacks.append(callback)
        if self.done:
            self._call()

    def resolve(self, version: Version | None, keys: tuple[int, ...], error: EcsnetError | None) -> None:
        """For the queue: it is done. A second time is nothing."""
        if self.done:
            return
        self.keys, self.error, self.version = keys, error, version
        # Last: whoever sees it done sees all of it.
        self.state = "committed" if error is None else "failed"
        if self._woken is not None:
            self._woken.set()
        self._call()

    def __repr__(self) -> str:
        of = f" as version {self.version}" if self.state == "committed" else ""
        return f"<ticket of {self.label!r}, {self.state}{of}>"

    # --- inside ------------------------------------------------------------------------------------------------------

    def _answer(self) -> Version:
        if self.error is not None:
            raise self.error
        assert self.version is not None
        return self.version

    def _block(self, timeout_s: float | None) -> None:
        assert self._producers is not None, "only what waits in a queue is pending"
        self._be_woken()
        self._producers.hurry(self)
        self._wait_woken(timeout_s)

    def _be_woken(self) -> None:
        if self._woken is None:
            # Before asking whether it is done: then either we see that, or whoever does it sees this.
            self._woken = threading.Event()

    def _wait_woken(self, timeout_s: float | None) -> None:
        assert self._woken is not None
        if not self.done and not self._woken.wait(timeout_s):
            raise BusyError(f"{self.label!r} is still pending after {timeout_s:g} s; it may yet be committed")

    async def _wait_async(self) -> Version:
        from ecsnet.store.waiting import woken

        if not self.done:
            assert self._producers is not None
            self._producers.hurry(self)
            await woken(self._register, None)
        return self._answer()

    def _register(self, wake: Callable[[], None]) -> Callable[[], None]:
        def call(_: object) -> None:
            wake()

        self.then(call)

        def forget() -> None:
            if call in self._callbacks:
                self._callbacks.remove(call)

        return forget

    def _call(self) -> None:
        # Taken off one by one, since two threads may be here at once: whoever resolved it, and whoever came just then.
        while self._callbacks:
            try:
                callback = self._callbacks.pop(0)
            except IndexError:
                return
            try:
                callback(self)
            except Exception:
                log.exception("a callback of %r failed", self)


class EachTicket(Ticket):
    """The answer to many transactions that were handed in at once, each kept or refused by itself: it is committed when
    all of them have been judged. `keys` are those that the kept ones made."""

    __slots__ = ("count", "refused")

    def __init__(self, producers: "Producers | None", label: str, count: int):
        super().__init__(producers, label)
        self.count = count
        """How many transactions."""
        self.refused: dict[int, EcsnetError] = {}
        """What refused a transaction, by its number from 0; of the others everything is committed."""
