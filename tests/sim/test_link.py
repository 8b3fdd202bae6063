"""Lines do what their profiles say, and a stream never loses a byte.

Statistics are of many packets from fixed seeds: nothing here depends on luck or on the clock.
"""

import math
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Iterable
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecsnet.errors import ClosedError
from ecsnet.sim.link import NEVER, UNREAD_BYTES, WINDOW_BYTES, DatagramPath, Outages, StreamPath, stream_paths
from ecsnet.sim.profile import Direction, Profile, profile, profile_names

ROOT = Path(__file__).parent.parent.parent
MS = 1_000_000
S = 1_000_000_000


def datagrams(seed: int = 7, **direction: Any) -> DatagramPath:
    return DatagramPath(Direction(**direction), random.Random(f"{seed}/down"))


def stream(seed: int = 7, *, back_ms: float | None = None, buffer_bytes: int = 1 << 18, **direction: Any) -> StreamPath:
    return StreamPath(
        Direction(**direction),
        random.Random(f"{seed}/down"),
        return_latency_ms=back_ms,
        buffer_bytes=buffer_bytes,
    )


def numbered(count: int, bytes_each: int = 8) -> list[bytes]:
    return [number.to_bytes(8, "little") + bytes(bytes_each - 8) for number in range(count)]


def number(data: bytes) -> int:
    return int.from_bytes(data[:8], "little")


def delays(path: DatagramPath, count: int, step_ns: int = 2 * S) -> list[int]:
    """Of packets that are far apart, so that none waits for another."""
    found = []
    for place in range(count):
        sent_ns = S + place * step_ns
        path.send(b"x", sent_ns)
        [(when_ns, _)] = path.receive(sent_ns + step_ns - 1)
        found.append(when_ns - sent_ns)
    return found


def flood(path: DatagramPath, count: int, step_ns: int, bytes_each: int = 1000) -> list[tuple[int, int, int]]:
    """(number, sent, arrived) of what arrives."""
    sent = {}
    for place, data in enumerate(numbered(count, bytes_each)):
        sent[place] = S + place * step_ns
        path.send(data, sent[place])
    return [(number(data), sent[number(data)], when_ns) for when_ns, data in path.receive(NEVER - 1)]


def near(found: float, expected: float, count: int) -> bool:
    """A share of `count` trials within four standard deviations."""
    return abs(found - expected) < 4 * math.sqrt(expected * (1 - expected) / count)


# --- datagrams: what is lost ------------------------------------------------------------------------------------------


def test_a_perfect_line_delivers_everything_at_once_and_in_order() -> None:
    path = datagrams()
    sent = numbered(100)
    for data in sent:
        path.send(data, 5)

    assert path.next_ns == 5
    assert path.receive(4) == []
    assert path.receive(5) == [(5, data) for data in sent]
    assert path.next_ns == NEVER


@pytest.mark.parametrize("loss", [0.001, 0.03, 0.5])
def test_the_share_that_is_lost_is_the_one_that_was_asked_for(loss: float) -> None:
    count = 100_000
    arrived = flood(datagrams(loss=loss), count, MS)

    assert near(1 - len(arrived) / count, loss, count)


def test_losses_are_independent_of_each_other() -> None:
    """The packets between two losses are geometric: their mean and their deviation are those of the share."""
    loss = 0.05
    arrived = {place for place, _, _ in flood(datagrams(loss=loss), 200_000, MS)}
    lost = [place for place in range(200_000) if place not in arrived]
    gaps = [after - before for before, after in pairwise(lost)]

    assert statistics.mean(gaps) == pytest.approx(1 / loss, rel=0.03)
    assert statistics.stdev(gaps) == pytest.approx(math.sqrt(1 - loss) / loss, rel=0.05)


def test_all_is_lost_where_everything_is_and_nothing_where_nothing_is() -> None:
    assert flood(datagrams(loss=1.0), 1000, MS) == []
    assert len(flood(datagrams(loss=0.0), 1000, MS)) == 1000


def test_bursts_have_the_length_and_the_share_of_gilbert_and_elliott() -> None:
    count, begins, ends = 400_000, 0.01, 0.25
    path = datagrams(burst_begins=begins, burst_ends=ends)
    arrived = {place for place, _, _ in flood(path, count, MS)}
    runs = [len(list(run)) for is_lost, run in groupby(place not in arrived for place in range(count)) if is_lost]

    assert statistics.mean(runs) == pytest.approx(1 / ends, rel=0.03)
    assert sum(run >= 8 for run in runs) / len(runs) == pytest.approx((1 - ends) ** 7, rel=0.1)
    assert sum(runs) / count == pytest.approx(begins / (begins + ends), rel=0.04)
    assert path.counts.lost == path.counts.burst_lost == sum(runs)


def test_within_a_burst_only_its_own_share_is_lost() -> None:
    count = 200_000
    path = datagrams(burst_begins=0.01, burst_ends=0.1, burst_loss=0.6, loss=0.002)
    lost = 1 - len(flood(path, count, MS)) / count

    in_burst = 0.01 / 0.11
    assert lost == pytest.approx(in_burst * 0.6 + (1 - in_burst) * 0.002, rel=0.06)
    assert 0 < path.counts.lost - path.counts.burst_lost < path.counts.burst_lost


