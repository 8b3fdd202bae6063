"""A client in a game's own loop, with a thread for the network and without."""

import contextlib
import gc
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import trio

import ecsnet
from ecsnet.embed import Client
from ecsnet.errors import (
    ArgumentError,
    ClosedError,
    ConnectError,
    InternalError,
    LocalProtocolError,
    NotBuiltError,
    RemoteProtocolError,
    SchemaMismatchError,
    UnknownNameError,
)
from ecsnet.ids import Entity
from ecsnet.node import AuthoritativeNode, tcp
from ecsnet.replica import CommandAnswered, StateChanged
from ecsnet.schema import loads
from ecsnet.store import Transaction, col
from ecsnet.wire.messages import Reason
from ecsnet.world import Client as WorldClient
from ecsnet.world import World
from tests.arena import TEXT, arena
from tests.node.drivers import PATIENCE_S, lively, poll_until


@pytest.fixture
def node() -> Iterator[AuthoritativeNode]:
    """A node in a thread of its own, as in a game that hosts what it plays."""
    with running_in_thread(lively()) as running:
        yield running


@contextlib.contextmanager
def running_in_thread(world: World) -> Iterator[AuthoritativeNode]:
    running = AuthoritativeNode(world, listen="tcp://127.0.0.1:0")
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
    assert not thread.is_alive()


def writable() -> World:
    """A world whose players write a component of their own, and may give themselves another."""
    key = '{ name = "entity_id", type = "u64", foreign_key = "entities.id" }'
    text = '[database]\nname = "writable"\nversion = "1.0.0"\n'
    text += f'[tables.stick]\nparent_table = "entities"\nwriters = [{{ operations = ["update"] }}]\nfields = [{key}, '
    text += '{ name = "x", type = "f32", default = 0.0 }]\n'
    text += '[tables.flag]\nparent_table = "entities"\nwriters = [{ operations = ["insert", "delete"] }]\n'
    text += f"fields = [{key}]\n"
    world = World(loads(text), hz=60)
    world.on_join(arrive)
    return world


def arrive(tx: Transaction, client: WorldClient) -> Entity:
    return tx.spawn(stick={}, owner=client)


@pytest.fixture(params=["a thread", "polled"])
def threaded(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "a thread")


def _connect(node: AuthoritativeNode, threaded: bool, name: str = "ada") -> Client:
    return ecsnet.connect(node.addresses[0], arena(), name=name, wait_s=PATIENCE_S, threaded=threaded, reconnect=False)


# --- a game's loop ---------------------------------------------------------------------------------------------------


def test_connect_returns_with_a_whole_world(node: AuthoritativeNode, threaded: bool) -> None:
    with _connect(node, threaded) as client:
        assert client.state == "live"
        assert client.entity in client.view
        assert client.version > 0
        assert (client.name, client.hz) == ("ada", node.world.hz)
        assert client.view[client.entity, "health.hp"] == 100


def test_a_command_is_answered_by_its_ticket_and_by_an_event(node: AuthoritativeNode, threaded: bool) -> None:
    with _connect(node, threaded) as client:
        accepted = client.send("steer", dx=1.0, dy=0.0)
        events = poll_until(client, lambda: accepted.status != "pending")
        rejected = client.send("steer", dx=9.0, dy=0.0)
        events += poll_until(client, lambda: rejected.status != "pending")
        events += client.poll()

        assert accepted.status == "accepted" and accepted.version is not None
        assert (rejected.status, rejected.reason) == ("rejected", "faster than a player can run")
        assert [event.ticket for event in events if isinstance(event, CommandAnswered)] == [accepted, rejected]
        assert client.view.version >= accepted.version
        poll_until(client, lambda: client.view[client.entity, "transform.x"] > 0.0)


def test_a_client_writes_what_is_its_own(threaded: bool) -> None:
    """Over a socket, from a game's loop; what is another's is refused, and nobody's world shows it."""
    with (
        running_in_thread(writable()) as node,
        ecsnet.connect(node.addresses[0], writable(), wait_s=PATIENCE_S, threaded=threaded) as client,
        ecsnet.connect(node.addresses[0], wait_s=PATIENCE_S, threaded=True) as other,
    ):
        mine = client.write(client.entity, "stick", x=0.5)
        theirs = other.write(client.entity, "stick", x=-0.5)
        flag = client.insert(client.entity, flag={})
        poll_until(client, lambda: mine.status != "pending" and flag.status != "pending")
        poll_until(other, lambda: theirs.status != "pending")
        assert (mine.status, flag.status) == ("accepted", "accepted")
        assert (theirs.status, theirs.code) == ("rejected", Reason.NOT_ALLOWED)
        gone = client.delete(client.entity, "flag")
        poll_until(client, lambda: gone.status != "pending" and (client.entity, "flag") not in client.view)
        poll_until(other, lambda: other.view[client.entity, "stick.x"] == 0.5)
        assert gone.status == "accepted"


