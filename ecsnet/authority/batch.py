"""The ordinary fan-out of a tick: one delta for each of many links, as one table that a hub sends from.

    entries   place | session | entity | base | digest | command ack | flags | which block, from where, how long
    blocks    [ bytes, bytes, … ]       each encoded once, shared by all entries that name it
    links     [ Link, Link, … ]         in the order of the entries

A native hub reads the entries where they lie and composes each head beside its block; the Python hub asks for all that
is `composed`, the simulator for one `frame(n)` after the other. All send the same bytes.

Invariants:
- all entries lead to one version, and a link is named once;
- nothing has happened until `Authority.record_batch`; a batch is of use until the authority is told anything else;
- what goes before a delta (messages of event rows) and the delta are offered in one piece. A frame that was begun has
  happened: its rest is written before anything else. One that was not has not, and is made anew.
"""

from struct import Struct
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ecsnet._kernel.hub import ENTRY as ENTRY_TYPE
from ecsnet._kernel.hub import compose
from ecsnet._kernel.in_step import Tick as InStepTick
from ecsnet.ids import Epoch, Tick, Version
from ecsnet.wire.codec import DELTA_HEAD_BYTES, DeltaFrames

if TYPE_CHECKING:
    from ecsnet.authority.blocks import Digest
    from ecsnet.authority.link import Link

__all__ = ["ENTRY", "Batch"]

ENTRY: Final = Struct("<QQQQQQIIIIII")
"""One delta for one place: place, session, entity, base, digest (low, high), command ack, flags, the number of its
block, where in that it begins and how many bytes it has, and the number of a block that goes before, plus 1 (0: none).
`kernel/zig/hub.zig` reads it where it lies."""


