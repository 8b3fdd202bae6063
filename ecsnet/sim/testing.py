"""What stands behind the pytest plugin: clusters whose figures explain themselves, and failures made smaller.

A failed test is run again: first as it was, to see that its seed decides it, then with fewer clients, faults and
seconds. What the test itself made of its arguments stays: only clusters are changed, on their way out of the fixture.

Invariants:
- the verdict is the first run's. What shrinking finds, or fails to find, is said beside it;
- shrinking is bounded in runs and in real time, and says so when it gave up;
- a run counts as the same failure only if the same checkers found something; if none did, only if it fails in the same
  line with the same error.
"""

import contextlib
import inspect
import io
import math
import os
import shlex
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import pytest

from ecsnet.errors import ArgumentError
from ecsnet.sim.cluster import Cluster, NotConvergedError
from ecsnet.sim.faults import Fault
from ecsnet.sim.figures import LagFigures
from ecsnet.sim.player import Player
from ecsnet.sim.profile import profile
from ecsnet.sim.scenario import CLIENTS_MAX, SECONDS_MAX, SEED_MAX
from ecsnet.sim.shrink import Case, Shrunk, shrink
from ecsnet.world import World

if TYPE_CHECKING:
    from ecsnet.schema.python import Row

TRIES_MAX = 30
WALL_S_MAX = 20.0
"""For one failed test. A suite with many failures is not to take an hour longer than without."""

VIOLATIONS_SHOWN = 8

FIXTURE = "ecsnet_cluster"


class MakeCluster(Protocol):
    """What the fixture gives."""

    def __call__(self, world: World, **arguments: Any) -> Cluster: ...


# --- figures that explain themselves ----------------------------------------------------------------------------------


class Figure(float):
    """A number that knows what it is: an assertion that fails on it says so."""

    what: str
    unit: str
    about: str
    """The run it is of, for the lines below."""

    def __new__(cls, value: float, what: str, unit: str, about: str) -> "Figure":
        figure = super().__new__(cls, value)
        figure.what, figure.unit, figure.about = what, unit, about
        return figure

    def __repr__(self) -> str:
        return _with_unit(self, self.unit)

    def __reduce__(self) -> tuple[Any, ...]:
        return Figure, (float(self), self.what, self.unit, self.about)


_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


def explain_comparison(op: str, left: object, right: object) -> list[str] | None:
    """What pytest shows for a comparison that failed; None if it is not of a figure of ours."""
    if not isinstance(left, Figure):
        left, right, op = right, left, _MIRRORED.get(op, "")
    if not isinstance(left, Figure) or not isinstance(right, int | float) or op not in _MIRRORED:
        return None
    if math.isnan(left):
        return [f"{left.what} is unknown, expected {op} {_with_unit(right, left.unit)}", f"no samples: {left.about}"]
    return [f"{left.what} is {left!r}, expected {op} {_with_unit(right, left.unit)}", left.about]


def _with_unit(value: float, unit: str) -> str:
    text = f"{float(value):,.1f}".removesuffix(".0")
    return f"{text} {unit}" if unit else text


# --- what the command line changes ------------------------------------------------------------------------------------


