"""What the kernel refuses, put into words that name table, field and limit."""

import numpy as np
import pytest

from ecsnet._kernel.kernel import KernelStore
from ecsnet.errors import ArgumentError, InternalError, LimitExceededError, NoRowError, RowExistsError, StaleEntityError
from ecsnet.schema import loads
from tests.kernel.model import SCHEMA, new_store


def test_more_ids_than_a_store_may_have_name_the_table_and_its_limit() -> None:
    kernel = new_store()
    kernel.take_baton()
    kernel.begin()
    for n in (20_001, 10**9):
        with pytest.raises(LimitExceededError, match="entities.rows_max") as caught:
            kernel.reserve(0, n)
        assert caught.value.value == SCHEMA.table("entities").rows_max
    kernel.rollback()


def test_a_key_is_stale_or_without_a_row_or_with_one() -> None:
    kernel = new_store()
    body = SCHEMA.table("body")
    shape = kernel.shape(body.id, (body.field("x").id,))
    kernel.take_baton()
    kernel.begin()
    bare = kernel.spawn(0, [])
    with pytest.raises(NoRowError, match="body"):
        kernel.update(shape, bare, (1.0,))
    kernel.insert(shape, bare, (1.0,))
    with pytest.raises(RowExistsError, match="body"):
        kernel.insert(shape, bare, (1.0,))
    kernel.despawn(bare)
    for call in (lambda: kernel.update(shape, bare, (1.0,)), lambda: kernel.delete(body.id, bare)):
        with pytest.raises(StaleEntityError):
            call()
    with pytest.raises(ArgumentError, match="u64"):
        kernel.delete(body.id, -1)
    kernel.rollback()


def test_a_bulk_call_that_fails_in_the_middle_changes_nothing() -> None:
    kernel = new_store()
    body = SCHEMA.table("body")
    kernel.take_baton()
    kernel.begin()
    keys = kernel.reserve(0, 100)
    kernel.insert_many(0, keys, {0: np.uint64(0)})
    kernel.insert_many(body.id, keys[:50].copy(), {})
    with pytest.raises(RowExistsError):
        kernel.insert_many(body.id, keys[::-1].copy(), {})
    assert kernel.head_table(body.id).rows == 50
    kernel.insert_many(body.id, keys[50:].copy(), {})
    kernel.commit()
    kernel.publish(1)
    assert kernel.acquire().rows(body.id) == 100


def test_a_call_without_the_baton_is_a_bug_that_is_refused() -> None:
    kernel = new_store()
    with pytest.raises(InternalError):
        kernel.begin()


def test_a_row_of_as_many_fields_as_a_table_may_have_is_written_in_one_call() -> None:
    fields = ",".join(f'{{ name = "f{n:03}", type = "u8", default = 0 }}' for n in range(255))
    wide = loads(
        '[database]\nname = "wide"\nversion = "1.0.0"\n[tables.wide]\nprimary_key = "id"\n'
        f'fields = [{{ name = "id", type = "u64", constraint = "unique" }}, {fields}]\n'
    )
    table = wide.table("wide")
    assert len(table.fields) == 256
    kernel = KernelStore(wide)
    kernel.take_baton()
    kernel.begin()
    shape = kernel.shape(table.id, tuple(field.id for field in table.fields))
    values = [n % 256 for n in range(256)]
    key = kernel.insert_keyed(shape, tuple(values))
    kernel.update(shape, key, tuple(reversed(values)))
    assert [kernel.read_cell(table.id, field.id, key) for field in table.fields] == values[::-1]
    kernel.rollback()
