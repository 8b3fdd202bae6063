"""The charts of a report as PNGs, drawn by matplotlib: for a readme, a ticket or a slide.

matplotlib is imported when a picture is drawn, and only its objects are used, never its global state of current figures
and backends: a game's own plots in the same process are not touched.

Invariants: every call writes the same files whatever there is to show; the same recordings give the same pixels on one
version of matplotlib.
"""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from ecsnet.errors import MissingExtraError
from ecsnet.sim.recording import Recording
from ecsnet.sim.report.charts import Bars, Chart, Faults, PlayerRows, Strip, charts_of
from ecsnet.sim.report.headline import differences, key_figures, subtitle, title_of, verdict
from ecsnet.sim.report.painter import Painter, plain
from ecsnet.sim.report.palette import DARK, LIGHT, Palette
from ecsnet.sim.report.reading import Reading, check_recordings, read, times_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["write_png"]

_DPI = 120
_PLAYERS_MAX = 16
"""Rows of players in the overview: more are too small to read. The picture of players alone has all."""

_TILES = 6
_VIOLATIONS_MAX = 4
_STYLE: Any = {
    "text.parse_math": False,  # a player may be called $x$
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.spines.bottom": False,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
}


def _inches(chart: Chart, players_max: int) -> float:
    """How high a chart is drawn, without its title and ticks."""
    drawn = chart.drawn[0]
    if isinstance(drawn, Faults):
        return 0.5 + 0.19 * max(1, len(drawn.lanes))
    if isinstance(drawn, PlayerRows):
        return 0.4 + 0.2 * min(players_max, max(1, len(drawn.rows)))
    if isinstance(drawn, Bars):
        return 0.3 + 0.27 * max(2, len(drawn.bars))
    return {"lag": 2.1, "distribution": 2.9, "players": 0.8}.get(chart.key, 1.35)


def _tag(which: int, of: int) -> str:
    return f"{'AB'[which]} · " if of > 1 else ""


def _head(figure: "Figure", palette: Palette, readings: Sequence[Reading], top: float, inches: float) -> None:
    """Titles, verdicts and figures of each run, from `top` down; all in inches of the figure's height."""
    n = len(readings)

    def put(x: float, down: float, text: str, **style: Any) -> None:
        figure.text(x, (top - down) / inches, plain(text), va="baseline", **style)

    for i, reading in enumerate(readings):
        left, width = 0.035 + i * 0.485, 0.93 if n == 1 else 0.45
        recording = reading.recording
        good, said = verdict(recording)
        colour, sign = (palette.muted, "?") if good is None else (palette.good, "✓") if good else (palette.bad, "✗")
        put(left, 0.32, _tag(i, n) + title_of(recording), color=palette.ink, fontsize=15, fontweight="bold")
        put(left, 0.56, subtitle(recording), color=palette.muted, fontsize=8.5)
        put(left, 0.88, f"{sign}  {said}", color=colour, fontsize=11, fontweight="bold")
        figures = key_figures(reading)[:_TILES]
        for j, one in enumerate(figures):
            at = left + j * width / len(figures)
            put(at, 1.24, one.text, color=palette.ink, fontsize=13 if n == 1 else 11, fontweight="bold")
            name = one.name if n == 1 else one.name.replace("bytes per client and second", "bytes per client")
            put(at, 1.42, name, color=palette.muted, fontsize=7.5 if n == 1 else 6.5)
        replay = recording.notes.get("replay")
        if replay is not None:
            shown = str(replay)
            limit = 150 if n == 1 else 84
            shown = shown if len(shown) <= limit else shown[: limit - 1] + "…"
            put(left, 1.72, shown, color=palette.muted, fontsize=8 if n == 1 else 7, family="DejaVu Sans Mono")


_HEAD_INCHES = 1.95
_BETWEEN_INCHES = 0.84
_FOOT_INCHES = 0.4
_VIOLATIONS_INCHES = 3.0


def _overview(palette: Palette, charts: Sequence[Chart], readings: Sequence[Reading]) -> "Figure":
    """All of it: the head, charts over time below each other, and beside or below them what has another axis."""
    from matplotlib.figure import Figure

    painter = Painter(palette, charts, readings)
    n = len(readings)
    time = next(chart for chart in charts if chart.key == "faults").x
    over_time = [chart for chart in charts if chart.x is time]
    lower = [chart for chart in charts if chart.x is not time]
    stack = sum(_inches(chart, _PLAYERS_MAX) + _BETWEEN_INCHES for chart in over_time)
    lower_stack = sum(_inches(chart, _PLAYERS_MAX) + _BETWEEN_INCHES for chart in lower)
    table = 2.9 if n > 1 else 0.0
    if n == 1:
        lower_stack += _VIOLATIONS_INCHES
    # One run: two columns side by side. Two runs: a column for each, and everything below each other.
    high = _HEAD_INCHES + _FOOT_INCHES + table + (max(stack, lower_stack) if n == 1 else stack + lower_stack)
    wide = 16.0
    figure = Figure(figsize=(wide, high), facecolor=palette.card)
    _head(figure, palette, readings, high - 0.1, high)

    def column(chosen: Sequence[Chart], which: int, left: float, width: float, top: float) -> float:
        for chart in chosen:
            inches = _inches(chart, _PLAYERS_MAX)
            top -= inches + _BETWEEN_INCHES
            axes = figure.add_axes((left, (top + 0.25) / high, width, inches / high))
            painter.draw(axes, chart, which, tag=_tag(which, n), players_max=_PLAYERS_MAX)
        return top

    top = high - _HEAD_INCHES
    if n == 1:
        column(over_time, 0, 0.085, 0.525, top)
        under = column(lower, 0, 0.725, 0.215, top)
        _violations(figure, palette, readings[0], 0.725, 50, under - 0.1, high)
        return figure
    top -= table
    _differences(figure, palette, readings, top + table - 0.1, high)
    for i, reading in enumerate(readings):
        _violations(figure, palette, reading, 0.59 + 0.21 * i, 38, top + table - 0.1, high, tag=_tag(i, n))
        column([*over_time, *lower], i, 0.075 + i * 0.5, 0.375, top)
    return figure


