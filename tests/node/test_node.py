"""The node and its clients over real sockets on this machine."""

import errno
import gc
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from ecsnet.authority import TickReport
from ecsnet.config import LimitSettings
from ecsnet.errors import ClosedError, ConnectError, ListenError, SchemaMismatchError
from ecsnet.limits import NS_PER_S
from ecsnet.node import AsyncClient, AuthoritativeNode, connections, in_process, open_client, open_node
from ecsnet.node.rates import Bucket
from ecsnet.replica import StateChanged
from ecsnet.schema import loads
from ecsnet.store import Transaction
from ecsnet.wire.codec import encode
from ecsnet.wire.messages import Error, Goodbye, Hello, Ping, Reason
from ecsnet.world import World
from tests.arena import TEXT, arena
from tests.node.drivers import (
    HOSTILE,
    HZ,
    PATIENCE_S,
    Stranger,
    connect_polled,
    crowded,
    lively,
    poll_until,
    wait_until,
)


@pytest.fixture(autouse=True)
def nothing_is_left_open() -> Iterator[None]:
    """No descriptor and no thread outlives its node and clients."""
    gc.collect()
    descriptors, threads = _descriptors(), threading.active_count()
    yield
    gc.collect()
    assert _descriptors() == descriptors
    # Trio keeps idle workers of `to_thread` for a while.
    ours = [thread for thread in threading.enumerate() if "ecsnet" in thread.name]
    assert not ours or threading.active_count() == threads


def _descriptors() -> list[str]:
    """What is open, but for Trio's own loop, which differs from one test to the next."""
    if not os.path.isdir("/proc/self/fd"):
        return []
    names = []
    for number in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if name.startswith("socket:"):
            names.append(number)
    return sorted(names)


async def _wait_closed(client: AsyncClient) -> None:
    with trio.fail_after(PATIENCE_S):
        while client.state == "live":
            await client.wait_poll()
    client.poll()


# --- joining, playing, leaving ---------------------------------------------------------------------------------------


async def test_a_client_joins_plays_and_leaves() -> None:
    async with open_node(lively()) as node:
        async with open_client(node.addresses[0], arena(), name="ada", wait_s=PATIENCE_S, reconnect=False) as client:
            assert client.state == "live"
            assert client.entity in client.view
            ticket = client.send("steer", dx=1.0, dy=0.0)
            with trio.fail_after(PATIENCE_S):
                while ticket.status == "pending" or client.view[client.entity, "transform.x"] == 0.0:
                    await client.wait_poll()
            assert ticket.status == "accepted"
            entity = client.entity

        await wait_until(lambda: node.statistics().authority.leaves == 1)
        with node.store.view() as view:
            assert entity not in view, "on_leave ran"
        assert node.statistics().connections_failed == 0


async def test_a_client_without_the_games_code_learns_schema_and_commands() -> None:
    async with (
        open_node(lively()) as node,
        open_client(node.addresses[0], wait_s=PATIENCE_S, reconnect=False) as client,
    ):
        assert client.schema.fingerprint == node.world.schema.fingerprint

        ticket = client.send("steer", dx=2.0, dy=0.0)
        with trio.fail_after(PATIENCE_S):
            while ticket.status == "pending":
                await client.wait_poll()

        assert (ticket.status, ticket.reason) == ("rejected", "faster than a player can run")


async def test_many_clients_come_and_go_and_all_see_the_same_world() -> None:
    """Joining, leaving and playing at once, several rounds, from one seed."""
    chance = random.Random(7)
    digests = []

    async def play(node: AuthoritativeNode, number: int) -> None:
        for _ in range(3):
            async with open_client(
                node.addresses[0], arena(), name=f"player {number}", wait_s=PATIENCE_S, reconnect=False
            ) as client:
                client.send("steer", dx=chance.uniform(-0.7, 0.7), dy=chance.uniform(-0.7, 0.7))
                await trio.sleep(chance.uniform(0.0, 0.1))
                client.poll()
                assert client.entity in client.view

    async def stay(node: AuthoritativeNode) -> None:
        async with open_client(node.addresses[0], arena(), wait_s=PATIENCE_S, reconnect=False) as client:
            ready.append(client.session)
            await everybody_left.wait()
            with trio.fail_after(PATIENCE_S):
                while client.version < node.store.version or not still.is_set():
                    await client.wait_poll()
            digests.append(client.view.digest())

    ready: list[int] = []
    everybody_left = trio.Event()
    still = trio.Event()
    world = arena(hz=HZ, moving=False)
    async with open_node(world) as node:
        async with trio.open_nursery() as stayers:
            for _ in range(5):
                stayers.start_soon(stay, node)
            await wait_until(lambda: len(ready) == 5)
            async with trio.open_nursery() as players:
                for number in range(20):
                    players.start_soon(play, node, number)
            everybody_left.set()
            await wait_until(lambda: node.statistics().authority.leaves == 60)
            # A last version, for which everybody waits.
            with node.store.transaction() as tx:
                tx.spawn(health={"hp": 1})
            still.set()

        with node.store.view() as view:
            assert digests == [view.digest()] * 5
        statistics = node.statistics()
        assert statistics.connections_failed == 0
        assert statistics.authority.joins == 65


