"""The block format is fixed: the same world gives the same bytes, and every build reads them alike."""

import struct
from typing import Any

from ecsnet.replica.event_rows import EventReader
from ecsnet.schema import loads
from ecsnet.store.names import Names
from ecsnet.wire.messages import Event
from tests.kernel import golden, page


def test_the_golden_world_encodes_to_the_golden_bytes() -> None:
    assert golden.make() == golden.read()


def test_a_replica_of_the_golden_blocks_has_the_golden_digests() -> None:
    replica = golden.new_store(golden.schema())
    replica.release_baton()
    for entry in golden.read()["blocks"]:
        replica.apply([bytes.fromhex(entry["block"])], entry["base"], entry["version"], 0)
        assert replica.acquire().digest().hex() == entry["digest"]


def test_the_golden_strings_encode_to_the_golden_bytes() -> None:
    assert golden.make_strings() == golden.read_strings()


def test_a_replica_of_the_golden_strings_has_the_golden_digests_and_texts() -> None:
    given = golden.read_strings()
    schema = loads(given["schema"])
    replica = golden.new_store(schema)
    replica.release_baton()
    for entry in given["blocks"]:
        replica.apply([bytes.fromhex(entry["block"])], entry["base"], entry["version"], 0)
        assert replica.acquire().digest().hex() == entry["digest"]
    pin, name = replica.acquire(), schema.table("name")
    texts = {
        field.name: pin.texts(name.id, field.id).decode().tolist() for field in name.fields if field.type == "string"
    }
    assert texts["text"] == ["", "same", "same", "same", golden.TEXTS[4]]
    assert texts["title"] == ["king", "", "none", "none", "none"]


def test_the_golden_packings_encode_to_the_golden_bytes() -> None:
    assert golden.make_packed() == golden.read_packed()


def test_a_reader_that_knows_only_the_page_reads_the_golden_packings() -> None:
    """`schema/wire.md`, "Blocks": every encoding is there, and leads to the cells that the vectors name."""
    given = golden.read_packed()
    schema = loads(given["schema"])
    reader = page.Reader(schema)
    seen = set()
    for entry in (given["blocks"][0], given["blocks"][2]):
        seen |= reader.apply(bytes.fromhex(entry["block"]), entry["base"], entry["version"])
    other = page.Reader(schema)
    other.apply(bytes.fromhex(given["blocks"][0]["block"]), 0, 1)
    seen |= other.apply(bytes.fromhex(given["blocks"][1]["block"]), 1, 2)
    assert {0, 1, 2, 3, 4, 5, 0x83} <= seen
    held = reader.tables["thing"]
    for name, cells in given["cells"].items():
        assert [held[index][name] for index in sorted(held)] == cells, name


def test_strings_are_in_a_block_as_the_page_says() -> None:
    """Read by hand: LEB128 of the length and UTF-8 for each, or once where all are equal."""
    full, delta = (bytes.fromhex(entry["block"]) for entry in golden.read_strings()["blocks"])
    lengths = [b"\0", b"\x05", b"\x06", b"\x82\x01", b"\x0a"]
    cells = b"".join(length + text.encode() for length, text in zip(lengths, golden.TEXTS, strict=True))
    # By ascending field id, which is the order of names, each with its encoding in front.
    assert full.endswith(b"\x01\x01" + b"\x00" + cells + b"\x01\x04none")
    # Ranges, constant, of 3 rows: one range, from 1 on, 2 more.
    assert b"\x03\x01\x03" + b"\x01\x01\x02" + b"\x04same" in delta
    assert delta.endswith(b"\x04king\x00")


def test_the_golden_events_encode_to_the_golden_bytes() -> None:
    assert golden.make_events() == golden.read_events()


def test_the_golden_events_are_read_as_they_were_inserted() -> None:
    given = golden.read_events()
    reader = EventReader(Names(loads(given["schema"])))
    block = bytes.fromhex(given["block"])
    message = Event(session=1, sequence=1, version=3, tick=4, key=0, epoch=1, block=block)
    found = [
        [row.table, {name: _plain(cell) for name, cell in row.to_dict().items()}]
        for row in reader.read_untrusted(message)
    ]
    assert found == [[table, cells | {}] for table, cells in given["rows"]]


def test_a_reader_that_knows_only_the_page_reads_the_golden_events() -> None:
    """`schema/wire.md`, "Event rows", for these two tables: columns by field id, which are in the order of names."""
    given = golden.read_events()
    block = bytes.fromhex(given["block"])
    version, zero, tables, length = struct.unpack_from("<BBHI", block)
    assert (version, zero, tables, length) == (1, 0, 2, len(block) - 8)
    names = {number: name for name, number in given["tables"].items()}
    formats = {"hit": {"at": "2f", "damage": "H", "target": "Q"}, "word": {"loud": "?", "what": "3s"}}
    at, told = 8, []
    for _ in range(tables):
        number, rows = struct.unpack_from("<HI", block, at)
        at += 6
        columns: dict[str, list[Any]] = {}
        for field, form in formats[names[number]].items():
            encoding, at = block[at], at + 1
            width = struct.calcsize("<" + form)
            cells = [struct.unpack_from("<" + form, block, at + width * i) for i in range(1 if encoding else rows)]
            at += width * len(cells)
            columns[field] = (cells * rows)[:rows]
        told.append([[names[number], {field: columns[field][i] for field in columns}] for i in range(rows)])
    order = [(block[i], block[i + 1]) for i in range(at, len(block), 2)]
    assert order == [(0, 1), (1, 2), (0, 1)]
    rows_in_order = [told[place].pop(0) for place, count in order for _ in range(count)]
    assert rows_in_order == [
        [table, {field: _packed(cell) for field, cell in cells.items()}] for table, cells in given["rows"]
    ]


def _plain(cell: Any) -> Any:
    return cell.hex() if isinstance(cell, bytes) else cell.tolist() if hasattr(cell, "tolist") else cell


def _packed(cell: Any) -> tuple[Any, ...]:
    return tuple(cell) if isinstance(cell, list) else (bytes.fromhex(cell),) if isinstance(cell, str) else (cell,)