def test_what_is_read_between_two_polls_is_of_one_version(node: AuthoritativeNode, threaded: bool) -> None:
    with _connect(node, threaded) as client:
        version = client.version
        xs = client.view["transform.x"]
        before = xs.copy()
        held = client.view

        poll_until(client, lambda: client.version >= version + 5)

        assert client.view is not held
        assert held.version == version, "a view that is kept stays as it was"
        np.testing.assert_array_equal(xs, before)
        assert not np.array_equal(client.view["transform.x"], before)


def test_without_a_poll_nothing_changes(node: AuthoritativeNode, threaded: bool) -> None:
    """A game decides when the world moves under it."""
    with _connect(node, threaded) as client, _connect(node, True, "clock") as clock:
        view, version, entity = client.view, client.version, client.entity
        now = clock.version
        poll_until(clock, lambda: clock.version >= now + 10)

        assert client.view is view
        assert (client.version, client.entity) == (version, entity)
        poll_until(client, lambda: client.version > version)


def test_a_client_follows_what_changes_in_its_world(node: AuthoritativeNode, threaded: bool) -> None:
    with _connect(node, threaded) as client:
        followed = client.subscribe("transform", where=col("entity_id") == client.entity)
        steer = client.send("steer", dx=1.0, dy=0.0)
        found: list[ecsnet.Change] = []
        poll_until(client, lambda: bool(found.extend(followed.poll()) or found) and steer.status == "accepted")
        assert {change.key for change in found} == {client.entity}
        assert {change.kind for change in found} == {"update"}
        assert "x" in found[-1].fields
    assert list(followed) == []
    with pytest.raises(ClosedError):
        client.subscribe("transform")


def test_two_clients_see_the_same_world(node: AuthoritativeNode) -> None:
    """One has the game's code and a thread, the other neither."""
    with (
        _connect(node, True) as first,
        ecsnet.connect(node.addresses[0], wait_s=PATIENCE_S, threaded=False) as second,
    ):
        seen: dict[int, str] = {}
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            first.poll()
            second.poll()
            seen[first.version] = first.view.digest()
            if second.version in seen:
                break
        assert second.view.digest() == seen[second.version]
        assert first.entity in second.view and second.entity in first.view


def test_a_game_joins_the_node_that_it_hosts_without_an_address(node: AuthoritativeNode, threaded: bool) -> None:
    with ecsnet.connect(node, arena(), name="host", threaded=threaded, wait_s=PATIENCE_S) as client:
        version = client.version
        poll_until(client, lambda: client.version > version)


def test_applied_versions_are_reported_with_their_time(node: AuthoritativeNode, threaded: bool) -> None:
    applied: list[tuple[int, int]] = []
    with ecsnet.connect(
        node, wait_s=PATIENCE_S, threaded=threaded, on_version=lambda version, ns: applied.append((version, ns))
    ) as client:
        poll_until(client, lambda: len(applied) >= 5)

    versions, times = zip(*applied, strict=True)
    assert list(versions) == sorted(set(versions))
    assert list(times) == sorted(times)


# --- what is refused -----------------------------------------------------------------------------------------------


def test_a_wrong_command_is_refused_here_before_anything_is_sent(node: AuthoritativeNode, threaded: bool) -> None:
    with _connect(node, threaded) as client:
        sent = client.statistics().frames_sent
        with pytest.raises(UnknownNameError, match="did you mean 'steer'"):
            client.send("stear", dx=1.0, dy=0.0)
        with pytest.raises(ArgumentError, match="dy"):
            client.send("steer", dx=1.0)
        with pytest.raises(ArgumentError):
            client.send("steer", dx=float("nan"), dy=0.0)
        assert client.state == "live"
        assert client.statistics().frames_sent - sent < 20


def test_what_is_not_built_says_what_to_use(node: AuthoritativeNode) -> None:
    with _connect(node, True) as client:
        with pytest.raises(NotBuiltError, match=r"client\.view"):
            client.scene()
        with pytest.raises(NotBuiltError):
            client.on_correction(print)


@pytest.mark.parametrize("url", ["ws://localhost:1", "udp://localhost:1"])
def test_planned_transports_are_refused(url: str) -> None:
    with pytest.raises(NotBuiltError, match="tcp://"):
        ecsnet.connect(url)