async def test_a_world_too_big_for_one_frame_joins_whole_while_it_changes() -> None:
    """The sync goes out in chunks between ticks, and the closing delta has what changed meanwhile."""
    world = arena(hz=HZ)
    store = crowded(world, 40_000)
    with store.view() as view:
        speeds = view["velocity.x"].copy()
    async with open_node(world, store=store) as node:
        for where in (node.addresses[0], node):
            async with open_client(where, arena(), wait_s=PATIENCE_S, reconnect=False) as client:
                assert client.statistics().chunks_staged > 1
                assert (client.view["velocity.x"][:40_000] == speeds).all()
                version = client.version
                with trio.fail_after(PATIENCE_S):
                    while client.version < version + 5:
                        await client.wait_poll()
                assert client.statistics().digests_verified >= 1
        assert node.statistics().connections_failed == 0
    store.close()


async def test_a_client_in_the_same_process_needs_no_address() -> None:
    """What a game does that hosts the world it plays in."""
    async with open_node(lively(), listen=()) as node:
        assert node.addresses == ()

        async with open_client(node, arena(), name="host", wait_s=PATIENCE_S, reconnect=False) as client:
            version = client.version
            with trio.fail_after(PATIENCE_S):
                await client.wait_poll()
            assert client.version > version

    with pytest.raises(ClosedError):
        node.connect_in_process()


async def test_the_times_of_a_tick_and_of_its_version_are_reported_to_whoever_asks() -> None:
    """What the lag of a running system is measured with."""
    started: dict[int, int] = {}
    applied: dict[int, int] = {}

    def on_tick(report: TickReport, started_ns: int) -> None:
        if report.version is not None:
            started[report.version] = started_ns

    async with (
        open_node(lively(), on_tick=on_tick) as node,
        open_client(
            node.addresses[0], arena(), wait_s=PATIENCE_S, reconnect=False, on_version=applied.__setitem__
        ) as client,
    ):
        await wait_until(lambda: len(applied) >= 5)
        assert client.statistics().versions_applied >= 5

    common = started.keys() & applied.keys()
    assert len(common) >= 4
    assert all(started[version] < applied[version] for version in common)


# --- refusing ---------------------------------------------------------------------------------------------------------


async def test_another_schema_is_refused_with_both_fingerprints() -> None:
    other = World(loads(TEXT.replace("maximum = 100", "maximum = 200")))
    async with open_node(lively()) as node:
        with pytest.raises(SchemaMismatchError) as caught:
            async with open_client(node.addresses[0], other, wait_s=PATIENCE_S, reconnect=False):
                raise AssertionError("not reached")

    assert other.schema.fingerprint.hex() in str(caught.value)


async def test_a_client_that_the_game_rejects_is_told_why() -> None:
    async with open_node(lively()) as node:
        with pytest.raises(ConnectError, match="you are banned"):
            async with open_client(node.addresses[0], arena(), name="banned", wait_s=PATIENCE_S, reconnect=False):
                raise AssertionError("not reached")


async def test_a_full_node_says_so() -> None:
    async with (
        open_node(lively(), limits=LimitSettings(clients_max=1)) as node,
        open_client(node.addresses[0], wait_s=PATIENCE_S, reconnect=False),
    ):
        with pytest.raises(ConnectError, match="clients_max"):
            async with open_client(node.addresses[0], wait_s=PATIENCE_S, reconnect=False):
                raise AssertionError("not reached")

        assert node.statistics().refused == 1


