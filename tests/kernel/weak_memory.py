"""What a program may see on a machine that reorders.

The part of C11's memory model that the kernel uses, and no more: every write of a shared atomic is a read-modify-write
(so that what one thread releases, whoever acquires a later value acquires too: a release sequence is never broken),
loads may see any value that is not older than one seen before, and there are no fences. Ordinary memory is watched by
vector clocks: two accesses, one of them a write, that are not ordered by happens-before are a race.

`explore` tries every interleaving and every value that a load may see, within the bounds of a model.
"""

from collections.abc import Callable, Iterable
from typing import Any

Clock = tuple[int, ...]


class Caught(AssertionError):
    """The model did what it must never do."""


def joined(a: Clock, b: Clock) -> Clock:
    return tuple(map(max, a, b))


def ticked(clock: Clock, thread: int) -> Clock:
    return tuple(value + (place == thread) for place, value in enumerate(clock))


def replaced(of: tuple[Any, ...], place: int, value: Any) -> tuple[Any, ...]:
    return (*of[:place], value, *of[place + 1 :])


def acquires(order: str) -> bool:
    return order in ("acquire", "acq_rel", "seq_cst")


def releases(order: str) -> bool:
    return order in ("release", "acq_rel", "seq_cst")


# An atomic: its values in modification order, each with the clock that acquiring it gives, and whether it was written
# sequentially consistently.
Atomic = tuple[tuple[Any, Clock, bool], ...]


def modify(atomic: Atomic, clock: Clock, thread: int, order: str, value: Any) -> tuple[Atomic, Clock, Clock]:
    """A read-modify-write: it reads the newest value. Returns the atomic, and the thread's clock at and after it."""
    seen = atomic[-1][1]
    now = joined(clock, seen) if acquires(order) else clock
    released = joined(now, seen) if releases(order) else seen
    return (*atomic, (value, released, order == "seq_cst")), now, ticked(now, thread)


def loads(atomic: Atomic, seen: int, clock: Clock, order: str) -> Iterable[tuple[int, Any, Clock]]:
    """What a load may see: place in modification order, value, and the thread's clock after it."""
    first = seen
    if order == "seq_cst":
        first = max([first] + [place for place, (_, _, total) in enumerate(atomic) if total])
    for place in range(first, len(atomic)):
        value, released, _ = atomic[place]
        yield place, value, joined(clock, released) if acquires(order) else clock


# Ordinary memory: its value, who wrote it when, and when each thread last read it.
Cell = tuple[Any, tuple[int, int], Clock]


def written(cell: Cell, clock: Clock, thread: int, value: Any, what: str) -> Cell:
    _, (writer, when), read = cell
    if clock[writer] < when:
        raise Caught(f"{what}: two writes race")
    if any(read[reader] > clock[reader] for reader in range(len(clock)) if reader != thread):
        raise Caught(f"{what}: a write races with a reader")
    return value, (thread, clock[thread]), (0,) * len(clock)


def seen_by(cell: Cell, clock: Clock, thread: int, what: str) -> Cell:
    value, (writer, when), read = cell
    if clock[writer] < when:
        raise Caught(f"{what}: a reader sees a write that it is not ordered after")
    return value, (writer, when), replaced(read, thread, clock[thread])


def explore(start: Any, step: Callable[[Any], list[Any]], ended: Callable[[Any], None], states_max: int) -> int:
    """Every state that can be reached, each once. Returns how many there are.

    Args:
        ended: looks at a state from which nothing goes on.
    """
    known, todo = {start}, [start]
    while todo:
        state = todo.pop()
        following = step(state)
        if not following:
            ended(state)
        for one in following:
            if one not in known:
                known.add(one)
                todo.append(one)
        assert len(known) <= states_max, "the model is too large to be tried out"
    return len(known)
