"""A client that means harm: any bytes, frames that are nearly right, and a valid session that turns.

Each speaker has one trick, drawn from its generator. Some never get as far as a session: noise, another protocol, half
a hello, one byte a tick. The others join as everybody does, behave for a while, and then lie from the inside: acks of
what was never sent, gaps in the numbers of commands, arguments of garbage, frames that only a node may send, floods,
silence. On datagrams there are tricks of the link's own, such as numbers of the far future and pieces of a lane that is
not there.

What must hold is the checkers' matter: the node goes on, in its limits, and no player notices.

Invariants:
- equal generators and equal input give equal bytes;
- a speaker never raises for what the node sends it, whatever it has said before.
"""

from collections.abc import Callable
from random import Random
from typing import Literal, Protocol

from ecsnet.errors import EcsnetError, RemoteProtocolError
from ecsnet.limits import DATAGRAM_BYTES_MAX, MESSAGE_TO_CLIENT_BYTES_MAX
from ecsnet.session.channel import Channel
from ecsnet.session.client import ClientSession
from ecsnet.session.commands import encode_arguments
from ecsnet.wire.codec import encode
from ecsnet.wire.datagrams import FRAMES_BYTES_MAX, fragment, is_reliable, pack, reset
from ecsnet.wire.framing import FrameReader, header
from ecsnet.wire.messages import (
    WRITE,
    Ack,
    Command,
    CommandSignature,
    DeltaSync,
    Goodbye,
    Hello,
    Kind,
    Message,
    ParameterKind,
    Ping,
    Reason,
    Resume,
    SyncBegin,
    SyncChunk,
)
from ecsnet.world import World

__all__ = ["TRICKS_INSIDE", "TRICKS_ON_DATAGRAMS", "TRICKS_OUTSIDE", "HostilePlayer", "mutated"]

NAME = "hostile"
"""What it calls itself, so that a game under test may tell it from those whose commands mean something."""

GOOD_TICKS_MAX = 60
"""How long one behaves before it turns, at most."""

FLOOD = 200
"""Frames in one tick: more than a client may send in a second."""

WORDS = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
"""Numbers at the edges of what fields hold."""


