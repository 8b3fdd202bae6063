"""Reports of runs: a page and pictures that come out of any recording, and show what was in it."""

import math
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecsnet.errors import ArgumentError, MissingExtraError
from ecsnet.sim.recording import FaultSpan, LagSample, PlayerRecording, Recording, Violation
from ecsnet.sim.report import write_html, write_png
from ecsnet.sim.report.charts import Faults, PlayerRows, Strip, charts_of, runs_of
from ecsnet.sim.report.headline import key_figures, verdict
from ecsnet.sim.report.lanes import fault_lanes, shades
from ecsnet.sim.report.reading import Reading, read, times_of
from ecsnet.sim.report.scales import Scale, linear_scale, ms_text, plus_one_scale, ratio_scale, time_scale

CHARTS = ["faults", "lag", "behind", "queue", "bytes", "players", "distribution", "by-player", "tables"]


def recorded_run(
    *,
    seed: int = 7,
    players: int = 4,
    seconds: float = 6.0,
    hz: int = 60,
    lag_ms: float = 70.0,
    profile: str = "bad-wifi",
    faults: bool = True,
    violations: tuple[Violation, ...] = (),
) -> Recording:
    """A run as a cluster would record it: lag that wanders and spikes, a partition of all, and a stall, a slow time and
    a leave of one player each."""
    random = Random(f"{seed}/recorded run")
    spans = [
        FaultSpan("partition", seconds * 0.2, seconds * 0.3),
        FaultSpan("stall", seconds * 0.5, seconds * 0.6, "client-2"),
        FaultSpan("latency_spike", seconds * 0.55, seconds * 0.7, "client-1"),
        FaultSpan("churn", seconds * 0.7, seconds * 0.8, "client-3"),
        FaultSpan("churn", seconds * 0.75, seconds * 0.85, "client-1"),
    ]
    recording = Recording(
        title=f"Arena on {profile}",
        seed=seed,
        hz=hz,
        virtual_s=seconds,
        profile=profile,
        converged=not violations,
        versions=int(seconds * hz),
        ticks=int(seconds * hz),
        faults=spans if faults else [],
        violations=list(violations),
        bytes_by_table={"position": 1_830_000, "velocity": 840_100, "health": 1_204},
        notes={"replay": f"ecsnet sim --profile {profile} --seed {seed}", "trace_hash": "0dd1f8c2"},
    )
    for number in range(1, players + 1):
        player = PlayerRecording(name=f"client-{number}", profile=profile)
        mine = [span for span in recording.faults if span.who in ("", player.name)]
        own_ms, jitter_ms = lag_ms * random.uniform(0.7, 1.4), 0.0
        leaves = [span for span in mine if span.kind == "churn"]
        player.stays = [(0.1, leaves[0].begin_s), (leaves[0].end_s, seconds)] if leaves else [(0.1, seconds)]
        player.bytes_down, player.bytes_up = [0] * math.ceil(seconds), [0] * math.ceil(seconds)
        arrived: list[LagSample] = []
        for tick in range(int(seconds * hz)):
            at_s = tick / hz
            if not any(since <= at_s < to for since, to in player.stays):
                continue
            jitter_ms = 0.9 * jitter_ms + random.gauss(0, own_ms * 0.06)
            late_ms = max(1.0, own_ms + jitter_ms + random.expovariate(1 / (own_ms * 0.1)))
            for span in mine:
                if span.begin_s <= at_s < span.end_s and span.kind == "latency_spike":
                    late_ms += 400
                if span.begin_s <= at_s < span.end_s and span.kind in ("partition", "stall"):
                    late_ms = (span.end_s - at_s) * 1000 + own_ms
            if at_s + late_ms / 1000 < seconds:
                arrived.append(LagSample(at_s + late_ms / 1000, late_ms, tick + 1))
            player.behind.append((at_s, int(late_ms / 1000 * hz)))
            player.queued.append((at_s, int(late_ms * 30)))
            player.bytes_down[int(at_s)] += random.randint(400, 500)
            player.bytes_up[int(at_s)] += random.randint(10, 20)
        player.lag = sorted(arrived)
        recording.players.append(player)
    return recording


