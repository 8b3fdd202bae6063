"""Messages to bytes and back: hot kinds by the kernel at fixed offsets, rare kinds by pycapnp. Acks and pings, which
have nothing but numbers in them, are written and read here, at fixed offsets too; so are event rows (`event_frame`).

This is the only module that imports pycapnp, and only when the first rare message comes: `import ecsnet` stays fast,
and a test that replays hot frames never loads it.

Invariants:
- no library sees a payload before its length and its one segment have been checked here: pycapnp's packed and stream
  readers abort the process on a few hostile bytes, so only `from_bytes` is used, with `traversal_limit_in_words` 4
  times the message, `nesting_limit` 16, and each field read once (a lint holds the package to it);
- lengths of lists and texts are checked against a limit before they are looped over;
- a decoder raises RemoteProtocolError or returns a message whose numbers are in the ranges of `schema/ecsnet.capnp`;
- an encoder writes one segment, unpacked, so whatever it wrote a decoder with the same limits reads.
"""

import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from struct import Struct, unpack_from
from typing import Any, Final

from ecsnet._kernel import frames
from ecsnet.errors import InternalError, RemoteProtocolError
from ecsnet.limits import (
    COMMAND_NAMES_MAX,
    COMMAND_PARAMETERS_MAX,
    DELTA_PARTS_MAX,
    ENUM_VALUES_MAX,
    FRAME_HEADER_BYTES,
    MESSAGE_TO_CLIENT_BYTES_MAX,
    NAME_BYTES_MAX,
    NESTING_LIMIT,
    REASON_BYTES_MAX,
    SCHEMA_TEXT_BYTES_MAX,
    TRAVERSAL_LIMIT_FACTOR,
)
from ecsnet.wire import framing
from ecsnet.wire.event_frame import read_event, write_event
from ecsnet.wire.messages import (
    COMMAND_FLAGS,
    DELTA_FLAGS,
    KIND_OF,
    NO_CLOCK,
    Ack,
    Auth,
    Command,
    CommandResult,
    CommandSignature,
    CommandStatus,
    DeltaSync,
    Error,
    Event,
    Goodbye,
    Hello,
    Kind,
    Message,
    Parameter,
    ParameterKind,
    Peer,
    Ping,
    Pong,
    Reason,
    Resume,
    Resumed,
    Schema,
    SyncBegin,
    SyncChunk,
    Unknown,
    Welcome,
)

FINGERPRINT_BYTES: Final = 16
DELTA_HEAD_BYTES: Final = frames.HEAD_BYTES[frames.DELTA_SYNC]
"""Of a DeltaSync's frame, before its block."""

PEER_NONCE_BYTES: Final = 16

FLAG_LATEST: Final = 1 << 0
FLAG_PREDICT: Final = 1 << 1

_ZEROS: Final = tuple(bytes(n) for n in range(8))
_SEGMENT: Final = Struct("<II")
_EVENT: Final = int(Kind.EVENT)
_PARAMETER_KINDS: Final = tuple(ParameterKind)
_PARAMETER_NUMBERS: Final = {kind: number for number, kind in enumerate(_PARAMETER_KINDS)}
_REASONS: Final = {int(reason): reason for reason in Reason}
_STATUSES: Final = {int(status): status for status in CommandStatus}


def encode(message: Message) -> bytes:
    """One whole frame: header and payload."""
    kind = KIND_OF[type(message)]
    hot = _HOT_ENCODERS.get(kind)
    if hot is not None:
        frame = hot(message)
        if frame is not None:
            return frame
    payload = _encode_rare(kind, message)
    return framing.header(kind, len(payload)) + payload


def decode_untrusted(kind: int, payload: bytes | bytearray | memoryview) -> Message:
    """The message of one payload, as a stranger sent it. A `block` in it is a memoryview into `payload`.

    Returns:
        The message; `Unknown` for a kind that this build does not know.

    Raises:
        RemoteProtocolError: malformed, or a value outside its range. Nothing else is raised for any bytes.
    """
    if not isinstance(payload, bytes):
        payload = bytes(payload)
    hot = _HOT_DECODERS.get(kind)
    if hot is not None:
        return hot(payload)
    rare = _RARE_DECODERS.get(kind)
    if rare is None:
        return Unknown(kind=kind, payload_bytes=len(payload))
    words = _WORDS.get(kind)
    if words is not None:
        message, front, record = words
        # Laid out as we write it, it is read where it lies; however else one may be laid out, pycapnp knows.
        if len(payload) == len(front) + record.size and payload.startswith(front):
            return message(*record.unpack_from(payload, len(front)))
    if kind == _EVENT and (event := read_event(payload)) is not None:
        return event
    check_segment_untrusted(kind, payload)
    return _decode_rare(kind, rare, payload)