def test_an_outage_takes_everything_and_as_much_time_as_was_asked_for() -> None:
    count, step_ns = 400_000, 10 * MS
    path = datagrams(outage_every_s=20.0, outage_s=2.0)
    arrived = {place for place, _, _ in flood(path, count, step_ns)}
    runs = [len(list(run)) for is_lost, run in groupby(place not in arrived for place in range(count)) if is_lost]
    seconds = [run * step_ns / S for run in runs]

    assert statistics.mean(seconds) == pytest.approx(2.0, rel=0.1)
    assert min(seconds) > 0.9 and max(seconds) < 3.1
    assert len(runs) == pytest.approx(count * step_ns / S / 20.0, rel=0.25)
    assert path.counts.outage_lost == path.counts.lost == sum(runs)


def test_a_tunnel_closes_both_ways_whatever_is_sent() -> None:
    direction = Direction(outage_every_s=20.0, outage_s=2.0)
    outages = Outages(random.Random("tunnels"))
    down = DatagramPath(direction, random.Random("down"), outages=outages)
    up = DatagramPath(direction, random.Random("up"), outages=outages)

    through: dict[str, set[int]] = {"down": set(), "up": set()}
    for tenth in range(3000):
        now_ns = S + tenth * 100 * MS
        down.send(b"x", now_ns)
        through["down"] |= {tenth for _ in down.receive(now_ns)}
        if tenth % 3 == 0:
            up.send(b"x", now_ns)
            through["up"] |= {tenth for _ in up.receive(now_ns)}

    assert through["up"] == {tenth for tenth in through["down"] if tenth % 3 == 0}
    assert 2000 < len(through["down"]) < 2950


def test_an_outage_ends_with_the_line_that_had_it() -> None:
    outages = Outages(random.Random("tunnels"))
    outages.change(10.0, 2.0, S)
    begins_ns = next(when_ns for when_ns in range(S, 100 * S, 100 * MS) if outages.until_ns(when_ns))
    assert outages.until_ns(begins_ns) > begins_ns + 500 * MS

    outages.change(1000.0, 2.0, begins_ns + 100 * MS)

    assert outages.until_ns(begins_ns) == begins_ns + 100 * MS, "what was, was"
    assert not any(outages.until_ns(begins_ns + tenth * 100 * MS) for tenth in range(1, 50))


# --- datagrams: when they arrive --------------------------------------------------------------------------------------


def quantiles(values: Iterable[float], *shares: float) -> list[float]:
    ordered = sorted(values)
    return [ordered[int(share * len(ordered))] for share in shares]


@pytest.mark.parametrize("correlation", [0.0, 0.6])
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # At 10 %, 50 %, 90 % and 99 %, in units of the jitter.
        ("uniform", [-0.8, 0.0, 0.8, 0.98]),
        ("normal", [-1.2816, 0.0, 1.2816, 2.3263]),
        ("exponential", [0.10536, 0.69315, 2.30259, 4.60517]),
        ("pareto", [0.07149, 0.51984, 2.30887, 7.28318]),
    ],
)
def test_jitter_has_the_distribution_that_was_asked_for(kind: str, correlation: float, expected: list[float]) -> None:
    path = datagrams(latency_ms=500.0, jitter_ms=20.0, jitter=kind, jitter_correlation=correlation)
    found = [(delay_ns - 500 * MS) / (20 * MS) for delay_ns in delays(path, 40_000)]

    assert quantiles(found, 0.1, 0.5, 0.9, 0.99) == pytest.approx(expected, abs=0.05, rel=0.06)
    if kind in ("exponential", "pareto"):
        assert min(found) >= 0
        assert statistics.mean(found) == pytest.approx(1.0, rel=0.05)


def test_jitter_is_correlated_as_much_as_was_asked_for() -> None:
    for correlation in (0.0, 0.3, 0.9):
        path = datagrams(latency_ms=500.0, jitter_ms=20.0, jitter="normal", jitter_correlation=correlation)
        found = delays(path, 40_000)
        assert statistics.correlation(found[1:], found[:-1]) == pytest.approx(correlation, abs=0.02)


def test_packets_of_one_moment_meet_the_same_queues() -> None:
    """Otherwise the last of many would always be as late as the unluckiest of them."""
    path = datagrams(latency_ms=500.0, jitter_ms=100.0)
    for data in numbered(50):
        path.send(data, S)

    assert len({when_ns for when_ns, _ in path.receive(2 * S)}) == 1


def test_jitter_alone_overtakes_nothing() -> None:
    arrived = flood(datagrams(latency_ms=100.0, jitter_ms=90.0), 5000, 3 * MS)

    assert [place for place, _, _ in arrived] == list(range(5000))
    assert all(sent_ns + 10 * MS <= when_ns <= sent_ns + 190 * MS for _, sent_ns, when_ns in arrived)


