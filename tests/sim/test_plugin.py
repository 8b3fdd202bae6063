"""The pytest plugin, as somebody who writes a game meets it: what a failing lag test prints, and that it is true."""

import json
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

# Before pytest runs inside of pytest: what is imported in there is forgotten again, and numpy cannot be loaded twice.
import ecsnet.demo.arena  # noqa: F401
import ecsnet.sim.testing as testing

pytest_plugins = ["pytester"]

IS_REGISTERED = any(point.value == "ecsnet.sim.pytest_plugin" for point in entry_points(group="pytest11"))

PRELUDE = """
import pytest
from ecsnet.demo.arena import world
from ecsnet.sim import Fault, GameModel

class Wrong(GameModel):
    "Has another world than the node: a violation that needs no bug."
    def differences(self, view):
        return ["it is all wrong"] if view.version > 40 else []

def steer(player):
    player.send("steer", dx=0.5, dy=0.5)
"""


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    own = [] if IS_REGISTERED else ["-p", "ecsnet.sim.pytest_plugin"]
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", *own, *arguments)


def made(pytester: pytest.Pytester, text: str, *arguments: str) -> pytest.RunResult:
    """The result of a test file with this text."""
    pytester.makepyfile(test_game=PRELUDE + text)
    return run(pytester, *arguments)


def section(result: pytest.RunResult) -> list[str]:
    """The lines of ours, without the heading."""
    lines = result.outlines
    begin = next(number for number, line in enumerate(lines) if "- ecsnet simulation -" in line)
    end = next(number for number in range(begin + 1, len(lines)) if lines[number].startswith(("---", "===", "___")))
    return lines[begin + 1 : end]


LATE = """
def test_ships_are_shown_in_time(ecsnet_cluster):
    cluster = ecsnet_cluster(world, clients=4, profile="bad-wifi", seed=7)
    cluster.each_tick(steer)
    cluster.run(seconds=4)
    assert cluster.lag("transform").p99_ms < 5
    cluster.assert_converged()
"""


def test_a_good_game_passes(pytester: pytest.Pytester) -> None:
    result = made(
        pytester,
        """
def test_players_agree(ecsnet_cluster):
    cluster = ecsnet_cluster(world, clients=4, profile="bad-wifi", seed=7)
    cluster.each_tick(steer)
    cluster.run(seconds=4)
    assert cluster.lag("transform").p99_ms < 1000
    assert cluster.bytes_per_client_s < 10_000
    cluster.assert_converged()
""",
    )

    result.assert_outcomes(passed=1)


def test_a_failure_says_what_was_asserted_how_to_replay_it_and_what_is_enough_for_it(
    pytester: pytest.Pytester,
) -> None:
    result = made(pytester, LATE)

    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines(
        [
            r"E +assert lag p99 of transform is [\d.]+ ms, expected < 5 ms",
            r"E +seed 7, bad-wifi, 4 clients, 4 s: p50 [\d.]+ ms, p99 [\d.]+ ms, max [\d.]+ ms \(\d+ samples\)",
        ]
    )
    run_line, replay, shrunk, command = section(result)
    assert run_line.startswith("run      seed 7, bad-wifi, 4 clients, 4 s: lag p50 ")
    assert replay == "replay   pytest test_game.py::test_ships_are_shown_in_time --ecsnet-seed=7"
    assert shrunk.startswith("shrunk   also fails with 1 client, no faults, 0.")
    assert command.startswith(replay.replace("replay", "      ") + " --ecsnet-clients=1 --ecsnet-seconds=0.")


def test_the_commands_that_a_failure_prints_fail_likewise(pytester: pytest.Pytester) -> None:
    lines = section(made(pytester, LATE))
    commands = [line[9:].split()[1:] for line in lines if "pytest " in line]

    assert len(commands) == 2
    for command in commands:
        again = run(pytester, *command, "--ecsnet-no-shrink")
        again.assert_outcomes(failed=1)
        again.stdout.re_match_lines([r"E +assert lag p99 of transform is [\d.]+ ms, expected < 5 ms"])


def test_a_violation_fails_a_test_whose_own_assertions_hold(pytester: pytest.Pytester) -> None:
    result = made(
        pytester,
        """
def test_nothing_much(ecsnet_cluster):
    cluster = ecsnet_cluster(world, clients=3, seed=2, model=Wrong())
    cluster.each_tick(steer)
    cluster.run(seconds=3)
    assert cluster.now_s == 3
""",
    )

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "the network checkers found what must never happen:",
            "  tick * s) [[]model[]] the node, version *: it is all wrong",
        ]
    )
    lines = section(result)
    assert lines[2].startswith("shrunk   also fails with 1 client, no faults, 1.")
    # The shorter run breaks the test's own assertion first, and still says what is wrong.
    again = run(pytester, *lines[3].split()[1:])
    again.assert_outcomes(failed=1)
    assert any("[model] the node, version" in line for line in section(again))


