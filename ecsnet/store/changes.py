"""Following changes: what each transaction inserted, updated and deleted, in commit order.

    kernel journal ──chunk per version──► History (a ring, bounded by bytes) ──► Changes        ends at head
                                                                            └──► Subscription   goes on

The kernel records tables that somebody follows, and no others: the first question about a table is what starts it.
Records are whole columns; conditions are evaluated over them by numpy, and only rows that somebody is told about become
Python objects.

Invariants:
- a change is net for its transaction: a row inserted and deleted in one is nothing, two updates are one;
- changes come in the order of versions, within one in the order of commits, within a transaction by table;
- a version's changes are there when the version has been made, all of them or, when retention has let go of any,
  a `HistoryGoneError`: never some of them;
- whoever follows holds nobody up: a slow one loses its place in the ring.
"""

import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from ecsnet._kernel import journal
from ecsnet._kernel.journal import Chunk, TableChanges
from ecsnet.errors import ArgumentError, ClosedError, HistoryGoneError
from ecsnet.expressions import Condition
from ecsnet.ids import INDEX_BITS, Version
from ecsnet.limits import CHANGES_BYTES_DEFAULT
from ecsnet.store.baton import checked_wait
from ecsnet.store.conditions import evaluate
from ecsnet.store.fields import FieldName
from ecsnet.store.names import Names, TableName

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore
    from ecsnet.store.store import Store

__all__ = ["Change", "History", "Subscription", "changes", "subscribe"]

_CHUNK_BYTES: Final = 256
"""What a chunk costs beside its records: the objects around it."""

Kind = Literal["insert", "update", "delete"]
_Rows = slice | NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Change:
    """One row that one transaction changed.

    `fields` has Python values by the names of the fields: of an insert all of them, of an update those that changed, as
    the transaction left them; of a delete all of them, as they were before the transaction.
    """

    version: Version
    kind: Kind
    table: str
    key: int
    fields: dict[str, Any]


class History:
    """What was recorded of one store: chunks by version, the oldest let go when they are too many bytes."""

    __slots__ = ("_always", "_arrived", "_bytes", "_chunks", "_wakers", "bytes_max", "closed", "first", "gone")

    def __init__(self, bytes_max: int):
        self.bytes_max = bytes_max
        self.closed = False
        self._chunks: deque[Chunk] = deque()
        self._bytes = 0
        self.first = 0
        """The number of the oldest chunk that is kept; chunks are counted on."""
        self.gone: dict[int, int] = {}
        """By id of a table that is recorded: what is known of it begins after this version."""
        self._arrived = threading.Condition()
        self._wakers: dict[object, Callable[[], None]] = {}

    # --- recording ---------------------------------------------------------------------------------------------------

    def follow(self, store: "Store", tables: Iterable[TableName]) -> None:
        """Record these tables too, from the next transaction on."""
        fresh = [table.id for table in tables if table.id not in self.gone]
        if not fresh:
            return
        store.baton.take(store.wait_s)
        try:
            # Somebody else may have asked for them while this thread waited.
            fresh = [table_id for table_id in fresh if table_id not in self.gone]
            journal.watch(store.kernel, sorted([*self.gone, *fresh]), self.bytes_max)
            with self._arrived:
                self.gone |= dict.fromkeys(fresh, store.kernel.head_version)
            store.kernel.on_version = self.take
        finally:
            store.baton.give()

    def take(self, kernel: "KernelStore") -> None:
        """A version was made: take in what was recorded of it."""
        with self._arrived:
            # Under the lock from taking to keeping, or two threads could keep theirs in the wrong order.
            chunks = journal.take(kernel)
            if not chunks:
                return
            for chunk in chunks:
                self._chunks.append(chunk)
                self._bytes += len(chunk.records) + _CHUNK_BYTES
                if chunk.lost:
                    self._let_go(len(self._chunks))
            while self._bytes > self.bytes_max:
                self._let_go(1)
        self.wake()

    def _let_go(self, n: int) -> None:
        for _ in range(n):
            chunk = self._chunks.popleft()
            self._bytes -= len(chunk.records) + _CHUNK_BYTES
            self.first += 1
        self.gone = {table: max(chunk.version, version) for table, version in self.gone.items()}

    def close(self) -> None:
        """Nothing more will come."""
        self.closed = True
        self.wake()

    def wake(self) -> None:
        """Have everybody who waits look again."""
        with self._arrived:
            self._arrived.notify_all()
            wakers = tuple(self._wakers.values())
        for wake in wakers:
            wake()

    # --- reading -----------------------------------------------------------------------------------------------------

    def oldest(self, tables: Iterable[TableName]) -> int:
        """The oldest version since which all of these tables' changes are known."""
        return max((self.gone[table.id] for table in tables), default=0)

    def place(self, version: int) -> int:
        """The number of the first chunk after a version."""
        with self._arrived:
            return self.first + bisect_right(self._chunks, version, key=lambda chunk: chunk.version)

    def chunk(self, number: int) -> Chunk | None:
        """A chunk by its number; None when there is none yet, or none any more (then `number < first`)."""
        with self._arrived:
            at = number - self.first
            return self._chunks[at] if 0 <= at < len(self._chunks) else None

    def wait(self, number: int, until: float | None, ended: Callable[[], bool]) -> bool:
        """Block until chunk `number` has come; False when time (of `time.monotonic`) is up, the store closed, or
        `ended` says so."""
        with self._arrived:
            while number >= self.first + len(self._chunks):
                left = None if until is None else until - time.monotonic()
                if self.closed or ended() or (left is not None and left <= 0):
                    return False
                self._arrived.wait(left)
        return True

    def register(self, number: int, wake: Callable[[], None]) -> Callable[[], None]:
        """Have `wake` called, on whatever thread, when something came; at once if chunk `number` is there or nothing
        will come. Returns how to end it."""
        key = object()
        with self._arrived:
            self._wakers[key] = wake
            there = self.closed or number < self.first + len(self._chunks)
        if there:
            wake()

        def forget() -> None:
            self._wakers.pop(key, None)

        return forget


