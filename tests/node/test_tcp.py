"""Addresses, and what a person is told when one cannot be used."""

import socket
from typing import cast

import pytest

from ecsnet.errors import ArgumentError, ConnectError, ListenError, NotBuiltError
from ecsnet.node import tcp
from ecsnet.node.in_process import open_pair


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("tcp://localhost:7777", "localhost", 7777),
        ("tcp://localhost", "localhost", tcp.PORT_DEFAULT),
        ("tcp://0.0.0.0:0", "0.0.0.0", 0),
        ("tcp://[::1]:80", "::1", 80),
        ("tcp://[::1]", "::1", tcp.PORT_DEFAULT),
    ],
)
def test_an_address_is_a_host_and_a_port(url: str, host: str, port: int) -> None:
    address = tcp.parse_url(url)

    assert address == (host, port)
    assert tcp.parse_url(str(address)) == address


@pytest.mark.parametrize("url", ["ws://host:1", "wss://host:1", "udp://host:1"])
def test_a_planned_transport_is_refused_by_name(url: str) -> None:
    """`tls://` that quietly was plain TCP would be worse than none."""
    with pytest.raises(NotBuiltError, match="use tcp://"):
        tcp.parse_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:7777",
        "http://localhost",
        "tcp://",
        "tcp://:7777",
        "tcp://host:99999",
        "tcp://host:port",
        "tcp://host:-1",
        "tcp://host:²",
        "tcp://host:1/path",
        "tcp://user@host:1",
        "tcp://::1:7777",
        "tcp://[::1",
        "tcp://[::1]7777",
        7777,
    ],
)
def test_what_is_no_address_is_refused_with_the_address_in_the_message(url: object) -> None:
    with pytest.raises(ArgumentError, match="7777|host|tcp"):
        tcp.parse_url(url)  # type: ignore[arg-type]


def test_a_port_in_use_names_the_address_and_what_to_do() -> None:
    (first,) = tcp.listen("tcp://127.0.0.1:0")
    url = tcp.address_of(first)

    with pytest.raises(ListenError, match="in use") as caught:
        tcp.listen(url)

    assert caught.value.address == url
    assert "another port" in str(caught.value)
    first.close()


def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    with pytest.raises(ListenError, match=r"192\.0\.2\.1"):
        tcp.listen("tcp://192.0.2.1:0")


def test_a_host_that_does_not_exist_is_named() -> None:
    with pytest.raises(ListenError, match="nowhere.invalid"):
        tcp.listen("tcp://nowhere.invalid:0")
    with pytest.raises(ConnectError, match="nowhere.invalid"):
        tcp.connect("tcp://nowhere.invalid:1", 30)


def test_nobody_listening_is_told_as_that() -> None:
    (listener,) = tcp.listen("tcp://127.0.0.1:0")
    url = tcp.address_of(listener)
    listener.close()

    with pytest.raises(ConnectError, match="is the node running"):
        tcp.connect(url, 30)


def test_a_connected_socket_is_tuned_for_small_frames() -> None:
    (listener,) = tcp.listen("tcp://127.0.0.1:0")
    connected = tcp.connect(tcp.address_of(listener), 30)

    assert connected.getblocking() is False
    assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
    assert tcp.peer_of(connected) == tcp.address_of(listener).removeprefix("tcp://")

    connected.close()
    listener.close()
    assert tcp.peer_of(connected) == "?"


class Far:
    """Says that its peer is at an address."""

    def __init__(self, where: object) -> None:
        self.where = where

    def getpeername(self) -> object:
        if isinstance(self.where, OSError):
            raise self.where
        return self.where


@pytest.mark.parametrize(
    ("where", "local"),
    [
        (("127.0.0.1", 7), True),
        (("127.3.2.1", 7), True),
        (("::1", 7, 0, 0), True),
        (("::ffff:127.0.0.1", 7, 0, 0), True),
        (("", ""), False),
        (("192.168.0.9", 7), False),
        (("::ffff:192.168.0.9", 7, 0, 0), False),
        (("fe80::1%eth0", 7, 0, 2), False),
        (OSError("gone"), False),
    ],
)
def test_a_peer_is_local_at_a_loopback_address_and_nowhere_else(where: object, local: bool) -> None:
    assert tcp.is_local(cast(socket.socket, Far(where))) is local


def test_the_ends_of_an_in_process_link_are_local() -> None:
    ours, theirs = open_pair()
    with ours, theirs:
        assert tcp.is_local(ours) and tcp.is_local(theirs)
