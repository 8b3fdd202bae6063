"""`ecsnet verify DIR`: is a data directory whole?"""

import json
from typing import Annotated

import typer

from ecsnet.cli import new_app

app = new_app()


@app.command(no_args_is_help=True)
def verify(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="A store's directory.", show_default=False)],
    replay: Annotated[
        bool,
        typer.Option("--replay/--no-replay", help="Replay the log too, and compare every digest that was noted."),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")] = False,
) -> None:
    """Read every byte that counts, against every checksum, seal and digest, and say what is wrong. Nothing is changed.

    The directory may be open elsewhere. The exit status is 0 only if all is well.
    """
    from ecsnet.cli import data_screen as screen
    from ecsnet.data.verification import verify as check

    with screen.progress_bar(not as_json) as progress:
        found = check(directory, replay=replay, progress=progress)
    if as_json:
        typer.echo(json.dumps({**found.as_json(), "digests_compared": found.digests_compared}))
    else:
        screen.print_findings(found.problems, found.notes)
        what = f"{found.files} files, {screen.size(found.size)}, {found.records} records, version {found.version}"
        if found.digest is not None:
            what += f", digest {found.digest.hex()} (version {found.digest_version})"
        verdict = f"{len(found.problems)} problems" if found.problems else "ok"
        typer.echo(f"{directory}: {verdict}; {what}")
    if found.problems:
        raise typer.Exit(1)
