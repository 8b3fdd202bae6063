"""A kernel store on a disk: what is acknowledged is there after a kill, a loss of power and other mishaps."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ecsnet._kernel.disk import MEMORY, RELAXED, STRICT, Damage, Disk, SnapshotInfo, Storage, stored_schema
from ecsnet._kernel.kernel import KernelStore
from ecsnet.errors import (
    ArgumentError,
    ClosedError,
    DataCorruptError,
    DataFailedError,
    DataForeignError,
    DataLockedError,
    DataMissingError,
    DiskFullError,
    EcsnetError,
    SchemaMismatchError,
)
from ecsnet.schema import loads
from tests.kernel.model import SCHEMA, Driver, Model, assert_equal, new_store


def open_disk(kernel: KernelStore, storage: Storage, **options: Any) -> Disk:
    options = {
        "schema": SCHEMA,
        "level": STRICT,
        "seed": os.urandom(32),
        "now_ns": 1,
        "segment_bytes": 1 << 16,
    } | options
    return Disk(kernel, storage, **options)


class DiskDriver(Driver):
    """Random transactions on a store with a disk, flushed and shown now and then."""

    def __init__(self, seed: int, storage: Storage, model: Model | None = None, **options: Any) -> None:
        super().__init__(seed, replicas=0)
        self.storage = storage
        self.disk = open_disk(self.kernel, storage, **options)
        self.now = 1
        self.version = self.disk.recovery.version
        self.model = Model() if model is None else model
        self.history = {self.version: self.model.copy()}
        self.levels = [MEMORY, RELAXED, STRICT]

    def transaction(self) -> None:
        self.kernel.take_baton()
        try:
            super().transaction()
        finally:
            self.kernel.release_baton()

    def publish(self) -> None:
        r, disk, kernel = self.random, self.disk, self.kernel
        self.now += 1_000_000
        kernel.take_baton()
        try:
            made = disk.publish(self.version, self.now, r.choice(self.levels))
        finally:
            kernel.release_baton()
        if made is not None:
            assert made == self.version + 1
            self.version = made
        self.history[self.version] = self.model.copy()
        if r.random() < 0.5:
            self.flush(r.choice(self.levels))
        with self.kernel_pin() as pin:
            assert_equal(pin, self.history[pin.version])

    def flush(self, level: int = STRICT) -> None:
        self.disk.flush(level, self.now)
        self.disk.tend(self.now)
        self.kernel.take_baton()
        self.disk.release()
        self.kernel.release_baton()

    def snapshot(self) -> SnapshotInfo:
        run = self.disk.snapshot(self.now)
        while True:
            try:
                done, total = next(run)
                assert 0 <= done <= total
            except StopIteration as end:
                info: SnapshotInfo = end.value
                return info

    def close(self) -> None:
        self.disk.close(self.now)
        self.kernel.close()


def recovered(storage: Storage, history: dict[int, Model], least: int, **options: Any) -> Disk:
    """Open what is left: it is a version that was made, `least` or later, and it is recovered whole."""
    kernel = new_store()
    disk = open_disk(kernel, storage, **options)
    version = disk.recovery.version
    assert version >= least
    pin = kernel.acquire()
    assert pin.version == version
    assert_equal(pin, history[version])
    pin.release()
    return disk


@pytest.mark.parametrize("seed", range(4))
def test_a_store_goes_on_where_it_was_closed(seed: int, tmp_path: Path) -> None:
    model, version, epoch = Model(), 0, None
    for run in range(4):
        storage = Storage.os(tmp_path / "data")
        driver = DiskDriver(seed * 10 + run, storage, model)
        recovery = driver.disk.recovery
        assert recovery.created is (run == 0)
        assert recovery.version == version
        assert epoch in (None, recovery.epoch) and not recovery.new_epoch
        with driver.kernel_pin() as pin:
            assert_equal(pin, model)
        driver.run(15)
        if run != 1:
            driver.snapshot()
            driver.disk.compact()
        model, version, epoch = driver.model, driver.version, recovery.epoch
        driver.close()
        storage.close()


@pytest.mark.parametrize("seed", range(6))
def test_what_is_left_of_a_crash_is_a_version_and_nothing_acknowledged_is_lost(seed: int) -> None:
    storage = Storage.memory()
    driver = DiskDriver(seed, storage, level=MEMORY)
    for step in range(24):
        driver.run(1)
        if step % 7 == 6:
            driver.snapshot()
            driver.disk.compact()
        for variant in range(2):
            left = storage.crash(variant)
            recovered(left, driver.history, driver.disk.durable).abandon()
            # Again, and with a commit in between: recovering changes nothing that counts.
            recovered(left, driver.history, driver.disk.durable).abandon()
            left.close()
        left = storage.kill()
        recovered(left, driver.history, driver.disk.written).abandon()
        left.close()
    driver.disk.abandon()


def test_a_store_goes_on_after_each_crash(  # the epoch tells whether somebody may have seen what is gone
) -> None:
    storage, model = Storage.memory(), Model()
    epochs: list[int] = []
    for run in range(6):
        driver = DiskDriver(run, storage, model, level=STRICT if run % 2 else MEMORY)
        recovery = driver.disk.recovery
        assert recovery.version == driver.version
        assert [epoch for epoch, _ in recovery.ancestors] == epochs[: len(recovery.ancestors)]
        if recovery.epoch not in epochs:
            epochs.append(recovery.epoch)
        driver.run(10)
        history, least = driver.history, driver.disk.durable
        left = storage.crash(run)
        driver.disk.abandon()
        kernel = new_store()
        disk = open_disk(kernel, left)
        assert disk.recovery.version >= least
        # A store whose versions were all strict has shown nothing that is gone.
        assert disk.recovery.new_epoch is (run % 2 == 0)
        model = history[disk.recovery.version].copy()
        disk.abandon()
        storage = left


CHILD = """
import os, sys, time
sys.path[:0] = {path!r}
from tests.kernel.test_disk import DiskDriver
from ecsnet._kernel.disk import STRICT, Storage
driver = DiskDriver(3, Storage.os({data!r}))
driver.levels = [STRICT]
while True:
    driver.transaction()
    driver.publish()
    driver.flush()
    print(driver.disk.durable, flush=True)
