"""A player's way to a real node: a socket pair at each end, and a simulated stream in between.

    client ◄── socket pair ──► relay ── StreamPath, down and up ── relay ◄── socket pair ──► node

The relay takes bytes out of one end as they come, in pieces that are cut anywhere, and puts them into the other when
the path says that they have arrived. What the path does not take stays in the socket, as it would in a system's buffer;
an end that does not read holds up what is on its way, as a closed window does.

Invariants:
- each connection has paths and generators of its own, drawn from the seed, the player's name and the connection's
  number;
- an end that is gone is known at the other after the way there, never at once; but for `drop`, which breaks both.
"""

import socket
from collections.abc import Callable
from random import Random

import trio

from ecsnet.errors import ClosedError, ConnectError
from ecsnet.limits import NS_PER_S
from ecsnet.node import AuthoritativeNode
from ecsnet.node.in_process import open_pair
from ecsnet.sim.clock import START_NS
from ecsnet.sim.link import NEVER, StreamPath, stream_paths
from ecsnet.sim.profile import Profile
from ecsnet.sim.trace import TO_NODE, TO_PLAYER, Trace

_PIECE_BYTES_MAX = 4096
"""Pieces are smaller than most frames of a joining client and larger than those of a tick: both meet cuts."""


def now_ns() -> int:
    """Virtual time, as the node, its clients and the paths are told it: Trio's, from `START_NS` on."""
    return START_NS + round(trio.current_time() * NS_PER_S)


def deadline_of(when_ns: int) -> float:
    """The same moment by Trio's clock."""
    return (when_ns - START_NS) / NS_PER_S


class SimulatedWay:
    """Given to a client in place of a node's address.

    Args:
        node: the node that is reached now, or None while there is none, and how many there have been.
        nursery: where the relays run.
    """

    def __init__(
        self,
        name: str,
        number: int,
        profile: Profile,
        seed: str,
        *,
        node: Callable[[], tuple[AuthoritativeNode | None, int]],
        nursery: trio.Nursery,
        trace: Trace,
    ) -> None:
        self.profile = profile
        self.connections = 0
        """How many there have been."""
        self.incarnation = 0
        """Of the node that the newest connection leads to."""
        self._name = name
        self._number = number
        self._seed = seed
        self._node = node
        self._nursery = nursery
        self._trace = trace
        self._relay: _Relay | None = None
        self._is_cut = (False, False)

    def connect_in_process(self) -> socket.socket:
        """A new connection; takes no time, the first bytes do.

        Raises:
            ConnectError: no node runs there now.
        """
        node, incarnation = self._node()
        if node is None:
            raise ConnectError(self._name, "nobody listens there")
        try:
            nodes_end = node.connect_in_process()
        except ClosedError as error:
            raise ConnectError(self._name, "the node is about to end") from error
        self.connections += 1
        self.incarnation = incarnation
        seed = f"{self._seed}/{self._name}/{self.connections}"
        down, up = stream_paths(self.profile, seed)
        ours, theirs = open_pair()
        self._relay = _Relay(self._number, nodes_end, ours, down, up, Random(f"{seed}/pieces"), self._trace)
        # A line that is cut is cut for the next connection, too.
        self.cut(down=self._is_cut[0], up=self._is_cut[1])
        self._nursery.start_soon(self._relay.run)
        return theirs

    def cut(self, *, down: bool, up: bool) -> None:
        """What is under way waits, in these directions."""
        self._is_cut = (self._is_cut[0] or down, self._is_cut[1] or up)
        if self._relay is not None:
            self._relay.cut(down=down, up=up)

    def heal(self) -> None:
        self._is_cut = (False, False)
        if self._relay is not None:
            self._relay.heal()

    def change(self, profile: Profile) -> None:
        """Another profile from now on."""
        self.profile = profile
        if self._relay is not None:
            self._relay.change(profile)

    def drop(self) -> None:
        """The connection breaks, at both ends at once."""
        if self._relay is not None:
            self._relay.scope.cancel()
            self._relay = None


class _Relay:
    """One connection. It owns both sockets that it is given."""

    def __init__(
        self,
        number: int,
        nodes_end: socket.socket,
        players_end: socket.socket,
        down: StreamPath,
        up: StreamPath,
        random: Random,
        trace: Trace,
    ) -> None:
        self.scope = trio.CancelScope()
        self._number = number
        self._nodes_end = nodes_end
        self._players_end = players_end
        self._down = down
        self._up = up
        self._random = random
        self._trace = trace
        # Cancelled when a path has changed its mind about when the next bytes arrive.
        self._pauses: dict[int, trio.CancelScope] = {}

    async def run(self) -> None:
        """Until both directions have ended, or the connection is dropped."""
        try:
            with self.scope:
                async with trio.open_nursery() as tasks:
                    tasks.start_soon(self._carry, self._down, self._nodes_end, self._players_end, TO_PLAYER)
                    tasks.start_soon(self._carry, self._up, self._players_end, self._nodes_end, TO_NODE)
        finally:
            self._nodes_end.close()
            self._players_end.close()

    def cut(self, *, down: bool, up: bool) -> None:
        if down:
            self._down.cut(now_ns())
        if up:
            self._up.cut(now_ns())
        self._look_again()

    def heal(self) -> None:
        for path in (self._down, self._up):
            if path.is_cut:
                path.heal(now_ns())
        self._look_again()

    def change(self, profile: Profile) -> None:
        self._down.change(profile.down, now_ns())
        self._up.change(profile.up, now_ns())
        self._look_again()

    def _look_again(self) -> None:
        for pause in self._pauses.values():
            pause.cancel()

    async def _carry(self, path: StreamPath, source: socket.socket, sink: socket.socket, direction: int) -> None:
        """One direction, until its end has arrived."""
        held = b""
        is_reading = sink_is_there = True
        while True:
            for when_ns, data in path.receive(now_ns()):
                self._trace.arrived(when_ns, self._number, direction, data)
                # To an end that is gone nothing is brought; what it still sends is read, so that it comes to its end.
                sink_is_there = sink_is_there and await _write(sink, data)
            if path.ended(now_ns()):
                if sink_is_there:
                    sink.shutdown(socket.SHUT_WR)
                return
            if held and path.send(held, now_ns()):
                held = b""
            while is_reading and not held:
                try:
                    held = source.recv(self._random.randint(1, _PIECE_BYTES_MAX))
                except BlockingIOError:
                    break
                except OSError:
                    held = b""
                if not held:
                    is_reading = False
                    path.close(now_ns())
                elif path.send(held, now_ns()):
                    held = b""
            due_ns = min(path.next_ns, path.room_ns(now_ns())) if held else path.next_ns
            with trio.CancelScope(deadline=_deadline_or_never(due_ns)) as self._pauses[direction]:
                if is_reading and not held:
                    await trio.lowlevel.wait_readable(source)
                else:
                    await trio.sleep_forever()


def _deadline_or_never(when_ns: int) -> float:
    return deadline_of(when_ns) if when_ns < NEVER else float("inf")


async def _write(sink: socket.socket, data: bytes) -> bool:
    """Put all of it into a socket, as that has room, and let others run: its reader may see this much and no more.
    False if nobody is there to read it."""
    while data:
        try:
            data = data[sink.send(data) :]
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sink)
        except OSError:
            return False
    await trio.lowlevel.checkpoint()
    return True
