"""`ecsnet token TARGET`: a token that proves an account once, to a node that shares the secret."""

from pathlib import Path
from typing import Annotated

import typer

from ecsnet.cli import ConfigFile, new_app
from ecsnet.errors import ArgumentError
from ecsnet.limits import TOKEN_LIFETIME_S_DEFAULT

app = new_app()


@app.command(no_args_is_help=True)
def token(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:WORLD|SCHEMA.toml", help="The game: a token is good for one.", show_default=False
        ),
    ],
    client_id: Annotated[
        int, typer.Option("--client-id", metavar="NUMBER", help="The account's number.", show_default=False)
    ],
    name: Annotated[str, typer.Option(help="What the player is called. Default: what the client says.")] = "",
    role: Annotated[str, typer.Option(help="What the schema's rules go by.")] = "player",
    lifetime: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long it is good for.")
    ] = TOKEN_LIFETIME_S_DEFAULT,
    secret_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The file with the secret that the node has. Default: the setting auth.secret_file.",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Print a token for one session, as an account server would issue it.

    A secret is a file of 32 bytes or more that nobody can guess: **(umask 077; head -c 32 /dev/urandom > secret)**

    The node: **ecsnet serve arena:world --auth-secret-file secret**

    The client: **ecsnet.connect(url, world, token=...)**
    """
    from ecsnet.auth import Account, audience_of
    from ecsnet.cli.secret import tokens_from
    from ecsnet.cli.target import load_world
    from ecsnet.config import resolve

    settings = resolve({"auth.secret_file": None if secret_file is None else str(secret_file)}, file=config)
    if settings.auth.secret_file is None:
        raise ArgumentError("which secret? Give --secret-file FILE, or set auth.secret_file (ECSNET_AUTH_SECRET_FILE)")
    schema = load_world(target).schema
    account = Account(client_id, name, role)
    tokens = tokens_from(settings.auth.secret_file)
    typer.echo(tokens.issue(account, audience_of(schema.name, schema.fingerprint), lifetime_s=lifetime))
