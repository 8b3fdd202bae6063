"""Kill a process that writes to a store on the disk, again and again: `python sims/kill.py [--kills N] [--seconds S]`.

    parent: forks ──► child: opens the store, recovers, writes, tells each acknowledgement by a pipe, until SIGKILL
            reads what was acknowledged, forks ──► another child: opens the store and tells all that is in it
            compares

A process that dies takes nothing with it that the operating system has; so whatever was acknowledged as `relaxed` or
more must be there, and what is there must be a beginning of what was done: of each worker all rows as its transactions
up to some number leave them, the same versions that were acknowledged, keys that never come back. What power takes
away is another matter, and `sims/isolation.py` and `sims/crash.py` are about that.

A directory is used for several kills, by children of another way, another durability; some die while they recover.

The exit status is 0 if nothing was lost. It needs `fork`.
"""

import argparse
import json
import os
import pickle
import random
import select
import shutil
import signal
import struct
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
# Run as a program, from any folder: of this clone, whatever else is installed.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from ecsnet.errors import ClosedError  # noqa: E402
from ecsnet.ids import Tick  # noqa: E402
from ecsnet.store import Store  # noqa: E402
from sims.disk_world import LEVELS, SCHEMA, SEGMENT_BYTES, Found, Hand, Known, LostError, look, prepare  # noqa: E402

KILLS = 200
KILLS_EACH = 8
"""Of one directory."""
OPENING_S = 20.0
"""For a child to open the store and tell what is in it; a hundred times what it takes."""
BEGUN: Final = 0xFF
"""The worker of the first word of a child: it has opened the store, whose version it tells."""
WAYS: Final = ("calls", "threads", "tickets", "ticks", "queue")
"""How transactions are handed in: one blocking call after the other, several threads of those, several at a time by
tickets, in ticks, and by the queue."""
ACK: Final = struct.Struct("<BBQQ")
"""Acknowledged, as the parent is told: worker, level, number, version. Short enough that a pipe never tears it."""


class Job(NamedTuple):
    """What a child is to do: `way` of `WAYS`, `level` of the store; `snapshots`: whether some are taken meanwhile."""

    seed: int
    way: str
    level: str
    workers: int
    snapshots: bool


# --- what a child does ------------------------------------------------------------------------------------------------


def child(directory: str, job: Job, pipe: int) -> None:
    """Open the store and work until somebody kills this process. What goes wrong ends it."""

    def tell(worker: int, level: int, number: int, version: int) -> None:
        if worker != BEGUN:
            hands[worker].minted.pop(number, None)
        os.write(pipe, ACK.pack(worker, level, number, version))

    def die(thread: threading.ExceptHookArgs) -> None:
        traceback.print_exception(thread.exc_type, thread.exc_value, thread.exc_traceback)
        os._exit(3)

    threading.excepthook = die
    store = Store(SCHEMA, data=directory, durability=job.level, segment_bytes=SEGMENT_BYTES)
    prepare(store, job.workers)
    found = look(store)
    draw = random.Random(time.monotonic_ns())
    hands = [Hand(store, job.seed, job.level, worker, found, tell, draw) for worker in range(job.workers)]
    tell(BEGUN, 0, 0, found.version)
    if job.snapshots:
        threading.Thread(target=snapshots, args=(store,), daemon=True).start()
    if job.way in ("threads", "queue"):
        for hand in hands[1:]:
            threading.Thread(target=for_ever, args=(hand, job), daemon=True).start()
        for_ever(hands[0], job)
    while True:
        if job.way == "ticks":
            tick(store, hands)
        else:
            for hand in hands:
                hand.tickets() if job.way == "tickets" else hand.call()


def for_ever(hand: Hand, job: Job) -> None:
    """One transaction after the other."""
    while True:
        hand.queued() if job.way == "queue" else hand.call()


def tick(store: Store, hands: list[Hand]) -> None:
    """One tick of a transaction of each, acknowledged when the version that they became is on the disk."""
    done = []
    with store.tick(Tick(store.current_tick + 1)) as one:
        for hand in hands:
            with one.transaction("tick") as tx:
                done.append((hand, hand.fill(tx)))
        version = one.publish()
    store.sync()
    for hand, number in done:
        hand.acknowledged(LEVELS.index("strict"), number, version)


def snapshots(store: Store) -> None:
    """One after the other, beside the writers."""
    draw = random.Random(time.monotonic_ns())
    with suppress(ClosedError):
        while True:
            time.sleep(draw.random() * 0.05)
            store.snapshot()


# --- children ---------------------------------------------------------------------------------------------------------


def forked(work: Callable[[int], None], log: Path) -> tuple[int, int]:
    """A child that does `work`, given the end of a pipe, and dies. Returns its process and the other end."""
    reader, writer = os.pipe()
    process = os.fork()
    if process:
        os.close(writer)
        return process, reader
    status = 3
    try:
        os.close(reader)
        errors = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(errors, 2)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        work(writer)
        status = 0
    except BaseException:  # noqa: BLE001 (a child must never go on as its parent)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def ended(process: int, log: Path) -> None:
    """Wait for a child that was killed, or is done.

    Raises:
        LostError: it ended by itself, and not well.
    """
    _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, -signal.SIGKILL):
        raise LostError(f"a child ended with {code}:\n{log.read_text()[-3000:]}")


