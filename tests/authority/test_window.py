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


def run_line(window: Window, bytes_per_ms: int, round_trip_ms: int, frames: int, length: int = 8000) -> list[int]:
    """Hand over a frame every 16 ms, if there is room, to a line that is so thin; the lag of each in ms."""
    version, free_at, lags, on_its_way = 0, 0, [], []
    for now in range(0, 16 * frames, 16):
        while on_its_way and on_its_way[0][0] <= now:
            at, acked, sent = on_its_way.pop(0)
            window.ack_untrusted(acked, 0, at * MS)
            lags.append(at - sent)
        if window.has_room_for_delta(now * MS):
            version += 1
            window.record_delta(Version(version), length, now * MS)
            free_at = max(free_at, now) + length // bytes_per_ms
            on_its_way.append((free_at + round_trip_ms, version, now))
    return lags


def test_on_a_thin_line_less_is_under_way_than_would_fill_it_for_long() -> None:
    """4 Mbit/s asked, 1 Mbit/s there: 256 KiB would be two seconds of it."""
    lags = run_line(Window(), bytes_per_ms=125, round_trip_ms=40, frames=2000)
    assert max(lags) < 2000, "before it is known how thin it is"
    assert max(lags[-250:]) < 900
    assert len(lags) >= 0.95 * 2000 * 16 * 125 / 8000, "and the line is never idle"


def test_on_a_line_that_is_fast_and_far_as_much_is_under_way_as_it_holds() -> None:
    """A satellite: 700 ms, none of it a queue."""
    lags = run_line(Window(), bytes_per_ms=3000, round_trip_ms=700, frames=2000, length=5000)
    assert len(lags) >= 1900


def test_a_line_that_recovers_is_used_again() -> None:
    window = Window()
    run_line(window, bytes_per_ms=60, round_trip_ms=40, frames=1000)
    assert window.bytes_max < UNACKED_BYTES_MAX // 4
    now_ns, version = 60_000 * MS, 10_000
    window.record_delta(Version(version), 8000, now_ns)
    while window.bytes_max < UNACKED_BYTES_MAX:
        for _ in range(20):
            version += 1
            window.record_delta(Version(version), 8000, now_ns)
        window.ack_untrusted(version, 0, now_ns + 40 * MS)
        now_ns += 50 * MS
    assert version < 12_000, "within five seconds"


def test_a_line_of_which_little_is_asked_has_shown_nothing() -> None:
    window = Window()
    run_line(window, bytes_per_ms=60, round_trip_ms=40, frames=1000)
    shrunk, now_ns = window.bytes_max, 60_000 * MS
    for version in range(10_000, 10_200):
        window.record_delta(Version(version), 100, now_ns)
        window.ack_untrusted(version, 0, now_ns + 40 * MS)
        now_ns += 50 * MS
    assert window.bytes_max <= shrunk * 2


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
