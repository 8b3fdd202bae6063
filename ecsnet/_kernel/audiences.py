"""Audiences: what each client sees of a store, found in one version after the other, and the deltas of just that.

    audiences = Audiences(kernel, [Profile.of_role(schema, "player")], [Rule.of(schema, rule) for rule in rules])
    handle = audiences.open(0, owner=client_id)
    audiences.focus(handle, [ship])
    ...
    audiences.update(pin)                                # what all of them see in this version
    found = audiences.deltas(pin, handles, bases)        # one block for each, from its own base

A *profile* says which tables and fields a role may see, a *rule* which rows a client is sent. A client without rules is
sent all that its profile allows, and shares its blocks with its equals.

Semantics of rules, where the schema leaves something open:
- what several rules find is seen while one of them does; relations are followed from what was found until nothing is
  added, from row to row;
- a rule goes by the world as it is: a table that the profile hides may be what finds an entity;
- `always` of a component sends that table's rows and their entities' own rows, and no other components of those;
- what `always` and `query` find, and what is related to that, is found once for all audiences with the same rules; each
  sees it beside what is found for it alone;
- a keyed table is seen as far as `always`, `related` and `query` find rows of it, else not at all;
- `near` with `every=n` looks anew in each n-th version, clients in turns; between two looks, who is alive stays. Not
  in each n-th tick: a world that is changed between ticks has versions of one tick. A change of `focus` is looked at in
  the next update, whosever turn it is.

Invariants:
- a delta goes to the version that its audience was last updated to, and from one that it was updated to before;
- all calls on one set come from one thread at a time; `update` and `deltas` release the GIL;
- a call that raises has changed nothing, but for `update`: clients before the one that failed are there already.
"""

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecsnet._kernel import abi
from ecsnet._kernel.records import Delta, HistoryGone
from ecsnet.errors import ArgumentError, InternalError, LimitExceededError, StorageError
from ecsnet.limits import INTEREST_RULES_MAX
from ecsnet.schema.rules import LEAVE_FACTOR, InterestKind, InterestRule

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore
    from ecsnet._kernel.pin import Pin
    from ecsnet.schema.model import Schema

__all__ = ["ALL", "AudienceStatistics", "Audiences", "Deltas", "HistoryGone", "Profile", "Rule"]

ALL: Final = 0xFFFF_FFFF
"""All rules there are."""

KEYS_MAX: Final = 4096
"""What one client may be focused on, or shown by hand; the kernel's `keys_max`."""

_KINDS: Final[tuple[InterestKind, ...]] = ("always", "owned", "near", "related", "query")


