"""What a report shows of a recording: figures, and samples thinned to what a picture can show.

A run of a minute with 50 players has 180 000 samples of each sort, and a picture some hundred columns. So time is cut
into bins, and of each bin its percentiles are kept: a spike of one sample still shows, as the bin's worst.

Invariants:
- figures (percentiles, sums) come from all samples, never from the thinned ones;
- nothing is made up where nothing was measured: a bin without samples is NaN, a figure without samples is NaN;
- samples that are no numbers, or outside the run, are passed over: a report of a broken run must come out too.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import ArgumentError
from ecsnet.sim.figures import LagFigures, lag_figures
from ecsnet.sim.recording import PlayerRecording, Recording
from ecsnet.sim.report.scales import Floats

__all__ = [
    "PERCENTILES",
    "Band",
    "PlayerReading",
    "Reading",
    "Times",
    "check_recordings",
    "percentile",
    "read",
    "times_of",
]

_BINS_MAX = 400
_GAP_S_MIN = 0.4
_REST_SHARE_MIN = 0.25
"""A last second of which less than this was run says nothing about bytes per second."""

PERCENTILES = 1 - np.concatenate((np.linspace(1, 0.5, 11)[:-1], np.logspace(math.log10(0.5), -4, 60)))
"""Shares at which a distribution is drawn: dense where the tail is."""


class Times(NamedTuple):
    """How time is cut, the same for all recordings of one report."""

    end_s: float
    bins: int
    gap_s: float
    """Two samples further apart are not joined by a line."""

    @property
    def at_s(self) -> Floats:
        """The middle of each bin."""
        middles: Floats = (np.arange(self.bins, dtype=np.float64) + 0.5) * (self.end_s / self.bins)
        return middles

    def bin_of(self, at_s: Floats) -> NDArray[np.int64]:
        index: NDArray[np.int64] = np.clip((at_s / self.end_s * self.bins).astype(np.int64), 0, self.bins - 1)
        return index


class Band(NamedTuple):
    """Of each bin, what the samples of all players were. NaN where there were none."""

    low: Floats
    """The 5th percentile."""
    median: Floats
    high: Floats
    """The 95th percentile."""
    worst: Floats


class PlayerReading(NamedTuple):
    """One player: figures of all its samples, and the worst of each bin."""

    name: str
    kind: str
    """Its profile and its transport, each only if not all players of the run have the same."""
    lag: LagFigures
    lag_ms: Floats
    """At each of `PERCENTILES`."""
    lag_line: Floats
    behind_line: Floats
    queued_line: Floats
    down_line: Floats
    """Bytes to it, in each second."""
    behind_p99: float
    queued_max: float
    down_s: float
    """Bytes to it per second in which it held a world."""
    stays: int


class Reading(NamedTuple):
    """One recording, as the renderers want it."""

    recording: Recording
    times: Times
    players: tuple[PlayerReading, ...]
    lag: LagFigures
    lag_low_ms: float
    """What nearly no sample was below."""
    lag_ms: Floats
    """Of all players, at each of `PERCENTILES`."""
    lag_band: Band
    lag_peak: tuple[float, float, str] | None
    """(at_s, lag in ms, player) of the worst sample."""
    behind_band: Band
    behind_p99: float
    queued_band: Band
    queued_max: float
    down_band: Band
    """Bytes to a player in each second, over those who were there."""
    up_median: Floats
    down_s: float
    up_s: float
    present: Floats
    """How many players held a world at each bin; NaN where nothing is known of it."""


def percentile(values: Floats, share: float) -> float:
    """The sample that at least this share are not above; NaN of none. `values` in any order."""
    if not len(values):
        return math.nan
    position = min(len(values) - 1, max(0, math.ceil(share * len(values)) - 1))
    return float(np.partition(values, position)[position])


def check_recordings(recordings: Sequence[Recording]) -> None:
    """Refuse what no report can show.

    Raises:
        ArgumentError: no recording, or more than two.
    """
    if not 1 <= len(recordings) <= 2:
        raise ArgumentError(
            f"a report shows one recording, or two side by side; {len(recordings)} were given: nothing was written"
        )


def times_of(recordings: Sequence[Recording]) -> Times:
    """One cut of time for all of them, so that their pictures can be compared."""
    end_s = max((_end_s(recording) for recording in recordings), default=0.0)
    hz = max(1, min(recording.hz for recording in recordings))
    bins = int(np.clip(end_s * hz / 2, 1, _BINS_MAX))
    return Times(end_s, bins, max(_GAP_S_MIN, 3 * end_s / bins))


def _end_s(recording: Recording) -> float:
    """The end of the run. A recording that was never closed has none: then it is where its samples end."""
    if math.isfinite(recording.virtual_s) and recording.virtual_s > 0:
        return recording.virtual_s
    ends = [player.lag[-1].at_s for player in recording.players if player.lag]
    ends += [series[-1][0] for player in recording.players for series in (player.behind, player.queued) if series]
    return max((end for end in ends if math.isfinite(end) and end > 0), default=1.0)


def _columns(samples: Iterable[tuple[float, ...]], end_s: float) -> tuple[Floats, Floats]:
    """(at_s, value) of samples that are numbers, and within the run."""
    table = np.array([(sample[0], sample[1]) for sample in samples], dtype=np.float64).reshape(-1, 2)
    at_s, values = table[:, 0], table[:, 1]
    kept = np.isfinite(values) & (values >= 0) & (at_s >= 0) & (at_s <= end_s + 1e-6)
    return at_s[kept], values[kept]


def _of_bins(bins: NDArray[np.int64], values: Floats, n: int, shares: Sequence[float]) -> list[Floats]:
    """These percentiles of the samples of each of `n` bins."""
    order = np.lexsort((values, bins))
    ranked = values[order]
    starts = np.searchsorted(bins[order], np.arange(n + 1))
    counts = np.diff(starts)
    filled = counts > 0
    found = []
    for share in shares:
        line = np.full(n, np.nan)
        offset = np.maximum(np.ceil(share * counts[filled]).astype(np.int64) - 1, 0)
        line[filled] = ranked[starts[:-1][filled] + offset]
        found.append(line)
    return found


class _Gathered:
    """Samples of one sort, of all players: each player's worst of every bin, and the band over all of them."""

    def __init__(self, times: Times) -> None:
        self._times = times
        self._bins: list[NDArray[np.int64]] = []
        self._values: list[Floats] = []

    def add(self, at_s: Floats, values: Floats) -> Floats:
        bins = self._times.bin_of(at_s)
        self._bins.append(bins)
        self._values.append(values)
        return _of_bins(bins, values, self._times.bins, [1.0])[0]

    @property
    def values(self) -> Floats:
        return np.concatenate(self._values) if self._values else np.empty(0)

    def band(self) -> Band:
        bins = np.concatenate(self._bins) if self._bins else np.empty(0, dtype=np.int64)
        return Band(*_of_bins(bins, self.values, self._times.bins, [0.05, 0.5, 0.95, 1.0]))


