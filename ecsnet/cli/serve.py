"""`ecsnet serve`: run a node until it is told to stop."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecsnet._version import __version__
from ecsnet.cli import ConfigFile, new_app
from ecsnet.config import SETTINGS, LogSettings, NodeSettings, resolve
from ecsnet.errors import ArgumentError
from ecsnet.limits import HZ_MAX, HZ_MIN

if TYPE_CHECKING:
    from ecsnet.node import AuthoritativeNode
    from ecsnet.world import CommandSpec, World

app = new_app()


@app.command(no_args_is_help=True)
def serve(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:WORLD|SCHEMA.toml",
            help="A World in a Python module, or a schema to serve without any rules.",
            show_default=False,
        ),
    ],
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where to listen. tcp://0.0.0.0:7777 is every IPv4 interface, tls:// the same under TLS; port 0 is "
            "any that is free. "
            f"Default: {SETTINGS['node.listen'].default}.",
            show_default=False,
        ),
    ] = None,
    hz: Annotated[
        int | None,
        typer.Option(min=HZ_MIN, max=HZ_MAX, help="Ticks a second, in place of the world's own.", show_default=False),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of the world's random generators, in place of its own.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep the world in this directory, made if it is not there. Default: in memory.",
            show_default=False,
        ),
    ] = None,
    durability: Annotated[
        str | None,
        typer.Option(
            metavar="LEVEL",
            help="With --data, what a command's answer waits for: memory, relaxed (written: survives the process), "
            f"strict or paranoid (synced: survives the machine). Default: {SETTINGS['node.durability'].default}.",
            show_default=False,
        ),
    ] = None,
    linger: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="How long a session waits for a client that lost its connection. "
            f"Default: {SETTINGS['node.linger_s'].default:g}.",
            show_default=False,
        ),
    ] = None,
    auth_secret_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Let in only who shows a token signed with the secret in FILE (ecsnet token makes one). "
            "Default: everybody is a player.",
            show_default=False,
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="For --listen tls://...: the certificate, and those that signed it, in PEM.",
            show_default=False,
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Its private key in PEM. Default: it is in the certificate's file.",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
    log_level: Annotated[
        str | None,
        typer.Option(metavar="LEVEL", help="debug, info, warning or error. Default: info.", show_default=False),
    ] = None,
    log_format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT", help="text, or json: an object on each line. Default: text.", show_default=False
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Serve figures for Prometheus there, as in 127.0.0.1:9464, to whoever asks. Default: nowhere.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object once it listens, and another when it has stopped.")
    ] = False,
) -> None:
    """Run a node: own the truth, step the world, send every client what changed.

    **ecsnet serve arena:world** imports arena.py from this directory and serves the World named world in it.

    **ecsnet serve arena.toml** serves the schema alone: no systems, no commands, an empty world to connect to.

    A client then joins with ecsnet.connect("tcp://localhost:7777").

    With **--data** the world outlives the node: what a client was answered is there again after a crash, and players
    who come back go on where they were.

    SIGTERM and Ctrl-C stop it in order: every client is told goodbye, the data is closed, and the exit status is 0. A
    second one does not wait for the clients.
    """
    overrides: dict[str, Any] = {
        "node.listen": listen,
        "node.hz": hz,
        "node.seed": seed,
        "node.data": None if data is None else str(data),
        "node.durability": durability,
        "node.linger_s": linger,
        "auth.secret_file": None if auth_secret_file is None else str(auth_secret_file),
        "tls.certificate": None if certificate is None else str(certificate),
        "tls.key": None if key is None else str(key),
        "log.level": log_level,
        "log.format": log_format,
        "metrics.listen": metrics,
    }
    settings = resolve(overrides, file=config)
    if durability is not None and settings.node.data is None:
        raise ArgumentError(
            "--durability says how sure what is kept must be, and without --data nothing is: give --data DIR, or leave "
            "--durability out"
        )
    _set_up_logging(settings.log)

    from ecsnet.cli.secret import tokens_from
    from ecsnet.cli.target import load_world
    from ecsnet.node import run

    world = load_world(target, hz=settings.node.hz, seed=settings.node.seed)
    authenticate = None
    if settings.auth.secret_file is not None:
        if world.authenticate_hook is not None:
            raise ArgumentError(
                f"{target} asks who its clients are itself (world.authenticate); leave auth.secret_file out"
            )
        authenticate = tokens_from(settings.auth.secret_file)
    nodes: list[AuthoritativeNode] = []

    def announce(node: "AuthoritativeNode") -> None:
        nodes.append(node)
        _print_start(target, world, node, settings.node, as_json)

    run(
        world,
        listen=settings.node.listen,
        data=settings.node.data,
        durability=settings.node.durability,
        linger_s=settings.node.linger_s,
        compress=settings.node.compress,
        authenticate=authenticate,
        certificate=settings.tls.certificate,
        key=settings.tls.key,
        metrics=settings.metrics.listen,
        limits=settings.limits,
        on_start=announce,
    )
    for node in nodes:
        _print_end(node, as_json)


def _set_up_logging(settings: LogSettings) -> None:
    handler = logging.StreamHandler()
    if settings.format == "json":
        from ecsnet.node import JsonFormatter

        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)


def _print_start(target: str, world: "World", node: "AuthoritativeNode", settings: NodeSettings, as_json: bool) -> None:
    durability = "memory" if settings.data is None else settings.durability
    if as_json:
        start = {
            "listening": list(node.addresses),
            "hz": world.hz,
            "schema": world.schema.name,
            "fingerprint": world.schema.fingerprint.hex(),
            "data": settings.data,
            "durability": durability,
            "version": node.store.version,
            "epoch": node.authority.epoch,
            "metrics": node.metrics_url,
        }
        print(json.dumps(start), flush=True)
        return
    commands = ", ".join(_signature(spec) for spec in world.commands.values()) or "none"
    systems = ", ".join(system.name for system in world.systems) or "none"
    lines = [
        f"ecsnet {__version__} serves {target} at {world.hz} Hz",
        f"  schema     {world.schema.name} {world.schema.version}, fingerprint {world.schema.fingerprint.hex()}",
        f"  commands   {commands}",
        f"  systems    {systems}",
        _data_line(node, settings),
        *(f"  listening  {address}" for address in node.addresses),
        *([] if node.metrics_url is None else [f"  metrics    {node.metrics_url}"]),
        "Ctrl-C stops it and says goodbye to every client.",
    ]
    print("\n".join(lines), flush=True)


def _data_line(node: "AuthoritativeNode", settings: NodeSettings) -> str:
    if settings.data is None:
        return "  data       in memory: the world ends with the node (--data DIR keeps it)"
    at = f"version {node.store.version}, epoch {node.authority.epoch:#x}"
    return f"  data       {settings.data}, {settings.durability}, at {at}"


def _signature(spec: "CommandSpec") -> str:
    return f"{spec.name}({', '.join(f'{one.name}: {one.kind}' for one in spec.parameters)})"


def _print_end(node: "AuthoritativeNode", as_json: bool) -> None:
    statistics = node.statistics()
    of_world = statistics.authority
    if as_json:
        end = {
            "ticks": statistics.ticks,
            "ticks_dropped": statistics.ticks_dropped,
            "version": of_world.version,
            "joins": of_world.joins,
            "resumes": of_world.resumes,
            "commands_accepted": of_world.commands_accepted,
            "commands_rejected": of_world.commands_rejected,
            "bytes_sent": of_world.bytes_sent,
            "bytes_received": of_world.bytes_received,
        }
        print(json.dumps(end), flush=True)
        return
    print(
        f"stopped: {statistics.ticks} ticks ({statistics.ticks_dropped} dropped), version {of_world.version}, "
        f"{of_world.joins} joins, {of_world.commands_accepted} commands, {of_world.bytes_sent} bytes sent",
        flush=True,
    )
