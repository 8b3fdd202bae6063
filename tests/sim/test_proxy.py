"""A proxy changes when bytes arrive, and nothing else."""

import json
import math
import random
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

import ecsnet
from ecsnet.demo.arena import world
from ecsnet.errors import ArgumentError, ListenError, NotBuiltError
from ecsnet.node import AuthoritativeNode
from ecsnet.sim.link import StreamPath
from ecsnet.sim.profile import Direction, Profile, profile, profile_names
from ecsnet.sim.proxy import Proxy, Way

ROOT = Path(__file__).parent.parent.parent
ANYWHERE = "tcp://127.0.0.1:0"
QUICK = Profile(name="quick", down=Direction(latency_ms=2.0), up=Direction(latency_ms=1.0))
ROUGH = Profile(
    name="rough",
    down=Direction(latency_ms=3.0, jitter_ms=2.0, loss=0.02, reorder=0.05, reorder_ms=5.0, bandwidth_kbit_s=500_000.0),
    up=Direction(latency_ms=2.0, jitter_ms=2.0, burst_begins=0.02, burst_ends=0.5),
)

Serve = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def proxied(serve: Serve, line: Profile = QUICK, **options: int) -> AsyncIterator[Proxy]:
    """A proxy in front of a server, both until the end of the block."""

    async def serve_and_close(stream: trio.SocketStream) -> None:
        async with stream:
            await serve(stream)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve_and_close, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        proxy = Proxy(ANYWHERE, f"tcp://127.0.0.1:{port}", line, **options)  # type: ignore[arg-type]
        await nursery.start(proxy.run)
        yield proxy
        nursery.cancel_scope.cancel()


async def connect(proxy: Proxy) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", int(proxy.addresses[0].rpartition(":")[2]))


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([data async for data in stream])


async def settled(proxy: Proxy) -> None:
    """Until every connection is over and counted."""
    while proxy.statistics().open:
        await trio.sleep(0.005)


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)


# --- what comes through -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [QUICK, ROUGH, profile("perfect")], ids=lambda line: line.name)
async def test_bytes_come_back_whole_and_in_order(line: Profile) -> None:
    sent = random.Random(7).randbytes(400_000)
    async with proxied(echo, line) as proxy, await connect(proxy) as client:

        async def talk() -> None:
            for place in range(0, len(sent), 7001):
                await client.send_all(sent[place : place + 7001])
            await client.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk)
            assert await read_all(client) == sent
        await settled(proxy)
        statistics = proxy.statistics()

    assert statistics.up.bytes == statistics.down.bytes == len(sent)
    assert (statistics.connections, statistics.open, statistics.failed, statistics.reset) == (1, 0, 0, 0)


async def test_many_connections_do_not_mix() -> None:
    async def one(proxy: Proxy, number: int) -> None:
        async with await connect(proxy) as client:
            for turn in range(5):
                said = f"{number}/{turn}".encode()
                await client.send_all(said)
                heard = b""
                while len(heard) < len(said):
                    heard += await client.receive_some()
                assert heard == said
            done.append(number)

    done: list[int] = []
    async with proxied(echo, ROUGH) as proxy:
        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(one, proxy, number)
        await settled(proxy)
        assert sorted(done) == list(range(60))
        assert proxy.statistics().connections == 60


async def test_the_end_of_one_direction_is_carried_over_and_the_other_goes_on() -> None:
    async def hear_all_then_answer(stream: trio.SocketStream) -> None:
        heard = await read_all(stream)
        await stream.send_all(heard[::-1])

    async with proxied(hear_all_then_answer) as proxy, await connect(proxy) as client:
        await client.send_all(b"abc")
        await client.send_eof()
        assert await read_all(client) == b"cba"


async def test_a_server_that_says_its_piece_and_closes_is_heard_to_the_end() -> None:
    async def say(stream: trio.SocketStream) -> None:
        await stream.send_all(bytes(300_000))

    async with proxied(say, ROUGH) as proxy, await connect(proxy) as client:
        assert len(await read_all(client)) == 300_000


def reset(stream: trio.SocketStream) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


