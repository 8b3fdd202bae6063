"""The pytest plugin: the fixture `ecsnet_cluster`, options that replay a run, and what a failure says.

    def test_players_agree_on_bad_wifi(ecsnet_cluster):
        cluster = ecsnet_cluster(world, clients=8, profile="bad-wifi", seed=7)
        cluster.each_tick(lambda player: player.send("steer", dx=1.0, dy=0.0))
        cluster.run(seconds=30)
        assert cluster.lag("transform").p99_ms < 400
        cluster.assert_converged()

pytest loads this file at every start, in every project of an environment that has ecsnet. So it imports nothing but
pytest, and all else lives in `ecsnet.sim.testing`, which is imported when a test asks for the fixture.

Invariant: a test that does not ask for the fixture is not touched.
"""

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ecsnet.sim.testing import MakeCluster, Stage

_STAGE: "pytest.StashKey[Stage]" = pytest.StashKey()
_EXPLAINED: pytest.StashKey[str] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ecsnet", "ecsnet: simulated clusters")
    group.addoption("--ecsnet-seed", type=int, metavar="N", help="the seed of every cluster, in place of the test's")
    group.addoption("--ecsnet-profile", metavar="NAME|FILE", help="what lines are like, in place of the test's")
    group.addoption("--ecsnet-clients", type=int, metavar="N", help="players of every cluster, in place of the test's")
    group.addoption("--ecsnet-seconds", type=float, metavar="S", help="at most so many virtual seconds per cluster")
    group.addoption(
        "--ecsnet-faults", metavar="NUMBERS", help="of a test's faults only these, counted from 1, as in 2,5; or none"
    )
    group.addoption(
        "--ecsnet-no-shrink", action="store_true", help="do not run a failed test again to find a smaller run"
    )


def pytest_configure(config: pytest.Config) -> None:
    names = ("seed", "profile", "clients", "seconds", "faults")
    if any(config.getoption(f"--ecsnet-{name}") is not None for name in names):
        from ecsnet.errors import EcsnetError
        from ecsnet.sim.testing import Overrides

        try:
            Overrides.of(config).check()
        except EcsnetError as error:
            raise pytest.UsageError(str(error)) from error


@pytest.fixture
def ecsnet_cluster(request: pytest.FixtureRequest) -> Iterator["MakeCluster"]:
    """Make clusters: `ecsnet_cluster(world, clients=8, profile="bad-wifi", seed=7)`, with everything else that
    `ecsnet.sim.Cluster` takes. A violation that a checker finds fails the test, whatever the test asserts."""
    from ecsnet.sim.testing import Overrides, Stage

    # There is one already when a failed test's fixtures are set up again.
    stage = request.node.stash.setdefault(_STAGE, Stage(Overrides.of(request.config)))
    yield stage.make
    stage.close()


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    stage = item.stash.get(_STAGE, None)
    if stage is None:
        return (yield)
    stage.begin()
    try:
        result = yield
        stage.check()
    except (Exception, pytest.fail.Exception) as error:
        item.stash[_EXPLAINED] = stage.explain(item, error)
        raise
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: "pytest.CallInfo[None]"
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    text = item.stash.get(_EXPLAINED, "")
    if call.when == "call" and report.failed and text:
        add = getattr(report.longrepr, "addsection", None)
        if add is not None:
            add("ecsnet simulation", text)
        else:
            report.sections.append(("ecsnet simulation", text))
    return report


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    import sys

    # Without the module nobody has made one of its figures.
    testing = sys.modules.get("ecsnet.sim.testing")
    return None if testing is None else testing.explain_comparison(op, left, right)
