"""The report as one HTML file: nothing is fetched, no script runs, and it reads on a desk, a phone and paper.

Invariants:
- the page forbids itself any fetch and any script by its own content policy, so a name that slipped through unescaped
  could still do nothing;
- the same recordings give the same bytes: no time of day, no machine's name.
"""

from collections.abc import Sequence
from pathlib import Path

from ecsnet.sim.recording import Recording
from ecsnet.sim.report.charts import Chart, Faults, charts_of
from ecsnet.sim.report.headline import differences, key_figures, subtitle, title_of, verdict
from ecsnet.sim.report.lanes import shades
from ecsnet.sim.report.reading import Reading, check_recordings, read, times_of
from ecsnet.sim.report.scales import bytes_text, count_text, ms_text, rate_text
from ecsnet.sim.report.style import style
from ecsnet.sim.report.svg import chart_svg, escaped

__all__ = ["page", "write_html"]

_VIOLATIONS_MAX = 200
_NOTE_CHARACTERS_MAX = 600
_TILES = 6


# --- parts of the page ------------------------------------------------------------------------------------------------


def _tag(which: int, of: int) -> str:
    return f'<span class="tag">{"AB"[which]}</span>' if of > 1 else ""


def _head(reading: Reading, which: int, of: int) -> str:
    recording = reading.recording
    good, said = verdict(recording)
    name, sign = ("", "?") if good is None else ("good", "✓") if good else ("bad", "✕")
    tiles = "".join(
        f"<div><b>{escaped(figure.text)}</b><span>{escaped(figure.name)}</span></div>"
        for figure in key_figures(reading)[:_TILES]
    )
    notes = dict(recording.notes)
    replay = notes.pop("replay", None)
    parts = [f'<p class="verdict {name}"><i>{sign}</i>{escaped(said)}</p>', f'<div class="tiles">{tiles}</div>']
    if replay is not None:
        parts.append(f"<pre>{escaped(replay)}</pre>")
    if notes:
        rows = "".join(
            f"<dt>{escaped(str(key).replace('_', ' '))}</dt><dd>{escaped(str(value)[:_NOTE_CHARACTERS_MAX])}</dd>"
            for key, value in notes.items()
        )
        parts.append(f"<dl>{rows}</dl>")
    if of > 1:
        title = f"<b>{_tag(which, of)}{escaped(title_of(recording))}</b>"
        parts.insert(0, f'<p>{title}<br/><span class="muted">{escaped(subtitle(recording))}</span></p>')
    return f'<div class="card">{"".join(parts)}</div>'


