"""Random histories of one store against a model: `python sims/histories.py [--first-seed N] [--seeds N] [--seconds S]`.

A history is some hundred steps, drawn from a seed: every verb of a transaction, for one row, many and prepared,
lending, savepoints, rollback, the queue, views that are held while others write, subscribers, and a replica that is fed
deltas. The model (`histories_model.py`) does the same in dicts; whatever the store tells is compared with it.

Invariants:
- a history is drawn from its seed only: no clock, no order of a hash (sets are sorted before one is drawn from them);
- `done` is the model of the newest version and is never changed; `model` is that of the open transaction, or `done`;
- a commit is refused exactly when the model is broken, and then nothing has changed.

The exit status is 0 if no history failed. A failure prints its last operations and the line that replays it.
"""

import argparse
import json
import random
import sys
import time
import traceback
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
# Run as a program, from any folder: of this clone, whatever else is installed.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from ecsnet._kernel.kernel import KernelStore  # noqa: E402
from ecsnet.errors import BorrowError, BusyError, ConstraintError, EcsnetError, LimitExceededError  # noqa: E402
from ecsnet.schema import loads  # noqa: E402
from ecsnet.store import Store  # noqa: E402
from sims.histories_checks import (  # noqa: E402
    check_cells,
    check_places,
    check_relations,
    check_rows,
    check_texts,
    demand,
    members,
)
from sims.histories_model import COMPONENTS, FIELDS, KEYED, REQUIRED, Model, Row  # noqa: E402

SCHEMA = loads((Path(__file__).resolve().parent / "histories.toml").read_text(encoding="utf-8"))
STEPS = 150
LAST = 12
"""Operations that a failure tells."""
FAILURES_MAX = 12
"""After so many a run ends: they have few causes."""
WAIT_S = 10.0
"""For a ticket, which is done when nobody writes: a thousand times what it takes."""

WIDTHS = {"name": 12, "label": 40, "note": 20, "title": 10, "text": 16}
WRITERS = (
    ("pos", "x"),
    ("pos", "name"),
    ("vel", "target"),
    ("tag", "hp"),
    ("item", "slot"),
    ("item", "title"),
    ("node", "friend"),
    ("node", "id"),
)


class _Abandoned(Exception):
    """Raised in a savepoint to roll back to it."""


