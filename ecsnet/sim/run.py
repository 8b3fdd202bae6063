"""Run scenarios: one here, or many on all cores, each until its end, its limit or its first exception.

A run always ends and always leaves an `Outcome`: a scenario that takes too long is stopped with what it reached, what
the game's own code raises is kept with its traceback, and of many runs a process that dies or hangs is one failed run.

Invariants:
- the wall clock decides when a run is stopped and is in `wall_s` and `speed`; nothing else of an outcome depends on it;
- an outcome says "ok" only when all players converged, no checker found anything and nothing was cut short.
"""

import contextlib
import multiprocessing
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal

import msgspec

from ecsnet.errors import ArgumentError, EcsnetError, NotBuiltError
from ecsnet.sim.checkers import VIOLATIONS_KEPT
from ecsnet.sim.cluster import Cluster, Play, Setup
from ecsnet.sim.faults import KINDS
from ecsnet.sim.figures import LagFigures
from ecsnet.sim.profile import profile
from ecsnet.sim.recording import Recording, Violation
from ecsnet.sim.scenario import Scenario
from ecsnet.world import World

WALL_LIMIT_S = 600.0
"""What one run may take of real time: a day's worth at the speed that is promised for 50 clients, and no more than a
continuous integration service gives a step."""

KILL_AFTER_S = 30.0
"""Beyond the limit, for a tick that is long and for coming to rest; then the process does not answer any more."""

JOBS_MAX = 256

PROGRESS_S = 0.1
"""Real time between two words about progress."""


@dataclass(frozen=True, slots=True)
class Game:
    """What is run: the world, what fills it, what players do in it, and a model of it in plain Python.

    `on_error` is as a cluster has it: "raise" ends a run with what the game's own code raised, "log" goes on.
    """

    world: World
    setup: Setup | None = None
    play: Play | None = None
    model: Callable[[], Any] | None = None
    on_error: Literal["raise", "log"] = "raise"


GameOf = Callable[[Scenario], Game]
"""Finds the game that a scenario names. For many runs it is called in other processes, so a module has to have it."""


class LagMs(msgspec.Struct, frozen=True):
    """Of all players, in virtual milliseconds; None where nothing was applied."""

    p50: float | None
    p99: float | None
    max: float | None


class Outcome(msgspec.Struct, kw_only=True, frozen=True):
    """How one run went. Its fields are the keys of `ecsnet sim --json`."""

    seed: int
    converged: bool
    violations: list[Violation]
    violations_found: int
    """In all; the first of them are listed."""
    stopped: str | None
    """Why the run was cut short, with what was reached; None if it was not."""
    error: str | None
    """What the game's own code raised, which ended the run."""
    lag_ms: LagMs
    bytes_per_client_s: float | None
    """None where nobody counted: under Trio. So is the next."""
    versions_behind: int | None
    virtual_s: float
    wall_s: float
    speed: float
    faults: dict[str, int]
    digest: str
    trace_hash: str
    clients: int
    nodes: int
    """That write the same tables, in place of one and its players; else 0."""
    entities: int
    hz: int
    profile: str
    transport: str
    ticks: int
    versions: int
    reconnects: int
    resumes_in_place: int
    """Of those, how many went on from the version that the player held."""
    replay: str
    """The command that runs it again."""
    traceback: str = ""

    @property
    def ok(self) -> bool:
        """All players converged, no checker found anything, nothing was cut short."""
        return self.converged and not self.violations and self.stopped is None and self.error is None

    @property
    def signature(self) -> frozenset[str]:
        """In which ways it failed, however often and where."""
        ways = {violation.checker for violation in self.violations}
        if self.error is not None:
            ways.add("error " + self.error.partition(":")[0])
        if self.stopped is not None:
            ways.add("stopped")
        if not self.converged and not ways:
            ways.add("converged")
        return frozenset(ways)

    @property
    def failed_at_s(self) -> float | None:
        """Virtual second of the first failure; None where none is known, or it came after the run proper."""
        if self.violations:
            return self.violations[0].tick / self.hz
        return self.virtual_s if self.error is not None else None

    def reasons(self) -> list[str]:
        """Why it is not ok, one line each."""
        reasons = [f"tick {one.tick} [{one.checker}] {one.what}" for one in self.violations]
        if self.violations_found > len(self.violations):
            reasons.append(f"and {self.violations_found - len(self.violations)} more violations")
        if self.error is not None:
            reasons.append(f"it raised {self.error}")
        if self.stopped is not None:
            reasons.append(self.stopped)
        if not self.converged and not reasons:
            reasons.append("the players did not converge")
        return reasons


