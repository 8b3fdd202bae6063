"""What happens in the node, seen from within and without changing it: which commands took effect, when a version's
tick began, how many rows it moved; and a switch that lets the world stand still.

Invariants:
- a world that is watched has the same commands, systems and bytes as one that is not;
- a command counts when its function has returned: what is rejected or raises is undone and does not count.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecsnet.authority import TickReport
from ecsnet.store import Store, Transaction
from ecsnet.world import Client, CommandSpec, SystemSpec, World


class Watch:
    """Logs that grow until they are taken."""

    def __init__(self, world: World, store: Store) -> None:
        self.standing = False
        """Systems do not run; whoever joins still joins."""
        self.cuts: list[tuple[int, int, int]] = []
        self.applied: list[tuple[int, int]] = []
        self._rows: dict[int, int] = {}
        self._store = store
        self._keys: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._places: tuple[NDArray[Any], NDArray[Any]] = (np.zeros(0, np.float32), np.zeros(0, np.float32))
        world.commands.update({name: self._watched(spec) for name, spec in world.commands.items()})
        world.systems[:] = [self._switched(spec) for spec in world.systems]

    def on_tick(self, report: TickReport, started_ns: int) -> None:
        """After a tick's fan-out, so that nothing of this counts as lag."""
        if report.version is not None:
            self.cuts.append((report.version, started_ns, self._moved()))

    def take(self) -> tuple[list[tuple[int, int, int]], list[tuple[int, int]]]:
        """What was logged since the last call."""
        cuts, self.cuts = self.cuts, []
        applied, self.applied = self.applied, []
        return cuts, applied

    def _watched(self, spec: CommandSpec) -> CommandSpec:
        function = spec.function

        @functools.wraps(function)
        def watched(tx: Transaction, client: Client, **arguments: Any) -> None:
            function(tx, client, **arguments)
            key = self._rows.get(client.session)
            if key is None:
                # Found by a scan, and the same for as long as the session lasts.
                key = self._rows[client.session] = tx.key("sessions.session", client.session)
            self.applied.append((client.session, tx[key, "sessions.last_command"]))

        return replace(spec, function=watched)

    def _switched(self, spec: SystemSpec) -> SystemSpec:
        function: Callable[[Transaction], None] = spec.function

        @functools.wraps(function)
        def switched(tx: Transaction) -> None:
            if not self.standing:
                function(tx)

        return replace(spec, function=switched)

    def _moved(self) -> int:
        """Rows of transform that differ from the last published version. New ones count: they were sent, too."""
        with self._store.view() as view:
            keys = view["transform"].key
            places = (view["transform.x"], view["transform.y"])
            if len(keys) == len(self._keys) and np.array_equal(keys, self._keys):
                moved = int(np.count_nonzero((places[0] != self._places[0]) | (places[1] != self._places[1])))
            else:
                moved = self._moved_by_key(keys, places)
                self._keys = keys.copy()
            # Copies: arrays of a view would hold its buffers, and the store would need one more of each.
            self._places = (places[0].copy(), places[1].copy())
        return moved

    def _moved_by_key(self, keys: NDArray[np.uint64], places: tuple[NDArray[Any], NDArray[Any]]) -> int:
        order = np.argsort(self._keys)
        found = np.searchsorted(self._keys, keys, sorter=order)
        known = found < len(order)
        before = order[np.where(known, found, 0)] if len(order) else np.zeros(len(keys), np.int64)
        if not len(order):
            return len(keys)
        known &= self._keys[before] == keys
        same = known & (self._places[0][before] == places[0]) & (self._places[1][before] == places[1])
        return len(keys) - int(np.count_nonzero(same))
