"""The event rows of the version being made, as the blocks that subscribers are sent.

Invariant: the encoder is used with the baton only, so whichever thread commits may use it.
"""

import ctypes
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecsnet._kernel import abi
from ecsnet._kernel.kernel import KernelStore

__all__ = ["ALL_EVENTS", "EventEncoder", "EventsSeen"]

_WHOLE_TABLE: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class EventsSeen:
    """What somebody may not see of event rows: tables by id, and (table id, field id) of what is hidden in others.

    By default all may be seen that is replicated.
    """

    hidden_tables: frozenset[int] = frozenset()
    hidden: frozenset[tuple[int, int]] = frozenset()

    def _pairs(self) -> NDArray[np.uint16]:
        whole = [(table, _WHOLE_TABLE) for table in sorted(self.hidden_tables)]
        return np.array([*whole, *sorted(self.hidden)], np.uint16).reshape(-1, 2)


ALL_EVENTS: Final = EventsSeen()
"""Nothing is hidden."""


class EventEncoder:
    """Reads one store's event rows."""

    __slots__ = ("_encoder", "_hidden", "_kernel")

    def __init__(self, kernel: KernelStore) -> None:
        self._kernel = kernel
        self._encoder = ctypes.c_void_p(kernel._library.ecs_encoder_create())
        self._hidden: dict[EventsSeen, NDArray[np.uint16]] = {}

    def blocks(self, block_bytes: int, seen: EventsSeen = ALL_EVENTS) -> list[bytes]:
        """All rows of replicated event tables that were committed since the last publication, in the order in which
        they were inserted, in blocks of about `block_bytes`; an empty list if there are none. Needs the baton, before
        publishing: after that the rows are of a version that was made, and leave the head with the next transaction.

        Args:
            seen: nothing is written of what that hides.

        Raises:
            StorageError: out of memory. Nothing is changed.
        """
        kernel = self._kernel
        where, hidden = abi.Cursor(), self._hidden.get(seen)
        if hidden is None:
            hidden = self._hidden[seen] = seen._pairs()
        address, length = ctypes.c_uint64(), ctypes.c_uint64()
        blocks = []
        while not where.done:
            kernel._check(
                kernel._library.ecs_events(
                    kernel._pointer,
                    where,
                    block_bytes,
                    hidden.ctypes.data if len(hidden) else None,
                    len(hidden),
                    self._encoder,
                    address,
                    length,
                )
            )
            if length.value:
                blocks.append(ctypes.string_at(address.value, length.value))
        return blocks

    def close(self) -> None:
        """Give its memory back."""
        if self._encoder:
            self._kernel._library.ecs_encoder_destroy(self._encoder)
            self._encoder = ctypes.c_void_p()
