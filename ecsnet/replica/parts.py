"""Parts of deltas that came by datagram, until all of one are there.

A delta that does not fit one datagram goes in several, each a DeltaSync of its own with the same base and version. They
come in any order, twice, or not at all; what makes them one is `(base, version, parts)`, and nothing else is put
together: another base, or another number of parts, is another cut.

    (12, 15] in 3: 0 . 2      the middle one was lost. Nobody asks for it:
    (12, 16] in 3: 0 1 2      the next delta covers it, is applied, and what is staged of older versions goes

Invariants: what is staged is invisible; it is of `DELTAS_STAGED_MAX` deltas at most, the newest.
"""

from ecsnet.limits import DELTAS_STAGED_MAX
from ecsnet.replica.staging import Block
from ecsnet.wire.messages import DeltaSync


class Parts:
    """The deltas of which some parts are there."""

    __slots__ = ("_staged",)

    def __init__(self) -> None:
        # By version first: the oldest is the least.
        self._staged: dict[tuple[int, int, int], list[Block | None]] = {}

    def __len__(self) -> int:
        return len(self._staged)

    def add_untrusted(self, message: DeltaSync) -> list[Block] | None:
        """Take one part of a delta that can be applied. When it was the last that was missing: the blocks of all, in
        order, and nothing is staged any more of that version or an older one. Otherwise None."""
        if message.parts <= 1:  # 0, of a sender that does not know them, is one
            self._forget(message.version)
            return [message.block]
        key = (message.version, message.base, message.parts)
        blocks = self._staged.setdefault(key, [None] * message.parts)
        if blocks[message.part] is None:
            blocks[message.part] = message.block
        whole = [block for block in blocks if block is not None]
        if len(whole) == message.parts:
            self._forget(message.version)
            return whole
        if len(self._staged) > DELTAS_STAGED_MAX:
            del self._staged[min(self._staged)]
        return None

    def _forget(self, version: int) -> None:
        if self._staged:
            self._staged = {key: blocks for key, blocks in self._staged.items() if key[0] > version}
