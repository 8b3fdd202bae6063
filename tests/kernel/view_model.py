"""Views, as `kernel/zig/view.zig` does them, with columns that versions share: every way it can go, in small.

A writer publishes versions, each of which changes some of the columns: a slot of its own, a buffer for each column that
changed, and the buffers of the version before for the others. Readers pin, read the slot and all columns, and let go.
The slot and each buffer are ordinary memory. A pin and what is read under it are one step: what is ordered by
happens-before does not depend on when the reading is done in between.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

from tests.kernel.weak_memory import (
    Atomic,
    Caught,
    Cell,
    Clock,
    explore,
    joined,
    loads,
    modify,
    releases,
    replaced,
    seen_by,
    ticked,
    written,
)

WRITER: Final = 0
SLOTS: Final = 3
BUFFERS: Final = 3
CHANGES: Final = ((0,), (1,), (0, 1), (0,))
"""Which columns each version changes."""


@dataclass(frozen=True)
class Orders:
    """The orders of `view.zig`, and what else a mutant may do wrong."""

    acquire: str = "acquire"
    release: str = "release"
    publish: str = "release"
    reclaim: str = "acquire"
    pins_looked_at: bool = True
    shared_buffers_looked_at: bool = True
    pin_in_one: bool = True


@dataclass(frozen=True)
class State:
    root: Atomic
    released: tuple[Atomic, ...]
    seen: tuple[int, ...]
    slots: tuple[Cell, ...]
    buffers: tuple[tuple[Cell, ...], ...]
    clocks: tuple[Clock, ...]
    # The writer's own: how many versions it made, where it is in looking for free slots, what it knows of each slot.
    version: int
    looked: int
    state: tuple[str, ...]
    acquired: tuple[int, ...]
    holds: tuple[tuple[int, ...], ...]
    # Readers: what they do next, which slot they hold, how often they have read, the newest version they saw.
    readers: tuple[tuple[str, int, int, int], ...]


def expected(column: int, version: int) -> int:
    """The value of a column in a version: the newest that changed it."""
    return max([0] + [made for made in range(1, version + 1) if column in CHANGES[made - 1]])


def views_hold(orders: Orders, versions: int, readers: int, reads: int, states_max: int = 2_000_000) -> int:
    """Try everything. Returns how many states there are.

    Raises:
        Caught: a reader and the writer race, a reader sees parts of two versions, or goes back in time.
    """
    threads = readers + 1
    zero = (0,) * threads
    fresh: Cell = (0, (WRITER, 1), zero)
    # All of this was written before the readers began.
    clocks = tuple(tuple(int(place in (thread, WRITER)) for place in range(threads)) for thread in range(threads))
    nothing: Atomic = ((0, zero, True),)
    start = State(
        root=(((0, 0), zero, True),),
        released=(nothing,) * SLOTS,
        seen=(0,) * SLOTS,
        slots=replaced((fresh,) * SLOTS, 0, ((0, (0, 0)), (WRITER, 1), zero)),
        buffers=((fresh,) * BUFFERS,) * 2,
        clocks=clocks,
        version=0,
        looked=0,
        state=("current", *("free",) * (SLOTS - 1)),
        acquired=(0,) * SLOTS,
        holds=((0, 0),) + ((-1, -1),) * (SLOTS - 1),
        readers=(("pin", -1, 0, 0),) * readers,
    )

    def step(now: State) -> list[State]:
        following = writer_steps(orders, now, versions)
        for reader in range(readers):
            following += reader_steps(orders, now, reader, reads)
        return following

    return explore(start, step, lambda _: None, states_max)


def writer_steps(orders: Orders, now: State, versions: int) -> list[State]:
    if now.version == versions:
        return []
    if now.looked < SLOTS:
        return look(orders, now)
    free = [slot for slot in range(SLOTS) if now.state[slot] == "free"]
    if not free:
        # Put off: in the kernel a later publication tries again. Here it is the end of this way.
        return []
    return publish(orders, now, free[-1])


def look(orders: Orders, now: State) -> list[State]:
    """Is the next retired slot anybody's still?"""
    slot = now.looked
    onward = replace(now, looked=slot + 1)
    if now.state[slot] != "retired":
        return [onward]
    found = []
    clock = now.clocks[WRITER]
    for place, count, after in loads(now.released[slot], now.seen[slot], clock, orders.reclaim):
        free = count == now.acquired[slot] or not orders.pins_looked_at
        found.append(
            replace(
                onward,
                seen=replaced(now.seen, slot, place),
                clocks=replaced(now.clocks, WRITER, after),
                state=replaced(now.state, slot, "free") if free else now.state,
                holds=replaced(now.holds, slot, (-1, -1)) if free else now.holds,
            )
        )
    return found


