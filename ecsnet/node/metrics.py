"""Figures of a node for Prometheus, over HTTP: `GET /metrics`, and `GET /health` for whoever restarts nodes. The extra
`metrics`.

It is asked some times a minute by a friend, and perhaps by others: so it is small, bounded in all that a stranger can
make it hold, and apart from the node that it tells of.

Invariants:
- whatever goes wrong here is logged and tried again; it never ends the node, and never delays a tick by more than
  `gather` takes: text is made on another thread, a slow reader is waited for in a task of its own;
- at most `METRICS_READERS_MAX` are served at once, each for `METRICS_READER_S` at most and by a request of at most
  `METRICS_REQUEST_BYTES_MAX`; more are hung up on;
- nothing that a player says is in a label: sessions are numbers, tables are the schema's.
"""

import errno
import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

import trio

from ecsnet.errors import ArgumentError, MissingExtraError
from ecsnet.limits import (
    METRICS_CLIENTS_NAMED,
    METRICS_READER_S,
    METRICS_READERS_MAX,
    METRICS_REQUEST_BYTES_MAX,
    NS_PER_S,
)
from ecsnet.node.figures import Figures
from ecsnet.node.tcp import listen, parse_url

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["Metrics", "metrics_url"]

log = logging.getLogger("ecsnet.node")

PORT_DEFAULT: Final = 9464
"""What Prometheus' list of ports has for programs that export themselves."""

_AGAIN_S: Final = 1.0

_OF_NOW: Final = frozenset(
    {
        "connections", "handshakes", "tick", "version", "staleness", "epoch", "links", "sessions", "away", "durable",
        "written", "horizon", "queued_bytes", "segments", "wal_bytes", "since_snapshot_bytes", "snapshot_bytes",
    }
)  # fmt: skip
"""Numbers of statistics that are of now. All others are counts since the start."""

_MEMORY: Final = {"bytes_allocated": "store", "change_bytes": "changes", "history_bytes": "history"}
"""Fields of a store's statistics that are bytes, and what they are called. The first has the others within it."""


def metrics_url(address: str) -> str:
    """The URL to listen on for `host:port`, where either may be left out.

    Raises:
        ArgumentError: it is no address.
    """
    if "://" in address:
        raise ArgumentError(f"metrics is {address!r}; it is a host and a port, as in 127.0.0.1:{PORT_DEFAULT}")
    host, colon, port = address.rpartition(":")
    url = f"tcp://{host or '127.0.0.1'}:{port}" if colon and "]" not in port else f"tcp://{address}:{PORT_DEFAULT}"
    parse_url(url)
    return url


class Metrics:
    """Serves the figures that `gather` gives; it is called on Trio's thread.

    Raises:
        MissingExtraError: prometheus-client is not installed. ArgumentError: `address` is none.
        ListenError: it cannot be listened on. Nothing was started.
    """

    def __init__(self, address: str, gather: Callable[[], Figures]) -> None:
        try:
            import prometheus_client  # noqa: F401  (is it there?)
        except ImportError:
            raise MissingExtraError("metrics", "prometheus-client", "metrics") from None
        self._gather = gather
        self._readers = 0
        self._listeners = listen(metrics_url(address))
        where = self._listeners[0].getsockname()
        host = f"[{where[0]}]" if ":" in where[0] else where[0]
        self.url = f"http://{host}:{where[1]}/metrics"
        """Where it can be read."""

    async def run(self) -> None:
        """Serve until cancelled. Raises nothing else."""
        async with trio.open_nursery() as nursery:
            for listener in self._listeners:
                nursery.start_soon(self._accept_for_ever, listener)

    def close(self) -> None:
        """Listen no more. Idempotent; `run` has ended."""
        for listener in self._listeners:
            listener.close()

    async def _accept_for_ever(self, listener: socket.socket) -> None:
        while True:
            try:
                async with trio.open_nursery() as readers:
                    while True:
                        await trio.lowlevel.wait_readable(listener)
                        self._accept(listener, readers)
            except Exception:  # the last line: a bug in here must not cost the node
                log.exception("serving metrics failed; trying again in %g s", _AGAIN_S)
                await trio.sleep(_AGAIN_S)

    def _accept(self, listener: socket.socket, readers: trio.Nursery) -> None:
        try:
            accepted, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in (errno.ECONNABORTED, errno.EPROTO, errno.EPERM):
                return
            raise
        if self._readers >= METRICS_READERS_MAX:
            accepted.close()
            return
        accepted.setblocking(False)
        self._readers += 1
        readers.start_soon(self._serve, trio.SocketStream(trio.socket.from_stdlib_socket(accepted)))

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            with trio.move_on_after(METRICS_READER_S):
                answer = await self._answer(await _request_untrusted(stream))
                await stream.send_all(answer)
                await stream.send_eof()
                # Closed with something unread, the answer would be lost with it.
                await stream.receive_some(METRICS_REQUEST_BYTES_MAX)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        except Exception:  # who reads the metrics must not cost the node, either
            log.exception("an answer to who reads the metrics failed")
        finally:
            self._readers -= 1
            await trio.aclose_forcefully(stream)

    async def _answer(self, request: bytes) -> bytes:
        method, _, rest = request.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return _response("405 Method Not Allowed", b"GET and nothing else\n")
        if path == b"/health":
            return _response("200 OK", b"ok\n", whole=method == b"GET")
        if path not in (b"/metrics", b"/"):
            return _response("404 Not Found", b"/metrics and /health\n")
        figures = self._gather()
        text = await trio.to_thread.run_sync(render, figures)
        return _response("200 OK", text, whole=method == b"GET", kind="text/plain; version=0.0.4; charset=utf-8")


