"""What a node remembers of a session's commands."""

import pytest

from ecsnet.limits import COMMAND_ANSWERS_KEPT, COMMAND_STATUSES_KEPT
from ecsnet.session.ledger import STATUSES_BYTES, CommandLedger, Outcome, PendingCommand
from ecsnet.wire import codec
from ecsnet.wire.messages import CommandResult, CommandStatus, Reason

ACCEPTED, REJECTED, SUPERSEDED = CommandStatus.ACCEPTED, CommandStatus.REJECTED, CommandStatus.SUPERSEDED


def receive(ledger: CommandLedger, count: int) -> None:
    for _ in range(count):
        ledger.received += 1
        ledger.waiting.append(PendingCommand(ledger.received, None, (), 0, None))


def meant(frame: bytes | None) -> CommandResult:
    assert frame is not None
    message = codec.decode_untrusted(frame[4], frame[8:])
    assert isinstance(message, CommandResult)
    return message


def test_the_newest_answers_are_kept_and_older_ones_are_not() -> None:
    ledger = CommandLedger()
    receive(ledger, COMMAND_ANSWERS_KEPT + 2)
    ledger.take()
    for sequence in range(1, ledger.received + 1):
        ledger.answer(sequence, Outcome(ACCEPTED), version=7, tick=8)
    assert ledger.answer_again(2) is None
    assert meant(ledger.answer_again(3)) == CommandResult(sequence=3, status=ACCEPTED, version=7, tick=8)
    assert ledger.answer_again(ledger.received + 1) is None


def test_a_ledger_from_a_row_knows_how_its_newest_commands_ended() -> None:
    ledger = CommandLedger()
    statuses = [ACCEPTED, REJECTED, SUPERSEDED, ACCEPTED]
    for status in statuses:
        ledger.statuses = ledger.decided(status)
    assert len(ledger.statuses) == STATUSES_BYTES

    again = CommandLedger.recovered(4, ledger.statuses, version=50, tick=60)
    assert [meant(again.answer_again(n)).status for n in range(1, 5)] == statuses
    assert {meant(again.answer_again(n)).version for n in range(1, 5)} == {50}
    assert meant(again.answer_again(2)).code == Reason.REJECTED
    assert again.answer_again(0) is again.answer_again(5) is None
    assert (again.answered, again.taken, again.received) == (4, 4, 4)


def test_statuses_are_of_the_newest_commands_only() -> None:
    ledger = CommandLedger()
    for _ in range(COMMAND_STATUSES_KEPT + 3):
        ledger.statuses = ledger.decided(REJECTED)
    again = CommandLedger.recovered(COMMAND_STATUSES_KEPT + 3, ledger.statuses, version=1, tick=1)
    assert again.answer_again(3) is None
    assert meant(again.answer_again(4)).status is REJECTED


def test_of_what_was_not_noted_nothing_is_said() -> None:
    again = CommandLedger.recovered(9, bytes(STATUSES_BYTES), version=1, tick=1)
    assert again.answer_again(9) is None


@pytest.mark.parametrize(("oldest", "received"), [(1, 4), (5, 4), (6, 5), (100, 99)])
def test_numbers_are_taken_up_where_the_client_has_its_last_answer(oldest: int, received: int) -> None:
    ledger = CommandLedger.recovered(4, bytes(STATUSES_BYTES), version=1, tick=1)
    assert ledger.skip_untrusted(oldest)
    assert (ledger.answered, ledger.taken, ledger.received) == (received, received, received)


def test_nothing_that_runs_is_skipped() -> None:
    ledger = CommandLedger()
    receive(ledger, 2)
    assert not ledger.skip_untrusted(4)
    ledger.take()
    assert not ledger.skip_untrusted(4)
    assert ledger.skip_untrusted(3)
    ledger.answer(1, Outcome(ACCEPTED), version=1, tick=1)
    ledger.answer(2, Outcome(ACCEPTED), version=1, tick=1)
    assert ledger.skip_untrusted(4)
    assert ledger.received == 3
