"""The numbers that name things, each a type of its own for the type checker and a plain `int` at run time.

Invariants:
- an entity is `index | generation << 32`; a generation is never 0, so 0 is no entity;
- version 0 is the empty world: a delta from it is a full sync.
"""

from typing import Final, NewType

Entity = NewType("Entity", int)
"""u64. Index (low 32 bits) and generation (high 32 bits); the same in memory, on the wire and in C."""

Version = NewType("Version", int)
"""u64, dense at the authority: one writer batch. Readers acquire, deltas are cut and acks name versions."""

Tick = NewType("Tick", int)
"""u64: a step of the game."""

Epoch = NewType("Epoch", int)
"""u32: a history that nobody saw taken back."""

SessionId = NewType("SessionId", int)
"""u64, random, never 0: one client's conversation, and its node id in clocks."""

ClientId = NewType("ClientId", int)
"""u64: the account behind a session; 0 is the authority itself (as the owner of an entity)."""

TableId = NewType("TableId", int)
"""u16, given once by the schema, never by the order in a file. 0 is `entities`."""

FieldId = NewType("FieldId", int)
"""u16, given once by the schema, counted within one table."""

CommandSeq = NewType("CommandSeq", int)
"""u32 per session, dense from 1: with the session it makes a command idempotent."""

EMPTY_VERSION: Final = Version(0)
NULL_ENTITY: Final = Entity(0)

INDEX_BITS: Final = 32
_INDEX_MASK: Final = (1 << INDEX_BITS) - 1


def index_of(entity: int) -> int:
    """The place of `entity` in the registry; reused, with a new generation, after a despawn."""
    return entity & _INDEX_MASK


def generation_of(entity: int) -> int:
    """How often the place of `entity` has been reused; never 0 for an entity that was ever alive."""
    return entity >> INDEX_BITS


def entity_of(index: int, generation: int) -> Entity:
    """Put an id together. The caller vouches for the ranges: index and generation are u32 each."""
    assert 0 <= index <= _INDEX_MASK, index
    assert 0 <= generation <= _INDEX_MASK, generation
    return Entity(generation << INDEX_BITS | index)
