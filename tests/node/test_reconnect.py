"""Clients that come back by themselves: a node is killed and started again on its port, and refuses or is full."""

import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from random import Random

import pytest
import trio
import trio.testing

import ecsnet
from ecsnet.config import LimitSettings
from ecsnet.embed import Client
from ecsnet.errors import ClosedError, ConnectError, LocalProtocolError, Reject, SchemaMismatchError
from ecsnet.ids import Entity
from ecsnet.limits import NS_PER_S
from ecsnet.node import AsyncClient, AuthoritativeNode, open_client, open_node
from ecsnet.node.in_process import open_pair
from ecsnet.node.reconnect import ASKED_S_MAX, ATTEMPT_S, PAUSE_S, PAUSE_S_MAX, Reconnector
from ecsnet.node.replica_link import ReplicaLink
from ecsnet.node.tcp import is_connected, start_connect
from ecsnet.replica import EpochChanged, Event, Replica, StateChanged
from ecsnet.schema import loads
from ecsnet.sim.profile import profile as given_profile
from ecsnet.sim.trace import Trace
from ecsnet.sim.trio_link import SimulatedWay, now_ns
from ecsnet.store import Store, Transaction
from ecsnet.wire.codec import encode
from ecsnet.wire.messages import Goodbye, Reason
from ecsnet.world import Client as Player
from ecsnet.world import World
from tests.arena import TEXT, arena, arena_schema
from tests.node.drivers import PATIENCE_S, lively, poll_until, wait_until


class Host:
    """Nodes on one port, one after the other, in a thread of their own."""

    def __init__(self) -> None:
        self.url = "tcp://127.0.0.1:0"
        self.node: AuthoritativeNode | None = None
        self._thread: threading.Thread | None = None
        self._token: trio.lowlevel.TrioToken | None = None

    def start(self, world: World, store: Store | None = None) -> AuthoritativeNode:
        node = AuthoritativeNode(world, listen=self.url, store=store)
        ready = threading.Event()

        async def main() -> None:
            self._token = trio.lowlevel.current_trio_token()
            async with trio.open_nursery() as nursery:
                await nursery.start(node.run)
                ready.set()

        self._thread = threading.Thread(target=trio.run, args=(main,))
        self._thread.start()
        assert ready.wait(PATIENCE_S)
        (self.url,) = node.addresses
        self.node = node
        return node

    def stop(self) -> None:
        """The node says goodbye and ends."""
        assert self.node is not None
        self.node.stop("an update")
        self._join()

    def kill(self) -> None:
        """The node ends without a word to anybody."""
        assert self.node is not None and self._token is not None
        trio.from_thread.run_sync(self.node.cut, trio_token=self._token)
        self._join()

    def _join(self) -> None:
        assert self._thread is not None
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        self.node = None


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    if host.node is not None:
        host.stop()


@pytest.fixture(params=["a thread", "polled"])
def threaded(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "a thread")


def _states(events: list[Event]) -> list[str]:
    return [event.new for event in events if isinstance(event, StateChanged)]


def _still(x: float) -> World:
    """A world in which nothing happens but that players join, at `x`."""
    world = World(arena_schema(), hz=30)

    @world.on_join
    def enter(tx: Transaction, client: Player) -> Entity:
        return tx.spawn(transform={"x": x}, owner=client)

    return world


def _connect(host: Host, threaded: bool, name: str = "ada") -> Client:
    return ecsnet.connect(host.url, arena(), name=name, wait_s=PATIENCE_S, threaded=threaded, reconnect=True)


# --- in a game's own loop --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_client_outlives_its_node(host: Host, threaded: bool, how: str) -> None:
    """The last version stays readable while there is no node, and the next node's world takes its place at once."""
    host.start(lively())
    with _connect(host, threaded) as client:
        poll_until(client, lambda: client.version > 5)
        epoch, session = client.epoch, client.session

        host.kill() if how == "killed" else host.stop()
        events = poll_until(client, lambda: client.state == "resuming")
        shown = client.version
        kept = client.view["transform.x"].copy()
        with pytest.raises(LocalProtocolError, match="'live' again"):
            client.send("steer", dx=1.0, dy=0.0)
        time.sleep(2 * PAUSE_S)
        assert client.poll() == [], "looking for the node is no event"
        assert client.version == shown
        assert (client.view["transform.x"] == kept).all()

        host.start(lively())
        events += poll_until(client, lambda: client.state == "live")

        assert _states(events) == ["resuming", "live"]
        assert client.epoch != epoch and client.session != session
        assert [(event.old, event.new) for event in events if isinstance(event, EpochChanged)] == [
            (epoch, client.epoch)
        ]
        ticket = client.send("steer", dx=1.0, dy=0.0)
        poll_until(client, lambda: ticket.status != "pending")
        assert ticket.status == "accepted"
        client.poll()
        assert client.view[client.entity, "velocity.x"] == 5.0


