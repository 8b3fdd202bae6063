"""Tokens under a shared secret: good for one account, one game, one session, a short time."""

import json
import string
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ecsnet.auth import Account, HmacTokens, Login
from ecsnet.auth.hmac_tokens import _encode, _mac
from ecsnet.auth.used import UsedTokens
from ecsnet.errors import ArgumentError, Reject, TokenError
from ecsnet.limits import TOKEN_BYTES_MAX, TOKEN_LIFETIME_S_MAX

SECRET = b"k" * 32
GAME = "arena/00112233445566778899aabbccddeeff"
ADA = Account(71, "Ada", "admin")

accounts = st.builds(
    Account,
    st.integers(1, (1 << 64) - 1),
    st.text(st.characters(exclude_categories=("C", "Z")), max_size=15),
    st.from_regex(r"[a-z][a-z0-9_]{0,30}", fullmatch=True),
)


@dataclass
class Clock:
    now_s: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> HmacTokens:
    return HmacTokens(SECRET, clock=clock)


@given(accounts)
def test_what_was_issued_is_what_is_verified(account: Account) -> None:
    tokens = HmacTokens(SECRET)
    assert tokens.verify(tokens.issue(account, GAME), GAME) == account


def test_it_is_itself_what_a_node_asks(tokens: HmacTokens) -> None:
    token = tokens.issue(ADA, GAME).encode()
    assert tokens(Login(token, "whoever", "?", GAME)) == ADA


def test_a_token_is_good_once(tokens: HmacTokens) -> None:
    token = tokens.issue(ADA, GAME)
    assert token != tokens.issue(ADA, GAME)
    tokens.verify(token, GAME)
    with pytest.raises(TokenError, match="used before"):
        tokens.verify(token, GAME)


def test_a_token_that_was_refused_is_not_used_up(tokens: HmacTokens) -> None:
    token = tokens.issue(ADA, GAME)
    with pytest.raises(TokenError, match="another game"):
        tokens.verify(token, GAME + "0")
    assert tokens.verify(token, GAME) == ADA


def test_a_token_ends(tokens: HmacTokens, clock: Clock) -> None:
    token = tokens.issue(ADA, GAME)
    clock.now_s += 45 + 5
    with pytest.raises(TokenError, match="expired"):
        tokens.verify(token, GAME)
    clock.now_s -= 0.001
    assert tokens.verify(token, GAME) == ADA, "as much as clocks may differ"


def test_a_token_of_the_future_waits_for_nobody(tokens: HmacTokens, clock: Clock) -> None:
    token = tokens.issue(ADA, GAME)
    clock.now_s -= 5.001
    with pytest.raises(TokenError, match="future"):
        tokens.verify(token, GAME)
    clock.now_s += 0.002
    assert tokens.verify(token, GAME) == ADA


def test_a_used_token_is_known_for_as_long_as_it_would_be_taken(tokens: HmacTokens, clock: Clock) -> None:
    """Forgotten a moment earlier it would be good twice."""
    token = tokens.issue(ADA, GAME)
    tokens.verify(token, GAME)
    clock.now_s += 49.999
    with pytest.raises(TokenError, match="used before"):
        tokens.verify(token, GAME)
    clock.now_s += 0.001
    with pytest.raises(TokenError, match="expired"):
        tokens.verify(token, GAME)


def test_another_secret_opens_nothing_and_an_older_one_does_while_it_is_kept(clock: Clock) -> None:
    new = HmacTokens(b"n" * 32, older=[SECRET], clock=clock)
    old = HmacTokens(SECRET, clock=clock)
    assert new.verify(old.issue(ADA, GAME), GAME) == ADA
    with pytest.raises(TokenError, match="not signed for this node"):
        old.verify(new.issue(ADA, GAME), GAME)


def test_whoever_signs_a_long_life_is_not_believed(clock: Clock) -> None:
    long = HmacTokens(SECRET, lifetime_s=3600, clock=clock)
    short = HmacTokens(SECRET, lifetime_s_max=60, clock=clock)
    with pytest.raises(TokenError, match="longer than 60 s"):
        short.verify(long.issue(ADA, GAME), GAME)


