"""A store on a disk, steered by Hypothesis: whatever is done to it, in whatever order, it keeps what it said.

The steps are those of `sims/disk.py`, which runs them by the thousand; here a failure is shrunk to the few that matter.
For that the same steps must go the same way each time, on a busy machine too: the store has no thread, and its work is
a step among the others.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sims.disk import DiskHistory

SEEDS = st.integers(0, 1 << 16)


class DurableStore(RuleBasedStateMachine):
    """Each step draws its particulars from a seed of its own, so that steps can be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.history: DiskHistory | None = None

    def at(self, seed: int) -> DiskHistory:
        assert self.history is not None
        self.history.draw.seed(seed)
        return self.history

    @initialize(seed=SEEDS)
    def begin(self, seed: int) -> None:
        self.history = DiskHistory(seed, driven=True)

    @rule(seed=SEEDS)
    def work(self, seed: int) -> None:
        self.at(seed).work()

    @rule(seed=SEEDS)
    def write(self, seed: int) -> None:
        self.at(seed).write_once()

    @rule(seed=SEEDS)
    def write_more(self, seed: int) -> None:
        self.at(seed).write()

    @rule(seed=SEEDS)
    def take_a_snapshot(self, seed: int) -> None:
        self.at(seed).snapshot()

    @rule(seed=SEEDS)
    def close_and_open(self, seed: int) -> None:
        self.at(seed).close()

    @rule(seed=SEEDS)
    def kill(self, seed: int) -> None:
        self.at(seed).kill()

    @rule(seed=SEEDS)
    def lose_power(self, seed: int) -> None:
        self.at(seed).lose_power()

    @rule(seed=SEEDS)
    def let_the_disk_fail(self, seed: int) -> None:
        self.at(seed).fault()

    @rule(seed=SEEDS)
    def damage_files(self, seed: int) -> None:
        self.at(seed).rot()

    @invariant()
    def what_is_shown_is_whole(self) -> None:
        if self.history is not None:
            self.history.compare()

    def teardown(self) -> None:
        if self.history is not None and self.history.store is not None:
            self.history.store.close()
            self.history.storage.close()


def test_the_same_steps_go_the_same_way() -> None:
    """Or a failure could neither be shrunk nor be seen again."""
    traces = []
    for _ in range(2):
        history = DiskHistory(7, driven=True)
        steps = (history.write, history.work, history.fault, history.snapshot, history.lose_power, history.rot)
        for number in range(40):
            history.draw.seed(number)
            history.draw.choice(steps)()
        assert history.store is not None
        traces.append((history.trace, history.store.disk_statistics(), history.storage.files()))
        history.store.close()
        history.storage.close()
    assert traces[0] == traces[1]


TestDurableStore = DurableStore.TestCase
TestDurableStore.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
