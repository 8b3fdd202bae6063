"""The goals, in code: what each figure is held against.

A goal is absolute (the value itself), or relative to one peer (the ratio). Where the goal is another engine's figure,
measured elsewhere and depending on the number of rows, the bound for a number between two known ones is the smaller
one's: the stricter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["GOALS", "Goal"]


@dataclass(frozen=True, slots=True)
class Goal:
    """At most `value` (one bound, or one for each number of rows), or at most `ratio` times what `peer` needs; at
    least, where more is better."""

    text: str
    """The wording; `{}` is where the bound goes."""
    value: float | Mapping[int, float] | None = None
    ratio: float | None = None
    peer: str | None = None
    better: str = "lower"

    def bound(self, n: int) -> float:
        """What the value, or the ratio, may be for `n` rows."""
        if self.ratio is not None:
            return self.ratio
        assert self.value is not None
        if isinstance(self.value, Mapping):
            below = [rows for rows in self.value if rows <= n]
            return self.value[max(below) if below else min(self.value)]
        return self.value

    def wording(self, n: int) -> str:
        """The goal for `n` rows, in words."""
        return self.text.format(f"{self.bound(n):g}")

    def met(self, n: int, value: float, peer: str | None, ratio: float | None) -> bool | None:
        """Whether it is met; None where it is relative to a peer that this is not."""
        if self.ratio is not None:
            if ratio is None or peer != self.peer:
                return None
            return ratio >= self.ratio if self.better == "higher" else ratio <= self.ratio
        return value >= self.bound(n) if self.better == "higher" else value <= self.bound(n)


_KEYWORD_FORM: Final = Goal("≤ {} ns, keyword form", 600)

GOALS: Final[Mapping[str, Mapping[str, Goal]]] = {
    "store": {
        "writer_row": Goal("≤ {} ns, prepared", 250),
        "insert_row": _KEYWORD_FORM,
        "update_row": _KEYWORD_FORM,
        "delete_row": _KEYWORD_FORM,
        "reader_cell": Goal("≤ {} ns in pure Python", 150),
        "read_cell": Goal("≤ {} ns in pure Python", 150),
        "read_cell_by_row": Goal("≤ {} ns", 50),
        "bulk_insert": Goal("≤ {} ns", 10),
        "bulk_update": Goal("≤ {} ns", 8),
        "bulk_read": Goal("≤ {} ns", 2),
        "iterate_committed": Goal("≤ {} × numpy alone", ratio=2, peer="numpy"),
        "kernel_spawn_bulk": Goal("≤ {} ns (flecs: 21 to 37)", {10_000: 21, 1_000_000: 37}),
        "kernel_update_random": Goal("≤ {} ns (EnTT's patch)", {10_000: 7, 100_000: 10, 1_000_000: 31}),
        "memory_overhead": Goal("≤ {} %, beside the buffers", 10),
    },
    "commit": {
        "strict_commit_p50": Goal("≤ {} × the fdatasync", ratio=1.25, peer="fdatasync"),
        "strict_pipelined": Goal("≥ {} /s (10 × PostgreSQL's)", 228_000, better="higher"),
        "strict_rows": Goal("≥ {} × LMDB", ratio=10, peer="LMDB", better="higher"),
    },
    "transfer": {
        "handed_in_as_arrays": Goal("≥ {} /s", 300_000, better="higher"),
        "commands_in_ticks": Goal("≥ {} /s", 300_000, better="higher"),
    },
    "interest": {
        "tick": Goal("≤ {} ms, a tenth of a core at 60 Hz", 1.7),
    },
    "load": {
        "bulk_load": Goal("≥ {} rows/s", 15_000_000, better="higher"),
    },
    "snapshot": {
        "snapshot_written": Goal("≤ {} × the limit", ratio=1.5, peer="write + fdatasync"),
        "snapshot_verified": Goal("≤ {} × the limit", ratio=3, peer="write + fdatasync"),
        "commit_p99_meanwhile": Goal("≤ {} × without", ratio=1.1, peer="without a snapshot"),
    },
    "recovery": {
        "recovery": Goal("≤ {} s for 1 M rows + 64 MiB", 2),
    },
    "simulation": {
        "speed": Goal("≥ {} × real time, 50 clients at 60 Hz", 20, better="higher"),
    },
    "fanout": {
        "server_cpu": Goal("≤ {} × the bare sends", ratio=1.2, peer="bare sends"),
        "frames_min": Goal("≥ {} of the ticks for everybody", 0.9, better="higher"),
    },
    "slow": {
        "others_lag_p99": Goal("≤ {} × without it", ratio=1.1, peer="without it"),
        "node_memory": Goal("≤ {} MiB", 1),
    },
    "bytes": {
        "lossless": Goal("≤ {} B (@colyseus/schema 5)", 19),
        "2 mm": Goal("≤ {} B (@colyseus/schema 5)", 19),
        "encode 2 mm": Goal("≤ {} µs of 10 k entities", 150),
    },
    "bytes 100": {
        "lossless": Goal("≤ {} B", 12.5),
        "2 mm": Goal("≤ {} B", 2.6),
    },
    "join": {
        "join": Goal("≤ {} × the bare copy", ratio=1.5, peer="bare copy of 32 B a row"),
        "others_lag_p99": Goal("≤ {} × without", ratio=1.1, peer="nobody joins"),
    },
    "resume": {
        "bytes": Goal("≤ {} × the missed rows", ratio=1.25, peer="the missed rows alone"),
    },
    "replication": {
        "bytes_per_moved_entity": Goal("lossless ≤ {} B", 12.5),
        "quantised_bytes_per_moved_entity": Goal("quantised to 2 mm ≤ {} B", 2.6),
    },
    "replication 1000": {
        "server_cpu": Goal("≤ {} cores", 0.05),
        "lag_p50": Goal("≤ {} ms", 0.8),
        "lag_p99": Goal("≤ {} ms", 3),
    },
    "replication 10000": {
        "server_cpu": Goal("lossless ≤ {} × the bare sends", ratio=1.5, peer="bare sends"),
        "quantised_server_cpu": Goal("quantised ≤ {} cores", 0.10),
        "lag_p50": Goal("≤ {} ms", 2),
        "lag_p99": Goal("≤ {} ms", 5),
    },
}
"""By benchmark and metric. Those of replication are for 50 clients at 60 Hz, most for one number of entities too;
those of the fan-out for 1000 clients at 60 Hz."""