def mutated(data: bytes, random: Random) -> bytes:
    """`data` with one to eight changes, most near its head, where lengths, kinds and pointers are."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4, 8))):
        if not changed:
            break
        at = random.randrange(min(len(changed), random.choice((8, 16, 64, len(changed)))))
        match random.randrange(5):
            case 0:
                changed[at] ^= 1 << random.randrange(8)
            case 1:
                changed[at] = random.randrange(256)
            case 2:
                changed[at & ~3 : (at & ~3) + 4] = random.choice(WORDS).to_bytes(4, "little")
            case 3:
                start = random.randrange(len(changed)) & ~7
                changed[at & ~7 : (at & ~7) + 8] = changed[start : start + 8]
            case 4:
                del changed[random.randrange(len(changed)) :]
    return bytes(changed)


class _Line(Protocol):
    """How bytes get to the node and back."""

    def receive(self, data: bytes, now_ns: int) -> list[tuple[int, bytes]]: ...
    def frame(self, frame: bytes) -> None: ...
    def raw(self, data: bytes) -> None: ...
    def take(self, now_ns: int) -> list[bytes]: ...


class _StreamLine:
    """Frames one behind the other."""

    def __init__(self) -> None:
        self._reader = FrameReader(MESSAGE_TO_CLIENT_BYTES_MAX)
        self._out: list[bytes] = []

    def receive(self, data: bytes, now_ns: int) -> list[tuple[int, bytes]]:
        self._reader.feed(data)
        return [(frame.kind, frame.payload) for frame in self._reader]

    def frame(self, frame: bytes) -> None:
        self._out.append(frame)

    raw = frame

    def take(self, now_ns: int) -> list[bytes]:
        out, self._out = self._out, []
        return out


class _DatagramLine:
    """Frames in a channel as an honest client has it; what is raw goes beside it, and no channel made it."""

    def __init__(self, now_ns: int) -> None:
        self.channel = Channel(payload_bytes_max=MESSAGE_TO_CLIENT_BYTES_MAX, now_ns=now_ns)
        self.newest = 0
        """Of the numbers that were used, about: what is made up should sometimes be near it."""
        self._out: list[bytes] = []

    def receive(self, data: bytes, now_ns: int) -> list[tuple[int, bytes]]:
        return [(arrived.kind, arrived.payload) for arrived in self.channel.receive_untrusted(data, now_ns)]

    def frame(self, frame: bytes) -> None:
        reliable = len(frame) < 5 or is_reliable(frame[4])
        if len(frame) % 8 or (not reliable and len(frame) > FRAMES_BYTES_MAX) or not self.channel.has_room:
            # No frame that the channel would carry.
            self.newest += 1
            self.raw(pack(self.newest, 0, 0, frame[:FRAMES_BYTES_MAX]))
        else:
            self.channel.send(frame, reliable=reliable)

    def raw(self, data: bytes) -> None:
        self._out.append(data)

    def take(self, now_ns: int) -> list[bytes]:
        self.channel.handle_timeout(now_ns)
        sent = self.channel.datagrams_to_send(now_ns)
        self.newest += len(sent)
        out, self._out = [*sent, *self._out], []
        return out


class HostilePlayer:
    """One connection's worth of harm.

    Args:
        random: decides what it does.
        transport: what its line carries.
        world: what the node runs: it knows the game as well as anybody.
    """

    def __init__(self, random: Random, transport: Literal["stream", "datagram"], world: World) -> None:
        self.random = random
        self.transport = transport
        self.world = world
        datagrams = TRICKS_ON_DATAGRAMS if transport == "datagram" else {}
        inside = random.random() < 0.6
        tricks = {**(TRICKS_INSIDE if inside else TRICKS_OUTSIDE), **datagrams}
        self.trick = random.choice(sorted(tricks))
        self._do = tricks[self.trick]
        self.needs_session = inside
        """Whether its trick is one inside of a session."""
        self._good_ticks = random.randrange(GOOD_TICKS_MAX) if inside else 0
        self._line: _Line | None = None
        self._session: ClientSession | None = None
        self._version = 0
        self._sequence = 0
        self._ticks = 0
        self._broken = False

    # --- what tricks use ---------------------------------------------------------------------------------------------

    @property
    def line(self) -> _Line:
        assert self._line is not None
        return self._line

    @property
    def ticks(self) -> int:
        """Since the trick began."""
        return self._ticks

    def say(self, message: Message) -> None:
        """A well-formed message, whatever the session thinks of it."""
        self.line.frame(encode(message))

    def ids(self) -> tuple[int, int]:
        """Session and epoch: ours, or now and then not."""
        session, epoch = (self._session.session, self._session.epoch) if self._session is not None else (0, 0)
        match self.random.randrange(8):
            case 0:
                session ^= 1 << self.random.randrange(64)
            case 1:
                epoch = self.random.getrandbits(32)
        return session, epoch

    def command(self, *, sequence: int | None = None, arguments: bytes | None = None) -> Command:
        """Any command of the game, with arguments that fit it unless others are given."""
        signature = self.random.choice(self.world.signatures or (CommandSignature(0, "none"),))
        if arguments is None:
            arguments = encode_arguments(
                signature.parameters, {one.name: self._argument(one.kind, one.values) for one in signature.parameters}
            )
        if sequence is None:
            self._sequence += 1
            sequence = self._sequence
        session = self._session.session if self._session is not None else 1
        return Command(session=session, sequence=sequence, tick=0, command=signature.id, arguments=arguments)

    def version(self) -> int:
        """The newest that came from the node."""
        return self._version

    def _argument(self, kind: ParameterKind, values: tuple[tuple[str, int], ...]) -> object:
        random = self.random
        match kind:
            case ParameterKind.BOOL:
                return random.random() < 0.5
            case ParameterKind.INT:
                return random.choice((0, 1, -1, random.randrange(100), 2**62, -(2**63)))
            case ParameterKind.FLOAT:
                return random.choice((0.0, random.uniform(-1, 1), 1e300, -1e-300))
            case ParameterKind.STR:
                return "x" * random.choice((0, 1, 60))
            case ParameterKind.ENTITY:
                return random.choice((0, 1 << 32 | random.randrange(64), random.getrandbits(64)))
            case ParameterKind.ENUM:
                return random.choice(values)[1] if values else 0

    # --- its one method for the run ----------------------------------------------------------------------------------

    def bytes_to_send(self, now_ns: int, received: list[bytes]) -> list[bytes]:
        """What goes out in this tick, after what came in since the last."""
        if self._line is None:
            self._line = _StreamLine() if self.transport == "stream" else _DatagramLine(now_ns)
            if self.needs_session:
                self._begin(now_ns)
        if not self._broken:
            try:
                self._take_in(now_ns, received)
            except EcsnetError:
                # The node has every right to answer in a way that a session does not follow any more.
                self._broken = True
        if not self.needs_session or self._ready():
            self._ticks += 1
            self._do(self)
        return self.line.take(now_ns)

    def _begin(self, now_ns: int) -> None:
        schema = self.world.schema
        self._session = ClientSession(name=NAME, fingerprint=schema.fingerprint, commands=self.world.signatures)
        self._session.connect(now_ns)
        for frame in self._session.frames_to_send(now_ns):
            self.line.frame(frame)

    def _take_in(self, now_ns: int, received: list[bytes]) -> None:
        """Follow the session as an honest client would, acks and all, until the trick begins."""
        session = self._session
        for data in received:
            for kind, payload in self.line.receive(data, now_ns):
                if session is not None:
                    session.receive_frame(kind, payload, now_ns)
        if session is None:
            return
        while (event := session.next_event()) is not None:
            if isinstance(event, DeltaSync) and event.part + 1 == event.parts:
                self._version = max(self._version, event.version)
        if session.closed:
            raise RemoteProtocolError("thrown out")
        if session.live and self._version and not self._ticks:
            session.ack(self._version)
        for frame in session.frames_to_send(now_ns):
            self.line.frame(frame)

    def _ready(self) -> bool:
        """Whether the session is one, and it has behaved for long enough."""
        assert self._session is not None
        if self._ticks:
            return True
        if not self._session.live:
            return False
        self._good_ticks -= 1
        return self._good_ticks < 0


Trick = Callable[[HostilePlayer], None]

# --- tricks without a session -----------------------------------------------------------------------------------------


def _noise(player: HostilePlayer) -> None:
    player.line.raw(player.random.randbytes(player.random.choice((1, 7, 8, 64, 1200, 5000))))


def _another_protocol(player: HostilePlayer) -> None:
    if player.ticks == 1:
        player.line.raw(b"GET / HTTP/1.1\r\nHost: arena\r\nUpgrade: websocket\r\n\r\n")


def _hello(player: HostilePlayer, features: int = 0) -> bytes:
    schema = player.world.schema
    return encode(Hello(name=NAME, fingerprint=schema.fingerprint, message_bytes_max=1 << 20, features=features))


def _mutated_hello(player: HostilePlayer) -> None:
    player.line.frame(mutated(_hello(player), player.random))


def _slow_hello(player: HostilePlayer) -> None:
    hello = _hello(player)
    player.line.raw(hello[player.ticks % len(hello) :][:1])


def _half_a_hello(player: HostilePlayer) -> None:
    if player.ticks == 1:
        player.line.raw(_hello(player)[:21])


def _says_nothing(player: HostilePlayer) -> None:
    pass


def _huge_length(player: HostilePlayer) -> None:
    kind = player.random.choice(list(Kind))
    player.line.raw(header(kind, player.random.choice((1 << 20, 1 << 31, (1 << 32) - 8))) + bytes(8))


def _many_hellos(player: HostilePlayer) -> None:
    for _ in range(player.random.randint(1, 5)):
        player.line.frame(_hello(player, features=player.random.choice((0, 1 << 63))))


def _begins_in_the_middle(player: HostilePlayer) -> None:
    session, epoch = player.random.getrandbits(64), player.random.getrandbits(32)
    player.say(
        player.random.choice(
            (
                Ack(session=session, epoch=epoch, version=1),
                Ping(nonce=1, sent_ns=1),
                player.command(),
                Resume(
                    session=session,
                    version=1,
                    epoch=epoch,
                    command_next=1,
                    wire_min=1,
                    wire_max=1,
                    message_bytes_max=1 << 20,
                    fingerprint=player.world.schema.fingerprint,
                    resume_key=bytes(16),
                ),
            )
        )
    )


TRICKS_OUTSIDE: dict[str, Trick] = {
    "noise": _noise,
    "another protocol": _another_protocol,
    "mutated hello": _mutated_hello,
    "slow hello": _slow_hello,
    "half a hello": _half_a_hello,
    "says nothing": _says_nothing,
    "huge length": _huge_length,
    "many hellos": _many_hellos,
    "begins in the middle": _begins_in_the_middle,
}
"""By name, what a stranger does who never becomes a client."""

# --- tricks inside a session ------------------------------------------------------------------------------------------


def _wrong_ack(player: HostilePlayer) -> None:
    session, epoch = player.ids()
    near = player.version()
    version = player.random.choice((0, near, near + 1, near + 1000, max(0, near - 100), (1 << 64) - 1))
    player.say(Ack(session=session, epoch=epoch, version=version, chunks=player.random.choice((0, 0, 1, 1 << 31))))


def _never_acks(player: HostilePlayer) -> None:
    if player.ticks % 30 == 0:
        player.say(Ping(nonce=player.ticks, sent_ns=0))


def _gap_in_commands(player: HostilePlayer) -> None:
    sequence = player.random.choice((2, 5, 1000, (1 << 32) - 1))
    player.say(player.command(sequence=sequence))


def _command_again(player: HostilePlayer) -> None:
    command = player.command()
    player.say(command)
    player.say(command)


def _garbage_arguments(player: HostilePlayer) -> None:
    player.say(player.command(arguments=player.random.randbytes(player.random.randrange(64))))


def _unknown_command(player: HostilePlayer) -> None:
    session, _ = player.ids()
    player._sequence += 1
    player.say(Command(session=session, sequence=player._sequence, tick=0, command=60_000))


def _writes_anything(player: HostilePlayer) -> None:
    """Any operation on any table, of rows that are most likely another's, with cells of any bytes."""
    random, session = player.random, player.ids()[0]
    table = random.choice(player.world.schema.tables)
    rows = random.randint(1, 3)
    columns = sorted(random.sample(table.fields, random.randint(0, min(3, len(table.fields)))), key=lambda one: one.id)
    data = bytes((random.randint(0, 4), len(columns))) + rows.to_bytes(2, "little")
    data += b"".join(column.id.to_bytes(2, "little") for column in columns)
    data += b"".join((1 << 32 | random.randrange(64)).to_bytes(8, "little") for _ in range(rows))
    data += b"".join(random.randbytes(column.width * rows) for column in columns)
    if random.random() < 0.3:
        data = mutated(data, random)
    player._sequence += 1
    player.say(
        Command(session=session, sequence=player._sequence, tick=0, command=table.id, flags=WRITE, arguments=data)
    )