class _Interest:
    """Which changes somebody wants: some tables, or the rows of one for which a condition is true."""

    __slots__ = ("_fields", "_names", "condition", "tables")

    def __init__(self, names: Names, tables: Sequence[Any], where: Condition | None):
        chosen = [names.table(table) for table in tables]
        if not chosen:
            chosen = [table for table in names.tables.values() if not table.read_only]
        self.tables = list({table.id: table for table in chosen}.values())
        for table in self.tables:
            if table.read_only:
                raise ArgumentError(f"{table.name} describes the schema and never changes")
        self._names = names
        self._fields = {
            table.id: {field.id: field.field for field in table.stored if field.field is not None}
            for table in self.tables
        }
        if where is not None:
            if not isinstance(where, Condition):
                raise ArgumentError(f"where: expected a condition such as col('health.hp') == 0, found {where!r}")
            if len(self.tables) != 1:
                raise ArgumentError("where: a condition goes with exactly one table; follow each by itself")
            self.condition: Condition | None = where
            # What is wrong with it is said where it was written, not when the first row comes.
            evaluate(where, lambda path: _empty(self._field(path)))
        else:
            self.condition = None

    def _field(self, path: str) -> FieldName:
        table = self.tables[0]
        field = self._names.path(path) if "." in path and path not in table.fields else table.field(path)
        if field.table is not table:
            raise ArgumentError(f"where: {path} is not of {table.name}, whose changes are followed")
        return field

    def changes(self, chunk: Chunk) -> Iterator[Change]:
        """What the chunk has for us, in order."""
        for part in journal.records(chunk, self._fields):
            yield from self._part(Version(chunk.version), part)

    def _part(self, version: Version, part: TableChanges) -> Iterator[Change]:
        table = self._names.by_id[part.table_id]
        updates_from, deletes_from = part.inserted, part.inserted + part.updated
        inserted: _Rows = slice(0, updates_from)
        updated: _Rows = slice(updates_from, deletes_from)
        deleted: _Rows = slice(deletes_from, None)
        if self.condition is not None:

            def fetch(path: str) -> tuple[FieldName, NDArray[Any]]:
                field = self._field(path)
                return field, _cells(field, part)

            rows = np.flatnonzero(evaluate(self.condition, fetch))
            if not len(rows):
                return
            inserted, updated, deleted = np.split(rows, np.searchsorted(rows, (updates_from, deletes_from)))
        if part.inserted:
            for key, fields in _whole(table, part, inserted):
                yield Change(version, "insert", table.name, key, fields)
        if part.updated:
            for key, fields in _changed(table, part, updated):
                yield Change(version, "update", table.name, key, fields)
        # Of an event, that its row goes with its version is no news: it has happened and is over.
        if part.deleted and not table.event:
            for key, fields in _whole(table, part, deleted):
                yield Change(version, "delete", table.name, key, fields)


