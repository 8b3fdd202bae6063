"""`ecsnet serve` as a process: what it prints, how it ends, and what cannot end it."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ecsnet
from ecsnet.demo.certificate import make_certificate
from ecsnet.node.tcp import parse_url
from tests.arena import TEXT
from tests.node.drivers import HOSTILE, PATIENCE_S, poll_until

ROOT = Path(__file__).parents[2]

GAME = f'''
import ecsnet

SCHEMA = """{TEXT}"""

world = ecsnet.World(ecsnet.schema.loads(SCHEMA), hz=60)

@world.on_join
def enter(tx, client):
    return tx.spawn(transform={{}}, velocity={{"x": 1.0}}, owner=client)

@world.command(latest=True)
def steer(tx, client, dx: float, dy: float):
    tx.update(client.entity, "velocity", x=dx, y=dy)

@world.system
def move(tx):
    body, speed = tx.query("transform", "velocity")
    body.x += speed.x * tx.dt

number = 7
'''


class Serve:
    """A running `ecsnet serve` in a folder of its own."""

    def __init__(self, folder: Path, *arguments: str, environ: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ecsnet", "serve", *arguments],
            cwd=folder,
            env={**_environ(), **(environ or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def started(self) -> dict[str, Any]:
        """What `--json` prints once the node listens."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.ended())
        found = json.loads(line)
        assert isinstance(found, dict)
        return found

    def ended(self) -> tuple[int, str, str]:
        """(exit status, standard output, standard error), once it has ended."""
        output, errors = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, output, errors


def _environ() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ECSNET_")}
    return {**kept, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "arena.toml").write_text(TEXT)
    (tmp_path / "game.py").write_text(GAME)
    return tmp_path


@pytest.fixture
def serve(folder: Path) -> Iterator[Any]:
    started: list[Serve] = []

    def begin(*arguments: str, environ: dict[str, str] | None = None) -> Serve:
        started.append(Serve(folder, *arguments, environ=environ))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_says_goodbye_and_ends_with_status_0(serve: Any, number: signal.Signals) -> None:
    node = serve("game:world", "--listen", "tcp://127.0.0.1:0", "--json")
    (url,) = node.started()["listening"]
    clients = [ecsnet.connect(url, name=f"player {n}", wait_s=PATIENCE_S, reconnect=False) for n in range(3)]
    poll_until(clients[0], lambda: clients[0].view["transform.x"].any())

    node.process.send_signal(number)
    status, output, errors = node.ended()

    assert status == 0, errors
    end = json.loads(output.splitlines()[-1])
    assert end["joins"] == 3 and end["version"] >= clients[0].version
    for client in clients:
        poll_until(client, lambda client=client: client.state == "closed")
        assert "shutdown" in client.reason
        assert client.error is None
        client.close()


def test_hostile_bytes_do_not_end_the_process(serve: Any) -> None:
    """The first two of them end any process that hands them to pycapnp's packed or stream readers, with an abort that
    no exception handler sees."""
    node = serve("game:world", "--listen", "tcp://127.0.0.1:0", "--json")
    (url,) = node.started()["listening"]
    address = parse_url(url)

    with ecsnet.connect(url, name="player", wait_s=PATIENCE_S) as player:
        for data in HOSTILE.values():
            with socket.create_connection(address, timeout=PATIENCE_S) as stranger:
                stranger.sendall(data)
                stranger.shutdown(socket.SHUT_WR)
                while stranger.recv(65536):
                    pass
            version = player.version
            poll_until(player, lambda version=version: player.version > version or player.state == "closed")
            assert player.state == "live", player.reason

    node.process.terminate()
    assert node.ended()[0] == 0


def test_what_it_says_at_the_start_is_what_a_person_needs(serve: Any) -> None:
    node = serve("game:world", "--listen", "tcp://127.0.0.1:0", "--hz", "20")
    assert node.process.stdout is not None
    lines = [node.process.stdout.readline() for _ in range(6)]
    node.process.terminate()
    status, output, _ = node.ended()

    said = "".join(lines)
    assert "game:world at 20 Hz" in said
    assert "steer(dx: float, dy: float)" in said
    assert "tcp://127.0.0.1:" in said
    assert status == 0 and "stopped" in output


