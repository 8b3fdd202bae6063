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
from ecsnet.sim.report.palette import DARK, LIGHT, Palette
from ecsnet.sim.report.reading import Figure, Reading, check_recordings, key_figures, read, shades, times_of, verdict
from ecsnet.sim.report.scales import bytes_text, count_text, ms_text, rate_text
from ecsnet.sim.report.svg import chart_svg, escaped

__all__ = ["differences", "page", "subtitle", "title_of", "write_html"]

_VIOLATIONS_MAX = 200
_NOTE_CHARACTERS_MAX = 600
_TILES = 6
_EQUAL_SHARE = 0.02
"""Figures of two runs this close are called equal: less than a run's own chance."""

_STYLE = """
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:14px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;font-variant-numeric:tabular-nums;
-webkit-text-size-adjust:100%}
main{max-width:1180px;margin:0 auto;padding:28px 20px 48px}
main.pair{max-width:1560px}
h1{font-size:24px;line-height:1.25;margin:0 0 2px;overflow-wrap:anywhere}
h2{font-size:16px;margin:0 0 10px}
p{margin:0}
.muted,figcaption span,.left-out{color:var(--muted)}
.runs,.stacks,.lower{display:grid;gap:16px;margin-top:16px;align-items:start}
.pair .runs,.pair .stacks,.pair .lower{grid-template-columns:repeat(2,minmax(0,1fr))}
.one .lower{grid-template-columns:minmax(0,1fr) minmax(0,1fr)}
.one .lower>div{display:grid;gap:16px;min-width:0}
.card{background:var(--card);border-radius:12px;padding:16px 18px;min-width:0;container-type:inline-size;
box-shadow:0 0 0 1px var(--grid)}
section.card{margin-top:16px}
.runs .card{display:grid;gap:14px}
.verdict{display:inline-flex;gap:8px;align-items:center;font-weight:650;font-size:15px}
.verdict i{font-style:normal;width:22px;height:22px;border-radius:50%;display:grid;place-items:center;
color:var(--card);background:var(--muted);font-size:13px;flex:none}
.verdict.good{color:var(--good)}.verdict.good i{background:var(--good)}
.verdict.bad{color:var(--bad)}.verdict.bad i{background:var(--bad)}
.tag{display:inline-block;min-width:22px;padding:0 7px;border-radius:6px;background:var(--ink);color:var(--card);
font-weight:700;text-align:center;margin-right:8px}
.tiles{display:grid;grid-template-columns:repeat(6,minmax(0,1fr));gap:12px}
.tiles div{border-left:3px solid var(--grid);padding-left:10px}
.tiles b{display:block;font-size:21px;font-weight:650;line-height:1.25;white-space:nowrap}
.tiles span{color:var(--muted);font-size:12px;line-height:1.3;display:block}
pre{margin:0;padding:9px 12px;border-radius:8px;background:var(--page);font:12.5px/1.5 ui-monospace,Menlo,Consolas,
monospace;white-space:pre-wrap;overflow-wrap:anywhere;user-select:all}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:2px 14px;margin:0;font-size:12.5px}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
figure{margin:0 0 14px}figure:last-child{margin-bottom:0}
figcaption{margin-bottom:8px;line-height:1.35}
figcaption b{margin-right:6px}figcaption span{font-size:12.5px}
svg.plot{display:block;overflow:visible;margin-left:88px;width:calc(100% - 88px - 58px);font-size:11px}
.by-player svg.plot{margin-left:128px;width:calc(100% - 128px - 14px)}
.distribution svg.plot{margin-left:52px;width:calc(100% - 52px - 78px)}
.tables svg.plot{margin-left:110px;width:calc(100% - 110px)}
text{fill:var(--ink)}
.tick,.nothing{fill:var(--muted)}
.grid{stroke:var(--grid);stroke-width:1}
.shade{fill:var(--fault)}
path{fill:none;vector-effect:non-scaling-stroke;stroke-linecap:round;stroke-linejoin:round}
path.player{stroke:var(--player);stroke-width:.8;opacity:var(--thin)}
path.player:hover{stroke:var(--ink);stroke-width:2;opacity:1}
path.band{fill:var(--median);opacity:.2}
path.median{stroke:var(--median);stroke-width:2}
path.worst{stroke:var(--worst);stroke-width:1.3}
path.second{stroke:var(--second);stroke-width:1.6}
.end{font-weight:600}
.end.median{fill:var(--median)}.end.worst{fill:var(--worst)}.end.second{fill:var(--second)}
circle.peak{fill:var(--worst);stroke:var(--card);stroke-width:1.5}
text.peak{font-weight:600;paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
.fault{fill:var(--fault)}.fault.one{fill-opacity:.35;stroke:var(--fault);stroke-width:1}
text.whom{font-size:10px}
line.violation{stroke:var(--violation);stroke-width:1;stroke-dasharray:3 3}
.cross,.violated{fill:var(--violation);font-weight:700}
.span{stroke:var(--median);stroke-width:5;opacity:.45}
.reach{stroke:var(--worst);stroke-width:1}.most{stroke:var(--worst);stroke-width:2}
.half{fill:var(--median);stroke:var(--card);stroke-width:1.2}
.bar{fill:var(--median);opacity:.85}
.scroll{overflow-x:auto}.words.scroll{max-height:300px;overflow-y:auto}
table{border-collapse:collapse;width:100%;font-size:13px}
th{font-weight:600;color:var(--muted);text-align:right;padding:4px 10px;white-space:nowrap}
td{text-align:right;padding:4px 10px;border-top:1px solid var(--grid);white-space:nowrap}
th:first-child,td:first-child,.words td,.words th{text-align:left}
th:first-child,td:first-child{padding-left:0}
.words td:last-child{white-space:normal;width:100%;overflow-wrap:anywhere}
td.good{color:var(--good)}td.bad{color:var(--bad)}
summary{cursor:pointer;font-weight:650;font-size:16px}
details[open] summary{margin-bottom:8px}
@container (max-width:760px){
.tiles{grid-template-columns:repeat(3,minmax(0,1fr))}
}
@container (max-width:520px){
.often,text.whom{display:none}
svg.plot{margin-left:76px;width:calc(100% - 76px - 50px)}
.by-player svg.plot{margin-left:84px;width:calc(100% - 84px - 10px)}
.tables svg.plot{margin-left:84px;width:calc(100% - 84px)}
.name{font-size:9.5px}
.tiles{grid-template-columns:repeat(2,minmax(0,1fr))}
}
@media (max-width:860px){
main{padding:18px 10px 32px}
.pair .runs,.pair .stacks,.pair .lower,.one .lower{grid-template-columns:minmax(0,1fr)}
.card{padding:14px 12px}
}
@media print{body{background:none}.card{break-inside:avoid}}
"""


def _colours(palette: Palette) -> str:
    return "".join(f"--{name}:{value};" for name, value in palette._asdict().items())


# --- words that pictures share ----------------------------------------------------------------------------------------


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
        f"<title>{escaped(name)}</title><style>:root{{{_colours(LIGHT)}}}"
        f"@media (prefers-color-scheme:dark){{:root{{{_colours(DARK)}}}}}{_STYLE}</style></head>"
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
