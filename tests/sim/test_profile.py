"""A link profile is possible, or it is refused with the place and the reason."""

import math
import pickle
from pathlib import Path
from typing import Any

import pytest

from ecsnet.errors import ConfigError, UnknownNameError
from ecsnet.sim.profile import Direction, Profile, profile, profile_names


def file(folder: Path, text: str) -> Path:
    path = folder / "line.toml"
    path.write_text(text)
    return path


# --- those that come with ecsnet --------------------------------------------------------------------------------------


def test_all_lines_are_there_and_name_their_sources() -> None:
    names = profile_names()

    assert {"lan", "broadband", "wifi", "bad-wifi", "4g", "5g", "satellite", "congested", "train", "perfect"} == set(
        names
    )
    for name in names:
        assert profile(name).name == name
        assert len(profile(name).source) > 40, name


def test_a_perfect_line_does_nothing_at_all() -> None:
    perfect = profile("perfect")

    assert perfect.down == perfect.up == Direction()
    assert perfect.clock_offset_ms == perfect.clock_drift_ppm == 0


def test_worse_lines_have_worse_numbers() -> None:
    def delay(name: str) -> float:
        line = profile(name).down
        return line.latency_ms + (line.jitter_ms if line.jitter != "uniform" else 0)

    delays = [delay(name) for name in ("lan", "broadband", "wifi", "5g", "4g", "bad-wifi", "train", "congested")]

    assert delays == sorted(delays)
    assert delay("satellite") > 280


def test_a_name_that_is_almost_right_is_answered_with_the_right_one() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'bad-wifi'"):
        profile("bad_wifi")


def test_a_profile_that_is_given_is_taken_as_it_is() -> None:
    own = Profile(name="own", down=Direction(latency_ms=3.0))

    assert profile(own) is own
    assert pickle.loads(pickle.dumps(own)) == own


# --- one's own --------------------------------------------------------------------------------------------------------


def test_a_file_is_read_with_what_both_ways_have_in_common(tmp_path: Path) -> None:
    path = file(
        tmp_path,
        """
        name = "office"
        source = "ping, March"
        clock_offset_ms = 20
        [both]
        latency_ms = 12
        loss = 0.01
        [up]
        loss = 0.02
        bandwidth_kbit_s = 500
        """,
    )

    for given in (path, str(path)):
        office = profile(given)
        assert (office.name, office.source, office.clock_offset_ms) == ("office", "ping, March", 20)
        assert office.down == Direction(latency_ms=12, loss=0.01)
        assert office.up == Direction(latency_ms=12, loss=0.02, bandwidth_kbit_s=500)


def test_a_recorded_line_is_read_from_beside_the_profile(tmp_path: Path) -> None:
    (tmp_path / "line.csv").write_text("at_s,latency_ms\n# from my window\n0,20\n0.5, 25.5\n\n1,30\n")
    path = file(tmp_path, 'name = "mine"\n[both]\nlatency_trace_file = "line.csv"\n')

    assert profile(path).down.latency_trace == ((0.0, 20.0), (0.5, 25.5), (1.0, 30.0))


