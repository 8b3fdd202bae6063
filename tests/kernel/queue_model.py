"""The queue of producers and the baton, as `inbox.zig`, `queue.zig` and `store.zig` do them: every way it can go.

Each producer writes an order, puts it, and then looks: while something waits it tries to take the baton, and who has it
takes everything, reads it, writes to the head, gives the baton back and looks again. An order and the head are ordinary
memory. Nothing may be left lying when all have ended, since nobody would come for it.
"""

from dataclasses import dataclass, replace
from typing import Any

from tests.kernel.weak_memory import Atomic, Caught, Cell, Clock, explore, loads, modify, replaced, seen_by, written


@dataclass(frozen=True)
class Orders:
    """The orders of the kernel. A compare-and-swap has one for success and one for failure."""

    put: str = "seq_cst"
    take_all: str = "acquire"
    waits: str = "seq_cst"
    take: str = "seq_cst"
    take_failed: str = "seq_cst"
    give: str = "seq_cst"
    looks_again: bool = True


@dataclass(frozen=True)
class State:
    newest: Atomic  # of each value: the orders that wait, oldest first
    baton: Atomic
    orders: tuple[Cell, ...]
    head: Cell
    clocks: tuple[Clock, ...]
    views: tuple[tuple[int, int], ...]  # how far each thread has seen `newest` and `baton`
    threads: tuple[tuple[str, int], ...]  # what each does next, and how many orders it has put
    taken: tuple[int, ...]  # all orders, as they were run


def queue_holds(orders: Orders, producers: int, each: int, states_max: int = 2_000_000) -> int:
    """Try everything. Returns how many states there are.

    Raises:
        Caught: two threads race, an order is run twice, out of its producer's order, or left lying.
    """
    zero = (0,) * producers
    start = State(
        newest=(((), zero, True),),
        baton=((0, zero, True),),
        orders=((None, (0, 0), zero),) * (producers * each),
        head=(0, (0, 0), zero),
        clocks=tuple(tuple(int(place == thread) for place in range(producers)) for thread in range(producers)),
        views=((0, 0),) * producers,
        threads=(("put", 0),) * producers,
        taken=(),
    )

    def step(now: State) -> list[State]:
        return [one for thread in range(producers) for one in thread_steps(orders, now, thread, each)]

    def ended(now: State) -> None:
        if sorted(now.taken) != list(range(producers * each)):
            raise Caught(f"run: {now.taken}, and somebody has to come for the rest")

    return explore(start, step, ended, states_max)


def thread_steps(orders: Orders, now: State, thread: int, each: int) -> list[State]:
    doing, done = now.threads[thread]
    clock = now.clocks[thread]
    seen_newest, seen_baton = now.views[thread]

    def on(state: State, clock: Clock, doing: str, done: int = done, views: Any = None) -> State:
        return replace(
            state,
            clocks=replaced(state.clocks, thread, clock),
            threads=replaced(state.threads, thread, (doing, done)),
            views=replaced(state.views, thread, views or now.views[thread]),
        )

    if doing == "put" and done < each:
        number = thread * each + done
        order = written(now.orders[number], clock, thread, number, "an order")
        newest, _, after = modify(now.newest, clock, thread, orders.put, (*now.newest[-1][0], number))
        put = replace(now, newest=newest, orders=replaced(now.orders, number, order))
        return [on(put, after, "look", done + 1, (len(newest) - 1, seen_baton))]
    if doing == "look":
        found = []
        for place, value, after in loads(now.newest, seen_newest, clock, orders.waits):
            found.append(on(now, after, "take" if value else "put", done, (place, seen_baton)))
        return found
    if doing == "take":
        found = []
        if now.baton[-1][0] == 0:
            baton, after, _ = modify(now.baton, clock, thread, orders.take, 1)
            found.append(on(replace(now, baton=baton), after, "pump", done, (seen_newest, len(baton) - 1)))
        for place, value, after in loads(now.baton, seen_baton, clock, orders.take_failed):
            if value == 1:
                found.append(on(now, after, "put", done, (seen_newest, place)))
        return found
    if doing == "pump":
        newest, after, _ = modify(now.newest, clock, thread, orders.take_all, ())
        head = written(seen_by(now.head, after, thread, "the head"), after, thread, 0, "the head")
        cells, taken = now.orders, now.taken
        for number in now.newest[-1][0]:
            if number in taken or any(other > number and other // each == number // each for other in taken):
                raise Caught(f"order {number} is run after {taken}")
            cells = replaced(cells, number, seen_by(cells[number], after, thread, "an order"))
            taken = (*taken, number)
        pumped = replace(now, newest=newest, orders=cells, head=head, taken=taken)
        return [on(pumped, after, "give", done, (len(newest) - 1, seen_baton))]
    if doing == "give":
        baton, _, after = modify(now.baton, clock, thread, orders.give, 0)
        onward = "look" if orders.looks_again else "put"
        return [on(replace(now, baton=baton), after, onward, done, (seen_newest, len(baton) - 1))]
    return []