def test_only_the_fault_that_matters_is_left(pytester: pytest.Pytester) -> None:
    result = made(
        pytester,
        """
def test_nobody_is_ever_behind(ecsnet_cluster):
    faults = [Fault("drop", 0.6, 0.0, "client-2"), Fault("stall", 1.0, 0.5, "client-0"), Fault("clock_jump", 2.0)]
    cluster = ecsnet_cluster(world, clients=3, faults=faults, seed=4)
    cluster.each_tick(steer)
    cluster.run(seconds=4)
    assert cluster.lag().max_ms < 300
""",
    )

    result.assert_outcomes(failed=1)
    lines = section(result)
    assert lines[0].startswith("run      seed 4, lan, 3 clients, 3 faults, 4 s")
    assert lines[2].startswith("shrunk   also fails with 1 client, 1 fault, 1.")
    assert "--ecsnet-clients=1 --ecsnet-faults=2 --ecsnet-seconds=1." in lines[3]
    run(pytester, *lines[3].split()[1:]).assert_outcomes(failed=1)
    run(pytester, "--ecsnet-faults=1,3").assert_outcomes(passed=1)
    run(pytester, "--ecsnet-faults=none").assert_outcomes(passed=1)


def test_options_replace_what_the_test_gives(pytester: pytest.Pytester) -> None:
    result = made(
        pytester,
        """
def test_it(ecsnet_cluster):
    cluster = ecsnet_cluster(world, clients=5, seed=1)
    cluster.run(seconds=10)
    assert (cluster.seed, cluster.profile.name, len(cluster.players), cluster.now_s) == (9, "4g", 3, 0.5)
    cluster.run(seconds=10)
    assert cluster.now_s == 0.5
""",
        "--ecsnet-seed=9",
        "--ecsnet-profile=4g",
        "--ecsnet-clients=3",
        "--ecsnet-seconds=0.5",
    )

    result.assert_outcomes(passed=1)


def test_what_was_given_on_the_command_line_is_in_the_command(pytester: pytest.Pytester) -> None:
    """Or the line that replays a failure would replay another run."""
    result = made(pytester, LATE, "--ecsnet-profile=satellite", "--ecsnet-clients=2", "--ecsnet-no-shrink")

    replay = next(line for line in section(result) if line.startswith("replay"))
    assert replay.endswith("--ecsnet-seed=7 --ecsnet-profile=satellite --ecsnet-clients=2")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--ecsnet-seed=-1", "--ecsnet-seed is -1"),
        ("--ecsnet-seed=seven", "invalid int value: 'seven'"),
        ("--ecsnet-clients=100000", "--ecsnet-clients is 100000"),
        ("--ecsnet-seconds=nan", "--ecsnet-seconds is nan"),
        ("--ecsnet-profile=bad-wfi", "did you mean 'bad-wifi'"),
        ("--ecsnet-faults=all", "--ecsnet-faults is 'all'"),
        ("--ecsnet-faults=0", "--ecsnet-faults is '0'"),
    ],
)
def test_an_impossible_option_is_refused_at_once(pytester: pytest.Pytester, option: str, message: str) -> None:
    result = made(pytester, LATE, option)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{message}*"])


def test_a_failure_that_does_not_come_from_the_seed_is_told_apart(pytester: pytest.Pytester) -> None:
    result = made(
        pytester,
        """
runs = []

def test_it(ecsnet_cluster):
    cluster = ecsnet_cluster(world)
    cluster.run(seconds=1)
    runs.append(cluster)
    assert len(runs) > 1
""",
    )

    result.assert_outcomes(failed=1)
    assert "not shrunk: run again with the same seed it passed. Something does not come from the seed" in "\n".join(
        section(result)
    )


def test_runs_that_differ_though_both_fail_are_told(pytester: pytest.Pytester) -> None:
    result = made(
        pytester,
        """
import itertools
numbers = itertools.count()

def test_it(ecsnet_cluster):
    cluster = ecsnet_cluster(world)
    cluster.each_tick(lambda player: player.send("steer", dx=next(numbers) % 2, dy=0.0))
    cluster.step(1 + next(numbers))
    cluster.run(seconds=2)
    assert False
""",
    )

    assert any(line.startswith("note     two runs with this seed went different ways") for line in section(result))


