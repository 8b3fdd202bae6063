"""The logs of node and bots put together: the figures of a demo.

Lag is joined by version: the node notes when the tick that made a version began, each bot when it had applied it, both
by CLOCK_MONOTONIC, which all processes of a machine share.

Invariants:
- nothing is estimated but what says so: `bytes_per_moved_entity` counts, for a delta that covers several versions, the
  rows of the one that moved most, since a row that moved twice is sent once. In a world that moves whole this is exact;
- what happened before `begin` and after `end` counts for `converged`, and for nothing that is measured over time.
"""

from array import array
from collections import defaultdict

import msgspec
import numpy as np
from numpy.typing import NDArray

from ecsnet.demo.messages import BotsStatus, NodeStatus
from ecsnet.demo.options import Options


class Lag(msgspec.Struct, frozen=True):
    """Milliseconds; None where no version was applied while lag was measured."""

    p50: float | None
    p99: float | None
    max: float | None


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a demo, as `--json` prints it. `kills` and `acked_lost` are of a world on disk; in memory both are
    0 because nothing of the kind was tried. With interest nobody counts the moved rows that each client was sent, so
    `bytes_per_moved_entity` is None."""

    converged: bool
    clients: int
    entities: int
    hz: int
    ticks: int
    version: int
    epoch: int
    digest: str
    lag_ms: Lag
    applied_share: float | None
    bytes_per_client_s: float | None
    bytes_per_moved_entity: float | None
    cpu_cores: float | None
    joins: int
    full_syncs: int
    resumes: int
    commands_sent: int
    commands_lost: int
    commands_unanswered: int
    commands_applied_twice: int
    kills: int
    acked_lost: int
    drops: int
    entities_seen: float | None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether all ended alike. `why_not` has one line for each that did not; empty when converged."""

    converged: bool
    version: int
    digest: str
    tick: int
    epoch: int
    took_s: float
    entities_seen: float | None = None
    why_not: tuple[str, ...] = ()


class _BotsLog:
    """What one process of bots has told."""

    def __init__(self) -> None:
        self.stays = array("q")
        self.versions = array("q")
        self.times = array("q")
        self.newest: BotsStatus | None = None
        self.first: BotsStatus | None = None
        self.last: BotsStatus | None = None
        # Of the entries, those from here to there were received between begin and end.
        self.begin = 0
        self.end: int | None = None


