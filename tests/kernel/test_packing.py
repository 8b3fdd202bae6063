"""Cells of every type over the wire: what a replica holds is what the authority says that it should."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ecsnet._kernel.kernel import KernelStore, Pin
from ecsnet.errors import RemoteProtocolError
from ecsnet.schema import loads
from ecsnet.schema.model import Table

STEP = 0.01
SCHEMA = loads(f"""[database]
name = "packed"
version = "1.0.0"

[tables.thing]
parent_table = "entities"
fields = [{{ name = "entity", type = "u64", foreign_key = "entities.id" }},
          {{ name = "small", type = "i8", default = 0 }},
          {{ name = "count", type = "u16", default = 0 }},
          {{ name = "large", type = "u64", default = 0 }},
          {{ name = "signed", type = "i64", default = 0 }},
          {{ name = "flag", type = "bool", default = false }},
          {{ name = "grid", type = "[u16; 3]", default = [0, 0, 0] }},
          {{ name = "exact", type = "f32", default = 0.0 }},
          {{ name = "rough", type = "f32", quantize = {STEP}, default = 0.0 }},
          {{ name = "place", type = "[f32; 3]", quantize = {STEP}, default = [0.0, 0.0, 0.0] }},
          {{ name = "far", type = "f64", quantize = {STEP}, minimum = -1e9, maximum = 1e9, default = 0.0 }},
          {{ name = "turned", type = "[f32; 4]", rotation = true, default = [0.0, 0.0, 0.0, 1.0] }}]
