"""Faults: what makes one, what a script may say, what a swarm draws, and what they do to a cluster."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from ecsnet.errors import ConfigError
from ecsnet.sim.cluster import Cluster
from ecsnet.sim.faults import KINDS, QUIET_SHARE, Fault, begin, check_faults, end, read_faults, swarm
from ecsnet.sim.profile import Direction, Profile
from tests.arena import arena

# --- as data ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "key", "says"),
    [
        ({"kind": "partitoin", "at_s": 1.0, "for_s": 1.0}, "kind", "did you mean 'partition'"),
        ({"kind": "earthquake", "at_s": 1.0}, "kind", "known: partition"),
        ({"kind": "drop", "at_s": -1.0}, "at_s", "seconds in"),
        ({"kind": "drop", "at_s": math.nan}, "at_s", "seconds in"),
        ({"kind": "drop", "at_s": True}, "at_s", "seconds in"),
        ({"kind": "stall", "at_s": 1.0}, "for_s", "stall lasts"),
        ({"kind": "stall", "at_s": 1.0, "for_s": math.inf}, "for_s", "seconds in"),
        ({"kind": "drop", "at_s": 1.0, "for_s": 1.0}, "for_s", "over at once"),
        ({"kind": "node_crash", "at_s": 1.0, "for_s": 1.0, "who": "client-0"}, "who", "done to the node"),
        ({"kind": "drop", "at_s": 1.0, "who": 3}, "who", "a player's name"),
        ({"kind": "drop", "at_s": 1.0, "value": 3}, "value", "takes none"),
        ({"kind": "loss_burst", "at_s": 1.0, "for_s": 1.0, "value": 1.5}, "value", "[0, 1]"),
        ({"kind": "loss_burst", "at_s": 1.0, "for_s": 1.0, "value": math.nan}, "value", "[0, 1]"),
        ({"kind": "one_way", "at_s": 1.0, "for_s": 1.0, "value": "sideways"}, "value", "down, up"),
        ({"kind": "mass_join", "at_s": 1.0, "for_s": 1.0, "value": 2.5}, "value", "whole number"),
    ],
)
def test_what_makes_no_fault_is_refused_with_its_key(given: dict[str, Any], key: str, says: str) -> None:
    with pytest.raises(ConfigError, match="fault") as caught:
        Fault(**given)

    assert caught.value.key == key
    assert says in str(caught.value)


def test_a_script_of_faults_is_read_from_toml_and_json(tmp_path: Path) -> None:
    toml = tmp_path / "faults.toml"
    toml.write_text("""
[[faults]]
kind = "partition"
at_s = 1
for_s = 2.5
who = "client-1"

