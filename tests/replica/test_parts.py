"""Parts of deltas: put together by base, version and number, in any order, and by nothing else."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ecsnet.limits import DELTAS_STAGED_MAX
from ecsnet.replica.parts import Parts
from ecsnet.wire.messages import DeltaSync


def part(base: int, version: int, number: int, count: int, block: bytes = b"") -> DeltaSync:
    return DeltaSync(
        session=1,
        epoch=1,
        base=base,
        version=version,
        tick=1,
        part=number,
        parts=count,
        block=block or f"{base}-{version}:{number}/{count}".encode(),
    )


def test_a_delta_in_one_part_is_whole_at_once() -> None:
    parts = Parts()
    assert parts.add_untrusted(part(3, 5, 0, 1)) == [b"3-5:0/1"]
    assert len(parts) == 0


def test_a_sender_that_does_not_know_parts_sends_one() -> None:
    parts = Parts()
    parts.add_untrusted(part(2, 4, 0, 2))
    assert parts.add_untrusted(part(3, 5, 0, 0)) == [b"3-5:0/0"]
    assert len(parts) == 0


def test_parts_come_in_any_order_and_go_in_theirs() -> None:
    for order in itertools.permutations(range(3)):
        parts = Parts()
        found = [parts.add_untrusted(part(3, 5, number, 3)) for number in order]
        assert found == [None, None, [b"3-5:0/3", b"3-5:1/3", b"3-5:2/3"]]
        assert len(parts) == 0


def test_a_part_twice_is_not_two() -> None:
    parts = Parts()
    assert [parts.add_untrusted(part(3, 5, 1, 2)) for _ in range(3)] == [None] * 3
    assert parts.add_untrusted(part(3, 5, 0, 2)) is not None


def test_what_is_whole_takes_older_versions_with_it_and_leaves_newer_ones() -> None:
    parts = Parts()
    parts.add_untrusted(part(3, 4, 0, 2))
    parts.add_untrusted(part(3, 5, 0, 2))
    parts.add_untrusted(part(2, 5, 0, 3))
    parts.add_untrusted(part(3, 6, 0, 2))
    assert parts.add_untrusted(part(3, 5, 1, 2)) == [b"3-5:0/2", b"3-5:1/2"]
    assert len(parts) == 1
    assert parts.add_untrusted(part(3, 6, 1, 2)) == [b"3-6:0/2", b"3-6:1/2"]


def test_the_newest_are_kept() -> None:
    parts = Parts()
    for version in range(100, 140):
        parts.add_untrusted(part(3, version, 0, 2))
    assert len(parts) == DELTAS_STAGED_MAX
    parts.add_untrusted(part(3, 99, 0, 2))
    assert parts.add_untrusted(part(3, 99, 1, 2)) is None, "the oldest gives way, and this was it"
    assert parts.add_untrusted(part(3, 139, 1, 2)) is not None


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(4, 8), st.integers(1, 4)).flatmap(
            lambda key: st.tuples(st.just(key), st.integers(0, key[2] - 1))
        ),
        max_size=60,
    )
)
def test_whatever_comes_only_parts_of_one_cut_are_put_together(given: list[tuple[tuple[int, int, int], int]]) -> None:
    parts = Parts()
    for (base, version, count), number in given:
        found = parts.add_untrusted(part(base, version, number, count))
        if found is not None:
            assert found == [f"{base}-{version}:{each}/{count}".encode() for each in range(count)]
        assert len(parts) <= DELTAS_STAGED_MAX
