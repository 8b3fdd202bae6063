"""What is held of the other nodes that write the same tables: of each the epoch and the version up to which everything
that it wrote is here. Epoch 0 where it was told by others only.

Invariants:
- it is in the store, a row for each node, written in the transaction of what it says: a crash loses both or none;
- what is said here is what was committed.
"""

from collections.abc import Mapping

from ecsnet._kernel.kernel import KernelStore, Pin
from ecsnet._kernel.stamps import CLOCKS_TABLE
from ecsnet.authority.peer_link import NOTHING

__all__ = ["Held", "Mark", "clock_of"]

Mark = tuple[int, int]
"""An epoch and a version."""


class Held:
    """See the file.

    Args:
        pin: the newest version of a store that was here before.
    """

    __slots__ = ("_kernel", "_keys", "_marks", "_row")

    def __init__(self, kernel: KernelStore, pin: Pin) -> None:
        self._kernel = kernel
        table = kernel.schema.table_by_id(CLOCKS_TABLE)
        counter, epoch_of, number = (table.field(name).id for name in ("counter", "epoch", "node"))
        self._row = kernel.shape(CLOCKS_TABLE, tuple(sorted((counter, epoch_of, number))))
        assert (counter, epoch_of, number) == (0, 1, 2), "in the order in which they are packed"
        self._keys: dict[int, int] = {}
        self._marks: dict[int, Mark] = {}
        keys, counters, epochs, nodes = (
            column.tolist()
            for column in (pin.keys(CLOCKS_TABLE), *(pin.column(CLOCKS_TABLE, field) for field in range(3)))
        )
        for key, version, epoch, node in zip(keys, counters, epochs, nodes, strict=True):
            self._keys[node] = key
            self._marks[node] = (epoch, version)

    @property
    def marks(self) -> dict[int, Mark]:
        """By node, what is held of it; the caller's own."""
        return dict(self._marks)

    def of(self, node: int) -> Mark:
        """What is held of one; `NOTHING` of a node that is not known."""
        return self._marks.get(node, NOTHING)

    def write(self, marks: Mapping[int, Mark]) -> dict[int, int]:
        """Write this in the transaction that is open. It is held when that is committed and `take` was told so.
        Returns the keys of the rows."""
        return {node: self._write(node, *mark) for node, mark in marks.items()}

    def take(self, marks: Mapping[int, Mark], keys: Mapping[int, int]) -> None:
        """What was written, by the keys that `write` returned, is committed."""
        self._keys.update(keys)
        self._marks.update(marks)

    def _write(self, node: int, epoch: int, version: int) -> int:
        key = self._keys.get(node)
        if key is None:
            return self._kernel.insert_keyed(self._row, (version, epoch, node))
        self._kernel.update(self._row, key, (version, epoch, node))
        return key


def clock_of(pin: Pin) -> list[tuple[int, int]]:
    """What a version of this node contains of others: per node the version up to which everything of it is there."""
    counters, nodes = pin.column(CLOCKS_TABLE, 0).tolist(), pin.column(CLOCKS_TABLE, 2).tolist()
    return sorted(zip(nodes, counters, strict=True))
