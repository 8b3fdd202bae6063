"""Many transactions handed in at once: each is kept or refused by itself; and adding to what nobody has read."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecsnet.errors import ArgumentError, ClosedError, ConstraintError, LimitExceededError, StaleEntityError
from ecsnet.ids import Tick
from ecsnet.schema import loads
from ecsnet.store import Store

BANK = loads(
    """
    [database]
    name = "bank"
    version = "1.0.0"
    [tables.account]
    parent_table = "entities"
    fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
              { name = "coins", type = "u16", default = 100, maximum = 1000 },
              { name = "debt", type = "i8", default = 0 },
              { name = "rate", type = "f32", default = 0.5, minimum = 0.0 },
              { name = "kind", type = "enum", values = { PLAYER = 1, SHOP = 2 }, default = "PLAYER" },
              { name = "codes", type = "[u8; 2]", default = [0, 0] }]
    """
)


@pytest.fixture
def store() -> Iterator[Store]:
    with Store(BANK) as made:
        yield made


def accounts(store: Store, n: int) -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
    with store.transaction() as tx:
        return tx.spawn_many(n, account={})


def coins(store: Store) -> list[int]:
    with store.view() as view:
        values: list[int] = view["account.coins"].tolist()
        return values


# --- adding -----------------------------------------------------------------------------------------------------------


def test_what_is_added_counts_from_what_is_there_when_it_is_committed(store: Store) -> None:
    """Nobody has to read first, so nobody can have read something old."""
    (key,) = accounts(store, 1).tolist()
    with store.tick(Tick(1)) as scope:
        tickets = [store.queue().add(key, "account", coins=5, rate=0.25).commit() for _ in range(3)]
        with scope.transaction("system") as tx:
            tx.update(key, "account", coins=10)
        scope.publish()

    assert all(ticket.state == "committed" for ticket in tickets)
    with store.view() as view:
        assert (view[key, "account.coins"], view[key, "account.rate"]) == (25, 1.25)


def test_a_key_that_is_named_twice_is_added_to_twice(store: Store) -> None:
    keys = accounts(store, 2)

    store.queue().add_many([keys[0], keys[1], keys[0]], "account", coins=[1, 2, 3]).commit().wait()

    assert coins(store) == [104, 102]


@pytest.mark.parametrize(
    ("amounts", "found"),
    [
        ({"coins": -101}, -1),
        ({"coins": 901}, 1001),
        ({"debt": 200}, 200),
        ({"debt": -129}, -129),
        ({"rate": -1.0}, -0.5),
    ],
)
def test_a_sum_that_a_rule_or_its_type_forbids_refuses_the_transaction(
    store: Store, amounts: dict[str, float], found: float
) -> None:
    """Below zero of an unsigned field, too: it says so instead of wrapping around."""
    first, second = accounts(store, 2).tolist()

    ticket = store.queue().add(first, "account", coins=1).add(second, "account", **amounts).commit()

    assert isinstance(ticket.error, ConstraintError)
    assert (ticket.error.rule, ticket.error.found, ticket.error.key) == ("range", found, second)
    assert coins(store) == [100, 100], "all or nothing"


@pytest.mark.parametrize(
    "amounts",
    [
        {"coins": 1.5},
        {"rate": float("inf")},
        {"rate": "x"},
        {"kind": 1},
        {"codes": 1},
        {"coins": 2**63},
        {},
        {"entity_id": 1},
    ],
)
def test_what_is_no_number_or_no_amount_is_refused_where_it_is_written(
    store: Store, amounts: dict[str, object]
) -> None:
    (key,) = accounts(store, 1).tolist()
    queued = store.queue()

    with pytest.raises(ArgumentError):
        queued.add(key, "account", **amounts)

    assert queued.add(key, "account", coins=1).commit().state == "committed", "nothing was written down of it"


# --- each -------------------------------------------------------------------------------------------------------------


def test_each_transaction_is_kept_or_refused_by_itself(store: Store) -> None:
    keys = accounts(store, 4)
    amounts = np.array([60, 60, 100, 500])

    transfers = store.queue_each("transfers")
    transfers.add(keys[[0, 0, 1, 2]], "account", coins=-amounts).add(keys[[1, 1, 2, 3]], "account", coins=amounts)
    ticket = transfers.commit()

    assert ticket.wait() == store.version
    assert ticket.count == 4 and sorted(ticket.refused) == [1, 3]
    assert all(isinstance(error, ConstraintError) for error in ticket.refused.values())
    assert coins(store) == [40, 60, 200, 100], "the second and the fourth could not pay, and nobody was paid by them"


def test_all_of_them_are_one_version(store: Store) -> None:
    keys = accounts(store, 50)
    before = store.version

    store.queue_each().update(keys, "account", coins=np.arange(50)).commit().wait()

    assert store.version == before + 1
    assert coins(store) == list(range(50))


def test_rows_can_be_removed_and_a_stale_one_refuses_only_its_own(store: Store) -> None:
    keys = accounts(store, 3)
    with store.transaction() as tx:
        tx.despawn(keys[1])

    ticket = store.queue_each().add(keys, "account", coins=1).delete(keys, "entities").commit()

    assert list(ticket.refused) == [1] and isinstance(ticket.refused[1], StaleEntityError)
    assert coins(store) == []


def test_arrays_of_another_length_are_refused(store: Store) -> None:
    keys = accounts(store, 3)
    each = store.queue_each().add(keys, "account", coins=1)

    with pytest.raises(ArgumentError, match="3 transactions"):
        each.add(keys[:2], "account", coins=1)

    each.commit()
    assert coins(store) == [101] * 3


def test_none_at_all_is_committed_at_once_and_nothing_is_handed_in_twice(store: Store) -> None:
    each = store.queue_each()
    ticket = each.commit()

    assert ticket.state == "committed" and ticket.count == 0
    with pytest.raises(ClosedError):
        each.commit()


def test_too_many_bytes_are_refused_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = accounts(store, 100)
    monkeypatch.setattr("ecsnet.store.producers.QUEUE_BYTES_MAX", 1000)
    from ecsnet._kernel import queue

    queue.limit(store.kernel, 10, 1000)
    with pytest.raises(LimitExceededError):
        store.queue_each().add(keys, "account", coins=1).commit()
    assert coins(store) == [100] * 100


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(-400, 400)), max_size=30))
def test_transfers_come_to_what_doing_them_one_by_one_comes_to(transfers: list[tuple[int, int, int]]) -> None:
    model = [100] * 5
    refused = []
    for number, (payer, payee, amount) in enumerate(transfers):
        after = list(model)
        after[payer] -= amount
        ok = 0 <= after[payer] <= 1000
        after[payee] += amount
        if ok and 0 <= after[payee] <= 1000:
            model = after
        else:
            refused.append(number)

    with Store(BANK) as store:
        keys = accounts(store, 5)
        each = store.queue_each()
        if transfers:
            payers, payees, amounts = (np.array(column) for column in zip(*transfers, strict=True))
            each.add(keys[payers], "account", coins=-amounts).add(keys[payees], "account", coins=amounts)
        ticket = each.commit()

        assert sorted(ticket.refused) == refused
        assert coins(store) == model
