"""One link between two nodes, without sockets: who is there, what it is sent, and what came and cannot be taken in yet.

Both ends do the same. Each says who it is (Peer), proves the secret that both have, if they have one (Auth), and says
what it holds of the other (Ack): its version, as a base. From then on each tells the other what was written since
(DeltaSync), and is told what was taken in (Ack).

    A                                   B
    Peer(node 1, epoch, nonce)    <->   Peer(node 2, epoch, nonce)
    Auth(proof)                   <->   Auth(proof)
    Ack(what it holds of 2)       <->   Ack(what it holds of 1)
    DeltaSync(base, version, clock) ->
                                  <-    Ack(version, frames taken in)

Invariants:
- before the other has said who it is, proven it, and said what it holds, nothing of the store is sent to it;
- what is on its way and not acked is bounded, and so is what came and waits; who passes the bound is refused.
"""

import hmac
from collections import deque
from enum import Enum
from hashlib import sha256
from typing import Final

from ecsnet.errors import RemoteProtocolError
from ecsnet.ids import Version
from ecsnet.limits import (
    PEER_FRAMES_IN_FLIGHT_MAX,
    PEER_HANDSHAKE_NS_MAX,
    PEER_PING_NS,
    PEER_SILENCE_NS_MAX,
    PEER_WAITING_BYTES_MAX,
    PEER_WAITING_FRAMES_MAX,
)
from ecsnet.wire import codec
from ecsnet.wire.messages import (
    RELAYED,
    WIRE_VERSION,
    Ack,
    Auth,
    DeltaSync,
    Error,
    Goodbye,
    Message,
    Peer,
    Ping,
    Pong,
    Reason,
    Unknown,
)

PROOF_SCHEME: Final = 1
"""Of Auth: HMAC-SHA256 of the secret that the nodes share."""

NOTHING: Final = (0, 0)
"""Epoch and version of what one holds who holds nothing."""


class LinkState(Enum):
    """Where a link is. `LIVE` is a link whose other end is known and proven."""

    GREETING = "greeting"
    PROVING = "proving"
    LIVE = "live"
    CLOSED = "closed"


def is_everything(delta: DeltaSync) -> bool:
    """Whether it is, or is a part of, all that its writer holds: then it asks for nothing that came before."""
    return delta.base == 0 and bool(delta.flags & RELAYED)