async def test_a_port_in_use_is_one_error_with_the_address() -> None:
    async with open_node(arena()) as node:
        with pytest.raises(ListenError, match="in use") as caught:
            async with open_node(arena(), listen=node.addresses[0]):
                raise AssertionError("not reached")

        assert caught.value.address == node.addresses[0]


async def test_new_links_come_at_a_limited_rate(autojump_clock: trio.testing.MockClock) -> None:
    """One second's worth at once, for a full node that comes back; then at the rate."""
    bucket = Bucket(2)
    start = trio.current_time()

    times = []
    for _ in range(6):
        await bucket.wait_take()
        times.append(trio.current_time() - start)

    assert times == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.5, 2.0])


# --- strangers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_bytes_end_their_own_connection_and_nothing_else(name: str) -> None:
    """A stranger needs no account to send bytes; a player in the middle of a game must not notice."""
    limits = LimitSettings(handshake_deadline_s=0.5)
    async with (
        open_node(lively(), limits=limits) as node,
        open_client(node.addresses[0], arena(), wait_s=PATIENCE_S, reconnect=False) as player,
    ):
        stranger = await Stranger.connect(node.addresses[0])
        await stranger.send(HOSTILE[name])
        said = await stranger.receive_until_closed()
        await stranger.stream.aclose()

        assert isinstance(said[-1], Goodbye), "and it is told why"
        assert any(isinstance(message, Error) and message.fatal for message in said)
        version = player.version
        with trio.fail_after(PATIENCE_S):
            while player.version < version + 3:
                assert player.state == "live"
                await player.wait_poll()
        assert node.statistics().connections_failed == 0


async def test_mutated_frames_are_survived() -> None:
    """A good handshake with some bytes turned, from one seed."""
    chance = random.Random(11)
    limits = LimitSettings(handshake_deadline_s=0.2, accepts_per_s=10_000)
    good = encode(Hello(name="mallory")) + encode(Ping(nonce=1, sent_ns=2)) * 2
    async with (
        open_node(lively(), limits=limits) as node,
        open_client(node.addresses[0], arena(), wait_s=PATIENCE_S, reconnect=False) as player,
    ):

        async def attack(data: bytes) -> None:
            stranger = await Stranger.connect(node.addresses[0])
            await stranger.send(data)
            with trio.move_on_after(chance.uniform(0.0, 0.2)):
                await stranger.receive_until_closed()
            if chance.random() < 0.5:
                await stranger.reset()
            await stranger.stream.aclose()

        for _ in range(20):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    data = bytearray(good)
                    for _ in range(chance.randrange(1, 6)):
                        data[chance.randrange(len(data))] = chance.randrange(256)
                    nursery.start_soon(attack, bytes(data[: chance.randrange(1, len(data) + 1)]))

        await wait_until(lambda: node.statistics().connections == 1)
        version = player.version
        with trio.fail_after(PATIENCE_S):
            while player.version <= version:
                await player.wait_poll()
        assert player.state == "live"
        assert node.statistics().connections_failed == 0


async def test_a_stranger_who_says_nothing_is_cut_after_the_deadline() -> None:
    limits = LimitSettings(handshake_deadline_s=0.1)
    async with open_node(lively(), limits=limits) as node:
        silent = await Stranger.connect(node.addresses[0])
        drip = await Stranger.connect(node.addresses[0])
        await drip.send(encode(Hello())[:20])

        for stranger in (silent, drip):
            said = await stranger.receive_until_closed()
            assert [type(message) for message in said] == [Error, Goodbye]
            assert said[-1].reason == Reason.TIMEOUT
            await stranger.stream.aclose()

        await wait_until(lambda: node.statistics().connections == 0)
        assert node.statistics().handshakes_failed == 2


