"""`ecsnet bench NAME`: the figures, beside the peers', measured now on this machine."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecsnet.cli import new_app

if TYPE_CHECKING:
    from ecsnet.bench.figures import Figure
    from ecsnet.bench.reporting import Reporter

app = new_app(no_args_is_help=True)

_JSON = Annotated[bool, typer.Option("--json", help="Print each figure as a JSON object on its line.")]


@app.callback()
def bench() -> None:
    """Measure ecsnet beside others, in the same run, and say which goals are met.

    Ratios hold on other machines too, roughly; what is in ns, ms or cores says what this machine did just now. Run one
    at a time on a machine with nothing else to do.
    """


@app.command()
def store(
    n: Annotated[
        list[int] | None,
        typer.Option("--n", min=1, metavar="N", help="Entities; may be given again. Default: 10000 and 100000."),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each, of which the median counts.")] = 5,
    as_json: _JSON = False,
) -> None:
    """The store from Python, beside numpy, esper, SQLite and LMDB: point writes and reads, bulk, iteration, memory.

    A point write's figure contains its share of the commit of a transaction of 1000.
    """
    from ecsnet.bench import store as benchmark
    from ecsnet.bench.reporting import reporter

    with reporter("ecsnet bench store", as_json) as report:
        _print(report, benchmark.run(n or benchmark.N_DEFAULT, runs=runs, note=_note, progress=report.progress))


@app.command()
def query(
    n: Annotated[
        list[int] | None,
        typer.Option("--n", min=10, metavar="N", help="Entities and items; may come again. Default: 10000, 100000."),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each, of which the median counts.")] = 5,
    as_json: _JSON = False,
) -> None:
    """Filters, joins, groups, orders, relations and look-ups, beside SQLite in memory, DuckDB and plain numpy columns.

    Each answers the same question and brings the whole answer into Python.
    """
    from ecsnet.bench import query as benchmark
    from ecsnet.bench.reporting import reporter

    with reporter("ecsnet bench query", as_json) as report:
        _print(report, benchmark.run(n or benchmark.N_DEFAULT, runs=runs, note=_note, progress=report.progress))


@app.command()
def spatial(
    n: Annotated[
        list[int] | None,
        typer.Option("--n", min=100, metavar="N", help="Points; may be given again. Default: 10000 and 100000."),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each, of which the median counts.")] = 5,
    as_json: _JSON = False,
) -> None:
    """Radius, box and nearest neighbours, and keeping the index up to date, beside numpy, SQLite's R*Tree and scipy."""
    from ecsnet.bench import spatial as benchmark
    from ecsnet.bench.reporting import reporter

    with reporter("ecsnet bench spatial", as_json) as report:
        _print(report, benchmark.run(n or benchmark.N_DEFAULT, runs=runs, note=_note, progress=report.progress))


@app.command(name="bytes")
def bytes_(
    entities: Annotated[int, typer.Option(min=100, help="Entities, of which a share moves in each tick.")] = 10_000,
    ticks: Annotated[int, typer.Option(min=1, help="Ticks that are measured.")] = 40,
    as_json: _JSON = False,
) -> None:
    """What a moved entity takes on the wire, and its encoding, beside raw columns and deflated JSON."""
    from ecsnet.bench import bytes as benchmark
    from ecsnet.bench.reporting import reporter

    with reporter("ecsnet bench bytes", as_json) as report:
        _print(report, benchmark.run(entities, ticks=ticks, progress=report.progress))


@app.command()
def interest(
    n: Annotated[
        list[int] | None,
        typer.Option("--n", min=100, metavar="N", help="Entities; may be given again. Default: 10000."),
    ] = None,
    clients: Annotated[int, typer.Option(min=1, help="Clients, each of which sees about 50 entities.")] = 1000,
    ticks: Annotated[int, typer.Option(min=1, help="Ticks of each kind, of which the median counts.")] = 60,
    as_json: _JSON = False,
) -> None:
    """What many clients may see of a moving crowd, and its deltas, beside numpy doing it client by client."""
    from ecsnet.bench import interest as benchmark
    from ecsnet.bench.reporting import reporter

    with reporter("ecsnet bench interest", as_json) as report:
        _print(report, benchmark.run(n or benchmark.N_DEFAULT, clients=clients, ticks=ticks, progress=report.progress))


