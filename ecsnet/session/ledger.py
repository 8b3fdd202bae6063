"""What a node remembers of one session's commands, over all links of the session and over its own restarts.

A session gives each command a number, dense from 1. How far the node has come with them:

    1 ... answered ... taken ... received        (answered, taken] are being run, (taken, received] wait to be

The newest answers are kept whole, to be repeated to a client that lost its link before it read them. What outlives the
node's process stands in the session's row: the newest number that was decided, and beside it what was decided about it
and the `COMMAND_STATUSES_KEPT` - 1 before it, two bits each. A node that is started again answers out of that.

Invariants: `answered <= taken <= received`; each command is answered once, in the order of numbers; what is kept is
bounded by `COMMAND_ANSWERS_KEPT` answers and `COMMAND_STATUSES_KEPT` statuses.
"""

from collections import OrderedDict
from typing import Any, Final, NamedTuple

from ecsnet.limits import COMMAND_ANSWERS_KEPT, COMMAND_STATUSES_KEPT, REASON_BYTES_MAX
from ecsnet.wire import codec
from ecsnet.wire.messages import CommandResult, CommandSignature, CommandStatus, Reason
from ecsnet.wire.text import clip_text
from ecsnet.wire.writes import cells_of

__all__ = ["STATUSES_BYTES", "CommandLedger", "Outcome", "PendingCommand"]

_STATUS_BITS: Final = 2
STATUSES_BYTES: Final = COMMAND_STATUSES_KEPT * _STATUS_BITS // 8
"""Of the statuses in a session's row."""

_MASK: Final = (1 << 8 * STATUSES_BYTES) - 1
assert max(CommandStatus) < 1 << _STATUS_BITS

_BEFORE_RESTART: Final = "rejected before the node was started again"


class Outcome(NamedTuple):
    """What became of a command."""

    status: CommandStatus
    code: Reason = Reason.NONE
    message: str = ""


class PendingCommand(NamedTuple):
    """One command to be run in this tick, or only answered: `verdict` is not None when it was decided already."""

    sequence: int
    signature: CommandSignature | None
    values: tuple[Any, ...]
    tick: int
    verdict: Outcome | None
    write: tuple[int, bytes] | None = None
    """Of a write, which has no signature: the table's number and the bytes, as the client said them."""

    @property
    def latest(self) -> object:
        """What a newer one of the same tick takes the place of: equal for two commands of which only the newest counts.
        None for one that always counts."""
        if self.write is not None:
            return cells_of(*self.write)
        return self.signature.id if self.signature is not None and self.signature.latest else None


_SUPERSEDED: Final = Outcome(CommandStatus.SUPERSEDED)


class CommandLedger:
    """See the file."""

    __slots__ = ("_answers", "_before", "answered", "received", "statuses", "superseded", "taken", "waiting")

    def __init__(self) -> None:
        self.received = 0
        self.taken = 0
        self.answered = 0
        """The client's clock entry: its last command that has been answered."""
        self.waiting: list[PendingCommand] = []
        """Received and not taken; to be looked at only."""
        self.superseded = 0
        """How many were."""
        self.statuses = bytes(STATUSES_BYTES)
        """Of the newest commands that were decided, as the session's row has them."""
        self._answers: OrderedDict[int, bytes] = OrderedDict()
        # Of a node before this one: its newest number, its statuses, and the version and tick that we began with.
        self._before: tuple[int, int, int, int] | None = None

    @classmethod
    def recovered(cls, last: int, statuses: bytes, *, version: int, tick: int) -> "CommandLedger":
        """Of a session that a store has from before: command `last` was the newest that was decided, and whatever was
        decided is contained in `version`."""
        ledger = cls()
        ledger.received = ledger.taken = ledger.answered = last
        ledger.statuses = statuses
        ledger._before = (last, int.from_bytes(statuses, "little"), version, tick)
        return ledger

    def decided(self, status: CommandStatus) -> bytes:
        """The statuses with one more, the newest. For the row first: `statuses` is set when the row has them."""
        known = int.from_bytes(self.statuses, "little")
        return ((known << _STATUS_BITS | status) & _MASK).to_bytes(STATUSES_BYTES, "little")

    def take(self) -> list[PendingCommand]:
        """The commands that wait, in the order of their numbers; each must be answered. Of several of one `latest`
        command, and of several updates of the same cells, all but the newest are superseded."""
        waiting = self.waiting
        if not waiting:
            return waiting
        self.waiting = []
        newest: set[object] = set()
        for at in range(len(waiting) - 1, -1, -1):
            command = waiting[at]
            if command.verdict is not None or (latest := command.latest) is None:
                continue
            if latest in newest:
                waiting[at] = command._replace(verdict=_SUPERSEDED)
                self.superseded += 1
            newest.add(latest)
        self.taken = waiting[-1].sequence
        return waiting

    def answer(self, sequence: int, outcome: Outcome, *, version: int, tick: int) -> bytes:
        """Note the answer to a command, and give its frame."""
        assert sequence == self.answered + 1, (sequence, self.answered)
        assert sequence <= self.taken, (sequence, self.taken)
        self.answered = sequence
        frame = codec.encode(
            CommandResult(
                sequence=sequence,
                status=outcome.status,
                version=version,
                tick=tick,
                code=outcome.code,
                message=clip_text(outcome.message, REASON_BYTES_MAX),
            )
        )
        self._answers[sequence] = frame
        if len(self._answers) > COMMAND_ANSWERS_KEPT:
            self._answers.popitem(last=False)
        return frame

    def answer_again(self, sequence: int) -> bytes | None:
        """The frame of an answer that was given before; None where none was, or it is not remembered."""
        frame = self._answers.get(sequence)
        if frame is not None or self._before is None:
            return frame
        last, statuses, version, tick = self._before
        if not 0 <= last - sequence < COMMAND_STATUSES_KEPT:
            return None
        number = statuses >> _STATUS_BITS * (last - sequence) & ((1 << _STATUS_BITS) - 1)
        if not number:
            return None
        status = CommandStatus(number)
        code, message = (Reason.REJECTED, _BEFORE_RESTART) if status == CommandStatus.REJECTED else (Reason.NONE, "")
        return codec.encode(
            CommandResult(sequence=sequence, status=status, version=version, tick=tick, code=code, message=message)
        )

    def skip_untrusted(self, oldest: int) -> bool:
        """The client says that all before `oldest` were answered. Of a node that has lost its newest commands, in a
        crash that its durability does not survive, they are not known any more; go on from there.

        Returns:
            False if that cannot be: of the commands that it would skip, some are being run. Nothing changed then.
        """
        if oldest <= self.received + 1:
            return True
        if self.answered != self.received:
            return False
        self.received = self.taken = self.answered = oldest - 1
        # What is skipped has no status that anybody will ask for: zeros, which are none.
        self.statuses = bytes(STATUSES_BYTES)
        return True
