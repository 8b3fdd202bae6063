"""A seed for Trio's scheduler, and the proof that it governs it.

Trio runs the tasks that are ready in an order of chance, on purpose, and offers no seed. Its own tests have one,
through two private names of its run loop: a switch that sorts the ready tasks by age, and the generator that shuffles
them. They are touched here and nowhere else, and `check_seeding` shows, at the beginning of each simulated run, that
they still do what they did: a Trio that changes must end a run with an error, not let equal seeds part quietly.

Invariants:
- outside of `deterministic_trio` Trio is as it was;
- one seeded run at a time in a process: another Trio loop in another thread would draw from the same generator.
"""

import contextlib
import threading
from collections.abc import Iterator
from importlib import import_module
from random import Random

import trio
from trio.testing import MockClock

from ecsnet.errors import BusyError, EcsnetError

_SWITCH = "_ALLOW_DETERMINISTIC_SCHEDULING"
_GENERATOR = "_r"

_TASKS = 6
_ROUNDS = 4
"""Six tasks in four rounds have 3 · 10¹¹ orders: so rarely does a scheduler without a seed meet the same one twice."""

_running = threading.Lock()


class SeedingError(EcsnetError):
    """Trio's scheduler does not do what the seed says, so that no run under it could be had again. Nothing was run."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"a seed does not govern the scheduler of Trio {trio.__version__}: {reason}; runs on the cores alone "
            f"(ecsnet.sim.cluster) do not need Trio, and an older Trio may do"
        )
        self.reason = reason


@contextlib.contextmanager
def deterministic_trio(seed: int) -> Iterator[None]:
    """Let `seed` decide in which order Trio runs the tasks that are ready.

    Raises:
        SeedingError: this Trio has no such names. BusyError: a seeded run is under way, in another thread or around
            this one.
    """
    scheduler = import_module("trio._core._run")
    generator = getattr(scheduler, _GENERATOR, None)
    for name, found in ((_SWITCH, hasattr(scheduler, _SWITCH)), (_GENERATOR, isinstance(generator, Random))):
        if not found:
            raise SeedingError(f"trio._core._run.{name} is gone, or something else than it was")
    assert isinstance(generator, Random)
    if not _running.acquire(blocking=False):
        raise BusyError("a seeded run of Trio is under way in this process; one at a time")
    try:
        switch, state = getattr(scheduler, _SWITCH), generator.getstate()
        setattr(scheduler, _SWITCH, True)
        generator.seed(seed)
        try:
            yield
        finally:
            setattr(scheduler, _SWITCH, switch)
            generator.setstate(state)
    finally:
        _running.release()


def check_seeding() -> None:
    """Show that the seed governs the order of tasks, and nothing else does.

    Raises:
        SeedingError: it does not.
    """
    once = _order(1)
    if _order(1) != once:
        raise SeedingError("tasks that are ready at once ran in another order with the same seed")
    if _order(1, backwards=True) != once:
        raise SeedingError("tasks ran in the order in which they became ready, which is not the seed's")
    if _order(2) == once:
        raise SeedingError("another seed gave the same order")


def _order(seed: int, *, backwards: bool = False) -> list[int]:
    """The order in which tasks ran that were woken together, a few times over."""
    ran: list[int] = []

    async def wait(number: int, wake_ups: list[trio.Event]) -> None:
        for event in wake_ups:
            await event.wait()
            ran.append(number)

    async def main() -> None:
        events = [[trio.Event() for _ in range(_ROUNDS)] for _ in range(_TASKS)]
        async with trio.open_nursery() as nursery:
            for number in range(_TASKS):
                nursery.start_soon(wait, number, events[number])
            for turn in range(_ROUNDS):
                await trio.testing.wait_all_tasks_blocked()
                for number in reversed(range(_TASKS)) if backwards else range(_TASKS):
                    events[number][turn].set()

    with deterministic_trio(seed):
        trio.run(main, clock=MockClock(autojump_threshold=0))
    return ran
