"""What `ecsnet sim` shows: progress for people, then figures as a table, or JSON for programs.

Invariant: progress goes to standard error and only to a terminal, so that standard output is the result alone.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ecsnet.sim.run import Outcome, Summary
from ecsnet.sim.scenario import Scenario
from ecsnet.sim.shrink import ShrunkScenario

REASONS_SHOWN = 6
FAILURES_SHOWN = 20


class Screen:
    """See the file. `as_json`: one JSON object on standard output, and nothing else."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._out = Console()
        self._err = Console(stderr=True)

    # --- while it runs -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def running(self, scenario: Scenario) -> Iterator[Callable[[float], None] | None]:
        """Progress of one run, in virtual seconds."""
        if not self._shows_progress:
            yield None
            return
        settled = scenario.settled()
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._err, transient=True) as progress:
            who = f"{settled.nodes} nodes" if settled.nodes else f"{settled.clients} clients"
            title = f"seed {settled.seed}, {settled.profile}, {who}"
            task = progress.add_task(title, total=settled.seconds)
            yield lambda virtual_s: progress.update(task, completed=virtual_s)

    @contextlib.contextmanager
    def running_many(self, seeds: int) -> Iterator[Callable[[Outcome], None]]:
        """Progress of many runs; what fails is told at once."""
        with contextlib.ExitStack() as stack:
            progress: Progress | None = None
            if self._shows_progress:
                columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
                progress = stack.enter_context(
                    Progress(*columns, TimeRemainingColumn(), console=self._err, transient=True)
                )
                task = progress.add_task("seeds", total=seeds)
            failed = 0

            def tell(outcome: Outcome) -> None:
                nonlocal failed
                if not outcome.ok:
                    failed += 1
                    if not self._as_json:
                        self._err.print(_failed_line(outcome), soft_wrap=True, highlight=False)
                if progress is not None:
                    title = f"[red]{failed} failed[/red]" if failed else "seeds"
                    progress.update(task, advance=1, description=title)

            yield tell

    @contextlib.contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """While something is done that takes a while, and nobody knows how long."""
        if not self._shows_progress:
            yield
            return
        with self._err.status(what):
            yield

    @property
    def _shows_progress(self) -> bool:
        return not self._as_json and self._err.is_terminal

    # --- the result --------------------------------------------------------------------------------------------------

    def outcomes(
        self, outcomes: Sequence[Outcome], shrunk: Sequence[ShrunkScenario | None], written: Sequence[Path]
    ) -> None:
        """Of one run, or of two side by side."""
        if self._as_json:
            objects = [
                {**msgspec.to_builtins(outcome), "shrunk": msgspec.to_builtins(smaller)}
                for outcome, smaller in zip(outcomes, shrunk, strict=True)
            ]
            first = objects[0]
            if len(objects) > 1:
                first["compared"] = objects[1]
            if written:
                first["report"] = [str(path) for path in written]
            self._json(first)
            return
        self._out.print(_table(outcomes))
        self._out.print()
        for outcome, smaller in zip(outcomes, shrunk, strict=True):
            self._verdict(outcome, smaller, named=len(outcomes) > 1)
        if written:
            rest = f" and {len(written) - 1} pictures beside it" if len(written) > 1 else ""
            self._print(Text.assemble("written: ", (str(written[0]), "cyan"), rest))

    def summary(self, summary: Summary, *, swarm: bool) -> None:
        """Of many runs."""
        if self._as_json:
            self._json(msgspec.to_builtins(summary))
            return
        table = _grid()
        table.add_row("seeds", f"{summary.seeds}", f"{summary.first_seed} to {summary.first_seed + summary.seeds - 1}")
        table.add_row("virtual time", f"{summary.virtual_s:,.0f} s", f"{summary.speed:.0f} × real time")
        table.add_row("real time", f"{summary.wall_s:.1f} s", f"{summary.jobs} processes")
        table.add_row("failed", f"{len(summary.failed_seeds)}", f"{len(summary.violations)} violations")
        self._out.print(table)
        if swarm:
            shares = _grid()
            shares.title, shares.title_justify, shares.title_style = "faults, by share of the runs", "left", "dim"
            for kind, share in summary.fault_share.items():
                shares.add_row(kind, f"{share:.0%}", "█" * round(40 * share))
            self._out.print()
            self._out.print(shares)
        self._out.print()
        if not summary.failed_seeds:
            self._print(Text.assemble(("All converged", "bold green"), ": no violation in any run."))
            return
        seeds = ", ".join(map(str, summary.failed_seeds))
        self._print(Text.assemble(("Failed", "bold red"), f": {len(summary.failed_seeds)} runs, seeds {seeds}"))
        for failure in summary.failures[:FAILURES_SHOWN]:
            self._print(Text.assemble("\nseed ", (str(failure.seed), "bold"), f": {failure.why[0]}"))
            self._replay(failure.replay, failure.shrunk, failure.shrunk_replay)
        if len(summary.failures) > FAILURES_SHOWN:
            self._print(Text(f"\nand {len(summary.failures) - FAILURES_SHOWN} more; --json lists all"))

    def _verdict(self, outcome: Outcome, smaller: ShrunkScenario | None, *, named: bool) -> None:
        title = f"{outcome.profile}: " if named else ""
        if outcome.ok:
            held = f"all {outcome.clients} clients hold what the node holds"
            if outcome.nodes:
                held = f"all {outcome.nodes} nodes hold the same"
            text = f": {held}, bit for bit; no checker found anything."
            self._print(Text.assemble(title, ("Converged", "bold green"), text))
            return
        word = "Stopped" if outcome.stopped is not None else "Not converged" if not outcome.converged else "Violated"
        self._print(Text.assemble(title, ("Failed" if outcome.error else word, "bold red")))
        reasons = outcome.reasons()
        for reason in reasons[:REASONS_SHOWN]:
            self._print(Text(f"  {reason}"))
        if len(reasons) > REASONS_SHOWN:
            self._print(Text(f"  and {len(reasons) - REASONS_SHOWN} more; --json lists them"))
        if outcome.traceback:
            self._print(Text("\n" + outcome.traceback.rstrip(), style="dim"))
        self._print(Text(""))
        words, command = (None, None) if smaller is None else (smaller.words, smaller.replay)
        self._replay(outcome.replay, words, command)

    def _replay(self, command: str, words: str | None, smaller: str | None) -> None:
        self._print(Text.assemble("  replay      ", (command, "cyan")))
        if words is not None and smaller is not None:
            self._print(Text.assemble(f"  also fails with {words}:\n              ", (smaller, "cyan")))

    def _print(self, text: Text) -> None:
        # Commands are copied: a line that was broken to fit the terminal cannot be.
        self._out.print(text, soft_wrap=True, highlight=False)

    def _json(self, value: Any) -> None:
        print(msgspec.json.encode(value).decode(), flush=True)
        sys.stdout.flush()


