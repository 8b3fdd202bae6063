"""The store: an embedded database, whole by itself, in memory or in memory and on a disk.

It owns the kernel's handle, hands out views and transactions, and knows who may write: one transaction at a time, or a
tick, whose transactions become one version together.

Invariants:
- a transaction outside a tick makes a version of its own (none if it changed nothing), published at its commit;
- the transactions of a tick are published by `TickScope.publish`, so readers see all of a tick or nothing;
- the baton is free whenever neither a transaction nor a tick is open.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ecsnet._kernel.events import ALL_EVENTS, EventEncoder, EventsSeen
from ecsnet._kernel.kernel import KernelStore
from ecsnet.errors import ArgumentError, BusyError, ClosedError, DataError
from ecsnet.expressions import Condition
from ecsnet.ids import Tick, Version
from ecsnet.limits import (
    BATON_WAIT_S_DEFAULT,
    ENTITIES_MAX_DEFAULT,
    EVENT_BLOCK_BYTES,
    RETAIN_BYTES_DEFAULT,
    RETAIN_VERSIONS_DEFAULT,
)
from ecsnet.schema.model import Schema
from ecsnet.store.baton import Baton, checked_wait
from ecsnet.store.changes import Change, History, Subscription, changes, new_history, subscribe
from ecsnet.store.crowding import Crowding
from ecsnet.store.joins import Joins
from ecsnet.store.keeping import Keeping
from ecsnet.store.levels import SEGMENT_BYTES, SHOWING_S_MAX, SNAPSHOT_EVERY_BYTES, STRICT, level_of
from ecsnet.store.lifecycle import Lifecycle, Randomness
from ecsnet.store.names import Names
from ecsnet.store.places import PlacesCache
from ecsnet.store.producers import Batching, Producers
from ecsnet.store.queueing import QueuedTransaction
from ecsnet.store.queueing_each import QueuedEach
from ecsnet.store.shapes import Recipes
from ecsnet.store.table import TableHandle
from ecsnet.store.tickets import Ticket
from ecsnet.store.transaction import Transaction
from ecsnet.store.typed import Selector
from ecsnet.store.view import View

if TYPE_CHECKING:
    from ecsnet._kernel.disk import Storage
    from ecsnet._kernel.kernel import Pin, Statistics
    from ecsnet.store.durability import Durable
    from ecsnet.store.opening import Driven
    from ecsnet.store.result import Result

__all__ = ["Store", "TickScope", "Writer"]

OnEvents = Callable[[Version, Tick, list[list[bytes]]], None]


class Writer:
    """What a transaction needs of whoever made it. This one is for transactions by themselves: each takes the baton,
    and publishes what it committed."""

    __slots__ = ("_store", "joins", "kernel", "names", "recipes")

    in_tick: ClassVar[bool] = False
    """Whether a tick makes the version."""
    on_disk: ClassVar[bool] = False
    """Whether the end of a transaction may have to be waited for."""

    def __init__(self, store: "Store"):
        self._store = store
        self.kernel: KernelStore = store.kernel
        self.names: Names = store.names
        self.recipes: Recipes = store.recipes
        self.joins: Joins = store.joins

    @property
    def version(self) -> Version:
        """The newest published version."""
        return self._store.version

    @property
    def unwaiting(self) -> "Writer":
        """The same, that waits for no disk."""
        return self

    def begin(self, transaction: Lifecycle) -> None:
        """Take the baton. Raises BusyError, ClosedError."""
        self._store.demand_open()
        self._store.baton.take(transaction.wait_s)
        self._start()

    async def begin_async(self, transaction: Lifecycle) -> None:
        """The same under Trio: other tasks run while it waits."""
        from ecsnet.store.waiting import taken

        self._store.demand_open()
        await taken(self._store.baton, transaction.wait_s)
        self._start()

    def _start(self) -> None:
        try:
            self.kernel.begin()
        except BaseException:
            self._store.baton.give()
            raise

    def committed(self, transaction: Lifecycle) -> None:
        """Publish, and give the baton back."""
        try:
            made = self._store.publish(transaction.tick)
            # What it read may be newer than what readers see.
            transaction.version = Version(self.kernel.head_version) if made is None else made
        finally:
            self._store.baton.give()

    def rolled_back(self, transaction: Lifecycle) -> None:
        """Give the baton back."""
        self._store.baton.give()

    def judged(self) -> None:
        """A transaction was refused and did not wait: nothing to wait for either."""

    async def judged_async(self) -> None:
        """The same under Trio."""

    def ticket(self, transaction: Lifecycle) -> Ticket:
        """A ticket of what was committed: done."""
        ticket = Ticket(None, transaction.label)
        ticket.resolve(transaction.version, (), None)
        return ticket

    def promise(self, version: Version | None, level: int) -> Ticket:
        """A ticket that is done when a version is as durable as a level says; without a disk, now."""
        if version is None:
            raise ArgumentError("the tick makes the version: wait for tx.version when it has ended")
        ticket = Ticket(None, f"version {version}")
        ticket.resolve(version, (), None)
        return ticket


class TickScope(Writer):
    """One tick: holds the baton from beginning to end, so nobody else commits in between. Made by `Store.tick`.

    Each command and system is a transaction of its own, one after the other; `publish` makes everything that was
    committed one version.
    """

    __slots__ = ("_held", "_open", "_tick", "_unpublished")

    in_tick = True

    def __init__(self, store: "Store", tick: Tick):
        super().__init__(store)
        self._tick = tick
        self._held = False
        self._open: Lifecycle | None = None
        self._unpublished: list[Lifecycle] = []

    @property
    def tick(self) -> Tick:
        """The tick's number."""
        return self._tick

    def transaction(
        self, label: str, *, dt: float = 0.0, random: Randomness = None, durability: str | None = None
    ) -> Transaction:
        """A transaction of this tick. Its commit goes to the head and is not published.

        Args:
            label: what warnings call it: the command's or system's name.
            dt: seconds of game time; exactly `every / hz`.
            random: what `tx.random` gives, or a function that makes it when it is first asked for.
            durability: what the tick's version is to be at least, in place of the store's.

        Raises:
            ClosedError: the tick is over. ArgumentError: a store in memory has no other durability.
        """
        if not self._held:
            raise ClosedError(f"tick {self._tick} is not open")
        if durability is not None:
            self._store.raise_to(durability)
        return Transaction(self, label, self._tick, dt, random)

    def publish(self) -> Version | None:
        """Make everything committed in this tick one version that readers acquire.

        Returns:
            it, or None when nothing was changed.

        Raises:
            BusyError: a transaction is open.
        """
        if self._open is not None:
            raise BusyError(f"{self._open.label!r} is open: commit it or roll it back before the tick is published")
        version = self._store.publish(self._tick)
        for transaction in self._unpublished:
            # What it read may be newer than what readers see.
            transaction.version = Version(self.kernel.head_version) if version is None else version
        self._unpublished.clear()
        return version

    def begin(self, transaction: Lifecycle) -> None:
        """One at a time. Raises BusyError, ClosedError."""
        if not self._held:
            raise ClosedError(f"tick {self._tick} is over")
        if self._open is not None:
            raise BusyError(f"{self._open.label!r} is open, and transactions of a tick follow one another")
        self.kernel.begin()
        self._open = transaction

    async def begin_async(self, transaction: Lifecycle) -> None:
        """Nothing to wait for: the tick has the baton."""
        self.begin(transaction)

    def committed(self, transaction: Lifecycle) -> None:
        """Remember whom to tell the version."""
        self._open = None
        self._unpublished.append(transaction)

    def rolled_back(self, transaction: Lifecycle) -> None:
        """The next may begin."""
        self._open = None

    def __enter__(self) -> Self:
        self._store.demand_writable()
        # A store's own thread has the baton for a moment, to show what became durable; nobody else is waited for.
        self._store.baton.take(0.0 if self._store.disk is None else SHOWING_S_MAX)
        self._held = True
        return self

    def __exit__(self, *failure: object) -> None:
        if self._open is not None:
            self._open.rollback()
        self._held = False
        self._store.baton.give()