@app.command()
def contention(
    n: Annotated[
        list[int] | None,
        typer.Option("--n", min=1, max=256, metavar="N", help="Threads; may be given again. Default: 1, 2, 4, 8."),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each, of which the median counts.")] = 5,
    operations: Annotated[int, typer.Option(min=1, help="Of all threads together, in one run.")] = 8000,
    as_json: _JSON = False,
) -> None:
    """Producers and readers on many threads of one store, beside SQLite behind a lock and a bare queue."""
    from ecsnet.bench import contention as benchmark
    from ecsnet.bench.reporting import reporter

    with reporter("ecsnet bench contention", as_json) as report:
        threads = n or benchmark.N_DEFAULT
        _print(report, benchmark.run(threads, runs=runs, operations=operations, progress=report.progress))


@app.command()
def replication(
    n: Annotated[
        list[int] | None,
        typer.Option("--n", min=1, metavar="N", help="Entities; may be given again. Default: 1000 and 10000."),
    ] = None,
    hz: Annotated[int, typer.Option(min=1, help="Ticks a second.")] = 60,
    clients: Annotated[int, typer.Option(min=1, help="Clients: a probe that applies, others that count.")] = 50,
    windows: Annotated[int, typer.Option(min=1, help="Windows, of which medians are taken.")] = 5,
    window_s: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="Length of a window.")] = 1.2,
    warm_up_s: Annotated[float, typer.Option(min=0.0, metavar="SECONDS", help="Not counted, before them.")] = 1.0,
    precision: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="lossless or quantised; may come again. Default: both."),
    ] = None,
    peers: Annotated[
        Path | None,
        typer.Option(metavar="DIR", envvar="ECSNET_BENCH_PEERS", help="The folder of repl_bench.mjs, for Colyseus."),
    ] = None,
    as_json: _JSON = False,
) -> None:
    """A node and its clients over TCP while everything moves, beside a JSON broadcast, the bare sends of the same
    bytes, and Colyseus: bytes, server CPU, lag. Positions are exact f32 in one run, quantised to 2 mm in the next.

    Every side runs in processes of its own, one after the other. Goals are for 50 clients at 60 Hz.
    """
    from ecsnet.bench import replication as benchmark
    from ecsnet.bench.peers_network import NetworkPeers
    from ecsnet.bench.reporting import reporter
    from ecsnet.errors import ArgumentError

    unknown = set(precision or ()) - set(benchmark.PRECISIONS)
    if unknown:
        raise ArgumentError(
            f"--precision is one of {', '.join(benchmark.PRECISIONS)}, not {', '.join(sorted(unknown))}"
        )
    plan = benchmark.Plan(hz=hz, clients=clients, warm_up_s=warm_up_s, windows=windows, window_s=window_s)
    others = None if peers is None else NetworkPeers(peers)
    precisions = [name for name in benchmark.PRECISIONS if name in (precision or benchmark.PRECISIONS)]
    with reporter("ecsnet bench replication", as_json) as report:
        sizes, progress = n or benchmark.SIZES_DEFAULT, report.progress
        figures = benchmark.run(sizes, plan, precisions=precisions, others=others, note=_note, progress=progress)
        _print(report, figures)


@app.command()
def fanout(
    clients: Annotated[
        list[int] | None,
        typer.Option("--clients", min=1, metavar="N", help="Clients; may be given again. Default: 1000."),
    ] = None,
    hz: Annotated[int, typer.Option(min=1, help="Ticks a second.")] = 60,
    entities: Annotated[int, typer.Option(min=1, help="All move in each tick; 40 make a frame of some 600 B.")] = 40,
    windows: Annotated[int, typer.Option(min=1, help="Windows, of which medians are taken.")] = 5,
    window_s: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="Length of a window.")] = 1.2,
    warm_up_s: Annotated[float, typer.Option(min=0.0, metavar="SECONDS", help="Not counted, before them.")] = 1.0,
    as_json: _JSON = False,
) -> None:
    """A small frame for each of a thousand clients in every tick, beside the bare sends and a Trio task for each
    client: server CPU, and the lag of the last client.

    Every side runs in processes of its own, one after the other. Goals are for 1000 clients at 60 Hz.
    """
    from ecsnet.bench import fanout as benchmark
    from ecsnet.bench.reporting import reporter

    plan = benchmark.Plan(hz=hz, entities=entities, warm_up_s=warm_up_s, windows=windows, window_s=window_s)
    with reporter("ecsnet bench fanout", as_json) as report:
        _print(report, benchmark.run(clients or benchmark.CLIENTS_DEFAULT, plan, note=_note, progress=report.progress))


