"""Charts as inline SVG that fits any width.

Lines live in a nested SVG that is stretched to the width there is, with strokes that are not; words and marks are
placed by percent in the outer one and keep their size. So one drawing is right on a desk and on a phone, without a
script.

Invariants: all text goes through `escaped`; what comes out is well-formed XML; colours are names of the page's CSS
variables, never values, so that light and dark pages share one drawing.
"""

import html
import re
from collections.abc import Iterable, Sequence

import numpy as np

from ecsnet.sim.report.charts import Bars, Chart, Faults, Line, PlayerRows, Strip, apart, runs_of, thin_opacity
from ecsnet.sim.report.lanes import Shade
from ecsnet.sim.report.palette import shade_opacity
from ecsnet.sim.report.scales import Floats, Scale

__all__ = ["chart_svg", "escaped"]

_WIDE, _HIGH = 2000, 1000
"""Units of the stretched drawing: finer than a pixel, and whole numbers are short."""

_HEIGHTS = {"lag": 190, "distribution": 250, "players": 70}
_HEIGHT = 130
_LANE_PX = 13
_ROW_PX = 18
_BAR_PX = 26
_BAR_SHARE = 0.66
"""The longest bar leaves room for its number, also on a phone."""

_LABEL_PX = 13
_MARKS_MAX = 300
_NAMED_SHARE_MIN = 0.16
"""A fault at least so wide has room for the name of the player it struck."""

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def escaped(text: object) -> str:
    """The text of whatever is given, with nothing in it that a browser or an XML reader takes for markup, and without
    characters that neither may see."""
    return html.escape(_NOT_XML.sub("\ufffd", str(text)), quote=True)


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _percent(share: float) -> str:
    return f"{_number(share * 100)}%"