"""


def test_a_process_that_is_killed_has_kept_what_it_acknowledged(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    program = CHILD.format(path=[os.getcwd()], data=data)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        acknowledged = 0
        while acknowledged < 25:
            acknowledged = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *map(int, child.stdout.read().split())])
    kernel = new_store()
    with Storage.os(data) as storage, open_disk(kernel, storage) as disk:
        assert disk.recovery.version >= acknowledged
        assert not disk.recovery.new_epoch and not disk.recovery.damage


def test_a_directory_has_one_writer() -> None:
    storage = Storage.memory()
    disk = open_disk(new_store(), storage)
    with pytest.raises(DataLockedError) as caught:
        open_disk(new_store(), storage)
    assert caught.value.holder.startswith("pid ")
    disk.close(2)
    open_disk(new_store(), storage).close(3)


def test_nothing_is_made_where_nothing_was_to_be_made(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "no such"):
        with pytest.raises(DataMissingError):
            open_disk(new_store(), Storage.os(folder), create=False)
        with pytest.raises(DataMissingError):
            open_disk(new_store(), Storage.os(folder), read_only=True)
        with pytest.raises(DataMissingError):
            stored_schema(Storage.os(folder))
    assert not list(tmp_path.iterdir())
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataForeignError):
        open_disk(new_store(), Storage.os(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_data_of_another_schema_are_refused_and_say_which() -> None:
    storage = Storage.memory()
    open_disk(new_store(), storage).close(2)
    other = loads('[database]\nname = "other"\nversion = "1.0.0"\n')
    before = storage.files()
    with pytest.raises(SchemaMismatchError) as caught:
        open_disk(new_store(), storage, schema=other)
    assert caught.value.theirs == SCHEMA.fingerprint_hex
    assert stored_schema(storage) == SCHEMA.canonical
    assert storage.files() == before


def test_opening_and_reading_leave_a_directory_as_it_was() -> None:
    storage = Storage.memory()
    driver = DiskDriver(1, storage)
    driver.run(8)
    driver.flush()
    left = storage.kill()
    before = left.files()
    for read_only in (False, True):
        disk = recovered(left, driver.history, driver.version, read_only=read_only)
        assert disk.recovery.read_only is read_only
        disk.close(5)
        assert left.files() == before
    driver.disk.abandon()


def test_a_store_that_is_read_only_refuses_a_commit() -> None:
    storage = Storage.memory()
    open_disk(new_store(), storage).close(2)
    kernel = new_store()
    disk = open_disk(kernel, storage, read_only=True)
    kernel.take_baton()
    kernel.begin()
    kernel.spawn(0, [])
    with pytest.raises(ArgumentError, match="for reading only"):
        kernel.commit()
    disk.close(3)
    with pytest.raises(ClosedError):
        kernel.commit()
    kernel.rollback()
    kernel.release_baton()


def damage(storage: Storage, ending: str, at: int) -> str:
    """Flip a byte in the newest file of this ending. Returns its name."""
    name = max(name for name in storage.files() if name.endswith(ending))
    data = bytearray(storage.files()[name])
    data[at] ^= 0x40
    storage.put(name, bytes(data))
    return name


def test_acknowledged_data_that_are_damaged_are_told_and_what_is_before_them_can_be_read() -> None:
    storage = Storage.memory()
    driver = DiskDriver(2, storage)
    driver.run(20)
    driver.flush()
    driver.close()
    # The second record of the first segment.
    name = "wal/0000000000000001.wal"
    data = bytearray(storage.files()[name])
    at = data.index(b"ECR1", 4096 + 4096) - 124
    data[at + 40] ^= 1
    storage.put(name, bytes(data))
    before = storage.files()
    with pytest.raises(DataCorruptError) as caught:
        open_disk(new_store(), storage)
    error = caught.value
    assert (error.file, error.offset, error.version) == (name, at, error.intact + 1)
    assert error.durable >= error.version
    assert "--accept-loss" in str(error)
    assert storage.files() == before

    disk = recovered(storage, driver.history, 0, read_only=True)
    assert disk.recovery.version == error.intact
    assert disk.recovery.damage[-1] == Damage(name, at, error.version, error.durable, error.what)


def test_a_damaged_snapshot_is_done_without_where_an_older_one_and_the_log_reach() -> None:
    storage = Storage.memory()
    driver = DiskDriver(5, storage)
    infos = []
    for _ in range(3):
        driver.run(12)
        infos.append(driver.snapshot())
        driver.disk.compact()
    driver.close()
    assert [name for name in storage.files() if name.endswith(".snap")] == [infos[1].file, infos[2].file]
    disk = recovered(storage, driver.history, driver.version)
    assert disk.recovery.snapshot_version == infos[2].version and not disk.recovery.damage
    disk.close(9)

    damage(storage, ".snap", 5000)
    disk = recovered(storage, driver.history, driver.version)
    assert disk.recovery.snapshot_version == infos[1].version
    assert [(one.file, one.what) for one in disk.recovery.damage] == [(infos[2].file, "a chunk fails its checksum")]
    disk.close(10)

    name = damage(storage, infos[1].file, 100)
    assert name == infos[1].file
    with pytest.raises(DataCorruptError):
        open_disk(new_store(), storage)


def test_a_damaged_manifest_leaves_the_one_before() -> None:
    storage = Storage.memory()
    driver = DiskDriver(5, storage)
    for _ in range(3):
        driver.run(6)
        driver.snapshot()
    driver.close()
    manifests = sorted(name for name in storage.files() if name.startswith("MANIFEST"))
    assert len(manifests) == 2, "the two newest are kept"
    storage.put(manifests[1], storage.files()[manifests[1]][:-3])
    disk = recovered(storage, driver.history, driver.version)
    assert disk.recovery.damage[0].file == manifests[1]
    disk.close(9)
    storage.put(manifests[0], b"")
    with pytest.raises(DataCorruptError):
        open_disk(new_store(), storage)


def test_segments_that_an_archive_wants_stay_until_it_has_them() -> None:
    storage = Storage.memory()
    driver = DiskDriver(6, storage, archive=True)
    driver.levels = [RELAXED]
    for _ in range(3):
        driver.run(25)
        driver.flush()
        driver.snapshot()
    numbers = driver.disk.compact()
    assert numbers and numbers == tuple(range(1, 1 + len(numbers)))
    for number in numbers:
        assert f"wal/{number:016d}.wal" in storage.files()
        driver.disk.archived(number)
        assert f"wal/{number:016d}.wal" not in storage.files()
    assert driver.disk.compact() == ()
    with pytest.raises(EcsnetError):
        driver.disk.archived(numbers[-1] + 1)
    driver.close()
    recovered(storage, driver.history, driver.version)


def test_a_version_of_a_strict_store_is_shown_when_it_is_durable() -> None:
    storage = Storage.memory()
    kernel = new_store()
    disk = open_disk(kernel, storage)
    kernel.take_baton()
    for tick in range(1, 4):
        kernel.begin()
        kernel.spawn(0, [])
        kernel.commit()
        assert disk.publish(tick, tick, STRICT) == tick
        assert kernel.published_version == 0
    assert disk.release() == 0
    disk.flush(MEMORY, 4)
    assert (disk.written, disk.durable) == (3, 3)
    assert disk.release() == 3
    kernel.release_baton()


def test_a_write_that_fails_ends_all_answers_and_what_is_shown_can_be_read() -> None:
    for kind in ("io", "short", "sync"):
        storage = Storage.memory()
        driver = DiskDriver(8, storage)
        driver.run(6)
        driver.flush()
        durable = driver.disk.durable
        driver.run(0)
        driver.levels = [MEMORY]
        while driver.version < durable + 2:
            driver.transaction()
            driver.random.seed(driver.version + 1000)
            driver.kernel.take_baton()
            made = driver.disk.publish(1, 1, MEMORY)
            driver.kernel.release_baton()
            driver.version = made or driver.version
            driver.history[driver.version] = driver.model.copy()
        # The next is the write, the one after it the sync.
        storage.fail(2 if kind == "sync" else 1, kind)
        with pytest.raises(DataFailedError):
            driver.disk.flush(STRICT, driver.now)
        assert driver.disk.failed and driver.disk.durable == durable
        with pytest.raises(DataFailedError):
            driver.disk.flush(STRICT, driver.now)
        kernel = driver.kernel
        kernel.take_baton()
        kernel.begin()
        kernel.spawn(0, [])
        with pytest.raises(DataFailedError):
            kernel.commit()
        kernel.rollback()
        kernel.release_baton()
        with driver.kernel_pin() as pin:
            assert_equal(pin, driver.history[pin.version])
        left = storage.crash(3)
        driver.disk.abandon()
        recovered(left, driver.history, durable).abandon()


def test_a_full_disk_refuses_a_commit_and_takes_it_when_there_is_room() -> None:
    refused = 0
    for nth in range(1, 16):
        storage = Storage.memory()
        kernel = new_store()
        disk = open_disk(kernel, storage)
        # The first commit begins the log, and needs room for a segment.
        storage.fail(nth, "full")
        kernel.take_baton()
        for _ in range(2):
            kernel.begin()
            key = kernel.spawn(nth, [])
            try:
                kernel.commit()
                break
            except DiskFullError:
                refused += 1
                kernel.rollback()
        storage.fail(1 << 40, "full")
        assert not disk.failed
        assert disk.publish(1, 1, STRICT) == 1
        disk.flush(STRICT, 1)
        assert disk.release() == 1
        kernel.release_baton()
        disk.close(2)
        again = new_store()
        with open_disk(again, storage):
            assert again.acquire().keys(0).tolist() == [key]
    assert refused > 2


def test_a_snapshot_that_fails_leaves_the_database_as_it_was() -> None:
    storage = Storage.memory()
    driver = DiskDriver(4, storage)
    driver.run(8)
    driver.flush()
    nth = 0
    while True:
        nth += 1
        storage.fail(nth, "io")
        try:
            driver.snapshot()
        except EcsnetError:
            assert not driver.disk.failed
            left = storage.kill()
            recovered(left, driver.history, driver.version).abandon()
            left.close()
            continue
        break
    assert nth > 8
    driver.run(3)
    storage.fail(1 << 40, "io")
    driver.close()
    recovered(storage, driver.history, driver.version)


def test_a_second_snapshot_of_a_version_is_the_first_while_that_is_good() -> None:
    """Its file is named by a manifest: replaced by another, a crash would leave neither."""
    storage = Storage.memory()
    driver = DiskDriver(4, storage)
    driver.run(8)
    driver.flush()
    driver.now = 100
    first = driver.snapshot()
    before = storage.files()
    driver.now = 200
    assert driver.snapshot() == first
    assert storage.files() == before
    damage(storage, first.file, 4097)
    again = driver.snapshot()
    assert (again.version, again.time_ns, again.digest) == (first.version, 200, first.digest)
    driver.close()
    assert not recovered(storage, driver.history, driver.version).recovery.damage


def test_points_and_notes_are_in_the_log_and_change_nothing() -> None:
    storage = Storage.memory()
    driver = DiskDriver(4, storage)
    driver.run(8)
    driver.flush()
    driver.kernel.take_baton()
    driver.disk.point("before the dragon", driver.now)
    driver.disk.note_digest(driver.version, bytes(range(16)), driver.now)
    driver.kernel.release_baton()
    driver.close()
    log = b"".join(data for name, data in storage.files().items() if name.startswith("wal/"))
    assert b"before the dragon" in log
    recovered(storage, driver.history, driver.version)


def test_statistics_count_what_was_written() -> None:
    storage = Storage.memory()
    driver = DiskDriver(4, storage)
    driver.run(8)
    driver.flush()
    found = driver.disk.statistics()
    assert (found.written, found.durable, found.queued_bytes) == (driver.version, driver.version, 0)
    assert found.records == driver.version and found.record_bytes == found.since_snapshot_bytes > 0
    assert found.written_bytes >= found.record_bytes and found.syncs >= 1 and found.segments >= 1
    driver.snapshot()
    found = driver.disk.statistics()
    assert found.since_snapshot_bytes == 0 and found.snapshots == 1 and found.snapshot_bytes > 0


def test_wrong_options_are_told() -> None:
    storage = Storage.memory()
    for options in ({"level": 7}, {"seed": b"short"}, {"segment_bytes": 5000}, {"segment_bytes": 4096}):
        with pytest.raises(ArgumentError):
            open_disk(new_store(), storage, **options)
    with pytest.raises(ArgumentError):
        Storage.os("")
    assert storage.files() == {}
