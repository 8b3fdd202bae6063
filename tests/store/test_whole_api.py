"""The typed API as a whole against dictionaries: classes, prepared writers, savepoints, references, texts, what must be
unique, queries and what a subscription is told, in any order in one history.

The parts have models of their own beside this one; here is what they do to each other. Rules of the schema that count
for a transaction as a whole are asked of the model when it ends.
"""

from collections import defaultdict
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import ecsnet
from ecsnet import (
    Change,
    Component,
    Store,
    Table,
    Transaction,
    View,
    auto,
    count,
    desc,
    f32,
    field,
    max_,
    min_,
    ref,
    string,
    sum_,
    u8,
    u16,
    u64,
)
from ecsnet.errors import (
    ArgumentError,
    ClosedError,
    ConstraintError,
    EcsnetError,
    NoRowError,
    RowExistsError,
    StaleEntityError,
    UnknownNameError,
)


class Place(Component):
    x: f32 = field(default=0.0)
    y: f32 = field(default=0.0)


class Life(Component):
    hp: u16 = field(default=100, maximum=100)


class Chest(Table):
    id: u64 = auto()
    label: string = field(length=8, unique=True)


class Item(Table, unique=[("holder", "slot")]):
    id: u64 = auto()
    code: string = field(length=8, unique=True)
    title: string = field(length=12, default="")
    slot: u8 = field(default=0)
    holder: ref = field(to="entities.id", on_delete="set_null", optional=True)
    chest: ref = field(to="chest.id", on_delete="cascade", optional=True)


SCHEMA = ecsnet.Schema("whole", "1.0.0", Place, Life, Chest, Item)
TABLES: dict[str, Any] = {"place": Place, "life": Life, "chest": Chest, "item": Item}

Rows = dict[str, dict[int, dict[str, Any]]]

pick = st.integers(0, 50)
whole = st.integers(0, 5)
name = st.sampled_from(["a", "b", "ab", "é", "abcdefgh"])
title = st.sampled_from(["", "a", "ab", "sword", "größe"])


class Model:
    """What the world should be: who is alive, and the rows by table and key."""

    def __init__(self) -> None:
        self.alive: set[int] = set()
        self.rows: Rows = {table: {} for table in TABLES}

    def despawn(self, entity: int) -> None:
        self.alive.remove(entity)
        self.rows["place"].pop(entity, None)
        self.rows["life"].pop(entity, None)
        for item in self.rows["item"].values():
            if item["holder"] == entity:
                item["holder"] = 0

    def delete(self, table: str, key: int) -> None:
        row = self.rows[table].pop(key)
        if table == "chest":
            self.rows["item"] = {key: item for key, item in self.rows["item"].items() if item["chest"] != row["id"]}

    def broken(self) -> bool:
        """Whether something is there twice that must be unique."""
        items = list(self.rows["item"].values())
        held = [(item["holder"], item["slot"]) for item in items if item["holder"]]
        labels = [row["label"] for row in self.rows["chest"].values()]
        return any(len(set(values)) < len(values) for values in ([item["code"] for item in items], labels, held))


