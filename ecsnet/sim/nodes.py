"""Several nodes that write the same tables, in virtual time, on simulated lines, from one seed: `ecsnet sim --nodes 3`.

Each node is an authority with a store of its own. Their tables are written by all of them: in each tick a node counts
its own beat, and says beside it which beats of the others it sees; and it writes, and deletes, notes that the others
write, too. Lines break, nodes are killed and begin anew, with a disk or without one, and their clocks are not the same.

    step:  what arrived is handed in  →  each node: its tick  →  what it has to say goes on its lines  →  broken lines
           are dialled again

What must hold is in `nodes_checker.py`.

Invariants: equal arguments give equal runs, `trace_hash` says so; checkers change nothing.
"""

from collections import deque
from random import Random
from typing import Final

from ecsnet.authority import Authority, Peering, PeeringSettings, PeerLink
from ecsnet.authority.peer_link import LinkState
from ecsnet.errors import ArgumentError, RemoteProtocolError
from ecsnet.limits import MESSAGE_TO_CLIENT_BYTES_MAX, NS_PER_MS, NS_PER_S, PEERS_MAX
from ecsnet.schema import loads
from ecsnet.sim.clock import START_NS, seconds
from ecsnet.sim.link import StreamPath, stream_paths
from ecsnet.sim.node_disk import NodeDisk
from ecsnet.sim.nodes_checker import FIELDS, NodesChecker
from ecsnet.sim.profile import Profile
from ecsnet.sim.recording import Violation
from ecsnet.sim.scenario import NODES_MAX
from ecsnet.sim.trace import Trace
from ecsnet.store import Store, Transaction
from ecsnet.wire.framing import FrameReader
from ecsnet.world import World

__all__ = ["HZ", "SharedRun"]

SCHEMA: Final = loads("""
[database]
name = "shared"
version = "1.0.0"

[tables.beat]
primary_key = "node"
conflict = "lww"
fields = [
  { name = "node", type = "u64" },
  { name = "count", type = "u32", default = 0 },
  { name = "seen", type = "[u32; 8]", default = [0, 0, 0, 0, 0, 0, 0, 0] },  # NODES_MAX of them
]

[tables.note]
primary_key = "name"
conflict = "lww"
fields = [
  { name = "name", type = "u32" },
  { name = "text", type = "u64", default = 0 },
  { name = "mark", type = "u64", default = 0 },
]
""")

HZ: Final = 30
assert NODES_MAX <= PEERS_MAX

NOTES: Final = 12
WRITES_PER_S: Final = 4.0
DELETE_SHARE: Final = 0.2
"""Of what a node does to a note."""

WELL_SHARE: Final = 0.2
"""Of the runs, those in which nothing goes wrong: a link that is told everything anew mends more than it should."""

BREAKS_PER_S: Final = 0.08
CUTS_PER_S: Final = 0.05
CUT_S: Final = (0.2, 14.0)
"""Beyond ten seconds both ends take the other for gone."""

KILLS_PER_S: Final = 0.02
DOWN_S: Final = (0.1, 3.0)
HAS_DISKS: Final = 0.7
"""Of the runs, those in which a node that is killed goes on from where it was."""

OFFSET_MS: Final = 500
"""By how much the clock of a node is off, at most."""

DIAL_AGAIN_NS: Final = NS_PER_S // 2
REST_S: Final = 30.0
"""In which all must agree once all is well again: a silent link is noticed after ten seconds, and one who waits for
what does not come asks for everything after five."""

UNIX_MS: Final = 1_700_000_000_000


