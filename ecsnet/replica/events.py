"""What happens to a client, as values: changes of state, answers to commands, a world that came apart, who came into
its sight and went out of it, and what the game itself says has happened (`EventRow`).

Invariants: an event is about something that has happened already; a ticket changes from `pending` once, and an
`accepted` one only when the replica holds the version that contains its effect.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ecsnet.ids import CommandSeq, Epoch, Version
from ecsnet.replica.event_rows import AnyRow
from ecsnet.wire.messages import Reason

TicketStatus = Literal["pending", "accepted", "rejected", "superseded"]
ReplicaState = Literal["joining", "live", "resuming", "closed"]


class Ticket:
    """What became of one command or write. Made by `Replica.send` and `Replica.write`; it changes while the replica
    receives."""

    __slots__ = ("code", "name", "number", "reason", "sequence", "status", "version")

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        """Counts this replica's calls of `send`, from 1."""
        self.sequence: CommandSeq | None = None
        """Its number on the wire, once it is answered; None for one that was overtaken before it was sent."""
        self.status: TicketStatus = "pending"
        self.version: Version | None = None
        """For an accepted command: a version that contains its effect, and that the replica holds."""
        self.code = Reason.NONE
        """For a rejected command: what kind of reason it is. A write that no permission covers has
        `Reason.NOT_ALLOWED`."""
        self.reason = ""
        """For a rejected command: the reason, as the game gave it; "internal" when the game failed. For one that is
        still pending when its session has ended: that its answer was lost."""

    def __repr__(self) -> str:
        tail = f", version={self.version}" if self.version is not None else ""
        tail += f", reason={self.reason!r}" if self.reason else ""
        return f"Ticket({self.name!r}, {self.status!r}{tail})"


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The replica went from one state to another; `reason` says why, for people."""

    old: ReplicaState
    new: ReplicaState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CommandAnswered:
    """A command is no longer pending."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Diverged:
    """The replica's digest of a version is not the authority's: a bug, or memory that failed. The link closes, since
    what is shown could not be trusted any more. Digests are 32 hex digits."""

    version: Version
    ours: str
    theirs: str


@dataclass(frozen=True, slots=True)
class EpochChanged:
    """What the view shows is of another history than before: versions of before may be gone, and those of the two
    cannot be compared. Comes before the change of state to `live`."""

    old: Epoch
    new: Epoch


@dataclass(frozen=True, slots=True)
class EventRowsLost:
    """Rows of event tables that were made while there was no connection, and that nobody can tell any more: those of
    versions after `after`, up to and including `until`. There may have been none. Where `EpochChanged` came before it,
    `after` is of the old epoch."""

    after: Version
    until: Version


@dataclass(frozen=True, slots=True, eq=False)
class Entered:
    """These entities came into the client's sight in a version. They are in the view now, and were there before they
    could be seen; one that was just spawned is not among them."""

    entities: NDArray[np.uint64]
    version: Version


@dataclass(frozen=True, slots=True, eq=False)
class Left:
    """These entities went out of the client's sight in a version: they are not in the view any more, and may live on.
    One that was despawned is not among them. `entities` is the client's own array, as in `Entered`."""

    entities: NDArray[np.uint64]
    version: Version


Event = StateChanged | CommandAnswered | Diverged | EpochChanged | EventRowsLost | Entered | Left | AnyRow
"""What `poll` gives. A row of an event table is an `EventRow`, or, where the client was given a schema of Python
classes, an instance of the table's class."""

_OWN: Final = frozenset({StateChanged, CommandAnswered, Diverged, EpochChanged, EventRowsLost, Entered, Left})


def is_event_row(event: Event) -> bool:
    """Whether it is the game's own: a row of an event table, and not what happened to the client."""
    return event.__class__ not in _OWN
