"""What goes wrong again and again is told once a second."""

import logging

import pytest

from ecsnet.authority.noted import Noted
from ecsnet.limits import NS_PER_S


def test_each_kind_is_told_once_a_second_with_how_often_it_was_not(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    noted = Noted(logging.getLogger("noted"))
    for number in range(5):
        noted.tell(number, logging.INFO, "link of %s failed", f"peer {number}")
    noted.tell(5, logging.WARNING, "another kind")
    noted.tell(NS_PER_S, logging.INFO, "link of %s failed", "the last")
    assert [record.getMessage() for record in caplog.records] == [
        "link of peer 0 failed",
        "another kind",
        "link of the last failed (4 more since the last)",
    ]


def test_a_clock_that_was_set_back_silences_nobody(caplog: pytest.LogCaptureFixture) -> None:
    noted = Noted(logging.getLogger("noted"))
    for now_ns in (10 * NS_PER_S, 3 * NS_PER_S):
        noted.tell(now_ns, logging.ERROR, "failed", error=ValueError("why"))
    assert caplog.text.count("ValueError: why") == 2
