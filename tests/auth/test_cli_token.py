"""`ecsnet token` and a node that asks for what it prints."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ecsnet
from ecsnet.errors import AuthenticationError
from tests.arena import TEXT
from tests.node.test_serve import GAME, Serve

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "arena.py").write_text(GAME)
    (tmp_path / "arena.toml").write_text(TEXT)
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 32 + b"\n")
    secret.chmod(0o600)
    return tmp_path


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ECSNET_")}
    return subprocess.run(
        [sys.executable, "-m", "ecsnet", "token", *arguments],
        cwd=folder,
        env={**environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_token_from_the_command_line_opens_the_node_once(folder: Path) -> None:
    serve = Serve(folder, "arena:world", "--listen", "tcp://127.0.0.1:0", "--auth-secret-file", "secret", "--json")
    try:
        [url] = serve.started()["listening"]
        made = run(folder, "arena.toml", "--client-id", "71", "--name", "Ada", "--secret-file", "secret")
        assert made.returncode == 0, made.stderr
        token = made.stdout.strip()
        with ecsnet.connect(url, token=token) as client:
            assert client.client_id == 71
        with pytest.raises(AuthenticationError, match="used before"):
            ecsnet.connect(url, token=token)
        with pytest.raises(AuthenticationError, match="wants a token"):
            ecsnet.connect(url)
    finally:
        serve.process.terminate()
        status, _, errors = serve.ended()
    assert status == 0, errors
    assert "was not let in" in errors


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("arena.toml", "--client-id", "7"), "which secret"),
        (("arena.toml", "--client-id", "0", "--secret-file", "secret"), "client_id is 0"),
        (("arena.toml", "--client-id", "7", "--role", "A", "--secret-file", "secret"), "role is 'A'"),
        (("arena.toml", "--client-id", "7", "--lifetime", "-1", "--secret-file", "secret"), "lifetime_s"),
        (("arena.toml", "--client-id", "7", "--secret-file", "missing"), "cannot read the secret"),
        (("arena.toml", "--client-id", "7", "--secret-file", "short"), "32 or more"),
        (("arena.toml", "--client-id", "7", "--secret-file", "open"), "everybody on this machine"),
    ],
)
def test_a_mistake_is_one_line(folder: Path, arguments: tuple[str, ...], why: str) -> None:
    (folder / "short").write_bytes(b"short")
    (folder / "short").chmod(0o600)
    (folder / "open").write_bytes(b"s" * 32)
    (folder / "open").chmod(0o644)
    made = run(folder, *arguments)
    assert made.returncode == 1 and made.stdout == ""
    assert why in made.stderr and made.stderr.count("\n") == 1
