"""The event rows of the newest versions as bytes, for links that are to be told each of them once.

Event rows are never netted: a link that was given no delta for a while gets one from its old base, but all messages of
event rows since. So they are kept once, for all links, and a link is no more than a place in here:

    kept          … 7  8  9 | 10          of versions 40 40 41 44: what one version has may be several messages
    a link                ^               has been told all before 9, its base is 41
    another                      ^        has been told all

What is kept is bounded; whoever has not been told what had to go cannot be told all of it any more, and is parted with.

Invariants: messages are numbered without gaps, in the order of versions and of their rows; all of the newest version is
here, however much that is.
"""

from collections import deque
from collections.abc import Sequence

from ecsnet.ids import Epoch, Tick, Version
from ecsnet.limits import EVENT_LOG_BYTES_MAX
from ecsnet.wire.event_frame import EventFrames

__all__ = ["EventLog"]


class EventLog:
    """The messages `[first, end)`."""

    __slots__ = ("_bytes", "_epoch", "_gone", "_messages", "end", "first")

    def __init__(self, epoch: Epoch) -> None:
        self._epoch = epoch
        self._messages: deque[tuple[Version, EventFrames]] = deque()
        self._bytes = 0
        self._gone = Version(0)
        self.first = 0
        """The number of the oldest message that is kept."""
        self.end = 0
        """The number of the next message."""

    def add(self, version: Version, tick: Tick, blocks: Sequence[bytes]) -> None:
        """Keep the event rows of a version that was just made."""
        for block in blocks:
            frames = EventFrames(epoch=self._epoch, version=version, tick=tick, block=block)
            self._messages.append((version, frames))
            self._bytes += frames.length
            self.end += 1
        while self._bytes > EVENT_LOG_BYTES_MAX and self._messages[0][0] < version:
            self._gone, frames = self._messages.popleft()
            self._bytes -= frames.length
            self.first += 1

    def frames(self, number: int) -> EventFrames:
        """The message of that number, which is kept."""
        return self._messages[number - self.first][1]

    def end_of(self, version: Version) -> int:
        """The number behind the last message of `version` and those before it. Below `first` where that is not known
        any more: messages of later versions had to go."""
        if self._gone > version:
            return self.first - 1
        number = self.end
        for kept, _ in reversed(self._messages):
            if kept <= version:
                break
            number -= 1
        return number
