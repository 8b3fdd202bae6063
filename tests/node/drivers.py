"""What the tests of the drivers share: waiting for a condition, a client that can stop reading, a raw stranger."""

import socket
import time
from collections.abc import Callable

import numpy as np
import trio

import ecsnet
from ecsnet.embed import Client
from ecsnet.errors import RemoteProtocolError
from ecsnet.limits import MESSAGE_TO_CLIENT_BYTES_MAX
from ecsnet.node.tcp import parse_url
from ecsnet.store import Store, Transaction
from ecsnet.wire.codec import decode_untrusted, encode
from ecsnet.wire.framing import FrameReader
from ecsnet.wire.messages import Ack, Command, DeltaSync, Hello, Message, SyncChunk
from ecsnet.world import World
from tests.arena import arena

PATIENCE_S = 60.0
"""How long a test waits for what must happen. It says nothing about how fast that is."""


HZ = 60

# What a fresh connection may send. The first two end a process that hands them to pycapnp's packed reader.
HOSTILE = {
    "eight packed bytes": bytes.fromhex("11010103e8030000"),
    "a packed bomb": bytes.fromhex("00ff" * 12),
    "a frame of 4 GiB": b"\xff\xff\xff\xff\x01\x00\x01\x00",
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tls": bytes.fromhex("16030100a5010000a10303") + bytes(160),
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
    "an ack before hello": encode(Ack(session=1, epoch=1, version=1)),
    "a command before hello": encode(Command(session=1, sequence=1, tick=1, command=0, arguments=b"")),
    "a delta from a client": encode(DeltaSync(session=1, epoch=1, base=0, version=1, tick=1, block=b"\xff" * 64)),
    "a chunk from a client": encode(SyncChunk(session=1, epoch=1, sequence=0, base=0, version=1, block=b"\0" * 64)),
    "the packed bytes as a hello": b"\x08\0\0\0\x01\0\x01\0" + bytes.fromhex("11010103e8030000"),
    "the bomb as a hello": b"\x18\0\0\0\x01\0\x01\0" + bytes.fromhex("00ff" * 12),
    "two hellos": encode(Hello()) * 2,
}


def lively(*, on_error: str = "raise") -> World:
    """The arena with a body that never rests, so that each tick makes a version."""
    world = arena(hz=HZ, on_error=on_error)

    @world.system
    def wander(tx: Transaction) -> None:
        if tx.tick == 1:
            tx.spawn(transform={}, velocity={"x": 1.0})

    return world


def crowded(world: World, bodies: int) -> Store:
    """A store for `world` in which so many bodies move, each at its own pace: every tick changes two cells of each."""
    chance = np.random.default_rng(3)
    store = Store(world.schema)
    with store.transaction() as tx:
        tx.spawn_many(
            bodies,
            transform={"x": chance.normal(size=bodies), "y": chance.normal(size=bodies)},
            velocity={"x": chance.normal(size=bodies), "y": chance.normal(size=bodies)},
        )
    return store


async def wait_until(condition: Callable[[], object]) -> None:
    """Let the node run until `condition` holds."""
    with trio.fail_after(PATIENCE_S):
        while not condition():
            await trio.sleep(0.005)


def poll_until(client: Client, condition: Callable[[], object]) -> list[object]:
    """A game's loop, until `condition` holds; the events it saw."""
    deadline = time.monotonic() + PATIENCE_S
    events: list[object] = []
    while not condition():
        assert time.monotonic() < deadline, "the test has waited long enough"
        events += client.poll()
        time.sleep(0.002)
    return events


async def connect_polled(url: str, world: World | None = None, *, name: str = "") -> Client:
    """A client that reads when it is polled, and only then."""
    return await trio.to_thread.run_sync(
        lambda: ecsnet.connect(url, world, name=name, threaded=False, wait_s=PATIENCE_S, reconnect=False)
    )


class Stranger:
    """A TCP connection to a node that sends whatever it likes."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.reader = FrameReader(MESSAGE_TO_CLIENT_BYTES_MAX)

    @classmethod
    async def connect(cls, url: str) -> "Stranger":
        address = parse_url(url)
        return cls(await trio.open_tcp_stream(address.host, address.port))

    async def send(self, data: bytes) -> None:
        """What the node has hung up on is not sent, which is no fault of the test."""
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def receive_until_closed(self) -> list[Message]:
        """Everything that the node says before it hangs up."""
        with trio.fail_after(PATIENCE_S):
            while True:
                try:
                    data = await self.stream.receive_some(65536)
                except trio.BrokenResourceError:
                    break
                if not data:
                    break
                self.reader.feed(data)
        messages = []
        while (frame := self.reader.next_frame()) is not None:
            messages.append(decode_untrusted(frame.kind, frame.payload))
        if self.reader.buffered_bytes:
            raise RemoteProtocolError("the node hung up in the middle of a frame")
        return messages

    async def reset(self) -> None:
        """Vanish without a word, as a process that is killed with unread data does."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await self.stream.aclose()
