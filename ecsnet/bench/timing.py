"""Measuring by turns: all sides do the same work, run after run, so that what disturbs the machine disturbs all.

Invariant: a work times itself and returns seconds for one operation, so that its set-up stays out. It takes the CPU
time of its thread: nothing in memory waits, and what else runs on the machine is not charged to it.
"""

import gc
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from time import perf_counter

__all__ = ["Work", "by_turns", "quantile", "quiet", "together"]

Work = Callable[[], float]
"""Does the work once and returns seconds per operation."""


@contextmanager
def quiet() -> Iterator[None]:
    """No garbage collection meanwhile: it would be charged to whoever happens to allocate."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def by_turns(works: Mapping[str, Work], runs: int) -> dict[str, float]:
    """The median of `runs` runs of each work in nanoseconds, after one that does not count."""
    samples: dict[str, list[float]] = {name: [] for name in works}
    with quiet():
        for run in range(runs + 1):
            for name, work in works.items():
                seconds = work()
                if run:
                    samples[name].append(seconds)
    return {name: median(taken) * 1e9 for name, taken in samples.items()}


def quantile(samples: Sequence[float], share: float) -> float:
    """The sample that `share` of all are below."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def together(threads: int, work: Callable[[int], None]) -> float:
    """Wall seconds from a common start until all have ended. An exception of one is raised here."""
    start = threading.Barrier(threads + 1)
    failures: list[BaseException] = []

    def each(number: int) -> None:
        start.wait()
        try:
            work(number)
        except BaseException as failure:  # noqa: BLE001  (raised in the caller's thread)
            failures.append(failure)

    all_threads = [threading.Thread(target=each, args=(number,), name=f"bench {number}") for number in range(threads)]
    for thread in all_threads:
        thread.start()
    start.wait()
    started = perf_counter()
    for thread in all_threads:
        thread.join()
    seconds = perf_counter() - started
    if failures:
        raise failures[0]
    return seconds
