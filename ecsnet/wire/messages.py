"""One frozen value per message of `schema/ecsnet.capnp`: what a frame means, with no bytes in it.

Units and reasons of the fields stand in the schema, once; names here are the schema's in snake case.

Invariants:
- numbers of `Kind`, `Reason`, `CommandStatus` and `ParameterKind` are the schema's, appended and never reused (a test
  compares them);
- a value holds nothing mutable; only the `block` of a decoded frame is a memoryview, into the payload it came in.
"""

from enum import IntEnum, StrEnum
from typing import Final

import msgspec

WIRE_VERSION: Final = 1
"""The one wire version there is: the header layout, the messages, the block format."""

NO_CLOCK: Final[tuple[tuple[int, int], ...]] = ()

PARTIAL: Final = 1 << 0
"""DeltaSync flag: a byte budget left rows pending, so the promise is per row and there is no digest."""

COMPRESSION: Final = 1 << 0
"""Feature bit of Hello, Welcome and Resume: blocks of SyncChunk and DeltaSync may be compressed
(`ecsnet.wire.compression`)."""

WAITING: Final = 1 << 1
"""Feature bit of Resume alone: a byte budget left rows waiting of the version that the client holds."""

WRITE: Final = 1 << 0
"""Command flag: a write. `command` is a table's id, and the arguments are `ecsnet.wire.writes`."""

COMMAND_FLAGS: Final = WRITE
"""The flags of a Command that have a meaning; another one set is a protocol error."""

RELAYED: Final = 1 << 1
"""DeltaSync flag, between nodes: what others wrote is in it too, as far as its clock says."""

EVENT_ROWS: Final = 0
"""The subscription that every session has: to the rows of `Event` tables. No other is built."""

DELTA_FLAGS: Final = PARTIAL | RELAYED
"""The flags of a DeltaSync that have a meaning; another one set is a protocol error."""


class Kind(IntEnum):
    """The header's kind byte. One that is not here is skipped by its length."""

    HELLO = 1
    WELCOME = 2
    AUTH = 3
    SCHEMA = 4
    SYNC_BEGIN = 5
    SYNC_CHUNK = 6
    DELTA_SYNC = 7
    ACK = 8
    COMMAND = 9
    COMMAND_RESULT = 10
    EVENT = 11
    PING = 12
    PONG = 13
    RESUME = 14
    RESUMED = 15
    GOODBYE = 16
    ERROR = 17
    PEER = 18


class Reason(IntEnum):
    """Why something was refused or ended."""

    NONE = 0
    SHUTDOWN = 1
    WIRE_MISMATCH = 2
    SCHEMA_MISMATCH = 3
    AUTH_FAILED = 4
    RATE_LIMITED = 5
    BAD_FRAME = 6
    TIMEOUT = 7
    TOO_SLOW = 8
    KICKED = 9
    TOO_LARGE = 10
    NOT_BUILT = 11
    FULL = 12
    INTERNAL = 13
    LEFT = 14
    UNKNOWN_COMMAND = 15
    BAD_ARGUMENTS = 16
    REJECTED = 17
    HISTORY_GONE = 18
    BAD_STATE = 19
    NOT_ALLOWED = 20
    OTHER = 65535  # what a number that this build does not know is read as; never sent

    @property
    def words(self) -> str:
        """For people: "rate limited"."""
        return self.name.lower().replace("_", " ")


class CommandStatus(IntEnum):
    """What became of a command."""

    ACCEPTED = 1
    REJECTED = 2
    SUPERSEDED = 3


class ParameterKind(StrEnum):
    """How one argument is encoded and checked; the schema's enumerants, in their order."""

    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    STR = "str"
    ENTITY = "entity"
    ENUM = "enum"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """The base of all messages."""