@pytest.mark.parametrize("how", ["killed", "stopped", "reset"])
def test_a_client_is_the_same_player_on_the_next_node_of_the_same_store(host: Host, threaded: bool, how: str) -> None:
    world = arena(moving=False)
    with Store(world.schema) as store:
        host.start(world, store)
        with _connect(host, threaded) as client:
            poll_until(client, lambda: client.entity)
            entity, session, epoch = client.entity, client.session, client.epoch
            answered = client.send("hit", target=entity)
            poll_until(client, lambda: answered.status == "accepted")
            for _ in range(3):
                if how == "reset":
                    client._link.socket.shutdown(socket.SHUT_RDWR)
                else:
                    host.kill() if how == "killed" else host.stop()
                    poll_until(client, lambda: client.state == "resuming")
                    host.start(arena(moving=False), store)
                before = client.reconnects
                poll_until(client, lambda before=before: client.reconnects > before and client.state == "live")  # type: ignore[misc]
                ticket = client.send("hit", target=client.entity)
                poll_until(client, lambda ticket=ticket: ticket.status == "accepted")  # type: ignore[misc]
            client.poll()
            assert (client.entity, client.session, client.epoch) == (entity, session, epoch)
            assert client.view[entity, "health.hp"] == 60
            assert client.statistics().resumes == 3
        host.stop()


def test_equal_versions_of_two_worlds_are_told_apart(host: Host, threaded: bool) -> None:
    """A version's number means nothing in another epoch: a node that begins anew soon has the number that was shown."""
    host.start(_still(x=3.0))
    with _connect(host, threaded) as client:
        poll_until(client, lambda: client.entity)
        version = client.version

        host.kill()
        poll_until(client, lambda: client.state == "resuming")
        host.start(_still(x=7.0))
        poll_until(client, lambda: client.state == "live")
        poll_until(client, lambda: client.entity)

        assert client.version == version, "or this test shows nothing"
        assert client.view[client.entity, "transform.x"] == 7.0


def test_without_reconnect_a_lost_node_is_the_end(host: Host, threaded: bool) -> None:
    host.start(lively())
    with ecsnet.connect(host.url, arena(), wait_s=PATIENCE_S, threaded=threaded, reconnect=False) as client:
        host.kill()
        events = poll_until(client, lambda: client.state == "closed")

        assert _states(events) == ["closed"]


def test_a_node_that_rejects_the_client_is_not_asked_again(host: Host, threaded: bool) -> None:
    """What the game decided it would decide again; asking every second would be a nuisance to both."""
    host.start(lively())
    with _connect(host, threaded) as client:
        host.stop()
        poll_until(client, lambda: client.state == "resuming")
        asked: list[str] = []
        strict = World(arena_schema(), hz=30)

        @strict.on_join
        def enter(tx: Transaction, client: Player) -> Entity:
            asked.append(client.name)
            raise Reject("you are banned")

        host.start(strict)
        poll_until(client, lambda: client.state == "closed")

        assert isinstance(client.error, Reject)
        assert "you are banned" in client.reason
        time.sleep(4 * PAUSE_S)
        client.poll()
        assert asked == ["ada"]
        with pytest.raises(ClosedError):
            client.send("steer", dx=0.0, dy=0.0)
        assert len(client.view["transform.x"]), "the last world stays readable"


def test_a_node_with_another_schema_is_not_asked_again(host: Host, threaded: bool) -> None:
    host.start(lively())
    with _connect(host, threaded) as client:
        host.stop()
        poll_until(client, lambda: client.state == "resuming")

        node = host.start(World(loads(TEXT.replace("maximum = 100", "maximum = 200")), hz=30))
        poll_until(client, lambda: client.state == "closed")

        assert isinstance(client.error, SchemaMismatchError)
        time.sleep(4 * PAUSE_S)
        client.poll()
        assert node.statistics().accepted == 1