def check_segment_untrusted(kind: int, payload: bytes) -> None:
    """Refuse what is not exactly one Cap'n Proto segment with a root, before any library sees it."""
    size = len(payload)
    if size > MESSAGE_TO_CLIENT_BYTES_MAX:
        raise RemoteProtocolError(
            f"a message of kind {kind} has {size} bytes; the limit is {MESSAGE_TO_CLIENT_BYTES_MAX}", Reason.TOO_LARGE
        )
    if size < 16 or size % 8:
        raise _malformed(kind, f"{size} bytes are too few, or no whole words")
    more_segments, words = _SEGMENT.unpack_from(payload)
    if more_segments:
        raise _malformed(kind, f"{more_segments + 1} segments instead of one")
    if words * 8 + 8 != size:
        raise _malformed(kind, f"its segment has {words} words, the message {size // 8 - 1}")
    (root,) = unpack_from("<Q", payload, 8)
    if root == 0 or root & 3:
        raise _malformed(kind, "its root is no struct")


# --- pings: nothing but words, each second from every client ---------------------------------------------------------


def _front(words: int) -> bytes:
    """Segment table and root of a message that is one struct of so many words and no pointers."""
    return Struct("<IIQ").pack(0, 1 + words, words << 32)


def _encode_ping(m: Any) -> bytes:
    return framing.header(Kind.PING, 32) + _PING_FRONT + _PING.pack(m.nonce, m.sent_ns)


def _encode_pong(m: Any) -> bytes:
    return framing.header(Kind.PONG, 48) + _PONG_FRONT + _PONG.pack(m.nonce, m.sent_ns, m.received_ns, m.tick)


_PING: Final = Struct("<2Q")
_PONG: Final = Struct("<4Q")
_PING_FRONT: Final = _front(2)
_PONG_FRONT: Final = _front(4)
_WORDS: Final[dict[int, tuple[Callable[..., Message], bytes, Struct]]] = {
    Kind.PING: (lambda nonce, sent_ns: Ping(nonce=nonce, sent_ns=sent_ns), _PING_FRONT, _PING),
    Kind.PONG: (
        lambda nonce, sent_ns, received_ns, tick: Pong(
            nonce=nonce, sent_ns=sent_ns, received_ns=received_ns, tick=tick
        ),
        _PONG_FRONT,
        _PONG,
    ),
}


# --- heads: what a frame is sent as when its block is shared ----------------------------------------------------------


_SESSION_AT: Final = 24
_SESSION: Final = Struct("<Q")
_ENTITY_AT: Final = 72
_ENTITY: Final = Struct("<QII")  # entity, epoch, command ack


def padding(block_bytes: int) -> bytes:
    """The zeros between a block and the end of its frame."""
    return _ZEROS[-block_bytes % 8]


def delta_head(
    *,
    session: int,
    epoch: int,
    base: int,
    version: int,
    tick: int,
    block_bytes: int,
    entity: int = 0,
    command_ack: int = 0,
    digest: tuple[int, int] = (0, 0),
    part: int = 0,
    parts: int = 1,
    flags: int = 0,
) -> bytes:
    """Everything of a DeltaSync before its block: `(delta_head(...), block, padding(len(block)))` is the frame.
    `digest` is (low, high) u64, both 0 for none."""
    return frames.write_head(
        frames.DELTA_SYNC,
        (session, base, version, tick, digest[0], digest[1], entity, epoch, command_ack, part, parts, flags),
        block_bytes,
    )


