"""A node on a disk: what it answered is there for the next node, and its players go on."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import ecsnet
from ecsnet.demo.arena import world as arena_of_readme
from ecsnet.embed import Client
from ecsnet.errors import ArgumentError, DataLockedError
from ecsnet.node import AuthoritativeNode, open_client, open_node
from ecsnet.store import Store
from tests.arena import arena
from tests.node.drivers import PATIENCE_S, poll_until

ROOT = Path(__file__).resolve().parents[2]
DURABILITIES = ("memory", "relaxed", "strict", "paranoid")


class Served:
    """`ecsnet serve` on one directory, in one process after another."""

    def __init__(self, data: Path, durability: str) -> None:
        self.address = "tcp://127.0.0.1:0"
        self._command = [sys.executable, "-m", "ecsnet", "serve", "ecsnet.demo.arena:world", "--data", str(data)]
        self._command += ["--durability", durability, "--json", "--log-level", "error"]
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> dict[str, object]:
        """Returns what it says of itself."""
        command = [*self._command, "--listen", self.address]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        said: dict[str, object] = json.loads(self._process.stdout.readline())
        (self.address,) = said["listening"]  # type: ignore[misc]
        return said

    def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.communicate(timeout=PATIENCE_S)
        return self._process.returncode


def hit(client: Client, times: int) -> None:
    """The player attacks itself, and waits for the answers."""
    tickets = [client.send("attack", target=client.entity) for _ in range(times)]
    poll_until(client, lambda: all(ticket.status == "accepted" for ticket in tickets))


def back(client: Client, connections: int) -> None:
    poll_until(client, lambda: client.reconnects == connections and client.state == "live")
    client.poll()


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process")
@pytest.mark.parametrize("durability", ["relaxed", "strict"])
def test_what_a_node_answered_survives_kill_9_and_its_player_goes_on(tmp_path: Path, durability: str) -> None:
    served = Served(tmp_path / "arena", durability)
    said = served.start()
    assert (said["data"], said["durability"]) == (str(tmp_path / "arena"), durability)
    try:
        with ecsnet.connect(served.address, arena_of_readme, wait_s=PATIENCE_S, reconnect=True) as client:
            poll_until(client, lambda: client.entity)
            entity, session, epoch = client.entity, client.session, client.epoch
            for turn in (1, 2):
                hit(client, 2)
                assert served.end(signal.SIGKILL) == -signal.SIGKILL
                served.start()
                back(client, turn)
                assert (client.entity, client.session) == (entity, session)
                assert client.view[entity, "health.hp"] == 100 - 20 * turn
            assert (client.epoch == epoch) == (durability == "strict"), "who shows what is not synced may have lost it"

            assert served.end(signal.SIGTERM) == 0
            epoch = client.epoch
            served.start()
            back(client, 3)
            assert (client.entity, client.epoch) == (entity, epoch), "a clean end begins no other history"
            assert client.view[entity, "health.hp"] == 60
            assert client.statistics().resumes == 3
    finally:
        served.end(signal.SIGTERM)
    with Store(None, data=tmp_path / "arena") as store, store.view() as view:
        assert len(view["sessions"]) <= 1, "it said goodbye just before the node was told to end"


@pytest.mark.parametrize("durability", DURABILITIES)
async def test_commands_are_answered_at_every_durability(tmp_path: Path, durability: str) -> None:
    world = arena(moving=False)
    async with open_node(world, data=tmp_path / "data", durability=durability) as node:
        async with open_client(node.addresses[0], world) as client:
            with trio.fail_after(PATIENCE_S):
                while not client.entity:
                    await client.wait_poll()
                tickets = [client.send("hit", target=client.entity) for _ in range(3)]
                while any(ticket.status == "pending" for ticket in tickets):
                    await client.wait_poll()
                client.poll()
            assert client.view[client.entity, "health.hp"] == 70
        assert node.store.durability == durability
    assert node.store.closed
    with Store(world.schema, data=tmp_path / "data") as store:
        assert store.recovery is not None
        assert (store.recovery.torn_bytes, store.epoch) == (0, node.authority.epoch), "it was closed cleanly"


async def test_a_node_that_ends_leaves_its_players_where_they_are(tmp_path: Path) -> None:
    world = arena(moving=False)
    async with (
        open_node(world, data=tmp_path / "data") as node,
        open_client(node.addresses[0], world, reconnect=True) as client,
    ):
        with trio.fail_after(PATIENCE_S):
            while not client.entity:
                await client.wait_poll()
            entity = client.entity
            node.stop()
            await node.wait_stopped()
            while client.state != "resuming":
                await client.wait_poll()
        with Store(world.schema, data=tmp_path / "data") as store, store.view() as view:
            assert entity in view
            assert view["sessions.entity"].tolist() == [entity]


def test_a_directory_is_opened_once(tmp_path: Path) -> None:
    world = arena()
    with Store(world.schema, data=tmp_path / "data"), pytest.raises(DataLockedError):
        AuthoritativeNode(world, data=tmp_path / "data")


def test_a_world_lives_in_one_place(tmp_path: Path) -> None:
    world = arena()
    with Store(world.schema) as store, pytest.raises(ArgumentError, match="two places"):
        AuthoritativeNode(world, store=store, data=tmp_path / "data")


@pytest.mark.parametrize("linger_s", [-1.0, float("nan"), 1e9])
def test_sessions_linger_for_a_time_that_there_is(linger_s: float, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="linger_s"):
        AuthoritativeNode(arena(), data=tmp_path / "data", linger_s=linger_s)
    # The directory was given back.
    Store(arena().schema, data=tmp_path / "data").close()
