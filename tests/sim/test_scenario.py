"""Scenarios as values: what they leave open, what they refuse, and that every way to write one says the same."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecsnet.errors import ArgumentError, ConfigError
from ecsnet.sim.faults import Fault
from ecsnet.sim.scenario import FORMAT, TRANSPORTS, Scenario, read_scenario, scenario_of

SCENARIOS = st.builds(
    Scenario,
    seed=st.integers(0, 2**63 - 1),
    profile=st.sampled_from([None, "lan", "train"]),
    transport=st.sampled_from([None, *TRANSPORTS]),
    clients=st.none() | st.integers(0, 50),
    entities=st.none() | st.integers(0, 10_000),
    moving=st.none() | st.floats(0, 1),
    seconds=st.floats(1, 60),
    hz=st.none() | st.integers(1, 1000),
    swarm=st.booleans(),
    hostile=st.integers(0, 3),
)


@given(SCENARIOS)
def test_json_gives_the_same_scenario_back(scenario: Scenario) -> None:
    assert scenario_of(json.loads(scenario.to_json()), source="here") == scenario


@given(SCENARIOS)
def test_a_settled_scenario_is_settled(scenario: Scenario) -> None:
    """What runs is what is shrunk and replayed: nothing of it may be drawn once more."""
    settled = scenario.settled()

    assert settled.settled() == settled
    assert None not in (settled.profile, settled.transport, settled.clients, settled.entities, settled.moving)


def test_a_swarm_settles_by_its_seed_alone() -> None:
    swarm = [Scenario(swarm=True, seed=seed) for seed in range(1, 30)]

    assert [one.settled() for one in swarm] == [one.settled() for one in swarm]
    settled = [one.settled() for one in swarm]
    assert {one.transport for one in settled} == set(TRANSPORTS)
    assert len({one.profile for one in settled}) > 5
    assert len({one.faults for one in settled}) > 25


def test_giving_one_thing_leaves_what_a_swarm_draws_otherwise() -> None:
    """`--swarm --seed 7 --entities 3` is seed 7 with three entities, not another seed."""
    drawn = Scenario(swarm=True, seed=7).settled()

    given_one = Scenario(swarm=True, seed=7, entities=3).settled()

    assert given_one == drawn.with_(entities=3)


def test_without_a_swarm_nothing_goes_wrong_by_itself() -> None:
    assert Scenario(seed=7).settled().faults == ()


def test_a_file_in_toml_and_one_in_json_say_the_same(tmp_path: Path) -> None:
    as_toml, as_json = tmp_path / "loss.toml", tmp_path / "loss.json"
    as_toml.write_text(
        'seed = 3\nprofile = "4g"\nseconds = 12.5\n[[faults]]\nkind = "partition"\nat_s = 2.0\nfor_s = 1.5\n'
        'who = "client-1"\n'
    )
    scenario = Scenario(seed=3, profile="4g", seconds=12.5, faults=(Fault("partition", 2.0, 1.5, "client-1"),))
    as_json.write_text(scenario.to_json())

    assert read_scenario(as_toml) == read_scenario(as_json) == scenario


def test_a_scenario_of_another_format_is_refused(tmp_path: Path) -> None:
    """A seed that now means another run would pass, and say nothing about the bug that it was kept for."""
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps({"format": FORMAT + 1, "seed": 7}))

    with pytest.raises(ConfigError, match=rf"kept\.json: this scenario is of format {FORMAT + 1}.*has {FORMAT}"):
        read_scenario(kept)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"clinets": 3}, "clinets: no such option of a scenario\n  hint: did you mean 'clients'"),
        ({"clients": "three"}, "clients: Expected `int | null`, got `str`"),
        ({"clients": -1}, r"clients is -1; it must be in \[0, 4096\]"),
        ({"seconds": -0.5}, "seconds is -0.5"),
        ({"moving": 1.5}, "moving is 1.5"),
        ({"hz": 0}, "hz is 0"),
        ({"seed": -7}, "seed is -7"),
        ({"transport": "pigeon"}, "pigeon"),
        ({"faults": [{"kind": "dorp", "at_s": 1.0}]}, "did you mean 'drop'"),
        ({"faults": [{"kind": "drop", "at_s": 1.0}, {"kind": "drop", "at_s": -1.0}]}, r"bad.json: faults\[1\].at_s: "),
        ({"swarm": True, "faults": [{"kind": "drop", "at_s": 1.0}]}, "a swarm draws its faults"),
        ({"play": "arena:play"}, "setup and play belong to a world"),
        ([], "a scenario is a table of options, not list"),
    ],
)
def test_what_makes_no_run_is_refused_with_its_place(given_: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        scenario_of(given_, source="bad.json")

    assert refused.value.source == "bad.json"


def test_a_bound_is_said_with_all_its_digits() -> None:
    with pytest.raises(ArgumentError, match=rf"seed is {2**63}; it must be in \[0, {2**63 - 1}\]"):
        Scenario(seed=2**63)


@pytest.mark.parametrize("swarm", [False, True])
def test_what_only_the_default_world_has_is_not_settled_for_another(swarm: bool) -> None:
    """Its command would be refused: `--entities` fills the default world."""
    settled = Scenario(swarm=swarm, world="arena:world").settled()

    assert (settled.entities, settled.moving) == (None, None)
    assert "--entities" not in settled.command()


def test_a_nan_is_no_number_of_seconds() -> None:
    with pytest.raises(ArgumentError, match="seconds is nan"):
        Scenario(seconds=float("nan"))


@pytest.mark.parametrize(("name", "text"), [("a.json", "{"), ("a.toml", "= 3"), ("none.json", None)])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, text: str | None) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)

    with pytest.raises(ConfigError, match=name):
        read_scenario(path)


def test_a_fault_beyond_the_end_is_refused_before_the_run() -> None:
    with pytest.raises(ConfigError, match="at_s.*40 s"):
        Scenario(seconds=30, faults=(Fault("drop", 40.0),)).settled()


def test_the_command_names_only_what_is_not_the_default() -> None:
    faults = (Fault("drop", 1.0, 0.0, "client-0"),)

    assert Scenario(seed=7, swarm=True, seconds=30.0).command() == "ecsnet sim --swarm --seed 7"
    assert Scenario(clients=3, seconds=2.5, profile="my lines.toml", faults=faults).command() == (
        "ecsnet sim --seed 0 --profile 'my lines.toml' --clients 3 --seconds 2.5 "
        """--faults '[{"kind":"drop","at_s":1.0,"who":"client-0"}]'"""
    )
