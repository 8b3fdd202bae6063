"""A write of a client as bytes: both ways, and whatever a stranger makes of them."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecsnet.errors import LimitExceededError, RemoteProtocolError
from ecsnet.limits import WRITE_BYTES_MAX, WRITE_ROWS_MAX
from ecsnet.schema import loads
from ecsnet.schema.model import Field, Table
from ecsnet.schema.rules import OPERATIONS
from ecsnet.wire.messages import Reason
from ecsnet.wire.writes import PlainUpdate, cells_of, decode_write_untrusted, encode_write, head_of

SCHEMA = loads(
    """
    [database]
    name = "cells"
    version = "1.0.0"

    [tables.thing]
    parent_table = "entities"
    fields = [
      { name = "entity_id", type = "u64", foreign_key = "entities.id" },
      { name = "a", type = "u8", default = 0 },
      { name = "b", type = "f32", default = 0.0 },
      { name = "c", type = "[f64; 3]", default = 0.0 },
      { name = "d", type = "bool", default = false },
      { name = "e", type = "[[bool; 2]; 3]", default = false },
      { name = "f", type = "string[9]", default = "" },
      { name = "g", type = "bytes[5]", default = "" },
      { name = "h", type = "enum", storage = "i16", values = { LOW = -2, HIGH = 300 }, default = "LOW" },
      { name = "i", type = "i64", default = 0 },
    ]

    [tables.own]
    primary_key = "id"
    fields = [{ name = "id", type = "u64", auto_increment = true }, { name = "f", type = "string[9]", default = "" }]
    """
)
THING, OWN = SCHEMA["thing"], SCHEMA["own"]


def column(draw: st.DrawFn, field: Field, rows: int) -> Any:
    if field.type == "string":
        texts = st.text(max_size=9).filter(lambda text: len(text.encode(errors="replace")) <= 9)
        return draw(st.lists(texts.filter(str.isascii), min_size=rows, max_size=rows))
    count = field.count * rows
    if field.type == "bool":
        raw = bytes(draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)))
    elif field.type in ("f32", "f64"):
        floats = st.floats(allow_nan=False, allow_infinity=False, width=32)
        raw = np.array(draw(st.lists(floats, min_size=count, max_size=count)), field.dtype).tobytes()
    else:
        raw = draw(st.binary(min_size=field.width * rows, max_size=field.width * rows))
    return np.frombuffer(raw, field.dtype).reshape(rows, *field.shape)


@st.composite
def writes(draw: st.DrawFn) -> tuple[Table, str, Any, int, dict[str, Any]]:
    table = draw(st.sampled_from([THING, OWN]))
    operation = draw(st.sampled_from(OPERATIONS))
    rows = draw(st.integers(1, 5))
    keys = None
    if operation != "insert" or table is THING:
        numbers = st.lists(st.integers(0, 2**64 - 1), min_size=rows, max_size=rows)
        keys = np.array(draw(numbers), np.uint64)
    fields: list[Field] = []
    if operation != "delete":
        least = 1 if operation == "update" else 0
        fields = draw(st.lists(st.sampled_from(table.fields), min_size=least, unique_by=lambda field: field.id))
    return table, operation, keys, rows, {field.name: column(draw, field, rows) for field in fields}


@given(writes())
def test_what_one_side_encodes_the_other_takes(write: Any) -> None:
    table, operation, keys, rows, columns = write
    data = encode_write(table, operation, keys, rows, columns)
    found = decode_write_untrusted(table, data)

    assert (found.table, found.operation, found.rows) == (table, operation, rows)
    assert (found.keys is None) == (keys is None)
    assert keys is None or (found.keys is not None and found.keys.tolist() == keys.tolist())
    assert found.columns.keys() == columns.keys()
    for name, cells in columns.items():
        theirs = found.columns[name]
        if isinstance(cells, list):
            assert theirs == cells
        else:
            assert isinstance(theirs, np.ndarray) and theirs.dtype == cells.dtype and theirs.flags.aligned
            assert theirs.shape == cells.shape and theirs.tobytes() == cells.tobytes()


@given(writes(), st.integers(0, 2**32))
def test_whatever_became_of_the_bytes_they_are_a_write_or_refused(write: Any, seed: int) -> None:
    """Cut off, lengthened, with bits turned: one type of error, and never cells that the types do not hold."""
    table, operation, keys, rows, columns = write
    data = bytearray(encode_write(table, operation, keys, rows, columns))
    rng = random.Random(seed)
    for _ in range(rng.randrange(1, 4)):
        match rng.randrange(3):
            case 0 if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            case 1:
                del data[rng.randrange(len(data) + 1) :]
            case _:
                data += rng.randbytes(rng.randrange(20))
    assert_sound(table, bytes(data))


@given(st.sampled_from([THING, OWN]), st.binary(max_size=200))
def test_any_bytes_are_a_write_or_refused(table: Table, data: bytes) -> None:
    cells_of(table.id, data)
    assert_sound(table, data)


@given(writes(), st.integers(0, 255), st.integers(0, 400))
def test_the_short_way_of_reading_a_row_reads_the_same(write: Any, bits: int, place: int) -> None:
    """An update of one row's numbers is read without arrays: the same key and cells, or left to the long way."""
    table, operation, keys, rows, columns = write
    data = encode_write(table, operation, keys, rows, columns)
    if place < len(data):
        data = data[:place] + bytes([data[place] ^ bits]) + data[place + 1 :]
    head = head_of(data)
    plain = None if head is None else PlainUpdate.of(table, head)
    row = None if plain is None or head is None else plain.read_untrusted(data, len(head))
    if row is None:
        return
    found = decode_write_untrusted(table, data)
    assert (found.operation, found.rows) == ("update", 1) and found.keys is not None
    assert row[0] == found.keys[0] and row[1].keys() == found.columns.keys()
    for name, cell in row[1].items():
        theirs = np.asarray(found.columns[name])
        assert np.array(cell, theirs.dtype).tobytes() == theirs[0].tobytes()


