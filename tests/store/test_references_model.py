"""References and combined uniques against a model that is too simple to be wrong.

The model deletes by closure and judges a commit by looking at every row; the kernel follows indexes and looks at what
was touched. A replica is given each version, which is what undoing and cascading must have left.
"""

from copy import deepcopy
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ecsnet._kernel.kernel import KernelStore
from ecsnet._kernel.relations import related as kernel_related
from ecsnet.errors import ConstraintError, StaleEntityError
from ecsnet.schema import loads
from ecsnet.store import Store, Transaction

SCHEMA = loads("""
[database]
name = "references"
version = "1.0.0"

[tables.node]
primary_key = "id"
fields = [{ name = "id", type = "u16" },
          { name = "parent", type = "u16", foreign_key = "node.id", optional = true, on_delete = "cascade" },
          { name = "friend", type = "u16", foreign_key = "node.id", optional = true, on_delete = "set_null" },
          { name = "boss", type = "u16", foreign_key = "node.id", optional = true, on_delete = "restrict" }]

[tables.anchor]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "node", type = "u16", foreign_key = "node.id", on_delete = "cascade" }]

[tables.item]
primary_key = "id"
unique = [["holder", "slot"]]
fields = [{ name = "id", type = "u64", auto_increment = true },
          { name = "holder", type = "u64", foreign_key = "entities.id", optional = true, on_delete = "cascade" },
          { name = "slot", type = "u8", default = 0 },
          { name = "maker", type = "u64", foreign_key = "entities.id", optional = true, on_delete = "set_null" }]
""")
LINKS = {"parent": "cascade", "friend": "set_null", "boss": "restrict"}

number = st.integers(0, 5)
pick = st.integers(0, 1 << 16)


class Model:
    """What the world should be: rows by table and key."""

    def __init__(self) -> None:
        self.entities: set[int] = set()
        self.rows: dict[str, dict[int, dict[str, int]]] = {"node": {}, "anchor": {}, "item": {}}

    def delete(self, table: str, key: int) -> None:
        work = [(table, key)]
        while work:
            table, key = work.pop()
            if table == "entities":
                if key not in self.entities:
                    continue
                self.entities.remove(key)
                self.rows["anchor"].pop(key, None)
                work += [("item", other) for other, row in self.rows["item"].items() if row["holder"] == key]
                for row in self.rows["item"].values():
                    row["maker"] = 0 if row["maker"] == key else row["maker"]
                continue
            row = self.rows[table].pop(key, {})
            if table != "node" or not row:
                continue
            value = row["id"]
            # Zero is null, and no reference to anything.
            if value == 0 or any(other["id"] == value for other in self.rows["node"].values()):
                continue
            for other, referring in self.rows["node"].items():
                if referring["parent"] == value:
                    work.append(("node", other))
                if referring["friend"] == value:
                    referring["friend"] = 0
            work += [("anchor", other) for other, one in self.rows["anchor"].items() if one["node"] == value]

    def broken(self) -> bool:
        """Whether any rule is."""
        nodes = list(self.rows["node"].values())
        ids = [row["id"] for row in nodes]
        if 0 in ids or len(set(ids)) < len(ids):
            return True
        if any(row[link] not in (0, *ids) for row in nodes for link in LINKS):
            return True
        if any(row["node"] not in ids for row in self.rows["anchor"].values()):
            return True
        items = self.rows["item"].values()
        if any(row[field] not in (0, *self.entities) for row in items for field in ("holder", "maker")):
            return True
        held = [(row["holder"], row["slot"]) for row in items if row["holder"]]
        return len(set(held)) < len(held)


def distances(nodes: dict[int, dict[str, int]], start: int) -> dict[int, int]:
    """How far each node is from `start` along parents, up and down."""
    found = {start: 0}
    line = [start]
    for key in line:
        for other, row in nodes.items():
            child, parent = nodes[key]["parent"] == row["id"], row["parent"] == nodes[key]["id"]
            if (child or parent) and other not in found:
                found[other] = found[key] + 1
                line.append(other)
    del found[start]
    return found