def reading_of(recording: Recording) -> Reading:
    return read(recording, times_of([recording]))


def parsed(path: Path) -> ElementTree.Element:
    """The page, if it is well-formed."""
    return ElementTree.fromstring(path.read_text(encoding="utf-8"))


def words_of(element: ElementTree.Element) -> str:
    return " ".join(text for text in element.itertext())


def nothing() -> Recording:
    return Recording(title="", seed=1, hz=60)


def no_lag() -> Recording:
    recording = recorded_run()
    for player in recording.players:
        player.lag = []
    return recording


def one_sample() -> Recording:
    player = PlayerRecording(name="client-1", lag=[LagSample(0.5, 30.0, 1)], behind=[(0.5, 0)], queued=[(0.5, 0)])
    return Recording(title="one", seed=1, hz=1, virtual_s=1.0, players=[player])


def broken_numbers() -> Recording:
    """What a run that went wrong may leave behind."""
    recording = recorded_run(players=2)
    recording.players[0].lag += [LagSample(math.nan, 3.0, 9), LagSample(2.0, math.inf, 9), LagSample(2.0, -5.0, 9)]
    recording.players[0].queued += [(3.0, -1), (1e9, 10)]
    recording.players[1].stays = [(5.0, 1.0), (99.0, 100.0)]
    recording.players[1].bytes_down = []
    recording.faults += [FaultSpan("drop", -3.0, -1.0), FaultSpan("slow", 5.9, 400.0), FaultSpan("reorder", 4.0, 2.0)]
    recording.violations += [Violation("bounds", -1, "before the run"), Violation("bounds", 10**9, "after it")]
    return recording


ANY_RUN = [
    pytest.param(nothing, id="nothing"),
    pytest.param(no_lag, id="no lag"),
    pytest.param(one_sample, id="one sample"),
    pytest.param(lambda: recorded_run(players=1, faults=False), id="one player"),
    pytest.param(lambda: recorded_run(lag_ms=0.0001), id="no delay"),
    pytest.param(lambda: recorded_run(seconds=0.3), id="shorter than a second"),
    pytest.param(lambda: recorded_run(players=80, seconds=2.0, hz=20), id="80 players"),
    pytest.param(broken_numbers, id="broken numbers"),
]


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ANY_RUN)
def test_any_recording_makes_a_page(make: Any, tmp_path: Path) -> None:
    """A report is looked at when a run went wrong: that is no time for an exception."""
    page = parsed(write_html(tmp_path / "run.html", make()))

    assert [figure.get("class") for figure in page.iter("figure")] == [
        *CHARTS[:6], "distribution", "tables", "by-player",
    ]  # fmt: skip
    drawn = " ".join(part.get("d", "") for part in page.iter("path"))
    assert not re.search("nan|inf", drawn + words_of(page), re.IGNORECASE)


def test_a_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    """It is mailed, attached to a ticket, opened years later: no script, no font, no picture is fetched."""
    path = write_html(tmp_path / "run.html", recorded_run(), recorded_run(seed=8))

    page = parsed(path)
    tags = {element.tag for element in page.iter()}
    assert tags.isdisjoint({"script", "link", "img", "image", "iframe", "object", "use", "a"})
    outward = {"src", "href", "{http://www.w3.org/1999/xlink}href", "onload", "onclick"}
    assert all(outward.isdisjoint(element.keys()) for element in page.iter())
    assert not re.search(r"url\(|@import|https?:", path.read_text(encoding="utf-8"))
    policies = [meta.get("content", "") for meta in page.iter("meta") if meta.get("http-equiv")]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_no_text_of_a_recording_becomes_markup(tmp_path: Path) -> None:
    """Names come from whoever plays, and what a checker says quotes them."""
    evil = "</style><script>alert('x')</script>&lt;\x00\x1b\ud800\"]]>"
    recording = recorded_run(players=2)
    recording.title = recording.profile = evil
    recording.players[0].name = evil
    recording.players[1].profile = evil
    recording.faults.append(FaultSpan(evil, 1.0, 2.0, evil))
    recording.violations.append(Violation(evil, 7, evil))
    recording.bytes_by_table[evil] = 10**7
    recording.notes = {"replay": evil, evil: {evil: evil}}

    for given_recordings in ((recording,), (recording, recorded_run())):
        path = write_html(tmp_path / "run.html", *given_recordings)

        page = parsed(path)
        assert "<script" not in path.read_text(encoding="utf-8")
        assert not any(element.tag == "script" for element in page.iter())
        assert "<script>alert('x')</script>&lt;\ufffd\ufffd\ufffd\"]]>" in words_of(page)


