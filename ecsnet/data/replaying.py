"""A version out of the files, in memory: the nearest snapshot before it and the log from there, through the kernel."""

from collections.abc import Callable
from dataclasses import dataclass, field

from ecsnet._kernel import disk
from ecsnet._kernel.kernel import KernelStore
from ecsnet.data import layouts
from ecsnet.data.directory import Directory
from ecsnet.data.findings import Problem, Progress, no_progress
from ecsnet.data.layouts import Unreadable
from ecsnet.data.snapshots import Snapshot, read_snapshot, verify_chunks
from ecsnet.data.wal import Log, Record
from ecsnet.errors import DataError, EcsnetError
from ecsnet.schema import Schema, loads

ENTITIES_MAX = 1 << 24
"""Whatever the store that wrote it was made for: all that the kernel allows."""


@dataclass(slots=True)
class Rebuilt:
    """A version in memory. `kernel` is published at `version`; whoever has it closes it. `snapshot_version` is where
    replaying began, `records` how many versions were replayed."""

    kernel: KernelStore
    schema: Schema
    version: int
    tick: int
    time_ns: int
    epoch: int
    snapshot_version: int
    records: int
    problems: list[Problem] = field(default_factory=list)

    def digest(self) -> bytes:
        """The digest of the replicated tables, 16 bytes."""
        pin = self.kernel.acquire()
        try:
            return pin.digest()
        finally:
            pin.release()

    def rows(self) -> dict[str, int]:
        """Rows of every durable table by its name."""
        pin = self.kernel.acquire()
        try:
            return {
                table.name: pin.rows(table.id)
                for table in self.schema.tables
                if table.kind != "event" and not table.name.startswith("schema_")
            }
        finally:
            pin.release()

    def close(self) -> None:
        """Give its memory back."""
        self.kernel.close()


def schema_of(directory: Directory) -> Schema:
    """The schema that the data is of."""
    return loads(directory.manifest.schema, f"{directory.name}/{directory.manifests[0][0]}")


def usable_snapshots(directory: Directory, upto: int | None = None) -> list[tuple[Snapshot, str]]:
    """Snapshots of this database's own history up to a version, newest first, whose index is whole."""
    manifest = directory.manifest
    found = []
    for version, name in directory.snapshot_files():
        if upto is not None and version > upto:
            continue
        try:
            snapshot = read_snapshot(directory.path / name)
        except Unreadable:
            continue
        header = snapshot.header
        named = next((one for one in manifest.snapshots if one.version == version), None)
        same = header.database == manifest.database and header.fingerprint == manifest.fingerprint
        if same and header.version == version and (named is None or named.root_sum == snapshot.root.sum):
            found.append((snapshot, name))
    return found


def rebuild(
    directory: Directory,
    until: Callable[[Record], bool] | None = None,
    *,
    version: int | None = None,
    progress: Progress = no_progress,
) -> Rebuilt:
    """Bring a version back into memory.

    Args:
        until: asked before each record is replayed: whether to stop there, without it.
        version: a bound that is known already: no snapshot after it is begun with.

    The log may turn out to be damaged, or to end early: `problems` says so, and what is returned is as far as it came.

    Raises:
        DataError: no snapshot and no beginning of the log can be had.
    """
    schema = schema_of(directory)
    kernel, base, tick, time_ns = _loaded(directory, schema, version, progress)
    rebuilt = Rebuilt(kernel, schema, base, tick, time_ns, directory.manifest.epoch_of(base), base, 0)
    try:
        log = Log(directory, after=base, progress=progress)
        for record in log.records():
            if until is not None and until(record):
                break
            head = record.head
            if head.kind != layouts.VERSION or head.version <= base:
                continue
            if version is not None and head.version > version:
                break
            try:
                disk.replay(kernel, head.version, head.tick, record.body)
            except EcsnetError as error:
                what = f"the body of record {head.version} cannot be replayed: {error}"
                rebuilt.problems.append(Problem(record.file, record.offset, (head.version, log.durable), what))
                break
            rebuilt.version, rebuilt.tick, rebuilt.time_ns = head.version, head.tick, head.time_ns
            rebuilt.epoch = head.epoch
            rebuilt.records += 1
        rebuilt.problems += log.problems
        disk.finish(kernel)
    except BaseException:
        kernel.close()
        raise
    return rebuilt


def fresh(schema: Schema) -> KernelStore:
    """A store of the empty world. What the schema says of itself is in no snapshot and no digest, and is left out."""
    kernel = KernelStore(schema, entities_max=ENTITIES_MAX)
    kernel.take_baton()
    try:
        kernel.publish(0, genesis=True)
    finally:
        kernel.release_baton()
    return kernel


def _loaded(
    directory: Directory, schema: Schema, version: int | None, progress: Progress
) -> tuple[KernelStore, int, int, int]:
    """A store at the newest snapshot that can be used, or empty where the log goes back to the beginning."""
    for snapshot, name in usable_snapshots(directory, version):
        try:
            for done in verify_chunks(snapshot):
                progress("snapshot", done, snapshot.size)
        except Unreadable:
            continue
        kernel = fresh(schema)
        try:
            info = disk.load_snapshot(kernel, directory.path / name)
        except DataError:
            kernel.close()
            continue
        return kernel, info.version, info.tick, info.time_ns
    origin = directory.manifest.origin
    if origin:
        raise DataError(
            directory.name,
            f"no snapshot up to version {version if version is not None else origin} is whole, and the log begins with "
            f"version {origin + 1}: what was before it is nowhere else",
        )
    return fresh(schema), 0, 0, 0
