"""`ecsnet restore DIR TARGET`: a moment of a store, as a store of its own."""

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from ecsnet.cli import new_app
from ecsnet.errors import ArgumentError

app = new_app()


@app.command(no_args_is_help=True)
def restore(
    directory: Annotated[
        str, typer.Argument(metavar="DIR", help="A store's directory, or a backup.", show_default=False)
    ],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Where to; not there yet.", show_default=False)],
    to_version: Annotated[
        int | None, typer.Option(metavar="N", help="That very version.", min=0, show_default=False)
    ] = None,
    to_tick: Annotated[
        int | None,
        typer.Option(metavar="N", help="The last version of that tick or before it.", min=0, show_default=False),
    ] = None,
    to_time: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="The last version made by then: 2026-11-21T12:00:00Z (without Z or an offset: local time), or seconds "
            "since 1970.",
            show_default=False,
        ),
    ] = "",
    to_point: Annotated[
        str, typer.Option(metavar="NAME", help="The version that has this restore point.", show_default=False)
    ] = "",
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Go on though acknowledged versions of DIR are damaged.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")] = False,
) -> None:
    """Make TARGET a store that begins with a moment of DIR: the newest version, or the one that an option names.

    DIR is only read. TARGET has an epoch of its own, so clients that saw later versions take it for what it is. How far
    back one can go: to the older snapshot, and with an archive to the beginning (**ecsnet inspect DIR --log**).
    """
    from ecsnet.cli import data_screen as screen
    from ecsnet.data.restoring import restore as make

    time_ns = _time(to_time) if to_time else None
    with screen.progress_bar(not as_json) as progress:
        made = make(
            directory,
            target,
            version=to_version,
            tick=to_tick,
            time_ns=time_ns,
            point=to_point or None,
            accept_loss=accept_loss,
            progress=progress,
        )
    if as_json:
        typer.echo(json.dumps(made.as_json()))
    else:
        lost = f"; {made.lost} damaged versions after it are not in it" if made.lost else ""
        typer.echo(
            f"{target}: version {made.version}, tick {made.tick}, {screen.when(made.time_ns)}, epoch {made.epoch}, "
            f"digest {made.digest.hex()}{lost}"
        )


def _time(text: str) -> int:
    """Nanoseconds since 1970."""
    try:
        whole, _, rest = text.partition(".")
        if whole.isdigit() and (not rest or rest.isdigit()):
            return int(whole) * 1_000_000_000 + int(rest[:9].ljust(9, "0") or 0)
        then = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentError(f"--to-time takes 2026-11-21T12:00:00Z or seconds since 1970, found {text!r}") from None
    passed = then.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (passed.days * 86_400 + passed.seconds) * 1_000_000_000 + passed.microseconds * 1_000
