"""`ecsnet sim`: a node and its players in virtual time on a bad network, once, many times, or side by side."""

import io
import logging
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecsnet.cli import new_app
from ecsnet.errors import ArgumentError, EcsnetError

if TYPE_CHECKING:
    from ecsnet.cli.sim_screen import Screen
    from ecsnet.sim.recording import Recording
    from ecsnet.sim.run import Game, Outcome
    from ecsnet.sim.scenario import Scenario

app = new_app()

MANY = "Many runs"
OWN = "A game of your own"
SHOWN = "What is shown"


@app.command()
def sim(
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="What lines are like: perfect, lan, broadband, wifi, bad-wifi, 4g, 5g, satellite, congested, train, "
            "or a TOML file. Default: lan.",
            show_default=False,
        ),
    ] = None,
    clients: Annotated[int | None, typer.Option(metavar="N", help="Players. Default: 8.", show_default=False)] = None,
    entities: Annotated[
        int | None,
        typer.Option(metavar="N", help="Entities beside the players' own. Default: 500.", show_default=False),
    ] = None,
    moving: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Share of them that moves in every tick. Default: 1.", show_default=False),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(metavar="S", help="Virtual seconds. Default: 30.", show_default=False)
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="Decides everything that is random. Default: 0.", show_default=False),
    ] = None,
    hz: Annotated[
        int | None,
        typer.Option(metavar="N", help="Ticks a second. Default: the world's own, 30.", show_default=False),
    ] = None,
    transport: Annotated[
        str | None,
        typer.Option(
            metavar="KIND", help="stream (as TCP), datagram (as UDP) or mixed. Default: stream.", show_default=False
        ),
    ] = None,
    durability: Annotated[
        str | None,
        typer.Option(
            metavar="LEVEL",
            help="Of the node's disk: memory, relaxed, strict, paranoid, or none: no disk. Default: none.",
            show_default=False,
        ),
    ] = None,
    faults: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|JSON", help="What goes wrong and when: TOML or JSON, or a JSON list.", show_default=False
        ),
    ] = None,
    hostile: Annotated[
        int | None,
        typer.Option(metavar="N", help="Clients beside them that send whatever they like.", show_default=False),
    ] = None,
    nodes: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="In place of a node and its players so many nodes that write the same tables; --swarm has them fail.",
            show_default=False,
        ),
    ] = None,
    interest: Annotated[
        bool | None,
        typer.Option(
            "--interest/--no-interest", help="Players are sent what is near them and theirs alone.", show_default=False
        ),
    ] = None,
    quantized: Annotated[
        bool | None,
        typer.Option("--quantized/--no-quantized", help="Places are sent rounded to a step.", show_default=False),
    ] = None,
    writes: Annotated[
        bool | None,
        typer.Option(
            "--writes/--no-writes", help="Players write cells without commands, too, theirs or not.", show_default=False
        ),
    ] = None,
    roles: Annotated[
        bool | None,
        typer.Option("--roles/--no-roles", help="Some players are admins, and see more.", show_default=False),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(
            metavar="BYTES", help="A player is sent so many bytes of rows a second; 0: no bound.", show_default=False
        ),
    ] = None,
    staleness: Annotated[
        float | None,
        typer.Option(metavar="S", help="With --budget a row waits so long at most. Default: 1.", show_default=False),
    ] = None,
    scenario: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="All of this from a TOML or JSON file; options go first.", show_default=False
        ),
    ] = None,
    swarm: Annotated[
        bool, typer.Option("--swarm", help="The seed draws faults, and what is not given.", rich_help_panel=MANY)
    ] = False,
    seeds: Annotated[
        int | None,
        typer.Option(metavar="N", help="Run so many seeds, each once.", rich_help_panel=MANY, show_default=False),
    ] = None,
    first_seed: Annotated[
        int | None,
        typer.Option(metavar="K", help="The first of them. Default: 1.", rich_help_panel=MANY, show_default=False),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Processes at once. Default: one for each core.", rich_help_panel=MANY, show_default=False
        ),
    ] = None,
    world: Annotated[
        str,
        typer.Option(
            metavar="MODULE:WORLD|SCHEMA.toml",
            help="In place of the demo's arena.",
            rich_help_panel=OWN,
            show_default=False,
        ),
    ] = "",
    setup: Annotated[
        str,
        typer.Option(
            metavar="MODULE:NAME",
            help="setup(store) fills the world before the first tick.",
            rich_help_panel=OWN,
            show_default=False,
        ),
    ] = "",
    play: Annotated[
        str,
        typer.Option(
            metavar="MODULE:NAME",
            help="play(player) is called for each live player in every tick.",
            rich_help_panel=OWN,
            show_default=False,
        ),
    ] = "",
    trio: Annotated[
        bool,
        typer.Option("--trio", help="The real node and clients under Trio, on simulated streams and a mock clock."),
    ] = False,
    wall_limit: Annotated[
        float | None,
        typer.Option(metavar="S", help="Stop a run after so much real time. Default: 600.", show_default=False),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR|FILE.html",
            help="Write what happened as one HTML page, in a folder with pictures beside it.",
            rich_help_panel=SHOWN,
            show_default=False,
        ),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Run it over these lines, too, and show both side by side.",
            rich_help_panel=SHOWN,
            show_default=False,
        ),
    ] = None,
    no_shrink: Annotated[
        bool, typer.Option("--no-shrink", help="Do not look for a smaller run that fails.", rich_help_panel=SHOWN)
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print nothing but one JSON object, on the last line; see above.", rich_help_panel=SHOWN
        ),
    ] = False,
) -> None:
    """Run a node and its players in one process, in virtual time, on a simulated network, and check everything.

    The world is the demo's arena, or one of your own. While it runs, checkers compare every version that a player
    applies with what the node held, bit for bit, and every answer with what was decided. At the end faults stop, lines
    heal, and within five virtual seconds everybody must hold the same. **The exit status is 0 only if they do and no
    checker found anything.**

    **Equal seeds give equal runs**: a failure prints the command that replays it, and a smaller run that fails too.

    **ecsnet sim --profile bad-wifi --clients 8 --seed 7** is one run.

    **ecsnet sim --swarm --seeds 100** is a hundred, each with a network and faults of its own.

    **ecsnet sim --profile wifi --compare 4g --report page.html** draws two side by side.

    What --json prints: **lag_ms** from the beginning of a tick until a player has applied its version, in virtual time.
    **speed**: virtual seconds a second. **trace_hash**: every frame, its virtual time and every fault. **violations**
    are those of checkers, **stopped** and **error** say why a run ended early. Of many runs **failed_seeds**, and
    **fault_share**: of the runs, how many had each kind of fault.
    """
    from ecsnet.sim.run import WALL_LIMIT_S
    from ecsnet.sim.scenario import Scenario, read_scenario

    base = Scenario() if scenario is None else read_scenario(scenario)
    given: dict[str, Any] = {
        "profile": profile,
        "clients": clients,
        "entities": entities,
        "moving": moving,
        "seconds": seconds,
        "seed": seed,
        "hz": hz,
        "transport": transport,
        "durability": durability,
        "faults": None if faults is None else _faults(faults),
        "hostile": hostile,
        "nodes": nodes,
        "interest": interest,
        "quantized": quantized,
        "writes": writes,
        "roles": roles,
        "budget": budget,
        "staleness": staleness,
        "swarm": swarm or None,
        "world": world or None,
        "setup": setup or None,
        "play": play or None,
    }
    wanted = base.with_(**{name: value for name, value in given.items() if value is not None})
    if wanted.world and (wanted.entities is not None or wanted.moving is not None):
        raise ArgumentError("--entities and --moving are of the demo's world; a world of your own is filled by --setup")
    if seeds is None and (first_seed is not None or jobs is not None):
        raise ArgumentError("--first-seed and --jobs are for many runs; give --seeds N too, or --seed K for one")

    from ecsnet.cli.sim_screen import Screen

    limit_s = WALL_LIMIT_S if wall_limit is None else wall_limit
    if not limit_s > 0:
        raise ArgumentError(f"--wall-limit is {limit_s:g}; it must be more than 0")
    if wanted.nodes and (trio or report is not None or compare is not None):
        raise ArgumentError("--nodes records nothing to draw, and runs cores: leave --report, --compare and --trio out")
    screen = Screen(as_json)
    with quiet():
        if seeds is not None:
            if report is not None or compare is not None or trio or seed is not None:
                raise ArgumentError(
                    "--report, --compare, --trio and --seed are for one run; leave them out, or --seeds"
                )
            ok = _run_many(wanted, seeds, 1 if first_seed is None else first_seed, jobs, limit_s, not no_shrink, screen)
        elif trio:
            if report is not None or compare is not None:
                raise ArgumentError("--trio records nothing to draw; leave --report and --compare out, or --trio")
            if wall_limit is not None:
                raise ArgumentError("--trio runs until its virtual time is over; leave --wall-limit out, or --trio")
            ok = _run_in_trio(wanted, screen)
        else:
            others = [] if compare is None else [wanted.with_(profile=compare)]
            ok = _run([wanted, *others], report, limit_s, not no_shrink, screen)
    if not ok:
        raise typer.Exit(1)


