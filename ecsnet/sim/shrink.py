"""Make a failing run smaller while it still fails: fewer faults, less time, fewer clients.

A failure among eight clients, forty faults and half a minute says little. This looks for a smaller run that fails in
the same way, greedily, biggest steps first; what is told is the smallest that was seen to fail.

Invariants:
- bounded: no more than `tries` runs, none begun after `wall_s` of real time;
- the verdict stays what it was: shrinking looks for another failing run and says nothing about the first;
- whatever is returned was run and failed, or is what was given.
"""

import math
import time
from collections.abc import Callable, Iterator

import msgspec

from ecsnet.sim.run import Outcome, no_outcome
from ecsnet.sim.scenario import Scenario

TRIES_MAX = 60
WALL_S_MAX = 30.0
"""What a person waits for without asking whether the program hangs."""

SECONDS_STEP = 0.1
"""Times are tried in whole tenths: a command line that is read by people."""


class Case(msgspec.Struct, frozen=True):
    """What of a run can be made smaller. `faults` are the numbers of those that are kept."""

    clients: int
    seconds: float
    faults: tuple[int, ...] = ()
    hostile: int = 0

    def words(self) -> str:
        """As in "2 clients, no faults, 3.1 s"."""
        parts = [_count(self.clients, "client"), _count(len(self.faults), "fault"), f"{self.seconds:g} s"]
        if self.hostile:
            parts.insert(1, f"{self.hostile} hostile")
        return ", ".join(parts)


class Shrunk(msgspec.Struct, frozen=True):
    """The smallest failing case that was found, and what it took."""

    case: Case
    tries: int
    wall_s: float
    smaller: bool
    """Whether it is smaller than what was given."""
    finished: bool
    """Whether nothing smaller was left to try; else a bound ended the search."""


Fails = Callable[[Case], float | None]
"""Runs a case. The virtual second of its failure (the end of the run where none is known), or None: it passes, or fails
in another way."""


def shrink(
    case: Case,
    fails: Fails,
    *,
    failed_at_s: float | None = None,
    clients_min: int = 1,
    tries: int = TRIES_MAX,
    wall_s: float = WALL_S_MAX,
) -> Shrunk:
    """Look for a smaller case that fails.

    Args:
        case: a case that fails.
        failed_at_s: when in it the first failure was, if that is known: the first thing to try is to stop there.
        clients_min: no fewer than so many.
    """
    begin = time.monotonic()
    best, ends_at_s = case, failed_at_s
    seen = {case}
    made = 0
    while True:
        for candidate in _smaller(best, ends_at_s, clients_min):
            if candidate in seen:
                continue
            if made >= tries or time.monotonic() - begin >= wall_s:
                return Shrunk(best, made, time.monotonic() - begin, best != case, False)
            seen.add(candidate)
            made += 1
            failed_at = fails(candidate)
            if failed_at is not None:
                best, ends_at_s = candidate, failed_at
                break
        else:
            return Shrunk(best, made, time.monotonic() - begin, best != case, True)


class ShrunkScenario(msgspec.Struct, frozen=True):
    """The smallest scenario that was seen to fail in the same way, in words, and the command that runs it."""

    words: str
    replay: str
    tries: int
    finished: bool


RunWithin = Callable[[Scenario, float], Outcome]
"""Runs a scenario for at most so many seconds of real time."""


def shrink_scenario(
    scenario: Scenario, outcome: Outcome, run: RunWithin, *, tries: int = TRIES_MAX, wall_s: float = WALL_S_MAX
) -> ShrunkScenario | None:
    """Look for a smaller scenario that fails in one of the ways in which `scenario` did; None if there is none.

    One that was stopped by the wall clock is not tried again: each try would take as long.
    """
    if outcome.stopped is not None:
        return None
    deadline = time.monotonic() + wall_s
    settled = scenario.settled()
    assert settled.clients is not None

    def made_of(case: Case) -> Scenario:
        names = {f"client-{number}" for number in range(case.clients)}
        kept = [settled.faults[number] for number in case.faults]
        faults = tuple(
            fault for fault in kept if fault.at_s < case.seconds and (fault.who is None or fault.who in names)
        )
        return settled.with_(clients=case.clients, seconds=case.seconds, hostile=case.hostile, faults=faults)

    def fails(case: Case) -> float | None:
        smaller = made_of(case)
        try:
            result = run(smaller, max(1.0, deadline - time.monotonic()))
        except Exception as raised:  # noqa: BLE001  (the game's own code, before there is a run: in its `setup`)
            result = no_outcome(smaller, error=f"{type(raised).__name__}: {raised}")
        if not result.signature & outcome.signature:
            return None
        return case.seconds if result.failed_at_s is None else result.failed_at_s

    everything = Case(settled.clients, settled.seconds, tuple(range(len(settled.faults))), settled.hostile)
    shrunk = shrink(everything, fails, failed_at_s=outcome.failed_at_s, tries=tries, wall_s=wall_s)
    if not shrunk.smaller:
        return None
    smallest = made_of(shrunk.case)
    words = msgspec.structs.replace(shrunk.case, faults=tuple(range(len(smallest.faults)))).words()
    return ShrunkScenario(words, smallest.command(), shrunk.tries, shrunk.finished)


def _smaller(case: Case, ends_at_s: float | None, clients_min: int) -> Iterator[Case]:
    """Cases to try, those that take away most first."""
    if case.faults:
        yield msgspec.structs.replace(case, faults=())
    if case.hostile:
        yield msgspec.structs.replace(case, hostile=0)
    for seconds in _shorter(case.seconds, ends_at_s):
        yield msgspec.structs.replace(case, seconds=seconds)
    for clients in (clients_min, 2, case.clients // 2, case.clients - 1):
        if clients_min <= clients < case.clients:
            yield msgspec.structs.replace(case, clients=clients)
    # Halves, quarters, … and at last each by itself.
    size = len(case.faults) // 2
    while size:
        for start in range(0, len(case.faults), size):
            yield msgspec.structs.replace(case, faults=case.faults[:start] + case.faults[start + size :])
        size //= 2


def _shorter(seconds: float, ends_at_s: float | None) -> Iterator[float]:
    wanted = [seconds / 2, seconds * 0.75, seconds * 0.9]
    if ends_at_s is not None and ends_at_s < seconds:
        wanted.insert(0, ends_at_s)
    for one in wanted:
        rounded = max(SECONDS_STEP, math.ceil(one / SECONDS_STEP - 1e-9) * SECONDS_STEP)
        rounded = round(rounded, 3)
        if rounded < seconds:
            yield rounded


def _count(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"
