"""Is each player told each event row once, in order, and when it holds its version? Looked at from outside: what the
node's own views show, version by version, against what the players are told.

    made      12: hit 7, hit 8     13: nothing     15: noise 9
    a player  began with 11, holds 15: is to be told hit 7, hit 8, noise 9, whatever versions it saw in between, and
              over however many links, but for what it was told that it would not be

Rows of two tables may alternate within a version, which views do not show; each table's own order they do.

Invariant: this reads views and draws no random number.
"""

from collections.abc import Callable
from typing import Any

from ecsnet.replica.event_rows import AnyRow, row_parts
from ecsnet.schema import Schema
from ecsnet.store import View

__all__ = ["EventsMade", "EventsTold"]

Rows = dict[str, list[dict[str, Any]]]
"""By table, in order."""


class EventsMade:
    """What happened, by epoch and version."""

    def __init__(self, schema: Schema) -> None:
        told_of = [table for table in schema.tables if table.kind == "event" and table.replicated]
        self._fields = {table.name: [field.name for field in table.fields] for table in told_of}
        self._by_epoch: dict[int, list[tuple[int, Rows]]] = {}

    @property
    def tables(self) -> list[str]:
        """The event tables that players are told of."""
        return list(self._fields)

    def note(self, epoch: int, view: View) -> None:
        """The node has made a version."""
        rows: Rows = {}
        for table in self._fields:
            if count := len(view[table]):
                columns = {name: view[table][name].tolist() for name in self._fields[table]}
                rows[table] = [{name: cells[row] for name, cells in columns.items()} for row in range(count)]
        if rows:
            self._by_epoch.setdefault(epoch, []).append((view.version, rows))

    def of(self, epoch: int) -> list[tuple[int, Rows]]:
        """Versions in which something happened, and what."""
        return self._by_epoch.setdefault(epoch, [])


class EventsTold:
    """What one player was told in its present session."""

    def __init__(self, made: EventsMade, violated: Callable[[str], None]) -> None:
        self._made = made
        self._violated = violated
        self._expected: list[tuple[int, Rows]] = []
        self._next = 0
        """The first version that was not told whole."""
        self._places: dict[str, int] = {}
        """In that version, how many of each table were."""
        self._first = 0

    def begin(self, epoch: int, version: int) -> None:
        """A session holds its first version."""
        self._expected = self._made.of(epoch)
        self._first = version
        self._places = {}
        self._next = 0
        self.lost(version)

    def go_on(self, epoch: int, held: int) -> None:
        """The session goes on over another link, from the version that the player holds: of all up to that one it was
        told, of later ones it still is to be."""
        self.settled(held)
        self._expected = self._made.of(epoch)
        self._places = {}
        self._next = 0
        self.lost(held)

    def lost(self, until: int) -> None:
        """The player was told that nobody can tell it of versions up to this one."""
        while self._next < len(self._expected) and self._expected[self._next][0] <= until:
            self._places = {}
            self._next += 1

    def row(self, row: AnyRow, held: int) -> None:
        """The player was told."""
        table, version, told = row_parts(row)
        if version > held:
            self._violated(f"was told of version {version} and holds {held}")
        if version <= self._first:
            self._violated(f"was told of version {version}; its session began with {self._first}")
        while self._next < len(self._expected) and self._expected[self._next][0] < version:
            self._whole()
        if self._next == len(self._expected) or self._expected[self._next][0] != version:
            self._violated(f"was told again, or too late, or of nothing that happened: {row!r}")
            return
        place = self._places.get(table, 0)
        happened = self._expected[self._next][1].get(table, [])
        cells = {name: _plain(cell) for name, cell in told.items()}
        if place == len(happened) or happened[place] != cells:
            self._violated(f"was told {row!r}, where {happened[place : place + 1]} was due")
        self._places[table] = place + 1

    def settled(self, held: int) -> None:
        """The world stands still and the player holds this version: nothing may be missing."""
        while self._next < len(self._expected) and self._expected[self._next][0] <= held:
            self._whole()

    def _whole(self) -> None:
        """Nothing more comes of the version that was being told."""
        version, rows = self._expected[self._next]
        for table, happened in rows.items():
            if self._places.get(table, 0) < len(happened):
                self._violated(
                    f"was told {self._places.get(table, 0)} of {len(happened)} rows of {table} of version {version}"
                )
        self._places = {}
        self._next += 1


def _plain(cell: Any) -> Any:
    """A cell as a column's `tolist` has it."""
    if isinstance(cell, bytes):
        return list(cell)
    return cell.tolist() if hasattr(cell, "tolist") else cell