def test_the_head_says_how_it_went_and_how_to_see_it_again(tmp_path: Path) -> None:
    """The verdict first, then the figures that players would feel, from all samples and not from the drawn ones."""
    recording = recorded_run()
    samples = sorted(sample.lag_ms for player in recording.players for sample in player.lag)

    words = words_of(parsed(write_html(tmp_path / "run.html", recording)))

    assert "converged, no violation" in words
    assert f"{ms_text(samples[math.ceil(0.99 * len(samples)) - 1])} lag p99" in words
    assert f"{ms_text(samples[-1])} lag max" in words
    assert "bytes per client and second" in words and "versions behind p99" in words
    assert "ecsnet sim --profile bad-wifi --seed 7" in words
    assert "trace hash 0dd1f8c2" in words


@pytest.mark.parametrize(
    ("converged", "violations", "good", "said"),
    [
        (True, 0, True, "converged, no violation"),
        (True, 1, False, "converged, 1 violation"),
        (False, 2, False, "did not converge, 2 violations"),
        (None, 0, None, "no violation, convergence not asked"),
        (None, 3, False, "3 violations, convergence not asked"),
    ],
)
def test_a_run_is_good_only_if_it_converged_without_a_violation(
    converged: bool | None, violations: int, good: bool | None, said: str
) -> None:
    recording = nothing()
    recording.converged = converged
    recording.violations = [Violation("bounds", tick, "too much") for tick in range(violations)]

    assert verdict(recording) == (good, said)


def test_violations_are_listed_and_stand_in_the_time_line(tmp_path: Path) -> None:
    """Tick 180 of 60 Hz was 3 s after the start, halfway through."""
    broken = (Violation("exactly_once", 180, "client-3: command 17 took effect twice"),)

    page = parsed(write_html(tmp_path / "run.html", recorded_run(violations=broken)))

    assert "180 3.00 s exactly_once client-3: command 17 took effect twice" in " ".join(words_of(page).split())
    over_time = [figure for figure in page.iter("figure") if figure.get("class") in CHARTS[:6]]
    assert len(over_time) == 6
    for figure in over_time:
        marks = [line for line in figure.iter("line") if line.get("class") == "violation"]
        assert [mark.get("x1") for mark in marks] == ["50%"]


def test_a_thousand_violations_are_counted_and_the_first_of_them_listed(tmp_path: Path) -> None:
    broken = tuple(Violation("bounds", tick, f"number {tick}.") for tick in range(1000))

    words = words_of(parsed(write_html(tmp_path / "run.html", recorded_run(violations=broken))))

    assert "1000 violations" in words and "and 800 more" in words
    assert "number 199." in words and "number 200." not in words


def test_fifty_players_for_a_minute_make_a_small_page(tmp_path: Path) -> None:
    """180 000 samples of each sort are thinned to what a screen can show: a page one can mail."""
    path = write_html(tmp_path / "run.html", recorded_run(players=50, seconds=60.0))

    assert path.stat().st_size < 1_500_000
    figures = {figure.get("class"): figure for figure in parsed(path).iter("figure")}
    assert sum(part.get("class") == "player" for part in figures["lag"].iter("path")) == 50
    assert len([part for part in figures["lag"].iter("text") if "end" in (part.get("class") or "")]) == 2, (
        "lines of all are named, those of fifty players are not"
    )


