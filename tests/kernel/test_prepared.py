"""Prepared writes: many records in one call do what as many operations would, and a refused one undoes all."""

import struct
from collections.abc import Iterator

import numpy as np
import pytest

from ecsnet._kernel.kernel import KernelStore
from ecsnet._kernel.prepared import DELETE, INSERT, READ, UPDATE, Prepared
from ecsnet.errors import ConstraintError, EcsnetError, InternalError, NoRowError, RowExistsError, StaleEntityError
from ecsnet.schema import loads
from tests.store.conftest import ARENA

N = 8


@pytest.fixture
def kernel() -> Iterator[KernelStore]:
    kernel = KernelStore(loads(ARENA))
    kernel.take_baton()
    kernel.begin()
    yield kernel
    kernel.rollback()
    kernel.release_baton()


def prepared(kernel: KernelStore, kind: int, table: str, *names: str, capacity: int = 1) -> Prepared:
    described = kernel.schema.table(table)
    fields = tuple(next(field for field in described.fields if field.name == name) for name in names)
    return Prepared(kernel, kind, described.id, fields, capacity)


def spawned(kernel: KernelStore, n: int = N) -> list[int]:
    keys = kernel.reserve(0, n)
    kernel.insert_many(0, keys, {})
    return [int(key) for key in keys]


def fill(into: Prepared, rows: list[tuple[object, ...]]) -> int:
    for place, row in enumerate(rows):
        into.pack_into(into.memory, place * into.stride, *row)
    return into.run(len(rows))


def column(kernel: KernelStore, table: str, position: int) -> list[float]:
    described = kernel.schema.table(table)
    cells: list[float] = kernel.lend(described.id, described.fields[position].id, False).tolist()
    return cells


@pytest.mark.parametrize("n", [1, 3, N])
def test_records_are_inserted_updated_read_and_deleted(kernel: KernelStore, n: int) -> None:
    """Few records go row by row, more of them column by column: both end the same."""
    keys = spawned(kernel)[:n]
    insert = prepared(kernel, INSERT, "transform", "y", capacity=N)
    assert fill(insert, [(key, float(place)) for place, key in enumerate(keys)]) == 0
    assert column(kernel, "transform", 0) == [0.0] * n
    update = prepared(kernel, UPDATE, "transform", "x", "y", capacity=N)
    assert fill(update, [(key, place + 0.5, -1.0) for place, key in enumerate(keys)]) == 0
    assert column(kernel, "transform", 0) == [place + 0.5 for place in range(n)]
    assert column(kernel, "transform", 1) == [-1.0] * n

    read = prepared(kernel, READ, "transform", "x", "y", capacity=N)
    assert fill(read, [(key, 0.0, 0.0) for key in keys]) == 0
    seen = [struct.unpack_from("<Qff", read.memory, place * read.stride) for place in range(n)]
    assert seen == [(key, place + 0.5, -1.0) for place, key in enumerate(keys)]

    delete = prepared(kernel, DELETE, "transform", capacity=N)
    assert fill(delete, [(key,) for key in keys]) == 0
    assert column(kernel, "transform", 0) == []


@pytest.mark.parametrize("bad", range(N))
@pytest.mark.parametrize("n", [3, N])
def test_one_refused_record_undoes_all_and_is_named(kernel: KernelStore, bad: int, n: int) -> None:
    if bad >= n:
        bad = n - 1
    keys = spawned(kernel)[:n]
    assert fill(prepared(kernel, INSERT, "health", "hp", capacity=N), [(key, 10) for key in keys]) == 0
    mark = kernel.mark()
    update = prepared(kernel, UPDATE, "health", "hp", capacity=N)

    status = fill(update, [(key, 101 if place == bad else 20) for place, key in enumerate(keys)])
    assert isinstance(kernel.failed(status), ConstraintError)
    assert kernel.failed_at == bad
    status = fill(update, [(1 if place == bad else key, 20) for place, key in enumerate(keys)])
    assert isinstance(kernel.failed(status), StaleEntityError)
    assert kernel.failed_at == bad
    again = prepared(kernel, INSERT, "velocity", capacity=N)
    status = fill(
        again, [(keys[0] if place == bad else keys[place - 1 if place > bad else place],) for place in range(n)]
    )
    if bad > 0:
        assert isinstance(kernel.failed(status), RowExistsError)
        assert kernel.failed_at == bad

    assert column(kernel, "health", 0) == [10] * n
    assert kernel.mark() == mark, "nothing is left in the log of what is undone"


