"""Which view of the world each session is sent, and what all of them need to be told in a tick.

    a world without rules      all sessions whose role may see the same share one audience: its deltas are cut once
    one with rules             each session has an audience of its own: what the rules for its role find for it
    a session with a budget    has one of its own, too: what waits for it waits for nobody else

An audience belongs to the session and not to its link: one that is away keeps it, so that coming back costs what was
missed. A role for which a world with rules has none is sent nothing.

What the audiences see is found anew once for each version, before the first delta of it is cut. With many of them the
driver has that done on another thread, with the deltas of the next fan-out (`work`); meanwhile the event loop goes on.

Invariants:
- the kernel's part is used under `_lock`, by one thread at a time, and sees one version from finding to cutting;
- what is handed out for a version leads to it, and a digest is of what the session has once nothing is pending.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecsnet._kernel.audiences import Audiences as KernelAudiences
from ecsnet._kernel.audiences import Deltas
from ecsnet._kernel.kernel import Delta, Pin
from ecsnet.authority.blocks import Blocks, WholeStore
from ecsnet.authority.head import Head
from ecsnet.authority.profiles import Profiles
from ecsnet.ids import EMPTY_VERSION, NULL_ENTITY, Version
from ecsnet.limits import AUDIENCES_OFF_LOOP_MIN
from ecsnet.schema import Table
from ecsnet.sight import Sight
from ecsnet.store import Store
from ecsnet.world import Client, World

__all__ = ["Audience", "Audiences"]

_NOT_TOLD: Final = Sight()


class Audience:
    """One view of the world. Its attributes are for reading."""

    __slots__ = ("blocks", "born", "client", "entity", "group", "handle", "has_budget", "here", "made", "own", "sight")

    def __init__(
        self, blocks: Blocks, handle: int | None, born: Version, client: Client | None, group: int = 0
    ) -> None:
        self.blocks = blocks
        self.group = group
        """Of one that several share: no other has this number."""
        self.handle = handle
        """In the kernel; None for what the store cuts without it."""
        self.born = born
        """The version that it began with: what its session saw in an older one is not known."""
        self.made = blocks.version
        """The version in which it was made: what waits of that one, and of older ones, it does not know."""
        self.client = client
        """Whose it is; None where several share it."""
        self.own = client is not None
        self.here = True
        """Its session has a link: what it sees is kept up to date."""
        self.has_budget = False
        self.sight = _NOT_TOLD
        self.entity = NULL_ENTITY


class _View:
    """Cuts what one audience may see."""

    __slots__ = ("_audiences", "_handle", "relative")

    def __init__(self, audiences: "Audiences", handle: int) -> None:
        self._audiences = audiences
        self._handle = handle
        self.relative = True

    def delta(self, pin: Pin, base: int, cursor: Any, budget_bytes: int, reference: Pin | None, planes: bool) -> Delta:
        with self._audiences.looking() as kernel:
            self._audiences.forget_ready()
            return kernel.delta(pin, self._handle, base, cursor, budget_bytes, reference, planes)

    def digest(self, pin: Pin) -> bytes:
        with self._audiences.looking() as kernel:
            return kernel.digest(pin, self._handle)

    def waiting(self) -> int:
        return self._audiences.waiting(self._handle)


class Audiences:
    """The audiences of one store."""

    def __init__(self, store: Store, head: Head, world: World) -> None:
        self._store = store
        self._head = head
        self._world = world
        self.profiles = Profiles(world.schema, world.interest)
        """What each role may see."""
        self._lock = threading.Lock()
        self._kernel: KernelAudiences | None = None
        self._everybody = Audience(Blocks(head, WholeStore(store.kernel)), None, EMPTY_VERSION, None)
        self._shared: dict[int, Audience] = {}
        """By profile."""
        self._own: dict[int, Audience] = {}
        """By handle."""
        self._looked = 0
        """The head's number when all were brought up to date."""
        self.wants_version = False
        """What is to be told goes with a version, though nothing may change: rows that a budget left out of a delta, or
        what the game said of somebody's sight. Who makes a version for its sake takes it back."""
        self._turns: dict[int, int] = {}
        """By rule with a query, when it was asked last: the head's number through `every`."""
        self._ready: tuple[int, dict[int, int], NDArray[np.uint64], Deltas] | None = None
        """Deltas that were cut ahead: of which head, the place of each handle, and from which bases."""
        empty = store.kernel.delta(head.pin, head.pin.version)
        self.nothing = empty.block
        """A block of no rows."""

    # --- who has which ------------------------------------------------------------------------------------------------

    @property
    def everybody(self) -> Audience:
        """That of the whole store."""
        return self._everybody

    @property
    def own(self) -> int:
        """Sessions with an audience of their own."""
        return len(self._own)

    @property
    def newest(self) -> bytes | None:
        """The block of the newest delta that was cut for everybody, or else for a profile; None before the first."""
        shared = (self._everybody, *self._shared.values())
        return next((block for audience in shared if (block := audience.blocks.newest) is not None), None)

    def of(self, client: Client) -> Audience:
        """An audience for a session that has just joined, or that the store has from before."""
        role = self.profiles.of(client.role)
        governed = bool(role.rules)
        if not governed and client._sight.budget_bytes_s is None:
            return self._share(role.profile)
        with self._lock:
            kernel = self._open_kernel()
            handle = kernel.open(role.profile, owner=client.client_id, rules=role.rules)
        self._looked = 0
        # Without rules nothing comes or goes that is not in the changes of the store.
        born = self._head.version if governed else EMPTY_VERSION
        audience = Audience(Blocks(self._head, _View(self, handle)), handle, born, client)
        self._own[handle] = audience
        return audience

    def shared_by(self, group: int) -> Audience:
        """The audience that the sessions of a group share."""
        return self._shared[group - 1] if group else self._everybody

    def close(self, audience: Audience) -> None:
        """Its session is no more."""
        if audience.own:
            assert audience.handle is not None and self._kernel is not None
            del self._own[audience.handle]
            with self._lock:
                self._kernel.close(audience.handle)

    def _share(self, profile: int) -> Audience:
        if self.profiles.sees_all(profile):
            return self._everybody
        audience = self._shared.get(profile)
        if audience is None:
            with self._lock:
                handle = self._open_kernel().open(profile, rules=0)
            blocks = Blocks(self._head, _View(self, handle))
            audience = self._shared[profile] = Audience(blocks, handle, EMPTY_VERSION, None, profile + 1)
            self._looked = 0
        return audience

    def _open_kernel(self) -> KernelAudiences:
        if self._kernel is None:
            self._kernel = KernelAudiences(self._store.kernel, self.profiles.profiles, self.profiles.rules)
        return self._kernel

    # --- what they see ------------------------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Go on with the newest published version. True if it is another one than before."""
        head = self._head
        if not head.is_old:
            if head.is_in_the_way:
                with self._lock:
                    head.yield_pins()
            return False
        with self._lock:
            return head.refresh()

    @contextmanager
    def looking(self) -> Iterator[KernelAudiences]:
        """The kernel's audiences at the head's version, for this thread alone."""
        with self._lock:
            self._look()
            assert self._kernel is not None
            yield self._kernel

    def _look(self) -> None:
        """Bring all up to date, where that has not been done for this version."""
        number = self._head.number
        kernel = self._kernel
        if self._looked == number or kernel is None:
            return
        self._ask(kernel)
        # Said before it is done: a session that returns meanwhile takes it back, and is looked for in the next look.
        self._looked = number
        try:
            handles = [audience.handle for audience in self._shared.values()]
            for handle, audience in self._own.items():
                if audience.here:
                    self._aim(kernel, handle, audience)
                    handles.append(handle)
            kernel.update(self._head.pin, np.array(handles, np.uint32))
        except BaseException:
            self._looked = 0
            raise

    def _ask(self, kernel: KernelAudiences) -> None:
        """Ask the queries of rules whose turn it is."""
        # In versions, of which a tick makes one: a world may also be changed between its ticks, and by nothing else.
        turn = self._head.number
        due = [
            (number, query)
            for number, query, every in self.profiles.queries
            if self._turns.get(number) != turn // every
        ]
        if not due:
            return
        # What is cut, not the newest: somebody may have committed since the head was taken.
        with self._store.view_of(self._head.pin) as view:
            for number, query in due:
                kernel.found(number, np.ascontiguousarray(query.query(view).key, np.uint64))
        for number, _, every in self.profiles.queries:
            self._turns[number] = turn // every

    def _aim(self, kernel: KernelAudiences, handle: int, audience: Audience) -> None:
        """Tell what the game has said since the last time."""
        client = audience.client
        assert client is not None
        sight, entity = client._sight, client._entity
        if sight is audience.sight and entity == audience.entity:
            return
        before = audience.sight
        focus = sight.focus or ((entity,) if entity else ())
        kernel.focus(handle, np.array(focus, np.uint64))
        if sight.revealed != before.revealed:
            kernel.reveal(handle, np.array(sight.revealed, np.uint64))
        if sight.budget_bytes_s != before.budget_bytes_s:
            world = self._world
            bytes_max = 0 if sight.budget_bytes_s is None else max(1, sight.budget_bytes_s // world.hz)
            kernel.budget(handle, bytes_max, max(1, round(world.staleness_max_s * world.hz)))
            # What waits still, when there is no budget any more, goes with the next delta.
            audience.has_budget = True
        audience.sight, audience.entity = sight, entity

    def keys_seen(self, audience: Audience, table: Table) -> NDArray[np.uint64]:
        """The keys of a table's rows that it sees."""
        if audience.handle is None:
            return self._head.pin.keys(table.id) if table.replicated else np.zeros(0, np.uint64)
        with self.looking() as kernel:
            return kernel.visible(self._head.pin, audience.handle, table.id)

    def waiting(self, handle: int) -> int:
        """How many rows a budget left out of the newest delta of an audience."""
        audience = self._own.get(handle)
        if audience is None or not audience.has_budget:
            return 0
        with self._lock:
            assert self._kernel is not None
            rows = self._kernel.pending(handle)
        self.wants_version = self.wants_version or rows > 0
        return rows

    def sight_changed(self) -> None:
        """The game said something of a client's sight, which is found out about in the next version."""
        self.wants_version = self.wants_version or bool(self._own)

    def lost(self, audience: Audience | None) -> None:
        """Its session has no link: nobody asks what it sees."""
        if audience is not None and audience.own:
            audience.here = False

    def returned(self, audience: Audience) -> None:
        """Its session has a link again: what it sees is to be found in this version, too."""
        if audience.own and not audience.here:
            audience.here = True
            self._looked = 0

    # --- what they are told -------------------------------------------------------------------------------------------

    def deltas(self, asked: Sequence[tuple[Audience, Version]]) -> Deltas:
        """The blocks of many audiences of their own, each from its base, in their order. Valid until the next call."""
        handles, bases = _arrays(asked)
        ready, self._ready = self._ready, None
        if ready is not None and ready[0] == self._head.number:
            _, places, cut_from, deltas = ready
            at = np.array([places.get(handle, -1) for handle in handles.tolist()], np.int64)
            if len(at) and at.min() >= 0 and np.array_equal(cut_from[at], bases):
                return Deltas(deltas.buffer, deltas.offsets[at], deltas.lengths[at])
        with self.looking() as kernel:
            return self._cut(kernel, handles, bases)

    def work(self, asked: Sequence[tuple[Audience, Version]]) -> Callable[[], None] | None:
        """To be called on another thread before the next fan-out: what these audiences see, and their deltas. None
        where it is not worth it. Nothing else has to wait for it, but what does is right."""
        if len(asked) < AUDIENCES_OFF_LOOP_MIN:
            return None
        handles, bases = _arrays(asked)
        number = self._head.number

        def run() -> None:
            places = {handle: place for place, handle in enumerate(handles.tolist())}
            with self.looking() as kernel:
                self._ready = (number, places, bases, self._cut(kernel, handles, bases))

        return run

    def forget_ready(self) -> None:
        """What was cut ahead lies where the next delta is cut. To be called while `looking`."""
        self._ready = None

    def _cut(self, kernel: KernelAudiences, handles: NDArray[np.uint32], bases: NDArray[np.uint64]) -> Deltas:
        """While `looking`: nobody lets go of a reference meanwhile."""
        return kernel.deltas(self._head.pin, handles, bases, self._head.references)


def _arrays(asked: Sequence[tuple[Audience, Version]]) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
    handles = [audience.handle for audience, _ in asked]
    return np.array(handles, np.uint32), np.array([base for _, base in asked], np.uint64)
