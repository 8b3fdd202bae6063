"""Histories of one store on a disk in memory: `python sims/disk.py [--first-seed N] [--seeds N] [--seconds S]`.

A history writes by every way there is and at every durability, takes snapshots, closes and opens again; the process
dies, the power fails, the n-th operation of the disk goes wrong, the disk is full, files rot. After each, what is found
must be a beginning of what was done, with all of it that such a thing leaves of what was acknowledged
(`disk_world.py`); what cannot be is told by a typed error, and nothing is changed then.

Invariants:
- a history is drawn from its seed only. The store's own thread decides how much is written when the power fails, and
  which operation of the disk is the one that goes wrong, so the same seed may go another way; one that is `driven`
  has no thread and no clock but its own, does the thread's work by `work`, and goes the same way each time;
- `known` is what the disk must have; after an error of the disk the hands are made anew from what the store shows.

The exit status is 0 if no history failed.
"""

import argparse
import hashlib
import json
import random
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Run as a program, from any folder: of this clone, whatever else is installed.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from ecsnet._kernel.disk import Storage  # noqa: E402
from ecsnet.errors import DataError, DataFailedError, DiskFullError, SchemaMismatchError  # noqa: E402
from ecsnet.ids import Tick  # noqa: E402
from ecsnet.store import Store  # noqa: E402
from ecsnet.store.opening import Driven  # noqa: E402
from sims.disk_world import LEVELS, SCHEMA, SEGMENT_BYTES, WAIT_S, Found, Hand, Known, LostError, look, prepare  # noqa: E402

START_NS = 1_800_000_000_000_000_000
STEPS = 40
"""Of one history."""
WORKERS = 2
FAULTS = ("io", "full", "short", "sync")
FAULT_WITHIN = 40
"""Operations of the disk within which the one is that goes wrong."""
ROTS = 12
"""Files that are damaged, one at a time, when a history comes to that."""
FAILURES_MAX = 12
"""After so many a run ends: they have few causes."""


