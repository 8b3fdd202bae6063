"""The store against a model that is too simple to be wrong: dictionaries, copied whole at each transaction."""

import warnings
from copy import deepcopy
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ecsnet.errors import EcsnetError, NoRowError, RowExistsError, StaleEntityError
from ecsnet.schema import loads
from ecsnet.store import Store, Transaction, View, col
from tests.store.conftest import ARENA

SCHEMA = loads(ARENA)
COMPONENTS = ("transform", "velocity", "health")
DEFAULTS: dict[str, dict[str, Any]] = {
    "transform": {"x": 0.0, "y": 0.0},
    "velocity": {"x": 0.0, "y": 0.0},
    "health": {"hp": 100},
}

whole = st.integers(0, 100)
component = st.sampled_from(COMPONENTS)
components = st.sets(component)


class Model:
    """What the world should be: rows by table and key."""

    def __init__(self) -> None:
        self.alive: set[int] = set()
        self.rows: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in COMPONENTS}

    def spawn(self, entity: int, given: dict[str, dict[str, Any]]) -> None:
        assert entity not in self.alive
        self.alive.add(entity)
        for name, fields in given.items():
            self.rows[name][entity] = DEFAULTS[name] | fields

    def despawn(self, entity: int) -> None:
        self.alive.remove(entity)
        for rows in self.rows.values():
            rows.pop(entity, None)


