"""What a benchmark prints: a JSON line per figure, or a table with progress for a person.

Invariant: standard output has the figures and nothing else; progress and notes go to standard error.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console

from ecsnet.bench.figures import Figure, table_of

__all__ = ["Reporter", "reporter"]

_TABLE_COLUMNS = 130


class Reporter(Protocol):
    """Takes figures as they come."""

    def figure(self, figure: Figure) -> None: ...

    def progress(self, text: str) -> None: ...


class _Lines:
    def figure(self, figure: Figure) -> None:
        print(figure.line(), flush=True)

    def progress(self, text: str) -> None:
        pass


class _Table:
    def __init__(self, status: Console) -> None:
        self.figures: list[Figure] = []
        self._status = status.status("")

    def figure(self, figure: Figure) -> None:
        self.figures.append(figure)

    def progress(self, text: str) -> None:
        self._status.update(f"measuring {text}")
        self._status.start()

    def end(self) -> None:
        self._status.stop()


@contextmanager
def reporter(title: str, as_json: bool) -> Iterator[Reporter]:
    """Where figures go meanwhile; a table is printed at the end, also of a run that was broken off."""
    if as_json:
        yield _Lines()
        return
    table = _Table(Console(stderr=True))
    try:
        yield table
    finally:
        table.end()
        if table.figures:
            console = Console()
            # Cut off names are worth nothing: a pipe, or a narrow window, gets long lines.
            if console.width < _TABLE_COLUMNS:
                console = Console(width=_TABLE_COLUMNS)
            console.print(table_of(title, table.figures))