class Tally:
    """Takes every status in and gives figures out: of the last moment at any time, of the whole run at the end."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.begin_ns: int | None = None
        self.end_ns: int | None = None
        self.node: NodeStatus | None = None
        self._node_first: NodeStatus | None = None
        self._node_last: NodeStatus | None = None
        self._bots: dict[str, _BotsLog] = {}
        # By version, which are dense from 1: when its tick began, and the rows that it moved. 0 where unknown.
        self._began = array("q", [0])
        self._moved = array("q", [0])
        self._killed: NodeStatus | None = None
        """The last word of the nodes that were killed, with all that the ones before them had counted."""
        self._has_receipts = False
        self._applied: dict[tuple[int, int], int] = defaultdict(int)
        self._accepted: list[tuple[int, int]] = []

    # --- what comes in -----------------------------------------------------------------------------------------------

    def take_node(self, status: NodeStatus) -> None:
        before = self._killed
        if before is not None:
            # Each process counts from 0; what the last of a killed one were to say, nobody knows.
            status = msgspec.structs.replace(
                status,
                cpu_s=status.cpu_s + before.cpu_s,
                joins=status.joins + before.joins,
                full_syncs=status.full_syncs + before.full_syncs,
                ticks_dropped=status.ticks_dropped + before.ticks_dropped,
                systems_failed=status.systems_failed + before.systems_failed,
            )
        for version, began_ns, moved in status.cuts:
            missing = version + 1 - len(self._began)
            if missing > 0:
                self._began.extend([0] * missing)
                self._moved.extend([0] * missing)
            self._began[version] = began_ns
            self._moved[version] = moved
        for command in status.applied:
            self._applied[command] += 1
        self.node = status

    def node_killed(self) -> None:
        """The node's process is gone; the next one counts from 0."""
        self._killed = self.node

    def take_receipts(self, applied: list[tuple[int, int]]) -> None:
        """Every command that has had its effect, out of a store on disk: nothing else counts then."""
        self._has_receipts = True
        self._applied.clear()
        for session, sequence in applied:
            self._applied[session, sequence] += 1

    def take_bots(self, name: str, status: BotsStatus) -> None:
        log = self._bots.setdefault(name, _BotsLog())
        for stay, version, applied_ns in status.versions:
            log.stays.append(stay)
            log.versions.append(version)
            log.times.append(applied_ns)
        self._accepted += status.accepted
        log.newest = status

    def begin_node(self) -> None:
        """The newest status of the node is the first that is measured from."""
        assert self.node is not None
        self._node_first = self.node
        self.begin_ns = self.node.now_ns

    def end_node(self) -> None:
        assert self.node is not None
        self._node_last = self.node
        self.end_ns = self.node.now_ns

    def begin_bots(self, name: str) -> None:
        log = self._bots[name]
        log.first = log.newest
        log.begin = len(log.versions)

    def end_bots(self, name: str) -> None:
        log = self._bots[name]
        log.last = log.newest
        log.end = len(log.versions)

    def end_missing(self) -> None:
        """For those that were not heard in time, measuring ends with the last that they told."""
        if self._node_last is None:
            self.end_node()
        for name, log in self._bots.items():
            if log.last is None:
                self.end_bots(name)

    # --- for the live view -------------------------------------------------------------------------------------------

    @property
    def live(self) -> int:
        return sum(log.newest.live for log in self._bots.values() if log.newest is not None)

    @property
    def sent(self) -> int:
        return sum(log.newest.sent for log in self._bots.values() if log.newest is not None)

    @property
    def answered(self) -> int:
        return sum(log.newest.answered for log in self._bots.values() if log.newest is not None)

    @property
    def unanswered(self) -> int:
        return sum(log.newest.unanswered for log in self._bots.values() if log.newest is not None)

    @property
    def bytes_received(self) -> int:
        return sum(log.newest.bytes_received for log in self._bots.values() if log.newest is not None)

    @property
    def client_s(self) -> float:
        return sum(log.newest.client_s for log in self._bots.values() if log.newest is not None)

    def lags_since(self, since_ns: int) -> NDArray[np.float64]:
        """Milliseconds of lag of every version applied since then, in no order."""
        found = [np.zeros(0)]
        for log in self._bots.values():
            # From the end: the live view asks for the last moment of a run that may take hours.
            first = len(log.times)
            while first > 0 and log.times[first - 1] >= since_ns:
                first -= 1
            began, applied = self._known(log, first, len(log.times))
            found.append((applied - began) / 1e6)
        return np.concatenate(found)

    # --- the result --------------------------------------------------------------------------------------------------

    def figures(self, verdict: Verdict, *, kills: int = 0) -> Figures:
        node, first, last = self.node, self._node_first, self._node_last
        assert node is not None and first is not None and last is not None
        options = self.options
        wall_s = (last.now_ns - first.now_ns) / 1e9
        return Figures(
            converged=verdict.converged,
            clients=options.clients,
            entities=options.entities,
            hz=options.hz,
            ticks=verdict.tick,
            version=verdict.version,
            epoch=verdict.epoch,
            digest=verdict.digest,
            lag_ms=self._lag(),
            applied_share=self._applied_share(),
            bytes_per_client_s=self._per(
                sum(b.bytes_received - a.bytes_received for a, b in self._spans()),
                sum(b.client_s - a.client_s for a, b in self._spans()),
                1,
            ),
            bytes_per_moved_entity=self._per(
                sum(b.delta_bytes - a.delta_bytes for a, b in self._spans()), self._moved_delivered(), 3
            )
            if not options.interest
            else None,
            cpu_cores=self._per(last.cpu_s - first.cpu_s, wall_s, 4),
            joins=node.joins,
            full_syncs=node.full_syncs,
            resumes=sum(log.newest.resumes for log in self._bots.values() if log.newest is not None),
            commands_sent=self.sent,
            commands_lost=self._lost(),
            commands_unanswered=self.unanswered,
            commands_applied_twice=sum(count > 1 for count in self._applied.values()),
            kills=kills,
            acked_lost=self._without_effect() if self._has_receipts else 0,
            drops=sum(log.newest.drops for log in self._bots.values() if log.newest is not None),
            entities_seen=None if verdict.entities_seen is None else round(verdict.entities_seen, 1),
        )

    def _spans(self) -> list[tuple[BotsStatus, BotsStatus]]:
        return [(log.first, log.last) for log in self._bots.values() if log.first is not None and log.last is not None]

    @staticmethod
    def _per(value: float, unit: float, digits: int) -> float | None:
        return round(value / unit, digits) if unit > 0 else None

    def _lag(self) -> Lag:
        assert self.begin_ns is not None and self.end_ns is not None
        from_ns = self.begin_ns + int(self.options.warm_up_s * 1e9)
        found = [np.zeros(0)]
        for log in self._bots.values():
            began, applied = self._known(log, log.begin, len(log.times))
            during = (applied >= from_ns) & (began <= self.end_ns)
            found.append((applied - began)[during] / 1e6)
        lags = np.concatenate(found)
        if not len(lags):
            return Lag(None, None, None)
        p50, p99 = np.percentile(lags, [50, 99])
        return Lag(round(float(p50), 3), round(float(p99), 3), round(float(lags.max()), 3))

    def _known(self, log: _BotsLog, first: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """When the tick began and when the version was applied, for the entries whose version the node has told of."""
        versions = np.array(log.versions[first:end], np.int64)
        applied = np.array(log.times[first:end], np.int64)
        if not len(versions):
            return applied, applied
        least = int(versions.min())
        began_of = np.array(self._began[least : int(versions.max()) + 1], np.int64)
        places = versions - least
        known = places < len(began_of)
        known[known] = began_of[places[known]] > 0
        return began_of[places[known]], applied[known]

    def _steps(self, log: _BotsLog) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each delta that was applied on top of another version of the same stay, between begin and end: the
        version before, and its own."""
        end = len(log.versions) if log.end is None else log.end
        stays, versions = np.array(log.stays[:end], np.int64), np.array(log.versions[:end], np.int64)
        # A process's log has its stays interleaved; within one, versions grow.
        order = np.argsort(stays, kind="stable")
        stays, versions = stays[order], versions[order]
        on_top = (stays[1:] == stays[:-1]) & (order[1:] >= log.begin)
        return versions[:-1][on_top], versions[1:][on_top]

    def _applied_share(self) -> float | None:
        applied = made = 0
        for log in self._bots.values():
            before, after = self._steps(log)
            applied += len(after)
            made += int((after - before).sum())
        return self._per(applied, made, 6)

    def _moved_delivered(self) -> int:
        moved = np.array(self._moved, np.int64)
        total = 0
        for log in self._bots.values():
            before, after = self._steps(log)
            # A node that fell silent has not told of the last versions.
            before, after = before[after < len(moved)], after[after < len(moved)]
            single = after == before + 1
            total += int(moved[after[single]].sum())
            total += sum(int(moved[b + 1 : a + 1].max()) for b, a in zip(before[~single], after[~single], strict=True))
        return total

    def _lost(self) -> int:
        """Never to be answered, and not superseded; or answered as accepted without an effect."""
        return self.sent - self.answered - self.unanswered + (0 if self._has_receipts else self._without_effect())

    def _without_effect(self) -> int:
        """Answered as accepted, and the effect is not there."""
        return sum(command not in self._applied for command in self._accepted)
