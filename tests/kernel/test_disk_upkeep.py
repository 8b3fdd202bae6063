"""What is done beside commits, snapshots, tidying, restore points, keeps a way back and says what is there."""

import ctypes
import threading
from collections.abc import Callable, Generator
from typing import Any

import pytest

from ecsnet._kernel.disk import STRICT, Disk, SnapshotInfo, Storage, checksum
from ecsnet.errors import ClosedError, DataCorruptError, EcsnetError
from tests.kernel.model import new_store
from tests.kernel.test_disk import DiskDriver, damage, open_disk, recovered

SEGMENT_BYTES = 1 << 16


def taken(steps: Generator[tuple[int, int], None, SnapshotInfo]) -> SnapshotInfo:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            info: SnapshotInfo = end.value
            return info


def test_a_snapshot_that_opening_did_without_is_no_way_back() -> None:
    storage = Storage.memory()
    driver = DiskDriver(5, storage)
    driver.run(12)
    good = driver.snapshot()
    driver.run(12)
    bad = driver.snapshot()
    driver.run(3)
    driver.close()
    assert good.version < bad.version < driver.version
    damage(storage, bad.file, 5000)

    disk = recovered(storage, driver.history, driver.version)
    newest = taken(disk.snapshot(9))
    disk.compact()
    disk.close(9)

    damage(storage, newest.file, 5000)
    disk = recovered(storage, driver.history, driver.version)
    assert disk.recovery.snapshot_version == good.version
    disk.close(10)


def test_statistics_say_what_is_left_of_the_log_after_it_was_tidied() -> None:
    for archive in (False, True):
        storage = Storage.memory()
        driver = DiskDriver(6, storage, archive=archive)
        for _ in range(3):
            driver.run(25)
            driver.flush()
            driver.snapshot()
        before = driver.disk.statistics()
        for number in driver.disk.compact():
            driver.disk.archived(number)
        begun = [data for name, data in storage.files().items() if name.startswith("wal/") and any(data[:8])]
        after = driver.disk.statistics()
        assert after.segments == len(begun) < before.segments
        assert after.wal_bytes == sum(map(len, begun)) < before.wal_bytes
        driver.close()


def test_names_of_a_version_that_stays_the_newest_take_only_their_own_room() -> None:
    storage = Storage.memory()
    driver = DiskDriver(4, storage)
    driver.run(8)
    for number in range(100):
        driver.kernel.take_baton()
        driver.disk.point(f"point {number}", driver.now)
        driver.kernel.release_baton()
    driver.flush()
    driver.run(3)
    driver.close()
    sizes = {len(data) for name, data in storage.files().items() if name.startswith("wal/")}
    assert sizes == {SEGMENT_BYTES}
    recovered(storage, driver.history, driver.version).abandon()


@pytest.mark.parametrize("nth", range(1, 40))
def test_a_crash_in_the_first_snapshot_leaves_nothing_damaged(nth: int) -> None:
    storage = Storage.memory()
    driver = DiskDriver(4, storage)
    driver.run(4)
    driver.flush()
    storage.fail(nth, "io")
    try:
        driver.snapshot()
    except EcsnetError:
        assert not driver.disk.failed
    for variant in range(12):
        left = storage.crash(variant)
        disk = recovered(left, driver.history, driver.disk.durable)
        assert not disk.recovery.damage
        disk.abandon()
        left.close()
    driver.disk.abandon()


class Held:
    """A library whose tidying waits until it is let go."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.begun, self.go = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.library, name)

    def ecs_disk_compact(self, *arguments: object) -> int:
        self.begun.set()
        assert self.go.wait(10)
        count: int = self.library.ecs_disk_compact(*arguments)
        return count


@pytest.mark.parametrize("end", [lambda disk: disk.close(9), Disk.abandon])
def test_a_disk_is_not_given_back_while_it_is_tidied(end: Callable[[Disk], None]) -> None:
    storage = Storage.memory()
    driver = DiskDriver(4, storage)
    driver.run(3)
    disk = driver.disk
    held = Held(disk._library)
    disk._library = held  # type: ignore[assignment]  # the library, but for one call that waits
    tidying = threading.Thread(target=disk.compact, daemon=True)
    tidying.start()
    assert held.begun.wait(10)
    ending = threading.Thread(target=end, args=(disk,))
    ending.start()
    ending.join(0.1)
    assert ending.is_alive(), "what the other thread works with was freed"
    held.go.set()
    tidying.join(10)
    ending.join(10)
    assert not tidying.is_alive() and not ending.is_alive()
    with pytest.raises(ClosedError):
        disk.compact()


def test_a_segment_that_lost_the_end_of_its_header_has_none() -> None:
    """Where the header's checksum ends with a zero, what is missing of it may not be taken for read."""
    storage = Storage.memory()
    driver = DiskDriver(4, storage, level=STRICT)
    driver.run(20)
    driver.flush()
    driver.close()
    name = "wal/0000000000000001.wal"
    header = bytearray(storage.files()[name][:4096])
    for now in range(1 << 16):
        header[104:112] = now.to_bytes(8, "little")
        header[4080:] = checksum(bytes(header[:4080]))
        if header[-1] == 0:
            break
    storage.put(name, bytes(header[:-1]))
    with pytest.raises(DataCorruptError):
        open_disk(new_store(), storage)
