"""Two real cores over a fake wire: what most tests of replication begin with.

`Pair` joins one authority and any number of replicas in one process, in virtual time. A step is a tick: what is due at
the node arrives, the authority ticks and sends, what is due at the clients arrives, the clients send. Every byte goes
through the same frame readers as on a socket, and nothing is random: a run is its arguments.

A wire is a stream: nothing is lost or reordered in it. `cut` stops it as a broken line stops TCP: what is on its way
waits, what is written blocks once the buffer is full, and `heal` lets it go on.

Or it carries datagrams (`datagrams=True`), and what becomes of each is a script's matter; `cut` loses all of them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ecsnet.auth import Token
from ecsnet.authority import Authority, Link, TickReport
from ecsnet.errors import RemoteProtocolError
from ecsnet.limits import LINGER_S_DEFAULT, MESSAGE_TO_CLIENT_BYTES_MAX, MESSAGE_TO_NODE_BYTES_MAX, NS_PER_S
from ecsnet.replica import Replica
from ecsnet.schema import Schema
from ecsnet.session.channel import Channel
from ecsnet.store import Store
from ecsnet.wire.datagrams import is_reliable, opens_link_untrusted, reset_for_untrusted
from ecsnet.wire.framing import FrameReader
from ecsnet.world import World

DEFAULT = object()


class Pipe:
    """One direction of a wire. What is written in step n is readable in step n + latency."""

    def __init__(self, latency_ticks: int, capacity_bytes: int) -> None:
        self.latency_ticks = latency_ticks
        self.capacity_bytes = capacity_bytes
        self.is_cut = False
        self.closed = False
        self.queued_bytes = 0
        self.written: list[bytes] = []
        self.record = False
        self._queue: deque[tuple[int, bytes]] = deque()

    def write(self, data: bytes, step: int) -> bool:
        """Take all of it, or nothing."""
        if self.is_cut and self.queued_bytes + len(data) > self.capacity_bytes:
            return False
        if self.record:
            self.written.append(data)
        self._queue.append((step + self.latency_ticks, data))
        self.queued_bytes += len(data)
        return True

    def read(self, step: int) -> bytes:
        data = bytearray()
        while self._queue and self._queue[0][0] <= step and not self.is_cut:
            data += self._queue.popleft()[1]
        self.queued_bytes -= len(data)
        return bytes(data)

    def discard(self) -> None:
        self._queue.clear()
        self.queued_bytes = 0
        self.closed = True

    @property
    def is_empty(self) -> bool:
        return not self._queue


class Wire:
    """Both directions between the authority and one replica, and the frame readers at their ends."""

    def __init__(self, authority: Authority, replica: Replica, down: Pipe, up: Pipe, now_ns: int) -> None:
        self.authority = authority
        self.replica = replica
        self.down = down
        self.up = up
        self.node_reader = FrameReader(MESSAGE_TO_NODE_BYTES_MAX)
        self.client_reader = FrameReader(MESSAGE_TO_CLIENT_BYTES_MAX)
        self.link: Link | None = authority.open_link(now_ns, peer=replica.name or "?")
        self.reads = True
        """A client that stops reading leaves what arrives in the pipe."""

    def cut(self) -> None:
        self.down.is_cut = self.up.is_cut = True

    def heal(self) -> None:
        self.down.is_cut = self.up.is_cut = False

    def to_node(self, step: int, now_ns: int) -> None:
        if self.link is None:
            return
        try:
            self.node_reader.feed(self.up.read(step))
            while self.link is not None and (frame := self.node_reader.next_frame()) is not None:
                self.authority.receive_frame(self.link, frame.kind, frame.payload, now_ns)
        except RemoteProtocolError as error:
            if self.link is not None:
                self.authority.receive_error(self.link, error, now_ns)
        if self.link is not None and self.up.closed and self.up.is_empty:
            self.drop(now_ns)

    def serve(self, step: int, now_ns: int) -> None:
        while self.link is not None and (transmit := self.authority.next_transmit(self.link, now_ns)) is not None:
            if not self.down.write(b"".join(bytes(part) for part in transmit.parts), step):
                self.authority.record_blocked(self.link, now_ns)
                return
            assert transmit.length == sum(len(part) for part in transmit.parts)
            self.authority.record_sent(self.link, transmit, now_ns)

    def lose(self, now_ns: int) -> None:
        """The line is gone, with all that was on it; both ends notice at once."""
        self.drop(now_ns)
        self.down.discard()
        self.up.discard()
        self.replica.disconnected(now_ns)

    def drop(self, now_ns: int) -> None:
        """The authority's end of the transport closes."""
        if self.link is not None:
            self.authority.close_link(self.link, now_ns)
            self.link = None
            self.down.closed = True

    def to_client(self, step: int, now_ns: int) -> None:
        if not self.reads:
            return
        try:
            self.client_reader.feed(self.down.read(step))
            while (frame := self.client_reader.next_frame()) is not None:
                self.replica.receive_frame(frame.kind, frame.payload, now_ns)
        except RemoteProtocolError as error:
            self.replica.receive_error(error, now_ns)
        deadline_ns = self.replica.next_timeout_ns()
        if deadline_ns is not None and deadline_ns <= now_ns:
            self.replica.handle_timeout(now_ns)
        for data in self.replica.frames_to_send(now_ns):
            self.up.write(data, step)
        if self.replica.closing:
            self.up.closed = True
        if self.down.closed and self.down.is_empty:
            self.replica.disconnected(now_ns)
            self.up.closed = True