class Overrides(msgspec.Struct, frozen=True):
    """What clusters get in place of what the test gives them; None leaves the test's. `faults` are numbers from 0."""

    seed: int | None = None
    profile: str | None = None
    clients: int | None = None
    seconds: float | None = None
    faults: tuple[int, ...] | None = None
    shrinks: bool = True

    @classmethod
    def of(cls, config: pytest.Config) -> "Overrides":
        """Those of the command line. Raises ArgumentError for faults that are no numbers."""
        faults = config.getoption("--ecsnet-faults")
        return cls(
            seed=config.getoption("--ecsnet-seed"),
            profile=config.getoption("--ecsnet-profile"),
            clients=config.getoption("--ecsnet-clients"),
            seconds=config.getoption("--ecsnet-seconds"),
            faults=None if faults is None else _numbers(faults),
            # A debugger is opened where the test failed; runs after that would be in its way.
            shrinks=not (config.getoption("--ecsnet-no-shrink") or config.getoption("usepdb", False)),
        )

    def check(self) -> None:
        """Refuse what no run can be. Raises ArgumentError, UnknownNameError or ConfigError."""
        bounds = {"seed": (0, SEED_MAX), "clients": (0, CLIENTS_MAX), "seconds": (0, SECONDS_MAX)}
        for name, (least, greatest) in bounds.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= greatest:
                raise ArgumentError(f"--ecsnet-{name} is {value}; it must be in [{least}, {greatest}]")
        if self.profile is not None:
            profile(self.profile)

    def options(self) -> list[str]:
        """The options that say the same."""
        given: list[tuple[str, object]] = [
            ("seed", self.seed),
            ("profile", self.profile),
            ("clients", self.clients),
            ("faults", None if self.faults is None else ",".join(str(one + 1) for one in self.faults) or "none"),
            ("seconds", None if self.seconds is None else f"{self.seconds:g}"),
        ]
        return [f"--ecsnet-{name}={value}" for name, value in given if value is not None]


def _numbers(text: str) -> tuple[int, ...]:
    if text == "none":
        return ()
    try:
        numbers = tuple(int(word) - 1 for word in text.split(","))
    except ValueError:
        numbers = (-1,)
    if min(numbers) < 0:
        raise ArgumentError(f"--ecsnet-faults is {text!r}; give numbers of faults from 1, as in 2,5, or none")
    return numbers


# --- clusters ---------------------------------------------------------------------------------------------------------


class OutOfTime(BaseException):
    """The time for shrinking is over. Not an Exception: a test's own `except` must not take it."""


class StagedCluster(Cluster):
    """A cluster that a stage made: its time may be cut short, and its figures say what they are."""

    def __init__(self, stage: "Stage", world: World, *, faults: Sequence[Fault], **arguments: Any) -> None:
        self._stage = stage
        self.faults = tuple(faults)
        self.clients = arguments["clients"]
        self.asked_ticks = 0
        """Ticks that the test let pass, without those of coming to rest."""
        super().__init__(world, faults=faults, **arguments)

    def step(self, ticks: int = 1) -> None:
        """As `Cluster.step`, within what the stage leaves."""
        seconds = self._stage.overrides.seconds
        left = ticks if seconds is None else min(ticks, round(seconds * self.world.hz) - self.asked_ticks)
        for _ in range(left):
            self._stage.check_time()
            super().step()
            self.asked_ticks += 1

    def lag(self, table: "str | type[Row] | None" = None, *, player: Player | None = None) -> LagFigures:
        """As `Cluster.lag`, in numbers that say what they are."""
        lag = super().lag(table, player=player)
        self._stage.lag_unknown |= not lag.n
        of = "" if table is None else f" of {table if isinstance(table, str) else table.ecsnet_table}"
        of += "" if player is None else f" at {player.name}"
        named = {
            field: Figure(getattr(lag, field), f"lag {field.removesuffix('_ms')}{of}", "ms", f"{self.words()}: {lag}")
            for field in LagFigures.__struct_fields__
            if field != "n"
        }
        return LagFigures(n=lag.n, **named)

    @property
    def bytes_per_client_s(self) -> float:
        """As `Cluster.bytes_per_client_s`."""
        return Figure(super().bytes_per_client_s, "bytes to a client", "B/s", self.words())

    def words(self) -> str:
        """As in "seed 7, bad-wifi, 8 clients, 30 s"."""
        parts = [f"seed {self.seed}", self.profile.name, f"{self.clients} client{'' if self.clients == 1 else 's'}"]
        if self.faults:
            parts.append(f"{len(self.faults)} fault{'' if len(self.faults) == 1 else 's'}")
        return ", ".join([*parts, f"{round(self.now_s, 1):g} s"])


