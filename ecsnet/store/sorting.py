"""A stable sort of one column that costs the same for every row.

numpy sorts 16-bit integers in linear time and wider ones by comparing. So wide numbers are sorted 16 bits at a time,
the lowest first, as far up as their values differ; floats by their bits, which ascend as their values do once the sign
is taken care of.

Invariants: equal values keep their order; 0.0 equals -0.0; all NaN are equal and come last.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["stable_order"]

_SMALL: Final = 2048
"""Rows up to which comparing is quicker than going over them several times."""


def stable_order(cells: NDArray[Any]) -> NDArray[np.intp]:
    """The rows of a column in ascending order of their values."""
    if len(cells) <= _SMALL or cells.dtype.kind not in "iuf" or cells.dtype.itemsize <= 2:
        return np.argsort(cells, kind="stable")
    numbers = _float_bits(cells) if cells.dtype.kind == "f" else cells
    least, most = numbers.min(), numbers.max()
    span = int(most) - int(least)
    # Modulo 2**64, where the difference of a negative and a positive number is right too.
    bits = numbers.astype(np.uint64) - np.uint64(int(least) & 0xFFFF_FFFF_FFFF_FFFF)
    order = np.argsort(bits.astype(np.uint16), kind="stable")
    for shift in range(16, span.bit_length(), 16):
        digits = (bits >> np.uint64(shift)).astype(np.uint16)
        order = order[np.argsort(digits[order], kind="stable")]
    return order


def _float_bits(cells: NDArray[Any]) -> NDArray[Any]:
    """Unsigned integers that ascend as these floats do."""
    width = cells.dtype.itemsize
    # Adding zero makes -0.0 into 0.0.
    canonical = cells + cells.dtype.type(0)
    canonical[np.isnan(canonical)] = np.nan
    bits = canonical.view(f"u{width}")
    sign = bits.dtype.type(1 << (8 * width - 1))
    ascending: NDArray[Any] = np.where(bits & sign, ~bits, bits | sign)
    return ascending
