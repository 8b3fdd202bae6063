"""What each role may see, and which rules of interest are for it, as the kernel wants to be told.

    role         profile: tables, fields     rules
    "player"     0: all but `secret`         owned, near
    "admin"      1: all                      always
    "guest"      2: none                     none, in a world that has rules: nobody has said what a guest is sent

Roles that no `visible_to` and no rule names are alike: they have what names no role.

Invariant: equal profiles have one number.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ecsnet._kernel.audiences import Profile, Rule
from ecsnet.interest import query_of
from ecsnet.schema import InterestRule, Schema
from ecsnet.store.statement import Statement

__all__ = ["Profiles", "Role"]

_NOTHING: Final = Profile(frozenset())


@dataclass(frozen=True, slots=True)
class Role:
    """The number of its profile, and a bit for each rule that is for it."""

    profile: int
    rules: int


class Profiles:
    """See the file."""

    def __init__(self, schema: Schema, rules: Sequence[InterestRule]) -> None:
        self._schema = schema
        self._interest = rules
        self.rules: tuple[Rule, ...] = tuple(Rule.of(schema, rule) for rule in rules)
        self.queries: tuple[tuple[int, Statement, int], ...] = tuple(
            (number, query_of(rule), rule.every) for number, rule in enumerate(rules) if rule.kind == "query"
        )
        """Rules that are found by a query: number, query, and how many ticks lie between two looks."""
        self._numbers: dict[Profile, int] = {}
        named = sorted(_roles_named(schema, rules))
        self._roles = {role: self._role(role) for role in named}
        self._others = self._role("")

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """All there are, by number."""
        return tuple(self._numbers)

    def of(self, role: str) -> Role:
        """That of a client with this role, which may be any word."""
        return self._roles.get(role, self._others)

    def sees_all(self, profile: int) -> bool:
        """Whether nothing that is replicated is hidden from it."""
        seen = self.profiles[profile]
        return not seen.hidden and all(table.id in seen.tables for table in self._schema if table.replicated)

    def _role(self, role: str) -> Role:
        rules = sum(1 << n for n, rule in enumerate(self._interest) if rule.roles is None or role in rule.roles)
        profile = _NOTHING if self._interest and not rules else Profile.of_role(self._schema, role)
        return Role(self._numbers.setdefault(profile, len(self._numbers)), rules)


def _roles_named(schema: Schema, rules: Iterable[InterestRule]) -> set[str]:
    def each() -> Iterator[tuple[str, ...] | None]:
        for table in schema:
            yield table.visible_to
            yield from (field.visible_to for field in table)
        yield from (rule.roles for rule in rules)

    return {role for roles in each() for role in roles or ()}
