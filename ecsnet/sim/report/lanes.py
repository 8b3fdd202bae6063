"""Faults on the time line: bars in lanes, and the shades that they throw behind all charts over time."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ecsnet.sim.recording import FaultSpan
from ecsnet.sim.report.reading import Reading

__all__ = ["Lane", "Shade", "fault_lanes", "shades"]

_SHADE_STEPS = 2000
"""Finer than a pixel."""

_SHADE_DEPTH = 3.0
"""So many faults of everybody at once are the strongest shade."""

_SHADED_SHARE_MAX = 0.4


class Lane(NamedTuple):
    """All faults of one kind; those that overlap are in different rows."""

    kind: str
    rows: tuple[tuple[FaultSpan, ...], ...]


def fault_lanes(faults: Iterable[FaultSpan]) -> list[Lane]:
    """One lane per kind, in the order in which they first struck."""
    by_kind: dict[str, list[list[FaultSpan]]] = {}
    for fault in sorted(faults, key=lambda fault: (fault.begin_s, fault.end_s, fault.kind, fault.who)):
        rows = by_kind.setdefault(fault.kind, [])
        for row in rows:
            if row[-1].end_s <= fault.begin_s:
                row.append(fault)
                break
        else:
            rows.append([fault])
    return [Lane(kind, tuple(tuple(row) for row in rows)) for kind, rows in by_kind.items()]


class Shade(NamedTuple):
    begin_s: float
    end_s: float
    strength: float
    """0 to 1: how much was wrong at once, and for how many players."""


def shades(reading: Reading) -> list[Shade]:
    """When something was wrong, to be laid behind what came of it. In order, without overlaps, and few."""
    end_s = reading.times.end_s
    # A fault of one player says little about the others: the more there are, the less.
    of_one = min(0.4, max(0.1, 2 / max(1, len(reading.players))))
    edges = np.zeros(_SHADE_STEPS + 1)
    for fault in reading.recording.faults:
        # What lasts through most of a run explains no moment of it, and would only dim everything.
        if not 0 <= fault.end_s - fault.begin_s < end_s * _SHADED_SHARE_MAX:
            continue
        begin, end = (int(np.clip(at_s / end_s, 0, 1) * _SHADE_STEPS) for at_s in (fault.begin_s, fault.end_s))
        weight = of_one if fault.who else 1.0
        edges[begin] += weight
        edges[max(end, begin + 1) if begin < _SHADE_STEPS else begin] -= weight
    depth = np.round(np.minimum(np.cumsum(edges[:-1]) / _SHADE_DEPTH, 1.0), 2)
    starts = np.flatnonzero(np.diff(depth, prepend=-1.0))
    ends = np.append(starts[1:], _SHADE_STEPS)
    step_s = end_s / _SHADE_STEPS
    return [
        Shade(start * step_s, end * step_s, float(depth[start]))
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        if depth[start] > 0
    ]
