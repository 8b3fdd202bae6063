"""What a store in the kernel answers with: counts, rows of a join, one block."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import EcsnetError
from ecsnet.ids import Entity, Tick, Version


class HistoryGone(EcsnetError):
    """The change sets no longer reach back to the base that was asked for: cut from version 0 instead."""

    def __init__(self, base: int) -> None:
        super().__init__(f"no change sets reach back to version {base}")
        self.base = base


@dataclass(frozen=True, slots=True)
class Statistics:
    """Numbers of one store. Bytes are what the kernel has allocated; counts are as of the call.

    `deferred` counts publications that were put off for want of room, and `pressure` says what the newest one found
    none for: 1 versions, 2 buffers, 3 memory, 0 when it was not put off.

    `change_sets` are those of the newest versions, one each; `history_sets` are of versions before, merged. Deltas can
    be cut from `oldest_base` and all versions since.
    """

    version: int
    published_version: int
    transactions: int
    bytes_allocated: int
    entities: int
    rows: int
    pins: int
    deferred: int
    change_sets: int
    change_bytes: int
    retired_pages: int
    slots_used: int
    buffers: int
    pressure: int
    history_sets: int
    history_bytes: int
    oldest_base: int


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table of the head. `keys` is over the head itself: valid until the next operation, not to be kept."""

    rows: int
    struct_seq: int
    keys: NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class JoinRows:
    """A join: `rows` has the row numbers (u32) in each table, or is None where they are the first `count` rows of every
    table, in one order (`aligned`)."""

    count: int
    aligned: bool
    rows: list[NDArray[np.uint32]] | None
    keys: NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Delta:
    """One block, cut for `(base, version]`. `cursor` says where the next one begins; None when this was the last."""

    block: bytes
    cursor: tuple[int, int] | None
    rows: int


class TakenDelta(NamedTuple):
    """What a DeltaSync that was taken in said. `digest_state` is 0 where there was no digest to compare (or held views
    put the publication off), 1 where the two were equal, 2 where they differ; `published` is what readers see."""

    base: Version
    version: Version
    tick: Tick
    entity: Entity
    command_ack: int
    digest_state: int
    published: Version
