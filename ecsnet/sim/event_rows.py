"""Is each player told each event row once, in order, and when it holds its version? Looked at from outside: what the
node's own views show, version by version, against what the players are told.

    made      12: hit 7, hit 8     13: nothing     15: noise 9
    a player  began with 11, holds 15: is to be told hit 7, hit 8, noise 9, whatever versions it saw in between, and
              over however many links, but for what it was told that it would not be

Where `visible_to` hides a table from a role, its players are told none of that; of a hidden field they are told zeros.
Rows of two tables may alternate within a version, which views do not show; each table's own order they do.

Invariant: this reads views and draws no random number.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ecsnet.auth.account import PLAYER
from ecsnet.replica.event_rows import AnyRow, row_parts
from ecsnet.schema import Table
from ecsnet.sim.roles import may_see, sessions_of
from ecsnet.store import View
from ecsnet.world import World

__all__ = ["EventsMade", "EventsTold"]

Rows = dict[str, list[dict[str, Any]]]
"""By table, in order."""

Hidden = dict[str, set[str] | None]
"""By table the fields that somebody may not see; None where it is the whole table."""


class EventsMade:
    """What happened, by epoch and version."""

    def __init__(self, world: World) -> None:
        told_of = [table for table in world.schema.tables if table.kind == "event" and table.replicated]
        self._fields = {table.name: [field.name for field in table.fields] for table in told_of}
        self._told_of = told_of
        self._rules = world.interest
        self._differs = bool(self._rules) or not all(_is_for_all(table) for table in told_of)
        self._roles: dict[int, str] = {}
        self._by_epoch: dict[int, list[tuple[int, Rows]]] = {}

    @property
    def tables(self) -> list[str]:
        """The event tables that players are told of."""
        return list(self._fields)

    def note(self, epoch: int, view: View) -> None:
        """The node has made a version."""
        if self._differs:
            self._roles.update((session, role) for session, (_, _, role) in sessions_of(view).items())
        rows: Rows = {}
        for table in self._fields:
            if count := len(view[table]):
                columns = {name: view[table][name].tolist() for name in self._fields[table]}
                rows[table] = [{name: cells[row] for name, cells in columns.items()} for row in range(count)]
        if rows:
            self._by_epoch.setdefault(epoch, []).append((view.version, rows))

    def hidden_from(self, session: int) -> Hidden:
        """What a session's role may not see."""
        if not self._differs:
            return {}
        role = self._roles.get(session, PLAYER)
        if self._rules and not any(rule.roles is None or role in rule.roles for rule in self._rules):
            return dict.fromkeys(self._fields)
        hidden: Hidden = {}
        for table in self._told_of:
            if not may_see(table, role):
                hidden[table.name] = None
            elif fields := {field.name for field in table.fields if not may_see(field, role)}:
                hidden[table.name] = fields
        return hidden

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
        self._hidden: Hidden = {}

    def begin(self, epoch: int, version: int, session: int = 0) -> None:
        """A session holds its first version."""
        self._hidden = self._made.hidden_from(session)
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
        happened = self._due(self._expected[self._next][1]).get(table, [])
        cells = {name: _plain(cell) for name, cell in told.items()}
        for name in self._hidden.get(table) or ():
            # Zero, of whatever shape.
            if not np.any(cells[name]):
                del cells[name]
        if place == len(happened) or happened[place] != cells:
            self._violated(f"was told {row!r}, where {happened[place : place + 1]} was due")
        self._places[table] = place + 1

    def settled(self, held: int) -> None:
        """The world stands still and the player holds this version: nothing may be missing."""
        while self._next < len(self._expected) and self._expected[self._next][0] <= held:
            self._whole()

    def _due(self, rows: Rows) -> Rows:
        """Those of a version's rows that this player is to be told, without what it may not see."""
        if not self._hidden:
            return rows
        due: Rows = {}
        for table, happened in rows.items():
            hidden = self._hidden.get(table, set())
            if hidden is not None:
                due[table] = [{name: cell for name, cell in row.items() if name not in hidden} for row in happened]
        return due

    def _whole(self) -> None:
        """Nothing more comes of the version that was being told."""
        version, rows = self._expected[self._next]
        for table, happened in self._due(rows).items():
            if self._places.get(table, 0) < len(happened):
                self._violated(
                    f"was told {self._places.get(table, 0)} of {len(happened)} rows of {table} of version {version}"
                )
        self._places = {}
        self._next += 1


def _is_for_all(table: Table) -> bool:
    return table.visible_to is None and all(field.visible_to is None for field in table.fields)


def _plain(cell: Any) -> Any:
    """A cell as a column's `tolist` has it."""
    if isinstance(cell, bytes):
        return list(cell)
    return cell.tolist() if hasattr(cell, "tolist") else cell
