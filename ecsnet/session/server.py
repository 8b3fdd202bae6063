"""The node's end of one session: handshake, numbered commands with their answers, acks, and the frames to go out.

Plain values in and out; what a version contains, which base a delta is cut from and when a tick runs is the authority's
matter. The order of a file is the order of use: what arrives, what it meant, what the authority decides, what goes out.

    receive_frame ─► next_event … ; welcome / refuse
    each tick: take_commands ─► (run them) ─► answer each, in order
    next_frame until None; then sync frames made with sync_begin, sync_chunk_head, delta_head

Invariants:
- a command has its effect once: sequences are dense, a repeated one is answered from memory or by the answer that is
  still to come, and a gap (impossible on an ordered stream) ends the session;
- a command that was refused uses up its number like any other, so the client's clock entry never waits for it;
- everything a client may make the node hold is bounded: bytes and commands a second by buckets, answers by
  `COMMAND_ANSWERS_KEPT`;
- after RemoteProtocolError the session is as before, and `fail` ends it; a closed session ignores what still arrives
  and hands out what it still has to say.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from ecsnet.errors import LimitExceededError, LocalProtocolError, RemoteProtocolError
from ecsnet.limits import (
    COMMAND_BYTES_PER_S_MAX,
    COMMANDS_IN_FLIGHT_MAX,
    COMMANDS_PER_S_MAX,
    DATAGRAM_SILENCE_NS_MAX,
    FRAME_HEADER_BYTES,
    FULL_SYNC_BYTES_MIN,
    HANDSHAKE_DEADLINE_NS,
    MESSAGE_TO_CLIENT_BYTES_MAX,
    MESSAGE_TO_NODE_BYTES_MAX,
    NAME_BYTES_MAX,
    REASON_BYTES_MAX,
    SCHEMA_TEXT_BYTES_MAX,
    SILENCE_NS_MAX,
    TOKEN_BYTES_MAX,
)
from ecsnet.session.bucket import TokenBucket
from ecsnet.session.commands import decode_arguments_untrusted, signatures_hash, signatures_text
from ecsnet.session.ledger import CommandLedger, Outcome, PendingCommand
from ecsnet.session.states import NOT_BUILT, Conversation, Side, State, signal_of
from ecsnet.wire import codec
from ecsnet.wire.datagrams import UNRELIABLE
from ecsnet.wire.event_frame import EventFrames
from ecsnet.wire.messages import (
    KIND_OF,
    WIRE_VERSION,
    WRITE,
    Ack,
    Command,
    CommandSignature,
    CommandStatus,
    Error,
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
    Unknown,
    Welcome,
)
from ecsnet.wire.text import clip_text

__all__ = [
    "AckReceived",
    "HelloReceived",
    "Offer",
    "Outcome",
    "PeerLeft",
    "PendingCommand",
    "ResumeReceived",
    "ServerEvent",
    "ServerSession",
    "ServerStatistics",
    "clip_text",
]

# A client that takes less could not be sent every delta, schema or Welcome.
_CLIENT_BYTES_MIN: Final = max(FULL_SYNC_BYTES_MIN, SCHEMA_TEXT_BYTES_MAX) + 1024
_SIGNATURES_BYTES_MAX: Final = _CLIENT_BYTES_MIN // 2


@dataclass(frozen=True)
class Offer:
    """What a node says of itself to every client; one for all sessions.

    Raises:
        LimitExceededError: the signatures of all commands are more than a client must be able to take.
    """

    fingerprint: bytes
    canonical: str
    commands: tuple[CommandSignature, ...]
    hz: int
    name: str = ""
    commands_per_s: int = COMMANDS_PER_S_MAX
    bytes_per_s: int = COMMAND_BYTES_PER_S_MAX
    features: int = 0
    by_id: dict[int, CommandSignature] = field(init=False, repr=False)
    commands_hash: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_id", {signature.id: signature for signature in self.commands})
        object.__setattr__(self, "commands_hash", signatures_hash(self.commands))
        # As Cap'n Proto lays them out: a name or a number takes a pointer, itself, and up to a word of padding.
        words = sum(
            5 + 3 * len(signature.parameters) + 3 * sum(len(parameter.values) for parameter in signature.parameters)
            for signature in self.commands
        )
        found = 8 * words + 2 * len(signatures_text(self.commands).encode())
        if found > _SIGNATURES_BYTES_MAX:
            raise LimitExceededError("bytes of all command signatures", _SIGNATURES_BYTES_MAX, found)


class HelloReceived(NamedTuple):
    """A client wants in. The authority answers with `welcome` or `refuse`."""

    hello: Hello


class ResumeReceived(NamedTuple):
    """A client wants to go on with a session. The authority answers with `resumed` or `refuse_resume`. What the Resume
    says of this build has been checked; whether it proves the session has not."""

    resume: Resume


class AckReceived(NamedTuple):
    """The replica says that it applied `version`, or staged `chunks` of the running sync. Whether that was ever sent is
    for the authority to check."""

    version: int
    chunks: int


class PeerLeft(NamedTuple):
    """The session is over, by the client's word or by a deadline."""

    reason: Reason
    message: str


