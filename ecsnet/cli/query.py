"""`ecsnet query`: ask a world, written as text."""

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecsnet.cli import new_app
from ecsnet.errors import ArgumentError

if TYPE_CHECKING:
    from ecsnet.store.result import Result
    from ecsnet.store.view import View

app = new_app()

_FORMATS = ("table", "json", "csv")


@app.command(no_args_is_help=True)
def query(
    target: Annotated[
        str,
        typer.Argument(
            metavar="URL|DIR|MODULE:NAME|SCHEMA.toml",
            help="A running node such as tcp://localhost:7777, a store's directory, or a world or schema, "
            "which --setup fills.",
            show_default=False,
        ),
    ],
    text: Annotated[str, typer.Argument(metavar="QUERY", help="The query.", show_default=False)],
    setup: Annotated[
        str,
        typer.Option(
            metavar="MODULE:FUNCTION", help="setup(store) fills the world before it is asked.", show_default=False
        ),
    ] = "",
    output: Annotated[
        str, typer.Option("--format", metavar="table|json|csv", help="json: an object on a line for each row.")
    ] = "table",
    explain: Annotated[bool, typer.Option("--explain", help="Print how the rows are found in place of them.")] = False,
    wait: Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait for a node.", min=0.0)] = 5.0,
) -> None:
    """Ask a world a question and print the rows.

        ecsnet query tcp://localhost:7777 "from transform, health where health.hp < 20 order by transform.x limit 10"

        ecsnet query tcp://localhost:7777 "from item group by item.kind select item.kind, count() as n order by n desc"

    A query is `from TABLE, ...`, then in this order, each where wanted: `without TABLE`, `join TABLE on REFERENCE`,
    `where CONDITION`, `order by COLUMN [desc]`, `limit N offset N`, `group by COLUMN`, `select COLUMN as NAME, count(),
    sum(COLUMN)`. `maybe TABLE` and `left join` keep rows without a partner. The schema describes itself in tables too:
    try `from schema_tables`.

    A node is joined as a client: its world's `on_join` runs, and the client leaves again. It shows what the node sends
    to clients, so only replicated tables have rows. A directory that no process has open is read as it was left, all of
    it, and nothing in it is changed.
    """
    if output not in _FORMATS:
        raise ArgumentError(f"--format is one of {', '.join(_FORMATS)}, found {output!r}")
    if "://" in target:
        if setup:
            raise ArgumentError("--setup fills a world of this process; a running node has its own")
        _ask_node(target, text, output, explain, wait)
    elif Path(target).is_dir():
        if setup:
            raise ArgumentError("--setup fills a world of this process; a store's directory is only read")
        _ask_directory(target, text, output, explain)
    elif ":" not in target and not target.endswith(".toml"):
        raise ArgumentError(
            f"{target}: there is no such directory. TARGET is the directory of a store, a node (tcp://HOST:PORT), "
            f"MODULE:SCHEMA or SCHEMA.toml"
        )
    else:
        _ask_world(target, setup, text, output, explain)


def _ask_node(url: str, text: str, output: str, explain: bool, wait_s: float) -> None:
    from ecsnet.embed import connect
    from ecsnet.store.parser import parse

    # A text that is no query need not be told so by a node.
    parse(text)
    with connect(url, name="query", wait_s=wait_s, reconnect=False) as client:
        _print(client.view, text, output, explain)


def _ask_directory(target: str, text: str, output: str, explain: bool) -> None:
    from ecsnet.store import Store
    from ecsnet.store.parser import parse

    # Reading a large store takes a while: what is no query is told at once.
    parse(text)
    with Store.open(target, read_only=True) as store, store.view() as view:
        _print(view, text, output, explain)


def _ask_world(target: str, setup: str, text: str, output: str, explain: bool) -> None:
    from ecsnet.cli.target import load_function, load_schema, load_world
    from ecsnet.store import Store

    schema = load_world(target).schema if target.endswith(".toml") else load_schema(target)
    with Store(schema) as store:
        if setup:
            load_function(setup)(store)
        with store.view() as view:
            _print(view, text, output, explain)


def _print(view: "View", text: str, output: str, explain: bool) -> None:
    from ecsnet.store.parser import parse

    statement = parse(text)
    if explain:
        typer.echo(str(statement.explain(view)))
        return
    result = statement.run(view)
    if output == "table":
        typer.echo(result.text_table(len(result)))
    elif output == "json":
        for row in result.rows():
            typer.echo(json.dumps({name: _plain(cell) for name, cell in row.items()}))
    else:
        typer.echo(_csv(result), nl=False)


def _csv(result: "Result") -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(result.names)
    for row in result.rows():
        writer.writerow(["" if cell is None else _plain(cell) for cell in row.values()])
    return out.getvalue()


def _plain(cell: Any) -> Any:
    """A cell in JSON's own types; bytes in hex."""
    return cell.hex() if isinstance(cell, bytes) else cell