def _differences(readings: Sequence[Reading]) -> str:
    rows = []
    for name, a, b, said, better in differences(key_figures(readings[0]), key_figures(readings[1])):
        judged = "" if better is None else ' class="good"' if better else ' class="bad"'
        tail = "" if better is None else ", better" if better else ", worse"
        rows.append(
            f"<tr><td>{escaped(name)}</td><td>{escaped(a)}</td><td>{escaped(b)}</td>"
            f"<td{judged}>{escaped(said)}{tail}</td></tr>"
        )
    return (
        '<section class="card"><h2>Differences</h2><div class="scroll"><table><thead><tr><th></th>'
        f"<th>{_tag(0, 2)}</th><th>{_tag(1, 2)}</th><th>B against A</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _violations(reading: Reading, which: int, of: int) -> str:
    found = reading.recording.violations
    head = f"<h2>{_tag(which, of)}Violations</h2>"
    if not found:
        return f'<div class="card">{head}<p class="muted">None</p></div>'
    hz = max(1, reading.recording.hz)
    rows = "".join(
        f"<tr><td>{one.tick}</td><td>{one.tick / hz:.2f} s</td><td>{escaped(one.checker)}</td>"
        f"<td>{escaped(one.what)}</td></tr>"
        for one in found[:_VIOLATIONS_MAX]
    )
    more = len(found) - _VIOLATIONS_MAX
    under = f'<p class="muted">and {more} more</p>' if more > 0 else ""
    return (
        f'<div class="card">{head}<div class="words scroll"><table><thead><tr><th>tick</th><th>about at</th>'
        f"<th>checker</th><th>what</th></tr></thead><tbody>{rows}</tbody></table></div>{under}</div>"
    )


def _numbers(reading: Reading, which: int, of: int) -> str:
    rows = "".join(
        f"<tr><td>{escaped(f'{player.name} · {player.kind}' if player.kind else player.name)}</td>"
        f"<td>{ms_text(player.lag.p50_ms)}</td><td>{ms_text(player.lag.p99_ms)}</td><td>{ms_text(player.lag.max_ms)}</td>"
        f"<td>{count_text(player.behind_p99)}</td><td>{bytes_text(player.queued_max)}</td>"
        f"<td>{rate_text(player.down_s)}</td><td>{player.stays}</td></tr>"
        for player in reading.players
    )
    heads = ("player", "lag p50", "lag p99", "lag max", "behind p99", "queue max", "bytes", "stays")
    return (
        f'<div class="card"><details><summary>{_tag(which, of)}All players in numbers</summary><div class="scroll">'
        f"<table><thead><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr></thead><tbody>{rows}</tbody>"
        "</table></div></details></div>"
    )


def page(recordings: Sequence[Recording]) -> str:
    """The whole page of one or two recordings."""
    times = times_of(recordings)
    readings = [read(recording, times) for recording in recordings]
    charts = charts_of(readings)
    n = len(readings)

    def drawn(chart: Chart, which: int, before: str = "") -> str:
        return chart_svg(chart, which, shades(readings[which]), violations_s[which], before=before)

    def card(chart: Chart, which: int) -> str:
        return f'<div class="card">{drawn(chart, which, _tag(which, n))}</div>'

    faults = next(chart for chart in charts if chart.key == "faults")
    violations_s = [one.violations_s if isinstance(one, Faults) else () for one in faults.drawn]
    over_time = [chart for chart in charts if chart.x is faults.x]
    lower = [chart for chart in charts if chart.x is not faults.x]
    name = " against ".join(title_of(recording) for recording in recordings)

    body = [f"<h1>{escaped(name)}</h1>"]
    if n == 1:
        body.append(f'<p class="muted">{escaped(subtitle(recordings[0]))}</p>')
    body.append(f'<div class="runs">{"".join(_head(reading, i, n) for i, reading in enumerate(readings))}</div>')
    if any(recording.violations for recording in recordings):
        # Above all charts: this is why the report is looked at.
        listed = "".join(_violations(reading, i, n) for i, reading in enumerate(readings))
        body.append(f'<div class="stacks">{listed}</div>')
    if n > 1:
        body.append(_differences(readings))
    stacks = "".join(
        f'<div class="card"><h2>{_tag(i, n)}Over time</h2>{"".join(drawn(chart, i) for chart in over_time)}</div>'
        for i in range(n)
    )
    body.append(f'<div class="stacks">{stacks}</div>')
    if n == 1:
        # The list of players may be long: it has a column of its own, and the others share one.
        by_player = [chart for chart in lower if chart.key == "by-player"]
        others = [chart for chart in lower if chart.key != "by-player"]
        columns = "".join(f"<div>{''.join(card(chart, 0) for chart in column)}</div>" for column in (others, by_player))
    else:
        columns = "".join(card(chart, i) for chart in lower for i in range(n))
    body.append(f'<div class="lower">{columns}</div>')
    body.append(f'<div class="stacks">{"".join(_numbers(reading, i, n) for i, reading in enumerate(readings))}</div>')
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>"
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        '<meta name="color-scheme" content="light dark"/>'
        f"<title>{escaped(name)}</title><style>{style()}</style></head>"
        f'<body><main class="{"pair" if n > 1 else "one"}">{"".join(body)}</main></body></html>\n'
    )


def write_html(path: str | Path, *recordings: Recording) -> Path:
    """Write the report of one run, or of two side by side, as one HTML file that needs nothing else.

    Args:
        path: the file; folders on the way to it are made, a file of that name is replaced.
        recordings: one, or two to compare: then all axes are equal, and a table tells the differences.

    Returns:
        The path of the file.

    Raises:
        ArgumentError: no recording, or more than two. Nothing was written.
        OSError: the file cannot be written.
    """
    check_recordings(recordings)
    file = Path(path)
    text = page(recordings)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file
