"""What the game says of one client's sight, beside the rules: what it is focused on, what it is shown, how many bytes.

Invariants: a value that never changes; who changes it makes another, so that a command that is undone takes this back
by one assignment, and who looks for changes compares identities.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

from ecsnet.errors import ArgumentError, LimitExceededError
from ecsnet.ids import Entity
from ecsnet.limits import BUDGET_BYTES_S_MIN, FOCUS_ENTITIES_MAX, REVEALED_ENTITIES_MAX

__all__ = ["Sight", "check_budget", "check_staleness"]

_STALENESS_S_MAX = 60.0


class Sight(NamedTuple):
    """`focus` None is the client's own entity, and no budget is None."""

    focus: tuple[Entity, ...] | None = None
    revealed: tuple[Entity, ...] = ()
    budget_bytes_s: int | None = None

    def focused(self, entities: Iterable[int]) -> "Sight":
        """Focused on these; on the client's own entity where there are none."""
        given = _entities(entities)
        if len(given) > FOCUS_ENTITIES_MAX:
            raise LimitExceededError("FOCUS_ENTITIES_MAX", FOCUS_ENTITIES_MAX, len(given))
        return self._replace(focus=given or None)

    def revealing(self, entities: Iterable[int]) -> "Sight":
        """With these, whatever the rules say."""
        given = tuple(dict.fromkeys((*self.revealed, *_entities(entities))))
        if len(given) > REVEALED_ENTITIES_MAX:
            raise LimitExceededError("REVEALED_ENTITIES_MAX", REVEALED_ENTITIES_MAX, len(given))
        return self._replace(revealed=given)

    def concealing(self, entities: Iterable[int]) -> "Sight":
        """Without these, unless a rule finds them."""
        given = set(_entities(entities))
        return self._replace(revealed=tuple(entity for entity in self.revealed if entity not in given))


def _entities(entities: Iterable[int]) -> tuple[Entity, ...]:
    found = []
    for entity in entities:
        if isinstance(entity, bool) or not isinstance(entity, int) or not 0 < entity < 1 << 64:
            raise ArgumentError(f"expected an entity, found {entity!r}")
        found.append(Entity(entity))
    return tuple(found)


def check_budget(budget_bytes_s: int | None) -> int | None:
    """The budget itself.

    Raises:
        ArgumentError: it is not None and no whole number of bytes, or so few that nothing would ever fit.
    """
    if budget_bytes_s is None:
        return None
    if isinstance(budget_bytes_s, bool) or not isinstance(budget_bytes_s, int) or budget_bytes_s < BUDGET_BYTES_S_MIN:
        raise ArgumentError(
            f"budget_bytes_s is None, or a whole number of bytes from {BUDGET_BYTES_S_MIN} on; not {budget_bytes_s!r}"
        )
    return budget_bytes_s


def check_staleness(staleness_max_s: float) -> float:
    """The time itself.

    Raises:
        ArgumentError: it is no number of seconds up to a minute.
    """
    if (
        isinstance(staleness_max_s, bool)
        or not isinstance(staleness_max_s, int | float)
        or not (math.isfinite(staleness_max_s) and 0 < staleness_max_s <= _STALENESS_S_MAX)
    ):
        raise ArgumentError(f"staleness_max_s is {staleness_max_s!r}; it must be in (0, {_STALENESS_S_MAX:g}]")
    return float(staleness_max_s)