ServerEvent = HelloReceived | ResumeReceived | AckReceived | PeerLeft


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """Counters of one session, since it began."""

    frames_received: int
    bytes_received: int
    commands_received: int
    commands_repeated: int
    commands_refused: int
    commands_superseded: int
    frames_skipped: int


_ACK_PAYLOAD_BYTES: Final = 40

_COMMANDS_LOST_MAX: Final = 1 << 20
"""Of one session in one crash: hours of the highest rate, and no bound on what an honest client has."""


class ServerSession:
    """One client on one link, from the accepted link to the goodbye. A session that is resumed has another on each of
    its links, one after the other, and one `ledger`."""

    def __init__(self, offer: Offer, *, now_ns: int, datagrams: bool = False) -> None:
        self._offer = offer
        self._silence_ns_max = DATAGRAM_SILENCE_NS_MAX if datagrams else SILENCE_NS_MAX
        self._conversation = Conversation(Side.NODE)
        self.frames: deque[bytes] = deque()
        """Control frames that wait for `next_frame`; to be looked at only."""
        self._events: deque[ServerEvent] = deque()
        self._byte_bucket = TokenBucket(offer.bytes_per_s, max(offer.bytes_per_s, MESSAGE_TO_NODE_BYTES_MAX), now_ns)
        self._command_bucket = TokenBucket(offer.commands_per_s, offer.commands_per_s, now_ns)
        self._hello: Hello | None = None
        self._bytes_asked = 0
        self.features = 0
        """Of the wire's features those that the client and this node both have."""
        self.farewell: Reason | None = None
        """Why the link ends, in the words of whoever said goodbye first; None if nobody did."""
        self._deadline_ns = now_ns + HANDSHAKE_DEADLINE_NS
        self._epoch = 0
        self.tick = 0
        """Of the newest version that the client was sent or told of: what a Pong says."""
        self.ledger = CommandLedger()
        """Of this session's commands; another session's, from before, once it is resumed."""
        self._frames_received = 0
        self._bytes_received = 0
        self._commands_received = 0
        self._commands_repeated = 0
        self._commands_refused = 0
        self._frames_skipped = 0
        self.session = 0
        self.client_id = 0

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self._conversation.state

    @property
    def closed(self) -> bool:
        """Nothing more is said, except what `next_frame` still hands out."""
        return self._conversation.state is State.CLOSED

    @property
    def live(self) -> bool:
        """The client may be sent deltas, now or when its sync is done."""
        return self._conversation.state in (State.LIVE, State.SYNCING)

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def command_ack(self) -> int:
        """The client's clock entry: its last command that has been answered."""
        return self.ledger.answered

    @property
    def peer_name(self) -> str:
        """What the client calls itself; proves nothing."""
        return self._hello.name if self._hello is not None else ""

    @property
    def peer_token(self) -> bytes:
        """What the client shows to prove who it is; as received."""
        return self._hello.token if self._hello is not None else b""

    @property
    def message_bytes_max(self) -> int:
        """The largest payload that the client takes."""
        return min(self._bytes_asked or MESSAGE_TO_CLIENT_BYTES_MAX, MESSAGE_TO_CLIENT_BYTES_MAX)

    def statistics(self) -> ServerStatistics:
        return ServerStatistics(
            frames_received=self._frames_received,
            bytes_received=self._bytes_received,
            commands_received=self._commands_received,
            commands_repeated=self._commands_repeated,
            commands_refused=self._commands_refused,
            commands_superseded=self.ledger.superseded,
            frames_skipped=self._frames_skipped,
        )

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
        self._frames_received += 1
        self._bytes_received += FRAME_HEADER_BYTES + len(payload)
        if len(payload) > MESSAGE_TO_NODE_BYTES_MAX:
            raise RemoteProtocolError(
                f"a message of {len(payload)} bytes; the limit is {MESSAGE_TO_NODE_BYTES_MAX}", Reason.TOO_LARGE
            )
        if not self._byte_bucket.take(len(payload), now_ns):
            raise RemoteProtocolError(f"more than {self._offer.bytes_per_s} bytes a second", Reason.RATE_LIMITED)
        if not reliable and (kind not in UNRELIABLE or not self._conversation.takes(kind)):
            self._frames_skipped += 1
            return
        message = codec.decode_untrusted(kind, payload)
        if isinstance(message, Unknown):
            self._frames_skipped += 1
            return
        known = KIND_OF[type(message)]
        if known in NOT_BUILT:
            if not self._command_bucket.take(1, now_ns):
                raise RemoteProtocolError(f"{known.name} again and again", Reason.RATE_LIMITED)
            self._refuse_unbuilt(known)
            return
        self._conversation.receive(signal_of(message, known))
        if self.session:
            self._deadline_ns = now_ns + self._silence_ns_max
        handler = _HANDLERS.get(known)
        if handler is not None:
            handler(self, message, now_ns)

    def take_ack(self, payload: bytes | bytearray | memoryview, now_ns: int) -> tuple[int, int] | None:
        """The ordinary ack of a live session: half of all that clients send, and worth a way of its own. Version and
        chunks, as `receive_frame` and `next_event` would say; None if it is no such ack, and then nothing has happened.
        """
        if len(payload) != _ACK_PAYLOAD_BYTES or not self.live or type(payload) is not bytes:
            return None
        session, version, epoch, chunks = codec.read_ack_untrusted(payload)
        return (version, chunks) if self.take_ack_of(session, epoch, now_ns) else None

    def take_ack_of(self, session: int, epoch: int, now_ns: int) -> bool:
        """The same for an ack that was read before, by those of its numbers that are the session's matter."""
        if not self.live or session != self.session or epoch != self._epoch:
            return False
        if not self._byte_bucket.take(_ACK_PAYLOAD_BYTES, now_ns):
            return False
        self._frames_received += 1
        self._bytes_received += FRAME_HEADER_BYTES + _ACK_PAYLOAD_BYTES
        self._deadline_ns = now_ns + self._silence_ns_max
        return True

    @property
    def deadline_ns(self) -> int:
        """When the client has been silent for too long, or its handshake has lasted for too long."""
        return self._deadline_ns

    @property
    def silence_ns_max(self) -> int:
        """How long the client may be silent."""
        return self._silence_ns_max

    def acks_taken(self, count: int, deadline_ns: int) -> None:
        """So many ordinary acks were taken elsewhere; one a tick, so that no bucket need know of them. The client is
        silent for too long at `deadline_ns`."""
        self._frames_received += count
        self._bytes_received += count * (FRAME_HEADER_BYTES + _ACK_PAYLOAD_BYTES)
        self._deadline_ns = deadline_ns

    def next_timeout_ns(self) -> int | None:
        """When `handle_timeout` wants to be called; None when never."""
        return None if self.closed else self._deadline_ns

    def handle_timeout(self, now_ns: int) -> None:
        """End the session if its deadline has passed: for the handshake, or of silence."""
        if self.closed or now_ns < self._deadline_ns:
            return
        what = "nothing was heard of the client" if self.session else "the handshake took too long"
        self.goodbye(Reason.TIMEOUT, what)
        self._events.append(PeerLeft(Reason.TIMEOUT, what))

    # --- what it meant ------------------------------------------------------------------------------------------------

    def next_event(self) -> ServerEvent | None:
        """The next thing that the authority must know, or None."""
        return self._events.popleft() if self._events else None

    def take_commands(self) -> list[PendingCommand]:
        """The commands that arrived since the last call, in the order of their sequence. Each must be answered with
        `answer` once its version is published. Of several of one `latest` command, and
        of several updates of the same cells, all but the newest are superseded."""
        return self.ledger.take()

    # --- what the authority decides -----------------------------------------------------------------------------------

    def welcome(
        self, *, session: int, client_id: int, epoch: int, version: int, tick: int, resume_key: bytes = b""
    ) -> None:
        """Let the client in: the answer to HelloReceived. The Schema follows where the Hello asked for it.

        Raises:
            LocalProtocolError: no Hello is waiting for an answer.
        """
        if self._hello is None or self.state not in (State.GREETED, State.GREETED_BLANK):
            raise LocalProtocolError(f"no Hello is waiting for a Welcome; the session is {self.state.value}")
        offer = self._offer
        known = self._hello.commands_hash == offer.commands_hash
        learning = self.state is State.GREETED_BLANK
        self._send(
            Welcome(
                wire=WIRE_VERSION,
                hz=offer.hz,
                epoch=epoch,
                session=session,
                client_id=client_id,
                version=version,
                tick=tick,
                commands_hash=offer.commands_hash,
                message_bytes_max=MESSAGE_TO_NODE_BYTES_MAX,
                bytes_per_s=offer.bytes_per_s,
                commands_per_s=offer.commands_per_s,
                command_next=self.ledger.received + 1,
                features=self.features,
                fingerprint=offer.fingerprint,
                resume_key=resume_key,
                name=clip_text(offer.name, NAME_BYTES_MAX),
                commands=() if known else offer.commands,
            )
        )
        self._begin(session, client_id, epoch, tick)
        if learning:
            self._send(Schema(fingerprint=offer.fingerprint, canonical=offer.canonical))

    def answer(self, sequence: int, outcome: Outcome, *, version: int, tick: int) -> None:
        """Say what became of a command that `take_commands` handed out, in their order.

        Args:
            version: accepted: the version that contains it; otherwise the one it was judged against.
        """
        frame = self.ledger.answer(sequence, outcome, version=version, tick=tick)
        self.tick = tick
        if self.closed:
            return
        self._conversation.send(Kind.COMMAND_RESULT)
        self.frames.append(frame)

    def resumed(
        self,
        resume: Resume,
        ledger: CommandLedger,
        *,
        client_id: int,
        epoch: int,
        version: int,
        tick: int,
        events_from: int,
    ) -> bool:
        """Let the client go on with its session: the answer to ResumeReceived, and then the answers to its commands
        that it may have missed.

        Args:
            ledger: the session's.
            version: the base of the delta that follows: what the Resume says is held, or 0 for a full sync.
            events_from: event rows of versions after this one follow.

        Returns:
            False if the numbers of its commands cannot be: nothing was said then, and it is to be refused.
        """
        assert self.state is State.RESUMING, self.state
        oldest, offer = resume.command_oldest, self._offer
        if not 1 <= oldest <= resume.command_next <= oldest + COMMANDS_IN_FLIGHT_MAX:
            return False
        # Numbers that the node knows and the client never gave, or so many lost ones that the next would run out.
        if ledger.received >= resume.command_next or oldest - ledger.received > _COMMANDS_LOST_MAX:
            return False
        if not ledger.skip_untrusted(oldest):
            return False
        self.ledger = ledger
        self._send(
            Resumed(
                session=resume.session,
                version=version,
                tick=tick,
                epoch=epoch,
                command_next=ledger.received + 1,
                accepted=True,
                hz=offer.hz,
                bytes_per_s=offer.bytes_per_s,
                commands_per_s=offer.commands_per_s,
                events_from=events_from,
            )
        )
        self._begin(resume.session, client_id, epoch, tick)
        for sequence in range(oldest, ledger.answered + 1):
            frame = ledger.answer_again(sequence)
            if frame is not None:
                self._conversation.send(Kind.COMMAND_RESULT)
                self.frames.append(frame)
        return True

    def refuse_resume(self, resume: Resume, reason: Reason) -> None:
        """There is no such session to go on with, for whoever asks. The client may say Hello."""
        self._send(Resumed(session=resume.session, version=0, tick=0, epoch=0, reason=reason))

    def refuse(self, reason: Reason, message: str, *, reconnect_after_ms: int = 0) -> None:
        """End the session with an Error and a Goodbye: not let in, or thrown out. Nothing happens if it has ended."""
        if self.closed:
            return
        self._send(Error(code=reason, fatal=True, message=clip_text(message, REASON_BYTES_MAX)))
        self.goodbye(reason, message, reconnect_after_ms=reconnect_after_ms)

    def goodbye(self, reason: Reason, message: str = "", *, reconnect_after_ms: int = 0) -> None:
        """End the session in order. Nothing happens if it has ended."""
        if self.closed:
            return
        text = clip_text(message, REASON_BYTES_MAX)
        self._send(Goodbye(reason=reason, message=text, reconnect_after_ms=reconnect_after_ms))
        self.farewell = reason

    def fail(self, error: RemoteProtocolError) -> None:
        """End the session because of what the client sent."""
        self.refuse(reason_of(error), str(error))

    # --- what goes out ------------------------------------------------------------------------------------------------

    def next_frame(self) -> bytes | None:
        """The next control frame, or None. They go before sync frames."""
        return self.frames.popleft() if self.frames else None

    def sync_begin(self, base: int, first_version: int, tick: int, rows: int = 0) -> None:
        """Queue a SyncBegin: chunks follow, then one closing delta."""
        self._send(
            SyncBegin(
                session=self.session, epoch=self._epoch, base=base, first_version=first_version, tick=tick, rows=rows
            )
        )

    def sync_chunk_head(self, sequence: int, base: int, version: int, block_bytes: int) -> bytes:
        """The head of a SyncChunk: `(head, block, padding(block_bytes))` is the frame."""
        self._conversation.send(Kind.SYNC_CHUNK)
        return codec.chunk_head(
            session=self.session,
            epoch=self._epoch,
            sequence=sequence,
            base=base,
            version=version,
            block_bytes=block_bytes,
        )

    def delta_head(
        self,
        base: int,
        version: int,
        tick: int,
        entity: int,
        digest: tuple[int, int],
        block_bytes: int,
        flags: int = 0,
        part: int = 0,
        parts: int = 1,
    ) -> bytes:
        """The head of a DeltaSync: `(head, block, padding(block_bytes))` is the frame. It ends a running sync.

        `digest` is (low, high); both 0 for none. The head says which of the client's commands the version contains, so
        it is made after they were answered.
        """
        if self._conversation.state is not State.LIVE:  # there a delta leads to where it is
            self._conversation.send(Kind.DELTA_SYNC)
        self.tick = tick
        return codec.delta_head(
            session=self.session,
            epoch=self._epoch,
            base=base,
            version=version,
            tick=tick,
            block_bytes=block_bytes,
            entity=entity,
            command_ack=self.command_ack,
            digest=digest,
            part=part,
            parts=parts,
            flags=flags,
        )

    def event_frame(self, frames: EventFrames, sequence: int) -> bytes:
        """The frame of one message of event rows; `sequence` counts those of this session from 1."""
        self._conversation.send(Kind.EVENT)
        return frames.frame(self.session, sequence)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _send(self, message: Message) -> None:
        kind = KIND_OF[type(message)]
        frame = codec.encode(message)
        self._conversation.send(signal_of(message, kind))
        self.frames.append(frame)

    def _begin(self, session: int, client_id: int, epoch: int, tick: int) -> None:
        self.session = session
        self.client_id = client_id
        self._epoch = epoch
        self.tick = tick
        # From the deadline of the handshake on, which is at most this much away; each frame sets it anew.
        self._deadline_ns += self._silence_ns_max

    def _refuse_unbuilt(self, kind: Kind) -> None:
        self._send(Error(code=Reason.NOT_BUILT, kind=kind, message=f"{kind.name}: {NOT_BUILT[kind]}"))

    def _on_hello(self, hello: Hello, _now_ns: int) -> None:
        offer = self._offer
        self._check_build(hello)
        if len(hello.token) > TOKEN_BYTES_MAX:
            raise RemoteProtocolError(
                f"a token of {len(hello.token)} bytes; the limit is {TOKEN_BYTES_MAX}", Reason.TOO_LARGE
            )
        if hello.fingerprint and hello.fingerprint != offer.fingerprint:
            raise RemoteProtocolError(
                f"the client's schema is {hello.fingerprint.hex()}, this node's {offer.fingerprint.hex()}; "
                "use the same schema, or connect without one and learn the node's",
                Reason.SCHEMA_MISMATCH,
            )
        self._hello = hello
        self.features = hello.features & offer.features
        self._bytes_asked = hello.message_bytes_max
        self._events.append(HelloReceived(hello))

    def _on_resume(self, resume: Resume, _now_ns: int) -> None:
        self._check_build(resume)
        offer = self._offer
        if resume.fingerprint != offer.fingerprint or resume.commands_hash != offer.commands_hash:
            # What it holds and what it would repeat are of another game than this node's is by now.
            self.refuse_resume(resume, Reason.SCHEMA_MISMATCH)
            return
        self.features = resume.features & offer.features
        self._bytes_asked = resume.message_bytes_max
        self._events.append(ResumeReceived(resume))

    def _check_build(self, said: Hello | Resume) -> None:
        if not said.wire_min <= WIRE_VERSION <= said.wire_max:
            raise RemoteProtocolError(
                f"the client speaks wire versions {said.wire_min} to {said.wire_max}, this node {WIRE_VERSION}",
                Reason.WIRE_MISMATCH,
            )
        if 0 < said.message_bytes_max < _CLIENT_BYTES_MIN:
            raise RemoteProtocolError(
                f"the client takes messages of {said.message_bytes_max} bytes; {_CLIENT_BYTES_MIN} are needed",
                Reason.TOO_LARGE,
            )

    def _on_ack(self, ack: Ack, _now_ns: int) -> None:
        self._check_session(ack.session)
        # Of a history that ended while it was on its way: it says nothing about this one.
        if ack.epoch == self._epoch:
            self._events.append(AckReceived(ack.version, ack.chunks))

    def _on_command(self, command: Command, now_ns: int) -> None:
        self._check_session(command.session)
        sequence = command.sequence
        ledger = self.ledger
        if sequence <= ledger.received:
            # Once is enough. Answered: the answer may have been lost with a link, so say it again. Not answered: the
            # answer is coming. Older than our memory: DeltaSync.command_ack has said so for long.
            self._commands_repeated += 1
            answer = ledger.answer_again(sequence)
            # The rate holds for repeated ones, too: a small question must not draw long answers without end.
            if answer is not None and self._command_bucket.take(1, now_ns):
                self.frames.append(answer)
            return
        if sequence != ledger.received + 1:
            raise RemoteProtocolError(
                f"command {sequence} came after command {ledger.received}: on a stream none can be missing",
                Reason.BAD_STATE,
            )
        write = (command.command, command.arguments) if command.flags & WRITE else None
        signature = self._offer.by_id.get(command.command) if write is None else None
        values: tuple[Any, ...] = ()
        verdict: Outcome | None = None
        if not self._command_bucket.take(1, now_ns):
            text = f"more than {self._offer.commands_per_s} commands a second"
            verdict = Outcome(CommandStatus.REJECTED, Reason.RATE_LIMITED, text)
        elif write is not None:
            pass  # what it says, and whether it may, is asked beside the rows
        elif signature is None:
            text = f"no command has the number {command.command}"
            verdict = Outcome(CommandStatus.REJECTED, Reason.UNKNOWN_COMMAND, text)
        else:
            try:
                values = decode_arguments_untrusted(signature.parameters, command.arguments)
            except RemoteProtocolError as error:
                verdict = Outcome(CommandStatus.REJECTED, Reason.BAD_ARGUMENTS, f"{signature.name}: {error}")
        if verdict is not None:
            self._commands_refused += 1
        self._commands_received += 1
        ledger.received = sequence
        ledger.waiting.append(PendingCommand(sequence, signature, values, command.tick, verdict, write))

    def _on_ping(self, ping: Ping, now_ns: int) -> None:
        self._send(Pong(nonce=ping.nonce, sent_ns=ping.sent_ns, received_ns=now_ns, tick=self.tick))

    def _on_goodbye(self, goodbye: Goodbye, _now_ns: int) -> None:
        self.frames.clear()  # nobody listens any more
        self.farewell = goodbye.reason
        self._events.append(PeerLeft(goodbye.reason, goodbye.message))

    def _check_session(self, session: int) -> None:
        if session != self.session:
            raise RemoteProtocolError(
                f"a frame of session {session:#x} on the link of {self.session:#x}", Reason.BAD_STATE
            )


_HANDLERS: dict[Kind, Any] = {
    Kind.HELLO: ServerSession._on_hello,
    Kind.RESUME: ServerSession._on_resume,
    Kind.ACK: ServerSession._on_ack,
    Kind.COMMAND: ServerSession._on_command,
    Kind.PING: ServerSession._on_ping,
    Kind.GOODBYE: ServerSession._on_goodbye,
}


def reason_of(error: RemoteProtocolError) -> Reason:
    """What to tell the peer that broke the protocol."""
    if error.reason is None:
        return Reason.BAD_FRAME
    return Reason(error.reason)
