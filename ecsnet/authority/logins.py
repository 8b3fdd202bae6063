"""Who strangers are: asks the game's `authenticate`, and makes an account or a refusal of whatever it does.

Invariants:
- whatever the function raises or returns, the answer is an account or a refusal; a client is told the reason of a
  `Reject`, and of anything else a word;
- a flood of bad tokens is counted in full and logged once a second at most.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ecsnet.auth.account import Account, Authenticate, Login, check_authenticate, waits
from ecsnet.authority.noted import Noted
from ecsnet.errors import Reject
from ecsnet.wire.messages import Reason

if TYPE_CHECKING:
    from ecsnet.authority.link import Link

__all__ = ["Logins", "Refusal"]


class Refusal(NamedTuple):
    """The stranger is not let in."""

    reason: Reason
    message: str


class Logins:
    """See the file.

    Args:
        authenticate: None lets everybody in.
        audience: what tokens must be for.
        noted: where those are told who were not let in.

    Raises:
        ArgumentError: `authenticate` cannot be called with a login.
    """

    __slots__ = ("_audience", "_authenticate", "_noted", "failed", "refused", "waits")

    def __init__(self, authenticate: Authenticate | None, audience: str, noted: Noted) -> None:
        if authenticate is not None:
            check_authenticate(authenticate)
        self._authenticate: Callable[[Login], Any] | None = authenticate
        self._audience = audience
        self.waits = authenticate is not None and waits(authenticate)
        """The answer is to be had with `wait`, not with `ask`."""
        self.refused = 0
        self.failed = 0
        self._noted = noted

    @property
    def is_open(self) -> bool:
        """Nobody is asked."""
        return self._authenticate is None

    def login(self, link: "Link") -> Login:
        """What the stranger on this link says of itself."""
        return Login(link.server.peer_token, link.server.peer_name, link.peer, self._audience)

    def ask(self, login: Login) -> object:
        """What `authenticate` says, or has raised: for `judge`."""
        assert self._authenticate is not None and not self.waits
        try:
            return self._authenticate(login)
        except Exception as error:  # noqa: BLE001  (the game's own code)
            return error

    async def wait(self, login: Login) -> object:
        """What an `authenticate` that waits says, or has raised."""
        assert self._authenticate is not None and self.waits
        try:
            return await self._authenticate(login)
        except Exception as error:  # noqa: BLE001  (the game's own code)
            return error

    def judge(self, login: Login, said: object, now_ns: int) -> Account | Refusal:
        """What it comes to."""
        if isinstance(said, Account):
            return said
        if not isinstance(said, Exception):
            if hasattr(said, "__await__") and hasattr(said, "close"):
                said.close()  # a coroutine, which would complain that nobody waited for it
            said = TypeError(f"authenticate returned {said!r}; it returns an Account, or raises")
        if isinstance(said, Reject):
            self.refused += 1
            self._noted.tell(now_ns, logging.INFO, "%s was not let in: %s", login.peer, said.reason)
            return Refusal(Reason.AUTH_FAILED, said.reason)
        self.failed += 1
        self._noted.tell(now_ns, logging.ERROR, "authenticate failed for %s", login.peer, error=said)
        return Refusal(Reason.INTERNAL, "internal")