@app.command()
def slow(
    n: Annotated[int, typer.Option("--n", min=1, metavar="N", help="Entities, all of which move.")] = 1000,
    hz: Annotated[int, typer.Option(min=1, help="Ticks a second.")] = 60,
    clients: Annotated[int, typer.Option(min=1, help="Clients beside the slow one.")] = 63,
    rounds: Annotated[int, typer.Option(min=1, help="Turns with and without it.")] = 3,
    window_s: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="Length of a turn.")] = 2.0,
    settle_s: Annotated[float, typer.Option(min=0.0, metavar="SECONDS", help="Not counted, before each.")] = 1.0,
    as_json: _JSON = False,
) -> None:
    """A client that takes too little, among others: their lag with and without it, and what the node keeps for it."""
    from ecsnet.bench import slow as benchmark
    from ecsnet.bench.reporting import reporter

    plan = benchmark.SlowPlan(n, hz, clients, rounds, window_s, settle_s)
    with reporter("ecsnet bench slow", as_json) as report:
        _print(report, benchmark.run(plan, progress=report.progress))


@app.command()
def join(
    n: Annotated[
        list[int] | None,
        typer.Option("--n", min=1, metavar="N", help="Rows of 32 bytes; may be given again. Default: 100000."),
    ] = None,
    hz: Annotated[int, typer.Option(min=1, help="Ticks a second.")] = 60,
    rounds: Annotated[int, typer.Option(min=1, help="Windows with joins, and as many without.")] = 5,
    window_s: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="Length of a window.")] = 2.0,
    as_json: _JSON = False,
) -> None:
    """Joining a big world over TCP while 1000 others move: beside a bare copy of its bytes, and what others notice."""
    from ecsnet.bench import join as benchmark
    from ecsnet.bench.reporting import reporter

    plan = benchmark.Plan(hz=hz, rounds=rounds, window_s=window_s)
    with reporter("ecsnet bench join", as_json) as report:
        _print(report, benchmark.run(n or benchmark.SIZES_DEFAULT, plan, progress=report.progress))


