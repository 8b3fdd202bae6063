"""Figures of a run, as a test asserts them: percentiles of lag, with the number of samples behind them."""

from collections.abc import Sequence

import msgspec
import numpy as np


class LagFigures(msgspec.Struct, frozen=True):
    """How long it took from the tick that changed something until a player held it, in virtual milliseconds.

    Every version that a player came to hold counts, also those that it skipped because a later one covered them. NaN
    where there are no samples.
    """

    n: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    mean_ms: float

    def __str__(self) -> str:
        return f"p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms, max {self.max_ms:.1f} ms ({self.n} samples)"


def lag_figures(samples_ms: Sequence[float]) -> LagFigures:
    """Figures of samples in any order."""
    if not len(samples_ms):
        nan = float("nan")
        return LagFigures(0, nan, nan, nan, nan, nan)
    values = np.sort(np.asarray(samples_ms, dtype=np.float64))
    n = len(values)

    def percentile(share: float) -> float:
        # The sample that at least this share are not above: a figure that was really measured.
        return float(values[min(n - 1, int(np.ceil(share * n)) - 1)])

    return LagFigures(n, percentile(0.5), percentile(0.9), percentile(0.99), float(values[-1]), float(values.mean()))
