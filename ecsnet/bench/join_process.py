"""The processes of the join benchmark.

node N HZ       a world of N entities of 32 bytes that stand still, and 1000 that move; tells when ticks began
probe URL       a client that is there all the time; tells when it had applied which version
joiner URL      for each mark one client that joins, is measured, and leaves
bare BYTES      for each mark the same bytes over a connection of this machine, received and copied once
"""

import socket
import sys
import threading
import time

import numpy as np

import ecsnet
from ecsnet.authority import TickReport
from ecsnet.bench.workers import Counts, answer_marks
from ecsnet.node import AuthoritativeNode, run
from ecsnet.schema import Schema, loads
from ecsnet.store import Transaction
from ecsnet.world import World

__all__ = ["MOVING", "ROW_BYTES", "main"]

MOVING = 1000
ROW_BYTES = 32
_JOIN_S = 60.0
_KEY = '{ name = "entity_id", type = "u64", foreign_key = "entities.id" }'


def wide_schema() -> Schema:
    """32 bytes that stand still, and 8 that move."""
    cells = ", ".join(f'{{ name = "c{i}", type = "f32", default = 0.0 }}' for i in range(8))
    return loads(
        '[database]\nname = "wide"\nversion = "1.0.0"\n'
        f'[tables.state]\nparent_table = "entities"\nfields = [{_KEY}, {cells}]\n'
        f'[tables.place]\nparent_table = "entities"\nfields = [{_KEY}, {{ name = "x", type = "f64", default = 0.0 }}]\n'
    )


def serve(n: int, hz: int) -> None:
    world = World(wide_schema(), hz=hz)

    @world.system
    def move(tx: Transaction) -> None:
        (places,) = tx.query("place")
        places.x += 1.0

    began: list[tuple[int, int]] = []

    def on_tick(report: TickReport, began_ns: int) -> None:
        if report.version is not None:
            began.append((report.version, began_ns))

    def on_start(node: AuthoritativeNode) -> None:
        random = np.random.default_rng(3)
        with node.store.transaction("populate") as tx:
            tx.spawn_many(state={f"c{i}": random.random(n).astype(np.float32) for i in range(8)})
            tx.spawn_many(place={"x": random.random(MOVING)})

        def counts() -> Counts:
            nonlocal began
            taken, began = began, []
            return {"began": taken}

        answer_marks({"url": node.addresses[0]}, counts)

    run(world, listen="tcp://127.0.0.1:0", on_tick=on_tick, on_start=on_start)


def probe(url: str) -> None:
    applied: list[tuple[int, int]] = []

    def counts() -> Counts:
        nonlocal applied
        taken, applied = applied, []
        return {"applied": taken}

    with ecsnet.connect(
        url, wide_schema(), wait_s=_JOIN_S, reconnect=False, on_version=lambda *seen: applied.append(seen)
    ) as client:
        answer_marks({}, counts)
        while client.state == "live":
            time.sleep(1 / 60)
            client.poll()
        raise ConnectionError(f"the probe's session ended: {client.reason or client.error}")


def joiner(url: str) -> None:
    schema = wide_schema()

    def counts() -> Counts:
        began = time.perf_counter()
        with ecsnet.connect(url, schema, wait_s=_JOIN_S, reconnect=False) as client:
            took = time.perf_counter() - began
            statistics = client.statistics()
            rows = len(client.view["state"])
        return {"seconds": took, "bytes": statistics.sync_bytes_received, "rows": rows}

    answer_marks({}, counts)
    threading.Event().wait()


def bare(size: int) -> None:
    data = bytes(size)
    listener = socket.create_server(("127.0.0.1", 0))

    def send_for_ever() -> None:
        while True:
            connected, _ = listener.accept()
            with connected:
                connected.sendall(data)

    threading.Thread(target=send_for_ever, daemon=True).start()
    into = memoryview(bytearray(size))

    def counts() -> Counts:
        began = time.perf_counter()
        received = 0
        with socket.create_connection(listener.getsockname()) as connected:
            while received < size:
                received += connected.recv_into(into[received:])
        copied = bytes(into)
        took = time.perf_counter() - began
        assert len(copied) == size
        return {"seconds": took, "bytes": size}

    answer_marks({}, counts)
    threading.Event().wait()


def main(kind: str, *arguments: str) -> None:
    """Do it until standard input ends."""
    if kind == "node":
        serve(int(arguments[0]), int(arguments[1]))
    elif kind == "probe":
        probe(arguments[0])
    elif kind == "joiner":
        joiner(arguments[0])
    else:
        bare(int(arguments[0]))


if __name__ == "__main__":
    main(*sys.argv[1:])
