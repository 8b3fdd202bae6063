"""What somebody finds whose files are damaged: an error that says so, a beginning to read, and nothing changed."""

from collections.abc import Callable

import pytest

from ecsnet._kernel.disk import Storage, checksum
from ecsnet.errors import DataCorruptError
from ecsnet.schema import Schema, loads
from ecsnet.store import Store

SCHEMA: Schema = loads("""
[database]
name = "damage"
version = "1.0.0"

[tables.note]
primary_key = "id"
fields = [{ name = "id", type = "u64", auto_increment = true },
          { name = "text", type = "string[40]" }]
""")

SEGMENT = "wal/0000000000000001.wal"
RECORD = 4096
"""The first record is at one block, and each takes one."""


def filled() -> Storage:
    """Three versions of a note each, closed cleanly."""
    storage = Storage.memory()
    with Store(SCHEMA, storage=storage, durability="strict") as store:
        for text in ("one", "two", "three"):
            store["note"].insert(text=text)
    return storage


def change(storage: Storage, path: str, how: Callable[[bytearray], None]) -> None:
    data = bytearray(storage.files()[path])
    how(data)
    storage.put(path, bytes(data))


def spoil(at: int) -> Callable[[bytearray], None]:
    def how(data: bytearray) -> None:
        data[at] ^= 1

    return how


def read(storage: Storage, *, read_only: bool = False) -> list[str]:
    with Store(SCHEMA, storage=storage, read_only=read_only) as store, store.view() as view:
        (note,) = view.query("note")
        return [str(text) for text in note.text.tolist()]


def test_a_record_that_was_acknowledged_and_is_damaged_is_told_and_what_came_before_can_be_read() -> None:
    storage = filled()
    change(storage, SEGMENT, spoil(3 * RECORD + 130))
    before = storage.files()

    with pytest.raises(DataCorruptError) as told:
        read(storage)

    assert (told.value.file, told.value.offset, told.value.version, told.value.intact) == (SEGMENT, 3 * RECORD, 3, 2)
    assert {name: data for name, data in storage.files().items() if name != "LOCK"} == {
        name: data for name, data in before.items() if name != "LOCK"
    }
    assert read(storage, read_only=True) == ["one", "two"]


def test_without_a_horizon_nothing_is_taken_for_whole() -> None:
    """It is what tells an end that nobody was promised from one that was lost, and a crash leaves a sector of it."""
    storage = filled()
    change(storage, "HORIZON", lambda data: data.__setitem__(slice(None), bytes(len(data))))

    with pytest.raises(DataCorruptError, match="HORIZON"):
        read(storage)
    assert read(storage, read_only=True) == ["one", "two", "three"]


def test_a_record_that_does_not_follow_the_one_before_is_not_believed() -> None:
    """Whole by every checksum, of the right version, and not of this history."""
    storage = filled()

    def forge(data: bytearray) -> None:
        at = 3 * RECORD
        data[at + 32 : at + 48] = bytes(16)
        data[at : at + 16] = checksum(bytes(data[at + 16 : at + 128]))

    change(storage, SEGMENT, forge)

    with pytest.raises(DataCorruptError) as told:
        read(storage)
    assert (told.value.offset, told.value.intact) == (3 * RECORD, 2)
