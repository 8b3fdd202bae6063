"""The benchmarks run, tiny, so that they never rot. What they say is worth nothing at this size."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from ecsnet.bench.bytes import COORDINATES, ENTROPY
from ecsnet.bench.bytes import METRICS as WEIGHTS
from ecsnet.bench.commit import METRICS as COMMITS
from ecsnet.bench.contention import METRICS as CONTENTION
from ecsnet.bench.crowd import make_crowd
from ecsnet.bench.disk import bench_folder
from ecsnet.bench.figures import Figure
from ecsnet.bench.goals import GOALS, Goal
from ecsnet.bench.interest import METRICS as SIGHTS
from ecsnet.bench.peers_columns import ColumnsSide
from ecsnet.bench.peers_network import NetworkPeers
from ecsnet.bench.peers_sql import SqliteSide
from ecsnet.bench.query import METRICS as QUERIES
from ecsnet.bench.query import EcsnetSide
from ecsnet.bench.slow import METRICS as SLOW
from ecsnet.bench.snapshot import METRICS as SNAPSHOTS
from ecsnet.bench.spatial import METRICS as PLACES
from ecsnet.bench.store import METRICS
from ecsnet.bench.transfer import METRICS as TRANSFERS
from ecsnet.bench.workers import Worker, WorkerError
from ecsnet.errors import ArgumentError

KEYS = {"bench", "metric", "n", "value", "unit", "better", "peer", "peer_value", "ratio", "goal", "met"}


def figures_of(*arguments: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "ecsnet", "bench", *arguments, "--json"], capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    figures = [json.loads(line) for line in done.stdout.splitlines()]
    for figure in figures:
        assert figure.keys() >= KEYS
        assert figure["better"] in ("lower", "higher")
        assert (figure["goal"] is None) == (figure["met"] is None)
        if figure["peer_value"]:
            assert figure["ratio"] == pytest.approx(figure["value"] / figure["peer_value"], rel=1e-3)
    return figures


def test_the_store_is_measured_beside_numpy_esper_sqlite_and_lmdb() -> None:
    """Every metric of the table comes out once for each peer that does the same work."""
    for peer in ("esper", "lmdb"):
        pytest.importorskip(peer)

    figures = figures_of("store", "--n", "64", "--runs", "1")

    assert {figure["metric"] for figure in figures} == {*METRICS, "memory", "memory_overhead"}
    assert {figure["peer"] for figure in figures} == {"numpy", "esper", "SQLite", "LMDB", None}
    assert {figure["n"] for figure in figures} == {64}
    assert all(figure["value"] > 0 for figure in figures)


def test_queries_are_measured_beside_databases_and_columns() -> None:
    """Each question of the list has a figure beside everybody who can answer it."""
    pytest.importorskip("duckdb")

    figures = figures_of("query", "--n", "200", "--runs", "1")

    assert {figure["metric"] for figure in figures} == set(QUERIES)
    assert {figure["peer"] for figure in figures} == {"numpy", "SQLite", "DuckDB"}
    assert all(figure["value"] > 0 for figure in figures)


def test_places_are_measured_beside_whoever_is_installed() -> None:
    figures = figures_of("spatial", "--n", "500", "--runs", "1")

    assert {figure["metric"] for figure in figures} == set(PLACES)
    assert {figure["peer"] for figure in figures} >= {"numpy"}


def test_what_moves_is_weighed_beside_raw_columns_and_text() -> None:
    """Every share of entities that move comes out, and in each what is rounded takes less than what is not."""
    figures = figures_of("bytes", "--entities", "400", "--ticks", "2")

    assert {figure["n"] for figure in figures} == {1, 10, 100}
    assert {figure["peer"] for figure in figures} == {"raw f32 columns", "JSON + deflate", ENTROPY, None}
    weights = {(figure["n"], figure["metric"]): figure["value"] for figure in figures if figure["unit"] == "B"}
    assert {metric for _, metric in weights} == {*WEIGHTS, COORDINATES}
    for figure in figures:
        if figure["metric"] == COORDINATES:
            assert 0 < figure["peer_value"] <= figure["value"] < weights[figure["n"], "2 mm"]
    for percent in (10, 100):
        assert weights[percent, "2 mm"] < weights[percent, "lossless"]


def test_what_clients_see_is_measured_for_as_many_as_asked_for() -> None:
    figures = figures_of("interest", "--n", "400", "--clients", "20", "--ticks", "2")

    assert {figure["metric"] for figure in figures} == set(SIGHTS)
    assert {figure["peer"] for figure in figures} == {"numpy", None}


def test_contention_is_measured_with_as_many_threads_as_asked_for() -> None:
    figures = figures_of("contention", "--n", "1", "--n", "3", "--runs", "1", "--operations", "60")

    assert {figure["metric"] for figure in figures} == set(CONTENTION)
    assert {figure["n"] for figure in figures} == {1, 3}
    assert {figure["peer"] for figure in figures} == {"SQLite, one lock", "queue.SimpleQueue", None}


ON_DISK = {
    "commit": ("--n", "50", "--commits", "2", "--runs", "1"),
    "transfer": ("--n", "50", "--batches", "2", "--runs", "1"),
    "load": ("--n", "200", "--runs", "1"),
    "snapshot": ("--n", "200", "--commits", "5", "--runs", "1"),
    "recovery": ("--n", "200", "--wal-mib", "1", "--runs", "1"),
}


@pytest.mark.parametrize("name", ON_DISK)
def test_what_is_durable_is_measured_beside_databases_and_the_disk_itself(name: str) -> None:
    # Not the system's folder for temporary files, which may be in memory.
    with TemporaryDirectory(dir=Path(__file__).parent, prefix="bench-") as folder:
        figures = figures_of(name, "--dir", folder, *ON_DISK[name])
        assert not list(Path(folder).iterdir()), "nothing is left behind"

    metrics = {
        "commit": COMMITS,
        "transfer": TRANSFERS,
        "load": ("bulk_load",),
        "snapshot": SNAPSHOTS,
        "recovery": ("recovery",),
    }
    assert {figure["metric"] for figure in figures} == set(metrics[name])
    assert all(figure["value"] > 0 for figure in figures)
    assert {figure["peer"] for figure in figures} >= {"SQLite"}


def test_a_disk_in_memory_is_refused() -> None:
    """A sync that costs nothing would make every figure a lie."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        pytest.skip("this system has no folder that is known to be in memory")
    with pytest.raises(ArgumentError, match="in memory"), bench_folder(memory):
        pass
    with pytest.raises(ArgumentError, match="no such folder"), bench_folder(memory / "missing"):
        pass


