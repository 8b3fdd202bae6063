"""Tables and results as Arrow streams, read by an independent implementation."""

import gc
import weakref
from typing import Any

import numpy as np
import pytest

from ecsnet._kernel import arrow
from ecsnet.errors import ArgumentError
from ecsnet.expressions import count, min_
from ecsnet.store import Store, col

pyarrow = pytest.importorskip("pyarrow")


class Stream:
    def __init__(self, columns: dict[str, Any]):
        self.columns = columns

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return arrow.stream(self.columns)


def test_a_table_is_read_by_pyarrow_with_every_type(store: Store) -> None:
    with store.transaction() as tx:
        tx.spawn_many(
            everything={
                "a_u8": np.arange(3),
                "a_u64": np.array([0, 1, 2**64 - 1], np.uint64),
                "an_i64": [-1, 0, 1],
                "an_f64": [0.5, np.inf, -0.0],
                "a_bool": [True, False, True],
                "an_array": [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
                "some_bytes": [b"a", b"bcde", b""],
                "an_enum": [1, 2, 1],
            }
        )
    with store.view() as view:
        table = pyarrow.table(view["everything"])
        assert table.num_rows == 3
        assert table["a_u8"].type == pyarrow.uint8()
        assert table["a_u64"].to_pylist() == [0, 1, 2**64 - 1]
        assert table["a_bool"].to_pylist() == [True, False, True]
        assert table["an_array"].to_pylist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
        assert table["some_bytes"].to_pylist() == [[97, 0, 0, 0], [98, 99, 100, 101], [0, 0, 0, 0]]
        assert table["entity_id"].to_pylist() == view["everything"].key.tolist()
        table.validate(full=True)


def test_numbers_are_not_copied_and_hold_their_version(store: Store) -> None:
    with store.transaction() as tx:
        tx.spawn_many(1000, transform={"x": np.arange(1000.0)})
    with store.view() as view:
        address = view["transform.x"].ctypes.data
        table = pyarrow.table(view["transform"])
    assert table["x"].chunk(0).buffers()[1].address == address
    for step in range(40):
        with store.transaction() as tx:
            (body,) = tx.query("transform")
            body.x += step + 1
    assert table["x"].to_pylist() == list(range(1000))


def test_a_result_is_read_by_pyarrow(store: Store) -> None:
    with store.transaction() as tx:
        tx.spawn_many(4, transform={"x": [1, 2, 1, 2]})
    with store.view() as view:
        grouped = view.query("transform").group_by("x").aggregate(n=count(), y=min_("y"))
        none = view.query("transform").where(col("x") > 5).select()
    assert pyarrow.table(grouped).to_pylist() == [{"x": 1.0, "n": 2, "y": 0.0}, {"x": 2.0, "n": 2, "y": 0.0}]
    assert pyarrow.table(none).num_rows == 0


def test_texts_nested_arrays_and_nothing_travel() -> None:
    columns = {
        "text": np.array(["", "é", None], object),
        "number": np.array([None, 2, 3], object),
        "nothing": np.array([None, None, None], object),
        "bytes": np.array([b"ab", b"c", b""], "S2"),
        "matrix": np.arange(18, dtype=np.int16).reshape(3, 3, 2),
        "mask": np.array([True, False, True]),
    }
    table = pyarrow.table(Stream(columns))
    table.validate(full=True)
    assert table["text"].to_pylist() == ["", "é", None]
    assert table["number"].to_pylist() == [None, 2, 3]
    assert table["nothing"].to_pylist() == [None, None, None]
    assert table["bytes"].to_pylist() == [b"ab", b"c\0", b"\0\0"]
    assert table["matrix"].to_pylist() == columns["matrix"].tolist()
    with pytest.raises(ArgumentError, match="no Arrow type"):
        arrow.stream({"when": np.zeros(1, "M8[s]")})


def test_nothing_is_kept_when_the_consumer_lets_go() -> None:
    """Also when nobody takes the stream out of its capsule, or takes only a part of what it gives."""
    before = len(arrow._alive)
    cells = np.arange(10)
    gone = weakref.ref(cells)
    table = pyarrow.table(Stream({"a": cells, "b": np.zeros((10, 3))}))
    column = table["b"]
    del cells, table
    gc.collect()
    assert column.to_pylist() == [[0.0] * 3] * 10
    del column
    untouched = arrow.stream({"a": np.arange(3)})
    reader = pyarrow.RecordBatchReader.from_stream(Stream({"a": np.arange(3)}))
    assert len(arrow._alive) > before
    del untouched, reader
    gc.collect()
    assert len(arrow._alive) == before
    assert arrow._in_capsules == {}
    assert gone() is None