def test_closing_while_there_is_no_node_does_not_wait_for_one(host: Host, threaded: bool) -> None:
    host.start(lively())
    client = _connect(host, threaded)
    host.kill()
    poll_until(client, lambda: client.state == "resuming")

    client.close()

    assert client.state == "closed"
    with pytest.raises(ClosedError):
        client.view
    assert not [thread for thread in threading.enumerate() if thread.name == "ecsnet client"]


# --- under Trio ------------------------------------------------------------------------------------------------------


async def _until(client: AsyncClient, condition: Callable[[], object]) -> list[Event]:
    """Events up to when `condition` holds."""
    events: list[Event] = []
    with trio.fail_after(PATIENCE_S):
        while not condition():
            events += await client.wait_poll()
    return events


async def test_a_client_under_trio_comes_back_to_a_node_that_was_killed() -> None:
    async with trio.open_nursery() as nursery:
        first = AuthoritativeNode(lively(), listen="tcp://127.0.0.1:0")
        await nursery.start(first.run)
        (url,) = first.addresses
        async with open_client(url, arena(), wait_s=PATIENCE_S, reconnect=True) as client:
            await _until(client, lambda: client.version > 5)
            epoch = client.epoch

            first.cut()
            await first.wait_stopped()
            events = await _until(client, lambda: client.state == "resuming")
            assert client.view["transform.x"].size, "the last world stays readable"

            async with open_node(lively(), listen=url):
                events += await _until(client, lambda: client.state == "live")

                assert _states(events) == ["resuming", "live"]
                assert client.epoch != epoch
                ticket = client.send("steer", dx=1.0, dy=0.0)
                await _until(client, lambda: ticket.status != "pending")
                assert ticket.status == "accepted"
        nursery.cancel_scope.cancel()


async def test_a_client_that_was_thrown_out_by_a_full_node_comes_in_when_there_is_room() -> None:
    """A node that is full today may not be in a moment."""
    async with trio.open_nursery() as nursery:
        first = AuthoritativeNode(lively(), listen="tcp://127.0.0.1:0")
        await nursery.start(first.run)
        (url,) = first.addresses
        async with open_client(url, arena(), name="ada", wait_s=PATIENCE_S, reconnect=True) as client:
            first.stop()
            await first.wait_stopped()
            async with open_node(lively(), listen=url, limits=LimitSettings(clients_max=1)) as second:
                async with open_client(second, arena(), name="bob", wait_s=PATIENCE_S):
                    await wait_until(lambda: second.statistics().refused > 1)
                    client.poll()
                    assert client.state == "resuming"
                await _until(client, lambda: client.state == "live")
        nursery.cancel_scope.cancel()


async def test_the_end_of_a_node_of_this_process_is_final() -> None:
    """There is no address at which another could appear."""
    async with (
        open_node(lively(), listen=()) as node,
        open_client(node, arena(), wait_s=PATIENCE_S, reconnect=True) as client,
    ):
        node.stop()
        await _until(client, lambda: client.state == "closed")

        assert "ended" in client.reason


class CutWay:
    """A perfect line to a node in virtual time, which the test cuts; a second connection is refused."""

    def __init__(self, node: AuthoritativeNode, nursery: trio.Nursery) -> None:
        line = given_profile("perfect")
        self.attempts = 0
        self.ends: list[socket.socket] = []
        self._way = SimulatedWay("way", 1, line, "0", node=lambda: (node, 1), nursery=nursery, trace=Trace())

    def connect_in_process(self) -> socket.socket:
        self.attempts += 1
        if self.ends:
            raise ConnectError("way", "not now")
        self.ends.append(self._way.connect_in_process())
        return self.ends[0]

    def cut(self) -> None:
        self._way.cut(down=True, up=True)

    def drop(self) -> None:
        self._way.drop()


