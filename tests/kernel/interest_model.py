"""What a client may see, by the rules and nothing else: every row is looked at, for every client, in every version.

It reads a pinned version as numpy gives it and shares nothing with the kernel's way of finding out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ecsnet._kernel.audiences import Profile, Rule
from ecsnet._kernel.pin import Pin
from ecsnet.schema import Schema

Rows = dict[int, dict[int, int]]
"""By table: the row of each key."""


@dataclass
class ModelAudience:
    """What one client was told, and what it was near to, by rule."""

    handle: int
    profile: Profile
    owner: int
    rules: tuple[int, ...]
    focus: list[int] = field(default_factory=list)
    revealed: list[int] = field(default_factory=list)
    near: dict[int, set[int]] = field(default_factory=dict)
    turns: dict[int, int] = field(default_factory=dict)
    due: bool = True
    sees: dict[int, set[int]] = field(default_factory=dict)


class InterestModel:
    def __init__(self, schema: Schema, rules: Sequence[Rule]) -> None:
        self.schema = schema
        self.rules = rules
        self.found: dict[int, list[int]] = {n: [] for n, rule in enumerate(rules) if rule.kind == "query"}
        self.kinds = {table.id: table.kind for table in schema.tables}

    def rows(self, pin: Pin) -> Rows:
        return {
            table.id: {int(key): row for row, key in enumerate(pin.keys(table.id))}
            for table in self.schema.tables
            if table.replicated and table.kind != "event"
        }

    def update(self, pin: Pin, audience: ModelAudience) -> None:
        """Find what it sees: `sees`, by table the keys."""
        rows = self.rows(pin)
        if not audience.rules:
            audience.sees = {table: set(of) for table, of in rows.items() if table in audience.profile.tables}
            return
        always = {table for n in audience.rules if self.rules[n].kind == "always" for table in self.rules[n].tables}
        entities: set[int] = {key for key in audience.revealed if key in rows[0]}
        keyed: dict[int, set[int]] = {t: set() for t, kind in self.kinds.items() if kind == "keyed" and t in rows}
        for n in audience.rules:
            rule = self.rules[n]
            if rule.kind == "owned" and audience.owner:
                owners = pin.column(0, 0)
                entities |= {key for key, row in rows[0].items() if int(owners[row]) == audience.owner}
            elif rule.kind == "near":
                entities |= self._near(pin, rows, audience, n)
            elif rule.kind == "query":
                table = rule.tables[0]
                if self.kinds[table] == "keyed":
                    keyed[table] |= {key for key in self.found[n] if key in rows[table]}
                else:
                    entities |= {key for key in self.found[n] if key in rows[0]}
        base = {key for table in always if self.kinds[table] != "keyed" for key in rows[table]}
        relations = [self.rules[n] for n in audience.rules if self.rules[n].kind == "related"]
        while True:
            sent = self._sent(rows, entities, base, keyed, always)
            before = len(entities), {table: len(of) for table, of in keyed.items()}
            for rule in relations:
                self._relate(pin, rows, rule, sent, entities, keyed)
            if before == (len(entities), {table: len(of) for table, of in keyed.items()}):
                break
        audience.sees = {table: of for table, of in sent.items() if table in audience.profile.tables}
        audience.due = False

    def _sent(
        self, rows: Rows, entities: set[int], base: set[int], keyed: dict[int, set[int]], always: set[int]
    ) -> dict[int, set[int]]:
        sent: dict[int, set[int]] = {}
        for table, of in rows.items():
            if table in always:
                sent[table] = set(of)
            elif self.kinds[table] == "keyed":
                sent[table] = set(keyed[table])
            else:
                sent[table] = {key for key in (entities | base if table == 0 else entities) if key in of}
        return sent

    def _near(self, pin: Pin, rows: Rows, audience: ModelAudience, n: int) -> set[int]:
        rule = self.rules[n]
        turn = (pin.version + audience.handle) // rule.every
        before = audience.near.get(n, set())
        if not audience.due and turn == audience.turns.get(n):
            audience.near[n] = {key for key in before if key in rows[0]}
            return audience.near[n]
        audience.turns[n] = turn
        table = rule.tables[0]
        axes = [pin.column(table, axis) for axis in rule.fields]
        found = set()
        for key, row in rows[table].items():
            place = [float(axis[row]) for axis in axes]
            for focus in audience.focus:
                if focus not in rows[table]:
                    continue
                centre = [float(axis[rows[table][focus]]) for axis in axes]
                square = sum((a - b) * (a - b) for a, b in zip(place, centre, strict=True))
                if not math.isfinite(square):
                    continue
                reach = rule.leave_radius if key in before else rule.radius
                if square <= reach * reach:
                    found.add(key)
        audience.near[n] = found
        return found

    def _relate(
        self,
        pin: Pin,
        rows: Rows,
        rule: Rule,
        sent: dict[int, set[int]],
        entities: set[int],
        keyed: dict[int, set[int]],
    ) -> None:
        (table,), (field_id,) = rule.tables, rule.fields
        of = next(one for one in self.schema.tables if one.id == table)
        reference = next(one for one in of.fields if one.id == field_id)
        assert reference.foreign_key is not None
        target = self.schema.table(reference.foreign_key.table)
        column = pin.column(table, field_id)
        if target.kind == "entities":
            by_value = {key: key for key in rows[0]}
        else:
            values = pin.column(target.id, target.field(reference.foreign_key.field).id)
            by_value = {plain(values[row]): key for key, row in rows[target.id].items()}
        for key, row in rows[table].items():
            value = plain(column[row])
            if value not in by_value:
                continue
            other = by_value[value]
            if rule.referred and key in sent[table]:
                (entities if target.kind == "entities" else keyed[target.id]).add(other)
            if not rule.referred and other in sent[target.id]:
                (keyed[table] if of.kind == "keyed" else entities).add(key)


def plain(cell: Any) -> Any:
    return cell.tobytes() if getattr(cell, "shape", ()) else cell.item()
