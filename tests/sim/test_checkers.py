"""Each checker notices what it is there for: a checker that cannot fail checks nothing."""

from types import SimpleNamespace
from typing import Any

import pytest

from ecsnet.limits import LANE_BACKLOG_BYTES, LANE_WINDOW_BYTES, MIB, UNACKED_VERSIONS_MAX
from ecsnet.replica import Diverged, Ticket
from ecsnet.session.channel import Channel
from ecsnet.session.server import Outcome, PendingCommand
from ecsnet.sim.checkers import CHANGE_SETS_MAX, PINNED_VERSIONS_MAX, VIOLATIONS_KEPT, Checkers
from ecsnet.wire.messages import CommandStatus

ACCEPTED = Outcome(CommandStatus.ACCEPTED)
REFUSED = Outcome(CommandStatus.REJECTED)


@pytest.fixture
def checkers() -> Checkers:
    checkers = Checkers()
    checkers.tick = 12
    return checkers


def player(**changed: Any) -> Any:
    return SimpleNamespace(**{"name": "ada", "same_session": True, "version": 9, "session": 5} | changed)


def command(sequence: int) -> PendingCommand:
    return PendingCommand(sequence, None, (), 0, None)


def found(checkers: Checkers) -> list[str]:
    return [one.checker for one in checkers.violations]


def test_versions_that_grow_are_no_violation(checkers: Checkers) -> None:
    checkers.applied(player(), 7, 9, 9)
    checkers.applied(player(same_session=False), 9, 9, 9)
    checkers.made(7, 7)
    checkers.made(7, 8)

    assert checkers.violations == []


def test_a_version_that_does_not_grow_is_found(checkers: Checkers) -> None:
    checkers.applied(player(), 9, 9, 9)

    assert found(checkers) == ["order"]
    assert checkers.violations[0].tick == 12
    assert "ada" in checkers.violations[0].what


def test_a_version_of_the_future_is_found(checkers: Checkers) -> None:
    checkers.applied(player(), 7, 10, 9)

    assert found(checkers) == ["order"]


def test_a_version_that_was_seen_and_is_gone_is_found(checkers: Checkers) -> None:
    checkers.applied(player(same_session=False), 9, 8, 9)

    assert found(checkers) == ["vanished"]


def test_a_tick_that_makes_two_versions_is_found(checkers: Checkers) -> None:
    checkers.made(7, 9)

    assert found(checkers) == ["order"]


def test_a_digest_that_differs_or_is_not_compared_is_found(checkers: Checkers) -> None:
    checkers.diverged(player(), Diverged(9, "0" * 32, "1" * 32))
    checkers.digests_missing(player(), 100, 50)

    assert found(checkers) == ["digest", "digest"]


def test_a_command_that_is_decided_twice_or_out_of_order_is_found(checkers: Checkers) -> None:
    checkers.command(5, command(1), ACCEPTED)
    checkers.command(5, command(2), REFUSED)
    checkers.command(6, command(1), ACCEPTED)
    assert checkers.violations == []

    checkers.command(5, command(2), ACCEPTED)
    checkers.command(6, command(3), ACCEPTED)

    assert found(checkers) == ["command", "command"]


def test_answers_must_be_single_visible_and_those_of_the_node(checkers: Checkers) -> None:
    checkers.command(5, command(1), REFUSED)
    ticket = Ticket("steer", 1)
    ticket.sequence, ticket.status, ticket.version = 1, "accepted", 10  # type: ignore[assignment]

    checkers.answered(player(), ticket, 2)

    assert found(checkers) == ["answer", "answer", "answer"]
    told = " ".join(one.what for one in checkers.violations)
    assert "answered 2 times" in told
    assert "accepted in version 10; 9 is held" in told
    assert "rejected by the node and is accepted here" in told


def test_queues_beyond_their_limits_are_found(checkers: Checkers) -> None:
    window = SimpleNamespace(unacked=UNACKED_VERSIONS_MAX, unacked_bytes=0)
    link: Any = SimpleNamespace(peer="ada", window=window, control_bytes=lambda: 0)
    checkers.bounds(link)
    assert checkers.violations == []

    window.unacked, window.unacked_bytes = 100_000, 1000 * MIB
    link.control_bytes = lambda: 10 * MIB
    checkers.bounds(link)

    assert found(checkers) == ["bounds"] * 3


def test_a_store_that_keeps_too_much_is_found(checkers: Checkers) -> None:
    statistics = SimpleNamespace(slots_used=PINNED_VERSIONS_MAX, change_sets=CHANGE_SETS_MAX, change_bytes=0)
    checkers.store("ada", statistics)
    assert checkers.violations == []

    statistics.slots_used, statistics.change_bytes = PINNED_VERSIONS_MAX + 1, 100 * MIB
    checkers.store("ada", statistics)

    assert found(checkers) == ["bounds", "bounds"]


def test_a_channel_that_keeps_too_much_is_found(checkers: Checkers) -> None:
    calm = Channel(payload_bytes_max=1024, now_ns=0).statistics()
    checkers.channel("ada", calm)
    assert checkers.violations == []

    full: Any = SimpleNamespace(
        backlog_bytes=100 * LANE_BACKLOG_BYTES, early_bytes=100 * LANE_WINDOW_BYTES, flight_bytes=1000 * MIB
    )
    checkers.channel("ada", full)

    assert found(checkers) == ["bounds"] * 3


def test_only_the_first_violations_are_kept_and_all_are_counted(checkers: Checkers) -> None:
    for number in range(3 * VIOLATIONS_KEPT):
        checkers.violated("order", f"number {number}")

    assert len(checkers.violations) == VIOLATIONS_KEPT
    assert checkers.violations[-1].what == f"number {VIOLATIONS_KEPT - 1}"
    assert checkers.found == 3 * VIOLATIONS_KEPT