Progress = Callable[[float], None]
"""Told the virtual seconds that have passed, now and then."""


def run_scenario(
    scenario: Scenario, game: Game, *, wall_limit_s: float = WALL_LIMIT_S, on_progress: Progress | None = None
) -> Outcome:
    """Run it in this process. See `run_recorded`."""
    return run_recorded(scenario, game, wall_limit_s=wall_limit_s, on_progress=on_progress)[0]


def run_recorded(
    scenario: Scenario, game: Game, *, wall_limit_s: float = WALL_LIMIT_S, on_progress: Progress | None = None
) -> tuple[Outcome, Recording]:
    """Run a scenario in this process, to its end or for `wall_limit_s` of real time, and bring it to rest.

    Raises:
        ConfigError, UnknownNameError, ArgumentError: the scenario names a profile or makes a cluster that there is not.
        Exception: whatever the game's `setup` raises. What it raises later is in the outcome.
    """
    if not wall_limit_s > 0:
        raise ArgumentError(f"the wall limit is {wall_limit_s!r} s; it must be more than 0")
    begin = time.monotonic()
    settled = scenario.settled()
    if settled.nodes:
        return _run_nodes(scenario, settled, begin + wall_limit_s, on_progress)
    stopped = error = None
    trace = ""
    with _cluster_of(settled, game) as cluster:
        try:
            if _run_until(cluster, settled.seconds, begin + wall_limit_s, on_progress):
                cluster.rest()
            else:
                stopped = (
                    f"stopped after {wall_limit_s:g} s of real time, at {cluster.now_s:.1f} s of {settled.seconds:g} s "
                    f"virtual time, tick {cluster.ticks}, version {cluster.node.version}"
                )
        except Exception as raised:  # noqa: BLE001  (the game's own code: whatever it raises ends this run only)
            error = f"{type(raised).__name__}: {raised}"
            trace = traceback.format_exc()
        outcome = _outcome(scenario, settled, cluster, time.monotonic() - begin, stopped, error, trace)
        recording = cluster.recording
        recording.notes = {"replay": outcome.replay, "trace_hash": outcome.trace_hash, "digest": outcome.digest}
        return outcome, recording


def _run_nodes(
    scenario: Scenario, settled: Scenario, deadline: float, on_progress: Progress | None
) -> tuple[Outcome, Recording]:
    """Several nodes that write the same tables. Of players, of whom there are none, nothing is recorded."""
    from ecsnet.sim.nodes import HZ, SharedRun

    assert settled.profile is not None
    begin, tell_at = time.monotonic(), 0.0
    stopped = error = None
    trace, converged = "", False
    line = profile(settled.profile)
    shared = SharedRun(settled.nodes, line, settled.seed, faults=scenario.swarm)
    try:
        for _ in range(round(settled.seconds * HZ)):
            now = time.monotonic()
            if now >= deadline:
                stopped = f"stopped at {shared.now_s:.1f} s of {settled.seconds:g} s virtual time"
                break
            if on_progress is not None and now >= tell_at:
                on_progress(shared.now_s)
                tell_at = now + PROGRESS_S
            shared.step()
        converged = stopped is None and shared.rest()
        digest, versions = shared.digest(), shared.versions
    except Exception as raised:  # noqa: BLE001  (a node that raises is what is looked for)
        error = f"{type(raised).__name__}: {raised}"
        trace, digest, versions = traceback.format_exc(), "", 0
    finally:
        shared.close()
    wall_s = time.monotonic() - begin
    outcome = msgspec.structs.replace(
        no_outcome(settled, stopped=stopped, error=error, trace=trace),
        converged=converged,
        violations=shared.violations[:VIOLATIONS_KEPT],
        violations_found=len(shared.violations),
        virtual_s=round(shared.now_s, 6),
        wall_s=round(wall_s, 3),
        speed=round(shared.now_s / wall_s, 2),
        faults=dict(sorted(shared.faults.items())),
        digest=digest,
        trace_hash=shared.trace_hash,
        hz=HZ,
        profile=line.name,
        transport="stream",
        ticks=shared.ticks,
        versions=versions,
        reconnects=shared.links_opened,
        replay=scenario.command(),
    )
    recording = Recording(
        title="shared", seed=settled.seed, hz=HZ, virtual_s=shared.now_s, profile=line.name, ticks=shared.ticks,
        converged=converged, violations=list(outcome.violations),
    )  # fmt: skip
    return outcome, recording


