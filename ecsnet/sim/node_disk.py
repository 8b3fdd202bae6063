"""The disk of a simulated node: a storage in memory that outlives the node's process, and may lose power or fail.

    node ── writes ──► storage ── killed ──────► all that was written          another node opens it
                               └─ power lost ──► what was synced, and of the    and goes on
                                                 rest whatever the seed says

A round of disk work comes when the seed says so, now right after a tick and now a tick late, so that a crash finds
versions that are made and not written, and ones that are written and not synced.

What a crash must leave: of a store that answers when its versions are written, all that was answered, unless power is
lost, or the disk has failed to sync. That takes what was not durable, as a loss of power does: the system drops what it
could not sync, and the next opening reads what the disk has. From then on nobody must be answered, and whatever the
crash, what the store itself calls safe from it must be left.

Invariants:
- what a store may rely on is what `ecsnet._kernel.disk.Storage` promises of a loss of power, and no more;
- a version that somebody was answered with, or in a strict store saw, is noted: the next opening must have it.
"""

import hashlib
from dataclasses import dataclass, field
from random import Random
from typing import Final

from ecsnet._kernel.disk import Storage
from ecsnet.errors import DataFailedError
from ecsnet.store import Store
from ecsnet.store.levels import LEVELS, RELAXED, STRICT, level_of
from ecsnet.store.opening import Driven
from ecsnet.world import World

__all__ = ["DURABILITIES", "Asked", "NodeDisk"]

DURABILITIES: Final = LEVELS

_SEGMENT_BYTES: Final = 64 * 1024
"""The least there is: a run of some seconds has many."""

_SNAPSHOT_EVERY_BYTES: Final = 256 * 1024

_WORK_BEFORE: Final = 0.7
_WORK_AFTER: Final = 0.5
"""How often there is a round of work before a tick of a store that shows versions at once, and after one."""


@dataclass(slots=True)
class Asked:
    """What must be there after a crash, as far as it was promised."""

    told: int = 0
    """The newest version that a player was answered with."""
    seen: int = 0
    """The newest version that a player held."""
    answered: dict[int, int] = field(default_factory=dict)
    """By session, the newest command that its player was answered, 0 where it was let in and none was; of sessions that
    have not left."""


class NodeDisk:
    """See the file.

    Args:
        durability: of every store that is opened on it.
        seed: decides what a loss of power leaves, and when there is work.
    """

    def __init__(self, durability: str, seed: str) -> None:
        self.durability = durability
        self.level = level_of(durability)
        self.asked = Asked()
        self.digests: dict[int, str] = {}
        """Of every version that was shown, in the history that there is now."""
        self.now_ns = 0
        self.lossy = False
        """The last crash was one that the durability does not survive."""
        self._certain = 0
        """The newest version that even that one must have left."""
        self._written = 0
        """The newest version that was written before the last round of work."""
        self._sync_failed = False
        """The last crash was of a node whose disk had failed to sync."""
        self._seed = seed
        self._random = Random(f"{seed}/disk")
        self._opened = 0
        self._storage = Storage.memory()

    def open(self, world: World, now_ns: int) -> Store:
        """The store that is on it, or a new one."""
        self.now_ns = now_ns
        self._opened += 1
        seed = hashlib.blake2b(f"{self._seed}/disk/{self._opened}".encode(), digest_size=32).digest()
        return Store(
            world.schema,
            storage=self._storage,
            durability=self.durability,
            segment_bytes=_SEGMENT_BYTES,
            snapshot_every_bytes=_SNAPSHOT_EVERY_BYTES,
            driven=Driven(lambda: self.now_ns, seed),
        )

    def works_before_tick(self) -> bool:
        """Whether there is a round of work now. What is held is shown before the next tick, or event rows of two
        versions would be seen in one."""
        return self.level >= STRICT or self._random.random() < _WORK_BEFORE

    def works_after_tick(self) -> bool:
        """Likewise."""
        return self._random.random() < _WORK_AFTER

    def fail(self, kind: str) -> None:
        """One of the next operations goes wrong."""
        self._storage.fail(self._random.randint(1, 12), kind)

    def work(self, store: Store) -> None:
        """A round of what the store's own thread does otherwise."""
        assert store.disk is not None
        if store.disk.failure is None:
            self._written = store.written_version
        store.work()

    def crash(self, store: Store, *, power: bool) -> None:
        """The node's process is gone, or the power of its machine."""
        assert store.disk is not None
        failure, disk = store.disk.failure, store.disk.disk
        self._sync_failed = isinstance(failure, DataFailedError) and failure.cause.startswith("syncing wal")
        unsynced_goes = power or self._sync_failed
        self._certain = disk.durable if unsynced_goes else disk.written
        store.abandon()
        before = self._storage
        self._storage = before.crash(self._random.getrandbits(63)) if power else before.kill()
        before.close()
        self.lossy = self.level < (STRICT if unsynced_goes else RELAXED)

    def differences(self, store: Store, epoch_before: int) -> list[tuple[str, str]]:
        """What an opening after a crash has otherwise than it must: (checker, what)."""
        asked, version = self.asked, store.version
        found = []
        with store.view() as view:
            digest = view.digest()
            rows = view["sessions"].to_dict()
        expected = self.digests.get(version)
        if expected is not None and digest != expected:
            found.append(("recovered", f"version {version} has digest {digest}; it had {expected}"))
        if asked.seen > version and store.epoch == epoch_before:
            found.append(("epoch", f"version {asked.seen} was seen, {version} is left, and the epoch is the same"))
        if self._certain > version:
            found.append(("durable", f"version {self._certain} was safe from this crash, and {version} is left"))
        promised = self.level >= RELAXED and self._sync_failed
        if promised and asked.told > max(self._certain, self._written):
            found.append(("durable", f"version {asked.told} was answered with when its sync had failed"))
        if not self.lossy:
            if asked.told > version:
                found.append(("durable", f"version {asked.told} was answered with, and {version} is left"))
            if asked.seen > version and self.level >= STRICT:
                found.append(("durable", f"version {asked.seen} was seen, and {version} is left"))
            known = dict(zip(map(int, rows["session"]), map(int, rows["last_command"]), strict=True))
            for session, sequence in asked.answered.items():
                if session not in known:
                    found.append(("durable", f"session {session:#x} was let in, and is gone"))
                elif known[session] < sequence:
                    found.append(
                        (
                            "durable",
                            f"command {sequence} of session {session:#x} was answered; {known[session]} is left",
                        )
                    )
        return found

    def recovered(self, version: int) -> None:
        """The history goes on from here."""
        self.digests = {one: digest for one, digest in self.digests.items() if one <= version}
        self.asked = Asked(min(self.asked.told, version), min(self.asked.seen, version), self.asked.answered)
        if self.lossy:
            self.asked.answered.clear()

    def close(self) -> None:
        """Give its memory back; after the store."""
        self._storage.close()
