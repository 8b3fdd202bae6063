"""A child process of a demo, from the inside: messages in, messages out, and an end that cannot be missed.

Invariants:
- when standard input ends, the parent is gone or wants us gone: whoever waits for a message gets `EndOfParent`, and
  if that does not end the process within `LAST_S`, the process is ended;
- Ctrl-C is the parent's to handle: a terminal would send it to us as well;
- only messages go to standard output; whatever prints goes to standard error.
"""

import math
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable

import msgspec
import trio

from ecsnet.demo.messages import FromChild, ToChild
from ecsnet.errors import EcsnetError

LAST_S = 5.0


class EndOfParent(Exception):
    """Nobody is there to work for any more."""


class Parent:
    """The other end of our standard input and output."""

    def __init__(self, writes_to: int) -> None:
        self._writes_to = writes_to
        self._encoder = msgspec.json.Encoder()
        self._send, self._receive = trio.open_memory_channel[ToChild](math.inf)

    async def receive(self) -> ToChild:
        """The next message.

        Raises:
            EndOfParent: there is none any more.
        """
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            raise EndOfParent from None

    def tell(self, message: FromChild) -> None:
        """Blocks while the parent does not read, which it always does."""
        data = self._encoder.encode(message) + b"\n"
        while data:
            data = data[os.write(self._writes_to, data) :]

    def read_in_thread(self) -> None:
        """Read standard input in a thread of its own. In a thread because a pipe cannot be waited for on every system;
        by `os.read` because an interpreter that ends must not find the lock of `sys.stdin` taken."""
        token = trio.lowlevel.current_trio_token()
        decoder = msgspec.json.Decoder(ToChild)

        def read() -> None:
            rest = b""
            while data := os.read(0, 1 << 16):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    token.run_sync_soon(self._send.send_nowait, decoder.decode(line))
            # The event loop may be stuck in a bug, so this does not rely on it.
            threading.Timer(LAST_S, os._exit, (1,)).start()
            token.run_sync_soon(self._send.close)

        def read_until_end() -> None:
            try:
                read()
            except trio.RunFinishedError:
                pass

        threading.Thread(target=read_until_end, name="parent", daemon=True).start()


def run_child(main: Callable[[Parent], Awaitable[None]]) -> None:
    """Run `main` as the whole of this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    writes_to = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr

    async def begin() -> None:
        parent = Parent(writes_to)
        parent.read_in_thread()
        await main(parent)

    status = 0
    try:
        trio.run(begin)
    except* EndOfParent:
        status = 1
    except* EcsnetError as group:
        for error in _leaves(group):
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        status = 1
    sys.stderr.flush()
    # The timer's thread, if it runs, would be waited for.
    os._exit(status)


def _leaves(group: BaseExceptionGroup[EcsnetError]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
