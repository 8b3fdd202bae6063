"""A run in a few words and numbers: what stands at the head of a page and of a picture."""

from collections.abc import Sequence
from typing import NamedTuple

from ecsnet.sim.recording import Recording
from ecsnet.sim.report.reading import Reading
from ecsnet.sim.report.scales import bytes_text, count_text, ms_text, rate_text

__all__ = ["Figure", "differences", "key_figures", "subtitle", "title_of", "verdict"]

_EQUAL_SHARE = 0.02
"""Figures of two runs this close are called equal: less than a run's own chance."""


class Figure(NamedTuple):
    """One number of the head. `low_is_good`: less of it is better; None where neither is."""

    name: str
    value: float
    text: str
    low_is_good: bool | None = True


def title_of(recording: Recording) -> str:
    """What a run is called."""
    return recording.title or f"{recording.profile or 'a'} run of seed {recording.seed}"


def subtitle(recording: Recording) -> str:
    """What it was, in a line."""
    players = len(recording.players)
    said = [
        recording.profile,
        recording.transport,
        f"{players} player{'' if players == 1 else 's'}",
        f"{recording.hz} Hz",
        f"{recording.virtual_s:.1f} s",
        f"{count_text(recording.versions)} versions",
        f"seed {recording.seed}",
    ]
    return " · ".join(filter(None, said))


def differences(one: Sequence[Figure], other: Sequence[Figure]) -> list[tuple[str, str, str, str, bool | None]]:
    """(figure, of the one, of the other, the difference in words, whether it is for the better)."""
    rows = []
    for a, b in zip(one, other, strict=True):
        better: bool | None = None
        if a.value != a.value or b.value != b.value:
            said = "–"
        elif abs(b.value - a.value) <= _EQUAL_SHARE * max(abs(a.value), abs(b.value)):
            said = "equal"
        else:
            more = b.value > a.value
            said = "more" if more else "less"
            if a.value:
                share = b.value / a.value
                said = f"{share:.1f} × as much" if share >= 3 else f"{abs(share - 1) * 100:.0f} % {said}"
            if a.low_is_good is not None:
                better = more is not a.low_is_good
        rows.append((a.name, a.text, b.text, said, better))
    return rows


def verdict(recording: Recording) -> tuple[bool | None, str]:
    """(good, bad or not known; the same in words)."""
    broken = len(recording.violations)
    said = [f"{broken} violation{'s' if broken > 1 else ''}" if broken else "no violation"]
    if recording.converged is not None:
        said.insert(0, "converged" if recording.converged else "did not converge")
    else:
        said.append("convergence not asked")
    if broken or recording.converged is False:
        return False, ", ".join(said)
    return recording.converged, ", ".join(said)


def key_figures(reading: Reading) -> list[Figure]:
    """The numbers of the head, the most telling first."""
    lag, recording = reading.lag, reading.recording
    return [
        Figure("lag p50", lag.p50_ms, ms_text(lag.p50_ms)),
        Figure("lag p99", lag.p99_ms, ms_text(lag.p99_ms)),
        Figure("lag max", lag.max_ms, ms_text(lag.max_ms)),
        Figure("bytes per client and second", reading.down_s, rate_text(reading.down_s)),
        Figure("versions behind p99", reading.behind_p99, count_text(reading.behind_p99)),
        Figure("queue max", reading.queued_max, bytes_text(reading.queued_max)),
        Figure("bytes up per client and second", reading.up_s, rate_text(reading.up_s)),
        Figure("violations", len(recording.violations), count_text(len(recording.violations))),
        Figure("versions", recording.versions, count_text(recording.versions), None),
        Figure("samples of lag", lag.n, count_text(lag.n), None),
    ]