class DeltaFrames:
    """Frames of one delta for many sessions: what differs from one to the next is the session, its entity and its
    command entry, and all else is written once.

    The head that the kernel writes is cut at the places of these three, which `kernel/zig/frame.zig` pins; a test
    compares what comes out with heads that are written whole.
    """

    __slots__ = ("_epoch", "_front", "_middle", "_tail", "length")

    def __init__(
        self,
        *,
        epoch: int,
        base: int,
        version: int,
        tick: int,
        digest: tuple[int, int],
        block: bytes | memoryview,
        flags: int = 0,
    ) -> None:
        size = len(block)
        head = delta_head(
            session=0,
            epoch=epoch,
            base=base,
            version=version,
            tick=tick,
            block_bytes=size,
            digest=digest,
            flags=flags,
        )
        self._epoch = epoch
        self._front = head[:_SESSION_AT]
        self._middle = head[_SESSION_AT + 8 : _ENTITY_AT]
        self._tail = b"".join((head[_ENTITY_AT + _ENTITY.size :], block, padding(size)))
        self.length = len(head) + size + -size % 8
        """Bytes of each frame."""

    def frame(self, session: int, entity: int, command_ack: int) -> bytes:
        """The whole frame for one session."""
        return b"".join(
            (
                self._front,
                _SESSION.pack(session),
                self._middle,
                _ENTITY.pack(entity, self._epoch, command_ack),
                self._tail,
            )
        )


_ACK_RECORD: Final = Struct("<2Q2I")
ACK_BYTES: Final = frames.HEAD_BYTES[frames.ACK]
"""Of the whole frame of an Ack."""
_ACK_PAYLOAD_BYTES: Final = frames.HEAD_BYTES[frames.ACK] - FRAME_HEADER_BYTES


def chunk_head(*, session: int, epoch: int, sequence: int, base: int, version: int, block_bytes: int) -> bytes:
    """Everything of a SyncChunk before its block."""
    return frames.write_head(frames.SYNC_CHUNK, (session, base, version, epoch, sequence), block_bytes)


# --- hot kinds --------------------------------------------------------------------------------------------------------


def _encode_sync_begin(m: Any) -> bytes:
    return frames.write_head(
        frames.SYNC_BEGIN, (m.session, m.base, m.first_version, m.tick, m.rows, m.epoch, m.revision)
    )


def _encode_sync_chunk(m: Any) -> bytes:
    size = len(m.block)
    head = chunk_head(
        session=m.session, epoch=m.epoch, sequence=m.sequence, base=m.base, version=m.version, block_bytes=size
    )
    return b"".join((head, m.block, padding(size)))


def _encode_delta_sync(m: Any) -> bytes | None:
    if m.clock:
        return None  # between nodes only: no fixed offsets, so by pycapnp
    size = len(m.block)
    head = delta_head(
        session=m.session,
        epoch=m.epoch,
        base=m.base,
        version=m.version,
        tick=m.tick,
        block_bytes=size,
        entity=m.entity,
        command_ack=m.command_ack,
        digest=(m.digest_low, m.digest_high),
        part=m.part,
        parts=m.parts,
        flags=m.flags,
    )
    return b"".join((head, m.block, padding(size)))


@cache
def _ack_front() -> bytes:
    """What every ack begins with: header, segment table and root, as the kernel writes them."""
    return frames.write_head(frames.ACK, (0, 0, 0, 0))[: -_ACK_RECORD.size]


def ack_frame(session: int, version: int, epoch: int, chunks: int) -> bytes:
    """The whole frame of an Ack: its record lies behind a front that is the same for all, so no call of the kernel is
    needed. A test compares it with what the kernel writes."""
    return _ack_front() + _ACK_RECORD.pack(session, version, epoch, chunks)


def _encode_ack(m: Any) -> bytes:
    return ack_frame(m.session, m.version, m.epoch, m.chunks)


def _encode_command(m: Any) -> bytes:
    size = len(m.arguments)
    head = frames.write_head(frames.COMMAND, (m.session, m.tick, m.sequence, m.command, m.flags), size)
    return b"".join((head, m.arguments, padding(size)))


def _encode_command_result(m: Any) -> bytes:
    text = m.message.encode() + b"\0" if m.message else b""
    size = len(text)
    head = frames.write_head(frames.COMMAND_RESULT, (m.version, m.tick, m.sequence, m.status, m.code), size)
    return b"".join((head, text, padding(size)))


def _decode_sync_begin(payload: bytes) -> SyncBegin:
    session, base, first_version, tick, rows, epoch, revision = frames.read_untrusted(frames.SYNC_BEGIN, payload)
    if base > first_version:
        raise _malformed(Kind.SYNC_BEGIN, f"base {base} is after its first version {first_version}")
    return SyncBegin(
        session=session, epoch=epoch, base=base, first_version=first_version, tick=tick, rows=rows, revision=revision
    )


