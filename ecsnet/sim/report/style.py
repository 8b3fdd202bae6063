"""The style sheet of the page: light and dark by what the reader's system prefers, one column where it is narrow.

Colours are variables, so that each is said once for each palette; widths of charts follow their card and not the window
(`@container`), because a card of two side by side is as narrow as a phone.
"""

from ecsnet.sim.report.palette import DARK, LIGHT, Palette

__all__ = ["style"]

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


def style() -> str:
    """The whole style sheet."""
    dark = f"@media (prefers-color-scheme:dark){{:root{{{_colours(DARK)}}}}}"
    return f":root{{{_colours(LIGHT)}}}{dark}{_STYLE}"


def _colours(palette: Palette) -> str:
    return "".join(f"--{name}:{value};" for name, value in palette._asdict().items())