def _flood_of_commands(player: HostilePlayer) -> None:
    for _ in range(FLOOD):
        player.say(player.command())


def _flood_of_pings(player: HostilePlayer) -> None:
    for number in range(FLOOD):
        player.say(Ping(nonce=number, sent_ns=0))


def _mutated_frames(player: HostilePlayer) -> None:
    session, epoch = player.ids()
    messages = (player.command(), Ack(session=session, epoch=epoch, version=player.version()), Ping(nonce=1, sent_ns=2))
    player.line.frame(mutated(encode(player.random.choice(messages)), player.random))


def _speaks_as_the_node(player: HostilePlayer) -> None:
    session, epoch = player.ids()
    version = player.version()
    block = player.random.randbytes(player.random.choice((0, 8, 200)))
    messages: tuple[Message, ...] = (
        DeltaSync(session=session, epoch=epoch, base=version, version=version + 1, tick=1, block=block),
        SyncBegin(session=session, epoch=epoch, base=0, first_version=version, tick=1),
        SyncChunk(session=session, epoch=epoch, sequence=0, base=0, version=version, block=block),
    )
    player.say(player.random.choice(messages))


def _hello_again(player: HostilePlayer) -> None:
    player.line.frame(_hello(player))


def _talks_after_goodbye(player: HostilePlayer) -> None:
    if player.ticks == 1:
        player.say(Goodbye(reason=Reason.LEFT, message="bye"))
    player.say(player.command())


