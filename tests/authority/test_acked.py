"""The base on a link that loses datagrams: moved by acks of what was sent, and by nothing else."""

import pytest

from ecsnet.authority.acked import AckedBase
from ecsnet.errors import RemoteProtocolError
from ecsnet.ids import Version
from ecsnet.limits import DATAGRAM_SILENCE_NS_MAX, NS_PER_MS, REPEAT_NS_MAX, REPEAT_NS_MIN, UNACKED_VERSIONS_MAX


def sent(*versions: int) -> AckedBase:
    acks = AckedBase()
    for version in versions:
        acks.record_delta(Version(version), 100, 0)
    return acks


def test_an_ack_moves_the_base_and_clears_what_it_covers() -> None:
    acks = sent(12, 13, 14, 15)
    assert acks.ack_untrusted(14, 0, 30)
    assert (acks.acked, acks.unacked, acks.unacked_bytes, acks.lag_ns) == (14, 1, 100, 30)


@pytest.mark.parametrize("version", [0, 11, 12, 13])
def test_an_ack_that_is_late_repeated_or_older_than_our_memory_changes_nothing(version: int) -> None:
    acks = sent(12, 13, 14)
    acks.ack_untrusted(13, 0, 0)
    assert not acks.ack_untrusted(version, 0, 0)
    assert (acks.acked, acks.unacked) == (13, 1)


@pytest.mark.parametrize("version", [16, 14, 1 << 60])
def test_an_ack_of_what_was_not_sent_is_refused(version: int) -> None:
    acks = sent(12, 13, 15)
    with pytest.raises(RemoteProtocolError):
        acks.ack_untrusted(version, 0, 0)
    assert (acks.acked, acks.unacked) == (0, 3)


def test_what_is_remembered_is_bounded_and_an_ack_of_what_was_forgotten_is_no_fault() -> None:
    acks = AckedBase()
    for version in range(1, 3 * UNACKED_VERSIONS_MAX):
        acks.record_delta(Version(version), 1, 0)
        assert acks.unacked <= UNACKED_VERSIONS_MAX
    assert not acks.ack_untrusted(1, 0, 0)
    assert acks.ack_untrusted(3 * UNACKED_VERSIONS_MAX - 1, 0, 0)
    assert acks.unacked == 0


def test_with_too_many_on_their_way_one_goes_now_and_then() -> None:
    acks = sent(*range(1, UNACKED_VERSIONS_MAX + 1))
    assert not acks.has_room_for_delta(REPEAT_NS_MIN)
    now_ns, gone = 0, 0
    for _ in range(10_000):
        now_ns += NS_PER_MS
        if acks.has_room_for_delta(now_ns):
            gone += 1
            acks.record_delta(Version(UNACKED_VERSIONS_MAX + gone), 100, now_ns)
    assert 10 <= gone <= 14, "ten seconds, one of them with shorter waits"


def test_a_repeat_is_due_after_two_round_trips_and_then_later_and_later() -> None:
    acks = sent(1)
    acks.ack_untrusted(1, 0, 100 * NS_PER_MS)
    acks.record_delta(Version(2), 100, 0)
    waits, now_ns, last_ns = [], 0, 0
    while len(waits) < 5:
        now_ns += NS_PER_MS
        if acks.is_due(now_ns):
            waits.append((now_ns - last_ns) // NS_PER_MS)
            last_ns = now_ns
            acks.record_delta(Version(2), 100, now_ns)
    assert waits == [200, 400, 800, REPEAT_NS_MAX // NS_PER_MS, REPEAT_NS_MAX // NS_PER_MS]
    acks.ack_untrusted(2, 0, now_ns)
    assert not acks.is_due(now_ns + REPEAT_NS_MAX), "nothing is unacked"


def test_whether_anybody_answers_is_known() -> None:
    acks = AckedBase()
    assert acks.is_answered, "nothing was asked"
    acks.record_delta(Version(1), 100, 0)
    assert not acks.is_answered
    acks.ack_untrusted(0, 0, 0)
    assert acks.is_answered, "an ack of anything is a sign of life"
    acks.record_probe(0)
    assert not acks.is_answered


def test_one_that_takes_nothing_is_stuck_and_one_that_stages_chunks_is_not() -> None:
    acks = sent(1)
    assert not acks.is_stuck(DATAGRAM_SILENCE_NS_MAX)
    assert acks.is_stuck(DATAGRAM_SILENCE_NS_MAX + 1)
    acks.ack_untrusted(0, 3, DATAGRAM_SILENCE_NS_MAX)
    assert not acks.is_stuck(DATAGRAM_SILENCE_NS_MAX + 1)
    acks.ack_untrusted(0, 3, 2 * DATAGRAM_SILENCE_NS_MAX)
    assert acks.is_stuck(2 * DATAGRAM_SILENCE_NS_MAX + 1), "the same again is no progress"
    acks.forgive(2 * DATAGRAM_SILENCE_NS_MAX)
    assert not acks.is_stuck(2 * DATAGRAM_SILENCE_NS_MAX + 1)
