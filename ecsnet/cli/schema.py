"""`ecsnet schema check|python|toml TARGET`: is this schema one that a node would load, what is in it, and how is it
written in the other spelling?"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecsnet.cli import new_app
from ecsnet.errors import ArgumentError, SchemaError

if TYPE_CHECKING:
    from ecsnet.schema import Schema

app = new_app(no_args_is_help=True)


@app.callback()
def schema() -> None:
    """Check schemas, which say what tables a world has, and write them as TOML or as Python classes."""


Target = Annotated[
    str, typer.Argument(metavar="TARGET", help="A TOML file, or MODULE:SCHEMA of Python classes.", show_default=False)
]


@app.command()
def check(
    target: Target,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on the last line, also for a bad schema.")
    ] = False,
    system: Annotated[bool, typer.Option("--system", help="Also the built-in tables.")] = False,
) -> None:
    """Load TARGET as a node would, and print its tables or the first thing that is wrong with it.

    An error names file, line, column and key, says what is wrong, and how to mend it where that is known. The exit
    status is 0 only for a good schema.

    The **fingerprint** is what two nodes compare before they talk: equal schemas have equal fingerprints,
    whatever the order in their files.
    """
    from ecsnet.schema.describe import describe, summary

    try:
        loaded = _load(target)
    except SchemaError as error:
        if as_json:
            typer.echo(json.dumps({"ok": False, "file": target, "errors": [_error_object(error)]}))
            raise typer.Exit(1) from None
        raise
    if as_json:
        typer.echo(json.dumps({"ok": True, "file": target, "errors": [], **summary(loaded, system=system)}))
    else:
        typer.echo(f"{target}: ok\n\n{describe(loaded, system=system)}")


@app.command()
def python(target: Target) -> None:
    """Print TARGET as Python classes, of the same fingerprint: the start of a game's own module.

    Structs and enums are named after the first field that has them.
    """
    from ecsnet.schema.write_python import to_python

    typer.echo(to_python(_load(target)), nl=False)


@app.command()
def toml(
    target: Target,
    canonical: Annotated[
        bool, typer.Option("--canonical", help="With every id and without notes: what the fingerprint is of.")
    ] = False,
) -> None:
    """Print TARGET as TOML, of the same fingerprint."""
    from ecsnet.schema.write_toml import to_toml

    schema = _load(target)
    typer.echo(schema.canonical if canonical else to_toml(schema), nl=False)


def _load(target: str) -> "Schema":
    """The schema of a file, or of a module. A target with a colon and no such file is a module's."""
    from ecsnet.schema import load

    if target.endswith(".py"):
        raise ArgumentError(f"{target} is Python: name the schema in it, as in {Path(target).stem}:schema")
    if ":" in target and not target.endswith(".toml") and not Path(target).exists():
        from ecsnet.cli.target import load_schema

        return load_schema(target)
    return load(target)


def _error_object(error: SchemaError) -> dict[str, str | int | None]:
    return {name: getattr(error, name) for name in ("code", "file", "line", "column", "key", "reason", "hint")}
