"""The world that the fuzzer plays in, and a witness: a player who does everything right and must notice nothing.

Each player has a tally that only its own command changes, so what a command did can be counted: as often as it was
accepted, whatever was repeated, torn, made up or replayed on the way.
"""

import logging
import random
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from ecsnet.authority import Authority, Link  # noqa: E402
from ecsnet.errors import EcsnetError, RemoteProtocolError  # noqa: E402
from ecsnet.limits import MESSAGE_TO_CLIENT_BYTES_MAX, MESSAGE_TO_NODE_BYTES_MAX  # noqa: E402
from ecsnet.replica import Replica  # noqa: E402
from ecsnet.schema import loads  # noqa: E402
from ecsnet.store import Store, Transaction  # noqa: E402
from ecsnet.wire.framing import FrameReader  # noqa: E402
from ecsnet.world import Client, World  # noqa: E402

TICK_NS = 33_333_333

SCHEMA = loads("""
[database]
name = "fuzz"
version = "1.0.0"

[tables.body]
parent_table = "entities"
fields = [{ name = "entity", type = "u64", foreign_key = "entities.id" },
          { name = "x", type = "f32", default = 0.0 },
          { name = "name", type = "string[40]", default = "" }]

[tables.tally]
parent_table = "entities"
fields = [{ name = "entity", type = "u64", foreign_key = "entities.id" },
          { name = "count", type = "u32", default = 0 }]

[tables.shout]
event = true
fields = [{ name = "text", type = "string[60]" }]
""")


class WrongError(Exception):
    """What was promised does not hold."""


def demand(holds: bool, what: str) -> None:
    """Raises WrongError unless it holds."""
    if not holds:
        raise WrongError(what)


def fuzz_world() -> World:
    """A new world: what an authority runs is sealed."""
    world = World(SCHEMA, hz=30, on_error="raise")

    @world.on_join
    def enter(tx: Transaction, client: Client) -> Any:
        return tx.spawn(body={"name": client.name[:40]}, tally={}, owner=client)

    @world.on_leave
    def leave(tx: Transaction, client: Client) -> None:
        if client.entity:
            tx.despawn(client.entity)

    @world.command
    def count(tx: Transaction, client: Client, by: int) -> None:
        """Counts one, whatever it is asked to count."""
        tx[client.entity, "tally.count"] += 1

    @world.command
    def shout(tx: Transaction, client: Client, text: str) -> None:
        tx.insert("shout", text=text[:60])

    @world.command(latest=True)
    def go(tx: Transaction, client: Client, x: float) -> None:
        tx.update(client.entity, "body", x=max(-1e6, min(1e6, x)))

    @world.system
    def drift(tx: Transaction) -> None:
        (body,) = tx.query("body")
        body.x += 0.25

    return world


class Seat:
    """A player over a stream of bytes, honest unless somebody changes what it sends or hears."""

    def __init__(self, node: "Node", name: str) -> None:
        self.node = node
        self.replica = Replica(node.world, name=name, reconnects=True)
        self.link: Link | None = None
        self.heard: list[bytes] = []
        """Every frame that the node sent, of all links."""
        self.said: list[bytes] = []
        """Every frame that it sent."""
        self._reader = FrameReader(MESSAGE_TO_NODE_BYTES_MAX)
        self.accepted = 0
        """Commands `count` that were answered with yes."""
        self._tickets: list[Any] = []

    def connect(self) -> None:
        """A new link, and hello or resume over it."""
        self.link = self.node.authority.open_link(self.node.now_ns, peer=self.replica.name)
        self._reader = FrameReader(MESSAGE_TO_NODE_BYTES_MAX)
        self.replica.connect(self.node.now_ns)

    def drop(self) -> None:
        """The line is gone, and both sides are told."""
        if self.link is not None:
            self.node.authority.close_link(self.link, self.node.now_ns)
            self.link = None
            self.replica.disconnected(self.node.now_ns)

    def send(self) -> None:
        """What the replica has to say."""
        for frame in self.replica.frames_to_send(self.node.now_ns):
            self.said.append(frame)
            self.bytes_to_node(frame)

    def bytes_to_node(self, data: bytes) -> None:
        """Any bytes, as if it had said them."""
        if self.link is not None:
            self.node.take_in(self.link, self._reader, data)

    def hear(self, frame: bytes) -> None:
        """A frame, as if the node had said it."""
        reader = FrameReader(MESSAGE_TO_CLIENT_BYTES_MAX)
        try:
            reader.feed(frame)
            for one in reader:
                self.replica.receive_frame(one.kind, one.payload, self.node.now_ns)
        except EcsnetError as error:
            self.replica.receive_error(error, self.node.now_ns)

    def count(self) -> None:
        """Ask for one more, if that is allowed now."""
        try:
            self._tickets.append(self.replica.send("count", by=1))
        except EcsnetError:
            pass

    def settle(self) -> None:
        """Count what was answered."""
        while self.replica.next_event() is not None:
            pass
        self.accepted += sum(ticket.status == "accepted" for ticket in self._tickets)
        self._tickets = [ticket for ticket in self._tickets if ticket.status == "pending"]

    @property
    def pending(self) -> int:
        """Commands without an answer."""
        return len(self._tickets)


