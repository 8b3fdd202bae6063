"""What a transaction is in, from its first operation to its end.

It is applied to the kernel's private head as it goes, so that it reads its own writes; nobody else sees any of it
before the commit, and an exception undoes all of it. The writer's baton is taken at the first operation and given back
at the end, so an unused transaction costs nothing and holds nobody up.

                                buffered
                                 │    ▲ a prepared writer holds something back
                any other verb   ▼    │
    idle ──first operation──►   direct   ──first lent array──► lending
      │                          │                               │
      └──────────────────────────┴───commit or rollback──────────┴──► closed

Invariants:
- a commit that raises has changed nothing, and the transaction is closed;
- while *lending*, rows stand still: structural operations are noted down (`queued`) and done at commit, in call order;
- while *buffered*, some calls of prepared writers have not reached the kernel (`writers`): whatever else is done first
  hands them over;
- whether a row is there is answered with what waits to be done (`_has`, `_demand`).
"""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal, Self, overload

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import ArgumentError, ClosedError, EcsnetError, NoRowError, RowExistsError, StaleEntityError
from ecsnet.ids import Tick, Version
from ecsnet.store.lending import Lending
from ecsnet.store.levels import STRICT
from ecsnet.store.names import Names, TableName
from ecsnet.store.queued import Queue
from ecsnet.store.savepoints import Savepoint
from ecsnet.store.tickets import Ticket

if TYPE_CHECKING:
    from ecsnet.store.store import Writer
    from ecsnet.store.writers import HeldBack

__all__ = ["BUFFERED", "CLOSED", "DIRECT", "IDLE", "LENDING", "Lifecycle", "Randomness"]

IDLE: Final = 0
DIRECT: Final = 1
LENDING: Final = 2
CLOSED: Final = 3
BUFFERED: Final = 4

Randomness = np.random.Generator | Callable[[], np.random.Generator] | None


