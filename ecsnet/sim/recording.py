"""What one run leaves behind for figures and pictures: numbers over virtual time, per player and for the world.

Times are virtual seconds since the run began. Nothing here decides anything: checkers look at the run itself.

Invariants: lists grow in the order of time; a player that left keeps what it recorded.
"""

from typing import Any, NamedTuple

import msgspec


class LagSample(NamedTuple):
    """One version applied by one player."""

    at_s: float
    """When it was applied."""
    lag_ms: float
    """Virtual milliseconds since the tick that made it began."""
    version: int


class Violation(msgspec.Struct, frozen=True):
    """Something that must never happen, and did."""

    checker: str
    tick: int
    what: str


class FaultSpan(msgspec.Struct, frozen=True):
    """One fault as it was in force. `who` is a player's name, or empty for all of them or the node."""

    kind: str
    begin_s: float
    end_s: float
    who: str = ""


class PlayerRecording(msgspec.Struct):
    """One player's side of the run. `stays` are the times in which it held a world, the last may be open (end = the
    run's); the lists of samples are taken once a tick or thinner, those of bytes once a second."""

    name: str
    profile: str = ""
    transport: str = "stream"
    lag: list[LagSample] = []
    behind: list[tuple[float, int]] = []
    """(at_s, versions that the node has and the player does not)."""
    queued: list[tuple[float, int]] = []
    """(at_s, bytes on their way to the player: in the sender's buffer and on the line)."""
    bytes_down: list[int] = []
    """Bytes to the player in each second of the run."""
    bytes_up: list[int] = []
    stays: list[tuple[float, float]] = []


class Recording(msgspec.Struct):
    """One run."""

    title: str
    seed: int
    hz: int
    virtual_s: float = 0.0
    profile: str = ""
    transport: str = "stream"
    converged: bool | None = None
    """None: not asked yet."""
    versions: int = 0
    ticks: int = 0
    players: list[PlayerRecording] = []
    faults: list[FaultSpan] = []
    violations: list[Violation] = []
    bytes_by_table: dict[str, int] = {}
    """Bytes of encoded deltas by table, each delta once however many players it was sent to; full syncs apart."""
    notes: dict[str, Any] = {}
    """More for the head of a report: replay command, digest, trace hash."""
