"""The node of a simulated run: one authority at a time, stepped once per tick.

A node that crashes loses everything, if its store is in memory. The one that starts in its place makes the world anew,
in an epoch of its own, and has never heard of any session. One with a disk (`node_disk`) leaves what was on that, and
the next goes on from there; whether nothing is missing that was promised is looked at each time.

Invariants: input is taken in at ticks, as the real node's hub does it; a paused node does nothing at all, and the ticks
it misses are dropped, never made up for.
"""

from collections.abc import Callable

import numpy as np

from ecsnet.auth.account import waits
from ecsnet.authority import Authority, Observer, TickReport
from ecsnet.errors import ArgumentError
from ecsnet.ids import Version
from ecsnet.sim.checkers import Checkers
from ecsnet.sim.connection import StreamConnection
from ecsnet.sim.datagram_connection import DatagramConnection
from ecsnet.sim.event_rows import EventsMade
from ecsnet.sim.node_disk import NodeDisk
from ecsnet.sim.owner import Owners
from ecsnet.sim.sight import WorldMade
from ecsnet.store import Store
from ecsnet.world import Client, World

Setup = Callable[[Store], None]
Connection = StreamConnection | DatagramConnection


class NodeSide:
    """See the file.

    Attributes:
        made_ns: when the tick that made a version began, by incarnation and version.
        touched: the tables that changed in it, likewise, by their ids.
    """

    def __init__(
        self,
        world: World,
        seed: str,
        setup: Setup | None,
        observer: Observer,
        checkers: Checkers,
        durability: str | None = None,
    ) -> None:
        self.world = world
        self.disk = None if durability is None else NodeDisk(durability, seed)
        self._checkers = checkers
        self.incarnation = 0
        self.made_ns: dict[int, dict[int, int]] = {}
        self.touched: dict[int, dict[int, tuple[int, ...]]] = {}
        self.connections: list[Connection] = []
        self.bytes_by_table: dict[int, int] = {}
        """Of the deltas from each version to the next, by the ids of tables."""
        self.paused_until_ns = 0
        self.ticks = 0
        self.ticks_dropped = 0
        self.version = 0
        """The newest published version; 0 while no node runs."""
        self.epoch = 0
        self.versions = 0
        """Made by all incarnations together."""
        self.authority: Authority | None = None
        self.store: Store | None = None
        self.last_epoch = 0
        """Of the node that runs or, while none does, of the one before."""
        self._lifted_at = 0
        """The newest version that was made while somebody had a budget."""
        self._lost_at: list[int] = []
        """Incarnations that began without something that players of the one before may have seen."""
        self._seed = seed
        self._setup = setup
        self._observer = observer
        self.events = EventsMade(world)
        """What the game said has happened, by epoch."""
        self.made = WorldMade(world)
        """What it had in each version, where players see only a part of it."""
        self.owners = Owners(world.schema, lambda what: checkers.violated("owner", what))

    @property
    def is_up(self) -> bool:
        return self.authority is not None

    def may_lose(self, incarnation: int) -> bool:
        """Whether a session that was live with this node may be gone: a node since then has lost what was seen."""
        lost = self._lost_at
        return any(one > incarnation for one in lost)

    def running(self) -> Authority:
        """The authority that runs now."""
        assert self.authority is not None, "the node is down"
        return self.authority

    def start(self, now_ns: int) -> None:
        """Start a node with a new, empty store, and set the world up."""
        assert self.authority is None
        self.incarnation += 1
        self.store = Store(self.world.schema) if self.disk is None else self.disk.open(self.world, now_ns)
        if self.incarnation > 1:
            if self.disk is None:
                self._lost_at.append(self.incarnation)
            else:
                self._look_at_what_is_left(self.disk, self.store)
        if self._setup is not None and self.store.version == 0:
            self._setup(self.store)
            # A world is not half made: nobody comes before it is safe.
            self.store.sync()
        hook = self.world.authenticate_hook
        if hook is not None and waits(hook):
            raise ArgumentError(f"authenticate {hook!r} waits, and a simulation has no loop; give it a plain function")
        digest = f"{self._seed}/node/{self.incarnation}".encode()
        self.authority = Authority(
            self.world, self.store, seed=int.from_bytes(digest, "little"), digest_every_version=True
        )
        self.authority.observer = self._observer
        self.version, self.epoch = self.authority.version, self.authority.epoch
        self.last_epoch = self.epoch
        self.made_ns[self.incarnation] = dict.fromkeys(range(self.authority.version + 1), now_ns)
        self.touched[self.incarnation] = {}
        self._note_view()

    def _look_at_what_is_left(self, disk: NodeDisk, store: Store) -> None:
        for checker, what in disk.differences(store, self.last_epoch):
            self._checkers.violated(checker, f"the node was started again: {what}")
        if disk.asked.seen > store.version:
            self._lost_at.append(self.incarnation)
        disk.recovered(store.version)
        with store.view() as view:
            rows = view["sessions"].to_dict()
        last = dict(zip(map(int, rows["session"]), map(int, rows["last_command"]), strict=True))
        self._checkers.restarted(last, lossy=disk.lossy)

    def crash(self, now_ns: int, *, power: bool = False) -> None:
        """The process is gone, or with `power` the machine. What its system still held for the players goes out; nobody
        says goodbye."""
        authority, store = self.authority, self.store
        assert authority is not None and store is not None
        self.authority = self.store = None
        self.version = self.epoch = 0
        for connection in self.connections:
            connection.node_crashed(now_ns)
        authority.close()
        if self.disk is None:
            store.close()
        else:
            self.disk.crash(store, power=power)

    def fail_disk(self, kind: str) -> None:
        """One of the next operations of the node's disk goes wrong; nothing happens where there is none."""
        if self.disk is not None:
            self.disk.fail(kind)

    def work(self, now_ns: int) -> None:
        """A round of what the store's own thread does otherwise; what became durable is told at once."""
        disk, authority = self.disk, self.authority
        if disk is None or authority is None:
            return
        disk.now_ns = now_ns
        disk.work(authority.store)
        before = self.version
        authority.handle_durable()
        if authority.version > before:
            self._note_version(authority, before, now_ns)

    def receive(self, now_ns: int) -> None:
        """Take in what has arrived, and do what is due by the clock."""
        authority = self.authority
        for connection in self.connections:
            if connection.up.next_ns <= now_ns or connection.is_ending or connection.datagrams:
                connection.node_receive(authority, now_ns)
        if authority is not None:
            due_ns = authority.next_timeout_ns()
            if due_ns is not None and due_ns <= now_ns:
                authority.handle_timeout(now_ns)

    def tick(self, now_ns: int) -> TickReport:
        """One tick of the game."""
        authority = self.running()
        if self.disk is not None:
            self.disk.now_ns = now_ns
            if self.disk.works_before_tick():
                self.work(now_ns)
        before = authority.version
        self.ticks += 1
        try:
            return authority.tick(now_ns)
        finally:
            if authority.version > before:
                self._note_version(authority, before, now_ns)
            if self.disk is not None and self.disk.works_after_tick():
                self.work(now_ns)

    def _note_version(self, authority: Authority, before: int, now_ns: int) -> None:
        weights = authority.store.kernel.block_tables(authority.block(Version(before)))
        tables = tuple(table for table, _ in weights)
        for table, length in weights:
            self.bytes_by_table[table] = self.bytes_by_table.get(table, 0) + length
        for version in range(before + 1, authority.version + 1):
            self.made_ns[self.incarnation][version] = now_ns
            self.touched[self.incarnation][version] = tables
        self.version = authority.version
        self.versions += self.version - before
        if self.disk is not None:
            with authority.store.view() as view:
                self.disk.digests[view.version] = view.digest()
        self._note_view()

    def _note_view(self) -> None:
        """What the newest version has, for those who compare."""
        authority = self.running()
        if not (self.events.tables or self.made.is_partial or self.owners.is_asked):
            return
        with authority.store.view() as view:
            if self.events.tables and self.version:
                self.events.note(self.epoch, view)
            if self.made.is_partial:
                self.made.note(self.epoch, view)
            if self.owners.is_asked:
                self.owners.note(view)

    def serve(self, now_ns: int) -> None:
        """Hand out what there is to say, and close what is to be closed."""
        authority = self.authority
        by_link = {connection.link.number: connection for connection in self.connections if connection.link is not None}
        if authority is not None:
            batch = authority.deltas_to_send(now_ns)
            self._note_sights()
            taken = []
            for number, link in enumerate(batch.links):
                connection = by_link[link.number]
                assert isinstance(connection, StreamConnection), "only a stream has a place"
                taken.append(connection.node_send(batch.frames(number), now_ns))
            authority.record_batch(batch, np.array(taken, np.int32), now_ns)
            for link in batch.rest:
                by_link[link.number].node_serve(authority, now_ns)
            for link in authority.links_to_close():
                connection = by_link[link.number]
                connection.node_flush(now_ns)
                authority.close_link(link, now_ns)
                connection.node_close(now_ns)
        for connection in self.connections:
            if connection.datagrams:
                connection.node_flush(now_ns)

    def lift_budgets(self) -> None:
        """From the next tick on nobody has one: what waits goes with its version."""
        if self.made.bound is None:
            return
        for client in self._clients():
            if client.budget_bytes_s is not None:
                client.budget_bytes_s = None
                self._lifted_at = self.running().store.kernel.head_version
        self.made.is_lifted = True

    @property
    def has_lifted_budgets(self) -> bool:
        """No client has one, and what waited for want of it was handed out, to those who could take it."""
        return self.made.bound is None or (
            self.made.is_lifted
            and self.version > self._lifted_at
            and all(client.budget_bytes_s is None for client in self._clients())
        )

    def _clients(self) -> list[Client]:
        links = [connection.link for connection in self.connections if connection.link is not None]
        return [link.client for link in links if link.client is not None]

    def _note_sights(self) -> None:
        """To whom the game has shown something by hand: what those see, no rule says."""
        if not self.made.rules:
            return
        for client in self._clients():
            if client._sight.focus is not None or client._sight.revealed:
                self.made.shown_by_hand.add(client.session)

    def close(self) -> None:
        """Let the store go."""
        if self.authority is not None and self.store is not None:
            self.authority.close()
            self.store.abandon()
        if self.disk is not None:
            self.disk.close()
