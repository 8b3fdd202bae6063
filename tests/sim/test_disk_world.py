"""What must be in a store on a disk after something happened to it: what is lost, half there, or back is noticed."""

from dataclasses import replace

import pytest

from ecsnet._kernel.disk import Recovery
from sims.disk_world import Expected, Found, Known, LostError, Operation, whole

SEED = 3


def recovery(version: int) -> Recovery:
    return Recovery(False, bytes(16), 1, False, (), version, 0, 0, version, 0, False, (), 0)


def found(done: int, *, version: int = 0) -> Found:
    """A store in which worker 0 has come so far, a version for each transaction."""
    expected = Expected(SEED, 0)
    expected.advance(done)
    return Found(
        version or done,
        {0: done},
        {0: [(made, 1000 + made, text) for made, text in expected.note.items()]},
        {0: [(made, 2000 + made, x) for made, x in expected.ship.items()]},
    )


def known(*, upto: int, level: int) -> Known:
    return Known(SEED, acks=[(0, level, number, number) for number in range(1, upto + 1)])


def test_a_beginning_with_all_that_was_acknowledged_is_fine() -> None:
    one = known(upto=5, level=2)

    one.check(found(5), recovery(5), survives=1)
    one.check(found(7), recovery(7), survives=1)

    assert (one.version, one.done, one.acks) == (7, {0: 7}, [])


def test_an_acknowledgement_that_is_gone_is_noticed() -> None:
    with pytest.raises(
        LostError, match="transaction 5 of worker 0 was acknowledged as strict in version 5, and is lost"
    ):
        known(upto=5, level=2).check(found(4), recovery(4), survives=2)


def test_what_may_be_lost_may_be_lost() -> None:
    """Another epoch says so to whoever saw it."""
    new = replace(recovery(3), new_epoch=True, epoch=2, ancestors=((1, 3),))

    for level, survives in ((0, 1), (1, 2)):
        some = known(upto=5, level=level)
        some.floor = level
        some.check(found(3), new, survives=survives)

    some = known(upto=5, level=0)
    with pytest.raises(LostError, match="version 5 was seen, 3 is what is left, of the same epoch"):
        some.check(found(3), recovery(3), survives=1)


def test_what_was_seen_after_an_opening_stays() -> None:
    one = known(upto=0, level=0)
    one.check(found(5), recovery(5), survives=1)

    with pytest.raises(LostError, match="version 5 was seen, 4 is what is left"):
        one.check(found(4), recovery(4), survives=2)
    with pytest.raises(LostError, match="5 transactions of worker 0 were seen, 4 left"):
        one.check(found(4, version=6), recovery(6), survives=2)


def test_half_of_a_transaction_is_noticed() -> None:
    half = found(5)
    half.note[0].pop()

    with pytest.raises(LostError, match="worker 0 after 5: note is"):
        known(upto=5, level=2).check(half, recovery(5), survives=2)


def test_a_version_with_more_than_it_had_is_noticed() -> None:
    with pytest.raises(LostError, match="transaction 5 of worker 0 is there: 5 of 4"):
        known(upto=5, level=0).check(found(5, version=4), recovery(4), survives=2)


def test_a_key_that_comes_back_is_noticed() -> None:
    one = known(upto=0, level=0)
    one.keys["note", found(5).note[0][0][1]] = (0, 1)

    with pytest.raises(LostError, match=r"key 0x\w+ of note was of \(0, 1\) and is of"):
        one.check(found(5), recovery(5), survives=2)


def test_an_epoch_begins_only_where_something_may_be_lost() -> None:
    new = replace(recovery(5), new_epoch=True, epoch=2, ancestors=((1, 5),))

    Known(SEED, floor=1).check(found(5), new, survives=2)
    with pytest.raises(LostError, match="a new epoch after a run that was strict"):
        Known(SEED, floor=2).check(found(5), new, survives=2)
    with pytest.raises(LostError, match="the epoch before ended at"):
        Known(SEED, floor=1).check(found(5), replace(new, ancestors=((1, 4),)), survives=2)
    with pytest.raises(LostError, match="epoch 1 was there before"):
        Known(SEED, floor=1).check(found(5), replace(new, epoch=1), survives=2)


def test_another_database_or_a_damaged_one_is_noticed() -> None:
    with pytest.raises(LostError, match="the database was"):
        Known(SEED, database=b"x" * 16).check(found(5), recovery(5), survives=2)
    with pytest.raises(LostError, match="damaged"):
        Known(SEED).check(found(5), replace(recovery(5), read_only=True), survives=2)
    with pytest.raises(LostError, match="takes itself for new"):
        Known(SEED, version=3).check(found(5), replace(recovery(5), created=True), survives=2)
    with pytest.raises(LostError, match="recovered 6, shown is 5"):
        Known(SEED).check(found(5), recovery(6), survives=2)


def test_operations_on_rows_of_the_same_transaction_become_one() -> None:
    insert = Operation("insert", "note", 8, "a")
    other = Operation("update", "ship", 3, 1.0)

    assert whole([insert, Operation("update", "note", 8, "b"), other]) == [insert._replace(value="b"), other]
    assert whole([insert, other, Operation("delete", "note", 8, None)]) == [other]
    assert whole([other, other._replace(value=2.0)]) == [other._replace(value=2.0)]
    assert whole([other, Operation("delete", "ship", 3, None)]) == [Operation("delete", "ship", 3, None)]
