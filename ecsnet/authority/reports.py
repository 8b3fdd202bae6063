"""What an authority tells of itself: what a tick did, counts since the start, and, to whoever watches, what each of the
game's functions did."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ecsnet.ids import Epoch, Tick, Version
from ecsnet.session.server import Outcome, PendingCommand
from ecsnet.world import Client

__all__ = ["AuthorityStatistics", "Observer", "PeeringStatistics", "TickReport"]


@dataclass(frozen=True, slots=True)
class TickReport:
    """What one tick did. `version` is None if nothing changed, or publication is deferred by views that are held."""

    tick: Tick
    version: Version | None
    commands: int
    systems_failed: int


class Observer(Protocol):
    """Told what the game's functions did, each right after its own transaction, in the order in which they ran. For
    simulations and recordings: it must not touch the store."""

    def joined(self, tick: Tick, client: Client) -> None:
        """`on_join` was committed."""

    def left(self, tick: Tick, client: Client) -> None:
        """The session is gone; `client.entity` is what it had."""

    def command(self, tick: Tick, client: Client, command: PendingCommand, outcome: Outcome) -> None:
        """A command has its outcome."""

    def system(self, tick: Tick, name: str, ok: bool) -> None:
        """A system ran; if not `ok` it raised, and its transaction was undone."""


@dataclass(frozen=True, slots=True)
class AuthorityStatistics:
    """Counts since the start; but `links`, `sessions` and, among those, `away` are of now, and `staleness` says how
    many versions are committed and not yet published, because views that somebody holds defer it. `joins` are of new
    sessions, `resumes` of those that came back, `resumes_in_place` those of them that were
    to be sent only what they had missed."""

    tick: Tick
    version: Version
    staleness: int
    epoch: Epoch
    links: int
    sessions: int
    away: int
    joins: int
    resumes: int
    resumes_in_place: int
    leaves: int
    links_failed: int
    links_too_slow: int
    commands_accepted: int
    commands_rejected: int
    commands_superseded: int
    commands_failed: int
    systems_failed: int
    hooks_failed: int
    deltas_encoded: int
    deltas_encoded_bytes: int
    deltas_shared: int
    digests_computed: int
    full_syncs: int
    bytes_sent: int
    sync_bytes_sent: int
    bytes_received: int
    frames_received: int
    logins_refused: int
    """Strangers whom `authenticate` turned away."""
    logins_failed: int
    """Of whom it raised something else than `Reject`, or gave no account."""
    bytes_by_field: Mapping[str, int]
    """What was encoded for clients, where anything was: by table and field as in "transform.x", and by the table's name
    alone what it took beside its cells, to name rows. Each block once, however many it went to, before compression;
    with full syncs and the rows of events."""


@dataclass(frozen=True, slots=True)
class PeeringStatistics:
    """Counts since the start; but `links`, `live` and what waits are of now.

    `cells_told` came, and `cells_taken` of them were newer than what was here. `waited` counts frames that came before
    what they name, `resyncs_asked` how often everything was asked for, `resyncs_told` how often it was told,
    `links_refused` links that ended by a fault of the other side, `stamps_ahead` those whose clock was in the future.
    """

    links: int
    live: int
    frames_told: int
    bytes_told: int
    frames_taken: int
    cells_told: int
    cells_taken: int
    waiting_frames: int
    waiting_bytes: int
    waited: int
    resyncs_asked: int
    resyncs_told: int
    links_refused: int
    stamps_ahead: int
    tombstones_forgotten: int
