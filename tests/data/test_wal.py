"""The log as plain Python reads it: the chain, its end, and the difference between a torn end and a loss."""

from pathlib import Path

import pytest

from ecsnet.data import layouts
from ecsnet.data.archive import archive_segment
from ecsnet.data.directory import Directory
from ecsnet.data.wal import Log
from ecsnet.errors import DataCorruptError, DataForeignError, DataMissingError
from tests.data.by_hand import EPOCH, SEGMENT_BYTES, ByHand, three_segments

FIRST, SECOND, THIRD = (layouts.segment_name(number) for number in (1, 2, 3))


def read(root: Path, after: int | None = None) -> tuple[Log, list[int]]:
    log = Log(Directory(root), after=after)
    return log, [record.head.version for record in log.records() if record.head.kind == layouts.VERSION]


def test_every_record_of_a_clean_log_is_read_in_order(tmp_path: Path) -> None:
    three_segments(tmp_path)

    log = Log(Directory(tmp_path))
    records = list(log.records())

    assert log.problems == [] and log.torn == []
    assert [(record.head.kind, record.head.version) for record in records] == [
        (1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (3, 5), (1, 6), (2, 6),
    ]  # fmt: skip
    assert [record.body for record in records] == [
        b"one",
        b"two" * 3000,
        b"three",
        b"",
        b"five",
        b"harbour",
        b"six",
        b"",
    ]
    assert (log.version, log.closed, log.durable, log.epoch) == (6, True, 6, EPOCH)
    assert [(one.header.number, one.records) for one in log.segments] == [(1, 2), (2, 3), (3, 1)]


def test_what_only_the_newest_versions_need_is_all_that_is_read(tmp_path: Path) -> None:
    made = three_segments(tmp_path)
    made.damage(FIRST, 4200)

    log, versions = read(tmp_path, after=3)

    assert log.problems == []
    assert versions == [3, 4, 5, 6]


@pytest.mark.parametrize("at", [4096, 4096 + 16, 4096 + 56, 4096 + 100, 4096 + 128, 4096 + 130])
def test_a_flipped_bit_in_a_sealed_segment_is_a_loss(tmp_path: Path, at: int) -> None:
    """The seal was written over durable records only, so there is nothing to be in doubt about."""
    made = three_segments(tmp_path)
    made.damage(FIRST, at)

    log, versions = read(tmp_path)

    assert versions == []
    assert [(one.file, one.offset, one.versions) for one in log.problems] == [(FIRST, 4096, (1, 6))]


def test_a_torn_end_that_nobody_was_promised_is_no_problem(tmp_path: Path) -> None:
    made = three_segments(tmp_path, closed=False)
    made.damage(THIRD, 4096 + 128)

    log, versions = read(tmp_path)

    assert log.problems == []
    assert versions == [1, 2, 3, 4, 5]
    assert len(log.torn) == 1 and "never acknowledged" in log.torn[0].what
    assert not log.closed


def test_a_lost_end_that_horizon_knows_of_is_a_loss(tmp_path: Path) -> None:
    made = three_segments(tmp_path, closed=False)
    made.horizon(6, sequence=1)
    made.damage(THIRD, 4096 + 128)

    log, versions = read(tmp_path)

    assert versions == [1, 2, 3, 4, 5]
    assert [(one.offset, one.versions) for one in log.problems] == [(4096, (6, 6))]


def test_a_lost_record_that_a_later_one_knows_of_is_a_loss(tmp_path: Path) -> None:
    made = three_segments(tmp_path, closed=False)
    made.record(b"seven", durable=6)
    made.flush()
    made.damage(THIRD, 4096 + 128)

    log, versions = read(tmp_path)

    assert versions == [1, 2, 3, 4, 5]
    assert [one.versions for one in log.problems] == [(6, 6)]


def test_a_record_inside_of_a_body_is_no_evidence(tmp_path: Path) -> None:
    """A client may store the bytes of a record of another log: its salt gives it away."""
    made = three_segments(tmp_path, closed=False)
    made.record(b"seven", durable=40, salt=0x77)
    made.flush()
    made.damage(THIRD, 4096 + 128)

    log, _ = read(tmp_path)

    assert log.problems == []


def test_a_cut_off_file_and_a_missing_one_are_losses(tmp_path: Path) -> None:
    for name in ("cut", "gone", "newest"):
        three_segments(tmp_path / name)
    path = tmp_path / "cut" / SECOND
    path.write_bytes(path.read_bytes()[: 3 * 4096])
    (tmp_path / "gone" / SECOND).unlink()
    (tmp_path / "newest" / THIRD).unlink()

    cut, gone, newest = (read(tmp_path / name)[0] for name in ("cut", "gone", "newest"))

    assert [one.file for one in cut.problems] == [SECOND]
    assert [(one.file, one.what) for one in gone.problems] == [(SECOND, "the segment is missing")]
    assert [one.versions for one in newest.problems] == [(6, 6)]


def test_swapped_segments_are_told_from_the_ones_that_belong_there(tmp_path: Path) -> None:
    three_segments(tmp_path)
    a, b = (tmp_path / FIRST).read_bytes(), (tmp_path / SECOND).read_bytes()
    (tmp_path / FIRST).write_bytes(b)
    (tmp_path / SECOND).write_bytes(a)

    log, _ = read(tmp_path)

    assert [one.what for one in log.problems] == ["the segment is number 1, under another's name"]


def test_a_prepared_segment_is_nothing_and_a_torn_one_is_a_note(tmp_path: Path) -> None:
    made = three_segments(tmp_path)
    made.write(layouts.segment_name(4), bytes(SEGMENT_BYTES))
    made.write(layouts.segment_name(5), bytes(4096) + b"half a record" + bytes(SEGMENT_BYTES))

    log, versions = read(tmp_path)

    assert log.problems == [] and versions == [1, 2, 3, 4, 5, 6]
    assert [note.file for note in log.torn] == [layouts.segment_name(5)]


def test_a_new_epoch_begins_with_a_run(tmp_path: Path) -> None:
    made = three_segments(tmp_path, closed=False)
    made.segment(epoch=0xAA, ancestor=6)
    made.record(b"seven")
    made.flush()

    log, versions = read(tmp_path)

    assert log.problems == [] and versions[-1] == 7
    assert log.epoch == 0xAA and [(one.epoch, one.version) for one in log.ancestors] == [(EPOCH, 6)]


def test_an_epoch_that_nobody_announced_is_refused(tmp_path: Path) -> None:
    made = three_segments(tmp_path, closed=False)
    made.segment(epoch=0xAA)
    made.record(b"seven")
    made.flush()

    log, versions = read(tmp_path)

    assert versions[-1] == 6
    assert [one.what for one in log.problems] == ["the epoch does not follow the one before"]


def test_archived_segments_are_part_of_the_chain(tmp_path: Path) -> None:
    made = three_segments(tmp_path)
    for number in (1, 2):
        written = archive_segment(tmp_path, number)
        assert written.stat().st_size < 4096
        (tmp_path / layouts.segment_name(number)).unlink()
    made.manifest(2, oldest=3)

    log, versions = read(tmp_path)

    assert log.problems == [] and versions == [1, 2, 3, 4, 5, 6]
    assert [one.archived for one in log.segments] == [True, True, False]
    assert not list(tmp_path.glob("**/*.tmp"))


def test_a_damaged_archive_is_told(tmp_path: Path) -> None:
    made = three_segments(tmp_path)
    archive_segment(tmp_path, 1)
    (tmp_path / FIRST).unlink()
    for at in (3, 60, 118, 131, 200):
        made.damage(layouts.archived_name(1), at)
        assert read(tmp_path)[0].problems, at
        made.damage(layouts.archived_name(1), at)
    assert not read(tmp_path)[0].problems


def test_a_segment_without_a_seal_is_not_archived(tmp_path: Path) -> None:
    """Where it ends is not known yet: half of it could get lost."""
    three_segments(tmp_path)

    with pytest.raises(DataCorruptError, match="missing"):
        archive_segment(tmp_path, 3)
    assert not (tmp_path / "archive").exists()


def test_a_damaged_segment_is_not_archived(tmp_path: Path) -> None:
    three_segments(tmp_path).damage(FIRST, 4096 + 128)

    with pytest.raises(DataCorruptError, match="fails its checksum"):
        archive_segment(tmp_path, 1)


def test_what_is_no_directory_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("hello")
    (tmp_path / "file").write_text("hello")

    for name, told in (("none", "no such"), ("empty", "empty"), ("other", "notes.txt"), ("file", "is a file")):
        with pytest.raises(DataMissingError, match=told):
            Directory(tmp_path / name)


def test_the_older_manifest_does_for_a_damaged_one(tmp_path: Path) -> None:
    made = three_segments(tmp_path)
    made.manifest(2)
    made.damage("MANIFEST-0000000000000002", 20)

    directory = Directory(tmp_path)

    assert directory.manifest.number == 1
    assert [one.file for one in directory.problems] == ["MANIFEST-0000000000000002"]
    made.damage("MANIFEST-0000000000000001", 20)
    with pytest.raises(DataCorruptError, match="fails its checksum"):
        Directory(tmp_path)


def test_a_newer_format_is_told_from_damage(tmp_path: Path) -> None:
    made = three_segments(tmp_path)
    made.manifest(2, form=2)
    with pytest.raises(DataForeignError, match="format 2"):
        Directory(tmp_path)

    newer = ByHand(tmp_path / "log")
    newer.manifest()
    newer.horizon(0)
    newer.segment(form=3)
    newer.record()
    newer.flush()
    log, _ = read(tmp_path / "log")
    assert [(one.newer, one.file) for one in log.problems] == [(True, FIRST)]


def test_files_of_another_database_are_told(tmp_path: Path) -> None:
    made = three_segments(tmp_path)
    made.horizon(3, database=bytes(16))

    directory = Directory(tmp_path)

    assert [one.what for one in directory.problems] == ["this sector is of another database"]
    assert directory.horizon == 0
