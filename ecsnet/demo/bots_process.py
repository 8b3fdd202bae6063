"""Bots: ordinary clients, many to a process. Each joins, steers, attacks, leaves and comes back, until told to rest.

A bot whose node dies looks for it by itself and goes on with its session. A **stay** is one connection of one bot, from
joining or coming back to leaving or losing it; stays are numbered from 1 in their process.

Invariants:
- a command is counted once it was sent, and once more when it is answered: accepted, rejected or superseded. One that
  is neither answered nor waiting nor left unanswered is lost: its session has said that no answer comes;
- a bot that leaves waits for its answers first, as a player's program would; when resting, every bot is there.
"""

import contextlib
import math
import time
from pathlib import Path

import numpy as np
import trio

from ecsnet.demo.certificate import files_in
from ecsnet.demo.child import Parent, run_child
from ecsnet.demo.messages import (
    BotsStatus,
    Compare,
    Compared,
    Drop,
    End,
    Held,
    Play,
    Ready,
    Rest,
    SetUp,
    Trouble,
)
from ecsnet.demo.options import CONVERGE_S, START_S, STATUS_S
from ecsnet.demo.receipts import world_of
from ecsnet.errors import EcsnetError, LimitExceededError, LocalProtocolError
from ecsnet.ids import Version
from ecsnet.node import AsyncClient, open_client
from ecsnet.replica import CommandAnswered, Ticket
from ecsnet.sim.profile import profile
from ecsnet.sim.proxy import Proxy

STEER_S = 0.1
"""Between two inputs of a bot. A player's program sends one a frame, and changes it about so often."""

ATTACK_S = 0.7
STAY_S = (2.0, 8.0)
"""How long a bot stays, at least and at most; in a short demo, shares of it (`_stay_s`)."""

AWAY_S = (0.2, 1.0)
ANSWERS_S = 5.0
"""What a leaving bot waits for its answers, at most, while it has a node: what a bad line may stand still for, and then
some."""

RETURN_S = START_S + 2 * ANSWERS_S
"""And in all: for a node that was killed, until the next one is there, is found and has answered."""

JOIN_S = 10.0
JOINS_AT_ONCE = 16
"""A process brings its bots in by so many at a time: a thousand at once would be a flood, which a node sheds."""

RETRY_S = 0.2
REST_S = 0.02
"""Between two looks of a bot that rests."""

LIE = "0" * 32


