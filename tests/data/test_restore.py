"""Backups and moments of the past, of stores that the kernel wrote."""

import random
import shutil
from pathlib import Path

import pytest

from ecsnet._kernel.disk import RELAXED, STRICT, Disk, Storage
from ecsnet.data.archive import archive_segment
from ecsnet.data.backup import back_up
from ecsnet.data.directory import Directory
from ecsnet.data.operations import back_up as back_up_anyhow
from ecsnet.data.operations import take_snapshot
from ecsnet.data.restoring import restore
from ecsnet.data.verification import verify
from ecsnet.errors import (
    ArgumentError,
    DataCorruptError,
    DataLockedError,
    DataMissingError,
    DataUnreachableError,
    EcsnetError,
    UnknownNameError,
)
from tests.kernel.model import Model, assert_equal, new_store
from tests.kernel.test_disk import DiskDriver, open_disk


class History:
    """A store on a disk with many versions, and what each of them was: `models`, `digests`, `points`."""

    def __init__(self, path: Path, *, seed: int = 1, archive: bool = True, runs: int = 3) -> None:
        self.path, self.models, self.digests = path, {}, {}
        self.epochs: list[int] = []
        self.points: dict[str, int] = {}
        model = Model()
        for run in range(runs):
            with Storage.os(path) as storage:
                driver = DiskDriver(seed * 10 + run, storage, model, archive=archive)
                self.epochs.append(driver.disk.recovery.epoch)
                self.models[driver.version] = driver.model.copy()
                for _ in range(12):
                    driver.run(1)
                    driver.flush()
                    self.models[driver.version] = driver.model.copy()
                    with driver.kernel_pin() as pin:
                        assert pin.version == driver.version
                        self.digests[driver.version] = pin.digest()
                driver.kernel.take_baton()
                driver.disk.point(f"run {run}", driver.now)
                driver.kernel.release_baton()
                self.points[f"run {run}"] = driver.version
                driver.flush()
                if run:
                    driver.snapshot()
                    for number in driver.disk.compact():
                        archive_segment(path, number)
                        driver.disk.archived(number)
                self.newest, model = driver.version, driver.model
                driver.close()


def test_a_log_may_be_begun_with_a_segment_that_begins_an_epoch(tmp_path: Path) -> None:
    path, killed = tmp_path / "data", tmp_path / "killed"
    with Storage.os(path) as storage:
        driver = DiskDriver(1, storage, level=RELAXED)
        driver.run(3)
        driver.flush()
        driver.snapshot()
        shutil.copytree(path, killed)  # as a crash right after a snapshot leaves it
        base, model = driver.version, driver.model.copy()
        driver.close()
    with Storage.os(killed) as storage:
        driver = DiskDriver(2, storage, model, level=RELAXED)
        driver.run(3)
        driver.flush()
        newest = driver.version
        driver.close()

    found = verify(str(killed))

    assert newest > base
    assert (found.problems, found.version) == ([], newest)


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "data")


def opened(path: Path) -> tuple[Disk, Model]:
    """What opens in a directory; equal to `model`, which is asserted by the caller."""
    kernel = new_store()
    disk = open_disk(kernel, Storage.os(path), create=False)
    return disk, kernel


def assert_is(path: Path, model: Model, version: int) -> Disk:
    kernel = new_store()
    disk = open_disk(kernel, Storage.os(path), create=False)
    assert disk.recovery.version == version
    pin = kernel.acquire()
    assert_equal(pin, model)
    pin.release()
    return disk


def test_every_version_of_an_archived_store_can_be_had_back(history: History, tmp_path: Path) -> None:
    for version in [*random.Random(5).sample(sorted(history.digests), 8), history.newest]:
        target = tmp_path / f"at {version}"

        made = restore(history.path, target, version=version)

        assert (made.version, made.digest) == (version, history.digests[version])
        assert made.epoch not in history.epochs
        disk = assert_is(target, history.models[version], version)
        assert disk.recovery.epoch == made.epoch and not disk.recovery.new_epoch and not disk.recovery.created
        assert disk.recovery.ancestors[-1] == (history.epochs[-1], version)
        disk.abandon()
        assert verify(str(target)).problems == []
    before = {path: path.read_bytes() for path in history.path.rglob("*") if path.is_file()}
    restore(history.path, tmp_path / "again")
    assert before == {path: path.read_bytes() for path in history.path.rglob("*") if path.is_file()}


def test_a_restored_store_goes_on_and_can_be_restored_from_itself(history: History, tmp_path: Path) -> None:
    version = sorted(history.digests)[5]
    first = restore(history.path, tmp_path / "first", version=version)
    with Storage.os(tmp_path / "first") as storage:
        driver = DiskDriver(77, storage, history.models[version].copy())
        driver.run(10)
        driver.flush()
        newest, model = driver.version, driver.model.copy()
        driver.close()
    assert newest > version

    second = restore(tmp_path / "first", tmp_path / "second", version=newest)
    disk = assert_is(tmp_path / "second", model, newest)
    assert disk.recovery.ancestors == ((history.epochs[-1], version), (first.epoch, newest))
    disk.abandon()
    assert second.epoch not in (first.epoch, *history.epochs)
    with pytest.raises(DataUnreachableError, match="before everything"):
        restore(tmp_path / "first", tmp_path / "third", version=version - 1)
    assert not (tmp_path / "third").exists()