def test_nobody_there_is_a_connect_error_with_the_address() -> None:
    (listener,) = tcp.listen("tcp://127.0.0.1:0")
    url = tcp.address_of(listener)
    listener.close()

    with pytest.raises(ConnectError, match="is the node running") as caught:
        ecsnet.connect(url, wait_s=PATIENCE_S)

    assert caught.value.address == url


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", RemoteProtocolError, "frame"),
        (b"\xff" * 64, RemoteProtocolError, "frame"),
        (bytes.fromhex("11010103e8030000"), RemoteProtocolError, "frame"),
        (b"", ConnectError, "without a goodbye"),
    ],
)
def test_something_else_that_listens_there_is_told_as_that(
    answer: bytes, error: type[Exception], words: str, threaded: bool
) -> None:
    """It answers, and then hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve() -> None:
        connected, _ = listener.accept()
        with connected:
            connected.recv(4096)
            connected.sendall(answer)
            connected.shutdown(socket.SHUT_WR)
            while connected.recv(4096):
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(error, match=words):
        ecsnet.connect(f"tcp://127.0.0.1:{port}", wait_s=PATIENCE_S, threaded=threaded)
    thread.join()
    listener.close()


def test_a_node_that_never_answers_is_given_up_on(threaded: bool) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    with pytest.raises(ConnectError, match="no whole world within 0.2 s"):
        ecsnet.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}", wait_s=0.2, threaded=threaded)

    listener.close()


def test_another_schema_is_refused(node: AuthoritativeNode, threaded: bool) -> None:
    other = loads(TEXT.replace("maximum = 100", "maximum = 200"))

    with pytest.raises(SchemaMismatchError):
        ecsnet.connect(node.addresses[0], other, wait_s=PATIENCE_S, threaded=threaded)


def test_a_client_that_the_game_rejects_is_told_why(node: AuthoritativeNode, threaded: bool) -> None:
    with pytest.raises(ConnectError, match="you are banned"):
        _connect(node, threaded, "banned")


def test_a_bug_in_the_network_thread_reaches_the_game(node: AuthoritativeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a client that silently stands still."""
    with _connect(node, True) as client:

        def receive_frame(*arguments: object) -> None:
            raise ZeroDivisionError("a bug in ecsnet")

        monkeypatch.setattr(type(client._replica), "receive_frame", receive_frame)
        with pytest.raises(InternalError) as caught:
            poll_until(client, lambda: False)

        assert isinstance(caught.value.__cause__, ZeroDivisionError)


# --- the end -------------------------------------------------------------------------------------------------------


def test_when_the_node_stops_the_client_is_closed_and_its_world_stays(node: AuthoritativeNode, threaded: bool) -> None:
    with _connect(node, threaded) as client:
        node.stop("closing time")
        events = poll_until(client, lambda: client.state == "closed")
        events += client.poll()

        ends = [event for event in events if isinstance(event, StateChanged)]
        assert [(end.old, end.new) for end in ends] == [("live", "closed")]
        assert "closing time" in ends[0].reason == client.reason
        assert client.view[client.entity, "health.hp"] == 100
        with pytest.raises((ClosedError, LocalProtocolError)):
            client.send("steer", dx=0.0, dy=0.0)


def test_a_client_that_closes_leaves_the_world(node: AuthoritativeNode, threaded: bool) -> None:
    with _connect(node, threaded, "watcher") as watcher:
        client = _connect(node, threaded)
        entity = client.entity
        poll_until(watcher, lambda: entity in watcher.view)

        client.close()
        client.close()

        poll_until(watcher, lambda: entity not in watcher.view)
        with pytest.raises(ClosedError):
            client.view
        with pytest.raises(ClosedError):
            client.send("steer", dx=0.0, dy=0.0)
        assert client.poll() == []


def test_views_and_arrays_outlive_the_client(node: AuthoritativeNode, threaded: bool) -> None:
    with _connect(node, threaded) as client:
        view = client.view
        hp = view["health.hp"]
        entity = client.entity

    gc.collect()
    assert view[entity, "health.hp"] == 100
    assert hp.max() == 100


def test_a_client_that_is_forgotten_warns_and_ends(node: AuthoritativeNode, threaded: bool) -> None:
    """Leaving out `close` costs a warning, not a thread and a player that stands around for ever."""
    with _connect(node, True, "watcher") as watcher:
        threads = threading.active_count()
        client = _connect(node, threaded)
        entity = client.entity
        poll_until(watcher, lambda: entity in watcher.view)

        with pytest.warns(ResourceWarning, match="was not closed"):
            del client
            gc.collect()

        poll_until(watcher, lambda: entity not in watcher.view)
        # Fewer, too: an idle thread of Trio's pool goes away by itself.
        poll_until(watcher, lambda: threading.active_count() <= threads)


def test_a_thousand_inputs_a_second_cost_one_a_tick(node: AuthoritativeNode, threaded: bool) -> None:
    """A `latest` command may be sent every frame: only the newest of a tick goes out."""
    with _connect(node, threaded) as client:
        tickets = []
        start = client.version
        while client.version < start + 20:
            tickets.append(client.send("steer", dx=0.5, dy=0.0))
            client.poll()
        last = tickets[-1]
        poll_until(client, lambda: last.status != "pending")

        assert last.status == "accepted"
        assert {ticket.status for ticket in tickets} == {"accepted", "superseded"}
        accepted = sum(ticket.status == "accepted" for ticket in tickets)
        assert accepted <= client.version - start + 2
        assert len(tickets) > 2 * accepted
