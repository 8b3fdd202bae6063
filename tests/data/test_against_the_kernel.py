"""Every file that the kernel writes reads back with the reader that knows only the page of the formats."""

from pathlib import Path

import pytest

from ecsnet._kernel.disk import MEMORY, STRICT, Storage
from ecsnet.data.archive import archive_segment
from ecsnet.data.directory import Directory
from ecsnet.data.verification import survey, verify
from tests.kernel.model import Model
from tests.kernel.test_disk import DiskDriver


def digest_of(driver: DiskDriver) -> bytes:
    with driver.kernel_pin() as pin:
        return pin.digest()


@pytest.mark.parametrize(("seed", "archive"), [(1, False), (2, True), (3, True)])
def test_a_store_of_many_runs_verifies_and_has_the_digest_that_the_kernel_has(
    seed: int, archive: bool, tmp_path: Path
) -> None:
    path, model, digest, version = tmp_path / "data", Model(), b"", 0
    for run in range(4):
        with Storage.os(path) as storage:
            driver = DiskDriver(seed * 10 + run, storage, model, archive=archive, level=STRICT if run % 2 else MEMORY)
            driver.run(12)
            driver.flush()
            driver.kernel.take_baton()
            driver.disk.point(f"run {run}", driver.now)
            driver.disk.note_digest(driver.version, digest_of(driver), driver.now)
            driver.kernel.release_baton()
            driver.flush()
            if run:
                driver.snapshot()
                for number in driver.disk.compact():
                    archive_segment(path, number)
                    driver.disk.archived(number)
            driver.run(3)
            driver.flush()
            digest, version, model = digest_of(driver), driver.version, driver.model

            found = verify(str(path))
            assert found.problems == [], found.problems
            assert (found.version, found.digest, found.digest_version) == (version, digest, version)
            assert found.digests_compared >= (run > 0)
            assert found.epoch == driver.disk.recovery.epoch

            if run == 2:
                driver.disk.abandon()
                driver.kernel.close()
            else:
                driver.close()
    found = verify(str(path))
    assert found.problems == []
    assert found.log is not None and found.log.closed and (not archive or found.log.first == 1)
    assert survey(Directory(path)).digest == digest
    assert not any("unknown" in str(note) for note in found.notes)
