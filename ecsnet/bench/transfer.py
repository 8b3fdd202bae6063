"""Transfers between accounts: read two rows, check that one can pay, write two. Strict: answered when on the disk.

- `handed_in_as_arrays`: `queue_each`, `BATCH` transfers at a time, from two producers that await a ticket for each.
  What is checked is the schema's `minimum = 0`, by the kernel, for each transfer by itself.
- `transactions_in_ticks`: a Python function for each transfer, which reads, checks and writes in a transaction of its
  own, `BATCH` of them in a tick, which is one version.
- `commands_in_ticks`: the same as commands of 100 players, through the whole node but for the sockets: bytes in, a
  command each, bytes out with the answers, when they are durable. Only the node's side is timed.

SQLite does `BATCH` transfers in a transaction, statement by statement, and so with one sync for all of them.
"""

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final

import numpy as np

from ecsnet.authority import Authority, Link
from ecsnet.bench.disk import bench_folder
from ecsnet.bench.figures import Figure
from ecsnet.bench.goals import GOALS
from ecsnet.bench.peers_disk import SqliteDisk
from ecsnet.bench.timing import together
from ecsnet.errors import InternalError, Reject
from ecsnet.ids import Entity, Tick
from ecsnet.limits import COMMANDS_PER_S_MAX, MESSAGE_TO_CLIENT_BYTES_MAX, MESSAGE_TO_NODE_BYTES_MAX, NS_PER_S
from ecsnet.replica import Replica
from ecsnet.schema import Schema, loads
from ecsnet.store import Store, Transaction
from ecsnet.store.tickets import EachTicket
from ecsnet.wire.framing import FrameReader
from ecsnet.world import Client, World

__all__ = ["BATCH", "METRICS", "N_DEFAULT", "RUNS_DEFAULT", "run"]

N_DEFAULT: Final = 10_000
RUNS_DEFAULT: Final = 5
BATCH: Final = 1000
METRICS: Final = ("handed_in_as_arrays", "transactions_in_ticks", "commands_in_ticks")
_PRODUCERS: Final = 2
_PLAYERS: Final = 100


def _schema() -> Schema:
    return loads(
        """
        [database]
        name = "bank"
        version = "1.0.0"
        [tables.account]
        parent_table = "entities"
        replicated = false
        fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
                  { name = "coins", type = "i64", default = 1000000, minimum = 0 }]
        """
    )


def _opened(folder: Path, n: int) -> tuple[Store, Any]:
    store = Store(_schema(), data=folder, durability="strict")
    with store.transaction() as tx:
        return store, tx.spawn_many(n, account={})


def _as_arrays(store: Store, keys: Any, batches: int) -> float:
    """Transfers a second of all producers together."""

    def produce(number: int) -> None:
        random = np.random.default_rng(number)
        under_way: deque[EachTicket] = deque()
        for _ in range(batches):
            payers, payees = random.choice(keys, BATCH), random.choice(keys, BATCH)
            amounts = random.integers(1, 100, BATCH)
            each = store.queue_each("transfers").add(payers, "account", coins=-amounts)
            under_way.append(each.add(payees, "account", coins=amounts).commit())
            if len(under_way) > 1:
                under_way.popleft().wait()
        for ticket in under_way:
            ticket.wait()

    return batches * BATCH * _PRODUCERS / together(_PRODUCERS, produce)


def transfer(tx: Transaction, payer: Entity, payee: Entity, amount: int) -> None:
    """Read two, check, write two."""
    has, other = tx[payer, "account.coins"], tx[payee, "account.coins"]
    if has < amount:
        raise Reject("not enough coins")
    tx.update(payer, "account", coins=has - amount)
    tx.update(payee, "account", coins=other + amount)


def _in_ticks(store: Store, keys: list[int], ticks: int) -> float:
    some = [(keys[i % len(keys)], keys[(i * 7919 + 1) % len(keys)]) for i in range(BATCH)]
    started = perf_counter()
    for _ in range(ticks):
        with store.tick(Tick(store.current_tick + 1)) as scope:
            for payer, payee in some:
                with scope.transaction("transfer") as tx:
                    transfer(tx, Entity(payer), Entity(payee), 1)
            scope.publish()
        store.sync()
    return ticks * BATCH / (perf_counter() - started)


