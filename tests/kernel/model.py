"""A store in plain Python: what the kernel must equal, and a driver that does the same to both.

The schema has one of everything that the kernel treats differently: narrow and wide cells, arrays, bytes, ranges, a
unique field, references that cascade and clear, strings, a tag without fields. Three of its components are a group,
which must show in nothing but the order of rows.
"""

import random
import warnings
from typing import Any

import numpy as np

from ecsnet._kernel.kernel import HistoryGone, KernelStore, Pin
from ecsnet.errors import ConstraintError, EcsnetError
from ecsnet.schema import loads

SCHEMA = loads("""
[database]
name = "model"
version = "1.0.0"

[tables.body]
parent_table = "entities"
group = "living"
fields = [{ name = "entity", type = "u64", foreign_key = "entities.id" },
          { name = "x", type = "f32", default = 0.0 },
          { name = "tag", type = "u8", default = 7 },
          { name = "pos", type = "[f32; 3]", default = [0.0, 0.0, 0.0] },
          { name = "label", type = "bytes[5]", default = "ab" },
          { name = "name", type = "string[40]", default = "nobody" }]

[tables.health]
parent_table = "entities"
group = "living"
fields = [{ name = "entity", type = "u64", foreign_key = "entities.id" },
          { name = "hp", type = "i16", minimum = -5, maximum = 100 },
          { name = "badge", type = "u32", constraint = "unique", auto_increment = false },
          { name = "motto", type = "string[9]", constraint = "unique" }]

[tables.bond]
parent_table = "entities"
fields = [{ name = "entity", type = "u64", foreign_key = "entities.id" },
          { name = "friend", type = "u64", foreign_key = "entities.id", optional = true, on_delete = "set_null" },
          { name = "boss", type = "u64", foreign_key = "entities.id", optional = true, on_delete = "cascade" }]

[tables.frozen]
parent_table = "entities"
group = "living"
fields = [{ name = "entity", type = "u64", foreign_key = "entities.id" }]
""")

GROUP = [table.id for table in SCHEMA.tables if table.group == "living"]

Cells = dict[int, Any]


