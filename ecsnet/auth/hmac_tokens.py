"""Tokens of our own: an account, a game and a time, under a secret that whoever issues and whoever verifies share.

    ecsnet1.<claims>.<mac>      both base64url without padding

`claims` is a JSON object: `id`, `name`, `role` of the account, `aud` (the game: `audience_of`), `iat` and `exp` in
seconds since 1970, `jti` 16 random bytes in hex. `mac` is HMAC-SHA256 of all before the second dot.

Invariants:
- nothing in a token is looked at before its MAC has been compared, in constant time;
- whatever the bytes are, `verify` raises `TokenError` or returns an account that somebody with the secret has named;
- a token is good for one game, one session and a short time.
"""

import base64
import binascii
import hashlib
import hmac
import json
import math
import re
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from ecsnet.auth.account import Account, Login
from ecsnet.auth.used import UsedTokens
from ecsnet.errors import ArgumentError, TokenError
from ecsnet.limits import (
    TOKEN_BYTES_MAX,
    TOKEN_LIFETIME_S_DEFAULT,
    TOKEN_LIFETIME_S_MAX,
    TOKEN_SECRET_BYTES_MIN,
    TOKEN_SKEW_S,
)

__all__ = ["HmacTokens"]

_VERSION: Final = b"ecsnet1"
_TOKEN = re.compile(rb"ecsnet1\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{43})")
_JTI = re.compile(r"[0-9a-f]{32}")


