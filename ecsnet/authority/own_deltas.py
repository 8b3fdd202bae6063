"""The part of a tick's fan-out that goes to sessions with audiences of their own: all their blocks in one call of the
kernel, in one buffer that the entries of the batch point into.

A version in which nothing has changed for a client is not told to it, but for its command's sake, for a digest's, or
because it has heard nothing for a while: that its base falls behind costs nothing, for some time
(`Link.may_stay_quiet`).
"""

from collections.abc import Sequence
from typing import NamedTuple

from ecsnet.authority.audiences import Audiences
from ecsnet.authority.batch import Batch
from ecsnet.authority.blocks import NO_DIGEST
from ecsnet.authority.link import Link
from ecsnet.wire.messages import PARTIAL

__all__ = ["Asked", "add_own"]


class Asked(NamedTuple):
    """A link that is due for a delta, the frames that go before it, and its window for digests."""

    link: Link
    before: tuple[bytes, ...]
    window: int


def add_own(batch: Batch, audiences: Audiences, asked: Sequence[Asked], now_ns: int) -> None:
    """Add the deltas of these links to a batch. What is no ordinary delta goes to `batch.rest`."""
    deltas = audiences.deltas([(one.link.audience, one.link.base) for one in asked])
    buffer = batch.add_block(deltas.buffer)
    nothing: int | None = None
    for (link, before, window), begin, length in zip(
        asked, deltas.offsets.tolist(), deltas.lengths.tolist(), strict=True
    ):
        if length < 0:
            batch.rest.append(link)
            continue
        wants_digest = window != link.digest_window
        block = buffer
        if length == 0:
            if not wants_digest and not before and link.may_stay_quiet(batch.version, now_ns):
                continue
            if nothing is None:
                nothing = batch.add_block(audiences.nothing)
            block, begin, length = nothing, 0, len(audiences.nothing)
        partial = link.audience.has_budget and link.audience.blocks.waiting() > 0
        digest = link.audience.blocks.digest_in(window) if wants_digest and not partial else NO_DIGEST
        batch.add(
            link,
            base=link.base,
            digest=digest,
            window=window if digest != NO_DIGEST else None,
            block=block,
            offset=begin,
            length=length,
            flags=PARTIAL if partial else 0,
            before=before,
        )