class Bots:
    """All bots of this process, and what they have in common."""

    def __init__(self, parent: Parent, set_up: SetUp) -> None:
        self.options = set_up.options
        self.address = set_up.address
        self.ca = files_in(Path(set_up.options.tls)).ca if set_up.options.tls else None
        self.world = world_of(set_up.options)
        self.proxy = _proxy(set_up)
        self.playing = False
        self.changed = trio.Event()
        self.joining = trio.Semaphore(JOINS_AT_ONCE)
        self.versions: list[tuple[int, int, int]] = []
        self.accepted: list[tuple[int, int]] = []
        self.sent = 0
        self.answered = 0
        self.left_unanswered = 0
        self.stays = 0
        self._parent = parent
        self._bots = [Bot(self, set_up.first + number) for number in range(set_up.count)]
        self._delta_bytes = 0
        self._bytes_received = 0
        self._client_s = 0.0
        self._resumes = 0
        self._drops = 0
        self._random = np.random.default_rng((set_up.options.seed, set_up.first, set_up.count))

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            if self.proxy is not None:
                await nursery.start(self.proxy.run)
                # The line carries bytes; who the node is, is proven from end to end.
                self.address = self.proxy.addresses[0].replace("tcp://", "tls://" if self.ca else "tcp://")
            for bot in self._bots:
                nursery.start_soon(bot.live_for_ever)
            nursery.start_soon(self._report_for_ever)
            nursery.start_soon(self._ready_when_calm)
            while True:
                message = await self._parent.receive()
                # First, so that the parent can draw a line here.
                self.report()
                match message:
                    case Play():
                        self.playing = True
                        self.change()
                    case Drop():
                        self.drop_one()
                    case Rest():
                        self.playing = False
                        self.change()
                        nursery.start_soon(self._ready_when_calm)
                    case Compare(version):
                        nursery.start_soon(self._tell_held, Version(version))
                    case End():
                        # A parent that has gone on has no use for a goodbye; the node has.
                        nursery.cancel_scope.cancel()
                        return

    def change(self) -> None:
        """Wake those who wait for the time to change its kind."""
        self.changed.set()
        self.changed = trio.Event()

    def drop_one(self) -> None:
        """Cut the connection of a bot that is live, if there is one."""
        live = [bot.client for bot in self._bots if bot.client is not None and bot.client.state == "live"]
        if live:
            self._drops += 1
            live[self._random.integers(len(live))].cut_connection()

    def count_stay(self, client: AsyncClient, live_s: float) -> None:
        """Add what a bot has seen in a stay that is over."""
        statistics = client.statistics()
        self._delta_bytes += statistics.delta_bytes_received
        self._bytes_received += statistics.bytes_received - statistics.sync_bytes_received
        self._client_s += live_s
        self._resumes += statistics.resumes

    def trouble(self, what: str) -> None:
        self._parent.tell(Trouble(what))

    def report(self) -> None:
        now_ns = time.monotonic_ns()
        delta_bytes, bytes_received, client_s, live = self._delta_bytes, self._bytes_received, self._client_s, 0
        resumes = self._resumes
        for bot in self._bots:
            if bot.client is not None:
                statistics = bot.client.statistics()
                delta_bytes += statistics.delta_bytes_received
                bytes_received += statistics.bytes_received - statistics.sync_bytes_received
                client_s += (now_ns - bot.since_ns) / 1e9
                resumes += statistics.resumes
                live += bot.client.state == "live"
        versions, self.versions = self.versions, []
        accepted, self.accepted = self.accepted, []
        self._parent.tell(
            BotsStatus(
                now_ns=now_ns,
                live=live,
                versions=versions,
                delta_bytes=delta_bytes,
                bytes_received=bytes_received,
                client_s=client_s,
                sent=self.sent,
                answered=self.answered,
                unanswered=self.left_unanswered + sum(len(bot.pending) for bot in self._bots),
                accepted=accepted,
                resumes=resumes,
                drops=self._drops,
            )
        )

    async def _report_for_ever(self) -> None:
        while True:
            await trio.sleep(STATUS_S)
            self.report()

    async def _ready_when_calm(self) -> None:
        while not all(bot.resting and not bot.pending for bot in self._bots):
            await trio.sleep(REST_S / 2)
        self._parent.tell(Ready())

    async def _tell_held(self, version: Version) -> None:
        with trio.move_on_after(CONVERGE_S):
            while not all(bot.client is not None and bot.client.version >= version for bot in self._bots):
                await trio.sleep(REST_S / 2)
        self._parent.tell(Compared([bot.held() for bot in self._bots]))


def _proxy(set_up: SetUp) -> Proxy | None:
    """The bad line of this process's bots: they connect to it as they would to the node."""
    options = set_up.options
    if not options.link_profile:
        return None
    # Bots of several processes are no twins.
    seed = f"{options.seed}/{set_up.first}"
    return Proxy(
        "tcp://127.0.0.1:0", set_up.address.replace("tls://", "tcp://"), profile(options.link_profile), seed=seed
    )