def game_of(scenario: "Scenario") -> "Game":
    """The game that a scenario names."""
    settled = scenario.settled()
    if settled.nodes:
        from ecsnet.sim.nodes import SCHEMA
        from ecsnet.sim.run import Game
        from ecsnet.world import World

        return Game(World(SCHEMA))
    if not settled.world:
        from ecsnet.demo import simulated, varied

        assert settled.entities is not None and settled.moving is not None
        variety = varied.Variety(
            interest=bool(settled.interest),
            quantized=bool(settled.quantized),
            writes=bool(settled.writes),
            roles=bool(settled.roles),
            budget=bool(settled.budget),
        )
        bounds = varied.Bounds(settled.budget or None, settled.staleness or varied.Bounds().staleness_max_s)
        make = partial(varied.game, variety, bounds) if any(variety) else simulated.game
        return make(entities=settled.entities, moving=settled.moving, seed=settled.seed, hz=settled.hz)

    from ecsnet.cli.target import load_function, load_world
    from ecsnet.sim.run import Game

    return Game(
        load_world(settled.world, hz=settled.hz, seed=settled.seed),
        setup=load_function(settled.setup) if settled.setup else None,
        play=load_function(settled.play) if settled.play else None,
    )


def game_of_process(scenario: "Scenario") -> "Game":
    """The game that a scenario names, in one of the processes of many runs: they are as quiet as the one that asks."""
    logging.getLogger("ecsnet").setLevel(logging.CRITICAL)
    return game_of(scenario)


