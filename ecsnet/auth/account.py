"""Who a client is: what it shows at the door, and the account that the door made of it.

A node asks its `authenticate` function about each new session, before anything of the world is told. The function is
given a `Login` and returns an `Account`, or raises `Reject`. A session that is resumed is not asked about again: its
key proves it, and its row keeps account and role.

Invariants:
- an account's number is never 0, which is the authority itself as the owner of an entity;
- a role is a short word in lower case, so that it means the same in a schema, in a token and in a session's row.
"""

import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from ecsnet.errors import ArgumentError, AuthenticationError
from ecsnet.limits import NAME_BYTES_MAX, ROLE_BYTES_MAX, TOKEN_BYTES_MAX

PLAYER: Final = "player"
"""The role of whoever has no other."""

CLIENT_ID_MAX: Final = (1 << 64) - 1

_ROLE = re.compile(rf"[a-z][a-z0-9_]{{0,{ROLE_BYTES_MAX - 1}}}")


@dataclass(frozen=True, slots=True)
class Login:
    """What a stranger says of itself. Nothing of it is proven.

    Attributes:
        token: as the client was given it, `TOKEN_BYTES_MAX` bytes at most; empty for none.
        name: what the client calls itself.
        peer: where it comes from, for logs and limits: "203.0.113.7:52100", "in-process".
        audience: what a token must be made for to be good here: see `audience_of`.
    """

    token: bytes
    name: str
    peer: str
    audience: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """Who a client is, as the game sees it.

    Attributes:
        client_id: of the account, the same in all its sessions: 1 to 2**64 - 1. Rows are owned by it.
        name: what to call the client; empty leaves it the name that it gave itself.
        role: what the schema's rules go by: a word of a-z, 0-9 and _, at most `ROLE_BYTES_MAX` bytes.

    Raises:
        ArgumentError: none of these.
    """

    client_id: int
    name: str = ""
    role: str = PLAYER

    def __post_init__(self) -> None:
        if type(self.client_id) is not int or not 1 <= self.client_id <= CLIENT_ID_MAX:
            raise ArgumentError(f"client_id is {self.client_id!r}; an account has a whole number from 1 to 2**64 - 1")
        if not isinstance(self.name, str) or not self.name.isprintable():
            raise ArgumentError(f"name is {self.name!r}; an account's name is printable text")
        if len(self.name.encode(errors="replace")) > NAME_BYTES_MAX:
            raise ArgumentError(f"name {self.name!r} has more than {NAME_BYTES_MAX} bytes")
        check_role(self.role)


Authenticate = Callable[[Login], Account] | Callable[[Login], Awaitable[Account]]
"""Who is this? Returns the account, or raises `Reject`: the client is told that reason. A plain function runs between
two ticks and must be quick; one that waits (for a database, for another service) is a coroutine function, and has until
the handshake's deadline."""

Token = bytes | str | Callable[[], bytes | str]
"""What a client shows, or a function that gets a new one: it is asked once for each session that begins, since a token
is good for one."""


def check_role(role: object) -> str:
    """`role`, if it can be one.

    Raises:
        ArgumentError: it cannot.
    """
    if not isinstance(role, str) or not _ROLE.fullmatch(role):
        raise ArgumentError(
            f"role is {role!r}; a role is a letter of a-z, then letters, digits and _, {ROLE_BYTES_MAX} bytes at most"
        )
    return role


def audience_of(name: str, fingerprint: bytes) -> str:
    """Which game a token is for: the schema's name and fingerprint. A token for another game, or for another schema of
    this one, opens nothing here."""
    return f"{name}/{fingerprint.hex()}"


def waits(authenticate: Authenticate) -> bool:
    """Whether it is a coroutine function, or an object whose call is one."""
    call = getattr(type(authenticate), "__call__", None)  # noqa: B004  (the method itself is looked at)
    return inspect.iscoroutinefunction(authenticate) or inspect.iscoroutinefunction(call)


def check_authenticate(authenticate: object) -> None:
    """See that it can be called with a login.

    Raises:
        ArgumentError: it cannot.
    """
    if not callable(authenticate):
        raise ArgumentError(f"authenticate is {authenticate!r}; it is a function of a Login that returns an Account")
    try:
        inspect.signature(authenticate).bind(None)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"authenticate {authenticate!r} is called with one argument, the Login: {error}") from error


def token_bytes(token: Token | None) -> bytes:
    """The token of one session. A function is asked for it here.

    Raises:
        AuthenticationError: it is neither text nor bytes, or too long, or the function has raised.
    """
    try:
        given = token() if callable(token) else token
    except Exception as error:
        raise AuthenticationError("", f"there is no token for a new session: {error}") from error
    if given is None:
        return b""
    if not isinstance(given, (bytes, str)):
        raise AuthenticationError("", f"a token is text or bytes, not {type(given).__name__}")
    shown = given.encode() if isinstance(given, str) else given
    if len(shown) > TOKEN_BYTES_MAX:
        raise AuthenticationError("", f"the token has {len(shown)} bytes; at most {TOKEN_BYTES_MAX} are taken")
    return shown