def test_equal_recordings_make_equal_files(tmp_path: Path) -> None:
    """So a report can be kept beside the code, and changes only when the run does."""
    one = write_html(tmp_path / "a" / "run.html", recorded_run())
    again = write_html(tmp_path / "b" / "run.html", recorded_run())
    other = write_html(tmp_path / "c" / "run.html", recorded_run(seed=8))

    assert one.read_bytes() == again.read_bytes()
    assert one.read_bytes() != other.read_bytes()


@pytest.mark.parametrize("count", [0, 3])
@pytest.mark.parametrize("write", [write_html, write_png])
def test_a_report_shows_one_or_two_recordings(write: Any, count: int, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=f"one recording, or two side by side; {count} were given"):
        write(tmp_path / "out", *[nothing()] * count)

    assert not (tmp_path / "out").exists()


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_one_late_sample_among_many_is_seen() -> None:
    """Thinning keeps the worst of each bin: a hitch of one frame is what a report is for."""
    recording = recorded_run(players=3, seconds=60.0, faults=False)
    recording.players[1].lag[1234] = LagSample(recording.players[1].lag[1234].at_s, 9_000.0, 1235)

    reading = reading_of(recording)

    assert np.nanmax(reading.lag_band.worst) == 9_000.0
    assert np.nanmax(reading.players[1].lag_line) == 9_000.0
    assert np.nanmax(reading.players[0].lag_line) < 1_000.0
    assert reading.lag.max_ms == 9_000.0
    assert reading.lag_peak == (recording.players[1].lag[1234].at_s, 9_000.0, "client-2")


def test_a_cause_stands_above_its_effect() -> None:
    """Every chart over time has the time axis of the faults, and the lag peaks where the partition ends."""
    recording = recorded_run()

    charts = charts_of([reading_of(recording)])

    over_time = [chart for chart in charts if chart.key in CHARTS[:6]]
    assert all(chart.x == over_time[0].x for chart in over_time)
    lag = next(chart for chart in charts if chart.key == "lag").drawn[0]
    assert isinstance(lag, Strip) and lag.peak is not None
    ends = [fault.end_s for fault in recording.faults if fault.kind in ("partition", "stall")]
    assert min(abs(lag.peak[0] - end_s) for end_s in ends) < 0.25


def test_a_line_is_broken_where_nothing_arrived() -> None:
    """A line drawn through a partition would claim measurements that nobody made."""
    recording = recorded_run(players=1)
    partition = recording.faults[0]

    lag = next(chart for chart in charts_of([reading_of(recording)]) if chart.key == "lag").drawn[0]

    assert isinstance(lag, Strip)
    runs = runs_of(lag.at, lag.lines[-1].values, lag.gap)
    spans = [(lag.at[run[0]], lag.at[run[-1]]) for run in runs]
    # Versions that were under way still arrive a little after the cut.
    assert not any(since < partition.begin_s + 0.2 and to > partition.end_s - 0.1 for since, to in spans)
    assert len(runs) > 1


def test_two_recordings_have_equal_axes() -> None:
    """Else the slow network would look like the fast one."""
    recordings = [recorded_run(lag_ms=70.0), recorded_run(lag_ms=5.0, seconds=4.0, players=2, faults=False)]
    times = times_of(recordings)

    charts = charts_of([read(recording, times) for recording in recordings])

    assert [chart.key for chart in charts] == CHARTS
    for chart in charts:
        one, other = chart.drawn
        if isinstance(one, Faults) and isinstance(other, Faults):
            assert [lane.kind for lane in one.lanes] == [lane.kind for lane in other.lanes]
        else:
            assert one.scale == other.scale  # type: ignore[union-attr]
        if isinstance(one, PlayerRows) and isinstance(other, PlayerRows):
            assert [row.name for row in one.rows] == [row.name for row in other.rows]
    assert charts[0].x.high == 6.0


