"""Shrinking: what it finds, that it ends, and that it never claims what it has not seen."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecsnet.sim.faults import Fault
from ecsnet.sim.recording import Violation
from ecsnet.sim.run import LagMs, Outcome, no_outcome
from ecsnet.sim.scenario import Scenario
from ecsnet.sim.shrink import Case, shrink, shrink_scenario


def test_what_has_nothing_to_do_with_the_failure_goes_away() -> None:
    """Two clients, the fault number 17 and 3.1 seconds are what it takes."""

    def fails(case: Case) -> float | None:
        return 3.1 if case.clients >= 2 and 17 in case.faults and case.seconds >= 3.1 else None

    shrunk = shrink(Case(8, 30.0, tuple(range(40)), 2), fails, failed_at_s=3.05)

    assert shrunk.case == Case(clients=2, seconds=3.1, faults=(17,))
    assert shrunk.finished
    assert shrunk.case.words() == "2 clients, 1 fault, 3.1 s"


def test_a_failure_that_needs_everything_stays_as_it_was() -> None:
    case = Case(3, 2.0, (0, 1))

    shrunk = shrink(case, lambda candidate: 2.0 if candidate == case else None)

    assert shrunk.case == case
    assert not shrunk.smaller
    assert shrunk.finished


def test_two_faults_that_only_fail_together_are_found() -> None:
    def fails(case: Case) -> float | None:
        return case.seconds if {3, 28} <= set(case.faults) else None

    shrunk = shrink(Case(4, 10.0, tuple(range(32))), fails)

    assert shrunk.case == Case(1, 0.1, (3, 28))


def test_no_more_runs_than_were_allowed() -> None:
    runs: list[Case] = []

    def fails(case: Case) -> float | None:
        runs.append(case)
        return None if len(runs) % 2 else case.seconds

    shrunk = shrink(Case(100, 1000.0, tuple(range(1000))), fails, tries=9)

    assert len(runs) == shrunk.tries == 9
    assert not shrunk.finished


def test_no_run_begins_after_the_time_is_over() -> None:
    def fails(case: Case) -> float | None:
        time.sleep(0.02)
        return case.seconds

    shrunk = shrink(Case(8, 1e6, tuple(range(100))), fails, wall_s=0.01)

    assert shrunk.tries == 1
    assert not shrunk.finished


@given(
    clients=st.integers(1, 9),
    seconds=st.floats(0.1, 40),
    faults=st.integers(0, 12),
    needed=st.tuples(st.integers(1, 9), st.floats(0, 40), st.sets(st.integers(0, 11), max_size=3)),
)
def test_whatever_is_returned_was_seen_to_fail(
    clients: int, seconds: float, faults: int, needed: tuple[int, float, set[int]]
) -> None:
    tried: dict[Case, bool] = {}

    def fails(case: Case) -> float | None:
        assert case not in tried, "nothing is run twice"
        tried[case] = case.clients >= needed[0] and case.seconds >= needed[1] and needed[2] <= set(case.faults)
        return case.seconds if tried[case] else None

    given_ = Case(clients, seconds, tuple(range(faults)))
    found = shrink(given_, fails).case

    assert found == given_ or tried[found]
    assert found.clients <= clients
    assert found.seconds <= seconds
    assert set(found.faults) <= set(given_.faults)


# --- scenarios --------------------------------------------------------------------------------------------------------

FAULTS = (Fault("drop", 2.0, 0.0, "client-5"), Fault("partition", 3.0, 1.0), Fault("stall", 8.0, 1.0, "client-0"))


def outcome_of(scenario: Scenario, *checkers: str, tick: int = 0) -> Outcome:
    """An outcome with a violation of each of these checkers."""
    return Outcome(
        **{
            **{name: getattr(no_outcome(scenario), name) for name in Outcome.__struct_fields__},
            "converged": not checkers,
            "violations": [Violation(checker, tick, "it happened") for checker in checkers],
            "violations_found": len(checkers),
            "lag_ms": LagMs(1.0, 2.0, 3.0),
            "hz": 30,
        }
    )


def test_a_smaller_scenario_has_only_faults_that_fit_it() -> None:
    """A fault after the end, or of a client who is gone, is no scenario: the command for it would be refused."""
    scenario = Scenario(seed=7, clients=6, seconds=20.0, faults=FAULTS)

    def run(smaller: Scenario, wall_s: float) -> Outcome:
        smaller.settled()
        fails = any(fault.kind == "partition" for fault in smaller.faults) and smaller.seconds >= 3.5
        return outcome_of(smaller, *(["digest"] if fails else []), tick=105)

    shrunk = shrink_scenario(scenario, outcome_of(scenario, "digest", tick=105), run)

    assert shrunk is not None
    assert shrunk.words == "1 client, 1 fault, 3.5 s"
    assert shrunk.replay == (
        "ecsnet sim --seed 7 --profile lan --transport stream --clients 1 --entities 500 --moving 1 --seconds 3.5 "
        """--faults '[{"kind":"partition","at_s":3.0,"for_s":1.0}]'"""
    )


def test_another_failure_is_not_taken_for_the_same() -> None:
    scenario = Scenario(clients=6, seconds=20.0)

    shrunk = shrink_scenario(
        scenario, outcome_of(scenario, "digest"), lambda smaller, wall_s: outcome_of(smaller, "bounds")
    )

    assert shrunk is None


def test_what_the_clock_stopped_is_not_run_again() -> None:
    scenario = Scenario()

    shrunk = shrink_scenario(
        scenario, no_outcome(scenario, stopped="too slow"), lambda smaller, wall_s: pytest.fail("it was run")
    )

    assert shrunk is None