class WholeApi(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.store = Store(SCHEMA)
        self.committed = self.model = Model()
        self.tx: Transaction | None = None
        self.savepoints: list[tuple[Any, Model]] = []
        self.gone: list[int] = []
        self.held: list[tuple[View, Model]] = []
        self.everything = self.store.subscribe()
        self.weak = self.store.subscribe(Life, where=Life.hp < 3)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            if self.tx is not None:
                self.tx.rollback()
            for view, _ in self.held:
                view.close()
            self.store.close()

    def open(self) -> Transaction:
        if self.tx is None:
            self.tx = self.store.transaction()
            self.move = self.tx.writer(Place.x, Place.y)
            self.name = self.tx.writer(Item.title)
            self.hurt = self.tx.writer(Life)
            self.model = deepcopy(self.committed)
        return self.tx

    def choose(self, among: Any, at: int) -> int:
        """One of them, or 0."""
        there = sorted(among)
        return there[at % len(there)] if there else 0

    def rows(self, table: str) -> dict[int, dict[str, Any]]:
        return self.model.rows[table]

    # --- rows ---------------------------------------------------------------------------------------------------------

    @rule(x=whole, hp=st.integers(0, 5) | st.none())
    def spawn(self, x: int, hp: int | None) -> None:
        life = () if hp is None else (Life(hp=hp),)
        entity = int(self.open().spawn(Place(x=float(x)), *life))
        self.model.alive.add(entity)
        self.rows("place")[entity] = {"x": float(x), "y": 0.0}
        if hp is not None:
            self.rows("life")[entity] = {"hp": hp}

    @rule(xs=st.lists(whole, max_size=6), hp=whole)
    def spawn_many(self, xs: list[int], hp: int) -> None:
        for entity, x in zip(self.open().spawn_many(Place(x=xs), Life(hp=hp)).tolist(), xs, strict=True):
            self.model.alive.add(entity)
            self.rows("place")[entity] = {"x": float(x), "y": 0.0}
            self.rows("life")[entity] = {"hp": hp}

    @rule(label=name)
    def insert_chest(self, label: str) -> None:
        tx = self.open()
        key = tx.insert(Chest(label=label))
        self.rows("chest")[key] = {"id": tx[key, Chest.id], "label": label}

    @rule(code=name, title=title, slot=st.integers(0, 2), holder=pick, chest=pick)
    def insert_item(self, code: str, title: str, slot: int, holder: int, chest: int) -> None:
        tx = self.open()
        given: dict[str, Any] = {"code": code, "title": title, "slot": slot}
        given["holder"] = self.choose({0, *self.model.alive}, holder)
        given["chest"] = self.choose({0, *[row["id"] for row in self.rows("chest").values()]}, chest)
        key = tx.insert(Item(**given))
        self.rows("item")[key] = {"id": tx[key, Item.id], **given}

    @rule(code=name, slots=st.lists(st.integers(0, 3), min_size=1, max_size=3), at=pick)
    def insert_items(self, code: str, slots: list[int], at: int) -> None:
        tx = self.open()
        holder = self.choose({0, *self.model.alive}, at)
        codes = [f"{code[:6]}{number}" for number in range(len(slots))]
        keys = tx.insert_many(Item(code=codes, slot=slots, holder=holder)).tolist()
        for key, code, slot in zip(keys, codes, slots, strict=True):
            row = {"id": tx[key, Item.id], "code": code, "title": "", "slot": slot, "holder": holder, "chest": 0}
            self.rows("item")[key] = row

    @rule(at=pick, hp=whole)
    def give_life(self, at: int, hp: int) -> None:
        tx = self.open()
        entity = self.choose(self.model.alive, at)
        if entity and entity in self.rows("life"):
            with pytest.raises(RowExistsError):
                tx.insert(entity, Life(hp=hp))
        elif entity:
            tx.insert(entity, Life(hp=hp))
            self.rows("life")[entity] = {"hp": hp}

    @rule(at=pick, change=st.fixed_dictionaries({}, optional={"code": name, "title": title, "slot": st.integers(0, 2)}))
    def update_item(self, at: int, change: dict[str, Any]) -> None:
        tx = self.open()
        if change and (key := self.choose(self.rows("item"), at)):
            tx.update(key, Item, **change)
            self.rows("item")[key] |= change

    @rule(at=pick, holder=pick)
    def hand_over(self, at: int, holder: int) -> None:
        tx = self.open()
        if key := self.choose(self.rows("item"), at):
            tx[key, Item.holder] = self.rows("item")[key]["holder"] = self.choose({0, *self.model.alive}, holder)

    @rule(hp=whole, least=whole)
    def update_many(self, hp: int, least: int) -> None:
        tx = self.open()
        keys = [key for key, row in self.rows("life").items() if row["hp"] >= least]
        assert sorted(keys) == sorted(tx.query(Life).where(Life.hp >= least).entity.tolist())
        tx.update_many(keys, Life, hp=hp)
        for key in keys:
            self.rows("life")[key]["hp"] = hp

    @rule(at=pick, x=whole, title=title, hp=whole)
    def write_prepared(self, at: int, x: int, title: str, hp: int) -> None:
        """Held back until something asks: other rules come in between."""
        self.open()
        if key := self.choose(self.rows("place"), at):
            self.move(key, float(x), -1.0)
            self.rows("place")[key] = {"x": float(x), "y": -1.0}
        if key := self.choose(self.rows("item"), at):
            self.name(key, title)
            self.rows("item")[key]["title"] = title
        if key := self.choose(self.rows("life"), at):
            self.hurt(key, hp)
            self.rows("life")[key]["hp"] = hp

    @rule(table=st.sampled_from([*TABLES, "entities"]), at=pick)
    def delete(self, table: str, at: int) -> None:
        tx = self.open()
        key = self.choose(self.model.alive if table == "entities" else self.rows(table), at)
        if key and table == "entities":
            tx.despawn(key)
            self.model.despawn(key)
            self.gone.append(key)
        elif key:
            tx.delete(key, TABLES[table])
            self.model.delete(table, key)

    @rule(at=pick, which=st.integers(0, 8))
    def what_is_refused_changes_nothing(self, at: int, which: int) -> None:
        tx = self.open()
        lives = sorted(self.rows("life"))
        entity = self.choose(self.model.alive, at)
        stale = self.gone[at % len(self.gone)] if self.gone else (1 << 40)
        if stale in self.model.alive:
            # It was taken back that it is gone.
            stale = 1 << 40
        mistakes: list[tuple[type[EcsnetError], Any]] = [
            (ConstraintError, lambda: tx.update_many(lives, Life, hp=[5] * (len(lives) - 1) + [101])),
            (StaleEntityError, lambda: tx.update_many([*lives, stale], Life, hp=1)),
            (StaleEntityError, lambda: tx.delete_many([*lives, stale], Life)),
            (ArgumentError, lambda: tx.insert(Item(code="too long a code"))),
            (ArgumentError, lambda: tx.insert_many(Item(code=["v", "w"], slot=[1, 2, 3]))),
            (UnknownNameError, lambda: tx.spawn(Place(), lif={"hp": 1})),
            (ConstraintError, lambda: tx.insert(Item(slot=1))),
            (StaleEntityError, lambda: tx.despawn([entity, stale] if entity else [stale])),
            (RowExistsError, lambda: tx.insert_many([lives[0]] if lives else [], life={})),
        ]
        expected, mistake = mistakes[which]
        if which in (0, 8) and not lives:
            return
        with pytest.raises(expected):
            mistake()

    # --- savepoints ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.savepoints) < 3)
    @rule()
    def begin_savepoint(self) -> None:
        savepoint = self.open().savepoint()
        savepoint.__enter__()
        self.savepoints.append((savepoint, deepcopy(self.model)))

    @precondition(lambda self: self.savepoints)
    @rule(failed=st.booleans())
    def end_savepoint(self, failed: bool) -> None:
        savepoint, before = self.savepoints.pop()
        savepoint.__exit__(*((KeyError, KeyError(), None) if failed else (None, None, None)))
        if failed:
            self.model = before

    @precondition(lambda self: self.savepoints)
    @rule(at=pick)
    def go_back(self, at: int) -> None:
        """To any that is open: it stays open, those within it end."""
        number = at % len(self.savepoints)
        savepoint, before = self.savepoints[number]
        savepoint.rollback()
        self.model = deepcopy(before)
        for ended, _ in self.savepoints[number + 1 :]:
            assert not ended.open
        del self.savepoints[number + 1 :]

    # --- the end ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.tx is not None)
    @rule()
    def commit(self) -> None:
        assert self.tx is not None
        before = self.committed
        try:
            self.tx.commit()
        except ConstraintError as error:
            assert self.model.broken()
            assert error.rule == "unique"
        else:
            assert not self.model.broken()
            self.committed = self.model
        self.end(before)

    @precondition(lambda self: self.tx is not None)
    @rule()
    def rollback(self) -> None:
        assert self.tx is not None
        self.tx.rollback()
        self.end(self.committed)

    @rule(by=whole)
    def columns_of_a_system(self, by: int) -> None:
        """As the last thing of a transaction: whole columns, joined, and operations that wait for them."""
        tx = self.open()
        body, life = tx.query(Place, Life)
        body.x += by
        dead = tx.query(Life).where(Life.hp == 0).entity
        tx.despawn(dead)
        for key in self.rows("life"):
            self.rows("place").get(key, {"x": 0})["x"] += by
        for key in [key for key, row in self.rows("life").items() if row["hp"] == 0]:
            self.model.despawn(key)
            self.gone.append(key)
        # The columns go back before the commit, or it would warn.
        del body, life
        self.commit()

    def end(self, before: Model) -> None:
        """The transaction is over, and `before` was what was committed until now."""
        assert self.tx is not None
        with pytest.raises(ClosedError):
            self.tx.update(1, Life, hp=1)
        self.tx, self.model = None, self.committed
        self.savepoints.clear()
        told = told_by(self.everything.poll())
        assert told == differences(before.rows, self.committed.rows)
        weak = {}
        for at, (kind, fields) in differences(before.rows, self.committed.rows).items():
            rows = (before if kind == "delete" else self.committed).rows[at[0]]
            if at[0] == "life" and rows[at[1]]["hp"] < 3:
                weak[at] = (kind, fields)
        assert told_by(self.weak.poll()) == weak
        with self.store.view() as view:
            agrees(view, self.committed)

    # --- looking ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.tx is not None)
    @rule()
    def look(self) -> None:
        assert self.tx is not None
        agrees(self.tx, self.model)

    @rule(hp=whole, x=whole, rows=st.integers(0, 4), offset=st.integers(0, 2))
    def ask(self, hp: int, x: int, rows: int, offset: int) -> None:
        """Chosen, sorted, counted off and added up, in a transaction or a view."""
        view = None if self.tx is not None else self.store.view()
        source: Any = self.tx if view is None else view
        query = source.query(Place, Life).where((Life.hp < hp) | (Place.x >= x))
        both = [
            (-life["hp"], self.rows("place")[key]["x"], key)
            for key, life in self.rows("life").items()
            if key in self.rows("place") and (life["hp"] < hp or self.rows("place")[key]["x"] >= x)
        ]
        assert sorted(query.entity.tolist()) == sorted([key for _, _, key in both])
        assert query.aggregate(n=count(), total=sum_(Life.hp), least=min_(Place.x)) == {
            "n": len(both),
            "total": -sum([hp for hp, _, _ in both]),
            "least": min([x for _, x, _ in both], default=None),
        }
        ordered = query.order_by(desc(Life.hp), Place.x)
        found = ordered.limit(rows, offset).select(hp=Life.hp, x=Place.x).rows()
        assert [(-row["hp"], row["x"]) for row in found] == [two[:2] for two in sorted(both)][offset : offset + rows]
        if view is not None:
            view.close()

    @rule(code=name, prefix=title)
    def ask_for_items(self, code: str, prefix: str) -> None:
        """By a unique text, by the beginning of one, by group, over references; in code and as text."""
        view = None if self.tx is not None else self.store.view()
        source: Any = self.tx if view is None else view
        items = self.rows("item")
        if not self.model.broken():
            assert source.find(Item.code, code) == next((k for k, item in items.items() if item["code"] == code), None)
        begun = sorted([item["code"] for item in items.values() if item["title"].startswith(prefix)])
        chosen = source.query(Item).where(Item.title.startswith(prefix)).order_by(Item.code)
        assert [row["code"] for row in chosen.select(code=Item.code).rows()] == begun
        slots: dict[int, list[int]] = defaultdict(list)
        for item in items.values():
            slots[item["holder"]].append(item["slot"])
        grouped = source.query(Item).group_by(Item.holder).aggregate(n=count(), top=max_(Item.slot)).rows()
        assert [(row["item.holder"], row["n"], row["top"]) for row in grouped] == [
            (holder, len(found), max(found)) for holder, found in sorted(slots.items())
        ]
        labels = {chest["id"]: chest["label"] for chest in self.rows("chest").values()}
        joined = source.query(Item).join(Chest, on=Item.chest).select(code=Item.code, label=Chest.label).rows()
        assert sorted([(row["code"], row["label"]) for row in joined]) == sorted(
            [(item["code"], labels[item["chest"]]) for item in items.values() if item["chest"]]
        )
        holder = self.choose(self.model.alive, len(items))
        if holder:
            mine = [key for key, item in items.items() if item["holder"] == holder]
            assert sorted(source.related(holder, Item.holder).key.tolist()) == sorted(mine)
        if view is not None:
            view.close()
            text = f"from item where item.title startswith {prefix!r} order by item.code select item.code as code"
            assert [row["code"] for row in self.store.query(text).rows()] == begun

    @precondition(lambda self: self.tx is None and len(self.held) < 3)
    @rule()
    def hold(self) -> None:
        self.held.append((self.store.view(), self.committed))

    @precondition(lambda self: self.held)
    @rule(at=pick)
    def let_go(self, at: int) -> None:
        view, model = self.held.pop(at % len(self.held))
        agrees(view, model)
        view.close()

    @invariant()
    def nothing_is_told_of_what_is_not_committed(self) -> None:
        if hasattr(self, "store"):
            assert self.everything.poll() == []


def told_by(changes: list[Change]) -> dict[tuple[str, int], tuple[str, dict[str, Any]]]:
    found = {
        (change.table, change.key): (change.kind, change.fields) for change in changes if change.table != "entities"
    }
    assert len(found) == sum([change.table != "entities" for change in changes]), "each row once"
    return found


def differences(before: Rows, after: Rows) -> dict[tuple[str, int], tuple[str, dict[str, Any]]]:
    """What a subscription is to be told: by table and key, what happened, and the fields."""
    found: dict[tuple[str, int], tuple[str, dict[str, Any]]] = {}
    for table in TABLES:
        for key in before[table].keys() | after[table].keys():
            old, new = before[table].get(key), after[table].get(key)
            if old is None and new is not None:
                found[table, key] = ("insert", new)
            elif new is None and old is not None:
                found[table, key] = ("delete", old)
            elif old is not None and new is not None and old != new:
                found[table, key] = ("update", {name: cell for name, cell in new.items() if cell != old[name]})
    return found


def agrees(source: Any, model: Model) -> None:
    """A view or transaction has the very rows of the model, as columns and cell by cell."""
    assert set(source.query("entities").key.tolist()) == model.alive
    for table, declared in TABLES.items():
        selected = source.query(declared).select().rows()
        found = {row.pop("key"): {path.rpartition(".")[2]: cell for path, cell in row.items()} for row in selected}
        assert {k: {n: c for n, c in row.items() if n != "entity_id"} for k, row in found.items()} == model.rows[table]
        for key, row in model.rows[table].items():
            assert {name: source[key, f"{table}.{name}"] for name in row} == row
    for key in model.alive - model.rows["life"].keys():
        with pytest.raises(NoRowError):
            source[key, Life.hp]


TestWholeApi = WholeApi.TestCase
TestWholeApi.settings = settings(max_examples=250, stateful_step_count=50, deadline=None)
