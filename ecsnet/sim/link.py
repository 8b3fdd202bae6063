"""One way of a simulated link, for datagrams or for a stream: bytes go in at one time and come out at another.

A path is sans-IO, and pulled: `send` decides at once when its bytes arrive, `next_ns` says when the next do, `receive`
hands out what has arrived by then. Times are whole nanoseconds of the caller's clock, which must not run backwards.

Chance costs nothing where nothing happens: instead of a die for each packet, the number of packets until the next loss
(duplicate, …) is drawn, which is the same distribution, and a packet compares one number. Jitter is drawn once for all
packets that leave within a millisecond of each other: they meet the same queues.

Invariants:
- equal directions, equal generators and equal calls give equal results, in any process;
- what comes out of a stream is what went in, whole and in order, whatever the line does;
- nothing arrives before it was sent, and times come out ascending.
"""

import heapq
import math
import random
from bisect import bisect_right
from collections import deque
from typing import Any

from ecsnet.errors import ClosedError
from ecsnet.limits import NS_PER_MS, NS_PER_S
from ecsnet.sim.profile import Direction, Profile

NEVER: int = 1 << 62

DATAGRAM_HEADER_BYTES = 28
"""IPv4 and UDP; they take bandwidth and room in the MTU."""

SEGMENT_HEADER_BYTES = 40
"""IPv4 and TCP."""

STREAM_BUFFER_BYTES = 256 * 1024

RTO_LEAST_NS = 200 * NS_PER_MS
"""What Linux adds to a round trip at least before it takes a segment for lost (TCP_RTO_MIN)."""

RTO_DOUBLINGS_MAX = 9
"""200 ms doubled so often is 102 s; TCP_RTO_MAX is 120 s."""

RETRIES_MAX = 15
"""So often is a segment sent again before TCP gives up (Linux, tcp_retries2)."""

WINDOW_BYTES = 4 << 20
"""On the way at once, at most: what Linux lets a socket's buffers grow to (tcp_wmem)."""

FIRST_SEGMENTS = 10
"""What a stream may have on the way before the first acks come back (RFC 6928)."""

AFTER_LOSS = 0.7
"""What a loss leaves of the congestion window (CUBIC, RFC 9438)."""

UNREAD_BYTES = 128 * 1024
"""What the reader's system takes before its program reads (tcp_rmem's default). What waits there is acknowledged, and
beyond it the sender is told to stop."""

FOLLOWERS = 3
"""So many segments that arrive after a lost one tell the sender of it (RFC 5681)."""

_SAME_QUEUES_NS = NS_PER_MS
_TAIL_MAX = 30.0
"""Jitter with a tail ends at so many times its mean; beyond it a line is called dead."""


class PathCounts:
    """What became of what was sent. On a stream `sent` and `delivered` count what was handed over, and all else counts
    segments: those `lost` were sent again, each counted once."""

    __slots__ = (
        "burst_lost",
        "bytes_delivered",
        "bytes_sent",
        "corrupted",
        "delivered",
        "duplicated",
        "lost",
        "outage_lost",
        "overflowed",
        "oversize",
        "reordered",
        "sent",
    )

    def __init__(self) -> None:
        self.sent = 0
        self.lost = 0
        """On the line, for whatever reason: of these `burst_lost` in bursts, `outage_lost` in outages or while cut."""
        self.burst_lost = 0
        self.outage_lost = 0
        self.duplicated = 0
        self.reordered = 0
        self.corrupted = 0
        self.overflowed = 0
        """Dropped by the queue."""
        self.oversize = 0
        """Refused above the MTU."""
        self.delivered = 0
        self.bytes_sent = 0
        self.bytes_delivered = 0

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in sorted(self.__slots__)}


class Outages:
    """When nothing comes through. Both ways of a link may share one: a tunnel closes both.

    The times between outages are exponential, their lengths uniform within half as much less or more; neither depends
    on what is sent."""

    def __init__(self, seeded: random.Random) -> None:
        self._random = seeded
        self._every_ns = 0
        self._length_ns = 0
        self._begin_ns: list[int] = []
        self._end_ns: list[int] = []

    def change(self, every_s: float, length_s: float, now_ns: int | None) -> None:
        """From now on, or from the first use on. Does nothing if it is so already."""
        every_ns, length_ns = round(every_s * NS_PER_S), round(length_s * NS_PER_S)
        if (every_ns, length_ns) == (self._every_ns, self._length_ns):
            return
        self._every_ns, self._length_ns = every_ns, length_ns
        if now_ns is not None:
            # What was to come does not; what is going on ends now.
            while self._begin_ns and self._begin_ns[-1] >= now_ns:
                self._begin_ns.pop()
                self._end_ns.pop()
            if self._end_ns and self._end_ns[-1] > now_ns:
                self._end_ns[-1] = now_ns

    def until_ns(self, when_ns: int) -> int:
        """When the outage of this moment ends; 0 if there is none."""
        begin_ns, end_ns = self._begin_ns, self._end_ns
        if self._length_ns:
            while not begin_ns or begin_ns[-1] <= when_ns:
                self._draw(when_ns)
        place = bisect_right(begin_ns, when_ns) - 1
        return end_ns[place] if place >= 0 and when_ns < end_ns[place] else 0

    def _draw(self, when_ns: int) -> None:
        clear_ns = -math.log(1.0 - self._random.random()) * (self._every_ns - self._length_ns)
        length_ns = self._length_ns * (0.5 + self._random.random())
        begin_ns = (self._end_ns[-1] if self._end_ns else when_ns) + round(clear_ns)
        self._begin_ns.append(begin_ns)
        self._end_ns.append(begin_ns + round(length_ns))


