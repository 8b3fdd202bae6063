"""The second simulation: the real node and real clients under Trio, in virtual time, on simulated streams, from a seed.

The cluster (`ecsnet.sim.cluster`) steps the cores alone, which is exact and fast, and says nothing of the code around
them: the hub and the tasks of a node, half-written frames, the ticker, reconnecting, parting. Here all of it runs as it
is, but for the network between two socket pairs (`trio_link`), the clock, and the scheduler's dice (`trio_seeding`).

Invariants:
- equal arguments and equal code of the game give equal runs, in any process of one machine: `trace_hash` says so. How
  much a full socket takes is the system's to decide, so another kernel may go another way from there;
- each run begins by showing that the seed governs the scheduler.
"""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import trio
from trio.testing import MockClock

from ecsnet.authority import TickReport
from ecsnet.errors import ArgumentError, NotBuiltError
from ecsnet.ids import Version
from ecsnet.limits import NS_PER_MS, NS_PER_S
from ecsnet.node import AuthoritativeNode
from ecsnet.node.waiting import unwrapping
from ecsnet.sim.clock import START_NS
from ecsnet.sim.figures import LagFigures, lag_figures
from ecsnet.sim.profile import Profile
from ecsnet.sim.profile import profile as given_profile
from ecsnet.sim.trace import Trace
from ecsnet.sim.trio_link import SimulatedWay, now_ns
from ecsnet.sim.trio_player import GOODBYE, Play, name_of
from ecsnet.sim.trio_player import TrioPlayer as TrioPlayer
from ecsnet.sim.trio_seeding import SeedingError as SeedingError
from ecsnet.sim.trio_seeding import check_seeding as check_seeding
from ecsnet.sim.trio_seeding import deterministic_trio as deterministic_trio
from ecsnet.store import Store
from ecsnet.world import World

CLIENTS_MAX = 200
"""Each costs four sockets, and a process may have 1024 descriptors on most systems."""

SECONDS_MAX = 86_400.0
"""A day."""

REST_S = 5.0
"""Virtual seconds in which everybody must agree once the network has healed."""

Script = Callable[["TrioCluster"], Awaitable[None]]
"""What goes wrong, and when: runs beside the players, in virtual time, until the run comes to rest."""


class TrioOutcome(msgspec.Struct, frozen=True):
    """What a run came to. Times are virtual."""

    converged: bool
    reasons: tuple[str, ...]
    """Why not, one for each player that differs."""
    digest: str
    """Of what the node holds at the end: 32 hex digits."""
    trace_hash: str
    seed: int
    profile: str
    clients: int
    virtual_s: float
    version: int
    ticks: int
    """Of the node that ran last, as `ticks_dropped`."""
    ticks_dropped: int
    reconnects: int
    """Sessions of all players after their first."""
    goodbyes: int
    """Players that were told when the node shut down at the end."""
    lag: LagFigures


