"""What must hold among nodes that write the same tables, looked at in what readers of each of them see.

| checker | what must hold |
|---|---|
| cause | who sees a node's beat sees what that node saw when it counted it: no effect without its cause |
| back | what readers of a node see of a cell is never followed by a write that the one before knew of |
| last | at rest a cell is of a write, or its row of a deletion, than which nobody wrote a later one knowing of it |
| waiting | what cannot be taken in yet is bounded, in frames and in time |
| peers | honest nodes with clocks that are nearly right are never refused |
| converged | once all is well again, all hold the same |

A write knows of another if its node had that one's beat when it wrote. Stamps of two such writes must be in their
order, however wrong the nodes' clocks are; of others either may be the last.

Invariant: this reads views and counts, and changes nothing.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from ecsnet.authority import Peering
from ecsnet.limits import NS_PER_S, PEER_WAIT_NS_MAX, PEER_WAITING_BYTES_MAX, PEER_WAITING_FRAMES_MAX
from ecsnet.store import View

__all__ = ["NodesChecker"]

FIELDS: Final = ("text", "mark")
"""Of a note. A cell has the number of the write that it is of; 0 is a default."""

LATE_NS: Final = NS_PER_S // 5
"""It is looked at in ticks whether somebody has waited for long enough."""


class Write(NamedTuple):
    """What a node did to a note: of which beat of each node it knew, its own among them."""

    node: int
    knew: tuple[int, ...]
    deleted: bool

    def is_known_to(self, other: "Write") -> bool:
        """Whether the other was made in knowledge of this one."""
        return other is not self and other.knew[self.node - 1] >= self.knew[self.node - 1]


class NodesChecker:
    """See the file. `violated` is told a checker's name and what is wrong."""

    def __init__(self, nodes: int, violated: Callable[[str, str], None]) -> None:
        self._nodes = nodes
        self._violated = violated
        self._writes: list[Write] = [Write(0, (0,) * nodes, False)]
        """By number; cells have it as their value. That of 0 is nobody's: a default."""
        self._of_cell: dict[tuple[int, str], list[int]] = {}
        self._shown: dict[tuple[int, int, str], int] = {}
        """By node, note and field: the write that readers saw last, if any."""
        self._forgot = False
        self.causes_looked_at = 0

    def wrote(self, node: int, name: int, fields: Sequence[str], seen: Sequence[int], *, deleted: bool = False) -> int:
        """A node writes these fields of a note, or deletes it, and sees these beats. Returns the write's number."""
        number = len(self._writes)
        self._writes.append(Write(node, tuple(seen), deleted))
        for field in fields:
            self._of_cell.setdefault((name, field), []).append(number)
        return number

    def recovered(self, node: int, view: View) -> None:
        """A node goes on from its disk. What it wrote in versions that are gone nobody saw, and it never happened."""
        count = _beats(view)[0].get(node, 0)
        lost = {n for n, one in enumerate(self._writes) if one.node == node and one.knew[node - 1] > count}
        for cell, numbers in self._of_cell.items():
            self._of_cell[cell] = [number for number in numbers if number not in lost]

    def forgot(self) -> None:
        """A node has lost its store. What it wrote and nobody was told never happened; across that no order is
        promised, only that all come to hold the same."""
        self._forgot = True

    def looked(self, node: int, peering: Peering, now_ns: int) -> None:
        """After a node's tick."""
        counts = peering.statistics()
        refused, ahead = counts.links_refused, counts.stamps_ahead
        if refused or ahead:
            self._violated("peers", f"node {node} refused {refused} links, {ahead} by clocks")
        for link in peering.links:
            frames, waiting_bytes = len(link.waiting), link.waiting_bytes
            if frames > PEER_WAITING_FRAMES_MAX or waiting_bytes > PEER_WAITING_BYTES_MAX:
                self._violated("waiting", f"node {node}: {frames} frames of {waiting_bytes} bytes wait")
            since = link.waiting_since_ns
            if since is not None and now_ns - since > PEER_WAIT_NS_MAX + LATE_NS:
                self._violated("waiting", f"node {node}: a frame waits for {(now_ns - since) / NS_PER_S:.1f} s")

    def read(self, node: int, view: View) -> None:
        """What readers of a node see after a tick."""
        if self._forgot:
            return
        beats, seen = _beats(view)
        for writer, of_writer in seen.items():
            for other, count in enumerate(of_writer, 1):
                self.causes_looked_at += 1
                if beats.get(other, 0) < count:
                    self._violated(
                        "cause",
                        f"node {node} shows beat {beats[writer]} of node {writer}, which had seen beat {count} of node "
                        f"{other}; here it is {beats.get(other, 0)}",
                    )
        for name, cells in _notes(view).items():
            for field, number in zip(FIELDS, cells, strict=True):
                before = self._shown.get((node, name, field), 0)
                if number and number != before and self._writes[number].is_known_to(self._writes[before]):
                    what = (
                        f"node {node} shows write {number} in {field} of note {name} after {before}, which knew of it"
                    )
                    self._violated("back", what)
                self._shown[node, name, field] = number or before

    def at_rest(self, node: int, view: View) -> None:
        """All agree: is what they agree upon the last that was written?"""
        if self._forgot:
            return
        notes = _notes(view)
        for (name, field), numbers in self._of_cell.items():
            note = notes.get(name)
            if note is None:
                if not any(self._is_last(number, numbers) for number in numbers if self._writes[number].deleted):
                    self._violated("last", f"node {node} has no note {name}, which was written after each deletion")
                continue
            number = note[FIELDS.index(field)]
            if number and not self._is_last(number, numbers):
                what = f"node {node} has write {number} in {field} of note {name}, and one that knew of it came after"
                self._violated("last", what)

    def _is_last(self, number: int, numbers: Sequence[int]) -> bool:
        write = self._writes[number]
        return not any(write.is_known_to(self._writes[other]) for other in numbers)


def _beats(view: View) -> tuple[dict[int, int], dict[int, list[int]]]:
    of = view["beat"]
    nodes = of["node"].tolist()
    return dict(zip(nodes, of["count"].tolist(), strict=True)), dict(zip(nodes, of["seen"].tolist(), strict=True))


def _notes(view: View) -> dict[int, tuple[int, int]]:
    of = view["note"]
    cells = (of[name].tolist() for name in ("name", *FIELDS))
    return {int(name): (int(text), int(mark)) for name, text, mark in zip(*cells, strict=True)}
