"""Does a log give back all that was made, and does nobody see what waits?

    python sims/redo.py [--first-seed N] [--seeds N] [--seconds S] [--json]

One store, logged, through random histories: rows come, change, move and go, one by one, in bulk and through lent
columns, keys are reserved and never used, transactions and parts of them are undone. Versions are held until they are
safe, which is some time later; readers hold some of what is shown. A model in plain dicts knows what each version was.

Looked at: each version when it is shown and when it is let go; that none is shown, and no follower told of it, before
what was demanded of it is safe; that no version's body is longer than was promised; and every prefix of the log in a
fresh store: its rows, its counters, and that it hands out no key that was ever handed out before.

Half of the seeds have guarded views, which stop the process at a change that was not marked.

The exit status is 0 if nothing was wrong.
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
# Run as a program, from any folder: of this clone, whatever else is installed.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from ecsnet._kernel import journal, redo  # noqa: E402
from ecsnet._kernel.kernel import KernelStore  # noqa: E402
from ecsnet._kernel.pin import Pin  # noqa: E402
from ecsnet.schema import loads  # noqa: E402

SCHEMA = loads("""
[database]
name = "redo"
version = "1.0.0"

[tables.body]
parent_table = "entities"
group = "both"
fields = [{ name = "entity", type = "u64", foreign_key = "entities.id" },
          { name = "x", type = "f64", default = 0.0 },
          { name = "hp", type = "i16", default = 9 }]

[tables.sign]
parent_table = "entities"
group = "both"
fields = [{ name = "entity", type = "u64", foreign_key = "entities.id" },
          { name = "text", type = "string[90]", default = "none" },
          { name = "by", type = "u64", foreign_key = "entities.id", optional = true, on_delete = "set_null" }]

[tables.item]
primary_key = "id"
fields = [{ name = "id", type = "u32", auto_increment = true },
          { name = "label", type = "string[2000]", default = "" }]
