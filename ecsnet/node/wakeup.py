"""Wake a loop from another thread.

A loop that waits for sockets waits for this one too. `set` may be called from any thread, any number of times, also
after `close`: it never blocks and never fails.

A socket pair, because it is the only thing that every system can wait for beside its sockets. An eventfd would save
a descriptor and half a microsecond on Linux; Trio, selectors and whoever calls would not see a difference.

Invariant: after a `set`, the socket is readable until the next `clear`; several sets may be seen as one.
"""

import socket
import threading


class Wakeup:
    """One loop waits, any thread wakes it."""

    __slots__ = ("_lock", "_reader", "_writer")

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        # Between `set` and `close` alone: a descriptor that was closed may already be somebody else's. Reentrant, since
        # a finaliser may call `set` in the middle of either.
        self._lock = threading.RLock()

    @property
    def socket(self) -> socket.socket:
        """What to wait for; readable means woken. Belongs to this object: read from it only through `clear`."""
        return self._reader

    def set(self) -> None:
        """Wake the loop. From any thread."""
        with self._lock:
            if self._writer.fileno() < 0:
                return
            try:
                self._writer.send(b"\0")
            except BlockingIOError:
                pass  # full of wake-ups that nobody has seen yet

    def clear(self) -> None:
        """Note that the loop is awake. Clear first and look for work afterwards, or a wake-up in between is lost."""
        try:
            while len(self._reader.recv(4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Give both descriptors back. Idempotent."""
        with self._lock:
            self._writer.close()
        self._reader.close()
