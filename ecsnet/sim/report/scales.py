"""Axes: where a value is on one, where its ticks are, and how numbers are written.

Both renderers (`svg`, `pictures`) take places and ticks from here, so a page and its pictures show the same thing.

Invariants: `place` gives 0 to 1 for every number, also for one outside the axis; a tick is never outside; no axis has
more than eight ticks, and none is empty, whatever the data were.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Floats",
    "Scale",
    "Tick",
    "bytes_text",
    "count_text",
    "linear_scale",
    "ms_text",
    "plus_one_scale",
    "rate_text",
    "ratio_scale",
    "share_text",
    "time_scale",
]

ScaleKind = Literal["linear", "log", "plus_one"]
Floats = NDArray[np.float64]
Text = Callable[[float], str]

_TICKS_MAX = 7
_VALUE_MIN, _VALUE_MAX = 1e-3, 1e12
_RATIO_MAX = 10_000.0
"""A log axis spans four decades at most: a single sample near 0 must not squeeze all others into the top."""


class Tick(NamedTuple):
    value: float
    label: str


class Scale(NamedTuple):
    """One axis. `plus_one` is the logarithm of 1 + value: for counts, of which 0 is one."""

    kind: ScaleKind
    low: float
    high: float
    ticks: tuple[Tick, ...]

    def place(self, values: ArrayLike) -> Floats:
        """0 at `low` to 1 at `high`; NaN stays NaN."""
        clipped = np.clip(np.asarray(values, dtype=np.float64), self.low, self.high)
        low, high = self.bend(self.low), self.bend(self.high)
        placed: Floats = (self.bend(clipped) - low) / (high - low)
        return placed

    def bend(self, value: Any) -> Any:
        """The value, or its logarithm, as this axis has it."""
        if self.kind == "log":
            return np.log(value)
        if self.kind == "plus_one":
            return np.log1p(value)
        return value


# --- numbers as text --------------------------------------------------------------------------------------------------


def _short(value: float) -> str:
    """Three digits that count: 0.25, 2.5, 25, 250, and 1 250 above."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", "\u202f")
    if abs(value) < 0.01:
        return f"{value:.2g}"
    digits = 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}".rstrip("0").rstrip(".")


def ms_text(ms: float) -> str:
    """`12.5 ms`, `1.2 s`; a dash where nothing was measured."""
    if not math.isfinite(ms):
        return "–"
    return f"{_short(ms / 1000)} s" if abs(ms) >= 1000 else f"{_short(ms)} ms"


def bytes_text(amount: float) -> str:
    """`840 B`, `12.5 kB`, `3.2 MB`, of a thousand each."""
    if not math.isfinite(amount):
        return "–"
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(amount) >= size:
            return f"{_short(amount / size)} {unit}"
    return f"{_short(amount)} B"


def rate_text(bytes_s: float) -> str:
    """`840 B/s`, `12.5 kB/s`."""
    return f"{bytes_text(bytes_s)}/s" if math.isfinite(bytes_s) else "–"


def count_text(count: float) -> str:
    """`3`, `12 400`; a dash where nothing was counted."""
    return _short(round(count)) if math.isfinite(count) else "–"


def share_text(share: float) -> str:
    """`50 %`, `99.9 %`."""
    return f"{share * 100:.6g} %"


# --- axes -------------------------------------------------------------------------------------------------------------


def _steps(high: float, ticks: float, least: float = 0.0) -> list[float]:
    """0 and multiples of 1, 2 or 5 × 10^n up to `high`, not more than `ticks` of them besides the 0."""
    step = 10 ** math.floor(math.log10(high / ticks))
    step *= next(factor for factor in (1, 2, 5, 10) if high / (step * factor) <= ticks)
    step = max(step, least)
    return [step * i for i in range(int(high / step * (1 + 1e-9)) + 1)]


def _sane(high: float) -> float:
    """Nothing that is measured is outside of this, and arithmetic is safe within."""
    return min(max(high, _VALUE_MIN), _VALUE_MAX)


def linear_scale(high: float, text: Text, *, ticks: int = 4, least_step: float = 0.0) -> Scale:
    """From 0 to a little above `high`."""
    high = _sane(high) * 1.06 if math.isfinite(high) and high > 0 else 1.0
    return Scale("linear", 0.0, high, tuple(Tick(value, text(value)) for value in _steps(high, ticks, least_step)))


def time_scale(end_s: float) -> Scale:
    """From 0 to exactly the end of the run."""
    end_s = _sane(end_s) if math.isfinite(end_s) and end_s > 0 else 1.0
    return Scale("linear", 0.0, end_s, tuple(Tick(value, f"{_short(value)} s") for value in _steps(end_s, 6.5)))


def _rounds(low: float, high: float) -> list[float]:
    """The round numbers of [low, high], thinned from 1-2-5 to decades until they are few enough."""
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [
            factor * 10.0**power
            for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            for factor in factors
            if low * (1 - 1e-9) <= factor * 10.0**power <= high * (1 + 1e-9)
        ]
        if len(found) < _TICKS_MAX:
            break
    return found[:_TICKS_MAX]


def ratio_scale(low: float, high: float, text: Text) -> Scale:
    """Logarithmic if the values differ by so much that a linear axis would hide most of them, else linear.

    Args:
        low: what most values are not below, say a low percentile of them.
        high: the highest value.
    """
    if not (math.isfinite(low) and math.isfinite(high)) or high <= 0:
        return linear_scale(0.0, text)
    high = _sane(high)
    low = max(low, high / _RATIO_MAX)
    if high / low < 6:
        return linear_scale(high, text)
    low, high = low / 1.25, high * 1.25
    return Scale("log", low, high, tuple(Tick(value, text(value)) for value in _rounds(low, high)))


def plus_one_scale(high: float, text: Text) -> Scale:
    """For counts: linear while they are few, else logarithmic with a place for 0."""
    high = _sane(high) if math.isfinite(high) else 0.0
    if high <= 20:
        return linear_scale(max(high, 3.0), text, least_step=1.0)
    high *= 1.15
    return Scale("plus_one", 0.0, high, tuple(Tick(value, text(value)) for value in [0.0, *_rounds(1, high)]))
