"""A node that asks who its clients are, over real sockets."""

import pytest
import trio

import ecsnet
from ecsnet.auth import Account, Login
from ecsnet.config import LimitSettings
from ecsnet.errors import AuthenticationError, ConnectError, Reject
from ecsnet.node import open_client, open_node
from ecsnet.wire.codec import encode
from ecsnet.wire.messages import Hello
from tests.node.drivers import Stranger, lively, wait_until


async def of_a_database(login: Login) -> Account:
    await trio.sleep(0.01)
    if login.token == b"never":
        await trio.sleep_forever()
    if login.token != b"right":
        raise Reject("no such account")
    return Account(71, role="admin")


async def test_a_hook_that_waits_keeps_only_its_own_client_waiting() -> None:
    async with open_node(lively(), authenticate=of_a_database) as node:
        url = node.addresses[0]
        async with trio.open_nursery() as nursery:

            async def waits_for_ever() -> None:
                with pytest.raises(ConnectError):
                    async with open_client(url, token="never", wait_s=0.3):
                        pass

            nursery.start_soon(waits_for_ever)
            async with open_client(url, node.world, name="ada", token="right") as client:
                assert client.client_id == 71
                assert node.authority.clients[0].role == "admin"
        with pytest.raises(AuthenticationError, match="no such account"):
            async with open_client(url, token=b"wrong"):
                pass


async def test_a_hook_that_never_answers_ends_with_the_handshakes_deadline() -> None:
    limits = LimitSettings(handshake_deadline_s=0.2)
    async with open_node(lively(), authenticate=of_a_database, limits=limits) as node:
        with pytest.raises(ConnectError, match="handshake"):
            async with open_client(node.addresses[0], token="never"):
                pass
        assert node.statistics().handshakes_failed == 1


async def test_a_client_that_hangs_up_while_it_is_asked_about_leaves_nothing() -> None:
    async with open_node(lively(), authenticate=of_a_database) as node:
        stranger = await Stranger.connect(node.addresses[0])
        await stranger.send(encode(Hello(token=b"right")))
        await stranger.reset()
        await wait_until(lambda: node.statistics().accepted == 1 and node.statistics().connections == 0)
        await wait_until(lambda: node.authority.statistics().sessions == node.authority.statistics().away)


async def test_a_game_with_its_own_loop_shows_a_token_too() -> None:
    async with open_node(lively(), authenticate=of_a_database) as node:

        def play() -> int:
            with ecsnet.connect(node.addresses[0], token=lambda: "right") as client:
                return client.client_id

        assert await trio.to_thread.run_sync(play) == 71
