"""Kernel memory as numpy arrays: who owns it, and until when it is valid.

A numpy array over kernel memory has a `Memory` as its base. Slices, reshapes and memoryviews of the array keep that
base alive, so whatever the base holds (the pin of a version, the handle of a store) is held as long as anybody
can still reach the cells, and released by whichever of them goes last, on whatever thread.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Memory:
    """A range of kernel memory and what keeps it valid."""

    __slots__ = ("__array_interface__", "__weakref__", "_free", "_keeper", "address")

    def __init__(self, address: int, typestr: str, shape: tuple[int, ...], keeper: object, *, writable: bool) -> None:
        # A null address with no rows is legal in the kernel and not in numpy.
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": typestr,
            "data": (address or 64, not writable),
        }
        self.address = address
        self._keeper = keeper
        self._free: Callable[[], None] | None = None

    def own(self, free: Callable[[], None]) -> None:
        """From now on the memory is this object's: call `free` when it goes."""
        self._free = free

    def __del__(self) -> None:
        if self._free is not None:
            self._free()


def array(
    address: int, typestr: str, shape: tuple[int, ...], keeper: object, *, writable: bool = False
) -> NDArray[Any]:
    """An array over kernel memory, without a copy. `keeper` lives at least as long as the array or any slice of it."""
    return np.asarray(Memory(address, typestr, shape, keeper, writable=writable))


def owner(of: NDArray[Any]) -> Memory:
    """The `Memory` under an array made by `array`."""
    base: Any = of.base
    assert isinstance(base, Memory)
    return base
