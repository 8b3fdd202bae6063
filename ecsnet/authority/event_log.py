"""The event rows of the newest versions as bytes, for links that are to be told each of them once.

Event rows are never netted: a link that was given no delta for a while gets one from its old base, but all messages of
event rows since. So they are kept once, for all links, and a link is no more than a place in here:

    kept          … 7  8  9 | 10          of versions 40 40 41 44: what one version has may be several messages
    a link                ^               has been told all before 9, its base is 41
    another                      ^        has been told all

What is kept is bounded; whoever has not been told what had to go cannot be told all of it any more, and is parted with.

Whichever thread commits adds to it; what was added is taken in by the thread that serves the links, which alone looks
at the rest.

Invariants: messages are numbered without gaps, in the order of versions and of their rows; all of the newest version is
here, however much that is; what is added is added before its version can be seen.
"""

from collections import deque
from collections.abc import Sequence

from ecsnet.errors import LimitExceededError
from ecsnet.ids import Epoch, Tick, Version
from ecsnet.limits import EVENT_BLOCK_BYTES, EVENT_LOG_BYTES_MAX
from ecsnet.schema import Schema
from ecsnet.wire.event_frame import EventFrames

__all__ = ["EventLog", "tells_of_events"]


def tells_of_events(schema: Schema) -> bool:
    """Whether clients are told of rows of some event table.

    Raises:
        LimitExceededError: a row of one may be larger than what every client takes in one message.
    """
    told_of = [table for table in schema.tables if table.kind == "event" and table.replicated]
    for table in told_of:
        row_bytes = sum(field.count + 5 if field.type == "string" else field.width for field in table.fields)
        if row_bytes > EVENT_BLOCK_BYTES:
            raise LimitExceededError(f"bytes of a row of the event table {table.name}", EVENT_BLOCK_BYTES, row_bytes)
    return bool(told_of)


class EventLog:
    """The messages `[first, end)`."""

    __slots__ = ("_added", "_bytes", "_epoch", "_messages", "end", "first", "gone")

    def __init__(self, epoch: Epoch, begin: Version) -> None:
        """Args:
        begin: the newest version that there is already: of those up to it nothing is known.
        """
        self._epoch = epoch
        self._added: deque[tuple[Version, Tick, Sequence[bytes]]] = deque()
        self._messages: deque[tuple[Version, EventFrames]] = deque()
        self._bytes = 0
        self.gone = begin
        """The newest version of which rows had to go, or may have: all of later versions are kept."""
        self.first = 0
        """The number of the oldest message that is kept."""
        self.end = 0
        """The number of the next message."""

    @property
    def kept_bytes(self) -> int:
        return self._bytes

    def add(self, version: Version, tick: Tick, blocks: Sequence[bytes]) -> None:
        """Note the event rows of a version that is about to be seen. From any thread."""
        self._added.append((version, tick, blocks))

    def take_in(self) -> None:
        """Go on with what was added."""
        added = self._added
        while added:
            self._keep(*added.popleft())

    def _keep(self, version: Version, tick: Tick, blocks: Sequence[bytes]) -> None:
        while self._messages and self._messages[-1][0] == version:
            # It was not made then, and nobody was told of it.
            _, frames = self._messages.pop()
            self._bytes -= frames.length
            self.end -= 1
        for block in blocks:
            frames = EventFrames(epoch=self._epoch, version=version, tick=tick, block=block)
            self._messages.append((version, frames))
            self._bytes += frames.length
            self.end += 1
        while self._bytes > EVENT_LOG_BYTES_MAX and self._messages[0][0] < version:
            self.gone, frames = self._messages.popleft()
            self._bytes -= frames.length
            self.first += 1

    def frames(self, number: int) -> EventFrames:
        """The message of that number, which is kept."""
        return self._messages[number - self.first][1]

    def told_from(self, version: Version) -> Version:
        """The version after which a session's rows go on that was told those of `version` and before: that one, or a
        later one where not all since are kept, or so many that some would have to go before they are sent."""
        left = EVENT_LOG_BYTES_MAX * 3 // 4
        for kept, frames in reversed(self._messages):
            left -= frames.length
            if kept <= version:
                break
            if left < 0:
                return kept
        return max(version, self.gone)

    def end_of(self, version: Version) -> int:
        """The number behind the last message of `version` and those before it. Below `first` where that is not known
        any more: messages of later versions had to go."""
        if self.gone > version:
            return self.first - 1
        number = self.end
        for kept, _ in reversed(self._messages):
            if kept <= version:
                break
            number -= 1
        return number
