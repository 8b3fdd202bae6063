"""A store on a disk, steered by Hypothesis: whatever is done to it, in whatever order, it keeps what it said.

The steps are those of `sims/disk.py`, which runs them by the thousand; here a failure is shrunk to the few that matter.
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
        self.history = DiskHistory(seed)

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


TestDurableStore = DurableStore.TestCase
TestDurableStore.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
