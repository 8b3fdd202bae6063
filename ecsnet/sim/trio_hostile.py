"""A client that sends whatever it likes to the real node; what it sends is `ecsnet.sim.hostile`'s matter.

Invariant: it is asked nothing at the end, and what becomes of it decides nothing: it only must not hurt.
"""

import socket
from random import Random
from typing import TYPE_CHECKING

import trio

from ecsnet.errors import ConnectError
from ecsnet.limits import RECEIVE_CHUNK_BYTES
from ecsnet.sim.trio_link import SimulatedWay, now_ns
from ecsnet.world import World

if TYPE_CHECKING:
    from ecsnet.sim.hostile import HostilePlayer

BACK_AFTER_S = 0.25
"""Times 0.5 to 2: after the node has thrown it out, or is not there."""


class TrioIntruder:
    """See the file. Made by the cluster, which runs it."""

    def __init__(self, name: str, way: SimulatedWay, random: Random, world: World) -> None:
        self.name = name
        self.way = way
        self.bytes_sent = 0
        self._random = random
        self._world = world
        self._scope = trio.CancelScope()

    def stop(self, now_ns: int = 0) -> None:
        """It goes away for good."""
        self._scope.cancel()

    async def run(self) -> None:
        """Come, be a nuisance, be thrown out, come again."""
        # Imported here: only a run with intruders pays for it.
        from ecsnet.sim.hostile import HostilePlayer

        with self._scope:
            while True:
                try:
                    connected = self.way.connect_in_process()
                except ConnectError:
                    pass
                else:
                    with connected:
                        await self._speak(connected, HostilePlayer(self._random, "stream", self._world))
                await trio.sleep(BACK_AFTER_S * self._random.uniform(0.5, 2.0))

    async def _speak(self, connected: socket.socket, speaker: "HostilePlayer") -> None:
        """Once a tick, until the connection is over."""
        unsent = bytearray()
        while True:
            received = []
            try:
                while data := connected.recv(RECEIVE_CHUNK_BYTES):
                    received.append(data)
                return
            except BlockingIOError:
                pass
            except OSError:
                return
            if len(unsent) < RECEIVE_CHUNK_BYTES:
                unsent += b"".join(speaker.bytes_to_send(now_ns(), received))
            try:
                while unsent:
                    taken = connected.send(unsent)
                    self.bytes_sent += taken
                    del unsent[:taken]
            except BlockingIOError:
                pass
            except OSError:
                return
            await trio.sleep(1 / self._world.hz)