class PeerLink:
    """One end. Made by `Peering.open_link`; the driver reads `frames_to_send` and reports what came.

    Attributes:
        number: counts the links of a `Peering`.
        address: for logs; as the driver gave it.
        dialled: whether this side opened it.
        them: what the other says it is, once it has.
    """

    def __init__(self, number: int, address: str, own: Peer, *, secret: bytes, dialled: bool, now_ns: int) -> None:
        self.number = number
        self.address = address
        self.dialled = dialled
        self.state = LinkState.GREETING
        self.them: Peer | None = None
        self.farewell: Reason | None = None
        self.own = own
        self._secret = secret
        self._opened_ns = now_ns
        self._heard_ns = now_ns
        self._said_ns = now_ns
        self._control: deque[bytes] = deque()
        # What it is sent.
        self.ready = False
        """The other has said what it holds."""
        self.whole = False
        """The next that it is told is everything, whoever wrote it."""
        self.told = Version(0)
        """The version that it was told of last: the base of what follows."""
        self.seen = Version(0)
        """Up to here there is nothing that it was not told."""
        self._deltas: deque[DeltaSync] = deque()
        self._sent = 0
        self._acked = 0
        # What came.
        self.waiting: deque[DeltaSync] = deque()
        self.waiting_bytes = 0
        self.waiting_since_ns: int | None = None
        self.taken = 0
        """Frames that were taken in, or need not be."""
        self.say(own)

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def node(self) -> int:
        """The other's number; 0 until it has said it."""
        return 0 if self.them is None else self.them.node

    @property
    def has_room(self) -> bool:
        """Whether something new may be cut for it: all that was cut is on its way, and not too much of it."""
        return not self._deltas and self._sent - self._acked < PEER_FRAMES_IN_FLIGHT_MAX

    def next_timeout_ns(self) -> int:
        """When `handle_timeout` has something to do, at the latest."""
        if self.state is not LinkState.LIVE:
            return self._opened_ns + PEER_HANDSHAKE_NS_MAX
        return min(self._heard_ns + PEER_SILENCE_NS_MAX, self._said_ns + PEER_PING_NS)

    # --- what arrives -------------------------------------------------------------------------------------------------

    def receive_frame(self, kind: int, payload: bytes | bytearray | memoryview, now_ns: int) -> None:
        """One whole frame of the other.

        Raises:
            RemoteProtocolError: it is malformed, of another schema, does not prove the secret, or comes where it must
                not. `part` is due.
        """
        message = codec.decode_untrusted(kind, payload)
        self._heard_ns = now_ns
        match message:
            case Unknown() | Pong() | Error():
                pass
            case Goodbye():
                self.state, self.farewell = LinkState.CLOSED, message.reason
            case Ping():
                self.say(Pong(nonce=message.nonce, sent_ns=message.sent_ns, received_ns=now_ns, tick=0))
            case Peer() if self.state is LinkState.GREETING:
                self._greeted(message)
            case Auth() if self.state is LinkState.PROVING:
                self._prove(message)
            case Ack() if self.state is LinkState.LIVE:
                self._acknowledged(message)
            case DeltaSync() if self.state is LinkState.LIVE:
                self._told(message, len(payload))
            case Auth() if not self._secret:
                raise RemoteProtocolError("the other node has a secret, and this one has none", Reason.AUTH_FAILED)
            case _ if self.state is LinkState.PROVING:
                raise RemoteProtocolError(f"node {self.node:#x} does not prove the nodes' secret", Reason.AUTH_FAILED)
            case _:
                raise RemoteProtocolError(
                    f"{type(message).__name__} on a link between nodes that is {self.state.value}", Reason.BAD_STATE
                )

    def _greeted(self, them: Peer) -> None:
        if not them.wire_min <= WIRE_VERSION <= them.wire_max:
            what = (
                f"node {them.node:#x} speaks wire versions {them.wire_min} to {them.wire_max}, this one {WIRE_VERSION}"
            )
            raise RemoteProtocolError(what, Reason.WIRE_MISMATCH)
        if them.fingerprint != self.own.fingerprint:
            what = f"node {them.node:#x} has schema {them.fingerprint.hex()}, this one {self.own.fingerprint.hex()}"
            raise RemoteProtocolError(
                f"{what}; nodes that write the same tables have one schema", Reason.SCHEMA_MISMATCH
            )
        if them.node == self.own.node:
            raise RemoteProtocolError(
                f"both nodes have the number {them.node:#x}; each needs one of its own", Reason.BAD_STATE
            )
        self.them = them
        if not self._secret:
            self.state = LinkState.LIVE
            return
        self.say(Auth(scheme=PROOF_SCHEME, step=1, data=self._proof(self.own, them)))
        self.state = LinkState.PROVING

    def _prove(self, message: Auth) -> None:
        assert self.them is not None
        right = self._proof(self.them, self.own)
        if message.scheme != PROOF_SCHEME or not hmac.compare_digest(message.data, right):
            raise RemoteProtocolError(f"node {self.node:#x} does not have the nodes' secret", Reason.AUTH_FAILED)
        self.state = LinkState.LIVE

    def _proof(self, of: Peer, to: Peer) -> bytes:
        """Both nonces are in it, so that no proof is worth anything on another link; and who proves it to whom, so that
        it is not sent back."""
        numbers = b"".join(one.node.to_bytes(8, "little") + one.nonce for one in (of, to))
        return hmac.new(self._secret, b"ecsnet peer 1" + numbers + of.fingerprint, sha256).digest()

    def _acknowledged(self, ack: Ack) -> None:
        if ack.session != self.node:
            raise RemoteProtocolError(f"an ack of node {ack.session:#x} from {self.node:#x}", Reason.BAD_STATE)
        if ack.chunks > self._sent:
            raise RemoteProtocolError(f"{ack.chunks} frames are acked, {self._sent} were sent", Reason.BAD_STATE)
        self._acked = max(self._acked, ack.chunks)
        ours = ack.epoch == self.own.epoch
        if not ours or not self.ready:
            # It holds nothing of this history, or lost something of it: it is told everything.
            self._deltas.clear()
            self.told = self.seen = Version(ack.version if ours else 0)
            self.whole = self.told == 0
            self.ready = True

    def _told(self, delta: DeltaSync, size: int) -> None:
        assert self.them is not None
        if (delta.session, delta.epoch) != (self.node, self.them.epoch):
            what = f"a delta of node {delta.session:#x}, epoch {delta.epoch}, on the link of {self.node:#x}"
            raise RemoteProtocolError(f"{what}, epoch {self.them.epoch}", Reason.BAD_STATE)
        if delta.parts > 1 or delta.flags & ~RELAYED:
            raise RemoteProtocolError("a delta between nodes has one part, and no flag but relayed", Reason.BAD_STATE)
        if is_everything(delta):
            while self.waiting and not is_everything(self.waiting[0]):
                self.take()  # it is in there, and need not wait any more
        if len(self.waiting) == PEER_WAITING_FRAMES_MAX or self.waiting_bytes + size > PEER_WAITING_BYTES_MAX:
            what = f"{len(self.waiting)} frames of {self.waiting_bytes} bytes wait already"
            raise RemoteProtocolError(f"{what}; no more was asked for", Reason.RATE_LIMITED)
        self.waiting.append(delta)
        self.waiting_bytes += len(delta.block)

    # --- what is done with it -----------------------------------------------------------------------------------------

    def take(self) -> DeltaSync:
        """The oldest frame that waits; it is taken in now, or need not be."""
        delta = self.waiting.popleft()
        self.waiting_bytes -= len(delta.block)
        self.waiting_since_ns = None
        self.taken += 1
        return delta

    def ask_for_everything(self) -> None:
        """What waits cannot be taken in, and never may be: drop it, and begin anew."""
        self.taken += len(self.waiting)
        self.waiting.clear()
        self.waiting_bytes, self.waiting_since_ns = 0, None
        self.acknowledge(NOTHING)

    def acknowledge(self, held: tuple[int, int]) -> None:
        """Say what is held of the other, as epoch and version, and how many of its frames were taken in."""
        self.say(Ack(session=self.own.node, epoch=held[0], version=held[1], chunks=self.taken))

    def tell(self, deltas: list[DeltaSync], version: Version) -> None:
        """What the other is to be told, up to a version; it goes as there is room."""
        self._deltas.extend(deltas)
        self.told = self.seen = version
        self.whole = False

    def say(self, message: Message) -> None:
        """Put a message in front of what is to be told."""
        self._control.append(codec.encode(message))

    def part(self, reason: Reason, words: str = "") -> None:
        """The link is over; the other is told why."""
        if self.state is not LinkState.CLOSED:
            self.say(Goodbye(reason=reason, message=words[:200]))
            self.state, self.farewell = LinkState.CLOSED, reason

    def frames_to_send(self, now_ns: int) -> list[bytes]:
        """Whole frames to write now, in this order; they are the caller's, and not given again."""
        frames = list(self._control)
        self._control.clear()
        while self._deltas and self.state is LinkState.LIVE and self._sent - self._acked < PEER_FRAMES_IN_FLIGHT_MAX:
            frames.append(codec.encode(self._deltas.popleft()))
            self._sent += 1
        if frames:
            self._said_ns = now_ns
        return frames

    def handle_timeout(self, now_ns: int) -> None:
        """Part from a silent one; ask one that may be."""
        if self.state is LinkState.CLOSED:
            return
        if self.state is not LinkState.LIVE and now_ns >= self._opened_ns + PEER_HANDSHAKE_NS_MAX:
            self.part(Reason.TIMEOUT, "the node did not say who it is")
        elif now_ns >= self._heard_ns + PEER_SILENCE_NS_MAX:
            self.part(Reason.TIMEOUT, "nothing came for too long")
        elif self.state is LinkState.LIVE and now_ns >= self._said_ns + PEER_PING_NS:
            self.say(Ping(nonce=self.taken, sent_ns=now_ns))
