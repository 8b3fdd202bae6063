"""TCP as both sides use it: addresses written as URLs, listening and connected sockets, and how they are tuned.

Invariants:
- every socket that leaves this module is non-blocking and closed again if anything fails on the way;
- a transport that is planned and not built is refused by name, so that `tls://` never quietly means plain TCP;
- the operating system's words reach a person as a typed error that names the address and what to do.
"""

import errno
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from ecsnet.errors import ArgumentError, ConnectError, ListenError, NotBuiltError
from ecsnet.limits import TCP_NOTSENT_LOWAT_BYTES

PORT_DEFAULT = 7777
"""The port of an address that names none."""

BACKLOG = 1024
"""Connections that the system keeps until they are accepted: a full node's worth that comes back at once."""

_PLANNED = {
    "tls": "TLS",
    "ws": "WebSocket",
    "wss": "WebSocket over TLS",
    "udp": "UDP",
}

# Python 3.11 does not name it on every system that has it.
_NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
if _NOTSENT_LOWAT is None and sys.platform == "linux":
    _NOTSENT_LOWAT = 25


class Address(NamedTuple):
    """Where a node listens or a client connects to."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"


def parse_url(url: str) -> Address:
    """Read `tcp://host:port`. The port is 7777 when left out; an IPv6 address is written in brackets.

    Raises:
        NotBuiltError: a transport that is planned.
        ArgumentError: anything else that is no such address.
    """
    if not isinstance(url, str):
        raise ArgumentError(f"an address is a text such as 'tcp://localhost:{PORT_DEFAULT}', not {url!r}")
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ArgumentError(f"{url!r} names no transport; write it as 'tcp://{url}'")
    if scheme in _PLANNED:
        raise NotBuiltError(f"the transport {_PLANNED[scheme]} ({url})", "use tcp://")
    if scheme != "tcp":
        raise ArgumentError(f"{url!r}: unknown transport {scheme!r}; known: tcp")
    if "/" in rest or "@" in rest or "?" in rest:
        raise ArgumentError(f"{url!r}: only a host and a port follow tcp://")
    host, port = _split_port(url, rest)
    if not host:
        raise ArgumentError(f"{url!r} names no host; 0.0.0.0 is every IPv4 interface")
    return Address(host, port)


def _split_port(url: str, rest: str) -> tuple[str, int]:
    if rest.startswith("["):
        host, bracket, tail = rest[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise ArgumentError(f"{url!r}: an IPv6 address is written as [::1]:{PORT_DEFAULT}")
        text = tail[1:] if tail else str(PORT_DEFAULT)
    elif rest.count(":") > 1:
        raise ArgumentError(f"{url!r}: an IPv6 address is written in brackets, as [::1]:{PORT_DEFAULT}")
    else:
        host, colon, text = rest.partition(":")
        if not colon:
            text = str(PORT_DEFAULT)
    if not (text.isascii() and text.isdigit() and int(text) <= 0xFFFF):
        raise ArgumentError(f"{url!r}: {text!r} is no port; it must be in [0, 65535]")
    return host, int(text)


def listen(url: str) -> list[socket.socket]:
    """Listen on every address that the host of `url` stands for (with port 0: on the first, on a port that is free).

    Raises:
        ListenError: the port is in use, or the address is not this machine's. Nothing is left listening.
    """
    address = parse_url(url)
    listeners: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, where in _resolved(address, url):
            try:
                listeners.append(_listener(family, where))
            except OSError as error:
                # `localhost` is two addresses, of which a machine without IPv6 has one.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
            if listeners and address.port == 0:
                break
        if not listeners and missing is not None:
            raise missing
    except OSError as error:
        for listener in listeners:
            listener.close()
        raise ListenError(url, _why_not_listening(error, address)) from error
    return listeners


def _resolved(address: Address, url: str) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE, proto=socket.IPPROTO_TCP
        )
    except (socket.gaierror, UnicodeError) as error:
        raise ListenError(url, f"{address.host!r} is no address of this machine ({error}); try 127.0.0.1") from error
    return list(dict.fromkeys((family, (str(where[0]), int(where[1]))) for family, _, _, _, where in found))


def _listener(family: socket.AddressFamily, where: tuple[str, int]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":
            # There it means something else: to take over a port that somebody is using.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(where)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _why_not_listening(error: OSError, address: Address) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {address.port} is in use, perhaps by a node that is still running; stop it, or choose another port "
            f"(0 is any that is free)"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {address.port} is not allowed for this user; choose one of 1024 or above"
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return f"{address.host} is no address of this machine; 0.0.0.0 is every IPv4 interface"
    return str(error.strerror or error)


def connect(url: str, wait_s: float) -> socket.socket:
    """Connect to a node within `wait_s` seconds: blocks.

    Raises:
        ConnectError: nobody answers there.
    """
    address = parse_url(url)
    try:
        connected = socket.create_connection(address, timeout=wait_s)
    except (OSError, UnicodeError) as error:
        raise ConnectError(url, why_not_connected(error)) from error
    tune(connected)
    return connected


def start_connect(family: int, where: Any) -> socket.socket:
    """Begin to connect to a resolved address, such as `getpeername` gives, without waiting: `is_connected` tells.

    Raises:
        OSError: it failed at once. Nothing is left open.
    """
    connecting = socket.socket(family, socket.SOCK_STREAM)
    try:
        tune(connecting)
        error = connecting.connect_ex(where)
        if error not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
            raise OSError(error, os.strerror(error))
    except BaseException:
        connecting.close()
        raise
    return connecting


def is_connected(connecting: socket.socket) -> bool:
    """What became of `start_connect`; False while it is under way, in which case the socket becomes writable when it
    is not any more.

    Raises:
        OSError: it failed. The socket is the caller's to close.
    """
    error = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))
    try:
        peer = connecting.getpeername()
    except OSError as missing:
        if missing.errno == errno.ENOTCONN:
            return False
        raise
    if connecting.family in (socket.AF_INET, socket.AF_INET6) and peer == connecting.getsockname():
        # Where nobody listens on a port of this machine, the system may draw that very port for us: a socket connected
        # to itself. It would also keep the port from the node that is about to come back.
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    return True


def why_not_connected(error: Exception) -> str:
    """What to tell a person about an error of `connect`."""
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there (connection refused); is the node running?"
    if isinstance(error, TimeoutError):
        return "no answer in time; is the address right, and does a firewall let it through?"
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return f"the host is not known ({error})"
    return str(error)


def tune(connected: socket.socket) -> None:
    """Make a connected socket fit for small frames that are wanted now: non-blocking, no delay, and little unsent
    data in the system, where it could not be replaced by something newer."""
    connected.setblocking(False)
    if connected.family not in (socket.AF_INET, socket.AF_INET6):
        return
    # Each may be refused by a system that lacks it, or by a peer that is gone already: neither is a reason to fail.
    try:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if _NOTSENT_LOWAT is not None:
            connected.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, TCP_NOTSENT_LOWAT_BYTES)
    except OSError:
        pass


def peer_of(connected: socket.socket) -> str:
    """The peer's address, for logs and statistics."""
    try:
        where = connected.getpeername()
    except OSError:
        return "?"
    return f"{where[0]}:{where[1]}" if isinstance(where, tuple) else "in-process"


def address_of(listener: socket.socket) -> str:
    """The URL under which a listening socket is reached."""
    where = listener.getsockname()
    return str(Address(str(where[0]), int(where[1])))


if sys.platform != "win32":

    def send_parts(connected: socket.socket, parts: Sequence[bytes | bytearray | memoryview]) -> int:
        """Send as much of `parts`, one after the other, as the socket takes now; the number of bytes taken.

        Raises:
            BlockingIOError: it takes nothing now.
            OSError: the connection is gone.
        """
        return connected.sendmsg(parts)

else:

    def send_parts(connected: socket.socket, parts: Sequence[bytes | bytearray | memoryview]) -> int:
        """Send as much of `parts`, one after the other, as the socket takes now; the number of bytes taken.

        Raises:
            BlockingIOError: it takes nothing now.
            OSError: the connection is gone.
        """
        return connected.send(b"".join(parts))
