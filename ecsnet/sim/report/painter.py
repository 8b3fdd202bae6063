"""Charts in matplotlib's axes, with the colours of one page.

Values are drawn at their places from 0 to 1, as on the page, and ticks are set by hand: so both look the same.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ecsnet.sim.report.charts import Bars, Chart, Faults, PlayerRows, Strip, apart, runs_of, thin_opacity
from ecsnet.sim.report.lanes import shades
from ecsnet.sim.report.palette import Palette, shade_opacity
from ecsnet.sim.report.reading import Reading
from ecsnet.sim.report.scales import Scale, Tick

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Painter", "plain"]


def plain(text: object) -> str:
    """No font has control characters. A line feed would break a label out of its row."""
    return "".join(c if c.isprintable() or c == "\u202f" else "\ufffd" for c in str(text))


class Painter:
    """Draws charts into axes with the colours of one page."""

    def __init__(self, palette: Palette, charts: Sequence[Chart], readings: Sequence[Reading]) -> None:
        self._colours = palette
        self._shades = [shades(reading) for reading in readings]
        faults = next(chart for chart in charts if chart.key == "faults")
        self._violations_s = [one.violations_s if isinstance(one, Faults) else () for one in faults.drawn]

    def draw(self, axes: "Axes", chart: Chart, which: int, *, tag: str = "", players_max: int = 10_000) -> None:
        colours = self._colours
        axes.set_facecolor(colours.card)
        axes.tick_params(colors=colours.muted, labelsize=8, pad=4)
        axes.grid(True, color=colours.grid, linewidth=0.8)
        axes.set_axisbelow(True)
        drawn = chart.drawn[which]
        if isinstance(drawn, Strip):
            self._strip(axes, chart, drawn, which)
        elif isinstance(drawn, Faults):
            self._faults(axes, chart, drawn, which)
        elif isinstance(drawn, PlayerRows):
            self._players(axes, chart, drawn, players_max)
        else:
            self._bars(axes, drawn)
        title = f"{tag}{chart.title}"
        if isinstance(drawn, PlayerRows) and len(drawn.rows) > players_max:
            title += f": the worst {players_max} of {len(drawn.rows) + drawn.left_out}"
        axes.set_title(plain(title), loc="left", color=colours.ink, fontweight="bold", pad=19)
        axes.annotate(
            plain(chart.what), (0, 1), xytext=(0, 7), textcoords="offset points", xycoords="axes fraction",
            color=colours.muted, fontsize=7.5, annotation_clip=False,
        )  # fmt: skip

    # --- axes ---------------------------------------------------------------------------------------------------------

    def _ticks(self, axes: "Axes", scale: Scale, which: str, ticks: Sequence[Tick] | None = None) -> None:
        """Values are drawn at their places from 0 to 1, as on the page: so both look the same."""
        ticks = scale.ticks if ticks is None else ticks
        axis = axes.xaxis if which == "x" else axes.yaxis
        axis.set_ticks([float(scale.place(tick.value)) for tick in ticks], [plain(tick.label) for tick in ticks])
        (axes.set_xlim if which == "x" else axes.set_ylim)(0, 1)

    def _nothing(self, axes: "Axes", said: str) -> None:
        axes.text(0.5, 0.5, said, transform=axes.transAxes, ha="center", va="center", color=self._colours.muted)

    def _behind_all(self, axes: "Axes", chart: Chart, which: int) -> None:
        """Faults as shades, violations as lines, so that a cause is seen where its effect is."""
        for begin_s, end_s, strength in self._shades[which]:
            left, right = float(chart.x.place(begin_s)), float(chart.x.place(end_s))
            axes.axvspan(
                left,
                max(right, left + 0.001),
                color=self._colours.fault,
                alpha=shade_opacity(strength),
                linewidth=0,
            )
        for at in {round(float(chart.x.place(at_s)), 3) for at_s in self._violations_s[which]}:
            axes.axvline(at, color=self._colours.violation, linewidth=0.9, linestyle=(0, (3, 3)), zorder=3)

    # --- charts -------------------------------------------------------------------------------------------------------

    def _strip(self, axes: "Axes", chart: Chart, strip: Strip, which: int) -> None:
        colours = self._colours
        if strip.is_time:
            self._behind_all(axes, chart, which)
        x = chart.x.place(strip.at)
        if strip.band is not None:
            low, high = (strip.scale.place(edge) for edge in strip.band)
            for run in runs_of(strip.at, strip.band[1], strip.gap):
                there = list(run)
                axes.fill_between(x[there], low[there], high[there], color=colours.median, alpha=0.2, linewidth=0)
        look: dict[str, tuple[str, float, float]] = {
            "player": (colours.player, 0.6, thin_opacity(strip)),
            "worst": (colours.worst, 1.1, 1.0),
            "median": (colours.median, 1.8, 1.0),
            "second": (colours.second, 1.4, 1.0),
        }
        is_empty = True
        for line in strip.lines:
            colour, width, alpha = look[line.role]
            y = strip.scale.place(line.values)
            for run in runs_of(strip.at, line.values, strip.gap):
                there = list(run)
                is_empty = False
                style: dict[str, Any] = {"color": colour, "alpha": alpha, "solid_capstyle": "round"}
                if len(there) == 1:
                    axes.plot(x[there], y[there], marker="o", markersize=width * 1.6, markeredgewidth=0, **style)
                else:
                    axes.plot(x[there], y[there], linewidth=width, **style)
        if is_empty:
            self._nothing(axes, "no samples")
        self._ticks(axes, chart.x, "x")
        self._ticks(axes, strip.scale, "y")
        self._end_labels(axes, strip, look)
        if strip.peak is not None:
            at, value, said = strip.peak
            left, top = float(chart.x.place(at)), float(strip.scale.place(value))
            axes.plot([left], [top], "o", color=colours.worst, markersize=4.5, clip_on=False, zorder=5)
            text = axes.annotate(
                plain(said), (left, top), xytext=(-7 if left > 0.5 else 7, 0), textcoords="offset points", va="center",
                ha="right" if left > 0.5 else "left", color=colours.ink, fontweight="bold", fontsize=8, zorder=6,
            )  # fmt: skip
            from matplotlib.patheffects import withStroke

            text.set_path_effects([withStroke(linewidth=3, foreground=colours.card)])

    def _end_labels(self, axes: "Axes", strip: Strip, look: dict[str, tuple[str, float, float]]) -> None:
        named = [line for line in strip.lines if line.label and np.isfinite(line.values).any()]
        ends = [float(strip.scale.place(line.values[np.isfinite(line.values)][-1])) for line in named]
        order = sorted(range(len(named)), key=lambda i: (ends[i], -i))
        figure_points = axes.get_figure(root=True).get_size_inches()[1] * 72  # type: ignore[union-attr]
        least = 11 / (axes.get_position().height * figure_points)
        for i, place in zip(order, apart([ends[i] for i in order], least, 1.0), strict=True):
            axes.annotate(
                plain(named[i].label), (1, place), xytext=(6, 0), textcoords="offset points", va="center",
                color=look[named[i].role][0], fontweight="bold", fontsize=8, annotation_clip=False,
            )  # fmt: skip

    def _faults(self, axes: "Axes", chart: Chart, faults: Faults, which: int) -> None:
        colours = self._colours
        self._behind_all(axes, chart, which)
        self._ticks(axes, chart.x, "x")
        axes.grid(False, axis="y")
        if not any(lane.rows for lane in faults.lanes):
            self._nothing(axes, "no faults")
        names = [lane.kind.replace("_", " ") for lane in faults.lanes]
        rows: list[float] = [float(i) for i in range(len(names))]
        if faults.is_violated:
            # Above the faults, in a row of their own.
            marks = {round(float(chart.x.place(at_s)), 3) for at_s in faults.violations_s}
            axes.plot(sorted(marks), [-1.0] * len(marks), "x", color=colours.violation, markersize=6, mew=2, zorder=5)
            names.insert(0, "violations")
            rows.insert(0, -1.0)
        for i, (lane, count) in enumerate(zip(faults.lanes, faults.row_count, strict=True)):
            height = 0.72 / count
            for j, faults_of_row in enumerate(lane.rows):
                for fault in faults_of_row:
                    left, right = float(chart.x.place(fault.begin_s)), float(chart.x.place(fault.end_s))
                    axes.barh(
                        i - 0.36 + (j + 0.5) * height, max(right - left, 0.003), height * 0.94, left=left,
                        facecolor=(colours.fault, 0.35 if fault.who else 1.0), edgecolor=colours.fault, linewidth=0.8,
                    )  # fmt: skip
        axes.set_yticks(rows, [plain(name) for name in names])
        axes.set_ylim(max([*rows, 0.0]) + 0.6, min([*rows, 0.0]) - 0.6)
        for label, row in zip(axes.get_yticklabels(), rows, strict=True):
            if row < 0:
                label.set_color(colours.violation)

    def _players(self, axes: "Axes", chart: Chart, drawn: PlayerRows, players_max: int) -> None:
        colours = self._colours
        rows = drawn.rows[:players_max]
        if not rows:
            self._nothing(axes, "no players")
        for i, row in enumerate(rows):
            if row.marks is None:
                axes.text(0.01, i, "no samples", va="center", color=colours.muted, fontsize=8)
                continue
            p50, p99, worst = (float(drawn.scale.place(mark.value)) for mark in row.marks)
            axes.plot([p99, worst], [i, i], color=colours.worst, linewidth=0.9)
            axes.plot([p50, p99], [i, i], color=colours.median, alpha=0.45, linewidth=4, solid_capstyle="butt")
            axes.plot([worst], [i], "|", color=colours.worst, markersize=8, markeredgewidth=1.8)
            axes.plot([p50], [i], "o", color=colours.median, markersize=5)
        ticks = drawn.scale.ticks if len(drawn.scale.ticks) <= 6 else drawn.scale.ticks[::2]
        self._ticks(axes, drawn.scale, "x", ticks)
        axes.set_yticks(range(len(rows)), [plain(row.name) for row in rows])
        axes.set_ylim(max(len(rows), 1) - 0.4, -0.6)
        axes.grid(False, axis="y")

    def _bars(self, axes: "Axes", drawn: Bars) -> None:
        colours = self._colours
        axes.grid(False)
        if not drawn.bars:
            self._nothing(axes, "no deltas were sent")
        for i, bar in enumerate(drawn.bars):
            width = float(drawn.scale.place(bar.value)) * 0.78
            axes.barh(i, max(width, 0.003), 0.62, color=colours.median)
            axes.annotate(
                plain(bar.text), (width, i), xytext=(6, 0), textcoords="offset points", va="center",
                color=colours.ink, fontsize=8,
            )  # fmt: skip
        axes.set_xlim(0, 1)
        axes.set_xticks([])
        axes.set_yticks(range(len(drawn.bars)), [plain(bar.name) for bar in drawn.bars])
        axes.set_ylim(max(len(drawn.bars), 1) - 0.4, -0.6)
