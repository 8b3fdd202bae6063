"""The node, the players and the network of the second simulation, while it runs.

What faults and scripts use of it is what they use of the cluster of cores (`ecsnet.sim.cluster`), under the same names.

Invariants:
- everything here belongs to Trio's thread, and every task is started in an order that the seed and the calls decide;
- a node that is gone is gone with its store; the next one makes the world anew, in an epoch of its own.
"""

from collections.abc import Callable
from pathlib import Path
from random import Random

import msgspec
import trio
from trio.testing import MockClock

from ecsnet.authority import TickReport
from ecsnet.errors import ArgumentError
from ecsnet.ids import Version
from ecsnet.limits import NS_PER_MS, NS_PER_S
from ecsnet.node import AuthoritativeNode
from ecsnet.sim.clock import START_NS
from ecsnet.sim.figures import LagFigures, lag_figures
from ecsnet.sim.profile import Direction, Profile
from ecsnet.sim.profile import profile as given_profile
from ecsnet.sim.trace import Trace
from ecsnet.sim.trio_hostile import TrioIntruder
from ecsnet.sim.trio_link import SimulatedWay, now_ns
from ecsnet.sim.trio_player import GOODBYE, Play, TrioPlayer
from ecsnet.store import Store
from ecsnet.world import World

PLAYERS_MAX = 200
"""Each costs four sockets, and a process may have 1024 descriptors on most systems."""

REST_S = 15.0
"""Virtual seconds in which everybody must agree once the network has healed. A stream that has lost its
retransmissions, too, waits longer and longer for the next, as TCP does, and knows nothing of the healing; its client
hears nothing for `SILENCE_NS_MAX` (10 s), gives it up, and joins anew over another."""