class History:
    """One store, its model, and what is drawn next."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.trace: list[tuple[Any, ...]] = []
        self.store = Store(SCHEMA)
        self.replica = KernelStore(SCHEMA)
        self.replicated = 0
        self.done = Model()
        self.model = self.done
        self.tx: Any = None
        self.lent = False
        """Whether columns are lent, or queried, in the open transaction."""
        self.blind = False
        """Whether rows were deleted while columns are lent: until the end their columns may still hold them."""
        self.kept: list[Any] = []
        """Columns that are kept beyond their transaction."""
        self.held: list[tuple[Any, Model | None]] = []
        self.follow = self.store.subscribe(*COMPONENTS, *KEYED) if self.draw.random() < 0.7 else None
        self.shadow: dict[str, dict[int, Row]] = {table: {} for table in FIELDS}
        self.wide = self.draw.random() < 0.3
        """Whether many views are held."""

    def run(self, steps: int) -> None:
        """So many steps, then all that is held is compared once more.

        Raises:
            Disagreement: store and model differ. Any error that the model did not expect.
        """
        for _ in range(steps):
            chance = self.draw.random()
            if chance < 0.55:
                self.operate()
            elif chance < 0.63:
                self.savepoint()
            elif chance < 0.78:
                self.end()
            elif chance < 0.9:
                self.views()
            elif chance < 0.94:
                self.queue()
            elif chance < 0.97:
                self.replicate()
            else:
                self.followed()
        if self.tx is not None:
            self.tx.rollback()
            self.tx = None
        self.model = self.done
        for view, model in self.held:
            if model is not None:
                self.compare(view, model)
        self.replicate()
        self.followed()
        with self.store.view() as view:
            self.compare(view, self.done)

    def close(self) -> None:
        """Give everything back."""
        if self.tx is not None:
            self.tx.rollback()
            self.tx = None
        for view, _ in self.held:
            view.close()
        self.held = []
        self.store.close()
        self.replica.close()

    def log(self, *operation: Any) -> None:
        """Remember what is about to be done."""
        self.trace.append(operation)

    # --- what is drawn ------------------------------------------------------------------------------------------------

    def pick(self, among: Any) -> int:
        """One of these keys, 0 of none."""
        keys = sorted(among)
        return self.draw.choice(keys) if keys else 0

    def picks(self, among: Any, below: int) -> list[int]:
        """Some of these keys, fewer than `below`, in any order."""
        keys = sorted(among)
        self.draw.shuffle(keys)
        return keys[: self.draw.randrange(1, below)]

    def text(self, width: int) -> str:
        """A text of at most so many bytes: often empty or one that others have, at times of long characters."""
        chance = self.draw.random()
        if chance < 0.15:
            return ""
        if chance < 0.5:
            return self.draw.choice("abc")
        made = "".join(self.draw.choice("abcdeé€😀") for _ in range(self.draw.randrange(1, width)))
        while len(made.encode()) > width:
            made = made[:-1]
        return made

    def value(self, table: str, field: str) -> Any:
        """A value for a field; references mostly name what there is."""
        draw = self.draw
        if (table, field) == ("hit", "target"):
            return self.pick(self.model.entities)
        if field in ("target", "holder"):
            return self.pick(self.model.entities) if draw.random() < 0.8 else 0
        if field in ("node", "parent", "friend"):
            numbers = [row["id"] for row in self.model.rows["node"].values()]
            return draw.choice(numbers) if numbers and draw.random() < 0.85 else draw.choice((0, 0, draw.randrange(8)))
        if field == "home":
            names = [row["name"] for row in self.model.rows["city"].values()]
            return draw.choice(names) if names and draw.random() < 0.85 else draw.choice(("", "", "zz"))
        if (table, field) == ("node", "id"):
            return draw.randrange(1, 30)
        if (table, field) == ("city", "name"):
            return draw.choice("abcdefghijklmnopq") * draw.randrange(1, 3)
        if field in WIDTHS:
            return self.text(WIDTHS[field])
        if field in ("x", "y", "dx"):
            return float(draw.randrange(-8, 8))
        return draw.randrange(12 if field == "slot" else 1000)

    def row(self, table: str) -> Row:
        """Values for what must be given, and for some of the rest."""
        return {
            field: self.value(table, field)
            for field in FIELDS[table]
            if self.draw.random() < 0.6 or (table, field) in REQUIRED
        }

    def columns(self, table: str, count: int) -> dict[str, list[Any]]:
        """Values for some fields of so many components."""
        return {
            field: [self.value(table, field) for _ in range(count)]
            for field in FIELDS[table]
            if self.draw.random() < 0.6
        }

    def put_many(self, table: str, keys: list[int], columns: dict[str, list[Any]]) -> None:
        """In the model: a row for each key."""
        for at, key in enumerate(keys):
            self.model.put(table, key, {field: column[at] for field, column in columns.items()})

    # --- verbs of a transaction ---------------------------------------------------------------------------------------

    def open(self) -> Any:
        """The open transaction, or a new one."""
        if self.tx is None:
            self.log("begin")
            self.tx = self.store.transaction()
            self.model = self.done.copy()
            self.model.rows["hit"] = {}
            self.lent = self.blind = False
        return self.tx

    def operate(self) -> None:
        """One verb, in the open transaction or a new one."""
        if self.tx is not None and self.blind:
            self.draw.choice((self.spawn, self.lend, self.lend, self.insert_keyed, self.spawn_many))()
            return
        verbs = (self.spawn, self.spawn_many, self.insert, self.insert_many, self.insert_keyed, self.insert_keyed_many)
        more = (self.insert_event, self.inserter, self.update, self.update_many, self.writer, self.delete)
        often = (self.spawn, self.insert_keyed, self.update, self.update, self.update_many, self.writer, self.delete)
        self.draw.choice((*verbs, *more, *often, self.delete_many, self.lend, self.lend, self.read))()

    def spawn(self) -> None:
        tx = self.open()
        components = {table: self.row(table) for table in COMPONENTS if self.draw.random() < 0.7}
        self.log("spawn", components)
        entity = int(tx.spawn(**components))
        self.model.entities.add(entity)
        for table, row in components.items():
            self.model.put(table, entity, row)

    def spawn_many(self) -> None:
        tx = self.open()
        count = self.draw.randrange(1, 9)
        components = {table: self.columns(table, count) for table in COMPONENTS if self.draw.random() < 0.8}
        self.log("spawn_many", count, components)
        entities = tx.spawn_many(count, **components).tolist()
        self.model.entities.update(entities)
        for table, columns in components.items():
            self.put_many(table, entities, columns)

    def insert(self) -> None:
        table, tx = self.draw.choice(COMPONENTS), self.open()
        entity = self.pick(self.model.entities - self.model.keys(table))
        if entity:
            row = self.row(table)
            self.log("insert", entity, table, row)
            tx.insert(entity, **{table: row})
            self.model.put(table, entity, row)

    def insert_many(self) -> None:
        table, tx = self.draw.choice(COMPONENTS), self.open()
        entities = self.picks(self.model.entities - self.model.keys(table), 6)
        if entities:
            columns = self.columns(table, len(entities))
            self.log("insert_many", table, entities, columns)
            tx.insert_many(np.array(entities, np.uint64), **{table: columns})
            self.put_many(table, entities, columns)

    def insert_keyed(self) -> None:
        table, tx = self.draw.choice(KEYED), self.open()
        row = self.row(table)
        self.log("insert", table, row)
        self.model.put(table, int(tx.insert(table, row)), row)

    def insert_keyed_many(self) -> None:
        table, tx = self.draw.choice(KEYED), self.open()
        rows = [self.row(table) for _ in range(self.draw.randrange(1, 6))]
        columns = {field: [row[field] for row in rows] for field in FIELDS[table] if all(field in row for row in rows)}
        if columns:
            self.log("insert_many", table, columns)
            self.put_many(table, tx.insert_many(table, columns).tolist(), columns)

    def insert_event(self) -> None:
        tx = self.open()
        if self.model.entities:
            row = self.row("hit")
            self.log("insert", "hit", row)
            self.model.put("hit", int(tx.insert("hit", row)), row)

    def inserter(self) -> None:
        table, tx = self.draw.choice(COMPONENTS), self.open()
        give = tx.inserter(table, *FIELDS[table])
        for _ in range(self.draw.randrange(1, 4)):
            entity = self.pick(self.model.entities - self.model.keys(table))
            if not entity:
                return
            row = {field: self.value(table, field) for field in FIELDS[table]}
            self.log("inserter", entity, table, row)
            give(entity, *row.values())
            self.model.put(table, entity, row)

    def update(self) -> None:
        table, tx = self.draw.choice(COMPONENTS + KEYED), self.open()
        key = self.pick(self.model.rows[table])
        if not key:
            return
        field = self.draw.choice(list(FIELDS[table]))
        value = self.value(table, field)
        self.log("update", table, key, field, value)
        if self.draw.random() < 0.5:
            tx.update(key, table, **{field: value})
        else:
            tx[key, f"{table}.{field}"] = value
        self.model.rows[table][key][field] = value

    def update_many(self) -> None:
        table, tx = self.draw.choice(COMPONENTS + KEYED), self.open()
        keys = self.picks(self.model.rows[table], 8)
        if not keys:
            return
        fields = self.draw.sample(list(FIELDS[table]), self.draw.randrange(1, 3))
        columns = {field: [self.value(table, field) for _ in keys] for field in fields}
        self.log("update_many", table, keys, columns)
        tx.update_many(np.array(keys, np.uint64), table, **columns)
        for field, column in columns.items():
            self.set_column(table, field, keys, column)

    def writer(self) -> None:
        (table, field), tx = self.draw.choice(WRITERS), self.open()
        write = tx.writer(f"{table}.{field}")
        for _ in range(self.draw.randrange(1, 8)):
            key = self.pick(self.model.rows[table])
            if not key:
                return
            value = self.value(table, field)
            self.log("writer", table, key, field, value)
            write(key, value)
            self.model.rows[table][key][field] = value

    def delete(self) -> None:
        table, tx = self.draw.choice((*COMPONENTS, *KEYED, "entities")), self.open()
        key = self.pick(self.model.keys(table))
        if not key:
            return
        self.log("delete", table, key)
        self.blind = self.blind or self.lent
        if table == "entities":
            tx.despawn(key)
        elif self.draw.random() < 0.3:
            tx.deleter(table)(key)
        else:
            tx.delete(key, table)
        self.model.delete(table, key)

    def delete_many(self) -> None:
        table, tx = self.draw.choice((*COMPONENTS, *KEYED, "entities")), self.open()
        # Only keys that do not take each other along, in whichever order: a key that is gone is refused.
        _, keys = self._deleted(table, self.picks(self.model.keys(table), 4))
        after, backwards = self._deleted(table, keys[::-1])
        if not keys or len(backwards) != len(keys):
            return
        self.log("delete_many", table, keys)
        self.blind = self.blind or self.lent
        if table == "entities":
            tx.despawn(np.array(keys, np.uint64))
        else:
            tx.delete_many(np.array(keys, np.uint64), table)
        self.model = after

    def _deleted(self, table: str, keys: list[int]) -> tuple[Model, list[int]]:
        """The model without these, and those that were still there when it was their turn."""
        model, met = self.model.copy(), []
        for key in keys:
            if key in model.keys(table):
                met.append(key)
                model.delete(table, key)
        return model, met

    def set_column(self, table: str, field: str, keys: list[int], column: list[Any]) -> None:
        """In the model: cells of rows; a lent column may have more rows than there are."""
        for key, value in zip(keys, column, strict=True):
            if key in self.model.rows[table]:
                self.model.rows[table][key][field] = value

    def lend(self) -> None:
        """Write through columns that a query lends."""
        tx, chance = self.open(), self.draw.random()
        self.log("lend", chance)
        if chance < 0.7:
            tables = COMPONENTS if chance < 0.4 else COMPONENTS[:2]
            query = tx.query(*tables)
            keys = query.entity.tolist()
            if not self.lent:
                demand(set(keys) == members(self.model, *tables), f"the lent join has {sorted(keys)}")
            self.lent = True
            pos, vel = (columns := tuple(query))[:2]
            if chance < 0.4:
                pos.x += 1
                vel.dx[:] = 5
                if self.draw.random() < 0.5:
                    columns[2].hp[:] = 3
                self.set_column("tag", "hp", keys, columns[2].hp.tolist())
            else:
                pos.y -= 1
                vel.dx += 2
            for key in keys:
                if key in self.model.rows["pos"]:
                    self.model.rows["pos"][key]["x" if chance < 0.4 else "y"] += 1 if chance < 0.4 else -1
                if key in self.model.rows["vel"]:
                    row = self.model.rows["vel"][key]
                    row["dx"] = 5.0 if chance < 0.4 else row["dx"] + 2
            return
        table, field = self.draw.choice((("pos", "y"), ("tag", "hp")))
        query = tx.query(table)
        keys = query.entity.tolist()
        (only,) = query
        column, values = getattr(only, field), [self.value(table, field) for _ in keys]
        column[:] = values
        self.lent = True
        self.set_column(table, field, keys, values)
        if self.draw.random() < 0.1:
            self.kept = [column]

    def read(self) -> None:
        """Compare what the open transaction tells of itself."""
        if self.tx is None or self.blind:
            return
        if self.lent or self.draw.random() < 0.6:
            self.log("cells")
            check_cells(self.tx, self.model, self.draw)
            return
        self.log("query")
        self.compare(self.tx, self.model, light=self.draw.random() < 0.7)
        self.lent = True

    # --- how transactions end -----------------------------------------------------------------------------------------

    def savepoint(self, depth: int = 0) -> None:
        """Some verbs, of which most are undone; at times one in another."""
        tx, before = self.open(), self.model.copy()
        fails = self.draw.random() < 0.6
        self.log("savepoint", depth)
        with suppress(_Abandoned), ExitStack() as inside:
            try:
                inside.enter_context(tx.savepoint())
            except BorrowError:
                self.log("savepoint refused")
                return
            for _ in range(self.draw.randrange(7)):
                if depth < 2 and self.draw.random() < 0.15:
                    self.savepoint(depth + 1)
                else:
                    self.operate()
            self.log("undo" if fails else "keep", depth)
            if fails:
                raise _Abandoned
        if fails:
            self.model = before
            self.lent = self.blind = False

    def end(self) -> None:
        """Commit, or roll back."""
        if self.tx is None:
            return
        tx, self.tx = self.tx, None
        made, self.model = self.model, self.done
        if self.draw.random() < 0.2:
            self.log("rollback")
            tx.rollback()
            return
        self.log("commit")
        broken, version = made.broken(), self.store.version
        try:
            tx.commit()
        except ConstraintError:
            if broken is None:
                raise
            self.log("refused")
            return
        demand(broken is None, f"committed although {broken}")
        if self.store.version != version:
            self.done = self.model = made
            return
        same = made.entities == self.done.entities and all(
            made.rows[t] == self.done.rows[t] for t in COMPONENTS + KEYED
        )
        demand(same and not made.rows["hit"], "committed without a new version")

    def queue(self) -> None:
        """A few operations through the queue, which are one transaction."""
        if self.tx is not None:
            return
        self.log("queue")
        queue, model = self.store.queue(), self.done.copy()
        # What the queue creates has no key before the commit: the model gives it one below 0, and the ticket tells.
        made: list[int] = []
        count = 0
        for _ in range(self.draw.randrange(1, 5)):
            new, chance = -1 - count, self.draw.random()
            if chance < 0.4:
                table = self.draw.choice((*COMPONENTS, "item", "node"))
                key = self.pick(key for key in model.rows[table] if key > 0)
                if not key:
                    continue
                field = self.draw.choice(list(FIELDS[table]))
                value = self.value(table, field)
                self.log("queue update", table, key, field, value)
                queue.update(key, table, **{field: value})
                model.rows[table][key][field] = value
            elif chance < 0.6:
                table = self.draw.choice(KEYED)
                row = self.row(table)
                self.log("queue insert", table, row)
                queue.insert(table, row)
                model.put(table, new, row)
                made.append(new)
            elif chance < 0.8:
                key = self.pick(entity for entity in model.entities if entity > 0)
                if not key:
                    continue
                self.log("queue despawn", key)
                queue.despawn(key)
                model.delete("entities", key)
            else:
                row = self.row("pos")
                self.log("queue spawn", row)
                queue.spawn(pos=row)
                model.entities.add(new)
                model.put("pos", new, row)
                made.append(new)
            count += 1
        if count:
            self._commit_queue(queue, model, made)

    def _commit_queue(self, queue: Any, model: Model, made: list[int]) -> None:
        broken, version = model.broken(), self.store.version
        events, model.rows["hit"] = model.rows["hit"], {}
        ticket = queue.commit()
        try:
            ticket.wait(timeout_s=WAIT_S)
        except ConstraintError:
            if broken is None:
                raise
            self.log("queue refused")
            return
        demand(broken is None, f"the queue committed although {broken}")
        given = [int(key) for key in ticket.keys]
        demand(len(given) == len(made), f"{len(made)} were created, the ticket has {given}")
        names = dict(zip(made, given, strict=True))
        model.entities = {names.get(entity, entity) for entity in model.entities}
        for table, rows in model.rows.items():
            model.rows[table] = {names.get(key, key): row for key, row in rows.items()}
        if self.store.version == version:
            model.rows["hit"] = events
        self.done = self.model = model

    # --- who looks on -------------------------------------------------------------------------------------------------

    def compare(self, source: Any, model: Model, *, light: bool = False) -> None:
        """All that a source tells, or less of it."""
        check_rows(source, model, self.draw, some=light)
        if light:
            return
        check_places(source, model, self.draw)
        check_texts(source, model, self.text(12))
        if source is not self.tx or model.broken() is None:
            check_relations(source, model, self.draw)

    def views(self) -> None:
        """Hold a view, or give one back, which must still tell what it told."""
        chance = self.draw.random()
        if self.tx is None and chance < 0.5:
            if len(self.held) < (75 if self.wide else 4):
                try:
                    view = self.store.view()
                except (BusyError, LimitExceededError):
                    self.log("view refused")
                    return
                self.log("hold", int(view.version))
                known = self.done if self.store.version == view.version else None
                self.held.append((view, known))
                if known is not None:
                    self.compare(view, known, light=self.draw.random() < 0.5)
        elif self.held and self.draw.random() < (0.35 if self.wide else 0.6):
            at = self.draw.randrange(len(self.held))
            view, model = self.held[at]
            self.log("give back", int(view.version))
            if model is not None:
                self.compare(view, model)
            view.close()
            del self.held[at]

    def replicate(self) -> None:
        """Feed the replica what is new, at times from the beginning; then both have one digest."""
        if self.tx is not None:
            return
        pin = self.store.kernel.acquire()
        try:
            if pin.version <= self.replicated:
                return
            base = self.replicated if self.draw.random() < 0.9 else 0
            self.log("replicate", base, pin.version)
            self.replica.apply([self.store.kernel.delta(pin, base).block], base, pin.version, 0)
            self.replicated = pin.version
            other = self.replica.acquire()
            try:
                demand(other.version != pin.version or other.digest() == pin.digest(), "the replica's digest differs")
            finally:
                other.release()
        finally:
            pin.release()

    def followed(self) -> None:
        """Apply what the subscriber was told to its shadow, which then is the store."""
        if self.follow is None or self.tx is not None:
            return
        self.log("follow")
        for change in self.follow.poll():
            rows, what = self.shadow[change.table], f"{change.kind} of {change.table} {change.key}"
            demand((change.key in rows) == (change.kind != "insert"), f"told an {what}, out of order")
            if change.kind == "insert":
                rows[change.key] = dict(change.fields)
            elif change.kind == "update":
                rows[change.key].update(change.fields)
            else:
                before = rows.pop(change.key)
                demand(before == dict(change.fields), f"told a {what} with {change.fields}, not {before}")
        for table in COMPONENTS + KEYED:
            found = {
                key: {field: value for field, value in row.items() if field in FIELDS[table]}
                for key, row in self.shadow[table].items()
            }
            rows = self.done.rows[table]
            wrong = [(key, found.get(key), rows.get(key)) for key in sorted(found.keys() | rows.keys())]
            wrong = [(key, told, is_) for key, told, is_ in wrong if told != is_]
            demand(not wrong, f"changes of {table} (key, told, is): {wrong[:3]}")


@dataclass(frozen=True, slots=True)
class Failure:
    """A history that failed: `step` is the number of operations before it, `last` the last of them."""

    seed: int
    step: int
    error: str
    last: tuple[str, ...]
    replay: str
    traceback: str


def play(seed: int, steps: int = STEPS) -> Failure | None:
    """Run the history of a seed; None when store and model agreed to its end."""
    history = History(seed)
    try:
        history.run(steps)
        history.close()
    except Exception as error:  # noqa: BLE001 - whatever the store raises that the model did not expect is a finding
        told = "".join(traceback.format_exception(error, limit=-6))
        last = tuple(repr(operation) for operation in history.trace[-LAST:])
        # The store may be in any state, and the failure is known: what it still holds is given back as far as it goes.
        with suppress(EcsnetError):
            history.close()
        what = f"{type(error).__name__}: {error}"[:500]
        return Failure(seed, len(history.trace), what, last, replay(seed, steps), told)
    return None


def replay(seed: int, steps: int) -> str:
    """The command that runs one history again."""
    return f"python sims/histories.py --first-seed {seed} --seeds 1 --steps {steps}"


def main(arguments: list[str] | None = None) -> int:
    """Run histories until one end is reached: of the seeds, of the time, or too many failures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=None, help="how many (100, or as many as there is time for)")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each history")
    parser.add_argument("--seconds", type=float, default=None, help="begin no history after so much time")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each failure, and one at the end")
    given = parser.parse_args(arguments)
    for name in ("seeds", "steps"):
        if (number := getattr(given, name)) is not None and number < 1:
            parser.error(f"--{name} is {number}; at least one")
    seeds = given.seeds if given.seeds is not None or given.seconds is not None else 100
    started, seed, failed = time.monotonic(), given.first_seed, 0
    while (seeds is None or seed < given.first_seed + seeds) and failed < FAILURES_MAX:
        if given.seconds is not None and time.monotonic() - started >= given.seconds:
            break
        failure = play(seed, given.steps)
        seed += 1
        if failure is not None:
            failed += 1
            print(json.dumps(asdict(failure)) if given.json else _told(failure), flush=True)
    if given.json:
        print(json.dumps({"first_seed": given.first_seed, "seeds": seed - given.first_seed, "failed": failed}))
    else:
        print(f"{seed - given.first_seed} histories from seed {given.first_seed}: {failed} failed")
    return 1 if failed else 0


def _told(failure: Failure) -> str:
    lines = [f"FAILED seed {failure.seed}, step {failure.step}: {failure.error}", failure.traceback.rstrip()]
    lines += [f"       {operation}" for operation in failure.last]
    return "\n".join([*lines, f"       replay: {failure.replay}"])


if __name__ == "__main__":
    sys.exit(main())