def test_a_moment_is_named_by_tick_time_or_point(history: History, tmp_path: Path) -> None:
    from ecsnet.data.timeline import timeline

    known = timeline(Directory(history.path))
    moments = {moment.version: moment for moment in known.moments}
    assert sorted(moments) == list(range(history.newest + 1))
    wanted = moments[history.newest // 2]

    assert restore(history.path, tmp_path / "tick", tick=wanted.tick).tick == wanted.tick
    by_time = restore(history.path, tmp_path / "time", time_ns=wanted.time_ns)
    assert by_time.time_ns <= wanted.time_ns
    for name, version in history.points.items():
        assert restore(history.path, tmp_path / name, point=name).version == version


def test_what_cannot_be_had_is_an_error_and_nothing_is_made(history: History, tmp_path: Path) -> None:
    target = tmp_path / "target"
    past = 1 << 62
    for wanted, error in (
        ({"version": history.newest + 1}, DataUnreachableError),
        ({"tick": past}, DataUnreachableError),
        ({"time_ns": past}, DataUnreachableError),
        ({"time_ns": -1}, DataUnreachableError),
        ({"point": "run"}, UnknownNameError),
        ({"version": 1, "tick": 1}, ArgumentError),
    ):
        with pytest.raises(error):
            restore(history.path, target, **wanted)
        assert not target.exists()
    with pytest.raises(ArgumentError, match="not empty"):
        restore(history.path, history.path)
    with pytest.raises(DataMissingError):
        restore(tmp_path / "nothing", target)


def test_what_compaction_dropped_is_unreachable(tmp_path: Path) -> None:
    history = History(tmp_path / "data", archive=False)

    with pytest.raises(DataUnreachableError) as caught:
        restore(history.path, tmp_path / "target", version=1)

    assert caught.value.oldest > 1 and caught.value.newest == history.newest
    assert restore(history.path, tmp_path / "oldest", version=caught.value.oldest).version == caught.value.oldest


def test_damage_at_the_end_is_given_up_only_when_that_is_accepted(tmp_path: Path) -> None:
    history = History(tmp_path / "data", runs=1)
    last = sorted((history.path / "wal").iterdir())[0]
    log = verify(str(history.path)).log
    assert log is not None
    middle = list(log.records())[history.newest // 2]
    data = bytearray(last.read_bytes())
    assert middle.file.endswith(last.name)
    data[middle.offset + 130] ^= 1
    last.write_bytes(data)

    problems = verify(str(history.path)).problems
    with pytest.raises(DataCorruptError) as caught:
        restore(history.path, tmp_path / "target")
    assert not (tmp_path / "target").exists()
    made = restore(history.path, tmp_path / "target", version=caught.value.intact, accept_loss=True)

    assert [one.offset for one in problems] == [middle.offset]
    assert caught.value.offset == middle.offset
    assert made.version == caught.value.intact == middle.head.version - 1
    assert made.lost == history.newest - made.version
    assert_is(tmp_path / "target", history.models[made.version], made.version).abandon()


def test_damage_before_a_snapshot_costs_only_what_is_before_it(history: History, tmp_path: Path) -> None:
    archived = sorted((history.path / "archive").iterdir())
    data = bytearray(archived[0].read_bytes())
    data[200] ^= 1
    archived[0].write_bytes(data)

    assert verify(str(history.path)).problems
    assert restore(history.path, tmp_path / "newest").version == history.newest
    with pytest.raises(DataUnreachableError):
        restore(history.path, tmp_path / "old", version=2)


def test_a_backup_opens_and_gives_back_the_past(history: History, tmp_path: Path) -> None:
    made = back_up(history.path, tmp_path / "copy")

    assert made.verified.version == history.newest
    assert made.verified.digest == history.digests[history.newest]
    assert_is(tmp_path / "copy", history.models[history.newest], history.newest).abandon()
    assert restore(tmp_path / "copy", tmp_path / "old", version=3).digest == history.digests[3]


def test_a_backup_of_a_store_that_is_written_to_is_a_version_of_it(tmp_path: Path) -> None:
    """As the node does it: nobody compacts meanwhile, and the log grows."""
    path = tmp_path / "data"
    with Storage.os(path) as storage:
        driver = DiskDriver(4, storage, level=STRICT)
        for number in range(4):
            driver.run(6)
            driver.flush()
            target = tmp_path / f"copy {number}"
            assert back_up(path, target).verified.version == driver.version
            assert_is(target, driver.model, driver.version).abandon()
        with pytest.raises(DataLockedError):
            back_up_anyhow(path, tmp_path / "no node")
        driver.close()


def test_half_a_backup_is_no_store(history: History, tmp_path: Path) -> None:
    back_up(history.path, tmp_path / "copy")
    for manifest in (tmp_path / "copy").glob("MANIFEST-*"):
        manifest.unlink()

    with pytest.raises(DataCorruptError, match="manifests are missing"):
        verify(str(tmp_path / "copy"))
    with pytest.raises(EcsnetError):
        open_disk(new_store(), Storage.os(tmp_path / "copy"))


def test_a_damaged_store_is_not_backed_up(history: History, tmp_path: Path) -> None:
    newest = Directory(history.path).manifest.snapshots[0]
    path = history.path / f"snap/{newest.version:020}.snap"
    data = bytearray(path.read_bytes())
    data[4096 + 5] ^= 1
    path.write_bytes(data)

    with pytest.raises(DataCorruptError, match="chunk"):
        back_up(history.path, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_snapshot_of_a_closed_store_is_taken_here(tmp_path: Path) -> None:
    history = History(tmp_path / "data", runs=1)

    made = take_snapshot(history.path)

    assert made["version"] == history.newest
    assert made["digest"] == history.digests[history.newest].hex()
    found = verify(str(history.path))
    assert found.problems == [] and found.digests_compared == 1
