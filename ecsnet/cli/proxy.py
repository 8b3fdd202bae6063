"""`ecsnet proxy`: a bad line in front of a real node, or of anything else that speaks TCP."""

import signal
from typing import TYPE_CHECKING, Annotated

import typer

from ecsnet.cli import new_app

if TYPE_CHECKING:
    from ecsnet.sim.proxy import Proxy, ProxyStatistics, WayStatistics

app = new_app()


@app.command(no_args_is_help=True)
def proxy(
    listen: Annotated[
        str,
        typer.Argument(
            metavar="LISTEN",
            help="Where to listen, such as tcp://127.0.0.1:7000; port 0 is any that is free.",
            show_default=False,
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(metavar="TARGET", help="Where the real node listens.", show_default=False),
    ],
    profile: Annotated[
        str,
        typer.Option(metavar="NAME|FILE.toml", help="The line: a name, or a file of your own.", show_default=False),
    ],
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of all chance on the line.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object once it listens, and another when it has stopped.")
    ] = False,
) -> None:
    """Put a bad line between a client and a node.

    **ecsnet proxy --profile 4g tcp://127.0.0.1:7000 tcp://127.0.0.1:7777** listens at port 7000. A client that joins
    there plays on the node at port 7777 as if over 4G: later, unevenly, and with everything held up while something
    that was lost is sent again.

    Lines: lan, broadband, wifi, 5g, 4g, bad-wifi, train, congested, satellite; perfect has no delay at all. Each
    connection has chance of its own, from the seed and its number.

    Ctrl-C and SIGTERM stop it and cut what is open; what went through is printed, and the exit status is 0.
    """
    import trio

    from ecsnet.sim.profile import profile as profile_of
    from ecsnet.sim.proxy import Proxy

    def note(text: str) -> None:
        if not as_json:
            print(text, flush=True)

    line = profile_of(profile)
    running = Proxy(listen, target, line, seed=seed, on_note=note)
    trio.run(_run_until_signal, running, as_json)
    if as_json:
        _print_json(running.statistics())
    else:
        _print_end(running.statistics())


async def _run_until_signal(running: "Proxy", as_json: bool) -> None:
    import trio

    from ecsnet.node.waiting import unwrapping

    with unwrapping():
        async with trio.open_nursery() as nursery:
            # Before anybody is told that it runs, and might want to stop it.
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                await nursery.start(running.run)
                if as_json:
                    _print_json(
                        {"listening": running.addresses, "target": running.target, "profile": running.profile.name}
                    )
                else:
                    _print_start(running)
                async for _ in signals:
                    nursery.cancel_scope.cancel()
                    break


def _print_start(running: "Proxy") -> None:
    profile = running.profile
    lines = [
        f"ecsnet proxy: {profile.name} in front of {running.target}",
        *(f"  listening  {address}" for address in running.addresses),
        f"  line       {profile.source}",
        "Ctrl-C stops it.",
    ]
    print("\n".join(lines), flush=True)


def _print_json(value: object) -> None:
    import msgspec

    print(msgspec.json.encode(value).decode(), flush=True)


def _print_end(statistics: "ProxyStatistics") -> None:
    print(
        f"stopped: {statistics.connections} connections ({statistics.failed} failed, {statistics.reset} reset); "
        f"{_way(statistics.down)} down, {_way(statistics.up)} up",
        flush=True,
    )


def _way(way: "WayStatistics") -> str:
    if way.delay_ms_mean is None:
        return "nothing"
    return (
        f"{way.bytes} bytes {way.delay_ms_mean:.1f} ms late on average and {way.delay_ms_max:.1f} at most "
        f"({way.segments_lost} segments lost)"
    )