def test_the_share_that_is_held_back_is_overtaken() -> None:
    count = 50_000
    path = datagrams(latency_ms=20.0, reorder=0.02, reorder_ms=10.0)
    arrived = flood(path, count, MS)

    newest, late = -1, 0
    for place, sent_ns, when_ns in arrived:
        assert when_ns - sent_ns == 20 * MS or 25 * MS <= when_ns - sent_ns <= 30 * MS
        late += place < newest
        newest = max(newest, place)
    assert near(late / count, 0.02, count)
    assert near(path.counts.reordered / count, 0.02, count)


def test_a_recorded_line_is_played_and_repeated() -> None:
    path = datagrams(latency_ms=999.0, latency_trace=((0.0, 20.0), (1.0, 30.0), (3.0, 10.0)))

    # The last sample holds as long as the one before it: two seconds.
    assert delays(path, 10, step_ns=S) == [1 * MS * ms for ms in (20, 30, 30, 10, 10, 20, 30, 30, 10, 10)]


# --- datagrams: what happens to their bytes ---------------------------------------------------------------------------


def test_the_share_that_is_doubled_arrives_twice_and_soon() -> None:
    count = 50_000
    path = datagrams(latency_ms=5.0, duplicate=0.03)
    arrived = flood(path, count, 4 * MS)

    twice = len(arrived) - len({place for place, _, _ in arrived})
    assert near(twice / count, 0.03, count)
    assert twice == path.counts.duplicated
    assert all(when_ns - sent_ns <= 6 * MS for _, sent_ns, when_ns in arrived)


def test_the_share_that_is_corrupted_has_one_to_three_bits_flipped() -> None:
    count = 20_000
    path = datagrams(corrupt=0.05)
    data = bytes(range(100))
    for place in range(count):
        path.send(data, S + place * MS)
    flipped = [
        sum((mine ^ theirs).bit_count() for mine, theirs in zip(data, arrived, strict=True))
        for _, arrived in path.receive(NEVER - 1)
    ]

    assert near(sum(map(bool, flipped)) / count, 0.05, count)
    assert set(flipped) == {0, 1, 2, 3}
    assert data == bytes(range(100)), "the sender's own bytes are left alone"


def test_what_does_not_fit_the_mtu_is_refused() -> None:
    path = datagrams(mtu_bytes=1500)
    path.send(bytes(1473), S)
    path.send(bytes(1472), S)

    assert [len(data) for _, data in path.receive(S)] == [1472]
    assert path.counts.oversize == 1


# --- datagrams: bandwidth ---------------------------------------------------------------------------------------------


