"""The event rows of the version being made, as the blocks that subscribers are sent.

Invariant: the encoder is used with the baton only, so whichever thread commits may use it.
"""

import ctypes

from ecsnet._kernel import abi
from ecsnet._kernel.kernel import KernelStore

__all__ = ["EventEncoder"]


class EventEncoder:
    """Reads one store's event rows."""

    __slots__ = ("_encoder", "_kernel")

    def __init__(self, kernel: KernelStore) -> None:
        self._kernel = kernel
        self._encoder = ctypes.c_void_p(kernel._library.ecs_encoder_create())

    def blocks(self, block_bytes: int) -> list[bytes]:
        """All rows of replicated event tables that were committed since the last publication, in the order in which
        they were inserted, in blocks of about `block_bytes`; an empty list if there are none. Needs the baton, before
        publishing: after that the rows are of a version that was made, and leave the head with the next transaction.

        Raises:
            StorageError: out of memory. Nothing is changed.
        """
        kernel = self._kernel
        where = abi.Cursor()
        address, length = ctypes.c_uint64(), ctypes.c_uint64()
        blocks = []
        while not where.done:
            kernel._check(
                kernel._library.ecs_events(kernel._pointer, where, block_bytes, self._encoder, address, length)
            )
            if length.value:
                blocks.append(ctypes.string_at(address.value, length.value))
        return blocks

    def close(self) -> None:
        """Give its memory back."""
        if self._encoder:
            self._kernel._library.ecs_encoder_destroy(self._encoder)
            self._encoder = ctypes.c_void_p()
