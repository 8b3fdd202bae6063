"""The course of a demo, in the parent.

    start      the node, then the bots; until every bot holds a whole world
    play       `seconds`: bots steer, attack, leave, come back; everything is measured. Where that was asked for, the
               node's process is killed again and again, and another one goes on with its data, or bots lose their
               connections
    rest       the world stands still; bots come back and wait for their last answers
    compare    the node names its version and digest; every bot must hold both, and have acked, within `CONVERGE_S` of
               the beginning of rest; a world on disk names every command that has had its effect
    end        bots leave, the node says goodbye, every process is gone

Invariant: `converged` is true only if every client of the run was heard, and held and had acked the final version with
the authority's digest of it.
"""

import enum
import math
from collections.abc import Callable

import trio

from ecsnet.demo.figures import Figures, Tally, Verdict
from ecsnet.demo.messages import (
    BotsStatus,
    Compare,
    Compared,
    Count,
    Counted,
    Drop,
    FromChild,
    Held,
    NodeStatus,
    Play,
    Ready,
    Rest,
    SetUp,
    Trouble,
)
from ecsnet.demo.options import AFTER_DROP_S, AFTER_KILL_S, CONVERGE_S, START_S, STATUS_S, Options
from ecsnet.demo.processes import Child, Children, children
from ecsnet.errors import EcsnetError

NODE = "the node"

START_PER_CLIENT_S = 0.05
"""Beside `START_S`: a thousand clients join one after the other."""

TROUBLES_KEPT = 20


class Phase(enum.Enum):
    """Where in its course the demo is; the value is for people."""

    START = "starting"
    PLAY = "running"
    REST = "comparing"
    END = "ending"


class NotStartedError(EcsnetError):
    """The processes did not get ready in time."""


