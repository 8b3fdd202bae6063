"""What is asked of a demo, checked once, before any process is started."""

import math
import os

import msgspec

from ecsnet.errors import ArgumentError
from ecsnet.limits import CLIENTS_MAX, HZ_MAX, HZ_MIN
from ecsnet.sim.profile import profile

BOTS_PROCESSES_MAX = 4
"""Beside the node's process: more would measure the machine's scheduler."""

ENTITIES_MAX = 1_000_000
"""Beyond that the bots' memory, a replica each, is what is measured."""

START_S = 30.0
"""What a slow machine has to start everything, or a node in place of one that was killed."""

CONVERGE_S = 5.0
"""From the world's stop until every client must hold what the authority holds."""

WARM_UP_S = 1.0
"""Lag counts from here on: joining and first touches of memory are over."""

DURABILITIES = ("memory", "relaxed", "strict", "paranoid")

KILL_EVERY_S_MIN = 1.0
"""A node needs about as long to start, and is to do something before it dies."""

DROP_EVERY_S_MIN = 0.02
"""More often there would be nobody left to cut."""

AFTER_DROP_S = 0.5
"""What is left of the play after the last cut."""

AFTER_KILL_S = 1.5
"""What is left of the play after the last death."""

STATUS_S = 0.2
"""How often each process reports: often enough for the eye, rarely enough to cost nothing."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """One demo.

    Attributes:
        seconds: how long the world runs once every bot is there.
        moving: share of the entities that move, in [0, 1]; those move in every tick.
        link_profile: the line between each bot and the node, as `ecsnet.sim.profile` names it; empty for this machine's
            own sockets and nothing else.
        data: the directory that the world lives in; empty is in memory.
        durability: of a world on disk, as `ecsnet serve` has it.
        kill_node_every: seconds between two deaths of the node's process, each followed by another node on the same
            data; 0 lets it live. The last comes early enough for the next node to be there in the end.
        drop_client_every: seconds between two cuts of a bot's connection, one bot at a time; 0 cuts none. The last
            comes early enough for the bot to be back in the end.
        tls: the directory with a certificate of `make_certificate`: the links are under TLS by it. Empty for plain TCP.
        interest: each bot is sent what is near its ship, what it owns, and what those hold.
        liars: bots that report a digest which is not theirs. For tests: is a difference noticed?
    """

    seconds: float = 10.0
    clients: int = 20
    entities: int = 1000
    hz: int = 30
    moving: float = 1.0
    seed: int = 0
    link_profile: str = ""
    data: str = ""
    durability: str = "relaxed"
    kill_node_every: float = 0.0
    drop_client_every: float = 0.0
    tls: str = ""
    interest: bool = False
    liars: int = 0

    def __post_init__(self) -> None:
        _check("seconds", self.seconds, 0.1, 86_400.0)
        _check("clients", self.clients, 1, CLIENTS_MAX)
        _check("entities", self.entities, 0, ENTITIES_MAX)
        _check("hz", self.hz, HZ_MIN, HZ_MAX)
        _check("moving", self.moving, 0.0, 1.0)
        _check("seed", self.seed, 0, 2**63 - 1)
        if self.link_profile:
            profile(self.link_profile)
        if self.durability not in DURABILITIES:
            raise ArgumentError(f"durability is {self.durability!r}; it may be {', '.join(DURABILITIES)}")
        if self.kill_node_every:
            _check("kill-node-every", self.kill_node_every, KILL_EVERY_S_MIN, 86_400.0)
            if not self.data:
                raise ArgumentError("killing the node loses a world in memory; give --data DIR with --kill-node-every")
        if self.drop_client_every:
            _check("drop-client-every", self.drop_client_every, DROP_EVERY_S_MIN, 86_400.0)
        assert 0 <= self.liars <= self.clients

    @property
    def warm_up_s(self) -> float:
        """A run of a second or two has no whole second to give away."""
        return min(WARM_UP_S, self.seconds / 2)

    @property
    def processes(self) -> int:
        """Processes of bots. One for each core that is there: two on one core would only wait for each other."""
        return min(BOTS_PROCESSES_MAX, self.clients, max(1, os.cpu_count() or 1))


def _check(name: str, value: float, least: float, greatest: float) -> None:
    if not math.isfinite(value) or not least <= value <= greatest:
        raise ArgumentError(f"{name} is {value:g}; it must be in [{least:g}, {greatest:g}]")
