"""Prepared verbs: `w = tx.writer(Velocity)`, then `w(ship, 1.0, 0.0)` as often as need be.

A call packs key and cells behind those of the calls before it, and that is all: the kernel is told of hundreds at once,
when room runs out or somebody could tell the difference. So a call costs a fraction of what `tx.update` does, and its
error comes late.

    unarmed ──first call──► armed ──other verb, other writer of the same cells, commit──► unarmed
                              └──room runs out: handed over, and on──┘

Invariants:
- everything that reads or writes through the transaction first has what is held back handed over, so that the order of
  calls is the order of effects;
- two writers whose order could matter are never armed at once: the first call of one hands over what the other holds;
- a write that the kernel refuses is dropped alone: those before it are done, those behind it wait on. Its error says
  which call it was;
- a writer of an ended transaction is unarmed for ever, and says `ClosedError`.
"""

import operator
import struct
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from ecsnet._kernel.prepared import DELETE, INSERT, UPDATE, Prepared
from ecsnet.errors import ArgumentError, ClosedError, EcsnetError, StorageError
from ecsnet.store.fields import FieldName
from ecsnet.store.lifecycle import BUFFERED, CLOSED, LENDING
from ecsnet.store.names import TableName, as_key
from ecsnet.store.shapes import flat_values

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore
    from ecsnet.store.pointwise import PointWrites

__all__ = ["HeldBack", "Write", "WriterRecipe"]

Write = Callable[..., None]
"""A function of a key and the values of the fields, in the order in which they were named."""

_RECORDS: Final = 512
_BYTES: Final = 64 << 10
"""A writer holds back at most so many records, and so many bytes: handing over costs a microsecond, which is little
among hundreds, and what was packed is still in the cache then."""

_VERBS: Final = {UPDATE: "writer", INSERT: "inserter", DELETE: "deleter"}

# Taking a place, or packing into it, was refused.
_REFUSED: Final = (StopIteration, struct.error, TypeError, OverflowError, ValueError)