@dataclass(frozen=True, slots=True)
class Profile:
    """What a role may see: tables by id, and (table id, field id) of what is hidden in them.

    What is hidden is sent as zeros in rows that come, and never again.
    """

    tables: frozenset[int]
    hidden: frozenset[tuple[int, int]] = frozenset()

    @classmethod
    def of_role(cls, schema: "Schema", role: str) -> Self:
        """What a schema lets a role see."""
        seen = [table for table in schema.tables if table.visible_to is None or role in table.visible_to]
        hidden = {
            (table.id, field.id)
            for table in seen
            for field in table.fields
            if field.visible_to is not None and role not in field.visible_to
        }
        return cls(frozenset(table.id for table in seen), frozenset(hidden))


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of interest by ids: of `always` all of `tables`; of `near` and `query` their one table; of `related` the
    table that refers, with `fields` its one reference. `fields` of `near` are those of the place."""

    kind: InterestKind
    tables: tuple[int, ...] = ()
    fields: tuple[int, ...] = ()
    radius: float = 0.0
    leave_radius: float = 0.0
    every: int = 1
    referred: bool = False

    @classmethod
    def of(cls, schema: "Schema", rule: InterestRule) -> Self:
        """A rule of a schema that has been checked against it."""
        leave = rule.leave_radius or rule.radius * LEAVE_FACTOR
        if rule.kind == "always":
            return cls("always", tuple(schema.table(name).id for name in rule.tables))
        if rule.kind == "near":
            table = schema.table(rule.table)
            assert table.spatial is not None
            fields = tuple(table.field(name).id for name in table.spatial.fields)
            return cls("near", (table.id,), fields, rule.radius, leave, rule.every)
        if rule.kind == "query":
            return cls("query", (schema.table(rule.table).id,), every=rule.every)
        if rule.kind == "related":
            table, field = schema.field(rule.field)
            return cls("related", (table.id,), (field.id,), referred=rule.see == "referred")
        return cls("owned")


@dataclass(frozen=True, slots=True)
class Deltas:
    """Blocks of many audiences: that of the n-th is `buffer[offsets[n]:][:lengths[n]]`.

    `lengths` are 0 where nothing of what it sees has changed, -1 where its base is too old (cut from 0), -2 where the
    block is above `bytes_max`. Several may have the same bytes. `buffer` is memory of the kernel: valid until the next
    `delta` or `deltas` of the same audiences, read-only.
    """

    buffer: memoryview
    offsets: NDArray[np.uint64]
    lengths: NDArray[np.int64]

    def __getitem__(self, n: int) -> memoryview:
        start = int(self.offsets[n])
        return self.buffer[start : start + max(0, int(self.lengths[n]))]


@dataclass(frozen=True, slots=True)
class AudienceStatistics:
    """Of one audience: entities that it sees, comings and goings remembered and since which version, and rows that its
    budget leaves waiting."""

    entities: int
    entries: int
    floor: int
    version: int
    bytes: int
    waiting: int


class Audiences:
    """All audiences of one store. Close handles that nobody needs; the set goes with its last reference."""

    def __init__(self, kernel: "KernelStore", profiles: Sequence[Profile], rules: Sequence[Rule]) -> None:
        """Describe who may see what, and by which rules.

        Raises:
            LimitExceededError: above 32 rules. ArgumentError: a profile or rule names what the schema does not have, or
            a rule lacks what its kind needs.
        """
        if len(rules) > INTEREST_RULES_MAX:
            raise LimitExceededError("rules of interest", INTEREST_RULES_MAX, len(rules))
        if not profiles:
            raise ArgumentError("expected a profile at least: what anybody may see")
        self._kernel = kernel
        self._handle = kernel._handle
        self._library = kernel._library
        self._quick = kernel._fast
        self._pointer = ctypes.c_void_p()
        keep: list[Any] = []
        profiles_in = (abi.ProfileIn * len(profiles))(*(_profile(one, keep) for one in profiles))
        rules_in = (abi.RuleIn * max(1, len(rules)))(*(_rule(one, keep) for one in rules))
        tied = [(table.id, table.field(table.tied).id) for table in kernel.schema.tables if table.tied]
        ties = np.array(tied, np.uint16).reshape(-1)
        self._call(
            self._library.ecs_audiences_create(
                kernel._pointer,
                ctypes.addressof(profiles_in),
                len(profiles),
                ctypes.addressof(rules_in),
                len(rules),
                _address(ties),
                len(tied),
                self._pointer,
            ),
            "a profile or a rule of interest that the schema does not fit",
        )
        self._open: set[int] = set()

    def __del__(self) -> None:
        # Absent where the constructor failed.
        if getattr(self, "_pointer", None):
            self._library.ecs_audiences_destroy(self._pointer)

    def open(self, profile: int, *, owner: int = 0, rules: int = ALL) -> int:
        """A new audience, which has seen nothing yet. Its first delta is from base 0.

        Args:
            profile: which of the profiles.
            owner: the client id whose entities rules of kind "owned" find; 0 owns nothing.
            rules: which of the rules, bit n the n-th. With none of them it is sent all that its profile allows.
        """
        if not (0 <= profile < 1 << 32 and 0 <= owner < 1 << 64 and 0 <= rules < 1 << 32):
            raise ArgumentError(f"expected a profile, a client id and a mask of rules: {profile}, {owner}, {rules}")
        handle = self._library.ecs_audience_open(self._pointer, self._kernel._pointer, profile, owner, rules)
        self._call(handle, f"profile {profile}")
        self._open.add(handle)
        return int(handle)

    def close(self, handle: int) -> None:
        """Forget an audience. Its handle may be given out again."""
        self._call(self._quick.ecs_audience_close(self._pointer, self._known(handle)), f"audience {handle}")
        self._open.discard(handle)

    def focus(self, handle: int, keys: ArrayLike) -> None:
        """What it looks at: rules of kind "near" find what is around these entities, from the next update on. What is
        not alive, or nowhere, is around nothing."""
        self._set(handle, 0, keys)

    def reveal(self, handle: int, keys: ArrayLike) -> None:
        """Entities that it sees whatever the rules find, while they are alive; in place of those before."""
        self._set(handle, 1, keys)

    def _set(self, handle: int, which: int, keys: ArrayLike) -> None:
        given = np.ascontiguousarray(keys, np.uint64)
        if given.size > KEYS_MAX:
            raise LimitExceededError("entities that one client is focused on or shown", KEYS_MAX, given.size)
        address = given.ctypes.data if given.size else 0
        self._call(
            self._quick.ecs_audience_set(self._pointer, self._known(handle), which, address, given.size),
            f"audience {handle}",
        )

    def found(self, rule: int, keys: ArrayLike) -> None:
        """What a rule of kind "query" finds, for everybody, in place of what it found before: keys of entities, or of
        its keyed table's rows. Those that are not there are passed over. Of a version that was updated to already,
        an audience that joins sees what those with the same rules see."""
        given = np.ascontiguousarray(keys, np.uint64)
        address = given.ctypes.data if given.size else 0
        self._call(
            self._quick.ecs_audiences_found(self._pointer, rule, address, given.size), f"rule {rule}, which is no query"
        )

    def update(self, pin: "Pin", handles: NDArray[np.uint32] | None = None) -> None:
        """Find what these (None: all) audiences see in a version, which is none before their last. The same version
        again changes nothing: a focus set since counts from the next version on.

        Raises:
            ArgumentError: one of them has seen a later version. StorageError: no memory.
        """
        if handles is None:
            handles = np.fromiter(self._open, np.uint32, len(self._open))
        else:
            handles = np.ascontiguousarray(handles, np.uint32)
        if not handles.size:
            return
        self._call(
            self._library.ecs_audiences_update(
                self._pointer, self._kernel._pointer, pin.slot, handles.ctypes.data, handles.size
            ),
            f"an audience that is not open, or has seen a version after {pin.version}",
        )

    def delta(
        self,
        pin: "Pin",
        handle: int,
        base: int,
        cursor: tuple[int, int] | None = None,
        budget: int = 0,
        reference: "Pin | None" = None,
        planes: bool = False,
    ) -> Delta:
        """Cut what an audience sees of `(base, pin.version]`, as `KernelStore.delta` does for everything.

        A chunked sync goes on with the cursor from a later version, once the audience was updated to that.

        Raises:
            HistoryGone: what changed, or came and went, since `base` is not known any more; cut from 0.
            ArgumentError: the audience was not updated to this version.
        """
        relative_to = -1 if reference is None else reference.slot
        where = abi.Cursor(*(cursor or (0, 0)), 0, 0)
        address, length = ctypes.c_uint64(), ctypes.c_uint64()
        status = self._library.ecs_audience_delta(
            self._pointer,
            self._kernel._pointer,
            pin.slot,
            self._known(handle),
            base,
            where,
            budget,
            relative_to,
            planes,
            address,
            length,
        )
        if status == abi.STATUS["HistoryGone"]:
            raise HistoryGone(base)
        self._call(status, f"audience {handle} at version {pin.version} from base {base}")
        block = ctypes.string_at(address.value, length.value)
        return Delta(block, None if where.done else (where.table, where.index), where.rows)

    def deltas(
        self,
        pin: "Pin",
        handles: NDArray[np.uint32],
        bases: NDArray[np.uint64],
        references: "Mapping[int, Pin] | None" = None,
        *,
        bytes_max: int = 1 << 62,
        planes: bool = False,
    ) -> Deltas:
        """Cut for many audiences at once, each from its own base; see `Deltas`.

        Args:
            references: by base the version that all who have that base hold, just that one, when the block comes.
            planes: they will be compressed, as `KernelStore.delta` has it.
            bytes_max: a longer block is told by its length -2 and not handed out.

        Raises:
            ArgumentError: one of them is not open or was not updated to this version, or a base is after it.
        """
        handles = np.ascontiguousarray(handles, np.uint32)
        bases = np.ascontiguousarray(bases, np.uint64)
        if handles.shape != bases.shape or handles.ndim != 1:
            raise ArgumentError(f"expected a base for each audience, found {bases.shape} for {handles.shape}")
        n = handles.size
        slots = np.full(n, -1, np.int32)
        for base, reference in (references or {}).items():
            slots[bases == base] = reference.slot
        offsets, lengths = np.zeros(n, np.uint64), np.zeros(n, np.int64)
        address, total = ctypes.c_uint64(), ctypes.c_uint64()
        if n:
            self._call(
                self._library.ecs_audiences_deltas(
                    self._pointer,
                    self._kernel._pointer,
                    pin.slot,
                    n,
                    handles.ctypes.data,
                    bases.ctypes.data,
                    slots.ctypes.data,
                    planes,
                    bytes_max,
                    offsets.ctypes.data,
                    lengths.ctypes.data,
                    address,
                    total,
                ),
                f"an audience that was not updated to version {pin.version}, or a base after it",
            )
        memory = (ctypes.c_char * total.value).from_address(address.value) if total.value else b""
        return Deltas(memoryview(memory).cast("B").toreadonly(), offsets, lengths)

    def settle(self, handle: int, version: int) -> None:
        """No delta from a base below `version` will be asked for: on a stream the version that was handed over, on
        datagrams the one that was acked. What came and went up to it is forgotten."""
        self._call(self._quick.ecs_audience_settle(self._pointer, self._known(handle), version), f"audience {handle}")

    def budget(self, handle: int, bytes_max: int, staleness_versions: int) -> None:
        """Bound what a delta of this audience takes, about; from the next on.

        What came, went and was removed always goes, however much it is. Of rows that changed those that matter most and
        have waited longest go; the others wait (`pending`), each whole or not at all, with its entity's other rows and
        what is tied to it (`with`). Syncs from base 0 and chunks are not bounded.

        Args:
            bytes_max: 0 for no bound: what waits goes with the next delta.
            staleness_versions: after so many versions a row goes whatever it costs; 1 or more.
        """
        if not (0 <= bytes_max < 1 << 32 and 1 <= staleness_versions < 1 << 64):
            raise ArgumentError(f"expected bytes and versions, 1 or more: found {bytes_max} and {staleness_versions}")
        self._call(
            self._quick.ecs_audience_budget(self._pointer, self._known(handle), bytes_max, staleness_versions),
            f"audience {handle}",
        )

    def pending(self, handle: int) -> int:
        """How many rows the newest delta left waiting: 0 when a client that has it holds all that it sees. They go with
        later deltas, so only while versions are made."""
        return self.statistics(handle).waiting

    def digest(self, pin: "Pin", handle: int) -> bytes:
        """16 bytes that equal `Pin.digest` of a replica that holds what this audience sees. Scans what it sees.

        Raises:
            ArgumentError: the audience was not updated to this version.
        """
        out = (ctypes.c_uint64 * 2)()
        self._call(
            self._library.ecs_audience_digest(
                self._pointer, self._kernel._pointer, pin.slot, self._known(handle), ctypes.addressof(out)
            ),
            f"audience {handle}, which was not updated to version {pin.version}",
        )
        return bytes(out)

    def visible(self, pin: "Pin", handle: int, table_id: int) -> NDArray[np.uint64]:
        """The keys of a table's rows that an audience sees, ascending by index; of a table that is seen wholly as it
        has them. The audience must have been updated to this version."""
        keys = np.empty(pin.rows(table_id), np.uint64)
        n = self._library.ecs_audience_visible(
            self._pointer,
            self._kernel._pointer,
            pin.slot,
            self._known(handle),
            table_id,
            keys.ctypes.data if keys.size else 0,
            keys.size,
        )
        self._call(n, f"audience {handle}, which was not updated to version {pin.version}, or table {table_id}")
        return keys[:n]

    def statistics(self, handle: int) -> AudienceStatistics:
        """Of one audience, as of its last update."""
        out = abi.AudienceOut()
        self._call(self._quick.ecs_audience_statistics(self._pointer, self._known(handle), out), f"audience {handle}")
        return AudienceStatistics(out.entities, out.entries, out.floor, out.version, out.bytes, out.waiting)

    def _known(self, handle: int) -> int:
        if handle not in self._open:
            raise ArgumentError(f"audience {handle} is not open")
        return handle

    def _call(self, status: int, what: str) -> None:
        if status >= 0:
            return
        name = next((name for name, number in abi.STATUS.items() if number == status), str(status))
        if name == "OutOfMemory":
            raise StorageError("out of memory while finding what clients see")
        if name in ("BadArgument", "UnknownTable", "UnknownField"):
            raise ArgumentError(f"the kernel refused {what} ({name})")
        raise InternalError(f"the kernel refused {what} ({name})")


def _profile(profile: Profile, keep: list[Any]) -> abi.ProfileIn:
    tables = np.array(sorted(profile.tables), np.uint16)
    hidden = np.array(sorted(profile.hidden), np.uint16).reshape(-1)
    keep += (tables, hidden)
    return abi.ProfileIn(_address(tables), _address(hidden), len(tables), len(profile.hidden))


def _rule(rule: Rule, keep: list[Any]) -> abi.RuleIn:
    if not (len(rule.fields) <= 3 and 1 <= rule.every < 1 << 32):
        raise ArgumentError(f"expected at most three fields and a number of versions from 1 on, found {rule}")
    tables = np.array(rule.tables, np.uint16)
    keep.append(tables)
    fields = (ctypes.c_uint16 * 3)(*rule.fields)
    return abi.RuleIn(
        rule.radius,
        rule.leave_radius,
        _address(tables),
        len(tables),
        rule.every,
        len(rule.fields),
        fields,
        _KINDS.index(rule.kind),
        rule.referred,
    )


def _address(array: NDArray[Any]) -> int:
    return array.ctypes.data if array.size else 0
