"""The histories of `isolation.py` on a store with a disk in memory, of which the process dies, or the power fails.

Transactions ask for durabilities of their own, so versions that are shown at once follow others that are held until
they are on the disk. In the middle of it all the disk is copied as such an end would leave it, while everybody goes on.
First the whole history must be in order. Then a store is opened on the copy: it is in some version, and what it shows
together with all that was in versions up to that one must be in order, too, with all that had been acknowledged before.
"""

import random
import time
from typing import Any

from ecsnet._kernel.disk import Storage
from ecsnet.store import Store
from ecsnet.store import Transaction as StoreTransaction
from sims.disk_world import LEVELS
from sims.isolation import SCHEMA, WAIT_S, Run
from sims.isolation_checks import Anomaly, Append, Read, Transaction, check

SEGMENT_BYTES = 256 << 10
"""Small, so that most histories have some."""


class DurableRun(Run):
    """A run that knows how durable each transaction was said to be."""

    def __init__(self, store: Store, seed: int, level: int, *, steps: int) -> None:
        super().__init__(store, seed, steps=steps)
        self.level = level
        self.levels: dict[int, int] = {}

    def begin(self, draw: random.Random, noted: Transaction) -> StoreTransaction:
        level = max(self.level, draw.choice((0, 0, 1, 2, 3)))
        self.levels[id(noted)] = level
        return self.store.transaction(wait_s=WAIT_S, durability=LEVELS[level])

    def look(self, view: Any) -> None:
        if self.level >= 2 and self.store.durable_version < view.version:
            self.broken.append(f"version {view.version} is shown, {self.store.durable_version} is durable")

    def settle(self) -> None:
        # A tick waits for no disk: who drives it does, before anybody hears of it.
        self.store.sync()

    def after(self, image: Storage, moment: int, least: int) -> list[Anomaly]:
        """What is wrong with a store on the copy of the disk that was begun at `moment`, which leaves what was
        acknowledged as `least` or more."""
        with Store(SCHEMA, storage=image, durability="memory", segment_bytes=SEGMENT_BYTES) as store:
            version = int(store.version)
            found = [
                Anomaly("lost", f"{one} was answered before the end at {moment}; recovered is {version}")
                for one in self.history
                if self.answered(one, moment, least) and (one.version or 0) > version
            ]
            rest = self.history
            self.history = [rewound(one, version) for one in rest]
            self.read_all(store)
            found += check(self.history)
            self.history = rest
        return found

    def answered(self, one: Transaction, moment: int, least: int) -> bool:
        """Whether it wrote something, and was said to be at least so durable before the moment."""
        writes = any(isinstance(step, Append) for step in one.steps)
        return (
            writes
            and one.outcome == "committed"
            and one.ended < moment
            and self.levels.get(id(one), self.level) >= least
        )


def rewound(one: Transaction, version: int) -> Transaction:
    """A transaction in a history that ended with a version: what came later has not happened, and who saw any of that
    is not asked."""
    if one.outcome == "committed" and one.version is not None and one.version <= version:
        return one
    gone: list[Append | Read] = [step for step in one.steps if isinstance(step, Append)]
    # It may have been in that version even though nobody was told.
    outcome = "unknown" if one.outcome == "committed" and one.version is None else one.outcome
    return Transaction(one.who, gone, one.began, one.ended, "refused" if outcome == "committed" else outcome)


def play(seed: int, *, steps: int) -> tuple[int, list[Anomaly]]:
    """One history. Returns how many transactions it has, and what is wrong with it."""
    draw = random.Random(f"{seed}.disk")
    level, least = draw.randrange(4), draw.choice((1, 2))
    storage = Storage.memory()
    images: list[tuple[Storage, int]] = []
    with Store(SCHEMA, storage=storage, durability=LEVELS[level], segment_bytes=SEGMENT_BYTES) as store:
        run = DurableRun(store, seed, level, steps=steps)
        run.prepare()
        store.sync()

        def die() -> None:
            for _ in range(3):
                time.sleep(draw.random() * 0.15)
                moment = run.now()
                images.append((storage.kill() if least == 1 else storage.crash(draw.randrange(1 << 30)), moment))

        found = run.run(die)
    for image, moment in images:
        found += run.after(image, moment, least)
        image.close()
    storage.close()
    return len(run.history), found
