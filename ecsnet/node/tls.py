"""TLS over a socket of ours, from its first byte: what is read and written passes through memory, the socket itself
stays raw and non-blocking. An `SSLSocket` costs five times as much for each send.

A `TlsSocket` is used as a connected, non-blocking socket is, once `shake_hands` has said that it is done.

Invariants:
- there is no way to connect without verifying the node's certificate and its name;
- what a peer makes us hold is bounded: bytes before the handshake is done by `TLS_HANDSHAKE_BYTES_MAX`, after that by
  one record that came in half, and what we have to say by itself by `TLS_RECORD_BYTES_MAX`;
- a part of a `send` that was not taken is handed in again, as of any socket, and before anything else: the bytes were
  encrypted already, and only the last of them counts as not taken;
- TLS 1.3 alone: both ends are ours, and the older ones bring renegotiation with them.
"""

import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ecsnet.errors import CertificateError, UntrustedNodeError
from ecsnet.limits import TLS_HANDSHAKE_BYTES_MAX, TLS_RECORD_BYTES_MAX

__all__ = ["TlsSocket", "Transport", "client_context", "server_context", "why_not_trusted"]

Part = bytes | bytearray | memoryview

Transport: TypeAlias = "socket.socket | TlsSocket"
"""What carries a connection: connected, and non-blocking."""


def server_context(certificate: str | Path, key: str | Path | None = None) -> ssl.SSLContext:
    """What a node proves itself with.

    Args:
        certificate: a file in PEM: the node's own, then those that signed it.
        key: a file in PEM with its private key, without a passphrase; None: it is in the same file.

    Raises:
        CertificateError: a file is missing or cannot be read, is not PEM, or the key is another certificate's.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # A ticket spares a returning client a part of the handshake, and costs every client two frames.
    context.num_tickets = 0
    for path in (certificate,) if key is None else (certificate, key):
        _check_readable(path)
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except _Passphrase:
        raise CertificateError(str(key or certificate), "the key has a passphrase; a node asks nobody for it") from None
    except ssl.SSLError as error:
        raise CertificateError(str(certificate), _why_not_loaded(error, key)) from error
    return context


class _Passphrase(Exception):
    pass


def _no_passphrase() -> str:
    raise _Passphrase


def _check_readable(path: str | Path) -> None:
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        raise CertificateError(str(path), f"cannot be read: {error.strerror or error}") from error


def _why_not_loaded(error: ssl.SSLError, key: str | Path | None) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"the key in {key or 'it'} is another certificate's"
    if error.reason in ("NO_START_LINE", "PEM_LIB", None):
        other = "" if key is None else f", or {key} none with a private key"
        return f"is no file in PEM with a certificate{' and its private key' if key is None else ''}{other}"
    return f"cannot be used: {error.reason}"


def client_context(ca: str | Path | None = None) -> ssl.SSLContext:
    """What a client believes.

    Args:
        ca: a file in PEM of the certificates that are believed, and no others; None: those that the system believes.

    Raises:
        CertificateError: the file is missing or cannot be read, or there is none in it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    assert context.check_hostname and context.verify_mode == ssl.CERT_REQUIRED
    if ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return context
    _check_readable(ca)
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise CertificateError(str(ca), "is no file in PEM with certificates") from error
    return context


