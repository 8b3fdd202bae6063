"""The client's end of one session: handshake, commands as tickets, acks, the round trip, and the frames to go out.

Plain values in and out: whether a delta can be applied to what is held is the replica's matter.

    connect; then frames_to_send / receive_frame ─► next_event …
    send_command gives a ticket; CommandAnswered names it again

An object of this class is for one link. When that is lost, `standing` is what the session's next link goes on with: the
next object says Resume in place of Hello, and repeats with their numbers the commands that the node has not heard of.
Where the node refuses, the same link says Hello, and a session begins that knows nothing of the one before.

Invariants:
- a command gets its sequence when it goes out, and sequences are dense; a `latest` command that has not gone out yet is
  replaced by the next of its name, so at most one a tick goes out however often the game calls;
- every ticket is answered at most once: by the node, or here with SUPERSEDED; answers come in the order of numbers, so
  an answer says that those before it which are missing are not coming any more (`AnswerLost`);
- arguments are checked here against the node's own signatures, and again at the node;
- after RemoteProtocolError the session is as before, and `fail` ends it; a closed session ignores what still arrives
  and hands out what it still has to say.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from ecsnet.errors import (
    ArgumentError,
    ClosedError,
    LimitExceededError,
    LocalProtocolError,
    RemoteProtocolError,
    UnknownNameError,
)
from ecsnet.limits import (
    COMMANDS_IN_FLIGHT_MAX,
    DATAGRAM_SILENCE_NS_MAX,
    HANDSHAKE_DEADLINE_NS,
    HZ_MAX,
    HZ_MIN,
    MESSAGE_TO_CLIENT_BYTES_MAX,
    NAME_BYTES_MAX,
    NS_PER_S,
    PING_INTERVAL_NS,
    REASON_BYTES_MAX,
    SILENCE_NS_MAX,
    WRITE_BYTES_MAX,
    WRITES_WAITING_MAX,
)
from ecsnet.session.bucket import TokenBucket
from ecsnet.session.commands import encode_arguments, signatures_hash
from ecsnet.session.server import reason_of
from ecsnet.session.states import NOT_BUILT, Conversation, Side, State, signal_of
from ecsnet.wire import codec
from ecsnet.wire.datagrams import UNRELIABLE
from ecsnet.wire.messages import (
    COMPRESSION,
    EVENT_ROWS,
    KIND_OF,
    PARTIAL,
    RELAYED,
    WAITING,
    WIRE_VERSION,
    WRITE,
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
from ecsnet.wire.text import clip_text

_COMMAND_BYTES: Final = 64
"""At most, of a Command beside its arguments."""

__all__ = ["AnswerLost", "ClientEvent", "ClientSession", "CommandAnswered", "PeerLeft", "Standing"]


def _frame_bytes(data: bytes) -> int:
    """Of a Command with these arguments, as the node counts them."""
    return _COMMAND_BYTES + len(data)


class CommandAnswered(NamedTuple):
    """What became of the command behind a ticket. `sequence` is 0 if it never went out."""

    ticket: int
    sequence: int
    status: CommandStatus
    version: int
    code: Reason
    message: str


class AnswerLost(NamedTuple):
    """The command behind a ticket was decided, and nobody can say any more how: the node was started again, and its
    memory does not reach so far."""

    ticket: int


class PeerLeft(NamedTuple):
    """The session is over, by the node's word or by a deadline."""

    reason: Reason
    message: str
    reconnect_after_ms: int


ClientEvent = (
    Welcome | Resumed | Schema | SyncBegin | SyncChunk | DeltaSync | Event
    | CommandAnswered | AnswerLost | PeerLeft | Error
)  # fmt: skip


class _Unanswered(NamedTuple):
    """A command that has its number and no answer: all that it takes to say it again."""

    ticket: int
    command: int
    tick: int
    arguments: bytes
    flags: int = 0


class _Latest:
    """The newest call of one `latest` command that has not gone out, and when the next may."""

    __slots__ = ("arguments", "due_ns", "signature", "tick", "ticket")

    def __init__(self, signature: CommandSignature, now_ns: int) -> None:
        self.signature = signature
        self.ticket = 0  # 0: nothing waits
        self.arguments = b""
        self.tick = 0
        self.due_ns = now_ns


class _Write(NamedTuple):
    """An update of some cells that has not gone out."""

    ticket: int
    table: int
    tick: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Standing:
    """A session between two links."""

    welcome: Welcome
    commands: dict[str, CommandSignature]
    commands_hash: int
    sequence: int
    """The last that was given."""
    tickets: int
    """Likewise."""
    in_flight: dict[int, _Unanswered]
    latest: dict[str, _Latest]
    writes: dict[bytes, _Write]