class HmacTokens:
    """Issues and verifies; an instance is itself an `authenticate`.

    Args:
        secret: `TOKEN_SECRET_BYTES_MIN` bytes or more that nobody can guess; text is its UTF-8.
        older: secrets that were in use before: verified with, never issued with.
        lifetime_s: of the tokens that are issued, unless `issue` is told otherwise.
        lifetime_s_max: a token that is good for longer is refused, whoever signed it.
        skew_s: how much the clocks of issuer and verifier may differ.
        clock: seconds since 1970.

    Raises:
        ArgumentError: a secret is too short, or a time out of range.
    """

    def __init__(
        self,
        secret: bytes | str,
        *,
        older: Sequence[bytes | str] = (),
        lifetime_s: float = TOKEN_LIFETIME_S_DEFAULT,
        lifetime_s_max: float = TOKEN_LIFETIME_S_MAX,
        skew_s: float = TOKEN_SKEW_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secrets = [_secret(one) for one in (secret, *older)]
        if not 0 < lifetime_s <= lifetime_s_max <= TOKEN_LIFETIME_S_MAX:
            raise ArgumentError(
                f"lifetime_s is {lifetime_s!r} and lifetime_s_max {lifetime_s_max!r}; both are seconds above 0, the "
                f"first no longer than the second, and that {TOKEN_LIFETIME_S_MAX:g} at most"
            )
        check_skew(skew_s)
        self._lifetime_s = lifetime_s
        self._lifetime_s_max = lifetime_s_max
        self._skew_s = skew_s
        self._clock = clock
        self._used = UsedTokens()

    def __repr__(self) -> str:
        return f"<HmacTokens, good for {self._lifetime_s:g} s>"  # never the secret

    def __call__(self, login: Login) -> Account:
        """As an `authenticate`: `verify` of what the login shows."""
        return self.verify(login.token, login.audience)

    def issue(self, account: Account, audience: str, *, lifetime_s: float | None = None) -> str:
        """A token that proves `account` once, to a node of the game `audience` (see `audience_of`).

        Raises:
            ArgumentError: `lifetime_s` is out of range.
        """
        lifetime_s = self._lifetime_s if lifetime_s is None else lifetime_s
        if not 0 < lifetime_s <= self._lifetime_s_max:
            raise ArgumentError(f"lifetime_s is {lifetime_s!r}; it must be in (0, {self._lifetime_s_max:g}]")
        now_s = self._clock()
        claims = {
            "aud": audience,
            "exp": now_s + lifetime_s,
            "iat": now_s,
            "id": account.client_id,
            "jti": secrets.token_hex(16),
            "name": account.name,
            "role": account.role,
        }
        body = _VERSION + b"." + _encode(json.dumps(claims, separators=(",", ":")).encode())
        token = body + b"." + _encode(_mac(self._secrets[0], body))
        if len(token) > TOKEN_BYTES_MAX:
            raise ArgumentError(f"the token would have {len(token)} bytes; at most {TOKEN_BYTES_MAX} are taken")
        return token.decode()

    def verify(self, token: bytes | str, audience: str) -> Account:
        """Whom the token proves. It is used up.

        Raises:
            TokenError: it proves nobody here and now. It is not used up then.
        """
        claims = self._read_untrusted(token)
        try:
            account = Account(claims["id"], claims["name"], claims["role"])
            begin_s, end_s, number = claims["iat"], claims["exp"], claims["jti"]
        except (KeyError, ArgumentError) as error:
            # Signed by somebody with the secret, and yet no token of ours.
            raise TokenError("the token has no account of ours in it") from error
        if claims.get("aud") != audience:
            raise TokenError("the token is for another game, or for another version of this one")
        if not isinstance(number, str) or not _JTI.fullmatch(number):
            raise TokenError("the token has no number")
        now_s = self._clock()
        check_time(begin_s, end_s, now_s, self._lifetime_s_max, self._skew_s)
        self._used.use(bytes.fromhex(number), end_s + self._skew_s, now_s)
        return account

    def _read_untrusted(self, token: bytes | str) -> dict[str, Any]:
        shown = token.encode(errors="replace") if isinstance(token, str) else bytes(token)
        if not shown:
            raise TokenError("this node wants a token; give one to connect (token=...)")
        match = _TOKEN.fullmatch(shown) if len(shown) <= TOKEN_BYTES_MAX else None
        if match is None:
            raise TokenError("this is no token of ecsnet's; `ecsnet token` or HmacTokens.issue makes one")
        body = shown[: match.end(1)]
        mac = _decode(match[2])
        # All secrets, whichever it was: the time tells nothing.
        good = [hmac.compare_digest(mac, _mac(secret, body)) for secret in self._secrets]
        if not any(good):
            raise TokenError("the token was not signed for this node; sign it with the secret that the node has")
        try:
            claims = json.loads(_decode(match[1]))
        except (ValueError, RecursionError) as error:
            raise TokenError("the token cannot be read") from error
        if not isinstance(claims, dict):
            raise TokenError("the token cannot be read")
        return claims


def check_time(begin_s: object, end_s: object, now_s: float, lifetime_s_max: float, skew_s: float) -> None:
    """That it is neither too early nor too late for a token, nor that it is good for too long.

    Raises:
        TokenError: it is.
    """
    if not _is_time(begin_s) or not _is_time(end_s):
        raise TokenError("the token does not say from when until when it is good")
    assert isinstance(begin_s, (int, float)) and isinstance(end_s, (int, float))
    if not 0 < end_s - begin_s <= lifetime_s_max:
        raise TokenError(f"the token is good for longer than {lifetime_s_max:g} s; get one that is short")
    if now_s < begin_s - skew_s:
        raise TokenError("the token is of the future; is the clock of this machine, or of who issued it, right?")
    if now_s >= end_s + skew_s:
        raise TokenError("the token has expired; get a new one for each session")


def check_skew(skew_s: float) -> None:
    """Raises:
    ArgumentError: it is no allowance for clocks.
    """
    if not 0 <= skew_s <= TOKEN_LIFETIME_S_MAX:
        raise ArgumentError(f"skew_s is {skew_s!r}; it must be in [0, {TOKEN_LIFETIME_S_MAX:g}]")


def _is_time(value: object) -> bool:
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15 and math.isfinite(value)
    )


def _secret(given: bytes | str) -> bytes:
    if not isinstance(given, (bytes, str)):
        raise ArgumentError(f"a secret is bytes or text, not {type(given).__name__}")
    secret = given.encode() if isinstance(given, str) else given
    if len(secret) < TOKEN_SECRET_BYTES_MIN:
        raise ArgumentError(
            f"the secret has {len(secret)} bytes; {TOKEN_SECRET_BYTES_MIN} or more are needed. "
            "python -c 'import secrets; print(secrets.token_hex(32))' makes one"
        )
    return secret


def _mac(secret: bytes, body: bytes) -> bytes:
    return hmac.digest(secret, body, hashlib.sha256)


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except binascii.Error as error:
        raise TokenError("this is no token of ecsnet's; `ecsnet token` or HmacTokens.issue makes one") from error