Fate = Callable[[int, bytes], Sequence[int]]
"""What becomes of a datagram, by its number (from 0) and its bytes: the ticks that each of its copies is late by. None
at all: it is lost."""


def in_time(number: int, data: bytes) -> Sequence[int]:
    return (0,)


class DatagramPipe:
    """One direction of a wire that carries datagrams."""

    def __init__(self, latency_ticks: int, fate: Fate) -> None:
        self.latency_ticks = latency_ticks
        self.fate = fate
        self.is_cut = False
        self.written: list[bytes] = []
        self.record = False
        self.sent = 0
        self._queue: list[tuple[int, int, bytes]] = []

    def write(self, data: bytes, step: int) -> None:
        if self.record:
            self.written.append(data)
        number, self.sent = self.sent, self.sent + 1
        if not self.is_cut:
            for late in self.fate(number, data):
                self._queue.append((step + self.latency_ticks + late, len(self._queue), data))

    def read(self, step: int) -> list[bytes]:
        due = sorted(item for item in self._queue if item[0] <= step)
        self._queue = [item for item in self._queue if item[0] > step]
        return [] if self.is_cut else [data for _, _, data in due]

    def discard(self) -> None:
        self._queue.clear()


class DatagramWire:
    """Both directions between the authority and one replica, and the channels at their ends: what a driver does."""

    def __init__(
        self, authority: Authority, replica: Replica, down: DatagramPipe, up: DatagramPipe, now_ns: int
    ) -> None:
        self.authority = authority
        self.replica = replica
        self.down = down
        self.up = up
        self.link: Link | None = None
        self.node_channel: Channel | None = None
        self.client_channel = Channel(payload_bytes_max=MESSAGE_TO_CLIENT_BYTES_MAX, now_ns=now_ns)
        self.reads = True

    def cut(self) -> None:
        self.down.is_cut = self.up.is_cut = True

    def heal(self) -> None:
        self.down.is_cut = self.up.is_cut = False

    def lose(self, now_ns: int) -> None:
        self.drop(now_ns)
        self.node_channel = None
        self.down.discard()
        self.up.discard()
        self.replica.disconnected(now_ns)

    def drop(self, now_ns: int) -> None:
        """The authority has done with the link. Its channel stays until the last of it has arrived."""
        if self.link is not None:
            self.authority.close_link(self.link, now_ns)
            self.link = None

    def to_node(self, step: int, now_ns: int) -> None:
        for data in self.up.read(step):
            if self.node_channel is None:
                if not opens_link_untrusted(data):
                    answer = reset_for_untrusted(data)
                    if answer is not None:
                        self.down.write(answer, step)
                    continue
                self.link = self.authority.open_link(now_ns, peer=self.replica.name or "?", datagrams=True)
                self.node_channel = Channel(payload_bytes_max=MESSAGE_TO_NODE_BYTES_MAX, now_ns=now_ns)
            try:
                for kind, payload, reliable in self.node_channel.receive_untrusted(data, now_ns):
                    if self.link is not None:
                        self.authority.receive_frame(self.link, kind, payload, now_ns, reliable=reliable)
            except RemoteProtocolError as error:
                if self.link is not None:
                    self.authority.receive_error(self.link, error, now_ns)
        if self.node_channel is not None and self.node_channel.is_reset:
            self.drop(now_ns)
            self.node_channel = None

    def serve(self, step: int, now_ns: int) -> None:
        channel = self.node_channel
        assert channel is not None
        while self.link is not None:
            if not channel.has_room and not self.link.in_parts:
                self.authority.record_blocked(self.link, now_ns)
                return
            transmit = self.authority.next_transmit(self.link, now_ns)
            if transmit is None:
                return
            channel.send(b"".join(bytes(part) for part in transmit.parts), reliable=transmit.reliable)
            self.authority.record_sent(self.link, transmit, now_ns)

    def flush(self, step: int, now_ns: int) -> None:
        """The node's datagrams of this tick."""
        if self.node_channel is not None:
            self.node_channel.handle_timeout(now_ns)
            for data in self.node_channel.datagrams_to_send(now_ns):
                self.down.write(data, step)
            if self.link is None and self.node_channel.is_drained:
                self.node_channel = None

    def to_client(self, step: int, now_ns: int) -> None:
        if not self.reads:
            return
        channel, replica = self.client_channel, self.replica
        try:
            for data in self.down.read(step):
                for kind, payload, reliable in channel.receive_untrusted(data, now_ns):
                    replica.receive_frame(kind, payload, now_ns, reliable=reliable)
        except RemoteProtocolError as error:
            replica.receive_error(error, now_ns)
        if channel.is_reset:
            replica.disconnected(now_ns, "the node does not know this link")
        deadline_ns = replica.next_timeout_ns()
        if deadline_ns is not None and deadline_ns <= now_ns:
            replica.handle_timeout(now_ns)
        channel.handle_timeout(now_ns)
        self.client_flush(step, now_ns)

    def client_flush(self, step: int, now_ns: int) -> None:
        if self.client_channel.has_room:
            for frame in self.replica.frames_to_send(now_ns):
                self.client_channel.send(frame, reliable=is_reliable(frame[4]))
        for data in self.client_channel.datagrams_to_send(now_ns):
            self.up.write(data, step)