def _cluster_of(settled: Scenario, game: Game) -> Cluster:
    assert settled.clients is not None and settled.profile is not None and settled.transport is not None
    cluster = Cluster(
        game.world,
        clients=settled.clients,
        profile=settled.profile,
        seed=settled.seed,
        transport=settled.transport,
        setup=game.setup,
        durability=None if settled.durability == "none" else settled.durability,
        faults=settled.faults,
        model=None if game.model is None else game.model(),
        hostile=settled.hostile,
        on_error=game.on_error,
    )
    if game.play is not None:
        cluster.each_tick(game.play)
    return cluster


def _run_until(cluster: Cluster, seconds: float, deadline: float, on_progress: Progress | None) -> bool:
    """Run for `seconds`; False if the deadline passed before."""
    tell_at = 0.0
    for _ in range(round(seconds * cluster.world.hz)):
        now = time.monotonic()
        if now >= deadline:
            return False
        if on_progress is not None and now >= tell_at:
            on_progress(cluster.now_s)
            tell_at = now + PROGRESS_S
        cluster.step()
    return True


def _outcome(
    scenario: Scenario,
    settled: Scenario,
    cluster: Cluster,
    wall_s: float,
    stopped: str | None,
    error: str | None,
    trace: str,
) -> Outcome:
    return Outcome(
        seed=settled.seed,
        converged=bool(cluster.converged),
        violations=list(cluster.violations),
        violations_found=cluster.checkers.found,
        stopped=stopped,
        error=error,
        lag_ms=_lag_ms(cluster.lag()),
        bytes_per_client_s=round(cluster.bytes_per_client_s, 1),
        versions_behind=cluster.versions_behind,
        virtual_s=round(cluster.now_s, 6),
        wall_s=round(wall_s, 3),
        speed=round(cluster.now_s / wall_s, 2),
        faults=dict(sorted(cluster.fault_counts.items())),
        digest=cluster.digest() if cluster.node.is_up else "",
        trace_hash=cluster.trace_hash,
        clients=settled.clients or 0,
        nodes=0,
        entities=settled.entities or 0,
        hz=cluster.world.hz,
        profile=cluster.profile.name,
        transport=cluster.transport,
        ticks=cluster.ticks,
        versions=cluster.node.versions,
        reconnects=sum(player.reconnects for player in cluster.players),
        resumes_in_place=sum(player.resumes_in_place for player in cluster.players),
        replay=scenario.command(),
        traceback=trace,
    )


def _lag_ms(lag: LagFigures) -> LagMs:
    if not lag.n:
        return LagMs(None, None, None)
    return LagMs(round(lag.p50_ms, 3), round(lag.p99_ms, 3), round(lag.max_ms, 3))


def run_scenario_in_trio(scenario: Scenario, game: Game) -> Outcome:
    """Run the real node and real clients under Trio: see `ecsnet.sim.trio_mode`. Blocks; starts Trio.

    A swarm is on streams here, with the whole world for everybody, and without the faults that cannot be done.

    Raises:
        ArgumentError: datagrams, budgets, or players that see a part of the world. NotBuiltError: a disk, or a fault
        that cannot be done. Otherwise as `run_recorded`.
    """
    from ecsnet.sim.trio_mode import FAULT_KINDS, run_in_trio

    whole: dict[str, Any] = {}
    if not scenario.world:
        whole = {"interest": bool(scenario.interest), "roles": bool(scenario.roles), "budget": scenario.budget or 0}
    settled = scenario.with_(
        transport=scenario.transport or "stream", durability=scenario.durability or "none", **whole
    ).settled()
    if settled.interest or settled.roles or settled.budget:
        raise ArgumentError(
            "under --trio everybody is compared with the whole world; leave interest, roles and budgets out"
        )
    if settled.durability not in (None, "none"):
        raise NotBuiltError("a disk under Trio", "leave durability out, or run the cores without --trio")
    if settled.transport != "stream":
        raise ArgumentError("with real nodes and clients under Trio, lines are streams; leave transport out")
    faults = [fault for fault in settled.faults if fault.kind in FAULT_KINDS or not scenario.swarm]
    assert settled.clients is not None and settled.profile is not None
    world, begin = game.world, time.monotonic()
    replay = f"{scenario.command()} --trio"
    before, world.on_error = world.on_error, game.on_error
    try:
        reached = run_in_trio(
            world,
            clients=settled.clients,
            profile=settled.profile,
            seed=settled.seed,
            seconds=settled.seconds,
            setup=game.setup,
            play=game.play,  # type: ignore[arg-type]  # what a game uses of a player, both kinds have
            faults=faults,
            hostile=settled.hostile,
        )
    except EcsnetError:
        raise
    except Exception as raised:  # noqa: BLE001  (the game's own code)
        error = f"{type(raised).__name__}: {raised}"
        return msgspec.structs.replace(no_outcome(settled, error=error, trace=traceback.format_exc()), replay=replay)
    finally:
        world.on_error = before
    wall_s = time.monotonic() - begin
    violations = [Violation("converged", reached.ticks, reason) for reason in reached.reasons]
    return msgspec.structs.replace(
        no_outcome(settled),
        converged=reached.converged,
        violations=violations,
        violations_found=len(violations),
        lag_ms=_lag_ms(reached.lag),
        virtual_s=round(reached.virtual_s, 6),
        wall_s=round(wall_s, 3),
        speed=round(reached.virtual_s / wall_s, 2),
        digest=reached.digest,
        trace_hash=reached.trace_hash,
        hz=world.hz,
        profile=reached.profile,
        ticks=reached.ticks,
        versions=reached.version,
        reconnects=reached.reconnects,
        faults=dict(sorted(reached.fault_counts.items())),
        replay=replay,
    )