def _decode_sync_chunk(payload: bytes) -> SyncChunk:
    session, base, version, epoch, sequence, at, size = frames.read_untrusted(frames.SYNC_CHUNK, payload)
    if base > version:
        raise _malformed(Kind.SYNC_CHUNK, f"base {base} is after its version {version}")
    return SyncChunk(
        session=session,
        epoch=epoch,
        sequence=sequence,
        base=base,
        version=version,
        block=memoryview(payload)[at : at + size],
    )


def _decode_delta_sync(payload: bytes) -> DeltaSync:
    (
        session,
        base,
        version,
        tick,
        digest_low,
        digest_high,
        entity,
        epoch,
        command_ack,
        part,
        parts,
        flags,
        at,
        size,
        clock_at,
        clock_count,
        stride,
        data_bytes,
    ) = frames.read_untrusted(frames.DELTA_SYNC, payload)
    if base > version:
        raise _malformed(Kind.DELTA_SYNC, f"base {base} is after its version {version}")
    if flags & ~DELTA_FLAGS:
        raise _malformed(Kind.DELTA_SYNC, f"unknown flags {flags:#x}")
    if part >= max(parts, 1) or parts > DELTA_PARTS_MAX:  # 0 parts, of a sender that does not know them, is one
        raise _malformed(Kind.DELTA_SYNC, f"part {part} of {parts}")
    clock = NO_CLOCK
    if clock_count:
        clock = tuple(
            (
                unpack_from("<Q", payload, entry)[0] if data_bytes >= 8 else 0,
                unpack_from("<Q", payload, entry + 8)[0] if data_bytes >= 16 else 0,
            )
            for entry in range(clock_at, clock_at + clock_count * stride, stride)
        )
    return DeltaSync(
        session=session,
        epoch=epoch,
        base=base,
        version=version,
        tick=tick,
        digest_low=digest_low,
        digest_high=digest_high,
        entity=entity,
        command_ack=command_ack,
        part=part,
        parts=parts,
        flags=flags,
        clock=clock,
        block=memoryview(payload)[at : at + size],
    )


def read_ack_untrusted(payload: bytes) -> tuple[int, ...]:
    """Session, version, epoch and chunks of an Ack's payload. Raises RemoteProtocolError as `decode_untrusted` does."""
    # Laid out as we write it, it is read where it lies; however else one may be laid out, the kernel knows.
    if len(payload) == _ACK_PAYLOAD_BYTES and payload.startswith(_ack_front()[FRAME_HEADER_BYTES:]):
        return _ACK_RECORD.unpack_from(payload, _ACK_PAYLOAD_BYTES - _ACK_RECORD.size)
    return frames.read_untrusted(frames.ACK, payload)


def read_acks(data: memoryview) -> list[tuple[int, ...]]:
    """Session, version, epoch and chunks of each Ack that `data` is nothing but, laid out as we write them; none where
    it is anything else, or not whole."""
    count, more = divmod(len(data), ACK_BYTES)
    front = _ack_front()
    if more or any(data[at : at + len(front)] != front for at in range(0, count * ACK_BYTES, ACK_BYTES)):
        return []
    return [_ACK_RECORD.unpack_from(data, end - _ACK_RECORD.size) for end in range(ACK_BYTES, len(data) + 1, ACK_BYTES)]


def _decode_ack(payload: bytes) -> Ack:
    session, version, epoch, chunks = read_ack_untrusted(payload)
    return Ack(session=session, epoch=epoch, version=version, chunks=chunks)


def _decode_command(payload: bytes) -> Command:
    session, tick, sequence, command, flags, at, size = frames.read_untrusted(frames.COMMAND, payload)
    if sequence == 0:
        raise _malformed(Kind.COMMAND, "sequence 0: commands count from 1")
    if flags & ~COMMAND_FLAGS:
        raise _malformed(Kind.COMMAND, f"unknown flags {flags:#x}")
    return Command(
        session=session, sequence=sequence, tick=tick, command=command, flags=flags, arguments=payload[at : at + size]
    )


def _decode_command_result(payload: bytes) -> CommandResult:
    kind = Kind.COMMAND_RESULT
    version, tick, sequence, status, code, at, size = frames.read_untrusted(frames.COMMAND_RESULT, payload)
    if status not in _STATUSES:
        raise _malformed(kind, f"unknown status {status}")
    if sequence == 0:
        raise _malformed(kind, "sequence 0: commands count from 1")
    message = ""
    if size:
        if payload[at + size - 1]:
            raise _malformed(kind, "a text without its NUL")
        try:
            message = payload[at : at + size - 1].decode()
        except UnicodeDecodeError as error:
            raise _malformed(kind, f"a text is no UTF-8 ({error.reason})") from None
        _text(kind, "message", message, REASON_BYTES_MAX)
    return CommandResult(
        sequence=sequence, status=_STATUSES[status], version=version, tick=tick, code=_reason(code), message=message
    )


