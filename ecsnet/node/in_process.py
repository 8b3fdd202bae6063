"""A link inside one process: for a game that hosts the world it plays in, and for tests.

It is a socket pair, so everything that holds for TCP holds here: partial writes, a full buffer, a peer that goes away,
and a client in another thread than its node. What it saves is the address, the handshake of TCP and its buffers' size.
"""

import socket

BUFFER_BYTES = 256 * 1024
"""Of each direction, so that a link in memory hides no more than one over a network would."""


def open_pair() -> tuple[socket.socket, socket.socket]:
    """(the node's end, the client's end), connected and non-blocking. Each belongs to whoever takes it."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    return ends