[[faults]]
kind = "slow"
at_s = 3.0
for_s = 1.0
value = 64
""")
    both = [Fault("partition", 1, 2.5, "client-1"), Fault("slow", 3.0, 1.0, None, 64)]
    plain = [{name: value for name in Fault.__struct_fields__ if (value := getattr(one, name))} for one in both]
    (tmp_path / "faults.json").write_text(json.dumps({"faults": plain}))
    (tmp_path / "list.json").write_text(json.dumps(plain))

    assert read_faults(toml, seconds=10, clients=2) == both
    assert read_faults(tmp_path / "faults.json") == both
    assert read_faults(str(tmp_path / "list.json")) == both


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("[[faults]]\nkind = 'dorp'\nat_s = 1.0\n", 2, "did you mean 'drop'"),
        ("[[faults]]\nkind = 'drop'\nat_s = 1.0\nwhom = 'x'\n", 4, "did you mean 'who'"),
        ("[[faults]]\nkind = 'drop'\n", 1, "at_s: missing"),
        ("[[faults]]\nkind = 'drop'\nat_s = 12.0\n", 3, "the run has 10 s"),
        ("[[faults]]\nkind = 'drop'\nat_s = 1.0\nwho = 'cleint-1'\n", 4, "did you mean 'client-1'"),
        ("[[faults]]\nkind = 'drop'\nat_s = 1.0\nwho = 'client-2'\n", 4, "no player is called"),
        ("[[fault]]\nkind = 'drop'\n", None, "expected a list of faults"),
        ("faults = []\nmore = 1\n", 2, "unknown key"),
        ("faults = [1]\n", None, "expected a table"),
        ("[[faults]\n", 1, "not TOML"),
        ("faults = " + "[" * 2000 + "]" * 2000, None, "faults"),
    ],
)
def test_what_is_wrong_in_a_script_is_told_with_its_line(
    tmp_path: Path, text: str, line: int | None, says: str
) -> None:
    path = tmp_path / "faults.toml"
    path.write_text(text)

    with pytest.raises(ConfigError) as caught:
        read_faults(path, seconds=10, clients=2)

    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    if line is not None:
        assert caught.value.line == line


def test_a_script_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigError, match="cannot read the faults"):
        read_faults(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="cannot read the faults"):
        read_faults(tmp_path / "bytes.toml")
    with pytest.raises(ConfigError, match="not JSON"):
        read_faults(tmp_path / "bad.json")


def test_faults_that_do_not_fit_a_run_are_refused() -> None:
    check_faults([Fault("drop", 9.9, who="client-1"), Fault("partition", 9.0, 100.0)], seconds=10, clients=2)

    with pytest.raises(ConfigError, match=r"faults\[1\]\.at_s"):
        check_faults([Fault("drop", 1.0), Fault("drop", 10.0)], seconds=10, clients=2)
    with pytest.raises(ConfigError, match=r"faults\[0\]\.who.*client-9"):
        check_faults([Fault("drop", 1.0, who="client-9")], seconds=10, clients=2)


# --- from a seed ------------------------------------------------------------------------------------------------------


def test_a_swarm_depends_on_its_arguments_alone() -> None:
    assert swarm(7, seconds=30, clients=8) == swarm(7, seconds=30, clients=8)
    assert swarm(7, seconds=30, clients=8) != swarm(8, seconds=30, clients=8)
    assert swarm(7, seconds=30, clients=8) == sorted(swarm(7, seconds=30, clients=8), key=lambda fault: fault.at_s)


def test_every_kind_is_in_a_fifth_of_all_swarms_and_missing_in_as_many() -> None:
    """A run that has some kinds only finds what a run with all of them hides."""
    kinds = [{fault.kind for fault in swarm(seed, seconds=30, clients=8)} for seed in range(1, 101)]

    for kind in KINDS:
        share = sum(kind in of_seed for of_seed in kinds) / len(kinds)
        assert 0.2 <= share <= 0.8, kind


@pytest.mark.parametrize("seconds", [2.0, 10.0, 30.0])
@pytest.mark.parametrize("clients", [0, 1, 8])
def test_a_swarm_fits_its_run_and_leaves_the_end_quiet(seconds: float, clients: int) -> None:
    for seed in range(50):
        faults = swarm(seed, seconds=seconds, clients=clients)
        check_faults(faults, seconds=seconds, clients=clients)
        assert all(fault.at_s + fault.for_s <= seconds * (1 - QUIET_SHARE) + 1e-9 for fault in faults)


def test_a_run_too_short_for_faults_has_none() -> None:
    assert swarm(1, seconds=0.2, clients=3) == []


# --- done to a cluster ------------------------------------------------------------------------------------------------

LINE = Profile(
    name="line",
    source="a test",
    down=Direction(latency_ms=10.0, bandwidth_kbit_s=1000.0),
    up=Direction(latency_trace=((0.0, 5.0),)),
)


@pytest.fixture
def cluster() -> Any:
    with Cluster(arena(), clients=2, profile=LINE, seed=3) as cluster:
        cluster.run(0.5)
        yield cluster


def test_what_a_line_is_like_follows_from_all_faults_in_force(cluster: Cluster) -> None:
    """They overlap in any way; the end of one must not end another."""
    player, other = cluster.players
    late, lossy = Fault("latency_spike", 0.0, 1.0, None, 100.0), Fault("loss_burst", 0.0, 1.0, "client-0", 0.25)
    slow = Fault("slow", 0.0, 1.0, "client-0", 64.0)

    for fault in (late, lossy, slow):
        begin(fault, cluster)

    assert player.profile.down.latency_ms == 110.0
    assert player.profile.up.latency_trace == ((0.0, 105.0),)
    assert player.profile.down.loss == 0.25
    assert player.profile.down.bandwidth_kbit_s == player.profile.up.bandwidth_kbit_s == 64.0
    assert other.profile.down.loss == 0.0
    assert other.profile.down.latency_ms == 110.0

    end(late, cluster)
    assert player.profile.down.latency_ms == 10.0
    assert player.profile.down.loss == 0.25
    end(slow, cluster)
    end(lossy, cluster)
    assert player.profile == other.profile == LINE


def test_the_end_of_one_partition_does_not_end_another(cluster: Cluster) -> None:
    player = cluster.players[0]
    whole, down = Fault("partition", 0.0, 1.0, "client-0"), Fault("one_way", 0.0, 1.0, None, "down")
    begin(whole, cluster)
    begin(down, cluster)
    before = player.version

    end(whole, cluster)
    cluster.run(1.0)
    assert player.version == before

    end(down, cluster)
    cluster.each_tick(lambda one: one.send("steer", dx=one.random.random(), dy=0.0))
    cluster.run(1.0)
    assert player.version > before


def test_one_who_churns_leaves_and_another_comes(cluster: Cluster) -> None:
    churn = Fault("churn", 0.0, 1.0, "client-0")

    begin(churn, cluster)
    cluster.run(0.5)
    assert cluster.players[0].gone
    assert len(cluster.live_players) == 1
    end(churn, cluster)
    cluster.run(0.5)

    assert [player.name for player in cluster.live_players] == ["client-1", "client-0+1"]
    again = Fault("churn", 0.0, 1.0)
    begin(again, cluster)
    end(again, cluster)
    cluster.run(0.5)
    assert [player.name for player in cluster.live_players] == ["client-1+1", "client-0+2"]


def test_a_crowd_comes_and_goes(cluster: Cluster) -> None:
    crowd = Fault("mass_join", 0.0, 1.0, None, 4)

    begin(crowd, cluster)
    cluster.run(0.5)
    assert len(cluster.live_players) == 6
    end(crowd, cluster)
    cluster.run(0.5)

    assert len(cluster.live_players) == 2


def test_what_is_done_to_somebody_who_is_gone_is_done_to_nobody(cluster: Cluster) -> None:
    cluster.leave(cluster.players[0])
    cluster.run(0.5)

    for kind, spec in KINDS.items():
        if spec.on == "player":
            fault = Fault(kind, 0.0, 0.5 if spec.lasts else 0.0, "client-0")
            begin(fault, cluster)
            end(fault, cluster)
    cluster.run(0.5)

    assert [player.name for player in cluster.live_players] == ["client-1"]
    cluster.assert_converged()


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("transport", ["stream", "datagram"])
def test_after_every_fault_everybody_agrees_again(kind: str, transport: Any) -> None:
    """Each kind alone, to everybody, on a line that has everything else in order."""
    spec = KINDS[kind]
    fault = Fault(kind, 0.5, 1.0 if spec.lasts else 0.0)
    with Cluster(arena(), clients=3, profile="wifi", transport=transport, seed=5, faults=[fault]) as cluster:
        cluster.each_tick(lambda one: one.send("steer", dx=one.random.random(), dy=0.0))
        cluster.run(2.0)

        assert cluster.fault_counts == {kind: 1}
        cluster.assert_converged()


def test_faults_of_a_schedule_begin_and_end_at_their_times() -> None:
    faults = [Fault("stall", 0.5, 0.25, "client-0"), Fault("partition", 1.0, 5.0)]
    with Cluster(arena(), clients=2, profile="lan", seed=5, faults=faults) as cluster:
        cluster.run(2.0)
        spans = cluster.recording.faults
        assert [(span.kind, span.who) for span in spans] == [("stall", "client-0"), ("partition", "")]
        assert spans[0].begin_s == pytest.approx(0.5, abs=0.05)
        assert spans[0].end_s == pytest.approx(0.75, abs=0.05)

        cluster.assert_converged()
        assert cluster.recording.faults[1].end_s < 2.1, "at rest all faults end"
