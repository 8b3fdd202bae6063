"""Another connection for a client that lost its own: when to try, and the attempt that is under way. Never waits.

Whoever drives the link waits, for `socket` to become writable where there is one (readable, where `wants_input`), else
for `timeout_s`, and then calls `step`, until that says that it is done:

    lost ── pause ──► attempt ──► connected ──► attached: the link goes on
              ▲          │
              └──────────┘ refused, or no answer in `ATTEMPT_S`

Invariants:
- a node that has said how long it will be away is not asked before;
- pauses double from `PAUSE_S` to `PAUSE_S_MAX`, also over sessions that ended before they had a world: a node that
  comes back, or that lets in and throws out, is not trampled. Each is drawn from half to one and a half of that, since
  all clients lost the node in the same moment;
- a connection is attached at most once, and an attempt that nobody wants any more is closed.
"""

import logging
import ssl
from collections.abc import Callable
from random import Random

from ecsnet.errors import ClosedError, ConnectError
from ecsnet.limits import NS_PER_S
from ecsnet.node.in_process import Connectable
from ecsnet.node.replica_link import ReplicaLink
from ecsnet.node.tcp import is_connected, parse_url, start_connect, wants_input
from ecsnet.node.tls import TlsSocket, Transport
from ecsnet.node.way import Place, Way

PAUSE_S = 0.1
"""Before the first attempt. A node that is restarted takes longer; a connection that was merely reset does not."""

PAUSE_S_MAX = 2.0
"""A player who waits looks at the screen: more than this is felt, less is a burden on a node that is down."""

ATTEMPT_S = 3.0
"""For the handshake of TCP: one lost packet costs the system a second, two cost three."""

ASKED_S_MAX = 60.0
"""What a node may have us wait. One that knows that it is away for longer has no use for a client that waits."""

log = logging.getLogger("ecsnet.node")

Open = Callable[[], Transport]
"""Begin to connect. Raises OSError or ConnectError: not now. ClosedError: never again."""


def same_way(node: str | Connectable, connected: Transport, context: ssl.SSLContext | None = None) -> Open:
    """How to reach the node of `connected` again: at the address that answered, or at what its name stands for by then
    (`way`). Under TLS it must prove itself again by `context`, for the name that it was asked by at first."""
    if not isinstance(node, str):
        return node.connect_in_process
    try:
        family, where = connected.family, connected.getpeername()
    except OSError:
        # Lost already, and so before there was a world: whoever opens the link is told, and wants no other.
        return _nowhere
    address = parse_url(node)

    def begin(place: Place) -> Transport:
        connecting = start_connect(*place)
        return connecting if context is None else TlsSocket(connecting, context, address.host)

    return Way(address.host, address.port, Place(family, where), begin)


def _nowhere() -> Transport:
    raise ClosedError("the connection was lost before it was used")


class Reconnector:
    """See the file."""

    __slots__ = ("_at_ns", "_deadline_ns", "_link", "_open", "_pause_s", "_random", "_versions_before", "socket")

    def __init__(self, link: ReplicaLink, open: Open, random: Random) -> None:
        self.socket: Transport | None = None
        """The attempt under way. Belongs to this object."""
        self._link = link
        self._open = open
        self._random = random
        self._pause_s = PAUSE_S
        self._versions_before = 0
        self._at_ns = 0
        self._deadline_ns = 0

    def begin(self) -> None:
        """The link's connection is over, and its replica wants another."""
        versions = self._link.replica.statistics().versions_applied
        if versions > self._versions_before:
            self._pause_s = PAUSE_S
        self._versions_before = versions
        if isinstance(self._open, Way):
            self._open.begin()
        self._pause()
        asked_s = min(self._link.replica.reconnect_after_ms / 1000, ASKED_S_MAX)
        if asked_s:
            # The same was said to everybody: later than that by up to half, never before.
            asked_ns = round(asked_s * self._random.uniform(1.0, 1.5) * NS_PER_S)
            self._at_ns = max(self._at_ns, self._link.clock() + asked_ns)

    @property
    def wants_input(self) -> bool:
        """The attempt goes on when `socket` is readable; else when it is writable."""
        return self.socket is not None and wants_input(self.socket)

    def timeout_s(self) -> float:
        """Seconds until `step` is due, if `socket` does not become writable before."""
        due_ns = self._at_ns if self.socket is None else self._deadline_ns
        return max(0.0, (due_ns - self._link.clock()) / NS_PER_S)

    def step(self) -> bool:
        """Do what is due. True once the link has a connection again, or will never have one."""
        if not self._link.replica.reconnecting:
            self.close()
            return True
        now_ns = self._link.clock()
        if self.socket is None:
            if now_ns < self._at_ns:
                return False
            try:
                self.socket = self._open()
            except (OSError, ConnectError):
                self._pause()
                return False
            except ClosedError as error:
                self._link.say_goodbye(str(error))
                return True
            self._deadline_ns = now_ns + round(ATTEMPT_S * NS_PER_S)
        try:
            connected = is_connected(self.socket)
        except OSError as error:
            if isinstance(error, ssl.SSLCertVerificationError):
                log.warning("the node that answers cannot prove itself: %s", error.verify_message)
            self._fail()
            return False
        if not connected:
            if now_ns >= self._deadline_ns:
                self._fail()
            return False
        if self._link.attach(self.socket):
            self.socket = None
        self.close()
        return True

    def close(self) -> None:
        """Give up the attempt, if there is one. Idempotent."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def _fail(self) -> None:
        self.close()
        self._pause()

    def _pause(self) -> None:
        pause_s = self._pause_s * self._random.uniform(0.5, 1.5)
        self._at_ns = self._link.clock() + round(pause_s * NS_PER_S)
        self._pause_s = min(2 * self._pause_s, PAUSE_S_MAX)
