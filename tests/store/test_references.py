"""Foreign keys to tables with keys of their own, uniqueness of several fields together, and rows by their values."""

from collections.abc import Iterator

import numpy as np
import pytest

from ecsnet.errors import ArgumentError, ConstraintError, NoRowError
from ecsnet.schema import loads
from ecsnet.store import Store

TOML = """
[database]
name = "village"
version = "1.0.0"

[tables.clan]
primary_key = "id"
fields = [{ name = "id", type = "u32" }]

[tables.member]
primary_key = "id"
unique = [["clan", "seat"]]
fields = [{ name = "id", type = "u32", auto_increment = true },
          { name = "clan", type = "u32", foreign_key = "clan.id", optional = true, on_delete = "restrict" },
          { name = "seat", type = "i16", default = 0 },
          { name = "mentor", type = "u32", foreign_key = "member.id", optional = true, on_delete = "cascade" }]

[tables.badge]
primary_key = "code"
fields = [{ name = "code", type = "bytes[20]" },
          { name = "next", type = "bytes[20]", foreign_key = "badge.code", optional = true, on_delete = "set_null" }]

[tables.wears]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "badge", type = "bytes[20]", foreign_key = "badge.code", on_delete = "cascade" }]
"""


@pytest.fixture
def store() -> Iterator[Store]:
    with Store(loads(TOML)) as store:
        yield store


def rows(store: Store, table: str) -> int:
    with store.view() as view:
        return len(view.query(table).key)


def test_a_target_may_come_after_who_refers_to_it(store: Store) -> None:
    with store.transaction() as tx:
        tx.insert("member", {"clan": 7})
        tx.insert("clan", {"id": 7})

    assert rows(store, "member") == 1


def test_a_reference_to_no_row_is_refused_at_commit_with_its_name(store: Store) -> None:
    with (
        pytest.raises(
            ConstraintError, match=r"member\.clan.*a value that a row of clan has, or null, found 7"
        ) as caught,
        store.transaction() as tx,
    ):
        member = tx.insert("member", {"clan": 7})

    assert (caught.value.table, caught.value.key, caught.value.rule) == ("member", member, "foreign_key")
    assert rows(store, "member") == 0


def test_a_key_that_others_may_refer_to_is_not_null(store: Store) -> None:
    with pytest.raises(ConstraintError) as caught, store.transaction() as tx:
        tx.insert("clan", {"id": 0})

    assert caught.value.rule == "reference"


def test_restrict_holds_a_target_until_nobody_refers_to_it(store: Store) -> None:
    with store.transaction() as tx:
        clan = tx.insert("clan", {"id": 7})
        member = tx.insert("member", {"clan": 7})

    with pytest.raises(ConstraintError, match="no reference to clan row 7, which is deleted") as caught:
        store.transaction().delete(clan, "clan").commit()
    assert (caught.value.rule, caught.value.key) == ("restrict", member)

    store.transaction().delete(clan, "clan").delete(member, "member").commit()
    assert rows(store, "clan") == 0


def test_a_key_that_is_deleted_and_inserted_again_was_never_missing(store: Store) -> None:
    with store.transaction() as tx:
        clan = tx.insert("clan", {"id": 7})
        tx.insert("member", {"clan": 7})

    with store.transaction() as tx:
        tx.delete(clan, "clan")
        tx.insert("clan", {"id": 7})

    assert rows(store, "clan") == 1


def test_a_key_changes_only_if_those_who_refer_to_it_follow(store: Store) -> None:
    with store.transaction() as tx:
        clan = tx.insert("clan", {"id": 7})
        member = tx.insert("member", {"clan": 7})

    with pytest.raises(ConstraintError) as caught:
        store.transaction().update(clan, "clan", id=8).commit()
    assert caught.value.key == member

    store.transaction().update(clan, "clan", id=8).update(member, "member", clan=8).commit()
    with store.view() as view:
        assert view[member, "member.clan"] == 8


def test_a_value_too_wide_for_a_word_is_a_reference_like_any_other(store: Store) -> None:
    first, second = b"a" * 20, b"a" * 19 + b"b"
    with store.transaction() as tx:
        one = tx.insert("badge", {"code": first, "next": second})
        tx.insert("badge", {"code": second, "next": first})
        ship = tx.spawn(wears={"badge": first})
        other = tx.spawn(wears={"badge": second})

    store.transaction().delete(one, "badge").commit()

    with store.view() as view:
        (badge,) = view.query("badge")
        assert badge.code.tobytes() == second
        assert badge.next.tobytes() == bytes(20)
        assert view.query("wears").entity.tolist() == [int(other)]
        assert ship in view


def test_a_ring_of_cascades_ends(store: Store) -> None:
    with store.transaction() as tx:
        ring = tx.insert_many(
            "member", {"id": np.arange(1, 6), "mentor": np.array([5, 1, 2, 3, 4]), "seat": np.arange(5)}
        )

    store.transaction().delete(int(ring[2]), "member").commit()

    assert rows(store, "member") == 0


def test_a_long_chain_of_cascades_ends(store: Store) -> None:
    """Recursion would have met the end of the stack long before."""
    n = 300_000
    with store.transaction() as tx:
        chain = tx.insert_many("member", {"id": np.arange(1, n + 1), "mentor": np.arange(n)})

    tx = store.transaction()
    tx.delete(int(chain[0]), "member")
    assert len(tx.query("member").key) == 0
    tx.rollback()
    assert rows(store, "member") == n


def test_several_fields_are_unique_together_where_none_is_null(store: Store) -> None:
    with store.transaction() as tx:
        tx.insert("clan", {"id": 7})
        first = tx.insert("member", {"clan": 7, "seat": -1})
        tx.insert("member", {"clan": 7, "seat": 2})
        tx.insert_many("member", {"seat": np.array([-1, -1])})

    with (
        pytest.raises(
            ConstraintError, match=rf"member\.clan, seat.*values that row {first:#x} does not have together"
        ) as caught,
        store.transaction() as tx,
    ):
        second = tx.insert("member", {"clan": 7, "seat": -1})
    assert (caught.value.field, caught.value.rule, caught.value.key) == ("clan, seat", "unique", second)

    with store.transaction() as tx:
        # Between the two there are twins; a transaction is judged as a whole.
        third = tx.insert("member", {"clan": 7, "seat": -1})
        tx.update(first, "member", seat=3)
    assert third


def test_a_field_that_is_unique_with_others_is_lent_read_only(store: Store) -> None:
    with store.transaction() as tx:
        tx.insert("member", {"seat": 4})
        (member,) = tx.query("member")
        assert not member.seat.flags.writeable
        with pytest.raises(ArgumentError):
            member.seat = 5


def test_a_transaction_finds_its_own_rows_by_a_unique_value(store: Store) -> None:
    with store.transaction() as tx:
        clan = tx.insert("clan", {"id": 7})
        badge = tx.insert("badge", {"code": b"gold"})
        assert tx.key("clan.id", 7) == clan
        assert tx.find("badge.code", b"gold") == badge
        tx.update(clan, "clan", id=8)
        assert tx.find("clan.id", 7) is None
        assert tx.key("clan.id", 8) == clan
        assert tx.find("clan.id", 1 << 40) is None
        tx.delete(clan, "clan")
        with pytest.raises(NoRowError):
            tx.key("clan.id", 8)