def _grid() -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim")
    return table


def _table(outcomes: Sequence[Outcome]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=len(outcomes) > 1)
    table.add_column(style="bold", no_wrap=True)
    for outcome in outcomes:
        table.add_column(outcome.profile, justify="right", no_wrap=True)
    table.add_column(style="dim")
    rows: list[tuple[str, Callable[[Outcome], str], str]] = [
        ("seed", lambda one: f"{one.seed}", "decides everything that is random"),
        ("lines", lambda one: f"{one.profile}, {one.transport}", "profile and transport"),
        ("clients", lambda one: f"{one.clients}", ""),
        ("virtual time", lambda one: f"{one.virtual_s:.1f} s", ""),
        ("ticks", lambda one: f"{one.ticks:,}", ""),
        ("speed", lambda one: f"{one.speed:.0f} ×", "real time"),
        ("lag p50", lambda one: _ms(one.lag_ms.p50), "from a tick's beginning to its client"),
        ("lag p99", lambda one: _ms(one.lag_ms.p99), ""),
        ("lag max", lambda one: _ms(one.lag_ms.max), ""),
        ("behind p99", lambda one: "–" if one.versions_behind is None else f"{one.versions_behind}", "versions"),
        ("bytes", lambda one: _rate(one.bytes_per_client_s), "to a client, everything counted"),
        ("reconnects", lambda one: f"{one.reconnects}", ""),
        ("faults", lambda one: f"{sum(one.faults.values())}", ""),
        ("trace", lambda one: one.trace_hash[:12], "equal runs have equal traces"),
    ]
    for name, text, meaning in rows:
        note = ", ".join(f"{kind} {n}" for kind, n in outcomes[0].faults.items()) if name == "faults" else meaning
        table.add_row(name, *(text(outcome) for outcome in outcomes), note)
    return table


def _failed_line(outcome: Outcome) -> Text:
    return Text.assemble((f"seed {outcome.seed} failed", "red"), f": {outcome.reasons()[0]}\n  {outcome.replay}")


def _rate(bytes_s: float | None) -> str:
    return "–" if bytes_s is None else f"{bytes_s / 1000:.1f} kB/s"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} ms"