class DiskHistory:
    """A disk, the store on it, and what is known of both."""

    def __init__(self, seed: int, *, driven: bool = False) -> None:
        self.draw = random.Random(seed)
        """Seeded anew it goes on otherwise: how somebody else than `run` steers a history."""
        self.driven = driven
        self.made = 0
        """Stores on this disk and on images of it."""
        self.now_ns = START_NS
        self.seed = seed
        self.trace: list[str] = []
        self.storage = Storage.memory()
        self.known = Known(seed)
        self.level = "strict"
        self.store: Store | None = None
        self.hands: list[Hand] = []
        self.open(survives=0)

    def run(self, steps: int) -> None:
        """So many steps, then a last close.

        Raises:
            LostError: the store does not keep what it promised. Any error that nothing explains.
        """
        for _ in range(steps):
            chance = self.draw.random()
            if chance < 0.5:
                self.write()
            elif chance < 0.6:
                self.compare()
            elif chance < 0.68:
                self.snapshot()
            elif chance < 0.76:
                self.close()
            elif chance < 0.84:
                self.kill()
            elif chance < 0.92:
                self.lose_power()
            elif chance < 0.97:
                self.fault()
            else:
                self.rot()
        self.close()

    def log(self, *what: object) -> None:
        """Remember what is about to be done."""
        self.trace.append(" ".join(map(str, what)))

    # --- opening ------------------------------------------------------------------------------------------------------

    def make(self, storage: Storage, level: str, *, read_only: bool = False) -> Store:
        """A store on this disk."""
        self.made += 1
        chance = hashlib.blake2b(f"{self.seed}/{self.made}".encode(), digest_size=32).digest()
        driven = Driven(self.clock_ns, chance) if self.driven else None
        return Store(
            SCHEMA, storage=storage, durability=level, segment_bytes=SEGMENT_BYTES, read_only=read_only, driven=driven
        )

    def clock_ns(self) -> int:
        """A millisecond later whenever somebody looks."""
        self.now_ns += 1_000_000
        return self.now_ns

    def open(self, *, survives: int) -> None:
        """Open the disk; what was acknowledged at level `survives` or above must be there."""
        self.level = self.draw.choice(LEVELS)
        self.log("open", self.level)
        self.store = self.make(self.storage, self.level)
        found = look(self.store)
        self.known.check(found, self.store.recovery, survives=survives)
        if found.version == 0:
            self.touch()
        prepare(self.store, WORKERS)
        self.get_hands()

    def get_hands(self) -> None:
        """Workers that go on from what the store shows."""
        assert self.store is not None
        found = look(self.store)
        wait_s = None if self.driven else WAIT_S
        self.hands = [
            Hand(self.store, self.seed, self.level, worker, found, self.acknowledge, self.draw, wait_s)
            for worker in range(WORKERS)
        ]

    def touch(self) -> None:
        """Something is about to be committed: from here on this run counts."""
        self.known.floor = LEVELS.index(self.level)

    def acknowledge(self, worker: int, level: int, number: int, version: int) -> None:
        """The store said so."""
        assert self.store is not None
        if level >= 2 and self.store.durable_version < version:
            raise LostError(
                f"version {version} was answered as {LEVELS[level]}, {self.store.durable_version} is durable"
            )
        self.known.acks.append((worker, level, number, version))
        for table, made, key in self.hands[worker].minted.pop(number, ()):
            self.known.minted.append((version, table, key, worker, made))

    def leave(self, storage: Storage) -> None:
        """Let the store go, as something has happened that left this of its disk."""
        assert self.store is not None
        with suppress(DataFailedError, DiskFullError):
            self.store.close()
        self.storage.close()
        self.storage, self.store, self.hands = storage, None, []

    # --- steps --------------------------------------------------------------------------------------------------------

    def write(self) -> None:
        """Some transactions, by one of the ways."""
        for _ in range(self.draw.randrange(1, 8)):
            self.write_once()

    def write_once(self) -> None:
        hand = self.draw.choice(self.hands)
        self.touch()
        way = self.draw.choice(("call", "tickets", "queued", "tick", "sync"))
        self.log(way, hand.worker, hand.expected.done)
        if way == "call":
            hand.call()
        elif way == "tickets":
            hand.tickets()
        elif way == "queued":
            hand.queued()
        elif way == "tick":
            self.tick()
        else:
            assert self.store is not None
            self.store.sync()
            if self.store.durable_version < self.store.version:
                raise LostError(f"version {self.store.version} was synced, {self.store.durable_version} is durable")

    def tick(self) -> None:
        """A tick with a transaction of each, then all of it on the disk."""
        assert self.store is not None
        done = []
        with self.store.tick(Tick(self.store.current_tick + 1)) as tick:
            try:
                for hand in self.hands:
                    with tick.transaction("tick") as tx:
                        done.append((hand, hand.fill(tx)))
            finally:
                version = tick.publish()
        self.store.sync()
        for hand, number in done:
            hand.acknowledged(LEVELS.index("strict"), number, version)

    def compare(self) -> None:
        """What is shown is whole, and durable where the store shows nothing else."""
        assert self.store is not None
        found = look(self.store)
        self.log("compare", found.version)
        self.known.check_state(found)
        if any(version > found.version for *_, version in self.known.acks):
            raise LostError(f"version {found.version} is shown, and a later one was acknowledged")
        if self.level in ("strict", "paranoid") and self.store.durable_version < found.version:
            raise LostError(f"version {found.version} is shown, {self.store.durable_version} is durable")

    def work(self) -> None:
        """Some rounds of what a store's thread does, where it has none."""
        assert self.store is not None
        assert self.driven
        for _ in range(self.draw.randrange(1, 5)):
            self.log("work")
            self.store.work()

    def snapshot(self) -> None:
        """A snapshot; what it makes needless of the log goes."""
        assert self.store is not None
        self.log("snapshot")
        self.store.snapshot()

    def close(self) -> None:
        """After a close nothing is lost, whatever its level."""
        assert self.store is not None
        self.log("close")
        self.store.close()
        self.store = None
        # Closed cleanly: nobody need fear for what was seen.
        self.known.floor = 3
        if self.draw.random() < 0.5:
            self.log("lose power, closed")
            image = self.storage.crash(self.draw.randrange(1 << 30))
            self.storage.close()
            self.storage = image
        self.open(survives=0)

    def kill(self) -> None:
        """The process dies: what was written stays."""
        self.log("kill")
        self.leave(self.storage.kill())
        self.open(survives=1)

    def lose_power(self) -> None:
        """The power fails: what was not synced stays, or not, or in pieces. At times it fails again while opening."""
        self.log("lose power")
        self.leave(self.storage.crash(self.draw.randrange(1 << 30)))
        while self.draw.random() < 0.3:
            self.log("and again")
            store = self.make(self.storage, self.draw.choice(LEVELS))
            image = self.storage.crash(self.draw.randrange(1 << 30))
            self.store = store
            self.leave(image)
        self.open(survives=2)

    def fault(self) -> None:
        """An operation of the disk goes wrong, while transactions are handed in."""
        assert self.store is not None
        nth, kind = self.draw.randrange(1, FAULT_WITHIN), self.draw.choice(FAULTS)
        self.log("fault", nth, kind)
        self.storage.fail(nth, kind)
        for _ in range(30):
            try:
                if self.driven and self.draw.random() < 0.2:
                    self.work()
                elif self.draw.random() < 0.2:
                    self.snapshot()
                else:
                    self.write_once()
            except DiskFullError:
                # Refused, and nothing changed: the store goes on.
                self.log("full")
                self.get_hands()
            except DataFailedError:
                self.log("failed")
                self.failed(kind)
                return
            except DataError:
                # A snapshot that could not be written; the log is well.
                self.log("no snapshot")
        # It may not have come to it, and is not to come later; or a snapshot had it.
        self.leave(self.storage.crash(self.draw.randrange(1 << 30)))
        self.open(survives=2)

    def failed(self, kind: str) -> None:
        """From now on the store is read-only, and what it shows is whole."""
        assert self.store is not None
        shown = look(self.store)
        self.known.check_state(shown)
        for hand in self.hands:
            before = look(self.store)
            try:
                self.store["note"].insert(worker=hand.worker, made=1)
            except DataFailedError:
                pass
            else:
                raise LostError("a store whose disk failed has taken a transaction")
            if look(self.store) != before:
                raise LostError("a store whose disk failed shows what it refused")
        # The system may show processes what a failed sync has lost; opening is not to believe it.
        died = self.draw.random() < 0.5
        self.leave(self.storage.kill() if died else self.storage.crash(self.draw.randrange(1 << 30)))
        # What a failed sync lost was never acknowledged at a level that it was for, by whichever way it ends.
        self.open(survives=2)

    # --- rot ----------------------------------------------------------------------------------------------------------

    def rot(self) -> None:
        """Write, close, then damage one file after the other: it is told, or does no harm; never is it another state.

        Only a run that wrote and ended cleanly leaves a HORIZON that tells of all that there is.
        """
        assert self.store is not None
        self.log("rot")
        self.touch()
        self.hands[0].call()
        self.store.close()
        self.store = None
        clean = self.storage.kill()
        expected = self.looked(clean)
        clean.close()
        files = self.storage.files()
        names = sorted(name for name in files if files[name] and name != "LOCK")
        for _ in range(ROTS):
            image = self.storage.kill()
            what = self.damage(image, files, names)
            self.log(what)
            self.judge(image, expected, what)
            image.close()
        self.known.floor = 3
        self.open(survives=0)

    def damage(self, image: Storage, files: dict[str, bytes], names: list[str]) -> str:
        """Damage one file of an image. Returns how."""
        name, how = self.draw.choice(names), self.draw.choice(("flip", "flip", "flip", "zero", "cut", "swap"))
        data = bytearray(files[name])
        # Most of a file is room that nobody has used yet; the beginning is where most is to be harmed.
        place = self.draw.randrange(len(data) if self.draw.random() < 0.5 else min(len(data), 16384))
        if how == "flip":
            data[place] ^= 1 << self.draw.randrange(8)
        elif how == "zero":
            place -= place % 512
            data[place : place + 512] = bytes(len(data[place : place + 512]))
        elif how == "cut":
            del data[place:]
        else:
            other = self.draw.choice(names)
            image.put(other, files[name])
            data = bytearray(files[other])
            place = 0
            how += f" with {other}"
        image.put(name, bytes(data))
        return f"{how} {name} at {place}"

    def judge(self, image: Storage, expected: Found, what: str) -> None:
        """A damaged image opens as what it was, or with an error and unchanged; read-only it shows a beginning."""
        before = image.files()
        try:
            found = self.looked(image)
        except (DataError, SchemaMismatchError) as error:
            self.log("  told:", type(error).__name__, error)
            after = image.files()
            changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
            if set(changed) - {"LOCK"}:
                raise LostError(f"{what}: refused, and changed {sorted(changed)}") from error
        else:
            if found != expected:
                raise LostError(f"{what}: version {found.version} is shown instead of {expected.version}, in silence")
            return
        with suppress(DataError, SchemaMismatchError):
            found = self.looked(image, read_only=True)
            self.log("  read-only:", found.version)
            if found.version > expected.version:
                raise LostError(f"{what}: read-only it shows {found.version}, and there were {expected.version}")
            Known(self.seed, acks=list(self.known.acks)).check_state(found)

    def looked(self, image: Storage, *, read_only: bool = False) -> Found:
        """What a store on this image shows. It is left as a process that dies leaves it."""
        store = self.make(image, "memory", read_only=read_only)
        try:
            return look(store)
        finally:
            store.close()


