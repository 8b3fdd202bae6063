"""Damage of any kind, anywhere: the two readers, which share only the checksum, come to the same verdict."""

import random
import shutil
from pathlib import Path

import pytest

from ecsnet._kernel.disk import Storage
from ecsnet.data.verification import verify
from ecsnet.errors import DataError
from tests.data.test_restore import History
from tests.kernel.model import assert_equal, new_store
from tests.kernel.test_disk import open_disk

DAMAGES = 60


def damage(path: Path, random: random.Random, others: list[Path]) -> str:
    """Spoil a file in one of the ways a disk does."""
    data = bytearray(path.read_bytes())
    kind = random.choice(("flip", "flip", "flip", "zeros", "cut", "gone", "swap"))
    if kind == "flip":
        used = len(data.rstrip(b"\0")) or 1
        data[random.randrange(used)] ^= 1 << random.randrange(8)
    elif kind == "zeros":
        at = random.randrange(0, len(data), 512)
        data[at : at + 512] = bytes(len(data[at : at + 512]))
    elif kind == "cut":
        del data[random.randrange(len(data)) :]
    elif kind == "swap":
        data = bytearray(random.choice(others).read_bytes())
    if kind == "gone":
        path.unlink()
    else:
        path.write_bytes(data)
    return f"{kind} {path.name}"


def files_of(root: Path) -> list[Path]:
    return sorted(
        path
        for path in root.rglob("*")
        if path.is_file() and path.name not in ("LOCK", "HORIZON") and any(path.read_bytes())
    )


@pytest.mark.parametrize("archive", [False, True])
def test_damage_is_told_or_has_done_no_harm(archive: bool, tmp_path: Path) -> None:
    history = History(tmp_path / "data", archive=archive, seed=3)
    root = tmp_path / "spoilt"
    harmful = 0
    for number in range(DAMAGES):
        shutil.copytree(history.path, root)
        choose = random.Random(number)
        files = files_of(root)
        what = damage(choose.choice(files), choose, files)
        try:
            found = verify(str(root))
            told, version, digest = bool(found.problems), found.version, found.digest
        except DataError:
            told, version, digest = True, -1, None

        harmful += told
        if not told:
            assert (version, digest) == (history.newest, history.digests[history.newest]), what
        kernel = new_store()
        try:
            with Storage.os(root) as storage, open_disk(kernel, storage, create=False) as disk:
                pin = kernel.acquire()
                assert disk.recovery.version == history.newest, what
                assert_equal(pin, history.models[history.newest])
                pin.release()
                # What the kernel could do without, or what it had no need to read, is told here all the same.
                assert told or not disk.recovery.damage, what
        except DataError:
            assert told, what
        shutil.rmtree(root)
    # Else nothing was tried: what does no harm is the padding and the older manifest's disappearance.
    assert harmful > DAMAGES // 2