def _at_percentiles(values: Floats) -> Floats:
    if not len(values):
        return np.full(len(PERCENTILES), np.nan)
    ranked = np.sort(values)
    positions = np.clip(np.ceil(PERCENTILES * len(ranked)).astype(np.int64) - 1, 0, len(ranked) - 1)
    line = ranked[positions]
    # Further out than one sample in n, there is nothing to say.
    line[1 - 0.5 / len(ranked) < PERCENTILES] = np.nan
    return line


def _per_second(amounts: Sequence[int], virtual_s: float, seconds: int) -> Floats:
    """Bytes in each second of the run; NaN where it had ended. The last, broken second counts as if it were whole."""
    line = np.full(seconds, np.nan)
    taken = np.asarray(amounts[:seconds], dtype=np.float64)
    line[: len(taken)] = taken
    whole = int(virtual_s)
    rest = virtual_s - whole
    if whole < seconds:
        line[whole] = line[whole] / rest if rest >= _REST_SHARE_MIN else np.nan
        line[whole + 1 :] = np.nan
    return line


def _held(stays: Sequence[tuple[float, float]], at_s: Floats, end_s: float) -> NDArray[np.bool_]:
    held = np.zeros(len(at_s), dtype=np.bool_)
    for since, to in stays:
        held |= (at_s >= since) & (at_s < (to if to > since else end_s))
    return held


