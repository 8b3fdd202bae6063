"""One accepted socket: its link in the authority, who writes to it, and what is still to be written.

Invariant: `hub_writes` is true exactly while the hub has the connection armed and its link has a place, and then `rest`
is empty: who writes is never in doubt, and every writer begins at the beginning of a frame.
"""

from collections.abc import Sequence

import trio

from ecsnet.authority import Link
from ecsnet.limits import MESSAGE_TO_NODE_BYTES_MAX
from ecsnet.node.hub import Part
from ecsnet.node.tls import Transport
from ecsnet.wire.framing import FrameReader


class Connection:
    """State that the node and its tasks share; all of it belongs to Trio's thread."""

    __slots__ = (
        "broken",
        "finishing",
        "hub_writes",
        "link",
        "network",
        "place",
        "reader",
        "rest",
        "scope",
        "socket",
        "work",
    )

    def __init__(self, connected: Transport, link: Link, network: str | None = None) -> None:
        self.socket = connected
        self.link = link
        self.network = network
        """What its address is counted under."""
        self.reader = FrameReader(MESSAGE_TO_NODE_BYTES_MAX)
        self.scope = trio.CancelScope()
        """Cancelled to cut the connection. It may be, before the task that enters it has begun."""
        self.work = trio.Event()
        """Set when the task has something to do; the task replaces it."""
        self.place: int | None = None
        """Where it is in the hub, once its input comes from there."""
        self.hub_writes = False
        self.rest: memoryview | None = None
        """What is left of a frame of which a part was sent."""
        self.finishing = False
        """The last frame was handed over, at least in part: flush it, then close."""
        self.broken = False
        """What arrived was no frame: nothing after it can be read."""

    def record_partial(self, parts: Sequence[Part], taken: int) -> None:
        """The socket took `taken` bytes of `parts`, and not all of them."""
        assert self.rest is None and taken > 0
        self.rest = tail_of(parts, taken)
        assert self.rest


def tail_of(parts: Sequence[Part], taken: int) -> memoryview:
    """The bytes of `parts` after the first `taken`, in a copy of their own: the parts are shared with other links."""
    return memoryview(b"".join(parts))[taken:]