# --- many ---------------------------------------------------------------------------------------------------------


class SeedViolation(msgspec.Struct, frozen=True):
    """A violation and the seed that it happened with."""

    seed: int
    checker: str
    tick: int
    what: str


class Failure(msgspec.Struct, kw_only=True):
    """One failed run of many."""

    seed: int
    why: list[str]
    replay: str
    shrunk: str | None = None
    """A smaller run that fails too, in words, and the command for it."""
    shrunk_replay: str | None = None


class Summary(msgspec.Struct, kw_only=True, frozen=True):
    """How many runs went. Its fields are the keys of `ecsnet sim --seeds N --json`."""

    seeds: int
    first_seed: int
    violations: list[SeedViolation]
    failed_seeds: list[int]
    failures: list[Failure]
    fault_share: dict[str, float]
    """Of the runs, how many had a fault of this kind at least once."""
    virtual_s: float
    wall_s: float
    speed: float
    jobs: int


def run_many(
    scenarios: Iterable[Scenario],
    game_of: GameOf,
    *,
    jobs: int | None = None,
    wall_limit_s: float = WALL_LIMIT_S,
    kill_after_s: float = KILL_AFTER_S,
) -> Iterator[tuple[Scenario, Outcome]]:
    """Run scenarios in processes of their own, `jobs` at a time (default: one for each core), and yield each with its
    outcome as it ends, in any order. Leaving the iterator ends the processes.

    Args:
        wall_limit_s: of each run, as `run_recorded` keeps it.
        kill_after_s: beyond that; then the process does not answer any more, and is killed.

    Raises:
        ArgumentError: `jobs`. Whatever `game_of` or making a cluster raises ends its run, as `Outcome.error`.
    """
    if jobs is not None and not 1 <= jobs <= JOBS_MAX:
        raise ArgumentError(f"jobs is {jobs}; it must be in [1, {JOBS_MAX}]")
    waiting = deque(scenarios)
    count = min(len(waiting), jobs or os.cpu_count() or 1)
    workers = [_Worker(game_of, wall_limit_s, kill_after_s) for _ in range(count)]
    try:
        for worker in workers:
            worker.begin(waiting.popleft())
        busy = list(workers)
        while busy:
            timeout = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
            ready = wait([worker.connection for worker in busy], timeout)
            now = time.monotonic()
            for worker in [one for one in busy if one.connection in ready or one.deadline <= now]:
                scenario = worker.scenario
                yield scenario, worker.take()
                if waiting:
                    worker.begin(waiting.popleft())
                else:
                    busy.remove(worker)
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process that runs one scenario after another, and another process in its place when it dies."""

    connection: Connection
    scenario: Scenario
    deadline = 0.0

    def __init__(self, game_of: GameOf, wall_limit_s: float, kill_after_s: float) -> None:
        self._game_of = game_of
        self._wall_limit_s = wall_limit_s
        self._killed_s = wall_limit_s + kill_after_s
        self._process: BaseProcess | None = None

    def begin(self, scenario: Scenario) -> None:
        if self._process is None:
            # Spawned, not forked: what this process holds (threads, terminals) is none of theirs.
            context = multiprocessing.get_context("spawn")
            self.connection, theirs = context.Pipe()
            self._process = context.Process(
                target=_work, args=(theirs, self._game_of, self._wall_limit_s), name="ecsnet sim", daemon=True
            )
            self._process.start()
            theirs.close()
        self.scenario = scenario
        self.deadline = time.monotonic() + self._killed_s
        # A process that has died meanwhile is found dead by `take`.
        with contextlib.suppress(OSError):
            self.connection.send_bytes(scenario.to_json().encode())

    def take(self) -> Outcome:
        """The outcome of what was begun: its own, or that its process is no more."""
        if not self.connection.poll():
            self._kill()
            return no_outcome(
                self.scenario,
                stopped=f"killed after {self._killed_s:g} s of real time: a tick did not end",
            )
        try:
            return msgspec.json.decode(self.connection.recv_bytes(), type=Outcome)
        except (EOFError, OSError):
            return no_outcome(self.scenario, error=f"ProcessDied: its process ended {self._kill(dying=True)}")

    def end(self) -> None:
        if self._process is not None:
            self._kill()

    def _kill(self, *, dying: bool = False) -> str:
        """End the process; how it ended, in words. One that is `dying` has closed its end and is about to exit."""
        process = self._process
        assert process is not None
        process.join(5.0 if dying else 0.0)
        if process.is_alive():
            process.kill()
        process.join()
        self.connection.close()
        self._process = None
        code = process.exitcode or 0
        return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"


def _work(connection: Connection, game_of: GameOf, wall_limit_s: float) -> None:
    """What a worker's process does, until nobody listens any more."""
    # Ctrl-C goes to the whole group; the parent is the one to decide.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            scenario = msgspec.json.decode(connection.recv_bytes(), type=Scenario)
            try:
                outcome = run_scenario(scenario, game_of(scenario), wall_limit_s=wall_limit_s)
            except Exception as error:  # noqa: BLE001  (a game that cannot be set up is one failed run)
                trace = traceback.format_exc()
                outcome = no_outcome(scenario, error=f"{type(error).__name__}: {error}", trace=trace)
            connection.send_bytes(msgspec.json.encode(outcome))


