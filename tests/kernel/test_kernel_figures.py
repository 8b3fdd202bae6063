"""What changed by table: which tables, and how many bytes of a block are theirs."""

import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecsnet._kernel.kernel import HistoryGone
from ecsnet.errors import ArgumentError, RemoteProtocolError
from tests.kernel.model import SCHEMA, Driver, new_store


@pytest.mark.parametrize("seed", range(4))
def test_a_block_weighs_what_its_tables_weigh_and_names_those_that_were_touched(seed: int) -> None:
    driver = Driver(seed, replicas=0)
    driver.kernel.take_baton()
    driver.run(30)
    pin = driver.kernel.acquire()
    for base in range(0, pin.version + 1):
        block = driver.kernel.delta(pin, base).block
        weights = driver.kernel.block_tables(block)
        ids = [table_id for table_id, _ in weights]
        count, length = struct.unpack_from("<HI", block, 2)
        assert len(ids) == count
        assert ids == sorted(set(ids))
        assert sum(weight for _, weight in weights) == length == len(block) - 16
        assert all(weight >= 12 for _, weight in weights)
        if base > 0:
            assert set(ids) <= set(pin.touched(base))


def test_tables_that_changed_are_named_and_no_others() -> None:
    """Given versions that each change one table, when one asks from a base, then those since are named."""
    kernel = new_store()
    body, frozen = SCHEMA.table("body").id, SCHEMA.table("frozen").id
    kernel.take_baton()

    def version_with(*tables: int) -> None:
        kernel.begin()
        for table_id in tables:
            if table_id == frozen:
                kernel.insert(kernel.shape(frozen, ()), key, ())
            else:
                kernel.update(tag, key, (kernel.head_version,))
        kernel.commit()
        kernel.publish(0)

    kernel.begin()
    tag = kernel.shape(body, (SCHEMA.table("body").field("tag").id,))
    key = kernel.spawn(0, [(tag, (200,))])
    kernel.commit()
    kernel.publish(0)
    version_with(body)
    version_with(frozen)
    pin = kernel.acquire()

    assert pin.touched(3) == ()
    assert pin.touched(2) == (frozen,)
    assert pin.touched(1) == (body, frozen)
    assert pin.touched(0) == (0, body, frozen)
    for wrong in (4, -1):
        with pytest.raises(ArgumentError, match="base"):
            pin.touched(wrong)


def test_a_replica_names_what_changed_in_what_it_took_at_once() -> None:
    """Given a replica that went from 1 to 3 in one step, when it is asked from 2, then the whole step counts."""
    authority, replica = new_store(), new_store()
    authority.take_baton()
    pins = []
    for _ in range(3):
        authority.begin()
        authority.spawn(0, [])
        authority.commit()
        authority.publish(0)
        pins.append(authority.acquire())
    replica.apply([authority.delta(pins[0], 0).block], 0, 1, 0)
    replica.apply([authority.delta(pins[2], 1).block], 1, 3, 0)
    assert replica.acquire().touched(2) == replica.acquire().touched(1) == (0,)


def test_a_base_older_than_the_history_is_told_so() -> None:
    kernel = new_store()
    kernel.take_baton()
    for _ in range(300):
        kernel.begin()
        kernel.spawn(0, [])
        kernel.commit()
        kernel.publish(0)
    pin = kernel.acquire()
    assert pin.touched(pin.version - 100) == (0,)
    with pytest.raises(HistoryGone):
        pin.touched(1)


def test_a_block_that_was_cut_off_or_is_of_another_schema_has_no_weights() -> None:
    driver = Driver(5, replicas=0)
    driver.kernel.take_baton()
    driver.run(12)
    block = driver.kernel.delta(driver.kernel.acquire(), 0).block
    for length in range(len(block)):
        with pytest.raises(RemoteProtocolError, match="no block of schema"):
            driver.kernel.block_tables(block[:length])
    with pytest.raises(RemoteProtocolError):
        driver.kernel.block_tables(block + b"\0")


DRIVER = Driver(5, replicas=0)
DRIVER.kernel.take_baton()
DRIVER.run(12)
BLOCK = DRIVER.kernel.delta(DRIVER.kernel.acquire(), 3).block


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_bytes_weigh_what_they_are_or_are_refused(data: st.DataObject) -> None:
    block = bytearray(data.draw(st.one_of(st.just(BLOCK), st.binary(max_size=80).map(lambda b: b"\x02\x00" + b))))
    for _ in range(data.draw(st.integers(0, 4))):
        block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.sampled_from([0, 1, 4, 0x7F, 0x80, 0xFF]))
    try:
        weights = DRIVER.kernel.block_tables(bytes(block))
    except RemoteProtocolError:
        return
    assert sum(weight for _, weight in weights) == len(block) - 16


def test_what_is_encoded_is_counted_by_table_and_field() -> None:
    """Given blocks of many kinds, when each is cut, then the counts grow by just its bytes, and as its tables weigh."""
    driver = Driver(8, replicas=0)
    kernel = driver.kernel
    kernel.take_baton()
    fields: set[tuple[int, int | None]] = set()
    before: dict[tuple[int, int | None], int] = {}
    version = 0
    for _ in range(25):
        driver.run(2)
        pin = kernel.acquire()
        for base in {0, version, pin.version}:
            block = kernel.delta(pin, base).block
            counted = {(table, field): length for table, field, length in kernel.encoded_bytes()}
            grown = {place: length - before.get(place, 0) for place, length in counted.items()}
            by_table: dict[int, int] = {}
            for (table, _), length in grown.items():
                by_table[table] = by_table.get(table, 0) + length
            assert {table: length for table, length in by_table.items() if length} == dict(kernel.block_tables(block))
            fields |= {place for place, length in grown.items() if length}
            before = counted
        version = pin.version
        pin.release()
    for spec in kernel.schema.tables:
        if any(table == spec.id for table, _ in fields):
            assert {field.id for field in spec.fields} <= {field for table, field in fields if table == spec.id}


def test_a_column_alone_is_counted_for_its_field_alone() -> None:
    kernel = new_store()
    kernel.take_baton()
    kernel.begin()
    keys = [kernel.spawn(0, []) for _ in range(3)]
    kernel.commit()
    kernel.publish(0)
    base = kernel.acquire()
    owner = next(field.id for field in kernel.schema.table("entities").fields if field.name == "owner")
    kernel.begin()
    kernel.update_many(0, np.array(keys[:2], np.uint64), {owner: np.array([7, 900], np.uint64)})
    kernel.commit()
    kernel.publish(0)
    block = kernel.delta(kernel.acquire(), base.version).block
    counted = {(table, field): length for table, field, length in kernel.encoded_bytes() if length}
    assert set(counted) == {(0, None), (0, owner)}
    assert sum(counted.values()) == len(block) - 16
    # The table's head, the column's, how many rows, and a byte for each of their names.
    assert counted[0, None] == 4 + 4 + 1 + 2, "what names rows is no field's"