# --- handshake --------------------------------------------------------------------------------------------------------


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of a command. `values` are (name, discriminant), for an enum only."""

    name: str
    kind: ParameterKind
    values: tuple[tuple[str, int], ...] = ()


class CommandSignature(msgspec.Struct, frozen=True):
    """What both sides must agree on to send a command."""

    id: int
    name: str
    parameters: tuple[Parameter, ...] = ()
    latest: bool = False
    predict: bool = False


class Hello(Message, frozen=True, kw_only=True):
    wire_min: int = WIRE_VERSION
    wire_max: int = WIRE_VERSION
    message_bytes_max: int = 0
    features: int = 0
    commands_hash: int = 0
    fingerprint: bytes = b""
    name: str = ""
    token: bytes = b""


class Welcome(Message, frozen=True, kw_only=True):
    wire: int = WIRE_VERSION
    hz: int
    epoch: int
    features: int = 0
    session: int
    client_id: int
    version: int
    tick: int
    commands_hash: int = 0
    message_bytes_max: int
    bytes_per_s: int
    commands_per_s: int
    command_next: int = 1
    fingerprint: bytes
    resume_key: bytes = b""
    name: str = ""
    commands: tuple[CommandSignature, ...] = ()


class Peer(Message, frozen=True, kw_only=True):
    node: int
    epoch: int
    fingerprint: bytes
    nonce: bytes
    name: str = ""
    wire_min: int = WIRE_VERSION
    wire_max: int = WIRE_VERSION
    message_bytes_max: int = 0
    features: int = 0


class Auth(Message, frozen=True, kw_only=True):
    scheme: int = 0
    step: int = 0
    data: bytes = b""


class Schema(Message, frozen=True, kw_only=True):
    revision: int = 1
    fingerprint: bytes
    canonical: str


# --- replication ------------------------------------------------------------------------------------------------------


class SyncBegin(Message, frozen=True, kw_only=True):
    session: int
    epoch: int
    base: int
    first_version: int
    tick: int
    rows: int = 0
    revision: int = 0


class SyncChunk(Message, frozen=True, kw_only=True):
    session: int
    epoch: int
    sequence: int
    base: int
    version: int
    block: bytes | memoryview = b""


class DeltaSync(Message, frozen=True, kw_only=True):
    session: int
    epoch: int
    base: int
    version: int
    tick: int
    digest_low: int = 0
    digest_high: int = 0
    entity: int = 0
    command_ack: int = 0
    part: int = 0
    parts: int = 1
    flags: int = 0
    clock: tuple[tuple[int, int], ...] = NO_CLOCK
    block: bytes | memoryview = b""


class Ack(Message, frozen=True, kw_only=True):
    session: int
    epoch: int
    version: int
    chunks: int = 0


# --- commands ---------------------------------------------------------------------------------------------------------


class Command(Message, frozen=True, kw_only=True):
    session: int
    sequence: int
    tick: int
    command: int
    flags: int = 0
    arguments: bytes = b""


class CommandResult(Message, frozen=True, kw_only=True):
    sequence: int
    status: CommandStatus
    version: int
    tick: int
    code: Reason = Reason.NONE
    message: str = ""


class Event(Message, frozen=True, kw_only=True):
    session: int
    sequence: int
    version: int
    tick: int
    key: int
    epoch: int
    subscription: int = 0
    table: int = 0
    flags: int = 0
    block: bytes = b""


# --- the link ---------------------------------------------------------------------------------------------------------


class Ping(Message, frozen=True, kw_only=True):
    nonce: int
    sent_ns: int


class Pong(Message, frozen=True, kw_only=True):
    nonce: int
    sent_ns: int
    received_ns: int
    tick: int = 0


class Resume(Message, frozen=True, kw_only=True):
    session: int
    version: int
    epoch: int
    command_next: int = 1
    wire_min: int = WIRE_VERSION
    wire_max: int = WIRE_VERSION
    message_bytes_max: int = 0
    features: int = 0
    fingerprint: bytes = b""
    resume_key: bytes = b""
    commands_hash: int = 0
    command_oldest: int = 1


class Resumed(Message, frozen=True, kw_only=True):
    session: int
    version: int
    tick: int
    epoch: int
    command_next: int = 1
    accepted: bool = False
    reason: Reason = Reason.NONE
    resume_key: bytes = b""
    hz: int = 0
    bytes_per_s: int = 0
    commands_per_s: int = 0
    events_from: int = 0


class Goodbye(Message, frozen=True, kw_only=True):
    reason: Reason
    reconnect_after_ms: int = 0
    message: str = ""


class Error(Message, frozen=True, kw_only=True):
    code: Reason
    fatal: bool = False
    kind: int = 0
    sequence: int = 0
    message: str = ""


class Unknown(Message, frozen=True, kw_only=True):
    """A frame of a kind that this build does not know: a newer peer's, skipped by its length. Never encoded."""

    kind: int
    payload_bytes: int


KIND_OF: Final[dict[type[Message], Kind]] = {
    Hello: Kind.HELLO,
    Welcome: Kind.WELCOME,
    Auth: Kind.AUTH,
    Schema: Kind.SCHEMA,
    SyncBegin: Kind.SYNC_BEGIN,
    SyncChunk: Kind.SYNC_CHUNK,
    DeltaSync: Kind.DELTA_SYNC,
    Ack: Kind.ACK,
    Command: Kind.COMMAND,
    CommandResult: Kind.COMMAND_RESULT,
    Event: Kind.EVENT,
    Ping: Kind.PING,
    Pong: Kind.PONG,
    Resume: Kind.RESUME,
    Resumed: Kind.RESUMED,
    Goodbye: Kind.GOODBYE,
    Error: Kind.ERROR,
    Peer: Kind.PEER,
}