class Demo:
    """One demo. `on_change` is called whenever there is something new to show: at every status, and on a new phase."""

    def __init__(self, options: Options, on_change: Callable[["Demo"], None] | None = None) -> None:
        self.options = options
        self.tally = Tally(options)
        self.phase = Phase.START
        self.verdict: Verdict | None = None
        self.figures: Figures | None = None
        self.troubles: list[str] = []
        """What went wrong on the way without ending the demo."""
        self.troubles_more = 0
        self.children: list[Child] = []
        """The node, then the bots."""
        self.played_s = 0.0
        self.kills = 0
        self.cut_short = False
        self._on_change = on_change
        self._play_began = math.inf
        self._hurry = trio.Event()
        # What is awaited from each child, and what it answered.
        self._marks: dict[str, Callable[[str], None]] = {}
        self._answers: dict[str, Ready | Compared | Counted] = {}
        self._address = ""
        self._answered = trio.Event()

    async def run(self) -> Figures:
        """Run it to its end.

        Raises:
            ChildFailedError: a process ended before its time. NotStartedError: not all was ready in time. Every process
            is gone in both cases.
        """
        try:
            async with children(self._take) as started:
                self.children = started.all
                self._change()
                node, bots = await self._start(started)
                node = await self._play(started, node, bots)
                self.verdict = await self._compare(node, bots)
                if self.options.data:
                    await self._count(node)
                self.phase = Phase.END
                self.figures = self.tally.figures(self.verdict, kills=self.kills)
                self._change()
        except BaseExceptionGroup as group:
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            raise error from error.__cause__
        assert self.figures is not None
        return self.figures

    @property
    def playing(self) -> bool:
        return self.phase is Phase.PLAY

    def hurry(self) -> None:
        """Play no longer: compare, and end."""
        self.cut_short = True
        self._hurry.set()

    # --- the course --------------------------------------------------------------------------------------------------

    async def _start(self, started: Children) -> tuple[Child, list[Child]]:
        options = self.options
        limit_s = START_S + START_PER_CLIENT_S * options.clients
        with trio.move_on_after(limit_s):
            # All interpreters start at once; the bots are told where to go when the node listens.
            node = await started.start("node_process", NODE)
            await node.tell(SetUp(options))
            bots = [await started.start("bots_process", f"bots {number}") for number in range(1, options.processes + 1)]
            address = self._address = (await self._ready([node]))[0].address
            first = 0
            for number, child in enumerate(bots):
                count = options.clients // len(bots) + (number < options.clients % len(bots))
                await child.tell(SetUp(options, address, first, count))
                first += count
            await self._ready(bots)
            return node, bots
        raise NotStartedError(
            f"after {limit_s:g} s {self.tally.live} of {options.clients} clients had joined; "
            + ("; ".join(self.troubles[-3:]) or "no client reported an error")
        )

    async def _play(self, started: Children, node: Child, bots: list[Child]) -> Child:
        """Let it run; returns the node that is there in the end."""
        await self._draw_line(node, bots, Play(), self.tally.begin_node, self.tally.begin_bots)
        self.phase = Phase.PLAY
        self._play_began = trio.current_time()
        options = self.options
        kill_at = self._play_began + (options.kill_node_every or math.inf)
        drop_at = self._play_began + (options.drop_client_every or math.inf)
        drops = 0
        ends_at = self._play_began + options.seconds
        while not self._hurry.is_set() and trio.current_time() < ends_at:
            with trio.move_on_at(min(ends_at, drop_at, trio.current_time() + STATUS_S / 2)):
                await self._hurry.wait()
            self.played_s = trio.current_time() - self._play_began
            self._change()
            if drop_at <= trio.current_time() <= ends_at - AFTER_DROP_S:
                drop_at += options.drop_client_every
                await bots[drops % len(bots)].tell(Drop())
                drops += 1
            elif drop_at <= trio.current_time():
                drop_at = math.inf
            if kill_at <= trio.current_time() <= ends_at - AFTER_KILL_S:
                kill_at += options.kill_node_every
                node = await self._kill(started, node)
        self.played_s = trio.current_time() - self._play_began
        self.phase = Phase.REST
        self._change()
        return node

    async def _kill(self, started: Children, node: Child) -> Child:
        """Kill the node's process, and start another one on the same data."""
        await node.kill()
        self.kills += 1
        self.tally.node_killed()
        with trio.move_on_after(START_S):
            following = await started.start("node_process", NODE)
            started.replace(node, following)
            await following.tell(SetUp(self.options, self._address))
            await self._ready([following])
            return following
        raise NotStartedError(f"after {START_S:g} s the node that was started again did not listen")

    async def _count(self, node: Child) -> None:
        """Hold what clients were told against what the store has."""
        with trio.move_on_after(START_S):
            self._expect([node])
            await node.tell(Count())
            for answer in await self._answers_of([node]):
                if isinstance(answer, Counted):
                    self.tally.take_receipts(answer.applied)
            return
        raise NotStartedError(f"after {START_S:g} s the node had not counted the commands in its store")

    async def _compare(self, node: Child, bots: list[Child]) -> Verdict:
        began = trio.current_time()
        held: list[Held] = []
        truth: Held | None = None
        each: list[Held] = []
        with trio.move_on_after(CONVERGE_S):
            self._expect([node, *bots])
            await self._draw_line(node, bots, Rest(), self.tally.end_node, self.tally.end_bots)
            await self._ready_again(bots)
            while True:
                truth, *each = (await self._compared([node], 0))[0].held
                # A client that joined late makes a version; then this is not the final one yet.
                held = [one for answer in await self._compared(bots, truth.version) for one in answer.held]
                after, *each = (await self._compared([node], truth.version))[0].held
                same_version = after.version == truth.version
                truth = after
                if same_version and not self._differences(truth, each, held):
                    break
                await trio.sleep(0.05)
        took_s = trio.current_time() - began
        self.tally.end_missing()
        if truth is None:
            with trio.move_on_after(CONVERGE_S):
                truth, *each = (await self._compared([node], 0))[0].held
        if truth is None:
            known = self.tally.node
            assert known is not None
            truth = Held(NODE, known.version, "", tick=known.tick)
            why_not = [f"{NODE} did not answer within {CONVERGE_S:g} s"]
        else:
            why_not = self._differences(truth, each, held)
        if took_s >= CONVERGE_S and not why_not:
            why_not = [f"not all clients were back within {CONVERGE_S:g} s"]
        return Verdict(
            converged=not why_not,
            version=truth.version,
            digest=truth.digest,
            tick=truth.tick,
            epoch=truth.epoch,
            took_s=took_s,
            entities_seen=sum(one.entities for one in held) / len(held) if held else None,
            why_not=tuple(why_not),
        )

    def _differences(self, truth: Held, each: list[Held], held: list[Held]) -> list[str]:
        """Why the clients do not hold what they are to hold: what the authority does, or with interest what it says
        that `each` of their sessions is to."""
        found = []
        if len(held) < self.options.clients:
            found.append(f"{self.options.clients - len(held)} of {self.options.clients} clients were not heard in time")
        digests = {one.session: one.digest for one in each}
        for one in held:
            expected = digests.get(one.session, "") if self.options.interest else truth.digest
            if one.version != truth.version:
                where = f"holds version {one.version}, the authority {truth.version}" if one.version else "is not back"
                found.append(f"{one.name} {where}")
            elif one.digest != expected:
                found.append(f"{one.name} has digest {one.digest}, the authority {expected or 'no such session'}")
        for one in each:
            if one.astray:
                found.append(f"{one.name} is sent or lacks {one.astray} entities, by what lies near it")
        if not truth.acked and not found:
            found.append(f"not every client has acked version {truth.version}")
        return found

    # --- talking with the children -----------------------------------------------------------------------------------

    async def _ready(self, from_children: list[Child]) -> list[Ready]:
        self._expect(from_children)
        return await self._ready_again(from_children)

    async def _ready_again(self, from_children: list[Child]) -> list[Ready]:
        answers = await self._answers_of(from_children)
        return [answer for answer in answers if isinstance(answer, Ready)]

    async def _compared(self, from_children: list[Child], version: int) -> list[Compared]:
        self._expect(from_children)
        for child in from_children:
            await child.tell(Compare(version))
        answers = await self._answers_of(from_children)
        return [answer for answer in answers if isinstance(answer, Compared)]

    def _expect(self, from_children: list[Child]) -> None:
        for child in from_children:
            self._answers.pop(child.name, None)

    async def _answers_of(self, from_children: list[Child]) -> list[Ready | Compared | Counted]:
        while not all(child.name in self._answers for child in from_children):
            self._answered = trio.Event()
            await self._answered.wait()
        return [self._answers[child.name] for child in from_children]

    async def _draw_line(
        self,
        node: Child,
        bots: list[Child],
        message: Play | Rest,
        on_node: Callable[[], None],
        on_bots: Callable[[str], None],
    ) -> None:
        """Send a message to all; each answers with a status first, and that is where a measurement begins or ends."""
        for child in (node, *bots):
            self._marks[child.name] = lambda name: on_node() if name == NODE else on_bots(name)
        for child in (node, *bots):
            await child.tell(message)
        while self._marks:
            self._answered = trio.Event()
            await self._answered.wait()

    def _take(self, child: Child, message: FromChild) -> None:
        match message:
            case NodeStatus():
                self.tally.take_node(message)
                self._mark(child)
            case BotsStatus():
                self.tally.take_bots(child.name, message)
                self._mark(child)
            case Ready() | Compared() | Counted():
                self._answers[child.name] = message
                self._answered.set()
            case Trouble(what):
                if len(self.troubles) < TROUBLES_KEPT:
                    self.troubles.append(what)
                else:
                    self.troubles_more += 1

    def _mark(self, child: Child) -> None:
        mark = self._marks.pop(child.name, None)
        if mark is not None:
            mark(child.name)
            self._answered.set()

    def _change(self) -> None:
        if self._on_change is not None:
            self._on_change(self)


async def run_demo(options: Options) -> Figures:
    """Run a demo without showing it."""
    return await Demo(options).run()
