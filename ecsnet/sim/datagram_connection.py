"""One player's way to the node over datagrams: as `connection`, with a `Channel` at each end in place of a stream.

The node knows a link by where its datagrams come from. One that it does not know begins a link if it carries the first
bytes of a lane; for any other it answers with a reset, so that a player whose node was started anew learns of it in a
round trip and not by silence.

Invariant: a link that the node has closed is remembered for as long as its last frames may take to arrive.
"""

from random import Random

from ecsnet.authority import Authority, Link
from ecsnet.errors import ClosedError, LimitExceededError, RemoteProtocolError
from ecsnet.limits import MESSAGE_TO_CLIENT_BYTES_MAX, MESSAGE_TO_NODE_BYTES_MAX, SHUTDOWN_NS_MAX
from ecsnet.session.channel import Channel
from ecsnet.sim.connection import Arrival
from ecsnet.sim.link import NEVER, DatagramPath, Outages
from ecsnet.sim.profile import Profile
from ecsnet.sim.trace import TO_NODE, TO_PLAYER, Trace
from ecsnet.wire.datagrams import is_reliable, opens_link_untrusted, reset_for_untrusted


class DatagramConnection:
    """A connection as UDP makes it."""

    datagrams = True
    is_ending = False
    node_gone = True  # a player can only ask

    def __init__(
        self, name: str, number: int, profile: Profile, seed: str, trace: Trace, outages: Outages | None = None
    ) -> None:
        self.name = name
        self.number = number
        outages = Outages(Random(f"{seed}/{name}/outages")) if outages is None else outages
        self.down = DatagramPath(profile.down, Random(f"{seed}/{name}/down"), outages=outages)
        self.up = DatagramPath(profile.up, Random(f"{seed}/{name}/up"), outages=outages)
        self.link: Link | None = None
        """The node's end, from its first datagram on."""
        self.bytes_down = 0
        self.bytes_up = 0
        self._trace = trace
        self._here: Channel | None = None
        """The player's end; made with the first frame, when the time is known."""
        self._there: Channel | None = None
        self._forget_at_ns = NEVER
        self._let_go_at_ns = NEVER
        self._is_lost = False

    # --- the player's end --------------------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether the player's core may be asked for more frames."""
        return self._here is None or self._here.has_room

    def player_send(self, frames: list[bytes], now_ns: int) -> None:
        """Hand frames to the channel, and send what it has for the line."""
        if self._here is None:
            self._here = Channel(payload_bytes_max=MESSAGE_TO_CLIENT_BYTES_MAX, now_ns=now_ns)
        for frame in frames:
            self._here.send(frame, reliable=is_reliable(frame[4]))
        self.player_flush(now_ns)

    def player_flush(self, now_ns: int) -> None:
        if self._here is not None:
            for data in self._here.datagrams_to_send(now_ns):
                self.bytes_up += len(data)
                self.up.send(data, now_ns)

    def player_receive(self, until_ns: int) -> list[Arrival]:
        """Whole frames that arrived by then."""
        if self.down.next_ns > until_ns:
            return []
        found: list[Arrival] = []
        for when_ns, data in self.down.receive(until_ns):
            self._trace.arrived(when_ns, self.number, TO_PLAYER, data)
            if self._here is None or self._is_lost:
                continue
            try:
                arrived = self._here.receive_untrusted(data, when_ns)
            except RemoteProtocolError:
                self._is_lost = True
                continue
            found += [(when_ns, *one) for one in arrived]
        return found

    def player_timeout(self, now_ns: int) -> None:
        """What is to be sent again."""
        if self._here is not None:
            due_ns = self._here.next_timeout_ns()
            if due_ns is not None and due_ns <= now_ns:
                self._here.handle_timeout(now_ns)

    def player_lost(self, now_ns: int) -> bool:
        """Whether the node said that it has no such link, or the channel cannot go on."""
        return self._is_lost or (self._here is not None and self._here.is_reset)

    def player_close(self, now_ns: int) -> None:
        """The player has said all; it goes on sending until that has arrived, for a while."""
        self._forget_at_ns = min(self._forget_at_ns, now_ns + SHUTDOWN_NS_MAX)

    def raw_receive(self, until_ns: int) -> list[bytes]:
        """Datagrams as they came, for one who does not speak frames."""
        return [data for _, data in self.down.receive(until_ns)]

    def raw_send(self, data: bytes, now_ns: int) -> None:
        """Send any bytes."""
        self.bytes_up += len(data)
        self.up.send(data, now_ns)

    # --- the node's end ----------------------------------------------------------------------------------------------

    def node_receive(self, authority: Authority | None, now_ns: int) -> None:
        """Take in what arrived; None if no node runs there."""
        if self._forget_at_ns != NEVER:
            self._linger(now_ns)
        if self.up.next_ns <= now_ns:
            for when_ns, data in self.up.receive(now_ns):
                self._trace.arrived(when_ns, self.number, TO_NODE, data)
                if authority is not None:
                    self._take(authority, data, now_ns)
        if self._there is not None:
            if self._there.is_reset and self.link is not None and authority is not None:
                authority.close_link(self.link, now_ns)
                self.link = None
            due_ns = self._there.next_timeout_ns()
            if due_ns is not None and due_ns <= now_ns:
                self._there.handle_timeout(now_ns)

    def _take(self, authority: Authority, data: bytes, now_ns: int) -> None:
        if self._there is None and not (opens_link_untrusted(data) and self._open(authority, now_ns)):
            answer = reset_for_untrusted(data)
            if answer is not None:
                self.down.send(answer, now_ns)
            return
        assert self._there is not None
        try:
            arrived = self._there.receive_untrusted(data, now_ns)
        except RemoteProtocolError as error:
            if self.link is not None:
                authority.receive_error(self.link, error, now_ns)
            return
        for kind, payload, reliable in arrived:
            if self.link is not None:
                authority.receive_frame(self.link, kind, payload, now_ns, reliable=reliable)

    def _open(self, authority: Authority, now_ns: int) -> bool:
        try:
            self.link = authority.open_link(now_ns, peer=self.name, datagrams=True)
        except (LimitExceededError, ClosedError):
            return False
        self._there = Channel(payload_bytes_max=MESSAGE_TO_NODE_BYTES_MAX, now_ns=now_ns)
        return True

    def _linger(self, now_ns: int) -> None:
        """Send again what the player left, until it is known to have arrived or nobody would wait any longer."""
        here = self._here
        if here is None or here.is_drained or now_ns >= self._forget_at_ns:
            self._forget_at_ns = NEVER
            self._here = None
            return
        self.player_receive(now_ns)
        self.player_timeout(now_ns)
        self.player_flush(now_ns)

    def node_serve(self, authority: Authority, now_ns: int) -> None:
        """Hand over frames until there is nothing more to say, or no room."""
        link, channel = self.link, self._there
        assert link is not None and channel is not None
        while True:
            if not channel.has_room and not link.in_parts:
                authority.record_blocked(link, now_ns)
                return
            transmit = authority.next_transmit(link, now_ns)
            if transmit is None:
                return
            channel.send(b"".join(transmit.parts), reliable=transmit.reliable)
            authority.record_sent(link, transmit, now_ns)

    def node_flush(self, now_ns: int) -> None:
        """Send what the channel has for the line."""
        if self._there is not None:
            for data in self._there.datagrams_to_send(now_ns):
                self.bytes_down += len(data)
                self.down.send(data, now_ns)
            over = self.link is None and (self._there.is_drained or now_ns >= self._let_go_at_ns)
            if over or self._there.is_reset:
                self._there = None

    def node_close(self, now_ns: int) -> None:
        """The node is done with the link; what it said last is sent until it arrived, for a while."""
        self.link = None
        self._let_go_at_ns = now_ns + SHUTDOWN_NS_MAX

    def node_crashed(self, now_ns: int) -> None:
        """The node's process is gone, and with it all it knew."""
        self.link = None
        self._there = None

    @property
    def is_over(self) -> bool:
        """Nothing will come out of it any more, at either end."""
        return (
            self._there is None
            and self._forget_at_ns == NEVER
            and self.up.next_ns == NEVER
            and self.down.next_ns == NEVER
        )

    # --- both --------------------------------------------------------------------------------------------------------

    def cut(self, now_ns: int, *, down: bool, up: bool) -> None:
        if down:
            self.down.cut(now_ns)
        if up:
            self.up.cut(now_ns)

    def heal(self, now_ns: int) -> None:
        self.down.heal(now_ns)
        self.up.heal(now_ns)

    def change(self, profile: Profile, now_ns: int) -> None:
        self.down.change(profile.down, now_ns)
        self.up.change(profile.up, now_ns)

    def abort(self) -> None:
        """The player's end is gone at once: it has another address now. The node hears of it by silence."""
        self._here = None
        self._is_lost = True

    def channels(self) -> list[tuple[str, Channel]]:
        """Both ends, with a name each; one that is not there yet, or not any more, is left out."""
        ends = ((self.name, self._here), (f"the node's end of {self.name}", self._there))
        return [(name, end) for name, end in ends if end is not None]

    def queued_bytes(self, now_ns: int) -> int:
        """Waiting for the player's line."""
        return self.down.queued_bytes(now_ns)