@given(st.data())
def test_no_change_of_a_token_is_believed(data: st.DataObject) -> None:
    tokens = HmacTokens(SECRET, clock=Clock())
    token = tokens.issue(ADA, GAME)
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from(string.ascii_letters + string.digits + "-_.=\n"))
    assume(other != token[at])
    changed = token[:at] + other + token[at + 1 :]
    try:
        account = tokens.verify(changed, GAME)
    except TokenError:
        return
    # The last letter of a MAC has two bits that say nothing.
    assert account == ADA and at == len(token) - 1
    with pytest.raises(TokenError, match="used before"):
        tokens.verify(token, GAME)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=100), st.just(b"a" * (TOKEN_BYTES_MAX + 1))))
def test_any_bytes_are_refused_and_nothing_else_happens(token: bytes | str) -> None:
    with pytest.raises(TokenError):
        HmacTokens(SECRET).verify(token, GAME)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


@given(st.data())
def test_who_has_the_secret_and_writes_nonsense_is_refused_in_order(data: st.DataObject) -> None:
    """The account server may have bugs; they must not be the node's."""
    claims = {
        "aud": GAME,
        "exp": 1_700_000_010.0,
        "iat": 1_700_000_000.0,
        "id": 7,
        "jti": "0" * 32,
        "name": "",
        "role": "player",
    }
    for key in data.draw(st.sets(st.sampled_from(sorted(claims)), min_size=1)):
        if data.draw(st.booleans()):
            del claims[key]
        else:
            claims[key] = data.draw(json_values)
    whole = data.draw(st.one_of(st.just(claims), json_values))
    body = b"ecsnet1." + _encode(json.dumps(whole).encode())
    token = body + b"." + _encode(_mac(SECRET, body))
    try:
        account = HmacTokens(SECRET, clock=lambda: 1_700_000_000.0).verify(token, GAME)
    except TokenError:
        return
    assert isinstance(account, Account) and whole is claims and claims["aud"] == GAME


def test_deeply_nested_claims_do_not_end_the_node() -> None:
    body = b"ecsnet1." + _encode(b"[" * 2500)
    with pytest.raises(TokenError):
        HmacTokens(SECRET).verify(body + b"." + _encode(_mac(SECRET, body)), GAME)


def test_the_used_are_bounded_and_a_new_one_gives_way() -> None:
    """Were an old one forgotten instead, whoever has many tokens could use one twice."""
    used = UsedTokens(limit=2)
    used.use(b"a", 10.0, 0.0)
    used.use(b"b", 20.0, 0.0)
    with pytest.raises(TokenError, match="too many"):
        used.use(b"c", 30.0, 9.0)
    used.use(b"c", 30.0, 10.0)
    assert len(used) == 2
    with pytest.raises(TokenError, match="used before"):
        used.use(b"b", 20.0, 19.9)


def test_it_does_not_show_its_secret(tokens: HmacTokens) -> None:
    assert "kkk" not in repr(tokens)
    assert issubclass(TokenError, Reject), "a node tells the client its reason, and logs no bug"


@pytest.mark.parametrize(
    "bad",
    [
        {"secret": b"short"},
        {"secret": 7},
        {"secret": SECRET, "older": ["short"]},
        {"secret": SECRET, "lifetime_s": 0},
        {"secret": SECRET, "lifetime_s": float("nan")},
        {"secret": SECRET, "lifetime_s": 60, "lifetime_s_max": 30},
        {"secret": SECRET, "lifetime_s_max": TOKEN_LIFETIME_S_MAX + 1},
        {"secret": SECRET, "skew_s": -1},
    ],
)
def test_what_would_not_be_safe_is_refused_at_once(bad: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError):
        HmacTokens(**bad)


def test_a_token_has_a_life_of_its_own(tokens: HmacTokens, clock: Clock) -> None:
    token = tokens.issue(ADA, GAME, lifetime_s=1)
    clock.now_s += 6
    with pytest.raises(TokenError, match="expired"):
        tokens.verify(token, GAME)
    with pytest.raises(ArgumentError, match="lifetime_s"):
        tokens.issue(ADA, GAME, lifetime_s=0)
    with pytest.raises(ArgumentError, match="bytes"):
        tokens.issue(ADA, "a" * TOKEN_BYTES_MAX)
