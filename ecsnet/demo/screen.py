"""What a person sees: a live picture while the demo runs, a table with a verdict in words at the end. Where standard
output is no terminal, plain lines.

Invariants: fits 80 columns; nothing here measures, it only draws what `Tally` knows; a demo that nobody watches runs
the same.
"""

import time
from collections import deque
from types import TracebackType
from typing import Self

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ecsnet.demo.figures import Figures, Verdict
from ecsnet.demo.run import Demo, Phase

WIDTH_MAX = 80
SAMPLE_S = 0.25
SPARKS = 24
_BARS = "▁▂▃▄▅▆▇█"
_BARS_ASCII = "_.:-=+*#"
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Pulse:
    """The last moments as rows of numbers, sampled a few times a second."""

    def __init__(self) -> None:
        self.lag_ms: deque[float] = deque(maxlen=SPARKS)
        self.bytes_s: deque[float] = deque(maxlen=SPARKS)
        self.cpu_cores: deque[float] = deque(maxlen=SPARKS)
        self.lag_p50 = self.lag_p99 = 0.0
        self._cpu: tuple[int, float] | None = None
        self._bytes: tuple[float, float] | None = None
        self._sampled = 0.0

    def sample(self, demo: Demo) -> None:
        now = time.monotonic()
        if now - self._sampled < SAMPLE_S or demo.tally.node is None:
            return
        self._sampled = now
        tally, node = demo.tally, demo.tally.node
        lags = tally.lags_since(time.monotonic_ns() - 1_000_000_000)
        if len(lags):
            self.lag_p50, self.lag_p99 = (float(value) for value in np.percentile(lags, [50, 99]))
            self.lag_ms.append(self.lag_p99)
        if self._cpu is not None and node.now_ns > self._cpu[0]:
            self.cpu_cores.append((node.cpu_s - self._cpu[1]) / ((node.now_ns - self._cpu[0]) / 1e9))
        self._cpu = (node.now_ns, node.cpu_s)
        received, client_s = tally.bytes_received, tally.client_s
        if self._bytes is not None and client_s > self._bytes[1]:
            self.bytes_s.append((received - self._bytes[0]) / (client_s - self._bytes[1]))
        self._bytes = (received, client_s)