def _differences(figure: "Figure", palette: Palette, readings: Sequence[Reading], top: float, inches: float) -> None:
    rows = differences(key_figures(readings[0]), key_figures(readings[1]))
    columns = (0.035, 0.33, 0.43, 0.56)
    heads = ("Differences", "A", "B", "B against A")
    for x, head in zip(columns, heads, strict=True):
        figure.text(x, (top - 0.1) / inches, head, color=palette.ink, fontweight="bold", fontsize=9.5,
                    ha="left" if x == columns[0] else "right")  # fmt: skip
    for i, (name, a, b, said, better) in enumerate(rows):
        y = (top - 0.36 - i * 0.235) / inches
        tail, colour = ("", palette.muted)
        if better is not None:
            tail, colour = (", better", palette.good) if better else (", worse", palette.bad)
        cells = ((name, palette.muted), (a, palette.ink), (b, palette.ink), (said + tail, colour))
        for x, (text, shade) in zip(columns, cells, strict=True):
            figure.text(x, y, plain(text), color=shade, fontsize=9, ha="left" if x == columns[0] else "right")


def _violations(
    figure: "Figure",
    palette: Palette,
    reading: Reading,
    left: float,
    characters: int,
    top: float,
    inches: float,
    *,
    tag: str = "",
) -> None:
    """The first violations in words, where there is room for them."""
    found = reading.recording.violations
    rows = [(f"{tag}Violations", palette.ink if found else palette.muted, True)]
    for one in found[:_VIOLATIONS_MAX]:
        rows.append((f"tick {one.tick}, {one.checker}", palette.violation, True))
        rows += [(line, palette.ink, False) for line in wrap(plain(one.what), characters)[:2]]
    if len(found) > _VIOLATIONS_MAX:
        rows.append((f"and {len(found) - _VIOLATIONS_MAX} more", palette.muted, False))
    if not found:
        rows.append(("none", palette.muted, False))
    for i, (text, colour, is_bold) in enumerate(rows):
        weight = "bold" if is_bold else "normal"
        y = (top - 0.1 - i * 0.2) / inches
        figure.text(left, y, plain(text), color=colour, fontsize=9.5 if i == 0 else 8.5, fontweight=weight)


def _single(palette: Palette, charts: Sequence[Chart], readings: Sequence[Reading], chart: Chart) -> "Figure":
    """One chart, of each run beside the other."""
    from matplotlib.figure import Figure

    n = len(readings)
    is_long = isinstance(chart.drawn[0], Strip | Faults) and chart.key != "distribution"
    wide = (11.0 if is_long else 7.0) if n == 1 else 15.0
    inches = _inches(chart, 10_000) * (1.35 if isinstance(chart.drawn[0], Strip) else 1.0)
    high = inches + 1.3
    figure = Figure(figsize=(wide, high), facecolor=palette.card)
    painter = Painter(palette, charts, readings)
    left_inches, right_inches = 1.45, 0.95
    each = wide / n
    for i, reading in enumerate(readings):
        axes = figure.add_axes(
            ((i * each + left_inches) / wide, 0.4 / high, (each - left_inches - right_inches) / wide, inches / high)
        )
        painter.draw(axes, chart, i)
        figure.text(
            (i * each + left_inches) / wide, 1 - 0.3 / high, plain(_tag(i, n) + title_of(reading.recording)),
            color=palette.muted, fontsize=8.5,
        )  # fmt: skip
    return figure


def write_png(folder: str | Path, *recordings: Recording, dark: bool = False) -> list[Path]:
    """Write the report of one run, or of two side by side, as pictures.

    Args:
        folder: is made if it is not there. Pictures of the same names in it are replaced, nothing else is touched.
        recordings: one, or two to compare on equal axes.
        dark: for a dark page; "-dark" is in the names then, so both sorts can lie side by side.

    Returns:
        The files: `overview.png` with everything first, then one for each chart.

    Raises:
        MissingExtraError: matplotlib is not installed. Nothing was written.
        ArgumentError: no recording, or more than two. Nothing was written.
        OSError: a file cannot be written.
    """
    check_recordings(recordings)
    try:
        import matplotlib
    except ImportError as error:
        raise MissingExtraError("pictures of a run", "matplotlib", "report") from error

    times = times_of(recordings)
    readings = [read(recording, times) for recording in recordings]
    charts = charts_of(readings)
    palette = DARK if dark else LIGHT
    tail = "-dark.png" if dark else ".png"
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context():
        # Whatever style the program around us has set, ends here and is back afterwards.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figures = [("overview", _overview(palette, charts, readings))]
        figures += [(chart.key, _single(palette, charts, readings, chart)) for chart in charts]
        for name, figure in figures:
            file = place / f"{name}{tail}"
            # Without the program's name and version, equal pictures are equal files.
            figure.savefig(file, dpi=_DPI, metadata={"Software": None})
            written.append(file)
    return written
