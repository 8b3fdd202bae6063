"""The report of a run: one HTML file, or PNGs, that show at a glance whether players saw a good game, and why not.

`write_html(path, *recordings)` needs nothing but ecsnet; `write_png(folder, *recordings)` needs matplotlib, which
`pip install 'ecsnet[report]'` brings. Both take one `Recording`, or two to set side by side on equal axes.

`reading` thins a recording to what a picture can show, `headline` says it in words and `lanes` lays out its faults;
`charts` says which charts there are and what is in them. `page` (with `svg` and `style`) and `pictures` (with
`painter`) draw the same charts, and share `scales` and `palette`.

`Recording.notes` fills the head: "replay" is the command that repeats the run, everything else is listed by its name.

Invariants:
- reports show what was recorded and judge nothing of their own: the verdict is the recording's;
- the same recordings give the same bytes;
- any recording comes out, also an empty or a broken one: that is when a report is looked at.
"""

from ecsnet.sim.report.page import write_html
from ecsnet.sim.report.pictures import write_png

__all__ = ["write_html", "write_png"]