def _half_a_frame(player: HostilePlayer) -> None:
    if player.ticks == 1:
        player.line.raw(encode(player.command())[:-8])


def _noise_inside(player: HostilePlayer) -> None:
    if player.ticks > 3:
        player.line.frame(player.random.randbytes(8 * player.random.randint(1, 100)))


TRICKS_INSIDE: dict[str, Trick] = {
    "wrong ack": _wrong_ack,
    "never acks": _never_acks,
    "gap in commands": _gap_in_commands,
    "command again": _command_again,
    "garbage arguments": _garbage_arguments,
    "unknown command": _unknown_command,
    "writes anything": _writes_anything,
    "flood of commands": _flood_of_commands,
    "flood of pings": _flood_of_pings,
    "mutated frames": _mutated_frames,
    "speaks as the node": _speaks_as_the_node,
    "hello again": _hello_again,
    "talks after goodbye": _talks_after_goodbye,
    "half a frame": _half_a_frame,
    "huge length": _huge_length,
    "noise": _noise_inside,
}
"""By name, what a client does who was let in."""

# --- tricks of datagrams ----------------------------------------------------------------------------------------------


def _datagrams(player: HostilePlayer) -> _DatagramLine:
    line = player.line
    assert isinstance(line, _DatagramLine)
    return line


