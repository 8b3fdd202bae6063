"""From where a session goes on over another link: what its replica holds, if the changes since are kept.

    (epoch, version) named     held in this history?      changes since are kept?     the next delta
    (7, 40)  of epoch 7        yes, up to the head         yes                         (40, head]
    (7, 40)                    yes                         no                          a full sync
    (6, 40)  6 ended at 50     yes: 40 ≤ 50, an ancestor   as above                    as above
    (6, 60)                    no: 60 was lost in a crash                              a full sync

A client may name what it likes: all that it gets by it is a delta that it cannot use.

Event rows are kept apart from changes, and for less long: where those of the first versions after the base are gone, or
about to go, it is said up to which.

Invariant: a base that is handed out is `EMPTY_VERSION`, or a version of this history whose changes are kept now. They
may be gone before the delta is cut; then it is cut from the empty world after all (`link`).
"""

from collections.abc import Sequence
from typing import NamedTuple

from ecsnet._kernel.kernel import HistoryGone
from ecsnet._kernel.pin import Pin
from ecsnet.authority.event_log import EventLog
from ecsnet.ids import EMPTY_VERSION, Version

__all__ = ["GoingOn", "going_on"]


class GoingOn(NamedTuple):
    """Where a session goes on. With base 0 the world begins anew, and event rows begin behind it."""

    base: Version
    events_from: Version
    """Event rows of versions after this one are still to be had."""


_ANEW = GoingOn(EMPTY_VERSION, EMPTY_VERSION)


def going_on(
    held: tuple[int, int],
    epoch: int,
    ancestors: Sequence[tuple[int, int]],
    head: Pin,
    events: EventLog | None,
    born: Version = EMPTY_VERSION,
) -> GoingOn:
    """Where a session goes on whose client says that it holds `held`: an epoch and a version.

    Args:
        epoch: of the history that `head` is the newest published version of; `ancestors` are those before, oldest
            first, each with the last version that it shares with this one.
        events: the event rows that are kept; None where there are none to tell of.
        born: the version after which it is known what the session has seen: of that one, and of older ones, nobody can
            say what it lacks, or holds and should not.
    """
    version = held[1]
    if not born < version <= min(head.version, _last_shared(held[0], epoch, ancestors)):
        return _ANEW
    try:
        head.touched(version)
    except HistoryGone:
        return _ANEW
    base = Version(version)
    return GoingOn(base, base if events is None else events.told_from(base))


def _last_shared(theirs: int, epoch: int, ancestors: Sequence[tuple[int, int]]) -> int:
    """The last version that a history has in common with this one; 0 for a history that is no ancestor."""
    if theirs == epoch:
        return 1 << 64
    last = EMPTY_VERSION
    for number, until in ancestors:
        if number == theirs:
            last = Version(until)
        elif last:
            # Of what it shares with its successor, no more than that shares with the next is in this one.
            last = min(last, Version(until))
    return last
