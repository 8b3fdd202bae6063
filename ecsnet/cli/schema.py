"""`ecsnet schema check FILE`: is this schema one that a node would load, and what is in it?"""

import json
from pathlib import Path
from typing import Annotated, Any

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
) -> None:
    """Load FILE as a node would, and print its tables or the first thing that is wrong with it.

    An error names file, line, column and key, says what is wrong, and how to mend it where that is known. The exit
    status is 0 only for a good schema.

    The **fingerprint** is what two nodes compare before they talk: equal schemas have equal fingerprints,
    whatever the order in their files.
    """
    from ecsnet.schema import load

    try:
        loaded = load(file)
    except SchemaError as error:
        if as_json:
            typer.echo(json.dumps({"ok": False, "file": str(file), "errors": [_error_object(error)]}))
            raise typer.Exit(1) from None
        raise

    tables = [table for table in loaded.tables if not table.system]
    if as_json:
        summary = {
            "ok": True,
            "file": str(file),
            "name": loaded.name,
            "version": loaded.version,
            "fingerprint": loaded.fingerprint.hex(),
            "tables": [_table_object(table) for table in tables],
            "errors": [],
        }
        typer.echo(json.dumps(summary))
        return

    typer.echo(f"{file}: ok, {loaded.name} {loaded.version}, fingerprint {loaded.fingerprint.hex()}")
    _print_tables(tables)


def _error_object(error: SchemaError) -> dict[str, Any]:
    return {name: getattr(error, name) for name in ("code", "file", "line", "column", "key", "reason", "hint")}


def _table_object(table: Any) -> dict[str, Any]:
    return {
        "id": table.id,
        "name": table.name,
        "kind": table.kind,
        "fields": [{"id": field.id, "name": field.name, "type": _type_text(field)} for field in table.fields],
        "row_bytes": _row_bytes(table),
    }


def _type_text(field: Any) -> str:
    """The type as the schema language writes it."""
    if field.type == "bytes":
        return f"bytes[{field.shape[0]}]"
    return f"[{field.type}; {field.shape[0]}]" if field.shape else str(field.type)


def _row_bytes(table: Any) -> int:
    """Bytes of one row's cells; keys and indices not counted."""
    total = 0
    for field in table.fields:
        count = 1
        for length in field.shape:
            count *= length
        total += field.dtype.itemsize * count
    return total


def _print_tables(tables: list[Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    grid = Table("id", "table", "kind", "fields", "bytes a row")
    for table in tables:
        names = ", ".join(f"{field.name} {_type_text(field)}" for field in table.fields)
        grid.add_row(str(table.id), table.name, table.kind, names or "(key only)", str(_row_bytes(table)))
    Console().print(grid)