async def test_a_client_that_waits_for_room_on_a_dead_line_gives_it_up(autojump_clock: trio.testing.MockClock) -> None:
    """A socket that takes nothing more never becomes writable where the line is dead: the session's own deadline has to
    end the wait."""
    async with trio.open_nursery() as nursery, open_node(lively(), listen=(), clock=now_ns) as node:
        way = CutWay(node, nursery)
        async with open_client(way, arena(), reconnect=True, clock=now_ns) as client:
            way.cut()
            await trio.sleep(0.1)
            # Whatever the client sends waits behind this.
            with pytest.raises(BlockingIOError):
                while True:
                    way.ends[0].send(bytes(4096))
                    await trio.sleep(0)
            client.send("steer", dx=1.0, dy=0.0)

            with trio.fail_after(120.0):
                while way.attempts < 3:
                    await client.wait_poll() if client.state == "live" else await trio.sleep(0.1)

            assert client.state == "resuming"
        nursery.cancel_scope.cancel()


async def test_leaving_while_there_is_no_node_takes_no_time(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery, open_node(lively(), listen=(), clock=now_ns) as node:
        way = CutWay(node, nursery)
        async with open_client(way, arena(), reconnect=True, clock=now_ns) as client:
            way.drop()
            while client.state == "live":
                await client.wait_poll()
            await trio.sleep(10.0)
            assert client.state == "resuming" and way.attempts > 4
            before = trio.current_time()

        assert trio.current_time() == before
        assert client.state == "closed"
        nursery.cancel_scope.cancel()


async def test_a_node_that_stops_reading_does_not_keep_its_client_from_coming_back() -> None:
    """The frames that it does not take belong to a session that is over."""
    ours, theirs = open_pair()

    class Way:
        def connect_in_process(self) -> socket.socket:
            raise ConnectError("here", "not now")

    replica = Replica(arena(), reconnects=True)
    link = ReplicaLink(replica, theirs)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    try:
        while True:
            theirs.send(bytes(4096))
    except BlockingIOError:
        pass
    link.flush()
    assert link.wants_room and not link.is_over

    replica.disconnected(link.clock(), "no word from the node for long")

    assert link.is_over
    ours.close()
    theirs.close()
    replica.release()


# --- when, by a clock of the test's ----------------------------------------------------------------------------------


class Lost:
    """A link that has just lost its connection, a clock, and a node whose answer the test decides."""

    def __init__(self, *, last_words: bytes = b"") -> None:
        self.now_ns = NS_PER_S
        self.answer: Callable[[], socket.socket] = self.refuse
        self.attempts: list[int] = []
        self.ends: list[socket.socket] = []
        ours, theirs = open_pair()
        self.replica = Replica(arena(), reconnects=True)
        self.link = ReplicaLink(self.replica, theirs, clock=lambda: self.now_ns)
        self.again = Reconnector(self.link, self._open, Random(3))
        ours.send(last_words)
        ours.close()
        self.link.receive()
        theirs.close()
        self.again.begin()

    def _open(self) -> socket.socket:
        self.attempts.append(self.now_ns)
        return self.answer()

    def refuse(self) -> socket.socket:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")

    def accept(self) -> socket.socket:
        ours, theirs = open_pair()
        self.ends.append(ours)
        return theirs

    def step(self) -> bool:
        """The next time that the driver wakes up by the clock."""
        self.now_ns += round(self.again.timeout_s() * NS_PER_S) + 1
        return self.again.step()

    def close(self) -> None:
        for end in self.ends:
            end.close()
        self.link.socket.close()
        self.again.close()
        self.replica.release()


@pytest.fixture
def lost() -> Iterator[Lost]:
    lost = Lost()
    yield lost
    lost.close()


def test_pauses_double_up_to_a_limit_and_differ_from_client_to_client(lost: Lost) -> None:
    for _ in range(12):
        assert not lost.step()

    pauses = [(after - before) / NS_PER_S for before, after in zip(lost.attempts, lost.attempts[1:], strict=False)]
    nominal = [min(PAUSE_S * 2**n, PAUSE_S_MAX) for n in range(1, len(pauses) + 1)]
    shares = [pause / of for pause, of in zip(pauses, nominal, strict=True)]
    assert all(0.49 <= share <= 1.51 for share in shares)
    assert max(shares) - min(shares) > 0.2, "drawn, not fixed"


@pytest.mark.parametrize(("asked_s", "least_s"), [(5.0, 5.0), (1e6, ASKED_S_MAX)])
def test_a_node_that_has_said_how_long_it_will_be_away_is_not_asked_before(asked_s: float, least_s: float) -> None:
    lost = Lost(last_words=encode(Goodbye(reason=Reason.FULL, reconnect_after_ms=round(asked_s * 1000))))
    begun_ns = lost.now_ns
    assert not lost.step()
    assert not lost.step()

    first, second = ((at_ns - begun_ns) / NS_PER_S for at_ns in lost.attempts)
    assert least_s <= first <= 1.5 * least_s + 0.01, "a little later than all the others, and never for ever"
    assert second - first < PAUSE_S_MAX, "once it is time it is tried as ever"
    lost.close()


def test_a_connection_is_attached_and_the_session_begins_again(lost: Lost) -> None:
    lost.answer = lost.accept

    assert lost.step()

    assert not lost.replica.reconnecting
    assert lost.replica.state == "resuming", "until there is a whole world"
    lost.link.flush()
    assert lost.ends[0].recv(4096), "a Hello"


def test_half_a_frame_of_the_lost_connection_does_not_reach_the_next() -> None:
    """The new one begins with a frame of its own, not with the rest of that one."""
    lost = Lost(last_words=encode(Goodbye(reason=Reason.SHUTDOWN, message="half of this"))[:11])
    lost.answer = lost.accept
    assert lost.step()

    lost.ends[0].send(encode(Goodbye(reason=Reason.REJECTED, message="you are banned")))
    lost.link.receive()

    assert lost.replica.farewell == (Reason.REJECTED, "you are banned")
    lost.close()


def test_a_session_that_never_had_a_world_does_not_shorten_the_pause(lost: Lost) -> None:
    """A node that lets in and throws out again, many times a second, would have to do it for all of its clients."""
    lost.answer = lost.accept
    pauses = []
    for _ in range(8):
        begun_ns = lost.now_ns
        assert lost.step()
        pauses.append((lost.now_ns - begun_ns) / NS_PER_S)
        lost.ends[-1].close()
        lost.link.receive()
        lost.link.socket.close()
        lost.again.begin()

    assert max(pauses[-3:]) > PAUSE_S_MAX / 2 - 0.01
    assert min(pauses[-3:]) > 0.45 * PAUSE_S_MAX


def test_an_attempt_without_an_answer_is_given_up(lost: Lost) -> None:
    under_way: list[socket.socket] = []

    def never() -> socket.socket:
        # A stream socket that is not connected looks like one whose handshake is under way.
        under_way.append(socket.socket())
        return under_way[-1]

    lost.answer = never
    assert not lost.step()
    assert lost.again.socket is under_way[0]
    lost.now_ns += round(ATTEMPT_S * NS_PER_S) - 1
    assert not lost.again.step()
    assert under_way[0].fileno() >= 0

    lost.now_ns += 1
    assert not lost.again.step()

    assert under_way[0].fileno() < 0, "closed"
    assert lost.again.socket is None
    lost.answer = lost.accept
    assert lost.step()


def test_a_client_that_was_closed_meanwhile_closes_the_connection_it_is_given(lost: Lost) -> None:
    lost.answer = lost.accept
    lost.link.say_goodbye()

    assert lost.step()

    assert lost.attempts == []
    assert lost.replica.state == "closed"


def test_a_refusal_is_noticed_on_the_socket_itself() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    where = listener.getsockname()
    connecting = start_connect(socket.AF_INET, where)
    _writable(connecting)
    assert is_connected(connecting)
    connecting.close()
    listener.close()

    try:
        refused = start_connect(socket.AF_INET, where)
    except ConnectionRefusedError:
        return  # at once, which is as good
    _writable(refused)
    with pytest.raises(ConnectionRefusedError):
        is_connected(refused)
    refused.close()


def test_a_socket_that_was_connected_to_itself_is_no_node() -> None:
    """A port of this machine on which nobody listens may be drawn for the client itself. It would seem connected, and
    the node could not have its port again."""
    itself = socket.socket()
    itself.bind(("127.0.0.1", 0))
    try:
        itself.connect(itself.getsockname())
    except OSError:
        pytest.skip("this system does not connect a socket to itself")
    itself.setblocking(False)

    with pytest.raises(ConnectionRefusedError, match=os.strerror(errno.ECONNREFUSED)):
        is_connected(itself)

    itself.close()


def _writable(connecting: socket.socket) -> None:
    import select

    _, ready, failed = select.select([], [connecting], [connecting], PATIENCE_S)
    assert ready or failed
