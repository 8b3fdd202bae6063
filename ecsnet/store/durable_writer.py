"""Who makes versions of transactions by themselves in a store on a disk: `Writer`, and the waiting after it.

Invariant: the baton was given back before anybody waits for the disk.
"""

from typing import TYPE_CHECKING

from ecsnet.errors import ArgumentError
from ecsnet.ids import Version
from ecsnet.store.durability import Durable
from ecsnet.store.durable_tickets import DurableTicket
from ecsnet.store.levels import MEMORY
from ecsnet.store.store import Writer
from ecsnet.store.tickets import Ticket

if TYPE_CHECKING:
    from ecsnet.store.lifecycle import Lifecycle
    from ecsnet.store.store import Store

__all__ = ["DurableWriter"]


class DurableWriter(Writer):
    """A writer of versions of one level at least. One that `waits` returns when they are that durable, and shown."""

    __slots__ = ("_level", "_side", "_unwaiting", "waits")

    on_disk = True

    def __init__(self, store: "Store", side: Durable, level: int, *, waits: bool = True):
        super().__init__(store)
        self._side = side
        self._level = max(level, side.level)
        self.waits = waits
        self._unwaiting = DurableWriter(store, side, level, waits=False) if waits else self

    @property
    def unwaiting(self) -> "DurableWriter":
        """The same, that returns as soon as the version is made."""
        return self._unwaiting

    def begin(self, transaction: "Lifecycle") -> None:
        """Take the baton. Raises BusyError, ClosedError, DataError."""
        self._side.demand_writable()
        super().begin(transaction)

    async def begin_async(self, transaction: "Lifecycle") -> None:
        """The same under Trio."""
        self._side.demand_writable()
        await super().begin_async(transaction)

    def committed(self, transaction: "Lifecycle") -> None:
        """Make the version, give the baton back, and wait for the disk."""
        side, level = self._side, self._level
        try:
            side.raise_to(level)
            made = self._store.publish(transaction.tick)
            if made is None:
                # What it read may still be held.
                made, level = Version(self.kernel.head_version), MEMORY
            transaction.version = made
        finally:
            self._store.baton.give()
        if self.waits:
            side.wait(made, level)

    def rolled_back(self, transaction: "Lifecycle") -> None:
        """Give the baton back; what it read leaves it only when it is durable."""
        head = self.kernel.head_version
        self._store.baton.give()
        if self.waits:
            self._side.wait(head, MEMORY)

    def judged(self) -> None:
        """Wait until everything that there is now is shown."""
        self._side.wait(self.kernel.head_version, MEMORY)

    async def judged_async(self) -> None:
        """The same under Trio."""
        await self._ticket("what it read", Version(self.kernel.head_version), MEMORY)

    def ticket(self, transaction: "Lifecycle") -> Ticket:
        """A ticket of what was committed."""
        assert transaction.version is not None
        return self._ticket(transaction.label, transaction.version, self._level)

    def promise(self, version: Version | None, level: int) -> Ticket:
        """A ticket that is done when a version is this durable."""
        if version is None:
            raise ArgumentError("the tick makes the version: wait for tx.version when it has ended")
        return self._ticket(f"version {version}", version, max(level, self._side.level))

    def _ticket(self, label: str, version: Version, level: int) -> Ticket:
        ticket = DurableTicket(self._side, None, label, level)
        ticket.resolve(version, (), None)
        return ticket