class Batch:
    """Deltas to be sent, made by `Authority.deltas_to_send`. Its attributes are for reading."""

    __slots__ = (
        "_frames",
        "before",
        "blocks",
        "entries",
        "epoch",
        "in_step",
        "links",
        "rest",
        "tick",
        "version",
        "windows",
    )

    def __init__(self, epoch: Epoch, version: Version, tick: Tick) -> None:
        self.epoch = epoch
        self.version = version
        """What each delta leads to."""
        self.tick = tick
        self.links: list[Link] = []
        self.windows: list[int | None] = []
        """By entry, the window of the digest that goes with it; None: it has none."""
        self.entries = bytearray()
        """`ENTRY` by `ENTRY`."""
        self.blocks: list[bytes | memoryview] = []
        self.before: dict[int, tuple[bytes, ...]] = {}
        """By the number of an entry, whole frames that go before its delta."""
        self.in_step: tuple[InStepTick, NDArray[np.uint32], int] | None = None
        """Of the first entries, what `in_step` knows them by."""
        self.rest: list[Link] = []
        """Links that want something else, or that no batch reaches: go on with `next_transmit` for those."""
        self._frames: dict[tuple[int, int, int, int, int, int], DeltaFrames] = {}

    def __len__(self) -> int:
        return len(self.links)

    def add_block(self, block: bytes | memoryview) -> int:
        """Take a block, or a buffer of many, that entries will name by the number returned. It is kept as it is."""
        self.blocks.append(block)
        return len(self.blocks) - 1

    def add(
        self,
        link: "Link",
        *,
        base: Version,
        digest: "Digest",
        window: int | None,
        block: int,
        offset: int,
        length: int,
        flags: int = 0,
        before: tuple[bytes, ...] = (),
    ) -> None:
        """A delta for `link`, which has a place: `length` bytes of a block from `offset` on. With `window`, `digest` is
        told with it; (0, 0) is none."""
        place = link.place
        assert place is not None
        first = 0
        if before:
            self.before[len(self.links)] = before
            first = self.add_block(b"".join(before)) + 1
        server = link.server
        self.entries += ENTRY.pack(
            place,
            server.session,
            link.entity,
            base,
            digest[0],
            digest[1],
            server.ledger.answered,
            flags,
            block,
            offset,
            length,
            first,
        )
        self.links.append(link)
        self.windows.append(window)

    def add_in_step(
        self, tick: InStepTick, entries: NDArray[np.void], rows: NDArray[np.uint32], links: list["Link"], left: int
    ) -> None:
        """The entries of links in step, before all others."""
        assert not self.links
        self.in_step = (tick, rows, left)
        self.entries += entries.tobytes()
        self.links += links
        self.windows += [None] * len(links)

    def part(self, numbers: NDArray[np.intp]) -> "Batch":
        """The entries of these numbers, in this order, for one of several hubs to send. What came of them is recorded
        with the whole."""
        part = Batch(self.epoch, self.version, self.tick)
        part.entries += self.array[numbers].tobytes()
        part.blocks, part._frames = self.blocks, self._frames
        for number, whole in enumerate(numbers.tolist()):
            part.links.append(self.links[whole])
            part.windows.append(self.windows[whole])
            if whole in self.before:
                part.before[number] = self.before[whole]
        return part

    @property
    def array(self) -> NDArray[np.void]:
        """The entries; none may be added while it is held."""
        return np.frombuffer(self.entries, ENTRY_TYPE)

    def lengths(self) -> NDArray[np.int64]:
        """By entry, what `length` says."""
        lengths: NDArray[np.int64] = self.array["length"].astype(np.int64)
        lengths += DELTA_HEAD_BYTES + -lengths % 8
        for number, frames in self.before.items():
            lengths[number] += sum(map(len, frames))
        return lengths

    def place(self, number: int) -> int:
        """Where entry `number` is to be sent."""
        place: int = ENTRY.unpack_from(self.entries, number * ENTRY.size)[0]
        return place

    def delta_length(self, number: int) -> int:
        """The bytes of entry `number`'s delta as a frame."""
        length: int = ENTRY.unpack_from(self.entries, number * ENTRY.size)[10]
        return DELTA_HEAD_BYTES + length + -length % 8

    def length(self, number: int) -> int:
        """The bytes of entry `number` with what goes before it: what a hub has taken that has taken all of it."""
        return self.delta_length(number) + sum(map(len, self.before.get(number, ())))

    def begun(self, number: int, taken: int) -> int:
        """Where the last frame ends that was begun when `taken` bytes of entry `number` were taken: whoever took them
        owes the place `frame(number)[taken:begun(number, taken)]`."""
        if taken <= 0:
            return 0
        end = 0
        for frame in self.before.get(number, ()):
            end += len(frame)
            if taken <= end:
                return end
        return end + self.delta_length(number)

    def frame(self, number: int) -> bytes:
        """All that goes to the place of entry `number`, in one piece."""
        _, session, entity, base, low, high, command_ack, flags, block, offset, length, _ = ENTRY.unpack_from(
            self.entries, number * ENTRY.size
        )
        key = (base, low, flags, block, offset, length)
        frames = self._frames.get(key)
        if frames is None:
            frames = self._frames[key] = DeltaFrames(
                epoch=self.epoch,
                base=base,
                version=self.version,
                tick=self.tick,
                digest=(low, high),
                block=self.blocks[block][offset : offset + length],
                flags=flags,
            )
        delta = frames.frame(session, entity, command_ack)
        before = self.before.get(number)
        return delta if before is None else b"".join((*before, delta))

    def composed(self) -> tuple[memoryview, list[int]]:
        """`frame(0)`, `frame(1)`, … one after the other, made in one call, and where each of them ends."""
        ends: list[int] = np.cumsum(self.lengths()).tolist()
        total = ends[-1] if ends else 0
        return compose(self.version, self.tick, self.epoch, self.entries, self.blocks, total), ends

    def frames(self, number: int) -> tuple[bytes, ...]:
        """The same, a frame at a time, where a path carries frames and not bytes."""
        whole = self.frame(number)
        before = self.before.get(number, ())
        return (*before, whole[sum(map(len, before)) :]) if before else (whole,)
