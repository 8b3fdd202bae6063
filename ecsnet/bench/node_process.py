"""The node of the replication benchmark, in a process of its own: N entities, all of which move in each tick.

Arguments: N, hz, the step that positions are quantised to (0: they are exact). A mark is answered with CPU, ticks,
memory, and for each version when its tick began.
"""

import os
import sys
from pathlib import Path

import numpy as np

from ecsnet.authority import TickReport
from ecsnet.bench.workers import Counts, allow_descriptors, answer_marks
from ecsnet.node import AuthoritativeNode, run
from ecsnet.schema import Schema, loads
from ecsnet.store import Transaction
from ecsnet.world import World

__all__ = ["main", "moving_schema", "moving_world"]

_KEY = '{ name = "entity_id", type = "u64", foreign_key = "entities.id" }'


def _vector(more: str = "") -> str:
    return ", ".join(f'{{ name = "{axis}", type = "f32", default = 0.0{more} }}' for axis in "xyz")


def moving_schema(step: float = 0.0) -> Schema:
    """12 bytes of position, which move, and a velocity, which does not. `step`, in metres, quantises the position."""
    quantised = f", quantize = {step}" if step else ""
    return loads(
        '[database]\nname = "moving"\nversion = "1.0.0"\n'
        f'[tables.position]\nparent_table = "entities"\nfields = [{_KEY}, {_vector(quantised)}]\n'
        f'[tables.velocity]\nparent_table = "entities"\nfields = [{_KEY}, {_vector()}]\n'
    )


def moving_world(hz: int, step: float = 0.0) -> World:
    """The world without its entities: `position += velocity * dt` in each tick."""
    world = World(moving_schema(step), hz=hz)

    @world.system
    def move(tx: Transaction) -> None:
        body, speed = tx.query("position", "velocity")
        dt = np.float32(tx.dt)
        body.x += speed.x * dt
        body.y += speed.y * dt
        body.z += speed.z * dt

    return world


def populate(tx: Transaction, n: int) -> None:
    """The peers' entities: places and speeds that differ, none of them zero."""
    i = np.arange(n, dtype=np.float32)
    tx.spawn_many(
        position={"x": i % 1000, "y": i / 7, "z": np.full(n, 5, np.float32)},
        velocity={"x": np.sin(i) + 2, "y": np.cos(i) + 2, "z": 0.1 + (i % 10) / 20},
    )


def resident_bytes() -> int:
    """How much memory this process has, in bytes; where the system does not say, the most that it ever had."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * os.sysconf("SC_PAGESIZE")


def main(n: int, hz: int, step: float) -> None:
    """Serve until standard input ends."""
    allow_descriptors()
    began: list[tuple[int, int]] = []

    def on_tick(report: TickReport, began_ns: int) -> None:
        if report.version is not None:
            began.append((report.version, began_ns))

    def on_start(node: AuthoritativeNode) -> None:
        with node.store.transaction("populate") as tx:
            populate(tx, n)

        def counts() -> Counts:
            nonlocal began
            taken, began = began, []
            return {"ticks": len(taken), "began": taken, "rss_bytes": resident_bytes()}

        answer_marks({"url": node.addresses[0]}, counts)

    run(moving_world(hz, step), listen="tcp://127.0.0.1:0", on_tick=on_tick, on_start=on_start)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) if sys.argv[3:] else 0.0)
