"""One end of a link that carries datagrams: which of them arrived, what must be sent again, how much may be under way.

    frames ─► send ─► datagrams_to_send ─► (lost, late, twice, out of order) ─► receive_untrusted ─► frames

Two ways lead through it. A frame sent *unreliably* goes once, alone, and is not missed. All others go by the **lane**:
one stream of bytes with every frame in it, cut into fragments that are sent until they are acked, and put together at
the other end, so that each frame comes out once and in order.

What is repeated is a fragment, never a datagram: a datagram's sequence is used once, so an ack tells which sending of a
fragment arrived, and a copy made on the way is known by its number.

A datagram counts as lost when three newer ones were acked, or when nothing was heard for longer than a round trip can
take. How much may be under way follows from losses *in number*: a few are the air's, one in eight is a full queue. A
round trip that grows to twice the shortest says the same before anything is lost.

Invariants:
- sans-IO: time is an argument, equal calls give equal datagrams;
- whatever arrives, only RemoteProtocolError is raised, and only for a lane whose frames cannot be followed; all else
  that is wrong with a datagram costs that datagram;
- a datagram that is not taken in whole is not acked;
- everything kept is bounded: what is not acked by `LANE_BACKLOG_BYTES` and one message, what came too early by
  `LANE_WINDOW_BYTES`, what was said of datagrams on their way by what may be under way.
"""

import heapq
from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

from ecsnet.errors import LimitExceededError, RemoteProtocolError
from ecsnet.limits import (
    DATAGRAM_ACK_DELAY_NS,
    DATAGRAM_BYTES_MAX,
    DATAGRAM_CHECKSUM_BYTES,
    DATAGRAM_HEADER_BYTES,
    DATAGRAM_REPLAY_WINDOW,
    DATAGRAMS_UNSENT_MAX,
    FLIGHT_BYTES_FIRST,
    FLIGHT_BYTES_MIN,
    FRAME_HEADER_BYTES,
    LANE_BACKLOG_BYTES,
    LANE_FRAGMENTS_EARLY_MAX,
    LANE_WINDOW_BYTES,
    MESSAGE_TO_CLIENT_BYTES_MAX,
    NS_PER_MS,
    NS_PER_S,
    RETRANSMIT_NS_FIRST,
    RETRANSMIT_NS_MAX,
    RETRANSMIT_NS_MIN,
)
from ecsnet.wire.datagrams import (
    FRAGMENT_HEAD_BYTES,
    FRAMES_BYTES_MAX,
    LANE,
    LINK_KINDS,
    SEQUENCE_MAX,
    UNRELIABLE,
    fragment,
    fragment_offset,
    pack,
    unpack_untrusted,
)
from ecsnet.wire.framing import FrameReader

__all__ = ["Arrived", "Channel", "ChannelStatistics"]

_BEFORE_FRAMES: Final = DATAGRAM_HEADER_BYTES + DATAGRAM_CHECKSUM_BYTES
_NEWER_ACKED_MAX: Final = 3
"""Reordering by more than this is taken for a loss, as TCP has it."""

_ACK_EVERY: Final = 2
"""Of datagrams with a piece of the lane: an ack of these makes room at the other end, and does not wait."""

_ACK_BITS: Final = 32
_ACKS_OWED_MAX: Final = 64

_PIECE_BYTES_MIN: Final = 256
"""A fragment is not begun in what little room a datagram has left, unless it is the last."""

_ROUND_DATAGRAMS_MIN: Final = 24
"""Of fewer, one loss would say too much: a path that loses 2 % of all loses four of 24 once in a thousand times."""

_SHORTEST_FOR_NS: Final = 10 * NS_PER_S
"""How long the shortest round trip is believed: a phone that changes its cell has another."""

_QUEUE_NS: Final = 40 * NS_PER_MS
"""How much later than it was, or than twice the shortest, an answer may be before anything is to blame but the ticks at
both ends."""


