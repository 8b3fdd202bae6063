"""Event rows through real sockets: a game's loop gets each once, whichever kind of client it has."""

import threading
import time
from collections.abc import Iterator

import pytest
import trio

import ecsnet
from ecsnet.ids import Entity
from ecsnet.node import AuthoritativeNode, open_client, open_node
from ecsnet.replica import EventRow
from ecsnet.schema import loads
from ecsnet.store import Transaction
from ecsnet.world import Client, World
from tests.node.drivers import PATIENCE_S

SCHEMA = loads(
    """
[database]
name = "clock"
version = "1.0.0"

[tables.tick]
event = true
fields = [{ name = "number", type = "u64" }]
"""
)
WANTED = 20


def clock() -> World:
    """Each tick says its number."""
    world = World(SCHEMA, hz=60, on_error="raise")

    @world.on_join
    def enter(tx: Transaction, client: Client) -> Entity:
        return tx.spawn(owner=client)

    @world.system
    def strike(tx: Transaction) -> None:
        tx.insert("tick", {"number": tx.tick})

    return world


@pytest.fixture
def node() -> Iterator[AuthoritativeNode]:
    running = AuthoritativeNode(clock(), listen="tcp://127.0.0.1:0")
    ready = threading.Event()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(running.run)
            ready.set()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert ready.wait(PATIENCE_S)
    yield running
    running.stop()
    thread.join(PATIENCE_S)


def assert_each_once(first_tick: int, events: list[object]) -> None:
    rows = [event for event in events if isinstance(event, EventRow)]
    assert len(rows) >= WANTED
    assert [row.number for row in rows] == list(range(rows[0].number, rows[0].number + len(rows)))
    assert rows[0].number <= first_tick + 1, "what was told while the client was being made is not lost"
    assert all(row.tick == row.number for row in rows)


@pytest.mark.parametrize("threaded", [False, True])
def test_poll_gives_each_event_row_once_and_in_order(node: AuthoritativeNode, threaded: bool) -> None:
    with ecsnet.connect(node.addresses[0], SCHEMA, wait_s=PATIENCE_S, threaded=threaded) as client:
        first = client.view.tick
        time.sleep(0.2)
        events: list[object] = []
        deadline = time.monotonic() + PATIENCE_S
        while len(events) < WANTED and time.monotonic() < deadline:
            events += client.poll()
            time.sleep(0.002)
        assert_each_once(first, events)


def test_a_client_under_trio_gets_them_too() -> None:
    async def main() -> None:
        async with (
            open_node(clock(), listen="tcp://127.0.0.1:0") as node,
            open_client(node.addresses[0], wait_s=PATIENCE_S) as client,
        ):
            first = client.view.tick
            events: list[object] = []
            with trio.fail_after(PATIENCE_S):
                while len(events) < WANTED:
                    events += await client.wait_poll()
            assert_each_once(first, events)

    trio.run(main)
