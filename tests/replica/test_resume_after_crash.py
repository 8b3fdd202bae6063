"""Clients come back to a node that was killed, or whose machine lost power: from what they hold where that is still so,
and never to a world that the node does not have; each command has its effect once, as far as its durability says.
"""

import random
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from ecsnet.node.client_base import BaseClient
from ecsnet.replica import EpochChanged, Replica
from ecsnet.sim.node_disk import NodeDisk
from ecsnet.store import Store
from ecsnet.store.levels import STRICT, level_of
from ecsnet.world import World
from tests.arena import arena
from tests.helpers import Pair


class Life:
    """A pair whose node has a disk, and crashes."""

    def __init__(self, durability: str, seed: int) -> None:
        self.world: World = arena(moving=False)
        self.disk = NodeDisk(durability, f"crash/{seed}")
        self.random = random.Random(seed)
        self.store: Store = self.disk.open(self.world, 0)
        self.pair = Pair(self.world, reconnects=True, store=self.store)
        self.seed = seed

    def __enter__(self) -> "Life":
        return self

    def __exit__(self, *failure: object) -> None:
        self.pair.close()
        self.store.abandon()
        self.disk.close()

    @property
    def replica(self) -> Replica:
        return self.pair.replica

    def work(self) -> None:
        """A round of the disk's own, and what it lets the node tell."""
        self.disk.now_ns = self.pair.now_ns
        self.store.work()
        self.pair.authority.handle_durable()

    def step(self, steps: int = 1, *, works: bool = True) -> None:
        for _ in range(steps):
            self.pair.step()
            if works:
                self.work()

    def crash(self, *, power: bool) -> None:
        """The node is gone; another opens what is left."""
        for wire in self.pair.wires:
            wire.lose(self.pair.now_ns)
        self.pair.authority.close()
        self.disk.crash(self.store, power=power)
        self.store = self.disk.open(self.world, self.pair.now_ns)
        self.pair._store = self.store
        self.seed += 1
        self.pair.authority = self.pair._authority(self.seed, True)

    def come_back(self) -> None:
        self.pair.reconnect()
        for _ in range(60):
            self.step()
            if self.replica.state == "live":
                break
        self.step(6)
        assert self.replica.state == "live"
        assert len(self.pair.digests()) == 1

    def hp(self) -> int:
        with self.store.view() as view:
            return int(view[self.replica.entity, "health.hp"])


@pytest.mark.parametrize("durability", ["relaxed", "strict", "paranoid"])
def test_a_node_that_is_killed_goes_on_with_what_its_clients_missed(durability: str) -> None:
    """What they hold was written before the end, so it is of the history that goes on, whatever its epoch is called."""
    with Life(durability, 1) as life:
        life.pair.run_until(lambda: (life.work(), life.replica.state == "live")[1])
        tickets = [life.replica.send("hit", target=life.replica.entity) for _ in range(3)]
        life.step(6)
        assert [ticket.status for ticket in tickets] == ["accepted"] * 3
        for _ in range(3):
            life.crash(power=False)
            late = life.replica
            life.come_back()
            assert late.statistics().full_syncs_applied == 1, "and that was the join"
            tickets.append(life.replica.send("hit", target=life.replica.entity))
            life.step(6)
            assert tickets[-1].status == "accepted"
        assert life.hp() == 100 - 10 * len(tickets)
        assert life.replica.statistics().resumed_in_place == 3
        changed = [event for event in iter(life.replica.next_event, None) if isinstance(event, EpochChanged)]
        assert len(changed) == (0 if level_of(durability) >= STRICT else 3)


def test_a_client_that_goes_on_in_another_epoch_says_so_before_its_next_version() -> None:
    """What it shows stays as it is, and is of the history that has another name now."""
    with Life("relaxed", 1) as life:
        life.pair.run_until(lambda: (life.work(), life.replica.state == "live")[1])
        life.step(3)
        client = BaseClient(SimpleNamespace(replica=life.replica, lock=nullcontext()))  # type: ignore[arg-type]  # no line
        client._swap()
        before, version = client.epoch, life.replica.version

        life.crash(power=False)
        life.pair.reconnect()
        while not (told := [event for event in client._swap() if isinstance(event, EpochChanged)]):
            life.step()

        assert (client.state, life.replica.version) == ("live", version), "no version has come since"
        assert [(event.old, event.new) for event in told] == [(before, client.epoch)]
        client._let_go()


@pytest.mark.parametrize("durability", ["memory", "relaxed", "strict"])
@pytest.mark.parametrize("seed", range(6))
def test_after_any_crash_a_client_holds_what_the_node_has_and_commands_ran_once(durability: str, seed: int) -> None:
    """Versions that were seen and are gone again are no base, though the node makes others of their numbers."""
    with Life(durability, seed) as life:
        life.pair.run_until(lambda: (life.work(), life.replica.state == "live")[1])
        life.step(3)
        told = 0
        for turn in range(5):
            sent: list[Any] = []
            for _ in range(life.random.randrange(1, 5)):
                sent.append(life.replica.send("hit", target=life.replica.entity))
                life.step(works=life.random.random() < 0.5)
            before = life.replica.version
            life.crash(power=turn % 2 == 0)
            lost = before > life.store.version
            full = life.replica.statistics().full_syncs_applied
            session = life.replica.session
            life.come_back()
            if life.replica.session != session:
                return  # the node forgot all of it, as one in memory may
            if lost:
                assert life.replica.statistics().full_syncs_applied == full + 1
            for ticket in sent:
                assert ticket.status == "accepted" or ticket.reason, ticket
            told += len(sent)
            assert life.hp() >= 100 - 10 * told, "nothing ran twice"
            if level_of(durability) >= STRICT:
                assert life.hp() == max(0, 100 - 10 * told)
