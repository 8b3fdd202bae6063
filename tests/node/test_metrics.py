"""Figures for a monitoring system: they are there, they are right, and nobody who asks for them can harm the node."""

import json
import logging
import sys
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from ecsnet.errors import ArgumentError, ListenError, MissingExtraError
from ecsnet.limits import METRICS_CLIENTS_NAMED, METRICS_READERS_MAX, METRICS_REQUEST_BYTES_MAX
from ecsnet.node import AuthoritativeNode, metrics, open_client, open_node
from ecsnet.node.figures import Histogram
from ecsnet.node.json_log import JsonFormatter
from ecsnet.node.metrics import metrics_url, render
from tests.node.drivers import PATIENCE_S, lively, wait_until

ASK = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


async def ask(node: AuthoritativeNode, request: bytes = ASK) -> bytes:
    assert node.metrics_url is not None
    host, _, port = node.metrics_url.removeprefix("http://").partition("/")[0].rpartition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    found = b""
    with trio.fail_after(PATIENCE_S):
        async with stream:
            try:
                await stream.send_all(request)
                async for data in stream:
                    found += data
            except trio.BrokenResourceError:
                pass
    return found


def values(answer: bytes) -> dict[str, float]:
    """By name and labels, as Prometheus' own parser reads them."""
    head, _, text = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK"), head
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = "".join(f",{key}={value}" for key, value in sorted(sample.labels.items()))
            found[sample.name + labels] = sample.value
    return found


async def test_what_can_be_read_is_what_is(tmp_path: Path) -> None:
    world = lively()
    async with (
        open_node(world, metrics="127.0.0.1:0", data=tmp_path / "data") as node,
        open_client(node.addresses[0], world, name="ada") as first,
        open_client(node.addresses[0], world, name="bob"),
    ):
        await wait_until(lambda: first.poll() is not None and node.authority.links[0].acked > 0)
        await wait_until(lambda: node.statistics().ticks > 10)
        before = node.statistics()
        found = values(await ask(node))
        after = node.statistics()

    for name in ("version", "links", "sessions"):
        low, high = getattr(before.authority, name), getattr(after.authority, name)
        assert low <= found[f"ecsnet_{name}"] <= high
    assert before.authority.bytes_sent <= found["ecsnet_bytes_sent_total"] <= after.authority.bytes_sent
    assert before.ticks <= found["ecsnet_node_ticks_total"] <= after.ticks
    assert before.ticks <= found["ecsnet_tick_seconds_count"] <= after.ticks
    assert found["ecsnet_tick_seconds_bucket,le=+Inf"] == found["ecsnet_tick_seconds_count"]
    assert found["ecsnet_client_lag_seconds_count"] == found["ecsnet_client_versions_behind_count"] == 2
    assert sum("slowest_client_lag_seconds,session=" in name for name in found) == 2
    assert found["ecsnet_delta_bytes,table=transform"] > 0
    fields = {name for name in found if name.startswith("ecsnet_encoded_bytes_total,")}
    assert "ecsnet_encoded_bytes_total,field=x,table=transform" in fields
    assert "ecsnet_encoded_bytes_total,field=,table=transform" in fields, "the names of its rows"
    early, late = before.authority.bytes_by_field["transform.x"], after.authority.bytes_by_field["transform.x"]
    assert 0 < early <= found["ecsnet_encoded_bytes_total,field=x,table=transform"] <= late
    assert found["ecsnet_memory_bytes,kind=store"] >= found["ecsnet_memory_bytes,kind=changes"] > 0
    assert found["ecsnet_queue_bytes,of=log"] >= 0 and found["ecsnet_disk_window_versions"] >= 0
    assert found["ecsnet_disk_records_total"] > 0 and found["ecsnet_staleness"] >= 0


async def test_a_crowd_has_figures_of_its_slowest_alone() -> None:
    world = lively()
    async with open_node(world) as node, open_client(node.addresses[0], world), open_client(node.addresses[0], world):
        assert len(node.figures().slowest) == 2 <= METRICS_CLIENTS_NAMED
        [one] = node.figures(slowest=1).slowest
        assert one.session in {client.session for client in node.authority.clients}
        assert b"ecsnet_slowest" in render(node.figures(slowest=0))


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /health HTTP/1.0\n\n", b"200 OK"),
        (b"GET /metrics?x=1 HTTP/1.1\r\n\r\n", b"200 OK"),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", b"200 OK"),
        (b"GET /secrets HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"\0\xff" * 100 + b"\r\n\r\n", b"405"),
        (b"GET\r\n\r\n", b"404"),
        (b"x" * (METRICS_REQUEST_BYTES_MAX + 2), b"405"),
    ],
)
async def test_every_request_has_an_answer(request_bytes: bytes, status: bytes) -> None:
    async with open_node(lively(), metrics="127.0.0.1:0") as node:
        answer = await ask(node, request_bytes)
        assert answer.startswith(b"HTTP/1.1 " + status)
        if request_bytes.startswith(b"HEAD"):
            assert answer.endswith(b"\r\n\r\n")


