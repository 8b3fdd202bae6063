"""Opening a store that is on a disk: the one place where a directory, a schema and options become a `Durable`.

Invariants:
- an error leaves nothing open and nothing changed;
- a disk is kept here while it is open, and knows its store by weak references only: a store that is let go is freed
  before its disk, whose memory it needs, and then ends like in a crash;
- a store that is still open when the interpreter ends is closed, so that an ordinary end of a program is a clean one.
"""

import atexit
import os
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ecsnet._kernel.disk import Disk, Storage, stored_schema
from ecsnet.errors import DataError, DataMissingError, EcsnetError, SchemaMismatchError
from ecsnet.schema import loads
from ecsnet.schema.model import Schema, Table
from ecsnet.store.digests import Digests
from ecsnet.store.disk_thread import DiskThread
from ecsnet.store.durability import Durable
from ecsnet.store.durable_tickets import DurableProducers
from ecsnet.store.durable_writer import DurableWriter
from ecsnet.store.levels import LEVELS
from ecsnet.store.snapshots import Snapshots

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore
    from ecsnet.store.producers import Batching, Producers
    from ecsnet.store.store import Store, Writer

__all__ = ["Driven", "differences", "on_disk", "parts", "schema_of"]

_SEED_BYTES: Final = 32
_ARCHIVE: Final = "archive"
"""The folder of a data directory that has what was archived."""


@dataclass(frozen=True, slots=True)
class Driven:
    """A store without a thread, a clock or chance of its own, for simulations: its driver calls `Store.work`.

    `clock_ns` gives unix nanoseconds, `seed` is 32 bytes that nobody used before.
    """

    clock_ns: Callable[[], int]
    seed: bytes


def schema_of(data: str | Path | None, storage: Storage | None) -> Schema:
    """The schema that the data has.

    Raises:
        DataMissingError, DataForeignError, DataCorruptError, DataError.
    """
    place = _place(data, storage)
    try:
        return loads(stored_schema(place))
    except DataMissingError:
        raise _missing(place) from None
    finally:
        if storage is None:
            place.close()


def on_disk(
    kernel: "KernelStore",
    schema: Schema,
    data: str | Path | None,
    storage: Storage | None,
    level: int,
    *,
    read_only: bool,
    create: bool,
    archive: bool | None,
    segment_bytes: int,
    snapshot_every_bytes: int | None,
    driven: Driven | None,
) -> Durable:
    """Open or create what is in a directory (or in `storage`, which stays its owner's), and recover it into a fresh
    store.

    Raises:
        as `Store`.
    """
    place = _place(data, storage)
    try:
        clock_ns = time.time_ns if driven is None else driven.clock_ns
        if archive is None:
            archive = data is not None and (Path(data) / _ARCHIVE).is_dir()
        try:
            disk = Disk(
                kernel,
                place,
                schema=schema,
                level=level,
                seed=os.urandom(_SEED_BYTES) if driven is None else driven.seed,
                now_ns=clock_ns(),
                read_only=read_only,
                segment_bytes=segment_bytes,
                archive=archive,
                create=create,
            )
        except SchemaMismatchError as error:
            theirs = loads(stored_schema(place))
            raise SchemaMismatchError(error.ours, error.theirs, _mismatch(place, schema, theirs)) from None
        except DataMissingError:
            raise _missing(place) from None
    except BaseException:
        if storage is None:
            place.close()
        raise
    directory = None if storage is not None else place.name
    side = Durable(kernel, disk, place, level, clock_ns, directory=directory)
    archiver = None if directory is None else partial(_archive, directory)
    side.snapshots = Snapshots(side, None if side.read_only else snapshot_every_bytes, archiver)
    side.digests = Digests(side)
    if driven is None:
        side.thread = DiskThread(side)
    return side


def parts(store: "Store", side: Durable, batching: "Batching") -> "tuple[Producers, tuple[Writer, ...]]":
    """The queue of a store on a disk, and its writers by level. From here on the disk is open until it is closed, or
    the store let go."""
    _open[id(side)] = side
    side.on_end = partial(_open.pop, id(side), None)
    weakref.finalize(store, side.forsake).atexit = False
    producers = DurableProducers(store, batching, side)
    pump = weakref.WeakMethod(producers.pump)

    def pump_if_there() -> None:
        there = pump()
        if there is not None:
            there()

    side.baton.pump = pump_if_there
    return producers, tuple(DurableWriter(store, side, n) for n in range(len(LEVELS)))


def differences(ours: Schema, theirs: Schema) -> list[str]:
    """In what two schemas differ, a line for each table or field; empty where only notes do."""
    lines = []
    there = {table.name: table for table in theirs.user_tables}
    for table in ours.user_tables:
        if table.name not in there:
            lines.append(f"table {table.name} is only in the schema given")
            continue
        lines += _fields(table, there.pop(table.name))
    lines += [f"table {name} is only in the data" for name in there]
    if ours.name != theirs.name:
        lines.append(f"the name is {ours.name!r}, in the data {theirs.name!r}")
    if ours.version != theirs.version:
        lines.append(f"the version is {ours.version}, in the data {theirs.version}")
    return lines


# --- inside ---------------------------------------------------------------------------------------------------------

_DIFFERENCES_MAX: Final = 8
"""Named in a message; the others are counted."""


def _fields(ours: Table, theirs: Table) -> list[str]:
    lines = []
    there = {field.name: field for field in theirs.fields}
    for field in ours.fields:
        other = there.pop(field.name, None)
        if other is None:
            lines.append(f"field {ours.name}.{field.name} is only in the schema given")
        elif field.type_text != other.type_text:
            lines.append(f"field {ours.name}.{field.name} is {field.type_text}, in the data {other.type_text}")
        elif field != other:
            lines.append(f"field {ours.name}.{field.name} has other rules than in the data")
    lines += [f"field {ours.name}.{name} is only in the data" for name in there]
    if not lines and ours != theirs:
        lines.append(f"table {ours.name} has other rules, or another order of fields, than in the data")
    return lines


def _mismatch(place: Storage, ours: Schema, theirs: Schema) -> str:
    lines = differences(ours, theirs) or ["they differ in the order of their tables"]
    more = f"; and {len(lines) - _DIFFERENCES_MAX} more" if len(lines) > _DIFFERENCES_MAX else ""
    return (
        f"the data in {place.name} has another schema: {'; '.join(lines[:_DIFFERENCES_MAX])}{more}. Nothing was "
        f"changed; open it with its own schema (Store.open), or copy what is wanted into a new one"
    )


def _archive(directory: str, number: int) -> None:
    # Imported here: few stores keep an archive.
    from ecsnet.data.archive import archive_segment

    archive_segment(directory, number)


def _missing(place: Storage) -> DataMissingError:
    return DataMissingError(
        place.name, "there is no store in it, and none was to be made: Store(schema, data=...) makes one"
    )


def _place(data: str | Path | None, storage: Storage | None) -> Storage:
    if storage is not None:
        return storage
    assert data is not None
    path = os.fspath(data)
    if os.path.exists(path) and not os.path.isdir(path):
        raise DataError(path, "it is a file, and a store is a directory; nothing was changed. Name another place")
    return Storage.os(path)


_open: dict[int, Durable] = {}


@atexit.register
def _close_all() -> Any:
    for side in list(_open.values()):
        try:
            side.close(0.0)
        except EcsnetError:
            # Somebody is writing, or the disk failed: then it ends like a crash, which is what recovery is for.
            pass
