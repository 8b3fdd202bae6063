"""One figure beside one peer's, and how it is printed.

Invariant: the keys of the JSON line are those that programs rely on: added to, never renamed.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from rich.table import Table
from rich.text import Text

from ecsnet.bench.goals import Goal

__all__ = ["Better", "Figure", "table_of"]

Better = Literal["lower", "higher"]

_DIGITS = 5


@dataclass(frozen=True, slots=True)
class Figure:
    """`value` in `unit`, for `n` rows or entities; `peer_value` is what `peer` needs for equal work."""

    bench: str
    metric: str
    n: int
    value: float
    unit: str
    better: Better
    peer: str | None = None
    peer_value: float | None = None
    goal: Goal | None = None

    @property
    def ratio(self) -> float | None:
        """value ÷ peer_value; None without a peer."""
        return None if not self.peer_value else self.value / self.peer_value

    @property
    def met(self) -> bool | None:
        """Whether the goal is; None where there is none, or where it is about another peer."""
        return None if self.goal is None else self.goal.met(self.n, self.value, self.peer, self.ratio)

    def line(self) -> str:
        """The figure as a JSON object on one line."""
        met = self.met
        return json.dumps(
            {
                "bench": self.bench,
                "metric": self.metric,
                "n": self.n,
                "value": _rounded(self.value),
                "unit": self.unit,
                "better": self.better,
                "peer": self.peer,
                "peer_value": _rounded(self.peer_value),
                "ratio": _rounded(self.ratio),
                "goal": None if self.goal is None or met is None else self.goal.wording(self.n),
                "met": met,
            },
            ensure_ascii=False,
        )


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")


def table_of(title: str, figures: Iterable[Figure]) -> Table:
    """The figures for a person."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for name in ("metric", "n", "ecsnet", "unit", "peer", "peer's", "× peer", "goal", "met"):
        right = name in ("n", "ecsnet", "peer's", "× peer")
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    before: tuple[str, int] | None = None
    for one in figures:
        same, before = before == (one.metric, one.n), (one.metric, one.n)
        met = one.met
        verdict = Text("") if met is None else Text("met", "green") if met else Text("missed", "red")
        table.add_row(
            "" if same else one.metric,
            "" if same else f"{one.n:,}",
            "" if same else f"{one.value:.4g}",
            "" if same else one.unit,
            one.peer or "none",
            "" if one.peer_value is None else f"{one.peer_value:.4g}",
            "" if one.ratio is None else f"{one.ratio:.3g}",
            "" if one.goal is None or met is None else one.goal.wording(one.n),
            verdict,
        )
    return table