def test_no_more_comes_out_than_the_bandwidth_lets_through() -> None:
    """1000 bytes and their headers, four times as many as fit, for ten seconds."""
    path = datagrams(latency_ms=10.0, bandwidth_kbit_s=1028 * 8, queue_ms=50.0)
    arrived = flood(path, 40_000, MS // 4, bytes_each=1000)

    in_time = [when_ns for _, _, when_ns in arrived if when_ns <= 11 * S + 10 * MS]
    assert len(in_time) == pytest.approx(10_000, abs=2)
    assert {after - before for before, after in pairwise(in_time)} == {MS}
    # A packet waits for those ahead of it, and then for itself.
    assert max(when_ns - sent_ns for _, sent_ns, when_ns in arrived) <= (10 + 50 + 1) * MS
    assert path.counts.overflowed == 40_000 - len(arrived)


def test_below_the_bandwidth_nothing_waits() -> None:
    path = datagrams(bandwidth_kbit_s=1028 * 8)

    assert {when_ns - sent_ns for _, sent_ns, when_ns in flood(path, 1000, MS)} == {MS}


def test_a_queue_may_be_given_in_bytes() -> None:
    path = datagrams(bandwidth_kbit_s=1028 * 8, queue_bytes=10 * 1028)
    for data in numbered(100, 1000):
        path.send(data, S)

    assert path.queued_bytes(S) == 11 * 1028
    assert path.queued_bytes(S + 3 * MS) == 8 * 1028
    assert len(path.receive(2 * S)) == 11
    assert path.queued_bytes(2 * S) == 0


def test_a_full_queue_drops_the_newest_or_the_oldest() -> None:
    tail = datagrams(bandwidth_kbit_s=1028 * 8, queue_ms=10.0, drop_policy="tail")
    head = datagrams(bandwidth_kbit_s=1028 * 8, queue_ms=10.0, drop_policy="head")
    # The first has begun to leave, and cannot be taken back.
    for path, kept in ((tail, list(range(11))), (head, [0, *range(20, 30)])):
        for data in numbered(30, 1000):
            path.send(data, S)
        arrived = path.receive(2 * S)

        assert [number(data) for _, data in arrived] == kept
        assert [when_ns for when_ns, _ in arrived] == [S + place * MS for place in range(1, 12)]
        assert path.counts.overflowed == 19


def test_what_has_begun_to_leave_is_not_dropped_any_more() -> None:
    """The line never pauses while the oldest are dropped, and nobody is dropped who has arrived."""
    path = datagrams(bandwidth_kbit_s=1028 * 8, queue_ms=10.0, drop_policy="head")
    arrived = []
    for place, data in enumerate(numbered(5000, 1000)):
        now_ns = S + place * MS * 2 // 3
        arrived += path.receive(now_ns)
        path.send(data, now_ns)
    arrived += path.receive(60 * S)

    assert {after - before for (before, _), (after, _) in pairwise(arrived)} == {MS}
    places = [number(data) for _, data in arrived]
    assert places == sorted(places)
    assert path.counts.overflowed + path.counts.delivered == 5000
    late = [when_ns - (S + place * MS * 2 // 3) for (when_ns, _), place in zip(arrived, places, strict=True)]
    assert min(late) >= MS and max(late) <= 12 * MS


def test_early_drops_begin_at_half_a_queue() -> None:
    def overflowed(load: float, policy: str) -> int:
        path = datagrams(bandwidth_kbit_s=1028 * 8, queue_ms=100.0, drop_policy=policy)
        flood(path, 20_000, round(MS / load))
        return path.counts.overflowed

    assert overflowed(0.9, "random_early") == 0
    # The queue settles where as many are dropped as are too many: a sixth, a sixth of the way from its half to its end.
    early = datagrams(bandwidth_kbit_s=1028 * 8, queue_ms=100.0, drop_policy="random_early")
    late = [when_ns - sent_ns for _, sent_ns, when_ns in flood(early, 20_000, round(MS / 1.2))][2000:]
    assert statistics.mean(late) / MS == pytest.approx(50 + 50 / 6 + 1, abs=1.5)
    assert overflowed(1.2, "random_early") == pytest.approx(overflowed(1.2, "tail"), rel=0.05)


# --- datagrams: cut, healed, changed ----------------------------------------------------------------------------------


def test_a_cut_loses_what_is_sent_and_what_arrives_in_it() -> None:
    path = datagrams(latency_ms=100.0)
    path.send(b"before", S)
    path.send(b"under way", S + 50 * MS)
    path.cut(S + 120 * MS)
    assert path.is_cut
    path.send(b"meanwhile", S + 130 * MS)

    assert path.receive(S + 200 * MS) == [(S + 100 * MS, b"before")]
    path.heal(S + 300 * MS)
    path.send(b"after", S + 300 * MS)
    assert path.receive(S + 400 * MS) == [(S + 400 * MS, b"after")]
    assert (path.counts.lost, path.counts.outage_lost) == (2, 2)


def test_what_a_short_cut_does_not_meet_arrives() -> None:
    path = datagrams(latency_ms=100.0)
    path.send(b"x", S)
    path.cut(S + 10 * MS)
    path.heal(S + 20 * MS)

    assert path.receive(S + 100 * MS) == [(S + 100 * MS, b"x")]


def test_a_changed_line_holds_from_then_on() -> None:
    path = datagrams(latency_ms=500.0)
    path.send(b"slow", S)
    path.change(Direction(latency_ms=10.0), S + 100 * MS)
    path.send(b"fast", S + 100 * MS)

    assert path.receive(2 * S) == [(S + 110 * MS, b"fast"), (S + 500 * MS, b"slow")]


# --- streams ----------------------------------------------------------------------------------------------------------


def lose_next(path: StreamPath, data: bytes, now_ns: int, again: Direction) -> None:
    """Send something whose first segments are lost."""
    path.change(Direction(**{name: getattr(again, name) for name in again.__struct_fields__} | {"loss": 1.0}), now_ns)
    assert path.send(data, now_ns)
    path.change(again, now_ns)


def test_a_stream_on_a_perfect_line_delivers_at_once() -> None:
    path = stream()
    assert path.send(b"hello", 5)

    assert path.next_ns == 5
    assert path.receive(5) == [(5, b"hello")]
    assert path.next_ns == NEVER


def test_one_lost_segment_holds_up_all_behind_it() -> None:
    line = Direction(latency_ms=50.0)
    path = StreamPath(line, random.Random("x"))
    lose_next(path, b"0", S, line)
    for place in range(1, 10):
        path.send(str(place).encode(), S + place * 10 * MS)

    # The third segment behind it arrives at 80 ms and its news is back at 130: sent again, it is there at 180.
    assert path.next_ns == S + 180 * MS
    assert path.receive(S + 179 * MS) == []
    arrived = path.receive(S + 300 * MS)
    assert [data for _, data in arrived] == [str(place).encode() for place in range(10)]
    assert {when_ns for when_ns, _ in arrived} == {S + 180 * MS}
    assert path.counts.lost == 1


def test_a_lost_segment_that_nothing_follows_waits_for_the_timeout() -> None:
    line = Direction(latency_ms=50.0)
    path = StreamPath(line, random.Random("x"), return_latency_ms=30.0)
    lose_next(path, b"0", S, line)

    # A round trip and 200 ms after it was sent, and its way.
    assert path.next_ns == S + (80 + 200 + 50) * MS


def test_two_followers_are_not_enough() -> None:
    line = Direction(latency_ms=50.0)
    path = StreamPath(line, random.Random("x"))
    lose_next(path, b"0", S, line)
    path.send(b"1", S + 10 * MS)
    path.send(b"2", S + 20 * MS)
    assert path.next_ns == S + 350 * MS

    path.send(b"3", S + 30 * MS)
    assert path.next_ns == S + 180 * MS


def test_segments_of_one_send_follow_each_other() -> None:
    line = Direction(latency_ms=50.0)
    path = StreamPath(line, random.Random("x"))
    path.change(Direction(latency_ms=50.0, loss=0.999999), S)
    path.send(bytes(20_000), S)
    before_ns = path.next_ns
    path.change(line, S)

    assert path.next_ns < before_ns
    [(_, data)] = path.receive(10 * S)
    assert len(data) == 20_000


def test_a_segment_that_is_lost_again_and_again_waits_twice_as_long_each_time() -> None:
    for wait_ms, there_ms in ((1, 350), (301, 950), (901, 2150), (2101, 4550)):
        line = Direction(latency_ms=50.0)
        path = StreamPath(line, random.Random("x"))
        path.change(Direction(latency_ms=50.0, loss=1.0), S)
        path.send(b"0", S)
        path.change(line, S + wait_ms * MS)
        # Sent again after 300 ms, then after 600 more, 1200, 2400.
        assert path.next_ns == S + there_ms * MS, wait_ms


def test_a_line_that_is_dead_delivers_nothing_until_it_is_another() -> None:
    path = stream(loss=1.0)
    sent = numbered(50)
    for data in sent:
        path.send(data, S)
    assert path.next_ns == NEVER

    path.change(Direction(latency_ms=10.0), 5 * S)
    assert [data for _, data in path.receive(60 * S)] == sent


def test_losses_of_a_stream_show_as_delay_in_their_share() -> None:
    """Each has a minute for itself, and its timeouts are 300 ms, then 600 more, then 1200 more."""
    path = stream(latency_ms=50.0, loss=0.02)
    count, step_ns = 50_000, 60 * S
    waits = []
    for place in range(count):
        now_ns = S + place * step_ns
        path.send(b"x", now_ns)
        [(when_ns, _)] = path.receive(now_ns + step_ns - 1)
        waits.append((when_ns - now_ns) // MS)

    assert set(waits) <= {50, 350, 950, 2150, 4550}
    late = [wait for wait in waits if wait > 50]
    assert near(len(late) / count, 0.02, count)
    assert near(sum(wait > 350 for wait in late) / len(late), 0.02, len(late))
    assert path.counts.lost == len(late)


def test_corruption_is_loss_and_copies_are_nothing_on_a_stream() -> None:
    path = stream(corrupt=0.05, duplicate=0.3, latency_ms=10.0)
    sent = numbered(5000)
    for place, data in enumerate(sent):
        path.send(data, S + place * MS)

    assert [data for _, data in path.receive(NEVER - 1)] == sent
    assert path.counts.lost == pytest.approx(250, rel=0.3)
    assert path.counts.corrupted == path.counts.duplicated == 0


def test_a_cut_stream_goes_on_where_it_was_after_a_timeout() -> None:
    path = stream(latency_ms=50.0)
    path.send(b"0", S)
    path.cut(S + 10 * MS)
    path.send(b"1", S + 100 * MS)
    assert path.next_ns == NEVER and path.receive(3 * S) == []

    path.heal(S + 1000 * MS)
    # The oldest is tried again 300, 900, 2100 ms after the cut: the third time it comes through.
    assert path.receive(S + 2159 * MS) == []
    assert path.receive(S + 2160 * MS) == [(S + 2160 * MS, b"0"), (S + 2160 * MS, b"1")]


def test_an_outage_stops_a_stream_until_the_first_timeout_after_it() -> None:
    path = stream(latency_ms=20.0, outage_every_s=10.0, outage_s=2.0)
    sent = numbered(6000)
    stalls = []
    arrived = []
    for place, data in enumerate(sent):
        now_ns = S + place * 20 * MS
        path.send(data, now_ns)
        found = path.receive(now_ns)
        arrived += found
    arrived += path.receive(NEVER - 1)
    stalls = [after - before for (before, _), (after, _) in pairwise(arrived) if after - before > S]

    assert [data for _, data in arrived] == sent
    assert 6 <= len(stalls) <= 20, "one for each outage of two minutes"
    assert path.counts.outage_lost == path.counts.lost > 0


def test_a_stream_is_no_faster_than_its_bandwidth() -> None:
    path = stream(latency_ms=1.0, bandwidth_kbit_s=(1460 + 40) * 8)
    for place in range(100):
        assert path.send(bytes(1460), S)
        assert path.queued_bytes(S) == (place + 1) * 1460

    assert [when_ns for when_ns, _ in path.receive(2 * S)] == [S + (1 + place) * MS for place in range(1, 101)]


def test_a_stream_begins_slowly_and_doubles_in_a_round_trip() -> None:
    """Ten segments, then twice as many as were acknowledged: as TCP has it, whatever the line could carry."""
    path = stream(latency_ms=50.0)
    for data in numbered(150, 1460):
        assert path.send(data, S)

    arrived = [(when_ns - S) // MS for when_ns, _ in path.receive(2 * S)]
    assert arrived == [50] * 10 + [150] * 20 + [250] * 40 + [350] * 80


def test_one_large_send_takes_as_many_round_trips_as_many_small_ones() -> None:
    small, large = stream(latency_ms=50.0), stream(latency_ms=50.0)
    for data in numbered(150, 1460):
        small.send(data, S)
    large.send(bytes(150 * 1460), S)

    assert large.next_ns == small.receive(2 * S)[-1][0] == S + 350 * MS


def test_a_stream_that_does_not_use_its_window_is_never_held_up_by_it() -> None:
    """A game sends a little in every tick; what it does not use does not grow either."""
    path = stream(latency_ms=50.0)
    for tick in range(1000):
        now_ns = S + tick * 16 * MS
        path.send(bytes(1200), now_ns)
    assert {when_ns - S - tick * 16 * MS for tick, (when_ns, _) in enumerate(path.receive(60 * S))} == {50 * MS}


def test_losses_bound_what_a_stream_carries() -> None:
    """By the law of the square root: four times the loss, half the throughput; and twice the round trip, half of it."""

    def bytes_s(latency_ms: float, loss: float) -> float:
        path = stream(latency_ms=latency_ms, loss=loss, buffer_bytes=20_000)
        now_ns, received = S, 0
        while now_ns < 300 * S:
            while path.send(bytes(1460), now_ns):
                pass
            now_ns = max(now_ns + 1, min(path.room_ns(now_ns), path.next_ns))
            received += sum(len(data) for _, data in path.receive(now_ns))
        return received / 299

    base = bytes_s(25.0, 0.005)
    assert 400_000 < base < 900_000
    assert bytes_s(25.0, 0.02) / base == pytest.approx(0.5, abs=0.12)
    assert bytes_s(50.0, 0.005) / base == pytest.approx(0.5, abs=0.1)


def test_losses_of_one_round_trip_shrink_the_window_once() -> None:
    line = Direction(latency_ms=50.0)
    for losses in (1, 3):
        path = StreamPath(line, random.Random("x"))
        for data in numbered(losses):
            lose_next(path, data, S, line)
        for data in numbered(20, 1460):
            path.send(data, 10 * S)

        arrived = [(when_ns - 10 * S) // MS for when_ns, data in path.receive(20 * S) if len(data) == 1460]
        assert arrived[:9] == [50] * 7 + [150] * 2, losses


def test_after_a_cut_a_stream_begins_with_one_segment() -> None:
    path = stream(latency_ms=50.0)
    path.cut(S)
    for data in numbered(15, 1460):
        path.send(data, S)
    path.heal(S + MS)

    # The timeout after 300 ms; then twice as many each time up to half of what it was, five, and one more from there.
    arrived = [(when_ns - S) // MS for when_ns, _ in path.receive(2 * S)]
    assert arrived == [350] + [450] * 2 + [550] * 4 + [650] * 5 + [750] * 3


def test_a_full_buffer_takes_nothing_more_until_half_of_it_has_left() -> None:
    path = stream(bandwidth_kbit_s=(1460 + 40) * 8, buffer_bytes=1460 * 20)
    taken = 0
    while path.send(bytes(1460), S):
        taken += 1
    assert taken == 20

    room_ns = path.room_ns(S)
    assert room_ns == S + 10 * MS
    path.receive(room_ns)
    more = 0
    while path.send(bytes(1460), room_ns):
        more += 1
    assert more == 10
    assert len(path.receive(2 * S)) == 20


def test_what_does_not_fit_beside_the_rest_is_told_when_the_rest_has_left() -> None:
    """Otherwise its sender would ask again and again in one and the same moment."""
    path = stream(bandwidth_kbit_s=(1460 + 40) * 8, buffer_bytes=1460 * 10)
    for _ in range(4):
        assert path.send(bytes(1460), S)
    assert not path.send(bytes(1460 * 7), S)

    assert path.room_ns(S) == S + 4 * MS
    assert path.send(bytes(1460 * 7), S + 4 * MS)


def test_an_empty_buffer_takes_one_send_of_any_size() -> None:
    """A frame above the buffer would never get through otherwise."""
    path = stream(bandwidth_kbit_s=8000, buffer_bytes=1000)
    assert path.send(bytes(5000), S)
    assert not path.send(b"x", S)

    assert path.send(b"x", path.room_ns(S))


def test_a_reader_that_does_not_read_stops_its_writer() -> None:
    path = stream(latency_ms=5.0)
    taken, now_ns = 0, S
    while path.send(bytes(1000), now_ns):
        taken += 1000
        now_ns += MS
    assert UNREAD_BYTES < taken < UNREAD_BYTES + 20_000
    assert now_ns <= path.room_ns(now_ns)

    assert sum(len(data) for _, data in path.receive(now_ns)) > UNREAD_BYTES
    assert path.send(b"x", now_ns)


def test_no_more_is_on_the_way_than_a_system_would_hold() -> None:
    path = stream(latency_ms=60_000.0, buffer_bytes=1 << 30)
    taken = 0
    while path.send(bytes(100_000), S):
        taken += 100_000
    assert WINDOW_BYTES - 100_000 < taken <= WINDOW_BYTES


def test_a_cut_stream_takes_what_its_buffer_holds() -> None:
    path = stream(buffer_bytes=10_000)
    path.cut(S)
    sent = []
    for data in numbered(100, 1000):
        if not path.send(data, S + MS):
            break
        sent.append(data)
    assert len(sent) == 10
    assert path.queued_bytes(S + MS) == 10_000
    assert S + MS < path.room_ns(S + MS) < 2 * S, "nobody knows when it heals: ask again"

    path.heal(2 * S)
    assert [data for _, data in path.receive(60 * S)] == sent
    assert path.queued_bytes(60 * S) == 0


def test_the_end_of_a_stream_comes_behind_its_bytes() -> None:
    path = stream(latency_ms=50.0)
    path.send(b"last", S)
    path.close(S + MS)
    path.close(S + 2 * MS)
    with pytest.raises(ClosedError):
        path.send(b"more", S + MS)

    assert not path.ended(2 * S), "the reader has not got the bytes yet"
    assert path.receive(S + 50 * MS) == [(S + 50 * MS, b"last")]
    assert not path.ended(S + 50 * MS)
    assert path.next_ns == S + 51 * MS
    assert path.ended(S + 51 * MS)
    assert path.receive(S + 51 * MS) == [] and path.next_ns == NEVER
    assert path.ended(S + 51 * MS)


def test_an_aborted_stream_delivers_nothing_any_more() -> None:
    path = stream(latency_ms=50.0, bandwidth_kbit_s=100)
    path.send(bytes(5000), S)
    path.abort()

    assert path.send(b"x", S)
    assert (path.next_ns, path.receive(60 * S), path.ended(60 * S), path.queued_bytes(S)) == (NEVER, [], False, 0)


def test_a_faster_line_takes_over_what_has_not_left() -> None:
    path = stream(bandwidth_kbit_s=100)
    for data in numbered(100, 1000):
        path.send(data, S)
    path.change(Direction(latency_ms=10.0), S + 200 * MS)

    arrived = path.receive(S + 300 * MS)
    assert [number(data) for _, data in arrived] == list(range(100))
    assert path.queued_bytes(S + 300 * MS) == 0


def test_a_held_back_segment_holds_up_a_stream() -> None:
    path = stream(latency_ms=10.0, reorder=0.1, reorder_ms=30.0)
    sent = numbered(2000)
    for place, data in enumerate(sent):
        path.send(data, S + place * MS)
    arrived = path.receive(NEVER - 1)

    assert [data for _, data in arrived] == sent
    late = [when_ns - (S + place * MS) for place, (when_ns, _) in enumerate(arrived)]
    assert min(late) == 10 * MS and 25 * MS <= max(late) <= 40 * MS


def test_the_two_ways_of_a_connection_have_their_own_chance_and_tunnels_in_common() -> None:
    line = Profile(
        name="x",
        down=Direction(latency_ms=10.0, loss=0.1, outage_every_s=10.0, outage_s=2.0),
        up=Direction(latency_ms=20.0, loss=0.1, outage_every_s=10.0, outage_s=2.0),
    )
    down, up = stream_paths(line, "7/a")
    late: list[list[bool]] = [[], []]
    for second in range(200):
        now_ns = (second + 1) * S
        for path, found in ((down, late[0]), (up, late[1])):
            path.send(b"x", now_ns)
            path.receive(now_ns)
            found.append(path.queued_bytes(now_ns) > 0)

    assert late[0] == late[1], "a tunnel holds up both"
    assert 10 < sum(late[0]) < 120
    assert down.counts.lost - down.counts.outage_lost != up.counts.lost - up.counts.outage_lost


def test_a_changed_way_back_changes_the_timeout() -> None:
    path = stream(latency_ms=50.0, back_ms=50.0)
    line = Direction(latency_ms=50.0)
    path.change(line, S, return_latency_ms=500.0)
    lose_next(path, b"0", S, line)

    assert path.next_ns == S + (50 + 500 + 200 + 50) * MS


# --- always -----------------------------------------------------------------------------------------------------------

shares = st.sampled_from([0.0, 0.01, 0.2, 0.9])
lines = st.builds(
    Direction,
    latency_ms=st.sampled_from([20.0, 300.0]),
    jitter_ms=st.sampled_from([0.0, 15.0]),
    jitter=st.sampled_from(["uniform", "normal", "pareto", "exponential"]),
    jitter_correlation=st.sampled_from([0.0, 0.8]),
    loss=shares,
    burst_begins=st.sampled_from([0.0, 0.05]),
    burst_ends=st.sampled_from([0.1, 1.0]),
    duplicate=shares,
    reorder=shares,
    reorder_ms=st.just(20.0),
    corrupt=st.sampled_from([0.0, 0.1]),
    bandwidth_kbit_s=st.sampled_from([None, 64.0, 5000.0]),
    queue_ms=st.sampled_from([20.0, 500.0]),
    drop_policy=st.sampled_from(["tail", "head", "random_early"]),
    mtu_bytes=st.sampled_from([576, 1500]),
    outage_every_s=st.just(3.0),
    outage_s=st.just(0.5),
) | st.sampled_from([profile(name).down for name in profile_names()])
moves = st.tuples(
    st.sampled_from(["send", "send", "send", "send", "receive", "cut", "heal", "change", "wait"]),
    st.integers(0, 400 * MS),
    st.integers(0, 1 << 32),
)
played = st.lists(moves, max_size=60)


@settings(max_examples=150, deadline=None)
@given(lines, lines, st.integers(0, 1 << 32), played)
def test_a_stream_delivers_everything_once_and_in_order_whatever_happens(
    line: Direction, other: Direction, seed: int, played: list[tuple[str, int, int]]
) -> None:
    path = StreamPath(line, random.Random(seed), buffer_bytes=50_000)
    now_ns, last_ns, sent, arrived = S, 0, b"", b""

    def receive() -> None:
        nonlocal last_ns, arrived
        next_ns = path.next_ns
        found = path.receive(now_ns)
        assert bool(found) <= (next_ns <= now_ns)
        for when_ns, data in found:
            assert last_ns <= when_ns <= now_ns
            last_ns = when_ns
            arrived += data
        assert path.next_ns > now_ns

    for move, wait_ns, chance in played:
        now_ns += wait_ns
        match move:
            case "send":
                data = chance.to_bytes(8, "little") * (1 + chance % 1000)
                if path.send(data, now_ns):
                    sent += data
                else:
                    assert path.room_ns(now_ns) > now_ns
            case "receive":
                receive()
            case "cut":
                path.cut(now_ns)
            case "heal":
                path.heal(now_ns)
            case "change":
                path.change(other if chance % 2 else line, now_ns)
        assert sent.startswith(arrived)
    path.heal(now_ns)
    path.change(Direction(latency_ms=5.0), now_ns)
    path.close(now_ns)
    now_ns += 1000 * S
    receive()

    assert arrived == sent
    assert path.ended(now_ns)
    assert path.queued_bytes(now_ns) == 0 and path.next_ns == NEVER
    assert path.counts.bytes_sent == path.counts.bytes_delivered == len(sent)


@settings(max_examples=100, deadline=None)
@given(lines, lines, st.integers(0, 1 << 32), played)
def test_every_datagram_is_accounted_for_whatever_happens(
    line: Direction, other: Direction, seed: int, played: list[tuple[str, int, int]]
) -> None:
    path = DatagramPath(line, random.Random(seed))
    now_ns, last_ns, sent, arrived = S, 0, {}, []
    for place, (move, wait_ns, chance) in enumerate(played):
        now_ns += wait_ns
        match move:
            case "send":
                for copy in range(chance % 8):
                    data = (place * 8 + copy).to_bytes(8, "little") + bytes(chance % 1500)
                    sent[data] = now_ns
                    path.send(data, now_ns)
            case "receive":
                for when_ns, data in path.receive(now_ns):
                    assert last_ns <= when_ns <= now_ns
                    last_ns = when_ns
                    assert sent.get(data, 0) <= when_ns
                    arrived.append(data)
                assert path.next_ns > now_ns
            case "cut":
                path.cut(now_ns)
            case "heal":
                path.heal(now_ns)
            case "change":
                path.change(other if chance % 2 else line, now_ns)
    path.heal(now_ns)
    arrived += [data for _, data in path.receive(NEVER - 1)]

    counts = path.counts
    assert counts.sent == len(sent)
    assert counts.delivered == len(arrived)
    assert counts.sent + counts.duplicated == counts.delivered + counts.lost + counts.overflowed + counts.oversize
    assert sum(data not in sent for data in arrived) <= 2 * counts.corrupted


@pytest.mark.parametrize("name", profile_names())
def test_equal_seeds_give_equal_lines_and_others_give_others(name: str) -> None:
    def course(seed: str) -> list[tuple[int, bytes]]:
        path = DatagramPath(profile(name).down, random.Random(seed))
        for place, data in enumerate(numbered(3000, 200)):
            path.send(data, S + place * 5 * MS)
        return path.receive(NEVER - 1)

    assert course("7/a") == course("7/a")
    assert (course("7/a") == course("7/b")) == (name == "perfect")


def test_lines_do_not_depend_on_the_hash_seed_of_the_process() -> None:
    program = """
import hashlib, random
from ecsnet.sim.link import NEVER, DatagramPath, StreamPath
from ecsnet.sim.profile import profile, profile_names
seen = hashlib.sha256()
for name in profile_names():
    for kind in (DatagramPath, StreamPath):
        path = kind(profile(name).up, random.Random(f"7/{name}"))
        for place in range(3000):
            path.send(bytes(200), 10**9 + place * 5_000_000)
        seen.update(repr([when_ns for when_ns, _ in path.receive(NEVER - 1)]).encode())
        seen.update(repr(path.counts.as_dict()).encode())
print(seen.hexdigest())
"""
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }

    assert len(found) == 1
