"""`ecsnet demo` measures what happened and says so: also when something did not happen, or went wrong."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import trio
from rich.console import Console

from ecsnet.demo import arena
from ecsnet.demo.figures import Tally, Verdict
from ecsnet.demo.messages import BotsStatus, NodeStatus
from ecsnet.demo.options import Options
from ecsnet.demo.processes import ChildFailedError
from ecsnet.demo.run import Demo, Phase
from ecsnet.demo.screen import Screen, print_result
from ecsnet.demo.sighted import astray
from ecsnet.errors import ArgumentError
from ecsnet.sim.profile import profile
from ecsnet.store import Store

ROOT = Path(__file__).parent.parent
KEYS = [
    "converged",
    "clients",
    "entities",
    "hz",
    "ticks",
    "version",
    "epoch",
    "digest",
    "lag_ms",
    "applied_share",
    "bytes_per_client_s",
    "bytes_per_moved_entity",
    "cpu_cores",
    "joins",
    "full_syncs",
    "resumes",
    "commands_sent",
    "commands_lost",
    "commands_unanswered",
    "commands_applied_twice",
    "kills",
    "acked_lost",
    "drops",
    "entities_seen",
]
TINY = ["--seconds", "1.5", "--clients", "3", "--entities", "50"]
linux = pytest.mark.skipif(sys.platform != "linux", reason="finds the children in /proc")


def ecsnet(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "ecsnet", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def begun(*arguments: str) -> "subprocess.Popen[str]":
    """A demo of which at least one line was printed, so that it is under way."""
    command = [sys.executable, "-u", "-m", "ecsnet", "demo", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while " s  tick " not in process.stdout.readline():
        assert process.poll() is None, process.communicate()
    return process


def children_of(parent: int) -> list[int]:
    found = [path.read_text() for path in Path(f"/proc/{parent}/task").glob("*/children")]
    pids = [int(pid) for pid in " ".join(found).split()]
    assert len(pids) >= 2, "the node, and bots"
    return pids


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 10
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, f"of {pids} some are still running"
        time.sleep(0.05)


# --- the world --------------------------------------------------------------------------------------------------------


# --- whole runs -------------------------------------------------------------------------------------------------------


def test_a_tiny_demo_converges_and_has_every_key() -> None:
    done = ecsnet("demo", *TINY, "--json")

    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert list(figures) == KEYS
    assert figures["converged"] is True
    assert (figures["clients"], figures["entities"], figures["hz"]) == (3, 50, 30)
    assert 10 <= figures["version"] <= figures["ticks"] + 3
    assert re.fullmatch("[0-9a-f]{32}", figures["digest"]) and figures["epoch"] > 0
    assert 0 < figures["lag_ms"]["p50"] <= figures["lag_ms"]["p99"] <= figures["lag_ms"]["max"]
    assert 0.9 < figures["applied_share"] <= 1.0, "hardly anything is coalesced, however busy the machine"
    assert 8 < figures["bytes_per_moved_entity"] < 16, "two floats, and a share of the frame"
    assert figures["bytes_per_client_s"] > 50 * 8 * 5
    assert 0 < figures["cpu_cores"] < 1
    assert figures["joins"] >= 3 and figures["full_syncs"] == figures["joins"]
    assert figures["commands_sent"] > 5
    assert figures["commands_lost"] == figures["commands_applied_twice"] == 0


def test_bots_behind_a_bad_line_are_late_and_hold_the_same_in_the_end() -> None:
    """What makes them late is the line's latency, which no machine is fast enough to undercut."""
    done = ecsnet("demo", *TINY, "--link-profile", "4g", "--json")

    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["converged"] is True
    assert figures["lag_ms"]["p50"] > profile("4g").down.latency_ms
    assert figures["applied_share"] >= 0.9, "late is not the same as skipped"
    assert figures["commands_lost"] == figures["commands_applied_twice"] == 0


def test_a_line_that_nobody_knows_is_refused_before_anything_is_started() -> None:
    done = ecsnet("demo", "--link-profile", "6g")

    assert done.returncode == 1
    assert "no link profile named '6g'" in done.stderr and "4g" in done.stderr