def test_a_schema_alone_is_served_as_an_empty_world(serve: Any) -> None:
    node = serve("arena.toml", "--listen", "tcp://127.0.0.1:0", "--json")
    start = node.started()

    with ecsnet.connect(start["listening"][0], wait_s=PATIENCE_S) as client:
        assert client.schema.fingerprint.hex() == start["fingerprint"]
        assert len(client.view["transform"]) == 0

    node.process.terminate()
    assert node.ended()[0] == 0


def test_settings_come_from_the_option_then_the_environment_then_the_file(serve: Any, folder: Path) -> None:
    (folder / "ecsnet.toml").write_text('[node]\nlisten = "tcp://127.0.0.1:0"\nhz = 21\n')
    cases: list[tuple[tuple[str, ...], dict[str, str], int]] = [
        ((), {}, 21),
        ((), {"ECSNET_NODE_HZ": "22"}, 22),
        (("--hz", "23"), {"ECSNET_NODE_HZ": "22"}, 23),
    ]
    for options, environ, hz in cases:
        node = serve("game:world", *options, "--json", environ=environ)
        assert node.started()["hz"] == hz
        node.process.terminate()
        assert node.ended()[0] == 0


def test_a_port_in_use_is_one_line_that_says_what_to_do(serve: Any) -> None:
    first = serve("game:world", "--listen", "tcp://127.0.0.1:0", "--json")
    (url,) = first.started()["listening"]

    status, _, errors = serve("game:world", "--listen", url).ended()

    assert status == 1
    assert errors.strip().startswith(f"error: cannot listen on {url}: port")
    assert "in use" in errors and "another port" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("nowhere:world",), "no module named 'nowhere'"),
        (("game:wrld",), "did you mean 'world'"),
        (("game:number",), "is of type int, not a World"),
        (("game",), "MODULE:WORLD"),
        (("missing.toml",), "no such file"),
        (("game:world", "--listen", "tls://0.0.0.0:1"), "certificate"),
        (("game:world", "--listen", "0.0.0.0:1"), "tcp://0.0.0.0:1"),
        (("game:world", "--data", "game.py"), "it is a file"),
        (("game:world", "--durability", "strict"), "give --data DIR"),
        (("game:world", "--log-level", "loud"), "debug, info"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_error_without_a_traceback(
    serve: Any, arguments: tuple[str, ...], expected: str
) -> None:
    status, _, errors = serve(*arguments).ended()

    assert status == 1
    assert expected in errors
    assert "Traceback" not in errors


def test_the_games_own_import_error_keeps_its_traceback(serve: Any, folder: Path) -> None:
    """That `game` could not be imported because of a bug in it is not `no module named game`."""
    (folder / "broken.py").write_text("import a_module_that_is_not_there\n")

    status, _, errors = serve("broken:world").ended()

    assert status == 1
    assert "Traceback" in errors and "a_module_that_is_not_there" in errors


def test_the_help_teaches(serve: Any) -> None:
    status, output, _ = serve("--help").ended()

    assert status == 0
    for word in ("arena:world", "arena.toml", "--listen", "SIGTERM", "ecsnet.connect"):
        assert word in output


def test_it_serves_figures_and_logs_in_json(serve: Any) -> None:
    node = serve("game:world", "--listen", "tcp://127.0.0.1:0", "--metrics", ":0", "--log-format", "json", "--json")
    start = node.started()
    with urllib.request.urlopen(start["metrics"], timeout=PATIENCE_S) as answer:
        text = answer.read().decode()
    assert "ecsnet_node_ticks_total" in text and 'ecsnet_tick_seconds_bucket{le="+Inf"}' in text

    node.process.send_signal(signal.SIGTERM)
    status, _, errors = node.ended()

    assert status == 0, errors
    lines = [json.loads(line) for line in errors.splitlines()]
    assert any("saying goodbye" in line["message"] and line["level"] == "info" for line in lines)


def test_it_listens_under_tls_with_a_certificate_from_the_settings(serve: Any, folder: Path) -> None:
    made = make_certificate(folder)
    (folder / "ecsnet.toml").write_text(f'[tls]\ncertificate = "{made.certificate}"\n')
    [url] = serve("game:world", "--listen", "tls://127.0.0.1:0", "--json").started()["listening"]
    with ecsnet.connect(url, ca=made.ca, wait_s=PATIENCE_S) as client:
        assert client.client_id
