"""Write the golden vectors, or compare them with what the package writes today.

    python schema/vectors/generate.py            writes NAME.hex and NAME.json beside this file
    python schema/vectors/generate.py --check    changes nothing; exit status 1 if a file would change

Every message of the schema is here at least once with every field set, and once with none; then messages as an older
and as a newer sender would write them.
"""

import json
import struct
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parents[1])]

import layout  # noqa: E402

from ecsnet.wire import codec, datagrams, framing  # noqa: E402
from ecsnet.wire import messages as m  # noqa: E402

SESSION = 0x0123_4567_89AB_CDEF
FINGERPRINT = bytes(range(16))
BLOCK = bytes(range(1, 14))  # opaque here; 13 bytes, so that padding shows
EVENT_BLOCK = bytes.fromhex(json.loads((FOLDER / "events.json").read_text())["block"])

COMMANDS = (
    m.CommandSignature(0, "attack", (m.Parameter("target", m.ParameterKind.ENTITY),)),
    m.CommandSignature(
        1,
        "steer",
        (m.Parameter("dx", m.ParameterKind.FLOAT), m.Parameter("dy", m.ParameterKind.FLOAT)),
        latest=True,
        predict=True,
    ),
    m.CommandSignature(
        2,
        "craft",
        (
            m.Parameter("kind", m.ParameterKind.ENUM, (("SWORD", 1), ("POTION", -2))),
            m.Parameter("count", m.ParameterKind.INT),
            m.Parameter("name", m.ParameterKind.STR),
            m.Parameter("bound", m.ParameterKind.BOOL),
        ),
    ),
    m.CommandSignature(3, "wave"),
)

