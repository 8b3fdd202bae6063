"""The hub serves a batch of sockets once a tick: takes in what arrived, and hands out one frame to each.

A Trio task per socket costs three times as much and does not carry 1000 clients at 60 Hz; raw non-blocking calls do,
because nothing is ever waited for: what a socket does not take now, a later delta covers.

Invariants:
- exactly one writer per socket: the hub while a place is armed, the connection's own task while it is not. Two
  writers would interleave halves of two frames;
- no call waits, and none runs the caller's code while a batch is half sent;
- a place leaves the hub before its socket is closed, or the descriptor's next owner would be sent somebody else's
  world.
"""

import errno
import itertools
import select
import selectors
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ecsnet._kernel.hub import ACK, ARRIVED
from ecsnet.authority import Batch
from ecsnet.limits import RECEIVE_CHUNK_BYTES
from ecsnet.node.tcp import send_parts
from ecsnet.node.tls import Transport
from ecsnet.wire.codec import read_acks

Part = bytes | bytearray | memoryview


_SPREAD = 0x9E3779B1
"""A step that spreads who is first evenly, so that nobody is late for many ticks in a row."""


class Outgoing(NamedTuple):
    """One frame for one place: the parts go out one after the other, without being copied together first."""

    place: int
    parts: Sequence[Part]


class Ended(NamedTuple):
    """A place from which nothing more will come: `error` is 0 when the peer ended its stream, else an errno."""

    place: int
    error: int


Acks = NDArray[np.void]
"""Acks as numbers: `place`, `session`, `version`, `epoch` and `chunks` of each, in the order in which they came."""


class Hub(Protocol):
    """A batch of connected, non-blocking sockets. A place is a number above 0 that is the hub's own to choose.

    `PythonHub` is one, `NativeHub` another, `TwoHubs` makes one of both; the same tests hold for all.
    """

    def add(self, connected: Transport) -> int:
        """Take a socket in, armed. It stays the caller's; the caller closes it, after `remove`."""
        ...

    def remove(self, place: int) -> None:
        """Let a socket go: from now on it is neither read nor written."""
        ...

    def disarm(self, place: int) -> None:
        """Hand writing over to the caller. Reading goes on."""
        ...

    def arm(self, place: int) -> None:
        """Take writing back; the caller is at the beginning of a frame."""
        ...

    def send(self, batch: Sequence[Outgoing]) -> list[int]:
        """Offer each frame to its socket, once; every place is armed and named once.

        Returns, in the order of the batch: how many bytes were taken (0: nothing now), or minus an errno when the
        connection is gone. After a part of a frame the caller disarms the place and sees to the rest.
        """
        ...

    def send_deltas(self, batch: Batch) -> NDArray[np.int32]:
        """Offer the deltas of a tick, each to the place that its entry names, with what goes before it; every place is
        armed. Returns what `send` returns, in the order of the entries. Who is first is another one each time."""
        ...

    def drain(self, deliver: Callable[[int, memoryview], bool], take_acks: Callable[[Acks], None]) -> list[Ended]:
        """Read once from each socket that has something, at most `RECEIVE_CHUNK_BYTES`, and hand it to
        `deliver(place, data)`. `data` is valid during that call. What is left comes with the next drain, so a
        flood from one peer costs the others a bounded time.

        `deliver` says whether a frame ended with these bytes: then a hub that can tell acks from all else may hand what
        comes next from there to `take_acks`, if it is nothing but acks. What one place sent keeps its order.

        In the order in which the places were added, whatever order the system reports them in: which of two clients
        is heard first must not be a matter of chance.

        Returns the places that have ended; they go on being reported until they are removed.
        """
        ...

    def close(self) -> None:
        """Give the hub's own descriptors back; every socket has been removed. Idempotent."""
        ...


def offer(connected: Transport, parts: Sequence[Part]) -> int:
    """Offer parts of a frame to a socket: how many bytes it took, or minus an errno when the connection is gone."""
    try:
        return send_parts(connected, parts)
    except BlockingIOError:
        return 0
    except OSError as error:
        return -(error.errno or errno.EIO)


def _offer_one(connected: Transport, data: memoryview) -> int:
    """The same of one piece."""
    try:
        return connected.send(data)
    except BlockingIOError:
        return 0
    except OSError as error:
        return -(error.errno or errno.EIO)