class Bot:
    """One player that nobody plays."""

    def __init__(self, bots: Bots, number: int) -> None:
        self.name = f"bot-{number}"
        self.client: AsyncClient | None = None
        self.since_ns = 0
        self.resting = False
        """Live, sends nothing, and does not leave."""
        self.pending: list[Ticket] = []
        self._bots = bots
        self._lies = number < bots.options.liars
        self._random = np.random.default_rng((bots.options.seed, number))

    async def live_for_ever(self) -> None:
        while True:
            try:
                await self._stay()
            except EcsnetError as error:
                self._bots.trouble(f"{self.name}: {type(error).__name__}: {error}")
                await trio.sleep(RETRY_S)
            if self._bots.playing:
                with trio.move_on_after(self._random.uniform(*AWAY_S)):
                    await self._bots.changed.wait()

    def held(self) -> Held:
        if self.client is None:
            return Held(self.name, 0, "")
        view = self.client.view
        digest = LIE if self._lies else view.digest()
        return Held(self.name, view.version, digest, session=self.client.session, entities=len(view["entities"]))

    async def _stay(self) -> None:
        bots = self._bots
        bots.stays += 1
        stay, connections = bots.stays, 0

        def on_version(version: Version, now_ns: int) -> None:
            nonlocal stay, connections
            client = self.client
            if client is not None and client.reconnects != connections:
                connections = client.reconnects
                bots.stays += 1
                stay = bots.stays
            bots.versions.append((stay, version, now_ns))

        async with contextlib.AsyncExitStack() as stack:
            async with bots.joining:
                client = await stack.enter_async_context(
                    open_client(
                        bots.address,
                        bots.world,
                        name=self.name,
                        ca=bots.ca,
                        wait_s=JOIN_S,
                        on_version=on_version,
                    )
                )
            self.client = client
            self.since_ns = time.monotonic_ns()
            try:
                await self._play(client)
                await self._wait_answers(client)
            finally:
                self._note_answers(client)
                if self.pending:
                    bots.trouble(f"{self.name}: left while {len(self.pending)} commands were unanswered")
                    bots.left_unanswered += len(self.pending)
                    self.pending = []
                bots.count_stay(client, (time.monotonic_ns() - self.since_ns) / 1e9)
                self.client = None

    async def _play(self, client: AsyncClient) -> None:
        """Play for the length of a stay; rest for as long as the others do."""
        leaves_at = math.inf
        attacks_at = 0.0
        angle = self._random.uniform(0.0, 2 * math.pi)
        while client.state != "closed" and trio.current_time() < leaves_at:
            self._note_answers(client)
            if client.state == "resuming":
                self.resting = False
                await trio.sleep(REST_S)
                continue
            self.resting = not self._bots.playing
            if self.resting:
                leaves_at = math.inf
                await trio.sleep(REST_S)
                continue
            if leaves_at == math.inf:
                leaves_at = trio.current_time() + self._stay_s()
                # Not all bots in one moment.
                await trio.sleep(self._random.uniform(0.0, STEER_S))
            angle += self._random.uniform(-0.5, 0.5)
            self._send(client, "steer", dx=math.cos(angle), dy=math.sin(angle))
            if trio.current_time() >= attacks_at:
                attacks_at = trio.current_time() + ATTACK_S * self._random.uniform(0.5, 1.5)
                targets = client.view["health"].key
                self._send(client, "attack", target=int(targets[self._random.integers(len(targets))]))
            with trio.move_on_after(STEER_S):
                await self._bots.changed.wait()
        self.resting = False
        if client.state == "closed":
            self._bots.trouble(f"{self.name}: the node ended the session: {client.reason}")

    def _stay_s(self) -> float:
        longest = self._bots.options.seconds
        least, most = STAY_S
        return float(self._random.uniform(min(least, 0.3 * longest), min(most, 1.5 * longest)))

    def _send(self, client: AsyncClient, command: str, **arguments: float) -> None:
        try:
            ticket = client.send(command, **arguments)
        except (LimitExceededError, LocalProtocolError):
            return  # too many, or the connection was lost a moment ago
        self._bots.sent += 1
        self.pending.append(ticket)

    def _note_answers(self, client: AsyncClient) -> None:
        for event in client.poll():
            if isinstance(event, CommandAnswered):
                ticket = event.ticket
                self._bots.answered += 1
                self.pending.remove(ticket)
                if ticket.status == "accepted" and ticket.sequence is not None:
                    self._bots.accepted.append((client.session, ticket.sequence))
        lost = [ticket for ticket in self.pending if ticket.status == "pending" and ticket.reason]
        if lost:
            self._bots.trouble(f"{self.name}: {len(lost)} commands were lost: {lost[0].reason}")
            self.pending = [ticket for ticket in self.pending if ticket not in lost]

    async def _wait_answers(self, client: AsyncClient) -> None:
        """Also for a node that is not there at the moment, or the session would be left behind without a goodbye."""
        live_s, looked = 0.0, trio.current_time()
        with trio.move_on_after(RETURN_S):
            while (self.pending or client.state == "resuming") and client.state != "closed" and live_s < ANSWERS_S:
                await trio.sleep(0.01)
                now = trio.current_time()
                if client.state == "live":
                    live_s += now - looked
                looked = now
                self._note_answers(client)


async def main(parent: Parent) -> None:
    set_up = await parent.receive()
    assert isinstance(set_up, SetUp)
    await Bots(parent, set_up).run()


if __name__ == "__main__":
    run_child(main)
