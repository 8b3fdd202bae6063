"""The window of unacked frames: when to hold back, and what an ack may claim."""

import pytest

from ecsnet.authority.window import Window
from ecsnet.errors import RemoteProtocolError
from ecsnet.ids import Version
from ecsnet.limits import (
    BLOCKED_NS_MAX,
    NS_PER_MS,
    SYNC_WINDOW_BYTES,
    SYNC_WINDOW_BYTES_MAX,
    UNACKED_BYTES_MAX,
    UNACKED_NS_MAX,
    UNACKED_VERSIONS_MAX,
)

MS = NS_PER_MS


def test_one_ack_covers_all_up_to_its_version() -> None:
    window = Window()
    for version in (12, 13, 15):
        window.record_delta(Version(version), 100, version * MS)

    assert window.ack_untrusted(13, 0, 30 * MS)

    assert window.acked == 13
    assert (window.unacked, window.unacked_bytes) == (1, 100)
    assert window.lag_ns == 17 * MS, "of the newest that it covers"


def test_a_repeated_or_overtaken_ack_changes_nothing() -> None:
    window = Window()
    window.record_delta(Version(12), 100, 0)
    window.record_delta(Version(13), 100, 0)
    assert window.ack_untrusted(13, 0, MS)

    assert not window.ack_untrusted(13, 0, 2 * MS)
    assert not window.ack_untrusted(12, 0, 2 * MS)
    assert window.acked == 13


@pytest.mark.parametrize("version", [1, 13, 14, 1 << 63])
def test_an_ack_of_a_version_that_was_never_sent_is_refused(version: int) -> None:
    """Believed, it would move what we say of that client; 1 lies below what was sent, and was never acked either."""
    window = Window()
    window.record_delta(Version(12), 100, 0)
    window.record_delta(Version(15), 100, 0)
    with pytest.raises(RemoteProtocolError):
        window.ack_untrusted(version, 0, MS)
    assert (window.acked, window.unacked) == (0, 2)


def test_many_bytes_hold_back_only_when_their_ack_is_overdue() -> None:
    """A fast line with a long round trip holds many bytes, and is not late."""
    window = Window()
    window.record_delta(Version(1), UNACKED_BYTES_MAX, 0)
    window.record_delta(Version(2), UNACKED_BYTES_MAX, 0)
    assert window.has_room_for_delta(UNACKED_NS_MAX)
    assert not window.has_room_for_delta(UNACKED_NS_MAX + 1)
    window.ack_untrusted(2, 0, UNACKED_NS_MAX + 2)
    assert window.has_room_for_delta(UNACKED_NS_MAX + 2)


def test_frames_hold_back_however_small_they_are() -> None:
    window = Window()
    for version in range(1, UNACKED_VERSIONS_MAX + 1):
        assert window.has_room_for_delta(0)
        window.record_delta(Version(version), 8, 0)
    assert not window.has_room_for_delta(0)


def test_a_client_that_lets_everything_lie_is_stuck_and_one_that_acks_a_little_is_not() -> None:
    window = Window()
    assert not window.is_stuck(BLOCKED_NS_MAX * 10), "nothing is asked of it"
    window.record_delta(Version(1), 8, 0)
    window.record_delta(Version(2), 8, BLOCKED_NS_MAX)
    assert not window.is_stuck(BLOCKED_NS_MAX)
    assert window.is_stuck(BLOCKED_NS_MAX + 1)
    window.ack_untrusted(1, 0, BLOCKED_NS_MAX + 1)
    assert not window.is_stuck(2 * BLOCKED_NS_MAX)


def test_the_window_of_a_sync_doubles_when_it_was_what_held_the_sync_up() -> None:
    """A client that staged everything before there was more could have taken more."""
    window, sent, acked, grown = Window(), 0, 0, SYNC_WINDOW_BYTES
    while grown <= SYNC_WINDOW_BYTES_MAX:
        taken = 0
        while window.has_room_for_chunk():
            window.record_chunk(SYNC_WINDOW_BYTES // 4, 0)
            sent += 1
            taken += SYNC_WINDOW_BYTES // 4
        assert taken == grown
        acked = sent
        assert window.ack_untrusted(0, acked, 1)
        grown *= 2
    assert not window.ack_untrusted(0, acked, 2)


def test_an_ack_of_chunks_that_were_never_sent_is_refused() -> None:
    window = Window()
    window.record_chunk(100, 0)
    with pytest.raises(RemoteProtocolError):
        window.ack_untrusted(0, 2, 1)
    assert window.unacked == 1


def test_acks_of_a_sync_that_is_closed_do_not_count_for_the_next() -> None:
    """They were on their way when it closed. Under the version before it, they cannot be of the new one."""
    window = Window()
    for _ in range(3):
        window.record_chunk(100, 0)
    window.record_delta(Version(9), 100, 0)
    window.record_chunk(100, 0)

    assert not window.ack_untrusted(0, 3, 1)
    assert window.unacked_bytes == 500
    assert window.ack_untrusted(9, 0, 2)
    assert window.unacked_bytes == 100
    assert window.ack_untrusted(9, 1, 3)
    assert window.unacked_bytes == 0