def no_outcome(scenario: Scenario, *, stopped: str | None = None, error: str | None = None, trace: str = "") -> Outcome:
    """Of a run that could not say itself how it went."""
    return Outcome(
        seed=scenario.seed,
        converged=False,
        violations=[],
        violations_found=0,
        stopped=stopped,
        error=error,
        lag_ms=LagMs(None, None, None),
        bytes_per_client_s=None,
        versions_behind=None,
        virtual_s=0.0,
        wall_s=0.0,
        speed=0.0,
        faults={},
        digest="",
        trace_hash="",
        clients=scenario.clients or 0,
        nodes=scenario.nodes,
        entities=scenario.entities or 0,
        hz=scenario.hz or 1,
        profile=scenario.profile or "",
        transport=scenario.transport or "",
        ticks=0,
        versions=0,
        reconnects=0,
        resumes_in_place=0,
        replay=scenario.command(),
        traceback=trace,
    )


class Tally:
    """Adds up outcomes of many runs, as they come in."""

    def __init__(self) -> None:
        self.seeds = 0
        self.failures: list[Failure] = []
        self.virtual_s = 0.0
        self._violations: list[SeedViolation] = []
        self._with_fault = dict.fromkeys(KINDS, 0)

    def add(self, outcome: Outcome) -> Failure | None:
        """Count one; the failure if it is one."""
        self.seeds += 1
        self.virtual_s += outcome.virtual_s
        for kind in outcome.faults:
            self._with_fault[kind] = self._with_fault.get(kind, 0) + 1
        self._violations += [SeedViolation(outcome.seed, one.checker, one.tick, one.what) for one in outcome.violations]
        if outcome.ok:
            return None
        failure = Failure(seed=outcome.seed, why=outcome.reasons(), replay=outcome.replay)
        self.failures.append(failure)
        return failure

    def summary(self, *, first_seed: int, wall_s: float, jobs: int) -> Summary:
        """Of all so far, in the order of seeds."""
        self.failures.sort(key=lambda failure: failure.seed)
        return Summary(
            seeds=self.seeds,
            first_seed=first_seed,
            violations=sorted(self._violations, key=lambda one: (one.seed, one.tick)),
            failed_seeds=[failure.seed for failure in self.failures],
            failures=self.failures,
            fault_share={kind: round(count / max(1, self.seeds), 4) for kind, count in self._with_fault.items()},
            virtual_s=round(self.virtual_s, 3),
            wall_s=round(wall_s, 3),
            speed=round(self.virtual_s / wall_s, 2),
            jobs=jobs,
        )
