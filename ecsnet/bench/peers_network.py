"""Peers of the replication benchmark that are programs of their own: Colyseus, and a broadcast of JSON over WebSockets.

They are measured by a script of theirs, `repl_bench.mjs`, on the protocol of this benchmark: as many entities, clients
and ticks, a warm-up and five windows. It prints one JSON object a line, `{peer, work, n, metric, value, unit}`. The
script is not part of ecsnet; the folder that has it, with its packages installed, is given with `--peers`.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Final

from ecsnet.bench.workers import WorkerError
from ecsnet.errors import ArgumentError

__all__ = ["NETWORK_PEERS", "NetworkPeers"]

NETWORK_PEERS: Final = {"colyseus": "Colyseus", "ws": "JSON over WebSockets (Node)"}
"""The script's name of each, and ours."""

_SCRIPT: Final = "repl_bench.mjs"
_WAIT_S: Final = 120.0
_METRICS: Final = {
    "server_cpu": "server_cpu",
    "ticks_per_s": "ticks_done",
    "bytes_per_moved_entity": "bytes_per_entity_update",
    "lag_p50": "lag_p50",
    "lag_p99": "lag_p99",
}
"""Our name of a metric, and the script's."""


class NetworkPeers:
    """The folder of the peers' script.

    Raises:
        ArgumentError: the script, its packages, or Node are not there.
    """

    def __init__(self, folder: Path) -> None:
        node = shutil.which("node")
        for is_there, what, advice in (
            ((folder / _SCRIPT).is_file(), f"{folder / _SCRIPT} is not there", "name the folder that has it"),
            ((folder / "node_modules").is_dir(), f"{folder} has no packages", "run `npm install` there"),
            (node is not None, "Node.js is not installed", "install it, or leave --peers out"),
        ):
            if not is_there:
                raise ArgumentError(f"--peers: {what}; {advice}")
        assert node is not None
        self._node = node
        self._folder = folder

    def measure(self, kind: str, n: int, hz: int, clients: int) -> dict[str, float]:
        """One peer's figures by our metrics.

        Raises:
            WorkerError: the script failed, or said so.
        """
        command = [self._node, _SCRIPT, kind, str(n), str(hz), str(clients)]
        try:
            done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, timeout=_WAIT_S)
        except subprocess.TimeoutExpired:
            raise WorkerError(f"{_SCRIPT} {kind} gave no answer in {_WAIT_S:g} s") from None
        told: dict[str, float] = {}
        for line in done.stdout.splitlines():
            if not line.startswith("{"):
                continue
            figure = json.loads(line)
            if figure["metric"] == "failed":
                raise WorkerError(f"{_SCRIPT} {kind}: {figure['unit']}")
            told[figure["metric"]] = float(figure["value"])
        if not told:
            raise WorkerError(f"{_SCRIPT} {kind} printed no figures: {done.stderr.strip()[-500:]}")
        return {ours: told[theirs] for ours, theirs in _METRICS.items() if theirs in told}