async def test_an_error_of_the_server_reaches_the_client_as_an_error() -> None:
    async def answer_then_break(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"last words")
        await trio.sleep(0.02)
        reset(stream)

    async with proxied(answer_then_break) as proxy, await connect(proxy) as client:
        await client.send_all(b"hello")
        with pytest.raises(trio.BrokenResourceError):
            await read_all(client)
        await settled(proxy)
        assert proxy.statistics().reset == 1


async def test_an_error_of_the_client_reaches_the_server_as_an_error() -> None:
    seen: list[str] = []

    async def listen(stream: trio.SocketStream) -> None:
        try:
            await read_all(stream)
            seen.append("an end")
        except trio.BrokenResourceError:
            seen.append("an error")

    async with proxied(listen) as proxy:
        client = await connect(proxy)
        await client.send_all(b"hello")
        while not proxy.statistics().up.bytes:
            await trio.sleep(0.001)
        reset(client)
        await settled(proxy)
        while not seen:
            await trio.sleep(0.001)

    assert seen == ["an error"]


async def test_a_server_that_is_not_there_is_told_to_the_client_and_to_us() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    notes: list[str] = []
    proxy = Proxy(ANYWHERE, f"tcp://127.0.0.1:{port}", QUICK, on_note=notes.append)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.run)
        async with await connect(proxy) as client:
            with pytest.raises(trio.BrokenResourceError):
                await client.receive_some()
        nursery.cancel_scope.cancel()

    assert proxy.statistics().failed == 1
    assert any("nobody listens there" in note for note in notes)


async def test_a_client_that_does_not_read_stops_the_server() -> None:
    written = 0

    async def flood(stream: trio.SocketStream) -> None:
        nonlocal written
        while True:
            await stream.send_all(bytes(16_384))
            written += 16_384

    async with proxied(flood) as proxy, await connect(proxy) as client:
        before = -1
        while written != before or not written:
            before = written
            await trio.sleep(0.3)
        # The buffers of four sockets, and what the path takes before it is read: not what it could carry meanwhile.
        assert written < 32 << 20

        heard = 0
        while heard < before:
            heard += len(await client.receive_some())
        assert written > before, "it goes on when somebody reads"


async def test_a_real_client_plays_on_a_real_node_behind_a_bad_line() -> None:
    node = AuthoritativeNode(world, listen=ANYWHERE)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        proxy = Proxy(ANYWHERE, node.addresses[0], ROUGH, seed=3)
        await nursery.start(proxy.run)

        async with ecsnet.open_client(proxy.addresses[0], world) as client:
            ticket = client.send("steer", dx=1.0, dy=0.0)
            while ticket.status == "pending":
                await client.wait_poll()
            assert ticket.status == "accepted"
            while client.view[client.entity, "velocity.x"] == 0:
                await client.wait_poll()
        nursery.cancel_scope.cancel()


# --- when it comes through: in virtual time ---------------------------------------------------------------------------


def way(**direction: float) -> Way:
    return Way(StreamPath(Direction(**direction), random.Random("7/up")))  # type: ignore[arg-type]


async def test_bytes_come_as_late_as_the_line_makes_them(autojump_clock: trio.testing.MockClock) -> None:
    here, source = trio.testing.memory_stream_pair()
    sink, there = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(way(latency_ms=250.0).carry, source, sink)
        for turn in range(5):
            began = trio.current_time()
            await here.send_all(str(turn).encode())
            assert await there.receive_some() == str(turn).encode()
            assert trio.current_time() - began == pytest.approx(0.25, abs=1e-6)
        began = trio.current_time()
        await here.send_eof()
        assert await there.receive_some() == b""
        assert trio.current_time() - began == pytest.approx(0.25, abs=1e-6)


async def test_equal_seeds_make_equal_lines(autojump_clock: trio.testing.MockClock) -> None:
    async def course() -> list[float]:
        here, source = trio.testing.memory_stream_pair()
        sink, there = trio.testing.memory_stream_pair()
        found = []
        async with trio.open_nursery() as nursery:
            carried = way(latency_ms=40.0, jitter_ms=30.0, loss=0.2)
            nursery.start_soon(carried.carry, source, sink)
            for _ in range(50):
                began = trio.current_time()
                await here.send_all(b"x")
                await there.receive_some()
                found.append(round(trio.current_time() - began, 6))
            await here.send_eof()
        return found

    first = await course()
    assert first == await course()
    assert len(set(first)) > 30 and max(first) > 0.2


