"""Is a history of transactions strictly serializable? Elle's method, for lists that are only ever appended to.

Each value is appended once, so a list that was read tells who wrote before, and in which order: from what transactions
read follows which must come before which, and a circle among them is what no order of one after the other could have
done. On top of that it is known when each began and ended (`began`, `ended`, numbers that only grow: one that ended
before another began comes before it), and which version the store said that it belongs to.

    ww   it appended the value before the other's       wr   the other read what it appended
    rw   it read the list without the other's value     rt   it had ended when the other began

What is reported, the worst first: `duplicate append`, `made up`, `aborted read` (G1a), `intermediate read` (G1b),
`not itself`, `incompatible order`, `lost append`, `lost update`, `wrong version`, and the circles: `G0` of ww alone,
`G1c` of ww and wr, `G-single` with one rw (read skew), `G2` with more (write skew); `G0-realtime` and so on where it
takes rt to close them.

Invariants:
- a transaction whose outcome is unknown may have happened or not: it has where somebody saw it, and else it is not
  held against the store;
- what a refused transaction read counts too: one consistent state, though it left nothing behind.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, NamedTuple

Outcome = Literal["committed", "refused", "unknown"]
Kind = Literal["ww", "wr", "rw", "rt"]

NEVER = 1 << 62
"""When a transaction ended that nobody heard of again."""
TRIED_MAX = 200
"""Edges of a knot from which a short circle is looked for: a large knot has thousands, and one circle is enough."""


class Append(NamedTuple):
    """A value at the end of a list. No value is appended twice to one list."""

    list: int
    value: int


class Read(NamedTuple):
    """All of a list."""

    list: int
    seen: tuple[int, ...]


@dataclass(slots=True)
class Transaction:
    """What one transaction did, in order, and what became of it. One that only reads a view is one, too.

    `version` is the version that contains what it wrote; of one that wrote nothing, the version that it read, which is
    known exactly (`exact`) of a view.
    """

    who: str
    steps: list[Append | Read]
    began: int
    ended: int = NEVER
    outcome: Outcome = "unknown"
    version: int | None = None
    exact: bool = False

    def __str__(self) -> str:
        return f"<{self.who} {self.outcome} at {self.version}, {self.began}-{self.ended if self.ended < NEVER else ''}>"


class Anomaly(NamedTuple):
    """Something that no serial order of transactions could have done."""

    name: str
    why: str


@dataclass(slots=True)
class _Facts:
    """What is drawn from the steps: `writers` by list and value; `outside`, what each transaction read of each list
    that it had not appended itself; `orders`, the longest that was read of each list."""

    writers: dict[tuple[int, int], int] = field(default_factory=dict)
    last: set[tuple[int, int]] = field(default_factory=set)
    outside: list[dict[int, tuple[int, ...]]] = field(default_factory=list)
    orders: dict[int, tuple[int, ...]] = field(default_factory=dict)


def check(history: Sequence[Transaction]) -> list[Anomaly]:
    """Everything that is wrong with a history, the worst first; empty if it is strictly serializable."""
    found: list[Anomaly] = []
    facts = _Facts()
    _collect(history, facts, found)
    _check_reads(history, facts, found)
    _check_orders(history, facts, found)
    _check_losses(history, facts, found)
    _check_versions(history, facts, found)
    if not found:
        # Circles are drawn from orders that must be right themselves.
        found += _cycles(history, facts)
    return list(dict.fromkeys(found))


# --- one transaction by itself ----------------------------------------------------------------------------------------


def _collect(history: Sequence[Transaction], facts: _Facts, found: list[Anomaly]) -> None:
    for number, transaction in enumerate(history):
        latest: dict[int, tuple[int, int]] = {}
        for step in transaction.steps:
            if isinstance(step, Append):
                if tuple(step) in facts.writers:
                    found.append(Anomaly("duplicate append", f"{step} twice, again by {transaction}"))
                facts.writers[tuple(step)] = number
                latest[step.list] = tuple(step)
        facts.last.update(latest.values())
        facts.outside.append(_outside(transaction, found))


def _outside(transaction: Transaction, found: list[Anomaly]) -> dict[int, tuple[int, ...]]:
    """What it found of each list, without what it appended itself. Its reads must agree with each other."""
    outside: dict[int, tuple[int, ...]] = {}
    own: dict[int, tuple[int, ...]] = {}
    for step in transaction.steps:
        mine = own.get(step.list, ())
        if isinstance(step, Append):
            own[step.list] = (*mine, step.value)
            continue
        before = step.seen[: len(step.seen) - len(mine)]
        if step.seen[len(before) :] != mine or outside.setdefault(step.list, before) != before:
            expected = (*outside.get(step.list, ("...",)), *mine)
            found.append(Anomaly("not itself", f"{transaction} read {step}, after it knew {expected}"))
    return outside


# --- what was read ----------------------------------------------------------------------------------------------------


def _check_reads(history: Sequence[Transaction], facts: _Facts, found: list[Anomaly]) -> None:
    for number, outside in enumerate(facts.outside):
        for name, seen in outside.items():
            if len(set(seen)) != len(seen):
                found.append(
                    Anomaly("duplicate append", f"{history[number]} read list {name} with a value twice: {seen}")
                )
            for value in seen:
                writer = facts.writers.get((name, value))
                if writer is None:
                    found.append(Anomaly("made up", f"{history[number]} read {value} in list {name}: nobody wrote it"))
                elif history[writer].outcome == "refused":
                    why = f"{history[number]} read {value} in list {name}, of {history[writer]}"
                    found.append(Anomaly("aborted read", why))
            if seen and (name, seen[-1]) in facts.writers and (name, seen[-1]) not in facts.last:
                why = f"{history[number]} read list {name} up to {seen[-1]}, after which its writer goes on"
                found.append(Anomaly("intermediate read", why))


def _check_orders(history: Sequence[Transaction], facts: _Facts, found: list[Anomaly]) -> None:
    """Of every list, all that was ever read of it is a beginning of the longest."""
    seen: list[tuple[int, tuple[int, ...], Transaction]] = []
    for number, transaction in enumerate(history):
        for name, outside in facts.outside[number].items():
            seen.append((name, outside, transaction))
        if transaction.outcome == "committed":
            seen += [(step.list, step.seen, transaction) for step in transaction.steps if isinstance(step, Read)]
    for name, values, _ in seen:
        if len(values) > len(facts.orders.get(name, ())):
            facts.orders[name] = values
    for name, values, transaction in seen:
        longest = facts.orders.get(name, ())
        if values != longest[: len(values)]:
            at = next(place for place, value in enumerate(values) if value != longest[place])
            why = (
                f"{transaction} read list {name} as {values[at:][:8]} from place {at} on, others as {longest[at:][:8]}"
            )
            found.append(Anomaly("incompatible order", why))


def _check_losses(history: Sequence[Transaction], facts: _Facts, found: list[Anomaly]) -> None:
    """No committed value is missing from a list that was read later, and no two appended to what both had read."""
    latest: dict[int, Transaction] = {}
    heirs: dict[tuple[int, int], int] = {}
    for number, transaction in enumerate(history):
        for name in facts.outside[number]:
            if name not in latest or latest[name].began < transaction.began:
                latest[name] = transaction
        if transaction.outcome != "committed":
            continue
        appended = {step.list for step in transaction.steps if isinstance(step, Append)}
        for name in appended & facts.outside[number].keys():
            read = len(facts.outside[number][name])
            other = heirs.setdefault((name, read), number)
            if other != number:
                why = f"{history[other]} and {transaction} both appended to list {name} as it was with {read} values"
                found.append(Anomaly("lost update", why))
    places = {name: set(order) for name, order in facts.orders.items()}
    for (name, value), number in facts.writers.items():
        writer, reader = history[number], latest.get(name)
        missing = writer.outcome == "committed" and value not in places.get(name, ())
        if missing and reader is not None and writer.ended < reader.began:
            found.append(Anomaly("lost append", f"{value} of {writer} is not in list {name} that {reader} read"))


def _check_versions(history: Sequence[Transaction], facts: _Facts, found: list[Anomaly]) -> None:
    """The number of a version says what is in it: nobody reads what is in a later one, and who read a version (`exact`)
    misses nothing of it."""
    for number, transaction in enumerate(history):
        if transaction.version is None or transaction.outcome != "committed":
            continue
        for name, seen in facts.outside[number].items():
            rest = facts.orders.get(name, ())[len(seen) :]
            for value in seen:
                of = _version(history, facts, name, value)
                if of is not None and of > transaction.version:
                    found.append(
                        Anomaly("wrong version", f"{transaction} read {value} of list {name}, of version {of}")
                    )
            for value in rest[:1]:
                of = _version(history, facts, name, value)
                if of is not None and (of <= transaction.version if transaction.exact else of < transaction.version):
                    why = f"{transaction} did not read {value} of list {name}, of version {of}"
                    if facts.writers[name, value] != number:
                        found.append(Anomaly("wrong version", why))


def _version(history: Sequence[Transaction], facts: _Facts, name: int, value: int) -> int | None:
    writer = facts.writers.get((name, value))
    return None if writer is None else history[writer].version


# --- who comes before whom --------------------------------------------------------------------------------------------

_Graph = dict[int, dict[int, Kind]]


def _cycles(history: Sequence[Transaction], facts: _Facts) -> list[Anomaly]:
    """The circles, one of each knot, named by the fewest kinds of edges that close it."""
    edges = [*_data_edges(history, facts), *_time_edges(history)]
    stages: tuple[tuple[str, frozenset[str]], ...] = (
        ("G0", frozenset({"ww"})),
        ("G1c", frozenset({"ww", "wr"})),
        ("", frozenset({"ww", "wr", "rw"})),
        ("G0-realtime", frozenset({"ww", "rt"})),
        ("G1c-realtime", frozenset({"ww", "wr", "rt"})),
        ("-realtime", frozenset({"ww", "wr", "rw", "rt"})),
    )
    for name, kinds in stages:
        graph: _Graph = {}
        for a, b, kind in edges:
            if kind in kinds and a != b:
                # One of each pair is enough; the first is the strongest.
                graph.setdefault(a, {}).setdefault(b, kind)
        knots = _knots(graph)
        if knots:
            return [_named(name, _circle(graph, knot), graph, history) for knot in knots]
    return []


def _named(name: str, circle: list[int], graph: _Graph, history: Sequence[Transaction]) -> Anomaly:
    kinds = [graph[a][b] for a, b in zip(circle, circle[1:] + circle[:1], strict=True)]
    if not name or name.startswith("-"):
        name = ("G-single" if kinds.count("rw") == 1 else "G2") + name
    why = " ".join(f"{history[number]} -{kind}->" for number, kind in zip(circle, kinds, strict=True))
    return Anomaly(name, f"{why} {history[circle[0]]}")


def _data_edges(history: Sequence[Transaction], facts: _Facts) -> Iterable[tuple[int, int, Kind]]:
    unseen: dict[int, list[int]] = {}
    for (name, value), number in facts.writers.items():
        order = facts.orders.get(name, ())
        if history[number].outcome == "committed" and value not in order:
            unseen.setdefault(name, []).append(number)
    for name, order in facts.orders.items():
        for before, after in pairwise(order):
            yield facts.writers[name, before], facts.writers[name, after], "ww"
    for number, outside in enumerate(facts.outside):
        for name, seen in outside.items():
            if seen:
                yield facts.writers[name, seen[-1]], number, "wr"
    for number, outside in enumerate(facts.outside):
        for name, seen in outside.items():
            order = facts.orders.get(name, ())
            if len(seen) < len(order):
                yield number, facts.writers[name, order[len(seen)]], "rw"
            else:
                # Nobody has read them yet, so they come after all that was read.
                yield from ((number, writer, "rw") for writer in unseen.get(name, ()))


def _time_edges(history: Sequence[Transaction]) -> Iterable[tuple[int, int, Kind]]:
    """Only those that no others imply: from whoever had ended, and nobody began after, when one begins."""
    moments = [(transaction.began, 1, number) for number, transaction in enumerate(history)]
    moments += [(one.ended, 0, number) for number, one in enumerate(history) if one.ended < NEVER]
    moments.sort()
    ended: set[int] = set()
    before: dict[int, frozenset[int]] = {}
    for _, begins, number in moments:
        if begins:
            before[number] = frozenset(ended)
            yield from ((other, number, "rt") for other in before[number])
        else:
            ended -= before.pop(number)
            ended.add(number)


def _knots(graph: _Graph) -> list[list[int]]:
    """Strongly connected components of more than one, by Tarjan, without recursion."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on: set[int] = set()
    knots: list[list[int]] = []
    for root in graph:
        if root in index:
            continue
        work = [(root, iter(graph.get(root, ())))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on.add(root)
        while work:
            node, rest = work[-1]
            for after in rest:
                if after not in index:
                    index[after] = low[after] = len(index)
                    stack.append(after)
                    on.add(after)
                    work.append((after, iter(graph.get(after, ()))))
                    break
                if after in on:
                    low[node] = min(low[node], index[after])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    knot = [stack.pop()]
                    while knot[-1] != node:
                        knot.append(stack.pop())
                    on.difference_update(knot)
                    if len(knot) > 1:
                        knots.append(knot)
    return knots


def _circle(graph: _Graph, knot: list[int]) -> list[int]:
    """A circle in a knot: with one rw and no more where there is such, and a short one."""
    inside = set(knot)
    edges = [(a, b, kind) for a in knot for b, kind in graph[a].items() if b in inside]
    for single in (True, False):
        best: list[int] = []
        tried = 0
        for a, b, kind in edges:
            if single and kind != "rw":
                continue
            way = _way(graph, inside, b, a, without="rw" if single else "")
            if way and (not best or len(way) < len(best)):
                best = way
            tried += 1
            if best and (len(best) == 2 or tried > TRIED_MAX):
                break
        if best:
            return best
    raise AssertionError("a knot without a circle")


def _way(graph: _Graph, inside: set[int], start: int, goal: int, *, without: str) -> list[int]:
    """A shortest way, both ends included; empty if there is none."""
    came: dict[int, int] = {start: start}
    waiting = deque([start])
    while waiting:
        node = waiting.popleft()
        if node == goal:
            way = [goal]
            while way[-1] != start:
                way.append(came[way[-1]])
            return way[::-1]
        for after, kind in graph.get(node, {}).items():
            if after in inside and after not in came and kind != without:
                came[after] = node
                waiting.append(after)
    return []
