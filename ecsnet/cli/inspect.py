"""`ecsnet inspect DIR`: what is in a data directory."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ecsnet.cli import new_app

if TYPE_CHECKING:
    from ecsnet.data.directory import Directory
    from ecsnet.data.verification import Verified

app = new_app()

_LAST_RECORDS = 20


@app.command(no_args_is_help=True)
def inspect(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="A store's directory.", show_default=False)],
    log: Annotated[bool, typer.Option("--log", help="List every record of the log, not only the last ones.")] = False,
    replay: Annotated[
        bool,
        typer.Option("--replay/--no-replay", help="Bring the newest version into memory, for its rows and digest."),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")] = False,
) -> None:
    """Show what is in a data directory: manifest, snapshots, segments and records of the log, tables with their rows.

    The directory may be open elsewhere; nothing in it is changed. The exit status is 0 only if nothing is wrong with
    what was looked at: **ecsnet verify** looks at everything.
    """
    from ecsnet.cli.data_screen import progress_bar
    from ecsnet.data.directory import Directory
    from ecsnet.data.verification import survey

    with progress_bar(not as_json) as progress:
        opened = Directory(directory)
        found = survey(opened, replay=replay, progress=progress)
    if as_json:
        typer.echo(json.dumps({**found.as_json(), "tables": found.rows, **_details(opened, found)}))
    else:
        _print(opened, found, log)
    if found.problems:
        raise typer.Exit(1)


def _details(directory: "Directory", found: "Verified") -> dict[str, object]:
    manifest = directory.manifest
    return {
        "database": manifest.database.hex(),
        "schema": manifest.fingerprint.hex(),
        "locked_by": directory.locked_by(),
        "horizon": directory.horizon,
        "snapshots": [{"version": one.version, "bytes": one.size} for one in manifest.snapshots],
        "segments": [
            {
                "number": one.header.number,
                "first_version": one.header.first_version,
                "last_version": one.last_version,
                "records": one.records,
                "bytes": one.size,
                "archived": one.archived,
                "epoch": one.header.epoch,
            }
            for one in (found.log.segments if found.log is not None else ())
        ],
    }


def _print(directory: "Directory", found: "Verified", every_record: bool) -> None:
    from ecsnet.cli import data_screen as screen

    manifest = directory.manifest
    log = found.log
    holder = directory.locked_by()
    screen.print_facts(
        {
            "directory": directory.name,
            "database": manifest.database.hex(),
            "version": found.version,
            "tick": found.tick,
            "time": screen.when(found.time_ns),
            "epoch": found.epoch,
            "digest": f"{found.digest.hex()} (version {found.digest_version})" if found.digest else "not computed",
            "schema": manifest.fingerprint.hex(),
            "horizon": directory.horizon,
            "closed": "cleanly" if log is not None and log.closed else "not (a crash, or it is open)",
            "open": "no" if holder is None else f"yes: {holder}",
            "size": f"{screen.size(found.size)} in {found.files} files",
        }
    )
    snapshots: list[list[object]] = [[one.version, screen.size(one.size)] for one in manifest.snapshots]
    screen.print_table(f"snapshots named by {directory.manifests[0][0]}", ["version", "size"], snapshots)
    if log is not None:
        ancestors: list[list[object]] = [[one.epoch, one.version] for one in log.ancestors]
        screen.print_table("epochs before this one", ["epoch", "last version"], ancestors)
        segments: list[list[object]] = [
            [one.header.number, one.header.first_version, one.last_version, one.records, screen.size(one.end),
             "archive" if one.archived else "log", screen.when(one.header.time_ns)]
            for one in log.segments
        ]  # fmt: skip
        columns = ["segment", "first version", "last", "versions", "used", "where", "begun"]
        screen.print_table("segments after the newest snapshot", columns, segments)
        _print_records(directory, every_record)
    tables: list[list[object]] = [[name, rows] for name, rows in found.rows.items()]
    screen.print_table(f"tables at version {found.digest_version}", ["table", "rows"], tables)
    screen.print_findings(found.problems, found.notes)


def _print_records(directory: "Directory", every_record: bool) -> None:
    from collections import deque

    from ecsnet.cli import data_screen as screen
    from ecsnet.data import layouts
    from ecsnet.data.wal import Log

    rows: deque[list[object]] = deque(maxlen=None if every_record else _LAST_RECORDS)
    for record in Log(directory).records():
        head = record.head
        said = ""
        if head.kind == layouts.POINT:
            said = record.body.decode(errors="replace")
        elif head.kind == layouts.DIGEST:
            said = f"version {int.from_bytes(record.body[:8], 'little')}: {record.body[8:].hex()}"
        rows.append(
            [head.version, head.tick, screen.when(head.time_ns), layouts.KINDS[head.kind], head.transactions,
             head.body_bytes, layouts.LEVELS[head.level], head.durable, f"{record.file}:{record.offset}", said]
        )  # fmt: skip
    columns = ["version", "tick", "time", "kind", "tx", "bytes", "level", "durable", "at", "says"]
    title = "records" if every_record or len(rows) < _LAST_RECORDS else f"the last {_LAST_RECORDS} records (--log: all)"
    screen.print_table(title, columns, list(rows))
