"""What the processes of a demo tell each other: one JSON object a line, down a child's standard input and up its
standard output.

Times are nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share. A status holds what happened since
the one before it, and sums since the start where it says so.
"""

import msgspec

from ecsnet.demo.options import Options

# --- from the parent -----------------------------------------------------------------------------------------------


class SetUp(msgspec.Struct, tag=True, frozen=True):
    """The first message to every child. `first` and `count` are for bots: which of all clients live here."""

    options: Options
    address: str = ""
    """For bots: of the node. For a node that takes the place of one that was killed: where that listened."""
    first: int = 0
    count: int = 0


class Play(msgspec.Struct, tag=True, frozen=True):
    """Measuring begins. Bots play, leave and come back from now on."""


class Rest(msgspec.Struct, tag=True, frozen=True):
    """The time is over. The node's world stands still, except for who joins; bots send nothing more and come back."""


class Compare(msgspec.Struct, tag=True, frozen=True):
    """Tell what you hold: the node at once, the bots when they hold `version`."""

    version: int = 0


class Count(msgspec.Struct, tag=True, frozen=True):
    """To the node: tell every command that has had its effect, as the store has it."""


class Drop(msgspec.Struct, tag=True, frozen=True):
    """To a process of bots: cut the connection of one that is live, without a goodbye."""


class End(msgspec.Struct, tag=True, frozen=True):
    """Leave in order."""


# --- from a child --------------------------------------------------------------------------------------------------


class Ready(msgspec.Struct, tag=True, frozen=True):
    """The node listens at `address`; or all bots of this process hold a whole world and none of their commands is
    unanswered."""

    address: str = ""


class NodeStatus(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """The node's part of the measurement."""

    now_ns: int
    cpu_s: float
    """CPU seconds of the process so far."""
    tick: int
    version: int
    clients: int
    joins: int
    full_syncs: int
    ticks_dropped: int
    systems_failed: int
    cuts: list[tuple[int, int, int]]
    """(version, when its tick began, rows of transform that it moved)"""
    applied: list[tuple[int, int]]
    """Commands that took effect: (session, sequence), each as often as it did. Of a world on disk they are in
    `Counted`."""


class BotsStatus(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """The part of one process of bots."""

    now_ns: int
    live: int
    versions: list[tuple[int, int, int]]
    """(stay, version, when it was applied); a stay is one session of one bot, numbered from 1 in this process."""
    delta_bytes: int
    """Frames of deltas received so far, full syncs excluded."""
    bytes_received: int
    """Frames of all kinds received so far, full syncs excluded."""
    client_s: float
    """Seconds that bots have been live so far, all together."""
    sent: int
    """Commands sent so far."""
    answered: int
    """Of these accepted, rejected or superseded so far."""
    unanswered: int = 0
    """Of these still waiting for their answers, or left by a bot that could wait no longer; nothing says that they are
    lost."""
    accepted: list[tuple[int, int]]
    """Commands that were answered as accepted: (session, sequence)."""
    resumes: int = 0
    """Sessions that went on over another connection so far."""
    drops: int = 0
    """Connections that were cut on purpose so far."""


class Held(msgspec.Struct, tag=True, frozen=True):
    """What one core holds. From the node, `acked` says whether every client has acked this version; with interest it
    tells one more for each session, of what that is to hold."""

    name: str
    version: int
    digest: str
    acked: bool = False
    tick: int = 0
    epoch: int = 0
    session: int = 0
    entities: int = 0
    """From a bot: how many it has."""
    astray: int = 0
    """From the node, of a session: entities that it is sent and should not be, or should be and is not."""


class Compared(msgspec.Struct, tag=True, frozen=True):
    """The answer to `Compare`."""

    held: list[Held]


class Counted(msgspec.Struct, tag=True, frozen=True):
    """The answer to `Count`: (session, sequence), each as often as it had its effect."""

    applied: list[tuple[int, int]]


class Trouble(msgspec.Struct, tag=True, frozen=True):
    """Something that should not happen happened to a bot; the demo goes on and says so at the end."""

    what: str


ToChild = SetUp | Play | Drop | Rest | Compare | Count | End
FromChild = Ready | NodeStatus | BotsStatus | Compared | Counted | Trouble