def play(seed: int, *, steps: int = STEPS) -> str | None:
    """One history. Returns what went wrong, with its last steps."""
    history = None
    try:
        history = DiskHistory(seed)
        history.run(steps)
        assert history.store is not None
        history.store.close()
        history.storage.close()
    except Exception as error:  # noqa: BLE001 (whatever it is, it is told)
        last = "\n    ".join(history.trace[-14:]) if history is not None else ""
        where = "".join(traceback.format_tb(error.__traceback__)[-3:]) if not isinstance(error, LostError) else ""
        return f"seed {seed}: {type(error).__name__}: {error}\n    {last}\n{where}"
    return None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=100, help="how many histories (default 100)")
    parser.add_argument("--seconds", type=float, default=None, help="begin no history after so many seconds")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of each history (default {STEPS})")
    parser.add_argument("--failures", type=int, default=FAILURES_MAX, help=f"end after so many ({FAILURES_MAX})")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    given = parser.parse_args(arguments)
    began, histories, failed = time.monotonic(), 0, 0
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        if failed >= given.failures or (given.seconds is not None and time.monotonic() - began > given.seconds):
            break
        histories += 1
        why = play(seed, steps=given.steps)
        if why is not None:
            failed += 1
            print(f"FAILED {why}", file=sys.stderr, flush=True)
            print(
                f"    replay: python sims/disk.py --first-seed {seed} --seeds 1 --steps {given.steps}", file=sys.stderr
            )
    summary = {"first_seed": given.first_seed, "seeds": histories, "failed": failed}
    if given.json:
        print(json.dumps(summary))
    else:
        print(f"{histories} histories from seed {given.first_seed}: {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
