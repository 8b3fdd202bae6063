"""The core of a client: a live copy of what the authority shows it, and the way to send commands.

Sans-IO: frames and the time come in; frames, events and when to call again go out. A driver owns the socket and the
clock, and does no more than feed, drain, send and re-arm.

`core` has the replica itself, `staging` the rule by which a delta is applied, `parts` what datagrams bring of one,
`events` what happens to a client, `event_rows` what of it the game's own event tables say.
"""

from ecsnet.replica.core import Replica, ReplicaStatistics
from ecsnet.replica.event_rows import EventRow
from ecsnet.replica.events import (
    CommandAnswered,
    Diverged,
    Entered,
    EpochChanged,
    Event,
    EventRowsLost,
    Left,
    ReplicaState,
    StateChanged,
    Ticket,
    TicketStatus,
    is_event_row,
)

__all__ = [
    "CommandAnswered",
    "Diverged",
    "Entered",
    "EpochChanged",
    "Event",
    "EventRow",
    "EventRowsLost",
    "Left",
    "Replica",
    "ReplicaState",
    "ReplicaStatistics",
    "StateChanged",
    "Ticket",
    "TicketStatus",
    "is_event_row",
]
