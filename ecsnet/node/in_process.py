"""A link inside one process: for a game that hosts the world it plays in, for simulations, and for tests.

It is a socket pair, so everything that holds for TCP holds here: partial writes, a full buffer, a peer that goes away,
and a client in another thread than its node. What it saves is the address, the handshake of TCP and its buffers' size.
"""

import socket
from typing import Protocol

BUFFER_BYTES = 256 * 1024
"""Of each direction, so that a link in memory hides no more than one over a network would."""


class Connectable(Protocol):
    """What a client of the same process can be given in place of a URL: an `AuthoritativeNode`, or a path to one that
    a simulation makes."""

    def connect_in_process(self) -> socket.socket:
        """The client's end of a new link, connected and non-blocking; it belongs to the caller.

        Raises:
            ConnectError: nobody answers now, and may later.
            ClosedError: nobody ever will again.
        """
        ...


def open_pair() -> tuple[socket.socket, socket.socket]:
    """(the node's end, the client's end), connected and non-blocking. Each belongs to whoever takes it."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    return ends