def test_two_recordings_are_compared_in_figures(tmp_path: Path) -> None:
    """The second against the first, and whether that is for the better."""
    slow, fast = recorded_run(faults=False), recorded_run(faults=False, lag_ms=7.0, profile="lan")

    page = parsed(write_html(tmp_path / "pair.html", slow, fast))

    rows = [[words_of(cell) for cell in row.iter("td")] for row in page.iter("tr")]
    compared = {row[0]: row[1:] for row in rows if len(row) == 4}
    assert re.fullmatch(r"\d+ % less, better", compared["lag p50"][2])
    assert compared["violations"] == ["0", "0", "equal"]
    a, b = reading_of(slow), reading_of(fast)
    assert compared["lag p99"][:2] == [ms_text(a.lag.p99_ms), ms_text(b.lag.p99_ms)]
    swapped = parsed(write_html(tmp_path / "pair.html", fast, slow))
    assert any("as much, worse" in words_of(row) for row in swapped.iter("tr"))


def test_bytes_per_second_count_only_while_a_player_was_there() -> None:
    """A player that was away half of the time did not need half as much."""
    player = PlayerRecording(name="client-1", bytes_down=[1000, 1000, 0, 0], stays=[(0.0, 2.0)])
    recording = Recording(title="", seed=1, hz=10, virtual_s=4.0, players=[player])

    reading = reading_of(recording)

    assert reading.down_s == 1000.0
    assert [figure.text for figure in key_figures(reading) if figure.name == "bytes per client and second"] == [
        "1 kB/s"
    ]


def test_a_broken_last_second_counts_as_a_whole_one() -> None:
    """Else every run would seem to end with a drop."""
    player = PlayerRecording(name="client-1", bytes_down=[1000, 1000, 500], stays=[(0.0, 2.5)])
    recording = Recording(title="", seed=1, hz=10, virtual_s=2.5, players=[player])

    assert reading_of(recording).players[0].down_line.tolist() == [1000.0, 1000.0, 1000.0]


@pytest.mark.parametrize(
    ("profile", "transport", "names"),
    [
        ("bad-wifi", "stream", {"client-1", "client-2"}),
        ("lan", "stream", {"client-1 · bad-wifi", "client-2 · lan"}),
        ("bad-wifi", "datagram", {"client-1 · stream", "client-2 · datagram"}),
        ("lan", "datagram", {"client-1 · bad-wifi, stream", "client-2 · lan, datagram"}),
    ],
)
def test_players_are_told_apart_by_what_differs(profile: str, transport: str, names: set[str]) -> None:
    recording = recorded_run(players=2)
    recording.players[1].profile, recording.players[1].transport = profile, transport

    rows = next(chart for chart in charts_of([reading_of(recording)]) if chart.key == "by-player").drawn[0]

    assert isinstance(rows, PlayerRows)
    assert {row.name for row in rows.rows} == names


# --- axes and lanes ---------------------------------------------------------------------------------------------------

amounts = st.floats(-1e12, 1e12) | st.sampled_from([math.nan, math.inf, 0.0, 5e-324, 1e300])


@given(low=amounts, high=amounts, values=st.lists(amounts, max_size=5))
def test_an_axis_has_a_place_for_every_number(low: float, high: float, values: list[float]) -> None:
    scales: list[Scale] = [
        linear_scale(high, ms_text),
        ratio_scale(low, high, ms_text),
        plus_one_scale(high, ms_text),
        time_scale(high),
    ]

    for scale in scales:
        places = scale.place([value for value in values if not math.isnan(value)])
        assert ((places >= 0) & (places <= 1)).all()
        assert 1 <= len(scale.ticks) <= 8
        assert all(scale.low <= tick.value <= scale.high for tick in scale.ticks)
        assert len({tick.label for tick in scale.ticks}) == len(scale.ticks), "two ticks of one name say nothing"


