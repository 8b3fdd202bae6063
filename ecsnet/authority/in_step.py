"""Links that keep up: nothing happens to them but a delta in each tick and an ack now and then, and so they cost next
to nothing in Python, however many there are.

Such a link is *in step*. What changes from tick to tick, its base and what is unacked, lies in a row of the kernel's,
which goes through all rows in one call. Whoever looks at that of a link, or changes anything of it, gets the link out
of step by doing so, whole and as if it had never been in: the attributes in question are not there meanwhile, and
looking for them brings them back. So nobody needs to know about this who does not want to.

    deltas, `STEADY_DELTAS` in a row      any look at base, window, session, …
    Link ────────────────► in step ──────────────────────────────► Link

Invariants:
- a link in step is live, on a stream, has a place, nothing unsent and no sync under way;
- what comes of it, and what it is sent, is what would have come of it out of step (a property test says so).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ecsnet._kernel.hub import ACK, ARRIVED
from ecsnet._kernel.in_step import Kind, Rows, Tick
from ecsnet.errors import RemoteProtocolError
from ecsnet.limits import FRAME_HEADER_BYTES, UNACKED_VERSIONS_MAX
from ecsnet.wire.codec import ACK_BYTES, read_ack_untrusted

if TYPE_CHECKING:
    from ecsnet.authority.batch import Batch
    from ecsnet.authority.blocks import Digest
    from ecsnet.authority.link import Link

__all__ = ["STEADY_DELTAS", "InStep"]

STEADY_DELTAS: Final = 16
"""Deltas, with nothing else between them, after which a link is taken for one that keeps up: going in and out costs as
much as some ticks out of step."""

_TICKS_MAX: Final = 2 * UNACKED_VERSIONS_MAX

Cut = tuple[int, int, "Digest"]
"""The number of a block in a batch, its length, and the digest that is told with it."""


class InStep:
    """The links of one authority that are in step."""

    def __init__(self) -> None:
        self._rows = Rows()
        self._links: dict[int, Link] = {}
        self._by_row = np.zeros(0, object)
        """The same, for looking up many at once."""
        self._out: dict[int, Link] = {}
        """By number, links that are not in step."""
        self._is_in_order = True
        """The numbers of those ascend."""
        self._left = 0
        self._ticks: dict[int, int] = {}
        """The ticks of the newest versions that were sent."""

    def __len__(self) -> int:
        return len(self._links)

    @property
    def others(self) -> "tuple[Link, ...]":
        """The open links that are not in step, in the order in which they were opened: those that a tick goes through
        one by one."""
        if not self._is_in_order:
            self._out = dict(sorted(self._out.items()))
            self._is_in_order = True
        return tuple(self._out.values())

    def opened(self, link: "Link") -> None:
        """A link begins, out of step. Its number is above all before it."""
        self._out[link.number] = link

    def closed(self, link: "Link") -> None:
        """A link has ended."""
        link.leave_step()
        self._out.pop(link.number, None)

    def take(self, link: "Link", group: int = 0) -> None:
        """Take a link in. Links of one group that hold the same are sent the same."""
        row = self._rows.put(*link.to_row(group))
        self._links[row] = link
        if row >= len(self._by_row):
            self._by_row = np.concatenate((self._by_row, np.zeros(row + 1, object)))
        self._by_row[row] = link
        self._out.pop(link.number, None)
        link.enter_step(self, row)

    def leave(self, row: int) -> tuple[tuple[int, ...], list[tuple[int, int, int]]]:
        """A link goes out: what its row has come to. Called by the link."""
        link = self._links.pop(row)
        self._by_row[row] = None
        self._out[link.number] = link
        self._is_in_order = False
        self._left += 1
        return self._rows.take(row)

    def tick_of(self, version: int, otherwise: int) -> int:
        """The tick of a version that links in step were sent; `otherwise` of one long ago."""
        return self._ticks.get(version, otherwise)

    def add_to(self, batch: "Batch", tick: Tick, cut_for: Callable[[Kind], Cut | None]) -> None:
        """The deltas of all links in step, as the first entries of a batch. Links that want something else, or for
        whose kind there is no ordinary delta, go out of step."""
        if not self._links:
            return
        chosen = self._rows.choose(tick)
        cuts = [cut_for(kind) for kind in chosen.kinds]
        entries, rows = chosen.entries, chosen.rows
        out = [self._links[row] for row in chosen.odd]
        if None in cuts:
            without = np.array([cut is None for cut in cuts])[entries["block"]]
            out += [self._links[row] for row in rows[without].tolist()]
            entries, rows = entries[~without], rows[~without]
        if len(entries):
            # By kind, so that each is filled in once, whatever their number.
            blocks, lengths, lows, highs = (np.zeros(len(cuts), np.uint64) for _ in range(4))
            for number, cut in enumerate(cuts):
                if cut is not None:
                    blocks[number], lengths[number] = cut[0], cut[1]
                    lows[number], highs[number] = cut[2]
            kinds = entries["block"].copy()
            entries["block"] = blocks[kinds]
            entries["length"] = lengths[kinds]
            entries["digest_low"] = lows[kinds]
            entries["digest_high"] = highs[kinds]
            links: list[Link] = self._by_row[rows].tolist()
            batch.add_in_step(tick, entries, rows.copy(), links, self._left + len(out))
        for link in out:
            link.leave_step()

    def record(self, batch: "Batch", taken: NDArray[np.int32]) -> int:
        """What came of the entries that `add_to` made; how many these were."""
        if batch.in_step is None:
            return 0
        tick, rows, left = batch.in_step
        count = len(rows)
        entries, taken = batch.array[:count], np.ascontiguousarray(taken[:count], np.int32)
        if left != self._left:
            here = np.array([link.row == row for link, row in zip(batch.links, rows.tolist(), strict=False)], bool)
            for number in np.flatnonzero(~here).tolist():
                # It has gone out of step since.
                link, entry = batch.links[number], entries[number]
                if taken[number] > 0:
                    told = entry["digest_low"] or entry["digest_high"]
                    length = batch.delta_length(number)
                    link.record_delta(batch.version, length, tick.now_ns, tick.digest_window if told else None)
                    link.server.tick = batch.tick
                elif taken[number] == 0:
                    link.record_blocked(tick.now_ns)
            entries, rows, taken = entries[here], rows[here], taken[here]
        self._rows.record(tick, entries, rows, taken)
        self._ticks[tick.version] = batch.tick
        while len(self._ticks) > _TICKS_MAX:
            del self._ticks[next(iter(self._ticks))]
        return count

    def take_acks(self, acks: NDArray[np.void], now_ns: int) -> NDArray[np.void]:
        """Take the ordinary acks of links in step, and give the others back."""
        return self._rows.take_acks(acks, now_ns) if self._links else acks

    def take_ack(self, link: "Link", payload: bytes | bytearray | memoryview, now_ns: int) -> bool:
        """The same for the payload of one ack. False, and nothing has happened, where it is no ordinary one."""
        if len(payload) != ACK_BYTES - FRAME_HEADER_BYTES or type(payload) is not bytes:
            return False
        try:
            session, version, epoch, chunks = read_ack_untrusted(payload)
        except RemoteProtocolError:
            return False
        ack = np.array([(link.place, session, version, epoch, chunks, 0, 0, ACK, 0)], ARRIVED)
        return not len(self._rows.take_acks(ack, now_ns))

    def look(self, now_ns: int) -> None:
        """Take those out of step that have been silent, took nothing or acked nothing for too long."""
        if self._links:
            for row in self._rows.slow(now_ns):
                self._links[row].leave_step()