VECTORS: dict[str, m.Message] = {
    "hello": m.Hello(
        wire_min=1,
        wire_max=2,
        message_bytes_max=1 << 20,
        features=1 << 63 | 5,
        commands_hash=0xFEDC_BA98_7654_3210,
        fingerprint=FINGERPRINT,
        name="Ada Löwe",
        token=b"\x00\xff token",
    ),
    "hello-blank": m.Hello(),
    "welcome": m.Welcome(
        wire=1,
        hz=60,
        epoch=0xFFFF_FFFE,
        features=3,
        session=SESSION,
        client_id=7,
        version=1 << 40,
        tick=1 << 33,
        commands_hash=0x1122_3344_5566_7788,
        message_bytes_max=65536,
        bytes_per_s=65536,
        commands_per_s=120,
        command_next=1,
        fingerprint=FINGERPRINT,
        resume_key=bytes(range(32)),
        name="arena",
        commands=COMMANDS,
    ),
    "welcome-without-commands": m.Welcome(
        hz=30,
        epoch=1,
        session=1,
        client_id=1,
        version=0,
        tick=0,
        message_bytes_max=65536,
        bytes_per_s=65536,
        commands_per_s=120,
        fingerprint=FINGERPRINT,
    ),
    "auth": m.Auth(scheme=1, step=2, data=b"opaque"),
    "auth-empty": m.Auth(),
    "peer": m.Peer(
        wire_min=1,
        wire_max=2,
        message_bytes_max=1 << 20,
        features=1 << 63 | 5,
        node=SESSION,
        epoch=3,
        fingerprint=FINGERPRINT,
        nonce=bytes(range(16, 32)),
        name="zürich-1",
    ),
    "peer-empty": m.Peer(node=1, epoch=0, fingerprint=FINGERPRINT, nonce=bytes(16)),
    "schema": m.Schema(revision=1, fingerprint=FINGERPRINT, canonical='[tables.größe]\nparent_table = "entities"\n'),
    "syncBegin": m.SyncBegin(session=SESSION, epoch=3, base=5, first_version=1000, tick=2000, rows=100_000, revision=1),
    "syncBegin-empty": m.SyncBegin(session=1, epoch=0, base=0, first_version=0, tick=0),
    "syncChunk": m.SyncChunk(session=SESSION, epoch=3, sequence=4, base=5, version=1001, block=BLOCK),
    "syncChunk-empty": m.SyncChunk(session=1, epoch=0, sequence=0, base=0, version=0),
    "deltaSync": m.DeltaSync(
        session=SESSION,
        epoch=3,
        base=1000,
        version=1003,
        tick=2003,
        digest_low=0x0011_2233_4455_6677,
        digest_high=0x8899_AABB_CCDD_EEFF,
        entity=2 << 32 | 9,
        command_ack=17,
        block=BLOCK,
    ),
    "deltaSync-empty": m.DeltaSync(session=1, epoch=0, base=0, version=0, tick=0),
    "deltaSync-part": m.DeltaSync(
        session=SESSION, epoch=3, base=1, version=2, tick=2, part=15, parts=16, flags=m.PARTIAL, block=BLOCK[:8]
    ),
    "deltaSync-clock": m.DeltaSync(
        session=SESSION,
        epoch=3,
        base=1,
        version=2,
        tick=2,
        flags=m.RELAYED,
        clock=((SESSION, 17), (1 << 63, 1 << 62)),
        block=BLOCK,
    ),
    "ack": m.Ack(session=SESSION, epoch=3, version=1003, chunks=5),
    "ack-empty": m.Ack(session=1, epoch=0, version=0),
    "command": m.Command(
        session=SESSION, sequence=18, tick=1999, command=2, arguments=bytes.fromhex("0100000000000000") + b"\x01"
    ),
    # An update of two rows' u8 column 3: table 17, keys 1 and 2 of their first generation, cells 7 and 9.
    "command-write": m.Command(
        session=SESSION,
        sequence=19,
        tick=1999,
        command=17,
        flags=m.WRITE,
        arguments=bytes.fromhex("02 01 0200 0300 0100000001000000 0200000001000000 07 09"),
    ),
    "command-empty": m.Command(session=1, sequence=1, tick=0, command=0),
    "commandResult": m.CommandResult(
        sequence=18,
        status=m.CommandStatus.REJECTED,
        version=1003,
        tick=2003,
        code=m.Reason.REJECTED,
        message="faster than a player can run",
    ),
    "commandResult-accepted": m.CommandResult(sequence=1, status=m.CommandStatus.ACCEPTED, version=1, tick=1),
    "event": m.Event(
        session=SESSION,
        sequence=2,
        version=1003,
        tick=2003,
        key=2 << 32 | 9,
        epoch=3,
        subscription=1,
        table=16,
        flags=1,
        block=BLOCK,
    ),
    "event-rows": m.Event(session=SESSION, sequence=1, version=1003, tick=2003, key=0, epoch=3, block=EVENT_BLOCK),
    "event-empty": m.Event(session=1, sequence=1, version=0, tick=0, key=0, epoch=0),
    "ping": m.Ping(nonce=1, sent_ns=1_700_000_000_000_000_000),
    "ping-empty": m.Ping(nonce=0, sent_ns=0),
    "pong": m.Pong(nonce=1, sent_ns=1_700_000_000_000_000_000, received_ns=1_700_000_000_010_000_000, tick=2003),
    "pong-empty": m.Pong(nonce=0, sent_ns=0, received_ns=0),
    "resume": m.Resume(
        session=SESSION,
        version=1003,
        epoch=3,
        command_next=19,
        wire_min=1,
        wire_max=1,
        message_bytes_max=1 << 20,
        features=2,
        fingerprint=FINGERPRINT,
        resume_key=bytes(range(32)),
        commands_hash=0x0123456789ABCDEF,
        command_oldest=17,
    ),
    "resume-blank": m.Resume(session=1, version=0, epoch=0),
    "resumed": m.Resumed(
        session=SESSION,
        version=1000,
        tick=2003,
        epoch=3,
        command_next=18,
        accepted=True,
        reason=m.Reason.NONE,
        resume_key=bytes(range(32, 64)),
        hz=30,
        bytes_per_s=65_536,
        commands_per_s=120,
        events_from=1004,
    ),
    "resumed-refused": m.Resumed(session=1, version=0, tick=0, epoch=0, reason=m.Reason.HISTORY_GONE),
    "goodbye": m.Goodbye(reason=m.Reason.SHUTDOWN, reconnect_after_ms=2500, message="back in a moment"),
    "goodbye-empty": m.Goodbye(reason=m.Reason.LEFT),
    "error": m.Error(
        code=m.Reason.NOT_BUILT, fatal=True, kind=m.Kind.RESUME, sequence=18, message="say Hello and start a new one"
    ),
    "error-empty": m.Error(code=m.Reason.NONE),
}


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def _message(data: bytes, pointers: list[bytes | None]) -> bytes:
    """A payload with a root of just this data and these byte lists, laid out behind one another."""
    assert len(data) % 8 == 0
    body, words = b"", b""
    for at, content in enumerate(pointers):
        if content is None:
            words += bytes(8)
            continue
        offset = len(pointers) - at - 1 + len(body) // 8
        words += struct.pack("<II", offset << 2 | 1, len(content) << 3 | 2)
        body += _pad(content)
    root = struct.pack("<IHH", 0, len(data) // 8, len(pointers))
    segment = root + data + words + body
    return struct.pack("<II", 0, len(segment) // 8) + segment


def _delta_data(words: int) -> bytes:
    full = struct.pack("<7Q2I2HI", SESSION, 1000, 1003, 2003, 0, 0, 2 << 32 | 9, 3, 17, 0, 1, 0)
    return (full + bytes.fromhex("ff" * 16))[: words * 8]


# What another build than ours would write: shorter structs of an older one, longer ones of a newer.
FOREIGN: dict[str, tuple[m.Kind, bytes, m.Message]] = {
    "ack-older": (
        m.Kind.ACK,
        _message(struct.pack("<QQ", SESSION, 1003), []),
        m.Ack(session=SESSION, epoch=0, version=1003),
    ),
    "ack-newer": (
        m.Kind.ACK,
        _message(struct.pack("<QQIIQ", SESSION, 1003, 3, 5, 99), [b"a field of tomorrow\0"]),
        m.Ack(session=SESSION, epoch=3, version=1003, chunks=5),
    ),
    "deltaSync-older": (
        m.Kind.DELTA_SYNC,
        _message(_delta_data(8), [None, BLOCK]),
        m.DeltaSync(
            session=SESSION,
            epoch=3,
            base=1000,
            version=1003,
            tick=2003,
            entity=2 << 32 | 9,
            command_ack=17,
            parts=0,
            block=BLOCK,
        ),
    ),
    "deltaSync-newer": (
        m.Kind.DELTA_SYNC,
        _message(_delta_data(11), [None, BLOCK, b"a field of tomorrow\0"]),
        m.DeltaSync(
            session=SESSION,
            epoch=3,
            base=1000,
            version=1003,
            tick=2003,
            entity=2 << 32 | 9,
            command_ack=17,
            block=BLOCK,
        ),
    ),
    "hello-older": (
        m.Kind.HELLO,
        _message(struct.pack("<HHI", 1, 1, 0), [FINGERPRINT, b"ada\0"]),
        m.Hello(fingerprint=FINGERPRINT, name="ada"),
    ),
    "hello-newer": (
        m.Kind.HELLO,
        _message(struct.pack("<HHIQQQ", 1, 3, 0, 0, 0, 99), [FINGERPRINT, b"ada\0", None, b"tomorrow\0"]),
        m.Hello(wire_max=3, fingerprint=FINGERPRINT, name="ada"),
    ),
    "goodbye-unknown-reason": (
        m.Kind.GOODBYE,
        _message(struct.pack("<HHI", 999, 0, 0), [b"a reason of tomorrow\0"]),
        m.Goodbye(reason=m.Reason.OTHER, message="a reason of tomorrow"),
    ),
}

_ACK = _message(struct.pack("<QQII", 1, 2, 3, 4), [])
_DELTA = _message(_delta_data(9), [None, BLOCK])


def _patched(payload: bytes, at: int, word: int) -> bytes:
    return payload[:at] + struct.pack("<Q", word) + payload[at + 8 :]


REFUSED: list[tuple[str, m.Kind, bytes]] = [
    ("eight bytes that abort Cap'n Proto's packed reader", m.Kind.HELLO, bytes.fromhex("11010103e8030000")),
    ("24 bytes that abort its stream reader", m.Kind.HELLO, struct.pack("<IIIIQ", 1, 1, 1000, 0, 0)),
    ("nothing", m.Kind.ACK, b""),
    ("a segment table and no root", m.Kind.ACK, bytes(8)),
    ("a null root", m.Kind.ACK, struct.pack("<IIQ", 0, 1, 0)),
    ("a null root, rare kind", m.Kind.PING, struct.pack("<IIQ", 0, 1, 0)),
    ("no whole words", m.Kind.ACK, _ACK + b"\0"),
    ("two segments", m.Kind.ACK, struct.pack("<I", 1) + _ACK[4:]),
    ("a segment longer than the payload", m.Kind.ACK, _ACK[:4] + struct.pack("<I", 5) + _ACK[8:]),
    ("a segment shorter than the payload", m.Kind.ACK, _ACK + bytes(8)),
    ("a root that is a list", m.Kind.ACK, _patched(_ACK, 8, 1)),
    ("a root that is a far pointer", m.Kind.ACK, _patched(_ACK, 8, 2)),
    ("a root beyond the segment", m.Kind.ACK, _patched(_ACK, 8, 4 << 32)),
    ("a root before the segment", m.Kind.ACK, _patched(_ACK, 8, 0xFFFF_FFF8 | 3 << 32)),
    ("a block beyond the segment", m.Kind.DELTA_SYNC, _patched(_DELTA, 96, 1 | 2 << 32 | 17 << 35)),
    ("a block of half a GiB", m.Kind.DELTA_SYNC, _patched(_DELTA, 96, 1 | 2 << 32 | ((1 << 29) - 1) << 35)),
    ("a block that is no list of bytes", m.Kind.DELTA_SYNC, _patched(_DELTA, 96, 1 | 3 << 32 | 2 << 35)),
    ("a block that is a struct", m.Kind.DELTA_SYNC, _patched(_DELTA, 96, 2 << 32)),
    ("a clock of half a billion empty entries", m.Kind.DELTA_SYNC, _patched(
        _patched(_DELTA, 88, 0 << 2 | 1 | 7 << 32 | 1 << 35), 96, ((1 << 29) - 1) << 2
    )),
    ("a base after the version", m.Kind.DELTA_SYNC, _patched(_DELTA, 24, 1004)),
    ("an unknown flag", m.Kind.DELTA_SYNC, _patched(_DELTA, 80, 1 << 16 | 4 << 32)),
    ("part 1 of 1", m.Kind.DELTA_SYNC, _patched(_DELTA, 80, 1 | 1 << 16)),
    ("command 0", m.Kind.COMMAND, _message(struct.pack("<QQIHH", 1, 0, 0, 0, 0), [])),
    ("a name that is no UTF-8", m.Kind.HELLO, _message(struct.pack("<HHI", 1, 1, 0), [None, b"\xff\xfe\0"])),
    ("a name without its NUL", m.Kind.HELLO, _message(struct.pack("<HHI", 1, 1, 0), [None, b"ada"])),
    ("a name with an escape sequence", m.Kind.HELLO, _message(struct.pack("<HHI", 1, 1, 0), [None, b"\x1b[2J\0"])),
    ("a name of 64 bytes", m.Kind.HELLO, _message(struct.pack("<HHI", 1, 1, 0), [None, b"a" * 64 + b"\0"])),
    ("a fingerprint of 15 bytes", m.Kind.HELLO, _message(struct.pack("<HHI", 1, 1, 0), [b"f" * 15, None])),
    ("wire versions from 2 to 1", m.Kind.HELLO, _message(struct.pack("<HHI", 2, 1, 0), [None, None])),
    ("an unknown status", m.Kind.COMMAND_RESULT, _message(struct.pack("<QQIHH", 1, 1, 1, 99, 0), [None])),
]  # fmt: skip


def datagram(what: str, sequence: int, ack: int, ack_bits: int, frames: list[bytes]) -> dict[str, Any]:
    """A datagram as JSON has it."""
    return {
        "what": what,
        "sequence": sequence,
        "ack": ack,
        "ackBits": ack_bits,
        "frames": [{"kind": frame[4], "payload": frame[8:].hex()} for frame in frames],
        "bytes": datagrams.pack(sequence, ack, ack_bits, b"".join(frames)).hex(),
    }


def _all_datagrams() -> dict[str, Any]:
    ack, ping = codec.encode(VECTORS["ack"]), codec.encode(VECTORS["ping"])
    hello = codec.encode(VECTORS["hello"])
    whole = datagrams.pack(9, 7, 0x8000_0001, ack)
    part = codec.encode(VECTORS["deltaSync-part"])
    early = datagrams.fragment(1 << 40, bytes(8))
    return {
        "taken": [
            datagram("an ack and nothing else", 1, 1, 0, []),
            datagram("a reset", 0, 41, 0, []),
            datagram("two frames", 9, 7, 0x8000_0001, [ack, ping]),
            datagram("the first piece of a lane", 1, 0, 0, [datagrams.fragment(0, hello)]),
            datagram("the rest of a frame beside a part of a delta", 300, 299, 0xFFFF_FFFF, [
                datagrams.fragment(16, hello[16:]), part
            ]),
            datagram("the last number", 0xFFFF_FFFF, 0xFFFF_FFFF, 0, [ping]),
        ],
        "dropped": [
            {"what": what, "bytes": data.hex()}
            for what, data in (
                ("nothing", b""),
                ("too short", whole[:15]),
                ("a checksum that is not right", whole[:-1] + bytes([whole[-1] ^ 1])),
                ("a bit that fell over", bytes([whole[0] ^ 4]) + whole[1:]),
                ("cut off", whole[:-8]),
                ("a frame that goes on behind the end", datagrams.pack(9, 7, 0, ack[:-8])),
                ("half a header", datagrams.pack(9, 7, 0, ack + bytes(4))),
                ("a frame of half a word", datagrams.pack(9, 7, 0, struct.pack("<IBBH", 4, 12, 0, 1) + b"ping")),
                ("another wire version", datagrams.pack(9, 7, 0, struct.pack("<IBBH", 0, 12, 0, 9))),
                ("longer than a datagram may be", datagrams.pack(1, 0, 0, bytes(1184)) + bytes(8)),
                ("a lane's frame without bytes", datagrams.pack(1, 0, 0, struct.pack("<IBBHQ", 8, 240, 0, 1, 0))),
                ("a piece far beyond the window", datagrams.pack(1, 0, 0, early)),
                ("an ack of what was never sent", datagrams.pack(1, 5, 0, ping)),
            )
        ],
    }  # fmt: skip


def meaning(message: m.Message) -> dict[str, Any]:
    """A message as JSON has it."""
    name = type(message).__name__
    return _struct(layout.load(), name, message)


def _struct(schema: Any, name: str, value: Any) -> dict[str, Any]:
    return {field: _value(schema, kind, _member(value, field)) for field, kind, _ in layout.fields(schema, name)}


def _member(value: Any, field: str) -> Any:
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        # (name, discriminant) of an enum's value, (node, counter) of a clock
        return value[{"name": 0, "value": 1, "node": 0, "counter": 1}[field]]
    if isinstance(value, m.CommandSignature) and field == "flags":
        return value.latest * codec.FLAG_LATEST | value.predict * codec.FLAG_PREDICT
    snake = "".join("_" + letter.lower() if letter.isupper() else letter for letter in field)
    return getattr(value, snake)


def _value(schema: Any, kind: str, value: Any) -> Any:
    if kind.startswith("list of "):
        return [_struct(schema, kind.removeprefix("list of "), item) for item in value]
    if kind == "data":
        return bytes(value).hex()
    if kind in ("u64", "i64"):
        return str(value)
    if kind == "ParameterKind":
        return "enumeration" if value is m.ParameterKind.ENUM else str(value)
    if kind[0].isupper():
        words = value.name.lower().split("_")
        return words[0] + "".join(word.capitalize() for word in words[1:])
    return value


def hex_of(frame: bytes) -> str:
    """A frame as the files have it: a word per line."""
    return "".join(frame[at : at + 8].hex() + "\n" for at in range(0, len(frame), 8))


def files() -> dict[str, str]:
    """Name and content of every file."""
    out = {}
    pairs = [(name, codec.encode(message), message, True) for name, message in VECTORS.items()]
    for name, (kind, payload, message) in FOREIGN.items():
        pairs.append((name, framing.header(kind, len(payload)) + payload, message, False))
    for name, frame, message, canonical in pairs:
        out[f"{name}.hex"] = hex_of(frame)
        about = {
            "message": type(message).__name__,
            "kind": int(m.KIND_OF[type(message)]),
            "canonical": canonical,
            "fields": meaning(message),
        }
        out[f"{name}.json"] = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
    refused = [{"what": what, "kind": int(kind), "payload": payload.hex()} for what, kind, payload in REFUSED]
    out["refused.json"] = json.dumps(refused, indent=1) + "\n"
    out["datagrams.json"] = json.dumps(_all_datagrams(), indent=1) + "\n"
    return out


def main() -> int:
    check = "--check" in sys.argv
    wanted = files()
    changed = 0
    for name, content in wanted.items():
        path = FOLDER / name
        if path.exists() and path.read_text(encoding="utf-8") == content:
            continue
        changed += 1
        print(f"{'differs' if check else 'written'}: {name}")
        if not check:
            path.write_text(content, encoding="utf-8")
    stray = {path.name for path in FOLDER.glob("*.hex")} - set(wanted)
    for name in sorted(stray):
        print(f"nobody writes {name}")
    return 1 if check and (changed or stray) else 0


if __name__ == "__main__":
    sys.exit(main())
