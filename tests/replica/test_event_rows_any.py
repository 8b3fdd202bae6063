"""Whatever rows are inserted, in whatever order and pieces, are what a client is told."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecsnet.replica.event_rows import EventReader, row_parts
from ecsnet.schema import loads
from ecsnet.store import Store
from ecsnet.store.names import Names
from ecsnet.wire.messages import Event

SCHEMA = loads(
    """
[database]
name = "any"
version = "1.0.0"

[tables.much]
event = true
fields = [{ name = "a", type = "u8" }, { name = "b", type = "i64" }, { name = "c", type = "f64" },
          { name = "d", type = "bool" }, { name = "e", type = "string[300]" }, { name = "f", type = "bytes[5]" },
          { name = "g", type = "[i16; 3]" },
          { name = "h", type = "enum", storage = "i8", values = { LOW = -3, HIGH = 100 } }]

[tables.word]
event = true
fields = [{ name = "text", type = "string[40]", default = "" }]

[tables.pulse]
event = true
fields = []
"""
)
READER = EventReader(Names(SCHEMA))


def integers(bits: int, signed: bool) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else st.integers(0, 2**bits - 1)


def texts(bytes_max: int) -> st.SearchStrategy[str]:
    characters = st.characters(codec="utf-8", exclude_characters="\0")
    return st.text(characters, max_size=bytes_max).filter(lambda text: len(text.encode()) <= bytes_max)


MUCH = st.fixed_dictionaries(
    {
        "a": integers(8, signed=False),
        "b": integers(64, signed=True),
        "c": st.floats(allow_nan=False),
        "d": st.booleans(),
        "e": texts(300) | st.just("the same"),
        "f": st.binary(min_size=5, max_size=5),
        "g": st.lists(integers(16, signed=True), min_size=3, max_size=3),
        "h": st.sampled_from([-3, 100]),
    }
)
ROWS = st.lists(
    st.tuples(st.just("much"), MUCH)
    | st.tuples(st.just("word"), st.fixed_dictionaries({"text": texts(40)}))
    | st.tuples(st.just("pulse"), st.just({})),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(ROWS, st.sampled_from([1, 64, 1000, 1 << 18]))
def test_what_was_inserted_is_what_is_told(rows: list[tuple[str, dict[str, Any]]], block_bytes: int) -> None:
    blocks: list[bytes] = []
    with pytest.MonkeyPatch.context() as patched, Store(SCHEMA) as store:
        patched.setattr("ecsnet.store.store.EVENT_BLOCK_BYTES", block_bytes)
        store.follow_events(lambda version, tick, made: blocks.extend(made[0]))
        with store.transaction() as tx:
            for table, cells in rows:
                tx.insert(table, cells)
    told = []
    for number, block in enumerate(blocks, 1):
        message = Event(session=1, sequence=number, version=1, tick=1, key=0, epoch=1, block=block)
        told += [row_parts(row) for row in READER.read_untrusted(message)]
    assert [(table, {name: _plain(cell) for name, cell in cells.items()}) for table, _, cells in told] == rows
    assert len(blocks) == 0 if not rows else len(blocks) >= 1
    assert len(blocks) == len(rows) or block_bytes > 1, "of no room there is a row in each"


def _plain(cell: Any) -> Any:
    return cell.tolist() if isinstance(cell, np.ndarray) else cell
