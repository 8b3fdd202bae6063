"""JSON Web Tokens: of an issuer whose key we have, by an algorithm that we chose."""

from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from ecsnet.auth import Account, JwtTokens, Login, client_id_of
from ecsnet.errors import ArgumentError, MissingExtraError, Reject, TokenError

KEY = b"k" * 32
GAME = "arena/00112233445566778899aabbccddeeff"
NOW_S = 1_700_000_000


def token_of(key: Any = KEY, algorithm: str = "HS256", without: str = "", **claims: Any) -> str:
    given = {"sub": "71", "name": "Ada", "role": "admin", "aud": GAME, "iat": NOW_S, "exp": NOW_S + 60, **claims}
    given.pop(without, None)
    return jwt.encode(given, key, algorithm=algorithm)


def tokens(key: Any = KEY, **options: Any) -> JwtTokens:
    return JwtTokens(key, **{"clock": lambda: NOW_S + 1.0, **options})


def test_a_good_token_gives_its_account() -> None:
    assert tokens().verify(token_of(), GAME) == Account(71, "Ada", "admin")
    assert tokens()(Login(token_of().encode(), "whoever", "?", GAME)) == Account(71, "Ada", "admin")
    assert tokens().verify(token_of(without="role"), GAME).role == "player"


def test_a_pair_of_keys_keeps_the_secret_with_the_issuer() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    secret = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    verifier = tokens(public, algorithms=["ES256"])
    assert verifier.verify(token_of(secret, "ES256"), GAME).client_id == 71
    with pytest.raises(TokenError):
        verifier.verify(token_of(), GAME)
    with pytest.raises(ArgumentError, match="does not fit"):
        tokens(public)  # as the secret of HS256 everybody would have it


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (token_of(b"m" * 32), "not signed for this node"),
        (token_of(algorithm="HS512", key=b"k" * 64), "not signed for this node"),
        (token_of(aud="another"), "another game"),
        (token_of(without="aud"), "lacks 'aud'"),
        (token_of(without="exp"), "lacks 'exp'"),
        (token_of(without="iat"), "lacks 'iat'"),
        (token_of(without="sub"), "names no account"),
        (token_of(sub=""), "names no account"),
        (token_of(exp=NOW_S - 60, iat=NOW_S - 120), "expired"),
        (token_of(iat=NOW_S + 60, exp=NOW_S + 120), "future"),
        (token_of(nbf=NOW_S + 30), "future"),
        (token_of(exp=NOW_S + 3600), "longer"),
        (token_of(exp="soon"), "from when until when"),
        (token_of(role="Admin!"), "no account of ours"),
        (token_of(role=["admin"]), "no account of ours"),
        (jwt.encode({"sub": "71", "aud": GAME, "iat": NOW_S, "exp": NOW_S + 60}, None, algorithm="none"), "not signed"),
        ("", "wants a token"),
        ("a.b.c", "not signed"),
        ("a" * 5000, "no JSON Web Token"),
    ],
)
def test_what_proves_nobody_here_and_now_is_refused(token: str, why: str) -> None:
    with pytest.raises(TokenError, match=why):
        tokens(lifetime_s_max=600).verify(token, GAME)


def test_a_token_is_good_once_however_it_is_spelled() -> None:
    verifier = tokens()
    token = token_of()
    verifier.verify(token, GAME)
    with pytest.raises(TokenError, match="used before"):
        verifier.verify(token, GAME)
    with pytest.raises(TokenError):
        verifier.verify(token + "=", GAME)
    many = tokens(single_use=False)
    assert many.verify(token, GAME) == many.verify(token, GAME)


def test_another_issuer_with_the_same_key_is_another() -> None:
    verifier = tokens(issuer="https://accounts.example")
    assert verifier.verify(token_of(iss="https://accounts.example"), GAME).client_id == 71
    with pytest.raises(TokenError, match="another issuer"):
        verifier.verify(token_of(iss="https://mallory.example"), GAME)


def test_a_game_may_make_accounts_its_own_way() -> None:
    def account(claims: Any) -> Account:
        if claims.get("banned"):
            raise Reject("you are banned")
        return Account(claims["player"]["number"], claims["player"]["nick"])

    verifier = tokens(account=account)
    assert verifier.verify(token_of(player={"number": 5, "nick": "bob"}), GAME) == Account(5, "bob")
    with pytest.raises(Reject, match="banned"):
        verifier.verify(token_of(banned=True), GAME)


def test_names_that_providers_give_are_cut_to_what_we_show() -> None:
    name = tokens().verify(token_of(name="Ada\n" + "ä" * 100), GAME).name
    assert name.startswith("Adaä") and len(name.encode()) <= 63
    assert tokens().verify(token_of(name=["no text"]), GAME).name == ""


@given(st.integers(1, (1 << 63) - 1))
def test_a_number_stays_itself(number: int) -> None:
    assert client_id_of(number) == client_id_of(str(number)) == number
    assert client_id_of(f"0{number}") > 1 << 63, "another text is another account"


@given(st.text(min_size=1).filter(lambda text: not text.isdigit()), st.text(max_size=5))
def test_a_name_can_never_pass_for_a_number(subject: str, issuer: str) -> None:
    number = client_id_of(subject, issuer)
    assert 1 << 63 <= number < 1 << 64
    assert number == client_id_of(subject, issuer)
    assert client_id_of(subject, issuer + "x") != number


@given(st.one_of(st.binary(max_size=200), st.text(max_size=100)))
def test_any_bytes_are_refused_and_nothing_else_happens(token: bytes | str) -> None:
    with pytest.raises(TokenError):
        tokens().verify(token, GAME)


@pytest.mark.parametrize(
    "bad",
    [
        {"algorithms": ()},
        {"algorithms": "none"},
        {"algorithms": "HS257"},
        {"algorithms": "RS256"},
        {"key": b"short"},
        {"lifetime_s_max": 0},
        {"skew_s": float("nan")},
    ],
)
def test_what_would_not_be_safe_is_refused_at_once(bad: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError):
        tokens(**{"key": KEY, **bad})


def test_without_the_extra_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jwt", None)
    with pytest.raises(MissingExtraError, match=r"ecsnet\[jwt\]"):
        tokens()
