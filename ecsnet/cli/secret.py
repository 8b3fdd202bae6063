"""The secret that tokens are signed with, from a file."""

import os
import stat
import sys

from ecsnet.auth import HmacTokens
from ecsnet.errors import ArgumentError


def tokens_from(path: str) -> HmacTokens:
    """What issues and verifies tokens under the secret in a file. A newline at its end is no part of it.

    Raises:
        ArgumentError: the file cannot be read, others may read it, or the secret is too short.
    """
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            secret = file.read(1 << 16)
    except OSError as error:
        raise ArgumentError(f"{path}: cannot read the secret: {error.strerror or error}") from error
    if sys.platform != "win32" and stat.S_IMODE(mode) & (stat.S_IROTH | stat.S_IWOTH):
        raise ArgumentError(f"{path}: everybody on this machine may read the secret; chmod 600 {path}")
    try:
        return HmacTokens(secret.removesuffix(b"\n").removesuffix(b"\r"))
    except ArgumentError as error:
        raise ArgumentError(f"{path}: {error}") from error