class ClientSession:
    """One client's conversation with a node over one link, from hello to goodbye."""

    def __init__(
        self,
        *,
        name: str = "",
        fingerprint: bytes = b"",
        commands: Sequence[CommandSignature] = (),
        token: Callable[[], bytes] = bytes,
        standing: Standing | None = None,
        tickets: int = 0,
        compression: bool = False,
    ) -> None:
        """Args:
        name: what the player is called; at most `NAME_BYTES_MAX` bytes of printable text.
        fingerprint: of the schema that the client was built with; empty to be sent the node's.
        commands: the signatures that the client was built with; the node's are what counts.
        token: gives what proves who the client is; asked when a session begins, and not for one that goes on.
        standing: of a session to go on with, from another object's `standing`.
        tickets: the last number of a ticket that was given before.
        compression: whether this client can read compressed blocks (`ecsnet.wire.compression`).
        """
        if len(name.encode(errors="replace")) > NAME_BYTES_MAX or not name.isprintable():
            raise ArgumentError(f"name {name!r} must be printable text of at most {NAME_BYTES_MAX} bytes")
        self._hello = Hello(
            fingerprint=fingerprint,
            name=name,
            message_bytes_max=MESSAGE_TO_CLIENT_BYTES_MAX,
            commands_hash=signatures_hash(commands),
            features=COMPRESSION if compression else 0,
        )
        self._token = token
        self._own_commands = tuple(commands)
        self._conversation = Conversation(Side.CLIENT)
        self.frames: deque[bytes] = deque()
        """What waits for `frames_to_send`, but for what is due by the clock; to be looked at only."""
        self._events: deque[ClientEvent] = deque()
        self._deadline_ns: int | None = None
        self._silence_ns_max = SILENCE_NS_MAX
        self._welcome: Welcome | None = None
        self.session = 0
        """0 before the Welcome, as is the epoch."""
        self.epoch = 0
        self.ping_due_ns = 0
        self._repeats_ns = 0
        self._pings = 0
        self._standing = standing
        """Until the node has said whether it goes on."""
        self._named_version = 0
        """What the Resume says is held."""
        self.tickets = tickets if standing is None else standing.tickets
        """The last that was given."""
        self._sequence = 0
        # By sequence, in that order and without a gap.
        self._in_flight: dict[int, _Unanswered] = {}
        self._unseen: deque[tuple[int, int, _Unanswered]] = deque()
        """(version, sequence, command) of those accepted in a version that is not acked."""
        self._repeats: deque[int] = deque()
        """Sequences that the node has not heard of; they go out again before anything new."""
        self._latest: dict[str, _Latest] = {}
        self._writes: dict[bytes, _Write] = {}
        """Updates that have not gone out, by the cells that they name, in the order of the calls."""
        self._writes_due_ns = 0
        self.latest_waiting = 0
        """`latest` commands and updates that have not gone out."""
        self._bucket: TokenBucket | None = None
        self._byte_bucket: TokenBucket | None = None
        self._first_version = 0  # of the SyncBegin that is being followed
        self._sync_base = 0
        self._chunks = 0
        self._event_sequence = 0
        self._event_version = 0
        self.commands: dict[str, CommandSignature] = {}
        self.rtt_ns: int | None = None
        self.clock_offset_ns: int | None = None
        self.frames_skipped = 0

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self._conversation.state

    @property
    def closed(self) -> bool:
        """Nothing more is said, except what `frames_to_send` still hands out."""
        return self._conversation.state is State.CLOSED

    @property
    def live(self) -> bool:
        """Commands may be sent."""
        return self._conversation.state in (State.LIVE, State.SYNCING)

    @property
    def is_live_only(self) -> bool:
        """Live, and no sync runs: what comes next may be an ordinary delta."""
        return self._conversation.state is State.LIVE

    @property
    def client_id(self) -> int:
        return self._welcome.client_id if self._welcome is not None else 0

    @property
    def hz(self) -> int:
        """Ticks a second of the node; 0 before the Welcome."""
        return self._welcome.hz if self._welcome is not None else 0

    @property
    def commands_in_flight(self) -> int:
        """Commands that went out and were not answered."""
        return len(self._in_flight)

    def standing(self) -> Standing | None:
        """What another link may go on with, now that this one is lost; None if the node has given nothing to prove the
        session by. Not after a goodbye that ends the session.

        A command that was accepted in a version which was never acked counts as unanswered again, as long as no
        refused one lies between it and those that are: the effect was not seen, and a node that is started again may
        have lost it.
        """
        if self._standing is not None:
            return self._standing  # the node was not heard about it
        welcome = self._welcome
        if welcome is None or not welcome.resume_key:
            return None
        first = next(iter(self._in_flight), self._sequence + 1)
        asked_again: list[tuple[int, _Unanswered]] = []
        for _, sequence, command in reversed(self._unseen):
            if sequence != first - 1:
                break
            asked_again.append((sequence, command))
            first = sequence
        in_flight = dict(reversed(asked_again)) | self._in_flight
        return Standing(
            welcome,
            self.commands,
            welcome.commands_hash,
            self._sequence,
            self.tickets,
            in_flight,
            self._latest,
            self._writes,
        )

    def pending_tickets(self) -> set[int]:
        """Tickets that are still to be answered."""
        waiting = {latest.ticket for latest in self._latest.values() if latest.ticket}
        waiting |= {write.ticket for write in self._writes.values()}
        return waiting | {command.ticket for command in self._in_flight.values()}

    # --- what arrives -------------------------------------------------------------------------------------------------

    def receive_frame(
        self, kind: int, payload: bytes | bytearray | memoryview, now_ns: int, *, reliable: bool = True
    ) -> None:
        """Take in one whole frame. Not `reliable`: it may be late, or before its time, and is passed over then.

        Raises:
            RemoteProtocolError: it breaks the protocol or a limit. Call `fail` with it; nothing of the frame counts.
        """
        if self.closed:
            return
        if len(payload) > MESSAGE_TO_CLIENT_BYTES_MAX:
            raise RemoteProtocolError(
                f"a message of {len(payload)} bytes; the limit is {MESSAGE_TO_CLIENT_BYTES_MAX}", Reason.TOO_LARGE
            )
        if not reliable and (kind not in UNRELIABLE or not self.live):
            self.frames_skipped += 1
            return
        message = codec.decode_untrusted(kind, payload)
        if isinstance(message, Unknown):
            self.frames_skipped += 1
            return
        known = KIND_OF[type(message)]
        if not reliable and isinstance(message, DeltaSync):
            self._receive_beside_the_lane(message, now_ns)
            return
        planned = NOT_BUILT.get(known)
        if isinstance(message, Event) and message.subscription != EVENT_ROWS:
            planned = "subscribing to changes is planned; compare views, or look at the rows of a DeltaSync"
        if planned is not None:
            self._send(Error(code=Reason.NOT_BUILT, kind=known, message=f"{known.name}: {planned}"))
            return
        check = _CHECKS.get(known)
        if check is not None:
            check(self, message)  # before the step: a frame that is refused must change nothing
        self._conversation.receive(signal_of(message, known))
        if self._welcome is not None:
            self._deadline_ns = now_ns + self._silence_ns_max
        handler = _HANDLERS.get(known)
        if handler is not None:
            handler(self, message, now_ns)

    def heard(self, now_ns: int) -> None:
        """A frame of this session came that was taken in without being handed over here: a sign of life."""
        self._deadline_ns = now_ns + self._silence_ns_max

    def _receive_beside_the_lane(self, delta: DeltaSync, now_ns: int) -> None:
        """A delta that knows nothing of what the lane carries: it ends no sync, and one of another session is late."""
        if delta.session != self.session or delta.epoch != self.epoch:
            self.frames_skipped += 1
            return
        self._check_built(delta)
        self._deadline_ns = now_ns + self._silence_ns_max
        self._events.append(delta)

    def next_timeout_ns(self) -> int | None:
        """When `handle_timeout` wants to be called; None when never."""
        if self.closed or self._deadline_ns is None:
            return None
        if not self.live:
            # Nothing else is done before, so to name another time would have the driver call again and again.
            return self._deadline_ns
        due = min(self._deadline_ns, self.ping_due_ns)
        if self._repeats and self._bucket is not None:
            # Nothing new goes before them.
            return min(due, self._bucket.ready_ns(1, self._repeats_ns))
        # Where too many are unanswered, an answer is waited for and not a time.
        if self.latest_waiting and self._bucket is not None and len(self._in_flight) < COMMANDS_IN_FLIGHT_MAX:
            for latest in self._latest.values():
                if latest.ticket:
                    due = min(due, self._bucket.ready_ns(1, latest.due_ns))
            for write in self._writes.values():
                assert self._byte_bucket is not None
                ready_ns = self._bucket.ready_ns(1, self._writes_due_ns)
                due = min(due, self._byte_bucket.ready_ns(_frame_bytes(write.data), ready_ns))
                break
        return due

    def handle_timeout(self, now_ns: int) -> None:
        """Do what is due: end the session on its deadline (of the handshake, or of silence), ask for a sign of life,
        let go of `latest` commands. What is to be sent comes from `frames_to_send`."""
        if self.closed or self._deadline_ns is None:
            return
        if now_ns >= self._deadline_ns:
            what = "nothing was heard of the node" if self._welcome is not None else "the handshake took too long"
            self.goodbye(Reason.TIMEOUT, what)
            self._events.append(PeerLeft(Reason.TIMEOUT, what, 0))
            return
        self._do_due(now_ns)

    # --- commands of whoever owns it ----------------------------------------------------------------------------------

    def connect(
        self, now_ns: int, *, datagrams: bool = False, held: tuple[int, int] = (0, 0), waiting: bool = False
    ) -> None:
        """Say Hello, or Resume where there is a session to go on with, on a stream or over datagrams.

        Args:
            held: epoch and version of what the replica holds.
            waiting: rows of that version are still to come, for want of bytes.

        Raises:
            LocalProtocolError: it was said already.
            Exception: what `token` raised. Nothing was said.
        """
        standing = self._standing
        if standing is None:
            self._say_hello()
        else:
            self._named_version = held[1]
            self._send(
                Resume(
                    session=standing.welcome.session,
                    version=held[1],
                    epoch=held[0],
                    command_next=standing.sequence + 1,
                    command_oldest=min(standing.in_flight, default=standing.sequence + 1),
                    commands_hash=standing.commands_hash,
                    message_bytes_max=MESSAGE_TO_CLIENT_BYTES_MAX,
                    features=self._hello.features | (WAITING if waiting else 0),
                    fingerprint=standing.welcome.fingerprint,
                    resume_key=standing.welcome.resume_key,
                )
            )
        self._silence_ns_max = DATAGRAM_SILENCE_NS_MAX if datagrams else SILENCE_NS_MAX
        self._deadline_ns = now_ns + HANDSHAKE_DEADLINE_NS

    def send_command(self, name: str, arguments: Mapping[str, object], *, tick: int, now_ns: int) -> int:
        """Ask the authority to run a command.

        Args:
            arguments: by name; checked against the node's signature.
            tick: the authority's tick that the player saw.

        Returns:
            A ticket, counted from 1; `CommandAnswered` names it. A `latest` command goes out with the next tick's and
            is answered SUPERSEDED if another call comes before that.

        Raises:
            UnknownNameError: the node has no such command, or the command no such argument.
            ArgumentError: an argument is missing, or of the wrong type or range.
            LimitExceededError: too many a second, or too many unanswered.
            LocalProtocolError: not live. ClosedError: the session is over.
            In all cases nothing was sent and no ticket given.
        """
        if self.closed:
            raise ClosedError("the session is over; connect again")
        if not self.live or self._bucket is None:
            raise LocalProtocolError(f"commands can be sent once the session is live; it is {self.state.value}")
        signature = self.commands.get(name)
        if signature is None:
            raise UnknownNameError("command", name, self.commands)
        data = encode_arguments(signature.parameters, arguments)
        if signature.latest:
            latest = self._latest.get(name)
            if latest is None:
                latest = self._latest[name] = _Latest(signature, now_ns)
            if latest.ticket:
                self._events.append(
                    CommandAnswered(
                        latest.ticket, 0, CommandStatus.SUPERSEDED, 0, Reason.NONE, "a newer call took its place"
                    )
                )
            else:
                self.latest_waiting += 1
            latest.ticket = self._next_ticket()
            latest.arguments = data
            latest.tick = tick
            return latest.ticket
        if len(self._in_flight) >= COMMANDS_IN_FLIGHT_MAX:
            raise LimitExceededError("unanswered commands", COMMANDS_IN_FLIGHT_MAX, len(self._in_flight))
        if self._repeats or not self._bucket.take(1, now_ns):
            assert self._welcome is not None
            raise LimitExceededError("commands a second", self._welcome.commands_per_s)
        ticket = self._next_ticket()
        self._send_command(signature, ticket, data, tick)
        return ticket

    def send_write(self, table: int, data: bytes, *, latest: bytes | None, tick: int, now_ns: int) -> int:
        """Write rows of a table without a command.

        Args:
            data: `ecsnet.wire.writes`, checked.
            latest: names the cells of an update. It goes out with the next tick's, and is answered SUPERSEDED if
                another of the same cells comes before that. None goes out now, behind all updates.
            tick: the authority's tick that the player saw.

        Returns:
            A ticket, as of `send_command`.

        Raises:
            LimitExceededError: too many or too many bytes a second, too many unanswered, or too many that wait.
            LocalProtocolError: not live. ClosedError: the session is over.
            In all cases nothing was sent and no ticket given; what has waited still waits, or went out.
        """
        if self.closed:
            raise ClosedError("the session is over; connect again")
        if not self.live or self._bucket is None or self._byte_bucket is None:
            raise LocalProtocolError(f"rows can be written once the session is live; it is {self.state.value}")
        if latest is not None:
            # Behind the others, whatever was there: what was called last is to be done last.
            before = self._writes.pop(latest, None)
            if before is not None:
                self._events.append(
                    CommandAnswered(
                        before.ticket, 0, CommandStatus.SUPERSEDED, 0, Reason.NONE, "a newer write took its place"
                    )
                )
            elif len(self._writes) >= WRITES_WAITING_MAX:
                raise LimitExceededError("WRITES_WAITING_MAX", WRITES_WAITING_MAX, len(self._writes) + 1)
            else:
                self.latest_waiting += 1
            ticket = self._next_ticket()
            self._writes[latest] = _Write(ticket, table, tick, data)
            return ticket
        self._send_writes(now_ns)
        if len(self._in_flight) >= COMMANDS_IN_FLIGHT_MAX:
            raise LimitExceededError("unanswered commands", COMMANDS_IN_FLIGHT_MAX, len(self._in_flight))
        assert self._welcome is not None
        if self._writes or self._repeats or self._bucket.ready_ns(1, now_ns) > now_ns:
            raise LimitExceededError("commands a second", self._welcome.commands_per_s)
        if not self._byte_bucket.take(_frame_bytes(data), now_ns):
            raise LimitExceededError("bytes a second", self._welcome.bytes_per_s)
        self._bucket.take(1, now_ns)
        ticket = self._next_ticket()
        self._send_numbered(_Unanswered(ticket, table, tick, data, WRITE))
        return ticket

    def ack(self, version: int, *, chunks: int = 0) -> None:
        """Tell that `version` was applied, or `chunks` of the running sync staged."""
        self._conversation.send(Kind.ACK)
        while self._unseen and self._unseen[0][0] <= version:
            self._unseen.popleft()
        self.frames.append(codec.ack_frame(self.session, version, self.epoch, chunks))

    def goodbye(self, reason: Reason = Reason.LEFT, message: str = "") -> None:
        """End the session in order. Nothing happens if it has ended."""
        if not self.closed:
            self._send(Goodbye(reason=reason, message=clip_text(message, REASON_BYTES_MAX)))

    def fail(self, error: RemoteProtocolError) -> None:
        """End the session because of what the node sent."""
        if not self.closed:
            reason = reason_of(error)
            self._send(Error(code=reason, fatal=True, message=clip_text(str(error), REASON_BYTES_MAX)))
            self.goodbye(reason, str(error))

    # --- what goes out, and what happened -----------------------------------------------------------------------------

    def frames_to_send(self, now_ns: int) -> list[bytes]:
        """All whole frames that go out now, in order."""
        if self.latest_waiting or self._repeats or now_ns >= self.ping_due_ns:
            self._do_due(now_ns)
        if not self.frames:
            return []
        frames = list(self.frames)
        self.frames.clear()
        return frames

    def next_event(self) -> ClientEvent | None:
        """The next thing that the replica must know, or None.

        Messages come as they were received; session, epoch, the order of a sync and everything else that needs no store
        have been checked. An Error here is one that did not end the session: for the log.
        """
        return self._events.popleft() if self._events else None

    # --- inside -------------------------------------------------------------------------------------------------------

    def _send(self, message: Message) -> None:
        kind = KIND_OF[type(message)]
        frame = codec.encode(message)
        self._conversation.send(signal_of(message, kind))
        self.frames.append(frame)

    def _next_ticket(self) -> int:
        self.tickets += 1
        return self.tickets

    def _send_command(self, signature: CommandSignature, ticket: int, data: bytes, tick: int) -> None:
        self._send_numbered(_Unanswered(ticket, signature.id, tick, data))

    def _send_numbered(self, command: _Unanswered) -> None:
        """The next of this session; nothing that goes wrong gives a number away."""
        sequence = self._sequence + 1
        self._say(sequence, command)
        self._sequence = sequence
        self._in_flight[sequence] = command

    def _say(self, sequence: int, command: _Unanswered) -> None:
        self._send(
            Command(
                session=self.session,
                sequence=sequence,
                tick=command.tick,
                command=command.command,
                flags=command.flags,
                arguments=command.arguments,
            )
        )

    def _send_writes(self, now_ns: int) -> None:
        """The updates that wait go out in the order of their calls, as many as may."""
        assert self._bucket is not None and self._byte_bucket is not None
        for cells, write in list(self._writes.items()):
            if self._repeats or len(self._in_flight) >= COMMANDS_IN_FLIGHT_MAX:
                return
            if self._bucket.ready_ns(1, now_ns) > now_ns or not self._byte_bucket.take(
                _frame_bytes(write.data), now_ns
            ):
                return
            self._bucket.take(1, now_ns)
            self._send_numbered(_Unanswered(write.ticket, write.table, write.tick, write.data, WRITE))
            del self._writes[cells]
            self.latest_waiting -= 1

    def _repeat(self, sequence: int) -> None:
        """Say a command again, as it was said."""
        self._say(sequence, self._in_flight[sequence])

    def _do_due(self, now_ns: int) -> None:
        if not self.live or self._bucket is None:
            return
        assert self._welcome is not None
        period_ns = NS_PER_S // self._welcome.hz
        self._repeats_ns = now_ns
        while self._repeats and self._bucket.take(1, now_ns):
            sequence = self._repeats.popleft()
            if sequence in self._in_flight:  # answered before it was asked for, by a node that makes things up
                self._repeat(sequence)
        for latest in self._latest.values():
            if self._repeats:
                break
            if not latest.ticket or now_ns < latest.due_ns or len(self._in_flight) >= COMMANDS_IN_FLIGHT_MAX:
                continue
            if not self._bucket.take(1, now_ns):
                continue
            self._send_command(latest.signature, latest.ticket, latest.arguments, latest.tick)
            latest.ticket = 0
            self.latest_waiting -= 1
            # One a tick on average: a game loop that comes a little late must not lose every second one, and one that
            # was away must not catch up in a burst.
            latest.due_ns = max(latest.due_ns + period_ns, now_ns + period_ns // 2)
        if self._writes and now_ns >= self._writes_due_ns:
            self._send_writes(now_ns)
            if not self._writes:
                self._writes_due_ns = max(self._writes_due_ns + period_ns, now_ns + period_ns // 2)
        if now_ns >= self.ping_due_ns:
            self._pings += 1
            self.ping_due_ns = now_ns + PING_INTERVAL_NS
            self._send(Ping(nonce=self._pings, sent_ns=now_ns))

    def _check_welcome(self, welcome: Welcome) -> None:
        if welcome.wire != WIRE_VERSION:
            raise RemoteProtocolError(
                f"the node chose wire version {welcome.wire}; this client speaks {WIRE_VERSION}", Reason.WIRE_MISMATCH
            )
        if self._hello.fingerprint and welcome.fingerprint != self._hello.fingerprint:
            raise RemoteProtocolError(
                f"the node's schema is {welcome.fingerprint.hex()}, this client's {self._hello.fingerprint.hex()}",
                Reason.SCHEMA_MISMATCH,
            )
        if not welcome.session or not welcome.client_id:
            raise RemoteProtocolError("a Welcome without a session or a client id", Reason.BAD_FRAME)
        if not HZ_MIN <= welcome.hz <= HZ_MAX:
            raise RemoteProtocolError(f"a Welcome with {welcome.hz} ticks a second", Reason.BAD_FRAME)
        if not welcome.commands_per_s:
            raise RemoteProtocolError("a Welcome that takes no commands", Reason.BAD_FRAME)
        if welcome.features & ~self._hello.features:
            raise RemoteProtocolError(
                f"a Welcome with features {welcome.features:#x}, where {self._hello.features:#x} were asked for",
                Reason.BAD_FRAME,
            )
        if welcome.command_next != 1:
            raise RemoteProtocolError(f"a new session that goes on at command {welcome.command_next}", Reason.BAD_STATE)
        commands = self._commands_of(welcome)
        if signatures_hash(commands) != welcome.commands_hash:
            raise RemoteProtocolError("the node's commands are not what their hash says", Reason.BAD_FRAME)
        if len({c.id for c in commands}) != len(commands) or len({c.name for c in commands}) != len(commands):
            raise RemoteProtocolError("two of the node's commands have one id or name", Reason.BAD_FRAME)

    def _check_resumed(self, resumed: Resumed) -> None:
        standing = self._standing
        if standing is None or not resumed.accepted:
            return  # the step says it better; a refusal is a word and no more
        if resumed.session != standing.welcome.session:
            raise RemoteProtocolError(
                f"session {resumed.session:#x} was resumed in place of {standing.welcome.session:#x}", Reason.BAD_STATE
            )
        if resumed.version not in (0, self._named_version):
            raise RemoteProtocolError(
                f"a session that goes on from version {resumed.version}, where {self._named_version} is held",
                Reason.BAD_STATE,
            )
        if resumed.version and resumed.events_from < resumed.version:
            raise RemoteProtocolError(
                f"event rows of versions after {resumed.events_from}, where {resumed.version} is held", Reason.BAD_STATE
            )
        if not HZ_MIN <= resumed.hz <= HZ_MAX or not resumed.commands_per_s:
            raise RemoteProtocolError(
                f"a Resumed with {resumed.hz} ticks and {resumed.commands_per_s} commands a second", Reason.BAD_FRAME
            )
        oldest = min(standing.in_flight, default=standing.sequence + 1)
        if not oldest <= resumed.command_next <= standing.sequence + 1:
            raise RemoteProtocolError(
                f"a session that goes on at command {resumed.command_next}, of which {oldest} to {standing.sequence} "
                "are unanswered",
                Reason.BAD_STATE,
            )

    def _commands_of(self, welcome: Welcome) -> tuple[CommandSignature, ...]:
        """The node leaves the list out when it is ours."""
        return self._own_commands if welcome.commands_hash == self._hello.commands_hash else welcome.commands

    def _check_schema(self, schema: Schema) -> None:
        if self._welcome is not None and schema.fingerprint != self._welcome.fingerprint:
            raise RemoteProtocolError("a Schema of another fingerprint than the Welcome's", Reason.SCHEMA_MISMATCH)

    def _check_sync_begin(self, begin: SyncBegin) -> None:
        self._check_session(begin.session, begin.epoch)
        # A base in mid-sync is where the staging goes on from; 0 starts it anew.
        if self.state is State.SYNCING and begin.base not in (0, self._first_version):
            raise RemoteProtocolError(
                f"a sync goes on from version {begin.base}, the last one reached {self._first_version}",
                Reason.BAD_STATE,
            )

    def _check_sync_chunk(self, chunk: SyncChunk) -> None:
        self._check_session(chunk.session, chunk.epoch)
        if self.state is not State.SYNCING:
            return  # the step says it better
        if chunk.sequence != self._chunks:
            raise RemoteProtocolError(
                f"chunk {chunk.sequence} of a sync came as number {self._chunks}", Reason.BAD_STATE
            )
        if chunk.base != self._sync_base or chunk.version < self._first_version:
            raise RemoteProtocolError(
                f"a chunk of ({chunk.base}, {chunk.version}] in a sync from {self._sync_base} by {self._first_version}",
                Reason.BAD_STATE,
            )

    def _check_delta_sync(self, delta: DeltaSync) -> None:
        self._check_session(delta.session, delta.epoch)
        self._check_built(delta)
        if delta.parts > 1:
            raise RemoteProtocolError(
                f"a delta in {delta.parts} parts where nothing is lost; send it whole", Reason.BAD_STATE
            )
        if self.state is State.SYNCING and delta.base > self._first_version:
            raise RemoteProtocolError(
                f"a closing delta from {delta.base}, after the sync's first version {self._first_version}",
                Reason.BAD_STATE,
            )

    def _check_event(self, event: Event) -> None:
        self._check_session(event.session, event.epoch)
        if event.sequence != self._event_sequence + 1:
            raise RemoteProtocolError(
                f"event rows {event.sequence} came after {self._event_sequence}: nothing may be missing or come twice",
                Reason.BAD_STATE,
            )
        if event.version < self._event_version:
            raise RemoteProtocolError(
                f"event rows of version {event.version} came after those of {self._event_version}", Reason.BAD_STATE
            )

    def _check_built(self, delta: DeltaSync) -> None:
        if delta.clock or delta.flags & RELAYED:
            raise RemoteProtocolError("a clock: nodes tell each other, and clients none", Reason.NOT_BUILT)
        if delta.flags & PARTIAL and (delta.digest_low or delta.digest_high):
            raise RemoteProtocolError("a digest of a delta that left rows waiting: of what?", Reason.BAD_STATE)

    def _check_session(self, session: int, epoch: int) -> None:
        if session != self.session:
            raise RemoteProtocolError(
                f"a frame of session {session:#x} on the link of {self.session:#x}", Reason.BAD_STATE
            )
        if epoch != self.epoch:
            raise RemoteProtocolError(f"a frame of epoch {epoch} in a session of epoch {self.epoch}", Reason.BAD_STATE)

    def _on_welcome(self, welcome: Welcome, now_ns: int) -> None:
        self.commands = {signature.name: signature for signature in self._commands_of(welcome)}
        self._begin(welcome, now_ns)
        self._events.append(welcome)

    def _begin(self, welcome: Welcome, now_ns: int) -> None:
        self._welcome = welcome
        self.session, self.epoch = welcome.session, welcome.epoch
        self._deadline_ns = now_ns + self._silence_ns_max
        self.ping_due_ns = now_ns
        # Half the node's burst: what we space out may arrive bunched up, and must not overflow the node's bucket.
        self._bucket = TokenBucket(welcome.commands_per_s, max(1, welcome.commands_per_s // 2), now_ns)
        # Three quarters: the rest is for acks and for commands, of which the node takes only so many.
        bytes_per_s = max(1, welcome.bytes_per_s * 3 // 4)
        self._byte_bucket = TokenBucket(bytes_per_s, max(bytes_per_s // 2, 2 * WRITE_BYTES_MAX), now_ns)
        self._writes_due_ns = now_ns

    def _say_hello(self) -> None:
        self._send(msgspec.structs.replace(self._hello, token=self._token()))

    def _on_resumed(self, resumed: Resumed, now_ns: int) -> None:
        standing, self._standing = self._standing, None
        assert standing is not None, "only a Resume is answered by it"
        if not resumed.accepted:
            self._events.append(resumed)
            self._say_hello()
            return
        self.commands = standing.commands
        self._sequence = standing.sequence
        self._in_flight = standing.in_flight
        self._latest = standing.latest
        self._writes = standing.writes
        self.latest_waiting = sum(latest.ticket > 0 for latest in self._latest.values()) + len(self._writes)
        for latest in self._latest.values():
            latest.due_ns = now_ns
        self._repeats = deque(range(resumed.command_next, standing.sequence + 1))
        welcome = msgspec.structs.replace(
            standing.welcome,
            epoch=resumed.epoch,
            tick=resumed.tick,
            hz=resumed.hz,
            bytes_per_s=resumed.bytes_per_s,
            commands_per_s=resumed.commands_per_s,
            resume_key=resumed.resume_key or standing.welcome.resume_key,
        )
        self._begin(welcome, now_ns)
        self._events.append(resumed)

    def _on_sync_begin(self, begin: SyncBegin, _now_ns: int) -> None:
        self._sync_base = begin.base
        self._first_version = begin.first_version
        self._chunks = 0
        self._events.append(begin)

    def _on_sync_chunk(self, chunk: SyncChunk, _now_ns: int) -> None:
        self._chunks += 1
        self._events.append(chunk)

    def _on_event(self, message: Any, _now_ns: int) -> None:
        self._events.append(message)

    def _on_event_rows(self, event: Event, _now_ns: int) -> None:
        self._event_sequence, self._event_version = event.sequence, event.version
        self._events.append(event)

    def _on_command_result(self, result: CommandResult, _now_ns: int) -> None:
        answered = self._in_flight.pop(result.sequence, None)
        if answered is None:
            return  # repeated
        while (first := next(iter(self._in_flight), result.sequence)) < result.sequence:
            self._events.append(AnswerLost(self._in_flight.pop(first).ticket))
        if result.status == CommandStatus.ACCEPTED:
            self._unseen.append((result.version, result.sequence, answered))
        self._events.append(
            CommandAnswered(
                answered.ticket, result.sequence, result.status, result.version, result.code, result.message
            )
        )

    def _on_ping(self, ping: Ping, now_ns: int) -> None:
        self._send(Pong(nonce=ping.nonce, sent_ns=ping.sent_ns, received_ns=now_ns))

    def _on_pong(self, pong: Pong, now_ns: int) -> None:
        if pong.nonce != self._pings or not 0 <= now_ns - pong.sent_ns <= SILENCE_NS_MAX:
            return  # overtaken by a newer ping, or made up
        rtt_ns = now_ns - pong.sent_ns
        offset_ns = pong.received_ns + rtt_ns // 2 - now_ns
        if self.rtt_ns is None or self.clock_offset_ns is None:
            self.rtt_ns, self.clock_offset_ns = rtt_ns, offset_ns
            return
        # An eighth of each new sample, as TCP smooths its round trip.
        self.rtt_ns += (rtt_ns - self.rtt_ns) // 8
        self.clock_offset_ns += (offset_ns - self.clock_offset_ns) // 8

    def _on_goodbye(self, goodbye: Goodbye, _now_ns: int) -> None:
        self.frames.clear()  # nobody listens any more
        self._events.append(PeerLeft(goodbye.reason, goodbye.message, goodbye.reconnect_after_ms))

    def _on_error(self, error: Error, _now_ns: int) -> None:
        if not error.fatal:  # a fatal one is followed by a Goodbye that says the same
            self._events.append(error)


_CHECKS: dict[Kind, Any] = {
    Kind.WELCOME: ClientSession._check_welcome,
    Kind.RESUMED: ClientSession._check_resumed,
    Kind.SCHEMA: ClientSession._check_schema,
    Kind.SYNC_BEGIN: ClientSession._check_sync_begin,
    Kind.SYNC_CHUNK: ClientSession._check_sync_chunk,
    Kind.DELTA_SYNC: ClientSession._check_delta_sync,
    Kind.EVENT: ClientSession._check_event,
}
_HANDLERS: dict[Kind, Any] = {
    Kind.WELCOME: ClientSession._on_welcome,
    Kind.RESUMED: ClientSession._on_resumed,
    Kind.SCHEMA: ClientSession._on_event,
    Kind.SYNC_BEGIN: ClientSession._on_sync_begin,
    Kind.SYNC_CHUNK: ClientSession._on_sync_chunk,
    Kind.DELTA_SYNC: ClientSession._on_event,
    Kind.EVENT: ClientSession._on_event_rows,
    Kind.COMMAND_RESULT: ClientSession._on_command_result,
    Kind.PING: ClientSession._on_ping,
    Kind.PONG: ClientSession._on_pong,
    Kind.GOODBYE: ClientSession._on_goodbye,
    Kind.ERROR: ClientSession._on_error,
}
