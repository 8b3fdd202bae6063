"""How the tools reach a running node past its LOCK: lines of JSON over a local socket in the data directory.

    tool → node     {"do": "status" | "snapshot" | "backup" | "point", ...arguments}
    node → tool     {"progress": [what, bytes done, bytes in total]}     any number of times
    node → tool     {"done": {...}}  or  {"error": {"kind": class name, "message": text}}      and the node hangs up

    status      -> pid, epoch, version, durable, tick, digest (of `digest_version`), clients
    snapshot    -> version, tick, digest, bytes, file
    backup      path (absolute), archive, replay -> as `ecsnet backup --json`
    point       name -> version

The socket belongs to who started the node: nobody else may connect to it. A line has `LINE_BYTES_MAX` bytes at most.
"""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ecsnet import errors
from ecsnet.data.directory import CONTROL
from ecsnet.data.findings import Progress, no_progress
from ecsnet.errors import DataError, EcsnetError

LINE_BYTES_MAX: Final = 64 << 10
"""A request has a path and a name or two, an answer a report with some problems."""

_CONNECT_S: Final = 5.0


def ask(
    directory: str | os.PathLike[str], request: Mapping[str, object], progress: Progress = no_progress
) -> dict[str, Any]:
    """Ask the node that has `directory` open, and wait for its answer, however long that takes.

    Raises:
        DataError: no node listens there, or it hung up without an answer.
        EcsnetError: what the node says went wrong.
    """
    name = os.fspath(directory)
    try:
        with _connected(Path(directory)) as connection:
            connection.sendall(encode(request))
            for line in _lines(connection):
                answer = decode(line)
                if "progress" in answer:
                    what, done, total = answer["progress"]
                    progress(str(what), int(done), int(total))
                elif "done" in answer:
                    found: dict[str, Any] = answer["done"]
                    return found
                else:
                    raise _error_of(answer)
    except EcsnetError:
        raise  # the node's own, though some of them are ValueErrors too
    except (OSError, ValueError, TypeError) as error:
        raise DataError(name, f"the node that has it open cannot be asked ({error}); end it, and try again") from None
    raise DataError(name, "the node that has it open hung up without an answer; look into its log")


def is_answered(directory: str | os.PathLike[str]) -> bool:
    """Whether a node listens at the directory's socket."""
    try:
        with _connected(Path(directory)):
            return True
    except OSError:
        return False


def encode(message: Mapping[str, object]) -> bytes:
    """A line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The message of a line.

    Raises:
        ValueError: it is none.
    """
    found = json.loads(line)
    if not isinstance(found, dict):
        raise ValueError("expected a JSON object")
    return found


def failure(error: EcsnetError) -> dict[str, object]:
    """How an error goes over the socket."""
    return {"error": {"kind": type(error).__name__, "message": str(error)}}


def _error_of(answer: Mapping[str, Any]) -> EcsnetError:
    """The error as the node raised it, as far as that can be told from its name; its text in any case."""
    told = answer.get("error")
    kind, message = (told.get("kind"), str(told.get("message"))) if isinstance(told, dict) else ("", str(answer))
    known = getattr(errors, str(kind), None)
    if not (isinstance(known, type) and issubclass(known, EcsnetError)):
        known = EcsnetError
    # Past constructors that make a text of numbers: the text is made already.
    error: EcsnetError = known.__new__(known)
    Exception.__init__(error, message)
    return error


@contextmanager
def _connected(directory: Path) -> Iterator[socket.socket]:
    family = getattr(socket, "AF_UNIX", None)
    if family is None:
        raise OSError("this system has no local sockets")
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(_CONNECT_S)
        with address_of(directory) as address:
            connection.connect(address)
        connection.settimeout(None)
        yield connection


@contextmanager
def address_of(directory: Path) -> Iterator[str]:
    """A name for the socket that fits into an address, which has about 100 bytes, however long the directory's is."""
    path = str(directory / CONTROL)
    if len(os.fsencode(path)) < 100 or not os.path.isdir("/proc/self/fd"):
        yield path
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{descriptor}/{CONTROL}"
    finally:
        os.close(descriptor)


def _lines(connection: socket.socket) -> Iterator[bytes]:
    held = b""
    while received := connection.recv(1 << 16):
        held += received
        *whole, held = held.split(b"\n")
        yield from whole
        if len(held) > LINE_BYTES_MAX:
            raise ValueError("the answer is too long")
