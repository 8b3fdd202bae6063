"""Which charts a report has, as data: both renderers draw the same.

A *strip* is something over time; all strips of a report have the same time axis, so that a cause stands above its
effect. With two recordings every chart comes once for each, and on equal axes.

Invariant: `charts_of` gives every recording the same charts in the same order, whether there is something to draw or
not: a chart without samples says so.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from ecsnet.sim.report.lanes import Lane, fault_lanes
from ecsnet.sim.report.reading import PERCENTILES, Band, PlayerReading, Reading
from ecsnet.sim.report.scales import (
    Floats,
    Scale,
    Tick,
    bytes_text,
    count_text,
    linear_scale,
    ms_text,
    plus_one_scale,
    rate_text,
    ratio_scale,
    share_text,
    time_scale,
)

__all__ = [
    "Bar",
    "Bars",
    "Chart",
    "Faults",
    "Line",
    "Mark",
    "PlayerRow",
    "PlayerRows",
    "Strip",
    "apart",
    "charts_of",
    "runs_of",
    "thin_opacity",
]

Role = Literal["player", "median", "worst", "second"]

_PLAYERS_MAX = 60
_BARS_MAX = 12


class Line(NamedTuple):
    """A line and what it is called. `label` is empty where the line needs none."""

    role: Role
    name: str
    label: str
    values: Floats


class Strip(NamedTuple):
    """Values over time: a thin line per player, the band in which nine of ten samples are, and a few lines of all."""

    at: Floats
    lines: tuple[Line, ...]
    band: tuple[Floats, Floats] | None
    scale: Scale
    gap: float
    """Points of a line further apart than this are not joined; in the unit of `at`."""
    peak: tuple[float, float, str] | None = None
    """(at, value, text) of one point that deserves its name."""
    is_time: bool = True


class Faults(NamedTuple):
    """When what was wrong, and when a checker saw what must not be."""

    lanes: tuple[Lane, ...]
    row_count: tuple[int, ...]
    """Rows to leave room for in each lane: those of the recording that has most."""
    violations_s: tuple[float, ...]
    is_violated: bool
    """Whether any recording of the report was: then all leave room for the marks."""


class Mark(NamedTuple):
    value: float
    text: str


class PlayerRow(NamedTuple):
    """One player on one axis: where half of its samples, 99 of 100 and all of them end."""

    name: str
    marks: tuple[Mark, Mark, Mark] | None
    """None: it has no samples, or is not in this recording."""


class PlayerRows(NamedTuple):
    rows: tuple[PlayerRow, ...]
    scale: Scale
    left_out: int


class Bar(NamedTuple):
    name: str
    value: float
    text: str


class Bars(NamedTuple):
    bars: tuple[Bar, ...]
    scale: Scale


class Chart(NamedTuple):
    """One chart of every recording, on equal axes. `key` is its name in file names."""

    key: str
    title: str
    what: str
    """What is to be seen, in a line."""
    drawn: tuple[Strip | Faults | PlayerRows | Bars, ...]
    x: Scale


def runs_of(at: Floats, values: Floats, gap: float) -> list[tuple[int, ...]]:
    """The points of a line that are joined: their indices, broken where nothing was measured for longer than `gap`."""
    there = np.flatnonzero(np.isfinite(values))
    if not len(there):
        return []
    breaks = np.flatnonzero(np.diff(at[there]) > gap) + 1
    return [tuple(run.tolist()) for run in np.split(there, breaks)]


def thin_opacity(strip: Strip) -> float:
    """How strong the line of one of many is drawn: where many lie over each other they are a tone, not a wall."""
    count = sum(line.role == "player" for line in strip.lines)
    return float(np.clip(1.3 / math.sqrt(max(1, count)) - 0.05, 0.1, 0.45))


def apart(wanted: Sequence[float], least: float, limit: float) -> list[float]:
    """Places for words at least `least` apart, as near to the wanted ones (ascending) as goes, none above `limit`."""
    places: list[float] = []
    for place in wanted:
        places.append(max(place, places[-1] + least) if places else place)
    for i in reversed(range(len(places))):
        places[i] = min(places[i], limit)
        limit = places[i] - least
    return places


def _highest(values: Iterable[float]) -> float:
    return max((value for value in values if np.isfinite(value)), default=0.0)


def _strip(
    reading: Reading,
    scale: Scale,
    band: Band,
    line_of: Callable[[PlayerReading], Floats],
    *,
    more: Sequence[Line] = (),
    peak: tuple[float, float, str] | None = None,
    per_second: bool = False,
    worst: str = "worst",
) -> Strip:
    players = reading.players
    at = reading.times.at_s
    if per_second:
        at = np.arange(len(band.worst), dtype=np.float64) + 0.5
    lines = [Line("player", player.name, "", line_of(player)) for player in players]
    if len(players) == 1:
        lines = [*more, Line("median", players[0].name, "down" if more else "", lines[0].values)]
    else:
        lines += [
            *more,
            Line("worst", f"the {worst} of a player", worst, band.worst),
            Line("median", "the median", "median", band.median),
        ]
    gap = max(reading.times.gap_s, 1.01) if per_second else reading.times.gap_s
    return Strip(at, tuple(lines), (band.low, band.high) if len(players) > 1 else None, scale, gap, peak)


def _lag(readings: Sequence[Reading], time: Scale) -> Chart:
    scale = _lag_scale(readings)
    drawn = []
    for reading in readings:
        peak = reading.lag_peak
        said = None if peak is None else (peak[0], peak[1], f"{peak[2]}: {ms_text(peak[1])}")
        drawn.append(_strip(reading, scale, reading.lag_band, lambda player: player.lag_line, peak=said))
    band = " Band: 9 of 10 samples." if any(len(reading.players) > 1 for reading in readings) else ""
    what = f"From the tick that changed something until a player held it.{band} Gap: nothing arrived"
    return Chart("lag", "Lag", what, tuple(drawn), time)


def _lag_scale(readings: Sequence[Reading]) -> Scale:
    lows = [reading.lag_low_ms for reading in readings if np.isfinite(reading.lag_low_ms)]
    return ratio_scale(min(lows, default=np.nan), _highest(reading.lag.max_ms for reading in readings), ms_text)


def _behind(readings: Sequence[Reading], time: Scale) -> Chart:
    scale = plus_one_scale(_highest(np.nanmax(_some(reading.behind_band.worst)) for reading in readings), count_text)
    drawn = tuple(_strip(reading, scale, reading.behind_band, lambda one: one.behind_line) for reading in readings)
    return Chart("behind", "Versions behind", "Versions that the node had and a player did not", drawn, time)


def _queued(readings: Sequence[Reading], time: Scale) -> Chart:
    scale = linear_scale(_highest(reading.queued_max for reading in readings), bytes_text, ticks=4)
    drawn = tuple(
        _strip(reading, scale, reading.queued_band, lambda one: one.queued_line, worst="most") for reading in readings
    )
    return Chart("queue", "Queue depth", "Bytes on their way to a player: unsent, and on the line", drawn, time)


def _rate(readings: Sequence[Reading], time: Scale) -> Chart:
    scale = linear_scale(_highest(np.nanmax(_some(reading.down_band.worst)) for reading in readings), rate_text)
    drawn = []
    for reading in readings:
        up = Line("second", "the median of bytes from a player", "up", reading.up_median)
        drawn.append(
            _strip(
                reading,
                scale,
                reading.down_band,
                lambda player: player.down_line,
                more=[up],
                per_second=True,
                worst="most",
            )
        )
    what = "To each player, joins and retransmissions included; up: from the median player"
    return Chart("bytes", "Bytes per second", what, tuple(drawn), time)


def _present(readings: Sequence[Reading], time: Scale) -> Chart:
    scale = linear_scale(_highest(len(reading.players) for reading in readings), count_text, ticks=3, least_step=1.0)
    drawn = []
    for reading in readings:
        line = Line("median", "players", "", reading.present)
        drawn.append(Strip(reading.times.at_s, (line,), None, scale, reading.times.gap_s))
    return Chart("players", "Players", "How many of them held a world", tuple(drawn), time)


def _some(values: Floats) -> Floats:
    """The values, or one NaN-free stand-in where there are none."""
    finite = values[np.isfinite(values)]
    return finite if len(finite) else np.zeros(1)


def _faults(readings: Sequence[Reading], time: Scale) -> Chart:
    by_reading = [{lane.kind: lane for lane in fault_lanes(reading.recording.faults)} for reading in readings]
    kinds = list(dict.fromkeys(kind for lanes in by_reading for kind in lanes))
    rows = tuple(max(len(lanes[kind].rows) for lanes in by_reading if kind in lanes) for kind in kinds)
    is_violated = any(reading.recording.violations for reading in readings)
    drawn = []
    for reading, lanes in zip(readings, by_reading, strict=True):
        hz = max(1, reading.recording.hz)
        times_s = tuple(violation.tick / hz for violation in reading.recording.violations)
        drawn.append(Faults(tuple(lanes.get(kind, Lane(kind, ())) for kind in kinds), rows, times_s, is_violated))
    what = "Solid: for everybody, or the node. Pale: for one player" if kinds else ""
    return Chart("faults", "Faults", what, tuple(drawn), time)


def _distribution(readings: Sequence[Reading]) -> Chart:
    # Percentiles by their nines: 90, 99 and 99.9 % are equally far apart, so the tail is seen.
    nines = -np.log10(1 - PERCENTILES)
    most = max((reading.lag.n for reading in readings), default=0)
    shares = [share for share in (0.5, 0.9, 0.99, 0.999, 0.9999) if share < 0.99 or 1 - share > 0.5 / max(1, most)]
    right = -np.log10(1 - shares[-1]) + 0.3
    x = Scale("linear", 0.0, right, tuple(Tick(-np.log10(1 - share), share_text(share)) for share in shares))
    scale = _lag_scale(readings)
    drawn = []
    for reading in readings:
        lines = [Line("player", player.name, "", player.lag_ms) for player in reading.players]
        if len(reading.players) == 1:
            lines = []
        else:
            lags = [player.lag.p99_ms if player.lag.n else -1.0 for player in reading.players]
            if lags and max(lags) >= 0:
                worst = reading.players[int(np.argmax(lags))]
                lines.append(Line("worst", worst.name, worst.name, worst.lag_ms))
        lines.append(Line("median", "all players", "all", reading.lag_ms))
        drawn.append(Strip(nines, tuple(lines), None, scale, 9.0, is_time=False))
    what = "So many samples are not above it; the tail is to the right"
    return Chart("distribution", "Lag distribution", what, tuple(drawn), x)


def _by_player(readings: Sequence[Reading]) -> Chart:
    worst: dict[str, float] = {}
    for reading in readings:
        for player in reading.players:
            p99 = player.lag.p99_ms if player.lag.n else -1.0
            worst[player.name] = max(worst.get(player.name, -1.0), p99)
    # Worst first; the sort keeps those that are equal in the order of their numbers.
    names = sorted(worst, key=lambda name: -worst[name])
    scale = _lag_scale(readings)
    drawn = []
    for reading in readings:
        by_name = {player.name: player for player in reading.players}
        rows = []
        for name in names[:_PLAYERS_MAX]:
            found = by_name.get(name)
            marks = None
            if found is not None and found.lag.n:
                lag = found.lag
                marks = (
                    Mark(lag.p50_ms, ms_text(lag.p50_ms)),
                    Mark(lag.p99_ms, ms_text(lag.p99_ms)),
                    Mark(lag.max_ms, ms_text(lag.max_ms)),
                )
            rows.append(PlayerRow(f"{name} · {found.kind}" if found and found.kind else name, marks))
        drawn.append(PlayerRows(tuple(rows), scale, max(0, len(names) - _PLAYERS_MAX)))
    what = "Dot: half of its samples. Bar: to 99 of 100. Tick: the worst one"
    return Chart("by-player", "Lag by player", what, tuple(drawn), scale)


def _part_text(amount: int, whole: int) -> str:
    if amount and amount < whole / 100:
        return "under 1 %"
    return f"{amount / whole * 100 if whole else 0:.0f} %"


def _tables(readings: Sequence[Reading]) -> Chart:
    totals: dict[str, int] = {}
    for reading in readings:
        for table, amount in reading.recording.bytes_by_table.items():
            totals[table] = max(totals.get(table, 0), amount)
    names = sorted(totals, key=lambda table: (-totals[table], table))
    shown, rest = names[:_BARS_MAX], names[_BARS_MAX:]
    by_reading = []
    for reading in readings:
        amounts = reading.recording.bytes_by_table
        whole = sum(amounts.values())
        pairs = [(name, amounts.get(name, 0)) for name in shown]
        if rest:
            pairs.append((f"{len(rest)} others", sum(amounts.get(name, 0) for name in rest)))
        by_reading.append(
            tuple(Bar(name, amount, f"{bytes_text(amount)} · {_part_text(amount, whole)}") for name, amount in pairs)
        )
    scale = linear_scale(_highest(bar.value for bars in by_reading for bar in bars), bytes_text)
    drawn = tuple(Bars(bars, scale) for bars in by_reading)
    what = "Of encoded deltas, each counted once, however many got it"
    return Chart("tables", "Bytes by table", what, drawn, scale)


def charts_of(readings: Sequence[Reading]) -> list[Chart]:
    """All charts, in the order in which they are read: those over time first."""
    time = time_scale(max(reading.times.end_s for reading in readings))
    return [
        _faults(readings, time),
        _lag(readings, time),
        _behind(readings, time),
        _queued(readings, time),
        _rate(readings, time),
        _present(readings, time),
        _distribution(readings),
        _by_player(readings),
        _tables(readings),
    ]