@app.command()
def resume(
    n: Annotated[
        list[int] | None,
        typer.Option("--n", min=100, metavar="N", help="Entities; may be given again. Default: 10000 and 100000."),
    ] = None,
    away: Annotated[
        list[float] | None,
        typer.Option(
            "--away", min=0.05, max=60.0, metavar="S", help="Seconds; may come again. Default: 0.5, 2 and 10."
        ),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each, of which the median counts.")] = 3,
    as_json: _JSON = False,
) -> None:
    """A client that comes back: what it is sent, what both sides spend; beside a full sync and the missed rows alone.

    In virtual time at 60 Hz, without sockets. In each tick another 0.05 % of the entities moves.
    """
    from ecsnet.bench import resume as benchmark
    from ecsnet.bench.reporting import reporter

    plan = benchmark.Plan(runs=runs)
    with reporter("ecsnet bench resume", as_json) as report:
        seconds = away or benchmark.AWAY_DEFAULT
        _print(report, benchmark.run(n or [10_000, 100_000], plan, away=seconds, progress=report.progress))


@app.command()
def simulation(
    n: Annotated[
        list[int] | None,
        typer.Option("--n", min=1, metavar="N", help="Entities; may be given again. Default: 1000."),
    ] = None,
    hz: Annotated[int, typer.Option(min=1, help="Ticks a second.")] = 60,
    clients: Annotated[int, typer.Option(min=1, help="Players, each with a store of its own.")] = 50,
    moving: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the entities that move in a tick.")] = 0.1,
    seconds: Annotated[float, typer.Option(min=0.1, metavar="S", help="Virtual seconds of a run.")] = 5.0,
    runs: Annotated[int, typer.Option(min=1, help="Runs, of which the median counts.")] = 3,
    as_json: _JSON = False,
) -> None:
    """How fast virtual time goes for one node and its players, all checkers on, beside the bare events of the same
    links. On one core.
    """
    from ecsnet.bench import simulation as benchmark
    from ecsnet.bench.reporting import reporter

    plan = benchmark.Plan(hz=hz, clients=clients, moving=moving, virtual_s=seconds, runs=runs)
    with reporter("ecsnet bench simulation", as_json) as report:
        _print(report, benchmark.run(n or [1000], plan, progress=report.progress))


_DIR = Annotated[
    Path | None,
    typer.Option("--dir", metavar="DIR", help="A folder on the disk to be measured. Default: the working directory."),
]


@app.command()
def commit(
    directory: _DIR = None,
    n: Annotated[int, typer.Option("--n", min=1, metavar="N", help="Rows that there are.")] = 10_000,
    runs: Annotated[int, typer.Option(min=1, help="Rounds, in each of which all take a turn.")] = 5,
    commits: Annotated[int, typer.Option(min=1, help="Of each side in a round.")] = 100,
    as_json: _JSON = False,
) -> None:
    """Commits that survive: how long one takes and how many a second, beside SQLite, LMDB and the bare fdatasync."""
    from ecsnet.bench import commit as benchmark
    from ecsnet.bench.reporting import reporter

    with reporter("ecsnet bench commit", as_json) as report:
        figures = benchmark.run(directory, n=n, runs=runs, commits=commits, note=_note, progress=report.progress)
        _print(report, figures)


@app.command()
def transfer(
    directory: _DIR = None,
    n: Annotated[int, typer.Option("--n", min=2, metavar="N", help="Accounts.")] = 10_000,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each, of which the median counts.")] = 5,
    batches: Annotated[int, typer.Option(min=1, help="Batches of 1000 of each producer in a run.")] = 50,
    as_json: _JSON = False,
) -> None:
    """Transfers between accounts, durable before they are answered: as arrays, as transactions in ticks, as commands of
    players; beside SQLite.
    """
    from ecsnet.bench import transfer as benchmark
    from ecsnet.bench.reporting import reporter

    with reporter("ecsnet bench transfer", as_json) as report:
        _print(report, benchmark.run(directory, n=n, runs=runs, batches=batches, progress=report.progress))


@app.command()
def load(
    directory: _DIR = None,
    n: Annotated[
        list[int] | None,
        typer.Option("--n", min=1, metavar="N", help="Rows; may be given again. Default: 100000 and 1000000."),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each, of which the median counts.")] = 3,
    as_json: _JSON = False,
) -> None:
    """A world made durable in one transaction, beside SQLite, LMDB and the bare bytes."""
    from ecsnet.bench import load as benchmark
    from ecsnet.bench.reporting import reporter

    with reporter("ecsnet bench load", as_json) as report:
        figures = benchmark.run(n or benchmark.N_DEFAULT, directory, runs=runs, note=_note, progress=report.progress)
        _print(report, figures)


@app.command()
def snapshot(
    directory: _DIR = None,
    n: Annotated[
        list[int] | None,
        typer.Option("--n", min=1, metavar="N", help="Rows; may be given again. Default: 1000000."),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each, of which the median counts.")] = 5,
    commits: Annotated[int, typer.Option(min=1, help="Commits of a run without snapshots.")] = 1000,
    as_json: _JSON = False,
) -> None:
    """Snapshots, alone and while commits go on, beside SQLite's and LMDB's copies and the bare bytes."""
    from ecsnet.bench import snapshot as benchmark
    from ecsnet.bench.reporting import reporter

    with reporter("ecsnet bench snapshot", as_json) as report:
        sizes = n or benchmark.N_DEFAULT
        figures = benchmark.run(sizes, directory, runs=runs, commits=commits, note=_note, progress=report.progress)
        _print(report, figures)


@app.command()
def recovery(
    directory: _DIR = None,
    n: Annotated[
        list[int] | None,
        typer.Option("--n", min=1, metavar="N", help="Rows; may be given again. Default: 1000000."),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each, of which the median counts.")] = 3,
    wal_mib: Annotated[int, typer.Option("--wal-mib", min=1, help="MiB of log after the snapshot.")] = 64,
    as_json: _JSON = False,
) -> None:
    """Opening what a killed process left: a snapshot and a log, beside SQLite and reading the files."""
    from ecsnet.bench import recovery as benchmark
    from ecsnet.bench.reporting import reporter

    with reporter("ecsnet bench recovery", as_json) as report:
        sizes = n or benchmark.N_DEFAULT
        _print(report, benchmark.run(sizes, directory, runs=runs, wal_bytes=wal_mib << 20, progress=report.progress))


def _print(report: "Reporter", figures: "Iterator[Figure]") -> None:
    for figure in figures:
        report.figure(figure)


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)