class WriterRecipe:
    """What all writers of the same fields share, whatever transaction they belong to. Only one of those at a time has
    the baton, and so the memory."""

    __slots__ = ("_at", "fields", "kind", "name", "plain", "prepared", "table")

    def __init__(self, kernel: "KernelStore", kind: int, table: TableName, fields: tuple[FieldName, ...]):
        self.kind = kind
        self.table = table
        self.fields = fields
        self.plain = all(field.plain for field in fields)
        stored = kernel.schema_fields(table.id, tuple([field.id for field in fields]))
        stride = Prepared(kernel, kind, table.id, stored).stride
        capacity = max(1, min(_RECORDS, _BYTES // stride))
        self.prepared = Prepared(kernel, kind, table.id, stored, capacity)
        self._at = tuple(range(0, stride * capacity, stride))
        paths = ", ".join(field.path for field in fields) if kind == UPDATE else table.name
        self.name = f"{_VERBS[kind]}({paths})"

    def places(self, taken: int) -> Iterator[int]:
        """Where the next records go, after so many."""
        return iter(self._at[taken:])

    def cells(self, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """The values to pack. Raises ArgumentError for one that is wrong."""
        if len(given) != len(self.fields):
            names = ", ".join(["key", *(field.name for field in self.fields)])
            raise ArgumentError(f"{self.name} takes ({names}): {1 + len(self.fields)} values, not {1 + len(given)}")
        return flat_values([field.cell(value) for field, value in zip(self.fields, given, strict=True)], self.fields)

    def disturbs(self, other: "WriterRecipe") -> bool:
        """Whether it could matter which of two writes comes first."""
        if DELETE in (self.kind, other.kind):
            # What refers to the row may go with it, whatever table that is in.
            return True
        if self.table is not other.table:
            return False
        return INSERT in (self.kind, other.kind) or not set(self.fields).isdisjoint(other.fields)


class _Writer:
    """One writer of one transaction."""

    __slots__ = ("_arm", "_held", "_places", "call", "recipe")

    def __init__(self, recipe: WriterRecipe, held: "HeldBack"):
        self.recipe = recipe
        self._held = held
        self._places: Iterator[int] = iter(())
        parameters = len(recipe.fields) if recipe.plain else -1
        make = {0: _none, 1: _one, 2: _two, 3: _three, 4: _four}.get(parameters, _any_number)
        self.call, self._arm = make(recipe, self._refused)
        self.call.__name__ = self.call.__qualname__ = recipe.name
        names = ", ".join(["key", *(field.name for field in recipe.fields)])
        self.call.__doc__ = f"({names}): held back until something else is done, or the commit."

    @property
    def held(self) -> int:
        """How many records wait."""
        return self.recipe.prepared.capacity - operator.length_hint(self._places)

    def arm(self, taken: int = 0) -> None:
        """Room for records, behind so many that wait already."""
        self._places = self.recipe.places(taken)
        self._arm(self._places.__next__)

    def disarm(self) -> None:
        """No room: the next call comes back here. What waits is forgotten."""
        self._places = self.recipe.places(self.recipe.prepared.capacity)
        self._arm(self._places.__next__)

    def _refused(self, error: Exception, key: Any, given: tuple[Any, ...]) -> None:
        """A call that found no room, or whose values could not be packed."""
        if isinstance(error, StopIteration):
            if self._held.admit(self, key, given):
                self.call(key, *given)
            return
        # A place was taken, and nothing that counts is in it.
        self._held.hand_over(self, self.held - 1)
        as_key(key)
        self.recipe.cells(given)
        raise ArgumentError(f"{self.recipe.name}: {error}") from error


class HeldBack:
    """The writers of one transaction."""

    __slots__ = ("_armed", "_owner", "_writers")

    def __init__(self, owner: "PointWrites"):
        # Weak: who lets go of a transaction has ended it, whatever writers are still about.
        self._owner = weakref.ref(owner)
        self._writers: dict[object, _Writer] = {}
        self._armed: list[_Writer] = []

    def writer(self, recipe: WriterRecipe) -> Write:
        """The writer, made once for the transaction."""
        known = self._writers.get(recipe)
        if known is None:
            known = self._writers[recipe] = _Writer(recipe, self)
            known.disarm()
        return known.call

    def admit(self, writer: _Writer, key: Any, given: tuple[Any, ...]) -> bool:
        """Make room for a writer's next record; False where the write was done another way, or is refused."""
        tx = self._owner()
        if tx is None or tx._state == CLOSED:
            raise ClosedError(f"{writer.recipe.name}: its transaction was committed or rolled back")
        if tx._state == LENDING:
            _at_once(tx, writer.recipe, key, given)
            return False
        if writer in self._armed:
            self.hand_over(writer, writer.held)
        else:
            for other in [armed for armed in self._armed if armed.recipe.disturbs(writer.recipe)]:
                self.hand_over(other, other.held)
            if not self._armed:
                tx._enter()
        if writer not in self._armed:
            self._armed.append(writer)
        tx._state = BUFFERED
        writer.arm()
        return True

    def hand_over(self, writer: _Writer, count: int) -> None:
        """Give a writer's first `count` records to the kernel, and take its room away.

        Raises:
            EcsnetError: one is refused. Those before it are done, those behind it wait on.
        """
        recipe, prepared = writer.recipe, writer.recipe.prepared
        tx = self._owner()
        assert tx is not None, "a transaction that is gone hands nothing over"
        if recipe.kind != UPDATE and count:
            tx._structure += 1
        refused: EcsnetError | None = None
        status, done = prepared.run(count) if count else 0, count
        while status < 0:
            refused = tx._kernel.failed(status)
            if isinstance(refused, StorageError):
                raise refused
            # What comes before it may be refused too, for a reason that the kernel would have come to later.
            done = tx._kernel.failed_at
            status = prepared.run(done) if done else 0
        if refused is None:
            self._armed.remove(writer)
            writer.disarm()
            return
        refused.add_note(f"held back by {recipe.name}: call {done + 1} of {count}, for key {prepared.key(done):#x}")
        prepared.drop(done + 1, count)
        writer.arm(count - done - 1)
        raise refused

    def hand_all_over(self) -> None:
        """As `hand_over`, for every writer, in the order in which they were armed."""
        while self._armed:
            self.hand_over(self._armed[0], self._armed[0].held)

    def forget(self) -> None:
        """Drop what waits."""
        for writer in self._armed:
            writer.disarm()
        self._armed.clear()

    def end(self) -> None:
        """The transaction has ended: drop what waits, and the functions, which whoever called them may still have."""
        self.forget()
        for writer in self._writers.values():
            # It refers back to its writer: without this every transaction would leave work for the garbage collector.
            del writer.call
        self._writers.clear()


def _at_once(tx: "PointWrites", recipe: WriterRecipe, key: Any, given: tuple[Any, ...]) -> None:
    """While columns are lent, a write is what the verb of its name does."""
    recipe.cells(given)
    cells = {field.name: value for field, value in zip(recipe.fields, given, strict=True)}
    if recipe.kind == UPDATE:
        tx.update(key, recipe.table.name, **cells)
    elif recipe.kind == INSERT:
        tx.insert(as_key(key), **{recipe.table.name: cells})
    else:
        tx.delete(key, recipe.table.name)


# --- the functions that a game calls --------------------------------------------------------------------------------
#
# Written out by the number of values: a function of any number takes twice as long. `take` gives the next place; with
# none left it raises, which costs nothing while there are.

_Refused = Callable[[Exception, Any, tuple[Any, ...]], None]
_Arm = Callable[[Callable[[], int]], None]


def _none(recipe: WriterRecipe, refused: _Refused) -> tuple[Write, _Arm]:
    pack, memory = recipe.prepared.pack_into, recipe.prepared.memory
    take: Callable[[], int]

    def arm(next_place: Callable[[], int]) -> None:
        nonlocal take
        take = next_place

    def write(key: int, /) -> None:
        try:
            pack(memory, take(), key)
        except _REFUSED as error:
            refused(error, key, ())

    return write, arm


def _one(recipe: WriterRecipe, refused: _Refused) -> tuple[Write, _Arm]:
    pack, memory = recipe.prepared.pack_into, recipe.prepared.memory
    take: Callable[[], int]

    def arm(next_place: Callable[[], int]) -> None:
        nonlocal take
        take = next_place

    def write(key: int, a: Any, /) -> None:
        try:
            pack(memory, take(), key, a)
        except _REFUSED as error:
            refused(error, key, (a,))

    return write, arm


def _two(recipe: WriterRecipe, refused: _Refused) -> tuple[Write, _Arm]:
    pack, memory = recipe.prepared.pack_into, recipe.prepared.memory
    take: Callable[[], int]

    def arm(next_place: Callable[[], int]) -> None:
        nonlocal take
        take = next_place

    def write(key: int, a: Any, b: Any, /) -> None:
        try:
            pack(memory, take(), key, a, b)
        except _REFUSED as error:
            refused(error, key, (a, b))

    return write, arm


def _three(recipe: WriterRecipe, refused: _Refused) -> tuple[Write, _Arm]:
    pack, memory = recipe.prepared.pack_into, recipe.prepared.memory
    take: Callable[[], int]

    def arm(next_place: Callable[[], int]) -> None:
        nonlocal take
        take = next_place

    def write(key: int, a: Any, b: Any, c: Any, /) -> None:
        try:
            pack(memory, take(), key, a, b, c)
        except _REFUSED as error:
            refused(error, key, (a, b, c))

    return write, arm


def _four(recipe: WriterRecipe, refused: _Refused) -> tuple[Write, _Arm]:
    pack, memory = recipe.prepared.pack_into, recipe.prepared.memory
    take: Callable[[], int]

    def arm(next_place: Callable[[], int]) -> None:
        nonlocal take
        take = next_place

    def write(key: int, a: Any, b: Any, c: Any, d: Any, /) -> None:
        try:
            pack(memory, take(), key, a, b, c, d)
        except _REFUSED as error:
            refused(error, key, (a, b, c, d))

    return write, arm


def _any_number(recipe: WriterRecipe, refused: _Refused) -> tuple[Write, _Arm]:
    pack, memory, cells = recipe.prepared.pack_into, recipe.prepared.memory, recipe.cells
    take: Callable[[], int]

    def arm(next_place: Callable[[], int]) -> None:
        nonlocal take
        take = next_place

    def write(key: int, /, *given: Any) -> None:
        # Checked before a place is taken.
        packed = cells(given)
        try:
            pack(memory, take(), key, *packed)
        except _REFUSED as error:
            refused(error, key, given)

    return write, arm
