"""What may be said when: the conversation between a client and a node as one table, looked at from both ends.

    START ─Hello─► GREETED ─Welcome─► LIVE ─SyncBegin─► SYNCING ─DeltaSync─► LIVE
          ─Hello without fingerprint─► GREETED_BLANK ─Welcome─► LEARNING ─Schema─► LIVE
          ─Resume─► RESUMING ─Resumed─► LIVE
                             ─Resumed, refused─► REFUSED ─Hello─► ...
    any ─Goodbye─► CLOSED

Both ends step through the same table, each with what it sends and what it receives, and keep no flags of their own.
That is sound although frames cross on the way, because what a *client* may send is the same in all states between a
Welcome and the end: LEARNING, LIVE and SYNCING differ only in what the *node* may send, and the node is never wrong
about those.

Invariants:
- a frame that the table does not list is refused: by the sender with LocalProtocolError and nothing sent, by the
  receiver with RemoteProtocolError;
- nothing leads out of CLOSED;
- kinds in `NOT_BUILT` are legal in every open state and change none: they are answered with an Error that says so.
"""

from enum import Enum
from typing import Final, Literal

from ecsnet.errors import LocalProtocolError, RemoteProtocolError
from ecsnet.wire.messages import Hello, Kind, Message, Reason, Resumed


class Side(Enum):
    """Who speaks."""

    CLIENT = "client"
    NODE = "node"

    @property
    def other(self) -> "Side":
        return Side.NODE if self is Side.CLIENT else Side.CLIENT


class State(Enum):
    """Where a conversation stands."""

    START = "start"
    GREETED = "greeted"
    GREETED_BLANK = "greeted without a schema"
    RESUMING = "resuming"
    REFUSED = "refused to resume"
    LEARNING = "learning the schema"
    LIVE = "live"
    SYNCING = "syncing"
    CLOSED = "closed"


HELLO_BLANK: Final = "hello without a fingerprint"
"""A Hello that asks for the schema. Its content, and a Resumed's, decides the next state."""

RESUME_REFUSED: Final = "resumed, refused"

Signal = Kind | Literal["hello without a fingerprint", "resumed, refused"]

MAY_PASS: Final = frozenset({Reason.SHUTDOWN, Reason.TOO_SLOW, Reason.FULL, Reason.TIMEOUT, Reason.INTERNAL})
"""Why a link may end although its session goes on: none of these is about who the client is or what it said."""

_CLIENT = Side.CLIENT
_NODE = Side.NODE

# The same in every state between a Welcome and the end; see the head of this file.
_CLIENT_LIVE: Final = (Kind.ACK, Kind.COMMAND, Kind.PING, Kind.PONG, Kind.ERROR)
_NODE_LIVE: Final = (Kind.COMMAND_RESULT, Kind.PING, Kind.PONG, Kind.ERROR)


_Steps = dict[tuple[Side, Signal], State]


def _stay(state: State, kinds_of_client: tuple[Kind, ...], kinds_of_node: tuple[Kind, ...]) -> _Steps:
    steps: _Steps = {}
    steps.update({(_CLIENT, kind): state for kind in kinds_of_client})
    steps.update({(_NODE, kind): state for kind in kinds_of_node})
    return steps


_GOODBYE: Final[_Steps] = {
    (_CLIENT, Kind.GOODBYE): State.CLOSED,
    (_NODE, Kind.GOODBYE): State.CLOSED,
}

_HELLO: Final[_Steps] = {
    (_CLIENT, Kind.HELLO): State.GREETED,
    (_CLIENT, HELLO_BLANK): State.GREETED_BLANK,
}