class ReferencesAgainstModel(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.store = Store(SCHEMA)
        self.replica = KernelStore(SCHEMA)
        self.replicated = 0
        self.committed = Model()
        self.model = self.committed
        self.tx: Transaction | None = None

    def teardown(self) -> None:
        if hasattr(self, "store"):
            if self.tx is not None:
                self.tx.rollback()
            self.store.close()
            self.replica.close()

    def open(self) -> Transaction:
        if self.tx is None:
            self.tx = self.store.transaction()
            self.model = deepcopy(self.committed)
        return self.tx

    def choose(self, among: Any, at: int) -> int:
        there = sorted(among)
        return there[at % len(there)] if there else 0

    # --- rows ---------------------------------------------------------------------------------------------------------

    @rule(row=st.fixed_dictionaries({"id": number, "parent": number, "friend": number, "boss": number}))
    def insert_node(self, row: dict[str, int]) -> None:
        key = self.open().insert("node", row)
        self.model_of("node")[key] = dict(row)

    @rule(ids=st.lists(st.tuples(number, number), min_size=2, max_size=5))
    def insert_nodes(self, ids: list[tuple[int, int]]) -> None:
        tx = self.open()
        columns = {"id": np.array([a for a, _ in ids], np.uint16), "parent": np.array([b for _, b in ids], np.uint16)}
        for key, (one, parent) in zip(tx.insert_many("node", columns).tolist(), ids, strict=True):
            self.model_of("node")[key] = {"id": one, "parent": parent, "friend": 0, "boss": 0}

    @rule(at=pick, field=st.sampled_from(("id", *LINKS)), value=number)
    def update_node(self, at: int, field: str, value: int) -> None:
        tx = self.open()
        key = self.choose(self.model_of("node"), at)
        if key:
            tx.update(key, "node", **{field: value})
            self.model_of("node")[key][field] = value

    @rule(node=number)
    def spawn(self, node: int) -> None:
        tx = self.open()
        entity = int(tx.spawn(anchor={"node": node}))
        self.model.entities.add(entity)
        self.model_of("anchor")[entity] = {"node": node}

    @rule(holder=pick, maker=pick, slot=st.integers(0, 2), nobody=st.booleans())
    def insert_item(self, holder: int, maker: int, slot: int, nobody: bool) -> None:
        tx = self.open()
        owner = 0 if nobody else self.choose(self.model.entities, holder)
        row = {"holder": owner, "slot": slot, "maker": self.choose(self.model.entities, maker)}
        self.model_of("item")[tx.insert("item", row)] = row

    @rule(at=pick, holder=pick, slot=st.integers(0, 2), which=st.sampled_from(("holder", "slot", "maker")))
    def update_item(self, at: int, holder: int, slot: int, which: str) -> None:
        tx = self.open()
        key = self.choose(self.model_of("item"), at)
        if key:
            value = slot if which == "slot" else self.choose({0, *self.model.entities}, holder)
            tx.update_many([key], "item", **{which: value})
            self.model_of("item")[key][which] = value

    @rule(table=st.sampled_from(("node", "anchor", "item", "entities")), at=pick)
    def delete(self, table: str, at: int) -> None:
        tx = self.open()
        key = self.choose(self.model.entities if table == "entities" else self.model_of(table), at)
        if not key:
            return
        if table == "entities":
            tx.despawn(key)
        else:
            tx.delete(key, table)
        self.model.delete(table, key)

    @rule(at=pick)
    def an_operation_that_fails_in_the_middle_is_undone_with_all_it_cascaded_to(self, at: int) -> None:
        tx = self.open()
        key = self.choose(self.model_of("node"), at)
        if key:
            try:
                # From the end: the living one is deleted before the stale one is found.
                tx.delete_many([key ^ 1 << 60, key], "node")
            except StaleEntityError:
                return
            raise AssertionError("a stale key was deleted")

    # --- the end ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.tx is not None)
    @rule()
    def commit(self) -> None:
        assert self.tx is not None
        try:
            self.tx.commit()
        except ConstraintError:
            assert self.model.broken()
        else:
            assert not self.model.broken()
            self.committed = self.model
        self.model = self.committed
        self.tx = None

    @precondition(lambda self: self.tx is not None)
    @rule()
    def rollback(self) -> None:
        assert self.tx is not None
        self.tx.rollback()
        self.model = self.committed
        self.tx = None

    @precondition(lambda self: self.tx is None)
    @rule()
    def replicate(self) -> None:
        kernel = self.store.kernel
        pin = kernel.acquire()
        try:
            if pin.version > self.replicated:
                delta = kernel.delta(pin, self.replicated)
                self.replica.apply([delta.block], self.replicated, pin.version, 0)
                self.replicated = pin.version
                theirs = self.replica.acquire()
                try:
                    assert theirs.digest() == pin.digest()
                    for entity in self.committed.entities:
                        walk = [[(SCHEMA.table("item").id, SCHEMA.table("item").field("holder").id, True)]]
                        ours = kernel_related(pin, walk, entity, 1, False)[0]
                        assert kernel_related(theirs, walk, entity, 1, False)[0].tolist() == ours.tolist()
                finally:
                    theirs.release()
        finally:
            pin.release()

    # --- what must hold -----------------------------------------------------------------------------------------------

    def model_of(self, table: str) -> dict[int, dict[str, int]]:
        return self.model.rows[table]

    @invariant()
    def the_rows_are_the_models(self) -> None:
        if not hasattr(self, "store"):
            return
        if self.tx is not None:
            self.same(self.tx, self.model)
        with self.store.view() as view:
            self.same(view, self.committed)

    def same(self, source: Any, model: Model) -> None:
        assert set(source.query("entities").entity.tolist()) == model.entities
        for table, rows in model.rows.items():
            query = source.query(table)
            keys = (query.entity if table == "anchor" else query.key).tolist()
            assert set(keys) == set(rows), table
            assert len(keys) == len(rows)
            (columns,) = query
            for field in next(iter(rows.values()), {}):
                found = dict(zip(keys, getattr(columns, field).tolist(), strict=True))
                assert found == {key: row[field] for key, row in rows.items()}, (table, field)
        if source is not self.tx or not model.broken():
            self.related(source, model)

    def related(self, source: Any, model: Model) -> None:
        nodes = model.rows["node"]
        by_id = {row["id"]: key for key, row in nodes.items()}
        for key, row in nodes.items():
            for link in LINKS:
                path = f"node.{link}"
                below = sorted(other for other, one in nodes.items() if one[link] == row["id"] and other != key)
                assert source.related(key, path).key.tolist() == below
                above = [by_id[row[link]]] if row[link] not in (0, row["id"]) else []
                assert source.related(key, path, direction="outgoing").key.tolist() == above
            family = source.related(key, "node.parent", direction="both", depth=None)
            assert dict(zip(family.key.tolist(), family.depth.tolist(), strict=True)) == distances(nodes, key)
            assert family.depth.tolist() == sorted(family.depth.tolist())
            worn = source.related(key, "anchor.node")
            assert worn.table == "entities"
            assert worn.key.tolist() == sorted(e for e, one in model.rows["anchor"].items() if one["node"] == row["id"])
        items = model.rows["item"]
        for entity in model.entities:
            held = sorted(key for key, row in items.items() if row["holder"] == entity)
            assert source.related(entity, "item.holder").key.tolist() == held
            makers = sorted({items[key]["maker"] for key in held} - {0, entity})
            assert source.related(entity, "item.holder", "item.maker").key.tolist() == makers
            anchor = model.rows["anchor"].get(entity)
            found = source.related(entity, "anchor.node", direction="outgoing").key.tolist()
            assert found == ([] if anchor is None else [by_id[anchor["node"]]])


ReferencesAgainstModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestReferencesAgainstModel = ReferencesAgainstModel.TestCase
