"""`ecsnet snapshot DIR`: write a snapshot now, in the running node or in a directory that nobody has open."""

import json
from typing import Annotated

import typer

from ecsnet.cli import new_app

app = new_app()


@app.command(no_args_is_help=True)
def snapshot(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="A store's directory.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")] = False,
) -> None:
    """Write a snapshot of the newest version, and drop the log that it makes needless (or archive it).

    A node that has the directory open does it by itself while it goes on; the next start is quicker for it.
    """
    from ecsnet.cli import data_screen as screen
    from ecsnet.data.operations import take_snapshot

    with screen.progress_bar(not as_json) as progress:
        made = take_snapshot(directory, progress=progress)
    if as_json:
        typer.echo(json.dumps({**made, "problems": []}))
    else:
        typer.echo(f"{directory}/{made['file']}: version {made['version']}, {screen.size(made['bytes'])}")