def _numbers_made_up(player: HostilePlayer) -> None:
    line, random = _datagrams(player), player.random
    sequence = random.choice((0, 1, line.newest, line.newest + 1, line.newest + 5000, (1 << 32) - 1))
    ack = random.choice((0, 1, 7, random.getrandbits(32)))
    player.line.raw(pack(sequence, ack, random.getrandbits(32), encode(Ping(nonce=0, sent_ns=0))))


def _lane_that_is_not_there(player: HostilePlayer) -> None:
    line, random = _datagrams(player), player.random
    offset = random.choice((0, 8, 1 << 12, 1 << 20, 1 << 40, (1 << 64) - 8))
    line.newest += 1
    line.raw(pack(line.newest, 0, 0, fragment(offset, random.randbytes(8 * random.randint(0, 100)))))


def _damaged_datagrams(player: HostilePlayer) -> None:
    line, random = _datagrams(player), player.random
    line.newest += 1
    player.line.raw(mutated(pack(line.newest, 0, 0, _hello(player)), random)[:DATAGRAM_BYTES_MAX])


def _resets(player: HostilePlayer) -> None:
    for sequence in range(1, 40):
        player.line.raw(reset(sequence))


def _same_datagram(player: HostilePlayer) -> None:
    line = _datagrams(player)
    for _ in range(20):
        player.line.raw(pack(line.newest + 1, 0, 0, encode(player.command(sequence=1))[:FRAMES_BYTES_MAX]))


TRICKS_ON_DATAGRAMS: dict[str, Trick] = {
    "numbers made up": _numbers_made_up,
    "a lane that is not there": _lane_that_is_not_there,
    "damaged datagrams": _damaged_datagrams,
    "resets": _resets,
    "the same datagram": _same_datagram,
}
"""By name, what either does to the link itself, beside the others."""