class Stage:
    """The clusters of one test, from the fixture to what is said of its failure."""

    def __init__(self, overrides: Overrides) -> None:
        self.overrides = overrides
        self.clusters: list[StagedCluster] = []
        self.lag_unknown = False
        """The test asked for a lag of which there are no samples: that fails any comparison, and tells nothing."""
        self._deadline = math.inf
        self._begin = time.monotonic()
        self._in_fixtures = False
        """Clusters were made before the test's own function began."""

    def make(self, world: World, **arguments: Any) -> Cluster:
        """What the fixture does: a `Cluster` with the same arguments, but for what the command line replaces."""
        if not isinstance(world, World):
            raise ArgumentError(f"ecsnet_cluster takes a World, not {world!r}; import it from the game")
        wanted = self.overrides
        faults = tuple(arguments.pop("faults", ()))
        arguments.setdefault("clients", 2)
        for name in ("seed", "profile", "clients"):
            value = getattr(wanted, name)
            if value is not None:
                arguments[name] = value
        if wanted.faults is not None:
            faults = tuple(fault for number, fault in enumerate(faults) if number in wanted.faults)
        if wanted.clients is not None:
            # Faults of players that are not there any more go with them.
            names = {f"client-{number}" for number in range(wanted.clients)}
            faults = tuple(fault for fault in faults if fault.who is None or fault.who in names)
        cluster = StagedCluster(self, world, faults=faults, **arguments)
        self.clusters.append(cluster)
        return cluster

    def begin(self) -> None:
        """The test's own function begins."""
        self._in_fixtures = bool(self.clusters)

    def check_time(self) -> None:
        if time.monotonic() >= self._deadline:
            raise OutOfTime

    def check(self) -> None:
        """Fail the test if a checker found something that it did not ask about."""
        lines = [line for cluster in self.clusters if cluster.checkers.found for line in _violations(cluster)]
        if lines:
            pytest.fail("\n".join(["the network checkers found what must never happen:", *lines]), pytrace=False)

    def close(self) -> None:
        for cluster in self.clusters:
            cluster.close()

    # --- a failure -------------------------------------------------------------------------------------------------

    def explain(self, item: pytest.Item, error: BaseException) -> str:
        """What is to be said of a failure: how to replay it, and a smaller run that fails too. Never raises."""
        if not self.clusters or isinstance(error, pytest.xfail.Exception) or item.get_closest_marker("xfail"):
            return ""
        took_s = time.monotonic() - self._begin
        first = _Attempt.of(item, error, self)
        lines = [f"run      {cluster.words()}: {_lag_words(Cluster.lag(cluster))}" for cluster in self.clusters[-3:]]
        if not isinstance(error, pytest.fail.Exception | NotConvergedError):
            found = [line for cluster in self.clusters for line in _violations(cluster)]
            lines += ["moreover the network checkers found what must never happen:", *found] if found else []
        given = self.overrides
        try:
            self.close()
            lines += _Shrinking(self, item, first, given).lines(took_s)
        except Exception as trouble:  # noqa: BLE001  (whatever goes wrong here must not hide the failure itself)
            seed = None if len({cluster.seed for cluster in self.clusters}) > 1 else self.clusters[-1].seed
            lines += [_replay(item, msgspec.structs.replace(given, seed=seed)), f"not shrunk: {trouble!r}"]
        finally:
            self.close()
            self.overrides = given
        return "\n".join(lines)

    def run_again(self, item: pytest.Item, overrides: Overrides, deadline: float) -> "_Attempt | None":
        """Run the test's function once more with other clusters. None if the time is over."""
        self.overrides, self.clusters, self._deadline = overrides, [], deadline
        self.lag_unknown = False
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                if self._in_fixtures:
                    _set_up_again(item)
                item.runtest()
                self.check()
        except OutOfTime:
            return None
        except (Exception, pytest.fail.Exception, pytest.skip.Exception) as error:  # noqa: BLE001  (the test's own code)
            return _Attempt.of(item, error, self)
        finally:
            self.close()
        return _Attempt("", "", self.clusters)


