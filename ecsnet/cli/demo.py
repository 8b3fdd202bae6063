"""`ecsnet demo`: a node and its clients on this machine, live."""

import contextlib
import io
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecsnet.cli import new_app

if TYPE_CHECKING:
    from ecsnet.demo.run import Demo

app = new_app()


@app.command()
def demo(
    seconds: Annotated[
        float, typer.Option(metavar="S", help="How long the world runs once every bot is there.")
    ] = 10.0,
    clients: Annotated[int, typer.Option(metavar="N", help="Bots, each a client of its own.")] = 20,
    entities: Annotated[int, typer.Option(metavar="N", help="Entities beside the bots' own.")] = 1000,
    hz: Annotated[int, typer.Option(metavar="N", help="Ticks a second.")] = 30,
    moving: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of the entities that move, each of them in every tick.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the world and of what the bots do.")] = 0,
    link_profile: Annotated[
        str,
        typer.Option(metavar="NAME|FILE.toml", help="The bots' line: 4g, bad-wifi, satellite, ...", show_default=False),
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print nothing but one JSON object, on the last line; see above.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the world in this directory.", show_default=False),
    ] = None,
    durability: Annotated[
        str, typer.Option(metavar="LEVEL", help="With --data: memory, relaxed, strict or paranoid.")
    ] = "relaxed",
    kill_node_every: Annotated[
        float,
        typer.Option(
            metavar="S", help="With --data: kill the node's process so often, and start another.", show_default=False
        ),
    ] = 0.0,
    drop_client_every: Annotated[
        float, typer.Option(metavar="S", help="Cut a bot's connection so often.", show_default=False)
    ] = 0.0,
    interest: Annotated[
        bool, typer.Option("--interest", help="Send each client what is near it, not the whole world.")
    ] = False,
    tls: Annotated[
        bool, typer.Option("--tls", help="Put the links under TLS, by a certificate of the moment.")
    ] = False,
) -> None:
    """Run a node and bots in processes of their own over real sockets, show what happens, and check the outcome.

    The world is the README's: ships that fly. Bots join, steer, attack, leave and come back. When the time is over
    the world stands still, every bot comes back, and within five seconds each must hold what the authority holds, bit
    for bit. **The exit status is 0 only then.** Ctrl-C ends the run early and still compares.

    **--link-profile 4g** puts a simulated line between each bot and the node, over the same real sockets: later,
    unevenly, and with everything held up while something that was lost is sent again. The names are those of
    `ecsnet proxy`.

    **--tls** makes an authority and a certificate of the moment, in a folder that goes with the demo; every bot
    checks that the node has it.

    What --json prints:

    **converged**: every client acked the final version and has the digest of what the authority holds.

    **lag_ms** p50, p99, max: from just before a tick's first transaction until a client has applied the tick's version;
    all clients, after the first second. **applied_share**: versions that clients applied ÷ versions that were made.

    **bytes_per_client_s**: bytes to a client with headers; **bytes_per_moved_entity**: bytes of deltas ÷ moved rows
    delivered; full syncs are in neither. **cpu_cores**: CPU seconds of the node's process ÷ seconds.

    **commands_lost**: never to be answered and not superseded, or answered as accepted without an effect.
    **commands_unanswered**: those that still waited when the demo ended, or whose bot had waited for as long as it may,
    which is thirty seconds and some for a node that was not there. **commands_applied_twice** are counted by session
    and number where they take effect.

    **--data DIR --kill-node-every 3** kills the node's process (SIGKILL) every three seconds and starts another one on
    the same data. **kills**: how often. **resumes**: sessions that went on after they had lost their connection.
    **acked_lost**: commands that clients were told to be accepted, and whose effect is not in the store in the end.

    **--drop-client-every 2** cuts the connection of some bot every two seconds, without a goodbye; it comes back and
    goes on with its session. **drops**: how often. **full_syncs** are those of **joins** alone: who comes back is sent
    what was missed, and no more.

    **--interest** sends each client the entities near its ship, about fifty of those that fly, and what it owns. Then
    **converged** means: each client's digest is that of what the authority says it may see, and that is, by plain
    distances, what lies near it. **entities_seen**: how many a client has in the end, on average.
    """

    import msgspec
    import trio
    from rich.console import Console

    from ecsnet.demo.certificate import make_certificate
    from ecsnet.demo.options import Options
    from ecsnet.demo.run import Demo
    from ecsnet.demo.screen import Screen, print_result, troubles_of

    folder = tempfile.TemporaryDirectory(prefix="ecsnet-demo-") if tls else None
    if folder is not None:
        make_certificate(Path(folder.name))
    options = Options(
        seconds=seconds,
        clients=clients,
        entities=entities,
        hz=hz,
        moving=moving,
        seed=seed,
        link_profile=link_profile,
        data="" if data is None else str(data.absolute()),
        durability=durability,
        kill_node_every=kill_node_every,
        drop_client_every=drop_client_every,
        tls="" if folder is None else folder.name,
        interest=interest,
    )
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that lacks a sign shows another; it is no reason to fail.
        sys.stdout.reconfigure(errors="replace")
    console = Console()
    with contextlib.ExitStack() as stack:
        if folder is not None:
            stack.enter_context(folder)
        show = None if as_json else stack.enter_context(Screen(console))
        running = Demo(options, show)
        trio.run(_run_until_signal, running)
    if running.figures is not None and not as_json:
        print_result(console, running)
    if running.cut_short:
        # Not what was asked for: programs get no figures, people those of the shorter run.
        raise typer.Exit(130)
    assert running.figures is not None
    if as_json:
        for line in troubles_of(running):
            print(line, file=sys.stderr)
        print(msgspec.json.encode(running.figures).decode(), flush=True)
    if not running.figures.converged:
        raise typer.Exit(1)


async def _run_until_signal(running: "Demo") -> None:
    """Run it. The first Ctrl-C or SIGTERM ends the play and goes on to the comparison; another, or one at any other
    time, ends all at once."""
    import trio

    from ecsnet.node.waiting import unwrapping

    async def watch_signals() -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                if running.cut_short or not running.playing:
                    running.cut_short = True
                    nursery.cancel_scope.cancel()
                running.hurry()

    with unwrapping():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_signals)
            await running.run()
            nursery.cancel_scope.cancel()