class TrioCluster:
    """See the file. Made by `run_in_trio`.

    Args:
        nursery: of everything that runs.
    """

    def __init__(
        self,
        world: World,
        line: Profile,
        seed: int,
        *,
        setup: Callable[[Store], None] | None,
        play: Play | None,
        clock: MockClock,
        nursery: trio.Nursery,
    ) -> None:
        self.world = world
        self.seed = seed
        self.profile = line
        """The one that the run began with."""
        self.players: list[TrioPlayer] = []
        """All that ever joined, in that order."""
        self.intruders: list[TrioIntruder] = []
        self.node: AuthoritativeNode | None = None
        """The node that runs now."""
        self.incarnation = 0
        """How many nodes there have been."""
        self.trace = Trace()
        self._setup = setup
        self._play = play
        self._clock = clock
        self._nursery = nursery
        self._store: Store | None = None
        self._pause_s = 0.0
        # When the tick that made a version began, by incarnation and version.
        self._made_ns: dict[int, dict[int, int]] = {}
        self._failures: list[str] = []
        # By version of the node that runs, from when the run comes to rest.
        self._digests: dict[Version, str] | None = None

    @property
    def now_ns(self) -> int:
        """Virtual time."""
        return now_ns()

    @property
    def now_s(self) -> float:
        """Virtual seconds since the run began."""
        return (now_ns() - START_NS) / NS_PER_S

    def note(self, text: str) -> None:
        """Something that decides the course goes into the trace."""
        self.trace.note(now_ns(), text)

    # --- who takes part ----------------------------------------------------------------------------------------------

    def join(self, name: str | None = None) -> TrioPlayer:
        """Another player comes.

        Raises:
            ArgumentError: the name is taken, or there are as many as there may be.
        """
        number = len(self.players)
        if number >= PLAYERS_MAX:
            raise ArgumentError(f"{number} players have joined, which is all a run under Trio may have")
        name = f"client-{number}" if name is None else name
        if any(player.name == name for player in self.players):
            raise ArgumentError(f"a player is called {name!r} already; names are seeds of generators, each its own")
        player = TrioPlayer(number, name, str(self.seed), self._way(name, number))
        self.players.append(player)
        self.note(f"join {name}")
        # Now and then one that has to learn the schema from the node.
        knows = None if number % 5 == 4 else self.world
        self._nursery.start_soon(player.live, knows, 1 / self.world.hz, self._play_one)
        return player

    def leave(self, player: TrioPlayer) -> None:
        """The player says goodbye, and does not come back."""
        self.note(f"leave {player.name}")
        player.leave()

    def join_hostile(self) -> TrioIntruder:
        """A client that sends whatever it likes."""
        number = len(self.intruders)
        name = f"hostile-{number}"
        random = Random(f"{self.seed}/{name}")
        intruder = TrioIntruder(name, self._way(name, PLAYERS_MAX + number), random, self.world)
        self.intruders.append(intruder)
        self.note(f"join {name}")
        self._nursery.start_soon(intruder.run)
        return intruder

    def _way(self, name: str, number: int) -> SimulatedWay:
        return SimulatedWay(
            name,
            number,
            self.profile,
            str(self.seed),
            node=lambda: (self.node, self.incarnation),
            nursery=self._nursery,
            trace=self.trace,
        )

    def _play_one(self, player: TrioPlayer) -> None:
        if self._play is not None:
            try:
                self._play(player)
            except BaseException:
                # While this one parts from the node, the others would run into the same.
                self._play = None
                raise

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    def cut(self, player: TrioPlayer | None = None, *, down: bool = True, up: bool = True) -> None:
        """Nothing comes through any more, in the given directions, and what is under way waits; None is every
        player."""
        for one in self._some(player):
            self.note(f"cut {one.name} {down:d}{up:d}")
            one.way.cut(down=down, up=up)

    def heal(self, player: TrioPlayer | None = None) -> None:
        """The end of `cut`."""
        for one in self._some(player):
            self.note(f"heal {one.name}")
            one.way.heal()

    def drop(self, player: TrioPlayer) -> None:
        """The player's connection breaks at both ends; it comes back by itself."""
        self.note(f"drop {player.name}")
        player.way.drop()

    def change_profile(self, player: TrioPlayer | None, profile: str | Path | Profile | None) -> None:
        """Another line from now on; None is the one that the run began with.

        Raises:
            ConfigError, UnknownNameError: there is no such profile.
        """
        wanted = self.profile if profile is None else given_profile(profile)
        for one in self._some(player):
            self.note(f"profile {one.name} {wanted.name}")
            one.way.change(wanted)

    def pause_node(self, seconds: float) -> None:
        """The node's next tick takes so long. Its thread is that of everybody here, so the players stand still
        meanwhile, too, and only the network goes on."""
        self.note(f"pause node {seconds}")
        self._pause_s = max(self._pause_s, seconds)

    def crash_node(self, down_s: float = 0.5) -> None:
        """The node ends without a word, and another one starts after `down_s`. Does nothing while it is down."""
        if self.node is None:
            return
        self.note(f"crash node {down_s}")
        self._note_failures(self.node)
        self._nursery.start_soon(self._restart, self.node, self._take_node_away(), down_s)

    def _some(self, player: TrioPlayer | None) -> list[TrioPlayer]:
        return [one for one in self.players if not one.gone] if player is None else [player]

    # --- the node ----------------------------------------------------------------------------------------------------

    async def start_node(self) -> None:
        """Start a node with a store of its own, and set the world up."""
        assert self.node is None
        self.incarnation += 1
        self.note(f"start node {self.incarnation}")
        self._store = store = Store(self.world.schema)
        if self._setup is not None:
            self._setup(store)
        seed = int.from_bytes(f"{self.seed}/node/{self.incarnation}".encode(), "little")
        node = AuthoritativeNode(self.world, store=store, on_tick=self._ticked, clock=now_ns, seed=seed)
        node.authority.digest_every_version = True
        self._made_ns[self.incarnation] = dict.fromkeys(range(node.authority.version + 1), now_ns())
        self.node = node
        await self._nursery.start(node.run)

    async def shut_down(self) -> int:
        """End the node as an operator would; how many of those who were there were told."""
        assert self.node is not None
        node, store = self.node, self._take_node_away()
        node.stop(GOODBYE)
        await node.wait_stopped()
        store.close()
        with trio.move_on_after(REST_S):
            while any(player.is_live for player in self.players):
                await trio.sleep(1 / self.world.hz)
        return sum(player.was_told_goodbye for player in self.players if not player.gone)

    def _take_node_away(self) -> Store:
        assert self._store is not None
        store, self._store, self.node = self._store, None, None
        return store

    def _note_failures(self, node: AuthoritativeNode) -> None:
        """A node survives a bug of its own by closing a connection; a simulation does not pass over it."""
        if failed := node.statistics().connections_failed:
            self._failures.append(f"node {self.incarnation} found {failed} bugs of its own; the log has them")

    async def _restart(self, node: AuthoritativeNode, store: Store, down_s: float) -> None:
        began = trio.current_time()
        node.cut()
        await node.wait_stopped()
        store.close()
        await trio.sleep_until(began + down_s)
        await self.start_node()

    def _ticked(self, report: TickReport, started_ns: int) -> None:
        if report.version is not None:
            made_ns = self._made_ns[self.incarnation]
            for version in range(max(made_ns) + 1, report.version + 1):
                made_ns[version] = started_ns
            self._keep_digest()
        if self._pause_s:
            pause_s, self._pause_s = self._pause_s, 0.0
            self._clock.jump(pause_s)

    def _keep_digest(self) -> None:
        if self._digests is not None and self._store is not None:
            with self._store.view() as view:
                self._digests[view.version] = view.digest(wire=True)

    # --- how it ends -------------------------------------------------------------------------------------------------

    async def rest(self) -> tuple[str, ...]:
        """Heal the network, stop the games, and wait until everybody holds what the node holds; who does not after
        `REST_S`, and why.

        The world goes on, so nobody need hold the newest version: one that was made after all was healed will do."""
        self.note("rest")
        if self.node is not None:
            self._note_failures(self.node)
        self._play = None
        for intruder in self.intruders:
            intruder.stop()
        self.change_profile(
            None, msgspec.structs.replace(self.profile, down=_calm(self.profile.down), up=_calm(self.profile.up))
        )
        self.heal()
        while self.node is None:
            # One that crashed a moment ago is on its way.
            await trio.sleep(1 / self.world.hz)
        self._digests = {}
        self._keep_digest()
        head = self.node.authority.version
        reasons: tuple[str, ...] = ()
        for _ in range(round(REST_S * self.world.hz)):
            reasons = tuple(reason for player in self.players if (reason := self._difference(player, head)))
            if not reasons:
                break
            await trio.sleep(1 / self.world.hz)
        return (*self._failures, *reasons)

    def _difference(self, player: TrioPlayer, head: Version) -> str | None:
        assert self.node is not None and self._digests is not None
        name, epoch = player.name, self.node.authority.epoch
        if player.violation:
            return f"{name} {player.violation}"
        if player.gone:
            return None
        if player.leaving:
            return f"{name} has not finished leaving"
        if not player.is_live:
            return f"{name} is {player.state}"
        if player.epoch != epoch:
            return f"{name} holds a world of epoch {player.epoch}, the node is in {epoch}"
        if player.version < head:
            return f"{name} holds version {player.version}, the node held {head} when it came to rest"
        theirs, ours = player.view.digest(), self._digests[player.version]
        if theirs != ours:
            return f"{name} has digest {theirs} of version {player.version}, the node {ours}"
        return None

    def digest(self) -> str:
        """Of what the node holds: 32 hex digits."""
        assert self._store is not None
        with self._store.view() as view:
            return view.digest(wire=True)

    def lag(self) -> LagFigures:
        """As the cluster of cores counts it: a version that was skipped came with the one that covers it, and what was
        made before a player's first look nobody waited for."""
        samples: list[float] = []
        for player in self.players:
            before = (0, 0)
            for when_ns, incarnation, version in player.applied:
                first = before[1] + 1 if before[0] == incarnation else version
                before = (incarnation, version)
                made_ns = self._made_ns[incarnation]
                samples += [(when_ns - made_ns[one]) / NS_PER_MS for one in range(first, version + 1)]
        return lag_figures(samples)


def _calm(direction: Direction) -> Direction:
    """The same line without outages: a player in a tunnel is not yet where all is well."""
    return msgspec.structs.replace(direction, outage_every_s=0.0, outage_s=0.0)
