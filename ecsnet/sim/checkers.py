"""What must hold all along, looked at while a run goes on. None can be switched off.

| checker | what must hold |
|---|---|
| order | the node makes at most one version a tick; a player's grow strictly in a session, and the node has made them |
| vanished | a version that a player saw in an epoch is never taken back: coming back, it is not shown an older one |
| digest | what a player holds is, bit for bit, what the authority held for it in that version |
| protocol | between an honest node and an honest player nobody breaks the protocol |
| command | a session's commands have their outcome once each, in the order of their numbers, on whatever node |
| durable | what was answered, and in a strict store seen, is there after a crash that the durability survives |
| recovered | a version that a crash has left is, bit for bit, what it was |
| epoch | where a version is gone that somebody saw, another epoch begins |
| session | who comes back goes on with its session and its entity, unless a crash may have lost them |
| answer | a ticket is answered once, as the node decided, and when the version with its effect can be read |
| event | each event row after a session's first version is told once, in order, and when its version is held |
| sight | a player holds what it may see, all of it and nothing else, and is told who came and went: `sight.py` |
| budget | a row is as the node has it or as it was, and waits no longer than it may; the bytes are held: `budget.py` |
| owner | no write of a player changes a cell that the schema does not leave to it: `owner.py` |
| bounds | what a link, a session or a store holds stays within its limits |
| model | reads give what a model of the game in plain Python has |
| converged | once the network has healed and the world stands still, everybody holds what the authority has for it |

Invariant: a checker changes nothing and draws no random number, so a run with a violation goes the same way as one
without.
"""

from typing import TYPE_CHECKING, Any

from ecsnet.authority import Link
from ecsnet.limits import (
    DATAGRAM_BYTES_MAX,
    DATAGRAMS_UNSENT_MAX,
    KIB,
    LANE_BACKLOG_BYTES,
    LANE_WINDOW_BYTES,
    MESSAGE_TO_CLIENT_BYTES_MAX,
    MIB,
    QUEUED_BYTES_MAX,
    SYNC_WINDOW_BYTES_MAX,
    UNACKED_VERSIONS_MAX,
)
from ecsnet.replica import Diverged, Ticket
from ecsnet.session.channel import ChannelStatistics
from ecsnet.session.server import Outcome, PendingCommand
from ecsnet.sim.recording import Violation
from ecsnet.wire.messages import CommandStatus

if TYPE_CHECKING:
    from ecsnet.sim.player import Player

VIOLATIONS_KEPT = 100
"""The first ones say what went wrong; a thousand more only say that it went on."""

PINNED_VERSIONS_MAX = 64
"""Slots of one store: views that are held cost memory, and the simulator itself holds none for long."""

CHANGE_SETS_MAX = 256
CHANGE_BYTES_MAX = 2 * 8 * MIB
"""Of one store, as `kernel/zig/limits.zig` has them; the newest set may be beyond the bytes."""

UNACKED_FRAMES_MAX = UNACKED_VERSIONS_MAX + SYNC_WINDOW_BYTES_MAX // (8 * KIB)
"""Deltas, and chunks of a sync, none of which but the last of a table is less than 8 KiB."""

_STATUS_WORDS = {
    CommandStatus.ACCEPTED: "accepted",
    CommandStatus.REJECTED: "rejected",
    CommandStatus.SUPERSEDED: "superseded",
}