async def test_a_flood_of_half_open_links_pushes_itself_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit the oldest goes: a flood ends itself, and an honest handshake takes one round trip."""
    monkeypatch.setattr(connections, "HANDSHAKES_AT_ONCE_MAX", 4)
    async with open_node(lively(), limits=LimitSettings(handshake_deadline_s=600)) as node:
        strangers = [await Stranger.connect(node.addresses[0]) for _ in range(12)]
        await wait_until(lambda: node.statistics().accepted == 12)

        assert node.statistics().handshakes <= 4
        async with open_client(node.addresses[0], arena(), wait_s=PATIENCE_S, reconnect=False) as client:
            assert client.state == "live"

        for stranger in strangers:
            await stranger.stream.aclose()
        await wait_until(lambda: node.statistics().connections == 0)


async def test_a_client_that_is_killed_leaves_the_world() -> None:
    program = """if True:
        import sys, time, ecsnet
        client = ecsnet.connect(sys.argv[1], wait_s=60)
        print(client.entity, flush=True)
        time.sleep(60)
    """
    async with open_node(lively()) as node:
        client = subprocess.Popen([sys.executable, "-c", program, node.addresses[0]], stdout=subprocess.PIPE, text=True)
        try:
            with trio.fail_after(PATIENCE_S):
                entity = int(await trio.to_thread.run_sync(client.stdout.readline))
            with node.store.view() as view:
                assert entity in view
        finally:
            client.kill()
            client.communicate()

        await wait_until(lambda: node.statistics().authority.leaves == 1)
        with node.store.view() as view:
            assert entity not in view
        assert node.statistics().connections == 0


async def test_a_node_without_free_descriptors_goes_on_accepting_when_there_are_some(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    accept = socket.socket.accept
    failures = [errno.EMFILE, errno.ECONNABORTED, errno.EMFILE]

    def failing(listener: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            raise OSError(failures.pop(), "no luck")
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", failing)
    async with (
        open_node(lively()) as node,
        open_client(node.addresses[0], arena(), wait_s=PATIENCE_S, reconnect=False) as client,
    ):
        assert client.state == "live"
        assert not failures
        assert "ulimit" in caplog.text


# --- slow and dead clients --------------------------------------------------------------------------------------------


async def test_clients_that_do_not_take_what_they_are_sent_are_said_goodbye_to_and_disturb_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One stops reading: its buffers fill, a frame goes out in part, deltas are coalesced. Another reads and never
    acks. A third plays on."""
    # The default of five seconds is right for a game and long for a test.
    for module in ("link", "window"):
        monkeypatch.setattr(f"ecsnet.authority.{module}.BLOCKED_NS_MAX", NS_PER_S)
    world = arena(hz=HZ)
    store = crowded(world, 5_000)
    async with open_node(world, store=store) as node:
        full = await connect_polled(node.addresses[0], arena(), name="reads nothing")
        mute = await connect_polled(node.addresses[0], arena(), name="acks nothing")
        async with open_client(node.addresses[0], arena(), name="plays", wait_s=PATIENCE_S, reconnect=False) as player:
            applied = player.statistics().versions_applied
            with trio.fail_after(PATIENCE_S):
                while mute._replica.state == "live" or node.statistics().connections > 1:
                    mute._link.receive()
                    await player.wait_poll()
                    assert player.state == "live"
            assert player.statistics().versions_applied > applied + HZ, (
                "a second's worth, while the others were waited for"
            )

        statistics = node.statistics()
        assert statistics.authority.links_too_slow == 2
        assert statistics.sends_partial >= 1
        assert statistics.connections_failed == 0

    mute.poll()
    assert "slow" in mute.reason
    mute.close()

    # The goodbye had no room behind half a frame. What came before is whole, and in order.
    version = full.version
    poll_until(full, lambda: full.state == "closed")
    assert full.version > version
    assert "without a goodbye" in full.reason
    full.close()
    store.close()


