"""Channels: whatever becomes of datagrams, the lane delivers each frame once and in order; nobody holds too much."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecsnet.errors import LimitExceededError, RemoteProtocolError
from ecsnet.limits import (
    DATAGRAM_ACK_DELAY_NS,
    DATAGRAM_BYTES_MAX,
    DATAGRAM_REPLAY_WINDOW,
    DATAGRAMS_UNSENT_MAX,
    FLIGHT_BYTES_FIRST,
    FLIGHT_BYTES_MIN,
    LANE_BACKLOG_BYTES,
    LANE_FRAGMENTS_EARLY_MAX,
    LANE_WINDOW_BYTES,
    MESSAGE_TO_CLIENT_BYTES_MAX,
    NS_PER_MS,
    NS_PER_S,
    RETRANSMIT_NS_FIRST,
    RETRANSMIT_NS_MAX,
)
from ecsnet.session.channel import Arrived, Channel
from ecsnet.wire.datagrams import LANE, fragment, fragment_offset, pack, reset, unpack_untrusted
from ecsnet.wire.framing import header
from ecsnet.wire.messages import Kind

TICK_NS = 10 * NS_PER_MS


def frame(kind: int, size: int, mark: int = 0) -> bytes:
    """A frame of `size` bytes of payload, told from others by its mark."""
    return header(kind, size) + mark.to_bytes(8, "little") * (size // 8)


def command(mark: int, size: int = 64) -> bytes:
    return frame(Kind.COMMAND, size, mark)


def channel(payload_bytes_max: int = MESSAGE_TO_CLIENT_BYTES_MAX) -> Channel:
    return Channel(payload_bytes_max=payload_bytes_max, now_ns=0)


class Line:
    """Two channels, and what becomes of each datagram between them: the ticks that its copies are late by."""

    def __init__(self, fate: Callable[[], list[int]] = lambda: [0], latency_ticks: int = 1) -> None:
        self.ends = (channel(), channel())
        self.arrived: tuple[list[Arrived], list[Arrived]] = ([], [])
        self.fate = fate
        self.latency_ticks = latency_ticks
        self.tick = 0
        self.is_cut = False
        self._under_way: list[tuple[int, int, int, bytes]] = []
        self._sent = 0

    @property
    def now_ns(self) -> int:
        return self.tick * TICK_NS

    def step(self, ticks: int = 1) -> None:
        for _ in range(ticks):
            self.tick += 1
            due = sorted(one for one in self._under_way if one[0] <= self.tick)
            self._under_way = [one for one in self._under_way if one[0] > self.tick]
            for _, _, to, data in due:
                self.arrived[to].extend(self.ends[to].receive_untrusted(data, self.now_ns))
            for number, end in enumerate(self.ends):
                end.handle_timeout(self.now_ns)
                for data in end.datagrams_to_send(self.now_ns):
                    assert len(data) <= DATAGRAM_BYTES_MAX
                    if self.is_cut:
                        continue
                    for late in self.fate():
                        self._sent += 1
                        self._under_way.append((self.tick + self.latency_ticks + late, self._sent, 1 - number, data))

    def is_quiet(self) -> bool:
        return all(end.is_drained for end in self.ends)


def lossy(seed: int, loss: float, late: int = 4, twice: float = 0.1) -> Callable[[], list[int]]:
    chance = random.Random(seed)

    def fate() -> list[int]:
        if chance.random() < loss:
            return []
        copies = [chance.randrange(late + 1)]
        if chance.random() < twice:
            copies.append(chance.randrange(2 * late + 1))
        return copies

    return fate


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    loss=st.sampled_from([0.0, 0.02, 0.2, 0.5]),
    sizes=st.lists(st.sampled_from([0, 8, 64, 1160, 1168, 1176, 5000 * 8]), min_size=1, max_size=40),
    back=st.integers(0, 20),
)
def test_the_lane_delivers_each_frame_once_and_in_order(seed: int, loss: float, sizes: list[int], back: int) -> None:
    """Lost, doubled, late, out of order, in both directions at once."""
    line = Line(lossy(seed, loss))
    chance = random.Random(seed)
    sent: tuple[list[bytes], list[bytes]] = ([], [])
    for mark, size in enumerate(sizes):
        sent[1].append(command(mark, size))
    for mark in range(back):
        sent[0].append(command(mark))
    waiting = (list(sent[0]), list(sent[1]))

    for _ in range(6000):
        for to in (0, 1):
            if waiting[to] and line.ends[1 - to].has_room and chance.random() < 0.5:
                line.ends[1 - to].send(waiting[to].pop(0), reliable=True)
        line.step()
        if not any(waiting) and line.is_quiet():
            break

    for to in (0, 1):
        assert [header(one.kind, len(one.payload)) + one.payload for one in line.arrived[to]] == sent[to]
        assert all(one.reliable for one in line.arrived[to])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 32), loss=st.sampled_from([0.0, 0.1, 0.4]))
def test_what_goes_unreliably_comes_once_or_not_at_all(seed: int, loss: float) -> None:
    line = Line(lossy(seed, loss, twice=0.5))
    for mark in range(1, 101):
        line.ends[0].send(frame(Kind.DELTA_SYNC, 400, mark), reliable=False)
        line.step()
    line.step(20)
    marks = [int.from_bytes(one.payload[:8], "little") for one in line.arrived[1]]
    assert len(set(marks)) == len(marks), "a copy is not a second frame"
    assert set(marks) <= set(range(1, 101))
    if not loss:
        assert len(marks) == 100
    assert not any(one.reliable for one in line.arrived[1])


def test_frames_that_fit_share_a_datagram() -> None:
    end = channel()
    end.send(command(1), reliable=True)
    end.send(frame(Kind.ACK, 40), reliable=False)
    end.send(frame(Kind.PING, 24), reliable=False)
    [data] = end.datagrams_to_send(0)
    assert [kind for kind, _ in unpack_untrusted(data).frames] == [240, Kind.ACK, Kind.PING]


def test_a_lost_fragment_is_sent_again_after_three_newer_ones_were_acked() -> None:
    line = Line(latency_ticks=0)
    line.step()
    line.ends[0].send(command(7), reliable=True)
    line.ends[0].datagrams_to_send(line.now_ns)  # lost
    for mark in range(3):
        line.ends[0].send(frame(Kind.PING, 24, mark), reliable=False)
        line.step()
    line.step(6)
    assert [one.kind for one in line.arrived[1]] == [Kind.PING, Kind.PING, Kind.PING, Kind.COMMAND]
    statistics = line.ends[0].statistics()
    assert (statistics.lost, statistics.fragments_sent_again) == (1, 1)


def test_a_lost_fragment_with_nothing_behind_it_is_sent_again_after_a_while() -> None:
    end = channel()
    end.send(command(7), reliable=True)
    [first] = end.datagrams_to_send(0)
    assert end.next_timeout_ns() == RETRANSMIT_NS_FIRST
    end.handle_timeout(RETRANSMIT_NS_FIRST - 1)
    assert end.datagrams_to_send(RETRANSMIT_NS_FIRST - 1) == []
    end.handle_timeout(RETRANSMIT_NS_FIRST)
    [again] = end.datagrams_to_send(RETRANSMIT_NS_FIRST)
    assert unpack_untrusted(again).frames == unpack_untrusted(first).frames
    assert unpack_untrusted(again).sequence == 2, "a datagram is new each time"


def test_a_fragment_that_was_given_up_too_soon_is_sent_once_more_and_taken_once() -> None:
    """The ack was late, not the fragment."""
    here, there = channel(), channel()
    here.send(command(7), reliable=True)
    [data] = here.datagrams_to_send(0)
    assert len(there.receive_untrusted(data, 0)) == 1
    here.handle_timeout(RETRANSMIT_NS_FIRST)
    [again] = here.datagrams_to_send(RETRANSMIT_NS_FIRST)
    assert there.receive_untrusted(again, RETRANSMIT_NS_FIRST) == []
    [ack] = there.datagrams_to_send(RETRANSMIT_NS_FIRST)
    here.receive_untrusted(ack, RETRANSMIT_NS_FIRST + NS_PER_MS)
    assert here.is_drained
    here.send(frame(Kind.PING, 24), reliable=False)
    assert len(here.datagrams_to_send(NS_PER_S)) == 1


def test_during_a_partition_less_and_less_is_said_and_all_of_it_arrives_afterwards() -> None:
    line = Line()
    line.ends[0].send(command(0), reliable=True)
    line.step(10)
    line.is_cut = True
    for mark in range(1, 51):
        line.ends[0].send(command(mark), reliable=True)
        line.step()
    before = line.ends[0].statistics().datagrams_sent
    line.step(30 * 100)
    sent = line.ends[0].statistics().datagrams_sent - before
    assert sent <= 31 * NS_PER_S // RETRANSMIT_NS_MAX * (FLIGHT_BYTES_MIN // 64), "bounded by the clock, not by ticks"

    line.is_cut = False
    line.step(RETRANSMIT_NS_MAX // TICK_NS + 20)
    assert [int.from_bytes(one.payload[:8], "little") for one in line.arrived[1]] == list(range(51))


def test_acks_alone_are_not_acked() -> None:
    """Or two ends at rest would go on for ever."""
    line = Line()
    line.ends[0].send(command(1), reliable=True)
    line.step(20)
    before = [end.statistics().datagrams_sent for end in line.ends]
    line.step(1000)
    assert [end.statistics().datagrams_sent for end in line.ends] == before
    assert [end.next_timeout_ns() for end in line.ends] == [None, None]


def test_an_ack_waits_a_little_for_company() -> None:
    here, there = channel(), channel()
    here.send(command(1), reliable=True)
    [data] = here.datagrams_to_send(0)
    there.receive_untrusted(data, 1000)
    assert there.datagrams_to_send(1000) == []
    assert there.next_timeout_ns() == 1000 + DATAGRAM_ACK_DELAY_NS
    [ack] = there.datagrams_to_send(1000 + DATAGRAM_ACK_DELAY_NS)
    assert unpack_untrusted(ack)[1:] == (1, 0, [])
    here.receive_untrusted(ack, 60 * NS_PER_MS)
    assert here.is_drained
    assert here.rtt_ns == 60 * NS_PER_MS


def test_a_burst_longer_than_an_ack_can_name_is_acked_in_pieces() -> None:
    """Or its beginning would look lost."""
    here, there = channel(), channel()
    for mark in range(60):
        here.send(frame(Kind.DELTA_SYNC, 1000, mark), reliable=False)
    for data in here.datagrams_to_send(0):
        there.receive_untrusted(data, 0)
    for data in there.datagrams_to_send(DATAGRAM_ACK_DELAY_NS):
        here.receive_untrusted(data, DATAGRAM_ACK_DELAY_NS)
    statistics = here.statistics()
    assert (statistics.acked, statistics.lost, statistics.flight_bytes) == (60, 0, 0)


# --- how much may be under way ----------------------------------------------------------------------------------------


def busy(line: Line, ticks: int) -> int:
    """Keep the lane full for a while; how many bytes arrived."""
    before = sum(len(one.payload) for one in line.arrived[1])
    for _ in range(ticks):
        while line.ends[0].has_room and line.ends[0].backlog_bytes < LANE_BACKLOG_BYTES // 2:
            line.ends[0].send(command(1, 8000), reliable=True)
        line.step()
    return sum(len(one.payload) for one in line.arrived[1]) - before


def test_a_good_path_is_filled_and_a_few_losses_are_not_taken_for_a_queue() -> None:
    good = Line(latency_ticks=3)
    busy(good, 100)
    assert good.ends[0].statistics().flight_bytes_max == LANE_WINDOW_BYTES
    airy = Line(lossy(1, 0.02, late=0, twice=0), latency_ticks=3)
    busy(airy, 200)
    assert airy.ends[0].statistics().flight_bytes_max > LANE_WINDOW_BYTES // 4


def test_a_path_that_loses_much_is_spared() -> None:
    line = Line(lossy(2, 0.3, late=0, twice=0), latency_ticks=3)
    busy(line, 200)
    assert line.ends[0].statistics().flight_bytes_max < 2 * FLIGHT_BYTES_FIRST


def test_a_queue_that_grows_is_noticed_before_it_loses() -> None:
    line = Line(latency_ticks=2)
    busy(line, 40)
    assert line.ends[0].statistics().flight_bytes_max == LANE_WINDOW_BYTES
    line.latency_ticks = 20
    busy(line, 400)
    assert line.ends[0].statistics().lost == 0 or line.ends[0].statistics().flight_bytes_max < LANE_WINDOW_BYTES
    assert line.ends[0].statistics().flight_bytes_max < LANE_WINDOW_BYTES // 2


def test_there_is_no_room_while_the_path_is_full_and_again_when_it_has_been_silent() -> None:
    end = channel()
    now_ns = 0
    for _ in range(FLIGHT_BYTES_FIRST // 1000):
        assert end.has_room
        end.send(frame(Kind.DELTA_SYNC, 1000), reliable=False)
        end.datagrams_to_send(now_ns)
    assert not end.has_room
    now_ns += RETRANSMIT_NS_FIRST
    end.handle_timeout(now_ns)
    assert end.has_room
    assert end.statistics().flight_bytes_max == FLIGHT_BYTES_MIN


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_a_backlog_is_refused_beyond_a_message_more_than_there_is_room_for() -> None:
    end = channel()
    while end.has_room:
        end.send(command(1, 8000), reliable=True)
    end.send(command(2, MESSAGE_TO_CLIENT_BYTES_MAX - 8000), reliable=True)
    before = end.backlog_bytes
    with pytest.raises(LimitExceededError):
        end.send(command(3, 16_000), reliable=True)
    assert end.backlog_bytes == before


def test_of_unreliable_frames_that_nobody_takes_the_newest_are_kept() -> None:
    end = channel()
    for mark in range(2 * DATAGRAMS_UNSENT_MAX):
        end.send(frame(Kind.DELTA_SYNC, 1000, mark), reliable=False)
    sent = [unpack_untrusted(data).frames[0][1] for data in end.datagrams_to_send(0)]
    assert [int.from_bytes(payload[:8], "little") for payload in sent] == list(
        range(DATAGRAMS_UNSENT_MAX, 2 * DATAGRAMS_UNSENT_MAX)
    )


def _has_first_piece(data: bytes) -> bool:
    frames = unpack_untrusted(data).frames
    return any(kind == LANE and fragment_offset(payload) == 0 for kind, payload in frames)


def test_no_more_is_under_way_than_the_other_end_keeps() -> None:
    """One piece never comes: what is behind it waits there, and the rest waits here."""
    here, there = channel(), channel()
    while here.backlog_bytes < LANE_BACKLOG_BYTES + MESSAGE_TO_CLIENT_BYTES_MAX // 2:
        here.send(command(1, 80_000), reliable=True)
    for tick in range(400):
        now_ns = tick * TICK_NS
        here.handle_timeout(now_ns)
        for data in here.datagrams_to_send(now_ns):
            if not _has_first_piece(data):
                assert there.receive_untrusted(data, now_ns) == []
        for data in there.datagrams_to_send(now_ns):
            here.receive_untrusted(data, now_ns)
    assert LANE_WINDOW_BYTES // 2 < there.statistics().early_bytes <= LANE_WINDOW_BYTES + DATAGRAM_BYTES_MAX
    assert there.statistics().early == 0


# --- hostile datagrams ------------------------------------------------------------------------------------------------


def lane(sequence: int, offset: int, piece: bytes) -> bytes:
    return pack(sequence, 0, 0, fragment(offset, piece))


def test_a_number_is_taken_once_and_not_when_it_is_too_old_to_be_told_from_a_copy() -> None:
    end = channel()

    def take(sequence: int) -> int:
        return len(end.receive_untrusted(pack(sequence, 0, 0, frame(Kind.PING, 24)), 0))

    newest = 3 * DATAGRAM_REPLAY_WINDOW
    assert [take(5), take(newest), take(newest), take(newest - 7), take(newest - 7)] == [1, 1, 0, 1, 0]
    assert take(newest - DATAGRAM_REPLAY_WINDOW + 1) == 1
    assert take(newest - DATAGRAM_REPLAY_WINDOW + 1) == 0
    assert take(newest - DATAGRAM_REPLAY_WINDOW) == 0
    assert (end.statistics().repeated, end.statistics().late) == (3, 1)


def test_a_number_of_the_far_future_costs_no_memory() -> None:
    end = channel()
    end.receive_untrusted(pack(1, 0, 0, b""), 0)
    end.receive_untrusted(pack((1 << 32) - 1, 0, 0, frame(Kind.PING, 24)), 0)
    [ack] = end.datagrams_to_send(NS_PER_S)
    assert unpack_untrusted(ack)[1:3] == ((1 << 32) - 1, 0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        bytes(16),
        pack(1, 0, 0, b"")[:-1] + b"?",
        pack(1, 5, 0, b""),
        pack(1, 0, 0, frame(Kind.PING, 24)[:-8]),
        pack(1, 0, 0, frame(Kind.PING, 24) + b"1234"),
        pack(1, 0, 0, b"\xff\xff\xff\x7f\x0c\x00\x01\x00"),
        pack(1, 0, 0, header(240, 8) + bytes(8)),
        pack(1, 0, 0, header(240, 0)),
        lane(1, LANE_WINDOW_BYTES, bytes(8)),
        lane(1, (1 << 64) - 8, bytes(8)),
        bytes(DATAGRAM_BYTES_MAX + 1),
    ],
)
def test_what_makes_no_sense_is_dropped_whole_and_not_acked(data: bytes) -> None:
    end = channel()
    assert end.receive_untrusted(data, 0) == []
    assert end.datagrams_to_send(NS_PER_S) == []
    assert end.statistics().refused + end.statistics().early == 1


def test_a_damaged_datagram_is_lost_and_mended() -> None:
    here, there = channel(), channel()
    here.send(command(1), reliable=True)
    [data] = here.datagrams_to_send(0)
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        assert there.receive_untrusted(bytes(damaged), 0) == []
    assert len(there.receive_untrusted(data, 0)) == 1


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=1300), st.integers(0, 5))
def test_no_bytes_raise_anything_but_a_protocol_error(data: bytes, sequence: int) -> None:
    end = channel(4096)
    end.send(command(1), reliable=True)
    end.datagrams_to_send(0)
    for one in (data, pack(sequence, 1, 7, data[: 1100 // 8 * 8]), lane(9, 0, data[: len(data) // 9 * 8])):
        try:
            end.receive_untrusted(one, 0)
        except RemoteProtocolError:
            return
    end.handle_timeout(NS_PER_S)
    end.datagrams_to_send(NS_PER_S)


def test_a_lane_whose_frames_cannot_be_followed_ends_the_link() -> None:
    end = channel(4096)
    with pytest.raises(RemoteProtocolError):
        end.receive_untrusted(lane(1, 0, b"GET / HTTP/1.1\r\n"), 0)
    with pytest.raises(RemoteProtocolError):
        channel(64).receive_untrusted(lane(1, 0, command(1, 72)), 0)


def test_kinds_that_belong_into_the_lane_do_not_count_outside_of_it_nor_the_other_way_round() -> None:
    end = channel()
    outside = b"".join(frame(kind, 16) for kind in (Kind.COMMAND, Kind.HELLO, Kind.GOODBYE, Kind.SYNC_CHUNK, 241, 255))
    assert end.receive_untrusted(pack(1, 0, 0, outside + frame(Kind.ACK, 40)), 0) == [
        Arrived(Kind.ACK, bytes(40), False)
    ]
    assert end.receive_untrusted(lane(2, 0, frame(250, 8) + command(3)), 0) == [
        Arrived(Kind.COMMAND, command(3)[8:], True)
    ]
    assert end.statistics().frames_dropped == 7


def test_pieces_that_overlap_or_come_early_without_end_are_bounded() -> None:
    """Of tiny ones only so many are kept; the one that all wait for is always taken."""
    end = channel()
    stream = b"".join(command(mark) for mark in range(200))
    sequence = 0
    for at in range(8, len(stream), 8):
        sequence += 1
        end.receive_untrusted(lane(sequence, at, stream[at : at + 8]), 0)
    assert end.statistics().early == len(stream) // 8 - 1 - LANE_FRAGMENTS_EARLY_MAX
    arrived = end.receive_untrusted(lane(sequence + 1, 0, stream[:1000]), 0)
    arrived += end.receive_untrusted(lane(sequence + 2, 800, stream[800:1960]), 0)
    for at in range(1600, len(stream), 1000):
        sequence += 1
        arrived += end.receive_untrusted(lane(sequence + 2, at, stream[at : at + 1000]), 0)
    assert [one.payload for one in arrived] == [command(mark)[8:] for mark in range(200)]


def test_early_pieces_in_the_company_of_one_that_is_due_are_bounded_too() -> None:
    """It need not even be new: what came long ago is due for ever."""
    end = channel()
    stream = b"".join(command(mark) for mark in range(400))
    early = b"".join(fragment(at, stream[at : at + 8]) for at in range(20_000, 20_320, 8))
    for sequence in range(1, 200):
        end.receive_untrusted(pack(sequence, 0, 0, fragment(0, stream[:8]) + early), 0)
    kept = end.statistics().early_bytes // 8
    assert LANE_FRAGMENTS_EARLY_MAX <= kept < LANE_FRAGMENTS_EARLY_MAX + 40

    arrived: list[Arrived] = []
    for sequence, at in enumerate(range(8, len(stream), 1000), 200):
        pieces = fragment(at, stream[at : at + 1000]) + fragment(20_000, stream[20_000:20_008])
        arrived += end.receive_untrusted(pack(sequence, 0, 0, pieces), 0)
    assert [one.payload for one in arrived] == [command(mark)[8:] for mark in range(400)]
    assert end.statistics().early_bytes == 0


# --- resets -----------------------------------------------------------------------------------------------------------


def test_a_reset_is_believed_about_what_was_sent_lately_only() -> None:
    end = channel()
    assert end.receive_untrusted(reset(0), 0) == []
    assert end.receive_untrusted(reset(1), 0) == []
    assert not end.is_reset, "nothing was sent"
    for mark in range(DATAGRAM_REPLAY_WINDOW + 10):
        end.send(frame(Kind.PING, 24, mark), reliable=False)
        end.datagrams_to_send(0)
    end.receive_untrusted(reset(10), 0)
    end.receive_untrusted(reset(DATAGRAM_REPLAY_WINDOW + 11), 0)
    assert not end.is_reset
    end.receive_untrusted(reset(DATAGRAM_REPLAY_WINDOW + 10), 0)
    assert end.is_reset
    end.send(command(1), reliable=True)
    assert end.datagrams_to_send(NS_PER_S) == []
    assert end.next_timeout_ns() is None


def test_a_clock_that_steps_costs_time_and_nothing_else() -> None:
    here, there = channel(), channel()
    now_ns = 100 * NS_PER_S
    marks = []
    for mark, step_ns in enumerate((0, -5 * NS_PER_S, 20 * NS_PER_S, -NS_PER_MS, 0)):
        now_ns += step_ns
        here.send(command(mark), reliable=True)
        for _ in range(3):
            now_ns += 50 * NS_PER_MS
            here.handle_timeout(now_ns)
            for data in here.datagrams_to_send(now_ns):
                marks += [one.payload[0] for one in there.receive_untrusted(data, now_ns)]
            there.handle_timeout(now_ns)
            for data in there.datagrams_to_send(now_ns):
                here.receive_untrusted(data, now_ns)
    assert marks == [0, 1, 2, 3, 4]
    assert here.rtt_ns is not None and here.rtt_ns >= 0