def test_an_index_follows_prepared_writes(kernel: KernelStore) -> None:
    first, second = spawned(kernel, 2)
    insert = prepared(kernel, INSERT, "target", "whom", capacity=N)
    assert fill(insert, [(first, second), (second, 0)]) == 0
    update = prepared(kernel, UPDATE, "target", "whom", capacity=N)
    assert fill(update, [(first, 0), (second, first), (first, second), (first, first), (second, second)]) == 0
    kernel.despawn(first)
    assert column(kernel, "target", 0) == [second]
    kernel.despawn(second)
    assert column(kernel, "target", 0) == []


def test_the_last_of_two_writes_to_a_row_counts(kernel: KernelStore) -> None:
    keys = spawned(kernel)
    assert fill(prepared(kernel, INSERT, "health", "hp", capacity=N), [(key, 1) for key in keys]) == 0
    mark = kernel.mark()
    update = prepared(kernel, UPDATE, "health", "hp", capacity=N)
    assert fill(update, [(keys[0], hp) for hp in (5, 6, 7, 8, 9)]) == 0
    assert column(kernel, "health", 0) == [9, 1, 1, 1, 1, 1, 1, 1]
    kernel.rollback_to(mark)
    assert column(kernel, "health", 0) == [1] * N


def test_lent_columns_are_read_and_written_where_they_are(kernel: KernelStore) -> None:
    keys = spawned(kernel)
    assert fill(prepared(kernel, INSERT, "transform", capacity=N), [(key,) for key in keys]) == 0
    described = kernel.schema.table("transform")
    lent = kernel.lend(described.id, described.fields[0].id, True)
    lent[:] = np.arange(N)
    assert fill(prepared(kernel, UPDATE, "transform", "x", capacity=N), [(key, 9.0) for key in keys[:5]]) == 0
    assert lent.tolist() == [9.0] * 5 + [5.0, 6.0, 7.0]
    run, cell = prepared(kernel, READ, "transform", "x").by_key()
    assert run(keys[6]) == 0
    assert cell.cast("f")[0] == 6.0
    del lent


def refused(kernel: KernelStore, status: int) -> EcsnetError:
    assert status < 0
    return kernel.failed(status)


def test_what_is_described_wrongly_is_refused(kernel: KernelStore) -> None:
    (key,) = spawned(kernel, 1)
    update = prepared(kernel, UPDATE, "transform", "x", "y", capacity=N)
    assert isinstance(refused(kernel, fill(update, [(key, 1.0, 1.0)])), NoRowError)
    for changed in (
        {"kind": 1},
        {"kind": 9},
        {"stride": 7},
        {"table": 999},
        {"stride": 12, "count": 5},
        {"records": 0},
    ):
        update = prepared(kernel, UPDATE, "transform", "x", "y", capacity=N)
        for name, value in changed.items():
            setattr(update.description, name, value)
        assert isinstance(refused(kernel, update.now(update.reference)), InternalError | StaleEntityError), changed


def test_dropped_records_make_room_for_those_behind(kernel: KernelStore) -> None:
    keys = spawned(kernel)
    insert = prepared(kernel, INSERT, "health", "hp", capacity=N)
    for place, key in enumerate(keys):
        insert.pack_into(insert.memory, place * insert.stride, key, place)
    insert.drop(5, N)
    assert [insert.key(place) for place in range(3)] == keys[5:]
    assert insert.run(3) == 0
    assert column(kernel, "health", 0) == [5, 6, 7]


def test_rows_of_an_event_table_are_neither_updated_nor_deleted() -> None:
    hit = '[tables.hit]\nevent = true\nfields = [{ name = "damage", type = "u16" }]\n'
    kernel = KernelStore(loads(ARENA + hit))
    kernel.take_baton()
    kernel.begin()
    (key,) = (int(key) for key in kernel.reserve(kernel.schema.table("hit").id, 1))
    assert fill(prepared(kernel, INSERT, "hit", "damage"), [(key, 7)]) == 0
    with pytest.raises(EcsnetError, match="hit"):
        raise refused(kernel, fill(prepared(kernel, UPDATE, "hit", "damage"), [(key, 8)]))
    with pytest.raises(EcsnetError, match="hit"):
        raise refused(kernel, fill(prepared(kernel, DELETE, "hit"), [(key,)]))
    assert column(kernel, "hit", 0) == [7]
    kernel.rollback()
    kernel.release_baton()
