"""The queue of producers: whoever hands transactions in, and who commits them.

    any thread ── put ──► kernel queue ──► pump, by whoever has the baton ──► tickets

The writer is a role. A transaction that is handed in while nobody writes is committed by the thread that brings it;
otherwise by whoever is writing, when it gives the baton back: at the end of its transaction or tick. All that waits
then is one version. With `batch_ms` or `batch_size` it waits a little longer, so that more of it is one version.

Invariants:
- whoever puts tries to pump, whoever gives the baton back looks whether something waits: nothing is left lying (where
  it is batched, a timer looks too);
- every transaction that was handed in has one answer, also when the store is closed.
"""

import itertools
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ecsnet._kernel import queue
from ecsnet.errors import ArgumentError, BusyError, ClosedError, LimitExceededError, QueueFullError
from ecsnet.ids import Version
from ecsnet.limits import QUEUE_BYTES_MAX, QUEUE_TRANSACTIONS_MAX
from ecsnet.store.levels import MEMORY
from ecsnet.store.tickets import EachTicket, Ticket

if TYPE_CHECKING:
    from ecsnet.store.store import Store

__all__ = ["Batching", "Producers"]

_OneOrEach = TypeVar("_OneOrEach", bound=Ticket)


class Batching:
    """How long queued transactions wait for others: until there are `size` of them, or the first has waited `ms`.
    Neither: not at all."""

    __slots__ = ("ms", "size")

    def __init__(self, ms: float | None, size: int | None):
        if ms is not None and (isinstance(ms, bool) or not isinstance(ms, int | float) or not 0 < ms < 1e9):
            raise ArgumentError(f"batch_ms: expected milliseconds above 0, found {ms!r}")
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise ArgumentError(f"batch_size: expected a number of transactions above 0, found {size!r}")
        self.ms = ms
        self.size = size


