"""How a query found its rows: what was done, over how many rows, and what is copied.

Invariant: it tells what was done in one resolution, not what might be.
"""

from dataclasses import dataclass

__all__ = ["Explanation", "Step"]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was done. `action` is one of "scan", "join on keys", "index", "look up keys", "join", "left join",
    "filter", "place", "nearest", "sort", "limit"; `considered` rows went in (keys looked up), `found` came out."""

    action: str
    what: str
    considered: int
    found: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `Query.explain` gives. It prints as a text table.

    `query` is the query as text; `copied` maps each table's name to whether its columns are gathered copies (False:
    they are the cells themselves); `rows` is how many the query has.
    """

    query: str
    steps: tuple[Step, ...]
    copied: dict[str, bool]
    rows: int

    @property
    def indexes(self) -> tuple[str, ...]:
        """What indexes were used for, empty where none was."""
        return tuple([step.what for step in self.steps if step.action == "index"])

    def __str__(self) -> str:
        lines = [self.query]
        cells = [(step.action, step.what, f"{step.considered}", f"{step.found}") for step in self.steps]
        cells.insert(0, ("step", "", "rows in", "rows out"))
        widths = [max(len(row[column]) for row in cells) for column in range(4)]
        for action, what, considered, found in cells:
            line = f"  {action:<{widths[0]}}  {what:<{widths[1]}}  {considered:>{widths[2]}}  {found:>{widths[3]}}"
            lines.append(line.rstrip())
        for name, copied in self.copied.items():
            lines.append(f"  {name}: {'gathered into copies' if copied else 'the cells themselves, no copy'}")
        return "\n".join(lines)
