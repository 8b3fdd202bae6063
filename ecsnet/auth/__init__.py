"""Accounts, roles, and tokens that prove them."""

from ecsnet.auth.account import PLAYER, Account, Authenticate, Login, Token, audience_of

__all__ = ["PLAYER", "Account", "Authenticate", "Login", "Token", "audience_of"]
