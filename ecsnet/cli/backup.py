"""`ecsnet backup DIR TARGET`: a copy that opens by itself, also of a running node."""

import json
from typing import Annotated

import typer

from ecsnet.cli import new_app

app = new_app()


@app.command(no_args_is_help=True)
def backup(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="A store's directory.", show_default=False)],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Where to; not there yet.", show_default=False)],
    archive: Annotated[
        bool, typer.Option("--archive/--no-archive", help="Copy the archive too: the copy can give back the past.")
    ] = True,
    replay: Annotated[
        bool, typer.Option("--replay/--no-replay", help="Verify the copy by bringing it into memory too.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")] = False,
) -> None:
    """Copy a store to TARGET and verify the copy. Of a running node, it has all that was acknowledged when it began.

    TARGET is a store's directory as DIR is: serve it, inspect it, restore from it. Copying a running node's files in
    another way gives copies that do not open.
    """
    from ecsnet.cli import data_screen as screen
    from ecsnet.data.operations import back_up

    with screen.progress_bar(not as_json) as progress:
        made = back_up(directory, target, archive=archive, replay=replay, progress=progress)
    if as_json:
        typer.echo(json.dumps(made))
    else:
        digest = f", digest {made['digest']}" if made["digest"] else ""
        typer.echo(
            f"{target}: version {made['version']}, {screen.size(made['bytes'])} in {made['files']} files{digest}"
        )