class StoreAgainstModel(RuleBasedStateMachine):
    """Every verb in every order, with arrays out or not, committed or undone; and views held across all of it."""

    @initialize()
    def begin(self) -> None:
        warnings.simplefilter("error", ResourceWarning)
        self.store = Store(SCHEMA)
        self.committed = Model()
        self.known: list[int] = []
        self.held: list[tuple[View, Model]] = []
        self.tx: Transaction | None = None
        self.model = self.committed
        # While columns are lent, queries show rows as they stood; these were removed behind that since.
        self.lending = False
        self.removed: dict[tuple[str, int], dict[str, Any]] = {}

    def teardown(self) -> None:
        if hasattr(self, "store"):
            if self.tx is not None:
                self.tx.rollback()
            self.store.close()

    # --- transactions ------------------------------------------------------------------------------------------------

    def open(self) -> Transaction:
        if self.tx is None:
            self.tx = self.store.transaction()
            self.model = deepcopy(self.committed)
            self.lending = False
            self.removed = {}
        return self.tx

    @precondition(lambda self: self.tx is not None)
    @rule()
    def commit(self) -> None:
        assert self.tx is not None
        before = self.store.version
        self.tx.commit()
        assert self.store.version - before in (0, 1)
        self.committed, self.tx, self.lending = self.model, None, False

    @precondition(lambda self: self.tx is not None)
    @rule()
    def roll_back(self) -> None:
        assert self.tx is not None
        before = self.store.version
        self.tx.rollback()
        assert self.store.version == before
        self.model, self.tx, self.lending = self.committed, None, False

    # --- verbs -------------------------------------------------------------------------------------------------------

    def pick(self, number: int) -> int:
        """Some entity that there is or was."""
        return self.known[number % len(self.known)] if self.known else 12345

    @rule(names=components, value=whole)
    def spawn(self, names: set[str], value: int) -> None:
        given: dict[str, dict[str, Any]] = {
            name: {next(iter(DEFAULTS[name])): value} if value % 2 else {} for name in sorted(names)
        }
        entity = self.open().spawn(**given)
        self.model.spawn(entity, given)
        self.known.append(entity)

    @rule(names=components, count=st.integers(0, 5))
    def spawn_many(self, names: set[str], count: int) -> None:
        arrays: dict[str, Any] = {name: {next(iter(DEFAULTS[name])): np.arange(count)} for name in sorted(names)}
        entities = self.open().spawn_many(count, **arrays)
        for place, entity in enumerate(entities.tolist()):
            self.model.spawn(entity, {name: {next(iter(DEFAULTS[name])): place} for name in sorted(names)})
            self.known.append(entity)

    @rule(number=whole, name=component, value=whole)
    def insert(self, number: int, name: str, value: int) -> None:
        entity, field = self.pick(number), next(iter(DEFAULTS[name]))
        expected: type[EcsnetError] | None = None
        if entity not in self.model.alive:
            expected = StaleEntityError
        elif entity in self.model.rows[name]:
            expected = RowExistsError
        components: dict[str, Any] = {name: {field: value}}
        tx = self.open()
        if self.expect(expected, lambda: tx.insert(entity, **components)):
            self.model.rows[name][entity] = DEFAULTS[name] | {field: value}

    @rule(number=whole, name=component, value=whole)
    def update(self, number: int, name: str, value: int) -> None:
        entity, field = self.pick(number), next(iter(DEFAULTS[name]))
        tx = self.open()
        if self.expect(self.missing(entity, name), lambda: tx.update(entity, name, **{field: value})):
            self.model.rows[name][entity][field] = value

    @rule(number=whole, name=component)
    def delete(self, number: int, name: str) -> None:
        entity = self.pick(number)
        tx = self.open()
        if self.expect(self.missing(entity, name), lambda: tx.delete(entity, name)):
            self.remember(name, entity)
            del self.model.rows[name][entity]

    @rule(number=whole)
    def despawn(self, number: int) -> None:
        entity = self.pick(number)
        tx = self.open()
        if self.expect(None if entity in self.model.alive else StaleEntityError, lambda: tx.despawn(entity)):
            for name in COMPONENTS:
                self.remember(name, entity)
            self.model.despawn(entity)

    def missing(self, entity: int, name: str) -> type[EcsnetError] | None:
        if entity not in self.model.alive:
            return StaleEntityError
        return None if entity in self.model.rows[name] else NoRowError

    @staticmethod
    def expect(error: type[EcsnetError] | None, attempt: Any) -> bool:
        if error is None:
            attempt()
            return True
        try:
            attempt()
        except error:
            return False
        raise AssertionError(f"expected {error.__name__}")

    # --- columns -----------------------------------------------------------------------------------------------------

    @rule(value=st.integers(-3, 3))
    def move(self, value: int) -> None:
        """A system over two tables."""
        query = self.open().query("transform", "velocity")
        body, speed = query
        body.x += value
        body.y = speed.x * 2
        self.lend()
        for entity in query.entity.tolist():
            row = self.seen("transform", entity)
            row["x"] += value
            row["y"] = self.seen("velocity", entity)["x"] * 2

    @rule(limit=whole)
    def hurt(self, limit: int) -> None:
        """A system over some rows."""
        query = self.open().query("health").where(col("hp") > limit)
        (health,) = query
        health.hp -= 1
        health.hp[: len(health) // 2] = 0
        self.lend()
        entities = query.entity.tolist()
        for place, entity in enumerate(entities):
            row = self.seen("health", entity)
            row["hp"] = 0 if place < len(entities) // 2 else row["hp"] - 1

    def lend(self) -> None:
        if not self.lending:
            self.lending, self.removed = True, {}

    def remember(self, name: str, entity: int) -> None:
        row = self.model.rows[name].get(entity)
        if row is not None:
            # The first counts: a row inserted behind the lent ones and removed again was never seen.
            self.removed.setdefault((name, entity), row)

    def seen(self, name: str, entity: int) -> dict[str, Any]:
        """The row that a lent column shows: the model's, or what was removed behind it."""
        return self.removed.get((name, entity)) or self.model.rows[name][entity]

    # --- reading -----------------------------------------------------------------------------------------------------

    @rule(number=whole, name=component)
    def read_a_cell(self, number: int, name: str) -> None:
        entity, field = self.pick(number), next(iter(DEFAULTS[name]))
        tx = self.open()
        expected = self.missing(entity, name)
        found: list[Any] = []
        if self.expect(expected, lambda: found.append(tx[entity, f"{name}.{field}"])):
            assert found == [self.model.rows[name][entity][field]]
        assert (entity in tx) == (entity in self.model.alive)
        assert ((entity, name) in tx) == (entity in self.model.rows[name])

    @rule()
    def hold_a_view(self) -> None:
        if len(self.held) == 4:
            self.held.pop(0)
        self.held.append((self.store.view(), deepcopy(self.committed)))

    @invariant()
    def the_newest_version_and_held_ones_are_as_they_should_be(self) -> None:
        if not hasattr(self, "store"):
            return
        with self.store.view() as view:
            agrees(view, self.committed)
        for held, model in self.held:
            agrees(held, model)

    @precondition(lambda self: self.tx is not None and not self.lending)
    @rule(names=st.sets(component, min_size=1), without=components)
    def join(self, names: set[str], without: set[str]) -> None:
        without = without - names
        assert self.tx is not None
        query = self.tx.query(*sorted(names), without=sorted(without))
        joined = {
            entity
            for entity in self.model.alive
            if all(entity in self.model.rows[name] for name in names)
            and not any(entity in self.model.rows[name] for name in without)
        }
        assert set(query.entity.tolist()) == joined
        assert query.count() == len(joined)


def agrees(view: View, model: Model) -> None:
    assert set(view["entities"].key.tolist()) == model.alive
    for name in COMPONENTS:
        keys = view[name].key.tolist()
        assert len(keys) == len(model.rows[name])
        columns = {field: view[f"{name}.{field}"].tolist() for field in DEFAULTS[name]}
        for row, key in enumerate(keys):
            assert {field: cells[row] for field, cells in columns.items()} == model.rows[name][key], (name, key)


TestStoreAgainstModel = StoreAgainstModel.TestCase
TestStoreAgainstModel.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
