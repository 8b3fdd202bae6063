"""Where bodies are to be drawn now: between the two newest versions that were seen.

Versions come 30 times a second and unevenly, frames 60 times; a body drawn where the newest version has it would
stutter. It is drawn one tick late instead, on the line between two places that it has really been at.
"""

import math

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.float32]
"""Shape (bodies, 3): x, y, facing."""


class Poses:
    """`take` each new version, `at` each frame."""

    def __init__(self, hz: int) -> None:
        self._delay_s = 1.0 / hz
        self._entities: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._before: Places = np.empty((0, 3), np.float32)
        self._now: Places = np.empty((0, 3), np.float32)
        self._since_s = 0.0
        self._lasts_s = self._delay_s

    @property
    def entities(self) -> NDArray[np.uint64]:
        """Ascending; the order of what `at` gives."""
        return self._entities

    def take(self, entities: NDArray[np.uint64], places: Places, now_s: float) -> None:
        """A newer version: where its bodies are."""
        shown = self.at(now_s)
        order = np.argsort(entities)
        entities, places = entities[order], places[order]
        before = places.copy()
        if len(self._entities):
            # Go on from where each is drawn, so that nothing jumps; what was not there begins where it is.
            found = np.minimum(np.searchsorted(self._entities, entities), len(self._entities) - 1)
            known = self._entities[found] == entities
            before[known] = shown[found[known]]
            leaps = np.abs(before[:, :2] - places[:, :2]).max(axis=1) > 120.0  # respawned
            before[leaps] = places[leaps]
        self._entities, self._before, self._now = entities, before, places
        # As long as it took this version to come, within reason.
        self._lasts_s = min(3 * self._delay_s, max(0.5 * self._delay_s, now_s - self._since_s))
        self._since_s = now_s

    def at(self, now_s: float) -> Places:
        """Shape (bodies, 3)."""
        share = np.float32(min(1.0, max(0.0, (now_s - self._since_s) / self._lasts_s)))
        step = self._now - self._before
        turn = step[:, 2]
        step[:, 2] = np.remainder(turn + math.pi, math.tau) - math.pi  # the shorter way round
        places: Places = self._before + step * share
        return places