@pytest.mark.parametrize(
    ("text", "line", "key", "reason"),
    [
        ("[both]\nloss = 0.1\n", None, "name", "missing"),
        ("name = 3\n", 1, "name", "expected a text, found 3"),
        ('name = "x"\n[both]\n\nloss = 1.5\n', 4, "both.loss", "in [0, 1], found 1.5"),
        ('name = "x"\n[both]\nloss = 0.5\n[down]\nlatency_ms = 3\n[up]\nloss = -1\n', 7, "up.loss", "found -1"),
        ('name = "x"\n[both]\nlos = 0.5\n', 3, "both.los", "did you mean loss"),
        ('name = "x"\n[sideways]\n', 2, "sideways", "unknown key"),
        ('name = "x"\nboth = 3\n', 2, "both", "expected a table"),
        ('name = "x"\n[down]\nlatency_ms = nan\n', 3, "down.latency_ms", "found nan"),
        ('name = "x"\n[down]\nlatency_ms = "fast"\n', 3, "down.latency_ms", "found 'fast'"),
        ('name = "x"\n[down]\nlatency_ms = true\n', 3, "down.latency_ms", "found True"),
        ('name = "x"\nclock_drift_ppm = inf\n', 2, "clock_drift_ppm", "found inf"),
        ('name = "x"\n[down]\njitter = "gauss"\n', 3, "down.jitter", "expected one of"),
        ('name = "x"\n[down]\nlatency_trace = []\n', 3, "down.latency_trace", "expected samples"),
        (
            'name = "x"\n[down]\nlatency_trace = [[0, 1], [0, 2]]\n',
            3,
            "down.latency_trace",
            "not after the sample before",
        ),
        ('name = "x"\n[down]\nlatency_trace = [[1, 1]]\n', 3, "down.latency_trace", "must be at 0 s"),
        ('name = "x"\n[down]\nlatency_trace_file = "none.csv"\n', 3, "down.latency_trace_file", "cannot read"),
        ('name = "x"\n[down]\nlatency_trace_file = 7\n', 3, "down.latency_trace_file", "the name of a file"),
        ('name = "x"\n[down\n', 2, "", "not TOML"),
        ("a = " + "[" * 400 + "]" * 400, None, "a", "unknown key"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_place(
    tmp_path: Path, text: str, line: int | None, key: str, reason: str
) -> None:
    path = file(tmp_path, text)

    with pytest.raises(ConfigError) as raised:
        profile(path)

    error = raised.value
    assert (error.source, error.line, error.key) == (str(path), line, key)
    assert reason in str(error)


@pytest.mark.parametrize(
    ("rows", "line", "reason"),
    [
        ("", None, "holds no sample"),
        ("at_s,latency_ms\n0,20\n0.5\n", 3, "expected at_s,latency_ms"),
        ("0,20\n0.5,fast\n", 2, "expected a number, found 'fast'"),
        ("0,20\n0.5,-3\n", 2, "found -3"),
        ("0,20\n0.5,nan\n", 2, "expected a number"),
        ("0.5,20\n", 1, "must be at 0 s"),
        ("0,20\n2,30\n1,30\n", 3, "not after the sample before it"),
    ],
)
def test_what_is_wrong_in_a_recorded_line_is_told_with_its_place(
    tmp_path: Path, rows: str, line: int | None, reason: str
) -> None:
    csv = tmp_path / "line.csv"
    csv.write_text(rows)
    path = file(tmp_path, 'name = "x"\n[both]\nlatency_trace_file = "line.csv"\n')

    with pytest.raises(ConfigError) as raised:
        profile(path)

    assert reason in str(raised.value)
    if line is not None:
        assert (raised.value.source, raised.value.line) == (str(csv), line)


def test_a_file_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the profile"):
        profile(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot read the profile"):
        profile(tmp_path / "binary.toml")


# --- what is impossible -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("loss", {"loss": 1.01}),
        ("loss", {"loss": math.nan}),
        ("latency_ms", {"latency_ms": -1}),
        ("latency_ms", {"latency_ms": math.inf}),
        ("latency_ms", {"latency_ms": "3"}),
        ("jitter_ms", {"latency_ms": 5, "jitter_ms": 6}),
        ("jitter_correlation", {"jitter_correlation": 1.0}),
        ("jitter_correlation", {"jitter_correlation": -0.1}),
        ("reorder", {"reorder": 0.1}),
        ("burst_ends", {"burst_begins": 0.1, "burst_ends": 0.0}),
        ("bandwidth_kbit_s", {"bandwidth_kbit_s": 0}),
        ("queue_ms", {"bandwidth_kbit_s": 100, "queue_ms": 0.0}),
        ("queue_bytes", {"queue_bytes": 5000}),
        ("queue_bytes", {"bandwidth_kbit_s": 100, "queue_bytes": 100}),
        ("drop_policy", {"drop_policy": "all"}),
        ("mtu_bytes", {"mtu_bytes": 40}),
        ("mtu_bytes", {"mtu_bytes": 1500.0}),
        ("outage_s", {"outage_s": 1.0}),
        ("outage_s", {"outage_every_s": 1.0}),
        ("outage_s", {"outage_every_s": 2.0, "outage_s": 2.0}),
        ("latency_trace", {"latency_trace": ((0.0, 5.0), (1.0,))}),
        ("latency_trace", {"latency_trace": ((0.0, math.nan),)}),
    ],
)
def test_an_impossible_direction_cannot_be_made(key: str, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as raised:
        Direction(**values)

    assert raised.value.key == key


def test_every_number_has_a_bound() -> None:
    """A line of a thousand years would overflow the times that are computed with it."""
    for key in Direction.__struct_fields__:
        if isinstance(getattr(Direction(), key), float) or key == "bandwidth_kbit_s":
            with pytest.raises(ConfigError):
                Direction(**{key: 1e300})
