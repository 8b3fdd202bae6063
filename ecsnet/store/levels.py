"""How durable a version is before its transaction is answered: four levels, and the numbers around a store's disk."""

from typing import Final

from ecsnet.errors import ArgumentError

__all__ = [
    "LEVELS",
    "MEMORY",
    "PARANOID",
    "RELAXED",
    "SEGMENT_BYTES",
    "SHOWING_S_MAX",
    "SNAPSHOT_EVERY_BYTES",
    "STRICT",
    "level_of",
]

MEMORY: Final = 0
"""Answered at once, written behind."""
RELAXED: Final = 1
"""Answered when the operating system has it: it survives the death of the process."""
STRICT: Final = 2
"""Answered, and shown to anybody, when it is synced: it survives a loss of power."""
PARANOID: Final = 3
"""Answered when the HORIZON is synced too."""

LEVELS: Final = ("memory", "relaxed", "strict", "paranoid")
"""What a game calls them, by number."""

SEGMENT_BYTES: Final = 16 << 20
"""Of one file of the log: some thousand commits, and prepared in some ten milliseconds."""

SNAPSHOT_EVERY_BYTES: Final = 64 << 20
"""Of the log until a snapshot is made in the background: opening reads so much in some tenths of a second."""

SHOWING_S_MAX: Final = 0.05
"""How long a tick waits for the store's own thread, which has the baton while it shows what became durable: much more
than that takes."""


def level_of(durability: str) -> int:
    """The number of a level.

    Raises:
        ArgumentError: there is none of that name.
    """
    try:
        return LEVELS.index(durability)
    except ValueError:
        raise ArgumentError(f"expected a durability among {', '.join(LEVELS)}, found {durability!r}") from None