class _Bugs(logging.Handler):
    """What the product caught as a bug of its own, in the last line before a link would take the node with it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.found.append(f"{record.getMessage()}: {record.exc_info[1]!r}")


class Node:
    """One authority, its seats, and the time."""

    def __init__(self, seed: int) -> None:
        self.world = fuzz_world()
        self.store = Store(SCHEMA)
        self.authority = Authority(self.world, self.store, seed=seed, digest_every_version=True, linger_s=2.0)
        self.now_ns = 1_000_000_000
        self.seats: list[Seat] = []
        self.links_of_strangers: list[Link] = []
        self._bugs = _Bugs()
        logging.getLogger("ecsnet").addHandler(self._bugs)

    def seat(self, name: str) -> Seat:
        """A player that has connected."""
        seat = Seat(self, name)
        seat.connect()
        self.seats.append(seat)
        return seat

    def stranger(self) -> tuple[Link, FrameReader]:
        """A link without a player."""
        link = self.authority.open_link(self.now_ns, peer="stranger")
        self.links_of_strangers.append(link)
        return link, FrameReader(MESSAGE_TO_NODE_BYTES_MAX)

    def take_in(self, link: Link, reader: FrameReader, data: bytes) -> None:
        """Bytes of a link, as a driver takes them in."""
        try:
            reader.feed(data)
            for frame in reader:
                self.authority.receive_frame(link, frame.kind, frame.payload, self.now_ns)
        except RemoteProtocolError as error:
            self.authority.receive_error(link, error, self.now_ns)

    def step(self, change: Any = None) -> None:
        """A tick, and what there is to send: `change(seat, frame)` gives the frames that a seat hears in its place."""
        self.now_ns += TICK_NS
        for seat in self.seats:
            seat.replica.handle_timeout(self.now_ns)
            seat.send()
        self.authority.handle_timeout(self.now_ns)
        self.authority.tick(self.now_ns)
        by_link = {id(seat.link): seat for seat in self.seats if seat.link is not None}
        for link in list(self.authority.links):
            seat = by_link.get(id(link))
            while (transmit := self.authority.next_transmit(link, self.now_ns)) is not None:
                self.authority.record_sent(link, transmit, self.now_ns)
                if seat is None:
                    continue
                frame = b"".join(transmit.parts)
                seat.heard.append(frame)
                for one in [frame] if change is None else change(seat, frame):
                    seat.hear(one)
                seat.send()
        for link in self.authority.links_to_close():
            self.authority.close_link(link, self.now_ns)
            if link in self.links_of_strangers:
                self.links_of_strangers.remove(link)
            seat = by_link.get(id(link))
            if seat is not None:
                seat.link = None
                seat.replica.disconnected(self.now_ns)
        for seat in self.seats:
            if seat.link is not None and seat.replica.closing:
                self.authority.close_link(seat.link, self.now_ns)
                seat.link = None
                seat.replica.disconnected(self.now_ns)
            seat.settle()

    def check_witness(self, witness: Seat) -> None:
        """The witness is live, holds what the node holds, and each of its commands has had its effect once.

        Raises:
            WrongError: one of these is not so.
        """
        for _ in range(40):
            if witness.replica.version == self.authority.version and not witness.pending:
                break
            self.step()
        replica = witness.replica
        demand(replica.state == "live" and replica.error is None, f"the witness is {replica.state}: {replica.error}")
        demand(not witness.pending, "a command of the witness is not answered")
        with replica.view() as held, self.store.view() as true:
            demand(held._pin.digest() == true._pin.digest(), "the witness holds another world")
            counted = int(held[replica.entity, "tally.count"])
        demand(counted == witness.accepted, f"{witness.accepted} commands were accepted, and {counted} had an effect")

    def check_bounds(self) -> None:
        """Nothing piles up for anybody, and nobody ran into a bug.

        Raises:
            WrongError: something does, or somebody did.
        """
        demand(not self._bugs.found, f"a bug was caught: {self._bugs.found[:1]}")
        for link in self.authority.links:
            demand(link.control_bytes() <= 1 << 20, f"{link.control_bytes()} bytes wait for {link.peer}")
            demand(
                link.window.unacked_bytes <= 8 << 20, f"{link.window.unacked_bytes} bytes are unacked by {link.peer}"
            )

    def close(self) -> None:
        logging.getLogger("ecsnet").removeHandler(self._bugs)
        for seat in self.seats:
            seat.replica.release()
        self.authority.close()
        self.store.close()


def any_bytes(source: random.Random, length_max: int = 300) -> bytes:
    """Noise."""
    return source.randbytes(source.randrange(length_max))