def _shortened(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"


# --- parts ------------------------------------------------------------------------------------------------------------


def _points(x: Floats, y: Floats) -> str:
    """`M x y l dx dy …` in whole units; a single point is a stroke of no length, which a round cap makes a dot."""
    across = np.rint(x * _WIDE).astype(np.int64)
    down = np.rint((1 - y) * _HIGH).astype(np.int64)
    steps = "".join(
        f"{dx} {dy} " for dx, dy in zip(np.diff(across).tolist(), np.diff(down).tolist(), strict=True) if dx or dy
    )
    return f"M{across[0]} {down[0]}l{steps.rstrip() or '0 0'}"


def _line_path(strip: Strip, x: Scale, line: Line) -> str:
    places_x, places_y = x.place(strip.at), strip.scale.place(line.values)
    runs = runs_of(strip.at, line.values, strip.gap)
    drawn = "".join(_points(places_x[list(run)], places_y[list(run)]) for run in runs)
    if not drawn:
        return ""
    return f'<path class="{line.role}" d="{drawn}"><title>{escaped(line.name)}</title></path>'


def _band_path(strip: Strip, x: Scale) -> str:
    if strip.band is None:
        return ""
    low, high = strip.band
    places_x, lows, highs = x.place(strip.at), strip.scale.place(low), strip.scale.place(high)
    drawn = ""
    for run in runs_of(strip.at, high, strip.gap):
        there = list(run)
        around_x = np.concatenate((places_x[there], places_x[there][::-1]))
        around_y = np.concatenate((highs[there], lows[there][::-1]))
        drawn += _points(around_x, around_y) + "z"
    return f'<path class="band" d="{drawn}"/>' if drawn else ""


def _x_ticks(x: Scale, height: int) -> str:
    parts = []
    for i, tick in enumerate(x.ticks):
        at = _percent(float(x.place(tick.value)))
        often = " often" if i % 2 else ""
        parts.append(
            f'<line class="grid" x1="{at}" x2="{at}" y1="0" y2="{height}"/>'
            f'<text class="tick{often}" x="{at}" y="{height + 15}" text-anchor="middle">{escaped(tick.label)}</text>'
        )
    return "".join(parts)


def _y_ticks(scale: Scale, height: int) -> str:
    parts = []
    for tick in scale.ticks:
        at = _number((1 - float(scale.place(tick.value))) * height)
        parts.append(
            f'<line class="grid" x1="0" x2="100%" y1="{at}" y2="{at}"/>'
            f'<text class="tick" x="-7" y="{at}" dy=".34em" text-anchor="end">{escaped(tick.label)}</text>'
        )
    return "".join(parts)


def _shades(shades: Sequence[Shade], x: Scale, height: int) -> str:
    parts = []
    for begin_s, end_s, strength in shades:
        left, right = float(x.place(begin_s)), float(x.place(end_s))
        parts.append(
            f'<rect class="shade" x="{_percent(left)}" width="{_percent(max(right - left, 0.001))}" y="0"'
            f' height="{height}" opacity="{shade_opacity(strength):.2f}"/>'
        )
    return "".join(parts)


def _violation_lines(times_s: Iterable[float], x: Scale, height: int) -> str:
    places = sorted({round(float(x.place(at_s)), 3) for at_s in times_s})[:_MARKS_MAX]
    return "".join(
        f'<line class="violation" x1="{_percent(at)}" x2="{_percent(at)}" y1="0" y2="{height}"/>' for at in places
    )


def _svg(height: int, below: int, what: str, inner: str) -> str:
    return (
        f'<svg class="plot" role="img" aria-label="{escaped(what)}" height="{height}"'
        f' style="margin-bottom:{below}px">{inner}</svg>'
    )


def _nothing(height: int, said: str) -> str:
    return f'<text class="nothing" x="50%" y="{height // 2}" dy=".34em" text-anchor="middle">{escaped(said)}</text>'


def _end_labels(strip: Strip, height: int) -> str:
    """The names of lines at their right ends, pushed apart where they would cover each other."""
    named = [line for line in strip.lines if line.label and np.isfinite(line.values).any()]
    ends = [(1 - float(strip.scale.place(line.values[np.isfinite(line.values)][-1]))) * height for line in named]
    order = sorted(range(len(named)), key=ends.__getitem__)
    rows = apart([ends[i] for i in order], _LABEL_PX, height)
    return "".join(
        f'<text class="end {named[i].role}" x="100%" dx="7" y="{_number(row)}" dy=".34em">'
        f"{escaped(_shortened(named[i].label, 12))}</text>"
        for row, i in zip(rows, order, strict=True)
    )


def _peak(strip: Strip, x: Scale, height: int) -> str:
    if strip.peak is None:
        return ""
    at, value, said = strip.peak
    left = float(x.place(at))
    top = (1 - float(strip.scale.place(value))) * height
    anchor, dx = ("end", -7) if left > 0.5 else ("start", 7)
    return (
        f'<circle class="peak" cx="{_percent(left)}" cy="{_number(top)}" r="3.2"/>'
        f'<text class="peak" x="{_percent(left)}" dx="{dx}" y="{_number(max(top, 6))}" dy=".34em"'
        f' text-anchor="{anchor}">{escaped(_shortened(said, 34))}</text>'
    )


# --- charts -----------------------------------------------------------------------------------------------------------


def _strip_svg(chart: Chart, strip: Strip, shades: Sequence[Shade], violations_s: Sequence[float]) -> str:
    height = _HEIGHTS.get(chart.key, _HEIGHT)
    paths = _band_path(strip, chart.x) + "".join(_line_path(strip, chart.x, line) for line in strip.lines)
    inner = ""
    if strip.is_time:
        inner += _shades(shades, chart.x, height)
    inner += _x_ticks(chart.x, height) + _y_ticks(strip.scale, height)
    if paths:
        inner += (
            f'<svg width="100%" height="100%" viewBox="0 0 {_WIDE} {_HIGH}" preserveAspectRatio="none"'
            f' style="--thin:{thin_opacity(strip):.2f}">{paths}</svg>'
        )
    else:
        inner += _nothing(height, "no samples")
    if strip.is_time:
        inner += _violation_lines(violations_s, chart.x, height)
    inner += _end_labels(strip, height) + _peak(strip, chart.x, height)
    return _svg(height, 24, chart.title, inner)


def _faults_svg(chart: Chart, faults: Faults, shades: Sequence[Shade]) -> str:
    marks = sorted({round(float(chart.x.place(at_s)), 3) for at_s in faults.violations_s})[:_MARKS_MAX]
    top = 18 if faults.is_violated else 6
    # A kind that struck several players at once gets thinner rows, not a taller lane, until they are too thin to see.
    heights = [max(_LANE_PX, 5 * rows) for rows in faults.row_count]
    height = top + sum(lane + 5 for lane in heights) if heights else 44 + top
    parts = [_shades(shades, chart.x, height)]
    parts.append(_x_ticks(chart.x, height))
    if not any(lane.rows for lane in faults.lanes):
        parts.append(_nothing(height, "no faults"))
    y = top
    for lane, rows, lane_px in zip(faults.lanes, faults.row_count, heights, strict=True):
        parts.append(
            f'<text class="tick" x="-7" y="{_number(y + lane_px / 2)}" dy=".34em" text-anchor="end">'
            f"{escaped(_shortened(lane.kind.replace('_', ' '), 16))}</text>"
        )
        row_px = lane_px / rows
        for i, row in enumerate(lane.rows):
            for fault in row:
                left, right = float(chart.x.place(fault.begin_s)), float(chart.x.place(fault.end_s))
                width = max(right - left, 0.003)
                whom = fault.who or "everybody, or the node"
                name = "one" if fault.who else "all"
                said = f"{lane.kind}, {whom}: {fault.begin_s:.2f} s to {fault.end_s:.2f} s"
                row_y = y + i * row_px
                parts.append(
                    f'<rect class="fault {name}" x="{_percent(left)}" width="{_percent(width)}"'
                    f' y="{_number(row_y)}" height="{_number(max(row_px - 1, 2))}" rx="2">'
                    f"<title>{escaped(said)}</title></rect>"
                )
                if fault.who and width > _NAMED_SHARE_MIN and row_px >= _LANE_PX:
                    parts.append(
                        f'<text class="whom" x="{_percent(left)}" dx="5" y="{_number(row_y + row_px / 2)}" dy=".3em">'
                        f"{escaped(_shortened(fault.who, 14))}</text>"
                    )
        y += lane_px + 5
    parts.append(_violation_lines(faults.violations_s, chart.x, height))
    parts += (f'<text class="cross" x="{_percent(at)}" y="9" dy=".34em" text-anchor="middle">✕</text>' for at in marks)
    if marks:
        parts.append('<text class="tick violated" x="-7" y="9" dy=".34em" text-anchor="end">violations</text>')
    return _svg(height, 24, chart.title, "".join(parts))


def _players_svg(chart: Chart, drawn: PlayerRows) -> str:
    if not drawn.rows:
        return _svg(44, 8, chart.title, _nothing(44, "no players"))
    height = len(drawn.rows) * _ROW_PX
    parts = [_x_ticks(_few(chart.x), height)]
    for i, row in enumerate(drawn.rows):
        y = (i + 0.5) * _ROW_PX
        parts.append(
            f'<text class="tick name" x="-7" y="{_number(y)}" dy=".34em" text-anchor="end">'
            f"{escaped(_shortened(row.name, 24))}<title>{escaped(row.name)}</title></text>"
        )
        if row.marks is None:
            parts.append(f'<text class="nothing" x="4" y="{_number(y)}" dy=".34em">no samples</text>')
            continue
        p50, p99, worst = (_percent(float(drawn.scale.place(mark.value))) for mark in row.marks)
        said = "{}: p50 {}, p99 {}, max {}".format(row.name, *(mark.text for mark in row.marks))
        parts.append(
            f"<g><title>{escaped(said)}</title>"
            f'<line class="reach" x1="{p99}" x2="{worst}" y1="{y}" y2="{y}"/>'
            f'<line class="span" x1="{p50}" x2="{p99}" y1="{y}" y2="{y}"/>'
            f'<line class="most" x1="{worst}" x2="{worst}" y1="{y - 4}" y2="{y + 4}"/>'
            f'<circle class="half" cx="{p50}" cy="{y}" r="3.6"/></g>'
        )
    under = f'<p class="left-out">and {drawn.left_out} more players, none of them later</p>' if drawn.left_out else ""
    return _svg(height, 24, chart.title, "".join(parts)) + under


def _few(scale: Scale) -> Scale:
    """Ticks that have room on a narrow horizontal axis."""
    step = 1 if len(scale.ticks) <= 6 else 2
    return scale._replace(ticks=scale.ticks[::step])


def _bars_svg(chart: Chart, drawn: Bars) -> str:
    if not drawn.bars:
        return _svg(44, 8, chart.title, _nothing(44, "no deltas were sent"))
    height = len(drawn.bars) * _BAR_PX
    parts = []
    for i, bar in enumerate(drawn.bars):
        y = i * _BAR_PX
        width = _percent(max(float(drawn.scale.place(bar.value)) * _BAR_SHARE, 0.002))
        middle = y + _BAR_PX / 2
        parts.append(
            f'<text class="tick name" x="-7" y="{middle}" dy=".34em" text-anchor="end">'
            f"{escaped(_shortened(bar.name, 16))}<title>{escaped(bar.name)}</title></text>"
            f'<rect class="bar" x="0" y="{y + 5}" width="{width}" height="{_BAR_PX - 10}" rx="2"/>'
            f'<text class="value" x="{width}" dx="7" y="{middle}" dy=".34em">'
            f"{escaped(bar.text)}</text>"
        )
    return _svg(height, 8, chart.title, "".join(parts))


def chart_svg(
    chart: Chart, which: int, shades: Sequence[Shade], violations_s: Sequence[float], *, before: str = ""
) -> str:
    """One chart of one recording: a `<figure>`. `before` is markup that goes before its title."""
    drawn = chart.drawn[which]
    if isinstance(drawn, Strip):
        inner = _strip_svg(chart, drawn, shades, violations_s)
    elif isinstance(drawn, Faults):
        inner = _faults_svg(chart, drawn, shades)
    elif isinstance(drawn, PlayerRows):
        inner = _players_svg(chart, drawn)
    else:
        inner = _bars_svg(chart, drawn)
    caption = f"<figcaption>{before}<b>{escaped(chart.title)}</b> <span>{escaped(chart.what)}</span></figcaption>"
    return f'<figure class="{chart.key}">{caption}{inner}</figure>'