_HOT_ENCODERS: Final[dict[int, Callable[[Any], bytes | None]]] = {
    Kind.SYNC_BEGIN: _encode_sync_begin,
    Kind.SYNC_CHUNK: _encode_sync_chunk,
    Kind.DELTA_SYNC: _encode_delta_sync,
    Kind.ACK: _encode_ack,
    Kind.PING: _encode_ping,
    Kind.PONG: _encode_pong,
    Kind.EVENT: write_event,
    Kind.COMMAND: _encode_command,
    Kind.COMMAND_RESULT: _encode_command_result,
}
_HOT_DECODERS: Final[dict[int, Callable[[bytes], Message]]] = {
    Kind.SYNC_BEGIN: _decode_sync_begin,
    Kind.SYNC_CHUNK: _decode_sync_chunk,
    Kind.DELTA_SYNC: _decode_delta_sync,
    Kind.ACK: _decode_ack,
    Kind.COMMAND: _decode_command,
    Kind.COMMAND_RESULT: _decode_command_result,
}


# --- rare kinds -------------------------------------------------------------------------------------------------------

_loading = threading.Lock()


@cache
def _load_schema() -> Any:
    ours = "capnp" not in sys.modules
    import capnp

    if ours:
        # Importing it installs a hook that looks for *.capnp files at every later import of anything.
        capnp.remove_import_hook()
    # A wheel carries the schema beside this module; a clone has it where people look for it.
    here = Path(__file__).resolve().parent
    for path in (here / "ecsnet.capnp", here.parents[1] / "schema" / "ecsnet.capnp"):
        if path.is_file():
            return capnp, capnp.load(str(path))
    raise InternalError(f"ecsnet.capnp is neither beside {here} nor in a clone's schema/")


def _capnp() -> Any:
    with _loading:  # a node's thread and a client's may both be first
        return _load_schema()


def _words(text: str | bytes) -> int:
    size = len(text) if isinstance(text, bytes) else len(text.encode())
    return size // 8 + 2  # the NUL of a text, and the rest of its last word


def _encode_rare(kind: Kind, message: Message) -> bytes:
    _, schema = _capnp()
    # Room for every struct's own words; 64 is four times the largest. A message that did not fit its first segment
    # would get a second one, which no reader of ours takes.
    words = 64
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if isinstance(value, (str, bytes, memoryview)):
            words += _words(value if isinstance(value, str) else bytes(value))
    if isinstance(message, Welcome):
        for signature in message.commands:
            words += 4 + _words(signature.name)
            for parameter in signature.parameters:
                words += 4 + _words(parameter.name) + sum(3 + _words(name) for name, _ in parameter.values)
    if isinstance(message, DeltaSync):
        words += 2 * len(message.clock)
    name, write = _RARE_ENCODERS[kind]
    builder = getattr(schema, name).new_message(num_first_segment_words=words)
    write(builder, message)
    payload: bytes = builder.to_bytes()
    more_segments, _ = _SEGMENT.unpack_from(payload)
    assert more_segments == 0, (kind, words)
    return payload


