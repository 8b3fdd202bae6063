"""The children of a demo, from the parent's side: started, talked to, ended, and heard when they fail.

Invariants:
- leaving `children` ends every child, by its input's end first, by force after `END_S`; a parent that is killed has
  its end of every pipe closed by the system, which ends them as well;
- a child that ends while it is needed raises `ChildFailedError` with its exit status and its last words;
- a child's standard error never reaches the terminal in the middle of a picture; it is kept.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import trio

import ecsnet
from ecsnet.demo.messages import FromChild, ToChild
from ecsnet.errors import EcsnetError

END_S = 4.0
"""What a child has for its goodbyes."""

WORDS_KEPT = 40


class ChildFailedError(EcsnetError):
    """A process of the demo ended before its time. `status` is its exit status, negative for a signal's number."""

    def __init__(self, name: str, status: int, words: list[str]) -> None:
        self.name = name
        self.status = status
        self.words = words
        how = f"was killed by {_signal_name(-status)}" if status < 0 else f"ended with exit status {status}"
        said = "\n  ".join(words) if words else "nothing"
        super().__init__(f"the process of {name} {how} in the middle of the demo. Its last words:\n  {said}")


class Child:
    """One process. `words` are the last lines of its standard error."""

    def __init__(self, name: str, process: trio.Process) -> None:
        self.name = name
        self.words: deque[str] = deque(maxlen=WORDS_KEPT)
        self.ending = False
        self._process = process
        self._encoder = msgspec.json.Encoder()
        self._heard_all = trio.Event()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def tell(self, message: ToChild) -> None:
        """Send a message. To a child that is gone it is lost; that it is gone is told by `listen`."""
        assert self._process.stdin is not None
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._process.stdin.send_all(self._encoder.encode(message) + b"\n")

    async def listen(self, take: Callable[["Child", FromChild], None]) -> None:
        """Hand each message to `take`, until the child ends.

        Raises:
            ChildFailedError: it was not told to.
        """
        assert self._process.stdout is not None
        decoder = msgspec.json.Decoder(FromChild)
        async for line in _lines(self._process.stdout):
            take(self, decoder.decode(line))
        status = await self._process.wait()
        await self._heard_all.wait()
        if not self.ending:
            raise ChildFailedError(self.name, status, list(self.words))

    async def hear(self) -> None:
        """Keep what it says on standard error."""
        assert self._process.stderr is not None
        try:
            async for line in _lines(self._process.stderr):
                self.words.append(line.decode(errors="replace"))
        finally:
            self._heard_all.set()

    async def end(self) -> None:
        """Close its input and wait; then by force."""
        self.ending = True
        assert self._process.stdin is not None
        await self._process.stdin.aclose()
        with trio.move_on_after(END_S):
            await self._process.wait()
        if self._process.returncode is None:
            await self.kill()

    async def kill(self) -> None:
        """By force, at once, in the middle of whatever it does; returns when it is gone."""
        self.ending = True
        self._process.kill()
        await self._process.wait()


class Children:
    """All of them; the first is the one that the others need."""

    def __init__(self, nursery: trio.Nursery, take: Callable[[Child, FromChild], None]) -> None:
        self.all: list[Child] = []
        self._nursery = nursery
        self._take = take

    async def start(self, module: str, name: str) -> Child:
        """Run a module of the demo in a process of its own."""
        # Not in our process group, or a Ctrl-C in the terminal would end it before we can ask it to end.
        apart: dict[str, object] = (
            {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
            if sys.platform == "win32"
            else {"process_group": 0}
        )
        start: Callable[..., Awaitable[trio.Process]] = trio.lowlevel.open_process
        process = await start(
            # -P and the path: this very package, whatever lies in the working directory.
            [sys.executable, "-P", "-m", f"ecsnet.demo.{module}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": _path()},
            **apart,
        )
        child = Child(name, process)
        self.all.append(child)
        self._nursery.start_soon(child.hear)
        self._nursery.start_soon(child.listen, self._take)
        return child

    async def end(self) -> None:
        """End them in their order: bots say goodbye to a node that still runs."""
        for child in self.all:
            child.ending = True
        first, *others = self.all
        async with trio.open_nursery() as nursery:
            for child in others:
                nursery.start_soon(child.end)
        await first.end()

    def replace(self, gone: Child, by: Child) -> None:
        """One takes the place of another that is gone."""
        self.all.remove(by)
        self.all[self.all.index(gone)] = by


@contextlib.asynccontextmanager
async def children(take: Callable[[Child, FromChild], None]) -> AsyncIterator[Children]:
    """A place to start processes in; `take` is called with everything that they tell."""
    async with trio.open_nursery() as nursery:
        made = Children(nursery, take)
        try:
            yield made
        finally:
            with trio.CancelScope(shield=True):
                if made.all:
                    await made.end()
            nursery.cancel_scope.cancel()


async def _lines(stream: trio.abc.ReceiveStream) -> AsyncIterator[bytes]:
    rest = b""
    async for data in stream:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line
    if rest:
        yield rest


def _path() -> str:
    assert ecsnet.__file__ is not None
    ours = str(Path(ecsnet.__file__).parent.parent)
    given = os.environ.get("PYTHONPATH")
    return f"{ours}{os.pathsep}{given}" if given else ours


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
