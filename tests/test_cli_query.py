"""`ecsnet query`: worlds and nodes, formats, mistakes."""

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from ecsnet.node import AuthoritativeNode
from ecsnet.store import Store
from tests.node.drivers import PATIENCE_S, lively
from tests.test_cli_schema import EXAMPLE, run_ecsnet

WORLD = """
import ecsnet
world = ecsnet.World("arena.toml")

def setup(store):
    with store.transaction() as tx:
        tx.spawn(health={"hp": 30, "tag": b"ab"})
        tx.spawn(health={"hp": 10})
"""
SCHEMA = """
[database]
name = "arena"
version = "1.0.0"

[tables.health]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "hp", type = "u16" },
          { name = "tag", type = "bytes[2]", default = "" }]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "arena.toml").write_text(SCHEMA)
    (tmp_path / "empty").mkdir()
    (tmp_path / "queried_world.py").write_text(WORLD)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("queried_world", None)
    if str(tmp_path) in sys.path:
        sys.path.remove(str(tmp_path))


def test_a_world_that_a_function_fills_is_asked(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "from health order by hp select hp, tag"
    arguments = ("query", "queried_world:world", text, "--setup", "queried_world:setup")
    assert run_ecsnet(monkeypatch, *arguments) == 0
    assert capsys.readouterr().out.splitlines() == ["2 rows", "hp   tag", "10    ''", "30  'ab'"]
    assert run_ecsnet(monkeypatch, *arguments, "--format", "json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [{"hp": 10, "tag": "0000"}, {"hp": 30, "tag": "6162"}]
    assert run_ecsnet(monkeypatch, *arguments, "--format", "csv") == 0
    assert capsys.readouterr().out.split() == ["hp,tag", "10,0000", "30,6162"]
    assert run_ecsnet(monkeypatch, *arguments, "--explain") == 0
    assert "sort" in capsys.readouterr().out


def test_a_schema_describes_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run_ecsnet(monkeypatch, "query", str(EXAMPLE), "from schema_tables select count() as n", "--format", "json")
        == 0
    )
    assert json.loads(capsys.readouterr().out)["n"] > 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("arena.toml", "from helth"), "did you mean 'health'"),
        (("arena.toml", "from helth"), "  from helth\n       ^"),
        (("arena.toml", "from health", "--format", "xml"), "--format is one of"),
        (("empty", "from health"), "there is no store in it"),
        (("nowhere", "from health"), "there is no such directory"),
        ((".", "from health", "--setup", "a:b"), "is only read"),
        (("tcp://localhost:1", "from health where"), "expected a column"),
        (("tcp://localhost:1", "from health", "--setup", "a:b"), "a running node has its own"),
        (("queried_world:world", "from health", "--setup", "queried_world:stup"), "setup"),
    ],
)
def test_mistakes_are_told(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    assert run_ecsnet(monkeypatch, "query", *arguments) == 1
    assert message in capsys.readouterr().err


def test_a_running_node_is_asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    node = AuthoritativeNode(lively(), listen="tcp://127.0.0.1:0")
    ready = threading.Event()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            ready.set()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert ready.wait(PATIENCE_S)
    try:
        url = node.addresses[0]
        assert run_ecsnet(monkeypatch, "query", url, "from entities select count() as n", "--format", "json") == 0
        assert json.loads(capsys.readouterr().out)["n"] >= 1, "what joined is an entity itself"
    finally:
        node.stop()
        thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_directory_is_asked_and_not_changed(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store(here / "arena.toml", data=here / "arena.db") as store, store.transaction() as tx:
        tx.spawn(health={"hp": 30})
        tx.spawn(health={"hp": 10})
    asked = ("query", str(here / "arena.db"), "from health order by hp select hp", "--format", "csv")
    before = {path: path.read_bytes() for path in (here / "arena.db").rglob("*") if path.is_file()}
    assert run_ecsnet(monkeypatch, *asked) == 0
    assert capsys.readouterr().out.split() == ["hp", "10", "30"]
    assert before == {path: path.read_bytes() for path in (here / "arena.db").rglob("*") if path.is_file()}
    with Store.open(here / "arena.db"):
        assert run_ecsnet(monkeypatch, *asked) == 1
    assert "open already by pid" in capsys.readouterr().err


def test_a_schema_of_classes_is_asked_like_a_world(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "queried_world.py").write_text(WORLD + "\nschema = world.schema\nnumber = 3\n")
    arguments = ("query", "queried_world:schema", "from health select count()", "--setup", "queried_world:setup")
    assert run_ecsnet(monkeypatch, *arguments) == 0
    assert capsys.readouterr().out.split() == ["1", "rows", "count()", "2"]
    assert run_ecsnet(monkeypatch, "query", "queried_world:number", "from health") == 1
    assert "not a Schema" in capsys.readouterr().err
    assert run_ecsnet(monkeypatch, *arguments[:-1], "queried_world:fill") == 1
    assert "known: setup" in capsys.readouterr().err
