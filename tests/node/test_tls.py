"""TLS: what a node proves, what a client believes, and sockets that take little."""

import datetime
import errno
import os
import select
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

import ecsnet
from ecsnet.config import LimitSettings
from ecsnet.demo.certificate import Certificate, make_certificate
from ecsnet.errors import ArgumentError, CertificateError, ConnectError, ListenError, UntrustedNodeError
from ecsnet.limits import RECEIVE_CHUNK_BYTES, TLS_HANDSHAKE_BYTES_MAX
from ecsnet.node import open_client, open_node
from ecsnet.node.tcp import connect as tcp_connect
from ecsnet.node.tls import TlsSocket, client_context, server_context
from ecsnet.node.two_hubs import SECURED_FROM
from ecsnet.sim.profile import profile
from ecsnet.sim.proxy import Proxy
from tests.node.drivers import HOSTILE, Stranger, crowded, lively, wait_until

DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def of_others(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("others"))


class Ends:
    """Two ends of one connection that have shaken hands."""

    def __init__(self, made: Certificate, *, buffer_bytes: int = 0) -> None:
        raw_node, raw_client = socket.socketpair()
        for raw in (raw_node, raw_client):
            raw.setblocking(False)
            if buffer_bytes:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        self.node = TlsSocket(raw_node, server_context(made.certificate))
        self.client = TlsSocket(raw_client, client_context(made.ca), "localhost")
        done = False
        while not done:
            done = all([self.client.shake_hands(), self.node.shake_hands()])

    def close(self) -> None:
        self.node.close()
        self.client.close()


@pytest.fixture
def ends(made: Certificate) -> Iterator[Ends]:
    pair = Ends(made)
    yield pair
    pair.close()


# --- a socket like another ------------------------------------------------------------------------------------------


def test_what_goes_in_comes_out_at_the_other_end_and_not_in_between(ends: Ends) -> None:
    assert ends.client.send(b"secret") == 6
    raw = ends.node.raw.recv(1000, socket.MSG_PEEK)
    assert raw and b"secret" not in raw
    assert ends.node.recv(RECEIVE_CHUNK_BYTES) == b"secret"
    with pytest.raises(BlockingIOError):
        ends.node.recv(RECEIVE_CHUNK_BYTES)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_socket_that_takes_little_loses_nothing_and_doubles_nothing(made: Certificate, data: st.DataObject) -> None:
    """A part that was not taken is handed in again, as the hub's callers and a client's link do."""
    pair = Ends(made, buffer_bytes=4096)
    frames = [
        os.urandom(size) for size in data.draw(st.lists(st.sampled_from([1, 8, 600, 20_000, 70_000]), max_size=8))
    ]
    received = bytearray()
    rest = memoryview(b"".join(frames)) if data.draw(st.booleans()) else memoryview(b"")
    waiting = [] if rest else [memoryview(frame) for frame in frames]
    while rest or waiting:
        if not rest:
            rest = waiting.pop(0)
        try:
            rest = rest[pair.node.send(rest) :]
        except BlockingIOError:
            pass
        if data.draw(st.booleans()):
            received += _available(pair.client)
    received += _available(pair.client)
    assert bytes(received) == b"".join(frames), "and nothing is held back once all was taken"
    pair.close()


def _available(end: TlsSocket) -> bytes:
    found = b""
    while True:
        try:
            found += end.recv(RECEIVE_CHUNK_BYTES)
        except BlockingIOError:
            return found


def test_nothing_to_read_means_nothing_to_say(ends: Ends) -> None:
    """Whoever waits for the descriptor would else wait beside what has arrived."""
    sent = os.urandom(3 * RECEIVE_CHUNK_BYTES)
    at = 0
    received = bytearray()
    while len(received) < len(sent):
        try:
            at += ends.client.send(sent[at:])
        except BlockingIOError:
            pass
        while select.select([ends.node], [], [], 0)[0]:
            # Once each time, as a task does that waits in between.
            received += ends.node.recv(RECEIVE_CHUNK_BYTES)
    assert received == sent
    assert ends.node.sendmsg((b"a", memoryview(b"bc"))) == 3
    assert ends.client.recv(RECEIVE_CHUNK_BYTES) == b"abc"


