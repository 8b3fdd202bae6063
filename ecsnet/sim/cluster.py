"""A node and its players in one process, in virtual time, on a simulated network, from one seed.

One step is one tick of the node. In the window between two ticks each player lives through what happens to it, in the
order of virtual time; then the node takes in what has arrived by the tick, runs it, and hands out what there is to
say:

    tick n-1 ──┬── player 0: frames arrive, its game moves, acks and commands leave, each in its own time ────┬── tick n
               └── player 1: …                                                                                    ┘

Players never talk to each other, so their windows may be lived through one after another, and the result is that of
exact discrete events. The node looks at its input once per tick, as the real one's hub does.

Invariants:
- equal arguments, equal code of the game and equal calls give equal runs, in any process: `trace_hash` says so;
- checkers watch all the time; nothing that they do changes the course of a run.
"""

import contextlib
import gc
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import msgspec

from ecsnet.errors import ArgumentError, ClosedError, DataError, EcsnetError
from ecsnet.limits import NS_PER_MS, NS_PER_S
from ecsnet.sim.checkers import Checkers
from ecsnet.sim.clock import START_NS, seconds
from ecsnet.sim.connection import StreamConnection
from ecsnet.sim.datagram_connection import DatagramConnection
from ecsnet.sim.faults import Fault
from ecsnet.sim.figures import LagFigures, lag_figures
from ecsnet.sim.hostile_side import HostileSide
from ecsnet.sim.link import Outages
from ecsnet.sim.model import Model
from ecsnet.sim.node_disk import DURABILITIES
from ecsnet.sim.node_side import Connection, NodeSide
from ecsnet.sim.node_side import Setup as Setup
from ecsnet.sim.player import Player
from ecsnet.sim.profile import Profile, profile
from ecsnet.sim.recording import LagSample, PlayerRecording, Recording, Violation
from ecsnet.sim.relay import Relay
from ecsnet.sim.schedule import Schedule
from ecsnet.sim.trace import Trace
from ecsnet.world import World

if TYPE_CHECKING:
    from ecsnet.schema.python import Row

Transport = Literal["stream", "datagram", "mixed"]
Play = Callable[[Player], None]

PLAYERS_MAX = 4096
"""As a node takes."""

CHECK_EVERY_TICKS = 16
"""Bounds of queues and of the store, and the model of the game, are looked at so often: each costs a pass over all."""

SAMPLES_PER_S = 15
"""Of what is behind and what is queued: enough for a picture, and a tenth of the cost of a tick."""

CONVERGE_S = 5.0
"""Virtual seconds in which everybody must agree once the network has healed."""


class NotConvergedError(EcsnetError, AssertionError):
    """The players of a run do not hold what the authority holds, or a checker found a violation. `reasons` says who and
    why, one each."""

    def __init__(self, reasons: Sequence[str]) -> None:
        shown = "\n  ".join(reasons[:12]) + (f"\n  … and {len(reasons) - 12} more" if len(reasons) > 12 else "")
        super().__init__(f"the players did not converge:\n  {shown}")
        self.reasons = tuple(reasons)


