"""The log of a directory, read in order: the chain of its records, and whether its end is an end or a loss.

The rule, as the kernel has it too (`kernel/zig/scan.zig`), written a second time so that each checks the other:

- records follow each other by checksum, segments by the seal that each carries of the one before;
- a segment that its successor seals must be whole up to that seal, for a seal is written only over what is durable;
- the last segment that was begun ends at the first thing that is not the next record. Had that to be version e, and
  does any valid record behind it, or HORIZON, say that e or more was durable, then acknowledged data is lost. Otherwise
  it is an end that a crash tore, which nobody was promised.

What was archived is read like what is still in the log: the chain goes through both.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ecsnet.data import layouts
from ecsnet.data.archive import read_archived
from ecsnet.data.directory import Directory, FileOfLog
from ecsnet.data.findings import Note, Problem, Progress, no_progress
from ecsnet.data.layouts import Ancestor, RecordHeader, SegmentHeader, Unreadable


@dataclass(frozen=True, slots=True)
class Record:
    """A record that is whole and in its place."""

    head: RecordHeader
    body: bytes
    file: str
    offset: int


@dataclass(slots=True)
class Segment:
    """A segment that was begun: what its header says and what was found in it. `records` counts versions; `end` is
    where its last valid record ends."""

    header: SegmentHeader
    name: str
    archived: bool
    size: int
    records: int = 0
    end: int = layouts.RECORDS_AT
    last_version: int = 0


@dataclass(slots=True)
class _File:
    """A file of the log with its first block."""

    of: FileOfLog
    size: int
    header: SegmentHeader | None = None
    fault: Unreadable | None = None


@dataclass(slots=True)
class Log:
    """Reads the log of `directory` once. Iterate over `records`, then look at the rest.

    `version` is then the last that was reached: nothing is missing from `first` up to it. `closed`: the log ends in a
    clean close. `torn`: what lies behind the end, and nobody was promised. `durable`: the newest version that anything
    says to have been durable. `epoch` and `ancestors` are those of the manifest and what the log adds to them.
    """

    directory: Directory
    after: int | None = None
    """Begin with the segment that has the version after this one; None: with the oldest there is."""
    progress: Progress = no_progress
    segments: list[Segment] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    torn: list[Note] = field(default_factory=list)
    version: int = 0
    closed: bool = False
    durable: int = 0
    ancestors: list[Ancestor] = field(default_factory=list)
    epoch: int = 0
    _sum: bytes = b""
    _salt: int = 0

    @property
    def first(self) -> int:
        """The first version that the log has; the one after the last where it has none."""
        return self.segments[0].header.first_version if self.segments else self.version + 1

    def drain(self) -> None:
        """Read to the end, for what is found on the way."""
        for _ in self.records():
            pass

    def records(self) -> Iterator[Record]:
        """Every record in order, up to the end or to the first damage: `problems` then says what it is."""
        manifest = self.directory.manifest
        self.ancestors, self.epoch = list(manifest.ancestors), manifest.epoch
        self.durable = self.directory.horizon
        self.version = manifest.origin if self.after is None else self.after
        files = self._read_headers()
        begun = [file for file in files if file.header is not None]
        if not begun:
            self._no_segment(files)
            return
        last = files.index(begun[-1])
        first = self._first(files, last)
        if first is None:
            return
        total = sum(file.size for file in files[first : last + 1])
        done = 0
        for number in range(first, last + 1):
            file = files[number]
            self.progress("log", done, total)
            if not self._enter(file, first=number == first):
                return
            sealed_by = files[number + 1].header if number < last else None
            data = self._content(file)
            if data is None:
                return
            yield from self._records(file, data, sealed_by)
            if self.problems:
                return
            done += file.size
            if number == last:
                self._look_behind(data, file, files[last + 1 :])
        self.progress("log", total, total)
        self._check_end()

    def _read_headers(self) -> list[_File]:
        files = []
        for of in self.directory.log_files():
            file = _File(of, self.directory.size(of.name))
            try:
                if of.archived:
                    file.header = layouts.read_segment_header(read_archived(self.directory.read(of.name)).data)
                else:
                    with (self.directory.path / of.name).open("rb") as opened:
                        file.header = layouts.read_segment_header(opened.read(layouts.BLOCK_BYTES))
            except Unreadable as error:
                file.fault = error
            except OSError as error:
                file.fault = Unreadable(0, f"it cannot be read: {error.strerror or error}")
            files.append(file)
        return files

    def _content(self, file: _File) -> bytes | None:
        try:
            data = self.directory.read(file.of.name)
            return read_archived(data).data if file.of.archived else data
        except Unreadable as error:
            self._fail(file, error.offset, error.what, newer=error.newer)
            return None

    def _fail(self, file: _File, offset: int, what: str, *, newer: bool = False) -> None:
        expected = self.version + 1
        self._fail_at(file.of.name, offset, (expected, max(expected, self.durable)), what, newer)

    def _fail_at(self, name: str, offset: int, versions: tuple[int, ...], what: str, newer: bool = False) -> None:
        self.problems.append(Problem(name, offset, versions, what, newer))

    def _missing(self, number: int) -> None:
        expected = self.version + 1
        self._fail_at(
            layouts.segment_name(number), 0, (expected, max(expected, self.durable)), "the segment is missing"
        )

    # Where it begins.

    def _no_segment(self, files: Sequence[_File]) -> None:
        """Nothing was begun: a new database, or one that was just restored, or all of the log is gone."""
        manifest = self.directory.manifest
        self._look_behind(b"", None, files)
        newest = manifest.snapshots[0].version if manifest.snapshots else manifest.origin
        if newest != manifest.origin and not self.problems:
            self._missing(manifest.oldest_segment)

    def _first(self, files: Sequence[_File], last: int) -> int | None:
        """The file to begin with. With `after`, the last whose first version is not behind the one wanted."""
        number = last
        while True:
            file = files[number]
            header = file.header
            if header is None:
                fault = file.fault or Unreadable(0, "the segment's header is all zeros, and a later segment was begun")
                # What the damaged one began with is not known: all that the next ones lack is in doubt.
                above = files[number + 1].header
                self.version = self._known_before(files, number)
                upto = above.first_version - 1 if above is not None else self.version + 1
                self._fail_at(file.of.name, fault.offset, (self.version + 1, upto), fault.what, fault.newer)
                return None
            if header.database != self.directory.manifest.database:
                self._fail_at(file.of.name, 8, (), "the segment is of another database")
                return None
            if header.number != file.of.number:
                self._fail_at(file.of.name, 32, (), f"the segment is number {header.number}, under another's name")
                return None
            if self.after is not None and header.first_version <= self.after + 1:
                return number
            if header.seal is None:
                if self.after is not None:
                    self._fail_at(file.of.name, 48, (self.after + 1, header.first_version - 1), "the log begins later")
                    return None
                return number
            if number == 0 or files[number - 1].of.number != header.number - 1:
                gone = header.number - 1
                if self.after is None and (gone < self.directory.manifest.oldest_segment):
                    # Compacted away; an older archive that ends before it is told of by `verify`.
                    return number
                self._missing(gone)
                return None
            number -= 1

    def _known_before(self, files: Sequence[_File], number: int) -> int:
        header = files[number - 1].header if number else None
        return header.first_version - 1 if header is not None else self.version

    def _enter(self, file: _File, *, first: bool) -> bool:
        """Check what is between a segment and the one before."""
        header = file.header
        assert header is not None
        if first:
            self.version = header.first_version - 1
            known = {self.epoch, *(one.epoch for one in self.ancestors)}
            if header.epoch not in known and header.seal is not None and header.seal.epoch in known:
                # Where a snapshot ends with the segment before, the log is begun with one that may begin an epoch.
                self._turn(file, header, header.seal.epoch)
            elif header.epoch not in known:
                self._fail(file, 24, f"the segment is of epoch {header.epoch}, which the manifest does not know")
        else:
            before = self.segments[-1]
            expected = layouts.Seal(before.header.number, before.end, self._sum, before.header.epoch)
            if header.seal != expected:
                self._fail(file, 64, "the segment does not follow the one before")
            elif header.first_version != self.version + 1:
                self._fail(file, 48, f"versions are missing: it begins with {header.first_version}")
            elif header.epoch != before.header.epoch or header.ancestor_version is not None:
                self._turn(file, header, before.header.epoch)
        if self.problems:
            return False
        self.segments.append(
            Segment(header, file.of.name, file.of.archived, file.size, last_version=header.first_version - 1)
        )
        self._sum, self._salt, self.closed = header.sum, header.salt, False
        return True

    def _turn(self, file: _File, header: SegmentHeader, before: int) -> None:
        """Another epoch begins: it must be the one that the manifest knows, or one after all of those."""
        if header.ancestor_version != self.version or not header.begins_run:
            self._fail(file, 112, "the epoch does not follow the one before")
            return
        for at, one in enumerate(self.ancestors):
            if one.epoch == before:
                behind = self.ancestors[at + 1].epoch if at + 1 < len(self.ancestors) else self.epoch
                if one.version != self.version or behind != header.epoch:
                    self._fail(file, 24, "the epoch is not the one that the manifest says")
                return
        if before != self.epoch or header.epoch == 0:
            self._fail(file, 24, "the epoch is not the one that the manifest says")
            return
        self.ancestors.append(Ancestor(before, self.version))
        self.epoch = header.epoch

    # Records.

    def _records(self, file: _File, data: bytes, sealed_by: SegmentHeader | None) -> Iterator[Record]:
        segment = self.segments[-1]
        seal = sealed_by.seal if sealed_by is not None else None
        end = min(seal.end, len(data)) if seal is not None else len(data)
        at = layouts.RECORDS_AT
        stopped = "there is no record"
        while at < end:
            try:
                head = layouts.read_record_header(data, at)
                if head.salt != segment.header.salt:
                    stopped = "the record is of another segment"
                    break
                body = layouts.read_body(data[:end], at, head)
            except Unreadable as error:
                if error.newer:
                    self._fail(file, at, error.what, newer=True)
                    return
                stopped = error.what
                break
            wrong = self._out_of_place(head, segment.header)
            if wrong:
                self._fail(file, at, wrong)
                return
            self.durable = max(self.durable, head.durable)
            if head.kind == layouts.VERSION:
                self.version = segment.last_version = head.version
                segment.records += 1
            self.closed = head.kind == layouts.CLOSE
            self._sum = head.sum
            offset, at = at, min(at + head.span, len(data))
            segment.end = at
            yield Record(head, body, file.of.name, offset)
        if seal is not None:
            assert sealed_by is not None
            self.durable = max(self.durable, sealed_by.first_version - 1)
            if at != seal.end:
                self._fail(file, at, f"{stopped}, and the next segment says that it goes on to byte {seal.end}")

    def _out_of_place(self, head: RecordHeader, header: SegmentHeader) -> str:
        expected = self.version + (head.kind == layouts.VERSION)
        if head.parent != self._sum:
            return f"record {head.version} does not follow the one before"
        if head.version != expected:
            return f"the record is of version {head.version}, not {expected}"
        if head.epoch != header.epoch:
            return f"the record is of epoch {head.epoch}, not {header.epoch}"
        if head.durable > self.version:
            return f"record {head.version} calls version {head.durable} durable, which comes after it"
        return ""

    # The end.

    def _look_behind(self, data: bytes, last: _File | None, others: Sequence[_File]) -> None:
        """What lies behind the last record, there and in files that were not begun."""
        at = self.segments[-1].end if self.segments else 0
        end = layouts.used(data)
        if last is not None and end > at:
            self._evidence(data[:end], at, {self._salt})
            self.torn.append(Note(last.of.name, at, f"{end - at} bytes that were never acknowledged"))
        for file in others:
            if file.fault is not None and file.fault.newer:
                self._fail(file, file.fault.offset, file.fault.what, newer=True)
                return
            data = self.directory.read(file.of.name)
            end = layouts.used(data)
            if not end:
                continue
            salts = {int.from_bytes(data[40:48], "little")}
            try:
                salts.add(layouts.read_record_header(data, layouts.RECORDS_AT).salt)
            except Unreadable:
                pass
            self._evidence(data[:end], 0, salts)
            self.torn.append(Note(file.of.name, 0, f"{end} bytes of a segment that was never acknowledged"))
        if self.durable > self.version:
            where = last.of.name if last is not None else layouts.segment_name(self.directory.manifest.oldest_segment)
            self._fail_at(where, at, (self.version + 1, self.durable), "an acknowledged record is damaged, or missing")

    def _evidence(self, data: bytes, start: int, salts: set[int]) -> None:
        for at in range(start, len(data), layouts.BLOCK_BYTES):
            try:
                head = layouts.read_record_header(data, at)
            except Unreadable:
                continue
            if head.salt in salts:
                self.durable = max(self.durable, head.durable)

    def _check_end(self) -> None:
        """Whether the log reaches what the manifest knows of it."""
        manifest = self.directory.manifest
        if self.problems or not self.segments:
            return
        last = self.segments[-1]
        newest = manifest.snapshots[0].version if manifest.snapshots else manifest.origin
        if self.version < newest:
            what = f"the log ends before version {newest}, of which there is a snapshot"
            self._fail_at(last.name, last.end, (self.version + 1, newest), what)
        elif last.header.epoch != self.epoch:
            before = self.ancestors[-1]
            if (before.epoch, before.version) != (last.header.epoch, self.version):
                what = f"the log ends with version {self.version}, and its epoch did with {before.version}"
                self._fail_at(last.name, last.end, (), what)