def _empty(field: FieldName) -> tuple[FieldName, NDArray[Any]]:
    return field, np.empty((0, *field.shape), field.dtype)


def _cells(field: FieldName, part: TableChanges) -> NDArray[Any]:
    if field.kind == "stored":
        return part.columns[field.id]
    return part.keys if field.kind == "key" else (part.keys >> np.uint64(INDEX_BITS)).astype(np.uint32)


def _values(field: FieldName, cells: NDArray[Any]) -> list[Any]:
    if field.shape:
        return [field.python(cell) for cell in cells]
    values: list[Any] = cells.tolist()
    return values


def _whole(table: TableName, part: TableChanges, rows: _Rows) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with all their fields."""
    names = [field.name for field in table.stored]
    columns = [_values(field, part.columns[field.id][rows]) for field in table.stored]
    keys = part.keys[rows].tolist()
    if not columns:
        yield from ((key, {}) for key in keys)
        return
    for key, cells in zip(keys, zip(*columns, strict=True), strict=True):
        yield key, dict(zip(names, cells, strict=True))


def _changed(table: TableName, part: TableChanges, rows: _Rows) -> Iterator[tuple[int, dict[str, Any]]]:
    """Updated rows with the fields that changed."""
    keys = part.keys[rows].tolist()
    among: _Rows = slice(None) if isinstance(rows, slice) else rows - part.inserted
    fields: list[dict[str, Any]] = [{} for _ in keys]
    for field in table.stored:
        hit = np.flatnonzero(part.changed[field.id][among])
        if not len(hit):
            continue
        cells = part.columns[field.id][rows][hit]
        for place, value in zip(hit.tolist(), _values(field, cells), strict=True):
            fields[place][field.name] = value
    yield from zip(keys, fields, strict=True)


# --- asking -----------------------------------------------------------------------------------------------------------


def changes(store: "Store", tables: Sequence[Any], where: Condition | None, since: int | None) -> Iterator[Change]:
    """What `Store.changes` gives."""
    interest = _Interest(store.names, tables, where)
    history = store.history()
    history.follow(store, interest.tables)
    version = history.oldest(interest.tables) if since is None else _checked_since(store, since)
    subscription = Subscription(store, history, interest, version, None)
    return subscription._until(store.kernel.head_version)


def subscribe(
    store: "Store", tables: Sequence[Any], where: Condition | None, since: int | None, timeout_s: float | None
) -> "Subscription":
    """What `Store.subscribe` gives."""
    interest = _Interest(store.names, tables, where)
    history = store.history()
    history.follow(store, interest.tables)
    version = store.kernel.head_version if since is None else _checked_since(store, since)
    return Subscription(store, history, interest, version, None if timeout_s is None else checked_wait(timeout_s))


def _checked_since(store: "Store", since: object) -> int:
    head = store.kernel.head_version
    if isinstance(since, bool) or not isinstance(since, int) or not 0 <= since <= head:
        raise ArgumentError(f"since: expected a version from 0 to {head}, found {since!r}")
    return since


class Subscription:
    """Changes as they are made, from one version on: made by `Store.subscribe`. For one thread or task at a time.

    ```python
    for change in store.subscribe(Health, timeout_s=1.0):      # ends when none came for a second
        print(change.kind, change.key, change.fields)
    for change in subscription.poll():                          # never blocks
        ...
    async for change in store.subscribe(Health):                # under Trio: lets other tasks run
        ...
    ```

    It holds nothing but its place. When that has left the store's retention (`Store(changes_bytes=...)`) each call
    raises HistoryGoneError, and stays where it is: look at a view, and subscribe again since its version.
    """

    __slots__ = ("_closed", "_history", "_interest", "_next", "_pending", "_store", "_timeout_s", "version")

    def __init__(self, store: "Store", history: History, interest: _Interest, version: int, timeout_s: float | None):
        self._store = store
        self._history = history
        self._interest = interest
        self._timeout_s = timeout_s
        self._closed = False
        self._pending: deque[Change] = deque()
        self.version = Version(version)
        """Everything up to this version was handed out: give it as `since` to go on from here later."""
        oldest = history.oldest(interest.tables)
        if version < oldest:
            raise self._gone(oldest)
        self._next = history.place(version)

    # --- taking ------------------------------------------------------------------------------------------------------

    def poll(self) -> list[Change]:
        """All changes up to the newest version that has been made. Never blocks.

        Raises:
            HistoryGoneError: some of them are not kept any more. ClosedError: this was closed.
        """
        self._demand_open()
        found = list(self._pending)
        self._pending.clear()
        if found:
            self.version = found[-1].version
        try:
            while (chunk := self._take()) is not None:
                found += self._interest.changes(chunk)
                self.version = Version(chunk.version)
        except HistoryGoneError:
            # What was found before the gap is whole; the next call says that there is one.
            if not found:
                raise
        return found

    def wait(self, timeout_s: float | None = None) -> Change | None:
        """The next change, waited for. None: there was none for so long (None waits for ever), or the store closed.

        Raises:
            HistoryGoneError, ClosedError, ArgumentError.
        """
        until = None if timeout_s is None else time.monotonic() + checked_wait(timeout_s)
        while True:
            change = self._next_change()
            if change is not None:
                return change
            if not self._history.wait(self._next, until, lambda: self._closed) or self._closed:
                return None

    def __iter__(self) -> Iterator[Change]:
        """Change after change, waiting for the next one; ends when none came for `timeout_s`, or with the store."""
        while not self._closed:
            change = self.wait(self._timeout_s)
            if change is None:
                return
            yield change

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        """The next change under Trio, as `__iter__`."""
        # Only who waits under Trio needs it.
        from ecsnet.store.waiting import woken

        change = self._next_change()
        while change is None:
            came = await woken(partial(self._history.register, self._next), self._timeout_s)
            if self._closed or not came:
                raise StopAsyncIteration
            change = self._next_change()
            if change is None and self._history.closed:
                raise StopAsyncIteration
        return change

    # --- ending ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Take no more. Again is harmless."""
        self._closed = True
        self._pending.clear()
        self._history.wake()

    def __enter__(self) -> Self:
        self._demand_open()
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def __repr__(self) -> str:
        names = ", ".join(table.name for table in self._interest.tables)
        return f"<{'closed ' if self._closed else ''}subscription to {names}, at version {self.version}>"

    # --- inside ------------------------------------------------------------------------------------------------------

    def _demand_open(self) -> None:
        if self._closed:
            raise ClosedError("the subscription is closed")

    def _next_change(self) -> Change | None:
        """The next change that is there already."""
        self._demand_open()
        while not self._pending:
            # Only now was all of the version before handed out.
            chunk = self._take()
            if chunk is None:
                return None
            self._pending.extend(self._interest.changes(chunk))
            if not self._pending:
                self.version = Version(chunk.version)
        change = self._pending.popleft()
        self.version = change.version if not self._pending else Version(change.version - 1)
        return change

    def _until(self, head: int) -> Iterator[Change]:
        """All changes up to a version."""
        while (chunk := self._history.chunk(self._next)) is not None or self._next < self._history.first:
            if chunk is None:
                raise self._gone(self._history.oldest(self._interest.tables))
            if chunk.version > head:
                return
            self._next += 1
            yield from self._interest.changes(chunk)
            self.version = Version(chunk.version)

    def _take(self) -> Chunk | None:
        chunk = self._history.chunk(self._next)
        if chunk is not None:
            self._next += 1
        elif self._next < self._history.first:
            raise self._gone(self._history.oldest(self._interest.tables))
        return chunk

    def _gone(self, oldest: int) -> HistoryGoneError:
        return HistoryGoneError(self.version, oldest, self._history.bytes_max)


def new_history(changes_bytes: int | None) -> History:
    """The history of a store.

    Raises:
        ArgumentError: not a number of bytes.
    """
    if changes_bytes is None:
        return History(CHANGES_BYTES_DEFAULT)
    if isinstance(changes_bytes, bool) or not isinstance(changes_bytes, int) or changes_bytes < 1:
        raise ArgumentError(f"changes_bytes: expected a number of bytes above 0, found {changes_bytes!r}")
    return History(changes_bytes)
