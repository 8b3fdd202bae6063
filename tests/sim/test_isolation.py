"""The checker of isolation sees every anomaly there is a name for, and none where there is none; the store has none."""

import json
import random
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from ecsnet.store import Transaction as StoreTransaction
from ecsnet.store.store import TickScope
from sims import isolation
from sims.isolation_checks import NEVER, Append, Read, Transaction, check

_UNTIMED = 1 << 40


def done(*steps: Append | Read, at: tuple[int, int] | None = None, version: int | None = None) -> Transaction:
    """A committed one. Without times it overlaps all others, so only what it read says when it was."""
    began, ended = at or (0, _UNTIMED)
    return Transaction("t", list(steps), began, ended, "committed", version)


def refused(*steps: Append | Read) -> Transaction:
    return Transaction("t", list(steps), 0, _UNTIMED, "refused")


def names(history: Iterable[Transaction]) -> list[str]:
    return [anomaly.name for anomaly in check(list(history))]


# --- one anomaly each -------------------------------------------------------------------------------------------------


def test_transactions_one_after_the_other_are_fine() -> None:
    history = [
        done(Read(1, ()), Append(1, 10), Read(1, (10,)), at=(0, 1), version=1),
        done(Read(1, (10,)), Append(1, 11), Append(2, 20), at=(2, 3), version=2),
        done(Read(1, (10, 11)), Read(2, (20,)), at=(4, 5), version=2),
    ]

    assert names(history) == []


def test_writes_in_a_circle_are_g0() -> None:
    """Each came before the other, in one of the lists."""
    history = [
        done(Append(1, 10), Append(2, 20)),
        done(Append(1, 11), Append(2, 21)),
        done(Read(1, (10, 11))),
        done(Read(2, (21, 20))),
    ]

    assert names(history) == ["G0"]


def test_what_was_rolled_back_is_read_by_nobody() -> None:
    assert names([refused(Append(1, 10)), done(Read(1, (10,)))]) == ["aborted read"]


def test_what_a_transaction_writes_over_is_read_by_nobody_else() -> None:
    history = [done(Append(1, 10), Append(1, 11)), done(Read(1, (10,))), done(Read(1, (10, 11)))]

    assert names(history) == ["intermediate read"]


def test_information_in_a_circle_is_g1c() -> None:
    history = [done(Append(1, 10), Read(2, (20,))), done(Append(2, 20), Read(1, (10,)))]

    assert names(history) == ["G1c"]


def test_half_of_a_transaction_read_is_g_single() -> None:
    """Read skew: the first list is from before, the second from after."""
    history = [done(Append(1, 10), Append(2, 20)), done(Read(1, ()), Read(2, (20,))), done(Read(1, (10,)))]

    assert names(history) == ["G-single"]


def test_write_skew_is_g2() -> None:
    """Each read the list that the other appends to, as it was before."""
    history = [
        done(Read(1, ()), Append(2, 20)),
        done(Read(2, ()), Append(1, 10)),
        done(Read(1, (10,)), Read(2, (20,))),
    ]

    assert names(history) == ["G2"]


def test_two_that_append_to_the_same_state_lost_an_update() -> None:
    history = [done(Read(1, ()), Append(1, 10)), done(Read(1, ()), Append(1, 11)), done(Read(1, (10, 11)))]

    assert names(history) == ["lost update"]


def test_an_append_that_nobody_finds_again_is_lost() -> None:
    history = [done(Append(1, 10), at=(0, 1)), done(Read(1, ()), at=(2, 3))]

    assert names(history) == ["lost append"]


def test_a_transaction_reads_its_own_writes() -> None:
    assert names([done(Append(1, 10), Read(1, ()))]) == ["not itself"]
    assert names([done(Read(1, ()), Read(1, (10,))), done(Append(1, 10))]) == ["not itself"]


def test_a_value_that_nobody_wrote_is_made_up() -> None:
    assert names([done(Read(1, (10,)))]) == ["made up"]