class Store(Keeping, Crowding):
    """A database with one schema, in memory, and on a disk with `data=`. A context manager; `close()` ends it.

    ```python
    with ecsnet.Store("arena.toml") as store:
        with store.transaction() as tx:
            ship = tx.spawn(transform={"x": 1.0}, health={})
        with store.view() as view:
            print(view[ship, "health.hp"])
    ```
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_events",
        "_events_seen",
        "_history",
        "_maker",
        "_on_events",
        "_places",
        "_retained",
        "_tick",
        "_writer",
        "_writers",
        "ancestors",
        "baton",
        "disk",
        "epoch",
        "joins",
        "kernel",
        "names",
        "producers",
        "recipes",
        "schema",
        "wait_s",
    )

    def __init__(
        self,
        schema: Schema | str | Path | None,
        *,
        data: str | Path | None = None,
        durability: str | None = None,
        changes_bytes: int | None = None,
        retain_versions: int | None = None,
        retain_bytes: int | None = None,
        wait_s: float = BATON_WAIT_S_DEFAULT,
        batch_ms: float | None = None,
        batch_size: int | None = None,
        read_only: bool = False,
        create: bool = True,
        archive: bool | None = None,
        snapshot_every_bytes: int | None = SNAPSHOT_EVERY_BYTES,
        segment_bytes: int = SEGMENT_BYTES,
        storage: "Storage | None" = None,
        driven: "Driven | None" = None,
        debug: bool = False,
    ):
        """Make an empty store (no entities, and the schema's own metadata in the tables `schema_*`), or open one that
        is on a disk.

        Args:
            schema: a schema, or the path of a TOML file. None takes the one that the data has.
            data: the directory of a store on a disk, made where there is none. Without it the store is in memory, and
                gone with the process.
            durability: what a commit waits for. "memory": nothing; what was committed in the last moments is lost with
                the process. "relaxed": that the operating system has it; a loss of power may cost the last 20 ms.
                "strict", the default: that the disk has it, and nobody sees it before. "paranoid": that the disk also
                knows how far it got, so that a log whose end is lost later is told from one that never was longer. A
                transaction may ask for more than its store.
            changes_bytes: record what changes in every table from the beginning, and keep about so many bytes of it for
                `changes` and `subscribe`. Without, a table is recorded from the first question about it on.
            retain_versions, retain_bytes: for clients who come back: of how many of the newest versions is known which
                rows changed, and in how many bytes; the older, the more coarsely. Of the newest 256 (8 MiB)
                it always is. None: of no more, until an authority serves the store; then of those of a minute at 60 Hz
                (3600), in 64 MiB.
            wait_s: how long a transaction waits at its first operation while another thread writes, unless it says so
                itself: `store.transaction(wait_s=...)`.
            batch_ms, batch_size: a queued transaction waits for others, until the first has waited so many milliseconds
                or there are so many of them, and all become one version; `flush()` does not wait. With neither it is
                committed as soon as nobody else is writing.
            read_only: nothing is written, and of a damaged log what is intact is opened.
            create: whether an empty or missing directory becomes a new store.
            archive: keep the log that snapshots have made needless, compressed, for `ecsnet restore` to go back to any
                version of it. None: if that was done before.
            snapshot_every_bytes: a snapshot is made in the background when the log has grown by so much since the last
                one, and by as much as that takes; None leaves it to `snapshot()`.
            segment_bytes: of one file of the log: 64 KiB at least, a multiple of 4096.
            storage: in place of a directory, for tests: `ecsnet._kernel.storage.Storage`.
            driven: no thread is started and no clock is read: the driver gives the time, and calls `work`.
            debug: published cells cannot be written to, and are compared with what was committed: whoever writes to
                memory that is not his, or a bug of ours, stops the process where it happens. Each version then costs a
                look at all cells of the columns that changed. `ECSNET_DEBUG_VIEWS=1` in the environment does the same
                for every store.

        Raises:
            SchemaError: the file is no valid schema. ArgumentError: settings of a disk without one.
            DataMissingError: there is no data, and none is to be made. DataLockedError: another process has it open.
            SchemaMismatchError: the data has another schema. DataForeignError, DataCorruptError, DataError,
            DiskFullError: it cannot be opened, and the message says what to do. Nothing was changed in any case.
        """
        on_disk = data is not None or storage is not None
        if not on_disk:
            if durability not in (None, "memory"):
                level_of(durability)
                raise ArgumentError(
                    f"durability={durability!r} needs a disk: Store(schema, data='DIRECTORY'); without, it is in memory"
                )
            if schema is None or read_only or archive or not create or driven is not None:
                raise ArgumentError(
                    "schema=None, read_only, archive, create=False and driven are for a store on a disk: "
                    "Store(schema, data='DIRECTORY')"
                )
        elif schema is None:
            from ecsnet.store.opening import schema_of

            schema = schema_of(data, storage)
        assert schema is not None
        self.schema = Schema.resolve(schema)
        self.names = Names(self.schema)
        # Indices may be more than may live at once: one freed in a cut is not handed out again before the next.
        entities_max = max(ENTITIES_MAX_DEFAULT, self.schema.table("entities").rows_max)
        self.kernel = KernelStore(self.schema, entities_max=entities_max, guarded=debug or None)
        self.recipes = Recipes(self.kernel, self.names)
        self.joins = Joins(self.kernel)
        self._places = PlacesCache()
        self._closed = False
        self._tick = Tick(0)
        self.epoch = 0
        """The history that the versions belong to; 0 for a store in memory, unless its authority says another."""
        self.ancestors: tuple[tuple[int, int], ...] = ()
        """The epochs before it, oldest first, each with its last version that this history has, too."""
        self.wait_s = checked_wait(wait_s)
        self._history = new_history(changes_bytes)
        self._retained = _checked_retention(retain_versions, retain_bytes)
        self._events: EventEncoder | None = None
        self._on_events: OnEvents | None = None
        self._events_seen: tuple[EventsSeen, ...] = ()
        batching = Batching(batch_ms, batch_size)
        self._write_metadata()
        self.disk: Durable | None = None
        """What keeps it on a disk; None for a store in memory."""
        self._maker: KernelStore | Durable
        self._writers: tuple[Writer, ...] = ()
        if on_disk:
            from ecsnet.store import opening

            level = STRICT if durability is None else level_of(durability)
            self.disk = opening.on_disk(
                self.kernel, self.schema, data, storage, level,
                read_only=read_only, create=create, archive=archive, segment_bytes=segment_bytes,
                snapshot_every_bytes=snapshot_every_bytes, driven=driven,
            )  # fmt: skip
            self.baton, self._maker = self.disk.baton, self.disk
            self._tick, self.epoch = Tick(self.disk.recovery.tick), self.disk.recovery.epoch
            self.ancestors = self.disk.recovery.ancestors
            self.producers, self._writers = opening.parts(self, self.disk, batching)
            self._writer = self._writers[level]
        else:
            self.baton, self._maker = Baton(self.kernel), self.kernel
            self.producers = Producers(self, batching)
            self._writer = Writer(self)
            self.baton.pump = self.producers.pump
        if changes_bytes is not None:
            self._history.follow(self, [table for table in self.names.tables.values() if not table.read_only])
        if self._retained is not None:
            self._retain(self._retained)

    @classmethod
    def open(cls, data: str | Path, **options: Any) -> Self:
        """Open a store that is on a disk, with the schema that its data has: `Store.open("arena.db")`. Options and
        errors are those of `Store`; there has to be one."""
        return cls(None, data=data, create=False, **options)

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def version(self) -> Version:
        """The newest published version: what `view()` would show."""
        return Version(self.kernel.published_version)

    @property
    def tick_number(self) -> Tick:
        """The tick in which the newest version was made, here or by the authority that it came from."""
        return self.view().tick

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def statistics(self) -> "Statistics":
        """What the kernel counts: rows, bytes, buffers, versions. A frozen dataclass."""
        self.demand_open()
        return self.kernel.statistics()

    # --- reading -----------------------------------------------------------------------------------------------------

    def view(self) -> View:
        """The newest version, pinned for as long as the view or an array of it is held. Never waits for a writer.

        Very many views held, each of another version, defer publishing: `version` then stays behind what was committed,
        and the next view after some were let go shows it.
        """
        if self._closed:
            self.demand_open()
        if self.kernel.head_version != self.kernel.published_version:
            self._catch_up()
        return View(self.names, self.kernel.acquire(), self.joins, self._places)

    def view_of(self, pin: "Pin") -> View:
        """The version of a pin of this store's kernel, whether or not newer ones are published. For who serves one
        version to many; the view holds it by itself, and nothing is published for it."""
        return View(self.names, pin.again(), self.joins, self._places)

    def query(self, text: str) -> "Result":
        """What a query written as text finds in the newest version, as columns of their own:
        `store.query("from health where hp < 20 select count()")`. See `View.query_text`.

        Raises:
            QueryError: the text is no query, or names what the schema does not have; with the place in the text.
        """
        with self.view() as view:
            return view.query_text(text)

    # --- writing -----------------------------------------------------------------------------------------------------

    def transaction(
        self, label: str = "transaction", *, wait_s: float | None = None, durability: str | None = None
    ) -> Transaction:
        """Begin a transaction; it takes the writer's baton at its first operation.

        Args:
            label: what warnings about it call it.
            wait_s: how long the first operation waits while a transaction or a tick of another thread is open; by
                default as long as the store says (`Store(wait_s=...)`, 5 s). 0 does not wait, `math.inf` for ever.
            durability: what its commit waits for, where that is more than the store's.

        Raises:
            ClosedError, ArgumentError. The first operation raises BusyError where somebody else still writes then, and
            at once where it is this very thread: nothing has changed then.
        """
        if self._closed:
            self.demand_open()
        writer = self._writer if durability is None else self._writer_of(durability)
        transaction = Transaction(writer, label, self._tick, 0.0, None)
        transaction.wait_s = self.wait_s if wait_s is None else checked_wait(wait_s)
        return transaction

    def queue(self, label: str = "queued transaction", *, durability: str | None = None) -> QueuedTransaction:
        """A transaction that is written down now, on any thread, also while another writes or a tick runs, and
        committed by whoever writes next: `commit()` gives a ticket.

        ```python
        ticket = store.queue().update(ship, "health", hp=90).commit()
        version = ticket.wait()                 # or `await ticket`; raises what refused it
        ```

        Args:
            label: what errors about it call it.
            durability: what its ticket waits for, where that is more than the store's.

        Raises:
            ClosedError, ArgumentError.
        """
        self.demand_open()
        return QueuedTransaction(self, label, 0 if durability is None else self._level_of(durability))

    def queue_each(self, label: str = "queued transactions", *, durability: str | None = None) -> QueuedEach:
        """Many transactions at once, one for each row of arrays, each kept or refused by itself: see `QueuedEach`.

        ```python
        ticket = store.queue_each().add(payers, Account, coins=-5).add(payees, Account, coins=5).commit()
        ticket.wait()
        ticket.refused                          # {3: ConstraintError(...)}: who could not pay
        ```

        Raises:
            ClosedError.
        """
        self.demand_open()
        return QueuedEach(self, label, 0 if durability is None else self._level_of(durability))

    def flush(self) -> None:
        """Commit what waits in the queue, batched or not; where somebody is writing, they will when they have ended."""
        self.demand_open()
        self.producers.pump(now=True)

    def tick(self, tick: Tick) -> TickScope:
        """One step of the game, for whoever drives it: see `TickScope`. Entering it raises BusyError.

        Raises:
            ArgumentError: not a number of 64 bits. ClosedError.
        """
        self.demand_open()
        if not isinstance(tick, int) or not 0 <= tick < 1 << 64:
            raise ArgumentError(f"expected the number of a tick, an integer of 64 bits, found {tick!r}")
        return TickScope(self, tick)

    def __getitem__(self, table: Selector) -> TableHandle:
        """A table, each call on which is a transaction of its own: `store[Health].update(ship, hp=80)`.

        Raises:
            UnknownNameError, ArgumentError: no such table. ClosedError.
        """
        self.demand_open()
        return TableHandle(self, self.names.table(table))

    # --- ending ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the store. Views and arrays that are held stay valid. Again is harmless.

        Raises:
            BusyError: a transaction or a tick is open. The store stays open. DataFailedError: not everything could be
            made durable; it is closed.
        """
        if self._closed:
            return
        self.baton.take()
        self.baton.give()
        self.producers.close()
        try:
            if self.disk is not None:
                self.disk.close(self.wait_s)
        except DataError:
            self._end()
            raise
        self._end()

    def abandon(self) -> None:
        """End the store as the death of the process would: of one on a disk nothing more is written, and whoever waits
        is told. For simulations and tests; again is harmless."""
        if self._closed:
            return
        if self.disk is not None:
            self.disk.abandon()
        self._end()

    def _end(self) -> None:
        self._closed = True
        self.producers.abandon()
        self._history.close()
        self.kernel.on_version = None
        if self._events is not None:
            self._events.close()
        self.kernel.close()

    def __enter__(self) -> Self:
        self.demand_open()
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._closed:
            return f"<store of {self.schema.name}, closed>"
        return f"<store of {self.schema.name} at version {self.version}>"

    # --- following changes -------------------------------------------------------------------------------------------

    def changes(self, *tables: Any, where: Condition | None = None, since: Version | None = None) -> Iterator[Change]:
        """What was inserted, updated and deleted since a version, up to the newest: then it ends.

        ```python
        for change in store.changes("health", where=col("health.hp") == 0, since=view.version):
            print(change.version, change.kind, change.key, change.fields)
        ```

        A table is recorded from the first question about it on, or from the beginning with `Store(changes_bytes=...)`.
        Changes are net for each transaction, and come in the order of commits.

        Args:
            tables: whose changes; none means all tables.
            where: with exactly one table: only rows for which this is true, of an inserted or updated row as the
                transaction left it, of a deleted one as it was before.
            since: a version; its own changes are not among them. None means everything that is kept.

        Raises:
            HistoryGoneError: not everything since then is kept. Also in the middle, where a writer was much faster.
            UnknownNameError, ArgumentError: a table, a condition, a version. BusyError: the table is not recorded yet,
            and a transaction of this very thread is open.
        """
        self.demand_open()
        return changes(self, tables, where, since)

    def subscribe(
        self,
        *tables: Any,
        where: Condition | None = None,
        since: Version | None = None,
        timeout_s: float | None = None,
    ) -> Subscription:
        """Changes as they are made: `for change in store.subscribe("health")`, or `async for` under Trio, or `poll()`.

        Args:
            tables, where: as of `changes`.
            since: a version to go on from, such as the `version` of an earlier subscription; None means from now on.
            timeout_s: iteration ends when no change came for so long; None waits until the store closes.

        Raises:
            as `changes`.
        """
        self.demand_open()
        return subscribe(self, tables, where, since, timeout_s)

    def history(self) -> History:
        """What is recorded, for whoever follows it."""
        return self._history

    async def __aenter__(self) -> Self:
        """As `with`: a store in memory opens and closes at once; one on a disk was opened before, and closes on another
        thread while other tasks run."""
        return self.__enter__()

    async def __aexit__(self, *failure: object) -> None:
        if self.disk is None:
            self.close()
        else:
            from ecsnet.store.waiting import done_by_thread

            await done_by_thread(self.close)

    # --- for transactions, ticks and the cores ------------------------------------------------------------------------

    @property
    def current_tick(self) -> Tick:
        """The tick that versions made outside of one belong to."""
        return self._tick

    def demand_open(self) -> None:
        """Raise ClosedError after `close`."""
        if self._closed:
            raise ClosedError("the store is closed")

    def publish(self, tick: Tick) -> Version | None:
        """Make a version of what was committed; None when nothing was changed."""
        if self._on_events is not None and self._events is not None:
            # Before: who sees the version is to find its event rows told, and of one that held views put off no reader
            # ever sees them.
            blocks = [self._events.blocks(EVENT_BLOCK_BYTES, seen) for seen in self._events_seen]
            if any(blocks):
                tell = partial(self._on_events, Version(self.kernel.head_version + 1), tick, blocks)
                if self.disk is None or not self.disk.keep_back(self.kernel.head_version + 1, tell):
                    tell()
        version = self._maker.publish(tick)
        if version is None:
            return None
        self._tick = tick
        return Version(version)

    def demand_writable(self) -> None:
        """Raise ClosedError after `close`, DataError where the disk takes no more."""
        self.demand_open()
        if self.disk is not None:
            self.disk.demand_writable()

    def raise_to(self, durability: str) -> None:
        """Have the next version be of this durability at least. With the baton."""
        level = self._level_of(durability)
        if self.disk is not None:
            self.disk.raise_to(level)

    def _writer_of(self, durability: str) -> Writer:
        level = self._level_of(durability)
        return self._writer if self.disk is None else self._writers[level]

    def retain_for_clients(self) -> None:
        """Keep what changed for clients who come back: as the store was told when it was made, or else as `limits`
        says. From the next version on.

        Raises:
            BusyError: another thread held the baton for `wait_s`.
        """
        if self._retained is None:
            self._retained = (RETAIN_VERSIONS_DEFAULT, RETAIN_BYTES_DEFAULT)
            self._retain(self._retained)

    def _retain(self, bounds: tuple[int, int]) -> None:
        self.baton.take(self.wait_s)
        try:
            self.kernel.retain(*bounds)
        finally:
            self.baton.give()

    def follow_events(self, tell: OnEvents | None, seen: tuple[EventsSeen, ...] = (ALL_EVENTS,)) -> None:
        """From the next version on, give the event rows of each that has some to `tell`, right before anybody can see
        it: the version, its tick, and for each of `seen` blocks of the rows that those may see, in the order in which
        they were inserted. None: no longer. One follower at a time.

        It is called on the thread that commits, with the baton. Where publishing then fails for want of memory, the
        next version has the same number and is told with these rows again.
        """
        self._on_events, self._events_seen = tell, seen
        if tell is not None and self._events is None:
            self._events = EventEncoder(self.kernel)

    def _catch_up(self) -> None:
        """Publish what held views deferred, if nobody is writing: whoever is will do it."""
        if self.disk is not None:
            self.disk.catch_up()
            return
        try:
            self.baton.take()
        except BusyError:
            return
        try:
            self.kernel.catch_up()
        finally:
            self.baton.give()

    def _write_metadata(self) -> None:
        """The schema describes itself in tables, which are part of the empty world."""
        kernel = self.kernel
        kernel.take_baton()
        try:
            kernel.begin()
            for name, rows in self.schema.metadata_rows().items():
                table = self.names.table(name)
                if not rows:
                    continue
                columns = {
                    table.fields[field].id: table.fields[field].column([row[field] for row in rows], len(rows))
                    for field in rows[0]
                }
                kernel.insert_many(table.id, kernel.reserve(table.id, len(rows)), columns)
            kernel.commit()
            kernel.publish(self._tick, genesis=True)
        finally:
            kernel.release_baton()


def _checked_retention(versions: int | None, bytes: int | None) -> tuple[int, int] | None:
    """What of both was given, and of the other what it is by default.

    Raises:
        ArgumentError: below 0, or no number.
    """
    if versions is None and bytes is None:
        return None
    checked = []
    for name, given, default in (
        ("retain_versions", versions, RETAIN_VERSIONS_DEFAULT),
        ("retain_bytes", bytes, RETAIN_BYTES_DEFAULT),
    ):
        number = default if given is None else given
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 1 << 63:
            raise ArgumentError(f"{name}: expected a number from 0, found {given!r}")
        checked.append(number)
    return checked[0], checked[1]