class TrioCluster:
    """A running simulation, as a script sees it. Made by `run_in_trio`; its methods belong to Trio's thread."""

    def __init__(
        self,
        world: World,
        clients: int,
        line: Profile,
        seed: int,
        setup: Callable[[Store], None] | None,
        clock: MockClock,
        nursery: trio.Nursery,
    ) -> None:
        self.world = world
        self.seed = seed
        self.node: AuthoritativeNode | None = None
        """The node that runs now."""
        self.incarnation = 0
        """How many nodes there have been."""
        self.trace = Trace()
        self._line = line
        self._setup = setup
        self._clock = clock
        self._nursery = nursery
        self._store: Store | None = None
        self._pause_s = 0.0
        # When the tick that made a version began, by incarnation and version.
        self._made_ns: dict[int, dict[int, int]] = {}
        # By version of the node that runs, from when the run comes to rest.
        self._digests: dict[Version, str] | None = None
        self.players = [
            TrioPlayer(
                number,
                str(seed),
                SimulatedWay(
                    name_of(number),
                    number,
                    line,
                    str(seed),
                    node=lambda: (self.node, self.incarnation),
                    nursery=nursery,
                    trace=self.trace,
                ),
            )
            for number in range(1, clients + 1)
        ]

    @property
    def now_s(self) -> float:
        """Virtual seconds since the run began."""
        return (now_ns() - START_NS) / NS_PER_S

    # --- faults ------------------------------------------------------------------------------------------------------

    def cut(self, player: TrioPlayer, *, down: bool = True, up: bool = True) -> None:
        """Nothing comes through any more; what is under way waits."""
        self._note(f"cut {player.name} {down} {up}")
        player.way.cut(down=down, up=up)

    def heal(self, player: TrioPlayer | None = None) -> None:
        """The end of `cut`, for one or for all."""
        for one in self.players if player is None else [player]:
            self._note(f"heal {one.name}")
            one.way.heal()

    def drop(self, player: TrioPlayer) -> None:
        """The player's connection breaks at both ends; it comes back by itself."""
        self._note(f"drop {player.name}")
        player.way.drop()

    def change_profile(self, player: TrioPlayer | None, given: str | Path | Profile) -> None:
        """Another line from now on, for one or for all.

        Raises:
            ConfigError, UnknownNameError: there is no such profile.
        """
        line = given_profile(given)
        for one in self.players if player is None else [player]:
            self._note(f"profile {one.name} {line.name}")
            one.way.change(line)

    def pause_node(self, seconds: float) -> None:
        """The node's next tick takes so long. Its thread is that of everybody here, so all the others stand still
        meanwhile, and only the network goes on."""
        self._note(f"pause {seconds}")
        self._pause_s = seconds

    async def crash_node(self, down_s: float = 0.5) -> None:
        """The node ends without a word, and another starts `down_s` later: from nothing, in an epoch of its own."""
        self._note(f"crash {down_s}")
        if self.node is not None:
            self.node.cut()
            await self._wait_ended()
        await trio.sleep(down_s)
        await self._start()

    def _note(self, text: str) -> None:
        self.trace.note(now_ns(), text)

    # --- the node ----------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        self.incarnation += 1
        self._note(f"start node {self.incarnation}")
        self._store = store = Store(self.world.schema)
        if self._setup is not None:
            self._setup(store)
        seed = int.from_bytes(f"{self.seed}/node/{self.incarnation}".encode(), "little")
        self.node = node = AuthoritativeNode(self.world, store=store, on_tick=self._ticked, clock=now_ns, seed=seed)
        node.authority.digest_every_version = True
        self._made_ns[self.incarnation] = dict.fromkeys(range(node.authority.version + 1), now_ns())
        await self._nursery.start(node.run)

    async def _wait_ended(self) -> None:
        assert self.node is not None and self._store is not None
        node, store = self.node, self._store
        self.node = self._store = None
        await node.wait_stopped()
        store.close()

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
                self._digests[view.version] = view.digest()

    # --- its course --------------------------------------------------------------------------------------------------

    async def _run(self, seconds: float, play: Play | None, script: Script | None) -> TrioOutcome:
        is_playing = True

        def each_tick(player: TrioPlayer) -> None:
            nonlocal is_playing
            if is_playing and play is not None:
                try:
                    play(player)
                except BaseException:
                    # While this one parts from the node, the others would run into the same.
                    is_playing = False
                    raise

        await self._start()
        async with trio.open_nursery() as games:
            for player in self.players:
                games.start_soon(player.live, self.world, 1 / self.world.hz, each_tick)
            async with trio.open_nursery() as scripts:
                if script is not None:
                    scripts.start_soon(script, self)
                await trio.sleep(seconds)
                scripts.cancel_scope.cancel()
            is_playing = False
            reasons = await self._rest()
            assert self.node is not None
            statistics = self.node.statistics()
            with self.node.store.view() as view:
                version, digest = view.version, view.digest()
            self._note(f"version {version} digest {digest}")
            goodbyes = await self._shut_down()
            games.cancel_scope.cancel()
        self._note("end")
        return TrioOutcome(
            converged=not reasons,
            reasons=reasons,
            digest=digest,
            trace_hash=self.trace.hexdigest(),
            seed=self.seed,
            profile=self._line.name,
            clients=len(self.players),
            virtual_s=self.now_s,
            version=version,
            ticks=statistics.ticks,
            ticks_dropped=statistics.ticks_dropped,
            reconnects=sum(player.reconnects for player in self.players),
            goodbyes=goodbyes,
            lag=self._lag(),
        )

    # --- how it ends -------------------------------------------------------------------------------------------------

    async def _rest(self) -> tuple[str, ...]:
        """Heal the network, and wait until everybody holds what the node holds; who does not after `REST_S`, and why.

        The world goes on, so nobody need hold the newest version: one that was made after all was healed will do."""
        self._note("rest")
        self.heal()
        if self.node is None:
            await self._start()
        assert self.node is not None
        self._digests = {}
        self._keep_digest()
        head = self.node.authority.version
        reasons: tuple[str, ...] = ()
        for _ in range(round(REST_S * self.world.hz)):
            reasons = tuple(reason for player in self.players if (reason := self._difference(player, head)))
            if not reasons:
                break
            await trio.sleep(1 / self.world.hz)
        return reasons

    async def _shut_down(self) -> int:
        """End the node as an operator would; how many were told."""
        assert self.node is not None
        self.node.stop(GOODBYE)
        await self._wait_ended()
        with trio.move_on_after(REST_S):
            while any(player.is_live for player in self.players):
                await trio.sleep(1 / self.world.hz)
        return sum(player.was_told_goodbye for player in self.players)

    def _lag(self) -> LagFigures:
        """As the cluster counts it: a version that was skipped came with the one that covers it, and what was made
        before a player's first look nobody waited for."""
        samples: list[float] = []
        for player in self.players:
            before = (0, 0)
            for when_ns, incarnation, version in player.applied:
                first = before[1] + 1 if before[0] == incarnation else version
                before = (incarnation, version)
                made_ns = self._made_ns[incarnation]
                samples += [(when_ns - made_ns[one]) / NS_PER_MS for one in range(first, version + 1)]
        return lag_figures(samples)

    def _difference(self, player: TrioPlayer, head: Version) -> str | None:
        assert self.node is not None
        if not player.is_live:
            return f"{player.name} is {player.state}"
        if player.epoch != self.node.authority.epoch:
            return f"{player.name} holds a world of epoch {player.epoch}, the node is in {self.node.authority.epoch}"
        if player.version < head:
            return f"{player.name} holds version {player.version}, the node held {head} when it came to rest"
        assert self._digests is not None
        theirs, ours = player.view.digest(), self._digests[player.version]
        if theirs != ours:
            return f"{player.name} has digest {theirs} of version {player.version}, the node {ours}"
        return None


