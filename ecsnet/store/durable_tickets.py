"""Tickets and the queue of a store on a disk: done when as durable as demanded, and shown.

    pending in the queue ──pump──► pending on the disk ──flush, release──► committed
                     └──► refused ──────────────────┘                  └──► failed

Invariants:
- a refusal is told when what it was judged against is shown: nobody learns of a version that a crash could still undo;
- an error of the disk answers everybody who still waits.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ecsnet.errors import BusyError, ClosedError, DataFailedError, EcsnetError
from ecsnet.ids import Version
from ecsnet.store.durability import Durable
from ecsnet.store.levels import MEMORY
from ecsnet.store.producers import Batching, Producers
from ecsnet.store.tickets import EachTicket, Ticket

if TYPE_CHECKING:
    from ecsnet.store.store import Store

__all__ = ["DurableEachTicket", "DurableProducers", "DurableTicket"]


class _OnDisk(Ticket):
    """What both kinds share."""

    __slots__ = ()

    _level: int
    _side: Durable
    _expected: int | None
    """The version that it waits for on the disk; None while it waits in the queue."""

    def resolve(self, version: Version | None, keys: tuple[int, ...], error: EcsnetError | None) -> None:
        """For the queue: it is judged. It is done when the disk has it."""
        if self.done or self._expected is not None:
            return
        self._side.levels.pop(id(self), None)
        if isinstance(error, ClosedError | DataFailedError):
            super().resolve(None, (), error)
            return

        def answer(failure: EcsnetError | None) -> None:
            if failure is None:
                Ticket.resolve(self, version, keys, error)
            else:
                Ticket.resolve(self, None, (), failure)

        expected = self._side.kernel.head_version if version is None else int(version)
        self._wait_for(expected)
        self._side.expect(expected, self._level if error is None else MEMORY, answer)

    def _wait_for(self, version: int) -> None:
        """It waits for this version on the disk."""
        raise NotImplementedError

    @property
    def durable(self) -> bool:
        """Whether a loss of power would not take it any more."""
        return self.state == "committed" and self._expected is not None and self._side.durable_version >= self._expected

    def _block(self, timeout_s: float | None) -> None:
        self._be_woken()
        if self._expected is None:
            assert self._producers is not None
            self._producers.hurry(self)
        if not self.done and self._expected is not None and timeout_s is None:
            # Rather than wait for another thread to be woken: do what it would do.
            try:
                self._side.wait(self._expected, self._level)
            except BusyError:
                raise
            except EcsnetError:
                # Which is the answer that all get.
                pass
            self._side.answer()
        self._side.hurry()
        self._wait_woken(timeout_s)

    async def _wait_async(self) -> Version:
        from ecsnet.store.waiting import woken

        if not self.done and self._expected is None:
            assert self._producers is not None
            self._producers.hurry(self)
        if not self.done:
            self._side.hurry()
            await woken(self._register, None)
        return self._answer()


class DurableTicket(_OnDisk):
    """A ticket that is done when its version is as durable as demanded."""

    __slots__ = ("_expected", "_level", "_side")

    def __init__(self, side: Durable, producers: Producers | None, label: str, level: int):
        super().__init__(producers, label)
        self._side, self._level = side, level
        self._expected: int | None = None

    def _wait_for(self, version: int) -> None:
        self._expected = version


class DurableEachTicket(_OnDisk, EachTicket):
    """The same for many transactions."""

    __slots__ = ("_expected", "_level", "_side")

    def __init__(self, side: Durable, producers: Producers | None, label: str, count: int, level: int):
        EachTicket.__init__(self, producers, label, count)
        self._side, self._level = side, level
        self._expected: int | None = None

    def _wait_for(self, version: int) -> None:
        self._expected = version


class DurableProducers(Producers):
    """The queue of a store on a disk."""

    __slots__ = ("__weakref__", "_side")

    def __init__(self, store: "Store", batching: Batching, side: Durable):
        super().__init__(store, batching)
        self._side = side

    def put(self, label: str, operations: bytes, keys: int, level: int = MEMORY) -> Ticket:
        """As `Producers.put`, to be as durable as `level` says at least. Raises DataError too."""
        ticket = DurableTicket(self._side, self, label, self._level(level))
        with self._raised(ticket, level):
            return self._put(ticket, operations, keys, 1)

    def put_each(self, label: str, operations: bytes, transactions: int, level: int = MEMORY) -> EachTicket:
        """As `Producers.put_each`, in the same way."""
        ticket = DurableEachTicket(self._side, self, label, transactions, self._level(level))
        with self._raised(ticket, level):
            return self._put(ticket, operations, 0, transactions)

    def pump(self, now: bool = False) -> None:
        """As `Producers.pump`. Where the disk has failed, everybody who waits is told."""
        try:
            super().pump(now)
        except DataFailedError as error:
            for number in tuple(self._tickets):
                ticket = self._forget(number)
                if ticket is not None:
                    ticket.resolve(None, (), error)

    def _level(self, level: int) -> int:
        return max(level, self._side.level)

    @contextmanager
    def _raised(self, ticket: Ticket, level: int) -> Iterator[None]:
        side = self._side
        side.demand_writable()
        if level > side.level:
            # Before it is handed in: then whoever makes its version knows.
            side.levels[id(ticket)] = level
        try:
            yield
        except BaseException:
            side.levels.pop(id(ticket), None)
            raise