class PythonHub:
    """A hub of plain Python: one system call for each send, epoll where there is one. It takes sockets under TLS, too.

    Args:
        first_place: the place of the first socket; later ones count on from there.
    """

    def __init__(self, first_place: int = 1) -> None:
        self._sockets: dict[int, Transport] = {}
        # Never used twice, so that they sort by age; descriptors are reused.
        self._places = itertools.count(first_place)
        self._place_of: dict[int, int] = {}
        self._armed: set[int] = set()
        self._within: set[int] = set()
        """Places that have sent the beginning of a frame and not its end."""
        self._turns = 0
        self._readable = _Readable()
        self._buffer = memoryview(bytearray(RECEIVE_CHUNK_BYTES))

    def __len__(self) -> int:
        return len(self._sockets)

    def add(self, connected: Transport) -> int:
        descriptor = connected.fileno()
        assert descriptor >= 0 and descriptor not in self._place_of
        self._readable.add(descriptor)
        place = next(self._places)
        self._place_of[descriptor] = place
        self._sockets[place] = connected
        self._armed.add(place)
        return place

    def remove(self, place: int) -> None:
        descriptor = self._sockets.pop(place).fileno()
        assert self._place_of.get(descriptor) == place, "a socket was closed before it left the hub"
        del self._place_of[descriptor]
        self._armed.discard(place)
        self._within.discard(place)
        self._readable.remove(descriptor)

    def disarm(self, place: int) -> None:
        assert place in self._sockets
        self._armed.discard(place)

    def arm(self, place: int) -> None:
        assert place in self._sockets
        self._armed.add(place)

    def send(self, batch: Sequence[Outgoing]) -> list[int]:
        return [self._send(place, parts) for place, parts in batch]

    def send_deltas(self, batch: Batch) -> NDArray[np.int32]:
        count = len(batch)
        if not count:
            return np.zeros(0, np.int32)
        frames, ends = batch.composed()
        spans = list(zip(batch.array["place"].tolist(), [0, *ends], ends, strict=False))
        self._turns += 1
        first = self._turns * _SPREAD % count
        armed, sockets = self._armed, self._sockets
        taken = []
        for place, begin, end in itertools.chain(spans[first:], spans[:first]):
            assert place in armed, "two writers for one socket"
            taken.append(_offer_one(sockets[place], frames[begin:end]))
        return np.roll(np.array(taken, np.int32), first)

    def _send(self, place: int, parts: Sequence[Part]) -> int:
        assert place in self._armed, "two writers for one socket"
        return offer(self._sockets[place], parts)

    def drain(self, deliver: Callable[[int, memoryview], bool], take_acks: Callable[[Acks], None]) -> list[Ended]:
        ended = []
        acks: list[tuple[int, ...]] = []
        place_of, within = self._place_of, self._within
        for place in sorted([place_of[descriptor] for descriptor in self._readable.ready()]):
            try:
                count = self._sockets[place].recv_into(self._buffer)
            except (BlockingIOError, InterruptedError):
                continue
            except OSError as error:
                ended.append(Ended(place, error.errno or errno.EIO))
                continue
            data = self._buffer[:count]
            if count == 0:
                ended.append(Ended(place, 0))
            elif place not in within and (found := read_acks(data)):
                acks += [(place, *ack, 0, 0, ACK, 0) for ack in found]
            elif deliver(place, data):
                within.discard(place)
            else:
                within.add(place)
        if acks:
            take_acks(np.array(acks, ARRIVED))
        return ended

    def close(self) -> None:
        assert not self._sockets
        self._readable.close()


if sys.platform == "linux":

    class _Readable:
        """Which descriptors have something to read."""

        def __init__(self) -> None:
            self._epoll = select.epoll()
            self._count = 0

        def add(self, descriptor: int) -> None:
            self._epoll.register(descriptor, select.EPOLLIN)
            self._count += 1

        def remove(self, descriptor: int) -> None:
            self._epoll.unregister(descriptor)
            self._count -= 1

        def ready(self) -> list[int]:
            # Left to its default, `poll` reports 1023 descriptors at most.
            return [descriptor for descriptor, _ in self._epoll.poll(0, max(1, self._count))]

        def close(self) -> None:
            self._epoll.close()

else:

    class _Readable:
        """Which descriptors have something to read."""

        def __init__(self) -> None:
            self._selector = selectors.DefaultSelector()

        def add(self, descriptor: int) -> None:
            self._selector.register(descriptor, selectors.EVENT_READ)

        def remove(self, descriptor: int) -> None:
            self._selector.unregister(descriptor)

        def ready(self) -> list[int]:
            # Windows refuses to select among no sockets at all.
            if not self._selector.get_map():
                return []
            return [key.fd for key, _ in self._selector.select(0)]

        def close(self) -> None:
            self._selector.close()
