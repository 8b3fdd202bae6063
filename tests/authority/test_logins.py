"""Who a client is: accounts and roles, and what becomes of those who have none."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from ecsnet.auth import Account, Login, audience_of
from ecsnet.errors import ArgumentError, AuthenticationError, LocalProtocolError, Reject
from ecsnet.limits import HANDSHAKE_DEADLINE_NS, NS_PER_S, ROLE_BYTES_MAX, TOKEN_BYTES_MAX
from ecsnet.store import Store
from ecsnet.wire.messages import Reason
from ecsnet.world import World
from tests.arena import arena
from tests.helpers import Pair

ADA = Account(71, "Ada", "admin")


def guarded(authenticate: Callable[[Login], Any] | None = None) -> World:
    """A world that knows one token, unless told otherwise."""
    world = arena(moving=False)

    def known(login: Login) -> Account:
        if login.token != b"ada's":
            raise Reject("no such account")
        return ADA

    world.authenticate(known if authenticate is None else authenticate)
    return world


def test_an_account_gives_number_name_and_role() -> None:
    with Pair(guarded(), clients=0) as pair:
        replica = pair.connect(name="whoever", token="ada's")
        pair.run_until_live()

        [client] = pair.authority.clients
        assert (client.client_id, client.name, client.role) == (71, "Ada", "admin")
        assert replica.client_id == 71
        with pair.authority.store.view() as view:
            assert view[client.entity, "entities.owner"] == 71


def test_without_authentication_everybody_is_a_player_of_a_new_account() -> None:
    with Pair(arena(), clients=2) as pair:
        pair.run_until_live()
        first, second = pair.authority.clients
        assert first.role == second.role == "player"
        assert (first.client_id, second.client_id) == (first.session, second.session)


def test_a_token_that_nobody_asks_for_does_no_harm() -> None:
    with Pair(arena(), clients=0) as pair:
        pair.connect(token=b"whatever")
        pair.run_until_live()
        assert len(pair.authority.clients) == 1


def test_who_is_not_known_is_told_why_and_nothing_of_the_world() -> None:
    with Pair(guarded(), clients=0) as pair:
        replica = pair.connect(token="mallory's", knows=None, reconnects=True)
        pair.step(3)

        assert replica.state == "closed", "who has no account is not let in by trying again"
        assert replica.farewell == (Reason.AUTH_FAILED, "no such account")
        assert isinstance(replica.error, AuthenticationError)
        assert replica.schema is None
        assert pair.authority.links == ()
        with pair.authority.store.view() as view:
            assert len(view["sessions"]) == 0
        totals = pair.authority.statistics()
        assert (totals.logins_refused, totals.logins_failed, totals.joins) == (1, 0, 0)


@pytest.mark.parametrize("bad", [None, 71, "ada", {"client_id": 71}])
def test_what_is_no_account_lets_nobody_in(bad: object) -> None:
    """A hook that forgets to return must not mean that all are welcome."""
    with Pair(guarded(lambda login: bad), clients=0) as pair:
        replica = pair.connect()
        pair.step(3)
        assert replica.farewell == (Reason.INTERNAL, "internal")
        assert pair.authority.statistics().logins_failed == 1


def test_a_hook_that_fails_costs_its_client_only_and_tells_it_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fails(login: Login) -> Account:
        if login.name == "bob":
            raise OSError("no route to 10.0.0.7")
        return ADA

    with Pair(guarded(fails), clients=0) as pair:
        good, bad = pair.connect(name="ada"), pair.connect(name="bob")
        pair.step(3)
        assert good.state == "live"
        assert bad.farewell == (Reason.INTERNAL, "internal")
        assert "10.0.0.7" in caplog.text, "whoever runs the node is told"


def test_a_flood_of_bad_tokens_is_counted_in_full_and_logged_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ecsnet.authority")
    with Pair(guarded(), clients=0) as pair:
        for _ in range(20):
            pair.connect(token="mallory's")
        pair.step(1)
        assert pair.authority.statistics().logins_refused == 20
        assert sum("was not let in" in record.message for record in caplog.records) == 1
        pair.now_ns += NS_PER_S
        pair.connect(token="mallory's")
        pair.step(1)
        assert "19 more" in caplog.records[-1].message


def test_the_hook_is_told_token_name_peer_and_game() -> None:
    seen: list[Login] = []

    def note(login: Login) -> Account:
        seen.append(login)
        return ADA

    world = guarded(note)
    with Pair(world, clients=0) as pair:
        pair.connect(name="ada", token="täglich")
        pair.run_until_live()
    [login] = seen
    assert (login.token, login.name, login.peer) == ("täglich".encode(), "ada", "ada")
    assert login.audience == audience_of("arena", world.schema.fingerprint)


def test_a_session_that_goes_on_keeps_its_account_and_is_not_asked_again() -> None:
    """Over another link, and over another node on the same store: the row has both."""
    asked = []

    def once(login: Login) -> Account:
        asked.append(login)
        return ADA

    world = guarded(once)
    with Store(world.schema) as store, Pair(world, clients=0, store=store) as pair:
        pair.connect(reconnects=True, token="ada's")
        pair.run_until_live()
        pair.wire.lose(pair.now_ns)
        pair.step(5)
        pair.reconnect()
        pair.run_until_live()
        assert pair.authority.clients[0].role == "admin"

        pair.restart(seed=3)
        pair.reconnect()
        pair.run_until_live()
        [client] = pair.authority.clients
        assert (client.client_id, client.role, client.name) == (71, "admin", "Ada")
        assert len(asked) == 1


def test_each_new_session_shows_a_token_of_its_own() -> None:
    """A token is good for one session: a node that has forgotten the last one is shown another."""
    tokens = iter(["first", "second"])
    shown = []

    def note(login: Login) -> Account:
        shown.append(login.token)
        return ADA

    with Pair(guarded(note), clients=0) as pair:
        pair.connect(reconnects=True, token=lambda: next(tokens))
        pair.run_until_live()
        pair.restart(seed=3)
        pair.reconnect()
        pair.run_until_live()
        assert shown == [b"first", b"second"]

        pair.restart(seed=4)
        pair.reconnect()
        pair.step(3)
        assert pair.replica.state == "closed", "there is no third"
        assert isinstance(pair.replica.error, AuthenticationError)


@pytest.mark.parametrize(
    "token", [bytes(TOKEN_BYTES_MAX + 1), 7, lambda: 1 / 0, lambda: 7], ids=["long", "number", "fails", "gives none"]
)
def test_a_token_that_cannot_be_is_refused_where_it_is_given(token: Any) -> None:
    with Pair(guarded(), clients=0) as pair, pytest.raises(AuthenticationError, match="token"):
        pair.connect(token=token)


def test_a_login_that_waits_is_the_drivers_and_may_come_too_late() -> None:
    async def slow(login: Login) -> Account:
        raise AssertionError("the driver of this test asks nobody")

    with Pair(guarded(slow), clients=0) as pair:
        in_time, late = pair.connect(name="in time"), pair.connect(name="late")
        pair.step(3)
        first, second = pair.authority.links
        assert first.login is not None and first.login.name == "in time"
        assert in_time.state == late.state == "joining"

        pair.authority.settle_login(first, ADA, pair.now_ns)
        pair.step(3)
        assert in_time.state == "live"
        assert first.login is None

        pair.now_ns += HANDSHAKE_DEADLINE_NS
        pair.step(3)
        assert late.farewell is not None and late.farewell[0] == Reason.TIMEOUT
        pair.authority.settle_login(second, ADA, pair.now_ns)
        pair.step(3)
        assert len(pair.authority.clients) == 1


def test_a_coroutine_out_of_a_plain_function_lets_nobody_in() -> None:
    async def slow(login: Login) -> Account:
        return ADA

    with Pair(guarded(lambda login: slow(login)), clients=0) as pair:
        replica = pair.connect()
        pair.step(3)
        assert replica.farewell == (Reason.INTERNAL, "internal")


@pytest.mark.parametrize("number", [0, -1, 1 << 64, True, "7", 1.0])
def test_an_account_has_a_number_that_is_not_the_authoritys(number: Any) -> None:
    with pytest.raises(ArgumentError, match="client_id"):
        Account(number)


@pytest.mark.parametrize("role", ["", "Admin", "7up", "a-b", "a" * (ROLE_BYTES_MAX + 1), "ä", "admin\n", None])
def test_a_role_is_a_short_word(role: Any) -> None:
    with pytest.raises(ArgumentError, match="role"):
        Account(7, role=role)
    assert Account(7, role="a" * ROLE_BYTES_MAX).role


def test_a_world_asks_one_function_with_one_argument_before_it_runs() -> None:
    world = guarded()
    with pytest.raises(ArgumentError, match="already"):
        world.authenticate(lambda login: ADA)
    other = arena()
    with pytest.raises(ArgumentError, match="one argument"):
        other.authenticate(lambda: ADA)  # type: ignore[type-var]  # one that takes nothing
    with pytest.raises(ArgumentError, match="authenticate"):
        other.authenticate(7)  # type: ignore[type-var]  # what cannot be called
    other.seal()
    with pytest.raises(LocalProtocolError, match="while the world runs"):
        other.authenticate(lambda login: ADA)