class Model:
    """Rows by table id and key. Copies itself for versions and transactions: slow and obviously right."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[int, Cells]] = {t.id: {} for t in SCHEMA.tables if t.replicated}

    def copy(self) -> "Model":
        other = Model()
        other.rows = {t: {k: dict(c) for k, c in rows.items()} for t, rows in self.rows.items()}
        return other

    def despawn(self, key: int) -> None:
        for table in SCHEMA.tables:
            if not table.replicated or table.kind == "entities":
                continue
            rows = self.rows[table.id]
            for field in table.fields:
                if field.foreign_key is None:
                    continue
                for other in [k for k, c in rows.items() if c[field.id] == key]:
                    if field.foreign_key.on_delete == "cascade":
                        del rows[other]
                    elif field.foreign_key.on_delete == "set_null":
                        rows[other][field.id] = 0
            rows.pop(key, None)
        del self.rows[0][key]

    def problems(self) -> bool:
        """Whether it breaks a rule that is judged at commit."""
        for table in SCHEMA.tables:
            if not table.replicated:
                continue
            rows = self.rows[table.id]
            for field in table.fields:
                values = [cells[field.id] for cells in rows.values()]
                if field.unique and len(set(values)) != len(values):
                    return True
                if field.foreign_key is not None and any(v and v not in self.rows[0] for v in values):
                    return True
        return False


def cells_of(pin: Pin, table_id: int) -> dict[int, Cells]:
    """Everything a pinned version holds of a table."""
    table = SCHEMA.table_by_id(table_id)
    keys = pin.keys(table_id).tolist()
    assert len(set(keys)) == len(keys)
    columns = {
        f.id: pin.texts(table_id, f.id).decode() if f.type == "string" else pin.column(table_id, f.id)
        for f in table.fields
    }
    for key in keys[:3]:
        assert pin.row(table_id, key) == keys.index(key)
    return {k: {f: plain(c[i]) for f, c in columns.items()} for i, k in enumerate(keys)}


def plain(cell: Any) -> Any:
    if isinstance(cell, str):
        return cell
    return tuple(cell.tolist()) if isinstance(cell, np.ndarray) else cell.item()


def assert_equal(pin: Pin, model: Model) -> None:
    for table_id, rows in model.rows.items():
        assert cells_of(pin, table_id) == rows, SCHEMA.table_by_id(table_id).name
    assert_members(pin._store, pin, model)


def assert_members(kernel: KernelStore, pin: Pin | None, model: Model) -> None:
    """The group's members lie in the first rows of its tables, in one order; others of a join are the same rows too."""
    members = set.intersection(*[set(model.rows[table_id]) for table_id in GROUP])
    whole = kernel.join(GROUP, [], pin)
    assert whole.aligned
    assert set(whole.keys.tolist()) == members
    assert len(whole.keys) == len(members)
    for table_id in GROUP:
        keys = kernel.head_table(table_id).keys if pin is None else pin.keys(table_id)
        assert keys[: len(members)].tolist() == whole.keys.tolist()
    bond = SCHEMA.table("bond").id
    for with_ids, without_ids in (
        ([bond, *GROUP], []),
        (GROUP, [bond]),
        (GROUP[:2], []),
        ([GROUP[2], bond], [GROUP[0]]),
    ):
        found = kernel.join(with_ids, without_ids, pin)
        keys = set.intersection(*[set(model.rows[table_id]) for table_id in with_ids])
        for table_id in without_ids:
            keys -= set(model.rows[table_id])
        assert set(found.keys.tolist()) == keys
        assert found.count == len(keys)
        for place, table_id in enumerate(with_ids):
            theirs = kernel.head_table(table_id).keys if pin is None else pin.keys(table_id)
            rows = slice(0, found.count) if found.rows is None else found.rows[place]
            assert theirs[rows].tolist() == found.keys.tolist()