def test_shrinking_can_be_switched_off(pytester: pytest.Pytester) -> None:
    result = made(pytester, LATE, "--ecsnet-no-shrink")

    assert section(result)[1:] == [
        "replay   pytest test_game.py::test_ships_are_shown_in_time --ecsnet-seed=7",
        "not shrunk: it was asked not to be",
    ]


def test_what_the_other_runs_print_is_not_shown(pytester: pytest.Pytester) -> None:
    result = made(pytester, LATE.replace("cluster.each_tick", "print('once upon a time'); cluster.each_tick"), "-s")

    assert result.stdout.str().count("once upon a time\n") == 1


def test_a_second_run_that_skips_or_raises_otherwise_leaves_the_verdict(pytester: pytest.Pytester) -> None:
    result = made(
        pytester,
        """
runs = []

@pytest.mark.parametrize("how", ["skip", "raise", "exit loop"])
def test_it(ecsnet_cluster, how):
    cluster = ecsnet_cluster(world, clients=1)
    cluster.run(seconds=0.5)
    runs.append(how)
    if runs.count(how) > 1:
        pytest.skip("not today") if how == "skip" else 1 / 0 if how == "raise" else None
    assert how == "good"
""",
    )

    result.assert_outcomes(failed=3)
    text = result.stdout.str()
    assert "with the same seed it failed otherwise (Skipped in line " in text
    assert "with the same seed it failed otherwise (ZeroDivisionError in line " in text
    assert "pytest 'test_game.py::test_it[exit loop]' --ecsnet-seed=0" in text


def test_a_run_that_takes_long_is_not_run_again(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testing, "WALL_S_MAX", 0.01)

    result = made(pytester, LATE)

    result.assert_outcomes(failed=1)
    assert section(result)[-1].startswith("not shrunk: one run takes ")