class Node:
    """One authority, killed now and then; the next one has its number, and its disk if there is one."""

    def __init__(self, number: int, run: "SharedRun", random: Random) -> None:
        self.number = number
        self.random = random
        self.offset_ms = random.randint(-OFFSET_MS, OFFSET_MS)
        self.disk = NodeDisk("strict", f"{run.seed}/{number}") if run.has_disks else None
        self.lives = 0
        self.beat = 0
        """Of all its lives."""
        self.up_at_ns: int | None = None
        self.authority: Authority | None = None
        self.store: Store | None = None
        self._run = run
        self.world = World(SCHEMA, hz=HZ, on_error="raise")
        self.world.system(self.write)

    @property
    def peering(self) -> Peering:
        assert self.authority is not None and self.authority.peering is not None
        return self.authority.peering

    def start(self, now_ns: int) -> None:
        self.lives += 1
        self.up_at_ns = None
        self.store = Store(SCHEMA) if self.disk is None else self.disk.open(self.world, now_ns)
        settings = PeeringSettings(self.number, secret=b"of our nodes", relays=self._run.relays)
        seed = self.number << 32 | self.lives
        self.authority = Authority(self.world, self.store, seed=seed, peering=settings)
        if self.lives > 1 and self.disk is not None:
            with self.store.view() as view:
                self._run.checker.recovered(self.number, view)

    def kill(self, power: bool) -> None:
        authority, store = self.authority, self.store
        assert authority is not None and store is not None
        self.authority = self.store = None
        authority.close()
        if self.disk is None:
            store.close()
        else:
            self.disk.crash(store, power=power)

    def tick(self, now_ns: int) -> None:
        assert self.authority is not None
        unix_ms = UNIX_MS + (now_ns - START_NS) // NS_PER_MS + self.offset_ms
        self.peering.tell_time(unix_ms)
        if self.disk is not None:
            self.disk.now_ns = now_ns
            self.authority.store.work()
            self.authority.handle_durable()
        self.authority.tick(now_ns)
        self.peering.handle_timeout(now_ns)

    def write(self, tx: Transaction) -> None:
        """What it does in a tick."""
        checker, random = self._run.checker, self.random
        if self._run.resting:
            return
        self.beat += 1
        (rows,) = tx.query("beat")
        beats = dict(zip(rows.node.tolist(), rows["count"].tolist(), strict=True))
        beats[self.number] = self.beat
        seen = [beats.get(number, 0) for number in range(1, NODES_MAX + 1)]
        key = tx.find("beat.node", self.number)
        if key is None:
            tx.insert("beat", {"node": self.number, "count": self.beat, "seen": seen})
        else:
            tx.update(key, "beat", count=self.beat, seen=seen)
        if random.random() >= WRITES_PER_S / HZ:
            return
        name = random.randrange(NOTES)
        key = tx.find("note.name", name)
        if key is not None and random.random() < DELETE_SHARE:
            tx.delete(key, "note")
            checker.wrote(self.number, name, FIELDS, seen, deleted=True)
        elif key is None:
            number = checker.wrote(self.number, name, FIELDS, seen)
            tx.insert("note", {"name": name, "text": number, "mark": number})
        else:
            field = random.choice(FIELDS)
            tx.update(key, "note", **{field: checker.wrote(self.number, name, (field,), seen)})


class End:
    """One node's end of a line."""

    def __init__(self, node: Node, link: PeerLink, out: StreamPath, into: StreamPath) -> None:
        self.node = node
        self.link = link
        self.life = node.lives
        self.reader = FrameReader(MESSAGE_TO_CLIENT_BYTES_MAX)
        self.out = out
        self.into = into
        self.unsent: deque[bytes] = deque()
        self.over = False
        self.closed = False

    def lose(self) -> None:
        """The transport is gone."""
        self.over = True
        if self.node.lives == self.life and self.node.authority is not None:
            self.node.peering.close_link(self.link)


