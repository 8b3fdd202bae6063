"""How the tools reach a running node: requests in lines of JSON over the socket `control` in its data directory
(`ecsnet.data.control` has the words).

What is asked for runs on a thread of its own, beside the ticks; what it says of its progress goes back as it comes.

Invariants:
- the socket is the node's user's alone, and gone when the node is;
- a request never ends the node: what it got wrong is its answer. Without a socket the node runs as well, and says so.
"""

import logging
import os
import socket as sockets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import trio

from ecsnet.data.control import LINE_BYTES_MAX, address_of, decode, encode, failure
from ecsnet.data.directory import CONTROL
from ecsnet.data.findings import Progress
from ecsnet.data.operations import snapshot_json
from ecsnet.errors import ArgumentError, EcsnetError
from ecsnet.node.waiting import unwrapping
from ecsnet.store import Store

log = logging.getLogger("ecsnet.node")

_REQUEST_S: Final = 5.0
_AT_ONCE: Final = 4
_TELL_EVERY_S: Final = 0.1


class Control:
    """Answers the tools for one store on a disk. `clients` is asked on Trio's thread."""

    def __init__(self, directory: str | os.PathLike[str], store: Store, clients: Callable[[], int]) -> None:
        self._directory = Path(directory)
        self._store = store
        self._clients = clients
        self._limiter = trio.CapacityLimiter(_AT_ONCE)

    async def run(self) -> None:
        """Answer until cancelled."""
        listener = await self._listen()
        if listener is None:
            return
        with listener:
            try:
                async with trio.open_nursery() as nursery:
                    while True:
                        connection, _ = await listener.accept()
                        nursery.start_soon(self._serve, trio.SocketStream(connection))
            finally:
                (self._directory / CONTROL).unlink(missing_ok=True)

    async def _listen(self) -> trio.socket.SocketType | None:
        family = getattr(sockets, "AF_UNIX", None)
        if family is None:
            return None
        listener = trio.socket.socket(family, sockets.SOCK_STREAM)
        try:
            # Whoever made one before is gone: the directory is locked by this process.
            (self._directory / CONTROL).unlink(missing_ok=True)
            with address_of(self._directory) as address:
                await listener.bind(address)
            (self._directory / CONTROL).chmod(0o600)
            listener.listen(_AT_ONCE)
        except OSError as error:
            listener.close()
            log.warning("%s: tools cannot reach this node: %s", self._directory / CONTROL, error.strerror or error)
            return None
        return listener

    async def _serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            try:
                answer: dict[str, Any] = {"done": await self._answer(await _request(stream), stream)}
            except EcsnetError as error:
                answer = failure(error)
            except trio.BrokenResourceError:
                return
            except Exception as error:  # a bug in what was asked for is no reason to end the world
                log.exception("a request of the tools failed")
                answer = {
                    "error": {"kind": "InternalError", "message": f"the node failed at it: {error!r}; see its log"}
                }
            try:
                await stream.send_all(encode(answer))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    async def _answer(self, request: dict[str, Any], stream: trio.SocketStream) -> dict[str, Any]:
        what = request.get("do")
        store = self._store
        if what == "status":
            clients = self._clients()
            return await self._in_thread(lambda _: {**_status(store), "clients": clients}, stream)
        if what == "snapshot":
            return await self._in_thread(lambda tell: _snapshot(store, tell), stream)
        if what == "point":
            name = str(request.get("name"))
            return await self._in_thread(lambda _: {"version": int(store.restore_point(name))}, stream)
        if what == "backup":
            path, archive, replay = str(request.get("path")), request.get("archive"), request.get("replay")
            return await self._in_thread(lambda tell: _backup(store, path, archive, replay, tell), stream)
        raise ArgumentError(f"a node is asked for status, snapshot, backup or point, found {what!r}")

    async def _in_thread(self, run: Callable[[Progress], dict[str, Any]], stream: trio.SocketStream) -> dict[str, Any]:
        """Run beside the ticks; progress is told while it runs, the newest of what there is to tell."""
        send, receive = trio.open_memory_channel[tuple[str, int, int]](1)
        told_s = 0.0

        def tell(doing: str, done: int, total: int) -> None:
            nonlocal told_s
            now_s = time.monotonic()
            if now_s - told_s >= _TELL_EVERY_S:
                told_s = now_s
                trio.from_thread.run_sync(_offer, send, (doing, done, total))

        async def forward() -> None:
            async for one in receive:
                try:
                    await stream.send_all(encode({"progress": one}))
                except trio.BrokenResourceError:
                    # The tool is gone; what it asked for is done nevertheless.
                    return

        # An error of the work is raised by itself, not as one of a nursery's.
        with unwrapping():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(forward)
                async with send:
                    found = await trio.to_thread.run_sync(run, tell, abandon_on_cancel=True, limiter=self._limiter)
        return found


def _offer(send: "trio.MemorySendChannel[tuple[str, int, int]]", one: tuple[str, int, int]) -> None:
    try:
        send.send_nowait(one)
    except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def _request(stream: trio.SocketStream) -> dict[str, Any]:
    held = b""
    with trio.move_on_after(_REQUEST_S):
        while b"\n" not in held and len(held) <= LINE_BYTES_MAX:
            received = await stream.receive_some(LINE_BYTES_MAX)
            if not received:
                break
            held += received
    line, newline, _ = held.partition(b"\n")
    if not newline:
        raise ArgumentError("expected a request in one line of JSON")
    try:
        return decode(line)
    except ValueError as error:
        raise ArgumentError(f"expected a request in one line of JSON: {error}") from None


def _status(store: Store) -> dict[str, Any]:
    with store.view() as view:
        version, tick, digest = int(view.version), int(view.tick), view.digest()
    return {
        "pid": os.getpid(),
        "epoch": store.epoch,
        "version": version,
        "durable": int(store.durable_version),
        "tick": tick,
        "digest": digest,
        "digest_version": version,
    }


def _snapshot(store: Store, tell: Progress) -> dict[str, Any]:
    info = store.snapshot(lambda done, total: tell("snapshot", done, total))
    return snapshot_json(info, store.epoch)


def _backup(store: Store, path: str, archive: object, replay: object, tell: Progress) -> dict[str, Any]:
    if not Path(path).is_absolute():
        raise ArgumentError(f"a node copies to an absolute path, found {path!r}")
    made: dict[str, Any] = store.backup(
        path, lambda done, total: tell("backup", done, total), archive=archive is not False, replay=replay is not False
    ).as_json()
    return made
