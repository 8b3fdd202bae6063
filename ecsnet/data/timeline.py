"""The moments that a directory can give back: versions with their ticks and times, and the names that some were given.

A version can be had when a snapshot (or the beginning) at or before it is whole, and so is the log from there to it.
Where the log is damaged, the versions up to the next snapshot are lost and those after it are not.
"""

from bisect import bisect_right
from dataclasses import dataclass, field

from ecsnet.data import layouts
from ecsnet.data.directory import Directory
from ecsnet.data.findings import Problem, Progress, no_progress
from ecsnet.data.layouts import Ancestor
from ecsnet.data.replaying import usable_snapshots
from ecsnet.data.wal import Log
from ecsnet.errors import DataUnreachableError, UnknownNameError


@dataclass(frozen=True, slots=True)
class Moment:
    """A version that can be had."""

    version: int
    tick: int
    time_ns: int


@dataclass(slots=True)
class Timeline:
    """Moments by version, ascending. `points` are names with the versions they were given to, oldest first.

    `problems` are those of the log's end: what was acknowledged and cannot be had. `ancestors` and `epoch` are those of
    the newest version.
    """

    directory: Directory
    moments: list[Moment] = field(default_factory=list)
    points: list[tuple[str, int]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    ancestors: list[Ancestor] = field(default_factory=list)
    epoch: int = 0

    @property
    def oldest(self) -> int:
        """The oldest version that can be had."""
        return self.moments[0].version if self.moments else 0

    @property
    def newest(self) -> int:
        """The newest version that can be had."""
        return self.moments[-1].version if self.moments else 0

    def epoch_of(self, version: int) -> int:
        """The epoch that a version belongs to."""
        return next((one.epoch for one in self.ancestors if version <= one.version), self.epoch)

    def at_version(self, version: int) -> Moment:
        """That very version.

        Raises:
            DataUnreachableError: it cannot be had.
        """
        at = bisect_right(self.moments, version, key=lambda moment: moment.version) - 1
        if at >= 0 and self.moments[at].version == version:
            return self.moments[at]
        raise self._unreachable(f"version {version}", version)

    def at_tick(self, tick: int) -> Moment:
        """The last version of that tick or before it.

        Raises:
            DataUnreachableError: the newest version is of an earlier tick, or the oldest of a later one.
        """
        if not self.moments or tick > self.moments[-1].tick:
            newest = self.moments[-1].tick if self.moments else 0
            raise self._error(f"tick {tick}", f"the newest version is of tick {newest}")
        return self._last(f"tick {tick}", [moment.tick for moment in self.moments], tick)

    def at_time(self, time_ns: int) -> Moment:
        """The last version that was made at that time (unix ns) or before it.

        Raises:
            DataUnreachableError: the oldest version was made later.
        """
        return self._last("that time", [moment.time_ns for moment in self.moments], time_ns)

    def at_point(self, name: str) -> Moment:
        """The version that a restore point names; of several of one name, the last.

        Raises:
            UnknownNameError: there is no such point. DataUnreachableError: its version cannot be had.
        """
        found = [version for point, version in self.points if point == name]
        if not found:
            raise UnknownNameError("restore point", name, [point for point, _ in self.points])
        return self.at_version(found[-1])

    def _last(self, target: str, numbers: list[int], wanted: int) -> Moment:
        # Neither clocks nor ticks are promised to go forward: the last that qualifies, wherever it stands.
        for at in range(len(numbers) - 1, -1, -1):
            if numbers[at] <= wanted:
                return self.moments[at]
        raise self._error(target, "it is before everything that was kept")

    def _unreachable(self, target: str, version: int) -> DataUnreachableError:
        if version > self.newest:
            lost = [one for one in self.problems if one.versions]
            why = f"the log is damaged ({lost[0]})" if lost else f"the newest version is {self.newest}"
        elif version < self.oldest:
            why = "it is before everything that was kept"
        else:
            why = "the log is damaged there, and no snapshot has it"
        return self._error(target, why)

    def _error(self, target: str, why: str) -> DataUnreachableError:
        return DataUnreachableError(self.directory.name, target, self.oldest, self.newest, why)


def timeline(directory: Directory, progress: Progress = no_progress) -> Timeline:
    """Read the whole log, and what was archived of it."""
    found = Timeline(directory, epoch=directory.manifest.epoch, ancestors=list(directory.manifest.ancestors))
    bases = [Moment(one.header.version, one.header.tick, one.header.time_ns) for one, _ in usable_snapshots(directory)]
    if directory.manifest.origin == 0:
        bases.append(Moment(0, 0, 0))
    for base in sorted(bases, key=lambda moment: moment.version):
        if found.moments and base.version <= found.newest:
            continue
        log = Log(directory, after=base.version, progress=progress)
        points: list[tuple[str, int]] = []
        moments = [base]
        for record in log.records():
            head = record.head
            if head.kind == layouts.VERSION and head.version > base.version:
                moments.append(Moment(head.version, head.tick, head.time_ns))
            elif head.kind == layouts.POINT and head.version >= base.version:
                points.append((record.body.decode(errors="replace"), head.version))
        if base.version == 0 and len(bases) > 1 and log.problems and not log.segments:
            # The log does not go back that far; that a world was empty once is not worth having.
            continue
        if log.segments or not found.moments:
            found.ancestors, found.epoch = log.ancestors, log.epoch
        found.problems = log.problems
        found.moments += moments
        found.points += points
    if len(found.moments) > 1 and found.oldest == 0:
        # Version 0 has no time of its own: the empty world was there when the database was made.
        first = found.moments[1]
        found.moments[0] = Moment(0, 0, min(first.time_ns, directory.manifest.time_ns))
    return found