class Driver:
    """Random operations on a kernel and on the model, with versions that somebody holds and replicas that lag."""

    def __init__(self, seed: int, *, replicas: int = 3, hold_share: float = 0.2) -> None:
        self.random = random.Random(seed)
        self.hold_share = hold_share
        self.kernel = new_store()
        self.model = Model()
        self.version = 0
        self.held: list[tuple[Pin, Model]] = []
        self.history: dict[int, Model] = {0: self.model.copy()}
        self.replicas = [(new_store(), 0) for _ in range(replicas)]
        self.refused = 0

    # --- writing ------------------------------------------------------------------------------------------------------

    def value(self, table: Any, field: Any) -> Any:
        r = self.random
        if field.foreign_key is not None:
            alive = list(self.model.rows[0])
            return r.choice([0, *alive]) if r.random() < 0.98 or not alive else (9 << 32 | 123)
        if field.unique:
            return f"m{r.randrange(4000)}" if field.type == "string" else r.randrange(4000)
        if field.type == "string":
            # Few texts that many have, and many that few have.
            return (
                r.choice(["", "höher", "a name of forty bytes, no more, no less."])
                if r.random() < 0.6
                else r.choice("abc") * r.randrange(40)
            )
        if field.type == "bytes":
            return tuple(r.randrange(256) for _ in range(field.count))
        if field.shape:
            return tuple(float(r.randrange(9)) for _ in range(field.count))
        if field.type == "f32":
            return float(r.randrange(-3, 4))
        low = field.minimum if field.minimum is not None else 0
        high = field.maximum if field.maximum is not None else 255
        return r.randint(low, high) if r.random() < 0.995 else high + 1 if field.maximum is not None else low

    def give(self, table: Any) -> Cells:
        return {f.id: self.value(table, f) for f in table.fields}

    @staticmethod
    def packed(table: Any, cells: Cells) -> tuple[Any, ...]:
        flat: list[Any] = []
        for field in table.fields:
            if field.id not in cells:
                continue
            cell = cells[field.id]
            if field.type == "bytes":
                flat.append(bytes(cell))
            elif field.type == "string":
                flat += [len(cell.encode()), cell.encode()]
            elif field.shape:
                flat.extend(cell)
            else:
                flat.append(cell)
        return tuple(flat)

    def transaction(self) -> None:
        """One transaction of a few operations: committed, refused, or rolled back by choice."""
        before = self.model.copy()
        kernel, r = self.kernel, self.random
        kernel.begin()
        try:
            for _ in range(r.randrange(1, 12)):
                self.operation()
            assert_members(kernel, None, self.model)
            if r.random() < 0.3:
                self.lend()
            if r.random() < 0.15:
                kernel.rollback()
                self.model = before
                assert_members(kernel, None, before)
                return
            kernel.commit()
        except ConstraintError:
            self.refused += 1
            kernel.rollback()
            self.model = before
            assert_members(kernel, None, before)
            return
        assert not self.model.problems()

    def operation(self) -> None:
        r, model, kernel = self.random, self.model, self.kernel
        tables = [t for t in SCHEMA.tables if t.replicated and t.kind == "component"]
        table = r.choice(tables)
        shape = kernel.shape(table.id, tuple(f.id for f in table.fields))
        alive = list(model.rows[0])
        kind = r.choice(["spawn", "spawn", "bulk", "insert", "update", "update_many", "delete", "despawn", "despawn"])
        if kind == "spawn" or not alive:
            # Half of them with a few components, so that some are members of the group.
            given = [t for t in tables if t is table or r.random() < 0.8] if r.random() < 0.5 else [table]
            r.shuffle(given)
            owner, rows = r.randrange(3), [(t, self.give(t)) for t in given]
            shapes = [kernel.shape(t.id, tuple(f.id for f in t.fields)) for t in given]
            key = kernel.spawn(owner, [(s, self.packed(t, c)) for s, (t, c) in zip(shapes, rows, strict=True)])
            assert key not in model.rows[0]
            model.rows[0][key] = {0: owner}
            for t, cells in rows:
                model.rows[t.id][key] = cells
        elif kind == "bulk":
            n = r.choice([1, 3, 70, 150])
            keys = kernel.reserve(0, n)
            kernel.insert_many(0, keys, {0: np.arange(n)})
            many = [self.give(table) for _ in range(n)]
            columns = {f.id: [c[f.id] for c in many] for f in table.fields}
            try:
                kernel.insert_many(table.id, keys, columns)
            except ConstraintError:
                many = None
            for i, key in enumerate(keys.tolist()):
                model.rows[0][key] = {0: i}
                if many is not None:
                    model.rows[table.id][key] = many[i]
        elif kind == "insert":
            key, cells = r.choice(alive), self.give(table)
            self.same(key not in model.rows[table.id], lambda: kernel.insert(shape, key, self.packed(table, cells)))
            model.rows[table.id].setdefault(key, cells)
        elif kind == "update" and table.fields:
            key = r.choice(alive)
            field = r.choice(table.fields)
            cells = {field.id: self.value(table, field)}
            one = kernel.shape(table.id, (field.id,))
            here = key in model.rows[table.id]
            self.same(here, lambda: kernel.update(one, key, self.packed(table, cells)))
            if here:
                model.rows[table.id][key].update(cells)
        elif kind == "update_many" and table.fields:
            here = list(model.rows[table.id])
            keys = r.sample(here, r.randint(0, len(here)))
            field = r.choice([f for f in table.fields if not f.unique] or [None])
            if keys and field is not None:
                values = [self.value(table, field) for _ in keys]
                kernel.update_many(table.id, np.array(keys, np.uint64), {field.id: values})
                for key, value in zip(keys, values, strict=True):
                    model.rows[table.id][key][field.id] = value
        elif kind == "delete":
            key = r.choice(alive)
            self.same(key in model.rows[table.id], lambda: kernel.delete(table.id, key))
            model.rows[table.id].pop(key, None)
        elif kind == "despawn":
            for key in r.sample(alive, min(len(alive), r.choice([1, 2, 30]))):
                kernel.despawn(key)
                model.despawn(key)

    def lend(self) -> None:
        """Change cells through a lent column."""
        body = SCHEMA.table("body")
        for name in self.random.sample(["x", "tag", "pos"], 2):
            field = body.field(name)
            column = self.kernel.lend(body.id, field.id, True)
            keys = self.kernel.head_table(body.id).keys.tolist()
            for row in self.random.sample(range(len(keys)), self.random.randint(0, len(keys))):
                value = self.value(body, field)
                column[row] = value
                self.model.rows[body.id][keys[row]][field.id] = value

    @staticmethod
    def same(works: bool, call: Any) -> None:
        """The kernel must take or refuse a call exactly as the model would."""
        try:
            call()
        except ConstraintError:
            raise
        except EcsnetError:
            assert not works
            return
        assert works

    # --- versions -----------------------------------------------------------------------------------------------------

    def publish(self) -> None:
        made = self.kernel.publish(self.version)
        if made is not None:
            assert made == self.version + 1
            self.version = made
        self.history[self.version] = self.model.copy()
        with self.kernel_pin() as pin:
            if pin.version == self.version:
                assert_equal(pin, self.model)
            # Deferred publications too: what is kept is of the version that is shown.
            assert pin.kept_digest() in (None, pin.digest())
            if made is not None and pin.version == made:
                assert pin.kept_digest() is not None

    def kernel_pin(self) -> Any:
        pin = self.kernel.acquire()

        class Scope:
            def __enter__(self) -> Pin:
                return pin

            def __exit__(self, *_: object) -> None:
                pin.release()

        return Scope()

    def hold(self) -> None:
        pin = self.kernel.acquire()
        self.held.append((pin, self.history[pin.version]))

    def let_go(self) -> None:
        pin, model = self.held.pop(self.random.randrange(len(self.held)))
        assert_equal(pin, model)
        pin.release()

    def replicate(self) -> None:
        """Bring one replica up, from what it holds or from something older, in one block or in chunks."""
        at = self.random.randrange(len(self.replicas))
        store, held = self.replicas[at]
        base = held if self.random.random() < 0.6 else self.random.randint(0, held)
        if self.random.random() < 0.05:
            base = 0
        pin = self.kernel.acquire()
        if pin.version <= held:
            return
        try:
            blocks = [self.kernel.delta(pin, base).block]
        except HistoryGone:
            base = 0
            blocks = [self.kernel.delta(pin, 0).block]
        if self.random.random() < 0.3:
            cut = None
            blocks = []
            while True:
                part = self.kernel.delta(pin, base, cut, self.random.choice([60, 400, 3000]))
                blocks.append(part.block)
                cut = part.cursor
                if cut is None:
                    break
        store.apply(blocks, base, pin.version, 0)
        theirs = store.acquire()
        assert_equal(theirs, self.history[pin.version])
        assert theirs.digest() == pin.digest()
        assert theirs.kept_digest() == pin.digest()
        self.replicas[at] = (store, pin.version)

    def run(self, steps: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for _ in range(steps):
                for _ in range(self.random.randrange(3)):
                    self.transaction()
                self.publish()
                roll = self.random.random()
                if roll < self.hold_share:
                    self.hold()
                elif roll < 0.4 and self.held:
                    self.let_go()
                if self.replicas and self.random.random() < 0.7:
                    self.replicate()
            while self.held:
                self.let_go()


def new_store() -> KernelStore:
    """An empty store at version 0. Its baton is free."""
    kernel = KernelStore(SCHEMA, entities_max=20_000)
    kernel.take_baton()
    kernel.begin()
    kernel.commit()
    kernel.publish(0, genesis=True)
    kernel.release_baton()
    kernel.keep_digest(True)
    return kernel