async def test_the_bandwidth_holds(autojump_clock: trio.testing.MockClock) -> None:
    here, source = trio.testing.memory_stream_pair()
    sink, there = trio.testing.memory_stream_pair()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(way(bandwidth_kbit_s=8000.0).carry, source, sink)

        async def talk() -> None:
            for _ in range(100):
                await here.send_all(bytes(10_000))
            await here.send_eof()

        nursery.start_soon(talk)
        heard = await read_all(there)

    assert len(heard) == 1_000_000
    # A megabyte at a megabyte a second, and the headers of its segments.
    assert trio.current_time() - began == pytest.approx(1.03, abs=0.02)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["udp://localhost:1", "ws://localhost:1"])
def test_a_transport_that_is_planned_is_refused_by_name(url: str) -> None:
    with pytest.raises(NotBuiltError):
        Proxy(ANYWHERE, url, QUICK)
    with pytest.raises(NotBuiltError):
        Proxy(url, "tcp://localhost:1", QUICK)


def test_a_line_with_tls_is_one_of_bytes_and_says_so() -> None:
    with pytest.raises(ArgumentError, match="write tcp:// here, tls:// at its ends"):
        Proxy(ANYWHERE, "tls://localhost:1", QUICK)
    with pytest.raises(ArgumentError, match="write tcp:// here, tls:// at its ends"):
        Proxy("tls://localhost:1", "tcp://localhost:1", QUICK)


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ArgumentError, match="names no transport"):
        Proxy("localhost:7000", "tcp://localhost:1", QUICK)


def test_a_proxy_in_front_of_itself_is_refused() -> None:
    with pytest.raises(ArgumentError, match="in front of itself"):
        Proxy("tcp://127.0.0.1:7000", "tcp://127.0.0.1:7000", QUICK)


async def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        proxy = Proxy(f"tcp://127.0.0.1:{taken.getsockname()[1]}", "tcp://127.0.0.1:1", QUICK)
        with pytest.raises(ListenError, match="in use"):
            await proxy.run()


# --- the command ------------------------------------------------------------------------------------------------------


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "ecsnet", "proxy", *arguments]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--profile", "5gg", ANYWHERE, "tcp://localhost:1"], "did you mean '5g'"),
        (["--profile", "none.toml", ANYWHERE, "tcp://localhost:1"], "cannot read the profile"),
        (["--profile", "5g", ANYWHERE, "udp://localhost:1"], "not built"),
        (["--profile", "5g", "nowhere", "tcp://localhost:1"], "names no transport"),
    ],
)
def test_wrong_arguments_are_one_message(arguments: list[str], words: str) -> None:
    done = command(*arguments)

    assert done.returncode == 1
    assert words in done.stderr and "Traceback" not in done.stderr


def test_the_help_names_every_line() -> None:
    done = command("--help")

    assert done.returncode == 0
    for name in profile_names():
        assert re.search(rf"\b{name}\b", done.stdout), name


@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_says_where_it_listens_and_what_went_through(as_json: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        options = ["--json"] if as_json else []
        line = [sys.executable, "-u", "-m", "ecsnet", "proxy", "--profile", "lan", *options, ANYWHERE, target]
        process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        if as_json:
            listening = json.loads(process.stdout.readline())["listening"][0]
        else:
            listening = [process.stdout.readline() for _ in range(4)][1].split()[-1]
        with socket.create_connection(("127.0.0.1", int(listening.rpartition(":")[2])), timeout=30) as client:
            client.sendall(b"hello")
            accepted, _ = server.accept()
            with accepted:
                assert accepted.recv(100) == b"hello"
                accepted.sendall(b"hi")
                assert client.recv(100) == b"hi"
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=30)

    assert process.returncode == 0
    last = rest.splitlines()[-1]
    if as_json:
        told = json.loads(last)
        assert (told["connections"], told["up"]["bytes"], told["down"]["bytes"]) == (1, 5, 2)
        assert math.isfinite(told["up"]["delay_ms_max"])
    else:
        assert last.startswith("stopped: 1 connections") and "5 bytes" in last and "2 bytes" in last
