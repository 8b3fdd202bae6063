"""Is the store strictly serializable? `python sims/isolation.py [--first-seed N] [--seeds N] [--seconds S] [--json]`.

Threads append to lists and read them in every way there is: transactions (committed, rolled back, refused, with
savepoints), ticks of several transactions, the queue, single calls, decisions on a view that are expected to hold
still, lent columns, tasks under Trio, and views, of which some are held. What each did and saw is written down, with
when and with which version, and `isolation_checks.py` looks for what no order of one after the other could have done.

Lists are kept in three ways, since each is written by other code: in an array, a text and a count of one row (which are
compared: half of a row seen is found here), as rows of their own in the order of their numbers, and in an array of a
component that is written through lent columns.

With `--durable` the store is on a disk, and dies in the middle of it all: see `isolation_disk.py`.

A seed decides what is done, not when: threads run as they like, and a failure may not come again with its seed.

The exit status is 0 if there was no anomaly.
"""

import argparse
import itertools
import json
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

ROOT = Path(__file__).resolve().parent.parent
# Run as a program, from any folder: of this clone, whatever else is installed.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from ecsnet.errors import BusyError, ConflictError, ConstraintError  # noqa: E402
from ecsnet.expressions import col  # noqa: E402
from ecsnet.ids import Tick  # noqa: E402
from ecsnet.schema import loads  # noqa: E402
from ecsnet.store import Store  # noqa: E402
from ecsnet.store import Transaction as StoreTransaction  # noqa: E402
from ecsnet.store.store import TickScope  # noqa: E402
from sims.isolation_checks import Anomaly, Append, Read, Transaction, check  # noqa: E402

PLACES = 64
"""Of a list: longer ones would make each read slow, and find no more."""
FULL = 40
"""From so many appends on another list is taken; who is late still finds room."""
AT_ONCE = 3
"""Lists of each kind that are appended to at a time: few, so that they meet."""
LISTS = 80
"""Of each kind, in one history."""
STEPS = 300
"""Of each thread."""
WAIT_S = 30.0
"""For the baton, and for a ticket."""

SCHEMA = loads(f"""
[database]
name = "isolation"
version = "1.0.0"

[tables.chain]
primary_key = "number"
fields = [{{ name = "number", type = "u16" }},
          {{ name = "length", type = "u16", default = 0 }},
          {{ name = "items", type = "[u32; {PLACES}]", default = {[0] * PLACES} }},
          {{ name = "text", type = "string[{PLACES * 7}]", default = "" }}]

[tables.link]
primary_key = "id"
fields = [{{ name = "id", type = "u64", auto_increment = true }},
          {{ name = "chain", type = "u16" }},
          {{ name = "value", type = "u32" }}]

[tables.strip]
parent_table = "entities"
fields = [{{ name = "entity_id", type = "u64", foreign_key = "entities.id" }},
          {{ name = "number", type = "u16" }},
          {{ name = "length", type = "u16", default = 0 }},
          {{ name = "items", type = "[u32; {PLACES}]", default = {[0] * PLACES} }}]

[tables.taken]
primary_key = "name"
fields = [{{ name = "name", type = "u16" }}]
""")


class _Undone(Exception):
    """Raised to roll back."""


class TornError(AssertionError):
    """A row was seen of which half is from before a write and half from after, or something else that is no state."""


