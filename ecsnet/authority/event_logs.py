"""Event rows by who may see them: a log for each different part of the event tables that some role is told of.

    role        may see           log
    "player"    Hit, Chat         one
    "guest"     Hit, Chat         the same
    "referee"   Hit, Chat, Foul   another

Invariant: equal parts have one log, so a schema without `visible_to` on event tables has one.
"""

from typing import Final

from ecsnet._kernel.audiences import Profile
from ecsnet._kernel.events import EventsSeen
from ecsnet.auth.account import PLAYER
from ecsnet.authority.event_log import EventLog, tells_of_events
from ecsnet.authority.profiles import Profiles
from ecsnet.ids import Epoch, Tick, Version
from ecsnet.schema import Schema
from ecsnet.store import Store

__all__ = ["EventLogs", "event_logs"]


def event_logs(store: Store, profiles: Profiles, epoch: Epoch) -> "EventLogs | None":
    """What follows a store's event rows from its next version on; None for a schema of which clients are told none.

    Raises:
        LimitExceededError: a row of one may be larger than what every client takes in one message.
    """
    return EventLogs(store, profiles, epoch) if tells_of_events(store.schema) else None


class EventLogs:
    """See the file."""

    __slots__ = ("_by_profile", "_logs", "_profiles", "usual")

    def __init__(self, store: Store, profiles: Profiles, epoch: Epoch) -> None:
        begin = Version(store.kernel.head_version)
        seen = [_seen(store.schema, profile) for profile in profiles.profiles]
        logs = {part: EventLog(epoch, begin) for part in seen}
        self._profiles = profiles
        self._by_profile = [logs[part] for part in seen]
        self._logs: Final = tuple(logs.values())
        self.usual = self.of(PLAYER)
        """That of those whom nobody has given another role."""
        store.follow_events(self._add, tuple(logs))

    def of(self, role: str) -> EventLog:
        """That of clients with this role, which may be any word."""
        return self._by_profile[self._profiles.of(role).profile]

    @property
    def kept_bytes(self) -> int:
        return sum(log.kept_bytes for log in self._logs)

    def take_in(self) -> None:
        """Go on with what the store has told of."""
        for log in self._logs:
            log.take_in()

    def _add(self, version: Version, tick: Tick, blocks: list[list[bytes]]) -> None:
        for log, its in zip(self._logs, blocks, strict=True):
            log.add(version, tick, its)


def _seen(schema: Schema, profile: Profile) -> EventsSeen:
    told = {table.id for table in schema.tables if table.kind == "event" and table.replicated}
    hidden = frozenset(pair for pair in profile.hidden if pair[0] in told)
    return EventsSeen(frozenset(told - profile.tables), hidden)