spans = st.builds(
    FaultSpan,
    kind=st.sampled_from(["partition", "drop", "churn"]),
    begin_s=st.floats(-1, 12),
    end_s=st.floats(-1, 12),
    who=st.sampled_from(["", "client-1"]),
)


@given(faults=st.lists(spans, max_size=12))
def test_faults_of_one_row_never_cover_each_other(faults: list[FaultSpan]) -> None:
    lanes = fault_lanes(faults)

    shown = [fault for lane in lanes for row in lane.rows for fault in row]
    assert len(shown) == len(faults)
    for lane in lanes:
        for row in lane.rows:
            assert {fault.kind for fault in row} == {lane.kind}
            assert all(one.end_s <= other.begin_s for one, other in pairwise(row))


@given(faults=st.lists(spans, max_size=12))
def test_shades_lie_within_the_run_and_beside_each_other(faults: list[FaultSpan]) -> None:
    found = shades(reading_of(Recording(title="", seed=1, hz=10, virtual_s=10.0, faults=faults)))

    assert all(0 <= shade.begin_s < shade.end_s <= 10.0 + 1e-9 for shade in found)
    assert all(0 < shade.strength <= 1 for shade in found)
    assert all(one.end_s <= other.begin_s + 1e-9 for one, other in pairwise(found))


def test_a_fault_of_all_is_shaded_more_than_that_of_one() -> None:
    faults = [FaultSpan("stall", 1.0, 2.0, "client-1"), FaultSpan("partition", 4.0, 5.0)]

    pale, strong = shades(reading_of(Recording(title="", seed=1, hz=10, virtual_s=10.0, faults=faults)))

    assert (pale.begin_s, strong.begin_s) == (1.0, 4.0)
    assert pale.strength < strong.strength


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_without_matplotlib_pictures_are_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And the page comes out all the same."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(MissingExtraError, match=re.escape("pip install 'ecsnet[report]'")):
        write_png(tmp_path / "pictures", recorded_run())

    assert not (tmp_path / "pictures").exists()
    assert write_html(tmp_path / "run.html", recorded_run()).exists()


def test_matplotlib_is_loaded_only_for_pictures() -> None:
    """It takes longer to import than many a run."""
    code = "import sys, ecsnet.sim.report; sys.exit('matplotlib' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize(
    "make", [run for run in ANY_RUN if run.id in ("nothing", "one sample", "80 players", "broken numbers")]
)
def test_any_recording_makes_pictures(make: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")

    written = write_png(tmp_path / "new" / "pictures", make())

    assert [path.name for path in written] == ["overview.png", *(f"{key}.png" for key in CHARTS)]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)


def test_pictures_are_for_light_or_dark_pages(tmp_path: Path) -> None:
    """Both sorts lie side by side in one folder, and two recordings in one picture."""
    image = pytest.importorskip("matplotlib.image")
    pair = recorded_run(seconds=1.0), recorded_run(seed=8, seconds=1.0, violations=(Violation("bounds", 7, "much"),))

    light, dark = write_png(tmp_path, *pair), write_png(tmp_path, *pair, dark=True)

    assert {path.name for path in dark} == {f"{path.stem}-dark.png" for path in light}
    for bright, dim in zip(light, dark, strict=True):
        assert image.imread(bright)[0, 0, :3].mean() > 0.9
        assert image.imread(dim)[0, 0, :3].mean() < 0.2


def test_pictures_leave_a_programs_own_plots_alone(tmp_path: Path) -> None:
    """Whatever style it has set: it is the same afterwards, and changes no pixel of ours."""
    matplotlib = pytest.importorskip("matplotlib")
    recording = recorded_run(seconds=1.0, players=2)
    plain = write_png(tmp_path / "plain", recording)

    with matplotlib.rc_context({"font.size": 31.0, "lines.linewidth": 9.0, "axes.grid": True}):
        before = dict(matplotlib.rcParams)
        styled = write_png(tmp_path / "styled", recording)
        assert dict(matplotlib.rcParams) == before

    assert [path.read_bytes() for path in plain] == [path.read_bytes() for path in styled]