TRANSITIONS: Final[dict[State, _Steps]] = {
    State.START: {
        **_HELLO,
        (_CLIENT, Kind.RESUME): State.RESUMING,
        **_stay(State.START, (Kind.ERROR,), (Kind.ERROR,)),
        **_GOODBYE,
    },
    State.RESUMING: {
        (_NODE, Kind.RESUMED): State.LIVE,
        (_NODE, RESUME_REFUSED): State.REFUSED,
        **_stay(State.RESUMING, (Kind.PING, Kind.PONG, Kind.ERROR), (Kind.PING, Kind.PONG, Kind.ERROR)),
        **_GOODBYE,
    },
    # Once a link: who has no key must not try them all on one.
    State.REFUSED: {
        **_HELLO,
        **_stay(State.REFUSED, (Kind.PING, Kind.PONG, Kind.ERROR), (Kind.PING, Kind.PONG, Kind.ERROR)),
        **_GOODBYE,
    },
    State.GREETED: {
        (_NODE, Kind.WELCOME): State.LIVE,
        **_stay(State.GREETED, (Kind.PING, Kind.PONG, Kind.ERROR), (Kind.PING, Kind.PONG, Kind.ERROR)),
        **_GOODBYE,
    },
    State.GREETED_BLANK: {
        (_NODE, Kind.WELCOME): State.LEARNING,
        **_stay(State.GREETED_BLANK, (Kind.PING, Kind.PONG, Kind.ERROR), (Kind.PING, Kind.PONG, Kind.ERROR)),
        **_GOODBYE,
    },
    State.LEARNING: {
        (_NODE, Kind.SCHEMA): State.LIVE,
        **_stay(State.LEARNING, _CLIENT_LIVE, _NODE_LIVE),
        **_GOODBYE,
    },
    State.LIVE: {
        (_NODE, Kind.SYNC_BEGIN): State.SYNCING,
        (_NODE, Kind.DELTA_SYNC): State.LIVE,
        (_NODE, Kind.EVENT): State.LIVE,
        **_stay(State.LIVE, _CLIENT_LIVE, _NODE_LIVE),
        **_GOODBYE,
    },
    State.SYNCING: {
        # A second SyncBegin goes on from where the first was left: wire.md, "A big delta".
        (_NODE, Kind.SYNC_BEGIN): State.SYNCING,
        (_NODE, Kind.SYNC_CHUNK): State.SYNCING,
        (_NODE, Kind.DELTA_SYNC): State.LIVE,
        (_NODE, Kind.EVENT): State.SYNCING,
        **_stay(State.SYNCING, _CLIENT_LIVE, _NODE_LIVE),
        **_GOODBYE,
    },
    State.CLOSED: {},
}

NOT_BUILT: Final[dict[Kind, str]] = {
    Kind.AUTH: "logging in by several steps is planned; Hello carries a token",
    Kind.PEER: "a link between nodes begins with it; this is a client's",
}
"""Part of the protocol, decoded, and refused: what to do instead."""


def signal_of(message: Message, kind: Kind) -> Signal:
    """What a message means to the table."""
    if isinstance(message, Hello) and not message.fingerprint:
        return HELLO_BLANK
    if isinstance(message, Resumed) and not message.accepted:
        return RESUME_REFUSED
    return kind


class Conversation:
    """One end's place in the table."""

    __slots__ = ("_side", "state")

    def __init__(self, side: Side) -> None:
        self._side = side
        self.state = State.START

    def send(self, signal: Signal) -> None:
        """Step with what this end is about to send.

        Raises:
            LocalProtocolError: not in this state. The state is unchanged and nothing may be sent.
        """
        following = TRANSITIONS[self.state].get((self._side, signal))
        if following is None:
            raise LocalProtocolError(f"the {self._side.value} cannot send {_words(signal)} while {self.state.value}")
        self.state = following

    def takes(self, signal: int) -> bool:
        """Whether the other end may send this now."""
        return (self._side.other, signal) in TRANSITIONS[self.state]

    def receive(self, signal: Signal) -> None:
        """Step with what the other end has sent.

        Raises:
            RemoteProtocolError: not in this state. The state is unchanged.
        """
        following = TRANSITIONS[self.state].get((self._side.other, signal))
        if following is None:
            raise RemoteProtocolError(
                f"the {self._side.other.value} sent {_words(signal)} while {self.state.value}", Reason.BAD_STATE
            )
        self.state = following


def _words(signal: Signal) -> str:
    if isinstance(signal, Kind):
        return signal.name
    return "HELLO" if signal == HELLO_BLANK else "RESUMED"