def test_the_end_of_a_stream_is_one(ends: Ends) -> None:
    ends.client.send(b"last")
    ends.client.shutdown(socket.SHUT_WR)
    assert ends.node.recv(RECEIVE_CHUNK_BYTES) == b"last"
    assert ends.node.recv(RECEIVE_CHUNK_BYTES) == b""
    assert ends.node.recv(RECEIVE_CHUNK_BYTES) == b""


@given(st.integers(0, 400), st.binary(min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_a_byte_that_was_changed_on_the_way_is_never_handed_out(made: Certificate, at: int, by: bytes) -> None:
    pair = Ends(made)
    pair.client.send(bytes(300))
    raw = bytearray(pair.node.raw.recv(1000))
    at %= len(raw)
    changed = raw[:at] + by + raw[at + len(by) :]
    pair.client.raw.send(changed)
    try:
        found = pair.node.recv(RECEIVE_CHUNK_BYTES)
    except (ssl.SSLError, BlockingIOError):
        pass
    else:
        assert found == bytes(300) and changed == raw
    pair.close()


# --- who is who -----------------------------------------------------------------------------------------------------


async def test_a_world_is_played_under_tls(made: Certificate) -> None:
    world = lively()
    store = crowded(world, 20_000)
    with store:
        async with open_node(world, listen="tls://127.0.0.1:0", store=store, certificate=made.certificate) as node:
            [url] = node.addresses
            assert url.startswith("tls://")
            async with open_client(url, world, name="ada", ca=made.ca) as client:
                before = client.version
                await wait_until(lambda: client.poll() is not None and client.version > before + 5)
                await wait_until(lambda: client.poll() is not None and client.statistics().digests_verified)
                ticket = client.send("steer", dx=1.0, dy=0.0)
                await wait_until(lambda: client.poll() is not None and ticket.status == "accepted")

            def play() -> int:
                with ecsnet.connect(url, world, ca=made.ca) as embedded:
                    return int(embedded.client_id)

            assert await trio.to_thread.run_sync(play)
        assert node.statistics().connections_failed == 0


async def test_clients_under_tls_are_sent_their_deltas_with_all_others(made: Certificate) -> None:
    """What is cut for many at once is cut for them, too, and those who keep up cost no more than others do."""
    world = lively()
    async with (
        open_node(world, listen=["tls://127.0.0.1:0", "tcp://127.0.0.1:0"], certificate=made.certificate) as node,
        open_client(node.addresses[0], world, ca=made.ca) as secured,
        open_client(node.addresses[1], world) as plain,
    ):
        await wait_until(lambda: all(link.place is not None for link in node.authority.links))
        assert [(link.place or 0) >= SECURED_FROM for link in node.authority.links] == [True, False]
        await wait_until(lambda: all(link.row is not None for link in node.authority.links))
        for client in (secured, plain):
            before = client.version
            await wait_until(lambda one=client, old=before: one.poll() is not None and one.version > old + 5)
        assert all(link.row is not None for link in node.authority.links)
    assert node.statistics().connections_failed == 0


async def test_a_client_finds_its_node_again_under_tls(made: Certificate) -> None:
    world = lively()
    async with (
        open_node(world, listen="tls://127.0.0.1:0", certificate=made.certificate) as node,
        open_client(node.addresses[0], world, ca=made.ca, reconnect=True) as client,
    ):
        session = client.session
        for connection in list(node._connections._by_link.values()):
            connection.scope.cancel()
        await wait_until(lambda: client.poll() is not None and client.reconnects == 1 and client.state == "live")
        assert client.session == session


@pytest.mark.parametrize(
    ("host", "options", "why"),
    [
        ("127.0.0.1", {"hosts": ("example.org",)}, "IP address mismatch"),
        ("localhost", {"hosts": ("example.org",)}, "Hostname mismatch"),
        ("127.0.0.1", {"ends": -DAY / 2}, "expired"),
        ("127.0.0.1", {"begins": DAY / 2}, "not yet valid"),
    ],
    ids=["another address", "another name", "expired", "of the future"],
)
async def test_a_certificate_that_proves_nothing_is_told_as_such(
    tmp_path: Path, host: str, options: dict[str, Any], why: str
) -> None:
    bad = make_certificate(tmp_path, **options)
    async with open_node(lively(), listen="tls://127.0.0.1:0", certificate=bad.certificate) as node:
        url = node.addresses[0].replace("127.0.0.1", host)
        with pytest.raises(UntrustedNodeError, match=why):
            async with open_client(url, ca=bad.ca):
                pass
        with pytest.raises(UntrustedNodeError, match=why):
            await trio.to_thread.run_sync(lambda: ecsnet.connect(url, ca=bad.ca))
        await wait_until(lambda: node.statistics().handshakes_failed == 2 and node.statistics().connections == 0)


async def test_an_authority_of_ones_own_must_be_given(made: Certificate, of_others: Certificate) -> None:
    async with open_node(lively(), listen="tls://127.0.0.1:0", certificate=made.certificate) as node:
        for ca in (None, of_others.ca):
            with pytest.raises(UntrustedNodeError, match=r"give its certificate \(ca=|verify failed|signature"):
                async with open_client(node.addresses[0], ca=ca):
                    pass


async def test_each_transport_tells_that_it_is_not_the_other(made: Certificate) -> None:
    listen = ("tcp://127.0.0.1:0", "tls://127.0.0.1:0")
    async with open_node(lively(), listen=listen, certificate=made.certificate) as node:
        plain, secured = node.addresses
        with pytest.raises(ConnectError, match="tls://"):
            async with open_client(plain.replace("tcp", "tls"), ca=made.ca):
                pass
        with pytest.raises(ConnectError, match="rather than tls://"):
            async with open_client(secured.replace("tls", "tcp")):
                pass
        async with open_client(plain), open_client(secured, ca=made.ca):
            assert len(node.authority.clients) == 2


async def test_an_authority_for_a_link_that_proves_nothing_is_a_mistake(made: Certificate) -> None:
    with pytest.raises(ArgumentError, match="tls://"):
        async with open_client("tcp://127.0.0.1:1", ca=made.ca):
            pass
    with pytest.raises(ArgumentError, match="tls://"):
        ecsnet.connect("tcp://127.0.0.1:1", ca=made.ca)


def test_files_that_are_no_certificates_are_told_by_name(
    tmp_path: Path, made: Certificate, of_others: Certificate
) -> None:
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    missing = tmp_path / "missing.pem"
    for files, why in [
        ((text, None), "PEM"),
        ((missing, None), "cannot be read"),
        ((made.ca, None), "PEM"),
        ((made.certificate, missing), "cannot be read"),
        ((made.certificate, text), "PEM"),
        ((made.certificate, of_others.certificate), "another certificate's"),
    ]:
        with pytest.raises(CertificateError, match=why):
            server_context(*files)
    for path, why in [(text, "PEM"), (missing, "cannot be read")]:
        with pytest.raises(CertificateError, match=why):
            client_context(path)


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    made = make_certificate(tmp_path)
    key = tmp_path / "key.pem"
    secret = ec.generate_private_key(ec.SECP256R1())
    key.write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
    with pytest.raises(CertificateError, match="passphrase"):
        server_context(made.certificate, key)


async def test_a_node_without_a_certificate_does_not_listen(made: Certificate) -> None:
    with pytest.raises(ListenError, match="certificate"):
        async with open_node(lively(), listen="tls://127.0.0.1:0"):
            pass
    with pytest.raises(ArgumentError, match="no certificate"):
        async with open_node(lively(), key=made.certificate):
            pass


async def test_a_node_that_would_show_its_certificate_to_nobody_does_not_start(made: Certificate) -> None:
    """Or who meant tls:// and wrote tcp:// would take its lines for secret."""
    with pytest.raises(ArgumentError, match="write tls://"):
        async with open_node(lively(), listen="tcp://127.0.0.1:0", certificate=made.certificate):
            pass


def test_no_context_of_ours_can_be_without_verification(made: Certificate) -> None:
    for context in (client_context(), client_context(made.ca)):
        assert context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname
        assert context.minimum_version == ssl.TLSVersion.TLSv1_3


# --- strangers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
async def test_hostile_bytes_before_the_handshake_end_their_own_link(made: Certificate, data: bytes) -> None:
    limits = LimitSettings(handshake_deadline_s=0.3)
    async with (
        open_node(lively(), listen="tls://127.0.0.1:0", certificate=made.certificate, limits=limits) as node,
        open_client(node.addresses[0], ca=made.ca) as witness,
    ):
        stranger = await Stranger.connect(node.addresses[0].replace("tls", "tcp"))
        await stranger.send(data)
        await wait_until(lambda: node.statistics().handshakes_failed == 1)
        await wait_until(lambda: node.statistics().connections == 1)
        await stranger.reset()
        before = witness.version
        await wait_until(lambda: witness.poll() is not None and witness.version > before)
        assert node.statistics().connections_failed == 0


async def test_a_handshake_that_never_ends_has_a_deadline(made: Certificate) -> None:
    limits = LimitSettings(handshake_deadline_s=0.2)
    async with open_node(lively(), listen="tls://127.0.0.1:0", certificate=made.certificate, limits=limits) as node:
        stranger = await Stranger.connect(node.addresses[0].replace("tls", "tcp"))
        assert await stranger.receive_until_closed() == []
        assert node.statistics().handshakes_failed == 1
        await stranger.reset()


def test_a_handshake_of_too_many_bytes_is_cut(made: Certificate) -> None:
    """A ClientHello may be announced with 16 MiB in as many records as one likes."""
    raw_node, stranger = socket.socketpair()
    raw_node.setblocking(False)
    node = TlsSocket(raw_node, server_context(made.certificate))
    piece = bytes.fromhex("1603014000") + b"\x01\x00\xff\xff" + bytes(0x4000 - 4)
    sent = 0
    with pytest.raises(OSError) as caught:
        while sent < 1 << 20:
            sent += stranger.send(piece)
            node.shake_hands()
    assert isinstance(caught.value, ssl.SSLError) or caught.value.errno == errno.ECONNABORTED
    assert sent <= TLS_HANDSHAKE_BYTES_MAX + 2 * len(piece)
    node.close()
    stranger.close()


async def test_a_full_node_costs_no_handshake(made: Certificate) -> None:
    limits = LimitSettings(clients_max=1)
    async with (
        open_node(lively(), listen="tls://127.0.0.1:0", certificate=made.certificate, limits=limits) as node,
        open_client(node.addresses[0], ca=made.ca),
    ):
        with pytest.raises(ConnectError, match="full"):
            async with open_client(node.addresses[0], ca=made.ca):
                pass
        assert node.statistics().refused == 1


def test_nothing_reaches_a_tls_address_without_tls(made: Certificate) -> None:
    """Where what is believed was left out on the way, the link must not be plain."""
    with pytest.raises(ArgumentError, match="tls://"):
        tcp_connect("tls://127.0.0.1:1", 1.0)
    with pytest.raises(ArgumentError, match="tls://"):
        tcp_connect("tcp://127.0.0.1:1", 1.0, client_context(made.ca))
    with pytest.raises(ArgumentError, match="carries bytes"):
        Proxy("tcp://127.0.0.1:0", "tls://127.0.0.1:1", profile("lan"))
