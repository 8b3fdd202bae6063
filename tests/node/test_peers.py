"""Nodes that dial each other over TCP and write the same tables."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from ecsnet import Transaction, World
from ecsnet.authority import PeeringSettings
from ecsnet.errors import ArgumentError, NotBuiltError
from ecsnet.node import AuthoritativeNode, open_node
from tests.authority.peers import HZ, SCHEMA
from tests.node.drivers import PATIENCE_S

ALL = "tcp://127.0.0.1:0"


def world_of(todo: list[Callable[[Transaction], object]]) -> World:
    world = World(SCHEMA, hz=HZ)

    @world.system
    def act(tx: Transaction) -> None:
        while todo:
            todo.pop()(tx)

    return world


def rows(node: AuthoritativeNode) -> dict[str, int]:
    with node.store.view() as view:
        notes = view["note"]
        return {str(name): int(count) for name, count in zip(notes["name"], notes["count"], strict=True)}


def put(name: str, count: int) -> Callable[[Transaction], object]:
    return lambda tx: tx.insert("note", {"name": name, "count": count})


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not condition():
            await trio.sleep(0.01)


async def until_it_has(node: AuthoritativeNode, what: dict[str, int]) -> None:
    await until(lambda: rows(node) == what)


async def test_nodes_that_dial_each_other_come_to_hold_the_same(tmp_path: Path) -> None:
    """Three of them; one goes, writes are made meanwhile, and its successor on the same disk is told what it missed."""
    secret = b"swordfish"
    todo: list[list[Callable[[Transaction], object]]] = [[], [], []]
    async with (
        open_node(world_of(todo[0]), peering=PeeringSettings(1, secret), listen_peers=ALL) as a,
        open_node(world_of(todo[1]), peering=PeeringSettings(2, secret), listen_peers=ALL, peers=a.peer_addresses) as b,
    ):
        both = (*a.peer_addresses, *b.peer_addresses)
        data = tmp_path / "c"
        async with open_node(world_of(todo[2]), peering=PeeringSettings(3, secret), peers=both, data=data) as c:
            for number, one in enumerate(todo):
                one.append(put(f"of-{number}", number))
            everything = {"of-0": 0, "of-1": 1, "of-2": 2}
            await until(lambda: rows(a) == rows(b) == rows(c) == everything)
        todo[0].append(put("later", 9))
        await until(lambda: "later" in rows(b))
        async with open_node(world_of(todo[2]), peering=PeeringSettings(3, secret), peers=both, data=data) as c:
            await until(lambda: rows(c) == {**everything, "later": 9})
            assert c.authority.peering is not None
            assert c.authority.peering.statistics().cells_told < 12, "what it had was not told again"


async def test_an_address_where_nobody_is_is_dialled_until_somebody_is() -> None:
    """And a node that goes away is dialled again, by whoever knows its address."""
    todo: list[Callable[[Transaction], object]] = []
    async with open_node(World(SCHEMA, hz=HZ), peering=PeeringSettings(1), listen_peers=ALL) as first:
        addresses = first.peer_addresses
    async with open_node(world_of(todo), peering=PeeringSettings(2), peers=addresses) as b:
        todo.append(put("door", 1))
        for _ in range(2):
            await trio.sleep(0.05)
            async with open_node(World(SCHEMA, hz=HZ), peering=PeeringSettings(1), listen_peers=addresses) as again:
                await until_it_has(again, {"door": 1})
        assert rows(b) == {"door": 1}


async def test_whoever_comes_to_the_peers_port_without_the_secret_is_told_goodbye() -> None:
    async with open_node(World(SCHEMA, hz=HZ), peering=PeeringSettings(1, b"swordfish"), listen_peers=ALL) as node:
        host, _, port = node.peer_addresses[0].removeprefix("tcp://").rpartition(":")
        stream = await trio.open_tcp_stream(host, int(port))
        await stream.send_all(b"GET / HTTP/1.1\r\n\r\n" * 3)
        with trio.fail_after(PATIENCE_S):
            while await stream.receive_some():
                pass
        await stream.aclose()
        peering = node.authority.peering
        assert peering is not None
        await until(lambda: not peering.links)
        assert peering.statistics().links_refused == 1


def test_peers_of_a_node_that_has_no_number_are_a_mistake() -> None:
    with pytest.raises(ArgumentError, match="give peering="):
        AuthoritativeNode(World(SCHEMA), peers=["tcp://127.0.0.1:1"])
    with pytest.raises(ArgumentError, match="names no transport"):
        AuthoritativeNode(World(SCHEMA), peering=PeeringSettings(1), peers=["127.0.0.1:1"])
    with pytest.raises(NotBuiltError, match="TLS between nodes"):
        AuthoritativeNode(World(SCHEMA), peering=PeeringSettings(1), peers=["tls://localhost:1"])
