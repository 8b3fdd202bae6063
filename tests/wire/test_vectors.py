"""The golden vectors: four readers and one writer agree on every byte and its meaning."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ecsnet.errors import RemoteProtocolError
from ecsnet.wire import codec, framing
from ecsnet.wire.messages import CommandStatus, Kind, Message, ParameterKind, Reason
from tests.wire.page_reader import PAGE, PageReader, Refused

FOLDER = Path(__file__).resolve().parents[2] / "schema" / "vectors"
sys.path.insert(0, str(FOLDER))
import generate  # noqa: E402
import layout  # noqa: E402

NAMES = sorted(path.stem for path in FOLDER.glob("*.hex"))


def frame_of(name: str) -> bytes:
    return bytes.fromhex((FOLDER / f"{name}.hex").read_text())


def meaning_of(name: str) -> dict[str, Any]:
    about: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return about


def message_of(name: str) -> Message:
    return generate.VECTORS[name] if name in generate.VECTORS else generate.FOREIGN[name][2]


def test_every_message_has_a_vector_with_all_fields_set() -> None:
    """A field that no vector sets could move unnoticed."""
    for kind in Kind:
        seen: dict[str, set[str]] = {}
        for name in NAMES:
            about = meaning_of(name)
            if about["kind"] == kind:
                for field, value in about["fields"].items():
                    seen.setdefault(field, set()).add(json.dumps(value))
        assert seen, f"no vector of {kind.name}"
        empty = {'""', "0", '"0"', "false", "[]", '"none"'}
        unset = {field for field, values in seen.items() if values <= empty}
        # A command's flags have no meaning yet and must be 0; a resume's outcome is either accepted or a reason.
        assert unset <= ({"flags"} if kind is Kind.COMMAND else set()), (kind.name, unset)


def test_the_files_are_what_the_package_writes() -> None:
    result = subprocess.run(
        [sys.executable, str(FOLDER / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", NAMES)
def test_our_codec_reads_and_writes_it(name: str) -> None:
    frame = frame_of(name)
    [(kind, flags, payload)] = framing.split_frames_untrusted(frame, 1 << 20)
    assert flags == 0
    message = codec.decode_untrusted(kind, payload)
    assert message == message_of(name)
    if meaning_of(name)["canonical"]:
        assert codec.encode(message) == frame


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_that_knows_only_the_page_reads_it(name: str) -> None:
    reader = PageReader()
    about = meaning_of(name)
    [(kind, payload)] = reader.frames(frame_of(name))
    assert kind == about["kind"]
    assert reader.message(kind, payload) == (about["message"], about["fields"])


@pytest.mark.parametrize("name", NAMES)
def test_pycapnp_reads_it(name: str) -> None:
    """The hot kinds are laid out by the kernel: that they are ordinary Cap'n Proto messages is shown here."""
    about = meaning_of(name)
    schema = layout.load()
    with getattr(schema, about["message"]).from_bytes(frame_of(name)[8:]) as root:
        assert read_all(schema, about["message"], root) == about["fields"]


def read_all(schema: Any, struct: str, reader: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for field, kind, _ in layout.fields(schema, struct):
        value = getattr(reader, field)
        if kind.startswith("list of "):
            value = [read_all(schema, kind.removeprefix("list of "), item) for item in value]
        elif kind == "data":
            value = value.hex()
        elif kind in ("u64", "i64"):
            value = str(value)
        elif kind[0].isupper():
            names = {number: word for word, number in layout.enumerants(schema, kind).items()}
            value = names.get(value.raw, "other")
        out[field] = value
    return out


@pytest.mark.parametrize("name", [name for name in NAMES if name in generate.VECTORS])
def test_a_hot_head_ends_where_its_block_begins(name: str) -> None:
    """What makes one block sharable by many frames."""
    message = message_of(name)
    block = getattr(message, "block", None)
    if (
        not isinstance(block, bytes)
        or not block
        or name == "event-rows"
        or name == "event"
        or name == "deltaSync-clock"
    ):
        return
    frame = frame_of(name)
    head_bytes = {Kind.DELTA_SYNC: 112, Kind.SYNC_CHUNK: 64}[Kind(frame[4])]
    assert frame[head_bytes : head_bytes + len(block)] == block
    assert frame[head_bytes + len(block) :] == codec.padding(len(block))


@pytest.mark.parametrize("case", json.loads((FOLDER / "refused.json").read_text()), ids=lambda case: case["what"])
def test_what_must_be_refused_is_refused(case: dict[str, Any]) -> None:
    payload = bytes.fromhex(case["payload"])
    with pytest.raises(RemoteProtocolError):
        codec.decode_untrusted(case["kind"], payload)


def test_the_second_reader_refuses_what_its_page_says() -> None:
    """All faults of form; faults of meaning (ranges, names) are not its matter."""
    reader = PageReader()
    refused = []
    for case in json.loads((FOLDER / "refused.json").read_text()):
        try:
            reader.message(case["kind"], bytes.fromhex(case["payload"]))
        except Refused:
            refused.append(case["what"])
    assert len(refused) >= 20, refused


def test_the_page_has_the_tables_of_the_compiled_schema() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert layout.page_with_tables(page) == page, "run schema/vectors/layout.py --write"


def test_numbers_in_python_are_those_of_the_schema() -> None:
    schema = layout.load()

    def camel(name: str) -> str:
        first, *rest = name.lower().split("_")
        return first + "".join(word.capitalize() for word in rest)

    assert {camel(kind.name): int(kind) for kind in Kind} | {"invalid": 0} == layout.enumerants(schema, "Kind")
    reasons = {camel(reason.name): int(reason) for reason in Reason if reason is not Reason.OTHER}
    assert reasons == layout.enumerants(schema, "Reason")
    statuses = {camel(status.name): int(status) for status in CommandStatus}
    assert statuses | {"none": 0} == layout.enumerants(schema, "CommandStatus")
    kinds = {"enumeration" if kind is ParameterKind.ENUM else str(kind): at for at, kind in enumerate(ParameterKind)}
    assert kinds == layout.enumerants(schema, "ParameterKind")


def test_the_kernels_offsets_are_those_of_the_schema() -> None:
    """`frame.zig` pins its records to its own table at compile time; this pins the table to the schema."""
    table = (FOLDER.parents[1] / "kernel" / "zig" / "frame.zig").read_text(encoding="utf-8").split("//! Invariants")[0]
    schema = layout.load()
    for struct in ("SyncBegin", "SyncChunk", "DeltaSync", "Ack", "Command", "CommandResult"):
        node = getattr(schema, struct).schema.node.struct
        line = re.split(rf"//! +{struct}[\s/!]+(?=D=)", table)[1].split(" |")[0].replace("//!", " ")
        words = line.split()
        assert words[:2] == [f"D={node.dataWordCount}", f"P={node.pointerCount}"], struct
        found = dict(zip(words[2::2], words[3::2], strict=True))
        for field, _, place in layout.fields(schema, struct):
            section, offset = place.split(" ")
            snake = "".join("_" + c.lower() if c.isupper() else c for c in field)
            if section == "data":
                assert found.pop(snake) == str(24 + int(offset)), (struct, field)
            else:
                assert found.pop(f"->{snake}") == str(24 + node.dataWordCount * 8 + int(offset) * 8), (struct, field)
        assert not found, (struct, found)
