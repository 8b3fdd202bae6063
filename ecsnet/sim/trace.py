"""The trace of a run: one hash over every frame that arrived, when, and every fault.

Two runs with equal hashes went the same way, frame by frame and nanosecond by nanosecond. Nothing of the wall clock, of
addresses in memory or of Python's own hashes goes in, so that a seed gives the same trace in every process.
"""

import hashlib
from struct import Struct

from mmh3 import mmh3_x64_128_digest as _digest

_ARRIVAL = Struct("<qHB")

TO_NODE = 0
TO_PLAYER = 1

_FLUSH_BYTES = 1 << 16


class Trace:
    """Collects; `hexdigest` may be asked at any time."""

    __slots__ = ("_buffer", "_hash", "events")

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._buffer = bytearray()
        self.events = 0

    def arrived(self, when_ns: int, player: int, direction: int, data: bytes) -> None:
        """A frame or datagram came to its end of a link."""
        self.all_arrived([(when_ns, data)], player, direction)

    def all_arrived(self, arrivals: list[tuple[int, bytes]], player: int, direction: int) -> None:
        """The same for all that came at once: (when, data), ascending."""
        self.events += len(arrivals)
        buffer = self._buffer
        for when_ns, data in arrivals:
            buffer += _ARRIVAL.pack(when_ns, player, direction) + _digest(data)
        if len(buffer) >= _FLUSH_BYTES:
            self._hash.update(buffer)
            buffer.clear()

    def note(self, when_ns: int, text: str) -> None:
        """Anything else that decides the course: a fault, a join, a crash."""
        self.events += 1
        self._buffer += f"|{when_ns} {text}|".encode()

    def hexdigest(self) -> str:
        """32 hex digits."""
        self._hash.update(self._buffer)
        self._buffer.clear()
        return self._hash.hexdigest()
