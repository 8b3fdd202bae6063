"""What the Trio drivers share: raising an error rather than a group of one, and parting from a peer."""

import contextlib
import socket
from collections.abc import Iterator

import trio

from ecsnet.limits import RECEIVE_CHUNK_BYTES
from ecsnet.node.tls import Transport

# What was on its way when the peer was told is far less; a flood is not worth reading for the sake of good manners.
_LINGER_READS_MAX = 64


@contextlib.contextmanager
def unwrapping() -> Iterator[None]:
    """Raise the one exception of a group in place of the group; several stay a group.

    Trio hands on what a nursery's tasks raised as a group, even if it is one. A caller of ours does not see the
    nursery, and expects the error itself."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if error is group:
            raise
        # The group's own frames are Trio's; what the error itself was raised from stays with it.
        raise error from error.__cause__


async def linger(connected: Transport, seconds: float) -> None:
    """Say that nothing more comes, then throw away what the peer still sends until it closes too, `seconds` at most.

    Closing at once would reset a connection on which something is unread, and the peer's system would throw away
    our last frame with everything else that the peer had not read."""
    with trio.move_on_after(seconds):
        try:
            connected.shutdown(socket.SHUT_WR)
            for _ in range(_LINGER_READS_MAX):
                await trio.lowlevel.wait_readable(connected)
                try:
                    if not connected.recv(RECEIVE_CHUNK_BYTES):
                        return
                except BlockingIOError:
                    pass
        except OSError:
            pass
