"""How much of a node one address may have."""

import logging

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ecsnet.config import LimitSettings
from ecsnet.errors import ConnectError
from ecsnet.node import connections, open_client, open_node
from ecsnet.node.admission import Addresses, network_of
from tests.node.drivers import Stranger, lively, wait_until


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("203.0.113.7:52100", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6:443", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1:443", "2001:db8:1:2::/64"),
        ("fe80::1%eth0:443", "fe80::/64"),
        ("::ffff:203.0.113.7:443", "203.0.113.7"),
        ("127.0.0.1:5", None),
        ("127.3.2.1:5", None),
        ("::1:5", None),
        ("::ffff:127.0.0.1:5", None),
        ("in-process", None),
        ("?", None),
        ("", None),
    ],
)
def test_what_an_address_is_counted_under(peer: str, network: str | None) -> None:
    assert network_of(peer) == network


class Model(RuleBasedStateMachine):
    """Against plain lists of links."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses = Addresses(3, 2)
        self.shaking: list[str] = []
        self.done: list[str] = []

    @rule(network=st.sampled_from("ab"))
    def open(self, network: str) -> None:
        shaking = self.shaking.count(network)
        has_room = shaking < 2 and shaking + self.done.count(network) < 3
        assert self.addresses.has_room(network) == has_room
        if has_room:
            self.addresses.opened(network)
            self.shaking.append(network)

    @precondition(lambda self: self.shaking)
    @rule()
    def finish(self) -> None:
        self.done.append(self.shaking.pop(0))
        self.addresses.shook_hands(self.done[-1])

    @precondition(lambda self: self.done)
    @rule()
    def close(self) -> None:
        self.addresses.closed(self.done.pop())

    @invariant()
    def remembers_no_more_than_there_is(self) -> None:
        assert len(self.addresses) == len({*self.shaking, *self.done})


TestModel = Model.TestCase


async def test_one_address_does_not_get_every_place(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As if this machine were another one. What is turned away is counted, and named in the log once a second."""
    caplog.set_level(logging.INFO, "ecsnet.node")
    monkeypatch.setattr(connections, "network_of", lambda peer: "203.0.113.7")
    async with open_node(lively(), limits=LimitSettings(links_per_address_max=2)) as node:
        url = node.addresses[0]
        async with open_client(url), open_client(url):
            for _ in range(10):
                with pytest.raises(ConnectError):
                    async with open_client(url):
                        pass
            assert node.statistics().refused_address == 10
            told = [record for record in caplog.records if "links_per_address_max is 2" in record.message]
            assert 1 <= len(told) < 10
        await wait_until(lambda: node.statistics().connections == 0)
        async with open_client(url):
            pass


async def test_half_open_links_of_one_address_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HANDSHAKES_PER_ADDRESS_MAX", 2)
    networks = iter(["a", "a", "a", "b", "a"])
    monkeypatch.setattr(connections, "network_of", lambda peer: next(networks))
    async with open_node(lively()) as node:
        url = node.addresses[0]
        strangers = [await Stranger.connect(url) for _ in range(3)]
        await wait_until(lambda: node.statistics().refused_address == 1)
        async with open_client(url):
            assert node.statistics().handshakes == 2
        await strangers[0].reset()
        await wait_until(lambda: node.statistics().handshakes == 1)
        async with open_client(url):
            pass
        for stranger in strangers[1:]:
            await stranger.reset()
