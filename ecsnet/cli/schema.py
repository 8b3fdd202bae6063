"""`ecsnet schema check FILE`: is this schema one that a node would load, and what is in it?"""

import json
from pathlib import Path
from typing import Annotated

import typer

from ecsnet.cli import new_app
from ecsnet.errors import SchemaError

app = new_app(no_args_is_help=True)


@app.callback()
def schema() -> None:
    """Check schemas: the TOML files that say which tables a world has."""


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The schema, a TOML file.", show_default=False)],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on the last line, also for a bad schema.")
    ] = False,
    system: Annotated[bool, typer.Option("--system", help="Also the built-in tables.")] = False,
) -> None:
    """Load FILE as a node would, and print its tables or the first thing that is wrong with it.

    An error names file, line, column and key, says what is wrong, and how to mend it where that is known. The exit
    status is 0 only for a good schema.

    The **fingerprint** is what two nodes compare before they talk: equal schemas have equal fingerprints,
    whatever the order in their files.
    """
    from ecsnet.schema import load
    from ecsnet.schema.describe import describe, summary

    try:
        loaded = load(file)
    except SchemaError as error:
        if as_json:
            typer.echo(json.dumps({"ok": False, "file": str(file), "errors": [_error_object(error)]}))
            raise typer.Exit(1) from None
        raise
    if as_json:
        typer.echo(json.dumps({"ok": True, "file": str(file), "errors": [], **summary(loaded, system=system)}))
    else:
        typer.echo(f"{file}: ok\n\n{describe(loaded, system=system)}")


def _error_object(error: SchemaError) -> dict[str, str | int | None]:
    return {name: getattr(error, name) for name in ("code", "file", "line", "column", "key", "reason", "hint")}