async def _request_untrusted(stream: trio.SocketStream) -> bytes:
    """The first line of a request, once all of its head is there; empty where it is none."""
    head = b""
    while b"\r\n\r\n" not in head and b"\n\n" not in head:
        if len(head) > METRICS_REQUEST_BYTES_MAX:
            return b""
        more = await stream.receive_some(METRICS_REQUEST_BYTES_MAX)
        if not more:
            return b""
        head += more
    return head.partition(b"\n")[0].rstrip(b"\r")


def _response(status: str, body: bytes, *, whole: bool = True, kind: str = "text/plain; charset=utf-8") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + (body if whole else b"")


def render(figures: Figures) -> bytes:
    """Figures in the text format of Prometheus. On any thread."""
    from prometheus_client import CollectorRegistry, generate_latest

    class Collector:
        def collect(self) -> "Iterator[Metric]":
            return _families(figures)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector())
    text: bytes = generate_latest(registry)
    return text


def _families(figures: Figures) -> "Iterator[Metric]":
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    def gauge(name: str, doc: str, values: dict[str, float], label: str) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"ecsnet_{name}", doc, labels=[label])
        for key, value in values.items():
            family.add_metric([key], value)
        return family

    def histogram(
        name: str, doc: str, buckets: list[tuple[float, int]], total: int, unit: int
    ) -> HistogramMetricFamily:
        bounds = [("+Inf" if bound == float("inf") else f"{bound / unit:g}", count) for bound, count in buckets]
        return HistogramMetricFamily(f"ecsnet_{name}", doc, buckets=bounds, sum_value=total / unit)

    def numbers(prefix: str, statistics: Any, source: str) -> "Iterator[Metric]":
        for field in fields(statistics):
            value = getattr(statistics, field.name)
            if type(value) is not int:
                continue
            name, doc = f"ecsnet_{prefix}{field.name}", f"{field.name} of {source}"
            if field.name in _OF_NOW:
                yield GaugeMetricFamily(name, doc, value=value)
            else:
                yield CounterMetricFamily(name, doc, value=value)

    node, store, disk = figures.node, figures.store, figures.disk
    yield from numbers("node_", node, "NodeStatistics")
    yield from numbers("", node.authority, "AuthorityStatistics")
    yield histogram(
        "tick_seconds",
        "How long ticks took, from the input to the output.",
        figures.tick_ns,
        figures.tick_total_ns,
        NS_PER_S,
    )
    yield histogram(
        "client_lag_seconds", "Of each client now: from handing over the newest version that it acked to its ack.",
        figures.lag_ns, figures.lag_total_ns, NS_PER_S,
    )  # fmt: skip
    yield histogram(
        "client_versions_behind", "Of each client now: versions that it has not acked.",
        figures.behind, figures.behind_total, 1,
    )  # fmt: skip
    slowest = figures.slowest
    yield gauge(
        "slowest_client_lag_seconds", f"The lag of the {METRICS_CLIENTS_NAMED} that are furthest behind, by session.",
        {f"{one.session:016x}": one.lag_s for one in slowest}, "session",
    )  # fmt: skip
    yield gauge(
        "slowest_client_versions_behind", "Of the same: versions that they have not acked.",
        {f"{one.session:016x}": one.versions_behind for one in slowest}, "session",
    )  # fmt: skip
    yield gauge(
        "queue_bytes", "Bytes that wait: sent and not acked, control frames, event rows for the slow, the log.",
        {
            "unacked": figures.unacked_bytes, "control": figures.queued_bytes, "events": figures.event_bytes,
            "log": 0 if disk is None else disk.queued_bytes,
        },
        "of",
    )  # fmt: skip
    yield GaugeMetricFamily(
        "ecsnet_commands_waiting", "Commands that wait for the next tick.", figures.commands_waiting
    )
    yield gauge("delta_bytes", "Bytes of each table in the newest ordinary delta.", dict(figures.delta_bytes), "table")
    encoded = CounterMetricFamily(
        "ecsnet_encoded_bytes",
        "Bytes encoded for clients, before compression, each block once; without a field what names rows.",
        labels=["table", "field"],
    )
    for name, length in node.authority.bytes_by_field.items():
        table, _, field = name.partition(".")
        encoded.add_metric([table, field], length)
    yield encoded
    yield gauge(
        "memory_bytes", "Memory of the store: all that its kernel has, and within that changes and history.",
        {kind: getattr(store, name) for name, kind in _MEMORY.items()}, "kind",
    )  # fmt: skip
    yield gauge(
        "store", "Numbers of the store, see Statistics.",
        {
            field.name: getattr(store, field.name)
            for field in fields(store)
            if field.name not in _MEMORY and type(getattr(store, field.name)) is int
        },
        "of",
    )  # fmt: skip
    if disk is not None:
        yield from numbers("disk_", disk, "DiskStatistics")
        yield GaugeMetricFamily(
            "ecsnet_disk_window_versions",
            "Versions that are committed and not on the disk yet.",
            store.version - disk.durable,
        )
