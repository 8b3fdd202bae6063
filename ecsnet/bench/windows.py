"""Clients that join a server under measurement, and the windows in which all of them count.

Invariants: the first client is the probe and joins before all others; the others are spread over four processes at
most; a window is what everybody counted between two marks, which all are asked for at once.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ecsnet.bench.workers import Counts, Worker

__all__ = ["Clients", "Window", "join", "lags_of", "take_windows"]

_PROCESSES_MAX: Final = 4

Clients = Callable[[str, int], Worker]
"""Starts a process with so many clients of a kind, "probe" or "sinks"."""


@dataclass(frozen=True, slots=True)
class Window:
    """What everybody counted in one window."""

    server: Counts
    probe: Counts
    sinks: list[Counts]


def join(clients: Clients, count: int) -> list[Worker]:
    """`count` clients, joined: the probe's process and those of the others."""
    probe = clients("probe", 1)
    probe.answer()
    sinks = []
    left = count - 1
    processes = min(left, _PROCESSES_MAX)
    for i in range(processes):
        some = left // (processes - i)
        left -= some
        sinks.append(clients("sinks", some))
    for sink in sinks:
        sink.answer()
    return [probe, *sinks]


def take_windows(everybody: Sequence[Worker], windows: int, window_s: float) -> list[Window]:
    """So many windows, from now on. `everybody` is the server, the probe, and the others."""

    def mark() -> Window:
        for one in everybody:
            one.ask()
        first, second, *rest = [one.answer() for one in everybody]
        return Window(first, second, rest)

    mark()
    taken = []
    for _ in range(windows):
        time.sleep(window_s)
        taken.append(mark())
    return taken


def lags_of(windows: Sequence[Window]) -> list[int]:
    """Nanoseconds from the beginning of each version's tick until the probe had applied it, over all windows."""
    began: dict[int, int] = {}
    for window in windows:
        began.update(window.server["began"])
    # Versions made before the first window have no stamp here.
    return [at - began[version] for window in windows for version, at in window.probe["applied"] if version in began]