""")
BODY, SIGN, ITEM = (SCHEMA.table(name) for name in ("body", "sign", "item"))
TABLES = (SCHEMA.tables[0], BODY, SIGN, ITEM)
STEPS = 120
"""Versions of one history, about."""

Rows = dict[int, dict[int, tuple[Any, ...]]]
"""By table and key: the cells by field id, which go by name."""


class WrongError(Exception):
    """What was promised does not hold."""


def demand(holds: bool, what: str) -> None:
    if not holds:
        raise WrongError(what)


def fresh(guarded: bool) -> KernelStore:
    kernel = KernelStore(SCHEMA, entities_max=5000, guarded=guarded)
    kernel.take_baton()
    kernel.begin()
    kernel.commit()
    kernel.publish(0, genesis=True)
    return kernel


def rows_of(pin: Pin) -> Rows:
    found: Rows = {}
    for table in TABLES:
        columns = [
            pin.texts(table.id, f.id).decode() if f.type == "string" else pin.column(table.id, f.id).tolist()
            for f in table.fields
        ]
        found[table.id] = dict(zip(pin.keys(table.id).tolist(), zip(*columns, strict=True), strict=True))
    return found


class History:
    """One seed."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.guarded = seed % 2 == 0
        self.kernel = fresh(self.guarded)
        redo.finish(self.kernel)
        journal.watch(self.kernel, [table.id for table in TABLES], 1 << 20)
        self.rows: Rows = {table.id: {} for table in TABLES}
        self.counter = 0
        self.made: list[tuple[Rows, int]] = [(self.copied(), 0)]
        self.bodies: list[bytes] = []
        self.handed: dict[tuple[int, int], int] = {}
        self.promised = self.safe = 0
        self.demanded: list[int] = []
        self.held: list[Pin] = []

    def copied(self) -> Rows:
        return {table: dict(rows) for table, rows in self.rows.items()}

    # --- writing ------------------------------------------------------------------------------------------------------

    def handed_out(self, table: int, keys: list[int]) -> None:
        for key in keys:
            demand((table, key) not in self.handed, f"key {key} of table {table} was handed out twice")
            self.handed[table, key] = len(self.made)

    def forget(self, key: int) -> None:
        for table in (0, BODY.id, SIGN.id):
            self.rows[table].pop(key, None)
        for other, (by, text) in self.rows[SIGN.id].items():
            if by == key:
                self.rows[SIGN.id][other] = (0, text)

    def act(self) -> None:
        draw, kernel, rows = self.draw, self.kernel, self.rows
        alive = list(rows[0])
        what = draw.choice(
            ["spawn", "spawn", "move", "move", "write", "die", "strip", "item", "drop", "reserve", "lend"]
        )
        if what == "spawn" or not alive:
            n = draw.choice([1, 2, 40])
            keys = kernel.reserve(0, n)
            self.handed_out(0, keys.tolist())
            kernel.insert_many(0, keys, {0: np.zeros(n, np.uint64)})
            xs = [float(draw.randrange(100)) for _ in range(n)]
            kernel.insert_many(BODY.id, keys, {BODY.field("x").id: xs})
            for key, x in zip(keys.tolist(), xs, strict=True):
                rows[0][key], rows[BODY.id][key] = (0,), (9, x)
                if draw.random() < 0.4:
                    text, by = f"{draw.randrange(50)}" * draw.randrange(30), draw.choice([0, *alive])
                    shape = kernel.shape(SIGN.id, tuple(f.id for f in SIGN.fields))
                    kernel.insert(shape, key, (by, len(text), text.encode()))
                    rows[SIGN.id][key] = (by, text)
        elif what == "move":
            for key in draw.sample(list(rows[BODY.id]), min(len(rows[BODY.id]), draw.choice([1, 5]))):
                x = float(draw.randrange(100))
                kernel.update(kernel.shape(BODY.id, (BODY.field("x").id,)), key, (x,))
                rows[BODY.id][key] = (rows[BODY.id][key][0], x)
        elif what == "write":
            keys = draw.sample(list(rows[SIGN.id]), min(len(rows[SIGN.id]), 9))
            texts = [draw.choice(["", "höher", "a sign that says a little more"]) for _ in keys]
            if keys:
                kernel.update_many(SIGN.id, np.array(keys, np.uint64), {SIGN.field("text").id: texts})
            for key, text in zip(keys, texts, strict=True):
                rows[SIGN.id][key] = (rows[SIGN.id][key][0], text)
        elif what == "die":
            for key in draw.sample(alive, min(len(alive), draw.choice([1, 3, 20]))):
                kernel.despawn(key)
                self.forget(key)
        elif what == "strip":
            table = draw.choice([BODY.id, SIGN.id])
            for key in draw.sample(list(rows[table]), min(len(rows[table]), 3)):
                kernel.delete(table, key)
                del rows[table][key]
        elif what == "item":
            label = "i" * draw.randrange(2000)
            key = kernel.insert_keyed(kernel.shape(ITEM.id, (ITEM.field("label").id,)), (len(label), label.encode()))
            self.handed_out(ITEM.id, [key])
            self.counter += 1
            number = kernel.read_cell(ITEM.id, ITEM.field("id").id, key)
            demand(number >= self.counter, f"item {number} after {self.counter - 1} were counted")
            self.counter = number
            rows[ITEM.id][key] = (number, label)
            if draw.random() < 0.3:
                kernel.delete(ITEM.id, key)
                del rows[ITEM.id][key]
        elif what == "drop":
            # The last row takes the place of each.
            for key in draw.sample(list(rows[ITEM.id]), min(len(rows[ITEM.id]), draw.choice([1, 6]))):
                kernel.delete(ITEM.id, key)
                del rows[ITEM.id][key]
        elif what == "reserve":
            table = draw.choice([0, ITEM.id])
            self.handed_out(table, kernel.reserve(table, 2).tolist())
        elif what == "lend":
            keys = kernel.head_table(BODY.id).keys.tolist()
            column = kernel.lend(BODY.id, BODY.field("hp").id, True)
            for row in draw.sample(range(len(keys)), draw.randint(0, len(keys))):
                column[row] = draw.randrange(100)
                rows[BODY.id][keys[row]] = (int(column[row]), rows[BODY.id][keys[row]][1])
            del column
            kernel.settle()

    def transact(self) -> None:
        draw, kernel = self.draw, self.kernel
        before = self.copied()
        kernel.begin()
        for _ in range(draw.randrange(1, 6)):
            mark, then = kernel.mark(), self.copied()
            self.act()
            if draw.random() < 0.15:
                kernel.rollback_to(mark)
                self.rows = then
        if draw.random() < 0.15:
            kernel.rollback()
            self.rows = before
            return
        self.promised += redo.bound(kernel)
        kernel.commit()
        # A transaction that is undone after this may add to it, which a log is asked for then.
        length = len(redo.encode(kernel))
        demand(length <= self.promised, f"a body of {length} bytes where {self.promised} were promised")

    # --- versions -----------------------------------------------------------------------------------------------------

    def seal(self) -> None:
        body, hold = redo.encode(self.kernel), self.draw.random() < 0.5
        version = redo.seal(self.kernel, 0, hold)
        if version is None:
            return
        demand(version == len(self.made), f"version {version} after {len(self.made) - 1}")
        self.promised = 0
        if hold:
            self.demanded.append(version)
        self.made.append((self.copied(), self.counter))
        self.bodies.append(body)

    def release(self) -> None:
        self.safe = self.draw.randint(self.safe, len(self.made) - 1)
        redo.release(self.kernel, self.safe)

    def waits(self, version: int) -> bool:
        """Whether something that was demanded up to a version is not safe yet."""
        return any(self.safe < demanded <= version for demanded in self.demanded)

    def look(self) -> None:
        pin = self.kernel.acquire()
        demand(not self.waits(pin.version), f"version {pin.version} is shown, and only {self.safe} is safe")
        self.compare(pin)
        if self.draw.random() < 0.3:
            self.held.append(pin)
        else:
            pin.release()
        if self.held and self.draw.random() < 0.4:
            old = self.held.pop(self.draw.randrange(len(self.held)))
            self.compare(old)
            old.release()
            self.kernel.catch_up()
        for chunk in journal.take(self.kernel):
            demand(not self.waits(chunk.version), f"followers are told of version {chunk.version}, safe is {self.safe}")

    def compare(self, pin: Pin) -> None:
        demand(rows_of(pin) == self.made[pin.version][0], f"version {pin.version} is not what was made")

    def recover(self, versions: int) -> None:
        rows, counter = self.made[versions]
        kernel = fresh(self.guarded)
        for version, body in enumerate(self.bodies[:versions], 1):
            redo.replay(kernel, version, 0, body)
        redo.finish(kernel)
        demand(rows_of(kernel.acquire()) == rows, f"the log up to version {versions} gives something else")
        kernel.begin()
        for table in (0, ITEM.id):
            for key in kernel.reserve(table, 300).tolist():
                handed = self.handed.get((table, key), versions + 1)
                demand(handed > versions, f"key {key} of table {table} came back with the log up to {versions}")
        key = kernel.insert_keyed(kernel.shape(ITEM.id, (ITEM.field("label").id,)), (0, b""))
        number = kernel.read_cell(ITEM.id, ITEM.field("id").id, key)
        demand(number > counter, f"item {number} came back with the log up to {versions}")
        kernel.rollback()

    def run(self, steps: int) -> int:
        for _ in range(steps):
            for _ in range(self.draw.randrange(3)):
                self.transact()
            self.seal()
            if self.draw.random() < 0.3:
                self.release()
            self.look()
        for versions in {0, 1, len(self.bodies) // 3, len(self.bodies) - 1, len(self.bodies)}:
            self.recover(versions)
        return len(self.bodies)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=10, help="how many histories (default 10)")
    parser.add_argument("--seconds", type=float, default=None, help="begin no history after so many seconds")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of each history (default {STEPS})")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    given = parser.parse_args(arguments)
    began = time.monotonic()
    histories = versions = failed = 0
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        if given.seconds is not None and time.monotonic() - began > given.seconds:
            break
        histories += 1
        try:
            versions += History(seed).run(given.steps)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is told)
            failed += 1
            why = str(error) if isinstance(error, WrongError) else f"{type(error).__name__}: {error}"
            print(f"FAILED seed {seed}: {why[:400]}", file=sys.stderr, flush=True)
    if given.json:
        print(json.dumps({"histories": histories, "versions": versions, "failed": failed}))
    else:
        print(f"{histories} histories of {versions} versions from seed {given.first_seed}: {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