""")
THING: Table = SCHEMA.table("thing")
ROWS = 60


def new_store() -> KernelStore:
    kernel = KernelStore(SCHEMA, entities_max=10_000)
    kernel.take_baton()
    kernel.begin()
    kernel.commit()
    kernel.publish(0, genesis=True)
    return kernel


def new_world() -> tuple[KernelStore, NDArray[np.uint64]]:
    kernel = new_store()
    kernel.begin()
    keys = kernel.reserve(0, ROWS)
    kernel.insert_many(0, keys, {0: np.zeros(ROWS)})
    kernel.insert_many(THING.id, keys, {})
    kernel.commit()
    kernel.publish(1)
    return kernel, keys


def replica_of(pin: Pin, kernel: KernelStore) -> KernelStore:
    replica = new_store()
    replica.release_baton()
    replica.apply([kernel.delta(pin, 0).block], 0, pin.version, 0)
    return replica


def column(pin: Pin, name: str) -> NDArray[Any]:
    order = np.argsort(pin.keys(THING.id))
    return np.asarray(pin.column(THING.id, THING.field(name).id))[order]


FLOATS = st.one_of(
    st.floats(-50, 50, width=32),
    st.floats(-1e6, 1e6, width=32),
    st.floats(width=32),
    st.sampled_from([0.0, -0.0, STEP, -STEP, STEP / 2, 3 * STEP / 2]),
)
BOUNDED = st.one_of(st.floats(-50, 50), st.floats(-1e9, 1e9), st.sampled_from([1e9, -1e9]))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "small": st.integers(-128, 127),
    "count": st.one_of(st.integers(90, 110), st.integers(0, 65535)),
    "large": st.one_of(st.integers(0, 9), st.integers(0, 2**64 - 1)),
    "signed": st.one_of(st.integers(-9, 9), st.integers(-(2**63), 2**63 - 1)),
    "flag": st.booleans(),
    "grid": st.lists(st.integers(0, 65535), min_size=3, max_size=3),
    "exact": FLOATS,
    "rough": FLOATS,
    "place": st.lists(FLOATS, min_size=3, max_size=3),
    "far": BOUNDED,
    "turned": st.lists(st.one_of(st.floats(-1, 1, width=32), FLOATS), min_size=4, max_size=4),
}


@st.composite
def changes(draw: st.DrawFn) -> list[tuple[str, list[int], list[Any]]]:
    """Some columns, with rows and values: often near each other, often equal, sometimes anything."""
    found = []
    for name in draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=4, unique=True)):
        rows = draw(st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=ROWS, unique=True))
        few = draw(st.lists(VALUES[name], min_size=1, max_size=6))
        picks = draw(st.lists(st.integers(0, len(few) - 1), min_size=len(rows), max_size=len(rows)))
        found.append((name, rows, [few[i] for i in picks]))
    return found


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(changes(), st.booleans(), st.booleans()), min_size=1, max_size=4))
def test_a_replica_holds_what_the_wire_says_it_should(steps: list[tuple[Any, bool, bool]]) -> None:
    """Relative or not, in planes or not; and a full sync of the same version leads to the same."""
    kernel, keys = new_world()
    before = kernel.acquire()
    replica = replica_of(before, kernel)
    for changed, relative, planes in steps:
        kernel.begin()
        for name, rows, values in changed:
            field = THING.field(name)
            kernel.update_many(THING.id, keys[rows].copy(), {field.id: np.array(values, field.dtype)})
        kernel.commit()
        if kernel.publish(1) is None:
            continue
        pin = kernel.acquire()
        block = kernel.delta(pin, before.version, reference=before if relative else None, planes=planes).block
        assert sum(weight for _, weight in kernel.block_tables(block)) == len(block) - 16
        replica.apply([block], before.version, pin.version, 0)
        theirs = replica.acquire()
        assert theirs.digest() == pin.digest(wire=True)
        assert replica_of(pin, kernel).acquire().digest() == theirs.digest()
        for name in ("small", "count", "large", "signed", "flag", "grid", "exact"):
            assert column(theirs, name).tobytes() == column(pin, name).tobytes()
        for name in ("rough", "place", "far"):
            ours, got = column(pin, name).astype(np.float64), column(theirs, name).astype(np.float64)
            finite = np.isfinite(ours)
            assert np.array_equal(ours[~finite], got[~finite], equal_nan=True)
            eps = np.finfo(THING.field(name).dtype.base).eps
            assert np.all(np.abs(ours[finite] - got[finite]) <= STEP / 2 * 1.000001 + np.abs(ours[finite]) * eps)
        before = pin


def moved(kernel: KernelStore, keys: NDArray[np.uint64], by: float) -> Pin:
    kernel.begin()
    cells = np.arange(len(keys)) * by + 5
    kernel.update_many(THING.id, keys, {THING.field("rough").id: cells, THING.field("count").id: cells})
    kernel.commit()
    kernel.publish(1)
    return kernel.acquire()


def test_what_is_relative_to_another_version_than_the_held_one_is_refused() -> None:
    kernel, keys = new_world()
    first = kernel.acquire()
    second = moved(kernel, keys, 1.0)
    third = moved(kernel, keys, 1.02)
    block = kernel.delta(third, second.version, reference=second).block
    assert int.from_bytes(block[8:16], "little") == second.version
    replica = replica_of(first, kernel)
    replica.apply([kernel.delta(second, first.version).block], first.version, second.version, 0)
    with pytest.raises(RemoteProtocolError, match="reference"):
        wrong = block[:8] + (second.version + 1).to_bytes(8, "little") + block[16:]
        replica.apply([wrong], second.version, third.version, 0)
    with pytest.raises(RemoteProtocolError, match="reference"):
        replica.apply([block[:8] + bytes(8) + block[16:]], second.version, third.version, 0)
    replica.apply([block], second.version, third.version, 0)
    assert replica.acquire().digest() == third.digest(wire=True)


def test_small_steps_take_a_fraction_of_the_cells() -> None:
    kernel, keys = new_world()
    before = moved(kernel, keys, 1.0)
    after = moved(kernel, keys, 1.001)
    raw = len(keys) * (4 + 2)
    whole = kernel.delta(after, before.version)
    relative = kernel.delta(after, before.version, reference=before)
    assert len(relative.block) < len(whole.block) < raw
    assert len(relative.block) < raw / 3


def test_planes_hold_the_same_bytes_in_another_order() -> None:
    kernel, keys = new_world()
    before = kernel.acquire()
    kernel.begin()
    kernel.update_many(THING.id, keys, {THING.field("exact").id: (np.arange(len(keys)) + 1) / 3})
    kernel.commit()
    kernel.publish(1)
    pin = kernel.acquire()
    plain, planes = (kernel.delta(pin, before.version, planes=how).block for how in (False, True))
    assert len(plain) == len(planes) and plain != planes
    cells = np.frombuffer(plain[-4 * ROWS :], np.uint8).reshape(ROWS, 4)
    assert planes[-4 * ROWS :] == cells.T.tobytes()


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_bytes_of_a_packed_block_are_taken_whole_or_change_nothing(data: st.DataObject) -> None:
    block = bytearray(HOSTILE[2])
    for _ in range(data.draw(st.integers(1, 4))):
        block[data.draw(st.integers(16, len(block) - 1))] = data.draw(
            st.sampled_from([0, 1, 2, 0x7F, 0x80, 0x83, 0xFF])
        )
    kernel, base, _, version = HOSTILE
    replica = replica_of(base, kernel)
    before = replica.acquire().digest()
    try:
        replica.apply([bytes(block)], base.version, version, 0)
    except RemoteProtocolError:
        assert replica.acquire().digest() == before


def _hostile() -> tuple[KernelStore, Pin, bytes, int]:
    kernel, keys = new_world()
    base = moved(kernel, keys, 1.0)
    pin = moved(kernel, keys, 1.03)
    return kernel, base, kernel.delta(pin, base.version, reference=base).block, pin.version


HOSTILE = _hostile()