class _Attempt:
    """One run of the test: how it failed, if it did, and with which clusters."""

    def __init__(self, failure: str, trace_hash: str, clusters: Sequence[StagedCluster]) -> None:
        self.failure = failure
        self.trace_hash = trace_hash
        self.clusters = tuple(clusters)

    @classmethod
    def of(cls, item: pytest.Item, error: BaseException, stage: Stage) -> "_Attempt":
        clusters = stage.clusters
        checkers = {one.checker for cluster in clusters for one in cluster.violations}
        if checkers:
            # Whatever the test says of a run that went wrong, this is why.
            failure = ", ".join(sorted(checkers))
        else:
            failure = f"{type(error).__name__} in line {_line_in_test(item, error)}"
            failure += ", without samples" if stage.lag_unknown else ""
        return cls(failure, clusters[-1].trace_hash if clusters else "", clusters)

    @property
    def case(self) -> Case:
        """What can be made smaller: the greatest of each over its clusters."""
        return Case(
            clients=max(cluster.clients for cluster in self.clusters),
            seconds=round(max(cluster.asked_ticks / cluster.world.hz for cluster in self.clusters), 3),
            faults=tuple(range(max(len(cluster.faults) for cluster in self.clusters))),
        )

    @property
    def failed_at_s(self) -> float:
        """Virtual seconds until the first violation, or until the test ended."""
        at_s = [one.tick / cluster.world.hz for cluster in self.clusters for one in cluster.violations[:1]]
        return min(at_s, default=max((cluster.asked_ticks / cluster.world.hz for cluster in self.clusters), default=0))


class _Shrinking:
    """Runs a failed test again, and puts into words what comes of it."""

    def __init__(self, stage: Stage, item: pytest.Item, first: _Attempt, given: Overrides) -> None:
        self._stage = stage
        self._item = item
        self._first = first
        self._given = given
        self._deadline = 0.0

    def lines(self, took_s: float) -> list[str]:
        item, first, given = self._item, self._first, self._given
        seeds = {cluster.seed for cluster in first.clusters}
        # With several seeds in one test, that of the newest cluster: it is where the test ended.
        wanted = msgspec.structs.replace(given, seed=first.clusters[-1].seed)
        why_not = _why_not(item, given, took_s)
        if why_not:
            return [_replay(item, wanted if len(seeds) == 1 else given), f"not shrunk: {why_not}"]
        begin = time.monotonic()
        self._deadline = begin + WALL_S_MAX
        second = self._stage.run_again(item, wanted, self._deadline)
        if len(seeds) > 1 and second is not None and second.failure != first.failure:
            wanted = given
            second = self._stage.run_again(item, wanted, self._deadline)
        lines = [_replay(item, wanted)]
        if second is None:
            return [*lines, f"not shrunk: a second run took more than {WALL_S_MAX:g} s"]
        if second.failure != first.failure:
            how = f"failed otherwise ({second.failure})" if second.failure else "passed"
            return [
                *lines,
                f"not shrunk: run again with the same seed it {how}. Something does not come from the seed: the clock, "
                "the order of a set, a global generator, or what an earlier run left behind",
            ]
        if second.trace_hash != first.trace_hash:
            lines.append(
                f"note     two runs with this seed went different ways (traces {first.trace_hash[:12]} and "
                f"{second.trace_hash[:12]}): something does not come from the seed"
            )
        return lines + self._shrunk_lines(wanted, second, begin)

    def _shrunk_lines(self, wanted: Overrides, second: _Attempt, begin: float) -> list[str]:
        everything = second.case

        def fails(case: Case) -> float | None:
            attempt = self._stage.run_again(self._item, _overrides(wanted, everything, case), self._deadline)
            return attempt.failed_at_s if attempt is not None and attempt.failure == second.failure else None

        shrunk: Shrunk = shrink(
            everything,
            fails,
            failed_at_s=second.failed_at_s,
            tries=TRIES_MAX,
            wall_s=self._deadline - time.monotonic(),
        )
        effort = f"{shrunk.tries} runs, {time.monotonic() - begin:.1f} s"
        if not shrunk.finished:
            effort += ", then the search was ended"
        if not shrunk.smaller:
            return [f"shrunk   nothing smaller fails ({effort})"]
        return [
            f"shrunk   also fails with {shrunk.case.words()} ({effort}):",
            f"         {_command(self._item, _overrides(wanted, everything, shrunk.case))}",
        ]


