"""Accounts, roles, and tokens that prove them."""

from ecsnet.auth.account import PLAYER, Account, Authenticate, Login, Token, audience_of
from ecsnet.auth.hmac_tokens import HmacTokens
from ecsnet.auth.jwt_tokens import JwtTokens, client_id_of
from ecsnet.errors import TokenError

__all__ = [
    "PLAYER",
    "Account",
    "Authenticate",
    "HmacTokens",
    "JwtTokens",
    "Login",
    "Token",
    "TokenError",
    "audience_of",
    "client_id_of",
]