def test_a_value_is_there_once() -> None:
    assert names([done(Append(1, 10)), done(Read(1, (10, 10)))]) == ["duplicate append"]
    assert names([done(Append(1, 10)), done(Append(1, 10))]) == ["duplicate append"]


def test_two_orders_of_one_list_are_incompatible() -> None:
    history = [done(Append(1, 10)), done(Append(1, 11)), done(Read(1, (10, 11))), done(Read(1, (11, 10)))]

    assert names(history) == ["incompatible order"]


def test_what_has_ended_is_seen_by_who_begins_later() -> None:
    """A stale read is serializable, and not strictly so."""
    stale = [
        done(Append(1, 10), at=(0, 1)),
        done(Append(1, 11), at=(2, 3)),
        done(Read(1, (10,)), at=(4, 5)),
        done(Read(1, (10, 11)), at=(6, 7)),
    ]

    assert names(stale) == ["G-single-realtime"]
    assert names([done(*one.steps) for one in stale]) == []


def test_an_order_against_time_is_g0_realtime() -> None:
    history = [done(Append(1, 10), at=(0, 1)), done(Append(1, 11), at=(2, 3)), done(Read(1, (11, 10)), at=(4, 5))]

    assert names(history) == ["G0-realtime"]


def test_a_version_contains_what_it_says() -> None:
    early = [done(Append(1, 10), version=5), done(Read(1, (10,)), version=4)]
    late = [done(Append(1, 10), version=5), done(Read(1, ()), version=6), done(Read(1, (10,)), version=7)]

    assert names(early) == ["wrong version"]
    assert names(late) == ["wrong version"]


def test_a_view_misses_nothing_of_its_own_version() -> None:
    """A writer of a version may have come before another of the same, a view cannot."""
    history = [done(Append(1, 10), version=5), done(Read(1, ()), version=5), done(Read(1, (10,)), version=5)]
    assert names(history) == []

    history[1].exact = True
    assert names(history) == ["wrong version"]


def test_what_a_refused_transaction_read_is_one_state_too() -> None:
    history = [done(Append(1, 10), Append(2, 20)), refused(Read(1, ()), Read(2, (20,))), done(Read(1, (10,)))]

    assert names(history) == ["G-single"]


def test_an_unknown_outcome_is_held_against_nobody() -> None:
    """It happened where somebody saw it, and else it did not."""
    unknown = Transaction("t", [Append(1, 10), Read(1, (10,))], 0, NEVER)

    assert names([unknown, done(Read(1, ()), at=(9, 10))]) == []
    assert names([unknown, done(Read(1, (10,)), at=(9, 10))]) == []
    assert names([unknown, done(Append(1, 11), at=(1, 2)), done(Read(1, (11,)), at=(9, 10))]) == []


# --- stores that are better or worse ----------------------------------------------------------------------------------


