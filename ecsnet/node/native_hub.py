"""The hub of a node on Linux: what `PythonHub` does, with one system call for each socket and nothing else for it.

All deltas of a tick go out in one call of the kernel, and all input of a tick comes in by one; acks, most of what the
clients of a game send, come as numbers. Control frames, which are few, go out as the Python hub sends them.

Invariants: those of `hub.py`, of which this is another.
"""

import errno
import socket
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ecsnet._kernel.hub import ACK, BYTES, KernelHub
from ecsnet.authority import Batch
from ecsnet.node.hub import Acks, Ended, Hub, Outgoing, PythonHub, offer
from ecsnet.node.tls import Transport

__all__ = ["NativeHub", "best_hub"]


def best_hub() -> Hub:
    """The hub for this system."""
    try:
        return NativeHub()
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        return PythonHub()


class NativeHub:
    """A hub in the kernel.

    Raises:
        OSError: this system has no epoll; `PythonHub` does without.
    """

    def __init__(self) -> None:
        self._kernel = KernelHub()
        self._sockets: dict[int, Transport] = {}
        self._armed: set[int] = set()
        self._within: set[int] = set()
        """Places that have sent the beginning of a frame and not its end."""

    def __len__(self) -> int:
        return len(self._sockets)

    @property
    def descriptor(self) -> int:
        """Can be read while one of the sockets can: for whoever waits for input between two drains."""
        return self._kernel.descriptor

    def add(self, connected: Transport) -> int:
        assert isinstance(connected, socket.socket), "what goes out here is not encrypted"
        place = self._kernel.add(connected.fileno())
        self._sockets[place] = connected
        self._armed.add(place)
        return place

    def remove(self, place: int) -> None:
        descriptor = self._sockets.pop(place).fileno()
        self._armed.discard(place)
        self._within.discard(place)
        assert descriptor >= 0, "a socket was closed before it left the hub"
        self._kernel.remove(place)

    def disarm(self, place: int) -> None:
        assert place in self._sockets
        self._armed.discard(place)
        self._mark(place)

    def arm(self, place: int) -> None:
        assert place in self._sockets
        self._armed.add(place)
        self._mark(place)

    def send(self, batch: Sequence[Outgoing]) -> list[int]:
        taken = []
        for place, parts in batch:
            assert place in self._armed, "two writers for one socket"
            taken.append(offer(self._sockets[place], parts))
        return taken

    def send_deltas(self, batch: Batch) -> NDArray[np.int32]:
        return self._kernel.send_deltas(batch.version, batch.tick, batch.epoch, batch.entries, batch.blocks)

    def drain(self, deliver: Callable[[int, memoryview], bool], take_acks: Callable[[Acks], None]) -> list[Ended]:
        kernel, buffer, within = self._kernel, self._kernel.buffer, self._within
        ended = []
        kernel.poll()
        while len(arrived := kernel.receive()):
            acks = arrived["kind"] == ACK
            if acks.any():
                take_acks(arrived[acks])
                arrived = arrived[~acks]
            for place, _, _, _, _, offset, length, kind, _ in arrived.tolist():
                if kind != BYTES:
                    ended.append(Ended(place, length))
                elif deliver(place, buffer[offset : offset + length]) == (place in within):
                    within ^= {place}
                    self._mark(place)
        return ended

    def close(self) -> None:
        assert not self._sockets
        self._kernel.close()

    def _mark(self, place: int) -> None:
        if place in self._sockets:
            self._kernel.mark(place, armed=place in self._armed, at_frame=place not in self._within)