def _overrides(wanted: Overrides, everything: Case, case: Case) -> Overrides:
    """`wanted`, and what `case` has less than `everything`. Only that: a test's clusters need not be alike."""
    return msgspec.structs.replace(
        wanted,
        clients=wanted.clients if case.clients == everything.clients else case.clients,
        seconds=wanted.seconds if case.seconds == everything.seconds else case.seconds,
        faults=wanted.faults if case.faults == everything.faults else _kept(wanted.faults, case.faults),
    )


def _kept(given: tuple[int, ...] | None, case: tuple[int, ...]) -> tuple[int, ...]:
    """Numbers in the test's own list: a case counts in what the command line left of it."""
    return case if given is None else tuple(given[number] for number in case if number < len(given))


def _why_not(item: pytest.Item, given: Overrides, took_s: float) -> str:
    """Why a failed test is not run again; empty if it is."""
    if not given.shrinks:
        return "it was asked not to be"
    function = inspect.unwrap(getattr(item, "obj", None) or (lambda: None))
    if inspect.iscoroutinefunction(function):
        return "an async test is not run again"
    if getattr(function, "is_hypothesis_test", False) or hasattr(item.obj, "hypothesis"):  # type: ignore[attr-defined]
        return "hypothesis shrinks its own examples"
    if took_s > WALL_S_MAX:
        return f"one run takes {took_s:.0f} s"
    return ""


def _set_up_again(item: Any) -> None:
    """Take down the fixture and all that were made of it, and make them anew; others stay as they are. pytest has no
    public way to do this in the middle of a test; without these names of its own the test is not shrunk."""
    item._request._get_active_fixturedef(FIXTURE).finish(item._request)
    item._initrequest()
    item._request._fillfixtures()


def _lag_words(lag: LagFigures) -> str:
    return f"lag {lag}" if lag.n else "no player got anything that it waited for"


def _replay(item: pytest.Item, overrides: Overrides) -> str:
    return f"replay   {_command(item, overrides)}"


def _command(item: pytest.Item, overrides: Overrides) -> str:
    path, colons, names = item.nodeid.partition("::")
    with contextlib.suppress(ValueError):
        # From where pytest was called, which need not be its root. Elsewhere than on this drive there is no such path.
        path = os.path.relpath(item.path, item.config.invocation_params.dir)
    return shlex.join(["pytest", f"{path}{colons}{names}", *overrides.options()])


def _line_in_test(item: pytest.Item, error: BaseException) -> int:
    """The last line of the test's own file on the way to the error."""
    path = str(item.path)
    line, traceback = 0, error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == path:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


def _violations(cluster: StagedCluster) -> Iterator[str]:
    for one in cluster.violations[:VIOLATIONS_SHOWN]:
        yield f"  tick {one.tick} ({one.tick / cluster.world.hz:.1f} s) [{one.checker}] {one.what}"
    if cluster.checkers.found > VIOLATIONS_SHOWN:
        yield f"  and {cluster.checkers.found - VIOLATIONS_SHOWN} more"