@contextmanager
def quiet() -> Iterator[None]:
    """What cores and nodes log of a bad network is what was asked for; checkers say what is wrong."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that lacks a sign shows another; it is no reason to fail.
        sys.stdout.reconfigure(errors="replace")
    logger = logging.getLogger("ecsnet")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _faults(given: str) -> Any:
    from ecsnet.sim.faults import read_faults
    from ecsnet.sim.scenario import scenario_faults

    if given.lstrip().startswith("["):
        return scenario_faults(given, source="--faults")
    return tuple(read_faults(given))


def _run(scenarios: "list[Scenario]", report: Path | None, limit_s: float, shrinks: bool, screen: "Screen") -> bool:
    import msgspec

    from ecsnet.sim.run import no_outcome, run_recorded, run_scenario
    from ecsnet.sim.shrink import shrink_scenario

    write = None if report is None else _writer(report)
    outcomes: list[Outcome] = []
    recordings: list[Recording] = []
    shrunk: list[Any] = []
    for scenario in scenarios:
        try:
            with screen.running(scenario) as progress:
                game = game_of(scenario)
                outcome, recording = run_recorded(scenario, game, wall_limit_s=limit_s, on_progress=progress)
            recordings.append(recording)
        except EcsnetError:
            raise
        except Exception as raised:  # noqa: BLE001  (the game's own code, before there is a run: in its `setup`)
            error = f"{type(raised).__name__}: {raised}"
            outcome = no_outcome(scenario.settled(), error=error, trace=traceback.format_exc())
            outcome = msgspec.structs.replace(outcome, replay=scenario.command())
        outcomes.append(outcome)
        smaller = None
        if shrinks and not outcome.ok:
            with screen.busy("looking for a smaller run that fails, too"):
                smaller = shrink_scenario(
                    scenario, outcome, lambda one, wall_s: run_scenario(one, game_of(one), wall_limit_s=wall_s)
                )
        shrunk.append(smaller)
    written: list[Path] = []
    trouble = None
    try:
        # Of a run that never began there is nothing to draw.
        if write is not None and len(recordings) == len(outcomes):
            written = write(recordings)
    except OSError as error:
        trouble = error
    screen.outcomes(outcomes, shrunk, written)
    if trouble is not None:
        raise ArgumentError(f"{report}: the report cannot be written: {trouble.strerror or trouble}") from trouble
    return all(outcome.ok for outcome in outcomes)


def _writer(report: Path) -> Any:
    """What writes the report. Whether it can is known before the run, not after it."""
    from importlib.util import find_spec

    from ecsnet.errors import MissingExtraError
    from ecsnet.sim.report import write_html, write_png

    is_page = report.suffix in (".html", ".htm")
    if report.suffix and not is_page:
        raise ArgumentError(f"{report}: a report is an .html file, or a folder for the page and its pictures")
    if not is_page and find_spec("matplotlib") is None:
        raise MissingExtraError("pictures of a run", "matplotlib", "report")
    try:
        (report.parent if is_page else report).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(f"{report}: the report cannot be written: {error.strerror}") from error
    if is_page and report.is_dir():
        raise ArgumentError(f"{report}: the report cannot be written: Is a directory")
    if is_page:

        def write_page(recordings: "list[Recording]") -> list[Path]:
            return [write_html(report, *recordings)]

        return write_page

    def write_folder(recordings: "list[Recording]") -> list[Path]:
        page = write_html(report / "report.html", *recordings)
        return [page, *write_png(report, *recordings), *write_png(report, *recordings, dark=True)]

    return write_folder


def _run_many(
    wanted: "Scenario", seeds: int, first_seed: int, jobs: int | None, limit_s: float, shrinks: bool, screen: "Screen"
) -> bool:
    import os

    from ecsnet.sim.profile import profile as check_profile
    from ecsnet.sim.run import Tally, run_many, run_scenario
    from ecsnet.sim.shrink import shrink_scenario

    if seeds < 1:
        raise ArgumentError(f"--seeds is {seeds}; at least one")
    scenarios = [wanted.with_(seed=number) for number in range(first_seed, first_seed + seeds)]
    # What cannot be run at all is said once, here.
    check_profile(scenarios[0].settled().profile or "")
    game_of(scenarios[0])
    begin = time.monotonic()
    tally = Tally()
    failed: list[tuple[Any, Scenario, Outcome]] = []
    with screen.running_many(seeds) as progress:
        for scenario, outcome in run_many(scenarios, game_of_process, jobs=jobs, wall_limit_s=limit_s):
            failure = tally.add(outcome)
            progress(outcome)
            if failure is not None:
                failed.append((failure, scenario, outcome))
    wall_s = time.monotonic() - begin
    if shrinks:
        failed.sort(key=lambda one: one[1].seed)
        for failure, scenario, outcome in failed[:SHRUNK_MAX]:
            with screen.busy(f"looking for a smaller run that fails like seed {scenario.seed}"):
                smaller = shrink_scenario(
                    scenario, outcome, lambda one, wall_s: run_scenario(one, game_of(one), wall_limit_s=wall_s)
                )
            if smaller is not None:
                failure.shrunk, failure.shrunk_replay = smaller.words, smaller.replay
    summary = tally.summary(first_seed=first_seed, wall_s=wall_s, jobs=jobs or min(seeds, os.cpu_count() or 1))
    screen.summary(summary, swarm=wanted.swarm)
    return not summary.failed_seeds


SHRUNK_MAX = 3
"""Of many failures the first are shrunk: each takes up to half a minute, and they often have one cause."""


def _run_in_trio(wanted: "Scenario", screen: "Screen") -> bool:
    from ecsnet.sim.run import run_scenario_in_trio

    with screen.busy("the real node and clients, under Trio"):
        outcome = run_scenario_in_trio(wanted, game_of(wanted))
    screen.outcomes([outcome], [None], [])
    return outcome.ok