def test_the_peers_answer_what_ecsnet_answers() -> None:
    """Equal work: a faster answer to another question would say nothing."""
    crowd = make_crowd(300)
    ours, sqlite, columns = EcsnetSide(crowd), SqliteSide(crowd), ColumnsSide(crowd)
    view = ours.store.view()
    numbers = {key: number for number, key in enumerate(ours.keys.tolist())}

    weak = {numbers[key] for key in ours.filter(view).tolist()}
    assert weak == {row[0] for row in sqlite.rows("filter")} == set(columns.filter().tolist())
    team = ours.aggregate(view)
    assert tuple(team.values()) == sqlite.rows("aggregate")[0] == tuple(int(one) for one in columns.aggregate())
    held = ours.join(view)
    assert sorted(held["item.price"].tolist()) == sorted(row[1] for row in sqlite.rows("join"))
    dear = ours.order_limit(view)
    assert dear["item.price"].tolist() == [row[1] for row in sqlite.rows("order_limit")]


def test_replication_is_measured_beside_a_broadcast_and_bare_sends() -> None:
    """A node, clients of both kinds and both peers, all over TCP."""
    plan = ["--n", "32", "--clients", "4", "--windows", "1", "--window-s", "0.3", "--warm-up-s", "0.1"]

    figures = figures_of("replication", *plan)

    by_metric = {figure["metric"]: figure for figure in figures}
    assert {"bytes_per_moved_entity", "server_cpu", "lag_p50", "lag_p99", "ticks_per_s"} <= by_metric.keys()
    assert {figure["peer"] for figure in figures} >= {"bare sends"}
    assert len({figure["peer"] for figure in figures}) == 2
    quantised = by_metric["quantised_bytes_per_moved_entity"]["value"]
    assert quantised < by_metric["bytes_per_moved_entity"]["value"]
    assert by_metric["ticks_per_s"]["value"] > 0
    assert {figure["goal"] for figure in figures} == {None}, "the goals are for 50 clients"


@pytest.mark.skipif(sys.platform == "win32", reason="needs more sockets than select takes")
def test_the_fan_out_is_measured_beside_bare_sends_and_a_task_for_each_client() -> None:
    """A node, its clients in two processes, and three servers that send as much."""
    plan = ["--clients", "6", "--windows", "1", "--window-s", "0.3", "--warm-up-s", "0.1"]

    figures = figures_of("fanout", *plan)

    by_metric = {figure["metric"]: figure for figure in figures}
    assert {figure["peer"] for figure in figures} == {"bare sends", "bare sends and reads", "Trio tasks"}
    assert {"server_cpu", "lag_last_p50", "lag_last_p99", "ticks_per_s", "frames_min"} <= by_metric.keys()
    assert by_metric["delivered_share"]["value"] > 0.5
    assert by_metric["frame_bytes"]["value"] == pytest.approx(by_metric["frame_bytes"]["peer_value"], rel=0.05)
    assert {figure["goal"] for figure in figures} == {None}, "the goals are for 1000 clients"


