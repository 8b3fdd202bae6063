"""The peers of the replication benchmark: a server that broadcasts over plain TCP, and its clients.

Arguments of the server: "serve", "json" or "bare", N, hz, bytes of a frame. `json` sends every entity as an object,
`{"ts": …, "e": [{"id", "x", "y", "z"}, …]}`, as a first attempt at netcode does; `bare` sends as many bytes as ecsnet
sent, made once: what no server can do with less. Arguments of the clients: "probe" or "sinks", port, how many.

A frame is a u32 length and so many bytes. Who has not taken the last frame is not sent the next.
"""

import json
import selectors
import socket
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from struct import Struct

import numpy as np

from ecsnet.bench.workers import Counts, answer_marks
from ecsnet.limits import NS_PER_S
from ecsnet.node.tcp import tune

__all__ = ["json_name", "main"]

_LENGTH = Struct("<I")
_STAMP = Struct("<Q")
_RECEIVE_BYTES = 256 * 1024


def json_name() -> str:
    """Which JSON library the peer uses."""
    return "orjson" if find_spec("orjson") else "json"


def _encoder() -> Callable[[object], bytes]:
    if json_name() == "orjson":
        import orjson

        encode: Callable[[object], bytes] = orjson.dumps
        return encode
    return lambda message: json.dumps(message, separators=(",", ":")).encode()


class _Subscriber:
    """A connected client: its socket, and what of a frame it has not taken yet."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.rest: memoryview | None = None

    def send(self, frame: bytes | memoryview) -> bool:
        """Send what the socket takes; False if the client has gone."""
        data = memoryview(frame) if self.rest is None else self.rest
        try:
            taken = self.socket.send(data)
        except BlockingIOError:
            taken = 0
        except OSError:
            return False
        whole = taken == len(data)
        # A frame of which nothing went is not begun.
        self.rest = None if whole or (taken == 0 and self.rest is None) else data[taken:]
        return True


def serve(kind: str, n: int, hz: int, frame_bytes: int) -> None:
    """Move everything and send all of it to everybody, `hz` times a second."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    listener.setblocking(False)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    subscribers: dict[int, _Subscriber] = {}
    ticks = 0

    def counts() -> Counts:
        nonlocal ticks
        taken, ticks = ticks, 0
        return {"ticks": taken}

    def wait(seconds: float) -> None:
        for key, events in selector.select(max(0.0, seconds)):
            one: _Subscriber | None = key.data
            if one is None:
                connected, _ = listener.accept()
                tune(connected)
                subscribers[connected.fileno()] = one = _Subscriber(connected)
                selector.register(connected, selectors.EVENT_READ, one)
            elif events & selectors.EVENT_READ:
                drop(one)
            elif one.rest is not None:
                send(one, b"")

    def drop(one: _Subscriber) -> None:
        selector.unregister(one.socket)
        del subscribers[one.socket.fileno()]
        one.socket.close()

    def send(one: _Subscriber, frame: bytes) -> None:
        held_up = one.rest is not None
        if not one.send(frame):
            drop(one)
        elif (one.rest is not None) != held_up:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if one.rest is not None else 0)
            selector.modify(one.socket, events, one)

    make = _json_frames(n, hz) if kind == "json" else _bare_frames(frame_bytes)
    answer_marks({"port": listener.getsockname()[1]}, counts)
    due_ns = time.monotonic_ns()
    while True:
        due_ns += NS_PER_S // hz
        while (left_ns := due_ns - time.monotonic_ns()) > 0:
            wait(left_ns / NS_PER_S)
        # A tick that is missed is missed.
        due_ns = max(due_ns, time.monotonic_ns() - NS_PER_S // hz)
        frame = make(time.monotonic_ns())
        for one in list(subscribers.values()):
            if one.rest is None:
                send(one, frame)
        ticks += 1
        wait(0)


def _json_frames(n: int, hz: int) -> Callable[[int], bytes]:
    i = np.arange(n, dtype=np.float32)
    place = np.stack([i % 1000, i / 7, np.full(n, 5, np.float32)], 1).astype(np.float32)
    speed = np.stack([np.sin(i) + 2, np.cos(i) + 2, 0.1 + (i % 10) / 20], 1).astype(np.float32)
    encode = _encoder()

    def make(stamp_ns: int) -> bytes:
        nonlocal place
        place += speed * np.float32(1 / hz)
        rows = np.round(place.astype(np.float64), 2).tolist()
        message = {"ts": stamp_ns, "e": [{"id": k, "x": x, "y": y, "z": z} for k, (x, y, z) in enumerate(rows)]}
        body = encode(message)
        return _LENGTH.pack(len(body)) + body

    return make


def _bare_frames(frame_bytes: int) -> Callable[[int], bytes]:
    body_bytes = max(frame_bytes - _LENGTH.size, _STAMP.size)
    frame = bytearray(_LENGTH.pack(body_bytes) + bytes(body_bytes))

    def make(stamp_ns: int) -> bytes:
        _STAMP.pack_into(frame, _LENGTH.size, stamp_ns)
        return bytes(frame)

    return make


def _connect(port: int) -> socket.socket:
    connected = socket.create_connection(("127.0.0.1", port), timeout=5.0)
    connected.setblocking(False)
    return connected


def run_sinks(port: int, count: int) -> None:
    """Read and count."""
    selector = selectors.DefaultSelector()
    for _ in range(count):
        selector.register(_connect(port), selectors.EVENT_READ)
    buffer = memoryview(bytearray(_RECEIVE_BYTES))
    got = 0

    def counts() -> Counts:
        nonlocal got
        taken, got = got, 0
        return {"delta_bytes": taken}

    answer_marks({"joined": count}, counts)
    while True:
        for key, _ in selector.select():
            connected = key.fileobj
            assert isinstance(connected, socket.socket)
            size = connected.recv_into(buffer)
            if not size:
                raise ConnectionError("the server ended the connection")
            got += size


def run_probe(kind: str, port: int) -> None:
    """Decode everything, and take the lag of each frame."""
    connected = _connect(port)
    connected.setblocking(True)
    stream = connected.makefile("rb", _RECEIVE_BYTES)
    world: dict[int, tuple[float, float, float]] = {}
    if kind == "json" and json_name() == "orjson":
        import orjson

        decode: Callable[[bytes], dict[str, object]] = orjson.loads
    else:
        decode = json.loads
    lags: list[int] = []
    got = 0

    def counts() -> Counts:
        nonlocal lags, got
        taken, size = lags, got
        lags, got = [], 0
        return {"deltas": len(taken), "delta_bytes": size, "lags_ns": taken}

    answer_marks({"joined": 1}, counts)
    while True:
        (size,) = _LENGTH.unpack(stream.read(_LENGTH.size))
        body = stream.read(size)
        if kind == "json":
            message = decode(body)
            entities = message["e"]
            assert isinstance(entities, list)
            for one in entities:
                world[one["id"]] = (one["x"], one["y"], one["z"])
            stamp_ns = message["ts"]
            assert isinstance(stamp_ns, int)
        else:
            (stamp_ns,) = _STAMP.unpack_from(body)
        got += _LENGTH.size + size
        lags.append(time.monotonic_ns() - stamp_ns)


def main(role: str, kind: str, *numbers: int) -> None:
    """Serve or read until standard input ends."""
    if role == "serve":
        serve(kind, *numbers)
    elif role == "probe":
        run_probe(kind, numbers[0])
    else:
        run_sinks(*numbers)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
