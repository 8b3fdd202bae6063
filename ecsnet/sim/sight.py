"""Does each player hold what it may see, and all of it? Looked at from outside, in plain Python: what the node's own
views had, version by version, against what the players hold.

    version   the node's view                               client-2 (owner 7, radius 20, leaves beyond 30)
    11        ship 5 is 19.9 from client-2's ship           must hold 5
    12        ship 5 is 24 away                             must hold it still: it has not been beyond 30 since
    13        ship 5 is 31 away                             must not hold it, and was told that it left

| looked at | what must hold |
|---|---|
| must | what it owns, what is within the radius, what was seen and has not been beyond the second radius since |
| may | nothing beyond the second radius, and nothing new that was never within the first since the version before |
| rows | of an entity that is held, every component that the role may see; of keyed tables what a rule finds |
| hidden | no row of a table, and only zeros in a field, that the role may not see |
| cells | what the node had in that version, rounded where the schema says so |
| told | `Entered` names those that came and were there before, `Left` those that went and lived on, and nobody else |

A world has rules beyond these: queries, `every`, what games show by hand (`client.focus`, `client.reveal`). What only
those decide is not looked at here; that what is held has the authority's own digest is looked at at every version.

Invariant: this reads views and draws no random number.
"""

from collections import deque
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecsnet.replica import Entered, Event, Left
from ecsnet.schema import Field, InterestRule, Schema, Table
from ecsnet.sim.budget import Bound, Waiting
from ecsnet.sim.roles import may_see, sessions_of
from ecsnet.sim.rows import Keys, Rows, copied, equal_cells, names, ordered
from ecsnet.store import View
from ecsnet.world import World

__all__ = ["Seen", "WorldMade"]

CLOSE = 1e-3
"""Distances that are nearer to a limit than this may count as either side of it: places are f32."""

KEPT_BYTES_MAX = 64 << 20
"""Of the node's views. Who applies a version that is older than these is not looked at."""

LOOK_EVERY = 8
"""Of so many versions of a player one is compared whole, each player's in its turn. Who came and went is in all."""

WAITING_VERSIONS = 16
WAITING_TURNS = 3
"""What waits is looked at in so many versions of a player on end, of so many times as many."""

BASE_MAX = 128
"""On datagrams a delta goes from a version that was acked, and one that was spawned since is not told to have entered.
Who was there so many versions before surely was there at the base."""


Before = tuple[int, int, frozenset[int]]
"""Epoch, version and entities of what a player held."""


class Whole:
    """What the node had in one version. `sessions` has (client, entity, role) by session."""

    def __init__(self, view: View, tables: list[Table]) -> None:
        self.version = int(view.version)
        self.sessions = sessions_of(view)
        self._copied = {table.name: copied(view, table) for table in tables}
        self._tables: dict[str, Rows] = {}
        self._rounded: dict[str, Rows] = {}
        self.bytes = sum(keys.nbytes + sum(map(_size, cells.values())) for keys, cells in self._copied.values())

    def table(self, name: str) -> Rows:
        """A table's rows."""
        rows = self._tables.get(name)
        if rows is None:
            rows = self._tables[name] = ordered(*self._copied[name])
        return rows

    def rounded(self, table: Table, role: str) -> Rows:
        """A table's rows as a player of a role holds them, without the fields that it may not see."""
        rows = self._rounded.get(table.name)
        if rows is None:
            exact = self.table(table.name)
            cells = {one.name: _rounded(one, exact.cells[one.name]) for one in table if not one.rotation}
            rows = self._rounded[table.name] = Rows(exact.keys, cells)
        return Rows(rows.keys, {name: cells for name, cells in rows.cells.items() if may_see(table.field(name), role)})

    @cached_property
    def alive(self) -> frozenset[int]:
        """All entities."""
        return frozenset(self._copied["entities"][0].tolist())

    def owned_by(self, client: int) -> Keys:
        """The entities of a client."""
        entities = self.table("entities")
        return entities.keys[entities.cells["owner"] == client] if client else entities.keys[:0]


