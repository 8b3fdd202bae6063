"""The way back to a node: which address is tried next, by a client that lost the one that had answered.

    node.example ──looked up──► 203.0.113.7, 203.0.113.8

The one that answered last is tried first. When it does not answer any more, the name is looked up again, and all that
it stands for now are tried by turns.

A node that moves keeps its name: a client that only knew its address would look for it in vain until it is restarted.

Invariants:
- nobody waits for a look-up: it runs in a thread of its own, one at a time, and until it is done, or when it fails,
  what is known already is tried;
- an address that is written in numbers is not looked up.
"""

import ipaddress
import socket
import threading
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

__all__ = ["Place", "Way", "look_up"]

Opened = TypeVar("Opened")


class Place(NamedTuple):
    """A resolved address: a family, and what `getpeername` gives of it."""

    family: int
    where: Any


def look_up(host: str, port: int) -> list[Place]:
    """What a name stands for now, each once. Blocks. Nothing, where it is not known or nobody can be asked."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(Place(family, where) for family, _, _, _, where in found))


class Way(Generic[Opened]):
    """Called, it begins to connect to what is to be tried next.

    Args:
        host, port: as the client was given them.
        answered: where the node answered at first.
        open: begins to connect, without waiting. Raises OSError: not there.
        find: looks a name up; another for tests.
    """

    def __init__(
        self,
        host: str,
        port: int,
        answered: Place,
        open: Callable[[Place], Opened],
        find: Callable[[str, int], list[Place]] = look_up,
    ) -> None:
        self._host = host
        self._port = port
        self._places = [answered]
        self._next = 0
        self._tried = answered
        self._open = open
        self._find = find
        self._is_number = _is_number(host)
        self._looking: threading.Thread | None = None
        self._found: list[Place] = []

    def __call__(self) -> Opened:
        """Begin the next attempt. Raises OSError: it failed at once."""
        if self._next > 0:
            # The one that had answered does not any more.
            self._look_again()
        self._tried = self._places[self._next % len(self._places)]
        self._next += 1
        return self._open(self._tried)

    def begin(self) -> None:
        """The connection that was tried last had been found, and is lost now: it is the first to be tried again."""
        self._places = [self._tried, *(place for place in self._places if place != self._tried)]
        self._next = 0

    def _look_again(self) -> None:
        if self._is_number or (self._looking is not None and self._looking.is_alive()):
            return
        found, self._found = self._found, []
        if found:
            self._places = found
        self._looking = threading.Thread(target=self._look, name="ecsnet look-up", daemon=True)
        self._looking.start()

    def _look(self) -> None:
        self._found = self._find(self._host, self._port)


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
