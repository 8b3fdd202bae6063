"""A client that sends whatever it likes, over a real link of the run, beside the players.

What it sends is `ecsnet.sim.hostile`'s matter; here it is connected, fed with what the node answers, and connected
again when the node throws it out. It has no replica and is asked nothing at the end: it only must not hurt.
"""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from ecsnet.limits import NS_PER_S
from ecsnet.sim.node_side import Connection

if TYPE_CHECKING:
    from ecsnet.sim.hostile import HostilePlayer

BACK_AFTER_NS = NS_PER_S // 4

Connect = Callable[["HostileSide", int], Connection]


class HostileSide:
    """See the file."""

    def __init__(
        self, name: str, number: int, speaker: "Callable[[], HostilePlayer]", connect: Connect, random: Random
    ):
        self.name = name
        self.number = number
        self.connection: Connection | None = None
        self.bytes_sent = 0
        self.connections = 0
        self.stopped = False
        self._make_speaker = speaker
        self._speaker = speaker()
        self._connect = connect
        self._random = random
        self._connect_at_ns = 0

    def stop(self, now_ns: int) -> None:
        """It goes away for good."""
        self.stopped = True
        if self.connection is not None:
            self.connection.player_close(now_ns)
            self.connection = None

    def advance(self, until_ns: int) -> None:
        """One tick of mischief."""
        if self.stopped:
            return
        if self.connection is None:
            if until_ns < self._connect_at_ns:
                return
            self.connection = self._connect(self, until_ns)
            self.connections += 1
            self._speaker = self._make_speaker()
        connection = self.connection
        received = connection.raw_receive(until_ns)
        for data in self._speaker.bytes_to_send(until_ns, received):
            self.bytes_sent += len(data)
            connection.raw_send(data, until_ns)
        if connection.player_lost(until_ns):
            connection.abort()
            self.connection = None
            self._connect_at_ns = until_ns + round(BACK_AFTER_NS * self._random.uniform(0.5, 2.0))
