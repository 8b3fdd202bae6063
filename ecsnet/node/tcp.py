"""TCP as both sides use it: addresses written as URLs, listening and connected sockets, and how they are tuned.

Invariants:
- every socket that leaves this module is non-blocking and closed again if anything fails on the way;
- a transport that is planned and not built is refused by name, so that `tls://` never quietly means plain TCP;
- the operating system's words reach a person as a typed error that names the address and what to do.
"""

import contextlib
import errno
import ipaddress
import os
import selectors
import socket
import ssl
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ecsnet.errors import ArgumentError, ConnectError, ListenError, NotBuiltError
from ecsnet.limits import TCP_NOTSENT_LOWAT_BYTES
from ecsnet.node.tls import TlsSocket, Transport, client_context, why_not_trusted

PORT_DEFAULT = 7777
"""The port of an address that names none."""

BACKLOG = 1024
"""Connections that the system keeps until they are accepted: a full node's worth that comes back at once."""

_PLANNED = {
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

    @property
    def scheme(self) -> str:
        return "tcp"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


class TlsAddress(Address):
    """The same, under TLS."""

    __slots__ = ()

    @property
    def scheme(self) -> str:
        return "tls"


def parse_url(url: str) -> Address:
    """Read `tcp://host:port`, or `tls://host:port`. The port is 7777 when left out; an IPv6 address is written in
    brackets.

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
        raise NotBuiltError(f"the transport {_PLANNED[scheme]} ({url})", "use tcp:// or tls://")
    if scheme not in ("tcp", "tls"):
        raise ArgumentError(f"{url!r}: unknown transport {scheme!r}; known: tcp, tls")
    if "/" in rest or "@" in rest or "?" in rest:
        raise ArgumentError(f"{url!r}: only a host and a port follow {scheme}://")
    host, port = _split_port(url, rest)
    if not host:
        raise ArgumentError(f"{url!r} names no host; 0.0.0.0 is every IPv4 interface")
    return TlsAddress(host, port) if scheme == "tls" else Address(host, port)


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


def context_for(url: str, ca: str | Path | None) -> ssl.SSLContext | None:
    """What a client of `url` believes: see `tls.client_context`. None for one without TLS.

    Raises:
        ArgumentError: `ca` is given and the URL is not `tls://`. CertificateError: `ca` is no file of certificates.
    """
    if parse_url(url).scheme == "tls":
        return client_context(ca)
    if ca is not None:
        raise ArgumentError(f"ca is given, and {url!r} proves nothing; write tls://")
    return None


def connect(url: str, wait_s: float, context: ssl.SSLContext | None = None) -> Transport:
    """Connect to a node within `wait_s` seconds: blocks.

    Args:
        context: from `context_for`; needed for `tls://`.

    Raises:
        ConnectError: nobody answers there. UntrustedNodeError: it cannot prove that it is who we asked for.
    """
    address = parse_url(url)
    if (address.scheme == "tls") != (context is not None):
        raise ArgumentError(f"{url!r}: tls:// and nothing else goes with what the client believes")
    deadline_s = time.monotonic() + wait_s
    try:
        connected = socket.create_connection(address, timeout=wait_s)
    except (OSError, UnicodeError) as error:
        raise ConnectError(url, why_not_connected(error)) from error
    tune(connected)
    if context is None:
        return connected
    secured = TlsSocket(connected, context, address.host)
    with securing(url, secured), selectors.DefaultSelector() as selector:
        selector.register(secured, selectors.EVENT_READ)
        while not secured.shake_hands():
            selector.modify(secured, selectors.EVENT_WRITE if secured.wants_room else selectors.EVENT_READ)
            if not selector.select(max(0.0, deadline_s - time.monotonic())):
                raise TimeoutError
    return secured


@contextlib.contextmanager
def securing(url: str, secured: TlsSocket) -> Iterator[None]:
    """Around a handshake of TLS. One that fails closes the socket.

    Raises:
        ConnectError: why, for a person. Whatever else the body raises passes.
    """
    try:
        yield
    except OSError as error:
        secured.close()
        raise _why_not_secured(url, error) from error
    except BaseException:
        secured.close()
        raise


def _why_not_secured(url: str, error: OSError) -> ConnectError:
    """The error of a TLS handshake that failed, for a person."""
    if isinstance(error, ssl.SSLError):
        if (untrusted := why_not_trusted(url, error)) is not None:
            return untrusted
        if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
            return ConnectError(url, "what answers there does not speak TLS; is it a node that listens on tcp://?")
        return ConnectError(url, f"the TLS handshake failed: {error.reason or error}")
    if isinstance(error, TimeoutError):
        return ConnectError(url, "no TLS handshake in time; is it a node that listens on tls://?")
    return ConnectError(
        url,
        f"the node ended the connection before the TLS handshake was done ({error.strerror}); "
        "does it listen on tls://, or is it full?",
    )


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


def is_connected(connecting: Transport) -> bool:
    """What became of `start_connect`; False while it is under way, in which case the socket becomes writable when it
    is not any more, or readable where it `wants_input`.

    Raises:
        OSError: it failed. The socket is the caller's to close.
    """
    if isinstance(connecting, TlsSocket):
        return is_connected(connecting.raw) and connecting.shake_hands()
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


def wants_input(connecting: Transport) -> bool:
    """Whether an attempt goes on when something arrives, and not when there is room."""
    return isinstance(connecting, TlsSocket) and connecting.wants_input


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


def peer_of(connected: Transport) -> str:
    """The peer's address, for logs and statistics."""
    try:
        where = connected.getpeername()
    except OSError:
        return "?"
    return f"{where[0]}:{where[1]}" if isinstance(where, tuple) else "in-process"


def is_local(connected: Transport) -> bool:
    """Whether the other end is on this machine."""
    try:
        where = connected.getpeername()
    except OSError:
        return False
    if not isinstance(where, tuple):
        return True  # within this process
    try:
        address = ipaddress.ip_address(where[0].partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def address_of(listener: socket.socket, scheme: str = "tcp") -> str:
    """The URL under which a listening socket is reached."""
    where = listener.getsockname()
    kind = TlsAddress if scheme == "tls" else Address
    return str(kind(str(where[0]), int(where[1])))


if sys.platform != "win32":

    def send_parts(connected: Transport, parts: Sequence[bytes | bytearray | memoryview]) -> int:
        """Send as much of `parts`, one after the other, as the socket takes now; the number of bytes taken.

        Raises:
            BlockingIOError: it takes nothing now.
            OSError: the connection is gone.
        """
        return connected.sendmsg(parts)

else:

    def send_parts(connected: Transport, parts: Sequence[bytes | bytearray | memoryview]) -> int:
        """Send as much of `parts`, one after the other, as the socket takes now; the number of bytes taken.

        Raises:
            BlockingIOError: it takes nothing now.
            OSError: the connection is gone.
        """
        return connected.send(b"".join(parts))
