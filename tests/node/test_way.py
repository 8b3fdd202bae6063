"""Which address a client tries that lost its node."""

import socket
import threading

import pytest

from ecsnet.node.way import Place, Way, look_up

A, B, C = (Place(socket.AF_INET, (f"203.0.113.{number}", 7777)) for number in (1, 2, 3))


class Names:
    """Look-ups that the test answers."""

    def __init__(self, *answers: list[Place]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self, host: str, port: int) -> list[Place]:
        self.asked.append((host, port))
        self.may_answer.wait(10)
        return self.answers.pop(0) if self.answers else []


def way(names: Names, host: str = "node.example", answered: Place = A) -> Way[Place]:
    return Way(host, 7777, answered, lambda place: place, names)


def looked(one: Way[Place]) -> None:
    """Wait for the look-up that is under way."""
    assert one._looking is not None
    one._looking.join(10)
    assert not one._looking.is_alive()


def test_the_address_that_answered_is_tried_first_and_nobody_is_asked_for_it() -> None:
    names = Names([B])
    one = way(names)
    for _ in range(3):
        one.begin()
        assert one() == A
    assert names.asked == []


def test_where_it_does_not_answer_the_name_is_looked_up_again_and_all_that_it_stands_for_is_tried() -> None:
    names = Names([B, C])
    one = way(names)
    assert one() == A
    assert one() == A, "nobody waits for the look-up"
    looked(one)
    tried = set()
    for _ in range(2):
        tried.add(one())
        looked(one)
    assert tried == {B, C}
    assert set(names.asked) == {("node.example", 7777)}


def test_what_answered_is_the_first_next_time() -> None:
    one = way(Names([B, C]))
    one()
    one()
    looked(one)
    found = one()
    assert found in (B, C)
    one.begin()
    assert one() == found


def test_a_name_that_nobody_knows_now_leaves_what_is_known() -> None:
    one = way(Names([]))
    for _ in range(4):
        assert one() == A
        if one._looking is not None:
            looked(one)


def test_one_look_up_is_under_way_at_most() -> None:
    names = Names([B])
    names.may_answer.clear()
    one = way(names)
    for _ in range(5):
        one()
    assert len(names.asked) == 1
    names.may_answer.set()
    looked(one)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%lo"])
def test_an_address_in_numbers_is_not_looked_up(host: str) -> None:
    names = Names([B])
    one = way(names, host)
    for _ in range(3):
        assert one() == A
    assert names.asked == []


def test_a_name_of_this_machine_is_found_and_one_that_is_none_is_not() -> None:
    found = look_up("localhost", 7777)
    assert found and len(found) == len(set(found))
    assert all(place.where[1] == 7777 for place in found)
    assert look_up("no.such.host.invalid", 7777) == []
    assert look_up("x" * 70 + ".invalid", 7777) == []
