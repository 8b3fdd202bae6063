"""A world in a store on a disk whose contents one can tell by few numbers: what is done to it, and what it must hold.

Used by `sims/kill.py`, whose processes die, and `sims/disk.py`, whose disks do.

Each of some workers has rows of its own and does transactions that are numbered from 1: number n of worker w is drawn
from the seed, w and n alone, and writes n down in a row, `progress`. So what a worker has done to its rows is told by
one number, whatever happened in between, and all its rows can be computed from it (`Expected`).

Invariants:
- a row says which worker made it, and with which operation (`made`), so that its key can be followed;
- transaction n + 1 is handed in after n, so the store has the transactions of a worker up to some number and no other.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from ecsnet._kernel.disk import Recovery
from ecsnet.schema import loads
from ecsnet.store import Store, Ticket

LEVELS: Final = ("memory", "relaxed", "strict", "paranoid")
SEGMENT_BYTES: Final = 64 << 10
"""Small, so that most runs begin some."""
AT_ONCE: Final = 8
"""Transactions of a worker that wait for their answer at a time, where they need not wait for each other."""
WAIT_S: Final = 60.0
"""For the baton, and for a ticket."""
OPERATIONS: Final = 8
"""More than a transaction has."""

SCHEMA = loads("""
[database]
name = "kill"
version = "1.0.0"

[tables.progress]
primary_key = "worker"
fields = [{ name = "worker", type = "u16" },
          { name = "done", type = "u64", default = 0 }]

[tables.note]
primary_key = "id"
fields = [{ name = "id", type = "u64", auto_increment = true },
          { name = "worker", type = "u16" },
          { name = "made", type = "u64" },
          { name = "text", type = "string[200]", default = "" }]

[tables.ship]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "worker", type = "u16" },
          { name = "made", type = "u64" },
          { name = "x", type = "f64", default = 0.0 }]