class Arrived(NamedTuple):
    """One whole frame. `reliable`: it came by the lane."""

    kind: int
    payload: bytes
    reliable: bool


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """Counts since the start; the last five are of now. `refused` were damaged or made no sense, `late` too old to be
    told from a copy, `early` lane fragments beyond the window."""

    datagrams_sent: int
    datagrams_received: int
    bytes_sent: int
    bytes_received: int
    acked: int
    lost: int
    repeated: int
    late: int
    early: int
    refused: int
    frames_dropped: int
    fragments_sent: int
    fragments_sent_again: int
    rtt_ns: int | None
    flight_bytes: int
    flight_bytes_max: int
    backlog_bytes: int
    early_bytes: int


class _Sent(NamedTuple):
    """A datagram on its way that asks for an ack."""

    sent_ns: int
    length: int
    fragments: tuple[int, ...]


class _Fragment:
    """A piece of the lane that is not acked: where it ends, and the newest datagram that carries it."""

    __slots__ = ("end", "sequence")

    def __init__(self, end: int, sequence: int) -> None:
        self.end = end
        self.sequence = sequence


class Channel:
    """See the file.

    Args:
        payload_bytes_max: of a frame that arrives.
        now_ns: when it begins.
    """

    def __init__(self, *, payload_bytes_max: int, now_ns: int) -> None:
        self._reader = FrameReader(payload_bytes_max)
        self._payload_bytes_max = payload_bytes_max
        self._is_reset = False
        # What was sent.
        self._sequence = 0
        self._acked_newest = 0
        self._flight: dict[int, _Sent] = {}
        self._flight_bytes = 0
        self._unreliable: deque[bytes] = deque()
        # The lane, going out: bytes from `_lane_start` on are kept, up to `_lane_next` they were sent.
        self._lane = bytearray()
        self._lane_start = 0
        self._lane_next = 0
        self._fragments: dict[int, _Fragment] = {}
        self._again: deque[int] = deque()
        # What came.
        self._received_newest = 0
        self._received_bits = 0
        self._unacked_since_ns: int | None = None
        self._unacked = 0
        self._unacked_of_lane = 0
        self._acks_owed: deque[tuple[int, int]] = deque(maxlen=_ACKS_OWED_MAX)
        # The lane, coming in: all before `_lane_taken` was handed on.
        self._lane_taken = 0
        self._early: list[tuple[int, bytes]] = []
        self._early_bytes = 0
        # The path.
        self.rtt_ns: int | None = None
        """Smoothed; None before the first ack. It includes what acks wait for."""
        self._rtt_deviation_ns = 0
        self._shortest_ns = RETRANSMIT_NS_MAX
        self._shortest_next_ns = RETRANSMIT_NS_MAX
        self._shortest_since_ns = now_ns
        self._backoff = 0
        self._flight_bytes_max = FLIGHT_BYTES_FIRST
        self._threshold = LANE_WINDOW_BYTES
        self._round_end = 0
        self._round_acked = 0
        self._round_lost = 0
        self._round_shortest_ns = RETRANSMIT_NS_MAX
        self._round_was_full = False
        # Counts.
        self._datagrams_received = 0
        self._bytes_sent = 0
        self._bytes_received = 0
        self._acked = 0
        self._lost = 0
        self._repeated = 0
        self._late = 0
        self._early_refused = 0
        self._refused = 0
        self._frames_dropped = 0
        self._fragments_sent = 0
        self._fragments_sent_again = 0

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def is_reset(self) -> bool:
        """The other end has no such link (any more), or this one has run out of numbers: it is over."""
        return self._is_reset

    @property
    def has_room(self) -> bool:
        """Whether more may be asked for: little of the lane is unacked, and the path is not full. Ask before a delta,
        not between its parts."""
        return self._flight_bytes < self._flight_bytes_max and self.backlog_bytes < LANE_BACKLOG_BYTES

    @property
    def backlog_bytes(self) -> int:
        """Of the lane, not acked."""
        return len(self._lane)

    @property
    def is_drained(self) -> bool:
        """All that was sent by the lane has arrived: after a goodbye, the link may be forgotten."""
        return not self._lane

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(
            datagrams_sent=self._sequence,
            datagrams_received=self._datagrams_received,
            bytes_sent=self._bytes_sent,
            bytes_received=self._bytes_received,
            acked=self._acked,
            lost=self._lost,
            repeated=self._repeated,
            late=self._late,
            early=self._early_refused,
            refused=self._refused,
            frames_dropped=self._frames_dropped,
            fragments_sent=self._fragments_sent,
            fragments_sent_again=self._fragments_sent_again,
            rtt_ns=self.rtt_ns,
            flight_bytes=self._flight_bytes,
            flight_bytes_max=self._flight_bytes_max,
            backlog_bytes=self.backlog_bytes,
            early_bytes=self._early_bytes,
        )

    # --- what arrives -------------------------------------------------------------------------------------------------

    def receive_untrusted(self, data: bytes, now_ns: int) -> list[Arrived]:
        """The frames that one datagram brings, those of the lane in order.

        Raises:
            RemoteProtocolError: the lane's bytes are no frames; the link cannot go on.
        """
        self._datagrams_received += 1
        self._bytes_received += len(data)
        if self._is_reset:
            return []
        try:
            sequence, ack, ack_bits, frames = unpack_untrusted(data)
        except RemoteProtocolError:
            self._refused += 1
            return []
        if ack > self._sequence:
            self._refused += 1  # of what was never sent
            return []
        if sequence == 0:
            # Believed only about what we may still have under way: nobody else knows those numbers.
            if ack and self._sequence - ack < DATAGRAM_REPLAY_WINDOW and not frames:
                self._is_reset = True
            else:
                self._refused += 1
            return []
        behind = self._received_newest - sequence
        if behind >= DATAGRAM_REPLAY_WINDOW:
            self._late += 1
            return []
        if behind == 0 or (behind > 0 and self._received_bits >> (behind - 1) & 1):
            self._repeated += 1
            return []
        if not self._is_within_window(frames):
            return []
        arrived: list[Arrived] = []
        if self._has_no_room_for(frames):
            # Of it is taken what all the others wait for, or that might come in such company for ever; the rest has not
            # arrived.
            self._early_refused += 1
            for kind, payload in frames:
                if kind == LANE and fragment_offset(payload) <= self._lane_taken:
                    self._take_fragment(payload, arrived)
            return arrived

        if behind < 0:
            # Of a stranger's number, so it must not become a shift of half a GiB.
            seen = (self._received_bits << 1 | (self._received_newest > 0)) if -behind < DATAGRAM_REPLAY_WINDOW else 0
            self._received_bits = (seen << (-behind - 1)) & _REPLAY_MASK if seen else 0
            self._received_newest = sequence
        else:
            self._received_bits |= 1 << (behind - 1)
        if ack:
            self._take_acks(ack, ack_bits, now_ns)
        if not frames:
            return []
        self._owe_ack(now_ns)
        for kind, payload in frames:
            if kind == LANE:
                self._unacked_of_lane += 1
                self._take_fragment(payload, arrived)
            elif kind in UNRELIABLE:
                arrived.append(Arrived(kind, payload, False))
            else:
                self._frames_dropped += 1
        return arrived

    # --- what is to be sent -------------------------------------------------------------------------------------------

    def send(self, frame: bytes, *, reliable: bool) -> None:
        """Take a whole frame. `datagrams_to_send` gives it out, in its turn.

        Raises:
            LimitExceededError: the lane is full beyond what `has_room` allows and a message more. Nothing was taken.
        """
        if not reliable:
            assert len(frame) <= FRAMES_BYTES_MAX, len(frame)
            if len(self._unreliable) >= DATAGRAMS_UNSENT_MAX:
                self._unreliable.popleft()
                self._frames_dropped += 1
            self._unreliable.append(frame)
            return
        assert len(frame) % 8 == 0, len(frame)
        backlog = len(self._lane) + len(frame)
        if backlog > LANE_BACKLOG_BYTES + FRAME_HEADER_BYTES + MESSAGE_TO_CLIENT_BYTES_MAX:
            raise LimitExceededError("LANE_BACKLOG_BYTES", LANE_BACKLOG_BYTES, backlog)
        self._lane += frame

    def datagrams_to_send(self, now_ns: int) -> list[bytes]:
        """All datagrams that go out now. They are the caller's; what of them must arrive is kept here."""
        out: list[bytes] = []
        if self._is_reset:
            return out
        while self._acks_owed:
            ack, bits = self._acks_owed.popleft()
            out.append(self._number(ack, bits, b""))
        if self._unreliable or self._lane:
            self._pack_frames(out, now_ns)
        if self._unacked_since_ns is not None and (
            self._unacked_of_lane >= _ACK_EVERY or now_ns >= self._unacked_since_ns + DATAGRAM_ACK_DELAY_NS
        ):
            out.append(self._number(self._received_newest, self._received_bits & _ACK_MASK, b""))
            self._acked_what_came()
        return out

    def next_timeout_ns(self) -> int | None:
        """When `handle_timeout` wants to be called, and `datagrams_to_send` after it; None while nothing is due."""
        if self._is_reset:
            return None
        due_ns = None
        if self._flight:
            due_ns = next(iter(self._flight.values())).sent_ns + self._retransmit_ns()
        if self._unacked_since_ns is not None:
            ack_ns = self._unacked_since_ns + DATAGRAM_ACK_DELAY_NS
            due_ns = ack_ns if due_ns is None else min(due_ns, ack_ns)
        return due_ns

    def handle_timeout(self, now_ns: int) -> None:
        """Give up what has been under way for too long. May be called at any time."""
        if not self._flight:
            return
        wait_ns = self._retransmit_ns()
        if next(iter(self._flight.values())).sent_ns + wait_ns > now_ns:
            return
        for sequence, sent in list(self._flight.items()):
            if sent.sent_ns + wait_ns > now_ns:
                break
            self._lose(sequence)
        if self._backoff == 0:
            self._threshold = max(self._flight_bytes_max // 2, FLIGHT_BYTES_FIRST)
        if wait_ns < RETRANSMIT_NS_MAX:
            self._backoff += 1
        self._flight_bytes_max = FLIGHT_BYTES_MIN
        self._begin_round()

    def _pack_frames(self, out: list[bytes], now_ns: int) -> None:
        """What may go of the lane, and all that is unreliable, in as few datagrams as it fits."""
        unreliable, lane = self._unreliable, self._lane
        if not lane:
            # The ordinary tick: a delta, an ack.
            assert not self._again, "what is to be sent again is a part of the lane"
            together = unreliable.popleft()
            while unreliable:
                if len(together) + len(unreliable[0]) > FRAMES_BYTES_MAX:
                    out.append(self._dispatch(together, (), now_ns))
                    together = b""
                together += unreliable.popleft()
            out.append(self._dispatch(together, (), now_ns))
            return
        frames = bytearray()
        carried: list[int] = []
        while True:
            room = FRAMES_BYTES_MAX - len(frames)
            if self._flight_bytes + len(frames) < self._flight_bytes_max:
                piece = self._next_fragment(room)
                if piece is not None:
                    carried.append(piece)
                    end = self._fragments[piece].end
                    frames += fragment(piece, lane[piece - self._lane_start : end - self._lane_start])
                    continue
            if unreliable and len(unreliable[0]) <= room:
                frames += unreliable.popleft()
                continue
            if not frames:
                return
            out.append(self._dispatch(bytes(frames), tuple(carried), now_ns))
            frames.clear()
            carried.clear()

    # --- inside: the lane ---------------------------------------------------------------------------------------------

    def _is_within_window(self, frames: list[tuple[int, bytes]]) -> bool:
        """Whether all fragments of a datagram are sound and within the window: else it has not arrived."""
        for kind, payload in frames:
            if kind != LANE:
                continue
            if len(payload) <= 8:
                self._refused += 1
                return False
            if fragment_offset(payload) + len(payload) - 8 > self._lane_taken + LANE_WINDOW_BYTES:
                self._early_refused += 1
                return False
        return True

    def _has_no_room_for(self, frames: list[tuple[int, bytes]]) -> bool:
        """Whether a datagram has fragments that would have to be kept, where enough are."""
        if len(self._early) < LANE_FRAGMENTS_EARLY_MAX and self._early_bytes < LANE_WINDOW_BYTES:
            return False
        return any(kind == LANE and fragment_offset(payload) > self._lane_taken for kind, payload in frames)

    def _take_fragment(self, payload: bytes, arrived: list[Arrived]) -> None:
        offset = fragment_offset(payload)
        if offset > self._lane_taken:
            heapq.heappush(self._early, (offset, payload))
            self._early_bytes += len(payload) - 8
            return
        if offset + len(payload) - 8 <= self._lane_taken:
            return
        self._feed(offset, payload)
        early = self._early
        while early and early[0][0] <= self._lane_taken:
            offset, payload = heapq.heappop(early)
            self._early_bytes -= len(payload) - 8
            self._feed(offset, payload)
        for kind, _, frame in self._reader:
            if kind < LINK_KINDS:
                arrived.append(Arrived(kind, frame, True))
            else:
                self._frames_dropped += 1

    def _feed(self, offset: int, payload: bytes) -> None:
        new = payload[8 + self._lane_taken - offset :]
        self._reader.feed(new)
        self._lane_taken += len(new)

    def _next_fragment(self, room: int) -> int | None:
        """Where the next fragment begins that goes out now: one that was lost, or a new one."""
        while self._again:
            offset = self._again[0]
            known = self._fragments.get(offset)
            if known is None or known.sequence:
                self._again.popleft()  # it arrived after all
                continue
            if known.end - offset + FRAGMENT_HEAD_BYTES > room:
                return None
            self._again.popleft()
            known.sequence = self._sequence + 1
            self._fragments_sent_again += 1
            return offset
        offset = self._lane_next
        unsent = self._lane_start + len(self._lane) - offset
        window = self._lane_start + LANE_WINDOW_BYTES - offset
        length = min(room - FRAGMENT_HEAD_BYTES, unsent, window) & ~7
        if length <= 0 or (length < unsent and length < _PIECE_BYTES_MIN):
            return None
        self._lane_next = offset + length
        self._fragments[offset] = _Fragment(offset + length, self._sequence + 1)
        self._fragments_sent += 1
        return offset

    def _arrive(self, offset: int) -> None:
        """A fragment of ours is there."""
        if self._fragments.pop(offset, None) is None:
            return
        if offset == self._lane_start:
            start = next(iter(self._fragments), self._lane_next)
            del self._lane[: start - self._lane_start]
            self._lane_start = start

    # --- inside: what is under way ------------------------------------------------------------------------------------

    def _number(self, ack: int, bits: int, frames: bytes) -> bytes:
        self._sequence += 1
        if self._sequence == SEQUENCE_MAX:
            self._is_reset = True
        data = pack(self._sequence, ack, bits, frames)
        self._bytes_sent += len(data)
        return data

    def _dispatch(self, frames: bytes, carried: tuple[int, ...], now_ns: int) -> bytes:
        data = self._number(self._received_newest, self._received_bits & _ACK_MASK, frames)
        self._flight[self._sequence] = _Sent(now_ns, len(data), carried)
        self._flight_bytes += len(data)
        if self._flight_bytes * 2 >= self._flight_bytes_max:
            self._round_was_full = True
        self._acked_what_came()
        return data

    def _owe_ack(self, now_ns: int) -> None:
        self._unacked += 1
        if self._unacked_since_ns is None:
            self._unacked_since_ns = now_ns
        if self._unacked >= _ACK_BITS // 2:
            # More than an ack can name would look like losses at the other end.
            self._acks_owed.append((self._received_newest, self._received_bits & _ACK_MASK))
            self._acked_what_came()

    def _acked_what_came(self) -> None:
        self._unacked = self._unacked_of_lane = 0
        self._unacked_since_ns = None

    def _take_acks(self, ack: int, bits: int, now_ns: int) -> None:
        newest = max(ack, self._acked_newest)
        self._acked_newest = newest
        if not self._flight:
            return
        found = []
        for sequence in self._flight:
            behind = ack - sequence
            if behind == 0 or (0 < behind <= _ACK_BITS and bits >> (behind - 1) & 1):
                found.append(sequence)
            elif behind < 0:
                break
        if found:
            self._backoff = 0
            for sequence in found:
                sent = self._flight.pop(sequence)
                self._flight_bytes -= sent.length
                self._acked += 1
                self._round_acked += 1
                for offset in sent.fragments:
                    self._arrive(offset)
                if self._round_was_full and self._flight_bytes_max < self._threshold:
                    self._grow(sent.length)
            if found[-1] == ack:
                self._measure(now_ns - sent.sent_ns, now_ns)
        while self._flight:
            sequence = next(iter(self._flight))
            if sequence + _NEWER_ACKED_MAX > newest:
                break
            self._lose(sequence)
        if newest > self._round_end and self._round_acked + self._round_lost >= _ROUND_DATAGRAMS_MIN:
            self._end_round()

    def _lose(self, sequence: int) -> None:
        sent = self._flight.pop(sequence)
        self._flight_bytes -= sent.length
        self._lost += 1
        self._round_lost += 1
        for offset in sent.fragments:
            known = self._fragments.get(offset)
            if known is not None and known.sequence == sequence:
                known.sequence = 0
                self._again.append(offset)

    def _retransmit_ns(self) -> int:
        if self.rtt_ns is None:
            wait_ns = RETRANSMIT_NS_FIRST
        else:
            wait_ns = max(RETRANSMIT_NS_MIN, self.rtt_ns + max(_QUEUE_NS, 4 * self._rtt_deviation_ns))
        return min(wait_ns << self._backoff, RETRANSMIT_NS_MAX)

    # --- inside: the path ---------------------------------------------------------------------------------------------

    def _measure(self, rtt_ns: int, now_ns: int) -> None:
        if rtt_ns < 0:
            return  # the clock stepped back
        if self.rtt_ns is None:
            self.rtt_ns, self._rtt_deviation_ns = rtt_ns, rtt_ns // 2
        else:
            # As TCP smooths them.
            self._rtt_deviation_ns += (abs(rtt_ns - self.rtt_ns) - self._rtt_deviation_ns) // 4
            self.rtt_ns += (rtt_ns - self.rtt_ns) // 8
        if now_ns - self._shortest_since_ns > _SHORTEST_FOR_NS:
            self._shortest_ns, self._shortest_next_ns = self._shortest_next_ns, rtt_ns
            self._shortest_since_ns = now_ns
        self._shortest_ns = min(self._shortest_ns, rtt_ns)
        self._shortest_next_ns = min(self._shortest_next_ns, rtt_ns)
        self._round_shortest_ns = min(self._round_shortest_ns, rtt_ns)

    def _begin_round(self) -> None:
        self._round_end = self._sequence
        self._round_acked = self._round_lost = 0
        self._round_shortest_ns = RETRANSMIT_NS_MAX
        self._round_was_full = False

    def _end_round(self) -> None:
        """A round trip is over: what has it told of the path?"""
        lost, acked = self._round_lost, self._round_acked
        if lost * 7 > acked:
            self._shrink(7)
        elif acked and self._round_shortest_ns > 2 * self._shortest_ns + _QUEUE_NS:
            self._shrink(8)
        elif self._round_was_full and self._flight_bytes_max >= self._threshold:
            self._grow(max(DATAGRAM_BYTES_MAX, self._flight_bytes_max // 16))
        self._begin_round()

    def _shrink(self, tenths: int) -> None:
        self._flight_bytes_max = max(FLIGHT_BYTES_MIN, self._flight_bytes_max * tenths // 10)
        self._threshold = self._flight_bytes_max

    def _grow(self, length: int) -> None:
        self._flight_bytes_max = min(LANE_WINDOW_BYTES, self._flight_bytes_max + length)


_REPLAY_MASK: Final = (1 << (DATAGRAM_REPLAY_WINDOW - 1)) - 1
_ACK_MASK: Final = (1 << _ACK_BITS) - 1