class _Path:
    """What datagrams and streams have in common: the numbers of a direction in nanoseconds, and its chances."""

    __slots__ = (
        "_bits_s",
        "_burst_at",
        "_corrupt_at",
        "_cut_ns",
        "_direction",
        "_duplicate_at",
        "_event_at",
        "_free_ns",
        "_in_burst",
        "_jitter_hold_ns",
        "_jitter_ns",
        "_latency_ns",
        "_loss_at",
        "_normal",
        "_outages",
        "_own_outages",
        "_packets",
        "_queue_ns",
        "_random",
        "_reorder_at",
        "_settled_ns",
        "_trace",
        "_trace_began_ns",
        "_uncorrelated",
        "counts",
        "next_ns",
    )

    def __init__(self, direction: Direction, random: random.Random, outages: Outages | None) -> None:
        self.counts = PathCounts()
        self.next_ns = NEVER
        """When the next bytes arrive; NEVER if nothing is under way."""
        self._random = random
        # A generator of its own, so that when a tunnel comes does not depend on what is sent.
        self._own_outages = outages if outages is not None else Outages(_derived(random))
        self._packets = 0
        self._in_burst = False
        self._free_ns = 0
        self._cut_ns: int | None = None
        self._normal = random.gauss(0.0, 1.0) if direction.jitter_correlation else 0.0
        self._trace_began_ns: int | None = None
        self._take(direction, None)

    @property
    def direction(self) -> Direction:
        """The numbers in force."""
        return self._direction

    @property
    def is_cut(self) -> bool:
        return self._cut_ns is not None

    def _take(self, direction: Direction, now_ns: int | None) -> None:
        self._direction = direction
        self._latency_ns = round(direction.latency_ms * NS_PER_MS)
        self._jitter_ns = round(direction.jitter_ms * NS_PER_MS)
        # The delay in force, and until when it is: drawn anew at the next packet.
        self._settled_ns = self._latency_ns
        correlation = direction.jitter_correlation
        self._uncorrelated = math.sqrt(1.0 - correlation * correlation)
        self._jitter_hold_ns = 0 if self._jitter_ns or direction.latency_trace else NEVER
        self._bits_s = round(direction.bandwidth_kbit_s * 1000) if direction.bandwidth_kbit_s is not None else 0
        if self._bits_s and direction.queue_bytes is not None:
            self._queue_ns = direction.queue_bytes * 8 * NS_PER_S // self._bits_s
        else:
            self._queue_ns = round(direction.queue_ms * NS_PER_MS)
        self._trace = _Trace(direction.latency_trace) if direction.latency_trace else None
        self._trace_began_ns = None
        self._outages: Outages | None = None
        if direction.outage_s:
            self._outages = self._own_outages
            self._outages.change(direction.outage_every_s, direction.outage_s, now_ns)
        self._in_burst = self._in_burst and direction.burst_begins > 0
        self._draw_events()

    def _draw_events(self) -> None:
        """Which packets are the next with something of each kind. No packet remembers, so all may be drawn again."""
        direction = self._direction
        self._loss_at = self._after(self._loss_share())
        self._duplicate_at = self._after(direction.duplicate)
        self._reorder_at = self._after(direction.reorder)
        self._corrupt_at = self._after(direction.corrupt)
        self._burst_at = self._after(direction.burst_begins)
        self._set_event()

    def _set_event(self) -> None:
        self._event_at = (
            self._packets + 1
            if self._in_burst
            else min(self._loss_at, self._duplicate_at, self._reorder_at, self._corrupt_at, self._burst_at)
        )

    def _loss_share(self) -> float:
        return self._direction.loss

    def _after(self, share: float) -> int:
        """The number of the next packet that something happens to, if it happens to this share of all."""
        if share <= 0.0:
            return NEVER
        if share >= 1.0:
            return self._packets + 1
        return self._packets + 1 + int(math.log(1.0 - self._random.random()) / math.log1p(-share))

    def _lost_in_line(self) -> bool:
        """The fate of packet number `_packets`, when it is that of an event: bursts, and loss of its own."""
        direction, packet = self._direction, self._packets
        if self._in_burst:
            if self._random.random() < direction.burst_ends:
                self._in_burst = False
                self._burst_at = self._after(direction.burst_begins)
        elif packet >= self._burst_at:
            self._in_burst = True
        if self._in_burst:
            if self._random.random() < direction.burst_loss:
                self.counts.lost += 1
                self.counts.burst_lost += 1
                return True
            return False
        if packet >= self._loss_at:
            self._loss_at = self._after(self._loss_share())
            self.counts.lost += 1
            return True
        return False

    def _settle(self, now_ns: int) -> int:
        """Draw the delay of what leaves from now on, for a moment."""
        self._jitter_hold_ns = now_ns + _SAME_QUEUES_NS
        delay_ns = self._latency_ns
        if self._trace is not None:
            if self._trace_began_ns is None:
                self._trace_began_ns = now_ns
            delay_ns = self._trace.latency_ns(now_ns - self._trace_began_ns)
        if self._jitter_ns:
            delay_ns += self._draw_jitter()
        self._settled_ns = delay_ns if delay_ns > 0 else 0
        return self._settled_ns

    def _draw_jitter(self) -> int:
        kind, correlation = self._direction.jitter, self._direction.jitter_correlation
        if correlation:
            # Correlated normals, then each distribution's own inverse: its shape stays exact.
            normal = self._normal = correlation * self._normal + self._uncorrelated * self._random.gauss(0.0, 1.0)
            above = 0.5 * math.erfc(normal * 0.7071067811865476)
        elif kind == "normal":
            normal, above = self._random.gauss(0.0, 1.0), 1.0
        else:
            normal, above = 0.0, 1.0 - self._random.random()
        if kind == "uniform":
            factor = 1.0 - 2.0 * above
        elif kind == "normal":
            factor = normal
        elif kind == "exponential":
            factor = -math.log(above) if above > 1e-13 else _TAIL_MAX
        else:
            # Lomax with shape 3, whose mean is half its scale.
            factor = 2.0 * (above ** (-1.0 / 3.0) - 1.0) if above > 1e-13 else _TAIL_MAX
        return int(self._jitter_ns * (factor if factor < _TAIL_MAX else _TAIL_MAX))