class Pair:
    """One authority and its replicas, stepped together.

    Args:
        world: what the authority runs; a schema makes a world without rules.
        clients: replicas that connect at the beginning.
        latency_ticks: from the node to a client; `back_ticks` the other way (the same, unless given).
        capacity_bytes: what a cut wire still takes before it blocks.
        knows: what the replicas are made with; the world itself unless given.
        datagrams: over wires that lose, double and delay as `fate_down` and `fate_up` say.
        store: of the authority; by default its own, which ends with it.
        linger_s: how long sessions wait for those who lost their lines.
        compress: whether blocks travel compressed.
    """

    def __init__(
        self,
        world: World | Schema | str | Path,
        *,
        clients: int = 1,
        seed: int = 7,
        latency_ticks: int = 0,
        back_ticks: int | None = None,
        capacity_bytes: int = 0,
        digest_every_version: bool = True,
        knows: Any = DEFAULT,
        reconnects: bool = False,
        datagrams: bool = False,
        fate_down: Fate = in_time,
        fate_up: Fate = in_time,
        store: Store | None = None,
        linger_s: float = LINGER_S_DEFAULT,
        compress: bool = True,
    ) -> None:
        self.world = world if isinstance(world, World) else World(world, on_error="raise")
        self._store = store
        self._linger_s = linger_s
        self._compress = compress
        self.authority = self._authority(seed, digest_every_version)
        self.latency_ticks = latency_ticks
        self.back_ticks = latency_ticks if back_ticks is None else back_ticks
        self.capacity_bytes = capacity_bytes
        self.now_ns = 1_000_000_000
        self.steps = 0
        self.datagrams = datagrams
        self.fate_down = fate_down
        self.fate_up = fate_up
        self.wires: list[Any] = []
        self.report: TickReport | None = None
        for number in range(clients):
            self.connect(name=f"client-{number}", knows=knows, reconnects=reconnects)

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def replica(self) -> Replica:
        return self.wires[0].replica

    @property
    def replicas(self) -> list[Replica]:
        return [wire.replica for wire in self.wires]

    @property
    def wire(self) -> Any:
        """A `Wire`, or with `datagrams` a `DatagramWire`."""
        return self.wires[0]

    @property
    def link(self) -> Link:
        link: Link | None = self.wires[0].link
        assert link is not None, "the authority's end is closed"
        return link

    def has_converged(self) -> bool:
        """Every open replica holds the newest version, and the authority knows."""
        newest = self.authority.version
        return all(
            wire.link is None or (wire.replica.version == newest and wire.link.acked == newest) for wire in self.wires
        )

    def digests(self) -> set[str]:
        """The digests of the authority and of every replica that is live."""
        with self.authority.store.view() as view:
            found = {view.digest(wire=True)}
        for replica in self.replicas:
            if replica.state == "live":
                with replica.view() as view:
                    found.add(view.digest())
        return found

    # --- what happens ------------------------------------------------------------------------------------------------

    def connect(
        self, *, name: str = "client", knows: Any = DEFAULT, reconnects: bool = False, token: Token | None = None
    ) -> Replica:
        replica = Replica(
            self.world if knows is DEFAULT else knows,
            name=name,
            token=token,
            reconnects=reconnects,
            datagrams=self.datagrams,
        )
        self.wires.append(self._wire(replica))
        return replica

    def reconnect(self, number: int = 0) -> None:
        """A new line in the place of one that is gone."""
        self.wires[number] = self._wire(self.wires[number].replica)

    def restart(self, *, seed: int) -> None:
        """The node is gone, and with it every line; another begins in its place, of the same world, knowing what the
        store knows that the pair was given, or nothing."""
        for wire in self.wires:
            wire.lose(self.now_ns)
        self.authority.close()
        self.authority = self._authority(seed, self.authority.digest_every_version)

    def _authority(self, seed: int, digest_every_version: bool) -> Authority:
        return Authority(
            self.world,
            self._store,
            seed=seed,
            digest_every_version=digest_every_version,
            linger_s=self._linger_s,
            compress=self._compress,
        )

    def _wire(self, replica: Replica) -> Any:
        if self.datagrams:
            replica.connect(self.now_ns)
            wire = DatagramWire(
                self.authority,
                replica,
                DatagramPipe(self.latency_ticks, self.fate_down),
                DatagramPipe(self.back_ticks, self.fate_up),
                self.now_ns,
            )
            wire.client_flush(self.steps, self.now_ns)
            return wire
        return self._stream(replica)

    def _stream(self, replica: Replica) -> Wire:
        down = Pipe(self.latency_ticks, self.capacity_bytes)
        up = Pipe(self.back_ticks, 1 << 30)
        wire = Wire(self.authority, replica, down, up, self.now_ns)
        replica.connect(self.now_ns)
        for data in replica.frames_to_send(self.now_ns):
            up.write(data, self.steps)
        return wire

    def step(self, steps: int = 1, each: Callable[[], None] | None = None) -> None:
        """Run this many ticks, `each` before each of them."""
        for _ in range(steps):
            if each is not None:
                each()
            self.steps += 1
            self.now_ns += NS_PER_S // self.world.hz
            for wire in self.wires:
                wire.to_node(self.steps, self.now_ns)
            deadline_ns = self.authority.next_timeout_ns()
            if deadline_ns is not None and deadline_ns <= self.now_ns:
                self.authority.handle_timeout(self.now_ns)
            try:
                self.report = self.authority.tick(self.now_ns)
            finally:
                serve = self.authority.links_to_serve(self.now_ns)
                for wire in self.wires:
                    if wire.link in serve:
                        wire.serve(self.steps, self.now_ns)
                close = self.authority.links_to_close()
                for wire in self.wires:
                    if wire.link in close:
                        wire.drop(self.now_ns)
                for wire in self.wires:
                    if self.datagrams:
                        wire.flush(self.steps, self.now_ns)
                    wire.to_client(self.steps, self.now_ns)

    def run_until(self, condition: Callable[[], bool], *, steps_max: int = 300) -> int:
        """Step until it holds; how many steps that took."""
        for taken in range(steps_max):
            if condition():
                return taken
            self.step()
        raise AssertionError(f"not within {steps_max} steps: {self}")

    def run_until_live(self) -> None:
        self.run_until(lambda: all(replica.state == "live" for replica in self.replicas))

    def run_until_converged(self, *, steps_max: int = 300) -> None:
        """Step until every replica holds what the authority has. The world must come to rest by itself."""
        self.run_until_live()
        self.run_until(self.has_converged, steps_max=steps_max)

    def close(self) -> None:
        for replica in self.replicas:
            replica.release()
        self.authority.close()

    def __enter__(self) -> "Pair":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        states = [(replica.name, replica.state, int(replica.version)) for replica in self.replicas]
        return f"Pair(step {self.steps}, authority at {self.authority.version}, {states})"


def frames_of(chunks: Iterable[bytes], payload_bytes_max: int = MESSAGE_TO_CLIENT_BYTES_MAX) -> list[tuple[int, bytes]]:
    """The (kind, payload) of every frame in what was written to a pipe."""
    reader = FrameReader(payload_bytes_max)
    for chunk in chunks:
        reader.feed(chunk)
    frames = []
    while (frame := reader.next_frame()) is not None:
        frames.append((frame.kind, bytes(frame.payload)))
    return frames
