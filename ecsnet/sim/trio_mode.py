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
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
import trio
from trio.abc import Instrument
from trio.testing import MockClock

from ecsnet.errors import ArgumentError, InternalError, NotBuiltError
from ecsnet.node.waiting import unwrapping
from ecsnet.sim.faults import KINDS, Fault, check_faults
from ecsnet.sim.figures import LagFigures
from ecsnet.sim.profile import Profile
from ecsnet.sim.profile import profile as given_profile
from ecsnet.sim.schedule import Schedule
from ecsnet.sim.trio_cluster import PLAYERS_MAX
from ecsnet.sim.trio_cluster import TrioCluster as TrioCluster
from ecsnet.sim.trio_player import Play
from ecsnet.sim.trio_player import TrioPlayer as TrioPlayer
from ecsnet.sim.trio_seeding import SeedingError as SeedingError
from ecsnet.sim.trio_seeding import check_seeding as check_seeding
from ecsnet.sim.trio_seeding import deterministic_trio as deterministic_trio
from ecsnet.store import Store
from ecsnet.world import World

SECONDS_MAX = 86_400.0
"""A day."""

PASSES_MAX = 50_000
"""Of Trio's loop without time going on. A join of a thousand players at one moment takes some hundreds."""

FAULT_KINDS = tuple(kind for kind in KINDS if kind not in ("stall", "clock_jump", "power_loss", "disk_fault"))
"""Those that can be done here: all players share one thread and one clock, and nodes have no disk."""

Script = Callable[[TrioCluster], Awaitable[None]]
"""What goes wrong, and when: runs beside the players, in virtual time, until the run comes to rest."""


class TrioOutcome(msgspec.Struct, frozen=True):
    """What a run came to. Times are virtual."""

    converged: bool
    reasons: tuple[str, ...]
    """Why not, one for each player that differs, or to whom something happened that must never happen."""
    digest: str
    """Of what the node holds at the end: 32 hex digits."""
    trace_hash: str
    seed: int
    profile: str
    clients: int
    """Players that ever joined."""
    virtual_s: float
    version: int
    ticks: int
    """Of the node that ran last, as `ticks_dropped`."""
    ticks_dropped: int
    reconnects: int
    """Sessions of all players after their first."""
    goodbyes: int
    """Players that were told when the node shut down at the end."""
    fault_counts: dict[str, int]
    lag: LagFigures


def run_in_trio(
    world: World,
    *,
    clients: int = 2,
    profile: str | Path | Profile = "lan",
    seed: int = 0,
    seconds: float = 10.0,
    setup: Callable[[Store], None] | None = None,
    play: Play | None = None,
    faults: Sequence[Fault] = (),
    hostile: int = 0,
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
        faults: what goes wrong, and when: of `FAULT_KINDS`.
        hostile: clients beside the players that send whatever they like.
        script: see `Script`.

    Raises:
        SeedingError: the seed does not govern this Trio. BusyError: another such run is under way.
        ConfigError, UnknownNameError: the profile or a fault. ArgumentError: anything else that makes no run.
        NotBuiltError: on Windows, where a socket pair takes a moment of real time to carry its bytes; a fault of a kind
        that cannot be done here.
        InternalError: virtual time stood still. Exception: what the game's own code raised.
    """
    if sys.platform == "win32":
        raise NotBuiltError("the real node in virtual time on Windows", "use ecsnet.sim.cluster, or Linux or macOS")
    for name, number in (("clients", clients), ("hostile", hostile)):
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= PLAYERS_MAX:
            raise ArgumentError(f"{name} is {number!r}; it must be a whole number in [0, {PLAYERS_MAX}]")
    if not 0 <= seconds <= SECONDS_MAX:
        raise ArgumentError(f"seconds is {seconds!r}; it must be in [0, {SECONDS_MAX:g}]")
    check_faults(faults, seconds=seconds, clients=clients)
    for fault in faults:
        if fault.kind not in FAULT_KINDS:
            raise NotBuiltError(f"the fault {fault.kind!r} under Trio", "leave it out, or use ecsnet.sim.cluster")
    line = given_profile(profile)
    check_seeding()
    clock = MockClock(autojump_threshold=0)

    reached: list[TrioOutcome] = []

    async def main() -> None:
        with unwrapping():
            async with trio.open_nursery() as nursery:
                standstill.scope = nursery.cancel_scope
                cluster = TrioCluster(world, line, seed, setup=setup, play=play, clock=clock, nursery=nursery)
                await cluster.start_node()
                for _ in range(clients):
                    cluster.join()
                for _ in range(hostile):
                    cluster.join_hostile()
                reached.append(await _run(cluster, seconds, faults, script))
                nursery.cancel_scope.cancel()

    standstill = _Standstill(clock)
    with deterministic_trio(seed):
        trio.run(main, clock=clock, instruments=[standstill])
    if not reached:
        raise InternalError(
            f"virtual time stood still at {standstill.at_s:g} s: some task runs again and again without waiting for "
            f"anything; a real program would keep a core busy with it"
        )
    return reached[0]


class _Standstill(Instrument):
    """Ends a run in which time does not go on: under a mock clock a task that never sleeps would keep it for ever."""

    def __init__(self, clock: MockClock) -> None:
        self.scope: trio.CancelScope | None = None
        """Of the run."""
        self.at_s = 0.0
        self._clock = clock
        self._then = -1.0
        self._passes = 0

    def before_io_wait(self, timeout: float) -> None:
        now = self._clock.current_time()
        if now != self._then:
            self._then, self._passes = now, 0
            return
        self._passes += 1
        if self._passes > PASSES_MAX and self.scope is not None:
            if not self.scope.cancel_called:
                self.at_s = now
                self.scope.cancel()
            # What parts from the node first does so by deadlines.
            self._clock.jump(1.0)


async def _run(cluster: TrioCluster, seconds: float, faults: Sequence[Fault], script: Script | None) -> TrioOutcome:
    # What faults use of a cluster, both kinds have.
    schedule = Schedule(faults, cluster)  # type: ignore[arg-type]
    async with trio.open_nursery() as beside:
        beside.start_soon(_do_faults, schedule, cluster)
        if script is not None:
            beside.start_soon(script, cluster)
        await trio.sleep(seconds)
        beside.cancel_scope.cancel()
    schedule.end_all()
    reasons = await cluster.rest()
    assert cluster.node is not None
    statistics, version, digest = cluster.node.statistics(), cluster.node.authority.version, cluster.digest()
    cluster.note(f"version {version} digest {digest}")
    goodbyes = await cluster.shut_down()
    cluster.note("end")
    return TrioOutcome(
        converged=not reasons,
        reasons=reasons,
        digest=digest,
        trace_hash=cluster.trace.hexdigest(),
        seed=cluster.seed,
        profile=cluster.profile.name,
        clients=len(cluster.players),
        virtual_s=cluster.now_s,
        version=version,
        ticks=statistics.ticks,
        ticks_dropped=statistics.ticks_dropped,
        reconnects=sum(player.reconnects for player in cluster.players),
        goodbyes=goodbyes,
        fault_counts=schedule.counts,
        lag=cluster.lag(),
    )


async def _do_faults(schedule: Schedule, cluster: TrioCluster) -> None:
    """Once a tick, as the cluster of cores does it."""
    while True:
        schedule.do_due()
        await trio.sleep(1 / cluster.world.hz)