async def test_readers_who_ask_for_nothing_are_few_and_have_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "METRICS_READER_S", 0.3)
    async with open_node(lively(), metrics="127.0.0.1:0") as node:
        assert node.metrics_url is not None
        port = int(node.metrics_url.rpartition(":")[2].partition("/")[0])
        silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(METRICS_READERS_MAX + 5)]
        with trio.fail_after(PATIENCE_S):
            for stream in silent:
                assert await stream.receive_some(100) == b""
                await stream.aclose()
        assert values(await ask(node))["ecsnet_node_ticks_total"] > 0


async def test_what_fails_in_here_costs_an_answer_and_not_the_node(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = lively()

    def broken(*_: object) -> bytes:
        raise ZeroDivisionError

    async with open_node(world, metrics="127.0.0.1:0") as node, open_client(node.addresses[0], world) as client:
        with monkeypatch.context() as patched:
            patched.setattr(metrics, "render", broken)
            assert await ask(node) == b""
        assert "ZeroDivisionError" in caplog.text
        caplog.clear()
        async with trio.open_nursery() as nursery:
            with monkeypatch.context() as patched:
                patched.setattr(node._metrics, "_accept", broken)
                nursery.start_soon(ask, node)
                await wait_until(lambda: "trying again" in caplog.text)
        before = client.version
        await wait_until(lambda: client.poll() is not None and client.version > before)
        assert b"200 OK" in await ask(node)


async def test_a_node_that_has_stopped_serves_none() -> None:
    async with open_node(lively(), metrics="127.0.0.1:0") as node:
        pass
    with pytest.raises(OSError, match="connect"):
        await ask(node)


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1:9464", "tcp://127.0.0.1:9464"),
        ("127.0.0.1", "tcp://127.0.0.1:9464"),
        (":9000", "tcp://127.0.0.1:9000"),
        ("[::1]:9000", "tcp://[::1]:9000"),
        ("[::1]", "tcp://[::1]:9464"),
    ],
)
def test_an_address_may_leave_something_out(address: str, url: str) -> None:
    assert metrics_url(address) == url


async def test_an_address_that_is_none_or_taken_is_told_before_anything_runs() -> None:
    for bad in ("http://127.0.0.1", "127.0.0.1:port", "::1:9464"):
        with pytest.raises(ArgumentError):
            metrics_url(bad)
    async with open_node(lively(), metrics="127.0.0.1:0") as node:
        assert node.metrics_url is not None
        taken = node.metrics_url.removeprefix("http://").partition("/")[0]
        with pytest.raises(ListenError, match="in use"):
            async with open_node(lively(), metrics=taken):
                pass


async def test_without_the_extra_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingExtraError, match=r"ecsnet\[metrics\]"):
        async with open_node(lively(), metrics="127.0.0.1:0"):
            pass


@given(st.lists(st.integers(0, 300)), st.lists(st.integers(0, 200), unique=True).map(sorted))
def test_a_histogram_counts_what_is_at_most_its_bound(numbers: list[int], bounds: list[int]) -> None:
    histogram = Histogram(tuple(bounds))
    for number in numbers:
        histogram.add(number)
    assert histogram.total == sum(numbers)
    assert histogram.cumulated() == [
        (bound, sum(number <= bound for number in numbers)) for bound in (*bounds, float("inf"))
    ]


# --- logs in JSON -----------------------------------------------------------------------------------------------------


@given(st.text(), st.text(), st.dictionaries(st.from_regex("[a-z]{5}_x", fullmatch=True), st.floats() | st.binary()))
def test_a_record_is_one_line_of_json(message: str, name: str, extra: dict[str, object]) -> None:
    record = logging.makeLogRecord({"name": name, "levelname": "INFO", "msg": "%s", "args": (message,), **extra})
    line = JsonFormatter().format(record)
    assert len(line.splitlines()) == 1
    found = json.loads(line)
    assert (found["message"], found["logger"], found["level"]) == (message, name, "info")
    assert set(extra) <= set(found)
    assert len(found["time"]) == len("2026-11-21T15:04:05.678Z")


def test_a_record_with_a_traceback_has_it_as_text() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "failed", (), sys.exc_info())
    line = JsonFormatter().format(record)
    assert "\n" not in line and "ValueError: two\nlines" in json.loads(line)["exception"]