def drained(reader: int, until: float, *, most: int = 1 << 62) -> bytes:
    """What comes through a pipe until a time, so many bytes, or its end."""
    got = bytearray()
    while len(got) < most:
        left = until - time.monotonic()
        if left <= 0 or not select.select([reader], [], [], left)[0]:
            break
        piece = os.read(reader, 1 << 16)
        if not piece:
            break
        got += piece
    return bytes(got)


def write_until_killed(directory: Path, job: Job, draw: random.Random, known: Known, log: Path) -> None:
    """Let a child work for a moment, kill it, and know what it said."""
    process, reader = forked(lambda pipe: child(str(directory), job, pipe), log)
    try:
        began = time.monotonic()
        if draw.random() < 0.2:
            said = drained(reader, began + draw.random() * 0.03)
        else:
            said = drained(reader, began + OPENING_S, most=1)
            said += drained(reader, time.monotonic() + draw.expovariate(1 / 0.12))
        os.kill(process, signal.SIGKILL)
        said += drained(reader, time.monotonic() + OPENING_S)
    finally:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        os.close(reader)
        ended(process, log)
    for worker, level, number, version in ACK.iter_unpack(said[: len(said) // ACK.size * ACK.size]):
        if worker != BEGUN:
            known.acks.append((worker, level, number, version))
        elif version < known.version:
            raise LostError(f"opened at version {version}, where {known.version} was seen before")
    known.floor = min(known.floor, LEVELS.index(job.level))


def looked(directory: Path, job: Job, draw: random.Random, log: Path) -> tuple[Found, Any]:
    """What is in the store, as another process sees it; some die over it first."""

    def tell(pipe: int) -> None:
        with Store(SCHEMA, data=str(directory), durability=job.level, segment_bytes=SEGMENT_BYTES) as store:
            answer = pickle.dumps((look(store), store.recovery))
        with os.fdopen(pipe, "wb") as out:
            out.write(answer)

    while draw.random() < 0.3:
        process, reader = forked(tell, log)
        drained(reader, time.monotonic() + draw.random() * 0.02)
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        os.close(reader)
        os.waitpid(process, 0)
    process, reader = forked(tell, log)
    answer = drained(reader, time.monotonic() + OPENING_S)
    os.close(reader)
    ended(process, log)
    found: tuple[Found, Any] = pickle.loads(answer)
    return found


def drawn(draw: random.Random, seed: int) -> Job:
    """What a child is to do."""
    level = draw.choice(LEVELS)
    return Job(seed, draw.choice(WAYS), level, 3, draw.random() < 0.4)


def play(seed: int, kills: int) -> dict[str, int]:
    """One directory and so many kills. Returns counts.

    Raises:
        LostError: with the directory that it happened in, which is left as it is.
    """
    draw = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="ecsnet-kill-"))
    known, counts = Known(seed), {"kills": 0, "acknowledged": 0, "versions": 0, "torn": 0}
    history: list[Job] = []
    try:
        for _ in range(kills):
            job = drawn(draw, seed)
            history.append(job)
            write_until_killed(folder / "data", job, draw, known, folder / "child.log")
            counts["kills"] += 1
            counts["acknowledged"] += len(known.acks)
            found, recovery = looked(folder / "data", job, draw, folder / "look.log")
            counts["torn"] += recovery.torn_bytes > 0
            known.check(found, recovery, survives=1)
    except LostError as error:
        raise LostError(f"seed {seed}, kill {len(history)} of {history[-1]}, {folder} is kept: {error}") from error
    counts["versions"] = known.version
    shutil.rmtree(folder)
    return counts


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=KILLS, help=f"at least so many (default {KILLS})")
    parser.add_argument("--seconds", type=float, default=None, help="begin no directory after so many seconds")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--each", type=int, default=KILLS_EACH, help=f"of one directory (default {KILLS_EACH})")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    given = parser.parse_args(arguments)
    began, seed, failed = time.monotonic(), given.first_seed, 0
    total = {"kills": 0, "acknowledged": 0, "versions": 0, "torn": 0}
    while total["kills"] < given.kills and failed < 5:
        if given.seconds is not None and time.monotonic() - began > given.seconds:
            break
        try:
            for name, count in play(seed, min(given.each, given.kills - total["kills"])).items():
                total[name] += count
        except LostError as error:
            failed += 1
            print(f"FAILED {error}", file=sys.stderr, flush=True)
        seed += 1
    summary = {**total, "directories": seed - given.first_seed, "failed": failed}
    if given.json:
        print(json.dumps(summary))
    else:
        print(", ".join(f"{name} {count}" for name, count in summary.items()))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