class Lifecycle:
    """Beginning, ending, and what is there meanwhile."""

    __slots__ = (
        "__weakref__",
        "_cells",
        "_deletes",
        "_held",
        "_inserts",
        "_kernel",
        "_lending",
        "_names",
        "_queue",
        "_random",
        "_reads",
        "_recipes",
        "_savepoints",
        "_state",
        "_structure",
        "_updates",
        "_writer",
        "dt",
        "label",
        "tick",
        "version",
        "wait_s",
    )

    def __init__(self, writer: "Writer", label: str, tick: Tick, dt: float, random: Randomness):
        self._writer = writer
        self._names: Names = writer.names
        self._kernel = writer.kernel
        self._recipes = writer.recipes
        self._inserts = writer.recipes.inserts
        self._updates = writer.recipes.updates
        self._cells = writer.recipes.cells
        self._reads = writer.recipes.reads
        self._deletes = writer.recipes.deletes
        self._state = IDLE
        self._held: HeldBack | None = None
        self._structure = 0
        self._savepoints: list[Savepoint] = []
        self._queue = Queue(writer.kernel)
        self._lending = Lending(writer.kernel, label)
        self._random = random
        self.label = label
        """What warnings about this transaction call it: the name of a system or command."""
        self.dt = dt
        """Seconds of game time in this step, exactly `every / hz`; 0.0 outside a tick."""
        self.wait_s = 0.0
        """How long the first operation waits for the baton while another thread has it."""
        self.tick = tick
        """The tick that it runs in; outside one, the newest published."""
        self.version: Version | None = None
        """After the commit, the version that contains it; inside a tick, None until that is published."""

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def random(self) -> np.random.Generator:
        """Randomness that a replay repeats: seeded by (world seed, tick, function).

        Raises:
            ArgumentError: outside a tick there is no such seed.
        """
        if self._random is None:
            raise ArgumentError("tx.random exists inside a tick; elsewhere use numpy.random.default_rng(seed)")
        if not isinstance(self._random, np.random.Generator):
            # Making one costs more than most commands, and most never ask.
            self._random = self._random()
        return self._random

    @property
    def names(self) -> Names:
        """The schema's names."""
        return self._names

    @property
    def closed(self) -> bool:
        """Whether it was committed or rolled back."""
        return self._state == CLOSED

    # --- ending ------------------------------------------------------------------------------------------------------

    @overload
    def commit(self, *, wait: Literal[True] = True) -> Version | None: ...
    @overload
    def commit(self, *, wait: Literal[False]) -> Ticket: ...

    def commit(self, *, wait: bool = True) -> Version | Ticket | None:
        """Make it so: lent cells come back, waiting operations are done, everything is checked, then all of it counts.

        Args:
            wait: on a disk this returns when the version is as durable as was asked for, and shown. False returns a
                ticket of that instead. In memory there is nothing to wait for: the ticket is done.

        Returns:
            the version that contains it; None inside a tick, whose transactions become one version when it ends. Where
            nothing was changed, the newest version.

        Raises:
            ConstraintError, BorrowError, LimitExceededError, DiskFullError: refused. Nothing has changed; the
            transaction is closed.
            DataFailedError: the disk failed, now or before. What was committed may be on it or not: opening it again
            says so. The transaction is closed, and the store read-only.
            ClosedError: it was ended before. ArgumentError: `wait=False` inside a tick; it is still open.

        Warns:
            ResourceWarning: somebody still holds a lent array; it is theirs now and changes nothing. The commit stands,
            also where warnings are made errors.
        """
        if self._state == CLOSED:
            raise self._closed_error()
        if not wait:
            return self._ticket()
        if self._state == IDLE:
            self._close()
            self.version = self._writer.version
            return self.version
        kept: list[str] = []
        try:
            if self._state == BUFFERED:
                self._enter()
            if self._state == LENDING:
                kept = self._lending.finish()
                if self._queue:
                    # Lent cells come before what waited behind them.
                    self._kernel.settle()
                    self._queue.run()
            self._kernel.commit()
        except BaseException:
            self.rollback()
            raise
        self._close()
        kept += self._kernel.kept
        self._writer.committed(self)
        for path in kept:
            warnings.warn(
                f"{self.label!r} kept an array of {path} past its commit: it is private memory now, and writing to it "
                f"changes nothing",
                ResourceWarning,
                stacklevel=3,
            )
        return self.version

    def _ticket(self) -> Ticket:
        writer = self._writer
        if writer.in_tick:
            raise ArgumentError("commit(wait=False): the tick makes the version; look at tx.version when it has ended")
        self._writer = writer.unwaiting
        try:
            self.commit()
        except EcsnetError:
            writer.judged()
            raise
        return writer.ticket(self)

    async def durable(self) -> Version:
        """Under Trio: commit, if that has not been done, and wait until the version is as durable as was asked for,
        synced to the disk at least. In memory there is nothing to wait for.

        Returns:
            the version that contains it.

        Raises:
            as `commit`. ArgumentError: in a tick that has not ended.
        """
        if self._state != CLOSED:
            await self.commit(wait=False)
        return await self._writer.promise(self.version, STRICT)

    def rollback(self) -> None:
        """Undo everything. Ids that it handed out are stale, arrays that it lent are their holder's own memory. Again,
        or after a commit, is harmless."""
        if self._state == CLOSED:
            return
        begun = self._state != IDLE
        self._close()
        if begun:
            self._lending.forget()
            try:
                self._kernel.rollback()
            finally:
                self._writer.rolled_back(self)

    def savepoint(self) -> "Savepoint":
        """A part of the transaction that can be undone by itself: an exception that leaves the block undoes what the
        block did, and goes on. Savepoints nest.

        `with tx.savepoint(): tx[ship, Health.hp] -= 30`

        Ids that were handed out in a part that is undone are stale. Columns that were lent within it are taken back as
        they were; arrays that somebody keeps are private memory.

        Raises:
            BorrowError: at the beginning of the block, where columns are lent already: their cells have no history that
            a part could be undone in. ClosedError.
        """
        return Savepoint(self)

    def __enter__(self) -> Self:
        if self._state == CLOSED:
            raise self._closed_error()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is not None:
            self.rollback()
        elif self._state != CLOSED:
            self.commit()

    async def __aenter__(self) -> Self:
        """As `with`, under Trio: the baton is taken here, and other tasks run while it is waited for.

        Raises:
            BusyError: somebody else still writes after `wait_s`, or this very task does. ClosedError.
        """
        if self._state == CLOSED:
            raise self._closed_error()
        if self._state == IDLE:
            await self._writer.begin_async(self)
            self._state = DIRECT
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        writer = self._writer
        if not writer.on_disk:
            self.__exit__(kind, error, trace)
        elif kind is not None:
            self._writer = writer.unwaiting
            self.rollback()
            await writer.judged_async()
        elif self._state != CLOSED:
            await self.commit(wait=False)

    def __del__(self) -> None:
        held = getattr(self, "_held", None)
        if held is not None:
            held.end()
        # `_state` is missing where the constructor itself failed.
        if getattr(self, "_state", CLOSED) in (DIRECT, LENDING, BUFFERED):
            if self._kernel.gone:
                # Store and transaction were garbage together, and the store was finalised first.
                self._state = CLOSED
            else:
                # A finaliser waits for nothing.
                self._writer = self._writer.unwaiting
                self.rollback()
            # Last: made an error, a warning would leave the baton taken for ever.
            warnings.warn(
                f"{self.label!r} was let go without commit or rollback: rolled back", ResourceWarning, stacklevel=2
            )

    def __repr__(self) -> str:
        state = ("idle", "open", "open, lending", "closed", "open")[self._state]
        return f"<transaction {self.label!r}, {state}>"

    # --- inside ------------------------------------------------------------------------------------------------------

    def _enter(self) -> None:
        """Be open, with nothing held back: take the baton and begin at the first operation."""
        if self._state == IDLE:
            self._writer.begin(self)
            self._state = DIRECT
        elif self._state == BUFFERED:
            assert self._held is not None
            self._held.hand_all_over()
            self._state = DIRECT
        elif self._state == CLOSED:
            raise self._closed_error()

    def _close(self) -> None:
        self._state = CLOSED
        if self._held is not None:
            self._held.end()

    def _lends(self) -> bool:
        """Whether columns are lent; open, with nothing held back."""
        self._enter()
        return self._state == LENDING

    def _go_back(self, mark: int) -> None:
        """Undo what was done since `mark` was taken; no column was lent then, and nothing held back."""
        if self._held is not None:
            self._held.forget()
        self._queue.forget()
        self._lending.forget()
        self._kernel.discard_lent()
        self._kernel.rollback_to(mark)
        self._state = DIRECT
        self._structure += 1

    def _demand_not_closed(self) -> None:
        if self._state == CLOSED:
            raise self._closed_error()

    def _closed_error(self) -> ClosedError:
        return ClosedError(f"{self.label!r} was committed or rolled back; begin another transaction")

    def _whole(self, work: Callable[[], object]) -> None:
        """Do several kernel operations as one: all of them, or none."""
        mark = self._kernel.mark()
        try:
            work()
        except BaseException:
            self._kernel.rollback_to(mark)
            raise
        finally:
            self._structure += 1

    def _reserve(self, table: TableName, rows: int) -> NDArray[np.uint64]:
        return self._kernel.reserve(table.id, rows)

    def _has(self, table: TableName, key: int) -> bool:
        noted = self._queue.exists(table, key) if self._queue else None
        if noted is not None:
            return noted
        try:
            self._kernel.row(table.id, key)
        except (StaleEntityError, NoRowError):
            return False
        return True

    def _demand(self, table: TableName, key: int) -> None:
        """Raise unless the row is there, counting what waits to be done."""
        noted = self._queue.exists(table, key) if self._queue else None
        if noted is None:
            self._kernel.row(table.id, key)
        elif not noted:
            if table.component and self._has(self._names.by_id[0], key):
                raise NoRowError(key, table.name)
            raise StaleEntityError(key, table.name)

    def _demand_none(self, table: TableName, entity: int) -> None:
        """Raise unless the entity is alive and has no row in the component."""
        self._demand(self._names.by_id[0], entity)
        if self._has(table, entity):
            raise RowExistsError(entity, table.name)