""")


class Operation(NamedTuple):
    """One operation: "insert", "update" or "delete" of the row made by `made` in `table`, with this value."""

    kind: str
    table: str
    made: int
    value: Any


@dataclass
class Expected:
    """The rows of one worker after `done` transactions, by what made them."""

    seed: int
    worker: int
    done: int = 0
    note: dict[int, str] = field(default_factory=dict)
    ship: dict[int, float] = field(default_factory=dict)

    def next(self) -> list[Operation]:
        """The operations of the next transaction, which are done to this."""
        self.done += 1
        draw = random.Random(f"{self.seed}.{self.worker}.{self.done}")
        operations = []
        for place in range(draw.randrange(1, OPERATIONS)):
            table = draw.choice(("note", "ship"))
            rows: dict[int, Any] = self.note if table == "note" else self.ship
            value = "".join(draw.choices("abcé€", k=draw.randrange(40))) if table == "note" else draw.random()
            chance = draw.random()
            if len(rows) < 5 or (chance < 0.4 and len(rows) < 40):
                made = self.done * OPERATIONS + place
                rows[made] = value
                operations.append(Operation("insert", table, made, value))
            elif chance < 0.7:
                made = draw.choice(sorted(rows))
                rows[made] = value
                operations.append(Operation("update", table, made, value))
            else:
                made = draw.choice(sorted(rows))
                del rows[made]
                operations.append(Operation("delete", table, made, None))
        return operations

    def advance(self, done: int) -> None:
        """Be what it is after so many transactions."""
        while self.done < done:
            self.next()


def prepare(store: Store, workers: int) -> None:
    """Give each worker its row, in a store that is new."""
    if store.version == 0:
        with store.transaction(durability="strict") as tx:
            for worker in range(workers):
                tx.insert("progress", {"worker": worker})


class Found(NamedTuple):
    """What is in a store: of each worker how far it came, and its rows as (made, key, value)."""

    version: int
    done: dict[int, int]
    note: dict[int, list[tuple[int, int, Any]]]
    ship: dict[int, list[tuple[int, int, Any]]]


def look(store: Store) -> Found:
    """All that a store holds, in one view."""
    with store.view() as view:
        (progress,) = view.query("progress")
        found = Found(
            int(view.version), dict(zip(progress.worker.tolist(), progress.done.tolist(), strict=True)), {}, {}
        )
        for table, field_name, rows in (("note", "text", found.note), ("ship", "x", found.ship)):
            (columns,) = view.query(table)
            keys = columns.key.tolist()
            values = getattr(columns, field_name).tolist()
            for worker, made, key, value in zip(
                columns.worker.tolist(), columns.made.tolist(), keys, values, strict=True
            ):
                rows.setdefault(worker, []).append((made, key, value))
            for some in rows.values():
                # The order of rows is nobody's to count on.
                some.sort()
    return found


class LostError(AssertionError):
    """The store does not keep what it promised."""


@dataclass
class Known:
    """What is known of one directory: what a store there must have, from acknowledgements and former looks."""

    seed: int
    version: int = 0
    done: dict[int, int] = field(default_factory=dict)
    acks: list[tuple[int, int, int, int]] = field(default_factory=list)
    keys: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    """Of every row that there ever was: its maker, by worker and number."""
    minted: list[tuple[int, str, int, int, int]] = field(default_factory=list)
    """Rows since the last look that were made and perhaps deleted again: version, table, key, worker, number."""
    database: bytes = b""
    epoch: int = 0
    floor: int = 3
    """The least durability of what was written since the last look; 3 also after a clean close."""
    pending: bool = False
    """A new epoch was told of, which begins with the first commit."""

    def check(self, found: Found, recovery: Recovery, *, survives: int) -> None:
        """Compare what is found after an opening, and know more from now on.

        Args:
            survives: the least level of which an acknowledgement means that it is there: 1 after the death of a
                process, 2 after a loss of power, 0 after a close.

        Raises:
            LostError: naming what is lost, or there and should not be.
        """
        if recovery.damage or recovery.read_only:
            raise LostError(f"it takes itself for damaged: {recovery.damage}")
        if recovery.created and self.version:
            raise LostError("it takes itself for new")
        if self.database not in (b"", recovery.database):
            raise LostError(f"the database was {self.database.hex()} and is {recovery.database.hex()}")
        if found.version < self.version:
            raise LostError(f"version {self.version} was seen, {found.version} is what is left")
        if found.version != recovery.version:
            raise LostError(f"recovered {recovery.version}, shown is {found.version}")
        for worker, level, number, version in self.acks:
            if level >= survives and number > found.done.get(worker, 0):
                raise LostError(
                    f"transaction {number} of worker {worker} was acknowledged as {LEVELS[level]} in version "
                    f"{version}, and is lost: version {found.version} has its first {found.done.get(worker, 0)}"
                )
        for worker, done in self.done.items():
            if found.done.get(worker, 0) < done:
                raise LostError(f"{done} transactions of worker {worker} were seen, {found.done.get(worker, 0)} left")
        for version, table, key, worker, made in self.minted:
            if version <= found.version:
                self._note_key(table, key, worker, made)
        self.check_state(found)
        for table, rows in (("note", found.note), ("ship", found.ship)):
            for worker, some in rows.items():
                for made, key, _ in some:
                    self._note_key(table, key, worker, made)
        self._check_epoch(recovery)
        self.minted = []
        self.pending, self.floor = recovery.new_epoch, 3
        self.version, self.done, self.acks = found.version, found.done, []
        self.database, self.epoch = recovery.database, recovery.epoch

    def check_state(self, found: Found) -> None:
        """Compare what one version shows: whole transactions, as many as its number says.

        Raises:
            LostError: naming what is there and should not be, or the other way round.
        """
        for worker, _, number, version in self.acks:
            there = number <= found.done.get(worker, 0)
            if there != (version <= found.version):
                word = "is" if there else "is not"
                raise LostError(f"transaction {number} of worker {worker} {word} there: {version} of {found.version}")
        for worker, done in found.done.items():
            self._check_rows(worker, done, found)

    def _check_epoch(self, recovery: Recovery) -> None:
        """Another epoch begins only where versions that somebody saw may be gone, and then it does not forget."""
        waits = self.pending and self.version == recovery.version
        if recovery.new_epoch and self.floor >= 2 and not waits:
            raise LostError("a new epoch after a run that was strict: nothing that was seen can be lost")
        seen = max((version for *_, version in self.acks), default=0)
        if seen > recovery.version and not recovery.new_epoch:
            raise LostError(f"version {seen} was seen, {recovery.version} is what is left, of the same epoch")
        if recovery.new_epoch and recovery.ancestors[-1][1] != recovery.version:
            raise LostError(f"the epoch before ended at {recovery.ancestors[-1]}, which is not {recovery.version}")
        epochs = [epoch for epoch, _ in recovery.ancestors]
        if recovery.epoch in epochs or len(set(epochs)) != len(epochs):
            raise LostError(f"epoch {recovery.epoch} was there before: {recovery.ancestors}")

    def _check_rows(self, worker: int, done: int, found: Found) -> None:
        expected = Expected(self.seed, worker)
        expected.advance(done)
        for table, rows, wanted in (
            ("note", found.note.get(worker, []), expected.note),
            ("ship", found.ship.get(worker, []), expected.ship),
        ):
            if {made: value for made, _, value in rows} != wanted or len(rows) != len(wanted):
                raise LostError(f"worker {worker} after {done}: {table} is {sorted(rows)}, expected {wanted}")
            for made, key, _ in rows:
                self._check_key(table, key, worker, made)

    def _note_key(self, table: str, key: int, worker: int, made: int) -> None:
        """It is there for good: a key names one row for ever."""
        self._check_key(table, key, worker, made)
        self.keys[table, key] = (worker, made)

    def _check_key(self, table: str, key: int, worker: int, made: int) -> None:
        before = self.keys.get((table, key), (worker, made))
        if before != (worker, made):
            raise LostError(f"key {key:#x} of {table} was of {before} and is of {(worker, made)}")


class Hand:
    """A worker: it knows the keys of its rows, and hands its transactions in.

    After an error it is not to be used any more: what the store has of its last transactions is to be looked up.
    """

    def __init__(
        self,
        store: Store,
        seed: int,
        level: str,
        worker: int,
        found: Found,
        tell: Callable[[int, int, int, int], object],
        draw: random.Random,
        ticket_wait_s: float | None = WAIT_S,
    ) -> None:
        self.store = store
        self.worker = worker
        self.level = LEVELS.index(level)
        self.draw = draw
        self.ticket_wait_s = ticket_wait_s
        """None: who waits for a ticket does the disk's work, as nobody else may."""
        self.expected = Expected(seed, worker)
        self.expected.advance(found.done[worker])
        self.keys = {
            "note": {made: key for made, key, _ in found.note.get(worker, ())},
            "ship": {made: key for made, key, _ in found.ship.get(worker, ())},
        }
        with store.view() as view:
            key = view.find("progress.worker", worker)
        assert key is not None, "prepared"
        self.row = key
        self.tell = tell
        self.minted: dict[int, list[tuple[str, int, int]]] = {}
        """Of each transaction: table, number and key of the rows that it made."""

    def fill(self, tx: Any) -> int:
        """Write the next transaction into `tx`. Returns its number."""
        for kind, table, made, value in self.expected.next():
            cells = {"text" if table == "note" else "x": value}
            if kind == "delete":
                self.remove(tx, table, self.keys[table].pop(made))
            elif kind == "update":
                tx.update(self.keys[table][made], table, **cells)
            elif table == "note":
                self.mint(table, made, int(tx.insert(table, {"worker": self.worker, "made": made, **cells})))
            else:
                self.mint(table, made, int(tx.spawn(ship={"worker": self.worker, "made": made, **cells})))
        tx.update(self.row, "progress", done=self.expected.done)
        return self.expected.done

    def mint(self, table: str, made: int, key: int) -> None:
        """The transaction that is written has made a row of this key."""
        self.keys[table][made] = key
        self.minted.setdefault(self.expected.done, []).append((table, made, key))

    def fill_queue(self, queued: Any) -> tuple[int, list[tuple[str, int]]]:
        """As `fill`; a row that it makes is not touched again by it. Returns what it makes, too, in order."""
        fresh: list[tuple[str, int]] = []
        for kind, table, made, value in whole(self.expected.next()):
            cells = {"text" if table == "note" else "x": value}
            if kind == "delete":
                self.remove(queued, table, self.keys[table].pop(made))
            elif kind == "update":
                queued.update(self.keys[table][made], table, **cells)
            else:
                fresh.append((table, made))
                if table == "note":
                    queued.insert(table, {"worker": self.worker, "made": made, **cells})
                else:
                    queued.spawn(ship={"worker": self.worker, "made": made, **cells})
        queued.update(self.row, "progress", done=self.expected.done)
        return self.expected.done, fresh

    @staticmethod
    def remove(tx: Any, table: str, key: int) -> None:
        """Delete a row: of a ship, its entity."""
        if table == "ship":
            tx.despawn(key)
        else:
            tx.delete(key, table)

    def durability(self) -> int:
        """A level for the next transaction: the store's, or a higher one."""
        return max(self.level, self.draw.choice((self.level, self.level, *range(4))))

    def acknowledged(self, level: int, number: int, version: int | None) -> None:
        """Tell who keeps account of it."""
        self.tell(self.worker, level, number, version or 0)

    def call(self) -> None:
        """A transaction that blocks until it is as durable as it is to be."""
        level = self.durability()
        with self.store.transaction(wait_s=WAIT_S, durability=LEVELS[level]) as tx:
            number = self.fill(tx)
        self.acknowledged(level, number, tx.version)

    def tickets(self) -> None:
        """Several, of which none waits for another's durability."""
        waiting: list[tuple[int, int, Ticket]] = []
        try:
            for _ in range(self.draw.randrange(1, AT_ONCE)):
                level = self.durability()
                tx = self.store.transaction(wait_s=WAIT_S, durability=LEVELS[level])
                number = self.fill(tx)
                waiting.append((level, number, tx.commit(wait=False)))
        finally:
            for level, number, ticket in waiting:
                self.acknowledged(level, number, ticket.wait(self.ticket_wait_s))

    def queued(self) -> None:
        """By the queue. The keys of what it makes are known when it is committed."""
        queued = self.store.queue()
        number, fresh = self.fill_queue(queued)
        ticket = queued.commit(wait=True)
        version = ticket.wait(self.ticket_wait_s)
        for (table, made), key in zip(fresh, ticket.keys, strict=True):
            self.mint(table, made, int(key))
        self.acknowledged(self.level, number, version)


def whole(operations: list[Operation]) -> list[Operation]:
    """The same in effect, without touching what it makes itself: a row made and changed is made as changed."""
    last: dict[tuple[str, int], Operation] = {}
    for one in operations:
        before = last.pop((one.table, one.made), None)
        if before is None or before.kind != "insert":
            last[one.table, one.made] = one
        elif one.kind == "update":
            last[one.table, one.made] = before._replace(value=one.value)
    return list(last.values())
