"""Several authorities over one set of tables, and links between them that are slow and break. In virtual time."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ecsnet import Transaction, World
from ecsnet.authority import Authority, PeeringSettings, PeerLink
from ecsnet.schema import Schema, loads
from ecsnet.store import Store
from ecsnet.wire.framing import split_frames_untrusted

SCHEMA = loads("""
[database]
name = "shared"
version = "1.0.0"

[tables.note]
primary_key = "name"
conflict = "lww"
fields = [
  { name = "name", type = "string[16]" },
  { name = "text", type = "string[40]", default = "" },
  { name = "count", type = "i32", default = 0 },
]
""")

HZ = 50
TICK_NS = 1_000_000_000 // HZ
FRAME_BYTES_MAX = 1 << 20

Act = Callable[[Transaction], object]


class Node:
    """One authority, and what it is to do in its next tick."""

    def __init__(
        self,
        number: int,
        *,
        relays: bool = False,
        secret: bytes = b"",
        store: Store | None = None,
        schema: Schema = SCHEMA,
        behind_ms: int = 0,
    ) -> None:
        self.world = World(schema, hz=HZ)
        self.todo: list[Act] = []
        self.behind_ms = behind_ms

        @self.world.system
        def act(tx: Transaction) -> None:
            todo, self.todo = self.todo, []
            for one in todo:
                one(tx)

        settings = PeeringSettings(number, secret=secret, relays=relays, name=f"node-{number}")
        self.authority = Authority(self.world, store, seed=number, peering=settings)
        assert self.authority.peering is not None
        self.peering = self.authority.peering

    def put(self, name: str, **cells: Any) -> None:
        """Insert the row, or change it, in the next tick."""

        def act(tx: Transaction) -> None:
            key = tx.find("note.name", name)
            if key is None:
                tx.insert("note", {"name": name, **cells})
            else:
                tx.update(key, "note", **cells)

        self.todo.append(act)

    def drop(self, name: str) -> None:
        """Delete the row, if it is there then."""

        def act(tx: Transaction) -> None:
            key = tx.find("note.name", name)
            if key is not None:
                tx.delete(key, "note")

        self.todo.append(act)

    def rows(self) -> dict[str, tuple[str, int]]:
        with self.authority.store.view() as view:
            notes = view["note"]
            columns = (notes["name"], notes["text"], notes["count"])
            return {str(name): (str(text), int(count)) for name, text, count in zip(*columns, strict=True)}


@dataclass
class Wire:
    """A connection between two nodes: bytes arrive whole and in order, late, or not any more."""

    ends: tuple[Node, Node]
    links: tuple[PeerLink, PeerLink]
    delay: tuple[int, int]
    flying: tuple[deque[tuple[int, bytes]], deque[tuple[int, bytes]]] = field(
        default_factory=lambda: (deque(), deque())
    )


class Peers:
    """Nodes in step, on wires that only this knows to be none.

    `delay` is in ticks, from and to; `jitter` draws each frame's own, in order all the same.
    """

    def __init__(self, *nodes: Node, seed: int = 1, delay: tuple[int, int] = (1, 1)) -> None:
        self.nodes = nodes
        self.random = random.Random(seed)
        self.delay = delay
        self.tick = 0
        self.wires: dict[tuple[int, int], Wire] = {}

    @property
    def now_ns(self) -> int:
        return self.tick * TICK_NS

    def connect(self, a: int, b: int, *, delay: tuple[int, int] | None = None) -> Wire:
        here, there = self.nodes[a], self.nodes[b]
        name = f"wire {a}-{b}"
        links = (
            here.peering.open_link(self.now_ns, address=name, dialled=True),
            there.peering.open_link(self.now_ns, address=name, dialled=False),
        )
        wire = self.wires[a, b] = Wire((here, there), links, delay or self.delay)
        return wire

    def connect_all(self) -> None:
        for a in range(len(self.nodes)):
            for b in range(a + 1, len(self.nodes)):
                self.connect(a, b)

    def cut(self, a: int, b: int) -> None:
        """The connection is gone, and with it what was on its way."""
        wire = self.wires.pop((a, b), None)
        if wire is not None:
            for node, link in zip(wire.ends, wire.links, strict=True):
                node.peering.close_link(link)

    def step(self, ticks: int = 1) -> None:
        for _ in range(ticks):
            self.tick += 1
            for wire in self.wires.values():
                self._deliver(wire)
            for node in self.nodes:
                node.peering.tell_time(1_700_000_000_000 + self.tick * 1000 // HZ - node.behind_ms)
                node.authority.tick(self.now_ns)
                if node.authority.store.disk is not None:
                    # Time stands still meanwhile: how quick a disk is must not decide what a peer was told.
                    node.authority.store.sync()
                    node.authority.handle_durable()
                node.peering.handle_timeout(self.now_ns)
            for wire in self.wires.values():
                self._collect(wire)
            for names, wire in list(self.wires.items()):
                if any(link in node.peering.links_to_close() for node, link in zip(wire.ends, wire.links, strict=True)):
                    self._deliver(wire, everything=True)
                    self.cut(*names)

    def _deliver(self, wire: Wire, *, everything: bool = False) -> None:
        for side, flying in enumerate(wire.flying):
            node, link = wire.ends[1 - side], wire.links[1 - side]
            while flying and (everything or flying[0][0] <= self.tick):
                _, data = flying.popleft()
                for frame in split_frames_untrusted(data, FRAME_BYTES_MAX):
                    node.peering.receive_frame(link, frame.kind, frame.payload, self.now_ns)

    def _collect(self, wire: Wire) -> None:
        for node, link, flying in zip(wire.ends, wire.links, wire.flying, strict=True):
            for data in node.peering.frames_to_send(link, self.now_ns):
                due = self.tick + self.random.randint(*wire.delay)
                flying.append((max(due, flying[-1][0] if flying else 0), data))

    def agree(self) -> bool:
        """Whether all hold the same."""
        return len({node.peering.digest() for node in self.nodes}) == 1

    def settle(self, ticks: int = 10 * HZ) -> int:
        """Step until all hold the same for a while; how many ticks that took."""
        for taken in range(ticks):
            self.step()
            if (
                self.agree()
                and not any(node.todo for node in self.nodes)
                and not any(flying for wire in self.wires.values() for flying in wire.flying)
            ):
                return taken
        raise AssertionError([node.rows() for node in self.nodes])

    def close(self) -> None:
        for node in self.nodes:
            node.authority.close()
