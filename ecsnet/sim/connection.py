"""One player's way to the node: two simulated paths, and at each end what a driver does between a socket and a core.

A connection knows no time of its own: both ends are told until when to look. What the node's end opens, serves and
closes is a `Link` of the authority; what the player's end takes in are whole frames.

Invariants:
- frames leave an end in the order in which its core gave them, and none is given up by the connection itself;
- after `lost` or the end of the stream nothing is delivered any more.
"""

from collections import deque
from collections.abc import Sequence

from ecsnet.authority import Authority, Link
from ecsnet.errors import ClosedError, LimitExceededError, RemoteProtocolError
from ecsnet.limits import FRAME_HEADER_BYTES, MESSAGE_TO_NODE_BYTES_MAX, TCP_NOTSENT_LOWAT_BYTES
from ecsnet.session.channel import Channel
from ecsnet.sim.link import NEVER, Outages, stream_paths
from ecsnet.sim.profile import Profile
from ecsnet.sim.trace import TO_NODE, TO_PLAYER, Trace
from ecsnet.wire.framing import FrameReader, parse_header_untrusted

Arrival = tuple[int, int, bytes, bool]
"""One whole frame at the player's end: when, its kind, its payload, and False for what a datagram carried outside of
its lane."""


class StreamConnection:
    """A connection as TCP makes it."""

    datagrams = False

    def __init__(
        self, name: str, number: int, profile: Profile, seed: str, trace: Trace, outages: Outages | None = None
    ) -> None:
        self.name = name
        self.number = number
        # As much unsent as the drivers let a system hold: more of it would only be late.
        self.down, self.up = stream_paths(
            profile, f"{seed}/{name}", buffer_bytes=TCP_NOTSENT_LOWAT_BYTES, outages=outages
        )
        self.link: Link | None = None
        """The node's end, from the first bytes that arrive there."""
        self.node_gone = False
        self.bytes_down = 0
        self.bytes_up = 0
        self._trace = trace
        self._reader = FrameReader(MESSAGE_TO_NODE_BYTES_MAX)
        self.waiting: deque[bytes] = deque()
        """What the player's socket did not take yet."""
        self._leaving = False
        self.is_ending = False
        """The player's end said that nothing comes any more."""

    # --- the player's end --------------------------------------------------------------------------------------------

    def player_send(self, frames: list[bytes], now_ns: int) -> None:
        """Write frames; what the socket does not take waits."""
        if not self.waiting and not self._leaving and len(frames) == 1 and self.up.send(frames[0], now_ns):
            self.bytes_up += len(frames[0])
            return
        self.waiting += frames
        self.player_flush(now_ns)

    def player_flush(self, now_ns: int) -> None:
        waiting, up = self.waiting, self.up
        while waiting:
            if not up.send(waiting[0], now_ns):
                return
            self.bytes_up += len(waiting.popleft())
        if self._leaving:
            self._leaving = False
            up.close(now_ns)

    def player_receive(self, until_ns: int) -> list[Arrival]:
        """Whole frames that arrived by then."""
        down = self.down
        if down.next_ns > until_ns:
            return []
        arrived = down.receive(until_ns)
        self._trace.all_arrived(arrived, self.number, TO_PLAYER)
        return [(when_ns, data[4], data[FRAME_HEADER_BYTES:], True) for when_ns, data in arrived]

    def player_lost(self, now_ns: int) -> bool:
        """Whether the player has read the end of the stream."""
        return self.down.ended(now_ns)

    def player_close(self, now_ns: int) -> None:
        """The player has said all: the stream ends behind it."""
        self._leaving = self.is_ending = True
        self.player_flush(now_ns)

    def raw_receive(self, until_ns: int) -> list[bytes]:
        """Bytes as they came, for one who does not speak frames."""
        return [data for _, data in self.down.receive(until_ns)]

    def raw_send(self, data: bytes, now_ns: int) -> None:
        """Write any bytes."""
        self.player_send([data], now_ns)

    # --- the node's end ----------------------------------------------------------------------------------------------

    def node_receive(self, authority: Authority | None, now_ns: int) -> None:
        """Take in what arrived; None if no node runs there."""
        if self._leaving:
            self.player_flush(now_ns)  # the player has turned away; its system still sends what it left
        if self.up.next_ns <= now_ns:
            for when_ns, data in self.up.receive(now_ns):
                self._trace.arrived(when_ns, self.number, TO_NODE, data)
                if authority is None or self.node_gone:
                    self.node_close(now_ns)
                    continue
                if self.link is None and not self._open(authority, now_ns):
                    continue
                self._take_in(authority, data, now_ns)
        if self.link is not None and authority is not None and self.up.ended(now_ns):
            authority.close_link(self.link, now_ns)
            self.node_close(now_ns)

    def _take_in(self, authority: Authority, data: bytes, now_ns: int) -> None:
        assert self.link is not None
        try:
            if not self._reader.buffered_bytes and len(data) >= FRAME_HEADER_BYTES:
                length, kind, _ = parse_header_untrusted(data, 0, MESSAGE_TO_NODE_BYTES_MAX)
                if length + FRAME_HEADER_BYTES == len(data):  # one whole frame, as players write them
                    authority.receive_frame(self.link, kind, data[FRAME_HEADER_BYTES:], now_ns)
                    return
            self._reader.feed(data)
            while (frame := self._reader.next_frame()) is not None:
                authority.receive_frame(self.link, frame.kind, frame.payload, now_ns)
        except RemoteProtocolError as error:
            authority.receive_error(self.link, error, now_ns)

    def _open(self, authority: Authority, now_ns: int) -> bool:
        try:
            self.link = authority.open_link(now_ns, peer=self.name)
            self.link.place = self.number + 1
        except (LimitExceededError, ClosedError):
            self.node_close(now_ns)
            return False
        return True

    def node_send(self, frames: Sequence[bytes], now_ns: int) -> int:
        """Send frames for as long as there is room; how many bytes of them were taken."""
        taken = 0
        for frame in frames:
            if not self.down.send(frame, now_ns):
                break
            taken += len(frame)
        self.bytes_down += taken
        return taken

    def node_serve(self, authority: Authority, now_ns: int) -> None:
        """Hand over frames until there is nothing more to say, or no room."""
        link, down = self.link, self.down
        assert link is not None
        while (transmit := authority.next_transmit(link, now_ns)) is not None:
            if not down.send(b"".join(transmit.parts), now_ns):
                authority.record_blocked(link, now_ns)
                return
            self.bytes_down += transmit.length
            authority.record_sent(link, transmit, now_ns)
            if transmit.version is not None:
                return  # a whole version: what else there might be can wait for the next tick, and hardly ever is there

    def node_flush(self, now_ns: int) -> None:
        """A stream sends by itself."""

    def node_close(self, now_ns: int) -> None:
        """The node's process let go of the socket, or is gone itself."""
        if not self.node_gone:
            self.node_gone = True
            self.link = None
            self.down.close(now_ns)

    def node_crashed(self, now_ns: int) -> None:
        """The node's process is gone; its system ends the stream."""
        self.node_close(now_ns)

    @property
    def is_over(self) -> bool:
        """Nothing will come out of it any more, at either end."""
        return self.node_gone and self.up.next_ns == NEVER and self.down.next_ns == NEVER

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
        self.down.change(profile.down, now_ns, return_latency_ms=profile.up.latency_ms)
        self.up.change(profile.up, now_ns, return_latency_ms=profile.down.latency_ms)

    def abort(self) -> None:
        """Both ends are gone at once, and with them all that was under way."""
        self.is_ending = True
        self.down.abort()
        self.up.abort()
        self.waiting.clear()

    def channels(self) -> list[tuple[str, Channel]]:
        """A stream has none: its queues are the system's."""
        return []

    def queued_bytes(self, now_ns: int) -> int:
        """On their way to the player."""
        return self.down.queued_bytes(now_ns)