class Screen:
    """Shows a demo on a console: call it at every change. A context manager, since it moves the cursor."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._pulse = Pulse()
        self._live: Live | None = None
        self._said = -1.0
        self._phase: Phase | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.update(Text(""), refresh=True)
            self._live.stop()

    def __call__(self, demo: Demo) -> None:
        self._pulse.sample(demo)
        if self._live is not None:
            self._live.update(self.picture(demo), refresh=True)
            return
        if demo.phase is not self._phase or demo.played_s - self._said >= 1.0:
            self._phase, self._said = demo.phase, demo.played_s
            self.console.print(self._line(demo), soft_wrap=True, highlight=False)

    # --- while it runs -----------------------------------------------------------------------------------------------

    def picture(self, demo: Demo) -> RenderableType:
        """The whole live view."""
        options, tally, node, pulse = demo.options, demo.tally, demo.tally.node, self._pulse
        # Two columns are left over: a terminal shows Ctrl-C as ^C behind the last line, which must not wrap.
        width = min(self.console.width, WIDTH_MAX) - 2
        done = min(demo.played_s, options.seconds)
        head = Table.grid(expand=True)
        head.add_column(ratio=1)
        head.add_column(justify="right")
        spinner = _SPINNER[int(time.monotonic() * 8) % len(_SPINNER)] if self._fancy else "*"
        head.add_row(
            Text.assemble((f"{spinner} ", "cyan"), (demo.phase.value, "bold cyan")),
            Text(f"{done:.1f} of {options.seconds:g} s", style="dim"),
        )
        bar = ProgressBar(
            total=options.seconds, completed=done, width=width - 6, complete_style="cyan", finished_style="green"
        )

        body = Table.grid(padding=(0, 2))
        body.add_column(style="dim", min_width=8, no_wrap=True)
        body.add_column(min_width=28, no_wrap=True)
        body.add_column(no_wrap=True)
        tick, version = (node.tick, node.version) if node is not None else (0, 0)
        body.add_row(
            "world",
            Text.assemble(_strong(f"{options.entities:,}"), " entities"),
            Text.assemble(_strong(f"{options.hz}"), (" ticks a second", "dim")),
        )
        body.add_row("tick", _strong(f"{tick:,}"), Text.assemble(("version ", "dim"), _strong(f"{version:,}")))
        joins = node.joins if node is not None else 0
        body.add_row(
            "clients",
            Text.assemble(_strong(f"{tally.live}"), f" of {options.clients} here"),
            Text.assemble(
                ("joined ", "dim"),
                _strong(f"{joins}"),
                (" times", "dim"),
                (" over ", "dim") if options.link_profile else "",
                _strong(options.link_profile),
            ),
        )
        body.add_row(
            "lag",
            Text.assemble(_strong(f"{pulse.lag_p50:.1f}"), " ms p50   ", _strong(f"{pulse.lag_p99:.1f}"), " ms p99")
            if pulse.lag_ms
            else "–",
            self._sparks(pulse.lag_ms, "green"),
        )
        body.add_row(
            "bytes",
            Text.assemble(_strong(_bytes(pulse.bytes_s[-1])), "/s a client") if pulse.bytes_s else "–",
            self._sparks(pulse.bytes_s, "blue"),
        )
        body.add_row(
            "CPU",
            Text.assemble(_strong(f"{pulse.cpu_cores[-1]:.2f}"), " cores of the node") if pulse.cpu_cores else "–",
            self._sparks(pulse.cpu_cores, "magenta"),
        )
        body.add_row(
            "commands",
            Text.assemble(_strong(f"{tally.sent:,}"), " sent"),
            Text.assemble(_strong(f"{tally.answered:,}"), (" answered", "dim")),
        )
        foot: list[RenderableType] = []
        if node is not None and node.ticks_dropped:
            foot.append(Text(f"{node.ticks_dropped} ticks came too late and were dropped", style="yellow"))
        if demo.troubles:
            foot.append(Text(demo.troubles[-1], style="yellow", overflow="ellipsis", no_wrap=True))
        return Panel(
            Group(head, bar, Text(""), body, *foot),
            title="[bold]ecsnet demo[/bold]",
            subtitle="[dim]Ctrl-C ends it early[/dim]",
            width=width,
            padding=(0, 2),
        )

    @property
    def _fancy(self) -> bool:
        return str(self.console.encoding).lower().startswith("utf") and not self.console.legacy_windows

    def _sparks(self, values: deque[float], style: str) -> Text:
        """From nothing to a little more than the greatest of them, so that what is steady does not look full."""
        bars = _BARS if self._fancy else _BARS_ASCII
        top = 1.25 * max(values, default=0.0)
        if top <= 0.0:
            return Text("")
        marks = "".join(bars[min(len(bars) - 1, int(value / top * len(bars)))] for value in values)
        return Text(marks, style=style)

    def _line(self, demo: Demo) -> str:
        tally, node, pulse = demo.tally, demo.tally.node, self._pulse
        if demo.phase is Phase.START or node is None:
            line = f" over {demo.options.link_profile}" if demo.options.link_profile else ""
            return f"{demo.phase.value}: a node and {demo.options.clients} clients{line}"
        if demo.phase is Phase.END:
            return str(demo.phase.value)
        if demo.phase is Phase.REST:
            return f"{demo.phase.value} what every client holds with what the authority holds"
        bytes_s = pulse.bytes_s[-1] if pulse.bytes_s else 0.0
        cpu = pulse.cpu_cores[-1] if pulse.cpu_cores else 0.0
        return (
            f"{demo.played_s:5.1f} s  tick {node.tick}  version {node.version}  clients {tally.live}  "
            f"lag {pulse.lag_p50:.1f}/{pulse.lag_p99:.1f} ms  {_bytes(bytes_s)}/s a client  CPU {cpu:.2f}"
        )


def print_result(console: Console, demo: Demo) -> None:
    """The figures as a table, and in words whether all ended alike."""
    figures, verdict = demo.figures, demo.verdict
    assert figures is not None and verdict is not None
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, width=min(console.width, WIDTH_MAX))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim")
    for row in _rows(figures):
        table.add_row(*row)
    console.print(table)
    console.print()
    console.print(_words(demo, figures, verdict), soft_wrap=not console.is_terminal, highlight=False)
    if demo.cut_short:
        console.print(
            Text(f"It was ended early, after {demo.played_s:.1f} of {demo.options.seconds:g} s.", style="yellow")
        )
    node = demo.tally.node
    if node is not None and node.ticks_dropped:
        text = (
            f"{node.ticks_dropped} ticks came too late and were dropped: this machine was too busy for {figures.hz} Hz."
        )
        console.print(Text(text, style="yellow"))
    for line in troubles_of(demo):
        console.print(Text(line, style="yellow"))


def troubles_of(demo: Demo) -> list[str]:
    """What went wrong on the way: what bots met, and what a process said on standard error."""
    lines = list(demo.troubles)
    if demo.troubles_more:
        lines.append(f"and {demo.troubles_more} more of the kind")
    return lines + [f"{child.name}: {line}" for child in demo.children for line in child.words]


def _rows(figures: Figures) -> list[tuple[str, str, str]]:
    lag = figures.lag_ms
    clients = f"{figures.joins} joins, {figures.full_syncs} full syncs"
    return [
        ("clients", f"{figures.clients}", clients),
        ("entities", f"{figures.entities:,}", f"at {figures.hz} ticks a second"),
        ("ticks", f"{figures.ticks:,}", f"version {figures.version:,}, epoch {figures.epoch}"),
        ("lag p50", _number(lag.p50, "ms"), "from a tick's beginning until a client has applied it"),
        ("lag p99", _number(lag.p99, "ms"), f"the worst was {_number(lag.max, 'ms')}"),
        ("applied", _number(figures.applied_share, "", 1e2, "%"), "of all versions, each by itself and not coalesced"),
        ("bytes", _bytes(figures.bytes_per_client_s) + "/s", "to a client, with headers, full syncs excluded"),
        ("a moved row", _number(figures.bytes_per_moved_entity, "B"), "all of a delta's bytes ÷ the rows it moved"),
        ("CPU", _number(figures.cpu_cores, "cores"), "CPU seconds of the node's process a second"),
        (
            "commands",
            f"{figures.commands_sent:,}",
            f"{figures.commands_lost} lost, {figures.commands_applied_twice} applied twice"
            + (f", {figures.commands_unanswered} unanswered in the end" if figures.commands_unanswered else ""),
        ),
    ]


def _words(demo: Demo, figures: Figures, verdict: Verdict) -> Text:
    if verdict.converged:
        return Text.assemble(
            ("Converged", "bold green"),
            f": {verdict.took_s:.1f} s after the world stood still, all {figures.clients} clients held version "
            f"{figures.version:,} bit for bit as the authority does (digest {figures.digest}).",
        )
    lines = list(verdict.why_not[:8])
    more = len(verdict.why_not) - len(lines)
    if more:
        lines.append(f"and {more} more")
    return Text.assemble(
        ("Not converged", "bold red"),
        f": not every client held version {figures.version:,} as the authority does"
        f" (digest {figures.digest or 'unknown'}).\n  ",
        "\n  ".join(lines),
    )


def _strong(text: str) -> Text:
    return Text(text, style="bold")


def _number(value: float | None, unit: str, factor: float = 1.0, suffix: str = "") -> str:
    if value is None:
        return "–"
    value *= factor
    digits = 1 if value >= 10 else 2
    return f"{value:.{digits}f}{suffix}{' ' + unit if unit else ''}"


def _bytes(count: float | None) -> str:
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB"):
        if count < 1000 or unit == "MB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