class _Trace:
    """A recorded line: the newest sample holds."""

    __slots__ = ("_at_ns", "_latency_ns", "_period_ns")

    def __init__(self, samples: tuple[tuple[float, float], ...]) -> None:
        self._at_ns = [round(at_s * NS_PER_S) for at_s, _ in samples]
        self._latency_ns = [round(latency_ms * NS_PER_MS) for _, latency_ms in samples]
        last_ns = self._at_ns[-1]
        self._period_ns = last_ns + (last_ns - self._at_ns[-2]) if len(samples) > 1 else 0

    def latency_ns(self, since_ns: int) -> int:
        if self._period_ns:
            since_ns %= self._period_ns
        return self._latency_ns[bisect_right(self._at_ns, since_ns) - 1]


def _derived(parent: random.Random) -> random.Random:
    return random.Random(parent.getrandbits(64))


class DatagramPath(_Path):
    """Datagrams, as UDP carries them: lost, doubled, overtaken, broken, late."""

    __slots__ = ("_arrived_ns", "_last_ns", "_serial", "_under_way", "_waiting")

    def __init__(self, direction: Direction, random: random.Random, *, outages: Outages | None = None) -> None:
        # (when, serial, data): serial keeps those of one moment in order; a copy has that of its original.
        self._under_way: list[tuple[int, int, bytes]] = []
        # Those that wait for the bandwidth, oldest first: [leaves, its serial, takes]. Kept only where the oldest may
        # be dropped.
        self._waiting: deque[list[int]] = deque()
        self._serial = 0
        self._last_ns = 0
        self._arrived_ns = 0
        super().__init__(direction, random, outages)

    def send(self, data: bytes, now_ns: int) -> None:
        """Put one datagram on the line."""
        counts = self.counts
        size = len(data)
        counts.sent += 1
        counts.bytes_sent += size
        size += DATAGRAM_HEADER_BYTES
        if size > self._direction.mtu_bytes:
            counts.oversize += 1
            return
        leaves_ns = now_ns
        if self._bits_s:
            if not self._admit(now_ns):
                counts.overflowed += 1
                return
            took_ns = size * 8_000_000_000 // self._bits_s
            leaves_ns = (self._free_ns if self._free_ns > now_ns else now_ns) + took_ns
            self._free_ns = leaves_ns
        delay_ns = self._settled_ns if now_ns < self._jitter_hold_ns else self._settle(now_ns)
        when_ns = leaves_ns + delay_ns
        self._packets += 1
        in_order, copy_ns = True, -1
        if self._packets >= self._event_at:
            lost, data, held_ns, copy_ns = self._chances(data)
            if lost:
                return
            if held_ns:
                when_ns += held_ns
                in_order = False
        if (self._outages is not None or self._cut_ns is not None) and self._in_outage(now_ns, when_ns):
            copies = 1 if copy_ns < 0 else 2
            counts.lost += copies
            counts.outage_lost += copies
            return
        if in_order:
            if when_ns < self._last_ns:
                when_ns = self._last_ns
            self._last_ns = when_ns
        self._serial += 1
        heapq.heappush(self._under_way, (when_ns, self._serial, data))
        if copy_ns >= 0:
            heapq.heappush(self._under_way, (when_ns + copy_ns, self._serial, data))
        self.next_ns = self._under_way[0][0]
        if self._bits_s and self._direction.drop_policy == "head":
            self._waiting.append([leaves_ns, self._serial, took_ns])

    def receive(self, now_ns: int) -> list[tuple[int, bytes]]:
        """(when, data) of the datagrams that have arrived, ascending."""
        if self.next_ns > now_ns:
            return []
        under_way, counts = self._under_way, self.counts
        arrived: list[tuple[int, bytes]] = []
        pop = heapq.heappop
        cut_ns = self._cut_ns
        while under_way and under_way[0][0] <= now_ns:
            when_ns, _, data = pop(under_way)
            if cut_ns is not None and when_ns >= cut_ns:
                counts.lost += 1
                counts.outage_lost += 1
                continue
            arrived.append((when_ns, data))
            counts.delivered += 1
            counts.bytes_delivered += len(data)
        self.next_ns = under_way[0][0] if under_way else NEVER
        return arrived

    def cut(self, now_ns: int) -> None:
        """What is sent or arrives from now on is lost."""
        if self._cut_ns is None:
            self._cut_ns = now_ns

    def heal(self, now_ns: int) -> None:
        """The end of `cut`. What is still under way arrives."""
        if self._cut_ns is None:
            return
        cut_ns, self._cut_ns = self._cut_ns, None
        kept = [entry for entry in self._under_way if not cut_ns <= entry[0] < now_ns]
        self.counts.lost += len(self._under_way) - len(kept)
        self.counts.outage_lost += len(self._under_way) - len(kept)
        heapq.heapify(kept)
        self._under_way = kept
        self.next_ns = kept[0][0] if kept else NEVER

    def change(self, direction: Direction, now_ns: int) -> None:
        """Another line from now on. What is under way arrives when it would have; later ones may overtake it."""
        self._take(direction, now_ns)
        self._last_ns = 0
        self._waiting.clear()

    def queued_bytes(self, now_ns: int) -> int:
        """What waits for the bandwidth, headers included."""
        waits_ns = self._free_ns - now_ns
        return waits_ns * self._bits_s // (8 * NS_PER_S) if self._bits_s and waits_ns > 0 else 0

    def _admit(self, now_ns: int) -> bool:
        """Whether the queue takes one more."""
        waits_ns = self._free_ns - now_ns
        if waits_ns <= 0:
            return True
        policy = self._direction.drop_policy
        if policy == "tail":
            return waits_ns <= self._queue_ns
        if policy == "random_early":
            return (
                waits_ns * 2 <= self._queue_ns or self._random.random() * self._queue_ns > 2 * waits_ns - self._queue_ns
            )
        while self._free_ns - now_ns > self._queue_ns and self._drop_oldest(now_ns):
            pass
        return self._free_ns - now_ns <= self._queue_ns

    def _drop_oldest(self, now_ns: int) -> bool:
        """Take the oldest that has not begun to leave out of the queue; those behind it move up."""
        waiting = self._waiting
        while waiting and waiting[0][0] - waiting[0][2] <= now_ns:
            waiting.popleft()
        if not waiting:
            return False
        _, dropped, took_ns = waiting.popleft()
        moved = {entry[1] for entry in waiting}
        for entry in waiting:
            entry[0] -= took_ns
        self._free_ns -= took_ns
        self._last_ns -= took_ns
        kept = [
            (when_ns - took_ns, serial, data) if serial in moved else (when_ns, serial, data)
            for when_ns, serial, data in self._under_way
            if serial != dropped
        ]
        heapq.heapify(kept)
        self.counts.overflowed += len(self._under_way) - len(kept)
        self._under_way = kept
        self.next_ns = kept[0][0] if kept else NEVER
        return True

    def _chances(self, data: bytes) -> tuple[bool, bytes, int, int]:
        """Of a packet that something happens to: whether it is lost, its bytes, how long it is held back, and how much
        later a copy follows (-1 for none)."""
        direction, packet, counts = self._direction, self._packets, self.counts
        lost = self._lost_in_line()
        held_ns, copy_ns = 0, -1
        if packet >= self._corrupt_at:
            self._corrupt_at = self._after(direction.corrupt)
            if not lost:
                data = self._corrupted(data)
        if packet >= self._reorder_at:
            self._reorder_at = self._after(direction.reorder)
            if not lost:
                held_ns = int(direction.reorder_ms * NS_PER_MS * (0.5 + 0.5 * self._random.random()))
                counts.reordered += 1
        if packet >= self._duplicate_at:
            self._duplicate_at = self._after(direction.duplicate)
            if not lost:
                copy_ns = int(_SAME_QUEUES_NS * self._random.random())
                counts.duplicated += 1
        self._set_event()
        return lost, data, held_ns, copy_ns

    def _corrupted(self, data: bytes) -> bytes:
        if not data:
            return data
        self.counts.corrupted += 1
        broken = bytearray(data)
        bits = len(data) * 8
        for bit in self._random.sample(range(bits), min(bits, self._random.randint(1, 3))):
            broken[bit >> 3] ^= 1 << (bit & 7)
        return bytes(broken)

    def _in_outage(self, sent_ns: int, when_ns: int) -> bool:
        if self._cut_ns is not None:
            return True
        outages = self._outages
        return outages is not None and (outages.until_ns(sent_ns) > 0 or outages.until_ns(when_ns) > 0)