class Checkers:
    """All checkers of one run, and what they found."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.found = 0
        """Violations in all; the first `VIOLATIONS_KEPT` are kept."""
        self.tick = 0
        # session -> the last of its commands that has an outcome.
        self._last_command: dict[int, int] = {}
        self._outcomes: dict[tuple[int, int], str] = {}
        self._may_skip: set[int] = set()
        """Sessions of which commands are gone that their players were answered: they go on behind those."""

    def violated(self, checker: str, what: str) -> None:
        self.found += 1
        if len(self.violations) < VIOLATIONS_KEPT:
            self.violations.append(Violation(checker, self.tick, what))

    # --- at a player -------------------------------------------------------------------------------------------------

    def applied(self, player: "Player", before: int, version: int, node_version: int) -> None:
        """A player made a version visible; `before` is the one it showed, 0 where that was of another epoch."""
        if version <= before and player.same_session:
            self.violated("order", f"{player.name} applied version {version} after version {before}")
        elif version < before:
            self.violated("vanished", f"{player.name} came back to version {version}; it had seen {before}")
        if version > node_version:
            self.violated("order", f"{player.name} applied version {version}; the node has made {node_version}")

    def ended(self, player: "Player") -> None:
        """A player's session is over for a reason that is somebody's fault."""
        self.violated("protocol", f"{player.name}: {type(player.replica.error).__name__}: {player.replica.error}")

    def came_back(self, player: "Player", session: int, entity: int, *, may_lose: bool) -> None:
        """A player is live again on another connection; `session` and `entity` are those it had."""
        if may_lose:
            return
        if player.session != session:
            self.violated("session", f"{player.name} came back as session {player.session:#x}; it was {session:#x}")
        elif player.entity != entity:
            with player.view as view:
                if entity in view:
                    self.violated("session", f"{player.name} came back as {player.entity:#x}; it was {entity:#x}")

    def diverged(self, player: "Player", event: Diverged) -> None:
        self.violated(
            "digest", f"{player.name} has digest {event.ours} of version {event.version}, the authority {event.theirs}"
        )

    def digests_missing(self, player: "Player", applied: int, verified: int) -> None:
        """Digests are compared at every version, or the checker above is blind."""
        self.violated("digest", f"{player.name} compared {verified} digests of {applied} versions")

    def answered(self, player: "Player", ticket: Ticket, times: int) -> None:
        """A ticket is no longer pending."""
        where = f"{player.name}: command {ticket.sequence} ({ticket.name})"
        if times > 1:
            self.violated("answer", f"{where} was answered {times} times")
        if ticket.status == "pending":
            self.violated("answer", f"{where} was answered and is still pending")
        if ticket.status == "accepted" and (ticket.version is None or ticket.version > player.version):
            self.violated("answer", f"{where} is accepted in version {ticket.version}; {player.version} is held")
        if ticket.sequence is not None:
            decided = self._outcomes.get((player.session, ticket.sequence))
            if decided is not None and decided != ticket.status:
                self.violated("answer", f"{where} was {decided} by the node and is {ticket.status} here")

    def event(self, player: "Player", what: str) -> None:
        """A player was not told of what happened as it must be."""
        self.violated("event", f"{player.name} {what}")

    # --- at the node -------------------------------------------------------------------------------------------------

    def command(self, session: int, command: PendingCommand, outcome: Outcome) -> None:
        """The node decided about a command."""
        last = self._last_command.get(session, 0)
        skips = session in self._may_skip and command.sequence > last
        self._may_skip.discard(session)
        if command.sequence != last + 1 and not skips:
            self.violated(
                "command", f"session {session:#x}: command {command.sequence} was decided after command {last}"
            )
        self._last_command[session] = command.sequence
        self._outcomes[session, command.sequence] = _STATUS_WORDS[outcome.status]

    def restarted(self, last: dict[int, int], *, lossy: bool) -> None:
        """A node goes on with what a disk has: of these sessions so many commands. What came later has not happened."""
        self._outcomes = {key: outcome for key, outcome in self._outcomes.items() if key[1] <= last.get(key[0], 0)}
        self._last_command = dict(last)
        # Who has not come since an earlier loss goes on behind it still.
        self._may_skip = set(last) if lossy else self._may_skip & set(last)

    def bounds(self, link: Link) -> None:
        """The queues of one link."""
        window = link.window
        if window.unacked > UNACKED_FRAMES_MAX:
            self.violated("bounds", f"{link.peer}: {window.unacked} frames unacked")
        if window.unacked_bytes > SYNC_WINDOW_BYTES_MAX + 2 * MESSAGE_TO_CLIENT_BYTES_MAX:
            self.violated("bounds", f"{link.peer}: {window.unacked_bytes} bytes unacked")
        control_bytes = link.control_bytes()
        if control_bytes > QUEUED_BYTES_MAX + MESSAGE_TO_CLIENT_BYTES_MAX:
            self.violated("bounds", f"{link.peer}: {control_bytes} bytes of control frames are queued")

    def channel(self, name: str, statistics: ChannelStatistics) -> None:
        """The queues of one end of a datagram link."""
        if statistics.backlog_bytes > LANE_BACKLOG_BYTES + 2 * MESSAGE_TO_CLIENT_BYTES_MAX:
            self.violated("bounds", f"{name}: {statistics.backlog_bytes} bytes of the lane are kept")
        if statistics.early_bytes > LANE_WINDOW_BYTES + 2 * DATAGRAM_BYTES_MAX:
            self.violated("bounds", f"{name}: {statistics.early_bytes} bytes came too early and are kept")
        if statistics.flight_bytes > LANE_WINDOW_BYTES + DATAGRAMS_UNSENT_MAX * DATAGRAM_BYTES_MAX:
            self.violated("bounds", f"{name}: {statistics.flight_bytes} bytes are under way")

    def made(self, before: int, after: int) -> None:
        """A tick of the node is over."""
        if not before <= after <= before + 1:
            self.violated("order", f"one tick led the node from version {before} to {after}")

    def store(self, name: str, statistics: Any) -> None:
        """What a store keeps for its readers, and for deltas."""
        if statistics.change_sets > CHANGE_SETS_MAX or statistics.change_bytes > CHANGE_BYTES_MAX:
            self.violated(
                "bounds", f"{name}: {statistics.change_sets} change sets of {statistics.change_bytes} bytes are kept"
            )
        if statistics.slots_used > PINNED_VERSIONS_MAX:
            self.violated("bounds", f"{name}: {statistics.slots_used} versions are kept")