class Cluster:
    """See the file.

    Args:
        world: what the node runs. It may be used for other clusters afterwards, not for two at once.
        clients: players that join at the beginning.
        profile: of every player's link: a name (`ecsnet.sim.profile.profile_names()`), a TOML file, or a `Profile`.
        seed: decides everything that is random; as long as the cluster is open it is the world's, too: `tx.random`.
        transport: what links are: streams as TCP, datagrams as UDP, or every other player's of each.
        setup: called with the empty store of each node that starts, to make the world.
        durability: "memory", "relaxed", "strict" or "paranoid" gives the node a disk, which outlives it; None is a
            world that ends with its node.
        faults: what goes wrong, and when; see `ecsnet.sim.faults`.
        model: the game in plain Python, to compare with; see `ecsnet.sim.model`.
        hostile: clients beside the players that send whatever they like.
        on_error: "raise" ends the run with the exception of the game's own code; "log" goes on, as a node would.

    Raises:
        ConfigError, UnknownNameError: the profile. ArgumentError: anything else that makes no run.
    """

    def __init__(
        self,
        world: World,
        *,
        clients: int = 2,
        profile: str | Path | Profile = "lan",
        seed: int = 0,
        transport: Transport = "stream",
        setup: Setup | None = None,
        durability: str | None = None,
        faults: Sequence[Fault] = (),
        model: Model | None = None,
        hostile: int = 0,
        on_error: Literal["raise", "log"] = "raise",
        name: str = "",
    ) -> None:
        _check("clients", clients, 0, PLAYERS_MAX)
        _check("hostile", hostile, 0, PLAYERS_MAX)
        if durability is not None and durability not in DURABILITIES:
            raise ArgumentError(f"durability is {durability!r}; it may be {', '.join(DURABILITIES)}")
        if transport not in ("stream", "datagram", "mixed"):
            raise ArgumentError(f"transport is {transport!r}; it may be 'stream', 'datagram' or 'mixed'")
        self.world = world
        self.seed = seed
        self.transport: Transport = transport
        self.profile = _profile(profile)
        self.checkers = Checkers()
        self.players: list[Player] = []
        """All that ever joined, in that order."""
        self.ticks = 0
        """Ticks of virtual time that have passed; `node.ticks` are those that ran."""
        self.now_ns = START_NS
        self.name = name or world.schema.name
        self.converged: bool | None = None
        self._seed = str(seed)
        self._trace = Trace()
        self._model = model
        self._relay = Relay(self.checkers, model, world.schema)
        self.node = NodeSide(world, self._seed, setup, self._relay, self.checkers, durability)
        self._relay.on_left = self._session_left
        self._relay.owners = self.node.owners
        self._game: list[Play] = []
        self._resting = False
        self._sample_every = max(1, round(world.hz / SAMPLES_PER_S))
        self._closed = False
        self._restart_at_ns: int | None = None

        self._on_error = world.on_error
        world.on_error = on_error
        self._world_seed = world.seed
        world.seed = seed
        self._faults = Schedule(faults, self)
        self.hostile: list[HostileSide] = []
        self._connections_made = 0
        self.node.start(self.now_ns)
        self._model_started()
        for _ in range(clients):
            self.join()
        for _ in range(hostile):
            self.join_hostile()

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        """Virtual seconds since the beginning."""
        return seconds(self.now_ns)

    @property
    def violations(self) -> list[Violation]:
        """What checkers have found so far."""
        return self.checkers.violations

    @property
    def trace_hash(self) -> str:
        """32 hex digits over every frame that arrived, when, and every fault."""
        return self._trace.hexdigest()

    @property
    def fault_counts(self) -> dict[str, int]:
        """How many faults of each kind have begun."""
        return self._faults.counts

    @property
    def live_players(self) -> list[Player]:
        """Those who hold a whole world now."""
        return [player for player in self.players if not player.gone and player.is_live]

    def digest(self) -> str:
        """Of what the authority holds: 32 hex digits."""
        store = self.node.store
        if store is None:
            raise ArgumentError("no node runs; there is nothing to take a digest of")
        with store.view() as view:
            return view.digest(wire=True)

    # --- time goes on ------------------------------------------------------------------------------------------------

    def each_tick(self, play: Play) -> None:
        """Call `play` for every live player once per tick, at the player's own moment in it."""
        self._game.append(play)

    def run(self, seconds: float) -> None:
        """Let this much virtual time pass: the nearest whole number of ticks.

        Raises:
            Exception: whatever the game's own code raised, in a world or in `each_tick`.
        """
        if not math.isfinite(seconds) or seconds < 0:
            raise ArgumentError(f"seconds is {seconds!r}; it must be 0 or more")
        self.step(round(seconds * self.world.hz))

    def step(self, ticks: int = 1) -> None:
        """Let this many ticks pass."""
        self._demand_open()
        with _rare_collections() as collect:
            for _ in range(ticks):
                self._step(ticking=True)
                if self.ticks % self.world.hz == 0:
                    collect()

    def _step(self, *, ticking: bool) -> None:
        before_ns = self.now_ns
        self.ticks += 1
        self.now_ns = START_NS + self.ticks * NS_PER_S // self.world.hz
        self.checkers.tick = self.ticks
        self._do_due(before_ns)
        game = self._play if self._game and not self._resting else None
        for player in self.players:
            player.advance(before_ns, self.now_ns, game)
        for hostile in self.hostile:
            hostile.advance(self.now_ns)
        node = self.node
        if node.paused_until_ns > self.now_ns:
            node.ticks_dropped += 1
        else:
            node.receive(self.now_ns)
            if node.is_up and ticking:
                self._tick_node()
            node.serve(self.now_ns)
        if self.ticks % self._sample_every == 0:
            second = (self.now_ns - START_NS - 1) // NS_PER_S
            for player in self.players:
                if not player.gone:
                    player.sample(self.now_ns, second)
        if self.ticks % CHECK_EVERY_TICKS == 0:
            self._check_bounds()
        if len(node.connections) > 2 * len(self.players) + 64:
            self._forget_dead_connections()

    def _tick_node(self) -> None:
        node, authority = self.node, self.node.running()
        before = authority.store.kernel.head_version
        if self._resting:
            node.lift_budgets()
        try:
            node.tick(self.now_ns)
        except DataError as error:
            # As a supervisor would: another process, on what is there.
            self.note(f"the disk failed: {type(error).__name__}")
            self._relay.forget()
            node.crash(self.now_ns)
            self._restart_at_ns = self.now_ns + NS_PER_S // 2
            return
        finally:
            # Of a node that is gone nothing is to be told: the next one makes versions of the same numbers.
            if node.is_up:
                made = authority.store.kernel.head_version
                self.checkers.made(before, made)
                self._relay.made(made, node.version)

    def _session_left(self, session: int) -> None:
        if self.node.disk is not None:
            self.node.disk.asked.answered.pop(session, None)

    def _play(self, player: Player) -> None:
        for play in self._game:
            play(player)

    # --- who takes part ----------------------------------------------------------------------------------------------

    def join(self, name: str | None = None, *, profile: str | Path | Profile | None = None) -> Player:
        """Another player comes: it connects in the next tick."""
        self._demand_open()
        number = len(self.players)
        if number >= PLAYERS_MAX:
            raise ArgumentError(f"{number} players have joined, which is all a run may have")
        name = f"client-{number}" if name is None else name
        if any(player.name == name for player in self.players):
            raise ArgumentError(f"a player is called {name!r} already; names are seeds of generators, each its own")
        datagrams = self.transport == "datagram" or (self.transport == "mixed" and number % 2 == 1)
        player = Player(
            number,
            name,
            # Now and then one that has to learn the schema from the node.
            None if number % 5 == 4 else self.world,
            profile=self.profile if profile is None else _profile(profile),
            node=self.node,
            checkers=self.checkers,
            connect=self._connect,
            seed=self._seed,
            datagrams=datagrams,
            period_ns=NS_PER_S // self.world.hz,
            check=None if self._model is None else self._model.check,
        )
        self.players.append(player)
        self.note(f"join {name}")
        return player

    def leave(self, player: Player) -> None:
        """The player says goodbye, and does not come back."""
        self.note(f"leave {player.name}")
        player.leave(self.now_ns)

    def join_hostile(self) -> HostileSide:
        """A client that sends whatever it likes; see `ecsnet.sim.hostile`."""
        from ecsnet.sim.hostile import HostilePlayer

        self._demand_open()
        number = len(self.hostile)
        name = f"hostile-{number}"
        self.note(f"join {name}")
        datagrams = self.transport == "datagram" or (self.transport == "mixed" and number % 2 == 1)
        random = Random(f"{self._seed}/{name}")

        def speaker() -> HostilePlayer:
            return HostilePlayer(random, "datagram" if datagrams else "stream", self.world)

        def connect(side: HostileSide, now_ns: int) -> Connection:
            return self._connection(side.name, side.number, self.profile, datagrams)

        side = HostileSide(name, PLAYERS_MAX + number, speaker, connect, random)
        self.hostile.append(side)
        return side

    def _connect(self, player: Player, now_ns: int) -> Connection:
        connection = self._connection(player.name, player.number, player.profile, player.datagrams, player.outages)
        down, up = player.is_cut
        connection.cut(now_ns, down=down, up=up)
        return connection

    def _connection(
        self, name: str, number: int, profile: Profile, datagrams: bool, outages: Outages | None = None
    ) -> Connection:
        self._connections_made += 1
        make = DatagramConnection if datagrams else StreamConnection
        seed = f"{self._seed}/{self._connections_made}"
        connection: Connection = make(name, number, profile, seed, self._trace, outages)
        self.node.connections.append(connection)
        return connection

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    def drop(self, player: Player) -> None:
        """The player's transport breaks; it comes back by itself."""
        self.note(f"drop {player.name}")
        player.lose_connection(self.now_ns)

    def cut(self, player: Player | None = None, *, down: bool = True, up: bool = True) -> None:
        """Partition: nothing goes through any more, in the given directions; None is every player."""
        for one in self._some(player):
            self.note(f"cut {one.name} {down:d}{up:d}")
            one.is_cut = (down or one.is_cut[0], up or one.is_cut[1])
            if one.connection is not None:
                one.connection.cut(self.now_ns, down=down, up=up)

    def heal(self, player: Player | None = None) -> None:
        """End a partition."""
        for one in self._some(player):
            self.note(f"heal {one.name}")
            one.is_cut = (False, False)
            if one.connection is not None:
                one.connection.heal(self.now_ns)

    def stall(self, player: Player, seconds: float) -> None:
        """The player's program stands still for so long."""
        self.note(f"stall {player.name} {seconds}")
        player.stall(self.now_ns + round(seconds * NS_PER_S))

    def pause_node(self, seconds: float) -> None:
        """The node's program stands still: a garbage collection, a snapshot of its machine. Its ticks are dropped."""
        self.note(f"pause node {seconds}")
        self.node.paused_until_ns = max(self.node.paused_until_ns, self.now_ns + round(seconds * NS_PER_S))

    def crash_node(self, down_s: float = 0.5) -> None:
        """The node's process is killed, and another one starts after `down_s`. Does nothing while it is down."""
        self._crash(down_s, "crash node", power=False)

    def lose_power(self, down_s: float = 0.5) -> None:
        """The node's machine loses its power, and has it again after `down_s`. What was not synced to a disk may be
        gone; without one it is as `crash_node`. Does nothing while it is down."""
        self._crash(down_s, "lose power", power=True)

    def _crash(self, down_s: float, what: str, *, power: bool) -> None:
        if not self.node.is_up:
            return
        self.note(f"{what} {down_s}")
        self._relay.forget()
        self.node.crash(self.now_ns, power=power)
        self._restart_at_ns = self.now_ns + round(down_s * NS_PER_S)

    def fail_disk(self, kind: str) -> None:
        """One of the next operations of the node's disk goes wrong: see `ecsnet._kernel.disk.Storage.fail`. A node
        whose disk fails is started again; one whose disk is full refuses commands. Nothing happens without a disk."""
        self.note(f"fail disk {kind}")
        self.node.fail_disk(kind)

    def change_profile(self, player: Player | None, profile: str | Path | Profile | None) -> None:
        """Other links from now on; None is the profile that the run began with."""
        wanted = self.profile if profile is None else _profile(profile)
        for one in self._some(player):
            self.note(f"profile {one.name} {wanted.name}")
            one.profile = wanted
            if one.connection is not None:
                one.connection.change(wanted, self.now_ns)

    def shift_clock(self, player: Player, milliseconds: float) -> None:
        """Somebody sets the player's clock."""
        self.note(f"clock {player.name} {milliseconds}")
        player.clock.shift(milliseconds)

    def _some(self, player: Player | None) -> Iterable[Player]:
        return [one for one in self.players if not one.gone] if player is None else [player]

    # --- the end -----------------------------------------------------------------------------------------------------

    def rest(self, limit_s: float = CONVERGE_S) -> bool:
        """Whether everybody agrees once all is well again.

        Faults end, the network heals and has no outages, the games send nothing more, and nobody has a budget. When
        every player is back and has its answers the world stands still, and each must hold and have acked the final
        version, bit for bit. All of it must take no more than `limit_s` of virtual time; what is missing then is a
        violation.
        """
        self._demand_open()
        self.note("rest")
        self._faults.end_all()
        self._resting = True
        for hostile in self.hostile:
            hostile.stop(self.now_ns)
        self.node.paused_until_ns = 0
        if self._restart_at_ns is not None:
            self._restart_at_ns = self.now_ns
        calm = msgspec.structs.replace(self.profile, down=_calm(self.profile.down), up=_calm(self.profile.up))
        self.change_profile(None, calm)
        self.heal()
        for player in self.players:
            player.wake()
        limit_ns = self.now_ns + round(limit_s * NS_PER_S)
        while self.now_ns < limit_ns and not (self._all_back() and self.node.has_lifted_budgets):
            self._step(ticking=True)
        while self.now_ns < limit_ns and not self._all_hold_it():
            # Who has not noticed yet that its connection is gone comes back later, and joins in a tick.
            self._step(ticking=not self._all_back())
        reasons = self._differences()
        for reason in reasons:
            self.checkers.violated("converged", f"{limit_s:g} s after all had healed {reason}")
        self._check_at_the_end()
        self.converged = not reasons
        return self.converged

    def assert_converged(self) -> None:
        """Bring the run to rest, unless that was done, and raise if not all is as it must be.

        Raises:
            NotConvergedError: who differs and in what, or what a checker found on the way.
        """
        if self.converged is None:
            self.rest()
        self.assert_no_violations()

    def assert_no_violations(self) -> None:
        """Raise if a checker found anything so far.

        Raises:
            NotConvergedError: with the first violations.
        """
        if self.checkers.found:
            raise NotConvergedError(
                [f"tick {one.tick}: [{one.checker}] {one.what}" for one in self.checkers.violations]
            )

    def close(self) -> None:
        """Let all stores go. Figures and the recording stay."""
        if self._closed:
            return
        self._closed = True
        self.world.on_error = self._on_error
        self.world.seed = self._world_seed
        for player in self.players:
            player.replica.release()
        self.node.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- figures -----------------------------------------------------------------------------------------------------

    def lag(self, table: "str | type[Row] | None" = None, *, player: Player | None = None) -> LagFigures:
        """How late the players see what the node did: see `LagFigures`.

        Args:
            table: of versions that changed something in this table alone; its name or its class.
            player: of this player alone.

        Raises:
            UnknownNameError: no such table.
        """
        touched = None if table is None else self._touching(table)
        chosen = self.players if player is None else [player]
        samples = [
            (when_ns - made_ns) / NS_PER_MS
            for one in chosen
            for when_ns, made_ns, version, incarnation in self._lag_samples(one)
            if touched is None or (incarnation, version) in touched
        ]
        return lag_figures(samples)

    @property
    def bytes_per_client_s(self) -> float:
        """Bytes to a player per second in which it was live, full syncs and retransmissions included."""
        total = sum(sum(player.bytes_down) for player in self.players)
        live_ns = sum((to or self.now_ns) - since for player in self.players for since, to in player.stays)
        return total * NS_PER_S / live_ns if live_ns else 0.0

    @property
    def versions_behind(self) -> int:
        """How many versions a player was behind the node, at most, 99 times of 100, over players and ticks."""
        samples = sorted(behind for player in self.players for _, behind in player.behind)
        return samples[min(len(samples) - 1, math.ceil(0.99 * len(samples)) - 1)] if samples else 0

    @property
    def recording(self) -> Recording:
        """Everything that figures and pictures are made of, up to now."""
        return Recording(
            title=self.name,
            seed=self.seed,
            hz=self.world.hz,
            virtual_s=self.now_s,
            profile=self.profile.name,
            transport=self.transport,
            converged=self.converged,
            versions=self.node.versions,
            ticks=self.node.ticks,
            players=[self._recording_of(player) for player in self.players],
            faults=self._faults.spans(),
            violations=list(self.violations),
            bytes_by_table={
                table.name: self.node.bytes_by_table[table.id]
                for table in self.world.schema.tables
                if table.id in self.node.bytes_by_table
            },
        )

    def _recording_of(self, player: Player) -> PlayerRecording:
        return PlayerRecording(
            name=player.name,
            profile=player.profile.name,
            transport="datagram" if player.datagrams else "stream",
            lag=[
                LagSample(seconds(when_ns), (when_ns - made_ns) / NS_PER_MS, version)
                for when_ns, made_ns, version, _ in self._lag_samples(player)
            ],
            behind=[(seconds(at_ns), behind) for at_ns, behind in player.behind],
            queued=[(seconds(at_ns), queued) for at_ns, queued in player.queued],
            bytes_down=list(player.bytes_down),
            bytes_up=list(player.bytes_up),
            stays=[(seconds(since), seconds(to or self.now_ns)) for since, to in player.stays],
        )

    def _lag_samples(self, player: Player) -> Iterable[tuple[int, int, int, int]]:
        """(when it was there, when it was made, version, incarnation), of each version that the player came to hold."""
        for when_ns, incarnation, before, version in player.applied:
            made_ns = self.node.made_ns[incarnation]
            # A version that was skipped came with the one that covers it. What was made before the player's first
            # look, nobody waited for.
            for one in range(before + 1 if before else version, version + 1):
                yield when_ns, made_ns[one], one, incarnation

    def _touching(self, table: "str | type[Row]") -> set[tuple[int, int]]:
        number = self.world.schema.table(table if isinstance(table, str) else table.ecsnet_table).id
        return {
            (incarnation, version)
            for incarnation, of_versions in self.node.touched.items()
            for version, tables in of_versions.items()
            if number in tables
        }

    # --- inside ------------------------------------------------------------------------------------------------------

    def _demand_open(self) -> None:
        if self._closed:
            raise ClosedError("this cluster was closed")

    def note(self, text: str) -> None:
        """Put something into the trace that decides the course of the run."""
        self._trace.note(self.now_ns, text)

    def _do_due(self, before_ns: int) -> None:
        """Faults that begin or end, and a node that is started again."""
        if self._restart_at_ns is not None and self._restart_at_ns <= self.now_ns:
            self._restart_at_ns = None
            self.note("start node")
            try:
                self.node.start(self.now_ns)
            except DataError as error:
                # Its disk may fail while it is read, too; a supervisor tries again.
                self.note(f"the disk failed: {type(error).__name__}")
                self.node.incarnation -= 1
                self._restart_at_ns = self.now_ns + NS_PER_S // 10
            else:
                self._model_started()
        if not self._resting:
            self._faults.do_due()

    def _forget_dead_connections(self) -> None:
        held = {id(player.connection) for player in self.players} | {id(one.connection) for one in self.hostile}
        self.node.connections = [
            connection
            for connection in self.node.connections
            if id(connection) in held or connection.link is not None or not connection.is_over
        ]

    def _all_back(self) -> bool:
        return self.node.is_up and all(
            player.gone or (player.is_live and not player.leaving and player.connection is not None)
            for player in self.players
        )

    def _all_hold_it(self) -> bool:
        version = self.node.version
        return all(
            player.gone
            or (
                player.version == version
                and player.connection is not None
                and player.connection.link is not None
                and player.connection.link.acked == version
            )
            for player in self.players
        )

    def _differences(self) -> list[str]:
        if not self.node.is_up:
            return ["no node runs"]
        found = []
        version, authority = self.node.version, self.node.running()
        for player in self.players:
            if player.gone:
                continue
            if player.leaving:
                found.append(f"{player.name} has not finished leaving")
            elif not player.is_live:
                found.append(f"{player.name} is {player.state}")
            elif player.replica.epoch != self.node.epoch:
                found.append(f"{player.name} is in epoch {player.replica.epoch}, the node in {self.node.epoch}")
            elif player.version != version:
                found.append(f"{player.name} holds version {player.version}, the node {version}")
            elif player.connection is None or (link := player.connection.link) is None:
                found.append(f"{player.name} has no connection")
            else:
                digest = authority.digest_for(link)
                with player.view as view:
                    theirs = view.digest()
                if theirs != digest:
                    found.append(f"{player.name} has digest {theirs} of version {version}, the node {digest} for it")
                elif link.acked != version:
                    found.append(f"{player.name} has acked {link.acked} of {version}")
        return found

    # --- checkers ----------------------------------------------------------------------------------------------------

    def _check_bounds(self) -> None:
        for connection in self.node.connections:
            if connection.link is not None:
                self.checkers.bounds(connection.link)
            for name, channel in connection.channels():
                self.checkers.channel(name, channel.statistics())
        store = self.node.store
        if store is not None:
            self.checkers.store("the node's store", store.kernel.statistics())
        self._check_model()

    def _check_at_the_end(self) -> None:
        self._check_bounds()
        for player in self.players:
            player.settled()
            statistics = player.replica.statistics()
            # A version that came in while views deferred its publication cannot be looked at; here nobody holds views.
            whole = statistics.versions_applied - statistics.versions_partial
            if statistics.digests_verified < 0.99 * whole - 2:
                self.checkers.digests_missing(player, whole, statistics.digests_verified)
            if player.replica.store is not None:
                self.checkers.store(player.name, player.replica.store.kernel.statistics())

    def _model_started(self) -> None:
        if self._model is not None:
            assert self.node.store is not None
            with self.node.store.view() as view:
                self._model.started(view)

    def _check_model(self) -> None:
        store, model = self.node.store, self._model
        if store is None or model is None or store.kernel.staleness:
            return
        with store.view() as view:
            for what in model.differences(view):
                self.checkers.violated("model", f"the node, version {view.version}: {what}")
            version = view.version
        if self.node.made.is_partial:
            return  # what a player holds is not what the model has: see `sight`
        for player in self.players:
            if player.is_live and player.version == version and player.replica.epoch == self.node.epoch:
                with player.view as view:
                    for what in model.differences(view):
                        self.checkers.violated("model", f"{player.name}, version {version}: {what}")
                return

    # --- those who are no players ------------------------------------------------------------------------------------


def _calm(direction: Any) -> Any:
    """The same line without outages: a player in a tunnel is not yet where all is well."""
    return msgspec.structs.replace(direction, outage_every_s=0.0, outage_s=0.0)


def _profile(given: str | Path | Profile) -> Profile:
    return profile(given)


@contextlib.contextmanager
def _rare_collections() -> Iterator[Callable[[], None]]:
    """Without the cyclic collector, which would look at all samples of the run again and again for cycles that are not
    there; what the game leaves behind is collected whenever the body asks for it. As it was, afterwards."""
    was_enabled = gc.isenabled()

    def collect() -> None:
        if was_enabled:
            gc.collect(1)

    gc.disable()
    try:
        yield collect
    finally:
        if was_enabled:
            gc.enable()


def _check(name: str, value: int, least: int, greatest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= greatest:
        raise ArgumentError(f"{name} is {value!r}; it must be a whole number in [{least}, {greatest}]")
