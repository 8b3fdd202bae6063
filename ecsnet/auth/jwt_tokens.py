"""JSON Web Tokens of an identity provider, or of a game's own account server: the extra `jwt`.

Invariants:
- the algorithm is whoever runs the node's to say, never the token's;
- whatever the bytes are, `verify` raises `TokenError` or returns an account that the key's holder has named;
- accounts with a number keep it, and those with a name have one from the upper half: neither can pass for the other.
"""

import hashlib
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ecsnet.auth.account import PLAYER, Account, Login
from ecsnet.auth.hmac_tokens import check_skew, check_time
from ecsnet.auth.used import UsedTokens
from ecsnet.errors import ArgumentError, MissingExtraError, TokenError
from ecsnet.limits import NAME_BYTES_MAX, TOKEN_BYTES_MAX, TOKEN_LIFETIME_S_MAX, TOKEN_SECRET_BYTES_MIN, TOKEN_SKEW_S

__all__ = ["JwtTokens", "client_id_of"]

_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,18}")

_NAMED: Final = 1 << 63
"""Set in the number of an account that the issuer names by a text."""


def client_id_of(subject: object, issuer: str = "") -> int:
    """The account's number: a number below 2**63 as it is, also one that is written as text, without a zero in front;
    another text hashed, with the issuer: to an issuer "7" and "007" may be two.

    Raises:
        TokenError: neither.
    """
    if isinstance(subject, str) and _NUMBER.fullmatch(subject):
        subject = int(subject)
    if isinstance(subject, int) and not isinstance(subject, bool) and 0 < subject < _NAMED:
        return subject
    if not isinstance(subject, str) or not subject:
        raise TokenError("the token names no account")
    text = f"{issuer}\0{subject}".encode(errors="replace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, person=b"ecsnet subject").digest(), "little") | _NAMED


class JwtTokens:
    """Verifies; an instance is itself an `authenticate`.

    Args:
        key: of the issuer: a shared secret for HS256 and its like, a public key in PEM for the others.
        algorithms: those that the issuer signs with, such as ("RS256",).
        audience: what the tokens must be for; None is this game's own (see `audience_of`).
        issuer: who must have issued them; None is anybody with the key.
        id_claim: what names the account: see `client_id_of`. `name_claim` and `role_claim` may be missing: then the
            client's own name counts, and the role is "player".
        account: makes the account of the claims instead; raises `Reject` for one that may not play.
        single_use: a token is good for one session.
        lifetime_s_max: a token that is good for longer is refused. Providers give an hour.
        skew_s: how much the clocks of issuer and verifier may differ.
        clock: seconds since 1970.

    Raises:
        MissingExtraError: PyJWT is not installed. ArgumentError: the key does not fit the algorithms, or is too short.
    """

    def __init__(
        self,
        key: bytes | str,
        *,
        algorithms: Sequence[str] = ("HS256",),
        audience: str | None = None,
        issuer: str | None = None,
        id_claim: str = "sub",
        name_claim: str = "name",
        role_claim: str = "role",
        account: Callable[[Mapping[str, Any]], Account] | None = None,
        single_use: bool = True,
        lifetime_s_max: float = TOKEN_LIFETIME_S_MAX,
        skew_s: float = TOKEN_SKEW_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        try:
            import jwt
        except ImportError:
            raise MissingExtraError("JSON Web Tokens", "PyJWT", "jwt") from None
        self._jwt = jwt
        self._algorithms = [algorithms] if isinstance(algorithms, str) else list(algorithms)
        known = jwt.algorithms.get_default_algorithms()
        for algorithm in self._algorithms or [""]:
            if algorithm == "none" or algorithm not in known:
                raise ArgumentError(
                    f"algorithm {algorithm!r} is not to be had; HS256 needs nothing else, RS256, ES256 and their like "
                    "the package `cryptography`, and `none` proves nothing"
                )
            try:
                known[algorithm].prepare_key(key)
            except (jwt.PyJWTError, ValueError, TypeError) as error:
                raise ArgumentError(f"the key does not fit {algorithm}: {error}") from error
            if algorithm.startswith("HS") and len(key) < TOKEN_SECRET_BYTES_MIN:
                raise ArgumentError(f"the key has {len(key)} bytes; {algorithm} needs {TOKEN_SECRET_BYTES_MIN} or more")
        if not 0 < lifetime_s_max <= TOKEN_LIFETIME_S_MAX:
            raise ArgumentError(f"lifetime_s_max is {lifetime_s_max!r}; it must be in (0, {TOKEN_LIFETIME_S_MAX:g}]")
        check_skew(skew_s)
        self._key = key
        self._audience = audience
        self._issuer = issuer
        self._claims = (id_claim, name_claim, role_claim)
        self._account = account
        self._lifetime_s_max = lifetime_s_max
        self._skew_s = skew_s
        self._clock = clock
        self._used = UsedTokens() if single_use else None

    def __repr__(self) -> str:
        return f"<JwtTokens, {', '.join(self._algorithms)}>"  # never the key

    def __call__(self, login: Login) -> Account:
        """As an `authenticate`: `verify` of what the login shows."""
        return self.verify(login.token, login.audience)

    def verify(self, token: bytes | str, audience: str) -> Account:
        """Whom the token proves. With `single_use` it is used up.

        Args:
            audience: of this game, where the issuer was not given another.

        Raises:
            TokenError: it proves nobody here and now. Reject: what `account` raised. It is not used up then.
        """
        claims = self._read_untrusted(token, audience)
        now_s = self._clock()
        begin_s, end_s = claims["iat"], claims["exp"]
        check_time(begin_s, end_s, now_s, self._lifetime_s_max, self._skew_s)
        if (first_s := claims.get("nbf")) is not None:
            check_time(first_s, end_s, now_s, self._lifetime_s_max, self._skew_s)
        account = self._account_of(claims) if self._account is None else self._account(claims)
        if self._used is not None:
            # What was signed names it. The same under another spelling of the signature is the same.
            signed = (token.encode() if isinstance(token, str) else bytes(token)).rpartition(b".")[0]
            self._used.use(hashlib.blake2b(signed, digest_size=16).digest(), end_s + self._skew_s, now_s)
        return account

    def _account_of(self, claims: Mapping[str, Any]) -> Account:
        id_claim, name_claim, role_claim = self._claims
        number = client_id_of(claims.get(id_claim), str(claims.get("iss", "")))
        try:
            return Account(number, _name(claims.get(name_claim)), claims.get(role_claim, PLAYER))
        except ArgumentError as error:
            raise TokenError(f"the token has no account of ours in it: {error}") from error

    def _read_untrusted(self, token: bytes | str, audience: str) -> dict[str, Any]:
        shown = token.encode(errors="replace") if isinstance(token, str) else bytes(token)
        if not shown:
            raise TokenError("this node wants a token; give one to connect (token=...)")
        if len(shown) > TOKEN_BYTES_MAX:
            raise TokenError("this is no JSON Web Token of ours")
        jwt = self._jwt
        # Times are checked by the clock that we were given.
        options: Any = {
            "require": ["exp", "iat"],
            "verify_exp": False,
            "verify_iat": False,
            "verify_nbf": False,
        }
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the key, which was looked at
                claims: Any = jwt.decode(
                    shown,
                    self._key,
                    algorithms=self._algorithms,
                    audience=audience if self._audience is None else self._audience,
                    issuer=self._issuer,
                    options=options,
                )
        except jwt.InvalidAudienceError as error:
            raise TokenError("the token is for another game, or for another version of this one") from error
        except jwt.InvalidIssuerError as error:
            raise TokenError("the token is of another issuer") from error
        except jwt.MissingRequiredClaimError as error:
            raise TokenError(f"the token lacks {error.claim!r}") from error
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise TokenError("the token was not signed for this node") from error
        if not isinstance(claims, dict):
            raise TokenError("the token cannot be read")
        return claims


def _name(claim: object) -> str:
    """What a provider calls somebody, as far as a client may be called so."""
    text = "".join(one for one in claim if one.isprintable()) if isinstance(claim, str) else ""
    return text.encode(errors="replace")[:NAME_BYTES_MAX].decode(errors="ignore")