class Producers:
    """The queue of one store."""

    __slots__ = ("_batching", "_each", "_first_s", "_numbers", "_store", "_tickets", "_timer", "_wakers")

    def __init__(self, store: "Store", batching: Batching):
        self._store = store
        self._batching = batching
        self._numbers = itertools.count(1)
        self._tickets: dict[int, Ticket] = {}
        self._each: dict[int, int] = {}
        """Of tickets for many transactions, how many."""
        self._wakers: dict[object, Callable[[], None]] = {}
        self._first_s: float | None = None
        self._timer: threading.Timer | None = None
        queue.limit(store.kernel, QUEUE_TRANSACTIONS_MAX, QUEUE_BYTES_MAX)

    # --- handing in --------------------------------------------------------------------------------------------------

    def put(self, label: str, operations: bytes, keys: int, level: int = MEMORY) -> Ticket:
        """Hand a transaction in, from any thread, and commit it where nobody else is about to. `level` is for stores on
        a disk: how durable it is to be, at least.

        Raises:
            QueueFullError: too much waits. LimitExceededError: it is too long to ever fit. ClosedError.
        """
        return self._put(Ticket(self, label), operations, keys, 1)

    def put_each(self, label: str, operations: bytes, transactions: int, level: int = MEMORY) -> EachTicket:
        """Hand in so many transactions of equally many bytes at once, each by itself. Raises as `put`."""
        ticket = EachTicket(self, label, transactions)
        return self._put(ticket, operations, 0, transactions)

    def _put(self, ticket: _OneOrEach, operations: bytes, keys: int, transactions: int) -> _OneOrEach:
        store = self._store
        store.demand_open()
        if not operations:
            ticket.resolve(store.version, (), None)
            return ticket
        number = next(self._numbers)
        self._tickets[number] = ticket
        if isinstance(ticket, EachTicket):
            self._each[number] = transactions
        try:
            full = queue.put(store.kernel, number, keys, operations, transactions)
        except BaseException:
            self._forget(number)
            raise
        if full is not None:
            self._forget(number)
            if len(operations) + 64 > QUEUE_BYTES_MAX:
                raise LimitExceededError("bytes of one queued transaction", QUEUE_BYTES_MAX, len(operations))
            if full == "orders":
                raise QueueFullError("transactions that wait in the queue", QUEUE_TRANSACTIONS_MAX)
            raise QueueFullError("bytes that wait in the queue", QUEUE_BYTES_MAX)
        if store.closed:
            # Closed meanwhile: whoever did that may not have seen this one.
            self._fail(number)
            return ticket
        self._begin_batch()
        self.pump()
        return ticket

    def wait_for_room(self, until: float | None) -> None:
        """Block until something left the queue, or it is empty.

        Raises:
            BusyError: time (of `time.monotonic`) is up; or it is this very thread that everybody waits for.
        """
        if self._store.baton.owner == threading.get_ident():
            raise BusyError("this thread has a transaction or a tick open, which the queue waits for: end it first")
        room = threading.Event()
        forget = self.register(room.set)
        try:
            self.pump(now=True)
            left = None if until is None else until - time.monotonic()
            if queue.waiting(self._store.kernel) and not room.wait(left):
                raise BusyError("the queue is full still: whoever is writing has not ended; nothing was handed in")
        finally:
            forget()

    def register(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have `wake` called whenever something left the queue. Returns how to end it."""
        key = object()
        self._wakers[key] = wake

        def forget() -> None:
            self._wakers.pop(key, None)

        return forget

    # --- committing --------------------------------------------------------------------------------------------------

    def pump(self, now: bool = False) -> None:
        """Commit what waits and is due, unless somebody is writing: they will. `now`: due or not."""
        while now or self._due():
            try:
                self._store.baton.take()
            except (BusyError, ClosedError):
                return
            try:
                self._first_s = None
                done = queue.pump(self._store.kernel, self._each)
                version = self._store.publish(self._store.current_tick) or Version(self._store.kernel.head_version)
            finally:
                waits = self._store.baton.hand_over()
            for one in done:
                ticket = self._forget(one.ticket)
                if ticket is None:
                    continue
                if isinstance(one, queue.Done):
                    ticket.resolve(version if one.error is None else None, one.keys, one.error)
                else:
                    assert isinstance(ticket, EachTicket)
                    ticket.refused = one.refused
                    ticket.resolve(version, tuple(one.keys.tolist()), None)
            for wake in tuple(self._wakers.values()):
                wake()
            if not waits:
                return

    def hurry(self, ticket: Ticket) -> None:
        """Somebody waits for this ticket, and would for ever where nobody is about to commit it.

        Raises:
            BusyError: it is this very thread that everybody waits for.
        """
        if self._store.baton.owner == threading.get_ident() and not ticket.done:
            raise BusyError(
                f"{ticket.label!r} is committed when this thread's own transaction or tick has ended: wait for it then"
            )
        self.pump(now=self._batching.ms is None)

    def close(self) -> None:
        """No more: whatever waits is committed, and what cannot be is told so. Needs that nobody writes."""
        self.pump(now=True)

    def abandon(self) -> None:
        """The store is closed: answer what came too late."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for number in tuple(self._tickets):
            self._fail(number)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _forget(self, number: int) -> Ticket | None:
        self._each.pop(number, None)
        return self._tickets.pop(number, None)

    def _fail(self, number: int) -> None:
        ticket = self._forget(number)
        if ticket is not None:
            ticket.resolve(None, (), ClosedError(f"the store was closed before {ticket.label!r} was committed"))

    def _due(self) -> bool:
        batching = self._batching
        if batching.ms is None and batching.size is None:
            return True
        if batching.size is not None and queue.waiting(self._store.kernel) >= batching.size:
            return True
        first = self._first_s
        return batching.ms is not None and first is not None and time.monotonic() - first >= batching.ms / 1000

    def _begin_batch(self) -> None:
        """The first of a batch sets the timer that ends it."""
        ms = self._batching.ms
        if ms is None or self._first_s is not None:
            return
        self._first_s = time.monotonic()
        timer = threading.Timer(ms / 1000, self.pump, kwargs={"now": True})
        timer.daemon = True
        self._timer = timer
        timer.start()