class _Node:
    """An authority over a durable store, and its players: all in this process, in virtual time."""

    def __init__(self, store: Store, keys: list[int]) -> None:
        self._keys = keys
        world = World(store.schema, hz=1)
        world.command(self._pay)
        self.store = store
        self.authority = Authority(world, store)
        self.now_ns = NS_PER_S
        self.node_s = 0.0
        self.replicas = [Replica(world, name=f"player {number}") for number in range(_PLAYERS)]
        self.links = [self.authority.open_link(self.now_ns) for _ in self.replicas]
        self.readers = [
            (FrameReader(MESSAGE_TO_NODE_BYTES_MAX), FrameReader(MESSAGE_TO_CLIENT_BYTES_MAX)) for _ in self.replicas
        ]
        for replica in self.replicas:
            replica.connect(self.now_ns)
        while not all(replica.state == "live" for replica in self.replicas):
            self.step()

    @staticmethod
    def _pay(tx: Transaction, client: Client, payer: Entity, payee: Entity, amount: int) -> None:
        transfer(tx, payer, payee, amount)

    def step(self) -> None:
        """A tick: a second of virtual time, so that every player may send a second's worth of commands."""
        arrived: list[tuple[Link, bytes]] = []
        for link, replica in zip(self.links, self.replicas, strict=True):
            arrived.append((link, b"".join(replica.frames_to_send(self.now_ns))))
        started = perf_counter()
        for (link, data), (reader, _) in zip(arrived, self.readers, strict=True):
            reader.feed(data)
            while (frame := reader.next_frame()) is not None:
                self.authority.receive_frame(link, frame.kind, frame.payload, self.now_ns)
        self.authority.tick(self.now_ns)
        self.store.sync()
        sent: list[bytes] = []
        for link in self.links:
            out = bytearray()
            while (transmit := self.authority.next_transmit(link, self.now_ns)) is not None:
                for part in transmit.parts:
                    out += part
                self.authority.record_sent(link, transmit, self.now_ns)
            sent.append(bytes(out))
        self.node_s += perf_counter() - started
        for data, replica, (_, reader) in zip(sent, self.replicas, self.readers, strict=True):
            reader.feed(data)
            while (frame := reader.next_frame()) is not None:
                replica.receive_frame(frame.kind, frame.payload, self.now_ns)
        self.now_ns += NS_PER_S

    def commands(self, each: int) -> float:
        """Commands a second that the node takes, runs, makes durable and answers."""
        keys = self._keys
        tickets = [
            replica.send(
                "_pay", payer=keys[(number * each + i) % len(keys)], payee=keys[(i * 7919) % len(keys)], amount=1
            )
            for number, replica in enumerate(self.replicas)
            for i in range(each)
        ]
        self.node_s = 0.0
        while not all(ticket.status != "pending" for ticket in tickets):
            self.step()
        refused = [ticket for ticket in tickets if ticket.status != "accepted"]
        if refused:
            raise InternalError(f"{len(refused)} of {len(tickets)} transfers were not done: {refused[0]}")
        return len(tickets) / self.node_s


def run(
    where: Path | None = None,
    *,
    n: int = N_DEFAULT,
    runs: int = RUNS_DEFAULT,
    batches: int = 50,
    progress: Callable[[str], None] = lambda text: None,
) -> Iterator[Figure]:
    """The figures, each as soon as it is measured.

    Args:
        where: a folder on the disk to be measured; the working directory by default.
        n: accounts.
        runs: of each, of which the median counts.
        batches: of each producer in a run; ticks are a tenth of them.

    Raises:
        ArgumentError: a folder that is none, or is in memory.
    """
    goals = GOALS["transfer"]
    with bench_folder(where) as folder:
        sqlite = SqliteDisk(folder, n)
        random = np.random.default_rng(1)
        store, keys = _opened(folder / "ecsnet", n)
        listed: list[int] = keys.tolist()
        node = _Node(store, listed)
        works: dict[str, Callable[[], float]] = {
            "handed_in_as_arrays": lambda: _as_arrays(store, keys, batches),
            "transactions_in_ticks": lambda: _in_ticks(store, listed, max(1, batches // 10)),
            "commands_in_ticks": lambda: node.commands(min(COMMANDS_PER_S_MAX, max(1, batches))),
        }
        theirs: list[float] = []
        for _ in range(runs + 1):
            pairs = random.integers(0, n, (BATCH, 2)).tolist()
            theirs.append(BATCH / sqlite.transfers([(payer, payee, 1) for payer, payee in pairs]))
        for metric, work in works.items():
            progress(metric)
            value = median([work() for _ in range(runs + 1)][1:])
            yield Figure("transfer", metric, n, value, "1/s", "higher", "SQLite", median(theirs[1:]), goals.get(metric))
        sqlite.close()
        node.authority.close()
        store.close()
