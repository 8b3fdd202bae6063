"""Colours of light and dark pages.

Blue, vermilion and green of about equal strength: told apart with every common form of colour blindness. What matters
has a word or a shape besides its colour.
"""

from typing import NamedTuple

__all__ = ["DARK", "LIGHT", "Palette", "shade_opacity"]


class Palette(NamedTuple):
    """One page's colours, as #rrggbb."""

    page: str
    card: str
    ink: str
    muted: str
    """Words that stand back: units, captions."""
    grid: str
    player: str
    """The thin line of one of many."""
    median: str
    worst: str
    second: str
    """A second quantity in the same chart."""
    fault: str
    violation: str
    good: str
    bad: str


LIGHT = Palette(
    page="#f4f6f9",
    card="#ffffff",
    ink="#18202c",
    muted="#5a6575",
    grid="#e3e8ee",
    player="#7d8a9c",
    median="#0b67ad",
    worst="#cc4a0a",
    second="#007d63",
    fault="#e3a008",
    violation="#b8124f",
    good="#00755b",
    bad="#b3123c",
)

DARK = Palette(
    page="#0e1217",
    card="#171c23",
    ink="#e9edf3",
    muted="#9ba7b6",
    grid="#2a323d",
    player="#8693a5",
    median="#62b6f3",
    worst="#ff8f52",
    second="#42cfa8",
    fault="#f0b73a",
    violation="#ff6a9c",
    good="#42cfa8",
    bad="#ff7f95",
)


def shade_opacity(strength: float) -> float:
    """How opaque a fault's shade is: seen when faint, and never so strong that lines in it are not."""
    return 0.06 + 0.24 * strength