def run_in_trio(
    world: World,
    *,
    clients: int = 2,
    profile: str | Path | Profile = "lan",
    seed: int = 0,
    seconds: float = 10.0,
    setup: Callable[[Store], None] | None = None,
    play: Play | None = None,
    script: Script | None = None,
) -> TrioOutcome:
    """Run a node and its clients for so many virtual seconds, bring them to rest, and shut down. Blocks; starts Trio,
    so it cannot be called inside of it.

    Args:
        world: what the node runs.
        clients: players that join at the beginning.
        profile: of every player's line: a name, a TOML file, or a `Profile`. Clocks are not skewed here: all share one.
        seed: decides everything that is random.
        seconds: of virtual time, before the run comes to rest.
        setup: called with the empty store of each node that starts, to make the world.
        play: see `Play`.
        script: see `Script`.

    Raises:
        SeedingError: the seed does not govern this Trio. BusyError: another such run is under way.
        ConfigError, UnknownNameError: the profile. ArgumentError: anything else that makes no run.
        NotBuiltError: on Windows, where a socket pair takes a moment of real time to carry its bytes.
        Exception: what the game's own code raised.
    """
    if sys.platform == "win32":
        raise NotBuiltError("the real node in virtual time on Windows", "use ecsnet.sim.cluster, or Linux or macOS")
    if isinstance(clients, bool) or not isinstance(clients, int) or not 0 <= clients <= CLIENTS_MAX:
        raise ArgumentError(f"clients is {clients!r}; it must be a whole number in [0, {CLIENTS_MAX}]")
    if not 0 <= seconds <= SECONDS_MAX:
        raise ArgumentError(f"seconds is {seconds!r}; it must be in [0, {SECONDS_MAX:g}]")
    line = given_profile(profile)
    check_seeding()
    clock = MockClock(autojump_threshold=0)

    async def main() -> TrioOutcome:
        with unwrapping():
            async with trio.open_nursery() as nursery:
                cluster = TrioCluster(world, clients, line, seed, setup, clock, nursery)
                outcome = await cluster._run(seconds, play, script)
                nursery.cancel_scope.cancel()
        return outcome

    with deterministic_trio(seed):
        return trio.run(main, clock=clock)
