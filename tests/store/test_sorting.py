"""Sorting in passes of 16 bits gives what comparing gives."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn
from numpy.typing import NDArray

from ecsnet.store import sorting

TYPES = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8", "?"]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few rows go the long way too."""
    monkeypatch.setattr(sorting, "_SMALL", 1)


@given(st.sampled_from(TYPES).flatmap(lambda name: hn.arrays(name, st.integers(0, 30))))
def test_it_is_a_stable_sort(cells: NDArray[Any]) -> None:
    assert sorting.stable_order(cells).tolist() == np.argsort(cells, kind="stable").tolist()


def test_signs_zeros_and_nan_of_either_sign_stand_where_they_shall() -> None:
    negative_nan = np.array([0xFFC0_0000], np.uint32).view(np.float32)[0]
    cells = np.array([negative_nan, 0.0, -0.0, np.inf, -np.inf, np.nan, -1e-45, 1e-45], np.float32)
    assert sorting.stable_order(cells).tolist() == [4, 6, 1, 2, 7, 3, 0, 5]
    wide = np.array([2**63 - 1, -(2**63), 0, -1])
    assert sorting.stable_order(wide).tolist() == [1, 3, 2, 0]
