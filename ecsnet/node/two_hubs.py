"""The hub of a node with links under TLS and links without: two hubs behind one face.

What is not encrypted goes out by the kernel's hub, in one call; what is, by the hub in Python, whose own part for each
link is to encrypt and to send. Both are given their deltas out of the same batch, for which everything was cut at once.

Invariants: those of `hub.py`; a place says by itself which of the two has it.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecsnet.authority import Batch
from ecsnet.node.hub import Acks, Ended, Hub, Outgoing
from ecsnet.node.tls import TlsSocket, Transport

__all__ = ["SECURED_FROM", "TwoHubs"]

SECURED_FROM: Final = 1 << 62
"""The first place under TLS. A hub counts up from 1 and never gives a place twice, which does not reach this far."""


class TwoHubs:
    """See the file.

    Args:
        plain: for sockets without TLS.
        secured: for those with; its first place is `SECURED_FROM`. Both are closed with this one.
    """

    def __init__(self, plain: Hub, secured: Hub) -> None:
        self._plain = plain
        self._secured = secured

    def add(self, connected: Transport) -> int:
        hub = self._secured if isinstance(connected, TlsSocket) else self._plain
        place = hub.add(connected)
        assert self._of(place) is hub, place
        return place

    def remove(self, place: int) -> None:
        self._of(place).remove(place)

    def disarm(self, place: int) -> None:
        self._of(place).disarm(place)

    def arm(self, place: int) -> None:
        self._of(place).arm(place)

    def send(self, batch: Sequence[Outgoing]) -> list[int]:
        return [self._of(one.place).send([one])[0] for one in batch]

    def send_deltas(self, batch: Batch) -> NDArray[np.int32]:
        taken = np.zeros(len(batch), np.int32)
        if not batch:
            return taken
        secured = batch.array["place"] >= SECURED_FROM
        # Who must only be sent to is not to wait for those who are encrypted for.
        for hub, its in ((self._plain, ~secured), (self._secured, secured)):
            numbers = np.flatnonzero(its)
            if len(numbers) == len(batch):
                return hub.send_deltas(batch)
            if len(numbers):
                taken[numbers] = hub.send_deltas(batch.part(numbers))
        return taken

    def drain(self, deliver: Callable[[int, memoryview], bool], take_acks: Callable[[Acks], None]) -> list[Ended]:
        """As of one hub; those without TLS are heard first."""
        return self._plain.drain(deliver, take_acks) + self._secured.drain(deliver, take_acks)

    def close(self) -> None:
        self._plain.close()
        self._secured.close()

    def _of(self, place: int) -> Hub:
        return self._secured if place >= SECURED_FROM else self._plain
