"""The command line: `ecsnet COMMAND`. A command parses and prints; it decides nothing.

Each command is a module of its own with a Typer `app`, named in `COMMANDS` and imported only when it is asked for (or
listed by `--help`): `ecsnet schema check` never loads the kernel or Trio. A command whose module does not exist is not
listed.

Invariants:
- exit status 0 only when the command did what it was asked; 1 for an error of ecsnet, 2 for wrong usage, 130 when
  interrupted;
- an `EcsnetError` is one message on standard error, without a traceback; anything else is a bug and keeps its own.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ecsnet._version import __version__
from ecsnet.errors import EcsnetError, did_you_mean

# name on the command line -> module with its `app`, in the order of the help
COMMANDS = {
    "demo": "ecsnet.cli.demo",
    "serve": "ecsnet.cli.serve",
    "token": "ecsnet.cli.token",
    "sim": "ecsnet.cli.sim",
    "proxy": "ecsnet.cli.proxy",
    "schema": "ecsnet.cli.schema",
    "query": "ecsnet.cli.query",
    "inspect": "ecsnet.cli.inspect",
    "verify": "ecsnet.cli.verify",
    "snapshot": "ecsnet.cli.snapshot",
    "backup": "ecsnet.cli.backup",
    "restore": "ecsnet.cli.restore",
    "bench": "ecsnet.cli.bench",
}


ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings to read in place of ecsnet.toml.", show_default=False),
]
"""`--config`, of the commands that have settings."""


class LazyCommands(TyperGroup):
    """Looks a command's module up when the command is named."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name, module in COMMANDS.items() if find_spec(module) is not None]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = typer.main.get_command(import_module(COMMANDS[cmd_name]).app)
        command.name = cmd_name
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            known = self.list_commands(ctx)
            meant = did_you_mean(args[0], known)
            hint = f"did you mean {meant!r}?" if meant else f"known: {', '.join(known)}"
            ctx.fail(f"no command named {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)


def new_app(**options: Any) -> typer.Typer:
    """A Typer application as every command of ours is one: no completion options, no second error style."""
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown", **options)


app = new_app(cls=LazyCommands, no_args_is_help=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ecsnet {__version__}")
        raise typer.Exit


@app.callback(
    epilog="Settings come from options, then ECSNET_* variables, then ecsnet.toml, then defaults. "
    "`ecsnet COMMAND --help` explains each command."
)
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A transactional in-memory database for entity-component games that replicates itself to every player.

    To begin: **ecsnet demo** runs a node and its clients on this machine, live.

    Then: **ecsnet schema check FILE** reads a schema of your own, **ecsnet serve FILE** serves it.
    """


def main() -> None:
    """The `ecsnet` program. Always leaves by SystemExit."""
    try:
        app(prog_name="ecsnet")
    except EcsnetError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