def test_updates_of_numbers_go_the_short_way() -> None:
    """And nothing else does."""

    def is_short(*names: str) -> bool:
        cells = {name: np.zeros((1, *THING.field(name).shape), THING.field(name).dtype) for name in names}
        head = head_of(encode_write(THING, "update", np.array([1], np.uint64), 1, cells))
        return head is not None and PlainUpdate.of(THING, head) is not None

    assert is_short("a", "b", "c", "h", "i")
    assert not any(is_short(name, "a") for name in "deg")
    two = np.array([1, 2], np.uint64)
    assert head_of(encode_write(THING, "update", two, 2, {"a": np.zeros(2, "u1")})) is None
    assert head_of(encode_write(THING, "delete", two[:1], 1, {})) is None


def assert_sound(table: Table, data: bytes) -> None:
    try:
        found = decode_write_untrusted(table, data)
    except RemoteProtocolError as error:
        assert error.reason == Reason.BAD_ARGUMENTS
        return
    assert 1 <= found.rows <= WRITE_ROWS_MAX
    for name, cells in found.columns.items():
        field = table.field(name)
        assert len(cells) == found.rows
        if isinstance(cells, list):
            assert all(len(text.encode()) <= field.count for text in cells)
        elif field.type == "bool":
            assert cells.view(np.uint8).max() <= 1
        elif field.type in ("f32", "f64"):
            assert np.isfinite(cells).all()
    # What is taken has one spelling.
    assert encode_write(table, found.operation, found.keys, found.rows, found.columns) == data


def test_two_updates_of_the_same_cells_are_named_alike() -> None:
    keys = np.array([1 << 32, 2 << 32], np.uint64)

    def named(fields: dict[str, Any], keys: Any = keys, operation: Any = "update") -> bytes | None:
        return cells_of(THING.id, encode_write(THING, operation, keys, len(keys), fields))

    a, b = np.array([1, 2], "u1"), np.array([1.0, 2.0], "<f4")
    assert named({"a": a, "b": b}) == named({"b": b + 1, "a": a + 1}) is not None
    names = {named({"a": a}), named({"b": b}), named({"a": a, "b": b}), named({"a": a}, keys + np.uint64(1))}
    assert len(names) == 4
    assert named({"a": a}, operation="insert") is named({}, operation="delete") is None


def test_what_is_too_large_is_refused_on_both_sides() -> None:
    keys = np.arange(WRITE_ROWS_MAX + 1, dtype=np.uint64)
    with pytest.raises(LimitExceededError, match="WRITE_ROWS_MAX"):
        encode_write(THING, "delete", keys, len(keys), {})
    with pytest.raises(LimitExceededError, match="WRITE_BYTES_MAX"):
        encode_write(THING, "update", keys[:1000], 1000, {"c": np.zeros((1000, 3))})
    with pytest.raises(RemoteProtocolError, match="limit"):
        decode_write_untrusted(OWN, bytes(WRITE_BYTES_MAX + 1))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("", "no write"),
        ("00000100", "operation 0"),
        ("04000100", "operation 4"),
        ("03000000", "0 rows"),
        ("0300ffff", "65535 rows"),
        ("030101000000", "delete of 1 columns"),
        ("02000100", "update of 0 columns"),
        ("0202010001000100", "not ascending"),
        ("020101000900" + "00" * 8, "number 9"),
        ("0201010000000000", "cut off"),
        ("030001000000000000000000ff", "follow"),
        ("010101000000" + "0a00" + "61" * 10, "10 bytes"),
        ("010101000000" + "0200" + "c328", "UTF-8"),
    ],
)
def test_bytes_that_are_no_write_are_refused_with_the_reason(data: str, says: str) -> None:
    with pytest.raises(RemoteProtocolError, match=says):
        decode_write_untrusted(OWN, bytes.fromhex(data))
