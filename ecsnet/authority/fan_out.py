"""What a tick sends to many links: which of them are due for an ordinary delta, which of those are sent the same bytes,
and what came of it.

A link that wants anything else, or for whose base there is no ordinary delta, is left to `Link.next_transmit`.

Invariants:
- what many are sent is cut once: by audience, base, digest and compression;
- what a batch says has not happened until `record`, and making another one gives it again.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ecsnet._kernel.in_step import Tick as InStepTick
from ecsnet._kernel.kernel import HistoryGone
from ecsnet.authority.audiences import Audience, Audiences
from ecsnet.authority.batch import Batch
from ecsnet.authority.blocks import NO_DIGEST, Blocks, Digest
from ecsnet.authority.event_log import EventLog
from ecsnet.authority.event_logs import EventLogs
from ecsnet.authority.head import Head
from ecsnet.authority.in_step import STEADY_DELTAS, InStep
from ecsnet.authority.link import Link
from ecsnet.authority.own_deltas import Asked, add_own
from ecsnet.ids import EMPTY_VERSION, Epoch, Version
from ecsnet.wire.messages import COMPRESSION

__all__ = ["FanOut"]


class FanOut:
    """See the file.

    Args:
        head: what all deltas lead to; whoever calls has taken the newest.
        events: the event rows that are kept; None where there are none to tell of.
        window_of: the window for digests that an audience is in.
        part: called with a link, and the time, that was too slow for its event rows.
    """

    __slots__ = ("_audiences", "_head", "_in_step", "_part", "_usual", "_window_of")

    def __init__(
        self,
        head: Head,
        audiences: Audiences,
        events: EventLogs | None,
        in_step: InStep,
        *,
        window_of: Callable[[Audience], int],
        part: Callable[[Link, int], None],
    ) -> None:
        self._head = head
        self._audiences = audiences
        self._usual = None if events is None else events.usual
        self._in_step = in_step
        self._window_of = window_of
        self._part = part

    def deltas(self, epoch: Epoch, now_ns: int) -> Batch:
        """One delta for each link that is due for one. The rest of the batch are others that want something."""
        version = self._head.version
        batch = Batch(epoch, version, self._head.tick)
        ends: dict[EventLog, int] = {}
        cuts: dict[tuple[Blocks, Version, bool, bool], tuple[int, int, Digest] | None] = {}
        last_key: tuple[Blocks, Version, bool, bool] | None = None
        cut: tuple[int, int, Digest] | None = None
        rest = batch.rest
        shared_window = self._window_of(self._audiences.everybody)
        self._in_step.add_to(
            batch,
            InStepTick(version, now_ns, shared_window, _end_of(ends, self._usual, version)),
            lambda kind: self._cut_for(
                batch,
                shared_window,
                self._audiences.shared_by(kind.group >> 1).blocks,
                Version(kind.base),
                kind.wants_digest,
                kind.group & 1 != 0,
            ),
        )
        own: list[Asked] = []
        # Those that have just gone out of step are among them.
        for link in self._in_step.others:
            if not _is_plain(link):
                link.steady = 0
                if not link.cut and link.wants(now_ns):
                    rest.append(link)
                continue
            base, audience = link.base, link.audience
            if base >= version or not link.window.has_room_for_delta(now_ns):
                continue
            told = link.event_next
            before: tuple[bytes, ...] = ()
            if told is not None and told < (end := _end_of(ends, link.events, version)):
                if link.misses_events:
                    self._part(link, now_ns)
                    continue
                before = _event_frames(link, told, end)
            window = self._window_of(audience)
            if audience.own and base != EMPTY_VERSION:
                own.append(Asked(link, before, window))
                continue
            wants_digest = window != link.digest_window
            if wants_digest and audience.blocks.is_late_for_digest(window):
                # It joined since. What it costs to scan the world for this one, nobody else's delta waits for.
                rest.append(link)
                continue
            key = (audience.blocks, base, wants_digest, link.server.features & COMPRESSION != 0)
            if key != last_key:
                # The next link most likely wants the same.
                last_key = key
                if key not in cuts:
                    cuts[key] = self._cut_for(batch, shared_window, *key)
                cut = cuts[key]
            if cut is None:
                rest.append(link)
                continue
            block, length, digest = cut
            batch.add(
                link,
                base=base,
                digest=digest,
                window=window if wants_digest else None,
                block=block,
                offset=0,
                length=length,
                before=before,
            )
        if own:
            add_own(batch, self._audiences, own, now_ns)
        return batch

    def work(self) -> Callable[[], None] | None:
        """What is to be done first, on whatever thread, for links that have audiences of their own, who are never in
        step."""
        version = self._head.version
        return self._audiences.work(
            [
                (link.audience, link.base)
                for link in self._in_step.others
                if link.audience.own and _is_plain(link) and EMPTY_VERSION < link.base < version
            ]
        )

    def record(self, batch: Batch, taken: NDArray[np.int32], now_ns: int) -> None:
        """What came of a batch: see `Authority.record_batch`."""
        version, tick = batch.version, batch.tick
        assert len(taken) == len(batch)
        first = self._in_step.record(batch, taken)
        counts = taken[first:].tolist()
        for number, count in enumerate(counts, first):
            link, window = batch.links[number], batch.windows[number]
            if count < 0:
                continue
            if number in batch.before:
                end = 0
                for frame in batch.before[number]:
                    if count > end:
                        link.record_event(len(frame))
                    end += len(frame)
                count = max(0, count - end)
                link.steady = 0
            if count == 0:
                link.record_blocked(now_ns)
                continue
            link.record_delta(version, batch.delta_length(number), now_ns, window)
            link.server.tick = tick
            link.steady += 1
            # Those of a group are sent the same bytes, and all that are in step are told the same rows of events.
            shares = not link.audience.own and link.events is self._usual
            if link.steady >= STEADY_DELTAS and link.keeps_up and shares:
                reads_compressed = link.server.features & COMPRESSION != 0
                self._in_step.take(link, link.audience.group << 1 | reads_compressed)

    def _cut_for(
        self, batch: Batch, window: int, blocks: Blocks, base: Version, wants_digest: bool, compressed: bool
    ) -> tuple[int, int, Digest] | None:
        """The block from `base` in a batch, its length and its digest. None where it is no ordinary delta: a full sync,
        one in chunks, or one whose digest is not to be had."""
        if base == EMPTY_VERSION:
            return None
        digest = NO_DIGEST
        try:
            cut = blocks.delta(base)
        except HistoryGone:
            return None
        if wants_digest:
            digest = blocks.digest_in(window)
        if cut is None or (wants_digest and digest == NO_DIGEST):
            return None
        if compressed:
            cut = blocks.compressed(cut)
        return batch.add_block(cut.block), len(cut.block), digest


def _end_of(ends: dict[EventLog, int], log: EventLog | None, version: Version) -> int:
    """The number behind a log's last message of `version` and before; `ends` knows those that were asked for."""
    if log is None:
        return 0
    end = ends.get(log)
    if end is None:
        end = ends[log] = log.end_of(version)
    return end


def _event_frames(link: Link, told: int, end: int) -> tuple[bytes, ...]:
    """A link's messages of event rows `[told, end)`."""
    log, session = link.events, link.server.session
    assert log is not None
    return tuple(log.frames(number).frame(session, number - link.event_origin + 1) for number in range(told, end))


def _is_plain(link: Link) -> bool:
    """Whether all that there may be to say is an ordinary delta, and a hub is there to send it."""
    server = link.server
    return (
        link.live
        and not link.cut
        and link.place is not None
        and not server.frames
        and link.is_plain
        and not server.closed
    )