def test_a_client_that_holds_something_else_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`converged` would be worth nothing if it could not be false."""
    monkeypatch.setattr("ecsnet.demo.run.CONVERGE_S", 0.5)
    demo = Demo(Options(seconds=0.2, clients=2, entities=5, liars=1))

    figures = trio.run(demo.run)

    assert not figures.converged
    assert demo.verdict is not None
    (difference,) = demo.verdict.why_not
    assert difference.startswith("bot-0 has digest 0000") and figures.digest in difference


def test_entities_that_stand_are_not_sent_again() -> None:
    demo = Demo(Options(seconds=1.0, clients=1, entities=100, moving=0.1))

    figures = trio.run(demo.run)

    assert figures.converged
    assert figures.bytes_per_client_s is not None
    assert figures.bytes_per_client_s < 30 * 100 * 8, "less than a tenth moves, the rest is heads and acks"


@pytest.mark.parametrize("line", [[], ["--link-profile", "lan"]], ids=["this machine's own", "a line between"])
def test_a_demo_under_tls_converges(line: list[str]) -> None:
    done = ecsnet("demo", *TINY, "--tls", "--json", *line)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["converged"] is True


def test_with_interest_every_bot_holds_what_is_near_it_and_no_more() -> None:
    """By the digest that the node reckons for each session, and by plain distances."""
    done = ecsnet("demo", "--interest", "--seconds", "2", "--clients", "4", "--entities", "2000", "--json")

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["converged"] is True
    assert 1 <= result["entities_seen"] < 300
    assert result["bytes_per_moved_entity"] is None
    assert result["commands_lost"] == result["commands_applied_twice"] == 0


def test_with_interest_a_bot_that_lies_is_found_out_too() -> None:
    demo = Demo(Options(seconds=1.0, clients=3, entities=200, interest=True, liars=1))

    trio.run(demo.run)

    assert demo.verdict is not None and not demo.verdict.converged
    assert "bot-0" in demo.verdict.why_not[0]


def test_who_sees_what_is_far_away_or_misses_what_is_near_is_astray() -> None:
    """The demo's own reckoning, which goes by distances alone."""
    with Store(arena.schema) as store:
        with store.transaction() as tx:
            me, close, edge, far = (tx.spawn(arena.Transform(x=x)) for x in (0.0, 5.0, 10.5, 20.0))
        with store.view() as view:

            def of(*seen: int) -> int:
                return astray(view, me, np.array(seen, np.uint64), 10.0)

            assert of(me, close) == of(me, close, edge) == 0
            assert of(me) == 1 and of(me, close, far) == 1
            assert of(close, far) == 2


def test_options_out_of_range_are_refused_before_anything_is_started() -> None:
    for wrong in (
        {"clients": 0},
        {"entities": -1},
        {"hz": 0},
        {"moving": 1.5},
        {"seconds": float("nan")},
        {"drop_client_every": -1.0},
    ):
        with pytest.raises(ArgumentError, match=next(iter(wrong)).replace("_", "-")):
            Options(**wrong)  # type: ignore[arg-type]


@linux
def test_a_node_that_is_killed_again_and_again_loses_nothing_that_it_answered(tmp_path: Path) -> None:
    demo = Demo(
        Options(
            seconds=6.0, clients=4, entities=50, data=str(tmp_path / "data"), kill_node_every=1.5, durability="relaxed"
        )
    )

    figures = trio.run(demo.run)

    assert figures.converged, demo.verdict
    assert figures.kills >= 2
    assert figures.resumes >= 2, "whoever was there came back"
    assert (figures.acked_lost, figures.commands_lost, figures.commands_applied_twice) == (0, 0, 0)
    assert figures.commands_sent > 20


def test_bots_that_lose_their_connections_are_sent_what_they_missed_and_lose_no_command() -> None:
    demo = Demo(Options(seconds=3.0, clients=4, entities=50, drop_client_every=0.1))

    figures = trio.run(demo.run)

    assert figures.converged, demo.verdict
    assert figures.drops >= 10
    assert figures.resumes >= figures.drops / 2, "one that was cut again before it was back counts once"
    assert figures.full_syncs == figures.joins, "who comes back is not sent the world again"
    assert (figures.commands_lost, figures.commands_applied_twice) == (0, 0)
    assert figures.commands_sent > 20


def test_killing_a_node_in_memory_is_refused() -> None:
    done = ecsnet("demo", "--kill-node-every", "2")
    assert done.returncode != 0
    assert "--data DIR" in done.stderr


# --- ends that nobody planned -----------------------------------------------------------------------------------------