class Line:
    """A connection between two nodes, at most one at a time."""

    def __init__(self, ends: tuple[Node, Node], profile: Profile, seed: str) -> None:
        self.ends = ends
        self.cut_until_ns = 0
        self.is_cut = False
        self.dial_at_ns = 0
        self.opened = 0
        self.open: tuple[End, End] | None = None
        self._profile = profile
        self._seed = seed

    def dial(self, now_ns: int) -> None:
        """Both nodes run: connect them."""
        self.opened += 1
        there, back = stream_paths(self._profile, f"{self._seed}/{self.opened}")
        links = [
            node.peering.open_link(now_ns, address=f"line {self._seed}", dialled=side == 0)
            for side, node in enumerate(self.ends)
        ]
        self.open = (End(self.ends[0], links[0], there, back), End(self.ends[1], links[1], back, there))
        if self.is_cut:
            there.cut(now_ns)
            back.cut(now_ns)

    def cut(self, now_ns: int, until_ns: int) -> None:
        """Nothing goes through; both ends believe that the other is there."""
        self.is_cut, self.cut_until_ns = True, until_ns
        for end in self.open or ():
            end.out.cut(now_ns)

    def heal(self, now_ns: int) -> None:
        self.is_cut = False
        for end in self.open or ():
            end.out.heal(now_ns)

    def lose(self, now_ns: int) -> None:
        """The connection breaks at both ends, with what is on it."""
        for end in self.open or ():
            if not end.over:
                end.lose()
            end.out.abort()
        self.open, self.dial_at_ns = None, now_ns + DIAL_AGAIN_NS