class Run:
    """One store, the threads at it, and what they wrote down."""

    def __init__(self, store: Store, seed: int, *, steps: int = STEPS) -> None:
        self.store = store
        self.seed = seed
        self.steps = steps
        self.history: list[Transaction] = []
        self.broken: list[str] = []
        # `next` of a count is one step of the interpreter, so numbers are in the order of what happened.
        self._moments = itertools.count(1)
        self._values = itertools.count(1)
        self._appends = [0] * (3 * LISTS)
        self._window = [0, 0, 0]
        self._chains: list[int] = []
        self._strips: list[int] = []

    # --- the world ----------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the lists, and the name that is taken."""
        with self.store.transaction() as tx:
            tx.insert("taken", {"name": 1})
            self._chains = [int(tx.insert("chain", {"number": number})) for number in range(LISTS)]
            self._strips = [int(tx.spawn(strip={"number": number})) for number in range(LISTS)]

    def now(self) -> int:
        """The next moment."""
        return next(self._moments)

    def pick(self, draw: random.Random, kind: int) -> int:
        """A list of the kind that is appended to these days."""
        start = self._window[kind]
        name = kind * LISTS + (start + draw.randrange(AT_ONCE)) % LISTS
        if self._appends[name] >= FULL:
            self._window[kind] = start + 1
        return name

    def read(self, source: Any, name: int) -> tuple[int, ...]:
        """A list, as a view or a transaction sees it."""
        kind, number = divmod(name, LISTS)
        if kind == 1:
            rows = source.query("link").where(col("link.chain") == number)
            (link,) = rows
            return tuple(value for _, value in sorted(zip(link.id.tolist(), link.value.tolist(), strict=True)))
        table, key = ("chain", self._chains[number]) if kind == 0 else ("strip", self._strips[number])
        length = int(source[key, f"{table}.length"])
        items = source[key, f"{table}.items"].tolist()
        seen = tuple(items[:length])
        if any(items[length:]) or not all(seen):
            raise TornError(f"{table} {number} has {length} items and holds {items}")
        if kind == 0:
            text = source[key, "chain.text"]
            if text != "".join(f"{value} " for value in seen):
                raise TornError(f"chain {number} holds {seen} as numbers and {text!r} as a text")
        return seen

    def append(self, tx: Any, name: int) -> int | None:
        """Append a new value, which is returned; None when the list is full."""
        kind, number = divmod(name, LISTS)
        value = next(self._values)
        self._appends[name] += 1
        if kind == 1:
            tx.insert("link", {"chain": number, "value": value})
            return value
        if kind == 2:
            return value if self._append_lent(tx, number, value) else None
        key = self._chains[number]
        length = int(tx[key, "chain.length"])
        if length == PLACES:
            return None
        items = tx[key, "chain.items"]
        items[length] = value
        tx.update(key, "chain", items=items, text=tx[key, "chain.text"] + f"{value} ")
        tx[key, "chain.length"] = length + 1
        return value

    def _append_lent(self, tx: Any, number: int, value: int) -> bool:
        (strip,) = tx.query("strip")
        place = strip.number.tolist().index(number)
        length = int(strip.length[place])
        if length == PLACES:
            return False
        strip.items[place, length] = value
        strip.length[place] = length + 1
        return True

    # --- what is written down -----------------------------------------------------------------------------------------

    @contextmanager
    def noted(self, who: str) -> Iterator[Transaction]:
        """A transaction that begins now, and ends with the block. An error that the store may give refuses it."""
        noted = Transaction(who, [], self.now())
        self.history.append(noted)
        try:
            yield noted
            noted.outcome = "committed"
        except (_Undone, ConstraintError, ConflictError, BusyError):
            noted.outcome = "refused"
        finally:
            noted.ended = self.now()

    def work(self, draw: random.Random, tx: Any, noted: Transaction, *, lend: bool) -> None:
        """Some reads and appends, which are noted as they are done.

        Rows stand still from the first query of a transaction on: what is inserted or undone comes before.
        """
        if not lend and draw.random() < 0.2:
            self.undo(draw, tx)
        still = False
        for _ in range(draw.randrange(1, 5)):
            name = self.pick(draw, 2 if lend else draw.randrange(2))
            if draw.random() < 0.45:
                noted.steps.append(Read(name, self.read(tx, name)))
                still = still or LISTS <= name < 2 * LISTS
            elif not (still and LISTS <= name < 2 * LISTS):
                self._note(noted, name, self.append(tx, name))

    def undo(self, draw: random.Random, tx: Any) -> None:
        """Append in a savepoint that is rolled back: nobody ever sees it, not even the transaction around it."""
        undone = Transaction("savepoint", [], self.now(), outcome="refused")
        self.history.append(undone)
        try:
            with tx.savepoint():
                name = self.pick(draw, draw.randrange(2))
                self._note(undone, name, self.append(tx, name))
                raise _Undone
        except _Undone:
            undone.ended = self.now()

    @staticmethod
    def _note(noted: Transaction, name: int, value: int | None) -> None:
        if value is not None:
            noted.steps.append(Append(name, value))

    def end(self, draw: random.Random, tx: Any) -> None:
        """Let some fail: rolled back by an error of the game, or refused for a name that is taken."""
        chance = draw.random()
        if chance < 0.08:
            raise _Undone
        if chance < 0.16:
            tx.insert("taken", {"name": 1})

    def begin(self, draw: random.Random, noted: Transaction) -> StoreTransaction:
        """A transaction, for what is noted."""
        return self.store.transaction(wait_s=WAIT_S)

    def look(self, view: Any) -> None:
        """What else must be so of a view that was just taken."""

    def settle(self) -> None:
        """A tick has ended, and what it did is about to be told."""

    # --- who does it --------------------------------------------------------------------------------------------------

    def writer(self, draw: random.Random) -> None:
        """A transaction."""
        lend = draw.random() < 0.3
        with (
            self.noted("writer") as noted,
            self.begin(draw, noted) as tx,
        ):
            self.work(draw, tx, noted, lend=lend)
            self.end(draw, tx)
        if noted.outcome == "committed":
            noted.version = tx.version

    def optimist(self, draw: random.Random) -> None:
        """Read in a view, then append if what was read is still so."""
        with self.noted("optimist") as noted:
            names = sorted({self.pick(draw, 0) for _ in range(draw.randrange(1, 4))})
            with self.store.view() as view:
                noted.steps += [Read(name, self.read(view, name)) for name in names]
                time.sleep(draw.choice((0.0, 0.0, 0.001)))
                with self.begin(draw, noted) as tx:
                    for name in names:
                        tx.expect(self._chains[name], "chain", since=view)
                    name = draw.choice(names)
                    self._note(noted, name, self.append(tx, name))
        if noted.outcome == "committed":
            noted.version = tx.version

    def producer(self, draw: random.Random) -> None:
        """Hand several transactions in, and wait for all of them then."""
        waiting = []
        for _ in range(draw.randrange(1, 5)):
            noted = Transaction("producer", [], self.now())
            self.history.append(noted)
            queued = self.store.queue()
            for _ in range(draw.randrange(1, 4)):
                name = self.pick(draw, 1)
                self._note(noted, name, self.append(queued, name))
            if draw.random() < 0.15:
                queued.insert("taken", {"name": 1})
            waiting.append((noted, queued.commit(wait=True)))
        for noted, ticket in waiting:
            try:
                noted.version = ticket.wait(WAIT_S)
                noted.outcome = "committed"
            except ConstraintError:
                noted.outcome = "refused"
            noted.ended = self.now()

    def single(self, draw: random.Random) -> None:
        """A call that is a transaction of its own."""
        with self.noted("single") as noted:
            name, value = self.pick(draw, 1), next(self._values)
            self._appends[name] += 1
            noted.steps.append(Append(name, value))
            self.store["link"].insert(chain=name % LISTS, value=value)

    def ticker(self, draw: random.Random) -> None:
        """Some transactions that are one version."""
        noted: list[tuple[Transaction, StoreTransaction]] = []
        with self.turn() as tick:
            for _ in range(draw.randrange(1, 4)):
                with self.noted("tick") as one:
                    tx = tick.transaction("tick")
                    with tx:
                        self.work(draw, tx, one, lend=draw.random() < 0.3)
                        self.end(draw, tx)
                noted.append((one, tx))
            tick.publish()
        self.settle()
        for one, tx in noted:
            # Nobody outside of the tick knows of it before the tick has ended.
            one.ended = self.now()
            if one.outcome == "committed":
                one.version = tx.version

    @contextmanager
    def turn(self) -> Iterator[TickScope]:
        """A tick, as soon as nobody else writes."""
        tick = self.store.tick(Tick(self.store.current_tick + 1))
        until = time.monotonic() + WAIT_S
        while True:
            try:
                tick.__enter__()
                break
            except BusyError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.0002)
        try:
            yield tick
        finally:
            tick.__exit__()

    def reader(self, draw: random.Random) -> None:
        """A view, which tells the same for as long as it is held."""
        with self.noted("reader") as noted, self.store.view() as view:
            noted.version, noted.exact = view.version, True
            self.look(view)
            for _ in range(draw.randrange(1, 5)):
                name = self.pick(draw, draw.randrange(3))
                noted.steps.append(Read(name, self.read(view, name)))
            if draw.random() < 0.3:
                time.sleep(draw.random() * 0.005)
                noted.steps += [Read(step.list, self.read(view, step.list)) for step in tuple(noted.steps)]

    async def task(self, draw: random.Random) -> None:
        """The same under Trio: a transaction that waits for the baton, or a queued one that is awaited."""
        for _ in range(self.steps // 3):
            if draw.random() < 0.5:
                with self.noted("task") as noted:
                    async with self.begin(draw, noted) as tx:
                        self.work(draw, tx, noted, lend=False)
                        self.end(draw, tx)
                if noted.outcome == "committed":
                    noted.version = tx.version
            else:
                with self.noted("awaited") as noted:
                    queued, name = self.store.queue(), self.pick(draw, 1)
                    self._note(noted, name, self.append(queued, name))
                    noted.version = await queued.committed()
            await trio.sleep(0)

    def tasks(self, draw: random.Random) -> None:
        """Three tasks in one thread."""

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(self.task, random.Random(draw.random()))

        trio.run(main)

    # --- all of it ----------------------------------------------------------------------------------------------------

    def run(self, meanwhile: Callable[[], object] = lambda: None) -> list[Anomaly]:
        """Let everybody do their steps, and `meanwhile`. Then all lists are read once more."""
        roles = [self.writer, self.writer, self.optimist, self.producer, self.single, self.ticker]
        threads = [threading.Thread(target=self._repeat, args=(role, place)) for place, role in enumerate(roles)]
        threads += [threading.Thread(target=self._repeat, args=(self.reader, 10 + place)) for place in range(2)]
        threads.append(threading.Thread(target=self._guarded, args=(self.tasks, random.Random(f"{self.seed}.trio"))))
        for thread in threads:
            thread.start()
        meanwhile()
        for thread in threads:
            thread.join()
        self.read_all(self.store)
        return [*(Anomaly("broken", why) for why in self.broken), *check(self.history)]

    def read_all(self, store: Store) -> None:
        """All lists, in one view."""
        with self.noted("last") as noted, store.view() as view:
            noted.version, noted.exact = view.version, True
            try:
                noted.steps += [Read(name, self.read(view, name)) for name in range(3 * LISTS)]
            except TornError as error:
                self.broken.append(str(error))

    def _repeat(self, role: Callable[[random.Random], None], place: int) -> None:
        draw = random.Random(f"{self.seed}.{place}")

        def steps(_: random.Random) -> None:
            for _ in range(self.steps):
                role(draw)

        self._guarded(steps, draw)

    def _guarded(self, work: Callable[[random.Random], None], draw: random.Random) -> None:
        try:
            work(draw)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is told)
            self.broken.append(f"{type(error).__name__}: {error}")


