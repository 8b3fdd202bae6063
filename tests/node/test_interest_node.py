"""A node whose clients each see something else, over real sockets, with a thread that encodes for all of them."""

import threading

import pytest
import trio

from ecsnet._kernel.audiences import Audiences
from ecsnet.node import open_client, open_node
from tests.test_interest import Body, Health, world_of

CLIENTS = 4


async def test_a_thread_encodes_while_the_loop_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As from many clients on; here from two."""
    monkeypatch.setattr("ecsnet.authority.core.AUDIENCES_OFF_LOOP_MIN", 2)
    monkeypatch.setattr("ecsnet.authority.audiences.AUDIENCES_OFF_LOOP_MIN", 2)
    threads = set()
    cut = Audiences.deltas
    monkeypatch.setattr(
        Audiences, "deltas", lambda self, *given: (threads.add(threading.get_ident()), cut(self, *given))[1]
    )
    world, clients = world_of()

    async with open_node(world) as node, trio.open_nursery() as nursery:
        with node.store.transaction() as tx:
            others = [tx.spawn(Body(x=x), Health()) for x in (3.0, 500.0)]
        agreed = 0

        async def play() -> None:
            nonlocal agreed
            async with open_client(node.addresses[0], world) as client:
                client.send("jump", x=500.0, y=0.0)
                while others[1] not in client.view or others[0] in client.view:
                    await client.wait_poll()
                while not any(
                    link.client is not None
                    and link.client.session == client.session
                    and node.authority.digest_for(link) == client.view.digest()
                    for link in node.authority.links
                ):
                    await client.wait_poll()
                agreed += 1
                while agreed < CLIENTS:
                    await client.wait_poll()

        with trio.fail_after(20):
            async with trio.open_nursery() as players:
                for _ in range(CLIENTS):
                    players.start_soon(play)
        nursery.cancel_scope.cancel()

    assert agreed == CLIENTS == len(clients)
    assert threads - {threading.get_ident()}, "some of it was done on another thread"