def test_a_slow_client_is_measured_among_others() -> None:
    figures = figures_of(
        "slow", "--n", "64", "--clients", "3", "--rounds", "1", "--window-s", "0.4", "--settle-s", "0.2"
    )

    assert {figure["metric"] for figure in figures} == set(SLOW)
    assert {figure["peer"] for figure in figures} == {"without it", None}


SCRIPT = """
import json, sys
kind, n, hz, clients = sys.argv[1:]
if kind == "ws":
    print(json.dumps({"metric": "failed", "value": 1, "unit": "timeout"}))
else:
    told = {"server_cpu": 0.1, "ticks_done": 60.0, "bytes_per_entity_update": 18.5, "probe_cpu": 1}
    for metric, value in told.items():
        print(json.dumps({"peer": kind, "n": int(n), "metric": metric, "value": value, "unit": ""}))
"""


def test_peers_that_are_programs_of_their_own_are_asked_for_their_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python stands in for Node, so that nothing has to be installed."""
    monkeypatch.setattr(shutil, "which", lambda name: sys.executable)
    with pytest.raises(ArgumentError, match=r"repl_bench\.mjs is not there"):
        NetworkPeers(tmp_path)
    (tmp_path / "repl_bench.mjs").write_text(SCRIPT)
    with pytest.raises(ArgumentError, match="npm install"):
        NetworkPeers(tmp_path)
    (tmp_path / "node_modules").mkdir()

    peers = NetworkPeers(tmp_path)

    assert peers.measure("colyseus", 10, 60, 5) == {
        "server_cpu": 0.1,
        "ticks_per_s": 60.0,
        "bytes_per_moved_entity": 18.5,
    }
    with pytest.raises(WorkerError, match="timeout"):
        peers.measure("ws", 10, 60, 5)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ArgumentError, match=r"Node\.js is not installed"):
        NetworkPeers(tmp_path)


def test_a_relative_goal_is_judged_beside_its_own_peer_only() -> None:
    """'Twice numpy' says nothing about esper."""
    goal = Goal("≤ {} × numpy alone", ratio=2, peer="numpy")

    beside_numpy = Figure("store", "iterate", 10, 3.0, "ns", "lower", "numpy", 1.0, goal)
    beside_esper = Figure("store", "iterate", 10, 3.0, "ns", "lower", "esper", 100.0, goal)

    assert beside_numpy.met is False
    assert beside_esper.met is None
    assert json.loads(beside_numpy.line())["goal"] == "≤ 2 × numpy alone"
    assert json.loads(beside_esper.line())["goal"] is None


def test_a_goal_between_two_sizes_is_the_smaller_ones() -> None:
    """Caches make small sizes cheap: judging 500,000 rows by the bound for a million would be lenient."""
    goal = GOALS["store"]["kernel_update_random"]

    assert [goal.bound(n) for n in (10, 10_000, 99_999, 100_000, 500_000, 1_000_000)] == [7, 7, 7, 10, 10, 31]


def test_a_worker_that_fails_says_why() -> None:
    """A benchmark without one of its processes must not print figures."""
    nobody = "tcp://127.0.0.1:1"

    with (
        Worker("ecsnet.bench.client_process", "probe", nobody, 1) as worker,
        pytest.raises(WorkerError, match="nobody listens there"),
    ):
        worker.answer()


def test_coming_back_is_measured_beside_a_full_sync_and_the_missed_rows_alone() -> None:
    figures = figures_of("resume", "--n", "500", "--runs", "1", "--away", "0.2", "--away", "1")

    assert {figure["metric"] for figure in figures} == {
        f"{what}_after_{away}s" for what in ("bytes", "cpu") for away in ("0.2", "1")
    }
    assert {figure["peer"] for figure in figures} == {"full sync", "the missed rows alone"}
    whole = [figure for figure in figures if figure["peer"] == "full sync" and figure["unit"] == "B"]
    assert all(figure["value"] < figure["peer_value"] for figure in whole)


def test_joining_is_measured_beside_a_bare_copy_and_with_others_there() -> None:
    figures = figures_of("join", "--n", "2000", "--rounds", "1", "--window-s", "0.3")

    assert [figure["metric"] for figure in figures] == ["join", "bytes_per_row", "others_lag_p50", "others_lag_p99"]
    assert all(figure["value"] > 0 for figure in figures)