def test_a_process_that_dies_is_reported_and_takes_the_others_along() -> None:
    def kill_node(demo: Demo) -> None:
        if demo.playing and demo.played_s > 0.2:
            os.kill(demo.children[0].pid, signal.SIGKILL)

    demo = Demo(Options(seconds=20, clients=2, entities=5), kill_node)

    with pytest.raises(ChildFailedError, match="the node was killed by SIGKILL"):
        trio.run(demo.run)

    if sys.platform == "linux":
        wait_gone([child.pid for child in demo.children])


@linux
def test_no_process_outlives_a_demo_that_is_killed() -> None:
    process = begun("--seconds", "30", "--clients", "3", "--entities", "50")
    pids = children_of(process.pid)

    process.kill()
    process.communicate()

    wait_gone(pids)


@linux
def test_ctrl_c_ends_it_early_and_still_compares() -> None:
    process = begun("--seconds", "30", "--clients", "3", "--entities", "50")
    pids = children_of(process.pid)

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)

    assert process.returncode == 130, err
    assert "Converged" in out and "ended early" in out and "Traceback" not in err
    wait_gone(pids)


@linux
def test_ctrl_c_twice_ends_it_at_once() -> None:
    process = begun("--seconds", "30", "--clients", "3", "--entities", "50", "--hz", "60")
    pids = children_of(process.pid)

    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)

    assert process.returncode == 130
    assert "Traceback" not in err
    wait_gone(pids)


# --- figures out of logs ----------------------------------------------------------------------------------------------

S = 1_000_000_000
MS = 1_000_000


def node_status(now_s: float, cpu_s: float, **more: object) -> NodeStatus:
    given = {
        "now_ns": int(now_s * S),
        "cpu_s": cpu_s,
        "tick": 0,
        "version": 0,
        "clients": 1,
        "joins": 1,
        "full_syncs": 1,
        "ticks_dropped": 0,
        "systems_failed": 0,
        "cuts": [],
        "applied": [],
        **more,
    }
    return NodeStatus(**given)  # type: ignore[arg-type]


def bots_status(now_s: float, **more: object) -> BotsStatus:
    given = {
        "now_ns": int(now_s * S),
        "live": 1,
        "versions": [],
        "delta_bytes": 0,
        "bytes_received": 0,
        "client_s": 0.0,
        "sent": 0,
        "answered": 0,
        "accepted": [],
        **more,
    }
    return BotsStatus(**given)  # type: ignore[arg-type]


@pytest.fixture
def tally() -> Iterator[Tally]:
    """A run of four seconds that began at 100 s, with one client, before anything was measured in it."""
    tally = Tally(Options(seconds=4.0, clients=1, entities=10))
    tally.take_node(node_status(100, 1.0))
    tally.begin_node()
    tally.take_bots("bots", bots_status(100, versions=[(1, 1, 99 * S)]))
    tally.begin_bots("bots")
    yield tally


def figures_of(tally: Tally) -> dict[str, object]:
    tally.end_node()
    tally.end_bots("bots")
    verdict = Verdict(converged=True, version=5, digest="", tick=5, epoch=1, took_s=0.1)
    figures = tally.figures(verdict)
    return {name: getattr(figures, name) for name in figures.__struct_fields__}


def test_lag_is_from_the_beginning_of_the_tick_to_the_moment_it_was_applied(tally: Tally) -> None:
    """Before the first second is over it does not count; nor for versions that were made when the world rested."""
    tally.take_node(node_status(104, 1.8, cuts=[(2, 100 * S, 1), (3, 102 * S, 1), (4, 103 * S, 1), (5, 105 * S, 1)]))
    log = [(1, 2, 100 * S + 90 * MS), (1, 3, 102 * S + 2 * MS), (1, 4, 103 * S + 4 * MS), (1, 5, 105 * S + 80 * MS)]
    tally.take_bots("bots", bots_status(104, versions=log))

    figures = figures_of(tally)

    lag = figures["lag_ms"]
    assert (lag.p50, lag.max) == (3.0, 4.0)  # type: ignore[attr-defined]
    assert figures["cpu_cores"] == 0.2