async def test_frames_that_go_out_in_part_are_finished_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a link with room for a fraction of a frame every frame still arrives whole, and the client keeps up."""
    monkeypatch.setattr(in_process, "BUFFER_BYTES", 4096)
    world = arena(hz=HZ)
    store = crowded(world, 2_000)
    async with open_node(world, store=store) as node:
        async with open_client(node, arena(), wait_s=PATIENCE_S, reconnect=False) as client:
            version = client.version
            with trio.fail_after(PATIENCE_S):
                while client.version < version + 20 or client.statistics().digests_verified < 2:
                    await client.wait_poll()
            assert client.state == "live", client.reason
        assert node.statistics().sends_partial >= 20
        assert node.statistics().connections_failed == 0
    store.close()


async def test_a_kicked_client_is_told_the_reason() -> None:
    async with (
        open_node(lively()) as node,
        open_client(node.addresses[0], arena(), wait_s=PATIENCE_S, reconnect=False) as client,
    ):
        (link,) = node.authority.links
        node.authority.kick(link, "no cheating", 0)

        await _wait_closed(client)

        assert "no cheating" in client.reason
        assert client.view.version > 0, "the last version stays readable"
        await wait_until(lambda: node.statistics().connections == 0)


# --- the node's own end -----------------------------------------------------------------------------------------------


async def test_every_client_is_told_goodbye_when_the_node_stops() -> None:
    """Live ones, one in the middle of its handshake, and one that never said anything."""
    async with trio.open_nursery() as nursery:
        reasons: list[str] = []

        async def play(url: str) -> None:
            async with open_client(url, arena(), wait_s=PATIENCE_S, reconnect=False) as client:
                joined.append(client.name)
                with trio.fail_after(PATIENCE_S):
                    while client.state == "live":
                        events = await client.wait_poll()
                assert any(isinstance(event, StateChanged) and event.new == "closed" for event in events)
                reasons.append(client.reason)

        joined: list[str] = []
        async with open_node(lively()) as node:
            for _ in range(10):
                nursery.start_soon(play, node.addresses[0])
            stranger = await Stranger.connect(node.addresses[0])
            await wait_until(lambda: len(joined) == 10)
            node.stop("closing time")
            await node.wait_stopped()

        said = await stranger.receive_until_closed()
        await stranger.stream.aclose()
        await wait_until(lambda: len(reasons) == 10)

    assert all("closing time" in reason for reason in reasons)
    assert [type(message) for message in said] == [Goodbye]


async def test_a_node_that_is_cancelled_says_goodbye_too() -> None:
    node = AuthoritativeNode(lively(), listen="tcp://127.0.0.1:0")

    async def run(task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as inner:
                await inner.start(node.run)
                task_status.started(scope)

    async with trio.open_nursery() as nursery:
        scope = await nursery.start(run)
        async with open_client(node.addresses[0], arena(), wait_s=PATIENCE_S, reconnect=False) as client:
            scope.cancel()
            await _wait_closed(client)

    assert "the node shuts down" in client.reason


async def test_a_system_that_raises_ends_a_node_in_which_it_may_and_clients_are_told() -> None:
    """`on_error="raise"`: the caller gets the game's own exception, not a group."""
    world = lively()
    lit = []

    @world.system
    def explode(tx: Transaction) -> None:
        if lit:
            raise ZeroDivisionError("a bug in the game")

    async def serve(task_status: trio.TaskStatus[str]) -> None:
        with pytest.raises(ZeroDivisionError, match="a bug in the game"):
            async with open_node(world) as node:
                task_status.started(node.addresses[0])
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        url = await nursery.start(serve)
        async with open_client(url, arena(), wait_s=PATIENCE_S, reconnect=False) as client:
            lit.append(True)
            await _wait_closed(client)

    assert "the node failed" in client.reason


async def test_a_system_that_raises_is_survived_where_errors_are_logged() -> None:
    world = lively(on_error="log")

    @world.system
    def explode(tx: Transaction) -> None:
        raise ZeroDivisionError("a bug in the game")

    async with open_node(world) as node, open_client(node.addresses[0], wait_s=PATIENCE_S, reconnect=False) as client:
        await wait_until(lambda: node.statistics().authority.systems_failed >= 3)
        assert client.state == "live"


async def test_a_tick_that_finds_another_writer_waits_for_the_next_one() -> None:
    """Transactions from elsewhere belong into the gap between ticks; one that overstays costs ticks, not the node."""
    async with (
        open_node(lively()) as node,
        open_client(node.addresses[0], arena(), wait_s=PATIENCE_S, reconnect=False) as client,
    ):
        with node.store.transaction() as tx:
            tx.spawn(health={"hp": 7})
            await wait_until(lambda: node.statistics().ticks_busy >= 2)
        assert client.state == "live"

        with trio.fail_after(PATIENCE_S):
            while 7 not in client.view["health.hp"]:
                await client.wait_poll()


async def test_a_node_that_is_cut_waits_for_nobody() -> None:
    """What a second Ctrl-C does: this stranger never hangs up by itself."""
    async with open_node(lively()) as node:
        stranger = await Stranger.connect(node.addresses[0])
        await wait_until(lambda: node.statistics().connections == 1)

        node.cut()
        with trio.fail_after(PATIENCE_S):
            await node.wait_stopped()

        assert node.statistics().connections == 0
        await stranger.stream.aclose()


async def test_a_node_is_stopped_from_another_thread() -> None:
    async with open_node(lively()) as node:
        threading.Thread(target=node.stop).start()
        with trio.fail_after(PATIENCE_S):
            await node.wait_stopped()

        with pytest.raises(ClosedError):
            node.connect_in_process()