def publish(orders: Orders, now: State, slot: int) -> list[State]:
    clock = now.clocks[WRITER]
    version = now.version + 1
    (current, _), _, _ = now.root[-1]
    held = list(now.holds[current])
    buffers = now.buffers
    for column in CHANGES[now.version]:
        readable = range(SLOTS) if orders.shared_buffers_looked_at else (current,)
        taken = {now.holds[other][column] for other in readable}
        spare = [buffer for buffer in range(BUFFERS) if buffer not in taken]
        if not spare:
            return []
        buffer = spare[-1]
        cell = written(buffers[column][buffer], clock, WRITER, version, f"a buffer of column {column}")
        buffers = replaced(buffers, column, replaced(buffers[column], buffer, cell))
        held[column] = buffer
    cell = written(now.slots[slot], clock, WRITER, (version, tuple(held)), "a slot")
    (before, count), _, _ = now.root[-1]
    root, _, after = modify(now.root, clock, WRITER, orders.publish, (slot, 0))
    return [
        replace(
            now,
            root=root[-1:],  # only read-modify-writes look at it, and those see the newest
            slots=replaced(now.slots, slot, cell),
            buffers=buffers,
            clocks=replaced(now.clocks, WRITER, after),
            version=version,
            looked=0,
            state=replaced(replaced(now.state, before, "retired"), slot, "current"),
            acquired=replaced(now.acquired, before, now.acquired[before] + count),
            holds=replaced(now.holds, slot, tuple(held)),
        )
    ]


def reader_steps(orders: Orders, now: State, reader: int, reads: int) -> list[State]:
    thread = reader + 1
    doing, slot, done, newest = now.readers[reader]
    clock = now.clocks[thread]
    if doing == "pin" and done < reads:
        (slot, count), _, _ = now.root[-1]
        if not orders.pin_in_one:
            # Which slot is asked first, and the pin put to it afterwards.
            seen = joined(clock, now.root[-1][1])
            return [with_reader(now, reader, seen, ("pin late", slot, done, newest))]
        root, after, _ = modify(now.root, clock, thread, orders.acquire, (slot, count + 1))
        return read(replace(now, root=root[-1:]), reader, after, slot, done, newest)
    if doing == "pin late":
        (current, count), released, total = now.root[-1]
        pinned = replace(now, root=(((current, count + 1), released, total),))
        return read(pinned, reader, clock, slot, done, newest)
    if doing == "release":
        released = now.released[slot]
        before, was, total = released[-1]
        after = joined(clock, was) if releases(orders.release) else was
        let_go = replace(now, released=replaced(now.released, slot, (*released, (before + 1, after, total))))
        return [with_reader(let_go, reader, ticked(clock, thread), ("pin", -1, done, newest))]
    return []


def read(now: State, reader: int, clock: Clock, slot: int, done: int, newest: int) -> list[State]:
    thread = reader + 1
    cell = seen_by(now.slots[slot], clock, thread, "a slot")
    version, held = cell[0]
    if version < newest:
        raise Caught("a reader goes back in time")
    buffers = now.buffers
    for column, buffer in enumerate(held):
        of = seen_by(buffers[column][buffer], clock, thread, f"a buffer of column {column}")
        if of[0] != expected(column, version):
            raise Caught(f"version {version} shows column {column} of version {of[0]}")
        buffers = replaced(buffers, column, replaced(buffers[column], buffer, of))
    shown = replace(now, slots=replaced(now.slots, slot, cell), buffers=buffers)
    return [with_reader(shown, reader, clock, ("release", slot, done + 1, version))]


def with_reader(now: State, reader: int, clock: Clock, value: Any) -> State:
    return replace(now, clocks=replaced(now.clocks, reader + 1, clock), readers=replaced(now.readers, reader, value))
