"""The peers of the store's benchmark: numpy, the limit from Python, and esper.

Each has `works` by the metric's name, as `store.EcsnetSide` has: equal work, without what the peer does not offer
(transactions, checks, a second version for readers).
"""

import random
from dataclasses import dataclass
from importlib.util import find_spec
from time import thread_time
from typing import Any

import numpy as np

from ecsnet.bench.timing import Work

__all__ = ["EsperSide", "NumpySide"]

_DT = 1 / 60


def _shuffled(n: int) -> list[int]:
    order = list(range(n))
    random.Random(7).shuffle(order)
    return order


class NumpySide:
    """Eight plain arrays. Nobody checks anything, and there is only one version."""

    name = "numpy"

    def __init__(self, n: int, point_operations_max: int = 20_000) -> None:
        self.n = n
        self._columns = [np.zeros(n, np.float32) for _ in range(6)] + [np.zeros(n, np.uint32) for _ in range(2)]
        self._source = [np.ones(n, column.dtype) for column in self._columns]
        order = _shuffled(n)
        self._order = np.array(order)
        self._some = order[:point_operations_max]
        self._values = np.arange(n, dtype=np.uint32)
        self._product = np.empty(n, np.float32)
        self.works: dict[str, Work] = {
            "writer_row": self.update_row,
            "update_row": self.update_row,
            "reader_cell": self.read_cell,
            "read_cell": self.read_cell,
            "read_cell_by_row": self.read_cell,
            "bulk_insert": self.bulk_insert,
            "bulk_update": self.bulk_update,
            "bulk_read": self.bulk_read,
            "iterate_committed": self.iterate_committed,
            "spawn_bulk": self.bulk_insert,
            "spawn_bulk_in_gaps": self.bulk_insert,
            "kernel_spawn_bulk": self.bulk_insert,
            "kernel_update_random": self.bulk_update,
        }

    def update_row(self) -> float:
        cells = self._columns[6]
        started = thread_time()
        for row in self._some:
            cells[row] = 5
        return (thread_time() - started) / len(self._some)

    def read_cell(self) -> float:
        cells = self._columns[6]
        started = thread_time()
        for row in self._some:
            cells[row]
        return (thread_time() - started) / len(self._some)

    def bulk_insert(self) -> float:
        started = thread_time()
        for column, cells in zip(self._columns, self._source, strict=True):
            column[:] = cells
        return (thread_time() - started) / self.n

    def bulk_update(self) -> float:
        started = thread_time()
        self._columns[6][self._order] = self._values
        return (thread_time() - started) / self.n

    def bulk_read(self) -> float:
        started = thread_time()
        self._columns[6][self._order]
        return (thread_time() - started) / self.n

    def iterate_committed(self) -> float:
        times = max(5, 1_000_000 // self.n)
        x, y, z, vx, vy, vz = self._columns[:6]
        product, dt = self._product, np.float32(_DT)
        started = thread_time()
        for _ in range(times):
            x += np.multiply(vx, dt, out=product)
            y += np.multiply(vy, dt, out=product)
            z += np.multiply(vz, dt, out=product)
        return (thread_time() - started) / times / self.n


@dataclass(slots=True)
class _Position:
    x: float
    y: float
    z: float


@dataclass(slots=True)
class _Velocity:
    x: float
    y: float
    z: float


@dataclass(slots=True)
class _Health:
    hp: int
    max_hp: int


class EsperSide:
    """esper's world: a dictionary of component objects for each entity. No transactions."""

    name = "esper"

    @staticmethod
    def installed() -> bool:
        """Whether it can be imported."""
        return find_spec("esper") is not None

    def __init__(self, n: int, point_operations_max: int) -> None:
        import esper

        self._esper: Any = esper
        self.n = n
        esper.clear_database()
        self._entities = [self._create() for _ in range(n)]
        self._some = [self._entities[i] for i in _shuffled(n)[:point_operations_max]]
        self.works: dict[str, Work] = {
            "insert_row": self.insert_row,
            "writer_row": self.update_row,
            "update_row": self.update_row,
            "delete_row": self.delete_row,
            "update_row_own_transaction": self.update_row,
            "spawn_entity": self.spawn_entity,
            "despawn_entity": self.despawn_entity,
            "reader_cell": self.read_cell,
            "read_cell": self.read_cell,
            "iterate_committed": self.iterate,
            "spawn_bulk": self.spawn_entity,
            "spawn_bulk_in_gaps": self.spawn_entity,
        }

    def _create(self) -> Any:
        return self._esper.create_entity(_Position(1.0, 2.0, 3.0), _Velocity(1.0, 2.0, 3.0), _Health(100, 100))

    def insert_row(self) -> float:
        esper = self._esper
        for entity in self._some:
            esper.remove_component(entity, _Health)
        started = thread_time()
        for entity in self._some:
            esper.add_component(entity, _Health(5, 100))
        return (thread_time() - started) / len(self._some)

    def update_row(self) -> float:
        component = self._esper.component_for_entity
        started = thread_time()
        for entity in self._some:
            component(entity, _Health).hp = 5
        return (thread_time() - started) / len(self._some)

    def delete_row(self) -> float:
        esper = self._esper
        started = thread_time()
        for entity in self._some:
            esper.remove_component(entity, _Health)
        seconds = thread_time() - started
        for entity in self._some:
            esper.add_component(entity, _Health(100, 100))
        return seconds / len(self._some)

    def spawn_entity(self) -> float:
        create = self._esper.create_entity
        made = []
        started = thread_time()
        for _ in self._some:
            made.append(create(_Position(1.0, 2.0, 3.0), _Velocity(1.0, 2.0, 3.0), _Health(100, 100)))
        seconds = thread_time() - started
        for entity in made:
            self._esper.delete_entity(entity, immediate=True)
        return seconds / len(made)

    def despawn_entity(self) -> float:
        delete = self._esper.delete_entity
        made = [self._create() for _ in self._some]
        random.Random(7).shuffle(made)
        started = thread_time()
        for entity in made:
            delete(entity, immediate=True)
        return (thread_time() - started) / len(made)

    def read_cell(self) -> float:
        component = self._esper.component_for_entity
        started = thread_time()
        for entity in self._some:
            component(entity, _Health).hp  # noqa: B018
        return (thread_time() - started) / len(self._some)

    def iterate(self) -> float:
        times = max(1, 100_000 // self.n)
        get_components = self._esper.get_components
        # Fills its cache of queries.
        get_components(_Position, _Velocity)
        started = thread_time()
        for _ in range(times):
            for _entity, (position, velocity) in get_components(_Position, _Velocity):
                position.x += velocity.x * _DT
                position.y += velocity.y * _DT
                position.z += velocity.z * _DT
        return (thread_time() - started) / times / self.n