def _decode_rare(kind: int, decoder: tuple[str, Callable[[Any], Message]], payload: bytes) -> Message:
    capnp, schema = _capnp()
    name, read = decoder
    try:
        with getattr(schema, name).from_bytes(
            payload,
            traversal_limit_in_words=TRAVERSAL_LIMIT_FACTOR * (len(payload) // 8),
            nesting_limit=NESTING_LIMIT,
        ) as reader:
            return read(reader)
    except capnp.KjException as error:
        # Its text has addresses of this process in it: not for a peer's eyes.
        what = str(error).partition("\n")[0].partition("failed: ")[2].partition(";")[0][:100]
        raise _malformed(kind, what or "it cannot be read") from None
    except UnicodeDecodeError as error:
        raise _malformed(kind, f"a text is no UTF-8 ({error.reason})") from None


def _malformed(kind: int, what: str) -> RemoteProtocolError:
    name = Kind(kind).name if kind in Kind._value2member_map_ else f"kind {kind}"
    return RemoteProtocolError(f"a malformed {name} message: {what}", Reason.BAD_FRAME)


def _text(kind: Kind, field: str, text: str, bytes_max: int) -> str:
    if len(text.encode()) > bytes_max:
        raise RemoteProtocolError(
            f"{kind.name}.{field} has {len(text.encode())} bytes of UTF-8; the limit is {bytes_max}", Reason.TOO_LARGE
        )
    return text


def _name(kind: Kind, field: str, text: str) -> str:
    """A name ends up in logs and on terminals: no line breaks, no escape sequences."""
    _text(kind, field, text, NAME_BYTES_MAX)
    if not text.isprintable():
        raise _malformed(kind, f"{field} {text!r} is not printable")
    return text


def _fingerprint(kind: Kind, data: bytes, *, optional: bool = False) -> bytes:
    if len(data) != FINGERPRINT_BYTES and not (optional and not data):
        raise _malformed(kind, f"a fingerprint of {len(data)} bytes instead of {FINGERPRINT_BYTES}")
    return data


def _count(kind: Kind, field: str, found: int, limit: int) -> int:
    if found > limit:
        raise RemoteProtocolError(f"{kind.name}.{field} has {found} entries; the limit is {limit}", Reason.TOO_LARGE)
    return found


def _reason(number: int) -> Reason:
    return _REASONS.get(number, Reason.OTHER)


def _write_hello(b: Any, m: Hello) -> None:
    b.wireMin, b.wireMax, b.messageBytesMax = m.wire_min, m.wire_max, m.message_bytes_max
    b.features, b.commandsHash = m.features, m.commands_hash
    b.fingerprint, b.name, b.token = m.fingerprint, m.name, m.token


def _read_hello(r: Any) -> Hello:
    wire_min, wire_max = r.wireMin, r.wireMax
    if wire_min > wire_max:
        raise _malformed(Kind.HELLO, f"wire versions from {wire_min} to {wire_max}")
    return Hello(
        wire_min=wire_min,
        wire_max=wire_max,
        message_bytes_max=r.messageBytesMax,
        features=r.features,
        commands_hash=r.commandsHash,
        fingerprint=_fingerprint(Kind.HELLO, r.fingerprint, optional=True),
        name=_name(Kind.HELLO, "name", r.name),
        token=r.token,
    )


def _write_welcome(b: Any, m: Welcome) -> None:
    b.wire, b.hz, b.epoch, b.features = m.wire, m.hz, m.epoch, m.features
    b.session, b.clientId, b.version, b.tick = m.session, m.client_id, m.version, m.tick
    b.commandsHash, b.messageBytesMax = m.commands_hash, m.message_bytes_max
    b.bytesPerS, b.commandsPerS, b.commandNext = m.bytes_per_s, m.commands_per_s, m.command_next
    b.fingerprint, b.resumeKey, b.name = m.fingerprint, m.resume_key, m.name
    if not m.commands:
        return
    for entry, signature in zip(b.init("commands", len(m.commands)), m.commands, strict=True):
        entry.id, entry.name = signature.id, signature.name
        entry.flags = signature.latest * FLAG_LATEST | signature.predict * FLAG_PREDICT
        if not signature.parameters:
            continue
        for slot, parameter in zip(
            entry.init("parameters", len(signature.parameters)), signature.parameters, strict=True
        ):
            slot.kind, slot.name = _PARAMETER_NUMBERS[parameter.kind], parameter.name
            if not parameter.values:
                continue
            for value, (name, number) in zip(slot.init("values", len(parameter.values)), parameter.values, strict=True):
                value.name, value.value = name, number


def _read_welcome(r: Any) -> Welcome:
    kind = Kind.WELCOME
    commands = r.commands
    _count(kind, "commands", len(commands), COMMAND_NAMES_MAX)
    return Welcome(
        wire=r.wire,
        hz=r.hz,
        epoch=r.epoch,
        features=r.features,
        session=r.session,
        client_id=r.clientId,
        version=r.version,
        tick=r.tick,
        commands_hash=r.commandsHash,
        message_bytes_max=r.messageBytesMax,
        bytes_per_s=r.bytesPerS,
        commands_per_s=r.commandsPerS,
        command_next=r.commandNext,
        fingerprint=_fingerprint(kind, r.fingerprint),
        resume_key=r.resumeKey,
        name=_name(kind, "name", r.name),
        commands=tuple(_read_signature(entry) for entry in commands),
    )


def _read_signature(r: Any) -> CommandSignature:
    parameters = r.parameters
    _count(Kind.WELCOME, "parameters", len(parameters), COMMAND_PARAMETERS_MAX)
    flags = r.flags
    return CommandSignature(
        id=r.id,
        name=_name(Kind.WELCOME, "command", r.name),
        parameters=tuple(_read_parameter(entry) for entry in parameters),
        latest=bool(flags & FLAG_LATEST),
        predict=bool(flags & FLAG_PREDICT),
    )


def _read_parameter(r: Any) -> Parameter:
    number = r.kind.raw
    if number >= len(_PARAMETER_KINDS):
        raise _malformed(Kind.WELCOME, f"unknown parameter kind {number}")
    values = r.values
    _count(Kind.WELCOME, "values", len(values), ENUM_VALUES_MAX)
    return Parameter(
        _name(Kind.WELCOME, "parameter", r.name),
        _PARAMETER_KINDS[number],
        tuple((_name(Kind.WELCOME, "value", entry.name), entry.value) for entry in values),
    )


def _write_peer(b: Any, m: Peer) -> None:
    b.wireMin, b.wireMax, b.messageBytesMax, b.features = m.wire_min, m.wire_max, m.message_bytes_max, m.features
    b.node, b.epoch, b.fingerprint, b.nonce, b.name = m.node, m.epoch, m.fingerprint, m.nonce, m.name


def _read_peer(r: Any) -> Peer:
    wire_min, wire_max, node, nonce = r.wireMin, r.wireMax, r.node, r.nonce
    if wire_min > wire_max:
        raise _malformed(Kind.PEER, f"wire versions from {wire_min} to {wire_max}")
    if node == 0:
        raise _malformed(Kind.PEER, "node 0 is nobody")
    if len(nonce) != PEER_NONCE_BYTES:
        raise _malformed(Kind.PEER, f"a nonce of {len(nonce)} bytes; it has {PEER_NONCE_BYTES}")
    return Peer(
        node=node,
        epoch=r.epoch,
        fingerprint=_fingerprint(Kind.PEER, r.fingerprint),
        nonce=nonce,
        name=_name(Kind.PEER, "name", r.name),
        wire_min=wire_min,
        wire_max=wire_max,
        message_bytes_max=r.messageBytesMax,
        features=r.features,
    )


def _write_auth(b: Any, m: Auth) -> None:
    b.scheme, b.step, b.data = m.scheme, m.step, m.data


def _read_auth(r: Any) -> Auth:
    return Auth(scheme=r.scheme, step=r.step, data=r.data)


def _write_schema(b: Any, m: Schema) -> None:
    b.revision, b.fingerprint, b.canonical = m.revision, m.fingerprint, m.canonical


def _read_schema(r: Any) -> Schema:
    return Schema(
        revision=r.revision,
        fingerprint=_fingerprint(Kind.SCHEMA, r.fingerprint),
        canonical=_text(Kind.SCHEMA, "canonical", r.canonical, SCHEMA_TEXT_BYTES_MAX),
    )


def _write_delta_sync(b: Any, m: DeltaSync) -> None:
    b.session, b.base, b.version, b.tick = m.session, m.base, m.version, m.tick
    b.digestLow, b.digestHigh, b.entity, b.epoch = m.digest_low, m.digest_high, m.entity, m.epoch
    b.commandAck, b.part, b.parts, b.flags = m.command_ack, m.part, m.parts, m.flags
    for entry, (node, counter) in zip(b.init("clock", len(m.clock)), m.clock, strict=True):
        entry.node, entry.counter = node, counter
    if m.block:
        b.block = bytes(m.block)


def _read_event(r: Any) -> Event:
    return Event(
        session=r.session,
        sequence=r.sequence,
        version=r.version,
        tick=r.tick,
        key=r.key,
        epoch=r.epoch,
        subscription=r.subscription,
        table=r.table,
        flags=r.flags,
        block=r.block,
    )


def _read_ping(r: Any) -> Ping:
    return Ping(nonce=r.nonce, sent_ns=r.sentNs)


def _read_pong(r: Any) -> Pong:
    return Pong(nonce=r.nonce, sent_ns=r.sentNs, received_ns=r.receivedNs, tick=r.tick)


def _write_resume(b: Any, m: Resume) -> None:
    b.session, b.version, b.epoch, b.commandNext = m.session, m.version, m.epoch, m.command_next
    b.wireMin, b.wireMax, b.messageBytesMax, b.features = m.wire_min, m.wire_max, m.message_bytes_max, m.features
    b.fingerprint, b.resumeKey = m.fingerprint, m.resume_key
    b.commandsHash, b.commandOldest = m.commands_hash, m.command_oldest


def _read_resume(r: Any) -> Resume:
    wire_min, wire_max = r.wireMin, r.wireMax
    if wire_min > wire_max:
        raise _malformed(Kind.RESUME, f"wire versions from {wire_min} to {wire_max}")
    return Resume(
        session=r.session,
        version=r.version,
        epoch=r.epoch,
        command_next=r.commandNext,
        wire_min=wire_min,
        wire_max=wire_max,
        message_bytes_max=r.messageBytesMax,
        features=r.features,
        fingerprint=_fingerprint(Kind.RESUME, r.fingerprint, optional=True),
        resume_key=r.resumeKey,
        commands_hash=r.commandsHash,
        command_oldest=r.commandOldest,
    )


def _write_resumed(b: Any, m: Resumed) -> None:
    b.session, b.version, b.tick, b.epoch, b.commandNext = m.session, m.version, m.tick, m.epoch, m.command_next
    b.accepted, b.reason, b.resumeKey = m.accepted, int(m.reason), m.resume_key
    b.hz, b.bytesPerS, b.commandsPerS, b.eventsFrom = m.hz, m.bytes_per_s, m.commands_per_s, m.events_from


def _read_resumed(r: Any) -> Resumed:
    return Resumed(
        session=r.session,
        version=r.version,
        tick=r.tick,
        epoch=r.epoch,
        command_next=r.commandNext,
        accepted=r.accepted,
        reason=_reason(r.reason.raw),
        resume_key=r.resumeKey,
        hz=r.hz,
        bytes_per_s=r.bytesPerS,
        commands_per_s=r.commandsPerS,
        events_from=r.eventsFrom,
    )


def _write_goodbye(b: Any, m: Goodbye) -> None:
    b.reason, b.reconnectAfterMs, b.message = int(m.reason), m.reconnect_after_ms, m.message


def _read_goodbye(r: Any) -> Goodbye:
    return Goodbye(
        reason=_reason(r.reason.raw),
        reconnect_after_ms=r.reconnectAfterMs,
        message=_text(Kind.GOODBYE, "message", r.message, REASON_BYTES_MAX),
    )


def _write_error(b: Any, m: Error) -> None:
    b.code, b.fatal, b.kind, b.sequence, b.message = int(m.code), m.fatal, int(m.kind), m.sequence, m.message


def _read_error(r: Any) -> Error:
    return Error(
        code=_reason(r.code.raw),
        fatal=r.fatal,
        kind=r.kind,
        sequence=r.sequence,
        message=_text(Kind.ERROR, "message", r.message, REASON_BYTES_MAX),
    )


_RARE_ENCODERS: Final[dict[Kind, tuple[str, Callable[[Any, Any], None]]]] = {
    Kind.HELLO: ("Hello", _write_hello),
    Kind.WELCOME: ("Welcome", _write_welcome),
    Kind.AUTH: ("Auth", _write_auth),
    Kind.PEER: ("Peer", _write_peer),
    Kind.SCHEMA: ("Schema", _write_schema),
    Kind.DELTA_SYNC: ("DeltaSync", _write_delta_sync),
    Kind.RESUME: ("Resume", _write_resume),
    Kind.RESUMED: ("Resumed", _write_resumed),
    Kind.GOODBYE: ("Goodbye", _write_goodbye),
    Kind.ERROR: ("Error", _write_error),
}
_RARE_DECODERS: Final[dict[int, tuple[str, Callable[[Any], Message]]]] = {
    Kind.HELLO: ("Hello", _read_hello),
    Kind.WELCOME: ("Welcome", _read_welcome),
    Kind.AUTH: ("Auth", _read_auth),
    Kind.PEER: ("Peer", _read_peer),
    Kind.SCHEMA: ("Schema", _read_schema),
    Kind.EVENT: ("Event", _read_event),
    Kind.PING: ("Ping", _read_ping),
    Kind.PONG: ("Pong", _read_pong),
    Kind.RESUME: ("Resume", _read_resume),
    Kind.RESUMED: ("Resumed", _read_resumed),
    Kind.GOODBYE: ("Goodbye", _read_goodbye),
    Kind.ERROR: ("Error", _read_error),
}