class WorldMade:
    """What the node had, by epoch and version, and the rules by which players see it."""

    def __init__(self, world: World) -> None:
        self.schema = world.schema
        self.rules = world.interest
        self.tables = [table for table in world.schema.tables if table.replicated and table.kind != "event"]
        self.bound: Bound | None = None
        """What is promised of bytes; None where nothing is."""
        if world.budget_bytes_s is not None:
            self.bound = Bound(world.budget_bytes_s // world.hz, max(1, round(world.staleness_max_s * world.hz)))
        self.is_lifted = False
        """Nobody has a budget any more."""
        self.is_partial = (
            self.bound is not None
            or bool(self.rules)
            or any(
                table.visible_to is not None or any(field.visible_to is not None or field.quantize for field in table)
                for table in self.tables
            )
        )
        """Players hold something else than the node. Where they do not, the digests say all there is to say."""
        self.shown_by_hand: set[int] = set()
        """Sessions to which a game has shown something that no rule finds."""
        self._made: dict[tuple[int, int], Whole] = {}
        self._order: deque[tuple[int, int]] = deque()
        self._bytes = 0

    def note(self, epoch: int, view: View) -> None:
        """The node has made a version."""
        at, whole = (epoch, int(view.version)), Whole(view, self.tables)
        self._forget(at)
        self._made[at] = whole
        self._order.append(at)
        self._bytes += whole.bytes
        while self._bytes > KEPT_BYTES_MAX and len(self._order) > 1:
            self._forget(self._order.popleft())

    def _forget(self, at: tuple[int, int]) -> None:
        if (whole := self._made.pop(at, None)) is not None:
            self._bytes -= whole.bytes

    def at(self, epoch: int, version: int) -> Whole | None:
        """What the node had; None if that is not kept."""
        return self._made.get((epoch, version))

    def between(self, epoch: int, after: int, until: int) -> list[Whole] | None:
        """The versions in `(after, until]` that were shown; None if one may be missing."""
        if (epoch, after) not in self._made:
            return None
        return [self._made[epoch, one] for one in range(after + 1, until + 1) if (epoch, one) in self._made]

    def rules_for(self, role: str) -> list[InterestRule]:
        """The rules for a role."""
        return [rule for rule in self.rules if rule.roles is None or role in rule.roles]


class Seen:
    """What one player holds, version after version."""

    def __init__(
        self, made: WorldMade, violated: Callable[[str], None], waited: Callable[[str], None], *, datagrams: bool,
        turn: int = 0,
    ) -> None:  # fmt: skip
        """`violated` is told what is wrong with what is seen, `waited` what is wrong with what a budget leaves."""
        self._made = made
        self._turn = turn
        self._violated = violated
        self._datagrams = datagrams
        self._held: Before | None = None
        self.waiting = None if made.bound is None else Waiting(made.bound, waited)
        """What a budget leaves for later; None without one."""
        self._delta_bytes = 0
        self.looked_at = 0
        """Versions that were compared."""

    def applied(
        self, epoch: int, session: int, view: View, events: "deque[Event]", delta_bytes: int, *, anew: bool
    ) -> None:
        """It made a version visible. `events` are those that its game has not asked for; `delta_bytes` of all deltas
        that came so far; `anew`: what it held before is gone, and this is no change of that."""
        made, version = self._made, int(view.version)
        before, keys = self._held, view["entities"].key
        held = frozenset(keys.tolist())
        self._held = (epoch, version, held)
        delta_bytes, self._delta_bytes = delta_bytes - self._delta_bytes, delta_bytes
        whole = made.at(epoch, version)
        if whole is None or session not in whole.sessions:
            if self.waiting is not None:
                self.waiting.begin()
            return
        if anew or before is None or before[0] != epoch:
            before = None
        if before is not None:
            told = [event for event in events if isinstance(event, Entered | Left) and event.version == version]
            if told or before[2] != held:
                self._told(whole, before, held, told)
        client, entity, role = whole.sessions[session]
        if self.waiting is not None:
            if (version // WAITING_VERSIONS + self._turn) % WAITING_TURNS == 0:
                self._look_at_waiting(self.waiting, epoch, whole, view, role, delta_bytes, anew=before is None)
            else:
                self.waiting.begin()
        if (version + self._turn) % LOOK_EVERY and before is not None:
            return
        self.looked_at += 1
        rules, sorted_keys = made.rules_for(role), np.sort(keys)
        if made.rules and session not in made.shown_by_hand:
            self._sight(whole, before, sorted_keys, rules, client, entity)
        self._rows(whole, view, sorted_keys, rules, role)

    def _look_at_waiting(
        self, waiting: Waiting, epoch: int, whole: Whole, view: View, role: str, delta_bytes: int, *, anew: bool
    ) -> None:
        if anew:
            waiting.begin()
        tables = [one for one in self._made.tables if may_see(one, role)]

        def past(version: int, table: str) -> Rows | None:
            older = self._made.at(epoch, version)
            return None if older is None else older.rounded(self._made.schema.table(table), role)

        waiting.applied(
            whole.version,
            {table.name: ordered(*copied(view, table)) for table in tables},
            {table.name: whole.rounded(table, role) for table in tables},
            past,
            None if self._datagrams or self._made.is_lifted else delta_bytes,
        )

    # --- who is seen --------------------------------------------------------------------------------------------------

    def _sight(
        self, whole: Whole, before: Before | None, held: Keys, rules: list[InterestRule], client: int,
        entity: int,
    ) -> None:  # fmt: skip
        entities = whole.table("entities")
        if len(odd := np.setdiff1d(held, entities.keys)):
            self._violated(f"holds {names(odd)} in version {whole.version}, where there is none such")
        must: list[Keys] = []
        may: list[Keys] = []
        whole_known = True
        for rule in rules:
            if rule.kind == "owned":
                owned = whole.owned_by(client)
                must.append(owned)
                may.append(owned)
            elif rule.kind == "near":
                places, distance = _distances(self._made.schema, whole, rule, entity)
                may.append(places[distance <= rule.leave_radius + CLOSE])
                if rule.every == 1:
                    must.append(places[distance <= rule.radius - CLOSE])
                    if before is not None:
                        self._edge(whole, before, held, rule, rules, client, entity)
                else:
                    whole_known = False
            elif not _is_of_keyed(self._made.schema, rule):
                whole_known = False
        if len(missing := np.setdiff1d(_all(must), held)):
            self._violated(f"lacks {names(missing)} in version {whole.version}, which it must see")
        if whole_known and len(odd := np.setdiff1d(held, _all(may))):
            self._violated(f"holds {names(odd)} in version {whole.version}, which it must not see")

    def _edge(
        self, whole: Whole, before: Before, held: Keys, rule: InterestRule, rules: list[InterestRule],
        client: int, entity: int,
    ) -> None:  # fmt: skip
        """Between the two radii it matters what was seen before."""
        epoch, version, had_keys = before
        had = np.array(sorted(had_keys), np.uint64)
        versions = self._made.between(epoch, version, whole.version)
        if versions is None or any(one.kind not in ("owned", "near", "always", "related") for one in rules):
            return
        if sum(one.kind == "near" for one in rules) > 1:
            return
        stayed, came = had, np.zeros(0, np.uint64)
        for one in versions:
            places, distance = _distances(self._made.schema, one, rule, entity)
            stayed = np.intersect1d(stayed, places[distance <= rule.leave_radius - CLOSE])
            came = np.union1d(came, places[distance <= rule.radius + CLOSE])
        past = self._made.at(epoch, version)
        assert past is not None, "or `between` would not have it"
        if len(missing := np.setdiff1d(np.setdiff1d(stayed, past.owned_by(client)), held)):
            self._violated(
                f"lacks {names(missing)} in version {whole.version}: seen in {version}, and never beyond "
                f"{rule.leave_radius:g} since"
            )
        if len(odd := np.setdiff1d(held, _all([had, came, whole.owned_by(client)]))):
            self._violated(
                f"holds {names(odd)} in version {whole.version}: not seen in {version}, and never within "
                f"{rule.radius:g} since"
            )

    # --- what is seen of them -----------------------------------------------------------------------------------------

    def _rows(self, whole: Whole, view: View, held: Keys, rules: list[InterestRule], role: str) -> None:
        for table in self._made.tables:
            theirs, ours = ordered(*copied(view, table)), whole.table(table.name)
            if not may_see(table, role):
                if len(theirs.keys):
                    self._violated(f"holds {names(theirs.keys)} of {table.name}, which a {role} may not see")
                continue
            due = self._due(whole, table, held, rules)
            if due is not None and not np.array_equal(theirs.keys, due):
                odd, missing = np.setdiff1d(theirs.keys, due), np.setdiff1d(due, theirs.keys)
                self._violated(
                    f"has rows of {table.name} in version {whole.version} that it should not: {names(odd)}; "
                    f"and lacks {names(missing)}"
                )
            common = np.intersect1d(theirs.keys, ours.keys)
            here, there = theirs.at(common), ours.at(common)
            for field in table:
                if field.rotation:
                    continue
                cells = theirs.cells[field.name][here]
                if not may_see(field, role):
                    wrong = np.flatnonzero(~equal_cells(cells, np.zeros_like(cells)))
                elif self.waiting is None:
                    wrong = np.flatnonzero(~equal_cells(cells, _rounded(field, ours.cells[field.name][there])))
                else:
                    continue  # `budget.py` looks at rows that may wait
                if len(wrong):
                    key = common[wrong[0]]
                    self._violated(
                        f"has {cells[wrong[0]]!r} in {table.name}.{field.name} of {key:#x} in version {whole.version}, "
                        f"the node {ours.cells[field.name][there][wrong[0]]!r}; the role is {role}"
                    )

    def _due(self, whole: Whole, table: Table, held: Keys, rules: list[InterestRule]) -> Keys | None:
        """The keys that it must hold, no more and no less; None where this does not know."""
        keys = whole.table(table.name).keys
        if not self._made.rules:
            return keys
        if table.kind != "keyed":
            return np.intersect1d(keys, held)
        if any(rule.kind == "always" and table.name in rule.tables for rule in rules):
            return keys
        found = []
        for rule in rules:
            of, _, field = rule.field.partition(".")
            if rule.kind == "query" and rule.table == table.name:
                return None
            if rule.kind == "related":
                if of != table.name or rule.see != "referring":
                    return None
                found.append(keys[np.isin(whole.table(of).cells[field], held)])
        return _all(found)

    # --- what is told of them -----------------------------------------------------------------------------------------

    def _told(self, whole: Whole, before: Before, held: frozenset[int], told: list[Entered | Left]) -> None:
        named: dict[type[Event], list[int]] = {Entered: [], Left: []}
        for event in told:
            named[type(event)] += event.entities.tolist()
        entered, left = set(named[Entered]), set(named[Left])
        epoch, version, had = before
        came, went, alive = held - had, had - held, whole.alive
        where = f"in version {whole.version}, after {version}"
        if len(entered) + len(left) != len(named[Entered]) + len(named[Left]):
            self._violated(f"was told of a coming or a going twice {where}")
        if odd := entered - came:
            self._violated(f"was told that {names(odd)} entered {where}, which it held, or does not hold")
        if odd := left - went:
            self._violated(f"was told that {names(odd)} left {where}, which it did not hold, or still holds")
        versions = self._made.between(epoch, version, whole.version)
        # In several versions it may go out of sight in one, and cease to be in a later one.
        if (odd := left - alive) and versions is not None and len(versions) == 1:
            self._violated(f"was told that {names(odd)} left {where}, but they are no more")
        if missing := (went & alive) - left:
            self._violated(f"was not told that {names(missing)} left {where}")
        past = self._made.at(epoch, version)
        if past is None:
            return
        there = past.alive
        if not self._datagrams:
            if odd := entered - there:
                self._violated(f"was told that {names(odd)} entered {where}, but they were spawned")
        else:
            older = self._made.at(epoch, version - BASE_MAX)
            there = frozenset() if older is None else there & older.alive
        if missing := (came & there) - entered:
            self._violated(f"was not told that {names(missing)} entered {where}")


def _size(cells: NDArray[Any]) -> int:
    return cells.nbytes


def _distances(schema: Schema, whole: Whole, rule: InterestRule, entity: int) -> tuple[Keys, NDArray[np.float64]]:
    """Who has a place, and how far it is from an entity."""
    spatial = schema.table(rule.table).spatial
    assert spatial is not None, "or the schema would have refused the rule"
    rows, fields = whole.table(rule.table), spatial.fields
    at = np.flatnonzero(rows.keys == entity)
    if not len(at):
        return rows.keys[:0], np.zeros(0)
    apart = [cells.astype(np.float64) - float(cells[at[0]]) for cells in (rows.cells[name] for name in fields)]
    return rows.keys, np.sqrt(sum(axis * axis for axis in apart))


def _is_of_keyed(schema: Schema, rule: InterestRule) -> bool:
    """Whether a rule finds rows of keyed tables only, and no entities."""
    if rule.kind == "related":
        return rule.see == "referring" and schema.table(rule.field.partition(".")[0]).kind == "keyed"
    tables = rule.tables if rule.kind == "always" else (rule.table,)
    return all(schema.table(one).kind == "keyed" for one in tables)


def _rounded(field: Field, cells: NDArray[Any]) -> NDArray[Any]:
    """What a client holds of these."""
    if not field.quantize:
        return cells
    steps = cells.astype(np.float64) / field.quantize
    fits = np.isfinite(cells) & (np.abs(steps) < 2**31)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(fits, (np.rint(steps) * field.quantize).astype(cells.dtype), cells)


def _all(several: list[Keys]) -> Keys:
    return np.unique(np.concatenate([np.zeros(0, np.uint64), *several]))
