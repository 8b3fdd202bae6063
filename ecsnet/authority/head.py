"""The newest published version, pinned once for all who are told of it; and what was encoded since the start.

Where the schema rounds what it sends, the versions before the newest stay pinned, too, as references.

Invariants:
- `number` grows whenever another version is taken, so that whoever keeps something of the one before sees that it is
  old by one comparison;
- no publication waits for what is pinned here: `yield_pins` lets go of all but the newest.
"""

from collections import deque

from ecsnet._kernel.kernel import KernelStore, Pin
from ecsnet.ids import EMPTY_VERSION, Tick, Version
from ecsnet.wire.compression import Compressor

__all__ = ["Head"]

_REFERENCES_MAX = 2
"""Versions before the newest that deltas may be relative to. Who keeps up is one behind; each costs the buffers of the
columns that changed since."""


class Head:
    """See the file. Its attributes are for reading."""

    __slots__ = (
        "_kernel",
        "_references",
        "compresses",
        "compressor",
        "digests_computed",
        "encoded",
        "encoded_bytes",
        "number",
        "pin",
        "shared",
        "tick",
        "version",
    )

    def __init__(self, kernel: KernelStore) -> None:
        self._kernel = kernel
        self.number = 1
        self.pin: Pin = kernel.acquire()
        self.version = Version(self.pin.version)
        """What everything leads to that is handed out."""
        self.tick = Tick(self.pin.tick)
        self._references: deque[Pin] | None = deque() if _rounds(kernel) else None
        """Oldest first. None where no schema's field is rounded: integers alone gain too little by it."""
        self.compresses = False
        """Somebody reads compressed blocks: what is not packed is laid in planes."""
        self.compressor = Compressor()
        self.encoded = 0
        self.encoded_bytes = 0
        self.shared = 0
        """Deltas that somebody else had asked for before."""
        self.digests_computed = 0

    @property
    def is_old(self) -> bool:
        """Whether a newer version is published."""
        return self._kernel.published_version != self.version

    @property
    def is_in_the_way(self) -> bool:
        """Whether a publication was put off for what is pinned, and `yield_pins` would help. Where it only waits for
        the disk nothing is gained."""
        return bool(self._references and self._kernel.staleness and self._kernel.statistics().pressure)

    def refresh(self) -> bool:
        """Take the newest published version. True if it is another one than before."""
        if not self.is_old:
            return False
        old = self.pin
        self.pin = self._kernel.acquire()
        if self._references is None or old.version == EMPTY_VERSION:
            old.release()
        else:
            self._references.append(old)
            if len(self._references) > _REFERENCES_MAX:
                self._references.popleft().release()
        self.version, self.tick = Version(self.pin.version), Tick(self.pin.tick)
        self.number += 1
        return True

    @property
    def references(self) -> dict[int, Pin]:
        """The versions before the newest that are pinned still, by their numbers."""
        return {pin.version: pin for pin in self._references or ()}

    def reference(self, base: Version) -> Pin | None:
        """The version `base`, where it is pinned still."""
        for pin in self._references or ():
            if pin.version == base:
                return pin
        return None

    def yield_pins(self) -> None:
        """Let go of all versions but the newest."""
        while self._references:
            self._references.popleft().release()

    def close(self) -> None:
        """Let all versions go."""
        self.yield_pins()
        self.pin.release()


def _rounds(kernel: KernelStore) -> bool:
    return any(field.quantize for table in kernel.schema.tables for field in table.fields)