def play(seed: int, *, steps: int = STEPS, durable: bool = False) -> tuple[int, list[Anomaly]]:
    """One history. Returns how many transactions it has, and what is wrong with it."""
    if durable:
        from sims.isolation_disk import play as play_durable

        return play_durable(seed, steps=steps)
    with Store(SCHEMA) as store:
        run = Run(store, seed, steps=steps)
        run.prepare()
        found = run.run()
    return len(run.history), found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=10, help="how many histories (default 10)")
    parser.add_argument("--seconds", type=float, default=None, help="begin no history after so many seconds")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of each thread (default {STEPS})")
    parser.add_argument("--durable", action="store_true", help="on a disk, which loses power in the middle of it")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    given = parser.parse_args(arguments)
    # Threads meet in more places when they are changed often.
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-5)
    began = time.monotonic()
    histories = transactions = failed = 0
    try:
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            if given.seconds is not None and time.monotonic() - began > given.seconds:
                break
            count, found = play(seed, steps=given.steps, durable=given.durable)
            histories, transactions, failed = histories + 1, transactions + count, failed + bool(found)
            for anomaly in found[:5]:
                print(f"FAILED seed {seed}: {anomaly.name}: {anomaly.why[:400]}", file=sys.stderr, flush=True)
    finally:
        sys.setswitchinterval(before)
    summary = {"histories": histories, "transactions": transactions, "failed": failed}
    if given.json:
        print(json.dumps(summary))
    else:
        print(f"{histories} histories of {transactions} transactions from seed {given.first_seed}: {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