def test_the_time_for_shrinking_ends_a_run_in_its_middle(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even one that catches every Exception."""
    monkeypatch.setattr(testing, "WALL_S_MAX", 1.0)
    result = made(
        pytester,
        """
runs = []

def test_it(ecsnet_cluster):
    cluster = ecsnet_cluster(world, clients=1)
    runs.append(cluster)
    try:
        cluster.run(seconds=0.2 if len(runs) == 1 else 10_000)
    except Exception:
        pass
    assert False
""",
    )

    result.assert_outcomes(failed=1)
    assert section(result)[-1] == "not shrunk: a second run took more than 1 s"


def test_a_search_that_goes_wrong_hides_nothing(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug in here")

    monkeypatch.setattr(testing, "shrink", broken)

    result = made(pytester, LATE)

    result.assert_outcomes(failed=1)
    assert section(result)[1:] == [
        "replay   pytest test_game.py::test_ships_are_shown_in_time --ecsnet-seed=7",
        "not shrunk: RuntimeError('a bug in here')",
    ]


def test_several_seeds_in_one_test_are_replayed_by_the_last(pytester: pytest.Pytester) -> None:
    result = made(
        pytester,
        """
def test_it(ecsnet_cluster):
    for seed in range(10):
        cluster = ecsnet_cluster(world, clients=1, seed=seed)
        cluster.run(seconds=0.2)
        cluster.close()
        assert cluster.seed != 3
""",
    )

    lines = section(result)
    assert "replay   pytest test_game.py::test_it --ecsnet-seed=3" in lines
    assert lines[0].startswith("run      seed 1,")


def test_a_cluster_from_a_fixture_of_ones_own_is_shrunk_too(pytester: pytest.Pytester) -> None:
    """As a game with many tests has it. Other fixtures are not touched."""
    result = made(
        pytester,
        """
made, closed, others = [], [], []

@pytest.fixture
def other():
    others.append(1)
    yield
    others.append(-1)

@pytest.fixture
def played(ecsnet_cluster, other):
    cluster = ecsnet_cluster(world, clients=4, profile="wifi", seed=3)
    cluster.each_tick(steer)
    made.append(cluster)
    yield cluster
    closed.append(cluster)

def test_it(played):
    played.run(seconds=3)
    assert played.lag().max_ms < 1

def test_all_was_put_away():
    assert made == closed
    assert len(made) > 3
    assert others == [1, -1]
""",
    )

    result.assert_outcomes(failed=1, passed=1)
    lines = section(result)
    assert lines[0].startswith("run      seed 3, wifi, 4 clients, 3 s: lag p50 ")
    assert lines[2].startswith("shrunk   also fails with 1 client, no faults, 0.")


def test_an_expected_failure_is_run_once(pytester: pytest.Pytester) -> None:
    result = made(
        pytester,
        """
runs = []

@pytest.mark.xfail
def test_it(ecsnet_cluster):
    runs.append(ecsnet_cluster(world))
    assert False

def test_how_often():
    assert len(runs) == 1
""",
    )

    result.assert_outcomes(xfailed=1, passed=1)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("async def test_it(ecsnet_cluster):\n    cluster = ecsnet_cluster(world)\n    assert False", "an async test"),
        (
            "from hypothesis import example, given, settings, HealthCheck, Phase, strategies as st\n"
            "@settings(suppress_health_check=list(HealthCheck), database=None, phases=[Phase.explicit])\n"
            "@example(1)\n"
            "@given(st.integers())\n"
            "def test_it(ecsnet_cluster, n):\n    ecsnet_cluster(world).close()\n    assert False",
            "hypothesis shrinks",
        ),
    ],
)
def test_what_must_not_be_called_twice_is_not(pytester: pytest.Pytester, text: str, why: str) -> None:
    result = made(pytester, text, "-o", "trio_mode=true")

    result.assert_outcomes(failed=1)
    assert section(result)[-1].startswith(f"not shrunk: {why}")


def test_tests_without_the_fixture_are_left_alone(pytester: pytest.Pytester) -> None:
    result = made(pytester, "def test_it():\n    assert 1.5 < 1\n\ndef test_other():\n    assert 'a' == 'b'")

    result.assert_outcomes(failed=2)
    result.stdout.no_fnmatch_line("*ecsnet simulation*")
    result.stdout.no_fnmatch_line("*--ecsnet-*")


def test_a_class_of_tests_and_a_world_for_many_clusters(pytester: pytest.Pytester) -> None:
    """The world of a game is one object, sealed when it first runs."""
    result = made(
        pytester,
        """
class TestArena:
    hashes = []

    @pytest.mark.parametrize("seed", [1, 1, 2])
    def test_it(self, ecsnet_cluster, seed):
        cluster = ecsnet_cluster(world, seed=seed, profile="wifi")
        cluster.each_tick(steer)
        cluster.run(seconds=1)
        cluster.assert_converged()
        self.hashes.append(cluster.trace_hash)

    def test_equal_seeds_are_equal_runs(self):
        one, same, other = self.hashes
        assert one == same != other
""",
    )

    result.assert_outcomes(passed=4)


def test_the_plugin_costs_a_start_of_pytest_nothing() -> None:
    """It is loaded in every project of the environment, whether that knows ecsnet or not."""
    code = "import json, sys, ecsnet.sim.pytest_plugin; print(json.dumps(sorted(sys.modules)))"

    loaded = set(json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout))

    assert not loaded & {"numpy", "msgspec", "trio", "mmh3", "capnp", "ecsnet._kernel", "ecsnet.sim.testing"}
    assert {name for name in loaded if name.startswith("ecsnet")} == {
        "ecsnet",
        "ecsnet._version",
        "ecsnet.sim",
        "ecsnet.sim.pytest_plugin",
    }


def test_it_is_found_without_being_named(pytester: pytest.Pytester) -> None:
    """As a user has it: installed, and nothing in a conftest."""
    if not IS_REGISTERED:
        pytest.fail("the plugin is not registered: pip install -e '.[dev]' makes the entry point")
    pytester.makepyfile(PRELUDE + "def test_it(ecsnet_cluster):\n    ecsnet_cluster(world).run(seconds=0.1)")

    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_a_figure_is_a_number_like_any_other() -> None:
    import pickle

    lag = testing.Figure(312.44, "lag p99", "ms", "seed 7")

    assert lag > 250
    assert lag + 1 == pytest.approx(313.44)
    assert repr(lag) == "312.4 ms"
    assert pickle.loads(pickle.dumps(lag)).what == "lag p99"
    assert testing.explain_comparison("<", lag, 250) == ["lag p99 is 312.4 ms, expected < 250 ms", "seed 7"]
    assert testing.explain_comparison(">", 250, lag) == ["lag p99 is 312.4 ms, expected < 250 ms", "seed 7"]
    assert testing.explain_comparison("in", lag, [1]) is None
    assert testing.explain_comparison("<", 1, 2) is None
    nobody = testing.Figure(float("nan"), "lag p99", "ms", "seed 7")
    assert testing.explain_comparison("<", nobody, 250) == [
        "lag p99 is unknown, expected < 250 ms",
        "no samples: seed 7",
    ]


def test_a_world_that_is_none_is_refused_by_name(pytester: pytest.Pytester) -> None:
    result = made(pytester, '\ndef test_it(ecsnet_cluster):\n    ecsnet_cluster("arena")\n')

    result.stdout.fnmatch_lines(["E*ArgumentError: ecsnet_cluster takes a World, not 'arena'; import it from the game"])