def _live_s(player: PlayerRecording, end_s: float) -> float:
    if not player.stays:
        return end_s
    return sum(max(0.0, min(to if to > since else end_s, end_s) - since) for since, to in player.stays)


def _band_over(lines: list[Floats], n: int) -> Band:
    """The band over lines of equal length, NaN where all of them are."""
    stacked = np.array(lines).reshape(-1, n)
    index = np.broadcast_to(np.arange(n), stacked.shape)
    there = np.isfinite(stacked)
    return Band(*_of_bins(index[there], stacked[there], n, [0.05, 0.5, 0.95, 1.0]))


def read(recording: Recording, times: Times) -> Reading:
    """Figures and thinned samples of one recording. 180 000 samples of each sort take about a second."""
    has_profiles = len({player.profile for player in recording.players}) > 1
    has_transports = len({player.transport for player in recording.players}) > 1
    end_s = _end_s(recording)
    # As many as were recorded, not as many as the run says it had: that may be any number.
    seconds = max((len(player.bytes_down) for player in recording.players), default=0) or 1
    lags, behinds, queues = (_Gathered(times) for _ in range(3))
    players: list[PlayerReading] = []
    downs: list[Floats] = []
    ups: list[Floats] = []
    peak: tuple[float, float, str] | None = None
    down_total = up_total = 0
    for player in recording.players:
        lag_at, lag_ms = _columns(player.lag, end_s)
        behind_at, behind = _columns(player.behind, end_s)
        queued_at, queued = _columns(player.queued, end_s)
        live_s = _live_s(player, end_s)
        down = _per_second(player.bytes_down, end_s, seconds)
        # Who is not there gets nothing; that says nothing about those who are.
        there = np.where(np.nan_to_num(down) > 0, down, np.nan)
        downs.append(there)
        ups.append(np.where(np.isfinite(there), _per_second(player.bytes_up, end_s, seconds), np.nan))
        down_total += sum(player.bytes_down)
        up_total += sum(player.bytes_up)
        if len(lag_ms) and (peak is None or lag_ms.max() > peak[1]):
            worst = int(lag_ms.argmax())
            peak = (float(lag_at[worst]), float(lag_ms[worst]), player.name)
        players.append(
            PlayerReading(
                name=player.name,
                kind=", ".join(
                    filter(None, (player.profile if has_profiles else "", player.transport if has_transports else ""))
                ),
                lag=lag_figures(lag_ms.tolist()),
                lag_ms=_at_percentiles(lag_ms),
                lag_line=lags.add(lag_at, lag_ms),
                behind_line=behinds.add(behind_at, behind),
                queued_line=queues.add(queued_at, queued),
                down_line=down,
                behind_p99=percentile(behind, 0.99),
                queued_max=float(queued.max()) if len(queued) else math.nan,
                down_s=sum(player.bytes_down) / live_s if live_s else math.nan,
                stays=len(player.stays),
            )
        )
    all_live_s = sum(_live_s(player, end_s) for player in recording.players)
    present = np.full(times.bins, np.nan)
    if any(player.stays for player in recording.players):
        held = [_held(player.stays, times.at_s, end_s) for player in recording.players]
        present[times.at_s <= end_s] = np.sum(held, axis=0)[times.at_s <= end_s]
    lag_all, queued_all = lags.values, queues.values
    return Reading(
        recording=recording,
        times=times,
        players=tuple(players),
        lag=lag_figures(lag_all.tolist()),
        lag_low_ms=percentile(lag_all[lag_all > 0], 0.002),
        lag_ms=_at_percentiles(lag_all),
        lag_band=lags.band(),
        lag_peak=peak,
        behind_band=behinds.band(),
        behind_p99=percentile(behinds.values, 0.99),
        queued_band=queues.band(),
        queued_max=float(queued_all.max()) if len(queued_all) else math.nan,
        down_band=_band_over(downs, seconds),
        up_median=_band_over(ups, seconds).median,
        down_s=down_total / all_live_s if all_live_s else math.nan,
        up_s=up_total / all_live_s if all_live_s else math.nan,
        present=present,
    )
