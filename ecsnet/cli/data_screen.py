"""What the commands over data directories show a person: progress while they work, tables, and problems."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from ecsnet.data.findings import Note, Problem, no_progress
from ecsnet.data.findings import Progress as Told

console = Console()
_WIDE = 10_000  # columns: wider than any table


@contextmanager
def progress_bar(shown: bool) -> Iterator[Told]:
    """A bar for each kind of work, on standard error, gone when it is done. Nothing where nobody looks."""
    errors = Console(stderr=True)
    if not shown or not errors.is_terminal:
        yield no_progress
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def tell(doing: str, done: int, total: int) -> None:
            if doing not in tasks:
                tasks[doing] = bars.add_task(doing, total=total)
            bars.update(tasks[doing], completed=done, total=total)

        yield tell


def when(time_ns: int) -> str:
    """A time as `--to-time` takes it; empty for none."""
    if not time_ns:
        return ""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03}Z"
    except (OverflowError, ValueError, OSError):
        return f"{time_ns} ns"


def size(count: int) -> str:
    """Bytes for reading."""
    amount, units = float(count), ["B", "KiB", "MiB", "GiB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop(0)
    return f"{amount:.0f} {units[0]}" if units[0] == "B" else f"{amount:.1f} {units[0]}"


def print_table(title: str, columns: list[str], rows: list[list[object]]) -> None:
    """A table, unless it is empty. Numbers stand to the right. In a pipe or a file a row is one line, however wide."""
    if not rows:
        return
    # Not the table's own title, which would be broken to the table's width.
    console.print(f"[bold]{title}[/bold]", highlight=False)
    table = Table(header_style="dim", box=None, pad_edge=False)
    for at, column in enumerate(columns):
        right = all(isinstance(row[at], int) for row in rows)
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    if console.is_terminal:
        console.print(table)
    else:  # rich takes what is no terminal for one of 80 columns
        natural = Measurement.get(console, console.options.update(max_width=_WIDE), table).maximum
        Console(file=console.file, width=natural).print(table)
    console.print()


def print_facts(facts: dict[str, object]) -> None:
    """Name and value, a line each."""
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        console.print(f"[bold]{name:<{width}}[/bold]  {value}", highlight=False, soft_wrap=True)
    console.print()


def print_findings(problems: list[Problem], notes: list[Note]) -> None:
    """What is worth a line, and what is wrong, last: it is what is to be read."""
    for note in notes:
        console.print(f"[dim]note[/dim]     {note}", highlight=False, soft_wrap=True)
    for problem in problems:
        lost = ""
        if problem.versions:
            first, last = problem.versions[0], problem.versions[-1]
            lost = f" (version {first})" if first == last else f" (versions {first} to {last})"
        console.print(f"[bold red]problem[/bold red]  {problem}{lost}", highlight=False, soft_wrap=True)