def why_not_trusted(url: str, error: ssl.SSLError) -> UntrustedNodeError | None:
    """The error for a person, where it was the certificate that failed; None where it was something else."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        return None
    words = error.verify_message
    if "self-signed" in words or "self signed" in words or "unable to get local issuer" in words:
        words += "; if that authority is your own, give its certificate (ca=...)"
    return UntrustedNodeError(url, f"the node's certificate is not to be trusted: {words}")


class TlsSocket:
    """See the file. It owns the socket, and closes it.

    Args:
        raw: connected and non-blocking.
        hostname: of a client: what the certificate must be for. None makes this the node's end.
    """

    __slots__ = ("_bytes_before", "_encrypted", "_incoming", "_outgoing", "_owes", "_tls", "began", "is_done", "raw")

    def __init__(self, raw: socket.socket, context: ssl.SSLContext, hostname: str | None = None) -> None:
        self.raw = raw
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=hostname is None, server_hostname=hostname
        )
        self._encrypted = memoryview(b"")
        """What the socket has not taken."""
        self._owes = False
        """The last byte of the last `send` is in there, and was not counted as taken."""
        self._bytes_before = 0
        self.began = False
        self.is_done = False
        """The handshake is over; before that nothing can be sent or received."""

    # --- as a socket -------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        return self.raw.fileno()

    @property
    def family(self) -> int:
        return self.raw.family

    def getpeername(self) -> Any:
        return self.raw.getpeername()

    def close(self) -> None:
        self.raw.close()

    def shutdown(self, how: int) -> None:
        """Say that nothing more comes, in TLS and below."""
        if self.is_done and how in (socket.SHUT_WR, socket.SHUT_RDWR) and not self._encrypted:
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass  # the peer has not said it, and need not
            self._flush()
        self.raw.shutdown(how)

    # --- the handshake -----------------------------------------------------------------------------------------------

    @property
    def wants_room(self) -> bool:
        """During the handshake: it goes on when the socket has room, and not when something arrives."""
        return bool(self._encrypted)

    @property
    def wants_input(self) -> bool:
        """During the handshake: it has begun, and goes on when something arrives."""
        return self.began and not self._encrypted

    def shake_hands(self) -> bool:
        """Go on with the handshake as far as that is possible now; True once it is done. Otherwise again when the
        socket is readable, or where it `wants_room`, writable.

        Raises:
            SSLError: it failed. What there is to tell the peer was sent, if it took it.
            OSError: the connection is gone, or the peer hung up.
        """
        self.began = True
        while not self.is_done:
            try:
                self._tls.do_handshake()
                self.is_done = True
            except ssl.SSLWantReadError:
                if not self._flush() or not self._take_in_more():
                    return False
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._flush()
                raise
        return self._flush()

    def _take_in_more(self) -> bool:
        """Read what has arrived for the handshake; False if nothing has."""
        try:
            data = self.raw.recv(TLS_RECORD_BYTES_MAX)
        except BlockingIOError:
            return False
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        self._bytes_before += len(data)
        if self._bytes_before > TLS_HANDSHAKE_BYTES_MAX:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the handshake has too many bytes")
        self._incoming.write(data)
        return True

    # --- after it ----------------------------------------------------------------------------------------------------

    def recv(self, limit: int) -> bytes:
        """As of a socket: some bytes, at most `limit`; none where the peer has ended. What is behind them is never
        kept back for another call, so that a socket with nothing to read has nothing to say.

        Raises:
            BlockingIOError: nothing now, or half a record. SSLError, OSError: the connection is broken, or gone.
        """
        if self._incoming.pending and (found := self.read_decrypted(limit)):
            return found
        # A record that came in half is there already, and must fit as well.
        assert limit > TLS_RECORD_BYTES_MAX
        data = self.raw.recv(limit - TLS_RECORD_BYTES_MAX)
        if not data:
            return b""
        self._incoming.write(data)
        found = self.read_decrypted(limit)
        if found is None:
            return b""
        if not found:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return found

    def recv_into(self, buffer: memoryview) -> int:
        """The same, into the beginning of `buffer`; how many bytes."""
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read_decrypted(self, limit: int) -> bytes | None:
        """What has arrived and was not handed out yet, without a look at the socket: right after the handshake there
        may be some. None where the peer has ended."""
        parts: list[bytes] = []
        length = 0
        ended = False
        while length < limit:
            try:
                data = self._tls.read(limit - length)
            except ssl.SSLWantReadError:
                break
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                data = b""
            if not data:
                ended = True
                break
            parts.append(data)
            length += len(data)
        # Answers of TLS itself. A peer that asks for them and takes nothing is not waited for.
        if self._outgoing.pending > TLS_RECORD_BYTES_MAX:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the peer takes no answers")
        if self._outgoing.pending and not self._encrypted:
            self._flush()
        return None if ended and not parts else b"".join(parts)

    def send(self, data: Part) -> int:
        """As of a socket: how many bytes were taken.

        Raises:
            BlockingIOError: none now. OSError: the connection is gone.
        """
        if (self._encrypted or self._outgoing.pending) and not self._flush():
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        length = memoryview(data).nbytes
        if self._owes:
            # The rest that was handed in again begins with the byte that went out just now.
            self._owes = False
            if length == 1:
                return 1
            return 1 + self._send(memoryview(data).cast("B")[1:], length - 1)
        return self._send(data, length)

    def sendmsg(self, parts: Sequence[Part]) -> int:
        """As `send`, of several buffers, one after the other."""
        return self.send(b"".join(parts))

    def _send(self, data: Part, length: int) -> int:
        if not length:
            return 0
        taken = self._tls.write(data)
        assert taken == length, "memory takes all"
        # Nothing waited before this: without a look at what there is, in nearly all cases.
        encrypted = self._outgoing.read()
        try:
            sent = self.raw.send(encrypted)
        except BlockingIOError:
            sent = 0
        if sent == len(encrypted):
            return length
        self._encrypted = memoryview(encrypted)[sent:]
        if self._flush() or length == 1:
            return length
        self._owes = True
        return length - 1

    def _flush(self) -> bool:
        """Send what is encrypted; False if some of it has to wait."""
        while True:
            if not self._encrypted:
                if not self._outgoing.pending:
                    return True
                self._encrypted = memoryview(self._outgoing.read())
            elif self._outgoing.pending:
                # Behind what waits, so that one send takes both.
                self._encrypted = memoryview(bytes(self._encrypted) + self._outgoing.read())
            try:
                taken = self.raw.send(self._encrypted)
            except BlockingIOError:
                return False
            self._encrypted = self._encrypted[taken:]
