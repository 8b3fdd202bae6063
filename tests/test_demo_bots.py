"""A demo's bots: what they say of commands that were not answered. In virtual time, with a client that does as it is
told in place of a real one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import trio
import trio.testing

from ecsnet.demo import bots_process
from ecsnet.demo.bots_process import ANSWERS_S, RETURN_S, Bots
from ecsnet.demo.messages import BotsStatus, SetUp, Trouble
from ecsnet.demo.options import START_S, Options
from ecsnet.replica import CommandAnswered, Ticket


class FakeClient:
    """It answers what it was sent at the next `poll`, while it is live; `away` is the time without a node."""

    def __init__(self, away: tuple[float, float], *, forgets: bool = False, silent: bool = False) -> None:
        self.session, self.version, self.reconnects, self.reason = 7, 1, 0, ""
        self.view = {"health": SimpleNamespace(key=np.array([1]))}
        self.sent: list[Ticket] = []
        self.left_s: float | None = None
        self._number = 0
        self._from_s, self._to_s = (trio.current_time() + one for one in away)
        self._forgets = forgets
        self._silent = silent

    @property
    def state(self) -> str:
        return "resuming" if self._from_s <= trio.current_time() < self._to_s else "live"

    def send(self, name: str, **_: float) -> Ticket:
        self._number += 1
        self.sent.append(Ticket(name, self._number))
        return self.sent[-1]

    def poll(self) -> list[CommandAnswered]:
        if self.state != "live" or self._silent:
            return []
        sent, self.sent = self.sent, []
        if self._forgets and trio.current_time() >= self._to_s:
            self._forgets = False
            for ticket in sent:
                ticket.reason = "the answer was lost"
            return []
        for ticket in sent:
            ticket.status, ticket.sequence = "accepted", ticket.number
        return [CommandAnswered(ticket) for ticket in sent]

    def statistics(self) -> SimpleNamespace:
        names = ("delta_bytes_received", "bytes_received", "sync_bytes_received", "resumes")
        return SimpleNamespace(**dict.fromkeys(names, 0))


class FakeParent:
    """Takes down what it is told."""

    def __init__(self) -> None:
        self.troubles: list[str] = []
        self.status: BotsStatus | None = None

    def tell(self, message: object) -> None:
        if isinstance(message, Trouble):
            self.troubles.append(message.what)
        elif isinstance(message, BotsStatus):
            self.status = message


async def stayed(monkeypatch: pytest.MonkeyPatch, client: FakeClient, seconds: float) -> tuple[BotsStatus, list[str]]:
    """One bot's stay with a client, and what was told of it after so many seconds."""
    given = [client]

    @asynccontextmanager
    async def open_client(*_: object, **__: object) -> AsyncIterator[FakeClient]:
        if not given:
            await trio.sleep_forever()
        yield given.pop()
        client.left_s = trio.current_time()

    monkeypatch.setattr(bots_process, "open_client", open_client)
    parent: Any = FakeParent()
    bots = Bots(parent, SetUp(Options(clients=1), "tcp://127.0.0.1:1", 0, 1))
    bots.playing = True
    async with trio.open_nursery() as nursery:
        for bot in bots._bots:
            nursery.start_soon(bot.live_for_ever)
        await trio.sleep(seconds)
        bots.report()
        nursery.cancel_scope.cancel()
    assert parent.status is not None
    return parent.status, parent.troubles


async def test_a_bot_that_leaves_waits_for_a_node_that_is_away(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """A busy machine takes its time to start another node; what was sent to the one before is answered by that."""
    client = FakeClient(away=(1.0, START_S))
    status, troubles = await stayed(monkeypatch, client, 2 * RETURN_S)
    assert client.left_s is not None, "and left then"
    assert status.answered == status.sent > 5
    assert status.unanswered == 0
    assert troubles == []


async def test_what_a_bot_left_behind_is_unanswered_and_nobody_says_that_it_is_lost(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    client = FakeClient(away=(1.0, 1e6), silent=True)
    status, troubles = await stayed(monkeypatch, client, 2 * RETURN_S)
    assert client.left_s is not None, "not for ever"
    assert status.unanswered == status.sent > 5
    assert status.answered == 0
    assert troubles == [f"bot-0: left while {status.sent} commands were unanswered"]


async def test_a_bot_that_leaves_does_not_wait_so_long_for_a_node_that_is_there(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    client = FakeClient(away=(1e6, 1e6), silent=True)
    began = trio.current_time()
    status, _ = await stayed(monkeypatch, client, 2 * RETURN_S)
    assert client.left_s is not None
    assert client.left_s - began < bots_process.STAY_S[1] + ANSWERS_S + 1.0
    assert status.unanswered == status.sent > 5


async def test_what_a_session_says_to_be_lost_is_waited_for_no_longer(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """The node that came did not know the session: another one began, and the bot plays on in it."""
    client = FakeClient(away=(1.0, 1.5), forgets=True)
    status, troubles = await stayed(monkeypatch, client, 2 * RETURN_S)
    assert client.left_s is not None
    lost = status.sent - status.answered - status.unanswered
    assert lost > 0
    assert status.unanswered == 0
    assert troubles == [f"bot-0: {lost} commands were lost: the answer was lost"]