def test_a_version_that_was_skipped_lowers_the_share_and_its_rows_count_once(tally: Tally) -> None:
    cuts = [(2, 101 * S, 10), (3, 102 * S, 10), (4, 103 * S, 10)]
    tally.take_node(node_status(104, 1.8, cuts=cuts))
    more = {"delta_bytes": 200, "bytes_received": 240, "client_s": 4.0}
    tally.take_bots("bots", bots_status(104, versions=[(1, 2, 101 * S), (1, 4, 103 * S)], **more))

    figures = figures_of(tally)

    assert figures["applied_share"] == pytest.approx(2 / 3, abs=1e-6)
    assert figures["bytes_per_moved_entity"] == 10.0
    assert figures["bytes_per_client_s"] == 60.0


def test_another_stay_begins_with_a_full_sync_that_is_no_step(tally: Tally) -> None:
    tally.take_node(node_status(104, 1.8, cuts=[(2, 101 * S, 10), (3, 102 * S, 10), (4, 103 * S, 10)]))
    tally.take_bots("bots", bots_status(104, versions=[(2, 3, 102 * S), (2, 4, 103 * S)], delta_bytes=80))

    figures = figures_of(tally)

    assert figures["applied_share"] == 1.0
    assert figures["bytes_per_moved_entity"] == 8.0


def test_commands_without_an_answer_or_an_effect_are_lost_and_two_effects_are_one_too_many(tally: Tally) -> None:
    tally.take_node(node_status(104, 1.8, applied=[(7, 1), (7, 2), (7, 2)]))
    tally.take_bots("bots", bots_status(104, sent=5, answered=4, accepted=[(7, 1), (7, 2), (7, 3)]))

    figures = figures_of(tally)

    assert figures["commands_lost"] == 2, "one was never answered, of one there is no trace"
    assert figures["commands_applied_twice"] == 1


def test_commands_that_still_wait_are_unanswered_and_not_lost(tally: Tally) -> None:
    tally.take_node(node_status(104, 1.8, applied=[(7, 1), (7, 2)]))
    tally.take_bots("bots", bots_status(104, sent=6, answered=2, accepted=[(7, 1), (7, 2)], unanswered=3))

    figures = figures_of(tally)

    assert (figures["commands_unanswered"], figures["commands_lost"]) == (3, 1)


def test_versions_of_which_the_node_did_not_tell_have_no_figures(tally: Tally) -> None:
    """A node that hangs has sent what it never reported."""
    tally.take_node(node_status(104, 1.8, cuts=[(2, 102 * S, 10)]))
    more = {"delta_bytes": 100}
    tally.take_bots("bots", bots_status(104, versions=[(1, 2, 102 * S + MS), (1, 3, 103 * S)], **more))

    figures = figures_of(tally)

    assert figures["lag_ms"].max == 1.0  # type: ignore[attr-defined]
    assert figures["bytes_per_moved_entity"] == 10.0


def test_where_nothing_was_measured_there_is_no_figure(tally: Tally) -> None:
    tally.take_node(node_status(104, 1.0))

    figures = figures_of(tally)

    assert figures["lag_ms"].p50 is None  # type: ignore[attr-defined]
    assert figures["applied_share"] is None
    assert figures["bytes_per_moved_entity"] is None


# --- what a person sees -----------------------------------------------------------------------------------------------


def shown(demo: Demo) -> str:
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=80, force_terminal=True, file=nowhere)
        console.print(Screen(console).picture(demo))
        if demo.figures is not None:
            print_result(console, demo)
        return console.export_text()


def test_the_live_view_fits_eighty_columns_from_its_first_moment_on() -> None:
    demo = Demo(Options(seconds=5))

    picture = shown(demo)

    assert "starting" in picture and "20" in picture
    assert max(map(len, picture.splitlines())) <= 80


def test_the_result_says_in_words_who_differs(tally: Tally) -> None:
    demo = Demo(Options(seconds=4.0, clients=1, entities=10))
    demo.tally = tally
    tally.take_node(node_status(104, 1.8, ticks_dropped=3))
    tally.end_node()
    tally.end_bots("bots")
    why_not = ("bot-0 holds version 4, the authority 5",)
    demo.verdict = Verdict(converged=False, version=5, digest="ab", tick=5, epoch=1, took_s=5.0, why_not=why_not)
    demo.figures = tally.figures(demo.verdict)
    demo.phase = Phase.END

    printed = shown(demo)

    assert "Not converged" in printed and why_not[0] in printed
    assert "3 ticks came too late" in printed
    assert max(map(len, printed.splitlines())) <= 80