class StreamPath(_Path):
    """A stream, as TCP makes one of a line that loses packets: all arrives, in order, and later.

    What is sent is cut into segments; each one that is lost holds up all behind it until it has been sent again: a
    round trip after three later segments arrived, or a retransmission timeout after it was sent, doubled each time it
    is lost again. A direction that corrupts loses instead (the checksum fails); one that duplicates does nothing. An
    outage or a cut stops the whole stream until the first timeout after its end.

    A congestion window bounds what is on the way: it begins with ten segments, doubles in a round trip in which it was
    used up, shrinks at a loss and grows by a segment a round trip from there. So a full sync on a long line takes
    several round trips, and a lossy line carries less than its bandwidth. The queue in front of the bandwidth is the
    sender's own buffer, and never overflows.
    """

    __slots__ = (
        "_back_ns",
        "_closed",
        "_end_read",
        "_entries",
        "_flight",
        "_flight_bytes",
        "_gone",
        "_held_bytes",
        "_mending",
        "_out_ns",
        "_reduced_ns",
        "_return_ns",
        "_rto_ns",
        "_segment_bytes",
        "_stalled_ns",
        "_threshold_bytes",
        "_unsent",
        "_unsent_bytes",
        "_window_bytes",
        "buffer_bytes",
    )

    def __init__(
        self,
        direction: Direction,
        random: random.Random,
        *,
        return_latency_ms: float | None = None,
        buffer_bytes: int = STREAM_BUFFER_BYTES,
        outages: Outages | None = None,
    ) -> None:
        self.buffer_bytes = buffer_bytes
        """What the sender's system takes that has not left it. One send of any size is taken when it holds nothing."""
        self._return_ns = None if return_latency_ms is None else round(return_latency_ms * NS_PER_MS)
        # In order. One that arrives before another ahead of it waits for that.
        self._entries: deque[_Entry] = deque()
        self._mending: list[_Mending] = []
        # (acked, bytes) of what is on the way, and the congestion window.
        self._flight: deque[tuple[int, int]] = deque()
        self._flight_bytes = 0
        self._window_bytes = FIRST_SEGMENTS * (direction.mtu_bytes - SEGMENT_HEADER_BYTES)
        self._threshold_bytes = WINDOW_BYTES
        # Until then a loss is of the same round trip as the last, and shrinks the window no further.
        self._reduced_ns = 0
        # (leaves, bytes) of what has not left.
        self._unsent: deque[tuple[int, int]] = deque()
        self._unsent_bytes = 0
        self._held_bytes = 0
        self._out_ns = 0
        # While cut: when the oldest segment was sent that nobody acknowledged.
        self._stalled_ns = NEVER
        self._closed = False
        self._end_read = False
        self._gone = False
        super().__init__(direction, random, outages)

    def send(self, data: bytes, now_ns: int) -> bool:
        """Hand over some bytes, which arrive together. False if the sender's buffer is full: nothing was taken.

        Raises:
            ClosedError: after `close`.
        """
        if self._closed:
            raise ClosedError("this stream was closed for sending")
        size = len(data)
        unsent = self._unsent
        if unsent:
            while unsent and unsent[0][0] <= now_ns:
                self._unsent_bytes -= unsent.popleft()[1]
            if unsent and self._unsent_bytes + size > self.buffer_bytes:
                return False
        held_bytes = self._held_bytes
        if held_bytes > UNREAD_BYTES and (
            held_bytes + size > WINDOW_BYTES or (self.next_ns <= now_ns and self._unread_bytes(now_ns) > UNREAD_BYTES)
        ):
            return False
        if self._gone or not size:
            return True
        counts = self.counts
        counts.sent += 1
        counts.bytes_sent += size
        self._held_bytes += size
        self._put(data, size, now_ns)
        return True

    def room_ns(self, now_ns: int) -> int:
        """When it is worth to try again after `send` refused: half of the buffer is free then, or all of it if half is
        already."""
        if self._cut_ns is None:
            left_bytes = self.queued_bytes(now_ns)
            if left_bytes:
                if left_bytes * 2 <= self.buffer_bytes:
                    return self._unsent[-1][0]
                for leaves_ns, size in self._unsent:
                    left_bytes -= size
                    if left_bytes * 2 <= self.buffer_bytes:
                        return leaves_ns
            if self._held_bytes <= UNREAD_BYTES:
                return now_ns
            if now_ns < self.next_ns < NEVER:
                return self.next_ns
        # Until it is healed, or read: nobody knows when. Ask again in a while.
        return now_ns + self._rto_ns

    def receive(self, now_ns: int) -> list[tuple[int, bytes]]:
        """(when, data) of what has arrived, each as it was sent."""
        if self.next_ns > now_ns:
            return []
        entries, out_ns, read_bytes = self._entries, self._out_ns, 0
        arrived: list[tuple[int, bytes]] = []
        when_ns = entries[0][0]
        while when_ns <= now_ns:
            data = entries.popleft()[1]
            if when_ns > out_ns:
                out_ns = when_ns
            if data is None:
                self._end_read = True
            else:
                read_bytes += len(data)
                arrived.append((out_ns, data))
            when_ns = entries[0][0] if entries else NEVER
        self._out_ns = out_ns
        self.next_ns = when_ns if when_ns > out_ns else out_ns
        self._held_bytes -= read_bytes
        counts = self.counts
        counts.delivered += len(arrived)
        counts.bytes_delivered += read_bytes
        return arrived

    def close(self, now_ns: int) -> None:
        """Nothing follows what was sent; the reader is told so in its place."""
        if not self._closed and not self._gone:
            self._put(None, 0, now_ns)
        self._closed = True

    def ended(self, now_ns: int) -> bool:
        """Whether the reader has got everything, and then the end."""
        entries = self._entries
        return self._end_read or (bool(entries) and entries[0][1] is None and entries[0][0] <= now_ns)

    def abort(self) -> None:
        """What is under way is gone, and whatever is sent from now on."""
        self._gone = True
        self._entries.clear()
        self._mending.clear()
        self._unsent.clear()
        self._unsent_bytes = self._held_bytes = 0
        self.next_ns = NEVER

    def cut(self, now_ns: int) -> None:
        """Nothing comes through from now on, and nothing is lost for good."""
        if self._cut_ns is not None:
            return
        self._cut_ns = now_ns
        self._stalled_ns = NEVER
        for entry in self._entries:
            if entry[0] >= now_ns:
                self.counts.lost += 1
                self.counts.outage_lost += 1
                self._stalled_ns = now_ns
                entry[0] = entry[2] = NEVER
        self._mending.clear()
        self._count_unsent(now_ns)
        self._set_next()

    def heal(self, now_ns: int) -> None:
        """The end of `cut`: the stream goes on at the sender's next retransmission timeout."""
        if self._cut_ns is None:
            return
        self._cut_ns = None
        self._reset_window()
        self._send_waiting(now_ns, self._after_timeouts(min(self._stalled_ns, now_ns), now_ns))

    def change(self, direction: Direction, now_ns: int, *, return_latency_ms: float | None = None) -> None:
        """Another line from now on; the way back keeps its latency unless one is given. What has left arrives when it
        would have; what was lost is sent again at the times that it would have been."""
        if return_latency_ms is not None:
            self._return_ns = round(return_latency_ms * NS_PER_MS)
        self._take(direction, now_ns)
        if self._cut_ns is not None:
            return
        for mending in self._mending:
            for loss in mending.losses:
                if now_ns < loss.mended_ns:
                    loss.mended_ns = self._sent_again(loss.again_ns, loss.timeout_ns, now_ns)
            mending.settle()
        self._send_waiting(now_ns, now_ns)

    def queued_bytes(self, now_ns: int) -> int:
        """What has not left the sender."""
        unsent = self._unsent
        while unsent and unsent[0][0] <= now_ns:
            self._unsent_bytes -= unsent.popleft()[1]
        return self._unsent_bytes

    # --- inside ------------------------------------------------------------------------------------------------------

    def _unread_bytes(self, now_ns: int) -> int:
        """What has arrived and nobody received yet."""
        unread_bytes = 0
        for when_ns, data, _ in self._entries:
            if when_ns > now_ns:
                break
            unread_bytes += len(data or b"")
        return unread_bytes

    def _take(self, direction: Direction, now_ns: int | None) -> None:
        super()._take(direction, now_ns)
        self._segment_bytes = direction.mtu_bytes - SEGMENT_HEADER_BYTES
        self._back_ns = self._latency_ns if self._return_ns is None else self._return_ns
        # As Linux has it: the round trip, and four times its deviation but at least 200 ms.
        self._rto_ns = self._latency_ns + self._back_ns + max(RTO_LEAST_NS, 4 * self._jitter_ns)

    def _draw_events(self) -> None:
        direction = self._direction
        self._loss_at = self._after(self._loss_share())
        self._reorder_at = self._after(direction.reorder)
        self._burst_at = self._after(direction.burst_begins)
        self._duplicate_at = self._corrupt_at = NEVER
        self._set_event()

    def _loss_share(self) -> float:
        direction = self._direction
        return 1.0 - (1.0 - direction.loss) * (1.0 - direction.corrupt)

    def _set_next(self) -> None:
        entries = self._entries
        if not entries:
            self.next_ns = NEVER
        else:
            first_ns = entries[0][0]
            self.next_ns = first_ns if first_ns > self._out_ns else self._out_ns

    def _put(self, data: bytes | None, size: int, now_ns: int) -> None:
        """Send it, whatever the buffer says; None is the end."""
        if self._cut_ns is not None:
            if self._stalled_ns == NEVER:
                self._stalled_ns = now_ns
            self._entries.append([NEVER, data, NEVER])
            self._unsent.append((NEVER, size))
            self._unsent_bytes += size
            if len(self._entries) == 1:
                self._set_next()
            return
        segments = 1 if size <= self._segment_bytes else -(-size // self._segment_bytes)
        leaves_ns = self._free_ns if self._free_ns > now_ns else now_ns
        delay_ns = self._settled_ns if now_ns < self._jitter_hold_ns else self._settle(now_ns)
        flight, flight_bytes = self._flight, self._flight_bytes
        if flight_bytes * 2 >= self._window_bytes or flight_bytes + size > self._window_bytes:
            leaves_ns = self._wait_for_window(size, leaves_ns, delay_ns)
        else:
            while flight and flight[0][0] <= leaves_ns:
                self._flight_bytes -= flight.popleft()[1]
        took_ns = 0
        if self._bits_s:
            took_ns = (size + SEGMENT_HEADER_BYTES * segments) * 8_000_000_000 // self._bits_s
            leaves_ns += took_ns
        if self._outages is not None:
            leaves_ns = self._through_outages(leaves_ns, segments)
        if leaves_ns > now_ns:
            self._free_ns = leaves_ns
            self._unsent.append((leaves_ns, size))
            self._unsent_bytes += size
        arrives_ns = leaves_ns + delay_ns
        flight.append((arrives_ns + self._back_ns, size))
        self._flight_bytes += size
        entry: _Entry = [arrives_ns, data, leaves_ns]
        self._packets += segments
        if self._mending:
            self._tell_of_losses(arrives_ns, segments, now_ns)
        if self._packets >= self._event_at:
            self._chances(entry, segments, took_ns)
        entries = self._entries
        if not entries:
            self.next_ns = entry[0] if entry[0] > self._out_ns else self._out_ns
        entries.append(entry)

    def _wait_for_window(self, size: int, leaves_ns: int, delay_ns: int) -> int:
        """Take in the acks that are there by then, and wait for as many more as it needs: when it may leave."""
        flight, segment_bytes = self._flight, self._segment_bytes
        window_bytes, flight_bytes = self._window_bytes, self._flight_bytes
        # A window that was not used up says nothing about what the line could carry.
        grows = flight_bytes * 2 >= window_bytes
        while flight and (flight[0][0] <= leaves_ns or flight_bytes + size > window_bytes):
            acked_ns, acked_bytes = flight.popleft()
            if acked_ns > leaves_ns:
                leaves_ns = acked_ns
            if grows:
                slow_start = window_bytes < self._threshold_bytes
                window_bytes += acked_bytes if slow_start else segment_bytes * acked_bytes // window_bytes
            flight_bytes -= acked_bytes
        # What is larger than the whole window goes in several of them, each after the acks of the one before.
        round_trip_ns = delay_ns + self._back_ns
        while size > window_bytes:
            took_ns = window_bytes * 8_000_000_000 // self._bits_s if self._bits_s else 0
            leaves_ns += max(0, round_trip_ns - took_ns)
            size -= window_bytes
            window_bytes += window_bytes if window_bytes < self._threshold_bytes else segment_bytes
        self._window_bytes = min(window_bytes, WINDOW_BYTES)
        self._flight_bytes = flight_bytes
        return leaves_ns

    def _reduce_window(self, when_ns: int) -> None:
        """A segment was lost that left then."""
        if when_ns >= self._reduced_ns:
            self._window_bytes = max(round(self._window_bytes * AFTER_LOSS), 2 * self._segment_bytes)
            self._threshold_bytes = self._window_bytes
            self._reduced_ns = when_ns + self._settled_ns + self._back_ns

    def _reset_window(self) -> None:
        """Nothing came through for a while: begin with a single segment."""
        self._threshold_bytes = max(self._window_bytes // 2, 2 * self._segment_bytes)
        self._window_bytes = self._segment_bytes

    def _through_outages(self, leaves_ns: int, segments: int) -> int:
        """When it leaves for the time that it comes through."""
        outages = self._outages
        assert outages is not None
        while True:
            until_ns = outages.until_ns(leaves_ns) or outages.until_ns(leaves_ns + self._settled_ns)
            if not until_ns:
                return leaves_ns
            self.counts.lost += segments
            self.counts.outage_lost += segments
            self._reset_window()
            leaves_ns = self._after_timeouts(leaves_ns, until_ns)

    def _after_timeouts(self, sent_ns: int, until_ns: int) -> int:
        """The first retransmission not before `until_ns` of what was first sent at `sent_ns`, and each time in vain."""
        timeout_ns, doublings = self._rto_ns, 0
        again_ns = sent_ns + timeout_ns
        while again_ns < until_ns:
            if doublings < RTO_DOUBLINGS_MAX:
                doublings += 1
                timeout_ns *= 2
            again_ns += timeout_ns
        return again_ns

    def _chances(self, entry: "_Entry", segments: int, took_ns: int) -> None:
        """Segments that something happens to: the last `segments` packets."""
        end, leaves_ns = self._packets, entry[2]
        arrives_ns = entry[0]
        delay_ns = arrives_ns - leaves_ns
        losses = []
        while self._event_at <= end:
            self._packets = packet = self._event_at
            lost = self._lost_in_line()
            if packet >= self._reorder_at:
                self._reorder_at = self._after(self._direction.reorder)
                if not lost:
                    held_ns = int(self._direction.reorder_ms * NS_PER_MS * (0.5 + 0.5 * self._random.random()))
                    entry[0] = max(entry[0], arrives_ns + held_ns)
                    self.counts.reordered += 1
            self._set_event()
            if lost:
                self._reduce_window(leaves_ns)
                follow = end - packet
                if follow >= FOLLOWERS:
                    third_ns = leaves_ns - took_ns * (follow - FOLLOWERS) // segments
                    again_ns, timeout_ns = third_ns + delay_ns + self._back_ns, self._rto_ns
                else:
                    again_ns = leaves_ns - took_ns * follow // segments + self._rto_ns
                    timeout_ns = 2 * self._rto_ns
                mended_ns = self._sent_again(again_ns, timeout_ns)
                losses.append(_Loss(FOLLOWERS - follow, again_ns, timeout_ns, mended_ns))
        self._packets = end
        if losses:
            self._mending.append(_Mending(entry, losses))

    def _tell_of_losses(self, arrives_ns: int, segments: int, now_ns: int) -> None:
        """Segments that arrive then follow those that were lost: their sender learns of it before its timeout."""
        still = []
        for mending in self._mending:
            if mending.entry[0] <= now_ns:
                continue
            still.append(mending)
            for loss in mending.losses:
                if loss.follow > 0:
                    loss.follow -= segments
                    told_ns = arrives_ns + self._back_ns
                    if loss.follow <= 0 and told_ns < loss.again_ns:
                        loss.again_ns, loss.timeout_ns = told_ns, self._rto_ns
                        loss.mended_ns = self._sent_again(told_ns, self._rto_ns)
                        mending.settle()
        self._mending = still
        self._set_next()

    def _sent_again(self, again_ns: int, timeout_ns: int, from_ns: int = 0) -> int:
        """When a segment arrives that is sent again at `again_ns`, after a timeout once more, and so on until it comes
        through; those before `from_ns` did not. NEVER after as many as TCP tries."""
        share, outages = self._loss_share(), self._outages
        for _ in range(RETRIES_MAX):
            if again_ns >= from_ns:
                in_outage = outages is not None and outages.until_ns(again_ns)
                if not in_outage and self._random.random() >= share:
                    return again_ns + self._settled_ns
            again_ns += timeout_ns
            timeout_ns = min(2 * timeout_ns, self._rto_ns << RTO_DOUBLINGS_MAX)
        return NEVER

    def _send_waiting(self, now_ns: int, from_ns: int) -> None:
        """Let what has not left leave from then on."""
        free_ns = max(now_ns, from_ns)
        delay_ns = self._settle(free_ns)
        # What leaves anew has lost nothing yet: times of losses that it would have had are of the line before.
        self._mending = [mending for mending in self._mending if mending.entry[2] <= now_ns]
        self._flight = deque(
            (entry[0] + self._back_ns, len(entry[1] or b""))
            for entry in self._entries
            if entry[2] <= now_ns and entry[0] < NEVER
        )
        self._flight_bytes = sum(size for _, size in self._flight)
        for entry in self._entries:
            if entry[2] <= now_ns and entry[0] < NEVER:
                continue
            size = 0 if entry[1] is None else len(entry[1])
            free_ns = self._wait_for_window(size, free_ns, delay_ns)
            if self._bits_s:
                segments = max(1, -(-size // self._segment_bytes))
                free_ns += (size + SEGMENT_HEADER_BYTES * segments) * 8_000_000_000 // self._bits_s
            if self._outages is not None:
                free_ns = self._through_outages(free_ns, 1)
            entry[2] = free_ns
            entry[0] = free_ns + delay_ns
            self._flight.append((free_ns + delay_ns + self._back_ns, size))
            self._flight_bytes += size
        self._free_ns = free_ns
        self._count_unsent(now_ns)
        self._set_next()

    def _count_unsent(self, now_ns: int) -> None:
        self._unsent = deque(
            (entry[2], 0 if entry[1] is None else len(entry[1])) for entry in self._entries if entry[2] > now_ns
        )
        self._unsent_bytes = sum(size for _, size in self._unsent)


def stream_paths(
    profile: Profile, seed: str, *, buffer_bytes: int = STREAM_BUFFER_BYTES, outages: Outages | None = None
) -> tuple[StreamPath, StreamPath]:
    """A connection's two ways, down and up: each with chance of its own, from the seed, and tunnels in common."""
    if outages is None:
        outages = Outages(random.Random(f"{seed}/outages"))
    down, up = (
        StreamPath(
            direction,
            random.Random(f"{seed}/{name}"),
            return_latency_ms=back.latency_ms,
            buffer_bytes=buffer_bytes,
            outages=outages,
        )
        for name, direction, back in (("down", profile.down, profile.up), ("up", profile.up, profile.down))
    )
    return down, up


_Entry = list[Any]
"""[when it arrives, its bytes or None for the end, when it leaves]."""


class _Loss:
    """One lost segment."""

    __slots__ = ("again_ns", "follow", "mended_ns", "timeout_ns")

    def __init__(self, follow: int, again_ns: int, timeout_ns: int, mended_ns: int) -> None:
        self.follow = follow
        """So many segments more that arrive after it tell its sender."""
        self.again_ns = again_ns
        """When it is sent again for the first time."""
        self.timeout_ns = timeout_ns
        """From then to the second time."""
        self.mended_ns = mended_ns
        """When it is there."""


class _Mending:
    """An entry with lost segments."""

    __slots__ = ("_floor_ns", "entry", "losses")

    def __init__(self, entry: _Entry, losses: list[_Loss]) -> None:
        self.entry = entry
        self.losses = losses
        # When the rest of it is there.
        self._floor_ns = entry[0]
        self.settle()

    def settle(self) -> None:
        """It is there when all of it is."""
        self.entry[0] = max(self._floor_ns, max(loss.mended_ns for loss in self.losses))