class SharedRun:
    """See the file.

    Args:
        nodes: how many, from 2 on.
        profile: of the lines between them.

    Raises:
        ArgumentError: so many nodes make no run.
    """

    def __init__(self, nodes: int, profile: Profile, seed: int, *, faults: bool) -> None:
        if not 2 <= nodes <= NODES_MAX:
            raise ArgumentError(f"nodes is {nodes}; it must be in [2, {NODES_MAX}]")
        self.seed = seed
        self.random = Random(f"{seed}/nodes")
        self.relays = self.random.random() < 0.5
        self.has_disks = self.random.random() < HAS_DISKS
        self.violations: list[Violation] = []
        self.ticks = 0
        self.now_ns = START_NS
        self.resting = False
        self.faults: dict[str, int] = {}
        self.checker = NodesChecker(NODES_MAX, self._violated)
        self._faulty = faults and self.random.random() >= WELL_SHARE
        self._trace = Trace()
        self.nodes = [Node(number, self, Random(f"{seed}/node/{number}")) for number in range(1, nodes + 1)]
        for node in self.nodes:
            node.start(self.now_ns)
        pairs = [(a, b) for a in range(nodes) for b in range(a + 1, nodes)]
        if self.relays:
            pairs = [(a, a + 1) for a in range(nodes - 1)]
        self.lines = [Line((self.nodes[a], self.nodes[b]), profile, f"{seed}/line/{a}/{b}") for a, b in pairs]

    # --- what came of it ----------------------------------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        """Virtual seconds since the beginning."""
        return seconds(self.now_ns)

    @property
    def trace_hash(self) -> str:
        """Over every frame that arrived, when, and every fault."""
        return self._trace.hexdigest()

    @property
    def links_opened(self) -> int:
        """Connections, all lines together."""
        return sum(line.opened for line in self.lines)

    @property
    def versions(self) -> int:
        """Of the nodes that run, all together."""
        return sum(node.authority.version for node in self.nodes if node.authority is not None)

    def digest(self) -> str:
        """Of what the first node holds of the tables that all write."""
        return self.nodes[0].peering.digest().hex() if self.nodes[0].authority is not None else ""

    # --- time goes on -------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """One tick of all nodes."""
        self.ticks += 1
        self.now_ns = START_NS + self.ticks * NS_PER_S // HZ
        if self._faulty and not self.resting:
            self._go_wrong()
        for line in self.lines:
            if line.is_cut and line.cut_until_ns <= self.now_ns:
                line.heal(self.now_ns)
            self._deliver(line)
        for node in self.nodes:
            if node.up_at_ns is not None and node.up_at_ns <= self.now_ns:
                node.start(self.now_ns)
            if node.authority is None:
                continue
            node.tick(self.now_ns)
            self.checker.looked(node.number, node.peering, self.now_ns)
            with node.authority.store.view() as view:
                self.checker.read(node.number, view)
        for line in self.lines:
            self._send(line)
            if line.open is None and line.dial_at_ns <= self.now_ns and all(one.authority for one in line.ends):
                line.dial(self.now_ns)

    def rest(self) -> bool:
        """Whether all come to hold the same once nothing goes wrong any more and nobody writes."""
        self.resting = True
        for line in self.lines:
            line.heal(self.now_ns)
        for node in self.nodes:
            if node.up_at_ns is not None:
                node.up_at_ns = self.now_ns
        until_ns = self.now_ns + round(REST_S * NS_PER_S)
        while self.now_ns < until_ns:
            self.step()
            if self._agree():
                break
        agree = self._agree()
        if not agree:
            held = ", ".join(f"{node.number}: {node.peering.digest().hex()[:8]}" for node in self.nodes)
            self._violated("converged", f"{REST_S:g} s after all had healed the nodes hold {held}")
        else:
            for node in self.nodes:
                assert node.authority is not None
                with node.authority.store.view() as view:
                    self.checker.at_rest(node.number, view)
        return agree

    def close(self) -> None:
        """Let all stores go."""
        for node in self.nodes:
            if node.authority is not None and node.store is not None:
                node.authority.close()
                if node.disk is None:
                    node.store.close()
                else:
                    node.store.abandon()
            if node.disk is not None:
                node.disk.close()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _violated(self, checker: str, what: str) -> None:
        self.violations.append(Violation(checker, self.ticks, what))

    def _agree(self) -> bool:
        """Whether all hold the same, and nothing waits to be taken in."""
        return len({node.peering.digest() for node in self.nodes if node.authority is not None}) == 1 and all(
            node.authority is not None and node.peering.statistics().waiting_frames == 0 for node in self.nodes
        )

    def _go_wrong(self) -> None:
        random = self.random
        for line in self.lines:
            if random.random() < BREAKS_PER_S / HZ and line.open is not None:
                self._count("drop", f"{line.ends[0].number}-{line.ends[1].number}")
                line.lose(self.now_ns)
            if random.random() < CUTS_PER_S / HZ and not line.is_cut:
                self._count("partition", f"{line.ends[0].number}-{line.ends[1].number}")
                line.cut(self.now_ns, self.now_ns + round(random.uniform(*CUT_S) * NS_PER_S))
        for node in self.nodes:
            if random.random() < KILLS_PER_S / HZ and node.authority is not None:
                power = random.random() < 0.5
                self._count("power_loss" if power else "node_crash", str(node.number))
                node.kill(power)
                node.up_at_ns = self.now_ns + round(random.uniform(*DOWN_S) * NS_PER_S)
                if node.disk is None:
                    self.checker.forgot()
                for line in self.lines:
                    if node in line.ends:
                        line.lose(self.now_ns)

    def _count(self, fault: str, who: str) -> None:
        self.faults[fault] = self.faults.get(fault, 0) + 1
        self._trace.note(self.now_ns, f"{fault} {who}")

    def _deliver(self, line: Line) -> None:
        for end in line.open or ():
            if end.over:
                continue
            for when_ns, data in end.into.receive(self.now_ns):
                self._trace.arrived(when_ns, end.node.number, end.link.node, data)
                try:
                    end.reader.feed(data)
                    while (frame := end.reader.next_frame()) is not None:
                        end.node.peering.receive_frame(end.link, frame.kind, frame.payload, self.now_ns)
                except RemoteProtocolError as error:
                    end.node.peering.receive_error(end.link, error)
            if end.into.ended(self.now_ns):
                end.lose()
                end.out.close(self.now_ns)

    def _send(self, line: Line) -> None:
        for end in line.open or ():
            if end.over:
                continue
            end.unsent += end.node.peering.frames_to_send(end.link, self.now_ns)
            while end.unsent and end.out.send(end.unsent[0], self.now_ns):
                end.unsent.popleft()
            if end.link.state is LinkState.CLOSED:
                end.out.close(self.now_ns)
                end.lose()
        if line.open is not None and all(end.over for end in line.open):
            line.lose(self.now_ns)