class _Weak:
    """A store of lists in dicts, with many transactions open at once. `level` says what it isolates."""

    def __init__(self, level: str, seed: int) -> None:
        self.level = level
        self.draw = random.Random(seed)
        self.lists: dict[int, tuple[int, ...]] = dict.fromkeys(range(6), ())
        self.history: list[Transaction] = []
        self.time = 0
        self.values = 0

    def now(self) -> int:
        self.time += 1
        return self.time

    def run(self, count: int) -> list[Transaction]:
        open_: list[tuple[Transaction, dict[int, tuple[int, ...]], dict[int, tuple[int, ...]]]] = []
        while len(self.history) < count or open_:
            if len(self.history) < count and (not open_ or (self.level != "serial" and self.draw.random() < 0.3)):
                transaction = Transaction("t", [], self.now())
                self.history.append(transaction)
                open_.append((transaction, dict(self.lists), {}))
            at = self.draw.randrange(len(open_))
            transaction, snapshot, own = open_[at]
            if len(transaction.steps) < 5:
                self.step(transaction, snapshot, own)
            else:
                del open_[at]
                self.end(transaction, snapshot, own)
        # Everything is read once more, by one that nobody disturbs.
        last = Transaction("last", [Read(name, seen) for name, seen in self.lists.items()], self.now())
        last.ended, last.outcome = self.now(), "committed"
        return [*self.history, last]

    def step(
        self, transaction: Transaction, snapshot: dict[int, tuple[int, ...]], own: dict[int, tuple[int, ...]]
    ) -> None:
        name = self.draw.randrange(6)
        source = self.lists if self.level in ("dirty", "committed") else snapshot
        if self.draw.random() < 0.5:
            mine = () if self.level == "dirty" else own.get(name, ())
            transaction.steps.append(Read(name, (*source[name], *mine)))
            return
        self.values += 1
        transaction.steps.append(Append(name, self.values))
        if self.level == "dirty":
            self.lists[name] = (*self.lists[name], self.values)
        else:
            own[name] = (*own.get(name, ()), self.values)

    def end(
        self, transaction: Transaction, snapshot: dict[int, tuple[int, ...]], own: dict[int, tuple[int, ...]]
    ) -> None:
        clash = any(self.lists[name] != snapshot[name] for name in own)
        if self.draw.random() < 0.1 or (self.level == "snapshot" and clash):
            transaction.outcome = "refused"
        else:
            transaction.outcome = "committed"
            for name, values in own.items():
                self.lists[name] = (*self.lists[name], *values)
        transaction.ended = self.now()


@pytest.mark.parametrize("seed", range(10))
def test_a_serial_store_has_no_anomaly(seed: int) -> None:
    assert check(_Weak("serial", seed).run(300)) == []


def test_snapshot_isolation_has_write_skew_and_nothing_worse() -> None:
    found = {anomaly.name for seed in range(10) for anomaly in check(_Weak("snapshot", seed).run(300))}

    assert found == {"G2"}


def test_weaker_stores_are_found_out() -> None:
    committed = {anomaly.name for seed in range(5) for anomaly in check(_Weak("committed", seed).run(100))}
    dirty = {anomaly.name for seed in range(5) for anomaly in check(_Weak("dirty", seed).run(100))}

    assert {"not itself", "lost update"} <= committed
    assert {"aborted read", "intermediate read"} <= dirty


# --- the store --------------------------------------------------------------------------------------------------------


@pytest.fixture
def busy() -> Iterator[None]:
    """Threads that are changed often meet in more places."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("busy")
def test_the_store_is_strictly_serializable() -> None:
    """Some seeds; `sims/isolation.py --seeds 1000` runs more."""
    for seed in range(1, 4):
        transactions, found = isolation.play(seed, steps=100)

        assert found == []
        assert transactions > 500


@pytest.mark.usefixtures("busy")
def test_a_store_that_expects_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StoreTransaction, "expect", lambda tx, *_, **__: tx)

    found = {anomaly.name for seed in range(1, 4) for anomaly in isolation.play(seed, steps=100)[1]}

    assert found & {"lost update", "wrong version", "G-single", "G2"}, found


@pytest.mark.usefixtures("busy")
def test_a_tick_of_which_half_is_shown_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its transactions becomes a version, while the whole is said to be the last of them."""

    def committed(tick: Any, transaction: Any) -> None:
        tick._open = None
        tick._unpublished.append(transaction)
        tick._store.publish(tick._tick)

    monkeypatch.setattr(TickScope, "committed", committed)

    found = {anomaly.name for seed in range(1, 4) for anomaly in isolation.play(seed, steps=100)[1]}

    assert found & {"wrong version", "G-single-realtime"}, found


def test_a_run_says_what_it_did(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert isolation.main(["--seeds", "1", "--steps", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["failed"] == 0

    monkeypatch.setattr(StoreTransaction, "expect", lambda tx, *_, **__: tx)
    assert isolation.main(["--seeds", "4", "--steps", "100"]) == 1
    told = capsys.readouterr()
    assert "FAILED seed " in told.err and "histories of " in told.out
