"""The faults of a run: which begin by now, which end, and which were in force when.

Invariant: every fault that began ends, at its time or when the run comes to rest, and each is in the trace.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ecsnet.sim.faults import Fault, begin, end
from ecsnet.sim.recording import FaultSpan

if TYPE_CHECKING:
    from ecsnet.sim.cluster import Cluster


class Schedule:
    """See the file."""

    def __init__(self, faults: Sequence[Fault], cluster: "Cluster") -> None:
        self.counts: dict[str, int] = {}
        """How many of each kind have begun."""
        self._waiting = sorted(faults, key=lambda fault: (fault.at_s, fault.kind, fault.who or ""))
        self._open: list[tuple[float, float, Fault]] = []
        """(end, begin, fault), in the order of begin."""
        self._past: list[FaultSpan] = []
        self._cluster = cluster

    def do_due(self) -> None:
        """End and begin what is due by now."""
        cluster = self._cluster
        now_s = cluster.now_s
        for entry in [entry for entry in self._open if entry[0] <= now_s]:
            self._end(entry)
        while self._waiting and self._waiting[0].at_s <= now_s:
            fault = self._waiting.pop(0)
            cluster.note(f"begin {fault.kind} {fault.who or ''}")
            begin(fault, cluster)
            self.counts[fault.kind] = self.counts.get(fault.kind, 0) + 1
            self._open.append((now_s + fault.for_s, now_s, fault))

    def end_all(self) -> None:
        """End what is in force; nothing begins any more."""
        self._waiting = []
        for entry in list(self._open):
            self._end(entry)

    def spans(self) -> list[FaultSpan]:
        """Of all faults that began."""
        going_on = [FaultSpan(fault.kind, begin_s, end_s, fault.who or "") for end_s, begin_s, fault in self._open]
        return [*self._past, *going_on]

    def _end(self, entry: tuple[float, float, Fault]) -> None:
        self._open.remove(entry)
        _, begin_s, fault = entry
        cluster = self._cluster
        cluster.note(f"end {fault.kind} {fault.who or ''}")
        end(fault, cluster)
        self._past.append(FaultSpan(fault.kind, begin_s, cluster.now_s, fault.who or ""))
